//! The panels of a dashboard over a run of [`crate::service`], as recording rules would have stored
//! them: one sample each 15 s, over the minute before it.
//!
//! For labs in which a dashboard is read and not built. Rates, shares and quantiles are taken from
//! the run's counters and histograms as Prometheus takes them (resets are seen, a quantile lies
//! within its bucket by interpolation), without the extrapolation to the window's edges.
//!
//! Not a query language: that is `promql`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::service::{Labels, Run, Series, Setup};

/// Milliseconds from one sample to the next.
const STEP: i64 = 15_000;
/// Milliseconds that a rate looks back.
const WINDOW: i64 = 60_000;

/// The panels of a service as a whole, in OpenMetrics. They begin a minute after the window does.
///
/// - `job:http_requests:rate1m`: answers a second;
/// - `job:http_request_duration_seconds:p99_1m`, from arrival to answer;
/// - `job:http_request_errors:ratio1m`: the share of answers with a status of 500 or more;
/// - `job:process_cpu:utilization1m`: the share of all cores;
/// - `job:process_resident_memory:bytes`, `job:tokio_alive_tasks:sum`: of all instances;
/// - `job:db_query_duration_seconds:p99_1m{query}`, without the wait for a connection;
/// - `job:db_acquire_duration_seconds:p99_1m`: the wait for a connection;
/// - `job:db_connections:lent`, `job:db_connections:max`: of the pools of all instances.
///
/// A quantile is absent where nothing was observed for a minute.
pub fn of_service(setup: &Setup, run: &Run) -> String {
    let reader = Reader::of(run);
    let everything = |_: &Labels| true;
    let all = &everything;
    #[expect(clippy::cast_precision_loss, reason = "a few instances")]
    let cores = setup.service.instances as f64 * f64::from(setup.service.cores);
    let mut panels = Panels::default();
    for at in moments(setup) {
        let rate = |name: &str, of: &dyn Fn(&Labels) -> bool| reader.increase(name, of, at) / 60.0;
        let answers = reader.answers(all, at);
        panels.put(REQUESTS, "", at, Some(answers.a_second));
        let p99 = reader.p99("http_request_duration_seconds", all, at);
        panels.put(LATENCY, "", at, p99);
        panels.put(ERRORS, "", at, answers.failing);
        let cpu = rate("process_cpu_seconds_total", all) / cores;
        panels.put(CPU, "", at, Some(cpu));
        let gauge = |name: &str| Some(reader.gauge(name, all, at));
        panels.put(MEMORY, "", at, gauge("process_resident_memory_bytes"));
        panels.put(TASKS, "", at, gauge("tokio_alive_tasks"));
        for query in reader.values("db_query_duration_seconds_count", "query") {
            let of = |labels: &Labels| labels.get("query") == Some(query);
            let p99 = reader.p99("db_query_duration_seconds", &of, at);
            panels.put(QUERIES, &format!("{{query=\"{query}\"}}"), at, p99);
        }
        let p99 = reader.p99("db_pool_acquire_duration_seconds", all, at);
        panels.put(ACQUIRE, "", at, p99);
        panels.put(LENT, "", at, gauge("db_pool_connections_in_use"));
        panels.put(MAX, "", at, gauge("db_pool_connections"));
    }
    panels.openmetrics()
}

/// The panels of each instance beside a few of the service, in OpenMetrics: for comparing what runs
/// at the same time.
///
/// - `job:http_requests:rate1m`, `job:http_request_duration_seconds:p99_1m` and
///   `job:http_request_errors:ratio1m`, as in [`of_service`];
/// - `instance:http_requests:rate1m` and `instance:http_request_duration_seconds:p99_1m`, with labels
///   `instance` and `version` as all that follow;
/// - `instance:http_request_failures:ratio1m`: the share of answers with status 500, without those
///   that were turned away from a full queue;
/// - `instance:process_cpu_seconds:rate1m`: cores in use;
/// - `instance:heap_allocations_bytes:rate1m`: bytes allocated a second, freed or not;
/// - `instance:process_resident_memory:bytes`, `instance:tokio_alive_tasks:sum`.
///
/// One sample each 30 s. An instance has none in the minute after a release has reached it.
pub fn by_instance(setup: &Setup, run: &Run) -> String {
    let reader = Reader::of(run);
    let everything = |_: &Labels| true;
    let mut panels = Panels::default();
    // There are so many series that every second sample is left out.
    for at in moments(setup).step_by(2) {
        let answers = reader.answers(&everything, at);
        panels.put(REQUESTS, "", at, Some(answers.a_second));
        let p99 = reader.p99("http_request_duration_seconds", &everything, at);
        panels.put(LATENCY, "", at, p99);
        panels.put(ERRORS, "", at, answers.failing);
        for instance in reader.values("build_info", "instance") {
            let Some(version) = reader.version(instance, at) else {
                continue;
            };
            let of = |labels: &Labels| labels.get("instance") == Some(instance);
            let labels = format!("{{instance=\"{instance}\",version=\"{version}\"}}");
            let answers = reader.answers(&of, at);
            panels.put(OF_INSTANCE[0], &labels, at, Some(answers.a_second));
            let p99 = reader.p99("http_request_duration_seconds", &of, at);
            panels.put(OF_INSTANCE[1], &labels, at, p99);
            let failed = reader.increase(
                "http_requests_total",
                &|labels: &Labels| of(labels) && labels.get("status") == Some("500"),
                at,
            );
            let share = (answers.a_second > 0.0).then(|| failed / 60.0 / answers.a_second);
            panels.put(OF_INSTANCE[2], &labels, at, share);
            let rate = |name: &str| Some(reader.increase(name, &of, at) / 60.0);
            panels.put(
                OF_INSTANCE[3],
                &labels,
                at,
                rate("process_cpu_seconds_total"),
            );
            panels.put(
                OF_INSTANCE[4],
                &labels,
                at,
                rate("process_allocated_bytes_total"),
            );
            let gauge = |name: &str| Some(reader.gauge(name, &of, at));
            panels.put(
                OF_INSTANCE[5],
                &labels,
                at,
                gauge("process_resident_memory_bytes"),
            );
            panels.put(OF_INSTANCE[6], &labels, at, gauge("tokio_alive_tasks"));
        }
    }
    panels.openmetrics()
}

/// A panel: its name, and what it shows.
type Panel = (&'static str, &'static str);

const REQUESTS: Panel = ("job:http_requests:rate1m", "Answers a second.");
const LATENCY: Panel = (
    "job:http_request_duration_seconds:p99_1m",
    "From arrival to answer, 99th percentile.",
);
const ERRORS: Panel = (
    "job:http_request_errors:ratio1m",
    "Share of the answers with a status of 500 or more.",
);
const CPU: Panel = ("job:process_cpu:utilization1m", "Share of all cores.");
const MEMORY: Panel = (
    "job:process_resident_memory:bytes",
    "Resident memory of all instances.",
);
const TASKS: Panel = ("job:tokio_alive_tasks:sum", "Tasks that have not ended.");
const QUERIES: Panel = (
    "job:db_query_duration_seconds:p99_1m",
    "A query without the wait for its connection, 99th percentile.",
);
const ACQUIRE: Panel = (
    "job:db_acquire_duration_seconds:p99_1m",
    "The wait for a connection, 99th percentile.",
);
const LENT: Panel = (
    "job:db_connections:lent",
    "Connections that the pools have lent.",
);
const MAX: Panel = (
    "job:db_connections:max",
    "Connections that the pools may lend.",
);

const OF_INSTANCE: [Panel; 7] = [
    ("instance:http_requests:rate1m", REQUESTS.1),
    ("instance:http_request_duration_seconds:p99_1m", LATENCY.1),
    (
        "instance:http_request_failures:ratio1m",
        "Share of the answers with status 500: failed, and neither turned away nor late.",
    ),
    ("instance:process_cpu_seconds:rate1m", "Cores in use."),
    (
        "instance:heap_allocations_bytes:rate1m",
        "Bytes allocated a second, freed or not.",
    ),
    ("instance:process_resident_memory:bytes", "Resident memory."),
    ("instance:tokio_alive_tasks:sum", TASKS.1),
];

/// The moments of the samples, in milliseconds of Unix time.
fn moments(setup: &Setup) -> impl Iterator<Item = i64> + use<> {
    let begins = setup.begins * 1_000;
    #[expect(clippy::cast_possible_truncation, reason = "seconds of a window")]
    let ends = begins + (setup.duration * 1_000.0) as i64;
    (0..)
        .map(move |nth| begins + WINDOW + nth * STEP)
        .take_while(move |&at| at <= ends)
}

/// The series of a run by their names.
struct Reader<'r> {
    by_name: BTreeMap<&'r str, Vec<&'r Series>>,
}

struct Answers {
    a_second: f64,
    /// The share with a status of 500 or more.
    failing: Option<f64>,
}

impl<'r> Reader<'r> {
    fn of(run: &'r Run) -> Self {
        let mut by_name: BTreeMap<&str, Vec<&Series>> = BTreeMap::new();
        for series in run.series() {
            by_name.entry(series.name()).or_default().push(series);
        }
        Reader { by_name }
    }

    fn series(&self, name: &str) -> &[&'r Series] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    /// The values of a label, in their order.
    fn values(&self, name: &str, label: &str) -> Vec<&'r str> {
        let series = self.series(name).iter();
        let mut values: Vec<&str> = series.filter_map(|of| of.labels().get(label)).collect();
        values.sort_unstable();
        values.dedup();
        values
    }

    fn answers(&self, of: &dyn Fn(&Labels) -> bool, at: i64) -> Answers {
        let failed = |labels: &Labels| {
            of(labels) && labels.get("status").is_some_and(|s| s.starts_with('5'))
        };
        let answers = self.increase("http_requests_total", of, at);
        let failed = self.increase("http_requests_total", &failed, at);
        Answers {
            a_second: answers / 60.0,
            failing: (answers > 0.0).then(|| failed / answers),
        }
    }

    /// The version of an instance, if it has been the same for a window and somewhat more.
    fn version(&self, instance: &str, at: i64) -> Option<&'r str> {
        let mut versions = self
            .series("build_info")
            .iter()
            .filter(|series| series.labels().get("instance") == Some(instance))
            .filter(|series| {
                let samples = series.samples();
                let from = samples.partition_point(|s| s.0 <= at - WINDOW - 2 * STEP);
                let to = samples.partition_point(|s| s.0 <= at);
                from < to
            });
        let version = versions.next()?.labels().get("version");
        versions.next().is_none().then_some(version)?
    }

    /// By how much a counter grew within the window that ends at `at`, summed over its series.
    fn increase(&self, name: &str, of: &dyn Fn(&Labels) -> bool, at: i64) -> f64 {
        let series = self.series(name).iter();
        series
            .filter(|series| of(series.labels()))
            .map(|series| grown(series.samples(), at))
            .sum()
    }

    /// A gauge's last value before `at`, summed over its series.
    fn gauge(&self, name: &str, of: &dyn Fn(&Labels) -> bool, at: i64) -> f64 {
        let series = self.series(name).iter();
        series
            .filter(|series| of(series.labels()))
            .filter_map(|series| {
                let samples = series.samples();
                let (time, value) = samples[..samples.partition_point(|s| s.0 <= at)].last()?;
                (at - time <= WINDOW).then_some(*value)
            })
            .sum()
    }

    /// The 99th percentile of what a histogram observed within the window that ends at `at`.
    fn p99(&self, family: &str, of: &dyn Fn(&Labels) -> bool, at: i64) -> Option<f64> {
        let mut buckets: BTreeMap<u64, f64> = BTreeMap::new();
        for series in self.series(&format!("{family}_bucket")) {
            if of(series.labels()) {
                let bound = series.labels().get("le")?.parse::<f64>().ok()?;
                // Bounds are positive, and so in the order of their bits.
                *buckets.entry(bound.to_bits()).or_default() += grown(series.samples(), at);
            }
        }
        let total = *buckets.last_key_value()?.1;
        if total == 0.0 {
            return None;
        }
        let rank = 0.99 * total;
        let (mut below, mut counted) = (0.0, 0.0);
        for (bits, cumulative) in buckets {
            let bound = f64::from_bits(bits);
            if cumulative >= rank {
                if bound.is_infinite() {
                    return Some(below);
                }
                let within = (rank - counted) / (cumulative - counted);
                return Some(below + (bound - below) * within);
            }
            (below, counted) = (bound, cumulative);
        }
        None
    }
}

/// What a counter counted from the sample before the window to the last one in it.
fn grown(samples: &[(i64, f64)], at: i64) -> f64 {
    let from = samples.partition_point(|s| s.0 <= at - WINDOW);
    let to = samples.partition_point(|s| s.0 <= at);
    let within = &samples[from.saturating_sub(1)..to];
    within
        .windows(2)
        .map(|pair| match (pair[0].1, pair[1].1) {
            (before, after) if after < before => after,
            (before, after) => after - before,
        })
        .sum()
}

/// Samples by panel, in the order in which the panels came.
#[derive(Default)]
struct Panels(Vec<(Panel, Vec<(String, String)>)>);

impl Panels {
    fn put(&mut self, panel: Panel, labels: &str, at: i64, value: Option<f64>) {
        let Some(value) = value else {
            return;
        };
        let of = match self.0.iter().position(|(known, _)| known.0 == panel.0) {
            Some(index) => &mut self.0[index].1,
            None => {
                self.0.push((panel, Vec::new()));
                &mut self.0.last_mut().expect("it was just pushed").1
            }
        };
        let series = match of.iter().position(|(known, _)| known == labels) {
            Some(index) => &mut of[index].1,
            None => {
                of.push((labels.to_owned(), String::new()));
                &mut of.last_mut().expect("it was just pushed").1
            }
        };
        let _ = writeln!(
            series,
            "{}{labels} {} {}",
            panel.0,
            rounded(value),
            at / 1_000
        );
    }

    fn openmetrics(self) -> String {
        let mut text = String::new();
        for ((name, help), series) in self.0 {
            let _ = write!(text, "# TYPE {name} gauge\n# HELP {name} {help}\n");
            for (_, samples) in series {
                text.push_str(&samples);
            }
        }
        text.push_str("# EOF\n");
        text
    }
}

/// Five digits are more than a panel shows.
fn rounded(value: f64) -> f64 {
    format!("{value:.4e}").parse().expect("it is a number")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::catalog::{Case, hour};
    use crate::service::simulate;

    fn values(text: &str, panel: &str) -> Vec<f64> {
        let samples = text.lines().filter(|line| line.starts_with(panel));
        samples
            .map(|line| {
                let value = line.split(' ').nth(1).and_then(|word| word.parse().ok());
                value.expect(line)
            })
            .collect()
    }

    #[test]
    fn panels_agree_with_the_run_that_they_show() {
        let setup = hour(Case::InnocentDeploy, 4).metrics_only();
        let run = simulate(&setup);
        let text = of_service(&setup, &run);
        let (from, to) = (setup.begins * 1_000, setup.begins * 1_000 + 3_600_000);
        let mean = |panel: &str| {
            let values = values(&text, panel);
            values.iter().sum::<f64>() / values.len() as f64
        };
        for (panel, family) in [
            ("job:http_requests:rate1m", "http_requests"),
            ("job:process_cpu:utilization1m", "process_cpu_seconds"),
            (
                "job:process_resident_memory:bytes",
                "process_resident_memory_bytes",
            ),
            ("job:tokio_alive_tasks:sum", "tokio_alive_tasks"),
            ("job:db_connections:lent", "db_pool_connections_in_use"),
        ] {
            let level = run.level(family, &[], from, to).expect("it is recorded");
            // All cores of three instances of one core.
            let level = if panel.contains("cpu") {
                level / 3.0
            } else {
                level
            };
            let shown = mean(panel);
            assert!(
                (shown / level - 1.0).abs() < 0.05,
                "{panel}: {shown}, {level}"
            );
        }
    }

    #[test]
    fn hundredth_slowest_of_a_wait_that_nobody_has_lies_in_the_first_bucket() {
        let setup = hour(Case::Quiet, 4).metrics_only();
        let text = of_service(&setup, &simulate(&setup));
        let waits = values(&text, "job:db_acquire_duration_seconds:p99_1m");
        assert!(waits.len() > 200 && waits.iter().all(|wait| (0.0..=0.01).contains(wait)));
        let answers = values(&text, "job:http_request_duration_seconds:p99_1m");
        assert!(
            answers.iter().all(|p99| (0.2..0.6).contains(p99)),
            "{answers:?}"
        );
    }
}
