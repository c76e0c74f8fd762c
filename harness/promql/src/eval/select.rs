//! Selectors and windows: what of a series counts at a step.

use std::borrow::Cow;

use super::{ABSENT, Evaluator, Grid, Result, Track, is_absent, millis};
use crate::labels::Labels;
use crate::series::{Series, is_stale};
use crate::tree::{At, Kind, Node, Place, Selector, Subquery};
use crate::value::{Point, Row};

/// The samples of one series that windows slide over, without staleness markers.
pub(super) struct Strip<'a> {
    pub(super) labels: Labels,
    pub(super) drop_name: bool,
    pub(super) times: Cow<'a, [i64]>,
    pub(super) values: Cow<'a, [f64]>,
}

/// Windows over strips: how long, and where.
pub(super) struct Strips<'a> {
    pub(super) list: Vec<Strip<'a>>,
    pub(super) range_ms: i64,
    pub(super) place: Place,
}

/// The first and the last-but-one index of the samples in a window.
pub(super) struct Slide<'s> {
    times: &'s [i64],
    from: usize,
    to: usize,
}

impl<'s> Slide<'s> {
    pub(super) fn new(times: &'s [i64]) -> Self {
        Self {
            times,
            from: 0,
            to: 0,
        }
    }

    /// Moves on to a window that starts and ends no earlier than the last one.
    pub(super) fn to(&mut self, start_ms: i64, end_ms: i64, closed: bool) -> (usize, usize) {
        let times = self.times;
        if self.to == 0 {
            // The first window may be far into the series.
            self.to = times.partition_point(|time| *time <= end_ms);
            self.from = if closed {
                times.partition_point(|time| *time < start_ms)
            } else {
                times.partition_point(|time| *time <= start_ms)
            };
        } else {
            while self.to < times.len() && times[self.to] <= end_ms {
                self.to += 1;
            }
            while self.from < times.len()
                && (times[self.from] < start_ms || (!closed && times[self.from] == start_ms))
            {
                self.from += 1;
            }
        }
        (self.from.min(self.to), self.to)
    }
}

impl<'a> Evaluator<'a> {
    /// The moment that a selector looks at when the query is evaluated at `now_ms`.
    pub(super) fn look_at(&self, place: Place, now_ms: i64) -> i64 {
        let base = match place.at {
            None => now_ms,
            Some(At::Start) => self.start_ms,
            Some(At::End) => self.end_ms,
            Some(At::Time(ms)) => ms,
        };
        base - place.offset_ms
    }

    /// The index of the last sample that counts at each step, if one does.
    fn for_each_latest(
        &self,
        series: &Series,
        place: Place,
        grid: Grid,
        mut found: impl FnMut(usize, usize),
    ) {
        let lookback_ms = millis(self.engine.lookback);
        let closed = self.engine.dialect.closed_windows();
        let times = series.times_ms();
        let mut next = times.partition_point(|time| *time <= self.look_at(place, grid.time(0)));
        for (step, now_ms) in grid.times().enumerate() {
            let at_ms = self.look_at(place, now_ms);
            while next < times.len() && times[next] <= at_ms {
                next += 1;
            }
            let Some(last) = next.checked_sub(1) else {
                continue;
            };
            let age_ms = at_ms - times[last];
            let fresh = age_ms < lookback_ms || (closed && age_ms == lookback_ms) || age_ms == 0;
            if fresh && !is_stale(series.values()[last]) {
                found(step, last);
            }
        }
    }

    pub(super) fn select(&self, selector: &Selector, grid: Grid) -> Result<Vec<Track>> {
        self.select_with(selector, grid, |series, sample| series.values()[sample])
    }

    /// As [`Self::select`], with the time of each sample, in seconds, as its value.
    pub(super) fn select_times(&self, selector: &Selector, grid: Grid) -> Result<Vec<Track>> {
        self.select_with(selector, grid, |series, sample| {
            series.times_ms()[sample] as f64 / 1000.0
        })
    }

    fn select_with(
        &self,
        selector: &Selector,
        grid: Grid,
        value: impl Fn(&Series, usize) -> f64,
    ) -> Result<Vec<Track>> {
        let matching = self.storage.select(&selector.matchers);
        self.reserve(matching.len(), grid)?;
        let mut tracks = Vec::with_capacity(matching.len());
        for series in matching {
            let mut values = Vec::new();
            self.for_each_latest(series, selector.place, grid, |step, sample| {
                if values.is_empty() {
                    values = vec![ABSENT; grid.steps];
                }
                values[step] = value(series, sample);
            });
            if !values.is_empty() {
                tracks.push(Track {
                    labels: series.labels.clone(),
                    drop_name: false,
                    values,
                });
            }
        }
        Ok(tracks)
    }

    /// The strips of a range vector.
    pub(super) fn strips(&self, node: &Node, grid: Grid) -> Result<Strips<'a>> {
        match &node.kind {
            Kind::Paren(inner) => self.strips(inner, grid),
            Kind::Range { selector, range_ms } => {
                let list = self
                    .storage
                    .select(&selector.matchers)
                    .into_iter()
                    .map(strip)
                    .collect();
                Ok(Strips {
                    list,
                    range_ms: *range_ms,
                    place: selector.place,
                })
            }
            Kind::Subquery(subquery) => self.subquery(subquery, grid),
            _ => Err(self.fail(node.span, "expected a range vector here")),
        }
    }

    fn subquery(&self, subquery: &Subquery, grid: Grid) -> Result<Strips<'a>> {
        let step_ms = subquery
            .step_ms
            .unwrap_or_else(|| millis(self.engine.subquery_step))
            .max(1);
        let place = subquery.place;
        let from_ms = self.look_at(place, grid.time(0)) - subquery.range_ms;
        let to_ms = self.look_at(place, grid.end_ms());
        // Steps are multiples of the step since the epoch. The division is Go's, toward zero.
        let mut start_ms = step_ms * (from_ms / step_ms);
        let before = if self.engine.dialect.closed_windows() {
            start_ms < from_ms
        } else {
            start_ms <= from_ms
        };
        if before {
            start_ms += step_ms;
        }
        let list = if start_ms > to_ms {
            Vec::new()
        } else {
            let steps = (to_ms - start_ms) / step_ms + 1;
            if steps > super::MAX_SAMPLES as i64 {
                return Err(super::EvalError::TooManySamples);
            }
            let inner_grid = Grid {
                start_ms,
                step_ms,
                steps: steps as usize,
            };
            self.vector(&subquery.inner, inner_grid)?
                .into_iter()
                .map(|track| {
                    let (times, values) = track
                        .values
                        .iter()
                        .zip(inner_grid.times())
                        .filter(|(value, _)| !is_absent(**value))
                        .map(|(value, time)| (time, *value))
                        .unzip::<i64, f64, Vec<_>, Vec<_>>();
                    Strip {
                        labels: track.labels,
                        drop_name: track.drop_name,
                        times: times.into(),
                        values: values.into(),
                    }
                })
                .collect()
        };
        Ok(Strips {
            list,
            range_ms: subquery.range_ms,
            place,
        })
    }

    /// The samples of a range vector at one moment.
    pub(super) fn stretches(&self, node: &Node, grid: Grid) -> Result<Vec<Row>> {
        let strips = self.strips(node, grid)?;
        let end_ms = self.look_at(strips.place, grid.start_ms);
        let closed = self.engine.dialect.closed_windows();
        let mut rows = Vec::with_capacity(strips.list.len());
        for strip in strips.list {
            let (from, to) = Slide::new(&strip.times).to(end_ms - strips.range_ms, end_ms, closed);
            self.spend(to - from)?;
            let labels = if strip.drop_name {
                self.nameless(&strip.labels)
            } else {
                strip.labels
            };
            rows.push(Row {
                labels,
                points: (from..to)
                    .map(|at| Point {
                        timestamp_ms: strip.times[at],
                        value: strip.values[at],
                    })
                    .collect(),
            });
        }
        Ok(rows)
    }
}

fn strip(series: &Series) -> Strip<'_> {
    let (times, values) = if !series.has_stale_markers() {
        (
            Cow::Borrowed(series.times_ms()),
            Cow::Borrowed(series.values()),
        )
    } else {
        let (times, values) = series
            .times_ms()
            .iter()
            .zip(series.values())
            .filter(|(_, value)| !is_stale(**value))
            .map(|(time, value)| (*time, *value))
            .unzip::<i64, f64, Vec<_>, Vec<_>>();
        (times.into(), values.into())
    };
    Strip {
        labels: series.labels.clone(),
        drop_name: false,
        times,
        values,
    }
}
