//! A node: the value of a cell with its version.
//!
//! # Fields
//! | field | written | read |
//! |---|---|---|
//! | `version`, `prev`, `value` | before the node is published [C1] | pinned, or by a reference |
//! | `contents`, `room` | when the node is made | the same |
//! | `when` | from unset or owned to a stamp, by any thread [C4] | the same |
//! | `shares` | by owned references, and by the release of the node [R3] | the same |
//!
//! # Orderings
//! `when`: publishes nothing but itself; see [C4]. `shares`: as the count of `std::sync::Arc`.
#![allow(unsafe_code)]

use core::alloc::Layout;
use core::marker::PhantomData;
use core::mem::{MaybeUninit, offset_of};
use core::ptr::NonNull;

use super::clock;
use super::owner::Owner;
use super::room::{Room, Tenant, Tenants};
use super::stamp::When;
use super::version::Version;
use crate::reclaim::{Destructor, Kind, Local, Pool};
use crate::sync::{AtomicU32, AtomicU64, Canary, Ordering, UnsafeCell, constructor, global};

/// The part of a node that does not depend on the type of its value.
#[repr(C)]
pub(crate) struct Header {
    when: AtomicU64,
    /// One for the cell, until the node is released, and one for each owned snapshot.
    shares: AtomicU32,
    contents: Contents,
    room: Room,
    canary: Canary,
    written: UnsafeCell<Written>,
}

/// The contents of a node in the place of a value. Cells have values only; the entries of a map
/// have all three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Contents {
    Value,
    /// Nothing: a claim, or the key of the entry is absent.
    Vacant,
    /// Nothing, and the entry is buried: no thread writes over this node [V4].
    Dead,
}

// The documentation of cells states this size.
#[cfg(not(any(latchwork_loom, latchwork_shuttle)))]
const _: () = assert!(size_of::<Header>() <= 32);

struct Written {
    version: Version,
    prev: *mut Header,
}

/// A header and a value behind it, so that the address of one is the address of the other.
#[repr(C)]
pub(crate) struct Node<T> {
    header: Header,
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: a node lends `&T` to any thread, and the thread that releases it drops the `T`. `prev` is
// an address that is followed only under a pin [R1].
unsafe impl<T: Send + Sync> Send for Node<T> {}
// SAFETY: as above; nothing writes the node while it is shared but through atomics [C1] [X2].
unsafe impl<T: Send + Sync> Sync for Node<T> {}
// SAFETY: as above.
unsafe impl Send for Header {}
// SAFETY: as above.
unsafe impl Sync for Header {}

/// More shares than this are a leak in a loop, and end the process before the count overflows.
const MAX_SHARES: u32 = u32::MAX >> 1;

constructor! {
    fn dead_header() -> Header {
        Header {
            when: AtomicU64::new(When::stamp(clock::FIRST).bits()),
            shares: AtomicU32::new(1),
            contents: Contents::Dead,
            room: Room::NONE,
            canary: Canary::new(),
            written: UnsafeCell::new(Written {
                // That of no key.
                version: Version::new(u64::MAX),
                prev: core::ptr::null_mut(),
            }),
        }
    }
}

global! {
    // The last node of each entry that is buried. It is never retired, and no thread writes it: it
    // is stamped, and not shared [V4].
    const DEAD: Header = dead_header();
}

/// The dead node, which has no value.
pub(crate) fn dead() -> NonNull<Header> {
    DEAD.address()
}

impl Header {
    fn address(&self) -> NonNull<Header> {
        NonNull::from(self)
    }

    #[inline]
    fn new(when: When, version: Version, prev: *mut Header, contents: Contents) -> Self {
        Header {
            when: AtomicU64::new(when.bits()),
            shares: AtomicU32::new(1),
            contents,
            room: Room::NONE,
            canary: Canary::new(),
            written: UnsafeCell::new(Written { version, prev }),
        }
    }

    #[inline(always)]
    fn written(&self) -> &Written {
        self.canary.check();
        // SAFETY: nothing writes it while it can be reached through a shared reference [C1].
        self.written.with(|written| unsafe { &*written })
    }

    #[inline(always)]
    pub(crate) fn version(&self) -> Version {
        self.written().version
    }

    /// Whether the node has no value. Not asked of a claim, which no thread reads.
    #[inline(always)]
    pub(crate) fn is_vacant(&self) -> bool {
        self.contents != Contents::Value
    }

    /// Whether the node has a value and is stamped. So it is no claim, and a cell that has it in
    /// its head has this value.
    #[inline(always)]
    pub(crate) fn has_value_and_stamp(&self) -> bool {
        !self.is_vacant() && self.when().as_stamp().is_some()
    }

    /// Whether the node ends an entry of a map.
    #[inline(always)]
    pub(crate) fn is_dead(&self) -> bool {
        self.contents == Contents::Dead
    }

    /// Whether the node lies in the room of an entry of a map [V16].
    #[inline(always)]
    pub(crate) fn is_in_room(&self) -> bool {
        self.room != Room::NONE
    }

    /// Returns the node that this one replaces; `None` for the first.
    #[inline]
    pub(crate) fn prev(&self) -> Option<NonNull<Header>> {
        NonNull::new(self.written().prev)
    }

    #[inline(always)]
    pub(crate) fn when(&self) -> When {
        // Acquire: a thread that finds the stamp reads no earlier clock than the thread that has
        // set it [C4]. An owner is fully initialised [X1].
        When::from_bits(self.when.load(Ordering::Acquire))
    }

    /// Stamps the node that the caller has just published [C4].
    #[inline]
    pub(crate) fn stamp_published(&self) {
        crate::sync::store_load_fence();
        self.stamp_now();
    }

    /// Stamps an unstamped node that the caller has found.
    #[cold]
    pub(super) fn stamp_found(&self) -> u64 {
        // A snapshot that reads the clock from now on finds the node, as the caller does [C4].
        crate::sync::full_fence();
        self.stamp_now()
    }

    #[inline]
    fn stamp_now(&self) -> u64 {
        // Marked as used before any thread can find the stamp: a thread that finds it advances the
        // clock for its next snapshot [C4].
        let stamp = clock::commit_timestamp();
        // A write that the caller does not find from now on gets no earlier timestamp [C4].
        crate::sync::load_load_fence();
        self.set_stamp(When::UNSET, stamp)
    }

    /// Stores a stamp in place of `from`, unless another thread has done so.
    #[inline]
    pub(crate) fn set_stamp(&self, from: When, stamp: u64) -> u64 {
        // Release: a thread that finds the stamp also sees the commit, if the stamp is set for an
        // owner [X2], and reads no earlier clock than the caller has [C4]. Pairs with the load in
        // `when`. Acquire on failure: as that load.
        let set = self.when.compare_exchange(
            from.bits(),
            When::stamp(stamp).bits(),
            Ordering::Release,
            Ordering::Acquire,
        );
        match set {
            Ok(_) => stamp,
            Err(bits) => When::from_bits(bits).as_stamp().unwrap_or(stamp),
        }
    }

    /// Records that the owner of the node determines its stamp.
    #[inline]
    pub(crate) fn set_when(&self, when: When) {
        // Relaxed: a thread that finds the stamp also sees the commit, as if it had loaded the
        // status. The fence between the commit and this store ensures it [X2].
        self.when.store(when.bits(), Ordering::Relaxed);
    }

    /// Installs an unpublished node over `base`.
    #[inline]
    pub(crate) fn place(&mut self, when: When, base: NodeRef<'_>) {
        // A draft is unset, and has its share.
        if when != When::UNSET {
            self.when = AtomicU64::new(when.bits());
        }
        self.written = UnsafeCell::new(Written {
            version: base.version().next(),
            prev: base.as_ptr().as_ptr(),
        });
    }

    /// Returns whether the caller's reference is the only one. Then no thread can add another: to
    /// add one requires a reference, or a pin from before the node was retired [R3].
    #[inline]
    pub(crate) fn is_unshared(&self) -> bool {
        is_one(&self.shares)
    }

    /// Adds a reference for an [`OwnedVersioned`](crate::cell::OwnedVersioned). The caller has a
    /// pin or a reference.
    pub(crate) fn share(&self) {
        // Relaxed: the caller may use the node already; a new share orders nothing [R3].
        if self.shares.fetch_add(1, Ordering::Relaxed) > MAX_SHARES {
            // As `Arc` does.
            std::process::abort();
        }
    }
}

#[inline]
fn is_one(shares: &AtomicU32) -> bool {
    // Acquire: synchronises with the last use of the value by each other owner. Pairs with the
    // Release in `give_up` [R3].
    shares.load(Ordering::Acquire) == 1
}

/// Releases a reference. `true`: it was the last, and the caller owns the node.
#[inline]
fn give_up(shares: &AtomicU32) -> bool {
    if is_one(shares) {
        return true;
    }
    // Release: this owner's use of the value happens before its end. Pairs with the Acquire in
    // `is_one` and below [R3].
    if shares.fetch_sub(1, Ordering::Release) != 1 {
        return false;
    }
    // Acquire: as in `is_one`. A load and not a fence, so that it can be weakened alone.
    shares.load(Ordering::Acquire);
    // The caller's alone, and the same answer if it asks again.
    // Relaxed: another thread reads it only after it has removed the node from a slot, whose mutex
    // the caller locks later [R4].
    shares.store(1, Ordering::Relaxed);
    true
}

impl<T: Send + Sync + 'static> Node<T> {
    /// How a node is released once it was retired.
    pub(crate) const KIND: &'static Kind = {
        let destructor = Destructor::of::<(T, Header)>();
        // SAFETY: the functions drop the one reference that a retired node has to itself, and end
        // the node.
        let kind = unsafe { Kind::of::<Self>(Self::drop_share, Self::destroy, destructor) };
        // SAFETY: the count is there, and `drop_share` reads it as the contract requires.
        &unsafe { kind.counted_at(Self::SHARES) }
    };

    /// The same, of a node of an entry, which may be in the room of the entry [V16].
    pub(crate) const OF_ENTRY: &'static Kind = {
        let destructor = Destructor::of::<(T, Header)>();
        // SAFETY: as above.
        let kind = unsafe { Kind::of::<Self>(Self::drop_share, Self::destroy, destructor) };
        // SAFETY: as above.
        let kind = unsafe { kind.counted_at(Self::SHARES) };
        // SAFETY: its memory is its own, or belongs to its entry.
        &unsafe { kind.freed_by(Self::free_destroyed) }
    };

    const SHARES: usize = offset_of!(Self, header) + offset_of!(Header, shares);

    /// The kind of a node that is alive, by its header.
    #[inline(always)]
    pub(crate) fn kind_of(header: &Header) -> &'static Kind {
        match header.is_in_room() {
            false => Self::KIND,
            true => Self::OF_ENTRY,
        }
    }

    /// The first node of a cell: every snapshot sees it, there being nothing older.
    pub(crate) fn first(version: Version, value: T) -> Self {
        let when = When::stamp(clock::FIRST);
        Self::new(first_header(when, version, Contents::Value), value)
    }

    /// The first node of an entry of a map, whose key was absent before the node is stamped [V7].
    pub(crate) fn born(version: Version, value: T) -> Self {
        Self::new(first_header(When::UNSET, version, Contents::Value), value)
    }

    /// Writes the first node of an entry whose key is absent.
    ///
    /// # Safety
    /// `place` is fresh memory for a node.
    pub(crate) unsafe fn write_vacant(place: NonNull<Self>, version: Version) {
        let when = When::stamp(clock::FIRST);
        // SAFETY: the caller's contract.
        unsafe { Self::write_header(place, first_header(when, version, Contents::Vacant)) };
    }

    /// Records that a node lies in the room of an entry.
    ///
    /// # Safety
    /// `node` is there, is the caller's, and was not published.
    pub(crate) unsafe fn set_room(node: NonNull<Self>, room: Room) {
        // SAFETY: the caller's contract. Only the field is written.
        unsafe { (*node.as_ptr()).header.room = room };
    }

    /// Creates a node that will replace `prev`.
    pub(crate) fn after(prev: NodeRef<'_>, value: T) -> Self {
        Self::new(header_after(prev, Contents::Value), value)
    }

    /// Creates a node without a value that will replace `prev`.
    pub(crate) fn vacant_after(local: &Local, prev: NodeRef<'_>) -> NonNull<Self> {
        Self::without_value(local, header_after(prev, Contents::Vacant))
    }

    /// A node without a value to be [placed](Header::place).
    pub(crate) fn vacant_draft(local: &Local) -> NonNull<Self> {
        let header = first_header(When::UNSET, Version::FIRST, Contents::Vacant);
        Self::without_value(local, header)
    }

    /// Creates a node of an owner, which will replace `prev` when the owner commits.
    #[inline]
    pub(crate) fn owned(when: When, prev: NodeRef<'_>, value: T) -> Self {
        let version = prev.version().next();
        let prev = prev.as_ptr().as_ptr();
        Self::new(Header::new(when, version, prev, Contents::Value), value)
    }

    /// A node to be [placed](Header::place).
    #[inline]
    pub(crate) fn draft(value: T) -> Self {
        Self::new(
            first_header(When::UNSET, Version::FIRST, Contents::Value),
            value,
        )
    }

    /// A node without a value, that keeps others from replacing `base` until `owner` is decided.
    pub(crate) fn claim(local: &Local, base: NodeRef<'_>, owner: &Owner) -> NonNull<Self> {
        let when = When::claim(core::ptr::from_ref(owner).expose_provenance());
        let (version, prev) = (base.version(), base.as_ptr().as_ptr());
        Self::without_value(local, Header::new(when, version, prev, Contents::Vacant))
    }

    /// A node without a value is written where it lies: the thread may have no room on its stack
    /// for a value that it does not have [R8].
    fn without_value(local: &Local, header: Header) -> NonNull<Self> {
        let node = local.reserve::<Self>();
        // SAFETY: fresh memory for a node.
        unsafe { Self::write_header(node, header) };
        node
    }

    /// Writes a node without a value.
    ///
    /// # Safety
    /// `node` is fresh memory for a node.
    unsafe fn write_header(node: NonNull<Self>, header: Header) {
        // SAFETY: the caller's contract; a node begins with its header.
        unsafe { node.cast().write(header) };
        // A checker keeps a state with each cell. In a real build any bytes are a cell without a
        // value.
        #[cfg(latchwork_loom)]
        {
            // SAFETY: inside the fresh memory.
            let value = unsafe { &raw mut (*node.as_ptr()).value };
            // SAFETY: as above.
            unsafe { value.write(UnsafeCell::new(MaybeUninit::uninit())) };
        }
    }

    #[inline]
    fn new(header: Header, value: T) -> Self {
        Node {
            header,
            value: UnsafeCell::new(MaybeUninit::new(value)),
        }
    }

    /// # Safety
    /// It has a value.
    #[inline(always)]
    pub(crate) unsafe fn value(&self) -> &T {
        self.value.with(|value| {
            // SAFETY: nothing writes it while it can be reached through a shared reference [C1].
            let value = unsafe { &*value };
            // SAFETY: it has a value, by the caller's contract.
            unsafe { value.assume_init_ref() }
        })
    }

    /// Moves the value out of a node, and frees the node.
    ///
    /// # Safety
    /// `node` is from `allocate`, has a value, and no other thread can reach it.
    pub(crate) unsafe fn into_value(node: NonNull<Self>, local: &Local) -> T {
        // SAFETY: alive, and the caller's alone.
        let value = unsafe { &node.as_ref().value };
        // SAFETY: it has a value, which is not read again.
        let value = value.with_mut(|value| unsafe { value.cast::<T>().read() });
        // SAFETY: the caller alone has the node, and its value was moved out.
        unsafe { Self::discard(node, local) };
        value
    }

    /// Moves the value out of a node of an owner that was aborted. The node becomes a claim, which
    /// has no value: other threads may still find it, and retire it [X7].
    ///
    /// # Safety
    /// The node has a value and was installed by this thread under its pin. Its owner was aborted,
    /// so no thread reads the value.
    pub(crate) unsafe fn take_aborted(node: NonNull<Self>) -> T {
        // SAFETY: alive, under the pin.
        let Node { header, value } = unsafe { node.as_ref() };
        let owner = header.when().as_owner().expect("the node of an owner");
        // SAFETY: no thread reads the value, and this one does so once: a claim has none [V14].
        let value = value.with_mut(|value| unsafe { value.cast::<T>().read() });
        header.set_when(When::claim(owner));
        value
    }

    /// Frees a node without a value.
    ///
    /// # Safety
    /// `node` is from `allocate` or in the room of an entry, has no value, and no other thread can
    /// reach it.
    pub(crate) unsafe fn discard(node: NonNull<Self>, local: &Local) {
        // SAFETY: alive, and the caller's alone.
        let room = unsafe { node.as_ref() }.header.room;
        // SAFETY: the caller alone has the node. Only its header is left.
        unsafe { node.drop_in_place() };
        if room == Room::NONE {
            // SAFETY: as above.
            return unsafe { local.free(node) };
        }
        // SAFETY: as above.
        unsafe { Self::leave_room(node, room, local) };
    }

    /// Leaves the room of an entry, as [`free`](Self::free) does.
    ///
    /// # Safety
    /// As for `free`.
    #[cold]
    #[inline(never)]
    unsafe fn leave_room(node: NonNull<Self>, room: Room, local: &Local) {
        // SAFETY: the caller's contract.
        unsafe { Self::free(node, room, &local.pool()) };
    }

    /// Frees the memory of a node of an entry that was destroyed.
    ///
    /// # Safety
    /// The node was dropped, and was the caller's.
    unsafe fn free_destroyed(object: NonNull<u8>, pool: &Pool<'_>) {
        let node = object.cast::<Self>();
        // SAFETY: the field is plain and stays as it is until the memory is used again.
        let room = unsafe { (*node.as_ptr()).header.room };
        // SAFETY: the caller's contract.
        unsafe { Self::free(node, room, pool) };
    }

    /// Frees the memory of a node, or leaves it to the entry in whose room it is.
    ///
    /// # Safety
    /// The node was in this room, or is from `allocate`. It was dropped, and was the caller's.
    #[inline]
    unsafe fn free(node: NonNull<Self>, room: Room, pool: &Pool<'_>) {
        if room == Room::NONE {
            // SAFETY: the caller's contract.
            return unsafe { pool.free(node) };
        }
        let memory = node.cast::<u8>();
        // SAFETY: they lie directly before the room, and the node is a tenant [V16].
        let tenants = unsafe { memory.sub(size_of::<Tenants>()).cast::<Tenants>() };
        // SAFETY: as above. Another thread may free the memory while `leave` returns.
        let tenants = unsafe { tenants.as_ref() };
        let is_last = match pool.is_pinned() {
            true => tenants.leave_pinned(),
            false => tenants.leave(Tenant::Node),
        };
        if is_last {
            // SAFETY: the memory of the entry is the caller's.
            unsafe { Self::free_entry(memory, room, pool) };
        }
    }

    /// Frees the memory of an entry that was released before its node.
    ///
    /// # Safety
    /// The node was in this room, and its memory is the caller's.
    #[cold]
    unsafe fn free_entry(node: NonNull<u8>, room: Room, pool: &Pool<'_>) {
        let size = room.offset() + size_of::<Self>();
        let layout = Layout::from_size_align(size, align_of::<Self>()).expect("it was allocated");
        // SAFETY: an entry with a room has this layout, and begins there [V16].
        let entry = unsafe { node.sub(room.offset()) };
        // SAFETY: as above; its memory is the caller's.
        unsafe { pool.free_as(entry, layout) };
    }

    /// The value, for a write in place: the node becomes the first one of a new cell with the next
    /// version.
    ///
    /// # Safety
    /// It is no claim.
    pub(crate) unsafe fn write_in_place(&mut self) -> &mut T {
        let version = self.header.version().next();
        let when = When::stamp(clock::FIRST);
        self.header = first_header(when, version, Contents::Value);
        self.value.with_mut(|value| {
            // SAFETY: the node is borrowed exclusively.
            let value = unsafe { &mut *value };
            // SAFETY: a node that is no claim has a value, by the caller's contract.
            unsafe { value.assume_init_mut() }
        })
    }

    /// # Safety
    /// `object` is a node with a reference that the caller drops.
    unsafe fn drop_share(object: NonNull<u8>) -> bool {
        let node = object.cast::<Self>();
        // SAFETY: alive, by the share. Only the count is borrowed: another may free the node while
        // `give_up` returns.
        give_up(unsafe { &(*node.as_ptr()).header.shares })
    }

    /// # Safety
    /// `object` is a node whose last reference the caller has dropped.
    unsafe fn destroy(object: NonNull<u8>) {
        let node = object.cast::<Self>();
        // The header ends after the value, including when the destructor of the value panics.
        let ended = Ended(node);
        // SAFETY: no other thread can reach it, and it ends after this reference.
        let Node { header, value } = unsafe { node.as_ref() };
        if !header.when().is_claim() && !header.is_vacant() {
            // Dropped in place, because this thread may have no space for it on its stack [R8].
            // SAFETY: a node that is no claim has a value, and nothing uses it again.
            value.with_mut(|value| unsafe { value.cast::<T>().drop_in_place() });
        }
        drop(ended);
    }
}

/// A node that is alive for `'p`, by a pin or by a reference. Its address also reaches the value.
pub(crate) struct NodeRef<'p>(NonNull<Header>, PhantomData<&'p Header>);

impl Clone for NodeRef<'_> {
    fn clone(&self) -> Self {
        *self
    }
}
impl Copy for NodeRef<'_> {}

impl PartialEq for NodeRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<'p> NodeRef<'p> {
    /// # Safety
    /// `node` is alive for `'p`, and so is whatever node and owner a pin from before it was loaded
    /// would protect [R1] [X1].
    #[inline(always)]
    pub(crate) unsafe fn new(node: NonNull<Header>) -> Self {
        NodeRef(node, PhantomData)
    }

    #[inline(always)]
    pub(crate) fn header(self) -> &'p Header {
        // SAFETY: alive, by the contract of `new`.
        unsafe { self.0.as_ref() }
    }

    #[inline(always)]
    pub(crate) fn as_ptr(self) -> NonNull<Header> {
        self.0
    }

    #[inline(always)]
    pub(crate) fn version(self) -> Version {
        self.header().version()
    }

    /// Returns the stamp, if it is set.
    #[inline(always)]
    pub(crate) fn stamp(self) -> Option<u64> {
        self.header().when().as_stamp()
    }

    /// # Safety
    /// The node is a `Node<T>`, and has a value.
    #[inline(always)]
    pub(crate) unsafe fn value<T: Send + Sync + 'static>(self) -> &'p T {
        // SAFETY: alive, and a `Node<T>` by the caller's contract.
        let node = unsafe { self.0.cast::<Node<T>>().as_ref() };
        // SAFETY: it has one, by the caller's contract.
        unsafe { node.value() }
    }
}

#[inline(always)]
fn first_header(when: When, version: Version, contents: Contents) -> Header {
    Header::new(when, version, core::ptr::null_mut(), contents)
}

#[inline(always)]
fn header_after(prev: NodeRef<'_>, contents: Contents) -> Header {
    let version = prev.version().next();
    Header::new(When::UNSET, version, prev.as_ptr().as_ptr(), contents)
}

/// A node whose value has been or is being dropped. Under a checker the end of its header is an
/// event; the rest is plain memory.
struct Ended<T>(NonNull<Node<T>>);

impl<T> Drop for Ended<T> {
    fn drop(&mut self) {
        // SAFETY: the caller that releases the node made this, and nothing uses the node again.
        unsafe { self.0.drop_in_place() };
    }
}
