//! Keys in transactions and snapshots.
#![allow(unsafe_code)]

use core::hash::{BuildHasher, Hash};
use std::borrow::Borrow;

use super::VersionedMap;
use super::bury::IsRead;
use super::entry::{Entry, First};
use super::index::{Index, New, Search};
use crate::cell::{Head, Version};
use crate::reclaim::{CellPin, Local};
use crate::txn::{Abort, Committed, Keeper, Tx, View};

impl<K: Send + Sync + 'static, V: Send + Sync + 'static> Keeper for Index<K, V> {
    fn note_commit(&self, local: &Local, pin: &CellPin, head: &Head, write: Committed) {
        match (write.was_vacant, write.is_vacant) {
            (true, false) => self.shared.count_value(local),
            (false, true) => {
                self.shared.count_no_value(local);
                // SAFETY: the entry is one of this map, and is not buried under the pin [V3].
                let entry = unsafe { Entry::of_head(head, pin) };
                self.record(local, entry, write.version);
            }
            _ => return,
        }
        self.maintain(local, pin);
    }
}

impl<K, V, S> VersionedMap<K, V, S>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: BuildHasher,
{
    /// The entry of a key, which is made if there is none: step 5.
    pub(super) fn own_entry_or_vacant<'p>(
        &'p self,
        local: &Local,
        pin: &'p CellPin,
        hash: u64,
        key: K,
    ) -> &'p Entry<K, V> {
        self.lent_entry_or_vacant(local, pin, hash, &mut Some(key), &|_| false)
    }

    /// The same. `lent` is left where it is unless a new entry has it. No entry is buried that the
    /// caller has read.
    pub(super) fn lent_entry_or_vacant<'p>(
        &'p self,
        local: &Local,
        pin: &'p CellPin,
        hash: u64,
        lent: &mut Option<K>,
        is_read: IsRead<'_>,
    ) -> &'p Entry<K, V> {
        let mut key = lent.take().expect("a failed attempt returns the key");
        loop {
            let vacancy = match self.index.search(hash, &key, pin) {
                Search::Found(entry, _) => {
                    *lent = Some(key);
                    return entry;
                }
                Search::Absent(vacancy) => vacancy,
            };
            let Some(place) = self.index.place(local, vacancy, hash) else {
                continue;
            };
            // After the search, which has found the dead node of an earlier entry [V6]. Greater
            // than the version in a record of such an entry, which may have had this address [V11].
            let version = self.index.floor(hash).next();
            let new = New {
                key,
                hash,
                version,
                first: First::Vacant,
            };
            match self.index.install(local, pin, place, new) {
                Ok((entry, _)) => {
                    self.index.shared.count_entry(local);
                    self.index.record(local, entry, version);
                    self.index.maintain_beside(local, pin, is_read);
                    return entry;
                }
                Err((returned, _)) => key = returned,
            }
        }
    }
}

impl<'t, 'env> Tx<'t, 'env> {
    /// Returns the value of a key: the value that this attempt has inserted, or else the committed
    /// one. `None`: the key is absent, which holds until the commit.
    ///
    /// An absent key is in the read set as a present one is: no other thread inserts it before the
    /// commit, and [`retry`](Self::retry) waits for its insert. The map makes an entry without a
    /// value for it, and frees the entry later as that of a removed key.
    ///
    /// # Blocking
    /// Does not wait for other threads, unless the transaction has escalated: see
    /// [`atomically`](crate::atomically()).
    ///
    /// # Errors
    /// Returns an [`Abort`] as [`read`](Self::read) does.
    ///
    /// # Panics
    /// Panics if the hasher, `Eq` or `to_owned` panics. They run pinned, as the closure does.
    ///
    /// # Examples
    /// ```
    /// use latchwork::{VersionedCell, VersionedMap, atomically};
    /// let (stock, sold) = (VersionedMap::new(), VersionedCell::new(0));
    /// stock.insert("apples".to_owned(), 7);
    /// atomically(|tx| {
    ///     let left = tx.get(&stock, "apples")?.copied().unwrap_or(0);
    ///     tx.require(left > 0)?; // sleeps until the key changes, including when it is absent
    ///     tx.insert(&stock, "apples".to_owned(), left - 1)?;
    ///     tx.update(&sold, |n| n + 1)
    /// });
    /// assert_eq!((*stock.get("apples").unwrap(), sold.get()), (6, 1));
    /// ```
    pub fn get<K, V, S, Q>(
        &mut self,
        map: &'t VersionedMap<K, V, S>,
        key: &Q,
    ) -> Result<Option<&'t V>, Abort>
    where
        K: Eq + Hash + Send + Sync + Borrow<Q> + 'static,
        V: Send + Sync + 'static,
        S: BuildHasher,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let i = self.observe_key(map, key)?;
        Ok(self.entry_value(i))
    }

    /// Records a value to insert at the commit, and returns the value that [`get`](Self::get) would
    /// have returned.
    ///
    /// If the key has a value, the map keeps the key that it has.
    ///
    /// # Errors
    /// Returns an [`Abort`] as [`read`](Self::read) does. Key and value are then dropped.
    ///
    /// # Panics
    /// Panics if the hasher or `Eq` panics.
    ///
    /// # Examples
    /// ```
    /// use latchwork::{VersionedMap, atomically};
    /// let seats = VersionedMap::new();
    /// let is_taken = atomically(|tx| {
    ///     Ok(tx.insert(&seats, 7, "Ann")?.is_some() || tx.insert(&seats, 8, "Ann")?.is_some())
    /// });
    /// assert_eq!((is_taken, seats.len()), (false, 2));
    /// ```
    pub fn insert<K, V, S>(
        &mut self,
        map: &'t VersionedMap<K, V, S>,
        key: K,
        value: V,
    ) -> Result<Option<&'t V>, Abort>
    where
        K: Eq + Hash + Send + Sync + 'static,
        V: Send + Sync + 'static,
        S: BuildHasher,
    {
        self.check_running()?;
        let i = match self.last_key(map, &key) {
            Some(i) => i,
            None => {
                let hash = map.hash(&key);
                match self.observe_present(map, hash, &key)? {
                    Some(i) => i,
                    None => self.observe_absent(map, hash, key)?,
                }
            }
        };
        let before = self.entry_value(i);
        self.write_entry(i, Some(value));
        Ok(before)
    }

    /// Records the removal of a key at the commit, and returns the value that [`get`](Self::get)
    /// would have returned.
    ///
    /// If the key is absent, the transaction writes nothing, and relies on the absence.
    ///
    /// # Errors
    /// Returns an [`Abort`] as [`read`](Self::read) does.
    ///
    /// # Panics
    /// Panics as [`get`](Self::get) does.
    ///
    /// # Examples
    /// ```
    /// use latchwork::{VersionedMap, atomically};
    /// let map: VersionedMap<_, _> = [("from", 7)].into_iter().collect();
    /// atomically(|tx| {
    ///     if let Some(value) = tx.remove(&map, &"from")?.copied() {
    ///         tx.insert(&map, "to", value)?;
    ///     }
    ///     Ok(())
    /// });
    /// assert_eq!((map.get("from").is_none(), *map.get("to").unwrap()), (true, 7));
    /// ```
    pub fn remove<K, V, S, Q>(
        &mut self,
        map: &'t VersionedMap<K, V, S>,
        key: &Q,
    ) -> Result<Option<&'t V>, Abort>
    where
        K: Eq + Hash + Send + Sync + Borrow<Q> + 'static,
        V: Send + Sync + 'static,
        S: BuildHasher,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let i = self.observe_key(map, key)?;
        let before = self.entry_value(i);
        if before.is_some() {
            self.write_entry::<V>(i, None);
        }
        Ok(before)
    }

    /// Returns the version of the value that [`get`](Self::get) returns, or `None` if the key is
    /// absent.
    ///
    /// If the transaction has inserted the key, this is the version after the commit.
    ///
    /// # Errors
    /// Returns an [`Abort`] as [`read`](Self::read) does.
    ///
    /// # Panics
    /// Panics as [`get`](Self::get) does.
    ///
    /// # Examples
    /// ```
    /// use latchwork::{VersionedMap, atomically};
    /// let map = VersionedMap::new();
    /// let version = atomically(|tx| {
    ///     tx.insert(&map, "a", 1)?;
    ///     tx.entry_version(&map, &"a")
    /// });
    /// assert_eq!(version, map.version("a"));
    /// ```
    pub fn entry_version<K, V, S, Q>(
        &mut self,
        map: &'t VersionedMap<K, V, S>,
        key: &Q,
    ) -> Result<Option<Version>, Abort>
    where
        K: Eq + Hash + Send + Sync + Borrow<Q> + 'static,
        V: Send + Sync + 'static,
        S: BuildHasher,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let i = self.observe_key(map, key)?;
        Ok(self.entry_version_at(i))
    }

    /// Returns whether a key has this version, or whether it is absent for `None`. The answer holds
    /// until the commit.
    ///
    /// Writes of the transaction itself do not count.
    ///
    /// # Errors
    /// Returns an [`Abort`] as [`read`](Self::read) does.
    ///
    /// # Panics
    /// Panics as [`get`](Self::get) does.
    ///
    /// # Examples
    /// ```
    /// use latchwork::{VersionedMap, atomically};
    /// let map = VersionedMap::new();
    /// let (version, _) = map.insert("a", 1);
    /// let both = atomically(|tx| {
    ///     Ok((tx.check_entry(&map, &"a", version)?, tx.check_entry(&map, &"b", None)?))
    /// });
    /// assert_eq!(both, (true, true));
    /// ```
    pub fn check_entry<K, V, S, Q>(
        &mut self,
        map: &'t VersionedMap<K, V, S>,
        key: &Q,
        expected: impl Into<Option<Version>>,
    ) -> Result<bool, Abort>
    where
        K: Eq + Hash + Send + Sync + Borrow<Q> + 'static,
        V: Send + Sync + 'static,
        S: BuildHasher,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let i = self.observe_key(map, key)?;
        Ok(self.entry_version_seen(i) == expected.into())
    }

    /// The place in the log of a key, if it is the last that the attempt has read.
    #[inline(always)]
    fn last_key<K, V, S>(&self, map: &'t VersionedMap<K, V, S>, key: &K) -> Option<usize>
    where
        K: Eq + Send + Sync + 'static,
        V: Send + Sync + 'static,
    {
        let (i, head) = self.last_entry(&map.index)?;
        // SAFETY: an entry of this map in the log, which was found under the pin.
        let entry = unsafe { Entry::<K, V>::of_head(head, self.pin()) };
        (entry.key() == key).then_some(i)
    }

    /// The place in the log of a key, which has an entry afterwards.
    #[inline]
    fn observe_key<K, V, S, Q>(
        &mut self,
        map: &'t VersionedMap<K, V, S>,
        key: &Q,
    ) -> Result<usize, Abort>
    where
        K: Eq + Hash + Send + Sync + Borrow<Q> + 'static,
        V: Send + Sync + 'static,
        S: BuildHasher,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        self.check_running()?;
        let hash = map.hash(key);
        match self.observe_present(map, hash, key)? {
            Some(i) => Ok(i),
            None => self.observe_absent(map, hash, key.to_owned()),
        }
    }

    /// The place in the log of a key that has an entry.
    #[inline]
    fn observe_present<K, V, S, Q>(
        &mut self,
        map: &'t VersionedMap<K, V, S>,
        hash: u64,
        key: &Q,
    ) -> Result<Option<usize>, Abort>
    where
        K: Eq + Hash + Send + Sync + Borrow<Q> + 'static,
        V: Send + Sync + 'static,
        Q: Eq + ?Sized,
    {
        // A key that the closure has read has its entry in the log. If the entry was buried since,
        // the attempt fails at the commit [V4].
        let pin = self.pin();
        let known = self.find_entry(&map.index, |head| {
            // SAFETY: an entry of this map in the log, which was found under the pin.
            let entry = unsafe { Entry::<K, V>::of_head(head, pin) };
            entry.has_low_bits_of(hash) && entry.key().borrow() == key
        });
        if known.is_some() {
            return Ok(known);
        }
        let Search::Found(entry, _) = map.index.search(hash, key, pin) else {
            return Ok(None);
        };
        let entry = self.keep(entry);
        self.observe_entry(&map.index, &entry.cell).map(Some)
    }

    /// The place in the log of a key that a search has not found.
    #[cold]
    #[inline(never)]
    fn observe_absent<K, V, S>(
        &mut self,
        map: &'t VersionedMap<K, V, S>,
        hash: u64,
        key: K,
    ) -> Result<usize, Abort>
    where
        K: Eq + Hash + Send + Sync + 'static,
        V: Send + Sync + 'static,
        S: BuildHasher,
    {
        let (local, pin) = (self.local(), self.pin());
        let is_read = |head: &Head| self.has_read(head);
        let entry = map.lent_entry_or_vacant(local, pin, hash, &mut Some(key), &is_read);
        let entry = self.keep(entry);
        self.observe_entry(&map.index, &entry.cell)
    }

    /// An entry that the pin of the attempt keeps.
    fn keep<K: Send + Sync + 'static, V: Send + Sync + 'static>(
        &self,
        entry: &Entry<K, V>,
    ) -> &'t Entry<K, V> {
        // SAFETY: found while the attempt is pinned, and it is pinned until it ends [V3].
        unsafe { &*core::ptr::from_ref(entry) }
    }
}

impl<'t, 'env> View<'t, 'env> {
    /// Returns the value that a key had, or `None` if it was absent.
    ///
    /// Never blocks.
    ///
    /// # Panics
    /// Panics if the hasher or `Eq` panics.
    ///
    /// # Examples
    /// ```
    /// use latchwork::{VersionedMap, snapshot};
    /// let map: VersionedMap<_, _> = [("a", 1), ("b", 2)].into_iter().collect();
    /// let sum = snapshot(|s| ["a", "b", "c"].map(|key| s.get(&map, key).copied().unwrap_or(0)));
    /// assert_eq!(sum, [1, 2, 0]);
    /// ```
    pub fn get<K, V, S, Q>(&self, map: &'t VersionedMap<K, V, S>, key: &Q) -> Option<&'t V>
    where
        K: Eq + Hash + Send + Sync + Borrow<Q> + 'static,
        V: Send + Sync + 'static,
        S: BuildHasher,
        Q: Hash + Eq + ?Sized,
    {
        match map.index.search(map.hash(key), key, self.pin()) {
            // No entry that had a value is buried under the pin [V5].
            Search::Absent(_) => None,
            Search::Found(entry, _) => self.value_at(entry),
        }
    }

    /// Returns an iterator over all keys that had values, in no order, with these values.
    ///
    /// The iterator visits the map as of one instant, however long it runs, and delays no other
    /// thread. While the snapshot lives, no value that any thread replaces is dropped.
    ///
    /// # Examples
    /// ```
    /// use latchwork::{VersionedMap, snapshot};
    /// let stock: VersionedMap<_, _> = [("apples", 7), ("pears", 3)].into_iter().collect();
    /// let total: u32 = snapshot(|s| s.iter(&stock).map(|(_, n)| *n).sum());
    /// assert_eq!(total, 10);
    /// ```
    pub fn iter<'s, K, V, S>(
        &'s self,
        map: &'t VersionedMap<K, V, S>,
    ) -> impl Iterator<Item = (&'t K, &'t V)> + use<'s, 't, 'env, K, V, S>
    where
        K: Send + Sync + 'static,
        V: Send + Sync + 'static,
    {
        map.index.scan(self.pin()).filter_map(|entry| {
            let value = self.value_at(entry)?;
            // SAFETY: found under the pin, which lives as long as the view [V3].
            let entry: &'t Entry<K, V> = unsafe { &*core::ptr::from_ref(entry) };
            Some((entry.key(), value))
        })
    }

    /// Returns a parallel iterator over all keys that had values, in no order, with these values.
    ///
    /// The calling thread collects references to all keys and values first, as rayon does with a
    /// `HashMap` of the standard library. So this is faster than [`iter`](Self::iter) only if the
    /// work with each value is long. The calling thread stays pinned until the iterator has ended.
    ///
    /// # Blocking
    /// Never blocks. A method that consumes the iterator waits for the threads of rayon.
    ///
    /// # Examples
    /// ```
    /// use latchwork::{VersionedMap, snapshot};
    /// use rayon::iter::ParallelIterator;
    ///
    /// let stock: VersionedMap<_, _> = [("apples", 7_u32), ("pears", 3)].into_iter().collect();
    /// let total: u32 = snapshot(|s| s.par_iter(&stock).map(|(_, n)| *n).sum());
    /// assert_eq!(total, 10);
    /// ```
    #[cfg(feature = "rayon")]
    pub fn par_iter<K, V, S>(
        &self,
        map: &'t VersionedMap<K, V, S>,
    ) -> rayon::vec::IntoIter<(&'t K, &'t V)>
    where
        K: Send + Sync + 'static,
        V: Send + Sync + 'static,
    {
        let pairs: Vec<_> = self.iter(map).collect();
        rayon::iter::IntoParallelIterator::into_par_iter(pairs)
    }

    /// Returns the number of keys that had values. Visits the whole map.
    ///
    /// # Examples
    /// ```
    /// use latchwork::{VersionedMap, snapshot};
    /// let map: VersionedMap<_, _> = (0..10).map(|n| (n, ())).collect();
    /// assert_eq!(snapshot(|s| s.len(&map)), 10);
    /// ```
    pub fn len<K, V, S>(&self, map: &'t VersionedMap<K, V, S>) -> usize
    where
        K: Send + Sync + 'static,
        V: Send + Sync + 'static,
    {
        self.iter(map).count()
    }

    fn value_at<K, V>(&self, entry: &Entry<K, V>) -> Option<&'t V>
    where
        K: Send + Sync + 'static,
        V: Send + Sync + 'static,
    {
        let node = self.entry_at(entry.cell.head())?;
        // SAFETY: a node of a cell of `V`, with a value.
        (!node.header().is_vacant()).then(|| unsafe { node.value() })
    }
}
