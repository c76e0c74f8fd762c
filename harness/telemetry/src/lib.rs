//! Typed models and parsers for the dumps that an on-call engineer reads.
//!
//! | module | what it reads |
//! |---|---|
//! | [`metrics`] | a scrape: Prometheus text exposition and OpenMetrics text |
//! | [`logs`] | structured logs, one JSON object a line |
//! | [`traces`] | spans in OTLP/JSON, and the trees they form |
//! | [`profiles`] | folded stacks, and pprof with the feature `pprof` |
//! | [`tasks`] | goroutine, Tokio task and thread dumps |
//!
//! The parsers turn text into values and stop there: no quantile, no rate, no diagnosis. Those are
//! what the labs ask for. Nothing here opens a file or a socket either; the caller brings the text.
//!
//! Input is taken to be hostile: every parser returns an error rather than panicking, and holds a
//! documented limit on everything that could grow (see the `MAX_…` constants of each module).

pub mod logs;
pub mod metrics;
pub mod profiles;
mod source;
pub mod tasks;
pub mod traces;

pub use source::ParseError;
