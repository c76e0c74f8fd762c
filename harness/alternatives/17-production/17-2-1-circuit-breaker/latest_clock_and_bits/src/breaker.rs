//! A circuit breaker for latency and errors.
//!
//! It counts how calls end, refuses further calls while too many of the last ones failed or were
//! slow, and finds out with a few trial calls when to stop refusing. It makes no calls, sets no
//! timeouts and reads no clock: whoever calls it passes `now`.
//!
//! Whatever threads share comes from `crate::sync`, so that loom can explore this file.

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
/// `now` than one that came before counts as no time at all, and undoes nothing. The breaker keeps
/// the latest that it was told, and never looks behind it.
#[derive(Debug)]
pub struct CircuitBreaker {
    config: Config,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    latest: Option<Instant>,
    state: State,
    /// How long the breaker has been open.
    opened_at: Option<Instant>,
    /// Tells the phases apart in which calls begin: each opening ends all of them.
    times_opened: u64,
    rejected: u64,
    /// Trials that may still begin, and those that have to go well yet.
    places: usize,
    outstanding: usize,
    /// The window as a ring of two bits for each call, and its next place.
    failed: Vec<u64>,
    slow: Vec<u64>,
    next: usize,
    calls: usize,
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
                latest: None,
                state: State::Closed,
                opened_at: None,
                times_opened: 0,
                rejected: 0,
                places: 0,
                outstanding: 0,
                failed: Vec::new(),
                slow: Vec::new(),
                next: 0,
                calls: 0,
            }),
            config,
        })
    }

    /// Asks for leave to make one call, which begins `now`.
    ///
    /// # Errors
    /// When the breaker is open, or half-open with all of its trials given away.
    pub fn try_acquire(&self, now: Instant) -> Result<Permit<'_>, Rejected> {
        let mut inner = self.at(now);
        let now = inner.latest.unwrap_or(now);
        match inner.state {
            State::Closed => {}
            State::HalfOpen if inner.places > 0 => inner.places -= 1,
            State::HalfOpen => {
                inner.rejected += 1;
                return Err(Rejected::HalfOpen);
            }
            State::Open => {
                inner.rejected += 1;
                let since = inner.opened_at.unwrap_or(now);
                return Err(Rejected::Open {
                    retry_after: self.config.wait_duration - now.duration_since(since),
                });
            }
        }
        Ok(Permit {
            told: false,
            number: inner.times_opened,
            started: now,
            breaker: self,
        })
    }

    /// The state at `now`. An open breaker is half-open as soon as its wait is over, whether or
    /// not anybody calls.
    pub fn state(&self, now: Instant) -> State {
        self.at(now).state
    }

    /// All that metrics need, at one moment.
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        let inner = self.at(now);
        Snapshot {
            state: inner.state,
            calls: inner.calls,
            errors: ones(&inner.failed),
            slow_calls: ones(&inner.slow),
            times_opened: inner.times_opened,
            rejected: inner.rejected,
        }
    }

    /// The breaker as it is `now`, or at the latest moment that it knows of.
    fn at(&self, now: Instant) -> MutexGuard<'_, Inner> {
        let mut inner = self.inner.lock().expect("nothing panics under it");
        let now = inner.latest.map_or(now, |latest| latest.max(now));
        inner.latest = Some(now);
        if let (State::Open, Some(since)) = (inner.state, inner.opened_at)
            && now.duration_since(since) >= self.config.wait_duration
        {
            inner.state = State::HalfOpen;
            inner.places = self.config.permitted_calls_in_half_open;
            inner.outstanding = inner.places;
        }
        inner
    }
}

fn ones(bits: &[u64]) -> usize {
    bits.iter().map(|word| word.count_ones() as usize).sum()
}

impl Inner {
    fn put(&mut self, failed: bool, slow: bool, size: usize) {
        let (word, bit) = (self.next / 64, self.next % 64);
        for (bits, is) in [(&mut self.failed, failed), (&mut self.slow, slow)] {
            if bits.len() <= word {
                bits.resize(word + 1, 0);
            }
            bits[word] = bits[word] & !(1 << bit) | u64::from(is) << bit;
        }
        self.next = (self.next + 1) % size;
        self.calls = size.min(self.calls + 1);
    }

    fn open(&mut self) {
        self.state = State::Open;
        self.opened_at = self.latest;
        self.times_opened += 1;
    }

    fn end(&mut self, config: &Config, failed: bool, slow: bool) {
        match self.state {
            State::Closed => {
                self.put(failed, slow, config.window_size);
                let share = |bits: &[u64]| ones(bits) as f64 / self.calls as f64;
                if self.calls >= config.min_calls_to_open
                    && (share(&self.failed) >= config.error_rate
                        || share(&self.slow) >= config.slow_call_rate)
                {
                    self.open();
                }
            }
            State::HalfOpen if failed || slow => self.open(),
            State::HalfOpen => {
                self.outstanding -= 1;
                if self.outstanding == 0 {
                    self.state = State::Closed;
                    self.failed.clear();
                    self.slow.clear();
                    self.next = 0;
                    self.calls = 0;
                }
            }
            State::Open => {}
        }
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
    /// How often the breaker had opened by then. No permit outlives the closing of a half-open
    /// breaker without an opening, since all of its trials have ended by then.
    number: u64,
    started: Instant,
    told: bool,
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
        self.told = true;
        let mut inner = self.breaker.at(now);
        if inner.times_opened == self.number {
            let took = inner.latest.unwrap_or(now).duration_since(self.started);
            let slow = took > self.breaker.config.slow_call_threshold;
            inner.end(&self.breaker.config, failed, slow);
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if !self.told {
            let mut inner = self.breaker.inner.lock().expect("nothing panics under it");
            if inner.times_opened == self.number && inner.state == State::HalfOpen {
                inner.places += 1;
            }
        }
    }
}
