//! Nights of a service as its dashboard showed them: 20 minutes, sick or healthy, with the truth
//! in the words of somebody who reads the dashboard.
//!
//! Made from the cases of [`crate::service::catalog`], of two instances, each moved so that the first
//! six minutes are ordinary, and that what is wrong goes on to the end. What only happened in between is over
//! before the last five minutes begin.
//!
//! Causes that the panels cannot tell apart are one [`Trouble`]: a lock, a deadlock, and a slow
//! dependency all leave cores and connections idle while requests wait.

use crate::panels;
use crate::service::catalog::{Case, hour};
use crate::service::registry::real;
use crate::service::{Component, Fault, Setup, Truth, simulate};

/// Seconds of a night.
pub const LASTS: f64 = 1_200.0;
/// The earliest second at which anything happens.
const ORDINARY: f64 = 400.0;
const INSTANCES: usize = 2;

/// What is wrong in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    Nothing,
    /// This query takes longer, and all connections are lent.
    SlowQuery(String),
    /// All connections are lent, and no query takes longer.
    ConnectionsKept,
    /// More is asked for than the cores can do.
    Traffic,
    /// The same is asked for, and costs more than the cores can do.
    Cost,
    /// Answers fail, and are as fast as ever.
    Failures,
    /// Tasks stay behind, and answers are as they were.
    TasksKept,
    /// Requests wait for something that no panel shows.
    Elsewhere,
}

/// A night and its truth.
#[derive(Clone, Debug, PartialEq)]
pub struct Night {
    /// OpenMetrics: the panels of [`panels::of_service`].
    pub metrics: String,
    pub trouble: Trouble,
    /// When the defect set in: Unix time, in seconds.
    pub began: Option<f64>,
}

/// What happens in a night. Words as in [`Case`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Story {
    Quiet,
    Busy,
    Spike,
    InnocentDeploy,
    HighMemory,
    BatchJob,
    SlowQuery,
    ConnectionLeak,
    TrafficSurge,
    NoisyTenant,
    /// A release that needs more of the processor.
    CostlyDeploy,
    /// A release whose answers fail.
    FailingDeploy,
    TaskLeak,
    LockContention,
    Deadlock,
    SlowDependency,
}

impl Story {
    /// Every story, the healthy ones first.
    pub const ALL: [Story; 16] = [
        Story::Quiet,
        Story::Busy,
        Story::Spike,
        Story::InnocentDeploy,
        Story::HighMemory,
        Story::BatchJob,
        Story::SlowQuery,
        Story::ConnectionLeak,
        Story::TrafficSurge,
        Story::NoisyTenant,
        Story::CostlyDeploy,
        Story::FailingDeploy,
        Story::TaskLeak,
        Story::LockContention,
        Story::Deadlock,
        Story::SlowDependency,
    ];

    /// The hour of the catalog in which it happens.
    fn hour(self, seed: u64) -> Setup {
        let case = match self {
            Story::Quiet => Case::Quiet,
            Story::Busy => Case::Busy,
            Story::Spike => Case::Spike,
            Story::InnocentDeploy => Case::InnocentDeploy,
            Story::HighMemory => Case::HighMemory,
            Story::BatchJob => Case::BatchJob,
            Story::SlowQuery => Case::SlowQuery,
            Story::ConnectionLeak => Case::ConnectionLeak,
            Story::TrafficSurge => Case::TrafficSurge,
            Story::NoisyTenant => Case::NoisyTenant,
            Story::CostlyDeploy => return bad_release(seed, false),
            Story::FailingDeploy => return bad_release(seed, true),
            Story::TaskLeak => Case::TaskLeak,
            Story::LockContention => Case::LockContention,
            Story::Deadlock => Case::Deadlock,
            Story::SlowDependency => Case::SlowDependency,
        };
        hour(case, seed)
    }
}

/// The catalog's bad release is of either kind, by its seed: the first that is of this one.
pub(crate) fn bad_release(seed: u64, failing: bool) -> Setup {
    (0..)
        .map(|nth| hour(Case::BadDeploy, seed ^ (nth << 32)))
        .find(|setup| fails(setup) == failing)
        .expect("there are seeds of either kind")
}

fn fails(setup: &Setup) -> bool {
    let faults = setup.scenarios.iter().map(|of| &of.fault);
    faults
        .into_iter()
        .any(|fault| matches!(fault, Fault::BadDeploy { error_share, .. } if *error_share > 0.0))
}

/// The night of a story, its numbers drawn from a seed.
pub fn of(story: Story, seed: u64) -> Night {
    let setup = setup(story, seed);
    let run = simulate(&setup);
    let truth = run.truth();
    #[expect(clippy::cast_precision_loss, reason = "Unix time in milliseconds")]
    let began = truth.starts_at_ms.map(|ms| ms as f64 / 1e3);
    Night {
        metrics: panels::of_service(&setup, &run),
        trouble: trouble(&setup, truth),
        began,
    }
}

fn setup(story: Story, seed: u64) -> Setup {
    let mut setup = story.hour(seed).metrics_only().lasting(LASTS);
    // What the catalog computed for one of its three instances has to hold for one of these.
    let fewer = real(INSTANCES as u64) / 3.0;
    setup.service.instances = INSTANCES;
    setup.load.low *= fewer;
    setup.load.high *= fewer;
    let happens = setup.scenarios.iter().map(|of| of.starts_at);
    let happens = happens
        .chain(setup.load.spikes.iter().map(|of| of.at))
        .chain(setup.jobs.iter().map(|of| of.at))
        .chain(setup.deploys.iter().map(|of| of.at))
        .fold(f64::NEG_INFINITY, f64::max);
    if happens.is_infinite() {
        return setup;
    }
    // Between 20 and 35 minutes in the hour of the catalog, in the seventh to tenth here.
    let moved = happens - (ORDINARY + (happens - 1_200.0) / 5.0);
    // The load follows the clock: what was the rate when it happened has to stay so.
    #[expect(clippy::cast_possible_truncation, reason = "seconds of an hour")]
    let later = moved as i64;
    setup.begins += later;
    let at = |at: f64| libm::floor(at - moved);
    for scenario in &mut setup.scenarios {
        scenario.starts_at = at(scenario.starts_at);
        match &mut scenario.fault {
            // Within minutes, and not within the hour.
            Fault::ConnectionLeak { share, .. } => *share = (*share * 4.5).min(1.0),
            // Minutes are too few for what is only just too much.
            Fault::BadDeploy { compute_factor, .. } if *compute_factor > 1.0 => {
                *compute_factor *= 1.2;
            }
            Fault::TrafficSurge { factor } => *factor *= 1.1,
            Fault::NoisyTenant { rate, .. } => *rate *= 1.15 * fewer,
            Fault::LockContention { factor, .. } => *factor *= 1.25,
            _ => {}
        }
    }
    for spike in &mut setup.load.spikes {
        spike.at = at(spike.at);
    }
    for job in &mut setup.jobs {
        job.at = at(job.at);
        job.lasts = job.lasts.min(240.0);
        job.rate *= fewer;
    }
    for deploy in &mut setup.deploys {
        deploy.at = at(deploy.at);
    }
    setup.deploys.retain(|deploy| deploy.at > 30.0);
    setup
}

fn trouble(setup: &Setup, truth: &Truth) -> Trouble {
    let Some(scenario) = setup.scenarios.first() else {
        return Trouble::Nothing;
    };
    match (&scenario.fault, &truth.affected) {
        (_, Some(Component::Query { query, .. })) => Trouble::SlowQuery(query.clone()),
        (Fault::ConnectionLeak { .. }, _) => Trouble::ConnectionsKept,
        (Fault::TrafficSurge { .. } | Fault::NoisyTenant { .. }, _) => Trouble::Traffic,
        (Fault::BadDeploy { .. }, _) if fails(setup) => Trouble::Failures,
        (Fault::BadDeploy { .. }, _) => Trouble::Cost,
        (Fault::TaskLeak { .. }, _) => Trouble::TasksKept,
        _ => Trouble::Elsewhere,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The median of a panel between two moments of a night, in seconds from its first sample.
    fn median(night: &Night, panel: &str, from: i64, to: i64) -> Option<f64> {
        let samples = night.metrics.lines().filter(|line| line.starts_with(panel));
        let samples: Vec<(i64, f64)> = samples
            .map(|line| {
                let mut words = line
                    .rsplit(' ')
                    .map(|word| word.parse::<f64>().expect(line));
                let at = words.next().expect(line) as i64;
                (at, words.next().expect(line))
            })
            .collect();
        let first = samples.first()?.0;
        let mut values: Vec<f64> = samples
            .iter()
            .filter(|(at, _)| (from..to).contains(&(at - first)))
            .map(|(_, value)| *value)
            .collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }

    #[test]
    fn panels_show_the_trouble_with_a_wide_margin_and_nothing_where_nothing_is_wrong() {
        for story in Story::ALL {
            for seed in 0..3 {
                let night = of(story, seed);
                let what = format!("{story:?} {seed}: {:?}", night.trouble);
                let before = |panel: &str| median(&night, panel, 0, 300).expect("it is ordinary");
                let now = |panel: &str| median(&night, panel, 840, 1_141);
                let grown = |panel: &str| now(panel).unwrap_or(0.0) / before(panel);
                let latency = grown("job:http_request_duration_seconds");
                let failing = now("job:http_request_errors").expect("there are answers");
                let busy = now("job:process_cpu").expect("it is always there");
                let rate = grown("job:http_requests");
                let lent = now("job:db_connections:lent").expect("it is always there") / 16.0;
                let tasks = grown("job:tokio_alive_tasks");
                match &night.trouble {
                    Trouble::Nothing => {
                        assert!(latency < 1.3 && failing < 0.005 && busy < 0.75, "{what}");
                        assert!(lent < 0.4 && tasks < 1.4, "{what}: {lent}, {tasks}");
                    }
                    Trouble::SlowQuery(query) => {
                        let query =
                            format!("job:db_query_duration_seconds:p99_1m{{query=\"{query}");
                        assert!(grown(&query) > 20.0 && lent > 0.97, "{what}");
                        assert!(latency > 4.0, "{what}");
                    }
                    Trouble::ConnectionsKept => {
                        assert!(lent > 0.97 && latency > 4.0, "{what}: {lent}, {latency}");
                        assert!(grown("job:db_query_duration_seconds") < 1.3, "{what}");
                    }
                    Trouble::Traffic => {
                        assert!(
                            busy > 0.95 && rate > 2.0 && latency > 2.5,
                            "{what}: {latency}"
                        );
                    }
                    Trouble::Cost => {
                        assert!(busy > 0.94 && rate < 1.4, "{what}: {busy}, {rate}");
                        assert!(latency > 2.5, "{what}: {latency}");
                    }
                    Trouble::Failures => {
                        assert!(failing > 0.02 && latency < 1.3, "{what}");
                        assert!(busy < 0.75 && lent < 0.4, "{what}");
                    }
                    Trouble::TasksKept => {
                        assert!(tasks > 20.0 && latency < 1.3 && failing < 0.005, "{what}");
                    }
                    Trouble::Elsewhere => {
                        assert!(
                            latency > 2.5 && busy < 0.75 && lent < 0.4,
                            "{what}: {latency}"
                        );
                    }
                }
            }
        }
    }
}
