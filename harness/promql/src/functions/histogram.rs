//! Classic histograms: quantiles and fractions from cumulative buckets.

use crate::dialect::Dialect;

/// A cumulative bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bucket {
    /// The largest value that the bucket counts.
    pub(crate) bound: f64,
    /// How many observations are at most the bound.
    pub(crate) count: f64,
}

/// The upper bound in a label, as Go's `strconv.ParseFloat` reads it.
pub(crate) fn bound(label: &str) -> Option<f64> {
    label.parse::<f64>().ok().filter(|bound| !bound.is_nan())
}

/// Counts of neighboring buckets this close to each other are the same count (version 3).
const TOLERANCE: f64 = 1e-12;

/// What had to be mended before a quantile could be read off.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Mended {
    /// Some count was below that of a smaller bucket: the first and the last bound where that was
    /// so, and the largest difference.
    pub(crate) shrinking: Option<(f64, f64, f64)>,
}

/// The `q`-quantile of buckets sorted by bound.
///
/// Linear within a bucket; the lowest bucket starts at 0, unless its bound is not positive; in the
/// highest bucket the answer is the bound below. NaN without a bucket to infinity, with a single
/// bucket, or with no observation.
pub(crate) fn quantile(q: f64, buckets: &mut Vec<Bucket>, dialect: Dialect) -> (f64, Mended) {
    let nothing = Mended::default();
    if q.is_nan() {
        return (f64::NAN, nothing);
    }
    if q < 0.0 {
        return (f64::NEG_INFINITY, nothing);
    }
    if q > 1.0 {
        return (f64::INFINITY, nothing);
    }
    if buckets
        .last()
        .is_none_or(|last| last.bound != f64::INFINITY)
    {
        return (f64::NAN, nothing);
    }
    coalesce(buckets);
    let mended = force_growth(buckets, dialect);
    if buckets.len() < 2 {
        return (f64::NAN, nothing);
    }
    let last = buckets.len() - 1;
    let observations = buckets[last].count;
    if observations == 0.0 {
        return (f64::NAN, nothing);
    }
    let mut rank = q * observations;
    // `!(<)` rather than `>=`, so that NaN is found to be no match, as in Prometheus.
    let at = search(last, |at| buckets[at].count >= rank);
    if at == last {
        return (buckets[last - 1].bound, mended);
    }
    if at == 0 && buckets[0].bound <= 0.0 {
        return (buckets[0].bound, mended);
    }
    let mut start = 0.0;
    let end = buckets[at].bound;
    let mut count = buckets[at].count;
    if at > 0 {
        start = buckets[at - 1].bound;
        count -= buckets[at - 1].count;
        rank -= buckets[at - 1].count;
    }
    (start + (end - start) * (rank / count), mended)
}

/// Go's `sort.Search`, which also on unordered data probes the same places.
fn search(len: usize, found: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = (low + high) / 2;
        if found(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

/// Adds up buckets that share a bound.
fn coalesce(buckets: &mut Vec<Bucket>) {
    buckets.dedup_by(|next, held| {
        let same = next.bound == held.bound;
        if same {
            held.count += next.count;
        }
        same
    });
}

fn force_growth(buckets: &mut [Bucket], dialect: Dialect) -> Mended {
    let mut mended = Mended::default();
    let mut held = buckets[0].count;
    for bucket in &mut buckets[1..] {
        let count = bucket.count;
        if count == held {
            continue;
        }
        if dialect == Dialect::V3 && almost_equal(held, count, TOLERANCE) {
            bucket.count = held;
            continue;
        }
        if count < held {
            let difference = held - count;
            let (first, _, largest) =
                mended
                    .shrinking
                    .unwrap_or((bucket.bound, bucket.bound, difference));
            mended.shrinking = Some((first, bucket.bound, largest.max(difference)));
            bucket.count = held;
            continue;
        }
        // In version 2 a NaN changes nothing; in version 3 it becomes what is compared with.
        if dialect == Dialect::V3 || count > held {
            held = count;
        }
    }
    mended
}

/// Whether two numbers are equal up to a relative difference; NaN equals NaN.
pub(crate) fn almost_equal(a: f64, b: f64, epsilon: f64) -> bool {
    if crate::series::is_stale(a) || crate::series::is_stale(b) {
        return crate::series::is_stale(a) && crate::series::is_stale(b);
    }
    if a.is_nan() && b.is_nan() {
        return true;
    }
    if a == b {
        return true;
    }
    let sum = a.abs() + b.abs();
    let difference = (a - b).abs();
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < epsilon * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < epsilon
}

/// The fraction of observations between two bounds, from buckets sorted by bound (version 3).
///
/// NaN without a bucket to infinity or with no observation, 0 where `lower >= upper`.
pub(crate) fn fraction(lower: f64, upper: f64, buckets: &mut Vec<Bucket>) -> f64 {
    if buckets
        .last()
        .is_none_or(|last| last.bound != f64::INFINITY)
    {
        return f64::NAN;
    }
    coalesce(buckets);
    let count = buckets[buckets.len() - 1].count;
    if count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let (mut lower_rank, mut upper_rank) = (None, None);
    let mut rank = 0.0;
    let mut start = if buckets[0].bound <= 0.0 {
        f64::NEG_INFINITY
    } else {
        0.0
    };
    for (at, bucket) in buckets.iter().enumerate() {
        if at > 0 {
            start = buckets[at - 1].bound;
        }
        let end = bucket.bound;
        // Within an infinite bucket nothing can be told: all of it counts as at its finite end.
        let within = |value: f64| {
            if start == f64::NEG_INFINITY {
                bucket.count
            } else if end == f64::INFINITY {
                rank
            } else {
                rank + (bucket.count - rank) * (value - start) / (end - start)
            }
        };
        if lower_rank.is_none() && start >= lower {
            lower_rank = Some(rank);
        }
        if upper_rank.is_none() && start >= upper {
            upper_rank = Some(rank);
        }
        if lower_rank.is_none() && start < lower && end > lower {
            lower_rank = Some(within(lower));
        }
        if upper_rank.is_none() && start < upper && end > upper {
            upper_rank = Some(within(upper));
        }
        if lower_rank.is_some() && upper_rank.is_some() {
            break;
        }
        rank = bucket.count;
    }
    let lower_rank = lower_rank.filter(|rank| *rank <= count).unwrap_or(count);
    let upper_rank = upper_rank.filter(|rank| *rank <= count).unwrap_or(count);
    (upper_rank - lower_rank) / count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(pairs: &[(f64, f64)]) -> Vec<Bucket> {
        pairs
            .iter()
            .map(|&(bound, count)| Bucket { bound, count })
            .collect()
    }

    fn of(q: f64, pairs: &[(f64, f64)]) -> f64 {
        quantile(q, &mut buckets(pairs), Dialect::V3).0
    }

    const INF: f64 = f64::INFINITY;

    #[test]
    fn a_quantile_is_linear_within_its_bucket() {
        let pairs = [(1.0, 50.0), (2.0, 100.0), (INF, 100.0)];
        assert_eq!(of(0.25, &pairs), 0.5);
        assert_eq!(of(0.75, &pairs), 1.5);
    }

    #[test]
    fn the_highest_bucket_answers_with_the_bound_below() {
        assert_eq!(of(0.99, &[(1.0, 50.0), (INF, 100.0)]), 1.0);
    }

    #[test]
    fn a_lowest_bucket_that_is_not_positive_answers_with_its_bound() {
        assert_eq!(of(0.1, &[(-1.0, 50.0), (1.0, 60.0), (INF, 100.0)]), -1.0);
    }

    #[test]
    fn what_is_no_histogram_is_nan() {
        assert!(of(0.5, &[(1.0, 10.0), (2.0, 20.0)]).is_nan());
        assert!(of(0.5, &[(INF, 20.0)]).is_nan());
        assert!(of(0.5, &[(1.0, 0.0), (INF, 0.0)]).is_nan());
        assert_eq!(of(-0.1, &[(1.0, 1.0), (INF, 1.0)]), f64::NEG_INFINITY);
        assert_eq!(of(1.1, &[(1.0, 1.0), (INF, 1.0)]), INF);
    }

    #[test]
    fn counts_are_made_to_grow() {
        let pairs = [(1.0, 50.0), (2.0, 40.0), (INF, 100.0)];
        let (value, mended) = quantile(0.5, &mut buckets(&pairs), Dialect::V3);
        assert_eq!(value, 1.0);
        assert_eq!(mended.shrinking, Some((2.0, 2.0, 10.0)));
    }

    #[test]
    fn a_fraction_is_the_inverse_of_a_quantile() {
        let pairs = [(1.0, 50.0), (2.0, 100.0), (INF, 100.0)];
        assert_eq!(fraction(-INF, 1.5, &mut buckets(&pairs)), 0.75);
        assert_eq!(fraction(0.5, 1.5, &mut buckets(&pairs)), 0.5);
        assert_eq!(fraction(2.0, 1.0, &mut buckets(&pairs)), 0.0);
    }
}
