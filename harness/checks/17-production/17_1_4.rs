//! 17.1.4: alerts on what users meet, and tickets for what may lead there.

use super::subject;
use drill::alerts::{Alerting, Drill, Scenario, Score, Wanted};
use drill::bookings::{Hour, scenario};
use drill::submission::Submission;
use kit::seed::Seed;
use promql::rules::AlertingRule;

const SEEDS: [u64; 1] = [83];
/// Of the hours over which precision and recall are taken.
const FURTHER_SEED: u64 = 507;

const SEVERITIES: [&str; 2] = ["critical", "warning"];
const SIGNALS: [&str; 4] = ["latency", "errors", "saturation", "traffic"];
const KINDS: [&str; 2] = ["symptom", "cause"];

/// The learner's rules.
fn alerting() -> Alerting {
    kit::step(format!("reading {}", subject::RULES));
    kit::or_symptom(Submission::of(kit::lab_dir!()).alerts(subject::RULES))
}

fn played(alerting: &Alerting, scenario: &Scenario) -> Drill {
    let drill = alerting.play(&scenario.storage, scenario.within);
    kit::or_symptom(drill.map_err(|error| format!("{}: {error}", scenario.title)))
}

/// Plays an hour: what is due has to be said in time, and nothing else.
fn judge(alerting: &Alerting, hour: Hour, seed: Seed) {
    kit::step(format!("playing {hour:?}"));
    let scenario = scenario(hour, seed.0);
    let drill = played(alerting, &scenario);
    if let Some(complaint) = scenario.complaint(&drill) {
        kit::symptom(complaint);
    }
}

fn judge_all(hours: &'static [Hour]) {
    kit::check(move || {
        let alerting = alerting();
        kit::seed::each(&SEEDS, |seed| {
            for &hour in hours {
                judge(&alerting, hour, seed);
            }
        });
    });
}

/// A label as the file has it, or the end of the check.
fn label(rule: &AlertingRule, name: &str, known: &[&str]) -> String {
    let text = rule
        .labels()
        .iter()
        .find(|(label, _)| label == name)
        .map(|(_, template)| template.to_string());
    match text {
        Some(text) if known.contains(&text.as_str()) => text,
        Some(text) => kit::symptom(format!(
            "alert {}: `{name}` is \"{text}\", which is none of {}",
            rule.name(),
            known.join(", ")
        )),
        None => kit::symptom(format!(
            "alert {} has no label `{name}`: who gets it cannot know whether it is {}",
            rule.name(),
            known.join(" or ")
        )),
    }
}

#[test]
fn every_alert_says_what_it_is() {
    kit::check(|| {
        let alerting = alerting();
        for rule in alerting.rules().alerting() {
            label(rule, "severity", &SEVERITIES);
            let signal = label(rule, "signal", &SIGNALS);
            let kind = label(rule, "kind", &KINDS);
            let met_by_users = signal != "saturation";
            if met_by_users != (kind == "symptom") {
                kit::symptom(format!(
                    "alert {} calls {signal} a {kind}: {}",
                    rule.name(),
                    if met_by_users {
                        "users meet it"
                    } else {
                        "no user meets it as such"
                    }
                ));
            }
        }
        for signal in SIGNALS {
            let is_there = alerting
                .rules()
                .alerting()
                .any(|rule| label(rule, "signal", &SIGNALS) == signal);
            assert!(is_there, "no alert is about {signal}");
        }
    });
}

#[test]
fn slow_answers_wake_somebody() {
    judge_all(&[
        Hour::SlowPayments,
        Hour::SomeSlowPayments,
        Hour::SlowMinute,
        Hour::SlowerPayments,
        Hour::SlowCanary,
    ]);
}

#[test]
fn errors_are_told_by_their_share() {
    judge_all(&[
        Hour::SomeErrors,
        Hour::ManyErrors,
        Hour::ManyErrorsAtNight,
        Hour::BadInstance,
        Hour::FailingCanary,
        Hour::FailedCanary,
    ]);
}

#[test]
fn saturation_is_told_and_wakes_nobody() {
    judge_all(&[Hour::LeakedConnections, Hour::FullMinute, Hour::FewFree]);
}

#[test]
fn traffic_is_held_against_its_baseline() {
    judge_all(&[Hour::Surge, Hour::Double, Hour::Burst, Hour::Lull]);
}

#[test]
fn healthy_hours_are_silent() {
    judge_all(&[Hour::Quiet, Hour::Busy, Hour::Release]);
}

#[test]
fn pages_are_right_and_none_is_missing() {
    kit::check(|| {
        let alerting = alerting();
        kit::seed::each(&[FURTHER_SEED], |seed| {
            let pages = Wanted::any().with("severity", "critical");
            let mut of_pages = Score::default();
            let mut of_all = Score::default();
            let mut table = String::new();
            for (nth, hour) in Hour::ALL.into_iter().enumerate() {
                kit::step(format!("playing {hour:?}"));
                let scenario = scenario(hour, seed.derive(nth as u64).0);
                let drill = played(&alerting, &scenario);
                of_pages.add_scenario(&drill, &scenario, &pages);
                of_all.add_scenario(&drill, &scenario, &Wanted::any());
                let (missed, needless) = (scenario.missed(&drill), scenario.needless(&drill));
                if !missed.is_empty() || !needless.is_empty() {
                    table.push_str(&format!(
                        "  {:>2} missing, {:>2} for nothing: {}\n",
                        missed.len(),
                        needless.len(),
                        scenario.title
                    ));
                }
            }
            let hours = Hour::ALL.len();
            for (what, score) in [("pages", of_pages), ("alerts", of_all)] {
                let precision = score.precision().unwrap_or(0.0);
                let recall = score.recall().unwrap_or(0.0);
                if precision < 0.9 || recall < 1.0 {
                    kit::symptom(format!(
                        "{hours} hours: {} of {} {what} were for nothing (precision {precision:.2}), \
                         and {} of {} incidents went without one (recall {recall:.2})\n{table}",
                        score.needless,
                        score.right + score.needless,
                        score.missed,
                        score.seen + score.missed,
                    ));
                }
            }
        });
    });
}
