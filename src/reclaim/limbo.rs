//! What one thread has retired, until nobody can see it any more.
#![allow(unsafe_code)]

use core::ptr::NonNull;
use std::sync::Arc;
use std::time::Instant;

use super::nodes::Shape;
use super::participant::CellPin;
use super::shared::Shared;
use crate::sync::{AtomicU32, Ordering};

/// How the retired objects of one type are released.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(super) shape: Shape,
    /// Gives up the share that the retired object had of itself. `true`: it was the last, and what
    /// is left is memory. May run user code.
    release: unsafe fn(NonNull<u8>) -> bool,
}

impl Kind {
    /// # Safety
    /// `release` is right for objects of type `N` that were retired.
    pub(crate) const unsafe fn of<N>(release: unsafe fn(NonNull<u8>) -> bool) -> Self {
        Kind {
            shape: Shape::of::<N>(),
            release,
        }
    }
}

/// An object that was unlinked and that readers may still see.
#[derive(Debug)]
pub(super) struct Retired {
    pub(super) object: NonNull<u8>,
    pub(super) kind: &'static Kind,
}

// SAFETY: whoever retires an object says that any thread may release it.
unsafe impl Send for Retired {}

impl Retired {
    pub(super) fn bytes(&self) -> u64 {
        self.kind.shape.layout.size() as u64
    }

    /// `true`: the memory is the caller's.
    ///
    /// # Safety
    /// Its grace period is over [R2].
    #[inline]
    pub(super) unsafe fn release(&self) -> bool {
        // SAFETY: `Kind::of` vouches for the function, the caller for the time.
        unsafe { (self.kind.release)(self.object) }
    }
}

/// Says that a grace period is over.
#[derive(Debug)]
struct Ticket(AtomicU32);

const PENDING: u32 = 0;
const OVER: u32 = 1;

impl Ticket {
    fn is_over(&self) -> bool {
        // Acquire: what readers did with the objects comes before their release. Pairs with the
        // Release in `punch`, which comes after it by the epochs [R2].
        self.0.load(Ordering::Acquire) == OVER
    }

    fn punch(&self) {
        // Release: as above.
        self.0.store(OVER, Ordering::Release);
    }
}

/// Objects, and how many bytes they have without what their values own.
#[derive(Debug, Default)]
pub(super) struct Stage {
    objects: Vec<Retired>,
    bytes: usize,
}

impl Stage {
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.objects.len()
    }

    #[inline]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    #[inline]
    fn push(&mut self, retired: Retired) {
        self.bytes += retired.kind.shape.layout.size();
        self.objects.push(retired);
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<Retired> {
        let retired = self.objects.pop()?;
        self.bytes -= retired.kind.shape.layout.size();
        Some(retired)
    }

    /// Takes in all that `other` has.
    fn take_in(&mut self, other: &mut Self) {
        if self.objects.is_empty() {
            core::mem::swap(self, other);
        } else {
            self.bytes += core::mem::take(&mut other.bytes);
            self.objects.append(&mut other.objects);
        }
    }

    /// Gives memory back after a burst.
    fn shrink(&mut self) {
        if self.objects.capacity() > 4 * super::LIMIT && self.len() < super::LIMIT {
            self.objects.shrink_to(super::LIMIT);
        }
    }
}

/// Three stages: `fresh` (retired), `waiting` (retired before the ticket was issued), `due` (the
/// ticket's grace period is over).
#[derive(Debug, Default)]
pub(super) struct Limbo {
    fresh: Stage,
    waiting: Stage,
    pub(super) due: Stage,
    ticket: Option<(Arc<Ticket>, Instant)>,
}

impl Limbo {
    /// Objects that nobody may release yet.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.fresh.len() + self.waiting.len()
    }

    /// Their bytes.
    #[inline]
    pub(super) fn bytes(&self) -> usize {
        self.fresh.bytes() + self.waiting.bytes()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() + self.due.len() == 0
    }

    /// Since when the oldest objects wait for pins, if some do.
    pub(super) fn since(&self) -> Option<Instant> {
        self.ticket.as_ref().map(|(_, since)| *since)
    }

    #[inline]
    pub(super) fn push(&mut self, retired: Retired) {
        self.fresh.push(retired);
    }

    /// Takes in objects that nobody can see any more.
    pub(super) fn adopt(&mut self, objects: impl IntoIterator<Item = Retired>) {
        for retired in objects {
            self.due.push(retired);
        }
    }

    /// Moves objects on by a stage where that is due.
    pub(super) fn turn(&mut self, pin: &CellPin) {
        self.collect();
        if self.ticket.is_none() && self.fresh.len() > 0 {
            self.waiting.take_in(&mut self.fresh);
            let ticket = Arc::new(Ticket(AtomicU32::new(PENDING)));
            let punched = ticket.clone();
            // SAFETY: a ticket may be punched by any thread.
            unsafe { pin.after_grace(move || punched.punch()) };
            self.ticket = Some((ticket, Instant::now()));
        }
        pin.advance();
        self.collect();
    }

    /// What waited for a grace period that is over becomes due.
    fn collect(&mut self) {
        if !self.ticket.as_ref().is_some_and(|(t, _)| t.is_over()) {
            return;
        }
        self.ticket = None;
        self.due.take_in(&mut self.waiting);
        self.waiting.shrink();
        self.fresh.shrink();
    }

    /// The thread ends: once nobody can see the objects, others release them [R5].
    pub(super) fn abandon(&mut self, pin: &CellPin, shared: &Arc<Shared>) {
        self.ticket = None;
        let mut all = core::mem::take(&mut self.fresh);
        all.take_in(&mut self.waiting);
        all.take_in(&mut self.due);
        let shared = shared.clone();
        shared.await_orphans();
        // SAFETY: retired objects may change hands, and so may their list.
        unsafe { pin.after_grace(move || shared.orphan(all.objects)) };
        pin.advance();
    }
}
