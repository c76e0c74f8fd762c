//! A learner's dashboard, looked at again and again while something happens.
//!
//! A [`Board`] is a dashboard that can be used: its JSON was read and Grafana would show it as it
//! was meant. [`Board::watch`] looks at it at some moments of a scenario, over the range that the
//! dashboard itself opens with, and [`Watched`] tells which [`Face`] every panel showed when, what
//! stood out in a row, and writes the changes into a [`Timeline`].
//!
//! Not for saying how a panel ought to be built: only what somebody who glances at the screen sees
//! is looked at.

use std::fmt;
use std::time::Duration;

use promql::dashboard::{Dashboard, Shown, Signal, View};
use promql::{Engine, Storage};

use crate::{Lane, Timeline};

/// How far back Grafana looks where a dashboard does not say it.
const USUAL_RANGE: Duration = Duration::from_hours(6);
/// The most problems that are told at once.
const TOLD: usize = 6;
/// The most characters of a title and of a reading in a line.
const TITLE: usize = 34;
const READING: usize = 18;
/// Transformations that arrange what there is and change no number.
const ARRANGING: [&str; 6] = [
    "convertFieldType",
    "joinByField",
    "merge",
    "organize",
    "renameByRegex",
    "sortBy",
];

/// What catches the eye on a panel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Face {
    /// A number or a line without a color that means anything.
    Plain,
    /// "No data".
    NoData,
    Green,
    Yellow,
    Red,
    /// An error sign: the query failed, or what it asks is not known here.
    Broken,
}

impl fmt::Display for Face {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Face::Plain => "no color",
            Face::NoData => "no data",
            Face::Green => "green",
            Face::Yellow => "yellow",
            Face::Red => "red",
            Face::Broken => "error",
        })
    }
}

/// What one panel shows at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub face: Face,
    /// The reading that the face comes from, with its series' name where there are several; or why
    /// there is none.
    pub text: String,
}

/// Why a dashboard cannot be used: every place in the JSON with what is wrong there.
///
/// Completes "could not use the dashboard: …".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    problems: Vec<String>,
}

impl Unusable {
    /// Each with its path in the JSON.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = self.problems.as_slice() {
            return f.write_str(only);
        }
        write!(f, "{} problems", self.problems.len())?;
        for problem in self.problems.iter().take(TOLD) {
            write!(f, "\n  {problem}")?;
        }
        if self.problems.len() > TOLD {
            write!(f, "\n  … and {} more", self.problems.len() - TOLD)?;
        }
        Ok(())
    }
}

impl std::error::Error for Unusable {}

/// A dashboard that Grafana would show as it was meant.
#[derive(Clone, Debug)]
pub struct Board {
    dashboard: Dashboard,
    rows: Vec<Vec<usize>>,
}

impl Board {
    /// Reads the JSON of a dashboard and looks it over.
    ///
    /// # Errors
    /// The JSON cannot be read, Grafana would refuse or change something, or a panel transforms its
    /// answers in a way that is not executed here.
    pub fn read(json: &str) -> Result<Self, Unusable> {
        let dashboard = Dashboard::parse(json).map_err(|error| Unusable {
            problems: vec![error.to_string()],
        })?;
        let mut problems: Vec<String> = dashboard
            .problems()
            .iter()
            .map(ToString::to_string)
            .collect();
        for panel in &dashboard.panels {
            for id in &panel.transformations {
                if !ARRANGING.contains(&id.as_str()) {
                    problems.push(format!(
                        "{}: {panel} transforms its answers by `{id}`, which is not executed here; \
                         let the query do it",
                        panel.path
                    ));
                }
            }
        }
        if !problems.is_empty() {
            return Err(Unusable { problems });
        }
        let rows = rows(&dashboard);
        Ok(Board { dashboard, rows })
    }

    pub fn dashboard(&self) -> &Dashboard {
        &self.dashboard
    }

    /// The rows from top to bottom, as indices of [`Dashboard::panels`] from left to right: the
    /// panels under each heading, or, without headings, those that stand side by side.
    pub fn rows(&self) -> &[Vec<usize>] {
        &self.rows
    }

    /// The row that a panel stands in, from 0.
    pub fn row_of(&self, panel: usize) -> Option<usize> {
        self.rows.iter().position(|row| row.contains(&panel))
    }

    /// The panel with this title, blanks at both ends aside.
    pub fn titled(&self, title: &str) -> Option<usize> {
        self.dashboard
            .panels
            .iter()
            .position(|panel| panel.title.trim() == title.trim())
    }

    /// A panel's title in quotes, or where it stands if it has none.
    pub fn name(&self, panel: usize) -> String {
        self.dashboard.panels[panel].to_string()
    }

    /// What somebody sees who opens the dashboard at a moment (in milliseconds since the Unix
    /// epoch): as far back as the dashboard says. `scrape` is how often Prometheus scrapes.
    pub fn view(&self, at_ms: i64, scrape: Duration) -> View {
        let range = self.dashboard.range.unwrap_or(USUAL_RANGE);
        let range_ms = i64::try_from(range.as_millis()).unwrap_or(i64::MAX / 16);
        let mut view = View::new(at_ms.saturating_sub(range_ms), at_ms);
        view.scrape_interval = scrape;
        view
    }

    /// Looks at every panel at each of some moments (milliseconds since the Unix epoch, ascending).
    /// `scrape` is how often Prometheus scrapes, which `$__rate_interval` depends on.
    pub fn watch(
        &self,
        storage: &Storage,
        moments: impl IntoIterator<Item = i64>,
        scrape: Duration,
    ) -> Watched<'_> {
        let moments: Vec<i64> = moments.into_iter().collect();
        let views: Vec<View> = moments
            .iter()
            .map(|&at_ms| self.view(at_ms, scrape))
            .collect();
        let shown = self.dashboard.watch(&Engine::default(), storage, &views);
        let seen = shown
            .iter()
            .map(|panels| panels.iter().map(seen).collect())
            .collect();
        Watched {
            board: self,
            moments,
            seen,
        }
    }
}

/// Moments from one time to another, both included, in milliseconds.
///
/// # Panics
/// When `every` is less than a millisecond.
pub fn moments(from_ms: i64, to_ms: i64, every: Duration) -> impl Iterator<Item = i64> {
    let every_ms = usize::try_from(every.as_millis()).expect("a short span");
    (from_ms..=to_ms).step_by(every_ms)
}

/// What a dashboard showed at some moments.
#[derive(Clone, Debug)]
pub struct Watched<'b> {
    board: &'b Board,
    moments: Vec<i64>,
    /// By moment and panel.
    seen: Vec<Vec<Seen>>,
}

impl Watched<'_> {
    /// The dashboard.
    pub fn board(&self) -> &Board {
        self.board
    }

    pub fn moments(&self) -> &[i64] {
        &self.moments
    }

    /// The moments from one time to another, both included, with what each panel showed.
    pub fn between(&self, from_ms: i64, to_ms: i64) -> impl Iterator<Item = (i64, &[Seen])> {
        self.moments
            .iter()
            .zip(&self.seen)
            .map(|(&at_ms, seen)| (at_ms, seen.as_slice()))
            .filter(move |(at_ms, _)| (from_ms..=to_ms).contains(at_ms))
    }

    /// The first moment from `from_ms` on at which one of the panels has that face.
    pub fn first(&self, panels: &[usize], face: Face, from_ms: i64) -> Option<i64> {
        self.between(from_ms, i64::MAX)
            .find(|(_, seen)| panels.iter().any(|&panel| seen[panel].face == face))
            .map(|(at_ms, _)| at_ms)
    }

    /// The first moment in a span at which a panel has another face than one of `allowed`.
    pub fn first_other(
        &self,
        panels: &[usize],
        allowed: &[Face],
        from_ms: i64,
        to_ms: i64,
    ) -> Option<(i64, usize, &Seen)> {
        self.between(from_ms, to_ms).find_map(|(at_ms, seen)| {
            panels
                .iter()
                .find(|&&panel| !allowed.contains(&seen[panel].face))
                .map(|&panel| (at_ms, panel, &seen[panel]))
        })
    }

    /// Which of some panels had an error sign first, and what its query met: whole, whereas a
    /// timeline has room for the beginning only.
    pub fn trouble(&self, panels: &[usize]) -> Option<String> {
        let is_broken = |panel: usize, seen: &[Seen]| seen[panel].face == Face::Broken;
        self.between(i64::MIN, i64::MAX).find_map(|(_, seen)| {
            let &panel = panels.iter().find(|&&panel| is_broken(panel, seen))?;
            let name = self.board.name(panel);
            Some(format!("{name} shows an error sign: {}", seen[panel].text))
        })
    }

    /// For which share of the moments in a span a panel has that face; 0 without any moment.
    pub fn share(&self, panel: usize, face: Face, from_ms: i64, to_ms: i64) -> f64 {
        let (mut of, mut all) = (0_u32, 0_u32);
        for (_, seen) in self.between(from_ms, to_ms) {
            all += 1;
            of += u32::from(seen[panel].face == face);
        }
        if all == 0 {
            0.0
        } else {
            f64::from(of) / f64::from(all)
        }
    }

    /// The panels among some that stand out over a span: those that are red for at least `share` of
    /// its moments.
    pub fn standing_out(
        &self,
        panels: &[usize],
        share: f64,
        from_ms: i64,
        to_ms: i64,
    ) -> Vec<usize> {
        panels
            .iter()
            .copied()
            .filter(|&panel| self.share(panel, Face::Red, from_ms, to_ms) >= share)
            .collect()
    }

    /// A timeline of what some panels said: how they looked at the first moment where that was not
    /// green, and every change since then. Spans count from `origin_ms`.
    pub fn timeline(&self, panels: &[usize], origin_ms: i64) -> Timeline {
        let mut timeline = Timeline::from(origin_ms);
        for &panel in panels {
            let mut before: Option<Face> = None;
            let title = short(&self.board.name(panel), TITLE);
            for (at_ms, seen) in self.between(i64::MIN, i64::MAX) {
                let Seen { face, text } = &seen[panel];
                let text = short(text, READING);
                match before {
                    Some(before) if before == *face => continue,
                    Some(before) => timeline.add(
                        at_ms,
                        Lane::Said,
                        format!("{title}: {before} to {face} ({text})"),
                    ),
                    None if *face == Face::Green => {}
                    None => timeline.add(at_ms, Lane::Said, format!("{title}: {face} ({text})")),
                }
                before = Some(*face);
            }
        }
        timeline
    }
}

/// A line for each panel, row by row: its title and a letter for each moment. `.` is green, `y`
/// yellow, `R` red, `-` no data, `E` an error, and a blank is a number without a color.
impl fmt::Display for Watched<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, row) in self.board.rows().iter().enumerate() {
            for &panel in row {
                let title = short(&self.board.name(panel), TITLE);
                let letters: String = self
                    .seen
                    .iter()
                    .map(|seen| match seen[panel].face {
                        Face::Plain => ' ',
                        Face::NoData => '-',
                        Face::Green => '.',
                        Face::Yellow => 'y',
                        Face::Red => 'R',
                        Face::Broken => 'E',
                    })
                    .collect();
                writeln!(f, "  {} {title:<TITLE$} {letters}", nth + 1)?;
            }
        }
        Ok(())
    }
}

fn short(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most - 1).collect();
    format!("{kept}…")
}

fn seen(shown: &Shown) -> Seen {
    if let Some(trouble) = &shown.trouble {
        return Seen {
            face: Face::Broken,
            text: trouble.clone(),
        };
    }
    let worst = shown
        .readings
        .iter()
        .filter_map(|reading| Some((reading.signal()?, reading)))
        .reduce(|worst, other| if other.0 > worst.0 { other } else { worst });
    let with_name = |reading: &promql::dashboard::Reading| {
        if shown.readings.len() > 1 && !reading.name.is_empty() {
            format!("{} {}", reading.text, reading.name)
        } else {
            reading.text.clone()
        }
    };
    match (worst, shown.readings.first()) {
        (Some((signal, reading)), _) => Seen {
            face: match signal {
                Signal::Green => Face::Green,
                Signal::Yellow => Face::Yellow,
                Signal::Red => Face::Red,
            },
            text: with_name(reading),
        },
        (None, Some(reading)) => Seen {
            face: if shown.readings.iter().all(|reading| reading.value.is_none()) {
                Face::NoData
            } else {
                Face::Plain
            },
            text: with_name(reading),
        },
        (None, None) => Seen {
            face: Face::NoData,
            text: "No data".to_owned(),
        },
    }
}

fn rows(dashboard: &Dashboard) -> Vec<Vec<usize>> {
    let mut placed: Vec<(u32, u32, u32, usize)> = dashboard
        .panels
        .iter()
        .enumerate()
        .filter_map(|(index, panel)| {
            let grid = panel.grid?;
            Some((grid.y, grid.x, grid.y + grid.height, index))
        })
        .collect();
    placed.sort_unstable();
    // Under headings in their order on the screen; what stands above all of them comes first.
    if !dashboard.rows.is_empty() {
        let mut by_heading: Vec<(Option<usize>, Vec<usize>)> = Vec::new();
        for &(_, _, _, index) in &placed {
            let row = dashboard.panels[index].row;
            match by_heading.iter_mut().find(|(heading, _)| *heading == row) {
                Some((_, panels)) => panels.push(index),
                None => by_heading.push((row, vec![index])),
            }
        }
        by_heading.sort_by_key(|(heading, _)| {
            heading.map(|row| {
                let y = dashboard.rows[row].grid.map(|grid| grid.y);
                (y.unwrap_or(u32::MAX), row)
            })
        });
        return by_heading.into_iter().map(|(_, panels)| panels).collect();
    }
    // Without headings panels are side by side when their heights overlap.
    let mut rows: Vec<(u32, Vec<usize>)> = Vec::new();
    for (top, _, bottom, index) in placed {
        match rows.last_mut() {
            Some((lowest, row)) if top < *lowest => {
                *lowest = bottom.max(*lowest);
                row.push(index);
            }
            _ => rows.push((bottom, vec![index])),
        }
    }
    for (_, row) in &mut rows {
        row.sort_by_key(|&index| dashboard.panels[index].grid.map(|grid| (grid.x, grid.y)));
    }
    rows.into_iter().map(|(_, row)| row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use promql::Labels;

    const MINUTE: i64 = 60_000;

    /// An hour in which every worker is busy from minute 20 to minute 40.
    fn storage() -> Storage {
        let mut storage = Storage::new();
        for nth in 0..=240_i64 {
            let at_ms = nth * 15_000;
            let busy = if (20 * MINUTE..40 * MINUTE).contains(&at_ms) {
                8.0
            } else {
                3.0
            };
            for (name, value) in [("busy", busy), ("size", 8.0)] {
                let labels = Labels::named(name, [("job", "pool")]);
                storage.append(labels, at_ms, value).unwrap();
            }
        }
        storage
    }

    fn stat(id: u32, title: &str, grid: [u32; 4], expression: &str) -> String {
        let [x, y, w, h] = grid;
        format!(
            r#"{{"id": {id}, "type": "stat", "title": "{title}",
                "gridPos": {{"x": {x}, "y": {y}, "w": {w}, "h": {h}}},
                "targets": [{{"refId": "A", "expr": "{expression}"}}],
                "fieldConfig": {{"defaults": {{"unit": "percentunit", "thresholds": {{"steps": [
                  {{"color": "green", "value": null}}, {{"color": "red", "value": 0.9}}]}}}}}}}}"#
        )
    }

    fn dashboard(panels: &[String]) -> String {
        format!(
            r#"{{"title": "Pool", "schemaVersion": 39, "time": {{"from": "now-15m", "to": "now"}},
                "panels": [{}]}}"#,
            panels.join(",")
        )
    }

    #[test]
    fn a_panel_is_red_while_what_it_asks_for_is_so() {
        let board = Board::read(&dashboard(&[
            stat(1, "Is it busy?", [0, 0, 12, 4], "max(busy / size)"),
            stat(2, "Is it lost?", [12, 0, 12, 4], "max(nothing)"),
        ]))
        .unwrap();
        let storage = storage();
        let every = moments(0, 60 * MINUTE, Duration::from_mins(1));
        let watched = board.watch(&storage, every, Duration::from_secs(15));
        assert_eq!(watched.first(&[0], Face::Red, 0), Some(20 * MINUTE));
        assert_eq!(
            watched.first(&[0], Face::Green, 20 * MINUTE),
            Some(40 * MINUTE)
        );
        assert_eq!(watched.first(&[1], Face::NoData, 0), Some(0));
        let share = watched.share(0, Face::Red, 20 * MINUTE, 59 * MINUTE);
        assert!((share - 0.5).abs() < 1e-9, "{share}");
        assert_eq!(
            watched.standing_out(&[0, 1], 0.9, 20 * MINUTE, 39 * MINUTE),
            [0]
        );
        let (at_ms, panel, seen) = watched
            .first_other(&[0], &[Face::Green], 0, 60 * MINUTE)
            .unwrap();
        assert_eq!((at_ms, panel, &*seen.text), (20 * MINUTE, 0, "100%"));
        let text = watched.timeline(&[0, 1], 20 * MINUTE).to_string();
        assert_eq!(
            text,
            "  00:00:00  -20m00s  > \"Is it lost?\": no data (No data)\n\
             \x20 00:20:00       0s  > \"Is it busy?\": green to red (100%)\n\
             \x20 00:40:00   20m00s  > \"Is it busy?\": red to green (37.5%)\n"
        );
    }

    #[test]
    fn an_error_is_told_whole() {
        let board = Board::read(&dashboard(&[
            stat(1, "Is it busy?", [0, 0, 12, 4], "max(busy / size)"),
            stat(2, "Is it odd?", [12, 0, 12, 4], "busy + on () {job='pool'}"),
        ]))
        .unwrap();
        let every = moments(0, 60 * MINUTE, Duration::from_mins(10));
        let storage = storage();
        let watched = board.watch(&storage, every, Duration::from_secs(15));
        assert_eq!(watched.trouble(&[0]), None);
        let trouble = watched.trouble(&[0, 1]).unwrap();
        assert!(
            trouble.starts_with("\"Is it odd?\" shows an error sign: "),
            "{trouble}"
        );
        assert!(trouble.contains("must be unique on one side"), "{trouble}");
    }

    #[test]
    fn every_panel_is_a_line_with_a_letter_for_each_moment() {
        let board = Board::read(&dashboard(&[
            stat(1, "Is it lost?", [0, 4, 12, 4], "max(nothing)"),
            stat(2, "Is it busy?", [0, 0, 12, 4], "max(busy / size)"),
        ]))
        .unwrap();
        let every = moments(0, 60 * MINUTE, Duration::from_mins(10));
        let text = board
            .watch(&storage(), every, Duration::from_secs(15))
            .to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("  1 \"Is it busy?\" ") && lines[0].ends_with(" ..RR..."));
        assert!(lines[1].starts_with("  2 \"Is it lost?\" ") && lines[1].ends_with(" -------"));
    }

    #[test]
    fn rows_are_what_stands_side_by_side_or_under_one_heading() {
        let panel = |id, title, grid| stat(id, title, grid, "max(busy)");
        let rows = |panels: &[String]| {
            let board = Board::read(&dashboard(panels)).unwrap();
            board
                .rows()
                .iter()
                .map(|row| row.iter().map(|&panel| board.name(panel)).collect())
                .collect::<Vec<Vec<String>>>()
        };
        assert_eq!(
            rows(&[
                panel(1, "d", [0, 8, 24, 4]),
                panel(2, "c", [8, 4, 8, 4]),
                panel(3, "b", [8, 0, 8, 4]),
                panel(4, "a", [0, 0, 8, 8]),
            ]),
            [vec!["\"a\"", "\"b\"", "\"c\""], vec!["\"d\""]]
        );
        let heading = |y: u32, collapsed: &str| {
            format!(
                r#"{{"type": "row", "title": "{y}", "gridPos": {{"x": 0, "y": {y}, "w": 24, "h": 1}}
                   {collapsed}}}"#
            )
        };
        let within = format!(
            r#", "collapsed": true, "panels": [{}]"#,
            panel(9, "z", [0, 10, 8, 4])
        );
        assert_eq!(
            rows(&[
                heading(9, &within),
                heading(0, ""),
                panel(1, "b", [0, 5, 8, 4]),
                panel(2, "a", [0, 1, 8, 4]),
            ]),
            [vec!["\"a\"", "\"b\""], vec!["\"z\""]]
        );
    }

    #[test]
    fn what_grafana_would_change_and_what_is_not_executed_is_told_with_its_place() {
        let error = Board::read("{").unwrap_err();
        assert!(error.to_string().starts_with("it is not JSON"), "{error}");
        let mut odd = stat(1, "a?", [20, 0, 8, 4], "max(busy)");
        odd.insert_str(
            1,
            r#""transformations": [{"id": "organize"}, {"id": "reduce"}], "#,
        );
        let error = Board::read(&dashboard(&[odd])).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.problems().len(), 2, "{text}");
        assert!(text.contains("panels[0]: \"a?\" ends at column 28 of 24"));
        assert!(text.contains("panels[0]: \"a?\" transforms its answers by `reduce`"));
    }
}
