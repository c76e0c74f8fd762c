//! A pipeline that makes thumbnails: decode, resize, encode, store, with a bounded queue before each.
//!
//! For dashboards and alerts that have to tell which stage holds the others up. Behind a stage that
//! is short of something the queues are empty; before it, one after the other fills up, because a
//! worker keeps its image until the next queue has room.
//!
//! The stages are those of [`crate::service`]: `worker_queue_depth`, `workers_active` and their kin
//! have the label `stage`. Not for what is in the images.

use crate::calendar::rfc3339_millis;
use crate::chance::Chance;
use crate::service::{
    Dependency, Deploy, Fault, Load, Memory, Route, Scenario, Service, Setup, Step, Tier, Time,
};

/// The stages in the order in which an image goes through them.
pub const STAGES: [&str; 4] = ["decode", "resize", "encode", "store"];
/// Of both instances together, in images per second.
pub const USUAL_RATE: f64 = 40.0;
/// When it happens, in seconds from the beginning of the window.
pub const STARTS_AT: f64 = 480.0;
/// How long the window is, in seconds.
pub const LASTS: f64 = 960.0;

/// The lock that every stage takes for a moment: a table, a scratch buffer, the connection.
const LOCKS: [&str; 4] = ["jpeg_tables", "scratch", "palette", "uplink"];
/// Seconds for which it is held, on average.
const HELD: f64 = 0.005;
const CORES: u32 = 2;
/// Where thumbnails are kept.
const OBJECTS: &str = "objects";
/// What an instance that is being tried out gets of all images.
const OF_THE_CANARY: f64 = 0.006;
/// Bytes of a process with full caches.
const BASE_WHEN_BUSY: f64 = 860e6;

/// What a quarter of an hour is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// Healthy: nothing happens.
    Quiet,
    /// Healthy: half as many images again.
    Busy,
    /// Healthy: twice the images, for a minute and a half.
    Spike,
    /// Healthy: a release that changes nothing.
    Release,
    /// Healthy: a third of the usual images.
    Night,
    /// Healthy: a third instance gets six images in a thousand, of which many are late or fail.
    Canary,
    /// A stage, by its index in [`STAGES`], does fewer images than come in.
    Bottleneck(usize),
    /// More images than the cores can work on.
    Cores,
    /// A release after which 6 % of the images fail.
    Failing,
    /// Hardly an image comes in.
    Silence,
    /// Every image of one of the instances leaves memory behind.
    Leak,
    /// Three images in a hundred are late, and nothing is short.
    SomeLate,
    /// Seven in a hundred.
    ManyLate,
}

impl Case {
    /// Those in which nothing is wrong.
    pub const HEALTHY: [Case; 6] = [
        Case::Quiet,
        Case::Busy,
        Case::Spike,
        Case::Release,
        Case::Night,
        Case::Canary,
    ];

    /// What happens, in a few words.
    pub fn tells(self) -> &'static str {
        match self {
            Case::Quiet => "nothing: an ordinary quarter of an hour",
            Case::Busy => "nothing: a busy quarter of an hour",
            Case::Spike => "twice the images, for a minute and a half",
            Case::Release => "a release that changes nothing",
            Case::Night => "nothing: a night, with a third of the images",
            Case::Canary => "an instance with few images is slow, and fails",
            Case::Bottleneck(0) => "decode does fewer images than come in",
            Case::Bottleneck(1) => "resize does fewer images than come in",
            Case::Bottleneck(2) => "encode does fewer images than come in",
            Case::Bottleneck(_) => "store does fewer images than come in",
            Case::Cores => "more images come in than the cores can work on",
            Case::Failing => "6 % of the images fail in a new release",
            Case::Silence => "hardly an image comes in any more",
            Case::Leak => "on one instance every image leaves memory behind",
            Case::SomeLate => "3 % of the images wait for the store of objects",
            Case::ManyLate => "7 % of the images wait for the store of objects",
        }
    }
}

/// A quarter of an hour of the pipeline, in which something happens after [`STARTS_AT`] seconds: the
/// instances that are alike, and after them the one that is not, where there is one. They run beside
/// each other.
///
/// # Panics
/// When the bottleneck is no index of [`STAGES`].
pub fn fleet(case: Case, seed: u64) -> Vec<Setup> {
    let all = setup(case, seed);
    let mut alone = all.clone();
    alone.service.instances = 1;
    alone.seed ^= 0x0A1_0E00 << 32;
    let mut others = all;
    match case {
        Case::Leak => {
            others.service.instances = 1;
            others.scenarios.clear();
            for load in [&mut others.load, &mut alone.load] {
                *load = of(load, 0.5);
            }
            vec![others, alone]
        }
        Case::Canary => {
            others.scenarios.clear();
            alone.load = of(&alone.load, OF_THE_CANARY);
            vec![others, alone]
        }
        _ => vec![others],
    }
}

/// A share of a load.
fn of(load: &Load, share: f64) -> Load {
    let mut part = load.clone();
    (part.low, part.high) = (share * load.low, share * load.high);
    part
}

/// The lines that the processes of a fleet write of their own accord beside those about images: of the
/// level `error`, and of others, in which the word occurs. JSON, one a line.
pub fn own_lines(fleet: &[Setup]) -> String {
    let mut lines = String::new();
    for setup in fleet {
        let service = &setup.service.name;
        for (after, level, message) in [
            (40, "info", "the page for errors was read again"),
            (
                410,
                "error",
                "could not rotate the access log: no space left on device",
            ),
            (
                425,
                "warn",
                "2 of 3 metrics exporters answer, the last error was a timeout",
            ),
            (
                520,
                "error",
                "could not reload the color tables: permission denied",
            ),
        ] {
            let time = rfc3339_millis((setup.begins + after) * 1_000);
            lines.push_str(&format!(
                "{{\"time\":\"{time}\",\"level\":\"{level}\",\"service\":\"{service}\",\
                 \"message\":\"{message}\"}}\n"
            ));
        }
    }
    lines
}

fn setup(case: Case, seed: u64) -> Setup {
    let mut chance = Chance::of(seed ^ 0x001A_A6E5);
    let rate = USUAL_RATE * chance.between(0.9, 1.1);
    let rate = match case {
        Case::Busy => 1.5 * rate,
        Case::Night => rate / 3.0,
        _ => rate,
    };
    let mut load = Load::constant(rate).noise(0.04);
    let mut deploys = Vec::new();
    let mut faults = Vec::new();
    let late = |share: f64, median: f64| Fault::SlowDependency {
        dependency: OBJECTS.into(),
        share,
        median,
        sigma: 0.1,
    };
    let failing = |error_share: f64| Fault::BadDeploy {
        version: "2.8.0".into(),
        stagger: 40.0,
        compute_factor: 1.0,
        allocation_factor: 1.0,
        error_share,
    };
    match case {
        Case::Quiet | Case::Busy | Case::Night => {}
        Case::Canary => faults.extend([failing(0.15), late(0.55, 3.2)]),
        Case::SomeLate => faults.push(late(0.03, 1.6)),
        Case::ManyLate => faults.push(late(0.07, 1.6)),
        Case::Spike => load = load.spike(STARTS_AT, chance.between(1.8, 2.0), 90.0),
        Case::Silence => load = load.spike(STARTS_AT, 0.01, LASTS),
        Case::Release => deploys.push(Deploy::new(STARTS_AT, "2.8.0")),
        Case::Bottleneck(stage) => {
            // One holder at a time: above 1 more is asked for than can be had.
            let wanted = chance.between(1.5, 1.9);
            faults.push(Fault::LockContention {
                lock: LOCKS[stage].into(),
                factor: wanted / (HELD * rate / 2.0),
            });
        }
        Case::Cores => {
            let used = rate / 2.0 * compute_seconds() / f64::from(CORES);
            faults.push(Fault::TrafficSurge {
                factor: chance.between(1.25, 1.4) / used,
            });
        }
        Case::Failing => faults.push(failing(0.06)),
        Case::Leak => {
            faults.push(Fault::MemoryLeak {
                bytes_per_request: 1.42e9 / (rate / 2.0 * (LASTS - STARTS_AT)),
                acceleration: 0.0,
            });
        }
    }
    let mut service = service();
    if case == Case::Busy {
        // Each process is far below its limit; both together are not.
        service.memory.base = BASE_WHEN_BUSY;
    }
    let mut setup = Setup::new(service, load, seed)
        .lasting(LASTS)
        .beginning(1_741_784_400 + 60 * i64::try_from(chance.whole(0, 600)).expect("small"));
    setup.deploys = deploys;
    setup.scenarios = faults
        .into_iter()
        .map(|fault| Scenario::new(fault, STARTS_AT))
        .collect();
    setup.metrics_only()
}

const DECODE: f64 = 0.010;
const RESIZE: f64 = 0.012;
const ENCODE: f64 = 0.009;

/// Seconds of a core for each image, on average.
fn compute_seconds() -> f64 {
    [DECODE, RESIZE, ENCODE]
        .map(|median| Time::about(median).mean())
        .iter()
        .sum()
}

fn service() -> Service {
    let brief = |lock: &str| Step::locked(lock, [Step::wait(Time::Exponential { mean: HELD })]);
    let steps = |store: f64| {
        vec![
            Step::compute(Time::about(DECODE)),
            brief(LOCKS[0]),
            Step::hand_over(STAGES[1]),
            Step::compute(Time::about(RESIZE)),
            brief(LOCKS[1]),
            Step::hand_over(STAGES[2]),
            Step::compute(Time::about(ENCODE)),
            brief(LOCKS[2]),
            Step::hand_over(STAGES[3]),
            brief(LOCKS[3]),
            Step::call(OBJECTS, Time::about(store)),
        ]
    };
    let mut service = Service::new("thumbnails")
        .instances(2)
        .cores(CORES)
        .version("2.7.3")
        .dependency(Dependency::new(OBJECTS, 200).errors(0.001))
        .errors(0.001)
        .memory(Memory {
            base: 420e6,
            ..Memory::default()
        });
    for stage in STAGES {
        service = service.tier(Tier::new(stage, 12).queue(400));
    }
    for (path, weight, store) in [
        ("/thumbnails/jpeg", 6.0, 0.040),
        ("/thumbnails/png", 3.0, 0.055),
        ("/thumbnails/webp", 1.0, 0.045),
    ] {
        service = service.route(Route::new("POST", path, weight).steps(steps(store)));
    }
    service
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::simulate;

    #[test]
    fn the_queue_before_the_bottleneck_is_the_first_to_fill_up() {
        for (nth, stage) in STAGES.iter().enumerate() {
            let setup = setup(Case::Bottleneck(nth), 7);
            let run = simulate(&setup);
            let at_ms = (setup.begins + 600) * 1_000;
            let depth = |stage: &str| {
                let labels = [("stage", stage)];
                run.level("worker_queue_depth", &labels, at_ms, at_ms + 60_000)
                    .unwrap()
            };
            assert!(depth(stage) > 400.0, "{stage}: {}", depth(stage));
            for behind in &STAGES[nth + 1..] {
                assert!(depth(behind) < 5.0, "{behind}: {}", depth(behind));
            }
        }
    }

    #[test]
    fn all_queues_are_short_in_healthy_times_and_when_images_are_late() {
        for case in Case::HEALTHY.into_iter().chain([Case::ManyLate]) {
            for setup in fleet(case, 5) {
                let run = simulate(&setup);
                for series in run.series().filter(|of| of.name() == "worker_queue_depth") {
                    let most = series.samples().iter().map(|sample| sample.1);
                    assert!(most.fold(0.0, f64::max) < 60.0, "{case:?}");
                }
            }
        }
    }

    /// Of the images that ended in the last eight minutes: how many, the share that took at most a
    /// second, and the share that failed.
    fn ended(fleet: &[Setup]) -> (f64, f64, f64) {
        let (mut all, mut within, mut failed) = (0.0, 0.0, 0.0);
        for setup in fleet {
            let run = simulate(setup);
            let from_ms = (setup.begins + 480) * 1_000;
            for series in run.series() {
                let (samples, labels) = (series.samples(), series.labels());
                let first = samples.partition_point(|&(at_ms, _)| at_ms < from_ms);
                let (before, last) = (
                    samples[first.min(samples.len() - 1)].1,
                    samples[samples.len() - 1].1,
                );
                // A release has begun anew.
                let grown = if last < before { last } else { last - before };
                let is = |name, value: &str| labels.get(name) == Some(value);
                match series.name() {
                    "http_request_duration_seconds_count" => all += grown,
                    "http_request_duration_seconds_bucket" if is("le", "1.0") => within += grown,
                    "http_requests_total" if !is("status", "200") => failed += grown,
                    _ => {}
                }
            }
        }
        (all, within / all, failed / all)
    }

    #[test]
    fn late_images_are_three_or_seven_in_a_hundred_and_none_where_one_instance_hardly_counts() {
        for seed in 0..3 {
            let of = |case| ended(&fleet(case, seed));
            let (_, some, failed) = of(Case::SomeLate);
            assert!(
                (0.965..0.975).contains(&some) && failed < 0.005,
                "{some} {failed}"
            );
            let (_, many, failed) = of(Case::ManyLate);
            assert!(
                (0.920..0.940).contains(&many) && failed < 0.005,
                "{many} {failed}"
            );
            let (_, canary, failed) = of(Case::Canary);
            assert!(canary > 0.994 && failed < 0.005, "{canary} {failed}");
            let (alone, own, failed) = ended(&fleet(Case::Canary, seed)[1..]);
            assert!(
                alone > 60.0 && own < 0.6 && failed > 0.05,
                "{alone} {own} {failed}"
            );
            let (night, within, failed) = of(Case::Night);
            assert!((11.5..15.5).contains(&(night / 480.0)), "{night}");
            assert!(within > 0.999 && failed < 0.005, "{within} {failed}");
        }
    }

    #[test]
    fn memory_is_short_in_one_process_and_never_in_their_sum() {
        let most = |case| -> Vec<f64> {
            let mut most = Vec::new();
            for setup in fleet(case, 3) {
                for series in simulate(&setup).series() {
                    if series.name() == "process_resident_memory_bytes" {
                        let values = series.samples().iter().map(|sample| sample.1);
                        most.push(values.fold(0.0, f64::max));
                    }
                }
            }
            most.sort_by(f64::total_cmp);
            most
        };
        let [one, leaking] = most(Case::Leak)[..] else {
            panic!("two processes");
        };
        assert!(
            leaking > 1.65e9 && f64::midpoint(one, leaking) < 1.4e9,
            "{one} {leaking}"
        );
        let busy = most(Case::Busy);
        assert!(busy[1] < 1.2e9 && busy[0] + busy[1] > 1.65e9, "{busy:?}");
    }
}
