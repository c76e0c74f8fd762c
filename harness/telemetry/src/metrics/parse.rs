//! Text to [`Scrape`], for both formats.

use std::collections::HashMap;

use super::{
    Exemplar, Family, Format, Kind, Labels, MAX_FAMILIES, MAX_LABELS, MAX_LINE_BYTES, MAX_SAMPLES,
    MAX_TEXT_BYTES, MetricName, Sample, Scrape, Timestamp, is_label_name_char, is_label_name_start,
    is_metric_name_char, is_metric_name_start,
};
use crate::ParseError;
use crate::source::{Cursor, check_size};

/// A scrape with what only [`super::lint`] wants to know of its text.
pub(super) struct Parsed {
    pub(super) scrape: Scrape,
    /// The line of each family's `# TYPE`, if any.
    pub(super) type_lines: Vec<Option<usize>>,
}

pub(super) fn scrape(text: &str, format: Format) -> Result<Parsed, ParseError> {
    check_size(text.as_bytes(), MAX_TEXT_BYTES)?;
    let mut reader = Reader::new(format);
    let mut line = 0;
    for content in text.split_terminator('\n') {
        line += 1;
        let cursor = Cursor::new(content, line);
        if content.len() > MAX_LINE_BYTES {
            return Err(cursor.error(format!("a line of at most {MAX_LINE_BYTES} bytes")));
        }
        reader.line(cursor)?;
    }
    if format == Format::OpenMetrics && !reader.ended {
        return Err(Cursor::new("", line + 1).error("`# EOF` as the last line of OpenMetrics"));
    }
    Ok(Parsed {
        scrape: Scrape {
            families: reader
                .families
                .into_iter()
                .map(|open| open.family)
                .collect(),
        },
        type_lines: reader.type_lines,
    })
}

struct Open {
    family: Family,
    typed: bool,
}

struct Reader {
    format: Format,
    families: Vec<Open>,
    type_lines: Vec<Option<usize>>,
    by_name: HashMap<MetricName, usize>,
    /// Names repeat on nearly every line: the last one is kept to be shared.
    last_name: Option<MetricName>,
    samples: usize,
    ended: bool,
}

impl Reader {
    fn new(format: Format) -> Self {
        Self {
            format,
            families: Vec::new(),
            type_lines: Vec::new(),
            by_name: HashMap::new(),
            last_name: None,
            samples: 0,
            ended: false,
        }
    }

    fn strict(&self) -> bool {
        self.format == Format::OpenMetrics
    }

    fn line(&mut self, mut cursor: Cursor<'_>) -> Result<(), ParseError> {
        if self.ended {
            return Err(cursor.error("nothing after `# EOF`"));
        }
        if self.strict() {
            if cursor.is_at_end() {
                return Err(cursor.error("a sample or a `#` line; OpenMetrics has no blank lines"));
            }
        } else {
            skip_blanks(&mut cursor);
            if cursor.is_at_end() {
                return Ok(());
            }
        }
        if cursor.peek() == Some('#') {
            self.comment(cursor)
        } else {
            self.sample(cursor)
        }
    }

    fn comment(&mut self, mut cursor: Cursor<'_>) -> Result<(), ParseError> {
        cursor.bump();
        if self.strict() {
            if cursor.rest() == " EOF" {
                self.ended = true;
                return Ok(());
            }
            if !cursor.eat(" ") {
                return Err(cursor.error("a space and then HELP, TYPE, UNIT or EOF"));
            }
        } else {
            skip_blanks(&mut cursor);
        }
        let at_word = cursor;
        match cursor.take_while(|c| c != ' ' && c != '\t') {
            "HELP" => self.help(cursor),
            "TYPE" => self.kind(cursor),
            "UNIT" if self.strict() => self.unit(cursor),
            _ if self.strict() => Err(at_word.error("HELP, TYPE, UNIT or EOF")),
            _ => Ok(()),
        }
    }

    fn separator(&self, cursor: &mut Cursor<'_>) -> Result<(), ParseError> {
        let missing = if self.strict() {
            !cursor.eat(" ")
        } else {
            skip_blanks(cursor) == 0
        };
        if missing {
            return Err(cursor.error("a space"));
        }
        Ok(())
    }

    fn metadata_family(&mut self, cursor: &mut Cursor<'_>) -> Result<usize, ParseError> {
        self.separator(cursor)?;
        let at_name = *cursor;
        let name = self.metric_name(cursor)?;
        if !cursor.is_at_end() && !matches!(cursor.peek(), Some(' ' | '\t')) {
            return Err(cursor.error("a space after the metric name"));
        }
        let index = match self.by_name.get(&name) {
            Some(&index) => index,
            None => self.open(name, &at_name)?,
        };
        if self.strict() {
            if index + 1 != self.families.len() {
                return Err(at_name.error("each family in one piece, not interleaved"));
            }
            if !self.families[index].family.samples.is_empty() {
                return Err(at_name.error("HELP, TYPE and UNIT before the samples of their family"));
            }
        }
        Ok(index)
    }

    fn help(&mut self, mut cursor: Cursor<'_>) -> Result<(), ParseError> {
        let mut at_name = cursor;
        skip_blanks(&mut at_name);
        let index = self.metadata_family(&mut cursor)?;
        if !cursor.is_at_end() {
            self.separator(&mut cursor)?;
        }
        let text = help_text(cursor.rest(), self.format);
        let slot = &mut self.families[index].family.help;
        if slot.is_some() {
            return Err(at_name.error("one HELP line for each family"));
        }
        *slot = Some(text);
        Ok(())
    }

    fn kind(&mut self, mut cursor: Cursor<'_>) -> Result<(), ParseError> {
        let mut at_name = cursor;
        skip_blanks(&mut at_name);
        let index = self.metadata_family(&mut cursor)?;
        self.separator(&mut cursor)?;
        let at_word = cursor;
        let word = cursor.take_while(|c| c != ' ' && c != '\t');
        let Some(kind) = Kind::from_word(word, self.format) else {
            let words: Vec<&str> = Kind::ALL
                .iter()
                .filter_map(|kind| kind.word(self.format))
                .collect();
            return Err(at_word.error(format!("one of {}", words.join(", "))));
        };
        self.end_of_line(&mut cursor)?;
        let strict = self.strict();
        let open = &mut self.families[index];
        if open.typed {
            return Err(at_name.error("one TYPE line for each family"));
        }
        if strict && kind == Kind::Counter && open.family.name.ends_with("_total") {
            return Err(at_name.error("the counter's name without `_total`, which its samples add"));
        }
        open.typed = true;
        open.family.kind = kind;
        self.type_lines[index] = Some(cursor.line());
        Ok(())
    }

    fn unit(&mut self, mut cursor: Cursor<'_>) -> Result<(), ParseError> {
        let mut at_name = cursor;
        skip_blanks(&mut at_name);
        let index = self.metadata_family(&mut cursor)?;
        if !cursor.is_at_end() {
            self.separator(&mut cursor)?;
        }
        let unit = cursor.take_while(is_metric_name_char);
        self.end_of_line(&mut cursor)?;
        let slot = &mut self.families[index].family.unit;
        if slot.is_some() {
            return Err(at_name.error("one UNIT line for each family"));
        }
        *slot = Some(unit.to_owned());
        Ok(())
    }

    fn open(&mut self, name: MetricName, at: &Cursor<'_>) -> Result<usize, ParseError> {
        if self.families.len() == MAX_FAMILIES {
            return Err(at.error(format!("at most {MAX_FAMILIES} families")));
        }
        let index = self.families.len();
        self.by_name.insert(name.clone(), index);
        self.families.push(Open {
            family: Family::new(name, Kind::Unknown),
            typed: false,
        });
        self.type_lines.push(None);
        Ok(index)
    }

    fn metric_name(&mut self, cursor: &mut Cursor<'_>) -> Result<MetricName, ParseError> {
        let start = *cursor;
        if !cursor.peek().is_some_and(is_metric_name_start) {
            return Err(start.error("a metric name"));
        }
        let name = cursor.take_while(is_metric_name_char);
        if let Some(last) = self.last_name.as_ref().filter(|last| ***last == *name) {
            return Ok(last.clone());
        }
        let name = MetricName(name.into());
        self.last_name = Some(name.clone());
        Ok(name)
    }

    /// The family a sample belongs to: the one with its very name first, then by suffix.
    fn family_of(&self, name: &str) -> Option<usize> {
        if let Some(&index) = self.by_name.get(name) {
            return Some(index);
        }
        let at = name.rfind('_')?;
        let (base, suffix) = name.split_at(at);
        let &index = self.by_name.get(base)?;
        let kind = self.families[index].family.kind;
        kind.suffixes(self.format)
            .contains(&suffix)
            .then_some(index)
    }

    fn sample(&mut self, mut cursor: Cursor<'_>) -> Result<(), ParseError> {
        let start = cursor;
        if self.samples == MAX_SAMPLES {
            return Err(start.error(format!("at most {MAX_SAMPLES} samples")));
        }
        let name = self.metric_name(&mut cursor)?;
        if !self.strict() {
            skip_blanks(&mut cursor);
        }
        let labels = if cursor.peek() == Some('{') {
            self.labels(&mut cursor)?
        } else {
            Labels::default()
        };
        if self.strict() {
            self.separator(&mut cursor)?;
        } else {
            skip_blanks(&mut cursor);
        }
        let value = number(&mut cursor)?;
        let mut sample = Sample::new(name, labels, value);
        sample.line = cursor.line();
        (sample.timestamp, sample.exemplar) = self.tail(&mut cursor)?;

        let index = match self.family_of(&sample.name) {
            Some(index) => index,
            None => self.open(sample.name.clone(), &start)?,
        };
        if self.strict() {
            let family = &self.families[index].family;
            if index + 1 != self.families.len() {
                return Err(start.error("each family in one piece, not interleaved"));
            }
            let suffixes = family.kind.suffixes(self.format);
            let suffix = &sample.name[family.name.len()..];
            if !suffixes.contains(&suffix) {
                let names: Vec<String> = suffixes
                    .iter()
                    .map(|suffix| format!("`{}{suffix}`", family.name))
                    .collect();
                let kind = family.kind;
                return Err(start.error(format!("a sample of a {kind}: {}", names.join(" or "))));
            }
        }
        self.families[index].family.samples.push(sample);
        self.samples += 1;
        Ok(())
    }

    /// What may follow a value: a timestamp, and in OpenMetrics an exemplar.
    fn tail(
        &self,
        cursor: &mut Cursor<'_>,
    ) -> Result<(Option<Timestamp>, Option<Exemplar>), ParseError> {
        if !self.strict() {
            skip_blanks(cursor);
            if cursor.is_at_end() {
                return Ok((None, None));
            }
            let start = *cursor;
            let text = cursor.take_while(is_token);
            let timestamp = text
                .parse()
                .ok()
                .and_then(Timestamp::from_millis)
                .ok_or_else(|| match text.starts_with('#') {
                    true => start.error("the end of the line (exemplars need OpenMetrics)"),
                    false => start.error("a timestamp in whole milliseconds since 1970"),
                })?;
            self.end_of_line(cursor)?;
            return Ok((Some(timestamp), None));
        }
        let mut timestamp = None;
        if cursor.is_at_end() {
            return Ok((None, None));
        }
        self.separator(cursor)?;
        if cursor.peek() != Some('#') {
            timestamp = Some(seconds(cursor)?);
            if cursor.is_at_end() {
                return Ok((timestamp, None));
            }
            self.separator(cursor)?;
        }
        if !cursor.eat("# ") {
            return Err(cursor.error("`# {` and an exemplar, or the end of the line"));
        }
        if cursor.peek() != Some('{') {
            return Err(cursor.error("`{` and the labels of the exemplar"));
        }
        let labels = self.labels(cursor)?;
        self.separator(cursor)?;
        let mut exemplar = Exemplar::new(labels, number(cursor)?);
        if !cursor.is_at_end() {
            self.separator(cursor)?;
            exemplar.timestamp = Some(seconds(cursor)?);
        }
        self.end_of_line(cursor)?;
        Ok((timestamp, Some(exemplar)))
    }

    fn end_of_line(&self, cursor: &mut Cursor<'_>) -> Result<(), ParseError> {
        if !self.strict() {
            skip_blanks(cursor);
        }
        if cursor.is_at_end() {
            return Ok(());
        }
        Err(cursor.error("the end of the line"))
    }

    /// A label set, from its `{` to its `}`.
    fn labels(&self, cursor: &mut Cursor<'_>) -> Result<Labels, ParseError> {
        let blanks = |cursor: &mut Cursor<'_>| {
            if !self.strict() {
                skip_blanks(cursor);
            }
        };
        cursor.eat("{");
        let mut pairs: Vec<(String, String)> = Vec::new();
        loop {
            blanks(cursor);
            if cursor.peek() == Some('}') && (pairs.is_empty() || !self.strict()) {
                break;
            }
            let start = *cursor;
            if !cursor.peek().is_some_and(is_label_name_start) {
                return Err(start.error("a label name or `}`"));
            }
            if pairs.len() == MAX_LABELS {
                return Err(start.error(format!("at most {MAX_LABELS} labels")));
            }
            let name = cursor.take_while(is_label_name_char);
            if pairs.iter().any(|(held, _)| held == name) {
                return Err(start.error("each label once"));
            }
            blanks(cursor);
            if !cursor.eat("=") {
                return Err(cursor.error(format!("`=` after the label name `{name}`")));
            }
            blanks(cursor);
            let value = self.label_value(cursor)?;
            pairs.push((name.to_owned(), value));
            blanks(cursor);
            if !cursor.eat(",") {
                break;
            }
        }
        if !cursor.eat("}") {
            return Err(cursor.error("`,` or `}` after a label"));
        }
        pairs.sort_unstable();
        Ok(Labels(pairs.into()))
    }

    fn label_value(&self, cursor: &mut Cursor<'_>) -> Result<String, ParseError> {
        if !cursor.eat("\"") {
            return Err(cursor.error("`\"` and a label value"));
        }
        let mut value = String::new();
        loop {
            value.push_str(cursor.take_while(|c| c != '"' && c != '\\'));
            let escape = *cursor;
            match cursor.bump() {
                None => return Err(cursor.error("`\"` at the end of the label value")),
                Some('"') => return Ok(value),
                Some(_) => match cursor.bump() {
                    Some('n') => value.push('\n'),
                    Some(c @ ('"' | '\\')) => value.push(c),
                    // OpenMetrics takes an unknown escape as it stands; exposition has none.
                    Some(c) if self.strict() => value.extend(['\\', c]),
                    _ => return Err(escape.error("one of the escapes `\\\\`, `\\\"` and `\\n`")),
                },
            }
        }
    }
}

fn is_blank(c: char) -> bool {
    c == ' ' || c == '\t'
}

fn is_token(c: char) -> bool {
    !is_blank(c)
}

fn skip_blanks(cursor: &mut Cursor<'_>) -> usize {
    cursor.take_while(is_blank).len()
}

fn help_text(text: &str, format: Format) -> String {
    let mut help = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            help.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => help.push('\n'),
            Some('\\') => help.push('\\'),
            Some('"') if format == Format::OpenMetrics => help.push('"'),
            other => {
                help.push('\\');
                help.extend(other);
            }
        }
    }
    help
}

/// A sample value; an overflow to infinity that the text did not spell out is an error.
fn number(cursor: &mut Cursor<'_>) -> Result<f64, ParseError> {
    let start = *cursor;
    let text = cursor.take_while(is_token);
    let spelled = text.contains(['i', 'I']);
    match text.parse::<f64>() {
        Ok(value) if value.is_infinite() && !spelled => {
            Err(start.error("a number within the range of a 64-bit float"))
        }
        Ok(value) => Ok(value),
        Err(_) => Err(start.error("a value such as 42, 0.25, 1e-3, +Inf or NaN")),
    }
}

fn seconds(cursor: &mut Cursor<'_>) -> Result<Timestamp, ParseError> {
    let start = *cursor;
    let text = cursor.take_while(is_token);
    text.parse()
        .ok()
        .and_then(Timestamp::from_seconds)
        .ok_or_else(|| start.error("a timestamp in seconds since 1970"))
}
