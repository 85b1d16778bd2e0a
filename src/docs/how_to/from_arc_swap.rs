//! Moving from `arc_swap::ArcSwap`.
//!
//! An `ArcSwap` and a [`VersionedCell`] solve the same problem: a value that is read often and
//! replaced as a whole. A cell adds a version, conditional writes by version, waiting for a change,
//! transactions over several cells, and faster reads and updates. Its replaced values live longer.
//!
//! The blocks of old code use `arc-swap` 1.9 and are shown for comparison only; the tests of this
//! crate run the new code.
//!
//! # A configuration
//! Before:
//!
//! ```rust,ignore
//! use std::sync::Arc;
//! use arc_swap::ArcSwap;
//!
//! struct Config { limit: u32 }
//!
//! let config = ArcSwap::from_pointee(Config { limit: 10 });
//! let limit = config.load().limit;
//! config.store(Arc::new(Config { limit: 20 }));
//! config.rcu(|config| Config { limit: config.limit + 1 });
//! let kept: Arc<Config> = config.load_full();
//! ```
//!
//! After:
//!
//! ```
//! use latchwork::{VersionedCell, cell::OwnedVersioned};
//!
//! struct Config { limit: u32 }
//!
//! let config = VersionedCell::new(Config { limit: 10 });
//! let limit = config.read().limit;
//! config.set(Config { limit: 20 });
//! config.update(|config| Config { limit: config.limit + 1 });
//! let kept: OwnedVersioned<Config> = config.read_owned();
//! assert_eq!((limit, kept.limit, kept.version().get()), (10, 21, 2));
//! ```
//!
//! # Compare and swap
//! `arc-swap` compares pointers. A cell compares versions, which are numbers: they fit into a
//! database or an HTTP header, and no version is used twice. Before:
//!
//! ```rust,ignore
//! let current = config.load();
//! let next = Arc::new(Config { limit: current.limit + 1 });
//! let previous = config.compare_and_swap(&current, next);
//! let swapped = Arc::ptr_eq(&current, &previous);
//! ```
//!
//! After: a failed write returns the value, so that no work is lost.
//!
//! ```
//! use latchwork::VersionedCell;
//!
//! let limit = VersionedCell::new(10);
//! let current = limit.read();
//! let next = *current + 1;
//! limit.set(99); // another thread writes in between
//! let conflict = limit.compare_and_set(current.version(), next).unwrap_err();
//! assert_eq!((conflict.value, conflict.current.get()), (11, 1));
//! ```
//!
//! # A cached handle
//! `arc_swap::Cache` avoids the cost of a load. Here, one pin amortises many reads:
//!
//! ```
//! use latchwork::{VersionedCell, pin};
//!
//! let weights = [1, 2, 3].map(VersionedCell::new);
//! let pin = pin();
//! let sum: i32 = weights.iter().map(|weight| *weight.read_in(&pin)).sum();
//! drop(pin); // hold it briefly: it delays the drop of all replaced values
//! assert_eq!(sum, 6);
//! ```
//!
//! # A static
//! A cell allocates its first value, so a static needs a [`LazyLock`](std::sync::LazyLock):
//!
//! ```
//! use std::sync::LazyLock;
//! use latchwork::VersionedCell;
//!
//! static LIMIT: LazyLock<VersionedCell<u32>> = LazyLock::new(|| VersionedCell::new(10));
//! LIMIT.set(20);
//! assert_eq!(LIMIT.get(), 20);
//! ```
//!
//! # What maps to what
//! | `arc-swap` | here |
//! |---|---|
//! | `ArcSwap<T>`, `ArcSwapAny<Arc<T>>` | [`VersionedCell<T>`](crate::VersionedCell) |
//! | `ArcSwapOption<T>` | `VersionedCell<Option<T>>` |
//! | `from_pointee(value)` | [`new(value)`](crate::VersionedCell::new) |
//! | `load()`, `Guard` | [`read()`](crate::VersionedCell::read), `Versioned` |
//! | `load_full()`, `Arc<T>` | [`read_owned()`](crate::VersionedCell::read_owned) |
//! | `store(arc)` | [`set(value)`](crate::VersionedCell::set): returns the version |
//! | `swap(arc)` | [`swap(value)`](crate::VersionedCell::swap): returns the previous value |
//! | `rcu(f)`, for the effect | [`update(f)`](crate::VersionedCell::update): returns the version |
//! | `rcu(f)`, for the previous value | [`fetch_update(f)`](crate::VersionedCell::fetch_update) |
//! | `rcu(f)`, then `load()` | [`update_and_get(f)`](crate::VersionedCell::update_and_get) |
//! | `compare_and_swap(&old, new)` | [`compare_and_set`](crate::VersionedCell::compare_and_set) |
//! | `Cache::load` | [`read_in(&pin)`](crate::VersionedCell::read_in) |
//! | `into_inner()` | [`into_inner()`](crate::VersionedCell::into_inner) |
//! | polling for a new pointer | [`changed_value(version)`](crate::VersionedCell::changed_value) |
//! | a struct that bundles several values | cells and [`atomically`](crate::atomically) |
//!
//! # What does not exist here
//! - Storing an `Arc` that exists already. `VersionedCell<Arc<T>>` does this, with one more
//!   indirection.
//! - `Weak` pointers, custom pointer types, and projections (`access::Map`).
//! - Values that borrow: a cell needs `T: Send + Sync + 'static`.
//! - Prompt drops. A replaced value is dropped later, on any thread that writes cells. With
//!   `arc-swap`, it is dropped when the last reference is.
//! - A guard that can be sent to another thread. Use `read_owned`.
//!
//! # When to stay with `arc-swap`
//! Stay if readers keep values for a long time and clone them often: `read_owned`
//! costs <!--figure: read_owned vs ArcSwap::load_full-->0.90<!--/--> times `load_full`. Also stay
//! if the destructor must run promptly, or if you need none of the additions.
//!
//! [`VersionedCell`]: crate::VersionedCell
