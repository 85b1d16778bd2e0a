//! Writes of one key: steps 3, 4 and 6.
#![allow(unsafe_code)]

use core::hash::{BuildHasher, Hash};
use core::ptr::NonNull;
use std::borrow::Borrow;

use super::entry::{Entry, First};
use super::index::{New, Search};
use super::{MapConflict, Occupied, VersionedMap};
use crate::cell::patience::{Lost, Patience};
use crate::cell::{
    Current, Header, Node, NodeRef, Owned, RetryPolicy, UpdateError, Version, Versioned, Word,
    waiters,
};
use crate::mvcc::Pinned;
use crate::reclaim::{self, CellPin, Local};

/// A completed write.
pub(super) struct Written {
    pub(super) version: Version,
    /// The node with the value before, if the key had one.
    pub(super) old: Option<NonNull<Header>>,
}

/// How one attempt to write a key that is present has ended.
enum Attempt<V, E> {
    Written(Written),
    /// The key is absent.
    Absent,
    Refused(E),
    /// Another thread was faster. The new value, unless the write is a removal.
    Lost(Option<V>, Lost),
}

/// How one attempt to write a key that may be absent has ended.
enum Put<K, V, E> {
    Written(Written),
    Refused(K, E),
    /// Another thread was faster.
    Lost(K, V, Lost),
}

impl<K, V, S> VersionedMap<K, V, S>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: BuildHasher,
{
    /// Inserts a value, and returns its version and the value that it replaces, which pins this
    /// thread.
    ///
    /// If the key has a value, the map keeps the key that it has, and drops `key`.
    ///
    /// # Blocking
    /// No write waits for another write, nor for the growth of the map. A write blocks the thread
    /// while a transaction that has escalated owns the key, as
    /// [`VersionedCell::set`](crate::VersionedCell::set) does.
    ///
    /// # Panics
    /// Panics if the hasher or `Eq` panics. Panics inside the closure of a transaction that owns
    /// the key: write through the [`Tx`](crate::Tx) instead. In debug builds, panics inside the
    /// closure of a transaction that has accessed the key. Panics if there is no memory for a
    /// larger table. All other writes panic in the same cases; the map is unchanged then.
    ///
    /// # Examples
    /// ```
    /// let map = latchwork::VersionedMap::new();
    /// let (version, old) = map.insert("a", 1);
    /// assert_eq!((version.get(), old.is_none()), (1, true));
    /// let (version, old) = map.insert("a", 2);
    /// assert_eq!((version.get(), old.map(|old| *old)), (2, Some(1)));
    /// ```
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn insert(&self, key: K, value: V) -> (Version, Option<Versioned<'_, V>>) {
        let hash = self.hash(&key);
        let mut patience = self.patience(hash);
        let (mut key, mut value) = (key, value);
        reclaim::with(|local| {
            local.collect_some();
            loop {
                let pin = local.pin();
                let put = self.put(local, &pin, &patience, hash, key, |_| Ok::<_, ()>(value));
                match put {
                    Put::Written(written) => return (written.version, written.old(pin)),
                    Put::Refused(..) => unreachable!("each attempt has a value"),
                    Put::Lost(k, v, lost) => {
                        drop(pin);
                        (key, value) = (k, v);
                        patience.step_back(lost);
                    }
                }
            }
        })
    }

    /// Inserts a value if the key is absent, and returns its version.
    ///
    /// # Blocking
    /// Blocks the thread as [`insert`](Self::insert) does. It does not wait if the key is present.
    ///
    /// # Errors
    /// Returns [`Occupied`] with the key and the value if the key has a value.
    ///
    /// # Panics
    /// Panics as [`insert`](Self::insert) does.
    ///
    /// # Examples
    /// ```
    /// let map = latchwork::VersionedMap::new();
    /// assert!(map.insert_if_absent("leader", "node 1").is_ok());
    /// let occupied = map.insert_if_absent("leader", "node 2").unwrap_err();
    /// assert_eq!((occupied.value, *map.get("leader").unwrap()), ("node 2", "node 1"));
    /// ```
    #[doc(alias = "putIfAbsent")]
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn insert_if_absent(&self, key: K, value: V) -> Result<Version, Occupied<K, V>> {
        let hash = self.hash(&key);
        let mut patience = self.patience(hash);
        let mut key = key;
        let mut kept = Some(value);
        reclaim::with(|local| {
            local.collect_some();
            loop {
                let pin = local.pin();
                let put = self.put(local, &pin, &patience, hash, key, |old| match old {
                    None => Ok(kept.take().expect("a failed attempt returns the value")),
                    Some(node) => Err(node.version()),
                });
                drop(pin);
                match put {
                    Put::Written(written) => return Ok(written.version),
                    Put::Refused(key, current) => {
                        let value = kept.expect("it was not used");
                        return Err(Occupied {
                            key,
                            value,
                            current,
                        });
                    }
                    Put::Lost(k, v, lost) => {
                        key = k;
                        kept = Some(v);
                        patience.step_back(lost);
                    }
                }
            }
        })
    }

    /// Replaces the value of a key by the result of `f`, or inserts `default` if the key is absent.
    /// Returns the version of the new value.
    ///
    /// `f` runs pinned, and again after each write of another thread in between.
    ///
    /// # Blocking
    /// Blocks the thread as [`insert`](Self::insert) does.
    ///
    /// # Panics
    /// Panics if `f` panics; nothing is written then. Panics as [`insert`](Self::insert) does.
    ///
    /// # Examples
    /// ```
    /// let words = latchwork::VersionedMap::new();
    /// for word in ["a", "b", "a"] {
    ///     words.upsert(word, 1, |n| n + 1);
    /// }
    /// assert_eq!((*words.get("a").unwrap(), *words.get("b").unwrap()), (2, 1));
    /// ```
    #[doc(alias = "merge")]
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn upsert(&self, key: K, default: V, mut f: impl FnMut(&V) -> V) -> Version {
        let hash = self.hash(&key);
        let mut patience = self.patience(hash);
        let mut key = key;
        let mut default = Some(default);
        reclaim::with(|local| {
            local.collect_some();
            loop {
                let pin = local.pin();
                let put = self.put(local, &pin, &patience, hash, key, |old| match old {
                    None => Ok::<_, ()>(default.take().expect("a failed attempt returns it")),
                    // SAFETY: it has a value.
                    Some(node) => Ok(f(unsafe { node.value() })),
                });
                drop(pin);
                match put {
                    Put::Written(written) => return written.version,
                    Put::Refused(..) => unreachable!("each attempt has a value"),
                    Put::Lost(k, v, lost) => {
                        key = k;
                        // Otherwise the value is a result of `f`, which runs again.
                        default.get_or_insert(v);
                        patience.step_back(lost);
                    }
                }
            }
        })
    }

    /// Replaces the value of a key if its version is `expected`, and returns the version of the new
    /// value.
    ///
    /// # Blocking
    /// Blocks the thread as [`insert`](Self::insert) does. It does not wait if the version differs
    /// already.
    ///
    /// # Errors
    /// Returns a [`MapConflict`] that contains the value if the key has another version, or is
    /// absent.
    ///
    /// # Panics
    /// Panics as [`insert`](Self::insert) does.
    ///
    /// # Examples
    /// ```
    /// let stock = latchwork::VersionedMap::new();
    /// let (version, _) = stock.insert("apples", 7);
    /// assert!(stock.compare_and_set("apples", version, 6).is_ok());
    /// assert!(stock.compare_and_set("apples", version, 5).is_err());
    /// assert_eq!(*stock.get("apples").unwrap(), 6);
    /// ```
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn compare_and_set<Q>(
        &self,
        key: &Q,
        expected: Version,
        value: V,
    ) -> Result<Version, MapConflict<V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let mut kept = Some(value);
        let result = self.write_present(key, |node, lost| {
            if let Some(value) = lost {
                kept = Some(value);
            }
            match node {
                Some(node) if node.version() == expected => Ok(Some(
                    kept.take().expect("a failed attempt returns the value"),
                )),
                node => Err(node.map(NodeRef::version)),
            }
        });
        match result {
            Ok((written, _)) => Ok(written.version),
            Err(current) => Err(MapConflict {
                expected,
                current,
                value: kept.expect("it was not used"),
            }),
        }
    }

    /// Removes a key, and returns its value, which pins this thread. `None`: the key is absent.
    ///
    /// The memory of the entry is freed once no thread can observe it: by later writes, or by
    /// [`flush`](Self::flush).
    ///
    /// # Blocking
    /// Blocks the thread as [`insert`](Self::insert) does.
    ///
    /// # Panics
    /// Panics as [`insert`](Self::insert) does.
    ///
    /// # Examples
    /// ```
    /// let map = latchwork::VersionedMap::new();
    /// map.insert("a", 1);
    /// assert_eq!(map.remove("a").map(|value| *value), Some(1));
    /// assert!(map.remove("a").is_none());
    /// ```
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn remove<Q>(&self, key: &Q) -> Option<Versioned<'_, V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let removed = self.write_present(key, |node, _| node.map(|_| None).ok_or(()));
        let (written, pin) = removed.ok()?;
        written.old(pin)
    }

    /// Removes a key if its version is `expected`, and returns its value, which pins this thread.
    ///
    /// # Blocking
    /// Blocks the thread as [`insert`](Self::insert) does. It does not wait if the version differs
    /// already.
    ///
    /// # Errors
    /// Returns a [`MapConflict`] if the key has another version, or is absent.
    ///
    /// # Panics
    /// Panics as [`insert`](Self::insert) does.
    ///
    /// # Examples
    /// ```
    /// use latchwork::{VersionedMap, cell::Version};
    /// let map = VersionedMap::new();
    /// let (version, _) = map.insert("a", 1);
    /// let conflict = map.remove_if_version("a", Version::new(9)).unwrap_err();
    /// assert_eq!(conflict.current, Some(version));
    /// assert_eq!(*map.remove_if_version("a", version).unwrap(), 1);
    /// ```
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn remove_if_version<Q>(
        &self,
        key: &Q,
        expected: Version,
    ) -> Result<Versioned<'_, V>, MapConflict>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let removed = self.write_present(key, |node, _| match node {
            Some(node) if node.version() == expected => Ok(None),
            node => Err(node.map(NodeRef::version)),
        });
        let conflict = |current| MapConflict {
            expected,
            current,
            value: (),
        };
        let (written, pin) = removed.map_err(conflict)?;
        Ok(written.old(pin).expect("the key had a value"))
    }

    /// Replaces the value of a key by the result of `f`, and returns the version of the new value.
    /// `None`: the key is absent, and `f` was not called.
    ///
    /// `f` runs pinned. After each write of another thread in between, `f` is called again, after a
    /// pause. If `f` writes this key itself, `update` never returns.
    ///
    /// # Blocking
    /// Blocks the thread as [`insert`](Self::insert) does.
    ///
    /// # Panics
    /// Panics if `f` panics; nothing is written then. Panics as [`insert`](Self::insert) does.
    ///
    /// # Examples
    /// ```
    /// let map = latchwork::VersionedMap::new();
    /// map.insert("a", 1);
    /// assert!(map.update("a", |n| n + 1).is_some());
    /// assert_eq!(*map.get("a").unwrap(), 2);
    /// assert!(map.update("b", |n| n + 1).is_none());
    /// ```
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn update<Q>(&self, key: &Q, mut f: impl FnMut(&V) -> V) -> Option<Version>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let written = self.write_present(key, |node, _| match node {
            // SAFETY: it has a value.
            Some(node) => Ok(Some(f(unsafe { node.value() }))),
            None => Err(()),
        });
        written.ok().map(|(written, _)| written.version)
    }

    /// Replaces the value of a key by the result of `f`, within the limits of a policy. Returns the
    /// version of the new value, or `None` if the key is absent.
    ///
    /// # Blocking
    /// Blocks the thread while a transaction that has escalated owns the key, within the limits of
    /// the policy. Each attempt that encounters the owner counts, and a deadline ends the wait.
    ///
    /// # Errors
    /// - [`UpdateError::Contended`] if every attempt that the policy allows failed.
    /// - [`UpdateError::TimedOut`] if an attempt failed and the deadline has passed.
    /// - [`UpdateError::Aborted`] with the error that `f` returned.
    ///
    /// # Panics
    /// Panics if `f` panics; nothing is written then. Panics as [`insert`](Self::insert) does.
    ///
    /// # Examples
    /// ```
    /// use latchwork::{RetryPolicy, VersionedMap, cell::UpdateError};
    /// let stock = VersionedMap::new();
    /// stock.insert("apples", 10_u32);
    /// let take = |n: u32| {
    ///     let policy = RetryPolicy::attempts(3);
    ///     stock.try_update(&policy, "apples", |left| left.checked_sub(n).ok_or("sold out"))
    /// };
    /// assert!(take(4).is_ok());
    /// assert_eq!(take(7), Err(UpdateError::Aborted("sold out")));
    /// ```
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn try_update<Q, E>(
        &self,
        policy: &RetryPolicy,
        key: &Q,
        mut f: impl FnMut(&V) -> Result<V, E>,
    ) -> Result<Option<Version>, UpdateError<E>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.hash(key);
        let deadline = policy.start();
        let mut patience = self.patience(hash).until(deadline);
        let mut attempts = 0_u32;
        reclaim::with(|local| {
            // Not later: the patience may have locked the key [V15].
            local.collect_some();
            loop {
                let pin = local.pin();
                let attempt = self.attempt(local, &pin, &patience, hash, key, |node| {
                    // SAFETY: it has a value.
                    f(unsafe { node.value() }).map(Some)
                });
                drop(pin);
                let lost = match attempt {
                    Attempt::Written(written) => return Ok(Some(written.version)),
                    Attempt::Absent => return Ok(None),
                    Attempt::Refused(error) => return Err(UpdateError::Aborted(error)),
                    Attempt::Lost(_, lost) => lost,
                };
                attempts = attempts.saturating_add(1);
                policy.after(attempts, deadline)?;
                patience.step_back(lost);
            }
        })
    }

    /// Writes a key until `decide` refuses. `decide` gets the node with the value, if there is one,
    /// and the new value that the last attempt did not write. It returns the new value, or `None`
    /// for a removal.
    #[cfg_attr(debug_assertions, track_caller)]
    fn write_present<Q, E>(
        &self,
        key: &Q,
        mut decide: impl FnMut(Option<NodeRef<'_>>, Option<V>) -> Result<Option<V>, E>,
    ) -> Result<(Written, CellPin), E>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.hash(key);
        let mut patience = self.patience(hash);
        let mut returned = None;
        reclaim::with(|local| {
            local.collect_some();
            loop {
                let pin = local.pin();
                let attempt = self.attempt(local, &pin, &patience, hash, key, |node| {
                    decide(Some(node), returned.take())
                });
                match attempt {
                    Attempt::Written(written) => return Ok((written, pin)),
                    Attempt::Refused(error) => return Err(error),
                    Attempt::Absent => {
                        let Err(error) = decide(None, returned.take()) else {
                            unreachable!("an absent key is refused");
                        };
                        return Err(error);
                    }
                    Attempt::Lost(value, lost) => {
                        drop(pin);
                        returned = value;
                        patience.step_back(lost);
                    }
                }
            }
        })
    }

    /// Makes one attempt to remove the value of an entry unless `f` returns `true` for it.
    pub(super) fn remove_unless(
        &self,
        local: &Local,
        pin: &CellPin,
        patience: &Patience,
        entry: &Entry<K, V>,
        f: &mut impl FnMut(&K, &V) -> bool,
    ) -> Result<(), Lost> {
        let seen = entry.cell.head().load();
        let node = entry.node(seen, pin).settle();
        // SAFETY: it has a value where that is read.
        if node.header().is_vacant() || f(entry.key(), unsafe { node.value() }) {
            return Ok(());
        }
        let removed = self.publish(local, pin, patience, entry, (seen, node), None);
        removed.map(drop).map_err(|(_, lost)| lost)
    }

    /// Makes one attempt to write a key that is present.
    #[inline]
    #[cfg_attr(debug_assertions, track_caller)]
    fn attempt<Q, E>(
        &self,
        local: &Local,
        pin: &CellPin,
        patience: &Patience,
        hash: u64,
        key: &Q,
        decide: impl FnOnce(NodeRef<'_>) -> Result<Option<V>, E>,
    ) -> Attempt<V, E>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let Search::Found(entry, seen) = self.index.search(hash, key, pin) else {
            return Attempt::Absent;
        };
        entry.cell.check_direct();
        let node = entry.node(seen, pin).settle();
        if node.header().is_vacant() {
            return Attempt::Absent;
        }
        match decide(node) {
            Err(error) => Attempt::Refused(error),
            Ok(value) => match self.publish(local, pin, patience, entry, (seen, node), value) {
                Ok(written) => Attempt::Written(written),
                Err((value, lost)) => Attempt::Lost(value, lost),
            },
        }
    }

    /// Makes one attempt to write a key that may be absent. `make` gets the node with the value, if
    /// there is one.
    #[inline]
    #[cfg_attr(debug_assertions, track_caller)]
    fn put<E>(
        &self,
        local: &Local,
        pin: &CellPin,
        patience: &Patience,
        hash: u64,
        key: K,
        make: impl FnOnce(Option<NodeRef<'_>>) -> Result<V, E>,
    ) -> Put<K, V, E> {
        let vacancy = match self.index.search(hash, &key, pin) {
            Search::Absent(vacancy) => vacancy,
            Search::Found(entry, seen) => {
                entry.cell.check_direct();
                let node = entry.node(seen, pin).settle();
                let value = match make((!node.header().is_vacant()).then_some(node)) {
                    Ok(value) => value,
                    Err(error) => return Put::Refused(key, error),
                };
                let seen = (seen, node);
                return match self.publish(local, pin, patience, entry, seen, Some(value)) {
                    Ok(written) => Put::Written(written),
                    Err((value, lost)) => Put::Lost(key, value.expect("it was a value"), lost),
                };
            }
        };
        let value = match make(None) {
            Ok(value) => value,
            Err(error) => return Put::Refused(key, error),
        };
        let Some(place) = self.index.place(local, vacancy, hash) else {
            return Put::Lost(key, value, Lost::Moved);
        };
        // After the search, which has found the dead node of an earlier entry [V6].
        let version = self.index.floor(hash).next();
        let new = New {
            key,
            hash,
            version,
            first: First::Value(value),
        };
        match self.index.install(local, pin, place, new) {
            Ok((_, node)) => {
                node.header().stamp_published();
                self.index.maintain_after_insert(local, pin);
                Put::Written(Written { version, old: None })
            }
            Err((key, First::Value(value))) => Put::Lost(key, value, Lost::Moved),
            Err((_, First::Vacant)) => unreachable!("it was made with a value"),
        }
    }

    /// Installs a node in the place of the one that was seen, and that has settled as `relied_on`.
    /// `None` removes the value. `Err`: another thread was faster.
    #[inline]
    fn publish(
        &self,
        local: &Local,
        pin: &CellPin,
        patience: &Patience,
        entry: &Entry<K, V>,
        (seen, relied_on): (Word, NodeRef<'_>),
        value: Option<V>,
    ) -> Result<Written, (Option<V>, Lost)> {
        let head = entry.cell.head();
        let (mut seen, mut value) = (seen, value);
        let is_removal = value.is_none();
        let (seen, base, node) = loop {
            if seen.is_locked() {
                return Err((value, Lost::Locked));
            }
            // The previous node gets its stamp first: it could not be determined afterwards [C4].
            let base = match entry.node(seen, pin).current() {
                Current::Settled(node) => node,
                Current::Owned(Owned { owner, .. }) => match patience.meet(owner, local) {
                    Ok(()) => continue,
                    Err(lost) => return Err((value, lost)),
                },
            };
            // A dead node is never relied on [V4].
            if base != relied_on {
                return Err((value, Lost::Moved));
            }
            let node = match value {
                Some(value) => entry.new_node(local, Node::after(base, value)),
                None => Node::<V>::vacant_after(local, base),
            };
            let Err(newer) = head.replace(seen, node.cast()) else {
                break (seen, base, node);
            };
            value = match is_removal {
                // SAFETY: it was not published, so that it is ours; it was made with a value.
                false => Some(unsafe { Node::into_value(node, local) }),
                true => {
                    // SAFETY: as above; it was made without a value.
                    unsafe { Node::discard(node, local) };
                    None
                }
            };
            // A waiter may have arrived without a write in between [C3].
            if newer.node() != seen.node() {
                return Err((value, Lost::Moved));
            }
            seen = newer;
        };
        let written = self.published(local, pin, entry, (seen, base), node.cast(), is_removal);
        if seen.is_waited() {
            // Pinned still: later, the address may be that of another entry [V10].
            waiters::wake(head.address(), written.version);
        }
        // An update leaves the index as it is.
        if is_removal || written.old.is_none() {
            self.index.maintain(local, pin);
        }
        Ok(written)
    }
}

impl<K: Send + Sync + 'static, V: Send + Sync + 'static, S> VersionedMap<K, V, S> {
    /// Stamps a node that the caller has installed over `base`, in place of the word `seen`, and
    /// retires the nodes that it replaces. The caller wakes the waiters.
    #[inline]
    pub(super) fn published(
        &self,
        local: &Local,
        pin: &CellPin,
        entry: &Entry<K, V>,
        (seen, base): (Word, NodeRef<'_>),
        node: NonNull<Header>,
        is_removal: bool,
    ) -> Written {
        // SAFETY: published by this thread, under the pin [R1].
        let header = unsafe { node.as_ref() };
        header.stamp_published();
        let kind = Node::<V>::kind_of(base.header());
        // SAFETY: superseded by this compare-and-swap and no other [C2], under this thread's pin.
        unsafe { local.retire(pin, base.as_ptr().cast(), kind) };
        if seen.node() != base.as_ptr() {
            // SAFETY: unlinked by this compare-and-swap and no other; in no room, since its owner
            // has made it.
            unsafe { retire_above::<V>(local, pin, seen) };
        }
        let written = Written {
            version: header.version(),
            old: (!base.header().is_vacant()).then_some(base.as_ptr()),
        };
        match (written.old.is_some(), is_removal) {
            (false, false) => self.index.shared.count_value(local),
            (true, true) => self.index.record_removal(local, entry, written.version),
            _ => {}
        }
        written
    }
}

/// Retires the node of a transaction that was aborted, or the claim of one that has ended.
///
/// # Safety
/// The node of the word was unlinked by this thread, under the pin, and is in no room.
#[cold]
#[inline(never)]
unsafe fn retire_above<V: Send + Sync + 'static>(local: &Local, pin: &CellPin, seen: Word) {
    // SAFETY: the caller's contract.
    unsafe { local.retire(pin, seen.node().cast(), Node::<V>::KIND) };
}

impl Written {
    /// The value before, which the pin keeps.
    fn old<'m, V: Send + Sync + 'static>(self, pin: CellPin) -> Option<Versioned<'m, V>> {
        // SAFETY: it was current under the pin, and has a value.
        self.old
            .map(|old| Versioned::of(unsafe { Pinned::new(old, pin) }))
    }
}
