//! Configuration files in YAML, read strictly: every problem with its line, its column, its path in
//! the file and what to do about it.
//!
//! A file is first read into a tree that knows where each node stands, and then decoded by hand. That
//! is what lets one run report every problem, suggest the field that was meant, and explain the
//! classic slips (a template that needs quotes, a list that was written as text), which a derived
//! decoder cannot. The events come from `saphyr-parser`: maintained, YAML 1.2 with its test suite, and
//! it knows the position of everything. It is for configuration of a few thousand lines; it writes no
//! YAML and reads one document a file.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, SpannedEventReceiver};

use crate::duration::parse_duration;

/// How many nodes a file may hold once its aliases are expanded.
const MOST_NODES: usize = 200_000;

/// How deep lists and mappings may be nested.
const DEEPEST: usize = 100;

/// A place in a file, both counted from 1, the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// One problem of a file: where, what, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {}{what}; {remedy}", if path.is_empty() { String::new() } else { format!("{path}: ") })]
pub struct Problem {
    /// Where it is.
    pub at: Position,
    /// The path of the value in the file, as in `groups[0].rules[2].expr`; empty for the whole file.
    pub path: String,
    /// What is wrong there.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

/// Everything that is wrong with a file, in the order of its lines. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    problems: Vec<Problem>,
}

impl ConfigError {
    /// The problems, in the order of the file's lines.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Collects what is wrong while a file is decoded.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    found: Vec<Problem>,
}

impl Problems {
    pub(crate) fn add(
        &mut self,
        view: &View<'_>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.found.push(Problem {
            at: view.node.at,
            path: view.path.clone(),
            what: what.into(),
            remedy: remedy.into(),
        });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// `value` if nothing was wrong.
    pub(crate) fn or_error<T>(mut self, value: impl FnOnce() -> T) -> Result<T, ConfigError> {
        if self.found.is_empty() {
            return Ok(value());
        }
        self.found.sort_by_key(|problem| problem.at);
        // A value that several readers look at is told once.
        let mut told: Vec<Problem> = Vec::with_capacity(self.found.len());
        for problem in self.found {
            if !told.contains(&problem) {
                told.push(problem);
            }
        }
        Err(ConfigError { problems: told })
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Node {
    at: Position,
    value: Value,
}

#[derive(Debug, Clone)]
enum Value {
    Null,
    Scalar(String),
    List(Vec<Node>),
    Mapping(Vec<Entry>),
}

#[derive(Debug, Clone)]
struct Entry {
    key: String,
    key_at: Position,
    value: Node,
}

impl Value {
    fn describe(&self) -> &'static str {
        match self {
            Value::Null => "nothing",
            Value::Scalar(_) => "text",
            Value::List(_) => "a list",
            Value::Mapping(_) => "a mapping",
        }
    }
}

/// Reads the one document of `text`; nothing but comments is an empty mapping.
pub(crate) fn read(text: &str) -> Result<Node, ConfigError> {
    let mut builder = Builder::default();
    let outcome = Parser::new_from_str(text).load(&mut builder, true);
    if let Some(problem) = builder.problem {
        return Err(ConfigError {
            problems: vec![problem],
        });
    }
    if let Err(error) = outcome {
        let at = Position {
            line: error.marker().line(),
            column: error.marker().col() + 1,
        };
        return Err(ConfigError {
            problems: vec![syntax_problem(at, error.info(), text)],
        });
    }
    let mut root = builder.root.unwrap_or(Node {
        at: Position { line: 1, column: 1 },
        value: Value::Mapping(Vec::new()),
    });
    if matches!(root.value, Value::Null) {
        root.value = Value::Mapping(Vec::new());
    }
    Ok(root)
}

/// A syntax error in the words of the parser, with the remedy that its line suggests.
fn syntax_problem(at: Position, info: &str, text: &str) -> Problem {
    let line = text.lines().nth(at.line.saturating_sub(1)).unwrap_or("");
    let indentation = &line[..line.len() - line.trim_start().len()];
    let remedy = if info.contains("recursion limit") {
        "nest fewer lists and mappings into each other"
    } else if indentation.contains('\t') {
        "indent with spaces: YAML allows no tabs there"
    } else if info.contains("found a tab") {
        "put spaces where the tab is"
    } else if line.contains("{{") {
        "put a text that holds `{{` or `: ` in quotes, or write it as a block after `|`"
    } else if line.matches(": ").count() > 1 {
        "put a text that holds `: ` in quotes"
    } else {
        "compare the indentation and the quotes of this line and the ones above"
    };
    Problem {
        at,
        path: String::new(),
        what: format!("the YAML cannot be read: {info}"),
        remedy: remedy.to_owned(),
    }
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
    nodes: usize,
    problem: Option<Problem>,
}

struct Open {
    at: Position,
    anchor: usize,
    container: Container,
}

enum Container {
    List(Vec<Node>),
    Mapping {
        entries: Vec<Entry>,
        merged: Vec<Entry>,
        key: Option<Node>,
    },
}

impl SpannedEventReceiver<'_> for Builder {
    fn on_event(&mut self, event: Event<'_>, span: Span) {
        if self.problem.is_some() {
            return;
        }
        let at = Position {
            line: span.start.line(),
            column: span.start.col() + 1,
        };
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = tag.is_some_and(|tag| tag.suffix == "str");
                let null = style == ScalarStyle::Plain
                    && !is_text
                    && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let value = if null {
                    Value::Null
                } else {
                    Value::Scalar(text.into_owned())
                };
                self.place(Node { at, value }, anchor);
            }
            Event::SequenceStart(anchor, _) => self.open(at, anchor, Container::List(Vec::new())),
            Event::MappingStart(anchor, _) => self.open(
                at,
                anchor,
                Container::Mapping {
                    entries: Vec::new(),
                    merged: Vec::new(),
                    key: None,
                },
            ),
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some(node) => {
                    let node = Node { at, ..node.clone() };
                    self.nodes += node.count();
                    self.place(node, 0);
                }
                None => self.fail(
                    at,
                    "an alias stands for a node that holds the alias itself",
                    "write the values out",
                ),
            },
            Event::DocumentStart(_) if self.root.is_some() => self.fail(
                at,
                "a second document begins",
                "keep one document in the file: remove the line `---`",
            ),
            _ => {}
        }
    }
}

impl Builder {
    fn fail(&mut self, at: Position, what: &str, remedy: &str) {
        self.problem.get_or_insert(Problem {
            at,
            path: String::new(),
            what: what.to_owned(),
            remedy: remedy.to_owned(),
        });
    }

    fn open(&mut self, at: Position, anchor: usize, container: Container) {
        if self.open.len() >= DEEPEST {
            self.fail(
                at,
                "lists and mappings are nested too deep",
                "a configuration needs ten levels at most",
            );
            return;
        }
        self.open.push(Open {
            at,
            anchor,
            container,
        });
    }

    fn close(&mut self) {
        let Some(open) = self.open.pop() else { return };
        let value = match open.container {
            Container::List(items) => Value::List(items),
            Container::Mapping {
                mut entries,
                merged,
                ..
            } => {
                for entry in merged {
                    if !entries.iter().any(|own| own.key == entry.key) {
                        entries.push(entry);
                    }
                }
                Value::Mapping(entries)
            }
        };
        self.place(Node { at: open.at, value }, open.anchor);
    }

    fn place(&mut self, node: Node, anchor: usize) {
        self.nodes += 1;
        if self.nodes > MOST_NODES {
            self.fail(
                node.at,
                "the file is too large once its aliases are expanded",
                "write fewer aliases of aliases",
            );
            return;
        }
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return;
        };
        let (entries, merged, key) = match &mut open.container {
            Container::List(items) => {
                items.push(node);
                return;
            }
            Container::Mapping {
                entries,
                merged,
                key,
            } => (entries, merged, key),
        };
        let Some(key) = key.take() else {
            *key = Some(node);
            return;
        };
        let name = match key.value {
            Value::Scalar(name) => name,
            Value::Null => String::new(),
            Value::List(_) | Value::Mapping(_) => {
                self.fail(
                    key.at,
                    "a key is not text",
                    "put a text that begins with `{{`, `{` or `[` in quotes: \
                     without them YAML reads a mapping or a list",
                );
                return;
            }
        };
        if name == "<<" {
            match node.value {
                Value::Mapping(inherited) => merged.extend(inherited),
                Value::List(sources)
                    if sources
                        .iter()
                        .all(|source| matches!(source.value, Value::Mapping(_))) =>
                {
                    for source in sources {
                        if let Value::Mapping(inherited) = source.value {
                            merged.extend(inherited);
                        }
                    }
                }
                _ => self.fail(
                    node.at,
                    "`<<` merges something that is not a mapping",
                    "merge an alias of a mapping",
                ),
            }
            return;
        }
        if let Some(earlier) = entries.iter().find(|entry| entry.key == name) {
            let what = format!("`{name}` is set twice, first in {}", earlier.key_at);
            self.fail(key.at, &what, "keep one of the two");
            return;
        }
        entries.push(Entry {
            key: name,
            key_at: key.at,
            value: node,
        });
    }
}

impl Node {
    fn count(&self) -> usize {
        match &self.value {
            Value::Null | Value::Scalar(_) => 1,
            Value::List(items) => 1 + items.iter().map(Node::count).sum::<usize>(),
            Value::Mapping(entries) => {
                1 + entries
                    .iter()
                    .map(|entry| entry.value.count())
                    .sum::<usize>()
            }
        }
    }
}

/// A node with its path, for decoding.
#[derive(Debug, Clone)]
pub(crate) struct View<'a> {
    node: &'a Node,
    path: String,
}

impl<'a> View<'a> {
    pub(crate) fn root(node: &'a Node) -> Self {
        View {
            node,
            path: String::new(),
        }
    }

    /// The fields of a mapping, of which only `known` ones may be there.
    pub(crate) fn fields(&self, known: &[&str], problems: &mut Problems) -> Fields<'a> {
        let entries: &'a [Entry] = match &self.node.value {
            Value::Mapping(entries) => entries,
            Value::Null => &[],
            _ => {
                self.mismatch("a mapping of fields", problems);
                &[]
            }
        };
        for entry in entries {
            if !known.contains(&entry.key.as_str()) {
                let remedy = match closest(&entry.key, known) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("the fields here are {}", listed(known)),
                };
                problems.found.push(Problem {
                    at: entry.key_at,
                    path: self.path.clone(),
                    what: format!("no field is called `{}`", entry.key),
                    remedy,
                });
            }
        }
        Fields {
            view: self.clone(),
            entries,
        }
    }

    /// The fields of a mapping whose names are not checked.
    pub(crate) fn open_fields(&self, problems: &mut Problems) -> Fields<'a> {
        let known: Vec<&str> = match &self.node.value {
            Value::Mapping(entries) => entries.iter().map(|entry| entry.key.as_str()).collect(),
            _ => Vec::new(),
        };
        self.fields(&known, problems)
    }

    /// The items of a list.
    pub(crate) fn list(&self, problems: &mut Problems) -> Vec<View<'a>> {
        match &self.node.value {
            Value::List(items) => items
                .iter()
                .enumerate()
                .map(|(index, node)| View {
                    node,
                    path: format!("{}[{index}]", self.path),
                })
                .collect(),
            Value::Null => Vec::new(),
            _ => {
                self.mismatch("a list", problems);
                Vec::new()
            }
        }
    }

    /// The keys and values of a mapping with free keys, such as labels. The view of a key stands at
    /// the key.
    pub(crate) fn pairs(&self, problems: &mut Problems) -> Vec<(Key<'a>, View<'a>)> {
        match &self.node.value {
            Value::Mapping(entries) => entries
                .iter()
                .map(|entry| {
                    let path = join(&self.path, &entry.key);
                    let key = Key {
                        text: &entry.key,
                        at: entry.key_at,
                        path: path.clone(),
                    };
                    (
                        key,
                        View {
                            node: &entry.value,
                            path,
                        },
                    )
                })
                .collect(),
            Value::Null => Vec::new(),
            _ => {
                self.mismatch("a mapping of names to texts", problems);
                Vec::new()
            }
        }
    }

    /// A text; numbers and booleans are read as they are written, and nothing as the empty text.
    pub(crate) fn text(&self, problems: &mut Problems) -> &'a str {
        match &self.node.value {
            Value::Scalar(text) => text,
            Value::Null => "",
            _ => {
                self.mismatch("text", problems);
                ""
            }
        }
    }

    pub(crate) fn boolean(&self, problems: &mut Problems) -> bool {
        match &self.node.value {
            Value::Scalar(text) => match text.as_str() {
                "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y"
                | "Y" => true,
                "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n"
                | "N" => false,
                _ => {
                    problems.add(
                        self,
                        format!("`{text}` is neither true nor false"),
                        "write `true` or `false`",
                    );
                    false
                }
            },
            Value::Null => false,
            _ => {
                self.mismatch("`true` or `false`", problems);
                false
            }
        }
    }

    /// A duration as Prometheus and Alertmanager write them.
    pub(crate) fn duration(&self, problems: &mut Problems) -> Duration {
        let text = self.text(problems);
        match parse_duration(text) {
            Ok(duration) => duration,
            Err(error) => {
                problems.add(self, error.to_string(), error.remedy());
                Duration::ZERO
            }
        }
    }

    fn mismatch(&self, wanted: &str, problems: &mut Problems) {
        let remedy = if wanted == "a list" && matches!(self.node.value, Value::Scalar(_)) {
            "write it as a list: `[one, two]`, or each item in a line of its own after `- `".into()
        } else {
            format!("write {wanted} here")
        };
        problems.add(
            self,
            format!("{} where {wanted} belongs", self.node.value.describe()),
            remedy,
        );
    }
}

/// A free key of a mapping, such as a label's name.
#[derive(Debug, Clone)]
pub(crate) struct Key<'a> {
    pub(crate) text: &'a str,
    at: Position,
    path: String,
}

impl Key<'_> {
    pub(crate) fn problem(
        &self,
        problems: &mut Problems,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        problems.found.push(Problem {
            at: self.at,
            path: self.path.clone(),
            what: what.into(),
            remedy: remedy.into(),
        });
    }
}

/// The fields of a mapping.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a> {
    view: View<'a>,
    entries: &'a [Entry],
}

impl<'a> Fields<'a> {
    /// The field if it is there and holds anything.
    pub(crate) fn get(&self, name: &str) -> Option<View<'a>> {
        let entry = self.entries.iter().find(|entry| entry.key == name)?;
        if matches!(entry.value.value, Value::Null) {
            return None;
        }
        Some(View {
            node: &entry.value,
            path: join(&self.view.path, name),
        })
    }

    pub(crate) fn text(&self, name: &str, problems: &mut Problems) -> Option<&'a str> {
        self.get(name).map(|view| view.text(problems))
    }

    pub(crate) fn list(&self, name: &str, problems: &mut Problems) -> Vec<View<'a>> {
        self.get(name)
            .map(|view| view.list(problems))
            .unwrap_or_default()
    }

    pub(crate) fn boolean(&self, name: &str, problems: &mut Problems) -> Option<bool> {
        self.get(name).map(|view| view.boolean(problems))
    }

    pub(crate) fn duration(&self, name: &str, problems: &mut Problems) -> Option<Duration> {
        self.get(name).map(|view| view.duration(problems))
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

fn closest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|&candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|&(distance, candidate)| distance * 3 <= candidate.len().max(word.len()))
        .min()
        .map(|(_, candidate)| candidate)
}

fn listed(words: &[&str]) -> String {
    words
        .iter()
        .map(|word| format!("`{word}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem_of(text: &str) -> String {
        read(text).unwrap_err().to_string()
    }

    #[test]
    fn a_field_with_a_typo_names_its_place_and_the_field_that_was_meant() {
        let node = read("route:\n  reciever: pager\n").unwrap();
        let mut problems = Problems::default();
        let route = View::root(&node)
            .fields(&["route"], &mut problems)
            .get("route")
            .unwrap();
        route.fields(&["receiver", "group_by"], &mut problems);
        let error = problems.or_error(|| ()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "line 2, column 3: route: no field is called `reciever`; did you mean `receiver`?"
        );
    }

    #[test]
    fn a_template_without_quotes_is_explained() {
        let error = problem_of("summary: {{ $value }}\n");
        assert!(error.contains("begins with `{{`"), "{error}");
        assert!(error.starts_with("line 1, column 11:"), "{error}");
    }

    #[test]
    fn a_key_that_is_set_twice_names_both_lines() {
        let error = problem_of("name: a\nother: 1\nname: b\n");
        assert_eq!(
            error,
            "line 3, column 1: `name` is set twice, first in line 1, column 1; keep one of the two"
        );
    }

    #[test]
    fn tabs_stray_colons_and_depth_get_a_remedy_of_their_own() {
        assert!(problem_of("a:\n\t- b\n").contains("indent with spaces"));
        assert!(problem_of("a: b: c: d\n").contains("in quotes"));
        assert!(problem_of("a: b\n\tc\n").contains("spaces"));
        let deep = format!("a: {}", "{b: [".repeat(5_000));
        assert!(problem_of(&deep).contains("nest fewer"));
    }

    #[test]
    fn aliases_and_merges_are_followed_and_bombs_refused() {
        let node = read("- &base {a: 1, b: 2}\n- {<<: *base, b: 3}\n").unwrap();
        let mut problems = Problems::default();
        let second = View::root(&node).list(&mut problems)[1].clone();
        let fields = second.fields(&["a", "b"], &mut problems);
        assert_eq!(fields.text("a", &mut problems), Some("1"));
        assert_eq!(fields.text("b", &mut problems), Some("3"));
        assert!(problems.is_empty());

        let mut bomb = String::from("- &x0 [a, a, a, a, a, a, a, a, a]\n");
        for level in 1..10 {
            let previous = level - 1;
            let items = vec![format!("*x{previous}"); 9].join(", ");
            bomb.push_str(&format!("- &x{level} [{items}]\n"));
        }
        assert!(problem_of(&bomb).contains("too large"));
    }

    #[test]
    fn nothing_but_comments_is_an_empty_mapping() {
        for text in ["", "# only a comment\n", "---\n"] {
            let mut problems = Problems::default();
            View::root(&read(text).unwrap()).fields(&[], &mut problems);
            assert!(problems.is_empty(), "{text:?}");
        }
    }
}
