//! What happened between two scrapes of the same target.
//!
//! Not a rate: there is no extrapolation to a window and no division by time. For two scrapes this
//! is what Prometheus calls the increase before it extrapolates.

use std::collections::HashMap;

use super::{Family, Kind, Labels, MetricName, Sample, Scrape};

/// One series: a sample name and its labels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Series {
    /// The name of its samples.
    pub name: MetricName,
    /// Its labels, `le` included.
    pub labels: Labels,
}

impl std::fmt::Display for Series {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.name, self.labels)
    }
}

/// The increases of all cumulative series between two scrapes.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Delta {
    /// Counters and histograms by how much they grew, and the `_sum` and `_count` of summaries.
    /// Everything else (gauges, quantiles) has no increase and is left out.
    pub increases: Scrape,
    /// Series that started again from zero in between.
    pub resets: Vec<Series>,
    /// Cumulative series that only the later scrape has: with one point there is no increase.
    pub appeared: Vec<Series>,
    /// Cumulative series that only the earlier scrape has.
    pub vanished: Vec<Series>,
}

impl Scrape {
    /// How much each cumulative series grew since `earlier`.
    ///
    /// A value that went down tells of a restart, as in Prometheus: the increase is then all of the
    /// later value. So does a `_created` series with a later time. A histogram restarts as a whole
    /// when its count or any of its buckets went down, so that its increase is a histogram again;
    /// Prometheus judges each classic bucket by itself, which can leave buckets that decrease.
    pub fn delta(&self, earlier: &Scrape) -> Delta {
        let before: HashMap<Series, f64> = cumulative(earlier)
            .map(|(_, sample)| (series(sample), sample.value))
            .collect();
        let created = |scrape: &Scrape| -> HashMap<(String, Labels), f64> {
            let created = scrape.iter().filter_map(|sample| {
                let base = sample.name.strip_suffix("_created")?;
                Some(((base.to_owned(), sample.labels.clone()), sample.value))
            });
            created.collect()
        };
        let (created_before, created_after) = (created(earlier), created(self));

        let mut restarted: HashMap<(String, Labels), bool> = HashMap::new();
        for (family, sample) in cumulative(self) {
            let group = group(family, sample);
            let recreated = match (created_before.get(&group), created_after.get(&group)) {
                (Some(before), Some(after)) => after > before,
                _ => false,
            };
            // A sum may shrink by negative observations, so only a counter's decides.
            let decides = !sample.name.ends_with("_sum") || family.kind == Kind::Counter;
            let fell = decides
                && before
                    .get(&series(sample))
                    .is_some_and(|&before| sample.value < before);
            *restarted.entry(group).or_default() |= recreated || fell;
        }

        let mut delta = Delta::default();
        let mut current: Option<(&MetricName, Family)> = None;
        for (family, sample) in cumulative(self) {
            let key = series(sample);
            let Some(&before) = before.get(&key) else {
                delta.appeared.push(key);
                continue;
            };
            let reset = restarted
                .get(&group(family, sample))
                .copied()
                .unwrap_or_default();
            let mut increase = Sample {
                value: if reset {
                    sample.value
                } else {
                    sample.value - before
                },
                ..sample.clone()
            };
            increase.exemplar = None;
            if reset {
                delta.resets.push(key);
            }
            match &mut current {
                Some((name, open)) if **name == family.name => open.samples.push(increase),
                _ => {
                    delta
                        .increases
                        .families
                        .extend(current.take().map(|(_, done)| done));
                    let open = Family {
                        samples: vec![increase],
                        name: family.name.clone(),
                        kind: family.kind,
                        help: family.help.clone(),
                        unit: family.unit.clone(),
                    };
                    current = Some((&family.name, open));
                }
            }
        }
        delta
            .increases
            .families
            .extend(current.map(|(_, done)| done));

        let after: std::collections::HashSet<Series> =
            cumulative(self).map(|(_, sample)| series(sample)).collect();
        delta.vanished = cumulative(earlier)
            .map(|(_, sample)| series(sample))
            .filter(|key| !after.contains(key))
            .collect();
        delta
    }
}

fn series(sample: &Sample) -> Series {
    Series {
        name: sample.name.clone(),
        labels: sample.labels.clone(),
    }
}

/// The samples that count up, each with its family.
fn cumulative(scrape: &Scrape) -> impl Iterator<Item = (&Family, &Sample)> {
    scrape.families.iter().flat_map(|family| {
        family
            .samples
            .iter()
            .filter(move |sample| {
                let suffix = &sample.name[family.name.len().min(sample.name.len())..];
                match family.kind {
                    Kind::Counter => suffix != "_created",
                    Kind::Histogram => matches!(suffix, "_bucket" | "_sum" | "_count"),
                    Kind::Summary => matches!(suffix, "_sum" | "_count"),
                    _ => false,
                }
            })
            .map(move |sample| (family, sample))
    })
}

/// What restarts together: one counter series, or all the parts of one histogram or summary.
fn group(family: &Family, sample: &Sample) -> (String, Labels) {
    let name = match family.kind {
        Kind::Counter => sample.name.strip_suffix("_total").unwrap_or(&sample.name),
        _ => &*family.name,
    };
    (name.to_owned(), sample.labels.without("le"))
}
