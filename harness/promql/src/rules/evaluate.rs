//! Evaluates the groups of a file over a stretch of virtual time.
//!
//! Where no rule reads what itself or a later rule records, each rule is evaluated for all its
//! moments at once, one after the other, which gives the same as moment by moment and is many times
//! faster. Else, and where a query looks ahead, all rules go moment by moment. At one moment the
//! groups are evaluated in the order of the file.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::eval::{Engine, EvalError};
use crate::labels::{Labels, METRIC_NAME};
use crate::query::Query;
use crate::series::{STALE, Storage};
use crate::tree::{Kind, Node, Place, Selector};
use crate::value::{Row, Sample, Value};

use super::alerts::{ALERTS, ALERTS_FOR_STATE, AlertingState, millis, write};
use super::timeline::Timeline;
use super::{Group, RecordingRule, Rule, RuleFile, Surroundings};

/// The most evaluations of single rules that one call makes.
pub const MAX_EVALUATIONS: u64 = 20_000_000;

/// How many moments of a rule are evaluated at once.
const BATCH: i64 = 5_000;

/// When and with what rules are evaluated.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Settings {
    /// The first evaluation, in milliseconds since the Unix epoch.
    pub start_ms: i64,
    /// The last evaluation is at this moment or before it.
    pub end_ms: i64,
    /// How often groups are evaluated that do not say so themselves; at least a millisecond.
    pub interval: Duration,
    /// Labels that the server adds to what it sends; templates see them.
    pub external_labels: Labels,
    /// Where people reach the server; templates see it.
    pub external_url: String,
}

impl Settings {
    /// From `start_ms` to `end_ms`, both included, every `interval`, without external labels.
    pub fn new(start_ms: i64, end_ms: i64, interval: Duration) -> Self {
        Settings {
            start_ms,
            end_ms,
            interval,
            external_labels: Labels::empty(),
            external_url: String::new(),
        }
    }
}

/// Why rules were not evaluated at all. Completes "could not evaluate the rules: …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluateError {
    /// More evaluations than anybody would wait for.
    #[error(
        "{rules} rules every {} over this stretch of time are more than {MAX_EVALUATIONS} \
         evaluations: choose a longer interval",
        crate::duration::format_duration(*interval)
    )]
    TooMany {
        /// How many rules the group has.
        rules: usize,
        /// Its interval.
        interval: Duration,
    },
}

/// What an evaluation gave, beside what it wrote into the storage.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Evaluation {
    /// What became of the alerts.
    pub timeline: Timeline,
    /// Rules that failed, which a real server would tell in its log.
    pub failures: Vec<Failure>,
}

/// A rule that failed at some moments in a row, each time for the same reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rule `{rule}` of group `{group}` failed {count} times: {reason}")]
pub struct Failure {
    /// The group's name.
    pub group: String,
    /// The name of the alert or of the recorded series.
    pub rule: String,
    /// The first moment, in milliseconds since the Unix epoch.
    pub from_ms: i64,
    /// The last moment.
    pub to_ms: i64,
    /// At how many moments.
    pub count: usize,
    /// Why.
    pub reason: String,
}

impl RuleFile {
    /// Evaluates the rules over the storage and writes into it what they record.
    ///
    /// Equal input gives equal output. A rule that fails at a moment changes nothing then and is among
    /// the failures.
    ///
    /// # Errors
    /// See [`EvaluateError`].
    pub fn evaluate(
        &self,
        storage: &mut Storage,
        settings: &Settings,
    ) -> Result<Evaluation, EvaluateError> {
        let mut run = Run::new(self, settings)?;
        if can_go_rule_by_rule(self) {
            for index in 0..run.rules.len() {
                run.whole_rule(index, storage);
            }
        } else {
            run.moment_by_moment(storage);
        }
        Ok(run.finish(settings))
    }
}

/// What a rule's query reads.
#[derive(Default)]
struct Reads<'a> {
    names: HashSet<&'a str>,
    /// A selector without a name, which may read anything.
    anything: bool,
    /// An offset into the future or `@`: a batch would see what a moment does not.
    elsewhere: bool,
}

impl<'a> Reads<'a> {
    fn of(query: &'a Query) -> Self {
        let mut reads = Self::default();
        reads.visit(query.root());
        reads
    }

    fn visit(&mut self, node: &'a Node) {
        match &node.kind {
            Kind::Selector(selector) | Kind::Range { selector, .. } => self.select(selector),
            Kind::Subquery(subquery) => self.place(subquery.place),
            _ => {}
        }
        for child in node.children() {
            self.visit(child);
        }
    }

    fn select(&mut self, selector: &'a Selector) {
        self.place(selector.place);
        match selector.matchers.iter().find_map(|m| m.wanted_name()) {
            Some(name) => {
                self.names.insert(name);
            }
            None => self.anything = true,
        }
    }

    fn place(&mut self, place: Place) {
        self.elsewhere |= place.at.is_some() || place.offset_ms < 0;
    }
}

/// Whether each rule reads only what is in the storage or what earlier rules write.
fn can_go_rule_by_rule(file: &RuleFile) -> bool {
    let rules: Vec<&Rule> = file.groups().iter().flat_map(Group::rules).collect();
    // From the last rule to the first, with the names that this rule and later ones write.
    let mut later: HashSet<&str> = HashSet::new();
    for rule in rules.iter().rev() {
        match rule {
            Rule::Recording(rule) => {
                later.insert(rule.name());
            }
            Rule::Alerting(rule) => {
                later.extend([ALERTS, ALERTS_FOR_STATE]);
                let asks = rule
                    .labels()
                    .iter()
                    .chain(rule.annotations())
                    .any(|(_, template)| template.asks_queries());
                if asks {
                    return false;
                }
            }
        }
        let reads = Reads::of(rule.query());
        if reads.anything || reads.elsewhere || !reads.names.is_disjoint(&later) {
            return false;
        }
    }
    true
}

struct RecordingState {
    rule: RecordingRule,
    limit: usize,
    /// What the last evaluation wrote.
    previous: Vec<Labels>,
    labels_of: HashMap<Labels, Labels>,
}

enum State {
    Recording(RecordingState),
    Alerting(AlertingState),
}

struct RuleRun {
    group: Arc<str>,
    name: String,
    query: Query,
    interval_ms: i64,
    query_offset_ms: i64,
    state: State,
    failures: Vec<Failure>,
}

struct Run {
    engine: Engine,
    start_ms: i64,
    end_ms: i64,
    rules: Vec<RuleRun>,
}

impl Run {
    fn new(file: &RuleFile, settings: &Settings) -> Result<Self, EvaluateError> {
        let surroundings = Arc::new(Surroundings {
            external_labels: settings.external_labels.clone(),
            external_url: settings.external_url.clone(),
        });
        let stretch_ms = settings.end_ms.saturating_sub(settings.start_ms).max(0);
        let mut evaluations: u64 = 0;
        let mut rules = Vec::new();
        for group in file.groups() {
            let interval = group
                .interval()
                .unwrap_or(settings.interval)
                .max(Duration::from_millis(1));
            let interval_ms = millis(interval);
            let moments = stretch_ms.unsigned_abs() / interval_ms.unsigned_abs() + 1;
            evaluations =
                evaluations.saturating_add(moments.saturating_mul(group.rules().len() as u64));
            if evaluations > MAX_EVALUATIONS {
                return Err(EvaluateError::TooMany {
                    rules: group.rules().len(),
                    interval,
                });
            }
            for rule in group.rules() {
                let state = match rule {
                    Rule::Recording(rule) => State::Recording(RecordingState {
                        rule: rule.clone(),
                        limit: group.limit(),
                        previous: Vec::new(),
                        labels_of: HashMap::new(),
                    }),
                    Rule::Alerting(rule) => State::Alerting(AlertingState::new(
                        rule.clone(),
                        group.name.clone(),
                        surroundings.clone(),
                        interval,
                        group.limit(),
                    )),
                };
                rules.push(RuleRun {
                    group: group.name.clone(),
                    name: rule.name().to_owned(),
                    query: rule.query().clone(),
                    interval_ms,
                    query_offset_ms: millis(group.query_offset()),
                    state,
                    failures: Vec::new(),
                });
            }
        }
        Ok(Run {
            engine: Engine::new(file.dialect),
            start_ms: settings.start_ms,
            end_ms: settings.end_ms,
            rules,
        })
    }

    fn finish(self, settings: &Settings) -> Evaluation {
        let mut failures = Vec::new();
        let mut episodes = Vec::new();
        for rule in self.rules {
            failures.extend(rule.failures);
            if let State::Alerting(state) = rule.state {
                episodes.extend(state.into_episodes());
            }
        }
        episodes.sort_by(|a, b| (a.active_ms, &a.labels).cmp(&(b.active_ms, &b.labels)));
        Evaluation {
            timeline: Timeline {
                episodes,
                end_ms: settings.end_ms,
                external_labels: settings.external_labels.clone(),
            },
            failures,
        }
    }

    fn moment_by_moment(&mut self, storage: &mut Storage) {
        let mut next: Vec<i64> = vec![self.start_ms; self.rules.len()];
        while let Some(&at_ms) = next.iter().min() {
            if at_ms > self.end_ms {
                return;
            }
            for (rule, next_ms) in self.rules.iter_mut().zip(&mut next) {
                if *next_ms == at_ms {
                    rule.moment(&self.engine, storage, at_ms);
                    *next_ms = at_ms.saturating_add(rule.interval_ms);
                }
            }
        }
    }

    fn whole_rule(&mut self, index: usize, storage: &mut Storage) {
        let rule = &mut self.rules[index];
        let mut from_ms = self.start_ms;
        while from_ms <= self.end_ms {
            let to_ms = from_ms
                .saturating_add(rule.interval_ms.saturating_mul(BATCH - 1))
                .min(self.end_ms);
            let step = Duration::from_millis(rule.interval_ms.unsigned_abs());
            match self
                .engine
                .range(storage, &rule.query, from_ms, to_ms, step)
            {
                Ok(answer) => {
                    rule.batch(answer.value.rows(), &self.engine, storage, from_ms, to_ms)
                }
                // Some moment fails: find out which.
                Err(_) => {
                    let mut at_ms = from_ms;
                    while at_ms <= to_ms {
                        rule.moment(&self.engine, storage, at_ms);
                        at_ms += rule.interval_ms;
                    }
                }
            }
            let steps = (to_ms - from_ms) / rule.interval_ms + 1;
            from_ms += steps * rule.interval_ms;
        }
    }
}

impl RuleRun {
    fn fail(&mut self, at_ms: i64, reason: String) {
        let interval_ms = self.interval_ms;
        let again = self
            .failures
            .last_mut()
            .filter(|last| last.reason == reason && at_ms - last.to_ms <= interval_ms);
        if let Some(last) = again {
            last.count += usize::from(at_ms > last.to_ms);
            last.to_ms = at_ms;
            return;
        }
        self.failures.push(Failure {
            group: self.group.to_string(),
            rule: self.name.clone(),
            from_ms: at_ms,
            to_ms: at_ms,
            count: 1,
            reason,
        });
    }

    fn moment(&mut self, engine: &Engine, storage: &mut Storage, at_ms: i64) {
        let asked_ms = at_ms.saturating_sub(self.query_offset_ms);
        match instant(engine, storage, &self.query, asked_ms) {
            Ok(samples) => self.step(engine, storage, at_ms, &samples),
            Err(reason) => self.fail(at_ms, reason),
        }
    }

    fn step(
        &mut self,
        engine: &Engine,
        storage: &mut Storage,
        at_ms: i64,
        samples: &[(Labels, f64)],
    ) {
        let mut written = Vec::new();
        let outcome = match &mut self.state {
            State::Recording(state) => state.step(samples, &mut written),
            State::Alerting(state) => {
                let held = &*storage;
                let ask = |text: &str| ask(engine, held, text, at_ms);
                state.step(at_ms, samples, &ask, &mut written)
            }
        };
        if let Err(reason) = outcome {
            self.fail(at_ms, reason);
        }
        if let Err(error) = write(storage, at_ms, &mut written) {
            self.fail(at_ms, error.to_string());
        }
    }

    /// Takes the answers for many moments in a row.
    fn batch(
        &mut self,
        rows: &[Row],
        engine: &Engine,
        storage: &mut Storage,
        from_ms: i64,
        to_ms: i64,
    ) {
        let interval_ms = self.interval_ms;
        let moments = usize::try_from((to_ms - from_ms) / interval_ms + 1).unwrap_or(0);
        // The rows with a value at each moment, as (row, value), moment after moment.
        let mut starts = vec![0_usize; moments + 1];
        let first_ms = from_ms.saturating_sub(self.query_offset_ms);
        let moment_of = |at_ms: i64| ((at_ms - first_ms) / interval_ms) as usize;
        for row in rows {
            for point in &row.points {
                starts[moment_of(point.timestamp_ms) + 1] += 1;
            }
        }
        for moment in 0..moments {
            starts[moment + 1] += starts[moment];
        }
        let mut filled = starts.clone();
        let mut values = vec![(0_usize, 0.0_f64); starts[moments]];
        for (index, row) in rows.iter().enumerate() {
            for point in &row.points {
                let moment = moment_of(point.timestamp_ms);
                values[filled[moment]] = (index, point.value);
                filled[moment] += 1;
            }
        }
        let mut samples = Vec::new();
        for moment in 0..moments {
            let present = &values[starts[moment]..starts[moment + 1]];
            if present.is_empty() && !self.state.expects() {
                continue;
            }
            samples.clear();
            samples.extend(
                present
                    .iter()
                    .map(|&(row, value)| (rows[row].labels.clone(), value)),
            );
            let at_ms = from_ms + moment as i64 * interval_ms;
            self.step(engine, storage, at_ms, &samples);
        }
    }
}

impl State {
    /// Whether a moment without samples changes anything.
    fn expects(&self) -> bool {
        match self {
            State::Recording(state) => !state.previous.is_empty(),
            State::Alerting(state) => state.is_active(),
        }
    }
}

impl RecordingState {
    fn step(
        &mut self,
        samples: &[(Labels, f64)],
        written: &mut Vec<(Labels, f64)>,
    ) -> Result<(), String> {
        let mut current = Vec::with_capacity(samples.len());
        for (labels, value) in samples {
            let recorded = match self.labels_of.get(labels) {
                Some(recorded) => recorded.clone(),
                None => {
                    let own = labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned()));
                    let name = (METRIC_NAME.to_owned(), self.rule.name.clone());
                    let set = self.rule.labels.iter().cloned();
                    let recorded = Labels::new(own.chain([name]).chain(set));
                    self.labels_of.insert(labels.clone(), recorded.clone());
                    recorded
                }
            };
            current.push(recorded.clone());
            written.push((recorded, *value));
        }
        let distinct: HashSet<&Labels> = current.iter().collect();
        if distinct.len() < current.len() {
            written.clear();
            return Err(
                "two series become one once the rule's name and labels are set: \
                 keep a label that tells them apart"
                    .to_owned(),
            );
        }
        if self.limit > 0 && current.len() > self.limit {
            written.clear();
            return Err(format!(
                "{} series exceed the group's limit of {}",
                current.len(),
                self.limit
            ));
        }
        let gone = self
            .previous
            .iter()
            .filter(|labels| !distinct.contains(labels))
            .map(|labels| (labels.clone(), STALE));
        written.extend(gone);
        self.previous = current;
        Ok(())
    }
}

/// What a query answers with at a moment, as a rule takes it.
fn instant(
    engine: &Engine,
    storage: &Storage,
    query: &Query,
    at_ms: i64,
) -> Result<Vec<(Labels, f64)>, String> {
    let answer = engine
        .instant(storage, query, at_ms)
        .map_err(|error: EvalError| error.to_string())?;
    match answer.value {
        Value::Scalar(point) => Ok(vec![(Labels::empty(), point.value)]),
        Value::Vector(samples) => Ok(samples
            .into_iter()
            .map(|sample| (sample.labels, sample.value))
            .collect()),
        Value::Matrix(_) | Value::String(_) => {
            Err("rule result is not a vector or scalar".to_owned())
        }
    }
}

/// Answers the function `query` of a template.
fn ask(engine: &Engine, storage: &Storage, text: &str, at_ms: i64) -> Result<Vec<Sample>, String> {
    let query = Query::parse_as(text, engine.dialect).map_err(|error| error.to_string())?;
    Ok(instant(engine, storage, &query, at_ms)?
        .into_iter()
        .map(|(labels, value)| Sample {
            labels,
            timestamp_ms: at_ms,
            value,
        })
        .collect())
}
