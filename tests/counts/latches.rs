//! What latches and ordered locks cost: optimistic reads write nothing, and levels are not in the
//! machine code.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::heap::allocations;
use super::{count, done};
use latchwork::latch::{Coupled, Coupling, Link, OptimisticLatch, Unlinked};
use latchwork::ordered::{OrderedMutex, RootToken, checked};

/// Asserts what one call of `f` does to shared memory, and allocates.
fn costs(what: &str, rmws: u64, instructions: u64, f: impl Fn()) {
    // Once for what is done at the first use.
    f();
    let steps = count(what, &f);
    assert_eq!(steps.rmws, rmws, "{what}: atomic read-modify-writes");
    assert_eq!(steps.fences, 0, "{what}: fences");
    if !cfg!(debug_assertions) {
        assert!(steps.instructions <= instructions, "{what}: {steps}");
    }
    assert_eq!(allocations(&f), 0, "{what}: allocations");
}

#[test]
fn reads_and_holds_of_a_latch() {
    let _alone = super::alone();
    let latch = OptimisticLatch::new([const { AtomicU64::new(7) }; 2]);
    let latch = || black_box(&latch);
    costs("optimistic_read of two words", 0, 40, || {
        let read = latch().optimistic_read(|two| two[0].load(Relaxed) ^ two[1].load(Relaxed));
        done(read);
    });
    costs("version and is_current", 0, 40, || {
        done(latch().version().map(|version| latch().is_current(version)));
    });
    costs("shared", 2, 60, || drop(latch().shared()));
    costs("exclusive", 2, 60, || drop(latch().exclusive()));
    costs("version and upgrade", 2, 60, || {
        drop(latch().version().map(|version| latch().upgrade(version)));
    });
}

/// A latch in a page that must not be written: that nothing is written takes no trust in a count of
/// atomics.
#[test]
fn an_optimistic_read_writes_nothing_that_others_share() {
    let _alone = super::alone();
    type Latch = OptimisticLatch<AtomicU64>;
    const PAGE: usize = 4096;
    // SAFETY: a new mapping, which replaces none.
    let page = unsafe {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        libc::mmap(std::ptr::null_mut(), PAGE, access, kind, -1, 0)
    };
    assert_ne!(page, libc::MAP_FAILED);
    // SAFETY: the page is this test's, may be written, and is greater and better aligned than a
    // latch.
    unsafe { page.cast::<Latch>().write(Latch::new(AtomicU64::new(7))) };
    // SAFETY: as above.
    assert_eq!(unsafe { libc::mprotect(page, PAGE, libc::PROT_READ) }, 0);
    // SAFETY: written above, and only looked at until the page goes. Whoever writes it dies of it.
    let latch = unsafe { &*page.cast::<Latch>() };
    assert_eq!(latch.optimistic_read(|n| n.load(Relaxed)), Ok(7));
    let at = Coupled::begin(latch, Coupling::Optimistic).expect("in use");
    assert_eq!(at.read(|n| n.load(Relaxed)), Ok(7));
    assert!(!latch.is_obsolete());
    // SAFETY: nobody has it any more.
    unsafe { libc::munmap(page, PAGE) };
}

#[test]
fn steps_from_latch_to_latch() {
    let _alone = super::alone();
    struct Node(u64, Link<OptimisticLatch<Node>>);
    let mut list = OptimisticLatch::new(Node(0, Link::empty()));
    for number in 1..8 {
        let first = list.get_mut().1.swap(None);
        let node = Unlinked::new(OptimisticLatch::new(Node(number, first.into())));
        list.get_mut().1.swap(Some(node));
    }
    let pin = latchwork::pin();
    let walk = |coupling| {
        let mut at = Coupled::begin(black_box(&list), coupling).expect("in use");
        while at.step(|node| node.1.get(&pin)).expect("nobody writes") {}
        done(at.read(|node| node.0));
    };
    costs("8 nodes, optimistic", 0, 250, || walk(Coupling::Optimistic));
    costs("8 nodes, shared", 16, 700, || walk(Coupling::Shared));
    costs("8 nodes, exclusive", 16, 700, || walk(Coupling::Exclusive));
}

latchwork::levels! {
    /// First.
    pub(crate) One;
    /// Second.
    pub(crate) Two;
    /// Third.
    pub(crate) Three;
}

/// In an optimised build a key is nothing, and so is the watch of a checked lock, but for where the
/// compiler keeps what.
#[test]
fn levels_are_not_in_the_machine_code() {
    let _alone = super::alone();
    let mut root = RootToken::take().expect("this test has a thread of its own");
    let ordered = (
        OrderedMutex::<One, u64>::new(1),
        OrderedMutex::<Two, u64>::new(2),
        OrderedMutex::<Three, u64>::new(3),
    );
    let plain = [1, 2, 3].map(parking_lot::Mutex::<u64>::new);
    let learned = [1, 2, 3].map(checked::Mutex::<u64>::new);
    let root = std::cell::RefCell::new(&mut *root);

    let by_levels = || {
        let (ordered, root) = (black_box(&ordered), &mut **root.borrow_mut());
        let (mut a, mut key) = ordered.0.lock(root);
        let (mut b, mut key) = ordered.1.lock(&mut key);
        let (mut c, _) = ordered.2.lock(&mut key);
        (*a, *b, *c) = (*b, *c, *a);
    };
    let by_hand = || {
        let (plain, _root) = (black_box(&plain), &mut **root.borrow_mut());
        let (mut a, mut b, mut c) = (plain[0].lock(), plain[1].lock(), plain[2].lock());
        (*a, *b, *c) = (*b, *c, *a);
    };
    let by_learning = || {
        let (learned, _root) = (black_box(&learned), &mut **root.borrow_mut());
        let (mut a, mut b, mut c) = (learned[0].lock(), learned[1].lock(), learned[2].lock());
        (*a, *b, *c) = (*b, *c, *a);
    };
    by_learning();
    let by_levels = count("three OrderedMutex", by_levels);
    let by_hand = count("three parking_lot::Mutex", by_hand);
    let by_learning = count("three checked::Mutex", by_learning);
    assert_eq!((by_levels.rmws, by_hand.rmws), (6, 6));
    if !cfg!(debug_assertions) {
        assert_eq!(by_levels.instructions, by_hand.instructions);
    }
    if !checked::IS_ON {
        assert!(by_learning.instructions <= by_hand.instructions + 4);
        assert_eq!(
            size_of::<checked::Mutex<u64>>(),
            size_of::<parking_lot::Mutex<u64>>()
        );
    }
    assert_eq!(
        size_of::<OrderedMutex<One, u64>>(),
        size_of::<parking_lot::Mutex<u64>>()
    );
}
