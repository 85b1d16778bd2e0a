//! One owner of many locks, taken as it goes: [`Session`].
//!
//! A session holds keys by their hashes in a list of its own, in which it looks before it locks: that is what makes it
//! re-entrant. When it has waited for a while, it writes down in its table what it holds and what it
//! waits for, and looks for a circle. PROTOCOL.md beside this file says why the last of a
//! circle sees all of it, and how a wait is ended once, by the lock table's rules.

mod detect;
mod future;
mod holds;
mod lock;
mod report;
mod savepoint;
mod wait;

use core::borrow::Borrow;
use core::fmt;
use core::hash::{BuildHasher, Hash};
use core::time::Duration;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

pub use future::SessionLockFuture;
use holds::Holds;
pub use report::{DeadlockKey, DeadlockParty, DeadlockReport, LockError, Policy, SessionId};
pub use savepoint::{Savepoint, SavepointError};
use wait::Pending;

use crate::RandomState;
use crate::lock_table::LockTable;
use crate::waits_for::Owner;
use crate::word::Mode;

/// How long a session waits before it looks for a deadlock, unless told otherwise.
/// Not found by measurement: PostgreSQL waits for a second, which for locks in memory is a thousand times too long.
const DETECT_AFTER: Duration = Duration::from_millis(1);

/// An owner of many locks of one table, which it takes as it goes and gives back together.
///
/// Made by [`LockTable::session`]. This is strict two-phase locking: lock what you meet, and
/// [release all](Self::release_all) (or drop the session) when you are done.
///
/// # Re-entrant
/// A key that the session holds is held by it once, however often it is locked, and
/// [`unlock`](Self::unlock) gives it back. To lock a key exclusively that it holds shared *upgrades* it: the
/// session waits until the other readers have left, ahead of all who are queued, and goes on to read meanwhile. Two keys of
/// one hash are one key to a session, and do it no harm.
///
/// # Deadlocks
/// They are found, and somebody is told. A session that has waited for [a while](Self::detect_after) makes known
/// to its table what it holds and waits for, and looks for a circle.
///
/// - Whoever waits behind somebody in a queue waits for him too. If a reader waits behind a writer, and
///   letting it in past the writer ends the circle, that is done, and nobody is told.
/// - Otherwise one session of the circle gets [`LockError::Deadlock`]: of those of the lowest
///   [priority](Self::priority) the youngest. It holds what it held before, and should release it: if it just locks
///   on, it will be told again.
/// - Of two sessions that want to upgrade one key, the second gets `Deadlock` at once: there is no other way out.
///
/// A session keeps its age for as long as it lives. To do lost work again, release all and use *the same*
/// session: it is older than those that begin after it, and so will not lose for ever.
///
/// What is not seen: plain guards and sets of the same table (they have no owner who could be known to wait elsewhere),
/// sessions of other tables, and everything else that a thread may wait for. A thread
/// that holds a guard of a key and locks that key in a session waits for itself.
///
/// # Cost
/// A key that is free costs one compare-and-swap, as without a session, and a note in a list. Nothing is published, and no
/// clock is read, before a session has to wait.
///
/// To publish a wait costs time in proportion to the keys that the session holds, once: mostly that of copying their list. A thread publishes the
/// waits that last, and a task each.
///
/// # Unwinding and forgetting
/// A session that is dropped, by a panic or not, also while its future waits, gives back everything and leaves the queue. If wakers panic
/// that are used for it, it gives back the rest, and the first of the panics comes out of the drop; but if two of one key's grant
/// panic, or one in a drop that is part of a panic, the process aborts, as it does for a guard. One that is
/// forgotten ([`core::mem::forget`]) keeps its keys held for as long as the table lives, and nothing else happens.
///
/// # When something else is better
/// If all keys are known up front, [`lock_all`](LockTable::lock_all) cannot deadlock and need not look.
///
/// # Examples
/// ```
/// use latchwork::{LockError, LockTable};
///
/// let table: LockTable<str> = LockTable::new();
/// let mut session = table.session().named("checkout-17");
/// loop {
///     let done = (|| {
///         session.lock_shared("price list")?;
///         session.lock("order 17")?;
///         // … which items there are is known only now …
///         session.lock("item 4")?;
///         Ok::<_, LockError>(())
///     })();
///     session.release_all();
///     match done {
///         Ok(()) => break,
///         Err(LockError::Deadlock(report)) => eprintln!("{report}"), // once more
///         Err(other) => panic!("{other}"),
///     }
/// }
/// ```
pub struct Session<'t, K: ?Sized, S = RandomState> {
    table: &'t LockTable<K, S>,
    owner: Owner,
    policy: Policy,
    detect_after: Duration,
    held: Holds,
    /// Counts what is taken and upgraded, and the savepoints.
    clock: u64,
    /// The moments of the savepoints that live, in order.
    savepoints: Vec<u64>,
    /// A wait that goes on, or that was left by a forgotten future.
    pending: Option<Pending>,
    /// Whether the table knows what it holds, also while it does not wait.
    announced: bool,
}

impl<K: ?Sized, S> LockTable<K, S> {
    /// Begins a session: an owner of many locks of this table, taken as it goes.
    ///
    /// # Examples
    /// ```
    /// let table: latchwork::LockTable<str> = latchwork::LockTable::new();
    /// let mut session = table.session();
    /// session.lock("a")?;
    /// session.lock_shared("b")?;
    /// session.lock("a")?; // it has it already
    /// assert_eq!(session.len(), 2);
    /// drop(session);
    /// assert_eq!(table.held(), 0);
    /// # Ok::<_, latchwork::LockError>(())
    /// ```
    #[must_use = "a session that is dropped at once holds no key"]
    pub fn session(&self) -> Session<'_, K, S> {
        Session {
            owner: Owner {
                id: self.sessions.begin(),
                name: None,
                priority: 0,
            },
            policy: Policy::Detect,
            detect_after: DETECT_AFTER,
            held: Holds::default(),
            clock: 0,
            savepoints: Vec::new(),
            pending: None,
            announced: false,
            table: self,
        }
    }

    /// Returns the last deadlocks among sessions of this table for which one of them was ended, the oldest
    /// first: [16 of them](crate::LockTableBuilder::deadlocks_kept), unless told otherwise.
    ///
    /// # Examples
    /// ```
    /// let table: latchwork::LockTable<str> = latchwork::LockTable::new();
    /// assert!(table.deadlocks().is_empty());
    /// ```
    pub fn deadlocks(&self) -> Vec<DeadlockReport> {
        let cycles = self.sessions.with(|waits| waits.deadlocks());
        let cycles = cycles.iter();
        cycles
            .map(|cycle| DeadlockReport::new(cycle, &self.sessions))
            .collect()
    }
}

impl<K: ?Sized, S> Session<'_, K, S> {
    /// Gives the session a name, for reports.
    pub fn named(mut self, name: impl Into<Arc<str>>) -> Self {
        self.owner.name = Some(name.into());
        self
    }

    /// Sets what it does about a key that is taken, [`Policy::Detect`] by default.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets how much it matters that it goes on, 0 by default: of a deadlock's sessions, one of the lowest
    /// priority is told.
    pub fn priority(mut self, priority: i32) -> Self {
        self.owner.priority = priority;
        self
    }

    /// Sets how long it waits before it looks for a deadlock, 1 millisecond by default. A time past the range of the
    /// clock ([`Duration::MAX`]) is never: then no other session sees its waits either.
    ///
    /// The futures of a session have no clock, and look as soon as they wait; unless it is never.
    ///
    /// An upgrade looks at once, whatever the time is, and others see it: of two sessions that want to upgrade one key, one has to be told,
    /// for there is no queue in which the second could wait.
    pub fn detect_after(mut self, time: Duration) -> Self {
        self.detect_after = time;
        self
    }

    /// Returns its number, unique in its table.
    pub fn id(&self) -> SessionId {
        SessionId(self.owner.id)
    }

    /// Returns its name.
    pub fn name(&self) -> Option<&str> {
        self.owner.name.as_deref()
    }

    /// Returns the number of keys that it holds.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Returns whether it holds no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives back everything, and releases all savepoints. The session goes on, as old as before.
    ///
    /// # Panics
    /// If a waker does that is used to give a key away; the rest is given back when the session is dropped.
    pub fn release_all(&mut self) {
        self.settle();
        self.savepoints.clear();
        // First told, then done: should a waker panic, what is known is true [D1].
        if core::mem::take(&mut self.announced) {
            let id = self.owner.id;
            drop(self.table.sessions.with(|waits| waits.graph.exit(id)));
        }
        while let Some((hash, mode)) = self.held.pop() {
            self.table.raw().unlock(hash, mode);
        }
    }

    /// The next moment.
    #[inline]
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// Ends what a forgotten future has left.
    #[inline]
    fn settle(&mut self) {
        if self.pending.is_some() {
            self.abandon();
        }
    }

    #[inline]
    fn unlock_hash(&mut self, hash: u64) -> bool {
        let Some(mode) = self.held.remove(hash) else {
            return false;
        };
        if self.announced {
            self.retract(hash);
        }
        self.table.raw().unlock(hash, mode);
        true
    }
}

impl<K: ?Sized, S: BuildHasher> Session<'_, K, S> {
    /// Returns how the session holds `key`, or `None` if it does not.
    pub fn mode<Q>(&self, key: &Q) -> Option<Mode>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        let hold = self.held.get(self.table.hash(key))?;
        Some(hold.mode)
    }

    /// Gives `key` back, however often it was locked. Returns whether the session held it.
    #[inline]
    pub fn unlock<Q>(&mut self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        let hash = self.table.hash(key);
        self.settle();
        self.unlock_hash(hash)
    }
}

impl<K: ?Sized, S> Drop for Session<'_, K, S> {
    fn drop(&mut self) {
        /// Goes on where a waker has panicked.
        struct Rest<'a, 't, K: ?Sized, S>(&'a mut Session<'t, K, S>);
        impl<K: ?Sized, S> Drop for Rest<'_, '_, K, S> {
            fn drop(&mut self) {
                while self.0.pending.is_some() || !self.0.is_empty() || self.0.announced {
                    // One panic is on its way already, and a second on top of it would end the process.
                    let _ = catch_unwind(AssertUnwindSafe(|| self.0.release_all()));
                }
            }
        }
        Rest(self).0.release_all();
    }
}

impl<K: ?Sized, S> fmt::Debug for Session<'_, K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.owner.id)
            .field("name", &self.owner.name)
            .field("policy", &self.policy)
            .field("held", &self.len())
            .field("waits", &self.pending.is_some())
            .finish_non_exhaustive()
    }
}
