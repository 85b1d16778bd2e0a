//! A value with its version: what a cell points to.
//!
//! # Fields
//! | field | written | read |
//! |---|---|---|
//! | `version`, `prev`, `value` | before the node is published, and never after [C1] | under a pin or with a share |
//! | `stamp` | once, from unset, by whoever needs it first [C4] | the same |
//! | `shares` | by owned snapshots and by whoever releases the node [R3] | the same |
//!
//! # Orderings
//! `stamp`: publishes nothing but itself; see [C4]. `shares`: as the count of `std::sync::Arc`.
#![allow(unsafe_code)]

use core::ptr::NonNull;

use super::clock;
use super::version::Version;
use crate::reclaim::Kind;
use crate::sync::{AtomicU32, AtomicU64, Canary, Ordering, UnsafeCell};

pub(super) struct Node<T> {
    stamp: AtomicU64,
    /// One for the cell, until the node is released, and one for each owned snapshot.
    shares: AtomicU32,
    canary: Canary,
    written: UnsafeCell<Written<T>>,
}

struct Written<T> {
    version: Version,
    #[cfg_attr(not(latchwork_loom), allow(dead_code, reason = "for `snapshot`"))]
    prev: *mut Node<T>,
    value: T,
}

// SAFETY: it hands out `&T` to any thread, and whoever releases it drops the `T`; `prev` is an address
// that is followed under a pin only [R1].
unsafe impl<T: Send + Sync> Send for Node<T> {}
// SAFETY: as above; nothing writes the node while it is shared but through atomics [C1].
unsafe impl<T: Send + Sync> Sync for Node<T> {}

/// More shares than this are a leak in a loop, and end the process before the count overflows.
const MAX_SHARES: u32 = u32::MAX >> 1;

impl<T: Send + Sync + 'static> Node<T> {
    /// How a node is released once it was retired.
    pub(super) const KIND: &'static Kind = {
        // SAFETY: `release` gives up the one share that a retired node has of itself.
        &unsafe { Kind::of::<Self>(Self::release) }
    };

    /// The first node of a cell: every snapshot sees it, there being nothing older.
    pub(super) fn first(version: Version, value: T) -> Self {
        Self::with_stamp(clock::FIRST, version, core::ptr::null_mut(), value)
    }

    /// A node to be put in the place of `prev`.
    pub(super) fn after(prev: NonNull<Self>, version: Version, value: T) -> Self {
        Self::with_stamp(clock::UNSET, version, prev.as_ptr(), value)
    }

    fn with_stamp(stamp: u64, version: Version, prev: *mut Self, value: T) -> Self {
        Node {
            stamp: AtomicU64::new(stamp),
            shares: AtomicU32::new(1),
            canary: Canary::new(),
            written: UnsafeCell::new(Written {
                version,
                prev,
                value,
            }),
        }
    }

    #[inline(always)]
    fn written(&self) -> &Written<T> {
        self.canary.check();
        // SAFETY: nothing writes it while it can be reached through a shared reference [C1].
        self.written.with(|written| unsafe { &*written })
    }

    #[inline(always)]
    pub(super) fn version(&self) -> Version {
        self.written().version
    }

    #[inline(always)]
    pub(super) fn value(&self) -> &T {
        &self.written().value
    }

    /// The node that it replaced; `None` for the first.
    #[cfg(latchwork_loom)]
    pub(super) fn prev(&self) -> Option<NonNull<Self>> {
        NonNull::new(self.written().prev)
    }

    pub(super) fn into_value(self) -> T {
        let Node { written, .. } = self;
        written.into_inner().value
    }

    /// The value, for a write in place: the node becomes the first one of a new cell with the next
    /// version. The caller has made sure that nobody shares it.
    pub(super) fn write_in_place(&mut self) -> &mut T {
        self.stamp = AtomicU64::new(clock::FIRST);
        self.written.with_mut(|written| {
            // SAFETY: the node is borrowed exclusively, and nobody shares it.
            let written = unsafe { &mut *written };
            written.version = written.version.next();
            written.prev = core::ptr::null_mut();
            &mut written.value
        })
    }

    /// Whether the caller's share is the only one. Nobody can add one then: to do so takes a share, or a
    /// pin from before the node was retired [R3].
    pub(super) fn is_unshared(&self) -> bool {
        is_one(&self.shares)
    }

    /// Takes a share for an owned snapshot. Under a pin, or from a share.
    pub(super) fn share(&self) {
        // Relaxed: the caller may use the node already; a new share orders nothing [R3].
        if self.shares.fetch_add(1, Ordering::Relaxed) > MAX_SHARES {
            // As `Arc` does.
            std::process::abort();
        }
    }

    /// # Safety
    /// `object` is a node with a share that the caller gives up.
    unsafe fn release(object: NonNull<u8>) -> bool {
        let node = object.cast::<Self>();
        // SAFETY: alive, by the share. Only the count is borrowed: another may free the node while
        // `give_up` returns.
        let last = give_up(unsafe { &(*node.as_ptr()).shares });
        if last {
            // SAFETY: nobody else can reach it.
            unsafe { node.drop_in_place() };
        }
        last
    }

    /// Stamps the node that the caller has just published [C4].
    #[inline]
    pub(super) fn stamp_published(&self) {
        crate::sync::store_load_fence();
        self.set_stamp();
    }

    /// The node as readers may see it: on one side of each snapshot [C4].
    #[inline(always)]
    pub(super) fn settled(&self) -> &Self {
        self.stamp();
        self
    }

    /// The moment at which the node was published, by the clock that snapshots advance.
    #[inline]
    pub(super) fn stamp(&self) -> u64 {
        // Acquire: a snapshot that was taken before the stamp was set comes before who reads it [C4].
        match self.stamp.load(Ordering::Acquire) {
            clock::UNSET => self.stamp_slow(),
            stamp => stamp,
        }
    }

    #[cold]
    fn stamp_slow(&self) -> u64 {
        // The caller has seen the node: whoever takes the clock from now on sees it too [C4].
        crate::sync::full_fence();
        self.set_stamp()
    }

    #[inline]
    fn set_stamp(&self) -> u64 {
        let now = clock::now();
        // AcqRel: as the load in `stamp`, and its partner. Acquire on failure: the same [C4].
        let set =
            self.stamp
                .compare_exchange(clock::UNSET, now, Ordering::AcqRel, Ordering::Acquire);
        set.err().unwrap_or(now)
    }
}

fn is_one(shares: &AtomicU32) -> bool {
    // Acquire: what other sharers did with the value comes before what the caller does. Pairs
    // with the Release in `give_up` [R3].
    shares.load(Ordering::Acquire) == 1
}

/// Gives up a share. `true`: it was the last, and the caller owns the node.
fn give_up(shares: &AtomicU32) -> bool {
    if is_one(shares) {
        return true;
    }
    // Release: what this sharer did with the value comes before its end. Pairs with the
    // Acquire in `is_one` and below [R3].
    if shares.fetch_sub(1, Ordering::Release) != 1 {
        return false;
    }
    // Acquire: as in `is_one`. A load and not a fence, so that it can be weakened alone.
    shares.load(Ordering::Acquire);
    true
}
