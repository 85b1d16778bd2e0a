//! Which waiter waits for which holder, right now: reports of a running program, and the example
//! `latchtop`, which draws them.
//!
//! # In the program
//! [`LockTable::inspect`] lists the held keys with their waiters, [`LockTable::stats`] and
//! [`stats`] count, and [`LockTable::deadlocks`] returns the most recent deadlocks:
//!
//! ```
//! let accounts: latchwork::LockTable<u64> = latchwork::LockTable::new();
//! let guard = accounts.lock(&17);
//! for lock in accounts.inspect() {
//!     println!("{lock}"); // a line for the key, and one for each waiter
//! }
//! # drop(guard);
//! ```
//!
//! # From another process
//! With the feature `console`, a program serves the same state to other processes, on a Unix socket
//! or on a port of the loopback address:
//!
//! ```
//! # #[cfg(all(feature = "console", unix))]
//! # fn main() -> std::io::Result<()> {
//! use std::sync::Arc;
//! use latchwork::{LockTable, VersionedMap, console::Console};
//!
//! let accounts: Arc<LockTable<u64>> = Arc::default();
//! let stock: Arc<VersionedMap<String, u32>> = Arc::default();
//! let console = Console::new().table("accounts", accounts.clone());
//! let console = console.map_with_labels("stock", stock.clone(), String::clone);
//! # let path = std::env::temp_dir().join(format!("bank-{}.sock", std::process::id()));
//! # /*
//! let path = "/run/bank/latchwork.sock";
//! # */
//! let server = console.serve_unix(&path)?; // serves until it is dropped
//! # drop(server);
//! # Ok(())
//! # }
//! # #[cfg(not(all(feature = "console", unix)))]
//! # fn main() {}
//! ```
//!
//! ```sh
//! curl --unix-socket /run/bank/latchwork.sock http://localhost/json
//! cargo run --release -p latchwork-top --example latchtop -- --connect /run/bank/latchwork.sock
//! ```
//!
//! Prometheus reads `/metrics` of a loopback port. The feature adds no instruction to an
//! uncontended lock or unlock. A wait, and a release of a key with waiters, also lock a mutex of
//! the table to count.
//!
//! The locks of the keys of a map are reported as a table of its name, with the size of the map. A
//! direct write that waits for a lock is a waiter of the key. A write that waits for a transaction
//! is not.
//!
//! | event | behaviour of a server |
//! |---|---|
//! | a client requests an unknown path, or sends no request | status 400, 404, 405 or 431 |
//! | a client is slow | the connection is closed after one second |
//! | more than 8 clients at once | status 503 at once |
//! | a running server has the path or the port | an error, and the other server continues |
//! | the socket of a process that has ended has the path | it is replaced |
//! | another file has the path | an error, and the file stays |
//! | the process forks | the parent serves; the child may drop its copy |
//! | another user connects | the system refuses: a Unix socket has mode 0600 |
//! | a site requests a loopback port through a browser | status 403 |
//!
//! Labels of keys and names of sessions may contain data of users. Reports omit them until the
//! program calls `show_names`. A loopback port has no access control: every process of the machine
//! can read it.
//!
//! # latchtop
//! `latchtop` is an example of this repository, not a part of the crate. Without `--connect`, it
//! starts a load of its own: transfers that lock two of 24 accounts in no agreed order, and orders
//! that lock keys of a map. The key `0` shows all panels, and `1` to `5` show one of them. The
//! arrows select the next panel, and scroll. While the process does not answer, the last report
//! stays, and the heading has the reason.
//!
#![doc = include_str!("screens/all.svg")]
//!
//! - *Which keys have waiters now*: the time of a hold begins with its first waiter, because a lock
//!   without waiters reads no clock.
//! - *Which keys were waited for most*: since the table was made. *Waited* is the sum over all
//!   waiters. *Held* is the time for which the key was held while a waiter was queued.
//! - *Which sessions wait, and for which holders*: a session in a cycle appears in both columns,
//!   until the cycle is resolved. Guards, and sessions that have not waited for long enough, are
//!   unknown holders.
//! - *Deadlocks*: each party waits for the key of the arrow, which the next party holds.
//! - *How transactions end*: for each label, and the lost attempts by their reason.
//!
#![doc = include_str!("screens/sessions.svg")]
//!
//! # JSON
//! A report is one object. Times are in nanoseconds. The field `format` is 1, and grows if a field
//! is removed or changes its meaning; further fields may be added.
//!
//! | field | content |
//! |---|---|
//! | `process`, `names` | the number of the process, and whether names are included |
//! | `tables[]` | `name`, and the fields of [`TableStats`] |
//! | `tables[].map` | null, or for a map the fields of [`MapStats`] |
//! | `tables[].locked`, `.contended` | the number of keys that are held, and that have waiters |
//! | `tables[].keys[]` | the 64 keys with the most waiters, as in [`LockInfo`] |
//! | `tables[].keys[].held_ns` | the time of the hold since its first waiter queued |
//! | `tables[].keys[].waiters[]` | the first 64 of `waiting` waiters, as in [`WaiterInfo`] |
//! | `tables[].busiest[]` | the keys with the most waits, at most 64 |
//! | `tables[].busiest[].waits` | the waits that have ended, with or without the key |
//! | `tables[].busiest[].inherited_waits` | the part of them that may belong to other keys |
//! | `tables[].busiest[].waited_ns`, `.held_ns` | the times of all waits, and of all holds |
//! | `tables[].recent_deadlocks[]` | `parties`, and the place of the `victim` among them |
//! | `transactions.aborts` | the lost attempts of all transactions, as in [`AbortReasons`] |
//! | `transactions.labels[]` | the fields of [`LabelStats`] |
//! | `memory` | `garbage`, `garbage_bytes`, `oldest_pin_ns`, as in [`Stats`] |
//!
//! A table stores nothing for free keys. So `busiest` counts for 64 keys. A key without an entry
//! replaces the key with the fewest waits, and inherits its number as the error bound. A key with
//! more than one in 64 of all waits always has an entry.
//!
//! # Prometheus
//! All names begin with `latchwork_`, and times are in seconds.
//!
//! | samples | labels |
//! |---|---|
//! | `table_waits_total`, `table_deadlocks_total`, `table_waiting`, … | `table` |
//! | `map_keys`, `map_entries`, `map_removed`, `map_index_bytes` | `table` |
//! | `key_waiting`, `key_held_seconds`, with names only | `table`, `key`, `id` |
//! | `aborted_attempts_total` | `reason` |
//! | `label_transactions_total` | `label`, `outcome` |
//! | `label_aborted_attempts_total` | `label`, `reason` |
//! | `garbage_values`, `garbage_bytes`, `oldest_pin_seconds` | none |
//!
//! [`AbortReasons`]: crate::txn::AbortReasons
//! [`LabelStats`]: crate::txn::LabelStats
//! [`LockInfo`]: crate::table::LockInfo
//! [`LockTable::deadlocks`]: crate::LockTable::deadlocks
//! [`LockTable::inspect`]: crate::LockTable::inspect
//! [`LockTable::stats`]: crate::LockTable::stats
//! [`MapStats`]: crate::map::MapStats
//! [`Stats`]: crate::Stats
//! [`TableStats`]: crate::table::TableStats
//! [`WaiterInfo`]: crate::table::WaiterInfo
//! [`stats`]: crate::stats()
