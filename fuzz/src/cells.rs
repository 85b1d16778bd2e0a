//! A few cells against a model. One thread: each call has one right outcome, waiting included.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::slice::Iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use latchwork::{Conflict, OwnedSnapshot, RetryPolicy, UpdateError, Version, VersionedCell};

const CELLS: usize = 3;
/// Most calls of one input.
const MOST_OPS: usize = 300;
/// Most snapshots and futures that lie within each other.
const MOST_NESTED: usize = 6;
/// Most owned snapshots at a time.
const MOST_KEPT: usize = 40;

/// How often the calls of some inputs came to what.
#[derive(Clone, Copy, Debug, Default)]
pub struct CellTally {
    /// Writes that happened.
    pub written: u64,
    /// Conditional writes that found another version, and updates that were given up.
    pub refused: u64,
    /// Futures that were woken.
    pub woken: u64,
    /// Calls that wanted the value for themselves while a snapshot shared it.
    pub shared: u64,
    /// Values that were moved out of cells and snapshots.
    pub moved: u64,
}

impl CellTally {
    /// Adds those of another input.
    pub fn add(&mut self, other: Self) {
        self.written += other.written;
        self.refused += other.refused;
        self.woken += other.woken;
        self.shared += other.shared;
        self.moved += other.moved;
    }
}

/// Counts those of its kind.
struct Value {
    number: u64,
    live: Arc<AtomicUsize>,
}

impl Value {
    fn new(number: u64, live: &Arc<AtomicUsize>) -> Self {
        live.fetch_add(1, Relaxed);
        let live = live.clone();
        Value { number, live }
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        let before = self.live.fetch_sub(1, Relaxed);
        assert!(before > 0, "dropped more often than made");
    }
}

/// Which value of which cell, for ever.
type Name = (u64, Version);

/// What a cell should have.
#[derive(Clone, Copy)]
struct Expected {
    /// Cells that take another's place are other cells.
    cell: u64,
    version: Version,
    number: u64,
}

impl Expected {
    fn name(self) -> Name {
        (self.cell, self.version)
    }
}

struct Kept {
    name: Name,
    number: u64,
    snapshot: OwnedSnapshot<Value>,
}

struct World {
    live: Arc<AtomicUsize>,
    made: u64,
    expected: [Expected; CELLS],
    kept: Vec<Kept>,
    tally: CellTally,
}

#[derive(Default)]
struct CountWakes(AtomicUsize);

impl Wake for CountWakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

fn after(version: Version, n: u64) -> Version {
    Version::new(version.get().wrapping_add(n))
}

/// Runs the calls that `data` stands for: two bytes each, what to do and with what.
pub(crate) fn run(data: &[u8]) -> CellTally {
    let ops: Vec<[u8; 2]> = data
        .chunks_exact(2)
        .take(MOST_OPS)
        .map(|op| [op[0], op[1]])
        .collect();
    let live = Arc::default();
    let mut cells: [_; CELLS] = core::array::from_fn(|_| VersionedCell::new(Value::new(0, &live)));
    let expected = |n| Expected {
        cell: n as u64,
        version: Version::FIRST,
        number: 0,
    };
    let mut world = World {
        live,
        made: CELLS as u64,
        expected: core::array::from_fn(expected),
        kept: Vec::new(),
        tally: CellTally::default(),
    };
    let mut ops = ops.iter();
    while let Some(&[kind, with]) = ops.next() {
        let at = usize::from(kind >> 6) % CELLS;
        if !world.alone(&mut cells, at, kind & 63, with) {
            world.shared(&cells, at, [kind & 63, with], &mut ops, 0);
        }
    }
    for (cell, expected) in cells.iter().zip(world.expected) {
        check(cell, expected);
    }
    drop(cells);
    world.kept.clear();
    latchwork::flush();
    assert_eq!(world.live.load(Relaxed), 0, "not every value was dropped");
    world.tally
}

fn check(cell: &VersionedCell<Value>, expected: Expected) {
    let seen = cell.read();
    assert_eq!(seen.version(), expected.version);
    assert_eq!(seen.number, expected.number);
}

impl World {
    fn value(&self, number: u64) -> Value {
        Value::new(number, &self.live)
    }

    fn wrote(&mut self, at: usize, version: Version, number: u64) {
        let expected = &mut self.expected[at];
        expected.version = after(expected.version, 1);
        expected.number = number;
        assert_eq!(version, expected.version, "each write adds one");
        self.tally.written += 1;
    }

    fn is_kept(&self, name: Name) -> bool {
        self.kept.iter().any(|kept| kept.name == name)
    }

    /// Calls that take the cell for themselves. `false`: it is another call.
    fn alone(
        &mut self,
        cells: &mut [VersionedCell<Value>; CELLS],
        at: usize,
        kind: u8,
        with: u8,
    ) -> bool {
        let expected = self.expected[at];
        let is_kept = self.is_kept(expected.name());
        match kind % 21 {
            0 => {
                let Some(value) = cells[at].get_mut() else {
                    assert!(is_kept, "nobody shares it");
                    self.tally.shared += 1;
                    return true;
                };
                assert!(!is_kept, "a snapshot would see the change");
                assert_eq!(value.number, expected.number);
                value.number = with.into();
                let version = cells[at].version();
                self.wrote(at, version, with.into());
            }
            1 => {
                // Another cell that goes on at some version; the old one's value comes out.
                let version = match with % 3 {
                    0 => expected.version,
                    1 => Version::MAX_INITIAL,
                    _ => Version::new(with.into()),
                };
                let version = version.min(Version::MAX_INITIAL);
                let new = VersionedCell::with_version(self.value(with.into()), version);
                let old = core::mem::replace(&mut cells[at], new);
                self.expected[at] = Expected {
                    cell: self.made,
                    version,
                    number: with.into(),
                };
                self.made += 1;
                match old.into_inner() {
                    Ok(value) => {
                        assert!(!is_kept, "a snapshot shares it");
                        assert_eq!(value.number, expected.number);
                        self.tally.moved += 1;
                    }
                    Err(snapshot) => {
                        assert!(is_kept, "nobody shares it");
                        assert_eq!(snapshot.number, expected.number);
                        self.tally.shared += 1;
                    }
                }
            }
            2 => {
                latchwork::flush();
                // What lives is in a cell, or somebody keeps it.
                let mut names: BTreeSet<Name> = self.expected.iter().map(|e| e.name()).collect();
                names.extend(self.kept.iter().map(|kept| kept.name));
                assert_eq!(self.live.load(Relaxed), names.len());
            }
            3 => {
                let other = usize::from(with) % CELLS;
                cells.swap(at, other);
                self.expected.swap(at, other);
            }
            _ => return false,
        }
        true
    }

    /// Calls that others may make at the same time. Some keep what they have read while the next ones run.
    fn shared(
        &mut self,
        cells: &[VersionedCell<Value>; CELLS],
        at: usize,
        [kind, with]: [u8; 2],
        ops: &mut Iter<'_, [u8; 2]>,
        depth: usize,
    ) {
        let cell = &cells[at];
        let Expected {
            version, number, ..
        } = self.expected[at];
        match kind % 21 {
            4 | 5 => {
                let written = cell.set(self.value(with.into()));
                self.wrote(at, written, with.into());
            }
            6 => {
                let old = cell.swap(self.value(with.into()));
                assert_eq!((old.version(), old.number), (version, number));
                drop(old);
                self.wrote(at, cell.version(), with.into());
            }
            7 => {
                let written = cell.compare_and_set(version, self.value(with.into()));
                let written = written.expect("it is the current version");
                self.wrote(at, written, with.into());
            }
            8 => {
                // Of the past, of the future, of another cell.
                let wrong = match with % 4 {
                    0 => after(version, 1 + u64::from(with)),
                    1 => after(version, u64::MAX - u64::from(with)),
                    2 => Version::new(u64::MAX),
                    _ => self.expected[(at + 1) % CELLS].version,
                };
                if wrong == version {
                    return;
                }
                let value = self.value(with.into());
                let Err(Conflict {
                    expected,
                    current,
                    value,
                }) = cell.compare_and_set(wrong, value)
                else {
                    panic!("{wrong} is not the current version, {version}")
                };
                assert_eq!((expected, current), (wrong, version));
                assert_eq!(value.number, u64::from(with));
                self.tally.refused += 1;
            }
            9 => {
                let written =
                    cell.update(|old| Value::new(old.number ^ u64::from(with), &self.live));
                self.wrote(at, written, number ^ u64::from(with));
            }
            10 => {
                let aborted = cell.try_update(&RetryPolicy::forever(), |old| Err(old.number));
                assert_eq!(aborted, Err(UpdateError::Aborted(number)));
                self.tally.refused += 1;
            }
            11 => {
                // The closure writes the cell itself so often: with one attempt more it succeeds.
                let (losses, attempts) = (u32::from(with % 4), u32::from(with / 4 % 4) + 1);
                let calls = Cell::new(0);
                let updated = cell.try_update(&RetryPolicy::attempts(attempts), |old| {
                    if calls.replace(calls.get() + 1) < losses {
                        cell.set(self.value(old.number + 1));
                    } else {
                        // Somebody waits: no attempt is lost to that.
                        let unchanged = cell.wait_changed_for(cell.version(), Duration::ZERO);
                        assert_eq!(unchanged, None);
                    }
                    Ok::<_, ()>(self.value(old.number))
                });
                let lost = losses.min(attempts);
                for n in 1..=u64::from(lost) {
                    self.wrote(at, after(version, n), number + n);
                }
                if losses < attempts {
                    let written = updated.expect("nobody wrote in between");
                    self.wrote(at, written, number + u64::from(losses));
                } else {
                    assert_eq!(updated, Err(UpdateError::Contended));
                    self.tally.refused += 1;
                }
            }
            12 => {
                check(cell, self.expected[at]);
                assert_eq!(cell.version(), version);
            }
            13 | 14 => {
                if self.kept.len() < MOST_KEPT {
                    let snapshot = match with % 3 {
                        0 => cell.read_owned(),
                        1 => cell.read().to_owned(),
                        _ => cell.read_in(&latchwork::pin()).to_owned(),
                    };
                    assert_eq!((snapshot.version(), snapshot.number), (version, number));
                    let name = self.expected[at].name();
                    self.kept.push(Kept {
                        name,
                        number,
                        snapshot,
                    });
                }
            }
            15 => self.give_up(with),
            16 => {
                let snapshot = cell.read();
                self.some_more(cells, with, ops, depth);
                assert_eq!((snapshot.version(), snapshot.number), (version, number));
            }
            17 => {
                let pin = latchwork::pin();
                let snapshot = cell.read_in(&pin);
                self.some_more(cells, with, ops, depth);
                assert_eq!((snapshot.version(), snapshot.number), (version, number));
            }
            18 | 19 => self.wait(cells, at, with, ops, depth),
            _ => {
                let other = after(version, 1 + u64::from(with));
                assert_eq!(cell.wait_changed(other), version);
                assert_eq!(cell.wait_changed_for(version, Duration::ZERO), None);
            }
        }
    }

    /// A few of the next calls, those among them that can be made while something is borrowed.
    fn some_more(
        &mut self,
        cells: &[VersionedCell<Value>; CELLS],
        with: u8,
        ops: &mut Iter<'_, [u8; 2]>,
        depth: usize,
    ) {
        if depth == MOST_NESTED {
            return;
        }
        for _ in 0..with % 32 {
            let Some(&[kind, with]) = ops.next() else {
                return;
            };
            let at = usize::from(kind >> 6) % CELLS;
            self.shared(cells, at, [kind & 63, with], ops, depth + 1);
        }
    }

    /// A future that is polled, left alone for a few calls, and perhaps polled again.
    fn wait(
        &mut self,
        cells: &[VersionedCell<Value>; CELLS],
        at: usize,
        with: u8,
        ops: &mut Iter<'_, [u8; 2]>,
        depth: usize,
    ) {
        let cell = &cells[at];
        let seen = self.expected[at].version;
        let mut changed = pin!(cell.changed(seen));
        let wakes = Arc::<CountWakes>::default();
        let waker = Waker::from(wakes.clone());
        let poll = changed.as_mut().poll(&mut Context::from_waker(&waker));
        assert_eq!(poll, Poll::Pending);
        let renewed = Arc::<CountWakes>::default();
        if with & 32 != 0 {
            // Polled by another task: the first is not woken any more.
            let waker = Waker::from(renewed.clone());
            let poll = changed.as_mut().poll(&mut Context::from_waker(&waker));
            assert_eq!(poll, Poll::Pending);
        }
        self.some_more(cells, with, ops, depth);
        let current = self.expected[at].version;
        let is_written = current != seen;
        let woken = [&wakes, &renewed].map(|wakes| wakes.0.load(Relaxed));
        let expected = match (is_written, with & 32 != 0) {
            (false, _) => [0, 0],
            (true, false) => [1, 0],
            (true, true) => [0, 1],
        };
        assert_eq!(woken, expected, "woken once by the first write");
        self.tally.woken += u64::from(is_written);
        if with & 64 != 0 {
            let poll = changed.as_mut().poll(&mut Context::from_waker(&waker));
            let ready = if is_written {
                Poll::Ready(current)
            } else {
                Poll::Pending
            };
            assert_eq!(poll, ready);
        }
    }

    /// Ends an owned snapshot in some way.
    fn give_up(&mut self, with: u8) {
        if self.kept.is_empty() {
            return;
        }
        let at = usize::from(with >> 1) % self.kept.len();
        let Kept {
            name,
            number,
            snapshot,
        } = self.kept.swap_remove(at);
        assert_eq!((snapshot.version(), snapshot.number), (name.1, number));
        if with & 1 == 0 {
            return;
        }
        let is_shared = self.is_kept(name) || self.expected.iter().any(|e| e.name() == name);
        match snapshot.into_value() {
            Ok(value) => {
                assert!(!is_shared, "moved away from those who share it");
                assert_eq!(value.number, number);
                self.tally.moved += 1;
            }
            Err(snapshot) => {
                assert_eq!((snapshot.version(), snapshot.number), (name.1, number));
                self.tally.shared += 1;
            }
        }
    }
}

/// Reads a version out of any text, and compares with what a version is. Returns whether it was one.
pub(crate) fn version(data: &[u8]) -> bool {
    let Ok(text) = core::str::from_utf8(data) else {
        return false;
    };
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let digits = text.trim_start_matches('0');
    let expected = match digits.parse::<u128>() {
        _ if !is_number => None,
        Ok(number) => u64::try_from(number).ok(),
        // Nothing but zeros, or more digits than these.
        Err(_) => digits.is_empty().then_some(0),
    };
    let read = text.parse::<Version>();
    assert_eq!(read.as_ref().ok().map(|v| v.get()), expected, "{text:?}");
    match read {
        Ok(version) => {
            assert_eq!(version.to_string().parse(), Ok(version));
            true
        }
        Err(error) => {
            let says_too_great = error.to_string().contains("64 bits");
            assert_eq!(says_too_great, is_number, "{text:?}: {error}");
            false
        }
    }
}
