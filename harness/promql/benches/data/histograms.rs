//! A histogram of ten buckets for each instance, scraped every 15 s for an hour and five minutes, and
//! the query of every latency dashboard over it.

use promql::{Labels, Storage};

pub const BOUNDS: [&str; 10] = [
    "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "+Inf",
];
const SCRAPES: i64 = 260;
pub const SCRAPE_MS: i64 = 15_000;
const START_MS: i64 = 1_700_000_100_000;
/// The first step of the query: by then its windows are full.
pub const FIRST_MS: i64 = START_MS + 300_000;
/// The last of 240 steps, one for each scrape.
pub const LAST_MS: i64 = FIRST_MS + 239 * SCRAPE_MS;

/// Every sample: instance, bound, time, count. `histograms` of ten buckets each.
pub fn samples(histograms: usize, mut each: impl FnMut(usize, &'static str, i64, f64)) {
    let mut state: u64 = 42;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for instance in 0..histograms {
        let mut counts = [0.0; BOUNDS.len()];
        let mut columns = vec![[0.0; BOUNDS.len()]; SCRAPES as usize];
        for column in &mut columns {
            let mut below = 0.0;
            for count in &mut counts {
                below += (next() % 20) as f64;
                *count += below;
            }
            *column = counts;
        }
        for (nth, bound) in BOUNDS.iter().enumerate() {
            for (scrape, column) in columns.iter().enumerate() {
                each(
                    instance,
                    bound,
                    START_MS + scrape as i64 * SCRAPE_MS,
                    column[nth],
                );
            }
        }
    }
}

pub fn storage(histograms: usize) -> Storage {
    let mut storage = Storage::new();
    samples(histograms, |instance, bound, at_ms, count| {
        let instance = format!("10.0.0.{instance}:9100");
        let labels = Labels::named(
            "took_seconds_bucket",
            [("instance", instance.as_str()), ("le", bound)],
        );
        storage.append(labels, at_ms, count).unwrap();
    });
    storage
}

pub const P99: &str =
    "histogram_quantile(0.99, sum by (instance, le) (rate(took_seconds_bucket[5m])))";
