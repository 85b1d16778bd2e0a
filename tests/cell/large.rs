//! Values that are larger than the stack of the thread that drops them: every value is dropped
//! where it lies.
#![cfg(not(any(latchwork_loom, latchwork_shuttle)))]

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::common::watchdog;
use latchwork::latch::{Link, Unlinked};
use latchwork::{Transaction, TxError, VersionedCell, atomically, txn::TxAbort};

/// Where each value was last seen, and where it was dropped.
#[derive(Clone, Default)]
struct Places(Arc<Mutex<BTreeMap<u32, Place>>>);

/// Where a value was read, and where it was dropped.
type Place = (usize, Option<usize>);

/// Long enough that no compiler moves it in registers.
struct Placed {
    number: u32,
    places: Places,
    _bytes: [u8; 4096],
}

impl Places {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, (usize, Option<usize>)>> {
        // A failure of one test is none of another that drops its values.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn value(&self, number: u32) -> Placed {
        Placed {
            number,
            places: self.clone(),
            _bytes: [0; 4096],
        }
    }

    /// Notes where a value lies now.
    fn note(&self, value: &Placed) {
        let place = core::ptr::from_ref(value).addr();
        self.lock().insert(value.number, (place, None));
    }

    /// Flushes until all values are dropped, and fails unless each of so many was dropped at the
    /// place at which it was seen. Pins of other tests may hold values back for a while.
    fn were_kept(&self, values: u32) {
        let is_dropped = |(_, dropped): &(usize, Option<usize>)| dropped.is_some();
        while !self.lock().values().all(is_dropped) {
            latchwork::flush();
            thread::yield_now();
        }
        let places = self.lock().clone();
        let numbers: Vec<u32> = places.keys().copied().collect();
        assert_eq!(numbers, (0..values).collect::<Vec<_>>());
        for (number, (seen, dropped)) in places {
            assert_eq!(Some(seen), dropped, "value {number} was moved");
        }
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        let place = core::ptr::from_ref(self).addr();
        let mut places = self.places.lock();
        if let Some((_, dropped)) = places.get_mut(&self.number) {
            // A second drop leaves another place.
            let before = dropped.replace(place);
            *dropped = before.map_or(*dropped, |_| Some(0));
        }
    }
}

#[test]
fn a_replaced_value_is_dropped_where_it_lies() {
    let _dog = watchdog("a_replaced_value_is_dropped_where_it_lies");
    let places = Places::default();
    let cell = VersionedCell::new(places.value(0));
    places.note(&cell.read());
    for n in 1..4 {
        cell.set(places.value(n));
        places.note(&cell.read());
    }
    // The last owner of a value may be a snapshot.
    let owned = cell.read_owned();
    drop(cell);
    latchwork::flush();
    drop(owned);
    places.were_kept(4);
}

#[test]
fn a_value_that_a_thread_leaves_behind_is_dropped_where_it_lies() {
    let _dog = watchdog("a_value_that_a_thread_leaves_behind_is_dropped_where_it_lies");
    let places = Places::default();
    let writer = thread::spawn({
        let places = places.clone();
        move || {
            let cell = VersionedCell::new(places.value(0));
            places.note(&cell.read());
            for n in 1..3 {
                cell.set(places.value(n));
                places.note(&cell.read());
            }
        }
    });
    writer.join().unwrap();
    places.were_kept(3);
}

#[test]
fn a_value_that_a_transaction_does_not_write_is_dropped_where_it_lies() {
    let _dog = watchdog("a_value_that_a_transaction_does_not_write_is_dropped_where_it_lies");
    let places = Places::default();
    let cell = VersionedCell::new(places.value(0));
    places.note(&cell.read());
    let (made, in_closure) = (AtomicUsize::new(1), &places);
    let value = || in_closure.value(made.fetch_add(1, Relaxed) as u32);
    // It is replaced before the commit.
    atomically(|tx| {
        for _ in 0..2 {
            tx.set(&cell, value())?;
            in_closure.note(tx.read(&cell)?);
        }
        Ok(())
    });
    // The alternative is undone.
    atomically(|tx| {
        let undone = |tx: &mut latchwork::Tx<'_, '_>| tx.retry();
        tx.or_else(
            |tx| {
                tx.set(&cell, value())?;
                in_closure.note(tx.read(&cell)?);
                undone(tx)
            },
            |_| Ok(()),
        )
    });
    // The transaction ends by an error.
    let aborted = Transaction::builder().try_run(|tx| {
        tx.set(&cell, value())?;
        in_closure.note(tx.read(&cell)?);
        Err::<(), _>(TxAbort::Transaction("enough"))
    });
    assert_eq!(aborted, Err(TxError::Aborted("enough")));
    // The closure panics.
    let panics = true;
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        atomically(|tx| {
            tx.set(&cell, value())?;
            in_closure.note(tx.read(&cell)?);
            if panics {
                std::panic::resume_unwind(Box::new(()));
            }
            Ok(())
        });
    }));
    assert!(panicked.is_err());
    drop(cell);
    places.were_kept(6);
}

#[test]
fn a_node_is_dropped_where_it_lies() {
    let _dog = watchdog("a_node_is_dropped_where_it_lies");
    let places = Places::default();
    let link = Link::new(Unlinked::new(places.value(0)));
    places.note(link.get(&latchwork::pin()).unwrap());
    let node = link.swap(Some(Unlinked::new(places.value(1))));
    places.note(link.get(&latchwork::pin()).unwrap());
    drop((node, link));
    places.were_kept(2);
}

/// As much as the smallest stacks of programs have.
const SMALL: usize = 64 << 10;

/// A value that no such stack has room for.
struct Large {
    dropped: Arc<AtomicUsize>,
    _bytes: [u8; 1 << 20],
}

impl Drop for Large {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Relaxed);
    }
}

/// Runs `f` on a stack of so many bytes. A panic of `f` is one of the caller.
fn on_stack<R: Send>(bytes: usize, f: impl FnOnce() -> R + Send) -> R {
    thread::scope(|scope| {
        let builder = thread::Builder::new().stack_size(bytes);
        let thread = builder.spawn_scoped(scope, f).unwrap();
        thread.join().unwrap()
    })
}

/// Makes something of large values, on a stack that has room for some of them.
fn make<R: Send>(f: impl FnOnce(&dyn Fn() -> Large) -> R + Send) -> (R, Arc<AtomicUsize>) {
    let dropped = Arc::new(AtomicUsize::new(0));
    let value = || Large {
        dropped: dropped.clone(),
        _bytes: [0; 1 << 20],
    };
    let made = on_stack(64 << 20, || f(&value));
    (made, dropped)
}

#[test]
fn large_values_of_other_threads_are_dropped_on_a_small_stack() {
    let _dog = watchdog("large_values_of_other_threads_are_dropped_on_a_small_stack");
    // By a flush, and by writes that have nothing to do with them.
    for flushes in [true, false] {
        let ((), dropped) = make(|value| {
            let cell = VersionedCell::new(value());
            for _ in 0..3 {
                cell.set(value());
            }
        });
        on_stack(SMALL, || {
            let small = VersionedCell::new(0);
            while dropped.load(Relaxed) < 4 {
                match flushes {
                    true => latchwork::flush(),
                    false => drop(small.update(|n| n + 1)),
                }
            }
        });
    }
}

#[test]
fn the_last_owner_of_a_large_value_has_a_small_stack() {
    let _dog = watchdog("the_last_owner_of_a_large_value_has_a_small_stack");
    let (parts, dropped) = make(|value| {
        let shared = VersionedCell::new(value());
        let owned = shared.read_owned();
        drop(shared);
        let link = Link::new(Unlinked::new(value()));
        (VersionedCell::new(value()), owned, link)
    });
    on_stack(SMALL, || {
        let (cell, owned, link) = parts;
        drop(cell);
        drop(owned);
        drop(link.swap(None));
        while dropped.load(Relaxed) < 3 {
            latchwork::flush();
        }
    });
}

/// A transaction that has lost often claims what it reads: a claim has the layout of a value, and
/// none on the stack.
#[test]
fn a_transaction_with_a_small_stack_owns_large_cells() {
    let _dog = watchdog("a_transaction_with_a_small_stack_owns_large_cells");
    let (large, dropped) = make(|value| VersionedCell::new(value()));
    // After so many losses it owns every cell that it reads.
    let lost_at = [(); 8].map(|()| VersionedCell::new(0));
    let other = VersionedCell::new(0);
    let attempts = AtomicUsize::new(0);
    on_stack(SMALL, || {
        atomically(|tx| {
            let attempt = attempts.fetch_add(1, Relaxed);
            tx.read(&large)?;
            if let Some(lost_at) = lost_at.get(attempt) {
                tx.read(lost_at)?;
                on_stack(SMALL, || lost_at.update(|n| n + 1));
            }
            tx.update(&other, |n| n + 1)
        });
        assert_eq!(attempts.load(Relaxed), 9);
        drop(large);
        while dropped.load(Relaxed) < 1 {
            latchwork::flush();
        }
    });
}
