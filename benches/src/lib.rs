//! The parts that the benchmarks of `latchwork` share: the peers, the workloads, and the comparison
//! of two contenders.
//!
//! Four programs use it. The criterion benches under `benches/` are for working on the code, one
//! file for each question: `cargo bench`. The binary `report` measures the figures that the
//! documentation quotes, each as a ratio to a baseline that ran in the same process and in turn
//! with it: `cargo run --release -p latchwork-bench --bin report`. The binary `sweep` runs the
//! [`scenarios`] over threads and draws the results, for any machine:
//! `cargo run --release -p latchwork-bench --bin sweep`. The binary `scaling` prints how much two
//! threads do together, against one of them, for the [`subjects`] of the report.
//!
//! Three rules keep a comparison fair:
//! - Both sides run the same loop, written once: in [`workload`] generic over [`peers::KeyLock`],
//!   in [`cells`] over values that can be read and updated, in [`records`] over
//!   [`records::Records`], in [`transactions`] over [`transactions::Bank`].
//! - Both sides hash alike where the peer offers the choice: the same type of hasher with the same
//!   seed.
//! - Where a peer has several calls for the task, the fastest counts.

pub mod cells;
pub mod control;
pub mod crew;
pub mod heap;
pub mod held;
pub mod machine;
pub mod maps;
pub mod peers;
pub mod ratio;
pub mod records;
pub mod scenarios;
pub mod skew;
pub mod subjects;
pub mod tasks;
pub mod throughput;
pub mod times;
pub mod transactions;
pub mod workload;
