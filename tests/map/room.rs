//! Entries whose nodes lie in them, with values that stay longer than the entry, the map and the
//! thread.

use std::cell::RefCell;
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
