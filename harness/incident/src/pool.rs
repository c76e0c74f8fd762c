//! A worker pool behind an unbounded queue, in virtual time, and the scrape that it would expose.
//!
//! Tasks arrive as a Poisson process, wait in one queue for the first free of `workers`, and run
//! for a log-normally distributed time; a share of them hits something slow. A task that runs into
//! its time limit is given up and counted as a timeout; its worker is free at that moment. The
//! scrape is taken while the pool is running, so what waits and what runs then is in the gauges
//! and in nothing else.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fmt::Write as _;

use crate::chance::Chance;

/// What is wrong with the simulated pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: enough workers, short tasks.
    None,
    /// Every worker busy at the moment of the scrape, and yet nothing waits.
    BusyOnly,
    /// More traffic than the workers can serve.
    Overload,
    /// A share of the tasks meets a slow dependency; the workers are held by those.
    SlowDependency,
    /// Slow tasks, but workers to spare: a tail without a queue.
    TailOnly,
    /// Timeouts are counted, but never observed in the histogram.
    TimeoutsUnobserved,
}

impl Fault {
    /// Every kind, healthy ones included.
    pub const ALL: [Fault; 6] = [
        Fault::None,
        Fault::BusyOnly,
        Fault::Overload,
        Fault::SlowDependency,
        Fault::TailOnly,
        Fault::TimeoutsUnobserved,
    ];
}

/// How a pool is built and loaded. Times in seconds, rates per second.
#[derive(Clone, Debug, PartialEq)]
pub struct Setup {
    pub fault: Fault,
    pub workers: usize,
    /// Tasks per second.
    pub arrivals: f64,
    /// Median run time of an ordinary task.
    pub median: f64,
    /// Standard deviation of the logarithm of the run time.
    pub sigma: f64,
    /// Share of the tasks that meet the slow dependency, and how long it takes them (median).
    pub slow_share: f64,
    pub slow_median: f64,
    /// Share of the tasks that end in an error.
    pub error_share: f64,
    /// After this time on a worker a task is given up.
    pub timeout: f64,
    /// The upper bounds of the histogram, in seconds, without `+Inf`.
    pub bounds: Vec<f64>,
    /// How long the pool runs before the scrape.
    pub duration: f64,
}

impl Setup {
    /// A pool with this fault, its numbers drawn from `seed`.
    ///
    /// Utilization without a fault lies between 35 and 65 percent, so that a healthy pool hardly
    /// queues. Faulty pools get 6 to 25 percent more work than they can do: enough for a queue
    /// that is there at the scrape whatever chance does in between.
    pub fn drawn(fault: Fault, seed: u64) -> Self {
        let mut chance = Chance::of(seed);
        let workers = usize::try_from(*chance.pick(&[4_u64, 6, 8, 12, 16])).expect("small");
        let median = chance.between(0.006, 0.03);
        let sigma = chance.between(0.6, 1.0);
        let mean = median * libm::exp(sigma * sigma / 2.0);
        #[expect(clippy::cast_precision_loss, reason = "a few workers")]
        let capacity = workers as f64 / mean;
        let bounds = if chance.happens(0.5) {
            vec![0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5]
        } else {
            vec![0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0]
        };
        let mut setup = Setup {
            fault,
            workers,
            arrivals: capacity * chance.between(0.35, 0.65),
            median,
            sigma,
            slow_share: 0.0,
            slow_median: chance.between(3.2, 5.0),
            error_share: chance.between(0.001, 0.004),
            timeout: 6.0,
            bounds,
            duration: chance.between(80.0, 140.0),
        };
        match fault {
            Fault::None | Fault::BusyOnly => {}
            Fault::Overload => setup.arrivals = capacity * chance.between(1.06, 1.14),
            Fault::SlowDependency | Fault::TimeoutsUnobserved => {
                if fault == Fault::TimeoutsUnobserved {
                    setup.slow_median = chance.between(5.0, 6.0);
                }
                setup.slow_share = chance.between(0.011, 0.025);
                let held = mean + setup.slow_share * setup.slow_median;
                setup.arrivals = capacity * mean / held * chance.between(1.12, 1.25);
            }
            Fault::TailOnly => {
                setup.slow_share = chance.between(0.012, 0.02);
                let held = mean + setup.slow_share * setup.slow_median * 1.1;
                setup.arrivals = capacity * mean / held * chance.between(0.25, 0.4);
            }
        }
        setup
    }
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Ok,
    Error,
    Timeout,
}

/// What one run did, counted by the simulator itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Truth {
    pub fault: Fault,
    /// Finished tasks by how they ended.
    pub ok: u64,
    pub errors: u64,
    pub timeouts: u64,
    /// At the moment of the scrape.
    pub queued: u64,
    pub active: u64,
    pub workers: u64,
    /// All arrivals until the scrape: finished, running and waiting.
    pub arrived: u64,
    /// Sorted run times, in seconds, of the tasks that the histogram observed.
    pub observed: Vec<f64>,
}

impl Truth {
    /// Whether tasks wait while no worker is free.
    pub fn backpressure(&self) -> bool {
        self.queued > 0 && self.active == self.workers
    }
}

/// A run: the scrape, and what really happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// In the exposition format, with the metric names of the lab `18-1-1-read-pool-metrics`.
    pub scrape: String,
    pub truth: Truth,
}

/// Simulates a pool of `fault`, with everything else drawn from `seed`, up to its scrape.
pub fn simulate(fault: Fault, seed: u64) -> Run {
    run(&Setup::drawn(fault, seed), seed)
}

/// Simulates the pool of `setup`; `seed` shapes the arrivals and the run times.
pub fn run(setup: &Setup, seed: u64) -> Run {
    let mut chance = Chance::of(seed ^ 0x0005_EED0_FA11);
    let mut now = 0_u64;
    let end = micros(setup.duration);
    let mut next_arrival = micros(chance.exponential(1.0 / setup.arrivals));
    // What runs: when it ends, how long it ran, and how it ends.
    let mut running: BinaryHeap<Reverse<(u64, u64, u8)>> = BinaryHeap::new();
    let mut waiting: VecDeque<(u64, u8)> = VecDeque::new();
    let mut observed_micros: Vec<u64> = Vec::new();
    let mut truth = Truth {
        fault: setup.fault,
        ok: 0,
        errors: 0,
        timeouts: 0,
        queued: 0,
        active: 0,
        workers: setup.workers as u64,
        arrived: 0,
        observed: Vec::new(),
    };
    loop {
        let next_end = running.peek().map(|Reverse((at, ..))| *at);
        let at = next_end.map_or(next_arrival, |ends| ends.min(next_arrival));
        // The scrape happens at its time, or a moment later, when the gauges read as the fault
        // says: a healthy pool queues now and then, and that moment would be another lab.
        let idle_worker = running.len() < setup.workers;
        let settled = match setup.fault {
            Fault::None | Fault::TailOnly => idle_worker,
            Fault::BusyOnly => !idle_worker && waiting.is_empty(),
            Fault::Overload | Fault::SlowDependency | Fault::TimeoutsUnobserved => {
                !waiting.is_empty()
            }
        };
        if now >= end && settled {
            break;
        }
        now = at;
        if next_end == Some(now) {
            let Reverse((_, took, how)) = running.pop().expect("it was there");
            let how = END_OF[usize::from(how)];
            match how {
                End::Ok => truth.ok += 1,
                End::Error => truth.errors += 1,
                End::Timeout => truth.timeouts += 1,
            }
            if !(how == End::Timeout && setup.fault == Fault::TimeoutsUnobserved) {
                observed_micros.push(took);
            }
            if let Some((took, how)) = waiting.pop_front() {
                running.push(Reverse((now + took, took, how)));
            }
        } else {
            truth.arrived += 1;
            let (took, how) = task(setup, &mut chance);
            if running.len() < setup.workers {
                running.push(Reverse((now + took, took, how)));
            } else {
                waiting.push_back((took, how));
            }
            next_arrival = now + micros(chance.exponential(1.0 / setup.arrivals)).max(1);
        }
    }
    truth.queued = waiting.len() as u64;
    truth.active = running.len() as u64;
    observed_micros.sort_unstable();
    let scrape = expose(setup, &truth, &observed_micros);
    truth.observed = observed_micros
        .iter()
        .map(|&micros| seconds(micros))
        .collect();
    Run { scrape, truth }
}

const END_OF: [End; 3] = [End::Ok, End::Error, End::Timeout];

/// How long a task holds its worker, in microseconds, and how it ends.
fn task(setup: &Setup, chance: &mut Chance) -> (u64, u8) {
    let wants = if chance.happens(setup.slow_share) {
        chance.log_normal(setup.slow_median, 0.25)
    } else {
        chance.log_normal(setup.median, setup.sigma)
    };
    if wants >= setup.timeout {
        (micros(setup.timeout), 2)
    } else if chance.happens(setup.error_share) {
        (micros(wants), 1)
    } else {
        (micros(wants), 0)
    }
}

fn micros(seconds: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "times of a simulation are positive and far below 2^63 microseconds"
    )]
    let micros = (seconds * 1e6) as u64;
    micros.max(1)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53 microseconds")]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

fn expose(setup: &Setup, truth: &Truth, observed: &[u64]) -> String {
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, samples: &[(String, String)]| {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (suffix, value) in samples {
            let _ = writeln!(text, "{name}{suffix} {value}");
        }
        text.push('\n');
    };
    let plain = |value: u64| vec![(String::new(), value.to_string())];
    family(
        "worker_pool_queue_size",
        "gauge",
        "Tasks that wait in the queue",
        &plain(truth.queued),
    );
    family(
        "worker_pool_workers_active",
        "gauge",
        "Workers that are running a task",
        &plain(truth.active),
    );
    family(
        "worker_pool_workers_total",
        "gauge",
        "Workers that the pool is configured with",
        &plain(truth.workers),
    );
    let by_status = [
        ("ok", truth.ok),
        ("error", truth.errors),
        ("timeout", truth.timeouts),
    ]
    .map(|(status, count)| (format!("{{status=\"{status}\"}}"), count.to_string()));
    family(
        "worker_pool_tasks_total",
        "counter",
        "Tasks that left the pool",
        &by_status,
    );
    let below = |bound: f64| observed.partition_point(|&took| seconds(took) <= bound);
    let mut histogram: Vec<(String, String)> = setup
        .bounds
        .iter()
        .map(|&bound| {
            (
                format!("_bucket{{le=\"{bound:?}\"}}"),
                below(bound).to_string(),
            )
        })
        .collect();
    histogram.push(("_bucket{le=\"+Inf\"}".into(), observed.len().to_string()));
    let sum = observed.iter().sum::<u64>();
    histogram.push(("_sum".into(), format!("{}", seconds(sum))));
    histogram.push(("_count".into(), observed.len().to_string()));
    family(
        "worker_pool_task_duration_seconds",
        "histogram",
        "How long tasks ran",
        &histogram,
    );
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_arrival_is_finished_running_or_waiting() {
        for fault in Fault::ALL {
            for seed in 0..10 {
                let truth = simulate(fault, seed).truth;
                assert_eq!(
                    truth.arrived,
                    truth.ok + truth.errors + truth.timeouts + truth.active + truth.queued,
                    "{fault:?} {seed}"
                );
            }
        }
    }

    #[test]
    fn each_fault_shows_what_it_is_named_for() {
        for seed in 0..20 {
            let truth = |fault| simulate(fault, seed).truth;
            let beyond = |truth: &Truth, bound: f64| {
                truth.observed.iter().filter(|&&took| took > bound).count() as f64
                    / truth.observed.len() as f64
            };
            assert!(!truth(Fault::None).backpressure(), "{seed}");
            let busy = truth(Fault::BusyOnly);
            assert!(busy.active == busy.workers && busy.queued == 0, "{seed}");
            assert!(truth(Fault::Overload).backpressure(), "{seed}");
            let slow = truth(Fault::SlowDependency);
            assert!(slow.backpressure(), "{seed}");
            assert!(beyond(&slow, 2.5) > 0.006, "{seed}: {}", beyond(&slow, 2.5));
            let tail = truth(Fault::TailOnly);
            assert!(!tail.backpressure(), "{seed}");
            assert!(beyond(&tail, 2.5) > 0.006, "{seed}: {}", beyond(&tail, 2.5));
            let unobserved = truth(Fault::TimeoutsUnobserved);
            let finished = unobserved.ok + unobserved.errors + unobserved.timeouts;
            assert_eq!(
                finished - unobserved.observed.len() as u64,
                unobserved.timeouts,
                "{seed}"
            );
            assert!(unobserved.timeouts > 0, "{seed}");
        }
    }

    #[test]
    fn littles_law_holds_for_the_busy_workers_of_a_healthy_pool() {
        // L = λ W (Little, 1961): the mean number of busy workers is the arrival rate times the
        // mean run time. Measured here as the time that workers were held, over the duration.
        for seed in 0..10 {
            let setup = Setup {
                duration: 600.0,
                ..Setup::drawn(Fault::None, seed)
            };
            let truth = run(&setup, seed).truth;
            let held: f64 = truth.observed.iter().sum();
            let mean = setup.median * libm::exp(setup.sigma * setup.sigma / 2.0);
            let ratio = held / setup.duration / (setup.arrivals * mean);
            assert!((0.95..1.05).contains(&ratio), "seed {seed}: {ratio}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let scrape = simulate(Fault::SlowDependency, 42).scrape;
        assert_eq!(scrape, simulate(Fault::SlowDependency, 42).scrape);
        assert_ne!(scrape, simulate(Fault::SlowDependency, 43).scrape);
    }
}
