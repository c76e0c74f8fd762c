//! Function calls.

use std::collections::HashMap;

use super::select::Slide;
use super::{ABSENT, EvalError, Evaluator, Grid, Out, Result, Track, absent_values, is_absent};
use crate::annotations::Level;
use crate::diagnostics::Span;
use crate::dialect::Dialect;
use crate::functions::histogram::{self, Bucket};
use crate::functions::range::{self, RangeFunction, Window, nan_first};
use crate::functions::{Function, QueryTime, calendar, instant};
use crate::labels::{BUCKET_BOUND, Labels, METRIC_NAME, Quoted, is_label_name};
use crate::tree::{self, Call, Kind, Node, Selector, Test};
use crate::value::{Short, ValueType};

/// A classic histogram: the bound of each bucket and the place of its track, sorted by bound.
struct Classic {
    labels: Labels,
    drop_name: bool,
    buckets: Vec<(f64, usize)>,
}

impl Evaluator<'_> {
    pub(super) fn call(&self, call: &Call, node: &Node, grid: Grid) -> Result<Out> {
        let arguments = &call.arguments;
        let span = node.span;
        let vector = match call.signature.function {
            Function::Pi => return Ok(Out::Scalar(vec![std::f64::consts::PI; grid.steps])),
            Function::Time => {
                return Ok(Out::Scalar(
                    grid.times().map(|ms| ms as f64 / 1000.0).collect(),
                ));
            }
            Function::Context(time) => {
                let ms = match time {
                    QueryTime::Start => self.start_ms,
                    QueryTime::End => self.end_ms,
                    QueryTime::Range => self.end_ms - self.start_ms,
                    QueryTime::Step => self.step_ms,
                };
                return Ok(Out::Scalar(vec![ms as f64 / 1000.0; grid.steps]));
            }
            Function::MaxOf | Function::MinOf => {
                let mut values = self.scalar(&arguments[0], grid)?;
                let others = self.scalar(&arguments[1], grid)?;
                for (value, other) in values.iter_mut().zip(others) {
                    *value = match call.signature.function {
                        Function::MaxOf => instant::max(*value, other),
                        _ => instant::min(*value, other),
                    };
                }
                return Ok(Out::Scalar(values));
            }
            Function::Scalar => return self.to_scalar(&arguments[0], grid),
            Function::Vector => vec![Track {
                labels: Labels::empty(),
                drop_name: false,
                values: self.scalar(&arguments[0], grid)?,
            }],
            Function::Map(function) => self.map(&arguments[0], grid, |_, value| function(value))?,
            Function::Calendar(part) => match arguments.first() {
                None => vec![Track {
                    labels: Labels::empty(),
                    drop_name: false,
                    values: grid
                        .times()
                        .map(|ms| calendar::part((ms / 1000) as f64, part))
                        .collect(),
                }],
                Some(argument) => {
                    self.map(argument, grid, |_, value| calendar::part(value, part))?
                }
            },
            Function::Round => {
                let nearest = match arguments.get(1) {
                    Some(argument) => self.scalar(argument, grid)?,
                    None => vec![1.0; grid.steps],
                };
                self.map(&arguments[0], grid, |step, value| {
                    instant::round(value, nearest[step])
                })?
            }
            Function::ClampMax => {
                let most = self.scalar(&arguments[1], grid)?;
                self.map(&arguments[0], grid, |step, value| {
                    instant::min(most[step], value)
                })?
            }
            Function::ClampMin => {
                let least = self.scalar(&arguments[1], grid)?;
                self.map(&arguments[0], grid, |step, value| {
                    instant::max(least[step], value)
                })?
            }
            Function::Clamp => {
                let least = self.scalar(&arguments[1], grid)?;
                let most = self.scalar(&arguments[2], grid)?;
                self.map(&arguments[0], grid, |step, value| {
                    if most[step] < least[step] {
                        ABSENT
                    } else {
                        instant::max(least[step], instant::min(most[step], value))
                    }
                })?
            }
            Function::Timestamp => self.timestamp(&arguments[0], grid)?,
            Function::Sort { descending } => self.sort(&arguments[0], grid, descending)?,
            Function::SortByLabel { descending } => {
                let names: Vec<&str> = arguments[1..].iter().map(text).collect();
                let mut tracks = self.vector(&arguments[0], grid)?;
                tracks.sort_by(|a, b| {
                    let order = by_labels(&a.labels, &b.labels, &names);
                    if descending { order.reverse() } else { order }
                });
                // The order matters: the labels are unique already.
                return Ok(Out::Vector(tracks));
            }
            Function::Absent => self.absent(&arguments[0], grid)?,
            Function::AbsentOverTime => self.absent_over_time(&arguments[0], grid)?,
            Function::LabelReplace => {
                let tracks = self.label_replace(arguments, grid)?;
                return Ok(Out::Vector(self.relabeled(tracks, span)?));
            }
            Function::LabelJoin => {
                let tracks = self.label_join(arguments, grid)?;
                return Ok(Out::Vector(self.relabeled(tracks, span)?));
            }
            Function::NativeOnly => {
                self.vector(&arguments[0], grid)?;
                Vec::new()
            }
            Function::HistogramQuantile => self.histogram_quantile(arguments, grid)?,
            Function::HistogramFraction => self.histogram_fraction(arguments, grid)?,
            Function::Range(function) => {
                let tracks = self.range_function(function, arguments, span, grid)?;
                self.refuse_alike(&tracks, span)?;
                return Ok(Out::Vector(tracks));
            }
        };
        Ok(Out::Vector(self.merge(vector, span)?))
    }

    /// Computes each value of a vector anew. [`ABSENT`] takes the value away.
    fn map(
        &self,
        argument: &Node,
        grid: Grid,
        function: impl Fn(usize, f64) -> f64,
    ) -> Result<Vec<Track>> {
        let mut tracks = self.vector(argument, grid)?;
        self.spend(tracks.len() * grid.steps)?;
        for track in &mut tracks {
            for (step, value) in track.values.iter_mut().enumerate() {
                if !is_absent(*value) {
                    *value = function(step, *value);
                }
            }
            self.drop_name(track);
        }
        Ok(tracks)
    }

    /// The value of the only series at each step; NaN where there are none or several.
    fn to_scalar(&self, argument: &Node, grid: Grid) -> Result<Out> {
        let tracks = self.vector(argument, grid)?;
        let mut values = absent_values(grid);
        let mut counts = vec![0usize; grid.steps];
        for track in &tracks {
            for (step, &value) in track.values.iter().enumerate() {
                if !is_absent(value) {
                    values[step] = value;
                    counts[step] += 1;
                }
            }
        }
        for (value, count) in values.iter_mut().zip(counts) {
            if count != 1 {
                *value = f64::NAN;
            }
        }
        Ok(Out::Scalar(values))
    }

    fn timestamp(&self, argument: &Node, grid: Grid) -> Result<Vec<Track>> {
        let mut tracks = match &argument.bare().kind {
            Kind::Selector(selector) => {
                let mut selector = selector.clone();
                // Prometheus forgets the offset here; so must who agrees with it.
                if selector.place.at.is_some() {
                    selector.place.offset_ms = 0;
                }
                self.select_times(&selector, grid)?
            }
            _ => {
                let mut tracks = self.vector(argument, grid)?;
                for track in &mut tracks {
                    for (value, now_ms) in track.values.iter_mut().zip(grid.times()) {
                        if !is_absent(*value) {
                            *value = now_ms as f64 / 1000.0;
                        }
                    }
                }
                tracks
            }
        };
        tracks.iter_mut().for_each(|track| self.drop_name(track));
        Ok(tracks)
    }

    /// Orders by the value at the only step; over several steps an order has no meaning.
    fn sort(&self, argument: &Node, grid: Grid, descending: bool) -> Result<Vec<Track>> {
        let mut tracks = self.vector(argument, grid)?;
        if grid.steps > 1 {
            return Ok(tracks);
        }
        tracks.retain(|track| !is_absent(track.values[0]));
        // NaN comes last in either order.
        tracks.sort_by(|a, b| {
            let (a, b) = (a.values[0], b.values[0]);
            match (a.is_nan(), b.is_nan()) {
                (false, false) if descending => nan_first(&b, &a),
                (false, false) => nan_first(&a, &b),
                (a, b) => a.cmp(&b),
            }
        });
        Ok(tracks)
    }

    fn absent(&self, argument: &Node, grid: Grid) -> Result<Vec<Track>> {
        let tracks = self.vector(argument, grid)?;
        let mut values = vec![1.0; grid.steps];
        for track in &tracks {
            for (held, value) in values.iter_mut().zip(&track.values) {
                if !is_absent(*value) {
                    *held = ABSENT;
                }
            }
        }
        Ok(vec![absent_track(argument, values)])
    }

    fn absent_over_time(&self, argument: &Node, grid: Grid) -> Result<Vec<Track>> {
        let strips = self.strips(argument, grid)?;
        self.reserve(strips.list.len(), grid)?;
        let closed = self.engine.dialect.closed_windows();
        let mut values = vec![1.0; grid.steps];
        for strip in &strips.list {
            let mut slide = Slide::new(&strip.times);
            for (step, now_ms) in grid.times().enumerate() {
                let end_ms = self.look_at(strips.place, now_ms);
                let (from, to) = slide.to(end_ms - strips.range_ms, end_ms, closed);
                if from < to {
                    values[step] = ABSENT;
                }
            }
        }
        Ok(vec![absent_track(argument, values)])
    }

    fn label_replace(&self, arguments: &[Node], grid: Grid) -> Result<Vec<Track>> {
        let [target, replacement, source, pattern] = [1, 2, 3, 4].map(|nth| text(&arguments[nth]));
        let regex = tree::anchored(pattern, self.engine.dialect).map_err(|_| {
            self.fail(
                arguments[4].span,
                format!("invalid regular expression in label_replace(): {pattern}"),
            )
        })?;
        if !self.may_name_a_label(target) {
            return Err(self.fail(
                arguments[1].span,
                format!("invalid destination label name in label_replace(): {target}"),
            ));
        }
        let mut tracks = self.vector(&arguments[0], grid)?;
        for track in &mut tracks {
            let value = track.labels.value(source);
            let Some(captures) = regex.captures(value) else {
                continue;
            };
            let mut replaced = String::new();
            captures.expand(replacement, &mut replaced);
            track.labels = track.labels.with(target, &replaced);
            if target == METRIC_NAME {
                track.drop_name = false;
            }
        }
        Ok(tracks)
    }

    fn label_join(&self, arguments: &[Node], grid: Grid) -> Result<Vec<Track>> {
        let target = text(&arguments[1]);
        let separator = text(&arguments[2]);
        for source in &arguments[3..] {
            if !self.may_name_a_label(text(source)) {
                return Err(self.fail(
                    source.span,
                    format!(
                        "invalid source label name in label_join(): {}",
                        text(source)
                    ),
                ));
            }
        }
        if !self.may_name_a_label(target) {
            return Err(self.fail(
                arguments[1].span,
                format!("invalid destination label name in label_join(): {target}"),
            ));
        }
        let mut tracks = self.vector(&arguments[0], grid)?;
        for track in &mut tracks {
            let parts: Vec<&str> = arguments[3..]
                .iter()
                .map(|source| track.labels.value(text(source)))
                .collect();
            track.labels = track.labels.with(target, &parts.join(separator));
            if target == METRIC_NAME {
                track.drop_name = false;
            }
        }
        Ok(tracks)
    }

    /// Version 3 rewrites the labels of whole series, version 2 those of each moment.
    fn relabeled(&self, tracks: Vec<Track>, span: Span) -> Result<Vec<Track>> {
        if !self.is_v3() {
            return self.merge(tracks, span);
        }
        self.refuse_alike(&tracks, span)?;
        Ok(tracks)
    }

    pub(super) fn may_name_a_label(&self, name: &str) -> bool {
        match self.engine.dialect {
            Dialect::V2 => is_label_name(name),
            // Bytes that are no text were replaced when the query was parsed.
            Dialect::V3 => !name.is_empty() && !name.contains('\u{fffd}'),
        }
    }

    /// The classic histograms of a vector.
    fn histograms(&self, tracks: &[Track], span: Span) -> Vec<Classic> {
        let mut places: HashMap<Labels, usize> = HashMap::new();
        let mut found: Vec<Classic> = Vec::new();
        for (at, track) in tracks.iter().enumerate() {
            let label = track.labels.value(BUCKET_BOUND);
            let Some(bound) = histogram::bound(label) else {
                let name = match track.labels.name() {
                    Some(name) => format!(" for metric name {}", Quoted(name)),
                    None => String::new(),
                };
                self.note(
                    Level::Warning,
                    span,
                    format_args!(
                        "bucket label \"le\" is missing or has a malformed value of {}{name}",
                        Quoted(label)
                    ),
                );
                continue;
            };
            let key = track.labels.without(&[BUCKET_BOUND]);
            let place = *places.entry(key).or_insert_with_key(|key| {
                found.push(Classic {
                    labels: key.clone(),
                    drop_name: track.drop_name,
                    buckets: Vec::new(),
                });
                found.len() - 1
            });
            found[place].buckets.push((bound, at));
        }
        for histogram in &mut found {
            histogram.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        found
    }

    fn per_histogram(
        &self,
        argument: &Node,
        grid: Grid,
        mut compute: impl FnMut(&Labels, usize, &mut Vec<Bucket>) -> f64,
    ) -> Result<Vec<Track>> {
        let tracks = self.vector(argument, grid)?;
        self.spend(tracks.len() * grid.steps)?;
        let mut out = Vec::new();
        let mut scratch: Vec<Bucket> = Vec::new();
        for Classic {
            labels,
            drop_name,
            buckets,
        } in self.histograms(&tracks, argument.span)
        {
            let mut values = absent_values(grid);
            for (step, held) in values.iter_mut().enumerate() {
                scratch.clear();
                scratch.extend(buckets.iter().filter_map(|&(bound, at)| {
                    let count = tracks[at].values[step];
                    (!is_absent(count)).then_some(Bucket { bound, count })
                }));
                if !scratch.is_empty() {
                    *held = compute(&labels, step, &mut scratch);
                }
            }
            let mut track = Track {
                labels,
                drop_name,
                values,
            };
            self.drop_name(&mut track);
            out.push(track);
        }
        Ok(out)
    }

    fn histogram_quantile(&self, arguments: &[Node], grid: Grid) -> Result<Vec<Track>> {
        let quantiles = self.scalar(&arguments[0], grid)?;
        for &q in &quantiles {
            self.check_quantile(q, arguments[0].span);
        }
        self.per_histogram(&arguments[1], grid, |labels, step, buckets| {
            let (value, mended) =
                histogram::quantile(quantiles[step], buckets, self.engine.dialect);
            if mended.shrinking.is_some() {
                let name = match labels.name() {
                    Some(name) if self.engine.delayed_name_removal => {
                        format!(" for metric name {}", Quoted(name))
                    }
                    _ => String::new(),
                };
                self.note(
                    Level::Info,
                    arguments[1].span,
                    format_args!(
                        "input to histogram_quantile needed to be fixed for monotonicity (see \
                         https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile){name}"
                    ),
                );
            }
            value
        })
    }

    pub(super) fn check_quantile(&self, q: f64, span: Span) {
        if q.is_nan() || !(0.0..=1.0).contains(&q) {
            self.note(
                Level::Warning,
                span,
                format_args!("quantile value should be between 0 and 1, got {}", Short(q)),
            );
        }
    }

    fn histogram_fraction(&self, arguments: &[Node], grid: Grid) -> Result<Vec<Track>> {
        let lower = self.scalar(&arguments[0], grid)?;
        let upper = self.scalar(&arguments[1], grid)?;
        if !self.is_v3() {
            // Version 2 computes it for native histograms only.
            self.vector(&arguments[2], grid)?;
            return Ok(Vec::new());
        }
        self.per_histogram(&arguments[2], grid, |_, step, buckets| {
            histogram::fraction(lower[step], upper[step], buckets)
        })
    }

    fn range_function(
        &self,
        function: RangeFunction,
        arguments: &[Node],
        span: Span,
        grid: Grid,
    ) -> Result<Vec<Track>> {
        let mut scalars: Vec<(Vec<f64>, Span)> = Vec::new();
        let mut matrix = &arguments[0];
        for argument in arguments {
            if argument.value_type() == ValueType::Matrix {
                matrix = argument;
            } else {
                scalars.push((self.scalar(argument, grid)?, argument.span));
            }
        }
        let strips = self.strips(matrix, grid)?;
        self.reserve(strips.list.len(), grid)?;
        let closed = self.engine.dialect.closed_windows();
        let counter = matches!(function, RangeFunction::Rate | RangeFunction::Increase);
        let mut parameters = vec![0.0; scalars.len()];
        let mut tracks = Vec::with_capacity(strips.list.len());
        for strip in strips.list {
            let (times, values) = (&*strip.times, &*strip.values);
            // Where the series fell, and from what.
            let (falls, before): (Vec<usize>, Vec<f64>) = if counter {
                (1..values.len())
                    .filter(|&at| values[at] < values[at - 1])
                    .map(|at| (at, values[at - 1]))
                    .unzip()
            } else {
                (Vec::new(), Vec::new())
            };
            let (mut first_fall, mut last_fall) = (0, 0);
            let mut slide = Slide::new(times);
            let mut out = Vec::new();
            for (step, now_ms) in grid.times().enumerate() {
                let end_ms = self.look_at(strips.place, now_ms);
                let start_ms = end_ms - strips.range_ms;
                let (from, to) = slide.to(start_ms, end_ms, closed);
                if from >= to {
                    continue;
                }
                // A fall counts if both its samples are in the window.
                while first_fall < falls.len() && falls[first_fall] <= from {
                    first_fall += 1;
                }
                while last_fall < falls.len() && falls[last_fall] < to {
                    last_fall += 1;
                }
                if !function.is_constant_work() {
                    self.spend(to - from)?;
                }
                for (parameter, (values, _)) in parameters.iter_mut().zip(&scalars) {
                    *parameter = values[step];
                }
                if function == RangeFunction::Quantile {
                    self.check_quantile(parameters[0], scalars[0].1);
                }
                let window = Window {
                    times: &times[from..to],
                    values: &values[from..to],
                    before_resets: before.get(first_fall..last_fall).unwrap_or(&[]),
                    start_ms,
                    end_ms,
                    range_ms: strips.range_ms,
                    now_ms,
                };
                let value = range::apply(function, &window, &parameters, self.engine.dialect)
                    .map_err(|message| -> EvalError { self.fail(span, message) })?;
                if is_absent(value) {
                    continue;
                }
                if out.is_empty() {
                    out = absent_values(grid);
                }
                out[step] = value;
            }
            if out.is_empty() {
                continue;
            }
            if counter {
                self.note_if_no_counter(&strip.labels, matrix.span);
            }
            let mut track = Track {
                labels: strip.labels,
                drop_name: strip.drop_name,
                values: out,
            };
            if function.keeps_name() {
                track.drop_name = false;
            } else {
                self.drop_name(&mut track);
            }
            tracks.push(track);
        }
        Ok(tracks)
    }

    fn note_if_no_counter(&self, labels: &Labels, span: Span) {
        let Some(name) = labels.name() else {
            return;
        };
        let counts = ["_total", "_sum", "_count", "_bucket"];
        if counts.iter().all(|end| !name.ends_with(end)) {
            self.note(
                Level::Info,
                span,
                format_args!(
                    "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {}",
                    Quoted(name)
                ),
            );
        }
    }
}

/// The text of an argument that is a string; the check of types leaves no other.
fn text(node: &Node) -> &str {
    match &node.bare().kind {
        Kind::Text(text) => text,
        _ => "",
    }
}

/// The sample that says that something is absent, with the labels that its selector demands.
fn absent_track(argument: &Node, values: Vec<f64>) -> Track {
    let labels = match &argument.bare().kind {
        Kind::Selector(selector) | Kind::Range { selector, .. } => demanded_labels(selector),
        _ => Labels::empty(),
    };
    Track {
        labels,
        drop_name: false,
        values,
    }
}

/// The labels that a selector compares with `=`. A later matcher of the same label takes it away,
/// unless all before it were of other kinds: that is Prometheus's rule.
fn demanded_labels(selector: &Selector) -> Labels {
    let mut labels = Labels::empty();
    let mut demanded: Vec<&str> = Vec::new();
    for matcher in &selector.matchers {
        let name = matcher.name.as_str();
        if name == METRIC_NAME {
            continue;
        }
        if matches!(matcher.test, Test::Equal) && !demanded.contains(&name) {
            labels = labels.with(name, &matcher.value);
            demanded.push(name);
        } else {
            labels = labels.without(&[name]);
        }
    }
    labels
}

/// Orders label sets by the values of some labels, with numbers in them in natural order.
fn by_labels(a: &Labels, b: &Labels, names: &[&str]) -> std::cmp::Ordering {
    names
        .iter()
        .map(|name| natural(a.value(name), b.value(name)))
        .find(|order| order.is_ne())
        .unwrap_or_else(|| a.cmp(b))
}

/// Natural order: runs of digits compare as numbers.
fn natural(a: &str, b: &str) -> std::cmp::Ordering {
    let chunks = |text: &str| -> Vec<(bool, String)> {
        let mut out: Vec<(bool, String)> = Vec::new();
        for c in text.chars() {
            match out.last_mut() {
                Some((digits, chunk)) if *digits == c.is_ascii_digit() => chunk.push(c),
                _ => out.push((c.is_ascii_digit(), c.to_string())),
            }
        }
        out
    };
    let (left, right) = (chunks(a), chunks(b));
    for ((a_digits, a), (b_digits, b)) in left.iter().zip(&right) {
        let order = if *a_digits && *b_digits {
            let (x, y) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
            x.len()
                .cmp(&y.len())
                .then_with(|| x.cmp(y))
                .then_with(|| a.len().cmp(&b.len()))
        } else {
            a.cmp(b)
        };
        if order.is_ne() {
            return order;
        }
    }
    left.len().cmp(&right.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_labels_sort_as_numbers() {
        let mut names = ["node-10", "node-9", "node-1", "a"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["a", "node-1", "node-9", "node-10"]);
    }
}
