//! Label sets as queries need them: with the metric's name among the labels, cheap to clone.
//!
//! Not for reading scrapes: that is `telemetry::metrics::Labels`, which keeps the name apart and
//! refuses names that an exposition could not hold.

use std::fmt;
use std::sync::Arc;

/// The label that holds the metric's name.
pub const METRIC_NAME: &str = "__name__";
/// The label that holds the upper bound of a classic histogram's bucket.
pub const BUCKET_BOUND: &str = "le";

/// A label set sorted by name, no name twice, no empty value. Cheap to clone.
///
/// In PromQL a label with an empty value is a label that is not there, so none is kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Arc<[(Arc<str>, Arc<str>)]>);

impl Default for Labels {
    fn default() -> Self {
        Self(Arc::new([]))
    }
}

impl Labels {
    /// No labels at all.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Sorts the pairs and leaves empty values out. Of a name that is given twice the last counts.
    pub fn new<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<Arc<str>>,
        V: Into<Arc<str>>,
    {
        let mut held: Vec<(Arc<str>, Arc<str>)> = pairs
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        held.sort_by(|a, b| a.0.cmp(&b.0));
        held.reverse();
        held.dedup_by(|later, kept| later.0 == kept.0);
        held.reverse();
        held.retain(|(_, value)| !value.is_empty());
        Self(held.into())
    }

    /// The labels of the series `name{pairs}`.
    pub fn named<N, V>(name: &str, pairs: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<Arc<str>>,
        V: Into<Arc<str>>,
    {
        let name: (Arc<str>, Arc<str>) = (METRIC_NAME.into(), name.into());
        Self::new(
            std::iter::once(name).chain(
                pairs
                    .into_iter()
                    .map(|(name, value)| (name.into(), value.into())),
            ),
        )
    }

    /// The value of the label `name`; `None` where it is not there.
    pub fn get(&self, name: &str) -> Option<&str> {
        // Label sets are short: walking beats searching.
        self.0
            .iter()
            .find(|(held, _)| **held == *name)
            .map(|(_, value)| &**value)
    }

    /// The value of the label `name`; empty where it is not there.
    pub fn value(&self, name: &str) -> &str {
        self.get(name).unwrap_or("")
    }

    /// The metric's name, if the set has one.
    pub fn name(&self) -> Option<&str> {
        self.get(METRIC_NAME)
    }

    /// Name and value of each label, sorted by name, the metric's name included.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// How many labels there are, the metric's name included.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no label.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same set with `name` set to `value`; an empty value takes the label away.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        if value.is_empty() {
            return self.without(&[name]);
        }
        let mut held: Vec<_> = self.0.to_vec();
        match held.binary_search_by(|(there, _)| (**there).cmp(name)) {
            Ok(at) => held[at].1 = value.into(),
            Err(at) => held.insert(at, (name.into(), value.into())),
        }
        Self(held.into())
    }

    /// The same set less these names.
    #[must_use]
    pub fn without<N: AsRef<str>>(&self, names: &[N]) -> Self {
        self.filter(|name| names.iter().all(|drop| drop.as_ref() != name))
    }

    /// Only the labels of these names.
    #[must_use]
    pub fn only<N: AsRef<str>>(&self, names: &[N]) -> Self {
        self.filter(|name| names.iter().any(|keep| keep.as_ref() == name))
    }

    fn filter(&self, keep: impl Fn(&str) -> bool) -> Self {
        let kept = self.0.iter().filter(|(name, _)| keep(name)).count();
        if kept == self.0.len() {
            return self.clone();
        }
        Self(
            self.0
                .iter()
                .filter(|(name, _)| keep(name))
                .cloned()
                .collect(),
        )
    }

    /// `{__name__="up", job="api"}`, as Prometheus prints a label set in its messages.
    pub fn braced(&self) -> impl fmt::Display + '_ {
        Braced(self)
    }
}

struct Braced<'a>(&'a Labels);

impl fmt::Display for Braced<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (nth, (name, value)) in self.0.iter().enumerate() {
            let lead = if nth == 0 { "" } else { ", " };
            write!(f, "{lead}{}={}", Name(name), Quoted(value))?;
        }
        f.write_str("}")
    }
}

/// `up{job="api"}`, and `{}` for an empty set.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name().filter(|name| is_metric_name(name));
        if let Some(name) = name {
            f.write_str(name)?;
        }
        let mut first = true;
        for (label, value) in self.iter() {
            if name.is_some() && label == METRIC_NAME {
                continue;
            }
            f.write_str(if first { "{" } else { "," })?;
            first = false;
            write!(f, "{}={}", Name(label), Quoted(value))?;
        }
        match (first, name) {
            (true, Some(_)) => Ok(()),
            (true, None) => f.write_str("{}"),
            (false, _) => f.write_str("}"),
        }
    }
}

struct Name<'a>(&'a str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_label_name(self.0) {
            f.write_str(self.0)
        } else {
            write!(f, "{}", Quoted(self.0))
        }
    }
}

/// A text in double quotes, escaped.
pub(crate) struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for c in self.0.chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                c => write!(f, "{c}")?,
            }
        }
        f.write_str("\"")
    }
}

/// Whether a text is `[a-zA-Z_][a-zA-Z0-9_]*`.
pub(crate) fn is_label_name(text: &str) -> bool {
    let mut chars = text.chars();
    chars
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Whether a text is `[a-zA-Z_:][a-zA-Z0-9_:]*`.
pub(crate) fn is_metric_name(text: &str) -> bool {
    let mut chars = text.chars();
    chars
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_' || c == ':')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_value_is_no_label() {
        let labels = Labels::new([("b", ""), ("a", "1")]);
        assert_eq!(labels, Labels::new([("a", "1")]));
        assert_eq!(labels.with("a", ""), Labels::empty());
        assert_eq!(labels.value("b"), "");
    }

    #[test]
    fn of_a_name_given_twice_the_last_counts() {
        let labels = Labels::new([("a", "1"), ("b", "2"), ("a", "3")]);
        assert_eq!(labels.get("a"), Some("3"));
        assert_eq!(labels.len(), 2);
    }

    #[test]
    fn both_printed_forms_escape_values_and_quote_odd_names() {
        let labels = Labels::named("up", [("job", "a\"b"), ("x.y", "\n")]);
        assert_eq!(labels.to_string(), r#"up{job="a\"b","x.y"="\n"}"#);
        assert_eq!(
            labels.braced().to_string(),
            r#"{__name__="up", job="a\"b", "x.y"="\n"}"#
        );
        assert_eq!(Labels::empty().to_string(), "{}");
        assert_eq!(Labels::named("up", [("", ""); 0]).to_string(), "up");
    }

    #[test]
    fn sets_order_by_name_then_value_then_length() {
        let short = Labels::new([("a", "1")]);
        let long = Labels::new([("a", "1"), ("b", "1")]);
        let other = Labels::new([("a", "2")]);
        assert!(short < long && long < other);
    }
}
