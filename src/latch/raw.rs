//! A latch without its value: entering, waiting, leaving, and what optimistic readers compare.

use super::error::{Obsolete, Restart};
use super::word::{Entry, Release, Word};
use crate::park::{Event, Notify, Queue, Signal, Spin, Wait, Waiter, Wakeup};
use crate::sync::tuning::LOOKS_IN_VAIN;
use crate::sync::{AtomicU64, Ordering, Parker, acquire_fence, release_fence};
use crate::word::Mode;

/// The result of an attempt to acquire the latch.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Entered {
    Holds,
    Refused,
    Obsolete,
}

#[derive(Debug)]
pub(super) struct RawLatch(AtomicU64);

impl Default for RawLatch {
    fn default() -> Self {
        Self::new()
    }
}

impl RawLatch {
    #[cfg(not(latchwork_loom))]
    pub(super) const fn new() -> Self {
        RawLatch(AtomicU64::new(Word::NEW.bits()))
    }

    #[cfg(latchwork_loom)]
    pub(super) fn new() -> Self {
        RawLatch(AtomicU64::new(Word::NEW.bits()))
    }

    /// The word, for inspection.
    pub(super) fn peek(&self) -> Word {
        self.load()
    }

    #[inline(always)]
    fn load(&self) -> Word {
        // Relaxed: the compare-and-swap that follows decides, and orders.
        Word::from_bits(self.0.load(Ordering::Relaxed))
    }

    #[inline(always)]
    fn load_acquire(&self) -> Word {
        // Acquire: the stores of the last exclusive holder happen before the loads of an optimistic
        // reader [O1]. A thread that finds the latch obsolete sees the links that replaced its node
        // [O6].
        Word::from_bits(self.0.load(Ordering::Acquire))
    }

    #[inline(always)]
    fn cas(&self, old: Word, new: Word, success: Ordering) -> bool {
        // Relaxed on failure: it is loaded again.
        self.0
            .compare_exchange(old.bits(), new.bits(), success, Ordering::Relaxed)
            .is_ok()
    }

    // Optimistic

    /// The content that a reader validates; `None` while another thread holds the latch
    /// exclusively.
    #[inline(always)]
    pub(super) fn begin(&self) -> Result<Option<u64>, Obsolete> {
        let word = self.load_acquire();
        if word.is_obsolete() {
            return Err(Obsolete);
        }
        Ok((!word.is_exclusive()).then(|| word.content()))
    }

    /// Validates that no thread has held the latch exclusively since `seen`, up to the loads of the
    /// caller.
    #[inline(always)]
    pub(super) fn validate(&self, seen: u64) -> Result<(), Restart> {
        // If the caller has loaded a value that was stored under the latch, that store follows the
        // acquisition, which is therefore visible here [O2].
        acquire_fence();
        // Relaxed: the fence orders it.
        let word = Word::from_bits(self.0.load(Ordering::Relaxed));
        if word.content() == seen {
            Ok(())
        } else {
            Err(Self::why(word))
        }
    }

    #[cold]
    fn why(word: Word) -> Restart {
        if word.is_obsolete() {
            Restart::Obsolete
        } else {
            Restart::Changed
        }
    }

    /// Acquires the latch exclusively if no thread has done so since `seen`, and no thread shares
    /// it.
    #[inline]
    pub(super) fn upgrade(&self, seen: u64) -> Result<(), Restart> {
        loop {
            let word = self.load();
            let next = word.taken().filter(|_| word.content() == seen);
            let Some(next) = next else {
                return Err(Self::why(word));
            };
            // Acquire: as in `try_enter`. Equal content means that there is no holder, and that the
            // values are those that the caller has loaded [O3].
            if self.cas(word, next, Ordering::Acquire) {
                self.entered(Mode::Exclusive);
                return Ok(());
            }
        }
    }

    /// The owner changes the value without a lock: no earlier version is current any more [O3].
    pub(super) fn write_in_place(&mut self) {
        let word = self.load();
        // Relaxed: the borrow is exclusive. The operation that later shares the latch orders it for
        // the next thread.
        self.0.store(word.written().bits(), Ordering::Relaxed);
    }

    // Entering

    #[inline]
    pub(super) fn lock(&self, mode: Mode) -> Result<(), Obsolete> {
        match self.try_enter(mode) {
            Entered::Holds => Ok(()),
            Entered::Obsolete => Err(Obsolete),
            Entered::Refused => self.lock_slow(mode),
        }
    }

    /// Acquires the latch if it is free, without a wait.
    #[inline]
    pub(super) fn try_enter(&self, mode: Mode) -> Entered {
        loop {
            let word = self.load_acquire();
            match word.enter(mode) {
                Entry::Obsolete => return Entered::Obsolete,
                Entry::Refuse => return Entered::Refused,
                Entry::Admit(next) => {
                    // Acquire: from each holder that has released the latch, including after the
                    // load [O4].
                    if self.cas(word, next, Ordering::Acquire) {
                        self.entered(mode);
                        return Entered::Holds;
                    }
                }
            }
        }
    }

    /// The caller holds the latch from now on.
    #[inline(always)]
    fn entered(&self, mode: Mode) {
        if mode == Mode::Exclusive {
            // A thread that loads a value which the caller stores from now on sees the acquisition
            // [O2].
            release_fence();
        }
    }

    #[cold]
    fn lock_slow(&self, mode: Mode) -> Result<(), Obsolete> {
        let mut spin = Spin::new();
        while spin.may_spin() {
            spin.spin();
            match self.try_enter(mode) {
                Entered::Holds => return Ok(()),
                Entered::Obsolete => return Err(Obsolete),
                Entered::Refused => {}
            }
        }
        let (parker, unparker) = Parker::new();
        // Before the mutex is locked: it may allocate.
        let waiter = Waiter::take(mode, Notify::Thread(unparker));
        let wait = Wait::begin(self.event(), waiter, || {
            loop {
                match self.try_enter(mode) {
                    Entered::Refused => {}
                    entered => return Err(entered),
                }
                let word = self.load();
                // Refused in `word`, or else try again: each release between the refusal and the
                // mark sees the mark, or the swap fails [O5]. Relaxed: the mark publishes nothing;
                // the mutex protects the queue.
                if word.enter(mode) == Entry::Refuse
                    && (word.is_queued() || self.cas(word, word.queued(), Ordering::Relaxed))
                {
                    return Ok(());
                }
            }
        });
        match wait {
            Ok(wait) => self.wait(&wait, &parker, mode),
            Err(Entered::Obsolete) => Err(Obsolete),
            Err(_) => Ok(()),
        }
    }

    /// The event that waiters wait for. It is unique while a thread waits for the latch.
    fn event(&self) -> Event {
        Event::Release(core::ptr::from_ref(self).addr())
    }

    // Waiting

    fn wait(&self, wait: &Wait, parker: &Parker, mode: Mode) -> Result<(), Obsolete> {
        let mut wakeup = Wakeup::default();
        let mut in_vain = 0;
        // Without a deadline it ends by a grant, so it is never cancelled.
        wait.block_on_with(parker, None, |queue, waiter| {
            let holds = self.look(queue, waiter, in_vain >= LOOKS_IN_VAIN, &mut wakeup);
            in_vain += 1;
            holds
        });
        wakeup.run();
        // The signal is set after the word was changed, and no thread marks a latch obsolete that
        // the caller holds [O6].
        if self.load().is_obsolete() {
            return Err(Obsolete);
        }
        self.entered(mode);
        Ok(())
    }

    /// Lets the woken head re-check the latch. Returns whether its wait has ended.
    fn look(&self, queue: &mut Queue, waiter: &Waiter, is_late: bool, wakeup: &mut Wakeup) -> bool {
        loop {
            if waiter.signal() == Signal::Granted {
                return true;
            }
            debug_assert!(queue.is_head(waiter), "only the head is woken");
            let word = self.load();
            if word.fits(waiter.mode()) {
                let run = word.room_for(queue.run());
                let next = word.with_holders(run.0, run.1);
                // Acquire: as in `try_enter`; the other granted waiters acquire by their signal
                // [O4].
                if self.cas(
                    word,
                    next.with_queue(queue.queued_behind(run)),
                    Ordering::Acquire,
                ) {
                    queue.grant(run.1, Some(waiter), wakeup);
                    return true;
                }
            // Relaxed: it only means that a release must notify the head again. If the latch has
            // become free since the load, it fails [O5].
            } else if self.cas(word, word.looked(is_late), Ordering::Relaxed) {
                waiter.set_signal(Signal::Waiting);
                return false;
            }
        }
    }

    // Leaving

    #[inline]
    pub(super) fn unlock(&self, mode: Mode) {
        self.leave(|word| word.release(mode));
    }

    /// The exclusive holder marks the latch as obsolete [O6].
    pub(super) fn retire(&self) {
        self.leave(Word::retire);
    }

    #[inline(always)]
    fn leave(&self, owed: impl Fn(Word) -> Release) {
        let word = self.load();
        if let Release::Leave(next) = owed(word) {
            // Release: the accesses of the caller happen before the next holder, and before each
            // reader of the new version [O1] [O4].
            if self.cas(word, next, Ordering::Release) {
                return;
            }
        }
        self.leave_slow(&owed);
    }

    #[cold]
    fn leave_slow(&self, owed: &dyn Fn(Word) -> Release) {
        let mut wakeup = Wakeup::default();
        loop {
            let word = self.load();
            if let Release::Leave(next) = owed(word) {
                // Release: as above.
                if self.cas(word, next, Ordering::Release) {
                    return;
                }
                continue;
            }
            let is_left = self
                .event()
                .with_queue(|queue| self.leave_to(queue, owed, &mut wakeup));
            if is_left {
                return wakeup.run();
            }
        }
    }

    /// Releases the latch under the mutex of its queue, where the queue decides the next holder.
    /// Returns `false` if it need not decide any more.
    fn leave_to(
        &self,
        queue: &mut Queue,
        owed: &dyn Fn(Word) -> Release,
        wakeup: &mut Wakeup,
    ) -> bool {
        loop {
            let word = self.load();
            match owed(word) {
                Release::Leave(_) => return false,
                Release::Wake(next) => {
                    // Release: as above.
                    if self.cas(word, next, Ordering::Release) {
                        queue.wake_head(wakeup);
                        return true;
                    }
                }
                Release::HandOver(rest) => {
                    let run = rest.room_for(queue.run());
                    let next = rest.with_holders(run.0, run.1);
                    // Release: as above, for readers that join the granted ones and acquire by the
                    // word alone; the granted ones acquire by their signal. No acquire is needed:
                    // since a head was woken no thread has shared, so this holder was alone, and
                    // already follows all others [O4].
                    if self.cas(
                        word,
                        next.with_queue(queue.queued_behind(run)),
                        Ordering::Release,
                    ) {
                        queue.grant(run.1, None, wakeup);
                        return true;
                    }
                }
                Release::Dismiss(next) => {
                    // Release: a thread that finds the latch obsolete sees the links that replaced
                    // its node [O6].
                    if self.cas(word, next, Ordering::Release) {
                        loop {
                            let (_, n) = queue.run();
                            if n == 0 {
                                return true;
                            }
                            queue.grant(n, None, wakeup);
                        }
                    }
                }
            }
        }
    }
}
