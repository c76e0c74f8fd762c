//! What a scrape finds, what memory there is, and what the service logs.

use super::requests::Failure;
use super::{Engine, Event, micros, millis};
use crate::service::registry::{LEVELS, Metric, OUTCOMES, REASONS, real, seconds, small};

/// What a process without traffic has open: standard streams, epoll, listeners, the log.
const DESCRIPTORS: f64 = 23.0;
const MAX_DESCRIPTORS: f64 = 65_536.0;
/// Tasks of a process without traffic: listeners, reporters, timers.
const TASKS: f64 = 11.0;
/// Processor time of a process without traffic, in seconds for each second.
const IDLE_CPU: f64 = 0.004;
/// Microseconds in which a young process comes to its memory.
const WARM_MICROS: f64 = 900e6;

impl Engine<'_> {
    /// Connections that clients keep open to an instance, used or not.
    fn connections(&self, index: usize) -> f64 {
        let rate = self.streams[0].now * 1e6 / real(self.instances.len() as u64);
        let instance = &self.instances[index];
        let usual = 14.0 + 0.9 * rate + 3.0 * instance.connection_noise;
        libm::floor(usual.max(1.0)) + f64::from(instance.in_flight)
    }

    fn resident(&self, index: usize) -> f64 {
        let memory = &self.setup.service.memory;
        let instance = &self.instances[index];
        #[expect(clippy::cast_precision_loss, reason = "microseconds of a process")]
        let age = self.now as f64 - instance.age_from as f64;
        let warm = 0.72 + 0.28 * (1.0 - libm::exp(-age / WARM_MICROS));
        let entries: f64 = (0..instance.caches.len())
            .map(|cache| self.entries(index, cache))
            .sum();
        let bytes = memory.base * (warm + 0.006 * instance.memory_noise)
            + memory.per_request_in_flight * f64::from(instance.in_flight)
            + memory.per_cache_entry * entries
            + instance.leaked_bytes;
        // Pages.
        libm::floor(bytes / 4_096.0) * 4_096.0
    }

    fn entries(&self, index: usize, cache: usize) -> f64 {
        let good_until = &self.instances[index].caches[cache].good_until;
        let now = self.now;
        real(good_until.iter().filter(|&&until| until > now).count() as u64)
    }

    pub(super) fn kill_where_memory_ended(&mut self) {
        for index in 0..self.instances.len() {
            if self.instances[index].up && self.resident(index) > self.setup.service.memory.limit {
                self.log_kill(index);
                self.killed.push((self.now, index));
                self.stop(index, "");
            }
        }
    }

    pub(super) fn scrape(&mut self, index: usize) {
        let setup = self.setup;
        let next = self.now + micros(setup.scrape_interval);
        if next <= self.end {
            self.at(next, Event::Scrape(super::small_index(index)));
        }
        let at_ms = self.epoch_ms + millis(self.now);
        let missed = self.world.happens(setup.missed_scrapes);
        let (memory, connection) = (
            self.world.log_normal(1.0, 1.0),
            self.world.log_normal(1.0, 1.0),
        );
        let instance = &mut self.instances[index];
        instance.memory_noise = 0.97 * instance.memory_noise + 0.243 * libm::log(memory);
        instance.connection_noise = 0.9 * instance.connection_noise + 0.436 * libm::log(connection);
        if missed || !instance.up {
            instance.recorder.failed(at_ms);
            return;
        }
        self.ship_logs(index);
        let resident = self.resident(index);
        let connections = self.connections(index);
        let entries: Vec<f64> = (0..self.plan.caches.len())
            .map(|cache| self.entries(index, cache))
            .collect();
        let now = self.now;
        let plan = &self.plan;
        let instance = &mut self.instances[index];
        instance.cores.account(now);
        let bounds = &setup.service.bounds;
        let registry = &instance.registry;
        let recorder = &mut instance.recorder;
        recorder.begin(at_ms);
        let one = |name: &'static str, value: &str| vec![(name, value.to_owned())];
        let none = Vec::new;

        let version = instance.build.version.as_str();
        let release = 1 + plan
            .releases
            .iter()
            .position(|release| release.version == version)
            .unwrap_or(usize::MAX - 1);
        let release = if version == setup.service.version {
            0
        } else {
            small(release)
        };
        recorder.put((Metric::BuildInfo, release, 0, 0), 1.0, || {
            one("version", version)
        });

        for (nth, cache) in plan.caches.iter().enumerate() {
            let of = registry.caches[nth];
            let labels = || one("cache", &cache.name);
            let key = |metric| (metric, small(nth), 0, 0);
            recorder.put(key(Metric::CacheEntries), entries[nth], labels);
            recorder.put(key(Metric::CacheHits), real(of.hits), labels);
            recorder.put(key(Metric::CacheMisses), real(of.misses), labels);
        }

        for (nth, pool) in plan.pools.iter().enumerate() {
            let (of, station) = (&registry.pools[nth], &instance.pools[nth]);
            let labels = || one("pool", &pool.name);
            let key = |metric| (metric, small(nth), 0, 0);
            recorder.put(key(Metric::PoolMax), f64::from(station.servers), labels);
            recorder.put(key(Metric::PoolInUse), f64::from(station.busy), labels);
            recorder.put(key(Metric::PoolWaiters), f64::from(station.waiters), labels);
            recorder.put(key(Metric::PoolTimeouts), real(of.timeouts), labels);
            recorder.histogram(Metric::PoolAcquire, nth, &of.acquire, bounds, labels);
        }
        for (nth, query) in plan.queries.iter().enumerate() {
            let of = &registry.queries[nth];
            let labels = || {
                vec![
                    ("pool", plan.pools[usize::from(query.pool)].name.clone()),
                    ("query", query.name.clone()),
                ]
            };
            recorder.put(
                (Metric::QueryErrors, small(nth), 0, 0),
                real(of.errors),
                labels,
            );
            recorder.histogram(Metric::QuerySeconds, nth, &of.seconds, bounds, labels);
        }

        for (nth, dependency) in plan.dependencies.iter().enumerate() {
            if !plan.called[nth] {
                continue;
            }
            let of = &registry.clients[nth];
            let labels = || one("target", &dependency.name);
            let key = |metric| (metric, small(nth), 0, 0);
            let in_flight = f64::from(instance.client_in_flight[nth]);
            recorder.put(key(Metric::ClientInFlight), in_flight, labels);
            recorder.put(key(Metric::ClientRetries), real(of.retries), labels);
            for (outcome, name) in OUTCOMES.iter().enumerate() {
                let count = of.by_outcome[outcome];
                if count > 0 {
                    recorder.put(
                        (Metric::ClientRequests, small(nth), small(outcome), 0),
                        real(count),
                        || {
                            vec![
                                ("target", dependency.name.clone()),
                                ("outcome", (*name).to_owned()),
                            ]
                        },
                    );
                }
            }
            recorder.histogram(Metric::ClientSeconds, nth, &of.seconds, bounds, labels);
        }

        recorder.put(
            (Metric::HttpInFlight, 0, 0, 0),
            f64::from(instance.in_flight),
            none,
        );
        for (nth, reason) in REASONS.iter().enumerate() {
            let possible = nth == 0 && !plan.tiers.is_empty() || nth == 1 && !plan.pools.is_empty();
            if possible {
                recorder.put(
                    (Metric::HttpRejected, small(nth), 0, 0),
                    real(registry.rejected[nth]),
                    || one("reason", reason),
                );
            }
        }
        for (nth, route) in plan.routes.iter().enumerate() {
            let of = &registry.routes[nth];
            let labels = || {
                vec![
                    ("method", route.method.clone()),
                    ("route", route.path.clone()),
                ]
            };
            for &(status, count) in &of.by_status {
                recorder.put(
                    (Metric::HttpRequests, small(nth), status, 0),
                    real(count),
                    || {
                        let mut labels = labels();
                        labels.push(("status", status.to_string()));
                        labels
                    },
                );
            }
            if of.seconds.count() > 0 {
                recorder.histogram(Metric::HttpSeconds, nth, &of.seconds, bounds, labels);
            }
        }

        recorder.put(
            (Metric::LogBuffer, 0, 0, 0),
            real(instance.log.buffered),
            none,
        );
        recorder.put(
            (Metric::LogDropped, 0, 0, 0),
            real(registry.log_dropped),
            none,
        );
        recorder.put(
            (Metric::LogShipped, 0, 0, 0),
            real(registry.log_shipped),
            none,
        );
        for (nth, level) in LEVELS.iter().enumerate() {
            recorder.put(
                (Metric::LogLines, small(nth), 0, 0),
                real(registry.log_lines[nth]),
                || one("level", level),
            );
        }

        for (nth, lock) in plan.locks.iter().enumerate() {
            let (of, station) = (&registry.locks[nth], &instance.locks[nth]);
            let labels = || one("lock", lock);
            let key = |metric| (metric, small(nth), 0, 0);
            recorder.put(key(Metric::LockContentions), real(of.contentions), labels);
            recorder.put(key(Metric::LockWaiters), f64::from(station.waiters), labels);
            recorder.histogram(Metric::LockWait, nth, &of.wait, bounds, labels);
        }

        let started = seconds(u64::try_from(instance.started_ms).unwrap_or(0) * 1_000);
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of Unix time")]
        let ran = (at_ms - instance.started_ms) as f64 / 1e3;
        let cpu = seconds(registry.cpu_micros_before + instance.cores.busy_micros) + IDLE_CPU * ran;
        // The kernel counts in hundredths.
        let cpu = libm::floor(cpu * 100.0) / 100.0;
        let pools: f64 = instance
            .pools
            .iter()
            .map(|pool| f64::from(pool.servers))
            .sum();
        let calls: f64 = instance
            .client_in_flight
            .iter()
            .map(|&n| f64::from(n))
            .sum();
        let descriptors =
            DESCRIPTORS + pools + connections + calls + real(instance.leaked_descriptors);
        let tasks = TASKS + connections + real(instance.leaked_tasks);
        for (metric, value) in [
            (Metric::Allocated, real(registry.allocated)),
            (Metric::CpuSeconds, cpu),
            (Metric::MaxFds, MAX_DESCRIPTORS),
            (Metric::OpenFds, descriptors.min(MAX_DESCRIPTORS)),
            (Metric::Resident, resident),
            (Metric::StartTime, started),
            (Metric::AliveTasks, tasks),
            (Metric::GlobalQueue, f64::from(instance.cores.waiters)),
            (Metric::WorkerThreads, f64::from(instance.cores.servers)),
        ] {
            recorder.put((metric, 0, 0, 0), value, none);
        }
        for (nth, tenant) in plan.tenants.iter().enumerate() {
            recorder.put(
                (Metric::TenantRequests, small(nth), 0, 0),
                real(registry.tenants[nth]),
                || one("tenant", tenant),
            );
        }
        for (nth, tier) in plan.tiers.iter().enumerate() {
            let (of, state) = (&registry.stages[nth], &instance.tiers[nth]);
            let labels = || one("stage", &tier.name);
            let key = |metric| (metric, small(nth), 0, 0);
            let station = &state.station;
            recorder.put(key(Metric::StageDepth), f64::from(station.waiters), labels);
            recorder.put(key(Metric::StageLimit), f64::from(state.limit), labels);
            recorder.put(key(Metric::StageActive), f64::from(station.busy), labels);
            recorder.put(key(Metric::StageMax), f64::from(station.servers), labels);
            recorder.histogram(Metric::StageWait, nth, &of.wait, bounds, labels);
            recorder.histogram(Metric::StageRun, nth, &of.run, bounds, labels);
        }
    }

    pub(super) fn scrape_database(&mut self, exporter: usize) {
        let next = self.now + micros(self.setup.scrape_interval);
        if next <= self.end {
            let id = super::small_index(self.instances.len() + exporter);
            self.at(next, Event::Scrape(id));
        }
        let missed = self.world.happens(self.setup.missed_scrapes);
        let at_ms = self.epoch_ms + millis(self.now);
        let dependency = self.exporters[exporter].0;
        let name = &self.plan.dependencies[dependency].name;
        let (mut open, mut lent, mut most) = (0, 0, 0);
        for (pool, planned) in self.plan.pools.iter().enumerate() {
            if planned.dependency != *name {
                continue;
            }
            for instance in &self.instances {
                most += planned.size;
                if instance.up {
                    open += instance.pools[pool].servers;
                    lent += instance.pools[pool].busy;
                }
            }
        }
        let station = &self.dependencies[dependency];
        // A statement that waits for its turn is active, and so is one whose client has gone.
        let active = station.busy + station.waiters;
        let in_transaction = lent.saturating_sub(active);
        let idle = open - lent;
        let recorder = &mut self.exporters[exporter].1;
        if missed {
            recorder.failed(at_ms);
            return;
        }
        recorder.begin(at_ms);
        let states = [
            ("active", active),
            ("idle", idle),
            ("idle in transaction", in_transaction),
        ];
        for (nth, (state, count)) in states.into_iter().enumerate() {
            let key = (Metric::PgActivity, small(nth), 0, 0);
            recorder.put(key, f64::from(count), || vec![("state", state.to_owned())]);
        }
        let max = (most + 20).div_ceil(100) * 100;
        let key = (Metric::PgMaxConnections, 0, 0, 0);
        recorder.put(key, f64::from(max), Vec::new);
    }

    /// Brings the way of the log lines up to now.
    pub(super) fn ship_logs(&mut self, index: usize) {
        let pipeline = &self.setup.service.log_pipeline;
        let rate = self.weather.log_rate.unwrap_or(pipeline.lines_per_second);
        let instance = &mut self.instances[index];
        let log = &mut instance.log;
        log.credit += seconds(self.now - log.advanced) * rate;
        log.advanced = self.now;
        let whole = libm::floor(log.credit);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a number of lines"
        )]
        let shipped = (whole as u64).min(log.buffered);
        log.buffered -= shipped;
        instance.registry.log_shipped += shipped;
        // Whoever has nothing to ship does not save up for later.
        log.credit = if log.buffered == 0 {
            log.credit - whole
        } else {
            log.credit - real(shipped)
        };
    }

    /// Counts a line and sends it on its way; whether it will arrive.
    fn write_line(&mut self, index: usize, level: usize) -> bool {
        self.ship_logs(index);
        let limit = self.setup.service.log_pipeline.buffer;
        let instance = &mut self.instances[index];
        instance.registry.log_lines[level] += 1;
        if instance.log.buffered >= limit {
            instance.registry.log_dropped += 1;
            return false;
        }
        instance.log.buffered += 1;
        true
    }

    pub(super) fn log_answer(&mut self, r: u32, status: u16, took: u64, failure: Option<Failure>) {
        let request = &self.requests[r as usize];
        let instance = usize::from(request.instance);
        let level = if status >= 500 { 2 } else { 0 };
        if !self.write_line(instance, level) {
            return;
        }
        let request = &self.requests[r as usize];
        if !self.logs.wants(request.number, level) {
            return;
        }
        let route = &self.plan.routes[usize::from(request.route)];
        let message = match failure {
            None => "answered",
            Some(Failure::QueueFull) => "rejected: the queue is full",
            Some(Failure::PoolTimeout) => "could not get a connection from the pool in time",
            Some(Failure::QueryFailed) => "query failed",
            Some(Failure::CallFailed) => "upstream failed",
            Some(Failure::CallTimedOut) => "upstream timed out",
            Some(Failure::Deadline) => "deadline exceeded, request dropped",
            Some(Failure::Own) => "internal error",
        };
        let tenant = request
            .tenant
            .map(|tenant| self.plan.tenants[usize::from(tenant)].as_str());
        let mut fields = vec![
            ("request_id", self.logs.request_id(request.number)),
            ("method", route.method.clone()),
            ("route", route.path.clone()),
        ];
        if let Some(tenant) = tenant {
            fields.push(("tenant", tenant.to_owned()));
        }
        if request.traced {
            fields.push(("trace_id", self.tracer.trace_id(request.number)));
        }
        let numbers = [
            ("status", f64::from(status)),
            ("duration_ms", real(took / 100) / 10.0),
        ];
        let name = self.instances[instance].recorder.instance();
        self.logs
            .line(self.now, LEVELS[level], name, message, &fields, &numbers);
    }

    pub(super) fn log_slow_query(&mut self, r: u32, query: usize, took: u64) {
        let request = &self.requests[r as usize];
        let (instance, number) = (usize::from(request.instance), request.number);
        if !self.write_line(instance, 1) || !self.logs.wants(number, 1) {
            return;
        }
        let planned = &self.plan.queries[query];
        let fields = [
            ("request_id", self.logs.request_id(number)),
            ("query", planned.name.clone()),
            (
                "pool",
                self.plan.pools[usize::from(planned.pool)].name.clone(),
            ),
        ];
        let numbers = [("duration_ms", real(took / 100) / 10.0)];
        let name = self.instances[instance].recorder.instance();
        self.logs
            .line(self.now, "warn", name, "slow query", &fields, &numbers);
    }

    pub(super) fn log_retry(&mut self, r: u32, dependency: usize, attempt: u32, failure: Failure) {
        let message = match failure {
            Failure::CallTimedOut => "upstream timed out, trying again",
            _ => "upstream failed, trying again",
        };
        self.log_upstream(r, dependency, attempt, message);
    }

    pub(super) fn log_gave_up(&mut self, r: u32, dependency: usize, failure: Failure) {
        let attempt = self.attempt(r);
        let message = match failure {
            Failure::CallTimedOut => "upstream timed out, no attempts left",
            _ => "upstream failed, no attempts left",
        };
        self.log_upstream(r, dependency, attempt, message);
    }

    fn log_upstream(&mut self, r: u32, dependency: usize, attempt: u32, message: &str) {
        let request = &self.requests[r as usize];
        let (instance, number) = (usize::from(request.instance), request.number);
        if !self.write_line(instance, 1) || !self.logs.wants(number, 1) {
            return;
        }
        let fields = [
            ("request_id", self.logs.request_id(number)),
            ("target", self.plan.dependencies[dependency].name.clone()),
        ];
        let numbers = [("attempt", f64::from(attempt))];
        let name = self.instances[instance].recorder.instance();
        self.logs
            .line(self.now, "warn", name, message, &fields, &numbers);
    }

    pub(super) fn log_event(&mut self, index: usize, message: &str) {
        if message.is_empty() || !self.write_line(index, 0) || !self.logs.keeps() {
            return;
        }
        let instance = &self.instances[index];
        let fields = [("version", instance.build.version.clone())];
        let name = instance.recorder.instance();
        self.logs
            .line(self.now, "info", name, message, &fields, &[]);
    }

    /// Of the node and not of the process, which had no time to say anything.
    fn log_kill(&mut self, index: usize) {
        if !self.logs.keeps() {
            return;
        }
        let resident = self.resident(index);
        let numbers = [("resident_bytes", resident)];
        let name = self.instances[index].recorder.instance();
        self.logs.line(
            self.now,
            "error",
            name,
            "container killed: out of memory",
            &[("source", "node".to_owned())],
            &numbers,
        );
    }
}
