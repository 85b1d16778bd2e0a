//! Row locks that become known one by one, with deadlock retry.
//!
//! The program reads a row, finds the next row in it, and so on. It must hold all of them until it
//! is done, and it cannot name them in advance. Databases solve this with strict two-phase locking
//! and deadlock detection; a [`Session`] is the same for locks in memory.
//!
//! # The retry loop
//! Write the loop once. Each attempt acquires locks, reads and writes. After an error it releases
//! everything and starts again *with the same session*, so that the session keeps its age. The
//! newest session of a deadlock is the victim, unless priorities differ. So an old session
//! eventually finishes.
//!
//! ```
//! use std::collections::BTreeMap;
//! use std::sync::{Barrier, Mutex};
//! use std::sync::atomic::{AtomicU32, Ordering};
//! use latchwork::{LockTable, Session, session::LockError, table::IntegerHasher};
//!
//! /// A row names the next row, and has a value.
//! struct Row { next: Option<u64>, value: u64 }
//!
//! struct Rows {
//!     locks: LockTable<u64, IntegerHasher>,
//!     /// Stands for the storage: each access is short.
//!     data: Mutex<BTreeMap<u64, Row>>,
//! }
//!
//! impl Rows {
//!     /// Runs `work` in a session, again after each deadlock.
//!     fn transact<R>(
//!         &self,
//!         name: &str,
//!         mut work: impl FnMut(&mut Session<'_, u64, IntegerHasher>) -> Result<R, LockError>,
//!     ) -> Result<R, LockError> {
//!         let mut session = self.locks.session().named(name);
//!         loop {
//!             let result = work(&mut session);
//!             session.release_all(); // before the next attempt, or the deadlock remains
//!             match result {
//!                 Err(LockError::Deadlock(_) | LockError::Died) => continue,
//!                 other => return other,
//!             }
//!         }
//!     }
//!
//!     /// Adds one to each row of the chain that starts at `row`.
//!     fn add_along(&self, name: &str, row: u64, locked: impl Fn()) -> Result<u64, LockError> {
//!         self.transact(name, |session| {
//!             let (mut rows, mut next) = (Vec::new(), Some(row));
//!             while let Some(row) = next {
//!                 session.lock(&row)?; // a row that the session holds is locked once
//!                 locked();
//!                 next = self.data.lock().unwrap()[&row].next.filter(|row| !rows.contains(row));
//!                 rows.push(row);
//!             }
//!             // All locks are held. Write only now: there is nothing to undo after a deadlock.
//!             let mut data = self.data.lock().unwrap();
//!             for row in &rows {
//!                 data.get_mut(row).unwrap().value += 1;
//!             }
//!             Ok(rows.len() as u64)
//!         })
//!     }
//! }
//!
//! // Two rows that name each other: two threads lock them in opposite orders.
//! let locks = LockTable::<u64>::builder()
//!     .hasher(IntegerHasher::new()) // the label can compute the key from its identity
//!     .key_labels(|id| format!("row {}", IntegerHasher::key_of(id))) // for the reports
//!     .build();
//! let rows = Rows {
//!     locks,
//!     data: Mutex::new(BTreeMap::from([
//!         (1, Row { next: Some(2), value: 0 }),
//!         (2, Row { next: Some(1), value: 0 }),
//!     ])),
//! };
//! let (barrier, arrivals) = (Barrier::new(2), AtomicU32::new(0));
//! let meet = || {
//!     if arrivals.fetch_add(1, Ordering::Relaxed) < 2 {
//!         barrier.wait(); // each thread holds its first row
//!     }
//! };
//! std::thread::scope(|s| {
//!     let one = s.spawn(|| rows.add_along("one", 1, meet));
//!     let two = s.spawn(|| rows.add_along("two", 2, meet));
//!     assert_eq!((one.join().unwrap().unwrap(), two.join().unwrap().unwrap()), (2, 2));
//! });
//! assert!(rows.data.lock().unwrap().values().all(|row| row.value == 2));
//! let report = &rows.locks.deadlocks()[0];
//! assert!(report.to_string().contains("row 1 exclusively"));
//! ```
//!
//! Do not repeat only the call that returned `Deadlock`. The session still holds its keys, and the
//! other sessions of the cycle still wait for them. So the call returns `Deadlock` again at once,
//! and the loop spins. Release the keys first. Then the next lock waits until the other sessions
//! had their turn, and the loop needs no back-off of its own.
//!
//! # Undo
//! The attempt may have written before it got the error. There are three solutions:
//!
//! 1. Acquire all locks first and write at the end, as above.
//! 2. Buffer the writes in a local collection, and apply them at the end.
//! 3. Keep the old values, and restore them before `release_all`, the latest write first. A row may
//!    have been written twice, and its first old value must be restored last.
//!
//! The third one:
//!
//! ```
//! use std::collections::BTreeMap;
//! use std::sync::Mutex;
//! use latchwork::{LockTable, Session, session::{LockError, Policy}};
//!
//! type Data = Mutex<BTreeMap<u64, i64>>;
//!
//! /// Doubles the value of each row that `rows` lists, once for each time that it is listed.
//! fn double(session: &mut Session<'_, u64>, data: &Data, rows: &[u64]) -> Result<(), LockError> {
//!     let mut undo = Vec::new();
//!     let result = rows.iter().try_for_each(|row| {
//!         session.lock(row)?;
//!         let mut data = data.lock().unwrap();
//!         let value = data.get_mut(row).unwrap();
//!         undo.push((*row, *value));
//!         *value *= 2;
//!         Ok(())
//!     });
//!     if result.is_err() {
//!         data.lock().unwrap().extend(undo.into_iter().rev()); // the latest write first
//!     }
//!     session.release_all(); // only now: no other session has seen a value of the failed attempt
//!     result
//! }
//!
//! let (rows, data) = (LockTable::new(), Data::new(BTreeMap::from([(1, 10), (2, 20), (3, 30)])));
//! let mut session = rows.session().policy(Policy::NoWait);
//! let guard = rows.lock(&3);
//! assert!(double(&mut session, &data, &[1, 2, 1, 3]).is_err()); // row 1 was doubled twice
//! assert_eq!(*data.lock().unwrap(), BTreeMap::from([(1, 10), (2, 20), (3, 30)]));
//! drop(guard);
//! assert!(double(&mut session, &data, &[1, 2, 1, 3]).is_ok());
//! assert_eq!(*data.lock().unwrap(), BTreeMap::from([(1, 40), (2, 40), (3, 60)]));
//! ```
//!
//! If the rows are values in memory, a [transaction](crate::atomically) does all of this.
//!
//! # Read first, write later
//! A session that holds a row shared may lock it exclusively: it *upgrades* the lock and waits for
//! the other readers. Two sessions that upgrade one row wait for each other. One of them, the
//! newest if their priorities are equal, gets `Deadlock` as soon as the second one asks. Sessions
//! that lock the row exclusively from the start wait for each other without an error:
//!
//! ```
//! use latchwork::{LockTable, Mode, session::LockError};
//!
//! let rows: LockTable<u64> = LockTable::new();
//! let (mut one, mut two) = (rows.session(), rows.session());
//! one.lock_shared(&1)?;
//! two.lock_shared(&1)?;
//! std::thread::scope(|s| {
//!     let upgrade = s.spawn(|| {
//!         let result = one.lock(&1);
//!         one.release_all();
//!         result
//!     });
//!     assert!(matches!(two.lock(&1), Err(LockError::Deadlock(_)))); // it is the newest
//!     two.release_all(); // lets the other one continue
//!     assert!(upgrade.join().unwrap().is_ok());
//! });
//!
//! let mut session = rows.session();
//! session.lock_shared(&1)?;
//! session.lock(&1)?; // no other reader: the upgrade succeeds at once
//! assert_eq!(session.mode(&1), Some(Mode::Exclusive));
//! # Ok::<_, LockError>(())
//! ```
//!
//! # Nested work
//! A [savepoint](crate::Session::savepoint) releases the locks of a failed part and keeps the
//! others:
//!
//! ```
//! use latchwork::LockTable;
//!
//! let rows: LockTable<str> = LockTable::new();
//! let mut session = rows.session();
//! session.lock("order")?;
//! let savepoint = session.savepoint();
//! session.lock("item 1")?;
//! session.rollback_to(savepoint)?; // item 1 is sold out: release it
//! session.lock("item 2")?;
//! assert!(session.mode("order").is_some() && session.mode("item 1").is_none());
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! # The statements of SQL
//! | SQL | here |
//! |---|---|
//! | `SELECT … FOR UPDATE` | [`session.lock(&row)`](crate::Session::lock) |
//! | `SELECT … FOR SHARE` | [`session.lock_shared(&row)`](crate::Session::lock_shared) |
//! | `… NOWAIT` | [`Policy::NoWait`](crate::session::Policy::NoWait): `WouldBlock` |
//! | `SET lock_timeout` | [`Policy::Timeout`](crate::session::Policy::Timeout): `TimedOut` |
//! | `… SKIP LOCKED` | [`table.try_lock(&row)`](crate::LockTable::try_lock), and the next row |
//! | `deadlock_timeout` | [`session.detect_after(time)`](crate::Session::detect_after) |
//! | `SAVEPOINT`, `ROLLBACK TO` | [`savepoint`](crate::Session::savepoint), `rollback_to` |
//! | `COMMIT`, `ROLLBACK` | [`release_all`](crate::Session::release_all), after writes or undo |
//!
//! A worker that skips locked rows needs no session:
//!
//! ```
//! use latchwork::LockTable;
//!
//! let jobs: LockTable<u64> = LockTable::new();
//! let busy = jobs.lock(&1);
//! let next = (1..=3).find_map(|job| Some((job, jobs.try_lock(&job)?)));
//! assert_eq!(next.map(|(job, _guard)| job), Some(2));
//! # drop(busy);
//! ```
//!
//! # Diagnosis
//! The error contains a report, and [`LockTable::deadlocks`](crate::LockTable::deadlocks) returns
//! the last 16 of them. A report names each session, the key that it holds and the key that it
//! waits for. Name the sessions with [`named`](crate::Session::named) and the keys with
//! [`key_labels`](crate::table::LockTableBuilder::key_labels). `parties` and `victim` are methods;
//! the name, the keys and their labels are fields:
//!
//! ```
//! use latchwork::{LockTable, Mode, session::LockError, table::IntegerHasher};
//!
//! let rows = LockTable::<u64>::builder()
//!     .hasher(IntegerHasher::new())
//!     .key_labels(|id| format!("row {}", IntegerHasher::key_of(id)))
//!     .build();
//! let (mut audit, mut import) = (rows.session().named("audit"), rows.session().named("import"));
//! audit.lock_shared(&7)?;
//! import.lock_shared(&7)?;
//! std::thread::scope(|s| {
//!     s.spawn(|| {
//!         audit.lock(&7).unwrap(); // upgrades, and waits for the other reader
//!         audit.release_all();
//!     });
//!     let Err(LockError::Deadlock(report)) = import.lock(&7) else { unreachable!() };
//!     import.release_all();
//!     let victim = report.victim();
//!     assert_eq!(victim.name.as_deref(), Some("import"));
//!     assert_eq!(victim.wants.label.as_deref(), Some("row 7"));
//!     assert_eq!((victim.holds.mode, victim.wants.mode), (Mode::Shared, Mode::Exclusive));
//!     assert_eq!(report.parties().len(), 2);
//!     let text = report.to_string();
//!     assert!(text.ends_with("import (#2) was chosen as the victim: release its keys and retry"));
//! });
//! assert_eq!(rows.deadlocks()[0].victim().name.as_deref(), Some("import"));
//! # Ok::<_, LockError>(())
//! ```
//!
//! The text of the report is:
//!
//! ```text
//! deadlock of 2 sessions:
//!   audit (#1) waits for row 7 exclusively, which import (#2) holds shared
//!   import (#2) waits for row 7 exclusively, which audit (#1) holds shared
//!   import (#2) was chosen as the victim: release its keys and retry
//! ```
//!
//! The feature `lock-places` adds the place in the source.
//! [`LockTable::inspect`](crate::LockTable::inspect) shows all held keys and their waiters.
//!
//! # Tasks
//! Use [`lock_async`](crate::Session::lock_async). A session waits for one lock at a time, so its
//! future borrows it mutably. A future has no clock: it checks for a deadlock as soon as it waits,
//! and a [`Policy::Timeout`](crate::session::Policy::Timeout) needs a timer of your runtime.
//!
//! [`Session`]: crate::Session
