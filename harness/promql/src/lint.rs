//! The classic mistakes in queries, found without evaluating anything.
//!
//! A query with a finding is still a query: it has an answer, which is hardly ever the one that was
//! meant. Not for errors, which [`Query::parse`] reports.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use telemetry::metrics::Kind as MetricKind;

use crate::diagnostics::{Span, excerpt};
use crate::functions::Function;
use crate::functions::range::RangeFunction;
use crate::labels::BUCKET_BOUND;
use crate::query::Query;
use crate::series::Storage;
use crate::tree::{Aggregator, Call, Grouping, Kind, Node, Operator, Selector, Test};

/// What is known about the metrics that a query reads.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Context {
    /// What kind of metric a name is; without an entry a name is not judged by its kind.
    pub kinds: HashMap<String, MetricKind>,
    /// How often metrics are scraped; without it windows are not judged by their length.
    pub scrape_interval: Option<Duration>,
}

impl Context {
    /// The kinds that a storage declares, and the most usual distance of its samples.
    pub fn of(storage: &Storage) -> Self {
        let mut counts: HashMap<i64, usize> = HashMap::new();
        for series in storage.series() {
            // Some of each series are enough to tell.
            for pair in series.times_ms().windows(2).take(100) {
                *counts.entry(pair[1] - pair[0]).or_default() += 1;
            }
        }
        let usual = counts
            .into_iter()
            .filter(|(interval_ms, _)| *interval_ms > 0)
            .max_by_key(|&(interval_ms, count)| (count, -interval_ms));
        Self {
            kinds: storage
                .kinds()
                .map(|(name, kind)| (name.to_owned(), kind))
                .collect(),
            scrape_interval: usual
                .map(|(interval_ms, _)| Duration::from_millis(interval_ms.unsigned_abs())),
        }
    }

    /// The same, with a name's kind declared.
    #[must_use]
    pub fn with_kind(mut self, name: &str, kind: MetricKind) -> Self {
        self.kinds.insert(name.to_owned(), kind);
        self
    }

    /// The same, with the interval of scrapes.
    #[must_use]
    pub fn with_scrape_interval(mut self, interval: Duration) -> Self {
        self.scrape_interval = Some(interval);
        self
    }
}

/// A mistake that people make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// `rate` and the like of a metric that also falls.
    RateOfGauge,
    /// `delta` or `deriv` of a counter, which falls at every restart.
    DeltaOfCounter,
    /// `histogram_quantile` of what has no `le`.
    QuantileWithoutLe,
    /// `rate` of a sum: a restart of one process looks like a reset of all.
    RateAfterSum,
    /// An average or a sum of quantiles, which is a quantile of nothing.
    AverageOfQuantile,
    /// A comparison where a share is meant: it filters instead of counting, or is 0 or 1.
    BooleanAsRatio,
    /// A window that mostly holds fewer than two samples.
    ShortWindow,
}

impl Rule {
    /// The name of the rule, such as `rate-of-gauge`.
    pub fn name(self) -> &'static str {
        match self {
            Self::RateOfGauge => "rate-of-gauge",
            Self::DeltaOfCounter => "delta-of-counter",
            Self::QuantileWithoutLe => "quantile-without-le",
            Self::RateAfterSum => "rate-after-sum",
            Self::AverageOfQuantile => "average-of-quantile",
            Self::BooleanAsRatio => "boolean-as-ratio",
            Self::ShortWindow => "short-window",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A mistake and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// Which mistake.
    pub rule: Rule,
    /// Where in the query.
    pub span: Span,
    /// What is wrong with it.
    pub message: String,
    /// What to do instead.
    pub help: String,
}

impl Finding {
    /// Several lines for a person: the message, the line of the query, a caret, the help.
    pub fn render(&self, query: &str) -> String {
        format!(
            "lint: {} ({})\n{}  help: {}\n",
            self.message,
            self.rule,
            excerpt(query, self.span),
            self.help
        )
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.message)
    }
}

/// The mistakes in a query, in the order of its text.
pub fn lint(query: &Query, context: &Context) -> Vec<Finding> {
    let mut linter = Linter {
        context,
        text: query.text(),
        findings: Vec::new(),
    };
    linter.node(query.root());
    let mut findings = linter.findings;
    findings.sort_by_key(|finding| finding.span.start);
    findings
}

struct Linter<'a> {
    context: &'a Context,
    text: &'a str,
    findings: Vec<Finding>,
}

impl Linter<'_> {
    fn add(&mut self, rule: Rule, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.findings.push(Finding {
            rule,
            span,
            message: message.into(),
            help: help.into(),
        });
    }

    fn node(&mut self, node: &Node) {
        match &node.kind {
            Kind::Call(call) => self.call(call, node),
            Kind::Aggregate(aggregate) => {
                if matches!(aggregate.operator, Aggregator::Average | Aggregator::Sum) {
                    self.average_of_quantile(&aggregate.inner, node);
                }
                let filter = filtering(&aggregate.inner);
                if let (Aggregator::Average, Some(filter)) = (aggregate.operator, filter) {
                    self.add(
                        Rule::BooleanAsRatio,
                        filter,
                        "the comparison takes series away: the average is of what is left, not a share",
                        "write bool after the operator; the average of 0 and 1 is the share",
                    );
                }
            }
            Kind::Binary(binary) if binary.operator == Operator::Divide => {
                self.ratio(&binary.left, &binary.right);
            }
            _ => {}
        }
        for child in node.children() {
            self.node(child);
        }
    }

    fn call(&mut self, call: &Call, node: &Node) {
        match call.signature.function {
            Function::HistogramQuantile => self.quantile_without_le(&call.arguments[1]),
            Function::Range(function) => {
                let window = call.arguments.iter().map(Node::bare).find(|argument| {
                    matches!(argument.kind, Kind::Range { .. } | Kind::Subquery(_))
                });
                if let Some(window) = window {
                    self.window(function, call.signature.name, window, node);
                }
            }
            _ => {}
        }
    }

    fn window(&mut self, function: RangeFunction, name: &str, window: &Node, call: &Node) {
        let counts = matches!(
            function,
            RangeFunction::Rate
                | RangeFunction::Increase
                | RangeFunction::InstantRate
                | RangeFunction::Resets
        );
        let (range_ms, step_ms) = match &window.kind {
            Kind::Range { selector, range_ms } => {
                if let Some((metric, kind)) = self.kind_of(selector) {
                    let falls = matches!(
                        kind,
                        MetricKind::Gauge
                            | MetricKind::Info
                            | MetricKind::StateSet
                            | MetricKind::GaugeHistogram
                    );
                    if counts && falls {
                        self.add(
                            Rule::RateOfGauge,
                            window.span,
                            format!("{metric} is a {kind}: {name} takes every fall for a restart"),
                            "for the change of a gauge use delta() or deriv(), for its level avg_over_time()",
                        );
                    }
                    let differs = matches!(
                        function,
                        RangeFunction::Delta
                            | RangeFunction::InstantDelta
                            | RangeFunction::Derivative
                    );
                    if differs && kind == MetricKind::Counter {
                        self.add(
                            Rule::DeltaOfCounter,
                            window.span,
                            format!("{metric} is a counter: {name} sees a fall at every restart"),
                            "use increase() or rate(), which know of restarts",
                        );
                    }
                }
                let scrapes_ms = self
                    .context
                    .scrape_interval
                    .and_then(|interval| i64::try_from(interval.as_millis()).ok());
                (*range_ms, scrapes_ms)
            }
            Kind::Subquery(subquery) => {
                if counts && aggregation_on_top(&subquery.inner).is_some() {
                    self.add(
                        Rule::RateAfterSum,
                        call.span,
                        format!(
                            "{name} of a sum: when one process restarts, the sum falls, and {name} takes it for a restart of all"
                        ),
                        format!("take {name} of each series first, then sum: sum({name}(…[5m]))"),
                    );
                }
                if matches!(function, RangeFunction::Average) {
                    self.average_of_quantile(&subquery.inner, call);
                }
                (subquery.range_ms, subquery.step_ms)
            }
            _ => return,
        };
        let needs_two = counts && function != RangeFunction::Resets
            || matches!(
                function,
                RangeFunction::Delta
                    | RangeFunction::InstantDelta
                    | RangeFunction::Derivative
                    | RangeFunction::PredictLinear
                    | RangeFunction::Smoothing
            );
        if let Some(step_ms) = step_ms.filter(|step_ms| needs_two && range_ms < 2 * step_ms) {
            let seconds = |ms: i64| format!("{}s", ms as f64 / 1e3);
            self.add(
                Rule::ShortWindow,
                window.span,
                format!(
                    "a window of {} holds fewer than two samples that are {} apart, and {name} needs two",
                    seconds(range_ms),
                    seconds(step_ms)
                ),
                format!(
                    "take at least four intervals, {}: then one failed scrape does no harm",
                    seconds(4 * step_ms)
                ),
            );
        }
    }

    /// The name that a selector asks for, and what kind of metric it is.
    fn kind_of(&self, selector: &Selector) -> Option<(String, MetricKind)> {
        let name = selector.matchers.iter().find_map(|m| m.wanted_name())?;
        let kind = *self.context.kinds.get(name)?;
        Some((name.to_owned(), kind))
    }

    fn quantile_without_le(&mut self, argument: &Node) {
        let bare = argument.bare();
        match &bare.kind {
            Kind::Aggregate(aggregate) => {
                let keeps = match &aggregate.grouping {
                    Grouping::By(names) => names.iter().any(|name| name == BUCKET_BOUND),
                    Grouping::Without(names) => names.iter().all(|name| name != BUCKET_BOUND),
                };
                if keeps {
                    return self.quantile_without_le(&aggregate.inner);
                }
                let word = bare
                    .span
                    .text(self.text)
                    .split(['(', ' '])
                    .next()
                    .unwrap_or("")
                    .to_owned();
                self.add(
                    Rule::QuantileWithoutLe,
                    bare.span,
                    format!(
                        "{word} drops the label le, by which histogram_quantile tells buckets apart"
                    ),
                    format!("keep it: {word} by (le) (…)"),
                );
            }
            Kind::Selector(selector) | Kind::Range { selector, .. } => {
                let name = selector.matchers.iter().find_map(|m| m.wanted_name());
                let demands_le = selector.matchers.iter().any(|matcher| {
                    matcher.name == BUCKET_BOUND && matches!(matcher.test, Test::Equal)
                });
                if demands_le {
                    self.add(
                        Rule::QuantileWithoutLe,
                        bare.span,
                        "the selector keeps one bucket, and a quantile needs all of them",
                        "take the matcher of le away",
                    );
                } else if let Some(name) = name.filter(|name| ends_as_no_bucket(name)) {
                    let base = ["_sum", "_count"]
                        .iter()
                        .find_map(|end| name.strip_suffix(end))
                        .unwrap_or(name);
                    let message = format!("{name} has no buckets, thus no label le");
                    let help = format!("use {base}_bucket");
                    self.add(Rule::QuantileWithoutLe, bare.span, message, help);
                }
            }
            Kind::Subquery(subquery) => self.quantile_without_le(&subquery.inner),
            Kind::Call(call) => {
                if let Some(inner) = call.arguments.iter().find(|argument| {
                    matches!(
                        call.signature.function,
                        Function::Range(_) | Function::Map(_)
                    ) && !matches!(argument.bare().kind, Kind::Number(_))
                }) {
                    self.quantile_without_le(inner);
                }
            }
            _ => {}
        }
    }

    fn average_of_quantile(&mut self, inner: &Node, whole: &Node) {
        if let Some(of) = quantile_below(inner) {
            let help = match of {
                Quantile::Histogram => {
                    "add up the buckets, then take the quantile: \
                     histogram_quantile(0.99, sum by (le) (rate(…_bucket[5m])))"
                }
                Quantile::Summary => {
                    "quantiles that a process computed cannot be combined: show the highest, with max, \
                     or record a histogram"
                }
            };
            self.add(
                Rule::AverageOfQuantile,
                whole.span,
                "a mean or sum of quantiles is a quantile of nothing: it ignores how much each stands for",
                help,
            );
        }
    }

    fn ratio(&mut self, numerator: &Node, denominator: &Node) {
        if let Some(span) = filtering(numerator) {
            self.add(
                Rule::BooleanAsRatio,
                span,
                "the comparison takes series away and leaves their values: that is no part of the whole below",
                "to count what holds, write bool after the operator: sum(x > bool 1) / count(x)",
            );
        }
        for (side, other) in [(numerator, denominator), (denominator, numerator)] {
            if let Some(span) =
                boolean(side).filter(|_| !is_count(other) && boolean(other).is_none())
            {
                self.add(
                    Rule::BooleanAsRatio,
                    span,
                    "the comparison is 0 or 1, and the other side of the ratio is not a count of the same",
                    "divide by how many there are, count(…); or average the 0 and 1: avg(x > bool 1)",
                );
            }
        }
    }
}

enum Quantile {
    Histogram,
    Summary,
}

/// A quantile that reaches this node unaggregated.
fn quantile_below(node: &Node) -> Option<Quantile> {
    let node = node.bare();
    match &node.kind {
        Kind::Call(call) => match call.signature.function {
            Function::HistogramQuantile => Some(Quantile::Histogram),
            Function::Range(RangeFunction::Average) | Function::Map(_) | Function::Round => {
                call.arguments.first().and_then(quantile_below)
            }
            _ => None,
        },
        Kind::Selector(selector) | Kind::Range { selector, .. } => selector
            .matchers
            .iter()
            .any(|matcher| matcher.name == "quantile" && matches!(matcher.test, Test::Equal))
            .then_some(Quantile::Summary),
        Kind::Subquery(subquery) => quantile_below(&subquery.inner),
        Kind::Negate(inner) => quantile_below(inner),
        Kind::Binary(binary) => {
            quantile_below(&binary.left).or_else(|| quantile_below(&binary.right))
        }
        _ => None,
    }
}

/// The aggregation whose result reaches this node with its values as they are.
fn aggregation_on_top(node: &Node) -> Option<Span> {
    let node = node.bare();
    match &node.kind {
        Kind::Aggregate(aggregate) => {
            matches!(aggregate.operator, Aggregator::Sum | Aggregator::Average).then_some(node.span)
        }
        Kind::Binary(binary) => {
            aggregation_on_top(&binary.left).or_else(|| aggregation_on_top(&binary.right))
        }
        _ => None,
    }
}

/// A comparison without `bool` whose result reaches this node, alone or summed up.
fn filtering(node: &Node) -> Option<Span> {
    comparison(node).and_then(|(returns_bool, span)| (!returns_bool).then_some(span))
}

/// A comparison with `bool` whose result reaches this node, alone or summed up.
fn boolean(node: &Node) -> Option<Span> {
    comparison(node).and_then(|(returns_bool, span)| returns_bool.then_some(span))
}

fn comparison(node: &Node) -> Option<(bool, Span)> {
    let node = node.bare();
    match &node.kind {
        Kind::Binary(binary) if binary.operator.is_comparison() => {
            Some((binary.returns_bool, node.span))
        }
        Kind::Aggregate(aggregate) if aggregate.operator == Aggregator::Sum => {
            comparison(&aggregate.inner)
        }
        _ => None,
    }
}

fn is_count(node: &Node) -> bool {
    match &node.bare().kind {
        Kind::Aggregate(aggregate) => aggregate.operator == Aggregator::Count,
        Kind::Number(_) => true,
        Kind::Call(call) => matches!(
            call.signature.function,
            Function::Range(RangeFunction::Count) | Function::Scalar
        ),
        _ => false,
    }
}

fn ends_as_no_bucket(name: &str) -> bool {
    // A recorded rate of buckets keeps the word in its name: job:took_bucket:rate5m.
    !name.contains("bucket")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(query: &str) -> Vec<(&'static str, String)> {
        let context = Context::default()
            .with_kind("depth", MetricKind::Gauge)
            .with_kind("jobs_total", MetricKind::Counter)
            .with_scrape_interval(Duration::from_secs(15));
        let parsed = Query::parse(query).unwrap_or_else(|failure| panic!("{}", failure.render()));
        lint(&parsed, &context)
            .into_iter()
            .map(|finding| (finding.rule.name(), finding.span.text(query).to_owned()))
            .collect()
    }

    #[test]
    fn each_mistake_is_found_at_its_place() {
        for (query, rule, place) in [
            ("rate(depth[5m])", "rate-of-gauge", "depth[5m]"),
            (
                "delta(jobs_total[5m])",
                "delta-of-counter",
                "jobs_total[5m]",
            ),
            (
                "histogram_quantile(0.9, sum by (job) (rate(a_bucket[5m])))",
                "quantile-without-le",
                "sum by (job) (rate(a_bucket[5m]))",
            ),
            (
                "histogram_quantile(0.9, rate(a_count[5m]))",
                "quantile-without-le",
                "a_count[5m]",
            ),
            (
                "histogram_quantile(0.9, a_bucket{le=\"1\"})",
                "quantile-without-le",
                "a_bucket{le=\"1\"}",
            ),
            (
                "1 + rate(sum(jobs_total)[5m:15s])",
                "rate-after-sum",
                "rate(sum(jobs_total)[5m:15s])",
            ),
            (
                "avg(histogram_quantile(0.9, rate(a_bucket[5m])))",
                "average-of-quantile",
                "avg(histogram_quantile(0.9, rate(a_bucket[5m])))",
            ),
            (
                "avg by (job) (a{quantile=\"0.99\"})",
                "average-of-quantile",
                "avg by (job) (a{quantile=\"0.99\"})",
            ),
            (
                "avg_over_time(histogram_quantile(0.9, rate(a_bucket[5m]))[1h:1m])",
                "average-of-quantile",
                "avg_over_time(histogram_quantile(0.9, rate(a_bucket[5m]))[1h:1m])",
            ),
            ("avg(depth > 5)", "boolean-as-ratio", "depth > 5"),
            (
                "sum(depth > 5) / sum(depth)",
                "boolean-as-ratio",
                "depth > 5",
            ),
            (
                "sum(depth > bool 5) / sum(depth)",
                "boolean-as-ratio",
                "depth > bool 5",
            ),
            ("rate(jobs_total[20s])", "short-window", "jobs_total[20s]"),
            ("deriv(depth[2m:2m])", "short-window", "depth[2m:2m]"),
        ] {
            assert_eq!(found(query), [(rule, place.to_owned())], "{query}");
        }
    }

    #[test]
    fn sound_queries_have_no_finding() {
        for query in [
            "rate(jobs_total[30s])",
            "rate(unknown[5m])",
            "deriv(depth[5m])",
            "delta(depth[1m])",
            "histogram_quantile(0.9, sum by (le, job) (rate(a_bucket[5m])))",
            "histogram_quantile(0.9, sum without (job) (rate(a_bucket[5m])))",
            "histogram_quantile(0.9, job:a_bucket:rate5m)",
            "sum(rate(jobs_total[5m]))",
            "max_over_time(sum(rate(jobs_total[5m]))[1h:1m])",
            "max(histogram_quantile(0.9, rate(a_bucket[5m])))",
            "sum(depth > bool 5) / count(depth)",
            "avg(depth > bool 5)",
            "count(depth > 5) / count(depth)",
            "sum(rate(jobs_total[5m])) / (sum(rate(jobs_total[1h])) > 0)",
            "sum(rate(a_total[5m])) / sum(rate(b_total[5m])) > 0.05",
            "changes(depth[15s])",
        ] {
            assert_eq!(found(query), [], "{query}");
        }
    }

    #[test]
    fn a_storage_tells_kinds_and_the_usual_interval() {
        let storage = Storage::from_openmetrics(
            "# TYPE depth gauge\ndepth 1 0\ndepth 1 30\ndepth 1 60\ndepth 1 300\n# EOF\n",
        )
        .unwrap();
        let context = Context::of(&storage);
        assert_eq!(context.scrape_interval, Some(Duration::from_secs(30)));
        assert_eq!(context.kinds.get("depth"), Some(&MetricKind::Gauge));
    }

    #[test]
    fn a_finding_is_drawn_below_its_query() {
        let query = Query::parse("rate(depth[5m])").unwrap();
        let context = Context::default().with_kind("depth", MetricKind::Gauge);
        assert_eq!(
            lint(&query, &context)[0].render(query.text()),
            "lint: depth is a gauge: rate takes every fall for a restart (rate-of-gauge)\n \
             1 | rate(depth[5m])\n   |      ^^^^^^^^^ line 1, column 6\n  \
             help: for the change of a gauge use delta() or deriv(), for its level avg_over_time()\n"
        );
    }
}
