//! Locks that learn the order in which they are taken, and panic where it is broken.
//!
//! [`Mutex`] and [`RwLock`] are `parking_lot`'s. In debug builds, and with the feature `order-checks`, each lock that is taken
//! while others are held is remembered as one that comes after them. To take two locks the other way round from then on is a panic, *before* it
//! blocks, whether or not another thread happens to be in the way; likewise for longer rings, and for a thread that takes what it holds. The message names the
//! ring: each lock by where it was made, and for each step where the one was held and where the other was taken.
//!
//! In other builds nothing is remembered, and the types are `parking_lot`'s in size and in what they do.
//!
//! # What it sees
//! Orders that the program has gone through: the more of it the tests run, the more is checked. The order is one of locks, not of
//! kinds of locks, so two locks of one array may be learned in either order, and only a contradiction is reported. `try_` calls wait
//! for nobody and are not checked; what is taken under them is. Two orders that a third lock keeps apart are reported too. A lock that is
//! dropped is forgotten.
//!
//! # Memory
//! A node for each lock that was taken and still exists. An edge for each pair of locks of which one was the newest that a thread
//! held when it acquired the other; such an edge implies the pairs with the older ones. There is an edge for each pair where the same two
//! locks meet under different older ones. Up to a million edges are kept: further orders are not learned.
//!
//! # Performance
//! A checked build locks one global mutex at each acquisition under another lock. An order that was learned before takes one
//! look-up. A new pair is inserted into a topological order; where it contradicts that order, the locks between its two positions are
//! searched once and reordered. So *n* locks that are acquired together, or one by one under a coarse lock, take time in
//! proportion to *n* log *n*.
//!
//! # Panics
//! `lock`, `read` and `write`, as said; the lock is not taken then and what the thread holds is unlocked as the panic passes. A
//! thread that panics already is not checked.
//!
//! # Examples
//! ```should_panic
//! use latchwork::ordered::checked::Mutex;
//! # assert!(latchwork::ordered::checked::IS_ON);
//! let (a, b) = (Mutex::new(1), Mutex::new(2));
//! {
//!     let _a = a.lock();
//!     let _b = b.lock(); // learned: a, then b
//! }
//! let _b = b.lock();
//! let _a = a.lock(); // panics, although nobody is in the way
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

/// Whether this build learns orders and checks them.
pub const IS_ON: bool = cfg!(any(debug_assertions, feature = "order-checks"));
