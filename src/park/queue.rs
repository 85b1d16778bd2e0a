//! A first-in, first-out list of waiters, linked through the waiters themselves.
//!
//! The list owns one reference to each waiter in it. To add a waiter, to remove one from the middle
//! and to remove the head are O(1). The list allocates nothing beyond the waiter.
#![allow(unsafe_code)]

use core::ptr::NonNull;
use std::sync::Arc;
use std::task::Waker;

use super::waiter::{Links, Notify, Signal, Waiter};
use crate::reclaim::inside::Inside;
use crate::word::{Mode, Queued};

/// Calls `f` with the links of `waiter`.
///
/// # Safety
/// `waiter` must be alive, and the caller must have exclusive access to its links [W1].
unsafe fn links<R>(waiter: NonNull<Waiter>, f: impl FnOnce(&mut Links) -> R) -> R {
    // SAFETY: alive, by the caller's contract.
    let waiter = unsafe { waiter.as_ref() };
    waiter.links.with_mut(|links| {
        // SAFETY: exclusive, by the caller's contract; `f` cannot reach this waiter's links again,
        // because nothing that runs inside it calls this function.
        f(unsafe { &mut *links })
    })
}

/// Turns one reference into an address, which `Arc::from_raw` turns back.
fn into_node(waiter: Arc<Waiter>) -> NonNull<Waiter> {
    NonNull::new(Arc::into_raw(waiter).cast_mut()).expect("a reference is not null")
}

#[derive(Debug)]
pub(crate) struct Queue {
    head: Option<NonNull<Waiter>>,
    tail: Option<NonNull<Waiter>>,
    /// Waiters for exclusive.
    writers: usize,
}

// SAFETY: links are accessed by one thread at a time [W1]. The notification in them may be used and
// dropped on any thread. The rest of a waiter is an atomic and plain data.
unsafe impl Send for Waiter {}
// SAFETY: as above.
unsafe impl Sync for Waiter {}

// SAFETY: the queue owns references to waiters, and it alone accesses their links [W1]. The rest of
// a waiter is an atomic and plain data, and a notification may be used on any thread.
unsafe impl Send for Queue {}

impl Queue {
    pub(crate) fn new() -> Self {
        Queue {
            head: None,
            tail: None,
            writers: 0,
        }
    }

    pub(crate) fn queued(&self) -> Queued {
        match (self.head, self.writers) {
            (None, _) => Queued::Nobody,
            (Some(_), 0) => Queued::Readers,
            (Some(_), _) => Queued::Writers,
        }
    }

    pub(crate) fn head(&self) -> Option<&Waiter> {
        // SAFETY: a linked waiter is alive, because the queue owns a reference to it; it cannot be
        // unlinked while the queue is borrowed.
        self.head.map(|head| unsafe { &*head.as_ptr() })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    pub(crate) fn is_head(&self, waiter: &Waiter) -> bool {
        self.head().is_some_and(|head| core::ptr::eq(head, waiter))
    }

    pub(crate) fn push(&mut self, waiter: Arc<Waiter>) {
        self.writers += usize::from(waiter.mode() == Mode::Exclusive);
        // The queue's reference; `unlink` turns it back into an `Arc`.
        let node = into_node(waiter);
        let tail = self.tail.replace(node);
        // SAFETY: the node is alive by the reference above and in no other list, so its links are
        // this queue's [W1].
        unsafe { links(node, |l| l.prev = tail) };
        match tail {
            // SAFETY: linked nodes are alive and theirs are this queue's links [W1].
            Some(tail) => unsafe { links(tail, |l| l.next = Some(node)) },
            None => self.head = Some(node),
        }
    }

    /// Inserts a waiter before all others. A head that was woken to re-check is no longer the head,
    /// and waits again.
    pub(crate) fn push_front(&mut self, waiter: Arc<Waiter>) {
        if let Some(head) = self.head()
            && head.signal() == Signal::Woken
        {
            head.set_signal(Signal::Waiting);
        }
        self.writers += usize::from(waiter.mode() == Mode::Exclusive);
        // The queue's reference; `unlink` turns it back into an `Arc`.
        let node = into_node(waiter);
        let head = self.head.replace(node);
        // SAFETY: the node is alive by the reference above and in no other list, so its links are
        // this queue's [W1].
        unsafe { links(node, |l| l.next = head) };
        match head {
            // SAFETY: linked nodes are alive and theirs are this queue's links [W1].
            Some(head) => unsafe { links(head, |l| l.prev = Some(node)) },
            None => self.tail = Some(node),
        }
    }

    /// Removes a waiter from the list.
    ///
    /// # Safety
    /// `node` must be linked in this queue.
    unsafe fn unlink(&mut self, node: NonNull<Waiter>) -> Arc<Waiter> {
        // SAFETY: linked, so alive and this queue's [W1].
        let (prev, next) = unsafe { links(node, |l| (l.prev.take(), l.next.take())) };
        match prev {
            // SAFETY: linked, as above.
            Some(prev) => unsafe { links(prev, |l| l.next = next) },
            None => self.head = next,
        }
        match next {
            // SAFETY: linked, as above.
            Some(next) => unsafe { links(next, |l| l.prev = prev) },
            None => self.tail = prev,
        }
        // SAFETY: the reference that `push` forgot; it is turned back once, because the node is no
        // longer linked.
        let waiter = unsafe { Arc::from_raw(node.as_ptr()) };
        self.writers -= usize::from(waiter.mode() == Mode::Exclusive);
        waiter
    }

    /// Removes a waiter that has not been granted the key.
    ///
    /// # Safety
    /// `waiter` must be in this queue.
    pub(crate) unsafe fn remove(&mut self, waiter: &Arc<Waiter>) -> Arc<Waiter> {
        // The address as `Arc` returns it, which reaches the counts beside the waiter.
        let node = NonNull::new(Arc::as_ptr(waiter).cast_mut()).expect("a reference is not null");
        // SAFETY: linked, by the caller's contract.
        unsafe { self.unlink(node) }
    }

    /// Removes a waiter at any position, sets the signal that ends its wait, and adds it to
    /// `wakeup`.
    ///
    /// # Safety
    /// `waiter` must be in this queue.
    pub(crate) unsafe fn end(&mut self, waiter: &Arc<Waiter>, signal: Signal, wakeup: &mut Wakeup) {
        // SAFETY: linked, by the caller's contract.
        let waiter = unsafe { self.remove(waiter) };
        waiter.set_signal(signal);
        wakeup.granted.add(waiter);
    }

    /// The waiters that may hold the key at once: the head, and if it reads, all readers that
    /// directly follow it. Returns their mode and number; 0 if no thread waits.
    pub(crate) fn run(&self) -> (Mode, u64) {
        let Some(head) = self.head() else {
            return (Mode::Shared, 0);
        };
        if head.mode() == Mode::Exclusive {
            return (Mode::Exclusive, 1);
        }
        let mut n = 0;
        let mut next = self.head;
        while let Some(node) = next {
            // SAFETY: linked, so alive.
            if unsafe { node.as_ref() }.mode() == Mode::Exclusive {
                break;
            }
            n += 1;
            // SAFETY: linked, so this queue's [W1].
            next = unsafe { links(node, |l| l.next) };
        }
        (Mode::Shared, n)
    }

    /// The result of [`queued`](Self::queued) once the run has left.
    pub(crate) fn queued_behind(&self, run: (Mode, u64)) -> Queued {
        let writers = self.writers - usize::from(run.0 == Mode::Exclusive && run.1 > 0);
        let mut last = self.head;
        let mut left = run.1;
        while left > 0 {
            // SAFETY: linked, so this queue's [W1].
            last = last.and_then(|node| unsafe { links(node, |l| l.next) });
            left -= 1;
        }
        match (last, writers) {
            (None, _) => Queued::Nobody,
            (Some(_), 0) => Queued::Readers,
            (Some(_), _) => Queued::Writers,
        }
    }

    /// The result of [`queued`](Self::queued) once one of several waiters has left, which has this
    /// mode.
    pub(crate) fn queued_without(&self, mode: Mode) -> Queued {
        match self.writers - usize::from(mode == Mode::Exclusive) {
            0 => Queued::Readers,
            _ => Queued::Writers,
        }
    }

    /// Removes the first `n` waiters, grants them the key by their signal, and adds those to
    /// `wakeup` that are not `me`.
    #[inline]
    pub(crate) fn grant(&mut self, n: u64, me: Option<&Waiter>, wakeup: &mut Wakeup) {
        for _ in 0..n {
            let head = self.head.expect("a run is no longer than its queue");
            // SAFETY: the head is linked.
            let waiter = unsafe { self.unlink(head) };
            waiter.set_signal(Signal::Granted);
            if !me.is_some_and(|me| core::ptr::eq(me, &*waiter)) {
                wakeup.granted.add(waiter);
            }
        }
    }

    /// Removes all waiters that have seen a version before `written`, grants them by their signal,
    /// and adds them to `woken`, which notifies the first of the queue first.
    pub(super) fn grant_before(&mut self, written: u64, woken: &mut WakeList) {
        let mut next = self.tail;
        while let Some(node) = next {
            // SAFETY: linked, so this queue's [W1].
            next = unsafe { links(node, |l| l.prev) };
            // SAFETY: linked, so alive.
            if unsafe { node.as_ref() }.seen() < written {
                // SAFETY: linked in this queue.
                let waiter = unsafe { self.unlink(node) };
                waiter.set_signal(Signal::Granted);
                woken.add(waiter);
            }
        }
    }

    /// Replaces the notification of `waiter`, and returns the previous one.
    ///
    /// # Safety
    /// `waiter` must be in this queue.
    pub(crate) unsafe fn renew(&mut self, waiter: &Waiter, notify: Notify) -> Option<Notify> {
        // SAFETY: linked, by the caller's contract, so this queue's [W1].
        unsafe { links(NonNull::from(waiter), |l| l.notify.replace(notify)) }
    }

    /// Returns whether the notification of `waiter` wakes the same task as `waker`.
    ///
    /// # Safety
    /// `waiter` must be in this queue.
    pub(super) unsafe fn would_wake(&mut self, waiter: &Waiter, waker: &Waker) -> bool {
        // SAFETY: linked, by the caller's contract, so this queue's [W1].
        unsafe {
            links(NonNull::from(waiter), |l| match &l.notify {
                Some(Notify::Task(own)) => own.will_wake(waker),
                _ => false,
            })
        }
    }

    /// Calls `f` with each waiter, from the head on.
    pub(crate) fn for_each(&self, mut f: impl FnMut(&Waiter)) {
        let mut next = self.head;
        while let Some(node) = next {
            // SAFETY: linked, so alive while the queue is borrowed.
            f(unsafe { node.as_ref() });
            // SAFETY: linked, so this queue's [W1].
            next = unsafe { links(node, |l| l.next) };
        }
    }

    /// Signals the head to re-check, and adds it to `wakeup`.
    pub(crate) fn wake_head(&mut self, wakeup: &mut Wakeup) {
        let head = self.head.expect("the state has a queued waiter");
        // SAFETY: the head is linked, so alive.
        unsafe { head.as_ref() }.set_signal(Signal::Woken);
        // SAFETY: linked, so this queue's [W1].
        wakeup.look = unsafe { links(head, |l| Notify::for_one_use(&mut l.notify)) };
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // Only a forgotten future can leave a waiter in a queue.
        while let Some(head) = self.head {
            // SAFETY: the head is linked.
            drop(unsafe { self.unlink(head) });
        }
    }
}

/// The waiters that must be notified once the mutex and the pin are released [W3].
#[derive(Debug, Default)]
#[must_use]
pub(crate) struct Wakeup {
    look: Option<Notify>,
    granted: WakeList,
}

impl Wakeup {
    /// Notifies all of them.
    pub(crate) fn run(&mut self) {
        if let Some(look) = self.look.take() {
            look.notify();
        }
        self.granted.run();
    }
}

impl Drop for Wakeup {
    fn drop(&mut self) {
        // A notification panicked: the others must still run. `granted` follows.
        if let Some(look) = self.look.take() {
            look.notify();
        }
    }
}

/// Waiters whose wait has ended and that must be notified [W3]. Each is notified once, including
/// when a notification panics.
///
/// They are linked through `next`, newest first: they are out of their queue, and their links are
/// this list's [W1].
#[derive(Debug, Default)]
#[must_use]
pub(crate) struct WakeList(Option<NonNull<Waiter>>);

// SAFETY: the list owns references to waiters, and it alone accesses their links [W1].
unsafe impl Send for WakeList {}

impl WakeList {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn add(&mut self, waiter: Arc<Waiter>) {
        let node = into_node(waiter);
        let rest = self.0.replace(node);
        // SAFETY: alive by the reference just forgotten, and popped into this list [W1].
        unsafe { links(node, |l| l.next = rest) };
    }

    /// Notifies all of them, the last one that was added first.
    #[inline]
    pub(crate) fn run(&mut self) {
        if !self.is_empty() {
            self.run_slow();
        }
    }

    #[cold]
    #[inline(never)]
    fn run_slow(&mut self) {
        // A waker is no code of the closure that this thread may be inside of.
        let _outside = Inside::no_closure();
        while let Some(notify) = self.pop() {
            notify.notify();
        }
    }

    fn pop(&mut self) -> Option<Notify> {
        let node = self.0?;
        // SAFETY: in this list, so alive and its links are ours [W1].
        let (next, notify) = unsafe { links(node, |l| (l.next.take(), l.notify.take())) };
        self.0 = next;
        // SAFETY: the reference that `add` forgot, turned back once.
        drop(unsafe { Arc::from_raw(node.as_ptr()) });
        notify
    }
}

impl Drop for WakeList {
    #[inline]
    fn drop(&mut self) {
        self.run();
    }
}
