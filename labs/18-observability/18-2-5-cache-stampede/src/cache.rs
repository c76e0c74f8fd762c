//! A read-through cache with a time to live.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::Mutex;
use std::time::Duration;

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
    entries: Mutex<HashMap<String, Entry<V>>>,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    expires: Instant,
}

impl<V: Clone + Send + Sync + 'static> Cache<V> {
    /// An empty cache whose values live for `ttl`.
    pub fn new(ttl: Duration, log: Log) -> Self {
        Cache {
            ttl,
            log,
            entries: Mutex::new(HashMap::new()),
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
        if let Some(value) = self.fresh(key) {
            self.log.write(Op::Hit, key, goroutine);
            return Ok(value);
        }
        self.log.write(Op::Miss, key, goroutine);
        self.log.write(Op::Fetch, key, goroutine);
        match fetch().await {
            Ok(value) => {
                self.store(key, value.clone());
                self.log.write(Op::Set { ttl: self.ttl }, key, goroutine);
                Ok(value)
            }
            Err(error) => {
                self.log.write(Op::FetchFailed, key, goroutine);
                Err(error)
            }
        }
    }

    /// How many values are stored, expired ones included.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn fresh(&self, key: &str) -> Option<V> {
        let entries = self.lock();
        let entry = entries.get(key)?;
        (Instant::now() < entry.expires).then(|| entry.value.clone())
    }

    fn store(&self, key: &str, value: V) {
        let expires = Instant::now() + self.ttl;
        self.lock().insert(key.to_owned(), Entry { value, expires });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Entry<V>>> {
        self.entries
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
