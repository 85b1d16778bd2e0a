//! The objects that a thread has removed from a slot and is about to destroy.
#![allow(unsafe_code)]

use core::mem::MaybeUninit;
use core::ops::Range;

use super::domain::Domain;
use super::drops;
use super::kind::Retired;
use super::limbo::{Limbo, Queued};
use super::local::Local;
use super::registry::Slot;
use crate::sync::tuning::BATCH_IN_HAND;

/// Objects with destructors that were removed together, so that the mutex of their slot is locked
/// once for all. If a destructor panics, the rest returns to that slot.
pub(super) struct Hand<'a> {
    local: &'a Local,
    domain: &'a Domain,
    from: &'a Slot,
    objects: [MaybeUninit<Retired>; BATCH_IN_HAND],
    /// Those that are there.
    range: Range<usize>,
}

impl<'a> Hand<'a> {
    pub(super) fn new(local: &'a Local, domain: &'a Domain, from: &'a Slot) -> Self {
        Hand {
            local,
            domain,
            from,
            objects: [const { MaybeUninit::uninit() }; BATCH_IN_HAND],
            range: 0..0,
        }
    }

    /// Removes at most `n` reclaimable objects, of which at most `batch` have destructors. Releases
    /// the others at once, and returns how many there were, and whether none is left.
    pub(super) fn fill(
        &mut self,
        limbo: &mut Limbo,
        n: usize,
        batch: usize,
        up_to: u64,
        queued: Queued,
    ) -> (usize, bool) {
        self.range = 0..0;
        let (mut plain, mut bytes, mut pin) = (0, 0, None);
        loop {
            plain += limbo.drain_plain(n - plain - self.range.end, up_to, |kind, some| {
                // SAFETY: their grace periods are over [R2]; they are plain.
                unsafe { drops::release_plain(self.local, kind, some, &mut pin) };
            });
            let room = (n - plain).min(batch) - self.range.end;
            let some = limbo.pop_some(room, up_to, queued, |retired| {
                self.objects[self.range.end].write(retired);
                self.range.end += 1;
            });
            bytes += some.bytes;
            if some.objects == 0 {
                self.begin(bytes);
                return (plain, room > 0);
            }
        }
    }

    /// Publishes how many objects wait.
    fn begin(&self, bytes: usize) {
        // An object alone does not wait: its destructor begins at once.
        if self.range.end > 1 {
            if let Some(own) = self.local.slot() {
                own.in_hand().begin(self.range.end, bytes);
            }
        }
    }

    #[inline]
    pub(super) fn next(&mut self) -> Option<Retired> {
        let next = self.range.next()?;
        // SAFETY: written by `fill`, and read once.
        let retired = unsafe { self.objects[next].assume_init_read() };
        // Alone, it was not counted.
        if self.range.end > 1 {
            if let Some(own) = self.local.slot() {
                own.in_hand().set(self.range.len());
            }
        }
        Some(retired)
    }

    #[cold]
    fn restore(&mut self) {
        self.from.with_limbo(&self.domain.epoch, |limbo, _| {
            // Backwards, so that they keep their order.
            while let Some(i) = self.range.next_back() {
                // SAFETY: as in `next`.
                limbo.restore(unsafe { self.objects[i].assume_init_read() });
            }
            self.domain.registry.count_restore();
            if let Some(own) = self.local.slot() {
                own.in_hand().clear();
            }
        });
        self.local.collect_soon();
    }
}

impl Drop for Hand<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.range.is_empty() {
            self.restore();
        }
    }
}
