//! Metrics: charts where a dump tells of many moments, tables and bars where it tells of one.
//!
//! Counters are shown as rates and gauges as values, and each chart says which. No quantile and no
//! mean is computed: what to make of the buckets is the reader's part.

use std::collections::HashMap;

use maud::{Markup, html};
use telemetry::ParseError;
use telemetry::metrics::{Family, Kind, Labels, MetricName, Sample, Scrape};

use crate::chart::{self, Bars, HeatMap, HeatStep, Ink, Lines, MOST_LINES};
use crate::page::{self, Section};
use crate::scale::{self, Point};
use crate::units::{self, Precision, Quantity, counted, moment, number};

/// The most families that are drawn.
const MOST_FAMILIES: usize = 150;
/// The most rows of one family's table, and of all tables of a dump of one moment.
const MOST_ROWS: usize = 300;
const MOST_ROWS_IN_ALL: usize = 4_000;
/// The most histograms of one family that are drawn.
const MOST_HISTOGRAMS: usize = 6;
/// The most lines of a table of sparklines, in one family and in all.
const MOST_SPARKS: usize = 150;
const MOST_SPARKS_IN_ALL: usize = 600;
/// How many moments a table of values tells.
const MOMENTS: usize = 24;
/// What the lines of all charts together may take in the page, in bytes.
const LINES_BUDGET: usize = 3 << 20;
/// The most exemplars of one family that are listed.
const MOST_EXEMPLARS: usize = 100;

/// One series of a family.
struct Series<'a> {
    name: &'a MetricName,
    labels: &'a Labels,
    /// In time, one for each moment.
    points: Vec<Point>,
}

impl Series<'_> {
    /// What tells it from the others of its family.
    fn title(&self, family: &Family) -> String {
        match (*self.name == *family.name, self.labels.is_empty()) {
            (_, true) => self.name.to_string(),
            (true, false) => self.labels.to_string(),
            (false, false) => format!("{}{}", self.name, self.labels),
        }
    }
}

/// What all charts of a dump share.
struct Frame {
    span: (f64, f64),
    columns: usize,
    sparks_left: usize,
}

/// Draws a dump of metrics.
///
/// # Errors
/// Where the dump is not in its format.
pub fn section(bytes: &[u8]) -> Result<Section, ParseError> {
    let scrape = Scrape::from_slice(bytes)?;
    let samples = scrape.iter().count();
    let families: Vec<(&Family, Vec<Series<'_>>)> = scrape
        .families
        .iter()
        .map(|family| (family, series(family)))
        .collect();
    let count = families.iter().map(|(_, series)| series.len()).sum();
    let mut facts = vec![
        counted_families(families.len()),
        format!("{} series", units::count(count)),
        counted(samples, "sample"),
    ];
    let over_time = families
        .iter()
        .any(|(_, series)| series.iter().any(|series| series.points.len() > 1));
    if !over_time {
        facts.push(match at(&families) {
            Some(time) => format!("one moment, {} UTC", moment(time, Precision::Full)),
            None => "one moment".to_owned(),
        });
        return Ok(Section {
            what: "Metrics",
            facts,
            body: one_moment(&families),
        });
    }
    let times = || {
        families
            .iter()
            .flat_map(|(_, series)| series.iter().flat_map(|series| series.points.iter()))
            .map(|(at, _)| *at)
    };
    let span = (
        times().fold(f64::INFINITY, f64::min),
        times().fold(f64::NEG_INFINITY, f64::max),
    );
    facts.push(format!(
        "{} to {} UTC",
        moment(span.0, Precision::Full),
        moment(span.1, Precision::Full)
    ));
    let lines: usize = families
        .iter()
        .take(MOST_FAMILIES)
        .map(|(_, series)| series.len().min(MOST_LINES))
        .sum();
    // Each column of a line takes up to four points of eight bytes, in a wide and a narrow chart.
    let columns = (LINES_BUDGET / (lines.max(1) * 4 * 8 * 2)).clamp(40, 2_000);
    let mut frame = Frame {
        span,
        columns,
        sparks_left: MOST_SPARKS_IN_ALL,
    };
    Ok(Section {
        what: "Metrics",
        facts,
        body: over_moments(&families, &mut frame),
    })
}

fn counted_families(count: usize) -> String {
    match count {
        1 => "1 metric".to_owned(),
        _ => format!("{} metrics", units::count(count)),
    }
}

/// The one moment at which everything was measured, where the dump tells it.
fn at(families: &[(&Family, Vec<Series<'_>>)]) -> Option<f64> {
    let mut times = families
        .iter()
        .flat_map(|(family, _)| family.samples.iter())
        .filter_map(|sample| sample.timestamp);
    let first = times.next()?;
    times
        .all(|time| time == first)
        .then_some(first.as_seconds())
}

/// The series of a family in the order of the text; the points of each in time. A moment told
/// twice counts once, by the first that tells it.
fn series(family: &Family) -> Vec<Series<'_>> {
    let mut found: Vec<Series<'_>> = Vec::new();
    let mut places: HashMap<(&MetricName, &Labels), usize> = HashMap::new();
    for sample in &family.samples {
        let place = *places
            .entry((&sample.name, &sample.labels))
            .or_insert_with(|| {
                found.push(Series {
                    name: &sample.name,
                    labels: &sample.labels,
                    points: Vec::new(),
                });
                found.len() - 1
            });
        if let Some(time) = sample.timestamp {
            found[place].points.push((time.as_seconds(), sample.value));
        }
    }
    for series in &mut found {
        series.points.sort_by(|a, b| a.0.total_cmp(&b.0));
        series.points.dedup_by(|later, kept| later.0 == kept.0);
    }
    found
}

fn kind_word(family: &Family) -> String {
    match family.kind {
        Kind::Unknown => "no type declared".to_owned(),
        kind => kind.to_string(),
    }
}

/// A family within its frame. `words` is what the filter looks at.
fn card(family: &Family, words: &str, body: &Markup) -> Markup {
    html! {
        article.card data-words=(words) {
            h3 { span.name { (family.name) } " " span.badge { (kind_word(family)) } }
            @if let Some(help) = &family.help { p.help { (help) } }
            (body)
            (exemplars(family))
        }
    }
}

/// All names and label values of a family, for the filter; no more of them than a person reads.
fn words(family: &Family, series: &[Series<'_>]) -> String {
    const MOST: usize = 4_000;
    let mut words = family.name.to_string();
    for series in series {
        if words.len() > MOST {
            break;
        }
        words.push(' ');
        words.push_str(&series.labels.to_string());
    }
    words.to_lowercase()
}

fn filter_box(families: usize) -> Markup {
    html! {
        @if families > 3 {
            (page::filter("Filter metrics by name or label", "cards"))
        }
    }
}

fn left_out(families: &[(&Family, Vec<Series<'_>>)]) -> Markup {
    html! {
        @if families.len() > MOST_FAMILIES {
            p.note {
                "The first " (MOST_FAMILIES) " metrics are drawn; "
                (units::count(families.len() - MOST_FAMILIES)) " more are in the dump."
            }
        }
    }
}

// ---- One moment ----------------------------------------------------------------------------

fn one_moment(families: &[(&Family, Vec<Series<'_>>)]) -> Markup {
    let mut rows_left = MOST_ROWS_IN_ALL;
    html! {
        p.note { "Values as the endpoint exposed them. Counters and buckets count since their process started." }
        (filter_box(families.len()))
        div.cards {
            @for (family, series) in families.iter().take(MOST_FAMILIES) {
                (card(family, &words(family, series), &snapshot(family, series, &mut rows_left)))
            }
        }
        (left_out(families))
    }
}

fn snapshot(family: &Family, series: &[Series<'_>], rows_left: &mut usize) -> Markup {
    let quantity = Quantity::of_metric(&family.name, family.unit.as_deref());
    let groups = match family.kind {
        Kind::Histogram | Kind::GaugeHistogram => histograms(family),
        _ => Vec::new(),
    };
    let others: Vec<&Sample> = family
        .samples
        .iter()
        .filter(|sample| groups.is_empty() || !sample.name.ends_with("_bucket"))
        .collect();
    let most = MOST_ROWS.min(*rows_left);
    let shown = others.len().min(most);
    *rows_left -= shown;
    html! {
        @if series.len() > 12 { (page::filter("Filter rows", "rows")) }
        (page::table(
            &format!("Values of {}", family.name),
            &html! {
                thead { tr { th scope="col" { "series" } th.number scope="col" { "value" } th.number scope="col" { "read as" } } }
                tbody {
                    @for sample in others.iter().take(most) {
                        tr {
                            th.name scope="row" { (sample.name) (sample.labels) }
                            td.number { (plain(sample.value)) }
                            td.number { (read_as(&quantity, sample)) }
                        }
                    }
                }
            },
        ))
        @if others.len() > most {
            p.note { (units::count(others.len() - most)) " more are in the dump." }
        }
        @for (labels, buckets) in groups.iter().take(MOST_HISTOGRAMS) {
            (bucket_bars(family, labels, buckets))
        }
        @if groups.len() > MOST_HISTOGRAMS {
            p.note {
                "Buckets of the first " (MOST_HISTOGRAMS) " label sets; "
                (groups.len() - MOST_HISTOGRAMS) " more are in the dump."
            }
        }
    }
}

/// A value with every digit that it has.
fn plain(value: f64) -> String {
    match value {
        v if v.is_finite() => format!("{v}"),
        v => number(v),
    }
}

fn read_as(quantity: &Quantity, sample: &Sample) -> String {
    let ends = |suffix| sample.name.ends_with(suffix);
    if ends("_count") || ends("_gcount") {
        number(sample.value)
    } else if ends("_created") {
        moment(sample.value, Precision::Full)
    } else {
        quantity.show(sample.value)
    }
}

/// Bound as it is written, bound as a number, and what is counted up to it.
type Buckets<'a> = Vec<(&'a str, f64, f64)>;

/// The buckets of each label set, sorted by bound; a bound that is no number is left out.
fn histograms(family: &Family) -> Vec<(Labels, Buckets<'_>)> {
    let mut found: Vec<(Labels, Buckets<'_>)> = Vec::new();
    let mut places: HashMap<Labels, usize> = HashMap::new();
    for sample in &family.samples {
        let Some((text, bound)) = bound(&sample.name, &sample.labels) else {
            continue;
        };
        let labels = sample.labels.without("le");
        let place = *places.entry(labels.clone()).or_insert_with(|| {
            found.push((labels, Vec::new()));
            found.len() - 1
        });
        found[place].1.push((text, bound, sample.value));
    }
    for (_, buckets) in &mut found {
        buckets.sort_by(|a, b| a.1.total_cmp(&b.1));
    }
    found
}

fn bound<'a>(name: &str, labels: &'a Labels) -> Option<(&'a str, f64)> {
    if !name.ends_with("_bucket") {
        return None;
    }
    let text = labels.get("le")?;
    let bound = text.parse().ok().filter(|bound: &f64| !bound.is_nan())?;
    Some((text, bound))
}

fn bound_label(bound: f64) -> String {
    match bound {
        f64::INFINITY => "more".to_owned(),
        bound => format!("≤ {}", plain(bound)),
    }
}

fn bucket_bars(family: &Family, labels: &Labels, buckets: &Buckets<'_>) -> Markup {
    let mut below = 0.0;
    let mut bars = Vec::new();
    let mut rows = Vec::new();
    for &(text, bound, cumulative) in buckets {
        let within = cumulative - below;
        bars.push((bound_label(bound), within));
        rows.push((text, cumulative, within));
        below = cumulative;
    }
    let unit = Quantity::of_metric(&family.name, family.unit.as_deref());
    let unit = unit.scale(1.0).label;
    let bars = Bars {
        label: format!(
            "Bar chart: observations of {}{labels} in each bucket, {} buckets",
            family.name,
            buckets.len()
        ),
        bars,
    };
    html! {
        figure {
            figcaption {
                "Observations in each bucket" @if !unit.is_empty() { ", bounds in " (unit) }
                @if !labels.is_empty() { span.name { " " (labels) } }
            }
            (bars.draw())
            details {
                summary { "Table of the buckets" }
                (page::table(
                    &format!("Buckets of {}{labels}", family.name),
                    &html! {
                        thead { tr {
                            th scope="col" { "le" }
                            th.number scope="col" { "up to it (cumulative)" }
                            th.number scope="col" { "in this bucket" }
                        } }
                        tbody {
                            @for (text, cumulative, within) in &rows {
                                tr {
                                    th.name scope="row" { (text) }
                                    td.number { (plain(*cumulative)) }
                                    td.number { (plain(*within)) }
                                }
                            }
                        }
                    },
                ))
            }
        }
    }
}

fn exemplars(family: &Family) -> Markup {
    let found: Vec<&Sample> = family
        .samples
        .iter()
        .filter(|sample| sample.exemplar.is_some())
        .collect();
    let quantity = Quantity::of_metric(&family.name, family.unit.as_deref());
    html! {
        @if !found.is_empty() {
            details {
                summary { (counted(found.len(), "exemplar")) }
                (page::table(
                    &format!("Exemplars of {}", family.name),
                    &html! {
                        thead { tr {
                            th scope="col" { "on" } th.number scope="col" { "observed" }
                            th scope="col" { "labels" } th scope="col" { "at (UTC)" }
                        } }
                        tbody {
                            @for sample in found.iter().take(MOST_EXEMPLARS) {
                                @if let Some(exemplar) = &sample.exemplar {
                                    tr {
                                        th.name scope="row" { (sample.name) (sample.labels) }
                                        td.number { (quantity.show(exemplar.value)) }
                                        td.name { (exemplar.labels) }
                                        td { @if let Some(time) = exemplar.timestamp { (moment(time.as_seconds(), Precision::Full)) } }
                                    }
                                }
                            }
                        }
                    },
                ))
                @if found.len() > MOST_EXEMPLARS {
                    p.note { (units::count(found.len() - MOST_EXEMPLARS)) " more are in the dump." }
                }
            }
        }
    }
}

// ---- Over time -----------------------------------------------------------------------------

fn over_moments(families: &[(&Family, Vec<Series<'_>>)], frame: &mut Frame) -> Markup {
    html! {
        p.note {
            "Times are in UTC. A rate is the increase from one scrape to the next over the time \
             between them; a counter that fell began again at zero."
        }
        (filter_box(families.len()))
        div.cards {
            @for (family, series) in families.iter().take(MOST_FAMILIES) {
                (card(family, &words(family, series), &course(family, series, frame)))
            }
        }
        (left_out(families))
    }
}

/// How a family is drawn over time.
fn course(family: &Family, series: &[Series<'_>], frame: &mut Frame) -> Markup {
    let quantity = Quantity::of_metric(&family.name, family.unit.as_deref());
    let plain = Quantity::of_metric("", None);
    let with = |suffix: &'static str| {
        series
            .iter()
            .filter(move |series| *series.name == *format!("{}{suffix}", family.name))
            .collect::<Vec<_>>()
    };
    match family.kind {
        Kind::Histogram | Kind::GaugeHistogram => html! {
            (heat_maps(family, series, frame))
            @if family.kind == Kind::Histogram {
                (lines(family, "observations", &with("_count"), &plain, Shown::Rate, frame))
            }
        },
        Kind::Counter => {
            let counted: Vec<&Series<'_>> = series
                .iter()
                .filter(|series| !series.name.ends_with("_created"))
                .collect();
            lines(family, "", &counted, &quantity, Shown::Rate, frame)
        }
        Kind::Summary => html! {
            (lines(family, "quantiles", &with(""), &quantity, Shown::Value, frame))
            (lines(family, "observations", &with("_count"), &plain, Shown::Rate, frame))
        },
        Kind::Info => info(family, series),
        _ => {
            let all: Vec<&Series<'_>> = series.iter().collect();
            lines(family, "", &all, &quantity, Shown::Value, frame)
        }
    }
}

/// Labels that describe a process, whose value is always 1.
fn info(family: &Family, series: &[Series<'_>]) -> Markup {
    html! {
        (page::table(
            &format!("Labels of {}", family.name),
            &html! {
                thead { tr { th scope="col" { "series" } th.number scope="col" { "samples" } } }
                tbody {
                    @for series in series.iter().take(MOST_ROWS) {
                        tr {
                            th.name scope="row" { (series.title(family)) }
                            td.number { (units::count(series.points.len())) }
                        }
                    }
                }
            },
        ))
        @if series.len() > MOST_ROWS {
            p.note { (units::count(series.len() - MOST_ROWS)) " more are in the dump." }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Rate,
    Value,
}

/// A series as it is drawn.
struct Line {
    title: String,
    points: Vec<Point>,
    resets: usize,
}

impl Line {
    fn spread(&self) -> f64 {
        let values = || {
            self.points
                .iter()
                .map(|(_, value)| *value)
                .filter(|value| scale::drawable(*value))
        };
        values().fold(f64::NEG_INFINITY, f64::max) - values().fold(f64::INFINITY, f64::min)
    }
}

fn lines(
    family: &Family,
    what: &str,
    series: &[&Series<'_>],
    quantity: &Quantity,
    shown: Shown,
    frame: &mut Frame,
) -> Markup {
    if series.is_empty() {
        return html! {};
    }
    let quantity = match shown {
        Shown::Rate => quantity.clone().rate(),
        Shown::Value => quantity.clone(),
    };
    let mut all: Vec<Line> = series
        .iter()
        .map(|series| Line {
            title: series.title(family),
            points: match shown {
                Shown::Rate => scale::rates(&series.points),
                Shown::Value => series.points.clone(),
            },
            resets: match shown {
                Shown::Rate => scale::resets(&series.points),
                Shown::Value => 0,
            },
        })
        .collect();
    let many = all.len() > MOST_LINES;
    if many {
        // A stable sort: of equals the first in the dump. No spread at all sorts last.
        all.sort_by(|a, b| b.spread().total_cmp(&a.spread()));
    }
    let drawn = &all[..all.len().min(MOST_LINES)];
    let largest = drawn
        .iter()
        .flat_map(|line| line.points.iter())
        .map(|(_, value)| value.abs())
        .filter(|value| scale::drawable(*value))
        .fold(0.0, f64::max);
    let scale = quantity.scale(largest);
    let told = match shown {
        Shown::Rate => "rate per second",
        Shown::Value => "value",
    };
    let heading = match what {
        "" => told.to_owned(),
        what => format!("{what}, {told}"),
    };
    let unit = scale.label.clone();
    let label = format!(
        "Line chart of {}: {heading}, from {} to {} UTC, {}. The table below it has the values.",
        family.name,
        moment(frame.span.0, Precision::Full),
        moment(frame.span.1, Precision::Full),
        counted(drawn.len(), "line"),
    );
    let chart = Lines {
        label,
        span: frame.span,
        scale,
        lines: drawn.iter().map(|line| line.points.as_slice()).collect(),
        thresholds: Vec::new(),
        columns: frame.columns,
        size: chart::WHOLE_WIDTH,
    };
    html! {
        figure {
            figcaption {
                "Shown: " (heading)
                @if !unit.is_empty() && unit != "per second" { ", in " (unit) }
                @if many {
                    ". The " (MOST_LINES) " of " (units::count(all.len()))
                    " series with the widest spread are drawn"
                }
            }
            (chart.draw())
            @if all.len() > 1 { (legend(drawn)) }
            (values(family, drawn, &quantity))
            @if many { (sparks(family, &all, &quantity, frame)) }
        }
    }
}

fn legend(drawn: &[Line]) -> Markup {
    html! {
        ul.legend {
            @for (nth, line) in drawn.iter().enumerate() {
                li {
                    label {
                        input type="checkbox" checked data-ink=(Ink::Line(nth).code());
                        (chart::swatch(Ink::Line(nth)))
                        span.name { (line.title) }
                    }
                }
            }
        }
    }
}

/// What a chart shows, in numbers: how far each line reaches, and its values at some moments.
fn values(family: &Family, drawn: &[Line], quantity: &Quantity) -> Markup {
    let mut times: Vec<f64> = drawn
        .iter()
        .flat_map(|line| line.points.iter().map(|(at, _)| *at))
        .collect();
    times.sort_by(f64::total_cmp);
    times.dedup();
    let every = times.len().div_ceil(MOMENTS).max(1);
    let picked: Vec<f64> = times.iter().copied().step_by(every).collect();
    let summary = |line: &Line| {
        let by_value = |a: &&Point, b: &&Point| a.1.total_cmp(&b.1);
        let numbers = || line.points.iter().filter(|(_, value)| !value.is_nan());
        let show = |point: Option<&Point>| match point {
            Some((at, value)) => {
                format!(
                    "{} at {}",
                    quantity.show(*value),
                    moment(*at, Precision::Second)
                )
            }
            None => "—".to_owned(),
        };
        [
            show(numbers().min_by(by_value)),
            show(numbers().max_by(by_value)),
            show(line.points.last()),
        ]
    };
    html! {
        details {
            summary { "Table of values" }
            (page::table(
                &format!("Extremes of {}", family.name),
                &html! {
                    thead { tr {
                        th scope="col" { "series" } th.number scope="col" { "lowest" }
                        th.number scope="col" { "highest" } th.number scope="col" { "last" }
                        th.number scope="col" { "points" } th.number scope="col" { "restarts" }
                    } }
                    tbody {
                        @for line in drawn {
                            tr {
                                th.name scope="row" { (line.title) }
                                @for cell in summary(line) { td.number { (cell) } }
                                td.number { (units::count(line.points.len())) }
                                td.number { (line.resets) }
                            }
                        }
                    }
                },
            ))
            (page::table(
                &format!("Values of {} over time", family.name),
                &html! {
                    thead { tr {
                        th scope="col" { "UTC" }
                        @for line in drawn { th.number scope="col" { (line.title) } }
                    } }
                    tbody {
                        @for at in &picked {
                            tr {
                                th.time scope="row" { (moment(*at, Precision::Full)) }
                                @for line in drawn {
                                    td.number { (value_at(line, *at).map_or("—".to_owned(), |v| quantity.show(v))) }
                                }
                            }
                        }
                    }
                },
            ))
            @if every > 1 {
                p.note { "Every " (ordinal(every)) " of " (units::count(times.len())) " moments." }
            }
        }
    }
}

fn ordinal(number: usize) -> String {
    let suffix = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{}{suffix}", units::count(number))
}

/// The value at exactly this moment.
fn value_at(line: &Line, at: f64) -> Option<f64> {
    let place = line.points.partition_point(|(time, _)| *time < at);
    let (time, value) = line.points.get(place)?;
    (*time == at).then_some(*value)
}

/// Every series of a family that has more than one chart can hold, small.
fn sparks(family: &Family, all: &[Line], quantity: &Quantity, frame: &mut Frame) -> Markup {
    let most = MOST_SPARKS.min(frame.sparks_left).min(all.len());
    frame.sparks_left -= most;
    html! {
        @if most > 0 {
            details {
                summary { "All " (units::count(all.len())) " series, by spread" }
                (page::filter("Filter series", "rows"))
                (page::table(
                    &format!("All series of {}", family.name),
                    &html! {
                        thead { tr {
                            th scope="col" { "series" } th scope="col" { "course" }
                            th.number scope="col" { "spread" } th.number scope="col" { "last" }
                        } }
                        tbody {
                            @for line in &all[..most] {
                                tr {
                                    th.name scope="row" { (line.title) }
                                    td { (chart::sparkline(&line.points, frame.span)) }
                                    td.number { @if line.spread() >= 0.0 { (quantity.show(line.spread())) } @else { "—" } }
                                    td.number { (line.points.last().map_or("—".to_owned(), |(_, v)| quantity.show(*v))) }
                                }
                            }
                        }
                    },
                ))
                @if most < all.len() {
                    p.note { (units::count(all.len() - most)) " more are in the dump." }
                }
            }
        } @else {
            p.note { "The other series are in the dump: this page holds no more of them." }
        }
    }
}

// ---- Histograms over time ------------------------------------------------------------------

/// The buckets of one label set over time.
struct History<'a> {
    labels: Labels,
    /// Sorted by bound.
    buckets: Vec<(f64, &'a [Point])>,
    observations: f64,
}

fn heat_maps(family: &Family, series: &[Series<'_>], frame: &Frame) -> Markup {
    let mut found: Vec<History<'_>> = Vec::new();
    let mut places: HashMap<Labels, usize> = HashMap::new();
    for series in series {
        let Some((_, bound)) = bound(series.name, series.labels) else {
            continue;
        };
        let labels = series.labels.without("le");
        let place = *places.entry(labels.clone()).or_insert_with(|| {
            found.push(History {
                labels,
                buckets: Vec::new(),
                observations: 0.0,
            });
            found.len() - 1
        });
        found[place].buckets.push((bound, &series.points));
    }
    for history in &mut found {
        history.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        history.observations = history
            .buckets
            .last()
            .and_then(|(_, points)| Some(points.last()?.1 - points.first()?.1))
            .unwrap_or_default();
    }
    let all = found.len();
    // The busiest first; a stable sort keeps equals in the order of the dump.
    found.sort_by(|a, b| b.observations.total_cmp(&a.observations));
    let cumulative = family.kind == Kind::Histogram;
    html! {
        @for (nth, history) in found.iter().take(MOST_HISTOGRAMS).enumerate() {
            @if nth == 0 || all <= 3 {
                (heat_map(family, history, cumulative, frame))
            } @else {
                details {
                    summary { "Heat map of " span.name { (history.labels) } }
                    (heat_map(family, history, cumulative, frame))
                }
            }
        }
        @if all > MOST_HISTOGRAMS {
            p.note {
                "The " (MOST_HISTOGRAMS) " busiest of " (units::count(all)) " label sets are drawn."
            }
        }
    }
}

fn heat_map(family: &Family, history: &History<'_>, cumulative: bool, frame: &Frame) -> Markup {
    let steps = steps(&history.buckets, cumulative);
    let unit = Quantity::of_metric(&family.name, family.unit.as_deref());
    let unit = unit.scale(1.0).label;
    let rows: Vec<String> = history
        .buckets
        .iter()
        .map(|(bound, _)| bound_label(*bound))
        .collect();
    let map = HeatMap {
        label: format!(
            "Heat map of {}{}: observations in each of {} buckets from {} to {} UTC. The table \
             below it has the sums.",
            family.name,
            history.labels,
            rows.len(),
            moment(frame.span.0, Precision::Full),
            moment(frame.span.1, Precision::Full),
        ),
        span: frame.span,
        rows,
        steps,
    };
    html! {
        figure {
            figcaption {
                @if cumulative {
                    "Shown: observations in each bucket, from scrape to scrape"
                } @else {
                    "Shown: observations in each bucket at each scrape"
                }
                @if !unit.is_empty() { ", bounds in " (unit) }
                @if !history.labels.is_empty() { span.name { " " (history.labels) } }
                ". The stronger the color, the more, on a logarithmic scale; nothing is drawn for none"
            }
            (map.draw())
            details {
                summary { "Table of the buckets" }
                (heat_table(family, &map, cumulative))
            }
        }
    }
}

/// What fell into each bucket from scrape to scrape. A histogram whose count fell began again.
fn steps(buckets: &[(f64, &[Point])], cumulative: bool) -> Vec<HeatStep> {
    let Some((_, widest)) = buckets.last() else {
        return Vec::new();
    };
    let at = |points: &[Point], time: f64| -> f64 {
        let place = points.partition_point(|(at, _)| *at < time);
        match points.get(place) {
            Some((at, value)) if *at == time && scale::drawable(*value) => *value,
            _ => 0.0,
        }
    };
    let counts =
        |time: f64| -> Vec<f64> { buckets.iter().map(|(_, points)| at(points, time)).collect() };
    let mut steps = Vec::with_capacity(widest.len().saturating_sub(1));
    let mut before: Option<(f64, Vec<f64>)> = None;
    for (time, _) in *widest {
        let now = counts(*time);
        if let Some((earlier, then)) = before {
            let restarted = now.iter().zip(&then).any(|(now, then)| now < then);
            let grown: Vec<f64> = match cumulative && !restarted {
                true => now
                    .iter()
                    .zip(&then)
                    .map(|(now, then)| now - then)
                    .collect(),
                false => now.clone(),
            };
            let mut below = 0.0;
            let cells = grown
                .iter()
                .map(|count| {
                    let within = (count - below).max(0.0);
                    below = *count;
                    within
                })
                .collect();
            steps.push(HeatStep {
                from: earlier,
                to: *time,
                cells,
            });
        }
        before = Some((*time, now));
    }
    steps
}

fn heat_table(family: &Family, map: &HeatMap, cumulative: bool) -> Markup {
    let every = map.steps.len().div_ceil(MOMENTS).max(1);
    let rows: Vec<(f64, Vec<f64>)> = map
        .steps
        .chunks(every)
        .map(|group| {
            // Of buckets that count up, what fell into them adds up; of others the last state tells.
            let mut sums = vec![0.0; map.rows.len()];
            let counted = if cumulative {
                group
            } else {
                &group[group.len() - 1..]
            };
            for step in counted {
                for (sum, cell) in sums.iter_mut().zip(&step.cells) {
                    *sum += cell;
                }
            }
            (group[0].from, sums)
        })
        .collect();
    page::table(
        &format!("Observations of {} in each bucket over time", family.name),
        &html! {
            thead { tr {
                th scope="col" { "from (UTC)" }
                @for row in &map.rows { th.number scope="col" { (row) } }
            } }
            tbody {
                @for (at, sums) in &rows {
                    tr {
                        th.time scope="row" { (moment(*at, Precision::Full)) }
                        @for sum in sums { td.number { (number(*sum)) } }
                    }
                }
            }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(text: &str) -> String {
        section(text.as_bytes())
            .expect("the metrics are well-formed")
            .body
            .into_string()
    }

    #[test]
    fn a_counter_is_shown_as_its_rate_and_a_gauge_as_its_value() {
        let body = drawn(
            "# TYPE jobs counter\njobs_total 0 10\njobs_total 60 70\n\
             # TYPE queue gauge\nqueue 5 10\nqueue 7 70\n# EOF\n",
        );
        assert!(body.contains("Shown: rate per second"), "{body}");
        assert!(body.contains("1/s at 00:01:10"), "{body}");
        assert!(body.contains("Shown: value"), "{body}");
    }

    #[test]
    fn of_many_series_those_with_the_widest_spread_are_drawn_and_all_are_listed() {
        let mut text = "# TYPE load gauge\n".to_owned();
        for nth in 0..20 {
            let end = if nth == 13 { 1000 } else { nth };
            text.push_str(&format!(
                "load{{node=\"n{nth}\"}} 0 10\nload{{node=\"n{nth}\"}} {end} 70\n"
            ));
        }
        text.push_str("# EOF\n");
        let body = drawn(&text);
        assert!(
            body.contains("The 8 of 20 series with the widest spread"),
            "{body}"
        );
        assert!(body.contains("All 20 series, by spread"), "{body}");
        let legend = body.split("class=\"legend\"").nth(1).unwrap_or_default();
        let first = legend.split("</li>").next().unwrap_or_default();
        assert!(first.contains("n13"), "{first}");
    }

    #[test]
    fn one_moment_is_a_table_and_its_buckets_are_bars() {
        let body = drawn(
            "# TYPE t histogram\nt_bucket{le=\"1\"} 3\nt_bucket{le=\"+Inf\"} 5\nt_sum 9\nt_count 5\n",
        );
        assert!(body.contains("Observations in each bucket"), "{body}");
        assert!(
            body.contains("<td class=\"number\">2</td>"),
            "5 − 3 are above 1: {body}"
        );
    }

    #[test]
    fn a_heat_map_counts_what_fell_between_two_scrapes_and_survives_a_restart() {
        let low = [(0.0, 10.0), (60.0, 14.0), (120.0, 2.0)];
        let all = [(0.0, 20.0), (60.0, 30.0), (120.0, 3.0)];
        let steps = steps(&[(0.1, &low[..]), (f64::INFINITY, &all[..])], true);
        let cells: Vec<&[f64]> = steps.iter().map(|step| step.cells.as_slice()).collect();
        assert_eq!(cells, [&[4.0, 6.0][..], &[2.0, 1.0]]);
    }

    #[test]
    fn labels_cannot_break_out_of_the_page() {
        let body = drawn(
            "# HELP a <img src=x>\n# TYPE a gauge\na{x=\"</script><script>alert(1)</script>\"} 1\n",
        );
        assert!(
            !body.contains("<script") && !body.contains("<img"),
            "{body}"
        );
    }
}
