//! The last retired objects of one slot: a queue from the owner of the slot to the holder of its
//! mutex [R4].
//!
//! # Fields
//! | field | written | read |
//! |---|---|---|
//! | `len` | by the owner of the slot | by the holder of the mutex |
//! | `places` | by the owner, behind `len` | by the holder, before `len` |
//!
//! The number of objects that were popped is in the limbo, under the mutex. The owner reads it
//! there.
#![allow(unsafe_code)]

use core::mem::MaybeUninit;
use std::sync::OnceLock;

use super::kind::Retired;
use crate::sync::tuning::RETIRE_BUFFER as ROOM;
use crate::sync::{AtomicU64, Ordering, UnsafeCell};

type Place = UnsafeCell<MaybeUninit<Retired>>;

pub(super) type Places = [Place; ROOM];

/// A ring of objects. The number of all that were ever pushed determines the place of the next.
#[derive(Debug)]
pub(super) struct RetireBuffer {
    len: AtomicU64,
    /// Allocated for the first object: most readers never retire one.
    places: OnceLock<Box<Places>>,
}

// SAFETY: the protocol above: each object is written by one thread and read by another afterwards
// [R4].
unsafe impl Sync for RetireBuffer {}
// SAFETY: its objects are.
unsafe impl Send for RetireBuffer {}

impl RetireBuffer {
    pub(super) fn new() -> Self {
        RetireBuffer {
            len: AtomicU64::new(0),
            places: OnceLock::new(),
        }
    }

    /// The places of the objects, for [`write`](Self::write).
    #[inline(always)]
    pub(super) fn places(&self) -> &Places {
        self.places.get_or_init(|| {
            Box::new(core::array::from_fn(|_| {
                UnsafeCell::new(MaybeUninit::uninit())
            }))
        })
    }

    /// Writes object number `len`, which [`publish`](Self::publish) pushes.
    ///
    /// # Safety
    /// The caller owns the slot, has written all objects with a lesser number, and fewer than
    /// `ROOM` of them have not been popped [R4].
    #[inline(always)]
    pub(super) unsafe fn write(places: &Places, len: u64, retired: Retired) {
        places[len as usize % ROOM].with_mut(|place| {
            // SAFETY: no thread uses this place: its last object was popped.
            unsafe { place.write(MaybeUninit::new(retired)) };
        });
    }

    /// Pushes the objects that were written, up to number `len`.
    ///
    /// # Safety
    /// The caller owns the slot, and has written all of them [R4].
    #[inline(always)]
    pub(super) unsafe fn publish(&self, len: u64) {
        // Release: the objects are complete. Pairs with the Acquire in `len` [R4].
        self.len.store(len, Ordering::Release);
    }

    /// How many were pushed, ever.
    pub(super) fn len(&self) -> u64 {
        // Acquire: the objects are complete. Pairs with the Release in `publish` [R4].
        self.len.load(Ordering::Acquire)
    }

    /// The same, for the owner of the slot.
    #[inline(always)]
    pub(super) fn own_len(&self) -> u64 {
        // Relaxed: written by the calling thread, or by an owner before it [R4].
        self.len.load(Ordering::Relaxed)
    }

    /// Removes the objects from number `popped` on, up to number `len`, in the order in which they
    /// were pushed.
    ///
    /// # Safety
    /// The caller holds the mutex of the slot, `len` is from [`len`](Self::len), and so many were
    /// popped [R4].
    pub(super) unsafe fn pop(&self, popped: u64, len: u64) -> impl Iterator<Item = Retired> {
        let places = self.places();
        (popped..len).map(|n| {
            places[n as usize % ROOM].with(|place| {
                // SAFETY: pushed, and not popped: the owner does not write it again before it
                // learns that it was popped.
                let place = unsafe { place.read() };
                // SAFETY: as above.
                unsafe { place.assume_init() }
            })
        })
    }
}
