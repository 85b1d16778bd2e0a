//! Uses of n keys, locks or sessions cost n log n: one step of them costs little more among 16
//! times as many.
//!
//! Steps are counted one instruction at a time, so each test counts one step, the most expensive
//! one. Of work that is done once for many steps, the unit tests of `lock_table::keys` and of
//! `ordered::checked` count the sum.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use latchwork::ordered::checked;
use latchwork::table::IntegerHasher;
use latchwork::{LockTable, Mode, Session};

use super::count;

type Table = LockTable<u64, IntegerHasher>;

const FEW: u64 = 64;
const MANY: u64 = 16 * FEW;

/// One step among [`MANY`] costs at most so many times as much as among [`FEW`]. In proportion to
/// log n it costs 1.7 times as much; a walk over all costs 16 times as much, if it is all there is.
const AT_MOST: f64 = 2.5;

/// Counts one step of `f(n)` for few and for many. The first step is not counted.
fn grows_as_log_n<F: FnMut()>(what: &str, f: impl Fn(u64) -> F) {
    let [few, many] = [FEW, MANY].map(|n| {
        let step = RefCell::new(f(n));
        let steps = count(&format!("{what}, {n}"), || (*step.borrow_mut())());
        steps.instructions as f64
    });
    let times = many / few;
    assert!(times <= AT_MOST, "{what}: {times} times as many");
}

/// To unlock the first key of a set, behind which all others lie.
#[test]
fn a_key_of_a_large_set_is_unlocked() {
    let _alone = super::alone();
    let table = LockTable::<u64>::builder().hasher(IntegerHasher::new());
    let table = table.expected_locks(2 * MANY as usize).build();
    grows_as_log_n("unlock a key of a set", |n| {
        let keys: Vec<u64> = (0..n).collect();
        let set = table.lock_all(keys.iter().map(|key| (key, Mode::Exclusive)));
        let mut set = Box::new(set);
        let mut ids: Vec<_> = keys.iter().map(|key| (table.key_id(key), *key)).collect();
        ids.sort_unstable();
        let mut keys = ids.into_iter().map(|(_, key)| key);
        move || assert!(set.unlock(&keys.next().expect("there is another")))
    });
}

/// To acquire one lock under another one, after all have been acquired together.
#[test]
fn a_lock_is_acquired_that_has_an_order() {
    let _alone = super::alone();
    if !checked::IS_ON {
        return;
    }
    grows_as_log_n("a checked lock under another", |n| {
        let locks: Vec<_> = (0..n).map(checked::Mutex::new).collect();
        drop(locks.iter().map(checked::Mutex::lock).collect::<Vec<_>>());
        let coarse = checked::Mutex::new(());
        let mut next = locks.into_iter().rev();
        move || {
            let _coarse = coarse.lock();
            let lock = next.next().expect("there is another");
            drop(lock.lock());
            std::mem::forget(lock);
        }
    });
}

type Task<'t> = Pin<Box<dyn Future<Output = ()> + 't>>;

/// Locks a key in a session, and then releases all keys of the session.
fn lock_and_end<'t>(mut session: Session<'t, u64, IntegerHasher>, key: u64) -> Task<'t> {
    Box::pin(async move {
        session.lock_async(&key).await.expect("there is no cycle");
    })
}

fn poll(task: &mut Task<'_>) -> Poll<()> {
    let mut cx = Context::from_waker(Waker::noop());
    task.as_mut().poll(&mut cx)
}

/// To acquire the key that a crowd waits for, and to release it.
#[test]
fn a_session_leaves_a_crowd_at_one_key() {
    let _alone = super::alone();
    let table = Table::with_hasher(IntegerHasher::new());
    grows_as_log_n("leave a crowd of sessions", |n| {
        let held = table.lock(&n);
        let tasks = (0..n).map(|_| lock_and_end(table.session(), n));
        let mut tasks: Vec<Task<'_>> = tasks.collect();
        assert!(tasks.iter_mut().all(|task| poll(task).is_pending()));
        drop(held);
        let mut next = 0;
        move || {
            assert!(poll(&mut tasks[next]).is_ready());
            next += 1;
        }
    });
}

/// To wait in front of a chain of sessions, for which the session searches for a cycle, and behind
/// one, for which it does not.
#[test]
fn a_session_waits_at_the_end_of_a_chain() {
    let _alone = super::alone();
    for at_the_front in [false, true] {
        let table = Table::with_hasher(IntegerHasher::new());
        let what = ["wait behind a chain", "wait before a chain"][usize::from(at_the_front)];
        grows_as_log_n(what, |n| {
            // Of each call its own keys.
            let first = n << 32;
            let held = table.lock(&first);
            let link = |i: u64| {
                let mut session = table.session();
                session.lock(&(first + i + 1)).expect("the key is free");
                lock_and_end(session, first + i)
            };
            let mut tasks: Vec<Task<'_>> = (0..n + 2).map(link).collect();
            if at_the_front {
                tasks.reverse();
            }
            let mut rest = tasks.split_off(n as usize).into_iter();
            assert!(tasks.iter_mut().all(|task| poll(task).is_pending()));
            let mut waiting = Vec::with_capacity(2);
            move || {
                let _held = &held;
                let mut task = rest.next().expect("there is another");
                assert!(poll(&mut task).is_pending());
                waiting.push(task);
                let _chain = &tasks;
            }
        });
    }
}
