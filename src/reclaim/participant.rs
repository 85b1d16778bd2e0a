//! A thread's membership in the domain of cells, and its pins.
//!
//! Under loom, a thread of an execution that reclaims nothing has no slot.
#![allow(unsafe_code)]

use core::marker::PhantomData;
use core::ptr::NonNull;

use super::domain::{Domain, domain};
use super::registry::Slot;

#[cfg(not(latchwork_loom))]
type Place = NonNull<Slot>;
#[cfg(latchwork_loom)]
type Place = Option<NonNull<Slot>>;

/// Owns the slot of a thread.
pub(super) struct Participant {
    place: Place,
    #[cfg(latchwork_loom)]
    domain: Option<super::domain::Handle>,
}

/// While it lives, no object that its thread can reach is released. It stays on its thread.
pub(crate) struct CellPin(Place, PhantomData<*const ()>);

/// The slot, which a thread of a real build always has.
#[inline(always)]
fn slot<'a>(place: Place) -> Option<(&'a Slot, NonNull<Slot>)> {
    // SAFETY: a slot lives as long as the domain, which outlives all threads.
    Option::from(place).map(|slot: NonNull<Slot>| (unsafe { slot.as_ref() }, slot))
}

#[cfg(not(latchwork_loom))]
impl Participant {
    pub(super) fn register(thread: usize) -> Self {
        #[cfg(all(unix, not(latchwork_shuttle)))]
        super::fork::watch();
        Participant {
            place: domain().registry.acquire(thread),
        }
    }

    /// The domain and the slot.
    #[inline(always)]
    pub(super) fn enter(&self) -> Option<(&Domain, &Slot)> {
        slot(self.place).map(|(slot, _)| (domain(), slot))
    }
}

#[cfg(latchwork_loom)]
impl Participant {
    pub(super) fn register(thread: usize) -> Self {
        let domain = domain().cloned();
        Participant {
            place: domain
                .as_ref()
                .map(|domain| domain.registry.acquire(thread)),
            domain,
        }
    }

    pub(super) fn enter(&self) -> Option<(&Domain, &Slot)> {
        slot(self.place).and_then(|(slot, _)| Some((&**self.domain.as_ref()?, slot)))
    }
}

impl Participant {
    #[inline(always)]
    pub(super) fn slot(&self) -> Option<&Slot> {
        slot(self.place).map(|(slot, _)| slot)
    }

    #[inline(always)]
    pub(super) fn pin(&self) -> CellPin {
        if let Some((domain, slot)) = self.enter() {
            slot.pin(&domain.epoch);
        }
        CellPin(self.place, PhantomData)
    }

    pub(super) fn is_pinned(&self) -> bool {
        self.slot().is_some_and(Slot::is_pinned)
    }
}

impl Drop for Participant {
    fn drop(&mut self) {
        if let (Some((domain, _)), Some((slot, place))) = (self.enter(), slot(self.place)) {
            if slot.end() {
                domain.registry.release(place);
            }
        }
    }
}

impl Drop for CellPin {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some((slot, place)) = slot(self.0) {
            if slot.unpin() {
                release(place);
            }
        }
    }
}

#[cold]
fn release(place: NonNull<Slot>) {
    #[cfg(latchwork_loom)]
    let Some(domain) = domain() else { return };
    #[cfg(not(latchwork_loom))]
    let domain = domain();
    domain.registry.release(place);
}
