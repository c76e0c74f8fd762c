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

/// What a task that asks for a key is to do.
enum Role<V> {
    Take(V),
    Follow(watch::Receiver<Option<Outcome<V>>>),
    Lead(Lead<V>),
}

/// The right and the duty to fetch a key. Dropping it unfinished, because the caller was canceled
/// or its fetch panicked, gives the duty to the next who asks: the channel closes, and whoever
/// follows notices.
struct Lead<V> {
    key: String,
    goroutine: u64,
    log: Log,
    slots: Arc<Mutex<Slots<V>>>,
    tell: watch::Sender<Option<Outcome<V>>>,
    finished: bool,
}

impl<V> Drop for Lead<V> {
    fn drop(&mut self) {
        if !self.finished {
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
        let mut told = false;
        loop {
            let role = self.role(goroutine, key);
            if !told {
                let hit = matches!(role, Role::Take(_));
                self.log
                    .write(if hit { Op::Hit } else { Op::Miss }, key, goroutine);
                told = true;
            }
            match role {
                Role::Take(value) => return Ok(value),
                Role::Lead(lead) => {
                    self.log.write(Op::Fetch, key, goroutine);
                    return self.lead(lead, fetch()).await;
                }
                Role::Follow(mut outcome) => {
                    self.log.write(Op::Wait, key, goroutine);
                    // An error means that the leader is gone: ask again, and maybe lead.
                    if let Ok(outcome) = outcome.wait_for(Option::is_some).await {
                        return outcome.clone().expect("it was waited for");
                    }
                }
            }
        }
    }

    async fn lead<Fut>(&self, mut lead: Lead<V>, fetch: Fut) -> Outcome<V>
    where
        Fut: Future<Output = Outcome<V>>,
    {
        let outcome = fetch.await;
        if let Ok(value) = &outcome {
            let entry = Entry {
                value: value.clone(),
                expires: Instant::now() + self.ttl,
            };
            lock(&self.slots).entries.insert(lead.key.clone(), entry);
            let set = Op::Set { ttl: self.ttl };
            self.log.write(set, &lead.key, lead.goroutine);
            lead.finished = true;
        }
        // Stored before `lead` is dropped: whoever asks in between finds the one or the other.
        lead.tell.send_replace(Some(outcome.clone()));
        outcome
    }

    fn role(&self, goroutine: u64, key: &str) -> Role<V> {
        let mut slots = lock(&self.slots);
        if let Some(entry) = slots.entries.get(key)
            && Instant::now() < entry.expires
        {
            return Role::Take(entry.value.clone());
        }
        if let Some(outcome) = slots.on_the_way.get(key) {
            return Role::Follow(outcome.clone());
        }
        let (tell, outcome) = watch::channel(None);
        slots.on_the_way.insert(key.to_owned(), outcome);
        Role::Lead(Lead {
            key: key.to_owned(),
            goroutine,
            log: self.log.clone(),
            slots: Arc::clone(&self.slots),
            tell,
            finished: false,
        })
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
