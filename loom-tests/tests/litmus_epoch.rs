//! That crossbeam-epoch runs under loom, and that a value freed too early is seen.
//!
//! The value has a canary: a cell outside it, which its destructor writes and readers read. A
//! destructor that runs while a reader is still there is then a race on the canary, which loom
//! reports. Nothing is read after it was freed, not even by the broken twin.

use crossbeam_epoch::Collector;
use latchwork_loom_tests::Model;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::AtomicPtr;
use loom::sync::atomic::Ordering::{AcqRel, Acquire};
use loom::thread;

/// std's `Arc`: the canary adds no scheduling points, only the accesses to its cell matter.
#[derive(Clone)]
struct Canary(std::sync::Arc<Alive>);

struct Alive(UnsafeCell<bool>);

// SAFETY: loom checks each access to the cell; that is what the canary is for.
unsafe impl Send for Alive {}
// SAFETY: as above.
unsafe impl Sync for Alive {}

impl Canary {
    fn new() -> Self {
        Canary(std::sync::Arc::new(Alive(UnsafeCell::new(true))))
    }

    fn is_alive(&self) -> bool {
        // SAFETY: loom stops the model if the destructor below runs at the same time.
        self.0.0.with(|alive| unsafe { *alive })
    }
}

struct Value(Canary);

impl Drop for Value {
    fn drop(&mut self) {
        // SAFETY: as in `is_alive`.
        self.0.0.0.with_mut(|alive| unsafe { *alive = false });
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Reader {
    StaysPinned,
    UnpinsEarly,
}

/// One thread replaces and retires a value, the other looks at it.
fn replace_under_a_reader(reader: Reader) -> String {
    let collector = Collector::new();
    let canary = Canary::new();
    let first = Box::into_raw(Box::new(Value(canary.clone())));
    let slot = Arc::new(AtomicPtr::new(first));

    let writer = thread::spawn({
        let (collector, slot) = (collector.clone(), Arc::clone(&slot));
        move || {
            let local = collector.register();
            let guard = local.pin();
            let old = slot.swap(std::ptr::null_mut(), AcqRel);
            // SAFETY: the swap took the value out of the slot, so nobody who pins from now on finds
            // it.
            unsafe { guard.defer_unchecked(move || drop(Box::from_raw(old))) };
            drop(guard);
            // Each flush moves the epoch on by one at most; three are needed before anything is
            // freed, and without them this model does not see the early unpin.
            for _ in 0..3 {
                local.pin().flush();
            }
        }
    });

    let local = collector.register();
    let mut guard = Some(local.pin());
    let found = !slot.load(Acquire).is_null();
    if reader == Reader::UnpinsEarly {
        guard = None;
    }
    if found {
        assert!(canary.is_alive(), "freed under a reader");
    }
    drop(guard);
    writer.join().unwrap();
    // Freed while the model ran, and not by the collector going away: reclamation itself is in the
    // model.
    format!(
        "{}, {}",
        if found { "found" } else { "gone" },
        if canary.is_alive() { "kept" } else { "freed" }
    )
}

#[test]
fn pinned_reader_keeps_the_value() {
    Model::new("a pinned reader")
        .preemptions(Some(2))
        .outcomes(&["found, freed", "found, kept", "gone, freed", "gone, kept"])
        .check(|| replace_under_a_reader(Reader::StaysPinned));
}

#[test]
fn use_after_unpin_is_found() {
    Model::new("a reader that unpins early")
        .preemptions(Some(1))
        .because("Causality violation")
        .must_fail(|| replace_under_a_reader(Reader::UnpinsEarly));
}
