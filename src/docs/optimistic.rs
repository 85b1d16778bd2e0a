//! When to lock and when to be optimistic.
//!
//! A pessimistic thread acquires a lock, and others wait. An optimistic thread works without a
//! lock, validates at the end, and does its work again after a conflict. So optimism is cheap while
//! conflicts are rare, and reads never wait.
//!
//! | you have | use | because |
//! |---|---|---|
//! | a value that is read far more often than written | [cell] | a read writes no shared memory |
//! | a value that is mostly written | a mutex | an update of a cell costs several mutexes |
//! | a write that depends on an earlier read | [conditional write] | no lock in between |
//! | several cells that change together, rarely contended | [transaction] | no lock order |
//! | the same, and you wait for a condition | [`Tx::retry`] | no condition variable to forget |
//! | one or two values that all threads change | [ordered mutexes], [`lock_all`] | no lost work |
//! | long work after a read, and then a write | a lock | a late conflict wastes all of the work |
//! | side effects between read and write | a lock | a closure runs once for each attempt |
//! | a sum over many cells that change | [`snapshot`] | it never retries, and delays no writer |
//!
//! [cell]: crate::VersionedCell
//! [conditional write]: crate::VersionedCell::compare_and_set
//! [transaction]: crate::atomically
//! [ordered mutexes]: crate::ordered
//! [`Tx::retry`]: crate::Tx::retry
//! [`lock_all`]: crate::LockTable::lock_all
//! [`snapshot`]: crate::snapshot()
//!
//! # Where optimistic loses
//! Each number is a ratio from `benches/REPORT.md`, which names the machine and has the quartiles.
//! The word in parentheses is the section of the report, as in
//! `cargo run --release -p latchwork-bench --bin report -- --only transactions`.
//!
//! - *Uncontended writes of a few words.* A transfer between two of 1,024 cells needs
//!   about <!--figure: transfer vs as many ordered parking_lot mutexes-->2.3<!--/--> times the
//!   time of two ordered `parking_lot` mutexes. A transaction that only reads two cells
//!   needs <!--figure: two cells read vs as many ordered parking_lot mutexes-->0.7<!--/--> times
//!   the time. The cost is that of the atomic operations (the pin, one for each cell, one for the
//!   status) and of two nodes of memory. (`transactions`)
//! - *Hot cells.* In the main job, three origins are part of most flights. There, transactions
//!   reach a twelfth of the throughput of one global mutex, and cells that are updated one at a
//!   time a sixth. Of 100 attempts, 3 abort because of a read conflict and 3 because of a write
//!   conflict. If every attempt conflicts, each thread does its work twice or more, where a lock
//!   would make it wait. (`cargo run --release --example flights`)
//! - *An auditor in a loop.* A thread that reads all of 1,024 cells again and again moves their
//!   cache lines away from the writer. The writer
//!   keeps <!--figure: one thread that transfers, beside one auditor vs alone-->0.3<!--/--> of its
//!   throughput. (`transactions-beside`)
#![doc = "\
- *The same without a snapshot.* Beside a thread that reads all cells under a pin, the writer
  keeps <!--figure: one thread that transfers, beside one that reads all under a ReadPin vs
  alone-->0.3<!--/-->. With plain atomic words in place of cells, it
  keeps <!--figure: one thread that writes two of 1,024 atomic words, beside one that reads all, to
  compare vs alone-->0.1<!--/-->. So this is the price of reading data that changes, and not of the
  snapshot. (`transactions-beside`)"]
//!
//! # Where it wins
//! - *Reads.* A read of a cell
//!   takes <!--figure: read vs parking_lot::RwLock-->0.53<!--/--> of the time of an uncontended
//!   `parking_lot::RwLock`. It writes no memory that other threads write, and checks no pin of
//!   another thread. (`cells`; `benches/CORES.md` counts the cache misses of up to 64 readers)
//! - *Snapshots.* A snapshot of 32 cells
//!   takes <!--figure: a snapshot of 32 cells vs as many ordered parking_lot mutexes-->0.08<!--/-->
//!   of the time of 32 mutexes. (`transactions`)
//! - *No lock order.* Two threads that access pairs of cells in opposite orders
//!   reach <!--figure: 20 pairs, two threads in opposite orders vs one thread-->0.8<!--/--> times
//!   the throughput of one of them. (`transactions-beside`)
#![doc = "\
  The 99.9th percentile of the time of a transaction
  is <!--figure: 20 pairs, two threads in opposite orders, the 99.9th percentile of the time vs the
  median-->16<!--/--> times the median."]
//! - *Large transactions.* Three threads write one of 10,000 cells without a pause. Beside them,
//!   five transactions over all of these cells
//!   take <!--figure: 5 transactions over 10,000 cells beside 3 hammers-->0.02<!--/--> seconds
//!   together. Each of them escalates and owns the cells at which it aborted.
//!   (`transactions-beside`)
//! - *Stalled threads.* A thread that is stopped inside an attempt delays no reader and no writer
//!   of other cells. If its transaction has not escalated, it delays no writer at all.
//!
//! # What a closure must not do
//! A closure must not write a cell directly, or wait for one, when transactions of *other* threads
//! use this cell. Two transactions that own a cell each, and whose closures write the other one's
//! cell directly, wait for each other. The crate detects this for cells that a transaction of the
//! same thread owns, and panics. It does not detect it across threads. Use `tx` for every cell that
//! another transaction writes.
//!
//! ```
//! use latchwork::{VersionedCell, atomically};
//!
//! let (orders, log) = (VersionedCell::new(0), VersionedCell::new(0));
//! // Wrong: `log.update(|n| n + 1)` in the closure would run once for each attempt.
//! atomically(|tx| {
//!     tx.update(&orders, |n| n + 1)?;
//!     tx.update(&log, |n| n + 1)
//! });
//! assert_eq!((orders.get(), log.get()), (1, 1));
//! ```
