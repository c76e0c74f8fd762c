//! A setup, checked, with indices instead of names.

use crate::service::{Cache, Dependency, Fault, Pool, Setup, SetupError, Step, Tier, Time};

/// What a request does next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::service) enum Op {
    Enter(u16),
    Compute(Time),
    Wait(Time),
    Acquire(u16),
    Release(u16),
    /// Goes on at `hit` when the value is there.
    Lookup {
        cache: u16,
        hit: u32,
    },
    Store(u16),
    Query {
        query: u16,
        time: Time,
    },
    Call {
        dependency: u16,
        time: Time,
    },
    End,
}

pub(in crate::service) struct PlannedRoute {
    pub(in crate::service) method: String,
    pub(in crate::service) path: String,
    pub(in crate::service) entry: u32,
}

pub(in crate::service) struct PlannedQuery {
    pub(in crate::service) name: String,
    pub(in crate::service) pool: u16,
    pub(in crate::service) dependency: u16,
}

pub(in crate::service) struct Release {
    pub(in crate::service) at: f64,
    pub(in crate::service) stagger: f64,
    pub(in crate::service) version: String,
    pub(in crate::service) compute_factor: f64,
    pub(in crate::service) allocation_factor: f64,
    pub(in crate::service) error_share: f64,
}

pub(in crate::service) struct Plan {
    pub(in crate::service) ops: Vec<Op>,
    pub(in crate::service) routes: Vec<PlannedRoute>,
    /// Cumulative shares.
    pub(in crate::service) route_shares: Vec<f64>,
    pub(in crate::service) tiers: Vec<Tier>,
    pub(in crate::service) pools: Vec<Pool>,
    pub(in crate::service) queries: Vec<PlannedQuery>,
    pub(in crate::service) locks: Vec<String>,
    pub(in crate::service) caches: Vec<Cache>,
    pub(in crate::service) dependencies: Vec<Dependency>,
    /// Whether a dependency is called, and not only queried.
    pub(in crate::service) called: Vec<bool>,
    pub(in crate::service) tenants: Vec<String>,
    pub(in crate::service) tenant_shares: Vec<f64>,
    pub(in crate::service) releases: Vec<Release>,
}

impl Plan {
    pub(in crate::service) fn route(&self, path: &str) -> Option<u16> {
        index(self.routes.iter().map(|route| route.path.as_str()), path).map(short)
    }

    pub(in crate::service) fn tenant(&self, name: &str) -> Option<u16> {
        index(self.tenants.iter().map(String::as_str), name).map(short)
    }

    pub(in crate::service) fn pool(&self, name: &str) -> Option<usize> {
        index(self.pools.iter().map(|pool| pool.name.as_str()), name)
    }

    pub(in crate::service) fn lock(&self, name: &str) -> Option<usize> {
        index(self.locks.iter().map(String::as_str), name)
    }

    pub(in crate::service) fn cache(&self, name: &str) -> Option<usize> {
        index(self.caches.iter().map(|cache| cache.name.as_str()), name)
    }

    /// Whether pools are in front of it.
    pub(in crate::service) fn is_database(&self, dependency: usize) -> bool {
        let name = &self.dependencies[dependency].name;
        self.pools.iter().any(|pool| pool.dependency == *name)
    }

    pub(in crate::service) fn dependency(&self, name: &str) -> Option<usize> {
        let names = self.dependencies.iter();
        index(names.map(|dependency| dependency.name.as_str()), name)
    }
}

fn index<'a>(mut names: impl Iterator<Item = &'a str>, wanted: &str) -> Option<usize> {
    names.position(|name| name == wanted)
}

fn short(index: usize) -> u16 {
    u16::try_from(index).expect("fewer than 65,536 of a kind")
}

pub(super) fn small_index(index: usize) -> u32 {
    u32::try_from(index).expect("fewer than 2^32 of a kind")
}

fn wrong<T>(what: impl Into<String>) -> Result<T, SetupError> {
    Err(SetupError(what.into()))
}

fn known<T>(found: Option<T>, kind: &str, name: &str) -> Result<T, SetupError> {
    found.map_or_else(|| wrong(format!("there is no {kind} `{name}`")), Ok)
}

fn in_range(what: &str, value: f64, low: f64, high: f64) -> Result<(), SetupError> {
    if (low..=high).contains(&value) {
        Ok(())
    } else {
        wrong(format!("{what} is {value}, outside of {low} to {high}"))
    }
}

const YEARS: f64 = 1e8;

/// Turns names into indices.
///
/// # Errors
/// The first name that stands for nothing, and the first number out of its range.
pub(in crate::service) fn compile(setup: &Setup) -> Result<Plan, SetupError> {
    let service = &setup.service;
    check_numbers(setup)?;
    let mut plan = Plan {
        ops: Vec::new(),
        routes: Vec::new(),
        route_shares: shares(service.routes.iter().map(|route| route.weight), "route")?,
        tiers: service.tiers.clone(),
        pools: service.pools.clone(),
        queries: Vec::new(),
        locks: Vec::new(),
        caches: service.caches.clone(),
        dependencies: service.dependencies.clone(),
        called: vec![false; service.dependencies.len()],
        tenants: service.tenants.iter().map(|t| t.name.clone()).collect(),
        tenant_shares: shares(service.tenants.iter().map(|t| t.weight), "tenant")?,
        releases: releases(setup),
    };
    for pool in &service.pools {
        known(
            plan.dependency(&pool.dependency),
            "dependency",
            &pool.dependency,
        )?;
    }
    if service.routes.is_empty() {
        return wrong("the service has no route");
    }
    for route in &service.routes {
        let entry = small_index(plan.ops.len());
        if !plan.tiers.is_empty() {
            plan.ops.push(Op::Enter(0));
        }
        steps(&mut plan, &route.steps)?;
        plan.ops.push(Op::End);
        plan.routes.push(PlannedRoute {
            method: route.method.clone(),
            path: route.path.clone(),
            entry,
        });
    }
    if plan.locks.len() > 32 {
        return wrong("there are more than 32 locks");
    }
    for scenario in &setup.scenarios {
        check_fault(&plan, &scenario.fault)?;
        in_range(
            "the start of a fault",
            scenario.starts_at,
            0.0,
            setup.duration,
        )?;
        in_range(
            "the length of a fault",
            scenario.lasts.unwrap_or(0.0),
            0.0,
            YEARS,
        )?;
    }
    for deploy in &setup.deploys {
        in_range("the time of a deploy", deploy.at, 0.0, YEARS)?;
        in_range("a stagger", deploy.stagger, 0.0, YEARS)?;
    }
    for job in &setup.jobs {
        known(plan.route(&job.path), "route", &job.path)?;
        in_range("the rate of a job", job.rate, 0.0, 1e6)?;
        in_range("the start of a job", job.at, 0.0, YEARS)?;
        in_range("the length of a job", job.lasts, 0.0, YEARS)?;
    }
    Ok(plan)
}

fn check_numbers(setup: &Setup) -> Result<(), SetupError> {
    let service = &setup.service;
    if service.instances == 0 || service.instances > 200 {
        return wrong("a service has 1 to 200 instances");
    }
    if service.cores == 0 {
        return wrong("an instance has at least one core");
    }
    in_range("the share of errors", service.error_share, 0.0, 1.0)?;
    in_range("the deadline", service.deadline.unwrap_or(1.0), 1e-3, YEARS)?;
    in_range("the drain time", service.drain, 0.0, YEARS)?;
    in_range("the boot time", service.boot, 1e-3, YEARS)?;
    in_range("the duration", setup.duration, 1.0, YEARS)?;
    in_range("the warm-up", setup.warm_up, 0.0, YEARS)?;
    in_range("the scrape interval", setup.scrape_interval, 0.01, YEARS)?;
    in_range(
        "the share of missed scrapes",
        setup.missed_scrapes,
        0.0,
        1.0,
    )?;
    in_range("the uptime", setup.uptime_days, 0.0, 10_000.0)?;
    in_range("the low rate", setup.load.low, 0.0, 1e6)?;
    in_range("the high rate", setup.load.high, 0.0, 1e6)?;
    in_range("the noise of the load", setup.load.noise, 0.0, 2.0)?;
    if service.bounds.is_empty() || !service.bounds.is_sorted_by(|a, b| a < b) {
        return wrong("the bounds of histograms do not ascend");
    }
    for tier in &service.tiers {
        if tier.workers == 0 {
            return wrong(format!("tier `{}` has no workers", tier.name));
        }
    }
    for pool in &service.pools {
        if pool.size == 0 {
            return wrong(format!("pool `{}` has no connections", pool.name));
        }
        if pool.held >= pool.size {
            return wrong(format!("pool `{}` has no connection to lend", pool.name));
        }
    }
    for dependency in &service.dependencies {
        if dependency.capacity == 0 || dependency.attempts == 0 {
            return wrong(format!(
                "dependency `{}` has no capacity or is never attempted",
                dependency.name
            ));
        }
        in_range("a share of errors", dependency.error_share, 0.0, 1.0)?;
        in_range("a backoff", dependency.backoff, 0.0, YEARS)?;
    }
    for cache in &service.caches {
        if cache.keys == 0 {
            return wrong(format!("cache `{}` has no keys", cache.name));
        }
        in_range("a time to live", cache.ttl, 1e-3, YEARS)?;
    }
    Ok(())
}

/// Cumulative shares of weights.
fn shares(weights: impl Iterator<Item = f64> + Clone, kind: &str) -> Result<Vec<f64>, SetupError> {
    let total: f64 = weights.clone().sum();
    let mut cumulative = 0.0;
    let mut shares = Vec::new();
    for weight in weights {
        if !(weight >= 0.0 && total > 0.0 && total.is_finite()) {
            return wrong(format!("the weight of a {kind} is {weight}"));
        }
        cumulative += weight / total;
        shares.push(cumulative);
    }
    Ok(shares)
}

fn steps(plan: &mut Plan, steps_of: &[Step]) -> Result<(), SetupError> {
    for step in steps_of {
        match step {
            Step::Compute(time) => {
                check_time(*time)?;
                plan.ops.push(Op::Compute(*time));
            }
            Step::Wait(time) => {
                check_time(*time)?;
                plan.ops.push(Op::Wait(*time));
            }
            Step::Locked { lock, steps: inner } => {
                let index = plan.lock(lock).unwrap_or_else(|| {
                    plan.locks.push(lock.clone());
                    plan.locks.len() - 1
                });
                plan.ops.push(Op::Acquire(short(index)));
                steps(plan, inner)?;
                plan.ops.push(Op::Release(short(index)));
            }
            Step::Cached { cache, on_miss } => {
                let index = short(known(plan.cache(cache), "cache", cache)?);
                let at = plan.ops.len();
                plan.ops.push(Op::Lookup {
                    cache: index,
                    hit: 0,
                });
                steps(plan, on_miss)?;
                plan.ops.push(Op::Store(index));
                plan.ops[at] = Op::Lookup {
                    cache: index,
                    hit: small_index(plan.ops.len()),
                };
            }
            Step::Query { pool, query, time } => {
                check_time(*time)?;
                let pool_index = known(plan.pool(pool), "pool", pool)?;
                let dependency = plan.pools[pool_index].dependency.clone();
                let dependency = known(plan.dependency(&dependency), "dependency", &dependency)?;
                let pool = short(pool_index);
                let found = plan
                    .queries
                    .iter()
                    .position(|planned| planned.name == *query && planned.pool == pool);
                let index = found.unwrap_or_else(|| {
                    plan.queries.push(PlannedQuery {
                        name: query.clone(),
                        pool,
                        dependency: short(dependency),
                    });
                    plan.queries.len() - 1
                });
                plan.ops.push(Op::Query {
                    query: short(index),
                    time: *time,
                });
            }
            Step::Call { dependency, time } => {
                check_time(*time)?;
                let index = known(plan.dependency(dependency), "dependency", dependency)?;
                plan.called[index] = true;
                plan.ops.push(Op::Call {
                    dependency: short(index),
                    time: *time,
                });
            }
            Step::HandOver { tier } => {
                let tiers = plan.tiers.iter().map(|tier| tier.name.as_str());
                let index = known(index(tiers, tier), "tier", tier)?;
                plan.ops.push(Op::Enter(short(index)));
            }
        }
    }
    Ok(())
}

fn check_time(time: Time) -> Result<(), SetupError> {
    in_range("the mean of a time", time.mean(), 0.0, YEARS)
}

fn check_fault(plan: &Plan, fault: &Fault) -> Result<(), SetupError> {
    match fault {
        Fault::SlowQuery { query, factor } => {
            let names = plan.queries.iter().map(|query| query.name.as_str());
            known(index(names, query), "query", query)?;
            in_range("a factor", *factor, 0.0, 1e6)
        }
        Fault::ConnectionLeak { pool, share } => {
            known(plan.pool(pool), "pool", pool)?;
            in_range("a share", *share, 0.0, 1.0)
        }
        Fault::TaskLeak { share, bytes, .. } => {
            in_range("a share", *share, 0.0, 1.0)?;
            in_range("a number of bytes", *bytes, 0.0, 1e12)
        }
        Fault::MemoryLeak {
            bytes_per_request,
            acceleration,
        } => {
            in_range("a number of bytes", *bytes_per_request, 0.0, 1e12)?;
            in_range("an acceleration", *acceleration, 0.0, 1e6)
        }
        Fault::BadDeploy {
            compute_factor,
            allocation_factor,
            error_share,
            stagger,
            ..
        } => {
            in_range("a factor", *compute_factor, 0.0, 1e6)?;
            in_range("a factor", *allocation_factor, 0.0, 1e6)?;
            in_range("a share", *error_share, 0.0, 1.0)?;
            in_range("a stagger", *stagger, 0.0, YEARS)
        }
        Fault::LockContention { lock, factor } => {
            known(plan.lock(lock), "lock", lock)?;
            in_range("a factor", *factor, 0.0, 1e6)
        }
        Fault::Deadlock { first, second } => {
            known(plan.lock(first), "lock", first)?;
            known(plan.lock(second), "lock", second).map(|_| ())
        }
        Fault::CacheStampede {
            cache,
            ttl,
            fill_factor,
        } => {
            known(plan.cache(cache), "cache", cache)?;
            in_range("a time to live", *ttl, 1e-3, YEARS)?;
            in_range("a factor", *fill_factor, 0.0, 1e6)
        }
        Fault::RetryStorm {
            dependency,
            factor,
            trigger,
            attempts,
        } => {
            known(plan.dependency(dependency), "dependency", dependency)?;
            in_range("a factor", *factor, 0.0, 1e6)?;
            in_range("a length", *trigger, 0.0, YEARS)?;
            in_range("a number of attempts", f64::from(*attempts), 1.0, 100.0)
        }
        Fault::NoisyTenant { tenant, rate } => {
            known(plan.tenant(tenant), "tenant", tenant)?;
            in_range("a rate", *rate, 0.0, 1e6)
        }
        Fault::SlowDependency {
            dependency,
            share,
            median,
            sigma,
        } => {
            known(plan.dependency(dependency), "dependency", dependency)?;
            in_range("a share", *share, 0.0, 1.0)?;
            in_range("a median", *median, 0.0, YEARS)?;
            in_range("a sigma", *sigma, 0.0, 5.0)
        }
        Fault::LogLoss { lines_per_second } => in_range("a rate", *lines_per_second, 0.0, 1e9),
        Fault::TrafficSurge { factor } => in_range("a factor", *factor, 0.0, 1e6),
    }
}

/// Deploys in the order of time: the innocent ones, the bad ones, and the rollbacks of the latter.
fn releases(setup: &Setup) -> Vec<Release> {
    let plain = |at: f64, stagger: f64, version: &str| Release {
        at,
        stagger,
        version: version.into(),
        compute_factor: 1.0,
        allocation_factor: 1.0,
        error_share: 0.0,
    };
    let mut releases: Vec<Release> = setup
        .deploys
        .iter()
        .map(|deploy| plain(deploy.at, deploy.stagger, &deploy.version))
        .collect();
    for scenario in &setup.scenarios {
        if let Fault::BadDeploy {
            version,
            stagger,
            compute_factor,
            allocation_factor,
            error_share,
        } = &scenario.fault
        {
            releases.push(Release {
                compute_factor: *compute_factor,
                allocation_factor: *allocation_factor,
                error_share: *error_share,
                ..plain(scenario.starts_at, *stagger, version)
            });
            if let Some(lasts) = scenario.lasts {
                let at = scenario.starts_at + lasts;
                releases.push(plain(at, *stagger, &setup.service.version));
            }
        }
    }
    releases.sort_by(|a, b| a.at.total_cmp(&b.at));
    releases
}
