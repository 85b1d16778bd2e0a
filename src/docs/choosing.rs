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
//! | Are the values found by keys that are inserted and removed? | [`VersionedMap`] |
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
//! # Which map when
//! | | [`VersionedMap`] | `papaya` | `scc` | `dashmap` | `moka` |
//! |---|---|---|---|---|---|
//! | a reader waits for | nothing | nothing | a writer | a writer | nothing |
//! | a read returns | a pin | a guard | a lock | a lock | a clone |
//! | a value is | replaced | replaced | changed | changed | replaced |
//! | a write may depend on | a version | a closure | a lock | a lock | a closure |
//! | several keys change together | yes | no | no | no | no |
//! | all keys as of one instant | yes | no | no | no | no |
//! | a lock across an `.await` | yes | no | with care | no | while it computes |
//! | a wait for a change of a key | yes | no | no | no | no |
//! | eviction, size limits, expiry | no | no | no | no | yes |
//!
//! Use a `VersionedMap` for one of these reasons:
//! - A writer relies on what it has read, and must fail if another thread has written since:
//!   [`compare_and_set`](crate::VersionedMap::compare_and_set). The version of a key also grows
//!   over a removal, so a removed and inserted key is never mistaken for the old one.
//! - Several keys, or keys and cells, change together: [`atomically`], or
//!   [`transact`](crate::VersionedMap::transact), which reports why a condition was not met.
//! - A report needs the whole map as of one instant, beside writers: [`snapshot`].
//! - The holder of a key does I/O or takes long, and readers must not wait:
//!   [`lock`](crate::VersionedMap::lock), [`lock_async`](crate::VersionedMap::lock_async).
//!
//! Otherwise another map is smaller and often faster.
//! [The figures of maps](super::performance#papaya-dashmap-scc-moka) are of `u64` to `u64`:
//! - `papaya` reads faster, more so after each key was updated, and needs less memory for each
//!   entry. It removes keys faster: a removed entry of a `VersionedMap` stays for a grace period,
//!   and its slot until the next growth. It inserts slower into a map that grows. A walk over all
//!   keys is faster there, and of no instant.
//! - `dashmap` and `scc` update a value in place, in a quarter of the time or less. A
//!   `VersionedMap` allocates a new value, and clones a large one. A lock of a key with a new value
//!   lasts many times as long as `get_mut` of `dashmap`.
//! - A mutex around a `HashMap` is faster than a batch with conditions, on one thread.
//! - `moka` is a cache, and a `VersionedMap` never evicts. It was not measured.
//!
//! A guard of `dashmap` locks a shard, which has many keys. A thread that holds one guard and asks
//! for another one may deadlock with itself or with another thread. A guard of a `VersionedMap`
//! locks one key, and [`lock_all`](crate::VersionedMap::lock_all) and
//! [`session`](crate::VersionedMap::session) prevent or detect deadlocks.
//!
//! ```
//! use latchwork::{VersionedMap, snapshot};
//! let stock: VersionedMap<&str, u32> = [("apples", 7), ("pears", 3)].into_iter().collect();
//! let apples = stock.version("apples").unwrap();
//! // By version, by lock, and both keys together.
//! stock.compare_and_set("apples", apples, 6).unwrap();
//! let mut pears = stock.lock(&"pears");
//! pears.set(4);
//! pears.commit();
//! let versions = ["apples", "pears"].map(|key| stock.version(key).unwrap());
//! let both = stock.transact().put_if("apples", versions[0], 5).put_if("pears", versions[1], 5);
//! assert!(both.commit().is_ok());
//! assert_eq!(snapshot(|s| s.iter(&stock).map(|(_, n)| *n).sum::<u32>()), 10);
//! ```
//!
//! # When not to use it
//! Another crate is the better choice in these cases:
//!
//! | you need | use |
//! |---|---|
//! | locks across processes or machines | `latchwork-lease`, or another lock service |
//! | a durable log, or transactions on disk | a database: SQLite, `redb` |
//! | a map whose values are changed in place | `dashmap`, `scc` |
//! | a map that is read often, without versions or snapshots | `papaya` |
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
//! [`VersionedMap`]: crate::VersionedMap
//! [`atomically`]: crate::atomically
//! [`ordered::checked`]: crate::ordered::checked
//! [`snapshot`]: crate::snapshot()
//! [`update_all`]: crate::update_all()
