//! How much a release does: a number of objects, and a time [R12].

use crate::sync::recently;
use crate::sync::tuning::{BATCH_IN_HAND, FAST_BATCH};

/// The most objects without a destructor that are released at once under the mutex of their slot.
/// Its owner may wait for it.
pub(super) const CHUNK: usize = 256;

/// How much one release does [R12].
#[derive(Debug)]
pub(super) struct Quota {
    /// Released whatever time passes.
    least: usize,
    /// While there is time.
    pub(super) most: usize,
    /// From `start`, by [`recently`].
    span: u64,
    start: u64,
    pub(super) done: usize,
    /// How many objects with destructors the next batch has.
    pub(super) batch: usize,
    /// The last reading of the clock, and the objects since then: with destructors, and of both
    /// sorts.
    read: u64,
    destroyed: usize,
    passed: usize,
    has_time: bool,
}

impl Quota {
    /// Everything, without a limit of time.
    pub(super) fn all() -> Self {
        Quota::new(usize::MAX, usize::MAX, recently(), 0)
    }

    pub(super) fn new(least: usize, most: usize, start: u64, span: u64) -> Self {
        Quota {
            least,
            most,
            span,
            start,
            done: 0,
            batch: 1,
            read: start,
            destroyed: 0,
            passed: 0,
            has_time: span > 0,
        }
    }

    pub(super) fn count_plain(&mut self, n: usize) {
        self.done += n;
        self.passed += n;
    }

    pub(super) fn count_destroyed(&mut self) {
        self.done += 1;
        self.passed += 1;
        self.destroyed += 1;
    }

    #[inline]
    pub(super) fn is_left(&mut self) -> bool {
        if self.destroyed >= self.batch || self.passed >= CHUNK {
            self.read_clock();
        }
        self.done < self.most && (self.done < self.least || self.has_time)
    }

    /// Returns the size of the next batch.
    pub(super) fn end(&mut self) -> usize {
        if self.destroyed > 0 {
            self.read_clock();
        }
        self.batch
    }

    /// A reading costs as much as a destructor, so there is one for each batch.
    fn read_clock(&mut self) {
        let now = recently();
        if now.saturating_sub(self.read) >= FAST_BATCH {
            self.batch = 1;
        } else if self.destroyed >= self.batch {
            self.batch = (2 * self.batch).min(BATCH_IN_HAND);
        }
        self.has_time = now.saturating_sub(self.start) < self.span;
        self.read = now;
        (self.destroyed, self.passed) = (0, 0);
    }
}

#[cfg(all(test, not(any(latchwork_loom, latchwork_shuttle))))]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::VersionedCell;
    use crate::sync::at_will;
    use crate::sync::tuning::COLLECT_FOR;

    const CHILD: &str = "LATCHWORK_QUOTA_TEST";
    const START: u64 = 1 << 40;

    /// Runs the rest of a test in a process of its own, in which no other thread has a pin.
    fn alone(test: &str, body: impl FnOnce()) {
        if std::env::var_os(CHILD).is_some() {
            return body();
        }
        let own = std::env::current_exe().expect("this binary has a path");
        let mut command = Command::new(own);
        command.args([&format!("reclaim::quota::tests::{test}"), "--exact"]);
        let output = command.env(CHILD, "").output().expect("this binary runs");
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{printed}");
        assert!(printed.contains("1 passed"), "it did not run: {printed}");
    }

    /// A release as that of a write, of objects whose destructors take so long each. Returns the
    /// time that it took, and the sizes of the batches.
    fn release(quota: &mut Quota, cost: impl Fn(usize) -> u64) -> (u64, Vec<usize>) {
        at_will::begin(START);
        let mut batches = Vec::new();
        while quota.is_left() {
            let n = CHUNK.min(quota.most - quota.done).min(quota.batch);
            for _ in 0..n {
                at_will::pass(cost(quota.done));
                quota.count_destroyed();
            }
            batches.push(n);
        }
        (at_will::pass(0) - START, batches)
    }

    #[test]
    fn a_release_ends_with_its_time_and_does_its_least() {
        const MOST: usize = 5_000;
        let costs = [0, 1, 100, 600, 1_000, 19_999, 20_000, 60_000, 300_000];
        for cost in costs {
            for (least, span) in [(0, 0), (2, COLLECT_FOR), (9, 0), (2, 3 * COLLECT_FOR)] {
                let mut quota = Quota::new(least, MOST, START, span);
                let (time, batches) = release(&mut quota, |_| cost);
                let case = format!("{cost} ns, at least {least}, {span} ns: {batches:?}");
                assert!(quota.done >= least && quota.done <= MOST, "{case}");
                // A batch is twice as long as one that ended in time, so that much too late.
                let late = (2 * FAST_BATCH).max(cost) + cost;
                assert!(time < span + late || quota.done < least + 2, "{case}");
                // It ends before its time only if nothing is left.
                let ends_early = time < span && quota.done < MOST;
                assert!(!ends_early, "{case}");
                for pair in batches.windows(2) {
                    let is_last = pair[1] < 2 * pair[0];
                    let is_slow = pair[0] as u64 * cost >= FAST_BATCH;
                    match is_slow {
                        true => assert_eq!(pair[1], 1, "{case}"),
                        false if pair[0] == BATCH_IN_HAND => assert!(pair[1] <= pair[0], "{case}"),
                        false => assert!(!is_last || quota.done == MOST, "{case}"),
                    }
                }
            }
        }
    }

    /// Fast destructors, and then slow ones: one batch of these, and then one by one.
    #[test]
    fn destructors_that_become_slow_are_one_batch() {
        let mut quota = Quota::new(0, 1_000, START, COLLECT_FOR);
        let slow = |done| if done >= 63 { COLLECT_FOR } else { 1 };
        let (_, batches) = release(&mut quota, slow);
        assert_eq!(batches, [1, 2, 4, 8, 16, 32, 32]);
        assert_eq!(quota.end(), 1, "the next write begins with one");
        let mut quota = Quota::new(2, 1_000, START, COLLECT_FOR);
        quota.batch = BATCH_IN_HAND;
        assert_eq!(release(&mut quota, |_| 1).1[0], BATCH_IN_HAND);
        // Objects without a destructor are no batch.
        let mut quota = Quota::new(0, 1_000, START, COLLECT_FOR);
        quota.count_plain(CHUNK);
        assert!(quota.is_left());
        assert_eq!((quota.batch, quota.done), (1, CHUNK));
        at_will::pass(COLLECT_FOR);
        assert!(quota.is_left(), "the clock is read after each batch");
        quota.count_plain(CHUNK);
        assert!(!quota.is_left());
        assert!(Quota::all().is_left());
    }

    #[test]
    fn each_limit_of_a_release_is_exact() {
        let begin = |least, span| {
            at_will::begin(START);
            Quota::new(least, 1_000, START, span)
        };
        assert!(!begin(0, 0).is_left(), "it has no time");
        let mut quota = begin(2, 0);
        quota.count_plain(1);
        assert!(quota.is_left());
        quota.count_plain(1);
        assert!(!quota.is_left(), "it has done its least");
        // Objects of both sorts together cause a reading of the clock, at the end of the time.
        let mut quota = begin(0, COLLECT_FOR);
        quota.batch = BATCH_IN_HAND;
        quota.count_plain(CHUNK - 1);
        quota.count_destroyed();
        at_will::pass(COLLECT_FOR);
        assert!(!quota.is_left());
        // The last batch determines the size of the next one, if there was one.
        for (destroyed, batch) in [(0, 8), (1, 1)] {
            let mut quota = begin(0, COLLECT_FOR);
            quota.batch = 8;
            (0..destroyed).for_each(|_| quota.count_destroyed());
            at_will::pass(FAST_BATCH);
            assert_eq!(quota.end(), batch);
        }
    }

    /// A value whose destructor takes time.
    struct Slow(u64);

    impl Drop for Slow {
        fn drop(&mut self) {
            at_will::pass(self.0);
        }
    }

    /// What a write has no time for is owed, so that garbage does not accumulate, and a write is
    /// short otherwise.
    #[test]
    fn garbage_does_not_accumulate_however_slow_it_is() {
        alone("garbage_does_not_accumulate_however_slow_it_is", || {
            const WRITES: usize = 20_000;
            for cost in [0, 500, 5_000, 50_000, 1_000_000] {
                at_will::begin(START);
                let cell = VersionedCell::new(Slow(cost));
                let (mut most, mut longest) = (0, 0);
                for _ in 0..WRITES {
                    let before = at_will::pass(200);
                    cell.set(Slow(cost));
                    longest = longest.max(at_will::pass(0) - before);
                    most = most.max(crate::stats().garbage);
                }
                assert!(most < 1_000, "{most} values of {cost} ns each");
                println!("{cost} ns: {most} values, {longest} ns in a write");
            }
        });
    }

    /// Values that were held back by a pin: each write has its time, and then they are gone.
    #[test]
    fn a_write_spends_its_time_on_what_a_pin_has_left() {
        alone("a_write_spends_its_time_on_what_a_pin_has_left", || {
            const LEFT: usize = 3_000;
            const COST: u64 = 5_000;
            at_will::begin(START);
            let cell = VersionedCell::new(Slow(COST));
            let pin = crate::pin();
            for _ in 0..LEFT {
                cell.set(Slow(COST));
            }
            drop(pin);
            let (mut writes, mut longest) = (0, 0);
            while crate::stats().garbage > 500 {
                let before = at_will::pass(30_000);
                cell.set(Slow(COST));
                longest = longest.max(at_will::pass(0) - before);
                writes += 1;
                assert!(writes < 10 * LEFT, "{} are left", crate::stats().garbage);
            }
            assert!(longest >= COLLECT_FOR, "{longest} ns");
            assert!(longest < COLLECT_FOR + 3 * FAST_BATCH, "{longest} ns");
            println!("{writes} writes, {longest} ns at the longest");
        });
    }
}
