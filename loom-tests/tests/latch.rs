//! Latches: optimistic reads, holds and waiting.

use std::fmt::Display;
use std::sync::Arc;

use latchwork::latch::{ExclusiveGuard, OptimisticLatch, Restart};
use latchwork_loom_tests::{Model, Notes, spawn};
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU64, Ordering::Relaxed};
use loom::thread::JoinHandle;

/// What a latch protects: a pair for optimistic readers, and what only holders touch.
struct Data {
    x: AtomicU64,
    y: AtomicU64,
    held: UnsafeCell<u64>,
}

// SAFETY: `held` is reached only by holders of the latch, and loom reports if it is not.
unsafe impl Sync for Data {}

impl std::fmt::Debug for Data {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Data")
    }
}

struct World {
    latch: OptimisticLatch<Data>,
    notes: Notes,
}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(World {
            latch: OptimisticLatch::new(Data {
                x: AtomicU64::new(0),
                y: AtomicU64::new(0),
                held: UnsafeCell::new(0),
            }),
            notes: Notes::default(),
        })
    }

    fn note(&self, note: impl Display) {
        self.notes.note(note);
    }

    /// What was noted, in no order, and what is left.
    fn outcome(&self, threads: impl IntoIterator<Item = JoinHandle<()>>) -> String {
        self.notes.after(threads).join(" ")
    }

    /// What a shared holder does.
    fn look(&self, data: &Data) -> u64 {
        // SAFETY: the latch is held; loom reports a concurrent write.
        let held = data.held.with(|held| unsafe { *held });
        assert_eq!(held, data.x.load(Relaxed), "a holder sees another's half");
        held
    }

    /// What an exclusive holder does: one more of everything. Returns how many there were.
    fn write(&self, data: &Data) -> u64 {
        let seen = self.look(data);
        data.x.store(seen + 1, Relaxed);
        data.y.store(seen + 1, Relaxed);
        data.held.with_mut(|held| {
            // SAFETY: the latch is held exclusively; loom reports if that is not so.
            unsafe { *held += 1 }
        });
        seen
    }

    /// Latches, writes, gives back.
    fn exclusive(&self) -> u64 {
        let guard = self.latch.exclusive().unwrap();
        self.write(&guard)
    }

    fn shared(&self) -> u64 {
        let guard = self.latch.shared().unwrap();
        self.look(&guard)
    }
}

#[test]
fn one_attempt_sees_one_version() {
    Model::new("one attempt beside a writer")
        .rules("[O1] [O2]")
        .preemptions(None)
        .outcomes(&["0 at first", "1 in the end", "changed"])
        .check(|| {
            let world = World::new();
            let first = world.latch.version().unwrap();
            let writer = spawn(&world, |w| {
                w.exclusive();
            });
            let seen = world.latch.version().unwrap();
            let data = world.latch.peek();
            let (y, x) = (data.y.load(Relaxed), data.x.load(Relaxed));
            world.note(if !world.latch.is_current(seen) {
                "changed".to_owned()
            } else {
                assert_eq!(x, y, "torn");
                format!(
                    "{x} {}",
                    ["in the end", "at first"][usize::from(seen == first)]
                )
            });
            world.outcome([writer])
        });
}

#[test]
fn one_attempt_beside_two_writers() {
    Model::new("one attempt beside two writers")
        .rules("[O1] [O2] [O4]")
        .preemptions(Some(2))
        .outcomes(&["0", "1", "2", "changed"])
        .check(|| {
            let world = World::new();
            let write = |w: &World| {
                w.exclusive();
            };
            let writers = [spawn(&world, write), spawn(&world, write)];
            let seen = world.latch.version().unwrap();
            let data = world.latch.peek();
            let (x, y) = (data.x.load(Relaxed), data.y.load(Relaxed));
            if world.latch.is_current(seen) {
                assert_eq!(x, y, "torn");
                world.note(x);
            } else {
                world.note("changed");
            }
            world.outcome(writers)
        });
}

#[test]
fn a_read_that_fails_ends_under_the_latch() {
    Model::new("an optimistic read that falls back")
        .rules("[O2] [O10]")
        .preemptions(Some(4))
        .outcomes(&["0 in 1", "1 in 1", "1 in 2"])
        .check(|| {
            let world = World::new();
            let writer = spawn(&world, |w| {
                w.exclusive();
            });
            let mut attempts = 0;
            let (x, y) = world
                .latch
                .optimistic_read(|data| {
                    attempts += 1;
                    (data.x.load(Relaxed), data.y.load(Relaxed))
                })
                .unwrap();
            assert_eq!(x, y, "torn");
            world.note(format!("{x} in {attempts}"));
            world.outcome([writer])
        });
}

#[test]
fn three_hold_it_one_after_the_other() {
    Model::new("three exclusive holders")
        .rules("[O4] [O5]")
        .preemptions(Some(2))
        .outcomes(&[
            "a0 b1 c2", "a0 b2 c1", "a1 b0 c2", "a1 b2 c0", "a2 b0 c1", "a2 b1 c0",
        ])
        .check(|| {
            let world = World::new();
            let a = spawn(&world, |w| w.note(format!("a{}", w.exclusive())));
            let b = spawn(&world, |w| w.note(format!("b{}", w.exclusive())));
            world.note(format!("c{}", world.exclusive()));
            world.outcome([a, b])
        });
}

#[test]
fn readers_and_a_writer() {
    Model::new("two share, one is alone")
        .rules("[O4] [O5]")
        .preemptions(Some(2))
        .outcomes(&["a0 b0", "a0 b1", "a1 b0", "a1 b1"])
        .check(|| {
            let world = World::new();
            let a = spawn(&world, |w| w.note(format!("a{}", w.shared())));
            let b = spawn(&world, |w| w.note(format!("b{}", w.shared())));
            world.exclusive();
            world.outcome([a, b])
        });
}

/// The holder takes the latch again and again: who waits is passed over once, and then given it.
#[test]
fn who_waits_is_not_passed_over_for_ever() {
    Model::new("one waits for a latch that is taken three times")
        .rules("[O5] [O10]")
        .preemptions(Some(3))
        .outcomes(&["0", "1", "2", "3"])
        .check(|| {
            let world = World::new();
            let waits = spawn(&world, |w| w.note(w.exclusive()));
            for _ in 0..3 {
                world.exclusive();
            }
            world.outcome([waits])
        });
}

/// A writer that is handed the latch follows the reader that left before the one who hands it over.
#[test]
fn a_writer_behind_two_readers() {
    Model::new("one shares twice, one once, one waits to be alone")
        .rules("[O4] [O5]")
        .preemptions(Some(2))
        .outcomes(&["a00 b0", "a00 b1", "a01 b0", "a01 b1", "a11 b0", "a11 b1"])
        .check(|| {
            let world = World::new();
            let twice = spawn(&world, |w| {
                let (first, second) = (w.shared(), w.shared());
                w.note(format!("a{first}{second}"));
            });
            let once = spawn(&world, |w| w.note(format!("b{}", w.shared())));
            world.exclusive();
            world.outcome([twice, once])
        });
}

#[test]
fn a_try_beside_a_holder_and_a_waiter() {
    Model::new("one tries, two want to be alone")
        .rules("[O4] [O5]")
        .preemptions(Some(2))
        .outcomes(&["busy", "shared 0", "shared 1", "shared 2"])
        .check(|| {
            let world = World::new();
            let write = |w: &World| {
                w.exclusive();
            };
            let writers = [spawn(&world, write), spawn(&world, write)];
            match world.latch.try_shared() {
                Some(data) => world.note(format!("shared {}", world.look(&data))),
                None => world.note("busy"),
            }
            world.outcome(writers)
        });
}

#[test]
fn who_shares_does_not_pass_the_queue() {
    Model::new("one shares, one waits to be alone, and the first tries to share again")
        .rules("[O10]")
        .preemptions(Some(4))
        .outcomes(&["nobody waits", "refused"])
        .check(|| {
            let world = World::new();
            let guard = world.latch.shared().unwrap();
            let waits = spawn(&world, |w| {
                w.exclusive();
            });
            // It is queued for as long as the guard lives.
            let is_queued = format!("{:?}", world.latch).contains("queued");
            let second = world.latch.try_shared();
            if is_queued {
                assert!(second.is_none(), "past who waits");
                world.note("refused");
            } else {
                world.note("nobody waits");
            }
            drop((guard, second));
            world.outcome([waits])
        });
}

/// Who is handed the latch learns so by a signal, and who joins it by the word alone.
#[test]
fn one_joins_those_who_were_handed_the_latch() {
    Model::new("one is alone twice, one waits to share, one shares if it can")
        .rules("[O4] [O5]")
        .preemptions(Some(2))
        .outcomes(&[
            "a0 b0", "a0 b1", "a0 b2", "a0 busy", "a1 b0", "a1 b1", "a1 b2", "a1 busy", "a2 b0",
            "a2 b1", "a2 b2", "a2 busy",
        ])
        .check(|| {
            let world = World::new();
            let waits = spawn(&world, |w| w.note(format!("a{}", w.shared())));
            let tries = spawn(&world, |w| match w.latch.try_shared() {
                Some(data) => w.note(format!("b{}", w.look(&data))),
                None => w.note("busy"),
            });
            for _ in 0..2 {
                world.exclusive();
            }
            world.outcome([waits, tries])
        });
}

/// Each of the two finds that the other has left while it was about to, and the one who tries
/// follows both.
#[test]
fn two_leave_at_once() {
    Model::new("two share if they can, one tries to be alone")
        .rules("[O4]")
        .preemptions(Some(3))
        .outcomes(&["busy", "wrote"])
        .check(|| {
            let world = World::new();
            let share = |w: &World| {
                if let Some(data) = w.latch.try_shared() {
                    w.look(&data);
                }
            };
            let (a, b) = (spawn(&world, share), spawn(&world, share));
            match world.latch.try_exclusive() {
                Some(guard) => {
                    world.write(&guard);
                    world.note("wrote");
                }
                None => world.note("busy"),
            }
            world.outcome([a, b])
        });
}

/// Each adds one to what it has read, if nobody has written since.
#[test]
fn two_upgrade_from_what_they_have_read() {
    Model::new("two upgrades")
        .rules("[O3] [O4]")
        .preemptions(None)
        .outcomes(&["no yes", "yes yes"])
        .check(|| {
            let world = World::new();
            let upgrade = |w: &World| {
                let version = w.latch.version().unwrap();
                let seen = w.latch.peek().y.load(Relaxed);
                match w.latch.upgrade(version) {
                    Ok(guard) => {
                        assert_eq!(w.write(&guard), seen, "somebody has written since");
                        w.note("yes");
                    }
                    Err(why) => {
                        assert_eq!(why, Restart::Changed);
                        w.note("no");
                    }
                }
            };
            let other = spawn(&world, upgrade);
            upgrade(&world);
            let outcome = world.outcome([other]);
            let writes = world.latch.peek().x.load(Relaxed);
            assert_eq!(
                writes as usize,
                outcome.matches("yes").count(),
                "a write is lost"
            );
            outcome
        });
}

#[test]
fn an_upgrade_beside_one_who_shares() {
    Model::new("an upgrade beside one who shares")
        .rules("[O3] [O4]")
        .preemptions(None)
        .outcomes(&["0 no", "0 yes", "1 yes"])
        .check(|| {
            let world = World::new();
            let reader = spawn(&world, |w| w.note(w.shared()));
            let version = world.latch.version().unwrap();
            match world.latch.upgrade(version) {
                Ok(guard) => {
                    world.write(&guard);
                    world.note("yes");
                }
                Err(_) => world.note("no"),
            }
            world.outcome([reader])
        });
}

/// Who waits is told, who comes later too, and both see what was done before.
#[test]
fn everybody_is_told_that_it_is_obsolete() {
    Model::new("one takes it out of use, one waits to share, one to be alone")
        .rules("[O6]")
        .preemptions(Some(2))
        .outcomes(&["a b", "a b0", "a0 b", "a0 b0"])
        .check(|| {
            let world = World::new();
            let told = |name: char| {
                move |w: &World| {
                    let seen = match name {
                        'a' => w.latch.shared().map(|guard| w.look(&guard)),
                        _ => w.latch.exclusive().map(|guard| w.look(&guard)),
                    };
                    if seen.is_err() {
                        assert_eq!(w.latch.peek().y.load(Relaxed), 7, "told too early");
                    }
                    w.note(seen.map_or(name.to_string(), |seen| format!("{name}{seen}")));
                }
            };
            let others = [spawn(&world, told('a')), spawn(&world, told('b'))];
            let guard = world.latch.exclusive().unwrap();
            guard.y.store(7, Relaxed);
            ExclusiveGuard::mark_obsolete(guard);
            world.outcome(others)
        });
}

#[test]
fn an_optimistic_reader_is_told_that_it_is_obsolete() {
    Model::new("one takes it out of use beside an optimistic reader")
        .rules("[O2] [O6]")
        .preemptions(None)
        .outcomes(&["0", "told"])
        .check(|| {
            let world = World::new();
            let ends = spawn(&world, |w| {
                let guard = w.latch.exclusive().unwrap();
                guard.x.store(7, Relaxed);
                ExclusiveGuard::mark_obsolete(guard);
            });
            match world.latch.optimistic_read(|data| data.x.load(Relaxed)) {
                Ok(x) => world.note(x),
                Err(_) => {
                    assert_eq!(world.latch.peek().x.load(Relaxed), 7, "told too early");
                    world.note("told");
                }
            }
            world.outcome([ends])
        });
}
