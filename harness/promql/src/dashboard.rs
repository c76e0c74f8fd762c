//! Grafana dashboards: what each panel shows at a moment, and in which color.
//!
//! A dashboard's JSON is read ([`Dashboard::parse`]), looked over for what Grafana would not load or
//! would show otherwise than meant ([`Dashboard::problems`]), and shown over a storage
//! ([`Dashboard::show`]): queries with their variables filled in, reduced, mapped and colored as
//! Grafana 11 does it. Only queries for Prometheus are executed; what another data source would
//! answer is not known here, and such a panel says so.
//!
//! Not for drawing, and not for what a viewer cannot see: refresh rates, links, permissions.
//!
//! ```
//! use promql::dashboard::{Dashboard, Signal, View};
//! use promql::{Engine, Labels, Storage};
//!
//! let dashboard = Dashboard::parse(
//!     r#"{"title": "Pool", "schemaVersion": 39, "panels": [{
//!         "id": 1, "type": "stat", "title": "Is the pool saturated?",
//!         "gridPos": {"x": 0, "y": 0, "w": 8, "h": 4},
//!         "targets": [{"refId": "A", "expr": "pool_busy / pool_size"}],
//!         "fieldConfig": {"defaults": {"unit": "percentunit", "thresholds": {"mode": "absolute",
//!             "steps": [{"color": "green", "value": null}, {"color": "red", "value": 0.9}]}}}
//!     }]}"#,
//! )?;
//! let mut storage = Storage::new();
//! for (name, value) in [("pool_busy", 8.0), ("pool_size", 8.0)] {
//!     storage.append(Labels::named(name, [("job", "api")]), 60_000, value)?;
//! }
//! let shown = dashboard.show(&Engine::default(), &storage, &View::last_hour(60_000));
//! assert_eq!(shown[0].signal(), Some(Signal::Red));
//! assert_eq!(shown[0].readings[0].text, "100%");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod color;
mod decode;
mod problems;
mod reduce;
mod show;
mod unit;
mod variables;

use std::fmt;
use std::time::Duration;

pub use color::Signal;
pub use problems::Problem;
pub use reduce::Calculation;
pub use show::{Reading, Shown, View};

/// The largest dashboard that is read, in bytes.
pub const MAX_BYTES: usize = 4 << 20;
/// The columns of a dashboard's grid.
pub const COLUMNS: u32 = 24;

/// A dashboard, as its JSON describes it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Dashboard {
    pub title: String,
    /// The version of the JSON's shape; Grafana migrates older ones.
    pub schema_version: Option<u64>,
    /// How far back the dashboard looks when it is opened, where `time` says so relative to now.
    pub range: Option<Duration>,
    pub variables: Vec<Variable>,
    /// All panels but the rows, those of collapsed rows included, in the order of the grid.
    pub panels: Vec<Panel>,
    /// The headings that divide the panels.
    pub rows: Vec<Row>,
}

/// A heading between panels.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Row {
    pub id: Option<u64>,
    pub title: String,
    /// Its own place, one grid unit high.
    pub grid: Option<Grid>,
    /// Whether its panels are hidden until somebody opens it.
    pub collapsed: bool,
}

/// Where a panel stands, in grid units from the upper left corner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

impl Grid {
    /// Whether two panels lie on each other.
    pub fn overlaps(self, other: Self) -> bool {
        self.x < other.x + other.width
            && other.x < self.x + self.width
            && self.y < other.y + other.height
            && other.y < self.y + self.height
    }
}

/// One panel.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Panel {
    /// Where it stands in the JSON, as in `panels[3]`.
    pub path: String,
    pub id: Option<u64>,
    /// Such as `stat`, `timeseries`, `gauge`, `bargauge`, `table`, `heatmap`, `logs`, `text`.
    pub kind: String,
    pub title: String,
    pub description: String,
    pub grid: Option<Grid>,
    /// The index in [`Dashboard::rows`] of the row that it stands under, on the grid.
    pub row: Option<usize>,
    /// The data source's type, such as `prometheus` or `loki`; `None` for the default one.
    pub source: Option<String>,
    pub targets: Vec<Target>,
    /// The shortest `$__interval`, where the panel states one.
    pub min_interval: Option<Duration>,
    /// The most points a series is asked for, where the panel states it.
    pub max_points: Option<u32>,
    /// How far back the panel looks, where that is not as far as the dashboard.
    pub time_from: Option<Duration>,
    /// What Grafana does with the answers before it shows them, by the transformations' ids. They
    /// are not executed here.
    pub transformations: Vec<String>,
    pub field: Field,
    /// What is otherwise for some of the series; a later one wins.
    pub overrides: Vec<Override>,
    /// What a series is reduced to, where the panel shows single numbers.
    pub calculations: Vec<Calculation>,
    /// Whether the panel shows by its thresholds how good a value is: in the color of the value, or
    /// as lines and areas behind a series.
    pub colored: bool,
}

impl Panel {
    /// Whether it shows numbers rather than series over time.
    pub fn reduces(&self) -> bool {
        matches!(
            self.kind.as_str(),
            "stat" | "gauge" | "bargauge" | "table" | "piechart"
        )
    }

    /// Whether its queries are for Prometheus: those are the ones that are executed.
    pub fn asks_prometheus(&self) -> bool {
        self.source
            .as_deref()
            .is_none_or(|source| source == "prometheus")
    }
}

/// One query of a panel.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Target {
    /// Where it stands in the JSON.
    pub path: String,
    /// The letter that the panel knows it by.
    pub ref_id: String,
    pub expression: String,
    /// The template of the series' names: `{{instance}}`.
    pub legend: String,
    /// Whether it is asked for one moment only.
    pub instant: bool,
    /// Whether the panel leaves it out.
    pub hidden: bool,
    /// The shortest `$__interval`, where the query states one.
    pub min_interval: Option<Duration>,
    /// The data source's type where it differs from the panel's.
    pub source: Option<String>,
}

/// How values are shown.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Field {
    /// Grafana's name of the unit, such as `s`, `percentunit`, `bytes`, `reqps`.
    pub unit: String,
    pub decimals: Option<u32>,
    pub min: Option<f64>,
    pub max: Option<f64>,
    pub thresholds: Thresholds,
    pub mappings: Vec<Mapping>,
    /// Shown where there is no value at all.
    pub no_value: Option<String>,
}

/// How some of a panel's series are shown otherwise than the rest.
#[derive(Debug, Clone, PartialEq)]
pub struct Override {
    pub of: Matcher,
    pub properties: Vec<Property>,
}

/// Which series an override is for.
#[derive(Debug, Clone, PartialEq)]
pub enum Matcher {
    /// The one with this name.
    Name(String),
    /// Those whose names match.
    Pattern(String),
    /// Those of the query with this letter.
    Query(String),
    /// Something that is not known here, by its id: such an override is passed over.
    Other(String),
}

/// What an override sets.
#[derive(Debug, Clone, PartialEq)]
pub enum Property {
    Unit(String),
    Decimals(Option<u32>),
    Min(Option<f64>),
    Max(Option<f64>),
    Thresholds(Thresholds),
    Mappings(Vec<Mapping>),
    NoValue(Option<String>),
    DisplayName(String),
    /// Whether the color follows the thresholds.
    Colored(bool),
}

/// Colors by value.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Thresholds {
    /// Whether the steps are percentages of the way from the field's minimum to its maximum.
    pub percentage: bool,
    /// In ascending order; the first has no lower bound.
    pub steps: Vec<Step>,
}

impl Thresholds {
    /// The color of a value, from the last step that it reaches.
    pub fn color(&self, value: f64, min: Option<f64>, max: Option<f64>) -> Option<&str> {
        let compared = if self.percentage {
            let (min, max) = (min.unwrap_or(0.0), max.unwrap_or(100.0));
            100.0 * (value - min) / (max - min)
        } else {
            value
        };
        self.steps
            .iter()
            .rev()
            .find(|step| step.from.is_none_or(|from| compared >= from))
            .map(|step| step.color.as_str())
    }
}

/// One color, and from which value it holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// `None` for the base, which holds below all others.
    pub from: Option<f64>,
    /// A name such as `dark-red` or a color such as `#d44a3a`.
    pub color: String,
}

/// A text, and perhaps a color, that stands for some values.
#[derive(Debug, Clone, PartialEq)]
pub struct Mapping {
    pub what: Mapped,
    pub text: Option<String>,
    pub color: Option<String>,
}

/// Which values a mapping is for.
#[derive(Debug, Clone, PartialEq)]
pub enum Mapped {
    /// Exactly this one, as text.
    Value(String),
    /// From one number to another, both included; `None` is without bound.
    Range(Option<f64>, Option<f64>),
    /// The text matches.
    Regex(String),
    /// No value at all.
    Null,
    /// Not a number.
    NaN,
}

/// Something that queries refer to as `$name`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Variable {
    /// Where it stands in the JSON.
    pub path: String,
    pub name: String,
    pub kind: VariableKind,
    /// What is chosen when the dashboard opens; `$__all` stands for everything.
    pub current: Vec<String>,
    /// What "All" stands for, where the variable says so; else every option.
    pub all: Option<String>,
}

/// Where a variable's values come from.
#[derive(Debug, Clone, PartialEq)]
pub enum VariableKind {
    /// A fixed text.
    Constant(String),
    /// A list of texts.
    Custom(Vec<String>),
    /// A list of durations.
    Interval(Vec<String>),
    /// What the viewer types.
    TextBox(String),
    /// The values of a label, of the series that a selector matches where there is one.
    LabelValues {
        selector: Option<String>,
        label: String,
    },
    /// A data source, an ad hoc filter: nothing that changes a query here.
    Other(String),
}

/// Why a dashboard was not read: where in the JSON, and what to do.
///
/// Completes "could not read the dashboard: …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{what}; {remedy}", if path.is_empty() { String::new() } else { format!("{path}: ") })]
pub struct DashboardError {
    /// The path of the value, as in `panels[3].targets[0].expr`; empty for the whole file.
    pub path: String,
    /// What is wrong there.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl Dashboard {
    /// Reads the JSON of a dashboard, as Grafana exports it or its API takes it.
    ///
    /// # Errors
    /// The text is no JSON, or a value that this module needs has another type than Grafana's.
    pub fn parse(json: &str) -> Result<Self, DashboardError> {
        decode::dashboard(json)
    }

    /// What Grafana would refuse, repair in silence, or show otherwise than it was meant.
    pub fn problems(&self) -> Vec<Problem> {
        problems::of(self)
    }

    /// The panels by the height at which they stand, each line from left to right: what a viewer
    /// would call rows, whether there are headings or not.
    pub fn lines(&self) -> Vec<Vec<&Panel>> {
        let mut placed: Vec<(Grid, &Panel)> = self
            .panels
            .iter()
            .filter_map(|panel| Some((panel.grid?, panel)))
            .collect();
        placed.sort_by_key(|(grid, _)| (grid.y, grid.x));
        let mut lines: Vec<(u32, Vec<&Panel>)> = Vec::new();
        for (grid, panel) in placed {
            match lines.last_mut() {
                Some((y, line)) if *y == grid.y => line.push(panel),
                _ => lines.push((grid.y, vec![panel])),
            }
        }
        lines.into_iter().map(|(_, line)| line).collect()
    }

    /// What every panel shows in a view, in the order of [`Dashboard::panels`].
    pub fn show(
        &self,
        engine: &crate::Engine,
        storage: &crate::Storage,
        view: &View,
    ) -> Vec<Shown> {
        show::dashboard(self, engine, storage, std::slice::from_ref(view)).remove(0)
    }

    /// What every panel shows in each of some views: the same as [`Dashboard::show`] for each of
    /// them, with one evaluation where the views' steps fall together.
    pub fn watch(
        &self,
        engine: &crate::Engine,
        storage: &crate::Storage,
        views: &[View],
    ) -> Vec<Vec<Shown>> {
        show::dashboard(self, engine, storage, views)
    }
}

impl fmt::Display for Panel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.title.is_empty() {
            write!(f, "the panel without a title at {}", self.path)
        } else {
            write!(f, "\"{}\"", self.title)
        }
    }
}

#[cfg(test)]
mod tests;
