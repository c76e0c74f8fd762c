//! Months of a service level: counters of requests, slow ones and failed ones, with the episodes
//! that spend an error budget.
//!
//! For labs on objectives and burn rates, which need more time than [`crate::service`] can simulate
//! request by request. Here the requests of a step are drawn as counts.
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
pub const BOUNDS: [f64; 10] = [0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Something that makes requests bad for a while. Times in seconds from the beginning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Episode {
    pub at: f64,
    pub lasts: f64,
    /// Share of the requests that are answered, but take longer than [`OBJECTIVE_SECONDS`].
    pub slow_share: f64,
    /// Share of the requests that are answered with status 500, at once.
    pub error_share: f64,
}

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
            episodes: Vec::new(),
            seed,
        };
        let burn = |chance: &mut Chance, at: f64, lasts: f64, rate: f64| {
            let errors = chance.unit();
            Episode {
                at: libm::floor(at),
                lasts: libm::floor(lasts),
                slow_share: BUDGET_SHARE * rate * (1.0 - errors),
                error_share: BUDGET_SHARE * rate * errors,
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
                    setup.episodes.push(burn(&mut chance, at, lasts, rate));
                }
            }
            Month::SlowBurn => {
                let at = noon(&mut chance, 6.0, 20.0);
                let lasts = DAY * chance.between(2.0, 4.0);
                let rate = chance.between(1.6, 3.0);
                setup.episodes.push(burn(&mut chance, at, lasts, rate));
            }
            Month::FastBurn => {
                let at = noon(&mut chance, 4.0, 26.0);
                let (lasts, rate) = (chance.between(2_400.0, 7_200.0), chance.between(20.0, 60.0));
                setup.episodes.push(burn(&mut chance, at, lasts, rate));
            }
            Month::Outage => {
                let at = noon(&mut chance, 4.0, 26.0);
                setup.episodes.push(Episode {
                    at: libm::floor(at),
                    lasts: libm::floor(chance.between(600.0, 1_500.0)),
                    slow_share: 0.0,
                    error_share: chance.between(0.85, 0.99),
                });
            }
            Month::Exhausted => {
                let at = noon(&mut chance, 3.0, 8.0);
                let (lasts, rate) = (DAY * chance.between(4.0, 6.0), chance.between(2.0, 3.0));
                setup.episodes.push(burn(&mut chance, at, lasts, rate));
                let at = noon(&mut chance, 17.0, 25.0);
                let lasts = chance.between(4.0, 6.0) * 3_600.0;
                let rate = chance.between(120.0, 170.0);
                setup.episodes.push(burn(&mut chance, at, lasts, rate));
            }
        }
        setup
    }
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
    /// When the process starts again, in seconds from the beginning, ascending.
    pub restarts: Vec<f64>,
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
    /// `http_requests_total` by status and `http_request_duration_seconds`, of one instance.
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

    let host = chance.whole(2, 250);
    let mut recorder = Recorder::new(&setup.service, format!("10.4.0.{host}:9100"));
    let mut histogram = Histogram::with(&BOUNDS);
    let mut statuses = [0_u64; 2];
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
    let mut restarts = setup.restarts.iter().copied().peekable();
    let mut started = setup.begins - 86_400 * 5;
    // What was counted in the days before.
    fill(&mut histogram, &mut chance, 40_000_000, &ordinary);
    statuses[0] = histogram.count();
    let end = 86_400.0 * f64::from(setup.days);
    let mut at = 0.0;
    while at < end {
        if restarts.next_if(|&restart| restart <= at).is_some() {
            histogram = Histogram::with(&BOUNDS);
            statuses = [0; 2];
            started = ms(setup, at) / 1_000;
        }
        // A noise with a memory of a quarter of an hour.
        let keep = libm::exp(-setup.step / 900.0);
        noise = keep * noise + libm::sqrt(1.0 - keep * keep) * chance.normal();
        let rate = setup.load.rate(setup.begins, at) * libm::exp(setup.load.noise * noise);
        let (mut slow_share, mut error_share) = (setup.slow_share, setup.error_share);
        let here = |episode: &Episode| (episode.at..episode.at + episode.lasts).contains(&at);
        for episode in setup.episodes.iter().filter(|episode| here(episode)) {
            slow_share += episode.slow_share;
            error_share += episode.error_share;
        }
        let requests = chance.poisson(rate * setup.step);
        let errors = chance.binomial(requests, error_share.min(1.0));
        let late = chance.binomial(requests - errors, slow_share.min(1.0));
        fill(&mut histogram, &mut chance, requests - late, &ordinary);
        fill(&mut histogram, &mut chance, late, &slow);
        statuses[0] += requests - errors;
        statuses[1] += errors;
        truth.requests += requests;
        truth.bad += errors + late;
        truth.steps_violating += u64::from(late * 100 > requests);
        for (episode, burn) in setup.episodes.iter().zip(&mut truth.episodes) {
            if here(episode) {
                burn.requests += requests;
                burn.bad += errors + late;
            }
        }

        at += setup.step;
        recorder.begin(ms(setup, at));
        for (nth, status) in ["200", "500"].into_iter().enumerate() {
            let key = (Metric::HttpRequests, registry::small(nth), 0, 0);
            recorder.put(key, real(statuses[nth]), || vec![("status", status.into())]);
        }
        recorder.histogram(Metric::HttpSeconds, 0, &histogram, &BOUNDS, Vec::new);
        let key = (Metric::StartTime, 0, 0, 0);
        let started = u64::try_from(started).map_or(0.0, real);
        recorder.put(key, started, Vec::new);
    }
    let budget = BUDGET_SHARE * real(truth.requests);
    truth.budget_spent = real(truth.bad) / budget;
    for burn in &mut truth.episodes {
        burn.burn_rate = real(burn.bad) / real(burn.requests.max(1)) / BUDGET_SHARE;
        burn.budget_spent = real(burn.bad) / budget;
    }
    let mut series = Vec::new();
    recorder.into_series(&mut series);
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
            assert!((0.03..0.15).contains(&spent(Month::Calm)), "{seed}");
            assert!((0.05..0.6).contains(&spent(Month::Blips)), "{seed}");
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
        let expected = (shares + setup.slow_share + setup.error_share) / BUDGET_SHARE;
        // Four standard errors of a count of some tens of thousands.
        let tolerance = 4.0 / real(burn.bad).sqrt();
        assert!(
            (burn.burn_rate / expected - 1.0).abs() < tolerance,
            "{burn:?} {expected}"
        );
    }

    #[test]
    fn a_histogram_counts_what_its_counters_count() {
        let run = simulate(&Month::Exhausted.drawn(1));
        let of = |name: &str, label: &str, value: &str| {
            run.series()
                .find(|series| {
                    let chosen = series.labels().get(label);
                    series.name() == name && (label.is_empty() || chosen == Some(value))
                })
                .unwrap()
                .samples()
        };
        let ok = of("http_requests_total", "status", "200");
        let failed = of("http_requests_total", "status", "500");
        let count = of("http_request_duration_seconds_count", "", "");
        let good = of("http_request_duration_seconds_bucket", "le", "0.2");
        assert_eq!(count.len(), 43_200);
        for nth in 0..count.len() {
            assert!((ok[nth].1 + failed[nth].1 - count[nth].1).abs() < 0.5);
            assert!(good[nth].1 <= count[nth].1);
        }
        let falls = count
            .windows(2)
            .filter(|pair| pair[1].1 < pair[0].1)
            .count();
        assert_eq!(falls, 4, "one for each restart");
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
