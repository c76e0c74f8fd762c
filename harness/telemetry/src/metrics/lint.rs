//! Faults of a scrape that parses: what a reviewer of instrumentation would point at.
//!
//! Not a check of values against a truth, and not a matter of taste: each rule is from the format
//! specifications or from Prometheus' naming conventions.

use std::collections::{HashMap, HashSet};
use std::fmt;

use super::parse;
use super::{Family, Format, HistogramError, Kind, Labels, MetricName, Sample, Scrape, histogram};

/// What kind of fault a [`Finding`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// The text leaves its format; nothing else is checked then.
    Syntax,
    /// A family has samples but no `# TYPE`.
    TypeMissing,
    /// `# TYPE` comes after the samples it is about.
    TypeAfterSamples,
    /// A family has no `# HELP`, or an empty one.
    HelpMissing,
    /// A counter does not end with `_total`.
    CounterWithoutTotal,
    /// Something else than a counter ends with `_total`.
    TotalOnOtherKind,
    /// A name ends with a suffix that histograms and summaries own.
    ReservedSuffix,
    /// The same name and labels twice.
    DuplicateSeries,
    /// The samples of a family do not stand together.
    Interleaved,
    /// A counter, or a count, that is negative or not a number.
    NotACount,
    /// A histogram that lacks a part or contradicts itself.
    HistogramIncoherent,
    /// A name tells of a unit that is not a base unit.
    BaseUnit,
    /// `# UNIT` is not the end of the name (OpenMetrics).
    UnitNotInName,
    /// An exemplar where none may stand (OpenMetrics).
    ExemplarMisplaced,
}

impl Rule {
    /// The rule's name in a report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::TypeMissing => "type-missing",
            Self::TypeAfterSamples => "type-after-samples",
            Self::HelpMissing => "help-missing",
            Self::CounterWithoutTotal => "counter-without-total",
            Self::TotalOnOtherKind => "total-on-other-kind",
            Self::ReservedSuffix => "reserved-suffix",
            Self::DuplicateSeries => "duplicate-series",
            Self::Interleaved => "interleaved",
            Self::NotACount => "not-a-count",
            Self::HistogramIncoherent => "histogram-incoherent",
            Self::BaseUnit => "base-unit",
            Self::UnitNotInName => "unit-not-in-name",
            Self::ExemplarMisplaced => "exemplar-misplaced",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One fault of a scrape.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// What kind of fault.
    pub rule: Rule,
    /// The line it shows on, from 1.
    pub line: usize,
    /// The metric or series concerned; empty for [`Rule::Syntax`].
    pub subject: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}: ", self.line, self.rule)?;
        if !self.subject.is_empty() {
            write!(f, "`{}` ", self.subject)?;
        }
        f.write_str(&self.message)
    }
}

/// Finds the faults of a scrape, in the order of their lines.
///
/// A text that does not parse has exactly one finding, of [`Rule::Syntax`].
pub fn lint(text: &str) -> Vec<Finding> {
    let format = Format::detect(text);
    let parsed = match parse::scrape(text, format) {
        Ok(parsed) => parsed,
        Err(error) => {
            let (column, expected, found) = (error.column, error.expected, error.found);
            return vec![Finding {
                rule: Rule::Syntax,
                line: error.line,
                subject: String::new(),
                message: format!("column {column}: expected {expected}, found {found}"),
            }];
        }
    };
    let mut report = Report::default();
    for (family, type_line) in parsed.scrape.families.iter().zip(&parsed.type_lines) {
        declarations(&mut report, family, *type_line);
        names(&mut report, family, format, type_line.unwrap_or_default());
        values(&mut report, family);
    }
    duplicates(&mut report, &parsed.scrape);
    interleaving(&mut report, &parsed.scrape);
    histograms(&mut report, &parsed.scrape);
    report.0.sort_by_key(|finding| (finding.line, finding.rule));
    report.0
}

#[derive(Default)]
struct Report(Vec<Finding>);

impl Report {
    fn add(&mut self, rule: Rule, line: usize, subject: impl fmt::Display, message: String) {
        self.0.push(Finding {
            rule,
            line,
            subject: subject.to_string(),
            message,
        });
    }
}

fn first_line(family: &Family) -> usize {
    family.samples.first().map_or(1, |sample| sample.line)
}

fn declarations(report: &mut Report, family: &Family, type_line: Option<usize>) {
    let first = first_line(family);
    match type_line {
        None if !family.samples.is_empty() => report.add(
            Rule::TypeMissing,
            first,
            &family.name,
            format!("has no type; declare `# TYPE {} …` before it", family.name),
        ),
        Some(line) if !family.samples.is_empty() && line > first => report.add(
            Rule::TypeAfterSamples,
            line,
            &family.name,
            format!("has samples from line {first} on; its type must come before them"),
        ),
        _ => {}
    }
    if family.help.as_deref().unwrap_or_default().is_empty() {
        report.add(
            Rule::HelpMissing,
            type_line.unwrap_or(first).min(first.max(1)),
            &family.name,
            "has no help text; say in `# HELP` what it counts".to_owned(),
        );
    }
}

/// Words in names that tell of a unit, and the base unit to use instead.
const UNITS: &[(&[&str], &str)] = &[
    (
        &[
            "ms",
            "millis",
            "millisecond",
            "milliseconds",
            "us",
            "micros",
            "microsecond",
            "microseconds",
            "ns",
            "nanos",
            "nanosecond",
            "nanoseconds",
            "minute",
            "minutes",
            "hour",
            "hours",
            "day",
            "days",
            "week",
            "weeks",
        ],
        "seconds",
    ),
    (
        &[
            "kb",
            "kib",
            "kilobyte",
            "kilobytes",
            "kibibytes",
            "mb",
            "mib",
            "megabyte",
            "megabytes",
            "mebibytes",
            "gb",
            "gib",
            "gigabyte",
            "gigabytes",
            "gibibytes",
            "bits",
        ],
        "bytes",
    ),
    (&["percent", "percentage", "pct"], "ratio"),
    (&["fahrenheit", "kelvin"], "celsius"),
    (
        &[
            "millimeters",
            "centimeters",
            "kilometers",
            "inches",
            "miles",
        ],
        "meters",
    ),
    (&["milligrams", "kilograms", "ounces", "pounds"], "grams"),
    (&["millivolts", "kilovolts"], "volts"),
    (&["milliamperes", "kiloamperes"], "amperes"),
    (&["calories", "kilojoules"], "joules"),
];

fn names(report: &mut Report, family: &Family, format: Format, type_line: usize) {
    let name = family.name.as_str();
    let line = match type_line {
        0 => first_line(family),
        line => line,
    };
    let mut add = |rule, message| report.add(rule, line, name, message);
    match family.kind {
        Kind::Counter if format == Format::Exposition && !name.ends_with("_total") => add(
            Rule::CounterWithoutTotal,
            format!("is a counter; name it `{name}_total`"),
        ),
        Kind::Counter | Kind::Unknown => {}
        kind if name.ends_with("_total") => add(
            Rule::TotalOnOtherKind,
            format!("is a {kind}; only counters end with `_total`"),
        ),
        _ => {}
    }
    if family.kind != Kind::Unknown
        && let Some(suffix) = ["_bucket", "_sum", "_count"]
            .into_iter()
            .find(|suffix| name.ends_with(suffix))
    {
        add(
            Rule::ReservedSuffix,
            format!("ends with `{suffix}`, which belongs to the parts of histograms and summaries"),
        );
    }
    for (words, base) in UNITS {
        if let Some(word) = name.split('_').find(|part| words.contains(part)) {
            add(
                Rule::BaseUnit,
                format!("is in `{word}`; metrics use the base unit `{base}`"),
            );
        }
    }
    if let Some(unit) = family.unit.as_deref().filter(|unit| !unit.is_empty())
        && !name
            .strip_suffix(unit)
            .is_some_and(|base| base.ends_with('_'))
    {
        add(
            Rule::UnitNotInName,
            format!("has the unit `{unit}`, so its name must end with `_{unit}`"),
        );
    }
}

fn values(report: &mut Report, family: &Family) {
    for sample in &family.samples {
        let suffix = &sample.name[family.name.len().min(sample.name.len())..];
        let counts = match family.kind {
            Kind::Counter => suffix != "_created",
            Kind::Histogram | Kind::Summary => matches!(suffix, "_count" | "_bucket"),
            _ => false,
        };
        if counts && (sample.value.is_nan() || sample.value < 0.0) {
            report.add(
                Rule::NotACount,
                sample.line,
                Named(sample),
                format!("is {}; a count starts at 0 and grows", sample.value),
            );
        }
        let may_hold = match family.kind {
            Kind::Counter => suffix == "_total",
            Kind::Histogram | Kind::GaugeHistogram => suffix == "_bucket",
            _ => false,
        };
        if sample.exemplar.is_some() && !may_hold {
            report.add(
                Rule::ExemplarMisplaced,
                sample.line,
                Named(sample),
                "has an exemplar; only counters and buckets have them".to_owned(),
            );
        }
    }
}

fn duplicates(report: &mut Report, scrape: &Scrape) {
    let mut seen: HashMap<(&MetricName, &Labels), usize> = HashMap::new();
    for sample in scrape.iter() {
        let first = *seen
            .entry((&sample.name, &sample.labels))
            .or_insert(sample.line);
        // A series may have several points in OpenMetrics, told apart by their timestamps.
        if first != sample.line && sample.timestamp.is_none() {
            report.add(
                Rule::DuplicateSeries,
                sample.line,
                Named(sample),
                format!("stands on line {first} already; Prometheus drops one of them"),
            );
        }
    }
}

fn interleaving(report: &mut Report, scrape: &Scrape) {
    let mut by_line: Vec<(usize, usize)> = Vec::new();
    for (index, family) in scrape.families.iter().enumerate() {
        by_line.extend(family.samples.iter().map(|sample| (sample.line, index)));
    }
    by_line.sort_unstable();
    let mut closed = HashSet::new();
    let mut before = None;
    for (line, index) in by_line {
        if before == Some(index) {
            continue;
        }
        if closed.contains(&index) {
            let name = &scrape.families[index].name;
            let message = "has samples on both sides of another family; keep them together";
            report.add(Rule::Interleaved, line, name, message.to_owned());
        }
        closed.extend(before);
        before = Some(index);
    }
}

/// The samples of one histogram, and the line of the first.
#[derive(Default)]
struct Parts<'a> {
    line: usize,
    buckets: Vec<&'a Sample>,
    sum: Option<f64>,
    count: Option<f64>,
}

fn histograms(report: &mut Report, scrape: &Scrape) {
    for family in &scrape.families {
        if family.kind != Kind::Histogram {
            continue;
        }
        let bucket_name = format!("{}_bucket", family.name);
        let mut order: Vec<Labels> = Vec::new();
        let mut groups: HashMap<Labels, Parts<'_>> = HashMap::new();
        for sample in &family.samples {
            let labels = sample.labels.without("le");
            let group = groups.entry(labels.clone()).or_insert_with(|| {
                order.push(labels);
                Parts {
                    line: sample.line,
                    ..Parts::default()
                }
            });
            match &sample.name[family.name.len().min(sample.name.len())..] {
                "_bucket" => group.buckets.push(sample),
                "_sum" => group.sum = Some(sample.value),
                "_count" => group.count = Some(sample.value),
                _ => {}
            }
        }
        for labels in order {
            let Some(parts) = groups.remove(&labels) else {
                continue;
            };
            let part = |value: Option<f64>, suffix: &str| {
                value.ok_or_else(|| (format!("{}{suffix}", family.name), labels.clone()))
            };
            let subject = format!("{bucket_name}{labels}");
            if parts.buckets.is_empty() {
                let message = "is missing beside its sum and count".to_owned();
                report.add(Rule::HistogramIncoherent, parts.line, subject, message);
                continue;
            }
            let (sum, count) = (part(parts.sum, "_sum"), part(parts.count, "_count"));
            if let Err(error) = histogram::check(&family.name, &parts.buckets, sum, count) {
                let line = error_line(&error).unwrap_or(parts.line);
                let message = format!("is no histogram: {error}");
                report.add(Rule::HistogramIncoherent, line, subject, message);
            }
        }
    }
}

fn error_line(error: &HistogramError) -> Option<usize> {
    match error {
        HistogramError::BadBound { line, .. }
        | HistogramError::BadCount { line, .. }
        | HistogramError::NotMonotone { line, .. }
        | HistogramError::CountDiffers { line, .. } => Some(*line),
        HistogramError::DuplicateBound { second, .. } => Some(*second),
        HistogramError::Missing { .. }
        | HistogramError::MissingPart { .. }
        | HistogramError::NoInfinity { .. } => None,
    }
}

/// A sample without its value.
struct Named<'a>(&'a Sample);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.0.name, self.0.labels)
    }
}
