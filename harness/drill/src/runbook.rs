//! A runbook as a decision tree that a machine can walk: exact queries, branches, conclusions.
//!
//! For labs in which a learner writes what somebody else follows at night. [`Runbook::read`] takes
//! any text, and its [findings](Runbook::findings) are what would leave that person standing: prose
//! where a query has to be, a branch into nothing, a loop, a conclusion without a first action.
//! [`Runbook::walk`] follows it over a [`Scene`] in virtual time: each step costs its minutes, its
//! answer is read when they are over, and the walk ends at a conclusion or where it cannot go on.
//!
//! Not for deciding whether a conclusion is right: a checker knows the truth. Nothing that a runbook
//! tells somebody to run is executed here, and a scene is a recording: commands change nothing in it.
//!
//! ```toml
//! [symptom]
//! alert = "errors:ratio > 0.01"      # PromQL; fires after `for`
//! for = "5m"
//! impact = "Payments fail."
//!
//! [[step]]                           # the first one is where a walk begins
//! id = "database"
//! question = "Is a query slow?"
//! minutes = 1                        # queries 1 or more, logs 2, commands 3
//! query = "max by (query) (query:seconds:p99)"
//! is = "> 0.5"                       # yes if this holds for any series of the answer
//! yes = "slow-query"                 # the id of a step or of a conclusion
//! no = "nothing"
//!
//! [[conclusion]]
//! id = "slow-query"
//! cause = "slow query"
//! component = "{query}"              # a label of the series that said yes on the way
//! action = "psql -c \"select cancel('{query}')\""
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use promql::duration::parse_duration;
use promql::{Engine, METRIC_NAME, Query, Storage, ValueType};
use serde::Deserialize;
use telemetry::logs::{LogLine, Timestamp};
use toml::Spanned;

use crate::{Lane, Timeline};

/// The largest document that is read, in bytes.
pub const MAX_BYTES: usize = 256 << 10;
/// The most steps of a document.
pub const MAX_STEPS: usize = 100;
/// The fewest minutes that it takes to ask a query and to read its answer.
pub const QUERY_MINUTES: u32 = 1;
/// The fewest minutes that it takes to search logs.
pub const LOG_MINUTES: u32 = 2;
/// The fewest minutes that it takes until the effect of a command shows.
pub const COMMAND_MINUTES: u32 = 3;
/// After so many minutes a walk is given up.
pub const MAX_MINUTES: u32 = 120;
const MINUTE_MS: i64 = 60_000;

/// What is wrong with a document, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// One or more lines.
    pub message: String,
}

/// `31:9: …`, for the name of the file before it.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

/// The names of the metrics that there are, so that a query for another one is found before anybody
/// waits for its answer.
#[derive(Clone, Debug, Default)]
pub struct Vocabulary(BTreeSet<String>);

impl Vocabulary {
    /// Every name in a storage.
    pub fn of(storage: &Storage) -> Self {
        Vocabulary(
            storage
                .series()
                .iter()
                .filter_map(|series| series.labels().get(METRIC_NAME).map(str::to_owned))
                .collect(),
        )
    }

    /// The name that was probably meant.
    fn nearest(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .map(|known| (strsim::normalized_damerau_levenshtein(name, known), known))
            .filter(|(likeness, _)| *likeness > 0.7)
            .max_by(|(a, _), (b, _)| a.total_cmp(b))
            .map(|(_, known)| known.as_str())
    }
}

/// What somebody who follows a runbook looks at.
#[derive(Clone, Debug)]
pub struct Scene {
    pub storage: Storage,
    /// JSON lines, each with a time; empty where no step reads logs.
    pub logs: String,
}

/// A comparison with a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    operator: Operator,
    number: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    Equal,
    NotEqual,
}

const OPERATORS: [(&str, Operator); 6] = [
    (">=", Operator::GreaterOrEqual),
    ("<=", Operator::LessOrEqual),
    ("==", Operator::Equal),
    ("!=", Operator::NotEqual),
    (">", Operator::Greater),
    ("<", Operator::Less),
];

impl Comparison {
    /// Reads `> 0.9`; the operators are those of PromQL. `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (sign, operator) = OPERATORS.iter().find(|(sign, _)| text.starts_with(sign))?;
        let number: f64 = text[sign.len()..].trim().parse().ok()?;
        number.is_finite().then_some(Comparison {
            operator: *operator,
            number,
        })
    }

    /// Whether a value is on this side. NaN is on no side.
    pub fn holds(self, value: f64) -> bool {
        if value.is_nan() {
            return false;
        }
        match self.operator {
            Operator::Greater => value > self.number,
            Operator::GreaterOrEqual => value >= self.number,
            Operator::Less => value < self.number,
            Operator::LessOrEqual => value <= self.number,
            #[expect(clippy::float_cmp, reason = "what the runbook asks for")]
            Operator::Equal => value == self.number,
            #[expect(clippy::float_cmp, reason = "what the runbook asks for")]
            Operator::NotEqual => value != self.number,
        }
    }

    /// Whether `a` says it more clearly than `b`.
    fn prefers(self, a: f64, b: f64) -> bool {
        match self.operator {
            Operator::Less | Operator::LessOrEqual => a < b || b.is_nan(),
            _ => a > b || b.is_nan(),
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, _) = OPERATORS
            .iter()
            .find(|(_, operator)| *operator == self.operator)
            .expect("every operator has a sign");
        write!(f, "{sign} {}", self.number)
    }
}

/// What a step looks at.
#[derive(Clone, Debug)]
enum Probe {
    Query(Box<Query>),
    Logs {
        fields: Vec<(String, toml::Value)>,
        within: Duration,
    },
    /// Nothing that can be asked: why.
    Vague(String),
}

/// Where a branch leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Step(usize),
    Conclusion(usize),
    /// There is no such id.
    Nowhere,
}

/// A question and its two answers.
#[derive(Clone, Debug)]
pub struct Step {
    id: String,
    question: String,
    minutes: u32,
    command: Option<String>,
    probe: Probe,
    comparison: Option<Comparison>,
    yes: Target,
    no: Target,
}

impl Step {
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The question, for a person.
    pub fn question(&self) -> &str {
        &self.question
    }

    /// What it costs.
    pub fn minutes(&self) -> u32 {
        self.minutes
    }

    /// What is run before the question is asked.
    pub fn command(&self) -> Option<&str> {
        self.command.as_deref()
    }

    /// The query; `None` of a step that searches logs.
    pub fn query(&self) -> Option<&Query> {
        match &self.probe {
            Probe::Query(query) => Some(query),
            Probe::Logs { .. } | Probe::Vague(_) => None,
        }
    }
}

/// What somebody believes in the end, and does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conclusion {
    id: String,
    cause: String,
    component: Option<String>,
    action: String,
    line: usize,
}

impl Conclusion {
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The name of the cause.
    pub fn cause(&self) -> &str {
        &self.cause
    }

    /// What is affected, before labels are filled in.
    pub fn component(&self) -> Option<&str> {
        self.component.as_deref()
    }

    /// The first thing to do, before labels are filled in.
    pub fn action(&self) -> &str {
        &self.action
    }

    /// Where it stands in the document, from 1.
    pub fn line(&self) -> usize {
        self.line
    }
}

/// When somebody reaches for the runbook.
#[derive(Clone, Debug)]
pub struct Symptom {
    alert: Query,
    hold: Duration,
    impact: String,
}

impl Symptom {
    /// An alert that fires when its expression has held for as long as `hold`.
    pub fn new(alert: Query, hold: Duration, impact: &str) -> Self {
        Symptom {
            alert,
            hold,
            impact: impact.to_owned(),
        }
    }

    /// The expression of the alert: it has a value while users wait.
    pub fn alert(&self) -> &Query {
        &self.alert
    }

    /// For how long the expression has to hold until the alert fires.
    pub fn hold(&self) -> Duration {
        self.hold
    }

    /// What it means for users.
    pub fn impact(&self) -> &str {
        &self.impact
    }

    /// The first moment at which the alert fires, from `from_ms` to `to_ms` (milliseconds since the
    /// Unix epoch), evaluated every `interval`.
    ///
    /// # Errors
    /// What the query cannot be evaluated for.
    pub fn fires(
        &self,
        storage: &Storage,
        (from_ms, to_ms): (i64, i64),
        interval: Duration,
    ) -> Result<Option<i64>, promql::EvalError> {
        let answer = Engine::default().range(storage, &self.alert, from_ms, to_ms, interval)?;
        let interval_ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX);
        let hold_ms = i64::try_from(self.hold.as_millis()).unwrap_or(i64::MAX);
        // Each series is an alert of its own.
        let first = answer.value.rows().iter().filter_map(|row| {
            let mut since: Option<(i64, i64)> = None;
            row.points.iter().find_map(|point| {
                let at = point.timestamp_ms;
                let began = match since {
                    Some((began, last)) if at - last <= interval_ms => began,
                    _ => at,
                };
                since = Some((began, at));
                (at - began >= hold_ms).then_some(at)
            })
        });
        Ok(first.min())
    }
}

/// A document as it was read, with what is wrong with it.
#[derive(Clone, Debug, Default)]
pub struct Runbook {
    findings: Vec<Finding>,
    symptom: Option<Symptom>,
    steps: Vec<Step>,
    conclusions: Vec<Conclusion>,
}

/// What was seen at a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Visit {
    /// When the answer was read, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The id of the step.
    pub step: String,
    /// The value that decided; `None` where the answer was empty.
    pub value: Option<f64>,
    /// The comparison, as it was written.
    pub comparison: Comparison,
    pub yes: bool,
    /// The id of where it led.
    pub next: String,
}

/// How a walk ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    Concluded {
        /// The id of the conclusion.
        conclusion: String,
        cause: String,
        component: Option<String>,
        action: String,
    },
    /// A conclusion names a label that no series on the way to it had.
    Unbound { conclusion: String, label: String },
    /// A query could not be evaluated.
    Failed { step: String, why: String },
}

/// A walk through a runbook, from the alert to its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Walk {
    pub began_ms: i64,
    pub visits: Vec<Visit>,
    pub end: End,
}

impl Walk {
    /// Minutes from the alert to the end.
    pub fn minutes(&self) -> i64 {
        (self.ended_ms() - self.began_ms) / MINUTE_MS
    }

    /// When it ended, in milliseconds since the Unix epoch.
    pub fn ended_ms(&self) -> i64 {
        self.visits
            .last()
            .map_or(self.began_ms, |visit| visit.at_ms)
    }

    /// The cause that was concluded.
    pub fn cause(&self) -> Option<&str> {
        match &self.end {
            End::Concluded { cause, .. } => Some(cause),
            _ => None,
        }
    }
}

impl Walk {
    /// Puts what was seen, and where it led, beside what happened.
    pub fn tell(&self, timeline: &mut Timeline) {
        timeline.add(self.began_ms, Lane::Said, "the alert fires");
        for visit in &self.visits {
            let value = visit.value.map_or("no data".to_owned(), readable);
            let side = if visit.yes { "yes" } else { "no" };
            let text = format!(
                "{}: {value} {}? {side} -> {}",
                visit.step, visit.comparison, visit.next
            );
            timeline.add(visit.at_ms, Lane::Said, text);
        }
        let end = match &self.end {
            End::Concluded {
                cause,
                component: Some(component),
                ..
            } => format!("concluded: {cause} ({component})"),
            End::Concluded { cause, .. } => format!("concluded: {cause}"),
            End::Unbound { conclusion, label } => {
                format!("stuck at {conclusion}: no series gave a `{label}`")
            }
            End::Failed { step, why } => format!("stuck at {step}: {why}"),
        };
        timeline.add(self.ended_ms(), Lane::Said, end);
    }
}

/// A line for each step, with the minutes since the alert.
impl fmt::Display for Walk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut timeline = Timeline::from(self.began_ms);
        self.tell(&mut timeline);
        timeline.fmt(f)
    }
}

/// A number as one reads it from a graph.
fn readable(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => value.to_string(),
        0.0 => "0".into(),
        size if size >= 1e6 => format!("{:.0}M", value / 1e6),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.01 => format!("{value:.2}"),
        _ => format!("{value:.0e}"),
    }
}

impl Runbook {
    /// Reads a document, whatever it is: what is wrong with it are its findings, and a walk goes as
    /// far as a person would come.
    pub fn read(text: &str, vocabulary: &Vocabulary) -> Self {
        let mut reader = Reader {
            text,
            vocabulary,
            findings: Vec::new(),
        };
        let mut runbook = reader.read();
        runbook.findings = reader.findings;
        runbook
            .findings
            .sort_by_key(|finding| (finding.line, finding.column));
        runbook
    }

    /// What is wrong with the document, in the order of its text. Empty when every step is exact and
    /// every branch leads somewhere.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// `None` where the alert's expression or its `for` could not be read.
    pub fn symptom(&self) -> Option<&Symptom> {
        self.symptom.as_ref()
    }

    /// In the order of the document; a walk begins with the first.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// In the order of the document.
    pub fn conclusions(&self) -> &[Conclusion] {
        &self.conclusions
    }

    /// Whether some step searches logs.
    pub fn reads_logs(&self) -> bool {
        self.steps
            .iter()
            .any(|step| matches!(step.probe, Probe::Logs { .. }))
    }

    /// Follows the document from the moment at which somebody was paged, in milliseconds since the
    /// Unix epoch.
    pub fn walk(&self, scene: &Scene, from_ms: i64) -> Walk {
        let mut walk = Walk {
            began_ms: from_ms,
            visits: Vec::new(),
            end: End::Failed {
                step: String::new(),
                why: "it never ended".into(),
            },
        };
        let mut labels: BTreeMap<String, String> = BTreeMap::new();
        let mut now_ms = from_ms;
        let stuck = |step: &str, why: &str| End::Failed {
            step: step.to_owned(),
            why: why.to_owned(),
        };
        let mut target = match self.steps.first() {
            Some(_) => Target::Step(0),
            None => Target::Nowhere,
        };
        let mut last = "the alert";
        loop {
            let step = match target {
                Target::Step(index) => &self.steps[index],
                Target::Conclusion(index) => {
                    walk.end = conclude(&self.conclusions[index], &labels);
                    return walk;
                }
                Target::Nowhere => {
                    walk.end = stuck(last, "it leads nowhere");
                    return walk;
                }
            };
            last = &step.id;
            now_ms += i64::from(step.minutes) * MINUTE_MS;
            if now_ms - from_ms > i64::from(MAX_MINUTES) * MINUTE_MS {
                walk.end = stuck(last, &format!("{MAX_MINUTES} minutes are over"));
                return walk;
            }
            let Some(comparison) = step.comparison else {
                walk.end = stuck(last, "there is nothing to compare with");
                return walk;
            };
            let seen = match step.probe.see(scene, comparison, now_ms) {
                Ok(seen) => seen,
                Err(why) => {
                    walk.end = stuck(last, &why);
                    return walk;
                }
            };
            let yes = seen.value.is_some_and(|value| comparison.holds(value));
            if yes {
                labels.extend(seen.labels);
            }
            target = if yes { step.yes } else { step.no };
            walk.visits.push(Visit {
                at_ms: now_ms,
                step: step.id.clone(),
                value: seen.value,
                comparison,
                yes,
                next: match target {
                    Target::Step(index) => self.steps[index].id.clone(),
                    Target::Conclusion(index) => self.conclusions[index].id.clone(),
                    Target::Nowhere => "nowhere".into(),
                },
            });
        }
    }
}

fn conclude(conclusion: &Conclusion, labels: &BTreeMap<String, String>) -> End {
    let fill = |template: &str| {
        fill(template, labels).map_err(|label| End::Unbound {
            conclusion: conclusion.id.clone(),
            label,
        })
    };
    let filled = || {
        Ok(End::Concluded {
            conclusion: conclusion.id.clone(),
            cause: conclusion.cause.clone(),
            component: conclusion.component.as_deref().map(fill).transpose()?,
            action: fill(&conclusion.action)?,
        })
    };
    filled().unwrap_or_else(|unbound: End| unbound)
}

/// Puts values where `{label}` stands; the first label without a value is the error.
fn fill(template: &str, labels: &BTreeMap<String, String>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        let name_length = rest[open + 1..]
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .unwrap_or(rest.len() - open - 1);
        let (name, after) = rest[open + 1..].split_at(name_length);
        out.push_str(&rest[..open]);
        // Braces around anything else belong to the command.
        match after.strip_prefix('}') {
            Some(after) if !name.is_empty() => {
                out.push_str(labels.get(name).ok_or_else(|| name.to_owned())?);
                rest = after;
            }
            _ => {
                out.push('{');
                rest = &rest[open + 1..];
            }
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// What a probe saw.
struct Seen {
    value: Option<f64>,
    labels: Vec<(String, String)>,
}

impl Probe {
    fn see(&self, scene: &Scene, comparison: Comparison, at_ms: i64) -> Result<Seen, String> {
        match self {
            Probe::Vague(why) => Err(why.clone()),
            Probe::Query(query) => {
                let answer = Engine::default()
                    .instant(&scene.storage, query, at_ms)
                    .map_err(|error| error.to_string())?;
                if let promql::Value::Scalar(point) = &answer.value {
                    return Ok(Seen {
                        value: Some(point.value),
                        labels: Vec::new(),
                    });
                }
                let mut clearest: Option<&promql::Sample> = None;
                for sample in answer.value.samples() {
                    let clearer = clearest.is_none_or(|best| {
                        let (new, old) = (sample.value, best.value);
                        match (comparison.holds(new), comparison.holds(old)) {
                            (true, false) => true,
                            (false, true) => false,
                            // Equal values must not be decided by the order of a map.
                            _ => {
                                comparison.prefers(new, old)
                                    || (!comparison.prefers(old, new)
                                        && sample.labels.to_string() < best.labels.to_string())
                            }
                        }
                    });
                    if clearer {
                        clearest = Some(sample);
                    }
                }
                Ok(Seen {
                    value: clearest.map(|sample| sample.value),
                    labels: clearest
                        .into_iter()
                        .flat_map(|sample| sample.labels.iter())
                        .map(|(name, value)| (name.to_owned(), value.to_owned()))
                        .collect(),
                })
            }
            Probe::Logs { fields, within } => {
                let from_ms = at_ms - i64::try_from(within.as_millis()).unwrap_or(i64::MAX);
                let count = lines_with(&scene.logs, fields)
                    .filter(|line| {
                        time_ms(line).is_some_and(|at| from_ms < at && at <= at_ms)
                            && fields
                                .iter()
                                .all(|(name, wanted)| matches(line, name, wanted))
                    })
                    .count();
                #[expect(clippy::cast_precision_loss, reason = "a number of lines")]
                let value = Some(count as f64);
                Ok(Seen {
                    value,
                    labels: Vec::new(),
                })
            }
        }
    }
}

/// The lines that can have these fields. Logs are long, and most lines are told by their text alone;
/// a line that cannot be read has no fields.
fn lines_with<'a>(
    logs: &'a str,
    fields: &'a [(String, toml::Value)],
) -> impl Iterator<Item = LogLine> + 'a {
    let told_by: Vec<String> = fields
        .iter()
        .filter_map(|(_, value)| value.as_str())
        .filter(|text| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b' '))
        .map(str::to_owned)
        .collect();
    logs.lines()
        .filter(move |line| told_by.iter().all(|text| line.contains(text.as_str())))
        .filter_map(|line| telemetry::logs::lines(line).next()?.ok())
}

fn time_ms(line: &LogLine) -> Option<i64> {
    match line.time {
        Some(Timestamp::Unix(nanos)) => i64::try_from(nanos / 1_000_000).ok(),
        _ => None,
    }
}

fn matches(line: &LogLine, name: &str, wanted: &toml::Value) -> bool {
    match (line.get(name), wanted) {
        (Some(serde_json::Value::String(found)), toml::Value::String(wanted)) => found == wanted,
        (Some(found), toml::Value::Integer(wanted)) => found.as_i64() == Some(*wanted),
        (Some(found), toml::Value::Boolean(wanted)) => found.as_bool() == Some(*wanted),
        _ => false,
    }
}

// The document as it is written.

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRunbook {
    symptom: RawSymptom,
    #[serde(default)]
    step: Vec<Spanned<RawStep>>,
    #[serde(default)]
    conclusion: Vec<Spanned<RawConclusion>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSymptom {
    alert: Spanned<String>,
    r#for: Spanned<String>,
    impact: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStep {
    id: Spanned<String>,
    question: Spanned<String>,
    minutes: Spanned<u32>,
    command: Option<Spanned<String>>,
    query: Option<Spanned<String>>,
    logs: Option<Spanned<toml::Table>>,
    within: Option<Spanned<String>>,
    is: Spanned<String>,
    yes: Spanned<String>,
    no: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConclusion {
    id: Spanned<String>,
    cause: Spanned<String>,
    component: Option<Spanned<String>>,
    action: Option<Spanned<String>>,
}

struct Reader<'a> {
    text: &'a str,
    vocabulary: &'a Vocabulary,
    findings: Vec<Finding>,
}

impl Reader<'_> {
    fn place(&self, offset: usize) -> (usize, usize) {
        let span = promql::Span::new(offset.min(self.text.len()), self.text.len());
        span.line_column(self.text)
    }

    fn report(&mut self, offset: usize, message: impl Into<String>) {
        let (line, column) = self.place(offset);
        self.findings.push(Finding {
            line,
            column,
            message: message.into(),
        });
    }

    fn read(&mut self) -> Runbook {
        if self.text.len() > MAX_BYTES {
            let length = self.text.len();
            self.report(
                0,
                format!("the runbook is {length} bytes long, and {MAX_BYTES} are read at most"),
            );
            return Runbook::default();
        }
        let raw: RawRunbook = match toml::from_str(self.text) {
            Ok(raw) => raw,
            Err(error) => {
                let at = error.span().map_or(0, |span| span.start);
                self.report(at, error.message().trim().to_owned());
                return Runbook::default();
            }
        };
        if raw.step.is_empty() {
            self.report(0, "there is no [[step]]: nobody knows where to begin");
            return Runbook::default();
        }
        if raw.step.len() > MAX_STEPS || raw.conclusion.len() > MAX_STEPS {
            self.report(0, format!("more than {MAX_STEPS} steps or conclusions"));
            return Runbook::default();
        }
        let names = self.names(&raw);
        let symptom = self.symptom(&raw.symptom);
        let steps = raw.step.iter();
        let steps: Vec<Step> = steps
            .map(|step| self.step(step.get_ref(), &names))
            .collect();
        let conclusions = raw.conclusion.iter();
        let conclusions: Vec<Conclusion> = conclusions
            .map(|conclusion| self.conclusion(conclusion.get_ref()))
            .collect();
        self.roads(&raw, &names);
        Runbook {
            findings: Vec::new(),
            symptom,
            steps,
            conclusions,
        }
    }

    /// Every id with what it stands for.
    fn names(&mut self, raw: &RawRunbook) -> BTreeMap<String, Target> {
        let mut names = BTreeMap::new();
        let steps = raw.step.iter().enumerate();
        let steps = steps.map(|(nth, step)| (&step.get_ref().id, Target::Step(nth)));
        let conclusions = raw.conclusion.iter().enumerate();
        let conclusions = conclusions.map(|(nth, of)| (&of.get_ref().id, Target::Conclusion(nth)));
        for (id, target) in steps.chain(conclusions) {
            let name = id.get_ref();
            if name.trim().is_empty() {
                self.report(id.span().start, "an id is empty");
            } else if names.insert(name.clone(), target).is_some() {
                self.report(id.span().start, format!("the id `{name}` is taken already"));
            }
        }
        names
    }

    fn symptom(&mut self, raw: &RawSymptom) -> Option<Symptom> {
        let alert = self.query(&raw.alert, "`symptom.alert`");
        let hold = self.duration(&raw.r#for, "`symptom.for`");
        self.not_empty(&raw.impact, "`symptom.impact`: what do users meet?");
        Some(Symptom {
            alert: alert?,
            hold: hold?,
            impact: raw.impact.get_ref().trim().to_owned(),
        })
    }

    fn not_empty(&mut self, text: &Spanned<String>, what: &str) {
        if text.get_ref().trim().is_empty() {
            self.report(text.span().start, format!("nothing stands under {what}"));
        }
    }

    fn duration(&mut self, raw: &Spanned<String>, of: &str) -> Option<Duration> {
        match parse_duration(raw.get_ref().trim()) {
            Ok(duration) => Some(duration),
            Err(error) => {
                let message = format!("{of}: {error}; {}", error.remedy());
                self.report(raw.span().start, message);
                None
            }
        }
    }

    fn query(&mut self, raw: &Spanned<String>, of: &str) -> Option<Query> {
        let text = raw.get_ref().trim();
        let at = raw.span().start;
        let query = match Query::parse(text) {
            Ok(query) => query,
            Err(diagnostic) => {
                let why = diagnostic.render();
                self.report(at, format!("{of} is no query\n{}", why.trim_end()));
                return None;
            }
        };
        if !matches!(query.value_type(), ValueType::Vector | ValueType::Scalar) {
            let found = query.value_type();
            self.report(at, format!("{of} gives a {found}, and nothing to compare"));
            return None;
        }
        let names = query.metric_names();
        if names.is_empty() {
            self.report(at, format!("{of} reads no metric by its name"));
            return None;
        }
        let unknown: Vec<&str> = names
            .into_iter()
            .filter(|name| !self.vocabulary.0.contains(*name))
            .collect();
        for name in &unknown {
            let meant = self.vocabulary.nearest(name);
            let meant = meant.map_or(String::new(), |known| format!("; is it `{known}`?"));
            let message = format!("{of} reads `{name}`, which nobody exposes{meant}");
            self.report(at, message);
        }
        unknown.is_empty().then_some(query)
    }

    fn step(&mut self, raw: &RawStep, names: &BTreeMap<String, Target>) -> Step {
        let id = raw.id.get_ref();
        let at = raw.id.span().start;
        self.not_empty(&raw.question, &format!("the question of `{id}`"));
        let (probe, kind, least) = match (&raw.query, &raw.logs) {
            (Some(query), None) => {
                if let Some(within) = &raw.within {
                    let message = format!("`{id}` has a `within`, which is for logs");
                    self.report(within.span().start, message);
                }
                let query = self.query(query, &format!("the query of `{id}`"));
                let probe = query.map(|query| Probe::Query(Box::new(query)));
                (probe, "a query", QUERY_MINUTES)
            }
            (None, Some(logs)) => (self.logs(raw, logs), "a search of logs", LOG_MINUTES),
            _ => {
                self.report(at, format!("`{id}` needs either a `query` or `logs`"));
                (None, "a step", QUERY_MINUTES)
            }
        };
        let (kind, least) = match &raw.command {
            Some(command) => {
                self.exact(command, &format!("the command of `{id}`"));
                ("a command whose effect has to show", COMMAND_MINUTES)
            }
            None => (kind, least),
        };
        let minutes = *raw.minutes.get_ref();
        if minutes < least {
            let message = format!("`{id}` costs {minutes} minutes, and {kind} takes {least}");
            self.report(raw.minutes.span().start, message);
        }
        let comparison = Comparison::parse(raw.is.get_ref());
        if comparison.is_none() {
            let message = format!(
                "`{}` is no comparison such as `> 0.9` (>, >=, <, <=, ==, !=)",
                raw.is.get_ref()
            );
            self.report(raw.is.span().start, message);
        }
        let mut leads = |branch: &Spanned<String>| {
            let name = branch.get_ref();
            let target = names.get(name.as_str()).copied();
            target.unwrap_or_else(|| {
                let message = format!("`{id}` leads to `{name}`, which is nowhere");
                self.report(branch.span().start, message);
                Target::Nowhere
            })
        };
        let (yes, no) = (leads(&raw.yes), leads(&raw.no));
        if yes == no && yes != Target::Nowhere {
            self.report(
                at,
                format!("`{id}` leads to the same place on yes and on no"),
            );
        }
        let asked = raw.query.as_ref().unwrap_or(&raw.question);
        Step {
            id: id.clone(),
            question: raw.question.get_ref().trim().to_owned(),
            minutes,
            command: raw
                .command
                .as_ref()
                .map(|command| command.get_ref().clone()),
            probe: probe.unwrap_or_else(|| {
                let asked = asked.get_ref().trim().lines().next().unwrap_or_default();
                Probe::Vague(format!("\"{asked}\" cannot be asked"))
            }),
            comparison,
            yes,
            no,
        }
    }

    fn logs(&mut self, raw: &RawStep, logs: &Spanned<toml::Table>) -> Option<Probe> {
        let id = raw.id.get_ref();
        let at = logs.span().start;
        let Some(within) = &raw.within else {
            self.report(at, format!("`{id}` does not say `within` how long"));
            return None;
        };
        let within = self.duration(within, &format!("the `within` of `{id}`"))?;
        if logs.get_ref().is_empty() {
            self.report(at, format!("`{id}` counts every line of the log"));
            return None;
        }
        let mut fields = Vec::new();
        for (name, value) in logs.get_ref() {
            if !matches!(
                value,
                toml::Value::String(_) | toml::Value::Integer(_) | toml::Value::Boolean(_)
            ) {
                let message = format!("`{name}` of `{id}` is no text, whole number or truth value");
                self.report(at, message);
                return None;
            }
            fields.push((name.clone(), value.clone()));
        }
        Some(Probe::Logs { fields, within })
    }

    fn conclusion(&mut self, raw: &RawConclusion) -> Conclusion {
        let id = raw.id.get_ref();
        let at = raw.id.span().start;
        self.not_empty(&raw.cause, &format!("the cause of `{id}`"));
        let (line, _) = self.place(at);
        match &raw.action {
            Some(action) => self.exact(action, &format!("the action of `{id}`")),
            None => self.report(at, format!("`{id}` has no first `action`")),
        }
        let action = raw.action.as_ref().map(|action| action.get_ref().trim());
        Conclusion {
            id: id.clone(),
            cause: raw.cause.get_ref().trim().to_owned(),
            component: raw
                .component
                .as_ref()
                .map(|component| component.get_ref().trim().to_owned())
                .filter(|component| !component.is_empty()),
            action: action.unwrap_or_default().to_owned(),
            line,
        }
    }

    /// A command that can be pasted: not empty, and without anything left for the reader to invent.
    fn exact(&mut self, command: &Spanned<String>, of: &str) {
        let text = command.get_ref();
        let at = command.span().start;
        let blank = ["...", "…", "TODO", "???"];
        if text.trim().is_empty() {
            self.report(at, format!("{of} is empty"));
        } else if let Some(blank) = blank.iter().find(|blank| text.contains(**blank)) {
            let message = format!("{of} has `{blank}` in it, for somebody else to fill in");
            self.report(at, message);
        } else if let Some(gap) = gap(text) {
            let message = format!(
                "{of} has `{gap}` in it, for somebody else to fill in; `{{label}}` takes a label \
                 of the series that said yes"
            );
            self.report(at, message);
        }
    }

    /// Every step and conclusion can be reached, and no way leads back.
    fn roads(&mut self, raw: &RawRunbook, names: &BTreeMap<String, Target>) {
        let next = |index: usize| {
            let step = raw.step[index].get_ref();
            [&step.yes, &step.no]
                .into_iter()
                .filter_map(|branch| Some((branch, *names.get(branch.get_ref().as_str())?)))
        };
        let mut reached = vec![false; raw.step.len()];
        let mut concluded = vec![false; raw.conclusion.len()];
        let mut open = vec![0];
        while let Some(index) = open.pop() {
            if std::mem::replace(&mut reached[index], true) {
                continue;
            }
            for (_, target) in next(index) {
                match target {
                    Target::Step(index) => open.push(index),
                    Target::Conclusion(index) => concluded[index] = true,
                    Target::Nowhere => {}
                }
            }
        }
        let steps = raw.step.iter().zip(&reached);
        let steps = steps.map(|(step, reached)| (&step.get_ref().id, *reached));
        let conclusions = raw.conclusion.iter().zip(&concluded);
        let conclusions = conclusions.map(|(of, reached)| (&of.get_ref().id, *reached));
        let lost: Vec<(usize, String)> = steps
            .chain(conclusions)
            .filter(|(_, reached)| !reached)
            .map(|(id, _)| (id.span().start, id.get_ref().clone()))
            .collect();
        for (at, id) in lost {
            self.report(at, format!("nothing leads to `{id}`"));
        }
        // Depth first, without recursion: a step that is on the way already closes a loop.
        let mut done = vec![false; raw.step.len()];
        let mut loops = Vec::new();
        for start in 0..raw.step.len() {
            let mut way = vec![start];
            let mut branches = vec![next(start).collect::<Vec<_>>()];
            while let Some(rest) = branches.last_mut() {
                match rest.pop() {
                    Some((branch, Target::Step(index))) => {
                        if way.contains(&index) {
                            loops.push((branch.span().start, branch.get_ref().clone()));
                        } else if !done[index] {
                            way.push(index);
                            branches.push(next(index).collect());
                        }
                    }
                    Some((_, Target::Conclusion(_) | Target::Nowhere)) => {}
                    None => {
                        branches.pop();
                        if let Some(index) = way.pop() {
                            done[index] = true;
                        }
                    }
                }
            }
        }
        loops.sort_unstable();
        loops.dedup();
        for (at, id) in loops {
            self.report(
                at,
                format!("a loop: whoever comes from `{id}` gets back to it here"),
            );
        }
    }
}

/// A part in angle brackets with a name in it, such as `<replicas>`.
fn gap(text: &str) -> Option<&str> {
    let mut from = 0;
    while let Some(open) = text[from..].find('<') {
        let open = from + open;
        let close = open + text[open..].find('>')?;
        let inner = &text[open + 1..close];
        let named = inner.starts_with(|c: char| c.is_alphabetic())
            && inner
                .chars()
                .all(|c| c.is_alphanumeric() || matches!(c, ' ' | '_' | '-' | '.'));
        if named {
            return Some(&text[open..=close]);
        }
        from = open + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use promql::Labels;

    const SHORT: &str = r#"
[symptom]
alert = "latency_seconds > 1"
for = "2m"
impact = "Pages load slowly."

[[step]]
id = "which"
question = "Which pool is full?"
minutes = 1
query = "max by (pool) (in_use / size)"
is = "> 0.9"
yes = "pool"
no = "words"

[[step]]
id = "words"
question = "What do the logs say?"
minutes = 2
logs = { level = "error", code = 7 }
within = "5m"
is = ">= 2"
yes = "seven"
no = "nothing"

[[conclusion]]
id = "pool"
cause = "pool exhausted"
component = "{pool}"
action = "set-pool {pool} --json '{\"size\": 20}'"

[[conclusion]]
id = "seven"
cause = "code seven"
action = "retry --all"

[[conclusion]]
id = "nothing"
cause = "nothing"
action = "ack"
"#;

    fn vocabulary() -> Vocabulary {
        Vocabulary(
            ["latency_seconds", "in_use", "size"]
                .map(str::to_owned)
                .into(),
        )
    }

    fn runbook(text: &str) -> Runbook {
        let runbook = Runbook::read(text, &vocabulary());
        assert_eq!(runbook.findings(), []);
        runbook
    }

    fn finding(find: &str, replace: &str) -> String {
        assert!(SHORT.contains(find), "{find}");
        let text = SHORT.replacen(find, replace, 1);
        let runbook = Runbook::read(&text, &vocabulary());
        assert!(!runbook.findings().is_empty(), "{replace}");
        runbook
            .findings()
            .iter()
            .map(|finding| format!("{finding}\n"))
            .collect()
    }

    /// Two pools with ten connections each, of which `orders` lends `lent` from the second minute.
    fn scene(lent: f64, logs: &str) -> Scene {
        let mut storage = Storage::new();
        for minute in 0..20 {
            let mut append = |name: &str, pool: &str, value: f64| {
                let labels = Labels::named(name, [("pool", pool)]);
                storage.append(labels, minute * 60_000, value).unwrap();
            };
            append("size", "orders", 10.0);
            append("size", "users", 10.0);
            append("in_use", "orders", if minute < 2 { 1.0 } else { lent });
            append("in_use", "users", 3.0);
            let slow = if minute < 2 { 0.1 } else { 4.0 };
            append("latency_seconds", "orders", slow);
        }
        let logs = logs.to_owned();
        Scene { storage, logs }
    }

    #[test]
    fn a_walk_takes_the_branch_of_each_answer_and_fills_in_what_it_saw() {
        let walk = runbook(SHORT).walk(&scene(10.0, ""), 240_000);
        let [visit] = &walk.visits[..] else {
            panic!("{walk}");
        };
        assert_eq!(
            (visit.at_ms, visit.value, visit.yes),
            (300_000, Some(1.0), true)
        );
        assert_eq!(walk.minutes(), 1);
        assert_eq!(
            walk.end,
            End::Concluded {
                conclusion: "pool".into(),
                cause: "pool exhausted".into(),
                component: Some("orders".into()),
                action: "set-pool orders --json '{\"size\": 20}'".into(),
            }
        );
    }

    #[test]
    fn steps_cost_their_minutes_and_logs_are_counted_up_to_the_moment_they_are_read() {
        let line = |second: i64, code: i64| {
            format!(
                "{{\"time\":\"1970-01-01T00:{:02}:{:02}Z\",\"level\":\"error\",\"code\":{code}}}\n",
                second / 60,
                second % 60
            )
        };
        // The search is read after 4 + 1 + 2 minutes, and goes back to the second of them.
        let two = [line(130, 7), line(410, 7), line(420, 8)].concat();
        let walk = runbook(SHORT).walk(&scene(5.0, &two), 240_000);
        assert_eq!(walk.minutes(), 3);
        assert_eq!(walk.cause(), Some("code seven"), "{walk}");
        let early_and_late = [line(120, 7), line(410, 7), line(421, 7)].concat();
        let walk = runbook(SHORT).walk(&scene(5.0, &early_and_late), 240_000);
        assert_eq!(walk.visits[1].value, Some(1.0), "{walk}");
        assert_eq!(walk.cause(), Some("nothing"));
    }

    #[test]
    fn an_empty_answer_is_a_no_and_a_label_that_nobody_gave_is_an_end() {
        let text = SHORT.replace(
            "yes = \"pool\"\nno = \"words\"",
            "yes = \"words\"\nno = \"pool\"",
        );
        let walk = runbook(&text).walk(&scene(5.0, ""), 240_000);
        assert!(
            matches!(&walk.end, End::Unbound { label, .. } if label == "pool"),
            "{walk}"
        );
        let walk = runbook(SHORT).walk(&scene(5.0, ""), 24 * 3_600_000);
        assert_eq!(walk.visits[0].value, None);
        assert!(!walk.visits[0].yes);
        assert!(walk.to_string().contains("no data"), "{walk}");
    }

    #[test]
    fn an_alert_fires_when_its_expression_has_held_for_long_enough() {
        let runbook = runbook(SHORT);
        let scene = scene(5.0, "");
        let fires = |from, to| {
            runbook
                .symptom()
                .expect("it has one")
                .fires(&scene.storage, (from, to), Duration::from_secs(15))
                .unwrap()
        };
        assert_eq!(fires(0, 600_000), Some(240_000));
        assert_eq!(fires(0, 225_000), None);
        assert_eq!(fires(180_000, 600_000), Some(300_000));
    }

    #[test]
    fn every_way_to_leave_a_person_standing_is_found_with_its_place() {
        for (find, replace, expected) in [
            (
                "query = \"max by (pool) (in_use / size)\"",
                "query = \"check the database\"",
                "11:9: the query of `which` is no query",
            ),
            (
                "in_use / size",
                "in_usee / size",
                "which nobody exposes; is it `in_use`?",
            ),
            (
                "in_use / size",
                "used / size",
                "reads `used`, which nobody exposes",
            ),
            (
                "max by (pool) (in_use / size)",
                "vector(1)",
                "reads no metric",
            ),
            (
                "max by (pool) (in_use / size)",
                "in_use[5m]",
                "gives a range vector",
            ),
            (
                "minutes = 1",
                "minutes = 0",
                "10:11: `which` costs 0 minutes, and a query takes 1",
            ),
            ("minutes = 2", "minutes = 1", "a search of logs takes 2"),
            (
                "minutes = 1",
                "minutes = 2\ncommand = \"scale 8\"",
                "effect has to show takes 3",
            ),
            ("is = \"> 0.9\"", "is = \"high\"", "`high` is no comparison"),
            (
                "yes = \"pool\"",
                "yes = \"poll\"",
                "leads to `poll`, which is nowhere",
            ),
            (
                "no = \"nothing\"",
                "no = \"which\"",
                "a loop: whoever comes from `which`",
            ),
            ("no = \"words\"", "no = \"pool\"", "leads to the same place"),
            (
                "no = \"nothing\"",
                "no = \"pool\"",
                "nothing leads to `nothing`",
            ),
            (
                "id = \"seven\"",
                "id = \"pool\"",
                "the id `pool` is taken already",
            ),
            ("action = \"ack\"", "", "`nothing` has no first `action`"),
            (
                "action = \"ack\"",
                "action = \" \"",
                "the action of `nothing` is empty",
            ),
            (
                "action = \"ack\"",
                "action = \"scale <replicas>\"",
                "has `<replicas>` in it",
            ),
            (
                "action = \"ack\"",
                "action = \"scale ...\"",
                "has `...` in it",
            ),
            ("within = \"5m\"", "within = \"5\"", "write the unit too"),
            ("within = \"5m\"\n", "", "does not say `within` how long"),
            (
                "code = 7",
                "code = [7]",
                "no text, whole number or truth value",
            ),
            ("question = \"What", "why = \"What", "unknown field `why`"),
            (
                "impact = \"Pages load slowly.\"",
                "impact = \"\"",
                "nothing stands under",
            ),
            ("for = \"2m\"", "for = \"2\"", "4:7: `symptom.for`"),
            ("[[step]]", "[[stap]]", "unknown field `stap`"),
            ("[symptom]", "[symptom", "2:"),
        ] {
            let found = finding(find, replace);
            assert!(found.contains(expected), "{replace}: {found}");
        }
        let text = format!("{SHORT}# {}", "x".repeat(MAX_BYTES));
        assert_eq!(Runbook::read(&text, &vocabulary()).findings().len(), 1);
        assert_eq!(Runbook::read("", &vocabulary()).findings().len(), 1);
    }

    #[test]
    fn whoever_follows_a_bad_document_comes_as_far_as_a_person_would() {
        for (find, replace, minutes, stuck) in [
            (
                "max by (pool) (in_use / size)",
                "check the pools",
                0,
                "\"check the pools\" cannot be asked",
            ),
            ("no = \"words\"", "no = \"wrods\"", 1, "it leads nowhere"),
            (
                "no = \"nothing\"",
                "no = \"which\"",
                120,
                "120 minutes are over",
            ),
            (
                "is = \">= 2\"",
                "is = \"many\"",
                1,
                "nothing to compare with",
            ),
        ] {
            let text = SHORT.replacen(find, replace, 1);
            let walk = Runbook::read(&text, &vocabulary()).walk(&scene(5.0, ""), 240_000);
            let End::Failed { why, .. } = &walk.end else {
                panic!("{walk}");
            };
            assert!(why.contains(stuck), "{walk}");
            assert_eq!(walk.minutes(), minutes, "{walk}");
        }
        let nothing = Runbook::read("hello", &vocabulary()).walk(&scene(5.0, ""), 0);
        assert!(nothing.cause().is_none() && nothing.visits.is_empty());
    }

    #[test]
    fn commands_keep_their_own_braces_and_redirections() {
        let labels = BTreeMap::from([("pool".to_owned(), "orders".to_owned())]);
        let command = "echo '{\"a\": 1}' {pool} ${HOME} {} {";
        // `${HOME}` looks like a label, and is one that nobody gives.
        assert_eq!(fill(command, &labels), Err("HOME".to_owned()));
        let command = "echo '{\"a\": 1}' {pool} {} {";
        assert_eq!(
            fill(command, &labels).as_deref(),
            Ok("echo '{\"a\": 1}' orders {} {")
        );
        assert_eq!(gap("psql < fix.sql > out.txt"), None);
        assert_eq!(gap("a < b && scale <how many>"), Some("<how many>"));
    }

    #[test]
    fn comparisons_hold_as_they_read_and_never_for_what_is_no_number() {
        for (text, yes, no) in [
            ("> 1", 2.0, 1.0),
            (">=1", 1.0, 0.5),
            ("< 1", 0.5, 1.0),
            ("<= 1", 1.0, 2.0),
            ("== 1", 1.0, 2.0),
            ("!= 1", 2.0, 1.0),
        ] {
            let comparison = Comparison::parse(text).unwrap();
            assert!(comparison.holds(yes) && !comparison.holds(no), "{text}");
            assert!(!comparison.holds(f64::NAN), "{text}");
        }
        for text in ["", "1", "> ", "=> 1", "> inf", "> 1 or so", "high"] {
            assert_eq!(Comparison::parse(text), None, "{text}");
        }
    }
}
