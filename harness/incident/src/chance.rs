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

    /// A normally distributed number with mean 0 and standard deviation 1, by Box and Muller.
    pub fn normal(&mut self) -> f64 {
        libm::log(self.log_normal(1.0, 1.0))
    }

    /// How many events of a Poisson process there are where `mean` are expected. Exact up to a mean
    /// of 30; above it the normal approximation, rounded, whose variance is right within 1 %.
    pub fn poisson(&mut self, mean: f64) -> u64 {
        if mean <= 0.0 {
            return 0;
        }
        if mean > 30.0 {
            return rounded(mean + libm::sqrt(mean) * self.normal());
        }
        let limit = libm::exp(-mean);
        let (mut count, mut product) = (0, self.unit());
        while product > limit {
            count += 1;
            product *= self.unit();
        }
        count
    }

    /// How many of `trials` succeed, each with this probability. Exact up to 30 trials; above them
    /// by the Poisson distribution where few succeed or few fail, and else by the normal one.
    pub fn binomial(&mut self, trials: u64, probability: f64) -> u64 {
        if probability <= 0.0 {
            return 0;
        }
        if probability >= 1.0 {
            return trials;
        }
        if trials <= 30 {
            return (0..trials)
                .map(|_| u64::from(self.happens(probability)))
                .sum();
        }
        #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
        let n = trials as f64;
        let (mean, failures) = (n * probability, n * (1.0 - probability));
        if mean <= 30.0 {
            self.poisson(mean).min(trials)
        } else if failures <= 30.0 {
            trials - self.poisson(failures).min(trials)
        } else {
            let deviation = libm::sqrt(mean * (1.0 - probability));
            rounded(mean + deviation * self.normal()).min(trials)
        }
    }

    /// A log-normally distributed number with this median; `sigma` is the standard deviation of
    /// its logarithm. Box and Muller, "A note on the generation of random normal deviates", 1958.
    pub fn log_normal(&mut self, median: f64, sigma: f64) -> f64 {
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - self.unit()));
        let angle = 2.0 * std::f64::consts::PI * self.unit();
        median * libm::exp(sigma * radius * libm::cos(angle))
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "what is below zero becomes zero"
)]
fn rounded(number: f64) -> u64 {
    libm::round(number).max(0.0) as u64
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

    #[test]
    fn counts_have_the_mean_and_the_variance_of_their_distributions() {
        let n = 20_000;
        let moments = |draw: &mut dyn FnMut() -> u64| {
            let counts: Vec<f64> = (0..n).map(|_| draw() as f64).collect();
            let mean = counts.iter().sum::<f64>() / f64::from(n);
            let variance = counts.iter().map(|c| (c - mean).powi(2)).sum::<f64>() / f64::from(n);
            (mean, variance)
        };
        let mut chance = Chance::of(5);
        for mean in [0.3, 8.0, 29.0, 200.0] {
            let (found, variance) = moments(&mut || chance.poisson(mean));
            // Five standard errors of the mean, and of the variance (sqrt(2/n), and more for a
            // skewed distribution: 5 %, and 8 % below a mean of 1).
            assert!(
                (found - mean).abs() < 5.0 * (mean / f64::from(n)).sqrt(),
                "{mean}: {found}"
            );
            assert!((variance / mean - 1.0).abs() < 0.08, "{mean}: {variance}");
        }
        for (trials, p) in [(20, 0.3), (1_000, 0.01), (1_000, 0.99), (1_000, 0.4)] {
            let (mean, exact) = (trials as f64 * p, trials as f64 * p * (1.0 - p));
            let (found, variance) = moments(&mut || chance.binomial(trials, p));
            assert!(
                (found - mean).abs() < 5.0 * (exact / f64::from(n)).sqrt(),
                "{found}"
            );
            assert!(
                (variance / exact - 1.0).abs() < 0.08,
                "{trials} {p}: {variance}"
            );
        }
    }
}
