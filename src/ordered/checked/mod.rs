//! Locks that record the order in which they are acquired, and panic when it is violated.
//!
//! [`Mutex`] and [`RwLock`] wrap the locks of `parking_lot`. In debug builds, and with the feature
//! `order-checks`, they record each acquisition of a lock while others are held: the lock follows
//! the others.
//!
//! A later acquisition in the reverse order panics *before* it blocks, whether or not another
//! thread holds the lock. So does an acquisition that closes a longer cycle, or of a lock that the
//! thread holds. The message lists the cycle. It names each lock by the place that created it. For
//! each step it names the places where the one lock was held and the other was acquired.
//!
//! In other builds nothing is recorded, and the types have the size and the behaviour of those of
//! `parking_lot`.
//!
//! # Scope
//! The locks detect violations of the orders that the program has executed: the more code the tests
//! run, the more orders are checked. The order is one of locks, not of classes of locks. Two locks
//! of one array may be acquired in either order, and only a contradiction is reported.
//!
//! `try_` calls wait for no thread and are not checked, but acquisitions under them are. Two orders
//! that a third lock keeps apart are reported also. A dropped lock is forgotten.
//!
//! # Memory
//! There is a node for each lock that was acquired and still exists. There is an edge for each pair
//! of locks of which one was the newest that a thread held when it acquired the other. Such an edge
//! implies the pairs with the older ones. There is also an edge for each pair where the same two
//! locks follow different older ones. At most a million edges are kept: further orders are not
//! recorded.
//!
//! # Performance
//! A checked build locks one global mutex at each acquisition under another lock. An order that was
//! recorded before takes one look-up. A new pair is inserted into a topological order. If it
//! contradicts that order, the locks between its two positions are searched once and reordered. So
//! *n* locks that are acquired together, or one by one under a coarse lock, take time in proportion
//! to *n* log *n*.
//!
//! # Blocking
//! `lock`, `read` and `write` block the thread and have no async form. On a current-thread runtime
//! they can hang indefinitely if a task awaits while it holds a guard, because the holder never
//! runs. Release each guard before an `await`.
//!
//! # Panics
//! `lock`, `read` and `write` panic in a checked build if they violate a recorded order. The lock
//! is not acquired then, and the guards of the thread unlock as the panic unwinds. A thread that
//! already panics is not checked.
//!
//! # Examples
//! ```should_panic
//! use latchwork::ordered::checked::Mutex;
//! # assert!(latchwork::ordered::checked::IS_ON);
//! let (a, b) = (Mutex::new(1), Mutex::new(2));
//! {
//!     let _a = a.lock();
//!     let _b = b.lock(); // records the order: a, then b
//! }
//! let _b = b.lock();
//! let _a = a.lock(); // panics, although no other thread holds it
//! ```
//! ```
//! use latchwork::ordered::checked::Mutex;
//! let (a, b) = (Mutex::new(1), Mutex::new(2));
//! for _ in 0..2 {
//!     let a = a.lock();
//!     let b = b.lock(); // the same order each time
//!     assert_eq!(*a + *b, 3);
//! }
//! ```

#[cfg(any(debug_assertions, feature = "order-checks"))]
mod graph;
#[cfg(any(debug_assertions, feature = "order-checks"))]
mod held;
mod mutex;
mod rwlock;
mod watch;

pub use mutex::{Mutex, MutexGuard};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Whether this build records orders and checks them.
pub const IS_ON: bool = cfg!(any(debug_assertions, feature = "order-checks"));
