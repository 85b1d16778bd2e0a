//! Locks that are taken in one order: checked by the compiler, or learned while the program runs.
//!
//! Threads that take locks in one order do not wait for each other in a ring. There are two ways to know that they do:
//!
//! | | checks | costs |
//! |---|---|---|
//! | [`OrderedMutex`], [`OrderedRwLock`] | before the program runs: a lock of a lower level does not compile while a higher one is held | nothing: the same instructions as `parking_lot`'s |
//! | [`checked::Mutex`], [`checked::RwLock`] | the first time that two locks are taken the other way round, whether or not it would have blocked | nothing in release builds; a look at a global graph in debug builds |
//!
//! # Levels
//! [`levels!`](crate::levels) declares them, the lowest first. A thread takes one [`RootToken`], and a lock takes a key and gives a guard and the key for what may
//! come next:
//!
//! ```
//! use latchwork::ordered::{OrderedMutex, RootToken};
//!
//! latchwork::levels! {
//!     /// Taken first.
//!     pub Accounts;
//!     /// Taken last.
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
//! The other way round does not compile, and neither does a second lock of one level, nor one with a key that is lent out:
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
//! let (accounts, _) = ACCOUNTS.lock(&mut key); // the level `Accounts` does not come after `Ledger`
//! ```
//!
//! A function that takes locks says from which levels it may be called:
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
//! # Why no ring of waits is possible
//! A thread has one root key at a time, for all levels of the program. Each guard borrows the key that it was taken with, so while it
//! is there the thread can only use the key that came with it, or one that came later. So a thread waits only for levels above
//! all that it holds; along a ring of waits the level would rise for ever. Keys and guards stay on their thread.
//!
//! *Forgetting.* A forgotten guard keeps its lock for ever, as anywhere: whoever wants it waits for ever, in any order. A forgotten
//! root key is never given back: [`RootToken::take`] finds none on that thread from then on, and no second one appears beside guards
//! that may be alive. To panic, or to return early, drops guards and then keys.
//!
//! *What it does not see.* Other locks, channels, joins: to wait for them under a guard is not ordered by anything. Two sets of levels
//! that are declared apart have no order between them, and no key leads from one into the other; [`levels!`](crate::levels) with `after` puts one
//! above the other.
//!
//! # Several locks of one level
//! [`OrderedMutex::lock_all`] takes them in the order of their addresses, as one step.
//!
//! # Sources
//! Levels by tokens are an old idea; the shape here is that of netstack3's `lock-order`. Learning is that of Linux' lockdep and of
//! `tracing-mutex`, by lock and not by class: it needs no names, and has nothing to say of locks that it has not seen.

pub mod checked;
mod level;
mod mutex;
mod rwlock;

pub use level::{Above, Bottom, Level, LevelToken, RootToken};
pub use mutex::{OrderedMutex, OrderedMutexGuard};
pub use rwlock::{OrderedReadGuard, OrderedRwLock, OrderedWriteGuard};

/// Locks all of `locks` in the order of their addresses. The guards come in the order of the iterator.
///
/// # Panics
/// If one is there twice; nothing is locked then.
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
    assert!(!twice, "one lock is given twice, and would wait for itself");
    let mut guards: Vec<_> = locks.iter().map(|_| None).collect();
    for place in order {
        guards[place] = Some(lock(locks[place]));
    }
    guards.into_iter().flatten().collect()
}
