//! In-process concurrency control.
//!
//! | | for |
//! |---|---|
//! | [`LockTable`] | locks by key: any key of a type, without registering it, at the price of a bare mutex |
//! | [`Session`] | many keys, taken as one goes and given back together; deadlocks are found and reported |
//! | [`SingleFlight`] | one computation for all callers that ask for one key at once |
//! | [`VersionedCell`] | a value that is read without waiting and replaced as a whole, with a version for optimistic writes |
//! | [`FencedCell`] | a value that only the newest holder of a lock can write |
//! | [`atomically`], [`Transaction`] | changing several cells at one moment, and waiting for what they say |
//! | [`snapshot`] | reading any number of cells at one instant, without a retry |
//! | [`OrderedMutex`], [`ordered::checked`] | locks that are taken in one order: checked by the compiler, or learned at run time |
//! | [`OptimisticLatch`], [`Coupled`] | structures that many threads walk through: reads that take no lock, hand-over-hand, and nodes removed under readers |
//!
//! ```
//! use latchwork::{LockTable, Mode};
//!
//! let table: LockTable<str> = LockTable::new();
//! let guard = table.lock("user:42"); // blocks until nobody else holds this key
//! assert!(table.try_lock("user:42").is_none());
//! let set = table.lock_all([("user:1", Mode::Exclusive), ("user:2", Mode::Shared)]);
//! assert_eq!(table.locked_count(), 3);
//! drop((guard, set));
//! assert_eq!(table.locked_count(), 0);
//! ```
//!
//! ```
//! use latchwork::{VersionedCell, atomically, snapshot};
//!
//! let accounts = [100, 0].map(VersionedCell::new);
//! atomically(|tx| {
//!     tx.update(&accounts[0], |balance| balance - 30)?;
//!     tx.update(&accounts[1], |balance| balance + 30)
//! });
//! let total: i32 = snapshot(|s| accounts.iter().map(|account| *s.read(account)).sum());
//! assert_eq!(total, 100);
//! ```
//!
//! When to use which is in [`docs::optimistic`] and [`docs::locks`]. How it works, and why it is right, stands in the `PROTOCOL.md` of each folder of the source; each rule there
//! names the model or test that checks it.

#[cfg(not(target_has_atomic = "64"))]
compile_error!("latchwork needs 64-bit atomics");

// Layers, lowest first: a module imports only from those above it in this list.
mod sync;
mod word;

mod reclaim;
mod waits_for;

mod wait;

mod hash;

mod lock_table;
pub mod session;
mod single_flight;

pub mod cell;
mod fenced;
pub mod latch;

pub mod txn;

pub mod ordered;

pub mod table;

mod stats;

pub mod docs;

#[cfg(latchwork_loom)]
#[doc(hidden)]
pub use cell::model;
#[doc(hidden)]
pub use cell::outside_of_closures;
#[doc(no_inline)]
pub use cell::{RetryPolicy, VersionedCell, pin};
#[doc(no_inline)]
pub use session::Session;
pub use stats::{Stats, flush, stats};
#[doc(no_inline)]
pub use table::{Fairness, LockTable, Mode, RandomState};
#[doc(no_inline)]
pub use txn::{Abort, Transaction, Tx, TxError, atomically, snapshot};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
