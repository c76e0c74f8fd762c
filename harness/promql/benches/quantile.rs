//! The query of every latency dashboard: p99 by instance, over 240 steps of 15 s.
//!
//! 100 and 1,000 instances with a histogram of ten buckets each, so 1,000 and 10,000 series, scraped
//! every 15 s for an hour and five minutes. `NIGHTSHIFT_PROMQL_DUMP=FILE` writes the samples of the
//! larger one instead, for a Prometheus to be compared with.

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use promql::{Dialect, Engine, Labels, Query, Storage};

const BOUNDS: [&str; 10] = [
    "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "+Inf",
];
const SCRAPES: i64 = 260;
const SCRAPE_MS: i64 = 15_000;
const START_MS: i64 = 1_700_000_100_000;

/// Every sample: instance, bound, time, count. `histograms` of ten buckets each.
fn samples(histograms: usize, mut each: impl FnMut(usize, &'static str, i64, f64)) {
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

fn storage(histograms: usize) -> Storage {
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

/// The same samples as a text that `promtool tsdb create-blocks-from openmetrics` loads.
fn openmetrics(histograms: usize) -> String {
    let mut text = String::from("# TYPE took_seconds histogram\n");
    samples(histograms, |instance, bound, at_ms, count| {
        writeln!(
            text,
            "took_seconds_bucket{{instance=\"10.0.0.{instance}:9100\",le=\"{bound}\"}} {count} {}",
            at_ms / 1000
        )
        .unwrap();
    });
    text + "# EOF\n"
}

const P99: &str = "histogram_quantile(0.99, sum by (instance, le) (rate(took_seconds_bucket[5m])))";

fn quantile(criterion: &mut Criterion) {
    if let Some(path) = std::env::var_os("NIGHTSHIFT_PROMQL_DUMP") {
        // For comparing with a Prometheus: the samples go to a file, and nothing is measured.
        std::fs::write(path, openmetrics(1_000)).unwrap();
        return;
    }
    let mut group = criterion.benchmark_group("p99 by instance, 240 steps");
    group.sample_size(10);
    for histograms in [100, 1_000] {
        let storage = storage(histograms);
        let query = Query::parse(P99).unwrap();
        for dialect in [Dialect::V2, Dialect::V3] {
            let engine = Engine::new(dialect);
            let name = format!("{dialect}, {} series", histograms * BOUNDS.len());
            group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
                bencher.iter(|| {
                    let start_ms = START_MS + 300_000;
                    let end_ms = start_ms + 239 * SCRAPE_MS;
                    let step = Duration::from_millis(SCRAPE_MS as u64);
                    let answer = engine
                        .range(black_box(&storage), &query, start_ms, end_ms, step)
                        .unwrap();
                    assert_eq!(answer.value.rows().len(), histograms);
                    answer
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, quantile);
criterion_main!(benches);
