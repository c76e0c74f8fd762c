//! The heap of a service over some days and over its restarts, sampled every hour, and when it
//! would be full.
//!
//! A day has a rhythm: traffic rises and falls, and a part of the heap with it. Under that lies the
//! course of the life: level, filling up, growing with the traffic, or leaking. Truth is taken from
//! the course itself, before noise.
//!
//! Not a model of a collector: pauses and cycles are not simulated.

use std::fmt::Write as _;

use crate::chance::Chance;

/// Seconds between two samples.
pub const STEP: i64 = 3_600;
const DAY: i64 = 86_400;
/// The first sample of every dump: Monday, 2025-11-03, 00:00 UTC.
const EPOCH: i64 = 1_762_128_000;

/// What the heap does from the start of a process to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// Level, whatever its height.
    Level,
    /// Fills a cache in its first days, and is level from then on.
    WarmUp,
    /// Grows because there is more traffic every day.
    Launch,
    /// Loses the same amount every day.
    Linear,
    /// Loses more every day.
    Accelerating,
}

impl Course {
    /// Every kind, healthy ones first.
    pub const ALL: [Course; 5] = [
        Course::Level,
        Course::WarmUp,
        Course::Launch,
        Course::Linear,
        Course::Accelerating,
    ];

    /// Whether memory is lost.
    pub fn leaks(self) -> bool {
        matches!(self, Course::Linear | Course::Accelerating)
    }
}

/// One process, from its start to its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Life {
    pub course: Course,
    /// Unix time of the start, in seconds.
    pub started: i64,
    /// How many days it is sampled; the last one may be a part of a day.
    pub hours: i64,
    /// Bytes in use when it has just started, at the mean traffic of its first day.
    pub base: f64,
    /// Bytes lost, cached or carried on the first day.
    pub first_day: f64,
    /// By how much more every day than on the day before.
    pub more_each_day: f64,
    /// Growth of the traffic, a share of the first day's, each day.
    pub traffic_growth: f64,
}

/// What is true of one life.
#[derive(Clone, Debug, PartialEq)]
pub struct LifeTruth {
    pub course: Course,
    /// Unix time of the start, in seconds.
    pub started: i64,
    /// From the mean of the first day to that of the last whole one, for each day between.
    pub bytes_per_day: f64,
    /// The mean time of the samples of the last whole day: Unix time, in seconds.
    pub last_level_at: f64,
    /// When the mean of a day reaches the limit if the heap goes on at that rate: Unix time, in
    /// seconds. `None` where nothing leaks.
    pub full_linear: Option<f64>,
    /// The same if the daily growth goes on growing as it has.
    pub full_accelerating: Option<f64>,
}

/// A dump, and what is true of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// OpenMetrics.
    pub metrics: String,
    /// What the container may use, in bytes.
    pub limit: f64,
    /// One for each life, in the order of time.
    pub lives: Vec<LifeTruth>,
}

/// A dump of one life for each of `courses`, its numbers drawn from `seed`.
///
/// Every life lasts six days at least. A leak loses four percent of the level a day or more, and
/// the growth of an accelerating one doubles within its life at least, so that what it is can be
/// told from six days.
///
/// # Panics
/// When `courses` is empty.
pub fn simulate(courses: &[Course], seed: u64) -> Run {
    assert!(!courses.is_empty(), "a dump shows one process at least");
    let mut chance = Chance::of(seed);
    let base = chance.between(1.4e9, 3.2e9);
    let mut lives: Vec<Life> = Vec::new();
    let mut begins = EPOCH;
    for &course in courses {
        let started = begins - i64::try_from(chance.whole(300, 3_000)).expect("an hour");
        let life = draw(course, base, started, &mut chance);
        begins += life.hours * STEP;
        lives.push(life);
    }
    let rhythm = Rhythm::drawn(&mut chance);
    let limit = if courses.iter().any(|course| course.leaks()) {
        let highest = lives
            .iter()
            .map(|life| life.base + grown(life, as_days(life.hours)))
            .fold(0.0, f64::max);
        highest * chance.between(1.3, 1.9)
    } else {
        base * chance.between(1.2, 2.0)
    };
    // A limit that somebody would set: a multiple of 250 MB.
    let limit = (limit / 2.5e8).ceil() * 2.5e8;

    let mut series = Series::default();
    let mut truths = Vec::new();
    let mut at = EPOCH;
    for life in &lives {
        let begins = at;
        let mut levels = vec![0.0; whole_days(life.hours)];
        for hour in 0..life.hours {
            at = begins + hour * STEP;
            let days = (at - begins) as f64 / DAY as f64;
            let traffic = rhythm.requests(at) * (1.0 + life.traffic_growth * days);
            // What a request holds while it runs, and what its session keeps for some minutes.
            let carried = life.base * 0.3 * (traffic / rhythm.mean - 1.0);
            let heap = life.base + carried + grown(life, days);
            if let Some(level) = usize::try_from(hour / 24)
                .ok()
                .and_then(|day| levels.get_mut(day))
            {
                *level += heap / 24.0;
            }
            let noise = 1.0 + 0.012 * (chance.unit() - 0.5);
            series.push(at, life.started, heap * noise, traffic, &mut chance);
        }
        truths.push(truth(life, begins, &levels, limit));
        at += STEP;
    }
    Run {
        metrics: series.openmetrics(),
        limit,
        lives: truths,
    }
}

fn draw(course: Course, base: f64, started: i64, chance: &mut Chance) -> Life {
    let hours = i64::try_from(chance.whole(6 * 24, 9 * 24)).expect("some days");
    let mut life = Life {
        course,
        started,
        hours,
        base,
        first_day: 0.0,
        more_each_day: 0.0,
        traffic_growth: 0.0,
    };
    match course {
        // May be high: height is no leak.
        Course::Level => life.base *= chance.between(1.0, 2.2),
        Course::WarmUp => life.first_day = base * chance.between(0.3, 0.6),
        Course::Launch => life.traffic_growth = chance.between(0.08, 0.16),
        Course::Linear => life.first_day = base * chance.between(0.06, 0.12),
        Course::Accelerating => {
            life.first_day = base * chance.between(0.06, 0.1);
            life.more_each_day = life.first_day * chance.between(0.25, 0.5);
        }
    }
    life
}

/// What has been added to the heap of a life after some days.
fn grown(life: &Life, days: f64) -> f64 {
    match life.course {
        Course::Level | Course::Launch => 0.0,
        // Within 2 % of its end after two days.
        Course::WarmUp => life.first_day * (1.0 - libm::exp(-2.0 * days)),
        // Grows by `first_day` on the first day and by `more_each_day` more on each that follows.
        Course::Linear | Course::Accelerating => {
            life.first_day * days + life.more_each_day * days * (days - 1.0) / 2.0
        }
    }
}

fn truth(life: &Life, begins: i64, levels: &[f64], limit: f64) -> LifeTruth {
    let steps = (levels.len() - 1) as f64;
    let last = levels[levels.len() - 1];
    let bytes_per_day = (last - levels[0]) / steps;
    // The middle of the samples of the last whole day.
    let last_at = begins as f64 + steps * DAY as f64 + (DAY - STEP) as f64 / 2.0;
    let left = limit - last;
    let after = |days: f64| last_at + days * DAY as f64;
    let full_accelerating = || {
        // On the day after the last one the heap grows by `next`, and by `more` more each day.
        let more = life.more_each_day;
        if more == 0.0 {
            return after(left / bytes_per_day);
        }
        let yesterday = last - levels[levels.len() - 2];
        // last + (yesterday + more / 2) x + more / 2 x² = limit
        let slope = yesterday + more / 2.0;
        after((libm::sqrt(slope * slope + 2.0 * more * left) - slope) / more)
    };
    LifeTruth {
        course: life.course,
        started: life.started,
        bytes_per_day,
        last_level_at: last_at,
        full_linear: life.course.leaks().then(|| after(left / bytes_per_day)),
        full_accelerating: life.course.leaks().then(full_accelerating),
    }
}

fn whole_days(hours: i64) -> usize {
    usize::try_from(hours / 24).expect("some days")
}

fn as_days(hours: i64) -> f64 {
    hours as f64 / 24.0
}

/// The traffic of an ordinary day.
struct Rhythm {
    /// Requests a second, over a day.
    mean: f64,
    /// The share by which the peak exceeds the mean.
    swing: f64,
    /// The hour of the peak, UTC.
    peak: f64,
}

impl Rhythm {
    fn drawn(chance: &mut Chance) -> Self {
        Rhythm {
            mean: chance.between(180.0, 640.0),
            swing: chance.between(0.35, 0.6),
            peak: chance.between(10.0, 20.0),
        }
    }

    fn requests(&self, at: i64) -> f64 {
        let hour = (at.rem_euclid(DAY)) as f64 / 3_600.0;
        let angle = 2.0 * std::f64::consts::PI * (hour - self.peak) / 24.0;
        self.mean * (1.0 + self.swing * libm::cos(angle))
    }
}

/// The samples of a dump, in the order of time.
#[derive(Default)]
struct Series {
    starts: String,
    heap: String,
    requests: String,
    entries: String,
    goroutines: String,
}

impl Series {
    fn push(&mut self, at: i64, started: i64, heap: f64, requests: f64, chance: &mut Chance) {
        let noisy = |chance: &mut Chance, value: f64| value * (1.0 + 0.02 * (chance.unit() - 0.5));
        let _ = writeln!(self.starts, "process_start_time_seconds {started} {at}");
        let _ = writeln!(self.heap, "go_memstats_heap_inuse_bytes {heap:.0} {at}");
        let requests = noisy(chance, requests);
        let _ = writeln!(self.requests, "job:http_requests:rate {requests:.1} {at}");
        // A session is kept for some minutes after its last request.
        let entries = noisy(chance, requests * 286.0);
        let _ = writeln!(self.entries, "session_cache_entries {entries:.0} {at}");
        let goroutines = noisy(chance, 260.0 + requests * 1.43);
        let _ = writeln!(self.goroutines, "go_goroutines {goroutines:.0} {at}");
    }

    fn openmetrics(self) -> String {
        let mut text = String::new();
        for (name, help, samples) in [
            (
                "process_start_time_seconds",
                "Start of the process, in seconds since the Unix epoch.",
                self.starts,
            ),
            (
                "go_memstats_heap_inuse_bytes",
                "Bytes of the heap in use, after a collection.",
                self.heap,
            ),
            (
                "job:http_requests:rate",
                "Requests a second, mean of the last hour.",
                self.requests,
            ),
            (
                "session_cache_entries",
                "Sessions in the cache.",
                self.entries,
            ),
            ("go_goroutines", "Goroutines that exist.", self.goroutines),
        ] {
            let _ = write!(text, "# TYPE {name} gauge\n# HELP {name} {help}\n{samples}");
        }
        text.push_str("# EOF\n");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leak_without_acceleration_is_full_at_the_same_moment_either_way() {
        let run = simulate(&[Course::Linear], 3);
        let life = &run.lives[0];
        let (linear, accelerating) = (
            life.full_linear.expect("it leaks"),
            life.full_accelerating.expect("it leaks"),
        );
        assert!((linear - accelerating).abs() < 1.0, "{life:?}");
    }

    #[test]
    fn an_accelerating_leak_is_full_before_its_mean_rate_says() {
        for seed in 0..20 {
            let run = simulate(&[Course::Accelerating], seed);
            let life = &run.lives[0];
            let linear = life.full_linear.expect("it leaks");
            let accelerating = life.full_accelerating.expect("it leaks");
            assert!(
                linear - accelerating > 0.5 * DAY as f64,
                "seed {seed}: {life:?}"
            );
        }
    }

    #[test]
    fn lives_follow_each_other_and_only_leaks_fill_the_memory() {
        for seed in 0..20 {
            let run = simulate(
                &[Course::Accelerating, Course::Launch, Course::WarmUp],
                seed,
            );
            assert!(
                run.lives
                    .windows(2)
                    .all(|two| two[0].started < two[1].started)
            );
            for life in &run.lives {
                assert_eq!(life.full_linear.is_some(), life.course.leaks(), "{life:?}");
            }
            assert!(run.metrics.ends_with("# EOF\n"));
        }
    }

    #[test]
    fn the_process_of_a_sample_has_started_before_it() {
        let run = simulate(&Course::ALL, 5);
        for line in run
            .metrics
            .lines()
            .filter(|line| line.starts_with("process_"))
        {
            let mut words = line
                .split(' ')
                .skip(1)
                .map(|word| word.parse::<i64>().expect(line));
            let (started, at) = (words.next().expect(line), words.next().expect(line));
            assert!((0..10 * DAY).contains(&(at - started)), "{line}");
        }
    }
}
