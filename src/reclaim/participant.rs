//! A thread's membership in the domain of cells, and its pins.
#![allow(unsafe_code)]

use core::marker::PhantomData;
use core::ptr::NonNull;

use super::domain::{Domain, domain};
use super::registry::Slot;

/// Where the slot of a thread is.
#[cfg(not(any(latchwork_loom, latchwork_shuttle)))]
#[derive(Clone, Copy)]
struct Place(NonNull<Slot>);

/// Where the slot of a thread is, if the execution reclaims.
#[cfg(any(latchwork_loom, latchwork_shuttle))]
#[derive(Clone)]
struct Place(Option<(NonNull<Slot>, super::domain::Handle)>);

/// Owns the slot of a thread.
pub(super) struct Participant(Place);

/// While it lives, no object that its thread can reach is released. It stays on its thread.
pub(crate) struct CellPin(Place, PhantomData<*const ()>);

#[cfg(not(any(latchwork_loom, latchwork_shuttle)))]
impl Place {
    fn acquire(thread: usize) -> Self {
        #[cfg(unix)]
        super::fork::watch();
        Place(domain().registry.acquire(thread))
    }

    #[inline(always)]
    fn enter(&self) -> Option<(&Domain, &Slot)> {
        // SAFETY: a slot lives as long as the domain, which is static.
        Some((domain(), unsafe { self.0.as_ref() }))
    }
}

#[cfg(any(latchwork_loom, latchwork_shuttle))]
impl Place {
    fn acquire(thread: usize) -> Self {
        Place(domain().map(|domain| (domain.registry.acquire(thread), domain.clone())))
    }

    fn enter(&self) -> Option<(&Domain, &Slot)> {
        let (slot, domain) = self.0.as_ref()?;
        // SAFETY: a slot lives as long as the domain, of which this is a handle.
        Some((domain, unsafe { slot.as_ref() }))
    }
}

impl Participant {
    pub(super) fn register(thread: usize) -> Self {
        Participant(Place::acquire(thread))
    }

    /// The domain and the slot, which a thread of a real build always has.
    #[inline(always)]
    pub(super) fn enter(&self) -> Option<(&Domain, &Slot)> {
        self.0.enter()
    }

    #[inline(always)]
    pub(super) fn slot(&self) -> Option<&Slot> {
        self.enter().map(|(_, slot)| slot)
    }

    #[inline(always)]
    #[allow(clippy::clone_on_copy, reason = "a checker's is not")]
    pub(super) fn pin(&self) -> CellPin {
        if let Some((domain, slot)) = self.enter() {
            slot.pin(&domain.epoch);
        }
        CellPin(self.0.clone(), PhantomData)
    }

    #[inline(always)]
    pub(super) fn is_pinned(&self) -> bool {
        self.slot().is_some_and(Slot::is_pinned)
    }
}

impl Drop for Participant {
    fn drop(&mut self) {
        if let Some((domain, slot)) = self.enter() {
            if slot.end() {
                domain.registry.release(slot);
            }
        }
    }
}

impl Drop for CellPin {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some((domain, slot)) = self.0.enter() {
            if slot.unpin() {
                domain.registry.release(slot);
            }
        }
    }
}
