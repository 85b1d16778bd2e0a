//! The number of objects that a thread has removed from a slot and is about to destroy.

use super::kind::Size;
use crate::sync::{AtomicU64, Ordering};

/// The objects that the owner has removed from any slot and whose destructors have not begun [R4].
#[derive(Debug)]
pub(super) struct InHand {
    objects: AtomicU64,
    /// Of the whole batch, while any object of it waits.
    bytes: AtomicU64,
}

impl InHand {
    pub(super) fn new() -> Self {
        InHand {
            objects: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    /// The owner of the slot removes objects, under the mutex of their slot.
    #[inline]
    pub(super) fn begin(&self, objects: usize, bytes: usize) {
        self.set(objects);
        // Relaxed: as in `set`.
        self.bytes.store(bytes as u64, Ordering::Relaxed);
    }

    /// A destructor begins, and so many objects are left.
    #[inline]
    pub(super) fn set(&self, objects: usize) {
        // Relaxed: a thread that misses the objects in their slot has locked its mutex afterwards,
        // and so finds the number of then or a later one. It orders no other access [R4].
        self.objects.store(objects as u64, Ordering::Relaxed);
    }

    /// The objects have returned to a limbo.
    #[cold]
    pub(super) fn clear(&self) {
        // Release: a thread that finds 0 also finds the new number of restores. Pairs with the
        // Acquire in `size` [R4].
        self.objects.store(0, Ordering::Release);
    }

    pub(super) fn size(&self) -> Size {
        // Acquire: pairs with the Release in `clear` [R4].
        let objects = self.objects.load(Ordering::Acquire) as usize;
        Size {
            objects,
            // Relaxed: it may be of another batch than the number of objects.
            bytes: match objects {
                0 => 0,
                _ => self.bytes.load(Ordering::Relaxed) as usize,
            },
        }
    }
}
