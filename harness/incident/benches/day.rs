//! How long simulations take: a day of a small service and an hour of a busier one, each scraped
//! every 15 s. The goal is a day in under a second.

use criterion::{Criterion, criterion_group, criterion_main};
use incident::service::catalog::{Case, day, hour};
use incident::service::simulate;

fn simulations(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("simulation");
    group.sample_size(10);
    let setups = [
        ("day_at_15s", day(Case::SlowQuery, 1)),
        ("hour_at_15s", hour(Case::SlowQuery, 1)),
    ];
    for (name, setup) in setups {
        let metrics_only = setup.clone().metrics_only();
        group.bench_function(name, |bencher| bencher.iter(|| simulate(&setup)));
        group.bench_function(format!("{name}_metrics_only"), |bencher| {
            bencher.iter(|| simulate(&metrics_only));
        });
    }
    group.finish();
}

criterion_group!(benches, simulations);
criterion_main!(benches);
