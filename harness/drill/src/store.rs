//! From a simulated run to a storage that queries can be asked of.

use incident::service::{Kind, Run, Series};
use promql::{Labels, Storage};

/// The metrics of a run, as Prometheus would hold them: every series with its samples, and a marker
/// at its end where it ended before the run did, one scrape later, as when a process is replaced.
///
/// # Panics
/// Never for a run that `incident` has made: its samples are in order.
pub fn storage(run: &Run) -> Storage {
    storage_of(run.series())
}

/// The same for series from any of the simulators.
///
/// # Panics
/// Never for series that `incident` has made: their samples are in order.
pub fn storage_of<'s>(series: impl Iterator<Item = &'s Series> + Clone) -> Storage {
    let mut storage = Storage::new();
    let last_ms = series
        .clone()
        .filter_map(|series| series.samples().last())
        .map(|&(at, _)| at)
        .max();
    for series in series {
        let labels = Labels::new(series.label_pairs());
        let samples = series.samples();
        storage
            .append_series(labels.clone(), samples.iter().copied())
            .expect("samples of a run are in order");
        // A series that stays away for longer than two scrapes has ended.
        if let (Some(last_ms), [.., (before, _), (end, _)]) = (last_ms, samples) {
            let scrape = (end - before).max(1);
            if last_ms - end > 3 * scrape {
                storage
                    .mark_stale(labels, end + scrape)
                    .expect("it is after the last sample");
            }
        }
        let name = series.name();
        storage.set_kind(name, kind(series.family().kind));
    }
    storage
}

/// What a sample is: the samples of a histogram all count.
fn kind(kind: Kind) -> telemetry::metrics::Kind {
    match kind {
        Kind::Counter | Kind::Histogram => telemetry::metrics::Kind::Counter,
        Kind::Gauge => telemetry::metrics::Kind::Gauge,
        Kind::Info => telemetry::metrics::Kind::Info,
    }
}

#[cfg(test)]
mod tests {
    use incident::service::catalog::{Case, hour};
    use incident::service::simulate;
    use promql::{Engine, Query};

    #[test]
    fn rates_over_the_storage_are_what_the_run_counted() {
        let setup = hour(Case::Quiet, 7).metrics_only();
        let run = simulate(&setup);
        let storage = super::storage(&run);
        let end_ms = (setup.begins + 3_600) * 1_000;
        let query = Query::parse("sum(increase(http_requests_total[30m]))").unwrap();
        let answer = Engine::default().instant(&storage, &query, end_ms).unwrap();
        let counted: u64 = run.minutes()[30..]
            .iter()
            .map(|minute| minute.finished)
            .sum();
        let found = answer.value.single().unwrap();
        assert!(
            (found / counted as f64 - 1.0).abs() < 0.03,
            "{found} against {counted}"
        );
    }

    #[test]
    fn a_process_that_was_replaced_is_gone_from_the_storage() {
        let setup = hour(Case::InnocentDeploy, 7).metrics_only();
        let run = simulate(&setup);
        let storage = super::storage(&run);
        let end_ms = (setup.begins + 3_600) * 1_000;
        let query = Query::parse("count(count by (version) (build_info))").unwrap();
        let answer = Engine::default().instant(&storage, &query, end_ms).unwrap();
        assert_eq!(answer.value.single(), Some(1.0));
    }
}
