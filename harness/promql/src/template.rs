//! Templates in the labels and annotations of alerts: the part of Go's `text/template` that rules
//! use, with Prometheus's functions.
//!
//! Text, actions, pipelines, variables, `if`, `with`, `range` with `break` and `continue`, comments,
//! trimmed spaces, Go's comparison and formatting functions, and Prometheus's own. Left out, and
//! refused when a rule file is loaded, are `define`, `template` and `block`, which serve console
//! pages. Numbers print as Go prints them (`1e+06`), and what fails at run time in Prometheus fails
//! here, such as a comparison of `$value` with a whole number.

mod functions;
mod lex;
mod number;
mod parse;
mod run;

use std::fmt;

use crate::Labels;
use crate::value::Sample;

use parse::Node;

/// A template that has been read.
#[derive(Debug, Clone)]
pub struct Template {
    source: String,
    nodes: Vec<Node>,
    asks: bool,
}

/// What a template is filled in with.
#[derive(Debug, Clone, Copy)]
pub struct TemplateData<'a> {
    /// `$labels`, the labels of the alert's series.
    pub labels: &'a Labels,
    /// `$value`, the value of the alert's series.
    pub value: f64,
    /// `$externalLabels`, the labels that the server adds to what it sends.
    pub external_labels: &'a Labels,
    /// `$externalURL`, where people reach the server.
    pub external_url: &'a str,
}

/// Answers the function `query` of a template, or says why it cannot.
pub type Ask<'a> = dyn Fn(&str) -> Result<Vec<Sample>, String> + 'a;

/// What is wrong with a template, and where in its text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} at `{excerpt}`{}", remedy.as_ref().map(|remedy| format!("; {remedy}")).unwrap_or_default())]
pub struct TemplateError {
    /// What is wrong.
    pub what: String,
    /// The text at the place.
    pub excerpt: String,
    /// What to do about it, where more can be said than `what` says.
    pub remedy: Option<String>,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// The first thing that is wrong, as `promtool check rules` would find it.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let parsed = parse::parse(text).map_err(|fault| fault.in_text(text))?;
        Ok(Template {
            source: text.to_owned(),
            nodes: parsed.nodes,
            asks: parsed.asks,
        })
    }

    /// Fills the template in. `ask` answers its queries.
    ///
    /// # Errors
    /// What failed first, where Prometheus would put `<error expanding template: …>`.
    pub fn render(&self, data: TemplateData<'_>, ask: &Ask<'_>) -> Result<String, TemplateError> {
        // Most texts are plain.
        match self.nodes.as_slice() {
            [] => return Ok(String::new()),
            [Node::Text(text)] => return Ok(text.clone()),
            _ => {}
        }
        run::run(&self.nodes, data, ask).map_err(|fault| fault.in_text(&self.source))
    }

    /// Whether it asks queries of its own, so that its text depends on more than labels and value.
    pub fn asks_queries(&self) -> bool {
        self.asks
    }
}

/// The template as it was written.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

/// An error with its place as a byte offset, while the text is at hand.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    at: usize,
    what: String,
    remedy: Option<String>,
}

impl Fault {
    fn new(at: usize, what: impl Into<String>) -> Self {
        Fault {
            at,
            what: what.into(),
            remedy: None,
        }
    }

    fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    fn in_text(self, text: &str) -> TemplateError {
        let rest = text.get(self.at.min(text.len())..).unwrap_or_default();
        let mut excerpt: String = rest
            .chars()
            .take(24)
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        if rest.chars().count() > 24 {
            excerpt.push('…');
        }
        if excerpt.is_empty() {
            excerpt = "the end".to_owned();
        }
        TemplateError {
            what: self.what,
            excerpt,
            remedy: self.remedy,
        }
    }
}

#[cfg(test)]
mod tests;
