//! 17.6.2: a post-mortem that agrees with its records, and the tool that reads them.

use super::subject::{
    AlertDelay, Delays, Detector, Impact, Moment, PostMortem, Seconds, Timeline, reconstruct,
};
use incident::black_friday::{self, Event, FACTS, Lever, Night, PEOPLE, Run, Setup, Truth};
use kit::answers::{Answers, Tolerance};
use kit::dump::{self, without};
use kit::evidence::Evidence;
use telemetry::logs::Timestamp;
use telemetry::metrics::Scrape;

/// With a user before the alert in the first and after it in the second, and blips in both.
const SEEDS: [u64; 2] = [20, 31];
const INCIDENTS: [Night; 3] = [Night::Paged, Night::ReportedByUsers, Night::Relapse];
/// They differ in who notices, and in how.
const NOTICED: [Night; 2] = [Night::Paged, Night::ReportedByUsers];
/// They differ in what is tried.
const CURED: [Night; 2] = [Night::Paged, Night::Relapse];
/// New York, in the winter: seconds ahead of UTC.
const ZONE: i64 = -5 * 3_600;

// The document, on the night of the brief.

const STEPS: [&str; 6] = [
    "impact_began",
    "detected",
    "acknowledged",
    "cause_identified",
    "mitigated",
    "restored",
];

#[test]
fn timeline_agrees_with_the_records() {
    kit::check(|| {
        let answers = kit::answers!();
        let truth = canonical_truth();
        for (step, at) in STEPS.into_iter().zip(steps_of(&truth)) {
            let key = format!("timeline.{step}.at");
            let (text, minute) = time_of_day(&answers, &key);
            let second = (at + ZONE).rem_euclid(86_400);
            let off = 60 * minute - second;
            if off.abs() >= 60 {
                let side = if off > 0 { "later" } else { "earlier" };
                kit::symptom(format!(
                    "`{key}` = {text} is {side} than the records say (New York time; a minute is \
                     forgiven)"
                ));
            }
        }
    });
}

#[test]
fn timeline_cites_what_proves_it() {
    kit::check(|| {
        let answers = kit::answers!();
        let dump = Dump::canonical();
        let latency = r#"payment_request_duration_seconds_bucket{le="0.5"}"#;
        let around = [
            "payment_request_duration_seconds_count",
            r#"payment_request_duration_seconds_bucket{le="+Inf"}"#,
            r#"payment_request_duration_seconds_bucket{le="1.0"}"#,
            "shop_sessions_slow_total",
            "payment_pool_waiting",
            "payment_pool_connections_in_use",
            "payment_pool_connections_max",
        ];
        let firing = r#"ALERTS{alertname="PaymentsSlow",alertstate="firing"}"#;
        let pending = r#"ALERTS{alertname="PaymentsSlow",alertstate="pending"}"#;
        let page = dump.id(&[("kind", "firing"), ("alert", "PaymentsSlow")]);
        let busy = dump.id(&[("kind", "firing"), ("alert", "PaymentPoolBusy")]);
        let notified = dump.id(&[("kind", "notified"), ("service", "payments")]);
        let taken = dump.id(&[("kind", "acknowledged"), ("service", "payments")]);
        let cause = dump.id(&[("kind", "cause"), ("cause", "connection pool exhausted")]);
        let change = dump.id(&[("kind", "applied"), ("change", "C-4415")]);
        let switched = dump.id(&[("kind", "switched"), ("change", "C-4415")]);
        let said = dump.id(&[("kind", "message"), ("text", "p99 is back, watching")]);
        let resolved = dump.id(&[("kind", "resolved"), ("alert", "PaymentPoolBusy")]);
        for (step, needed, fitting) in [
            ("impact_began", vec![latency], vec![busy]),
            ("detected", vec![firing, page, notified], vec![pending]),
            ("acknowledged", vec![taken], vec![notified]),
            ("cause_identified", vec![cause], vec![]),
            ("mitigated", vec![change], vec![switched]),
            ("restored", vec![latency], vec![switched, resolved, said]),
        ] {
            let claim = format!("`timeline.{step}` is right");
            Evidence::for_claim(&claim)
                .exists(|item| dump.holds(item))
                .proves("that moment", &needed)
                .fits(&fitting)
                .fits(if matches!(step, "acknowledged" | "detected") {
                    &[]
                } else {
                    &around
                })
                .demand(&spaceless(
                    &answers.list(&format!("timeline.{step}.evidence")),
                ));
        }
    });
}

#[test]
fn delays_follow_from_the_timeline() {
    kit::check(|| {
        let answers = kit::answers!();
        let truth = canonical_truth();
        let mut spans: Vec<(&str, &str, &str)> =
            ["detect", "acknowledge", "diagnose", "mitigate", "recover"]
                .into_iter()
                .zip(STEPS.windows(2))
                .map(|(delay, steps)| (delay, steps[0], steps[1]))
                .collect();
        spans.push(("total", STEPS[0], STEPS[5]));
        for &(delay, from, to) in &spans {
            let (began, from_minute) = time_of_day(&answers, &format!("timeline.{from}.at"));
            let (ended, to_minute) = time_of_day(&answers, &format!("timeline.{to}.at"));
            let stated = answers.number(&format!("delays.{delay}"));
            let minutes = (to_minute - from_minute) as f64;
            if (stated - minutes).abs() > 0.5 {
                kit::symptom(format!(
                    "the times do not add up: `delays.{delay}` = {stated} minutes, and the \
                     timeline goes from {began} (`{from}`) to {ended} (`{to}`), which is {minutes}"
                ));
            }
        }
        let steps = steps_of(&truth);
        for (nth, (delay, from, to)) in spans.into_iter().enumerate() {
            let (began, ended) = if nth < 5 {
                (steps[nth], steps[nth + 1])
            } else {
                (steps[0], steps[5])
            };
            answers.expect_number(
                &format!("delays.{delay}"),
                (ended - began) as f64 / 60.0,
                Tolerance::Absolute(1.0),
                &format!("the minutes from `{from}` to `{to}`"),
            );
        }
        let condition = answers.number("delays.alert_condition");
        let held = answers.number("delays.alert_for");
        let detect = answers.number("delays.detect");
        if (condition + held - detect).abs() > 0.5 {
            kit::symptom(format!(
                "the alert took {detect} minutes in all, and its parts are {condition} \
                 (`alert_condition`) and {held} (`alert_for`)"
            ));
        }
        let (true_condition, true_held) = truth.alert_delay.expect("the alert fired");
        for (key, seconds, meaning) in [
            (
                "delays.alert_for",
                true_held,
                "the time that the alert was pending",
            ),
            (
                "delays.alert_condition",
                true_condition,
                "the time until it was",
            ),
        ] {
            let minutes = seconds as f64 / 60.0;
            answers.expect_number(key, minutes, Tolerance::Absolute(0.5), meaning);
        }
    });
}

#[test]
fn impact_is_answered() {
    kit::check(|| {
        let answers = kit::answers!();
        let run = Run::of(&Setup::canonical());
        let truth = canonical_truth();
        answers.expect_number(
            "impact.sessions_percent",
            100.0 * truth.sessions_share,
            Tolerance::Absolute(1.0),
            "the share of the sessions of those minutes that met a slow payment",
        );
        answers.expect_number(
            "impact.slow_payments",
            truth.slow_payments as f64,
            Tolerance::Relative(0.01),
            "the payments that took longer than 0.5 s; a counter that falls was started anew",
        );
        answers.expect_number(
            "impact.p99_above_seconds",
            truth.p99_above,
            Tolerance::Exact,
            "the greatest bound that the p99 of a minute exceeded",
        );
        let active = |minutes: std::ops::Range<usize>| {
            let mut values: Vec<u64> = run.minutes[minutes]
                .iter()
                .map(|m| m.sessions_active)
                .collect();
            values.sort_unstable();
            values[values.len() / 2] as f64
        };
        answers.expect_number(
            "impact.traffic_ratio",
            active(50..85) / active(0..40),
            Tolerance::Relative(0.05),
            "the active sessions of the sale over those before it",
        );
        answers.expect_number(
            "impact.peak_waiting",
            truth.peak_waiting as f64,
            Tolerance::Exact,
            "the most payments that waited at a scrape",
        );
    });
}

#[test]
fn cause_is_proven() {
    kit::check(|| {
        let answers = kit::answers!();
        let dump = Dump::canonical();
        let causes = [
            "connection pool exhausted",
            "slow database",
            "release v412",
            "human error",
        ];
        match answers.choice("cause.verdict", &causes) {
            "connection pool exhausted" => {}
            "slow database" => kit::symptom(
                "`cause.verdict` is \"slow database\", and db_query_mean_seconds did not move",
            ),
            "release v412" => kit::symptom(
                "`cause.verdict` is \"release v412\", which had run for eight good minutes, and \
                 was rolled back at 03:32: payment_pool_waiting was 731 then and is 781 at 03:34",
            ),
            _ => kit::symptom(
                "`cause.verdict` is \"human error\", which no record shows and no change removes: \
                 what let a reasonable step have this effect?",
            ),
        }
        let cause = dump.id(&[("kind", "cause"), ("cause", "connection pool exhausted")]);
        let change = dump.id(&[("kind", "applied"), ("change", "C-4415")]);
        Evidence::for_claim("the pool was exhausted")
            .exists(|item| dump.holds(item))
            .proves(
                "the connections that there are",
                &["payment_pool_connections_max"],
            )
            .proves("those in use", &["payment_pool_connections_in_use"])
            .proves("the payments that wait", &["payment_pool_waiting"])
            .fits(&[
                "payment_pool_acquire_timeout_seconds",
                "shop_sessions_active",
                r#"payment_request_duration_seconds_bucket{le="0.5"}"#,
                r#"payment_request_duration_seconds_bucket{le="5.0"}"#,
                cause,
                change,
            ])
            .demand(&spaceless(&answers.list("cause.evidence")));
        answers.expect_number(
            "cause.max_conns",
            10.0,
            Tolerance::Exact,
            "the connections of the pool during the incident",
        );
        answers.expect_number(
            "cause.acquire_timeout_seconds",
            10.0,
            Tolerance::Exact,
            "how long a payment waits before it gives up",
        );

        let silences = [
            "no payment failed",
            "alerts were muted",
            "metrics were missing",
        ];
        let silence = answers.choice("silence.verdict", &silences);
        if silence != "no payment failed" {
            kit::symptom(format!(
                "`silence.verdict` is \"{silence}\", and the records hold both the pages and the \
                 metrics of that hour"
            ));
        }
        Evidence::for_claim("error rate and breaker had nothing to say")
            .exists(|item| dump.holds(item))
            .proves(
                "payments that gave up",
                &[r#"payment_requests_total{outcome="timeout"}"#],
            )
            .fits(&[
                r#"payment_requests_total{outcome="ok"}"#,
                "payment_breaker_open",
                "payment_pool_acquire_timeout_seconds",
                r#"payment_request_duration_seconds_bucket{le="10.0"}"#,
                r#"payment_request_duration_seconds_bucket{le="+Inf"}"#,
                "payment_request_duration_seconds_count",
            ])
            .demand(&spaceless(&answers.list("silence.evidence")));
    });
}

#[test]
fn tempting_causes_are_refuted() {
    kit::check(|| {
        let answers = kit::answers!();
        let dump = Dump::canonical();
        let rollback = dump.id(&[("kind", "rolled_back"), ("change", "C-4411")]);
        let release = dump.id(&[("kind", "applied"), ("change", "C-4411")]);
        let retracted = dump.id(&[("kind", "cause_retracted"), ("cause", "release v412")]);
        Evidence::for_claim("refutes release v412 as the cause")
            .exists(|item| dump.holds(item))
            .proves("the moment at which the release was gone", &[rollback])
            .proves(
                "how the service was after that",
                &[
                    "payment_pool_waiting",
                    r#"payment_request_duration_seconds_bucket{le="0.5"}"#,
                    r#"payment_request_duration_seconds_bucket{le="5.0"}"#,
                ],
            )
            .fits(&[release, retracted, "payment_request_duration_seconds_count"])
            .demand(&spaceless(&answers.list("refuted.release_evidence")));
        Evidence::for_claim("refutes a slow database as the cause")
            .exists(|item| dump.holds(item))
            .proves("the time that a query takes", &["db_query_mean_seconds"])
            .fits(&["db_cpu_ratio"])
            .demand(&spaceless(&answers.list("refuted.database_evidence")));
    });
}

// The follow-up actions, executed.

const OWNERS: [&str; 5] = [
    "payments team",
    "database team",
    "observability team",
    "release team",
    "on-call coordinator",
];
/// Within this many days after the incident an action has to be done.
const LATEST_DAYS: i64 = 90;
const DELAYS: [&str; 3] = ["detect_minutes", "diagnose_minutes", "recover_minutes"];

#[test]
fn actions_are_owned_dated_and_measured() {
    kit::check(|| {
        let answers = kit::answers!();
        let quiet: Vec<Run> = SEEDS
            .iter()
            .map(|&seed| Run::of(&Setup::drawn(Night::Quiet, seed)))
            .collect();
        let night = Run::of(&Setup::canonical());
        for action in actions(&answers) {
            let name = &action.name;
            answers.choice(&format!("{name}.owner"), &OWNERS);
            let due = answers.text(&format!("{name}.due"));
            let day = day_of(&due).unwrap_or_else(|| {
                kit::symptom(format!(
                    "`{name}.due` is \"{due}\", which is no day such as 2025-12-24"
                ))
            });
            let incident = day_of("2025-11-28").expect("a day");
            if !(1..=LATEST_DAYS).contains(&(day - incident)) {
                kit::symptom(format!(
                    "`{name}.due` is {due}, {} days after the incident of 2025-11-28; 1 to \
                     {LATEST_DAYS} are accepted",
                    day - incident
                ));
            }
            let measure = Measure::of(&answers, name);
            if measure.holds(&night) {
                kit::symptom(format!(
                    "`{name}.measure` is \"{measure}\", and the incident itself meets it: {} was \
                     {:.1}",
                    measure.fact,
                    measure.value(&night)
                ));
            }
            if let Some(run) = quiet.iter().find(|run| !measure.holds(run)) {
                kit::symptom(format!(
                    "`{name}.measure` is \"{measure}\", and a quiet night (seed {}) misses it: {} \
                     was {:.1}",
                    run.setup.seed,
                    measure.fact,
                    measure.value(run)
                ));
            }
        }
    });
}

#[test]
fn actions_help_when_the_night_is_replayed() {
    kit::check(|| {
        let answers = kit::answers!();
        let canonical = Setup::canonical();
        let before = Run::of(&canonical);
        let actions = actions(&answers);
        let mut improved = Vec::new();
        for (nth, action) in actions.iter().enumerate() {
            let name = &action.name;
            let lever = action.lever(&answers);
            if let Some(other) = actions[..nth]
                .iter()
                .find(|other| other.lever(&answers) == lever)
            {
                kit::symptom(format!(
                    "`{name}` and `{}` change the same thing",
                    other.name
                ));
            }
            let to = answers.number(&format!("{name}.to"));
            let change = format!("`{name}` ({} = {to})", action.change(&answers));
            kit::step(format!("replaying the night with {change}"));
            let after = Run::of(&action.apply(&answers, &canonical));
            let fact = answers.choice(&format!("{name}.improves"), &FACTS);
            let measure = Measure::of(&answers, name);
            for (key, fact) in [("improves", fact), ("measure", measure.fact)] {
                if after.truth().is_none() && DELAYS.contains(&fact) {
                    kit::symptom(format!(
                        "with {change} the night has no incident, so there is nothing for `{fact}` \
                         to say: `{name}.{key}`"
                    ));
                }
            }
            let (was, is) = (fact_of(&before, fact), fact_of(&after, fact));
            if is > 0.9 * was {
                kit::symptom(format!(
                    "the night is replayed with {change}, and {fact}, which it is to improve by a \
                     tenth at least, goes from {was:.1} to {is:.1}"
                ));
            }
            if !measure.holds(&after) {
                kit::symptom(format!(
                    "the night is replayed with {change}, and its measure \"{measure}\" is missed: \
                     {} is {:.1}",
                    measure.fact,
                    measure.value(&after)
                ));
            }
            for night in [Night::Quiet, Night::Blip] {
                for seed in SEEDS {
                    let good = Run::of(&action.apply(&answers, &Setup::drawn(night, seed)));
                    expect_left_alone(&good, &change);
                }
            }
            improved.push(fact);
        }
        if !improved.contains(&"detect_minutes") {
            kit::symptom(
                "no action improves detect_minutes: the next incident, whatever its cause, would \
                 wait as long for somebody to know",
            );
        }
        if improved.iter().all(|fact| DELAYS.contains(fact)) {
            kit::symptom(
                "every action improves a delay of the response: the same night would do the same \
                 to its users until somebody has responded",
            );
        }
        for (what, factor) in [
            ("the same sale", 1.0),
            ("a sale with half as many users again", 1.5),
        ] {
            let mut setup = canonical.clone();
            setup.factor *= factor;
            for action in &actions {
                setup = action.apply(&answers, &setup);
            }
            if let Some(truth) = Run::of(&setup).truth() {
                kit::symptom(format!(
                    "with all actions taken together, {what} still has an incident: {} minutes, \
                     {} slow or refused payments, {} waiting",
                    (truth.restored - truth.impact_began) / 60,
                    truth.slow_payments,
                    truth.peak_waiting
                ));
            }
        }
    });
}

/// On a night without an incident, an action must not make one, wake anybody, or turn away users.
fn expect_left_alone(run: &Run, change: &str) {
    let seed = run.setup.seed;
    let night = match run.setup.night {
        Night::Blip => "a night with two stalls of three seconds",
        _ => "a quiet night",
    };
    if !run.pages.is_empty() {
        kit::symptom(format!(
            "with {change}, {night} (seed {seed}) wakes somebody up: the alert fired {} times, for \
             nothing that lasted",
            run.pages.len()
        ));
    }
    if run.incident().is_some() {
        kit::symptom(format!(
            "with {change}, {night} (seed {seed}) has an incident, and had none before"
        ));
    }
    let payments: u64 = run.minutes.iter().map(|minute| minute.payments()).sum();
    if run.refused() * 200 > payments {
        kit::symptom(format!(
            "with {change}, {night} (seed {seed}) turns {} of {payments} payments away",
            run.refused()
        ));
    }
}

struct Action {
    /// As in `action.1`.
    name: String,
}

/// The actions of the document: three at least, each with a title.
fn actions(answers: &Answers) -> Vec<Action> {
    let mut names: Vec<String> = answers
        .keys()
        .filter(|key| key.starts_with("action.") && key.matches('.').count() == 1)
        .map(str::to_owned)
        .collect();
    names.sort();
    names.dedup();
    if names.len() < 3 {
        kit::symptom(format!(
            "the document has {} actions, [action.1] and so on, and three are the least",
            names.len()
        ));
    }
    for name in &names {
        answers.text(&format!("{name}.title"));
    }
    names.into_iter().map(|name| Action { name }).collect()
}

impl Action {
    fn change(&self, answers: &Answers) -> &'static str {
        let mut changes: Vec<&'static str> = Lever::ALL.iter().map(|(name, _)| *name).collect();
        changes.push("none");
        let change = answers.choice(&format!("{}.change", self.name), &changes);
        if change == "none" {
            kit::symptom(format!(
                "`{}` (\"{}\") changes nothing: the night is replayed with it, and is the same \
                 night",
                self.name,
                answers.text(&format!("{}.title", self.name))
            ));
        }
        change
    }

    fn lever(&self, answers: &Answers) -> Lever {
        let change = self.change(answers);
        let found = Lever::ALL.iter().find(|(name, _)| *name == change);
        found.expect("the choice is among them").1
    }

    fn apply(&self, answers: &Answers, setup: &Setup) -> Setup {
        let to = answers.number(&format!("{}.to", self.name));
        setup
            .with(self.lever(answers), to)
            .unwrap_or_else(|why| kit::symptom(format!("`{}.to`: {why}", self.name)))
    }
}

/// A bound on a fact of a night, such as `pool_waiting_max <= 50`.
struct Measure {
    fact: &'static str,
    comparison: &'static str,
    bound: f64,
}

impl Measure {
    fn of(answers: &Answers, action: &str) -> Self {
        let key = format!("{action}.measure");
        let text = answers.text(&key);
        // As well without the white space around the comparison.
        let spaced = match text.find(['<', '>', '=']) {
            Some(begin) => {
                let (fact, rest) = text.split_at(begin);
                let bound = rest.trim_start_matches(['<', '>', '=']);
                format!("{fact} {} {bound}", &rest[..rest.len() - bound.len()])
            }
            None => text.clone(),
        };
        let words: Vec<&str> = spaced.split_whitespace().collect();
        let read = match words.as_slice() {
            [fact, comparison, bound] => FACTS
                .into_iter()
                .find(|known| known == fact)
                .zip(
                    ["<=", "<", ">=", ">", "=="]
                        .into_iter()
                        .find(|c| c == comparison),
                )
                .zip(bound.parse::<f64>().ok().filter(|bound| bound.is_finite())),
            _ => None,
        };
        let Some(((fact, comparison), bound)) = read else {
            let place = answers
                .place(&key)
                .map_or(String::new(), |at| format!("{}:{}: ", at.line, at.column));
            kit::symptom(format!(
                "answers.toml:{place}`{key}` is \"{text}\", and no machine could say whether that \
                 holds: a measure is a fact, a comparison and a number, such as \"{} <= 12\"; the \
                 facts are {}",
                FACTS[3],
                FACTS.join(", ")
            ));
        };
        Measure {
            fact,
            comparison,
            bound,
        }
    }

    fn value(&self, run: &Run) -> f64 {
        fact_of(run, self.fact)
    }

    fn holds(&self, run: &Run) -> bool {
        let value = self.value(run);
        match self.comparison {
            "<=" => value <= self.bound,
            "<" => value < self.bound,
            ">=" => value >= self.bound,
            ">" => value > self.bound,
            _ => (value - self.bound).abs() < 1e-9,
        }
    }
}

impl std::fmt::Display for Measure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.fact, self.comparison, self.bound)
    }
}

fn fact_of(run: &Run, fact: &str) -> f64 {
    run.fact(fact).expect("one of the facts")
}

/// Days since 1970 of a day written as 2025-11-28.
fn day_of(text: &str) -> Option<i64> {
    if text.len() != 10 {
        return None;
    }
    match Timestamp::from_text(&format!("{text}T00:00:00Z"))? {
        Timestamp::Unix(nanos) => i64::try_from(nanos / 86_400_000_000_000).ok(),
        _ => None,
    }
}

// Blame.

/// What puts an outcome down to somebody's character. The brief lists them.
const BLAME: [&str; 9] = [
    "blame",
    "blamed",
    "careless",
    "carelessness",
    "culprit",
    "incompetent",
    "negligent",
    "negligence",
    "guilty",
];
const BLAME_PHRASES: [&str; 3] = ["human error", "should have known", "be more careful"];

#[test]
fn document_is_blameless() {
    kit::check(|| {
        let answers = kit::answers!();
        // Nothing can be said without being blameless, so something has to be said.
        for key in ["summary.prose", "cause.story", "lessons.prose"] {
            answers.text(key);
        }
        actions(&answers);
        let mut keys: Vec<String> = answers.keys().map(str::to_owned).collect();
        keys.sort_by_key(|key| answers.place(key).map_or(0, |place| place.line));
        for key in keys {
            let texts = match (answers.try_text(&key), answers.try_list(&key)) {
                (Ok(text), _) => vec![text],
                (_, Ok(texts)) => texts,
                _ => continue,
            };
            let line = answers.place(&key).map_or(0, |place| place.line);
            for text in texts {
                let lower = text.to_lowercase();
                let words: Vec<&str> = lower.split(|c: char| !c.is_alphanumeric()).collect();
                for person in PEOPLE {
                    let named = person
                        .split(' ')
                        .find(|part| words.contains(&part.to_lowercase().as_str()));
                    if let Some(named) = named {
                        kit::symptom(format!(
                            "answers.toml:{line}: `{key}` names a person (\"{named}\"); a role \
                             can be asked what it saw, and can act"
                        ));
                    }
                }
                let one_line = words
                    .iter()
                    .filter(|word| !word.is_empty())
                    .copied()
                    .collect::<Vec<_>>()
                    .join(" ");
                let blame = BLAME.iter().find(|word| words.contains(word)).or_else(|| {
                    BLAME_PHRASES
                        .iter()
                        .find(|phrase| one_line.contains(**phrase))
                });
                if let Some(blame) = blame {
                    kit::symptom(format!(
                        "answers.toml:{line}: `{key}` says \"{blame}\": that ends the search for \
                         what would have made the step safe"
                    ));
                }
            }
        }
    });
}

// The tool, on the night of the brief and on nights that the learner has not seen.

#[test]
fn incidents_are_told_from_blips() {
    kit::check(|| {
        for_each_night(&Night::ALL, |run, name| {
            let found = found(run, name);
            match (run.truth(), found) {
                (Some(truth), None) => kit::symptom(format!(
                    "{name}: for {} minutes more than 1 % of the payments were slow ({} in all; {}), \
                     and the tool has nothing to report",
                    (truth.restored - truth.impact_began) / 60,
                    truth.slow_payments,
                    match truth.alert_delay {
                        Some(_) => "the alert fired",
                        None => "the alert never fired",
                    }
                )),
                (None, Some(report)) => kit::symptom(format!(
                    "{name}: {} minutes broke the objective, and the tool reports an incident:\n\
                     {report}",
                    run.minutes.iter().filter(|m| m.breaks_objective()).count()
                )),
                _ => {}
            }
        });
        kit::step("reconstructing a night on which exactly 1 % of the payments is slow");
        match reconstruct(&metrics_of(&[1; 10]), OF_ANOTHER_SERVICE) {
            Ok(None) => {}
            Ok(Some(report)) => kit::symptom(format!(
                "in no minute were more than 1 % of the payments slow (1 of 100 in each), and the \
                 tool reports an incident:\n{report}"
            )),
            Err(error) => kit::symptom(format!(
                "in no minute were more than 1 % of the payments slow (1 of 100 in each): no \
                 report, but {error}"
            )),
        }
        for (minutes, incident) in [
            ("..###...........", Some((2, 4))),
            ("..##............", None),
            ("..#.#...........", Some((2, 4))),
            ("..##....##......", Some((2, 9))),
            ("..##.....##.....", None),
            ("..####.....###..", Some((2, 5))),
            ("..###.....####..", Some((10, 13))),
        ] {
            is_told(minutes, incident);
        }
    });
}

/// A night of these minutes, `#` for one that breaks the objective: the first and the last minute
/// of its incident, if it has one.
fn is_told(minutes: &str, incident: Option<(usize, usize)>) {
    kit::step(format!("reconstructing the minutes {minutes}"));
    let slow: Vec<u64> = minutes.bytes().map(|b| u64::from(b == b'#') * 40).collect();
    let events = incident.map_or(OF_ANOTHER_SERVICE.to_owned(), |(first, _)| events_of(first));
    let said = match reconstruct(&metrics_of(&slow), &events) {
        Ok(report) => report.map(|report| report.timeline),
        Err(error) => kit::symptom(format!(
            "of the minutes {minutes} those with `#` break the objective: no report, but {error}"
        )),
    };
    let said = said.map(|timeline| (timeline.impact_began.0, timeline.restored.0));
    let expected = incident.map(|(first, last)| (at_the_end_of(first), at_the_end_of(last + 1)));
    let show = |window: Option<(i64, i64)>| {
        window.map_or("no incident".to_owned(), |(from, to)| {
            format!("an incident from {} to {}", clock(from), clock(to))
        })
    };
    assert!(
        said == expected,
        "of the minutes {minutes}, the first of which ends at {}, those with `#` break the \
         objective: that is {}, and the report has {}",
        clock(at_the_end_of(0)),
        show(expected),
        show(said)
    );
}

/// What the events hold on any night.
const OF_ANOTHER_SERVICE: &str = concat!(
    r#"{"id":"pl-1","time":"2025-11-28T08:39:17+01:00","source":"pipeline","kind":"applied","#,
    r#""service":"search","change":"C-4402","text":"release v87"}"#,
    "\n"
);

/// A response that begins and ends within this minute and the next.
fn events_of(minute: usize) -> String {
    let steps = [
        ("firing", r#""alert":"PaymentsSlow","severity":"page""#),
        ("notified", r#""alert":"PaymentsSlow""#),
        ("acknowledged", r#""alert":"PaymentsSlow""#),
        ("cause", r#""cause":"connection pool exhausted""#),
        ("applied", r#""change":"C-4415""#),
        ("switched", r#""change":"C-4415""#),
    ];
    let mut text = OF_ANOTHER_SERVICE.to_owned();
    for (nth, (kind, fields)) in steps.into_iter().enumerate() {
        text += &format!(
            "{{\"id\":\"ev-{nth}\",\"time\":\"2025-11-28T07:{:02}:{:02}Z\",\"kind\":\"{kind}\",\
             \"service\":\"payments\",{fields}}}\n",
            31 + minute,
            9 * (nth + 1)
        );
    }
    text
}

/// Unix time. The first minute ends at 07:31 UTC.
fn at_the_end_of(minute: usize) -> i64 {
    1_764_315_060 + 60 * i64::try_from(minute).expect("minutes of an hour")
}

/// Metrics of minutes with 100 payments each, of which so many are slow.
fn metrics_of(slow: &[u64]) -> String {
    let mut text = String::from("# TYPE payment_request_duration_seconds histogram\n");
    let mut within = 9_000;
    for minute in 0..=slow.len() {
        let at = at_the_end_of(minute) - 60;
        let payments = 9_000 + 100 * minute;
        within += minute.checked_sub(1).map_or(0, |ended| 100 - slow[ended]);
        text += &format!(
            "payment_request_duration_seconds_bucket{{le=\"0.5\"}} {within} {at}\n\
             payment_request_duration_seconds_bucket{{le=\"+Inf\"}} {payments} {at}\n\
             payment_request_duration_seconds_sum {minute} {at}\n\
             payment_request_duration_seconds_count {payments} {at}\n"
        );
    }
    for (family, kind, sample) in [
        ("payment_pool_waiting", "gauge", "payment_pool_waiting"),
        ("shop_sessions_active", "gauge", "shop_sessions_active"),
        ("shop_sessions", "counter", "shop_sessions_total"),
        ("shop_sessions_slow", "counter", "shop_sessions_slow_total"),
    ] {
        text += &format!("# TYPE {family} {kind}\n");
        for minute in 0..=slow.len() {
            let at = at_the_end_of(minute) - 60;
            text += &format!("{sample} {minute} {at}\n");
        }
    }
    text + "# EOF\n"
}

#[test]
fn impact_is_bounded_by_what_users_met() {
    kit::check(|| {
        for_each_incident(&INCIDENTS, |truth, found, name| {
            let expected = [truth.impact_began, truth.restored].map(Moment);
            let window = [found.timeline.impact_began, found.timeline.restored];
            assert!(
                window == expected,
                "{name}: payments were slow from {} to {}, and the report says from {} to {}",
                clock(expected[0].0),
                clock(expected[1].0),
                clock(window[0].0),
                clock(window[1].0)
            );
        });
    });
}

#[test]
fn detection_is_what_first_reached_a_person() {
    kit::check(|| {
        for_each_incident(&NOTICED, |truth, found, name| {
            let by = match truth.response.by {
                black_friday::Detector::Alert => Detector::Alert,
                black_friday::Detector::User => Detector::User,
            };
            let told = clock(truth.response.detected);
            assert!(
                found.timeline.detected.0 == truth.response.detected
                    && found.timeline.detected_by == by,
                "{name}: the first to be told was told at {told} (by: {by:?}), and the report says \
                 at {} (by: {:?})",
                clock(found.timeline.detected.0),
                found.timeline.detected_by
            );
        });
    });
}

#[test]
fn response_follows_what_stood_in_the_end() {
    kit::check(|| {
        for_each_incident(&CURED, |truth, found, name| {
            let response = truth.response;
            let timeline = found.timeline;
            for (what, expected, said) in [
                (
                    "the page was taken",
                    response.acknowledged,
                    timeline.acknowledged,
                ),
                (
                    "the cause that stood in the end was first stated",
                    response.cause_identified,
                    timeline.cause_identified,
                ),
                (
                    "the change that stayed was applied",
                    response.mitigated,
                    timeline.mitigated,
                ),
            ] {
                assert!(
                    said.0 == expected,
                    "{name}: {what} at {}, and the report says at {}",
                    clock(expected),
                    clock(said.0)
                );
            }
        });
    });
}

#[test]
fn delays_add_up_to_the_impact() {
    kit::check(|| {
        for_each_incident(&CURED, |truth, found, name| {
            let delays = found.delays;
            let parts = [
                delays.detect,
                delays.acknowledge,
                delays.diagnose,
                delays.mitigate,
                delays.recover,
            ];
            let sum: i64 = parts.iter().map(|part| part.0).sum();
            assert!(
                sum == delays.total.0,
                "{name}: the report's delays are {}, which is {} together, and its total is {}",
                parts.map(|part| span(part.0)).join(", "),
                span(sum),
                span(delays.total.0)
            );
            let steps = steps_of(truth);
            for ((part, steps), step) in parts.iter().zip(steps.windows(2)).zip(&STEPS[1..]) {
                let expected = steps[1] - steps[0];
                assert!(
                    part.0 == expected,
                    "{name}: {} passed until the step `{step}`, and the report says {}",
                    span(expected),
                    span(part.0)
                );
            }
        });
    });
}

#[test]
fn alert_delay_is_split_at_its_condition() {
    kit::check(|| {
        let show = |delay: Option<(i64, i64)>| match delay {
            None => "that it never fired".to_owned(),
            Some((condition, held)) => format!(
                "{} until its condition held and {} until it fired",
                span(condition),
                span(held)
            ),
        };
        for_each_incident(&NOTICED, |truth, found, name| {
            let expected = truth.alert_delay;
            let said = found.alert.map(|alert| (alert.condition.0, alert.held.0));
            assert!(
                said == expected,
                "{name}: ALERTS and the payments show of the alert: {}; the report says: {}",
                show(expected),
                show(said)
            );
        });
        // A condition that held for one evaluation and lapsed has no part in the `for`.
        let run = Run::of(&Setup::canonical());
        let truth = run.truth().expect("an incident");
        let series = r#"ALERTS{alertname="PaymentsSlow",alertstate="pending"} 1"#;
        for (when, at) in [
            ("at 02:50", truth.impact_began - 25 * 60),
            ("at 03:15", truth.impact_began),
        ] {
            let lapsed = run
                .metrics()
                .replacen(series, &format!("{series} {at}\n{series}"), 1);
            kit::step(format!(
                "reconstructing a night whose alert was pending once {when}"
            ));
            let said = match reconstruct(&lapsed, &run.events()) {
                Ok(Some(report)) => report.alert.map(|alert| (alert.condition.0, alert.held.0)),
                Ok(None) => None,
                Err(error) => kit::symptom(format!("no report, but {error}")),
            };
            assert!(
                said == truth.alert_delay,
                "the alert is pending for one evaluation {when}, not at the next, then from 03:17 \
                 until it fires at 03:22; the report says: {}",
                show(said)
            );
        }
    });
}

#[test]
fn slow_payments_survive_a_restart() {
    kit::check(|| {
        for_each_incident(&CURED, |truth, found, name| {
            let said = found.impact.slow_payments;
            assert!(
                said.abs_diff(truth.slow_payments) <= 1,
                "{name}: {} payments were slow, and the report says {said}; new processes took \
                 over at {}, with counters that began at zero",
                truth.slow_payments,
                clock(truth.response.effective)
            );
        });
    });
}

#[test]
fn sessions_are_counted_against_those_who_were_there() {
    kit::check(|| {
        for_each_incident(&NOTICED, |truth, found, name| {
            let said = found.impact.sessions_share;
            assert!(
                (said - truth.sessions_share).abs() < 1e-4,
                "{name}: of the sessions between {} and {}, {:.1} % met a slow payment, and the \
                 report says {:.1} %",
                clock(truth.impact_began),
                clock(truth.restored),
                100.0 * truth.sessions_share,
                100.0 * said
            );
        });
    });
}

#[test]
fn worst_minute_is_named_by_its_bucket() {
    kit::check(|| {
        for_each_incident(&NOTICED, |truth, found, name| {
            let impact = found.impact;
            assert!(
                (impact.p99_above - truth.p99_above).abs() < 1e-9,
                "{name}: in the worst minute more than 1 % of the payments took longer than {} s, \
                 and of no greater bound can that be said; the report says {} s",
                truth.p99_above,
                impact.p99_above
            );
            assert!(
                impact.peak_waiting == truth.peak_waiting,
                "{name}: payment_pool_waiting reached {}, and the report says {}",
                truth.peak_waiting,
                impact.peak_waiting
            );
        });
        // Five payments of one minute take longer than ten seconds: stragglers, no p99.
        let run = Run::of(&Setup::canonical());
        let truth = run.truth().expect("an incident");
        let series = r#"payment_request_duration_seconds_bucket{le="10.0"}"#;
        #[expect(clippy::cast_precision_loss, reason = "Unix time in seconds")]
        let minutes = (truth.impact_began + 900) as f64..truth.response.effective as f64;
        let stragglers = dump::revalued(&run.metrics(), |sample| {
            let slow = sample.series == series && minutes.contains(&sample.seconds());
            slow.then_some(sample.value - 5.0)
        });
        kit::step("reconstructing a night with five stragglers");
        let said = match reconstruct(&stragglers, &run.events()) {
            Ok(Some(report)) => report.impact.p99_above,
            Ok(None) => 0.0,
            Err(error) => kit::symptom(format!("no report, but {error}")),
        };
        assert!(
            (said - truth.p99_above).abs() < 1e-9,
            "5 of 6,000 payments of a minute take longer than 10 s, all others of that hour less: \
             the p99 stays between 5 and 10 s, and the report says above {said} s"
        );
    });
}

#[test]
fn report_reads_as_it_is_written() {
    kit::check(|| {
        for (unix, shown) in [
            (1_764_317_700, "03:15"),
            (1_764_317_759, "03:15"),
            (1_764_309_599, "00:59"),
            (1_764_305_940, "23:59"),
        ] {
            let said = Moment(unix).to_string();
            assert!(
                said == shown,
                "Unix time {unix} is {shown} in New York, and reads {said}"
            );
        }
        for (seconds, shown) in [(424, "7.1 min"), (60, "1.0 min"), (-90, "-1.5 min")] {
            let said = Seconds(seconds).to_string();
            assert!(said == shown, "{seconds} s are {shown}, and read {said}");
        }
        let at = |minute: i64| Moment(1_764_317_700 + 60 * minute);
        let report = PostMortem {
            timeline: Timeline {
                impact_began: at(1),
                detected: at(3),
                detected_by: Detector::User,
                acknowledged: at(6),
                cause_identified: at(10),
                mitigated: at(15),
                restored: at(21),
            },
            delays: Delays {
                detect: Seconds(120),
                acknowledge: Seconds(180),
                diagnose: Seconds(240),
                mitigate: Seconds(300),
                recover: Seconds(360),
                total: Seconds(1_200),
            },
            alert: Some(AlertDelay {
                condition: Seconds(420),
                held: Seconds(480),
            }),
            impact: Impact {
                slow_payments: 4_711,
                sessions_share: 0.125,
                p99_above: 2.5,
                peak_waiting: 815,
            },
        };
        let said = report.to_string();
        for part in [
            "03:16", "03:18", "03:21", "03:25", "03:30", "03:36", "2.0 min", "3.0 min", "4.0 min",
            "5.0 min", "6.0 min", "20.0 min", "7.0 min", "8.0 min", "4711", "12.5 %", "2.5 s",
            "815", "user",
        ] {
            assert!(
                said.contains(part),
                "a report with {part} reads without it:\n{said}"
            );
        }
    });
}

#[test]
fn unreadable_records_are_errors() {
    kit::check(|| {
        let metrics = kit::fixture!("metrics.om");
        let events = kit::fixture!("events.jsonl");
        let vague = events.replace("2025-11-28T08:25:11Z", "08:25 or so");
        let undated = events.replace("2025-11-28T08:25:11Z", "08:25:11");
        // Up to 03:35, in the middle of it.
        let unfinished = dump::at(&metrics, |seconds| seconds <= 1_764_318_900.0);
        let cut = format!("{}\n# EOF\n", &metrics[..metrics.len() / 2]);
        for (what, metrics, events) in [
            ("no metrics at all", String::new(), events.clone()),
            (
                "metrics that are a page of HTML",
                "<html>502</html>\n".into(),
                events.clone(),
            ),
            ("metrics that were cut off", cut, events.clone()),
            (
                "metrics without the histogram",
                without(&metrics, "payment_request_duration"),
                events.clone(),
            ),
            (
                "metrics without sessions",
                without(&metrics, "shop_sessions"),
                events.clone(),
            ),
            (
                "events that are no JSON",
                metrics.clone(),
                "03:22 alert!\n".into(),
            ),
            ("an event at \"08:25 or so\"", metrics.clone(), vague),
            ("an event with a time and no day", metrics.clone(), undated),
            (
                "metrics that end in the middle of the incident",
                unfinished,
                events.clone(),
            ),
            ("no events at all", metrics.clone(), String::new()),
        ] {
            kit::step(format!("reconstructing from {what}"));
            if let Ok(report) = reconstruct(&metrics, &events) {
                kit::symptom(match report {
                    Some(report) => format!("{what} give a report instead of an error:\n{report}"),
                    None => format!("{what} give \"nothing to report\" instead of an error"),
                });
            }
        }
    });
}

/// The night of the brief, then nights of these kinds from each seed.
fn for_each_night(kinds: &[Night], mut judge: impl FnMut(&Run, &str)) {
    judge(&Run::of(&Setup::canonical()), "the night of the brief");
    kit::seed::each(&SEEDS, |seed| {
        for &night in kinds {
            let run = Run::of(&Setup::drawn(night, seed.0));
            judge(&run, &format!("an unseen night (seed {seed})"));
        }
    });
}

/// The night of the brief, then incidents of these kinds from each seed.
fn for_each_incident(kinds: &[Night], mut judge: impl FnMut(&Truth, &PostMortem, &str)) {
    for_each_night(kinds, |run, name| {
        let truth = run.truth().expect("an incident");
        let Some(report) = found(run, name) else {
            kit::symptom(format!(
                "{name}: payments were slow from {} to {}, and the tool has nothing to report",
                clock(truth.impact_began),
                clock(truth.restored)
            ));
        };
        judge(&truth, &report, name);
    });
}

fn found(run: &Run, name: &str) -> Option<PostMortem> {
    kit::step(format!("reconstructing {name}"));
    reconstruct(&run.metrics(), &run.events())
        .unwrap_or_else(|error| kit::symptom(format!("{name}: no report, but {error}")))
}

fn canonical_truth() -> Truth {
    Run::of(&Setup::canonical()).truth().expect("an incident")
}

fn steps_of(truth: &Truth) -> [i64; 6] {
    [
        truth.impact_began,
        truth.response.detected,
        truth.response.acknowledged,
        truth.response.cause_identified,
        truth.response.mitigated,
        truth.restored,
    ]
}

/// A moment as the clock in New York shows it.
fn clock(unix: i64) -> String {
    let second = (unix + ZONE).rem_euclid(86_400);
    format!(
        "{:02}:{:02}:{:02}",
        second / 3_600,
        second / 60 % 60,
        second % 60
    )
}

/// A span in minutes and seconds.
fn span(seconds: i64) -> String {
    let sign = if seconds < 0 { "-" } else { "" };
    let seconds = seconds.abs();
    format!("{sign}{} min {:02} s", seconds / 60, seconds % 60)
}

/// A time such as 03:15, and its minute of the day.
fn time_of_day(answers: &Answers, key: &str) -> (String, i64) {
    let text = answers.text(key);
    let minute = text.split_once(':').and_then(|(hour, minute)| {
        let hour = hour
            .parse::<i64>()
            .ok()
            .filter(|hour| (0..24).contains(hour))?;
        let minute = minute
            .parse::<i64>()
            .ok()
            .filter(|minute| (0..60).contains(minute))?;
        Some(60 * hour + minute)
    });
    let minute = minute.unwrap_or_else(|| {
        kit::symptom(format!(
            "`{key}` is \"{text}\", which is no time such as 03:15"
        ))
    });
    (text, minute)
}

/// What can be cited of the night of the brief.
struct Dump {
    series: Vec<String>,
    events: Vec<Event>,
}

impl Dump {
    fn canonical() -> Self {
        let run = Run::of(&Setup::canonical());
        let scrape = Scrape::parse(&run.metrics()).expect("the simulator writes OpenMetrics");
        let mut series: Vec<String> = scrape
            .iter()
            .map(|sample| format!("{}{}", sample.name, sample.labels))
            .collect();
        series.dedup();
        Dump {
            series,
            events: run.event_list(),
        }
    }

    fn holds(&self, item: &str) -> bool {
        self.series.iter().any(|series| series == item)
            || self.events.iter().any(|event| event.id == item)
    }

    /// The first event with these fields.
    fn id(&self, fields: &[(&str, &str)]) -> &str {
        let matches = |event: &&Event| {
            fields
                .iter()
                .all(|&(name, value)| event.field(name) == Some(value))
        };
        let event = self.events.iter().find(matches);
        &event.expect("the night has such an event").id
    }
}

/// Series as they were cited, without the white space that one may put after a comma.
fn spaceless(cited: &[String]) -> Vec<String> {
    cited.iter().map(|item| item.replace(' ', "")).collect()
}
