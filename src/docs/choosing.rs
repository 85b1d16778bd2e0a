//! Which primitive to use, and when to use another crate.
//!
//! # Choosing a primitive
//! Answer the questions in order; the first *yes* decides.
//!
//! | question | use |
//! |---|---|
//! | Is it one counter, flag or small number? | an atomic of `std` |
//! | Is there a fixed, small set of locks, never more than one at a time? | `parking_lot::Mutex` |
//! | Is there a fixed set of locks, several at a time? | [`OrderedMutex`], [`ordered::checked`] |
//! | Does a list or a tree have many readers? | [`OptimisticLatch`], [`Coupled`] |
//! | Does the critical section do I/O, or take long? | [`LockTable`] |
//! | Does it need several keys, all known at the start? | [`LockTable::lock_all`] |
//! | Do the keys become known one by one? | [`Session`] |
//! | Is one value read often and replaced rarely? | [`VersionedCell`] |
//! | Must two to eight known values change together? | [`update_all`] |
//! | Must several values change together? | [`atomically`] |
//! | Must many values be read as of one instant? | [`snapshot`] |
//!
//! The primitives combine. A typical server holds its configuration in a cell and its balances in
//! cells under transactions. It locks a key around each request to an external system.
//!
//! # Lock, cell or transaction
//! | | [`LockTable`] | [`VersionedCell`] | [`atomically`] |
//! |---|---|---|---|
//! | the data is | yours, anywhere | one value in the cell | several cells |
//! | a reader | waits for the writer | never waits | never waits, may retry |
//! | a conflict | makes a thread wait | repeats one closure | repeats the whole closure |
//! | side effects inside | yes | no | no |
//! | across an `.await` | yes | with `read_owned` | no |
//! | a panic | releases the lock | changes nothing | changes nothing |
//!
//! [`optimistic`](super::optimistic) has the numbers behind this table, and
//! [`locks`](super::locks) compares the strategies against deadlock.
//!
//! # When not to use it
//! Another crate is the better choice in these cases:
//!
//! | you need | use |
//! |---|---|
//! | locks across processes or machines | `latchwork-lease`, or another lock service |
//! | a durable log, or transactions on disk | a database: SQLite, `redb` |
//! | a concurrent map whose entries one thread uses at a time | `dashmap`, `scc` |
//! | a read-mostly map with iteration | `papaya` |
//! | a cache with eviction, size limits and expiry | `moka` |
//! | a pointer that readers keep for a long time, without versions | `arc-swap` |
//! | one lock around plain data | `parking_lot`, `std::sync`, or `tokio::sync` in tasks |
//! | a semaphore, a channel, a barrier | `tokio::sync`, `crossbeam` |
//! | a fixed number of locks, chosen by index | an array of `parking_lot::Mutex` |
//! | an ordered concurrent map, ready to use | `crossbeam-skiplist`, `scc::TreeIndex` |
//! | hard real-time bounds | none of these primitives |
//! | `no_std`, or a target without 64-bit atomics | another crate |
//!
//! Prefer a plain mutex while it is fast enough. A program with one mutex is easier to understand
//! than a program with any of these primitives, and on one hot value it is also faster:
//! [`performance`](super::performance#where-it-is-slower) lists the cases.
//!
//! [`Coupled`]: crate::latch::Coupled
//! [`LockTable`]: crate::LockTable
//! [`LockTable::lock_all`]: crate::LockTable::lock_all
//! [`OptimisticLatch`]: crate::latch::OptimisticLatch
//! [`OrderedMutex`]: crate::ordered::OrderedMutex
//! [`Session`]: crate::Session
//! [`VersionedCell`]: crate::VersionedCell
//! [`atomically`]: crate::atomically
//! [`ordered::checked`]: crate::ordered::checked
//! [`snapshot`]: crate::snapshot()
//! [`update_all`]: crate::update_all()
