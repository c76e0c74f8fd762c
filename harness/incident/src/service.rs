//! A service that may fall ill: tiers of workers, cores, pools, locks, caches and dependencies,
//! under a load that follows the day, with faults that start at a known time.
//!
//! For labs that need telemetry whose truth is known: [`simulate`] runs a [`Setup`] in virtual time
//! and gives a [`Run`] with metrics over time, logs, traces, and the [`Truth`]. Ready-made
//! scenarios are in [`catalog`]; whoever needs another service describes it:
//!
//! ```
//! use incident::service::{
//!     Dependency, Fault, Load, Pool, Route, Scenario, Service, Setup, Step, Tier, Time, simulate,
//! };
//!
//! let service = Service::new("tickets")
//!     .instances(2)
//!     .tier(Tier::new("http", 32).queue(64))
//!     .dependency(Dependency::new("postgres", 24))
//!     .pool(Pool::new("seats", 8, "postgres").acquire_timeout(5.0))
//!     .route(Route::new("GET", "/seats", 3.0).steps([
//!         Step::compute(Time::about(0.004)),
//!         Step::query("seats", "find_seats", Time::about(0.020)),
//!     ]));
//! let setup = Setup::new(service, Load::constant(40.0), 7)
//!     .lasting(1_800.0)
//!     .scenario(Scenario::new(Fault::SlowQuery { query: "find_seats".into(), factor: 25.0 }, 900.0));
//! let run = simulate(&setup);
//!
//! assert_eq!(run.truth().starts_at_ms, Some((setup.begins + 900) * 1_000));
//! let in_use = run.series().find(|s| s.name() == "db_pool_connections_in_use").unwrap();
//! assert!(in_use.samples().iter().all(|&(_ms, value)| value <= 8.0));
//! assert!(run.openmetrics().ends_with("# EOF\n"));
//! ```
//!
//! # What is exact
//! Every request is simulated, event by event, in whole microseconds; nothing is a fluid and
//! nothing is scaled. So these hold exactly, at every scrape and for each process:
//! - what arrived has finished, is in flight, or was lost with its process ([`Ledger`]);
//! - a histogram's count is the counter of the same thing, its buckets are cumulative, and its sum
//!   is the sum of what it counted;
//! - the integral of the number in a station over time is the sum of the times spent in it, which
//!   is Little's law (Little, "A proof for the queuing formula L = λW", 1961) for a finite window;
//! - a gauge is what there was at the moment of the scrape.
//!
//! # What is approximate
//! - Arrivals are Poisson with a rate that stays the same for [`SLOT_SECONDS`] and then follows
//!   load and noise. Real traffic is burstier.
//! - A core serves one slice of work after the other, first come first served; no preemption.
//! - A request is sent to an instance at random, whatever its state, as a balancer without health
//!   checks or least-request does.
//! - Memory is a model (a base that warms up, what is in flight, what is cached, what has leaked, and
//!   noise), not an allocator. Allocation only counts bytes for each request.
//! - A database or another dependency is one queue with a number of servers, shared by all
//!   instances.
//! - Before the window the service runs for [`Setup::warm_up`] seconds, and the counters that a
//!   process collected in the days before are extrapolated from that.
//!   Counters of the same event stay equal; between counters of different moments of a request
//!   (connections acquired, queries ended) a constant is left over.
//!
//! # What to know
//! - The end of a leak stops it; what has leaked stays until the process starts again. Requests in
//!   a deadlock hold each other until their deadline, and others follow them into it at once;
//!   without [`Service::deadline`] it lasts for ever.
//! - [`Run::level`] reads a run as a query would, and tells what an evidence moved from and to.
//! - Change one thing and simulate again for a prediction: 24 workers instead of 16 meet the same
//!   arrivals, because arrivals and work have streams of their own.
//!
//! # Time
//! About half a microsecond for each request: a day of a small service (15 requests a second on
//! average) takes less than a second, an hour at 100 a second some 0.2 s. Months are for
//! [`crate::months`], which counts without simulating requests.
//!
//! The same setup gives the same bytes on every machine. Not for grading: a checker decides what an
//! answer is worth.

mod engine;
mod ledger;
mod records;
pub(crate) mod registry;
mod station;
mod truth;

pub mod catalog;

use std::fmt;

use crate::chance::Chance;

pub use ledger::{Ledger, Minute, StationLedger};
pub use registry::{Family, Kind, Labels, Series};
pub use truth::{Cause, Component, Evidence, Moves, Suspect, Truth};

/// For how long the rate of arrivals stays the same, in seconds.
pub const SLOT_SECONDS: f64 = 5.0;

/// How long a piece of work takes, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Time {
    Constant(f64),
    Exponential {
        mean: f64,
    },
    /// `sigma` is the standard deviation of the logarithm.
    LogNormal {
        median: f64,
        sigma: f64,
    },
    /// Log-normal, of which a `share` takes another, slower log-normal time.
    Tailed {
        median: f64,
        sigma: f64,
        share: f64,
        slow_median: f64,
        slow_sigma: f64,
    },
}

impl Time {
    /// A time as most pieces of work take it: log-normal with `sigma` 0.4.
    pub fn about(median: f64) -> Self {
        Time::LogNormal { median, sigma: 0.4 }
    }

    /// The mean, in seconds.
    pub fn mean(self) -> f64 {
        let log_normal = |median: f64, sigma: f64| median * libm::exp(sigma * sigma / 2.0);
        match self {
            Time::Constant(mean) | Time::Exponential { mean } => mean,
            Time::LogNormal { median, sigma } => log_normal(median, sigma),
            Time::Tailed {
                median,
                sigma,
                share,
                slow_median,
                slow_sigma,
            } => {
                (1.0 - share) * log_normal(median, sigma)
                    + share * log_normal(slow_median, slow_sigma)
            }
        }
    }

    fn draw(self, chance: &mut Chance) -> f64 {
        match self {
            Time::Constant(time) => time,
            Time::Exponential { mean } => chance.exponential(mean),
            Time::LogNormal { median, sigma } => chance.log_normal(median, sigma),
            Time::Tailed {
                median,
                sigma,
                share,
                slow_median,
                slow_sigma,
            } => {
                if chance.happens(share) {
                    chance.log_normal(slow_median, slow_sigma)
                } else {
                    chance.log_normal(median, sigma)
                }
            }
        }
    }
}

/// Workers behind a queue. The first tier of a service takes every request and rejects it with 503
/// when the queue is full; a later one, reached by [`Step::hand_over`], makes the tier before it
/// hold its worker until there is room, as a bounded channel does.
#[derive(Clone, Debug, PartialEq)]
pub struct Tier {
    pub name: String,
    /// Of each instance.
    pub workers: u32,
    /// How many may wait, in each instance.
    pub queue: u32,
}

impl Tier {
    /// With a queue four times as long as there are workers.
    pub fn new(name: &str, workers: u32) -> Self {
        Tier {
            name: name.into(),
            workers,
            queue: workers.saturating_mul(4),
        }
    }

    #[must_use]
    pub fn queue(mut self, limit: u32) -> Self {
        self.queue = limit;
        self
    }
}

/// A pool of connections, one in each instance, to a dependency that all instances share.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    pub name: String,
    /// Connections of each instance.
    pub size: u32,
    /// Connections that each process takes when it starts and keeps, for transactions that hold
    /// advisory locks: fewer than `size`.
    pub held: u32,
    /// The [`Dependency`] that runs the queries.
    pub dependency: String,
    /// Seconds after which a request gives up waiting for a connection: status 503.
    pub acquire_timeout: Option<f64>,
    /// Seconds after which a query is canceled: status 500.
    pub statement_timeout: Option<f64>,
}

impl Pool {
    /// Waits for 10 s for a connection, and for a query as long as it takes.
    pub fn new(name: &str, size: u32, dependency: &str) -> Self {
        Pool {
            name: name.into(),
            size,
            held: 0,
            dependency: dependency.into(),
            acquire_timeout: Some(10.0),
            statement_timeout: None,
        }
    }

    #[must_use]
    pub fn holding(mut self, connections: u32) -> Self {
        self.held = connections;
        self
    }

    #[must_use]
    pub fn acquire_timeout(mut self, seconds: f64) -> Self {
        self.acquire_timeout = Some(seconds);
        self
    }

    #[must_use]
    pub fn statement_timeout(mut self, seconds: f64) -> Self {
        self.statement_timeout = Some(seconds);
        self
    }
}

/// Something that all instances share: a database behind [`Pool`]s, or another service.
#[derive(Clone, Debug, PartialEq)]
pub struct Dependency {
    pub name: String,
    /// How much it serves at a time; what comes beyond waits in one queue.
    pub capacity: u32,
    /// Seconds after which a caller gives up. The work goes on without it.
    pub timeout: Option<f64>,
    /// Attempts of a call, the first included.
    pub attempts: u32,
    /// Seconds before the second attempt, twice as long before each further one, with full jitter;
    /// 0 is at once.
    pub backoff: f64,
    /// Share of the calls that it answers with an error.
    pub error_share: f64,
}

impl Dependency {
    /// One attempt, no timeout, no errors.
    pub fn new(name: &str, capacity: u32) -> Self {
        Dependency {
            name: name.into(),
            capacity,
            timeout: None,
            attempts: 1,
            backoff: 0.0,
            error_share: 0.0,
        }
    }

    #[must_use]
    pub fn timeout(mut self, seconds: f64) -> Self {
        self.timeout = Some(seconds);
        self
    }

    #[must_use]
    pub fn attempts(mut self, attempts: u32, backoff: f64) -> Self {
        self.attempts = attempts;
        self.backoff = backoff;
        self
    }

    #[must_use]
    pub fn errors(mut self, share: f64) -> Self {
        self.error_share = share;
        self
    }
}

/// A cache within each instance. Key `k` of `keys` is asked for with a probability that falls about
/// as 1/k.
#[derive(Clone, Debug, PartialEq)]
pub struct Cache {
    pub name: String,
    pub keys: u32,
    /// Seconds.
    pub ttl: f64,
    /// Whether requests that miss the same key share one fill.
    pub coalesces: bool,
}

impl Cache {
    pub fn new(name: &str, keys: u32, ttl: f64) -> Self {
        Cache {
            name: name.into(),
            keys,
            ttl,
            coalesces: false,
        }
    }

    #[must_use]
    pub fn coalescing(mut self) -> Self {
        self.coalesces = true;
        self
    }
}

/// What a request does, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Work on one of the instance's cores.
    Compute(Time),
    /// Waits for something that no one else wants.
    Wait(Time),
    /// Steps under a lock of the instance.
    Locked { lock: String, steps: Vec<Step> },
    /// Looks into a cache; on a miss takes the steps and stores the value.
    Cached { cache: String, on_miss: Vec<Step> },
    /// A query over a pool, named for its metrics.
    Query {
        pool: String,
        query: String,
        time: Time,
    },
    /// A call of a dependency.
    Call { dependency: String, time: Time },
    /// Passes the request to the workers of another tier.
    HandOver { tier: String },
}

impl Step {
    pub fn compute(time: Time) -> Self {
        Step::Compute(time)
    }

    pub fn wait(time: Time) -> Self {
        Step::Wait(time)
    }

    pub fn locked(lock: &str, steps: impl IntoIterator<Item = Step>) -> Self {
        Step::Locked {
            lock: lock.into(),
            steps: steps.into_iter().collect(),
        }
    }

    pub fn cached(cache: &str, on_miss: impl IntoIterator<Item = Step>) -> Self {
        Step::Cached {
            cache: cache.into(),
            on_miss: on_miss.into_iter().collect(),
        }
    }

    pub fn query(pool: &str, query: &str, time: Time) -> Self {
        Step::Query {
            pool: pool.into(),
            query: query.into(),
            time,
        }
    }

    pub fn call(dependency: &str, time: Time) -> Self {
        Step::Call {
            dependency: dependency.into(),
            time,
        }
    }

    pub fn hand_over(tier: &str) -> Self {
        Step::HandOver { tier: tier.into() }
    }
}

/// A kind of request.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    pub method: String,
    pub path: String,
    /// Its share of the traffic is this over the sum of all.
    pub weight: f64,
    pub steps: Vec<Step>,
}

impl Route {
    pub fn new(method: &str, path: &str, weight: f64) -> Self {
        Route {
            method: method.into(),
            path: path.into(),
            weight,
            steps: Vec::new(),
        }
    }

    #[must_use]
    pub fn steps(mut self, steps: impl IntoIterator<Item = Step>) -> Self {
        self.steps = steps.into_iter().collect();
        self
    }
}

/// A customer, for metrics by tenant.
#[derive(Clone, Debug, PartialEq)]
pub struct Tenant {
    pub name: String,
    pub weight: f64,
}

/// What a process needs of memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Memory {
    /// Of a warm process without traffic.
    pub base: f64,
    pub per_request_in_flight: f64,
    pub per_cache_entry: f64,
    /// The process is killed above this.
    pub limit: f64,
    /// Allocated, and freed again, for each request.
    pub allocated_per_request: f64,
}

impl Default for Memory {
    fn default() -> Self {
        Memory {
            base: 310e6,
            per_request_in_flight: 180e3,
            per_cache_entry: 4e3,
            limit: 2e9,
            allocated_per_request: 640e3,
        }
    }
}

/// The way of log lines out of each instance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogPipeline {
    /// Lines that may wait; further ones are dropped.
    pub buffer: u64,
    /// Lines that are shipped in a second.
    pub lines_per_second: f64,
}

impl Default for LogPipeline {
    fn default() -> Self {
        LogPipeline {
            buffer: 4_096,
            lines_per_second: 2_000.0,
        }
    }
}

/// A service: how each of its instances is built, and what its requests do.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    pub name: String,
    pub instances: usize,
    /// Of each instance.
    pub cores: u32,
    pub version: String,
    pub tiers: Vec<Tier>,
    pub pools: Vec<Pool>,
    pub dependencies: Vec<Dependency>,
    pub caches: Vec<Cache>,
    pub routes: Vec<Route>,
    /// Without any, no metric speaks of tenants.
    pub tenants: Vec<Tenant>,
    /// Seconds after which a request is dropped where it stands: status 504.
    pub deadline: Option<f64>,
    /// Share of the requests that end with status 500 for reasons of their own.
    pub error_share: f64,
    /// Seconds by which a process that is asked to stop finishes what it has begun, and until the
    /// next one is ready.
    pub drain: f64,
    pub boot: f64,
    pub memory: Memory,
    pub log_pipeline: LogPipeline,
    /// Upper bounds of the histograms, in seconds, ascending, without `+Inf`.
    pub bounds: Vec<f64>,
}

impl Service {
    /// One instance with two cores, and nothing else.
    pub fn new(name: &str) -> Self {
        Service {
            name: name.into(),
            instances: 1,
            cores: 2,
            version: "1.0.0".into(),
            tiers: Vec::new(),
            pools: Vec::new(),
            dependencies: Vec::new(),
            caches: Vec::new(),
            routes: Vec::new(),
            tenants: Vec::new(),
            deadline: Some(30.0),
            error_share: 0.001,
            drain: 5.0,
            boot: 6.0,
            memory: Memory::default(),
            log_pipeline: LogPipeline::default(),
            bounds: vec![
                0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
            ],
        }
    }

    #[must_use]
    pub fn instances(mut self, instances: usize) -> Self {
        self.instances = instances;
        self
    }

    #[must_use]
    pub fn cores(mut self, cores: u32) -> Self {
        self.cores = cores;
        self
    }

    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        self.version = version.into();
        self
    }

    #[must_use]
    pub fn tier(mut self, tier: Tier) -> Self {
        self.tiers.push(tier);
        self
    }

    #[must_use]
    pub fn pool(mut self, pool: Pool) -> Self {
        self.pools.push(pool);
        self
    }

    #[must_use]
    pub fn dependency(mut self, dependency: Dependency) -> Self {
        self.dependencies.push(dependency);
        self
    }

    #[must_use]
    pub fn cache(mut self, cache: Cache) -> Self {
        self.caches.push(cache);
        self
    }

    #[must_use]
    pub fn route(mut self, route: Route) -> Self {
        self.routes.push(route);
        self
    }

    #[must_use]
    pub fn tenant(mut self, name: &str, weight: f64) -> Self {
        self.tenants.push(Tenant {
            name: name.into(),
            weight,
        });
        self
    }

    #[must_use]
    pub fn deadline(mut self, seconds: f64) -> Self {
        self.deadline = Some(seconds);
        self
    }

    #[must_use]
    pub fn errors(mut self, share: f64) -> Self {
        self.error_share = share;
        self
    }

    #[must_use]
    pub fn memory(mut self, memory: Memory) -> Self {
        self.memory = memory;
        self
    }

    #[must_use]
    pub fn log_pipeline(mut self, pipeline: LogPipeline) -> Self {
        self.log_pipeline = pipeline;
        self
    }

    #[must_use]
    pub fn bounds(mut self, bounds: impl IntoIterator<Item = f64>) -> Self {
        self.bounds = bounds.into_iter().collect();
        self
    }
}

/// A burst of traffic: `factor` times the rate from `at`, for `lasts` seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spike {
    pub at: f64,
    pub factor: f64,
    pub lasts: f64,
}

/// Requests per second over time, of all instances together.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// At four in the morning, UTC.
    pub low: f64,
    /// At four in the afternoon.
    pub high: f64,
    /// Relative standard deviation of a slow noise on the rate.
    pub noise: f64,
    /// Factor on Saturdays and Sundays.
    pub weekend: f64,
    pub spikes: Vec<Spike>,
}

impl Load {
    /// Follows the day: a cosine between the two rates.
    pub fn daily(low: f64, high: f64) -> Self {
        Load {
            low,
            high,
            noise: 0.05,
            weekend: 1.0,
            spikes: Vec::new(),
        }
    }

    /// The same at all times, without noise: a Poisson process, for comparing with theory.
    pub fn constant(rate: f64) -> Self {
        Load {
            noise: 0.0,
            ..Load::daily(rate, rate)
        }
    }

    #[must_use]
    pub fn noise(mut self, relative: f64) -> Self {
        self.noise = relative;
        self
    }

    #[must_use]
    pub fn weekend(mut self, factor: f64) -> Self {
        self.weekend = factor;
        self
    }

    #[must_use]
    pub fn spike(mut self, at: f64, factor: f64, lasts: f64) -> Self {
        self.spikes.push(Spike { at, factor, lasts });
        self
    }

    /// The rate without noise, `at` seconds after `begins` (Unix time).
    pub fn rate(&self, begins: i64, at: f64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "Unix time in seconds")]
        let unix = begins as f64 + at;
        let hour = libm::fmod(unix / 3_600.0, 24.0);
        let day = libm::fmod(libm::floor(unix / 86_400.0) + 4.0, 7.0);
        let wave = 0.5 - 0.5 * libm::cos((hour - 4.0) / 24.0 * 2.0 * std::f64::consts::PI);
        let mut rate = self.low + (self.high - self.low) * wave;
        // 1970-01-01 was a Thursday, day 4 of a week that begins with Sunday.
        if day == 0.0 || day == 6.0 {
            rate *= self.weekend;
        }
        for spike in &self.spikes {
            if (spike.at..spike.at + spike.lasts).contains(&at) {
                rate *= spike.factor;
            }
        }
        rate
    }
}

/// Further requests of one route, beside the load: a batch job.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// The path of its route.
    pub path: String,
    pub at: f64,
    pub lasts: f64,
    /// Requests per second.
    pub rate: f64,
}

/// A release that reaches one instance after the other. By itself it changes nothing but the
/// version; counters start again from zero.
#[derive(Clone, Debug, PartialEq)]
pub struct Deploy {
    pub at: f64,
    pub version: String,
    /// Seconds between two instances.
    pub stagger: f64,
}

impl Deploy {
    pub fn new(at: f64, version: &str) -> Self {
        Deploy {
            at,
            version: version.into(),
            stagger: 40.0,
        }
    }
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// A query takes `factor` times as long and holds its connection meanwhile.
    SlowQuery { query: String, factor: f64 },
    /// A share of the queries of a pool never gives its connection back.
    ConnectionLeak { pool: String, share: f64 },
    /// A share of the requests leaves a task behind that never ends, with its memory and, where
    /// `descriptors`, an open socket.
    TaskLeak {
        share: f64,
        bytes: f64,
        descriptors: bool,
    },
    /// Each request leaves this many bytes behind, times 1 + `acceleration` for each hour since the
    /// start.
    MemoryLeak {
        bytes_per_request: f64,
        acceleration: f64,
    },
    /// A release after which requests need more of the processor, allocate more, and fail more
    /// often. It reaches one instance after the other.
    BadDeploy {
        version: String,
        stagger: f64,
        compute_factor: f64,
        allocation_factor: f64,
        error_share: f64,
    },
    /// What is done under a lock takes `factor` times as long: computing, waiting, queries and
    /// calls alike.
    LockContention { lock: String, factor: f64 },
    /// Half of the requests that take `first` and then `second` take them the other way round.
    Deadlock { first: String, second: String },
    /// The entries of a cache all expire at the same moments, every `ttl` seconds, and filling them
    /// takes `fill_factor` times as long.
    CacheStampede {
        cache: String,
        ttl: f64,
        fill_factor: f64,
    },
    /// A dependency is `factor` times as slow for `trigger` seconds; attempts rise to `attempts`
    /// without a pause for as long as the fault lasts, and keep it busy with work that nobody
    /// waits for.
    RetryStorm {
        dependency: String,
        factor: f64,
        trigger: f64,
        attempts: u32,
    },
    /// A tenant sends `rate` requests per second more.
    NoisyTenant { tenant: String, rate: f64 },
    /// A share of the calls and queries to a dependency takes a long time (median in seconds).
    SlowDependency {
        dependency: String,
        share: f64,
        median: f64,
        sigma: f64,
    },
    /// The log store takes this many lines a second from each instance; the rest is lost, and
    /// nothing else happens.
    LogLoss { lines_per_second: f64 },
    /// `factor` times the traffic.
    TrafficSurge { factor: f64 },
}

/// A fault and when it is there.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    pub fault: Fault,
    /// Seconds from the beginning of the window.
    pub starts_at: f64,
    /// Seconds; `None` is until the window ends.
    pub lasts: Option<f64>,
}

impl Scenario {
    pub fn new(fault: Fault, starts_at: f64) -> Self {
        Scenario {
            fault,
            starts_at,
            lasts: None,
        }
    }

    #[must_use]
    pub fn lasting(mut self, seconds: f64) -> Self {
        self.lasts = Some(seconds);
        self
    }
}

/// A simulation, before it happens. Times in seconds from the beginning of the window.
#[derive(Clone, Debug, PartialEq)]
pub struct Setup {
    pub service: Service,
    pub load: Load,
    /// The first is the one that [`Run::truth`] tells of.
    pub scenarios: Vec<Scenario>,
    pub deploys: Vec<Deploy>,
    pub jobs: Vec<Job>,
    /// Unix time, in seconds.
    pub begins: i64,
    pub duration: f64,
    /// Seconds before the window in which the service runs without being recorded.
    pub warm_up: f64,
    /// Days for which the processes have been running when the window begins.
    pub uptime_days: f64,
    /// Seconds from one scrape of an instance to the next.
    pub scrape_interval: f64,
    /// Share of the scrapes that fail for reasons of the network.
    pub missed_scrapes: f64,
    /// One request in this many is traced; 0 traces none.
    pub trace_one_in: u32,
    /// One ordinary log line in this many is kept in [`Run::logs`]; warnings and errors all are.
    /// 0 keeps no log at all.
    pub log_one_in: u32,
    pub seed: u64,
}

impl Setup {
    /// A healthy hour that begins on 2025-03-12 at 13:00 UTC, a Wednesday, scraped every 15 s; one
    /// request in 200 traced, one ordinary log line in 50 kept.
    pub fn new(service: Service, load: Load, seed: u64) -> Self {
        Setup {
            service,
            load,
            scenarios: Vec::new(),
            deploys: Vec::new(),
            jobs: Vec::new(),
            begins: 1_741_784_400,
            duration: 3_600.0,
            warm_up: 60.0,
            uptime_days: 3.0,
            scrape_interval: 15.0,
            missed_scrapes: 0.0005,
            trace_one_in: 200,
            log_one_in: 50,
            seed,
        }
    }

    #[must_use]
    pub fn lasting(mut self, seconds: f64) -> Self {
        self.duration = seconds;
        self
    }

    #[must_use]
    pub fn beginning(mut self, unix_seconds: i64) -> Self {
        self.begins = unix_seconds;
        self
    }

    #[must_use]
    pub fn scenario(mut self, scenario: Scenario) -> Self {
        self.scenarios.push(scenario);
        self
    }

    #[must_use]
    pub fn deploy(mut self, deploy: Deploy) -> Self {
        self.deploys.push(deploy);
        self
    }

    #[must_use]
    pub fn job(mut self, job: Job) -> Self {
        self.jobs.push(job);
        self
    }

    /// Only a stretch of it, from `before` seconds before a moment to `after` seconds after it: the
    /// clock, and with it the load, stays. What lies before the stretch is left out; a fault that
    /// is there already when it begins starts with it.
    #[must_use]
    pub fn around(mut self, at: f64, before: f64, after: f64) -> Self {
        let cut = libm::floor((at - before).max(0.0));
        #[expect(clippy::cast_possible_truncation, reason = "whole seconds of a window")]
        let seconds = cut as i64;
        self.begins += seconds;
        self.duration = at - cut + after;
        for scenario in &mut self.scenarios {
            let starts_at = scenario.starts_at - cut;
            scenario.starts_at = starts_at.max(0.0);
            scenario.lasts = scenario
                .lasts
                .map(|lasts| (starts_at + lasts - scenario.starts_at).max(0.0));
        }
        self.deploys.retain(|deploy| deploy.at >= cut);
        self.jobs.retain(|job| job.at >= cut);
        for deploy in &mut self.deploys {
            deploy.at -= cut;
        }
        for job in &mut self.jobs {
            job.at -= cut;
        }
        for spike in &mut self.load.spikes {
            spike.at -= cut;
        }
        self
    }

    /// Neither logs nor traces: faster, for who only needs metrics.
    #[must_use]
    pub fn metrics_only(mut self) -> Self {
        self.trace_one_in = 0;
        self.log_one_in = 0;
        self
    }

    /// Checks that the description makes sense.
    ///
    /// # Errors
    /// The first name that stands for nothing, and the first number out of its range.
    pub fn check(&self) -> Result<(), SetupError> {
        engine::compile(self).map(|_| ())
    }
}

/// Why a [`Setup`] cannot be simulated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetupError(String);

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SetupError {}

/// Runs the setup.
///
/// # Panics
/// When the description makes no sense; [`Setup::check`] says so without a panic.
pub fn simulate(setup: &Setup) -> Run {
    match engine::compile(setup) {
        Ok(plan) => engine::run(setup, plan),
        Err(error) => panic!("could not simulate {}: {error}", setup.service.name),
    }
}

/// What a simulated service left behind, and what really happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    series: Vec<Series>,
    logs: String,
    traces: String,
    truth: Truth,
    ledger: Ledger,
    minutes: Vec<Minute>,
}

impl Run {
    /// Every time series, by metric name and then by labels. Milliseconds of Unix time.
    pub fn series(&self) -> impl Iterator<Item = &Series> + Clone {
        self.series.iter()
    }

    /// The series in the OpenMetrics text format with timestamps, which
    /// `promtool tsdb create-blocks-from openmetrics` reads.
    pub fn openmetrics(&self) -> String {
        registry::openmetrics(self.series.iter())
    }

    /// As [`Run::openmetrics`], of the series that `wanted` chooses: a day of every series is large.
    pub fn openmetrics_of(&self, wanted: impl Fn(&Series) -> bool) -> String {
        registry::openmetrics(self.series.iter().filter(|series| wanted(series)))
    }

    /// What reached the log store: JSON lines in the order of their time.
    pub fn logs(&self) -> &str {
        &self.logs
    }

    /// The sampled traces in OTLP/JSON, one document.
    pub fn traces(&self) -> &str {
        &self.traces
    }

    /// What went wrong, if anything.
    pub fn truth(&self) -> &Truth {
        &self.truth
    }

    /// What was counted beside the metrics, to the end of the window.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What the users met, minute by minute.
    pub fn minutes(&self) -> &[Minute] {
        &self.minutes
    }
}
