//! Where a node hangs, so that it can be taken out while others read it.
#![allow(unsafe_code)]

use core::fmt;
use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::{self, NonNull};

use crate::cell::ReadPin;
use crate::reclaim::{self, Destructor, Kind, Local};
use crate::sync::{AtomicPtr, Canary, Ordering};

/// A node as it lies in memory.
struct Node<T> {
    canary: Canary,
    value: T,
}

impl<T: Send + Sync + 'static> Node<T> {
    /// How a node is released once it was retired.
    const KIND: &'static Kind = {
        // SAFETY: `release` drops the one node that was retired.
        &unsafe { Kind::of::<Self>(Self::release, Destructor::of::<Self>()) }
    };

    /// # Safety
    /// `object` is a node of this type that nobody can reach, and is dropped this once [O9].
    unsafe fn release(object: NonNull<u8>) -> bool {
        // SAFETY: the caller's contract. Where it lies [R8].
        unsafe { ptr::drop_in_place(object.cast::<Self>().as_ptr()) };
        true
    }
}

/// A node that hangs nowhere: it has one owner, as in a `Box`.
///
/// Readers who came upon it when it was linked may still look at it, so there is no `&mut` to its value, and when it
/// is dropped its value is dropped later: once no [pin](crate::pin) of now is left, by a thread that makes or drops nodes or writes
/// cells, as the replaced values of a [`VersionedCell`](crate::VersionedCell), with which it shares
/// [`stats`](crate::stats()) and [`flush`](crate::flush).
///
/// To make or to drop a node may run the destructors of values that are due, of any cell and node: hold no latch that one of them takes.
/// If one panics, so does the call: no node is made, or the one that is dropped goes all the same. In a panic none is run.
///
/// # Examples
/// ```
/// use latchwork::latch::{Link, Unlinked};
/// let link = Link::new(Unlinked::new("first"));
/// let old = link.swap(Some(Unlinked::new("second")));
/// assert_eq!(*old.unwrap(), "first");
/// ```
pub struct Unlinked<T: Send + Sync + 'static>(NonNull<Node<T>>, PhantomData<T>);

// SAFETY: an owner of a `T` that others may look at: it may go where both may.
unsafe impl<T: Send + Sync + 'static> Send for Unlinked<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync + 'static> Sync for Unlinked<T> {}

impl<T: Send + Sync + 'static> Unlinked<T> {
    /// Makes a node. Begins by dropping some values that are due, of any cell and node: see
    /// [`VersionedCell`](crate::VersionedCell), *Memory*.
    pub fn new(value: T) -> Self {
        let node = Node {
            canary: Canary::new(),
            value,
        };
        let node = reclaim::with(|local| {
            local.tidy();
            local.allocate(node)
        });
        Unlinked(node, PhantomData)
    }

    fn into_raw(self) -> *mut Node<T> {
        core::mem::ManuallyDrop::new(self).0.as_ptr()
    }

    /// # Safety
    /// `node` came from `into_raw`, and its owner is the caller [O8].
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
            // SAFETY: it came from `allocate`, hangs in no link, and its one owner is being dropped [O8] [O9].
            unsafe { local.retire(&pin, self.0.cast(), Node::<T>::KIND) };
            drop(pin);
            // Afterwards, since a destructor may panic; and not in a panic, where that would end the process.
            if !std::thread::panicking() {
                local.tidy();
            }
        });
    }
}

impl<T: Send + Sync + 'static + fmt::Debug> fmt::Debug for Unlinked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Unlinked").field(&**self).finish()
    }
}

/// A place for a node, or for none: a pointer that readers follow under a [pin](crate::pin).
///
/// [`get`](Self::get) is one load. A node that is taken out stays where it is until no reader can have it, so a reader never holds a
/// node that is gone; whether it still *belongs* to the structure is for its latch to say
/// ([`Obsolete`](super::Obsolete)).
///
/// A node hangs in one link at a time and moves by [`swap`](Self::swap). Links belong inside what a latch protects; without a latch they
/// are still sound, and each change of one link is atomic.
///
/// # Long chains
/// A link that is dropped drops its node later, whose links drop theirs later still: a long list would go one node at a time. Let
/// its destructor take it apart in a loop, as `examples/sorted_list.rs` does.
///
/// # Examples
/// ```
/// use latchwork::latch::{Link, Unlinked};
///
/// let link = Link::empty();
/// link.swap(Some(Unlinked::new(1)));
/// let pin = latchwork::pin();
/// let seen = link.get(&pin).unwrap();
/// link.swap(None); // taken out, and dropped after the pin
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

    /// Returns the node, which stays for as long as the pin.
    ///
    /// # Memory ordering
    /// What was done before the node was put here comes before.
    #[inline]
    pub fn get<'p>(&'p self, _: &'p ReadPin) -> Option<&'p T> {
        // Acquire: the node is whole. Pairs with the Release in `swap` [O8].
        let node = self.0.load(Ordering::Acquire);
        // SAFETY: null, or loaded from a link under the pin, before which it was not retired [O9].
        let node = unsafe { node.as_ref() }?;
        node.canary.check();
        Some(&node.value)
    }

    /// Puts `node` in the place of the one that is here, and returns that. Dropped, it is gone once nobody reads it.
    #[inline]
    pub fn swap(&self, node: Option<Unlinked<T>>) -> Option<Unlinked<T>> {
        let node = node.map_or(ptr::null_mut(), Unlinked::into_raw);
        // Release: publishes the node. Acquire: who retires the node that comes out does so after whoever moved it from link to
        // link [O8].
        let old = self.0.swap(node, Ordering::AcqRel);
        // SAFETY: a link owns what hangs in it, and this took it out [O8].
        unsafe { Unlinked::from_raw(old) }
    }
}

impl<T: Send + Sync + 'static> Drop for Link<T> {
    fn drop(&mut self) {
        // Not at once, although nobody else has this link: the node may have hung in another, where a reader found it [O9].
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
