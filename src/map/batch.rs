//! Conditional batches: several writes with conditions, all or none.
//!
//! A batch of a few writes of present keys makes one attempt without a log, as
//! [`update_all`](crate::update_all()) does. All other batches, and those that encounter another
//! writer or a condition that fails, are transactions.
#![allow(unsafe_code)]

use core::cell::Cell;
use core::error::Error;
use core::fmt;
use core::hash::{BuildHasher, Hash};
use core::ptr::NonNull;
use std::collections::HashMap;

use super::VersionedMap;
use super::bury::IsRead;
use super::entry::Entry;
use super::index::{Index, Search};
use crate::RandomState;
use crate::cell::{Head, Header, Node, NodeRef, OwnedVersioned, Rank, Version, Word, waiters};
use crate::mvcc::{OwnerSlot, When};
use crate::park::WakeList;
use crate::reclaim;
use crate::txn::few::{self, Failed, Few};
use crate::txn::stats::count_conflict;
use crate::txn::{Committed, Keeper, Transaction, TxAbort, TxError, restore};

/// Writes of several keys of a [`VersionedMap`], each with a condition. All are written together if
/// all conditions hold, and none otherwise.
///
/// Created by [`VersionedMap::transact`]. A version that the batch expects is a number, and may
/// have been read of another key: nothing but the number is compared.
///
/// # Examples
/// See [`VersionedMap::transact`].
#[must_use = "a batch does nothing until it is committed"]
pub struct Batch<'m, K, V, S = RandomState>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    map: &'m VersionedMap<K, V, S>,
    items: Vec<Item<K, V>>,
}

/// In a batch of at most so many items each key is compared with all others, which costs less than
/// an index of them. It was not chosen by measurement.
const FEW: usize = 16;

/// The number of items for which a batch makes room at first. An empty vector would make as much
/// with its first item, but at a greater cost.
const ROOM: usize = 4;

/// The entry that this commit has made with the key of an item, as long as it is pinned.
type Made<K, V> = Cell<Option<NonNull<Entry<K, V>>>>;

struct Item<K, V> {
    hash: u64,
    /// Moved into the map if the key has no entry.
    key: Cell<Option<K>>,
    /// The version that the key must have, and once the batch has written it the version that it
    /// has. `None`: absent.
    expected: Option<Version>,
    write: Write,
    value: Cell<Option<V>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Write {
    Value,
    Removal,
    Nothing,
}

/// Whether the condition of one item of a [`Batch`] was fulfilled. Returned in [`Cancelled`].
///
/// # Examples
/// See [`VersionedMap::transact`].
#[non_exhaustive]
pub enum Reason<V: Send + Sync + 'static> {
    /// The condition holds. Another one does not.
    Met,
    /// The key has a value, and must be absent.
    Exists,
    /// The key is absent, and must have a version.
    Absent,
    /// The key has another version than expected.
    VersionIs {
        /// The version that the batch expected.
        expected: Version,
        /// The version of the key.
        current: Version,
        /// The value of the key.
        value: OwnedVersioned<V>,
    },
    /// The batch has the key more than once. No condition of the batch was checked, and the keys
    /// that it has once are reported as [`Met`](Self::Met). Also reported for keys that differ if
    /// the map has a key that equals each of them, because `Eq` is not transitive.
    Duplicate,
}

/// Reports that a [`Batch`] has written nothing, with a reason for each item. All reasons are of
/// one instant.
///
/// # Examples
/// See [`VersionedMap::transact`].
pub struct Cancelled<V: Send + Sync + 'static> {
    /// One for each item, in the order of the batch.
    pub reasons: Vec<Reason<V>>,
    /// The values that were not written, in the order of the batch. `None` for an item that removes
    /// or checks a key.
    pub values: Vec<Option<V>>,
}

impl<V: Send + Sync + 'static> Reason<V> {
    /// Returns whether the condition was met.
    pub fn is_met(&self) -> bool {
        matches!(self, Reason::Met)
    }
}

impl<V: Send + Sync + 'static> fmt::Debug for Reason<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Met => f.write_str("Met"),
            Reason::Exists => f.write_str("Exists"),
            Reason::Absent => f.write_str("Absent"),
            Reason::VersionIs {
                expected, current, ..
            } => f
                .debug_struct("VersionIs")
                .field("expected", expected)
                .field("current", current)
                .finish_non_exhaustive(),
            Reason::Duplicate => f.write_str("Duplicate"),
        }
    }
}

impl<V: Send + Sync + 'static> fmt::Display for Reason<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Met => f.write_str("met"),
            Reason::Exists => f.write_str("the key exists"),
            Reason::Absent => f.write_str("the key is absent"),
            Reason::VersionIs {
                expected, current, ..
            } => write!(f, "expected version {expected}, but it is {current}"),
            Reason::Duplicate => f.write_str("the key is there more than once"),
        }
    }
}

impl<V: Send + Sync + 'static> fmt::Debug for Cancelled<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancelled")
            .field("reasons", &self.reasons)
            .finish_non_exhaustive()
    }
}

impl<V: Send + Sync + 'static> fmt::Display for Cancelled<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing was written")?;
        let failed = self.reasons.iter().enumerate();
        for (n, reason) in failed.filter(|(_, reason)| !reason.is_met()) {
            write!(f, "; item {n}: {reason}")?;
        }
        Ok(())
    }
}

impl<V: Send + Sync + 'static> Error for Cancelled<V> {}

impl<K: Send + Sync + 'static, V: Send + Sync + 'static, S> VersionedMap<K, V, S> {
    /// Begins a batch of conditional writes, which are written together or not at all.
    ///
    /// A batch reports the reason of each condition that does not hold. Use
    /// [`atomically`](crate::atomically()) for conditions that depend on values, and for cells
    /// beside keys.
    ///
    /// # Examples
    /// ```
    /// use latchwork::{VersionedMap, map::Reason};
    ///
    /// let stock: VersionedMap<String, u32> = VersionedMap::new();
    /// let (apples, _) = stock.insert("apples".into(), 7);
    /// let order = |version| {
    ///     let batch = stock.transact().put_if("apples".into(), version, 6);
    ///     batch.insert_if_absent("order 1".into(), 1).commit()
    /// };
    /// let versions = order(apples).expect("no other writer");
    /// assert_eq!(stock.version("apples"), versions[0]);
    ///
    /// let cancelled = order(apples).unwrap_err();
    /// assert!(matches!(cancelled.reasons[..], [Reason::VersionIs { .. }, Reason::Exists]));
    /// assert_eq!(cancelled.values, [Some(6), Some(1)]);
    /// ```
    pub fn transact(&self) -> Batch<'_, K, V, S> {
        Batch {
            map: self,
            items: Vec::with_capacity(ROOM),
        }
    }
}

impl<K, V, S> Batch<'_, K, V, S>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: BuildHasher,
{
    fn item(mut self, key: K, expected: Option<Version>, write: Write, value: Option<V>) -> Self {
        self.items.push(Item {
            hash: self.map.hash(&key),
            key: Cell::new(Some(key)),
            expected,
            write,
            value: Cell::new(value),
        });
        self
    }

    /// Inserts a value, on condition that the key is absent.
    ///
    /// # Panics
    /// Panics if the hasher panics, as the other methods that add an item do.
    pub fn insert_if_absent(self, key: K, value: V) -> Self {
        self.item(key, None, Write::Value, Some(value))
    }

    /// Replaces the value of a key, on condition that it has a version.
    pub fn put_if(self, key: K, expected: Version, value: V) -> Self {
        self.item(key, Some(expected), Write::Value, Some(value))
    }

    /// Removes a key, on condition that it has a version.
    pub fn remove_if(self, key: K, expected: Version) -> Self {
        self.item(key, Some(expected), Write::Removal, None)
    }

    /// Writes nothing, on condition that the key has a version, or is absent for `None`.
    pub fn check(self, key: K, expected: impl Into<Option<Version>>) -> Self {
        self.item(key, expected.into(), Write::Nothing, None)
    }

    /// Writes all items if all conditions hold. Returns the version of each key after the commit,
    /// and `None` for a key that is absent then.
    ///
    /// The batch is one transaction: all conditions hold at the instant of the commit. It is
    /// repeated while other writers interfere, and escalates as a transaction does.
    ///
    /// # Blocking
    /// Blocks the thread as [`atomically`](crate::atomically()) does: while a key is locked, or
    /// while a transaction that has escalated owns it. The thread is pinned for as long.
    ///
    /// # Errors
    /// Returns [`Cancelled`] with a reason for each item, and with the values, if a condition does
    /// not hold, or if the batch has a key twice.
    ///
    /// # Panics
    /// Panics if `Eq` of a key panics. Panics where [`VersionedMap::insert`] does. Nothing is
    /// written then. Inside the closure of a transaction, the batch is a nested transaction, which
    /// may write keys that the closure has accessed: see [Direct
    /// access](crate::atomically()#direct-access).
    ///
    /// # Examples
    /// See [`VersionedMap::transact`].
    pub fn commit(self) -> Result<Vec<Option<Version>>, Cancelled<V>> {
        let Batch { map, mut items } = self;
        let written = match items.len() {
            1 => map.write_few::<1>(&mut items),
            2 => map.write_few::<2>(&mut items),
            3 => map.write_few::<3>(&mut items),
            4 => map.write_few::<4>(&mut items),
            _ => None,
        };
        if written.is_some() {
            // Collected in the memory of the items.
            return Ok(items.into_iter().map(|item| item.expected).collect());
        }
        if let Some(reasons) = duplicates(&items) {
            return Err(cancelled(reasons, items));
        }
        // Keeps the entries that the attempts make for absent keys: their records begin their grace
        // periods later than the pin [V5].
        let pin = reclaim::with(reclaim::Local::pin);
        let made: Vec<Made<K, V>> = items.iter().map(|_| Cell::new(None)).collect();
        let result = Transaction::builder().try_run(|tx| {
            let mut places = Vec::with_capacity(items.len());
            for (item, made) in items.iter().zip(&made) {
                let entry = match made.get() {
                    // SAFETY: installed under the outer pin, and so not buried yet [V5] [V11].
                    Some(made) => unsafe { made.as_ref() },
                    None => {
                        let is_read = |head: &Head| tx.has_read(head);
                        item.entry(map, made, tx.local(), &pin, &is_read)
                    }
                };
                places.push(tx.observe_entry(&map.index, &entry.cell)?);
            }
            if let Some(reasons) = same_entries(&places) {
                return Err(TxAbort::Transaction(reasons));
            }
            let seen = |i| tx.entry_version_seen(i);
            if items
                .iter()
                .zip(&places)
                .any(|(item, i)| seen(*i) != item.expected)
            {
                let reason = |(item, i): (&Item<K, V>, &usize)| match (item.expected, seen(*i)) {
                    (expected, current) if expected == current => Reason::Met,
                    (None, _) => Reason::Exists,
                    (Some(_), None) => Reason::Absent,
                    (Some(expected), Some(current)) => Reason::VersionIs {
                        expected,
                        current,
                        value: tx.entry_owned(*i).expect("it has a version"),
                    },
                };
                let reasons: Vec<_> = items.iter().zip(&places).map(reason).collect();
                return Err(TxAbort::Transaction(reasons));
            }
            for (item, i) in items.iter().zip(&places) {
                match item.write {
                    Write::Value => tx.lend_entry(*i, &item.value),
                    Write::Removal => tx.write_entry::<V>(*i, None),
                    Write::Nothing => {}
                }
            }
            let after = places.iter().map(|i| tx.entry_version_at(*i));
            Ok(after.collect())
        });
        drop(pin);
        match result {
            Ok(versions) => Ok(versions),
            Err(TxError::Aborted(reasons)) => Err(cancelled(reasons, items)),
            Err(_) => unreachable!("the transaction has no limits and does not wait for a change"),
        }
    }
}

impl<K, V, S> VersionedMap<K, V, S>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// Makes one attempt without a log to write all items, which then expect the versions that it
    /// has written: step 15. `None`: nothing is written, and the items are as before.
    #[inline]
    fn write_few<const N: usize>(&self, items: &mut [Item<K, V>]) -> Option<()> {
        let items: &mut [Item<K, V>; N] = items.try_into().ok()?;
        reclaim::with(|local| {
            local.collect_some();
            let pin = local.pin();
            let (first, others) = items.split_first_mut()?;
            let mut found = [first.find(&self.index, &pin)?; N];
            for (item, found) in others.iter_mut().zip(&mut found[1..]) {
                *found = item.find(&self.index, &pin)?;
            }
            let heads = found.map(|(entry, _)| entry.cell.head());
            // Two items of one entry are reported by the transaction.
            let order = few::order(&heads)?;
            let own = OwnerSlot::new(local, Rank::NONE);
            let when = When::owner(own.as_ptr().as_ptr().expose_provenance());
            // By a loop: the closure of an array is called for each item.
            let mut nodes = [NonNull::dangling(); N];
            for ((item, node), (entry, word)) in items.iter_mut().zip(&mut nodes).zip(found) {
                *node = item.node(local, when, entry.node(word, &pin));
            }
            let few = Few {
                heads,
                kinds: found
                    .map(|(entry, word)| Node::<V>::kind_of(entry.node(word, &pin).header())),
                words: found.map(|(_, word)| word),
                nodes,
                order,
            };
            // SAFETY: the nodes were just made for the owner; the pin is this thread's, and is
            // older than the words.
            let committed = unsafe { few.commit(local, &pin, own) };
            let mut woken = WakeList::default();
            let written = match committed {
                Ok(is_waited) => {
                    // First: the maintenance of the map may panic, and `woken` notifies them also
                    // as it is dropped.
                    if is_waited {
                        take_out_all(&mut woken, &few);
                    }
                    self.written_few(local, &pin, &few, items);
                    Some(())
                }
                Err(failed) => {
                    undo_few(local, &pin, &few, failed, items);
                    None
                }
            };
            drop(pin);
            woken.run();
            written
        })
    }

    /// Reports the commit to the map. Each item expects the version that its key has afterwards.
    #[inline]
    fn written_few<const N: usize>(
        &self,
        local: &reclaim::Local,
        pin: &reclaim::CellPin,
        few: &Few<'_, N>,
        items: &mut [Item<K, V>; N],
    ) {
        for (i, item) in items.iter_mut().enumerate() {
            let base = few.heads[i].node_in(pin, few.words[i]).header();
            // SAFETY: installed by this thread, under the pin [R1].
            let node = unsafe { few.nodes[i].as_ref() };
            let write = Committed {
                version: node.version(),
                was_vacant: base.is_vacant(),
                is_vacant: node.is_vacant(),
            };
            item.expected = (!write.is_vacant).then_some(write.version);
            if write.was_vacant != write.is_vacant {
                self.index.note_commit(local, pin, few.heads[i], write);
            }
        }
    }
}

/// Removes the waiters of all keys from their queues. They are notified once the thread is unpinned
/// [X8].
#[cold]
#[inline(never)]
fn take_out_all<const N: usize>(woken: &mut WakeList, few: &Few<'_, N>) {
    for (head, node) in few.heads.iter().zip(few.nodes) {
        if head.load().is_waited() {
            // SAFETY: installed by this thread, under its pin, which still exists [R1].
            waiters::take_out(woken, head.address(), unsafe { node.as_ref() }.version());
        }
    }
}

/// Leaves every key as it was, and returns the values to the items [V14].
#[cold]
#[inline(never)]
fn undo_few<K, V: Send + Sync + 'static, const N: usize>(
    local: &reclaim::Local,
    pin: &reclaim::CellPin,
    few: &Few<'_, N>,
    failed: Failed,
    items: &[Item<K, V>; N],
) {
    count_conflict();
    let Failed { own, installed } = failed;
    // SAFETY: this attempt's own, and retired below.
    unsafe { own.as_ptr().as_ref() }.kill();
    for (n, i) in few.order.into_iter().enumerate() {
        let (item, node) = (&items[i], few.nodes[i].cast::<Node<V>>());
        match (n < installed, item.write) {
            // SAFETY: it has a value, this thread has installed it under its pin, and its owner was
            // aborted.
            (true, Write::Value) => item.value.set(Some(unsafe { Node::take_aborted(node) })),
            // SAFETY: it was not published, so that it is ours, and it has a value.
            (false, Write::Value) => item
                .value
                .set(Some(unsafe { Node::into_value(node, local) })),
            // SAFETY: as above; it has no value.
            (false, _) => unsafe { Node::discard(node, local) },
            (true, _) => {}
        }
        if n < installed {
            let put = (few.nodes[i], few.base(i));
            restore(local, pin, few.heads[i], Node::<V>::KIND, put);
        }
    }
    // SAFETY: each of its nodes was unlinked, here or by another thread [X1].
    unsafe { own.end(local, pin) };
}

impl<K, V> Item<K, V>
where
    K: Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// The entry of the key, with a word of its head. `None`: the condition may not hold, the
    /// item only checks it, or another writer is active.
    #[inline]
    fn find<'p>(
        &mut self,
        index: &'p Index<K, V>,
        pin: &'p reclaim::CellPin,
    ) -> Option<(&'p Entry<K, V>, Word)> {
        let key = self.key.get_mut().as_ref()?;
        let Search::Found(entry, word) = index.search(self.hash, key, pin) else {
            return None;
        };
        let node = entry.node(word, pin);
        node.stamp()?;
        let header = node.header();
        let current = (!header.is_vacant()).then(|| header.version());
        let is_met = current == self.expected && self.write != Write::Nothing;
        (is_met && !word.is_locked()).then_some((entry, word))
    }

    /// The node that an owner installs over `base`. It has the value of the item.
    #[inline]
    fn node(&mut self, local: &reclaim::Local, when: When, base: NodeRef<'_>) -> NonNull<Header> {
        match self.value.take() {
            Some(value) => local.allocate(Node::owned(when, base, value)).cast(),
            None => {
                let node = Node::<V>::vacant_draft(local).cast();
                // SAFETY: just made; the base was found under a pin that still exists.
                unsafe { few::place(node, when, base.as_ptr()) };
                node
            }
        }
    }
}

impl<K, V> Item<K, V>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// The entry of the key, which is made if there is none.
    fn entry<'p, S: BuildHasher>(
        &self,
        map: &'p VersionedMap<K, V, S>,
        made: &Made<K, V>,
        local: &reclaim::Local,
        pin: &'p reclaim::CellPin,
        is_read: IsRead<'_>,
    ) -> &'p Entry<K, V> {
        let mut key = self.key.take();
        let entry = map.lent_entry_or_vacant(local, pin, self.hash, &mut key, is_read);
        match key {
            // The entry of another thread may be buried before the next attempt [V5].
            Some(key) => self.key.set(Some(key)),
            None => made.set(Some(NonNull::from(entry))),
        }
        entry
    }
}

fn cancelled<K, V>(reasons: Vec<Reason<V>>, items: Vec<Item<K, V>>) -> Cancelled<V>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    let values = items.into_iter().map(|item| item.value.into_inner());
    Cancelled {
        reasons,
        values: values.collect(),
    }
}

/// The reasons if a key is there more than once.
fn duplicates<K, V>(items: &[Item<K, V>]) -> Option<Vec<Reason<V>>>
where
    K: Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    if items.len() > FEW {
        return duplicates_of_many(items);
    }
    // Without memory of its own: a batch of a few keys is the usual one.
    let is_repeated = |n: &usize| (0..*n).any(|other| is_same_key(&items[other], &items[*n]));
    let first = (1..items.len()).find(is_repeated);
    first.and_then(|_| duplicates_of_many(items))
}

/// Whether two items have equal keys.
fn is_same_key<K, V>(one: &Item<K, V>, other: &Item<K, V>) -> bool
where
    K: Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    if one.hash != other.hash {
        return false;
    }
    let keys = [one.key.take(), other.key.take()];
    let is_equal = keys[0] == keys[1];
    let [key, other_key] = keys;
    one.key.set(key);
    other.key.set(other_key);
    is_equal
}

fn duplicates_of_many<K, V>(items: &[Item<K, V>]) -> Option<Vec<Reason<V>>>
where
    K: Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    let mut is_duplicate = vec![false; items.len()];
    let mut of_hash: HashMap<u64, Vec<usize>, RandomState> = HashMap::default();
    for (n, item) in items.iter().enumerate() {
        let earlier = of_hash.entry(item.hash).or_default();
        for other in &*earlier {
            if is_same_key(&items[*other], item) {
                is_duplicate[*other] = true;
                is_duplicate[n] = true;
            }
        }
        earlier.push(n);
    }
    reasons_of(&is_duplicate)
}

/// The reasons if two items have one place in the log: each of their keys equals that of the entry.
/// One entry has one draft, so a batch writes it once.
fn same_entries<V: Send + Sync + 'static>(places: &[usize]) -> Option<Vec<Reason<V>>> {
    let is_repeated = |n: usize| places[..n].contains(&places[n]);
    if places.len() <= FEW && !(1..places.len()).any(is_repeated) {
        return None;
    }
    let mut of_place: HashMap<usize, usize, RandomState> = HashMap::default();
    for i in places {
        *of_place.entry(*i).or_default() += 1;
    }
    if of_place.len() == places.len() {
        return None;
    }
    let is_duplicate: Vec<bool> = places.iter().map(|i| of_place[i] > 1).collect();
    reasons_of(&is_duplicate)
}

fn reasons_of<V: Send + Sync + 'static>(is_duplicate: &[bool]) -> Option<Vec<Reason<V>>> {
    let reason = |is_duplicate: &bool| match is_duplicate {
        true => Reason::Duplicate,
        false => Reason::Met,
    };
    let any = is_duplicate.contains(&true);
    any.then(|| is_duplicate.iter().map(reason).collect())
}

impl<K, V, S> fmt::Debug for Batch<'_, K, V, S>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("items", &self.items.len())
            .finish_non_exhaustive()
    }
}
