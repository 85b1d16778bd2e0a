//! What becomes of nodes when destructors of others panic where one is made or dropped, and of
//! nodes that have no size.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use latchwork::latch::{Link, Unlinked};

use crate::turn;

/// Says how many have gone, and panics where it is told to.
struct Bomb(bool, Arc<AtomicUsize>);

impl Drop for Bomb {
    fn drop(&mut self) {
        self.1.fetch_add(1, Relaxed);
        if self.0 {
            // Not `panic!`: the hook would print a trace for a panic the test wants.
            resume_unwind(Box::new("a destructor that panics"));
        }
    }
}

fn bombs(n: usize, gone: &Arc<AtomicUsize>) -> Vec<Unlinked<Bomb>> {
    (0..n)
        .map(|n| Unlinked::new(Bomb(n % 50 == 0, gone.clone())))
        .collect()
}

/// Drops what is due, which is all of them.
fn all_go(n: usize, gone: &AtomicUsize) {
    for _ in 0..10_000 {
        let _ = catch_unwind(latchwork::flush);
        if gone.load(Relaxed) == n {
            return;
        }
        thread::yield_now();
    }
    panic!("{} of {n} are gone", gone.load(Relaxed));
}

#[test]
fn a_destructor_that_panics_loses_no_node_that_is_dropped() {
    turn();
    const NODES: usize = 5_000;
    let gone = Arc::new(AtomicUsize::new(0));
    let dropped = bombs(NODES, &gone)
        .into_iter()
        .map(|node| catch_unwind(AssertUnwindSafe(|| drop(node))));
    let panics = dropped.filter(Result::is_err).count();
    assert!(panics > 0, "no destructor ran");
    all_go(NODES, &gone);
}

#[test]
fn what_hangs_in_a_link_goes_with_it() {
    turn();
    let gone = Arc::new(AtomicUsize::new(0));
    let node = Unlinked::new(Bomb(false, gone.clone()));
    let link = Link::from(Some(node));
    assert!(link.get(&latchwork::pin()).is_some());
    assert!(Link::<u8>::from(None).get(&latchwork::pin()).is_none());
    drop(link);
    all_go(1, &gone);
}

#[test]
fn a_node_that_is_dropped_in_a_panic_runs_no_destructor_of_others() {
    turn();
    const NODES: usize = 5_000;
    let gone = Arc::new(AtomicUsize::new(0));
    // A second panic would end the process.
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let _nodes = bombs(NODES, &gone);
        resume_unwind(Box::new("a panic"));
    }));
    assert!(unwound.is_err());
    all_go(NODES, &gone);
}

#[test]
fn a_node_may_have_no_size() {
    turn();
    #[derive(Debug, PartialEq)]
    #[repr(align(64))]
    struct Aligned;

    let (plain, aligned) = (Link::new(Unlinked::new(())), Link::empty());
    for _ in 0..1_000 {
        plain.swap(Some(Unlinked::new(())));
        aligned.swap(Some(Unlinked::new(Aligned)));
    }
    let pin = latchwork::pin();
    assert_eq!(
        (plain.get(&pin), aligned.get(&pin)),
        (Some(&()), Some(&Aligned))
    );
    assert_eq!(
        std::ptr::from_ref(aligned.get(&pin).unwrap()).addr() % 64,
        0
    );
}
