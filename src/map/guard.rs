//! Locked keys of a map, as their holder sees them.

use core::fmt;
use core::hash::{BuildHasher, Hash};
use std::borrow::Borrow;
use std::sync::Arc;
use std::time::Duration;

use super::VersionedMap;
use super::locked::{Entries, Held, collect, find, of_hash};
use crate::RandomState;
use crate::cell::Version;
use crate::hash::IntegerHasher;
use crate::lock_table::{ExclusiveGuard, LockSet};
use crate::reclaim;
use crate::session::{LockError, Policy, Session};

/// Holds one key of a [`VersionedMap`], with a draft of its value.
///
/// Returned by [`VersionedMap::lock`] and its try, timed and async forms. No other thread writes
/// the key, removes it or inserts it while the guard exists. [`commit`](Self::commit) publishes the
/// draft; a guard that is dropped discards it, including in a panic and when a future that owns it
/// is cancelled.
///
/// The guard pins nothing. It may be sent to another thread, dropped there, and kept across an
/// `.await`. If it is forgotten ([`core::mem::forget`]), the key stays locked for as long as the
/// map exists, the draft leaks, and nothing else happens.
///
/// # Examples
/// ```
/// let map: latchwork::VersionedMap<String, Vec<u32>> = Default::default();
/// map.insert("a".into(), vec![1]);
/// let mut guard = map.lock("a");
/// guard.value_mut().unwrap().push(2);
/// let version = guard.commit();
/// assert_eq!((map.version("a"), map.get("a").unwrap().len()), (version, 2));
/// ```
#[must_use = "the key is unlocked at once if the guard is not used"]
pub struct EntryGuard<'m, K, V, S = RandomState>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    map: &'m VersionedMap<K, V, S>,
    held: Held<K, V>,
    /// Released after the entry is unlocked. `None`: the lock is thin.
    lock: Option<ExclusiveGuard<'m>>,
}

macro_rules! draft {
    (($($generics:tt)*), $type:ty) => {
        impl<$($generics)*> $type
        where
            K: Send + Sync + 'static,
            V: Send + Sync + 'static,
        {
            /// Returns the key that the map has.
            pub fn key(&self) -> &K {
                self.held.key()
            }

            /// Returns the draft, or the committed value if there is no draft. `None`: the key is
            /// absent, or will be removed.
            pub fn get(&self) -> Option<&V> {
                self.held.get()
            }

            /// Returns the version of the committed value, without regard to the draft. `None`: the
            /// key is absent.
            pub fn version(&self) -> Option<Version> {
                self.held.version()
            }

            /// Replaces the draft by a value.
            pub fn set(&mut self, value: V) {
                self.held.set(value);
            }

            /// Returns the value of the draft, which is a clone of the committed value if there was
            /// no draft. `None`: the key is absent, or will be removed.
            pub fn value_mut(&mut self) -> Option<&mut V>
            where
                V: Clone,
            {
                self.held.value_mut()
            }

            /// Replaces the draft by a removal. Returns whether the key had a value or a draft of
            /// one.
            pub fn remove(&mut self) -> bool {
                self.held.remove()
            }
        }
    };
}

draft!(('m, K, V, S), EntryGuard<'m, K, V, S>);
draft!(('g, K, V), EntryRef<'g, K, V>);

impl<'m, K, V, S> EntryGuard<'m, K, V, S>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    pub(super) fn new(
        map: &'m VersionedMap<K, V, S>,
        held: Held<K, V>,
        lock: Option<ExclusiveGuard<'m>>,
    ) -> Self {
        EntryGuard { map, held, lock }
    }

    /// Publishes the draft, unlocks the key, and returns the new version. `None`: nothing was
    /// written, because there was no draft, or because an absent key was removed.
    ///
    /// Never fails: no other thread has written the key since it was locked.
    ///
    /// # Panics
    /// Panics if the waker of a task that waits for the key panics. The draft was published then,
    /// and the key is unlocked.
    ///
    /// # Examples
    /// See [`EntryGuard`].
    #[allow(clippy::must_use_candidate, reason = "the version is seldom needed")]
    pub fn commit(self) -> Option<Version> {
        let EntryGuard { map, held, lock } = self;
        reclaim::with(|local| {
            let version = held.publish(map, local);
            drop(lock);
            local.collect_some();
            version
        })
    }
}

impl<K, V, S> fmt::Debug for EntryGuard<'_, K, V, S>
where
    K: Send + Sync + fmt::Debug + 'static,
    V: Send + Sync + fmt::Debug + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EntryGuard")
            .field("key", self.key())
            .field("value", &self.get())
            .finish_non_exhaustive()
    }
}

/// One key of an [`EntrySet`] or an [`EntrySession`], with the draft of its value.
///
/// # Examples
/// See [`VersionedMap::lock_all`].
pub struct EntryRef<'g, K, V>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    held: &'g mut Held<K, V>,
}

impl<K, V> fmt::Debug for EntryRef<'_, K, V>
where
    K: Send + Sync + fmt::Debug + 'static,
    V: Send + Sync + fmt::Debug + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EntryRef")
            .field("key", self.key())
            .field("value", &self.get())
            .finish_non_exhaustive()
    }
}

/// Holds several keys of a [`VersionedMap`], with drafts of their values.
///
/// Returned by [`VersionedMap::lock_all`]. A set that is dropped discards its drafts.
///
/// # Examples
/// See [`VersionedMap::lock_all`].
#[must_use = "the keys are unlocked at once if the set is not used"]
pub struct EntrySet<'m, K, V, S = RandomState>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    map: &'m VersionedMap<K, V, S>,
    pub(super) entries: Entries<K, V>,
    /// Released after the entries are unlocked.
    locks: LockSet<'m, u64, IntegerHasher>,
}

impl<'m, K, V, S> EntrySet<'m, K, V, S>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    pub(super) fn new(
        map: &'m VersionedMap<K, V, S>,
        locks: LockSet<'m, u64, IntegerHasher>,
    ) -> Self {
        EntrySet {
            map,
            entries: Entries::new(),
            locks,
        }
    }

    pub(super) fn add(&mut self, held: Held<K, V>) {
        self.entries.insert(held.id(), held);
    }

    /// Returns the number of distinct keys.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether the set has no key.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Publishes the drafts, each by itself, unlocks the keys, and returns how many keys were
    /// written.
    ///
    /// A reader may see one key written and another one not yet. Use a
    /// [transaction](crate::atomically) where that matters.
    ///
    /// # Panics
    /// Panics if the waker of a task that waits for a key panics. The drafts of some keys were
    /// published then, those of the others are discarded, and all keys are unlocked.
    ///
    /// # Examples
    /// See [`VersionedMap::lock_all`].
    pub fn commit(self) -> usize {
        let EntrySet {
            map,
            entries,
            locks,
        } = self;
        let written = publish_all(map, entries);
        drop(locks);
        collect();
        written
    }
}

impl<K, V, S> EntrySet<'_, K, V, S>
where
    K: Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: BuildHasher,
{
    /// Returns a key of the set. `None`: the set does not hold it.
    ///
    /// # Examples
    /// See [`VersionedMap::lock_all`].
    pub fn entry<Q>(&mut self, key: &Q) -> Option<EntryRef<'_, K, V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let held = find(&mut self.entries, self.map.hash(key), key)?;
        Some(EntryRef { held })
    }
}

impl<K, V, S> fmt::Debug for EntrySet<'_, K, V, S>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EntrySet")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// One owner of many locked keys of a [`VersionedMap`], which it locks one by one.
///
/// Returned by [`VersionedMap::session`]. The session has a draft for each key, and publishes all
/// of them in [`commit`](Self::commit). A session that is dropped discards its drafts.
///
/// # Deadlocks
/// Deadlocks between the sessions of a map are detected, as those of a
/// [`Session`](crate::Session).
///
/// # Examples
/// See [`VersionedMap::session`].
#[must_use = "a session that is dropped at once locks no key"]
pub struct EntrySession<'m, K, V, S = RandomState>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    map: &'m VersionedMap<K, V, S>,
    entries: Entries<K, V>,
    /// Released after the entries are unlocked.
    session: Session<'m, u64, IntegerHasher>,
}

impl<'m, K, V, S> EntrySession<'m, K, V, S>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    pub(super) fn new(
        map: &'m VersionedMap<K, V, S>,
        session: Session<'m, u64, IntegerHasher>,
    ) -> Self {
        EntrySession {
            map,
            entries: Entries::new(),
            session,
        }
    }

    fn configure(
        self,
        change: impl FnOnce(Session<'m, u64, IntegerHasher>) -> Session<'m, u64, IntegerHasher>,
    ) -> Self {
        EntrySession {
            session: change(self.session),
            ..self
        }
    }

    /// Sets the name of the session, which reports print.
    pub fn named(self, name: impl Into<Arc<str>>) -> Self {
        self.configure(|session| session.named(name))
    }

    /// Sets how the session reacts to a key that another owner holds, [`Policy::Detect`] by
    /// default.
    ///
    /// With every policy, including [`Policy::NoWait`], a lock waits while a transaction that has
    /// escalated owns the key.
    pub fn policy(self, policy: Policy) -> Self {
        self.configure(|session| session.policy(policy))
    }

    /// Sets how long the session waits before it searches for a deadlock. See
    /// [`Session::detect_after`].
    pub fn detect_after(self, time: Duration) -> Self {
        self.configure(|session| session.detect_after(time))
    }

    /// Returns the number of keys that the session holds.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether the session holds no key.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Publishes the drafts, each by itself, unlocks the keys, and returns how many keys were
    /// written. The session may lock again.
    ///
    /// A reader may see one key written and another one not yet.
    ///
    /// # Panics
    /// Panics as [`EntrySet::commit`] does.
    ///
    /// # Examples
    /// See [`VersionedMap::session`].
    #[allow(clippy::must_use_candidate, reason = "the number is seldom needed")]
    pub fn commit(&mut self) -> usize {
        let released = Released(&mut self.session);
        let written = publish_all(self.map, core::mem::take(&mut self.entries));
        drop(released);
        collect();
        written
    }

    /// Discards the drafts, and unlocks the keys. The session may lock again.
    ///
    /// # Panics
    /// Panics if the destructor of a draft panics, or the waker of a task that waits for a key. All
    /// keys are unlocked then.
    pub fn discard(&mut self) {
        let _released = Released(&mut self.session);
        self.entries.clear();
    }
}

/// Releases the hashes of a session, also as a panic passes.
struct Released<'s, 'm>(&'s mut Session<'m, u64, IntegerHasher>);

impl Drop for Released<'_, '_> {
    fn drop(&mut self) {
        self.0.release_all();
    }
}

impl<K, V, S> EntrySession<'_, K, V, S>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: BuildHasher,
{
    /// Locks a key, and returns it with its draft. A key that the session holds keeps its draft.
    ///
    /// # Blocking
    /// Blocks the thread until no other owner holds the key, or until the policy ends the wait.
    ///
    /// # Errors
    /// Returns a [`LockError`] as [`Session::lock`] does. The session holds the same keys as
    /// before: [discard](Self::discard) them, and retry.
    ///
    /// # Panics
    /// Panics as [`VersionedMap::lock`] does.
    ///
    /// # Examples
    /// See [`VersionedMap::session`].
    #[cfg_attr(any(debug_assertions, feature = "lock-places"), track_caller)]
    pub fn lock<Q>(&mut self, key: &Q) -> Result<EntryRef<'_, K, V>, LockError>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let hash = self.map.hash(key);
        if find(&mut self.entries, hash, key).is_none() {
            if self.is_empty() {
                collect();
            }
            self.session.lock(&hash)?;
            let policy = self.session.chosen_policy();
            let held = self.map.hold_key_of_session(hash, key, policy);
            let held = held.inspect_err(|_| {
                // Another key that the session holds may have the same hash.
                if of_hash(&mut self.entries, hash).next().is_none() {
                    self.session.unlock(&hash);
                }
            })?;
            self.entries.insert(held.id(), held);
        }
        let held = find(&mut self.entries, hash, key).expect("it was locked");
        Ok(EntryRef { held })
    }

    /// Returns a key that the session holds.
    pub fn entry<Q>(&mut self, key: &Q) -> Option<EntryRef<'_, K, V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let held = find(&mut self.entries, self.map.hash(key), key)?;
        Some(EntryRef { held })
    }
}

impl<K, V, S> fmt::Debug for EntrySession<'_, K, V, S>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EntrySession")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

/// Publishes the drafts, and returns how many there were.
fn publish_all<K, V, S>(map: &VersionedMap<K, V, S>, entries: Entries<K, V>) -> usize
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    reclaim::with(|local| {
        let published = entries.into_values().map(|held| held.publish(map, local));
        published.flatten().count()
    })
}
