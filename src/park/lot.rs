//! The parking lot: the queues of words that have no room for one.
//!
//! A latch, a cell and a transaction need no queue while no thread or task waits. The queue exists
//! here, by the [`Event`] that is waited for, as long as a waiter is in it [W6].

use core::hash::{BuildHasherDefault, Hash, Hasher};
use std::collections::HashMap;

use crossbeam_utils::CachePadded;

use super::queue::{Queue, WakeList};
use crate::deadlock::Spread;
use crate::sync::tuning::WAITER_SHARDS;
use crate::sync::{Mutex, global};

/// The change that a thread or task waits for, with the address of the object that changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A latch is released.
    Release(usize),
    /// A cell is written.
    Write(usize),
    /// The transaction of an owner is decided.
    Decision(usize),
    /// The lock of an entry of a map ends. The address is that of the head.
    Unlock(usize),
}

impl Event {
    fn address(self) -> usize {
        match self {
            Event::Release(at) | Event::Write(at) | Event::Decision(at) | Event::Unlock(at) => at,
        }
    }

    /// Calls `f` with the queue of this event, under its mutex, which other events share. `f` runs
    /// no user code, and no thread parks or spins in it [W3].
    pub(crate) fn with_queue<R>(self, f: impl FnOnce(&mut Queue) -> R) -> R {
        // The objects lie 8 bytes apart or more; Fibonacci hashing spreads them.
        let spread = (self.address() as u64 >> 3).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut shard = SHARDS[(spread >> 32) as usize % WAITER_SHARDS].lock();
        let queues = &mut shard.0;
        if let Some(queue) = queues.get_mut(&self) {
            let result = f(queue);
            if queue.is_empty() {
                queues.remove(&self);
                shard.shrink();
            }
            return result;
        }
        let mut queue = Queue::new();
        let result = f(&mut queue);
        if !queue.is_empty() {
            queues.insert(self, queue);
        }
        result
    }

    /// Runs `f` under the mutex of the queue, unless a waiter is in it. `f` runs no user code.
    #[cold]
    pub(crate) fn if_none_waits<R>(self, f: impl FnOnce() -> R) -> Option<R> {
        self.with_queue(|queue| queue.is_empty().then(f))
    }
}

impl Hash for Event {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Two events of one address are rare.
        state.write_u64(self.address() as u64);
    }
}

/// The queues that share a mutex: few at a time, and mostly none.
struct Shard(HashMap<Event, Queue, BuildHasherDefault<Spread>>);

/// The number of queues for which a shard keeps memory.
const KEPT: usize = 64;

impl Shard {
    const fn new() -> Self {
        Shard(HashMap::with_hasher(BuildHasherDefault::new()))
    }

    /// Frees memory after a queue was removed, and keeps enough to grow again without a cost.
    fn shrink(&mut self) {
        let needed = KEPT.max(4 * self.0.len());
        if self.0.capacity() > 2 * needed {
            self.0.shrink_to(needed);
        }
    }
}

global! {
    const SHARDS: [CachePadded<Mutex<Shard>>; WAITER_SHARDS] =
        CachePadded::new(Mutex::new(Shard::new()));
}

impl WakeList {
    /// Ends the waits for an event of all waiters that have seen a version before `written`. The
    /// object must still exist: later, another one may have its address [W6]. Runs no user code.
    #[cold]
    pub(crate) fn grant(&mut self, event: Event, written: u64) {
        event.with_queue(|queue| queue.grant_before(written, self));
    }

    /// Ends the waits of all waiters for an event.
    #[cold]
    pub(crate) fn grant_all(&mut self, event: Event) {
        self.grant(event, u64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use core::task::{Context, Poll, Waker};
    use std::sync::Arc;
    use std::task::Wake;

    use super::*;
    use crate::park::{Notify, Wait, Waiter};
    use crate::sync::{AtomicU64, Ordering};

    #[derive(Default)]
    struct Bell(AtomicU64);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Bell {
        fn rung(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }
    }

    fn wait(event: Event, seen: u64, bell: &Arc<Bell>) -> Wait {
        let notify = Notify::Task(Waker::from(bell.clone()));
        let waiter = Waiter::take_for_change(seen, notify);
        Wait::begin(event, waiter, || Ok::<_, ()>(())).expect("nothing refuses it")
    }

    fn wake(event: Event, written: u64) {
        let mut woken = WakeList::default();
        woken.grant(event, written);
        woken.run();
    }

    fn is_queued(event: Event) -> bool {
        event.if_none_waits(|| ()).is_none()
    }

    /// Addresses that no other test uses.
    fn addresses<const N: usize>(place: &[u64; N]) -> [usize; N] {
        place.each_ref().map(|at| core::ptr::from_ref(at).addr())
    }

    /// A write does not wake a waiter that has seen it, and wakes no waiter of another cell.
    #[test]
    fn a_write_wakes_those_who_have_not_seen_it() {
        let place = [0; 2];
        let [cell, other] = addresses(&place).map(Event::Write);
        let bells = [cell, cell, other].map(|of| (of, Arc::new(Bell::default())));
        let rung = || bells.each_ref().map(|(_, bell)| bell.rung());
        let seen = [4, 5, 4].into_iter().zip(&bells);
        let waits: Vec<_> = seen
            .map(|(seen, (of, bell))| wait(*of, seen, bell))
            .collect();
        wake(cell, 5);
        assert_eq!(rung(), [1, 0, 0]);
        wake(cell, 6);
        assert_eq!(rung(), [1, 1, 0]);
        drop(waits);
        wake(other, 9);
        assert_eq!(rung(), [1, 1, 0]);
    }

    /// An object may be created at the address of another one that a waiter has not left yet.
    #[test]
    fn events_of_one_address_have_queues_of_their_own() {
        let place = [0; 1];
        let [at] = addresses(&place);
        let events =
            [Event::Release, Event::Write, Event::Decision, Event::Unlock].map(|of| of(at));
        let bell = Arc::new(Bell::default());
        for event in events {
            let queued = wait(event, 1, &bell);
            let others = events.iter().filter(|other| **other != event);
            assert!(others.clone().all(|other| !is_queued(*other)));
            others.for_each(|other| wake(*other, 2));
            assert!(is_queued(event) && bell.rung() == 0);
            drop(queued);
        }
    }

    /// A wait that is dropped leaves no queue behind; one that was granted stays granted.
    #[test]
    fn a_wait_that_is_dropped_leaves_its_queue() {
        let place = [0; 1];
        let event = Event::Write(addresses(&place)[0]);
        let bell = Arc::new(Bell::default());
        let (first, second) = (wait(event, 1, &bell), wait(event, 2, &bell));
        drop(first);
        assert!(is_queued(event));
        let waker = Waker::from(bell.clone());
        assert_eq!(second.poll(&Context::from_waker(&waker)), Poll::Pending);
        wake(event, 3);
        assert!(!is_queued(event));
        assert_eq!(second.poll(&Context::from_waker(&waker)), Poll::Ready(()));
        drop(second);
        assert_eq!(bell.rung(), 1);
    }

    /// A task that is polled by another waker is woken by that one.
    #[test]
    fn the_waker_of_the_last_poll_counts() {
        let place = [0; 1];
        let event = Event::Decision(addresses(&place)[0]);
        let bells = [(), ()].map(|()| Arc::new(Bell::default()));
        let queued = wait(event, 1, &bells[0]);
        let waker = Waker::from(bells[1].clone());
        assert_eq!(queued.poll(&Context::from_waker(&waker)), Poll::Pending);
        let mut woken = WakeList::default();
        woken.grant_all(event);
        woken.run();
        assert_eq!(bells.each_ref().map(|bell| bell.rung()), [0, 1]);
    }

    /// The first waiter of a queue is notified first.
    #[test]
    fn waiters_are_notified_in_the_order_of_the_queue() {
        struct Log(u64, Arc<parking_lot::Mutex<Vec<u64>>>);
        impl Wake for Log {
            fn wake(self: Arc<Self>) {
                self.1.lock().push(self.0);
            }
        }
        let place = [0; 1];
        let event = Event::Write(addresses(&place)[0]);
        let log = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let waits: Vec<_> = (0..3)
            .map(|n| {
                let notify = Notify::Task(Waker::from(Arc::new(Log(n, log.clone()))));
                let waiter = Waiter::take_for_change(0, notify);
                Wait::begin(event, waiter, || Ok::<_, ()>(())).expect("nothing refuses it")
            })
            .collect();
        wake(event, 1);
        assert_eq!(*log.lock(), [0, 1, 2]);
        drop(waits);
    }

    /// The memory of many queues is freed with them.
    #[test]
    fn a_shard_shrinks() {
        let mut shard = Shard::new();
        let keys: Vec<_> = (0..10_000).map(Event::Write).collect();
        for key in &keys {
            shard.0.insert(*key, Queue::new());
        }
        for key in &keys {
            shard.0.remove(key);
            shard.shrink();
        }
        assert!(shard.0.capacity() <= 4 * KEPT, "{}", shard.0.capacity());
    }
}
