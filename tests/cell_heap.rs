//! What cells leave on the heap: about as much as their values need, also where those that stay lie
//! between those that go.
//!
//! Tests of one file share a heap, so that this has but one test.
#![cfg(not(any(latchwork_loom, latchwork_shuttle)))]

mod common;

use std::alloc::System;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::sync_channel;
use std::thread;

use cap::Cap;
use common::{Rng, setting, watchdog};
use latchwork::{VersionedCell, atomically};

#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

/// What threads keep for themselves, and what waits.
const SLACK: usize = 2 << 20;

/// As many values as have a page of memory together.
const BATCH: u64 = 62;

/// Runs `f` on so many threads at once, and then `meanwhile`, and returns what that returned once all
/// threads have ended: a scope does not wait for the destructors of thread-locals.
fn on_threads<R>(threads: usize, f: impl Fn() + Sync, meanwhile: impl FnOnce() -> R) -> R {
    thread::scope(|s| {
        let handles: Vec<_> = (0..threads).map(|_| s.spawn(&f)).collect();
        let result = meanwhile();
        handles
            .into_iter()
            .for_each(|handle| handle.join().unwrap());
        result
    })
}

fn more_than(before: usize) -> usize {
    latchwork::flush();
    HEAP.allocated().saturating_sub(before)
}

/// One thread makes values, another keeps one of each batch. A page for each of those would be 24
/// MiB.
fn one_of_each_batch_stays() {
    const STAY: usize = 6_000;
    let before = HEAP.allocated();
    let (sender, receiver) = sync_channel::<Vec<VersionedCell<u64>>>(4);
    let maker = thread::spawn(move || {
        for _ in 0..STAY {
            let batch = (0..BATCH).map(VersionedCell::new).collect();
            sender.send(batch).expect("the other thread takes them all");
        }
    });
    let stay: Vec<_> = receiver
        .into_iter()
        .filter_map(|mut batch| batch.pop())
        .collect();
    maker.join().unwrap();
    let used = more_than(before);
    println!("{STAY} cells of {}: {used} bytes", STAY as u64 * BATCH);
    assert_eq!(stay.len(), STAY);
    assert!(used < STAY * 72 + SLACK, "{used} bytes for {STAY} cells");
}

/// Values that replace others under a pin, a few of them for long: what the burst took is there for
/// the next one. A page for each that stays would be 12 MiB.
fn bursts_use_the_memory_of_those_before() {
    let cells: Vec<_> = (0..20_000_u64).map(VersionedCell::new).collect();
    let mut rng = Rng::new(1);
    let mut burst = || {
        for _ in 0..5_000 {
            let place = match rng.draw() % 50 {
                0 => rng.draw() as usize % cells.len(),
                _ => rng.draw() as usize % 100,
            };
            cells[place].update(|n| n + 1);
        }
    };
    let mut round = || {
        let pin = latchwork::pin();
        burst();
        drop(pin);
        burst();
        latchwork::flush();
    };
    (0..3).for_each(|_| round());
    let before = HEAP.allocated();
    (0..30).for_each(|_| round());
    let more = more_than(before);
    println!("30 bursts more: {more} bytes");
    assert!(more < SLACK, "30 bursts took {more} bytes more than three");
}

/// Threads that have each run a transaction, and end. A block of owners, which each has had, is
/// some 200 bytes.
fn threads_leave_nothing_of_their_transactions() {
    const THREADS: usize = 4_000;
    let cells = [0, 0].map(VersionedCell::new);
    let round = || {
        for _ in 0..THREADS {
            let transact = || {
                atomically(|tx| {
                    tx.update(&cells[0], |n| n + 1)?;
                    tx.update(&cells[1], |n| n - 1)
                });
            };
            thread::scope(|s| s.spawn(transact).join().unwrap());
        }
    };
    round();
    let before = HEAP.allocated();
    round();
    let left = more_than(before);
    println!("{THREADS} threads that have ended: {left} bytes");
    assert!(left < THREADS * 8, "{left} bytes of {THREADS} threads");
}

/// 64 threads update cells of their own. Most of them do not run, and some of these are pinned.
/// All replaced values together, with a slot of a block for each, would be 156 MiB.
fn many_writers_leave_bounded_garbage() {
    const THREADS: usize = 64;
    const UPDATES: usize = 40_000;
    /// The threads together let 65,536 values wait before they yield.
    const VALUES: usize = 4 * 65_536;
    let before = more_than(0);
    let (most, done, end) = (
        AtomicUsize::new(0),
        Barrier::new(THREADS + 1),
        Barrier::new(THREADS + 1),
    );
    let writer = || {
        let cell = VersionedCell::new(0);
        for n in 0..UPDATES {
            cell.update(|n| n + 1);
            if n % 64 == 0 {
                most.fetch_max(HEAP.allocated(), Relaxed);
            }
        }
        done.wait();
        end.wait();
    };
    let left = on_threads(THREADS, writer, || {
        done.wait();
        let left = latchwork::stats();
        end.wait();
        left
    });
    let most = most.into_inner().saturating_sub(before);
    println!("{THREADS} writers: {most} bytes, {left:?}");
    assert!(most < 128 << 20, "{most} bytes beside {THREADS} writers");
    assert!(left.garbage < VALUES, "{left:?}");
    assert!(left.garbage_bytes < VALUES * 64, "{left:?}");
    let left = more_than(before);
    let stats = latchwork::stats();
    assert!(
        left < 4 * SLACK,
        "{left} bytes after {THREADS} writers: {stats:?}"
    );
}

/// Each of many threads pins itself once and ends: 10,000, or as many as a campaign asks for.
fn threads_that_pin_once_leave_nothing() {
    const AT_ONCE: usize = 50;
    let threads = setting("LATCHWORK_THREADS", 10_000);
    let round = || {
        for _ in 0..threads / AT_ONCE as u64 {
            on_threads(AT_ONCE, || drop(latchwork::pin()), || ());
        }
    };
    round();
    let before = more_than(0);
    round();
    let left = more_than(before);
    println!("{threads} threads that have pinned once: {left} bytes");
    assert!(left < 64 << 10, "{left} bytes of {threads} threads");
}

#[test]
fn memory_beside_values_that_stay_is_used_again() {
    let _dog = watchdog("memory_beside_values_that_stay_is_used_again");
    one_of_each_batch_stays();
    bursts_use_the_memory_of_those_before();
    threads_leave_nothing_of_their_transactions();
    many_writers_leave_bounded_garbage();
    threads_that_pin_once_leave_nothing();
}
