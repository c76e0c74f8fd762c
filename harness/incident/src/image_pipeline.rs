//! A pipeline that makes thumbnails: decode, resize, encode, store, with a bounded queue before each.
//!
//! For dashboards and alerts that have to tell which stage holds the others up. Behind a stage that
//! is short of something the queues are empty; before it, one after the other fills up, because a
//! worker keeps its image until the next queue has room.
//!
//! The stages are those of [`crate::service`]: `worker_queue_depth`, `workers_active` and their kin
//! have the label `stage`. Not for what is in the images.

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
    /// A stage, by its index in [`STAGES`], does fewer images than come in.
    Bottleneck(usize),
    /// More images than the cores can work on.
    Cores,
    /// A release after which 6 % of the images fail.
    Failing,
    /// Hardly an image comes in.
    Silence,
    /// Every image leaves memory behind.
    Leak,
}

impl Case {
    /// Those in which nothing is wrong.
    pub const HEALTHY: [Case; 4] = [Case::Quiet, Case::Busy, Case::Spike, Case::Release];

    /// What happens, in a few words.
    pub fn tells(self) -> &'static str {
        match self {
            Case::Quiet => "nothing: an ordinary quarter of an hour",
            Case::Busy => "nothing: a busy quarter of an hour",
            Case::Spike => "twice the images, for a minute and a half",
            Case::Release => "a release that changes nothing",
            Case::Bottleneck(0) => "decode does fewer images than come in",
            Case::Bottleneck(1) => "resize does fewer images than come in",
            Case::Bottleneck(2) => "encode does fewer images than come in",
            Case::Bottleneck(_) => "store does fewer images than come in",
            Case::Cores => "more images come in than the cores can work on",
            Case::Failing => "6 % of the images fail in a new release",
            Case::Silence => "hardly an image comes in any more",
            Case::Leak => "every image leaves memory behind",
        }
    }
}

/// A quarter of an hour of the pipeline, in which something happens after [`STARTS_AT`] seconds.
///
/// # Panics
/// When the bottleneck is no index of [`STAGES`].
pub fn setup(case: Case, seed: u64) -> Setup {
    let mut chance = Chance::of(seed ^ 0x001A_A6E5);
    let rate = USUAL_RATE * chance.between(0.9, 1.1);
    let rate = if case == Case::Busy { 1.5 * rate } else { rate };
    let mut load = Load::constant(rate).noise(0.04);
    let mut deploys = Vec::new();
    let mut fault = None;
    match case {
        Case::Quiet | Case::Busy => {}
        Case::Spike => load = load.spike(STARTS_AT, chance.between(1.8, 2.0), 90.0),
        Case::Silence => load = load.spike(STARTS_AT, 0.01, LASTS),
        Case::Release => deploys.push(Deploy::new(STARTS_AT, "2.8.0")),
        Case::Bottleneck(stage) => {
            // One holder at a time: above 1 more is asked for than can be had.
            let wanted = chance.between(1.5, 1.9);
            fault = Some(Fault::LockContention {
                lock: LOCKS[stage].into(),
                factor: wanted / (HELD * rate / 2.0),
            });
        }
        Case::Cores => {
            let used = rate / 2.0 * compute_seconds() / f64::from(CORES);
            fault = Some(Fault::TrafficSurge {
                factor: chance.between(1.25, 1.4) / used,
            });
        }
        Case::Failing => {
            fault = Some(Fault::BadDeploy {
                version: "2.8.0".into(),
                stagger: 40.0,
                compute_factor: 1.0,
                allocation_factor: 1.0,
                error_share: 0.06,
            });
        }
        Case::Leak => {
            fault = Some(Fault::MemoryLeak {
                bytes_per_request: 1.42e9 / (rate / 2.0 * (LASTS - STARTS_AT)),
                acceleration: 0.0,
            });
        }
    }
    let mut setup = Setup::new(service(), load, seed)
        .lasting(LASTS)
        .beginning(1_741_784_400 + 60 * i64::try_from(chance.whole(0, 600)).expect("small"));
    setup.deploys = deploys;
    setup.scenarios = fault
        .map(|fault| Scenario::new(fault, STARTS_AT))
        .into_iter()
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
            Step::call("objects", Time::about(store)),
        ]
    };
    let mut service = Service::new("thumbnails")
        .instances(2)
        .cores(CORES)
        .version("2.7.3")
        .dependency(Dependency::new("objects", 200).errors(0.001))
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
    fn all_queues_are_short_in_healthy_times() {
        for case in Case::HEALTHY {
            let setup = setup(case, 5);
            let run = simulate(&setup);
            for series in run.series().filter(|of| of.name() == "worker_queue_depth") {
                let most = series.samples().iter().map(|sample| sample.1);
                assert!(most.fold(0.0, f64::max) < 60.0, "{case:?}");
            }
        }
    }
}
