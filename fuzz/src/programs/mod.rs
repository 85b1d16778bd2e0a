//! Transactions and snapshots against a history of all that the cells ever held.
//!
//! One thread runs programs: single writes, transactions, snapshots that stay open while others
//! run, and whatever else inside a transaction's closure, so that attempts are lost and climb the
//! ladder. What a closure sees must be one state that was since the attempt began; what commits
//! must be based on the last one; a view must show the state of its moment for as long as it lives;
//! an attempt may be lost only because something that it has seen was written.

mod attempt;
mod input;
mod wait;
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use latchwork::VersionedCell;

use crate::value::Value;
use input::Bias;
use wait::Waiting;
use world::{CELLS, World};

/// How often the programs of some inputs came to what.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProgramTally {
    /// Transactions that wrote and committed.
    pub committed: u64,
    /// Attempts that were lost.
    pub lost: u64,
    /// Attempts that ran when the transaction owned cells.
    pub owning: u64,
    /// Transactions that ended without a commit: by their closure, a panic, or a limit.
    pub ended: u64,
    /// Futures that wait.
    pub pending: u64,
    /// Futures that were woken.
    pub woken: u64,
    /// Values that a view showed after they had been replaced.
    pub past: u64,
}

impl ProgramTally {
    /// Adds those of another input.
    pub fn add(&mut self, other: Self) {
        self.committed += other.committed;
        self.lost += other.lost;
        self.owning += other.owning;
        self.ended += other.ended;
        self.pending += other.pending;
        self.woken += other.woken;
        self.past += other.past;
    }
}

/// Runs programs of transactions.
pub(crate) fn transactions(data: &[u8]) -> ProgramTally {
    run(data, Bias::Transactions)
}

/// Runs the same with most of it inside snapshots.
pub(crate) fn snapshots(data: &[u8]) -> ProgramTally {
    run(data, Bias::Snapshots)
}

fn run(data: &[u8], bias: Bias) -> ProgramTally {
    let ops = input::decode(data, bias);
    let live = Arc::<AtomicUsize>::default();
    let cells: [_; CELLS] =
        core::array::from_fn(|i| VersionedCell::new(Value::new(i as u64, &live)));
    let world = World::new(&cells, &live);
    let mut waiting = Waiting::new(&world);
    for op in &ops {
        waiting.step(op);
    }
    waiting.end();
    world.flush();
    let tally = world.tally.get();
    drop(cells);
    latchwork::flush();
    assert_eq!(live.load(Relaxed), 0, "not every value was dropped");
    tally
}
