//! The simulation itself: requests that move from station to station, event by event.
//!
//! A request is a small state machine over the operations that its route was compiled to. It moves
//! on until it has to wait, and is woken by an event (a timer, an answer) or by whoever gives a
//! server back. Events of the same microsecond happen in the order of their kinds and ids, so that
//! a run depends on nothing but its setup.

mod plan;
mod requests;
mod scrape;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use super::ledger::{Ledger, Minute, StationLedger};
use super::records::{LogBook, Tracer};
use super::registry::{self, Recorder, Registry};
use super::station::{Station, Ticket};
use super::truth::{self, Observed};
use super::{Fault, Run, SLOT_SECONDS, Setup};
use crate::chance::Chance;

pub(super) use plan::{Plan, compile};
use plan::{Release, small_index};
use requests::Request;
pub(super) use requests::mixed;

const NONE: u32 = u32::MAX;

/// What happens at a moment; the order in which things of the same moment happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// A fault starts or ends: index of the scenario, and 0 or 1.
    Fault(u32, u32),
    /// The first half of the warm-up is over, or all of it.
    Warm(u32),
    Drain(u32, u32),
    Stop(u32, u32),
    /// The instance, and the count of its stops at the time when this was planned.
    Boot(u32, u32),
    Scrape(u32),
    /// A stream gets its rate for the next slot.
    Slot(u32),
    Arrive(u32),
    /// A timer of a request.
    Timer(u32, u32),
    /// A request has waited for too long where it is.
    Timeout(u32, u32),
    /// A dependency has done its work for a call.
    Served(u32, u32),
}

impl Event {
    fn pack(self, at: u64) -> u128 {
        let (kind, id, generation) = match self {
            Event::Fault(id, end) => (0, id, end),
            Event::Warm(half) => (1, half, 0),
            Event::Drain(id, release) => (2, id, release),
            Event::Stop(id, release) => (3, id, release),
            Event::Boot(id, stops) => (4, id, stops),
            Event::Scrape(id) => (5, id, 0),
            Event::Slot(id) => (6, id, 0),
            Event::Arrive(id) => (7, id, 0),
            Event::Timer(id, generation) => (8, id, generation),
            Event::Timeout(id, generation) => (9, id, generation),
            Event::Served(id, generation) => (10, id, generation),
        };
        debug_assert!(id < 1 << 28, "fewer requests at a time than that");
        u128::from(at) << 64
            | u128::from(kind as u64) << 60
            | u128::from(id) << 32
            | u128::from(generation)
    }

    fn unpack(packed: u128) -> (u64, Event) {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "taken apart as it was put together"
        )]
        let (at, kind, id, generation) = (
            (packed >> 64) as u64,
            (packed >> 60) as u8 & 15,
            (packed >> 32) as u32 & 0x0FFF_FFFF,
            packed as u32,
        );
        let event = match kind {
            0 => Event::Fault(id, generation),
            1 => Event::Warm(id),
            2 => Event::Drain(id, generation),
            3 => Event::Stop(id, generation),
            4 => Event::Boot(id, generation),
            5 => Event::Scrape(id),
            6 => Event::Slot(id),
            7 => Event::Arrive(id),
            8 => Event::Timer(id, generation),
            9 => Event::Timeout(id, generation),
            _ => Event::Served(id, generation),
        };
        (at, event)
    }
}

/// A tier of one instance.
struct TierState {
    station: Station,
    limit: u32,
    /// Requests of the tier before that hold their worker until there is room here.
    blocked: VecDeque<Ticket>,
}

struct CacheState {
    /// Until when the value of each key is good; 0 when there is none.
    good_until: Vec<u64>,
    /// Keys that are being filled, and who waits for that.
    fills: BTreeMap<u32, Vec<Ticket>>,
}

/// How an instance's build differs from an ordinary one.
#[derive(Clone, Debug)]
struct Build {
    version: String,
    compute_factor: f64,
    allocation_factor: f64,
    error_share: f64,
}

struct LogState {
    buffered: u64,
    credit: f64,
    advanced: u64,
}

struct Instance {
    up: bool,
    accepting: bool,
    /// Counts stops, so that a boot that was planned before another stop is passed over.
    stops: u32,
    started_ms: i64,
    build: Build,
    cores: Station,
    tiers: Vec<TierState>,
    pools: Vec<Station>,
    locks: Vec<Station>,
    /// Who holds each lock.
    owners: Vec<u32>,
    caches: Vec<CacheState>,
    client_in_flight: Vec<u32>,
    in_flight: u32,
    registry: Registry,
    half_warm: Option<(Registry, u64)>,
    recorder: Recorder,
    log: LogState,
    leaked_tasks: u64,
    leaked_bytes: f64,
    leaked_descriptors: u64,
    /// Slow noises, with mean 0 and standard deviation 1.
    memory_noise: f64,
    connection_noise: f64,
    /// Since when the process runs, in simulated microseconds; negative when it was there before.
    age_from: i64,
}

/// A call or a query, from the point of view of its dependency.
struct Call {
    owner: u32,
    owner_generation: u32,
    generation: u32,
    dependency: u32,
    work: u64,
    started: bool,
    live: bool,
}

struct Stream {
    from: u64,
    to: u64,
    /// Requests per second; `None` is the load of the setup.
    rate: Option<f64>,
    route: Option<u16>,
    tenant: Option<u16>,
    noise: f64,
    /// In this slot, requests per microsecond.
    now: f64,
    slot_ends: u64,
}

/// The faults that are there.
struct Weather {
    query_factor: Vec<f64>,
    dependency_factor: Vec<f64>,
    dependency_factor_until: Vec<u64>,
    dependency_tail: Vec<Option<(f64, f64, f64)>>,
    attempts: Vec<Option<u32>>,
    lock_factor: Vec<f64>,
    pool_leak: Vec<f64>,
    aligned: Vec<Option<(u64, f64)>>,
    task_leak: Option<(f64, f64, bool)>,
    memory_leak: Option<(f64, f64, u64)>,
    crossed: Option<(u16, u16)>,
    log_rate: Option<f64>,
    surge: f64,
}

struct Engine<'a> {
    setup: &'a Setup,
    plan: Plan,
    now: u64,
    end: u64,
    window: u64,
    /// Unix time of simulated time 0, in milliseconds.
    epoch_ms: i64,
    heap: BinaryHeap<Reverse<u128>>,
    /// Deadlines of requests, which are all equally far away: in order by themselves.
    deadlines: VecDeque<(u64, u32, u64)>,
    deadline: Option<u64>,
    requests: Vec<Request>,
    free_requests: Vec<u32>,
    calls: Vec<Call>,
    free_calls: Vec<u32>,
    instances: Vec<Instance>,
    dependencies: Vec<Station>,
    /// What is scraped besides the instances: the dependencies that have pools in front of them.
    exporters: Vec<(usize, Recorder)>,
    streams: Vec<Stream>,
    weather: Weather,
    ready: VecDeque<u32>,
    bounds: Vec<u64>,
    number: u64,
    in_system: u64,
    in_system_changed: u64,
    ledger: Ledger,
    durations: Vec<u32>,
    errors: u64,
    minutes: Vec<Minute>,
    minute_ends: u64,
    /// Which requests come, and what they take: apart, so that a change of one leaves the other.
    arrivals: Chance,
    work: Chance,
    faults: Chance,
    world: Chance,
    logs: LogBook,
    tracer: Tracer,
    /// By instance.
    deadlocked_at: Vec<Option<u64>>,
    killed: Vec<(u64, usize)>,
}

pub(super) fn run(setup: &Setup, plan: Plan) -> Run {
    let mut engine = Engine::new(setup, plan);
    engine.go();
    engine.into_run()
}

fn micros(seconds: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "times of a simulation are positive and far below 2^63 microseconds"
    )]
    let micros = (seconds * 1e6) as u64;
    micros
}

#[expect(
    clippy::cast_possible_wrap,
    reason = "times of a simulation are far below 2^63"
)]
fn millis(micros: u64) -> i64 {
    (micros / 1_000) as i64
}

impl<'a> Engine<'a> {
    fn new(setup: &'a Setup, plan: Plan) -> Self {
        let service = &setup.service;
        let window = micros(setup.warm_up);
        let mut world = Chance::of(setup.seed ^ 0x3089_D1C4_0000_0001);
        let subnet = (world.whole(1, 9), world.whole(0, 250));
        let mut hosts: Vec<u64> = Vec::new();
        while hosts.len() < service.instances {
            let host = world.whole(2, 2_000);
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        let build = Build {
            version: service.version.clone(),
            compute_factor: 1.0,
            allocation_factor: 1.0,
            error_share: 0.0,
        };
        let instances = hosts
            .iter()
            .map(|host| {
                let name = format!(
                    "10.{}.{}.{}:9100",
                    subnet.0,
                    (subnet.1 + host / 250) % 255,
                    host % 250 + 2
                );
                let mut instance = Instance::new(
                    Recorder::new(&service.name, name),
                    build.clone(),
                    &plan,
                    setup,
                    0,
                );
                instance.memory_noise = world.log_normal(1.0, 0.2) - 1.0;
                instance.connection_noise = world.log_normal(1.0, 0.2) - 1.0;
                instance.age_from = -86_400_000_000;
                instance
            })
            .collect();
        let exporters = (0..plan.dependencies.len())
            .filter(|&dependency| plan.is_database(dependency))
            .map(|dependency| {
                let address = format!("10.{}.255.{}:9187", subnet.0, 10 + dependency);
                let name = &plan.dependencies[dependency].name;
                (dependency, Recorder::new(name, address))
            })
            .collect();
        let weather = Weather {
            query_factor: vec![1.0; plan.queries.len()],
            dependency_factor: vec![1.0; plan.dependencies.len()],
            dependency_factor_until: vec![u64::MAX; plan.dependencies.len()],
            dependency_tail: vec![None; plan.dependencies.len()],
            attempts: vec![None; plan.dependencies.len()],
            lock_factor: vec![1.0; plan.locks.len()],
            pool_leak: vec![0.0; plan.pools.len()],
            aligned: vec![None; plan.caches.len()],
            task_leak: None,
            memory_leak: None,
            crossed: None,
            log_rate: None,
            surge: 1.0,
        };
        let dependencies = plan
            .dependencies
            .iter()
            .map(|dependency| Station::new(dependency.capacity, 0))
            .collect();
        #[expect(
            clippy::cast_possible_truncation,
            reason = "whole seconds of Unix time"
        )]
        let epoch_ms = setup.begins * 1_000 - (setup.warm_up * 1_000.0) as i64;
        let mut engine = Engine {
            setup,
            now: 0,
            end: window + micros(setup.duration),
            window,
            epoch_ms,
            heap: BinaryHeap::new(),
            deadlines: VecDeque::new(),
            deadline: service.deadline.map(micros),
            requests: Vec::new(),
            free_requests: Vec::new(),
            calls: Vec::new(),
            free_calls: Vec::new(),
            instances,
            dependencies,
            exporters,
            streams: Vec::new(),
            weather,
            ready: VecDeque::new(),
            bounds: service.bounds.iter().map(|&bound| micros(bound)).collect(),
            number: 0,
            in_system: 0,
            in_system_changed: 0,
            ledger: Ledger::default(),
            durations: Vec::new(),
            errors: 0,
            minutes: Vec::new(),
            minute_ends: window + 60_000_000,
            arrivals: Chance::of(setup.seed ^ 0xA441_7A15_0000_0002),
            work: Chance::of(setup.seed ^ 0x0301_2C00_0000_0003),
            faults: Chance::of(setup.seed ^ 0xFA17_0000_0000_0004),
            world,
            logs: LogBook::new(epoch_ms, setup),
            tracer: Tracer::new(epoch_ms, setup),
            deadlocked_at: vec![None; service.instances],
            killed: Vec::new(),
            plan,
        };
        engine.schedule_everything();
        engine
    }

    fn at(&mut self, at: u64, event: Event) {
        self.heap.push(Reverse(event.pack(at)));
    }

    fn schedule_everything(&mut self) {
        let setup = self.setup;
        let window = self.window;
        if window > 0 {
            self.at(window / 2, Event::Warm(0));
            self.at(window, Event::Warm(1));
        }
        let everything = Stream {
            from: 0,
            to: u64::MAX,
            rate: None,
            route: None,
            tenant: None,
            noise: 0.0,
            now: 0.0,
            slot_ends: 0,
        };
        self.streams.push(everything);
        for job in &setup.jobs {
            let from = window + micros(job.at);
            self.streams.push(Stream {
                from,
                to: from.saturating_add(micros(job.lasts)),
                rate: Some(job.rate),
                route: self.plan.route(&job.path),
                tenant: None,
                noise: 0.0,
                now: 0.0,
                slot_ends: 0,
            });
        }
        for (index, scenario) in setup.scenarios.iter().enumerate() {
            let from = window + micros(scenario.starts_at);
            let to = scenario
                .lasts
                .map(|lasts| from.saturating_add(micros(lasts)));
            if let Fault::NoisyTenant { tenant, rate } = &scenario.fault {
                self.streams.push(Stream {
                    from,
                    to: to.unwrap_or(u64::MAX),
                    rate: Some(*rate),
                    route: None,
                    tenant: self.plan.tenant(tenant),
                    noise: 0.0,
                    now: 0.0,
                    slot_ends: 0,
                });
            }
            let id = small_index(index);
            self.at(from, Event::Fault(id, 0));
            if let Some(to) = to {
                self.at(to, Event::Fault(id, 1));
            }
        }
        for stream in 0..self.streams.len() {
            let from = self.streams[stream].from;
            self.at(from, Event::Slot(small_index(stream)));
        }
        let releases: Vec<(u64, u64)> = self
            .plan
            .releases
            .iter()
            .map(|release| (window + micros(release.at), micros(release.stagger)))
            .collect();
        let drain = micros(setup.service.drain);
        for (release, (at, stagger)) in releases.into_iter().enumerate() {
            for instance in 0..self.instances.len() {
                let at = at + stagger * instance as u64;
                let (id, release) = (small_index(instance), small_index(release));
                self.at(at, Event::Drain(id, release));
                self.at(at + drain, Event::Stop(id, release));
            }
        }
        let interval = micros(setup.scrape_interval);
        for instance in 0..self.instances.len() + self.exporters.len() {
            let offset = self.world.whole(0, interval / 1_000 - 1) * 1_000;
            self.at(window + offset, Event::Scrape(small_index(instance)));
        }
    }

    fn go(&mut self) {
        loop {
            let next = self
                .heap
                .peek()
                .map_or(u64::MAX, |Reverse(packed)| (packed >> 64) as u64);
            if let Some(&(at, request, number)) = self.deadlines.front()
                && at <= next
                && at <= self.end
            {
                self.deadlines.pop_front();
                self.move_to(at);
                if self.requests[request as usize].number == number {
                    self.expire(request);
                    self.settle();
                }
                continue;
            }
            if next > self.end {
                break;
            }
            let Some(Reverse(packed)) = self.heap.pop() else {
                break;
            };
            let (at, event) = Event::unpack(packed);
            self.move_to(at);
            self.happen(event);
            self.settle();
        }
        self.move_to(self.end);
        self.close_minute();
    }

    fn move_to(&mut self, at: u64) {
        while at >= self.minute_ends {
            self.close_minute();
        }
        self.now = at;
    }

    /// Lets everyone move on who was woken, in the order in which that happened.
    fn settle(&mut self) {
        while let Some(request) = self.ready.pop_front() {
            self.advance(request);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Fault(scenario, end) => self.change_weather(scenario as usize, end == 0),
            Event::Warm(half) => self.warm(half == 1),
            Event::Drain(instance, _) => self.instances[instance as usize].accepting = false,
            Event::Stop(instance, release) => {
                let release: &Release = &self.plan.releases[release as usize];
                let build = Build {
                    version: release.version.clone(),
                    compute_factor: release.compute_factor,
                    allocation_factor: release.allocation_factor,
                    error_share: release.error_share,
                };
                self.stop(instance as usize, "shutting down");
                self.instances[instance as usize].build = build;
            }
            Event::Boot(instance, stops) => self.boot(instance as usize, stops),
            Event::Scrape(target) => match (target as usize).checked_sub(self.instances.len()) {
                None => self.scrape(target as usize),
                Some(exporter) => self.scrape_database(exporter),
            },
            Event::Slot(stream) => self.begin_slot(stream as usize),
            Event::Arrive(stream) => self.arrive(stream as usize),
            Event::Timer(request, generation) => {
                if self.requests[request as usize].generation == generation {
                    self.advance(request);
                }
            }
            Event::Timeout(request, generation) => {
                if self.requests[request as usize].generation == generation {
                    self.time_out(request);
                }
            }
            Event::Served(call, generation) => {
                if self.calls[call as usize].generation == generation {
                    self.served(call);
                }
            }
        }
    }

    fn begin_slot(&mut self, index: usize) {
        let slot = micros(SLOT_SECONDS);
        let now = self.now;
        if index == 0 {
            self.kill_where_memory_ended();
        }
        if now >= self.streams[index].to {
            return;
        }
        let setup = self.setup;
        let surge = self.weather.surge;
        let wobble = self.world.log_normal(1.0, 1.0);
        let stream = &mut self.streams[index];
        // A mean-reverting noise with a memory of about two minutes and standard deviation 1.
        stream.noise = 0.96 * stream.noise + 0.28 * libm::log(wobble);
        let rate = match stream.rate {
            Some(rate) => rate,
            None => {
                let at = registry::seconds(now) - setup.warm_up;
                let noise = libm::exp(setup.load.noise * stream.noise);
                setup.load.rate(setup.begins, at) * surge * noise
            }
        };
        stream.now = rate / 1e6;
        stream.slot_ends = (now + slot).min(stream.to);
        let ends = stream.slot_ends;
        if ends <= self.end {
            self.at(ends, Event::Slot(small_index(index)));
        }
        self.plan_arrival(index);
    }

    fn plan_arrival(&mut self, index: usize) {
        let stream = &self.streams[index];
        if stream.now <= 0.0 {
            return;
        }
        let gap = self.arrivals.exponential(1.0 / stream.now);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a positive number of microseconds; what is too large is cut off"
        )]
        let at = self.now + gap as u64 + 1;
        // Whatever lies beyond the slot is drawn again there, with the rate of that slot: an
        // exponential time has no memory.
        if at < stream.slot_ends {
            self.at(at, Event::Arrive(small_index(index)));
        }
    }

    fn change_weather(&mut self, scenario: usize, begins: bool) {
        let now = self.now;
        let plan = &self.plan;
        let weather = &mut self.weather;
        let pick = |value: f64| if begins { value } else { 1.0 };
        match &self.setup.scenarios[scenario].fault {
            Fault::SlowQuery { query, factor } => {
                for (planned, slot) in plan.queries.iter().zip(&mut weather.query_factor) {
                    if planned.name == *query {
                        *slot = pick(*factor);
                    }
                }
            }
            Fault::ConnectionLeak { pool, share } => {
                let index = plan.pool(pool).expect("checked");
                weather.pool_leak[index] = if begins { *share } else { 0.0 };
            }
            Fault::TaskLeak {
                share,
                bytes,
                descriptors,
            } => weather.task_leak = begins.then_some((*share, *bytes, *descriptors)),
            Fault::MemoryLeak {
                bytes_per_request,
                acceleration,
            } => {
                weather.memory_leak = begins.then_some((*bytes_per_request, *acceleration, now));
            }
            Fault::LockContention { lock, factor } => {
                let index = plan.lock(lock).expect("checked");
                weather.lock_factor[index] = pick(*factor);
            }
            Fault::Deadlock { first, second } => {
                let lock = |name| registry::small(plan.lock(name).expect("checked"));
                weather.crossed = begins.then(|| (lock(first), lock(second)));
            }
            Fault::CacheStampede {
                cache,
                ttl,
                fill_factor,
            } => {
                let index = plan.cache(cache).expect("checked");
                let ttl = micros(*ttl);
                weather.aligned[index] = begins.then_some((ttl, *fill_factor));
                if begins {
                    for instance in &mut self.instances {
                        for good_until in &mut instance.caches[index].good_until {
                            if *good_until > now {
                                *good_until = (now / ttl + 1) * ttl;
                            }
                        }
                    }
                }
            }
            Fault::RetryStorm {
                dependency,
                factor,
                trigger,
                attempts,
            } => {
                let index = plan.dependency(dependency).expect("checked");
                weather.dependency_factor[index] = pick(*factor);
                weather.dependency_factor_until[index] = now + micros(*trigger);
                weather.attempts[index] = begins.then_some(*attempts);
            }
            Fault::SlowDependency {
                dependency,
                share,
                median,
                sigma,
            } => {
                let index = plan.dependency(dependency).expect("checked");
                weather.dependency_tail[index] = begins.then_some((*share, *median, *sigma));
            }
            Fault::LogLoss { lines_per_second } => {
                for instance in 0..self.instances.len() {
                    self.ship_logs(instance);
                }
                self.weather.log_rate = begins.then_some(*lines_per_second);
            }
            Fault::TrafficSurge { factor } => weather.surge = pick(*factor),
            // Streams and releases of their own.
            Fault::NoisyTenant { .. } | Fault::BadDeploy { .. } => {}
        }
    }

    fn stop(&mut self, index: usize, why: &str) {
        if self.instances[index].up {
            self.log_event(index, why);
            self.ship_logs(index);
        }
        for request in 0..self.requests.len() {
            if self.requests[request].live && self.requests[request].instance as usize == index {
                self.lose(small_index(request));
            }
        }
        let setup = self.setup;
        let now = self.now;
        let instance = &mut self.instances[index];
        instance.up = false;
        instance.accepting = false;
        instance.stops += 1;
        instance.reset(&self.plan, setup, now);
        let stops = instance.stops;
        let spread = self.world.between(0.8, 1.4);
        let boots = now + micros(setup.service.boot * spread);
        self.at(boots, Event::Boot(small_index(index), stops));
    }

    fn boot(&mut self, index: usize, stops: u32) {
        if self.instances[index].stops != stops {
            return;
        }
        let started_ms = self.epoch_ms + millis(self.now);
        let setup = self.setup;
        let now = self.now;
        let instance = &mut self.instances[index];
        instance.reset(&self.plan, setup, now);
        instance.up = true;
        instance.accepting = true;
        instance.started_ms = started_ms;
        instance.age_from = i64::try_from(now).expect("a short time");
        self.log_event(index, "listening");
    }

    /// The days before the window: counters as if the two halves of the warm-up had been repeated.
    fn warm(&mut self, whole: bool) {
        for index in 0..self.instances.len() {
            self.ship_logs(index);
            let now = self.now;
            let setup = self.setup;
            let instance = &mut self.instances[index];
            instance.cores.account(now);
            let busy = instance.cores.busy_micros;
            if !whole {
                instance.half_warm = Some((instance.registry.clone(), busy));
                continue;
            }
            let Some((first, first_busy)) = instance.half_warm.take() else {
                continue;
            };
            let halves = setup.uptime_days * 86_400.0 / (setup.warm_up / 2.0);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "days over minutes"
            )]
            let halves = (halves as u64).max(2) + 2 * index as u64;
            let often = halves / 2 + self.world.whole(0, halves / 40);
            let seldom = halves.saturating_sub(often).max(1);
            instance.registry.repeat(&first, often, seldom);
            let buffered = instance.log.buffered;
            instance.registry.balance_log(buffered);
            // `first * often + (all - first) * seldom`, where the station counts `all` itself.
            instance.registry.cpu_micros_before =
                first_busy * often + (busy - first_busy) * seldom - busy;
            let ran = (often + seldom) * self.window / 2;
            instance.started_ms = setup.begins * 1_000 - millis(ran);
            instance.age_from = -i64::try_from(ran).expect("days");
        }
    }

    fn close_minute(&mut self) {
        let ends = self.minute_ends.min(self.end);
        let begins = self.minute_ends - 60_000_000;
        self.minute_ends += 60_000_000;
        if begins >= ends {
            return;
        }
        let finished = self.durations.len();
        let mut quantile = |q: f64| {
            if finished == 0 {
                return 0.0;
            }
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "a rank"
            )]
            let rank = (libm::ceil(q * finished as f64) as usize).clamp(1, finished) - 1;
            let (_, &mut micros, _) = self.durations.select_nth_unstable(rank);
            f64::from(micros) / 1e6
        };
        let (p50, p99) = (quantile(0.5), quantile(0.99));
        self.minutes.push(Minute {
            begins_ms: self.epoch_ms + millis(begins),
            finished: finished as u64,
            errors: self.errors,
            p50,
            p99,
        });
        self.durations.clear();
        self.errors = 0;
    }

    fn into_run(mut self) -> Run {
        self.count_in_system();
        let mut ledger = std::mem::take(&mut self.ledger);
        for request in self.requests.iter().filter(|request| request.live) {
            ledger.in_flight += 1;
            ledger.sojourn_micros += self.end - request.born;
        }
        ledger.calls_in_flight = self.calls.iter().filter(|call| call.live).count() as u64;
        ledger.duration_micros = self.end;
        let end = self.end;
        let mut series = Vec::new();
        let mut instances = Vec::new();
        for mut instance in self.instances {
            let name = instance.recorder.instance().to_owned();
            let mut book = |station: String, of: &mut Station| {
                of.account(end);
                ledger.stations.push(StationLedger {
                    instance: Some(name.clone()),
                    station,
                    servers: of.servers,
                    busy_micros: of.busy_micros,
                    waiting_micros: of.waiting_micros,
                });
            };
            for (planned, tier) in self.plan.tiers.iter().zip(&mut instance.tiers) {
                book(format!("tier {}", planned.name), &mut tier.station);
            }
            book("cores".into(), &mut instance.cores);
            for (planned, pool) in self.plan.pools.iter().zip(&mut instance.pools) {
                book(format!("pool {}", planned.name), pool);
            }
            for (lock, station) in self.plan.locks.iter().zip(&mut instance.locks) {
                book(format!("lock {lock}"), station);
            }
            instances.push(name);
            instance.recorder.into_series(&mut series);
        }
        for (_, recorder) in self.exporters {
            recorder.into_series(&mut series);
        }
        for (planned, station) in self.plan.dependencies.iter().zip(&mut self.dependencies) {
            station.account(end);
            ledger.stations.push(StationLedger {
                instance: None,
                station: format!("dependency {}", planned.name),
                servers: station.servers,
                busy_micros: station.busy_micros,
                waiting_micros: station.waiting_micros,
            });
        }
        registry::sort(&mut series);
        let traces = self.tracer.into_text(&instances);
        let ms = |at: u64| self.epoch_ms + millis(at);
        let observed = Observed {
            instances,
            deadlocked_at_ms: self.deadlocked_at.iter().map(|at| at.map(ms)).collect(),
            killed: self
                .killed
                .iter()
                .map(|&(at, index)| (ms(at), index))
                .collect(),
        };
        Run {
            series,
            logs: self.logs.into_text(),
            traces,
            truth: truth::of(self.setup, observed),
            ledger,
            minutes: self.minutes,
        }
    }
}

impl Instance {
    fn new(recorder: Recorder, build: Build, plan: &Plan, setup: &Setup, now: u64) -> Self {
        let mut instance = Instance {
            up: true,
            accepting: true,
            stops: 0,
            started_ms: 0,
            build,
            cores: Station::new(0, now),
            tiers: Vec::new(),
            pools: Vec::new(),
            locks: Vec::new(),
            owners: Vec::new(),
            caches: Vec::new(),
            client_in_flight: Vec::new(),
            in_flight: 0,
            registry: Registry::new(plan, &setup.service.bounds),
            half_warm: None,
            recorder,
            log: LogState {
                buffered: 0,
                credit: 0.0,
                advanced: now,
            },
            leaked_tasks: 0,
            leaked_bytes: 0.0,
            leaked_descriptors: 0,
            memory_noise: 0.0,
            connection_noise: 0.0,
            age_from: 0,
        };
        instance.reset(plan, setup, now);
        instance
    }

    /// A new process: nothing of the former one is left but its identity and its build.
    fn reset(&mut self, plan: &Plan, setup: &Setup, now: u64) {
        let station = |servers: u32| Station::new(servers, now);
        self.cores = station(setup.service.cores);
        self.tiers = plan
            .tiers
            .iter()
            .map(|tier| TierState {
                station: station(tier.workers),
                limit: tier.queue,
                blocked: VecDeque::new(),
            })
            .collect();
        self.pools = plan
            .pools
            .iter()
            .map(|pool| {
                let mut connections = station(pool.size);
                connections.busy = pool.held;
                connections
            })
            .collect();
        self.locks = plan.locks.iter().map(|_| station(1)).collect();
        self.owners = vec![NONE; plan.locks.len()];
        self.caches = plan
            .caches
            .iter()
            .map(|cache| CacheState {
                good_until: vec![0; cache.keys as usize],
                fills: BTreeMap::new(),
            })
            .collect();
        self.client_in_flight = vec![0; plan.dependencies.len()];
        self.in_flight = 0;
        self.registry = Registry::new(plan, &setup.service.bounds);
        self.log = LogState {
            buffered: 0,
            credit: 0.0,
            advanced: now,
        };
        self.leaked_tasks = 0;
        self.leaked_bytes = 0.0;
        self.leaked_descriptors = 0;
    }
}
