//! Messages on their way, in the order of their arrival.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kit::seed::Seed;

use super::STEP;

/// What a message does when it arrives, given the time at which it does.
pub(super) type Message = Box<dyn FnOnce(Duration) + Send>;

/// How long a message takes: a time between these, by chance, in whole milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// At least.
    pub shortest: Duration,
    /// At most.
    pub longest: Duration,
}

impl Latency {
    /// Always the same. Never below [`STEP`], which is what the simulation can tell apart.
    pub fn fixed(length: Duration) -> Self {
        Latency {
            shortest: length,
            longest: length,
        }
    }
}

/// The network. Clones share it.
#[derive(Clone)]
pub struct Network {
    state: Arc<Mutex<State>>,
}

struct State {
    now: Duration,
    seed: Seed,
    drawn: u64,
    sent: u64,
    request: Latency,
    reply: Latency,
    messages: BTreeMap<(Duration, u64), Message>,
}

impl Network {
    pub(super) fn new(seed: Seed) -> Self {
        let latency = Latency {
            shortest: STEP,
            longest: Duration::from_millis(120),
        };
        Network {
            state: Arc::new(Mutex::new(State {
                now: Duration::ZERO,
                seed,
                drawn: 0,
                sent: 0,
                request: latency,
                reply: latency,
                messages: BTreeMap::new(),
            })),
        }
    }

    /// Sets how long requests and their replies take from now on.
    pub fn set_latency(&self, request: Latency, reply: Latency) {
        let mut state = self.lock();
        state.request = request;
        state.reply = reply;
    }

    /// How long the next request takes.
    pub fn request_latency(&self) -> Duration {
        let mut state = self.lock();
        let latency = state.request;
        state.draw(latency)
    }

    /// How long the next reply takes.
    pub fn reply_latency(&self) -> Duration {
        let mut state = self.lock();
        let latency = state.reply;
        state.draw(latency)
    }

    /// Puts a message on its way. Between two messages of the same instant, the earlier sent wins.
    pub fn deliver(&self, at: Duration, message: impl FnOnce(Duration) + Send + 'static) {
        let mut state = self.lock();
        let number = state.sent;
        state.sent += 1;
        state.messages.insert((at, number), Box::new(message));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().messages.is_empty()
    }

    pub(super) fn next_before(&self, until: Duration) -> Option<(Duration, Message)> {
        let mut state = self.lock();
        let first = state.messages.first_entry()?;
        (first.key().0 <= until).then(|| {
            let ((at, _), message) = first.remove_entry();
            (at, message)
        })
    }

    pub(super) fn now(&self) -> Duration {
        self.lock().now
    }

    pub(super) fn set_now(&self, now: Duration) {
        self.lock().now = now;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn draw(&mut self, latency: Latency) -> Duration {
        let spread = latency.longest.saturating_sub(latency.shortest).as_millis();
        let random = u128::from(self.seed.derive(self.drawn).0);
        self.drawn += 1;
        let extra = u64::try_from(random % (spread + 1)).unwrap_or(0);
        (latency.shortest + Duration::from_millis(extra)).max(STEP)
    }
}
