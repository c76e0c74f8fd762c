//! A dashboard at one moment: panels on Grafana's grid of 24 columns.
//!
//! For whoever has evaluated a dashboard and wants it drawn; nothing is evaluated here. On a narrow
//! screen the panels stand below each other, in the order in which they are read.

use maud::{Markup, html};

use crate::chart::{Ink, Level, Lines, MOST_LINES, swatch};
use crate::page::{self, Section};
use crate::scale::Point;
use crate::units::{Precision, Quantity, counted, moment};

/// The columns of the grid.
const COLUMNS: u16 = 24;
/// What a column takes of a wide screen, and a row at least, in pixels, with the gap beside it.
const COLUMN_WIDTH: u32 = 45;
const ROW_HEIGHT: u32 = 46;

/// Where a panel lies, in cells of the grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// From the left, below 24.
    pub x: u16,
    /// From the top.
    pub y: u16,
    /// How many columns it takes, from 1.
    pub width: u16,
    /// How many rows it takes, from 1.
    pub height: u16,
}

/// The color that a threshold gives a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Color {
    /// All is well.
    Green,
    /// Look soon.
    Yellow,
    /// Look now.
    Orange,
    /// It burns.
    Red,
    /// Neither good nor bad.
    Blue,
    /// The panel gives no color.
    Plain,
}

impl Color {
    /// The word for it, which stands beside the color for those who do not see it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Green => "green",
            Self::Yellow => "yellow",
            Self::Orange => "orange",
            Self::Red => "red",
            Self::Blue => "blue",
            Self::Plain => "no color",
        }
    }

    fn ink(self) -> Ink {
        match self {
            Self::Green => Ink::Line(2),
            Self::Yellow => Ink::Line(4),
            Self::Orange => Ink::Line(1),
            Self::Red => Ink::Level(Level::Error),
            Self::Blue => Ink::Line(0),
            Self::Plain => Ink::Axis,
        }
    }
}

/// From which value on a panel has a color.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    /// In the unit of the panel.
    pub from: f64,
    /// Its color.
    pub color: Color,
}

/// A line of a panel.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// What the legend says.
    pub name: String,
    /// In time.
    pub points: Vec<Point>,
    /// The number beside the name, and its color; the last point if left out.
    pub last: Option<(String, Color)>,
}

/// What a panel shows.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// One value, large.
    Stat {
        /// The value with its unit, or what stands for none (`No data`).
        text: String,
        /// What its thresholds make of it.
        color: Color,
    },
    /// Lines over time.
    Series {
        /// In the order of the legend.
        lines: Vec<Line>,
        /// The first and the last moment, in seconds since the Unix epoch.
        span: (f64, f64),
        /// The unit of the values.
        quantity: Quantity,
        /// Levels to mark across the chart.
        thresholds: Vec<Threshold>,
    },
    /// Rows of cells below their headings.
    Table {
        /// The headings.
        columns: Vec<String>,
        /// As many cells in each as there are headings, with the color of each.
        rows: Vec<Vec<(String, Color)>>,
    },
    /// Nothing: the title is a heading of the panels below it.
    Heading,
    /// Words.
    Text(String),
    /// The panel could not be evaluated, and why.
    Problem(String),
}

/// A panel of a dashboard.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    /// What stands above it.
    pub title: String,
    /// Where it lies.
    pub place: Place,
    /// What it shows.
    pub body: Body,
}

/// Panels and the moment that they show.
#[derive(Debug, Clone, PartialEq)]
pub struct Dashboard {
    /// Its name.
    pub title: String,
    /// The moment that its values are of, in seconds since the Unix epoch.
    pub at: f64,
    /// In any order.
    pub panels: Vec<Panel>,
}

impl Dashboard {
    pub(crate) fn section(&self) -> Section {
        Section {
            what: "Dashboard",
            facts: vec![
                counted(self.panels.len(), "panel"),
                format!("as it stood at {} UTC", moment(self.at, Precision::Full)),
            ],
            body: self.draw(),
        }
    }

    fn draw(&self) -> Markup {
        let mut panels: Vec<&Panel> = self.panels.iter().collect();
        panels.sort_by_key(|panel| (panel.place.y, panel.place.x));
        html! {
            div.dashboard role="group" aria-label={ "Dashboard " (self.title) } {
                @for panel in panels { (one(panel)) }
            }
        }
    }
}

fn one(panel: &Panel) -> Markup {
    let place = panel.place;
    let x = place.x.min(COLUMNS - 1);
    let width = place.width.clamp(1, COLUMNS - x);
    let height = place.height.max(1);
    let area = format!(
        "--column:{}/span {width};--row:{}/span {height}",
        x + 1,
        u32::from(place.y) + 1
    );
    // What the frame, the title and the legend leave of the panel.
    let size = (
        (COLUMN_WIDTH * u32::from(width))
            .saturating_sub(30)
            .max(160),
        (ROW_HEIGHT * u32::from(height))
            .saturating_sub(120)
            .clamp(90, 600),
    );
    if panel.body == Body::Heading {
        return html! { h3.heading style=(area) { (panel.title) } };
    }
    html! {
        article.panel style=(area) {
            h3 { (panel.title) }
            @match &panel.body {
                Body::Stat { text, color } => {
                    p class={ "stat color-" (class(*color)) } {
                        strong { (text) } @if *color != Color::Plain { small { (color.word()) } }
                    }
                }
                Body::Series { lines, span, quantity, thresholds } => {
                    (series(&panel.title, lines, *span, quantity, thresholds, size))
                }
                Body::Table { columns, rows } => {
                    (page::table(&panel.title, &html! {
                        thead { tr { @for name in columns { th scope="col" { (name) } } } }
                        tbody {
                            @for row in rows {
                                tr {
                                    @for (text, color) in row {
                                        td class={ "color-" (class(*color)) } {
                                            (text) @if *color != Color::Plain { " " small { (color.word()) } }
                                        }
                                    }
                                }
                            }
                        }
                    }))
                }
                Body::Heading => {}
                Body::Text(text) => { p.words { (text) } }
                Body::Problem(why) => { p.problem { "Could not be evaluated: " (why) "." } }
            }
        }
    }
}

fn class(color: Color) -> &'static str {
    match color {
        Color::Plain => "plain",
        color => color.word(),
    }
}

fn series(
    title: &str,
    lines: &[Line],
    span: (f64, f64),
    quantity: &Quantity,
    thresholds: &[Threshold],
    size: (u32, u32),
) -> Markup {
    let drawn = &lines[..lines.len().min(MOST_LINES)];
    let largest = drawn
        .iter()
        .flat_map(|line| &line.points)
        .map(|(_, value)| value.abs())
        .filter(|value| crate::scale::drawable(*value))
        .fold(0.0, f64::max);
    let scale = quantity.scale(largest);
    let unit = scale.label.clone();
    let chart = Lines {
        label: format!("Line chart {title}, {}", counted(drawn.len(), "line")),
        span,
        scale,
        lines: drawn.iter().map(|line| line.points.as_slice()).collect(),
        thresholds: thresholds
            .iter()
            .map(|threshold| (threshold.from, threshold.color.ink()))
            .collect(),
        columns: 400,
        size,
    };
    html! {
        figure {
            @if !unit.is_empty() { figcaption { "in " (unit) } }
            (chart.draw())
            ul.legend {
                @for (nth, line) in drawn.iter().enumerate() {
                    li {
                        (swatch(Ink::Line(nth))) span.name { (line.name) }
                        @if let Some((text, color)) = &line.last {
                            " " small class={ "color-" (class(*color)) } {
                                (text) @if *color != Color::Plain { " " (color.word()) }
                            }
                        } @else if let Some((_, last)) = line.points.last() {
                            " " small { (quantity.show(*last)) }
                        }
                    }
                }
            }
            @if drawn.len() < lines.len() {
                p.note { (lines.len() - drawn.len()) " more lines are not drawn." }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(title: &str, x: u16, y: u16, color: Color) -> Panel {
        Panel {
            title: title.into(),
            place: Place {
                x,
                y,
                width: 6,
                height: 4,
            },
            body: Body::Stat {
                text: "0.42".into(),
                color,
            },
        }
    }

    fn draw(panels: &[Panel]) -> String {
        let dashboard = Dashboard {
            title: "pool".into(),
            at: 0.0,
            panels: panels.to_vec(),
        };
        dashboard.draw().into_string()
    }

    #[test]
    fn panels_are_read_row_by_row_and_tell_their_colors_in_words() {
        let panels = [
            stat("second", 6, 0, Color::Red),
            stat("third", 0, 4, Color::Plain),
            stat("first", 0, 0, Color::Green),
        ];
        let page = draw(&panels);
        let at = |text: &str| page.find(text).unwrap_or(usize::MAX);
        assert!(
            at("first") < at("second") && at("second") < at("third"),
            "{page}"
        );
        assert!(page.contains("<small>red</small>"), "{page}");
        assert!(page.contains("--column:7/span 6;--row:1/span 4"), "{page}");
    }

    #[test]
    fn a_panel_beyond_the_grid_stays_on_it() {
        let mut panel = stat("wide", 20, 0, Color::Plain);
        panel.place.width = 24;
        let page = draw(&[panel]);
        assert!(page.contains("--column:21/span 4"), "{page}");
    }

    #[test]
    fn a_panel_is_escaped() {
        let mut panel = stat("<script>", 0, 0, Color::Plain);
        panel.body = Body::Problem("<img>".into());
        let page = draw(&[panel]);
        assert!(
            !page.contains("<script") && !page.contains("<img"),
            "{page}"
        );
    }
}
