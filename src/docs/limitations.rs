//! The limits, and the traps. Read this chapter before you use the crate in production.
//!
//! # What blocks an executor
//! A task that blocks its thread delays all tasks of this thread. On a current-thread runtime, it
//! can hang forever: the task that holds the lock cannot run to release it. Use the `async` forms
//! in tasks:
//!
//! | call | blocks the thread | in a task |
//! |---|---|---|
//! | [`lock`], [`lock_shared`], [`lock_all`], owned forms | until acquired | [`lock_async`] |
//! | `try_lock_for`, `try_lock_shared_for`, `try_lock_all_for` | for the timeout | [`lock_async`] |
//! | `try_lock_until`, `try_lock_shared_until` | until the deadline | [`lock_async`] |
//! | `try_lock`, `try_lock_shared`, `try_lock_all` | never | the same |
//! | `bump` of a guard | until acquired again | drop it, and [`lock_async`] |
//! | [`Session::lock`], `lock_shared` | until acquired, or an error | [`Session::lock_async`] |
//! | [`SingleFlight::run`], `try_run` | while a caller computes | [`SingleFlight::run_async`] |
//! | [`VersionedCell::read`], `read_in`, `read_owned`, `version` | never | the same |
//! | [`snapshot`] | never | the same |
//! | [`VersionedCell::set`], `swap`, `update`, `compare_and_set` | see below | [`set_async`] |
//! | `update_and_get`, `fetch_update`, `try_update` | see below | [`update_async`] |
//! | [`atomically`], [`Transaction::run`], `try_run` | in `retry`, and see below | [`run_async`] |
//! | [`update_all`], `try_update_all` | see below | [`run_async`] |
//! | [`wait_changed`], `wait_changed_for` | until a write, or for the timeout | [`changed`] |
//! | `wait_changed_value`, `wait_changed_value_for` | as these | [`changed_value`] |
//! | [`VersionedMap`] `get`, `get_in`, `get_owned`, `version` | never | the same |
//! | `insert`, `remove`, `compare_and_set`, `upsert` of a map | see below | a transaction |
//! | `insert_if_absent`, `remove_if_version` of a map | see below | a transaction |
//! | `retain`, `clear` of a map | see below, for each key | [`run_async`] |
//! | `lock`, `lock_key`, `lock_all`, `try_lock_for` of a map | as those above | its `lock_async` |
//! | `commit` of a batch | as [`atomically`] | [`run_async`] |
//! | `reserve`, `try_reserve`, `shrink_to_fit` of a map | while entries are copied | no form |
//! | [`flush`](crate::flush) | runs destructors of values | the same, or a blocking thread |
//! | `lock`, `read`, `write` of [`ordered`](crate::ordered) locks | until acquired | no form |
//! | `lock_all`, `read_all`, `write_all` of these | until acquired | no form |
//! | `exclusive`, `shared`, `version` of a [latch](crate::latch) | until acquired | no form |
//! | `optimistic_read`, `traverse`, `begin`, `step`, `ahead` | as these | no form |
//! | the drop of a guard, `unlock`, `release_all` | never; may call wakers | the same |
//!
//! *See below*: a write, or a transaction that writes, waits while an older transaction that has
//! escalated owns the cell. The wait ends with the attempt of the owner, so it is as long as one
//! run of the owner's closure. A write of a map also waits while the key is locked. Keep closures
//! short, and do not sleep in them. The futures of the last column wait for the owner without
//! blocking the thread. The limits of `try_update` bound its wait.
//!
//! `inspect`, `in_flight` and the statistics block only briefly, for a mutex that no user code
//! holds. So does the first use of a cell or a map by a thread, which registers the thread. So do
//! the reports of a console; its servers have threads of their own.
//!
//! Two tasks on one thread, with the `async` form:
//!
//! ```
//! use latchwork::LockTable;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let table: std::sync::Arc<LockTable<str>> = Default::default();
//! let runtime = tokio::runtime::Builder::new_current_thread().build()?;
//! runtime.block_on(async {
//!     let guard = table.lock_async("file").await;
//!     let other = table.clone();
//!     let waiter = tokio::spawn(async move {
//!         // `other.lock("file")` would block the only thread, and `guard` would never be dropped.
//!         drop(other.lock_async("file").await);
//!     });
//!     tokio::task::yield_now().await; // the other task queues
//!     drop(guard);
//!     waiter.await
//! })?;
//! assert_eq!(table.locked_count(), 0);
//! # Ok(())
//! # }
//! ```
//!
//! Five more rules for tasks:
//!
//! 1. Guards of a table may be held across an `.await`. Values that pin the thread may not:
//!    [`Versioned`](crate::cell::Versioned), [`ReadPin`](crate::cell::ReadPin) and the view of a
//!    snapshot are not `Send`. Use [`read_owned`](crate::VersionedCell::read_owned).
//! 2. A future that is ready at once does not yield to the executor. A loop over free keys starves
//!    other tasks, unless it yields itself: see [`tasks`](super::tasks).
//! 3. A future that has queued must be polled or dropped. One that is kept and not polled delays
//!    the waiters behind it.
//! 4. Futures have no timer. Wrap them into the timeout of your runtime; all of them are
//!    cancel-safe.
//! 5. The closure of [`run_async`] runs inside `poll`, from its start to its end. It cannot
//!    contain an `.await`.
//!
//! # Keys are hashes
//! A key of a [`LockTable`](crate::LockTable) is its 64-bit hash. Two keys with the same hash share
//! one lock. Exclusion still holds, and the two keys merely exclude each other. A thread that holds
//! one of them and locks the other waits for itself; a [`Session`](crate::Session) and
//! [`lock_all`] do not, since they lock a hash once.
//!
//! - With *n* keys in use at once, the odds of one collision are about n²/2⁶⁵: one in 37 million
//!   for a million keys.
//! - The default hasher has a random seed, so an attacker cannot prepare colliding keys. An
//!   attacker that chooses keys *and* measures waits may find some. Then use
//!   [`std::hash::RandomState`], which is slower.
//! - For integer keys, [`IntegerHasher`](crate::table::IntegerHasher) makes identity exact.
//! - Reports show identities, because no key is stored. Use
//!   [`key_labels`](crate::table::LockTableBuilder::key_labels) to name them.
//!
//! # Locks are not re-entrant
//! A thread that locks a key which it holds waits for itself, as with a mutex. This includes a
//! shared lock after a shared one if a writer has queued in between. A session is re-entrant.
//!
//! # No poisoning
//! A panic under a guard releases the lock, and the next holder finds the data as the panic left
//! it. If the data may be inconsistent, restore it in a destructor, or hold it in a cell: a panic
//! in the closure of a transaction or an update changes nothing.
//!
//! ```
//! use std::panic::{AssertUnwindSafe, catch_unwind};
//! use latchwork::{LockTable, VersionedCell, atomically};
//!
//! let (table, cell) = (LockTable::<u64>::new(), VersionedCell::new(1));
//! let result = catch_unwind(AssertUnwindSafe(|| {
//!     let _guard = table.lock(&1);
//!     atomically(|tx| {
//!         tx.set(&cell, 2)?;
//!         assert_ne!(*tx.read(&cell)?, 2, "the closure panics");
//!         Ok(())
//!     })
//! }));
//! assert!(result.is_err());
//! assert!(table.try_lock(&1).is_some()); // released
//! assert_eq!(cell.get(), 1); // unchanged
//! ```
//!
//! # What happens when a process dies
//! All state of the crate is in the memory of one process, and ends with it. No lock, waiter or
//! version survives, and no other process detects it. A process that starts again begins with empty
//! tables and maps. The crate writes no file, except the socket of a console. A server replaces the
//! socket of a process that has died.
//!
//! | event | what happens |
//! |---|---|
//! | a thread panics | its guards are dropped; see [No poisoning](#no-poisoning) |
//! | a thread ends | its guards are dropped; see [Thread exit](#thread-exit) |
//! | a thread stops | its keys stay locked; other keys and all reads are free |
//! | a future is dropped | it leaves the queue |
//! | the process forks | see [Fork](#fork) |
//! | the process dies | everything ends with it |
//!
//! If other processes must continue the work, use a lease of the crate `latchwork-lease`. It ends
//! after its length, and the next holder has a greater fencing token. The resource refuses late
//! writes by that token: see [`FencedCell`](crate::table::FencedCell) for the same inside one
//! process.
//!
//! # A table protects no data
//! The compiler does not connect a key with the data that it protects. A function that forgets to
//! lock compiles. Wrap the table and the data into one type with private fields.
//!
//! # A forgotten guard keeps its lock
//! [`mem::forget`](core::mem::forget) of a guard keeps the key locked for as long as the table
//! lives, and nothing worse happens. A forgotten snapshot or pin delays the drop of all values that
//! are replaced afterwards.
//!
//! # Plain guards are invisible to detection
//! A [`Session`](crate::Session) is detected in a cycle with other sessions of the *same table*,
//! and with calls of [`lock_all`] that wait. Plain guards, complete sets of [`lock_all`], latches,
//! mutexes, channels and joins have no owner that the table could observe. A cycle through one of
//! them is not detected, and a timeout is the only remedy:
//! [`Policy::Timeout`](crate::session::Policy::Timeout).
//!
//! # Writers allocate
//! Each write of a cell allocates a node, replaces the whole value, and drops the previous one
//! later. An update of a large collection copies the collection. Use a persistent data structure,
//! split the value into several cells and change them in one transaction, or use a mutex.
//!
//! # Values are dropped later, and on any thread
//! A replaced value lives until no pin can see it, and any thread that writes cells may drop it.
//!
//! - Values need `T: Send + Sync + 'static`.
//! - A destructor must not acquire a lock that the thread holds while it writes a cell.
//! - A value that must be released promptly, such as a socket or a file, does not belong in a cell
//!   without [`flush`](crate::flush).
//! - The values of a thread that stops writing, or ends, wait for other threads, which drop them
//!   after they have written for some 10 milliseconds, and at least three values, or when one calls
//!   `flush`. After a burst, up to 32 more writes pass first. If no thread writes, the values stay.
//! - A write inside a destructor, or during a panic, drops no value that has a destructor. Later
//!   writes drop it, or other threads do. If a destructor writes without end and no other thread
//!   writes, its values accumulate.
//! - A cell that is dropped inside the destructor of a value is dropped after that destructor. A
//!   destructor that drops a cell of its own, and relies on the end of its value, needs a `Box`.
//!
//! # A long read delays all drops
//! A [`Versioned`](crate::cell::Versioned), a [`ReadPin`](crate::cell::ReadPin) and the closure of
//! a snapshot pin their thread. As long as the pin lives, no value that is replaced on *any* thread
//! is dropped, and memory grows. Hold pins briefly, and never while the thread waits.
//! [`stats`](crate::stats()) reports the garbage and the age of the oldest pin:
//!
//! ```
//! use latchwork::VersionedCell;
//!
//! let cell = VersionedCell::new(0);
//! let kept = cell.read_owned(); // does not pin
//! let pinned = cell.read(); // pins
//! (1..=100).for_each(|n| drop(cell.set(n)));
//! latchwork::flush();
//! assert!(latchwork::stats().garbage >= 100);
//! drop(pinned);
//! latchwork::flush();
//! assert!(latchwork::stats().oldest_pin.is_none());
//! assert_eq!(*kept, 0);
//! ```
//!
//! # The closure of a transaction
//! - *It runs again.* Side effects happen once for each attempt. Return a value from the closure,
//!   and act on it after the commit.
//! - *It must use `tx`.* A direct read is not part of the transaction. A direct write, or a wait
//!   for a change, panics if this transaction owns the cell. In debug builds, each direct access of
//!   a cell that the attempt has read or written panics. In release builds, a direct write of
//!   such a cell aborts the attempt.
//! - *A nested [`atomically`] is independent.* It commits even if the outer transaction aborts.
//! - *It must not wait for another thread that uses its cells.* Threads that a closure starts and
//!   joins, or a parallel iterator, can make it wait forever. After escalation, the transaction
//!   owns the cells that these threads need.
//! - *An ignored [`Abort`](crate::Abort) does not help.* The closure continues, and nothing
//!   commits.
//! - *Its cells must live outside.* The compiler rejects a cell that is created in the closure.
//! - *It is not asynchronous.*
//!
//! # Contention
//! An optimistic write that conflicts has done its work for nothing. If all threads change one or
//! two cells, a mutex is faster; [`performance`](super::performance#where-it-is-slower) has the
//! numbers. Escalation bounds the number of aborts, and not the time.
//!
//! # Versions
//! A version counts the writes of one cell. Versions of two cells are unrelated, and a comparison
//! of them compiles. A new cell starts at version 0, including after a restart of the program;
//! [`with_version`](crate::VersionedCell::with_version) continues an earlier count.
//!
//! # Bounds
//! | number | bound | beyond it |
//! |---|---|---|
//! | writes of one cell | 2⁶³ after the greatest initial version | versions repeat |
//! | snapshots of a process | 2⁶¹ | a panic |
//! | owned references to one value | 2³¹ | the process aborts |
//! | shared holders of one latch | 2,047 | the next one waits |
//! | exclusive acquisitions of one latch | 2⁴⁸ | its versions repeat |
//!
//! # Clocks and deadlines
//! A timeout that overflows [`Instant`](std::time::Instant) waits indefinitely. A timeout of zero
//! tries once. A deadline bounds the wait, and not the time until the operating system runs the
//! thread again.
//!
//! # Thread exit
//! The state of a thread is released when the thread ends. A destructor of a thread-local may run
//! after that. Reads and writes of cells still work there, and are slower. Avoid transactions
//! there.
//!
//! # Fork
//! After `fork`, the child has one thread and a copy of all locks. A key that another thread held
//! stays locked in the child forever, and so does a cell that a transaction of another thread
//! owned. Call `exec` in the child, or fork before the program starts threads. See
//! [`fork`](super::fork).
//!
//! # Platforms
//! - 64-bit atomics and `std` are required. The crate does not compile without them.
//! - The tests run on x86-64 Linux. The models cover the memory model of C++20, so weaker machines
//!   are covered by reasoning and not by execution.
//! - The minimum supported Rust version is 1.85.
//!
//! # Observation is weakly consistent
//! [`locked_count`](crate::LockTable::locked_count), [`inspect`](crate::LockTable::inspect),
//! [`mode`](crate::LockTable::mode) and the statistics read one slot after another, while threads
//! lock and unlock. Use them for diagnosis, and not for decisions.
//!
//! # Wakers
//! A guard that is dropped calls the waker of the next task. A waker that panics loses no key: the
//! panic leaves the call that released the key, after the hand-off. If two wakers of one release
//! panic, the process aborts.
//!
//! [`Session::lock`]: crate::Session::lock
//! [`Session::lock_async`]: crate::Session::lock_async
//! [`Transaction::run`]: crate::Transaction::run
//! [`SingleFlight::run`]: crate::table::SingleFlight::run
//! [`SingleFlight::run_async`]: crate::table::SingleFlight::run_async
//! [`VersionedCell::read`]: crate::VersionedCell::read
//! [`VersionedCell::set`]: crate::VersionedCell::set
//! [`VersionedMap`]: crate::VersionedMap
//! [`atomically`]: crate::atomically
//! [`update_all`]: crate::update_all()
//! [`changed`]: crate::VersionedCell::changed
//! [`changed_value`]: crate::VersionedCell::changed_value
//! [`lock`]: crate::LockTable::lock
//! [`lock_all`]: crate::LockTable::lock_all
//! [`lock_async`]: crate::LockTable::lock_async
//! [`lock_shared`]: crate::LockTable::lock_shared
//! [`run_async`]: crate::Transaction::run_async
//! [`set_async`]: crate::VersionedCell::set_async
//! [`snapshot`]: crate::snapshot()
//! [`update_async`]: crate::VersionedCell::update_async
//! [`wait_changed`]: crate::VersionedCell::wait_changed
