//! A cache that computes each value once: single flight.
//!
//! Many threads or tasks ask for the same value at the same time. Without coordination each of them
//! computes it (a *cache stampede*). With single flight, the first one computes the value, and the
//! others wait for it. Requests for other keys are not delayed.
//!
//! # The short form
//! [`SingleFlight`](crate::table::SingleFlight) runs one computation for all callers that ask for
//! one key at the same time. It stores nothing afterwards, so the cache is yours. The closure
//! checks the cache once more, because another flight may have ended between the first check and
//! the call:
//!
//! ```
//! use std::collections::HashMap;
//! use std::sync::Mutex;
//! use latchwork::table::SingleFlight;
//!
//! #[derive(Default)]
//! struct Cache {
//!     values: Mutex<HashMap<u64, String>>,
//!     flights: SingleFlight<u64, String>,
//! }
//!
//! impl Cache {
//!     fn get(&self, key: u64, compute: impl FnOnce() -> String) -> String {
//!         self.cached(key).unwrap_or_else(|| {
//!             self.flights.run(key, || {
//!                 self.cached(key).unwrap_or_else(|| {
//!                     let value = compute();
//!                     self.values.lock().unwrap().insert(key, value.clone());
//!                     value
//!                 })
//!             })
//!         })
//!     }
//!
//!     fn cached(&self, key: u64) -> Option<String> {
//!         self.values.lock().unwrap().get(&key).cloned()
//!     }
//! }
//!
//! let cache = Cache::default();
//! assert_eq!(cache.get(7, || "seven".to_owned()), "seven");
//! assert_eq!(cache.get(7, || unreachable!("it is cached")), "seven");
//! assert_eq!(cache.flights.in_flight(), 0);
//! ```
//!
//! If the computation can fail, use [`try_run`](crate::table::SingleFlight::try_run). It returns
//! the error to its own caller only, and one of the waiting callers runs its closure. Tasks use
//! [`run_async`](crate::table::SingleFlight::run_async) and
//! [`try_run_async`](crate::table::SingleFlight::try_run_async).
//!
//! The rest of this chapter builds the same from a [`LockTable`](crate::LockTable). This form
//! stores no value between the threads, and it adapts to other needs, such as stale values.
//!
//! # Threads
//! The recipe is *check, lock, check again, compute, store*:
//!
//! ```
//! use std::collections::HashMap;
//! use std::sync::atomic::{AtomicUsize, Ordering};
//! use std::sync::{Barrier, Mutex};
//! use latchwork::LockTable;
//!
//! #[derive(Default)]
//! struct Cache {
//!     /// Locked for one access, and never while a value is computed.
//!     values: Mutex<HashMap<u64, String>>,
//!     /// The thread that computes a value holds its key.
//!     flights: LockTable<u64>,
//! }
//!
//! impl Cache {
//!     fn get(&self, key: u64, compute: impl FnOnce() -> String) -> String {
//!         if let Some(value) = self.cached(key) {
//!             return value;
//!         }
//!         let _flight = self.flights.lock(&key);
//!         // The previous holder has probably stored the value. Without this second check, every
//!         // thread that waited would compute it again.
//!         if let Some(value) = self.cached(key) {
//!             return value;
//!         }
//!         let value = compute();
//!         self.values.lock().unwrap().insert(key, value.clone());
//!         value
//!     }
//!
//!     fn cached(&self, key: u64) -> Option<String> {
//!         self.values.lock().unwrap().get(&key).cloned()
//!     }
//! }
//!
//! let (cache, computed, start) = (Cache::default(), AtomicUsize::new(0), Barrier::new(8));
//! std::thread::scope(|s| {
//!     for _ in 0..8 {
//!         s.spawn(|| {
//!             start.wait();
//!             let value = cache.get(7, || {
//!                 computed.fetch_add(1, Ordering::Relaxed);
//!                 "seven".to_owned()
//!             });
//!             assert_eq!(value, "seven");
//!         });
//!     }
//! });
//! assert_eq!(computed.into_inner(), 1);
//! assert_eq!(cache.flights.locked_count(), 0);
//! ```
//!
//! # Tasks
//! A task uses [`lock_async`](crate::LockTable::lock_async) and may hold the guard across an
//! `.await`. The mutex of the map must not be held across an `.await`; here each access locks it
//! for one statement.
//!
//! ```
//! use std::collections::HashMap;
//! use std::sync::atomic::{AtomicUsize, Ordering};
//! use std::sync::{Arc, Mutex};
//! use latchwork::LockTable;
//!
//! #[derive(Default)]
//! struct Cache {
//!     values: Mutex<HashMap<u64, String>>,
//!     flights: LockTable<u64>,
//!     fetched: AtomicUsize,
//! }
//!
//! impl Cache {
//!     async fn get(&self, key: u64) -> Result<String, std::io::Error> {
//!         if let Some(value) = self.cached(key) {
//!             return Ok(value);
//!         }
//!         let _flight = self.flights.lock_async(&key).await;
//!         if let Some(value) = self.cached(key) {
//!             return Ok(value);
//!         }
//!         let value = self.fetch(key).await?; // an error is not cached
//!         self.values.lock().unwrap().insert(key, value.clone());
//!         Ok(value)
//!     }
//!
//!     fn cached(&self, key: u64) -> Option<String> {
//!         self.values.lock().unwrap().get(&key).cloned()
//!     }
//!
//!     async fn fetch(&self, key: u64) -> Result<String, std::io::Error> {
//!         tokio::task::yield_now().await; // stands for a request to another system
//!         self.fetched.fetch_add(1, Ordering::Relaxed);
//!         Ok(format!("value {key}"))
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cache = Arc::new(Cache::default());
//! tokio::runtime::Runtime::new()?.block_on(async {
//!     let mut tasks = tokio::task::JoinSet::new();
//!     for request in 0..100 {
//!         let cache = cache.clone();
//!         tasks.spawn(async move { cache.get(request % 4).await });
//!     }
//!     while let Some(value) = tasks.join_next().await {
//!         assert!(value??.starts_with("value "));
//!     }
//!     Ok::<_, Box<dyn std::error::Error>>(())
//! })?;
//! assert_eq!(cache.fetched.load(Ordering::Relaxed), 4);
//! # Ok(())
//! # }
//! ```
//!
//! # Errors, panics and cancellation
//! In each of these cases the guard is dropped. The next thread or task that acquires the key
//! checks again, finds no value, and computes it:
//!
//! - `fetch` returns an error. If the other system is down, the waiters try one after the other. If
//!   this is too slow, store the error for a short time.
//! - The computation panics. There is no poisoning.
//! - The task is cancelled, for example by a timeout: its future is dropped.
//!
//! The same holds for [`SingleFlight`](crate::table::SingleFlight). The caller whose closure panics
//! gets the panic, and no other caller does:
//!
//! ```
//! use std::sync::Barrier;
//! use latchwork::table::SingleFlight;
//!
//! let (flights, started) = (SingleFlight::new(), Barrier::new(2));
//! std::thread::scope(|s| {
//!     let leader = s.spawn(|| {
//!         flights.run("page", || {
//!             started.wait();
//!             panic!("the database is down")
//!         })
//!     });
//!     started.wait(); // the leader is inside its closure
//!     assert_eq!(flights.run("page", || 7), 7); // no panic: this caller runs its own closure
//!     assert!(leader.join().is_err());
//! });
//! assert_eq!(flights.in_flight(), 0);
//! ```
//!
//! # Expiry
//! Store the time beside the value, and let `cached` return `None` for an old entry. The recipe
//! does not change: the first request after the expiry computes the value, once. To serve the old
//! value during the refresh, use `try_lock` in place of `lock`, and return the old value if it
//! returns `None`:
//!
//! ```
//! use latchwork::{LockTable, VersionedCell};
//!
//! let (page, refreshes) = (VersionedCell::new("old"), LockTable::<str>::new());
//! let refresh = |render: &dyn Fn() -> &'static str| {
//!     // Only one thread refreshes; the others continue with the old value.
//!     if let Some(_flight) = refreshes.try_lock("page") {
//!         page.set(render());
//!     }
//! };
//! refresh(&|| {
//!     refresh(&|| unreachable!("a refresh is in progress"));
//!     assert_eq!(*page.read(), "old"); // requests are still served
//!     "new"
//! });
//! assert_eq!(*page.read(), "new");
//! ```
//!
//! # Traps
//! - The computation must not request the same key: the lock is not re-entrant, and the thread
//!   would wait for itself.
//! - Two keys with the same hash share one lock. One of them is then computed after the other; the
//!   result is still correct. See [Keys are hashes](crate::docs::limitations#keys-are-hashes).
//!
//! # When something else is better
//! A cache with eviction, size limits and expiry is `moka`. Its `get_with` includes single flight.
