//! The search for the garbage of threads that have ended, and of threads that do not write [R5].

use super::domain::Domain;
use super::local::Local;
use super::registry::Slot;
use crate::sync::Counter;
use crate::sync::tuning::{RESCUE_AFTER, RESCUES};

/// When the next search is due. One thread at a time makes it.
#[derive(Debug)]
pub(super) struct Rescue {
    /// By [`recently`](crate::sync::recently).
    at: Counter,
}

/// The objects of one slot that a search releases at most.
const MOST: usize = 1024;

impl Rescue {
    pub(super) const fn new() -> Self {
        Rescue { at: Counter::new() }
    }

    #[inline]
    pub(super) fn is_due(&self, now: u64) -> bool {
        RESCUES && now >= self.at.get()
    }

    /// Releases reclaimable objects of slots whose owners do not, and moves the epoch on for them.
    pub(super) fn run(&self, local: &Local, domain: &Domain, own: &Slot, now: u64) {
        let Domain {
            epoch, registry, ..
        } = domain;
        let at = self.at.get();
        if !self.at.replace(at, now + RESCUE_AFTER) {
            // Another thread makes this search.
            return;
        }
        let up_to = epoch.reclaimable();
        let (mut waits, mut is_left) = (false, false);
        for slot in registry
            .usable_slots()
            .filter(|slot| !core::ptr::eq(*slot, own))
        {
            let is_idle = slot.try_with_limbo(epoch, |limbo, _| {
                waits |= limbo.count_up_to(up_to) < limbo.size().objects;
                !slot.is_owned() || limbo.is_idle(now, RESCUE_AFTER)
            });
            if is_idle == Some(true) {
                is_left |= local.release(domain, slot, up_to, 0, MOST) >= MOST;
            }
        }
        if waits {
            epoch.advance_twice(registry);
        }
        if is_left {
            // The next collection goes on.
            self.at.set(now);
        }
    }
}
