//! A release in the middle of 20 minutes, instance after instance, and what else happened then:
//! with the truth about whether the release did it.
//!
//! Made from the cases of [`crate::service::catalog`]. The release begins after seven minutes
//! and reaches the third and last instance six minutes later, so that both versions run
//! side by side under the same load for a while. It is over when the last five minutes begin.

use crate::chance::Chance;
use crate::nights::bad_release;
use crate::panels;
use crate::service::catalog::{Case, hour};
use crate::service::{Deploy, Fault, Setup, simulate};

/// Seconds of a dump.
pub const LASTS: f64 = 1_200.0;
/// When the release reaches its first instance.
const RELEASED: f64 = 420.0;
/// Seconds from one instance to the next.
const STAGGER: f64 = 180.0;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Story {
    /// Healthy: a release that changes nothing.
    Harmless,
    /// Healthy: twice the traffic just after the release, for less than two minutes.
    Spike,
    /// The release allocates more, and computes more for it.
    Allocates,
    /// The release computes more.
    Computes,
    /// A part of the release's answers fails.
    Fails,
    /// Far more traffic, a minute after the release.
    Surge,
    /// One tenant's traffic, just before the release.
    NoisyTenant,
    /// Another service became slow before the release.
    SlowBefore,
    /// Another service becomes slow some minutes after the release began.
    SlowAfter,
    /// A lock becomes the bottleneck of both versions.
    Lock,
}

impl Story {
    /// Every story, the healthy ones first.
    pub const ALL: [Story; 10] = [
        Story::Harmless,
        Story::Spike,
        Story::Allocates,
        Story::Computes,
        Story::Fails,
        Story::Surge,
        Story::NoisyTenant,
        Story::SlowBefore,
        Story::SlowAfter,
        Story::Lock,
    ];

    /// Who did it.
    pub fn blame(self) -> Blame {
        match self {
            Story::Harmless | Story::Spike => Blame::Nobody,
            Story::Allocates | Story::Computes | Story::Fails => Blame::Release,
            Story::Surge | Story::NoisyTenant => Blame::Traffic,
            Story::SlowBefore | Story::SlowAfter | Story::Lock => Blame::Elsewhere,
        }
    }
}

/// Who harmed the users at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// They are not harmed.
    Nobody,
    Release,
    /// Both versions do for a request what the old one did, and there are far more requests.
    Traffic,
    /// Both versions do for a request what the old one did, and there are as many as before.
    Elsewhere,
}

/// A dump and its truth.
#[derive(Clone, Debug, PartialEq)]
pub struct Release {
    /// OpenMetrics: the panels of [`panels::by_instance`].
    pub metrics: String,
    pub story: Story,
    /// When the release reached its first instance: Unix time, in seconds.
    pub released: f64,
    /// When the trouble set in: Unix time, in seconds.
    pub began: Option<f64>,
    /// What a request of the new version costs of the processor, over one of the old.
    pub compute_factor: f64,
    /// What a request of the new version allocates, over one of the old.
    pub allocation_factor: f64,
    /// The share of requests that fail in the new version only.
    pub error_share: f64,
}

/// The release of a story, its numbers drawn from a seed.
pub fn of(story: Story, seed: u64) -> Release {
    let setup = setup(story, seed);
    let run = simulate(&setup);
    let (compute_factor, allocation_factor, error_share) =
        match setup.scenarios.first().map(|of| &of.fault) {
            Some(Fault::BadDeploy {
                compute_factor,
                allocation_factor,
                error_share,
                ..
            }) => (*compute_factor, *allocation_factor, *error_share),
            _ => (1.0, 1.0, 0.0),
        };
    #[expect(clippy::cast_precision_loss, reason = "Unix time in seconds")]
    let begins = setup.begins as f64;
    Release {
        metrics: panels::by_instance(&setup, &run),
        story,
        released: begins + RELEASED,
        began: setup.scenarios.first().map(|of| begins + of.starts_at),
        compute_factor,
        allocation_factor,
        error_share,
    }
}

fn setup(story: Story, seed: u64) -> Setup {
    let mut setup = match story {
        Story::Harmless => hour(Case::InnocentDeploy, seed),
        Story::Spike => hour(Case::Spike, seed),
        Story::Allocates | Story::Computes => bad_release(seed, false),
        Story::Fails => bad_release(seed, true),
        Story::Surge => hour(Case::TrafficSurge, seed),
        Story::NoisyTenant => hour(Case::NoisyTenant, seed),
        Story::SlowBefore | Story::SlowAfter => hour(Case::SlowDependency, seed),
        Story::Lock => hour(Case::LockContention, seed),
    };
    setup = setup.metrics_only().lasting(LASTS);
    let mut chance = Chance::of(seed ^ 0x5052_3531);
    // The load follows the clock: what was the rate when it happened has to stay so.
    let happened = setup.scenarios.first().map_or(1_500.0, |of| of.starts_at);
    #[expect(clippy::cast_possible_truncation, reason = "seconds of an hour")]
    let later = (happened - RELEASED) as i64;
    setup.begins += later;
    let (low, high) = match story {
        Story::NoisyTenant => (-60.0, -15.0),
        Story::SlowBefore => (-100.0, -60.0),
        Story::SlowAfter | Story::Lock => (100.0, 200.0),
        _ => (30.0, 90.0),
    };
    let starts_at = libm::floor(RELEASED + chance.between(low, high));
    for spike in &mut setup.load.spikes {
        spike.at = starts_at;
    }
    let version = next(&setup.service.version);
    let mut of_release = Deploy::new(RELEASED, &version);
    of_release.stagger = STAGGER;
    setup.deploys = vec![of_release];
    if story.blame() == Blame::Release {
        setup.deploys.clear();
    }
    for scenario in &mut setup.scenarios {
        scenario.starts_at = starts_at;
        match &mut scenario.fault {
            Fault::BadDeploy {
                version: released,
                stagger,
                compute_factor,
                allocation_factor,
                error_share,
            } => {
                scenario.starts_at = RELEASED;
                released.clone_from(&version);
                *stagger = STAGGER;
                if story != Story::Fails {
                    // Minutes are too few for what is only just too much.
                    *compute_factor *= 1.1;
                }
                *allocation_factor = match story {
                    Story::Allocates => chance.between(2.4, 4.0),
                    _ => 1.0,
                };
                if *error_share > 0.0 {
                    *error_share = chance.between(0.04, 0.12);
                }
            }
            Fault::TrafficSurge { factor } => *factor *= 1.1,
            Fault::NoisyTenant { rate, .. } => *rate *= 1.15,
            Fault::LockContention { factor, .. } => *factor *= 1.25,
            _ => {}
        }
    }
    setup
}

/// The version that comes after this one.
fn next(version: &str) -> String {
    match version.rsplit_once('.') {
        Some((head, patch)) => match patch.parse::<u32>() {
            Ok(patch) => format!("{head}.{}", patch + 1),
            Err(_) => format!("{version}.1"),
        },
        None => format!("{version}.1"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Samples of a panel by their time and their labels.
    fn samples(metrics: &str, panel: &str) -> BTreeMap<(i64, String), f64> {
        let lines = metrics.lines().filter(|line| line.starts_with(panel));
        lines
            .map(|line| {
                let mut words = line.split(' ');
                let labels = words.next().expect(line)[panel.len()..].to_owned();
                let value = words.next().and_then(|word| word.parse().ok());
                let at = words.next().and_then(|word| word.parse().ok());
                ((at.expect(line), labels), value.expect(line))
            })
            .collect()
    }

    /// What an answer of the new version takes of `panel`, over one of the old, while both run.
    fn compared(release: &Release, panel: &str) -> f64 {
        let answers = samples(&release.metrics, "instance:http_requests:rate1m");
        let taken = samples(&release.metrics, panel);
        let version = |labels: &str| labels.split("version=").nth(1).map(str::to_owned);
        let old = version(&answers.keys().next().expect("it begins").1);
        let mut moments: BTreeMap<i64, [[f64; 2]; 2]> = BTreeMap::new();
        for ((at, labels), answered) in &answers {
            let new = usize::from(version(labels) != old);
            let moment = &mut moments.entry(*at).or_default()[new];
            moment[0] += answered;
            moment[1] += taken[&(*at, labels.clone())];
        }
        moments.retain(|_, [old, new]| old[0] > 0.0 && new[0] > 0.0);
        assert!(moments.len() > 5, "{:?}: they never met", release.story);
        let sum = |version: usize, of: usize| moments.values().map(|m| m[version][of]).sum::<f64>();
        (sum(1, 1) / sum(1, 0)) / (sum(0, 1) / sum(0, 0))
    }

    #[test]
    fn versions_side_by_side_differ_by_the_release_and_by_nothing_else() {
        for story in Story::ALL {
            for seed in 0..3 {
                let release = of(story, seed);
                let cpu = compared(&release, "instance:process_cpu_seconds:rate1m");
                let allocated = compared(&release, "instance:heap_allocations_bytes:rate1m");
                // A queue that is full answers too, at no cost.
                let expected = release.compute_factor;
                assert!(
                    (0.7 * expected..1.1 * expected).contains(&cpu),
                    "{story:?} {seed}: {cpu}, {expected}"
                );
                let expected = release.allocation_factor;
                assert!(
                    (0.7 * expected..1.1 * expected).contains(&allocated),
                    "{story:?} {seed}: {allocated}, {expected}"
                );
            }
        }
    }

    #[test]
    fn users_are_harmed_in_the_end_where_somebody_is_to_blame_and_nowhere_else() {
        for story in Story::ALL {
            for seed in 0..3 {
                let release = of(story, seed);
                let mean = |panel: &str, within: &dyn Fn(i64) -> bool| {
                    let begins = release.released as i64 - 420;
                    let samples = samples(&release.metrics, panel);
                    let values: Vec<f64> = samples
                        .iter()
                        .filter(|((at, _), _)| within(at - begins))
                        .map(|(_, value)| *value)
                        .collect();
                    values.iter().sum::<f64>() / values.len() as f64
                };
                let p99 = "job:http_request_duration_seconds:p99_1m";
                let slower = mean(p99, &|at| at >= 900) / mean(p99, &|at| at <= 300);
                let failing = mean("job:http_request_errors:ratio1m", &|at| at >= 900);
                let rate = "job:http_requests:rate1m";
                let more = mean(rate, &|at| at >= 900) / mean(rate, &|at| at <= 300);
                let what = format!("{story:?} {seed}: {slower}, {failing}, {more}");
                match story.blame() {
                    Blame::Nobody => assert!(slower < 1.4 && failing < 0.005, "{what}"),
                    Blame::Traffic => assert!(more > 2.0 && slower > 2.5, "{what}"),
                    _ => assert!((slower > 2.5 || failing > 0.02) && more < 1.4, "{what}"),
                }
            }
        }
    }
}
