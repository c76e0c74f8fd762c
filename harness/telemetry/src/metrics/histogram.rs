//! Classic histograms: gathering the samples of one, and checking that they agree.

use super::{Labels, Sample, Scrape};

/// One cumulative bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// Upper bound, inclusive, in the unit of the histogram; the last is `+Inf`.
    pub le: f64,
    /// Observations at or below `le`.
    pub cumulative: f64,
}

/// A histogram whose buckets are sorted by bound, never decrease, and end with `+Inf` at the count.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Histogram {
    /// The labels without `le`.
    pub labels: Labels,
    /// Sorted by `le`; at least one, the last of which is `+Inf`.
    pub buckets: Vec<Bucket>,
    /// Sum of all observations, in the unit of the histogram.
    pub sum: f64,
    /// Number of observations.
    pub count: f64,
}

/// Why the samples of a histogram do not make one.
///
/// Completes "could not read the histogram: …". Lines are 0 for samples that were not read from a
/// text.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum HistogramError {
    /// Nothing of that name and labels.
    #[error("there is no `{name}_bucket{labels}`{}", known_sets(.known))]
    Missing {
        /// The name that was asked for.
        name: String,
        /// The labels that were asked for.
        labels: String,
        /// The label sets that exist under this name.
        known: Vec<Labels>,
    },
    /// Buckets without their `_sum` or `_count`.
    #[error("`{name}{labels}` is missing beside its buckets")]
    MissingPart {
        /// The sample that should be there.
        name: String,
        /// Its labels.
        labels: Labels,
    },
    /// A bucket without a readable upper bound.
    #[error("line {line}: expected a label `le` with a number, found {found}")]
    BadBound {
        /// The line of the bucket.
        line: usize,
        /// What the label says.
        found: String,
    },
    /// Two buckets with the same bound.
    #[error("lines {first} and {second}: two buckets with le=\"{le}\"")]
    DuplicateBound {
        /// The bound.
        le: f64,
        /// The line of one.
        first: usize,
        /// The line of the other.
        second: usize,
    },
    /// A cumulative count that is negative or not a number.
    #[error("line {line}: a bucket counts observations, {value} is no count")]
    BadCount {
        /// The line of the bucket.
        line: usize,
        /// Its value.
        value: f64,
    },
    /// A bucket that holds less than a narrower one.
    #[error(
        "line {line}: the bucket le=\"{le}\" holds {cumulative}, less than the {narrower} of a \
         narrower one; buckets are cumulative"
    )]
    NotMonotone {
        /// The line of the wider bucket.
        line: usize,
        /// Its bound.
        le: f64,
        /// Its value.
        cumulative: f64,
        /// The value of the narrower bucket before it.
        narrower: f64,
    },
    /// No `+Inf` bucket.
    #[error("`{name}_bucket{labels}` has no bucket le=\"+Inf\"")]
    NoInfinity {
        /// The name of the histogram.
        name: String,
        /// Its labels.
        labels: Labels,
    },
    /// `+Inf` and `_count` differ.
    #[error("line {line}: the bucket le=\"+Inf\" holds {infinity}, but `_count` is {count}")]
    CountDiffers {
        /// The line of the `+Inf` bucket.
        line: usize,
        /// Its value.
        infinity: f64,
        /// The value of `_count`.
        count: f64,
    },
}

fn known_sets(labels: &[Labels]) -> String {
    const SHOWN: usize = 3;
    if labels.is_empty() {
        return String::new();
    }
    let shown: Vec<String> = labels
        .iter()
        .take(SHOWN)
        .map(|set| match set.is_empty() {
            true => "{}".to_owned(),
            false => set.to_string(),
        })
        .collect();
    let more = match labels.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("; the name occurs with {}{more}", shown.join(", "))
}

pub(super) fn label_sets(scrape: &Scrape, name: &str) -> Vec<Labels> {
    let bucket = format!("{name}_bucket");
    let mut seen = std::collections::HashSet::new();
    scrape
        .samples(&bucket)
        .map(|sample| sample.labels.without("le"))
        .filter(|labels| seen.insert(labels.clone()))
        .collect()
}

pub(super) fn find(
    scrape: &Scrape,
    name: &str,
    labels: &[(&str, &str)],
) -> Result<Histogram, HistogramError> {
    let bucket_name = format!("{name}_bucket");
    let buckets: Vec<&Sample> = scrape
        .samples(&bucket_name)
        .filter(|sample| {
            let others = sample.labels.len() - usize::from(sample.labels.get("le").is_some());
            others == labels.len()
                && labels.iter().all(|(name, _)| *name != "le")
                && sample.labels.contain(labels)
        })
        .collect();
    let part = |suffix: &str| {
        let name = format!("{name}{suffix}");
        scrape.value(&name, labels).ok_or_else(|| {
            (
                name,
                Labels::new(labels.iter().copied()).unwrap_or_default(),
            )
        })
    };
    if buckets.is_empty() {
        return Err(HistogramError::Missing {
            name: name.to_owned(),
            labels: Labels::new(labels.iter().copied())
                .map(|labels| labels.to_string())
                .unwrap_or_default(),
            known: label_sets(scrape, name),
        });
    }
    check(name, &buckets, part("_sum"), part("_count"))
}

type Part = Result<f64, (String, Labels)>;

/// Checks the buckets of one label set; `buckets` is not empty.
pub(super) fn check(
    name: &str,
    buckets: &[&Sample],
    sum: Part,
    count: Part,
) -> Result<Histogram, HistogramError> {
    let labels = buckets[0].labels.without("le");
    let mut bounded = Vec::with_capacity(buckets.len());
    for sample in buckets {
        let text = sample.labels.get("le");
        let le = text.and_then(|text| text.parse::<f64>().ok());
        let Some(le) = le.filter(|le| !le.is_nan()) else {
            return Err(HistogramError::BadBound {
                line: sample.line,
                found: text.map_or("none".to_owned(), crate::source::excerpt),
            });
        };
        bounded.push((le, *sample));
    }
    bounded.sort_by(|(a, _), (b, _)| a.total_cmp(b));

    let mut narrower = 0.0;
    for (nth, (le, sample)) in bounded.iter().enumerate() {
        if let Some((before, other)) = nth.checked_sub(1).map(|nth| bounded[nth])
            && before == *le
        {
            return Err(HistogramError::DuplicateBound {
                le: *le,
                first: other.line.min(sample.line),
                second: other.line.max(sample.line),
            });
        }
        if sample.value.is_nan() || sample.value < 0.0 {
            return Err(HistogramError::BadCount {
                line: sample.line,
                value: sample.value,
            });
        }
        if sample.value < narrower {
            return Err(HistogramError::NotMonotone {
                line: sample.line,
                le: *le,
                cumulative: sample.value,
                narrower,
            });
        }
        narrower = sample.value;
    }

    let (widest, last) = bounded[bounded.len() - 1];
    if widest != f64::INFINITY {
        return Err(HistogramError::NoInfinity {
            name: name.to_owned(),
            labels,
        });
    }
    let missing = |(name, labels)| HistogramError::MissingPart { name, labels };
    let (sum, count) = (sum.map_err(missing)?, count.map_err(missing)?);
    if last.value != count {
        return Err(HistogramError::CountDiffers {
            line: last.line,
            infinity: last.value,
            count,
        });
    }
    Ok(Histogram {
        labels,
        buckets: bounded
            .into_iter()
            .map(|(le, sample)| Bucket {
                le,
                cumulative: sample.value,
            })
            .collect(),
        sum,
        count,
    })
}
