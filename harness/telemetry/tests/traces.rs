//! Traces in OTLP/JSON: every way to write a span, and the trees they form.

use std::sync::Arc;

use proptest::prelude::*;
use telemetry::traces::{
    self, AttributeValue, Attributes, Event, Link, Span, SpanId, SpanKind, Status, StatusCode,
    Trace, TraceId, TreeError, UnixNanos, to_otlp_json,
};

const CHECKOUT: &str = include_str!("data/checkout.json");

fn id(number: u64) -> SpanId {
    SpanId::from_bytes(number.to_be_bytes()).unwrap()
}

fn only(text: &str) -> Trace {
    let mut traces = traces::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(traces.len(), 1, "{text}");
    traces.remove(0)
}

/// One span, as `fields` of JSON.
fn document(spans: &[String]) -> String {
    format!(
        "{{\"resourceSpans\":[{{\"scopeSpans\":[{{\"spans\":[{}]}}]}}]}}",
        spans.join(",")
    )
}

fn span(number: u64, parent: u64) -> String {
    let parent = match parent {
        0 => String::new(),
        parent => format!(",\"parentSpanId\":\"{parent:016x}\""),
    };
    format!(
        "{{\"traceId\":\"{:032x}\",\"spanId\":\"{number:016x}\",\"name\":\"s{number}\"{parent}}}",
        7
    )
}

#[test]
fn the_checkout_trace_is_read_whole_and_forms_a_tree() {
    let trace = only(CHECKOUT);
    assert_eq!(trace.id.to_string(), "5b8efff798038103d269b633813fc60c");
    assert_eq!(trace.duration().as_millis(), 850);
    let tree = trace.tree().unwrap();
    let shown: Vec<(usize, &str, u128)> = tree
        .walk()
        .map(|(depth, span)| (depth, span.name.as_str(), span.duration().as_millis()))
        .collect();
    assert_eq!(
        shown,
        [
            (0, "POST /checkout", 850),
            (1, "validate_cart", 12),
            (2, "db.query", 10),
            (1, "check_inventory", 320),
            (1, "process_payment", 280),
        ]
    );
    let query = trace.span(id(5)).unwrap();
    assert_eq!(query.kind, SpanKind::Client);
    assert_eq!(query.attributes.i64("rows"), Some(3));
    assert_eq!(query.service(), Some("shop"));
    assert_eq!(query.scope.version, "1.2.0");
    assert_eq!(
        tree.parent(id(5)).map(|span| &*span.name),
        Some("validate_cart")
    );
    assert_eq!(trace.span(id(1)).unwrap().status.code, StatusCode::Ok);
}

#[test]
fn every_spelling_of_a_span_gives_the_same_span() {
    let camel = "{\"resourceSpans\":[{\"resource\":null,\"scopeSpans\":[{\"spans\":[{\
        \"traceId\":\"0000000000000000000000000000000A\",\"spanId\":\"00000000000000ff\",\"parentSpanId\":\"\",\
        \"startTimeUnixNano\":\"1\",\"endTimeUnixNano\":\"18446744073709551615\",\"kind\":3,\
        \"status\":{\"code\":2,\"message\":\"x\"},\"flags\":256,\"events\":null,\
        \"attributes\":[{\"key\":\"a\",\"value\":{\"intValue\":\"-9223372036854775808\"}},\
        {\"key\":\"b\",\"value\":{\"doubleValue\":\"NaN\"}},{\"key\":\"c\",\"value\":{}},\
        {\"key\":\"d\",\"value\":{\"kvlistValue\":{\"values\":[{\"key\":\"e\",\"value\":{\"arrayValue\":{\"values\":[{\"boolValue\":true}]}}}]}}}]\
        }]}]}]}";
    let snake = "{\"resource_spans\":[{\"scope_spans\":[{\"scope\":{},\"spans\":[{\
        \"trace_id\":\"0000000000000000000000000000000a\",\"span_id\":\"00000000000000FF\",\"parent_span_id\":null,\
        \"start_time_unix_nano\":1,\"end_time_unix_nano\":18446744073709551615,\"kind\":\"SPAN_KIND_CLIENT\",\
        \"status\":{\"code\":\"STATUS_CODE_ERROR\",\"message\":\"x\"},\"new_field\":[{}],\
        \"attributes\":[{\"key\":\"a\",\"value\":{\"int_value\":-9223372036854775808}},\
        {\"key\":\"b\",\"value\":{\"double_value\":\"NaN\"}},{\"key\":\"c\"},\
        {\"key\":\"d\",\"value\":{\"kvlist_value\":{\"values\":[{\"key\":\"e\",\"value\":{\"array_value\":{\"values\":[{\"bool_value\":true}]}}}]}}}]\
        }]}]}]}";
    let (camel, snake) = (only(camel), only(snake));
    assert_eq!(camel, snake);
    let span = &camel.spans[0];
    assert_eq!(span.status, Status::error("x"));
    assert_eq!(span.end, UnixNanos(u64::MAX));
    assert_eq!(
        span.attributes.get("d").map(ToString::to_string).as_deref(),
        Some("{e: [true]}")
    );
}

#[test]
fn documents_after_each_other_are_one_text_and_traces_keep_their_order() {
    let other = span(3, 0).replace(&format!("{:032x}", 7), &format!("{:032x}", 9));
    let text = format!(
        "{}\n{}\n{}\n",
        document(&[span(1, 0)]),
        document(&[other]),
        document(&[span(2, 1)])
    );
    let traces = traces::parse(&text).unwrap();
    let sizes: Vec<usize> = traces.iter().map(|trace| trace.spans.len()).collect();
    assert_eq!(sizes, [2, 1]);
    assert!(traces::parse("").unwrap().is_empty());
}

#[test]
fn a_span_whose_parent_is_elsewhere_is_an_orphan() {
    let trace = only(&document(&[span(1, 0), span(2, 9), span(3, 2)]));
    let tree = trace.tree().unwrap();
    let names = |spans: &mut dyn Iterator<Item = &Span>| -> Vec<String> {
        spans.map(|span| span.name.clone()).collect()
    };
    assert_eq!(names(&mut tree.roots()), ["s1"]);
    assert_eq!(names(&mut tree.orphans()), ["s2"]);
    assert_eq!(names(&mut tree.children(id(2))), ["s3"]);
    assert_eq!(tree.walk().count(), 3);
}

#[test]
fn spans_that_form_no_tree_are_an_error_that_names_them() {
    let cycle = only(&document(&[
        span(1, 0),
        span(5, 4),
        span(2, 4),
        span(3, 2),
        span(4, 3),
    ]));
    assert_eq!(
        cycle.tree().unwrap_err(),
        TreeError::Cycle(vec![id(2), id(4), id(3)])
    );
    let own_parent = only(&document(&[span(6, 6)]));
    assert_eq!(
        own_parent.tree().unwrap_err().to_string(),
        "the spans 0000000000000006 are each other's ancestors"
    );
    let twice = only(&document(&[span(1, 0), span(1, 0)]));
    assert!(matches!(twice.tree(), Err(TreeError::Duplicate { .. })));
}

#[test]
fn a_text_that_holds_no_span_where_one_should_be_is_refused_where_it_stands() {
    let good = document(&[span(1, 0)]);
    let cases = [
        (
            good.replace("\"spanId\":\"0000000000000001\"", "\"spanId\":\"01\""),
            "a span id of 16 hexadecimal digits",
        ),
        (
            good.replace(&format!("{:032x}", 7), &"0".repeat(32)),
            "a trace id of 32 hexadecimal digits, not all zero",
        ),
        (
            good.replace("\"name\":", "\"startTimeUnixNano\":-1,\"name\":"),
            "nanoseconds from 0 to 2^64 - 1",
        ),
        (
            good.replace("\"name\":", "\"startTimeUnixNano\":\"soon\",\"name\":"),
            "nanoseconds from 0 to 2^64 - 1",
        ),
        (
            good.replace("\"name\":", "\"kind\":\"X\",\"name\":"),
            "a name such as SPAN_KIND_CONSUMER",
        ),
        (
            good.replace(
                "\"name\":",
                "\"attributes\":[{\"value\":{\"boolValue\":true,\"intValue\":1}}],\"name\":",
            ),
            "two types at once",
        ),
        (
            good.replace("\"spanId\"", "\"spanID\""),
            "missing field `spanId`",
        ),
        ("[]".to_owned(), "invalid"),
    ];
    for (text, message) in cases {
        let error = traces::parse(&format!("{good}\n{text}")).unwrap_err();
        assert_eq!(error.line, 2, "{error}\n{text}");
        assert!(error.to_string().contains(message), "{error}\n{text}");
    }
}

#[test]
fn nesting_beyond_the_limit_is_an_error_and_not_a_crash() {
    let deep = "{\"arrayValue\":{\"values\":[".repeat(50_000);
    let text =
        document(
            &[span(1, 0).replace("\"name\":", &format!("\"attributes\":[{{\"value\":{deep}"))],
        );
    let error = traces::parse(&text).unwrap_err().to_string();
    assert!(error.contains("recursion limit"), "{error}");
}

fn values() -> impl Strategy<Value = AttributeValue> {
    let leaf = prop_oneof![
        Just(AttributeValue::Empty),
        any::<String>().prop_map(AttributeValue::Text),
        any::<bool>().prop_map(AttributeValue::Bool),
        any::<i64>().prop_map(AttributeValue::Int),
        proptest::num::f64::ANY.prop_map(AttributeValue::Double),
        "[A-Za-z0-9+/]{4}".prop_map(AttributeValue::Base64),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(AttributeValue::Array),
            proptest::collection::vec((any::<String>(), inner), 0..3)
                .prop_map(|pairs| AttributeValue::Map(Attributes(pairs))),
        ]
    })
}

fn attributes() -> impl Strategy<Value = Attributes> {
    proptest::collection::vec((any::<String>(), values()), 0..3).prop_map(Attributes)
}

fn spans() -> impl Strategy<Value = Span> {
    (
        (
            1u8..3,
            1u64..,
            proptest::option::of(1u64..),
            any::<u64>(),
            any::<u64>(),
        ),
        (
            any::<String>(),
            attributes(),
            attributes(),
            0usize..6,
            any::<String>(),
        ),
    )
        .prop_map(
            |((trace, number, parent, start, end), (name, own, resource, kind, message))| {
                let trace = TraceId::from_bytes([trace; 16]).unwrap();
                let mut span =
                    Span::new(trace, id(number), &name, UnixNanos(start), UnixNanos(end));
                let mut event = Event::new(UnixNanos(end), &message);
                event.attributes = own.clone();
                let mut link = Link::new(trace, id(number));
                link.attributes = own.clone();
                span.events.push(event);
                span.links.push(link);
                span.parent = parent.map(id);
                span.attributes = own;
                span.resource = Arc::new(resource);
                span.kind = [
                    SpanKind::Unspecified,
                    SpanKind::Internal,
                    SpanKind::Server,
                    SpanKind::Client,
                    SpanKind::Producer,
                    SpanKind::Consumer,
                ][kind];
                span.status = Status::error(&message);
                span
            },
        )
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = traces::from_slice(&bytes);
    }

    #[test]
    fn every_span_is_in_the_tree_once_or_there_is_a_reason(edges in proptest::collection::vec((1u64..9, 0u64..12), 0..9)) {
        let spans: Vec<String> = edges.iter().map(|&(number, parent)| span(number, parent)).collect();
        let Some(trace) = traces::parse(&document(&spans)).unwrap().pop() else { return Ok(()) };
        match trace.tree() {
            Ok(tree) => prop_assert_eq!(tree.walk().count(), trace.spans.len()),
            Err(TreeError::Cycle(ids)) => {
                for (nth, id) in ids.iter().enumerate() {
                    let parent = trace.span(*id).and_then(|span| span.parent);
                    prop_assert_eq!(parent, Some(ids[(nth + 1) % ids.len()]));
                }
            }
            Err(_) => {
                let mut numbers: Vec<u64> = edges.iter().map(|edge| edge.0).collect();
                numbers.sort_unstable();
                prop_assert!(numbers.windows(2).any(|pair| pair[0] == pair[1]));
            }
        }
    }
}

proptest! {
    // Each case holds several documents' worth of arbitrary values.
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_spans_survive_being_printed(spans in proptest::collection::vec(spans(), 0..5)) {
        let mut printed = String::new();
        for span in &spans {
            let mut trace = only(&document(&[self::span(1, 0)]));
            trace.spans = vec![span.clone()];
            printed.push_str(&to_otlp_json(&[trace]));
        }
        let traces = traces::parse(&printed).unwrap();
        let mut read: Vec<&Span> = traces.iter().flat_map(|trace| &trace.spans).collect();
        let mut wanted: Vec<&Span> = spans.iter().collect();
        let first = |span: &&Span| spans.iter().position(|other| other.trace_id == span.trace_id);
        wanted.sort_by_key(|span| (first(span), span.start));
        read.sort_by_key(|span| (first(span), span.start));
        prop_assert_eq!(read, wanted);
        prop_assert_eq!(traces::parse(&to_otlp_json(&traces)), Ok(traces));
    }
}
