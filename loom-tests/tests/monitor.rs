//! A key that is waited for: enqueue, wake, hand over, give up, die.

mod common;

use common::task::{alarm, block_on, poll};
use common::{A, B, World, finish, spawn};
use latchwork_loom_tests::Model;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

#[test]
fn a_waiter_gives_up_as_the_key_comes_free() {
    Model::new("give up against release")
        .rules("[M2] [M9]")
        .preemptions(Some(4))
        .outcomes(&["n w1", "y w0", "y w1"])
        .check(|| {
            let world = World::new();
            let guard = world.lock(A);
            let other = spawn(&world, |w| w.note(w.exclusive_or_cancel(A)));
            drop(guard);
            finish(world, [other])
        });
}

#[test]
fn a_waiter_gives_up_before_another() {
    Model::new("give up and wait against release")
        .rules("[M5] [M9]")
        .preemptions(Some(3))
        .outcomes(&["n w1", "n w2", "y w0", "y w1", "y w2"])
        .check(|| {
            let world = World::new();
            let guard = world.lock(A);
            let others = [
                spawn(&world, |w| w.note(w.exclusive_or_cancel(A))),
                spawn(&world, |w| w.exclusive(A)),
            ];
            world.write(A);
            drop(guard);
            finish(world, others)
        });
}

#[test]
fn a_waiter_gives_up_before_another_fifo() {
    Model::new("give up and wait against release, handed over")
        .rules("[M6] [M9]")
        .preemptions(Some(3))
        .outcomes(&["n w1", "n w2", "y w0", "y w1", "y w2"])
        .check(|| {
            let world = World::fifo();
            let guard = world.lock(A);
            let others = [
                spawn(&world, |w| w.note(w.exclusive_or_cancel(A))),
                spawn(&world, |w| w.exclusive(A)),
            ];
            world.write(A);
            drop(guard);
            finish(world, others)
        });
}

/// The head is woken and never checks; the deadline of the thread behind it passes.
#[test]
fn a_late_waiter_is_not_refused_a_free_key() {
    for shared in [false, true] {
        Model::new("a deadline passes behind a head that is not polled, against release")
            .rules("[M9] [M15]")
            .preemptions(Some(4))
            .outcomes(if shared {
                &["n w2", "y w2"]
            } else {
                &["n w2", "y w1", "y w2"]
            })
            .check(move || {
                let world = World::new();
                let guard = world.lock(A);
                let (_deaf, waker) = alarm();
                let mut head = world.table.lock_async(&A);
                assert!(poll(&mut head, &waker).is_pending());
                let other = spawn(&world, move |w| {
                    w.note(if shared {
                        w.shared_or_cancel(A)
                    } else {
                        w.exclusive_or_cancel(A)
                    });
                });
                world.write(A);
                drop(guard);
                other.join().unwrap();
                drop(block_on(head));
                world.outcome()
            });
    }
}

/// The writer at the head gives up while readers hold the key: the reader behind it is let in.
#[test]
fn a_writer_gives_up_before_a_reader() {
    Model::new("a queued writer gives up before a reader")
        .rules("[M8] [M9]")
        .preemptions(Some(3))
        .outcomes(&["n w1", "n w2"])
        .check(|| {
            let world = World::new();
            world.hold_shared(A, 1);
            let others = [
                spawn(&world, |w| w.note(w.exclusive_or_cancel(A))),
                spawn(&world, |w| {
                    w.shared(A);
                }),
            ];
            world.table.flush();
            for other in others {
                other.join().unwrap();
            }
            world.give_back(A, 1);
            world.outcome()
        });
}

#[test]
fn a_try_against_one_that_gives_up() {
    Model::new("try against a holder and one that gives up")
        .rules("[M2] [M4]")
        .preemptions(Some(3))
        .outcomes(&["n w0", "n w1", "y w0", "y w1", "y w2"])
        .check(|| {
            let world = World::new();
            let others = [
                spawn(&world, |w| w.exclusive(A)),
                spawn(&world, |w| {
                    w.exclusive_or_cancel(A);
                }),
            ];
            world.note(world.try_exclusive(A));
            finish(world, others)
        });
}

#[test]
fn giving_up_while_words_move() {
    Model::new("give up, then another key of the slot")
        .rules("[M2] [S1]")
        .outcomes(&["w0", "w1", "w2"])
        .check(|| {
            let world = World::new();
            let others = [
                spawn(&world, |w| w.exclusive(A)),
                spawn(&world, |w| {
                    w.exclusive_or_cancel(A);
                    w.exclusive(B);
                }),
            ];
            world.exclusive(A);
            finish(world, others)
        });
}

#[test]
fn a_reader_gives_up_between_writers() {
    Model::new("a reader gives up between writers")
        .rules("[M8] [M9]")
        .preemptions(Some(3))
        .outcomes(&["w0", "w1", "w2"])
        .check(|| {
            let world = World::new();
            let others = [
                spawn(&world, |w| {
                    w.shared_or_cancel(A);
                }),
                spawn(&world, |w| w.exclusive(A)),
            ];
            world.exclusive(A);
            finish(world, others)
        });
}

#[test]
fn writer_then_reader_behind_a_reader() {
    Model::new("a writer and a reader come while a reader holds")
        .rules("[M5] [M8]")
        .preemptions(Some(3))
        .outcomes(&["0 w0", "0 w1", "1 w0", "1 w1", "1 w2"])
        .check(|| {
            let world = World::new();
            world.hold_shared(A, 1);
            let others = [
                spawn(&world, |w| w.exclusive(A)),
                spawn(&world, |w| w.note(w.shared(A))),
            ];
            world.read(A);
            world.give_back(A, 1);
            finish(world, others)
        });
}

#[test]
fn writer_then_reader_behind_a_reader_fifo() {
    Model::new("a writer and a reader come while a reader holds, handed over")
        .rules("[M6] [M8]")
        .preemptions(Some(3))
        .outcomes(&["0 w0", "0 w1", "1 w0", "1 w1", "1 w2"])
        .check(|| {
            let world = World::fifo();
            world.hold_shared(A, 1);
            let others = [
                spawn(&world, |w| w.exclusive(A)),
                spawn(&world, |w| w.note(w.shared(A))),
            ];
            world.read(A);
            world.give_back(A, 1);
            finish(world, others)
        });
}

#[test]
fn a_monitor_moves_down() {
    Model::new("a monitor moves into a child while it is released and tried")
        .rules("[S1] [M2]")
        .outcomes(&["n w0", "n w1", "y w0", "y w1"])
        .check(|| {
            let world = World::new();
            let guard = world.lock(A);
            let others = [
                spawn(&world, |w| w.exclusive(A)),
                spawn(&world, |w| w.exclusive(B)),
            ];
            drop(guard);
            world.note(world.try_exclusive(A));
            finish(world, others)
        });
}

/// Between the load and the compare-and-swap of one that barges, a waiter takes the key, writes and
/// leaves the same state behind, because another is queued.
#[test]
fn barge_after_an_equal_state() {
    Model::new("barge after an equal state")
        .rules("[S3]")
        .outcomes(&["n w0", "n w1", "n w2", "y w0", "y w1", "y w2"])
        .check(|| {
            let world = World::new();
            let guard = world.lock(A);
            let others = [
                spawn(&world, |w| w.exclusive(A)),
                spawn(&world, |w| w.exclusive(A)),
            ];
            drop(guard);
            world.note(world.try_exclusive(A));
            finish(world, others)
        });
}

#[test]
fn give_up_after_an_equal_state() {
    Model::new("give up after an equal state, then lock")
        .rules("[M3] [S3]")
        .preemptions(Some(3))
        .outcomes(&["n w0", "n w1", "n w2", "y w0", "y w1", "y w2"])
        .check(|| {
            let world = World::new();
            let guard = world.lock(A);
            let other = spawn(&world, |w| {
                w.exclusive_or_cancel(A);
                w.exclusive(A);
            });
            drop(guard);
            world.note(world.try_exclusive(A));
            finish(world, [other])
        });
}

#[test]
fn admit_after_an_equal_state() {
    Model::new("a writer gives up before a reader, after an equal state")
        .rules("[S3] [M9]")
        .outcomes(&["n w0", "n w1", "n w2", "y w0", "y w1", "y w2"])
        .check(|| {
            let world = World::new();
            let guard = world.lock(A);
            let others = [
                spawn(&world, |w| {
                    w.exclusive_or_cancel(A);
                }),
                spawn(&world, |w| {
                    w.shared(A);
                }),
            ];
            drop(guard);
            world.note(world.try_exclusive(A));
            finish(world, others)
        });
}

/// Once it is queued, a waiter is passed over as often as a checked table allows (twice), and no
/// more: the release after that hands it the key.
#[test]
fn a_bypass_is_the_last() {
    Model::new("a waiter is passed over twice and then handed the key")
        .rules("[M6] [M7]")
        .preemptions(Some(3))
        .outcomes(&["0 w0", "0 w1", "1 w1", "2 w1"])
        .check(|| {
            let world = World::new();
            // Not loom's: it tells the order of events and must not change it.
            let entered = Arc::new(AtomicBool::new(false));
            let guard = world.lock(A);
            let mark = entered.clone();
            let other = spawn(&world, move |w| {
                let guard = w.lock(A);
                mark.store(true, Relaxed);
                w.write(A);
                drop(guard);
            });
            drop(guard);
            let mut passed = 0;
            for _ in 0..4 {
                let queued = world.table.stats().waits == 1;
                if let Some(guard) = world.table.try_lock(&A) {
                    passed += u32::from(queued && !entered.load(Relaxed));
                    world.write(A);
                    drop(guard);
                }
            }
            world.note(passed);
            finish(world, [other])
        });
}

/// A reader passes queued readers, and only those.
#[test]
fn a_reader_passes_readers() {
    Model::new("try shared while a reader is queued")
        .rules("[M8]")
        .preemptions(Some(3))
        .outcomes(&["w0", "w1"])
        .check(|| {
            let world = World::new();
            let guard = world.lock(A);
            let other = spawn(&world, |w| {
                w.shared(A);
            });
            drop(guard);
            // No writer is left: nothing may refuse a reader now.
            assert_eq!(world.try_shared(A), 'y');
            finish(world, [other])
        });
}

#[test]
fn a_run_of_readers_is_let_in() {
    Model::new("two readers queue behind a writer")
        .rules("[M6] [W1] [W2]")
        .preemptions(Some(3))
        .outcomes(&["1 1 w0", "1 1 w1", "1 1 w2"])
        .check(|| {
            let world = World::new();
            let guard = world.lock(A);
            let others = [
                spawn(&world, |w| w.note(w.shared(A))),
                spawn(&world, |w| w.note(w.shared(A))),
            ];
            world.write(A);
            drop(guard);
            finish(world, others)
        });
}

#[test]
fn a_run_of_readers_is_handed_the_key() {
    Model::new("two readers queue behind a writer, handed over")
        .rules("[M6] [W1] [W2]")
        .preemptions(Some(3))
        .outcomes(&["1 1 w0", "1 1 w1", "1 1 w2"])
        .check(|| {
            let world = World::fifo();
            let guard = world.lock(A);
            let others = [
                spawn(&world, |w| w.note(w.shared(A))),
                spawn(&world, |w| w.note(w.shared(A))),
            ];
            world.write(A);
            drop(guard);
            finish(world, others)
        });
}

/// Between the last holder's decision to leave and the monitor's death there is no step in which
/// somebody could come in.
#[test]
fn death_against_a_newcomer() {
    Model::new("the last holder of a monitor leaves as another comes")
        .rules("[M2]")
        .preemptions(Some(4))
        .outcomes(&["n w0", "y w0"])
        .check(|| {
            let world = World::new();
            world.hold_shared(A, 4);
            world.give_back(A, 3);
            let other = spawn(&world, |w| w.give_back(A, 1));
            world.note(world.try_exclusive(A));
            finish(world, [other])
        });
}

/// With the last queued writer the mark goes that holds readers back, wherever in the queue it was.
#[test]
fn the_last_writer_takes_its_mark_along() {
    Model::new("a reader is not refused once the only writer gave up")
        .rules("[M8] [M9]")
        .outcomes(&["w1", "w2"])
        .check(|| {
            let world = World::new();
            world.hold_shared(A, 1);
            let writer = spawn(&world, |w| {
                w.exclusive_or_cancel(A);
            });
            let reader = spawn(&world, |w| {
                w.shared(A);
            });
            writer.join().unwrap();
            assert_eq!(world.try_shared(A), 'y');
            world.give_back(A, 1);
            finish(world, [reader])
        });
}

/// The key comes free without the mutex while a woken head gives up and another waits.
#[test]
fn barger_canceller_waiter() {
    Model::new("one barges twice, one gives up, one waits")
        .rules("[M5] [M9]")
        .outcomes(&["w0", "w1", "w2"])
        .check(|| {
            let world = World::new();
            let guard = world.lock(A);
            let others = [
                spawn(&world, |w| {
                    w.exclusive_or_cancel(A);
                }),
                spawn(&world, |w| w.exclusive(A)),
            ];
            drop(guard);
            world.try_exclusive(A);
            world.try_exclusive(A);
            finish(world, others)
        });
}
