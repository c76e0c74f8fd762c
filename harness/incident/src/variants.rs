//! Every lab's variants behind one door: a seed goes in, the files of a dump and the truth come out.
//!
//! `cargo xtask fixture` lets a learner practice on what comes out of here; checkers call the
//! simulators themselves, with seeds of their own.

use serde::Serialize;

use crate::black_friday::{Detector, Night, Run, Setup};
use crate::calendar::rfc3339_millis;
use crate::chance::Chance;
use crate::go_hours;
use crate::heap_week::{self, Course};
use crate::nights::{self, Story, Trouble};
use crate::on_call;
use crate::pool::{self, Fault};
use crate::releases::{self, Blame};
use crate::service::simulate;
use crate::stampede::{self, Cache};
use crate::task_pool;
use crate::use_pool::{self, Limit};

/// A dump of another system than the one in the brief.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Variant {
    /// Names and contents.
    pub files: Vec<(String, String)>,
    /// What really happened, in a few sentences for a person.
    pub truth: String,
}

/// How a variant is made from a seed.
type Maker = fn(u64) -> Variant;

/// The labs that have variants, by their id.
pub const LABS: &[(&str, Maker)] = &[
    ("17.6.1", latency_runbook),
    ("17.6.2", postmortem),
    ("18.1.1", read_pool_metrics),
    ("18.1.5", use_method),
    ("18.2.5", cache_stampede),
    ("18.5.1", incident_at_3am),
    ("18.5.2", deploy_correlation),
    ("18.5.4", pool_dashboard),
    ("18.5.5", leak_forecast),
    ("18.6.5", concurrency_dashboard),
];

/// The variant of a lab, or `None` for a lab without variants.
pub fn of(lab: &str, seed: u64) -> Option<Variant> {
    let (_, make) = LABS.iter().find(|(id, _)| *id == lab)?;
    Some(make(seed))
}

fn latency_runbook(seed: u64) -> Variant {
    // Every fifth page is an alarm that needs nobody.
    let shift = on_call::of_seed(seed);
    let setup = on_call::drawn(shift, seed);
    let run = simulate(&setup);
    let truth = run.truth();
    let at = truth
        .starts_at_ms
        .map(|at| format!(" since {}", rfc3339_millis(at)))
        .unwrap_or_default();
    let innocent: Vec<String> = truth
        .innocent
        .iter()
        .filter_map(|suspect| Some((rfc3339_millis(suspect.at_ms?), &suspect.component)))
        .flat_map(|(at, component)| {
            let names = on_call::names_of(component).into_iter();
            names.map(move |name| format!("\nNot to blame: {name} at {at}."))
        })
        .collect();
    Variant {
        files: on_call::files(&setup, &run),
        truth: format!(
            "{}{at}: {}.{}",
            on_call::name_of(shift.cause()),
            on_call::sentence(shift, truth),
            innocent.concat()
        ),
    }
}

fn read_pool_metrics(seed: u64) -> Variant {
    let fault = *Chance::of(seed).pick(&Fault::ALL);
    let run = pool::simulate(fault, seed);
    let truth = &run.truth;
    let finished = truth.ok + truth.errors + truth.timeouts;
    let what = match fault {
        Fault::None => "Nothing is wrong: short tasks, and workers to spare.",
        Fault::BusyOnly => "Every worker happens to be busy, and nothing waits: no backpressure.",
        Fault::Overload => "More traffic arrives than the workers can serve.",
        Fault::SlowDependency => "A slow dependency holds the workers; what waits is the cost.",
        Fault::TailOnly => "A dependency is slow now and then, and there are workers to spare.",
        Fault::TimeoutsUnobserved => {
            "A slow dependency holds the workers, and timeouts never reach the histogram."
        }
    };
    let truth = format!(
        "{what}\n{} of {finished} finished tasks failed; {} wait and {} of {} workers are busy; \
         the histogram missed {}.",
        truth.errors + truth.timeouts,
        truth.queued,
        truth.active,
        truth.workers,
        finished - truth.observed.len() as u64
    );
    Variant {
        files: vec![("scrape.prom".into(), run.scrape)],
        truth,
    }
}

fn use_method(seed: u64) -> Variant {
    let limits = [
        Limit::Nothing,
        Limit::Workers,
        Limit::Cores,
        Limit::Connections,
    ];
    let limit = *Chance::of(seed).pick(&limits);
    let run = use_pool::simulate(&use_pool::Setup::drawn(limit, seed));
    let truth = &run.truth;
    let what = match limit {
        Limit::Nothing => "Nothing holds the pool up.",
        Limit::Workers => "There are too few workers for what a task takes.",
        Limit::Cores => "There are too few cores; workers wait for them.",
        Limit::Connections => "There are too few connections; workers wait for them.",
    };
    let ended = truth.ended() as f64;
    let percent = |share: f64| 100.0 * share;
    Variant {
        truth: format!(
            "{what}\nIn use: {:.1} % of the workers, {:.1} % of the cores, {:.1} % of the \
             connections; {} tasks wait for a worker.\nOf {ended} tasks {:.2} % ended in an error \
             and {:.2} % in a timeout; the p99 is {:.2} s.",
            percent(truth.workers_busy),
            percent(truth.cores_busy),
            percent(truth.connections_busy),
            truth.queued,
            percent(truth.errors as f64 / ended),
            percent(truth.timeouts as f64 / ended),
            truth.quantile(0.99)
        ),
        files: vec![("pool.om".into(), run.metrics)],
    }
}

fn cache_stampede(seed: u64) -> Variant {
    // Every fourth cache is a healthy one.
    let cache = match seed % 4 {
        3 => Cache::Coalescing,
        _ => Cache::Naive,
    };
    let run = stampede::simulate(cache, seed);
    let truth = format!(
        "{} of {} queries were wasted, in {} stampedes.",
        run.wasted(),
        run.queries,
        run.stampedes.len()
    );
    Variant {
        files: vec![("cache.jsonl".into(), run.log)],
        truth,
    }
}

fn incident_at_3am(seed: u64) -> Variant {
    let story = *Chance::of(seed).pick(&Story::ALL);
    let night = nights::of(story, seed);
    let mut truth = match &night.trouble {
        Trouble::Nothing => "Nothing is wrong, whatever moved.".to_owned(),
        Trouble::SlowQuery(query) => {
            format!("`{query}` takes longer than before, and uses up the connections.")
        }
        Trouble::ConnectionsKept => "Connections are not given back.".to_owned(),
        Trouble::Traffic => "More is asked for than the cores can do.".to_owned(),
        Trouble::Cost => "A release needs more of the cores than there are.".to_owned(),
        Trouble::Failures => "A release fails a part of its answers.".to_owned(),
        Trouble::TasksKept => "Tasks stay behind, and users do not notice.".to_owned(),
        Trouble::Elsewhere => format!(
            "Requests wait for what no panel shows: {}.",
            match story {
                Story::SlowDependency => "another service",
                Story::Deadlock => "two locks, for ever",
                _ => "a lock",
            }
        ),
    };
    if let Some(began) = night.began {
        truth.push_str(&format!("\nIt began at {began:.0} (Unix time)."));
    }
    Variant {
        files: vec![("night.om".into(), night.metrics)],
        truth,
    }
}

fn deploy_correlation(seed: u64) -> Variant {
    let story = *Chance::of(seed).pick(&releases::Story::ALL);
    let release = releases::of(story, seed);
    let mut truth = match release.story.blame() {
        Blame::Nobody => "Users are not harmed in the end.".to_owned(),
        Blame::Release => "The deploy did it.".to_owned(),
        Blame::Traffic => "The deploy is innocent: far more is asked for.".to_owned(),
        Blame::Elsewhere => {
            "The deploy is innocent: both versions wait for the same thing.".to_owned()
        }
    };
    truth.push_str(&format!(
        "\nIt reached the first instance at {:.0} (Unix time). A request of the new version \
         computes {:.2} times and allocates {:.2} times as much as one of the old, and fails in \
         {:.1} % of the cases more.",
        release.released,
        release.compute_factor,
        release.allocation_factor,
        100.0 * release.error_share
    ));
    if let Some(began) = release.began {
        truth.push_str(&format!("\nThe trouble began at {began:.0}."));
    }
    Variant {
        files: vec![("window.om".into(), release.metrics)],
        truth,
    }
}

fn pool_dashboard(seed: u64) -> Variant {
    let case = *Chance::of(seed).pick(&task_pool::Case::ALL);
    let run = task_pool::simulate(case, seed);
    let truth = match run.starts_at_ms() {
        Some(at_ms) => format!("From {} on (Unix time): {}.", at_ms / 1_000, case.tells()),
        None => format!("All the time: {}.", case.tells()),
    };
    Variant {
        files: vec![("pool.om".into(), run.openmetrics())],
        truth,
    }
}

fn concurrency_dashboard(seed: u64) -> Variant {
    let run = go_hours::drawn(seed);
    let until = run.mended_at_ms().map_or(" on".to_owned(), |at_ms| {
        format!(" until {}", at_ms / 1_000)
    });
    Variant {
        files: vec![("presence.om".into(), run.openmetrics())],
        truth: format!(
            "From {}{until} (Unix time): {}.",
            run.starts_at_ms() / 1_000,
            run.case().tells()
        ),
    }
}

fn leak_forecast(seed: u64) -> Variant {
    let mut chance = Chance::of(seed);
    let courses = [*chance.pick(&Course::ALL), *chance.pick(&Course::ALL)];
    let run = heap_week::simulate(&courses, seed);
    let mut truth = format!("The limit is {:.2} GB.", run.limit / 1e9);
    for life in &run.lives {
        let what = match life.course {
            Course::Level => "is level",
            Course::WarmUp => "fills a cache and is level from then on",
            Course::Launch => "grows with its traffic",
            Course::Linear => "leaks the same amount every day",
            Course::Accelerating => "leaks more every day",
        };
        truth.push_str(&format!(
            "\nThe process of {} {what}: {:+.3} GB a day.",
            life.started,
            life.bytes_per_day / 1e9
        ));
        if let (Some(linear), Some(accelerating)) = (life.full_linear, life.full_accelerating) {
            truth.push_str(&format!(
                " Full at {linear:.0} at its mean rate, at {accelerating:.0} as it has grown."
            ));
        }
    }
    Variant {
        files: vec![("week.om".into(), run.metrics)],
        truth,
    }
}

fn postmortem(seed: u64) -> Variant {
    let night = *Chance::of(seed).pick(&Night::ALL);
    let run = Run::of(&Setup::drawn(night, seed));
    let truth = match run.truth() {
        None => "Nothing to report: no three minutes of the night broke the objective.".to_owned(),
        Some(truth) => {
            let minutes = |from: i64, to: i64| (to - from) / 60;
            let response = truth.response;
            format!(
                "Users waited from {} to {} (Unix time), {} minutes.\n\
                 Detected after {} (by {}), acknowledged after {} more, cause after {} more, \
                 mitigated after {} more, restored after {} more.\n\
                 {} slow payments, {:.1} % of the sessions, at most {} payments waiting.",
                truth.impact_began,
                truth.restored,
                minutes(truth.impact_began, truth.restored),
                minutes(truth.impact_began, response.detected),
                match response.by {
                    Detector::Alert => "an alert",
                    Detector::User => "a user",
                },
                minutes(response.detected, response.acknowledged),
                minutes(response.acknowledged, response.cause_identified),
                minutes(response.cause_identified, response.mitigated),
                minutes(response.mitigated, truth.restored),
                truth.slow_payments,
                100.0 * truth.sessions_share,
                truth.peak_waiting
            )
        }
    };
    Variant {
        files: vec![
            ("metrics.om".into(), run.metrics()),
            ("events.jsonl".into(), run.events()),
        ],
        truth,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_variant_and_another_seed_another_one() {
        for (lab, make) in LABS {
            assert_eq!(make(7), make(7), "{lab}");
            assert_ne!(make(7), make(8), "{lab}");
            assert!(!make(7).files.is_empty(), "{lab}");
        }
    }
}
