//! Logs: a table that can be filtered, and how many lines of each level there are over time.
//!
//! The lines travel as data within the page, from which its script fills the table; the first of
//! them stand in the table as it is written, for whoever runs no scripts.

use std::collections::HashMap;

use maud::{Markup, PreEscaped, html};
use serde_json::{Map, Value};
use telemetry::ParseError;
use telemetry::logs::{self, LogLine, TIME_FIELDS, Timestamp};

use crate::chart::{Columns, Level};
use crate::page::{self, Section};
use crate::units::{self, Precision, counted, moment};

/// The most lines that travel with the page, and how many bytes they may take.
const MOST_LINES: usize = 20_000;
const MOST_BYTES: usize = 4 << 20;
/// How many lines the table holds before its script runs.
const FIRST_LINES: usize = 100;
/// The most columns there are, and how many of them are shown at first.
const MOST_COLUMNS: usize = 60;
const FIRST_COLUMNS: usize = 7;
/// A longer value is cut, in characters.
const MOST_CHARACTERS: usize = 2_000;

const LEVEL_FIELDS: [&str; 5] = ["level", "severity", "lvl", "log.level", "levelname"];
const MESSAGE_FIELDS: [&str; 5] = ["msg", "message", "event", "fields.message", "kind"];

/// A line, flat.
struct Row {
    number: usize,
    level: Level,
    /// One for each column.
    cells: Vec<Option<String>>,
}

/// Draws a log.
///
/// # Errors
/// Where the log is not in its format.
pub fn section(bytes: &[u8]) -> Result<Section, ParseError> {
    let lines = logs::from_slice(bytes)?;
    let mut facts = vec![counted(lines.len(), "line")];
    let timeline = timeline(&lines);
    if let Some(times) = &timeline {
        facts.push(match times.zone {
            "" => format!("{} to {}", times.first, times.last),
            zone => format!("{} to {} {zone}", times.first, times.last),
        });
    }
    let mut columns = columns(&lines);
    let fields = columns.len();
    facts.push(counted(fields, "field"));
    columns.truncate(MOST_COLUMNS);
    let (rows, bytes) = rows(&lines, &columns);
    let body = html! {
        @if let Some(times) = timeline { (times.figure) }
        (table(&rows, &columns, lines.len()))
        @if columns.len() < fields {
            p.note { "The first " (columns.len()) " fields are in this page." }
        }
        @if rows.len() < lines.len() {
            p.note {
                "The first " (units::count(rows.len())) " lines are in this page (" (bytes >> 10)
                " KiB); the table cannot show the other " (units::count(lines.len() - rows.len())) "."
            }
        }
    };
    Ok(Section {
        what: "Logs",
        facts,
        body,
    })
}

/// The level that a line says it has.
fn level(fields: &Map<String, Value>) -> Level {
    let text = LEVEL_FIELDS
        .iter()
        .find_map(|name| fields.get(*name)?.as_str());
    match text.unwrap_or_default().to_ascii_lowercase().as_str() {
        "error" | "err" | "fatal" | "critical" | "crit" | "panic" | "alert" | "emergency" => {
            Level::Error
        }
        "warn" | "warning" => Level::Warn,
        "info" | "notice" | "information" => Level::Info,
        "debug" | "trace" => Level::Debug,
        _ => Level::Other,
    }
}

struct Timeline {
    first: String,
    last: String,
    zone: &'static str,
    figure: Markup,
}

/// How many lines there are over time; `None` for a log without times.
fn timeline(lines: &[LogLine]) -> Option<Timeline> {
    let of_day = lines
        .iter()
        .find_map(|line| line.time)
        .map(|time| matches!(time, Timestamp::OfDay(_)))?;
    let mut events: Vec<(f64, Level)> = Vec::new();
    for line in lines {
        let seconds = match line.time {
            Some(Timestamp::Unix(nanos)) if !of_day => nanos as f64 / 1e9,
            Some(Timestamp::OfDay(nanos)) if of_day => nanos as f64 / 1e9,
            _ => continue,
        };
        events.push((seconds, level(&line.fields)));
    }
    let span = events
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(from, to), (at, _)| {
            (from.min(*at), to.max(*at))
        });
    let (precision, zone) = match of_day {
        true => (Precision::Milli, ""),
        false => (Precision::Full, "UTC"),
    };
    let (first, last) = (moment(span.0, precision), moment(span.1, precision));
    let mut counts: HashMap<Level, usize> = HashMap::new();
    for (_, level) in &events {
        *counts.entry(*level).or_default() += 1;
    }
    let told: Vec<String> = Level::ALL
        .into_iter()
        .filter_map(|level| {
            Some(format!(
                "{} {}",
                units::count(*counts.get(&level)?),
                level.word()
            ))
        })
        .collect();
    let label = format!(
        "Columns: lines over time from {first} to {last} {zone}, {}",
        told.join(", ")
    );
    let leveled = counts.keys().any(|level| *level != Level::Other);
    let chart = Columns {
        label,
        span,
        events,
    };
    let figure = html! {
        figure {
            figcaption { "Lines over time" @if !zone.is_empty() { " (" (zone) ")" } }
            (chart.draw())
            @if leveled {
                ul.legend {
                    @for level in Level::ALL.into_iter().filter(|level| counts.contains_key(level)) {
                        li {
                            span class={ "level " (level.word()) } { (level.word()) }
                            " " (units::count(counts[&level]))
                        }
                    }
                }
            }
        }
    };
    Some(Timeline {
        first,
        last,
        zone,
        figure,
    })
}

/// Every field with objects opened up: `http.status` for `{"http": {"status": …}}`.
fn flat(prefix: &str, fields: &Map<String, Value>, found: &mut Vec<(String, String)>) {
    for (name, value) in fields {
        let name = match prefix {
            "" => name.clone(),
            prefix => format!("{prefix}.{name}"),
        };
        match value {
            Value::Object(inner) if !inner.is_empty() => flat(&name, inner, found),
            Value::String(text) => found.push((name, cut(text))),
            other => found.push((name, cut(&other.to_string()))),
        }
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MOST_CHARACTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A field of a log.
struct Field {
    name: String,
    /// How many lines have it.
    lines: usize,
    /// The length of its longest value, in bytes.
    longest: usize,
    first: String,
    /// Whether it is the time, the level or the message, which need no name beside them.
    leads: bool,
    /// Whether another line says something else than the first.
    varies: bool,
}

impl Field {
    /// Whether its values fit into one line of a table.
    fn is_short(&self) -> bool {
        self.longest <= 32
    }
}

/// How early a reader looks for a field: the time, the level, the message, then the others.
fn rank(name: &str) -> usize {
    let among = |names: &[&str]| names.iter().position(|known| *known == name);
    match (
        among(&TIME_FIELDS),
        among(&LEVEL_FIELDS),
        among(&MESSAGE_FIELDS),
    ) {
        (Some(_), _, _) => 0,
        (_, Some(_), _) => 1,
        (_, _, Some(nth)) => 2 + nth,
        _ => usize::MAX,
    }
}

/// The fields of the log, those that a reader looks for first in front.
fn columns(lines: &[LogLine]) -> Vec<Field> {
    let mut order: Vec<Field> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut fields = Vec::new();
    for line in lines {
        fields.clear();
        flat("", &line.fields, &mut fields);
        for (name, value) in fields.drain(..) {
            let place = match places.get(&name) {
                Some(place) => *place,
                None => {
                    places.insert(name.clone(), order.len());
                    order.push(Field {
                        leads: rank(&name) < usize::MAX,
                        name,
                        lines: 0,
                        longest: 0,
                        first: value.clone(),
                        varies: false,
                    });
                    order.len() - 1
                }
            };
            let field = &mut order[place];
            field.lines += 1;
            field.longest = field.longest.max(value.len());
            field.varies |= field.first != value;
        }
    }
    // What every line says alike tells lines apart no better than a line number. The sort is stable:
    // of equals the one that comes first in the log.
    order.sort_by_key(|field| {
        let share = std::cmp::Reverse(field.lines);
        (rank(&field.name), !field.varies, share)
    });
    order
}

/// The lines that travel with the page, and how many bytes of text they hold.
fn rows(lines: &[LogLine], columns: &[Field]) -> (Vec<Row>, usize) {
    let places: HashMap<&str, usize> = columns
        .iter()
        .enumerate()
        .map(|(nth, field)| (field.name.as_str(), nth))
        .collect();
    let mut bytes = 0;
    let mut rows = Vec::new();
    let mut fields = Vec::new();
    for line in lines.iter().take(MOST_LINES) {
        let mut cells = vec![None; columns.len()];
        flat("", &line.fields, &mut fields);
        for (name, value) in fields.drain(..) {
            bytes += value.len() + 3;
            if let Some(place) = places.get(name.as_str()) {
                cells[*place] = Some(value);
            }
        }
        bytes += 5 * columns.len();
        if bytes > MOST_BYTES && !rows.is_empty() {
            break;
        }
        rows.push(Row {
            number: line.line,
            level: level(&line.fields),
            cells,
        });
    }
    (rows, bytes)
}

fn table(rows: &[Row], columns: &[Field], lines: usize) -> Markup {
    let shown = columns.len().min(FIRST_COLUMNS);
    let data: Vec<Value> = rows
        .iter()
        .map(|row| {
            let mut cells = vec![Value::from(row.number), Value::from(row.level.word())];
            cells.extend(row.cells.iter().map(|cell| match cell {
                Some(text) => Value::from(text.as_str()),
                None => Value::Null,
            }));
            Value::Array(cells)
        })
        .collect();
    let names: Vec<&str> = columns.iter().map(|field| field.name.as_str()).collect();
    let level = names.iter().position(|name| LEVEL_FIELDS.contains(name));
    let short: Vec<bool> = columns.iter().map(Field::is_short).collect();
    let leads = columns.iter().filter(|field| field.leads).count();
    let data = serde_json::json!({
        "columns": names, "shown": shown, "leads": leads, "level": level, "short": short,
        "rows": data,
    });
    html! {
        div.log data-lines=(lines) {
            div.controls {
                (page::filter("Filter lines: text, field=value, field!=value, -text", "log"))
            }
            @if columns.len() > 1 {
                details.columns {
                    summary { "Columns" }
                    fieldset {
                        legend { "Shown in the table" }
                        @for (nth, name) in names.iter().enumerate() {
                            label {
                                input type="checkbox" value=(nth) checked[nth < shown];
                                span.name { (name) }
                            }
                        }
                    }
                }
            }
            (page::table(
                "Lines of the log",
                &html! {
                    thead { tr {
                        th.number scope="col" { "#" }
                        @for name in &names[..shown] { th.name scope="col" { (name) } }
                    } }
                    tbody {
                        @for row in rows.iter().take(FIRST_LINES) {
                            tr class=(row.level.word()) {
                                th.number scope="row" { (row.number) }
                                @for (nth, cell) in row.cells[..shown].iter().enumerate() {
                                    @let text = cell.as_deref().unwrap_or_default();
                                    td.short[short[nth]] data-name=[(nth >= leads).then_some(names[nth])] {
                                        @if level == Some(nth) {
                                            span class={ "level " (row.level.word()) } { (text) }
                                        } @else { (text) }
                                    }
                                }
                            }
                        }
                    }
                },
            ))
            @if rows.len() > FIRST_LINES {
                noscript { p.note { "Without scripts, only the first " (FIRST_LINES) " lines are shown." } }
            }
            script.data type="application/json" { (PreEscaped(page::json(&data))) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(text: &str) -> String {
        section(text.as_bytes())
            .expect("the log is well-formed")
            .body
            .into_string()
    }

    #[test]
    fn time_level_and_message_come_first_and_objects_are_opened_up() {
        let lines = logs::parse(
            r#"{"user":"a","http":{"status":500},"msg":"m","level":"warn","time":"10:00:00"}"#,
        )
        .expect("a line");
        let columns = columns(&lines);
        let names: Vec<&str> = columns.iter().map(|field| field.name.as_str()).collect();
        assert_eq!(names, ["time", "level", "msg", "http.status", "user"]);
    }

    #[test]
    fn a_line_cannot_break_out_of_the_page() {
        let body = drawn("{\"msg\":\"</script><script>alert(1)</script>\",\"<b>\":\"<!--\"}\n");
        let scripts = body.matches("<script").count();
        assert_eq!(scripts, 1, "only the data is a script: {body}");
        assert!(!body.contains("alert(1)</script>"), "{body}");
        assert!(!body.contains("<!--") && !body.contains("<b>"), "{body}");
    }

    #[test]
    fn lines_beyond_the_budget_are_counted() {
        let line = format!("{{\"msg\":\"{}\"}}\n", "x".repeat(1_500));
        let body = drawn(&line.repeat(5_000));
        assert!(body.len() < 6 << 20, "{}", body.len());
        assert!(
            body.contains("the table cannot show the other"),
            "{}",
            body.len()
        );
    }

    #[test]
    fn fields_beyond_what_a_table_can_hold_are_counted() {
        let fields: Map<String, Value> = (0..100)
            .map(|nth| (format!("field{nth}"), Value::from(nth)))
            .collect();
        let section = section(Value::from(fields).to_string().as_bytes()).expect("a log");
        assert_eq!(section.facts, ["1 line", "100 fields"]);
        let body = section.body.into_string();
        assert!(body.contains("The first 60 fields"), "{body}");
    }

    #[test]
    fn the_levels_of_common_loggers_are_known() {
        for (word, wanted) in [
            ("ERROR", Level::Error),
            ("Warning", Level::Warn),
            ("notice", Level::Info),
            ("TRACE", Level::Debug),
            ("loud", Level::Other),
        ] {
            let fields = Map::from_iter([("level".to_owned(), Value::from(word))]);
            assert_eq!(level(&fields), wanted, "{word}");
        }
    }
}
