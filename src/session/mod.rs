//! One owner of many locks that it acquires one by one: [`Session`].
//!
//! A session keeps the hashes of its keys in a list of its own. It searches that list before it
//! locks a key, which makes it re-entrant. A session that has waited for a while publishes its keys
//! and its wait in its table, and searches for a cycle. [The
//! protocol](crate::docs::internals::sessions) explains why the last session of a cycle sees the
//! whole cycle. It also explains how a wait ends exactly once, by the rules of the lock table.

mod detect;
mod diagram;
mod future;
mod holds;
mod lock;
mod pending;
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
use holds::{Hold, Holds, Need};
use pending::Pending;
pub use report::{DeadlockKey, DeadlockParty, DeadlockReport, LockError, Policy};
pub use savepoint::{Savepoint, SavepointError};

use crate::RandomState;
use crate::deadlock::{Held, Owner, OwnerKind, discard};
use crate::lock_table::LockTable;
pub use crate::lock_table::SessionId;
use crate::sync::tuning::DETECT_AFTER;
use crate::word::Mode;

/// Owns many locks of one table, acquires them one by one, and releases them together.
///
/// [`LockTable::session`] begins a session. A session follows strict two-phase locking: lock each
/// key when it is needed, and [release all](Self::release_all) keys (or drop the session) at the
/// end.
///
/// # Re-entrant
/// A session holds a key once, however often it locks the key, and one [`unlock`](Self::unlock)
/// releases it. A key that is held exclusively stays exclusive when it is locked shared. An
/// exclusive lock of a key that is held shared *upgrades* the key. The upgrade waits until the
/// other readers have released the key, ahead of all queued waiters. The session stays a reader
/// while it waits. Two keys with one hash are one key to a session, which causes no deadlock.
///
/// # Blocking
/// [`lock`](Self::lock) and [`lock_shared`](Self::lock_shared) block the thread. On an executor
/// they block all tasks of that thread. On a current-thread runtime they can hang indefinitely,
/// because the holder never runs. Use [`lock_async`](Self::lock_async) and
/// [`lock_shared_async`](Self::lock_shared_async) in a task.
///
/// # Deadlocks
/// Deadlocks between sessions are detected and reported to one session. A session that has waited
/// for [a while](Self::detect_after) publishes in its table which keys it holds and waits for, and
/// searches for a cycle.
///
/// - A session that waits behind another waiter in a queue waits for that waiter also. If a reader
///   waits behind a writer, the reader may be able to overtake the writer. If that ends the cycle,
///   the table reorders the queue, and no session gets an error.
/// - Otherwise one session of the cycle gets [`LockError::Deadlock`]: the newest of those with the
///   lowest [priority](Self::priority). It still holds the keys that it held before, and should
///   release them. If it waits for the same key again instead, it gets the error again.
/// - A chain of sessions that wait for each other, without a cycle, has no victim, however long it
///   is. Its first session runs, or waits for an event that detection does not see.
///   [`Policy::Timeout`] bounds such a wait.
/// - Two sessions that upgrade one key wait for each other. One of them gets `Deadlock` as soon as
///   the second one begins to upgrade, by the same rule: lowest priority, then newest. If the first
///   one is the victim, its wait ends.
///
/// A session keeps its age for as long as it lives. To repeat aborted work, release all keys and
/// use *the same* session. It is older than each session that begins later. So it is not the victim
/// indefinitely, unless sessions of a higher priority wait in its cycles.
///
/// The victim does not close the same cycle again at once. Each key that it held passes to the
/// longest waiter when the victim releases it, under either [`Fairness`](crate::Fairness). If it
/// has released everything, its next lock waits until no other victim retries; victims retry in the
/// order of their locks. A retry that takes longer than 1 millisecond no longer delays the next
/// one. Futures and sessions of [`Policy::NoWait`] do not wait for other victims. A new session for
/// the same work has no such place in the order, and it is the newest session.
///
/// The sets of [`lock_all`](LockTable::lock_all) take part while they are being locked: a cycle
/// through one is detected, and its victim is a session. A set that has acquired all its keys has
/// no wait that detection can see.
///
/// Detection does not see the waits of threads that hold plain guards or whole sets of the same
/// table, because these have no owner. It does not see sessions of other tables, or waits for other
/// events. A thread that holds a guard of a key and locks that key in a session waits for itself.
///
/// # Cost
/// A free key costs one compare-and-swap, as without a session, and one entry in a list. Before a
/// session has to wait, it reads no clock, and it publishes nothing except under
/// [`Policy::WaitDie`].
///
/// A session that leaves a crowd of *n* sessions at one key takes time in proportion to log *n*.
///
/// To publish a wait takes time in proportion to the number of keys that the session holds, once.
/// Most of it copies their list. A thread publishes each wait that exceeds the threshold, and a
/// task publishes each wait.
///
/// # Unwinding and forgetting
/// If a waker panics as it is cloned, woken or dropped, the panic propagates out of the call or the
/// poll that used it. The session holds each key that was granted before the panic
/// ([`mode`](Self::mode) returns it). After the session's next call, it no longer waits for a key
/// that was not granted.
///
/// A dropped session releases all its keys and leaves the queue, including in a panic and while its
/// future waits. If wakers that the drop uses panic, the drop releases the remaining keys and then
/// propagates the first panic. As for a guard, the process aborts if two wakers of one key's grant
/// panic, or if one panics in a drop during a panic. A forgotten session ([`core::mem::forget`])
/// keeps its keys locked for as long as the table lives, and has no other effect.
///
/// # Fork
/// In the child of a process with threads, keys of other sessions stay locked. See
/// [`docs::fork`](crate::docs::fork).
///
/// # When something else is better
/// If all keys are known in advance, [`lock_all`](LockTable::lock_all) never fails, and cannot
/// deadlock with other sets.
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
///         // … the order lists its items, which are not known before …
///         session.lock("item 4")?;
///         Ok::<_, LockError>(())
///     })();
///     session.release_all();
///     match done {
///         Ok(()) => break,
///         Err(LockError::Deadlock(report)) => eprintln!("{report}"), // retry
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
    /// Counts the acquisitions, the upgrades and the savepoints.
    clock: u64,
    /// The clock values of the live savepoints, in order.
    savepoints: Vec<u64>,
    /// A wait in progress, or one that a forgotten future has left.
    pending: Option<Pending<'t>>,
    /// Whether the graph of the table lists the held keys, including while the session does not
    /// wait.
    announced: bool,
    /// Whether it has been the victim of a deadlock and has not locked since.
    lost: bool,
    /// Whether its turn to retry has begun and was not ended by it.
    turn: bool,
    /// The clock value at which it was last the victim of a deadlock: keys acquired before are
    /// handed over.
    lost_at: u64,
}

impl<K: ?Sized, S> LockTable<K, S> {
    /// Begins a session: one owner of many locks of this table, which it acquires one by one.
    ///
    /// # Examples
    /// ```
    /// let table: latchwork::LockTable<str> = latchwork::LockTable::new();
    /// let mut session = table.session();
    /// session.lock("a")?;
    /// session.lock_shared("b")?;
    /// session.lock("a")?; // already held: returns at once
    /// assert_eq!(session.len(), 2);
    /// drop(session);
    /// assert_eq!(table.locked_count(), 0);
    /// # Ok::<_, latchwork::session::LockError>(())
    /// ```
    #[must_use = "a session that is dropped at once holds no key"]
    pub fn session(&self) -> Session<'_, K, S> {
        Session {
            owner: Owner {
                id: self.detector.begin(),
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

    /// Returns the most recent deadlocks among sessions and sets of this table in which a session
    /// was the victim, oldest first.
    ///
    /// The table keeps [16 of them](crate::table::LockTableBuilder::deadlock_history) by default.
    ///
    /// # Examples
    /// ```
    /// let table: latchwork::LockTable<str> = latchwork::LockTable::new();
    /// assert!(table.deadlocks().is_empty());
    /// ```
    pub fn deadlocks(&self) -> Vec<DeadlockReport> {
        let cycles = self.detector.with(|waits| waits.deadlocks());
        let cycles = cycles.iter();
        cycles
            .map(|cycle| DeadlockReport::new(cycle, &self.detector))
            .collect()
    }
}

impl<K: ?Sized, S> Session<'_, K, S> {
    /// Sets the name of the session, which reports print.
    ///
    /// # Examples
    /// ```
    /// let table: latchwork::LockTable<str> = latchwork::LockTable::new();
    /// let session = table.session().named("checkout-17");
    /// assert_eq!(session.name(), Some("checkout-17"));
    /// ```
    pub fn named(mut self, name: impl Into<Arc<str>>) -> Self {
        self.owner.name = Some(name.into());
        self
    }

    /// Sets how the session reacts to a key that another owner holds, [`Policy::Detect`] by
    /// default.
    ///
    /// # Examples
    /// ```
    /// use latchwork::{LockTable, session::{LockError, Policy}};
    /// let table: LockTable<str> = LockTable::new();
    /// let _guard = table.lock("a");
    /// let mut session = table.session().policy(Policy::NoWait);
    /// assert!(matches!(session.lock("a"), Err(LockError::WouldBlock)));
    /// ```
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets the priority of the session in a deadlock, 0 by default. A session with the lowest
    /// priority of the cycle is the victim.
    ///
    /// # Examples
    /// ```
    /// let table: latchwork::LockTable<str> = latchwork::LockTable::new();
    /// let audit = table.session().priority(-1); // the first victim of each cycle
    /// # drop(audit);
    /// ```
    pub fn priority(mut self, priority: i32) -> Self {
        self.owner.priority = priority;
        self
    }

    /// Sets how long the session waits before it searches for a deadlock, 1 millisecond by default.
    ///
    /// A time that overflows [`Instant`](std::time::Instant), such as [`Duration::MAX`], disables
    /// detection: the session never searches, and no other session sees its waits.
    ///
    /// The time is an upper bound. While deadlocks are frequent, sessions search as soon as they
    /// wait. Each deadlock that is found in the table has this effect on its next 256 waits. In a
    /// table without deadlocks, no session searches before its time. [`Duration::ZERO`] searches at
    /// once in any case. A thread that has searched early yields for at most a millisecond before
    /// it parks, because such waits are short.
    ///
    /// The futures of a session have no clock. They search as soon as they wait, unless detection
    /// is disabled.
    ///
    /// An upgrade searches at once, whatever the time is, and other sessions see its wait. Of two
    /// sessions that upgrade one key, one must get [`LockError::Deadlock`].
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// let table: latchwork::LockTable<str> = latchwork::LockTable::new();
    /// let session = table.session().detect_after(Duration::from_micros(200));
    /// # drop(session);
    /// ```
    pub fn detect_after(mut self, time: Duration) -> Self {
        self.detect_after = time;
        self
    }

    /// Returns the number of the session, unique in its table.
    ///
    /// # Examples
    /// ```
    /// let table: latchwork::LockTable<str> = latchwork::LockTable::new();
    /// assert_ne!(table.session().id(), table.session().id());
    /// ```
    pub fn id(&self) -> SessionId {
        SessionId(self.owner.id)
    }

    /// Returns the name of the session, if it has one.
    ///
    /// # Examples
    /// ```
    /// let table: latchwork::LockTable<str> = latchwork::LockTable::new();
    /// assert_eq!(table.session().name(), None);
    /// ```
    pub fn name(&self) -> Option<&str> {
        self.owner.name.as_deref()
    }

    /// Returns the number of keys that the session holds.
    ///
    /// # Examples
    /// ```
    /// let table: latchwork::LockTable<str> = latchwork::LockTable::new();
    /// let mut session = table.session();
    /// session.lock("a")?;
    /// session.lock_shared("a")?; // the same key
    /// assert_eq!(session.len(), 1);
    /// # Ok::<_, latchwork::session::LockError>(())
    /// ```
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Returns whether the session holds no key.
    ///
    /// # Examples
    /// ```
    /// let table: latchwork::LockTable<str> = latchwork::LockTable::new();
    /// let mut session = table.session();
    /// assert!(session.is_empty());
    /// session.lock("a")?;
    /// assert!(!session.is_empty());
    /// # Ok::<_, latchwork::session::LockError>(())
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Releases all keys and all savepoints. The session remains usable and keeps its age.
    ///
    /// # Blocking
    /// Never blocks.
    ///
    /// # Panics
    /// Panics if a waker that receives a key panics. The remaining keys are released when the
    /// session is dropped.
    ///
    /// # Examples
    /// ```
    /// let table: latchwork::LockTable<str> = latchwork::LockTable::new();
    /// let mut session = table.session();
    /// session.lock("a")?;
    /// session.lock("b")?;
    /// session.release_all();
    /// assert_eq!(table.locked_count(), 0);
    /// session.lock("a")?; // the session remains usable
    /// # Ok::<_, latchwork::session::LockError>(())
    /// ```
    pub fn release_all(&mut self) {
        self.settle();
        self.savepoints.clear();
        // The record first, then the act: should a waker panic, the graph is correct [D1].
        if core::mem::take(&mut self.announced) {
            let id = self.owner.id;
            drop(self.table.detector.with(|waits| waits.graph.exit(id)));
        }
        while let Some((hash, mode, taken)) = self.held.pop() {
            self.pass_on(hash, mode, taken);
        }
        if self.turn {
            self.end_turn();
        }
    }

    #[inline(always)]
    fn need(&mut self, hash: u64, mode: Mode) -> Need {
        self.settle();
        match self.held.get(hash) {
            Some(hold) if hold.mode >= mode => Need::Nothing,
            Some(_) => Need::Upgrade,
            None => Need::Lock,
        }
    }

    /// Acquires a free key, unless the policy or a deadlock requires the slow path.
    #[inline(always)]
    fn try_take(&mut self, want: Held) -> bool {
        let taken = self.policy != Policy::WaitDie
            && !self.announced
            && !self.lost
            && self.table.raw().try_lock(want.hash, want.mode);
        if taken {
            self.take(want);
        }
        taken
    }

    /// Records that the session holds a key from now on.
    #[inline(always)]
    fn take(&mut self, held: Held) {
        let taken = self.tick();
        self.held.push(Hold {
            hash: held.hash,
            mode: held.mode,
            taken,
            upgraded: None,
            at: held.at,
        });
    }

    /// Records that a key that was shared is exclusive from now on.
    fn upgraded(&mut self, held: Held) {
        let now = self.tick();
        let hold = self.held.get_mut(held.hash).expect("it is held shared");
        hold.mode = Mode::Exclusive;
        hold.at = held.at;
        hold.upgraded = Some(now);
    }

    /// Advances the clock of the session and returns its value.
    #[inline(always)]
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// Ends a wait that a forgotten future has left.
    #[inline(always)]
    fn settle(&mut self) {
        if self.pending.is_some() {
            self.abandon();
        }
    }

    #[inline(always)]
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
    /// Returns the mode in which the session holds `key`, or `None` if it does not hold the key.
    ///
    /// # Panics
    /// Panics if the hasher panics.
    ///
    /// # Examples
    /// ```
    /// use latchwork::{LockTable, Mode};
    /// let table: LockTable<str> = LockTable::new();
    /// let mut session = table.session();
    /// session.lock_shared("a")?;
    /// assert_eq!(session.mode("a"), Some(Mode::Shared));
    /// assert_eq!(session.mode("b"), None);
    /// # Ok::<_, latchwork::session::LockError>(())
    /// ```
    pub fn mode<Q>(&self, key: &Q) -> Option<Mode>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        let hold = self.held.get(self.table.hash(key))?;
        Some(hold.mode)
    }

    /// Releases `key`, however often it was locked. Returns whether the session held the key.
    ///
    /// # Blocking
    /// Never blocks.
    ///
    /// # Panics
    /// Panics if the hasher panics. Panics if a waker that receives the key panics; the key is
    /// released all the same.
    ///
    /// # Examples
    /// ```
    /// let table: latchwork::LockTable<str> = latchwork::LockTable::new();
    /// let mut session = table.session();
    /// session.lock("a")?;
    /// session.lock("a")?;
    /// assert!(session.unlock("a")); // once is enough
    /// assert!(!session.unlock("a"));
    /// # Ok::<_, latchwork::session::LockError>(())
    /// ```
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
        /// Continues where a waker has panicked.
        struct Rest<'a, 't, K: ?Sized, S>(&'a mut Session<'t, K, S>);
        impl<K: ?Sized, S> Drop for Rest<'_, '_, K, S> {
            fn drop(&mut self) {
                while self.0.pending.is_some()
                    || !self.0.is_empty()
                    || self.0.announced
                    || self.0.turn
                {
                    // One panic propagates already, and a second one would abort the process.
                    let rest = catch_unwind(AssertUnwindSafe(|| self.0.release_all()));
                    rest.unwrap_or_else(discard);
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
