//! Ready-made scenarios: a service of three instances or one, with a fault of each kind or none.
//!
//! For labs that need many incidents, each with its truth. What a lab wants to be different it
//! changes in the [`Setup`] that it gets: all fields are public.
//!
//! ```
//! use incident::service::catalog::{Case, hour};
//! use incident::service::{Cause, simulate};
//!
//! let run = simulate(&hour(Case::Deadlock, 3));
//! assert_eq!(run.truth().cause, Cause::Deadlock);
//! ```

use super::{
    Cache, Dependency, Deploy, Fault, Job, Load, LogPipeline, Memory, Pool, Route, Scenario,
    Service, Setup, Step, Tier, Time,
};
use crate::chance::Chance;

/// What kind of hour or day it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Case {
    /// Healthy: nothing happens.
    Quiet,
    /// Healthy: the cores are busy for more than half of the time, and that is enough.
    Busy,
    /// Healthy: twice the traffic, for less than two minutes.
    Spike,
    /// Healthy: a release that changes nothing.
    InnocentDeploy,
    /// Healthy: most of the memory is used, and it stays so.
    HighMemory,
    /// Healthy: a job that reads much for ten minutes.
    BatchJob,
    /// A query needs its index and has none: the pool is exhausted.
    SlowQuery,
    /// Connections are not given back.
    ConnectionLeak,
    /// Tasks that never end.
    TaskLeak,
    /// Memory that is never freed.
    MemoryLeak,
    /// A release that needs more of the processor, or fails.
    BadDeploy,
    LockContention,
    Deadlock,
    CacheStampede,
    RetryStorm,
    NoisyTenant,
    /// A dependency with a heavy tail.
    SlowDependency,
    LogLoss,
    /// More traffic than the cores can serve.
    TrafficSurge,
}

impl Case {
    /// Every case, the healthy ones first.
    pub const ALL: [Case; 19] = [
        Case::Quiet,
        Case::Busy,
        Case::Spike,
        Case::InnocentDeploy,
        Case::HighMemory,
        Case::BatchJob,
        Case::SlowQuery,
        Case::ConnectionLeak,
        Case::TaskLeak,
        Case::MemoryLeak,
        Case::BadDeploy,
        Case::LockContention,
        Case::Deadlock,
        Case::CacheStampede,
        Case::RetryStorm,
        Case::NoisyTenant,
        Case::SlowDependency,
        Case::LogLoss,
        Case::TrafficSurge,
    ];
    /// Those in which nothing is wrong.
    pub const HEALTHY: [Case; 6] = [
        Case::Quiet,
        Case::Busy,
        Case::Spike,
        Case::InnocentDeploy,
        Case::HighMemory,
        Case::BatchJob,
    ];

    pub fn is_healthy(self) -> bool {
        Case::HEALTHY.contains(&self)
    }
}

impl Setup {
    /// The same as [`hour`].
    pub fn drawn(case: Case, seed: u64) -> Self {
        hour(case, seed)
    }
}

/// An hour of a service of three instances with 50 to 70 requests a second, scraped every 15 s. A
/// fault starts after 20 to 35 minutes and stays.
pub fn hour(case: Case, seed: u64) -> Setup {
    drawn(case, seed, &HOUR)
}

/// As [`hour`] of [`Case::SlowQuery`], where nobody gives up and nothing is turned away: requests wait
/// for a connection for as long as it takes, so that the latency rises and the share of the errors
/// does not.
pub fn exhausted_pool(seed: u64) -> Setup {
    let mut setup = hour(Case::SlowQuery, seed);
    setup.service.deadline = None;
    for pool in &mut setup.service.pools {
        pool.acquire_timeout = None;
    }
    for tier in &mut setup.service.tiers {
        tier.workers = 2_000;
        tier.queue = 8_000;
    }
    setup
}

/// An hour of three instances, of which the third gets one request in 70 and waits long for a part of
/// its calls: its own p99 takes seconds, and that of the service is as ever. Healthy, as
/// the service goes. The two setups run beside each other.
pub fn slow_straggler(seed: u64) -> [Setup; 2] {
    let mut others = hour(Case::Quiet, seed);
    others.service.instances = 2;
    let mut straggler = hour(Case::SlowDependency, seed);
    straggler.service.instances = 1;
    straggler.seed ^= 0x57A6_0001;
    for rate in [&mut straggler.load.low, &mut straggler.load.high] {
        *rate /= 70.0;
    }
    for scenario in &mut straggler.scenarios {
        scenario.starts_at = 0.0;
        if let Fault::SlowDependency {
            share,
            median,
            sigma,
            ..
        } = &mut scenario.fault
        {
            (*share, *median, *sigma) = (0.3, 4.0, 0.3);
        }
    }
    [others, straggler]
}

/// A day of a small service, one instance with 13 to 17 requests a second on average, scraped every
/// 15 s. A fault starts between 06:00 and 16:00 UTC. Leaks stay to the end of the day; everything
/// else is mended after one to two hours.
pub fn day(case: Case, seed: u64) -> Setup {
    drawn(case, seed, &DAY)
}

struct Window {
    instances: usize,
    /// Requests per second of each instance, on average.
    rate: (f64, f64),
    duration: f64,
    starts: (f64, f64),
    lasts: Option<(f64, f64)>,
    whole_days: bool,
}

const HOUR: Window = Window {
    instances: 3,
    rate: (17.0, 23.0),
    duration: 3_600.0,
    starts: (1_200.0, 2_100.0),
    lasts: None,
    whole_days: false,
};

const DAY: Window = Window {
    instances: 1,
    rate: (13.0, 17.0),
    duration: 86_400.0,
    starts: (21_600.0, 57_600.0),
    lasts: Some((3_600.0, 7_200.0)),
    whole_days: true,
};

/// What a service is about; the structure is the same.
struct Theme {
    service: &'static str,
    version: (u64, u64),
    pool: &'static str,
    cache: &'static str,
    locks: (&'static str, &'static str),
    dependency: &'static str,
    list: (&'static str, &'static str),
    item: (&'static str, &'static str),
    write: (&'static str, &'static str),
    tenants: [&'static str; 5],
}

const THEMES: [Theme; 4] = [
    Theme {
        service: "checkout",
        version: (2, 3),
        pool: "orders",
        cache: "catalog",
        locks: ("carts", "stock"),
        dependency: "payments",
        list: ("/products", "list_products"),
        item: ("/orders/{id}", "find_order"),
        write: ("/orders", "insert_order"),
        tenants: ["acme", "borealis", "corvid", "dunes", "ember"],
    },
    Theme {
        service: "bookings",
        version: (4, 11),
        pool: "rooms",
        cache: "availability",
        locks: ("calendar", "holds"),
        dependency: "pricing",
        list: ("/rooms", "search_rooms"),
        item: ("/bookings/{id}", "find_booking"),
        write: ("/bookings", "insert_booking"),
        tenants: ["alpine", "bayview", "citadel", "drift", "estuary"],
    },
    Theme {
        service: "parcels",
        version: (1, 27),
        pool: "shipments",
        cache: "depots",
        locks: ("routes", "labels"),
        dependency: "geocoder",
        list: ("/depots", "list_depots"),
        item: ("/parcels/{id}", "find_parcel"),
        write: ("/parcels", "insert_parcel"),
        tenants: ["arrow", "bluebird", "cartage", "dispatch", "express"],
    },
    Theme {
        service: "library",
        version: (3, 8),
        pool: "loans",
        cache: "titles",
        locks: ("shelves", "members"),
        dependency: "notifier",
        list: ("/titles", "search_titles"),
        item: ("/loans/{id}", "find_loan"),
        write: ("/loans", "insert_loan"),
        tenants: ["ashford", "brook", "clarendon", "devon", "easton"],
    },
];

const ITEM_QUERY: f64 = 0.009;
const POOL_SIZE: u32 = 8;
/// Of the traffic: lists, items, writes.
const SHARES: [f64; 3] = [0.5, 0.3, 0.2];

fn drawn(case: Case, seed: u64, window: &Window) -> Setup {
    let mut chance = Chance::of(seed ^ 0x0CA7_A106);
    let theme = chance.pick(&THEMES);
    let rate = chance.between(window.rate.0, window.rate.1);
    let mut service = service(case, theme, window, &mut chance);
    let starts_at = libm::floor(chance.between(window.starts.0, window.starts.1));
    let lasts = window
        .lasts
        .map(|(low, high)| libm::floor(chance.between(low, high)));

    // Somewhere in 2025, on a working day.
    let mut begins = 1_735_689_600 + 86_400 * whole(&mut chance, 0, 360);
    while matches!((begins / 86_400 + 4) % 7, 0 | 6) {
        begins += 86_400;
    }
    if !window.whole_days {
        begins += 60 * whole(&mut chance, 0, 1_379);
    }

    let mut load = Load::daily(1.0, chance.between(1.8, 2.6)).noise(chance.between(0.03, 0.06));
    let per_instance = rate_of(case, rate, &service, &mut chance);
    // A day has this rate on average, an hour when the fault sets in.
    let usual = if window.whole_days {
        f64::midpoint(load.low, load.high)
    } else {
        load.rate(begins, starts_at)
    };
    #[expect(clippy::cast_precision_loss, reason = "a few instances")]
    let scale = per_instance * window.instances as f64 / usual;
    load.low *= scale;
    load.high *= scale;

    // When a fault starts, an instance has this many requests per second.
    #[expect(clippy::cast_precision_loss, reason = "a few instances")]
    let here = load.rate(begins, starts_at) / window.instances as f64;
    let left = window.duration - starts_at;
    let patch = chance.whole(1, 9);
    let next = format!("{}.{}.{}", theme.version.0, theme.version.1 + 1, 0);
    let mut jobs = Vec::new();
    let mut deploys = Vec::new();
    let fault = match case {
        Case::Quiet | Case::Busy => None,
        Case::Spike => {
            load = load.spike(
                starts_at,
                chance.between(1.8, 2.2),
                chance.between(50.0, 105.0),
            );
            None
        }
        Case::InnocentDeploy => {
            deploys.push(Deploy::new(starts_at, &next));
            None
        }
        Case::HighMemory => {
            service.memory.base = service.memory.limit * chance.between(0.78, 0.86);
            None
        }
        Case::BatchJob => {
            #[expect(clippy::cast_precision_loss, reason = "a few instances")]
            let instances = window.instances as f64;
            jobs.push(Job {
                path: theme.item.0.into(),
                at: starts_at,
                lasts: chance.between(500.0, 800.0),
                rate: here * instances * chance.between(0.3, 0.6),
            });
            None
        }
        Case::SlowQuery => {
            // More work than the connections of an instance can hold.
            let held = f64::from(POOL_SIZE) * chance.between(1.05, 1.4);
            Some(Fault::SlowQuery {
                query: theme.item.1.into(),
                factor: held / (here * SHARES[1] * Time::about(ITEM_QUERY).mean()),
            })
        }
        Case::ConnectionLeak => {
            let queries = here * (SHARES[1] + SHARES[2]);
            let exhausted_after = left.min(3_000.0) * chance.between(0.15, 0.4);
            Some(Fault::ConnectionLeak {
                pool: theme.pool.into(),
                share: f64::from(POOL_SIZE) / (queries * exhausted_after),
            })
        }
        Case::TaskLeak => {
            let tasks = chance.between(9_000.0, 22_000.0);
            Some(Fault::TaskLeak {
                share: (tasks / (here * left)).min(1.0),
                bytes: chance.between(20e3, 32e3),
                descriptors: chance.happens(0.4),
            })
        }
        Case::MemoryLeak => {
            let acceleration = if chance.happens(0.4) {
                chance.between(1.0, 3.0)
            } else {
                0.0
            };
            let hours = left / 3_600.0;
            let growth = chance.between(350e6, 1_900e6);
            Some(Fault::MemoryLeak {
                bytes_per_request: growth / (here * left * (1.0 + acceleration * hours / 2.0)),
                acceleration,
            })
        }
        Case::BadDeploy => {
            let computes = chance.happens(0.6);
            let busy = here * compute_seconds(&service) / f64::from(service.cores);
            Some(Fault::BadDeploy {
                version: next.clone(),
                stagger: 40.0,
                compute_factor: if computes {
                    chance.between(0.96, 1.08) / busy
                } else {
                    1.0
                },
                allocation_factor: if computes {
                    chance.between(1.5, 4.0)
                } else {
                    1.0
                },
                error_share: if computes {
                    0.0
                } else {
                    chance.between(0.03, 0.12)
                },
            })
        }
        Case::LockContention => {
            let held = chance.between(0.86, 1.05);
            Some(Fault::LockContention {
                lock: theme.locks.0.into(),
                factor: held / (here * SHARES[2] * LOCKED_SECONDS),
            })
        }
        Case::Deadlock => Some(Fault::Deadlock {
            first: theme.locks.0.into(),
            second: theme.locks.1.into(),
        }),
        Case::CacheStampede => Some(Fault::CacheStampede {
            cache: theme.cache.into(),
            ttl: *chance.pick(&[20.0, 30.0, 40.0]),
            fill_factor: chance.between(25.0, 45.0),
        }),
        Case::RetryStorm => {
            // Half of it is used; five attempts for each call are more than all of it.
            #[expect(clippy::cast_precision_loss, reason = "a few instances")]
            let calls = here * window.instances as f64 * SHARES[2];
            let dependency = dependency(&mut service, theme);
            let work = calls * Time::about(CALL).mean();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a small number"
            )]
            let capacity = libm::ceil(work / chance.between(0.38, 0.5)).max(2.0) as u32;
            dependency.capacity = capacity;
            dependency.timeout = Some(0.6);
            Some(Fault::RetryStorm {
                dependency: theme.dependency.into(),
                factor: chance.between(8.0, 12.0),
                trigger: chance.between(60.0, 150.0),
                attempts: 5,
            })
        }
        Case::NoisyTenant => {
            let busy = here * compute_seconds(&service) / f64::from(service.cores);
            let wanted = chance.between(0.98, 1.12);
            #[expect(clippy::cast_precision_loss, reason = "a few instances")]
            let instances = window.instances as f64;
            Some(Fault::NoisyTenant {
                tenant: (*chance.pick(&theme.tenants)).into(),
                rate: here * instances * (wanted / busy - 1.0),
            })
        }
        Case::SlowDependency => Some(Fault::SlowDependency {
            dependency: theme.dependency.into(),
            share: chance.between(0.15, 0.4),
            median: chance.between(1.2, 3.0),
            sigma: chance.between(0.7, 1.1),
        }),
        Case::LogLoss => Some(Fault::LogLoss {
            lines_per_second: here * chance.between(0.25, 0.6),
        }),
        Case::TrafficSurge => {
            let busy = here * compute_seconds(&service) / f64::from(service.cores);
            Some(Fault::TrafficSurge {
                factor: chance.between(1.0, 1.2) / busy,
            })
        }
    };
    // Something that looks guilty and is not: a release some minutes before.
    if !matches!(case, Case::BadDeploy | Case::InnocentDeploy) && chance.happens(0.4) {
        let before = chance.between(300.0, 900.0);
        let version = format!("{}.{}.{}", theme.version.0, theme.version.1, patch + 1);
        deploys.push(Deploy::new(libm::floor(starts_at - before), &version));
    }
    service.version = format!("{}.{}.{patch}", theme.version.0, theme.version.1);

    let leaks = matches!(
        case,
        Case::ConnectionLeak | Case::TaskLeak | Case::MemoryLeak | Case::Deadlock
    );
    let mut setup = Setup::new(service, load, seed)
        .beginning(begins)
        .lasting(window.duration);
    setup.uptime_days = chance.between(1.0, 12.0);
    setup.deploys = deploys;
    setup.jobs = jobs;
    setup.scenarios = fault
        .map(|fault| Scenario {
            fault,
            starts_at,
            lasts: lasts.filter(|_| !leaks),
        })
        .into_iter()
        .collect();
    if window.whole_days {
        setup.trace_one_in = 2_000;
        setup.log_one_in = 1_000;
    }
    setup
}

fn whole(chance: &mut Chance, low: u64, high: u64) -> i64 {
    i64::try_from(chance.whole(low, high)).expect("a small number")
}

/// Requests per second of an instance: more for who is to be busy.
fn rate_of(case: Case, usual: f64, service: &Service, chance: &mut Chance) -> f64 {
    match case {
        Case::Busy => {
            let cores = f64::from(service.cores);
            cores * chance.between(0.52, 0.62) / compute_seconds(service)
        }
        _ => usual,
    }
}

const CALL: f64 = 0.09;
/// Seconds for which a write holds its first lock, on average.
const LOCKED_SECONDS: f64 = 0.0044;

fn service(case: Case, theme: &Theme, window: &Window, chance: &mut Chance) -> Service {
    let about = |median: f64| Time::LogNormal { median, sigma: 0.5 };
    let slower = chance.between(0.85, 1.2);
    let compute = |median: f64| Step::compute(about(median * slower));
    // Two locks that are hardly ever held together would not come to a deadlock within the hour.
    let held = if case == Case::Deadlock { 0.010 } else { 0.002 };
    let pause = || Step::wait(Time::about(held));
    let mut service = Service::new(theme.service)
        .instances(window.instances)
        .cores(1)
        .tier(Tier::new("http", 64).queue(128))
        .dependency(Dependency::new("postgres", 40))
        .dependency(
            Dependency::new(theme.dependency, 400)
                .timeout(20.0)
                .attempts(2, 0.2)
                .errors(0.0005),
        )
        .pool(Pool::new(theme.pool, POOL_SIZE, "postgres").acquire_timeout(5.0))
        .cache(Cache::new(theme.cache, 600, 300.0))
        .route(Route::new("GET", theme.list.0, SHARES[0]).steps([
            compute(0.005),
            Step::cached(
                theme.cache,
                [Step::query(theme.pool, theme.list.1, Time::about(0.018))],
            ),
            compute(0.006),
        ]))
        .route(Route::new("GET", theme.item.0, SHARES[1]).steps([
            compute(0.006),
            Step::query(theme.pool, theme.item.1, Time::about(ITEM_QUERY)),
            compute(0.003),
        ]))
        .route(Route::new("POST", theme.write.0, SHARES[2]).steps([
            compute(0.009),
            Step::locked(
                theme.locks.0,
                [pause(), Step::locked(theme.locks.1, [pause()])],
            ),
            Step::query(theme.pool, theme.write.1, Time::about(0.022)),
            Step::call(theme.dependency, Time::about(CALL)),
            compute(0.004),
        ]))
        .errors(chance.between(0.0006, 0.0016))
        .memory(Memory {
            base: chance.between(260e6, 420e6),
            ..Memory::default()
        })
        .log_pipeline(LogPipeline {
            buffer: 1_024,
            lines_per_second: 2_000.0,
        });
    for (nth, tenant) in theme.tenants.iter().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "a handful")]
        let weight = 1.0 / (1.0 + nth as f64);
        service = service.tenant(tenant, weight * chance.between(0.8, 1.25));
    }
    service
}

fn dependency<'a>(service: &'a mut Service, theme: &Theme) -> &'a mut Dependency {
    service
        .dependencies
        .iter_mut()
        .find(|dependency| dependency.name == theme.dependency)
        .expect("every service here has one")
}

/// Seconds of a core for each request, on average, cached values aside.
fn compute_seconds(service: &Service) -> f64 {
    fn of(steps: &[Step]) -> f64 {
        steps
            .iter()
            .map(|step| match step {
                Step::Compute(time) => time.mean(),
                Step::Locked { steps, .. } => of(steps),
                _ => 0.0,
            })
            .sum()
    }
    let total: f64 = service.routes.iter().map(|route| route.weight).sum();
    service
        .routes
        .iter()
        .map(|route| route.weight / total * of(&route.steps))
        .sum()
}
