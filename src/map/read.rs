//! Reads of one key: step 2.
#![allow(unsafe_code)]

use core::hash::{BuildHasher, Hash};
use std::borrow::Borrow;

use super::VersionedMap;
use crate::cell::read::pin_cells;
use crate::cell::{OwnedVersioned, ReadPin, Version, Versioned, VersionedRef};
use crate::mvcc::{Pinned, ValueRef};

impl<K, V, S> VersionedMap<K, V, S>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: BuildHasher,
{
    /// Returns the value of a key, and pins the thread for as long as the caller keeps it.
    ///
    /// The pin holds back *every* value that any thread replaces or removes, so drop the result
    /// soon. Use [`get_owned`](Self::get_owned) for a value that you keep.
    ///
    /// # Blocking
    /// Never blocks. It waits for no writer, lock, or growth of the map.
    ///
    /// # Panics
    /// Panics if the hasher or `Eq` panics. In debug builds, panics inside the closure of a
    /// transaction that has accessed this key; see
    /// [`atomically`](crate::atomically()#direct-access). Every other direct access also does so.
    ///
    /// # Memory ordering
    /// Synchronises with the write of the value.
    ///
    /// # Examples
    /// ```
    /// let map = latchwork::VersionedMap::new();
    /// map.insert("a".to_owned(), 1);
    /// let value = map.get("a").expect("it was inserted");
    /// map.insert("a".to_owned(), 2);
    /// assert_eq!((*value, value.version().get()), (1, 1)); // what was read stays
    /// assert!(map.get("b").is_none());
    /// ```
    #[inline]
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn get<Q>(&self, key: &Q) -> Option<Versioned<'_, V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.hash(key);
        let pin = pin_cells();
        let node = self.index.read(hash, key, &pin, |_, node| node.as_ptr())?;
        // SAFETY: current under the pin, and it has a value.
        Some(Versioned::of(unsafe { Pinned::new(node, pin) }))
    }

    /// Returns the value of a key, which an existing pin keeps.
    ///
    /// Reads that share a pin also share its cost.
    ///
    /// # Blocking
    /// Never blocks.
    ///
    /// # Panics
    /// Panics as [`get`](Self::get) does.
    ///
    /// # Examples
    /// ```
    /// let map: latchwork::VersionedMap<_, _> = (0..10).map(|n| (n, n * n)).collect();
    /// let pin = latchwork::pin();
    /// let sum: i32 = (0..10).filter_map(|n| map.get_in(&pin, &n)).map(|value| *value).sum();
    /// assert_eq!(sum, 285); // each value as it was when it was read; not all at one moment
    /// ```
    #[inline]
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn get_in<'p, Q>(&'p self, pin: &'p ReadPin, key: &Q) -> Option<VersionedRef<'p, V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.index
            .read(self.hash(key), key, pin.cells(), |_, node| {
                // SAFETY: it has a value.
                VersionedRef::of(unsafe { ValueRef::new(node) })
            })
    }

    /// Returns the key that the map has, and its value. A pin keeps both.
    ///
    /// # Blocking
    /// Never blocks.
    ///
    /// # Panics
    /// Panics as [`get`](Self::get) does.
    ///
    /// # Examples
    /// ```
    /// let map = latchwork::VersionedMap::new();
    /// map.insert("a".to_owned(), 1);
    /// let pin = latchwork::pin();
    /// let (key, value) = map.get_key_value_in(&pin, "a").expect("it was inserted");
    /// assert_eq!((key.as_str(), *value), ("a", 1));
    /// ```
    #[inline]
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn get_key_value_in<'p, Q>(
        &'p self,
        pin: &'p ReadPin,
        key: &Q,
    ) -> Option<(&'p K, VersionedRef<'p, V>)>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.index
            .read(self.hash(key), key, pin.cells(), |entry, node| {
                // SAFETY: it has a value.
                (
                    entry.key(),
                    VersionedRef::of(unsafe { ValueRef::new(node) }),
                )
            })
    }

    /// Returns the value of a key, and keeps it without a pin.
    ///
    /// Costs two atomic additions more than [`get`](Self::get). The result is `Send`, and may be
    /// held across an `.await`.
    ///
    /// # Blocking
    /// Never blocks.
    ///
    /// # Panics
    /// Panics as [`get`](Self::get) does. The process aborts if 2³¹ references to one value are
    /// leaked.
    ///
    /// # Examples
    /// ```
    /// let map = latchwork::VersionedMap::new();
    /// map.insert(1, "a");
    /// let value = map.get_owned(&1).expect("it was inserted");
    /// drop(map);
    /// assert_eq!(*value, "a");
    /// ```
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn get_owned<Q>(&self, key: &Q) -> Option<OwnedVersioned<V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.hash(key);
        let pin = pin_cells();
        self.index.read(hash, key, &pin, |_, node| {
            // SAFETY: it has a value.
            OwnedVersioned::of(unsafe { ValueRef::new(node) })
        })
    }

    /// Returns whether the key has a value. Never blocks.
    ///
    /// # Panics
    /// Panics as [`get`](Self::get) does.
    ///
    /// # Examples
    /// ```
    /// let map = latchwork::VersionedMap::new();
    /// map.insert(1, ());
    /// assert!(map.contains_key(&1) && !map.contains_key(&2));
    /// ```
    #[inline]
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn contains_key<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.version(key).is_some()
    }

    /// Returns the version of the value of a key, or `None` if the key is absent. Never blocks.
    ///
    /// # Panics
    /// Panics as [`get`](Self::get) does.
    ///
    /// # Examples
    /// ```
    /// let map = latchwork::VersionedMap::new();
    /// let (first, _) = map.insert("a", 1);
    /// map.remove("a");
    /// assert_eq!(map.version("a"), None);
    /// let (second, _) = map.insert("a", 1);
    /// assert!(second > first); // no version of a key is used twice
    /// ```
    #[inline]
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn version<Q>(&self, key: &Q) -> Option<Version>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.hash(key);
        let pin = pin_cells();
        self.index.read(hash, key, &pin, |_, node| node.version())
    }
}
