//! A circuit breaker for latency and errors.
//!
//! It counts how calls end, refuses further calls while too many of the last ones failed or were
//! slow, and finds out with a few trial calls when to stop refusing. It makes no calls, sets no
//! timeouts and reads no clock: whoever calls it passes `now`.
//!
//! Whatever threads share comes from `crate::sync`, so that loom can explore this file.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

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
    inner: Mutex<Inner>,
}

impl CircuitBreaker {
    /// A closed breaker with an empty window.
    ///
    /// # Errors
    /// When a field of the configuration is out of its range.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(CircuitBreaker {
            inner: Mutex::new(Inner {
                phase: Phase::Closed,
                generation: 0,
                window: Window::new(config.window_size),
                times_opened: 0,
                rejected: 0,
            }),
            config,
        })
    }

    /// Asks for leave to make one call, which begins `now`.
    ///
    /// # Errors
    /// When the breaker is open, or half-open with all of its trials given away.
    pub fn try_acquire(&self, now: Instant) -> Result<Permit<'_>, Rejected> {
        let generation = self.lock().admit(&self.config, now)?;
        Ok(Permit {
            breaker: self,
            generation,
            started: now,
            reported: false,
        })
    }

    /// The state at `now`. An open breaker is half-open as soon as its wait is over, whether or
    /// not anybody calls.
    pub fn state(&self, now: Instant) -> State {
        self.snapshot(now).state
    }

    /// All that metrics need, at one moment.
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        let inner = self.lock();
        Snapshot {
            state: match inner.phase {
                Phase::Closed => State::Closed,
                Phase::Open { since } if remaining(&self.config, since, now).is_some() => {
                    State::Open
                }
                Phase::Open { .. } | Phase::HalfOpen { .. } => State::HalfOpen,
            },
            calls: inner.window.calls.len(),
            errors: inner.window.errors,
            slow_calls: inner.window.slow,
            times_opened: inner.times_opened,
            rejected: inner.rejected,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing below panics while it holds the lock, so a poisoned one is whole all the same.
        self.inner
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
    generation: u64,
    started: Instant,
    reported: bool,
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
        self.reported = true;
        let config = &self.breaker.config;
        let took = now.saturating_duration_since(self.started);
        let call = Call {
            failed,
            slow: took > config.slow_call_threshold,
        };
        self.breaker.lock().end(config, self.generation, call, now);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if !self.reported {
            self.breaker.lock().abandon(self.generation);
        }
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug)]
struct Call {
    failed: bool,
    slow: bool,
}

#[derive(Debug)]
enum Phase {
    Closed,
    Open { since: Instant },
    HalfOpen { under_way: usize, succeeded: usize },
}

/// Everything that changes, under one lock: an outcome and the transition that follows from it are
/// one step, or two threads could both take it.
#[derive(Debug)]
struct Inner {
    phase: Phase,
    /// Counts transitions. A permit of an earlier generation comes too late to be counted.
    generation: u64,
    window: Window,
    times_opened: u64,
    rejected: u64,
}

impl Inner {
    /// Gives the generation of the permit.
    fn admit(&mut self, config: &Config, now: Instant) -> Result<u64, Rejected> {
        if let Phase::Open { since } = self.phase {
            if let Some(retry_after) = remaining(config, since, now) {
                self.rejected += 1;
                return Err(Rejected::Open { retry_after });
            }
            self.enter(Phase::HalfOpen {
                under_way: 0,
                succeeded: 0,
            });
        }
        if let Phase::HalfOpen {
            under_way,
            succeeded,
        } = &mut self.phase
        {
            if *under_way + *succeeded >= config.permitted_calls_in_half_open {
                self.rejected += 1;
                return Err(Rejected::HalfOpen);
            }
            *under_way += 1;
        }
        Ok(self.generation)
    }

    fn end(&mut self, config: &Config, generation: u64, call: Call, now: Instant) {
        if generation != self.generation {
            return;
        }
        match &mut self.phase {
            Phase::Closed => {
                self.window.push(call);
                if self.window.is_sick(config) {
                    self.open(now);
                }
            }
            Phase::HalfOpen { .. } if call.failed || call.slow => self.open(now),
            Phase::HalfOpen {
                under_way,
                succeeded,
            } => {
                *under_way -= 1;
                *succeeded += 1;
                if *succeeded == config.permitted_calls_in_half_open {
                    self.window.clear();
                    self.enter(Phase::Closed);
                }
            }
            Phase::Open { .. } => unreachable!("an open breaker gives no permits"),
        }
    }

    fn abandon(&mut self, generation: u64) {
        if generation != self.generation {
            return;
        }
        if let Phase::HalfOpen { under_way, .. } = &mut self.phase {
            *under_way -= 1;
        }
    }

    fn open(&mut self, now: Instant) {
        self.times_opened += 1;
        self.enter(Phase::Open { since: now });
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.generation += 1;
    }
}

/// What is left of the wait, if anything is. Lengths of time are compared, not moments, since
/// `since + wait_duration` may lie beyond what an `Instant` can hold.
fn remaining(config: &Config, since: Instant, now: Instant) -> Option<Duration> {
    config
        .wait_duration
        .checked_sub(now.saturating_duration_since(since))
        .filter(|left| !left.is_zero())
}

/// The last calls, and how many of them were bad.
#[derive(Debug)]
struct Window {
    size: usize,
    calls: VecDeque<Call>,
    errors: usize,
    slow: usize,
}

impl Window {
    fn new(size: usize) -> Self {
        Window {
            size,
            calls: VecDeque::new(),
            errors: 0,
            slow: 0,
        }
    }

    fn push(&mut self, call: Call) {
        if self.calls.len() == self.size
            && let Some(oldest) = self.calls.pop_front()
        {
            self.errors -= usize::from(oldest.failed);
            self.slow -= usize::from(oldest.slow);
        }
        self.errors += usize::from(call.failed);
        self.slow += usize::from(call.slow);
        self.calls.push_back(call);
    }

    fn clear(&mut self) {
        *self = Window::new(self.size);
    }

    fn is_sick(&self, config: &Config) -> bool {
        // A quotient of whole numbers is rounded as the literal in the configuration was: 7 of 100
        // is 0.07, while 0.07 * 100 is more than 7.
        let share = |part: usize| part as f64 / self.calls.len() as f64;
        self.calls.len() >= config.min_calls_to_open
            && (share(self.errors) >= config.error_rate
                || share(self.slow) >= config.slow_call_rate)
    }
}
