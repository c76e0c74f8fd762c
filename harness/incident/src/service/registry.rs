//! What a process counts, how a scraper stores it, and how stored series are written down.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::engine::Plan;

/// What kind of metric a family is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
    Info,
}

/// A metric family.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    /// Without the suffix of its samples: `http_requests`, `http_request_duration_seconds`.
    pub name: &'static str,
    pub kind: Kind,
    pub help: &'static str,
}

macro_rules! families {
    ($($variant:ident $name:literal $kind:ident $help:literal;)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Metric { $($variant),* }
        static FAMILIES: &[Family] = &[
            $(Family { name: $name, kind: Kind::$kind, help: $help }),*
        ];
    };
}

families! {
    BuildInfo "build" Info "The version that runs.";
    CacheEntries "cache_entries" Gauge "Entries that have not expired.";
    CacheHits "cache_hits" Counter "Lookups that found a value.";
    CacheMisses "cache_misses" Counter "Lookups that found none.";
    PoolAcquire "db_pool_acquire_duration_seconds" Histogram "How long requests waited for a connection.";
    PoolTimeouts "db_pool_acquire_timeouts" Counter "Requests that gave up waiting for a connection.";
    PoolMax "db_pool_connections" Gauge "Connections that the pool may open.";
    PoolInUse "db_pool_connections_in_use" Gauge "Connections that are lent.";
    PoolWaiters "db_pool_waiters" Gauge "Requests that wait for a connection.";
    QuerySeconds "db_query_duration_seconds" Histogram "How long queries took, without the wait for a connection.";
    QueryErrors "db_query_errors" Counter "Queries that failed or were canceled.";
    ClientSeconds "http_client_request_duration_seconds" Histogram "How long attempts to call another service took.";
    ClientInFlight "http_client_requests_in_flight" Gauge "Calls that have no answer yet.";
    ClientRequests "http_client_requests" Counter "Attempts to call another service, by how they ended.";
    ClientRetries "http_client_retries" Counter "Attempts beyond the first.";
    HttpSeconds "http_request_duration_seconds" Histogram "From the arrival of a request to its answer.";
    HttpInFlight "http_requests_in_flight" Gauge "Requests that have no answer yet.";
    HttpRejected "http_requests_rejected" Counter "Requests that were turned away.";
    HttpRequests "http_requests" Counter "Answered requests.";
    LogBuffer "log_buffer_lines" Gauge "Log lines that wait to be shipped.";
    LogDropped "log_lines_dropped" Counter "Log lines that found the buffer full.";
    LogLines "log_lines" Counter "Log lines that were written.";
    LogShipped "log_lines_shipped" Counter "Log lines that the log store accepted.";
    LockContentions "mutex_contentions" Counter "Acquisitions that had to wait.";
    LockWait "mutex_wait_duration_seconds" Histogram "How long acquisitions waited.";
    LockWaiters "mutex_waiters" Gauge "Tasks that wait for the lock.";
    PgMaxConnections "pg_settings_max_connections" Gauge "Connections that the database accepts.";
    PgActivity "pg_stat_activity_count" Gauge "Connections of the database by what they do.";
    Allocated "process_allocated_bytes" Counter "Bytes that were allocated, freed or not.";
    CpuSeconds "process_cpu_seconds" Counter "Processor time used, user and system.";
    MaxFds "process_max_fds" Gauge "File descriptors that the process may open.";
    OpenFds "process_open_fds" Gauge "Open file descriptors.";
    Resident "process_resident_memory_bytes" Gauge "Resident memory.";
    StartTime "process_start_time_seconds" Gauge "Start of the process, in Unix time.";
    TenantRequests "tenant_requests" Counter "Answered requests by tenant.";
    AliveTasks "tokio_alive_tasks" Gauge "Tasks that have not ended.";
    GlobalQueue "tokio_global_queue_depth" Gauge "Tasks that are ready to run and wait for a worker thread.";
    WorkerThreads "tokio_workers" Gauge "Worker threads of the runtime.";
    Up "up" Gauge "Whether the last scrape succeeded.";
    StageDepth "worker_queue_depth" Gauge "Tasks that wait for a worker.";
    StageLimit "worker_queue_limit" Gauge "Tasks that may wait for a worker.";
    StageWait "worker_queue_wait_seconds" Histogram "How long tasks waited for a worker.";
    StageRun "worker_task_duration_seconds" Histogram "How long tasks held their worker.";
    StageActive "workers_active" Gauge "Workers that hold a task.";
    StageMax "workers_max" Gauge "Workers that there are.";
}

impl Metric {
    pub(crate) fn family(self) -> &'static Family {
        &FAMILIES[self as usize]
    }
}

pub(super) fn kind_of(family: &str) -> Option<Kind> {
    let mut families = FAMILIES.iter();
    families.find(|of| of.name == family).map(|of| of.kind)
}

/// Labels by name; `job` and `instance` among them.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Labels(Vec<(&'static str, String)>);

impl Labels {
    /// The value of a label.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find(|&(label, _)| label == name)
            .map(|(_, value)| value)
    }

    pub(crate) fn of<'a>(labels: impl IntoIterator<Item = (&'static str, &'a str)>) -> Self {
        let mut labels: Vec<(&'static str, String)> = labels
            .into_iter()
            .map(|(name, value)| (name, value.to_owned()))
            .collect();
        labels.sort_by_key(|&(name, _)| name);
        Labels(labels)
    }

    /// In the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (*name, value.as_str()))
    }
}

/// A stored time series.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    family: &'static Family,
    name: String,
    labels: Labels,
    samples: Vec<(i64, f64)>,
}

impl Series {
    /// The name of its samples: `http_requests_total`, `http_request_duration_seconds_bucket`.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn family(&self) -> &'static Family {
        self.family
    }

    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Labels with `__name__`, for a storage that takes pairs.
    pub fn label_pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        std::iter::once(("__name__", self.name.as_str())).chain(self.labels.iter())
    }

    /// The samples of a family whose name ends in `suffix`, in the order of time.
    pub(crate) fn of(
        family: &'static Family,
        suffix: &str,
        labels: Labels,
        samples: Vec<(i64, f64)>,
    ) -> Self {
        Series {
            family,
            name: format!("{}{suffix}", family.name),
            labels,
            samples,
        }
    }

    /// The same counter of a process that began to count `seconds` earlier, at the pace that it has
    /// until `until_ms`. Restarted it begins at zero, as any does.
    pub(crate) fn counting_since(mut self, seconds: f64, until_ms: i64) -> Self {
        let paced = self.samples.partition_point(|&(at, _)| at <= until_ms);
        let (Some(&(from, first)), Some(&(to, last))) =
            (self.samples.first(), self.samples[..paced].last())
        else {
            return self;
        };
        if to <= from || last < first {
            return self;
        }
        #[expect(clippy::cast_precision_loss, reason = "minutes in milliseconds")]
        let pace = (last - first) / ((to - from) as f64 / 1e3);
        let whole = self
            .samples
            .iter()
            .all(|&(_, value)| value == libm::round(value));
        let before = pace * seconds;
        let before = if whole { libm::round(before) } else { before };
        let mut previous = first;
        for (_, value) in &mut self.samples {
            if *value < previous {
                break;
            }
            previous = *value;
            *value += before;
        }
        self
    }

    /// The same samples under another family's name, with the labels of the target and `kept`.
    pub(crate) fn exposed_as(&self, family: &'static Family, kept: &[&str]) -> Self {
        let suffix = self.name.strip_prefix(self.family.name).unwrap_or_default();
        let is_kept = |name: &str| matches!(name, "job" | "instance") || kept.contains(&name);
        let labels = self.labels.0.iter();
        Series {
            family,
            name: format!("{}{suffix}", family.name),
            labels: Labels(labels.filter(|(name, _)| is_kept(name)).cloned().collect()),
            samples: self.samples.clone(),
        }
    }

    /// Milliseconds of Unix time, ascending, and values. A scrape that failed left none.
    pub fn samples(&self) -> &[(i64, f64)] {
        &self.samples
    }
}

/// Which sample of a family: its metric, up to two label values by index, and the part of a
/// histogram.
type Key = (Metric, u16, u16, u16);

const SUM: u16 = u16::MAX - 1;
const COUNT: u16 = u16::MAX;

struct Column {
    key: Key,
    labels: Vec<(&'static str, String)>,
    values: Vec<f64>,
}

/// The series of one instance, as its scraper stores them.
pub(crate) struct Recorder {
    job: String,
    instance: String,
    times: Vec<i64>,
    up: Vec<(i64, f64)>,
    columns: Vec<Column>,
    by_key: BTreeMap<Key, usize>,
    /// The next column that is probably written: scrapes write them in the same order.
    cursor: usize,
}

impl Recorder {
    pub(crate) fn new(job: &str, instance: String) -> Self {
        Recorder {
            job: job.into(),
            instance,
            times: Vec::new(),
            up: Vec::new(),
            columns: Vec::new(),
            by_key: BTreeMap::new(),
            cursor: 0,
        }
    }

    pub(super) fn instance(&self) -> &str {
        &self.instance
    }

    pub(crate) fn failed(&mut self, at_ms: i64) {
        self.up.push((at_ms, 0.0));
    }

    pub(crate) fn begin(&mut self, at_ms: i64) {
        self.up.push((at_ms, 1.0));
        self.times.push(at_ms);
        self.cursor = 0;
    }

    pub(crate) fn put(
        &mut self,
        key: Key,
        value: f64,
        labels: impl FnOnce() -> Vec<(&'static str, String)>,
    ) {
        let index = match self.columns.get(self.cursor) {
            Some(column) if column.key == key => self.cursor,
            _ => match self.by_key.get(&key) {
                Some(&index) => index,
                None => {
                    self.columns.push(Column {
                        key,
                        labels: labels(),
                        values: Vec::new(),
                    });
                    let index = self.columns.len() - 1;
                    self.by_key.insert(key, index);
                    index
                }
            },
        };
        self.cursor = index + 1;
        let values = &mut self.columns[index].values;
        // No metric here takes this value, so it marks where a series was absent.
        values.resize(self.times.len() - 1, f64::NAN);
        values.push(value);
    }

    pub(crate) fn histogram(
        &mut self,
        metric: Metric,
        index: usize,
        histogram: &Histogram,
        bounds: &[f64],
        labels: impl Fn() -> Vec<(&'static str, String)>,
    ) {
        let a = small(index);
        let mut cumulative = 0;
        for (nth, count) in histogram.counts.iter().enumerate() {
            cumulative += count;
            self.put((metric, a, 0, small(nth)), real(cumulative), || {
                let mut labels = labels();
                let le = bounds
                    .get(nth)
                    .map_or_else(|| "+Inf".to_owned(), |bound| format!("{bound:?}"));
                labels.push(("le", le));
                labels
            });
        }
        self.put((metric, a, 0, SUM), seconds(histogram.sum_micros), &labels);
        self.put((metric, a, 0, COUNT), real(cumulative), &labels);
    }

    pub(crate) fn into_series(self, into: &mut Vec<Series>) {
        let with_target = |mut labels: Vec<(&'static str, String)>| {
            labels.push(("job", self.job.clone()));
            labels.push(("instance", self.instance.clone()));
            labels.sort_by_key(|&(name, _)| name);
            Labels(labels)
        };
        into.push(Series {
            family: Metric::Up.family(),
            name: "up".into(),
            labels: with_target(Vec::new()),
            samples: self.up,
        });
        for column in self.columns {
            let (metric, _, _, part) = column.key;
            let family = metric.family();
            let suffix = match family.kind {
                Kind::Counter => "_total",
                Kind::Gauge => "",
                Kind::Info => "_info",
                Kind::Histogram => match part {
                    SUM => "_sum",
                    COUNT => "_count",
                    _ => "_bucket",
                },
            };
            into.push(Series {
                family,
                name: format!("{}{suffix}", family.name),
                labels: with_target(column.labels),
                samples: self
                    .times
                    .iter()
                    .copied()
                    .zip(column.values)
                    .filter(|(_, value)| !value.is_nan())
                    .collect(),
            });
        }
    }
}

/// Puts series in the order in which [`super::Run::series`] promises them: a histogram's buckets
/// by their bounds.
pub(crate) fn sort(series: &mut [Series]) {
    let le = |series: &Series| -> f64 {
        series
            .labels
            .get("le")
            .map_or(f64::NEG_INFINITY, |le| le.parse().unwrap_or(f64::INFINITY))
    };
    let without_le = |series: &Series| -> Vec<(&'static str, String)> {
        let labels = series.labels.0.iter();
        labels.filter(|&&(name, _)| name != "le").cloned().collect()
    };
    series.sort_by_cached_key(|series| {
        let bound = le(series);
        (
            series.family.name,
            series.name.clone(),
            without_le(series),
            // A total order on the bounds, which are positive.
            if bound < 0.0 { 0 } else { bound.to_bits() },
        )
    });
}

pub(crate) fn openmetrics<'a>(series: impl Iterator<Item = &'a Series>) -> String {
    let mut text = String::new();
    let mut family: Option<&'static str> = None;
    let mut head = String::new();
    for series in series {
        if family != Some(series.family.name) {
            family = Some(series.family.name);
            let kind = match series.family.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
                Kind::Info => "info",
            };
            let _ = writeln!(
                text,
                "# TYPE {0} {kind}\n# HELP {0} {1}",
                series.family.name, series.family.help
            );
        }
        head.clear();
        head.push_str(&series.name);
        for (nth, (name, value)) in series.labels.iter().enumerate() {
            let open = if nth == 0 { '{' } else { ',' };
            let value = value
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            let _ = write!(head, "{open}{name}=\"{value}\"");
        }
        head.push('}');
        for &(ms, value) in &series.samples {
            let _ = writeln!(
                text,
                "{head} {value} {}.{:03}",
                ms.div_euclid(1_000),
                ms.rem_euclid(1_000)
            );
        }
    }
    text.push_str("# EOF\n");
    text
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Histogram {
    /// Not cumulative; the last is for what is above every bound.
    pub(crate) counts: Vec<u64>,
    pub(crate) sum_micros: u64,
}

impl Histogram {
    pub(crate) fn with(bounds: &[f64]) -> Self {
        Histogram {
            counts: vec![0; bounds.len() + 1],
            sum_micros: 0,
        }
    }

    pub(super) fn observe(&mut self, micros: u64, bounds: &[u64]) {
        let bucket = bounds
            .iter()
            .position(|&bound| micros <= bound)
            .unwrap_or(bounds.len());
        self.counts[bucket] += 1;
        self.sum_micros += micros;
    }

    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

#[derive(Clone, Debug)]
pub(super) struct OfRoute {
    pub(super) by_status: Vec<(u16, u64)>,
    pub(super) seconds: Histogram,
}

#[derive(Clone, Debug)]
pub(super) struct OfPool {
    pub(super) acquire: Histogram,
    pub(super) timeouts: u64,
}

#[derive(Clone, Debug)]
pub(super) struct OfQuery {
    pub(super) seconds: Histogram,
    pub(super) errors: u64,
}

#[derive(Clone, Debug)]
pub(super) struct OfLock {
    pub(super) wait: Histogram,
    pub(super) contentions: u64,
}

#[derive(Clone, Debug)]
pub(super) struct OfStage {
    pub(super) wait: Histogram,
    pub(super) run: Histogram,
}

#[derive(Clone, Debug)]
pub(super) struct OfClient {
    pub(super) seconds: Histogram,
    /// By [`OUTCOMES`].
    pub(super) by_outcome: [u64; 3],
    pub(super) retries: u64,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OfCache {
    pub(super) hits: u64,
    pub(super) misses: u64,
}

/// How an attempt to call another service ended.
pub(super) const OUTCOMES: [&str; 3] = ["ok", "error", "timeout"];
/// Why a request was turned away.
pub(super) const REASONS: [&str; 2] = ["queue_full", "pool_timeout"];
/// Levels of log lines.
pub(super) const LEVELS: [&str; 3] = ["info", "warn", "error"];

/// Everything that a process has counted since it started.
#[derive(Clone, Debug)]
pub(super) struct Registry {
    pub(super) routes: Vec<OfRoute>,
    pub(super) rejected: [u64; 2],
    pub(super) tenants: Vec<u64>,
    pub(super) pools: Vec<OfPool>,
    pub(super) queries: Vec<OfQuery>,
    pub(super) locks: Vec<OfLock>,
    pub(super) stages: Vec<OfStage>,
    pub(super) clients: Vec<OfClient>,
    pub(super) caches: Vec<OfCache>,
    pub(super) log_lines: [u64; 3],
    pub(super) log_shipped: u64,
    pub(super) log_dropped: u64,
    pub(super) allocated: u64,
    /// Microseconds on the cores that ended before the ones that are counted by the station.
    pub(super) cpu_micros_before: u64,
}

impl Registry {
    pub(super) fn new(plan: &Plan, bounds: &[f64]) -> Self {
        let histogram = || Histogram::with(bounds);
        Registry {
            routes: vec![
                OfRoute {
                    by_status: Vec::new(),
                    seconds: histogram(),
                };
                plan.routes.len()
            ],
            rejected: [0; 2],
            tenants: vec![0; plan.tenants.len()],
            pools: vec![
                OfPool {
                    acquire: histogram(),
                    timeouts: 0,
                };
                plan.pools.len()
            ],
            queries: vec![
                OfQuery {
                    seconds: histogram(),
                    errors: 0,
                };
                plan.queries.len()
            ],
            locks: vec![
                OfLock {
                    wait: histogram(),
                    contentions: 0,
                };
                plan.locks.len()
            ],
            stages: vec![
                OfStage {
                    wait: histogram(),
                    run: histogram(),
                };
                plan.tiers.len()
            ],
            clients: vec![
                OfClient {
                    seconds: histogram(),
                    by_outcome: [0; 3],
                    retries: 0,
                };
                plan.dependencies.len()
            ],
            caches: vec![OfCache::default(); plan.caches.len()],
            log_lines: [0; 3],
            log_shipped: 0,
            log_dropped: 0,
            allocated: 0,
            cpu_micros_before: 0,
        }
    }
}

pub(crate) fn small(index: usize) -> u16 {
    u16::try_from(index).expect("fewer than 65,000 of a kind")
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
pub(crate) fn real(count: u64) -> f64 {
    count as f64
}

pub(crate) fn seconds(micros: u64) -> f64 {
    real(micros) / 1e6
}

impl Registry {
    /// As if what was counted up to `first` had happened `often` times, and what came after that
    /// `seldom` times. Counts that are equal, or sums of others, stay so.
    pub(super) fn repeat(&mut self, first: &Registry, often: u64, seldom: u64) {
        let mut first = first.clone();
        for (of, earlier) in self.routes.iter_mut().zip(&mut first.routes) {
            earlier.by_status.resize(of.by_status.len(), (0, 0));
        }
        let earlier: Vec<u64> = first.counts().map(|count| *count).collect();
        for (count, earlier) in self.counts().zip(earlier) {
            *count = earlier * often + (*count - earlier) * seldom;
        }
    }

    /// Lines that were written have been shipped or dropped, or are in the buffer.
    pub(super) fn balance_log(&mut self, buffered: u64) {
        let written: u64 = self.log_lines.iter().sum();
        self.log_shipped = written - self.log_dropped - buffered;
    }

    /// Everything that only grows, in an order of its own.
    fn counts(&mut self) -> impl Iterator<Item = &mut u64> {
        fn of(histogram: &mut Histogram) -> impl Iterator<Item = &mut u64> {
            histogram
                .counts
                .iter_mut()
                .chain([&mut histogram.sum_micros])
        }
        let routes = self.routes.iter_mut().flat_map(|route| {
            let by_status = route.by_status.iter_mut().map(|(_, count)| count);
            by_status.chain(of(&mut route.seconds))
        });
        let pools = self.pools.iter_mut();
        let pools = pools.flat_map(|pool| of(&mut pool.acquire).chain([&mut pool.timeouts]));
        let queries = self.queries.iter_mut();
        let queries = queries.flat_map(|query| of(&mut query.seconds).chain([&mut query.errors]));
        let locks = self.locks.iter_mut();
        let locks = locks.flat_map(|lock| of(&mut lock.wait).chain([&mut lock.contentions]));
        let stages = self.stages.iter_mut();
        let stages = stages.flat_map(|stage| of(&mut stage.wait).chain(of(&mut stage.run)));
        let clients = self.clients.iter_mut().flat_map(|client| {
            of(&mut client.seconds)
                .chain(&mut client.by_outcome)
                .chain([&mut client.retries])
        });
        let caches = self.caches.iter_mut();
        let caches = caches.flat_map(|cache| [&mut cache.hits, &mut cache.misses]);
        let plain = [
            &mut self.log_shipped,
            &mut self.log_dropped,
            &mut self.allocated,
        ];
        routes
            .chain(pools)
            .chain(queries)
            .chain(locks)
            .chain(stages)
            .chain(clients)
            .chain(caches)
            .chain(&mut self.rejected)
            .chain(&mut self.tenants)
            .chain(&mut self.log_lines)
            .chain(plain)
    }
}
