//! What Grafana would refuse, repair in silence, or show otherwise than it was meant.

use std::collections::HashMap;
use std::fmt;

use crate::Query;

use super::variables::{Values, is_duration};
use super::{COLUMNS, Dashboard, Panel, VariableKind, View};

/// The panel types that come with Grafana.
const KINDS: [&str; 22] = [
    "alertlist",
    "annolist",
    "bargauge",
    "barchart",
    "candlestick",
    "dashlist",
    "flamegraph",
    "gauge",
    "geomap",
    "graph",
    "heatmap",
    "histogram",
    "logs",
    "news",
    "nodeGraph",
    "piechart",
    "stat",
    "state-timeline",
    "status-history",
    "table",
    "text",
    "timeseries",
];
/// Those that show no data of their own.
const WITHOUT_QUERY: [&str; 5] = ["alertlist", "annolist", "dashlist", "news", "text"];
/// The oldest shape that today's Grafana still loads without losing panels.
const OLDEST_SCHEMA: u64 = 16;

/// Something that is wrong with a dashboard, though its JSON can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The path in the JSON, as in `panels[3].targets[0]`; empty for the whole dashboard.
    pub path: String,
    /// What is wrong and what it leads to.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.what)
        } else {
            write!(f, "{}: {}", self.path, self.what)
        }
    }
}

pub(super) fn of(dashboard: &Dashboard) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut report = |path: &str, what: String| {
        found.push(Problem {
            path: path.to_owned(),
            what,
        });
    };
    if dashboard.title.trim().is_empty() {
        report("title", "a dashboard without a title is refused".to_owned());
    }
    match dashboard.schema_version {
        None => report(
            "schemaVersion",
            "it is missing: Grafana takes the dashboard for one of its first version".to_owned(),
        ),
        Some(version) if version < OLDEST_SCHEMA => report(
            "schemaVersion",
            format!("version {version} is older than {OLDEST_SCHEMA}: panels lose their places"),
        ),
        Some(_) => {}
    }
    ids(dashboard, &mut report);
    grid(dashboard, &mut report);
    let values = Values::of(dashboard, None, &View::last_hour(0));
    for panel in &dashboard.panels {
        one_panel(panel, &values, &mut report);
    }
    for variable in &dashboard.variables {
        if variable.name.is_empty() {
            report(&variable.path, "the variable has no name".to_owned());
        }
        if let VariableKind::Interval(texts) = &variable.kind
            && let Some(text) = texts.iter().find(|text| !is_duration(text))
        {
            report(
                &variable.path,
                format!("`{text}` is offered as an interval, and is no duration"),
            );
        }
    }
    found
}

fn ids(dashboard: &Dashboard, report: &mut impl FnMut(&str, String)) {
    let mut seen: HashMap<u64, String> = HashMap::new();
    let panels = dashboard.panels.iter().map(|panel| {
        let name = panel.to_string();
        (panel.id, panel.path.clone(), name)
    });
    let rows = dashboard
        .rows
        .iter()
        .map(|row| (row.id, String::new(), format!("the row \"{}\"", row.title)));
    for (id, path, name) in panels.chain(rows) {
        let Some(id) = id else { continue };
        if let Some(other) = seen.get(&id) {
            report(
                &path,
                format!("{name} has the id {id} of {other}: one of them cannot be opened"),
            );
        } else {
            seen.insert(id, name);
        }
    }
}

fn grid(dashboard: &Dashboard, report: &mut impl FnMut(&str, String)) {
    for (nth, panel) in dashboard.panels.iter().enumerate() {
        let Some(grid) = panel.grid else {
            report(
                &panel.path,
                format!("{panel} has no `gridPos`: it is drawn over the others"),
            );
            continue;
        };
        if grid.width == 0 || grid.height == 0 {
            report(
                &panel.path,
                format!(
                    "{panel} is {} by {} units: nobody sees it",
                    grid.width, grid.height
                ),
            );
        }
        if grid.x + grid.width > COLUMNS {
            report(
                &panel.path,
                format!(
                    "{panel} ends at column {} of {COLUMNS}: Grafana moves it",
                    grid.x + grid.width
                ),
            );
        }
        let other = dashboard.panels[..nth].iter().find(|other| {
            other
                .grid
                .is_some_and(|other_grid| other_grid.overlaps(grid))
                // Panels of a collapsed row keep the places that they have when it is open.
                && other.row == panel.row
        });
        if let Some(other) = other {
            report(
                &panel.path,
                format!("{panel} lies on {other}: Grafana pushes it down"),
            );
        }
    }
}

fn one_panel(panel: &Panel, values: &Values, report: &mut impl FnMut(&str, String)) {
    if panel.kind.is_empty() {
        report(&panel.path, format!("{panel} has no type"));
    } else if !KINDS.contains(&panel.kind.as_str()) {
        report(
            &panel.path,
            format!(
                "{panel} is a `{}`, which does not come with Grafana",
                panel.kind
            ),
        );
    }
    let asked = panel.targets.iter().filter(|target| !target.hidden);
    if asked.clone().next().is_none() && !WITHOUT_QUERY.contains(&panel.kind.as_str()) {
        report(
            &panel.path,
            format!("{panel} asks for nothing: it says \"No data\""),
        );
    }
    let mut letters: Vec<&str> = Vec::new();
    for target in &panel.targets {
        if target.ref_id.is_empty() {
            report(&target.path, "the query has no `refId`".to_owned());
        } else if letters.contains(&target.ref_id.as_str()) {
            report(
                &target.path,
                format!("`refId` {} is given twice in {panel}", target.ref_id),
            );
        }
        letters.push(&target.ref_id);
        let for_prometheus = match target.source.as_deref() {
            Some(source) => source == "prometheus",
            None => panel.asks_prometheus(),
        };
        if target.hidden || !for_prometheus {
            continue;
        }
        if target.expression.trim().is_empty() {
            report(&target.path, format!("the query of {panel} is empty"));
            continue;
        }
        match values.filled(&target.expression) {
            Err(unknown) => report(
                &target.path,
                format!("the query of {panel} names ${unknown}, and there is no such variable"),
            ),
            Ok(expression) => {
                if let Err(diagnostic) = Query::parse(&expression) {
                    report(
                        &target.path,
                        format!("the query of {panel} cannot be read: {diagnostic}"),
                    );
                }
            }
        }
    }
    let steps = &panel.field.thresholds.steps;
    if steps.first().is_some_and(|first| first.from.is_some()) {
        report(
            &panel.path,
            format!(
                "the first threshold of {panel} has a value: Grafana takes it for minus infinity; \
                 write null"
            ),
        );
    }
    let numbers: Vec<f64> = steps.iter().skip(1).filter_map(|step| step.from).collect();
    if numbers.len() + 1 < steps.len() {
        report(
            &panel.path,
            format!("a threshold of {panel} has no value, and is not the first"),
        );
    }
    if numbers.windows(2).any(|two| two[0] >= two[1]) {
        report(
            &panel.path,
            format!("the thresholds of {panel} do not ascend: Grafana sorts them"),
        );
    }
}
