//! Finds the place that a message of the parser is about.
//!
//! `promql-parser` says what is wrong but not where. A message about types or arguments is traced
//! to the smallest part of the query that gives the same message by itself; an error of syntax, to
//! the first token that cannot stand where it does.

use crate::diagnostics::{Diagnostic, Span};
use crate::functions;
use crate::labels::Quoted;
use crate::query;
use crate::token::{Kind, Token, Tokens};
use crate::tree::type_help;
use crate::value::ValueType;

/// What the parser says when the grammar has no better word.
const SYNTAX: &str = "invalid promql query";

/// The most parts of a query that are tried by themselves.
const MAX_TRIALS: usize = 200;

pub(crate) fn failure(query: &str, tokens: &Tokens, message: &str) -> Diagnostic {
    let in_braces = message.contains("label match");
    if message != SYNTAX && !in_braces {
        if let Some(name) = between(message, "unknown function with name '", "'") {
            return unknown_function(query, tokens, name);
        }
        let span = smallest(query, tokens, message).unwrap_or_else(|| whole(query));
        let span = wrong_argument(query, span, message).unwrap_or(span);
        return explain(query, span, message);
    }
    misplaced(query, tokens)
        .unwrap_or_else(|| Diagnostic::new(query, whole(query), "this is not a PromQL expression"))
}

fn whole(query: &str) -> Span {
    let start = query.len() - query.trim_start().len();
    Span::new(start, query.trim_end().len())
}

fn between<'m>(message: &'m str, before: &str, after: &str) -> Option<&'m str> {
    message
        .split_once(before)?
        .1
        .split_once(after)
        .map(|(name, _)| name)
}

/// The smallest part of the query that by itself gives the message.
fn smallest(query: &str, tokens: &Tokens, message: &str) -> Option<Span> {
    let list = &tokens.list;
    let mut spans: Vec<Span> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    let mut starts: Vec<usize> = vec![0];
    let mut add = |from: usize, to: usize| {
        if from <= to
            && let (Some(first), Some(last)) = (list.get(from), list.get(to))
        {
            spans.push(first.span.to(last.span));
        }
    };
    for (at, token) in list.iter().enumerate() {
        if ["(", "{", "["].iter().any(|sign| token.is(query, sign)) {
            open.push(at);
            starts.push(at + 1);
        } else if token.is(query, ",") && at > 0 {
            if let Some(start) = starts.last_mut() {
                add(*start, at - 1);
                *start = at + 1;
            }
        } else if [")", "}", "]"].iter().any(|sign| token.is(query, sign))
            && let (Some(from), Some(start)) = (open.pop(), starts.pop())
        {
            if at > 0 {
                add(start, at - 1);
            }
            // The call or selector that the brackets belong to, with its name.
            let named = from > 0 && list[from - 1].kind == Kind::Word;
            add(if named { from - 1 } else { from }, at);
            if named && from >= 1 {
                add(from, at);
            }
            // What follows a bracket may be a further one: `x{…}[5m]`.
            if let Some(start) = starts.last() {
                add(*start, at);
            }
        }
    }
    spans.sort_by_key(|span| span.end - span.start);
    spans.dedup();
    spans.into_iter().take(MAX_TRIALS).find(|span| {
        let part = span.text(query);
        Tokens::read(part, crate::dialect::Dialect::V3)
            .ok()
            .and_then(|tokens| query::parse(&tokens.normalized(part)).err())
            .is_some_and(|found| found == message)
    })
}

/// The argument of the call under the span that has the type which the message complains of.
fn wrong_argument(query: &str, call: Span, message: &str) -> Option<Span> {
    use promql_parser::parser::value::ValueType as Found;
    let (_, found) = message
        .strip_prefix("expected type ")?
        .rsplit_once(", got ")?;
    let found = match found {
        "vector" => Found::Vector,
        "matrix" => Found::Matrix,
        "scalar" => Found::Scalar,
        _ => Found::String,
    };
    let text = call.text(query);
    let tokens = Tokens::read(text, crate::dialect::Dialect::V3).ok()?;
    let open = tokens.list.iter().position(|token| token.is(text, "("))?;
    let close = close_of(text, &tokens, open)?;
    let mut from = open + 1;
    let mut depth = 0usize;
    for at in open + 1..=close {
        let token = tokens.list[at];
        let ends = at == close || (depth == 0 && token.is(text, ","));
        if ["(", "[", "{"].iter().any(|sign| token.is(text, sign)) {
            depth += 1;
        } else if at < close && [")", "]", "}"].iter().any(|sign| token.is(text, sign)) {
            depth = depth.saturating_sub(1);
        }
        if !ends || from >= at {
            continue;
        }
        let span = tokens.list[from].span.to(tokens.list[at - 1].span);
        let argument = span.text(text);
        let parsed = Tokens::read(argument, crate::dialect::Dialect::V3)
            .ok()
            .and_then(|tokens| query::parse(&tokens.normalized(argument)).ok());
        if parsed.is_some_and(|expr| expr.value_type() == found) {
            return Some(Span::new(call.start + span.start, call.start + span.end));
        }
        from = at + 1;
    }
    None
}

fn unknown_function(query: &str, tokens: &Tokens, name: &str) -> Diagnostic {
    let span = tokens
        .list
        .windows(2)
        .find(|pair| pair[0].text(query) == name && pair[1].is(query, "("))
        .map_or_else(|| whole(query), |pair| pair[0].span);
    let failure = Diagnostic::new(
        query,
        span,
        format!("unknown function with name {}", Quoted(name)),
    );
    let lower = name.to_ascii_lowercase();
    let near = functions::names(crate::dialect::Dialect::V3)
        .chain(AGGREGATIONS)
        .map(|known| (distance(&lower, known), known))
        .min();
    match near {
        _ if lower == "average" || lower == "mean" => failure.help("did you mean avg?"),
        _ if lower == "percentile" => {
            failure.help("did you mean quantile, or histogram_quantile for buckets?")
        }
        _ if lower == "if" || lower == "where" => {
            failure.help("PromQL filters by comparing: x > 5 keeps the series above 5")
        }
        Some((far, known)) if far <= 1 + name.len() / 4 => {
            failure.help(format!("did you mean {known}?"))
        }
        _ => failure.help("see the list of functions in the documentation of Prometheus"),
    }
}

const AGGREGATIONS: [&str; 14] = [
    "avg",
    "bottomk",
    "count",
    "count_values",
    "group",
    "limitk",
    "limit_ratio",
    "max",
    "min",
    "quantile",
    "stddev",
    "stdvar",
    "sum",
    "topk",
];

/// The number of letters to insert, delete or replace to get from one word to the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

/// The parser's message in Prometheus's words, with what to do.
fn explain(query: &str, span: Span, message: &str) -> Diagnostic {
    let mut text = String::with_capacity(message.len());
    // The parser quotes with ' what Prometheus quotes with ".
    let mut parts = message.split('\'').peekable();
    let mut inside = false;
    while let Some(part) = parts.next() {
        text.push_str(part);
        if parts.peek().is_some() {
            text.push(if inside || parts.clone().count() > 1 {
                '"'
            } else {
                '\''
            });
            inside = !inside;
        }
    }
    for (name, wanted) in [
        ("expected type vector", "expected type instant vector"),
        ("expected type matrix", "expected type range vector"),
        ("got vector", "got instant vector"),
        ("got matrix", "got range vector"),
        ("allowed on vector", "allowed on instant vector"),
        ("scalar or vector", "scalar or instant vector"),
    ] {
        text = text.replace(name, wanted);
    }
    if let Some(found) = text.strip_prefix(
        "unary expression only allowed on expressions of type scalar or instant vector, got",
    ) {
        let found = found.trim_start_matches([':', ' ']).to_owned();
        text = format!(
            "unary expression only allowed on expressions of type scalar or instant vector, got {}",
            Quoted(&found)
        );
    }
    let failure = Diagnostic::new(query, span, text.clone());
    match help(query, span, &text) {
        Some(help) => failure.help(help),
        None => failure,
    }
}

fn help(query: &str, span: Span, text: &str) -> Option<String> {
    if let Some(rest) = text.strip_prefix("expected type ") {
        let (wanted, rest) = rest.split_once(" in ")?;
        let (_, found) = rest.rsplit_once(", got ")?;
        let of = |name: &str| {
            [
                ValueType::Scalar,
                ValueType::Vector,
                ValueType::Matrix,
                ValueType::String,
            ]
            .into_iter()
            .find(|held| held.to_string() == name)
        };
        return type_help(of(wanted)?, of(found)?, span.text(query));
    }
    Some(
        match text {
            "comparisons between scalars must use BOOL modifier" => {
                "a scalar cannot be filtered away: write > bool to get 0 or 1"
            }
            "bool modifier can only be used on comparison operators" => "take `bool` away",
            "vector selector must contain at least one non-empty matcher" => {
                "name a metric, or add a matcher that an empty label does not pass, such as {job=\"api\"}"
            }
            "ranges only allowed for vector selectors" => {
                "a window over an expression needs a step, which makes it a subquery: (…)[5m:1m]"
            }
            "no offset modifiers allowed before range" => {
                "the window comes first: x[5m] offset 1h"
            }
            "no @ modifiers allowed before range" => "the window comes first: x[5m] @ 1700000000",
            "binary expression must contain only scalar and instant vector types" => {
                "an operator takes one value of each series: use a function such as rate() on the window"
            }
            _ if text.starts_with("expected") && text.contains("argument(s)") => {
                "see the function's arguments in the documentation of Prometheus"
            }
            _ if text.starts_with("set operator") => {
                "and, or and unless combine series; for numbers use vector(…)"
            }
            _ if text.contains("ON and GROUP clause") => {
                "a label that is matched on is there already: take it out of the group list"
            }
            _ if text.starts_with("illegal regex") => {
                "regular expressions are RE2: no look-around, no back references"
            }
            _ => return None,
        }
        .to_owned(),
    )
}

/// What may come next at a place in a query.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Expect {
    Operand,
    Operator,
}

/// The first token that cannot stand where it does.
fn misplaced(query: &str, tokens: &Tokens) -> Option<Diagnostic> {
    let list = &tokens.list;
    let mut expect = Expect::Operand;
    let mut open: Vec<Token> = Vec::new();
    let mut at = 0;
    let is = |at: usize, text: &str| list.get(at).is_some_and(|token| token.is(query, text));
    while at < list.len() {
        let token = list[at];
        let text = token.text(query);
        let word = token.kind == Kind::Word;
        let keyword =
            |words: &[&str]| word && words.iter().any(|held| text.eq_ignore_ascii_case(held));
        match expect {
            Expect::Operand => {
                if token.is(query, "(") {
                    open.push(token);
                } else if token.is(query, "-") || token.is(query, "+") {
                } else if token.is(query, "{") {
                    let close = close_of(query, tokens, at)?;
                    if let Err(failure) = check_braces(query, tokens, at) {
                        return Some(*failure);
                    }
                    at = close;
                    expect = Expect::Operator;
                } else if token.is(query, ")") && at > 0 && list[at - 1].is(query, "(") {
                    open.pop();
                    expect = Expect::Operator;
                } else if keyword(&AGGREGATIONS)
                    && !is(at + 1, "(")
                    && (is(at + 1, "by") || is(at + 1, "without"))
                {
                    at += 1;
                    if let Some(failure) = check_labels(query, tokens, at) {
                        return Some(failure);
                    }
                    at = labels(query, tokens, at)?;
                    if !is(at + 1, "(") {
                        return Some(unexpected(
                            query,
                            tokens,
                            at + 1,
                            "expected (",
                            "the aggregated expression goes in parentheses",
                        ));
                    }
                } else if word && is(at + 1, "(") {
                    if keyword(&[
                        "by",
                        "without",
                        "on",
                        "ignoring",
                        "group_left",
                        "group_right",
                        "bool",
                        "offset",
                    ]) {
                        return Some(unexpected(
                            query,
                            tokens,
                            at,
                            "expected an expression",
                            "grouping comes after an aggregation such as sum, matching after an operator",
                        ));
                    }
                    // A call: its parenthesis is the next token.
                } else if matches!(
                    token.kind,
                    Kind::Word | Kind::Number(_) | Kind::Duration(_) | Kind::String
                ) {
                    expect = Expect::Operator;
                } else {
                    let what = if at == 0 {
                        "a query starts with a metric, a function or a number"
                    } else {
                        "something is missing before it"
                    };
                    return Some(unexpected(
                        query,
                        tokens,
                        at,
                        "expected an expression",
                        what,
                    ));
                }
            }
            Expect::Operator => {
                if token.is(query, "{") {
                    let close = close_of(query, tokens, at)?;
                    if let Err(failure) = check_braces(query, tokens, at) {
                        return Some(*failure);
                    }
                    at = close;
                } else if token.is(query, "[") {
                    let close = close_of(query, tokens, at)?;
                    if let Some(failure) = check_window(query, tokens, at, close) {
                        return Some(failure);
                    }
                    at = close;
                } else if token.is(query, ")") {
                    open.pop();
                } else if token.is(query, ",") {
                    if open.is_empty() {
                        return Some(unexpected(
                            query,
                            tokens,
                            at,
                            "expected the end of the query",
                            "a query is one expression; commas separate arguments",
                        ));
                    }
                    expect = Expect::Operand;
                } else if token.is(query, "offset") {
                    at += 1;
                    if is(at, "-") || is(at, "+") {
                        at += 1;
                    }
                    if !matches!(
                        list.get(at).map(|token| token.kind),
                        Some(Kind::Duration(_) | Kind::Number(_))
                    ) {
                        return Some(unexpected(
                            query,
                            tokens,
                            at,
                            "expected a duration in offset",
                            "as in x offset 5m",
                        ));
                    }
                } else if token.is(query, "@") {
                    at += 1;
                    if is(at, "-") || is(at, "+") {
                        at += 1;
                    }
                    if is(at, "start") || is(at, "end") {
                        at += 2;
                    } else if !matches!(
                        list.get(at).map(|token| token.kind),
                        Some(Kind::Duration(_) | Kind::Number(_))
                    ) {
                        return Some(unexpected(
                            query,
                            tokens,
                            at,
                            "expected a timestamp after @",
                            "seconds since the epoch, start() or end()",
                        ));
                    }
                } else if keyword(&["by", "without"]) {
                    if let Some(failure) = check_labels(query, tokens, at) {
                        return Some(failure);
                    }
                    at = labels(query, tokens, at)?;
                } else if keyword(&["and", "or", "unless", "atan2"])
                    || (token.kind == Kind::Sign
                        && [
                            "+", "-", "*", "/", "%", "^", "==", "!=", "<=", "<", ">=", ">",
                        ]
                        .contains(&text))
                {
                    expect = Expect::Operand;
                    if is(at + 1, "bool") {
                        at += 1;
                    }
                    for group in [
                        "on",
                        "ignoring",
                        "group_left",
                        "group_right",
                        "fill",
                        "fill_left",
                        "fill_right",
                    ] {
                        if is(at + 1, group) {
                            at += 1;
                            if is(at + 1, "(") {
                                if let Some(failure) = check_labels(query, tokens, at) {
                                    return Some(failure);
                                }
                                at = labels(query, tokens, at)?;
                            }
                        }
                    }
                } else if token.is(query, "=") {
                    return Some(unexpected(
                        query,
                        tokens,
                        at,
                        "expected an operator",
                        "to compare, write ==",
                    ));
                } else if token.is(query, "(") {
                    return Some(unexpected(
                        query,
                        tokens,
                        at,
                        "expected an operator",
                        "only a function or an aggregation is followed by parentheses",
                    ));
                } else if token.is(query, "=~") || token.is(query, "!~") {
                    return Some(unexpected(
                        query,
                        tokens,
                        at,
                        "expected an operator",
                        "labels are matched inside braces: x{job=~\"a.*\"}",
                    ));
                } else {
                    return Some(unexpected(
                        query,
                        tokens,
                        at,
                        "expected an operator or the end of the query",
                        "an operator is missing before it, or it does not belong here",
                    ));
                }
            }
        }
        at += 1;
    }
    if expect == Expect::Operand {
        let end = Span::new(query.trim_end().len(), query.trim_end().len());
        return Some(
            Diagnostic::new(query, end, "unexpected end of input")
                .help("the operator before it needs a right side"),
        );
    }
    None
}

/// The sign that closes the one at this place.
fn close_of(query: &str, tokens: &Tokens, at: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (nth, token) in tokens.list.iter().enumerate().skip(at) {
        if ["(", "[", "{"].iter().any(|open| token.is(query, open)) {
            depth += 1;
        } else if [")", "]", "}"].iter().any(|close| token.is(query, close)) {
            depth = depth.checked_sub(1)?;
            if depth == 0 {
                return Some(nth);
            }
        }
    }
    None
}

/// What is wrong with the label list after a keyword, if there is one and something is.
fn check_labels(query: &str, tokens: &Tokens, at: usize) -> Option<Diagnostic> {
    let list = &tokens.list;
    if !list.get(at + 1).is_some_and(|token| token.is(query, "(")) {
        return None;
    }
    let mut label_next = true;
    for nth in at + 2..list.len() {
        let token = list[nth];
        let help = match list[at].text(query) {
            text if text.starts_with("group_") => {
                "the parentheses after group_left and group_right hold labels to copy: write group_left() (…)"
            }
            _ => "these parentheses hold label names, separated by commas",
        };
        if label_next {
            if token.is(query, ")") {
                return None;
            }
            if !matches!(token.kind, Kind::Word | Kind::String) {
                return Some(unexpected(
                    query,
                    tokens,
                    nth,
                    "in grouping opts, expected label",
                    help,
                ));
            }
        } else if token.is(query, ")") {
            return None;
        } else if !token.is(query, ",") {
            return Some(unexpected(
                query,
                tokens,
                nth,
                "in grouping opts, expected \",\" or \")\"",
                help,
            ));
        }
        label_next = !label_next;
    }
    None
}

/// Skips the label list after a keyword; stays where there is none.
fn labels(query: &str, tokens: &Tokens, at: usize) -> Option<usize> {
    if tokens
        .list
        .get(at + 1)
        .is_some_and(|token| token.is(query, "("))
    {
        close_of(query, tokens, at + 1)
    } else {
        Some(at)
    }
}

fn check_window(query: &str, tokens: &Tokens, open: usize, close: usize) -> Option<Diagnostic> {
    let inside = &tokens.list[open + 1..close];
    let is_duration = |token: &Token| matches!(token.kind, Kind::Duration(_) | Kind::Number(_));
    match inside {
        [one] if is_duration(one) => None,
        [one, colon] if is_duration(one) && colon.is(query, ":") => None,
        [one, colon, step] if is_duration(one) && colon.is(query, ":") && is_duration(step) => None,
        [] => Some(
            Diagnostic::new(
                query,
                tokens.list[open].span.to(tokens.list[close].span),
                "missing unit character in duration",
            )
            .help("say how far to look back, as in [5m]"),
        ),
        [first, ..] => {
            let wrong = inside
                .iter()
                .find(|token| !is_duration(token) && !token.is(query, ":"))
                .unwrap_or(first);
            Some(
                Diagnostic::new(
                    query,
                    wrong.span,
                    format!("unexpected {} in duration", describe(query, *wrong)),
                )
                .help("a window is [5m], a subquery [5m:1m]"),
            )
        }
    }
}

fn check_braces(query: &str, tokens: &Tokens, open: usize) -> Result<(), Box<Diagnostic>> {
    let Some(close) = close_of(query, tokens, open) else {
        return Ok(());
    };
    let inside = &tokens.list[open + 1..close];
    let fail = |token: Option<&Token>, wanted: &str, help: &str| {
        let (span, what) = match token {
            Some(token) => (token.span, describe(query, *token)),
            None => (tokens.list[close].span, "\"}\"".to_owned()),
        };
        Err(Box::new(
            Diagnostic::new(
                query,
                span,
                format!("unexpected {what} in label matching, expected {wanted}"),
            )
            .help(help),
        ))
    };
    let mut at = 0;
    while at < inside.len() {
        let name = &inside[at];
        if !matches!(name.kind, Kind::Word | Kind::String) {
            return fail(
                Some(name),
                "identifier or \"}\"",
                "a matcher is label=\"value\", with =, !=, =~ or !~",
            );
        }
        let sign = inside.get(at + 1);
        let lone_name = name.kind == Kind::String && sign.is_none_or(|sign| sign.is(query, ","));
        if lone_name {
            at += 2;
            continue;
        }
        if !sign.is_some_and(|sign| ["=", "!=", "=~", "!~"].iter().any(|s| sign.is(query, s))) {
            return fail(
                sign,
                "label matching operator",
                "a matcher is label=\"value\", with =, !=, =~ or !~",
            );
        }
        let value = inside.get(at + 2);
        if value.is_none_or(|value| value.kind != Kind::String) {
            let help = if value.is_some_and(|value| value.is(query, "=")) {
                "inside braces one = compares"
            } else {
                "put the value in quotes"
            };
            return fail(value, "string", help);
        }
        let comma = inside.get(at + 3);
        if comma.is_some_and(|comma| !comma.is(query, ",")) {
            return fail(comma, "\",\" or \"}\"", "separate matchers with commas");
        }
        at += 4;
    }
    Ok(())
}

fn describe(query: &str, token: Token) -> String {
    let text = token.text(query);
    match token.kind {
        Kind::Word => format!("identifier {}", Quoted(text)),
        Kind::Number(_) => format!("number {}", Quoted(text)),
        Kind::Duration(_) => format!("duration {}", Quoted(text)),
        Kind::String => format!("string {text}"),
        Kind::Sign => Quoted(text).to_string(),
    }
}

fn unexpected(query: &str, tokens: &Tokens, at: usize, wanted: &str, help: &str) -> Diagnostic {
    match tokens.list.get(at) {
        Some(token) => Diagnostic::new(
            query,
            token.span,
            match wanted.strip_prefix("in ") {
                Some(_) => format!("unexpected {} {wanted}", describe(query, *token)),
                None => format!("unexpected {}, {wanted}", describe(query, *token)),
            },
        ),
        None => {
            let end = query.trim_end().len();
            Diagnostic::new(
                query,
                Span::new(end, end),
                format!("unexpected end of input, {wanted}"),
            )
        }
    }
    .help(help)
}

#[cfg(test)]
mod tests {
    use crate::query::Query;

    /// The message, and the text under the caret.
    fn told(query: &str) -> (String, String) {
        let failure = Query::parse(query).unwrap_err();
        (failure.to_string(), failure.span.text(query).to_owned())
    }

    #[test]
    fn errors_read_as_prometheus_words_them_and_point_at_their_place() {
        for (query, message, place) in [
            (
                "sum(rate(x))",
                "1:10: parse error: expected type range vector in call to function \"rate\", got instant vector",
                "x",
            ),
            (
                "a + foo(b)",
                "1:5: parse error: unknown function with name \"foo\"",
                "foo",
            ),
            (
                "1 > 2",
                "1:1: parse error: comparisons between scalars must use BOOL modifier",
                "1 > 2",
            ),
            (
                "x + {}",
                "1:5: parse error: vector selector must contain at least one non-empty matcher",
                "{}",
            ),
            (
                "sum(x y)",
                "1:7: parse error: unexpected identifier \"y\", expected an operator or the end of the query",
                "y",
            ),
            (
                "x{a==\"b\"}",
                "1:5: parse error: unexpected \"=\" in label matching, expected string",
                "=",
            ),
            (
                "x{a=b}",
                "1:5: parse error: unexpected identifier \"b\" in label matching, expected string",
                "b",
            ),
            (
                "a * on(x) group_left (b > 1)",
                "1:25: parse error: unexpected \">\" in grouping opts, expected \",\" or \")\"",
                ">",
            ),
            ("x +", "1:4: parse error: unexpected end of input", ""),
            ("sum(x", "1:4: parse error: unclosed left parenthesis", "("),
            (
                "x)",
                "1:2: parse error: unexpected right parenthesis ')'",
                ")",
            ),
            (
                "x = 5",
                "1:3: parse error: unexpected \"=\", expected an operator",
                "=",
            ),
        ] {
            assert_eq!(
                told(query),
                (message.to_owned(), place.to_owned()),
                "{query}"
            );
        }
    }

    #[test]
    fn a_misspelt_function_gets_a_suggestion() {
        let failure = Query::parse("histogram_quantil(0.9, x)").unwrap_err();
        assert_eq!(
            failure.help.as_deref(),
            Some("did you mean histogram_quantile?")
        );
    }
}
