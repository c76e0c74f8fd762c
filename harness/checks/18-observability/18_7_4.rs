//! 18.7.4: an error budget, and alerts on how fast it burns.

use std::time::Duration;

use super::subject;

use drill::alerts::{Alerting, Drill, Span, Wanted};
use drill::dashboards::Board;
use drill::submission::Submission;
use drill::{Clock, Lane, Timeline, storage_of};
use incident::months::{Burn, Month, Run, Setup, simulate};
use promql::dashboard::{Shown, Signal};
use promql::{Engine, Storage};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// Rules are evaluated once a minute.
const EVERY: Duration = Duration::from_secs(60);
/// The burn rate of the last hour, as the learner records it.
const RECORDED: &str = "job:slo_burn_rate:1h";
const PANEL: &str = "Error budget left";
/// For how long the learner's rules have recorded when their series are read: one of them may be
/// made from an hour of another.
const RECORDED_FOR: i64 = 65 * MINUTE;

#[test]
fn burn_rate_is_a_rate() {
    kit::check(|| {
        let rules = rules();
        kit::seed::each(&[3, 8], |seed| {
            for month in [Month::FastBurn, Month::SlowBurn] {
                let played = Played::to_the_end_of_it(month, seed.0);
                let burn = &played.run.truth().episodes[0];
                let middle = i64::midpoint(burn.starts_at_ms, burn.ends_at_ms);
                let mut moments = vec![
                    (burn.starts_at_ms - 8 * HOUR, "hours before"),
                    (whole_minute(middle), "in the middle of"),
                ];
                // The last hour has a restart in it.
                moments.extend(played.restarts_ms().filter_map(|restart_ms| {
                    let at_ms = whole_minute(restart_ms) + 40 * MINUTE;
                    let burns = (burn.starts_at_ms..burn.ends_at_ms).contains(&restart_ms);
                    burns.then_some((at_ms, "40 minutes after a restart in"))
                }));
                for (at_ms, when) in moments {
                    let within = Span::new(at_ms - RECORDED_FOR, at_ms);
                    let storage = kit::or_symptom(rules.recorded(&played.storage, within));
                    let truth = played.burn_rate(at_ms, HOUR);
                    let found = recorded(&storage, at_ms);
                    assert!(
                        (found - truth).abs() <= 0.05 * truth + 0.03,
                        "{when} an episode of {}, {:.3} % of the last hour's requests were bad, \
                         which is {truth:.2} times what the budget allows; {RECORDED} says \
                         {found:.2}",
                        played.setup.service,
                        100.0 * truth * 0.001
                    );
                }
            }
        });
    });
}

#[test]
fn good_months_are_silent() {
    kit::check(|| {
        let rules = rules();
        kit::seed::each(&[2, 13], |seed| {
            let calm = Played::of(Month::Calm, seed.0);
            let begins = calm.setup.begins * 1_000;
            let whole = Span::new(begins + 7 * HOUR, begins + 30 * DAY);
            // A month in which nothing is short: every five minutes will do.
            let drill = drilled(&rules.clone().every(5 * EVERY), &calm, whole);
            calm.silent(&drill, &Wanted::any(), whole, "a calm month");
            let blips = Played::of(Month::Blips, seed.0);
            for blip in &blips.run.truth().episodes {
                let span = Span::new(blip.starts_at_ms - 2 * HOUR, blip.ends_at_ms + 3 * HOUR);
                let drill = drilled(&rules, &blips, span);
                let what = format!(
                    "{:.0} s at {:.0} times the pace, and nothing else for days",
                    (blip.ends_at_ms - blip.starts_at_ms) as f64 / 1e3,
                    blip.burn_rate
                );
                blips.silent(&drill, &Wanted::any(), span, &what);
            }
        });
    });
}

#[test]
fn fast_burns_are_critical_in_time() {
    kit::check(|| {
        let rules = rules();
        kit::seed::each(&[1, 5], |seed| {
            let played = Played::to_the_end_of_it(Month::FastBurn, seed.0);
            let burn = played.run.truth().episodes[0].clone();
            let Some(passed_ms) = played.passes(14.4, &burn) else {
                return;
            };
            let span = Span::new(burn.starts_at_ms - 2 * HOUR, burn.ends_at_ms + HOUR);
            let drill = drilled(&rules, &played, span);
            played.fires_by(&drill, "critical", &burn, passed_ms + 10 * MINUTE, span);
        });
    });
}

#[test]
fn outages_are_critical_within_ten_minutes() {
    kit::check(|| {
        let rules = rules();
        kit::seed::each(&[4, 6], |seed| {
            let played = Played::to_the_end_of_it(Month::Outage, seed.0);
            let burn = played.run.truth().episodes[0].clone();
            let span = Span::new(burn.starts_at_ms - 2 * HOUR, burn.ends_at_ms + HOUR);
            let drill = drilled(&rules, &played, span);
            played.fires_by(
                &drill,
                "critical",
                &burn,
                burn.starts_at_ms + 10 * MINUTE,
                span,
            );
        });
    });
}

#[test]
fn slow_burns_are_a_warning_and_not_critical() {
    kit::check(|| {
        let rules = rules();
        kit::seed::each(&[7, 11], |seed| {
            let played = Played::to_the_end_of_it(Month::SlowBurn, seed.0);
            let burn = played.run.truth().episodes[0].clone();
            let span = Span::new(burn.starts_at_ms - 4 * HOUR, burn.starts_at_ms + 14 * HOUR);
            let drill = drilled(&rules, &played, span);
            played.fires_by(
                &drill,
                "warning",
                &burn,
                burn.starts_at_ms + 12 * HOUR,
                span,
            );
            let what = format!("{:.1} times the pace", burn.burn_rate);
            played.silent(&drill, &severity("critical"), span, &what);
        });
    });
}

#[test]
fn alerts_end_with_the_burn() {
    kit::check(|| {
        let rules = rules();
        kit::seed::each(&[5, 9], |seed| {
            for (month, severity, within, before) in [
                (Month::FastBurn, "critical", 20 * MINUTE, 4 * HOUR),
                (Month::SlowBurn, "warning", 2 * HOUR, 4 * HOUR),
            ] {
                let played = Played::to_the_end_of_it(month, seed.0);
                let burn = played.run.truth().episodes[0].clone();
                let over_ms = burn.ends_at_ms + within;
                let from = (burn.ends_at_ms - before).max(burn.starts_at_ms - HOUR);
                let span = Span::new(from, over_ms + 10 * MINUTE);
                let drill = drilled(&rules, &played, span);
                let wanted = self::severity(severity);
                if drill
                    .first(&wanted, Span::new(from, burn.ends_at_ms))
                    .is_none()
                {
                    let lacking = format!("a {severity} alert has to have fired");
                    kit::symptom(played.told(&drill, &burn, burn.ends_at_ms, &lacking));
                }
                if drill.still_firing(&wanted, over_ms).is_some() {
                    let due = format!("the {severity} alert has to be over");
                    kit::symptom(played.told(&drill, &burn, over_ms, &due));
                }
            }
        });
    });
}

#[test]
fn panel_shows_what_is_left_of_the_budget() {
    kit::check(|| {
        let (rules, board) = (rules(), board());
        kit::seed::each(&[3], |seed| {
            for month in [Month::Calm, Month::SlowBurn, Month::Exhausted] {
                let played = Played::of(month, seed.0);
                let left = 1.0 - played.run.truth().budget_spent;
                let shown = shown(&rules, &board, &played);
                assert!(
                    shown
                        .value()
                        .is_some_and(|value| (value - left).abs() <= 0.02),
                    "{left:.3} of a month's budget are left; \"{PANEL}\" shows {}",
                    match shown.readings.as_slice() {
                        [one] => match one.value {
                            Some(value) => format!("{value:.3}, as \"{}\"", one.text),
                            None => one.text.clone(),
                        },
                        _ => "nothing".to_owned(),
                    }
                );
            }
        });
    });
}

#[test]
fn panel_is_colored_by_what_is_left() {
    kit::check(|| {
        let (rules, board) = (rules(), board());
        for (month, seed) in [(Month::Calm, 3), (Month::Outage, 4), (Month::Exhausted, 3)] {
            let played = Played::of(month, seed);
            let left = 1.0 - played.run.truth().budget_spent;
            let expected = match left {
                left if left >= 0.5 => Signal::Green,
                left if left < 0.1 => Signal::Red,
                _ => Signal::Yellow,
            };
            let signal = shown(&rules, &board, &played).signal();
            assert!(
                signal == Some(expected),
                "{:.1} % of a month's budget are left, and \"{PANEL}\" is {}",
                100.0 * left,
                signal.map_or("without a color".to_owned(), |signal| {
                    format!("{signal:?}").to_lowercase()
                })
            );
        }
    });
}

/// A month, and what Prometheus has of it.
struct Played {
    setup: Setup,
    run: Run,
    storage: Storage,
}

impl Played {
    fn of(month: Month, seed: u64) -> Self {
        Played::begun(month, month.drawn(seed))
    }

    /// The month up to a day after the last of what happens in it: the rest is not looked at.
    fn to_the_end_of_it(month: Month, seed: u64) -> Self {
        let mut setup = month.drawn(seed);
        let ends = setup.episodes.iter().map(|of| of.at + of.lasts);
        let days = (ends.fold(0.0, f64::max) / 86_400.0).ceil() as u32 + 1;
        setup.days = setup.days.min(days);
        Played::begun(month, setup)
    }

    fn begun(month: Month, setup: Setup) -> Self {
        kit::step(format!(
            "playing a month ({month:?}) and your rules over it"
        ));
        let run = simulate(&setup);
        let storage = storage_of(run.series());
        Played {
            setup,
            run,
            storage,
        }
    }

    /// When the first instance of the service starts again.
    fn restarts_ms(&self) -> impl Iterator<Item = i64> {
        let begins_ms = self.setup.begins * 1_000;
        let restarts = self.setup.restarts.iter();
        restarts.map(move |restart| begins_ms + (restart * 1e3) as i64)
    }

    /// How fast the budget burned in the time up to a moment, counted from the samples of all
    /// instances.
    fn burn_rate(&self, at_ms: i64, over_ms: i64) -> f64 {
        let added = |name: &str, label: &str, value: &str| -> f64 {
            let of = self.run.series().filter(|series| {
                series.name() == name
                    && (label.is_empty() || series.labels().get(label) == Some(value))
            });
            let within = of.map(|series| (at_ms - over_ms..=at_ms).collect_from(series.samples()));
            let added = |samples: &[f64]| -> f64 {
                samples
                    .windows(2)
                    .map(|two| {
                        if two[1] < two[0] {
                            two[1]
                        } else {
                            two[1] - two[0]
                        }
                    })
                    .sum()
            };
            within.map(|samples| added(&samples)).sum()
        };
        let all = added("http_request_duration_seconds_count", "", "");
        let quick = added("http_request_duration_seconds_bucket", "le", "0.2");
        let failed = added("http_requests_total", "status", "500");
        (all - quick + failed) / all / 0.001
    }

    /// When the burn rate of the last hour passes a bound for the first time in an episode.
    fn passes(&self, bound: f64, burn: &Burn) -> Option<i64> {
        let first = whole_minute(burn.starts_at_ms);
        (first..=burn.ends_at_ms)
            .step_by(MINUTE as usize)
            .find(|at_ms| self.burn_rate(*at_ms, HOUR) > bound * 1.02)
    }

    fn fires_by(&self, drill: &Drill, severity: &str, burn: &Burn, due_ms: i64, span: Span) {
        let wanted = self::severity(severity);
        let early = Span::new(span.from_ms, burn.starts_at_ms);
        if drill.first(&wanted, early).is_some() {
            let due = format!("no {severity} alert before it begins");
            kit::symptom(self.told(drill, burn, burn.starts_at_ms, &due));
        }
        if drill
            .first(&wanted, Span::new(burn.starts_at_ms, due_ms))
            .is_none()
        {
            let due = format!("a {severity} alert has to fire");
            kit::symptom(self.told(drill, burn, due_ms, &due));
        }
    }

    fn silent(&self, drill: &Drill, wanted: &Wanted, within: Span, what: &str) {
        if let Some(episode) = drill.first(wanted, within) {
            let at_ms = episode.firing_ms().unwrap_or(within.from_ms);
            let mut timeline = Timeline::from(at_ms);
            for burn in &self.run.truth().episodes {
                if within.holds(burn.starts_at_ms) {
                    happened(&mut timeline, burn);
                }
            }
            drill.tell(&mut timeline);
            kit::symptom(format!(
                "{what}: {} fires{}, and nobody need have been told\n{timeline}",
                episode.alert(),
                match wanted == &Wanted::any() {
                    true => String::new(),
                    false => " as critical".to_owned(),
                }
            ));
        }
    }

    fn told(&self, drill: &Drill, burn: &Burn, due_ms: i64, due: &str) -> String {
        let mut timeline = Timeline::from(burn.starts_at_ms);
        happened(&mut timeline, burn);
        timeline.add(due_ms, Lane::Due, due);
        drill.tell(&mut timeline);
        format!(
            "the budget of {} burns at {:.1} times its pace, and by {} {due}\n{timeline}",
            self.setup.service,
            burn.burn_rate,
            Clock::from(burn.starts_at_ms).time(due_ms)
        )
    }
}

/// The samples of a stretch of time.
trait CollectFrom {
    fn collect_from(self, samples: &[(i64, f64)]) -> Vec<f64>;
}

impl CollectFrom for std::ops::RangeInclusive<i64> {
    fn collect_from(self, samples: &[(i64, f64)]) -> Vec<f64> {
        let from = samples.partition_point(|(at, _)| at < self.start());
        let to = samples.partition_point(|(at, _)| at <= self.end());
        samples[from..to].iter().map(|(_, value)| *value).collect()
    }
}

fn happened(timeline: &mut Timeline, burn: &Burn) {
    let rate = burn.burn_rate;
    timeline.add(
        burn.starts_at_ms,
        Lane::Happened,
        format!("the budget burns at {rate:.1} times its pace"),
    );
    timeline.add(burn.ends_at_ms, Lane::Happened, "it is over");
}

fn severity(value: &str) -> Wanted {
    Wanted::any().with("severity", value)
}

fn whole_minute(at_ms: i64) -> i64 {
    at_ms - at_ms.rem_euclid(MINUTE)
}

fn rules() -> Alerting {
    let rules = Submission::of(kit::lab_dir!()).rules(subject::RULES);
    kit::or_symptom(rules).every(EVERY)
}

fn board() -> Board {
    kit::or_symptom(Submission::of(kit::lab_dir!()).board(subject::DASHBOARD))
}

fn drilled(rules: &Alerting, played: &Played, span: Span) -> Drill {
    kit::or_symptom(rules.play(&played.storage, span))
}

/// The only sample of the recorded series.
fn recorded(storage: &Storage, at_ms: i64) -> f64 {
    let query = promql::Query::parse(&format!("{{__name__=\"{RECORDED}\"}}")).expect("a selector");
    let answer = Engine::default()
        .instant(storage, &query, at_ms)
        .expect("a selector can be evaluated");
    match answer.value.samples() {
        [one] => one.value,
        [] => kit::symptom(format!("{} records no {RECORDED}", subject::RULES)),
        several => {
            let series: Vec<String> = several.iter().map(|of| of.labels.to_string()).collect();
            kit::symptom(format!(
                "there is one service, and {RECORDED} has {} series: {}",
                series.len(),
                series.join(", ")
            ))
        }
    }
}

/// What the panel shows at the end of a month, with an hour of the learner's recorded series.
fn shown(rules: &Alerting, board: &Board, played: &Played) -> Shown {
    let end_ms = (played.setup.begins + 86_400 * i64::from(played.setup.days)) * 1_000;
    let within = Span::new(end_ms - RECORDED_FOR, end_ms);
    let storage = kit::or_symptom(rules.recorded(&played.storage, within));
    let panel = board
        .titled(PANEL)
        .unwrap_or_else(|| kit::symptom(format!("the dashboard has no panel \"{PANEL}\"")));
    let view = board.view(end_ms, EVERY);
    let mut shown = board.dashboard().show(&Engine::default(), &storage, &view);
    let shown = shown.swap_remove(panel);
    if let Some(trouble) = &shown.trouble {
        kit::symptom(format!("\"{PANEL}\" shows an error: {trouble}"));
    }
    if shown.readings.len() > 1 {
        let names: Vec<&str> = shown.readings.iter().map(|of| of.name.as_str()).collect();
        kit::symptom(format!(
            "\"{PANEL}\" shows {} numbers where one was asked for: {}",
            names.len(),
            names.join(", ")
        ));
    }
    shown
}
