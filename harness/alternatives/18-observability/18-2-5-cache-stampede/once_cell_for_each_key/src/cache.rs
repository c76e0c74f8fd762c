//! A read-through cache with a time to live.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;
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
    slots: Mutex<HashMap<String, Slot<V>>>,
}

#[derive(Debug)]
enum Slot<V> {
    Stored {
        value: V,
        expires: Instant,
    },
    /// Filled once, by one of those who wait for it, and thrown away then.
    Fetching(Filling<V>),
}

type Filling<V> = Arc<OnceCell<Result<V, FetchError>>>;

impl<V: Clone + Send + Sync + 'static> Cache<V> {
    /// An empty cache whose values live for `ttl`.
    pub fn new(ttl: Duration, log: Log) -> Self {
        Cache {
            ttl,
            log,
            slots: Mutex::default(),
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
        let (cell, first) = match self.find(key) {
            Ok(value) => {
                self.log.write(Op::Hit, key, goroutine);
                return Ok(value);
            }
            Err(found) => found,
        };
        self.log.write(Op::Miss, key, goroutine);
        if !first {
            self.log.write(Op::Wait, key, goroutine);
        }
        // Whoever is dropped here, or panics, hands over to another one who waits.
        let outcome = cell.get_or_init(|| async {
            self.log.write(Op::Fetch, key, goroutine);
            let mut abandoned = Abandoned(Some((&self.log, key, goroutine)));
            let outcome = fetch().await;
            abandoned.0 = None;
            let mut slots = self.lock();
            match &outcome {
                Ok(value) => {
                    let stored = Slot::Stored {
                        value: value.clone(),
                        expires: Instant::now() + self.ttl,
                    };
                    slots.insert(key.to_owned(), stored);
                    self.log.write(Op::Set { ttl: self.ttl }, key, goroutine);
                }
                Err(_) => {
                    slots.remove(key);
                    self.log.write(Op::FetchFailed, key, goroutine);
                }
            }
            outcome
        });
        outcome.await.clone()
    }

    /// A fresh value, or the cell in which it is to come and whether this is the first to want it.
    fn find(&self, key: &str) -> Result<V, (Filling<V>, bool)> {
        let mut slots = self.lock();
        match slots.get(key) {
            Some(Slot::Stored { value, expires }) if Instant::now() < *expires => Ok(value.clone()),
            Some(Slot::Fetching(cell)) => Err((Arc::clone(cell), false)),
            _ => {
                let cell = Arc::new(OnceCell::new());
                slots.insert(key.to_owned(), Slot::Fetching(Arc::clone(&cell)));
                Err((cell, true))
            }
        }
    }

    /// How many values are stored, expired ones included.
    pub fn len(&self) -> usize {
        let slots = self.lock();
        let stored = |slot: &&Slot<V>| matches!(slot, Slot::Stored { .. });
        slots.values().filter(stored).count()
    }

    /// Whether nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Slot<V>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Logs the end of a query whose task is canceled or panics.
struct Abandoned<'a>(Option<(&'a Log, &'a str, u64)>);

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        if let Some((log, key, goroutine)) = self.0 {
            log.write(Op::FetchFailed, key, goroutine);
        }
    }
}
