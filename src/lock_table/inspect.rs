//! Reads the state of a table without locking a key.
#![allow(unsafe_code)]

use core::fmt;
use core::mem::size_of;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "console")]
use super::busiest::Busy;
use super::index::{Child, Leaf, RawTable, Walk, child_ref, monitor_at};
use super::monitor::Monitor;
use super::sessions::Sessions;
use super::slot::Slot;
use super::{KeyId, TableStats};
use crate::reclaim::Pin;
use crate::sync::recently;
use crate::waits_for::{Owner, OwnerKind};
use crate::word::{Kind, Mode, SlotWord, State};

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
    fn of(monitor: &Monitor) -> Option<Self> {
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

/// The content of a slot, without the words of the child.
enum Found<'p> {
    Inline(SlotWord, u64),
    Monitor(&'p Monitor),
    Child,
}

impl RawTable {
    /// Calls `f` with each word in use. A word that is moved concurrently may be seen twice or not
    /// at all.
    fn visit(&self, mut f: impl FnMut(Found<'_>)) {
        fn go(slots: &[Slot], root: Option<usize>, pin: &Pin, f: &mut impl FnMut(Found<'_>)) {
            for (i, slot) in slots.iter().enumerate() {
                let root = root.unwrap_or(i);
                let word = slot.load().thawed();
                match word.kind() {
                    Kind::Empty => {}
                    Kind::Inline => f(Found::Inline(word, word.hash_beside(root as u64))),
                    // SAFETY: loaded under the pin [S5].
                    Kind::Monitor => f(Found::Monitor(unsafe { &*monitor_at(word).cast_const() })),
                    Kind::Child => {
                        f(Found::Child);
                        // SAFETY: loaded under the pin.
                        let child = unsafe { child_ref(word, pin) };
                        go(&child.slots, Some(root), pin, f);
                    }
                }
            }
        }
        go(self.root(), None, &self.domain.pin(), &mut f);
    }

    pub(super) fn locked_count(&self) -> usize {
        let mut held = 0;
        self.visit(|found| {
            held += usize::from(match found {
                Found::Inline(..) => true,
                Found::Monitor(monitor) => monitor.peek().is_held(),
                Found::Child => false,
            });
        });
        held
    }

    pub(super) fn stats(&self) -> TableStats {
        let mut stats = TableStats {
            waits: self.statistics.waits.get(),
            inflations: self.statistics.inflations.get(),
            longest_wait: Duration::from_nanos(self.statistics.longest_wait.get()),
            waiting: 0,
            waiting_sessions: 0,
            waiting_sets: 0,
            oldest_waiter: Duration::ZERO,
            index_bytes: size_of_val(self.root()),
            token_bytes: self.token_bytes(),
            monitors: 0,
            deadlocks: 0,
        };
        let now = recently();
        self.visit(|found| match found {
            Found::Inline(..) => {}
            Found::Monitor(monitor) => {
                monitor.for_each_waiter(|waiter| {
                    stats.waiting += 1;
                    match waiter.owner().map(|owner| owner.kind) {
                        Some(OwnerKind::Session) => stats.waiting_sessions += 1,
                        Some(OwnerKind::Set { .. }) => stats.waiting_sets += 1,
                        None => {}
                    }
                    let waited = now.saturating_sub(waiter.since());
                    stats.oldest_waiter = stats.oldest_waiter.max(Duration::from_nanos(waited));
                });
                stats.monitors += 1;
                stats.index_bytes += size_of::<Monitor>();
            }
            Found::Child => stats.index_bytes += size_of::<Child>(),
        });
        stats
    }

    /// Returns the locks without labels. Of the known holders, only those that upgrade are
    /// included.
    pub(super) fn inspect(&self) -> Vec<LockInfo> {
        let mut locks = Vec::new();
        self.visit(|found| match found {
            Found::Inline(word, hash) => locks.push(LockInfo {
                key_id: KeyId(hash),
                label: None,
                mode: Some(word.mode()),
                holders: word.readers().max(1),
                known_holders: Vec::new(),
                waiters: Vec::new(),
            }),
            Found::Monitor(monitor) => locks.extend(LockInfo::of(monitor)),
            Found::Child => {}
        });
        locks
    }

    /// Returns the number of held keys and the keys with waiters, without labels, each with the
    /// nanoseconds for which it has been held since its first waiter queued. Of the known holders,
    /// only those that upgrade are included.
    #[cfg(feature = "console")]
    fn contended(&self) -> (usize, Vec<(LockInfo, u64)>) {
        let mut held = 0;
        let mut contended = Vec::new();
        self.visit(|found| match found {
            Found::Inline(..) => held += 1,
            Found::Monitor(monitor) => {
                held += usize::from(monitor.peek().is_held());
                let lock = LockInfo::of(monitor).filter(|lock| !lock.waiters.is_empty());
                contended.extend(lock.map(|lock| (lock, monitor.hold_clock.elapsed())));
            }
            Found::Child => {}
        });
        (held, contended)
    }

    /// See [`busiest`](super::busiest).
    #[cfg(feature = "console")]
    fn busiest(&self) -> Vec<Busy> {
        self.statistics.busiest.all()
    }

    pub(super) fn mode(&self, hash: u64) -> Option<Mode> {
        let mut walk = Walk::new(self, hash);
        match walk.leaf() {
            Leaf::Empty | Leaf::Other(_) => None,
            Leaf::Own(word) => Some(word.mode()),
            Leaf::Monitor(word) => {
                let monitor = walk.monitor(word);
                (monitor.hash() == hash)
                    .then(|| monitor.peek())
                    .and_then(State::mode)
            }
        }
    }
}

impl Sessions {
    /// Adds the holders that the graph records, and the labels, which user code makes.
    pub(super) fn explain(&self, locks: &mut [LockInfo], names: Names) {
        let places: HashMap<u64, usize> = locks
            .iter()
            .enumerate()
            .map(|(i, lock)| (lock.key_id.0, i))
            .collect();
        self.with(|waits| {
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
                lock.label = self.label(lock.key_id);
            }
        }
    }
}

/// The state of a table that a console reports.
#[cfg(feature = "console")]
#[derive(Debug)]
pub(crate) struct Survey {
    pub(crate) stats: TableStats,
    pub(crate) held: usize,
    /// The number of keys with waiters.
    pub(crate) contended: usize,
    /// Those of them that were waited for longest, with the nanoseconds for which each has been
    /// held since its first waiter queued.
    pub(crate) keys: Vec<(LockInfo, u64)>,
    /// The keys with the most waits, each with its label.
    pub(crate) busiest: Vec<(Busy, Option<String>)>,
}

#[cfg(feature = "console")]
impl<K: ?Sized, S> super::LockTable<K, S> {
    /// Returns the state of the table with the `limit` keys that are contended most.
    ///
    /// Labels are made for the keys that are returned, and only with `Names::Shown`.
    pub(crate) fn survey(&self, limit: usize, names: Names) -> Survey {
        let (held, mut found) = self.raw.contended();
        let contended = found.len();
        let oldest = |lock: &LockInfo| lock.waiters.iter().map(|waiter| waiter.waited).max();
        found.sort_by_cached_key(|(lock, _)| {
            let waits = (lock.waiters.len(), oldest(lock));
            (core::cmp::Reverse(waits), lock.key_id)
        });
        found.truncate(limit);
        let (mut locks, times): (Vec<_>, Vec<_>) = found.into_iter().unzip();
        self.sessions.explain(&mut locks, names);
        let mut busiest = self.raw.busiest();
        busiest.truncate(limit);
        let label = |busy: &Busy| match names {
            Names::Shown => self.sessions.label(KeyId(busy.hash)),
            Names::Hidden => None,
        };
        Survey {
            stats: self.stats(),
            held,
            contended,
            keys: locks.into_iter().zip(times).collect(),
            busiest: busiest
                .into_iter()
                .map(|busy| (busy, label(&busy)))
                .collect(),
        }
    }
}
