//! A place in the queue of a key: a [`KeyWait`] for the waiter, a [`Seat`] for other threads.
#![allow(unsafe_code)]

use core::ptr::NonNull;
use std::sync::Arc;
use std::time::Instant;

use super::monitor::{Cancelled, Monitor, Wish};
use super::table::{RawTable, TableRef};
use crate::deadlock::Waiting;
use crate::park::{Awaited, Notify, Signal, Spin, Wait, Waiter, Wakeup, spin_or_park};
use crate::reclaim::Pin;
use crate::sync::Parker;
use crate::word::{Mode, SlotWord};

/// One wait, which begins when its waiter is queued. With the feature `tracing` it is a span at
/// debug level, which closes with the wait.
#[derive(Debug)]
struct WaitSpan {
    #[cfg(feature = "tracing")]
    _span: tracing::Span,
}

impl WaitSpan {
    /// Closes a span, which may run user code.
    fn end(_: Option<Self>) {}

    fn begin(hash: u64, mode: Mode) -> Self {
        #[cfg(feature = "tracing")]
        let span = tracing::debug_span!(
            "latchwork.lock.wait",
            key = %crate::lock_table::KeyId(hash),
            mode = ?mode,
        );
        #[cfg(not(feature = "tracing"))]
        let _ = (hash, mode);
        WaitSpan {
            #[cfg(feature = "tracing")]
            _span: span,
        }
    }
}

/// The monitor in whose queue a waiter was queued: a key without its table.
#[must_use]
pub(crate) struct Place(NonNull<Monitor>);

/// A key that a waiter is queued for. It keeps the table, and the waiter keeps the monitor [M1].
pub(crate) struct AwaitedKey<T: TableRef> {
    table: T,
    hash: u64,
    monitor: NonNull<Monitor>,
    /// Whether the waiter holds the key shared, and keeps it if the wait is cancelled.
    upgrades: bool,
    span: Option<WaitSpan>,
}

// SAFETY: a monitor may be used from any thread; the rest is the table and plain data.
unsafe impl<T: TableRef + Send> Send for AwaitedKey<T> {}
// SAFETY: as above; a shared reference gives access to the monitor only through its mutex.
unsafe impl<T: TableRef + Sync> Sync for AwaitedKey<T> {}

/// The wait of a thread or task for a key. If it is dropped after its grant, the key is released.
pub(crate) type KeyWait<T> = Wait<AwaitedKey<T>>;

/// The place of a [`KeyWait`], for other threads. Through it they may kill the wait or grant it out
/// of order, as long as the wait is known not to have ended.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(super) hash: u64,
    monitor: NonNull<Monitor>,
    pub(super) waiter: Arc<Waiter>,
}

// SAFETY: a monitor may be used from any thread, and so may the waiter.
unsafe impl Send for Seat {}
// SAFETY: as above; a shared seat gives access to neither.
unsafe impl Sync for Seat {}

/// The threads and tasks to notify of changes that were made through seats, once no mutex is held.
#[derive(Debug, Default)]
#[must_use]
pub(crate) struct Notices(Vec<Wakeup>);

impl Place {
    pub(super) fn new(monitor: &Monitor) -> Self {
        Place(NonNull::from(monitor))
    }

    /// Makes the wait of the waiter that was queued at this place. If it is dropped, the waiter
    /// leaves the queue.
    #[inline]
    pub(crate) fn wait<T: TableRef>(self, table: T, hash: u64, waiter: Arc<Waiter>) -> KeyWait<T> {
        let key = AwaitedKey {
            table,
            hash,
            monitor: self.0,
            upgrades: false,
            span: None,
        };
        // SAFETY: a place is made where its waiter is queued, and becomes one wait.
        unsafe { Wait::queued(key, waiter) }
    }

    /// Makes the wait of a waiter as [`wait`](Self::wait) does. If it is dropped, the waiter holds
    /// the key shared again.
    pub(crate) fn wait_to_upgrade<T: TableRef>(
        self,
        table: T,
        hash: u64,
        waiter: Arc<Waiter>,
    ) -> KeyWait<T> {
        let mut wait = self.wait(table, hash, waiter);
        wait.awaited_mut().upgrades = true;
        wait
    }
}

fn word_of(monitor: NonNull<Monitor>) -> SlotWord {
    SlotWord::monitor(monitor.as_ptr().expose_provenance())
}

impl<T: TableRef> AwaitedKey<T> {
    pub(crate) fn table(&self) -> &T {
        &self.table
    }

    pub(crate) fn upgrades(&self) -> bool {
        self.upgrades
    }

    /// Ends the wait of a waiter that holds the key, as do the waiters in `wakeup`. Runs user code:
    /// wakers, recorders and subscribers.
    #[inline]
    pub(crate) fn end(self, waiter: Arc<Waiter>, wakeup: &mut Wakeup) {
        let span = self.span;
        self.table.raw().end_wait(self.hash, waiter, span, wakeup);
    }
}

impl<T: TableRef> Awaited for AwaitedKey<T> {
    #[inline]
    unsafe fn recheck(
        &self,
        waiter: &Arc<Waiter>,
        renewal: &mut Option<Notify>,
        wakeup: &mut Wakeup,
    ) -> bool {
        // SAFETY: the waiter is queued, or holds the key without having released it, so the monitor
        // is not retired [M1]. If another thread may remove the waiter, the caller was pinned
        // before [M13].
        let monitor = unsafe { self.monitor.as_ref() };
        monitor.look(waiter, self.table.raw().fairness, renewal, wakeup)
    }

    unsafe fn cancel(&self, waiter: &Arc<Waiter>) -> bool {
        // SAFETY: as in `recheck`.
        unsafe { self.table.raw().cancel(self.hash, self.monitor, waiter) }
    }

    #[cold]
    fn undo(&self, mode: Mode) {
        if self.upgrades {
            self.table.raw().downgrade(self.hash);
        } else {
            self.table.raw().unlock(self.hash, mode);
        }
    }

    fn left(&self, waiter: &Waiter) {
        self.table.raw().statistics.gave_up(self.hash, waiter);
    }
}

impl<T: TableRef> KeyWait<T> {
    /// Notifies a subscriber, which is user code and may panic. The wait exists in either case.
    #[inline]
    pub(crate) fn observe(&mut self) {
        let (hash, mode) = (self.awaited().hash, self.waiter().mode());
        self.awaited_mut().span = Some(WaitSpan::begin(hash, mode));
    }

    /// Blocks until the wait is granted, and `spin`s before it parks. `false`: the deadline has
    /// passed, and the wait is still queued, or was granted just now.
    pub(crate) fn block_on_by(
        &self,
        parker: &Parker,
        spin: &mut Spin,
        deadline: Option<Instant>,
        wakeup: &mut Wakeup,
    ) -> bool {
        while !self.is_granted_by_now(wakeup) {
            if !spin_or_park(parker, spin, deadline) {
                return false;
            }
        }
        true
    }

    /// Checks the signal, and the key if the waiter was woken.
    #[inline]
    fn is_granted_by_now(&self, wakeup: &mut Wakeup) -> bool {
        let waiter = self.waiter();
        match waiter.signal() {
            Signal::Granted => true,
            Signal::Killed | Signal::Waiting => false,
            // SAFETY: queued since the wait was made, and to cancel a wait consumes it. Waits that
            // may be killed are pinned by their caller.
            Signal::Woken => unsafe { self.awaited().recheck(waiter, &mut None, wakeup) },
        }
    }

    /// Returns the place of this wait for other threads.
    pub(crate) fn seat(&self) -> Seat {
        Seat {
            hash: self.awaited().hash,
            monitor: self.awaited().monitor,
            waiter: self.waiter().clone(),
        }
    }

    /// Ends a wait that is granted. If user code panics, no guard exists yet, so the key is
    /// unlocked. The table moves to `keep` before.
    #[inline]
    pub(crate) fn hold<'a>(
        self,
        keep: impl FnOnce(T) -> &'a RawTable,
        unused: Option<Notify>,
        wakeup: &mut Wakeup,
    ) {
        let (key, waiter) = self.take_over();
        let table = keep(key.table);
        table.holding(key.hash, waiter.mode(), || {
            drop(unused);
            table.end_wait(key.hash, waiter, key.span, wakeup);
        });
    }

    /// Cancels a wait at its deadline. Returns `true` if the key is held instead.
    pub(crate) fn cancel_late(self) -> bool {
        let Some((key, waiter)) = self.cancel() else {
            return false;
        };
        // To close a span is user code.
        let table = key.table.raw();
        table.holding(key.hash, waiter.mode(), || WaitSpan::end(key.span));
        true
    }

    /// Checks a wait that another thread may end, and leaves `renewal` with it if it continues.
    pub(crate) fn told(&self, renewal: &mut Option<Notify>, wakeup: &mut Wakeup) -> Signal {
        let waiter = self.waiter();
        // Pinned before the load of a signal that still waits. If another thread ends the wait
        // after the load, the monitor may die, but it exists for as long as the pin [M13].
        let trie = &self.awaited().table.raw().trie;
        let _pin = (waiter.signal() != Signal::Granted).then(|| trie.pin());
        if self.check(renewal, wakeup) {
            return Signal::Granted;
        }
        match waiter.signal() {
            Signal::Killed => Signal::Killed,
            // If it was granted just now, the granting thread has notified it, or is about to.
            _ => Signal::Waiting,
        }
    }
}

impl RawTable {
    /// Leaves the queue of a monitor, or returns `true` if the key was granted before.
    ///
    /// # Safety
    /// `waiter` has joined the queue of `monitor`, and has been neither cancelled nor killed.
    unsafe fn cancel(&self, hash: u64, monitor: NonNull<Monitor>, waiter: &Arc<Waiter>) -> bool {
        // Pinned before the waiter leaves, because then nothing else keeps the monitor alive [M2].
        let pin = self.trie.pin();
        let mut wakeup = Wakeup::default();
        // SAFETY: as in `recheck`, by the caller's contract.
        match unsafe { monitor.as_ref() }.cancel(waiter, Wish::Own, &mut wakeup) {
            Cancelled::Granted => true,
            Cancelled::Left(left) => {
                self.settle(hash, word_of(monitor), left, pin, &mut wakeup);
                false
            }
        }
    }

    /// Runs the user code at the end of a wait whose key is held.
    #[inline]
    fn end_wait(
        &self,
        hash: u64,
        waiter: Arc<Waiter>,
        span: Option<WaitSpan>,
        wakeup: &mut Wakeup,
    ) {
        wakeup.run();
        self.statistics.waited(hash, &waiter);
        WaitSpan::end(span);
        Waiter::recycle(waiter);
    }

    /// Drops the leftovers of a wait for a key that is held now, including wakers and recorders.
    /// These are user code: if one panics, no guard exists yet, so the key is unlocked [M16].
    #[inline]
    pub(crate) fn holding(&self, hash: u64, mode: Mode, end: impl FnOnce()) {
        let undo = Undo(self, hash, mode);
        end();
        core::mem::forget(undo);
    }
}

/// Releases a key for which no guard exists.
struct Undo<'a>(&'a RawTable, u64, Mode);

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        self.0.unlock(self.1, self.2);
    }
}

impl Seat {
    /// Returns the monitor in whose queue a seat is. The caller may end the wait under the pin.
    pub(super) fn monitor_of<'a>(waiting: &'a Waiting<'_, Self>, _: &'a Pin) -> &'a Monitor {
        // SAFETY: its wait has not ended, so its waiter is queued or holds the key [D2]; from the
        // end of the wait on, the pin keeps the monitor [M1] [M13].
        unsafe { waiting.place().monitor.as_ref() }
    }

    /// Returns the slot word of the monitor.
    pub(super) fn word(&self) -> SlotWord {
        word_of(self.monitor)
    }
}

impl Notices {
    pub(super) fn add(&mut self, wakeup: Wakeup) {
        self.0.push(wakeup);
    }

    /// Notifies all of them, even if a notification panics.
    pub(crate) fn run(mut self) {
        self.0.iter_mut().for_each(Wakeup::run);
    }
}
