//! Links to nodes that can be removed while threads read them.
#![allow(unsafe_code)]

use core::fmt;
use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::{self, NonNull};

use crate::cell::ReadPin;
use crate::reclaim::{self, Destructor, Kind, Local, Retired};
use crate::sync::{AtomicPtr, Canary, Ordering};

/// A node and the canary that tests check.
struct Node<T> {
    canary: Canary,
    value: T,
}

impl<T: Send + Sync + 'static> Node<T> {
    /// How a retired node is freed.
    const KIND: &'static Kind = {
        let destructor = Destructor::of::<Self>();
        // SAFETY: a node has one owner, which has retired it; `destroy` drops it.
        &unsafe { Kind::of::<Self>(Self::drop_share, Self::destroy, destructor) }
    };

    /// # Safety
    /// As for [`destroy`](Self::destroy).
    unsafe fn drop_share(_: NonNull<u8>) -> bool {
        true
    }

    /// # Safety
    /// `object` must be a node of this type that no thread can reach, and is dropped only here
    /// [O9].
    unsafe fn destroy(object: NonNull<u8>) {
        // SAFETY: the caller's contract. The node is dropped in place [R8].
        unsafe { ptr::drop_in_place(object.cast::<Self>().as_ptr()) };
    }
}

/// A node that is in no link: it has one owner, as in a `Box`.
///
/// Readers that found the node while it was linked may still read it. So its value has no `&mut`,
/// and is dropped later than the node: when every present [pin](crate::pin) has ended. The drop
/// runs on a thread that makes or drops nodes or writes cells, as that of the replaced values of a
/// [`VersionedCell`](crate::VersionedCell). Nodes and cells share [`stats`](crate::stats()) and
/// [`flush`](crate::flush).
///
/// # Panics
/// To make or to drop a node may run the destructors of reclaimable values of any cell and node. If
/// one panics, so does the call: no node is made, or the node is dropped all the same. During a
/// panic none is run.
///
/// # Deadlocks
/// Hold no latch that such a destructor acquires.
///
/// # Examples
/// ```
/// use latchwork::latch::{Link, Unlinked};
/// let link = Link::new(Unlinked::new("first"));
/// let old = link.swap(Some(Unlinked::new("second")));
/// assert_eq!(*old.unwrap(), "first");
/// ```
pub struct Unlinked<T: Send + Sync + 'static>(NonNull<Node<T>>, PhantomData<T>);

// SAFETY: an owner of a `T` to which other threads may have `&T`: it needs `Send` and `Sync` of
// `T`.
unsafe impl<T: Send + Sync + 'static> Send for Unlinked<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync + 'static> Sync for Unlinked<T> {}

impl<T: Send + Sync + 'static> Unlinked<T> {
    /// Makes a node. The call first drops some reclaimable values of any cell and node: see
    /// [`VersionedCell`](crate::VersionedCell), *Memory*.
    ///
    /// # Panics
    /// Panics if a destructor of a reclaimable value panics. No node is made then.
    pub fn new(value: T) -> Self {
        let node = Node {
            canary: Canary::new(),
            value,
        };
        let node = reclaim::with(|local| {
            local.collect_some();
            local.allocate(node)
        });
        Unlinked(node, PhantomData)
    }

    fn into_raw(self) -> *mut Node<T> {
        core::mem::ManuallyDrop::new(self).0.as_ptr()
    }

    /// # Safety
    /// `node` must come from `into_raw`, and the caller must own it [O8].
    unsafe fn from_raw(node: *mut Node<T>) -> Option<Self> {
        NonNull::new(node).map(|node| Unlinked(node, PhantomData))
    }
}

impl<T: Send + Sync + 'static> Deref for Unlinked<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: owned, so not retired [O8].
        let node = unsafe { self.0.as_ref() };
        node.canary.check();
        &node.value
    }
}

impl<T: Send + Sync + 'static> Drop for Unlinked<T> {
    fn drop(&mut self) {
        reclaim::with(|local: &Local| {
            let pin = local.pin();
            // SAFETY: `allocate` returned it, it is in no link, and its one owner is being dropped
            // [O8] [O9].
            let node = unsafe { Retired::new(self.0.cast(), Node::<T>::KIND) };
            local.retire(&pin, node);
            drop(pin);
            // Afterwards, since a destructor may panic.
            local.collect_some();
        });
    }
}

impl<T: Send + Sync + 'static + fmt::Debug> fmt::Debug for Unlinked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Unlinked").field(&**self).finish()
    }
}

/// A place for one node, or for none: a pointer that readers follow under a [pin](crate::pin).
///
/// [`get`](Self::get) is one load. The value of a removed node is kept until no reader can have a
/// reference to it. Its latch reports whether the node still *belongs* to the structure
/// ([`Obsolete`](super::Obsolete)).
///
/// A node is in one link at a time, and [`swap`](Self::swap) moves it. Links belong inside the
/// value that a latch protects. Without a latch they are still sound, and each change of one link
/// is atomic.
///
/// # Long chains
/// A dropped link drops its node later, and the links of that node drop theirs later still. So a
/// long list would be reclaimed one node at a time, and [`stats`](crate::stats()) counts only the
/// first node. Let its destructor remove the nodes in a loop,
/// as `examples/sorted_list.rs` does.
///
/// # Examples
/// ```
/// use latchwork::latch::{Link, Unlinked};
///
/// let link = Link::empty();
/// link.swap(Some(Unlinked::new(1)));
/// let pin = latchwork::pin();
/// let seen = link.get(&pin).unwrap();
/// link.swap(None); // removed now, and dropped after the pin
/// assert_eq!((*seen, link.get(&pin)), (1, None));
/// ```
pub struct Link<T: Send + Sync + 'static>(AtomicPtr<Node<T>>, PhantomData<T>);

impl<T: Send + Sync + 'static> Link<T> {
    /// Makes a link with a node in it.
    pub fn new(node: Unlinked<T>) -> Self {
        Link(AtomicPtr::new(node.into_raw()), PhantomData)
    }

    /// Makes a link without a node.
    ///
    /// # Examples
    /// ```
    /// use latchwork::latch::Link;
    /// let children: [Link<u8>; 16] = [const { Link::empty() }; 16];
    /// assert!(children[0].get(&latchwork::pin()).is_none());
    /// ```
    #[cfg(not(latchwork_loom))]
    pub const fn empty() -> Self {
        Link(AtomicPtr::new(ptr::null_mut()), PhantomData)
    }

    /// Makes a link without a node.
    #[cfg(latchwork_loom)]
    pub fn empty() -> Self {
        Link(AtomicPtr::new(ptr::null_mut()), PhantomData)
    }

    /// Returns the node, which is valid for as long as the pin lives.
    ///
    /// # Blocking
    /// Never blocks.
    ///
    /// # Memory ordering
    /// The operations before the [`swap`](Self::swap) that installed the node happen before the
    /// return of this call.
    #[inline]
    pub fn get<'p>(&'p self, _: &'p ReadPin) -> Option<&'p T> {
        // Acquire: the node is fully initialised. Pairs with the Release in `swap` [O8].
        let node = self.0.load(Ordering::Acquire);
        // SAFETY: null, or loaded from a link under the pin, before which it was not retired [O9].
        let node = unsafe { node.as_ref() }?;
        node.canary.check();
        Some(&node.value)
    }

    /// Installs `node` in the link, and returns the previous node.
    ///
    /// The value of the previous node is dropped after the node is dropped and no reader has a
    /// reference to it.
    ///
    /// # Blocking
    /// Never blocks.
    ///
    /// # Memory ordering
    /// An acquire and release operation: it pairs with [`get`](Self::get) and with other swaps of
    /// the link.
    #[inline]
    pub fn swap(&self, node: Option<Unlinked<T>>) -> Option<Unlinked<T>> {
        let node = node.map_or(ptr::null_mut(), Unlinked::into_raw);
        // Release: publishes the node. Acquire: the thread that retires the removed node does so
        // after each thread that moved it from link to link [O8].
        let old = self.0.swap(node, Ordering::AcqRel);
        // SAFETY: a link owns its node, and this swap removed the node [O8].
        unsafe { Unlinked::from_raw(old) }
    }
}

impl<T: Send + Sync + 'static> Drop for Link<T> {
    fn drop(&mut self) {
        // Not freed at once, although no other thread has this link: the node may have been in
        // another link, where a reader found it [O9].
        drop(self.swap(None));
    }
}

impl<T: Send + Sync + 'static> Default for Link<T> {
    fn default() -> Self {
        Link::empty()
    }
}

impl<T: Send + Sync + 'static> From<Option<Unlinked<T>>> for Link<T> {
    fn from(node: Option<Unlinked<T>>) -> Self {
        node.map_or_else(Link::empty, Link::new)
    }
}

impl<T: Send + Sync + 'static + fmt::Debug> fmt::Debug for Link<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pin = crate::pin();
        f.debug_tuple("Link").field(&self.get(&pin)).finish()
    }
}
