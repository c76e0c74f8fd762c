//! Grafana dashboards: what [`promql::dashboard`] says that each panel shows, as something to draw.
//!
//! Not a judge: what Grafana would refuse or repair is for the labs to find.

use promql::dashboard::{Dashboard, Panel, Reading, Shown, Signal, View};
use promql::{Dialect, Engine, Storage};
use telemetry::metrics::Scrape;

use crate::Dump;
use crate::dashboard::{self, Body, Color, Line, Place, Threshold};
use crate::page::Section;
use crate::scale::Point;
use crate::units::{Quantity, Unit};

/// How much of the time before the moment a panel with lines shows.
const SHOWN_SECONDS: f64 = 3_600.0;
/// The size of a panel that has no place, in cells of the grid.
const UNPLACED: (u16, u16) = (12, 8);

/// Draws a dashboard over the metrics beside it, at a moment in seconds since the Unix epoch, or at
/// the last one that the metrics tell.
///
/// # Errors
/// Where the text is no dashboard, or the metrics cannot be read into one storage.
pub fn section<'a>(
    bytes: &[u8],
    metrics: impl Iterator<Item = &'a Dump>,
    at: Option<f64>,
) -> Result<Section, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let dashboard = Dashboard::parse(text).map_err(|error| error.to_string())?;
    let storage = storage(metrics, at)?;
    let last = storage.time_range_ms().map(|(_, last)| last as f64 / 1e3);
    let at = at.or(last).unwrap_or_default();
    let mut section = shown(&dashboard, &storage, at).section();
    section.facts.insert(0, format!("“{}”", dashboard.title));
    Ok(section)
}

fn storage<'a>(
    metrics: impl Iterator<Item = &'a Dump>,
    at: Option<f64>,
) -> Result<Storage, String> {
    let mut storage = Storage::new();
    // A scrape that tells no time is one of the moment that is asked for.
    let scraped_at = at.map_or(0, millis);
    for dump in metrics {
        Scrape::from_slice(&dump.bytes)
            .map_err(|error| error.to_string())
            .and_then(|scrape| {
                storage
                    .append_scrape(&scrape, Some(scraped_at), Dialect::default())
                    .map_err(|error| error.to_string())
            })
            .map_err(|error| format!("{}: {error}", dump.name))?;
    }
    Ok(storage)
}

fn millis(seconds: f64) -> i64 {
    (seconds * 1e3).round() as i64
}

fn shown(dashboard: &Dashboard, storage: &Storage, at: f64) -> dashboard::Dashboard {
    let span = (at - SHOWN_SECONDS, at);
    let view = View::new(millis(span.0), millis(span.1));
    let mut unplaced = below(dashboard);
    let mut panels: Vec<dashboard::Panel> = dashboard
        .show(&Engine::default(), storage, &view)
        .iter()
        .filter_map(|shown| Some((dashboard.panels.get(shown.panel)?, shown)))
        .map(|(panel, shown)| dashboard::Panel {
            title: panel.title.clone(),
            place: panel.grid.map_or_else(
                || {
                    let y = unplaced;
                    unplaced = unplaced.saturating_add(UNPLACED.1);
                    Place {
                        x: 0,
                        y,
                        width: UNPLACED.0,
                        height: UNPLACED.1,
                    }
                },
                place,
            ),
            body: body(panel, shown, span),
        })
        .collect();
    panels.extend(dashboard.rows.iter().filter_map(|row| {
        Some(dashboard::Panel {
            title: row.title.clone(),
            place: place(row.grid?),
            body: Body::Heading,
        })
    }));
    dashboard::Dashboard {
        title: dashboard.title.clone(),
        at,
        panels,
    }
}

/// The first row of the grid below all that has a place.
fn below(dashboard: &Dashboard) -> u16 {
    let ends = dashboard.panels.iter().filter_map(|panel| panel.grid);
    let end = ends.map(|grid| grid.y.saturating_add(grid.height)).max();
    clamped(end.unwrap_or_default())
}

/// Grid units beyond all screens are cut: a dashboard may say anything.
fn clamped(units: u32) -> u16 {
    const MOST: u16 = 2_000;
    u16::try_from(units).unwrap_or(MOST).min(MOST)
}

fn place(grid: promql::dashboard::Grid) -> Place {
    Place {
        x: clamped(grid.x),
        y: clamped(grid.y),
        width: clamped(grid.width),
        height: clamped(grid.height).min(60),
    }
}

fn body(panel: &Panel, shown: &Shown, span: (f64, f64)) -> Body {
    if let Some(trouble) = &shown.trouble {
        return Body::Problem(trouble.clone());
    }
    if panel.kind == "text" {
        return Body::Text(panel.description.clone());
    }
    let stat = |reading: &Reading| Body::Stat {
        text: reading.text.clone(),
        color: color(reading),
    };
    match shown.readings.as_slice() {
        [] => Body::Stat {
            text: panel
                .field
                .no_value
                .clone()
                .unwrap_or_else(|| "No data".into()),
            color: Color::Plain,
        },
        readings if panel.reduces() => match readings {
            [reading] if panel.kind != "table" => stat(reading),
            readings => Body::Table {
                columns: vec!["series".into(), "value".into()],
                rows: readings
                    .iter()
                    .map(|reading| {
                        vec![
                            (reading.name.clone(), Color::Plain),
                            (reading.text.clone(), color(reading)),
                        ]
                    })
                    .collect(),
            },
        },
        readings => Body::Series {
            lines: shown
                .series
                .iter()
                .enumerate()
                .map(|(nth, (name, row))| Line {
                    name: name.clone(),
                    points: row
                        .points
                        .iter()
                        .map(|point| (point.timestamp_ms as f64 / 1e3, point.value))
                        .collect::<Vec<Point>>(),
                    last: readings
                        .get(nth)
                        .map(|reading| (reading.text.clone(), color(reading))),
                })
                .collect(),
            span,
            quantity: quantity(&panel.field.unit),
            thresholds: thresholds(panel),
        },
    }
}

/// What the axis of a panel counts. A unit that is none of ours stands beside the numbers.
fn quantity(unit: &str) -> Quantity {
    let (unit, per_second) = match unit {
        "s" => (Unit::Seconds, false),
        "bytes" => (Unit::Bytes, false),
        "percentunit" => (Unit::Ratio, false),
        "percent" => (Unit::Other("%".into()), false),
        "reqps" | "ops" | "rps" | "cps" => (Unit::Plain, true),
        "" | "none" | "short" => (Unit::Plain, false),
        other => (Unit::Other(other.into()), false),
    };
    Quantity { unit, per_second }
}

/// The levels of a panel whose thresholds are values; percentages have no level of their own.
fn thresholds(panel: &Panel) -> Vec<Threshold> {
    if panel.field.thresholds.percentage || !panel.colored {
        return Vec::new();
    }
    panel
        .field
        .thresholds
        .steps
        .iter()
        .filter_map(|step| {
            Some(Threshold {
                from: step.from?,
                color: named(&step.color),
            })
        })
        .collect()
}

fn color(reading: &Reading) -> Color {
    reading.color.as_deref().map_or(Color::Plain, named)
}

/// The nearest of our colors, by what a color stands for.
fn named(color: &str) -> Color {
    match (Signal::of(color), color.rsplit('-').next()) {
        (Some(Signal::Green), _) => Color::Green,
        (Some(Signal::Yellow), Some("orange")) => Color::Orange,
        (Some(Signal::Yellow), _) => Color::Yellow,
        (Some(Signal::Red), _) => Color::Red,
        (None, Some("blue")) => Color::Blue,
        (None, _) => Color::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dump(name: &str, text: &str) -> Dump {
        Dump {
            name: name.into(),
            bytes: text.into(),
        }
    }

    const DASHBOARD: &str = r#"{"title": "Pool", "schemaVersion": 39, "panels": [
        {"id": 1, "type": "stat", "title": "Saturation",
         "gridPos": {"x": 6, "y": 1, "w": 6, "h": 4},
         "targets": [{"refId": "A", "expr": "pool_busy / pool_size"}],
         "fieldConfig": {"defaults": {"unit": "percentunit", "thresholds": {"mode": "absolute",
             "steps": [{"color": "green", "value": null}, {"color": "red", "value": 0.9}]}}}},
        {"id": 2, "type": "timeseries", "title": "Busy",
         "gridPos": {"x": 0, "y": 5, "w": 24, "h": 8},
         "targets": [{"refId": "A", "expr": "pool_busy", "legendFormat": "{{job}}"}]},
        {"id": 3, "type": "stat", "title": "Broken", "gridPos": {"x": 0, "y": 13, "w": 6, "h": 4},
         "targets": [{"refId": "A", "expr": "rate(pool_busy"}]},
        {"id": 4, "type": "row", "title": "The heading", "gridPos": {"x": 0, "y": 0, "w": 24, "h": 1}},
        {"id": 5, "type": "stat", "title": "Nothing", "gridPos": {"x": 6, "y": 13, "w": 6, "h": 4},
         "targets": [{"refId": "A", "expr": "no_such_metric"}]}
    ]}"#;
    const METRICS: &str = "# TYPE pool_busy gauge\npool_busy{job=\"api\"} 2 600\n\
        pool_busy{job=\"api\"} 8 660\n# TYPE pool_size gauge\npool_size{job=\"api\"} 8 600\n\
        pool_size{job=\"api\"} 8 660\n# EOF\n";

    fn drawn(at: Option<f64>) -> String {
        let metrics = dump("metrics.om", METRICS);
        section(DASHBOARD.as_bytes(), [&metrics].into_iter(), at)
            .expect("a dashboard")
            .body
            .into_string()
    }

    #[test]
    fn a_panel_has_the_color_of_the_chosen_moment() {
        let now = drawn(None);
        assert!(
            now.contains("stat color-red\"><strong>100%</strong>"),
            "{now}"
        );
        let before = drawn(Some(620.0));
        assert!(
            before.contains("stat color-green\"><strong>25%</strong>"),
            "{before}"
        );
    }

    #[test]
    fn lines_headings_and_panels_without_data_are_drawn_in_their_places() {
        let body = drawn(None);
        assert!(body.contains("<polyline"), "{body}");
        assert!(body.contains("--column:7/span 6;--row:2/span 4"), "{body}");
        assert!(body.contains("The heading"), "{body}");
        assert!(body.contains("<strong>No data</strong>"), "{body}");
        assert!(body.contains("Could not be evaluated"), "{body}");
    }

    #[test]
    fn metrics_that_cannot_be_read_are_named() {
        let metrics = dump("broken.om", "a {\n");
        let problem = section(DASHBOARD.as_bytes(), [&metrics].into_iter(), None)
            .expect_err("the metrics are broken");
        assert!(problem.starts_with("broken.om: line 1"), "{problem}");
    }
}
