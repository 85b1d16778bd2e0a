//! How a resource refuses a late writer.
//!
//! A holder can be paused for longer than its lease, between a check of `is_held` and its effect. A
//! lock service can report that a caller may try. Only the resource can decide that a caller was
//! last, by a comparison of fences in one step with the write.
//!
//! The rule is the same for each resource. It stores the fence of the last write: the token and the
//! nonce. It accepts a write if its token is greater than the stored one, or if both token and
//! nonce are equal. The nonce distinguishes two holders that received one token because the engine
//! lost data.
//!
//! | resource | what makes comparison and write one step |
//! |---|---|
//! | memory | [`FencedCell`](latchwork::table::FencedCell) |
//! | SQL | one `UPDATE` with a condition |
//! | Redis | a script |
//! | files | a name for each fence, and readers that choose the greatest |
//! | object stores | a conditional write with an entity tag |
//!
//! # SQL
//! The nonce has 128 bits. Store it as text, as a blob or as two numbers.
//!
//! ```
//! # #[cfg(feature = "sqlite")] {
//! use latchwork_lease::Leases;
//! use rusqlite::{Connection, params};
//! use std::time::Duration;
//!
//! /// Returns false if the fence is late.
//! fn write(store: &Connection, fence: latchwork::table::Fence, body: &str) -> bool {
//!     let (token, nonce) = (fence.token.get() as i64, format!("{:032x}", fence.nonce));
//!     let changed = store.execute(
//!         "UPDATE report SET body = ?1, token = ?2, nonce = ?3
//!          WHERE token < ?2 OR (token = ?2 AND nonce = ?3)",
//!         params![body, token, nonce],
//!     );
//!     changed.expect("the table exists") == 1
//! }
//!
//! let store = Connection::open_in_memory().expect("in memory");
//! store
//!     .execute_batch(
//!         "CREATE TABLE report (body TEXT, token INTEGER, nonce TEXT);
//!          INSERT INTO report VALUES ('', 0, '')",
//!     )
//!     .expect("in memory");
//! let leases = Leases::connect("memory:").expect("in memory");
//! let first = leases.acquire("report", Duration::from_secs(10)).expect("it is free");
//! let late = first.fence();
//! assert!(write(&store, late, "first"));
//! assert!(write(&store, late, "the same holder again"));
//! drop(first);
//! let second = leases.acquire("report", Duration::from_secs(10)).expect("it is released soon");
//! assert!(write(&store, second.fence(), "second"));
//! assert!(!write(&store, late, "a late write"));
//! # }
//! ```
//!
//! # Redis
//! A script runs in one step. `token` has a fixed width, because Lua's numbers have 53 bits.
//!
//! ```lua
//! local last = redis.call('HMGET', KEYS[1], 'token', 'nonce')
//! if last[1] and (last[1] > ARGV[1] or (last[1] == ARGV[1] and last[2] ~= ARGV[2])) then
//!     return 0
//! end
//! redis.call('HSET', KEYS[1], 'token', ARGV[1], 'nonce', ARGV[2], 'body', ARGV[3])
//! return 1
//! ```
//!
//! # Files
//! Each holder writes a file of its own, whose name contains the fence in a fixed width. A reader
//! selects the greatest name. So a late write has a smaller name, and changes nothing that is read.
//!
//! ```
//! use latchwork::table::{Fence, FencingToken};
//! use std::path::Path;
//! use std::{fs, io};
//!
//! fn write(folder: &Path, fence: Fence, body: &str) -> io::Result<()> {
//!     let name = format!("report.{:020}-{:032x}", fence.token.get(), fence.nonce);
//!     let part = folder.join(format!("part.{name}"));
//!     fs::write(&part, body)?;
//!     // A reader finds the whole file or none.
//!     fs::rename(part, folder.join(name))
//! }
//!
//! fn read(folder: &Path) -> io::Result<Option<String>> {
//!     let mut names = Vec::new();
//!     for entry in fs::read_dir(folder)? {
//!         names.push(entry?.file_name());
//!     }
//!     names.retain(|name| name.to_string_lossy().starts_with("report."));
//!     names.iter().max().map(|name| fs::read_to_string(folder.join(name))).transpose()
//! }
//!
//! # fn main() -> io::Result<()> {
//! let folder = tempfile::tempdir()?;
//! let folder = folder.path();
//! write(folder, Fence::new(FencingToken::new(9), 1), "first")?;
//! write(folder, Fence::new(FencingToken::new(10), 2), "second")?;
//! write(folder, Fence::new(FencingToken::new(9), 1), "a late write")?;
//! assert_eq!(read(folder)?.as_deref(), Some("second"));
//! # Ok(())
//! # }
//! ```
//!
//! A holder may remove the smaller names once it has written. A rename onto one name for all
//! holders needs a comparison under a lock of the file system, such as `flock`.
//!
//! # Object stores
//! Read the object with its entity tag, compare the fence in its metadata, and write with
//! `If-Match`. If the tag has changed since, read again. The example has such a store in memory.
//!
//! ```
//! use latchwork::table::{Fence, FencingToken};
//! use std::cell::RefCell;
//!
//! #[derive(Clone, Default)]
//! struct Object {
//!     tag: u64,
//!     fence: Option<Fence>,
//!     body: String,
//! }
//!
//! /// The two requests of an object store that matter here.
//! #[derive(Default)]
//! struct Store(RefCell<Object>);
//!
//! impl Store {
//!     fn get(&self) -> Object {
//!         self.0.borrow().clone()
//!     }
//!
//!     /// Returns false if the tag of the object is not `if_match`.
//!     fn put(&self, if_match: u64, fence: Fence, body: &str) -> bool {
//!         let mut object = self.0.borrow_mut();
//!         if object.tag != if_match {
//!             return false;
//!         }
//!         *object = Object { tag: if_match + 1, fence: Some(fence), body: body.to_owned() };
//!         true
//!     }
//! }
//!
//! /// Returns false if the fence is late.
//! fn write(store: &Store, fence: Fence, body: &str) -> bool {
//!     loop {
//!         let last = store.get();
//!         if last.fence.is_some_and(|last| last != fence && last.token >= fence.token) {
//!             return false;
//!         }
//!         if store.put(last.tag, fence, body) {
//!             return true;
//!         }
//!     }
//! }
//!
//! let store = Store::default();
//! let (first, second) = (FencingToken::new(1), FencingToken::new(2));
//! assert!(write(&store, Fence::new(first, 1), "first"));
//! let seen = store.get().tag;
//! assert!(write(&store, Fence::new(second, 2), "second"));
//! assert!(!write(&store, Fence::new(first, 1), "a late write"));
//! assert!(!write(&store, Fence::new(second, 3), "another holder of the same token"));
//! assert!(!store.put(seen, Fence::new(first, 1), "a write between the two requests"));
//! assert_eq!(store.get().body, "second");
//! ```
//!
//! # Data that the engine has lost
//! After a failover or a restored backup, an engine may issue tokens that the resource has refused
//! for long. Pass the greatest token that the resource has seen to
//! [`Leases::raise_floor`](crate::Leases::raise_floor).
