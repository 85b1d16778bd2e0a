//! What every other model here stands on: that loom is repaired, and that the wrapper fails when it
//! should.
//!
//! Each of these would go on passing in silence if the ground under it gave way, so each asserts a
//! number or a set that only a sound search produces.

use latchwork_loom_tests::{Model, Report};
use loom::cell::UnsafeCell;
use loom::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use loom::sync::atomic::{AtomicUsize, fence};
use loom::sync::{Arc, Mutex, Notify};
use loom::thread;
use std::time::Duration;

fn shared(value: usize) -> (Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let atomic = Arc::new(AtomicUsize::new(value));
    (Arc::clone(&atomic), atomic)
}

/// `load; load` against `load; compare_exchange`: what a lock table's readers and owners do to one
/// slot.
fn two_loads_against_load_and_exchange() -> String {
    let (ours, theirs) = shared(0);
    let writer = thread::spawn(move || {
        let current = theirs.load(Acquire);
        let _ = theirs.compare_exchange(current, 1, AcqRel, Acquire);
    });
    let seen = (ours.load(Acquire), ours.load(Acquire));
    writer.join().unwrap();
    format!("{seen:?}")
}

const ALL_ORDERS: [&str; 3] = ["(0, 0)", "(0, 1)", "(1, 1)"];

#[test]
fn repaired_search_sees_every_order() {
    let Report { executions, .. } = Model::new("load; load against load; exchange")
        .preemptions(None)
        .outcomes(&ALL_ORDERS)
        .check(two_loads_against_load_and_exchange);
    // Stock loom 0.7.3 runs one: then ci/loom-0.7.3-dpor.patch is not in force.
    assert_eq!(executions, 17);
}

#[test]
fn repaired_search_sees_every_order_from_either_thread() {
    Model::new("load; exchange against spawned load; load")
        .preemptions(None)
        .outcomes(&ALL_ORDERS)
        .check(|| {
            let (ours, theirs) = shared(0);
            let reader = thread::spawn(move || (theirs.load(Acquire), theirs.load(Acquire)));
            let current = ours.load(Acquire);
            let _ = ours.compare_exchange(current, 1, AcqRel, Acquire);
            format!("{:?}", reader.join().unwrap())
        });
}

#[test]
fn repaired_search_sees_lost_exchanges() {
    Model::new("two increments by load; exchange")
        .preemptions(None)
        .outcomes(&["(false, true)", "(true, false)", "(true, true)"])
        .check(|| {
            let (ours, theirs) = shared(0);
            let increment = |atomic: &AtomicUsize| {
                let current = atomic.load(Acquire);
                atomic
                    .compare_exchange(current, current + 1, AcqRel, Acquire)
                    .is_ok()
            };
            let other = thread::spawn(move || increment(&theirs));
            let mine = increment(&ours);
            format!("{:?}", (mine, other.join().unwrap()))
        });
}

/// Two flags, each raised before the other is read: the shape of every lost wake-up.
fn store_buffer(fenced: bool) -> String {
    let ((x, x2), (y, y2)) = (shared(0), shared(0));
    let order = move || {
        if fenced {
            fence(SeqCst);
        }
    };
    let other = thread::spawn(move || {
        x2.store(1, Relaxed);
        order();
        y2.load(Relaxed)
    });
    y.store(1, Relaxed);
    order();
    let mine = x.load(Relaxed);
    format!("{:?}", (mine, other.join().unwrap()))
}

#[test]
fn fences_forbid_that_neither_flag_is_seen() {
    Model::new("store buffer, fenced")
        .preemptions(None)
        .outcomes(&["(0, 1)", "(1, 0)", "(1, 1)"])
        .check(|| store_buffer(true));
}

#[test]
fn without_fences_neither_flag_may_be_seen() {
    Model::new("store buffer, bare")
        .preemptions(None)
        .outcomes(&["(0, 0)", "(0, 1)", "(1, 0)", "(1, 1)"])
        .check(|| store_buffer(false));
}

/// A plain value published by a flag.
fn publish(store: loom::sync::atomic::Ordering) -> &'static str {
    let value = Arc::new((UnsafeCell::new(0), AtomicUsize::new(0)));
    let writer = thread::spawn({
        let value = Arc::clone(&value);
        move || {
            // SAFETY: nobody reads the cell before the flag is up.
            value.0.with_mut(|cell| unsafe { *cell = 1 });
            value.1.store(1, store);
        }
    });
    let ready = value.1.load(Acquire) == 1;
    if ready {
        // SAFETY: the flag is up, so the write is over - if the store was a release. loom checks
        // just that.
        assert_eq!(value.0.with(|cell| unsafe { *cell }), 1);
    }
    writer.join().unwrap();
    if ready { "published" } else { "early" }
}

#[test]
fn release_publishes() {
    Model::new("publish by release")
        .preemptions(None)
        .outcomes(&["early", "published"])
        .check(|| publish(Release));
}

#[test]
fn relaxed_does_not_publish() {
    Model::new("publish by relaxed")
        .preemptions(None)
        .because("Causality violation")
        .must_fail(|| publish(Relaxed));
}

/// A model with more executions than one checkpoint interval.
fn many_executions() -> usize {
    let (ours, theirs) = shared(0);
    let step = |atomic: &AtomicUsize| {
        for _ in 0..6 {
            atomic.fetch_add(1, AcqRel);
        }
    };
    let other = thread::spawn(move || step(&theirs));
    step(&ours);
    other.join().unwrap();
    ours.load(Acquire)
}

// `must_fail` searches and judges as `check` does, in a process whose output stays out of the log.

#[test]
fn truncated_model_fails() {
    Model::new("cut off")
        .preemptions(None)
        .cap(Duration::ZERO)
        .outcomes(&["12"])
        .because("was cut off after 999 executions")
        .must_fail(many_executions);
}

#[test]
fn vacuous_model_fails() {
    // The join is too early: the threads never meet, and one outcome is left of three.
    Model::new("vacuous")
        .preemptions(None)
        .outcomes(&ALL_ORDERS)
        .because(r#"missing: ["(0, 0)", "(1, 1)"]"#)
        .must_fail(|| {
            let (ours, theirs) = shared(0);
            let first = ours.load(Acquire);
            let exchange = move || theirs.compare_exchange(0, 1, AcqRel, Acquire);
            thread::spawn(exchange).join().unwrap().unwrap();
            format!("{:?}", (first, ours.load(Acquire)))
        });
}

#[test]
fn undeclared_outcome_fails() {
    Model::new("undeclared")
        .preemptions(None)
        .outcomes(&ALL_ORDERS[..2])
        .because(r#"surplus, with the number of executions: [("(1, 1)""#)
        .must_fail(two_loads_against_load_and_exchange);
}

#[test]
#[should_panic(expected = "declares no outcome")]
fn model_without_outcomes_fails() {
    Model::new("nothing declared").check(two_loads_against_load_and_exchange);
}

#[test]
#[should_panic(expected = "nothing noticed what is broken in it")]
fn sound_model_is_no_twin() {
    Model::new("a sound twin")
        .preemptions(None)
        .must_fail(|| publish(Release));
}

#[test]
#[should_panic(expected = "but not because of \"deadlock\"")]
fn twin_must_fail_for_the_reason_named() {
    Model::new("another reason")
        .preemptions(None)
        .because("deadlock")
        .must_fail(|| publish(Relaxed));
}

#[test]
#[should_panic(expected = "the search itself failed")]
fn twin_that_is_cut_off_shows_nothing() {
    Model::new("a twin cut off")
        .preemptions(None)
        .cap(Duration::ZERO)
        .must_fail(many_executions);
}

#[test]
fn lost_wake_up_is_found() {
    // loom aborts here: it finds the deadlock again while it unwinds. The twin has a process of its
    // own.
    Model::new("nobody notifies")
        .preemptions(None)
        .because("deadlock")
        .must_fail(|| {
            let signal = Arc::new(Notify::new());
            let waiter = thread::spawn({
                let signal = Arc::clone(&signal);
                move || signal.wait()
            });
            waiter.join().unwrap();
            drop(signal);
            "woken"
        });
}

/// loom keeps its state in thread-locals, so the test harness may run several searches at once.
#[test]
fn searches_do_not_disturb_each_other() {
    let alone = Model::new("alone")
        .preemptions(None)
        .outcomes(&["12"])
        .check(many_executions)
        .executions;
    let searches: Vec<_> = ["first of two", "second of two"]
        .map(|name| {
            std::thread::spawn(move || {
                Model::new(name)
                    .preemptions(None)
                    .outcomes(&["12"])
                    .check(many_executions)
                    .executions
            })
        })
        .into();
    for search in searches {
        assert_eq!(search.join().unwrap(), alone);
    }
}

#[test]
fn mutexes_are_searched() {
    Model::new("two lockers")
        .preemptions(None)
        .outcomes(&["main, other", "other, main"])
        .check(|| {
            let order = Arc::new(Mutex::new(Vec::new()));
            let other = thread::spawn({
                let order = Arc::clone(&order);
                move || order.lock().unwrap().push("other")
            });
            order.lock().unwrap().push("main");
            other.join().unwrap();
            order.lock().unwrap().join(", ")
        });
}
