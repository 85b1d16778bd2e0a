//! Locks of the keys of a map.

use std::collections::hash_map::DefaultHasher;
use std::future::Future;
use std::hash::{BuildHasher, Hasher};
use std::pin::pin;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use crate::alone;
use crate::common::watchdog;
use latchwork::session::LockError;
use latchwork::{
    RetryPolicy, Transaction, TxError, VersionedMap, atomically, cell::UpdateError, snapshot,
};

type Map = VersionedMap<u32, u32>;

fn map_of<const N: usize>(pairs: [(u32, u32); N]) -> Map {
    pairs.into_iter().collect()
}

/// Long enough for a thread to run into what blocks it.
const WHILE: Duration = Duration::from_millis(20);

#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

impl Bell {
    fn rung(&self) -> usize {
        self.0.load(SeqCst)
    }
}

#[test]
fn a_draft_is_published_by_commit_alone() {
    let _alone = alone();
    let map = map_of([(1, 10)]);
    let first = map.version(&1);
    let mut guard = map.lock(&1);
    assert_eq!(
        (guard.key(), guard.get(), guard.version()),
        (&1, Some(&10), first)
    );
    guard.set(11);
    assert_eq!(guard.get(), Some(&11));
    assert_eq!(map.get(&1).as_deref(), Some(&10));
    assert_eq!(snapshot(|s| s.get(&map, &1).copied()), Some(10));
    drop(guard);
    assert_eq!(
        (map.get(&1).as_deref(), map.version(&1)),
        (Some(&10), first)
    );

    let mut guard = map.lock(&1);
    *guard.value_mut().expect("present") += 5;
    *guard.value_mut().expect("present") += 5;
    let written = guard.commit();
    assert_eq!(written.map(|v| v.get()), first.map(|v| v.get() + 1));
    assert_eq!(
        (map.get(&1).as_deref(), map.version(&1)),
        (Some(&20), written)
    );

    assert_eq!(map.lock(&1).commit(), None);
    assert_eq!(map.version(&1), written);
}

#[test]
fn an_absent_key_is_inserted_removed_and_left_absent() {
    let _alone = alone();
    let map = map_of([]);
    let mut guard = map.lock(&1);
    assert_eq!((guard.get(), guard.version()), (None, None));
    assert!(guard.value_mut().is_none());
    assert!(!guard.remove());
    assert_eq!(guard.commit(), None);
    assert_eq!((map.len(), map.contains_key(&1)), (0, false));

    let mut guard = map.lock(&1);
    guard.set(7);
    assert!(map.get(&1).is_none() && map.is_empty());
    let inserted = guard.commit().expect("written");
    assert_eq!((map.len(), map.version(&1)), (1, Some(inserted)));

    let mut guard = map.lock(&1);
    assert!(guard.remove() && guard.get().is_none());
    assert!(map.contains_key(&1));
    let removed = guard.commit().expect("written");
    assert!(removed > inserted);
    assert_eq!((map.len(), map.contains_key(&1)), (0, false));
    map.flush();
    assert_eq!(map.stats().entries, 0);
}

/// A locked entry is not freed, whatever its record says, and an unlocked one is.
#[test]
fn a_locked_absent_key_stays_until_it_is_unlocked() {
    let _alone = alone();
    let map = map_of([(1, 1)]);
    map.remove(&1);
    let guards = [map.lock(&1), map.lock(&2)];
    for _ in 0..3 {
        map.flush();
        assert_eq!(map.stats().entries, 2);
    }
    drop(guards);
    map.flush();
    assert_eq!(map.stats().entries, 0);
    // Versions grow over the lock.
    let (version, _) = map.insert(1, 2);
    assert!(version.get() > 2);
}

/// What each kind of write does with a key that is locked: it waits, and acts upon the draft.
#[test]
fn writers_wait_for_the_lock() {
    let _alone = alone();
    let _watchdog = watchdog("writers_wait_for_the_lock");
    type Write = fn(&Map) -> u32;
    let writes: [(&str, Write); 8] = [
        ("insert", |map| *map.insert(1, 100).1.expect("present")),
        ("remove", |map| *map.remove(&1).expect("present")),
        ("insert_if_absent", |map| {
            u32::from(map.insert_if_absent(1, 100).is_err()) * 11
        }),
        ("update", |map| {
            let mut seen = 0;
            map.update(&1, |n| {
                seen = *n;
                100
            });
            seen
        }),
        ("upsert", |map| {
            let mut seen = 0;
            map.upsert(1, 100, |n| {
                seen = *n;
                100
            });
            seen
        }),
        ("compare_and_set", |map| {
            let version = map.version(&1).expect("present");
            u32::from(map.compare_and_set(&1, version, 100).is_err()) * 11
        }),
        ("transaction of one key", |map| {
            atomically(|tx| Ok(tx.insert(map, 1, 100)?.copied())).expect("present")
        }),
        ("transaction of two keys", |map| {
            atomically(|tx| {
                tx.insert(map, 2, 5)?;
                Ok(tx.insert(map, 1, 100)?.copied())
            })
            .expect("present")
        }),
    ];
    for (name, write) in writes {
        let map = &map_of([(1, 10)]);
        let mut guard = map.lock(&1);
        guard.set(11);
        thread::scope(|s| {
            let writer = s.spawn(move || write(map));
            thread::sleep(WHILE);
            let waits = matches!(name, "insert_if_absent");
            // A conditional insert is refused by the value that is there, without a wait.
            assert_eq!(writer.is_finished(), waits, "{name}");
            assert_eq!(map.get(&1).as_deref(), Some(&10), "{name}");
            guard.commit();
            assert_eq!(writer.join().expect("no panic"), 11, "{name}");
        });
    }
}

#[test]
fn an_insert_waits_for_the_lock_of_an_absent_key() {
    let _alone = alone();
    let _watchdog = watchdog("an_insert_waits_for_the_lock_of_an_absent_key");
    let map = &map_of([]);
    let mut guard = map.lock(&1);
    thread::scope(|s| {
        let writer = s.spawn(move || map.insert_if_absent(1, 2).is_err());
        let absent = s.spawn(move || atomically(|tx| Ok(tx.insert(map, 1, 3)?.copied())));
        thread::sleep(WHILE);
        assert!(!writer.is_finished() && !absent.is_finished());
        guard.set(1);
        guard.commit();
        assert!(writer.join().expect("no panic"));
        assert_eq!(absent.join().expect("no panic"), Some(1));
    });
}

/// A transaction that only reads a locked key does not wait for it.
#[test]
fn readers_do_not_wait_for_the_lock() {
    let _alone = alone();
    let _watchdog = watchdog("readers_do_not_wait_for_the_lock");
    let map = map_of([(1, 10), (2, 20)]);
    let mut guard = map.lock(&1);
    guard.set(99);
    let sum = atomically(|tx| {
        let sum = tx.get(&map, &1)?.copied().unwrap_or(0) + tx.get(&map, &2)?.copied().unwrap_or(0);
        tx.insert(&map, 2, sum)?;
        Ok(sum)
    });
    assert_eq!((sum, map.get(&2).as_deref()), (30, Some(&30)));
    assert_eq!(snapshot(|s| s.iter(&map).count()), 2);
    assert!(guard.commit().is_some());
}

#[test]
fn limits_end_the_wait_for_a_lock() {
    let _alone = alone();
    let _watchdog = watchdog("limits_end_the_wait_for_a_lock");
    let map = map_of([(1, 10)]);
    let guard = map.lock(&1);
    assert!(map.try_lock(&1).is_none());
    let begin = Instant::now();
    assert!(map.try_lock_for(&1, WHILE).is_none());
    assert!(begin.elapsed() >= WHILE);
    let write =
        |transaction: Transaction| transaction.run(|tx| Ok(tx.insert(&map, 1, 0)?.is_some()));
    assert_eq!(
        write(Transaction::builder().timeout(WHILE)),
        Err(TxError::TimedOut)
    );
    let few = write(Transaction::builder().max_attempts(3));
    assert!(
        matches!(few, Err(TxError::Contended { attempts: 3, .. })),
        "{few:?}"
    );
    let late = RetryPolicy::timeout(WHILE);
    let late = map.try_update(&late, &1, |n| Ok::<_, ()>(n + 1));
    assert_eq!(late, Err(UpdateError::TimedOut));
    drop(guard);
    assert!(map.try_lock_for(&1, WHILE).is_some() && map.try_lock(&1).is_some());
    assert_eq!(map.get(&1).as_deref(), Some(&10));
}

#[test]
fn no_update_is_lost_among_locks_writes_and_transactions() {
    let _alone = alone();
    let _watchdog = watchdog("no_update_is_lost_among_locks_writes_and_transactions");
    const ROUNDS: u32 = 300;
    let map = &map_of([(1, 0), (2, 0)]);
    thread::scope(|s| {
        for t in 0..6_u32 {
            s.spawn(move || {
                for n in 0..ROUNDS {
                    let key = 1 + (n + t) % 2;
                    match t % 3 {
                        0 => {
                            let mut guard = map.lock(&key);
                            *guard.value_mut().expect("present") += 1;
                            if n % 7 == 0 {
                                thread::yield_now();
                            }
                            guard.commit();
                        }
                        1 => drop(map.update(&key, |n| n + 1)),
                        _ => atomically(|tx| {
                            let [a, b] = [1, 2].map(|key| (key, tx.get(map, &key)));
                            for (of, n) in [a, b] {
                                let n = *n?.expect("present");
                                tx.insert(map, of, n + u32::from(of == key))?;
                            }
                            Ok(())
                        }),
                    }
                }
            });
        }
    });
    let sum = snapshot(|s| s.iter(map).map(|(_, n)| *n).sum::<u32>());
    assert_eq!(sum, 6 * ROUNDS);
}

/// Counts live values.
#[derive(Clone)]
struct Live(#[allow(dead_code, reason = "counted")] Arc<()>);

#[test]
fn a_forgotten_guard_keeps_the_key_and_nothing_else() {
    let _alone = alone();
    let alive = Arc::new(());
    for consume in [false, true] {
        let map = VersionedMap::new();
        map.insert(1, Live(alive.clone()));
        map.insert(2, Live(alive.clone()));
        core::mem::forget(map.lock(&1));
        core::mem::forget(map.lock(&3));
        assert!(map.try_lock(&1).is_none() && map.try_lock(&3).is_none());
        assert!(map.get(&1).is_some());
        map.remove(&2);
        map.flush();
        assert_eq!(map.len(), 1);
        if consume {
            let pairs: Vec<_> = map.into_iter().collect();
            assert_eq!(pairs.len(), 1);
            assert!(
                pairs
                    .into_iter()
                    .all(|(key, value)| key == 1 && value.is_ok())
            );
        } else {
            drop(map);
        }
        latchwork::flush();
        assert_eq!(Arc::strong_count(&alive), 1);
    }
}

#[test]
fn a_guard_is_dropped_by_another_thread_and_by_a_panic() {
    let _alone = alone();
    let map = &map_of([(1, 10)]);
    let mut guard = map.lock(&1);
    guard.set(11);
    thread::scope(|s| {
        s.spawn(move || drop(guard));
    });
    let mut guard = map.try_lock(&1).expect("it is unlocked");
    guard.set(12);
    thread::scope(|s| {
        let committed = s.spawn(move || guard.commit());
        assert!(committed.join().expect("no panic").is_some());
    });
    let result = std::panic::catch_unwind(|| {
        let mut guard = map.lock(&1);
        guard.set(13);
        panic!("on purpose");
    });
    assert!(result.is_err());
    assert_eq!(map.try_lock(&1).expect("it is unlocked").get(), Some(&12));
}

#[test]
fn a_future_waits_and_is_granted_in_order() {
    let _alone = alone();
    let map = &map_of([(1, 10)]);
    let mut guard = map.lock(&1);
    let bells = [Arc::new(Bell::default()), Arc::new(Bell::default())];
    let wakers = bells.each_ref().map(|bell| Waker::from(bell.clone()));
    let mut first = Box::pin(map.lock_async(&1));
    let mut second = pin!(map.lock_async(&1));
    assert!(
        first
            .as_mut()
            .poll(&mut Context::from_waker(&wakers[0]))
            .is_pending()
    );
    assert!(
        second
            .as_mut()
            .poll(&mut Context::from_waker(&wakers[1]))
            .is_pending()
    );
    assert_eq!((bells[0].rung(), bells[1].rung()), (0, 0));
    guard.set(11);
    guard.commit();
    assert_eq!((bells[0].rung(), bells[1].rung()), (1, 0));
    // Granted, and dropped: the next one is woken.
    drop(first);
    assert_eq!(bells[1].rung(), 1);
    let polled = second.as_mut().poll(&mut Context::from_waker(&wakers[1]));
    let Poll::Ready(guard) = polled else {
        panic!("it was granted")
    };
    assert_eq!(guard.get(), Some(&11));
    drop(guard);
    assert!(map.try_lock(&1).is_some());
}

/// The task holds nothing while it waits, and is woken once, by the end of the lock.
#[test]
fn a_transaction_of_a_task_is_woken_by_the_end_of_the_lock() {
    let _alone = alone();
    for commits in [false, true] {
        let map = map_of([(1, 10), (2, 20)]);
        let mut guard = map.lock(&1);
        let runs = AtomicU32::new(0);
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(bell.clone());
        let mut future = pin!(Transaction::builder().run_async(|tx| {
            runs.fetch_add(1, SeqCst);
            let n = tx.get(&map, &1)?.copied().unwrap_or(0);
            tx.insert(&map, 2, n)?;
            tx.insert(&map, 1, n + 1)?;
            Ok(())
        }));
        let mut poll = || future.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(poll().is_pending() && poll().is_pending());
        assert_eq!((runs.load(SeqCst), bell.rung()), (1, 0));
        // Nothing is left in its way: the other key is free.
        assert!(map.update(&2, |n| n + 1).is_some());
        guard.set(30);
        match commits {
            true => assert!(guard.commit().is_some()),
            false => drop(guard),
        }
        assert_eq!(bell.rung(), 1);
        assert_eq!(poll(), Poll::Ready(Ok(())));
        assert_eq!(runs.load(SeqCst), 2);
        let n = if commits { 30 } else { 10 };
        assert_eq!(*map.get(&1).expect("present"), n + 1);
        assert_eq!(*map.get(&2).expect("present"), n);
    }
}

/// A thread that waits for a lock sleeps: its closure runs once before, and once after.
#[test]
fn a_transaction_of_a_thread_does_not_poll() {
    let _alone = alone();
    let _watchdog = watchdog("a_transaction_of_a_thread_does_not_poll");
    let map = &map_of([(1, 10)]);
    let runs = &AtomicU32::new(0);
    let guard = map.lock(&1);
    thread::scope(|s| {
        let writer = s.spawn(move || {
            atomically(|tx| {
                runs.fetch_add(1, SeqCst);
                let n = tx.get(map, &1)?.copied().unwrap_or(0);
                tx.insert(map, 1, n + 1)?;
                Ok(())
            });
        });
        thread::sleep(5 * WHILE);
        assert!(!writer.is_finished());
        assert_eq!(runs.load(SeqCst), 1);
        drop(guard);
        writer.join().expect("no panic");
        assert_eq!(runs.load(SeqCst), 2);
    });
    assert_eq!(map.get(&1).as_deref(), Some(&11));
}

#[derive(Clone, Copy, Default)]
struct Few;
struct FewHasher(DefaultHasher);
impl Hasher for FewHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }
    fn finish(&self) -> u64 {
        7
    }
}
impl BuildHasher for Few {
    type Hasher = FewHasher;
    fn build_hasher(&self) -> FewHasher {
        FewHasher(DefaultHasher::new())
    }
}

#[test]
fn keys_of_one_hash_have_one_lock_and_two_drafts() {
    let _alone = alone();
    let map: VersionedMap<u32, u32, Few> = [(1, 10), (2, 20)].into_iter().collect();
    let set = map.lock_all([&1]);
    assert!(map.try_lock(&2).is_none());
    drop(set);
    // A lock that no thread waits for does not lock the hash.
    let guards = [1, 2].map(|key| map.try_lock(&key).expect("it is free"));
    assert!(map.try_lock(&1).is_none());
    drop(guards);
    let mut set = map.lock_all(&[1, 2, 1, 3]);
    assert_eq!(set.len(), 3);
    for key in [1, 2, 3] {
        let mut entry = set.entry(&key).expect("held");
        let n = entry.get().copied().unwrap_or(0);
        entry.set(n + key);
    }
    assert!(set.entry(&4).is_none());
    assert_eq!(set.commit(), 3);
    let values = [1, 2, 3].map(|key| *map.get(&key).expect("present"));
    assert_eq!(values, [11, 22, 3]);
}

#[test]
fn a_set_that_is_dropped_leaves_all_keys() {
    let _alone = alone();
    let map = map_of([(1, 10), (2, 20)]);
    let mut set = map.lock_all(&[2, 1, 5]);
    set.entry(&1).expect("held").set(99);
    set.entry(&2).expect("held").remove();
    drop(set);
    assert_eq!(
        (map.get(&1).as_deref(), map.get(&2).as_deref()),
        (Some(&10), Some(&20))
    );
    assert!([1, 2, 5].iter().all(|key| map.try_lock(key).is_some()));
    map.flush();
    assert_eq!(map.stats().entries, 2);
}

#[test]
fn a_deadlock_of_two_sessions_has_one_victim() {
    let _alone = alone();
    let _watchdog = watchdog("a_deadlock_of_two_sessions_has_one_victim");
    let map = &map_of([(1, 0), (2, 0)]);
    let barrier = &std::sync::Barrier::new(2);
    let victims = &AtomicU32::new(0);
    thread::scope(|s| {
        for keys in [[1, 2], [2, 1]] {
            s.spawn(move || {
                let mut session = map.session().named(format!("from {}", keys[0]));
                for round in 0.. {
                    let done = (|| {
                        let mut first = session.lock(&keys[0])?;
                        *first.value_mut().expect("present") += 1;
                        if round == 0 {
                            barrier.wait();
                        }
                        let mut second = session.lock(&keys[1])?;
                        *second.value_mut().expect("present") += 1;
                        Ok::<_, LockError>(())
                    })();
                    match done {
                        Ok(()) => {
                            assert_eq!(session.commit(), 2);
                            break;
                        }
                        Err(LockError::Deadlock(report)) => {
                            assert_eq!(report.parties().len(), 2);
                            victims.fetch_add(1, SeqCst);
                            session.discard();
                        }
                        Err(other) => panic!("{other}"),
                    }
                }
            });
        }
    });
    assert_eq!(victims.load(SeqCst), 1);
    assert_eq!([1, 2].map(|key| *map.get(&key).expect("present")), [2, 2]);
}

/// A lock aborts a transaction that has not escalated, and waits for one that has.
#[test]
fn a_lock_waits_for_a_transaction_that_has_escalated() {
    let _alone = alone();
    let _watchdog = watchdog("a_lock_waits_for_a_transaction_that_has_escalated");
    let map = &map_of([(1, 10)]);
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(bell.clone());
    let mut future = Box::pin(map.lock_async(&1));
    let (mut locks, mut waits) = (0, 0);
    atomically(|tx| {
        let n = tx.get(map, &1)?.copied().unwrap_or(0);
        let add = || {
            let guard = map.try_lock(&1);
            guard.map(|mut guard| {
                guard.set(n + 1);
                guard.commit()
            })
        };
        match thread::scope(|s| s.spawn(add).join().expect("no panic")) {
            Some(_) => locks += 1,
            None => {
                waits += 1;
                let future = future.as_mut();
                let poll = || future.poll(&mut Context::from_waker(&waker)).is_pending();
                assert!(thread::scope(|s| s.spawn(poll).join().expect("no panic")));
                assert_eq!(bell.rung(), 0);
            }
        }
        assert!(locks < 100, "it never escalates");
        tx.insert(map, 1, n + 100)?;
        Ok(())
    });
    assert!(locks > 0 && waits == 1);
    assert_eq!(bell.rung(), 1);
    let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
    let Poll::Ready(guard) = polled else {
        panic!("it was woken")
    };
    assert_eq!(guard.get(), Some(&(10 + locks + 100)));
}

#[test]
fn guards_fit_in_few_words_and_are_sent() {
    fn sent<T: Send + Sync>(_: &T) {}
    let _alone = alone();
    let map = map_of([]);
    let guard = map.lock(&1);
    sent(&guard);
    assert!(size_of_val(&guard) <= 48);
    drop(guard);
    sent(&map.lock_async(&1));
    sent(&map.session());
    sent(&map.lock_all(&[1]));
}

/// The destructor finds out whether a key is locked, as one would that writes the key.
struct Reports(Weak<VersionedMap<u32, Reports>>);

static ENDED: AtomicUsize = AtomicUsize::new(0);
static ENDED_LOCKED: AtomicUsize = AtomicUsize::new(0);

impl Drop for Reports {
    fn drop(&mut self) {
        let Some(map) = self.0.upgrade() else {
            return;
        };
        ENDED.fetch_add(1, SeqCst);
        if map.try_lock(&0).is_none() {
            ENDED_LOCKED.fetch_add(1, SeqCst);
        }
    }
}

#[test]
fn destructors_do_not_run_while_a_call_has_locked_a_key() {
    let _alone = alone();
    let _watchdog = watchdog("destructors_do_not_run_while_a_call_has_locked_a_key");
    let map = Arc::new(VersionedMap::new());
    let value = || Reports(Arc::downgrade(&map));
    map.insert(0, value());
    // Retires values, and waits until the next call collects some.
    let retire = || {
        for key in 0..40 {
            map.insert(1 + key % 20, value());
        }
        thread::sleep(WHILE);
    };
    for _ in 0..3 {
        retire();
        let mut guard = map.lock(&0);
        guard.set(value());
        retire();
        let before = ENDED_LOCKED.load(SeqCst);
        guard.commit();
        // While the guard was there, the inserts had to find the key locked.
        let during = ENDED_LOCKED.swap(0, SeqCst) - before;
        assert_eq!(during, 0, "in `commit`");

        retire();
        drop(map.try_lock(&0));
        retire();
        drop(map.lock_key(0));
        retire();
        map.lock_all([&0]).commit();
        retire();
        let mut session = map.session();
        session.lock(&0).expect("no other session").set(value());
        session.commit();
        retire();
        let mut future = pin!(map.lock_async(&0));
        let guard = future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        assert!(guard.is_ready());
        drop(guard);
        assert_eq!(ENDED_LOCKED.load(SeqCst), 0);
    }
    assert!(ENDED.load(SeqCst) > 0, "no destructor has run");
}

/// Panics when it is dropped.
struct Fails;

impl Drop for Fails {
    fn drop(&mut self) {
        // Not `panic!`: the hook would print a trace for a panic that the test wants.
        std::panic::resume_unwind(Box::new("a draft that panics"));
    }
}

#[test]
fn a_session_whose_end_panics_holds_no_key() {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// A waker that panics.
    struct Loud;
    impl Wake for Loud {
        fn wake(self: Arc<Self>) {
            std::panic::resume_unwind(Box::new("a waker that panics"));
        }
    }

    let _alone = alone();
    let map = VersionedMap::<u32, Option<Fails>>::new();
    let mut session = map.session();
    session.lock(&1).unwrap().set(Some(Fails));
    session.lock(&2).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| session.discard())).is_err());
    assert!(session.is_empty());
    assert!(map.try_lock(&1).is_some() && map.try_lock(&2).is_some());

    let mut changed = pin!(map.changed(&1, None));
    let loud = Waker::from(Arc::new(Loud));
    assert!(
        changed
            .as_mut()
            .poll(&mut Context::from_waker(&loud))
            .is_pending()
    );
    session.lock(&1).unwrap().set(None);
    session.lock(&2).unwrap().set(None);
    assert!(catch_unwind(AssertUnwindSafe(|| session.commit())).is_err());
    assert!(session.is_empty());
    assert!(map.try_lock(&1).is_some() && map.try_lock(&2).is_some());
    // The other key may be published before.
    assert!(map.get(&1).is_some());
}

/// A walk that removes keys waits for a locked one unpinned, in the queue of the lock.
#[test]
fn a_removal_of_all_keys_waits_for_a_lock_unpinned() {
    let _alone = alone();
    let _watchdog = watchdog("a_removal_of_all_keys_waits_for_a_lock_unpinned");
    let map = VersionedMap::<u32, Option<Arc<()>>>::new();
    let value = Arc::new(());
    for key in 0..10 {
        map.insert(key, Some(value.clone()));
    }
    let mut guard = map.lock(&3);
    thread::scope(|threads| {
        let visits = threads.spawn(|| {
            let mut visits = 0;
            map.retain(|key, _| {
                visits += u32::from(*key == 3);
                *key == 5
            });
            visits
        });
        // The other keys are removed, and what they had is dropped: the thread is not pinned.
        let end = Instant::now() + Duration::from_secs(20);
        while Arc::strong_count(&value) > 3 {
            assert!(Instant::now() < end, "{} are left", map.len());
            thread::sleep(Duration::from_millis(1));
            map.flush();
        }
        assert_eq!(map.len(), 2);
        guard.set(None);
        guard.commit();
        // Once when it was locked, again at most once for the attempt that found the lock unpinned,
        // and once with the lock.
        assert!((2..=3).contains(&visits.join().unwrap()));
    });
    assert_eq!(map.len(), 1);
    assert!(map.get(&5).is_some());
    drop(map);
}
