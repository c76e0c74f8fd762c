//! One replica as its own code and its faults see it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::network::Network;
use super::timeline::Timeline;

/// What goes wrong with one call to etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It never arrives.
    LoseRequest,
    /// It is applied, and the answer never comes back.
    LoseReply,
    /// It arrives this much later.
    DelayRequest(Duration),
    /// The process dies before the call is sent.
    CrashBefore,
    /// The call is sent and applied, and the process dies before it has the answer.
    CrashAfter,
}

/// A replica's process. Clones are the same process.
#[derive(Clone)]
pub struct Process {
    name: Arc<str>,
    origin: Instant,
    network: Network,
    timeline: Timeline,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    crashed: bool,
    pause: Option<Duration>,
    cut_off_until: Duration,
    calls: usize,
    keep_alives: usize,
    at_call: BTreeMap<usize, Fault>,
    at_keep_alive: BTreeMap<usize, Fault>,
}

impl Process {
    pub(super) fn new(name: String, origin: Instant, network: Network, timeline: Timeline) -> Self {
        Process {
            name: name.into(),
            origin,
            network,
            timeline,
            state: Arc::default(),
        }
    }

    /// Its name, such as `replica-1`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The time on its clock, since the world was made.
    pub fn now(&self) -> Duration {
        // While its runtime is torn down, or outside of it, the process has no clock.
        if self.has_crashed() || Handle::try_current().is_err() {
            self.network.now()
        } else {
            Instant::now().saturating_duration_since(self.origin)
        }
    }

    /// Adds an event of this process to the world's timeline. Dead processes do nothing.
    pub fn note(&self, what: impl Into<String>) {
        if !self.has_crashed() {
            self.timeline.note(self.now(), &*self.name, what);
        }
    }

    /// Whether it has crashed.
    pub fn has_crashed(&self) -> bool {
        self.lock().crashed
    }

    /// Kills the process: nothing that it does from now on reaches anybody.
    pub fn crash(&self) {
        self.lock().crashed = true;
    }

    /// Stops the process from running, from the next step of the world on.
    pub fn pause(&self, length: Duration) {
        self.lock().pause = Some(length);
    }

    /// Lets the call with this number go wrong, counted from 1 over all calls to etcd.
    pub fn fault_at_call(&self, number: usize, fault: Fault) {
        self.lock().at_call.insert(number, fault);
    }

    /// Lets the keep-alive with this number go wrong, counted from 1 over the keep-alives.
    pub fn fault_at_keep_alive(&self, number: usize, fault: Fault) {
        self.lock().at_keep_alive.insert(number, fault);
    }

    /// How many calls it has made to etcd.
    pub fn calls(&self) -> usize {
        self.lock().calls
    }

    /// How many of them were keep-alives.
    pub fn keep_alives(&self) -> usize {
        self.lock().keep_alives
    }

    pub(super) fn take_pause(&self) -> Option<Duration> {
        self.lock().pause.take()
    }

    pub(super) fn cut_off_until(&self, until: Duration) {
        let mut state = self.lock();
        state.cut_off_until = state.cut_off_until.max(until);
    }

    pub(super) fn is_cut_off(&self, at: Duration) -> bool {
        at < self.lock().cut_off_until
    }

    /// Counts a call, and says what goes wrong with it.
    pub(super) fn next_call(&self, keep_alive: bool) -> Option<Fault> {
        let mut state = self.lock();
        state.calls += 1;
        let number = state.calls;
        let mut fault = state.at_call.remove(&number);
        if keep_alive {
            state.keep_alives += 1;
            let number = state.keep_alives;
            fault = state.at_keep_alive.remove(&number).or(fault);
        }
        fault
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
