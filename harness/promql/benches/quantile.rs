//! The query of every latency dashboard: p99 by instance, over 240 steps of 15 s, of 100 and 1,000
//! histograms: 1,000 and 10,000 series.

#[path = "data/histograms.rs"]
mod histograms;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use histograms::{BOUNDS, FIRST_MS, LAST_MS, P99, SCRAPE_MS};
use promql::{Dialect, Engine, Query};

fn quantile(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("p99 by instance, 240 steps");
    group.sample_size(10);
    for count in [100, 1_000] {
        let storage = histograms::storage(count);
        let query = Query::parse(P99).unwrap();
        for dialect in [Dialect::V2, Dialect::V3] {
            let engine = Engine::new(dialect);
            let name = format!("{dialect}, {} series", count * BOUNDS.len());
            group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
                bencher.iter(|| {
                    let step = Duration::from_millis(SCRAPE_MS as u64);
                    let answer = engine
                        .range(black_box(&storage), &query, FIRST_MS, LAST_MS, step)
                        .unwrap();
                    assert_eq!(answer.value.rows().len(), count);
                    answer
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, quantile);
criterion_main!(benches);
