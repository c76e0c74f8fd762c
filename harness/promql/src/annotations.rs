//! What Prometheus 3 says beside an answer: warnings and infos.
//!
//! The words are Prometheus's own, so that scripts which expect them can be run.

use std::fmt;

use crate::diagnostics::Span;

/// How much an annotation matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Level {
    /// The answer may be wrong.
    Warning,
    /// The answer may not be what was meant.
    Info,
}

/// One remark about an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Annotation {
    /// Warning or info.
    pub level: Level,
    /// Such as `PromQL info: metric might not be a counter, …`.
    pub message: String,
    /// The part of the query that it is about.
    pub span: Span,
}

impl fmt::Display for Annotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Collects remarks, each once.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    held: Vec<Annotation>,
    muted: bool,
}

impl Notes {
    /// For the dialect that has no annotations.
    pub(crate) fn muted() -> Self {
        Self {
            held: Vec::new(),
            muted: true,
        }
    }

    pub(crate) fn add(&mut self, level: Level, span: Span, text: impl fmt::Display) {
        if self.muted {
            return;
        }
        let kind = match level {
            Level::Warning => "PromQL warning",
            Level::Info => "PromQL info",
        };
        let message = format!("{kind}: {text}");
        if self.held.iter().all(|held| held.message != message) {
            self.held.push(Annotation {
                level,
                message,
                span,
            });
        }
    }

    pub(crate) fn into_sorted(mut self) -> Vec<Annotation> {
        self.held
            .sort_by(|a, b| (a.span.start, &a.message).cmp(&(b.span.start, &b.message)));
        self.held
    }
}
