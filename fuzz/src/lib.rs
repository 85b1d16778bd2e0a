//! Bytes become calls of a lock table, of cells or of transactions, and calls have only one right
//! outcome.
//!
//! [`one_thread`] compares every call with the reference that the property tests use;
//! [`two_threads`] lets two threads run their calls at once under an oracle that sees two holders
//! that should exclude each other; [`tasks`] compares every grant, wake-up and cancellation with a
//! model of the queues, and [`sessions`] those of sessions with a reference lock manager. [`cells`]
//! compares every call with a model, and counts what was dropped; [`transactions`] and
//! [`snapshots`] hold what closures see against all that the cells ever held; [`version`] reads
//! texts. [`map`] compares every call of a map with a reference that keeps all past
//! states, and [`map_two_threads`] checks that calls of two threads have an order. [`mixed`] has
//! guards, sets and sessions in one table, [`endings`] cells of threads that end, and [`leases`]
//! the state machine of a lease.
//!
//! ```text
//! ci/fuzz.sh tasks 600
//! cargo test --manifest-path fuzz/Cargo.toml --no-default-features --release
//! ```
//! The second replays the corpora on stable.

#[path = "../../tests/session/actors.rs"]
#[allow(dead_code, reason = "the tests' own helpers")]
mod actors;
mod cells;
#[path = "../../tests/common/mod.rs"]
#[allow(missing_docs, reason = "the integration tests' own helpers")]
mod common;
mod endings;
mod input;
mod leases;
mod maps;
mod mixed;
mod programs;
#[path = "../../tests/session/reference.rs"]
mod reference;
mod sessions;
mod tasks;
mod threads;
mod value;
mod version;

pub use cells::CellTally;
pub use common::reference::Tally;
pub use common::{Rng, watchdog};
pub use endings::EndingTally;
use input::Input;
pub use leases::LeaseTally;
pub use maps::MapTally;
pub use mixed::MixedTally;
pub use programs::ProgramTally;
pub use sessions::SessionTally;
pub use tasks::TaskTally;

/// Runs the calls that `data` stands for, one after the other.
///
/// # Panics
/// If the table departs from the reference.
pub fn one_thread(data: &[u8]) -> Tally {
    let input = Input::decode(data);
    common::reference::run(input.place, input.fairness, &input.ops)
}

/// Runs the calls that `data` stands for in two threads, half of them in each. Returns how many
/// locks were granted.
///
/// # Panics
/// If two holders exclude each other, or if anything is left behind.
pub fn two_threads(data: &[u8]) -> u64 {
    threads::run(&Input::decode(data))
}

/// Runs the calls that `data` stands for on a table that tasks wait for.
///
/// # Panics
/// If the table departs from the model.
pub fn tasks(data: &[u8]) -> TaskTally {
    tasks::run(data)
}

/// Runs the orders that `data` stands for in a few sessions of one table.
///
/// # Panics
/// If the reference does not allow who was granted a key, who waits, or who was told of a deadlock.
pub fn sessions(data: &[u8]) -> SessionTally {
    sessions::run(data)
}

/// Runs the calls that `data` stands for on a few cells.
///
/// # Panics
/// If a cell departs from the model, or a value is not dropped once.
pub fn cells(data: &[u8]) -> CellTally {
    cells::run(data)
}

/// Runs the programs of transactions that `data` stands for.
///
/// # Panics
/// If they see or leave what no order of them explains.
pub fn transactions(data: &[u8]) -> ProgramTally {
    programs::transactions(data)
}

/// Runs the writes and transactions that `data` stands for, most of them while views are open.
///
/// # Panics
/// As [`transactions`].
pub fn snapshots(data: &[u8]) -> ProgramTally {
    programs::snapshots(data)
}

/// Runs the calls that `data` stands for on a map.
///
/// # Panics
/// If the map departs from the reference, or a key or a value is not dropped once.
pub fn map(data: &[u8]) -> MapTally {
    maps::run(data)
}

/// Runs the calls that `data` stands for in two threads that share a map. Returns the number of
/// calls, and how many conditional ones were refused.
///
/// # Panics
/// If no order of the calls explains what they have returned.
pub fn map_two_threads(data: &[u8]) -> (usize, usize) {
    maps::threads::run(data)
}

/// Reads `data` as a version. Returns whether it is one.
///
/// # Panics
/// If that is wrong.
pub fn version(data: &[u8]) -> bool {
    version::read(data)
}

/// Runs the orders that `data` stands for in guards, sets and sessions of one table.
///
/// # Panics
/// If two of them hold what excludes the other, if one waits without a reason, or if anything is
/// left in the table.
pub fn mixed(data: &[u8]) -> MixedTally {
    mixed::run(data)
}

/// Runs the calls that `data` stands for on cells of threads that end or idle.
///
/// # Panics
/// If a sum is wrong, or if a value is not dropped once.
pub fn endings(data: &[u8]) -> EndingTally {
    endings::run(data)
}

/// Runs the history of leases that `data` stands for.
///
/// # Panics
/// If two callers have the lease at one time, if a caller is not told of a loss, or if a machine
/// leaves anything at the engine.
pub fn leases(data: &[u8]) -> LeaseTally {
    leases::run(data)
}
