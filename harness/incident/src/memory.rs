//! Days of a process's memory: flat, with the season, warming up, or leaking.
//!
//! For labs that tell a leak from what only looks like one and forecast when memory ends. The
//! process has a collector, whose pauses grow with what is alive, and whose pauses are in the tail
//! of the latency. A model of curves and noise, not of an allocator: for leaks that follow from
//! requests see [`crate::service`].
//!
//! ```
//! use incident::memory::{Growth, simulate};
//!
//! let run = simulate(&Growth::Accelerating.drawn(2));
//! assert!(run.truth().leaks);
//! assert!(run.truth().ends_at_ms > Some(run.setup().begins * 1_000));
//! ```

use crate::chance::Chance;
use crate::service::Series;
use crate::service::registry::{self, Metric, Recorder};

const GB: f64 = 1e9;
const DAY: f64 = 86_400.0;

/// How memory changes over the days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// It does not.
    Flat,
    /// With the traffic of the day, and less on the weekend.
    Seasonal,
    /// A cache that fills for two or three days and is full then.
    WarmUp,
    /// As much each day.
    Linear,
    /// More each day than the day before.
    Accelerating,
}

impl Growth {
    /// Every kind; the first three do not leak.
    pub const ALL: [Growth; 5] = [
        Growth::Flat,
        Growth::Seasonal,
        Growth::WarmUp,
        Growth::Linear,
        Growth::Accelerating,
    ];

    pub fn leaks(self) -> bool {
        matches!(self, Growth::Linear | Growth::Accelerating)
    }

    /// A week of this kind; everything else is drawn from `seed`.
    pub fn drawn(self, seed: u64) -> Setup {
        let mut chance = Chance::of(seed ^ 0x0E07);
        let setup = Setup {
            growth: self,
            service: (*chance.pick(&["sessions", "feed", "quotes", "reports"])).into(),
            begins: 1_735_689_600 + 86_400 * i64::try_from(chance.whole(0, 350)).expect("days"),
            days: 7.0,
            step: 300.0,
            base: chance.between(1.6, 2.8) * GB,
            season: chance.between(0.03, 0.09) * GB,
            per_day: 0.0,
            acceleration: 0.0,
            warm_up: 0.0,
            limit: 8.0 * GB,
            restart_at: None,
            noise: chance.between(0.01, 0.03) * GB,
            pause: chance.between(0.0015, 0.003),
            latency: chance.between(0.03, 0.06),
            seed,
        };
        match self {
            Growth::Flat => Setup {
                base: chance.between(2.0, 5.5) * GB,
                ..setup
            },
            Growth::Seasonal => Setup {
                base: chance.between(2.0, 4.0) * GB,
                season: chance.between(0.5, 1.1) * GB,
                ..setup
            },
            Growth::WarmUp => Setup {
                warm_up: chance.between(1.0, 2.2) * GB,
                ..setup
            },
            Growth::Linear => Setup {
                per_day: chance.between(0.2, 0.6) * GB,
                ..setup
            },
            Growth::Accelerating => Setup {
                per_day: chance.between(0.15, 0.35) * GB,
                acceleration: chance.between(0.06, 0.12) * GB,
                ..setup
            },
        }
    }
}

/// A week, before it happens. Bytes, and seconds unless a name says days.
#[derive(Clone, Debug, PartialEq)]
pub struct Setup {
    pub growth: Growth,
    pub service: String,
    /// Unix time, in seconds.
    pub begins: i64,
    pub days: f64,
    /// Between two samples.
    pub step: f64,
    /// Alive at the beginning, at night.
    pub base: f64,
    /// What the traffic of a day adds at its peak.
    pub season: f64,
    /// What stays behind each day, at the beginning.
    pub per_day: f64,
    /// By how much that grows each day.
    pub acceleration: f64,
    /// What a cache adds once it is full.
    pub warm_up: f64,
    /// Where the process is killed.
    pub limit: f64,
    /// When somebody starts the process again.
    pub restart_at: Option<f64>,
    /// Standard deviation of a slow noise.
    pub noise: f64,
    /// 99th percentile of the collector's pauses with [`Setup::base`] alive.
    pub pause: f64,
    /// 99th percentile of the request duration without the pauses.
    pub latency: f64,
    pub seed: u64,
}

impl Setup {
    /// What is alive `age` seconds after the start, without season and noise.
    fn trend(&self, age: f64) -> f64 {
        let days = age / DAY;
        self.base
            + self.warm_up * (1.0 - libm::exp(-days / 0.7))
            + self.per_day * days
            + self.acceleration * days * days / 2.0
    }
}

/// What is so, whatever the noise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Truth {
    pub leaks: bool,
    /// Bytes a day at the end of the window, season and noise aside; 0 without a leak.
    pub per_day_at_end: f64,
    /// When the trend reaches the limit if it goes on as it is, in milliseconds of Unix time;
    /// `None` when it never does.
    pub ends_at_ms: Option<i64>,
    /// The same if it went on as at the end of the window, without further acceleration.
    pub ends_linearly_at_ms: Option<i64>,
}

/// A moment, for tables.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Day {
    /// From 1.
    pub day: u32,
    /// Means of the day: bytes, seconds, seconds.
    pub heap: f64,
    pub pause_p99: f64,
    pub latency_p99: f64,
}

/// A week that has happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    setup: Setup,
    series: Vec<Series>,
    days: Vec<Day>,
    truth: Truth,
}

impl Run {
    /// `heap_live_bytes`, `process_resident_memory_bytes`, `gc_pause_p99_seconds`,
    /// `http_request_p99_seconds`, `process_start_time_seconds` and `up`, of one instance.
    pub fn series(&self) -> impl Iterator<Item = &Series> {
        self.series.iter()
    }

    /// In the OpenMetrics text format with timestamps.
    pub fn openmetrics(&self) -> String {
        registry::openmetrics(self.series.iter())
    }

    /// The means of each day.
    pub fn days(&self) -> &[Day] {
        &self.days
    }

    pub fn truth(&self) -> Truth {
        self.truth
    }

    pub fn setup(&self) -> &Setup {
        &self.setup
    }
}

/// Lets the days happen.
///
/// # Panics
/// When the step is not a positive number of seconds.
pub fn simulate(setup: &Setup) -> Run {
    assert!(setup.step > 0.0, "a step of {} s", setup.step);
    let mut chance = Chance::of(setup.seed ^ 0x000E_0E07);
    let host = chance.whole(2, 250);
    let mut recorder = Recorder::new(&setup.service, format!("10.6.0.{host}:9100"));
    let mut noises = [0.0; 3];
    let mut days: Vec<(u32, [f64; 3])> = Vec::new();
    let mut started = 0.0;
    let end = setup.days * DAY;
    let mut at = 0.0;
    while at <= end {
        if setup
            .restart_at
            .is_some_and(|restart| started < restart && restart <= at)
        {
            started = at;
        }
        let keep = libm::exp(-setup.step / 5_400.0);
        for noise in &mut noises {
            *noise = keep * *noise + libm::sqrt(1.0 - keep * keep) * chance.normal();
        }
        let mut heap = setup.trend(at - started) + setup.season * wave(setup, at);
        heap += setup.noise * noises[0];
        if heap > setup.limit {
            // Killed; the orchestrator starts it again before the next sample.
            started = at;
            heap = setup.trend(0.0) + setup.season * wave(setup, at);
        }
        // Marking visits what is alive. Exponential in it as long as the collector cannot keep
        // pace with the allocations of a heap this full: 7.5 times for each quarter of the limit.
        let pause = setup.pause * libm::exp((heap - setup.base) / setup.limit * 8.0);
        let pause = pause * libm::exp(0.06 * noises[1]);
        let latency = setup.latency * libm::exp(0.02 * noises[2]) + 2.0 * pause;
        let day = 1 + floor(at / DAY);
        let resident = libm::floor((heap * 1.12 + 0.18 * GB) / 4_096.0) * 4_096.0;
        recorder.begin(setup.begins * 1_000 + millis(at));
        #[expect(clippy::cast_precision_loss, reason = "Unix time in seconds")]
        let start_time = if started > 0.0 {
            setup.begins as f64 + started
        } else {
            setup.begins as f64 - 1_860.0
        };
        for (metric, value) in [
            (Metric::HeapBytes, libm::floor(heap)),
            (Metric::Resident, resident),
            (Metric::GcPause, pause),
            (Metric::RequestP99, latency),
            (Metric::StartTime, start_time),
        ] {
            recorder.put((metric, 0, 0, 0), value, Vec::new);
        }
        if at < end {
            match days.last_mut() {
                Some((same, sums)) if *same == day => {
                    for (sum, value) in sums.iter_mut().zip([heap, pause, latency]) {
                        *sum += value;
                    }
                }
                _ => days.push((day, [heap, pause, latency])),
            }
        }
        at += setup.step;
    }
    let samples_a_day = DAY / setup.step;
    let days = days
        .into_iter()
        .map(|(day, sums)| Day {
            day,
            heap: sums[0] / samples_a_day,
            pause_p99: sums[1] / samples_a_day,
            latency_p99: sums[2] / samples_a_day,
        })
        .collect();
    let mut series = Vec::new();
    recorder.into_series(&mut series);
    registry::sort(&mut series);
    Run {
        truth: truth(setup),
        setup: setup.clone(),
        series,
        days,
    }
}

/// From 0 at night to 1 in the afternoon, and less on the weekend.
fn wave(setup: &Setup, at: f64) -> f64 {
    crate::service::Load::daily(0.0, 1.0)
        .weekend(0.55)
        .rate(setup.begins, at)
}

fn truth(setup: &Setup) -> Truth {
    let leaks = setup.per_day > 0.0 || setup.acceleration > 0.0;
    let days = setup.days;
    let slope = setup.per_day + setup.acceleration * days;
    let room = setup.limit - setup.trend(days * DAY);
    let when = |more_days: f64| Some(setup.begins * 1_000 + millis((days + more_days) * DAY));
    let linearly = if leaks { when(room / slope) } else { None };
    let ends = if setup.acceleration > 0.0 {
        // room = slope * d + acceleration * d² / 2
        let root = libm::sqrt(slope * slope + 2.0 * setup.acceleration * room.max(0.0));
        when((root - slope) / setup.acceleration)
    } else {
        linearly
    };
    Truth {
        leaks,
        per_day_at_end: if leaks { slope } else { 0.0 },
        ends_at_ms: ends,
        ends_linearly_at_ms: linearly,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "milliseconds of some days")]
fn millis(seconds: f64) -> i64 {
    (seconds * 1_000.0) as i64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number of days"
)]
fn floor(days: f64) -> u32 {
    days as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_leaks_grow_from_the_fourth_day_to_the_seventh() {
        for growth in Growth::ALL {
            for seed in 0..20 {
                let run = simulate(&growth.drawn(seed));
                // The same weekday a week apart would be better; a week has only one. The trend of
                // the truth is told apart by what it adds in three days, season aside.
                let setup = run.setup();
                let season = |day: f64| {
                    let hours =
                        (0..24).map(|hour| wave(setup, DAY * day + 3_600.0 * f64::from(hour)));
                    setup.season * hours.sum::<f64>() / 24.0
                };
                let days = run.days();
                let grown = (days[6].heap - season(6.0)) - (days[3].heap - season(3.0));
                assert_eq!(grown > 0.3e9, growth.leaks(), "{growth:?} {seed}: {grown}");
                assert_eq!(run.truth().leaks, growth.leaks());
                assert_eq!(run.truth().ends_at_ms.is_some(), growth.leaks());
            }
        }
    }

    #[test]
    fn the_forecast_is_where_the_trend_meets_the_limit() {
        for growth in [Growth::Linear, Growth::Accelerating] {
            for seed in 0..20 {
                let setup = growth.drawn(seed);
                let truth = truth(&setup);
                let ends = truth.ends_at_ms.unwrap();
                let age = (ends - setup.begins * 1_000) as f64 / 1_000.0;
                assert!(
                    (setup.trend(age) / setup.limit - 1.0).abs() < 1e-6,
                    "{seed}"
                );
                let linearly = truth.ends_linearly_at_ms.unwrap();
                assert!(ends <= linearly, "{growth:?} {seed}");
                assert_eq!(ends < linearly, growth == Growth::Accelerating);
            }
        }
    }

    #[test]
    fn pauses_and_latency_grow_with_the_heap() {
        let run = simulate(&Growth::Accelerating.drawn(4));
        let days = run.days();
        assert_eq!(days.len(), 7);
        assert!(days[6].pause_p99 > 4.0 * days[0].pause_p99, "{days:?}");
        assert!(days[6].latency_p99 > 1.2 * days[0].latency_p99, "{days:?}");
    }

    #[test]
    fn a_restart_begins_again_at_the_base() {
        let mut setup = Growth::Linear.drawn(1);
        setup.restart_at = Some(6.0 * DAY);
        let run = simulate(&setup);
        assert!(run.days()[6].heap < run.days()[5].heap, "{:?}", run.days());
    }

    #[test]
    fn the_same_seed_gives_the_same_week() {
        let text = |seed| simulate(&Growth::Seasonal.drawn(seed)).openmetrics();
        assert_eq!(text(1), text(1));
        assert_ne!(text(1), text(2));
    }
}
