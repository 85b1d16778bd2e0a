//! Places drawn with a skew: a few of them often, most of them seldom.

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand_distr::{Distribution, Zipf};

/// Draws places below `count` without end, the k-th most popular with a probability in proportion
/// to k^-θ.
///
/// θ is `theta`: 0 makes all equally popular, 0.99 is what YCSB calls zipfian. Popular places lie
/// scattered, as YCSB has them: next to each other they would share cache lines.
///
/// # Panics
/// If `count` is not a power of two, or `theta` is negative.
pub fn places(count: usize, theta: f64, seed: u64) -> impl Iterator<Item = usize> {
    assert!(count.is_power_of_two(), "a mask needs a power of two");
    let ranks = Zipf::new(count as f64, theta).expect("a count, and a skew of at least nothing");
    let mut rng = SmallRng::seed_from_u64(seed);
    // An odd factor permutes the numbers below a power of two.
    const ODD: usize = 0x9e37_79b9_7f4a_7c15_u64 as usize;
    std::iter::repeat_with(move || {
        let rank = ranks.sample(&mut rng) as usize - 1;
        rank.wrapping_mul(ODD) & (count - 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often the most popular of 64 places was drawn, and how many were drawn at all, in
    /// 10,000.
    fn drawn(theta: f64) -> (usize, usize) {
        let mut counts = [0; 64];
        places(64, theta, 1)
            .take(10_000)
            .for_each(|at| counts[at] += 1);
        let most = counts.iter().copied().max().unwrap_or_default();
        (most, counts.iter().filter(|&&count| count > 0).count())
    }

    #[test]
    fn a_skew_has_favourites_and_forgets_nobody() {
        let (most, all) = drawn(0.0);
        assert!(most < 300, "{most} of 10,000 where 156 are fair");
        assert_eq!(all, 64);
        // The sum of 1/k^0.99 for k up to 64 is 4.8.
        let (most, all) = drawn(0.99);
        assert!(
            (1_800..2_400).contains(&most),
            "{most} where 2,080 are right"
        );
        assert_eq!(all, 64);
    }
}
