//! An entry: a key, and the cell of its versions. It does not move [V3].
#![allow(unsafe_code)]

use core::mem::ManuallyDrop;
use core::ptr::NonNull;

use crate::cell::{Node, NodeRef, VersionedCell, Word};
use crate::reclaim::{CellPin, Destructor, Kind, Local};
use crate::sync::UnsafeCell;

/// One key, with the head of its versions.
#[repr(C)]
pub(crate) struct Entry<K, V: Send + Sync + 'static> {
    /// Its nodes may be vacant. Its last node, which is dead, is retired with the entry, and not by
    /// the end of the cell.
    pub(crate) cell: ManuallyDrop<VersionedCell<V>>,
    pub(super) hash: u64,
    /// The generation of the table in which the entry was installed first.
    pub(super) birth: u64,
    key: UnsafeCell<K>,
}

// SAFETY: the key is written before the entry is installed, and lent to any thread afterwards [V2].
unsafe impl<K: Send + Sync, V: Send + Sync> Sync for Entry<K, V> {}
// SAFETY: as above; the thread that releases the entry drops the key.
unsafe impl<K: Send + Sync, V: Send + Sync> Send for Entry<K, V> {}

impl<K: Send + Sync + 'static, V: Send + Sync + 'static> Entry<K, V> {
    /// How an entry is released once it was retired.
    pub(super) const KIND: &'static Kind = {
        let destructor = Destructor::of::<K>();
        // SAFETY: an entry has no shares, and its end is that of its key.
        &unsafe { Kind::of::<Self>(Self::drop_share, Self::destroy, destructor) }
    };

    /// # Safety
    /// `node` is from `allocate`, and no other thread can reach it.
    pub(super) unsafe fn new(key: K, hash: u64, birth: u64, node: NonNull<Node<V>>) -> Self {
        Entry {
            // SAFETY: the caller's contract. No method for users is called on the cell.
            cell: ManuallyDrop::new(unsafe { VersionedCell::of_node(node) }),
            hash,
            birth,
            key: UnsafeCell::new(key),
        }
    }

    #[inline(always)]
    pub(crate) fn key(&self) -> &K {
        // SAFETY: nothing writes it while it can be reached through a shared reference [V2].
        self.key.with(|key| unsafe { &*key })
    }

    /// Names the entry in a record [V11].
    pub(super) fn name(&self) -> (u64, usize) {
        (self.hash, core::ptr::from_ref(self).addr())
    }

    /// The node of a word that was loaded from the head under the pin.
    #[inline(always)]
    pub(super) fn node<'p>(&'p self, seen: Word, _: &'p CellPin) -> NodeRef<'p> {
        // SAFETY: loaded under the pin, which outlives the reference [R1] [X1].
        unsafe { NodeRef::new(seen.node()) }
    }

    /// Moves the parts out of an entry, and frees it.
    ///
    /// # Safety
    /// `entry` is from `allocate`, and no other thread can reach it.
    pub(super) unsafe fn into_parts(entry: NonNull<Self>, local: &Local) -> (K, VersionedCell<V>) {
        // SAFETY: the caller alone has it, and nothing uses it again.
        let Entry { cell, key, .. } = unsafe { entry.read() };
        // SAFETY: as above; the entry is from `allocate`.
        unsafe { local.free(entry) };
        // SAFETY: the caller alone has it; the original is forgotten.
        let moved = key.with(|key| unsafe { key.read() });
        core::mem::forget(key);
        (moved, ManuallyDrop::into_inner(cell))
    }

    /// # Safety
    /// None: an entry has no shares.
    unsafe fn drop_share(_: NonNull<u8>) -> bool {
        true
    }

    /// # Safety
    /// `object` is an entry that no thread can reach.
    unsafe fn destroy(object: NonNull<u8>) {
        // SAFETY: the caller's contract.
        unsafe { object.cast::<Self>().drop_in_place() };
    }
}
