//! Evaluates a query over a storage.
//!
//! A node is evaluated once for all steps of a query, series by series: matchers run once, and a
//! window slides along its series by index. A value that is not there is [`ABSENT`].

mod aggregate;
mod binary;
mod call;
mod select;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::annotations::{Level, Notes};
use crate::diagnostics::{Diagnostic, Span};
use crate::dialect::Dialect;
use crate::labels::{Labels, METRIC_NAME};
use crate::query::Query;
use crate::series::{STALE, Storage, is_stale};
use crate::tree::{Kind, Node};
use crate::value::{Answer, Point, Row, Sample, Value, ValueType};

/// No sample at this step. The marker that ends a series never comes out of a selector, so it is
/// free to stand for this.
pub(crate) const ABSENT: f64 = STALE;

pub(crate) fn is_absent(value: f64) -> bool {
    is_stale(value)
}

/// The most steps of a range query, as Prometheus's API has it.
pub const MAX_STEPS: usize = 11_000;

/// The most values that one part of a query may hold at a time.
pub const MAX_SAMPLES: usize = 50_000_000;

/// The most samples that a query may look at, counted each time. A second or two of work.
const MAX_WORK: u64 = 1_000_000_000;

/// The farthest moment that can be asked for, in milliseconds on both sides of the epoch.
const MAX_TIME_MS: i64 = i64::MAX / 8;

/// Why a query has no answer.
///
/// Completes "could not evaluate the query: …". Displayed in Prometheus's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// The query asks for what cannot be: an argument out of range, ambiguous matching.
    #[error("{}", .0.message)]
    Query(Box<Diagnostic>),
    /// The query would hold more values than [`MAX_SAMPLES`].
    #[error("query processing would load too many samples into memory in query execution")]
    TooManySamples,
    /// The query would look at so many samples that nobody would wait for it.
    #[error(
        "query would look at more than {MAX_WORK} samples: ask for fewer steps, or use shorter windows"
    )]
    TooMuchWork,
    /// A range query has more steps than [`MAX_STEPS`].
    #[error(
        "exceeded maximum resolution of {MAX_STEPS} points per timeseries. Try decreasing the query resolution (?step=XX)"
    )]
    TooManySteps,
    /// The end is before the start, the step is not at least a millisecond, or a time is absurd.
    #[error("{0}")]
    Times(&'static str),
}

impl EvalError {
    /// The place in the query, where there is one.
    pub fn diagnostic(&self) -> Option<&Diagnostic> {
        match self {
            Self::Query(diagnostic) => Some(diagnostic),
            _ => None,
        }
    }
}

/// How queries are evaluated. A plain value; evaluation is synchronous and has no state.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Engine {
    /// Which Prometheus is imitated. Parse queries as the same dialect.
    pub dialect: Dialect,
    /// How long the last sample of a series counts as its value; five minutes by default.
    pub lookback: Duration,
    /// The step of a subquery that states none; one minute by default.
    pub subquery_step: Duration,
    /// Whether the metric's name is dropped at the end only, as Prometheus 3 does with the feature
    /// `promql-delayed-name-removal`; off by default.
    pub delayed_name_removal: bool,
}

impl Default for Engine {
    fn default() -> Self {
        Self::new(Dialect::default())
    }
}

impl Engine {
    /// An engine with the default settings of a dialect.
    pub fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            lookback: Duration::from_secs(300),
            subquery_step: Duration::from_secs(60),
            delayed_name_removal: false,
        }
    }

    /// The value of a query at one moment, in milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// See [`EvalError`].
    pub fn instant(
        &self,
        storage: &Storage,
        query: &Query,
        at_ms: i64,
    ) -> Result<Answer, EvalError> {
        let evaluator = Evaluator::new(self, storage, query, (at_ms, at_ms, 0))?;
        let grid = Grid {
            start_ms: at_ms,
            step_ms: 1,
            steps: 1,
        };
        let value = evaluator.instant_value(query.root(), grid)?;
        Ok(evaluator.answer(value))
    }

    /// The value of a query at every step from `start_ms` to `end_ms`, both included.
    ///
    /// # Errors
    /// See [`EvalError`].
    pub fn range(
        &self,
        storage: &Storage,
        query: &Query,
        start_ms: i64,
        end_ms: i64,
        step: Duration,
    ) -> Result<Answer, EvalError> {
        let step_ms = millis(step);
        if step_ms == 0 {
            return Err(EvalError::Times(
                "zero or negative query resolution step widths are not accepted. Try a positive integer",
            ));
        }
        if end_ms < start_ms {
            return Err(EvalError::Times(
                "end timestamp must not be before start time",
            ));
        }
        let evaluator = Evaluator::new(self, storage, query, (start_ms, end_ms, step_ms))?;
        let steps = (end_ms - start_ms) / step_ms;
        if steps > MAX_STEPS as i64 {
            return Err(EvalError::TooManySteps);
        }
        let root = query.root();
        let found = root.value_type();
        if !matches!(found, ValueType::Scalar | ValueType::Vector) {
            return Err(evaluator.fail(
                root.span,
                format!(
                    "invalid expression type \"{found}\" for range query, must be Scalar or instant Vector"
                ),
            ));
        }
        let grid = Grid {
            start_ms,
            step_ms,
            steps: steps as usize + 1,
        };
        let value = evaluator.range_value(root, grid)?;
        Ok(evaluator.answer(value))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis())
        .unwrap_or(i64::MAX)
        .min(MAX_TIME_MS)
}

/// The moments at which a node is evaluated. At least one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grid {
    pub(crate) start_ms: i64,
    pub(crate) step_ms: i64,
    pub(crate) steps: usize,
}

impl Grid {
    pub(crate) fn time(self, step: usize) -> i64 {
        self.start_ms + self.step_ms * step as i64
    }

    pub(crate) fn end_ms(self) -> i64 {
        self.time(self.steps.saturating_sub(1))
    }

    pub(crate) fn times(self) -> impl Iterator<Item = i64> {
        (0..self.steps).map(move |step| self.time(step))
    }
}

/// A series of a result: one value for each step of the grid, [`ABSENT`] where there is none.
#[derive(Debug, Clone)]
pub(crate) struct Track {
    pub(crate) labels: Labels,
    /// The metric's name is to be dropped at the end (delayed name removal).
    pub(crate) drop_name: bool,
    pub(crate) values: Vec<f64>,
}

/// What a node that is no range vector evaluates to.
#[derive(Debug)]
pub(crate) enum Out {
    Scalar(Vec<f64>),
    Vector(Vec<Track>),
}

pub(crate) type Result<T, E = EvalError> = std::result::Result<T, E>;

pub(crate) struct Evaluator<'a> {
    engine: &'a Engine,
    storage: &'a Storage,
    query: &'a Query,
    /// The times that `@ start()` and `@ end()` mean.
    start_ms: i64,
    end_ms: i64,
    /// The distance of steps of a range query, 0 of an instant query.
    step_ms: i64,
    notes: RefCell<Notes>,
    work: Cell<u64>,
}

impl<'a> Evaluator<'a> {
    fn new(
        engine: &'a Engine,
        storage: &'a Storage,
        query: &'a Query,
        (start_ms, end_ms, step_ms): (i64, i64, i64),
    ) -> Result<Self> {
        let near = -MAX_TIME_MS..=MAX_TIME_MS;
        if !near.contains(&start_ms) || !near.contains(&end_ms) {
            return Err(EvalError::Times("the time is too far from the epoch"));
        }
        let notes = match engine.dialect {
            Dialect::V2 => Notes::muted(),
            Dialect::V3 => Notes::default(),
        };
        Ok(Self {
            engine,
            storage,
            query,
            start_ms,
            end_ms,
            step_ms,
            notes: RefCell::new(notes),
            work: Cell::new(0),
        })
    }

    fn answer(self, value: Value) -> Answer {
        Answer {
            value,
            annotations: self.notes.into_inner().into_sorted(),
        }
    }

    fn fail(&self, span: Span, message: impl Into<String>) -> EvalError {
        EvalError::Query(Box::new(Diagnostic::new(self.query.text(), span, message)))
    }

    fn note(&self, level: Level, span: Span, text: impl std::fmt::Display) {
        self.notes.borrow_mut().add(level, span, text);
    }

    fn is_v3(&self) -> bool {
        self.engine.dialect == Dialect::V3
    }

    /// Counts work, so that no query runs without end.
    fn spend(&self, samples: usize) -> Result<()> {
        let work = self.work.get().saturating_add(samples as u64);
        self.work.set(work);
        if work > MAX_WORK {
            return Err(EvalError::TooMuchWork);
        }
        Ok(())
    }

    /// Makes sure that so many series fit over the grid before they are computed.
    fn reserve(&self, series: usize, grid: Grid) -> Result<()> {
        if series.saturating_mul(grid.steps) > MAX_SAMPLES {
            return Err(EvalError::TooManySamples);
        }
        self.spend(series.saturating_mul(grid.steps))
    }

    /// Drops the name of a result that is no longer what the name says, now or at the end.
    fn drop_name(&self, track: &mut Track) {
        if self.engine.delayed_name_removal {
            track.drop_name = true;
        } else {
            track.labels = self.nameless(&track.labels);
        }
    }

    /// The labels without those that describe the metric itself.
    fn nameless(&self, labels: &Labels) -> Labels {
        match self.engine.dialect {
            Dialect::V2 => labels.without(&[METRIC_NAME]),
            Dialect::V3 => labels.without(&[METRIC_NAME, "__type__", "__unit__"]),
        }
    }

    /// Joins tracks with the same labels; two values at one step are an error.
    fn merge(&self, tracks: Vec<Track>, span: Span) -> Result<Vec<Track>> {
        let mut places: HashMap<Labels, usize> = HashMap::with_capacity(tracks.len());
        let unique = tracks
            .iter()
            .all(|track| places.insert(track.labels.clone(), 0).is_none());
        if unique {
            return Ok(tracks);
        }
        places.clear();
        let mut merged: Vec<Track> = Vec::with_capacity(tracks.len());
        for track in tracks {
            match places.get(&track.labels) {
                None => {
                    places.insert(track.labels.clone(), merged.len());
                    merged.push(track);
                }
                Some(&at) => {
                    for (held, value) in merged[at].values.iter_mut().zip(track.values) {
                        if is_absent(value) {
                            continue;
                        }
                        if !is_absent(*held) {
                            return Err(self.fail(
                                span,
                                "vector cannot contain metrics with the same labelset",
                            ));
                        }
                        *held = value;
                    }
                }
            }
        }
        Ok(merged)
    }

    /// Refuses tracks with the same labels, even if they never have a value at the same step: what
    /// Prometheus does where it computes a series as a whole.
    pub(super) fn refuse_alike(&self, tracks: &[Track], span: Span) -> Result<()> {
        let mut seen = HashSet::with_capacity(tracks.len());
        let alike = tracks
            .iter()
            .filter(|track| track.values.iter().any(|value| !is_absent(*value)))
            .any(|track| !seen.insert(&track.labels));
        if alike {
            return Err(self.fail(span, "vector cannot contain metrics with the same labelset"));
        }
        Ok(())
    }

    /// Drops the names that were to be dropped at the end.
    fn finish(&self, mut tracks: Vec<Track>, span: Span) -> Result<Vec<Track>> {
        if !self.engine.delayed_name_removal {
            return Ok(tracks);
        }
        for track in &mut tracks {
            if track.drop_name {
                track.labels = self.nameless(&track.labels);
            }
        }
        self.refuse_alike(&tracks, span)?;
        Ok(tracks)
    }

    fn instant_value(&self, root: &Node, grid: Grid) -> Result<Value> {
        let at_ms = grid.start_ms;
        match root.value_type() {
            ValueType::String => match &root.bare().kind {
                Kind::Text(text) => Ok(Value::String(text.clone())),
                _ => Ok(Value::String(String::new())),
            },
            ValueType::Matrix => {
                let mut rows: Vec<Row> = self
                    .stretches(root, grid)?
                    .into_iter()
                    .filter(|row| !row.points.is_empty())
                    .collect();
                rows.sort_by(|a, b| a.labels.cmp(&b.labels));
                Ok(Value::Matrix(rows))
            }
            ValueType::Scalar | ValueType::Vector => match self.eval(root, grid)? {
                Out::Scalar(values) => Ok(Value::Scalar(Point {
                    timestamp_ms: at_ms,
                    value: values[0],
                })),
                Out::Vector(tracks) => Ok(Value::Vector(
                    self.finish(tracks, root.span)?
                        .into_iter()
                        .filter(|track| !is_absent(track.values[0]))
                        .map(|track| Sample {
                            labels: track.labels,
                            timestamp_ms: at_ms,
                            value: track.values[0],
                        })
                        .collect(),
                )),
            },
        }
    }

    fn range_value(&self, root: &Node, grid: Grid) -> Result<Value> {
        let points = |values: &[f64]| -> Vec<Point> {
            values
                .iter()
                .zip(grid.times())
                .filter(|(value, _)| !is_absent(**value))
                .map(|(&value, timestamp_ms)| Point {
                    timestamp_ms,
                    value,
                })
                .collect()
        };
        let mut rows: Vec<Row> = match self.eval(root, grid)? {
            Out::Scalar(values) => vec![Row {
                labels: Labels::empty(),
                points: points(&values),
            }],
            Out::Vector(tracks) => self
                .finish(tracks, root.span)?
                .into_iter()
                .map(|track| Row {
                    points: points(&track.values),
                    labels: track.labels,
                })
                .filter(|row| !row.points.is_empty())
                .collect(),
        };
        rows.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(Value::Matrix(rows))
    }

    /// Evaluates a scalar or an instant vector.
    fn eval(&self, node: &Node, grid: Grid) -> Result<Out> {
        self.spend(grid.steps)?;
        match &node.kind {
            Kind::Number(value) => {
                self.reserve(1, grid)?;
                Ok(Out::Scalar(vec![*value; grid.steps]))
            }
            Kind::Paren(inner) => self.eval(inner, grid),
            Kind::Negate(inner) => self.negate(inner, node.span, grid),
            Kind::Selector(selector) => Ok(Out::Vector(self.select(selector, grid)?)),
            Kind::Call(call) => self.call(call, node, grid),
            Kind::Aggregate(aggregate) => Ok(Out::Vector(self.aggregate(aggregate, node, grid)?)),
            Kind::Binary(binary) => self.binary(binary, node.span, grid),
            // A checked tree has these only where a range vector or a text belongs.
            Kind::Text(_) | Kind::Range { .. } | Kind::Subquery(_) => Err(self.fail(
                node.span,
                format!("a {} has no single value here", node.value_type()),
            )),
        }
    }

    fn negate(&self, inner: &Node, span: Span, grid: Grid) -> Result<Out> {
        match self.eval(inner, grid)? {
            Out::Scalar(mut values) => {
                values.iter_mut().for_each(|value| *value = -*value);
                Ok(Out::Scalar(values))
            }
            Out::Vector(mut tracks) => {
                for track in &mut tracks {
                    for value in &mut track.values {
                        if !is_absent(*value) {
                            *value = -*value;
                        }
                    }
                    self.drop_name(track);
                }
                self.refuse_alike(&tracks, span)?;
                Ok(Out::Vector(tracks))
            }
        }
    }

    fn scalar(&self, node: &Node, grid: Grid) -> Result<Vec<f64>> {
        match self.eval(node, grid)? {
            Out::Scalar(values) => Ok(values),
            Out::Vector(_) => Err(self.fail(node.span, "expected a scalar here")),
        }
    }

    fn vector(&self, node: &Node, grid: Grid) -> Result<Vec<Track>> {
        match self.eval(node, grid)? {
            Out::Vector(tracks) => Ok(tracks),
            Out::Scalar(_) => Err(self.fail(node.span, "expected an instant vector here")),
        }
    }
}

/// A series that matched nothing so far.
fn absent_values(grid: Grid) -> Vec<f64> {
    vec![ABSENT; grid.steps]
}
