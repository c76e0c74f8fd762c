//! Cuts a template into text and the tokens of its actions.

use super::Fault;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// Text between actions.
    Text(String),
    /// `{{`
    Open,
    /// `}}`
    Close,
    /// A name that begins no field: a function or a keyword.
    Word(String),
    /// `$name`, with the sign; `$` alone is the data as a whole.
    Variable(String),
    /// `.name`
    Field(String),
    /// `.` alone
    Dot,
    /// A text in quotes.
    Quoted(String),
    Int(i64),
    Float(f64),
    Pipe,
    LeftParen,
    RightParen,
    Comma,
    /// `:=`
    Declare,
    /// `=`
    Assign,
    Space,
}

/// Tokens with the byte offsets at which they begin.
pub(super) fn lex(text: &str) -> Result<Vec<(Token, usize)>, Fault> {
    let mut tokens = Vec::new();
    let mut at = 0;
    let mut trim_start = false;
    loop {
        let rest = &text[at..];
        let open = rest.find("{{");
        let mut literal = &rest[..open.unwrap_or(rest.len())];
        if trim_start {
            literal = literal.trim_start_matches([' ', '\t', '\r', '\n']);
        }
        let Some(open) = open else {
            if !literal.is_empty() {
                tokens.push((Token::Text(literal.to_owned()), at));
            }
            return Ok(tokens);
        };
        let mut inside = at + open + 2;
        if text[inside..].starts_with('-')
            && text[inside + 1..].starts_with([' ', '\t', '\r', '\n'])
        {
            literal = literal.trim_end_matches([' ', '\t', '\r', '\n']);
            inside += 2;
        }
        if !literal.is_empty() {
            tokens.push((Token::Text(literal.to_owned()), at));
        }
        let start = at + open;
        if text[inside..].starts_with("/*") {
            (at, trim_start) = comment(text, start, inside)?;
            continue;
        }
        tokens.push((Token::Open, start));
        (at, trim_start) = action(text, start, inside, &mut tokens)?;
    }
}

/// Skips a comment; where it ends, and whether the text after it is trimmed.
fn comment(text: &str, start: usize, inside: usize) -> Result<(usize, bool), Fault> {
    let end = text[inside..]
        .find("*/")
        .map(|end| inside + end + 2)
        .ok_or_else(|| {
            Fault::new(start, "the comment does not end").remedy("close it by `*/}}`")
        })?;
    let rest = &text[end..];
    if rest.starts_with("}}") {
        return Ok((end + 2, false));
    }
    if rest.starts_with([' ', '\t', '\r', '\n']) && rest[1..].starts_with("-}}") {
        return Ok((end + 4, true));
    }
    Err(Fault::new(start, "the comment ends before its action does")
        .remedy("a comment stands alone between `{{/*` and `*/}}`"))
}

fn action(
    text: &str,
    start: usize,
    mut at: usize,
    tokens: &mut Vec<(Token, usize)>,
) -> Result<(usize, bool), Fault> {
    let unclosed = || Fault::new(start, "the action does not end").remedy("close it by `}}`");
    let mut depth = 0_usize;
    loop {
        let rest = &text[at..];
        let Some(c) = rest.chars().next() else {
            return Err(unclosed());
        };
        if rest.starts_with("}}") {
            if depth > 0 {
                return Err(Fault::new(at, "a parenthesis is open").remedy("close it by `)`"));
            }
            tokens.push((Token::Close, at));
            return Ok((at + 2, false));
        }
        if matches!(c, ' ' | '\t' | '\r' | '\n') {
            let length = rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
            if rest[length..].starts_with("-}}") {
                if depth > 0 {
                    return Err(Fault::new(at, "a parenthesis is open").remedy("close it by `)`"));
                }
                tokens.push((Token::Close, at));
                return Ok((at + length + 3, true));
            }
            tokens.push((Token::Space, at));
            at += length;
            continue;
        }
        let (token, length) = match c {
            '|' => (Token::Pipe, 1),
            ',' => (Token::Comma, 1),
            '=' => (Token::Assign, 1),
            ':' if rest.starts_with(":=") => (Token::Declare, 2),
            '(' => {
                depth += 1;
                (Token::LeftParen, 1)
            }
            ')' => {
                depth = depth
                    .checked_sub(1)
                    .ok_or_else(|| Fault::new(at, "a parenthesis too many"))?;
                (Token::RightParen, 1)
            }
            '"' => quoted(rest, at)?,
            '`' => {
                let end = rest[1..]
                    .find('`')
                    .ok_or_else(|| Fault::new(at, "the raw text does not end"))?;
                (Token::Quoted(rest[1..=end].to_owned()), end + 2)
            }
            '\'' => character(rest, at)?,
            '$' => {
                let name = word_length(&rest[1..]);
                (Token::Variable(rest[..=name].to_owned()), name + 1)
            }
            '.' if !rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                let name = word_length(&rest[1..]);
                if name == 0 {
                    (Token::Dot, 1)
                } else {
                    (Token::Field(rest[1..=name].to_owned()), name + 1)
                }
            }
            c if c.is_ascii_digit() || matches!(c, '+' | '-' | '.') => number(rest, at)?,
            c if c.is_alphabetic() || c == '_' => {
                let length = word_length(rest);
                (Token::Word(rest[..length].to_owned()), length)
            }
            c => {
                return Err(Fault::new(at, format!("`{c}` belongs in no action"))
                    .remedy("write operators as functions, as in `gt $value 5.0`"));
            }
        };
        tokens.push((token, at));
        at += length;
    }
}

fn word_length(text: &str) -> usize {
    text.find(|c: char| !(c.is_alphanumeric() || c == '_'))
        .unwrap_or(text.len())
}

fn quoted(rest: &str, at: usize) -> Result<(Token, usize), Fault> {
    let open = || {
        Fault::new(at, "the quoted text does not end")
            .remedy("close it by a double quote in the same line")
    };
    let mut value = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((index, c)) = chars.next() {
        match c {
            '"' => return Ok((Token::Quoted(value), index + 1)),
            '\n' => return Err(open()),
            '\\' => {
                let (_, escaped) = chars.next().ok_or_else(open)?;
                value.push(escape(escaped, &mut chars).ok_or_else(|| {
                    Fault::new(at + index, format!("`\\{escaped}` is no escape"))
                        .remedy("write a backslash as `\\\\`, or the text between back quotes")
                })?);
            }
            c => value.push(c),
        }
    }
    Err(open())
}

fn escape(c: char, chars: &mut impl Iterator<Item = (usize, char)>) -> Option<char> {
    let mut code = |digits: usize| {
        let text: String = chars.by_ref().take(digits).map(|(_, c)| c).collect();
        (text.len() == digits)
            .then(|| u32::from_str_radix(&text, 16).ok().and_then(char::from_u32))
            .flatten()
    };
    match c {
        'n' => Some('\n'),
        't' => Some('\t'),
        'r' => Some('\r'),
        'a' => Some('\x07'),
        'b' => Some('\x08'),
        'f' => Some('\x0c'),
        'v' => Some('\x0b'),
        '\\' | '"' | '\'' => Some(c),
        'x' => code(2).filter(char::is_ascii),
        'u' => code(4),
        'U' => code(8),
        _ => None,
    }
}

/// `'a'` is the number of the character, as in Go.
fn character(rest: &str, at: usize) -> Result<(Token, usize), Fault> {
    let wrong = || {
        Fault::new(at, "single quotes hold one character in Go")
            .remedy("put a text in double quotes")
    };
    let mut chars = rest.char_indices().skip(1);
    let value = match chars.next().ok_or_else(wrong)? {
        (_, '\\') => {
            let (_, escaped) = chars.next().ok_or_else(wrong)?;
            escape(escaped, &mut chars).ok_or_else(wrong)?
        }
        (_, '\'') => return Err(wrong()),
        (_, c) => c,
    };
    match chars.next() {
        Some((index, '\'')) => Ok((Token::Int(i64::from(u32::from(value))), index + 1)),
        _ => Err(wrong()),
    }
}

fn number(rest: &str, at: usize) -> Result<(Token, usize), Fault> {
    let sign = usize::from(rest.starts_with(['+', '-']));
    let hexadecimal = rest[sign..].starts_with("0x") || rest[sign..].starts_with("0X");
    let mut length = sign;
    let bytes = rest.as_bytes();
    while length < bytes.len() {
        let byte = bytes[length];
        let exponent_sign = matches!(byte, b'+' | b'-')
            && !hexadecimal
            && length > sign
            && matches!(bytes[length - 1], b'e' | b'E');
        if byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'_' || exponent_sign {
            length += 1;
        } else {
            break;
        }
    }
    let text = rest[..length].replace('_', "");
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(unsigned) => (true, unsigned),
        None => (false, text.strip_prefix('+').unwrap_or(&text)),
    };
    let radix = |prefixes: [&str; 2], radix: u32| {
        prefixes
            .iter()
            .find_map(|prefix| unsigned.strip_prefix(prefix))
            .map(|digits| i64::from_str_radix(digits, radix))
    };
    let whole = radix(["0x", "0X"], 16)
        .or_else(|| radix(["0b", "0B"], 2))
        .or_else(|| radix(["0o", "0O"], 8))
        .unwrap_or_else(|| {
            let octal = unsigned.len() > 1 && unsigned.starts_with('0');
            i64::from_str_radix(unsigned, if octal { 8 } else { 10 })
        });
    let token = match whole {
        Ok(value) => Token::Int(if negative { -value } else { value }),
        Err(_) => text
            .parse()
            .ok()
            .filter(|_| unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.'))
            .map(Token::Float)
            .ok_or_else(|| {
                Fault::new(at, format!("`{}` is no number", &rest[..length]))
                    .remedy("write operators as functions, as in `gt $value 5.0`")
            })?,
    };
    Ok((token, length))
}
