//! Random queries over random series, answered by this crate and by Prometheus itself.
//!
//! `promtool test rules` evaluates expressions over series that a file describes and prints every
//! bit of the values when the expected samples are left out. It judges the dialect of its version.
//!
//! Values must be equal to the last bit, with two exceptions. Prometheus keeps series in hash maps,
//! so the order in which it adds floats up (and which of equal values `topk` takes) differs from
//! run to run: there the answer must be ours for some order of the series, up to 1 part in 10⁹.
//! And logarithms, powers and the like come from other mathematical libraries, which agree to 1
//! part in 10¹² only.

use std::collections::BTreeMap;
use std::time::Duration;

use promql::script::parse_series;
use promql::{Dialect, Engine, Labels, Query, Storage, Value};

use crate::tool::{Chance, RealTool, seeds};

/// Each seed makes series and this many queries; all seeds together make the 2,000 of a run.
const QUERIES: usize = 200;
const STEPS: usize = 60;
const STEP_SECONDS: usize = 15;

#[test]
fn two_thousand_random_queries_have_the_answers_of_prometheus() {
    let Some(promtool) = RealTool::find("promtool", "the package prometheus") else {
        return;
    };
    let mut judged = Judged::default();
    for seed in seeds("NIGHTSHIFT_PROMQL_SEED", 0..10) {
        judged.add(&judge(&promtool, seed, promtool.dialect()));
    }
    println!("{}", judged.summary());
    assert!(
        judged.differences.is_empty(),
        "{} of {} queries differ; replay a seed with NIGHTSHIFT_PROMQL_SEED=N:\n{}",
        judged.differences.len(),
        judged.total(),
        judged.differences.join("\n")
    );
    assert!(
        judged.with_values * 2 > judged.total(),
        "most queries must have an answer to compare: {}",
        judged.summary()
    );
}

#[test]
fn the_comparison_notices_the_wrong_dialect() {
    let Some(promtool) = RealTool::find("promtool", "the package prometheus") else {
        return;
    };
    let wrong = match promtool.dialect() {
        Dialect::V2 => Dialect::V3,
        _ => Dialect::V2,
    };
    let judged = judge(&promtool, 0, wrong);
    // Windows that take both ends differ from those that do not for every range query on the grid.
    assert!(
        judged.differences.len() > QUERIES / 20,
        "only {} differences: {}",
        judged.differences.len(),
        judged.summary()
    );
}

/// The tool answers for moments only. A range is judged by its moments, which it must agree with in
/// all but one thing: series are refused as wholes there, whenever they have values.
#[test]
fn a_range_has_the_answers_of_its_moments() {
    const START_SECONDS: usize = 60;
    const STEP: usize = 40;
    let (mut compared, mut failed) = (0, 0);
    for dialect in [Dialect::V2, Dialect::V3] {
        for seed in seeds("NIGHTSHIFT_PROMQL_SEED", 0..2) {
            let mut chance = Chance::new(seed);
            let storage = store(&make_series(&mut chance), 0);
            let engine = Engine::new(dialect);
            let mut questions: Vec<Question> = (0..QUERIES).map(|_| ask(&mut chance)).collect();
            // What these mean depends on the range.
            questions.retain(|ask| !ask.text.contains("start()") && !ask.text.contains("end()"));
            for mut question in questions {
                let Ok(query) = Query::parse_as(&question.text, dialect) else {
                    continue;
                };
                let end_seconds = STEPS * STEP_SECONDS;
                let range = engine.range(
                    &storage,
                    &query,
                    START_SECONDS as i64 * 1_000,
                    end_seconds as i64 * 1_000,
                    Duration::from_secs(STEP as u64),
                );
                let mut moments = BTreeMap::new();
                let mut error = None;
                for at_seconds in (START_SECONDS..=end_seconds).step_by(STEP) {
                    question.at_seconds = at_seconds;
                    match our_answer(&engine, &storage, &question) {
                        Ok(values) => drop(moments.insert(at_seconds, values)),
                        Err(reason) => error = Some(reason),
                    }
                }
                let rows = match range {
                    Err(reason) => {
                        let whole = reason.to_string().contains("the same labelset");
                        assert!(
                            error.is_some() || whole,
                            "seed {seed}, {dialect}: {}\n  fails as a range only: {reason}",
                            question.text
                        );
                        failed += 1;
                        continue;
                    }
                    Ok(answer) => match answer.value {
                        Value::Matrix(rows) => rows,
                        other => panic!("{}: unexpected {}", question.text, other.value_type()),
                    },
                };
                assert_eq!(
                    error, None,
                    "seed {seed}, {dialect}: {}\n  fails at a moment only",
                    question.text
                );
                let mut steps: BTreeMap<usize, BTreeMap<String, f64>> =
                    moments.keys().map(|at| (*at, BTreeMap::new())).collect();
                for row in rows {
                    for point in &row.points {
                        let at_seconds = usize::try_from(point.timestamp_ms / 1_000).unwrap();
                        let labels = row.labels.braced().to_string();
                        steps
                            .get_mut(&at_seconds)
                            .expect("a point is at a step")
                            .insert(labels, point.value);
                    }
                }
                for (at_seconds, moment) in &moments {
                    assert!(
                        equal(&steps[at_seconds], moment, 0.0),
                        "seed {seed}, {dialect}, at {at_seconds}s: {}\n  range  {}\n  moment {}",
                        question.text,
                        shown(&Ok(steps[at_seconds].clone())),
                        shown(&Ok(moment.clone()))
                    );
                    compared += 1;
                }
            }
        }
    }
    println!("{compared} moments compared, {failed} queries that fail");
}

#[derive(Default)]
struct Judged {
    exact: usize,
    close: usize,
    reordered: usize,
    errors: usize,
    with_values: usize,
    differences: Vec<String>,
}

impl Judged {
    fn total(&self) -> usize {
        self.exact + self.close + self.reordered + self.errors + self.differences.len()
    }

    fn add(&mut self, other: &Judged) {
        self.exact += other.exact;
        self.close += other.close;
        self.reordered += other.reordered;
        self.errors += other.errors;
        self.with_values += other.with_values;
        self.differences.extend(other.differences.iter().cloned());
    }

    fn summary(&self) -> String {
        format!(
            "{} queries: {} equal to the bit, {} equal up to rounding, {} equal in another order, \
             {} errors alike, {} different; {} with values",
            self.total(),
            self.exact,
            self.close,
            self.reordered,
            self.errors,
            self.differences.len(),
            self.with_values
        )
    }
}

/// What a side says: values by labels, or an error.
type Answer = Result<BTreeMap<String, f64>, String>;

struct Question {
    text: String,
    at_seconds: usize,
    /// The order of series decides about rounding, or about which of equals is taken.
    ordered: bool,
    /// Its numbers come from a mathematical library.
    transcendental: bool,
}

fn judge(promtool: &RealTool, seed: u64, dialect: Dialect) -> Judged {
    let mut chance = Chance::new(seed);
    let series = make_series(&mut chance);
    let questions: Vec<Question> = (0..QUERIES).map(|_| ask(&mut chance)).collect();
    let theirs = their_answers(promtool, &series, &questions);
    let storages: Vec<Storage> = (0..12).map(|turn| store(&series, turn)).collect();
    let engine = {
        let mut engine = Engine::new(dialect);
        engine.subquery_step = Duration::from_secs(STEP_SECONDS as u64);
        engine
    };
    let mut judged = Judged::default();
    for (nth, (question, theirs)) in questions.iter().zip(theirs).enumerate() {
        let ours = |storage: &Storage| our_answer(&engine, storage, question);
        let first = ours(&storages[0]);
        judged.with_values += usize::from(theirs.as_ref().is_ok_and(|values| !values.is_empty()));
        match (&first, &theirs) {
            (Err(ours), Err(theirs)) if same_error(ours, theirs) => judged.errors += 1,
            (Ok(a), Ok(b)) if equal(a, b, 0.0) => judged.exact += 1,
            (Ok(a), Ok(b)) if question.transcendental && equal(a, b, 1e-12) => judged.close += 1,
            (Ok(a), Ok(b)) if question.ordered && equal(a, b, 1e-9) => judged.close += 1,
            _ if question.ordered
                && storages[1..]
                    .iter()
                    .any(|storage| match (&ours(storage), &theirs) {
                        (Ok(a), Ok(b)) => equal(a, b, 1e-9),
                        (Err(a), Err(b)) => same_error(a, b),
                        _ => false,
                    }) =>
            {
                judged.reordered += 1;
            }
            _ => judged.differences.push(format!(
                "seed {seed}, query {nth} at {}s: {}\n  prometheus {}\n  ours       {}",
                question.at_seconds,
                question.text,
                shown(&theirs),
                shown(&first)
            )),
        }
    }
    judged
}

fn shown(answer: &Answer) -> String {
    match answer {
        Err(error) => format!("error: {error}"),
        Ok(values) if values.is_empty() => "nothing".to_owned(),
        Ok(values) => values
            .iter()
            .take(6)
            .map(|(labels, value)| format!("{labels} {value:?}"))
            .collect::<Vec<_>>()
            .join(", "),
    }
}

/// The words must be the same, but for the order of two series that are in each other's way.
fn same_error(ours: &str, theirs: &str) -> bool {
    let start = |text: &str| text.split(" for the match group").next().map(str::to_owned);
    start(ours) == start(theirs)
}

fn equal(a: &BTreeMap<String, f64>, b: &BTreeMap<String, f64>, tolerance: f64) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|((left, x), (right, y))| {
            left == right
                && (x.to_bits() == y.to_bits()
                    || (x.is_nan() && y.is_nan())
                    || (tolerance > 0.0 && (x - y).abs() <= tolerance * x.abs().max(y.abs())))
        })
}

fn our_answer(engine: &Engine, storage: &Storage, question: &Question) -> Answer {
    let query =
        Query::parse_as(&question.text, engine.dialect).map_err(|error| error.to_string())?;
    let answer = engine
        .instant(storage, &query, question.at_seconds as i64 * 1_000)
        .map_err(|error| error.to_string())?;
    let mut values = BTreeMap::new();
    match answer.value {
        Value::Scalar(point) => {
            values.insert("{}".to_owned(), point.value);
        }
        Value::Vector(samples) => {
            for sample in samples {
                values.insert(sample.labels.braced().to_string(), sample.value);
            }
        }
        other => return Err(format!("unexpected {}", other.value_type())),
    }
    Ok(values)
}

/// The same series in another order.
fn store(series: &[(String, String)], turn: usize) -> Storage {
    let mut storage = Storage::new();
    let mut order: Vec<usize> = (0..series.len()).collect();
    let mut chance = Chance::new(turn as u64);
    if turn > 0 {
        for at in (1..order.len()).rev() {
            order.swap(at, chance.below(at + 1));
        }
    }
    for at in order {
        let (name, values) = &series[at];
        let (labels, values): (Labels, _) = parse_series(&format!("{name} {values}")).unwrap();
        for (nth, value) in values.into_iter().enumerate() {
            if let Some(value) = value {
                let at_ms = (nth * STEP_SECONDS * 1_000) as i64;
                storage.append(labels.clone(), at_ms, value).unwrap();
            }
        }
    }
    storage
}

/// Counters with resets, gauges, histograms; gaps, ends, values that are no numbers.
fn make_series(chance: &mut Chance) -> Vec<(String, String)> {
    let mut series = Vec::new();
    for job in ["api", "worker"] {
        for instance in ["0", "1", "2"] {
            let labels = format!("job=\"{job}\",instance=\"{instance}\"");
            let mut counted = chance.below(40) as f64;
            let values = values(chance, |chance| {
                if chance.below(15) == 0 {
                    counted = chance.below(5) as f64;
                }
                counted += (chance.below(80) * chance.below(2)) as f64;
                counted.to_string()
            });
            series.push((format!("requests_total{{{labels}}}"), values));
            let values = self::values(chance, |chance| {
                // Eighths add up without rounding, so that sums of them are the same in any order.
                let value = (chance.below(400) as f64 - 100.0) / 8.0;
                match chance.below(60) {
                    0 => "NaN".to_owned(),
                    1 => "Inf".to_owned(),
                    2 => "-Inf".to_owned(),
                    _ => value.to_string(),
                }
            });
            series.push((format!("depth{{{labels}}}"), values));
            if instance == "2" {
                continue;
            }
            let mut counts = [0.0; 5];
            let mut columns = vec![Vec::new(); 5];
            for _ in 0..STEPS {
                for _ in 0..chance.below(12) {
                    let from = chance.below(5);
                    counts[from..].iter_mut().for_each(|count| *count += 1.0);
                }
                for (column, count) in columns.iter_mut().zip(counts) {
                    column.push(count.to_string());
                }
            }
            for (le, column) in ["0.1", "0.5", "1", "2.5", "+Inf"].iter().zip(columns) {
                for metric in ["took_seconds_bucket", "waited_seconds_bucket"] {
                    let name = format!("{metric}{{{labels},le=\"{le}\"}}");
                    series.push((name, column.join(" ")));
                }
            }
        }
    }
    series.push(("up".to_owned(), format!("1x{STEPS}")));
    series.push(("limit{job=\"api\"}".to_owned(), format!("12x{STEPS}")));
    series
}

fn values(chance: &mut Chance, mut value: impl FnMut(&mut Chance) -> String) -> String {
    let gaps = chance.below(3) == 0;
    let ends = chance.below(4) == 0;
    let mut out = Vec::new();
    let mut gone = 0;
    for _ in 0..STEPS {
        let next = value(chance);
        if gone > 0 {
            gone -= 1;
            out.push("_".to_owned());
        } else if ends && chance.below(25) == 0 {
            gone = chance.below(8);
            out.push("stale".to_owned());
        } else if gaps && chance.below(6) == 0 {
            gone = chance.below(12);
            out.push("_".to_owned());
        } else {
            out.push(next);
        }
    }
    out.join(" ")
}

fn their_answers(
    promtool: &RealTool,
    series: &[(String, String)],
    questions: &[Question],
) -> Vec<Answer> {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let mut file = format!(
        "evaluation_interval: {STEP_SECONDS}s\ntests:\n- interval: {STEP_SECONDS}s\n  input_series:\n"
    );
    for (name, values) in series {
        file.push_str(&format!(
            "  - series: {}\n    values: {}\n",
            quoted(name),
            quoted(values)
        ));
    }
    file.push_str("  promql_expr_test:\n");
    // The first question is at the end, so that all samples are loaded.
    let last = STEPS * STEP_SECONDS;
    file.push_str(&format!(
        "  - expr: 'vector(0) # all'\n    eval_time: {last}s\n"
    ));
    for (nth, question) in questions.iter().enumerate() {
        file.push_str(&format!(
            "  - expr: {}\n    eval_time: {}s\n",
            quoted(&format!("{} # {nth}", question.text)),
            question.at_seconds
        ));
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("test.yml"), file).unwrap();
    let said = promtool.run(
        &["test", "rules", "test.yml"].map(str::to_owned),
        folder.path(),
    );
    let text = said.stdout + &said.stderr;
    assert!(text.contains("# all"), "promtool did not evaluate:\n{text}");
    let mut answers: Vec<Answer> = questions.iter().map(|_| Ok(BTreeMap::new())).collect();
    let mut current = None;
    for line in text.lines() {
        let line = line.trim_start();
        if line.starts_with("expr: ") {
            let number = line
                .rsplit_once(" # ")
                .and_then(|(_, rest)| rest.split_once('"'))
                .and_then(|(number, _)| number.parse::<usize>().ok());
            current = number;
            if let (Some(nth), Some((_, error))) = (number, line.split_once(", err: ")) {
                answers[nth] = Err(error.to_owned());
            }
        } else if let (Some(nth), Some(values)) = (current, line.strip_prefix("got: ")) {
            answers[nth] = Ok(read_values(values));
        }
    }
    answers
}

/// `{a="b"} 1E+00, {} NaN`
fn read_values(text: &str) -> BTreeMap<String, f64> {
    let mut values = BTreeMap::new();
    let mut rest = text;
    while let Some(end) = rest.find("} ") {
        let labels = rest[..=end].trim_start_matches(", ").to_owned();
        let tail = &rest[end + 2..];
        let (value, after) = tail.split_once(", ").unwrap_or((tail, ""));
        values.insert(labels, value.parse().unwrap());
        rest = after;
    }
    values
}

fn ask(chance: &mut Chance) -> Question {
    let mut asker = Asker {
        chance,
        ordered: false,
        transcendental: false,
    };
    let depth = 1 + asker.chance.below(3);
    let text = if asker.chance.below(12) == 0 {
        asker.scalar(depth)
    } else {
        asker.vector(depth)
    };
    let (ordered, transcendental) = (asker.ordered, asker.transcendental);
    // On the grid of samples as often as off it: there the dialects differ.
    let at_seconds = if chance.below(2) == 0 {
        chance.below(STEPS) * STEP_SECONDS
    } else {
        chance.below(STEPS * STEP_SECONDS)
    };
    Question {
        text,
        at_seconds,
        ordered,
        transcendental,
    }
}

/// Writes expressions of a wanted type.
struct Asker<'c> {
    chance: &'c mut Chance,
    ordered: bool,
    transcendental: bool,
}

const LABELS: [&str; 3] = ["job", "instance", "le"];

impl Asker<'_> {
    fn one_in(&mut self, n: usize) -> bool {
        self.chance.below(n) == 0
    }

    fn number(&mut self) -> String {
        self.chance
            .pick(&[
                "0", "1", "2", "0.5", "-1", "3", "10", "100", "0.25", "NaN", "Inf", "-Inf", "1e3",
                "0x10", "1e-3",
            ])
            .to_owned()
    }

    fn duration(&mut self) -> &'static str {
        const DURATIONS: [&str; 8] = ["15s", "30s", "1m", "90s", "2m", "5m", "10m", "7s"];
        DURATIONS[self.chance.below(DURATIONS.len())]
    }

    fn name(&mut self) -> String {
        self.chance
            .pick(&[
                "requests_total",
                "requests_total",
                "depth",
                "depth",
                "took_seconds_bucket",
                "up",
                "limit",
                "missing",
            ])
            .to_owned()
    }

    fn bare_selector(&mut self) -> String {
        if self.one_in(25) {
            return self
                .chance
                .pick(&[
                    "{__name__=~\"up|limit\"}",
                    "{job=\"api\",le=\"1\"}",
                    "{__name__=~\"requests_total|depth\"}",
                    "{__name__=~\".*_seconds_bucket\",job=\"api\"}",
                ])
                .to_owned();
        }
        let name = self.name();
        let matchers = self.chance.pick(&[
            "",
            "",
            "",
            "{job=\"api\"}",
            "{job!=\"api\"}",
            "{instance=~\"[01]\"}",
            "{instance!~\"0|1\",job=\"worker\"}",
            "{job=~\".*\"}",
            "{le=\"\"}",
            "{job=\"api\",instance=\"0\"}",
            "{instance=\"\"}",
        ]);
        format!("{name}{matchers}")
    }

    fn place(&mut self) -> String {
        let mut place = String::new();
        if self.one_in(6) {
            let sign = if self.one_in(4) { "-" } else { "" };
            place.push_str(&format!(" offset {sign}{}", self.duration()));
        }
        if self.one_in(10) {
            let at = match self.chance.below(4) {
                0 => "start()".to_owned(),
                1 => "end()".to_owned(),
                _ => self.chance.below(STEPS * STEP_SECONDS).to_string(),
            };
            place.push_str(&format!(" @ {at}"));
        }
        place
    }

    fn selector(&mut self) -> String {
        let selector = self.bare_selector();
        let place = self.place();
        format!("{selector}{place}")
    }

    fn matrix(&mut self, depth: usize) -> String {
        let window = self.duration();
        if depth > 0 && self.one_in(4) {
            let inner = self.vector(depth - 1);
            let step = match self.chance.below(3) {
                0 => "",
                1 => "30s",
                _ => "7s",
            };
            let place = self.place();
            return format!("({inner})[{window}:{step}]{place}");
        }
        let selector = self.bare_selector();
        let place = self.place();
        format!("{selector}[{window}]{place}")
    }

    fn scalar(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.number();
        }
        match self.chance.below(6) {
            0 => format!("scalar({})", self.vector(depth - 1)),
            1 => "time()".to_owned(),
            2 => "pi()".to_owned(),
            3 => {
                let operator = self.chance.pick(&["+", "-", "*", "/", "%"]).to_owned();
                format!("{} {operator} {}", self.number(), self.scalar(depth - 1))
            }
            4 => {
                let operator = self.comparison();
                format!(
                    "({} {operator} bool {})",
                    self.number(),
                    self.scalar(depth - 1)
                )
            }
            _ => self.number(),
        }
    }

    fn comparison(&mut self) -> String {
        self.chance
            .pick(&["==", "!=", ">", "<", ">=", "<="])
            .to_owned()
    }

    fn vector(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.selector();
        }
        match self.chance.below(20) {
            0..=3 => self.over_time(depth),
            4..=7 => self.aggregation(depth),
            8..=9 => self.simple_function(depth),
            10 => self.quantile_of_histogram(),
            11 => self.labels(depth),
            12 => format!("({})", self.vector(depth - 1)),
            13 => format!("-{}", self.selector()),
            14..=15 => self.with_scalar(depth),
            16..=18 => self.two_vectors(depth),
            _ => self.special(depth),
        }
    }

    fn over_time(&mut self, depth: usize) -> String {
        let function = self
            .chance
            .pick(&[
                "rate",
                "increase",
                "delta",
                "irate",
                "idelta",
                "changes",
                "resets",
                "sum_over_time",
                "avg_over_time",
                "min_over_time",
                "max_over_time",
                "count_over_time",
                "last_over_time",
                "present_over_time",
                "absent_over_time",
                "stddev_over_time",
                "stdvar_over_time",
                "deriv",
                "quantile_over_time",
                "predict_linear",
                "holt_winters",
            ])
            .to_owned();
        let matrix = self.matrix(depth);
        match function.as_str() {
            "quantile_over_time" => format!("quantile_over_time({}, {matrix})", self.number()),
            "predict_linear" => format!("predict_linear({matrix}, {})", self.number()),
            "holt_winters" => format!("holt_winters({matrix}, 0.3, 0.7)"),
            _ => format!("{function}({matrix})"),
        }
    }

    fn grouping(&mut self) -> String {
        let label = self.chance.pick(&LABELS).to_owned();
        match self.chance.below(5) {
            0 => format!(" by ({label})"),
            1 => format!(" without ({label})"),
            2 => " by (job, instance)".to_owned(),
            3 => " without ()".to_owned(),
            _ => String::new(),
        }
    }

    fn aggregation(&mut self, depth: usize) -> String {
        let operator = self
            .chance
            .pick(&[
                "sum",
                "sum",
                "avg",
                "min",
                "max",
                "count",
                "group",
                "stddev",
                "stdvar",
                "quantile",
                "topk",
                "bottomk",
                "count_values",
            ])
            .to_owned();
        self.ordered |= matches!(
            operator.as_str(),
            "sum" | "avg" | "stddev" | "stdvar" | "topk" | "bottomk"
        );
        let grouping = self.grouping();
        let inner = self.vector(depth - 1);
        // A last digit that differs would make another label.
        let operator = match operator.as_str() {
            "count_values" if self.transcendental => "count".to_owned(),
            _ => operator,
        };
        let parameter = match operator.as_str() {
            "quantile" => {
                let parameter = self.scalar(1);
                format!("{parameter}, ")
            }
            "topk" | "bottomk" => format!("{}, ", self.chance.pick(&["1", "2", "3", "0", "-1"])),
            "count_values" => format!("{}, ", self.chance.pick(&["\"value\"", "\"job\""])),
            _ => String::new(),
        };
        format!("{operator}{grouping} ({parameter}{inner})")
    }

    fn simple_function(&mut self, depth: usize) -> String {
        let inner = self.vector(depth - 1);
        match self.chance.below(4) {
            0 => {
                let function = self
                    .chance
                    .pick(&["exp", "ln", "log2", "log10", "sin", "cos", "atan", "sinh"])
                    .to_owned();
                self.transcendental = true;
                format!("{function}({inner})")
            }
            1 => {
                let (a, b) = (self.number(), self.number());
                match self.chance.below(4) {
                    0 => format!("clamp({inner}, {a}, {b})"),
                    1 => format!("clamp_min({inner}, {a})"),
                    2 => format!("clamp_max({inner}, {a})"),
                    _ => format!("round({inner}, {a})"),
                }
            }
            2 => {
                let function = self
                    .chance
                    .pick(&[
                        "minute",
                        "hour",
                        "day_of_week",
                        "day_of_month",
                        "day_of_year",
                        "days_in_month",
                        "month",
                        "year",
                    ])
                    .to_owned();
                // Moments that a calendar has: from 1970 for some years.
                format!("{function}(abs({inner} * 1e5 < 1e9))")
            }
            _ => {
                let function = self
                    .chance
                    .pick(&[
                        "abs",
                        "ceil",
                        "floor",
                        "sqrt",
                        "sgn",
                        "rad",
                        "deg",
                        "round",
                        "sort",
                        "sort_desc",
                        "timestamp",
                        "absent",
                    ])
                    .to_owned();
                format!("{function}({inner})")
            }
        }
    }

    fn quantile_of_histogram(&mut self) -> String {
        let q = self
            .chance
            .pick(&["0.5", "0.9", "0.99", "0", "1", "-1", "2", "NaN"])
            .to_owned();
        let window = self.duration();
        // Buckets that share a bound are added up, in the order of the series.
        self.ordered = true;
        match self.chance.below(5) {
            0 => format!("histogram_quantile({q}, took_seconds_bucket)"),
            4 => format!("histogram_quantile({q}, {{__name__=~\".*_seconds_bucket\"}})"),
            1 => format!("histogram_quantile({q}, rate(took_seconds_bucket[{window}]))"),
            2 => format!(
                "histogram_quantile({q}, sum by (le) (rate(took_seconds_bucket[{window}])))"
            ),
            _ => format!(
                "histogram_quantile({q}, sum by (job, le) (increase(took_seconds_bucket[{window}])))"
            ),
        }
    }

    fn labels(&mut self, depth: usize) -> String {
        let inner = self.vector(depth - 1);
        match self.chance.below(4) {
            0 => format!("label_replace({inner}, \"to\", \"$1-x\", \"job\", \"(.).*\")"),
            1 => format!("label_replace({inner}, \"instance\", \"\", \"instance\", \".*\")"),
            2 => format!("label_join({inner}, \"to\", \"/\", \"job\", \"instance\")"),
            _ => format!("label_replace({inner}, \"job\", \"same\", \"job\", \"nothing\")"),
        }
    }

    fn with_scalar(&mut self, depth: usize) -> String {
        let vector = format!("({})", self.vector(depth - 1));
        let scalar = self.scalar(depth - 1);
        let operator = match self.chance.below(3) {
            0 => {
                let comparison = self.comparison();
                if self.one_in(2) {
                    format!("{comparison} bool")
                } else {
                    comparison
                }
            }
            1 if self.one_in(4) => {
                self.transcendental = true;
                self.chance.pick(&["^", "atan2"]).to_owned()
            }
            _ => self.chance.pick(&["+", "-", "*", "/", "%"]).to_owned(),
        };
        if self.one_in(2) {
            format!("{vector} {operator} ({scalar})")
        } else {
            format!("({scalar}) {operator} {vector}")
        }
    }

    fn two_vectors(&mut self, depth: usize) -> String {
        let left = format!("({})", self.vector(depth - 1));
        let right = format!("({})", self.vector(depth - 1));
        let matching = match self.chance.below(6) {
            0 => " on (job, instance)",
            1 => " ignoring (le)",
            2 => " on (job)",
            3 => " on ()",
            _ => "",
        };
        if self.one_in(3) {
            let operator = self.chance.pick(&["and", "or", "unless"]).to_owned();
            return format!("{left} {operator}{matching} {right}");
        }
        let operator = if self.one_in(3) {
            let comparison = self.comparison();
            if self.one_in(2) {
                format!("{comparison} bool")
            } else {
                comparison
            }
        } else {
            self.chance.pick(&["+", "-", "*", "/", "%"]).to_owned()
        };
        let group = if matching.is_empty() {
            ""
        } else {
            self.chance
                .pick(&["", " group_left ()", " group_right ()", " group_left (le)"])
        };
        // Which of several series of a match is named in an error depends on their order.
        format!("{left} {operator}{matching}{group} {right}")
    }

    fn special(&mut self, depth: usize) -> String {
        match self.chance.below(5) {
            0 => format!("vector({})", self.scalar(depth - 1)),
            1 => format!("absent({})", self.selector()),
            2 => format!("timestamp({})", self.selector()),
            3 => "hour()".to_owned(),
            _ => format!("histogram_count({})", self.selector()),
        }
    }
}
