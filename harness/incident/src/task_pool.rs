//! Twenty minutes of a pool of workers that renders thumbnails: healthy in several ways, or held up by
//! one of its resources.
//!
//! A task waits in a bounded queue for a worker, fetches the original from a store, computes on one
//! of the process's cores, and writes a row over one of its connections to a database. The pool is a
//! [`service`](crate::service), simulated request by request, and exposes the names of a pool: those of
//! `worker_pool_…`, and what its process, its connections and its calls of the store export. Sizes and
//! load are drawn from the seed, so that no absolute number means the same in two pools.
//!
//! Not for long windows: a day of one of these pools has two million tasks or more.
//!
//! ```
//! use incident::task_pool::{Case, simulate};
//!
//! let run = simulate(Case::Connections, 7);
//! assert!(run.series().any(|series| series.name() == "worker_pool_queue_size"));
//! assert_eq!(run.starts_at_ms(), Some(run.begins_ms() + 420_000));
//! ```

use std::collections::BTreeMap;

use crate::chance::Chance;
use crate::service::registry::{self, Labels};
use crate::service::{
    self, Dependency, Deploy, Family, Fault, Kind, Load, Pool, Route, Scenario, Series, Service,
    Setup, Step, Tier, Time,
};

/// Seconds from one scrape to the next.
pub const SCRAPE: u64 = 15;
/// How long a run lasts, in seconds.
pub const DURATION: f64 = 1_200.0;
/// When what happens begins, in seconds from the beginning.
pub const STARTS_AT: f64 = 420.0;
/// Tasks that may wait for each worker.
pub const QUEUE_PER_WORKER: u32 = 10;
/// Upper bounds of the histograms, in seconds.
pub const BOUNDS: [f64; 13] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0,
];

/// What kind of time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Case {
    /// Healthy: the workers are busy for half of the time.
    Quiet,
    /// Healthy: they are busy for four fifths of the time, and nothing waits for long.
    Busy,
    /// Healthy: hardly anything to do.
    Night,
    /// Healthy: half as much traffic again, for a minute and a half.
    Spike,
    /// Healthy: a release that changes nothing; counters start again.
    Release,
    /// Healthy: one instance of three gets six tasks in a thousand, and many of these are slow or fail.
    Canary,
    /// More tasks than the workers can hold; nothing else is short.
    Workers,
    /// A release that needs more of the processor than there is.
    Cores,
    /// A query without its index holds every connection.
    Connections,
    /// The store answers many calls slowly.
    Storage,
    /// The store answers one call in twenty slowly; nothing is held up.
    Tail,
    /// Every 40 s somebody submits many tasks within five seconds, which then wait.
    Bursts,
    /// A release whose tasks fail more often, and no slower.
    Errors,
    /// Nobody submits anything any more.
    Silence,
    /// The store never answers one call in 150: these tasks time out, and the others are as quick as
    /// ever.
    Timeouts,
    /// One instance of three, with as many tasks as the others, waits long for some of its calls: two
    /// tasks of the pool in a hundred. Its own p99 is not so long that a mean with the others' shows it.
    Straggler,
}

impl Case {
    /// Every case, the healthy ones first.
    pub const ALL: [Case; 16] = [
        Case::Quiet,
        Case::Busy,
        Case::Night,
        Case::Spike,
        Case::Release,
        Case::Canary,
        Case::Workers,
        Case::Cores,
        Case::Connections,
        Case::Storage,
        Case::Tail,
        Case::Bursts,
        Case::Errors,
        Case::Silence,
        Case::Timeouts,
        Case::Straggler,
    ];

    /// Whether users get what they were promised all the time.
    pub fn is_healthy(self) -> bool {
        matches!(
            self,
            Case::Quiet | Case::Busy | Case::Night | Case::Spike | Case::Release | Case::Canary
        )
    }

    /// What happens, for a person.
    pub fn tells(self) -> &'static str {
        match self {
            Case::Quiet => "nothing happens",
            Case::Busy => "much to do, and nothing happens",
            Case::Night => "hardly anything to do, and nothing happens",
            Case::Spike => "half as much traffic again, for 90 s",
            Case::Release => "a release that changes nothing",
            Case::Canary => "an instance with few tasks is slow, and fails",
            Case::Workers => "more tasks than the workers can hold",
            Case::Cores => "a release that needs more processor than there is",
            Case::Connections => "a query loses its index and holds the connections",
            Case::Storage => "the store answers many calls slowly",
            Case::Tail => "the store answers one call in twenty slowly",
            Case::Bursts => "every 40 s many tasks are submitted at once",
            Case::Errors => "a release whose tasks fail more often",
            Case::Silence => "nobody submits anything any more",
            Case::Timeouts => "the store never answers one call in 150",
            Case::Straggler => "one instance of three gets late answers from the store",
        }
    }
}

/// A pool that has run.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    case: Case,
    setups: Vec<Setup>,
    series: Vec<Series>,
}

impl Run {
    /// Every time series. Milliseconds of Unix time.
    pub fn series(&self) -> impl Iterator<Item = &Series> + Clone {
        self.series.iter()
    }

    /// In the OpenMetrics text format with timestamps.
    pub fn openmetrics(&self) -> String {
        registry::openmetrics(self.series.iter())
    }

    pub fn case(&self) -> Case {
        self.case
    }

    /// The first moment, in milliseconds of Unix time.
    pub fn begins_ms(&self) -> i64 {
        self.setups[0].begins * 1_000
    }

    /// The last moment, in milliseconds of Unix time.
    pub fn ends_ms(&self) -> i64 {
        self.begins_ms() + millis(self.setups[0].duration)
    }

    /// When what happens begins, in milliseconds of Unix time; `None` when nothing does.
    pub fn starts_at_ms(&self) -> Option<i64> {
        let quiet = matches!(self.case, Case::Quiet | Case::Busy | Case::Night);
        (!quiet).then(|| self.begins_ms() + millis(STARTS_AT))
    }

    /// The pool that ran, as [`drawn`].
    pub fn setups(&self) -> &[Setup] {
        &self.setups
    }
}

const STORE: &str = "originals";
const DATABASE: &str = "postgres";
const QUERY: &str = "insert_thumbnail";
/// What an instance that is being tried out gets, of the tasks that another one gets.
const OF_THE_CANARY: f64 = 0.012;

/// A pool of that kind, its size and load drawn from `seed`: the instances that are alike, and after
/// them the one that is not, where there is one. They run beside each other.
pub fn drawn(case: Case, seed: u64) -> Vec<Setup> {
    let mut chance = Chance::of(seed ^ 0x7A5C_0001);
    let workers = *chance.pick(&[6_u32, 7, 8]);
    let instances = match (case, *chance.pick(&[1_usize, 1, 2])) {
        (Case::Canary | Case::Straggler, _) => 2,
        (_, drawn) => drawn,
    };
    let fetch = Time::about(chance.between(0.10, 0.14));
    let compute = Time::about(chance.between(0.040, 0.055));
    let query = Time::about(chance.between(0.018, 0.028));
    let held = fetch.mean() + compute.mean() + query.mean();
    // Tasks a second with which an instance holds every worker all the time.
    let most = f64::from(workers) / held;
    let room = |time: Time, used: f64| size(most * time.mean() / used);
    let cores = room(compute, chance.between(0.5, 0.6));
    let connections = room(query, chance.between(0.4, 0.55));
    let used = match case {
        Case::Busy => chance.between(0.76, 0.80),
        Case::Night => chance.between(0.10, 0.14),
        // Who waits for the store holds a worker; there are some to spare.
        Case::Timeouts => chance.between(0.36, 0.40),
        _ => chance.between(0.48, 0.56),
    };
    let rate = most * used;
    let over = chance.between(1.25, 1.4);

    let patch = chance.whole(1, 9);
    let bad = |compute_factor: f64, error_share: f64| Fault::BadDeploy {
        version: "1.8.0".into(),
        stagger: 40.0,
        compute_factor,
        allocation_factor: 1.0,
        error_share,
    };
    let fault = match case {
        Case::Quiet
        | Case::Busy
        | Case::Night
        | Case::Spike
        | Case::Release
        | Case::Canary
        | Case::Bursts
        | Case::Straggler => None,
        Case::Workers => Some(Fault::TrafficSurge {
            factor: over / used,
        }),
        Case::Cores => Some(bad(over * f64::from(cores) / (rate * compute.mean()), 0.0)),
        Case::Connections => Some(Fault::SlowQuery {
            query: QUERY.into(),
            factor: over * f64::from(connections) / (rate * query.mean()),
        }),
        Case::Storage => {
            let share = chance.between(0.4, 0.7);
            // The mean of a log-normal time with sigma 0.5 is 1.133 times its median.
            let wanted = over * f64::from(workers) / rate - held;
            Some(Fault::SlowDependency {
                dependency: STORE.into(),
                share,
                median: (wanted / share + fetch.mean()) / 1.133,
                sigma: 0.5,
            })
        }
        Case::Tail => Some(Fault::SlowDependency {
            dependency: STORE.into(),
            share: 0.05,
            median: chance.between(1.5, 1.9),
            sigma: 0.2,
        }),
        Case::Errors => Some(bad(1.0, chance.between(0.008, 0.010))),
        Case::Silence => Some(Fault::TrafficSurge { factor: 0.0 }),
        Case::Timeouts => Some(Fault::SlowDependency {
            dependency: STORE.into(),
            share: 1.0 / 150.0,
            median: 60.0,
            sigma: 0.1,
        }),
    };

    let service = Service::new("thumbnailer")
        .instances(instances)
        .cores(cores)
        .version(&format!("1.7.{patch}"))
        .tier(Tier::new("pool", workers).queue(QUEUE_PER_WORKER * workers))
        .dependency(Dependency::new(STORE, 400))
        .dependency(Dependency::new(DATABASE, 60))
        .pool(Pool::new("thumbnails", connections, DATABASE).acquire_timeout(60.0))
        .route(Route::new("TASK", "thumbnail", 1.0).steps([
            Step::call(STORE, fetch),
            Step::compute(compute),
            Step::query("thumbnails", QUERY, query),
        ]))
        .deadline(if case == Case::Timeouts { 1.5 } else { 8.0 })
        .errors(chance.between(0.0004, 0.0012))
        .bounds(BOUNDS);
    #[expect(clippy::cast_precision_loss, reason = "one or two instances")]
    let mut load = Load::constant(rate * instances as f64).noise(0.04);
    match case {
        Case::Spike => load = load.spike(STARTS_AT, 1.5, 90.0),
        Case::Bursts => {
            let mut at = STARTS_AT;
            while at < DURATION {
                load = load.spike(at, 1.25 / used, 5.0);
                at += 40.0;
            }
        }
        _ => {}
    }
    let mut setup = Setup::new(service, load, seed)
        .lasting(DURATION)
        .metrics_only();
    setup.warm_up = 120.0;
    setup.begins = 1_762_300_800 + 86_400 * i64::from(instances == 2) + 600 * small(&mut chance);
    #[expect(clippy::cast_precision_loss, reason = "a constant")]
    let scrape = SCRAPE as f64;
    setup.scrape_interval = scrape;
    if case == Case::Release {
        setup.deploys = vec![Deploy::new(STARTS_AT, "1.8.0")];
    }
    setup.scenarios = fault
        .map(|fault| Scenario::new(fault, STARTS_AT))
        .into_iter()
        .collect();
    let late = |share: f64, median: f64, sigma: f64| Fault::SlowDependency {
        dependency: STORE.into(),
        share,
        median,
        sigma,
    };
    match case {
        Case::Canary => {
            let tried = bad(1.0, chance.between(0.14, 0.18));
            let faults = [tried, late(chance.between(0.5, 0.6), 2.0, 0.2)];
            let alone = alone(&setup, rate * OF_THE_CANARY, faults);
            vec![setup, alone]
        }
        Case::Straggler => {
            // Between the bounds at 1.0 and 1.5 s: the p99 of this instance is at most 1.5 s.
            let alone = alone(&setup, rate, [late(chance.between(0.06, 0.075), 1.2, 0.05)]);
            vec![setup, alone]
        }
        _ => vec![setup],
    }
}

/// One more instance of a pool, with tasks and troubles of its own.
fn alone(pool: &Setup, rate: f64, faults: impl IntoIterator<Item = Fault>) -> Setup {
    let mut setup = pool.clone();
    setup.service.instances = 1;
    setup.seed ^= 0x57A6_0002 << 32;
    (setup.load.low, setup.load.high) = (rate, rate);
    setup.scenarios = faults
        .into_iter()
        .map(|fault| Scenario::new(fault, STARTS_AT))
        .collect();
    setup
}

/// Lets it happen.
pub fn simulate(case: Case, seed: u64) -> Run {
    let setups = drawn(case, seed);
    let mut series = exposed(&service::simulate(&setups[0]), &setups[0]);
    for alone in &setups[1..] {
        // All instances share a database, and what it exports is there already.
        let of_instance =
            |series: &Series| series.labels().get("job") == Some(alone.service.name.as_str());
        series.extend(
            exposed(&service::simulate(alone), alone)
                .into_iter()
                .filter(of_instance),
        );
    }
    registry::sort(&mut series);
    Run {
        case,
        setups,
        series,
    }
}

fn size(wanted: f64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a small number"
    )]
    let size = libm::ceil(wanted) as u32;
    size.max(2)
}

fn small(chance: &mut Chance) -> i64 {
    i64::try_from(chance.whole(0, 100)).expect("a small number")
}

fn millis(seconds: f64) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "some minutes")]
    let millis = (seconds * 1_000.0) as i64;
    millis
}

const fn family(name: &'static str, kind: Kind, help: &'static str) -> Family {
    Family { name, kind, help }
}

/// How a task can end.
const STATUSES: [(&str, &[&str]); 4] = [
    ("ok", &["200"]),
    ("error", &["500", "502"]),
    ("timeout", &["504"]),
    ("rejected", &["503"]),
];

static TASKS: Family = family(
    "worker_pool_tasks",
    Kind::Counter,
    "Tasks that have ended, by status: ok, error, timeout, rejected.",
);

/// What the service calls a family, and what the pool calls it.
static NAMES: [(&str, Family); 21] = [
    (
        "worker_queue_depth",
        family(
            "worker_pool_queue_size",
            Kind::Gauge,
            "Tasks that are in the queue.",
        ),
    ),
    (
        "worker_queue_limit",
        family(
            "worker_pool_queue_limit",
            Kind::Gauge,
            "Tasks that the queue has room for.",
        ),
    ),
    (
        "workers_active",
        family(
            "worker_pool_workers_active",
            Kind::Gauge,
            "Workers that are running a task.",
        ),
    ),
    (
        "workers_max",
        family(
            "worker_pool_workers_total",
            Kind::Gauge,
            "Workers that there are.",
        ),
    ),
    (
        "worker_queue_wait_seconds",
        family(
            "worker_pool_queue_wait_seconds",
            Kind::Histogram,
            "How long tasks waited for a worker.",
        ),
    ),
    (
        "worker_task_duration_seconds",
        family(
            "worker_pool_task_duration_seconds",
            Kind::Histogram,
            "How long tasks ran, without their time in the queue.",
        ),
    ),
    (
        "http_request_duration_seconds",
        family(
            "worker_pool_task_latency_seconds",
            Kind::Histogram,
            "From the submission of a task to its end.",
        ),
    ),
    (
        "process_cpu_seconds",
        family(
            "process_cpu_seconds",
            Kind::Counter,
            "Time on a core, all cores together.",
        ),
    ),
    (
        "tokio_workers",
        family(
            "process_cpu_cores",
            Kind::Gauge,
            "Cores that the process may use.",
        ),
    ),
    (
        "tokio_global_queue_depth",
        family(
            "process_cpu_waiting",
            Kind::Gauge,
            "Threads that could run and have no core.",
        ),
    ),
    (
        "db_pool_connections",
        family(
            "db_connections",
            Kind::Gauge,
            "Connections that the process may open.",
        ),
    ),
    (
        "db_pool_connections_in_use",
        family(
            "db_connections_in_use",
            Kind::Gauge,
            "Connections with a query.",
        ),
    ),
    (
        "db_pool_waiters",
        family(
            "db_connection_waiters",
            Kind::Gauge,
            "Tasks that wait for a connection.",
        ),
    ),
    (
        "db_pool_acquire_duration_seconds",
        family(
            "db_connection_wait_seconds",
            Kind::Histogram,
            "How long tasks waited for a connection.",
        ),
    ),
    (
        "db_query_duration_seconds",
        family(
            "db_query_duration_seconds",
            Kind::Histogram,
            "Queries, without the wait for a connection.",
        ),
    ),
    (
        "http_client_request_duration_seconds",
        family(
            "store_request_duration_seconds",
            Kind::Histogram,
            "Calls of the store.",
        ),
    ),
    (
        "http_client_requests_in_flight",
        family(
            "store_requests_in_flight",
            Kind::Gauge,
            "Calls of the store that have no answer yet.",
        ),
    ),
    (
        "build",
        family("build", Kind::Info, "The version that runs."),
    ),
    (
        "process_resident_memory_bytes",
        family(
            "process_resident_memory_bytes",
            Kind::Gauge,
            "Resident memory.",
        ),
    ),
    (
        "process_start_time_seconds",
        family(
            "process_start_time_seconds",
            Kind::Gauge,
            "Start of the process, in Unix time.",
        ),
    ),
    (
        "up",
        family("up", Kind::Gauge, "Whether the last scrape succeeded."),
    ),
];

/// The series under the pool's names. Processes have run for as long as `process_start_time_seconds`
/// says, and their counters as well.
fn exposed(run: &service::Run, setup: &Setup) -> Vec<Series> {
    #[expect(clippy::cast_precision_loss, reason = "Unix time in seconds")]
    let begins = setup.begins as f64;
    let started: BTreeMap<&str, f64> = run
        .series()
        .filter(|series| series.name() == "process_start_time_seconds")
        .filter_map(|series| {
            let &(_, started) = series.samples().first()?;
            Some((series.labels().get("instance")?, started))
        })
        .collect();
    let until_ms = setup.begins * 1_000 + millis(STARTS_AT);
    let aged = |series: Series| -> Series {
        let instance = series.labels().get("instance").unwrap_or_default();
        let age = started
            .get(instance)
            .map_or(0.0, |started| begins - started);
        match series.family().kind {
            Kind::Counter | Kind::Histogram => series.counting_since(age, until_ms),
            _ => series,
        }
    };
    let mut series: Vec<Series> = run
        .series()
        .filter_map(|series| {
            let (_, family) = NAMES
                .iter()
                .find(|(name, _)| *name == series.family().name)?;
            Some(aged(series.exposed_as(family, &["le", "version"])))
        })
        .collect();
    // Every status is counted from the start of a process, whether it has happened yet or not.
    let processes: Vec<&Series> = run
        .series()
        .filter(|series| series.name() == "workers_max")
        .collect();
    for process in processes {
        let instance = process.labels().get("instance").unwrap_or_default();
        for (status, codes) in STATUSES {
            let mut counts: BTreeMap<i64, f64> = process
                .samples()
                .iter()
                .map(|&(at_ms, _)| (at_ms, 0.0))
                .collect();
            let of_status = run.series().filter(|series| {
                let labels = series.labels();
                series.name() == "http_requests_total"
                    && labels.get("instance") == Some(instance)
                    && codes.contains(&labels.get("status").unwrap_or_default())
            });
            for &(at_ms, value) in of_status.flat_map(Series::samples) {
                *counts.entry(at_ms).or_insert(0.0) += value;
            }
            let labels = Labels::of([
                ("instance", instance),
                ("job", process.labels().get("job").unwrap_or_default()),
                ("status", status),
            ]);
            let counts = counts.into_iter().collect();
            series.push(aged(Series::of(&TASKS, "_total", labels, counts)));
        }
    }
    series
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sum over all series of a name at the last moment, less that some seconds before.
    fn increase(run: &Run, name: &str, keep: impl Fn(&Series) -> bool, seconds: i64) -> f64 {
        run.series()
            .filter(|series| series.name() == name && keep(series))
            .map(|series| {
                let (end, last) = *series.samples().last().unwrap();
                let from = end - seconds * 1_000;
                let samples = series.samples();
                let first = samples.partition_point(|&(at, _)| at < from);
                last - samples[first].1
            })
            .sum()
    }

    /// For which share of the last ten minutes a resource was in use.
    fn used(run: &Run, busy_seconds: &str, size: f64) -> f64 {
        increase(run, busy_seconds, |_| true, 600) / 600.0 / size
    }

    #[test]
    fn each_bottleneck_is_short_of_its_own_resource_and_of_nothing_but_workers() {
        for seed in 0..4 {
            for case in Case::ALL {
                let run = simulate(case, seed);
                let service = &run.setups()[0].service;
                let instances: usize = run.setups().iter().map(|s| s.service.instances).sum();
                let size = |each: u32| f64::from(each) * instances as f64;
                let workers = used(
                    &run,
                    "worker_pool_task_duration_seconds_sum",
                    size(service.tiers[0].workers),
                );
                let cores = used(&run, "process_cpu_seconds_total", size(service.cores));
                let connections = used(
                    &run,
                    "db_query_duration_seconds_sum",
                    size(service.pools[0].size),
                );
                let at = format!("{case:?} {seed}: {workers} {cores} {connections}");
                let held_up = matches!(
                    case,
                    Case::Workers | Case::Cores | Case::Connections | Case::Storage
                );
                assert_eq!(workers > 0.95, held_up, "{at}");
                assert_eq!(cores > 0.95, case == Case::Cores, "{at}");
                assert_eq!(connections > 0.93, case == Case::Connections, "{at}");
                if case != Case::Cores {
                    assert!(cores < 0.7, "{at}");
                }
                if case != Case::Connections {
                    assert!(connections < 0.7, "{at}");
                }
            }
        }
    }

    #[test]
    fn healthy_pools_keep_what_users_were_promised_and_others_do_not() {
        for seed in 0..4 {
            for case in Case::ALL {
                let run = simulate(case, seed);
                let of = |status: &'static str| {
                    move |series: &Series| series.labels().get("status") == Some(status)
                };
                let tasks = "worker_pool_tasks_total";
                let ended = increase(&run, tasks, |_| true, 600);
                let failed = ended - increase(&run, tasks, of("ok"), 600);
                let within = increase(
                    &run,
                    "worker_pool_task_latency_seconds_bucket",
                    |series| series.labels().get("le") == Some("1.0"),
                    600,
                );
                let all = increase(
                    &run,
                    "worker_pool_task_latency_seconds_count",
                    |_| true,
                    600,
                );
                let (fast, failed) = (within / all, failed / ended);
                let at = format!("{case:?} {seed}: {ended} ended, {fast} fast, {failed} failed");
                if case.is_healthy() {
                    assert!(fast > 0.995 && failed < 0.003, "{at}");
                    assert!(ended / 600.0 > 2.0, "{at}");
                } else if case == Case::Silence {
                    assert!(ended < 30.0, "{at}");
                } else {
                    assert!(fast < 0.985 || failed > 0.007, "{at}");
                }
            }
        }
    }

    #[test]
    fn some_pools_are_slow_and_fail_no_task_for_it() {
        for case in [Case::Tail, Case::Bursts] {
            for seed in 0..4 {
                let run = simulate(case, seed);
                let rejected = |series: &Series| {
                    matches!(series.labels().get("status"), Some("rejected" | "timeout"))
                };
                let lost = increase(&run, "worker_pool_tasks_total", rejected, 700);
                let all = increase(&run, "worker_pool_tasks_total", |_| true, 700);
                assert!(lost / all < 0.003, "{case:?} {seed}: {lost} of {all}");
            }
        }
    }

    #[test]
    fn what_times_out_is_no_error_and_makes_nothing_else_slow() {
        for seed in 0..8 {
            let run = simulate(Case::Timeouts, seed);
            let of = |status: &'static str| {
                move |series: &Series| series.labels().get("status") == Some(status)
            };
            let tasks = "worker_pool_tasks_total";
            let all = increase(&run, tasks, |_| true, 600);
            let timeouts = increase(&run, tasks, of("timeout"), 600) / all;
            let errors = increase(&run, tasks, of("error"), 600) / all;
            let at = format!("{seed}: {timeouts} time out, {errors} fail");
            assert!(timeouts > 0.0050 && errors < 0.002, "{at}");
            let latency = "worker_pool_task_latency_seconds";
            let within = |series: &Series| series.labels().get("le") == Some("1.0");
            let fast = increase(&run, &format!("{latency}_bucket"), within, 600);
            let counted = increase(&run, &format!("{latency}_count"), |_| true, 600);
            let slow = 1.0 - fast / counted;
            assert!(slow < 0.009, "{at}, {slow} slow");
        }
    }

    /// The upper bound of the bucket that holds the 99th of 100 observations of ten minutes.
    fn p99(run: &Run, of: impl Fn(&Series) -> bool) -> f64 {
        let latency = "worker_pool_task_latency_seconds";
        let all = increase(run, &format!("{latency}_count"), &of, 600);
        BOUNDS
            .into_iter()
            .find(|bound| {
                let le = format!("{bound:?}");
                let within = |series: &Series| of(series) && series.labels().get("le") == Some(&le);
                increase(run, &format!("{latency}_bucket"), within, 600) >= 0.99 * all
            })
            .unwrap_or(f64::INFINITY)
    }

    #[test]
    fn the_p99_of_the_pool_is_no_mean_of_those_of_its_instances() {
        for seed in 0..6 {
            for (case, slow) in [(Case::Canary, false), (Case::Straggler, true)] {
                let run = simulate(case, seed);
                let whole = p99(&run, |_| true);
                let instances: std::collections::BTreeSet<&str> = run
                    .series()
                    .filter(|series| series.name() == "worker_pool_workers_total")
                    .filter_map(|series| series.labels().get("instance"))
                    .collect();
                assert_eq!(instances.len(), 3);
                let each: Vec<f64> = instances
                    .iter()
                    .map(|&instance| {
                        p99(&run, |series| {
                            series.labels().get("instance") == Some(instance)
                        })
                    })
                    .collect();
                let mean = each.iter().sum::<f64>() / 3.0;
                let at = format!("{case:?} {seed}: {whole} of {each:?}");
                assert_eq!(whole > 1.0, slow, "{at}");
                assert_eq!(mean < 1.0, slow, "{at}");
            }
        }
    }

    #[test]
    fn counters_have_counted_since_their_process_started() {
        for seed in 0..4 {
            let run = simulate(Case::Release, seed);
            for series in run.series() {
                if series.name() != "worker_pool_task_latency_seconds_count" {
                    continue;
                }
                let values: Vec<f64> = series.samples().iter().map(|&(_, value)| value).collect();
                let most = values.iter().copied().fold(0.0, f64::max);
                assert!(values[0] > 100_000.0, "{seed}: {}", values[0]);
                assert!(values[values.len() - 1] < most / 20.0, "{seed}: no restart");
            }
        }
    }

    #[test]
    fn every_status_is_there_from_the_first_scrape() {
        let run = simulate(Case::Quiet, 1);
        for (status, _) in STATUSES {
            let series = run
                .series()
                .find(|series| series.labels().get("status") == Some(status))
                .unwrap();
            let first = series.samples()[0].0;
            assert!(first - run.begins_ms() <= 15_000, "{status}: {first}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_run() {
        let text = |seed| simulate(Case::Spike, seed).openmetrics();
        assert_eq!(text(4), text(4));
        assert_ne!(text(4), text(5));
    }
}
