//! The clock, which orders writes among snapshots [C4].
//!
//! A version counts the writes of one cell. A timestamp orders a write among all snapshots: a
//! snapshot with a read timestamp sees the writes whose commit timestamps are not greater.
//!
//! # Word
//! | bits | meaning |
//! |---|---|
//! | 0 | used: a write may have the timestamp |
//! | 1-61 | timestamp |
//! | 62-63 | 0 |
//!
//! Changed by compare-and-swap only. A snapshot that finds the timestamp unused changes nothing: no
//! write has happened since the clock advanced. A snapshot that finds it used advances the clock.
//! One timestamp in [`UNUSED_EVERY`] begins unused, and its first write marks it as used. The
//! others begin as used: where writes and snapshots alternate, a mark for each timestamp would move
//! the line of the clock between cores once more.
//!
//! So threads that only write share the line without contention. So do threads that only read
//! snapshots, after at most [`UNUSED_EVERY`] snapshots.
//!
//! A timestamp has 61 bits, which is the space in the status of an owner. At a billion advances per
//! second the timestamps last for 73 years. Then each snapshot panics, and writes continue.
//!
//! # Orderings
//! Every access is Relaxed, because no thread reads data through the clock. The fences around the
//! accesses order them, and coherence does: a thread that has found a timestamp in a stamp or a
//! status loads no earlier one [C4].

use crossbeam_utils::CachePadded;

use crate::sync::tuning::UNUSED_EVERY;
use crate::sync::{AtomicU64, Ordering, global, load_load_fence, store_load_fence};

/// The first timestamp: the stamp of the first nodes of cells.
pub(super) const FIRST: u64 = 1;

/// The last timestamp. It begins as used, so that it never serves a snapshot.
const LAST: u64 = u64::MAX >> 3;
const _: () = assert!(LAST % UNUSED_EVERY != 0);

/// A write may have the timestamp.
const USED: u64 = 1;

global! {
    // The first nodes of cells have this timestamp.
    const CLOCK: CachePadded<AtomicU64> = CachePadded::new(AtomicU64::new(FIRST << 1 | USED));
}

/// Returns the current timestamp, as a lower bound: no later commit timestamp is less.
#[inline]
pub(crate) fn now() -> u64 {
    // Relaxed: as all accesses, see above.
    CLOCK.load(Ordering::Relaxed) >> 1
}

/// Returns the current timestamp for a write, and marks it as used.
///
/// Between the publication of the write and this call the caller has passed a fence. Between this
/// call and its next load of a head the caller passes another one [C4].
#[inline]
pub(crate) fn commit_timestamp() -> u64 {
    // Relaxed: as all accesses, see above.
    let word = CLOCK.load(Ordering::Relaxed);
    if word & USED == 0 {
        mark(word);
    }
    word >> 1
}

/// Marks the timestamp of a word as used, for the first write at this timestamp.
#[cold]
#[inline(never)]
fn mark(word: u64) {
    // Relaxed: as all accesses, see above. If it fails, another thread has marked the timestamp;
    // snapshots may have advanced it since.
    let _ = CLOCK.compare_exchange(word, word | USED, Ordering::Relaxed, Ordering::Relaxed);
}

/// Returns a timestamp for a snapshot. Each write that the caller has found has this commit
/// timestamp or an earlier one. Each write that the caller does not find from now on will have a
/// later one [C4].
///
/// # Panics
/// Panics at the last timestamp.
#[inline(never)] // Inlined, it makes the loop of a caller over its cells longer.
pub(crate) fn read_timestamp() -> u64 {
    // Relaxed: as all accesses, see above.
    let word = CLOCK.load(Ordering::Relaxed);
    if word & USED != 0 {
        return advance(word);
    }
    // No write has this timestamp yet. A write that the caller does not find is published after
    // this fence, and so gets this timestamp or a later one [C4].
    load_load_fence();
    (word >> 1) - 1
}

/// Advances the clock beyond the used timestamp of a word. Returns the used timestamp.
fn advance(word: u64) -> u64 {
    let ended = word >> 1;
    if ended == LAST {
        stand_still();
    }
    let next = ended + 1;
    let is_unused = next % UNUSED_EVERY == 0;
    let next = next << 1 | if is_unused { 0 } else { USED };
    // Relaxed: as all accesses, see above. If it fails, another snapshot has advanced the clock,
    // which has the same effect.
    let _ = CLOCK.compare_exchange(word, next, Ordering::Relaxed, Ordering::Relaxed);
    // A write that the caller does not find is published after this fence, and so gets a later
    // timestamp [C4].
    store_load_fence();
    ended
}

#[cold]
#[inline(never)]
fn stand_still() -> ! {
    panic!("snapshot clock overflow: all 2^61 timestamps are used; restart the process");
}

#[cfg(all(test, not(any(latchwork_loom, latchwork_shuttle))))]
mod tests {
    use core::array;
    use std::panic::catch_unwind;
    use std::process::Command;

    use super::*;
    use crate::{VersionedCell, atomically, snapshot};

    const CHILD: &str = "LATCHWORK_CLOCK_TEST";

    /// Runs the rest of a test in a process of its own, whose clock no other test advances.
    fn alone(test: &str, body: impl FnOnce()) {
        if std::env::var_os(CHILD).is_some() {
            return body();
        }
        let own = std::env::current_exe().expect("this binary has a path");
        let mut command = Command::new(own);
        command.args([&format!("mvcc::clock::tests::{test}"), "--exact"]);
        let output = command.env(CHILD, "").output().expect("this binary runs");
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{printed}");
        assert!(printed.contains("1 passed"), "it did not run: {printed}");
    }

    fn word() -> u64 {
        CLOCK.load(Ordering::Relaxed)
    }

    #[test]
    fn a_snapshot_of_quiet_cells_does_not_change_the_clock() {
        alone(
            "a_snapshot_of_quiet_cells_does_not_change_the_clock",
            quiet_cells,
        );
    }

    fn quiet_cells() {
        let cells: [_; 20] = array::from_fn(VersionedCell::new);
        let sum = || snapshot(|view| cells.iter().map(|cell| *view.read(cell)).sum::<usize>());
        // A transaction with a large read set reads at a timestamp, as a snapshot does.
        let read_all = || {
            atomically(|tx| {
                let mut sum = 0;
                for cell in &cells {
                    sum += *tx.read(cell)?;
                }
                Ok(sum)
            })
        };
        for written in 0..3 {
            // At the latest, the last of these timestamps begins unused.
            for _ in 0..UNUSED_EVERY {
                assert_eq!((sum(), read_all()), (190 + written, 190 + written));
            }
            let quiet = word();
            for _ in 0..UNUSED_EVERY {
                assert_eq!((sum(), read_all()), (190 + written, 190 + written));
            }
            assert_eq!((word(), quiet & USED), (quiet, 0));

            cells[0].update(|n| n + 1);
            let used = word();
            cells[1].update(|n| n + 1);
            cells[1].update(|n| n - 1);
            // The first write marks the timestamp, and later ones do not change it.
            assert_eq!((used, word()), (quiet | USED, quiet | USED));
        }
    }

    #[test]
    fn the_last_timestamps_are_like_any_other() {
        alone("the_last_timestamps_are_like_any_other", last_timestamps);
    }

    fn last_timestamps() {
        let cells = [1, 2].map(VersionedCell::new);
        let transfer = || {
            atomically(|tx| {
                tx.update(&cells[0], |n| n - 1)?;
                tx.update(&cells[1], |n| n + 1)
            });
        };
        let sum = || snapshot(|view| cells.iter().map(|cell| *view.read(cell)).sum::<i32>());
        CLOCK.store((LAST - 3) << 1 | USED, Ordering::Relaxed);
        for left in (0..3).rev() {
            transfer();
            assert_eq!(sum(), 3);
            transfer();
            cells[0].update(|n| n + 1);
            cells[1].update(|n| n - 1);
            assert_eq!(now(), LAST - left);
        }
        // From here on, only a call that needs a new timestamp fails. It changes nothing.
        let panic = catch_unwind(sum).expect_err("no timestamp is left");
        let text = panic.downcast_ref::<&str>().expect("a message");
        assert_eq!(
            *text,
            "snapshot clock overflow: all 2^61 timestamps are used; restart the process"
        );
        transfer();
        cells[0].set(7);
        let seen = atomically(|tx| Ok((*tx.read(&cells[0])?, *tx.read(&cells[1])?)));
        assert_eq!(seen, (7, 6));
        assert_eq!(word(), LAST << 1 | USED);
    }
}
