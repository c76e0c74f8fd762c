//! What a dashboard is played against: a system while something happens to it, and the words for a
//! learner whose panels did not show it.
//!
//! Not for the system, which is `incident`'s, nor for deciding what a panel has to show: a checker
//! does that. What alerts are played against is a [`Scenario`](crate::alerts::Scenario).

use std::time::Duration;

use promql::Storage;

use crate::alerts::Span;
use crate::dashboards::{Board, Face, Watched, moments};
use crate::{Lane, Timeline, span};

/// A system while something happens to it. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug)]
pub struct Scene {
    /// The metrics, from long enough before [`Scene::within`].
    pub storage: Storage,
    /// What happens, for a person: "a query has lost its index".
    pub tells: String,
    /// What it was simulated from, for messages.
    pub seed: u64,
    /// When somebody looks.
    pub within: Span,
    /// When it happens; times in a timeline are counted from there.
    pub origin_ms: i64,
    /// When it is over, if that is before the end.
    pub over_ms: Option<i64>,
}

impl Scene {
    /// Looks at every panel of a dashboard each time that `every` has passed. `scrape` is how often
    /// Prometheus scrapes.
    ///
    /// # Panics
    /// When `every` is less than a millisecond.
    pub fn watch<'b>(&self, board: &'b Board, every: Duration, scrape: Duration) -> Watched<'b> {
        let Span { from_ms, to_ms } = self.within;
        board.watch(&self.storage, moments(from_ms, to_ms, every), scrape)
    }

    /// A timeline of what happens.
    pub fn timeline(&self) -> Timeline {
        let mut timeline = Timeline::from(self.origin_ms);
        self.tell(&mut timeline);
        timeline
    }

    /// `what`, and below it what happened, what some panels showed then, and what was due when. An
    /// error sign on one of the panels is told instead: nothing else can be said of it.
    pub fn complaint(
        &self,
        watched: &Watched<'_>,
        panels: &[usize],
        what: &str,
        due: Option<(i64, &str)>,
    ) -> String {
        let seed = self.seed;
        if let Some(trouble) = watched.trouble(panels) {
            return format!("{trouble} (seed {seed})");
        }
        let mut timeline = watched.timeline(panels, self.origin_ms);
        self.tell(&mut timeline);
        if let Some((due_ms, due)) = due {
            timeline.add(due_ms, Lane::Due, due);
        }
        format!("{what} (seed {seed})\n{timeline}")
    }

    /// Whether a panel is red at most `within_ms` after it happens, and for at least `share` of the
    /// moments from then on.
    ///
    /// # Errors
    /// With a complaint, which calls it `unseen` where the panel is late: "and nobody could see it".
    pub fn turns_red(
        &self,
        watched: &Watched<'_>,
        panel: usize,
        within_ms: i64,
        share: f64,
        unseen: &str,
    ) -> Result<(), String> {
        let due_ms = self.origin_ms + within_ms;
        let first = watched.first(&[panel], Face::Red, self.origin_ms);
        let what = if first.is_none_or(|at_ms| at_ms > due_ms) {
            format!("{}, {unseen}", self.tells)
        } else if watched.share(panel, Face::Red, due_ms, i64::MAX) < share {
            let name = watched.board().name(panel);
            format!("{}, and {name} does not stay red", self.tells)
        } else {
            return Ok(());
        };
        let due = format!(
            "it has to be red, {} after, and to stay so",
            span(within_ms)
        );
        Err(self.complaint(watched, &[panel], &what, Some((due_ms, &due))))
    }

    fn tell(&self, timeline: &mut Timeline) {
        timeline.add(self.origin_ms, Lane::Happened, self.tells.clone());
        if let Some(at_ms) = self.over_ms {
            timeline.add(at_ms, Lane::Happened, "it is over");
        }
    }
}

#[cfg(test)]
mod tests {
    use promql::Labels;

    use super::*;

    const MINUTE: i64 = 60_000;
    const SCRAPE: Duration = Duration::from_mins(1);

    /// Twenty minutes of `busy`, which is 1 from one minute to another.
    fn scene(busy: std::ops::Range<i64>) -> Scene {
        let mut storage = Storage::new();
        let samples = (0..=20).map(|minute| {
            let value = if busy.contains(&minute) { 1.0 } else { 0.0 };
            (minute * MINUTE, value)
        });
        storage
            .append_series(Labels::named("busy", [("job", "pool")]), samples)
            .expect("they are in order");
        Scene {
            storage,
            tells: "the workers are held".into(),
            seed: 7,
            within: Span::new(5 * MINUTE, 20 * MINUTE),
            origin_ms: 10 * MINUTE,
            over_ms: None,
        }
    }

    fn board(query: &str) -> Board {
        Board::read(&format!(
            r#"{{"title": "Pool", "schemaVersion": 39, "time": {{"from": "now-15m", "to": "now"}},
                "panels": [{{"id": 1, "type": "stat", "title": "Are workers free?",
                  "gridPos": {{"x": 0, "y": 0, "w": 6, "h": 4}},
                  "targets": [{{"refId": "A", "expr": "{query}"}}],
                  "fieldConfig": {{"defaults": {{"thresholds": {{"steps": [
                    {{"color": "green", "value": null}}, {{"color": "red", "value": 1}}]}}}}}}}}]}}"#
        ))
        .expect("it is a dashboard")
    }

    fn turns_red(scene: &Scene, query: &str) -> Result<(), String> {
        let board = board(query);
        let watched = scene.watch(&board, SCRAPE, SCRAPE);
        scene.turns_red(&watched, 0, 3 * MINUTE, 0.9, "and nobody could see it")
    }

    #[test]
    fn red_in_time_and_to_the_end_is_no_complaint() {
        assert_eq!(turns_red(&scene(12..21), "busy"), Ok(()));
        assert_eq!(turns_red(&scene(13..21), "busy"), Ok(()));
    }

    #[test]
    fn red_that_comes_late_is_told_with_what_was_due() {
        let complaint = turns_red(&scene(14..21), "busy").expect_err("it is late");
        let lines: Vec<&str> = complaint.lines().collect();
        assert_eq!(
            lines,
            [
                "the workers are held, and nobody could see it (seed 7)",
                "  00:10:00       0s  * the workers are held",
                "  00:13:00    3m00s  ! it has to be red, 3m00s after, and to stay so",
                "  00:14:00    4m00s  > \"Are workers free?\": green to red (1)",
            ]
        );
    }

    #[test]
    fn red_that_goes_away_is_told_apart_and_so_is_the_end() {
        let mut scene = scene(12..16);
        scene.over_ms = Some(18 * MINUTE);
        let complaint = turns_red(&scene, "busy").expect_err("it does not stay");
        assert!(
            complaint.starts_with(
                "the workers are held, and \"Are workers free?\" does not stay red (seed 7)\n"
            ),
            "{complaint}"
        );
        assert!(complaint.contains("8m00s  * it is over"), "{complaint}");
    }

    #[test]
    fn an_error_sign_is_all_that_is_told_of_a_panel_that_has_one() {
        let complaint = turns_red(&scene(12..21), "label_replace(busy, 'a', '', 'b', '(')")
            .expect_err("it has no color");
        assert!(
            complaint.starts_with("\"Are workers free?\" shows an error sign: "),
            "{complaint}"
        );
        assert!(!complaint.contains('*'), "{complaint}");
    }
}
