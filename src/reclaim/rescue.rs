//! The search for the garbage of threads that have ended, and of threads that do not write [R5].

use super::domain::Domain;
use super::limbo::Queued;
use super::local::Local;
use super::quota::Quota;
use super::slot::Slot;
use crate::sync::tuning::{COLLECT_FOR, RESCUE_AFTER, RESCUES};
use crate::sync::{Counter, recently};

/// The time of the next search, and the slot where it begins. One thread at a time makes it.
#[derive(Debug)]
pub(super) struct Rescue {
    /// By [`recently`].
    at: Counter,
    /// The number of the slot that comes first.
    first: Counter,
}

/// The most slots that one search visits.
const SLOTS: usize = 256;

/// The most objects that one search releases.
const MOST: usize = 1024;

impl Rescue {
    pub(super) const fn new() -> Self {
        Rescue {
            at: Counter::new(),
            first: Counter::new(),
        }
    }

    #[inline]
    pub(super) fn is_due(&self, now: u64) -> bool {
        RESCUES && now >= self.at.get()
    }

    /// Releases reclaimable objects of slots whose owners do not, and moves the epoch on for them.
    pub(super) fn run(&self, local: &Local, domain: &Domain, own: &Slot) {
        let Domain {
            epoch, registry, ..
        } = domain;
        // The collection before this search may have used its time.
        let (now, at) = (recently(), self.at.get());
        if !self.at.replace(at, now + RESCUE_AFTER) {
            // Another thread makes this search.
            return;
        }
        let (up_to, first) = (epoch.reclaimable(), self.first.get() as usize);
        let mut quota = Quota::new(0, MOST, now, COLLECT_FOR);
        let (mut waits, mut looked) = (false, 0);
        for slot in registry.slots_from(first).take(SLOTS) {
            if !quota.is_left() {
                // The next collection continues.
                self.at.set(now);
                break;
            }
            looked += 1;
            if core::ptr::eq(slot, own) || !slot.is_usable() {
                continue;
            }
            let is_idle = slot.try_with_limbo(epoch, |limbo, _| {
                waits |= limbo.count_up_to(up_to) < limbo.size().objects;
                let is_idle = limbo.is_idle(now, RESCUE_AFTER);
                is_idle || !slot.is_owned() || slot.is_offered()
            });
            if is_idle == Some(true) {
                let queued = match slot.is_offered() {
                    true => Queued::Included,
                    false => Queued::Left,
                };
                local.release(domain, slot, up_to, queued, &mut quota);
            }
        }
        let next = first + looked;
        let next = if next < registry.len() { next } else { 0 };
        self.first.set(next as u64);
        if waits {
            epoch.advance_twice(registry);
        }
    }
}
