//! Functions of the samples of one series in one window.
//!
//! The order of every floating-point operation is that of Prometheus, so that results agree to the
//! last bit.

use crate::dialect::Dialect;
use crate::eval::ABSENT;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RangeFunction {
    Average,
    Changes,
    Count,
    Delta,
    Derivative,
    First,
    Increase,
    InstantDelta,
    InstantRate,
    Last,
    Max,
    MedianDeviation,
    Min,
    PredictLinear,
    Present,
    Quantile,
    Rate,
    Resets,
    Smoothing,
    StandardDeviation,
    Sum,
    TimeOfFirst,
    TimeOfLast,
    TimeOfMax,
    TimeOfMin,
    Variance,
}

impl RangeFunction {
    /// Whether the result is a value of the series itself, which then keeps its name.
    pub(crate) fn keeps_name(self) -> bool {
        matches!(self, Self::First | Self::Last)
    }

    /// Whether the work for one window does not grow with the samples in it.
    pub(crate) fn is_constant_work(self) -> bool {
        matches!(
            self,
            Self::Count
                | Self::First
                | Self::Last
                | Self::Present
                | Self::InstantDelta
                | Self::InstantRate
                | Self::Rate
                | Self::Increase
                | Self::Delta
                | Self::TimeOfFirst
                | Self::TimeOfLast
        )
    }
}

/// The samples of a series in a window. Never empty.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window<'a> {
    pub(crate) times: &'a [i64],
    pub(crate) values: &'a [f64],
    /// Values before which, within the window, the series fell.
    pub(crate) before_resets: &'a [f64],
    pub(crate) start_ms: i64,
    pub(crate) end_ms: i64,
    pub(crate) range_ms: i64,
    /// When the query is evaluated, which with an offset is not the end of the window.
    pub(crate) now_ms: i64,
}

/// The value of a function, or [`ABSENT`] where the window holds too little.
///
/// # Errors
/// An argument that the function does not take.
pub(crate) fn apply(
    function: RangeFunction,
    window: &Window<'_>,
    arguments: &[f64],
    dialect: Dialect,
) -> Result<f64, String> {
    let values = window.values;
    let argument = |nth: usize| arguments.get(nth).copied().unwrap_or(f64::NAN);
    Ok(match function {
        RangeFunction::Average => match dialect {
            Dialect::V2 => running_average(values),
            Dialect::V3 => average(values),
        },
        RangeFunction::Changes => count_pairs(values, |before, after| {
            before != after && !(before.is_nan() && after.is_nan())
        }),
        RangeFunction::Count => values.len() as f64,
        RangeFunction::Delta => extrapolated(window, false, false, dialect),
        RangeFunction::Derivative => match regression(window, window.times[0]) {
            Some((slope, _)) => slope,
            None => ABSENT,
        },
        RangeFunction::First => values[0],
        RangeFunction::Increase => extrapolated(window, true, false, dialect),
        RangeFunction::InstantDelta => last_two(window, false),
        RangeFunction::InstantRate => last_two(window, true),
        RangeFunction::Last => values[values.len() - 1],
        RangeFunction::Max => extreme(values, |value, held| value > held).0,
        RangeFunction::Min => extreme(values, |value, held| value < held).0,
        RangeFunction::TimeOfMax => {
            seconds(window.times[extreme(values, |value, held| value >= held).1])
        }
        RangeFunction::TimeOfMin => {
            seconds(window.times[extreme(values, |value, held| value <= held).1])
        }
        RangeFunction::MedianDeviation => {
            let median = quantile(0.5, &mut values.to_vec());
            let mut distances: Vec<f64> =
                values.iter().map(|value| (value - median).abs()).collect();
            quantile(0.5, &mut distances)
        }
        RangeFunction::PredictLinear => match regression(window, window.now_ms) {
            Some((slope, intercept)) => slope * argument(0) + intercept,
            None => ABSENT,
        },
        RangeFunction::Present => 1.0,
        RangeFunction::Quantile => quantile(argument(0), &mut values.to_vec()),
        RangeFunction::Rate => extrapolated(window, true, true, dialect),
        RangeFunction::Resets => count_pairs(values, |before, after| after < before),
        RangeFunction::Smoothing => smoothing(values, argument(0), argument(1))?,
        RangeFunction::StandardDeviation => variance(values, dialect).sqrt(),
        RangeFunction::Sum => {
            let mut sum = Compensated::default();
            values.iter().for_each(|value| sum.add(*value, dialect));
            sum.total()
        }
        RangeFunction::TimeOfFirst => seconds(window.times[0]),
        RangeFunction::TimeOfLast => seconds(window.times[window.times.len() - 1]),
        RangeFunction::Variance => variance(values, dialect),
    })
}

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

/// A sum with the error of its additions kept apart (Kahan's, with Neumaier's improvement).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Compensated {
    pub(crate) sum: f64,
    pub(crate) lost: f64,
}

impl Compensated {
    pub(crate) fn add(&mut self, value: f64, dialect: Dialect) {
        let sum = self.sum + value;
        if sum.is_infinite() && dialect == Dialect::V3 {
            self.lost = 0.0;
        } else if self.sum.abs() >= value.abs() {
            self.lost += (self.sum - sum) + value;
        } else {
            self.lost += (value - sum) + self.sum;
        }
        self.sum = sum;
    }

    pub(crate) fn total(self) -> f64 {
        if self.sum.is_infinite() {
            self.sum
        } else {
            self.sum + self.lost
        }
    }
}

/// The mean as version 3 computes it: sum by count, step by step only where the sum overflows.
fn average(values: &[f64]) -> f64 {
    let mut mean = Mean::starting_with(values[0]);
    for value in &values[1..] {
        mean.add(*value);
    }
    mean.total()
}

/// The running mean of version 3, for windows and for aggregations.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mean {
    held: Compensated,
    pub(crate) count: f64,
    step_by_step: bool,
}

impl Mean {
    pub(crate) fn starting_with(value: f64) -> Self {
        Self {
            held: Compensated {
                sum: value,
                lost: 0.0,
            },
            count: 1.0,
            step_by_step: false,
        }
    }

    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1.0;
        if !self.step_by_step {
            let mut next = self.held;
            next.add(value, Dialect::V3);
            if !next.sum.is_infinite() {
                self.held = next;
                return;
            }
            self.step_by_step = true;
            self.held.sum /= self.count - 1.0;
            self.held.lost /= self.count - 1.0;
        }
        let part = (self.count - 1.0) / self.count;
        self.held.sum *= part;
        self.held.lost *= part;
        self.held.add(value / self.count, Dialect::V3);
    }

    pub(crate) fn total(self) -> f64 {
        if self.step_by_step {
            self.held.sum + self.held.lost
        } else {
            self.held.sum / self.count + self.held.lost / self.count
        }
    }
}

/// The mean over time as version 2 computes it.
fn running_average(values: &[f64]) -> f64 {
    let mut mean = Compensated::default();
    for (nth, &value) in values.iter().enumerate() {
        let count = (nth + 1) as f64;
        if keeps_infinite_mean(mean.sum, value) {
            continue;
        }
        mean.add(value / count - mean.sum / count, Dialect::V2);
    }
    mean.total()
}

/// Whether an infinite mean stays as it is: the same infinity or a finite value changes nothing.
pub(crate) fn keeps_infinite_mean(mean: f64, value: f64) -> bool {
    mean.is_infinite()
        && ((value.is_infinite() && (mean > 0.0) == (value > 0.0)) || value.is_finite())
}

fn variance(values: &[f64], dialect: Dialect) -> f64 {
    let mut count = 0.0;
    let mut mean = Compensated::default();
    let mut squares = Compensated::default();
    for &value in values {
        count += 1.0;
        let difference = value - (mean.sum + mean.lost);
        mean.add(difference / count, dialect);
        squares.add(difference * (value - (mean.sum + mean.lost)), dialect);
    }
    (squares.sum + squares.lost) / count
}

fn count_pairs(values: &[f64], counts: impl Fn(f64, f64) -> bool) -> f64 {
    values
        .windows(2)
        .filter(|pair| counts(pair[0], pair[1]))
        .count() as f64
}

/// The extreme value and where it is; NaN only if there is nothing else.
fn extreme(values: &[f64], wins: impl Fn(f64, f64) -> bool) -> (f64, usize) {
    let mut held = (values[0], 0);
    for (at, &value) in values.iter().enumerate() {
        if wins(value, held.0) || held.0.is_nan() {
            held = (value, at);
        }
    }
    held
}

/// Orders numbers with NaN before all others.
pub(crate) fn nan_first(a: &f64, b: &f64) -> std::cmp::Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => std::cmp::Ordering::Equal,
        (true, false) => std::cmp::Ordering::Less,
        (false, true) => std::cmp::Ordering::Greater,
        (false, false) => a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal),
    }
}

/// The `q`-quantile of single values, linear between neighbors. Sorts the values.
pub(crate) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    values.sort_unstable_by(nan_first);
    let last = values.len() - 1;
    let rank = q * last as f64;
    let lower = rank.floor();
    let weight = rank - lower;
    let lower = lower as usize;
    values[lower] * (1.0 - weight) + values[(lower + 1).min(last)] * weight
}

/// `rate`, `increase` and `delta`: the difference, carried on to the ends of the window.
///
/// A counter that falls was reset: what it had before counts too. Where the first (last) sample is
/// within 1.1 mean intervals of the start (end), the growth is carried on to there, else half an
/// interval; a counter is not carried on below zero.
fn extrapolated(window: &Window<'_>, counter: bool, per_second: bool, dialect: Dialect) -> f64 {
    let last = window.values.len() - 1;
    if last == 0 {
        return ABSENT;
    }
    let first_value = window.values[0];
    let mut result = window.values[last] - first_value;
    if counter {
        for before in window.before_resets {
            result += before;
        }
    }
    let (first_ms, last_ms) = (window.times[0], window.times[last]);
    let mut to_start = seconds(first_ms - window.start_ms);
    let mut to_end = seconds(window.end_ms - last_ms);
    let sampled = seconds(last_ms - first_ms);
    let interval = sampled / last as f64;
    let threshold = interval * 1.1;
    let half = interval / 2.0;
    let to_zero = if counter && result > 0.0 && first_value >= 0.0 {
        sampled * (first_value / result)
    } else {
        f64::INFINITY
    };
    let factor = match dialect {
        Dialect::V2 => {
            if to_zero < to_start {
                to_start = to_zero;
            }
            let mut carried = sampled;
            carried += if to_start < threshold { to_start } else { half };
            carried += if to_end < threshold { to_end } else { half };
            carried / sampled
        }
        Dialect::V3 => {
            if to_start >= threshold {
                to_start = half;
            }
            if to_zero < to_start {
                to_start = to_zero;
            }
            if to_end >= threshold {
                to_end = half;
            }
            (sampled + to_start + to_end) / sampled
        }
    };
    if per_second {
        result * (factor / seconds(window.range_ms))
    } else {
        result * factor
    }
}

fn last_two(window: &Window<'_>, rate: bool) -> f64 {
    let count = window.values.len();
    if count < 2 {
        return ABSENT;
    }
    let (before, last) = (window.values[count - 2], window.values[count - 1]);
    let elapsed_ms = window.times[count - 1] - window.times[count - 2];
    if elapsed_ms == 0 {
        return ABSENT;
    }
    // After a reset the counter started from zero.
    let difference = if rate && last < before {
        last
    } else {
        last - before
    };
    if rate {
        difference / seconds(elapsed_ms)
    } else {
        difference
    }
}

/// Slope per second and value at a time, by least squares; `None` with fewer than two samples.
fn regression(window: &Window<'_>, at_ms: i64) -> Option<(f64, f64)> {
    if window.values.len() < 2 {
        return None;
    }
    // Version 2 does the same sums; infinities among them end in NaN either way.
    let dialect = Dialect::V3;
    let first = window.values[0];
    if window.values.iter().all(|value| *value == first) {
        return Some(if first.is_infinite() {
            (f64::NAN, f64::NAN)
        } else {
            (0.0, first)
        });
    }
    let mut count = 0.0;
    let [mut x_sum, mut y_sum, mut xy_sum, mut xx_sum] = [Compensated::default(); 4];
    for (&time, &y) in window.times.iter().zip(window.values) {
        count += 1.0;
        let x = (time - at_ms) as f64 / 1e3;
        x_sum.add(x, dialect);
        y_sum.add(y, dialect);
        xy_sum.add(x * y, dialect);
        xx_sum.add(x * x, dialect);
    }
    let [x, y, xy, xx] =
        [x_sum, y_sum, xy_sum, xx_sum].map(|held: Compensated| held.sum + held.lost);
    let covariance = xy - x * y / count;
    let variance = xx - x * x / count;
    let slope = covariance / variance;
    Some((slope, y / count - slope * x / count))
}

/// Double exponential smoothing, after Holt and Winters.
fn smoothing(values: &[f64], factor: f64, trend_factor: f64) -> Result<f64, String> {
    for (what, factor, short) in [("smoothing", factor, "sf"), ("trend", trend_factor, "tf")] {
        if factor <= 0.0 || factor >= 1.0 {
            return Err(format!(
                "invalid {what} factor. Expected: 0 < {short} < 1, got: {factor:.6}"
            ));
        }
    }
    if values.len() < 2 {
        return Ok(ABSENT);
    }
    let (mut before, mut smoothed) = (0.0, values[0]);
    let mut trend = values[1] - values[0];
    for (nth, &value) in values.iter().enumerate().skip(1) {
        let scaled = factor * value;
        if nth > 1 {
            trend = trend_factor * (smoothed - before) + (1.0 - trend_factor) * trend;
        }
        let carried = (1.0 - factor) * (smoothed + trend);
        before = smoothed;
        smoothed = scaled + carried;
    }
    Ok(smoothed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window<'a>(times: &'a [i64], values: &'a [f64], resets: &'a [f64]) -> Window<'a> {
        Window {
            times,
            values,
            before_resets: resets,
            start_ms: 0,
            end_ms: 300_000,
            range_ms: 300_000,
            now_ms: 300_000,
        }
    }

    fn of(function: RangeFunction, window: &Window<'_>) -> f64 {
        apply(function, window, &[0.5, 0.5], Dialect::V3).unwrap()
    }

    #[test]
    fn growth_is_carried_on_to_the_ends_of_the_window() {
        let times = [60_000, 120_000, 180_000, 240_000, 300_000];
        let values = [60.0, 120.0, 180.0, 240.0, 300.0];
        let held = window(&times, &values, &[]);
        assert_eq!(of(RangeFunction::Increase, &held), 300.0);
        assert_eq!(of(RangeFunction::Rate, &held), 1.0);
    }

    #[test]
    fn a_counter_is_not_carried_on_below_zero() {
        let times = [60_000, 120_000, 180_000, 240_000, 300_000];
        let values = [0.0, 60.0, 120.0, 180.0, 240.0];
        assert_eq!(
            of(RangeFunction::Increase, &window(&times, &values, &[])),
            240.0
        );
        assert_eq!(
            of(RangeFunction::Delta, &window(&times, &values, &[])),
            300.0
        );
    }

    #[test]
    fn a_reset_adds_what_was_there_before() {
        let times = [0, 100_000, 200_000, 300_000];
        let values = [10.0, 50.0, 10.0, 20.0];
        assert_eq!(
            of(RangeFunction::Increase, &window(&times, &values, &[50.0])),
            60.0
        );
    }

    #[test]
    fn one_sample_has_no_rate() {
        let held = window(&[1_000], &[1.0], &[]);
        for function in [
            RangeFunction::Rate,
            RangeFunction::InstantRate,
            RangeFunction::Derivative,
        ] {
            assert!(crate::series::is_stale(of(function, &held)));
        }
    }

    #[test]
    fn compensated_sums_lose_nothing_to_large_numbers() {
        let values = [1.0, 1e100, 1.0, -1e100];
        assert_eq!(
            of(RangeFunction::Sum, &window(&[0, 1, 2, 3], &values, &[])),
            2.0
        );
        assert_eq!(
            of(RangeFunction::Average, &window(&[0, 1, 2, 3], &values, &[])),
            0.5
        );
    }

    #[test]
    fn a_mean_of_numbers_whose_sum_overflows_is_finite() {
        let values = [f64::MAX, f64::MAX, f64::MAX];
        assert!(of(RangeFunction::Average, &window(&[0, 1, 2], &values, &[])).is_finite());
    }

    #[test]
    fn extremes_pass_over_nan() {
        let values = [f64::NAN, 2.0, f64::NAN, 1.0];
        let held = window(&[0, 1_000, 2_000, 3_000], &values, &[]);
        assert_eq!(of(RangeFunction::Max, &held), 2.0);
        assert_eq!(of(RangeFunction::Min, &held), 1.0);
        assert_eq!(of(RangeFunction::TimeOfMax, &held), 1.0);
    }

    #[test]
    fn a_smoothing_factor_of_one_is_refused() {
        let held = window(&[0, 1], &[1.0, 2.0], &[]);
        let error = apply(RangeFunction::Smoothing, &held, &[1.0, 0.5], Dialect::V3).unwrap_err();
        assert_eq!(
            error,
            "invalid smoothing factor. Expected: 0 < sf < 1, got: 1.000000"
        );
    }
}
