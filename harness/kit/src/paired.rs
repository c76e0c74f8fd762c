//! Paired measurement: how much slower, or faster, one piece of code is than another.
//!
//! Two closures take turns on the same thread, in slices of a few milliseconds. Four neighboring
//! slices, in the order ABBA or BAAB, are a pair: two slices of each side, in which a steady drift
//! weighs alike on both. Each pair gives one ratio. What disturbs both sides (a frequency change, a
//! noisy neighbor, a growing heap) cancels out in it, and what hits single slices does not move the
//! median of all. The interval around that median is the exact one of order statistics, which assumes
//! nothing about the distribution of the noise: with `X ~ Binomial(n, 1/2)` and the largest `k` for
//! which `P(X < k) <= 0.025`, the `k`-th smallest and the `k`-th largest ratio enclose the true
//! median in at least 95 of 100 repetitions (H. A. David and H. N. Nagaraja, "Order Statistics",
//! third edition, section 7.1).
//!
//! Only for benchmarks (`harness = false`), which `cargo xtask bench` judges by what [`report`]
//! writes. Not for checks: nothing that a wall clock says decides `cargo test`.

use std::fmt;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::protocol::{FIGURES_FILE, FigureKind, FigureRecord};
use crate::seed::Seed;

/// The fewest pairs, or samples, from which an interval of 95 % can be made: with six, the smallest
/// and the largest enclose the median in 96.9 of 100 repetitions; with five, in 93.8.
pub const FEWEST_SAMPLES: usize = 6;

/// How many slices have to agree that one is long enough.
const CALIBRATING_SLICES: usize = 5;

/// The most calls in one slice, so that a closure that takes no time at all does not calibrate for
/// ever.
const MOST_CALLS: u64 = 1 << 26;

/// A clock that never goes back. The one that counts is [`Monotonic`]; tests bring their own.
pub trait Clock {
    /// The time since some fixed point.
    fn now(&self) -> Duration;
}

/// The system's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Monotonic(Instant);

impl Monotonic {
    /// A clock that starts at zero now.
    pub fn start() -> Self {
        Monotonic(Instant::now())
    }
}

impl Clock for Monotonic {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// How a comparison is made. The default takes about two seconds.
///
/// ```no_run
/// use kit::paired::{self, Limit, Plan};
///
/// let comparison = Plan::default().pairs(200).run(
///     || std::hint::black_box([3_u64, 1, 2]).iter().sum::<u64>(),
///     || std::hint::black_box([3_u64, 1, 2]).iter().max().copied(),
/// );
/// paired::report("overhead", comparison);
/// # let _ = comparison.judge(Limit::AtMost(1.02));
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Plan {
    pairs: usize,
    slice: Duration,
    warm_up: Duration,
    budget: Duration,
    seed: Seed,
    most_calls: u64,
}

impl Default for Plan {
    /// 100 pairs of twice two slices of 5 ms after 100 ms of warm-up, within 20 s.
    fn default() -> Self {
        Plan {
            pairs: 100,
            slice: Duration::from_millis(5),
            warm_up: Duration::from_millis(100),
            budget: Duration::from_secs(20),
            seed: Seed(1),
            most_calls: MOST_CALLS,
        }
    }
}

impl Plan {
    /// How many pairs are measured, time permitting; each is four slices. The interval shrinks with
    /// the square root of their number.
    ///
    /// # Panics
    /// When they are fewer than [`FEWEST_SAMPLES`].
    pub fn pairs(mut self, pairs: usize) -> Self {
        assert!(
            pairs >= FEWEST_SAMPLES,
            "{pairs} pairs give no interval of 95 %: take {FEWEST_SAMPLES} at least"
        );
        self.pairs = pairs;
        self
    }

    /// About how long one slice should take: long enough that reading the clock does not count
    /// (above 1 ms), short enough that a pair sees one state of the machine (below 20 ms). A slice
    /// holds at least one call, however long that takes.
    ///
    /// # Panics
    /// When it is zero.
    pub fn slice(mut self, slice: Duration) -> Self {
        assert!(!slice.is_zero(), "a slice of no time measures nothing");
        self.slice = slice;
        self
    }

    /// For how long both sides take turns before anything counts, calibration included.
    pub fn warm_up(mut self, warm_up: Duration) -> Self {
        self.warm_up = warm_up;
        self
    }

    /// After how much time, calibration and warm-up included, no further pair is begun. The first
    /// [`FEWEST_SAMPLES`] pairs are measured in any case.
    pub fn budget(mut self, budget: Duration) -> Self {
        self.budget = budget;
        self
    }

    /// The seed from which the order within the pairs is drawn.
    pub fn seed(mut self, seed: Seed) -> Self {
        self.seed = seed;
        self
    }

    /// Compares two closures. What they return is kept from being optimized away; what they do
    /// without a visible effect is for them to keep ([`black_box`]).
    pub fn run<A, B>(
        &self,
        baseline: impl FnMut() -> A,
        candidate: impl FnMut() -> B,
    ) -> Comparison {
        self.run_on(&Monotonic::start(), baseline, candidate)
    }

    /// As [`Plan::run`], by another clock.
    pub fn run_on<A, B>(
        &self,
        clock: &impl Clock,
        baseline: impl FnMut() -> A,
        candidate: impl FnMut() -> B,
    ) -> Comparison {
        let start = clock.now();
        let mut baseline = self.calibrate(clock, baseline);
        let mut candidate = self.calibrate(clock, candidate);
        while clock.now().saturating_sub(start) < self.warm_up {
            baseline.slice(clock);
            candidate.slice(clock);
        }

        let mut ratios = Vec::with_capacity(self.pairs);
        let mut baseline_slices = Vec::with_capacity(self.pairs);
        let mut candidate_slices = Vec::with_capacity(self.pairs);
        for pair in 0..self.pairs {
            if pair >= FEWEST_SAMPLES && clock.now().saturating_sub(start) >= self.budget {
                break;
            }
            let (of_baseline, of_candidate) = if self.baseline_goes_first(pair) {
                abba(|| baseline.slice(clock), || candidate.slice(clock))
            } else {
                let (of_candidate, of_baseline) =
                    abba(|| candidate.slice(clock), || baseline.slice(clock));
                (of_baseline, of_candidate)
            };
            baseline_slices.push(of_baseline);
            candidate_slices.push(of_candidate);
            ratios.push(
                (of_candidate / candidate.per_slice()) / (of_baseline / baseline.per_slice()),
            );
        }

        let Estimate { value, low, high } = Estimate::of_median(&mut ratios);
        Comparison {
            ratio: value,
            low,
            high,
            pairs: ratios.len(),
            baseline: baseline.side(&mut baseline_slices),
            candidate: candidate.side(&mut candidate_slices),
        }
    }

    /// Measures one closure alone: how long a call takes. For figures that have a meaning on the
    /// machine at hand only; prefer [`Plan::run`]. One sample is one slice, and [`Plan::pairs`] says
    /// how many there are.
    pub fn seconds_per_call<A>(&self, body: impl FnMut() -> A) -> Figure {
        self.seconds_per_call_on(&Monotonic::start(), body)
    }

    /// As [`Plan::seconds_per_call`], by another clock.
    pub fn seconds_per_call_on<A>(&self, clock: &impl Clock, body: impl FnMut() -> A) -> Figure {
        let start = clock.now();
        let mut body = self.calibrate(clock, body);
        while clock.now().saturating_sub(start) < self.warm_up {
            body.slice(clock);
        }
        let mut samples = Vec::with_capacity(self.pairs);
        while samples.len() < FEWEST_SAMPLES
            || (samples.len() < self.pairs && clock.now().saturating_sub(start) < self.budget)
        {
            samples.push(body.slice(clock) / body.per_slice());
        }
        Figure::seconds(&samples)
    }

    /// ABBA or BAAB, drawn for each pair: no rhythm of the machine can lock in with a fixed order.
    fn baseline_goes_first(&self, pair: usize) -> bool {
        self.seed.derive(pair as u64).0 & 1 == 0
    }

    /// Finds out how many calls fill a slice, by the fastest of a few slices: one that the system
    /// interrupts would give slices that are far too short.
    fn calibrate<A, F: FnMut() -> A>(&self, clock: &impl Clock, body: F) -> Timed<F> {
        let wanted = self.slice.as_secs_f64();
        let mut timed = Timed { body, calls: 1 };
        loop {
            let mut took = f64::INFINITY;
            for _ in 0..CALIBRATING_SLICES {
                took = took.min(timed.slice(clock));
                if took < wanted / 2.0 {
                    break;
                }
            }
            if took >= wanted / 2.0 || timed.calls >= self.most_calls {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "bounded on both sides"
                )]
                let calls = (count(timed.calls) * wanted / took)
                    .round()
                    .clamp(1.0, count(self.most_calls)) as u64;
                timed.calls = calls;
                return timed;
            }
            timed.calls *= 2;
        }
    }
}

/// The mean times of the two outer and of the two inner ones of four slices.
fn abba(mut outer: impl FnMut() -> f64, mut inner: impl FnMut() -> f64) -> (f64, f64) {
    let first = outer();
    let within = inner() + inner();
    (f64::midpoint(first, outer()), within / 2.0)
}

/// One side of a comparison.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Side {
    /// The median time of one slice.
    pub slice: Duration,
    /// How many calls one slice holds.
    pub calls_per_slice: u64,
}

impl Side {
    /// The median time of one call, in seconds; below a nanosecond it is a fraction of one.
    pub fn seconds_per_call(&self) -> f64 {
        self.slice.as_secs_f64() / count(self.calls_per_slice)
    }
}

/// What a paired measurement found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// The time of a call of the candidate over that of the baseline: the median over all pairs.
    /// 1.02 is two percent slower, 0.5 twice as fast.
    pub ratio: f64,
    /// The lower end of the 95 % interval of `ratio`.
    pub low: f64,
    /// The upper end of the 95 % interval of `ratio`.
    pub high: f64,
    /// How many pairs were measured.
    pub pairs: usize,
    pub baseline: Side,
    pub candidate: Side,
}

impl Comparison {
    /// Judges the ratio, see [`Figure::judge`].
    pub fn judge(&self, limit: Limit) -> Judgement {
        Figure::from(*self).judge(limit)
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Figure::from(*self).fmt(f)
    }
}

/// What a figure is held against, in the unit of the figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// For ratios of cost, latencies and times.
    AtMost(f64),
    /// For rates.
    AtLeast(f64),
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limit::AtMost(bound) => write!(f, "at most {}", Digits(*bound)),
            Limit::AtLeast(bound) => write!(f, "at least {}", Digits(*bound)),
        }
    }
}

/// How a figure stands to its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Judgement {
    /// The whole interval is within the limit.
    Holds,
    /// The whole interval is beyond the limit.
    Exceeds,
    /// The limit lies inside of the interval: the measurement cannot tell. Measure more pairs, or
    /// on a quieter machine.
    TooNoisy,
}

/// A measured figure with its spread: a median and the 95 % interval around it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    kind: FigureKind,
    estimate: Estimate,
    samples: usize,
}

impl Figure {
    /// The median of rates, each in operations per second.
    ///
    /// # Panics
    /// When there are fewer than [`FEWEST_SAMPLES`], or one is not finite.
    pub fn rate(per_second: &[f64]) -> Self {
        Self::of_samples(FigureKind::Rate, per_second)
    }

    /// The median of times, each in seconds: one latency percentile of each of several runs, say.
    ///
    /// # Panics
    /// When there are fewer than [`FEWEST_SAMPLES`], or one is not finite.
    pub fn seconds(seconds: &[f64]) -> Self {
        Self::of_samples(FigureKind::Seconds, seconds)
    }

    /// The median of ratios.
    ///
    /// # Panics
    /// When there are fewer than [`FEWEST_SAMPLES`], or one is not finite.
    pub fn ratio(ratios: &[f64]) -> Self {
        Self::of_samples(FigureKind::Ratio, ratios)
    }

    fn of_samples(kind: FigureKind, samples: &[f64]) -> Self {
        Figure {
            kind,
            estimate: Estimate::of_median(&mut samples.to_vec()),
            samples: samples.len(),
        }
    }

    /// The figure that a benchmark wrote.
    ///
    /// # Errors
    /// With what is wrong with it: an end of the interval that is not finite or on the wrong side,
    /// or too few samples.
    pub fn from_record(record: &FigureRecord) -> Result<Self, String> {
        let FigureRecord {
            name,
            kind,
            value,
            low,
            high,
            samples,
        } = record;
        if ![value, low, high].iter().all(|number| number.is_finite()) {
            return Err(format!("the figure `{name}` is not finite"));
        }
        if !(low <= value && value <= high) {
            return Err(format!(
                "the figure `{name}` lies outside of its interval: {value} is not within {low} \
                 and {high}"
            ));
        }
        if *samples < FEWEST_SAMPLES {
            return Err(format!(
                "the figure `{name}` comes from {samples} samples, and {FEWEST_SAMPLES} are needed"
            ));
        }
        Ok(Figure {
            kind: *kind,
            estimate: Estimate {
                value: *value,
                low: *low,
                high: *high,
            },
            samples: *samples,
        })
    }

    /// The figure as it is written for the runner.
    pub fn record(&self, name: &str) -> FigureRecord {
        FigureRecord {
            name: name.to_owned(),
            kind: self.kind,
            value: self.estimate.value,
            low: self.estimate.low,
            high: self.estimate.high,
            samples: self.samples,
        }
    }

    /// What the figure measures.
    pub fn kind(&self) -> FigureKind {
        self.kind
    }

    /// The median, in the unit of the kind.
    pub fn value(&self) -> f64 {
        self.estimate.value
    }

    /// The 95 % interval around the median.
    pub fn interval(&self) -> (f64, f64) {
        (self.estimate.low, self.estimate.high)
    }

    /// Judges the figure by its interval, not by its median, so that noise cannot pass or fail it.
    pub fn judge(&self, limit: Limit) -> Judgement {
        let Estimate { low, high, .. } = self.estimate;
        let (within, beyond) = match limit {
            Limit::AtMost(bound) => (high <= bound, low > bound),
            Limit::AtLeast(bound) => (low >= bound, high < bound),
        };
        if within {
            Judgement::Holds
        } else if beyond {
            Judgement::Exceeds
        } else {
            Judgement::TooNoisy
        }
    }
}

impl From<Comparison> for Figure {
    fn from(comparison: Comparison) -> Self {
        Figure {
            kind: FigureKind::Ratio,
            estimate: Estimate {
                value: comparison.ratio,
                low: comparison.low,
                high: comparison.high,
            },
            samples: comparison.pairs,
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Estimate { value, low, high } = self.estimate;
        let (value, low, high) = (Digits(value), Digits(low), Digits(high));
        let unit = match self.kind {
            FigureKind::Ratio => "",
            FigureKind::Rate => "/s",
            FigureKind::Seconds => " s",
        };
        let samples = self.samples;
        write!(f, "{value}{unit} (95 %: {low} to {high}, n = {samples})")
    }
}

/// Shows a figure, and hands it to the runner when there is one: the one line with which a
/// benchmark ends.
///
/// `name` is the one by which `lab.toml` sets the limit. Where the environment names no file of
/// figures ([`FIGURES_FILE`]), the figure is only shown.
///
/// # Panics
/// When the file cannot be written: a figure that gets lost would count as not measured.
pub fn report(name: &str, figure: impl Into<Figure>) {
    let file = std::env::var_os(FIGURES_FILE);
    report_to(file.as_deref().map(Path::new), name, figure.into());
}

fn report_to(file: Option<&Path>, name: &str, figure: Figure) {
    println!("{name}: {figure}");
    if let Some(file) = file
        && let Err(error) = figure.record(name).append_to(file)
    {
        panic!(
            "could not write the figure `{name}` to {}: {error}",
            file.display()
        );
    }
}

/// A closure with the number of calls that fill a slice.
struct Timed<F> {
    body: F,
    calls: u64,
}

impl<A, F: FnMut() -> A> Timed<F> {
    /// The seconds that one slice takes, never zero.
    fn slice(&mut self, clock: &impl Clock) -> f64 {
        let start = clock.now();
        for _ in 0..self.calls {
            black_box((self.body)());
        }
        let took = clock.now().saturating_sub(start);
        took.max(Duration::from_nanos(1)).as_secs_f64()
    }

    fn per_slice(&self) -> f64 {
        count(self.calls)
    }

    fn side(&self, slices: &mut [f64]) -> Side {
        Side {
            slice: Duration::from_secs_f64(Estimate::of_median(slices).value),
            calls_per_slice: self.calls,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Estimate {
    value: f64,
    low: f64,
    high: f64,
}

impl Estimate {
    /// The median and its interval, from samples that this sorts.
    fn of_median(samples: &mut [f64]) -> Self {
        assert!(
            samples.len() >= FEWEST_SAMPLES,
            "{} samples give no interval of 95 %: take {FEWEST_SAMPLES} at least",
            samples.len()
        );
        assert!(
            samples.iter().all(|sample| sample.is_finite()),
            "a sample is not finite: {samples:?}"
        );
        samples.sort_by(f64::total_cmp);
        let n = samples.len();
        let depth = interval_depth(n);
        Estimate {
            value: f64::midpoint(samples[(n - 1) / 2], samples[n / 2]),
            low: samples[depth],
            high: samples[n - 1 - depth],
        }
    }
}

/// How many of `n` samples lie outside of the 95 % interval of the median on each side: the
/// largest `d` with `P(Binomial(n, 1/2) <= d) <= 0.025`.
fn interval_depth(n: usize) -> usize {
    let mut log_probability = -count(n as u64) * std::f64::consts::LN_2;
    let mut below = 0.0;
    for depth in 0..n {
        below += log_probability.exp();
        if below > 0.025 {
            return depth.saturating_sub(1);
        }
        log_probability += (count((n - depth) as u64) / count(depth as u64 + 1)).ln();
    }
    0
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn count(n: u64) -> f64 {
    n as f64
}

/// A number with four significant digits.
struct Digits(f64);

impl fmt::Display for Digits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = self.0.abs();
        if magnitude == 0.0 {
            f.write_str("0")
        } else if !(1e-3..1e6).contains(&magnitude) {
            write!(f, "{:.3e}", self.0)
        } else {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 0 and 6"
            )]
            let decimals = (3.0 - magnitude.log10().floor()).clamp(0.0, 6.0) as usize;
            write!(f, "{:.decimals$}", self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// A clock that moves only as the workloads move it.
    #[derive(Default)]
    struct Simulated {
        now: Cell<f64>,
        drawn: Cell<u64>,
    }

    impl Clock for Simulated {
        fn now(&self) -> Duration {
            Duration::from_secs_f64(self.now.get())
        }
    }

    impl Simulated {
        fn spend(&self, seconds: f64) {
            self.now.set(self.now.get() + seconds);
        }

        /// A uniform draw from (0, 1].
        fn uniform(&self, seed: Seed) -> f64 {
            let index = self.drawn.get();
            self.drawn.set(index + 1);
            count((seed.derive(index).0 >> 11) + 1) / count(1 << 53)
        }

        /// A log-normal draw of median 1 (Box and Muller).
        fn log_normal(&self, seed: Seed, sigma: f64) -> f64 {
            let radius = (-2.0 * self.uniform(seed).ln()).sqrt();
            let angle = std::f64::consts::TAU * self.uniform(seed);
            (sigma * radius * angle.cos()).exp()
        }
    }

    /// One call fills one slice, so that each draw of noise hits one slice.
    const CALL: f64 = 0.005;

    fn compare(
        plan: Plan,
        seed: Seed,
        truth: f64,
        cost: impl Fn(&Simulated, Seed) -> f64,
    ) -> Comparison {
        let clock = Simulated::default();
        plan.seed(seed).run_on(
            &clock,
            || clock.spend(CALL * cost(&clock, seed)),
            || clock.spend(CALL * truth * cost(&clock, seed)),
        )
    }

    fn short() -> Plan {
        Plan::default().pairs(41).warm_up(Duration::from_millis(10))
    }

    #[test]
    fn the_interval_covers_the_truth_in_at_least_93_of_100_noisy_trials() {
        let truth = 1.03;
        let covered = (0..500)
            .filter(|&seed| {
                let found = compare(short(), Seed(seed), truth, |clock, seed| {
                    clock.log_normal(seed, 0.1)
                });
                (found.low..=found.high).contains(&truth)
            })
            .count();
        assert!(covered >= 465, "{covered} of 500 intervals cover the truth");
        // One that covers always is too wide to be of use.
        assert!(covered < 500, "every interval covers the truth");
    }

    #[test]
    fn a_drift_that_both_sides_share_cancels_out() {
        // Each slice is about 1 % slower than the one before, and the last five times as slow as
        // the first: measured one side after the other, the ratio would be off by 2.
        for seed in 0..20 {
            let found = compare(short(), Seed(seed), 1.1, |clock, seed| {
                (1.0 + 2.0 * clock.now.get()) * clock.log_normal(seed, 0.001)
            });
            assert!((found.ratio - 1.1).abs() < 0.001, "{found:?}");
        }
    }

    #[test]
    fn outliers_do_not_decide() {
        for seed in 0..20 {
            let found = compare(short(), Seed(seed), 1.1, |clock, seed| {
                // One slice in twenty, and so nearly one pair in five.
                let hit = clock.uniform(seed) < 0.05;
                clock.log_normal(seed, 0.005) * if hit { 100.0 } else { 1.0 }
            });
            assert!((found.ratio - 1.1).abs() < 0.01, "{found:?}");
            assert_eq!(found.judge(Limit::AtMost(1.2)), Judgement::Holds);
        }
    }

    #[test]
    fn each_judgement_occurs() {
        for (sigma, limit, expected) in [
            (0.001, Limit::AtMost(1.02), Judgement::Holds),
            (0.001, Limit::AtMost(1.005), Judgement::Exceeds),
            (0.2, Limit::AtMost(1.02), Judgement::TooNoisy),
            (0.001, Limit::AtLeast(1.005), Judgement::Holds),
            (0.001, Limit::AtLeast(1.02), Judgement::Exceeds),
            (0.2, Limit::AtLeast(1.02), Judgement::TooNoisy),
        ] {
            let found = compare(short(), Seed(7), 1.01, |clock, seed| {
                clock.log_normal(seed, sigma)
            });
            assert_eq!(found.judge(limit), expected, "{found:?} {limit}");
        }
    }

    #[test]
    fn each_side_is_calibrated_to_the_slice_and_compared_by_the_call() {
        let clock = Simulated::default();
        let found = short().run_on(&clock, || clock.spend(1e-6), || clock.spend(2e-4));
        assert!((found.ratio - 200.0).abs() < 1.0, "{found:?}");
        for side in [found.baseline, found.candidate] {
            let millis = side.slice.as_secs_f64() * 1e3;
            assert!((4.5..=5.5).contains(&millis), "{side:?}");
        }
        assert!(
            (found.baseline.seconds_per_call() - 1e-6).abs() < 1e-8,
            "{found:?}"
        );
    }

    #[test]
    fn an_interruption_while_calibrating_does_not_shorten_the_slices() {
        let clock = Simulated::default();
        let calls = Cell::new(0_u64);
        let figure = short().run_on(
            &clock,
            || {
                calls.set(calls.get() + 1);
                // The hundredth call comes early in the calibration.
                clock.spend(if calls.get() == 100 { 0.02 } else { 1e-6 });
            },
            || clock.spend(1e-6),
        );
        assert_eq!(
            figure.baseline.calls_per_slice,
            figure.candidate.calls_per_slice
        );
    }

    #[test]
    fn a_pair_is_abba_or_baab_by_the_seed() {
        let orders: Vec<String> = (0..2)
            .map(|seed| {
                let clock = Simulated::default();
                let order = std::cell::RefCell::new(String::new());
                let call = |side| {
                    order.borrow_mut().push(side);
                    clock.spend(CALL);
                };
                let _ = Plan::default()
                    .seed(Seed(seed))
                    .warm_up(Duration::ZERO)
                    .run_on(&clock, || call('A'), || call('B'));
                // The first calls calibrate, one side after the other.
                order.into_inner().split_off(2 * CALIBRATING_SLICES)
            })
            .collect();
        for order in &orders {
            let pairs: Vec<&str> = (0..100)
                .map(|pair| &order[4 * pair..4 * pair + 4])
                .collect();
            assert!(pairs.iter().all(|pair| ["ABBA", "BAAB"].contains(pair)));
            let forward = pairs.iter().filter(|pair| **pair == "ABBA").count();
            assert!((30..=70).contains(&forward), "{forward} of 100");
        }
        assert_ne!(orders[0], orders[1]);
    }

    #[test]
    fn the_budget_ends_the_measurement_but_not_before_an_interval_exists() {
        let plan = Plan::default().warm_up(Duration::ZERO);
        let tight = compare(plan.budget(Duration::ZERO), Seed(1), 1.0, |_, _| 1.0);
        assert_eq!(tight.pairs, FEWEST_SAMPLES);
        let half = compare(plan.budget(Duration::from_secs(1)), Seed(1), 1.0, |_, _| {
            1.0
        });
        assert!((48..=51).contains(&half.pairs), "{half:?}");
    }

    #[test]
    fn closures_that_take_no_time_do_not_calibrate_for_ever() {
        struct Stopped;
        impl Clock for Stopped {
            fn now(&self) -> Duration {
                Duration::ZERO
            }
        }
        let mut plan = Plan::default().pairs(6).warm_up(Duration::ZERO);
        plan.most_calls = 1 << 10;
        let found = plan.run_on(&Stopped, || (), || ());
        assert_eq!(found.baseline.calls_per_slice, 1 << 10);
        assert_eq!(found.ratio, 1.0);
    }

    #[test]
    fn the_depth_of_the_interval_is_that_of_the_tables() {
        // Order statistics of the 95 % sign interval: n = 6: 1st, 10: 2nd, 20: 6th, 50: 18th,
        // 100: 40th.
        for (n, depth) in [
            (6, 0),
            (8, 0),
            (9, 1),
            (10, 1),
            (20, 5),
            (50, 17),
            (100, 39),
        ] {
            assert_eq!(interval_depth(n), depth, "{n}");
        }
        assert!((4_860..4_910).contains(&interval_depth(10_000)));
    }

    #[test]
    #[should_panic(expected = "5 pairs give no interval")]
    fn a_plan_without_an_interval_cannot_be_made() {
        let _ = Plan::default().pairs(5);
    }

    #[test]
    fn a_figure_survives_its_record_and_a_forged_one_is_refused() {
        let figure = Figure::rate(&[10.0, 12.0, 11.0, 9.0, 10.5, 11.5, 10.0]);
        let record = figure.record("throughput");
        assert_eq!(Figure::from_record(&record), Ok(figure));
        for (forged, part) in [
            (
                FigureRecord {
                    low: f64::NAN,
                    ..record.clone()
                },
                "not finite",
            ),
            (
                FigureRecord {
                    low: 99.0,
                    ..record.clone()
                },
                "outside of its interval",
            ),
            (
                FigureRecord {
                    samples: 1,
                    ..record.clone()
                },
                "1 samples",
            ),
        ] {
            let error = Figure::from_record(&forged).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn reported_figures_are_appended_for_the_runner_in_order() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("figures.jsonl");
        let overhead = Figure::ratio(&[1.01; 6]);
        let recovery = Figure::seconds(&[0.1, 0.2, 0.3, 0.4, 0.5, 0.6]);
        report_to(None, "overhead", overhead);
        assert!(!file.exists());
        report_to(Some(&file), "overhead", overhead);
        report_to(Some(&file), "recovery", recovery);
        let text = std::fs::read_to_string(&file).expect("the figures");
        assert_eq!(
            FigureRecord::read_all(&text),
            [overhead.record("overhead"), recovery.record("recovery")]
        );
    }

    #[test]
    #[should_panic(expected = "could not write the figure `overhead`")]
    fn a_figure_that_cannot_be_written_is_not_lost_in_silence() {
        let folder = tempfile::tempdir().expect("a folder");
        report_to(Some(folder.path()), "overhead", Figure::ratio(&[1.01; 6]));
    }

    #[test]
    fn figures_read_well_in_80_columns() {
        for (figure, text) in [
            (
                Figure::ratio(&[1.0123; 6]),
                "1.012 (95 %: 1.012 to 1.012, n = 6)",
            ),
            (
                Figure::rate(&[123_456.7; 6]),
                "123457/s (95 %: 123457 to 123457, n = 6)",
            ),
            (
                Figure::seconds(&[0.000_012_34; 6]),
                "1.234e-5 s (95 %: 1.234e-5 to 1.234e-5, n = 6)",
            ),
        ] {
            assert_eq!(figure.to_string(), text);
        }
    }
}
