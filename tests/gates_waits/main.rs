//! What contended waits cost, counted and printed for `ci/gates` as `tests/gates` does.
//!
//! A binary of its own: what the compiler inlines into one path depends on the others. Threads
//! and sessions have no row: their counts depend on when another thread runs, and on the build.
#![cfg(all(
    target_os = "linux",
    target_arch = "x86_64",
    // No costs of an unoptimised build are agreed on.
    not(debug_assertions),
    // These replace the atomics that are counted here.
    not(any(latchwork_loom, latchwork_noise, latchwork_shuttle))
))]
#![allow(unsafe_code, reason = "ptrace, which is unsafe by nature")]

#[path = "../counts/decode.rs"]
mod decode;
#[path = "../gates/gate.rs"]
mod gate;
#[path = "../counts/heap.rs"]
mod heap;
#[path = "../counts/steps.rs"]
mod steps;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use gate::gate;
use latchwork::{LockTable, Mode};

/// Polls a future that must wait.
fn must_wait<F: Future>(future: Pin<&mut F>, context: &mut Context<'_>) {
    assert!(future.poll(context).is_pending());
}

/// Polls a future that must be ready.
fn must_end<F: Future>(future: Pin<&mut F>, context: &mut Context<'_>) -> F::Output {
    match future.poll(context) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the key was not handed over"),
    }
}

#[test]
fn owned_tasks() {
    let table: Arc<LockTable<u64>> = Arc::new(LockTable::new());
    let context = RefCell::new(Context::from_waker(Waker::noop()));
    let held = Cell::new(Some(table.lock_owned(&8)));
    gate("a key handed from owned task to owned task, u64", || {
        let mut context = context.borrow_mut();
        let mut next = std::pin::pin!(table.lock_async_owned(black_box(&8)));
        must_wait(next.as_mut(), &mut context);
        drop(held.take());
        held.set(Some(must_end(next, &mut context)));
    });
}

#[test]
fn sets() {
    let table: LockTable<u64> = LockTable::new();
    let context = RefCell::new(Context::from_waker(Waker::noop()));
    // Keys that meet in a slot cost more, and which do is the hasher's seed: these do not.
    let mut slots = std::collections::HashSet::new();
    let apart = (0..).filter(|key: &u64| slots.insert(table.key_id(key).get() % 4096));
    let keys: Vec<u64> = apart.take(3).collect();
    let held = Cell::new(Some(table.lock_all([(&keys[1], Mode::Exclusive)])));
    gate("a key handed from set to set of 3, u64", || {
        let mut context = context.borrow_mut();
        let all = black_box(&keys[..])
            .iter()
            .map(|key| (key, Mode::Exclusive));
        let mut next = std::pin::pin!(table.lock_all_async(all));
        must_wait(next.as_mut(), &mut context);
        drop(held.take());
        held.set(Some(must_end(next, &mut context)));
    });
}
