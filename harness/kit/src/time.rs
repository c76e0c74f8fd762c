//! Checks in virtual time: a paused clock, scripts of load, and gates that hold calls at a point.
//!
//! Under a paused clock a sleep costs nothing: when every task waits, the clock jumps to the next
//! timer. A scenario of ten virtual minutes runs in milliseconds and comes out the same each time.
//! Tokio's timers count in whole milliseconds, rounded up, and so do the scenarios of this module.
//!
//! Not for code that talks to a real socket or a real server: the clock would jump while the bytes
//! are still under way. Not for measuring real time: see [`crate::paired`].

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use crate::check::current_step;
use crate::seed::Seed;
use crate::symptom;

/// How much virtual time a scenario may take when it does not say.
pub const VIRTUAL_DEADLINE: Duration = Duration::from_secs(3600);

/// Below this many wake-ups in the second half of a scenario's time, nothing was going on in it.
const IDLE_WAKE_UPS: u64 = 8;

/// Runs a future to its end on a runtime of one thread whose clock is paused, within
/// [`VIRTUAL_DEADLINE`].
///
/// Tasks that are still alive when the future ends are dropped.
///
/// # Panics
/// With a symptom when the virtual deadline passes; also when called from within a runtime.
pub fn paused<F: Future>(future: F) -> F::Output {
    paused_within(VIRTUAL_DEADLINE, future)
}

/// As [`paused`], with a deadline of its own, in virtual time.
///
/// Where everything waits for ever, there is no next timer to jump to but this deadline: a virtual
/// deadlock ends at once, with the current [`crate::step`].
///
/// # Panics
/// With a symptom when the virtual deadline passes; also when called from within a runtime.
pub fn paused_within<F: Future>(deadline: Duration, future: F) -> F::Output {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("the system refuses a runtime");
    // A blocking task that never ends must not keep the check from its verdict.
    let runtime = Abandon(Some(runtime));
    let result = runtime
        .0
        .as_ref()
        .expect("it is taken on drop only")
        .block_on(async {
            let mut future = std::pin::pin!(future);
            let half = deadline / 2;
            if let Ok(output) = tokio::time::timeout(half, &mut future).await {
                return Ok(output);
            }
            let before = wake_ups();
            tokio::time::timeout(deadline - half, future)
                .await
                .map_err(|_| wake_ups() - before <= IDLE_WAKE_UPS)
        });
    match result {
        Ok(output) => output,
        Err(idle) => {
            drop(runtime);
            symptom(overdue(deadline, idle, current_step().as_deref()))
        }
    }
}

struct Abandon(Option<Runtime>);

impl Drop for Abandon {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

fn wake_ups() -> u64 {
    Handle::current().metrics().worker_park_count(0)
}

fn overdue(deadline: Duration, idle: bool, step: Option<&str>) -> String {
    let span = if deadline == VIRTUAL_DEADLINE {
        "one virtual hour".to_owned()
    } else {
        format!("{deadline:?} of virtual time")
    };
    let during = step
        .map(|step| format!(" while {step}"))
        .unwrap_or_default();
    if idle {
        format!("nothing happened in {span}{during}: all tasks wait for something that never comes")
    } else {
        format!("did not end within {span}{during}: some task goes on and on")
    }
}

/// Waits until all other tasks wait too, under a paused clock: whatever can run without the passing
/// of time has then run. Takes one virtual millisecond, so timers due within it have fired as well.
pub async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// A script of load: how many requests arrive per second, over time.
///
/// It is an open model: arrivals do not wait for completions, as users do not.
///
/// ```
/// use std::time::Duration;
/// use kit::{seed::Seed, time::Load};
///
/// let minute = Duration::from_secs(60);
/// let script = Load::constant(50.0).for_(minute)
///     .then(Load::ramp(50.0, 200.0).for_(minute))
///     .then(Load::burst(500))
///     .then(Load::idle().for_(minute));
/// assert_eq!(script.arrivals(Seed(1)).len(), 3_000 + 7_500 + 500);
/// let by_chance = script.poisson().arrivals(Seed(1));
/// assert_ne!(by_chance.len(), 11_000);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Load {
    parts: Vec<Part>,
    process: Process,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    /// Rates in arrivals per second, changing evenly from one to the other.
    Rates {
        from: f64,
        to: f64,
        seconds: f64,
    },
    Burst(u32),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Process {
    Even,
    Poisson,
}

/// A course of the rate that lacks its duration yet.
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use]
pub struct Course {
    from: f64,
    to: f64,
}

impl Course {
    /// The course taken over `duration`.
    pub fn for_(self, duration: Duration) -> Load {
        Load::of(Part::Rates {
            from: self.from,
            to: self.to,
            seconds: duration.as_secs_f64(),
        })
    }
}

impl Load {
    /// A constant rate, in arrivals per second.
    ///
    /// # Panics
    /// When the rate is negative or not finite.
    pub fn constant(rate: f64) -> Course {
        Self::ramp(rate, rate)
    }

    /// A rate that grows or shrinks evenly, in arrivals per second.
    ///
    /// # Panics
    /// When a rate is negative or not finite.
    pub fn ramp(from: f64, to: f64) -> Course {
        for rate in [from, to] {
            assert!(
                rate.is_finite() && rate >= 0.0,
                "{rate} is no rate of arrivals"
            );
        }
        Course { from, to }
    }

    /// No arrivals at all.
    pub fn idle() -> Course {
        Self::constant(0.0)
    }

    /// So many arrivals at the same instant, also where the rest of the script is left to chance.
    pub fn burst(arrivals: u32) -> Load {
        Self::of(Part::Burst(arrivals))
    }

    /// One constant rate after the other, each in arrivals per second and with its duration.
    ///
    /// # Panics
    /// When a rate is negative or not finite.
    pub fn steps(steps: impl IntoIterator<Item = (f64, Duration)>) -> Load {
        steps
            .into_iter()
            .map(|(rate, duration)| Self::constant(rate).for_(duration))
            .reduce(Load::then)
            .unwrap_or(Load {
                parts: Vec::new(),
                process: Process::Even,
            })
    }

    /// A `base` rate for `calm`, a `peak` rate for `rush`, and the base rate for `calm` again.
    ///
    /// # Panics
    /// When a rate is negative or not finite.
    pub fn spike(base: f64, calm: Duration, peak: f64, rush: Duration) -> Load {
        Self::steps([(base, calm), (peak, rush), (base, calm)])
    }

    /// This script and then the other. Left to chance as a whole when either of them is.
    pub fn then(mut self, next: Load) -> Load {
        self.parts.extend(next.parts);
        if next.process == Process::Poisson {
            self.process = Process::Poisson;
        }
        self
    }

    /// Leaves the arrivals to chance: a Poisson process with the rate of the script. Without this
    /// they are evenly spaced.
    pub fn poisson(mut self) -> Load {
        self.process = Process::Poisson;
        self
    }

    /// How long the script lasts.
    pub fn duration(&self) -> Duration {
        let seconds = self.parts.iter().map(|part| match part {
            Part::Rates { seconds, .. } => *seconds,
            Part::Burst(_) => 0.0,
        });
        Duration::from_secs_f64(seconds.sum())
    }

    /// When each request arrives, from the start of the script, in order. A pure function of script
    /// and seed; evenly spaced arrivals are the same for every seed.
    ///
    /// The rate is summed up over time, and a request arrives whenever that sum reaches the next
    /// point of a process of rate 1: the whole numbers from 0 on, or points with exponentially
    /// distributed distances (E. Çinlar, "Introduction to Stochastic Processes", 1975, section 4.7).
    pub fn arrivals(&self, seed: Seed) -> Vec<Duration> {
        let mut arrivals = Vec::new();
        let mut points = Points::new(self.process, seed);
        let mut next = points.next();
        let mut start = 0.0;
        let mut summed = 0.0;
        for part in &self.parts {
            match *part {
                Part::Burst(count) => arrivals.extend(std::iter::repeat_n(
                    Duration::from_secs_f64(start),
                    count as usize,
                )),
                Part::Rates { from, to, seconds } => {
                    let area = f64::midpoint(from, to) * seconds;
                    // The last digits of a sum of decimals must not add an arrival at the end.
                    while next < summed + area - 1e-9 {
                        let within = time_of_area(next - summed, from, to, seconds);
                        arrivals.push(Duration::from_secs_f64(start + within));
                        next = points.next();
                    }
                    summed += area;
                    start += seconds;
                }
            }
        }
        arrivals
    }
}

impl Load {
    fn of(part: Part) -> Load {
        Load {
            parts: vec![part],
            process: Process::Even,
        }
    }
}

/// The points of a process of rate 1.
struct Points {
    process: Process,
    seed: Seed,
    drawn: u64,
    last: f64,
}

impl Points {
    fn new(process: Process, seed: Seed) -> Self {
        Points {
            process,
            seed,
            drawn: 0,
            last: 0.0,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "53 bits, and counts below 2^53")]
    fn next(&mut self) -> f64 {
        let index = self.drawn;
        self.drawn += 1;
        match self.process {
            Process::Even => index as f64,
            Process::Poisson => {
                let uniform = ((self.seed.derive(index).0 >> 11) + 1) as f64 / (1_u64 << 53) as f64;
                self.last -= uniform.ln();
                self.last
            }
        }
    }
}

/// After how many seconds the area under a rate that changes evenly reaches `area`: the root of
/// `from t + (to - from) t^2 / (2 seconds) = area` in the form that does not cancel.
fn time_of_area(area: f64, from: f64, to: f64, seconds: f64) -> f64 {
    let area = area.max(0.0);
    let root = (from * from + 2.0 * (to - from) / seconds * area)
        .max(0.0)
        .sqrt();
    if area == 0.0 {
        0.0
    } else {
        (2.0 * area / (from + root)).min(seconds)
    }
}

/// One request of a load that was driven. Times count from the start of the drive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome<T> {
    /// The how-manieth of the arrivals it is, from 0.
    pub index: usize,
    /// When it was meant to arrive: the script's time, in whole milliseconds, rounded up.
    pub arrived: Duration,
    /// When it was first polled. Later than `arrived` only where some task blocked the thread.
    pub started: Duration,
    /// When its future was done.
    pub finished: Duration,
    pub result: T,
}

impl<T> Outcome<T> {
    /// From the intended arrival to the end, so that a system that stalls cannot hide the wait of
    /// those that came meanwhile (no coordinated omission).
    pub fn latency(&self) -> Duration {
        self.finished.saturating_sub(self.arrived)
    }
}

/// What became of a load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run<T> {
    /// The requests that were done, in order of arrival.
    pub outcomes: Vec<Outcome<T>>,
    /// When the others had arrived: those that were not done when the drive ended.
    pub unfinished: Vec<Duration>,
    /// How long the drive took.
    pub took: Duration,
}

impl<T> Run<T> {
    /// All latencies, in ascending order.
    pub fn latencies(&self) -> Vec<Duration> {
        self.latencies_where(|_| true)
    }

    /// The latencies of some of the outcomes, such as those that succeeded, in ascending order.
    pub fn latencies_where(&self, mut keep: impl FnMut(&Outcome<T>) -> bool) -> Vec<Duration> {
        let mut latencies: Vec<Duration> = self
            .outcomes
            .iter()
            .filter(|outcome| keep(outcome))
            .map(Outcome::latency)
            .collect();
        latencies.sort_unstable();
        latencies
    }

    /// A percentile of all latencies, see [`percentile`].
    pub fn percentile(&self, percent: f64) -> Option<Duration> {
        percentile(&self.latencies(), percent)
    }

    /// How many outcomes there are of each kind.
    pub fn counts_by<K: Ord>(&self, mut kind: impl FnMut(&Outcome<T>) -> K) -> BTreeMap<K, usize> {
        let mut counts = BTreeMap::new();
        for outcome in &self.outcomes {
            *counts.entry(kind(outcome)).or_default() += 1;
        }
        counts
    }

    /// How many outcomes are of one kind.
    pub fn count(&self, mut keep: impl FnMut(&Outcome<T>) -> bool) -> usize {
        self.outcomes.iter().filter(|outcome| keep(outcome)).count()
    }
}

/// The exact percentile by the nearest rank: the smallest of the values that at least `percent` of
/// 100 of them do not exceed. It always is one of the values; 0 gives the smallest, 100 the largest.
/// `None` when there are no values.
///
/// # Panics
/// When `percent` is not within 0 and 100, or the values are not in ascending order.
pub fn percentile<T: Copy + PartialOrd>(ascending: &[T], percent: f64) -> Option<T> {
    assert!(
        (0.0..=100.0).contains(&percent),
        "{percent} is no percentage"
    );
    assert!(
        ascending.is_sorted(),
        "the values are not in ascending order"
    );
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank lies between 0 and the number of values"
    )]
    // Rounding must not move a rank that is whole, such as 64.4 % of 250.
    let rank = (percent * ascending.len() as f64 / 100.0 - 1e-9).ceil() as usize;
    ascending.get(rank.saturating_sub(1)).copied()
}

/// Sends a load to a system: a task for each arrival, started on time whether or not the earlier
/// ones are done. Waits for all of them.
///
/// `call` makes the request of the given index, from 0. To be used under [`paused`].
///
/// # Panics
/// As a request panics.
pub async fn drive<T, F>(arrivals: &[Duration], call: impl FnMut(usize) -> F) -> Run<T>
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    drive_by(arrivals, None, call).await
}

/// As [`drive`], and gives up on the requests that are not done within `patience` after the last
/// arrival: they are dropped, and counted in [`Run::unfinished`].
///
/// # Panics
/// As a request panics.
pub async fn drive_within<T, F>(
    arrivals: &[Duration],
    patience: Duration,
    call: impl FnMut(usize) -> F,
) -> Run<T>
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    drive_by(arrivals, Some(patience), call).await
}

async fn drive_by<T, F>(
    arrivals: &[Duration],
    patience: Option<Duration>,
    mut call: impl FnMut(usize) -> F,
) -> Run<T>
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    let start = Instant::now();
    let arrivals: Vec<Duration> = arrivals
        .iter()
        .map(|&arrival| whole_millis(arrival))
        .collect();
    let mut tasks = JoinSet::new();
    let mut slots: Vec<Option<Outcome<T>>> = arrivals.iter().map(|_| None).collect();
    let mut keep = |done: Result<Outcome<T>, JoinError>| match done {
        Ok(outcome) => {
            let index = outcome.index;
            slots[index] = Some(outcome);
        }
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    };
    for (index, &arrived) in arrivals.iter().enumerate() {
        tokio::time::sleep_until(start + arrived).await;
        let future = call(index);
        tasks.spawn(async move {
            let started = start.elapsed();
            let result = future.await;
            Outcome {
                index,
                arrived,
                started,
                finished: start.elapsed(),
                result,
            }
        });
        while let Some(done) = tasks.try_join_next() {
            keep(done);
        }
    }
    let drain = async {
        while let Some(done) = tasks.join_next().await {
            keep(done);
        }
    };
    match patience {
        None => drain.await,
        // Late is told from unfinished by the outcomes themselves.
        Some(patience) => drop(tokio::time::timeout(patience, drain).await),
    }
    let took = start.elapsed();
    drop(tasks);
    let unfinished = slots
        .iter()
        .zip(&arrivals)
        .filter(|(slot, _)| slot.is_none())
        .map(|(_, &arrived)| arrived)
        .collect();
    Run {
        outcomes: slots.into_iter().flatten().collect(),
        unfinished,
        took,
    }
}

/// Tokio's timers fire at whole milliseconds, rounded up: an arrival between two of them is due at
/// the later one, and that is no latency of the system.
fn whole_millis(time: Duration) -> Duration {
    let millis = time.as_nanos().div_ceil(1_000_000);
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

/// A point in the code at which calls are held until the check lets them go on.
///
/// ```
/// use kit::time::{self, Gate};
///
/// time::paused(async {
///     let fetch = Gate::closed();
///     for _ in 0..100 {
///         let fetch = fetch.clone();
///         tokio::spawn(async move { fetch.pass().await });
///     }
///     fetch.held(100).await;
///     fetch.let_go(1);
///     time::settle().await;
///     assert_eq!((fetch.holding(), fetch.passed()), (99, 1));
///     fetch.open();
/// });
/// ```
#[derive(Clone, Debug)]
pub struct Gate(Arc<GateState>);

#[derive(Debug)]
struct GateState {
    tickets: Semaphore,
    holding: watch::Sender<usize>,
    passed: watch::Sender<usize>,
}

impl Gate {
    /// A gate that holds every call.
    pub fn closed() -> Self {
        Gate(Arc::new(GateState {
            tickets: Semaphore::new(0),
            holding: watch::Sender::new(0),
            passed: watch::Sender::new(0),
        }))
    }

    /// Waits until the check lets this call go on, first come, first served. For the code that the
    /// check supplies: a fetch, a downstream, a handler. A call that is dropped here is no longer
    /// held.
    pub async fn pass(&self) {
        self.0.holding.send_modify(|holding| *holding += 1);
        let held = Held(&self.0.holding);
        // An error is an open gate; a permit is used up.
        if let Ok(permit) = self.0.tickets.acquire().await {
            permit.forget();
        }
        drop(held);
        self.0.passed.send_modify(|passed| *passed += 1);
    }

    /// Waits until at least `calls` calls are held at the same time.
    ///
    /// Under [`paused`] a number that is never reached ends the check at the virtual deadline: say
    /// with [`crate::step`] what it is that should come.
    pub async fn held(&self, calls: usize) {
        let mut holding = self.0.holding.subscribe();
        holding
            .wait_for(|&holding| holding >= calls)
            .await
            .expect("the sender lives in self");
    }

    /// Lets the next `calls` calls go on, of those that are held and of those still to come.
    pub fn let_go(&self, calls: usize) {
        if !self.0.tickets.is_closed() {
            self.0.tickets.add_permits(calls);
        }
    }

    /// Lets all calls go on, now and from now on.
    pub fn open(&self) {
        self.0.tickets.close();
    }

    /// How many calls are held now.
    pub fn holding(&self) -> usize {
        *self.0.holding.borrow()
    }

    /// How many calls have gone on so far.
    pub fn passed(&self) -> usize {
        *self.0.passed.borrow()
    }
}

struct Held<'a>(&'a watch::Sender<usize>);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|holding| *holding -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic;

    use proptest::prelude::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn text_of<T>(body: impl FnOnce() -> T + Send + 'static) -> String {
        let result = panic::catch_unwind(panic::AssertUnwindSafe(|| {
            crate::check(move || drop(body()));
        }));
        *result
            .expect_err("the check passed")
            .downcast::<String>()
            .expect("a check ends with a text")
    }

    #[test]
    fn a_day_of_virtual_time_passes_at_once_and_exactly() {
        let slept = paused_within(Duration::from_secs(100_000), async {
            let start = Instant::now();
            tokio::time::sleep(Duration::from_secs(86_400)).await;
            start.elapsed()
        });
        assert_eq!(slept, Duration::from_secs(86_400));
    }

    #[test]
    fn a_virtual_deadlock_is_a_symptom_that_names_the_step() {
        let text = text_of(|| {
            crate::step("the hundredth task takes the lock");
            paused(std::future::pending::<()>());
        });
        assert_eq!(
            text,
            "nothing happened in one virtual hour while the hundredth task takes the lock: all \
             tasks wait for something that never comes"
        );
    }

    #[test]
    fn endless_work_is_told_from_a_deadlock() {
        let text = text_of(|| {
            paused_within(Duration::from_secs(60), async {
                loop {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            })
        });
        assert_eq!(
            text,
            "did not end within 60s of virtual time: some task goes on and on"
        );
    }

    #[test]
    fn a_blocking_task_that_never_ends_does_not_keep_the_check() {
        paused(async {
            tokio::task::spawn_blocking(|| {
                loop {
                    std::thread::park();
                }
            });
        });
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_constant_script_has_rate_times_duration_arrivals_evenly_spaced(
            rate in 1_u32..2_000,
            millis in 1_u64..5_000,
            seed: u64,
        ) {
            let arrivals = Load::constant(f64::from(rate)).for_(ms(millis)).arrivals(Seed(seed));
            let expected = (u64::from(rate) * millis).div_ceil(1_000);
            prop_assert_eq!(arrivals.len() as u64, expected);
            for (index, arrival) in arrivals.iter().enumerate() {
                let due = index as f64 / f64::from(rate);
                prop_assert!((arrival.as_secs_f64() - due).abs() < 1e-6);
                prop_assert!(*arrival < ms(millis));
            }
        }

        #[test]
        fn a_script_is_ordered_lies_within_its_duration_and_is_its_seeds_alone(
            parts in proptest::collection::vec((0.0..300.0_f64, 0.0..300.0_f64, 1_u64..2_000), 1..5),
            by_chance: bool,
            seed: u64,
        ) {
            let mut script = parts
                .into_iter()
                .map(|(from, to, millis)| Load::ramp(from, to).for_(ms(millis)))
                .reduce(|first, second| first.then(Load::burst(3)).then(second))
                .expect("one part at least");
            if by_chance {
                script = script.poisson();
            }
            let arrivals = script.arrivals(Seed(seed));
            prop_assert!(arrivals.is_sorted());
            let slack = Duration::from_nanos(10);
            prop_assert!(arrivals.iter().all(|&arrival| arrival <= script.duration() + slack));
            prop_assert_eq!(&arrivals, &script.arrivals(Seed(seed)));
        }
    }

    #[test]
    fn the_parts_of_a_script_carry_the_share_of_their_rates() {
        let second = Duration::from_secs(1);
        let script =
            Load::spike(10.0, second, 100.0, second).then(Load::ramp(0.0, 20.0).for_(second));
        let mut counts = [0; 4];
        for arrival in script.arrivals(Seed(0)) {
            counts[usize::try_from(arrival.as_secs()).unwrap()] += 1;
        }
        assert_eq!(counts, [10, 100, 10, 10]);
        // A ramp from zero has a quarter of its arrivals in its first half.
        let ramp = Load::ramp(0.0, 200.0).for_(second).arrivals(Seed(0));
        let early = ramp.iter().filter(|&&arrival| arrival < ms(500)).count();
        assert_eq!((ramp.len(), early), (100, 25));
    }

    #[test]
    fn the_counts_of_a_poisson_script_have_its_mean_and_variance() {
        // Of 1,000 counts with mean 100: the mean of the counts has a standard error of 0.32, and
        // their variance one of 100 * sqrt(2 / 1,000) = 4.5; both are held within four of them.
        let script = Load::constant(100.0).for_(Duration::from_secs(1)).poisson();
        let counts: Vec<f64> = (0..1_000)
            .map(|seed| script.arrivals(Seed(seed)).len() as f64)
            .collect();
        let mean = counts.iter().sum::<f64>() / 1_000.0;
        let variance = counts
            .iter()
            .map(|count| (count - mean).powi(2))
            .sum::<f64>()
            / 999.0;
        assert!((mean - 100.0).abs() < 1.27, "mean {mean}");
        assert!((variance - 100.0).abs() < 18.0, "variance {variance}");
        assert_ne!(script.arrivals(Seed(1)), script.arrivals(Seed(2)));
    }

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let values: Vec<u32> = (1..=100).collect();
        for (percent, expected) in [
            (0.0, 1),
            (1.0, 1),
            (50.0, 50),
            (95.0, 95),
            (99.9, 100),
            (100.0, 100),
        ] {
            assert_eq!(percentile(&values, percent), Some(expected), "{percent}");
        }
        assert_eq!(percentile(&[15, 20, 35, 40, 50], 40.0), Some(20));
        let many: Vec<u32> = (1..=250).collect();
        assert_eq!(percentile(&many, 64.4), Some(161));
        assert_eq!(percentile::<u32>(&[], 50.0), None);
    }

    #[test]
    fn arrivals_do_not_wait_for_completions_and_a_stall_is_in_the_latencies() {
        let run = paused(async {
            let lock = Arc::new(tokio::sync::Mutex::new(()));
            let arrivals = Load::constant(100.0)
                .for_(Duration::from_secs(1))
                .arrivals(Seed(0));
            // One at a time, the first for half a second, the others for 1 ms.
            drive(&arrivals, |index| {
                let lock = Arc::clone(&lock);
                async move {
                    let _turn = lock.lock().await;
                    let took = if index == 0 { ms(500) } else { ms(1) };
                    tokio::time::sleep(took).await;
                    took
                }
            })
            .await
        });
        assert_eq!(run.outcomes.len(), 100);
        assert!(run.unfinished.is_empty());
        for outcome in &run.outcomes {
            assert_eq!(outcome.started, outcome.arrived, "{outcome:?}");
        }
        assert_eq!(run.outcomes[0].latency(), ms(500));
        // Arrived at 10 ms, done at 501 ms.
        assert_eq!(run.outcomes[1].latency(), ms(491));
        assert_eq!(run.percentile(100.0), Some(ms(500)));
        assert_eq!(run.percentile(10.0), Some(ms(1)));
        assert_eq!(
            run.counts_by(|outcome| outcome.result),
            BTreeMap::from([(ms(1), 99), (ms(500), 1)])
        );
        assert_eq!(
            run.count(|outcome| outcome.latency() > ms(1)),
            run.latencies_where(|outcome| outcome.latency() > ms(1))
                .len()
        );
    }

    #[test]
    fn arrivals_between_two_milliseconds_are_not_charged_for_the_timer() {
        let run = paused(async {
            let arrivals = Load::constant(3_000.0).for_(ms(100)).arrivals(Seed(0));
            drive(&arrivals, |_| tokio::time::sleep(ms(7))).await
        });
        assert_eq!(run.outcomes.len(), 300);
        assert_eq!(run.latencies(), vec![ms(7); 300]);
        // The second is due after a third of a millisecond.
        assert_eq!(run.outcomes[1].arrived, ms(1));
    }

    #[test]
    fn a_stall_of_the_whole_thread_is_charged_to_those_who_arrive_meanwhile() {
        let run = paused(async {
            drive(&[ms(0), ms(10), ms(20)], |index| async move {
                if index == 0 {
                    // What a blocking call looks like in virtual time.
                    tokio::time::advance(ms(100)).await;
                }
            })
            .await
        });
        let started: Vec<Duration> = run.outcomes.iter().map(|done| done.started).collect();
        assert_eq!(started, [ms(0), ms(100), ms(100)]);
        assert_eq!(run.latencies(), [ms(80), ms(90), ms(100)]);
    }

    #[test]
    fn rounding_adds_no_arrival_at_the_end_of_a_script() {
        // In binary, 0.07 times 100 is a little above 7.
        let arrivals = Load::constant(0.07)
            .for_(Duration::from_secs(100))
            .arrivals(Seed(0));
        assert_eq!(arrivals.len(), 7);
    }

    #[test]
    fn requests_that_never_end_are_counted_as_unfinished() {
        let run = paused(async {
            drive_within(
                &[ms(0), ms(10), ms(20)],
                Duration::from_secs(5),
                |index| async move {
                    if index == 1 {
                        std::future::pending::<()>().await;
                    }
                    index
                },
            )
            .await
        });
        let done: Vec<usize> = run.outcomes.iter().map(|outcome| outcome.result).collect();
        assert_eq!(done, [0, 2]);
        assert_eq!(run.unfinished, [ms(10)]);
        assert_eq!(run.took, ms(5_020));
    }

    #[test]
    fn a_symptom_within_a_request_ends_the_check() {
        let text = text_of(|| {
            paused(async {
                drive(&[ms(5)], |_| async {
                    crate::symptom("two workers hold one lock")
                })
                .await
            })
        });
        assert_eq!(text, "two workers hold one lock");
    }

    #[test]
    fn a_gate_holds_all_calls_and_lets_them_go_one_by_one_or_all_at_once() {
        paused(async {
            let gate = Gate::closed();
            let mut tasks = JoinSet::new();
            for _ in 0..100 {
                let gate = gate.clone();
                tasks.spawn(async move { gate.pass().await });
            }
            gate.held(100).await;
            assert_eq!((gate.holding(), gate.passed()), (100, 0));
            gate.let_go(3);
            settle().await;
            assert_eq!((gate.holding(), gate.passed()), (97, 3));
            gate.open();
            tasks.join_all().await;
            gate.let_go(1);
            gate.pass().await;
            assert_eq!((gate.holding(), gate.passed()), (0, 101));
        });
    }

    #[test]
    fn a_call_that_is_dropped_at_the_gate_is_not_held_any_more() {
        paused(async {
            let gate = Gate::closed();
            let result = tokio::time::timeout(ms(10), gate.pass()).await;
            assert!(result.is_err());
            assert_eq!((gate.holding(), gate.passed()), (0, 0));
        });
    }
}
