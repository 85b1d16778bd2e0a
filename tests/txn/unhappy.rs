//! Transactions whose closures, destructors and wakers do what they should not.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::thread;

use crate::common::tasks::{Bell, poll_with};
use crate::common::{watchdog, write_elsewhere};
use latchwork::{Abort, Transaction, TxError, VersionedCell, atomically, cell::Version, flush};

/// A value whose destructor does something.
struct OnDrop<F: Fn() + Send + Sync + 'static>(F);

impl<F: Fn() + Send + Sync + 'static> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

type Act = OnDrop<Box<dyn Fn() + Send + Sync>>;

fn act(f: impl Fn() + Send + Sync + 'static) -> Act {
    OnDrop(Box::new(f))
}

#[test]
fn a_retry_that_is_ignored_is_not_forgotten_by_or_else() {
    let (a, b) = (VersionedCell::new(0), VersionedCell::new(0));
    let mut attempts = 0;
    let result = Transaction::builder()
        .deadline(std::time::Instant::now())
        .run(|tx| {
            attempts += 1;
            tx.read(&a)?;
            let _ = tx.retry::<()>();
            tx.or_else(|tx| tx.set(&b, 1), |tx| tx.set(&b, 2))
        });
    assert_eq!((result, attempts, b.get()), (Err(TxError::TimedOut), 1, 0));
}

#[test]
fn a_destructor_that_panics_keeps_nobody_asleep() {
    let cell = VersionedCell::new(0);
    let other = VersionedCell::new(act(|| ()));
    let (bell, waker) = Bell::new();
    let mut changed = cell.changed(cell.version());
    assert!(poll_with(&mut changed, &waker).is_pending());

    let dropped = Arc::new(AtomicU32::new(0));
    let panics = catch_unwind(AssertUnwindSafe(|| {
        atomically(|tx| {
            tx.set(&cell, 1)?;
            for _ in 0..2 {
                let dropped = dropped.clone();
                let breaks = act(move || {
                    if dropped.fetch_add(1, Relaxed) == 0 {
                        resume_unwind(Box::new("a destructor"));
                    }
                });
                tx.set(&other, breaks)?;
            }
            tx.set(&other, act(|| ()))
        });
    }));
    assert!(panics.is_err());
    assert_eq!(cell.get(), 1);
    // The others are dropped still, and whoever waits is woken.
    assert_eq!(dropped.load(Relaxed), 2);
    assert_eq!(bell.rings(), 1);
}

/// Whichever of three it is, of one cell or of three, by a commit or by a write.
#[test]
fn a_waker_that_panics_keeps_nobody_else_asleep() {
    type Write = fn(&[VersionedCell<i32>]);
    let in_one: Write = |cells| {
        cells[0].set(1);
    };
    let in_all: Write = |cells| {
        atomically(|tx| cells.iter().try_for_each(|cell| tx.set(cell, 1)));
    };
    for (many, write) in [(1, in_one), (1, in_all), (3, in_all)] {
        for breaks in 0..3 {
            let cells: Vec<_> = (0..many).map(VersionedCell::new).collect();
            let bells = [0, 1, 2].map(|i| match i == breaks {
                true => Bell::that_breaks(),
                false => Bell::new(),
            });
            let mut waiting = Vec::new();
            for ((_, waker), cell) in bells.iter().zip(cells.iter().cycle()) {
                let mut changed = cell.changed(Version::FIRST);
                assert!(poll_with(&mut changed, waker).is_pending());
                waiting.push(changed);
            }
            assert!(catch_unwind(AssertUnwindSafe(|| write(&cells))).is_err());
            assert_eq!(
                bells.map(|(bell, _)| bell.rings()),
                [1; 3],
                "{many} {breaks}"
            );
        }
    }
}

#[test]
fn what_its_closure_aborts_is_not_counted_as_a_commit() {
    let cell = VersionedCell::new(0);
    let result = Transaction::builder().label("unhappy").try_run(|tx| {
        tx.set(&cell, 1)?;
        tx.abort::<(), _>("no")
    });
    assert_eq!(result, Err(TxError::Aborted("no")));
    let labels = latchwork::stats().labels;
    let commits = labels
        .iter()
        .find(|l| l.label == "unhappy")
        .map(|l| l.commits);
    assert_eq!(commits.unwrap_or(0), 0);
}

/// An error of the caller's ends a transaction only if what its closure has seen was so.
#[test]
fn an_error_after_an_abort_that_was_ignored_is_not_the_end() {
    let _dog = watchdog("an_error_after_an_abort_that_was_ignored_is_not_the_end");
    let (a, b) = (VersionedCell::new(0), VersionedCell::new(0));
    let mut attempts = 0;
    let result = Transaction::builder().try_run(|tx| {
        attempts += 1;
        let seen = *tx.read(&a)?;
        if attempts == 1 {
            write_elsewhere(&a, 1);
        }
        let _ignored = tx.read(&b);
        tx.abort::<(), _>(seen)
    });
    assert_eq!((result, attempts), (Err(TxError::Aborted(1)), 2));
}

/// Whatever an attempt was to write and has not, its end drops; and it keeps nobody's garbage from
/// then on.
#[test]
fn what_is_not_written_is_dropped_once() {
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    struct Counted;
    impl Drop for Counted {
        fn drop(&mut self) {
            DROPPED.fetch_add(1, Relaxed);
        }
    }
    let _dog = watchdog("what_is_not_written_is_dropped_once");
    let cells = [(), ()].map(|()| VersionedCell::new(Counted));
    let aborts = |writes: usize| {
        let before = DROPPED.load(Relaxed);
        let result = Transaction::builder().try_run(|tx| {
            for cell in cells.iter().cycle().take(writes) {
                tx.set(cell, Counted)?;
            }
            tx.abort::<(), _>(())
        });
        assert_eq!(result, Err(TxError::Aborted(())));
        DROPPED.load(Relaxed) - before
    };
    assert_eq!([1, 2, 5].map(aborts), [1, 2, 5]);
    let panics = catch_unwind(|| {
        atomically(|tx| -> Result<(), Abort> {
            tx.set(&cells[0], Counted)?;
            panic!("as planned")
        })
    });
    assert!(panics.is_err());
    assert_eq!(DROPPED.load(Relaxed), 9);
    cells[0].set(Counted);
    // Of other threads, other tests' too, nobody is pinned for long.
    while DROPPED.load(Relaxed) < 10 {
        flush();
        thread::yield_now();
    }
    drop(cells);
    assert_eq!(DROPPED.load(Relaxed), 12);
}
