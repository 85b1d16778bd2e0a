//! Moving from the guards of `dashmap`.
//!
//! A guard of `dashmap` (`Ref`, `RefMut`, `Entry`) locks the *shard* that the key is in. A thread
//! that holds a guard while it does something slow has three problems:
//!
//! - It delays the threads that use any other key of the shard.
//! - It deadlocks if it calls another method of the map for a key of the same shard.
//! - If a task holds a guard across an `.await`, tasks that need the shard block their threads.
//!
//! A map whose guards live for one statement has none of them: keep it. Use this crate for the
//! critical sections that are long, that need several keys, or that read without waiting.
//! [Which map when](crate::docs::choosing#which-map-when) compares `dashmap` with
//! [`VersionedMap`](crate::VersionedMap).
//!
//! The blocks of old code use `dashmap` 6 and are shown for comparison only; the tests of this
//! crate run the new code.
//!
//! # A guard as a lock
//! Before:
//!
//! ```rust,ignore
//! use dashmap::DashMap;
//!
//! let jobs: DashMap<u64, u32> = DashMap::new();
//! jobs.insert(7, 0);
//! {
//!     let mut attempts = jobs.get_mut(&7).unwrap(); // locks the shard of key 7
//!     run_job(7); // slow: other keys of this shard wait
//!     *attempts += 1;
//! }
//! ```
//!
//! After: the lock is a key of its own, and the map is locked for single accesses. The map may stay
//! a `DashMap`; here it is a map of `std`.
//!
//! ```
//! use std::collections::HashMap;
//! use std::sync::Mutex;
//! use latchwork::LockTable;
//!
//! # fn run_job(_: u64) {}
//! let (jobs, running) = (Mutex::new(HashMap::from([(7, 0)])), LockTable::<u64>::new());
//! {
//!     let _running = running.lock(&7); // only this key, and `lock_async` in a task
//!     run_job(7);
//!     *jobs.lock().unwrap().get_mut(&7).unwrap() += 1;
//! }
//! assert_eq!(jobs.lock().unwrap()[&7], 1);
//! ```
//!
//! # A map of values that are read often
//! Before:
//!
//! ```rust,ignore
//! use dashmap::DashMap;
//!
//! let prices: DashMap<&str, u64> = DashMap::new();
//! prices.insert("apple", 30);
//! let price = *prices.get("apple").unwrap(); // locks the shard for readers
//! prices.alter("apple", |_, price| price + 1);
//! ```
//!
//! After, for a fixed set of keys: a plain map of cells. A read locks nothing.
//!
//! ```
//! use std::collections::HashMap;
//! use latchwork::VersionedCell;
//!
//! let prices: HashMap<&str, VersionedCell<u64>> = HashMap::from([("apple", 30.into())]);
//! let price = *prices["apple"].read();
//! prices["apple"].update(|price| price + 1);
//! assert_eq!((price, prices["apple"].get()), (30, 31));
//! ```
//!
//! For keys that are inserted and removed: a [`VersionedMap`](crate::VersionedMap), whose values
//! are such cells.
//!
//! ```
//! use latchwork::{VersionedMap, snapshot};
//!
//! let prices: VersionedMap<String, u64> = VersionedMap::new();
//! prices.insert("apple".into(), 30);
//! prices.insert("pear".into(), 40);
//! prices.update("apple", |price| price + 1);
//! assert_eq!(snapshot(|s| s.iter(&prices).map(|(_, price)| *price).sum::<u64>()), 71);
//! prices.remove("pear");
//! assert_eq!(prices.get("pear").as_deref(), None);
//! ```
//!
//! # Two keys at once
//! With `dashmap`, two guards of one map can deadlock. Before:
//!
//! ```rust,ignore
//! let mut from = accounts.get_mut("a").unwrap();
//! let mut to = accounts.get_mut("b").unwrap(); // deadlocks if both keys are in one shard
//! ```
//!
//! After: a transaction.
//!
//! ```
//! use std::collections::HashMap;
//! use latchwork::{VersionedCell, atomically};
//!
//! let accounts: HashMap<&str, VersionedCell<i64>> =
//!     HashMap::from([("a", 100.into()), ("b", 0.into())]);
//! atomically(|tx| {
//!     tx.update(&accounts["a"], |balance| balance - 30)?;
//!     tx.update(&accounts["b"], |balance| balance + 30)
//! });
//! assert_eq!((accounts["a"].get(), accounts["b"].get()), (70, 30));
//! ```
//!
//! # What maps to what
//! | `dashmap` | here |
//! |---|---|
//! | `DashMap<K, V>` | [`VersionedMap<K, V>`](crate::VersionedMap), or a map of cells |
//! | `insert`, `remove`, `retain`, `clear` | methods of these names of the map |
//! | `get`, with the guard held for a while | [`cell.read()`](crate::VersionedCell::read) |
//! | `get_mut`, held during slow work | [`table.lock(&key)`](crate::LockTable::lock) |
//! | `try_get`, `try_get_mut` | [`table.try_lock(&key)`](crate::LockTable::try_lock) |
//! | `alter` | [`cell.update(f)`](crate::VersionedCell::update) |
//! | `entry(key).or_insert_with(slow)` | [single flight](super::single_flight) |
//! | `get_mut` of two keys | [`lock_all`](crate::LockTable::lock_all), or a transaction |
//! | `iter` for a sum | [`snapshot`](crate::snapshot()) over the cells or the map |
//! | `par_iter` of the feature `rayon` | [`par_iter`](crate::txn::View) of a snapshot |
//!
//! # What does not exist here
//! - Mutation in place. A write to a cell replaces the whole value; see
//!   [Writers allocate](crate::docs::limitations#writers-allocate).
//! - A guard that lends `&mut V`. [`lock`](crate::VersionedMap::lock) of a map gives a draft.
//! - Views by shard, and `alter_all`.
