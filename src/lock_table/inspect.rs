//! Reads the state of a table without locking a key.

use core::fmt;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::key::KeyId;
use super::raw::{Content, Monitor, RawTable};
use super::table::LockTable;
use crate::deadlock::{Owner, OwnerKind};
use crate::sync::recently;
use crate::word::Mode;

/// The number of a session: a later session has a greater number.
///
/// It is unique within a table. A waiting set of [`lock_all`](crate::LockTable::lock_all) also has
/// one.
///
/// # Examples
/// ```
/// let table: latchwork::LockTable<u64> = latchwork::LockTable::new();
/// assert!(table.session().id() < table.session().id());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub(crate) u64);

impl SessionId {
    /// Returns the number, which is at least 1.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// A session, or a set of [`lock_all`](crate::LockTable::lock_all), that holds a key or waits for
/// one.
///
/// Part of [`LockInfo`].
///
/// # Examples
/// ```
/// let table: latchwork::LockTable<u64> = latchwork::LockTable::new();
/// let guard = table.lock(&1);
/// let mut session = table.session().named("checkout-17");
/// let mut future = session.lock_async(&1);
/// let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
/// assert!(std::future::Future::poll(std::pin::Pin::new(&mut future), &mut cx).is_pending());
/// let owner = table.inspect()[0].waiters[0].owner.clone().unwrap();
/// assert_eq!(owner.to_string(), format!("checkout-17 ({})", owner.id));
/// # drop(future); drop(guard);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OwnerInfo {
    /// Whether the owner is a session or a set.
    pub kind: OwnerKind,
    /// The number of the session or of the set, which no other session of the table has. A set has
    /// a new number for each of its waits.
    pub id: SessionId,
    /// The [name](crate::Session::named) of the session, if it has one.
    pub name: Option<Arc<str>>,
}

impl OwnerInfo {
    fn of(owner: &Owner) -> Self {
        OwnerInfo {
            kind: owner.kind,
            id: SessionId(owner.number()),
            name: owner.name.clone(),
        }
    }

    pub(crate) fn write(
        f: &mut fmt::Formatter<'_>,
        kind: OwnerKind,
        id: SessionId,
        name: Option<&str>,
    ) -> fmt::Result {
        match (kind, name) {
            (OwnerKind::Session, Some(name)) => write!(f, "{name} ({id})"),
            (OwnerKind::Session, None) => write!(f, "session {id}"),
            (OwnerKind::Set { keys: 1 }, _) => write!(f, "set of 1 key ({id})"),
            (OwnerKind::Set { keys }, _) => write!(f, "set of {keys} keys ({id})"),
        }
    }
}

impl fmt::Display for OwnerInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Self::write(f, self.kind, self.id, self.name.as_deref())
    }
}

/// Whether a report contains labels of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    Shown,
    #[cfg(feature = "console")]
    Hidden,
}

/// A key that is held or waited for. Returned by [`LockTable::inspect`](super::LockTable::inspect).
///
/// Its [`Display`](fmt::Display) form has one line for the key and one for each waiter.
///
/// # Examples
/// ```
/// let table: latchwork::LockTable<u64> = latchwork::LockTable::new();
/// let guard = table.lock_shared(&1);
/// for lock in table.inspect() {
///     // "key …: held shared by 1 holder (unknown)", and a line for each waiter
///     println!("{lock}");
/// }
/// # drop(guard);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockInfo {
    /// The identity of the key.
    pub key_id: KeyId,
    /// The label of the key, from [`key_labels`](crate::table::LockTableBuilder::key_labels).
    pub label: Option<String>,
    /// The mode in which the key is held, or `None` if it is free for a woken waiter.
    pub mode: Option<Mode>,
    /// The number of holders.
    pub holders: u64,
    /// The holders that are known. They are:
    /// - sessions and sets that wait for another key and have published their keys
    ///   ([when](crate::Session::detect_after));
    /// - sessions under [`Policy::WaitDie`](crate::session::Policy::WaitDie);
    /// - sessions that upgrade this key.
    ///
    /// Guards, sets that have all their keys, and sessions that have not waited are unknown.
    pub known_holders: Vec<OwnerInfo>,
    /// The waiters, in the order in which they will be granted the key.
    pub waiters: Vec<WaiterInfo>,
}

/// A waiter of a key. Part of [`LockInfo`].
///
/// # Examples
/// ```
/// let table: latchwork::LockTable<u64> = latchwork::LockTable::new();
/// let guard = table.lock(&1);
/// let mut future = Box::pin(table.lock_async(&1));
/// let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
/// assert!(std::future::Future::poll(future.as_mut(), &mut cx).is_pending());
/// let waiter = &table.inspect()[0].waiters[0];
/// assert_eq!(waiter.mode, latchwork::Mode::Exclusive);
/// # drop((guard, future));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WaiterInfo {
    /// The mode that it requests.
    pub mode: Mode,
    /// The time since it was queued, to within a few microseconds.
    pub waited: Duration,
    /// The session or the set that waits, as soon as it is queued. It is `None` for a lock of one
    /// key.
    pub owner: Option<OwnerInfo>,
    /// Whether it is a session that holds the key shared and upgrades to an exclusive lock.
    pub upgrades: bool,
}

impl LockInfo {
    /// Returns the lock of a monitor without its label, or `None` if it has neither a holder nor a
    /// waiter. Of the known holders, only one that upgrades is included.
    pub(super) fn of(monitor: &Monitor) -> Option<Self> {
        let mut waiters = Vec::new();
        let mut known_holders = Vec::new();
        let now = recently();
        monitor.for_each_waiter(|waiter| {
            // The mutex of the queue is held, and the mark changes under it alone [M12].
            let upgrades = waiters.is_empty() && monitor.peek().has_upgrader();
            let owner = waiter.owner().map(OwnerInfo::of);
            if upgrades {
                known_holders.extend(owner.clone());
            }
            waiters.push(WaiterInfo {
                mode: waiter.mode(),
                waited: Duration::from_nanos(now.saturating_sub(waiter.since())),
                owner,
                upgrades,
            });
        });
        let state = monitor.peek();
        (state.is_held() || !waiters.is_empty()).then(|| LockInfo {
            key_id: KeyId(monitor.hash()),
            label: None,
            mode: state.mode(),
            holders: state.holders(),
            known_holders,
            waiters,
        })
    }
}

impl fmt::Display for LockInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.label {
            Some(label) => f.write_str(label)?,
            None => write!(f, "key {}", self.key_id)?,
        }
        let adverb = |mode| match mode {
            Mode::Exclusive => "exclusively",
            Mode::Shared => "shared",
        };
        match self.mode {
            None => f.write_str(": free")?,
            Some(mode) => {
                let plural = if self.holders == 1 { "" } else { "s" };
                let holders = self.holders;
                write!(f, ": held {} by {holders} holder{plural} (", adverb(mode))?;
                for (i, owner) in self.known_holders.iter().enumerate() {
                    write!(f, "{}{owner}", if i == 0 { "" } else { ", " })?;
                }
                let unknown = holders.saturating_sub(self.known_holders.len() as u64);
                match (unknown, self.known_holders.is_empty()) {
                    (0, _) => f.write_str(")")?,
                    (1, true) => f.write_str("unknown)")?,
                    (n, true) => write!(f, "{n} unknown)")?,
                    (n, false) => write!(f, ", {n} unknown)")?,
                }
            }
        }
        for waiter in &self.waiters {
            f.write_str("\n  ")?;
            match &waiter.owner {
                Some(owner) => write!(f, "{owner}")?,
                None => f.write_str("a lock of one key")?,
            }
            let verb = if waiter.upgrades { "upgrades" } else { "waits" };
            let mode = adverb(waiter.mode);
            write!(f, " {verb} to hold it {mode}, for {:?}", waiter.waited)?;
        }
        Ok(())
    }
}

/// Returns the locks without labels. Of the known holders, only those that upgrade are
/// included.
fn locks_of(table: &RawTable) -> Vec<LockInfo> {
    let mut locks = Vec::new();
    table.visit(|found| match found {
        Content::Inline(word, hash) => locks.push(LockInfo {
            key_id: KeyId(hash),
            label: None,
            mode: Some(word.mode()),
            holders: word.readers().max(1),
            known_holders: Vec::new(),
            waiters: Vec::new(),
        }),
        Content::Monitor(monitor) => locks.extend(LockInfo::of(monitor)),
        Content::Child => {}
    });
    locks
}

impl<K: ?Sized, S> LockTable<K, S> {
    /// Returns the number of keys that are held now, in either mode.
    ///
    /// The count is weakly consistent: it reads one slot after another, while other threads lock
    /// and unlock. A key that is held until it returns counts once. It takes time in proportion to
    /// the size of the table.
    ///
    /// # Blocking
    /// Never blocks.
    pub fn locked_count(&self) -> usize {
        let mut held = 0;
        self.raw.visit(|found| {
            held += usize::from(match found {
                Content::Inline(..) => true,
                Content::Monitor(monitor) => monitor.peek().is_held(),
                Content::Child => false,
            });
        });
        held
    }

    /// Returns the keys that are held or waited for, each with its waiters.
    ///
    /// The waiters are in the order in which they will be granted.
    ///
    /// The keys are in no order. Each is named by its identity and its
    /// [label](super::LockTableBuilder::key_labels). The [`Display`](fmt::Display) form of a
    /// [`LockInfo`] is for people to read.
    ///
    /// A waiting session or set is named as soon as it is queued, with or without a deadlock. Among
    /// the holders, only the [known holders](LockInfo::known_holders) are named: the table does not
    /// record which thread has a guard.
    ///
    /// The result is weakly consistent: keys, waiters and known holders are read one after another,
    /// while other threads lock and unlock. A key that is held until it returns is listed once,
    /// including while keys move to a larger or smaller root. It takes time in proportion to the
    /// size of the table, as [`locked_count`](Self::locked_count) does.
    ///
    /// # Blocking
    /// Blocks only briefly: it locks the queue of each contended key while it copies the waiters.
    ///
    /// # Panics
    /// Never panics because of a label: if the label function panics, that key has no label.
    ///
    /// # Examples
    /// ```
    /// use latchwork::{LockTable, Mode};
    /// let table: LockTable<str> = LockTable::new();
    /// let guard = table.lock("a");
    /// let all = table.inspect();
    /// assert_eq!(all[0].key_id, table.key_id("a"));
    /// assert_eq!((all[0].mode, all[0].holders), (Some(Mode::Exclusive), 1));
    /// assert!(all[0].waiters.is_empty());
    /// # drop(guard);
    /// ```
    pub fn inspect(&self) -> Vec<LockInfo> {
        let mut locks = locks_of(&self.raw);
        self.explain(&mut locks, Names::Shown);
        locks
    }
}

impl<K: ?Sized, S> fmt::Debug for LockTable<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockTable")
            .field("locked_count", &self.locked_count())
            .finish_non_exhaustive()
    }
}

impl<K: ?Sized, S> LockTable<K, S> {
    /// Adds the holders that the graph records, and the labels, which user code makes.
    pub(super) fn explain(&self, locks: &mut [LockInfo], names: Names) {
        let places: HashMap<u64, usize> = locks
            .iter()
            .enumerate()
            .map(|(i, lock)| (lock.key_id.0, i))
            .collect();
        self.detector.with(|waits| {
            waits.graph.for_each_hold(|owner, hash| {
                let Some(lock) = places.get(&hash).and_then(|i| locks.get_mut(*i)) else {
                    return;
                };
                // Under `WaitDie`, a session publishes a key before it holds it. It is a waiter
                // then.
                let id = SessionId(owner.number());
                let is = |other: &OwnerInfo| other.id == id;
                let mut waiters = lock.waiters.iter();
                let waits = waiters.any(|waiter| waiter.owner.as_ref().is_some_and(is));
                if lock.mode.is_some() && !waits && !lock.known_holders.iter().any(is) {
                    lock.known_holders.push(OwnerInfo::of(owner));
                }
            });
        });
        for lock in locks {
            lock.known_holders.sort_by_key(|owner| owner.id);
            if names == Names::Shown {
                lock.label = self.detector.label(lock.key_id.0);
            }
        }
    }
}
