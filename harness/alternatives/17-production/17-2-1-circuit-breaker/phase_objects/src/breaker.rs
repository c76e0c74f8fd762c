//! A circuit breaker for latency and errors.
//!
//! It counts how calls end, refuses further calls while too many of the last ones failed or were
//! slow, and finds out with a few trial calls when to stop refusing. It makes no calls, sets no
//! timeouts and reads no clock: whoever calls it passes `now`.
//!
//! Whatever threads share comes from `crate::sync`, so that loom can explore this file.

use std::fmt;
use std::time::{Duration, Instant};

use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Arc, Mutex, RwLock};

/// When to open, for how long, and what it takes to close again.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Share of failed calls in the window at which the breaker opens; above 0.0, at most 1.0.
    pub error_rate: f64,
    /// Share of slow calls in the window at which the breaker opens; above 0.0, at most 1.0.
    pub slow_call_rate: f64,
    /// A call that takes longer than this is slow, however it ends. Above zero.
    pub slow_call_threshold: Duration,
    /// Over how many of the last calls the rates are taken; at least `min_calls_to_open`.
    pub window_size: usize,
    /// With fewer calls than this in the window the breaker does not open; at least 1.
    pub min_calls_to_open: usize,
    /// How long the breaker stays open before it lets trials through. Above zero;
    /// `Duration::MAX` is for ever.
    pub wait_duration: Duration,
    /// How many trials are let through, all of which have to go well; at least 1.
    pub permitted_calls_in_half_open: usize,
}

impl Default for Config {
    /// What suits most web services: 50 % errors or 80 % over 2 s among the last 100 calls, once
    /// there are 20; 30 s of wait; 5 trials.
    fn default() -> Self {
        Config {
            error_rate: 0.50,
            slow_call_rate: 0.80,
            slow_call_threshold: Duration::from_secs(2),
            window_size: 100,
            min_calls_to_open: 20,
            wait_duration: Duration::from_secs(30),
            permitted_calls_in_half_open: 5,
        }
    }
}

impl Config {
    fn validate(&self) -> Result<(), ConfigError> {
        for (field, rate) in [
            ("error_rate", self.error_rate),
            ("slow_call_rate", self.slow_call_rate),
        ] {
            // NaN is above nothing, and so refused.
            if !(rate > 0.0 && rate <= 1.0) {
                return Err(ConfigError::Rate { field, rate });
            }
        }
        for (field, zero) in [
            ("slow_call_threshold", self.slow_call_threshold.is_zero()),
            ("min_calls_to_open", self.min_calls_to_open == 0),
            ("wait_duration", self.wait_duration.is_zero()),
            (
                "permitted_calls_in_half_open",
                self.permitted_calls_in_half_open == 0,
            ),
        ] {
            if zero {
                return Err(ConfigError::Zero { field });
            }
        }
        if self.min_calls_to_open > self.window_size {
            return Err(ConfigError::WindowTooSmall {
                window_size: self.window_size,
                min_calls_to_open: self.min_calls_to_open,
            });
        }
        Ok(())
    }
}

/// Why there is no breaker with this configuration.
#[derive(Clone, Debug, PartialEq)]
pub enum ConfigError {
    /// A rate is not above 0.0 and at most 1.0, or not a number.
    Rate { field: &'static str, rate: f64 },
    /// A length of time or a number of calls is zero.
    Zero { field: &'static str },
    /// The window can never hold as many calls as it takes to open.
    WindowTooSmall {
        window_size: usize,
        min_calls_to_open: usize,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Rate { field, rate } => write!(
                f,
                "`{field}` is {rate}, and has to be above 0 and at most 1"
            ),
            ConfigError::Zero { field } => write!(f, "`{field}` is zero"),
            ConfigError::WindowTooSmall {
                window_size,
                min_calls_to_open,
            } => write!(
                f,
                "the window holds {window_size} calls, and opening takes {min_calls_to_open}"
            ),
        }
    }
}

impl std::error::Error for ConfigError {}

/// What the breaker does with calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// All calls are let through and counted.
    Closed,
    /// No call is let through.
    Open,
    /// A limited number of trials is let through.
    HalfOpen,
}

/// Why a call was not let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// The breaker is open.
    Open {
        /// What is left of the wait: above zero, at most `wait_duration`.
        retry_after: Duration,
    },
    /// The breaker is half-open, and all of its trials are under way or have gone well.
    HalfOpen,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rejected::Open { retry_after } => {
                write!(f, "the breaker is open for another {retry_after:?}")
            }
            Rejected::HalfOpen => f.write_str("the breaker waits for its trials to end"),
        }
    }
}

impl std::error::Error for Rejected {}

/// What a breaker shows of itself to metrics, all at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// As [`CircuitBreaker::state`] says.
    pub state: State,
    /// Calls in the window, `0..=window_size`. The window holds the last calls that were let
    /// through and ended while the breaker was closed. When it opens, the window stays as it is,
    /// to show why; when it closes, it is emptied.
    pub calls: usize,
    /// How many of them failed.
    pub errors: usize,
    /// How many of them were slow. A call that failed late is counted as both.
    pub slow_calls: usize,
    /// How often the breaker has opened since it was made.
    pub times_opened: u64,
    /// How many calls it has rejected since it was made.
    pub rejected: u64,
}

/// A circuit breaker. Threads share it by reference.
///
/// Each phase is an object of its own, which its permits keep alive: whatever they are told after
/// the phase has been replaced reaches nobody.
///
/// Each `now` comes from one clock of the caller's. Threads may be late with theirs: an earlier
/// `now` than one that came before counts as no time at all, and undoes nothing.
#[derive(Debug)]
pub struct CircuitBreaker {
    config: Config,
    current: RwLock<Arc<Phase>>,
    rejected: AtomicU64,
}

#[derive(Debug)]
struct Phase {
    times_opened: u64,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Closed(Mutex<Ring>),
    Open { since: Instant, why: Counts },
    HalfOpen { trials: Trials, why: Counts },
}

/// The trials that were given away and not given back, and those that went well.
#[derive(Debug, Default)]
struct Trials {
    given: AtomicUsize,
    good: AtomicUsize,
}

#[derive(Clone, Copy, Debug)]
struct Counts {
    calls: usize,
    errors: usize,
    slow: usize,
}

impl CircuitBreaker {
    /// A closed breaker with an empty window.
    ///
    /// # Errors
    /// When a field of the configuration is out of its range.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(CircuitBreaker {
            current: RwLock::new(Arc::new(Phase {
                times_opened: 0,
                kind: Kind::Closed(Mutex::default()),
            })),
            rejected: AtomicU64::new(0),
            config,
        })
    }

    /// Asks for leave to make one call, which begins `now`.
    ///
    /// # Errors
    /// When the breaker is open, or half-open with all of its trials given away.
    pub fn try_acquire(&self, now: Instant) -> Result<Permit<'_>, Rejected> {
        let mut phase = self.current();
        loop {
            let Kind::Open { since, why } = phase.kind else {
                break;
            };
            if let Some(retry_after) = self.left(since, now) {
                return self.reject(Rejected::Open { retry_after });
            }
            let trials = Trials::default();
            self.replace(&phase, phase.times_opened, Kind::HalfOpen { trials, why });
            phase = self.current();
        }
        if let Kind::HalfOpen { trials, .. } = &phase.kind {
            let permitted = self.config.permitted_calls_in_half_open;
            let given = trials
                .given
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |given| {
                    (given < permitted).then_some(given + 1)
                });
            if given.is_err() {
                return self.reject(Rejected::HalfOpen);
            }
        }
        Ok(Permit {
            breaker: self,
            phase: Some(phase),
            started: now,
        })
    }

    /// The state at `now`. An open breaker is half-open as soon as its wait is over, whether or
    /// not anybody calls.
    pub fn state(&self, now: Instant) -> State {
        match self.current().kind {
            Kind::Closed(_) => State::Closed,
            Kind::Open { since, .. } if self.left(since, now).is_some() => State::Open,
            Kind::Open { .. } | Kind::HalfOpen { .. } => State::HalfOpen,
        }
    }

    /// All that metrics need, at one moment.
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        let phase = self.current.read().expect("nothing panics under it");
        let (state, counts) = match &phase.kind {
            Kind::Closed(ring) => (
                State::Closed,
                ring.lock().expect("nothing panics under it").counts(),
            ),
            Kind::Open { since, why } if self.left(*since, now).is_some() => (State::Open, *why),
            Kind::Open { why, .. } | Kind::HalfOpen { why, .. } => (State::HalfOpen, *why),
        };
        Snapshot {
            state,
            calls: counts.calls,
            errors: counts.errors,
            slow_calls: counts.slow,
            times_opened: phase.times_opened,
            rejected: self.rejected.load(Ordering::Relaxed),
        }
    }

    fn current(&self) -> Arc<Phase> {
        Arc::clone(&self.current.read().expect("nothing panics under it"))
    }

    fn reject<T>(&self, why: Rejected) -> Result<T, Rejected> {
        self.rejected.fetch_add(1, Ordering::Relaxed);
        Err(why)
    }

    /// Ends the phase, unless another thread has.
    fn replace(&self, phase: &Arc<Phase>, times_opened: u64, kind: Kind) {
        let mut current = self.current.write().expect("nothing panics under it");
        if Arc::ptr_eq(&current, phase) {
            *current = Arc::new(Phase { times_opened, kind });
        }
    }

    fn end(&self, phase: &Arc<Phase>, failed: bool, slow: bool, now: Instant) {
        let again = phase.times_opened + 1;
        match &phase.kind {
            Kind::Closed(ring) => {
                let mut current = self.current.write().expect("nothing panics under it");
                if !Arc::ptr_eq(&current, phase) {
                    return;
                }
                let mut ring = ring.lock().expect("nothing panics under it");
                ring.push(failed, slow, self.config.window_size);
                let why = ring.counts();
                if why.calls >= self.config.min_calls_to_open
                    && (why.errors as f64 / why.calls as f64 >= self.config.error_rate
                        || why.slow as f64 / why.calls as f64 >= self.config.slow_call_rate)
                {
                    drop(ring);
                    *current = Arc::new(Phase {
                        times_opened: again,
                        kind: Kind::Open { since: now, why },
                    });
                }
            }
            Kind::HalfOpen { why, .. } if failed || slow => {
                let kind = Kind::Open {
                    since: now,
                    why: *why,
                };
                self.replace(phase, again, kind);
            }
            Kind::HalfOpen { trials, .. } => {
                let good = trials.good.fetch_add(1, Ordering::AcqRel) + 1;
                if good == self.config.permitted_calls_in_half_open {
                    self.replace(phase, phase.times_opened, Kind::Closed(Mutex::default()));
                }
            }
            Kind::Open { .. } => {}
        }
    }

    fn left(&self, since: Instant, now: Instant) -> Option<Duration> {
        let passed = now.saturating_duration_since(since);
        (passed < self.config.wait_duration).then(|| self.config.wait_duration - passed)
    }
}

/// Leave to make one call.
///
/// Tell it how the call ended. A permit that is dropped instead, because the caller was canceled or
/// has panicked, says nothing about the provider: it is not counted, and where it was a trial its
/// place is free again. A call that the caller gave up on for its slowness is no such case: it is a failure.
///
/// What it is told counts only as long as the breaker is in the phase in which it gave the permit:
/// once the breaker has opened, half-opened or closed since, nothing changes.
#[derive(Debug)]
#[must_use = "a permit that is dropped at once counts for nothing"]
pub struct Permit<'a> {
    breaker: &'a CircuitBreaker,
    /// Taken when the call has ended.
    phase: Option<Arc<Phase>>,
    started: Instant,
}

impl Permit<'_> {
    /// The call has ended well, `now`. It may have been slow all the same.
    pub fn success(self, now: Instant) {
        self.end(false, now);
    }

    /// The call has failed, `now`: an error, or a timeout of the caller.
    pub fn failure(self, now: Instant) {
        self.end(true, now);
    }

    fn end(mut self, failed: bool, now: Instant) {
        let took = now.saturating_duration_since(self.started);
        let slow = took > self.breaker.config.slow_call_threshold;
        if let Some(phase) = self.phase.take() {
            self.breaker.end(&phase, failed, slow, now);
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if let Some(phase) = self.phase.take()
            && let Kind::HalfOpen { trials, .. } = &phase.kind
        {
            trials.given.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// The last calls, the oldest at `oldest` once the ring is full; counted when asked.
#[derive(Debug, Default)]
struct Ring {
    calls: Vec<(bool, bool)>,
    oldest: usize,
}

impl Ring {
    fn push(&mut self, failed: bool, slow: bool, size: usize) {
        if self.calls.len() < size {
            self.calls.push((failed, slow));
        } else {
            self.calls[self.oldest] = (failed, slow);
            self.oldest = (self.oldest + 1) % size;
        }
    }

    fn counts(&self) -> Counts {
        Counts {
            calls: self.calls.len(),
            errors: self.calls.iter().filter(|call| call.0).count(),
            slow: self.calls.iter().filter(|call| call.1).count(),
        }
    }
}
