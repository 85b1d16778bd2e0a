//! Cells: reads, writes, stamps and waiting, in every interleaving. What is replaced is kept to the
//! end.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use latchwork::model::Moment;
use latchwork::{VersionedCell, cell::Version};
use latchwork_loom_tests::{Model, Notes, spawn};
use loom::thread::{self, JoinHandle};

/// A value whose halves agree, unless it was read torn.
type Pair = (u32, u32);

fn both(n: u32) -> Pair {
    (n, n)
}

/// Cells, and what was seen.
struct World {
    x: VersionedCell<Pair>,
    y: VersionedCell<Pair>,
    notes: Notes,
}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(World {
            x: VersionedCell::new(both(0)),
            y: VersionedCell::new(both(0)),
            notes: Notes::default(),
        })
    }

    fn note(&self, note: impl Display) {
        self.notes.note(note);
    }

    fn outcome(&self, threads: impl IntoIterator<Item = JoinHandle<()>>) -> String {
        self.notes.after(threads).join(" ")
    }
}

/// What a reader sees: the value and its version, which agree.
fn look(cell: &VersionedCell<Pair>) -> u32 {
    let seen = cell.read();
    assert_eq!(seen.0, seen.1, "torn");
    assert_eq!(
        u64::from(seen.0),
        seen.version().get(),
        "another version's value"
    );
    seen.0
}

fn next(pair: &Pair) -> Pair {
    both(pair.0 + 1)
}

#[test]
fn a_read_is_whole() {
    Model::new("a reader beside a writer")
        .rules("[C1]")
        .preemptions(None)
        .outcomes(&["0", "1", "2"])
        .check(|| {
            let world = World::new();
            let writer = spawn(&world, |w| {
                w.x.set(both(1));
                w.x.set(both(2));
            });
            let seen = look(&world.x);
            assert!(look(&world.x) >= seen, "back in time");
            world.note(seen);
            world.outcome([writer])
        });
}

/// The writer's change in place comes before the read because the cell changes hands.
#[test]
fn a_write_in_place_is_seen() {
    Model::new("a cell is written in place and handed over")
        .rules("[C1]")
        .preemptions(None)
        .outcomes(&["0", "1"])
        .check(|| {
            let world = World::new();
            let outer = Arc::new(VersionedCell::new(None));
            let writer = thread::spawn({
                let outer = outer.clone();
                move || {
                    let mut cell = VersionedCell::new(both(0));
                    *cell.get_mut().expect("nobody shares it") = both(1);
                    outer.set(Some(cell));
                }
            });
            let seen = outer.read();
            world.note(seen.as_ref().map_or(0, look));
            drop(seen);
            world.outcome([writer])
        });
}

#[test]
fn two_updates_both_count() {
    Model::new("two updates of one cell")
        .rules("[C2]")
        .preemptions(Some(4))
        .outcomes(&["1 2"])
        .check(|| {
            let world = World::new();
            let update = |w: &World| w.note(w.x.update(next));
            let other = spawn(&world, update);
            update(&world);
            let outcome = world.outcome([other]);
            assert_eq!(look(&world.x), 2);
            outcome
        });
}

#[test]
fn one_of_two_conditional_writes() {
    Model::new("two conditional writes of one version")
        .rules("[C2]")
        .preemptions(None)
        .outcomes(&["lost to 1 won 1"])
        .check(|| {
            let world = World::new();
            let write = |w: &World| match w.x.compare_and_set(Version::FIRST, both(1)) {
                Ok(version) => w.note(format!("won {version}")),
                Err(conflict) => w.note(format!("lost to {}", conflict.current)),
            };
            let other = spawn(&world, write);
            write(&world);
            world.outcome([other])
        });
}

/// One waits for the word to change and so marks it; who reads the marked word still comes after
/// the writer.
#[test]
fn a_read_of_a_marked_word_is_whole() {
    Model::new("a writer, one who marks, a reader")
        .rules("[C2]")
        .preemptions(Some(3))
        .outcomes(&[
            "0 None",
            "0 Some(Version(1))",
            "1 None",
            "1 Some(Version(1))",
        ])
        .check(|| {
            let world = World::new();
            let writer = spawn(&world, |w| {
                w.x.set(both(1));
            });
            let marker = spawn(&world, |w| {
                // A deadline passes at the first park.
                let seen = w.x.wait_changed_for(Version::FIRST, Duration::from_secs(1));
                let _ =
                    w.x.wait_changed_for(Version::new(1), Duration::from_secs(1));
                w.note(format!("{seen:?}"));
            });
            world.note(look(&world.x));
            world.outcome([writer, marker])
        });
}

#[test]
fn a_conditional_write_against_a_waiter() {
    Model::new("a conditional write loses to a mark and not for good")
        .rules("[C3]")
        .preemptions(Some(4))
        .outcomes(&["None wrote 1", "Some(Version(1)) wrote 1"])
        .check(|| {
            let world = World::new();
            let waiter = spawn(&world, |w| {
                let seen = w.x.wait_changed_for(Version::FIRST, Duration::from_secs(1));
                w.note(format!("{seen:?}"));
            });
            match world.x.compare_and_set(Version::FIRST, both(1)) {
                Ok(version) => world.note(format!("wrote {version}")),
                Err(conflict) => world.note(format!("lost to {}", conflict.current)),
            }
            world.outcome([waiter])
        });
}

/// Reads both cells at one moment, `y` first.
fn snapshot(w: &World) {
    let moment = Moment::take();
    let y = w.y.at_moment(moment, |y| y.0);
    let x = w.x.at_moment(moment, |x| x.0);
    w.note(format!("x{x} y{y}"));
}

#[test]
fn a_snapshot_sees_one_moment() {
    a_snapshot_beside_a_writer_of_two("a snapshot beside a writer of two cells", false);
}

/// At an unused timestamp, if `quiet`.
fn a_snapshot_beside_a_writer_of_two(name: &str, quiet: bool) {
    Model::new(name)
        .rules("[C4]")
        .preemptions(Some(4))
        .outcomes(&["x0 y0", "x1 y0", "x1 y1"])
        .check(move || {
            let world = World::new();
            if quiet {
                Moment::take();
            }
            let writer = spawn(&world, |w| {
                w.x.set(both(1));
                w.y.set(both(1));
            });
            snapshot(&world);
            world.outcome([writer])
        });
}

/// The second writer has seen what the first wrote: no snapshot sees the second and misses the
/// first.
#[test]
fn a_snapshot_sees_what_a_write_followed() {
    Model::new("a snapshot beside two writers, one of whom follows the other")
        .rules("[C4]")
        .preemptions(Some(3))
        .outcomes(&["x0 y0", "x1 y0", "x1 y1"])
        .check(|| {
            let world = World::new();
            let first = spawn(&world, |w| {
                w.x.set(both(1));
            });
            let second = spawn(&world, |w| {
                if look(&w.x) == 1 {
                    w.y.set(both(1));
                }
            });
            snapshot(&world);
            world.outcome([first, second])
        });
}

/// A write on top of one whose writer has not stamped it yet, and a snapshot of both cells.
#[test]
fn a_helper_stamps_for_a_slow_writer() {
    Model::new("a snapshot beside two writers of one cell")
        .rules("[C4]")
        .preemptions(Some(2))
        .outcomes(&["x0 y0", "x1 y0", "x2 y0", "x2 y2"])
        .check(|| {
            let world = World::new();
            let first = spawn(&world, |w| {
                w.x.update(next);
            });
            let second = spawn(&world, |w| {
                if w.x.update(next).get() == 2 {
                    w.y.set(both(2));
                }
            });
            snapshot(&world);
            world.outcome([first, second])
        });
}

/// Whoever stamps a node that he has found must not give it a moment that is over.
#[test]
fn a_snapshot_sees_a_cell_once() {
    Model::new("a snapshot reads a cell twice beside a reader who stamps it")
        .rules("[C4]")
        .preemptions(Some(3))
        .outcomes(&["x0", "x1"])
        .check(|| {
            let world = World::new();
            let writer = spawn(&world, |w| {
                w.x.set(both(1));
            });
            let helper = spawn(&world, |w| {
                look(&w.x);
            });
            let moment = Moment::take();
            let first = world.x.at_moment(moment, |x| x.0);
            let second = world.x.at_moment(moment, |x| x.0);
            assert_eq!(first, second, "one moment, two values");
            world.note(format!("x{first}"));
            world.outcome([writer, helper])
        });
}

/// Under loom every other timestamp begins unused: the one that the first snapshot begins does, and
/// the next snapshot advances the clock only if a write has marked that timestamp.
#[test]
fn a_snapshot_at_an_unused_timestamp_sees_one_moment() {
    let name = "a snapshot beside a writer of two cells, at an unused timestamp";
    a_snapshot_beside_a_writer_of_two(name, true);
}

/// A thread that has found a write, or has stamped it for its writer, takes a snapshot: the
/// timestamp of the write is marked by then.
#[test]
fn a_snapshot_sees_what_its_thread_has_read() {
    for (name, quiet) in [
        ("a read and then a snapshot, beside a writer", false),
        ("the same, at an unused timestamp", true),
    ] {
        Model::new(name)
            .rules("[C4]")
            .preemptions(Some(4))
            .outcomes(&["r0 s0", "r0 s1", "r1 s1"])
            .check(move || {
                let world = World::new();
                if quiet {
                    Moment::take();
                }
                let writer = spawn(&world, |w| {
                    w.x.set(both(1));
                });
                let read = look(&world.x);
                let moment = Moment::take();
                let seen = world.x.at_moment(moment, |x| x.0);
                world.note(format!("r{read} s{seen}"));
                world.outcome([writer])
            });
    }
}

/// Two writers find the timestamp unused. The one whose mark fails has its timestamp marked too,
/// including when a snapshot has advanced the clock since.
#[test]
fn a_snapshot_sees_what_its_thread_has_written() {
    Model::new("two threads write at an unused timestamp and take a snapshot")
        .rules("[C4]")
        .preemptions(Some(3))
        .outcomes(&["x1 y0 x1 y1", "x0 y1 x1 y1", "x1 y1 x1 y1"])
        .check(|| {
            let world = World::new();
            Moment::take();
            let other = spawn(&world, |w| {
                w.y.set(both(1));
                let moment = Moment::take();
                assert_eq!(w.y.at_moment(moment, |y| y.0), 1, "its own write");
                let x = w.x.at_moment(moment, |x| x.0);
                w.note(format!("x{x} y1"));
            });
            world.x.set(both(1));
            let moment = Moment::take();
            assert_eq!(world.x.at_moment(moment, |x| x.0), 1, "its own write");
            let y = world.y.at_moment(moment, |y| y.0);
            world.note(format!("x1 y{y}"));
            world.outcome([other])
        });
}

/// Deadlock is loom's to report: it is what a lost wake-up looks like.
#[test]
fn a_write_wakes_a_waiter() {
    Model::new("one waits, one writes")
        .rules("[C5]")
        .preemptions(None)
        .outcomes(&["1"])
        .check(|| {
            let world = World::new();
            let waiter = spawn(&world, |w| w.note(w.x.wait_changed(Version::FIRST)));
            world.x.set(both(1));
            world.outcome([waiter])
        });
}

#[test]
fn a_write_wakes_two_waiters() {
    Model::new("two wait, one writes")
        .rules("[C5]")
        .preemptions(Some(3))
        .outcomes(&["1 1"])
        .check(|| {
            let world = World::new();
            let wait = |w: &World| w.note(w.x.wait_changed(Version::FIRST));
            let waiters = [spawn(&world, wait), spawn(&world, wait)];
            world.x.set(both(1));
            world.outcome(waiters)
        });
}

/// The waiter waits again, for the second write, while the first writer may still be about to wake
/// it.
#[test]
fn a_waiter_for_the_second_write() {
    Model::new("one waits twice, two write")
        .rules("[C5]")
        .preemptions(Some(2))
        .outcomes(&["1 2", "2"])
        .check(|| {
            let world = World::new();
            let waiter = spawn(&world, |w| {
                let mut seen = Version::FIRST;
                while seen.get() < 2 {
                    seen = w.x.wait_changed(seen);
                    w.note(seen);
                }
            });
            let writer = spawn(&world, |w| {
                w.x.update(next);
            });
            world.x.update(next);
            world.outcome([waiter, writer])
        });
}

#[test]
fn a_waiter_gives_up_as_it_is_woken() {
    Model::new("one gives up, one waits on, one writes")
        .rules("[C5]")
        .preemptions(Some(3))
        .outcomes(&["1 None", "1 Some(Version(1))"])
        .check(|| {
            let world = World::new();
            let gives_up = spawn(&world, |w| {
                let seen = w.x.wait_changed_for(Version::FIRST, Duration::from_secs(1));
                w.note(format!("{seen:?}"));
            });
            let waits = spawn(&world, |w| w.note(w.x.wait_changed(Version::FIRST)));
            world.x.set(both(1));
            world.outcome([gives_up, waits])
        });
}

/// A version that is waited for before anybody has read it: the write that makes it the current one
/// takes a mark off, and the waiter needs one of its own.
#[test]
fn a_waiter_for_what_is_not_written_yet() {
    Model::new("one waits for a version to come and to go, two writes")
        .rules("[C5]")
        .preemptions(None)
        .outcomes(&["0", "2"])
        .check(|| {
            let world = World::new();
            let marked = world
                .x
                .wait_changed_for(Version::FIRST, Duration::from_secs(1));
            assert_eq!(marked, None);
            let writer = spawn(&world, |w| {
                w.x.set(both(1));
                w.x.set(both(2));
            });
            world.note(world.x.wait_changed(Version::new(1)));
            world.outcome([writer])
        });
}
