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
//!     if if_none_match.is_some_and(|field| seen.version().is_in_if_none_match(field)) {
//!         return Response::NotModified;
//!     }
//!     Response::Ok { etag: seen.version().to_etag(), body: seen.clone() }
//! }
//!
//! /// PUT with `If-Match`: writes only if the configuration is still the one that the client read.
//! fn put(config: &VersionedCell<Config>, if_match: &str, body: Config) -> Response {
//!     let Ok(expected) = Version::from_etag(if_match) else { return Response::BadRequest };
//!     match config.compare_and_set(expected, body) {
//!         Ok(version) => Response::Updated { etag: version.to_etag() },
//!         Err(conflict) => Response::PreconditionFailed { current: conflict.current.to_etag() },
//!     }
//! }
//!
//! let config = VersionedCell::new(Config { rate_limit: 10 });
//! let Response::Ok { etag, body } = get(&config, None) else { panic!() };
//! assert_eq!((etag.as_str(), &body), ("\"0\"", &Config { rate_limit: 10 }));
//! assert_eq!(get(&config, Some(&etag)), Response::NotModified);
//! // A cache may send several tags, and weak ones.
//! assert_eq!(get(&config, Some("\"7\", W/\"0\"")), Response::NotModified);
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
//! # Lists of tags, and `*`
//! The endpoint above accepts one strong tag of this server only. A public server uses the form
//! below, which responds 412 to every other valid field.
//!
//! A client may send several tags in `If-Match`, or `*` for any version. Then the server compares
//! the current version with the field, and writes on the condition that this version is still the
//! current one. After a conflict it compares again:
//!
//! ```
//! use latchwork::{VersionedCell, cell::Version};
//!
//! /// Writes `body` if the field permits the current version. Returns the version of the write.
//! fn put(page: &VersionedCell<String>, if_match: &str, mut body: String) -> Option<Version> {
//!     loop {
//!         let current = page.version();
//!         if !current.is_in_if_match(if_match) {
//!             return None; // 412 Precondition Failed
//!         }
//!         match page.compare_and_set(current, body) {
//!             Ok(version) => return Some(version),
//!             Err(conflict) => body = conflict.value, // another request has written in between
//!         }
//!     }
//! }
//!
//! let page = VersionedCell::new("old".to_owned());
//! assert_eq!(put(&page, "\"7\", \"0\"", "new".to_owned()), Some(Version::new(1)));
//! assert_eq!(put(&page, "\"0\"", "lost update".to_owned()), None);
//! assert_eq!(put(&page, "*", "newest".to_owned()), Some(Version::new(2)));
//! ```
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
//! - A tag of a client is input: `from_etag` parses decimal digits in double quotes and returns an
//!   error for anything else. A server that also issues tags of another form responds 412 to such
//!   an error, not 400.
//!
//! [`VersionedCell`]: crate::VersionedCell
