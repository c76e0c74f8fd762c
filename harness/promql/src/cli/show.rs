//! Prints answers: as a table, as a picture in the terminal, as JSON.
//!
//! At most 80 columns, and readable without color.

use promql::{Answer, Decimal, Labels, Level, Point, Row, Value};
use serde_json::{Map, Number, json};

use crate::times::Moment;

const WIDTH: usize = 80;

/// Shortens a text to a width, in characters.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// A value in few characters: six significant digits are enough for a person.
fn brief(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() || value == 0.0 || (value.fract() == 0.0 && size < 1e9) {
        return Decimal(value).to_string();
    }
    if !(1e-4..1e9).contains(&size) {
        return format!("{value:.4e}");
    }
    let decimals = (5 - size.log10().floor() as i32).clamp(0, 9) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

pub fn table(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Scalar(point) => out.push_str(&format!("{}\n", Decimal(point.value))),
        Value::String(text) => out.push_str(&format!("{text}\n")),
        Value::Vector(samples) => {
            let values: Vec<String> = samples
                .iter()
                .map(|sample| Decimal(sample.value).to_string())
                .collect();
            let widest = values.iter().map(String::len).max().unwrap_or(0).min(24);
            for (sample, value) in samples.iter().zip(&values) {
                out.push_str(&format!("{value:>widest$}  {}\n", sample.labels));
            }
            if samples.is_empty() {
                out.push_str("no series: nothing matches at this time\n");
            }
        }
        Value::Matrix(rows) => {
            for row in rows {
                out.push_str(&format!("{}\n", row.labels));
                for point in &row.points {
                    out.push_str(&format!(
                        "  {}  {}\n",
                        Moment(point.timestamp_ms),
                        Decimal(point.value)
                    ));
                }
            }
            if rows.is_empty() {
                out.push_str("no series: nothing matches in this range\n");
            }
        }
    }
    out
}

/// The marks of the series of one picture.
const MARKS: [char; 8] = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'];
const HEIGHT: usize = 12;
const AXIS: usize = 11;

pub fn chart(value: &Value) -> String {
    let Value::Matrix(rows) = value else {
        return table(value);
    };
    let shown = &rows[..rows.len().min(MARKS.len())];
    let points = || shown.iter().flat_map(|row| &row.points);
    let finite = || {
        points()
            .map(|point| point.value)
            .filter(|value| value.is_finite())
    };
    let (Some(from_ms), Some(to_ms)) = (
        points().map(|point| point.timestamp_ms).min(),
        points().map(|point| point.timestamp_ms).max(),
    ) else {
        return table(value);
    };
    let (mut low, mut high) = finite().fold((f64::INFINITY, f64::NEG_INFINITY), |held, value| {
        (held.0.min(value), held.1.max(value))
    });
    if low > high {
        return format!(
            "nothing to draw: no value is a finite number\n{}",
            legend(rows)
        );
    }
    // What is never negative is drawn from zero, so that heights can be compared.
    if low >= 0.0 && low < high * 0.7 {
        low = 0.0;
    }
    if low == high {
        (low, high) = (low - 1.0, high + 1.0);
    }
    let columns = WIDTH - AXIS - 2;
    let mut canvas = vec![vec![' '; columns]; HEIGHT];
    for (row, mark) in shown.iter().zip(MARKS) {
        for &Point {
            timestamp_ms,
            value,
        } in &row.points
        {
            if !value.is_finite() {
                continue;
            }
            let span_ms = (to_ms - from_ms).max(1) as f64;
            let x = (timestamp_ms - from_ms) as f64 / span_ms * (columns - 1) as f64;
            let y = (value / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0) * (HEIGHT - 1) as f64;
            let cell = &mut canvas[HEIGHT - 1 - (y.round() as usize).min(HEIGHT - 1)]
                [(x.round() as usize).min(columns - 1)];
            *cell = match *cell {
                ' ' => mark,
                held if held == mark => mark,
                _ => '*',
            };
        }
    }
    let mut out = String::new();
    for (nth, line) in canvas.iter().enumerate() {
        let level = HEIGHT - 1 - nth;
        let label = if level % 4 == 3 || level == 0 {
            let part = level as f64 / (HEIGHT - 1) as f64;
            brief(low * (1.0 - part) + high * part)
        } else {
            String::new()
        };
        let line: String = line.iter().collect();
        out.push_str(&format!("{label:>AXIS$} |{}\n", line.trim_end()));
    }
    out.push_str(&format!("{:>AXIS$} +{}\n", "", "-".repeat(columns)));
    let (from, to) = (Moment(from_ms).to_string(), Moment(to_ms).to_string());
    let gap = (columns + 1).saturating_sub(from.len() + to.len());
    out.push_str(&format!("{:>AXIS$} {from}{}{to}\n", "", " ".repeat(gap)));
    out.push_str(&legend(rows));
    out
}

fn legend(rows: &[Row]) -> String {
    let mut out = String::new();
    for (row, mark) in rows.iter().zip(MARKS) {
        let last = row.points.last().map_or(f64::NAN, |point| point.value);
        let tail = format!("  last {}", brief(last));
        let labels = cut(&row.labels.to_string(), WIDTH - 5 - tail.len());
        out.push_str(&format!("  {mark}  {labels}{tail}\n"));
    }
    if rows.len() > 1 {
        out.push_str("  *  several at once\n");
    }
    if rows.len() > MARKS.len() {
        out.push_str(&format!(
            "  … and {} more series: --format table shows all\n",
            rows.len() - MARKS.len()
        ));
    }
    out
}

pub fn annotations(answer: &Answer, query: &str) -> String {
    answer
        .annotations
        .iter()
        .map(|held| {
            let (line, column) = held.span.line_column(query);
            format!("{held} ({line}:{column})\n")
        })
        .collect()
}

/// The answer in the shape of Prometheus's HTTP API.
pub fn json(answer: &Answer, query: &str) -> serde_json::Value {
    let (kind, result) = match &answer.value {
        Value::Scalar(point) => ("scalar", pair(*point)),
        Value::String(text) => ("string", json!([0, text])),
        Value::Vector(samples) => (
            "vector",
            samples
                .iter()
                .map(|sample| {
                    let point = Point {
                        timestamp_ms: sample.timestamp_ms,
                        value: sample.value,
                    };
                    json!({"metric": metric(&sample.labels), "value": pair(point)})
                })
                .collect(),
        ),
        Value::Matrix(rows) => (
            "matrix",
            rows.iter()
                .map(|row| {
                    let values: Vec<_> = row.points.iter().copied().map(pair).collect();
                    json!({"metric": metric(&row.labels), "values": values})
                })
                .collect(),
        ),
    };
    let mut out = json!({
        "status": "success",
        "data": {"resultType": kind, "result": result},
    });
    for (key, level) in [("warnings", Level::Warning), ("infos", Level::Info)] {
        let texts: Vec<String> = answer
            .annotations
            .iter()
            .filter(|held| held.level == level)
            .map(|held| {
                let (line, column) = held.span.line_column(query);
                format!("{held} ({line}:{column})")
            })
            .collect();
        if !texts.is_empty() {
            out[key] = json!(texts);
        }
    }
    out
}

pub fn json_error(kind: &str, text: &str) -> serde_json::Value {
    json!({"status": "error", "errorType": kind, "error": text})
}

fn metric(labels: &Labels) -> serde_json::Value {
    let pairs: Map<String, serde_json::Value> = labels
        .iter()
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    pairs.into()
}

/// Seconds as a number without needless digits, and the value as a text.
fn pair(point: Point) -> serde_json::Value {
    let whole = point.timestamp_ms % 1_000 == 0;
    let seconds = if whole {
        Number::from(point.timestamp_ms / 1_000)
    } else {
        Number::from_f64(point.timestamp_ms as f64 / 1e3).unwrap_or_else(|| Number::from(0))
    };
    json!([seconds, Decimal(point.value).to_string()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use promql::{Dialect, Engine, Query, Storage};

    fn answer(query: &str) -> Answer {
        let mut storage = Storage::new();
        for step in 0..=60 {
            for (job, factor) in [("api", 2.0), ("worker", 5.0)] {
                let labels = Labels::named("jobs_total", [("job", job)]);
                let value = f64::from(step) * factor;
                storage
                    .append(labels, i64::from(step) * 15_500, value)
                    .unwrap();
            }
        }
        let query = Query::parse(query).unwrap();
        Engine::new(Dialect::V3)
            .range(
                &storage,
                &query,
                0,
                930_000,
                std::time::Duration::from_secs(15),
            )
            .unwrap()
    }

    #[test]
    fn a_chart_fits_80_columns_and_names_its_series() {
        let drawn = chart(&answer("jobs_total").value);
        assert!(
            drawn.lines().all(|line| line.chars().count() <= 80),
            "{drawn}"
        );
        assert!(
            drawn.contains("  a  jobs_total{job=\"api\"}  last 120"),
            "{drawn}"
        );
        assert_eq!(drawn.matches("00:15:30").count(), 1, "{drawn}");
    }

    #[test]
    fn a_chart_of_strange_values_is_still_drawn() {
        for query in [
            "jobs_total / 0",
            "jobs_total * 1e308 * 10",
            "nothing",
            "vector(5)",
        ] {
            assert!(!chart(&answer(query).value).is_empty());
        }
    }

    #[test]
    fn json_has_the_shape_of_the_api() {
        let mut held = answer("sum(jobs_total) > 400");
        if let Value::Matrix(rows) = &mut held.value {
            rows[0].points.truncate(1);
        }
        assert_eq!(
            json(&held, "").to_string(),
            r#"{"data":{"result":[{"metric":{},"values":[[900,"406"]]}],"resultType":"matrix"},"status":"success"}"#
        );
    }

    #[test]
    fn brief_values_keep_what_matters() {
        for (value, text) in [
            (0.1 + 0.2, "0.3"),
            (1234567.0, "1234567"),
            (1234.56789, "1234.57"),
            (1e-7, "1.0000e-7"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(brief(value), text);
        }
    }
}
