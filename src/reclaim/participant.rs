//! A thread's membership in the domain of cells, and its pins.

use core::marker::PhantomData;

use super::domain::{Domain, domain};
use super::slot::{OwnSlot, Slot, SlotRef};

/// The slot of a thread, or the right to use the slot.
#[cfg(not(any(latchwork_loom, latchwork_shuttle)))]
#[derive(Clone)]
struct In<T>(T);

/// The same, if the execution reclaims.
#[cfg(any(latchwork_loom, latchwork_shuttle))]
#[derive(Clone)]
struct In<T>(Option<(T, super::domain::Handle)>);

/// The slot of a thread.
#[derive(Clone)]
pub(super) struct Place(In<SlotRef>);

/// Owns the slot of a thread.
pub(super) struct Participant {
    own: In<OwnSlot>,
    /// Dropped after it.
    _leaving: Leaving,
}

/// While it lives, no object that its thread can reach is released. It stays on its thread.
pub(crate) struct CellPin(Place, PhantomData<*const ()>);

/// Returns the slot of a thread that has ended, unless a pin of the thread is left.
struct Leaving(Place);

#[cfg(not(any(latchwork_loom, latchwork_shuttle)))]
impl<T> In<T> {
    #[inline(always)]
    fn map<U>(&self, f: impl FnOnce(&T) -> U) -> In<U> {
        In(f(&self.0))
    }

    #[inline(always)]
    fn get(&self) -> Option<(&Domain, &T)> {
        Some((domain(), &self.0))
    }
}

#[cfg(any(latchwork_loom, latchwork_shuttle))]
impl<T> In<T> {
    fn map<U>(&self, f: impl FnOnce(&T) -> U) -> In<U> {
        let own = self.0.as_ref();
        In(own.map(|(own, domain)| (f(own), domain.clone())))
    }

    fn get(&self) -> Option<(&Domain, &T)> {
        self.0.as_ref().map(|(own, domain)| (&**domain, own))
    }
}

#[cfg(not(any(latchwork_loom, latchwork_shuttle)))]
fn acquire(thread: usize) -> In<OwnSlot> {
    #[cfg(unix)]
    domain().registry.watch_forks();
    In(domain().registry.acquire(thread))
}

#[cfg(any(latchwork_loom, latchwork_shuttle))]
fn acquire(thread: usize) -> In<OwnSlot> {
    In(domain().map(|domain| (domain.registry.acquire(thread), domain.clone())))
}

impl Place {
    #[inline(always)]
    pub(super) fn slot(&self) -> Option<&Slot> {
        self.0.get().map(|(_, slot)| -> &Slot { slot })
    }
}

impl Participant {
    pub(super) fn register(thread: usize) -> Self {
        let own = acquire(thread);
        let _leaving = Leaving(Place(own.map(|own| own.slot().clone())));
        Participant { own, _leaving }
    }

    /// The domain and the slot, which a thread of a real build always has.
    #[inline(always)]
    pub(super) fn enter(&self) -> Option<(&Domain, &OwnSlot)> {
        self.own.get()
    }

    #[inline(always)]
    pub(super) fn slot(&self) -> Option<&OwnSlot> {
        self.enter().map(|(_, own)| own)
    }

    #[inline(always)]
    pub(super) fn place(&self) -> Place {
        Place(self.own.map(|own| own.slot().clone()))
    }

    #[inline(always)]
    pub(super) fn pin(&self) -> CellPin {
        if let Some((domain, slot)) = self.enter() {
            slot.pin(&domain.epoch);
        }
        CellPin(self.place(), PhantomData)
    }

    pub(super) fn is_pinned(&self) -> bool {
        self.slot().is_some_and(|slot| slot.is_pinned())
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        if let Some((domain, slot)) = self.0.0.get() {
            if slot.is_left() {
                domain.registry.release(slot.clone());
            }
        }
    }
}

impl Drop for CellPin {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some((domain, slot)) = self.0.0.get() {
            if slot.unpin() {
                domain.registry.release(slot.clone());
            }
        }
    }
}
