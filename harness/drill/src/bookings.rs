//! Hours of a booking service, for alerts that are to tell symptoms from causes.
//!
//! Three instances, each with its pools of database connections, simulated by
//! [`incident::service`] for an hour and a quarter: long enough for a query to look back
//! half an hour before anything happens. What it exposes has the names of its metrics endpoint
//! ([`scenario`] says which), labels `job` and `instance`, and is scraped every 15 s.
//!
//! Not the model of a service for other purposes: that is `incident::service::catalog`.

use std::collections::BTreeMap;

use incident::chance::Chance;
use incident::service::{
    Dependency, Deploy, Fault, Job, Load, Pool, Route, Run, Scenario as Happening, Service, Setup,
    Step, Tier, Time, simulate,
};
use promql::{Labels, Storage};
use telemetry::metrics::Kind;

use crate::alerts::{Allowed, Due, Incident, Scenario, Span, Wanted};

/// What happens in the hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hour {
    /// Nothing.
    Quiet,
    /// Much traffic, all the time, and the usual few errors: many in number.
    Busy,
    /// Twice the usual traffic for twenty minutes.
    Double,
    /// Three and a half times the usual traffic, for less than a minute.
    Burst,
    /// A release that changes nothing; counters begin again at zero.
    Release,
    /// Payments are slow for a minute.
    SlowMinute,
    /// The pool of the reports has no free connection for less than two minutes.
    FullMinute,
    /// One instance of three gets a release of which every fourth answer fails, for a minute.
    FailedCanary,
    /// Hardly any traffic for eight minutes, and the usual traffic again.
    Lull,
    /// Payments take longer, and the p99 stays below a second.
    SlowerPayments,
    /// One instance of three gets few requests, and many of these are slow: three answers of the
    /// service in a thousand.
    SlowCanary,
    /// Pools of other sizes: of the ten connections for bookings one is free, the others being held
    /// by locks, and the reports have two, which are free.
    FewFree,
    /// One instance of three gets few requests, and almost half of these fail: two percent of all
    /// answers.
    FailingCanary,
    /// One answer in twenty waits for payments, for twenty minutes.
    SlowPayments,
    /// Two answers in a hundred take somewhat more than a second.
    SomeSlowPayments,
    /// Seven to nine percent of the answers fail.
    ManyErrors,
    /// The same, at night: few requests.
    ManyErrorsAtNight,
    /// Two to three percent of the answers fail.
    SomeErrors,
    /// One instance of three fails often: three percent of all answers.
    BadInstance,
    /// On one of three instances the connections of the reports are not given back. Hardly any user
    /// asks for reports.
    LeakedConnections,
    /// Four to five times the traffic. The service copes.
    Surge,
}

impl Hour {
    /// All of them, those in which nothing has to be said first.
    pub const ALL: [Hour; 21] = [
        Hour::Quiet,
        Hour::Busy,
        Hour::Double,
        Hour::Burst,
        Hour::Release,
        Hour::SlowMinute,
        Hour::FullMinute,
        Hour::FailedCanary,
        Hour::Lull,
        Hour::SlowerPayments,
        Hour::SlowCanary,
        Hour::FewFree,
        Hour::SlowPayments,
        Hour::SomeSlowPayments,
        Hour::ManyErrors,
        Hour::ManyErrorsAtNight,
        Hour::SomeErrors,
        Hour::BadInstance,
        Hour::FailingCanary,
        Hour::LeakedConnections,
        Hour::Surge,
    ];
}

/// The name of the service, as `job` has it.
pub const JOB: &str = "bookings";

/// When what happens begins, in seconds from the beginning of the metrics.
const BEGINS: f64 = 3_000.0;
/// How long an incident lasts, in seconds.
const LASTS: f64 = 1_200.0;
/// How long the metrics go on, in seconds.
const DURATION: f64 = 4_500.0;
/// When rules begin to be evaluated.
const EVALUATED_FROM: f64 = 2_700.0;

const INSTANCES: usize = 3;
/// The share of the requests that an instance gets which is being tried out.
const OF_THE_CANARY: f64 = 0.05;

const MINUTE: i64 = 60_000;

/// An hour made from a seed. Its metrics are `requests_total` and `requests_failed_total`,
/// `request_duration_seconds` (a histogram with buckets), and, by `pool`,
/// `db_connection_pool_available` and `db_connection_pool_size`.
pub fn scenario(hour: Hour, seed: u64) -> Scenario {
    let mut chance = Chance::of(seed ^ 0x00B0_0C1E);
    let rate = match hour {
        Hour::Busy => chance.between(36.0, 39.0),
        Hour::ManyErrorsAtNight => chance.between(6.5, 7.5),
        Hour::Surge => chance.between(5.5, 7.5),
        Hour::SomeErrors | Hour::SomeSlowPayments => chance.between(17.0, 20.0),
        _ => chance.between(9.5, 12.5),
    };
    let mut load = Load::constant(rate).noise(0.04);
    let mut deploys = Vec::new();
    let mut jobs = Vec::new();
    let mut faults: Vec<(Fault, f64)> = Vec::new();
    let mut happened: Vec<(f64, String)> = Vec::new();
    let release = |error_share, stagger| Fault::BadDeploy {
        version: "5.3.0".into(),
        stagger,
        compute_factor: 1.0,
        allocation_factor: 1.0,
        error_share,
    };
    let mut alone = None;
    // As if the second instance came after the end of the world.
    let only_one = 1e6;
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let title = match hour {
        Hour::Quiet => "nothing happens".to_owned(),
        Hour::Busy => "a busy evening, with the usual few errors".to_owned(),
        Hour::Double => {
            load = load.spike(BEGINS, chance.between(1.9, 2.1), LASTS);
            happened.push((BEGINS, "twice the traffic".into()));
            happened.push((BEGINS + LASTS, "the usual traffic".into()));
            "twice the usual traffic".to_owned()
        }
        Hour::Burst => {
            let lasts = chance.between(45.0, 55.0);
            load = load.spike(BEGINS, chance.between(3.3, 3.7), lasts);
            happened.push((BEGINS, "three and a half times the traffic".into()));
            happened.push((BEGINS + lasts, "the usual traffic".into()));
            "a burst of requests, for less than a minute".to_owned()
        }
        Hour::Release => {
            deploys.push(Deploy::new(BEGINS, "5.3.0"));
            happened.push((BEGINS, "release 5.3.0, one instance after the other".into()));
            "a release that changes nothing".to_owned()
        }
        Hour::SlowMinute => {
            let share = chance.between(0.53, 0.59);
            faults.push((slow_payments(share, 2.2), 60.0));
            happened.push((BEGINS, "payments are slow".into()));
            happened.push((BEGINS + 60.0, "payments are fast again".into()));
            "payments are slow for a minute".to_owned()
        }
        Hour::FullMinute => {
            let slow = Fault::SlowQuery {
                query: "daily_report".into(),
                factor: 160.0,
            };
            faults.push((slow, 65.0));
            jobs.push(Job {
                path: "/reports/daily".into(),
                at: BEGINS,
                lasts: 65.0,
                rate: 0.6,
            });
            happened.push((
                BEGINS,
                "reports are slow, and hold all their connections".into(),
            ));
            happened.push((BEGINS + 65.0, "reports are fast again".into()));
            "the connections of the reports are all lent, for less than two minutes".to_owned()
        }
        Hour::FailedCanary => {
            faults.push((release(chance.between(0.23, 0.27), only_one), 60.0));
            happened.push((BEGINS, "release 5.3.0 on one instance, which fails".into()));
            happened.push((BEGINS + 60.0, "it is taken back".into()));
            "a release on one instance, taken back after a minute".to_owned()
        }
        Hour::Lull => {
            let lasts = 480.0;
            load = load.spike(BEGINS, chance.between(0.22, 0.26), lasts);
            happened.push((BEGINS, "a quarter of the traffic".into()));
            happened.push((BEGINS + lasts, "the usual traffic".into()));
            "a lull of eight minutes, and the usual traffic again".to_owned()
        }
        Hour::SlowerPayments => {
            let share = chance.between(0.36, 0.44);
            faults.push((slow_payments(share, 0.55), LASTS));
            happened.push((BEGINS, "payments take half a second more".into()));
            happened.push((BEGINS + LASTS, "payments are as fast as before".into()));
            "payments take longer, and the p99 is below a second".to_owned()
        }
        Hour::SlowCanary => {
            let slow = slow_payments(chance.between(0.5, 0.6), 5.0);
            alone = Some((OF_THE_CANARY, slow, LASTS));
            happened.push((BEGINS, "an instance with few requests is slow".into()));
            happened.push((BEGINS + LASTS, "it is as fast as the others".into()));
            "an instance that gets few requests is slow: 0.3 % of all answers".to_owned()
        }
        Hour::FailingCanary => {
            let share = chance.between(0.42, 0.46);
            let of_all = percent(share * OF_THE_CANARY);
            alone = Some((OF_THE_CANARY, release(share, 15.0), LASTS));
            happened.push((
                BEGINS,
                format!("an instance with few requests fails: {of_all} of all"),
            ));
            happened.push((BEGINS + LASTS, "it fails no more".into()));
            format!("an instance that gets few requests fails: {of_all} of all answers")
        }
        Hour::FewFree => {
            happened.push((
                EVALUATED_FROM,
                "all the time, locks hold nine of ten connections for bookings".into(),
            ));
            happened.push((EVALUATED_FROM, "the reports have two connections".into()));
            "one connection of ten is free, and two of two".to_owned()
        }
        Hour::SomeSlowPayments => {
            let share = chance.between(0.17, 0.18);
            faults.push((slow_payments(share, 1.4), LASTS));
            happened.push((BEGINS, "payments take a second and a half".into()));
            happened.push((BEGINS + LASTS, "payments are fast again".into()));
            "two answers in a hundred take 1.4 s".to_owned()
        }
        Hour::SlowPayments => {
            let share = chance.between(0.36, 0.44);
            faults.push((slow_payments(share, 2.2), LASTS));
            if chance.happens(0.5) {
                deploys.push(Deploy::new(BEGINS + 200.0, "5.2.8"));
            }
            happened.push((BEGINS, "payments take more than two seconds".into()));
            happened.push((BEGINS + LASTS, "payments are fast again".into()));
            "one answer in twenty waits for payments".to_owned()
        }
        Hour::ManyErrors | Hour::ManyErrorsAtNight => {
            let share = chance.between(0.07, 0.09);
            faults.push((release(share, 15.0), LASTS));
            happened.push((
                BEGINS,
                format!("release 5.3.0, {} of errors", percent(share)),
            ));
            happened.push((BEGINS + LASTS, "it is taken back".into()));
            format!("{} of the answers are errors", percent(share))
        }
        Hour::SomeErrors => {
            let share = chance.between(0.022, 0.03);
            faults.push((release(share, 15.0), LASTS));
            happened.push((
                BEGINS,
                format!("release 5.3.0, {} of errors", percent(share)),
            ));
            happened.push((BEGINS + LASTS, "it is taken back".into()));
            format!("{} of the answers are errors", percent(share))
        }
        Hour::BadInstance => {
            let share = chance.between(0.08, 0.1);
            faults.push((release(share, only_one), LASTS));
            let of_all = percent(share / 3.0);
            happened.push((
                BEGINS,
                format!("release 5.3.0 on one of three instances, {of_all} of all fail"),
            ));
            happened.push((BEGINS + LASTS, "it is taken back".into()));
            format!("one of three instances fails: {of_all} of all answers")
        }
        Hour::LeakedConnections => {
            let leak = Fault::ConnectionLeak {
                pool: "reports".into(),
                share: 1.0,
            };
            // As many requests as each of the two others gets.
            alone = Some((0.5, leak, LASTS + 600.0));
            happened.push((
                BEGINS,
                "on an instance reports no longer give their connections back".into(),
            ));
            "on one of three instances the reports' connections are never given back".to_owned()
        }
        Hour::Surge => {
            let factor = chance.between(4.2, 4.6);
            load = load.spike(BEGINS, factor, LASTS);
            happened.push((BEGINS, format!("{factor:.1} times the traffic")));
            happened.push((BEGINS + LASTS, "the usual traffic".into()));
            format!("{factor:.1} times the usual traffic")
        }
    };

    let begins = Setup::new(service(1), load.clone(), seed).begins
        + 86_400 * i64::try_from(chance.whole(0, 200)).expect("a few months");
    let play = |instances: usize, load: Load, faults: Vec<(Fault, f64)>, seed: u64| {
        let mut service = service(instances);
        if hour == Hour::FewFree {
            for pool in &mut service.pools {
                (pool.size, pool.held) = match pool.name.as_str() {
                    "reports" => (2, 0),
                    _ => (pool.size, pool.size - 1),
                };
            }
        }
        let mut setup = Setup::new(service, load, seed)
            .beginning(begins)
            .lasting(DURATION)
            .metrics_only();
        setup.deploys.clone_from(&deploys);
        setup.jobs.clone_from(&jobs);
        setup.scenarios = faults
            .into_iter()
            .map(|(fault, lasts)| Happening::new(fault, BEGINS).lasting(lasts))
            .collect();
        simulate(&setup)
    };
    let runs = match alone {
        None => vec![play(INSTANCES, load, faults, seed)],
        Some((share, fault, lasts)) => {
            let own = Load::constant(rate * share).noise(0.04);
            vec![
                play(INSTANCES - 1, load, faults, seed),
                play(1, own, vec![(fault, lasts)], seed ^ 0xCA_0A21 << 32),
            ]
        }
    };
    let at = |seconds: f64| begins * 1_000 + milliseconds(seconds);
    let (due, allowed) = expected(hour, at(BEGINS), at(BEGINS + LASTS));
    Scenario {
        title,
        storage: exposed(&runs),
        within: Span::new(at(EVALUATED_FROM), at(DURATION)),
        origin_ms: at(BEGINS),
        happened: happened
            .into_iter()
            .map(|(seconds, what)| (at(seconds), what))
            .collect(),
        due,
        allowed,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "seconds of a few hours")]
fn milliseconds(seconds: f64) -> i64 {
    (seconds * 1e3).round() as i64
}

/// Alerts by the golden signal that they are about, and by severity.
pub fn about(signal: &str, severity: &str) -> Wanted {
    Wanted::any()
        .with("signal", signal)
        .with("severity", severity)
}

fn expected(hour: Hour, begins_ms: i64, ends_ms: i64) -> (Vec<Due>, Vec<Allowed>) {
    // A window that holds the end of an incident may be looked at for a while.
    let until_ms = ends_ms + 10 * MINUTE;
    let due = |signal, severity, minutes: i64| Due {
        wanted: about(signal, severity),
        incident: Incident {
            begins_ms,
            due_ms: begins_ms + minutes * MINUTE,
            until_ms,
        },
    };
    let may = |signal, severity| Allowed {
        wanted: about(signal, severity),
        within: Span::new(begins_ms, until_ms),
    };
    match hour {
        Hour::Quiet
        | Hour::Busy
        | Hour::Double
        | Hour::Burst
        | Hour::Release
        | Hour::SlowMinute
        | Hour::FullMinute
        | Hour::Lull
        | Hour::SlowerPayments
        | Hour::SlowCanary
        | Hour::FewFree => (vec![], vec![]),
        Hour::FailedCanary => (vec![], vec![may("errors", "warning")]),
        Hour::SlowPayments | Hour::SomeSlowPayments => {
            (vec![due("latency", "critical", 12)], vec![])
        }
        Hour::ManyErrors | Hour::ManyErrorsAtNight => (
            vec![due("errors", "critical", 10)],
            vec![may("errors", "warning")],
        ),
        Hour::SomeErrors | Hour::BadInstance | Hour::FailingCanary => {
            (vec![due("errors", "warning", 15)], vec![])
        }
        Hour::LeakedConnections => (vec![due("saturation", "warning", 20)], vec![]),
        Hour::Surge => (vec![due("traffic", "warning", 10)], vec![]),
    }
}

/// Of the payments, a share takes some seconds.
fn slow_payments(share: f64, median: f64) -> Fault {
    Fault::SlowDependency {
        dependency: "payments".into(),
        share,
        median,
        sigma: if median < 2.0 { 0.12 } else { 0.25 },
    }
}

fn service(instances: usize) -> Service {
    let about = Time::about;
    Service::new(JOB)
        .instances(instances)
        .cores(2)
        .version("5.2.7")
        .tier(Tier::new("http", 64).queue(256))
        .dependency(Dependency::new("postgres", 60))
        .dependency(Dependency::new("payments", 400).timeout(20.0))
        .pool(Pool::new("bookings", 10, "postgres").acquire_timeout(5.0))
        .pool(Pool::new("reports", 3, "postgres").acquire_timeout(25.0))
        .route(Route::new("GET", "/rooms", 0.62).steps([
            Step::compute(about(0.004)),
            Step::query("bookings", "search_rooms", about(0.018)),
        ]))
        .route(Route::new("GET", "/bookings/{id}", 0.251).steps([
            Step::compute(about(0.003)),
            Step::query("bookings", "find_booking", about(0.009)),
        ]))
        .route(Route::new("POST", "/bookings", 0.125).steps([
            Step::compute(about(0.005)),
            Step::query("bookings", "insert_booking", about(0.022)),
            Step::call("payments", about(0.09)),
        ]))
        .route(Route::new("GET", "/reports/daily", 0.004).steps([
            Step::compute(about(0.004)),
            Step::query("reports", "daily_report", about(0.12)),
        ]))
        .errors(0.0015)
}

/// The metrics of some runs under the names of the service's endpoint, summed over what it does not
/// tell apart.
fn exposed(runs: &[Run]) -> Storage {
    type Samples = BTreeMap<i64, f64>;
    let mut exposed: BTreeMap<Labels, Samples> = BTreeMap::new();
    let mut add = |labels: Labels, samples: &[(i64, f64)], sign: f64| {
        let into = exposed.entry(labels).or_default();
        for &(at, value) in samples {
            *into.entry(at).or_insert(0.0) += sign * value;
        }
    };
    for series in runs.iter().flat_map(Run::series) {
        let label = |name: &str| series.labels().get(name).unwrap_or_default();
        let target = [("job", JOB), ("instance", label("instance"))];
        let named = |name: &str| Labels::named(name, target);
        let samples = series.samples();
        match series.name() {
            "http_requests_total" => {
                add(named("requests_total"), samples, 1.0);
                let failed = if label("status").starts_with('5') {
                    1.0
                } else {
                    0.0
                };
                add(named("requests_failed_total"), samples, failed);
            }
            "http_request_duration_seconds_bucket" => {
                let labels = named("request_duration_seconds_bucket").with("le", label("le"));
                add(labels, samples, 1.0);
            }
            "http_request_duration_seconds_sum" => {
                add(named("request_duration_seconds_sum"), samples, 1.0);
            }
            "http_request_duration_seconds_count" => {
                add(named("request_duration_seconds_count"), samples, 1.0);
            }
            "db_pool_connections" => {
                let pool = label("pool");
                add(
                    named("db_connection_pool_size").with("pool", pool),
                    samples,
                    1.0,
                );
                add(
                    named("db_connection_pool_available").with("pool", pool),
                    samples,
                    1.0,
                );
            }
            "db_pool_connections_in_use" => {
                let pool = label("pool");
                add(
                    named("db_connection_pool_available").with("pool", pool),
                    samples,
                    -1.0,
                );
            }
            "up" => add(named("up"), samples, 1.0),
            _ => {}
        }
    }
    let mut storage = Storage::new();
    for (labels, samples) in exposed {
        let samples = samples
            .into_iter()
            .map(|(at, value)| (labels.clone(), at, value));
        storage
            .append_all(samples)
            .expect("samples of a run are in order");
    }
    for counter in [
        "requests_total",
        "requests_failed_total",
        "request_duration_seconds_bucket",
        "request_duration_seconds_sum",
        "request_duration_seconds_count",
    ] {
        storage.set_kind(counter, Kind::Counter);
    }
    for gauge in [
        "db_connection_pool_size",
        "db_connection_pool_available",
        "up",
    ] {
        storage.set_kind(gauge, Kind::Gauge);
    }
    storage
}

#[cfg(test)]
mod tests {
    use promql::{Engine, Query};

    use super::*;

    fn value(scenario: &Scenario, query: &str, seconds: i64) -> f64 {
        let at_ms = scenario.origin_ms + seconds * 1_000;
        let query = Query::parse(query).unwrap();
        let answer = Engine::default()
            .instant(&scenario.storage, &query, at_ms)
            .unwrap();
        answer.value.single().unwrap_or(f64::NAN)
    }

    const ERRORS: &str = "sum(rate(requests_failed_total[5m])) / sum(rate(requests_total[5m]))";
    const P99: &str =
        "histogram_quantile(0.99, sum by (le) (rate(request_duration_seconds_bucket[5m])))";

    #[test]
    fn each_hour_is_what_its_title_says() {
        for seed in [1, 2] {
            let at = |hour, query, seconds| value(&scenario(hour, seed), query, seconds);
            assert!(at(Hour::Quiet, P99, 900) < 0.5);
            assert!(at(Hour::SlowPayments, P99, 900) > 1.0);
            assert!(at(Hour::Busy, ERRORS, 900) < 0.005);
            let many = at(Hour::ManyErrorsAtNight, ERRORS, 900);
            assert!(many > 0.055, "{many}");
            let some = at(Hour::SomeErrors, ERRORS, 900);
            assert!((0.015..0.045).contains(&some), "{some}");
            let of_three = at(Hour::BadInstance, ERRORS, 900);
            assert!((0.015..0.045).contains(&of_three), "{of_three}");
            let surge = "sum(rate(requests_total[5m])) / sum(rate(requests_total[30m] offset 15m))";
            assert!(at(Hour::Surge, surge, 600) > 3.5);
            assert!(at(Hour::Double, surge, 600) < 2.6);
            let empty = "count(db_connection_pool_available{pool=\"reports\"} == 0)";
            assert_eq!(at(Hour::LeakedConnections, empty, 900), 1.0);
            let few = "max(max_over_time(db_connection_pool_available[20m]))";
            assert_eq!(at(Hour::FewFree, few, 900), 2.0);
            let none = "max(count_over_time((db_connection_pool_available == 0)[20m:15s]))";
            let never = at(Hour::FewFree, none, 900);
            assert!(never < 20.0, "{never} of 80 scrapes");
            assert!(at(Hour::FewFree, P99, 900) < 0.5);
            assert!(at(Hour::LeakedConnections, ERRORS, 900) < 0.01);
            assert!(at(Hour::LeakedConnections, P99, 900) < 1.0);
            let slower = at(Hour::SlowerPayments, P99, 900);
            assert!((0.7..0.97).contains(&slower), "{slower}");
            let some_slow = at(Hour::SomeSlowPayments, P99, 900);
            assert!((1.4..1.95).contains(&some_slow), "{some_slow}");
            let lull = "sum(rate(requests_total[2m])) / min_over_time(\
                        sum(rate(requests_total[2m]))[30m:1m])";
            assert!(at(Hour::Lull, lull, 620) > 3.3);
            assert!(at(Hour::Lull, surge, 620) < 1.5);
        }
    }

    #[test]
    fn what_an_instance_with_few_requests_does_is_little_of_the_whole() {
        let own = "histogram_quantile(0.99, rate(request_duration_seconds_bucket[5m]))";
        let ratio = "rate(requests_failed_total[5m]) / rate(requests_total[5m])";
        for seed in [1, 2, 3] {
            let at = |hour, query: &str| value(&scenario(hour, seed), query, 900);
            assert!(at(Hour::SlowCanary, P99) < 0.5);
            assert!(at(Hour::SlowCanary, &format!("avg({own})")) > 1.5);
            let errors = at(Hour::FailingCanary, ERRORS);
            assert!((0.015..0.03).contains(&errors), "{errors}");
            assert!(at(Hour::FailingCanary, &format!("avg({ratio})")) > 0.1);
        }
    }

    #[test]
    fn counters_begin_again_with_a_release() {
        let resets = value(
            &scenario(Hour::Release, 1),
            "count(resets(requests_total[10m]) > 0)",
            400,
        );
        assert_eq!(resets, 3.0);
    }
}
