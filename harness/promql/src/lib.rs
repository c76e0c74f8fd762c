//! PromQL over series in memory, in virtual time.
//!
//! Two dialects where Prometheus's versions differ ([`Dialect`]): 2.42 and 3.x. Floats and classic
//! histograms; native histograms are not supported. Nothing here reads a clock, opens a file or a
//! socket, or starts a thread: a query over the same storage has the same answer, always.
//!
//! ```
//! use promql::{Engine, Labels, Query, Storage};
//!
//! let mut storage = Storage::new();
//! for minute in 0..=10 {
//!     let labels = Labels::named("requests_total", [("job", "api")]);
//!     storage.append(labels, minute * 60_000, minute as f64 * 120.0)?;
//! }
//! let query = Query::parse("sum by (job) (rate(requests_total[5m]))")?;
//! let answer = Engine::default().instant(&storage, &query, 600_000)?;
//! assert_eq!(answer.value.single(), Some(2.0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Bounds
//!
//! Queries come from learners, so none may hang or crash the caller: text ([`MAX_QUERY_BYTES`]),
//! nesting ([`MAX_NESTING`]), steps ([`MAX_STEPS`]), values held ([`MAX_SAMPLES`]) and samples looked
//! at are bounded, and each bound is an error.

mod annotations;
pub mod dashboard;
mod diagnostics;
mod dialect;
pub mod duration;
mod eval;
mod functions;
mod labels;
pub mod lint;
mod locate;
mod query;
pub mod routing;
pub mod rules;
pub mod script;
mod series;
pub mod template;
mod token;
mod tree;
mod value;
pub mod yaml;

pub use annotations::{Annotation, Level};
pub use diagnostics::{Diagnostic, Span};
pub use dialect::{Dialect, UnknownDialect};
pub use eval::{Engine, EvalError, MAX_SAMPLES, MAX_STEPS};
pub use labels::{BUCKET_BOUND, Labels, METRIC_NAME};
pub use lint::lint;
pub use query::Query;
pub use series::{AppendError, LoadError, STALE, Series, Storage, is_stale};
pub use token::{MAX_NESTING, MAX_QUERY_BYTES};
pub use value::{Answer, Decimal, Point, Row, Sample, Value, ValueType};
