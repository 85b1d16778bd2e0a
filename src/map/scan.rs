//! Walks over all keys: step 11.
#![allow(unsafe_code)]

use core::fmt;
use core::hash::{BuildHasher, Hash};
use core::iter::FusedIterator;
use std::collections::TryReserveError;

use super::VersionedMap;
use super::index::{Entries, Scan};
use super::table::Shape;
use crate::cell::patience::Patience;
use crate::cell::{OwnedVersioned, ReadPin, VersionedRef};
use crate::mvcc::ValueRef;
use crate::reclaim;

impl<K: Send + Sync + 'static, V: Send + Sync + 'static, S> VersionedMap<K, V, S> {
    /// Returns an iterator over all keys with their values, in no order. A pin keeps them.
    ///
    /// The values are as they are when the iterator reaches them, so they may never have been in
    /// the map together. A key that is inserted or removed during the walk may be missing or
    /// present. Use a [`snapshot`](crate::snapshot()) for the whole map as of one instant.
    ///
    /// # Blocking
    /// Never blocks, and blocks no other thread.
    ///
    /// # Examples
    /// ```
    /// let map: latchwork::VersionedMap<_, _> = [(1, "a"), (2, "b")].into_iter().collect();
    /// let pin = latchwork::pin();
    /// let mut pairs: Vec<_> = map.iter_in(&pin).map(|(key, value)| (*key, *value)).collect();
    /// pairs.sort();
    /// assert_eq!(pairs, [(1, "a"), (2, "b")]);
    /// ```
    pub fn iter_in<'p>(&'p self, pin: &'p ReadPin) -> Iter<'p, K, V> {
        Iter {
            scan: self.index.scan(pin.cells()),
            pin,
        }
    }
}

/// An iterator over the keys and values of a [`VersionedMap`]. Created by
/// [`VersionedMap::iter_in`].
///
/// # Examples
/// See [`VersionedMap::iter_in`].
pub struct Iter<'p, K: Send + Sync + 'static, V: Send + Sync + 'static> {
    scan: Scan<'p, K, V>,
    pin: &'p ReadPin,
}

impl<'p, K: Send + Sync + 'static, V: Send + Sync + 'static> Iterator for Iter<'p, K, V> {
    type Item = (&'p K, VersionedRef<'p, V>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let entry = self.scan.next()?;
            let node = entry
                .node(entry.cell.head().load(), self.pin.cells())
                .settle();
            if !node.header().is_vacant() {
                // SAFETY: it has a value.
                let value = unsafe { ValueRef::new(node) };
                return Some((entry.key(), VersionedRef::of(value)));
            }
        }
    }
}

impl<K: Send + Sync + 'static, V: Send + Sync + 'static> FusedIterator for Iter<'_, K, V> {}

impl<K: Send + Sync + 'static, V: Send + Sync + 'static> fmt::Debug for Iter<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").finish_non_exhaustive()
    }
}

impl<K, V, S> VersionedMap<K, V, S>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: BuildHasher,
{
    /// Removes each key for which `f` returns `false`.
    ///
    /// Each removal is atomic, and the whole is not: a key that another thread inserts concurrently
    /// may stay, and `f` is called again for a value that another thread has replaced, and for a
    /// key that was locked or owned. `f` runs pinned. If `f` writes the key that it is called for,
    /// `retain` never returns.
    ///
    /// # Blocking
    /// Blocks the thread as [`insert`](Self::insert) does, for each key. Keys that it must wait for
    /// are visited last.
    ///
    /// # Panics
    /// Panics if `f` panics; the keys that were visited before stay removed.
    ///
    /// # Examples
    /// ```
    /// let map: latchwork::VersionedMap<_, _> = (0..10).map(|n| (n, n)).collect();
    /// map.retain(|_, n| n % 2 == 0);
    /// assert_eq!(map.len(), 5);
    /// ```
    pub fn retain(&self, mut f: impl FnMut(&K, &V) -> bool) {
        reclaim::with(|local| {
            local.collect_some();
            let pin = local.pin();
            let mut left = Vec::new();
            let patience = Patience::new();
            for entry in self.index.scan(&pin) {
                if self
                    .remove_unless(local, &pin, &patience, entry, &mut f)
                    .is_err()
                {
                    left.push(entry.name());
                }
            }
            drop(pin);
            for (hash, address) in left {
                let mut patience = self.patience(hash);
                loop {
                    let pin = local.pin();
                    // If it was buried, another entry of this hash may have the address: then this
                    // one was inserted concurrently.
                    let Some(entry) = self.index.linked(hash, address, &pin) else {
                        break;
                    };
                    let done = self.remove_unless(local, &pin, &patience, entry, &mut f);
                    drop(pin);
                    match done {
                        Ok(()) => break,
                        Err(lost) => patience.step_back(lost),
                    }
                }
            }
        });
    }

    /// Removes all keys, one after another. A key that another thread inserts concurrently may
    /// stay.
    ///
    /// # Blocking
    /// Blocks the thread as [`insert`](Self::insert) does, for each key.
    ///
    /// # Examples
    /// ```
    /// let map: latchwork::VersionedMap<_, _> = (0..10).map(|n| (n, n)).collect();
    /// map.clear();
    /// assert!(map.is_empty());
    /// ```
    pub fn clear(&self) {
        self.retain(|_, _| false);
    }
}

impl<K: Send + Sync + 'static, V: Send + Sync + 'static, S> VersionedMap<K, V, S> {
    /// Makes room for `additional` more keys, so that their inserts do not grow the map.
    ///
    /// # Blocking
    /// Blocks while another thread copies entries of this map, and until all entries are copied.
    /// Reads and writes of other threads continue.
    ///
    /// # Panics
    /// Panics if there is no memory.
    ///
    /// # Examples
    /// ```
    /// let map = latchwork::VersionedMap::<u32, u32>::new();
    /// map.reserve(1000);
    /// assert!(map.stats().capacity >= 1000);
    /// ```
    pub fn reserve(&self, additional: usize) {
        if let Err(error) = self.try_reserve(additional) {
            panic!("a map has no room for {additional} more keys: {error}");
        }
    }

    /// Makes room as [`reserve`](Self::reserve) does.
    ///
    /// # Errors
    /// Returns an error if there is no memory. The map is unchanged then.
    ///
    /// # Examples
    /// ```
    /// let map = latchwork::VersionedMap::<u32, u32>::new();
    /// assert!(map.try_reserve(1000).is_ok() && map.try_reserve(usize::MAX).is_err());
    /// ```
    pub fn try_reserve(&self, additional: usize) -> Result<(), TryReserveError> {
        let entries = self.index.shared.entries().saturating_add(additional);
        self.index
            .resize(|shape| (shape.entries() < entries).then(|| Shape::for_entries(entries)))
    }

    /// Shrinks the index to the size that its entries need. See [`flush`](Self::flush) to free the
    /// entries of removed keys first.
    ///
    /// # Blocking
    /// Blocks as [`reserve`](Self::reserve) does.
    ///
    /// # Panics
    /// Panics if there is no memory.
    ///
    /// # Examples
    /// ```
    /// let map = latchwork::VersionedMap::<u32, u32>::with_capacity(1000);
    /// map.shrink_to_fit();
    /// assert!(map.stats().capacity < 1000);
    /// ```
    pub fn shrink_to_fit(&self) {
        let fit = Shape::for_entries(self.index.shared.entries());
        let shrunk = self
            .index
            .resize(|shape| (shape.entries() > fit.entries()).then_some(fit));
        if let Err(error) = shrunk {
            panic!("a map cannot shrink: {error}");
        }
    }
}

impl<K, V, S> IntoIterator for VersionedMap<K, V, S>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    type Item = (K, Result<V, OwnedVersioned<V>>);
    type IntoIter = IntoIter<K, V>;

    /// Returns an iterator over all keys with their values, which are the caller's. A value that an
    /// [`OwnedVersioned`] shares is returned as another one.
    ///
    /// # Examples
    /// ```
    /// let map: latchwork::VersionedMap<_, _> = [("a".to_owned(), 1)].into_iter().collect();
    /// let (key, value) = map.into_iter().next().expect("there is one");
    /// assert_eq!((key.as_str(), value.unwrap()), ("a", 1));
    /// ```
    fn into_iter(mut self) -> IntoIter<K, V> {
        IntoIter(Entries::of(&mut self.index))
    }
}

/// An iterator that owns the keys and values of a [`VersionedMap`]. Created by
/// [`VersionedMap::into_iter`].
///
/// # Examples
/// See [`VersionedMap::into_iter`].
pub struct IntoIter<K: Send + Sync + 'static, V: Send + Sync + 'static>(Entries<K, V>);

impl<K: Send + Sync + 'static, V: Send + Sync + 'static> Iterator for IntoIter<K, V> {
    type Item = (K, Result<V, OwnedVersioned<V>>);

    fn next(&mut self) -> Option<Self::Item> {
        reclaim::with(|local| {
            loop {
                let (key, cell) = self.0.next(local)?;
                let node = cell.head().load().node();
                // SAFETY: the node of a cell that no other thread can reach. No transaction owns
                // it.
                if !unsafe { node.as_ref() }.is_vacant() {
                    return Some((key, OwnedVersioned::of_cell(cell).into_value()));
                }
            }
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.0.len()))
    }
}

impl<K: Send + Sync + 'static, V: Send + Sync + 'static> FusedIterator for IntoIter<K, V> {}

impl<K: Send + Sync + 'static, V: Send + Sync + 'static> fmt::Debug for IntoIter<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntoIter").finish_non_exhaustive()
    }
}

impl<K, V, S> Extend<(K, V)> for VersionedMap<K, V, S>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: BuildHasher,
{
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, pairs: I) {
        for (key, value) in pairs {
            drop(self.insert(key, value));
        }
    }
}

impl<K, V, S> FromIterator<(K, V)> for VersionedMap<K, V, S>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: BuildHasher + Default,
{
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut map = Self::default();
        map.extend(pairs);
        map
    }
}

#[cfg(feature = "serde")]
impl<K, V, S> serde::Serialize for VersionedMap<K, V, S>
where
    K: serde::Serialize + Send + Sync + 'static,
    V: serde::Serialize + Send + Sync + 'static,
{
    /// Serialises the map as of one instant, without versions.
    ///
    /// The serialiser runs in a [`snapshot`](crate::snapshot()): the thread is pinned for as long.
    fn serialize<R: serde::Serializer>(&self, serializer: R) -> Result<R::Ok, R::Error> {
        use serde::ser::SerializeMap;

        crate::snapshot(|view| {
            let mut map = serializer.serialize_map(Some(view.len(self)))?;
            for (key, value) in view.iter(self) {
                map.serialize_entry(key, value)?;
            }
            map.end()
        })
    }
}

#[cfg(feature = "serde")]
impl<'de, K, V, S> serde::Deserialize<'de> for VersionedMap<K, V, S>
where
    K: serde::Deserialize<'de> + Eq + Hash + Send + Sync + 'static,
    V: serde::Deserialize<'de> + Send + Sync + 'static,
    S: BuildHasher + Default,
{
    /// Makes a map. If the input has a key more than once, the last value counts.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Pairs(core::marker::PhantomData))
    }
}

#[cfg(feature = "serde")]
struct Pairs<K, V, S>(core::marker::PhantomData<(K, V, S)>);

/// The most entries for which room is made before they are there: the input states their number.
#[cfg(feature = "serde")]
const TRUSTED: usize = 4096;

#[cfg(feature = "serde")]
impl<'de, K, V, S> serde::de::Visitor<'de> for Pairs<K, V, S>
where
    K: serde::Deserialize<'de> + Eq + Hash + Send + Sync + 'static,
    V: serde::Deserialize<'de> + Send + Sync + 'static,
    S: BuildHasher + Default,
{
    type Value = VersionedMap<K, V, S>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(
        self,
        mut pairs: A,
    ) -> Result<Self::Value, A::Error> {
        let capacity = pairs.size_hint().unwrap_or(0).min(TRUSTED);
        let map = VersionedMap::with_capacity_and_hasher(capacity, S::default());
        while let Some((key, value)) = pairs.next_entry()? {
            drop(map.insert(key, value));
        }
        Ok(map)
    }
}
