//! Latches: behaviour, bad input, and threads against an oracle.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use latchwork::latch::{
    Coupled, Coupling, ExclusiveGuard, Link, Obsolete, OptimisticLatch, Restart, Unlinked, traverse,
};

#[derive(Debug, Default)]
struct Pair(AtomicU64, AtomicU64);

impl Pair {
    fn add(&self) -> u64 {
        let old = self.0.load(Relaxed);
        self.0.store(old + 1, Relaxed);
        self.1.store(old + 1, Relaxed);
        old
    }

    fn get(&self) -> (u64, u64) {
        (self.0.load(Relaxed), self.1.load(Relaxed))
    }
}

#[test]
fn a_latch_is_a_word() {
    assert_eq!(size_of::<OptimisticLatch<()>>(), 8);
    assert_eq!(size_of::<OptimisticLatch<AtomicU64>>(), 16);
    assert_eq!(size_of::<Link<[u64; 100]>>(), 8);
}

#[test]
fn a_version_is_current_until_somebody_is_alone() {
    let latch = OptimisticLatch::new(());
    let version = latch.version().unwrap();
    drop(latch.shared().unwrap());
    assert!(latch.is_current(version) && !latch.is_obsolete());
    ExclusiveGuard::mark_obsolete(latch.exclusive().unwrap());
    assert!(!latch.is_current(version) && latch.is_obsolete());
}

/// The version stayed as it was, so that an earlier one was current and even upgraded.
#[test]
fn a_write_through_get_mut_is_not_missed() {
    let mut latch = OptimisticLatch::new(1);
    let version = latch.version().unwrap();
    *latch.get_mut() = 2;
    assert!(!latch.is_current(version));
    assert_eq!(latch.upgrade(version).unwrap_err(), Restart::Changed);
    let current = latch.version().unwrap();
    assert_eq!(*latch.upgrade(current).unwrap(), 2);

    // Neither a forgotten guard nor an obsolete latch becomes free by it.
    std::mem::forget(latch.shared().unwrap());
    *latch.get_mut() = 3;
    assert!(latch.try_exclusive().is_none() && latch.try_shared().is_some());
    let mut latch = OptimisticLatch::new(1);
    ExclusiveGuard::mark_obsolete(latch.exclusive().unwrap());
    *latch.get_mut() = 2;
    assert!(latch.is_obsolete());
}

#[test]
fn who_holds_it_keeps_out_whom_he_must() {
    let latch = OptimisticLatch::new(Pair::default());
    let one = latch.shared().unwrap();
    let other = latch.try_shared().expect("it is shared");
    assert!(latch.try_exclusive().is_none());
    drop((one, other));
    let alone = latch.exclusive().unwrap();
    assert!(latch.try_shared().is_none() && latch.try_exclusive().is_none());
    drop(alone);
    assert!(latch.try_exclusive().is_some());
}

#[test]
fn an_optimistic_read_shares_the_latch_when_it_must() {
    // The closure itself writes, by another latch's way in: each attempt fails but the one under
    // the latch.
    let latch = OptimisticLatch::new(Pair::default());
    let calls = AtomicU64::new(0);
    let seen = latch
        .optimistic_read(|pair| {
            calls.fetch_add(1, Relaxed);
            if let Some(guard) = latch.try_exclusive() {
                guard.add();
            }
            pair.get()
        })
        .unwrap();
    assert_eq!((calls.into_inner(), seen), (9, (8, 8)));
}

#[test]
fn readers_wait_for_a_holder_and_see_what_he_left() {
    let latch = Arc::new(OptimisticLatch::new(Pair::default()));
    let guard = latch.exclusive().unwrap();
    let readers: Vec<_> = (0..4)
        .map(|n| {
            let latch = latch.clone();
            thread::spawn(move || match n {
                0 => latch.optimistic_read(Pair::get).unwrap(),
                1 => latch.shared().unwrap().get(),
                2 => {
                    let version = latch.version().unwrap();
                    let seen = latch.peek().get();
                    assert!(latch.is_current(version));
                    seen
                }
                _ => latch.exclusive().unwrap().get(),
            })
        })
        .collect();
    thread::sleep(Duration::from_millis(20));
    guard.add();
    drop(guard);
    for reader in readers {
        assert_eq!(reader.join().unwrap(), (1, 1));
    }
}

/// Latches share queues of mutexes, and not of waiters.
#[test]
fn who_waits_for_one_latch_is_not_woken_for_another() {
    let latches = [1, 2].map(|n| OptimisticLatch::new(AtomicU64::new(n)));
    assert!(!format!("{latches:?}").contains("queued"));
    thread::scope(|s| {
        let [first, second] = [0, 1].map(|n| {
            let guard = latches[n].exclusive().unwrap();
            let latch = &latches[n];
            let waiter = s.spawn(|| latch.exclusive().unwrap().load(Relaxed));
            thread::sleep(Duration::from_millis(20));
            (guard, waiter)
        });
        drop(second.0);
        assert_eq!(second.1.join().unwrap(), 2);
        drop(first.0);
        assert_eq!(first.1.join().unwrap(), 1);
    });
}

#[test]
fn an_upgrade_is_for_the_version_that_was_read() {
    let latch = OptimisticLatch::new(Pair::default());
    let version = latch.version().unwrap();
    let shared = latch.shared().unwrap();
    assert_eq!(latch.upgrade(version).unwrap_err(), Restart::Changed);
    drop(shared);
    latch.upgrade(version).unwrap().add();
    assert_eq!(latch.upgrade(version).unwrap_err(), Restart::Changed);
    ExclusiveGuard::mark_obsolete(latch.exclusive().unwrap());
    assert_eq!(latch.upgrade(version).unwrap_err(), Restart::Obsolete);
}

#[test]
fn an_obsolete_latch_turns_everybody_away() {
    let latch = Arc::new(OptimisticLatch::new(Pair::default()));
    let before = Coupled::begin(&*latch, Coupling::Optimistic).unwrap();
    let guard = latch.exclusive().unwrap();
    let waiters: Vec<_> = (0..4)
        .map(|n| {
            let latch = latch.clone();
            thread::spawn(move || match n {
                0 => latch.optimistic_read(Pair::get).map(drop),
                1 => latch.shared().map(drop),
                2 => latch.exclusive().map(drop),
                _ => latch.version().map(drop),
            })
        })
        .collect();
    thread::sleep(Duration::from_millis(20));
    ExclusiveGuard::mark_obsolete(guard);
    for waiter in waiters {
        assert_eq!(waiter.join().unwrap(), Err(Obsolete));
    }
    assert!(latch.is_obsolete());
    assert!(latch.try_shared().is_none() && latch.try_exclusive().is_none());
    assert_eq!(before.validate(), Err(Restart::Obsolete));
    assert_eq!(before.into_exclusive().unwrap_err(), Restart::Obsolete);
    assert_eq!(
        Coupled::begin(&*latch, Coupling::Shared).unwrap_err(),
        Obsolete
    );
    assert!(Obsolete.to_string().contains("obsolete"));
    assert_eq!(Restart::Obsolete.to_string(), Obsolete.to_string());
}

#[test]
fn a_panic_gives_the_latch_back() {
    let latch = OptimisticLatch::new(Pair::default());
    let version = latch.version().unwrap();
    let panics = |f: &dyn Fn()| assert!(catch_unwind(AssertUnwindSafe(f)).is_err());
    panics(&|| latch.optimistic_read(|_| panic!("in an attempt")).unwrap());
    assert!(latch.is_current(version), "nothing was taken");
    // Under the latch, shared: every attempt before has failed.
    let calls = AtomicU64::new(0);
    panics(&|| {
        let read = latch.optimistic_read(|_| {
            calls.fetch_add(1, Relaxed);
            match latch.try_exclusive() {
                Some(guard) => {
                    guard.add();
                }
                None => panic!("under the latch"),
            }
        });
        read.unwrap();
    });
    assert_eq!(calls.load(Relaxed), 9);
    panics(&|| {
        let _guard = latch.exclusive().unwrap();
        panic!("alone");
    });
    panics(&|| {
        let mut at = Coupled::begin(&latch, Coupling::Exclusive).unwrap();
        let _ = at.step(|_| panic!("in a step"));
    });
    assert!(latch.try_exclusive().is_some());
}

#[test]
fn a_forgotten_guard_holds_and_nothing_worse() {
    let latch = OptimisticLatch::new(Pair::default());
    std::mem::forget(latch.shared().unwrap());
    assert!(latch.try_exclusive().is_none());
    assert_eq!(latch.optimistic_read(Pair::get), Ok((0, 0)));
    assert!(latch.try_shared().is_some());
    let latch = OptimisticLatch::new(Pair::default());
    std::mem::forget(latch.exclusive().unwrap());
    assert!(latch.try_shared().is_none());
}

#[test]
fn more_readers_than_are_counted_wait() {
    let latch = Arc::new(OptimisticLatch::new(Pair::default()));
    let mut guards: Vec<_> = (0..2047).map(|_| latch.shared().unwrap()).collect();
    assert!(latch.try_shared().is_none() && latch.try_exclusive().is_none());
    assert_eq!(
        latch.optimistic_read(Pair::get),
        Ok((0, 0)),
        "it writes nothing"
    );
    thread::scope(|s| {
        let late = s.spawn(|| latch.shared().unwrap().get());
        thread::sleep(Duration::from_millis(20));
        guards.pop();
        guards.clear();
        assert_eq!(late.join().unwrap(), (0, 0));
    });
    assert!(latch.try_exclusive().is_some());
}

/// A latch that is wanted again by the thread that holds it is refused where that is asked, and
/// waited for otherwise.
#[test]
fn a_thread_that_holds_it_is_refused_like_any_other() {
    let latch = OptimisticLatch::new(Pair::default());
    let _guard = latch.exclusive().unwrap();
    assert!(latch.try_exclusive().is_none() && latch.try_shared().is_none());
}

#[test]
fn a_latch_that_everybody_wants_makes_progress() {
    const EACH: u64 = if cfg!(debug_assertions) {
        3_000
    } else {
        20_000
    };
    let latch = OptimisticLatch::new(Pair::default());
    let reads = AtomicU64::new(0);
    thread::scope(|s| {
        for n in 0..8 {
            let (latch, reads) = (&latch, &reads);
            s.spawn(move || {
                for turn in 0..EACH {
                    match (n + turn) % 4 {
                        0 | 1 => {
                            latch.exclusive().unwrap().add();
                        }
                        2 => {
                            let (a, b) = latch.shared().unwrap().get();
                            assert_eq!(a, b);
                            reads.fetch_add(1, Relaxed);
                        }
                        _ => {
                            let (a, b) = latch.optimistic_read(Pair::get).unwrap();
                            assert_eq!(a, b, "torn");
                            reads.fetch_add(1, Relaxed);
                        }
                    }
                }
            });
        }
    });
    let writes = latch.peek().get();
    assert_eq!(writes, (4 * EACH, 4 * EACH), "a write is lost");
    assert_eq!(reads.into_inner(), 4 * EACH);
}

/// Who waits for a latch that others take again and again gets it.
#[test]
fn neither_starves_the_other() {
    let latch = OptimisticLatch::new(Pair::default());
    let stop = AtomicBool::new(false);
    thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| {
                while !stop.load(Relaxed) {
                    latch.shared().unwrap().get();
                }
            });
            s.spawn(|| {
                while !stop.load(Relaxed) {
                    latch.exclusive().unwrap().add();
                }
            });
        }
        for _ in 0..50 {
            latch.exclusive().unwrap().add();
            latch.shared().unwrap().get();
            latch.optimistic_read(Pair::get).unwrap();
        }
        stop.store(true, Relaxed);
    });
}

#[derive(Debug)]
struct Node {
    number: u64,
    next: Option<Box<OptimisticLatch<Node>>>,
}

fn chain(length: u64) -> OptimisticLatch<Node> {
    let mut next = None;
    for number in (1..length).rev() {
        next = Some(Box::new(OptimisticLatch::new(Node { number, next })));
    }
    OptimisticLatch::new(Node { number: 0, next })
}

#[test]
fn a_step_has_one_latch_at_a_time_and_never_none() {
    let list = chain(3);
    let second = list.peek().next.as_deref().unwrap();
    for (coupling, shares) in [(Coupling::Shared, true), (Coupling::Exclusive, false)] {
        let mut at = Coupled::begin(&list, coupling).unwrap();
        let held = |latch: &OptimisticLatch<Node>| latch.try_exclusive().is_none();
        assert!(held(&list) && !held(second));
        let ahead = at.ahead(|node| node.next.as_deref()).unwrap().unwrap();
        assert!(held(&list) && held(second));
        drop(ahead);
        assert!(at.step(|node| node.next.as_deref()).unwrap());
        assert!(!held(&list) && held(second));
        assert_eq!(second.try_shared().is_some(), shares);
        assert_eq!(
            (at.coupling(), at.read(|node| node.number)),
            (coupling, Ok(1))
        );
        assert!(at.step(|node| node.next.as_deref()).unwrap());
        assert!(!at.step(|node| node.next.as_deref()).unwrap(), "the end");
        assert_eq!(at.read(|node| node.number), Ok(2), "it stays there");
        assert_eq!(at.into_exclusive().is_ok(), !shares);
    }
}

#[test]
fn an_optimistic_step_fails_when_what_it_stands_on_changes() {
    let list = chain(3);
    let mut at = Coupled::begin(&list, Coupling::Optimistic).unwrap();
    drop(list.exclusive().unwrap());
    assert_eq!(at.step(|node| node.next.as_deref()), Err(Restart::Changed));
    assert_eq!(at.read(|node| node.number), Err(Restart::Changed));

    let mut at = Coupled::begin(&list, Coupling::Optimistic).unwrap();
    // The list changes while the step is on its way.
    let late = at.step(|node| {
        drop(list.exclusive().unwrap());
        node.next.as_deref()
    });
    assert_eq!(late, Err(Restart::Changed));
    let at = Coupled::begin(&list, Coupling::Optimistic).unwrap();
    assert_eq!(
        at.read(|_| drop(list.exclusive().unwrap())),
        Err(Restart::Changed)
    );
    // An upgrade of what is unchanged, and a latch that is gone ahead.
    let at = Coupled::begin(&list, Coupling::Optimistic).unwrap();
    let second = list.peek().next.as_deref().unwrap();
    ExclusiveGuard::mark_obsolete(second.exclusive().unwrap());
    let ahead = at.ahead(|node| node.next.as_deref());
    assert_eq!(ahead.unwrap_err(), Restart::Obsolete);
    assert_eq!(at.into_exclusive().unwrap().number, 0);
}

#[test]
fn a_traversal_takes_latches_after_a_few_failures() {
    let mut seen = Vec::new();
    traverse(Coupling::Exclusive, |coupling| {
        seen.push(coupling);
        if seen.len() < 11 {
            Err(Restart::Changed)
        } else {
            Ok(())
        }
    });
    assert_eq!(seen[..8], [Coupling::Optimistic; 8]);
    assert_eq!(seen[8..], [Coupling::Exclusive; 3]);
}

#[test]
fn they_say_what_they_are() {
    let latch = OptimisticLatch::new(7);
    let text = |value: &dyn std::fmt::Debug| format!("{value:?}");
    assert!(text(&latch).contains("version 0") && text(&latch).contains('7'));
    let guard = latch.exclusive().unwrap();
    assert!(text(&latch).contains("exclusive") && text(&guard).contains("ExclusiveGuard(7)"));
    drop(guard);
    let at = Coupled::begin(&latch, Coupling::Shared).unwrap();
    assert!(text(&at).contains("Shared") && text(&latch.shared().unwrap()).contains('7'));
    let link = Link::new(Unlinked::new(3));
    assert_eq!(text(&link), "Link(Some(3))");
    assert_eq!(text(&link.swap(None)), "Some(Unlinked(3))");
}
