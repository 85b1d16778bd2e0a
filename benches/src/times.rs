//! The durations of single operations.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// The times of one in so many operations of a thread.
#[derive(Clone, Debug)]
pub struct Times {
    histogram: Histogram<u64>,
    every: u32,
    turn: u32,
}

impl Times {
    /// Times one in `every` operations. Two reads of the clock are longer than many an operation.
    ///
    /// # Panics
    /// Panics if `every` is zero.
    #[must_use]
    pub fn new(every: u32) -> Self {
        assert!(every > 0, "one in none");
        Self {
            histogram: Histogram::new(3).expect("a histogram can have three digits"),
            every,
            turn: 0,
        }
    }

    /// Runs `operation`, and times it if it is its turn.
    #[inline]
    pub fn around<R>(&mut self, operation: impl FnOnce() -> R) -> R {
        if !self.turn() {
            return operation();
        }
        let start = Instant::now();
        let result = operation();
        self.record(start.elapsed());
        result
    }

    /// Counts an operation, and returns whether to time it.
    #[inline]
    pub fn turn(&mut self) -> bool {
        self.turn += 1;
        let timed = self.turn == self.every;
        if timed {
            self.turn = 0;
        }
        timed
    }

    /// Records the duration of one operation.
    ///
    /// # Panics
    /// Never panics: the histogram resizes.
    pub fn record(&mut self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.histogram.record(nanos).expect("it resizes");
    }

    /// Adds the durations that another thread has recorded.
    ///
    /// # Panics
    /// Never panics: both have as many digits.
    pub fn add(&mut self, other: &Self) {
        let added = self.histogram.add(&other.histogram);
        added.expect("a histogram that resizes takes any");
    }

    /// How many were timed.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.histogram.len()
    }

    /// Whether none was timed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.histogram.is_empty()
    }

    /// Nanoseconds that a part of the operations did not exceed.
    #[must_use]
    pub fn nanos(&self, part: f64) -> u64 {
        self.histogram.value_at_quantile(part)
    }

    /// The percentiles that matter, in words.
    #[must_use]
    pub fn in_words(&self) -> String {
        format!(
            "half took {} ns at the most, 99% {} ns, 99.9% {} ns, the longest {} ns",
            self.nanos(0.5),
            self.nanos(0.99),
            self.nanos(0.999),
            self.nanos(1.0)
        )
    }
}

/// Jain's index of fairness: 1 if all have as much, 1/n if one of n has all.
#[must_use]
pub fn fairness(each: &[u64]) -> f64 {
    let sum: f64 = each.iter().map(|&share| share as f64).sum();
    let squares: f64 = each.iter().map(|&share| (share as f64).powi(2)).sum();
    if squares == 0.0 {
        return 1.0;
    }
    sum * sum / (each.len() as f64 * squares)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_so_many_is_timed() {
        let mut times = Times::new(4);
        let sum: u64 = (0..10).map(|n| times.around(|| n)).sum();
        assert_eq!((sum, times.len()), (45, 2));
    }

    #[test]
    fn times_of_two_threads_are_put_together() {
        let mut all = Times::new(1);
        let mut other = all.clone();
        all.record(Duration::from_nanos(10));
        other.record(Duration::from_secs(1));
        all.add(&other);
        assert_eq!(all.nanos(0.5), 10);
        assert!(all.nanos(1.0) >= 1_000_000_000);
    }

    #[test]
    fn fairness_is_between_one_for_all_and_all_for_one() {
        assert_eq!(fairness(&[7, 7, 7, 7]), 1.0);
        assert_eq!(fairness(&[7, 0, 0, 0]), 0.25);
        assert_eq!(fairness(&[0, 0]), 1.0);
    }
}
