//! Cells with their epochs: no value is dropped, and no memory used again, under a reader, and each
//! value is dropped once. Searches without a bound contain a reader that is preempted between the
//! load of the epoch and the publication of its state.

use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use latchwork::{VersionedCell, cell::OwnedVersioned, model};
use latchwork_loom_tests::Model;
use loom::cell::UnsafeCell;
use loom::thread;

/// What all the values of one execution share.
struct Values {
    // A destructor writes its cell, readers read it: at once, it is a race that loom reports.
    alive: [UnsafeCell<bool>; 4],
    // Relaxed everywhere: loom runs one thread at a time, and it is not part of the model.
    drops: [AtomicUsize; 4],
    noted: Mutex<String>,
}

// SAFETY: loom checks the cells; that is what they are for.
unsafe impl Send for Values {}
// SAFETY: as above.
unsafe impl Sync for Values {}

struct Value(usize, Arc<Values>);

thread_local! {
    // loom runs all threads of a model on one OS thread. What is left when an execution is over was
    // forgotten; less than nothing was dropped twice.
    static LIVE: Cell<isize> = const { Cell::new(0) };
}

impl Values {
    /// Begins an execution that reclaims.
    fn reclaiming() -> Arc<Self> {
        model::reclaim_in_model();
        Self::new()
    }

    /// Begins an execution that reclaims, and in which an idle thread leaves the next scan.
    fn reclaiming_with_dormant_slots() -> Arc<Self> {
        model::reclaim_with_dormant_slots_in_model();
        Self::new()
    }

    /// Begins an execution that keeps what is replaced.
    fn new() -> Arc<Self> {
        assert_eq!(
            LIVE.get(),
            0,
            "values that the execution before did not drop once each"
        );
        Arc::new(Values {
            alive: core::array::from_fn(|_| UnsafeCell::new(true)),
            drops: Default::default(),
            noted: Mutex::default(),
        })
    }

    fn value(self: &Arc<Self>, n: usize) -> Value {
        LIVE.set(LIVE.get() + 1);
        Value(n, self.clone())
    }

    /// How often each of the first `n` values has been dropped.
    fn drops(&self, n: usize) -> String {
        let drops = self.drops[..n].iter().map(|d| d.load(Ordering::Relaxed));
        drops.map(|n| n.to_string()).collect()
    }
}

impl Value {
    fn look(&self) -> usize {
        // SAFETY: loom stops the model if the destructor runs at the same time.
        let alive = self.1.alive[self.0].with(|alive| unsafe { *alive });
        assert!(alive, "dropped under a reader");
        self.0
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        // What an execution leaves is dropped after the thread-locals.
        let inside = WRITES_ONLY.try_with(Cell::get).unwrap_or(false);
        assert!(!inside, "dropped inside a destructor or a panic");
        // SAFETY: as in `look`.
        self.1.alive[self.0].with_mut(|alive| unsafe { *alive = false });
        self.1.drops[self.0].fetch_add(1, Ordering::Relaxed);
        LIVE.set(LIVE.get() - 1);
    }
}

/// A writer that replaces `writes` values and reclaims what it can, beside a reader.
fn read_beside(writes: usize, read: impl FnOnce(&VersionedCell<Value>) -> usize) -> String {
    let values = Values::reclaiming();
    let cell = Arc::new(VersionedCell::new(values.value(0)));
    let writer = thread::spawn({
        let (cell, values) = (cell.clone(), values.clone());
        move || {
            for n in 1..=writes {
                cell.set(values.value(n));
            }
            latchwork::flush();
        }
    });
    let seen = read(&cell);
    writer.join().unwrap();
    format!("saw {seen}, then {}", values.drops(writes + 1))
}

#[test]
fn a_reader_keeps_what_it_reads() {
    Model::new("a reader beside a writer that reclaims")
        .rules("[R1] [R2]")
        .preemptions(None)
        .outcomes(&[
            "saw 0, then 00",
            "saw 0, then 10",
            "saw 1, then 00",
            "saw 1, then 10",
        ])
        .check(|| read_beside(1, |cell| cell.read().look()));
}

/// The second write may use the memory of the first value again.
#[test]
fn a_reader_keeps_it_through_two_writes() {
    Model::new("a reader beside a writer that uses memory again")
        .rules("[R1] [R2] [R4]")
        .preemptions(None)
        .outcomes(&[
            "saw 0, then 000",
            "saw 0, then 110",
            "saw 1, then 000",
            "saw 1, then 100",
            "saw 1, then 110",
            "saw 2, then 000",
            "saw 2, then 100",
            "saw 2, then 110",
        ])
        .check(|| {
            read_beside(2, |cell| {
                let snapshot = cell.read();
                let seen = snapshot.look();
                assert_eq!(snapshot.version().get(), seen as u64, "another node");
                assert_eq!(snapshot.look(), seen);
                seen
            })
        });
}

/// What the models above rely on: a reader that uses its value after the pin is found out.
#[test]
fn a_reader_that_unpins_early_is_found() {
    Model::new("a reader that unpins early")
        .rules("[R1]")
        .preemptions(None)
        .because("Causality violation")
        .must_fail(|| {
            read_beside(1, |cell| {
                let (n, values) = {
                    let snapshot = cell.read();
                    (snapshot.0, snapshot.1.clone())
                };
                // As if it still had the value: a destructor that runs now is a race.
                std::mem::ManuallyDrop::new(Value(n, values)).look()
            })
        });
}

/// Takes an owned snapshot beside `other`, which ends the cell's share of the value. Whoever is
/// last drops the cell, which loom's `Arc` makes it see.
fn own_beside(
    other: impl FnOnce(loom::sync::Arc<VersionedCell<Value>>, &Arc<Values>) + 'static,
    read: impl FnOnce(OwnedVersioned<Value>) + 'static,
) -> String {
    let values = Values::reclaiming();
    let cell = loom::sync::Arc::new(VersionedCell::new(values.value(0)));
    let reader = thread::spawn({
        let cell = cell.clone();
        move || {
            let snapshot = cell.read_owned();
            drop(cell);
            read(snapshot);
        }
    });
    other(cell, &values);
    latchwork::flush();
    reader.join().unwrap();
    values.drops(2)
}

#[test]
fn an_owned_snapshot_outlives_its_cell() {
    Model::new("an owned snapshot beside the end of its cell")
        .rules("[R3]")
        .preemptions(None)
        .outcomes(&["10"])
        .check(|| {
            own_beside(
                |cell, _| drop(cell),
                |snapshot| assert_eq!(snapshot.look(), 0),
            )
        });
}

#[test]
fn an_owned_snapshot_outlives_a_write() {
    Model::new("an owned snapshot beside a write that reclaims")
        .rules("[R3]")
        .preemptions(None)
        .outcomes(&["01", "11"])
        .check(|| {
            own_beside(
                |cell, values| {
                    cell.set(values.value(1));
                },
                |snapshot| assert_eq!(snapshot.look() as u64, snapshot.version().get()),
            )
        });
}

/// Neither the cell nor a pin is left: two snapshots, and the last of them drops the value.
#[test]
fn two_owned_snapshots_are_dropped() {
    Model::new("two owned snapshots of a value go at once")
        .rules("[R3]")
        .preemptions(None)
        .outcomes(&["0 1", "2 1"])
        .check(|| {
            let values = Values::new();
            let cell = VersionedCell::new(values.value(0));
            let (a, b) = (cell.read_owned(), cell.read_owned());
            drop(cell);
            let other = thread::spawn(move || {
                a.look();
            });
            // Takes the value out if it is the last.
            let own = match b.into_value() {
                Ok(value) => value.look(),
                Err(snapshot) => 2 + snapshot.look(),
            };
            other.join().unwrap();
            format!("{own} {}", values.drops(1))
        });
}

/// The flush reaches the slot of a thread that has ended, and drops its value.
#[test]
fn a_thread_that_ends_leaves_its_garbage() {
    Model::new("a thread writes and ends, another flushes")
        .rules("[R5]")
        .preemptions(None)
        .outcomes(&["1"])
        .check(|| {
            let values = Values::reclaiming();
            let cell = Arc::new(VersionedCell::new(values.value(0)));
            let writer = thread::spawn({
                let (cell, value) = (cell.clone(), values.value(1));
                move || {
                    cell.set(value);
                }
            });
            writer.join().unwrap();
            latchwork::flush();
            values.drops(1)
        });
}

/// A nested pin ends while the value that was read under the outer one is in use.
#[test]
fn a_nested_pin_keeps_what_was_read() {
    Model::new("a reader with a nested pin beside a writer that reclaims")
        .rules("[R2]")
        .preemptions(None)
        .outcomes(&[
            "saw 0, then 00",
            "saw 0, then 10",
            "saw 1, then 00",
            "saw 1, then 10",
        ])
        .check(|| {
            read_beside(1, |cell| {
                let outer = latchwork::pin();
                let value = cell.read_in(&outer);
                drop(latchwork::pin());
                value.look()
            })
        });
}

/// A reader beside a writer whose first scan lets idle slots leave, and whose later ones look at
/// members only.
fn read_beside_scans(is_dormant: bool) -> String {
    let values = Values::reclaiming_with_dormant_slots();
    let cell = Arc::new(VersionedCell::new(values.value(0)));
    if is_dormant {
        drop(latchwork::pin());
    }
    let writer = thread::spawn({
        let (cell, values) = (cell.clone(), values.clone());
        move || {
            cell.set(values.value(1));
            cell.set(values.value(2));
            latchwork::flush();
        }
    });
    let seen = cell.read().look();
    writer.join().unwrap();
    format!("saw {seen}, then {}", values.drops(3))
}

const READ_BESIDE_SCANS: [&str; 8] = [
    "saw 0, then 000",
    "saw 0, then 110",
    "saw 1, then 000",
    "saw 1, then 100",
    "saw 1, then 110",
    "saw 2, then 000",
    "saw 2, then 100",
    "saw 2, then 110",
];

/// The reader has been pinned before. A scan of the first write may find it idle, and remove its
/// slot while the reader joins again.
#[test]
fn a_reader_that_was_dormant_keeps_what_it_reads() {
    Model::new("a dormant reader beside a writer that reclaims")
        .rules("[R2] [R13]")
        .preemptions(Some(4))
        .outcomes(&READ_BESIDE_SCANS)
        .check(|| read_beside_scans(true));
}

/// The reader has never been pinned. A scan may find that it has joined, and must not find the
/// state of before.
#[test]
fn a_reader_that_joins_keeps_what_it_reads() {
    Model::new("a reader that joins beside a writer that reclaims")
        .rules("[R2] [R13]")
        .preemptions(Some(4))
        .outcomes(&READ_BESIDE_SCANS)
        .check(|| read_beside_scans(false));
}

/// One thread removes the slot of the reader, and another advances without a look at it.
#[test]
fn a_thread_that_looks_at_no_slot_observes_the_reads_of_one_that_left() {
    Model::new("a reader that leaves beside two threads that advance")
        .rules("[R2] [R13]")
        .preemptions(Some(2))
        .outcomes(&["saw 0", "saw 1"])
        .check(|| {
            let values = Values::reclaiming_with_dormant_slots();
            let cell = Arc::new(VersionedCell::new(values.value(0)));
            let writer = thread::spawn({
                let (cell, value) = (cell.clone(), values.value(1));
                move || {
                    cell.set(value);
                    latchwork::flush();
                }
            });
            let other = thread::spawn(latchwork::flush);
            let seen = cell.read().look();
            writer.join().unwrap();
            other.join().unwrap();
            format!("saw {seen}")
        });
}

/// The writer may find the state of the second read, and must know of the first.
#[test]
fn a_reader_that_reads_twice_keeps_what_it_reads() {
    Model::new("a thread that reads twice beside a writer that reclaims")
        .rules("[R2]")
        .preemptions(Some(3))
        .outcomes(&[
            "saw 0, then 00",
            "saw 0, then 10",
            "saw 1, then 00",
            "saw 1, then 10",
            "saw 2, then 00",
            "saw 2, then 10",
        ])
        .check(|| read_beside(1, |cell| cell.read().look() + cell.read().look()));
}

/// The slot of a reader that has ended is used by another reader, beside a writer that looks at it.
#[test]
fn a_reader_of_a_reused_slot_keeps_what_it_reads() {
    Model::new("two readers one after the other beside a writer that reclaims")
        .rules("[R2]")
        .preemptions(Some(3))
        .outcomes(&[
            "saw 0 0, then 00",
            "saw 0 0, then 10",
            "saw 0 1, then 00",
            "saw 0 1, then 10",
            "saw 1 1, then 00",
            "saw 1 1, then 10",
        ])
        .check(|| {
            let values = Values::reclaiming();
            let cell = Arc::new(VersionedCell::new(values.value(0)));
            let writer = thread::spawn({
                let (cell, values) = (cell.clone(), values.clone());
                move || {
                    cell.set(values.value(1));
                    latchwork::flush();
                }
            });
            let mut seen = Vec::new();
            for _ in 0..2 {
                let cell = cell.clone();
                let reader = thread::spawn(move || cell.read().look());
                seen.push(reader.join().unwrap().to_string());
            }
            writer.join().unwrap();
            format!("saw {}, then {}", seen.join(" "), values.drops(2))
        });
}

/// Two writers move the epoch on, each for its own garbage.
#[test]
fn a_reader_keeps_what_two_threads_retire() {
    Model::new("a reader beside two writers that reclaim")
        .rules("[R2]")
        .preemptions(Some(2))
        .outcomes(&["saw 0", "saw 1", "saw 2"])
        .check(|| {
            let values = Values::reclaiming();
            let cell = Arc::new(VersionedCell::new(values.value(0)));
            let writers = [1, 2].map(|n| {
                let (cell, values) = (cell.clone(), values.clone());
                thread::spawn(move || {
                    cell.set(values.value(n));
                    latchwork::flush();
                })
            });
            let seen = cell.read().look();
            for writer in writers {
                writer.join().unwrap();
            }
            format!("saw {seen}")
        });
}

/// A thread that has replaced a value and writes no more, beside one that flushes. The first also
/// releases for itself.
#[test]
fn an_idle_thread_and_a_flush_release_each_value_once() {
    Model::new("a flush beside the writer whose garbage it reaches")
        .rules("[R4] [R5]")
        .preemptions(Some(3))
        .outcomes(&["000", "100", "110"])
        .check(|| {
            let values = Values::reclaiming();
            let cell = Arc::new(VersionedCell::new(values.value(0)));
            let other = thread::spawn(latchwork::flush);
            for n in 1..=2 {
                cell.set(values.value(n));
            }
            other.join().unwrap();
            values.drops(3)
        });
}

/// A destructor drops a cell, whose value joins the queue of the thread. A flush of another thread
/// may pop it first.
#[test]
fn a_queued_value_is_destroyed_once() {
    #[allow(dead_code, reason = "dropped, and never read")]
    struct Outer(VersionedCell<Value>, Value);

    Model::new("a queue of a destructor beside a flush")
        .rules("[R4] [R10]")
        .preemptions(Some(3))
        .outcomes(&["11"])
        .check(|| {
            let values = Values::reclaiming();
            let outer = Outer(VersionedCell::new(values.value(0)), values.value(1));
            let cell = VersionedCell::new(outer);
            let other = thread::spawn(latchwork::flush);
            drop(cell);
            other.join().unwrap();
            values.drops(2)
        });
}

loom::thread_local! {
    /// Whether the thread runs a destructor, or unwinds, in which no value may be dropped.
    static WRITES_ONLY: Cell<bool> = Cell::new(false);
}

/// Its destructor replaces three values.
struct Writes(VersionedCell<Value>, Arc<Values>);

impl Drop for Writes {
    fn drop(&mut self) {
        WRITES_ONLY.with(|inside| inside.set(true));
        for n in 1..=3 {
            self.0.set(self.1.value(n));
        }
        WRITES_ONLY.with(|inside| inside.set(false));
        *self.1.noted.lock().unwrap() = self.1.drops(3);
    }
}

/// The third write finds the first value reclaimable, and leaves it to others, which may be there
/// already.
#[test]
fn a_write_inside_a_destructor_drops_no_value() {
    for (name, panics) in [
        ("a destructor that writes beside a flush", false),
        ("a panic that writes beside a flush", true),
    ] {
        Model::new(name)
            .rules("[R10] [R11]")
            .preemptions(Some(if panics { 1 } else { 2 }))
            .outcomes(&["000, then 1111", "100, then 1111", "110, then 1111"])
            .check(move || {
                let values = Values::reclaiming();
                let writes = Writes(VersionedCell::new(values.value(0)), values.clone());
                let other = thread::spawn(latchwork::flush);
                if panics {
                    let unwinds = std::panic::catch_unwind(AssertUnwindSafe(|| {
                        let _writes = writes;
                        std::panic::resume_unwind(Box::new("a closure that unwinds"));
                    }));
                    assert!(unwinds.is_err());
                } else {
                    drop(VersionedCell::new(writes));
                }
                other.join().unwrap();
                latchwork::flush();
                let noted = values.noted.lock().unwrap().clone();
                format!("{noted}, then {}", values.drops(4))
            });
    }
}

/// Its destructor unwinds, if it is the value of this number.
struct Unwinds(Value, usize);

impl Drop for Unwinds {
    fn drop(&mut self) {
        let values = &self.0.1;
        // Begins: the value does not wait.
        values.drops[self.0.0].fetch_add(1, Ordering::Relaxed);
        if self.0.0 == self.1 && !std::thread::panicking() {
            std::panic::resume_unwind(Box::new("a destructor that unwinds"));
        }
    }
}

/// Retires `n` values behind an object without a value. Other threads release them while this one
/// counts. Each value whose destructor has not begun is counted, except for one in each of these
/// threads.
fn count_beside(threads: usize, n: usize, unwinds: usize) -> String {
    let values = Values::reclaiming();
    let cell = VersionedCell::new(None);
    let pin = latchwork::pin();
    for i in 0..n {
        cell.set(Some(Unwinds(values.value(i), unwinds)));
    }
    cell.set(None);
    drop(pin);
    assert_eq!(latchwork::stats().garbage, n + 1);
    let release = || {
        let flush = || std::panic::catch_unwind(latchwork::flush).is_err();
        thread::spawn(flush)
    };
    let others: Vec<_> = (0..threads).map(|_| release()).collect();
    let counted = latchwork::stats().garbage;
    let begun = |i: &AtomicUsize| i.load(Ordering::Relaxed) > 0;
    let waiting = |from: usize| values.drops[from..n].iter().filter(|&i| !begun(i)).count();
    let all = waiting(0);
    assert!(counted + threads >= all, "{counted} of {all} counted");
    if unwinds < n {
        // The thread removes no more objects after that.
        let behind = waiting(unwinds + 1);
        assert!(counted >= behind, "{counted} of {behind} counted");
    }
    let panics = others.into_iter().map(|t| t.join().unwrap());
    let panics = panics.filter(|&panics| panics).count();
    latchwork::flush();
    format!("{panics} {}", values.drops(n))
}

/// A thread removes the first object alone, and then two together.
#[test]
fn values_in_hand_are_counted() {
    Model::new("a thread that counts beside one that releases a batch")
        .rules("[R4]")
        .preemptions(Some(3))
        .outcomes(&["0 22"])
        .check(|| count_beside(1, 2, usize::MAX));
}

/// Of the two that are removed together, the first panics, and the other returns.
#[test]
fn values_that_return_are_counted() {
    Model::new("a thread that counts beside one whose destructor panics")
        .rules("[R4]")
        .preemptions(Some(3))
        .outcomes(&["1 222"])
        .check(|| count_beside(1, 3, 0));
}

/// Both may remove values together.
#[test]
fn values_in_the_hands_of_two_threads_are_counted() {
    Model::new("a thread that counts beside two that release from its slot")
        .rules("[R4]")
        .preemptions(Some(2))
        .outcomes(&["0 2222"])
        .check(|| count_beside(2, 4, usize::MAX));
}
