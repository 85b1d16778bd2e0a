//! Tasks in the queue: polled, woken, given another waker, dropped.

mod common;

use std::sync::Arc;
use std::task::Poll;

use common::task::{alarm, block_on, poll};
use common::{A, B, World, finish, spawn};
use latchwork::Mode::{Exclusive, Shared};
use latchwork_loom_tests::Model;
use loom::sync::atomic::AtomicBool;
use loom::sync::atomic::Ordering::{Acquire, Release};

fn exclusive(world: &World, key: u64) {
    let guard = block_on(world.table.lock_async(&key));
    world.write(key);
    drop(guard);
}

/// Polls once and drops the future if that was not enough. Returns `y` or `n`.
fn exclusive_or_drop(world: &World, key: u64) -> char {
    let (_, waker) = alarm();
    let mut future = world.table.lock_async(&key);
    match poll(&mut future, &waker) {
        Poll::Ready(guard) => {
            world.write(key);
            drop(guard);
            'y'
        }
        Poll::Pending => 'n',
    }
}

#[test]
fn a_task_is_woken() {
    Model::new("a task against a thread that holds")
        .rules("[M5] [W2] [W4]")
        .preemptions(Some(4))
        .outcomes(&["w0", "w1"])
        .check(|| {
            let world = World::new();
            let guard = world.lock(A);
            let other = spawn(&world, |w| exclusive(w, A));
            world.write(A);
            drop(guard);
            finish(world, [other])
        });
}

#[test]
fn a_task_is_handed_the_key() {
    Model::new("a task against a thread that hands over")
        .rules("[M6] [W2]")
        .preemptions(Some(4))
        .outcomes(&["w0", "w1"])
        .check(|| {
            let world = World::fifo();
            let guard = world.lock(A);
            let other = spawn(&world, |w| exclusive(w, A));
            world.write(A);
            drop(guard);
            finish(world, [other])
        });
}

#[test]
fn a_task_and_a_thread_wait() {
    Model::new("a task and a thread wait, another barges")
        .rules("[M5] [M6] [W4]")
        .outcomes(&["n w0", "n w1", "n w2", "y w0", "y w1", "y w2"])
        .check(|| {
            let world = World::new();
            let guard = world.lock(A);
            let others = [
                spawn(&world, |w| exclusive(w, A)),
                spawn(&world, |w| w.exclusive(A)),
            ];
            drop(guard);
            world.note(world.try_exclusive(A));
            finish(world, others)
        });
}

/// Only the last waker is listened to.
#[test]
fn the_last_waker_counts() {
    Model::new("a task is polled with one waker and then with another")
        .rules("[W4]")
        .preemptions(Some(3))
        .outcomes(&["n w0", "n w1", "y w0", "y w1"])
        .check(|| {
            let world = World::new();
            let guard = world.lock(A);
            let other = spawn(&world, |w| {
                let mut future = w.table.lock_async(&A);
                let (_deaf, old) = alarm();
                let guard = match poll(&mut future, &old) {
                    Poll::Ready(guard) => guard,
                    Poll::Pending => block_on(future),
                };
                w.write(A);
                drop(guard);
            });
            world.write(A);
            drop(guard);
            world.note(world.try_exclusive(A));
            finish(world, [other])
        });
}

#[test]
fn a_future_is_dropped_as_the_key_comes_free() {
    Model::new("drop of a queued or woken future against release")
        .rules("[M2] [M9]")
        .preemptions(Some(4))
        .outcomes(&["n w1", "y w0"])
        .check(|| {
            let world = World::new();
            let guard = world.lock(A);
            let other = spawn(&world, |w| w.note(exclusive_or_drop(w, A)));
            drop(guard);
            finish(world, [other])
        });
}

/// A granted future passes the key on to the thread behind it.
#[test]
fn a_granted_future_is_dropped() {
    Model::new("drop of a granted future before a waiter")
        .rules("[M6] [M9]")
        .outcomes(&["n w1", "n w2", "y w0", "y w1"])
        .check(|| {
            let world = World::fifo();
            let guard = world.lock(A);
            let others = [
                spawn(&world, |w| w.note(exclusive_or_drop(w, A))),
                spawn(&world, |w| w.exclusive(A)),
            ];
            world.write(A);
            drop(guard);
            finish(world, others)
        });
}

/// A writer behind those who are let in keeps its mark, which holds newcomers back.
#[test]
fn a_writer_behind_the_run_keeps_its_mark() {
    Model::new("a reader is handed the key before a queued writer as another reader tries")
        .rules("[M8]")
        .preemptions(Some(3))
        .outcomes(&["n w2"])
        .check(|| {
            let world = World::fifo();
            let guard = world.lock(A);
            let (_deaf, waker) = alarm();
            let mut reader = world.table.lock_shared_async(&A);
            let mut writer = world.table.lock_async(&A);
            assert!(poll(&mut reader, &waker).is_pending());
            assert!(poll(&mut writer, &waker).is_pending());
            let other = spawn(&world, |w| w.note(w.try_shared(A)));
            drop(guard);
            // One holds the key or the other, and the writer waits as long as the reader holds it.
            other.join().unwrap();
            drop(block_on(reader));
            drop(block_on(writer));
            world.outcome()
        });
}

#[test]
fn a_set_is_dropped_halfway() {
    Model::new("a set of two keys is polled once and dropped")
        .rules("[L2] [M9]")
        .preemptions(Some(3))
        .outcomes(&["all n w0", "all y w0", "half n w1", "half y w1"])
        .check(|| {
            let world = World::new();
            let guard = world.lock(B);
            let other = spawn(&world, |w| {
                let (_, waker) = alarm();
                let mut future = w.table.lock_all_async([(&A, Exclusive), (&B, Exclusive)]);
                match poll(&mut future, &waker) {
                    Poll::Ready(set) => {
                        w.write(A);
                        w.write(B);
                        drop(set);
                        w.note("all");
                    }
                    Poll::Pending => w.note("half"),
                }
            });
            world.write(B);
            drop(guard);
            world.note(world.try_exclusive(A));
            finish(world, [other])
        });
}

/// The holder hands over and comes back.
#[test]
fn bump_gives_way() {
    Model::new("bump against a waiter")
        .rules("[M6] [M7]")
        .preemptions(Some(3))
        .outcomes(&["w0", "w1", "w2"])
        .check(|| {
            let world = World::new();
            let mut guard = world.lock(A);
            let other = spawn(&world, |w| w.exclusive(A));
            world.write(A);
            latchwork::table::ExclusiveGuard::bump(&mut guard);
            world.write(A);
            drop(guard);
            finish(world, [other])
        });
}

#[test]
fn a_set_of_both_modes_as_a_task() {
    Model::new("a set as a task against a set as a thread")
        .rules("[L1]")
        .outcomes(&["w0", "w1"])
        .check(|| {
            let world = World::new();
            let other = spawn(&world, |w| {
                let keys = [(&B, Exclusive), (&A, Shared)];
                let set = block_on(w.table.lock_all_async(keys));
                w.write(B);
                w.read(A);
                drop(set);
            });
            let set = world.table.lock_all([(&A, Exclusive), (&B, Shared)]);
            world.write(A);
            world.read(B);
            drop(set);
            finish(world, [other])
        });
}

/// The head is woken and never polled; the task behind it finds the key free and is not refused.
#[test]
fn a_task_behind_one_that_never_checks_is_not_refused() {
    Model::new("a task is polled again once the key is free, behind a head that is not polled")
        .rules("[M7] [M15]")
        .preemptions(Some(4))
        .outcomes(&["newcomer w1", "queued w2"])
        .check(|| {
            let world = World::new();
            let guard = world.lock(A);
            let (_deaf, waker) = alarm();
            let mut head = world.table.lock_async(&A);
            assert!(poll(&mut head, &waker).is_pending());
            // loom's notifications may be spurious: the flag says whether this one was not.
            let (free, _) = alarm();
            let is_free = Arc::new((AtomicBool::new(false), free.clone()));
            let released = is_free.clone();
            let other = spawn(&world, move |w| {
                let (_, waker) = alarm();
                let mut future = w.table.lock_async(&A);
                let guard = match poll(&mut future, &waker) {
                    Poll::Ready(guard) => {
                        w.note("newcomer");
                        guard
                    }
                    Poll::Pending => {
                        while !is_free.0.load(Acquire) {
                            is_free.1.0.wait();
                        }
                        let Poll::Ready(guard) = poll(&mut future, &waker) else {
                            panic!("a queued task was refused a free key");
                        };
                        w.note("queued");
                        guard
                    }
                };
                w.write(A);
                drop(guard);
            });
            world.write(A);
            drop(guard);
            released.0.store(true, Release);
            free.0.notify();
            other.join().unwrap();
            drop(block_on(head));
            world.outcome()
        });
}

/// A newcomer that leaves a free key to the woken head does so without the mutex: the
/// compare-and-swap of the task that acquires the key out of turn follows it nevertheless.
#[test]
fn overtake_after_an_equal_state() {
    Model::new("a task acquires the key out of turn as a newcomer has it")
        .rules("[S3] [M15]")
        .preemptions(Some(3))
        .outcomes(&["early n w2", "early y w2", "late y w2"])
        .check(|| {
            let world = World::new();
            let guard = world.lock(A);
            let (_deaf, waker) = alarm();
            let mut head = world.table.lock_async(&A);
            let mut behind = world.table.lock_async(&A);
            assert!(poll(&mut head, &waker).is_pending());
            assert!(poll(&mut behind, &waker).is_pending());
            drop(guard);
            let other = spawn(&world, |w| w.note(w.try_exclusive(A)));
            match poll(&mut behind, &waker) {
                Poll::Ready(guard) => {
                    world.write(A);
                    drop(guard);
                    world.note("early");
                }
                Poll::Pending => world.note("late"),
            }
            other.join().unwrap();
            drop(block_on(head));
            drop(behind);
            world.outcome()
        });
}

#[test]
fn two_tasks_are_polled_as_the_key_comes_free() {
    Model::new("a task that waits and one that is polled again, against a release")
        .rules("[M5] [M15] [W2]")
        .preemptions(Some(3))
        .outcomes(&["w1", "w2"])
        .check(|| {
            let world = World::new();
            let guard = world.lock(A);
            let other = spawn(&world, |w| exclusive(w, A));
            let (_deaf, waker) = alarm();
            let mut future = world.table.lock_async(&A);
            assert!(poll(&mut future, &waker).is_pending());
            world.write(A);
            drop(guard);
            let guard = match poll(&mut future, &waker) {
                Poll::Ready(guard) => guard,
                Poll::Pending => block_on(&mut future),
            };
            world.write(A);
            drop(guard);
            drop(future);
            finish(world, [other])
        });
}

#[test]
fn a_task_is_polled_as_the_head_gives_up() {
    Model::new("a task is polled again as the one before it gives up, against a release")
        .rules("[M5] [M9] [M15]")
        .preemptions(Some(3))
        .outcomes(&["n w2", "y w1", "y w2"])
        .check(|| {
            let world = World::new();
            let guard = world.lock(A);
            let other = spawn(&world, |w| w.note(w.exclusive_or_cancel(A)));
            let (_deaf, waker) = alarm();
            let mut future = world.table.lock_shared_async(&A);
            assert!(poll(&mut future, &waker).is_pending());
            world.write(A);
            drop(guard);
            let guard = match poll(&mut future, &waker) {
                Poll::Ready(guard) => guard,
                Poll::Pending => block_on(&mut future),
            };
            world.read(A);
            drop(guard);
            drop(future);
            finish(world, [other])
        });
}
