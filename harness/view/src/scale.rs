//! The arithmetic of charts: ticks, rates, gaps, and fewer points than the dump has.
//!
//! Not for judging: rates here are those between neighboring scrapes, without extrapolation to a
//! window, and no quantile is estimated.

use crate::units::{self, Precision};

/// A moment in seconds since the Unix epoch, and a value.
pub type Point = (f64, f64);

/// Values beyond this cannot be drawn: a range of them would overflow.
const LARGEST: f64 = 1e280;

/// Whether a value has a place on an axis.
pub fn drawable(value: f64) -> bool {
    value.abs() <= LARGEST
}

/// Ticks at multiples of 1, 2, 2.5 or 5 times a power of ten, at most `most` of them, that lie
/// within the range, and how far apart they are.
pub fn ticks(low: f64, high: f64, most: usize) -> (Vec<f64>, f64) {
    let range = high - low;
    if !range.is_finite() || range <= 0.0 || most < 2 {
        return (vec![low], 1.0);
    }
    let coarse = range / most as f64;
    let magnitude = 10f64.powf(coarse.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0]
        .iter()
        .map(|nice| nice * magnitude)
        .find(|step| multiples(low, high, *step).len() <= most)
        .unwrap_or(range);
    (multiples(low, high, step), step)
}

/// The multiples of `step` from `low` to `high`.
fn multiples(low: f64, high: f64, step: f64) -> Vec<f64> {
    // Half a millionth of slack, so that 0.3 is a multiple of 0.1.
    let first = (low / step - 5e-7).ceil();
    let last = (high / step + 5e-7).floor();
    if !(first.is_finite() && last.is_finite()) || last - first > 1e4 {
        return Vec::new();
    }
    (0..=(last - first).max(-1.0) as i64)
        .filter(|_| last >= first)
        .map(|nth| (first + nth as f64) * step)
        .collect()
}

/// A range that holds all of the values, zero if it is near, and is never empty.
pub fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values
        .filter(|value| drawable(*value))
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
    if low > high {
        return (0.0, 1.0);
    }
    // An axis that begins at zero shows sizes truly; one for values far from zero shows none.
    let low = if low > 0.0 && low < 0.9 * high {
        0.0
    } else {
        low
    };
    let high = if high < 0.0 && high > 0.9 * low {
        0.0
    } else {
        high
    };
    if low == high {
        // A value that never moves is a level above zero, or below.
        return match low {
            0.0 => (0.0, 1.0),
            level if level > 0.0 => (0.0, 1.2 * level),
            level => (1.2 * level, 0.0),
        };
    }
    let room = (high - low) * 0.05;
    (if low == 0.0 { 0.0 } else { low - room }, high + room)
}

/// Ticks of a time axis in UTC, at whole seconds, minutes, hours or days, with their labels.
pub fn time_ticks(from: f64, to: f64, most: usize) -> Vec<(f64, String)> {
    const STEPS: [f64; 26] = [
        1.0,
        2.0,
        5.0,
        10.0,
        15.0,
        30.0,
        60.0,
        120.0,
        300.0,
        600.0,
        900.0,
        1800.0,
        3600.0,
        7200.0,
        10_800.0,
        21_600.0,
        43_200.0,
        86_400.0,
        172_800.0,
        604_800.0,
        1_209_600.0,
        2_592_000.0,
        7_776_000.0,
        31_536_000.0,
        315_360_000.0,
        3_153_600_000.0,
    ];
    if to - from < 2.0 {
        let (ticks, _) = ticks(from, to, most);
        return labeled(ticks, Precision::Milli);
    }
    let Some(step) = STEPS
        .iter()
        .find(|step| multiples(from, to, **step).len() <= most && (to - from) / **step < 1e4)
    else {
        return labeled(ticks(from, to, most).0, Precision::Day);
    };
    let precision = match *step {
        step if step < 60.0 => Precision::Second,
        step if step < 86_400.0 => Precision::Minute,
        _ => Precision::Day,
    };
    labeled(multiples(from, to, *step), precision)
}

fn labeled(ticks: Vec<f64>, precision: Precision) -> Vec<(f64, String)> {
    ticks
        .into_iter()
        .map(|at| (at, units::moment(at, precision)))
        .collect()
}

/// The rate between neighboring samples, at the later of the two.
///
/// A value that fell tells of a restart, and the increase is then all of the new value, as in
/// Prometheus. Samples that do not follow in time, and those that are not numbers, give no rate.
pub fn rates(samples: &[Point]) -> Vec<Point> {
    let numbers: Vec<Point> = samples
        .iter()
        .copied()
        .filter(|(_, value)| drawable(*value))
        .collect();
    numbers
        .windows(2)
        .filter(|pair| pair[1].0 > pair[0].0)
        .map(|pair| {
            let ((earlier, before), (later, after)) = (pair[0], pair[1]);
            let increase = if after < before {
                after
            } else {
                after - before
            };
            (later, increase / (later - earlier))
        })
        .collect()
}

/// How many times a cumulative series began again.
pub fn resets(samples: &[Point]) -> usize {
    samples
        .windows(2)
        .filter(|pair| pair[1].1 < pair[0].1)
        .count()
}

/// Cuts a series where samples are missing: at values that cannot be drawn, and where the distance
/// is more than three times the usual one.
pub fn segments(points: &[Point]) -> Vec<Vec<Point>> {
    let mut distances: Vec<f64> = points
        .windows(2)
        .map(|pair| pair[1].0 - pair[0].0)
        .collect();
    distances.sort_by(f64::total_cmp);
    let usual = distances
        .get(distances.len() / 2)
        .copied()
        .unwrap_or(f64::INFINITY);
    let mut segments: Vec<Vec<Point>> = Vec::new();
    let mut last: Option<f64> = None;
    for &(at, value) in points {
        if !drawable(value) {
            last = None;
            continue;
        }
        match (last, segments.last_mut()) {
            (Some(before), Some(open)) if at - before <= 3.0 * usual => open.push((at, value)),
            _ => segments.push(vec![(at, value)]),
        }
        last = Some(at);
    }
    segments
}

/// At most four points for each of `columns` equal parts of the time from `from` to `to`: the
/// first, the lowest, the highest and the last, in their order. What falls on one column of pixels
/// cannot be told apart in a picture, except by how far it reaches.
pub fn downsample(points: &[Point], from: f64, to: f64, columns: usize) -> Vec<Point> {
    if points.len() <= 2 * columns || to <= from {
        return points.to_vec();
    }
    let column = |at: f64| ((at - from) / (to - from) * columns as f64).floor();
    let mut kept = Vec::with_capacity(4 * columns);
    for group in points.chunk_by(|a, b| column(a.0) == column(b.0)) {
        let by_value = |a: &&Point, b: &&Point| a.1.total_cmp(&b.1);
        let mut chosen: Vec<Point> = [
            group.first(),
            group.iter().min_by(by_value),
            group.iter().max_by(by_value),
            group.last(),
        ]
        .into_iter()
        .flatten()
        .copied()
        .collect();
        chosen.sort_by(|a, b| a.0.total_cmp(&b.0));
        chosen.dedup();
        kept.extend(chosen);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_nice_few_and_within_the_range() {
        assert_eq!(
            ticks(0.0, 10.0, 6),
            (vec![0.0, 2.0, 4.0, 6.0, 8.0, 10.0], 2.0)
        );
        assert_eq!(ticks(0.0, 1.0, 5), (vec![0.0, 0.25, 0.5, 0.75, 1.0], 0.25));
        assert_eq!(ticks(-3.0, 3.0, 4).0, [-2.0, 0.0, 2.0]);
        for (low, high) in [
            (0.0, 1e-9),
            (-1e280, 1e280),
            (1e15, 1e15 + 8.0),
            (0.1, 0.30000000000000004),
            (-5.0, -4.9),
        ] {
            for most in 2..12 {
                let (ticks, step) = ticks(low, high, most);
                assert!(ticks.len() <= most, "{low} to {high}: {ticks:?}");
                let slack = step * 1e-6;
                assert!(
                    ticks
                        .iter()
                        .all(|t| *t >= low - slack && *t <= high + slack),
                    "{low} to {high}: {ticks:?}"
                );
            }
        }
    }

    #[test]
    fn a_range_is_never_empty_and_begins_at_zero_where_that_is_near() {
        assert_eq!(range([].into_iter()), (0.0, 1.0));
        assert_eq!(range([f64::NAN, f64::INFINITY].into_iter()), (0.0, 1.0));
        assert_eq!(range([2.0, 10.0].into_iter()).0, 0.0);
        assert!(range([998.0, 1000.0].into_iter()).0 > 900.0);
        for one in [0.0, 8.0, -8.0] {
            let (low, high) = range([one].into_iter());
            assert!(low < high && low <= one && one <= high, "{one}");
        }
    }

    #[test]
    fn time_ticks_lie_on_whole_units_and_say_them() {
        let noon = 1_764_331_200.0;
        let ticks = time_ticks(noon - 3600.0, noon + 3600.0, 6);
        let labels: Vec<&str> = ticks.iter().map(|(_, label)| label.as_str()).collect();
        assert_eq!(labels, ["11:00", "11:30", "12:00", "12:30", "13:00"]);
        for (from, to) in [(0.0, 1.0), (-1e12, 1e12), (0.0, 3e9), (noon, noon + 0.01)] {
            let ticks = time_ticks(from, to, 7);
            assert!(ticks.len() <= 7, "{from} to {to}: {ticks:?}");
            assert!(!ticks.is_empty(), "{from} to {to}");
        }
    }

    #[test]
    fn a_rate_takes_a_fall_as_a_restart_from_zero() {
        let samples = [(0.0, 100.0), (10.0, 150.0), (20.0, 30.0), (30.0, 60.0)];
        assert_eq!(rates(&samples), [(10.0, 5.0), (20.0, 3.0), (30.0, 3.0)]);
        assert_eq!(resets(&samples), 1);
    }

    #[test]
    fn a_rate_needs_two_numbers_at_two_moments() {
        assert!(rates(&[(0.0, 1.0)]).is_empty());
        assert!(rates(&[(5.0, 1.0), (5.0, 2.0)]).is_empty());
        let holed = [(0.0, 1.0), (10.0, f64::NAN), (20.0, 5.0)];
        assert_eq!(rates(&holed), [(20.0, 0.2)]);
    }

    #[test]
    fn a_line_breaks_where_scrapes_are_missing() {
        let points = [
            (0.0, 1.0),
            (10.0, 1.0),
            (20.0, 1.0),
            (80.0, 1.0),
            (90.0, 1.0),
        ];
        let lengths: Vec<usize> = segments(&points).iter().map(Vec::len).collect();
        assert_eq!(lengths, [3, 2]);
        let holed = [(0.0, 1.0), (10.0, f64::NAN), (20.0, 1.0)];
        assert_eq!(segments(&holed).len(), 2);
        assert!(segments(&[]).is_empty());
    }

    #[test]
    fn downsampling_keeps_every_extreme_and_the_ends() {
        let mut points: Vec<Point> = (0..100_000)
            .map(|nth| (f64::from(nth), f64::from(nth % 7)))
            .collect();
        points[31_337].1 = 1e6;
        points[77_777].1 = -1e6;
        let fewer = downsample(&points, 0.0, 99_999.0, 200);
        assert!(fewer.len() <= 4 * 201, "{}", fewer.len());
        assert!(fewer.contains(&(31_337.0, 1e6)));
        assert!(fewer.contains(&(77_777.0, -1e6)));
        assert_eq!(fewer.first(), points.first());
        assert_eq!(fewer.last(), points.last());
        assert!(fewer.windows(2).all(|pair| pair[0].0 <= pair[1].0));
    }

    #[test]
    fn few_points_are_kept_as_they_are() {
        let points = [(0.0, 1.0), (1.0, 2.0)];
        assert_eq!(downsample(&points, 0.0, 1.0, 100), points);
    }
}
