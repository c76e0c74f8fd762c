//! How a request moves: through tiers, cores, locks, caches, pools and calls, to its end.

use super::plan::{Op, small_index};
use super::{Call, Engine, Event, NONE, micros, registry};
use crate::service::Time;
use crate::service::registry::small;
use crate::service::station::Ticket;

/// Where a request is within its operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Start,
    /// In the queue of a station.
    Waiting,
    /// In front of a full queue, with its worker.
    Blocked,
    /// A server of the station is its own.
    Granted,
    /// A timer runs, or a dependency works.
    Served,
    /// The dependency has answered.
    Answered,
    /// Before another attempt.
    BackingOff,
}

#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) live: bool,
    /// Changes whenever the request moves on, so that what was planned for it before is void.
    pub(super) generation: u32,
    pub(super) number: u64,
    pub(super) born: u64,
    pub(super) instance: u16,
    pub(super) route: u16,
    pub(super) tenant: Option<u16>,
    op: u32,
    pub(super) phase: Phase,
    /// When the present phase began to matter: a wait, a query, an attempt.
    since: u64,
    tier: Option<u16>,
    in_tier_since: u64,
    pool: Option<u16>,
    call: u32,
    answered_well: bool,
    attempt: u32,
    /// A bit for each lock that is held.
    locks: u32,
    crossed: bool,
    on_core: bool,
    /// Its deadline has passed while it could not be dropped: computing tasks are not.
    late: bool,
    fills: Option<(u16, u32)>,
    lock_factor: f64,
    fill_factor: f64,
    pub(super) traced: bool,
}

impl Request {
    fn ticket(&self, index: u32) -> Ticket {
        (index, self.generation)
    }
}

/// Why a request fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    QueueFull,
    PoolTimeout,
    QueryFailed,
    CallFailed,
    CallTimedOut,
    Deadline,
    Own,
}

impl Failure {
    pub(super) fn status(self) -> u16 {
        match self {
            Failure::QueueFull | Failure::PoolTimeout => 503,
            Failure::QueryFailed | Failure::Own => 500,
            Failure::CallFailed => 502,
            Failure::CallTimedOut | Failure::Deadline => 504,
        }
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014), for choosing requests by number.
pub(in crate::service) fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Engine<'_> {
    pub(super) fn attempt(&self, index: u32) -> u32 {
        self.requests[index as usize].attempt
    }

    pub(super) fn count_in_system(&mut self) {
        self.ledger.in_system_micros += self.in_system * (self.now - self.in_system_changed);
        self.in_system_changed = self.now;
    }

    fn choose(&mut self, shares: fn(&super::Plan) -> &[f64]) -> Option<u16> {
        let shares = shares(&self.plan);
        match shares.len() {
            0 => None,
            1 => Some(0),
            many => {
                let at = self.arrivals.unit();
                let found = shares.partition_point(|&cumulative| cumulative <= at);
                Some(small(found.min(many - 1)))
            }
        }
    }

    pub(super) fn arrive(&mut self, stream: usize) {
        let (route, tenant) = (self.streams[stream].route, self.streams[stream].tenant);
        let route = route
            .or_else(|| self.choose(|plan| &plan.route_shares))
            .expect("a service has a route");
        let tenant = tenant.or_else(|| self.choose(|plan| &plan.tenant_shares));
        let place = self.arrivals.unit();
        let crossed = self.weather.crossed.is_some() && self.faults.happens(0.5);
        let accepting = self.instances.iter().filter(|i| i.accepting).count();
        self.plan_arrival(stream);
        if accepting == 0 {
            self.ledger.unrouted += 1;
            return;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index below the number of instances"
        )]
        let nth = (place * accepting as f64) as usize;
        let instance = self
            .instances
            .iter()
            .enumerate()
            .filter(|(_, instance)| instance.accepting)
            .nth(nth)
            .map(|(index, _)| index)
            .expect("counted");
        self.number += 1;
        self.ledger.arrived += 1;
        self.count_in_system();
        self.in_system += 1;
        self.instances[instance].in_flight += 1;
        let traced = self.tracer.wants(self.number);
        let fresh = Request {
            live: true,
            generation: 0,
            number: self.number,
            born: self.now,
            instance: small(instance),
            route,
            tenant,
            op: self.plan.routes[usize::from(route)].entry,
            phase: Phase::Start,
            since: self.now,
            tier: None,
            in_tier_since: 0,
            pool: None,
            call: NONE,
            answered_well: false,
            attempt: 0,
            locks: 0,
            crossed,
            on_core: false,
            late: false,
            fills: None,
            lock_factor: 1.0,
            fill_factor: 1.0,
            traced,
        };
        let index = match self.free_requests.pop() {
            Some(index) => {
                let slot = &mut self.requests[index as usize];
                let generation = slot.generation;
                *slot = Request {
                    generation,
                    ..fresh
                };
                index
            }
            None => {
                self.requests.push(fresh);
                small_index(self.requests.len() - 1)
            }
        };
        if let Some(deadline) = self.deadline {
            self.deadlines
                .push_back((self.now + deadline, index, self.number));
        }
        self.advance(index);
    }

    fn time(&mut self, index: usize, seconds: f64) -> u64 {
        let request = &self.requests[index];
        micros(seconds * request.lock_factor * request.fill_factor).max(1)
    }

    fn serve(&mut self, index: u32, micros: u64) {
        let request = &mut self.requests[index as usize];
        request.phase = Phase::Served;
        request.generation = request.generation.wrapping_add(1);
        let generation = request.generation;
        let at = self.now + micros;
        self.at(at, Event::Timer(index, generation));
    }

    fn next(&mut self, index: usize) {
        let request = &mut self.requests[index];
        request.op += 1;
        request.phase = Phase::Start;
    }

    /// Somebody gave this request what it waits for.
    fn grant(&mut self, (index, _): Ticket) {
        let request = &mut self.requests[index as usize];
        request.generation = request.generation.wrapping_add(1);
        request.phase = Phase::Granted;
        self.ready.push_back(index);
    }

    /// Moves a request on until it has to wait or ends.
    pub(super) fn advance(&mut self, index: u32) {
        let at = index as usize;
        let instance = usize::from(self.requests[at].instance);
        while self.requests[at].live {
            let goes_on = match self.plan.ops[self.requests[at].op as usize] {
                Op::Enter(tier) => self.enter(index, instance, usize::from(tier)),
                Op::Compute(time) => {
                    let factor = self.instances[instance].build.compute_factor;
                    self.compute(index, instance, time, factor)
                }
                Op::Wait(time) => match self.requests[at].phase {
                    Phase::Start => {
                        let seconds = time.draw(&mut self.work);
                        let micros = self.time(at, seconds);
                        self.serve(index, micros);
                        false
                    }
                    _ => {
                        self.next(at);
                        true
                    }
                },
                Op::Acquire(lock) => self.acquire(index, instance, usize::from(lock)),
                Op::Release(lock) => {
                    let lock = self.crossed(at, usize::from(lock));
                    self.release_lock(index, instance, lock);
                    self.next(at);
                    true
                }
                Op::Lookup { cache, hit } => self.look_up(index, instance, usize::from(cache), hit),
                Op::Store(cache) => {
                    self.store(index, instance, usize::from(cache));
                    self.next(at);
                    true
                }
                Op::Query { query, time } => {
                    let query = usize::from(query);
                    self.query(index, instance, query, time)
                }
                Op::Call { dependency, time } => {
                    self.call(index, instance, usize::from(dependency), time)
                }
                Op::End => {
                    let own =
                        self.setup.service.error_share + self.instances[instance].build.error_share;
                    let fails = self.work.happens(own);
                    self.finish(index, fails.then_some(Failure::Own));
                    false
                }
            };
            if !goes_on {
                return;
            }
        }
    }

    fn enter(&mut self, index: u32, instance: usize, tier: usize) -> bool {
        let at = index as usize;
        let now = self.now;
        let state = &mut self.instances[instance].tiers[tier];
        let request = &mut self.requests[at];
        match request.phase {
            Phase::Start => {
                if state.station.occupy(now) {
                    request.since = now;
                    self.leave_tier(index, instance);
                    self.begin_in_tier(index, instance, tier);
                    return true;
                }
                if state.station.waiters < state.limit {
                    request.phase = Phase::Waiting;
                    request.since = now;
                    state.station.wait(now, request.ticket(index));
                    self.leave_tier(index, instance);
                } else if request.tier.is_none() {
                    self.finish(index, Some(Failure::QueueFull));
                } else {
                    request.phase = Phase::Blocked;
                    state.blocked.push_back(request.ticket(index));
                }
                false
            }
            Phase::Granted => {
                self.begin_in_tier(index, instance, tier);
                true
            }
            _ => false,
        }
    }

    fn begin_in_tier(&mut self, index: u32, instance: usize, tier: usize) {
        let now = self.now;
        let at = index as usize;
        let waited = now - self.requests[at].since;
        self.instances[instance].registry.stages[tier]
            .wait
            .observe(waited, &self.bounds);
        if self.requests[at].traced && waited > 0 {
            let since = self.requests[at].since;
            let name = format!("queue {}", self.plan.tiers[tier].name);
            let number = self.requests[at].number;
            self.tracer.span(number, &name, since, now, None, &[]);
        }
        let request = &mut self.requests[at];
        request.tier = Some(small(tier));
        request.in_tier_since = now;
        self.next(at);
    }

    /// Gives the worker back that the request holds, if it holds one.
    fn leave_tier(&mut self, index: u32, instance: usize) {
        let now = self.now;
        let request = &mut self.requests[index as usize];
        let Some(tier) = request.tier.take() else {
            return;
        };
        let tier = usize::from(tier);
        let held = now - request.in_tier_since;
        if request.traced && self.plan.tiers.len() > 1 {
            let (number, since) = (request.number, request.in_tier_since);
            let name = format!("stage {}", self.plan.tiers[tier].name);
            self.tracer.span(number, &name, since, now, None, &[]);
        }
        self.instances[instance].registry.stages[tier]
            .run
            .observe(held, &self.bounds);
        let requests = &self.requests;
        let station = &mut self.instances[instance].tiers[tier].station;
        let granted = station.release(now, |(waits, generation)| {
            requests[waits as usize].generation == generation
        });
        if let Some(ticket) = granted {
            self.grant(ticket);
        }
        self.unblock(instance, tier);
    }

    /// Lets those in who stand in front of a queue, as far as there is room now.
    fn unblock(&mut self, instance: usize, tier: usize) {
        let now = self.now;
        loop {
            let state = &mut self.instances[instance].tiers[tier];
            let station = &mut state.station;
            if station.waiters >= state.limit && station.busy >= station.servers {
                return;
            }
            let Some(ticket) = state.blocked.pop_front() else {
                return;
            };
            let (index, generation) = ticket;
            if self.requests[index as usize].generation != generation {
                continue;
            }
            let request = &mut self.requests[index as usize];
            request.phase = Phase::Waiting;
            request.since = now;
            station.wait(now, ticket);
            let requests = &self.requests;
            let granted = station
                .admit(|(waits, generation)| requests[waits as usize].generation == generation);
            if let Some(ticket) = granted {
                self.grant(ticket);
            }
            self.leave_tier(index, instance);
        }
    }

    fn compute(&mut self, index: u32, instance: usize, time: Time, factor: f64) -> bool {
        let at = index as usize;
        let now = self.now;
        match self.requests[at].phase {
            Phase::Start => {
                let request = &mut self.requests[at];
                let cores = &mut self.instances[instance].cores;
                if !cores.occupy(now) {
                    request.phase = Phase::Waiting;
                    cores.wait(now, request.ticket(index));
                    return false;
                }
                self.begin_slice(index, time, factor);
                false
            }
            Phase::Granted if self.requests[at].late => {
                self.release_core(index, instance);
                self.finish(index, Some(Failure::Deadline));
                false
            }
            Phase::Granted => {
                self.begin_slice(index, time, factor);
                false
            }
            _ => {
                self.release_core(index, instance);
                if self.requests[at].late {
                    self.finish(index, Some(Failure::Deadline));
                    return false;
                }
                self.next(at);
                true
            }
        }
    }

    fn begin_slice(&mut self, index: u32, time: Time, factor: f64) {
        let at = index as usize;
        self.requests[at].on_core = true;
        let seconds = time.draw(&mut self.work) * factor;
        let micros = self.time(at, seconds);
        self.serve(index, micros);
    }

    fn release_core(&mut self, index: u32, instance: usize) {
        self.requests[index as usize].on_core = false;
        let requests = &self.requests;
        let granted = self.instances[instance]
            .cores
            .release(self.now, |(waits, generation)| {
                requests[waits as usize].generation == generation
            });
        if let Some(ticket) = granted {
            self.grant(ticket);
        }
    }

    /// The lock that a request means: the other one of the pair, if it goes the other way round.
    fn crossed(&self, at: usize, lock: usize) -> usize {
        match self.weather.crossed {
            Some((first, second)) if self.requests[at].crossed => {
                if lock == usize::from(first) {
                    usize::from(second)
                } else if lock == usize::from(second) {
                    usize::from(first)
                } else {
                    lock
                }
            }
            _ => lock,
        }
    }

    fn acquire(&mut self, index: u32, instance: usize, lock: usize) -> bool {
        let at = index as usize;
        let now = self.now;
        let lock = self.crossed(at, lock);
        let place = &mut self.instances[instance];
        let request = &mut self.requests[at];
        match request.phase {
            Phase::Start => {
                request.since = now;
                if !place.locks[lock].occupy(now) {
                    request.phase = Phase::Waiting;
                    place.locks[lock].wait(now, request.ticket(index));
                    place.registry.locks[lock].contentions += 1;
                    self.notice_deadlock(index, instance, lock);
                    return false;
                }
            }
            Phase::Granted => {}
            _ => return false,
        }
        let place = &mut self.instances[instance];
        let request = &mut self.requests[at];
        let waited = now - request.since;
        place.registry.locks[lock]
            .wait
            .observe(waited, &self.bounds);
        place.owners[lock] = index;
        request.locks |= 1 << lock;
        request.lock_factor *= self.weather.lock_factor[lock];
        if request.traced && waited > 0 {
            let (number, since) = (request.number, request.since);
            let name = format!("lock {}", self.plan.locks[lock]);
            self.tracer.span(number, &name, since, now, None, &[]);
        }
        self.next(at);
        true
    }

    /// Two requests that hold what the other one waits for will do so for ever.
    fn notice_deadlock(&mut self, index: u32, instance: usize, lock: usize) {
        if self.deadlocked_at[instance].is_some() {
            return;
        }
        let owner = self.instances[instance].owners[lock];
        if owner == NONE {
            return;
        }
        let other = &self.requests[owner as usize];
        if other.phase != Phase::Waiting {
            return;
        }
        if let Op::Acquire(wanted) = self.plan.ops[other.op as usize] {
            let wanted = self.crossed(owner as usize, usize::from(wanted));
            if self.requests[index as usize].locks & (1 << wanted) != 0 {
                self.deadlocked_at[instance] = Some(self.now);
            }
        }
    }

    fn release_lock(&mut self, index: u32, instance: usize, lock: usize) {
        let now = self.now;
        let request = &mut self.requests[index as usize];
        // A request that came before the order was changed back releases what it holds.
        if request.locks & (1 << lock) == 0 {
            return;
        }
        request.locks &= !(1 << lock);
        if request.locks == 0 {
            request.lock_factor = 1.0;
        }
        let requests = &self.requests;
        let place = &mut self.instances[instance];
        place.owners[lock] = NONE;
        let granted = place.locks[lock].release(now, |(waits, generation)| {
            requests[waits as usize].generation == generation
        });
        if let Some(ticket) = granted {
            place.owners[lock] = ticket.0;
            self.grant(ticket);
        }
    }

    fn look_up(&mut self, index: u32, instance: usize, cache: usize, hit: u32) -> bool {
        let at = index as usize;
        let now = self.now;
        match self.requests[at].phase {
            Phase::Start => {}
            Phase::Granted => {
                self.instances[instance].registry.caches[cache].hits += 1;
                let request = &mut self.requests[at];
                request.op = hit;
                request.phase = Phase::Start;
                return true;
            }
            _ => return false,
        }
        let planned = &self.plan.caches[cache];
        // The key whose rank is k comes with a probability of about 1/k.
        let spread = libm::exp(self.work.unit() * libm::log(f64::from(planned.keys) + 1.0)) - 1.0;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a key below the number of keys"
        )]
        let key = (spread as u32).min(planned.keys - 1);
        let place = &mut self.instances[instance];
        let request = &mut self.requests[at];
        if place.caches[cache].good_until[key as usize] > now {
            place.registry.caches[cache].hits += 1;
            request.op = hit;
            return true;
        }
        if planned.coalesces {
            if let Some(waiters) = place.caches[cache].fills.get_mut(&key) {
                request.phase = Phase::Waiting;
                waiters.push(request.ticket(index));
                return false;
            }
            place.caches[cache].fills.insert(key, Vec::new());
        }
        place.registry.caches[cache].misses += 1;
        request.fills = Some((small(cache), key));
        if let Some((_, factor)) = self.weather.aligned[cache] {
            request.fill_factor = factor;
        }
        self.next(at);
        true
    }

    fn store(&mut self, index: u32, instance: usize, cache: usize) {
        let now = self.now;
        let request = &mut self.requests[index as usize];
        request.fill_factor = 1.0;
        let Some((_, key)) = request.fills.take() else {
            return;
        };
        let jitter = self.work.between(0.9, 1.1);
        let good_until = match self.weather.aligned[cache] {
            Some((ttl, _)) => (now / ttl + 1) * ttl,
            None => now + micros(self.plan.caches[cache].ttl * jitter),
        };
        let state = &mut self.instances[instance].caches[cache];
        state.good_until[key as usize] = good_until;
        for ticket in state.fills.remove(&key).unwrap_or_default() {
            if self.requests[ticket.0 as usize].generation == ticket.1 {
                self.grant(ticket);
            }
        }
    }

    fn query(&mut self, index: u32, instance: usize, query: usize, time: Time) -> bool {
        let at = index as usize;
        let now = self.now;
        let pool = usize::from(self.plan.queries[query].pool);
        let request = &mut self.requests[at];
        match request.phase {
            Phase::Start => {
                request.since = now;
                let station = &mut self.instances[instance].pools[pool];
                if !station.occupy(now) {
                    request.phase = Phase::Waiting;
                    let ticket = request.ticket(index);
                    station.wait(now, ticket);
                    if let Some(timeout) = self.plan.pools[pool].acquire_timeout {
                        self.at(now + micros(timeout), Event::Timeout(ticket.0, ticket.1));
                    }
                    return false;
                }
                self.begin_query(index, instance, query, pool, time);
                false
            }
            Phase::Granted => {
                self.begin_query(index, instance, query, pool, time);
                false
            }
            Phase::Answered => {
                let well = request.answered_well;
                self.end_query(index, instance, query, !well, "query failed");
                if !well {
                    self.finish(index, Some(Failure::QueryFailed));
                    return false;
                }
                self.next(at);
                true
            }
            _ => false,
        }
    }

    fn begin_query(&mut self, index: u32, instance: usize, query: usize, pool: usize, time: Time) {
        let at = index as usize;
        let now = self.now;
        let request = &mut self.requests[at];
        let since = request.since;
        request.pool = Some(small(pool));
        request.since = now;
        let waited = now - since;
        let (number, traced) = (request.number, request.traced);
        self.instances[instance].registry.pools[pool]
            .acquire
            .observe(waited, &self.bounds);
        if traced && waited > 0 {
            let name = format!("acquire {}", self.plan.pools[pool].name);
            self.tracer.span(number, &name, since, now, None, &[]);
        }
        let seconds = time.draw(&mut self.work) * self.weather.query_factor[query];
        let micros_of_work = self.time(at, seconds);
        let dependency = usize::from(self.plan.queries[query].dependency);
        let timeout = self.plan.pools[pool].statement_timeout;
        self.issue(index, dependency, micros_of_work, timeout);
    }

    /// The end of a query, however it came about: its connection goes back, unless it leaks.
    fn end_query(&mut self, index: u32, instance: usize, query: usize, failed: bool, why: &str) {
        let now = self.now;
        let at = index as usize;
        let pool = usize::from(self.plan.queries[query].pool);
        let since = self.requests[at].since;
        let took = now - since;
        let of = &mut self.instances[instance].registry.queries[query];
        of.seconds.observe(took, &self.bounds);
        of.errors += u64::from(failed);
        if self.requests[at].traced {
            let number = self.requests[at].number;
            let name = format!("query {}", self.plan.queries[query].name);
            let system = &self.plan.pools[pool].dependency;
            let attributes = [("db.system", system.as_str())];
            let error = failed.then_some(why);
            self.tracer
                .span(number, &name, since, now, error, &attributes);
        }
        if took > 1_000_000 {
            self.log_slow_query(index, query, took);
        }
        let leak = self.weather.pool_leak[pool];
        if leak > 0.0 && self.faults.happens(leak) {
            self.requests[at].pool = None;
            return;
        }
        self.release_connection(index, instance);
    }

    fn release_connection(&mut self, index: u32, instance: usize) {
        let Some(pool) = self.requests[index as usize].pool.take() else {
            return;
        };
        let requests = &self.requests;
        let station = &mut self.instances[instance].pools[usize::from(pool)];
        let granted = station.release(self.now, |(waits, generation)| {
            requests[waits as usize].generation == generation
        });
        if let Some(ticket) = granted {
            self.grant(ticket);
        }
    }

    fn call(&mut self, index: u32, instance: usize, dependency: usize, time: Time) -> bool {
        let at = index as usize;
        match self.requests[at].phase {
            Phase::Start | Phase::BackingOff => {
                let request = &mut self.requests[at];
                if request.phase == Phase::Start {
                    request.attempt = 0;
                }
                request.attempt += 1;
                request.since = self.now;
                let place = &mut self.instances[instance];
                if request.attempt > 1 {
                    place.registry.clients[dependency].retries += 1;
                }
                place.client_in_flight[dependency] += 1;
                let seconds = time.draw(&mut self.work);
                let micros_of_work = self.time(at, seconds);
                let timeout = self.plan.dependencies[dependency].timeout;
                self.issue(index, dependency, micros_of_work, timeout);
                false
            }
            Phase::Answered => {
                let well = self.requests[at].answered_well;
                let outcome = usize::from(!well);
                self.end_attempt(index, instance, dependency, outcome);
                if well {
                    self.next(at);
                    return true;
                }
                self.try_again(index, dependency, Failure::CallFailed);
                false
            }
            _ => false,
        }
    }

    fn end_attempt(&mut self, index: u32, instance: usize, dependency: usize, outcome: usize) {
        let now = self.now;
        let request = &self.requests[index as usize];
        let since = request.since;
        let (number, traced) = (request.number, request.traced);
        let place = &mut self.instances[instance];
        place.client_in_flight[dependency] -= 1;
        let of = &mut place.registry.clients[dependency];
        of.seconds.observe(now - since, &self.bounds);
        of.by_outcome[outcome] += 1;
        if traced {
            let name = format!("call {}", self.plan.dependencies[dependency].name);
            let attempt = self.requests[index as usize].attempt.to_string();
            let error = (outcome > 0).then_some(registry::OUTCOMES[outcome]);
            let attributes = [("attempt", attempt.as_str())];
            self.tracer
                .span(number, &name, since, now, error, &attributes);
        }
    }

    fn try_again(&mut self, index: u32, dependency: usize, failure: Failure) {
        let planned = &self.plan.dependencies[dependency];
        let changed = self.weather.attempts[dependency];
        let attempts = changed.unwrap_or(planned.attempts);
        let attempt = self.requests[index as usize].attempt;
        if attempt >= attempts {
            self.log_gave_up(index, dependency, failure);
            self.finish(index, Some(failure));
            return;
        }
        let backoff = if changed.is_some() {
            0.0
        } else {
            planned.backoff * libm::exp2(f64::from(attempt - 1))
        };
        self.log_retry(index, dependency, attempt, failure);
        // Full jitter: anything up to the backoff.
        let pause = micros(backoff * self.work.unit()).max(1);
        self.serve(index, pause);
        self.requests[index as usize].phase = Phase::BackingOff;
    }

    /// Sends a piece of work to a dependency, and plans to give up on it after a while.
    fn issue(&mut self, owner: u32, dependency: usize, work: u64, timeout: Option<f64>) {
        let now = self.now;
        let mut work = work;
        if let Some((share, median, sigma)) = self.weather.dependency_tail[dependency]
            && self.faults.happens(share)
        {
            work = micros(self.faults.log_normal(median, sigma)).max(1);
        }
        let factor = self.weather.dependency_factor[dependency];
        #[expect(
            clippy::float_cmp,
            reason = "set to exactly this where there is no fault"
        )]
        let ordinary = factor == 1.0;
        if !ordinary && now < self.weather.dependency_factor_until[dependency] {
            work = micros(registry::seconds(work) * factor).max(1);
        }
        let request = &mut self.requests[owner as usize];
        request.phase = Phase::Served;
        request.generation = request.generation.wrapping_add(1);
        let owner_generation = request.generation;
        self.ledger.calls += 1;
        let fresh = Call {
            owner,
            owner_generation,
            generation: 0,
            dependency: small_index(dependency),
            work,
            started: false,
            live: true,
        };
        let index = match self.free_calls.pop() {
            Some(index) => {
                let slot = &mut self.calls[index as usize];
                let generation = slot.generation;
                *slot = Call {
                    generation,
                    ..fresh
                };
                index
            }
            None => {
                self.calls.push(fresh);
                small_index(self.calls.len() - 1)
            }
        };
        self.requests[owner as usize].call = index;
        let generation = self.calls[index as usize].generation;
        let started = self.dependencies[dependency].occupy(now);
        if started {
            self.calls[index as usize].started = true;
            self.at(now + work, Event::Served(index, generation));
        } else {
            self.dependencies[dependency].wait(now, (index, generation));
        }
        if let Some(timeout) = timeout.map(micros)
            && !(started && work <= timeout)
        {
            self.at(now + timeout, Event::Timeout(owner, owner_generation));
        }
    }

    /// A dependency has done what it was asked, whether somebody still waits for it or not.
    pub(super) fn served(&mut self, index: u32) {
        let call = &self.calls[index as usize];
        let (owner, generation) = (call.owner, call.owner_generation);
        let dependency = call.dependency as usize;
        self.drop_call(index);
        let fails = self
            .work
            .happens(self.plan.dependencies[dependency].error_share);
        if owner != NONE && self.requests[owner as usize].generation == generation {
            let request = &mut self.requests[owner as usize];
            request.call = NONE;
            request.answered_well = !fails;
            request.phase = Phase::Answered;
            request.generation = request.generation.wrapping_add(1);
            self.ready.push_back(owner);
        }
    }

    /// Takes a call out of its dependency, which turns to the next one.
    fn drop_call(&mut self, index: u32) {
        let now = self.now;
        let call = &mut self.calls[index as usize];
        call.live = false;
        call.generation = call.generation.wrapping_add(1);
        let (started, dependency) = (call.started, call.dependency as usize);
        self.free_calls.push(index);
        self.ledger.calls_ended += 1;
        let station = &mut self.dependencies[dependency];
        if !started {
            station.forsake(now);
            return;
        }
        let calls = &self.calls;
        let next = station.release(now, |(waits, generation)| {
            calls[waits as usize].generation == generation
        });
        if let Some((next, generation)) = next {
            let call = &mut self.calls[next as usize];
            call.started = true;
            let at = now + call.work;
            self.at(at, Event::Served(next, generation));
        }
    }

    /// Nobody waits for this call any more; the dependency goes on with it all the same.
    fn orphan(&mut self, index: u32) {
        if index != NONE {
            self.calls[index as usize].owner = NONE;
        }
    }

    pub(super) fn time_out(&mut self, index: u32) {
        let at = index as usize;
        let now = self.now;
        let instance = usize::from(self.requests[at].instance);
        match (
            self.plan.ops[self.requests[at].op as usize],
            self.requests[at].phase,
        ) {
            (Op::Query { query, .. }, Phase::Waiting) => {
                let pool = usize::from(self.plan.queries[usize::from(query)].pool);
                let place = &mut self.instances[instance];
                place.pools[pool].forsake(now);
                place.registry.pools[pool].timeouts += 1;
                self.finish(index, Some(Failure::PoolTimeout));
            }
            (Op::Query { query, .. }, Phase::Served) => {
                let call = std::mem::replace(&mut self.requests[at].call, NONE);
                self.drop_call(call);
                let why = "canceled after the statement timeout";
                self.end_query(index, instance, usize::from(query), true, why);
                self.finish(index, Some(Failure::QueryFailed));
            }
            (Op::Call { dependency, .. }, Phase::Served) => {
                let call = std::mem::replace(&mut self.requests[at].call, NONE);
                self.orphan(call);
                let dependency = usize::from(dependency);
                self.end_attempt(index, instance, dependency, 2);
                self.try_again(index, dependency, Failure::CallTimedOut);
            }
            _ => {}
        }
    }

    /// The deadline of a request: it is dropped where it stands, unless it is computing.
    pub(super) fn expire(&mut self, index: u32) {
        let at = index as usize;
        if let Op::Compute(_) = self.plan.ops[self.requests[at].op as usize]
            && self.requests[at].phase != Phase::Start
        {
            self.requests[at].late = true;
            return;
        }
        self.withdraw(index);
        self.finish(index, Some(Failure::Deadline));
    }

    /// Takes a request out of what it waits for.
    fn withdraw(&mut self, index: u32) {
        let at = index as usize;
        let now = self.now;
        let instance = usize::from(self.requests[at].instance);
        let phase = self.requests[at].phase;
        match (self.plan.ops[self.requests[at].op as usize], phase) {
            (Op::Enter(tier), Phase::Waiting) => {
                let tier = usize::from(tier);
                self.instances[instance].tiers[tier].station.forsake(now);
                // The place in the queue is free, and the ticket must be void before it is given.
                let request = &mut self.requests[at];
                request.generation = request.generation.wrapping_add(1);
                self.unblock(instance, tier);
            }
            (Op::Acquire(lock), Phase::Waiting) => {
                let lock = self.crossed(at, usize::from(lock));
                self.instances[instance].locks[lock].forsake(now);
            }
            (Op::Compute(_), Phase::Waiting) => self.instances[instance].cores.forsake(now),
            (Op::Query { query, .. }, Phase::Waiting) => {
                let pool = usize::from(self.plan.queries[usize::from(query)].pool);
                self.instances[instance].pools[pool].forsake(now);
            }
            (Op::Query { query, .. }, Phase::Served) => {
                let call = std::mem::replace(&mut self.requests[at].call, NONE);
                self.drop_call(call);
                let why = "canceled with its request";
                self.end_query(index, instance, usize::from(query), true, why);
            }
            (Op::Call { dependency, .. }, Phase::Served) => {
                let call = std::mem::replace(&mut self.requests[at].call, NONE);
                self.orphan(call);
                self.end_attempt(index, instance, usize::from(dependency), 2);
            }
            _ => {}
        }
    }

    fn finish(&mut self, index: u32, failure: Option<Failure>) {
        let at = index as usize;
        let now = self.now;
        let instance = usize::from(self.requests[at].instance);
        let status = failure.map_or(200, Failure::status);
        // Whatever it waited for must not be given to it while it gives things back.
        self.requests[at].generation = self.requests[at].generation.wrapping_add(1);
        self.release_connection(index, instance);
        let locks = self.requests[at].locks;
        for lock in 0..self.plan.locks.len() {
            if locks & (1 << lock) != 0 {
                self.release_lock(index, instance, lock);
            }
        }
        self.abandon_fill(index, instance);
        self.leave_tier(index, instance);

        let request = &self.requests[at];
        let (route, tenant) = (usize::from(request.route), request.tenant);
        let took = now - request.born;
        let (number, traced, born) = (request.number, request.traced, request.born);
        let place = &mut self.instances[instance];
        let of = &mut place.registry.routes[route];
        match of.by_status.iter_mut().find(|(known, _)| *known == status) {
            Some((_, count)) => *count += 1,
            None => of.by_status.push((status, 1)),
        }
        of.seconds.observe(took, &self.bounds);
        if let Some(tenant) = tenant {
            place.registry.tenants[usize::from(tenant)] += 1;
        }
        match failure {
            Some(Failure::QueueFull) => place.registry.rejected[0] += 1,
            Some(Failure::PoolTimeout) => place.registry.rejected[1] += 1,
            _ => {}
        }
        let allocated = self.setup.service.memory.allocated_per_request;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "bytes of a request"
        )]
        let allocated = (allocated * place.build.allocation_factor) as u64;
        place.registry.allocated += allocated;
        if let Some((share, bytes, descriptors)) = self.weather.task_leak
            && self.faults.happens(share)
        {
            place.leaked_tasks += 1;
            place.leaked_bytes += bytes;
            place.leaked_descriptors += u64::from(descriptors);
        }
        if let Some((bytes, acceleration, since)) = self.weather.memory_leak {
            let hours = registry::seconds(now - since) / 3_600.0;
            place.leaked_bytes += bytes * (1.0 + acceleration * hours);
        }
        place.in_flight -= 1;
        if now >= self.window {
            let micros = u32::try_from(took).unwrap_or(u32::MAX);
            self.durations.push(micros);
            self.errors += u64::from(status >= 500);
        }
        self.log_answer(index, status, took, failure);
        if traced {
            let name = format!(
                "{} {}",
                self.plan.routes[route].method, self.plan.routes[route].path
            );
            let tenant =
                tenant.map_or("", |tenant| self.plan.tenants[usize::from(tenant)].as_str());
            self.tracer
                .root(number, &name, born, now, status, tenant, instance);
        }
        self.ledger.finished += 1;
        self.ledger.rejected += u64::from(failure == Some(Failure::QueueFull));
        self.leave_system(index);
    }

    fn leave_system(&mut self, index: u32) {
        self.count_in_system();
        self.in_system -= 1;
        let request = &mut self.requests[index as usize];
        self.ledger.sojourn_micros += self.now - request.born;
        request.live = false;
        request.number = 0;
        request.generation = request.generation.wrapping_add(1);
        self.free_requests.push(index);
    }

    /// A fill that will not be finished: whoever waits for it looks again.
    fn abandon_fill(&mut self, index: u32, instance: usize) {
        let Some((cache, key)) = self.requests[index as usize].fills.take() else {
            return;
        };
        let state = &mut self.instances[instance].caches[usize::from(cache)];
        for ticket in state.fills.remove(&key).unwrap_or_default() {
            if self.requests[ticket.0 as usize].generation == ticket.1 {
                self.grant(ticket);
                self.requests[ticket.0 as usize].phase = Phase::Start;
            }
        }
    }

    /// A request ends with its process, which takes every station of the process with it.
    pub(super) fn lose(&mut self, index: u32) {
        let call = std::mem::replace(&mut self.requests[index as usize].call, NONE);
        self.orphan(call);
        let number = self.requests[index as usize].number;
        self.tracer.forget(number);
        self.ledger.lost += 1;
        self.leave_system(index);
    }
}
