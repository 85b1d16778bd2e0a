//! Locks that are acquired in one order: the compiler checks it, or the program checks it while it
//! runs.
//!
//! Threads that acquire locks in one order cannot wait for each other in a cycle. There are two
//! ways to check the order:
//!
//! | | when it checks | cost |
//! |---|---|---|
//! | [`OrderedMutex`], [`OrderedRwLock`] | at compile time | none: as `parking_lot` |
//! | [`checked::Mutex`], [`checked::RwLock`] | at each acquisition | none in release builds |
//!
//! With the first pair, a program that acquires a lower level while a higher one is held does not
//! compile. The second pair panics the first time that two locks are acquired in the reverse order,
//! whether or not the thread would have blocked. It searches a global graph in debug builds and
//! with the feature `order-checks`.
//!
//! # Levels
//! [`levels!`](crate::levels) declares them, lowest first. A thread has one [`RootToken`]. A lock
//! borrows a token, and returns a guard and the token for the locks that may follow:
//!
//! ```
//! use latchwork::ordered::{OrderedMutex, RootToken};
//!
//! latchwork::levels! {
//!     /// Acquired first.
//!     pub Accounts;
//!     /// Acquired last.
//!     pub Ledger;
//! }
//! static ACCOUNTS: OrderedMutex<Accounts, [i64; 2]> = OrderedMutex::new([100, 0]);
//! static LEDGER: OrderedMutex<Ledger, Vec<i64>> = OrderedMutex::new(Vec::new());
//!
//! let mut root = RootToken::take().expect("this thread has no other");
//! let (mut accounts, mut key) = ACCOUNTS.lock(&mut root);
//! let (mut ledger, _) = LEDGER.lock(&mut key);
//! accounts[0] -= 30;
//! accounts[1] += 30;
//! ledger.push(30);
//! ```
//!
//! The reverse order does not compile. Neither does a second lock of one level, or a lock with a
//! token that is borrowed already:
//!
//! ```compile_fail,E0277
//! # use latchwork::ordered::{OrderedMutex, RootToken};
//! # latchwork::levels! {
//! #     pub Accounts;
//! #     pub Ledger;
//! # }
//! # static ACCOUNTS: OrderedMutex<Accounts, [i64; 2]> = OrderedMutex::new([100, 0]);
//! # static LEDGER: OrderedMutex<Ledger, Vec<i64>> = OrderedMutex::new(Vec::new());
//! let mut root = RootToken::take().expect("this thread has no other");
//! let (ledger, mut key) = LEDGER.lock(&mut root);
//! let (accounts, _) = ACCOUNTS.lock(&mut key); // the level `Accounts` is not above `Ledger`
//! ```
//!
//! A function that acquires locks declares the levels from which it may be called:
//!
//! ```
//! # use latchwork::ordered::{Above, LevelToken, Level, OrderedMutex, RootToken};
//! # latchwork::levels! {
//! #     pub Accounts;
//! #     pub Ledger;
//! # }
//! # static LEDGER: OrderedMutex<Ledger, Vec<i64>> = OrderedMutex::new(Vec::new());
//! fn record<K: Level>(amount: i64, key: &mut LevelToken<'_, K>)
//! where
//!     Ledger: Above<K>,
//! {
//!     LEDGER.lock(key).0.push(amount);
//! }
//! record(30, &mut RootToken::take().expect("this thread has no other"));
//! ```
//!
//! # Why no cycle of waits is possible
//! A thread has one root token at a time, for all levels of the program. Each guard borrows the
//! token that its lock used. While the guard lives, the thread can use only the token that was
//! returned with it, or a later one. So a thread waits only for levels above all levels that it
//! holds. Along a cycle of waits the level would rise indefinitely. Tokens and guards stay on their
//! thread.
//!
//! *Blocking.* Each lock blocks the thread, and has no async form. On a current-thread runtime it
//! can hang indefinitely if a task awaits while it holds a guard, because the holder never runs.
//! Release each guard before an `await`. A guard is not `Send`, so most multi-threaded executors
//! reject a task that does not.
//!
//! *Forgetting.* A forgotten guard keeps its lock locked indefinitely, as for any mutex: each
//! thread that waits for it hangs, in any order. After a root token is forgotten,
//! [`RootToken::take`] returns `None` on that thread. So no second token can exist beside guards
//! that may live. A panic and an early return drop guards before tokens.
//!
//! *Limits.* The order does not include other locks, channels and joins: a thread that waits for
//! them under a guard may deadlock. Two sets of levels that are declared apart have no order, and
//! no token leads from one to the other. [`levels!`](crate::levels) with `after` orders one above
//! the other.
//!
//! # Several locks of one level
//! [`OrderedMutex::lock_all`] acquires them in the order of their addresses, as one step.
//!
//! # Sources
//! Levels by tokens are an old idea; this design follows netstack3's `lock-order`. Recorded orders
//! follow Linux' lockdep and `tracing-mutex`, by lock and not by class. So they need no names, and
//! do not check locks that the program has not acquired.

pub mod checked;
mod level;
mod mutex;
mod rwlock;

pub use level::{Above, Bottom, Level, LevelToken, RootToken};
pub use mutex::{OrderedMutex, OrderedMutexGuard};
pub use rwlock::{OrderedReadGuard, OrderedRwLock, OrderedWriteGuard};

/// Locks all of `locks` in the order of their addresses. Returns the guards in the order of the
/// iterator.
///
/// # Panics
/// Panics if a lock occurs twice; nothing is locked then.
fn lock_by_address<'g, L: 'g, G>(
    locks: impl IntoIterator<Item = &'g L>,
    lock: impl Fn(&'g L) -> G,
) -> Vec<G> {
    let locks: Vec<&L> = locks.into_iter().collect();
    let address = |place: &usize| core::ptr::from_ref(locks[*place]).addr();
    let mut order: Vec<usize> = (0..locks.len()).collect();
    order.sort_unstable_by_key(address);
    let twice = order
        .windows(2)
        .any(|two| address(&two[0]) == address(&two[1]));
    assert!(
        !twice,
        "a call that locks several locks got one lock twice, and would deadlock with itself: pass each lock once"
    );
    let mut guards: Vec<_> = locks.iter().map(|_| None).collect();
    for place in order {
        guards[place] = Some(lock(locks[place]));
    }
    guards.into_iter().flatten().collect()
}
