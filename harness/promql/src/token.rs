//! Splits a query into tokens that know their places.
//!
//! The parser proper is the crate `promql-parser`, which keeps no positions. This tokenizer stands
//! before it: it finds errors of spelling where they are, bounds what the parser is given, and
//! hands it numbers and durations in the forms that the parser reads without loss.

use crate::diagnostics::{Diagnostic, Span};
use crate::dialect::Dialect;

/// The longest query, in bytes.
pub const MAX_QUERY_BYTES: usize = 64 << 10;

/// The deepest that a query may be nested: each open parenthesis or bracket counts, and each
/// operator, since `a + b + c` is a sum within a sum. It bounds the stack that a query takes.
pub const MAX_NESTING: usize = 256;

/// The longest duration, in milliseconds: a hundred years.
pub(crate) const MAX_DURATION_MS: i64 = 100 * 365 * 86_400_000;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    /// A name or a keyword.
    Word,
    Number(f64),
    /// Milliseconds.
    Duration(i64),
    String,
    /// An operator, a bracket, a comma, a colon.
    Sign,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) span: Span,
}

impl Token {
    pub(crate) fn text(self, query: &str) -> &str {
        self.span.text(query)
    }

    /// Whether it is this sign, or this keyword in any case.
    pub(crate) fn is(self, query: &str, text: &str) -> bool {
        match self.kind {
            Kind::Sign => self.text(query) == text,
            Kind::Word => self.text(query).eq_ignore_ascii_case(text),
            _ => false,
        }
    }
}

/// Tokens, and whether each number is in the place of a duration.
#[derive(Debug)]
pub(crate) struct Tokens {
    pub(crate) list: Vec<Token>,
}

impl Tokens {
    pub(crate) fn read(query: &str, dialect: Dialect) -> Result<Self, Diagnostic> {
        if query.len() > MAX_QUERY_BYTES {
            return Err(Diagnostic::new(
                query.get(..200).unwrap_or(""),
                Span::default(),
                format!("the query is longer than {MAX_QUERY_BYTES} bytes"),
            ));
        }
        let mut scanner = Scanner {
            query,
            at: 0,
            open: Vec::new(),
            list: Vec::new(),
            nesting: vec![0],
        };
        scanner.run()?;
        let tokens = Self { list: scanner.list };
        if tokens.list.is_empty() {
            return Err(Diagnostic::new(
                query,
                Span::new(query.len(), query.len()),
                "no expression found in input",
            )
            .help("write a query, such as up"));
        }
        tokens.check_durations(query, dialect)?;
        Ok(tokens)
    }

    /// Whether the token at this place must be a duration: after `[`, after `:` or after `offset`.
    pub(crate) fn is_duration_place(&self, query: &str, at: usize) -> bool {
        let before = |n: usize| at.checked_sub(n).map(|at| self.list[at]);
        let Some(previous) = before(1) else {
            return false;
        };
        let previous = if previous.is(query, "-") || previous.is(query, "+") {
            match before(2) {
                Some(second) if second.is(query, "offset") => second,
                _ => return false,
            }
        } else {
            previous
        };
        ["[", ":", "offset"]
            .iter()
            .any(|sign| previous.is(query, sign))
            && previous.kind != Kind::String
    }

    fn check_durations(&self, query: &str, dialect: Dialect) -> Result<(), Diagnostic> {
        for (at, token) in self.list.iter().enumerate() {
            let place = self.is_duration_place(query, at);
            match token.kind {
                Kind::Number(seconds) if place => {
                    if dialect == Dialect::V2 {
                        return Err(Diagnostic::new(
                            query,
                            token.span,
                            "missing unit character in duration",
                        )
                        .help("add a unit: ms, s, m, h, d, w or y"));
                    }
                    let ms = seconds * 1e3;
                    let after = self.list[at - 1];
                    let must_be_positive = !after.is(query, "offset")
                        && !after.is(query, "-")
                        && !after.is(query, "+");
                    if ms.is_nan() || ms.abs() > MAX_DURATION_MS as f64 {
                        return Err(Diagnostic::new(query, token.span, "duration out of range"));
                    }
                    if must_be_positive && ms < 1.0 {
                        return Err(Diagnostic::new(
                            query,
                            token.span,
                            "duration must be greater than 0",
                        ));
                    }
                }
                Kind::Duration(_) if !place && dialect == Dialect::V2 => {
                    return Err(Diagnostic::new(
                        query,
                        token.span,
                        format!("unexpected duration {:?}", token.text(query)),
                    )
                    .help("durations stand in brackets and after offset; a number has no unit"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The query as the parser is to see it: one space between tokens, numbers in plain forms.
    pub(crate) fn normalized(&self, query: &str) -> String {
        let mut out = String::with_capacity(query.len() + 16);
        for (at, token) in self.list.iter().enumerate() {
            if at > 0 {
                out.push(' ');
            }
            match token.kind {
                // `offset 0s` is a number to the parser, which takes no empty duration.
                Kind::Number(_) | Kind::Duration(_) if self.is_duration_place(query, at) => {
                    let ms = match token.kind {
                        Kind::Duration(ms) => ms,
                        Kind::Number(seconds) => (seconds * 1e3).trunc() as i64,
                        _ => 0,
                    };
                    match ms {
                        0 => out.push_str("0.0"),
                        ms => push_duration(&mut out, ms.abs()),
                    }
                }
                Kind::Number(value) => push_number(&mut out, value),
                Kind::Duration(ms) => push_number(&mut out, ms as f64 / 1e3),
                _ => out.push_str(token.text(query)),
            }
        }
        out
    }
}

fn push_number(out: &mut String, value: f64) {
    if value.is_nan() {
        out.push_str("NaN");
    } else if value.is_infinite() {
        out.push_str("Inf");
    } else {
        out.push_str(&format!("{value:?}"));
    }
}

/// A duration in units that the parser reads into 32 bits each.
fn push_duration(out: &mut String, ms: i64) {
    let (seconds, rest) = (ms / 1000, ms % 1000);
    let (days, seconds) = (seconds / 86_400, seconds % 86_400);
    for (amount, unit) in [(days, "d"), (seconds, "s"), (rest, "ms")] {
        if amount > 0 {
            out.push_str(&format!("{amount}{unit}"));
        }
    }
}

struct Scanner<'a> {
    query: &'a str,
    at: usize,
    open: Vec<(u8, usize)>,
    list: Vec<Token>,
    /// How deep the tree can be at each open bracket: the bracket and the operators since it.
    nesting: Vec<usize>,
}

const SIGNS: [&str; 26] = [
    "==", "!=", ">=", "<=", "=~", "!~", "+", "-", "*", "/", "%", "^", ">", "<", "=", "(", ")", "{",
    "}", "[", "]", ",", ":", "@", "{{", "}}",
];

impl<'a> Scanner<'a> {
    fn fail(&self, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(self.query, span, message)
    }

    fn bytes(&self) -> &'a [u8] {
        self.query.as_bytes()
    }

    fn peek(&self) -> Option<u8> {
        self.bytes().get(self.at).copied()
    }

    fn run(&mut self) -> Result<(), Diagnostic> {
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                b'#' => {
                    while self.peek().is_some_and(|byte| byte != b'\n') {
                        self.at += 1;
                    }
                }
                b'"' | b'\'' | b'`' => self.string(byte)?,
                b'0'..=b'9' => self.number()?,
                b'.' if self
                    .bytes()
                    .get(self.at + 1)
                    .is_some_and(u8::is_ascii_digit) =>
                {
                    self.number()?;
                }
                b'a'..=b'z' | b'A'..=b'Z' | b'_' => self.word()?,
                b':' if self.open.last().is_none_or(|(open, _)| *open == b'(') => self.word()?,
                _ => self.sign()?,
            }
        }
        if let Some((open, at)) = self.open.pop() {
            let what = match open {
                b'(' => "parenthesis",
                b'[' => "bracket",
                _ => "brace",
            };
            let close = match open {
                b'(' => ')',
                b'[' => ']',
                _ => '}',
            };
            let message = match open {
                b'(' => "unclosed left parenthesis".to_owned(),
                b'[' => "unexpected end of input in duration expression".to_owned(),
                _ => "unexpected end of input inside braces".to_owned(),
            };
            return Err(self
                .fail(Span::new(at, at + 1), message)
                .help(format!("this {what} is never closed: add `{close}`")));
        }
        Ok(())
    }

    fn push(&mut self, kind: Kind, start: usize) {
        self.list.push(Token {
            kind,
            span: Span::new(start, self.at),
        });
    }

    fn word(&mut self) -> Result<(), Diagnostic> {
        let start = self.at;
        let braces = self.in_braces();
        while let Some(byte) = self.peek() {
            let part = byte.is_ascii_alphanumeric() || byte == b'_' || (byte == b':' && !braces);
            if !part {
                break;
            }
            self.at += 1;
        }
        let text = &self.query[start..self.at];
        let kind = if text.eq_ignore_ascii_case("inf") {
            Kind::Number(f64::INFINITY)
        } else if text.eq_ignore_ascii_case("nan") {
            Kind::Number(f64::NAN)
        } else {
            Kind::Word
        };
        let operator = ["and", "or", "unless", "atan2"]
            .iter()
            .any(|word| text.eq_ignore_ascii_case(word));
        if operator && !braces {
            self.deepen();
        }
        self.push(if braces { Kind::Word } else { kind }, start);
        self.check_nesting(Span::new(start, self.at))
    }

    fn string(&mut self, quote: u8) -> Result<(), Diagnostic> {
        let start = self.at;
        self.at += 1;
        loop {
            let Some(byte) = self.peek() else {
                return Err(self
                    .fail(Span::new(start, start + 1), "unterminated quoted string")
                    .help(format!(
                        "this string is never closed: add {}",
                        quote as char
                    )));
            };
            let here = self.at;
            self.at += 1;
            if byte == quote {
                break;
            }
            match byte {
                b'\n' if quote != b'`' => {
                    return Err(self
                        .fail(Span::new(start, here), "unterminated quoted string")
                        .help("a string ends in its line; write \\n, or use backquotes"));
                }
                b'\\' if quote != b'`' => self.escape(here, quote)?,
                _ => {}
            }
        }
        self.push(Kind::String, start);
        Ok(())
    }

    fn escape(&mut self, start: usize, quote: u8) -> Result<(), Diagnostic> {
        let rest = &self.query[self.at..];
        let digits = |radix: u32, n: usize| {
            rest.get(1..=n)
                .is_some_and(|text| text.chars().all(|c| c.is_digit(radix)))
        };
        let length = match rest.as_bytes().first() {
            Some(b'a' | b'b' | b'f' | b'n' | b'r' | b't' | b'v' | b'\\') => Some(1),
            Some(&byte) if byte == quote => Some(1),
            Some(b'x') if digits(16, 2) => Some(3),
            Some(b'u') if digits(16, 4) => Some(5),
            Some(b'U') if digits(16, 8) => Some(9),
            Some(b'0'..=b'3')
                if rest
                    .get(..3)
                    .is_some_and(|text| text.chars().all(|c| c.is_digit(8))) =>
            {
                Some(3)
            }
            _ => None,
        };
        match length {
            Some(length) => {
                self.at += length;
                Ok(())
            }
            None => {
                let width = rest.chars().next().map_or(0, char::len_utf8);
                Err(self
                    .fail(Span::new(start, self.at + width), "unknown escape sequence")
                    .help("double the backslash, or put the string in backquotes"))
            }
        }
    }

    fn number(&mut self) -> Result<(), Diagnostic> {
        let start = self.at;
        let bytes = self.bytes();
        let mut end = start;
        // All that hangs together is one number or duration, or a mistake.
        while let Some(&byte) = bytes.get(end) {
            let exponent_sign = matches!(byte, b'+' | b'-')
                && matches!(bytes[end - 1], b'e' | b'E')
                && !self.query[start..end].starts_with("0x")
                && !self.query[start..end].starts_with("0X")
                && bytes.get(end + 1).is_some_and(u8::is_ascii_digit);
            if byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'_' || exponent_sign {
                end += 1;
            } else {
                break;
            }
        }
        self.at = end;
        let text = &self.query[start..end];
        let span = Span::new(start, end);
        if let Some(duration) = duration_ms(text) {
            return match duration {
                Some(ms) => {
                    self.push(Kind::Duration(ms), start);
                    Ok(())
                }
                None => Err(self
                    .fail(span, "duration out of range")
                    .help("the longest duration is a hundred years")),
            };
        }
        match number(text) {
            Some(value) => {
                self.push(Kind::Number(value), start);
                Ok(())
            }
            None => Err(self
                .fail(span, format!("bad number or duration syntax: {text:?}"))
                .help("a duration is digits and a unit, as in 5m or 1h30m: ms, s, m, h, d, w, y")),
        }
    }

    fn sign(&mut self) -> Result<(), Diagnostic> {
        let start = self.at;
        let rest = &self.query[start..];
        if rest.starts_with("{{") {
            return Err(self.fail(
                Span::new(start, start + 2),
                "native histograms are not supported",
            ));
        }
        let braces = self.in_braces();
        // Between a label and its value two equals signs are one too many, not a comparison.
        let Some(sign) = SIGNS
            .iter()
            .find(|sign| rest.starts_with(**sign) && !(braces && **sign == "=="))
        else {
            let c = rest.chars().next().unwrap_or(' ');
            let span = Span::new(start, start + c.len_utf8());
            let failure = self.fail(span, format!("unexpected character: {c:?}"));
            return Err(match c {
                '!' => failure.help("PromQL has no `not`; `!=` compares, `unless` excludes"),
                '&' => failure.help("write `and`"),
                '|' => failure.help("write `or`"),
                '“' | '”' | '‘' | '’' => failure.help("use straight quotes: \" or '"),
                ';' => failure.help("one query holds one expression"),
                '~' => failure.help("inside braces, `=~` matches a regular expression"),
                _ => failure,
            });
        };
        self.at += sign.len();
        let span = Span::new(start, self.at);
        match *sign {
            "(" | "[" | "{" => {
                self.open.push((sign.as_bytes()[0], start));
                self.nesting.push(1);
            }
            ")" | "]" | "}" => {
                let fits = match self.open.last() {
                    Some((open, _)) => {
                        matches!((open, *sign), (b'(', ")") | (b'[', "]") | (b'{', "}"))
                    }
                    None => false,
                };
                if !fits {
                    let failure = match *sign {
                        ")" => self.fail(span, "unexpected right parenthesis ')'"),
                        "]" => self.fail(span, "unexpected right bracket ']'"),
                        _ => self.fail(span, "unexpected right brace '}'"),
                    };
                    return Err(match self.open.last() {
                        Some((open, at)) => failure.help(format!(
                            "the {:?} in column {} is still open",
                            *open as char,
                            Span::new(*at, *at).line_column(self.query).1
                        )),
                        None => failure.help("nothing is open here: take it away"),
                    });
                }
                self.open.pop();
                self.nesting.pop();
                // `x[5m:1m][5m:1m]` is a subquery of a subquery.
                if *sign == "]" {
                    self.deepen();
                }
            }
            // The next argument is no part of the last one.
            "," => {
                if let Some(level) = self.nesting.last_mut() {
                    *level = 1;
                }
            }
            ":" | "@" => {}
            _ if !self.in_braces() => self.deepen(),
            _ => {}
        }
        self.push(Kind::Sign, start);
        self.check_nesting(span)
    }

    fn in_braces(&self) -> bool {
        self.open.last().is_some_and(|(open, _)| *open == b'{')
    }

    fn deepen(&mut self) {
        if let Some(level) = self.nesting.last_mut() {
            *level += 1;
        }
    }

    fn check_nesting(&self, span: Span) -> Result<(), Diagnostic> {
        if self.nesting.iter().sum::<usize>() <= MAX_NESTING {
            return Ok(());
        }
        Err(self
            .fail(
                span,
                format!("the query is nested more than {MAX_NESTING} deep"),
            )
            .help("record a part of it as a metric of its own"))
    }
}

/// Milliseconds of a duration such as `1h30m`: `None` if it is none, `Some(None)` if it is too long.
pub(crate) fn duration_ms(text: &str) -> Option<Option<i64>> {
    const UNITS: [(&str, i64); 7] = [
        ("ms", 1),
        ("y", 365 * 86_400_000),
        ("w", 7 * 86_400_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
    ];
    const ORDER: [&str; 7] = ["y", "w", "d", "h", "m", "s", "ms"];
    let mut rest = text;
    let mut total: i128 = 0;
    let mut least = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return None;
        }
        let tail = &rest[digits..];
        let (unit, factor) = UNITS.iter().find(|(unit, _)| {
            tail.strip_prefix(unit)
                .is_some_and(|after| after.is_empty() || after.as_bytes()[0].is_ascii_digit())
        })?;
        let order = ORDER.iter().position(|held| held == unit)? + 1;
        if order <= least {
            return None;
        }
        least = order;
        let amount = rest[..digits].parse::<i64>().unwrap_or(i64::MAX);
        total += i128::from(amount) * i128::from(*factor);
        rest = &tail[unit.len()..];
    }
    if least == 0 {
        return None;
    }
    Some(
        i64::try_from(total)
            .ok()
            .filter(|ms| *ms <= MAX_DURATION_MS),
    )
}

/// A number as Go reads it: an integer in base 10, 16, 8 or 2, else a decimal fraction.
pub(crate) fn number(text: &str) -> Option<f64> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => (-1.0, &text[1..]),
        b'+' => (1.0, &text[1..]),
        _ => (1.0, text),
    };
    let lower = digits.to_ascii_lowercase();
    let radix = |prefix: &str, radix: u32| {
        lower
            .strip_prefix(prefix)
            .and_then(|rest| i64::from_str_radix(rest, radix).ok())
            .filter(|value| *value >= 0)
    };
    let integer = if lower.starts_with("0x") {
        radix("0x", 16)
    } else if lower.starts_with("0b") {
        radix("0b", 2)
    } else if lower.starts_with("0o") {
        radix("0o", 8)
    } else if lower.len() > 1 && lower.starts_with('0') && lower.bytes().all(|b| b.is_ascii_digit())
    {
        // `08` is no octal number, so it is read as a decimal one.
        i64::from_str_radix(&lower[1..], 8).ok()
    } else {
        lower.parse().ok()
    };
    if let Some(integer) = integer {
        return Some(sign * integer as f64);
    }
    let plain = lower
        .bytes()
        .all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'+' | b'-'));
    match lower.as_str() {
        "inf" | "infinity" => Some(sign * f64::INFINITY),
        "nan" => Some(f64::NAN),
        _ if plain => lower.parse::<f64>().ok().map(|value| sign * value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(query: &str) -> Vec<&str> {
        Tokens::read(query, Dialect::V3)
            .unwrap()
            .list
            .iter()
            .map(|token| token.text(query))
            .collect()
    }

    #[test]
    fn tokens_know_their_places() {
        assert_eq!(
            texts("sum by (a) (rate(x:y{a=~\"b c\"}[1h30m:30s] offset -5m)) >= 1e-3 # end"),
            [
                "sum", "by", "(", "a", ")", "(", "rate", "(", "x:y", "{", "a", "=~", "\"b c\"",
                "}", "[", "1h30m", ":", "30s", "]", "offset", "-", "5m", ")", ")", ">=", "1e-3"
            ]
        );
    }

    #[test]
    fn numbers_read_as_go_reads_them() {
        for (text, value) in [
            ("42", 42.0),
            ("0x1f", 31.0),
            ("0755", 493.0),
            ("08", 8.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("1e3", 1000.0),
            ("-1", -1.0),
            ("+Inf", f64::INFINITY),
        ] {
            assert_eq!(number(text), Some(value), "{text}");
        }
        assert!(number("1_000").is_none() && number("0xg").is_none() && number("").is_none());
    }

    #[test]
    fn durations_add_up_in_falling_units_only() {
        assert_eq!(duration_ms("1h30m"), Some(Some(5_400_000)));
        assert_eq!(duration_ms("1s500ms"), Some(Some(1_500)));
        assert_eq!(duration_ms("30m1h"), None);
        assert_eq!(duration_ms("5"), None);
        assert_eq!(duration_ms("9999999999999y"), Some(None));
    }

    #[test]
    fn a_number_is_a_duration_in_version_3_only() {
        let query = "x[300] + 5m";
        assert_eq!(
            Tokens::read(query, Dialect::V3).unwrap().normalized(query),
            "x [ 300s ] + 300.0"
        );
        let error = Tokens::read("x[300]", Dialect::V2).unwrap_err();
        assert_eq!(
            error.to_string(),
            "1:3: parse error: missing unit character in duration"
        );
        assert!(Tokens::read("x + 5m", Dialect::V2).is_err());
    }

    #[test]
    fn what_the_parser_would_choke_on_never_reaches_it() {
        for query in ["x[1e300]", "x[0]", "x[NaN]", "x offset 1e300"] {
            assert!(Tokens::read(query, Dialect::V3).is_err(), "{query}");
        }
        let deep = "(".repeat(100_000);
        assert!(Tokens::read(&deep, Dialect::V3).is_err());
        let long = "1+".repeat(20_000) + "1";
        assert!(Tokens::read(&long, Dialect::V3).is_err());
    }
}
