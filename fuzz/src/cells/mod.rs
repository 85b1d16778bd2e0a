//! A few cells against a model. One thread: each call has one right outcome, waiting included.

mod alone;
mod shared;
mod wait;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use latchwork::{
    VersionedCell,
    cell::{OwnedVersioned, Version},
};

use crate::value::Value;

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
    snapshot: OwnedVersioned<Value>,
}

struct World {
    live: Arc<AtomicUsize>,
    made: u64,
    expected: [Expected; CELLS],
    kept: Vec<Kept>,
    tally: CellTally,
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
}
