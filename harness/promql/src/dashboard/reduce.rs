//! From a series to the one number that a panel shows.

/// What a series is reduced to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Calculation {
    Last,
    LastNotNull,
    First,
    FirstNotNull,
    Min,
    Max,
    Mean,
    Median,
    Sum,
    Count,
    /// The largest less the smallest.
    Range,
    /// The last less the first.
    Difference,
    /// The same in percent of the first, as a share.
    DifferencePercent,
    /// The sum of all increases; a fall counts as a restart from zero.
    Delta,
    StandardDeviation,
    Variance,
}

impl Calculation {
    /// Grafana's names, as they stand in `reduceOptions.calcs`.
    pub const NAMES: [&'static str; 16] = [
        "last",
        "lastNotNull",
        "first",
        "firstNotNull",
        "min",
        "max",
        "mean",
        "median",
        "sum",
        "count",
        "range",
        "diff",
        "diffperc",
        "delta",
        "stdDev",
        "variance",
    ];

    /// The calculation of one of [`Calculation::NAMES`].
    pub fn named(name: &str) -> Option<Self> {
        const ALL: [Calculation; 16] = [
            Calculation::Last,
            Calculation::LastNotNull,
            Calculation::First,
            Calculation::FirstNotNull,
            Calculation::Min,
            Calculation::Max,
            Calculation::Mean,
            Calculation::Median,
            Calculation::Sum,
            Calculation::Count,
            Calculation::Range,
            Calculation::Difference,
            Calculation::DifferencePercent,
            Calculation::Delta,
            Calculation::StandardDeviation,
            Calculation::Variance,
        ];
        let at = Self::NAMES.iter().position(|known| *known == name)?;
        Some(ALL[at])
    }

    /// The number for some values in the order of time; `None` where there is none. A value that is
    /// not a number counts as missing, except for [`Calculation::Last`] and [`Calculation::First`].
    pub fn of(self, values: &[f64]) -> Option<f64> {
        let numbers: Vec<f64> = values.iter().copied().filter(|v| !v.is_nan()).collect();
        let count = numbers.len() as f64;
        let sum = || numbers.iter().sum::<f64>();
        let extreme = |pick: fn(f64, f64) -> f64| numbers.iter().copied().reduce(pick);
        let variance = || {
            let mean = sum() / count;
            numbers.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count
        };
        let (first, last) = (numbers.first().copied(), numbers.last().copied());
        match self {
            Self::Last => values.last().copied(),
            Self::First => values.first().copied(),
            Self::Count => Some(count),
            _ if numbers.is_empty() => None,
            Self::LastNotNull => last,
            Self::FirstNotNull => first,
            Self::Min => extreme(f64::min),
            Self::Max => extreme(f64::max),
            Self::Mean => Some(sum() / count),
            Self::Median => {
                let mut sorted = numbers;
                sorted.sort_by(f64::total_cmp);
                let middle = sorted.len() / 2;
                Some(if sorted.len() % 2 == 1 {
                    sorted[middle]
                } else {
                    f64::midpoint(sorted[middle - 1], sorted[middle])
                })
            }
            Self::Sum => Some(sum()),
            Self::Range => Some(extreme(f64::max)? - extreme(f64::min)?),
            Self::Difference => Some(last? - first?),
            Self::DifferencePercent => Some((last? - first?) / first?),
            Self::Delta => Some(
                numbers
                    .windows(2)
                    .map(|two| {
                        if two[1] < two[0] {
                            two[1]
                        } else {
                            two[1] - two[0]
                        }
                    })
                    .sum(),
            ),
            Self::Variance => Some(variance()),
            Self::StandardDeviation => Some(variance().sqrt()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_calculation_says_what_grafana_says() {
        let values = [4.0, f64::NAN, 8.0, 2.0, 6.0, f64::NAN];
        for (name, expected) in [
            ("lastNotNull", 6.0),
            ("first", 4.0),
            ("firstNotNull", 4.0),
            ("min", 2.0),
            ("max", 8.0),
            ("mean", 5.0),
            ("median", 5.0),
            ("sum", 20.0),
            ("count", 4.0),
            ("range", 6.0),
            ("diff", 2.0),
            ("diffperc", 0.5),
            ("delta", 10.0),
            ("variance", 5.0),
            ("stdDev", 5.0_f64.sqrt()),
        ] {
            let found = Calculation::named(name).unwrap().of(&values).unwrap();
            assert!((found - expected).abs() < 1e-12, "{name}: {found}");
        }
        assert!(Calculation::Last.of(&values).unwrap().is_nan());
        assert_eq!(Calculation::Mean.of(&[f64::NAN]), None);
        assert_eq!(Calculation::Last.of(&[]), None);
        assert_eq!(Calculation::named("p99"), None);
    }
}
