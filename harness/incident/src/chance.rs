//! Chance that is the same on every machine.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

/// A stream of random numbers, a pure function of its seed.
#[derive(Clone, Debug)]
pub struct Chance(ChaCha8Rng);

impl Chance {
    /// The stream of `seed`.
    pub fn of(seed: u64) -> Self {
        Chance(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A number in `[0, 1)`, with 53 random bits.
    pub fn unit(&mut self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
        let bits = (self.0.next_u64() >> 11) as f64;
        bits / 9_007_199_254_740_992.0
    }

    /// A number in `[low, high)`.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// A whole number in `low..=high`.
    ///
    /// # Panics
    /// When `low` is above `high`.
    pub fn whole(&mut self, low: u64, high: u64) -> u64 {
        assert!(low <= high, "the range {low}..={high} is empty");
        // The bias of a remainder is below 2^-40 for the ranges of a simulation.
        low + self.0.next_u64() % (high - low + 1)
    }

    /// Whether something of this probability happens.
    pub fn happens(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// One of several things.
    ///
    /// # Panics
    /// When there is none.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let last = u64::try_from(from.len()).expect("a slice") - 1;
        &from[usize::try_from(self.whole(0, last)).expect("an index")]
    }

    /// An exponentially distributed number with this mean: the time between two arrivals of a
    /// Poisson process.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * libm::log(1.0 - self.unit())
    }

    /// A log-normally distributed number with this median; `sigma` is the standard deviation of
    /// its logarithm. Box and Muller, "A note on the generation of random normal deviates", 1958.
    pub fn log_normal(&mut self, median: f64, sigma: f64) -> f64 {
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - self.unit()));
        let angle = 2.0 * std::f64::consts::PI * self.unit();
        median * libm::exp(sigma * radius * libm::cos(angle))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_stream_on_every_machine() {
        let mut chance = Chance::of(7);
        let drawn: Vec<u64> = (0..3).map(|_| chance.whole(0, 999_999)).collect();
        let mut again = Chance::of(7);
        assert_eq!(
            drawn,
            [
                again.whole(0, 999_999),
                again.whole(0, 999_999),
                again.whole(0, 999_999)
            ]
        );
    }

    #[test]
    fn means_agree_with_theory_within_three_standard_errors() {
        let n = 40_000;
        let mut chance = Chance::of(11);
        let mean =
            |draw: &mut dyn FnMut() -> f64| (0..n).map(|_| draw()).sum::<f64>() / f64::from(n);
        let exponential = mean(&mut || chance.exponential(2.0));
        assert!(
            (exponential - 2.0).abs() < 3.0 * 2.0 / f64::from(n).sqrt(),
            "{exponential}"
        );
        let mut chance = Chance::of(12);
        let log_normal = mean(&mut || chance.log_normal(1.0, 0.5));
        let theory = libm::exp(0.125);
        assert!(
            (log_normal - theory).abs() < 3.0 * 0.61 / f64::from(n).sqrt(),
            "{log_normal}"
        );
    }
}
