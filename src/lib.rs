//! In-process concurrency control: locks by key, versioned values and maps, transactions and
//! snapshots.
//!
//! | question | answer |
//! |---|---|
//! | What is it? | [Overview](#overview), [Quick start](#quick-start) |
//! | When should I not use it? | [When not to use it](#when-not-to-use-it) |
//! | How fast is it, compared with the crate that I use? | [Performance](#performance) |
//! | How do I know that it is right? | [Guarantees](#guarantees) |
//! | What happens when a process dies? | [Process death](#what-happens-when-a-process-dies) |
//! | Which waiter waits for which holder? | [`docs::console`] |
//! | What blocks an executor? | [Async](#async) |
//! | How do I migrate? | [How do I migrate](#how-do-i-migrate) |
//!
//! # Overview
//! The crate has two halves. A *lock* makes a thread or task wait; an *optimistic* primitive lets
//! it proceed and validates at the end.
//!
//! | locks | purpose |
//! |---|---|
//! | [`LockTable`] | locks by key, for keys that need no registration |
//! | [`Session`] | many keys, acquired one by one, with detection of deadlocks |
//! | [`SingleFlight`] | one computation for all concurrent callers of a key |
//! | [`FencedCell`] | a value that only the newest holder of a lock can write |
//! | [`OrderedMutex`] | locks with an order that the compiler checks |
//! | [`ordered::checked`] | locks whose order is learned and checked at run time |
//!
//! | optimistic | purpose |
//! |---|---|
//! | [`VersionedCell`] | a value that is read without waiting, with conditional writes |
//! | [`VersionedMap`] | a map of such values, whose keys can be locked |
//! | [`atomically`], [`Transaction`] | changes of several cells that become visible together |
//! | [`update_all`] | the same for two to eight known cells, at a lower cost |
//! | [`snapshot`] | reads of any number of cells as of one instant, without a retry |
//! | [`OptimisticLatch`], [`Coupled`] | traversal of lists and trees with optimistic reads |
//!
//! The modules [`table`], [`session`], [`cell`], [`map`], [`txn`], [`ordered`] and [`latch`] have
//! all types. The root of the crate exports the most common ones again. The [guide](docs) has a
//! [tutorial](docs::guide), [recipes](docs::how_to) and a [glossary](docs::glossary).
//!
//! # Quick start
//! A lock by key excludes other holders of this key only. The table stores nothing for a free key:
//!
//! ```
//! use latchwork::{LockTable, Mode};
//!
//! let table: LockTable<str> = LockTable::new();
//! let guard = table.lock("user:42"); // blocks until no other thread holds this key
//! assert!(table.try_lock("user:42").is_none());
//! let set = table.lock_all([("user:1", Mode::Exclusive), ("user:2", Mode::Shared)]);
//! assert_eq!(table.locked_count(), 3);
//! drop((guard, set));
//! assert_eq!(table.locked_count(), 0);
//! ```
//!
//! A transaction changes several cells together, and a snapshot reads them as of one instant:
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
//! assert_eq!(total, 100); // holds even while other threads write
//! ```
//!
//! A conditional write fails if another thread has written the cell since the read:
//!
//! ```
//! use latchwork::VersionedCell;
//!
//! let page = VersionedCell::new("draft");
//! let version = page.version(); // an entity tag
//! page.set("edited by another client");
//! let conflict = page.compare_and_set(version, "final").unwrap_err();
//! assert_eq!((conflict.current.get(), conflict.value), (1, "final"));
//! ```
//!
//! The values of a map are such cells, and its keys can be locked. Readers do not wait for a lock:
//!
//! ```
//! use latchwork::{VersionedMap, snapshot};
//!
//! let stock: VersionedMap<&str, u32> = [("apples", 7), ("pears", 3)].into_iter().collect();
//! let mut apples = stock.lock(&"apples"); // excludes writers of this key
//! apples.set(6); // a draft
//! assert_eq!(snapshot(|s| s.iter(&stock).map(|(_, n)| *n).sum::<u32>()), 10);
//! apples.commit();
//! assert_eq!(stock.get("apples").as_deref(), Some(&6));
//! ```
//!
//! [The tutorial](docs::guide) builds one program from a mutex around a map to sessions.
//!
//! # Choosing
//! - Lock a key if the work has side effects, does I/O, or takes long: [`LockTable`].
//! - Lock several keys at once if they are known at the start: [`LockTable::lock_all`].
//! - Use a [`Session`] if the keys become known one by one.
//! - Use a [`VersionedCell`] for a value that is read often and replaced as a whole.
//! - Use [`atomically`] if several values must change together, and [`snapshot`] to read them.
//! - Use a [`VersionedMap`] for values by key, with versions, transactions and snapshots.
//! - Use [`ordered`] locks if the set of locks is fixed.
//! - Use [`latch`] to build a list or a tree with many readers.
//!
//! [`docs::choosing`] has the full table. [`docs::optimistic`] compares locks with optimistic
//! access, and [`docs::locks`] compares the strategies against deadlock.
//!
//! # When not to use it
//! Another crate is better for locks across processes or machines (`latchwork-lease`, beside this
//! crate), for a map with values (`dashmap`, `papaya`), for one lock that every task requests (a
//! mutex, or that of tokio), and for values that are kept long without versions (`arc-swap`). See
//! [the table of these
//! cases](docs::choosing#when-not-to-use-it).
//!
//! # Guarantees
//! - A key has one exclusive holder or any number of shared holders.
//! - At most 64 acquisitions overtake the longest-waiting waiter, or none under
//!   [`Fairness::Fifo`].
//! - A read of a cell never waits and never retries. Versions are dense and never reused.
//! - Transactions are strictly serialisable, and no closure sees an inconsistent state.
//! - A transaction that repeatedly aborts escalates, and eventually commits.
//! - A snapshot never fails, never restarts and never waits for a writer.
//! - A read of a map never waits. Versions of a key never repeat, also over removal and insertion.
//! - Deadlocks among sessions are detected and reported, without false positives.
//! - A closure that panics changes no cell, and a dropped future leaves no waiter behind.
//!
//! [`docs::guarantees`] lists every guarantee with its conditions, and names the protocol, model or
//! test that checks it. It also states
//! [how these checks are checked](docs::guarantees#how-do-i-know-that-it-is-right), and what is not
//! checked. [`docs::internals`] contains the protocols.
//!
//! # Async
//! Every `async` method works on any executor, starts no thread, and can be cancelled by dropping
//! its future. `lock`, `lock_all`, `wait_changed`, [`Session::lock`](session::Session::lock),
//! [`SingleFlight::run`] and a transaction that retries block the thread. A write of a cell blocks
//! while an escalated transaction owns it. On a current-thread runtime these calls can hang
//! indefinitely, because the holder never runs. Tasks must use these forms instead:
//!
//! | in a thread | in a task |
//! |---|---|
//! | [`LockTable::lock`] | [`lock_async`](LockTable::lock_async) |
//! | [`LockTable::lock_all`] | [`lock_all_async`](LockTable::lock_all_async) |
//! | [`Session::lock`](session::Session::lock) | [`lock_async`](session::Session::lock_async) |
//! | [`SingleFlight::run`] | [`run_async`](table::SingleFlight::run_async) |
//! | [`VersionedCell::set`] | [`set_async`](VersionedCell::set_async) |
//! | [`VersionedCell::wait_changed`] | [`changed`](VersionedCell::changed) |
//! | [`Transaction::run`] | [`run_async`](Transaction::run_async) |
//!
//! A future that is ready at once does not yield to its executor: see [`docs::tasks`]. The table of
//! all calls that block is in
//! [What blocks an executor](docs::limitations#what-blocks-an-executor).
//!
//! # Performance
//! An uncontended lock and unlock of a key are two atomic read-modify-writes, without a fence or an
//! allocation. A read of a cell writes no memory that another thread writes. A write allocates.
//! [`docs::performance`] compares the crate with others, lists
//! [the cases in which it is slower](docs::performance#where-it-is-slower), and describes
//! [how to measure them](docs::performance#measure-it-yourself).
//!
//! # How do I migrate
//! [The migration chapters](docs::how_to#how-do-i-migrate) show the code of `dashmap` guards,
//! `arc-swap`, maps of tokio mutexes and `stm` beside the code for this crate, and map each call.
//!
//! # Limitations
//! - Keys are 64-bit hashes: two keys with equal hashes share one lock.
//! - Locks of a table are not re-entrant, except within a [`Session`], and do not poison.
//! - A replaced value is dropped later, possibly on another thread. A long read delays all drops.
//! - A closure of a transaction may run several times, and must not have side effects.
//! - The crate needs `std` and 64-bit atomics.
//!
//! [`docs::limitations`] has the complete list, and [`docs::fork`] describes the child of a process
//! with threads.
//!
//! # What happens when a process dies
//! All state is in the memory of one process and ends with it. A thread that panics unlocks what it
//! holds. [`docs::limitations`](docs::limitations#what-happens-when-a-process-dies) has the cases.
//! Use `latchwork-lease` for leases that outlive a process.
//!
//! # Features
//! No feature is enabled by default.
//!
//! | feature | effect |
//! |---|---|
//! | `rayon` | [parallel iterators](crate::txn::View#method.par_iter) over the snapshot of a map |
//! | `serde` | versions and fencing tokens serialise as numbers, and maps as maps |
//! | `metrics` | waits are exported through the `metrics` facade |
//! | `tracing` | each wait is a span at debug level |
//! | `console` | a server reports keys, sessions and transactions to other processes |
//! | `lock-places` | deadlock reports name the source line of each lock |
//! | `order-checks` | [`ordered::checked`] also checks in release builds |
//!
//! [`Coupled`]: latch::Coupled
//! [`FencedCell`]: table::FencedCell
//! [`OptimisticLatch`]: latch::OptimisticLatch
//! [`OrderedMutex`]: ordered::OrderedMutex
//! [`SingleFlight`]: table::SingleFlight
//! [`SingleFlight::run`]: table::SingleFlight::run

#[cfg(not(target_has_atomic = "64"))]
compile_error!("latchwork needs 64-bit atomics");

// Layers, lowest first: a module imports only from those above it in this list.
mod sync;
mod word;

mod deadlock;
mod reclaim;

mod park;

mod hash;

mod lock_table;
pub mod session;
mod single_flight;

mod mvcc;

pub mod cell;
mod fenced;
pub mod latch;

pub mod txn;

pub mod map;

pub mod ordered;

pub mod table;

mod stats;

#[cfg(feature = "console")]
pub mod console;

pub mod docs;

#[cfg(latchwork_loom)]
#[doc(hidden)]
pub use cell::model;
#[doc(hidden)]
pub use cell::outside_of_closures;
#[doc(no_inline)]
pub use cell::{RetryPolicy, VersionedCell, pin};
#[doc(no_inline)]
pub use map::VersionedMap;
#[doc(no_inline)]
pub use session::Session;
pub use stats::{Stats, flush, stats};
#[doc(no_inline)]
pub use table::{Fairness, LockTable, Mode, RandomState};
#[doc(no_inline)]
pub use txn::{Abort, Transaction, Tx, TxError, atomically, snapshot, update_all};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
