//! What a dashboard shows over a storage, in one view.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use crate::{Engine, Labels, METRIC_NAME, Point, Query, Row, Storage, Value};

use super::variables::{Values, interval};
use super::{
    COLUMNS, Calculation, Dashboard, Field, Mapped, Mapping, Matcher, Panel, Property, Signal,
    Target, unit,
};

/// The width of a dashboard on a screen, in pixels: a point for each, at the most.
const SCREEN: u32 = 1_600;
/// The fewest points that a panel asks for, however narrow it is.
const FEWEST_POINTS: u32 = 60;

/// When, and with what chosen, somebody looks at a dashboard.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct View {
    /// The left edge, in milliseconds since the Unix epoch.
    pub from_ms: i64,
    /// The right edge: "now".
    pub to_ms: i64,
    /// How often Prometheus scrapes, as its data source in Grafana is told.
    pub scrape_interval: Duration,
    /// Values of variables, other than those with which the dashboard opens.
    pub chosen: HashMap<String, String>,
}

impl View {
    /// From one time to another, both in milliseconds, with a scrape every 15 s.
    pub fn new(from_ms: i64, to_ms: i64) -> Self {
        Self {
            from_ms,
            to_ms,
            scrape_interval: Duration::from_secs(15),
            chosen: HashMap::new(),
        }
    }

    /// The hour up to a moment.
    pub fn last_hour(to_ms: i64) -> Self {
        Self::new(to_ms - 3_600_000, to_ms)
    }

    /// The same view with a variable set.
    #[must_use]
    pub fn choosing(mut self, variable: &str, value: &str) -> Self {
        self.chosen.insert(variable.to_owned(), value.to_owned());
        self
    }
}

/// What one panel shows.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Shown {
    /// The index in [`Dashboard::panels`].
    pub panel: usize,
    /// The numbers: one for each series and calculation, of the last moment where the panel shows
    /// series over time. Without any, the panel says "No data".
    pub readings: Vec<Reading>,
    /// The series as they are drawn, by their names. Of an instant query one point each.
    pub series: Vec<(String, Row)>,
    /// Why there is nothing to see, where a query failed or another data source would be asked.
    pub trouble: Option<String>,
}

/// One number on a panel.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Reading {
    /// The series' name, from the legend.
    pub name: String,
    /// `None` where the series has no value.
    pub value: Option<f64>,
    /// As it is written.
    pub text: String,
    /// As the dashboard names it; `None` where the panel does not color by value.
    pub color: Option<String>,
}

impl Reading {
    /// What the color stands for.
    pub fn signal(&self) -> Option<Signal> {
        Signal::of(self.color.as_deref()?)
    }
}

impl Shown {
    /// The worst signal among the readings: what catches the eye.
    pub fn signal(&self) -> Option<Signal> {
        self.readings.iter().filter_map(Reading::signal).max()
    }

    /// The only number, where there is exactly one.
    pub fn value(&self) -> Option<f64> {
        match self.readings.as_slice() {
            [reading] => reading.value,
            _ => None,
        }
    }
}

pub(super) fn dashboard(
    dashboard: &Dashboard,
    engine: &Engine,
    storage: &Storage,
    views: &[View],
) -> Vec<Vec<Shown>> {
    let answers = Answers {
        engine,
        storage,
        // Evaluated at once, as far as anybody looks.
        from_ms: views.iter().map(|view| view.from_ms).min().unwrap_or(0),
        to_ms: views.iter().map(|view| view.to_ms).max().unwrap_or(0),
        several: views.len() > 1,
        parsed: RefCell::default(),
        known: RefCell::default(),
    };
    views
        .iter()
        .map(|view| {
            let mut usual = Values::of(dashboard, Some(storage), view);
            let panels = dashboard.panels.iter().enumerate();
            panels
                .map(|(index, panel)| {
                    let view = &of_panel(panel, view);
                    let mut farther = panel
                        .time_from
                        .map(|_| Values::of(dashboard, Some(storage), view));
                    let values = farther.as_mut().unwrap_or(&mut usual);
                    let interval = interval(view, points(panel), panel.min_interval);
                    values.interval(interval, view);
                    let looker = Looker {
                        answers: &answers,
                        view,
                        values,
                        interval,
                    };
                    looker.panel(index, panel)
                })
                .collect()
        })
        .collect()
}

/// The view of a panel, which may look farther back than the dashboard.
fn of_panel<'v>(panel: &Panel, view: &'v View) -> Cow<'v, View> {
    match panel.time_from {
        None => Cow::Borrowed(view),
        Some(range) => Cow::Owned(View {
            from_ms: view.to_ms - i64::try_from(range.as_millis()).unwrap_or(i64::MAX / 16),
            ..view.clone()
        }),
    }
}

/// The answer over all moments, where it can be had.
type Whole = Option<Vec<Row>>;

/// What queries answer, each of them asked once for all moments.
struct Answers<'a> {
    engine: &'a Engine,
    storage: &'a Storage,
    from_ms: i64,
    to_ms: i64,
    several: bool,
    /// By the query's text: most are the same text in every view.
    parsed: RefCell<HashMap<String, Result<Rc<Query>, String>>>,
    /// By the query's text and the step; `None` where all moments at once are too much.
    known: RefCell<HashMap<(String, i64), Whole>>,
}

impl Answers<'_> {
    fn query(&self, text: &str) -> Result<Rc<Query>, String> {
        if let Some(parsed) = self.parsed.borrow().get(text) {
            return parsed.clone();
        }
        let parsed = Query::parse(text)
            .map(Rc::new)
            .map_err(|diagnostic| diagnostic.to_string());
        self.parsed
            .borrow_mut()
            .insert(text.to_owned(), parsed.clone());
        parsed
    }

    /// The answer to a query in a view.
    fn range(
        &self,
        text: &str,
        query: &Query,
        start_ms: i64,
        end_ms: i64,
        step: Duration,
        step_ms: i64,
    ) -> Result<Vec<Row>, String> {
        let alone = || match self
            .engine
            .range(self.storage, query, start_ms, end_ms, step)
            .map_err(|error| error.to_string())?
            .value
        {
            Value::Matrix(rows) => Ok(rows),
            _ => Ok(Vec::new()),
        };
        // `@ start()` and `@ end()` are another moment in each view.
        if !self.several || text.contains("start()") || text.contains("end()") {
            return alone();
        }
        let mut known = self.known.borrow_mut();
        let whole = known.entry((text.to_owned(), step_ms)).or_insert_with(|| {
            let start_ms = self.from_ms.min(start_ms).div_euclid(step_ms) * step_ms;
            match self
                .engine
                .range(self.storage, query, start_ms, self.to_ms, step)
            {
                Ok(answer) => match answer.value {
                    Value::Matrix(rows) => Some(rows),
                    _ => None,
                },
                Err(_) => None,
            }
        });
        let Some(whole) = whole else { return alone() };
        let rows = whole.iter().filter_map(|row| {
            let points = &row.points;
            let first = points.partition_point(|point| point.timestamp_ms < start_ms);
            let end = points.partition_point(|point| point.timestamp_ms <= end_ms);
            (first < end).then(|| Row {
                labels: row.labels.clone(),
                points: points[first..end].to_vec(),
            })
        });
        Ok(rows.collect())
    }
}

/// How many points a panel asks for.
fn points(panel: &Panel) -> u32 {
    panel.max_points.unwrap_or_else(|| {
        let width = panel.grid.map_or(COLUMNS / 2, |grid| grid.width);
        (SCREEN * width.min(COLUMNS) / COLUMNS).max(FEWEST_POINTS)
    })
}

struct Looker<'a> {
    answers: &'a Answers<'a>,
    view: &'a View,
    values: &'a Values,
    interval: Duration,
}

impl Looker<'_> {
    fn panel(&self, index: usize, panel: &Panel) -> Shown {
        let mut shown = Shown {
            panel: index,
            readings: Vec::new(),
            series: Vec::new(),
            trouble: None,
        };
        // By series: the letter of its query.
        let mut letters: Vec<&str> = Vec::new();
        for target in panel.targets.iter().filter(|target| !target.hidden) {
            let source = target.source.as_deref().or(panel.source.as_deref());
            if let Some(other) = source.filter(|source| *source != "prometheus") {
                shown.trouble = Some(format!("what {other} would answer is not known here"));
                continue;
            }
            let stated = target.min_interval.filter(|&least| least > self.interval);
            let answer = match stated {
                None => self.ask(panel, target),
                Some(interval) => {
                    let mut values = self.values.clone();
                    values.interval(interval, self.view);
                    let values = &values;
                    Looker {
                        values,
                        interval,
                        ..*self
                    }
                    .ask(panel, target)
                }
            };
            match answer {
                Ok(rows) => {
                    letters.resize(letters.len() + rows.len(), &target.ref_id);
                    shown.series.extend(rows);
                }
                // One query that fails leaves the panel with an error sign, whatever the others say.
                Err(trouble) => shown.trouble = Some(trouble),
            }
        }
        let calculations: &[Calculation] = if panel.reduces() {
            &panel.calculations
        } else {
            &[Calculation::LastNotNull]
        };
        for ((name, row), letter) in shown.series.iter_mut().zip(letters) {
            let numbers: Vec<f64> = row.points.iter().map(|point| point.value).collect();
            let style = Style::of(panel, name, letter);
            if let Some(given) = &style.name {
                name.clone_from(given);
            }
            for calculation in calculations {
                shown
                    .readings
                    .push(reading(&style, name, calculation.of(&numbers), &numbers));
            }
        }
        if shown.readings.is_empty() && shown.trouble.is_none() {
            // A mapping of "no value" makes something out of nothing.
            let nothing = reading(&Style::of(panel, "", ""), "", None, &[]);
            if nothing.color.is_some() && mapped(&panel.field.mappings, None).is_some() {
                shown.readings.push(nothing);
            }
        }
        shown
    }

    fn ask(&self, panel: &Panel, target: &Target) -> Result<Vec<(String, Row)>, String> {
        let expression = self.values.filled(&target.expression).map_err(|unknown| {
            format!("the query names ${unknown}, and there is no such variable")
        })?;
        let query = self.answers.query(&expression)?;
        let at_ms = self.view.to_ms;
        let Answers {
            engine, storage, ..
        } = self.answers;
        if !target.instant {
            let step_ms = i64::try_from(self.interval.as_millis()).unwrap_or(60_000);
            // Grafana aligns the steps, so that a reload does not move them.
            let start_ms = self.view.from_ms.div_euclid(step_ms) * step_ms;
            let rows =
                self.answers
                    .range(&expression, &query, start_ms, at_ms, self.interval, step_ms)?;
            return Ok(named(panel, target, rows, &expression));
        }
        let answer = engine.instant(storage, &query, at_ms);
        let rows = match answer.map_err(|error| error.to_string())?.value {
            Value::Matrix(rows) => rows,
            Value::Vector(samples) => samples
                .into_iter()
                .map(|sample| Row {
                    points: vec![Point {
                        timestamp_ms: sample.timestamp_ms,
                        value: sample.value,
                    }],
                    labels: sample.labels,
                })
                .collect(),
            Value::Scalar(point) => vec![Row {
                labels: Labels::empty(),
                points: vec![point],
            }],
            Value::String(_) => return Err("the query answers with a text".to_owned()),
        };
        Ok(named(panel, target, rows, &expression))
    }
}

// A number on a panel is of now: a series that ended before the last step shows its last value all
// the same, as in Grafana.
fn named(panel: &Panel, target: &Target, rows: Vec<Row>, expression: &str) -> Vec<(String, Row)> {
    rows.into_iter()
        .map(|row| (name(panel, target, &row.labels, expression), row))
        .collect()
}

/// How one series is shown: the panel's way, with what is overridden for it.
struct Style<'p> {
    field: Cow<'p, Field>,
    colored: bool,
    name: Option<String>,
}

impl<'p> Style<'p> {
    fn of(panel: &'p Panel, name: &str, letter: &str) -> Self {
        let mut style = Style {
            field: Cow::Borrowed(&panel.field),
            colored: panel.colored,
            name: None,
        };
        for other in &panel.overrides {
            let is_meant = match &other.of {
                Matcher::Name(given) => given == name,
                Matcher::Pattern(pattern) => {
                    regex::Regex::new(pattern.trim_start_matches('/').trim_end_matches('/'))
                        .is_ok_and(|pattern| pattern.is_match(name))
                }
                Matcher::Query(given) => given == letter,
                Matcher::Other(_) => false,
            };
            if is_meant {
                other.properties.iter().for_each(|given| style.take(given));
            }
        }
        style
    }

    fn take(&mut self, property: &Property) {
        match property {
            Property::Colored(colored) => return self.colored = *colored,
            Property::DisplayName(name) => return self.name = Some(name.clone()),
            _ => {}
        }
        let field = self.field.to_mut();
        match property {
            Property::Unit(unit) => field.unit.clone_from(unit),
            Property::Decimals(decimals) => field.decimals = *decimals,
            Property::Min(min) => field.min = *min,
            Property::Max(max) => field.max = *max,
            Property::Thresholds(thresholds) => field.thresholds = thresholds.clone(),
            Property::Mappings(mappings) => field.mappings.clone_from(mappings),
            Property::NoValue(text) => field.no_value.clone_from(text),
            Property::Colored(_) | Property::DisplayName(_) => {}
        }
    }
}

/// The name of a series: its legend with the labels filled in, or its labels.
fn name(panel: &Panel, target: &Target, labels: &Labels, expression: &str) -> String {
    if !target.legend.is_empty() && target.legend != "__auto" {
        let mut out = String::new();
        let mut rest = target.legend.as_str();
        while let Some((before, after)) = rest.split_once("{{") {
            out.push_str(before);
            match after.split_once("}}") {
                Some((label, later)) => {
                    out.push_str(labels.value(label.trim()));
                    rest = later;
                }
                None => {
                    out.push_str("{{");
                    rest = after;
                }
            }
        }
        out.push_str(rest);
        return out;
    }
    if labels.is_empty() {
        return if panel.title.is_empty() {
            expression.to_owned()
        } else {
            panel.title.clone()
        };
    }
    let metric = labels.value(METRIC_NAME);
    format!("{metric}{}", labels.without(&[METRIC_NAME]).braced())
}

fn reading(style: &Style<'_>, name: &str, value: Option<f64>, of: &[f64]) -> Reading {
    let field = &*style.field;
    let mapping = mapped(&field.mappings, value);
    let text = mapping
        .and_then(|mapping| mapping.text.clone())
        .unwrap_or_else(|| match value {
            Some(value) => unit::text(value, &field.unit, field.decimals),
            None => field.no_value.clone().unwrap_or_else(|| "No data".into()),
        });
    let color = if style.colored {
        mapping
            .and_then(|mapping| mapping.color.clone())
            .or_else(|| {
                let (min, max) = bounds(field, of);
                let value = value.filter(|value| !value.is_nan())?;
                let color = field.thresholds.color(value, min, max)?;
                Some(color.to_owned())
            })
    } else {
        None
    };
    Reading {
        name: name.to_owned(),
        value,
        text,
        color,
    }
}

/// The bounds between which a percentage lies: those of the field, or those of the data.
fn bounds(field: &Field, of: &[f64]) -> (Option<f64>, Option<f64>) {
    let extreme = |pick: fn(f64, f64) -> f64| of.iter().copied().reduce(pick);
    let by_unit = |value: f64| match field.unit.as_str() {
        "percentunit" | "percent" => Some(value),
        _ => None,
    };
    let full = if field.unit == "percentunit" {
        1.0
    } else {
        100.0
    };
    (
        field.min.or(by_unit(0.0)).or_else(|| extreme(f64::min)),
        field.max.or(by_unit(full)).or_else(|| extreme(f64::max)),
    )
}

/// The first mapping that is for a value.
fn mapped(mappings: &[Mapping], value: Option<f64>) -> Option<&Mapping> {
    mappings
        .iter()
        .find(|mapping| match (&mapping.what, value) {
            (Mapped::Null, None) => true,
            (Mapped::NaN, Some(value)) => value.is_nan(),
            (Mapped::Value(text), Some(value)) => {
                text.trim().parse::<f64>().is_ok_and(|given| given == value)
            }
            (Mapped::Range(from, to), Some(value)) => {
                !value.is_nan()
                    && from.is_none_or(|from| value >= from)
                    && to.is_none_or(|to| value <= to)
            }
            (Mapped::Regex(pattern), Some(value)) => regex::Regex::new(pattern)
                .is_ok_and(|pattern| pattern.is_match(&crate::Decimal(value).to_string())),
            _ => false,
        })
}
