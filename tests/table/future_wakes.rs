//! Wakers that poll their task inline: a release then runs the next task on the stack of the last.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::thread;

use crate::common::tasks::{POLICIES, panics, quiet_panic};
use crate::common::watchdog;
use latchwork::{LockTable, VersionedCell};

/// More than any stack below bears at one poll each.
const TASKS: u64 = 20_000;
const STACK: usize = 512 << 10;
/// Polls on one stack. The library nests far fewer.
const MAX_DEPTH: u64 = 100;

thread_local! {
    static DEPTH: Cell<u64> = const { Cell::new(0) };
}

/// A task that is polled by whichever thread wakes it, at once.
struct Inline {
    future: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
    deepest: Arc<AtomicU64>,
}

impl Inline {
    fn spawn(deepest: &Arc<AtomicU64>, future: impl Future<Output = ()> + Send + 'static) {
        let task = Inline {
            future: Mutex::new(Some(Box::pin(future))),
            deepest: deepest.clone(),
        };
        Arc::new(task).wake();
    }
}

struct Nested;

impl Drop for Nested {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

impl Wake for Inline {
    fn wake(self: Arc<Self>) {
        DEPTH.set(DEPTH.get() + 1);
        let _nested = Nested;
        self.deepest.fetch_max(DEPTH.get(), Ordering::Relaxed);
        let waker = Waker::from(self.clone());
        let taken = self.future.lock().unwrap().take();
        if let Some(mut future) = taken
            && future
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        {
            *self.future.lock().unwrap() = Some(future);
        }
    }
}

/// Runs `f` on a small stack, and returns how deep the polls were nested.
fn on_a_small_stack(f: impl FnOnce(&Arc<AtomicU64>) + Send) -> u64 {
    let deepest = Arc::default();
    thread::scope(|scope| {
        let built = thread::Builder::new().stack_size(STACK);
        let run = built.spawn_scoped(scope, || f(&deepest)).unwrap();
        run.join().unwrap();
    });
    deepest.load(Ordering::Relaxed)
}

#[test]
fn wakers_that_poll_inline_nest_up_to_a_limit() {
    let _dog = watchdog("wakers_that_poll_inline_nest_up_to_a_limit");
    for fairness in POLICIES {
        let table = LockTable::<u64>::builder().fairness(fairness).build();
        let (table, done) = (Arc::new(table), Arc::new(AtomicU64::new(0)));
        let depth = on_a_small_stack(|deepest| {
            let guard = table.lock(&1);
            for i in 0..TASKS {
                let (table, done) = (table.clone(), done.clone());
                Inline::spawn(deepest, async move {
                    let _guard = table.lock_async_owned(&1).await;
                    assert_eq!(done.fetch_add(1, Ordering::Relaxed), i, "out of order");
                });
            }
            drop(guard);
        });
        assert_eq!(done.load(Ordering::Relaxed), TASKS);
        assert!(
            (2..MAX_DEPTH).contains(&depth),
            "{depth} under {fairness:?}"
        );
        assert_eq!(table.locked_count(), 0);
    }
}

/// Each task writes the cell that the next one waits for.
#[test]
fn a_chain_of_cells_whose_wakers_poll_inline_nests_up_to_a_limit() {
    let _dog = watchdog("a_chain_of_cells_whose_wakers_poll_inline_nests_up_to_a_limit");
    let cells: Arc<Vec<_>> = Arc::new((0..=TASKS).map(VersionedCell::new).collect());
    let depth = on_a_small_stack(|deepest| {
        for i in 0..TASKS as usize {
            let cells = cells.clone();
            let seen = cells[i].version();
            Inline::spawn(deepest, async move {
                cells[i].changed(seen).await;
                cells[i + 1].set(0);
            });
        }
        cells[0].set(0);
    });
    assert!(cells.iter().all(|cell| cell.get() == 0));
    assert!((2..MAX_DEPTH).contains(&depth), "{depth}");
}

/// The first panic reaches the caller, and each other task runs.
#[test]
fn a_waker_beyond_the_limit_that_panics_loses_no_other() {
    let _dog = watchdog("a_waker_beyond_the_limit_that_panics_loses_no_other");
    for fairness in POLICIES {
        for trapped in [0, 1, 15, 16, 17, 50, 98, 99] {
            let table = LockTable::<u64>::builder().fairness(fairness).build();
            let (table, done) = (Arc::new(table), Arc::new(AtomicU64::new(0)));
            let depth = on_a_small_stack(|deepest| {
                let guard = table.lock(&1);
                for i in 0..100 {
                    let (table, done) = (table.clone(), done.clone());
                    Inline::spawn(deepest, async move {
                        let guard = table.lock_async_owned(&1).await;
                        // Before: the panic of a nested waker comes out of the unlock.
                        done.fetch_add(1, Ordering::Relaxed);
                        drop(guard);
                        if i == trapped {
                            quiet_panic();
                        }
                    });
                }
                assert!(panics(|| drop(guard)), "number {trapped} was not felt");
            });
            assert_eq!(done.load(Ordering::Relaxed), 100);
            assert!(depth < MAX_DEPTH);
            assert_eq!(table.locked_count(), 0);
        }
    }
}
