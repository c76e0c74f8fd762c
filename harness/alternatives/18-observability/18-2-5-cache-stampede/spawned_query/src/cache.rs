//! A read-through cache with a time to live.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::log::{Log, Op};

/// Why a value could not be fetched. Whoever waited for the same query gets the same error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchError(pub String);

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not fetch the value: {}", self.0)
    }
}

impl std::error::Error for FetchError {}

/// A cache of values that are fetched when they are missing or older than the time to live.
#[derive(Debug)]
pub struct Cache<V> {
    ttl: Duration,
    log: Log,
    slots: Arc<Mutex<Slots<V>>>,
}

/// Values and queries under one lock, which nobody holds across an await: a task that finds no
/// value finds in the same moment whether somebody is on the way to it.
#[derive(Debug)]
struct Slots<V> {
    entries: HashMap<String, Entry<V>>,
    on_the_way: HashMap<String, watch::Receiver<Option<Outcome<V>>>>,
}

type Outcome<V> = Result<V, FetchError>;

#[derive(Debug)]
struct Entry<V> {
    value: V,
    expires: Instant,
}

/// What a task that asks for a key finds.
enum Found<V> {
    Value(V),
    Query(watch::Receiver<Option<Outcome<V>>>),
    Nothing(
        watch::Sender<Option<Outcome<V>>>,
        watch::Receiver<Option<Outcome<V>>>,
    ),
}

/// Removes the mark of a query when its task ends in whatever way.
struct Mark<V> {
    key: String,
    goroutine: u64,
    log: Log,
    slots: Arc<Mutex<Slots<V>>>,
    stored: bool,
}

impl<V> Drop for Mark<V> {
    fn drop(&mut self) {
        if !self.stored {
            self.log.write(Op::FetchFailed, &self.key, self.goroutine);
        }
        lock(&self.slots).on_the_way.remove(&self.key);
    }
}

impl<V: Clone + Send + Sync + 'static> Cache<V> {
    /// An empty cache whose values live for `ttl`.
    pub fn new(ttl: Duration, log: Log) -> Self {
        Cache {
            ttl,
            log,
            slots: Arc::new(Mutex::new(Slots {
                entries: HashMap::new(),
                on_the_way: HashMap::new(),
            })),
        }
    }

    /// The value of `key`; where it is missing or too old, what `fetch` gives, which is then
    /// stored. `goroutine` is the number of the calling task, for the log.
    ///
    /// # Errors
    /// The error of `fetch`. Nothing is stored then.
    pub async fn get<F, Fut>(&self, goroutine: u64, key: &str, fetch: F) -> Result<V, FetchError>
    where
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<V, FetchError>> + Send + 'static,
    {
        let mut fetch = Some(fetch);
        let mut told = false;
        let mut tell_once = |op| {
            if !std::mem::replace(&mut told, true) {
                self.log.write(op, key, goroutine);
            }
        };
        loop {
            let mut outcome = match self.find(key) {
                Found::Value(value) => {
                    tell_once(Op::Hit);
                    return Ok(value);
                }
                Found::Query(outcome) => {
                    tell_once(Op::Miss);
                    self.log.write(Op::Wait, key, goroutine);
                    outcome
                }
                Found::Nothing(tell, outcome) => {
                    tell_once(Op::Miss);
                    let mut mark = Mark {
                        key: key.to_owned(),
                        goroutine,
                        log: self.log.clone(),
                        slots: Arc::clone(&self.slots),
                        stored: false,
                    };
                    let Some(fetch) = fetch.take() else {
                        return Err(FetchError("the query ended without an outcome".into()));
                    };
                    self.log.write(Op::Fetch, key, goroutine);
                    let query = fetch();
                    let ttl = self.ttl;
                    // A task of its own: it goes on when the one that asked goes away.
                    tokio::spawn(async move {
                        let outcome = query.await;
                        if let Ok(value) = &outcome {
                            let expires = Instant::now() + ttl;
                            let entry = Entry {
                                value: value.clone(),
                                expires,
                            };
                            lock(&mark.slots).entries.insert(mark.key.clone(), entry);
                            mark.log.write(Op::Set { ttl }, &mark.key, mark.goroutine);
                            mark.stored = true;
                        }
                        drop(mark);
                        tell.send_replace(Some(outcome));
                    });
                    outcome
                }
            };
            if let Ok(outcome) = outcome.wait_for(Option::is_some).await {
                return outcome.clone().expect("it was waited for");
            }
        }
    }

    fn find(&self, key: &str) -> Found<V> {
        let mut slots = lock(&self.slots);
        let now = Instant::now();
        match slots.entries.get(key) {
            Some(entry) if now < entry.expires => return Found::Value(entry.value.clone()),
            _ => {}
        }
        if let Some(outcome) = slots.on_the_way.get(key) {
            return Found::Query(outcome.clone());
        }
        let (tell, outcome) = watch::channel(None);
        slots.on_the_way.insert(key.to_owned(), outcome.clone());
        Found::Nothing(tell, outcome)
    }

    /// How many values are stored, expired ones included.
    pub fn len(&self) -> usize {
        lock(&self.slots).entries.len()
    }

    /// Whether nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn lock<V>(slots: &Mutex<Slots<V>>) -> std::sync::MutexGuard<'_, Slots<V>> {
    slots
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}
