//! OTLP/JSON: the wire names and their mapping to the model, in both directions.
//!
//! The structures are read straight from the text and not through a JSON tree, so that an error
//! knows its line and column.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Unexpected, Visitor};
use serde_json::{Value, json};

use super::{
    AttributeValue, Attributes, Event, Link, MAX_SPANS, Scope, Span, SpanId, SpanKind, Status,
    StatusCode, Trace, TraceId, UnixNanos,
};
use crate::ParseError;
use crate::source::json_error;

pub(super) fn spans(text: &str) -> Result<Vec<Span>, ParseError> {
    let mut spans = Vec::new();
    let mut documents =
        serde_json::Deserializer::from_str(text).into_iter::<Message<wire::Traces>>();
    while let Some(document) = documents.next() {
        let document =
            document.map_err(|error| json_error(text, 1, "traces in OTLP/JSON", &error))?;
        for group in document.0.resource_spans.0 {
            let resource = Arc::new(group.resource.0.attributes.0);
            for scoped in group.scope_spans.0 {
                let scope = Arc::new(Scope {
                    name: scoped.scope.0.name.0,
                    version: scoped.scope.0.version.0,
                    attributes: scoped.scope.0.attributes.0,
                });
                for span in scoped.spans.0 {
                    if spans.len() == MAX_SPANS {
                        let (line, column) = position(text, documents.byte_offset());
                        let expected = format!("at most {MAX_SPANS} spans");
                        return Err(ParseError::new(line, column, expected, "one more"));
                    }
                    spans.push(span.0.into_model(&resource, &scope));
                }
            }
        }
    }
    Ok(spans)
}

fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let last = before.rsplit('\n').next().unwrap_or_default();
    (line, last.chars().count() + 1)
}

/// What the messages of `opentelemetry/proto/trace/v1` look like in JSON.
mod wire {
    use serde::Deserialize;

    use super::{
        Attributes, Code, Id, Kind, List, Loose, Message, OptionalId, SpanId, Text, TraceId,
        UnixNanos,
    };

    #[derive(Deserialize)]
    pub(super) struct Traces {
        #[serde(default, rename = "resourceSpans", alias = "resource_spans")]
        pub(super) resource_spans: List<ResourceSpans>,
    }

    #[derive(Deserialize)]
    pub(super) struct ResourceSpans {
        #[serde(default)]
        pub(super) resource: Loose<Resource>,
        #[serde(default, rename = "scopeSpans", alias = "scope_spans")]
        pub(super) scope_spans: List<ScopeSpans>,
    }

    #[derive(Default, Deserialize)]
    pub(super) struct Resource {
        #[serde(default)]
        pub(super) attributes: Loose<Attributes>,
    }

    #[derive(Deserialize)]
    pub(super) struct ScopeSpans {
        #[serde(default)]
        pub(super) scope: Loose<Scope>,
        #[serde(default)]
        pub(super) spans: List<Message<Span>>,
    }

    #[derive(Default, Deserialize)]
    pub(super) struct Scope {
        #[serde(default)]
        pub(super) name: Text,
        #[serde(default)]
        pub(super) version: Text,
        #[serde(default)]
        pub(super) attributes: Loose<Attributes>,
    }

    #[derive(Deserialize)]
    pub(super) struct Span {
        #[serde(rename = "traceId", alias = "trace_id")]
        pub(super) trace_id: Id<TraceId>,
        #[serde(rename = "spanId", alias = "span_id")]
        pub(super) span_id: Id<SpanId>,
        #[serde(default, rename = "parentSpanId", alias = "parent_span_id")]
        pub(super) parent: OptionalId,
        #[serde(default, rename = "traceState", alias = "trace_state")]
        pub(super) trace_state: Text,
        #[serde(default)]
        pub(super) name: Text,
        #[serde(default)]
        pub(super) kind: Loose<Kind>,
        #[serde(default, rename = "startTimeUnixNano", alias = "start_time_unix_nano")]
        pub(super) start: Loose<UnixNanos>,
        #[serde(default, rename = "endTimeUnixNano", alias = "end_time_unix_nano")]
        pub(super) end: Loose<UnixNanos>,
        #[serde(default)]
        pub(super) attributes: Loose<Attributes>,
        #[serde(default)]
        pub(super) events: List<Event>,
        #[serde(default)]
        pub(super) links: List<Link>,
        #[serde(default)]
        pub(super) status: Loose<Status>,
    }

    #[derive(Deserialize)]
    pub(super) struct Event {
        #[serde(default, rename = "timeUnixNano", alias = "time_unix_nano")]
        pub(super) time: Loose<UnixNanos>,
        #[serde(default)]
        pub(super) name: Text,
        #[serde(default)]
        pub(super) attributes: Loose<Attributes>,
    }

    #[derive(Deserialize)]
    pub(super) struct Link {
        #[serde(rename = "traceId", alias = "trace_id")]
        pub(super) trace_id: Id<TraceId>,
        #[serde(rename = "spanId", alias = "span_id")]
        pub(super) span_id: Id<SpanId>,
        #[serde(default)]
        pub(super) attributes: Loose<Attributes>,
    }

    #[derive(Default, Deserialize)]
    pub(super) struct Status {
        #[serde(default)]
        pub(super) code: Loose<Code>,
        #[serde(default)]
        pub(super) message: Text,
    }

    #[derive(Deserialize)]
    pub(super) struct KeyValue {
        #[serde(default)]
        pub(super) key: Text,
        #[serde(default)]
        pub(super) value: Loose<super::AttributeValue>,
    }

    #[derive(Default, Deserialize)]
    pub(super) struct ArrayValue {
        #[serde(default)]
        pub(super) values: List<super::AttributeValue>,
    }

    #[derive(Default, Deserialize)]
    pub(super) struct KeyValueList {
        #[serde(default)]
        pub(super) values: Loose<Attributes>,
    }

    #[derive(Default, Deserialize)]
    pub(super) struct AnyValue {
        #[serde(default, rename = "stringValue", alias = "string_value")]
        pub(super) text: Option<String>,
        #[serde(default, rename = "boolValue", alias = "bool_value")]
        pub(super) truth: Option<bool>,
        #[serde(default, rename = "intValue", alias = "int_value")]
        pub(super) int: Option<super::Number<i64>>,
        #[serde(default, rename = "doubleValue", alias = "double_value")]
        pub(super) double: Option<super::Number<f64>>,
        #[serde(default, rename = "arrayValue", alias = "array_value")]
        pub(super) array: Option<ArrayValue>,
        #[serde(default, rename = "kvlistValue", alias = "kvlist_value")]
        pub(super) map: Option<KeyValueList>,
        #[serde(default, rename = "bytesValue", alias = "bytes_value")]
        pub(super) base64: Option<String>,
    }
}

impl wire::Span {
    fn into_model(self, resource: &Arc<Attributes>, scope: &Arc<Scope>) -> Span {
        let events = self.events.0.into_iter().map(|event| Event {
            time: event.time.0,
            name: event.name.0,
            attributes: event.attributes.0,
        });
        let links = self.links.0.into_iter().map(|link| Link {
            trace_id: link.trace_id.0,
            span_id: link.span_id.0,
            attributes: link.attributes.0,
        });
        Span {
            trace_id: self.trace_id.0,
            span_id: self.span_id.0,
            parent: self.parent.0,
            name: self.name.0,
            kind: self.kind.0.0,
            start: self.start.0,
            end: self.end.0,
            attributes: self.attributes.0,
            status: Status {
                code: self.status.0.code.0.0,
                message: self.status.0.message.0,
            },
            events: events.collect(),
            links: links.collect(),
            trace_state: self.trace_state.0,
            resource: Arc::clone(resource),
            scope: Arc::clone(scope),
        }
    }
}

/// A field whose `null` stands for its default, as the JSON mapping of Protocol Buffers has it.
#[derive(Default)]
struct Loose<T>(T);

impl<'de, T: Deserialize<'de> + Default> Deserialize<'de> for Loose<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(
            Option::<T>::deserialize(deserializer)?.unwrap_or_default(),
        ))
    }
}

/// An object; derived readers would take a list of the fields' values for it as well.
struct Message<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Message<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields))
            }
        }
        deserializer.deserialize_map(Fields(PhantomData)).map(Self)
    }
}

type Text = Loose<String>;
type List<T> = Loose<Vec<T>>;

trait FromHex: Sized {
    const EXPECTED: &'static str;
    fn from_hex(text: &str) -> Option<Self>;
}

impl FromHex for TraceId {
    const EXPECTED: &'static str = "a trace id of 32 hexadecimal digits, not all zero";
    fn from_hex(text: &str) -> Option<Self> {
        Self::from_hex(text)
    }
}

impl FromHex for SpanId {
    const EXPECTED: &'static str = "a span id of 16 hexadecimal digits, not all zero";
    fn from_hex(text: &str) -> Option<Self> {
        Self::from_hex(text)
    }
}

struct Id<T>(T);

impl<'de, T: FromHex> Deserialize<'de> for Id<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_str(HexVisitor(PhantomData))
            .map(Self)
    }
}

struct HexVisitor<T>(PhantomData<T>);

impl<T: FromHex> Visitor<'_> for HexVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::from_hex(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

/// A parent: absent, `null`, empty or all zero for none.
#[derive(Default)]
struct OptionalId(Option<SpanId>);

impl<'de> Deserialize<'de> for OptionalId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
        if text.is_empty() || text == "0000000000000000" {
            return Ok(Self(None));
        }
        HexVisitor(PhantomData)
            .visit_str(&text)
            .map(|id| Self(Some(id)))
    }
}

/// A number, or the same number as a string: JSON cannot hold every whole number of 64 bits.
struct Number<T>(T);

trait JsonNumber: FromStr {
    const EXPECTED: &'static str;
    fn from_u64(value: u64) -> Option<Self>;
    fn from_i64(value: i64) -> Option<Self>;
    fn from_f64(value: f64) -> Option<Self>;
}

impl JsonNumber for u64 {
    const EXPECTED: &'static str = "nanoseconds from 0 to 2^64 - 1, as a number or a string";
    fn from_u64(value: u64) -> Option<Self> {
        Some(value)
    }
    fn from_i64(value: i64) -> Option<Self> {
        value.try_into().ok()
    }
    fn from_f64(value: f64) -> Option<Self> {
        // 2^64 is the first float that does not fit.
        (value.fract() == 0.0 && (0.0..18_446_744_073_709_551_616.0).contains(&value))
            .then_some(value as Self)
    }
}

impl JsonNumber for i64 {
    const EXPECTED: &'static str = "a whole number of 64 bits, as a number or a string";
    fn from_u64(value: u64) -> Option<Self> {
        value.try_into().ok()
    }
    fn from_i64(value: i64) -> Option<Self> {
        Some(value)
    }
    fn from_f64(value: f64) -> Option<Self> {
        let limit = 9_223_372_036_854_775_808.0;
        (value.fract() == 0.0 && (-limit..limit).contains(&value)).then_some(value as Self)
    }
}

impl JsonNumber for f64 {
    const EXPECTED: &'static str = "a number, or \"NaN\", \"Infinity\" or \"-Infinity\"";
    fn from_u64(value: u64) -> Option<Self> {
        Some(value as Self)
    }
    fn from_i64(value: i64) -> Option<Self> {
        Some(value as Self)
    }
    fn from_f64(value: f64) -> Option<Self> {
        Some(value)
    }
}

impl<'de, T: JsonNumber> Deserialize<'de> for Number<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(NumberVisitor(PhantomData))
            .map(Self)
    }
}

struct NumberVisitor<T>(PhantomData<T>);

impl<T: JsonNumber> Visitor<'_> for NumberVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<T, E> {
        T::from_u64(value).ok_or_else(|| E::invalid_value(Unexpected::Unsigned(value), &self))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<T, E> {
        T::from_i64(value).ok_or_else(|| E::invalid_value(Unexpected::Signed(value), &self))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<T, E> {
        T::from_f64(value).ok_or_else(|| E::invalid_value(Unexpected::Float(value), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse()
            .map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
    }
}

impl<'de> Deserialize<'de> for UnixNanos {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Number::<u64>::deserialize(deserializer).map(|number| Self(number.0))
    }
}

const KINDS: [(SpanKind, &str); 6] = [
    (SpanKind::Unspecified, "SPAN_KIND_UNSPECIFIED"),
    (SpanKind::Internal, "SPAN_KIND_INTERNAL"),
    (SpanKind::Server, "SPAN_KIND_SERVER"),
    (SpanKind::Client, "SPAN_KIND_CLIENT"),
    (SpanKind::Producer, "SPAN_KIND_PRODUCER"),
    (SpanKind::Consumer, "SPAN_KIND_CONSUMER"),
];

const CODES: [(StatusCode, &str); 3] = [
    (StatusCode::Unset, "STATUS_CODE_UNSET"),
    (StatusCode::Ok, "STATUS_CODE_OK"),
    (StatusCode::Error, "STATUS_CODE_ERROR"),
];

#[derive(Default)]
struct Kind(SpanKind);

#[derive(Default)]
struct Code(StatusCode);

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EnumVisitor(&KINDS)).map(Self)
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EnumVisitor(&CODES)).map(Self)
    }
}

/// An enumeration by number, as OTLP wants it, or by name, as Protocol Buffers print it.
struct EnumVisitor<T: 'static>(&'static [(T, &'static str)]);

impl<T: Copy + Default> Visitor<'_> for EnumVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = self.0.len() - 1;
        write!(
            f,
            "a number from 0 to {last} or a name such as {}",
            self.0[last].1
        )
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<T, E> {
        // A newer sender may know more kinds; a reader takes those as unspecified.
        let known = usize::try_from(value).ok().and_then(|nth| self.0.get(nth));
        Ok(known.map(|(known, _)| *known).unwrap_or_default())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        self.0
            .iter()
            .find(|(_, name)| *name == text)
            .map(|(known, _)| *known)
            .ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

impl<'de> Deserialize<'de> for Attributes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Attributes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of attributes as {\"key\": …, \"value\": …}")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Attributes, A::Error> {
                let mut attributes = Attributes::default();
                while let Some(pair) = list.next_element::<wire::KeyValue>()? {
                    attributes.0.push((pair.key.0, pair.value.0));
                }
                Ok(attributes)
            }
        }
        deserializer.deserialize_seq(Pairs)
    }
}

impl<'de> Deserialize<'de> for AttributeValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let any = wire::AnyValue::deserialize(deserializer)?;
        let values = [
            any.text.map(Self::Text),
            any.truth.map(Self::Bool),
            any.int.map(|number| Self::Int(number.0)),
            any.double.map(|number| Self::Double(number.0)),
            any.array.map(|array| Self::Array(array.values.0)),
            any.map.map(|map| Self::Map(map.values.0)),
            any.base64.map(Self::Base64),
        ];
        let mut values = values.into_iter().flatten();
        let value = values.next().unwrap_or_default();
        if values.next().is_some() {
            return Err(D::Error::custom("an attribute value of two types at once"));
        }
        Ok(value)
    }
}

/// Traces as one OTLP/JSON document, indented; reading it back gives equal traces.
///
/// Spans that follow each other and share a resource and a scope are grouped.
pub fn to_otlp_json(traces: &[Trace]) -> String {
    let spans: Vec<&Span> = traces.iter().flat_map(|trace| &trace.spans).collect();
    let groups: Vec<Value> = spans
        .chunk_by(|a, b| a.resource == b.resource && a.scope == b.scope)
        .map(|group| {
            let spans: Vec<Value> = group.iter().map(|span| span_json(span)).collect();
            let scope = &group[0].scope;
            json!({
                "resource": { "attributes": attributes_json(&group[0].resource) },
                "scopeSpans": [{
                    "scope": {
                        "name": scope.name,
                        "version": scope.version,
                        "attributes": attributes_json(&scope.attributes),
                    },
                    "spans": spans,
                }],
            })
        })
        .collect();
    format!("{:#}\n", json!({ "resourceSpans": groups }))
}

fn span_json(span: &Span) -> Value {
    let events = span.events.iter().map(|event| {
        json!({
            "timeUnixNano": event.time.0.to_string(),
            "name": event.name,
            "attributes": attributes_json(&event.attributes),
        })
    });
    let links = span.links.iter().map(|link| {
        json!({
            "traceId": link.trace_id.to_string(),
            "spanId": link.span_id.to_string(),
            "attributes": attributes_json(&link.attributes),
        })
    });
    json!({
        "traceId": span.trace_id.to_string(),
        "spanId": span.span_id.to_string(),
        "parentSpanId": span.parent.map(|id| id.to_string()).unwrap_or_default(),
        "traceState": span.trace_state,
        "name": span.name,
        "kind": KINDS.iter().position(|(kind, _)| *kind == span.kind),
        "startTimeUnixNano": span.start.0.to_string(),
        "endTimeUnixNano": span.end.0.to_string(),
        "attributes": attributes_json(&span.attributes),
        "status": {
            "code": CODES.iter().position(|(code, _)| *code == span.status.code),
            "message": span.status.message,
        },
        "events": events.collect::<Vec<_>>(),
        "links": links.collect::<Vec<_>>(),
    })
}

fn attributes_json(attributes: &Attributes) -> Value {
    let pairs = attributes.0.iter();
    pairs
        .map(|(key, value)| json!({ "key": key, "value": value_json(value) }))
        .collect()
}

fn value_json(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::Empty => json!({}),
        AttributeValue::Text(text) => json!({ "stringValue": text }),
        AttributeValue::Bool(truth) => json!({ "boolValue": truth }),
        AttributeValue::Int(number) => json!({ "intValue": number.to_string() }),
        AttributeValue::Double(number) if number.is_finite() => json!({ "doubleValue": number }),
        AttributeValue::Double(number) => {
            let name = match number {
                number if number.is_nan() => "NaN",
                number if *number > 0.0 => "Infinity",
                _ => "-Infinity",
            };
            json!({ "doubleValue": name })
        }
        AttributeValue::Array(values) => {
            let values: Vec<Value> = values.iter().map(value_json).collect();
            json!({ "arrayValue": { "values": values } })
        }
        AttributeValue::Map(map) => json!({ "kvlistValue": { "values": attributes_json(map) } }),
        AttributeValue::Base64(text) => json!({ "bytesValue": text }),
    }
}
