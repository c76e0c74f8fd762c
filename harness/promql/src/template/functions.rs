//! The functions of templates: Go's own and Prometheus's.

use regex::Regex;

use crate::duration::parse_duration;
use crate::value::Sample;

use super::Ask;
use super::number::{fixed, scientific, shortest, significant};
use super::run::Value;

/// Name, and the least and the most arguments.
const FUNCTIONS: [(&str, usize, usize); 44] = [
    ("and", 1, usize::MAX),
    ("args", 0, usize::MAX),
    ("eq", 1, usize::MAX),
    ("externalURL", 0, 0),
    ("first", 1, 1),
    ("ge", 2, 2),
    ("graphLink", 1, 1),
    ("gt", 2, 2),
    ("html", 0, usize::MAX),
    ("humanize", 1, 1),
    ("humanize1024", 1, 1),
    ("humanizeDuration", 1, 1),
    ("humanizePercentage", 1, 1),
    ("humanizeTimestamp", 1, 1),
    ("index", 1, usize::MAX),
    ("js", 0, usize::MAX),
    ("label", 2, 2),
    ("le", 2, 2),
    ("len", 1, 1),
    ("lt", 2, 2),
    ("match", 2, 2),
    ("ne", 2, 2),
    ("not", 1, 1),
    ("or", 1, usize::MAX),
    ("parseDuration", 1, 1),
    ("pathPrefix", 0, 0),
    ("print", 0, usize::MAX),
    ("printf", 1, usize::MAX),
    ("println", 0, usize::MAX),
    ("query", 1, 1),
    ("reReplaceAll", 3, 3),
    ("safeHtml", 1, 1),
    ("slice", 1, 4),
    ("sortByLabel", 2, 2),
    ("stripDomain", 1, 1),
    ("stripPort", 1, 1),
    ("strvalue", 1, 1),
    ("tableLink", 1, 1),
    ("title", 1, 1),
    ("toLower", 1, 1),
    ("toTime", 1, 1),
    ("toUpper", 1, 1),
    ("urlquery", 0, usize::MAX),
    ("value", 1, 1),
];

/// Functions that Prometheus has and that are not taken here.
const REFUSED: [&str; 2] = ["call", "tmpl"];

/// A function that exists.
#[derive(Debug, Clone, Copy)]
pub(super) struct Function {
    name: &'static str,
    least: usize,
    most: usize,
}

/// A value where another was expected, and so on.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) what: String,
    pub(super) remedy: Option<String>,
}

impl<T: Into<String>> From<T> for Problem {
    fn from(what: T) -> Self {
        Problem {
            what: what.into(),
            remedy: None,
        }
    }
}

pub(super) struct Call<'a> {
    pub(super) arguments: &'a [Value],
    pub(super) ask: &'a Ask<'a>,
    pub(super) external_url: &'a str,
}

impl Function {
    /// The function of this name, or a remedy.
    pub(super) fn named(name: &str) -> Result<Self, String> {
        if let Some(&(name, least, most)) = FUNCTIONS.iter().find(|(known, ..)| *known == name) {
            return Ok(Function { name, least, most });
        }
        if REFUSED.contains(&name) {
            return Err("it serves console pages and is not taken here".to_owned());
        }
        let closest = FUNCTIONS
            .iter()
            .map(|&(known, ..)| {
                let distance =
                    strsim::damerau_levenshtein(&name.to_lowercase(), &known.to_lowercase());
                (distance, known)
            })
            .min()
            .filter(|&(distance, known)| distance * 3 <= known.len().max(name.len()));
        Err(match closest {
            Some((_, known)) => format!("did you mean `{known}`?"),
            None => "put a text in double quotes; a label is `$labels.name`".to_owned(),
        })
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn asks(&self) -> bool {
        self.name == "query"
    }

    pub(super) fn check_count(&self, count: usize) -> Result<(), String> {
        if (self.least..=self.most).contains(&count) {
            return Ok(());
        }
        let want = if self.most == usize::MAX {
            format!("at least {}", self.least)
        } else {
            self.least.to_string()
        };
        Err(format!(
            "wrong number of args for {}: want {want} got {count}",
            self.name
        ))
    }

    /// Whether this argument decides `and` or `or` without the following ones.
    pub(super) fn is_decided_by(&self, value: &Value) -> bool {
        match self.name {
            "and" => !value.is_true(),
            "or" => value.is_true(),
            _ => false,
        }
    }

    pub(super) fn call(&self, call: &Call<'_>) -> Result<Value, Problem> {
        let arguments = call.arguments;
        let text = |index: usize| text_of(&arguments[index]);
        let number = || to_float(&arguments[0]);
        Ok(match self.name {
            "and" | "or" => arguments.last().cloned().unwrap_or(Value::Nothing),
            "not" => Value::Bool(!arguments[0].is_true()),
            "eq" => Value::Bool(equals_any(&arguments[0], &arguments[1..])?),
            "ne" => Value::Bool(!equal(&arguments[0], &arguments[1])?),
            "lt" => Value::Bool(less(&arguments[0], &arguments[1])?),
            "le" => Value::Bool(less_or_equal(&arguments[0], &arguments[1])?),
            "gt" => Value::Bool(!less_or_equal(&arguments[0], &arguments[1])?),
            "ge" => Value::Bool(!less(&arguments[0], &arguments[1])?),
            "len" => Value::Int(length(&arguments[0])?),
            "index" => index(arguments)?,
            "slice" => slice(arguments)?,
            "print" => Value::Text(print(arguments)?),
            "println" => Value::Text(format!("{}\n", printed(arguments)?.join(" "))),
            "printf" => Value::Text(printf(text(0)?, &arguments[1..])?),
            "html" => Value::Text(escape_html(&print(arguments)?)),
            "js" => Value::Text(escape_js(&print(arguments)?)),
            "urlquery" => Value::Text(escape_query(&print(arguments)?)),

            "args" => Value::Packed(arguments.to_vec()),
            "query" => {
                let query = text(0)?;
                let samples = (call.ask)(query).map_err(|reason| Problem {
                    what: reason,
                    remedy: Some(format!("check the query `{query}`")),
                })?;
                Value::Vector(samples)
            }
            "first" => match &arguments[0] {
                Value::Vector(samples) => match samples.first() {
                    Some(sample) => Value::Sample(sample.clone()),
                    None => {
                        return Err(Problem {
                            what: "first() called on vector with no elements".into(),
                            remedy: Some(
                                "ask inside of `with`, which skips an empty answer".into(),
                            ),
                        });
                    }
                },
                other => return Err(wrong_type(other, "a query's answer")),
            },
            "value" => Value::Float(sample_of(&arguments[0])?.value),
            "strvalue" => Value::Text(sample_of(&arguments[0])?.labels.value("__value__").into()),
            "label" => Value::Text(sample_of(&arguments[1])?.labels.value(text(0)?).into()),
            "sortByLabel" => {
                let name = text(0)?;
                match &arguments[1] {
                    Value::Vector(samples) => {
                        let mut samples = samples.clone();
                        samples.sort_by(|a, b| a.labels.value(name).cmp(b.labels.value(name)));
                        Value::Vector(samples)
                    }
                    other => return Err(wrong_type(other, "a query's answer")),
                }
            }

            "humanize" => Value::Text(humanize(number()?)),
            "humanize1024" => Value::Text(humanize_1024(number()?)),
            "humanizeDuration" => Value::Text(humanize_duration(number()?)),
            "humanizePercentage" => Value::Text(format!("{}%", significant(number()? * 100.0, 4))),
            "humanizeTimestamp" | "toTime" => Value::Text(humanize_timestamp(number()?)?),
            "parseDuration" => {
                let duration = parse_duration(text(0)?).map_err(|error| Problem {
                    what: error.to_string(),
                    remedy: Some(error.remedy()),
                })?;
                Value::Float(duration.as_secs_f64())
            }

            "title" => Value::Text(title(text(0)?)),
            "toUpper" => Value::Text(text(0)?.to_uppercase()),
            "toLower" => Value::Text(text(0)?.to_lowercase()),
            "match" => Value::Bool(regex(text(0)?)?.is_match(text(1)?)),
            "reReplaceAll" => {
                let replaced = regex(text(0)?)?
                    .replace_all(text(2)?, text(1)?)
                    .into_owned();
                Value::Text(replaced)
            }
            "stripPort" => Value::Text(strip_port(text(0)?).to_owned()),
            "stripDomain" => Value::Text(strip_domain(text(0)?)),
            "safeHtml" => Value::Text(text(0)?.to_owned()),
            "graphLink" => Value::Text(link(text(0)?, 0)),
            "tableLink" => Value::Text(link(text(0)?, 1)),
            "externalURL" => Value::Text(call.external_url.to_owned()),
            "pathPrefix" => Value::Text(path_of(call.external_url).to_owned()),
            name => return Err(format!("function `{name}` is not defined").into()),
        })
    }
}

fn wrong_type(value: &Value, wanted: &str) -> Problem {
    Problem {
        what: format!(
            "wrong type for value; expected {wanted}; got {}",
            value.go_type()
        ),
        remedy: match (wanted, value) {
            ("string", Value::Float(_) | Value::Int(_)) => {
                Some("make it text first, as in `printf \"%.2f\" $value`".to_owned())
            }
            _ => None,
        },
    }
}

fn text_of(value: &Value) -> Result<&str, Problem> {
    match value {
        Value::Text(text) => Ok(text),
        other => Err(wrong_type(other, "string")),
    }
}

fn sample_of(value: &Value) -> Result<&Sample, Problem> {
    match value {
        Value::Sample(sample) => Ok(sample),
        other => Err(wrong_type(other, "a sample")),
    }
}

fn to_float(value: &Value) -> Result<f64, Problem> {
    match value {
        Value::Float(value) => Ok(*value),
        Value::Int(value) => Ok(*value as f64),
        Value::Text(text) => text
            .parse()
            .map_err(|_| format!("`{text}` is no number").into()),
        other => Err(format!("can't convert {} to float", other.go_type()).into()),
    }
}

fn incompatible() -> Problem {
    Problem {
        what: "incompatible types for comparison".to_owned(),
        remedy: Some(
            "`$value` is a floating-point number: compare it with one, as in `5.0`".to_owned(),
        ),
    }
}

fn equals_any(value: &Value, others: &[Value]) -> Result<bool, Problem> {
    if others.is_empty() {
        return Err("missing argument for comparison".into());
    }
    for other in others {
        if equal(value, other)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn equal(a: &Value, b: &Value) -> Result<bool, Problem> {
    match (a, b) {
        (Value::Text(a), Value::Text(b)) => Ok(a == b),
        (Value::Float(a), Value::Float(b)) => Ok(a == b),
        (Value::Int(a), Value::Int(b)) => Ok(a == b),
        (Value::Bool(a), Value::Bool(b)) => Ok(a == b),
        (Value::Nothing, Value::Nothing) => Ok(true),
        (Value::Nothing, _) | (_, Value::Nothing) => Ok(false),
        (
            Value::Text(_) | Value::Float(_) | Value::Int(_) | Value::Bool(_),
            Value::Text(_) | Value::Float(_) | Value::Int(_) | Value::Bool(_),
        ) => Err(incompatible()),
        (other, Value::Text(_) | Value::Float(_) | Value::Int(_) | Value::Bool(_)) | (_, other) => {
            Err(format!("uncomparable type {}", other.go_type()).into())
        }
    }
}

fn less(a: &Value, b: &Value) -> Result<bool, Problem> {
    match (a, b) {
        (Value::Text(a), Value::Text(b)) => Ok(a < b),
        (Value::Float(a), Value::Float(b)) => Ok(a < b),
        (Value::Int(a), Value::Int(b)) => Ok(a < b),
        (
            Value::Text(_) | Value::Float(_) | Value::Int(_),
            Value::Text(_) | Value::Float(_) | Value::Int(_),
        ) => Err(incompatible()),
        _ => Err("invalid type for comparison".into()),
    }
}

fn less_or_equal(a: &Value, b: &Value) -> Result<bool, Problem> {
    Ok(less(a, b)? || equal(a, b)?)
}

fn length(value: &Value) -> Result<i64, Problem> {
    let length = match value {
        Value::Text(text) => text.len(),
        Value::Labels(labels) => labels.len(),
        Value::Vector(samples) => samples.len(),
        Value::Packed(values) => values.len(),
        other => return Err(format!("len of type {}", other.go_type()).into()),
    };
    Ok(length as i64)
}

fn position(value: &Value, length: usize) -> Result<usize, Problem> {
    match value {
        Value::Int(at) => usize::try_from(*at)
            .ok()
            .filter(|&at| at <= length)
            .ok_or_else(|| format!("index out of range: {at}").into()),
        other => Err(format!("cannot index slice/array with type {}", other.go_type()).into()),
    }
}

fn index(arguments: &[Value]) -> Result<Value, Problem> {
    let mut value = arguments[0].clone();
    for at in &arguments[1..] {
        value = match &value {
            Value::Labels(labels) => Value::Text(labels.value(text_of(at)?).to_owned()),
            Value::Vector(samples) => samples
                .get(position(at, samples.len())?)
                .map(|sample| Value::Sample(sample.clone()))
                .ok_or("index out of range")?,
            Value::Text(text) => text
                .as_bytes()
                .get(position(at, text.len())?)
                .map(|&byte| Value::Int(i64::from(byte)))
                .ok_or("index out of range")?,
            other => return Err(format!("can't index item of type {}", other.go_type()).into()),
        };
    }
    Ok(value)
}

fn slice(arguments: &[Value]) -> Result<Value, Problem> {
    let length = length(&arguments[0])? as usize;
    let bound = |nth: usize, otherwise: usize| {
        arguments
            .get(nth)
            .map_or(Ok(otherwise), |at| position(at, length))
    };
    let (from, to) = (bound(1, 0)?, bound(2, length)?);
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}").into());
    }
    match &arguments[0] {
        Value::Text(text) => text
            .get(from..to)
            .map(|part| Value::Text(part.to_owned()))
            .ok_or_else(|| "the slice cuts a character".into()),
        Value::Vector(samples) => Ok(Value::Vector(samples[from..to].to_vec())),
        other => Err(format!("can't slice item of type {}", other.go_type()).into()),
    }
}

fn printed(arguments: &[Value]) -> Result<Vec<String>, Problem> {
    arguments
        .iter()
        .map(|value| value.printed().map_err(Problem::from))
        .collect()
}

/// Go's `Sprint`: a space between two operands of which neither is text.
fn print(arguments: &[Value]) -> Result<String, Problem> {
    let mut out = String::new();
    for (nth, text) in printed(arguments)?.into_iter().enumerate() {
        let is_text = |value: &Value| matches!(value, Value::Text(_));
        if nth > 0 && !is_text(&arguments[nth - 1]) && !is_text(&arguments[nth]) {
            out.push(' ');
        }
        out.push_str(&text);
    }
    Ok(out)
}

#[derive(Default)]
struct Flags {
    minus: bool,
    plus: bool,
    zero: bool,
    space: bool,
    width: usize,
    precision: Option<usize>,
}

/// The widest field of `printf`, in characters.
const WIDEST: usize = 10_000;

fn printf(format: &str, arguments: &[Value]) -> Result<String, Problem> {
    let mut out = String::new();
    let mut next = arguments.iter();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut flags = Flags::default();
        while let Some(&flag) = chars.peek() {
            match flag {
                '-' => flags.minus = true,
                '+' => flags.plus = true,
                '0' => flags.zero = true,
                ' ' => flags.space = true,
                // Go's other forms; none of them is of use in an alert.
                '#' => {}
                _ => break,
            }
            chars.next();
        }
        let mut number = || -> Result<Option<usize>, Problem> {
            let mut digits = String::new();
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            match digits.parse::<usize>() {
                Ok(number) if number <= WIDEST => Ok(Some(number)),
                Ok(_) => Err("a width of printf is too large".into()),
                Err(_) => Ok(None),
            }
        };
        flags.width = number()?.unwrap_or(0);
        if chars.next_if_eq(&'.').is_some() {
            let mut digits = String::new();
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            flags.precision = Some(digits.parse::<usize>().unwrap_or(0).min(500));
        }
        match chars.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => match next.next() {
                None => out.push_str(&format!("%!{verb}(MISSING)")),
                Some(value) => out.push_str(&formatted(verb, &flags, value)?),
            },
        }
    }
    let extra: Vec<String> = next
        .map(|value| Ok(format!("{}={}", value.go_type(), value.printed()?)))
        .collect::<Result<_, String>>()?;
    if !extra.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    Ok(out)
}

fn formatted(verb: char, flags: &Flags, value: &Value) -> Result<String, Problem> {
    let cut = |text: &str| -> String {
        match flags.precision {
            Some(most) => text.chars().take(most).collect(),
            None => text.to_owned(),
        }
    };
    let body = match (value, verb) {
        (Value::Float(number), 'v' | 'g' | 'G') => signed(
            flags,
            match flags.precision {
                Some(precision) => significant(*number, precision),
                None => shortest(*number),
            },
        ),
        (Value::Float(number), 'f' | 'F') => {
            signed(flags, fixed(*number, flags.precision.unwrap_or(6)))
        }
        (Value::Float(number), 'e' | 'E') => {
            signed(flags, scientific(*number, flags.precision.unwrap_or(6)))
        }
        (Value::Int(number), 'v' | 'd') => signed(flags, number.to_string()),
        (Value::Int(number), 'x') => signed(flags, radix(*number, |n| format!("{n:x}"))),
        (Value::Int(number), 'X') => signed(flags, radix(*number, |n| format!("{n:X}"))),
        (Value::Int(number), 'o') => signed(flags, radix(*number, |n| format!("{n:o}"))),
        (Value::Int(number), 'b') => signed(flags, radix(*number, |n| format!("{n:b}"))),
        (Value::Int(number), 'c') => u32::try_from(*number)
            .ok()
            .and_then(char::from_u32)
            .unwrap_or(char::REPLACEMENT_CHARACTER)
            .to_string(),
        (Value::Bool(value), 'v' | 't') => value.to_string(),
        (Value::Text(text), 'v' | 's') => cut(text),
        (Value::Text(text), 'q') => crate::labels::Quoted(&cut(text)).to_string(),
        (Value::Text(text), 'x') => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
        (Value::Labels(_) | Value::Packed(_), 'v' | 's') => value.printed()?,
        (Value::Nothing, 'v') => "<nil>".to_owned(),
        (Value::Nothing, verb) => format!("%!{verb}(<nil>)"),
        (value, verb) => format!("%!{verb}({}={})", value.go_type(), value.printed()?),
    };
    let body = if verb.is_uppercase() && verb != 'X' {
        body.to_uppercase()
    } else {
        body
    };
    Ok(padded(
        flags,
        body,
        matches!(value, Value::Float(_) | Value::Int(_)),
    ))
}

fn radix(number: i64, write: impl Fn(u64) -> String) -> String {
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{}", write(number.unsigned_abs()))
}

fn signed(flags: &Flags, text: String) -> String {
    let has_sign = text.starts_with(['-', '+']);
    match (has_sign, flags.plus, flags.space) {
        (true, false, _) if text == "+Inf" => text,
        (true, ..) => text,
        (false, true, _) => format!("+{text}"),
        (false, false, true) => format!(" {text}"),
        (false, false, false) => text,
    }
}

fn padded(flags: &Flags, text: String, is_number: bool) -> String {
    let missing = flags.width.saturating_sub(text.chars().count());
    if missing == 0 {
        return text;
    }
    if flags.minus {
        return format!("{text}{}", " ".repeat(missing));
    }
    let finite = !text.ends_with("Inf") && text != "NaN";
    if flags.zero && (!is_number || finite) {
        let sign = text.len() - text.trim_start_matches(['-', '+', ' ']).len();
        let sign = if is_number { sign.min(1) } else { 0 };
        return format!("{}{}{}", &text[..sign], "0".repeat(missing), &text[sign..]);
    }
    format!("{}{text}", " ".repeat(missing))
}

fn regex(pattern: &str) -> Result<Regex, Problem> {
    Regex::new(pattern).map_err(|error| {
        let text = error.to_string();
        format!(
            "the regular expression `{pattern}` cannot be read: {}",
            text.lines()
                .last()
                .unwrap_or_default()
                .trim_start_matches("error: ")
        )
        .into()
    })
}

fn scaled(mut value: f64, prefixes: [&'static str; 8]) -> String {
    let mut prefix = "";
    for next in prefixes {
        if value.abs() >= 1.0 {
            break;
        }
        prefix = next;
        value *= 1000.0;
    }
    format!("{}{prefix}", significant(value, 4))
}

const SMALL: [&str; 8] = ["m", "u", "n", "p", "f", "a", "z", "y"];

fn grown(mut value: f64, step: f64, prefixes: [&'static str; 8]) -> String {
    let mut prefix = "";
    for next in prefixes {
        if value.abs() < step {
            break;
        }
        prefix = next;
        value /= step;
    }
    format!("{}{prefix}", significant(value, 4))
}

fn humanize(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        significant(value, 4)
    } else if value.abs() >= 1.0 {
        grown(value, 1000.0, ["k", "M", "G", "T", "P", "E", "Z", "Y"])
    } else {
        scaled(value, SMALL)
    }
}

fn humanize_1024(value: f64) -> String {
    if value.abs() <= 1.0 || !value.is_finite() {
        return significant(value, 4);
    }
    grown(
        value,
        1024.0,
        ["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"],
    )
}

fn humanize_duration(value: f64) -> String {
    if !value.is_finite() {
        return significant(value, 4);
    }
    if value == 0.0 {
        return format!("{}s", significant(value, 4));
    }
    if value.abs() < 1.0 {
        return format!("{}s", scaled(value, SMALL));
    }
    let sign = if value < 0.0 { "-" } else { "" };
    let whole = value.abs() as i64;
    let (seconds, minutes) = (whole % 60, (whole / 60) % 60);
    let (hours, days) = ((whole / 3600) % 24, whole / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{sign}{}s", significant(value.abs(), 4)),
        (0, 0, _) => format!("{sign}{minutes}m {seconds}s"),
        (0, _, _) => format!("{sign}{hours}h {minutes}m {seconds}s"),
        _ => format!("{sign}{days}d {hours}h {minutes}m {seconds}s"),
    }
}

/// As Go prints a time in UTC, cut to milliseconds.
fn humanize_timestamp(value: f64) -> Result<String, Problem> {
    if !value.is_finite() {
        return Ok(significant(value, 4));
    }
    let overflow = || {
        Problem::from(format!(
            "{value:.6} cannot be represented as a nanoseconds timestamp since it overflows int64"
        ))
    };
    let nanos = value * 1e9;
    if nanos > i64::MAX as f64 || nanos < i64::MIN as f64 {
        return Err(overflow());
    }
    let millis = nanos as i64 / 1_000_000;
    let time = jiff::Timestamp::from_millisecond(millis).map_err(|_| overflow())?;
    let whole = time.strftime("%Y-%m-%d %H:%M:%S").to_string();
    let fraction = match millis.rem_euclid(1000) {
        0 => String::new(),
        fraction => format!(".{fraction:03}").trim_end_matches('0').to_owned(),
    };
    Ok(format!("{whole}{fraction} +0000 UTC"))
}

fn title(text: &str) -> String {
    let mut before = ' ';
    text.chars()
        .map(|c| {
            let starts = match before {
                before if before.is_ascii() => !(before.is_ascii_alphanumeric() || before == '_'),
                before => !before.is_alphanumeric() && before.is_whitespace(),
            };
            before = c;
            match (starts, c.to_uppercase().collect::<Vec<_>>().as_slice()) {
                (true, [upper]) => *upper,
                _ => c,
            }
        })
        .collect()
}

fn strip_port(text: &str) -> &str {
    if let Some(inner) = text.strip_prefix('[') {
        return match inner.split_once("]:") {
            Some((host, port)) if !port.contains(':') => host,
            _ => text,
        };
    }
    match text.rsplit_once(':') {
        Some((host, _)) if !host.contains(':') => host,
        _ => text,
    }
}

fn strip_domain(text: &str) -> String {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') => (host, Some(port)),
        _ => (text, None),
    };
    if host.parse::<std::net::IpAddr>().is_ok() || host.contains(':') {
        return text.to_owned();
    }
    let short = host.split('.').next().unwrap_or(host);
    match port {
        Some(port) => format!("{short}:{port}"),
        None => short.to_owned(),
    }
}

fn link(query: &str, tab: u8) -> String {
    format!("/graph?g0.expr={}&g0.tab={tab}", escape_query(query))
}

fn path_of(url: &str) -> &str {
    let after = url.split_once("://").map_or(url, |(_, after)| after);
    let path = after.find('/').map_or("", |at| &after[at..]);
    path.split(['?', '#']).next().unwrap_or("")
}

fn escape_query(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            byte if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) => {
                out.push(char::from(byte));
            }
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn escape_html(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '\0' => out.push(char::REPLACEMENT_CHARACTER),
            c => out.push(c),
        }
    }
    out
}

fn escape_js(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' => out.push_str("\\u003C"),
            '>' => out.push_str("\\u003E"),
            '&' => out.push_str("\\u0026"),
            '=' => out.push_str("\\u003D"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}
