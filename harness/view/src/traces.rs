//! Traces: a waterfall each, whose spans open to their attributes and events.
//!
//! No critical path is marked: to find it is what several labs ask.

use std::collections::HashMap;

use maud::{Markup, html};
use telemetry::ParseError;
use telemetry::traces::{self, Attributes, Span, SpanKind, StatusCode, Trace, UnixNanos};

use crate::chart::MOST_LINES;
use crate::page::{self, Section};
use crate::scale;
use crate::units::{self, Precision, Quantity, Unit, counted, moment};

/// The most traces with a waterfall, and spans in all of them.
const MOST_TRACES: usize = 60;
const MOST_SPANS: usize = 2_500;
/// The most traces in the table of all.
const MOST_ROWS: usize = 500;
/// A longer value of an attribute is cut, in characters.
const MOST_CHARACTERS: usize = 2_000;
/// The most attributes, events or links of one span that are shown.
const MOST_DETAILS: usize = 100;

/// Draws a dump of traces.
///
/// # Errors
/// Where the dump is not in its format.
pub fn section(bytes: &[u8]) -> Result<Section, ParseError> {
    let traces = traces::from_slice(bytes)?;
    let spans: usize = traces.iter().map(|trace| trace.spans.len()).sum();
    let services = Services::of(&traces);
    let drawn = drawn(&traces);
    let facts = vec![
        counted(traces.len(), "trace"),
        counted(spans, "span"),
        counted(services.names.len(), "service"),
    ];
    let body = html! {
        ul.legend aria-label="Services" {
            @for (nth, name) in services.names.iter().enumerate() {
                li { i class={ "dot c" (nth % MOST_LINES) } {} span.name { (name) } }
            }
        }
        @if spans > 12 { (page::filter("Filter spans by name, service or attribute", "spans")) }
        @if traces.len() > 1 { (overview(&traces, &drawn)) }
        @for &nth in &drawn {
            (waterfall(&traces[nth], nth, &services, traces.len() == 1))
        }
        @if drawn.len() < traces.len() {
            p.note {
                "The " (units::count(drawn.len())) " longest of " (units::count(traces.len()))
                " traces are drawn."
            }
        }
    };
    Ok(Section {
        what: "Traces",
        facts,
        body,
    })
}

/// The traces that get a waterfall, in the order of the dump: the longest, as far as they fit.
fn drawn(traces: &[Trace]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..traces.len()).collect();
    order.sort_by_key(|&nth| std::cmp::Reverse(traces[nth].duration()));
    let mut spans = 0;
    let mut drawn: Vec<usize> = order
        .into_iter()
        .take(MOST_TRACES)
        .take_while(|&nth| {
            let fits = spans == 0 || spans + traces[nth].spans.len() <= MOST_SPANS;
            spans += traces[nth].spans.len();
            fits
        })
        .collect();
    drawn.sort_unstable();
    drawn
}

/// The services in the order of their first span, each with a color.
struct Services<'a> {
    names: Vec<&'a str>,
    places: HashMap<&'a str, usize>,
}

const NO_SERVICE: &str = "(no service name)";

impl<'a> Services<'a> {
    fn of(traces: &'a [Trace]) -> Self {
        let mut services = Self {
            names: Vec::new(),
            places: HashMap::new(),
        };
        for span in traces.iter().flat_map(|trace| &trace.spans) {
            let name = span.service().unwrap_or(NO_SERVICE);
            if !services.places.contains_key(name) {
                services.places.insert(name, services.names.len());
                services.names.push(name);
            }
        }
        services
    }

    fn color(&self, span: &Span) -> usize {
        let name = span.service().unwrap_or(NO_SERVICE);
        self.places.get(name).copied().unwrap_or_default() % MOST_LINES
    }
}

fn root(trace: &Trace) -> Option<&Span> {
    trace
        .spans
        .iter()
        .find(|span| span.parent.is_none())
        .or(trace.spans.first())
}

fn errors(trace: &Trace) -> usize {
    trace
        .spans
        .iter()
        .filter(|span| span.status.code == StatusCode::Error)
        .count()
}

fn nanos_of(duration: std::time::Duration) -> String {
    units::nanos(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

fn at(time: UnixNanos) -> String {
    moment(time.0 as f64 / 1e9, Precision::Full)
}

fn overview(traces: &[Trace], drawn: &[usize]) -> Markup {
    html! {
        details open[traces.len() <= 20] {
            summary { "All traces" }
            (page::table(
                "All traces",
                &html! {
                    thead { tr {
                        th scope="col" { "trace" } th scope="col" { "first span" }
                        th scope="col" { "start (UTC)" } th.number scope="col" { "duration" }
                        th.number scope="col" { "spans" } th.number scope="col" { "errors" }
                    } }
                    tbody {
                        @for (nth, trace) in traces.iter().enumerate().take(MOST_ROWS) {
                            tr {
                                th.name scope="row" {
                                    @if drawn.binary_search(&nth).is_ok() {
                                        a href={ "#" (anchor(trace, nth)) } { (trace.id) }
                                    } @else { (trace.id) }
                                }
                                td.name { @if let Some(root) = root(trace) { (cut(&root.name)) } }
                                td.time { (at(trace.start())) }
                                td.number { (nanos_of(trace.duration())) }
                                td.number { (units::count(trace.spans.len())) }
                                td.number { (units::count(errors(trace))) }
                            }
                        }
                    }
                },
            ))
            @if traces.len() > MOST_ROWS {
                p.note { (units::count(traces.len() - MOST_ROWS)) " more are in the dump." }
            }
        }
    }
}

fn anchor(trace: &Trace, nth: usize) -> String {
    format!("trace-{nth}-{}", trace.id)
}

/// A span, how deep it lies, and whether its parent is not in the dump.
struct Row<'a> {
    span: &'a Span,
    depth: usize,
    orphan: bool,
}

/// The spans in the order of their calls; in the order of their starts, and why, if they form no
/// tree.
fn rows(trace: &Trace) -> (Vec<Row<'_>>, Option<String>) {
    match trace.tree() {
        Err(error) => {
            let flat = trace.spans.iter().map(|span| Row {
                span,
                depth: 0,
                orphan: false,
            });
            (flat.collect(), Some(error.to_string()))
        }
        Ok(tree) => {
            let rows = tree.walk().map(|(depth, span)| Row {
                span,
                depth,
                orphan: depth == 0 && span.parent.is_some(),
            });
            (rows.collect(), None)
        }
    }
}

fn waterfall(trace: &Trace, nth: usize, services: &Services<'_>, alone: bool) -> Markup {
    let (rows, problem) = rows(trace);
    let shown = rows.len().min(MOST_SPANS);
    let start = trace.start();
    let whole = trace.duration().as_secs_f64();
    let name = root(trace).map_or("", |span| span.name.as_str());
    let errors = errors(trace);
    let (ticks, step) = time_ticks(whole);
    html! {
        section.trace id=(anchor(trace, nth)) aria-label={ "Trace " (trace.id) } {
            h3 {
                span.name { (cut(name)) } " " span.badge { (nanos_of(trace.duration())) }
                @if errors > 0 { " " span.badge.bad { (counted(errors, "error")) } }
            }
            p.help {
                @if !alone { "trace " } span.name { (trace.id) } ", from " (at(start)) " UTC, "
                (counted(trace.spans.len(), "span"))
            }
            @if let Some(problem) = problem {
                p.problem { "In the order of their starts, for " (problem) "." }
            }
            div.waterfall style={ "--step:" (step) "%" } {
                div.ruler aria-hidden="true" {
                    span {}
                    span.lane {
                        @for (place, label) in &ticks {
                            span.tick style={ "--at:" (percent(*place)) "%" } { (label) }
                        }
                    }
                }
                @for row in &rows[..shown] { (span_row(row, start, whole, services)) }
            }
            @if shown < rows.len() {
                p.note { (units::count(rows.len() - shown)) " more spans are in the dump." }
            }
        }
    }
}

/// Where the ticks of a waterfall stand, as shares of its width, and how far apart in percent.
fn time_ticks(whole: f64) -> (Vec<(f64, String)>, String) {
    if whole <= 0.0 {
        return (vec![(0.0, "0".into())], "100".into());
    }
    let (ticks, step) = scale::ticks(0.0, whole, 5);
    let quantity = Quantity {
        unit: Unit::Seconds,
        per_second: false,
    };
    let scale = quantity.scale(whole);
    let labels = ticks
        .iter()
        .map(|at| {
            let label = units::tick(at * scale.factor, step * scale.factor);
            (at / whole, format!("{label} {}", scale.label))
        })
        .collect();
    (labels, percent(step / whole))
}

/// A share as a number of percent for the style sheet.
fn percent(share: f64) -> String {
    format!("{:.3}", 100.0 * share.clamp(0.0, 1.0))
}

fn span_row(row: &Row<'_>, start: UnixNanos, whole: f64, services: &Services<'_>) -> Markup {
    let span = row.span;
    let place = |time: UnixNanos| match whole {
        whole if whole > 0.0 => time.since(start).as_secs_f64() / whole,
        _ => 0.0,
    };
    let (left, width) = (place(span.start), place(span.end) - place(span.start));
    let failed = span.status.code == StatusCode::Error;
    let service = span.service().unwrap_or(NO_SERVICE);
    let duration = nanos_of(span.duration());
    // Beside its bar, where there is room; else upon it.
    let (class, position) = match (left, left + width) {
        (_, end) if end <= 0.8 => ("dur", format!("left:{}%", percent(end))),
        (start, _) if start >= 0.2 => ("dur", format!("right:{}%", percent(1.0 - start))),
        (_, end) => ("dur inner", format!("right:{}%", percent(1.0 - end))),
    };
    let words = words(span, service);
    html! {
        details.span data-depth=(row.depth) data-words=(words) {
            summary {
                span.label style={ "--depth:" (row.depth.min(16)) } {
                    i class={ "dot c" (services.color(span)) } {}
                    span.name { (cut(&span.name)) }
                    " " small.name { (service) }
                    @if failed { " " small.bad { "error" } }
                    @if row.orphan { " " small { "parent not in the dump" } }
                }
                span.lane {
                    span class={ "bar c" (services.color(span)) @if failed { " failed" } }
                        style={ "left:" (percent(left)) "%;width:" (percent(width.max(0.0))) "%" } {}
                    @for event in span.events.iter().take(MOST_DETAILS) {
                        i.event title=(cut(&event.name)) style={ "left:" (percent(place(event.time))) "%" } {}
                    }
                    span class=(class) style=(position) { (duration) }
                }
            }
            (opened(span, start))
        }
    }
}

/// What the filter looks at.
fn words(span: &Span, service: &str) -> String {
    let mut words = format!("{} {service} {}", span.name, span.span_id);
    for (name, value) in span.attributes.0.iter().take(MOST_DETAILS) {
        words.push_str(&format!(" {name}={}", cut(&value.to_string())));
    }
    words.to_lowercase()
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MOST_CHARACTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn opened(span: &Span, start: UnixNanos) -> Markup {
    let kind = match span.kind {
        SpanKind::Unspecified => None,
        SpanKind::Internal => Some("internal"),
        SpanKind::Server => Some("server"),
        SpanKind::Client => Some("client"),
        SpanKind::Producer => Some("producer"),
        SpanKind::Consumer => Some("consumer"),
    };
    let offset = |time: UnixNanos| format!("+{}", nanos_of(time.since(start)));
    let status = match span.status.code {
        StatusCode::Unset => None,
        StatusCode::Ok => Some("ok".to_owned()),
        StatusCode::Error if span.status.message.is_empty() => Some("error".to_owned()),
        StatusCode::Error => Some(format!("error: {}", cut(&span.status.message))),
    };
    html! {
        div.opened {
            dl {
                dt { "start" } dd { (offset(span.start)) ", " (at(span.start)) " UTC" }
                dt { "duration" } dd {
                    (nanos_of(span.duration()))
                    @if span.end < span.start { ", ends before it starts" }
                }
                dt { "span" } dd.name { (span.span_id) }
                @if let Some(parent) = span.parent { dt { "parent" } dd.name { (parent) } }
                @if let Some(kind) = kind { dt { "kind" } dd { (kind) } }
                @if let Some(status) = status { dt { "status" } dd { (status) } }
                (attributes(&span.attributes))
            }
            @if !span.events.is_empty() {
                h4 { "Events" }
                dl {
                    @for event in span.events.iter().take(MOST_DETAILS) {
                        dt { (offset(event.time)) }
                        dd { span.name { (cut(&event.name)) } dl { (attributes(&event.attributes)) } }
                    }
                }
                (more(span.events.len(), "event"))
            }
            @if !span.links.is_empty() {
                h4 { "Links" }
                dl {
                    @for link in span.links.iter().take(MOST_DETAILS) {
                        dt { "span" }
                        dd { span.name { (link.span_id) " of trace " (link.trace_id) } dl { (attributes(&link.attributes)) } }
                    }
                }
                (more(span.links.len(), "link"))
            }
            @if !span.resource.0.is_empty() || !span.scope.name.is_empty() {
                h4 { "Process" }
                dl {
                    (attributes(&span.resource))
                    @if !span.scope.name.is_empty() {
                        dt { "library" } dd.name { (span.scope.name) " " (span.scope.version) }
                    }
                }
            }
        }
    }
}

fn more(all: usize, what: &str) -> Markup {
    html! {
        @if all > MOST_DETAILS {
            p.note { (counted(all - MOST_DETAILS, what)) " more in the dump." }
        }
    }
}

fn attributes(attributes: &Attributes) -> Markup {
    html! {
        @for (name, value) in attributes.0.iter().take(MOST_DETAILS) {
            dt.name { (cut(name)) } dd.name { (cut(&value.to_string())) }
        }
        @if attributes.0.len() > MOST_DETAILS {
            dt {} dd { (units::count(attributes.0.len() - MOST_DETAILS)) " more in the dump" }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(spans: &[(&str, &str, u64, u64)]) -> Vec<u8> {
        let spans: Vec<String> = spans
            .iter()
            .map(|(id, parent, start, end)| {
                format!(
                    r#"{{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"{id:0>16}",
                    "parentSpanId":"{parent}","name":"op-{id}",
                    "startTimeUnixNano":"{start}","endTimeUnixNano":"{end}"}}"#
                )
            })
            .collect();
        format!(
            r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{}]}}]}}]}}"#,
            spans.join(",")
        )
        .into_bytes()
    }

    #[test]
    fn spans_stand_below_their_parents_in_the_order_of_their_starts() {
        let bytes = trace(&[
            ("1", "", 0, 100),
            ("3", "0000000000000001", 50, 60),
            ("2", "0000000000000001", 10, 40),
            ("4", "0000000000000002", 20, 30),
            ("5", "00000000000000ff", 70, 80),
        ]);
        let traces = traces::from_slice(&bytes).expect("a trace");
        let (rows, problem) = rows(&traces[0]);
        let order: Vec<(&str, usize, bool)> = rows
            .iter()
            .map(|row| (row.span.name.as_str(), row.depth, row.orphan))
            .collect();
        assert_eq!(
            order,
            [
                ("op-1", 0, false),
                ("op-2", 1, false),
                ("op-4", 2, false),
                ("op-3", 1, false),
                ("op-5", 0, true),
            ]
        );
        assert_eq!(problem, None);
    }

    #[test]
    fn spans_that_are_each_others_ancestors_are_shown_flat_with_the_reason() {
        let bytes = trace(&[
            ("1", "0000000000000002", 0, 10),
            ("2", "0000000000000001", 0, 10),
        ]);
        let body = section(&bytes).expect("a trace").body.into_string();
        assert!(
            body.contains("each other&#39;s ancestors") || body.contains("each other's ancestors"),
            "{body}"
        );
        assert_eq!(body.matches("<details class=\"span\"").count(), 2);
    }

    #[test]
    fn a_long_chain_of_calls_does_not_overflow() {
        let ids: Vec<(String, String)> = (1..2_000)
            .map(|nth| (format!("{nth:016x}"), format!("{:016x}", nth - 1)))
            .collect();
        let spans: Vec<(&str, &str, u64, u64)> = ids
            .iter()
            .enumerate()
            .map(|(nth, (id, parent))| {
                (
                    id.as_str(),
                    if nth == 0 { "" } else { parent.as_str() },
                    0,
                    10,
                )
            })
            .collect();
        let body = section(&trace(&spans)).expect("a trace").body.into_string();
        assert!(body.contains("--depth:16"), "deep spans stay on the screen");
    }

    #[test]
    fn the_longest_traces_are_drawn_and_the_others_counted() {
        let mut text = String::new();
        for nth in 1..=100 {
            text.push_str(&format!(
                r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"{nth:032x}","spanId":"{nth:016x}","name":"op","startTimeUnixNano":"0","endTimeUnixNano":"{nth}"}}]}}]}}]}}"#
            ));
            text.push('\n');
        }
        let traces = traces::parse(&text).expect("traces");
        let drawn = drawn(&traces);
        assert_eq!(drawn.len(), MOST_TRACES);
        assert!(drawn.contains(&99) && !drawn.contains(&0));
        let body = section(text.as_bytes()).expect("traces").body.into_string();
        assert!(body.contains("The 60 longest of 100 traces"), "{body}");
    }
}
