//! Months of a service level: counters of requests, slow ones and failed ones, with the episodes
//! that spend an error budget.
//!
//! For labs on objectives and burn rates, which need more time than [`crate::service`] can simulate
//! request by request. Here the requests of a step are drawn as counts.
//!
//! A service has instances that are not alike: one gets most of the requests, and is replaced by
//! another host in the course of the month; one gets few, and many of these fail at all times. What
//! burns the budget may burn on one of them alone.
//!
//! ```
//! use incident::months::{Month, simulate};
//!
//! let run = simulate(&Month::FastBurn.drawn(4));
//! let episode = &run.truth().episodes[0];
//! assert!(episode.burn_rate > 14.4);
//! assert!(run.truth().budget_spent > 0.0);
//! ```
//!
//! Exact: histogram counts equal the counters, buckets are cumulative, counters fall only at a
//! restart, and the truth is counted from the same numbers. Approximate: counts of more than 30 are
//! drawn from the normal distribution; there is no queue, so nothing here obeys Little's law; a sum
//! is what its buckets' middles make.

use crate::chance::Chance;
use crate::service::registry::{self, Histogram, Metric, Recorder, real};
use crate::service::{Load, Series};

/// The share of the requests that may be bad: 99.9 % are to be good.
pub const BUDGET_SHARE: f64 = 0.001;
/// A request that takes longer than this many seconds is bad. One of [`BOUNDS`].
pub const OBJECTIVE_SECONDS: f64 = 0.2;
/// Upper bounds of the histogram, in seconds, without `+Inf`.
pub const BOUNDS: [f64; 7] = [0.01, 0.05, 0.1, 0.2, 0.5, 2.5, 10.0];

/// Something that makes requests bad for a while. Times in seconds from the beginning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Episode {
    pub at: f64,
    pub lasts: f64,
    /// Share of all requests that are answered, but take longer than [`OBJECTIVE_SECONDS`].
    pub slow_share: f64,
    /// Share of all requests that are answered with status 500, at once.
    pub error_share: f64,
    /// The instance (an index of [`Setup::instances`]) that alone has all these bad requests; `None`
    /// is each as many as it has requests.
    pub falls_on: Option<usize>,
}

/// One of the instances of a service.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Instance {
    /// Of the requests of the service; those of all instances add up to 1.
    pub share: f64,
    /// Share of its own requests that fail at all times, beside what fails on every instance.
    pub error_share: f64,
    /// Seconds from a restart of the service to its own.
    pub follows: f64,
    /// The restart (an index of [`Setup::restarts`]) at which another host takes its place: its
    /// series end, and others begin.
    pub moves_at: Option<usize>,
}

/// Which instance of [`Setup::instances`] gets most of the requests, which some, and which few.
const MOST: usize = 0;
const SOME: usize = 1;

/// What kind of month it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Month {
    /// A tenth of the budget, spread evenly: no alarm.
    Calm,
    /// Spikes of under five minutes, now and then, which together stay within the budget.
    Blips,
    /// A burn rate of 1.6 to 3 for two to four days.
    SlowBurn,
    /// A burn rate of 20 to 60 for forty minutes to two hours.
    FastBurn,
    /// Nearly every request fails, for ten to twenty-five minutes.
    Outage,
    /// A slow burn at first and a fast one later: more than the budget.
    Exhausted,
}

impl Month {
    /// Every kind; the first two deserve no alarm.
    pub const ALL: [Month; 6] = [
        Month::Calm,
        Month::Blips,
        Month::SlowBurn,
        Month::FastBurn,
        Month::Outage,
        Month::Exhausted,
    ];

    /// Whether somebody has to be told.
    pub fn deserves_an_alarm(self) -> bool {
        !matches!(self, Month::Calm | Month::Blips)
    }

    /// Thirty days of this kind, a sample every minute; everything else is drawn from `seed`.
    pub fn drawn(self, seed: u64) -> Setup {
        const DAY: f64 = 86_400.0;
        let mut chance = Chance::of(seed ^ 0x0003_0DA7);
        let mut setup = Setup {
            service: (*chance.pick(&["gateway", "search", "ledger", "profile"])).into(),
            begins: 1_735_689_600 + 86_400 * i64::try_from(chance.whole(0, 330)).expect("days"),
            days: 30,
            step: 60.0,
            load: Load::daily(chance.between(20.0, 60.0), chance.between(120.0, 220.0))
                .weekend(chance.between(0.5, 0.9)),
            median: chance.between(0.018, 0.035),
            sigma: 0.55,
            slow_share: BUDGET_SHARE * chance.between(0.03, 0.07),
            error_share: BUDGET_SHARE * chance.between(0.02, 0.05),
            restarts: (0..4)
                .map(|week| DAY * (7.0 * f64::from(week) + chance.between(1.3, 1.7)))
                .collect(),
            instances: instances(seed),
            episodes: Vec::new(),
            seed,
        };
        let burn = |chance: &mut Chance, at: f64, lasts: f64, rate: f64, falls_on| {
            let errors = chance.unit();
            Episode {
                at: libm::floor(at),
                lasts: libm::floor(lasts),
                slow_share: BUDGET_SHARE * rate * (1.0 - errors),
                error_share: BUDGET_SHARE * rate * errors,
                falls_on,
            }
        };
        // Working hours, so that an episode meets traffic.
        let noon = |chance: &mut Chance, low: f64, high: f64| {
            let day = libm::floor(chance.between(low, high));
            DAY * day + 3_600.0 * chance.between(9.0, 20.0)
        };
        match self {
            Month::Calm => {}
            Month::Blips => {
                for nth in 0..chance.whole(6, 10) {
                    let from = 1.0 + 2.7 * real(nth);
                    let at = noon(&mut chance, from, from + 2.0);
                    let (lasts, rate) = (chance.between(60.0, 240.0), chance.between(20.0, 60.0));
                    let blip = burn(&mut chance, at, lasts, rate, None);
                    setup.episodes.push(blip);
                }
            }
            Month::SlowBurn => {
                let at = noon(&mut chance, 6.0, 20.0);
                let lasts = DAY * chance.between(2.0, 4.0);
                let rate = chance.between(1.6, 3.0);
                let slow = burn(&mut chance, at, lasts, rate, Some(SOME));
                setup.episodes.push(slow);
                // A release that was to mend it, and does not.
                setup.restarts.push(libm::floor(at + 0.4 * lasts));
                setup.restarts.sort_by(f64::total_cmp);
            }
            Month::FastBurn => {
                let at = noon(&mut chance, 4.0, 26.0);
                let (lasts, rate) = (chance.between(2_400.0, 7_200.0), chance.between(20.0, 60.0));
                let fast = burn(&mut chance, at, lasts, rate, Some(MOST));
                setup.episodes.push(fast);
            }
            Month::Outage => {
                let at = noon(&mut chance, 4.0, 26.0);
                setup.episodes.push(Episode {
                    at: libm::floor(at),
                    lasts: libm::floor(chance.between(600.0, 1_500.0)),
                    slow_share: 0.0,
                    error_share: chance.between(0.85, 0.99),
                    falls_on: None,
                });
            }
            Month::Exhausted => {
                let at = noon(&mut chance, 3.0, 8.0);
                let (lasts, rate) = (DAY * chance.between(4.0, 6.0), chance.between(2.0, 3.0));
                let slow = burn(&mut chance, at, lasts, rate, Some(SOME));
                setup.episodes.push(slow);
                let at = noon(&mut chance, 17.0, 25.0);
                let lasts = chance.between(4.0, 6.0) * 3_600.0;
                let rate = chance.between(120.0, 170.0);
                let fast = burn(&mut chance, at, lasts, rate, Some(MOST));
                setup.episodes.push(fast);
            }
        }
        setup
    }
}

/// Three instances that are not alike, drawn from the seed of a month.
fn instances(seed: u64) -> Vec<Instance> {
    let mut chance = Chance::of(seed ^ 0x0012_57A2);
    let (some, few) = (chance.between(0.09, 0.105), chance.between(0.011, 0.014));
    let next = |chance: &mut Chance| libm::floor(chance.between(100.0, 200.0));
    let alike = Instance {
        share: some,
        error_share: 0.0,
        follows: 0.0,
        moves_at: None,
    };
    vec![
        Instance {
            share: 1.0 - some - few,
            moves_at: Some(2),
            ..alike
        },
        Instance {
            follows: next(&mut chance),
            ..alike
        },
        Instance {
            share: few,
            error_share: BUDGET_SHARE * chance.between(5.0, 7.0),
            follows: 200.0 + next(&mut chance),
            ..alike
        },
    ]
}

/// A month, before it happens.
#[derive(Clone, Debug, PartialEq)]
pub struct Setup {
    pub service: String,
    /// Unix time, in seconds.
    pub begins: i64,
    pub days: u32,
    /// Seconds between two samples.
    pub step: f64,
    pub load: Load,
    /// Of an ordinary request, in seconds; `sigma` is the standard deviation of its logarithm.
    pub median: f64,
    pub sigma: f64,
    /// At all times, beside the episodes.
    pub slow_share: f64,
    pub error_share: f64,
    /// When the service starts again, one instance after the other, in seconds from the beginning,
    /// ascending.
    pub restarts: Vec<f64>,
    pub instances: Vec<Instance>,
    /// Where they overlap their shares add up.
    pub episodes: Vec<Episode>,
    pub seed: u64,
}

/// An episode as it came out.
#[derive(Clone, Debug, PartialEq)]
pub struct Burn {
    /// Milliseconds of Unix time.
    pub starts_at_ms: i64,
    pub ends_at_ms: i64,
    pub requests: u64,
    pub bad: u64,
    /// The share of bad requests over the share that may be bad.
    pub burn_rate: f64,
    /// The part of the month's budget that these bad requests are.
    pub budget_spent: f64,
}

/// What was counted.
#[derive(Clone, Debug, PartialEq)]
pub struct Truth {
    pub requests: u64,
    /// Slow or failed.
    pub bad: u64,
    /// Of the whole month: 1 is all of it.
    pub budget_spent: f64,
    pub episodes: Vec<Burn>,
    /// Steps in which more than one percent of the requests was slow, so that the 99th percentile
    /// broke the objective.
    pub steps_violating: u64,
}

/// A month that has happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    series: Vec<Series>,
    truth: Truth,
}

impl Run {
    /// `http_requests_total` by status and `http_request_duration_seconds`, of every instance.
    pub fn series(&self) -> impl Iterator<Item = &Series> + Clone {
        self.series.iter()
    }

    /// In the OpenMetrics text format with timestamps.
    pub fn openmetrics(&self) -> String {
        registry::openmetrics(self.series.iter())
    }

    pub fn truth(&self) -> &Truth {
        &self.truth
    }
}

/// The share of log-normal times that are at most `bound`.
fn at_most(bound: f64, median: f64, sigma: f64) -> f64 {
    0.5 * libm::erfc(-libm::log(bound / median) / (sigma * std::f64::consts::SQRT_2))
}

/// Shares of the buckets, the one above all bounds included.
fn shares(median: f64, sigma: f64) -> Vec<f64> {
    let mut below = 0.0;
    let mut shares: Vec<f64> = BOUNDS
        .iter()
        .map(|&bound| {
            let share = at_most(bound, median, sigma) - below;
            below += share;
            share
        })
        .collect();
    shares.push(1.0 - below);
    shares
}

/// An instance in the course of a month.
struct Running {
    of: Instance,
    /// Of the hosts that it has had; the last one runs.
    recorders: Vec<Recorder>,
    /// Where it runs after [`Instance::moves_at`].
    successor: String,
    histogram: Histogram,
    /// Answers that are well, and those that are not.
    statuses: [u64; 2],
    /// Unix time, in seconds.
    started: i64,
    /// How many there have been.
    restarts: usize,
}

impl Running {
    /// Starts again if it is time to.
    fn restart(&mut self, setup: &Setup, at: f64) {
        let due = setup.restarts.get(self.restarts);
        if due.is_none_or(|due| due + self.of.follows > at) {
            return;
        }
        if self.of.moves_at == Some(self.restarts) {
            let successor = std::mem::take(&mut self.successor);
            self.recorders
                .push(Recorder::new(&setup.service, successor));
        }
        self.restarts += 1;
        self.histogram = Histogram::with(&BOUNDS);
        self.statuses = [0; 2];
        self.started = ms(setup, at) / 1_000;
    }

    /// What a scrape reads.
    fn record(&mut self, at_ms: i64) {
        let recorder = self.recorders.last_mut().expect("it has a host");
        recorder.begin(at_ms);
        for (nth, status) in ["200", "500"].into_iter().enumerate() {
            let key = (Metric::HttpRequests, registry::small(nth), 0, 0);
            recorder.put(key, real(self.statuses[nth]), || {
                vec![("status", status.into())]
            });
        }
        recorder.histogram(Metric::HttpSeconds, 0, &self.histogram, &BOUNDS, Vec::new);
        let started = u64::try_from(self.started).map_or(0.0, real);
        recorder.put((Metric::StartTime, 0, 0, 0), started, Vec::new);
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count below 2^53"
)]
fn whole(count: f64) -> u64 {
    libm::round(count) as u64
}

/// Lets the month happen.
///
/// # Panics
/// When the step is not a positive number of seconds.
pub fn simulate(setup: &Setup) -> Run {
    assert!(setup.step > 0.0, "a step of {} s", setup.step);
    let mut chance = Chance::of(setup.seed ^ 0x0030_DA75);
    // What is ordinary is never slow; what is slow lies above the objective.
    let objective = BOUNDS.iter().position(|&bound| bound == OBJECTIVE_SECONDS);
    let first_slow = objective.expect("one of the bounds") + 1;
    let normalized = |mut shares: Vec<f64>, keep: std::ops::Range<usize>| {
        for (nth, share) in shares.iter_mut().enumerate() {
            if !keep.contains(&nth) {
                *share = 0.0;
            }
        }
        let total: f64 = shares.iter().sum();
        shares
            .iter()
            .map(|share| share / total)
            .collect::<Vec<f64>>()
    };
    let ordinary = normalized(shares(setup.median, setup.sigma), 0..first_slow);
    let slow = normalized(shares(0.6, 0.8), first_slow..BOUNDS.len() + 1);

    let host = chance.whole(2, 80);
    let mut running: Vec<Running> = setup
        .instances
        .iter()
        .enumerate()
        .map(|(nth, of)| {
            let address = |host: u64| format!("10.4.0.{host}:9100");
            let host = host + 3 * registry::small(nth) as u64;
            let mut running = Running {
                of: *of,
                recorders: vec![Recorder::new(&setup.service, address(host))],
                successor: address(host + 1),
                histogram: Histogram::with(&BOUNDS),
                statuses: [0; 2],
                started: setup.begins - 86_400 * 5,
                restarts: 0,
            };
            // What was counted in the days before.
            let before = whole(40_000_000.0 * of.share);
            let failed = chance.binomial(before, of.error_share);
            fill(&mut running.histogram, &mut chance, before, &ordinary);
            running.statuses = [before - failed, failed];
            running
        })
        .collect();
    let mut truth = Truth {
        requests: 0,
        bad: 0,
        budget_spent: 0.0,
        episodes: setup
            .episodes
            .iter()
            .map(|episode| Burn {
                starts_at_ms: ms(setup, episode.at),
                ends_at_ms: ms(setup, episode.at + episode.lasts),
                requests: 0,
                bad: 0,
                burn_rate: 0.0,
                budget_spent: 0.0,
            })
            .collect(),
        steps_violating: 0,
    };
    let mut noise = 0.0;
    let end = 86_400.0 * f64::from(setup.days);
    let mut at = 0.0;
    while at < end {
        // A noise with a memory of a quarter of an hour.
        let keep = libm::exp(-setup.step / 900.0);
        noise = keep * noise + libm::sqrt(1.0 - keep * keep) * chance.normal();
        let rate = setup.load.rate(setup.begins, at) * libm::exp(setup.load.noise * noise);
        let here = |episode: &Episode| (episode.at..episode.at + episode.lasts).contains(&at);
        let (mut all, mut all_late, mut all_errors) = (0, 0, 0);
        for (nth, instance) in running.iter_mut().enumerate() {
            instance.restart(setup, at);
            let (mut slow_share, mut error_share) = (
                setup.slow_share,
                setup.error_share + instance.of.error_share,
            );
            for episode in setup.episodes.iter().filter(|episode| here(episode)) {
                let of_its_own = match episode.falls_on {
                    None => 1.0,
                    Some(hit) if hit == nth => 1.0 / instance.of.share,
                    Some(_) => 0.0,
                };
                slow_share += episode.slow_share * of_its_own;
                error_share += episode.error_share * of_its_own;
            }
            let requests = chance.poisson(rate * instance.of.share * setup.step);
            let errors = chance.binomial(requests, error_share.min(1.0));
            let late = chance.binomial(requests - errors, slow_share.min(1.0));
            fill(
                &mut instance.histogram,
                &mut chance,
                requests - late,
                &ordinary,
            );
            fill(&mut instance.histogram, &mut chance, late, &slow);
            instance.statuses[0] += requests - errors;
            instance.statuses[1] += errors;
            instance.record(ms(setup, at + setup.step));
            all += requests;
            all_late += late;
            all_errors += errors;
        }
        truth.requests += all;
        truth.bad += all_errors + all_late;
        truth.steps_violating += u64::from(all_late * 100 > all);
        for (episode, burn) in setup.episodes.iter().zip(&mut truth.episodes) {
            if here(episode) {
                burn.requests += all;
                burn.bad += all_errors + all_late;
            }
        }
        at += setup.step;
    }
    let budget = BUDGET_SHARE * real(truth.requests);
    truth.budget_spent = real(truth.bad) / budget;
    for burn in &mut truth.episodes {
        burn.burn_rate = real(burn.bad) / real(burn.requests.max(1)) / BUDGET_SHARE;
        burn.budget_spent = real(burn.bad) / budget;
    }
    let mut series = Vec::new();
    for recorder in running.into_iter().flat_map(|instance| instance.recorders) {
        recorder.into_series(&mut series);
    }
    registry::sort(&mut series);
    Run { series, truth }
}

#[expect(clippy::cast_possible_truncation, reason = "milliseconds of a month")]
fn ms(setup: &Setup, at: f64) -> i64 {
    setup.begins * 1_000 + (at * 1_000.0) as i64
}

/// Distributes requests over the buckets by these shares.
fn fill(histogram: &mut Histogram, chance: &mut Chance, requests: u64, shares: &[f64]) {
    let (mut left, mut share_left) = (requests, 1.0);
    for (nth, &share) in shares.iter().enumerate() {
        if left == 0 {
            break;
        }
        let last = nth + 1 == shares.len();
        let here = if last {
            left
        } else {
            chance.binomial(left, (share / share_left).min(1.0))
        };
        left -= here;
        share_left = (share_left - share).max(f64::MIN_POSITIVE);
        histogram.counts[nth] += here;
        let low = if nth == 0 { 0.0 } else { BOUNDS[nth - 1] };
        let high = BOUNDS.get(nth).copied().unwrap_or(15.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "microseconds of a bucket"
        )]
        let middle = ((low + high) / 2.0 * 1e6) as u64;
        histogram.sum_micros += here * middle;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_spent_as_the_kind_of_month_says() {
        for seed in 0..6 {
            let spent = |month: Month| simulate(&month.drawn(seed)).truth().budget_spent;
            assert!((0.08..0.25).contains(&spent(Month::Calm)), "{seed}");
            assert!((0.1..0.7).contains(&spent(Month::Blips)), "{seed}");
            assert!((0.15..0.8).contains(&spent(Month::SlowBurn)), "{seed}");
            assert!(spent(Month::FastBurn) > 0.08, "{seed}");
            assert!(spent(Month::Outage) > 0.2, "{seed}");
            assert!(
                spent(Month::Exhausted) > 1.0,
                "{seed}: {}",
                spent(Month::Exhausted)
            );
        }
    }

    #[test]
    fn episodes_burn_at_the_rate_that_they_were_given() {
        let setup = Month::SlowBurn.drawn(3);
        let run = simulate(&setup);
        let episode = setup.episodes[0];
        let burn = &run.truth().episodes[0];
        let shares = episode.slow_share * (1.0 - episode.error_share) + episode.error_share;
        let own: f64 = setup
            .instances
            .iter()
            .map(|of| of.share * of.error_share)
            .sum();
        let expected = (shares + setup.slow_share + setup.error_share + own) / BUDGET_SHARE;
        // Four standard errors of a count of some tens of thousands.
        let tolerance = 4.0 / real(burn.bad).sqrt();
        assert!(
            (burn.burn_rate / expected - 1.0).abs() < tolerance,
            "{burn:?} {expected}"
        );
    }

    /// What the series of a name with these labels have at each of their samples, host by host.
    fn by_host(run: &Run, name: &str, label: &str, value: &str) -> Vec<Vec<(i64, f64)>> {
        run.series()
            .filter(|series| {
                let chosen = series.labels().get(label);
                series.name() == name && (label.is_empty() || chosen == Some(value))
            })
            .map(|series| series.samples().to_vec())
            .collect()
    }

    #[test]
    fn a_histogram_counts_what_its_counters_count() {
        let run = simulate(&Month::Exhausted.drawn(1));
        let ok = by_host(&run, "http_requests_total", "status", "200");
        let failed = by_host(&run, "http_requests_total", "status", "500");
        let count = by_host(&run, "http_request_duration_seconds_count", "", "");
        let good = by_host(&run, "http_request_duration_seconds_bucket", "le", "0.2");
        for host in 0..count.len() {
            for nth in 0..count[host].len() {
                let (ok, failed) = (ok[host][nth].1, failed[host][nth].1);
                assert!((ok + failed - count[host][nth].1).abs() < 0.5);
                assert!(good[host][nth].1 <= count[host][nth].1);
            }
        }
    }

    #[test]
    fn one_host_takes_over_at_a_restart_and_the_others_count_from_zero() {
        let setup = Month::Calm.drawn(1);
        let count = by_host(
            &simulate(&setup),
            "http_request_duration_seconds_count",
            "",
            "",
        );
        let falls = |host: &Vec<(i64, f64)>| {
            let pairs = host.windows(2);
            pairs.filter(|pair| pair[1].1 < pair[0].1).count()
        };
        let mut lives: Vec<(usize, usize)> = count.iter().map(|of| (of.len(), falls(of))).collect();
        lives.sort_unstable();
        let moved = lives[0].0;
        assert_eq!(lives[0].0 + lives[1].0, 43_200);
        assert_eq!(lives[0].1 + lives[1].1, 3);
        assert_eq!(lives[2..], [(43_200, 4), (43_200, 4)]);
        assert!((12_000..32_000).contains(&moved), "{moved}");
    }

    #[test]
    fn what_burns_on_one_instance_is_more_there_and_less_elsewhere() {
        let setup = Month::SlowBurn.drawn(7);
        let run = simulate(&setup);
        let burn = &run.truth().episodes[0];
        let within = |samples: &[(i64, f64)]| {
            let (mut all, mut before) = (0.0, None);
            for &(at, value) in samples {
                if (burn.starts_at_ms..=burn.ends_at_ms).contains(&at) {
                    all += before.map_or(0.0, |before| {
                        if value < before {
                            value
                        } else {
                            value - before
                        }
                    });
                    before = Some(value);
                }
            }
            all
        };
        let sums = |name: &str, label: &str, value: &str| -> Vec<f64> {
            by_host(&run, name, label, value)
                .iter()
                .map(|of| within(of))
                .collect()
        };
        let all = sums("http_request_duration_seconds_count", "", "");
        let quick = sums("http_request_duration_seconds_bucket", "le", "0.2");
        let failed = sums("http_requests_total", "status", "500");
        let rates: Vec<f64> = (0..all.len())
            .filter(|&host| all[host] > 0.0)
            .map(|host| (all[host] - quick[host] + failed[host]) / all[host] / BUDGET_SHARE)
            .collect();
        let above = |bound: f64| rates.iter().filter(|&&rate| rate > bound).count();
        // One burns for all of them, and the one with few requests has its own failures.
        assert_eq!((above(14.4), above(1.0)), (1, 2), "{rates:?}");
        assert!(burn.burn_rate < 3.5, "{}", burn.burn_rate);
    }

    #[test]
    fn the_same_seed_gives_the_same_month() {
        let text = |seed| {
            let mut setup = Month::Blips.drawn(seed);
            setup.days = 2;
            simulate(&setup).openmetrics()
        };
        assert_eq!(text(1), text(1));
        assert_ne!(text(1), text(2));
    }
}
