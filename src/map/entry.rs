//! An entry: a key, and the cell of its versions. It does not move [V3].
//!
//! Its first node lies behind it, in its *room*, so that a thread that has found the entry has also
//! found the value, with the same miss of the cache. Once the node was released, another node may
//! use the room [V16].
#![allow(unsafe_code)]

use core::mem::{ManuallyDrop, MaybeUninit, offset_of};
use core::ptr::NonNull;

use crate::cell::{Head, Node, NodeRef, Room, Tenant, Tenants, Version, VersionedCell, Word};
use crate::mvcc::ValueHead;
use crate::reclaim::{CellPin, Destructor, Kind, Local, Pool};
use crate::sync::UnsafeCell;
use crate::sync::tuning::MAP_ROOM;

/// One key, with the head of its versions.
#[repr(C)]
pub(crate) struct Entry<K, V: Send + Sync + 'static> {
    key: UnsafeCell<K>,
    /// Its nodes may be vacant. Its last node, which is dead, is retired with the entry, and not by
    /// the end of the cell.
    pub(crate) cell: ManuallyDrop<VersionedCell<V>>,
    /// The hash: its low and its high bits.
    low: u32,
    high: u16,
    /// Who uses the memory, if the entry has a room.
    tenants: Tenants,
}

/// An entry with a room.
#[repr(C)]
struct WithRoom<K, V: Send + Sync + 'static> {
    entry: Entry<K, V>,
    room: MaybeUninit<Node<V>>,
}

// The documentation of maps states this size.
#[cfg(not(any(latchwork_loom, latchwork_shuttle)))]
const _: () = assert!(size_of::<WithRoom<u64, u64>>() == 64);

/// The contents of the first node of an entry.
pub(super) enum First<V> {
    Value(V),
    /// The key is absent.
    Vacant,
}

// SAFETY: the key is written before the entry is installed, and lent to any thread afterwards [V2].
unsafe impl<K: Send + Sync, V: Send + Sync> Sync for Entry<K, V> {}
// SAFETY: as above; the thread that releases the entry drops the key.
unsafe impl<K: Send + Sync, V: Send + Sync> Send for Entry<K, V> {}

impl<K: Send + Sync + 'static, V: Send + Sync + 'static> Entry<K, V> {
    /// How an entry is released once it was retired.
    pub(super) const KIND: &'static Kind = {
        let destructor = Destructor::of::<K>();
        match Self::ROOM {
            // SAFETY: an entry has no shares, and its end is that of its key.
            Room::NONE => &unsafe { Kind::of::<Self>(Self::drop_share, Self::destroy, destructor) },
            _ => {
                // SAFETY: as above.
                let kind = unsafe {
                    Kind::of::<WithRoom<K, V>>(Self::drop_share, Self::destroy, destructor)
                };
                // SAFETY: the memory is freed with the last tenant.
                &unsafe { kind.freed_by(Self::leave_destroyed) }
            }
        }
    };

    /// How the memory of an entry is released whose key and cell were moved out.
    const MEMORY: &'static Kind = {
        // SAFETY: no value is left in it.
        let kind = unsafe {
            Kind::of::<WithRoom<K, V>>(Self::drop_share, Self::destroy_nothing, Destructor::None)
        };
        // SAFETY: the memory is freed with the last tenant.
        &unsafe { kind.freed_by(Self::leave_destroyed) }
    };

    /// The room of an entry, if it has one. The tenants lie directly before the node, so that the
    /// thread that releases the node finds them, and the node determines the layout of the rest
    /// [V16]. A node that is large has memory of its own, since its room would be empty once it was
    /// replaced.
    const ROOM: Room = {
        let size = size_of::<Self>();
        let is_before_room = offset_of!(Self, tenants) + size_of::<Tenants>() == size
            && offset_of!(WithRoom<K, V>, room) == size
            && align_of::<WithRoom<K, V>>() == align_of::<Node<V>>();
        match Room::behind(size) {
            Some(room) if is_before_room && size_of::<Node<V>>() <= MAP_ROOM => room,
            _ => Room::NONE,
        }
    };

    /// The memory of the first node of an entry, which lies at `entry`.
    #[inline(always)]
    fn place(entry: NonNull<Self>) -> NonNull<Node<V>> {
        // SAFETY: inside the memory of an entry that has a room.
        unsafe { entry.cast::<u8>().add(Self::ROOM.offset()).cast() }
    }

    /// Makes an entry, which no thread can reach.
    #[inline]
    pub(super) fn make(
        local: &Local,
        key: K,
        hash: u64,
        version: Version,
        first: First<V>,
    ) -> NonNull<Self> {
        let (entry, node) = match Self::ROOM {
            Room::NONE => (local.reserve::<Self>(), local.reserve::<Node<V>>()),
            _ => {
                let entry = local.reserve::<WithRoom<K, V>>().cast();
                (entry, Self::place(entry))
            }
        };
        match first {
            // SAFETY: fresh memory for a node.
            First::Value(value) => unsafe { node.write(Node::born(version, value)) },
            // SAFETY: as above.
            First::Vacant => unsafe { Node::write_vacant(node, version) },
        }
        // SAFETY: it lies there, or has memory of its own.
        unsafe { Node::set_room(node, Self::ROOM) };
        let new = Entry {
            key: UnsafeCell::new(key),
            // SAFETY: no other thread can reach the node. No method for users is called on the
            // cell.
            cell: ManuallyDrop::new(VersionedCell::of_head(unsafe { ValueHead::of_node(node) })),
            low: hash as u32,
            high: (hash >> 32) as u16,
            tenants: Tenants::new(true),
        };
        // SAFETY: fresh memory for an entry.
        unsafe { entry.write(new) };
        entry
    }

    /// Frees an entry that was not installed, and returns its key and its value.
    ///
    /// # Safety
    /// `entry` is from `make`, and no other thread has reached it.
    pub(super) unsafe fn unmake(entry: NonNull<Self>, local: &Local) -> (K, First<V>) {
        // SAFETY: the caller's contract.
        let (key, cell) = unsafe { Self::into_parts(entry, local) };
        let node = cell.head().load().node();
        core::mem::forget(cell);
        // SAFETY: alive, and the caller's alone.
        let first = match unsafe { node.as_ref() }.is_vacant() {
            true => {
                // SAFETY: as above; it has no value.
                unsafe { Node::<V>::discard(node.cast(), local) };
                First::Vacant
            }
            // SAFETY: as above; it has a value.
            false => First::Value(unsafe { Node::into_value(node.cast(), local) }),
        };
        (key, first)
    }

    /// The memory for a node of the entry, whose value is replaced: the room, if it is free. The
    /// caller is pinned.
    #[inline(always)]
    pub(super) fn new_node(&self, local: &Local, node: Node<V>) -> NonNull<Node<V>> {
        if Self::ROOM == Room::NONE || !self.tenants.enter() {
            return local.allocate(node);
        }
        // Derived from the address in the slot, which is that of the whole memory.
        let place = Self::place(self.whole());
        // SAFETY: the room is the caller's [V16].
        unsafe { place.write(node) };
        // SAFETY: it was written there.
        unsafe { Node::set_room(place, Self::ROOM) };
        place
    }

    /// A pointer to the entry that also reaches its room.
    #[inline(always)]
    fn whole(&self) -> NonNull<Self> {
        let address = core::ptr::from_ref(self).addr();
        // Its address was exposed when it was installed.
        let whole = core::ptr::with_exposed_provenance_mut(address);
        NonNull::new(whole).expect("an entry is not at null")
    }

    /// The hash of the key.
    #[inline]
    pub(super) fn hash(&self) -> u64 {
        u64::from(self.low) | u64::from(self.high) << 32
    }

    /// Whether the key may have this hash.
    #[inline(always)]
    pub(super) fn has_low_bits_of(&self, hash: u64) -> bool {
        self.low == hash as u32
    }

    #[inline(always)]
    pub(crate) fn key(&self) -> &K {
        // SAFETY: nothing writes it while it can be reached through a shared reference [V2].
        self.key.with(|key| unsafe { &*key })
    }

    /// The entry with this head.
    ///
    /// # Safety
    /// The head is that of an `Entry<K, V>` that was found under the pin.
    #[inline(always)]
    pub(super) unsafe fn of_head<'p>(head: &Head, _: &'p CellPin) -> &'p Self {
        // A cell is its head.
        const { assert!(size_of::<VersionedCell<V>>() == size_of::<Head>()) };
        let address = head.address() - offset_of!(Self, cell);
        // SAFETY: the caller's contract [V3]. Its address was exposed when it was installed.
        unsafe { &*core::ptr::with_exposed_provenance(address) }
    }

    /// Names the entry in a record [V11].
    pub(super) fn name(&self) -> (u64, usize) {
        (self.hash(), core::ptr::from_ref(self).addr())
    }

    /// The node of a word that was loaded from the head under the pin.
    #[inline(always)]
    pub(super) fn node<'p>(&'p self, seen: Word, _: &'p CellPin) -> NodeRef<'p> {
        // SAFETY: loaded under the pin, which outlives the reference [R1] [X1].
        unsafe { NodeRef::new(seen.node()) }
    }

    /// Marks that the entry ends. It is dead, and is retired afterwards [V16].
    #[inline]
    pub(super) fn end(&self) {
        if Self::ROOM != Room::NONE {
            self.tenants.end();
        }
    }

    /// Whether a node is in the room that is not the current one.
    fn has_replaced_node(&self) -> bool {
        let current = self.cell.head().load().node();
        // SAFETY: the current node belongs to the cell, and is alive.
        let has_current = || unsafe { current.as_ref() }.is_in_room();
        Self::ROOM != Room::NONE && self.tenants.has_node() && !has_current()
    }

    /// Moves the parts out of an entry, and leaves its memory to the node in its room, or frees it.
    ///
    /// # Safety
    /// `entry` is from `make`, and no other thread can reach it but by a node that was retired.
    pub(super) unsafe fn into_parts(entry: NonNull<Self>, local: &Local) -> (K, VersionedCell<V>) {
        // SAFETY: the caller alone has it.
        let this = unsafe { entry.as_ref() };
        // SAFETY: as above, and nothing uses the key again.
        let key = this.key.with(|key| unsafe { key.read() });
        // SAFETY: as above.
        let cell = unsafe { core::ptr::from_ref(&this.cell).read() };
        let cell = ManuallyDrop::into_inner(cell);
        this.end();
        if this.has_replaced_node() {
            // Another thread may be releasing the node. If its pin is older, it does not find the
            // mark [V16].
            // SAFETY: the parts were moved out, and no thread finds the entry.
            unsafe { local.retire(&local.pin(), entry.cast(), Self::MEMORY) };
        } else {
            // SAFETY: the parts were moved out.
            unsafe { Self::leave(entry, &local.pool()) };
        }
        (key, cell)
    }

    /// Frees the memory of an entry, or leaves it to the node in its room.
    ///
    /// # Safety
    /// `entry` is from `make`, no thread can reach it, and its key was dropped or moved out.
    #[inline]
    unsafe fn leave(entry: NonNull<Self>, pool: &Pool<'_>) {
        if Self::ROOM == Room::NONE {
            // SAFETY: the caller's contract.
            return unsafe { pool.free(entry) };
        }
        // SAFETY: the entry is a tenant. Another thread may free the memory while `leave` returns.
        let tenants = unsafe { &(*entry.as_ptr()).tenants };
        if tenants.leave(Tenant::Entry) {
            // SAFETY: the last tenant has left; it is from `make` with this layout.
            unsafe { pool.free(entry.cast::<WithRoom<K, V>>()) };
        }
    }

    /// # Safety
    /// As for `leave`.
    unsafe fn leave_destroyed(object: NonNull<u8>, pool: &Pool<'_>) {
        // SAFETY: the caller's contract.
        unsafe { Self::leave(object.cast(), pool) };
    }

    /// # Safety
    /// None: an entry has no shares.
    unsafe fn drop_share(_: NonNull<u8>) -> bool {
        true
    }

    /// # Safety
    /// None: nothing is left in the memory.
    unsafe fn destroy_nothing(_: NonNull<u8>) {}

    /// # Safety
    /// `object` is an entry that no thread can reach.
    unsafe fn destroy(object: NonNull<u8>) {
        // SAFETY: the caller's contract.
        let Entry { key, .. } = unsafe { object.cast::<Self>().as_ref() };
        // SAFETY: nothing uses the key again.
        key.with_mut(|key| unsafe { key.drop_in_place() });
    }
}
