//! Traces in OTLP/JSON, as collectors write and receive them.
//!
//! For reading spans and the tree they form. Not an exporter, and without critical paths or
//! sampling: those are for the labs. One JSON document is read, or several after each other (JSON
//! lines); fields that are unknown are passed over, field names may be in `lowerCamelCase` or in
//! `snake_case`, as the JSON mapping of Protocol Buffers demands of every reader.
//!
//! ```
//! let traces = telemetry::traces::parse(
//!     r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{
//!         "traceId":"5b8efff798038103d269b633813fc60c", "spanId":"eee19b7ec3c1b174",
//!         "name":"checkout", "startTimeUnixNano":"0", "endTimeUnixNano":850000000
//!     }]}]}]}"#,
//! )?;
//! let tree = traces[0].tree()?;
//! assert_eq!(tree.roots().next().map(|span| span.duration().as_millis()), Some(850));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod otlp;
mod tree;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::ParseError;
use crate::source::{check_size, decode};

pub use otlp::to_otlp_json;
pub use tree::{Tree, TreeError};

/// The largest text that is read, in bytes.
pub const MAX_TEXT_BYTES: usize = 64 << 20;
/// The most spans in one text.
pub const MAX_SPANS: usize = 500_000;

/// Reads spans and groups them by trace, in the order in which the traces first appear.
///
/// # Errors
/// The first place that is no JSON, that no span can be made of, or that passes a limit of this
/// module. Nesting is limited to 128.
pub fn parse(text: &str) -> Result<Vec<Trace>, ParseError> {
    check_size(text.as_bytes(), MAX_TEXT_BYTES)?;
    let mut order: Vec<Trace> = Vec::new();
    let mut by_id: HashMap<TraceId, usize> = HashMap::new();
    for span in otlp::spans(text)? {
        let id = span.trace_id;
        let index = *by_id.entry(id).or_insert_with(|| {
            order.push(Trace {
                id,
                spans: Vec::new(),
            });
            order.len() - 1
        });
        order[index].spans.push(span);
    }
    for trace in &mut order {
        trace.spans.sort_by_key(|span| span.start);
    }
    Ok(order)
}

/// Reads spans from bytes that may not even be UTF-8.
///
/// # Errors
/// As [`parse`], and at the first byte that is not UTF-8.
pub fn from_slice(bytes: &[u8]) -> Result<Vec<Trace>, ParseError> {
    check_size(bytes, MAX_TEXT_BYTES)?;
    parse(decode(bytes)?)
}

macro_rules! id {
    ($name:ident, $bytes:literal, $about:literal) => {
        #[doc = $about]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// `None` if every byte is zero, which stands for no id.
            pub fn from_bytes(bytes: [u8; $bytes]) -> Option<Self> {
                (bytes != [0; $bytes]).then_some(Self(bytes))
            }

            /// Reads hexadecimal digits of either case; `None` if they are too few, too many or
            /// all zero.
            pub fn from_hex(text: &str) -> Option<Self> {
                let digits = text.as_bytes();
                if digits.len() != 2 * $bytes {
                    return None;
                }
                let mut bytes = [0; $bytes];
                for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
                    let high = char::from(pair[0]).to_digit(16)?;
                    let low = char::from(pair[1]).to_digit(16)?;
                    *byte = (high * 16 + low) as u8;
                }
                Self::from_bytes(bytes)
            }

            /// The bytes, in network order.
            pub fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }

        /// Lower-case hexadecimal digits.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

id!(
    TraceId,
    16,
    "Identifies a trace: 16 bytes, not all of them zero."
);
id!(
    SpanId,
    8,
    "Identifies a span within its trace: 8 bytes, not all of them zero."
);

/// A point in time, in nanoseconds since the Unix epoch; 0 where the text tells none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixNanos(pub u64);

impl UnixNanos {
    /// The time from `earlier` to this, or zero if this is before it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// The spans of one trace that a text holds; there may be others elsewhere.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Trace {
    /// The id that all the spans share.
    pub id: TraceId,
    /// Sorted by start; equal starts in the order of the text.
    pub spans: Vec<Span>,
}

impl Trace {
    /// The start of the earliest span.
    pub fn start(&self) -> UnixNanos {
        self.spans
            .iter()
            .map(|span| span.start)
            .min()
            .unwrap_or_default()
    }

    /// The end of the latest span.
    pub fn end(&self) -> UnixNanos {
        self.spans
            .iter()
            .map(|span| span.end)
            .max()
            .unwrap_or_default()
    }

    /// From the earliest start to the latest end.
    pub fn duration(&self) -> Duration {
        self.end().since(self.start())
    }

    /// The span with this id.
    pub fn span(&self, id: SpanId) -> Option<&Span> {
        self.spans.iter().find(|span| span.span_id == id)
    }

    /// Who called whom.
    ///
    /// # Errors
    /// Two spans share an id, or spans are each other's ancestors.
    pub fn tree(&self) -> Result<Tree<'_>, TreeError> {
        Tree::build(self)
    }
}

/// One operation of a trace.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Span {
    /// The trace it belongs to.
    pub trace_id: TraceId,
    /// Its own id, unique within the trace.
    pub span_id: SpanId,
    /// The span that caused it; `None` for a root.
    pub parent: Option<SpanId>,
    /// The operation.
    pub name: String,
    /// The side of a call it stands for.
    pub kind: SpanKind,
    /// When it started.
    pub start: UnixNanos,
    /// When it ended.
    pub end: UnixNanos,
    /// What it says about itself.
    pub attributes: Attributes,
    /// How it ended.
    pub status: Status,
    /// What happened within it, in the order of the text.
    pub events: Vec<Event>,
    /// Spans that it belongs with other than by cause.
    pub links: Vec<Link>,
    /// The W3C `tracestate`, as written.
    pub trace_state: String,
    /// The process that made it, shared by its spans.
    pub resource: Arc<Attributes>,
    /// The library that made it, shared by its spans.
    pub scope: Arc<Scope>,
}

impl Span {
    /// A root span with neither attributes nor events, of an unknown process.
    pub fn new(
        trace_id: TraceId,
        span_id: SpanId,
        name: &str,
        start: UnixNanos,
        end: UnixNanos,
    ) -> Self {
        Self {
            trace_id,
            span_id,
            parent: None,
            name: name.to_owned(),
            kind: SpanKind::default(),
            start,
            end,
            attributes: Attributes::default(),
            status: Status::default(),
            events: Vec::new(),
            links: Vec::new(),
            trace_state: String::new(),
            resource: Arc::default(),
            scope: Arc::default(),
        }
    }

    /// From start to end; zero if it ends before it starts, as clocks that disagree can make it.
    pub fn duration(&self) -> Duration {
        self.end.since(self.start)
    }

    /// The `service.name` of its process.
    pub fn service(&self) -> Option<&str> {
        self.resource.str("service.name")
    }
}

/// The side of a call that a span stands for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum SpanKind {
    /// Not told.
    #[default]
    Unspecified,
    /// Within a process.
    Internal,
    /// The called side of a call.
    Server,
    /// The calling side of a call.
    Client,
    /// The sender of a message.
    Producer,
    /// The receiver of a message.
    Consumer,
}

/// How an operation ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Status {
    /// Whether it failed.
    pub code: StatusCode,
    /// Why, for an error.
    pub message: String,
}

impl Status {
    /// A failure and its reason.
    pub fn error(message: &str) -> Self {
        Self {
            code: StatusCode::Error,
            message: message.to_owned(),
        }
    }
}

/// Whether an operation failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum StatusCode {
    /// Nobody said; by convention it did not fail.
    #[default]
    Unset,
    /// Said to have gone well.
    Ok,
    /// Failed.
    Error,
}

/// Something that happened at one moment of a span.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Event {
    /// When.
    pub time: UnixNanos,
    /// What.
    pub name: String,
    /// More about it.
    pub attributes: Attributes,
}

impl Event {
    /// An event without attributes.
    pub fn new(time: UnixNanos, name: &str) -> Self {
        Self {
            time,
            name: name.to_owned(),
            attributes: Attributes::default(),
        }
    }
}

/// A reference to a span of this or another trace.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Link {
    /// The other span's trace.
    pub trace_id: TraceId,
    /// The other span.
    pub span_id: SpanId,
    /// Why they belong together.
    pub attributes: Attributes,
}

impl Link {
    /// A link without attributes.
    pub fn new(trace_id: TraceId, span_id: SpanId) -> Self {
        Self {
            trace_id,
            span_id,
            attributes: Attributes::default(),
        }
    }
}

/// The library that made a span.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Scope {
    /// Such as the name of a crate.
    pub name: String,
    /// Its version, or empty.
    pub version: String,
    /// More about it.
    pub attributes: Attributes,
}

/// Named values, in the order of the text. Of a name given twice, lookups see the first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Attributes(pub Vec<(String, AttributeValue)>);

impl Attributes {
    /// The value of the attribute `name`.
    pub fn get(&self, name: &str) -> Option<&AttributeValue> {
        let (_, value) = self.0.iter().find(|(held, _)| held == name)?;
        Some(value)
    }

    /// The attribute `name`, if it is a text.
    pub fn str(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            AttributeValue::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The attribute `name`, if it is a whole number.
    pub fn i64(&self, name: &str) -> Option<i64> {
        match self.get(name)? {
            AttributeValue::Int(number) => Some(*number),
            _ => None,
        }
    }

    /// The attribute `name`, if it is a number of either type.
    pub fn f64(&self, name: &str) -> Option<f64> {
        match self.get(name)? {
            AttributeValue::Int(number) => Some(*number as f64),
            AttributeValue::Double(number) => Some(*number),
            _ => None,
        }
    }

    /// The attribute `name`, if it is a truth value.
    pub fn bool(&self, name: &str) -> Option<bool> {
        match self.get(name)? {
            AttributeValue::Bool(truth) => Some(*truth),
            _ => None,
        }
    }

    /// Appends an attribute.
    pub fn push(&mut self, name: &str, value: AttributeValue) {
        self.0.push((name.to_owned(), value));
    }
}

/// The value of an attribute.
///
/// Equality takes NaN as equal to NaN.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum AttributeValue {
    /// An `AnyValue` without a value.
    #[default]
    Empty,
    /// `stringValue`.
    Text(String),
    /// `boolValue`.
    Bool(bool),
    /// `intValue`.
    Int(i64),
    /// `doubleValue`.
    Double(f64),
    /// `arrayValue`.
    Array(Vec<AttributeValue>),
    /// `kvlistValue`.
    Map(Attributes),
    /// `bytesValue`, still in the Base64 of the text.
    Base64(String),
}

impl PartialEq for AttributeValue {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Empty, Self::Empty) => true,
            (Self::Text(a), Self::Text(b)) | (Self::Base64(a), Self::Base64(b)) => a == b,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Double(a), Self::Double(b)) => a == b || (a.is_nan() && b.is_nan()),
            (Self::Array(a), Self::Array(b)) => a == b,
            (Self::Map(a), Self::Map(b)) => a == b,
            _ => false,
        }
    }
}

/// A text as it is, a number as digits, a list or map as `[…]` or `{…}`.
impl fmt::Display for AttributeValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => Ok(()),
            Self::Text(text) | Self::Base64(text) => f.write_str(text),
            Self::Bool(truth) => write!(f, "{truth}"),
            Self::Int(number) => write!(f, "{number}"),
            Self::Double(number) => write!(f, "{number}"),
            Self::Array(values) => {
                f.write_str("[")?;
                for (nth, value) in values.iter().enumerate() {
                    write!(f, "{}{value}", if nth == 0 { "" } else { ", " })?;
                }
                f.write_str("]")
            }
            Self::Map(attributes) => {
                f.write_str("{")?;
                for (nth, (name, value)) in attributes.0.iter().enumerate() {
                    write!(f, "{}{name}: {value}", if nth == 0 { "" } else { ", " })?;
                }
                f.write_str("}")
            }
        }
    }
}
