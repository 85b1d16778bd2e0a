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
mod retry;
mod savepoint;
#[cfg(test)]
mod tests;
mod wait;

use core::borrow::Borrow;
use core::fmt;
use core::hash::{BuildHasher, Hash};
use core::time::Duration;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

pub use future::SessionLockFuture;
use holds::Holds;
pub use report::{DeadlockKey, DeadlockParty, DeadlockReport, LockError, Policy};
pub use savepoint::{Savepoint, SavepointError};
use wait::Pending;

use crate::RandomState;
use crate::lock_table::LockTable;
pub use crate::lock_table::SessionId;
use crate::waits_for::{Owner, OwnerKind};
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
/// [`unlock`](Self::unlock) gives it back. A key that is held exclusively stays exclusive when it is locked shared. To lock a key exclusively that it holds shared *upgrades* it: the
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
/// - A chain of sessions that wait for each other, without a cycle, has no victim, however long it is: its first session
///   runs, or waits for something that detection does not see. [`Policy::Timeout`] bounds such a wait.
/// - Two sessions that upgrade one key wait for each other. One of them gets `Deadlock` as soon as the second one begins to upgrade,
///   by the same rule: lowest priority, then youngest. If that is the first one, its wait ends.
///
/// A session keeps its age for as long as it lives. To do lost work again, release all and use *the same*
/// session: it is older than those that begin after it, and so will not lose for ever.
///
/// The victim does not close the same cycle again at once. Each key that it held passes to the longest waiter when the victim releases
/// it, under either [`Fairness`](crate::Fairness). If it has released everything, its next lock waits until no other victim
/// retries; victims retry in the order of their locks. A retry that takes longer than 1 millisecond no longer delays
/// the next one. Futures and sessions of [`Policy::NoWait`] do not wait for other victims. A new session
/// for the same work has none of this, and is the youngest besides.
///
/// The sets of [`lock_all`](LockTable::lock_all) take part while they are being locked: a cycle through one is
/// detected, and its victim is a session. Of a set that has all its keys no wait is known.
///
/// Not detected are waits of threads that hold plain guards or whole sets of the same table (no owner is known of these),
/// of sessions of other tables, and for anything else. A thread
/// that holds a guard of a key and locks that key in a session waits for itself.
///
/// # Cost
/// A key that is free costs one compare-and-swap, as without a session, and a note in a list. Nothing is published, and no
/// clock is read, before a session has to wait.
///
/// A session that leaves a crowd of *n* sessions at one key takes time in proportion to log *n*.
///
/// To publish a wait costs time in proportion to the keys that the session holds, once: mostly that of copying their list. A thread publishes the
/// waits that last, and a task each.
///
/// # Unwinding and forgetting
/// If a waker panics as it is cloned, woken or dropped, the panic comes out of the call or the poll that used it. A
/// key that was granted by then is held by the session ([`mode`](Self::mode) returns it), and a key that was
/// not is no longer waited for after the session's next call.
///
/// A session that is dropped, by a panic or not, also while its future waits, gives back everything and leaves the queue. If wakers panic
/// that are used for it, it gives back the rest, and the first of the panics comes out of the drop; but if two of one key's grant
/// panic, or one in a drop that is part of a panic, the process aborts, as it does for a guard. One that is
/// forgotten ([`core::mem::forget`]) keeps its keys held for as long as the table lives, and nothing else happens.
///
/// # Fork
/// In the child of a process with threads, keys of other sessions stay held. See [`docs::fork`](crate::docs::fork).
///
/// # When something else is better
/// If all keys are known up front, [`lock_all`](LockTable::lock_all) never fails, and cannot deadlock with other sets.
///
/// # Examples
/// ```
/// use latchwork::{LockTable, session::LockError};
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
    /// Whether it has been the victim of a deadlock and has not locked since.
    lost: bool,
    /// Whether its turn to retry has begun and was not ended by it.
    turn: bool,
    /// When it was last the victim of a deadlock, by its clock: what it held then is handed over.
    lost_at: u64,
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
    /// assert_eq!(table.locked_count(), 0);
    /// # Ok::<_, latchwork::session::LockError>(())
    /// ```
    #[must_use = "a session that is dropped at once holds no key"]
    pub fn session(&self) -> Session<'_, K, S> {
        Session {
            owner: Owner {
                id: self.sessions.begin(),
                kind: OwnerKind::Session,
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
            lost: false,
            turn: false,
            lost_at: 0,
            table: self,
        }
    }

    /// Returns the last deadlocks among sessions and sets of this table for which a session's wait was ended, the oldest
    /// first: [16 of them](crate::table::LockTableBuilder::deadlock_history), unless told otherwise.
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
    /// The time is an upper bound. While deadlocks are frequent, sessions search as soon as they wait: each deadlock
    /// that is found in the table makes its next 256 waits do so. Where there are none, no session searches before its
    /// time. [`Duration::ZERO`] searches at once in any case.
    ///
    /// The futures of a session have no clock, and look as soon as they wait; unless it is never.
    ///
    /// An upgrade detects at once, whatever the time is, and other sessions see it: of two sessions that upgrade one key, one must
    /// get [`LockError::Deadlock`].
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
        while let Some((hash, mode, taken)) = self.held.pop() {
            self.pass_on(hash, mode, taken);
        }
        if self.turn {
            self.end_turn();
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
        let Some((mode, taken)) = self.held.remove(hash) else {
            return false;
        };
        if self.announced {
            self.retract(hash);
        }
        self.pass_on(hash, mode, taken);
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
                while self.0.pending.is_some()
                    || !self.0.is_empty()
                    || self.0.announced
                    || self.0.turn
                {
                    // One panic is on its way already, and a second on top of it would end the process. So would one
                    // of the destructor of what the second panicked with: that is not run.
                    let rest = catch_unwind(AssertUnwindSafe(|| self.0.release_all()));
                    rest.unwrap_or_else(core::mem::forget);
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
