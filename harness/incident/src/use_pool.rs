//! A worker pool and the resources that its tasks need: workers, cores and connections to a
//! database, each with what waits for it.
//!
//! Tasks arrive as a Poisson process and wait in one queue for a worker; who has waited for longer
//! than the deadline is given up there and counts as a timeout. A worker takes a task through a slice
//! on a core and then a query over a connection; while it waits for either it counts as busy. Every
//! resource serves in the order of arrival. What is exposed is what a real pool would count: time
//! spent busy as counters, and gauges of the moment of the scrape.
//!
//! Not for retries or for priorities, and the scheduler of the cores does not preempt.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fmt::Write as _;

use crate::chance::Chance;

/// Seconds from one scrape to the next.
pub const SCRAPE: u64 = 30;
/// Scrapes of a dump after the first one: five minutes.
pub const SCRAPES: u64 = 10;
/// The first scrape: 2025-11-11, 10:20:00 UTC.
const EPOCH: u64 = 1_762_856_400;
/// For how long the pool runs before the first scrape, in seconds.
const WARM_UP: u64 = 60;
const MICROS: f64 = 1e6;

/// Upper bounds of the histogram of durations, in seconds.
pub const BOUNDS: [f64; 12] = [
    0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.2, 1.6, 2.0, 2.2, 2.4, 3.0,
];

/// What holds a pool up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Nothing does: there is room everywhere.
    Nothing,
    Workers,
    Cores,
    Connections,
}

/// How a pool is built and loaded. Times in seconds, rates per second.
#[derive(Clone, Debug, PartialEq)]
pub struct Setup {
    pub workers: u32,
    pub cores: u32,
    pub connections: u32,
    /// Tasks per second.
    pub arrivals: f64,
    /// Median of the slice on a core, and of the query.
    pub slice: f64,
    pub query: f64,
    /// Standard deviation of the logarithm of both.
    pub sigma: f64,
    /// After this time in the queue a task is given up.
    pub deadline: f64,
    /// Share of the tasks that end in an error.
    pub error_share: f64,
    /// Whether, before the first scrape, there was a bad hour, which the counters still hold.
    pub bad_past: bool,
    /// Whether the last scrape meets a moment at which every worker is busy.
    pub met_busy: bool,
    pub seed: u64,
}

impl Setup {
    /// A pool that is held up by `limit`, its numbers drawn from `seed`.
    ///
    /// What is no limit is used for 35 to 75 percent of the time. The limit gets 6 to 12 percent more
    /// work than it can do, so that some of the tasks run into their deadline.
    pub fn drawn(limit: Limit, seed: u64) -> Self {
        let mut chance = Chance::of(seed);
        let workers = u32::try_from(*chance.pick(&[12_u64, 16, 20, 24])).expect("small");
        let sigma = chance.between(0.5, 0.8);
        let mean_of = libm::exp(sigma * sigma / 2.0);
        let slice = chance.between(0.008, 0.02);
        let query = chance.between(0.03, 0.06);
        let over = chance.between(1.06, 1.12);
        let spare = |chance: &mut Chance| chance.between(0.35, 0.75);
        // How many of each are busy on average at one task a second.
        let (cores_each, connections_each) = (slice * mean_of, query * mean_of);
        let workers_each = cores_each + connections_each;
        let all = f64::from(workers);
        let arrivals = match limit {
            Limit::Nothing => all * chance.between(0.45, 0.75) / workers_each,
            Limit::Workers => all * over / workers_each,
            // Fewer than the workers could feed: they wait for it.
            Limit::Cores | Limit::Connections => all * 0.72 / workers_each,
        };
        let room = |share: f64, each: f64| {
            // Rounded up: at least as much room as was drawn.
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "small"
            )]
            let size = (arrivals * each / share).ceil() as u32;
            size.max(2)
        };
        let tight = |each: f64| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "small"
            )]
            let size = (arrivals * each / over).floor() as u32;
            size.max(1)
        };
        let (cores, connections) = match limit {
            Limit::Cores => (
                tight(cores_each),
                room(spare(&mut chance), connections_each),
            ),
            Limit::Connections => (
                room(spare(&mut chance), cores_each),
                tight(connections_each),
            ),
            Limit::Nothing | Limit::Workers => (
                room(spare(&mut chance), cores_each),
                room(spare(&mut chance), connections_each),
            ),
        };
        // Rounding a small number of cores down takes away more than was meant.
        let arrivals = match limit {
            Limit::Cores => over * f64::from(cores) / cores_each,
            Limit::Connections => over * f64::from(connections) / connections_each,
            Limit::Nothing | Limit::Workers => arrivals,
        };
        Setup {
            workers,
            cores,
            connections,
            arrivals,
            slice,
            query,
            sigma,
            deadline: 2.0,
            error_share: chance.between(0.001, 0.006),
            bad_past: chance.happens(0.5),
            met_busy: chance.happens(0.7),
            seed,
        }
    }

    /// The same pool with another number of workers.
    #[must_use]
    pub fn with_workers(mut self, workers: u32) -> Self {
        self.workers = workers;
        self
    }
}

/// What is true of the five minutes of a dump, counted by the simulator itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Truth {
    /// Shares of the time for which a resource was used, on average over all of it.
    pub workers_busy: f64,
    pub cores_busy: f64,
    pub connections_busy: f64,
    /// At the last scrape.
    pub queued: u64,
    pub waiting_for_core: u64,
    pub waiting_for_connection: u64,
    pub workers_busy_now: u64,
    /// Of the tasks that came to an end in the five minutes.
    pub ok: u64,
    pub errors: u64,
    pub timeouts: u64,
    /// Mean of the queue over the scrapes.
    pub mean_queue: f64,
    /// Sorted durations from arrival to end, in seconds, of the tasks that ran.
    pub durations: Vec<f64>,
}

impl Truth {
    /// All tasks that came to an end.
    pub fn ended(&self) -> u64 {
        self.ok + self.errors + self.timeouts
    }

    /// A quantile of the durations, by rank; 0 when nothing ran.
    pub fn quantile(&self, q: f64) -> f64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank"
        )]
        let rank = (q * self.durations.len() as f64).ceil() as usize;
        match self.durations.get(rank.saturating_sub(1)) {
            Some(&duration) => duration,
            None => 0.0,
        }
    }
}

/// A dump, and what is true of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// OpenMetrics: eleven scrapes, thirty seconds apart.
    pub metrics: String,
    pub truth: Truth,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    SliceDone(u32),
    QueryDone(u32),
    Scrape,
}

/// A resource: how much of it is used, since when, and for how long together.
struct Resource {
    size: u32,
    used: u32,
    waiting: VecDeque<u32>,
    busy_micros: u64,
    since: u64,
}

impl Resource {
    fn new(size: u32) -> Self {
        Resource {
            size,
            used: 0,
            waiting: VecDeque::new(),
            busy_micros: 0,
            since: 0,
        }
    }

    fn account(&mut self, now: u64) {
        self.busy_micros += u64::from(self.used) * (now - self.since);
        self.since = now;
    }

    /// Takes one if there is one.
    fn take(&mut self, now: u64) -> bool {
        self.account(now);
        let free = self.used < self.size;
        self.used += u32::from(free);
        free
    }

    /// Gives one back, and says who gets it next.
    fn give(&mut self, now: u64) -> Option<u32> {
        self.account(now);
        match self.waiting.pop_front() {
            Some(next) => Some(next),
            None => {
                self.used -= 1;
                None
            }
        }
    }
}

/// Counters and histogram, as they are exposed.
#[derive(Clone, Default)]
struct Counts {
    ok: u64,
    errors: u64,
    timeouts: u64,
    /// Each bucket for itself; the last one is beyond all bounds.
    buckets: [u64; BOUNDS.len() + 1],
    sum_micros: u64,
    query_micros: u64,
    queries: u64,
}

struct Pool<'s> {
    setup: &'s Setup,
    chance: Chance,
    now: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    order: u64,
    queue: VecDeque<u64>,
    workers: Resource,
    cores: Resource,
    connections: Resource,
    /// By worker: when its task arrived.
    arrived: Vec<u64>,
    free: Vec<u32>,
    counts: Counts,
    durations: Vec<(u64, u64)>,
}

/// Runs the pool for a minute and then for the five of the dump.
pub fn simulate(setup: &Setup) -> Run {
    let mut pool = Pool {
        setup,
        chance: Chance::of(setup.seed ^ 0x5EED),
        now: 0,
        events: BinaryHeap::new(),
        order: 0,
        queue: VecDeque::new(),
        workers: Resource::new(setup.workers),
        cores: Resource::new(setup.cores),
        connections: Resource::new(setup.connections),
        arrived: vec![0; setup.workers as usize],
        free: (0..setup.workers).rev().collect(),
        counts: Counts::default(),
        durations: Vec::new(),
    };
    pool.run()
}

impl Pool<'_> {
    fn at(&mut self, when: u64, event: Event) {
        self.order += 1;
        self.events.push(Reverse((when, self.order, event)));
    }

    fn draw(&mut self, median: f64) -> u64 {
        let seconds = self.chance.log_normal(median, self.setup.sigma);
        micros(seconds).max(1)
    }

    fn run(&mut self) -> Run {
        let mut dump = Dump::new(self.setup, &mut self.chance);
        let first = self.chance.exponential(1.0 / self.setup.arrivals);
        self.at(micros(first), Event::Arrival);
        self.at(WARM_UP * 1_000_000, Event::Scrape);
        let mut scrapes = 0;
        let mut start: Option<(Counts, [u64; 3])> = None;
        let mut queued = 0;
        let mut truth = None;
        while let Some(Reverse((when, _, event))) = self.events.pop() {
            self.now = when;
            self.expire();
            match event {
                Event::Arrival => self.arrival(),
                Event::SliceDone(worker) => self.slice_done(worker),
                Event::QueryDone(worker) => self.query_done(worker),
                Event::Scrape => {
                    // A scrape that is to meet a busy moment comes a little later, as scrapes do.
                    let last = scrapes == SCRAPES;
                    if last && self.setup.met_busy && self.workers.used < self.workers.size {
                        let later = self.now + 20_000;
                        if later < (WARM_UP + SCRAPES * SCRAPE + 5) * 1_000_000 {
                            self.at(later, Event::Scrape);
                            continue;
                        }
                    }
                    let busy = self.busy();
                    let since = (self.now - WARM_UP * 1_000_000) as f64 / MICROS;
                    dump.scrape(EPOCH as f64 + since, self, busy);
                    queued += self.queue.len() as u64;
                    match &start {
                        None => start = Some((self.counts.clone(), busy)),
                        Some((counts, before)) if last => {
                            truth = Some(self.truth(counts, *before, busy, queued));
                            break;
                        }
                        Some(_) => {}
                    }
                    scrapes += 1;
                    self.at((WARM_UP + scrapes * SCRAPE) * 1_000_000, Event::Scrape);
                }
            }
        }
        Run {
            metrics: dump.openmetrics(),
            truth: truth.expect("the last scrape has been met"),
        }
    }

    /// Busy time of workers, cores and connections up to now, in microseconds.
    fn busy(&mut self) -> [u64; 3] {
        let now = self.now;
        [&mut self.workers, &mut self.cores, &mut self.connections].map(|resource| {
            resource.account(now);
            resource.busy_micros
        })
    }

    fn truth(&self, start: &Counts, before: [u64; 3], busy: [u64; 3], queued: u64) -> Truth {
        let window = (self.now - WARM_UP * 1_000_000) as f64;
        let share =
            |nth: usize, size: u32| (busy[nth] - before[nth]) as f64 / window / f64::from(size);
        let mut durations: Vec<f64> = self
            .durations
            .iter()
            .filter(|(ended, _)| *ended > WARM_UP * 1_000_000)
            .map(|(_, took)| *took as f64 / MICROS)
            .collect();
        durations.sort_by(f64::total_cmp);
        Truth {
            workers_busy: share(0, self.setup.workers),
            cores_busy: share(1, self.setup.cores),
            connections_busy: share(2, self.setup.connections),
            queued: self.queue.len() as u64,
            waiting_for_core: self.cores.waiting.len() as u64,
            waiting_for_connection: self.connections.waiting.len() as u64,
            workers_busy_now: u64::from(self.workers.used),
            ok: self.counts.ok - start.ok,
            errors: self.counts.errors - start.errors,
            timeouts: self.counts.timeouts - start.timeouts,
            mean_queue: queued as f64 / (SCRAPES + 1) as f64,
            durations,
        }
    }

    fn arrival(&mut self) {
        self.queue.push_back(self.now);
        let gap = self.chance.exponential(1.0 / self.setup.arrivals);
        self.at(self.now + micros(gap).max(1), Event::Arrival);
        self.start_tasks();
    }

    /// Gives up what has waited for too long.
    fn expire(&mut self) {
        let deadline = micros(self.setup.deadline);
        while self
            .queue
            .front()
            .is_some_and(|at| at + deadline <= self.now)
        {
            self.queue.pop_front();
            self.counts.timeouts += 1;
        }
    }

    fn start_tasks(&mut self) {
        while !self.queue.is_empty() && self.workers.take(self.now) {
            let worker = self.free.pop().expect("one is free");
            self.arrived[worker as usize] = self.queue.pop_front().expect("one waits");
            if self.cores.take(self.now) {
                self.slice(worker);
            } else {
                self.cores.waiting.push_back(worker);
            }
        }
    }

    fn slice(&mut self, worker: u32) {
        let took = self.draw(self.setup.slice);
        self.at(self.now + took, Event::SliceDone(worker));
    }

    fn query(&mut self, worker: u32) {
        let took = self.draw(self.setup.query);
        self.counts.queries += 1;
        self.counts.query_micros += took;
        self.at(self.now + took, Event::QueryDone(worker));
    }

    fn slice_done(&mut self, worker: u32) {
        if let Some(next) = self.cores.give(self.now) {
            self.slice(next);
        }
        if self.connections.take(self.now) {
            self.query(worker);
        } else {
            self.connections.waiting.push_back(worker);
        }
    }

    fn query_done(&mut self, worker: u32) {
        if let Some(next) = self.connections.give(self.now) {
            self.query(next);
        }
        let took = self.now - self.arrived[worker as usize];
        let seconds = took as f64 / MICROS;
        self.counts.buckets[BOUNDS.partition_point(|bound| *bound < seconds)] += 1;
        self.counts.sum_micros += took;
        self.durations.push((self.now, took));
        if self.chance.happens(self.setup.error_share) {
            self.counts.errors += 1;
        } else {
            self.counts.ok += 1;
        }
        self.free.push(worker);
        // Nobody waits for a worker here: what waits is in the pool's own queue.
        let _ = self.workers.give(self.now);
        self.start_tasks();
    }
}

fn micros(seconds: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "minutes"
    )]
    let micros = (seconds * MICROS) as u64;
    micros
}

/// The samples, by family.
struct Dump {
    families: Vec<(&'static str, &'static str, &'static str, String)>,
    /// What the counters held before the pool was looked at.
    past: Counts,
    past_busy: [u64; 3],
}

const FAMILIES: [(&str, &str, &str); 14] = [
    ("pool_workers", "gauge", "Workers."),
    ("pool_workers_busy", "gauge", "Workers that have a task."),
    (
        "pool_worker_busy_seconds",
        "counter",
        "Time that workers had a task, all workers together.",
    ),
    ("pool_queue_depth", "gauge", "Tasks that wait for a worker."),
    ("pool_tasks", "counter", "Tasks that have come to an end."),
    (
        "pool_task_duration_seconds",
        "histogram",
        "From submission to the end, of tasks that ran.",
    ),
    ("process_cpu_seconds", "counter", "Time on a core."),
    (
        "process_cpu_cores",
        "gauge",
        "Cores that the process may use.",
    ),
    (
        "process_cpu_waiting",
        "gauge",
        "Threads that could run and have no core.",
    ),
    ("db_connections", "gauge", "Connections of the pool."),
    (
        "db_connections_in_use",
        "gauge",
        "Connections with a query.",
    ),
    (
        "db_connection_in_use_seconds",
        "counter",
        "Time that connections had a query, all connections together.",
    ),
    (
        "db_connection_waiters",
        "gauge",
        "Tasks that wait for a connection.",
    ),
    (
        "db_query_duration_seconds",
        "summary",
        "Queries, without the wait for a connection.",
    ),
];

impl Dump {
    fn new(setup: &Setup, chance: &mut Chance) -> Self {
        // Some days of an ordinary load; in half of the pools with a bad hour among them.
        let days = chance.between(2.0, 6.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "counts"
        )]
        let tasks = (days * 86_400.0 * 0.4 * setup.arrivals) as u64;
        let bad = if setup.bad_past { tasks / 25 } else { 0 };
        let mut past = Counts {
            ok: tasks - bad,
            errors: tasks / 900 + bad / 3,
            timeouts: bad - bad / 3,
            queries: tasks,
            ..Counts::default()
        };
        let mean = setup.slice + setup.query;
        for nth in 0..tasks.min(2_000) {
            // The shape of the past, from a sample of it.
            let bad_one = setup.bad_past && nth % 25 == 0;
            let median = if bad_one { 1.5 } else { mean };
            let seconds = chance.log_normal(median, setup.sigma);
            let share = tasks / 2_000;
            past.buckets[BOUNDS.partition_point(|bound| *bound < seconds)] += share;
            past.sum_micros += share * micros(seconds);
        }
        past.ok = past.buckets.iter().sum::<u64>() - past.errors;
        past.query_micros = past.queries * micros(setup.query * 1.2);
        let busy = past.sum_micros * 9 / 10;
        Dump {
            families: FAMILIES
                .iter()
                .map(|(name, kind, help)| (*name, *kind, *help, String::new()))
                .collect(),
            past_busy: [busy, busy / 4, busy / 4 * 3],
            past,
        }
    }

    fn push(&mut self, family: &str, sample: &str, value: impl std::fmt::Display, at: f64) {
        let text = self
            .families
            .iter_mut()
            .find(|(name, ..)| *name == family)
            .map(|(.., text)| text)
            .expect("every family is listed");
        let _ = writeln!(text, "{family}{sample} {value} {at}");
    }

    fn scrape(&mut self, at: f64, pool: &Pool<'_>, busy: [u64; 3]) {
        let setup = pool.setup;
        let seconds = |past: u64, now: u64| format!("{:.3}", (past + now) as f64 / MICROS);
        let [workers, cores, connections] =
            [0, 1, 2].map(|nth| seconds(self.past_busy[nth], busy[nth]));
        self.push("pool_workers", "", setup.workers, at);
        self.push("pool_workers_busy", "", pool.workers.used, at);
        self.push("pool_worker_busy_seconds", "_total", workers, at);
        self.push("pool_queue_depth", "", pool.queue.len(), at);
        self.push("process_cpu_seconds", "_total", cores, at);
        self.push("process_cpu_cores", "", setup.cores, at);
        self.push("process_cpu_waiting", "", pool.cores.waiting.len(), at);
        self.push("db_connections", "", setup.connections, at);
        self.push("db_connections_in_use", "", pool.connections.used, at);
        self.push("db_connection_in_use_seconds", "_total", connections, at);
        let waiters = pool.connections.waiting.len();
        self.push("db_connection_waiters", "", waiters, at);
        let (past, counts) = (self.past.clone(), &pool.counts);
        for (outcome, value) in [
            ("ok", past.ok + counts.ok),
            ("error", past.errors + counts.errors),
            ("timeout", past.timeouts + counts.timeouts),
        ] {
            let sample = format!("_total{{outcome=\"{outcome}\"}}");
            self.push("pool_tasks", &sample, value, at);
        }
        let mut cumulative = 0;
        for (nth, count) in counts.buckets.iter().enumerate() {
            cumulative += count + past.buckets[nth];
            let le = BOUNDS
                .get(nth)
                .map_or("+Inf".to_owned(), |bound| format!("{bound:?}"));
            let sample = format!("_bucket{{le=\"{le}\"}}");
            self.push("pool_task_duration_seconds", &sample, cumulative, at);
        }
        let sum = seconds(past.sum_micros, counts.sum_micros);
        self.push("pool_task_duration_seconds", "_sum", sum, at);
        self.push("pool_task_duration_seconds", "_count", cumulative, at);
        let sum = seconds(past.query_micros, counts.query_micros);
        self.push("db_query_duration_seconds", "_sum", sum, at);
        let queries = past.queries + counts.queries;
        self.push("db_query_duration_seconds", "_count", queries, at);
    }

    fn openmetrics(self) -> String {
        let mut text = String::new();
        for (name, kind, help, samples) in self.families {
            let _ = write!(
                text,
                "# TYPE {name} {kind}\n# HELP {name} {help}\n{samples}"
            );
        }
        text.push_str("# EOF\n");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_used_up_and_nothing_else_is() {
        for seed in 0..12 {
            for limit in [
                Limit::Nothing,
                Limit::Workers,
                Limit::Cores,
                Limit::Connections,
            ] {
                let run = simulate(&Setup::drawn(limit, seed));
                let truth = &run.truth;
                let full = |busy: f64| busy >= 0.97;
                let expected = match limit {
                    Limit::Nothing => [false, false, false],
                    Limit::Workers => [true, false, false],
                    // Workers that wait for a core or a connection are busy too.
                    Limit::Cores => [true, true, false],
                    Limit::Connections => [true, false, true],
                };
                let found = [truth.workers_busy, truth.cores_busy, truth.connections_busy];
                assert_eq!(
                    found.map(full),
                    expected,
                    "{limit:?}, seed {seed}: {found:?}"
                );
                let spare = found.iter().filter(|busy| !full(**busy));
                assert!(
                    spare.clone().all(|busy| *busy < 0.9),
                    "{limit:?}, {seed}: {found:?}"
                );
                let late = truth.timeouts as f64 / truth.ended() as f64;
                assert_eq!(
                    late > 0.01,
                    limit != Limit::Nothing,
                    "{limit:?}, {seed}: {late}"
                );
            }
        }
    }

    #[test]
    fn busy_time_is_rate_times_mean_time() {
        // Little's law for the workers: how many are busy is what ends per second, times how long
        // each is held; here each is held for slice and query only.
        let setup = Setup::drawn(Limit::Nothing, 4);
        let truth = simulate(&setup).truth;
        let held = (setup.slice + setup.query) * libm::exp(setup.sigma * setup.sigma / 2.0);
        let busy = setup.arrivals * held / f64::from(setup.workers);
        assert!(
            (truth.workers_busy / busy - 1.0).abs() < 0.05,
            "{} {busy}",
            truth.workers_busy
        );
    }

    #[test]
    fn what_the_dump_counts_is_what_happened() {
        let run = simulate(&Setup::drawn(Limit::Workers, 9));
        let sample = |name: &str, nth: usize| -> f64 {
            let mut lines = run.metrics.lines().filter(|line| line.starts_with(name));
            let line = lines.nth(nth).expect(name);
            line.split(' ')
                .nth(1)
                .and_then(|value| value.parse().ok())
                .expect(line)
        };
        let last = usize::try_from(SCRAPES).expect("small");
        for (name, truth) in [
            ("pool_tasks_total{outcome=\"ok\"}", run.truth.ok),
            ("pool_tasks_total{outcome=\"timeout\"}", run.truth.timeouts),
            (
                "pool_task_duration_seconds_count",
                run.truth.ok + run.truth.errors,
            ),
        ] {
            let counted = sample(name, last) - sample(name, 0);
            assert_eq!(counted, truth as f64, "{name}");
        }
        assert_eq!(sample("pool_queue_depth", last), run.truth.queued as f64);
    }
}
