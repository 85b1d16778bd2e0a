//! A thread's membership in the domain of cells, and its pins.

use super::domain::{Domain, domain};
use super::slot::{self, Left, Slot, SlotRef};

/// The thread that owns a slot of the domain.
pub(super) type OwnSlot = slot::OwnSlot<Home>;

/// The slot of a thread, or a right to use it.
#[cfg(not(any(latchwork_loom, latchwork_shuttle)))]
#[derive(Clone)]
struct In<T>(T);

/// The same, if the execution reclaims.
#[cfg(any(latchwork_loom, latchwork_shuttle))]
#[derive(Clone)]
struct In<T>(Option<T>);

/// The domain.
#[cfg(not(any(latchwork_loom, latchwork_shuttle)))]
#[derive(Clone)]
pub(super) struct Home;

/// The domain of the execution.
#[cfg(any(latchwork_loom, latchwork_shuttle))]
#[derive(Clone)]
pub(super) struct Home(super::domain::Handle);

/// The slot of a thread.
#[derive(Clone)]
pub(super) struct Place(In<SlotRef>);

/// Owns the slot of a thread.
pub(super) struct Participant(In<OwnSlot>);

/// While it lives, no object that its thread can reach is released. It stays on its thread.
pub(crate) struct CellPin(
    #[allow(dead_code, reason = "its drop ends the pin")] In<slot::SlotPin<Home>>,
);

#[cfg(not(any(latchwork_loom, latchwork_shuttle)))]
impl<T> In<T> {
    #[inline(always)]
    fn map<U>(&self, f: impl FnOnce(&T) -> U) -> In<U> {
        In(f(&self.0))
    }

    #[inline(always)]
    fn get(&self) -> Option<&T> {
        Some(&self.0)
    }
}

#[cfg(any(latchwork_loom, latchwork_shuttle))]
impl<T> In<T> {
    fn map<U>(&self, f: impl FnOnce(&T) -> U) -> In<U> {
        In(self.0.as_ref().map(f))
    }

    fn get(&self) -> Option<&T> {
        self.0.as_ref()
    }
}

impl Home {
    #[cfg(not(any(latchwork_loom, latchwork_shuttle)))]
    #[inline(always)]
    #[allow(clippy::unused_self, reason = "a checker's has the domain")]
    fn domain(&self) -> &Domain {
        domain()
    }

    #[cfg(any(latchwork_loom, latchwork_shuttle))]
    fn domain(&self) -> &Domain {
        &self.0
    }
}

impl slot::Home for Home {
    #[cold]
    fn take_back(self, slot: Left) {
        self.domain().registry.release(slot);
    }
}

#[cfg(not(any(latchwork_loom, latchwork_shuttle)))]
fn acquire(thread: usize) -> In<OwnSlot> {
    #[cfg(unix)]
    domain().registry.watch_forks();
    In(domain().registry.acquire(thread, Home))
}

#[cfg(any(latchwork_loom, latchwork_shuttle))]
fn acquire(thread: usize) -> In<OwnSlot> {
    let own = |domain: &super::domain::Handle| {
        let home = Home(domain.clone());
        domain.registry.acquire(thread, home)
    };
    In(domain().map(own))
}

impl Place {
    #[inline(always)]
    pub(super) fn slot(&self) -> Option<&Slot> {
        self.0.get().map(|slot| -> &Slot { slot })
    }
}

impl Participant {
    pub(super) fn register(thread: usize) -> Self {
        Participant(acquire(thread))
    }

    /// The domain and the slot, which a thread of a real build always has.
    #[inline(always)]
    pub(super) fn enter(&self) -> Option<(&Domain, &OwnSlot)> {
        self.0.get().map(|own| (own.home().domain(), own))
    }

    #[inline(always)]
    pub(super) fn slot(&self) -> Option<&OwnSlot> {
        self.0.get()
    }

    #[inline(always)]
    pub(super) fn place(&self) -> Place {
        Place(self.0.map(|own| own.slot().clone()))
    }

    #[inline(always)]
    pub(super) fn pin(&self) -> CellPin {
        CellPin(self.0.map(|own| own.pin(&own.home().domain().epoch)))
    }

    pub(super) fn is_pinned(&self) -> bool {
        self.slot().is_some_and(OwnSlot::is_pinned)
    }
}
