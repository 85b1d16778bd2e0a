//! A configuration with an entity tag, and conditional updates.
//!
//! A server holds a configuration. Many requests read it, and administrators replace it. An
//! administrator edits for minutes, so no lock can be held. Two of them must not overwrite each
//! other's changes: the *lost update*. HTTP solves this with entity tags (RFC 9110); the version of
//! a [`VersionedCell`] is such a tag.
//!
//! # The endpoints
//! ```
//! use latchwork::VersionedCell;
//!
//! #[derive(Clone, Debug, Default, PartialEq)]
//! struct Config { rate_limit: u32 }
//!
//! #[derive(Debug, PartialEq)]
//! enum Response {
//!     Ok { etag: String, body: Config }, // 200
//!     NotModified { etag: String }, // 304
//!     Updated { etag: String }, // 204
//!     PreconditionFailed { etag: String }, // 412
//! }
//!
//! /// GET with an optional `If-None-Match`.
//! fn get(config: &VersionedCell<Config>, if_none_match: Option<&str>) -> Response {
//!     let seen = config.read(); // the value and its version, of one instant
//!     let etag = seen.version().to_etag();
//!     if if_none_match.is_some_and(|field| seen.version().is_in_if_none_match(field)) {
//!         return Response::NotModified { etag };
//!     }
//!     Response::Ok { etag, body: seen.clone() }
//! }
//!
//! /// PUT with `If-Match`: writes only if the configuration is still the one that the client read.
//! fn put(config: &VersionedCell<Config>, if_match: &str, mut body: Config) -> Response {
//!     loop {
//!         let current = config.version();
//!         if !current.is_in_if_match(if_match) {
//!             return Response::PreconditionFailed { etag: current.to_etag() };
//!         }
//!         match config.compare_and_set(current, body) {
//!             Ok(version) => return Response::Updated { etag: version.to_etag() },
//!             Err(conflict) => body = conflict.value, // another request has written in between
//!         }
//!     }
//! }
//!
//! let etag = |number: u64| format!("\"{number}\"");
//! let config = VersionedCell::new(Config { rate_limit: 10 });
//! assert_eq!(get(&config, None), Response::Ok { etag: etag(0), body: Config { rate_limit: 10 } });
//! assert_eq!(get(&config, Some("\"0\"")), Response::NotModified { etag: etag(0) });
//! // A cache may send several tags, and weak ones.
//! assert_eq!(get(&config, Some("\"7\", W/\"0\"")), Response::NotModified { etag: etag(0) });
//!
//! // Two administrators have read the same version. The second update is refused.
//! let updated = put(&config, "\"0\"", Config { rate_limit: 20 });
//! assert_eq!(updated, Response::Updated { etag: etag(1) });
//! let refused = put(&config, "\"0\"", Config { rate_limit: 30 });
//! assert_eq!(refused, Response::PreconditionFailed { etag: etag(1) });
//! assert_eq!(config.read().rate_limit, 20);
//!
//! // A field may be a list of tags, or `*`, or hold tags of another server.
//! let updated = put(&config, "\"1\", \"v7\"", Config { rate_limit: 40 });
//! assert_eq!(updated, Response::Updated { etag: etag(2) });
//! let updated = put(&config, "*", Config { rate_limit: 50 });
//! assert_eq!(updated, Response::Updated { etag: etag(3) });
//! let refused = put(&config, "\"v7\"", Config::default());
//! assert_eq!(refused, Response::PreconditionFailed { etag: etag(3) });
//! ```
//!
//! `put` compares the field with the current version, and writes on the condition that this version
//! is still the current one. After a conflict it compares again. A response 304 must carry the tag
//! (RFC 9110, section 15.4.5). A response 412 may carry it, so that the client can read and retry.
//!
//! A read never waits, so a request can read the configuration as often as it needs. It should read
//! *once* and use this value to its end: two reads may return two configurations. A request that
//! needs the value across an `.await` uses [`read_owned`](crate::VersionedCell::read_owned).
//!
//! # A resource that may be absent
//! Store an [`Option`]: `None` is the absent resource. A deletion is a write, so the versions
//! continue, and no tag of a deleted value matches a later one. A `PUT` states one of two
//! conditions:
//!
//! - `If-None-Match: *` creates the resource, and fails if it exists.
//! - `If-Match` replaces it. An absent resource matches no field, not even `*`: check first that a
//!   value exists.
//!
//! A `PUT` without a condition would overwrite the changes of another client. The server responds
//! 428 (Precondition Required, RFC 6585):
//!
//! ```
//! use latchwork::VersionedCell;
//!
//! #[derive(Debug, PartialEq)]
//! enum Response {
//!     Created { etag: String }, // 201
//!     Updated { etag: String }, // 204
//!     PreconditionFailed, // 412
//!     PreconditionRequired, // 428
//! }
//!
//! /// `None` as the body deletes the page.
//! fn put(
//!     page: &VersionedCell<Option<String>>,
//!     if_match: Option<&str>,
//!     if_none_match: Option<&str>,
//!     mut body: Option<String>,
//! ) -> Response {
//!     if if_match.is_none() && if_none_match.is_none() {
//!         return Response::PreconditionRequired;
//!     }
//!     loop {
//!         let seen = page.read();
//!         let (version, exists) = (seen.version(), seen.is_some());
//!         drop(seen); // it would hold back the replaced value
//!         let is_in = |field: &str| version.is_in_if_none_match(field);
//!         let matches = if_match.is_none_or(|field| exists && version.is_in_if_match(field));
//!         let differs = if_none_match.is_none_or(|field| !exists || !is_in(field));
//!         if !matches || !differs {
//!             return Response::PreconditionFailed;
//!         }
//!         match page.compare_and_set(version, body) {
//!             Ok(version) if exists => return Response::Updated { etag: version.to_etag() },
//!             Ok(version) => return Response::Created { etag: version.to_etag() },
//!             Err(conflict) => body = conflict.value,
//!         }
//!     }
//! }
//!
//! let page = VersionedCell::new(None);
//! let text = |text: &str| Some(text.to_owned());
//! assert_eq!(put(&page, None, None, text("a")), Response::PreconditionRequired);
//! assert_eq!(put(&page, Some("*"), None, text("a")), Response::PreconditionFailed); // absent
//! let created = put(&page, None, Some("*"), text("a"));
//! assert_eq!(created, Response::Created { etag: "\"1\"".to_owned() });
//! assert_eq!(put(&page, None, Some("*"), text("b")), Response::PreconditionFailed); // exists
//!
//! // Delete it and create it again: the tag of the first value does not match the second one.
//! let deleted = put(&page, Some("\"1\""), None, None);
//! assert_eq!(deleted, Response::Updated { etag: "\"2\"".to_owned() });
//! let created = put(&page, None, Some("*"), text("c"));
//! assert_eq!(created, Response::Created { etag: "\"3\"".to_owned() });
//! assert_eq!(put(&page, Some("\"1\""), None, text("d")), Response::PreconditionFailed);
//! assert_eq!(page.get(), text("c"));
//! ```
//!
//! A `GET` of the absent resource responds 404, whatever its conditions are. If resources are
//! created while the server runs, a [`LockTable`](crate::LockTable) with the name as the key guards
//! the map that contains the cells.
//!
//! # React to changes
//! [`changed_value`](crate::VersionedCell::changed_value) is ready when the version differs from
//! the given one, and returns the value with its version;
//! [`wait_changed_value`](crate::VersionedCell::wait_changed_value) is the form for threads.
//! Writers pay for this only while a thread or task waits. A slow watcher skips versions, and
//! always receives the newest one:
//!
//! ```
//! use latchwork::VersionedCell;
//!
//! let limit = VersionedCell::new(10);
//! std::thread::scope(|s| {
//!     let watcher = s.spawn(|| {
//!         let mut seen = limit.read_owned();
//!         while *seen != 30 {
//!             seen = limit.wait_changed_value(seen.version()); // reload whatever depends on it
//!         }
//!         seen.version()
//!     });
//!     limit.set(20);
//!     let last = limit.set(30);
//!     assert_eq!(watcher.join().unwrap(), last);
//! });
//! ```
//!
//! # Several documents in one conditional update
//! [`Tx::check`](crate::Tx::check) compares a version inside a transaction. The transaction commits
//! only if all versions still hold:
//!
//! ```
//! use latchwork::{VersionedCell, atomically, cell::Version};
//!
//! fn publish(
//!     documents: &[VersionedCell<String>],
//!     edits: &[(usize, Version, &str)],
//! ) -> Result<(), usize> {
//!     atomically(|tx| {
//!         for &(i, version, _) in edits {
//!             if !tx.check(&documents[i], version)? {
//!                 return Ok(Err(i)); // commits without writes
//!             }
//!         }
//!         for &(i, _, text) in edits {
//!             tx.set(&documents[i], text.to_owned())?;
//!         }
//!         Ok(Ok(()))
//!     })
//! }
//!
//! let documents = ["a", "b"].map(|text| VersionedCell::new(text.to_owned()));
//! let seen = documents.each_ref().map(VersionedCell::version);
//! documents[1].set("b, edited by another author".to_owned());
//!
//! let edits = [(0, seen[0], "new a"), (1, seen[1], "new b")];
//! assert_eq!(publish(&documents, &edits), Err(1)); // and document 0 is unchanged
//! assert_eq!(publish(&documents, &edits[..1]), Ok(()));
//! assert_eq!(documents.map(|document| document.get())[0], "new a");
//! ```
//!
//! # After a restart
//! A new cell starts at version 0, and a tag of the previous process could match by accident. Store
//! the version with the value, and continue there with
//! [`with_version`](crate::VersionedCell::with_version):
//!
//! ```
//! use latchwork::{VersionedCell, cell::Version};
//!
//! let saved = "41 dark"; // from a file
//! let (version, theme) = saved.split_once(' ').unwrap();
//! let theme = VersionedCell::with_version(theme.to_owned(), version.parse()?);
//! assert_eq!(theme.set("light".to_owned()), Version::new(42));
//! # Ok::<_, latchwork::cell::ParseVersionError>(())
//! ```
//!
//! # Traps
//! - Versions of two cells are numbers of two counters. They may be equal, and this means nothing.
//!   A tag that travels without its URL needs the name of the document beside the number.
//! - A weak tag (`W/"17"`) cannot match `If-Match`:
//!   [`from_etag`](crate::cell::Version::from_etag) returns an error for it, and
//!   [`is_in_if_match`](crate::cell::Version::is_in_if_match) returns `false`.
//! - A field of a client is input. `is_in_if_match` and `is_in_if_none_match` return `false` for a
//!   malformed one. So a malformed `If-Match` prevents a write, and a malformed `If-None-Match`
//!   permits it. A server that must refuse the latter accepts only `*` in a `PUT`.
//! - `from_etag` parses exactly one strong tag of this crate, for a protocol in which clients send
//!   one version. A valid `If-Match` field may be a list, `*`, or a tag of another server, so an
//!   error of `from_etag` does not mean 400.
//!
//! [`VersionedCell`]: crate::VersionedCell
