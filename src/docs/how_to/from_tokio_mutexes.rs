//! Moving from a map of `tokio::sync::Mutex`.
//!
//! A common pattern for locks by key in tasks is a map from keys to mutexes. It has two problems:
//! the map grows, because it is difficult to remove an entry safely, and each lock needs a lookup
//! under another lock. A [`LockTable`] stores nothing for a free key.
//!
//! The blocks of old code use `tokio` 1 and are shown for comparison only; the tests of this crate
//! run the new code.
//!
//! # Locks by key
//! Before:
//!
//! ```rust,ignore
//! use std::collections::HashMap;
//! use std::sync::{Arc, Mutex};
//!
//! #[derive(Default)]
//! struct Uploads {
//!     locks: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
//! }
//!
//! impl Uploads {
//!     async fn upload(&self, file: &str) {
//!         let lock = self.locks.lock().unwrap().entry(file.to_owned()).or_default().clone();
//!         let _guard = lock.lock().await;
//!         send(file).await;
//!         // The entry stays in the map. To remove it here races with other uploads.
//!     }
//! }
//! ```
//!
//! After:
//!
//! ```
//! use latchwork::LockTable;
//!
//! # async fn send(_: &str) {}
//! #[derive(Default)]
//! struct Uploads {
//!     locks: LockTable<str>,
//! }
//!
//! impl Uploads {
//!     async fn upload(&self, file: &str) {
//!         let _guard = self.locks.lock_async(file).await;
//!         send(file).await;
//!     }
//! }
//!
//! let uploads = Uploads::default();
//! pollster::block_on(uploads.upload("report.txt"));
//! assert_eq!(uploads.locks.locked_count(), 0);
//! ```
//!
//! # A guard that moves into a task
//! `lock_owned` of `tokio` has the same shape here. The guard owns an `Arc` of the table:
//!
//! ```
//! use std::sync::Arc;
//! use latchwork::LockTable;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let locks: Arc<LockTable<str>> = Arc::default();
//! tokio::runtime::Runtime::new()?.block_on(async {
//!     let guard = locks.lock_async_owned("report.txt").await;
//!     let upload = tokio::spawn(async move {
//!         tokio::task::yield_now().await;
//!         drop(guard); // the task holds the lock until here
//!     });
//!     assert!(locks.try_lock("other.txt").is_some());
//!     upload.await
//! })?;
//! assert_eq!(locks.locked_count(), 0);
//! # Ok(())
//! # }
//! ```
//!
//! # Several keys
//! With mutexes, the caller must sort the keys.
//! [`lock_all_async`](crate::LockTable::lock_all_async) sorts them, and locks a key once that is
//! given twice:
//!
//! ```
//! use latchwork::{LockTable, Mode};
//!
//! let locks: LockTable<str> = LockTable::new();
//! pollster::block_on(async {
//!     let files = [("b", Mode::Exclusive), ("a", Mode::Shared), ("b", Mode::Shared)];
//!     let set = locks.lock_all_async(files).await;
//!     assert_eq!((set.len(), set.mode("b")), (2, Some(Mode::Exclusive)));
//! });
//! ```
//!
//! # Timeouts and cancellation
//! Each future is cancel-safe, so `tokio::time::timeout(time, table.lock_async(key))` is correct. A
//! future that is dropped leaves the queue. If it had been granted the key, it passes the key on.
//!
//! # Data under the lock
//! A `tokio::sync::Mutex<T>` contains its data; a key does not. There are two solutions:
//!
//! - Hold the data in a map of your own that is locked for single accesses, as in
//!   [`single_flight`](super::single_flight).
//! - Hold each value in a [`VersionedCell`](crate::VersionedCell), and use no lock. Waiting for a
//!   change replaces `tokio::sync::watch`.
//!
//! # What maps to what
//! | `tokio::sync` | here |
//! |---|---|
//! | `Mutex::lock().await` | [`lock_async(key).await`](crate::LockTable::lock_async) |
//! | `Mutex::lock_owned().await` | [`lock_async_owned(key)`](crate::LockTable::lock_async_owned) |
//! | `Mutex::blocking_lock()` | [`lock(key)`](crate::LockTable::lock) |
//! | `Mutex::try_lock()` | [`try_lock(key)`](crate::LockTable::try_lock): an `Option` |
//! | `RwLock::read().await` | [`lock_shared_async(key)`](crate::LockTable::lock_shared_async) |
//! | `RwLock::write().await` | [`lock_async(key)`](crate::LockTable::lock_async) |
//! | `RwLockWriteGuard::downgrade` | [`downgrade`](crate::table::ExclusiveGuard::downgrade) |
//! | `watch::Receiver::changed` | [`VersionedCell::changed`](crate::VersionedCell::changed) |
//! | `changed`, then `borrow_and_update` | [`changed_value`](crate::VersionedCell::changed_value) |
//! | `timeout(time, lock)` | the same |
//!
//! # Differences
//! - *Fairness.* A `tokio` mutex is first-in, first-out. A table permits barging up to a bound;
//!   [`Fairness::Fifo`](crate::Fairness::Fifo) selects strict order.
//! - *Cooperative scheduling.* A `tokio` mutex yields to the executor from time to time. A future
//!   of this crate that is ready at once does not yield. A loop over free keys should call
//!   `tokio::task::yield_now` or `tokio::task::consume_budget`.
//! - *Threads and tasks wait in one queue.* A thread in `lock` and a task in `lock_async` may use
//!   the same key.
//! - *Identity.* A key is its 64-bit hash; see
//!   [Keys are hashes](crate::docs::limitations#keys-are-hashes).
//!
//! # What does not exist here
//! Semaphores, barriers, notifications without a value, and guards that are mapped to a part of the
//! data.
//!
//! [`LockTable`]: crate::LockTable
