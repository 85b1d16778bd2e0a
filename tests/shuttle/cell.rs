//! Cells under schedules that shuttle chooses: writers, readers, owned snapshots and waiters at
//! once, and what becomes of the values. What orderings are for is shown elsewhere.
//!
//! ```text
//! ci/schedules.sh 100000 TEST        so many schedules of a test
//! ci/schedules.sh --replay TEST 7    one of them again
//! ```
//! In such a build a thread looks after each write whether older values may be dropped, and all who
//! wait share one queue. There is no clock: a timed wait queues, and gives up as soon as it would
//! sleep.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::common::schedules;
use latchwork::{
    RetryPolicy, VersionedCell,
    cell::{OwnedVersioned, UpdateError, Version},
};
use shuttle::future::block_on;
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;

/// Schedules of a test, unless a campaign wants more.
const SCHEDULES: u64 = 8_000;
/// Never over before the call queues.
const LONG: Duration = Duration::from_secs(1 << 20);

/// Values made and dropped. std's atomics, not shuttle's: the oracle adds no scheduling points.
#[derive(Default)]
struct Count {
    made: AtomicU64,
    dropped: AtomicU64,
}

/// The number of a write, in two places, so that a value that is gone or torn shows.
struct Value {
    number: u64,
    again: u64,
    count: Arc<Count>,
}

impl Value {
    fn new(number: u64, count: &Arc<Count>) -> Self {
        count.made.fetch_add(1, Relaxed);
        let count = count.clone();
        Value {
            number,
            again: !number,
            count,
        }
    }

    fn next(&self) -> Self {
        Value::new(self.look() + 1, &self.count)
    }

    fn look(&self) -> u64 {
        assert_eq!(self.number, !self.again, "torn, or dropped");
        self.number
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.look();
        self.again = self.number;
        self.count.dropped.fetch_add(1, Relaxed);
    }
}

/// Cells whose values are their versions, since every write adds one.
struct World {
    cells: Vec<VersionedCell<Value>>,
    count: Arc<Count>,
}

/// What the tasks do.
#[derive(Clone, Copy)]
enum Work {
    /// Every call.
    Mixed,
    /// Writes only, each of another kind.
    Writes,
    /// Half wait for the end, each in another way, half write.
    Waiters,
}

/// What one task has seen and keeps.
#[derive(Default)]
struct Mine {
    seen: Vec<u64>,
    owned: Vec<OwnedVersioned<Value>>,
    written: u64,
    refused: u64,
}

impl Mine {
    /// A version that was seen of a cell: none comes after a later one.
    fn saw(&mut self, cell: usize, version: Version) {
        assert!(version.get() >= self.seen[cell], "back in time");
        self.seen[cell] = version.get();
    }
}

impl World {
    fn new(cells: usize) -> Arc<Self> {
        let count = Arc::<Count>::default();
        let cells = (0..cells).map(|_| VersionedCell::new(Value::new(0, &count)));
        Arc::new(World {
            cells: cells.collect(),
            count: count.clone(),
        })
    }

    fn write(&self, at: usize, mine: &mut Mine) {
        let cell = &self.cells[at];
        let version = match thread_rng().gen_range(0..4) {
            0 => Some(cell.update(Value::next)),
            1 => {
                let next = |value: &Value| Ok::<_, ()>(value.next());
                match cell.try_update(&RetryPolicy::attempts(1), next) {
                    Ok(version) => Some(version),
                    Err(error) => {
                        assert_eq!(error, UpdateError::Contended);
                        None
                    }
                }
            }
            _ => {
                let seen = cell.read();
                let written = cell.compare_and_set(seen.version(), seen.next());
                written
                    .map_err(|conflict| {
                        assert!(conflict.current > conflict.expected);
                        assert_eq!(conflict.value.look(), conflict.expected.get() + 1);
                    })
                    .ok()
            }
        };
        match version {
            Some(version) => {
                assert!(version.get() > mine.seen[at], "a version comes twice");
                mine.saw(at, version);
                mine.written += 1;
            }
            None => mine.refused += 1,
        }
    }

    fn step(&self, work: Work, mine: &mut Mine) {
        let at = thread_rng().gen_range(0..self.cells.len());
        let cell = &self.cells[at];
        match (work, thread_rng().gen_range(0..10)) {
            (Work::Writes | Work::Waiters, _) | (_, 0..=2) => self.write(at, mine),
            (_, 3) => {
                let (first, pin) = (cell.read(), latchwork::pin());
                let second = cell.read_in(&pin);
                thread::yield_now();
                assert_eq!(first.look(), first.version().get());
                assert_eq!(second.look(), second.version().get());
                mine.saw(at, first.version());
                mine.saw(at, second.version());
            }
            (_, 4..=5) => {
                let owned = cell.read_owned();
                mine.saw(at, owned.version());
                mine.owned.push(owned.clone());
                mine.owned.push(owned);
            }
            (_, 6) => {
                let Some(owned) = mine.owned.pop() else {
                    return;
                };
                assert_eq!(owned.look(), owned.version().get());
                // Moved out or not: it is dropped once.
                drop(owned.into_value());
            }
            (_, 7) => {
                let seen = cell.version();
                let changed = cell.wait_changed_for(seen, LONG);
                mine.saw(at, changed.unwrap_or(seen));
            }
            (_, 8) => {
                let seen = cell.version();
                let mut changed = pin!(cell.changed(seen));
                match changed
                    .as_mut()
                    .poll(&mut Context::from_waker(Waker::noop()))
                {
                    Poll::Ready(version) => mine.saw(at, version),
                    Poll::Pending => thread::yield_now(),
                }
            }
            _ => latchwork::flush(),
        }
        for owned in &mine.owned {
            assert_eq!(owned.look(), owned.version().get());
        }
    }

    /// Follows a cell until it was written so often, in one of three ways.
    fn follow(&self, at: usize, last: u64, way: usize, mine: &mut Mine) {
        let cell = &self.cells[at];
        let mut seen = Version::FIRST;
        while seen.get() < last {
            seen = match way % 3 {
                0 => cell.wait_changed(seen),
                1 => block_on(cell.changed(seen)),
                _ => {
                    // For what follows a version that may not have been written yet.
                    thread::yield_now();
                    cell.wait_changed(Version::new(last - 1))
                }
            };
            mine.saw(at, seen);
        }
    }
}

/// One execution: `tasks` tasks of `steps` steps each. Returns the writes and those that came too
/// late.
fn execute(cells: usize, tasks: usize, steps: usize, work: Work) -> (u64, u64) {
    let world = World::new(cells);
    let count = world.count.clone();
    let handles: Vec<_> = (0..tasks)
        .map(|task| {
            let world = world.clone();
            thread::spawn(move || {
                let mut mine = Mine {
                    seen: vec![0; cells],
                    ..Mine::default()
                };
                match work {
                    Work::Waiters if task % 2 == 0 => {
                        // The others write at least once each.
                        world.follow(0, (tasks / 2) as u64, task / 2, &mut mine);
                    }
                    Work::Waiters => {
                        mine.saw(0, world.cells[0].update(Value::next));
                        mine.written += 1;
                        (1..steps).for_each(|_| world.step(work, &mut mine));
                    }
                    _ => (0..steps).for_each(|_| world.step(work, &mut mine)),
                }
                (mine.written, mine.refused)
            })
        })
        .collect();
    let (mut written, mut refused) = (0, 0);
    for handle in handles {
        let (w, r) = handle.join().expect("the oracle failed");
        written += w;
        refused += r;
    }
    let found: u64 = world.cells.iter().map(|c| c.read().look()).sum();
    let versions: u64 = world.cells.iter().map(|c| c.version().get()).sum();
    assert_eq!((found, versions), (written, written), "a write was lost");

    // Nobody reads any more: one call drops whatever is not a cell's.
    latchwork::flush();
    let (made, dropped) = (count.made.load(Relaxed), count.dropped.load(Relaxed));
    assert_eq!(dropped + cells as u64, made, "of {made} made");
    drop(world);
    assert_eq!(count.dropped.load(Relaxed), made);
    (written, refused)
}

/// Runs a world under many schedules.
fn explore(name: &str, cells: usize, tasks: usize, steps: usize, work: Work) {
    let total = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let sum = total.clone();
    let count = schedules::explore(name, SCHEDULES, move |_| {
        let (written, refused) = execute(cells, tasks, steps, work);
        sum[0].fetch_add(written, Relaxed);
        sum[1].fetch_add(refused, Relaxed);
    });
    let [written, refused] = [total[0].load(Relaxed), total[1].load(Relaxed)];
    println!("{written} writes, {refused} too late");
    assert!(
        count < 100 || refused > count / 40,
        "hardly anybody was in the way: {refused}"
    );
}

#[test]
fn every_call_on_one_cell() {
    explore("every_call_on_one_cell", 1, 3, 5, Work::Mixed);
}

#[test]
fn every_call_on_two_cells() {
    explore("every_call_on_two_cells", 2, 4, 4, Work::Mixed);
}

#[test]
fn six_writers() {
    explore("six_writers", 1, 6, 3, Work::Writes);
}

#[test]
fn nobody_waits_for_what_has_been() {
    explore("nobody_waits_for_what_has_been", 1, 6, 2, Work::Waiters);
}
