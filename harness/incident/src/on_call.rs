//! Shifts on call for one payment service: ten ways in which its p99 rises for good, alarms that
//! are over or concern nobody when they arrive, and shifts without any.
//!
//! For labs about a runbook: the service stays the same, so that queries can be exact, and every
//! shift has its own traffic, which is why a number that is high in one is usual in another. Each is
//! a [`Setup`] of [`crate::service`], which simulates it and knows the truth. Not for other
//! services: [`crate::service::catalog`] has four.

use crate::calendar::rfc3339_millis;
use crate::chance::Chance;
use crate::service::{
    Cache, Cause, Component, Dependency, Deploy, Fault, Job, Load, Pool, Route, Run, Scenario,
    Service, Setup, Step, Tier, Time, Truth,
};

/// What kind of shift it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shift {
    /// Nothing happens.
    Quiet,
    /// Nothing happens, at three times the usual traffic.
    Busy,
    /// Alarm: more traffic than the service can take for some two minutes, and then no more.
    BriefSurge,
    /// Alarm: right after a release the card network stalls for some two minutes.
    HiccupAfterRelease,
    /// Alarm: the report of the day, which takes seconds and may take them. Nobody else waits.
    DailyReport,
    SlowQuery,
    ConnectionLeak,
    CacheStampede,
    LockContention,
    Deadlock,
    SlowDependency,
    RetryStorm,
    BadDeploy,
    NoisyTenant,
    TrafficSurge,
}

impl Shift {
    /// Those in which users wait until somebody acts.
    pub const INCIDENTS: [Shift; 10] = [
        Shift::SlowQuery,
        Shift::ConnectionLeak,
        Shift::CacheStampede,
        Shift::LockContention,
        Shift::Deadlock,
        Shift::SlowDependency,
        Shift::RetryStorm,
        Shift::BadDeploy,
        Shift::NoisyTenant,
        Shift::TrafficSurge,
    ];
    /// Those in which the p99 is above a second for minutes, and nobody has to act.
    pub const ALARMS: [Shift; 3] = [
        Shift::BriefSurge,
        Shift::HiccupAfterRelease,
        Shift::DailyReport,
    ];
    /// Those in which the p99 stays low.
    pub const CALM: [Shift; 2] = [Shift::Quiet, Shift::Busy];

    /// What the service suffers from while somebody is on the way; [`Cause::None`] of an alarm that
    /// needs nobody.
    pub fn cause(self) -> Cause {
        match self {
            Shift::SlowQuery => Cause::SlowQuery,
            Shift::ConnectionLeak => Cause::ConnectionLeak,
            Shift::CacheStampede => Cause::CacheStampede,
            Shift::LockContention => Cause::LockContention,
            Shift::Deadlock => Cause::Deadlock,
            Shift::SlowDependency => Cause::SlowDependency,
            Shift::RetryStorm => Cause::RetryStorm,
            Shift::BadDeploy => Cause::BadDeploy,
            Shift::NoisyTenant => Cause::NoisyTenant,
            Shift::TrafficSurge => Cause::TrafficSurge,
            _ => Cause::None,
        }
    }
}

/// The expression of the alert that pages. It pages when this has had a value for
/// [`ALERT_MINUTES`], evaluated every 15 s.
pub const ALERT: &str = "histogram_quantile(0.99, \
    sum by (le) (rate(http_request_duration_seconds_bucket[5m]))) > 1";
/// The `for` of [`ALERT`].
pub const ALERT_MINUTES: u64 = 5;

/// The name under which a runbook concludes a cause.
pub fn name_of(cause: Cause) -> &'static str {
    match cause {
        Cause::None => "false alarm",
        Cause::SlowQuery => "slow query",
        Cause::ConnectionLeak => "connection leak",
        Cause::TaskLeak => "task leak",
        Cause::MemoryLeak => "memory leak",
        Cause::BadDeploy => "bad release",
        Cause::LockContention => "lock contention",
        Cause::Deadlock => "deadlock",
        Cause::CacheStampede => "cache stampede",
        Cause::RetryStorm => "retry storm",
        Cause::NoisyTenant => "noisy tenant",
        Cause::SlowDependency => "slow dependency",
        Cause::LogLoss => "log loss",
        Cause::TrafficSurge => "traffic surge",
    }
}

/// The names by which a runbook may call what is affected; none where there is nothing to name.
pub fn names_of(component: &Component) -> Vec<String> {
    match component {
        Component::Query { query, .. } => vec![query.clone()],
        Component::Locks(first, second) => vec![first.clone(), second.clone()],
        Component::Pool(name)
        | Component::Version(name)
        | Component::Lock(name)
        | Component::Cache(name)
        | Component::Dependency(name)
        | Component::Tenant(name)
        | Component::Job(name) => vec![name.clone()],
        Component::Tasks | Component::Memory | Component::LogPipeline | Component::Load => {
            Vec::new()
        }
    }
}

/// What happened in a shift of this kind, in a sentence.
pub fn sentence(shift: Shift, truth: &Truth) -> String {
    let of = truth.affected.as_ref().map(names_of).unwrap_or_default();
    let of = of.join(" and ");
    match shift {
        Shift::Quiet => "nothing happens".into(),
        Shift::Busy => "nothing happens, at three times the usual traffic".into(),
        Shift::BriefSurge => "a burst of traffic, gone after two minutes".into(),
        Shift::HiccupAfterRelease => format!("{of} stalls for two minutes, after a release"),
        Shift::DailyReport => "the daily report runs, and nobody else waits".into(),
        Shift::SlowQuery => format!("the query {of} is slow and holds its connections"),
        Shift::ConnectionLeak => format!("connections of the pool {of} are not given back"),
        Shift::CacheStampede => format!("the entries of the cache {of} expire all at once"),
        Shift::LockContention => format!("the lock {of} is held for longer"),
        Shift::Deadlock => format!("requests deadlock over the locks {of}"),
        Shift::SlowDependency => format!("{of} is slow for a part of the calls"),
        Shift::RetryStorm => format!("retries keep {of} busy"),
        Shift::BadDeploy => format!("the release {of} needs more of the processor"),
        Shift::NoisyTenant => format!("the tenant {of} sends more than all others"),
        Shift::TrafficSurge => "more traffic than the service can serve".into(),
    }
}

/// Seconds from the beginning of a shift to its trouble, at the earliest and at the latest.
const STARTS: (f64, f64) = (1_500.0, 1_680.0);
/// From there to the end of the records: detection, and ten minutes on the way.
const LEFT: f64 = 1_140.0;
const INSTANCES: u32 = 2;
const POOL_SIZE: u32 = 10;
const TENANTS: [(&str, f64); 5] = [
    ("acme", 1.0),
    ("borealis", 0.7),
    ("corvid", 0.5),
    ("dunes", 0.35),
    ("ember", 0.25),
];
/// The version that runs, and the next one.
const VERSION: &str = "4.11.2";
const NEXT: &str = "4.12.0";
const POOL: &str = "ledger";
const ITEM_QUERY: &str = "find_payment";
const CARD_NETWORK: &str = "acquirer";
/// Seconds; medians.
const ITEM_QUERY_TIME: f64 = 0.005;
const CALL_TIME: f64 = 0.013;
/// Of the traffic: lists, items, writes.
const SHARES: [f64; 3] = [0.4, 0.35, 0.25];
/// Seconds of a core for each request of these.
const COMPUTE: [f64; 3] = [0.009, 0.009, 0.007];
/// Seconds for which a payment holds its first lock, on average.
const LOCKED: f64 = 0.0044;

/// The service: two instances with one core each, a database, the card network, a cache, two locks.
pub fn service() -> Service {
    let compute = |median: f64| Step::compute(Time::about(median));
    let pause = || Step::wait(Time::about(0.002));
    let mut service = Service::new("payments")
        .instances(INSTANCES as usize)
        .cores(1)
        .version(VERSION)
        .tier(Tier::new("http", 64).queue(512))
        .dependency(Dependency::new("postgres", 40))
        .dependency(
            Dependency::new(CARD_NETWORK, 200)
                .timeout(20.0)
                .attempts(2, 0.2)
                .errors(0.0005),
        )
        .pool(Pool::new(POOL, POOL_SIZE, "postgres").acquire_timeout(10.0))
        .cache(Cache::new("merchants", 500, 300.0))
        .route(Route::new("GET", "/merchants/{id}", SHARES[0]).steps([
            compute(COMPUTE[0] / 2.0),
            Step::cached(
                "merchants",
                [Step::query(POOL, "load_merchant", Time::about(0.009))],
            ),
            compute(COMPUTE[0] / 2.0),
        ]))
        .route(Route::new("GET", "/payments/{id}", SHARES[1]).steps([
            compute(COMPUTE[1] / 2.0),
            Step::query(POOL, ITEM_QUERY, Time::about(ITEM_QUERY_TIME)),
            compute(COMPUTE[1] / 2.0),
        ]))
        .route(Route::new("POST", "/payments", SHARES[2]).steps([
            compute(COMPUTE[2] / 2.0),
            Step::locked("limits", [pause(), Step::locked("balances", [pause()])]),
            Step::query(POOL, "insert_payment", Time::about(0.006)),
            Step::call(CARD_NETWORK, Time::about(CALL_TIME)),
            compute(COMPUTE[2] / 2.0),
        ]))
        // Only the daily report asks for it.
        .route(Route::new("GET", "/reports/daily", 1e-9).steps([
            compute(0.004),
            Step::query(POOL, "daily_report", Time::about(2.4)),
        ]))
        .errors(0.001)
        .bounds([
            0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 8.0, 30.0,
        ]);
    for (name, weight) in TENANTS {
        service = service.tenant(name, weight);
    }
    service
}

/// The shift of the brief: at three in the morning of the sale `find_payment` has lost its index,
/// the pool is lent out, and the p99 goes from 50 ms to 8,000 ms, at which requests are given up.
pub fn canonical() -> Setup {
    let rate = 22.0;
    let mut setup = Setup::new(service().deadline(8.0), Load::daily(rate, rate), 4)
        .beginning(CANONICAL_BEGINS)
        .lasting(1_560.0 + LEFT)
        .scenario(Scenario::new(
            Fault::SlowQuery {
                query: ITEM_QUERY.into(),
                factor: 700.0,
            },
            1_560.0,
        ))
        .deploy(Deploy::new(1_020.0, "4.11.3"));
    setup.uptime_days = 6.0;
    setup.trace_one_in = 0;
    setup
}

/// 2025-11-28 at 07:57 UTC: the sale's first morning, 02:57 in New York.
const CANONICAL_BEGINS: i64 = 1_764_316_620;

/// A shift of a kind. Half an hour of a service with 15 to 40 requests a second, scraped every 15 s;
/// trouble begins after 16 to 19 minutes.
pub fn drawn(shift: Shift, seed: u64) -> Setup {
    let mut chance = Chance::of(seed ^ 0x0CA1_1ED5);
    let starts_at = libm::floor(chance.between(STARTS.0, STARTS.1));
    let rate = match shift {
        Shift::Busy => chance.between(50.0, 60.0),
        Shift::Deadlock | Shift::RetryStorm => chance.between(32.0, 40.0),
        _ => chance.between(15.0, 30.0),
    };
    let mut service = service();
    let mut load = Load::daily(rate, rate).noise(chance.between(0.03, 0.06));
    let mut deploys = Vec::new();
    let mut jobs = Vec::new();
    let mut lasts = None;
    // These are seen early, and cost most to simulate.
    let left = match shift {
        Shift::BriefSurge | Shift::NoisyTenant | Shift::TrafficSurge => LEFT - 180.0,
        // It takes a while until two requests meet.
        Shift::Deadlock => LEFT + 240.0,
        _ => LEFT,
    };
    // Of each instance: requests a second, and the share of its core that they take.
    let here = rate / f64::from(INSTANCES);
    let busy = here * compute_seconds();
    let fault = match shift {
        Shift::Quiet | Shift::Busy => None,
        Shift::BriefSurge => {
            load = load.spike(
                starts_at,
                chance.between(1.35, 1.5) / busy,
                chance.between(100.0, 120.0),
            );
            None
        }
        Shift::HiccupAfterRelease => {
            deploys.push(Deploy::new(starts_at - chance.between(40.0, 90.0), NEXT));
            lasts = Some(chance.between(100.0, 120.0));
            Some(slow_acquirer(&mut chance, (0.5, 0.7)))
        }
        Shift::DailyReport => {
            jobs.push(Job {
                path: "/reports/daily".into(),
                at: starts_at,
                lasts: LEFT,
                rate: rate * chance.between(0.022, 0.03),
            });
            None
        }
        Shift::SlowQuery => {
            // More work than the connections of an instance can hold.
            let held = f64::from(POOL_SIZE) * chance.between(1.1, 1.5);
            Some(Fault::SlowQuery {
                query: ITEM_QUERY.into(),
                factor: held / (here * SHARES[1] * Time::about(ITEM_QUERY_TIME).mean()),
            })
        }
        Shift::ConnectionLeak => {
            let queries = here * (SHARES[1] + SHARES[2]);
            let exhausted_after = chance.between(60.0, 140.0);
            Some(Fault::ConnectionLeak {
                pool: POOL.into(),
                share: f64::from(POOL_SIZE) / (queries * exhausted_after),
            })
        }
        Shift::CacheStampede => Some(Fault::CacheStampede {
            cache: "merchants".into(),
            ttl: *chance.pick(&[20.0, 30.0]),
            fill_factor: chance.between(60.0, 110.0),
        }),
        Shift::LockContention => {
            let held = chance.between(1.0, 1.2);
            Some(Fault::LockContention {
                lock: "limits".into(),
                factor: held / (here * SHARES[2] * LOCKED),
            })
        }
        Shift::Deadlock => Some(Fault::Deadlock {
            first: "limits".into(),
            second: "balances".into(),
        }),
        Shift::SlowDependency => Some(slow_acquirer(&mut chance, (0.2, 0.45))),
        Shift::RetryStorm => {
            let network = service
                .dependencies
                .iter_mut()
                .find(|dependency| dependency.name == CARD_NETWORK)
                .expect("the service has one");
            // A sixth of it is used; eight attempts for each call are more than all of it.
            network.capacity = 1;
            network.timeout = Some(0.8);
            Some(Fault::RetryStorm {
                dependency: CARD_NETWORK.into(),
                factor: chance.between(25.0, 35.0),
                trigger: chance.between(90.0, 150.0),
                attempts: 8,
            })
        }
        Shift::BadDeploy => Some(Fault::BadDeploy {
            version: NEXT.into(),
            stagger: 40.0,
            compute_factor: chance.between(1.1, 1.3) / busy,
            allocation_factor: chance.between(1.5, 4.0),
            error_share: 0.0,
        }),
        Shift::NoisyTenant => Some(Fault::NoisyTenant {
            tenant: chance.pick(&TENANTS).0.into(),
            rate: rate * (chance.between(1.1, 1.25) / busy - 1.0),
        }),
        Shift::TrafficSurge => Some(Fault::TrafficSurge {
            factor: chance.between(1.1, 1.25) / busy,
        }),
    };
    // Something that looks guilty and is not: a release some minutes before.
    let released = matches!(shift, Shift::BadDeploy | Shift::HiccupAfterRelease);
    if !released && chance.happens(0.5) {
        let before = chance.between(120.0, 600.0);
        deploys.push(Deploy::new(libm::floor(starts_at - before), "4.11.3"));
    }
    // Somewhere in 2025, at any time.
    let minutes = i64::try_from(chance.whole(0, 360 * 1_440)).expect("a small number");
    let mut setup = Setup::new(service, load, seed)
        .beginning(1_735_689_600 + 60 * minutes)
        .lasting(starts_at + left);
    setup.uptime_days = chance.between(1.0, 12.0);
    setup.trace_one_in = 0;
    setup.deploys = deploys;
    setup.jobs = jobs;
    setup.scenarios = fault
        .map(|fault| Scenario {
            fault,
            starts_at,
            lasts,
        })
        .into_iter()
        .collect();
    setup
}

/// The kind of the shift that belongs to a seed, for practice: each fifth is an alarm that needs
/// nobody.
pub fn of_seed(seed: u64) -> Shift {
    let mut chance = Chance::of(seed ^ 0x5EED);
    if chance.happens(0.2) {
        *chance.pick(&Shift::ALARMS)
    } else {
        *chance.pick(&Shift::INCIDENTS)
    }
}

/// The files that a shift leaves for practice: `metrics.om` from eight minutes before its trouble to
/// ten minutes after it, a sample every 30 s, without what only other labs look at; and `logs.jsonl`
/// from one minute before to three after.
pub fn files(setup: &Setup, run: &Run) -> Vec<(String, String)> {
    const LEFT_OUT: [&str; 13] = [
        "db_pool_acquire_duration_seconds",
        "db_query_errors",
        "heap_live_bytes",
        "log_buffer_lines",
        "log_lines",
        "log_lines_dropped",
        "log_lines_shipped",
        "mutex_contentions",
        "process_allocated_bytes",
        "process_max_fds",
        "process_open_fds",
        "worker_queue_wait_seconds",
        "worker_task_duration_seconds",
    ];
    let scenarios = setup.scenarios.iter().map(|scenario| scenario.starts_at);
    let jobs = setup.jobs.iter().map(|job| job.at);
    let spikes = setup.load.spikes.iter().map(|spike| spike.at);
    let trouble = scenarios.chain(jobs).chain(spikes).next();
    #[expect(clippy::cast_possible_truncation, reason = "seconds of a window")]
    let trouble = setup.begins + trouble.unwrap_or(setup.duration - LEFT) as i64;
    let kept = |line: &&str| {
        let at = line.rsplit(' ').next().and_then(|at| {
            let (seconds, _) = at.split_once('.')?;
            seconds.parse::<i64>().ok()
        });
        let within = |at: i64| (trouble - 480..trouble + 600).contains(&at) && at / 15 % 2 == 0;
        line.starts_with('#') || at.is_some_and(within)
    };
    let metrics = run.openmetrics_of(|series| !LEFT_OUT.contains(&series.family().name));
    let metrics: String = metrics
        .lines()
        .filter(kept)
        .map(|line| format!("{line}\n"))
        .collect();
    let (from, to) = (
        format!("{{\"time\":\"{}", rfc3339_millis(1_000 * (trouble - 60))),
        format!("{{\"time\":\"{}", rfc3339_millis(1_000 * (trouble + 180))),
    );
    // Times of one width, at the beginning of each line, sort as texts do.
    let logs = run
        .logs()
        .lines()
        .filter(|line| (from.as_str()..to.as_str()).contains(line));
    let logs: String = logs.map(|line| format!("{line}\n")).collect();
    vec![("metrics.om".into(), metrics), ("logs.jsonl".into(), logs)]
}

fn slow_acquirer(chance: &mut Chance, share: (f64, f64)) -> Fault {
    Fault::SlowDependency {
        dependency: CARD_NETWORK.into(),
        share: chance.between(share.0, share.1),
        median: chance.between(2.0, 4.0),
        sigma: chance.between(0.6, 0.9),
    }
}

/// Seconds of a core for each request, on average.
fn compute_seconds() -> f64 {
    SHARES
        .iter()
        .zip(COMPUTE)
        .map(|(share, time)| share * Time::about(time).mean())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::simulate;

    #[test]
    fn the_truth_of_a_shift_is_the_cause_that_it_is_named_for() {
        for shift in Shift::INCIDENTS {
            let mut setup = drawn(shift, 3).metrics_only();
            setup.duration = setup.scenarios[0].starts_at + 60.0;
            let run = simulate(&setup);
            let truth = run.truth();
            assert_eq!(truth.cause, shift.cause(), "{shift:?}");
            let named = truth.affected.as_ref().map(names_of).unwrap_or_default();
            for name in &named {
                assert!(sentence(shift, truth).contains(name), "{shift:?}");
            }
        }
        for shift in Shift::ALARMS.into_iter().chain(Shift::CALM) {
            assert_eq!(shift.cause(), Cause::None, "{shift:?}");
        }
    }

    #[test]
    fn the_traffic_of_a_shift_is_its_own_and_the_seed_gives_it_again() {
        let rate = |seed| drawn(Shift::SlowQuery, seed).load.high;
        assert!((rate(1) - rate(2)).abs() > 0.1);
        assert_eq!(drawn(Shift::SlowQuery, 1), drawn(Shift::SlowQuery, 1));
    }

    #[test]
    fn the_fixture_is_what_the_shift_of_the_brief_leaves() {
        let setup = canonical();
        let folder = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../fixtures/17-production/17-6-1-latency-runbook"
        );
        for (name, text) in files(&setup, &simulate(&setup)) {
            let path = std::path::Path::new(folder).join(&name);
            if std::env::var_os("NIGHTSHIFT_WRITE_FIXTURES").is_some() {
                std::fs::write(&path, &text).expect("the folder is there");
            }
            let stored = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(
                stored == text,
                "{name} is another one: run this test with NIGHTSHIFT_WRITE_FIXTURES=1"
            );
        }
    }
}
