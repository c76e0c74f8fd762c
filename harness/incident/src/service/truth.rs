//! What went wrong in a run, and what proves it.

use super::registry;
use super::{Fault, Kind, Run, Setup, Step};

/// Why a service falls ill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// Nothing is wrong.
    None,
    SlowQuery,
    ConnectionLeak,
    TaskLeak,
    MemoryLeak,
    BadDeploy,
    LockContention,
    Deadlock,
    CacheStampede,
    RetryStorm,
    NoisyTenant,
    SlowDependency,
    LogLoss,
    TrafficSurge,
}

/// A part of the service that may be at fault.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    Query {
        pool: String,
        query: String,
    },
    Pool(String),
    Tasks,
    Memory,
    Version(String),
    Lock(String),
    Locks(String, String),
    Cache(String),
    Dependency(String),
    Tenant(String),
    LogPipeline,
    Load,
    /// The path of the route that it calls.
    Job(String),
}

/// How a metric moves when a fault sets in: the rate of a counter, the mean of a histogram, the
/// value of a gauge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moves {
    Rises,
    Falls,
    /// A series ends and another one begins.
    Changes,
}

/// A metric that proves a cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The family, as in [`super::Family::name`].
    pub family: &'static str,
    /// Labels of the series that move, besides `job` and `instance`.
    pub labels: Vec<(&'static str, String)>,
    pub moves: Moves,
}

impl Evidence {
    /// The name under which one asks for it: `http_requests_total`, `build_info`,
    /// `http_request_duration_seconds` (of which the buckets, sum and count are samples).
    pub fn metric(&self) -> String {
        let suffix = match registry::kind_of(self.family) {
            Some(Kind::Counter) => "_total",
            Some(Kind::Info) => "_info",
            _ => "",
        };
        format!("{}{suffix}", self.family)
    }

    /// Whether this metric name, with or without the suffix of a sample, means this evidence.
    pub fn is_named(&self, metric: &str) -> bool {
        let metric = metric.trim();
        let of_histogram = ["_bucket", "_sum", "_count"]
            .iter()
            .any(|suffix| metric.strip_suffix(suffix) == Some(self.family));
        metric == self.family || metric == self.metric() || of_histogram
    }
}

/// Something that is there and looks as if it could have been the cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    pub component: Component,
    /// When it happened, in milliseconds of Unix time; `None` of what is always there.
    pub at_ms: Option<i64>,
}

/// What went wrong: the first scenario of the setup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truth {
    pub cause: Cause,
    /// When the defect sets in, in milliseconds of Unix time. A deadlock sets in when two requests
    /// wait for each other for the first time.
    pub starts_at_ms: Option<i64>,
    /// When the defect is taken away; `None` when it lasts to the end. What it has filled may take
    /// longer to empty.
    pub ends_at_ms: Option<i64>,
    pub affected: Option<Component>,
    /// Every instance of the service.
    pub instances: Vec<String>,
    pub evidence: Vec<Evidence>,
    /// Whether users see it at all, be it as slow answers or as errors, when it is severe enough.
    pub users_notice: bool,
    pub innocent: Vec<Suspect>,
    /// When each instance came to a deadlock, in the order of [`Truth::instances`].
    pub deadlocked_at_ms: Vec<Option<i64>>,
    /// When an instance was killed for want of memory.
    pub killed_at_ms: Vec<(i64, String)>,
    /// The causes of the further scenarios, with their starts.
    pub further: Vec<(Cause, i64)>,
}

/// What only the run knows.
pub(super) struct Observed {
    pub(super) instances: Vec<String>,
    pub(super) deadlocked_at_ms: Vec<Option<i64>>,
    pub(super) killed: Vec<(i64, usize)>,
}

impl Fault {
    /// The name of this fault.
    pub fn cause(&self) -> Cause {
        match self {
            Fault::SlowQuery { .. } => Cause::SlowQuery,
            Fault::ConnectionLeak { .. } => Cause::ConnectionLeak,
            Fault::TaskLeak { .. } => Cause::TaskLeak,
            Fault::MemoryLeak { .. } => Cause::MemoryLeak,
            Fault::BadDeploy { .. } => Cause::BadDeploy,
            Fault::LockContention { .. } => Cause::LockContention,
            Fault::Deadlock { .. } => Cause::Deadlock,
            Fault::CacheStampede { .. } => Cause::CacheStampede,
            Fault::RetryStorm { .. } => Cause::RetryStorm,
            Fault::NoisyTenant { .. } => Cause::NoisyTenant,
            Fault::SlowDependency { .. } => Cause::SlowDependency,
            Fault::LogLoss { .. } => Cause::LogLoss,
            Fault::TrafficSurge { .. } => Cause::TrafficSurge,
        }
    }
}

fn milliseconds(setup: &Setup, at: f64) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "seconds of a window")]
    let within = (at * 1_000.0) as i64;
    setup.begins * 1_000 + within
}

pub(super) fn of(setup: &Setup, observed: Observed) -> Truth {
    let mut truth = Truth {
        cause: Cause::None,
        starts_at_ms: None,
        ends_at_ms: None,
        affected: None,
        evidence: Vec::new(),
        users_notice: false,
        innocent: Vec::new(),
        deadlocked_at_ms: observed.deadlocked_at_ms,
        killed_at_ms: observed
            .killed
            .into_iter()
            .map(|(at, index)| (at, observed.instances[index].clone()))
            .collect(),
        further: setup
            .scenarios
            .iter()
            .skip(1)
            .map(|scenario| {
                let starts = milliseconds(setup, scenario.starts_at);
                (scenario.fault.cause(), starts)
            })
            .collect(),
        instances: observed.instances,
    };
    if let Some(scenario) = setup.scenarios.first() {
        let at = scenario.starts_at;
        truth.cause = scenario.fault.cause();
        truth.starts_at_ms = Some(milliseconds(setup, at));
        if truth.cause == Cause::Deadlock {
            let first = truth.deadlocked_at_ms.iter().flatten().min();
            truth.starts_at_ms = first.copied().or(truth.starts_at_ms);
        }
        truth.ends_at_ms = scenario.lasts.map(|lasts| milliseconds(setup, at + lasts));
        truth.affected = Some(affected(setup, &scenario.fault));
        truth.evidence = evidence(setup, &scenario.fault);
        truth.users_notice = match truth.cause {
            Cause::LogLoss => false,
            // Nobody sees memory that is used, unless the process dies of it.
            Cause::TaskLeak | Cause::MemoryLeak => !truth.killed_at_ms.is_empty(),
            _ => true,
        };
    }
    truth.innocent = innocent(setup, truth.affected.as_ref());
    truth
}

/// The pool over which a query goes.
fn pool_of(steps: &[Step], wanted: &str) -> Option<String> {
    steps.iter().find_map(|step| match step {
        Step::Query { pool, query, .. } => (query == wanted).then(|| pool.clone()),
        Step::Locked { steps, .. } | Step::Cached { on_miss: steps, .. } => pool_of(steps, wanted),
        _ => None,
    })
}

fn affected(setup: &Setup, fault: &Fault) -> Component {
    match fault {
        Fault::SlowQuery { query, .. } => {
            let routes = setup.service.routes.iter();
            let pool = routes
                .filter_map(|route| pool_of(&route.steps, query))
                .next()
                .unwrap_or_default();
            Component::Query {
                pool,
                query: query.clone(),
            }
        }
        Fault::ConnectionLeak { pool, .. } => Component::Pool(pool.clone()),
        Fault::TaskLeak { .. } => Component::Tasks,
        Fault::MemoryLeak { .. } => Component::Memory,
        Fault::BadDeploy { version, .. } => Component::Version(version.clone()),
        Fault::LockContention { lock, .. } => Component::Lock(lock.clone()),
        Fault::Deadlock { first, second } => Component::Locks(first.clone(), second.clone()),
        Fault::CacheStampede { cache, .. } => Component::Cache(cache.clone()),
        Fault::RetryStorm { dependency, .. } | Fault::SlowDependency { dependency, .. } => {
            Component::Dependency(dependency.clone())
        }
        Fault::NoisyTenant { tenant, .. } => Component::Tenant(tenant.clone()),
        Fault::LogLoss { .. } => Component::LogPipeline,
        Fault::TrafficSurge { .. } => Component::Load,
    }
}

fn evidence(setup: &Setup, fault: &Fault) -> Vec<Evidence> {
    let of = |family: &'static str, moves: Moves, labels: &[(&'static str, &str)]| Evidence {
        family,
        labels: labels
            .iter()
            .map(|&(name, value)| (name, value.to_owned()))
            .collect(),
        moves,
    };
    let rises = |family, labels: &[(&'static str, &str)]| of(family, Moves::Rises, labels);
    match fault {
        Fault::SlowQuery { query, .. } => {
            let mut evidence = vec![rises("db_query_duration_seconds", &[("query", query)])];
            if let Component::Query { pool, .. } = affected(setup, fault) {
                let pool = [("pool", pool.as_str())];
                evidence.push(rises("db_pool_connections_in_use", &pool));
                evidence.push(rises("db_pool_acquire_duration_seconds", &pool));
            }
            evidence
        }
        Fault::ConnectionLeak { pool, .. } => vec![
            rises("db_pool_connections_in_use", &[("pool", pool)]),
            rises("db_pool_acquire_timeouts", &[("pool", pool)]),
            rises(
                "pg_stat_activity_count",
                &[("state", "idle in transaction")],
            ),
        ],
        Fault::TaskLeak { descriptors, .. } => {
            let mut evidence = vec![
                rises("tokio_alive_tasks", &[]),
                rises("process_resident_memory_bytes", &[]),
            ];
            if *descriptors {
                evidence.push(rises("process_open_fds", &[]));
            }
            evidence
        }
        Fault::MemoryLeak { .. } => vec![rises("process_resident_memory_bytes", &[])],
        Fault::BadDeploy {
            compute_factor,
            allocation_factor,
            error_share,
            version,
            ..
        } => {
            let mut evidence = vec![of("build", Moves::Changes, &[("version", version)])];
            if *compute_factor > 1.2 {
                evidence.push(rises("process_cpu_seconds", &[]));
                evidence.push(rises("http_request_duration_seconds", &[]));
            }
            if *allocation_factor > 1.2 {
                evidence.push(rises("process_allocated_bytes", &[]));
            }
            if *error_share > 0.005 {
                evidence.push(rises("http_requests", &[("status", "500")]));
            }
            evidence
        }
        Fault::LockContention { lock, .. } => vec![
            rises("mutex_wait_duration_seconds", &[("lock", lock)]),
            rises("mutex_waiters", &[("lock", lock)]),
            rises("http_request_duration_seconds", &[]),
        ],
        Fault::Deadlock { first, second } => vec![
            rises("mutex_waiters", &[("lock", first)]),
            rises("mutex_waiters", &[("lock", second)]),
            rises("http_requests_in_flight", &[]),
        ],
        Fault::CacheStampede { cache, .. } => {
            vec![
                rises("cache_misses", &[("cache", cache)]),
                rises("db_query_duration_seconds", &[]),
            ]
        }
        Fault::RetryStorm { dependency, .. } => {
            let target = [("target", dependency.as_str())];
            vec![
                rises("http_client_retries", &target),
                rises("http_client_request_duration_seconds", &target),
                rises(
                    "http_client_requests",
                    &[("target", dependency), ("outcome", "timeout")],
                ),
            ]
        }
        Fault::NoisyTenant { tenant, .. } => {
            vec![
                rises("tenant_requests", &[("tenant", tenant)]),
                rises("http_requests", &[]),
            ]
        }
        Fault::SlowDependency { dependency, .. } => {
            let pools = setup.service.pools.iter();
            let pools = pools.filter(|pool| pool.dependency == *dependency);
            let mut evidence: Vec<Evidence> = pools
                .map(|pool| rises("db_query_duration_seconds", &[("pool", &pool.name)]))
                .collect();
            if evidence.is_empty() {
                evidence.push(rises(
                    "http_client_request_duration_seconds",
                    &[("target", dependency)],
                ));
            }
            evidence
        }
        Fault::LogLoss { .. } => vec![
            rises("log_lines_dropped", &[]),
            rises("log_buffer_lines", &[]),
            of("log_lines_shipped", Moves::Falls, &[]),
        ],
        Fault::TrafficSurge { .. } => vec![
            rises("http_requests", &[]),
            rises("http_requests_in_flight", &[]),
        ],
    }
}

/// Everything of the setup that somebody could blame, and that has no part in it.
fn innocent(setup: &Setup, affected: Option<&Component>) -> Vec<Suspect> {
    let service = &setup.service;
    let always = |component| Suspect {
        component,
        at_ms: None,
    };
    let mut suspects: Vec<Suspect> = Vec::new();
    for deploy in &setup.deploys {
        suspects.push(Suspect {
            component: Component::Version(deploy.version.clone()),
            at_ms: Some(milliseconds(setup, deploy.at)),
        });
    }
    for job in &setup.jobs {
        suspects.push(Suspect {
            component: Component::Job(job.path.clone()),
            at_ms: Some(milliseconds(setup, job.at)),
        });
    }
    for spike in &setup.load.spikes {
        suspects.push(Suspect {
            component: Component::Load,
            at_ms: Some(milliseconds(setup, spike.at)),
        });
    }
    // What a fault drags along is not innocent: a slow query fills its pool, a slow database every
    // pool in front of it.
    for pool in &service.pools {
        let dragged = match affected {
            Some(Component::Query { pool: slow, .. }) => *slow == pool.name,
            Some(Component::Dependency(slow)) => *slow == pool.dependency,
            Some(Component::Cache(_)) => true,
            _ => false,
        };
        if !dragged {
            suspects.push(always(Component::Pool(pool.name.clone())));
        }
    }
    for dependency in &service.dependencies {
        let dragged = match affected {
            Some(Component::Query { pool, .. } | Component::Pool(pool)) => {
                let mut pools = service.pools.iter();
                pools.any(|of| of.name == *pool && of.dependency == dependency.name)
            }
            Some(Component::Cache(_)) => true,
            _ => false,
        };
        if !dragged {
            suspects.push(always(Component::Dependency(dependency.name.clone())));
        }
    }
    for cache in &service.caches {
        suspects.push(always(Component::Cache(cache.name.clone())));
    }
    suspects.retain(|suspect| Some(&suspect.component) != affected);
    suspects
}

impl Run {
    /// The level of a metric between two moments (milliseconds of Unix time), over all series of
    /// the family that have these labels: of a counter the increase a second, of a histogram the
    /// mean of what it observed, of a gauge the mean, summed over the instances. `None` where there
    /// is nothing to tell from.
    pub fn level(
        &self,
        family: &str,
        labels: &[(&str, &str)],
        from_ms: i64,
        to_ms: i64,
    ) -> Option<f64> {
        let mut total = 0.0;
        let (mut sum, mut count) = (0.0, 0.0);
        let mut found = false;
        let mut kind = Kind::Gauge;
        for series in self.series() {
            let of = series.family();
            let chosen = of.name == family
                && labels
                    .iter()
                    .all(|&(name, value)| series.labels().get(name) == Some(value));
            if !chosen {
                continue;
            }
            kind = of.kind;
            let samples = series.samples();
            let from = samples.partition_point(|&(at, _)| at < from_ms);
            let to = samples.partition_point(|&(at, _)| at <= to_ms);
            let within = &samples[from..to];
            if within.is_empty() {
                continue;
            }
            found = true;
            let increase = || -> f64 {
                within
                    .windows(2)
                    .map(|pair| {
                        let (before, after) = (pair[0].1, pair[1].1);
                        if after < before {
                            after
                        } else {
                            after - before
                        }
                    })
                    .sum()
            };
            match kind {
                Kind::Gauge | Kind::Info => {
                    let values = within.iter().map(|&(_, value)| value);
                    #[expect(clippy::cast_precision_loss, reason = "a number of samples")]
                    let mean = values.sum::<f64>() / within.len() as f64;
                    total += mean;
                }
                Kind::Counter => {
                    #[expect(clippy::cast_precision_loss, reason = "milliseconds of a window")]
                    let seconds = (to_ms - from_ms) as f64 / 1e3;
                    total += increase() / seconds;
                }
                Kind::Histogram if series.name().ends_with("_sum") => sum += increase(),
                Kind::Histogram if series.name().ends_with("_count") => count += increase(),
                Kind::Histogram => {}
            }
        }
        match kind {
            Kind::Histogram => (count > 0.0).then_some(sum / count),
            _ => found.then_some(total),
        }
    }
}
