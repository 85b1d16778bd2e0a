//! A locked entry with the draft of its holder: steps 12 and 13.
#![allow(unsafe_code)]

use core::hash::{BuildHasher, Hash};
use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use std::borrow::Borrow;
use std::collections::BTreeMap;

use super::VersionedMap;
use super::entry::{Entry, First};
use super::index::{New, Search};
use crate::cell::patience::Lost;
use crate::cell::{Current, Header, Node, NodeRef, Owned, Rank, Version, Word, waiters};
use crate::reclaim::{self, CellPin, Local, Retired};

/// An entry that its holder has locked, so that it is neither written by another thread nor buried
/// [V12]. Unless the lock is thin, the holder has also locked the hash of the key in the lock table
/// of the map, for longer.
pub(super) struct Held<K: Send + Sync + 'static, V: Send + Sync + 'static> {
    entry: NonNull<Entry<K, V>>,
    draft: Draft<V>,
}

/// The write that the holder intends.
enum Draft<V> {
    Nothing,
    Value(V),
    Removal,
}

// SAFETY: it gives access to the key and the value of an entry, which any thread may read, and owns
// a draft.
unsafe impl<K: Send + Sync + 'static, V: Send + Sync + 'static> Send for Held<K, V> {}
// SAFETY: as above.
unsafe impl<K: Send + Sync + 'static, V: Send + Sync + 'static> Sync for Held<K, V> {}

impl<K: Send + Sync + 'static, V: Send + Sync + 'static> Held<K, V> {
    fn entry(&self) -> &Entry<K, V> {
        // SAFETY: a locked entry is not buried [V12].
        unsafe { self.entry.as_ref() }
    }

    /// The node of the entry, which stays as long as the entry is locked.
    fn base(&self) -> NodeRef<'_> {
        // SAFETY: no other thread replaces it, so it is not retired [V12].
        unsafe { NodeRef::new(self.entry().cell.head().load().node()) }
    }

    /// Names the entry among those that are locked.
    pub(super) fn id(&self) -> (u64, usize) {
        (self.entry().hash(), self.entry.addr().get())
    }

    pub(super) fn key(&self) -> &K {
        self.entry().key()
    }

    fn committed(&self) -> Option<&V> {
        let base = self.base();
        // SAFETY: it has a value.
        (!base.header().is_vacant()).then(|| unsafe { base.value() })
    }

    pub(super) fn get(&self) -> Option<&V> {
        match &self.draft {
            Draft::Nothing => self.committed(),
            Draft::Value(value) => Some(value),
            Draft::Removal => None,
        }
    }

    /// The version of the committed value.
    pub(super) fn version(&self) -> Option<Version> {
        let base = self.base();
        (!base.header().is_vacant()).then(|| base.version())
    }

    pub(super) fn set(&mut self, value: V) {
        self.draft = Draft::Value(value);
    }

    pub(super) fn value_mut(&mut self) -> Option<&mut V>
    where
        V: Clone,
    {
        if let Draft::Nothing = self.draft {
            self.draft = Draft::Value(self.committed()?.clone());
        }
        match &mut self.draft {
            Draft::Value(value) => Some(value),
            Draft::Nothing | Draft::Removal => None,
        }
    }

    pub(super) fn remove(&mut self) -> bool {
        let had_value = self.get().is_some();
        self.draft = Draft::Removal;
        had_value
    }

    /// Publishes the draft and unlocks the entry. `None`: there was nothing to write.
    #[inline]
    pub(super) fn publish<S>(
        mut self,
        map: &VersionedMap<K, V, S>,
        local: &Local,
    ) -> Option<Version> {
        let draft = core::mem::replace(&mut self.draft, Draft::Nothing);
        let is_removal = matches!(draft, Draft::Removal);
        if matches!(draft, Draft::Nothing) || (is_removal && self.committed().is_none()) {
            return None;
        }
        // Collects nothing: a destructor may use the key, which is locked [V15].
        let pin = local.pin();
        // From here on the entry is unlocked by the write.
        let held = ManuallyDrop::new(self);
        let (entry, base) = (held.entry(), held.base());
        let node = match draft {
            Draft::Value(value) => entry.new_node(local, Node::after(base, value)),
            _ => Node::<V>::vacant_after(local, base),
        };
        let head = entry.cell.head();
        let seen = loop {
            let seen = head.load();
            debug_assert!(seen.is_locked() && seen.node() == base.as_ptr());
            // Fails only if a waiter has set its mark [V12].
            if head.replace(seen, node.cast()).is_ok() {
                break seen;
            }
        };
        let seen_base = (seen, base);
        let written = map.published(local, &pin, entry, seen_base, node.cast(), is_removal);
        if seen.is_waited() {
            // Pinned still: later, the address may be that of another entry [V13].
            waiters::wake_those_of_lock(head, Some(written.version));
        }
        if is_removal || written.old.is_none() {
            map.index.maintain(local, &pin);
        }
        Some(written.version)
    }
}

impl<K: Send + Sync + 'static, V: Send + Sync + 'static> Drop for Held<K, V> {
    /// Unlocks the entry, which keeps its value.
    fn drop(&mut self) {
        reclaim::with(|local| {
            // Once it is unlocked, another thread may bury it [V13].
            let _pin = local.pin();
            let head = self.entry().cell.head();
            if head.unlock().is_waited() {
                waiters::wake_those_of_lock(head, None);
            }
        });
    }
}

impl<K, V, S> VersionedMap<K, V, S>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: BuildHasher,
{
    /// Locks the entry of a key without its hash: step 12. `None`: there is no such entry, or it is
    /// not settled, or it is locked, or the lock of its hash is used.
    #[cfg_attr(debug_assertions, track_caller)]
    pub(super) fn hold_thin<Q>(&self, pin: &CellPin, hash: u64, key: &Q) -> Option<Held<K, V>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        // A thread that has locked the hash may be waiting for the entry [V13].
        if !self.locks.seem_unused(hash) {
            return None;
        }
        let Search::Found(entry, seen) = self.index.search(hash, key, pin) else {
            return None;
        };
        entry.cell.check_direct();
        let node = entry.node(seen, pin);
        let is_settled = node.stamp().is_some();
        let is_free = is_settled && !seen.is_locked();
        (is_free && entry.cell.head().lock(seen, node.as_ptr())).then(|| Held {
            entry: entry.into(),
            draft: Draft::Nothing,
        })
    }

    /// Locks the entry of a key, or makes a locked one. The caller has locked the hash. `key` is
    /// left where it is unless a new entry has it.
    pub(super) fn hold_owned(
        &self,
        local: &Local,
        pin: &CellPin,
        hash: u64,
        key: &mut Option<K>,
    ) -> Result<Held<K, V>, Lost> {
        let wanted = key.take().expect("a failed attempt returns the key");
        let vacancy = match self.index.search(hash, &wanted, pin) {
            Search::Found(entry, seen) => {
                *key = Some(wanted);
                return self.claim(local, pin, entry, seen);
            }
            Search::Absent(vacancy) => vacancy,
        };
        let Some(place) = self.index.place(local, vacancy, hash) else {
            *key = Some(wanted);
            return Err(Lost::Moved);
        };
        // After the search, which has found the dead node of an earlier entry [V6] [V11].
        let version = self.index.floor(hash).next();
        let new = New {
            key: wanted,
            hash,
            version,
            first: First::Vacant,
        };
        match self.index.install_locked(local, pin, place, new) {
            Ok((entry, _)) => {
                self.index.shared.count_entry(local);
                self.index.record(local, entry, version);
                let held = Held {
                    entry: entry.into(),
                    draft: Draft::Nothing,
                };
                self.index.maintain(local, pin);
                Ok(held)
            }
            Err((wanted, _)) => {
                *key = Some(wanted);
                Err(Lost::Moved)
            }
        }
    }

    /// As `hold_owned`, and clones the key if the map has no entry of it.
    pub(super) fn hold_borrowed<Q>(
        &self,
        local: &Local,
        pin: &CellPin,
        hash: u64,
        key: &Q,
    ) -> Result<Held<K, V>, Lost>
    where
        K: Borrow<Q>,
        Q: Eq + ToOwned<Owned = K> + ?Sized,
    {
        match self.index.search(hash, key, pin) {
            Search::Found(entry, seen) => self.claim(local, pin, entry, seen),
            Search::Absent(_) => self.hold_owned(local, pin, hash, &mut Some(key.to_owned())),
        }
    }

    /// Locks an entry, in whose head `seen` was. `Err`: it is dead, or has a thin lock, or a
    /// transaction that has escalated owns it.
    fn claim(
        &self,
        local: &Local,
        pin: &CellPin,
        entry: &Entry<K, V>,
        seen: Word,
    ) -> Result<Held<K, V>, Lost> {
        entry.cell.check_direct();
        let head = entry.cell.head();
        let mut seen = seen;
        loop {
            // The caller has locked the hash, which every lock of the entry needs but a thin one.
            if seen.is_locked() {
                return Err(Lost::Locked);
            }
            match entry.node(seen, pin).current() {
                // A dead node is final [V4].
                Current::Settled(base) if base.header().is_dead() => return Err(Lost::Moved),
                Current::Settled(base) => {
                    if head.lock(seen, base.as_ptr()) {
                        if seen.node() != base.as_ptr() {
                            // The node of a transaction that was aborted, or the claim of one that
                            // has ended.
                            let above = seen.node().cast();
                            // SAFETY: unlinked by this compare-and-swap and no other [X7].
                            let above = unsafe { Retired::new(above, Node::<V>::KIND) };
                            local.retire(pin, above);
                        }
                        return Ok(Held {
                            entry: entry.into(),
                            draft: Draft::Nothing,
                        });
                    }
                }
                Current::Owned(Owned { owner, .. }) => {
                    owner.check_not_of(local.thread());
                    let rank = owner.rank();
                    // A transaction without an age is lost once, and gets one [X6].
                    if rank.is_ranked() && !Rank::of_thread().goes_before(rank, 0) {
                        return Err(Lost::Owned);
                    }
                    owner.kill();
                    if rank.is_ranked() {
                        waiters::wake_those_of_owner(owner.address());
                    }
                }
            }
            seen = head.load();
        }
    }
}

// The word of a head has two marks.
const _: () = assert!(align_of::<Header>() >= 4);

/// Runs destructors of what other calls have retired. They may use the map, so the caller has not
/// locked a key in this call [V15].
#[inline]
pub(super) fn collect() {
    reclaim::with(Local::collect_some);
}

/// Locked entries by hash and address.
pub(super) type Entries<K, V> = BTreeMap<(u64, usize), Held<K, V>>;

/// The locked entry of a key.
pub(super) fn find<'e, K, V, Q>(
    entries: &'e mut Entries<K, V>,
    hash: u64,
    key: &Q,
) -> Option<&'e mut Held<K, V>>
where
    K: Borrow<Q> + Send + Sync + 'static,
    V: Send + Sync + 'static,
    Q: Eq + ?Sized,
{
    of_hash(entries, hash).find(|held| held.key().borrow() == key)
}

/// The locked entries of a hash.
pub(super) fn of_hash<K, V>(
    entries: &mut Entries<K, V>,
    hash: u64,
) -> impl Iterator<Item = &mut Held<K, V>>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    let of_hash = entries.range_mut((hash, 0)..=(hash, usize::MAX));
    of_hash.map(|(_, held)| held)
}
