//! The clock that only snapshots advance [C4].
//!
//! A version counts the writes of one cell; a stamp orders a write among all snapshots. Writers
//! only read the clock, so they share it without contention. A timestamp has 61 bits, which is the
//! space in the status of an owner. At a billion snapshots per second it lasts for 73 years. Then a
//! snapshot panics, and writes continue.

use crossbeam_utils::CachePadded;

use crate::sync::{AtomicU64, Ordering, global};

/// The first timestamp: the stamp of the first nodes of cells.
pub(super) const FIRST: u64 = 1;

/// The last timestamp. It never ends.
const LAST: u64 = u64::MAX >> 3;

global! {
    const CLOCK: CachePadded<AtomicU64> = CachePadded::new(AtomicU64::new(FIRST));
}

/// Returns the current timestamp.
#[inline]
pub(crate) fn now() -> u64 {
    // Acquire: synchronises with the snapshot that began the timestamp [C4].
    CLOCK.load(Ordering::Acquire)
}

/// Begins the next timestamp, and returns the previous one.
///
/// # Panics
/// Panics at the last timestamp.
pub(crate) fn advance() -> u64 {
    let ended = now();
    let next = ended + 1;
    if next & (LAST + 1) != 0 {
        stand_still();
    }
    // AcqRel: as the load in `now`, and its partner. Acquire on failure: another snapshot has
    // advanced the clock, which has the same effect [C4].
    let _ = CLOCK.compare_exchange(ended, next, Ordering::AcqRel, Ordering::Acquire);
    crate::sync::full_fence();
    ended
}

#[cold]
#[inline(never)]
fn stand_still() -> ! {
    panic!("snapshot clock overflow: all 2^61 timestamps are used; restart the process");
}

#[cfg(all(test, not(any(latchwork_loom, latchwork_shuttle))))]
mod tests {
    use std::panic::catch_unwind;
    use std::process::Command;

    use super::*;
    use crate::{VersionedCell, atomically, snapshot};

    const CHILD: &str = "LATCHWORK_CLOCK_AT_ITS_END";

    /// The clock belongs to the whole process: this has one for itself.
    #[test]
    fn the_last_moments_are_like_any_other() {
        if std::env::var_os(CHILD).is_some() {
            return last_moments();
        }
        let own = std::env::current_exe().expect("this binary has a path");
        let mut command = Command::new(own);
        command.args([
            "cell::clock::tests::the_last_moments_are_like_any_other",
            "--exact",
        ]);
        let output = command.env(CHILD, "").output().expect("this binary runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}");
        assert!(said.contains("1 passed"), "it did not run: {said}");
    }

    fn last_moments() {
        let cells = [1, 2].map(VersionedCell::new);
        let transfer = || {
            atomically(|tx| {
                tx.update(&cells[0], |n| n - 1)?;
                tx.update(&cells[1], |n| n + 1)
            });
        };
        let sum = || snapshot(|view| cells.iter().map(|cell| *view.read(cell)).sum::<i32>());
        CLOCK.store(LAST - 3, Ordering::Relaxed);
        for left in (0..3).rev() {
            transfer();
            assert_eq!(sum(), 3);
            transfer();
            cells[0].update(|n| n + 1);
            cells[1].update(|n| n - 1);
            assert_eq!(now(), LAST - left);
        }
        // From here on, only a call that needs a new timestamp fails. It changes nothing.
        let panic = catch_unwind(sum).expect_err("there is no moment left");
        let text = panic.downcast_ref::<&str>().expect("a message");
        assert_eq!(
            *text,
            "snapshot clock overflow: all 2^61 timestamps are used; restart the process"
        );
        transfer();
        cells[0].set(7);
        let seen = atomically(|tx| Ok((*tx.read(&cells[0])?, *tx.read(&cells[1])?)));
        assert_eq!(seen, (7, 6));
        assert_eq!(now(), LAST);
    }
}
