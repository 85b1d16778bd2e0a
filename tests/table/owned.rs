//! Guards, sets and futures that own a share of their table keep it for as long as they need it,
//! and no longer.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, OnceLock, Weak};
use std::thread;

use crate::common::hashers::{Place, PlaceHasher};
use crate::common::tasks::{now, poll};
use crate::common::{Rng, watchdog};
use latchwork::{
    Fairness, LockTable, Mode,
    table::{
        OwnedExclusiveGuard, OwnedLockAllFuture, OwnedLockFuture, OwnedLockSet, OwnedSharedGuard,
        OwnedSharedLockFuture,
    },
};

/// Counts itself while it lives, and with it the table whose hasher it is.
struct Census(Arc<AtomicUsize>);

impl Census {
    fn new(alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, Ordering::SeqCst);
        Census(alive.clone())
    }
}

impl Drop for Census {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl BuildHasher for Census {
    type Hasher = PlaceHasher;

    fn build_hasher(&self) -> PlaceHasher {
        Place::Identity.build_hasher()
    }
}

type Table = LockTable<u64, Census>;

/// A table that says when it goes.
struct Watched {
    table: Option<Arc<Table>>,
    weak: Weak<Table>,
    alive: Arc<AtomicUsize>,
}

impl Watched {
    fn new() -> Self {
        let alive = Arc::default();
        let table = LockTable::<u64>::builder()
            .hasher(Census::new(&alive))
            .expected_locks(1)
            .fairness(Fairness::Fifo);
        let table = Arc::new(table.build());
        Watched {
            weak: Arc::downgrade(&table),
            table: Some(table),
            alive,
        }
    }

    fn table(&self) -> &Arc<Table> {
        self.table.as_ref().expect("not let go yet")
    }

    /// Drops the share that the test has. The table stays, for `shares` others.
    #[track_caller]
    fn let_go(&mut self, shares: usize) {
        self.table = None;
        assert_eq!(self.weak.strong_count(), shares);
        assert_eq!(self.alive.load(Ordering::SeqCst), 1);
    }

    /// The table is gone, with its hasher and so with all that was in it.
    #[track_caller]
    fn assert_gone(&self) {
        assert_eq!(self.weak.strong_count(), 0);
        assert_eq!(self.alive.load(Ordering::SeqCst), 0);
    }
}

/// Drops `value` on a thread of its own.
fn drop_elsewhere(value: impl Send + 'static) {
    thread::spawn(move || drop(value))
        .join()
        .expect("nothing panics there");
}

type Call = fn(&Arc<Table>) -> Box<dyn Send>;

/// All calls that give something that owns a share.
const CALLS: [(&str, Call); 12] = [
    ("lock", |t| Box::new(t.lock_owned(&1))),
    ("lock_shared", |t| Box::new(t.lock_shared_owned(&1))),
    ("try_lock", |t| {
        Box::new(t.try_lock_owned(&1).expect("free"))
    }),
    ("try_lock_shared", |t| {
        Box::new(t.try_lock_shared_owned(&1).expect("free"))
    }),
    ("lock_all", |t| Box::new(t.lock_all_owned(pair()))),
    ("lock_async, unpolled", |t| Box::new(t.lock_async_owned(&1))),
    ("lock_shared_async, unpolled", |t| {
        Box::new(t.lock_shared_async_owned(&1))
    }),
    ("lock_all_async, unpolled", |t| {
        Box::new(t.lock_all_async_owned(pair()))
    }),
    ("lock_async", |t| Box::new(now(t.lock_async_owned(&1)))),
    ("lock_shared_async", |t| {
        Box::new(now(t.lock_shared_async_owned(&1)))
    }),
    ("lock_all_async", |t| {
        Box::new(now(t.lock_all_async_owned(pair())))
    }),
    ("lock, downgraded", |t| {
        Box::new(t.lock_owned(&1).downgrade())
    }),
];

fn pair() -> [(&'static u64, Mode); 2] {
    [(&1, Mode::Exclusive), (&2, Mode::Shared)]
}

#[test]
fn each_outlives_all_other_shares_and_frees_the_table_wherever_it_goes() {
    for (name, call) in CALLS {
        for elsewhere in [false, true] {
            println!("{name}, elsewhere: {elsewhere}");
            let mut watched = Watched::new();
            let owner = call(watched.table());
            watched.let_go(1);
            if elsewhere {
                drop_elsewhere(owner);
            } else {
                drop(owner);
            }
            watched.assert_gone();
        }
    }
}

#[test]
fn each_gives_its_key_and_its_share_back() {
    for (name, call) in CALLS {
        let watched = Watched::new();
        let fresh = watched.table().stats().index_bytes;
        for _ in 0..10 {
            let owner = call(watched.table());
            assert_eq!(watched.weak.strong_count(), 2, "{name}");
            drop_elsewhere(owner);
            assert_eq!(watched.weak.strong_count(), 1, "{name}");
            crate::common::assert_as_new(watched.table(), fresh);
        }
    }
}

#[test]
fn a_refusal_keeps_no_share() {
    let watched = Watched::new();
    let table = watched.table();
    let guard = table.lock(&1);
    assert!(table.try_lock_owned(&1).is_none());
    assert!(table.try_lock_shared_owned(&1).is_none());
    assert_eq!(watched.weak.strong_count(), 1);
    drop(guard);
    let reader = table.lock_shared_owned(&1);
    assert!(table.try_lock_owned(&1).is_none());
    assert_eq!(watched.weak.strong_count(), 2);
    let second = table.lock_shared_owned(&1);
    let reader = reader.try_upgrade().expect_err("another reads");
    assert_eq!(watched.weak.strong_count(), 3);
    drop((reader, second));
    assert_eq!(watched.weak.strong_count(), 1);
}

#[test]
fn a_guard_that_is_all_that_is_left_still_works() {
    let mut watched = Watched::new();
    let guard: OwnedExclusiveGuard<u64, Census> = watched.table().lock_owned(&1);
    watched.let_go(1);
    assert_eq!(guard.key_id().get(), 1);
    let first = guard.token();
    let mut reader: OwnedSharedGuard<u64, Census> = guard.downgrade();
    OwnedSharedGuard::bump(&mut reader);
    let mut guard = reader.try_upgrade().expect("nobody else is left");
    OwnedExclusiveGuard::bump(&mut guard);
    assert!(first < guard.token());
    assert!(format!("{guard:?}").contains("key_id"));
    // Others may come back to the table through it.
    let table = watched.weak.upgrade().expect("the guard has a share");
    assert_eq!(table.mode(&1), Some(Mode::Exclusive));
    drop(table);
    OwnedExclusiveGuard::unlock_fair(guard);
    watched.assert_gone();
}

#[test]
fn a_set_that_is_all_that_is_left_still_works() {
    let mut watched = Watched::new();
    let keys: Vec<u64> = (1..=20).collect();
    let wanted = keys.iter().map(|key| (key, Mode::Exclusive));
    let mut set: OwnedLockSet<u64, Census> = watched.table().lock_all_owned(wanted);
    watched.let_go(1);
    assert_eq!((set.len(), set.mode(&7)), (20, Some(Mode::Exclusive)));
    assert!(set.token(&7) < set.token(&7));
    for key in &keys {
        assert!(set.unlock(key));
        assert!(!set.contains(key));
    }
    assert!(set.is_empty());
    assert_eq!(
        watched.weak.strong_count(),
        1,
        "an empty set keeps its share"
    );
    drop_elsewhere(set);
    watched.assert_gone();
}

#[test]
fn futures_that_wait_for_each_other_are_all_that_is_left() {
    let mut watched = Watched::new();
    let table = watched.table();
    let guard = table.lock_owned(&1);
    let mut first: OwnedLockFuture<u64, Census> = table.lock_async_owned(&1);
    let mut second: OwnedSharedLockFuture<u64, Census> = table.lock_shared_async_owned(&1);
    let mut third: OwnedLockAllFuture<u64, Census> = table.lock_all_async_owned(pair());
    let mut fourth: OwnedLockFuture<u64, Census> = table.lock_async_owned(&1);
    assert!(poll(&mut first).is_pending());
    assert!(poll(&mut second).is_pending());
    assert!(poll(&mut third).is_pending());
    assert!(poll(&mut fourth).is_pending());
    watched.let_go(5);
    drop_elsewhere(guard);
    // The share goes from the future to what it gives.
    let guard = now(&mut first);
    assert_eq!(watched.weak.strong_count(), 4);
    drop(first);
    assert_eq!(watched.weak.strong_count(), 4);
    drop(guard);
    // One gives up what it was granted.
    drop_elsewhere(second);
    let set = now(third);
    assert_eq!((set.len(), watched.weak.strong_count()), (2, 2));
    drop(set);
    drop_elsewhere(fourth);
    watched.assert_gone();
}

#[test]
fn a_forgotten_guard_keeps_its_key_and_its_share_and_nothing_worse() {
    /// The table is there for ever, and here is who knows: to a sanitizer, only what nobody knows
    /// of has leaked.
    static FORGOTTEN: OnceLock<Weak<Table>> = OnceLock::new();
    let mut watched = Watched::new();
    let table = watched.table();
    let guard = table.lock_owned(&1);
    let mut future = table.lock_async_owned(&1);
    assert!(poll(&mut future).is_pending());
    std::mem::forget(guard);
    watched.let_go(2);
    drop_elsewhere(future);
    assert_eq!(watched.weak.strong_count(), 1);
    let table = watched.weak.upgrade().expect("forgotten, not gone");
    assert_eq!((table.locked_count(), table.stats().waiting), (1, 0));
    FORGOTTEN.set(watched.weak).expect("this test runs once");
}

#[test]
fn threads_that_let_go_at_once_free_the_table_once() {
    const THREADS: u64 = 4;
    let _dog = watchdog("threads_that_let_go_at_once_free_the_table_once");
    for round in 0..200 {
        let mut watched = Watched::new();
        let start = Arc::new(Barrier::new(THREADS as usize));
        let threads: Vec<_> = (0..THREADS)
            .map(|i| {
                let (table, start) = (watched.table().clone(), start.clone());
                thread::spawn(move || {
                    let mut rng = Rng::new(round * THREADS + i);
                    start.wait();
                    for _ in 0..rng.below(20) {
                        drop(table.lock_owned(&rng.below(2)));
                    }
                    match rng.below(4) {
                        0 => drop_after(table.lock_owned(&1), table),
                        1 => drop_after(table.lock_shared_owned(&1), table),
                        2 => drop_after(table.lock_all_owned(pair()), table),
                        _ => {
                            let mut future = table.lock_async_owned(&1);
                            // Ready or not, what there is goes last.
                            let polled = poll(&mut future);
                            drop_after((polled, future), table);
                        }
                    }
                })
            })
            .collect();
        watched.table = None;
        for thread in threads {
            thread.join().expect("nothing panics there");
        }
        watched.assert_gone();
    }
}

/// Drops the table first, and then what owns a share of it.
fn drop_after(owner: impl Send, table: Arc<Table>) {
    drop(table);
    drop(owner);
}
