//! A configuration with an entity tag, and conditional updates.
//!
//! A server holds a configuration. Many requests read it, and administrators replace it. An
//! administrator edits for minutes, so no lock can be held. Two of them must not overwrite each
//! other's changes: the *lost update*. HTTP solves this with entity tags (RFC 9110); the version of
//! a [`VersionedCell`] is such a tag.
//!
//! # The endpoints
//! ```
//! use latchwork::{VersionedCell, cell::Version};
//!
//! #[derive(Clone, Debug, Default, PartialEq)]
//! struct Config { rate_limit: u32 }
//!
//! /// An entity tag is the version in double quotes.
//! fn to_etag(version: Version) -> String {
//!     format!("\"{version}\"")
//! }
//!
//! fn from_etag(etag: &str) -> Option<Version> {
//!     etag.strip_prefix('"')?.strip_suffix('"')?.parse().ok()
//! }
//!
//! #[derive(Debug, PartialEq)]
//! enum Response {
//!     Ok { etag: String, body: Config },
//!     NotModified,
//!     Updated { etag: String },
//!     PreconditionFailed { current: String },
//!     BadRequest,
//! }
//!
//! /// GET with an optional `If-None-Match`.
//! fn get(config: &VersionedCell<Config>, if_none_match: Option<&str>) -> Response {
//!     let seen = config.read(); // the value and its version, of one instant
//!     let etag = to_etag(seen.version());
//!     if if_none_match == Some(&etag) {
//!         return Response::NotModified;
//!     }
//!     Response::Ok { etag, body: seen.clone() }
//! }
//!
//! /// PUT with `If-Match`: writes only if the configuration is still the one that the client read.
//! fn put(config: &VersionedCell<Config>, if_match: &str, body: Config) -> Response {
//!     let Some(expected) = from_etag(if_match) else { return Response::BadRequest };
//!     match config.compare_and_set(expected, body) {
//!         Ok(version) => Response::Updated { etag: to_etag(version) },
//!         Err(conflict) => Response::PreconditionFailed { current: to_etag(conflict.current) },
//!     }
//! }
//!
//! let config = VersionedCell::new(Config { rate_limit: 10 });
//! let Response::Ok { etag, body } = get(&config, None) else { panic!() };
//! assert_eq!((etag.as_str(), &body), ("\"0\"", &Config { rate_limit: 10 }));
//! assert_eq!(get(&config, Some(&etag)), Response::NotModified);
//!
//! // Two administrators have read the same version. The second update is refused.
//! let updated = put(&config, &etag, Config { rate_limit: 20 });
//! assert_eq!(updated, Response::Updated { etag: "\"1\"".to_owned() });
//! let refused = put(&config, &etag, Config { rate_limit: 30 });
//! assert_eq!(refused, Response::PreconditionFailed { current: "\"1\"".to_owned() });
//! assert_eq!(config.read().rate_limit, 20);
//! assert_eq!(put(&config, "1", Config::default()), Response::BadRequest);
//! ```
//!
//! A read never waits, so a request can read the configuration as often as it needs. It should read
//! *once* and use this value to its end: two reads may return two configurations. A request that
//! needs the value across an `.await` uses [`read_owned`](crate::VersionedCell::read_owned).
//!
//! # React to changes
//! [`changed`](crate::VersionedCell::changed) is ready when the version is another one than the
//! given one; [`wait_changed`](crate::VersionedCell::wait_changed) is the form for threads. Writers
//! pay for this only while a thread or task waits. A watcher that is slow skips versions, and
//! always sees the newest one:
//!
//! ```
//! use latchwork::VersionedCell;
//!
//! let limit = VersionedCell::new(10);
//! std::thread::scope(|s| {
//!     let watcher = s.spawn(|| {
//!         let mut seen = limit.version();
//!         while limit.get() != 30 {
//!             seen = limit.wait_changed(seen); // reload whatever depends on it
//!         }
//!         seen
//!     });
//!     limit.set(20);
//!     let last = limit.set(30);
//!     assert!(watcher.join().unwrap() <= last);
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
//! - A weak tag (`W/"17"`) cannot match `If-Match`. The parser above refuses it.
//! - A tag of a client is input: [`Version`](crate::cell::Version) parses decimal digits only and
//!   returns an error for anything else.
//!
//! [`VersionedCell`]: crate::VersionedCell
