//! A tutorial: one program that grows.
//!
//! The program is a shop. It starts with a mutex around a map and ends with transactions, a
//! consistent report and deadlock detection. Each step names the fault of the step before and
//! removes it. Each block is a whole program: copy it, run it, and change it.
//!
//! | step | new | for |
//! |---|---|---|
//! | [1](#step-1-a-mutex-around-a-map) | `Mutex<HashMap>` | the starting point |
//! | [2](#step-2-a-lock-for-each-key) | [`LockTable`] | slow work on one key |
//! | [3](#step-3-a-cell-for-each-value) | [`VersionedCell`] | reads that never wait |
//! | [4](#step-4-a-transaction) | [`atomically`], [`Tx::retry`] | changes of several values |
//! | [5](#step-5-a-snapshot) | [`snapshot`] | a consistent view of all values |
//! | [6](#step-6-a-session) | [`Session`] | locks on keys that become known one by one |
//!
//! You do not need every step. Stop where your program has no fault left;
//! [`choosing`](super::choosing) helps with that.
//!
//! # Step 1: a mutex around a map
//! A shop has a stock of items. A sale charges the customer, which is slow, and then removes one
//! item. One mutex protects all of it:
//!
//! ```
//! use std::collections::HashMap;
//! use std::sync::Mutex;
//!
//! struct Shop {
//!     stock: Mutex<HashMap<&'static str, u32>>,
//! }
//!
//! impl Shop {
//!     fn sell(&self, item: &str, charge: impl FnOnce() -> bool) -> bool {
//!         let mut stock = self.stock.lock().unwrap();
//!         let left = stock.get_mut(item).expect("the shop has this item");
//!         if *left == 0 || !charge() {
//!             return false;
//!         }
//!         *left -= 1;
//!         true
//!     }
//! }
//!
//! let shop = Shop { stock: Mutex::new(HashMap::from([("apples", 2), ("pears", 1)])) };
//! let sold = shop.sell("apples", || {
//!     // While the bank answers, no other thread can sell anything.
//!     assert!(shop.stock.try_lock().is_err());
//!     true
//! });
//! assert!(sold);
//! assert_eq!(shop.stock.lock().unwrap()["apples"], 1);
//! ```
//!
//! This is correct. For a map with short critical sections it is also the best solution: an
//! uncontended mutex costs a few nanoseconds.
//!
//! **The fault.** The thread holds the mutex while the bank answers. A sale of pears waits for a
//! payment for apples.
//!
//! # Step 2: a lock for each key
//! The slow part concerns one item. So the seller locks this item for the whole sale, and the map
//! only for the moment of the change. A [`LockTable`] locks any key, without registration, and
//! stores nothing for a key that is free:
//!
//! ```
//! use std::collections::HashMap;
//! use std::sync::Mutex;
//! use latchwork::LockTable;
//!
//! struct Shop {
//!     /// Locked for one access, and never while a bank answers.
//!     stock: Mutex<HashMap<&'static str, u32>>,
//!     /// A seller holds the lock of its item for the whole sale.
//!     sales: LockTable<str>,
//! }
//!
//! impl Shop {
//!     fn left(&self, item: &str) -> u32 {
//!         self.stock.lock().unwrap()[item]
//!     }
//!
//!     fn sell(&self, item: &str, charge: impl FnOnce() -> bool) -> bool {
//!         let _sale = self.sales.lock(item);
//!         if self.left(item) == 0 || !charge() {
//!             return false;
//!         }
//!         *self.stock.lock().unwrap().get_mut(item).unwrap() -= 1;
//!         true
//!     }
//! }
//!
//! let shop = Shop {
//!     stock: Mutex::new(HashMap::from([("apples", 2), ("pears", 1)])),
//!     sales: LockTable::new(),
//! };
//! let sold = shop.sell("apples", || {
//!     // Another sale of apples must wait; a sale of pears does not.
//!     assert!(shop.sales.try_lock("apples").is_none());
//!     assert!(shop.sell("pears", || true));
//!     true
//! });
//! assert!(sold);
//! assert_eq!((shop.left("apples"), shop.left("pears")), (1, 0));
//! assert_eq!(shop.sales.locked_count(), 0); // nothing is stored for free keys
//! ```
//!
//! A task uses [`lock_async`](crate::LockTable::lock_async) in place of `lock`, and may hold the
//! guard across an `.await`. A sale of several items uses [`lock_all`](crate::LockTable::lock_all),
//! which cannot deadlock against other calls of `lock_all` if the callers hold no other keys.
//!
//! **The fault.** A page that shows the stock acquires the map's mutex for each item. So readers
//! wait for each other, although they change nothing. In addition, the compiler does not connect
//! the lock of a key with the data: a function that forgets `sales.lock` still compiles.
//!
//! # Step 3: a cell for each value
//! The set of items is fixed when the shop opens, so the map itself needs no lock. Each count
//! becomes a [`VersionedCell`]. A read returns the current value and never waits. A write installs
//! a new value with a new version:
//!
//! ```
//! use std::collections::HashMap;
//! use latchwork::{RetryPolicy, VersionedCell, cell::UpdateError};
//!
//! struct Shop {
//!     stock: HashMap<&'static str, VersionedCell<u32>>,
//! }
//!
//! impl Shop {
//!     fn reserve(&self, item: &str) -> Result<(), UpdateError<&'static str>> {
//!         // Fails after 100 conflicts with other writers, and at once if nothing is left.
//!         let policy = RetryPolicy::attempts(100);
//!         self.stock[item]
//!             .try_update(&policy, |left| left.checked_sub(1).ok_or("sold out"))
//!             .map(drop)
//!     }
//!
//!     fn sell(&self, item: &str, charge: impl FnOnce() -> bool) -> bool {
//!         if self.reserve(item).is_err() {
//!             return false;
//!         }
//!         let paid = charge(); // no lock is held here
//!         if !paid {
//!             self.stock[item].update(|left| left + 1);
//!         }
//!         paid
//!     }
//! }
//!
//! let shop = Shop {
//!     stock: [("apples", 2), ("pears", 1)]
//!         .map(|(item, left)| (item, VersionedCell::new(left)))
//!         .into(),
//! };
//! let seen = shop.stock["apples"].read(); // keeps this value
//! assert!(shop.sell("apples", || true));
//! assert!(!shop.sell("apples", || false)); // the payment failed
//! assert_eq!((*seen, shop.stock["apples"].get()), (2, 1));
//!
//! // A conditional write fails if another thread has written since `seen`.
//! assert!(shop.stock["apples"].compare_and_set(seen.version(), 50).is_err());
//!
//! assert!(shop.sell("pears", || true));
//! assert_eq!(shop.reserve("pears"), Err(UpdateError::Aborted("sold out")));
//! ```
//!
//! Now no thread waits for a bank, and no reader waits at all.
//!
//! **The fault.** An order of an apple and a pear needs two updates. The second can fail after the
//! first one has succeeded, and other threads see half of an order. A customer that could
//! wait for a delivery must poll.
//!
//! # Step 4: a transaction
//! [`atomically`] changes any number of cells in one step. The closure reads and writes through
//! `tx`, and all of its writes become visible together or not at all. [`Tx::retry`] abandons the
//! attempt, sleeps until a cell that the closure has read changes, and runs the closure again:
//!
//! ```
//! use std::collections::HashMap;
//! use latchwork::{VersionedCell, atomically};
//!
//! struct Shop {
//!     stock: HashMap<&'static str, VersionedCell<u32>>,
//!     sold: VersionedCell<u32>,
//! }
//!
//! impl Shop {
//!     /// Removes one of each of `items`. Waits for deliveries until all of them are in stock.
//!     fn order(&self, items: &[&str]) {
//!         atomically(|tx| {
//!             for item in items {
//!                 let cell = &self.stock[*item];
//!                 let left = *tx.read(cell)?;
//!                 if left == 0 {
//!                     return tx.retry();
//!                 }
//!                 tx.set(cell, left - 1)?;
//!             }
//!             tx.update(&self.sold, |sold| sold + items.len() as u32)
//!         });
//!     }
//! }
//!
//! let shop = Shop {
//!     stock: [("apples", 2), ("pears", 0)]
//!         .map(|(item, left)| (item, VersionedCell::new(left)))
//!         .into(),
//!     sold: VersionedCell::new(0),
//! };
//! std::thread::scope(|s| {
//!     let customer = s.spawn(|| shop.order(&["apples", "pears"]));
//!     // No apple leaves the shop before a pear is there.
//!     assert_eq!(shop.stock["apples"].get(), 2);
//!     shop.stock["pears"].set(1); // a delivery wakes the customer
//!     customer.join().unwrap();
//! });
//! assert_eq!((shop.stock["apples"].get(), shop.stock["pears"].get()), (1, 0));
//! assert_eq!(shop.sold.get(), 2);
//! ```
//!
//! Three rules keep a closure correct:
//!
//! 1. Return every error with `?`. An attempt that has failed cannot commit.
//! 2. Access cells through `tx` only. A direct write inside the closure is outside the transaction.
//! 3. Have no side effects. The closure runs once for each attempt.
//!
//! [`Transaction`](crate::Transaction) adds a deadline, a limit of attempts and a label, and
//! [`run_async`](crate::Transaction::run_async) waits without blocking a thread.
//!
//! **The fault.** The report adds up the stock and the sales. It reads one cell after the other,
//! and an order between two reads is counted half. A transaction that only reads would be correct,
//! but it starts again whenever a cell changes that it has read.
//!
//! # Step 5: a snapshot
//! [`snapshot`] reads any number of cells as they were at one instant. It never retries and never
//! waits for a writer:
//!
//! ```
//! use std::collections::HashMap;
//! use latchwork::{VersionedCell, atomically, snapshot};
//!
//! struct Shop {
//!     stock: HashMap<&'static str, VersionedCell<u32>>,
//!     sold: VersionedCell<u32>,
//! }
//!
//! impl Shop {
//!     fn order(&self, item: &str) {
//!         atomically(|tx| {
//!             tx.update(&self.stock[item], |left| left - 1)?;
//!             tx.update(&self.sold, |sold| sold + 1)
//!         });
//!     }
//!
//!     /// Returns the number of items that the shop ever had.
//!     fn report(&self) -> u32 {
//!         snapshot(|s| {
//!             let stock: u32 = self.stock.values().map(|cell| *s.read(cell)).sum();
//!             stock + *s.read(&self.sold)
//!         })
//!     }
//! }
//!
//! let shop = Shop {
//!     stock: [("apples", 500), ("pears", 501)]
//!         .map(|(item, left)| (item, VersionedCell::new(left)))
//!         .into(),
//!     sold: VersionedCell::new(0),
//! };
//!
//! // One read after the other counts this apple twice.
//! let apples = *shop.stock["apples"].read();
//! shop.order("apples");
//! assert_eq!(apples + shop.stock["pears"].get() + shop.sold.get(), 1_002);
//!
//! // A snapshot counts it once, while other threads order.
//! std::thread::scope(|s| {
//!     s.spawn(|| (0..100).for_each(|_| shop.order("apples")));
//!     s.spawn(|| (0..100).for_each(|_| shop.order("pears")));
//!     for _ in 0..100 {
//!         assert_eq!(shop.report(), 1_001);
//!     }
//! });
//! assert_eq!((shop.report(), shop.sold.get()), (1_001, 201));
//! ```
//!
//! **The fault.** The data is complete now. The warehouse is not: a robot that fetches the items
//! moves in the real world, and a closure that runs twice would move it twice.
//!
//! # Step 6: a session
//! A robot must own each shelf that it works at, and it finds the next shelf only on the way. So it
//! cannot use [`lock_all`](crate::LockTable::lock_all), and two robots may wait for each other. A
//! [`Session`] owns any number of keys and acquires them one by one. If sessions deadlock, one of
//! them gets [`LockError::Deadlock`](crate::session::LockError::Deadlock), releases its keys and
//! starts again:
//!
//! ```
//! use std::sync::Barrier;
//! use std::sync::atomic::{AtomicU32, Ordering};
//! use latchwork::{LockTable, VersionedCell, atomically, session::LockError};
//!
//! struct Warehouse {
//!     shelves: LockTable<str>,
//!     fetched: VersionedCell<u32>,
//! }
//!
//! impl Warehouse {
//!     fn fetch(&self, robot: &str, route: [&str; 2], at_shelf: impl Fn()) {
//!         let mut session = self.shelves.session().named(robot);
//!         loop {
//!             let mut walk = || {
//!                 for shelf in route {
//!                     session.lock(shelf)?;
//!                     at_shelf();
//!                 }
//!                 Ok(())
//!             };
//!             match walk() {
//!                 Ok(()) => break,
//!                 // The report names each robot, and the shelves that it holds and waits for.
//!                 Err(LockError::Deadlock(report)) => println!("{report}"),
//!                 Err(other) => panic!("{other}"),
//!             }
//!             session.release_all(); // the other robot continues; then this one starts again
//!         }
//!         // All shelves of the route are locked: now the robot may move.
//!         atomically(|tx| tx.update(&self.fetched, |n| n + 2));
//!     }
//! }
//!
//! let warehouse = Warehouse { shelves: LockTable::new(), fetched: VersionedCell::new(0) };
//! // Each robot waits at its first shelf until the other one is at its first: a sure deadlock.
//! let (barrier, arrivals) = (Barrier::new(2), AtomicU32::new(0));
//! let meet = || {
//!     if arrivals.fetch_add(1, Ordering::Relaxed) < 2 {
//!         barrier.wait();
//!     }
//! };
//! std::thread::scope(|s| {
//!     s.spawn(|| warehouse.fetch("robot 1", ["north", "south"], meet));
//!     s.spawn(|| warehouse.fetch("robot 2", ["south", "north"], meet));
//! });
//! assert_eq!(warehouse.fetched.get(), 4); // both have finished
//! assert!(!warehouse.shelves.deadlocks().is_empty()); // and one deadlock was resolved
//! assert_eq!(warehouse.shelves.locked_count(), 0);
//! ```
//!
//! The session keeps its age while it starts again. A session that keeps its age becomes the
//! oldest one at some point, and the oldest one is not chosen as the victim: each robot finishes.
//!
//! # Where to continue
//! - [`how_to`](super::how_to): recipes for common tasks, and migration from other crates.
//! - [`choosing`](super::choosing): which primitive fits, and when another crate is better.
//! - [`limitations`](super::limitations): read it before you rely on this crate in production.
//!
//! [`LockTable`]: crate::LockTable
//! [`Session`]: crate::Session
//! [`Tx::retry`]: crate::Tx::retry
//! [`VersionedCell`]: crate::VersionedCell
//! [`atomically`]: crate::atomically
//! [`snapshot`]: crate::snapshot()
