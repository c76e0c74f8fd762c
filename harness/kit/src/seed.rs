//! Seeds, from which every scenario that chance shapes is made again.

use std::fmt;
use std::str::FromStr;

use crate::protocol::{Record, SEED, VERDICT_FILE};

/// The seed of a scenario. Equal seeds give equal scenarios on every machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Seed(pub u64);

impl Seed {
    /// A further seed, for the `index`-th of several things that are made from this one.
    ///
    /// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014):
    /// neighboring seeds and indices give unrelated results.
    pub fn derive(self, index: u64) -> Seed {
        let mut z = self
            .0
            .wrapping_add(index.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Seed(z ^ (z >> 31))
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Seed {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Seed)
    }
}

/// Runs `scenario` for each of the checker's `seeds`, or for the one that a replay asks for.
///
/// The seed in hand is told to the runner before its scenario starts, so that a failure, a hang or
/// a crash comes with the command that replays it.
pub fn each(seeds: &[u64], mut scenario: impl FnMut(Seed)) {
    match replayed() {
        Some(seed) => announce_and_run(seed, &mut scenario),
        None => {
            for &seed in seeds {
                announce_and_run(Seed(seed), &mut scenario);
            }
        }
    }
}

/// The seed that a replay asks for, from the environment.
///
/// # Panics
/// When it is set to something that is not a whole number.
pub fn replayed() -> Option<Seed> {
    let text = std::env::var(SEED).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|error| panic!("{SEED}={text} is no seed: {error}")),
    )
}

fn announce_and_run(seed: Seed, scenario: &mut impl FnMut(Seed)) {
    if let Some(file) = std::env::var_os(VERDICT_FILE) {
        let _ = Record::Seed(seed.0).append_to(file.as_ref());
    } else {
        println!("seed {seed}");
    }
    scenario(seed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn derived_seeds_do_not_repeat_across_neighbors() {
        let derived: HashSet<Seed> = (0..50)
            .flat_map(|seed| (0..50).map(move |index| Seed(seed).derive(index)))
            .collect();
        assert_eq!(derived.len(), 2_500);
    }

    #[test]
    fn every_seed_of_the_checker_is_run_in_order() {
        let mut seen = Vec::new();
        each(&[3, 1, 2], |seed| seen.push(seed.0));
        assert_eq!(seen, [3, 1, 2]);
    }
}
