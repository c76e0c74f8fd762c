//! A query: text that has been parsed and checked.

use std::sync::OnceLock;

use promql_parser::parser as pp;

use crate::diagnostics::Diagnostic;
use crate::dialect::Dialect;
use crate::labels::{Labels, METRIC_NAME};
use crate::locate;
use crate::token::Tokens;
use crate::tree::{self, Node};
use crate::value::ValueType;

/// A query that can be evaluated any number of times.
#[derive(Debug, Clone)]
pub struct Query {
    text: String,
    dialect: Dialect,
    root: Node,
}

impl Query {
    /// Parses a query of Prometheus 3.
    ///
    /// # Errors
    /// What is wrong first, and where.
    pub fn parse(text: &str) -> Result<Self, Diagnostic> {
        Self::parse_as(text, Dialect::V3)
    }

    /// Parses a query of a dialect.
    ///
    /// # Errors
    /// What is wrong first, and where.
    pub fn parse_as(text: &str, dialect: Dialect) -> Result<Self, Diagnostic> {
        let tokens = Tokens::read(text, dialect)?;
        let expr = parse(&tokens.normalized(text))
            .map_err(|message| locate::failure(text, &tokens, &message))?;
        let root = tree::plant(expr, text, &tokens, dialect)?;
        Ok(Self {
            text: text.to_owned(),
            dialect,
            root,
        })
    }

    /// The text that was parsed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The dialect that it was parsed as.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// What the query answers with when it is evaluated at one moment.
    pub fn value_type(&self) -> ValueType {
        self.root.value_type()
    }

    /// The names of the metrics that the query reads, each once, in the order of the text. Names
    /// that are matched otherwise than by equality are not among them.
    pub fn metric_names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        collect_names(&self.root, &mut names);
        names
    }

    /// Whether a selector of the query accepts this metric name, however it asks for names. What is
    /// false for all the metrics of a scrape need not be stored to answer the query.
    pub fn may_read(&self, metric: &str) -> bool {
        let name = Labels::named::<&str, &str>(metric, []);
        accepts(&self.root, &name)
    }

    pub(crate) fn root(&self) -> &Node {
        &self.root
    }
}

fn collect_names<'a>(node: &'a Node, names: &mut Vec<&'a str>) {
    if let tree::Kind::Selector(selector) | tree::Kind::Range { selector, .. } = &node.kind {
        for name in selector.matchers.iter().filter_map(|m| m.wanted_name()) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    for child in node.children() {
        collect_names(child, names);
    }
}

fn accepts(node: &Node, name: &Labels) -> bool {
    let of_node = match &node.kind {
        tree::Kind::Selector(selector) | tree::Kind::Range { selector, .. } => {
            let mut of_names = selector.matchers.iter().filter(|m| m.name == METRIC_NAME);
            of_names.all(|matcher| matcher.accepts(name))
        }
        _ => false,
    };
    of_node
        || node
            .children()
            .into_iter()
            .any(|child| accepts(child, name))
}

/// Parses a normalized query, with the functions of every dialect.
pub(crate) fn parse(normalized: &str) -> Result<pp::Expr, String> {
    static REGISTERED: OnceLock<()> = OnceLock::new();
    REGISTERED.get_or_init(|| {
        use promql_parser::parser::value::ValueType as T;
        // A name that is there already would be refused; it then is known anyway.
        let _known = pp::register_extra_functions(vec![pp::Function::new(
            "holt_winters",
            vec![T::Matrix, T::Scalar, T::Scalar],
            0,
            T::Vector,
            false,
        )]);
    });
    pp::parse(normalized)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(text: &str) -> Vec<String> {
        fn walk(node: &Node, text: &str, out: &mut Vec<String>) {
            out.push(node.span.text(text).to_owned());
            for child in node.children() {
                walk(child, text, out);
            }
        }
        let query = Query::parse(text).unwrap();
        let mut out = Vec::new();
        walk(query.root(), text, &mut out);
        out
    }

    #[test]
    fn every_node_knows_its_place() {
        assert_eq!(
            spans(
                "sum by (le) (rate(x{a=\"b\"}[5m] offset 1m @ end())) / on(le) group_left() -y ^ 2"
            ),
            [
                "sum by (le) (rate(x{a=\"b\"}[5m] offset 1m @ end())) / on(le) group_left() -y ^ 2",
                "sum by (le) (rate(x{a=\"b\"}[5m] offset 1m @ end()))",
                "rate(x{a=\"b\"}[5m] offset 1m @ end())",
                "x{a=\"b\"}[5m] offset 1m @ end()",
                "-y ^ 2",
                "y ^ 2",
                "y",
                "2",
            ]
        );
        assert_eq!(
            spans("topk(3, +a) without (x) or (max_over_time(b[10m:1m] @ -5 offset -2m))"),
            [
                "topk(3, +a) without (x) or (max_over_time(b[10m:1m] @ -5 offset -2m))",
                "topk(3, +a) without (x)",
                "3",
                "+a",
                "(max_over_time(b[10m:1m] @ -5 offset -2m))",
                "max_over_time(b[10m:1m] @ -5 offset -2m)",
                "b[10m:1m] @ -5 offset -2m",
                "b",
            ]
        );
    }

    #[test]
    fn the_names_that_a_query_reads_are_known() {
        let query = Query::parse("rate(a[5m]) / b + {__name__=\"a\"} + {c=~\".+\"}").unwrap();
        assert_eq!(query.metric_names(), ["a", "b"]);
    }

    #[test]
    fn a_query_may_read_what_one_of_its_selectors_accepts_by_name() {
        let reads = |text: &str, name: &str| Query::parse(text).unwrap().may_read(name);
        assert!(reads("1 + max(rate(a[5m]))", "a") && !reads("1 + max(rate(a[5m]))", "ab"));
        assert!(reads("a / ignoring(c) b{c=\"d\"}", "b"));
        assert!(reads("{__name__=~\"a.\"}", "ab") && !reads("{__name__=~\"a.\"}", "a"));
        assert!(reads("{c=\"d\"}", "anything") && !reads("vector(1)", "anything"));
    }
}
