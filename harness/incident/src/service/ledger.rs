//! What a run counted beside the metrics, for the laws that the metrics have to obey.

/// Counts of a whole run, its warm-up included. `arrived` is always `finished + in_flight + lost`,
/// and `in_system_micros` is always `sojourn_micros`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Requests that reached an instance.
    pub arrived: u64,
    /// Requests that got an answer, whatever it was.
    pub finished: u64,
    /// Requests that had none at the end.
    pub in_flight: u64,
    /// Requests that ended with their process.
    pub lost: u64,
    /// Requests that found no instance running.
    pub unrouted: u64,
    /// Answers 503 because a queue was full.
    pub rejected: u64,
    /// The integral of the number of requests in the service over time, in microseconds.
    pub in_system_micros: u64,
    /// The times that all requests spent in the service, up to the end of the run, in microseconds.
    pub sojourn_micros: u64,
    /// Calls and queries that reached a dependency, that it is through with, and that it still
    /// has; canceled ones are among the former.
    pub calls: u64,
    pub calls_ended: u64,
    pub calls_in_flight: u64,
    /// Of each instance that ran at the end, and of each dependency; of the window and the warm-up.
    pub stations: Vec<StationLedger>,
    /// Length of window and warm-up, in microseconds.
    pub duration_micros: u64,
}

/// A station: workers, cores, a pool, a lock, a dependency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StationLedger {
    /// `None` of a dependency, which all instances share.
    pub instance: Option<String>,
    /// `tier http`, `cores`, `pool orders`, `lock stock`, `dependency postgres`.
    pub station: String,
    pub servers: u32,
    /// The integral of the servers that were busy, in microseconds.
    pub busy_micros: u64,
    /// The integral of those who waited, in microseconds.
    pub waiting_micros: u64,
}

impl Ledger {
    /// The station of this name, of the first instance that has one.
    pub fn station(&self, name: &str) -> Option<&StationLedger> {
        self.stations.iter().find(|s| s.station == name)
    }
}

/// What users met within a minute: the requests that finished in it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Minute {
    /// Unix time at which the minute begins, in milliseconds.
    pub begins_ms: i64,
    pub finished: u64,
    /// Answers with a status of 500 or above.
    pub errors: u64,
    /// Seconds, exact; 0 when nothing finished.
    pub p50: f64,
    pub p99: f64,
}
