//! Hours of two services with a worker pool each, for alerts on queues and latency and for the
//! routes behind them.
//!
//! `mail` and `thumbnails` run three instances each, simulated by [`incident::service`] for some
//! fifty minutes, and expose `worker_pool_queue_size` and `worker_pool_task_duration_seconds` (a
//! histogram) with the labels `job` and `instance`, scraped every 15 s.
//!
//! Not the model of a pool for other purposes: that is `incident::pool`.

use incident::chance::Chance;
use incident::service::{
    Dependency, Fault, Load, Route, Run, Scenario as Happening, Service, Setup, Step, Tier, Time,
    simulate,
};
use promql::{Labels, Storage};
use telemetry::metrics::Kind;

use crate::alerts::{Allowed, Due, Incident, Scenario, Span, Wanted};

/// What happens in the hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hour {
    /// Nothing.
    Quiet,
    /// More tasks come than can be done, and for about a minute and a half more than 500 wait.
    Spike,
    /// The same twice, with a minute and more between.
    TwoSpikes,
    /// For five minutes some 300 tasks wait on each instance of `mail`, and are done.
    Busy,
    /// For half a minute a few tasks of `mail` are slow: enough for its p99 over five minutes, and
    /// for less than five minutes.
    SlowBriefly,
    /// One instance of `mail` gets few tasks, and more than one in twenty of these is slow. Of the
    /// tasks of the service they are not one in two hundred.
    OneSlow,
    /// More tasks come than can be done, for fifteen minutes.
    Saturated,
    /// The same on one instance of `mail`; the others have what they always have.
    OneSaturated,
    /// The same of both services, at the same time.
    BothSaturated,
    /// One task in twenty-five takes more than two seconds, for twenty-five minutes. There are
    /// workers to spare.
    Slow,
    /// `mail` is slow; after twelve minutes the queues of both services are full.
    SlowThenBothSaturated,
}

impl Hour {
    /// All of them, those in which nothing has to be said first.
    pub const ALL: [Hour; 11] = [
        Hour::Quiet,
        Hour::Spike,
        Hour::TwoSpikes,
        Hour::Busy,
        Hour::SlowBriefly,
        Hour::OneSlow,
        Hour::Saturated,
        Hour::OneSaturated,
        Hour::BothSaturated,
        Hour::Slow,
        Hour::SlowThenBothSaturated,
    ];
}

/// The two services, as `job` has them.
pub const JOBS: [&str; 2] = ["mail", "thumbnails"];

/// When what happens begins, in seconds from the beginning of the metrics.
const BEGINS: f64 = 900.0;
/// How much later the queues fill in [`Hour::SlowThenBothSaturated`], in seconds.
pub const SATURATES_AFTER: i64 = 720;
/// How long queues fill, in seconds.
const SATURATED_FOR: f64 = 900.0;
/// How long tasks are slow, in seconds.
const SLOW_FOR: f64 = 1_500.0;
/// How long the metrics go on, in seconds.
const DURATION: f64 = 3_000.0;
/// When rules begin to be evaluated.
const EVALUATED_FROM: f64 = 420.0;

/// Tasks a second of an instance on a usual day, and its workers. A task takes a fifth of a second.
const RATES: [f64; 2] = [3.0, 1.5];
const WORKERS: [u32; 2] = [4, 2];
const INSTANCES: u8 = 3;
/// How many tasks may wait, in each instance.
const QUEUE: u32 = 1_200;

/// Alerts of a severity about a service.
pub fn about(job: &str, severity: &str) -> Wanted {
    Wanted::any().with("job", job).with("severity", severity)
}

/// An hour made from a seed. Times are counted from what happens first.
pub fn scenario(hour: Hour, seed: u64) -> Scenario {
    let mut chance = Chance::of(seed ^ 0x0900_15A1);
    let [mut mail, mut thumbnails] = RATES.map(|rate| {
        let of_all = rate * chance.between(0.95, 1.05) * f64::from(INSTANCES);
        Load::constant(of_all).noise(0.03)
    });
    let mut slow = None;
    let mut alone = None;
    let mut happened: Vec<(f64, String)> = Vec::new();
    let mut spike = |load: Load, at: f64, happened: &mut Vec<(f64, String)>| {
        let lasts = chance.between(55.0, 65.0);
        happened.push((at, "mail: more tasks come than can be done".into()));
        happened.push((at + lasts, "mail: as usual".into()));
        load.spike(at, chance.between(15.5, 16.5), lasts)
    };
    let (title, due, allowed);
    let at_ms = |begins: i64, seconds: f64| begins * 1_000 + milliseconds(seconds);
    let begins = 1_741_784_400 + 86_400 * i64::from(u8::try_from(seed % 200).unwrap_or(0));
    let fired = |seconds: f64, due_minutes: i64, lasts: f64| Incident {
        begins_ms: at_ms(begins, seconds),
        due_ms: at_ms(begins, seconds) + due_minutes * 60_000,
        until_ms: at_ms(begins, seconds + lasts) + 600_000,
    };
    match hour {
        Hour::Quiet => {
            title = "nothing happens";
            (due, allowed) = (vec![], vec![]);
        }
        Hour::Spike => {
            title = "a spike: a full queue for less than two minutes";
            mail = spike(mail, BEGINS, &mut happened);
            (due, allowed) = (vec![], vec![]);
        }
        Hour::TwoSpikes => {
            title = "two spikes: a full queue twice, for less than two minutes each";
            mail = spike(mail, BEGINS, &mut happened);
            mail = spike(mail, BEGINS + 180.0, &mut happened);
            (due, allowed) = (vec![], vec![]);
        }
        Hour::Busy => {
            title = "for some minutes 300 tasks wait on each instance of mail";
            mail = Load::constant(RATES[0] * f64::from(INSTANCES)).spike(BEGINS, 15.0, 11.0);
            mail = mail.spike(BEGINS + 11.0, 6.6, 300.0);
            happened.push((BEGINS, "mail: as many tasks come as can be done".into()));
            happened.push((BEGINS + 311.0, "mail: as usual".into()));
            (due, allowed) = (vec![], vec![]);
        }
        Hour::SlowBriefly => {
            title = "for half a minute some tasks of mail take more than two seconds";
            slow = Some(Slow {
                share: 3.2 * chance_of_slow(seed),
                median: 2.2,
                lasts: 30.0,
            });
            happened.push((BEGINS, "mail: some tasks wait for the server".into()));
            happened.push((BEGINS + 30.0, "mail: as usual".into()));
            (due, allowed) = (vec![], vec![]);
        }
        Hour::OneSlow => {
            title = "few tasks of mail are slow, all of them on one instance that gets few";
            alone = Some(Alone {
                load: Load::constant(0.3).noise(0.03),
                slow: Some(Slow {
                    share: 2.0 * chance_of_slow(seed),
                    median: 5.0,
                    lasts: SLOW_FOR,
                }),
            });
            happened.push((BEGINS, "mail: one instance waits for the server".into()));
            happened.push((BEGINS + SLOW_FOR, "mail: as usual".into()));
            (due, allowed) = (vec![], vec![]);
        }
        Hour::OneSaturated => {
            title = "the queue of one instance of mail is full for a quarter of an hour";
            let rate = RATES[0] * chance.between(0.95, 1.05);
            alone = Some(Alone {
                load: Load::constant(rate)
                    .noise(0.03)
                    .spike(BEGINS, 10.0, SATURATED_FOR),
                slow: None,
            });
            let what = "mail: one instance is given more tasks than it can do";
            happened.push((BEGINS, what.into()));
            happened.push((BEGINS + SATURATED_FOR, "mail: as usual".into()));
            due = vec![Due {
                wanted: about("mail", "warning"),
                incident: fired(BEGINS, 6, SATURATED_FOR),
            }];
            allowed = vec![];
        }
        Hour::Saturated => {
            title = "the queue of mail is full for a quarter of an hour";
            mail = mail.spike(BEGINS, 10.0, SATURATED_FOR);
            happened.push((BEGINS, "mail: more tasks come than can be done".into()));
            happened.push((BEGINS + SATURATED_FOR, "mail: as usual".into()));
            due = vec![Due {
                wanted: about("mail", "warning"),
                incident: fired(BEGINS, 6, SATURATED_FOR),
            }];
            allowed = vec![];
        }
        Hour::BothSaturated => {
            title = "the queues of both services are full for a quarter of an hour";
            mail = mail.spike(BEGINS, 10.0, SATURATED_FOR);
            thumbnails = thumbnails.spike(BEGINS, 14.0, SATURATED_FOR);
            happened.push((BEGINS, "both: more tasks come than can be done".into()));
            happened.push((BEGINS + SATURATED_FOR, "both: as usual".into()));
            due = JOBS
                .map(|job| Due {
                    wanted: about(job, "warning"),
                    incident: fired(BEGINS, 6, SATURATED_FOR),
                })
                .to_vec();
            allowed = vec![];
        }
        Hour::Slow => {
            title = "one task of mail in twenty-five takes more than two seconds";
            slow = Some(Slow {
                share: chance_of_slow(seed),
                median: 2.2,
                lasts: SLOW_FOR,
            });
            happened.push((BEGINS, "mail: some tasks wait for the server".into()));
            happened.push((BEGINS + SLOW_FOR, "mail: as usual".into()));
            due = vec![Due {
                wanted: about("mail", "critical"),
                incident: fired(BEGINS, 12, SLOW_FOR),
            }];
            allowed = vec![];
        }
        Hour::SlowThenBothSaturated => {
            title = "mail is slow, and later both queues are full";
            #[expect(clippy::cast_precision_loss, reason = "a few minutes")]
            let later = BEGINS + SATURATES_AFTER as f64;
            slow = Some(Slow {
                share: chance_of_slow(seed),
                median: 2.2,
                lasts: SLOW_FOR,
            });
            mail = mail.spike(later, 10.0, 600.0);
            thumbnails = thumbnails.spike(later, 14.0, 600.0);
            happened.push((BEGINS, "mail: some tasks wait for the server".into()));
            happened.push((later, "both: more tasks come than can be done".into()));
            happened.push((later + 600.0, "both: no more tasks than usual".into()));
            happened.push((BEGINS + SLOW_FOR, "mail: as usual".into()));
            due = vec![
                Due {
                    wanted: about("mail", "critical"),
                    incident: fired(BEGINS, 12, SLOW_FOR),
                },
                Due {
                    wanted: about("thumbnails", "warning"),
                    incident: fired(later, 6, 600.0),
                },
            ];
            allowed = vec![Allowed {
                wanted: about("mail", "warning"),
                within: Span::new(at_ms(begins, later), at_ms(begins, DURATION)),
            }];
        }
    }

    let mut storage = Storage::new();
    let others = if alone.is_some() {
        INSTANCES - 1
    } else {
        INSTANCES
    };
    let mut play = |job: usize, instances: u8, load: Load, slow: Option<Slow>, seed: u64| {
        let mut setup = Setup::new(service(job, instances), load, seed)
            .beginning(begins)
            .lasting(DURATION)
            .metrics_only();
        if let Some(slow) = slow {
            let fault = Fault::SlowDependency {
                dependency: "backend".into(),
                share: slow.share,
                median: slow.median,
                sigma: 0.25,
            };
            setup = setup.scenario(Happening::new(fault, BEGINS).lasting(slow.lasts));
        }
        expose(&simulate(&setup), &mut storage);
    };
    play(0, others, mail, slow, seed.wrapping_mul(2));
    play(1, INSTANCES, thumbnails, None, seed.wrapping_mul(2) + 1);
    if let Some(Alone { load, slow }) = alone {
        play(0, 1, load, slow, seed.wrapping_mul(2) ^ 0xA10E << 32);
    }
    storage.set_kind("worker_pool_queue_size", Kind::Gauge);
    for part in ["bucket", "sum", "count"] {
        let name = format!("worker_pool_task_duration_seconds_{part}");
        storage.set_kind(&name, Kind::Counter);
    }
    Scenario {
        title: title.to_owned(),
        storage,
        within: Span::new(at_ms(begins, EVALUATED_FROM), at_ms(begins, DURATION)),
        origin_ms: at_ms(begins, BEGINS),
        happened: happened
            .into_iter()
            .map(|(seconds, what)| (at_ms(begins, seconds), what))
            .collect(),
        due,
        allowed,
    }
}

/// Tasks that wait for the server behind them.
#[derive(Clone, Copy)]
struct Slow {
    /// Of all tasks, from 0 to 1.
    share: f64,
    /// How long they take, in seconds.
    median: f64,
    /// For how long there are such tasks, in seconds.
    lasts: f64,
}

/// The third instance of `mail`, where it has a load and a trouble of its own.
struct Alone {
    load: Load,
    slow: Option<Slow>,
}

fn chance_of_slow(seed: u64) -> f64 {
    Chance::of(seed ^ 0x510A).between(0.038, 0.045)
}

#[expect(clippy::cast_possible_truncation, reason = "seconds of an hour")]
fn milliseconds(seconds: f64) -> i64 {
    (seconds * 1e3).round() as i64
}

fn service(nth: usize, instances: u8) -> Service {
    Service::new(JOBS[nth])
        .instances(usize::from(instances))
        .cores(4)
        .tier(Tier::new("pool", WORKERS[nth]).queue(QUEUE))
        .dependency(Dependency::new("backend", 400).timeout(20.0))
        .route(Route::new("POST", "/tasks", 1.0).steps([Step::call("backend", Time::about(0.18))]))
        .deadline(600.0)
}

/// The metrics of a run under the names of the pool's endpoint.
fn expose(run: &Run, storage: &mut Storage) {
    for series in run.series() {
        let name = match series.name() {
            "worker_queue_depth" => "worker_pool_queue_size".to_owned(),
            name => match name.strip_prefix("worker_task_duration_seconds") {
                Some(part) => format!("worker_pool_task_duration_seconds{part}"),
                None => continue,
            },
        };
        let kept = ["job", "instance", "le"];
        let labels = series.labels().iter();
        let labels = Labels::named(&name, labels.filter(|(label, _)| kept.contains(label)));
        let samples = series.samples().iter();
        storage
            .append_all(samples.map(|&(at, value)| (labels.clone(), at, value)))
            .expect("samples of a run are in order");
    }
}

#[cfg(test)]
mod tests {
    use promql::{Engine, Query};

    use super::*;

    fn value(scenario: &Scenario, query: &str, seconds: i64) -> f64 {
        let query = Query::parse(query).unwrap();
        let at_ms = scenario.origin_ms + seconds * 1_000;
        let answer = Engine::default()
            .instant(&scenario.storage, &query, at_ms)
            .unwrap();
        answer.value.single().unwrap_or(f64::NAN)
    }

    const P99: &str = "histogram_quantile(0.99, sum by (le) \
                       (rate(worker_pool_task_duration_seconds_bucket{job=\"mail\"}[5m])))";

    #[test]
    fn a_spike_fills_the_queue_for_less_than_two_minutes() {
        let full = "max(sum_over_time((worker_pool_queue_size > bool 500)[10m:15s]))";
        for seed in 1..6 {
            let scenario = scenario(Hour::Spike, seed);
            let scrapes = value(&scenario, full, 400);
            assert!((3.0..8.0).contains(&scrapes), "{scrapes} scrapes");
            assert!(value(&scenario, P99, 400) < 1.0);
        }
    }

    #[test]
    fn a_busy_pool_has_fewer_than_500_tasks_in_each_queue_and_more_in_all() {
        let each = "max(max_over_time(worker_pool_queue_size[15m]))";
        let all = "min_over_time(sum(worker_pool_queue_size{job=\"mail\"})[2m30s:15s])";
        for seed in 1..6 {
            let scenario = scenario(Hour::Busy, seed);
            let longest = value(&scenario, each, 600);
            assert!(longest < 480.0, "{longest} tasks");
            let shortest = value(&scenario, all, 180);
            assert!(shortest > 500.0, "{shortest} tasks");
        }
    }

    #[test]
    fn a_slow_half_minute_shows_in_the_p99_for_less_than_five_minutes() {
        let above = format!("sum_over_time((({P99}) > bool 1)[15m:15s]) * 15");
        let mut seen = 0;
        for seed in 1..8 {
            let seconds = value(&scenario(Hour::SlowBriefly, seed), &above, 600);
            assert!(seconds <= 300.0, "seed {seed}: {seconds} s");
            seen += u32::from(seconds > 60.0);
        }
        assert!(seen >= 5, "{seen} of 7 show");
    }

    #[test]
    fn one_slow_instance_is_seen_in_its_own_p99_and_not_in_that_of_the_service() {
        let own = "avg(histogram_quantile(0.99, \
                   rate(worker_pool_task_duration_seconds_bucket{job=\"mail\"}[5m])))";
        for seed in 1..6 {
            let scenario = scenario(Hour::OneSlow, seed);
            for seconds in (420..1_500).step_by(60) {
                assert!(value(&scenario, P99, seconds) < 1.0);
            }
            let highest = format!("max_over_time(({own})[20m:1m])");
            let highest = value(&scenario, &highest, 1_400);
            assert!(highest > 1.2, "{highest} s");
        }
    }

    #[test]
    fn one_saturated_instance_is_one_of_three() {
        let full = "count(worker_pool_queue_size{job=\"mail\"} > 500)";
        let all = "count(worker_pool_queue_size{job=\"mail\"})";
        for seed in 1..6 {
            let scenario = scenario(Hour::OneSaturated, seed);
            assert!((value(&scenario, full, 300) - 1.0).abs() < 1e-9);
            assert!((value(&scenario, all, 300) - 3.0).abs() < 1e-9);
        }
    }

    #[test]
    fn saturation_and_latency_are_told_apart() {
        let shortest = "min(worker_pool_queue_size{job=\"mail\"})";
        let longest = "max(worker_pool_queue_size{job=\"mail\"})";
        for seed in 1..4 {
            let full = scenario(Hour::Saturated, seed);
            assert!(value(&full, shortest, 150) > 500.0);
            assert!(value(&full, P99, 600) < 1.0);
            let slow = scenario(Hour::Slow, seed);
            assert!(value(&slow, P99, 600) > 1.0);
            assert!(value(&slow, longest, 600) < 50.0);
        }
    }
}
