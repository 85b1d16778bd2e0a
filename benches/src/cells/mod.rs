//! Values that are replaced as a whole: the cell, what else would do, and the loops that use them.

mod by_hand;
mod by_key;
mod crates;
mod left_right;
mod ours;
mod seqlock;

use std::fmt::Debug;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};

pub use by_hand::ByHand;
pub use by_key::ByKey;
pub use crates::{Cached, LoadFull};
pub use left_right::{LeftRight, LeftRightReader};
pub use ours::{Pinned, Shared};
pub use seqlock::Seqlock;

/// The value of the benchmarks: plain data, so that only the storage is measured.
pub trait Value: Copy + Eq + Debug + Send + Sync + 'static {
    /// The value to begin with.
    const FIRST: Self;

    /// The value after an update.
    #[must_use]
    fn next(self) -> Self;
}

impl Value for u64 {
    const FIRST: Self = 0;

    fn next(self) -> Self {
        self + 1
    }
}

/// Two words, which a torn read would show to differ.
pub type Pair = [u64; 2];

impl Value for Pair {
    const FIRST: Self = [0; 2];

    fn next(self) -> Self {
        [self[0] + 1, self[1] + 1]
    }
}

/// A way to read a value. Readers that keep a pin or a copy between two reads change it.
pub trait Read<T> {
    /// Returns a copy of the value.
    fn read(&mut self) -> T;
}

/// Something of which the value can be replaced whatever it is.
pub trait Write<T> {
    /// Replaces the value.
    fn write(&self, value: T);
}

/// Something of which the value can be replaced by what follows from it.
pub trait Update: Sync {
    /// Replaces the value by [`Value::next`] of it.
    fn update(&self);
}

/// Something of which the value can be replaced if it was not replaced since.
pub trait Conditional<T> {
    /// Identifies this value.
    type Version: Copy;

    /// Returns the version of the current value.
    fn version(&self) -> Self::Version;

    /// Replaces the value if its version is `seen`, and returns the new one.
    fn compare_and_set(&self, seen: Self::Version, value: T) -> Option<Self::Version>;
}

/// Reads so many times.
#[inline(never)]
pub fn reads<T: Value>(mut cell: impl Read<T>, times: u64) {
    for _ in 0..times {
        black_box(cell.read());
    }
}

/// Writes so many times.
#[inline(never)]
pub fn writes<T: Value>(cell: &impl Write<T>, times: u64) {
    for _ in 0..times {
        cell.write(black_box(T::FIRST));
    }
}

/// Updates so many times.
#[inline(never)]
pub fn updates(cell: &impl Update, times: u64) {
    for _ in 0..times {
        cell.update();
    }
}

/// Writes so many times, each on the condition that no other thread has written since the previous
/// write.
///
/// # Panics
/// Panics if another thread has written.
#[inline(never)]
pub fn conditional_writes<T: Value>(cell: &impl Conditional<T>, times: u64) {
    let mut seen = cell.version();
    for _ in 0..times {
        let written = cell.compare_and_set(seen, black_box(T::FIRST));
        seen = written.expect("nobody else writes");
    }
}

/// Updates until `stop`; returns how often.
#[inline(never)]
pub fn updates_until(cell: &impl Update, stop: &AtomicBool) -> u64 {
    let mut done = 0;
    while !stop.load(Ordering::Relaxed) {
        cell.update();
        done += 1;
    }
    done
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use arc_swap::ArcSwap;
    use crossbeam_utils::atomic::AtomicCell;
    use latchwork::VersionedCell;

    /// Two threads update while a third reads: no update is lost, and no read is torn or older than
    /// the previous one.
    fn holds<'c, C: Update, R: Read<Pair> + 'c>(cell: &'c C, reader: impl Fn(&'c C) -> R + Sync) {
        const EACH: u64 = 2_000;
        thread::scope(|scope| {
            let reads = scope.spawn(|| {
                let (mut read, mut last) = (reader(cell), 0);
                while last < 2 * EACH {
                    let [one, other] = read.read();
                    assert_eq!(one, other, "a torn read");
                    assert!(one >= last, "an older value");
                    last = one;
                }
            });
            for _ in 0..2 {
                scope.spawn(|| updates(cell, EACH));
            }
            reads.join().expect("the reader found nothing wrong");
        });
        assert_eq!(reader(cell).read(), [2 * EACH; 2]);
    }

    #[test]
    fn every_contender_loses_no_update_and_tears_no_read() {
        holds(&VersionedCell::new(Pair::FIRST), |c| c);
        holds(&VersionedCell::new(Pair::FIRST), Pinned::of);
        holds(&VersionedCell::new(Pair::FIRST), Shared);
        holds(&ArcSwap::from_pointee(Pair::FIRST), |c| c);
        holds(&ArcSwap::from_pointee(Pair::FIRST), LoadFull);
        holds(&ArcSwap::from_pointee(Pair::FIRST), Cached::of);
        holds(&ByHand::new(Pair::FIRST), |c| c);
        holds(&std::sync::RwLock::new(Pair::FIRST), |c| c);
        holds(&parking_lot::RwLock::new(Pair::FIRST), |c| c);
        holds(&AtomicCell::new(Pair::FIRST), |c| c);
        holds(&Seqlock::new(Pair::FIRST), |c| c);
        holds(&LeftRight::new(Pair::FIRST), LeftRight::reader);
        holds(&ByKey::default(), |c| c);
    }

    #[test]
    fn a_conditional_write_fails_after_another_write() {
        fn fails<C: Conditional<u64> + Update>(cell: &C) {
            let seen = cell.version();
            cell.update();
            assert!(cell.compare_and_set(seen, 7).is_none());
            assert!(cell.compare_and_set(cell.version(), 7).is_some());
        }
        fails(&VersionedCell::new(0));
        fails(&ByHand::new(0));
    }
}
