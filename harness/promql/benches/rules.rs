//! A simulated day of 50 rules at an interval of 15 seconds: 288,000 evaluations over 120 series.

#[path = "data/day.rs"]
mod day;

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use day::{DAY_MS, INTERVAL_MS};
use promql::rules::{RuleFile, Settings};

fn bench(criterion: &mut Criterion) {
    let storage = day::day();
    let rules = RuleFile::parse(&day::rules()).unwrap_or_else(|error| panic!("{error}"));
    let settings = Settings::new(0, DAY_MS, Duration::from_millis(INTERVAL_MS as u64));
    let mut group = criterion.benchmark_group("rules");
    group.sample_size(10);
    group.bench_function("a day of 50 rules at 15 s", |bencher| {
        bencher.iter_batched(
            || storage.clone(),
            |mut storage| black_box(rules.evaluate(&mut storage, &settings).unwrap()),
            criterion::BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
