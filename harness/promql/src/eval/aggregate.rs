//! Aggregations.

use std::collections::HashMap;

use super::{ABSENT, Evaluator, Grid, Result, Track, absent_values, is_absent};
use crate::annotations::Level;
use crate::dialect::Dialect;
use crate::functions::range::{Compensated, Mean, keeps_infinite_mean, nan_first, quantile};
use crate::labels::{Labels, Quoted};
use crate::tree::{Aggregate, Aggregator, Grouping, Kind, Node};
use crate::value::{Decimal, Short};

/// A group: its labels and the places of its tracks.
struct Group {
    labels: Labels,
    drop_name: bool,
    members: Vec<usize>,
}

impl Evaluator<'_> {
    pub(super) fn aggregate(
        &self,
        aggregate: &Aggregate,
        node: &Node,
        grid: Grid,
    ) -> Result<Vec<Track>> {
        let operator = aggregate.operator;
        if operator == Aggregator::CountValues {
            let tracks = self.count_values(aggregate, grid)?;
            return self.merge(tracks, node.span);
        }
        let parameter = match &aggregate.parameter {
            Some(parameter) => Some((self.scalar(parameter, grid)?, parameter.span)),
            None => None,
        };
        let tracks = self.vector(&aggregate.inner, grid)?;
        self.spend(tracks.len() * grid.steps)?;
        let groups = groups(&tracks, &aggregate.grouping);
        match (operator, parameter) {
            (
                Aggregator::TopK | Aggregator::BottomK | Aggregator::LimitK,
                Some((parameter, span)),
            ) => {
                for &k in &parameter {
                    // A count beyond the integers is an error even where there is nothing to count.
                    let message = if k.is_nan() && self.is_v3() {
                        "Parameter value is NaN".to_owned()
                    } else if k.is_nan() || k >= i64::MAX as f64 {
                        format!("Scalar value {} overflows int64", Short(k))
                    } else if k <= i64::MIN as f64 {
                        match self.engine.dialect {
                            Dialect::V2 => format!("Scalar value {} overflows int64", Short(k)),
                            Dialect::V3 => format!("Scalar value {} underflows int64", Short(k)),
                        }
                    } else {
                        continue;
                    };
                    return Err(self.fail(span, message));
                }
                self.pick(operator, &parameter, tracks, &groups, grid)
            }
            (Aggregator::LimitRatio, Some((parameter, span))) => {
                for &ratio in &parameter {
                    if ratio.is_nan() {
                        return Err(self.fail(span, "Ratio value is NaN"));
                    }
                    if !(-1.0..=1.0).contains(&ratio) {
                        self.note(
                            Level::Warning,
                            span,
                            format_args!(
                                "ratio value should be between -1 and 1, got {}, capping to {}",
                                Short(ratio),
                                ratio.signum()
                            ),
                        );
                    }
                }
                Ok(self.sample(&parameter, tracks))
            }
            (Aggregator::Quantile, Some((parameter, span))) => {
                for &q in &parameter {
                    self.check_quantile(q, span);
                }
                self.fold(operator, &parameter, &tracks, groups, grid)
            }
            _ => self.fold(operator, &[], &tracks, groups, grid),
        }
    }

    /// The aggregations that make one value of a group.
    fn fold(
        &self,
        operator: Aggregator,
        parameter: &[f64],
        tracks: &[Track],
        groups: Vec<Group>,
        grid: Grid,
    ) -> Result<Vec<Track>> {
        self.reserve(groups.len(), grid)?;
        let mut out = Vec::with_capacity(groups.len());
        for group in groups {
            let members = || group.members.iter().map(|&at| tracks[at].values.as_slice());
            let values = match operator {
                Aggregator::Sum => self.sum(members(), grid),
                Aggregator::Average => self.average(members(), grid),
                Aggregator::Count => {
                    let mut counts = vec![0.0; grid.steps];
                    for_each_value(members(), |step, _| counts[step] += 1.0);
                    counts
                        .into_iter()
                        .map(|count| if count == 0.0 { ABSENT } else { count })
                        .collect()
                }
                Aggregator::Group => {
                    let mut values = absent_values(grid);
                    for_each_value(members(), |step, _| values[step] = 1.0);
                    values
                }
                Aggregator::Max => extreme(members(), grid, |value, held| value > held),
                Aggregator::Min => extreme(members(), grid, |value, held| value < held),
                Aggregator::Variance => self.variance(members(), grid),
                Aggregator::StandardDeviation => {
                    let mut values = self.variance(members(), grid);
                    for value in &mut values {
                        if !is_absent(*value) {
                            *value = value.sqrt();
                        }
                    }
                    values
                }
                Aggregator::Quantile => {
                    let mut scratch = Vec::with_capacity(group.members.len());
                    (0..grid.steps)
                        .map(|step| {
                            scratch.clear();
                            scratch.extend(
                                members()
                                    .map(|values| values[step])
                                    .filter(|value| !is_absent(*value)),
                            );
                            if scratch.is_empty() {
                                ABSENT
                            } else {
                                quantile(parameter[step], &mut scratch)
                            }
                        })
                        .collect()
                }
                // These were dealt with before.
                Aggregator::TopK
                | Aggregator::BottomK
                | Aggregator::LimitK
                | Aggregator::LimitRatio
                | Aggregator::CountValues => absent_values(grid),
            };
            out.push(Track {
                labels: group.labels,
                drop_name: group.drop_name,
                values,
            });
        }
        Ok(out)
    }

    fn sum<'v>(&self, members: impl Iterator<Item = &'v [f64]>, grid: Grid) -> Vec<f64> {
        let mut seen = vec![false; grid.steps];
        match self.engine.dialect {
            Dialect::V2 => {
                let mut sums = absent_values(grid);
                for_each_value(members, |step, value| {
                    sums[step] = if seen[step] {
                        sums[step] + value
                    } else {
                        value
                    };
                    seen[step] = true;
                });
                sums
            }
            Dialect::V3 => {
                let mut sums = vec![Compensated::default(); grid.steps];
                for_each_value(members, |step, value| {
                    if seen[step] {
                        sums[step].add(value, Dialect::V3);
                    } else {
                        sums[step].sum = value;
                        seen[step] = true;
                    }
                });
                sums.into_iter()
                    .zip(seen)
                    .map(|(sum, seen)| if seen { sum.sum + sum.lost } else { ABSENT })
                    .collect()
            }
        }
    }

    fn average<'v>(&self, members: impl Iterator<Item = &'v [f64]>, grid: Grid) -> Vec<f64> {
        match self.engine.dialect {
            Dialect::V2 => {
                let mut means = vec![(0.0, 0.0); grid.steps];
                for_each_value(members, |step, value| {
                    let (mean, count) = &mut means[step];
                    *count += 1.0;
                    if *count == 1.0 {
                        *mean = value;
                    } else if !keeps_infinite_mean(*mean, value) {
                        // Divided on both sides of the difference, so that neither overflows.
                        *mean += value / *count - *mean / *count;
                    }
                });
                means
                    .into_iter()
                    .map(|(mean, count)| if count == 0.0 { ABSENT } else { mean })
                    .collect()
            }
            Dialect::V3 => {
                let mut means: Vec<Option<Mean>> = vec![None; grid.steps];
                for_each_value(members, |step, value| match &mut means[step] {
                    Some(mean) => mean.add(value),
                    none => *none = Some(Mean::starting_with(value)),
                });
                means
                    .into_iter()
                    .map(|mean| mean.map_or(ABSENT, Mean::total))
                    .collect()
            }
        }
    }

    /// The population variance, by Welford's method.
    fn variance<'v>(&self, members: impl Iterator<Item = &'v [f64]>, grid: Grid) -> Vec<f64> {
        let mut states = vec![(0.0, 0.0, 0.0); grid.steps];
        for_each_value(members, |step, value: f64| {
            let (count, mean, squares) = &mut states[step];
            *count += 1.0;
            if *count == 1.0 {
                *mean = value;
                *squares = if self.is_v3() && !value.is_finite() {
                    f64::NAN
                } else {
                    0.0
                };
                return;
            }
            let difference = value - *mean;
            *mean += difference / *count;
            *squares += difference * (value - *mean);
        });
        states
            .into_iter()
            .map(|(count, _, squares)| {
                if count == 0.0 {
                    ABSENT
                } else {
                    squares / count
                }
            })
            .collect()
    }

    /// `topk`, `bottomk` and `limitk`: some tracks of each group, at each step for itself.
    fn pick(
        &self,
        operator: Aggregator,
        parameter: &[f64],
        tracks: Vec<Track>,
        groups: &[Group],
        grid: Grid,
    ) -> Result<Vec<Track>> {
        let mut kept: Vec<Vec<f64>> = tracks.iter().map(|_| Vec::new()).collect();
        let mut order = Vec::new();
        for (step, &k) in parameter.iter().enumerate() {
            // Counts beyond what there is mean all of it.
            let k = (k as i64).clamp(0, tracks.len() as i64) as usize;
            if k == 0 {
                continue;
            }
            for group in groups {
                let mut present: Vec<usize> = group
                    .members
                    .iter()
                    .copied()
                    .filter(|&at| !is_absent(tracks[at].values[step]))
                    .collect();
                let value = |at: usize| tracks[at].values[step];
                // Of equal values the earlier series wins; NaN loses against every number.
                match operator {
                    Aggregator::TopK => present.sort_by(|&a, &b| nan_first(&value(b), &value(a))),
                    Aggregator::BottomK => present.sort_by(|&a, &b| {
                        (value(a).is_nan(), value(b).is_nan())
                            .0
                            .cmp(&value(b).is_nan())
                            .then_with(|| nan_first(&value(a), &value(b)))
                    }),
                    _ => {}
                }
                present.truncate(k);
                for at in present {
                    if kept[at].is_empty() {
                        kept[at] = absent_values(grid);
                        order.push(at);
                    }
                    kept[at][step] = value(at);
                }
            }
        }
        Ok(order
            .into_iter()
            .map(|at| Track {
                labels: tracks[at].labels.clone(),
                drop_name: tracks[at].drop_name,
                values: std::mem::take(&mut kept[at]),
            })
            .collect())
    }

    /// `limit_ratio`: the series whose hash is within the ratio; a negative ratio takes the others.
    ///
    /// Which series these are differs from Prometheus, whose hash depends on how it was built.
    fn sample(&self, ratios: &[f64], tracks: Vec<Track>) -> Vec<Track> {
        tracks
            .into_iter()
            .map(|mut track| {
                let place = hash(&track.labels) as f64 / u64::MAX as f64;
                for (held, ratio) in track.values.iter_mut().zip(ratios) {
                    let ratio = ratio.clamp(-1.0, 1.0);
                    let keep =
                        (ratio >= 0.0 && place < ratio) || (ratio < 0.0 && place >= 1.0 + ratio);
                    if !keep {
                        *held = ABSENT;
                    }
                }
                track
            })
            .filter(|track| track.values.iter().any(|value| !is_absent(*value)))
            .collect()
    }

    fn count_values(&self, aggregate: &Aggregate, grid: Grid) -> Result<Vec<Track>> {
        let parameter = aggregate.parameter.as_ref().map(|node| node.bare());
        let Some((Kind::Text(label), span)) = parameter.map(|node| (&node.kind, node.span)) else {
            return Ok(Vec::new());
        };
        if !self.may_name_a_label(label) {
            return Err(self.fail(span, format!("invalid label name {}", Quoted(label))));
        }
        let tracks = self.vector(&aggregate.inner, grid)?;
        self.spend(tracks.len() * grid.steps)?;
        let grouping = match &aggregate.grouping {
            Grouping::By(names) => {
                Grouping::By(names.iter().cloned().chain([label.clone()]).collect())
            }
            without => without.clone(),
        };
        let mut places: HashMap<Labels, usize> = HashMap::new();
        let mut out: Vec<Track> = Vec::new();
        for track in &tracks {
            // A track mostly repeats few values: the labels of the last are at hand.
            let mut last: Option<(u64, usize)> = None;
            for (step, &value) in track.values.iter().enumerate() {
                if is_absent(value) {
                    continue;
                }
                let place = match last {
                    Some((bits, place)) if bits == value.to_bits() => place,
                    _ => {
                        let text = Decimal(value).to_string();
                        let labels = grouping.key(&track.labels.with(label, &text));
                        match places.get(&labels) {
                            Some(&place) => place,
                            None => {
                                self.reserve(out.len() + 1, grid)?;
                                places.insert(labels.clone(), out.len());
                                out.push(Track {
                                    labels,
                                    drop_name: track.drop_name,
                                    values: absent_values(grid),
                                });
                                out.len() - 1
                            }
                        }
                    }
                };
                last = Some((value.to_bits(), place));
                let held = &mut out[place].values[step];
                *held = if is_absent(*held) { 1.0 } else { *held + 1.0 };
            }
        }
        Ok(out)
    }
}

fn groups(tracks: &[Track], grouping: &Grouping) -> Vec<Group> {
    let mut places: HashMap<Labels, usize> = HashMap::new();
    let mut groups: Vec<Group> = Vec::new();
    for (at, track) in tracks.iter().enumerate() {
        let key = grouping.key(&track.labels);
        let place = *places.entry(key).or_insert_with_key(|key| {
            groups.push(Group {
                labels: key.clone(),
                drop_name: false,
                members: Vec::new(),
            });
            groups.len() - 1
        });
        groups[place].members.push(at);
        groups[place].drop_name |= track.drop_name;
    }
    groups
}

/// Calls for every value that is there, series by series.
fn for_each_value<'v>(members: impl Iterator<Item = &'v [f64]>, mut each: impl FnMut(usize, f64)) {
    for values in members {
        for (step, &value) in values.iter().enumerate() {
            if !is_absent(value) {
                each(step, value);
            }
        }
    }
}

fn extreme<'v>(
    members: impl Iterator<Item = &'v [f64]>,
    grid: Grid,
    wins: impl Fn(f64, f64) -> bool,
) -> Vec<f64> {
    let mut held = absent_values(grid);
    for_each_value(members, |step, value| {
        // The marker of absence is a NaN, which any value replaces.
        if held[step].is_nan() || wins(value, held[step]) {
            held[step] = value;
        }
    });
    held
}

/// FNV-1a over names and values, with its bits mixed, since short texts differ in the low bits.
fn hash(labels: &Labels) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for (name, value) in labels.iter() {
        for byte in name
            .bytes()
            .chain([0xff])
            .chain(value.bytes())
            .chain([0xff])
        {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash
}
