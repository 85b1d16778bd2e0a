//! What the crate promises in the destructors of thread-locals, after those of its own have run.
#![cfg(not(any(latchwork_loom, latchwork_shuttle)))]

mod common;

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use common::watchdog;
use latchwork::latch::OptimisticLatch;
use latchwork::ordered::checked;
use latchwork::session::Policy;
use latchwork::table::SingleFlight;
use latchwork::{LockTable, Mode, VersionedCell, atomically, snapshot};

/// Runs a closure when it is dropped.
struct AtExit(RefCell<Option<Box<dyn FnOnce() + Send>>>);

impl Drop for AtExit {
    fn drop(&mut self) {
        if let Some(f) = self.0.take() {
            f();
        }
    }
}

thread_local! {
    /// Registered before the thread-locals of the crate, and so dropped after them.
    static FIRST: AtExit = const { AtExit(RefCell::new(None)) };
    /// The reverse.
    static LAST: AtExit = const { AtExit(RefCell::new(None)) };
}

/// Has the calling thread register each thread-local of the crate.
fn use_the_crate() {
    let cell = VersionedCell::new(0);
    atomically(|tx| tx.update(&cell, |n| n + 1));
    latchwork::flush();
    let table: LockTable<u32> = LockTable::new();
    thread::scope(|s| {
        let guard = table.lock(&1);
        let waiter = s.spawn(|| drop(table.lock(&1)));
        while table.inspect().iter().all(|lock| lock.waiters.is_empty()) {
            thread::yield_now();
        }
        drop(guard);
        waiter.join().unwrap();
    });
    drop(checked::Mutex::new(0).lock());
}

/// Runs `f` on threads that are being torn down: where the crate has its thread-locals still, and
/// where it has none. Returns the two results, or the panic messages.
fn at_exit<R: Send + 'static>(f: impl Fn() -> R + Send + Sync + 'static) -> [Result<R, String>; 2] {
    let f = Arc::new(f);
    let (results, ended) = mpsc::channel();
    thread::spawn(move || {
        let run = |f: Arc<dyn Fn() -> R + Send + Sync>, results: mpsc::Sender<_>| {
            move || {
                let result = catch_unwind(AssertUnwindSafe(|| f()));
                let _ = results.send(result.map_err(|panic| {
                    let text = panic.downcast_ref::<String>().cloned();
                    text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()))
                        .unwrap_or_default()
                }));
            }
        };
        let last = run(f.clone(), results.clone());
        FIRST.with(|exit| exit.0.replace(Some(Box::new(run(f, results)))));
        use_the_crate();
        LAST.with(|exit| exit.0.replace(Some(Box::new(last))));
    })
    .join()
    .unwrap();
    [ended.recv().unwrap(), ended.recv().unwrap()]
}

#[test]
fn a_write_inside_a_closure_that_owns_the_cell_panics() {
    let _dog = watchdog("a_write_inside_a_closure_that_owns_the_cell_panics");
    let results = at_exit(|| {
        let cell = VersionedCell::new(0);
        let attempts = Cell::new(0);
        let written = catch_unwind(AssertUnwindSafe(|| {
            atomically(|tx| {
                attempts.set(attempts.get() + 1);
                let n = *tx.read(&cell)?;
                cell.set(n + 1);
                tx.set(&cell, n)
            });
        }));
        (written.is_err(), attempts.get())
    });
    for result in results {
        let (panicked, attempts) = result.unwrap();
        assert!(panicked && attempts <= 4, "{attempts}");
    }
}

/// A transaction of the same thread loses until the outer one owns the cell. Then it would wait for
/// itself.
#[test]
fn a_transaction_inside_another_that_owns_the_cell_panics() {
    let _dog = watchdog("a_transaction_inside_another_that_owns_the_cell_panics");
    let results = at_exit(|| {
        let cell = VersionedCell::new(0);
        atomically(|tx| {
            let n = *tx.read(&cell)?;
            atomically(|tx| tx.set(&cell, n + 1));
            tx.set(&cell, n)
        });
    });
    for result in results {
        let text = result.expect_err("the inner transaction waits for the outer one");
        assert!(text.contains("owned by an outer transaction"), "{text}");
    }
}

#[test]
fn a_wait_for_a_cell_that_the_closure_owns_panics() {
    let _dog = watchdog("a_wait_for_a_cell_that_the_closure_owns_panics");
    let results = at_exit(|| {
        let cell = VersionedCell::new(0);
        atomically(|tx| {
            let n = *tx.read(&cell)?;
            // Until the outer transaction owns the cell.
            let version = tx.version(&cell)?;
            if version.get() >= 3 {
                cell.wait_changed_for(version, Duration::from_secs(30));
            }
            atomically(|tx| tx.set(&cell, n + 1));
            tx.set(&cell, n)
        });
    });
    for result in results {
        let text = result.expect_err("the closure waits for itself");
        assert!(text.contains("inside"), "{text}");
    }
}

/// A destructor that releases other values does so from the outermost call, however many there are.
#[test]
fn destructors_do_not_nest() {
    const VALUES: u32 = 1_000;
    thread_local! {
        static DEPTH: Cell<u32> = const { Cell::new(0) };
    }
    struct Flushes(Arc<AtomicU32>);
    impl Drop for Flushes {
        fn drop(&mut self) {
            let depth = DEPTH.replace(DEPTH.get() + 1);
            assert_eq!(depth, 0, "a destructor runs inside another");
            latchwork::flush();
            DEPTH.set(depth);
            self.0.fetch_add(1, Relaxed);
        }
    }
    let _dog = watchdog("destructors_do_not_nest");
    let results = at_exit(|| {
        let dropped = Arc::new(AtomicU32::new(0));
        // The garbage of a thread that ends is left to others.
        thread::spawn({
            let dropped = dropped.clone();
            move || {
                let cell = VersionedCell::new(None);
                for _ in 0..VALUES {
                    cell.set(Some(Flushes(dropped.clone())));
                }
                // All of them are retired, and none is dropped with the cell.
                cell.set(None);
            }
        })
        .join()
        .unwrap();
        while dropped.load(Relaxed) < VALUES {
            latchwork::flush();
            thread::yield_now();
        }
    });
    results.into_iter().for_each(Result::unwrap);
}

#[test]
fn a_key_is_waited_for() {
    let _dog = watchdog("a_key_is_waited_for");
    let table: Arc<LockTable<u32>> = Arc::new(LockTable::new());
    let results = at_exit({
        let table = table.clone();
        move || {
            let (held, holds) = mpsc::channel();
            thread::scope(|s| {
                s.spawn(|| {
                    let guard = table.lock(&7);
                    held.send(()).unwrap();
                    while table.inspect().iter().all(|lock| lock.waiters.is_empty()) {
                        thread::yield_now();
                    }
                    drop(guard);
                });
                holds.recv().unwrap();
                drop(table.lock(&7));
                table.session().lock(&7).unwrap();
            });
        }
    });
    results.into_iter().for_each(Result::unwrap);
    assert_eq!(table.locked_count(), 0);
}

#[test]
#[cfg(any(debug_assertions, feature = "order-checks"))]
fn a_checked_lock_that_its_thread_holds_panics() {
    let _dog = watchdog("a_checked_lock_that_its_thread_holds_panics");
    let results = at_exit(|| {
        let lock = checked::Mutex::new(0);
        let _guard = lock.lock();
        drop(lock.lock());
    });
    for result in results {
        let text = result.expect_err("it waits for itself");
        assert!(text.contains("a lock that it already holds"), "{text}");
    }
}

/// Locks by key, sessions, single flights, cells, transactions and latches work there.
#[test]
fn each_feature_works_there() {
    let _watchdog = watchdog("each_feature_works_there");
    let table: Arc<LockTable<u32>> = Arc::default();
    let flights: Arc<SingleFlight<u32, u32>> = Arc::default();
    let (cell, latch) = (VersionedCell::new(0), OptimisticLatch::new(7));
    let both = Arc::new((cell, latch));
    let results = at_exit({
        let (table, flights, both) = (table.clone(), flights.clone(), both.clone());
        move || {
            let (cell, latch) = &*both;
            let mut session = table.session();
            session.lock(&1).unwrap();
            session.lock_shared(&2).unwrap();
            session.lock(&2).unwrap();
            let mut other = table.session().policy(Policy::WaitDie);
            assert!(matches!(other.lock(&3), Ok(())));
            session.release_all();
            drop((session, other));
            let keys = [(&1, Mode::Shared), (&2, Mode::Exclusive)];
            assert_eq!(table.lock_all(keys).len(), 2);
            assert_eq!(flights.run(1, || 7), 7);
            let seen = cell.update(|n| n + 1);
            assert_eq!(cell.wait_changed_for(seen, Duration::ZERO), None);
            atomically(|tx| tx.update(cell, |n| n + 1));
            drop(latch.exclusive().unwrap());
            latchwork::flush();
            (
                snapshot(|view| *view.read(cell)),
                latch.optimistic_read(|n| *n).unwrap(),
            )
        }
    });
    assert_eq!(results, [Ok((2, 7)), Ok((4, 7))]);
    assert_eq!((table.locked_count(), flights.in_flight()), (0, 0));
}

/// Runs `then` in an attempt of a transaction that has lost three times, and so has an age. The
/// transaction writes `cell`, and owns it then.
fn with_an_age(cell: &VersionedCell<u32>, then: impl Fn()) {
    let attempts = Cell::new(0);
    atomically(|tx| {
        attempts.set(attempts.get() + 1);
        let n = *tx.read(cell)?;
        if attempts.get() <= 3 {
            atomically(|tx| tx.set(cell, n + 1));
        }
        tx.set(cell, n + 1)?;
        if attempts.get() > 3 {
            then();
        }
        Ok(())
    });
}

/// A direct write there has the age of the transaction around it: it aborts a younger transaction
/// that owns its cell, and does not wait for it.
#[test]
fn a_write_has_the_age_of_the_transaction_around_it() {
    let _dog = watchdog("a_write_has_the_age_of_the_transaction_around_it");
    let results = at_exit(|| {
        let [old, young] = [0, 0].map(|n| Arc::new(VersionedCell::new(n)));
        let late = Arc::new(AtomicU32::new(0));
        with_an_age(&old, || {
            let (owned, is_owned) = mpsc::channel();
            let (written, is_written) = mpsc::channel::<()>();
            let (theirs, late) = (young.clone(), late.clone());
            let other = thread::spawn(move || {
                with_an_age(&theirs, || {
                    let _ = owned.send(());
                    let wait = is_written.recv_timeout(Duration::from_secs(20));
                    if wait == Err(mpsc::RecvTimeoutError::Timeout) {
                        late.fetch_add(1, Relaxed);
                    }
                });
            });
            is_owned.recv().unwrap();
            young.set(100);
            drop(written);
            other.join().unwrap();
        });
        (young.get(), late.load(Relaxed))
    });
    assert_eq!(results, [Ok((101, 0)), Ok((101, 0))]);
}
