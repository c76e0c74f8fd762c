//! 17.6.1: a runbook, walked through shifts of which the truth is known.

use std::time::Duration;

use super::subject::FILE;
use drill::runbook::{End, Runbook, Scene, Symptom, Vocabulary, Walk};
use drill::submission::Submission;
use drill::{Lane, Timeline};
use incident::on_call::{self, Shift, name_of, names_of, sentence};
use incident::service::{Cause, Run, Setup, simulate};
use promql::Query;

/// A walk may take this many minutes.
const LIMIT: i64 = 10;
/// Of the incidents, in this many the walk has to end at the right cause.
const ENOUGH: usize = 8;
const SEEDS: [u64; 1] = [5];
/// Further shifts, for what is judged as a whole.
const OVERALL: u64 = 40;
const ALARMS: u64 = 61;

// The document by itself.

#[test]
fn steps_are_exact() {
    kit::check(|| {
        let runbook = runbook();
        let findings = runbook.findings();
        if !findings.is_empty() {
            let shown: String = findings
                .iter()
                .take(6)
                .map(|finding| format!("{FILE}:{finding}\n"))
                .collect();
            let more = match findings.len() {
                0..=6 => String::new(),
                many => format!("… and {} more", many - 6),
            };
            kit::symptom(format!("{shown}{more}"));
        }
    });
}

#[test]
fn first_actions_fit_their_causes() {
    kit::check(|| {
        let runbook = runbook();
        for cause in causes() {
            let name = name_of(cause);
            let of = |text: &str| text.trim().eq_ignore_ascii_case(name);
            let mut found = runbook.conclusions().iter().filter(|of_| of(of_.cause()));
            let Some(first) = found.next() else {
                kit::symptom(format!(
                    "the runbook never concludes \"{name}\", and there are nights with it"
                ));
            };
            for conclusion in std::iter::once(first).chain(found) {
                let action = conclusion.action();
                if !levers(cause).iter().any(|lever| action.contains(lever)) {
                    kit::symptom(format!(
                        "{FILE}:{}: \"{name}\" is met with `{action}`, which {}",
                        conclusion.line(),
                        effect(action)
                    ));
                }
            }
        }
        for conclusion in runbook.conclusions() {
            let cause = conclusion.cause().trim();
            let known = causes().any(|of| cause.eq_ignore_ascii_case(name_of(of)));
            if !known && !cause.eq_ignore_ascii_case("unknown") {
                kit::symptom(format!(
                    "{FILE}:{}: \"{cause}\" is none of the causes that the brief lists",
                    conclusion.line()
                ));
            }
        }
    });
}

#[test]
fn symptom_fires_when_users_wait() {
    kit::check(|| {
        let runbook = runbook();
        let Some(symptom) = runbook.symptom() else {
            let of_symptom =
                |finding: &&drill::runbook::Finding| finding.message.contains("symptom.");
            let why = runbook.findings().iter().find(of_symptom);
            let why = why.or(runbook.findings().first());
            kit::symptom(why.map_or("there is no symptom".to_owned(), |finding| {
                format!("the alert never fires: {FILE}:{finding}")
            }));
        };
        let mut nights = vec![("the night of the brief".to_owned(), on_call::canonical())];
        for shift in [Shift::CacheStampede, Shift::Busy] {
            nights.push((
                format!("an unseen shift (seed {OVERALL})"),
                on_call::drawn(shift, OVERALL),
            ));
        }
        for (name, setup) in nights {
            kit::step(format!("evaluating the alert over {name}"));
            let mut setup = setup.metrics_only();
            if setup.scenarios.is_empty() {
                // Where nothing happens, a quarter of an hour shows as much as an hour.
                setup.duration = 900.0;
            }
            let run = simulate(&setup);
            let storage = drill::storage(&run);
            let due = fires(&alert(), &setup, &storage);
            let fired = fires(symptom, &setup, &storage);
            let clock = drill::Clock::from(setup.begins * 1_000);
            let said = |at: Option<i64>| {
                at.map_or("does not fire".to_owned(), |at| {
                    format!("fires at {}", clock.time(at))
                })
            };
            let agree = match (due, fired) {
                (Some(due), Some(fired)) => (due - fired).abs() <= 60_000,
                (None, None) => true,
                _ => false,
            };
            if !agree {
                kit::symptom(format!(
                    "{name}: an alert on more than a second of p99, over five minutes and for \
                     five minutes, {}; that of the runbook {}",
                    said(due),
                    said(fired)
                ));
            }
        }
    });
}

// Walks.

#[test]
fn night_of_the_brief_is_explained() {
    kit::check(|| {
        let runbook = runbook();
        let page = Page::of(Shift::SlowQuery, on_call::canonical(), &runbook);
        let page = page.expect("it pages");
        if let Some(wrong) = page.judge(&runbook) {
            kit::symptom(format!("the night of the brief: {wrong}"));
        }
    });
}

#[test]
fn false_alarms_are_let_go() {
    kit::check(|| each_page(&Shift::ALARMS, &[ALARMS]));
}

#[test]
fn database_causes_are_told_apart() {
    kit::check(|| {
        each_page(
            &[
                Shift::SlowQuery,
                Shift::ConnectionLeak,
                Shift::CacheStampede,
            ],
            &SEEDS,
        );
    });
}

#[test]
fn lock_causes_are_told_apart() {
    kit::check(|| each_page(&[Shift::LockContention, Shift::Deadlock], &SEEDS));
}

#[test]
fn dependency_causes_are_told_apart() {
    kit::check(|| each_page(&[Shift::SlowDependency, Shift::RetryStorm], &SEEDS));
}

#[test]
fn processor_causes_are_told_apart() {
    kit::check(|| {
        each_page(
            &[Shift::BadDeploy, Shift::NoisyTenant, Shift::TrafficSurge],
            &SEEDS,
        );
    });
}

#[test]
fn eight_in_ten_are_right_within_ten_minutes() {
    kit::check(|| {
        let runbook = runbook();
        kit::seed::each(&[OVERALL], |seed| {
            let mut table = String::new();
            let mut right = 0;
            let mut first_wrong = None;
            for shift in Shift::INCIDENTS {
                kit::step("walking through an unseen incident");
                let page = Page::drawn(shift, seed.0, &runbook);
                let walk = runbook.walk(&page.scene, page.fired_ms);
                let wrong = page.judge(&runbook);
                right += usize::from(wrong.is_none());
                if right == ENOUGH {
                    return;
                }
                let said = walk.cause().unwrap_or("stuck");
                let mark = if wrong.is_none() { "right" } else { "WRONG" };
                let truth = name_of(shift.cause());
                table.push_str(&format!(
                    "  {mark}  {truth:<16} after {:>2} min: {said}\n",
                    walk.minutes()
                ));
                if first_wrong.is_none() {
                    first_wrong = wrong;
                }
            }
            let first = first_wrong.unwrap_or_default();
            kit::symptom(format!(
                "{right} of {} incidents reach their cause within {LIMIT} minutes, and \
                 {ENOUGH} should (seed {seed})\n{table}the first of the others: {first}",
                Shift::INCIDENTS.len()
            ));
        });
    });
}

fn each_page(shifts: &[Shift], seeds: &[u64]) {
    let runbook = runbook();
    kit::seed::each(seeds, |seed| {
        for &shift in shifts {
            kit::step("walking through an unseen shift");
            let page = Page::drawn(shift, seed.0, &runbook);
            if let Some(wrong) = page.judge(&runbook) {
                kit::symptom(format!("an unseen shift (seed {seed}): {wrong}"));
            }
        }
    });
}

/// The learner's document; every metric that any shift exposes may be asked for.
fn runbook() -> Runbook {
    let text = kit::or_symptom(Submission::of(kit::lab_dir!()).text(FILE));
    let mut setup = on_call::drawn(Shift::RetryStorm, OVERALL).metrics_only();
    setup.duration = setup.scenarios[0].starts_at / 10.0;
    setup.scenarios.clear();
    setup.deploys.clear();
    let vocabulary = Vocabulary::of(&drill::storage(&simulate(&setup)));
    let runbook = Runbook::read(&text, &vocabulary);
    // Nobody can be stuck in a document that cannot be read: say what is wrong with it instead.
    if let ([], [first, ..]) = (runbook.steps(), runbook.findings()) {
        kit::symptom(format!("{FILE}:{first}"));
    }
    runbook
}

fn alert() -> Symptom {
    Symptom::new(
        Query::parse(on_call::ALERT).expect("it parses"),
        Duration::from_secs(60 * on_call::ALERT_MINUTES),
        "",
    )
}

fn fires(symptom: &Symptom, setup: &Setup, storage: &promql::Storage) -> Option<i64> {
    // From five minutes before the trouble, where there is any.
    let trouble = setup.scenarios.first().map_or(0, |of| of.starts_at as i64);
    let window = (
        (setup.begins + (trouble - 300).max(0)) * 1_000,
        (setup.begins + setup.duration as i64) * 1_000,
    );
    symptom
        .fires(storage, window, Duration::from_secs(15))
        .unwrap_or_else(|error| {
            kit::symptom(format!("could not evaluate the alert of {FILE}: {error}"))
        })
}

/// A page, and what whoever takes it can look at.
struct Page {
    shift: Shift,
    run: Run,
    scene: Scene,
    fired_ms: i64,
}

impl Page {
    /// A shift of this kind that pages. Any seed may be replayed: where it recovers too early for
    /// that, the next one is taken.
    fn drawn(shift: Shift, seed: u64, runbook: &Runbook) -> Self {
        (0..10)
            .find_map(|nth| {
                let seed = seed.wrapping_add(nth * 1_000_000);
                Page::of(shift, on_call::drawn(shift, seed), runbook)
            })
            .expect("one of ten shifts pages")
    }

    /// `None` when nobody is paged.
    fn of(shift: Shift, setup: Setup, runbook: &Runbook) -> Option<Self> {
        let setup = if runbook.reads_logs() {
            Setup {
                log_one_in: 1_000,
                ..setup
            }
        } else {
            setup.metrics_only()
        };
        let run = simulate(&setup);
        let scene = Scene {
            storage: drill::storage(&run),
            logs: run.logs().to_owned(),
        };
        let fired_ms = fires(&alert(), &setup, &scene.storage)?;
        Some(Page {
            shift,
            run,
            scene,
            fired_ms,
        })
    }

    /// What is wrong with where the runbook leads, with the walk beside what happened.
    fn judge(&self, runbook: &Runbook) -> Option<String> {
        let walk = runbook.walk(&self.scene, self.fired_ms);
        let why = self.wrong(&walk)?;
        let truth = self.run.truth();
        let mut timeline = Timeline::from(self.fired_ms);
        walk.tell(&mut timeline);
        for suspect in &truth.innocent {
            if let Some(at_ms) = suspect.at_ms {
                let names = names_of(&suspect.component).join(", ");
                let what = if names.is_empty() {
                    sentence(self.shift, truth)
                } else {
                    format!("also: {names}")
                };
                timeline.add(at_ms, Lane::Happened, what);
            }
        }
        if let Some(at_ms) = truth.starts_at_ms {
            timeline.add(at_ms, Lane::Happened, sentence(self.shift, truth));
        }
        if walk.minutes() >= LIMIT {
            let due = self.fired_ms + LIMIT * 60_000;
            timeline.add(due, Lane::Due, "the cause should be known");
        }
        Some(format!("{why}\n{timeline}"))
    }

    fn wrong(&self, walk: &Walk) -> Option<String> {
        let happened = sentence(self.shift, self.run.truth());
        let cause = self.shift.cause();
        let (said, component, action) = match &walk.end {
            End::Concluded {
                cause,
                component,
                action,
                ..
            } => (cause, component, action),
            End::Unbound { label, .. } => {
                return Some(format!(
                    "{happened}, and whoever follows the runbook does not learn which `{label}`"
                ));
            }
            End::Failed { .. } => {
                return Some(format!(
                    "{happened}, and whoever follows the runbook is stuck"
                ));
            }
        };
        if !said.eq_ignore_ascii_case(name_of(cause)) {
            return Some(format!("{happened}, and the runbook says \"{said}\""));
        }
        let minutes = walk.minutes();
        if minutes > LIMIT {
            return Some(format!(
                "{happened}, and it takes {minutes} minutes to say so"
            ));
        }
        let names = self.names();
        if names.is_empty() {
            return None;
        }
        let component = component.as_deref().unwrap_or("nothing");
        let named = |text: &str| names.iter().any(|name| text.contains(name.as_str()));
        if !named(component) {
            return Some(format!("{happened}, and the runbook names {component}"));
        }
        let aims = levers(cause).iter().any(|lever| lever.ends_with('.'));
        (aims && !named(action))
            .then(|| format!("{happened}, and the runbook has one run `{action}`"))
    }

    /// What may be named as affected.
    fn names(&self) -> Vec<String> {
        match self.shift.cause() {
            Cause::None => Vec::new(),
            _ => self
                .run
                .truth()
                .affected
                .as_ref()
                .map(names_of)
                .unwrap_or_default(),
        }
    }
}

fn causes() -> impl Iterator<Item = Cause> {
    let incidents = Shift::INCIDENTS.into_iter().map(Shift::cause);
    incidents.chain([Cause::None])
}

/// A part of the commands that bear on a cause; one that ends in a dot goes on with what it is
/// aimed at.
fn levers(cause: Cause) -> &'static [&'static str] {
    match cause {
        Cause::SlowQuery => &["flagctl payments query."],
        Cause::ConnectionLeak | Cause::Deadlock => &["kubectl rollout restart deployment/payments"],
        Cause::BadDeploy => &["kubectl rollout undo deployment/payments"],
        Cause::LockContention => &["flagctl payments lock."],
        Cause::CacheStampede => &["flagctl payments cache."],
        Cause::RetryStorm => &["flagctl payments retries.", "flagctl payments breaker."],
        Cause::SlowDependency => &["flagctl payments breaker."],
        Cause::NoisyTenant => &["flagctl payments limit."],
        Cause::TrafficSurge => &["kubectl scale deployment/payments --replicas="],
        _ => &["amtool silence add alertname=PaymentsSlow"],
    }
}

/// Why a command does not bear on a cause.
fn effect(action: &str) -> &'static str {
    for (part, effect) in [
        (
            "rollout undo",
            "takes back a release and leaves this as it is",
        ),
        ("rollout restart", "gives the same trouble to new processes"),
        (
            "scale deployment",
            "adds cores, which this does not wait for",
        ),
        ("amtool silence", "silences the page while users wait"),
        (
            "flagctl payments",
            "turns something that has no part in this",
        ),
    ] {
        if action.contains(part) {
            return effect;
        }
    }
    "is none of the commands that there are"
}
