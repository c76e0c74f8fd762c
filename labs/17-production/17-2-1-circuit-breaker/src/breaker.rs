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
use crate::sync::{Mutex, MutexGuard};

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
/// Each `now` comes from one clock of the caller's. Threads may be late with theirs: an earlier
/// `now` than one that came before counts as no time at all, and undoes nothing.
#[derive(Debug)]
pub struct CircuitBreaker {
    config: Config,
    phase: Mutex<Phase>,
    // Counted on every call, and so kept out of the lock.
    calls: AtomicUsize,
    errors: AtomicUsize,
    slow_calls: AtomicUsize,
    times_opened: AtomicU64,
    rejected: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Closed,
    Open { since: Instant },
    HalfOpen,
}

impl CircuitBreaker {
    /// A closed breaker with an empty window.
    ///
    /// # Errors
    /// When a field of the configuration is out of its range.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(CircuitBreaker {
            config,
            phase: Mutex::new(Phase::Closed),
            calls: AtomicUsize::new(0),
            errors: AtomicUsize::new(0),
            slow_calls: AtomicUsize::new(0),
            times_opened: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
        })
    }

    /// Asks for leave to make one call, which begins `now`.
    ///
    /// # Errors
    /// When the breaker is open, or half-open with all of its trials given away.
    pub fn try_acquire(&self, now: Instant) -> Result<Permit<'_>, Rejected> {
        let mut phase = self.phase();
        if let Phase::Open { since } = *phase {
            if !self.wait_is_over(since, now) {
                self.rejected.fetch_add(1, Ordering::Relaxed);
                return Err(Rejected::Open {
                    retry_after: self.config.wait_duration,
                });
            }
            *phase = Phase::HalfOpen;
        }
        Ok(Permit {
            breaker: self,
            started: now,
        })
    }

    /// The state at `now`. An open breaker is half-open as soon as its wait is over, whether or
    /// not anybody calls.
    pub fn state(&self, now: Instant) -> State {
        match *self.phase() {
            Phase::Closed => State::Closed,
            Phase::Open { since } if !self.wait_is_over(since, now) => State::Open,
            Phase::Open { .. } | Phase::HalfOpen => State::HalfOpen,
        }
    }

    /// All that metrics need, at one moment.
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        Snapshot {
            state: self.state(now),
            calls: self.calls.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            slow_calls: self.slow_calls.load(Ordering::Relaxed),
            times_opened: self.times_opened.load(Ordering::Relaxed),
            rejected: self.rejected.load(Ordering::Relaxed),
        }
    }

    fn end(&self, failed: bool, took: Duration, now: Instant) {
        let calls = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        if took > self.config.slow_call_threshold {
            self.slow_calls.fetch_add(1, Ordering::Relaxed);
        }
        if failed {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
        match self.state(now) {
            State::Closed if self.is_sick(calls) => self.open(now),
            State::HalfOpen if failed => self.open(now),
            State::HalfOpen => self.close(),
            State::Closed | State::Open => {}
        }
    }

    fn is_sick(&self, calls: usize) -> bool {
        let errors = self.errors.load(Ordering::Relaxed);
        calls >= self.config.min_calls_to_open
            && errors as f64 / calls as f64 >= self.config.error_rate
    }

    fn open(&self, now: Instant) {
        *self.phase() = Phase::Open { since: now };
        self.times_opened.fetch_add(1, Ordering::Relaxed);
    }

    fn close(&self) {
        *self.phase() = Phase::Closed;
        for counter in [&self.calls, &self.errors, &self.slow_calls] {
            counter.store(0, Ordering::Relaxed);
        }
    }

    fn wait_is_over(&self, since: Instant, now: Instant) -> bool {
        now.saturating_duration_since(since) >= self.config.wait_duration
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
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
    started: Instant,
}

impl Permit<'_> {
    /// The call has ended well, `now`. It may have been slow all the same.
    pub fn success(self, now: Instant) {
        let took = now.saturating_duration_since(self.started);
        self.breaker.end(false, took, now);
    }

    /// The call has failed, `now`: an error, or a timeout of the caller.
    pub fn failure(self, now: Instant) {
        let took = now.saturating_duration_since(self.started);
        self.breaker.end(true, took, now);
    }
}
