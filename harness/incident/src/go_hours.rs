//! Some hours of the inside of a Go service that keeps connections open: goroutines, locks, pauses of
//! the collector, and a pool.
//!
//! For dashboards of the runtime. Each connection has two goroutines and each request one, so that
//! goroutines come and go with the day; what is left over is the pool, the runtime, and what has
//! leaked. A model of curves and noise, not of requests: how many locks are taken and how long they
//! are waited for is drawn as a whole for each scrape. For services whose parts hold each other up
//! see [`crate::service`].
//!
//! ```
//! use incident::go_hours::{Case, simulate};
//!
//! let run = simulate(Case::Leak, 3);
//! let goroutines = run.series().find(|series| series.name() == "go_goroutines").unwrap();
//! assert_eq!(goroutines.samples().len(), 481);
//! assert!(run.leaked_at_end() > 300.0);
//! ```

use crate::chance::Chance;
use crate::service::registry::{self, Labels};
use crate::service::{Family, Kind, Series};

/// Seconds from one scrape to the next.
pub const SCRAPE: u64 = 30;
/// How long a run lasts, in seconds.
pub const DURATION: f64 = 4.0 * HOUR;
/// When what happens begins, in seconds from the beginning.
pub const STARTS_AT: f64 = 1.5 * HOUR;
/// When it is over, in hours in which it is mended.
pub const MENDED_AT: f64 = 2.75 * HOUR;
/// Goroutines of the pool.
pub const POOL: f64 = 64.0;
/// Goroutines for each open connection: one reads, one writes.
pub const PER_CONNECTION: f64 = 2.0;
/// Upper bounds of the histograms, in seconds.
pub const BOUNDS: [f64; 13] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0,
];

const HOUR: f64 = 3_600.0;
/// Goroutines of the runtime and of the service's own timers and listeners.
const OWN: f64 = 42.0;
/// Of the connections, how many have a request under way.
const IN_FLIGHT: f64 = 0.012;
/// Requests a second for each connection.
const REQUESTS: f64 = 0.5;
/// Two a collection, and one collection in ten seconds.
const PAUSES_EACH_SECOND: f64 = 0.2;
/// How often a request takes a lock: the one of the sessions, and that of the rooms.
const TAKEN: [f64; 2] = [0.4, 40.0];

/// How long requests, pauses and waits for a lock take on a usual day.
const ANSWERED: Spread = Spread {
    median: 0.018,
    sigma: 0.6,
};
const PAUSED: Spread = Spread {
    median: 0.000_3,
    sigma: 0.55,
};
const WAITED: Spread = Spread {
    median: 0.000_02,
    sigma: 1.1,
};

/// What kind of hours they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Case {
    /// Healthy: the morning, in which connections triple.
    Morning,
    /// Healthy: the evening, in which they go.
    Evening,
    /// Healthy: twenty thousand connections, all the time.
    HighAndStable,
    /// Healthy: the process is replaced, and its clients come back within half an hour.
    Restart,
    /// Healthy: some hundred requests more, for eight minutes.
    Burst,
    /// Healthy: the collector runs ten times as often, and its pauses are as short as before.
    OftenCollected,
    /// Healthy inside: another service is slow, and requests with it.
    SlowElsewhere,
    /// Healthy: the pool has much to do.
    BusyPool,
    /// Goroutines that never end, a few each minute.
    Leak,
    /// The same in the morning.
    LeakInTheMorning,
    /// The same in the evening, in which more goroutines end than leak.
    LeakInTheEvening,
    /// One of the two locks is held for long.
    Contention,
    /// The same, and less: its p99 is between 5 and 10 ms.
    SlightContention,
    /// The collector's pauses are long.
    Pauses,
    /// One pause in ten is long. The mean is not.
    SomePauses,
    /// The goroutines of the pool have tasks, and wait for what those wait for.
    StuckPool,
    /// Requests pile up, each with its goroutine.
    Flood,
}

impl Case {
    /// Every case, the healthy ones first.
    pub const ALL: [Case; 17] = [
        Case::Morning,
        Case::Evening,
        Case::HighAndStable,
        Case::Restart,
        Case::Burst,
        Case::OftenCollected,
        Case::SlowElsewhere,
        Case::BusyPool,
        Case::Leak,
        Case::LeakInTheMorning,
        Case::LeakInTheEvening,
        Case::Contention,
        Case::SlightContention,
        Case::Pauses,
        Case::SomePauses,
        Case::StuckPool,
        Case::Flood,
    ];

    /// Whether something is wrong with the service itself, which somebody has to mend.
    pub fn is_incident(self) -> bool {
        self.leaks()
            || matches!(
                self,
                Case::Contention
                    | Case::SlightContention
                    | Case::Pauses
                    | Case::SomePauses
                    | Case::StuckPool
                    | Case::Flood
            )
    }

    /// Whether goroutines leak.
    pub fn leaks(self) -> bool {
        matches!(
            self,
            Case::Leak | Case::LeakInTheMorning | Case::LeakInTheEvening
        )
    }

    /// What happens, for a person.
    pub fn tells(self) -> &'static str {
        match self {
            Case::Morning => "the morning: connections triple",
            Case::Evening => "the evening: connections close",
            Case::HighAndStable => "twenty thousand connections, as always",
            Case::Restart => "a new process, to which clients come back",
            Case::Burst => "a burst of requests, for 8 minutes",
            Case::OftenCollected => "ten times as many collections, all short",
            Case::SlowElsewhere => "another service is slow",
            Case::BusyPool => "the pool has much to do",
            Case::Leak => "goroutines leak",
            Case::LeakInTheMorning => "goroutines leak while connections come",
            Case::LeakInTheEvening => "goroutines leak while connections go",
            Case::Contention => "one lock is held for long",
            Case::SlightContention => "one lock is held longer than it should be",
            Case::Pauses => "the collector pauses for long",
            Case::SomePauses => "one pause of the collector in ten is long",
            Case::StuckPool => "the pool's goroutines wait with their tasks",
            Case::Flood => "requests pile up",
        }
    }
}

/// Hours that have passed.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    case: Case,
    begins: i64,
    mended: bool,
    leaked: f64,
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
        self.begins * 1_000
    }

    /// The last moment, in milliseconds of Unix time.
    pub fn ends_ms(&self) -> i64 {
        self.begins_ms() + millis(DURATION)
    }

    /// When what happens begins, in milliseconds of Unix time.
    pub fn starts_at_ms(&self) -> i64 {
        self.begins_ms() + millis(STARTS_AT)
    }

    /// When it is over, in milliseconds of Unix time; `None` when it goes on to the end.
    pub fn mended_at_ms(&self) -> Option<i64> {
        self.mended.then(|| self.begins_ms() + millis(MENDED_AT))
    }

    /// Goroutines that have leaked and are there at the end.
    pub fn leaked_at_end(&self) -> f64 {
        self.leaked
    }
}

const fn family(name: &'static str, kind: Kind, help: &'static str) -> Family {
    Family { name, kind, help }
}

static GOROUTINES: Family = family(
    "go_goroutines",
    Kind::Gauge,
    "Number of goroutines that currently exist.",
);
static CONNECTIONS: Family = family("connections_open", Kind::Gauge, "Open connections.");
static IN_FLIGHT_REQUESTS: Family = family(
    "http_requests_in_flight",
    Kind::Gauge,
    "Requests that have no answer yet.",
);
static LATENCY: Family = family(
    "http_request_duration_seconds",
    Kind::Histogram,
    "From the arrival of a request to its answer.",
);
static LOCK_WAIT: Family = family(
    "lock_wait_seconds",
    Kind::Histogram,
    "How long goroutines waited for a lock, by lock.",
);
static PAUSES: Family = family(
    "go_gc_pauses_seconds",
    Kind::Histogram,
    "Pauses of the collector in which the world is stopped.",
);
static HEAP: Family = family(
    "go_memstats_heap_inuse_bytes",
    Kind::Gauge,
    "Bytes of the heap in use.",
);
static POOL_STATE: Family = family(
    "pool_goroutines",
    Kind::Gauge,
    "Goroutines of the pool by state: running, waiting_for_result, waiting_for_task.",
);
static STARTED: Family = family(
    "process_start_time_seconds",
    Kind::Gauge,
    "Start of the process, in Unix time.",
);
static UP: Family = family("up", Kind::Gauge, "Whether the last scrape succeeded.");

/// How long something takes: log-normal.
#[derive(Clone, Copy)]
struct Spread {
    median: f64,
    sigma: f64,
}

impl Spread {
    /// As wide, around another median.
    fn around(self, median: f64) -> Self {
        Spread { median, ..self }
    }

    /// The share that is at most `bound` seconds.
    fn within(self, bound: f64) -> f64 {
        let z = (libm::log(bound) - libm::log(self.median)) / self.sigma;
        0.5 * libm::erfc(-z / std::f64::consts::SQRT_2)
    }

    fn mean(self) -> f64 {
        self.median * libm::exp(self.sigma * self.sigma / 2.0)
    }
}

/// A histogram that counts since the start of the process.
#[derive(Clone, Default)]
struct Counted {
    buckets: [f64; BOUNDS.len()],
    all: f64,
    sum: f64,
}

impl Counted {
    fn add(&mut self, count: f64, spread: Spread) {
        for (bucket, bound) in self.buckets.iter_mut().zip(BOUNDS) {
            *bucket += count * spread.within(bound);
        }
        self.all += count;
        self.sum += count * spread.mean();
    }
}

/// One series under way: its family, the suffix of its name, its labels and samples.
type Column = (&'static Family, &'static str, Labels, Vec<(i64, f64)>);

/// Series under way.
struct Columns {
    instance: String,
    series: Vec<Column>,
    cursor: usize,
}

impl Columns {
    /// The next value of the series that is written at this place in every scrape.
    fn put(
        &mut self,
        at_ms: i64,
        family: &'static Family,
        suffix: &'static str,
        label: Option<(&'static str, &str)>,
        le: Option<f64>,
        value: f64,
    ) {
        if self.cursor == self.series.len() {
            let le = le.map(|le| {
                if le.is_finite() {
                    format!("{le:?}")
                } else {
                    "+Inf".to_owned()
                }
            });
            let mut labels = vec![("instance", self.instance.as_str()), ("job", "presence")];
            labels.extend(label);
            labels.extend(le.as_deref().map(|le| ("le", le)));
            let labels = Labels::of(labels);
            self.series.push((family, suffix, labels, Vec::new()));
        }
        self.series[self.cursor].3.push((at_ms, value));
        self.cursor += 1;
    }

    fn histogram(
        &mut self,
        at_ms: i64,
        family: &'static Family,
        label: Option<(&'static str, &str)>,
        counted: &Counted,
    ) {
        let whole = libm::floor;
        for (bucket, bound) in counted.buckets.iter().zip(BOUNDS) {
            self.put(at_ms, family, "_bucket", label, Some(bound), whole(*bucket));
        }
        let all = whole(counted.all);
        self.put(at_ms, family, "_bucket", label, Some(f64::INFINITY), all);
        self.put(at_ms, family, "_sum", label, None, counted.sum);
        self.put(at_ms, family, "_count", label, None, all);
    }
}

/// Hours of a kind that is drawn from the seed as well. Half of the incidents are mended in them.
pub fn drawn(seed: u64) -> Run {
    let mut chance = Chance::of(seed);
    let case = *chance.pick(&Case::ALL);
    if case.is_incident() && chance.happens(0.5) {
        simulate_mended(case, seed)
    } else {
        simulate(case, seed)
    }
}

/// Lets the hours pass. What happens goes on to the end.
pub fn simulate(case: Case, seed: u64) -> Run {
    pass(case, seed, f64::INFINITY)
}

/// The same hours until [`MENDED_AT`], when it is over: where goroutines leak, by a new process, to
/// which clients come back; otherwise, because the cause is gone.
pub fn simulate_mended(case: Case, seed: u64) -> Run {
    pass(case, seed, MENDED_AT)
}

fn pass(case: Case, seed: u64, ends: f64) -> Run {
    let mut chance = Chance::of(seed ^ 0x60_60_60);
    // Each kind of hours has its own part of the day.
    let hour = match case {
        Case::Morning | Case::LeakInTheMorning => chance.between(8.0, 8.5),
        Case::Evening | Case::LeakInTheEvening => chance.between(19.5, 20.0),
        _ => chance.between(13.0, 15.0),
    };
    let day = i64::try_from(chance.whole(0, 300)).expect("a small number");
    let begins = 1_735_689_600 + 86_400 * day + millis(hour * HOUR) / 30_000 * 30;
    let (low, high) = match case {
        Case::HighAndStable => {
            let level = chance.between(19_000.0, 21_000.0);
            (level * 0.995, level)
        }
        _ => (
            chance.between(560.0, 640.0),
            chance.between(2_100.0, 2_400.0),
        ),
    };
    let leak_each_minute = if case.leaks() {
        chance.between(3.0, 5.0)
    } else {
        0.0
    };
    let burst = chance.between(300.0, 450.0);
    let flood = chance.between(64_000.0, 70_000.0);
    let uptime = chance.between(1.0, 9.0) * 86_400.0;
    let host = chance.whole(2, 250);

    let mut columns = Columns {
        instance: format!("10.8.0.{host}:9100"),
        series: Vec::new(),
        cursor: 0,
    };
    let mut noises = [0.0; 4];
    let (mut latency, mut pauses) = (Counted::default(), Counted::default());
    let mut locks = [Counted::default(), Counted::default()];
    // The process has counted since its start.
    let so_far = f64::midpoint(low, high) * REQUESTS * uptime;
    latency.add(so_far, ANSWERED);
    pauses.add(PAUSES_EACH_SECOND * uptime, PAUSED);
    for (lock, each) in locks.iter_mut().zip(TAKEN) {
        lock.add(so_far * each, WAITED);
    }
    let replaced = match case {
        Case::Restart => STARTS_AT,
        _ if case.leaks() => ends,
        _ => f64::INFINITY,
    };
    let mut started = -uptime;
    let mut leaked = 0.0;
    #[expect(clippy::cast_precision_loss, reason = "a constant")]
    let step = SCRAPE as f64;
    let mut at = 0.0;
    while at <= DURATION {
        let happens = (STARTS_AT..ends).contains(&at);
        for noise in &mut noises {
            *noise = 0.8 * *noise + 0.6 * chance.normal();
        }
        if at >= replaced && started < 0.0 {
            started = replaced;
            leaked = 0.0;
            latency = Counted::default();
            pauses = Counted::default();
            locks = [Counted::default(), Counted::default()];
        }

        let wave =
            0.5 - 0.5 * libm::cos((hour + at / HOUR - 4.0) / 24.0 * 2.0 * std::f64::consts::PI);
        let mut connections = (low + (high - low) * wave) * (1.0 + 0.002 * noises[0]);
        if started > 0.0 {
            connections *= 1.0 - libm::exp(-(at - started + 5.0) / 480.0);
        }
        let connections = libm::floor(connections);
        let mut in_flight = connections * IN_FLIGHT * (1.0 + 0.15 * noises[1]);
        match case {
            Case::Burst if (STARTS_AT..STARTS_AT + 480.0).contains(&at) => in_flight += burst,
            Case::Flood if at >= STARTS_AT => {
                let share = |seconds: f64| libm::exp(-seconds.max(0.0) / 300.0);
                in_flight += flood * (share(at - ends) - share(at - STARTS_AT));
            }
            Case::SlowElsewhere if happens => in_flight *= 5.0,
            _ => {}
        }
        let in_flight = libm::floor(in_flight.max(0.0));
        if happens {
            leaked += leak_each_minute * step / 60.0;
        }
        let of_a_moment = libm::floor((3.0 + 2.0 * noises[2]).max(0.0));
        let goroutines = OWN
            + POOL
            + PER_CONNECTION * connections
            + in_flight
            + of_a_moment
            + libm::floor(leaked);

        let requests = connections * REQUESTS * step;
        let slow = case == Case::SlowElsewhere && happens;
        let long_pauses = case == Case::Pauses && happens;
        latency.add(
            requests,
            if slow {
                ANSWERED.around(0.16)
            } else if long_pauses {
                ANSWERED.around(0.035)
            } else {
                ANSWERED
            },
        );
        let often = if case == Case::OftenCollected && happens {
            10.0
        } else {
            1.0
        };
        let long = match case {
            Case::Pauses if happens => 1.0,
            Case::SomePauses if happens => 0.1,
            _ => 0.0,
        };
        let paused = PAUSES_EACH_SECOND * often * step;
        pauses.add(paused * long, PAUSED.around(0.021));
        pauses.add(paused * (1.0 - long), PAUSED);
        let sessions = match case {
            Case::Contention if happens => WAITED.around(0.006),
            Case::SlightContention if happens => WAITED.around(0.000_65),
            _ => WAITED,
        };
        for ((lock, each), waited) in locks.iter_mut().zip(TAKEN).zip([sessions, WAITED]) {
            lock.add(requests * each, waited);
        }
        let night = connections / 2_400.0;
        let (running, with_task) = match case {
            Case::StuckPool if happens => (0.03, 0.95),
            Case::BusyPool if happens => (0.80, 0.12),
            _ => (0.32 * night.min(1.0), 0.10 * night.min(1.0)),
        };
        let of_pool = |share: f64| libm::floor(POOL * share * (1.0 + 0.03 * noises[3]) + 0.5);
        let with_task = of_pool(with_task).clamp(0.0, POOL);
        let running = of_pool(running).clamp(0.0, POOL - with_task);

        let at_ms = begins * 1_000 + millis(at);
        columns.cursor = 0;
        columns.put(at_ms, &GOROUTINES, "", None, None, goroutines);
        columns.put(at_ms, &CONNECTIONS, "", None, None, connections);
        columns.put(at_ms, &IN_FLIGHT_REQUESTS, "", None, None, in_flight);
        columns.histogram(at_ms, &LATENCY, None, &latency);
        for (lock, counted) in ["sessions", "rooms"].into_iter().zip(&locks) {
            columns.histogram(at_ms, &LOCK_WAIT, Some(("lock", lock)), counted);
        }
        columns.histogram(at_ms, &PAUSES, None, &pauses);
        let heap = if long_pauses { 5.4e9 } else { 2.1e9 } + 40_000.0 * goroutines;
        columns.put(at_ms, &HEAP, "", None, None, libm::floor(heap));
        for (state, value) in [
            ("running", running),
            ("waiting_for_result", with_task),
            ("waiting_for_task", POOL - running - with_task),
        ] {
            columns.put(at_ms, &POOL_STATE, "", Some(("state", state)), None, value);
        }
        #[expect(clippy::cast_precision_loss, reason = "Unix time in seconds")]
        let start = libm::floor(begins as f64 + started);
        columns.put(at_ms, &STARTED, "", None, None, start);
        columns.put(at_ms, &UP, "", None, None, 1.0);
        at += step;
    }
    let mut series: Vec<Series> = columns
        .series
        .into_iter()
        .map(|(family, suffix, labels, samples)| Series::of(family, suffix, labels, samples))
        .collect();
    registry::sort(&mut series);
    Run {
        case,
        begins,
        mended: ends < DURATION,
        leaked,
        series,
    }
}

fn millis(seconds: f64) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "some hours")]
    let millis = (seconds * 1_000.0) as i64;
    millis
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(run: &Run, name: &str) -> Vec<f64> {
        let series = run.series().find(|series| series.name() == name).unwrap();
        series.samples().iter().map(|&(_, value)| value).collect()
    }

    /// Goroutines that neither a connection nor a request accounts for.
    fn left_over(run: &Run) -> Vec<f64> {
        let (all, connections, requests) = (
            values(run, "go_goroutines"),
            values(run, "connections_open"),
            values(run, "http_requests_in_flight"),
        );
        (0..all.len())
            .map(|nth| all[nth] - PER_CONNECTION * connections[nth] - requests[nth])
            .collect()
    }

    #[test]
    fn only_a_leak_is_left_over() {
        for case in Case::ALL {
            for seed in 0..5 {
                let run = simulate(case, seed);
                let left = left_over(&run);
                let grown = left[left.len() - 1] - left[0];
                let expected = run.leaked_at_end();
                assert!(
                    (grown - expected).abs() < 15.0,
                    "{case:?} {seed}: {grown} {expected}"
                );
                assert_eq!(
                    expected > 400.0,
                    case.leaks(),
                    "{case:?} {seed}: {expected}"
                );
            }
        }
    }

    #[test]
    fn what_is_mended_is_over_and_nothing_else_is_changed() {
        for case in Case::ALL.into_iter().filter(|case| case.is_incident()) {
            let (goes_on, mended) = (simulate(case, 3), simulate_mended(case, 3));
            let quiet = simulate(Case::BusyPool, 3);
            assert_eq!(mended.mended_at_ms(), Some(mended.begins_ms() + 9_900_000));
            assert_eq!(goes_on.mended_at_ms(), None);
            for (one, other) in goes_on.series().zip(mended.series()) {
                assert_eq!(one.samples()[..330], other.samples()[..330], "{case:?}");
            }
            assert_eq!(mended.leaked_at_end(), 0.0);
            let left = left_over(&mended);
            assert!((left[480] - left[0]).abs() < 15.0, "{case:?}: {left:?}");
            let of_a_lock =
                |run: &Run| share_within(run, "lock_wait_seconds_bucket", None, "0.0025");
            let of_pauses =
                |run: &Run| share_within(run, "go_gc_pauses_seconds_bucket", None, "0.005");
            assert!((of_a_lock(&mended) - of_a_lock(&quiet)).abs() < 1e-3);
            assert!((of_pauses(&mended) - of_pauses(&quiet)).abs() < 1e-3);
            let goroutines = values(&mended, "go_goroutines");
            assert!(goroutines[480] < 8_000.0, "{case:?}: {}", goroutines[480]);
        }
    }

    #[test]
    fn the_day_moves_more_goroutines_than_a_leak() {
        for seed in 0..5 {
            let grown = |case| {
                let all = values(&simulate(case, seed), "go_goroutines");
                all[all.len() - 1] - all[180]
            };
            assert!(grown(Case::Morning) > 700.0, "{}", grown(Case::Morning));
            assert!(grown(Case::LeakInTheEvening) < -100.0);
            assert!(grown(Case::HighAndStable).abs() < 400.0);
        }
    }

    /// What a histogram with these labels counted in the last hour at most `bound` (as in `le`), as
    /// a share of all.
    fn share_within(run: &Run, name: &str, lock: Option<&str>, bound: &str) -> f64 {
        let grown = |le: &str| {
            let wanted = |series: &&Series| {
                let has = |name, value| series.label_pairs().any(|pair| pair == (name, value));
                series.name() == name && has("le", le) && lock.is_none_or(|lock| has("lock", lock))
            };
            let samples = run.series().find(wanted).unwrap().samples();
            samples[samples.len() - 1].1 - samples[samples.len() - 121].1
        };
        grown(bound) / grown("+Inf")
    }

    #[test]
    fn a_slightly_contended_lock_has_its_p99_between_5_and_10_ms() {
        for seed in 0..5 {
            let run = simulate(Case::SlightContention, seed);
            let within =
                |bound| share_within(&run, "lock_wait_seconds_bucket", Some("sessions"), bound);
            assert!(within("0.005") < 0.985, "{}", within("0.005"));
            assert!(within("0.01") > 0.99, "{}", within("0.01"));
        }
    }

    #[test]
    fn one_pause_in_ten_is_long() {
        for seed in 0..5 {
            let run = simulate(Case::SomePauses, seed);
            let within = share_within(&run, "go_gc_pauses_seconds_bucket", None, "0.005");
            assert!((within - 0.9).abs() < 0.01, "{within}");
        }
    }

    #[test]
    fn what_was_counted_before_the_run_is_more_than_what_is_counted_in_it() {
        for name in [
            "http_request_duration_seconds_count",
            "lock_wait_seconds_count",
            "go_gc_pauses_seconds_count",
        ] {
            let counts = values(&simulate(Case::Contention, 1), name);
            assert!(counts[0] > counts[counts.len() - 1] - counts[0], "{name}");
        }
    }

    #[test]
    fn goroutines_of_the_pool_are_always_the_same_number() {
        for case in Case::ALL {
            let run = simulate(case, 2);
            let states: Vec<&Series> = run
                .series()
                .filter(|series| series.name() == "pool_goroutines")
                .collect();
            for nth in 0..481 {
                let sum: f64 = states.iter().map(|series| series.samples()[nth].1).sum();
                assert!((sum - POOL).abs() < 1e-9, "{case:?}: {sum}");
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_hours() {
        let text = |seed| simulate(Case::Contention, seed).openmetrics();
        assert_eq!(text(4), text(4));
        assert_ne!(text(4), text(5));
    }
}
