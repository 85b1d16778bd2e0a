//! Entries whose first node lies in them: of all sizes and alignments, and with values that stay
//! longer than the entry, the map and the thread.

use std::cell::RefCell;
use std::fmt::Debug;
use std::hash::Hash;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::thread;

use latchwork::cell::OwnedVersioned;
use latchwork::{VersionedMap, snapshot};

use super::alone;
use super::common::watchdog;

/// Counts the objects that are alive, and has a number twice.
struct Counted {
    n: u64,
    copy: Box<u64>,
    alive: Arc<AtomicUsize>,
}

impl Counted {
    fn new(n: u64, alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, SeqCst);
        Counted {
            n,
            copy: Box::new(n),
            alive: alive.clone(),
        }
    }

    fn check(&self) {
        assert_eq!(self.n, *self.copy);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.check();
        self.alive.fetch_sub(1, SeqCst);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(align(16))]
struct Aligned16(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(align(64))]
struct Aligned64(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(align(128))]
struct Aligned128(u64);

/// Replaces, removes and inserts all keys some times, and keeps each value by a reference.
fn check_layout<K, V>(key: impl Fn(u8) -> K, value: impl Fn(u8) -> V)
where
    K: Eq + Hash + Send + Sync + 'static,
    V: PartialEq + Debug + Send + Sync + 'static,
{
    let map = VersionedMap::new();
    let mut kept: Vec<(OwnedVersioned<V>, u8)> = Vec::new();
    for round in 0..4_u8 {
        for n in 0..12 {
            map.insert(key(n), value(n + round));
            // An update finds the room used, or free after the flush.
            for _ in 0..n % 4 {
                map.update(&key(n), |_| value(n + round));
                latchwork::flush();
            }
            let owned = map.get_owned(&key(n)).expect("it was inserted");
            assert_eq!(ptr::from_ref(&*owned).addr() % align_of::<V>(), 0);
            kept.push((owned, n + round));
            if n % 3 == 0 {
                map.remove(&key(n));
            }
        }
        map.flush();
        for (owned, n) in &kept {
            assert_eq!(**owned, value(*n));
        }
        // Half of the values leave in each round, so that entries and nodes leave in any order.
        let mut n = 0;
        kept.retain(|_| {
            n += 1;
            n % 2 == 0
        });
    }
    drop(map);
    latchwork::flush();
    for (owned, n) in kept {
        assert_eq!(owned.into_value().expect("it is the last"), value(n));
    }
}

#[test]
fn entries_of_any_layout_keep_their_values() {
    macro_rules! check_sizes {
        ($($size:literal)+) => {
            $(
                check_layout(|n| [n; $size], u64::from);
                check_layout(u64::from, |n| [n; $size]);
            )+
        };
    }
    let _alone = alone();
    let _watchdog = watchdog("entries_of_any_layout_keep_their_values");
    check_layout(|_| (), |_| ());
    check_layout(|_| (), |n| n);
    check_layout(|n| n, |_| ());
    check_layout(|n| n.to_string(), |n| n.to_string());
    check_layout(u64::from, |n| Aligned16(n.into()));
    check_layout(u64::from, |n| Aligned64(n.into()));
    check_layout(u64::from, |n| Aligned128(n.into()));
    check_layout(|n| Aligned16(n.into()), u64::from);
    check_layout(|n| Aligned64(n.into()), u64::from);
    check_layout(|n| [n; 3], |n| Aligned16(n.into()));
    check_layout(|n| Aligned16(n.into()), |n| Aligned16(n.into()));
    check_layout(|n| Aligned64(n.into()), |n| Aligned64(n.into()));
    check_layout(|n| Aligned128(n.into()), |n| Aligned128(n.into()));
    // The rooms behind the largest keys begin at 2040 bytes.
    check_sizes!(1 3 4 8 12 20 24 32 40 64 100 2000 2008 2016 2024 2032 2040 4096);
}

/// The references are released while the thread is torn down, before or after the state that the
/// crate has of the thread.
#[test]
fn values_in_thread_locals_outlive_their_map() {
    thread_local! {
        static KEPT: RefCell<Vec<OwnedVersioned<Counted>>> = const { RefCell::new(Vec::new()) };
    }
    fn keep(value: Option<OwnedVersioned<Counted>>) {
        KEPT.with_borrow_mut(|kept| kept.extend(value));
    }
    let _alone = alone();
    let _watchdog = watchdog("values_in_thread_locals_outlive_their_map");
    let alive = Arc::new(AtomicUsize::new(0));
    for round in 0..8 {
        let map = VersionedMap::new();
        for n in 0..20 {
            map.insert(n, Counted::new(n, &alive));
        }
        let map = Arc::new(map);
        let threads = [0, 1].map(|t| {
            let (map, alive) = (map.clone(), alive.clone());
            thread::spawn(move || {
                if round % 2 == 0 {
                    // It is made first, and ends last.
                    keep(None);
                }
                for n in 0..20 {
                    keep(map.get_owned(&n));
                    map.update(&n, |value| Counted::new(value.n, &alive));
                    keep(map.get_owned(&n));
                    if (n + t) % 3 == 0 {
                        map.remove(&n);
                        map.flush();
                    }
                }
            })
        });
        drop(map);
        for thread in threads {
            thread.join().unwrap();
        }
        latchwork::flush();
        assert_eq!(alive.load(SeqCst), 0);
    }
}

/// One thread updates an entry, one removes and inserts it, one reads it from a snapshot and keeps
/// its values. Each value is dropped once.
#[test]
fn updates_beside_removals_drop_each_value_once() {
    const ROUNDS: u64 = 3000;
    let _alone = alone();
    let _watchdog = watchdog("updates_beside_removals_drop_each_value_once");
    let alive = Arc::new(AtomicUsize::new(0));
    let map = VersionedMap::new();
    let begin = Barrier::new(3);
    thread::scope(|s| {
        s.spawn(|| {
            begin.wait();
            for n in 0..ROUNDS {
                map.update(&0, |_| Counted::new(n, &alive));
                if n % 5 == 0 {
                    latchwork::flush();
                }
            }
        });
        s.spawn(|| {
            begin.wait();
            for n in 0..ROUNDS {
                map.insert(0, Counted::new(n, &alive));
                if let Some(old) = map.remove(&0) {
                    old.check();
                }
                if n % 7 == 0 {
                    map.flush();
                }
            }
        });
        s.spawn(|| {
            begin.wait();
            let mut kept = Vec::new();
            for n in 0..ROUNDS as usize {
                kept.extend(map.get_owned(&0));
                snapshot(|view| {
                    let seen = view.get(&map, &0);
                    map.update(&0, |_| Counted::new(0, &alive));
                    for value in [seen, view.get(&map, &0)].into_iter().flatten() {
                        value.check();
                    }
                });
                if n % 16 == 0 {
                    kept.drain(..).for_each(|value| value.check());
                }
            }
        });
    });
    drop(map);
    latchwork::flush();
    assert_eq!(alive.load(SeqCst), 0);
}
