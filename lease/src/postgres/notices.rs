//! Notifications of the server, and the threads that wait for them.
//!
//! A waiter with a place in the queue of a key is notified by its nonce, on the channel of the ear
//! that its place names [PG10]. An observer without a place is notified by a hash of the key.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::engine::Nonce;
use crate::notices::{Notices as Observers, Slot, Waiter};

use super::statements::CHANNEL;

/// The number of places above which those that were abandoned are removed.
const MANY_PLACES: usize = 256;

/// The time after which a place is abandoned that no thread has asked for or waited in.
const ABANDONED: Duration = Duration::from_secs(60);

/// The connection of this process that listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ear(u64);

impl Ear {
    /// Makes an ear of a random number.
    pub(super) fn new(random: u128) -> Self {
        // Zero is the ear of a place that nothing notifies.
        Ear((random as u64).max(1))
    }

    /// Returns the bytes that a place contains.
    pub(super) fn bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    /// Returns the channel on which the server notifies it.
    pub(super) fn channel(self) -> String {
        format!("{CHANNEL}_{:016x}", self.0)
    }
}

/// The waiters and observers of one engine.
#[derive(Debug, Default)]
pub(super) struct Notices {
    places: Mutex<Places>,
    observers: Observers,
}

#[derive(Debug, Default)]
struct Places {
    ear: Option<Ear>,
    /// The waiters whose place names the ear, by the text of their nonce.
    waiters: HashMap<String, Place>,
}

/// A waiter with a place in a queue of the server.
#[derive(Debug)]
struct Place {
    slot: Arc<Slot>,
    /// The notifications before the last request.
    seen: u64,
    used: Instant,
}

impl Notices {
    /// Returns the ear, if the process listens.
    pub(super) fn ear(&self) -> Option<Ear> {
        self.places.lock().ear
    }

    /// Makes `ear` the one of later requests.
    pub(super) fn hear(&self, ear: Ear) {
        self.places.lock().ear = Some(ear);
    }

    /// Ends an ear. All waiters and observers are notified, because notifications may be lost.
    pub(super) fn deafen(&self, ear: Ear) {
        let mut places = self.places.lock();
        if places.ear != Some(ear) {
            return;
        }
        places.ear = None;
        let waiters = std::mem::take(&mut places.waiters);
        drop(places);
        waiters.values().for_each(|place| place.slot.signal());
        self.observers.signal_all();
    }

    /// Prepares for the notification of a nonce that is about to ask, and returns the ear for its
    /// place. Without an ear, nothing is prepared.
    pub(super) fn expect(&self, nonce: Nonce) -> Option<Ear> {
        let mut places = self.places.lock();
        let ear = places.ear?;
        let now = Instant::now();
        if places.waiters.len() >= MANY_PLACES {
            places
                .waiters
                .retain(|_, place| now - place.used < ABANDONED);
        }
        let place = places.waiters.entry(name(nonce)).or_insert_with(|| Place {
            slot: Arc::default(),
            seen: 0,
            used: now,
        });
        // A notification before the request is of no use after it.
        place.seen = place.slot.count();
        place.used = now;
        Some(ear)
    }

    /// Forgets a nonce that has no place any more.
    pub(super) fn forget(&self, nonce: Nonce) {
        let mut places = self.places.lock();
        if !places.waiters.is_empty() {
            places.waiters.remove(&name(nonce));
        }
    }

    /// Waits in the place of a nonce for a notification since its last request, or until the
    /// deadline. Returns false at once if it has no place with an ear.
    pub(super) fn wait(&self, nonce: Nonce, deadline: Instant) -> bool {
        let mut places = self.places.lock();
        let Some(place) = places.waiters.get_mut(&name(nonce)) else {
            return false;
        };
        place.used = Instant::now();
        let (slot, seen) = (Arc::clone(&place.slot), place.seen);
        drop(places);
        slot.wait(seen, deadline);
        true
    }

    /// Wakes the waiter with a nonce, given as text.
    pub(super) fn call(&self, nonce: &str) {
        if let Some(place) = self.places.lock().waiters.get(nonce) {
            place.slot.signal();
        }
    }

    pub(super) fn observe(&self, hash: String) -> Waiter<'_> {
        self.observers.register(hash)
    }

    /// Wakes the observers of one hash.
    pub(super) fn signal(&self, hash: &str) {
        self.observers.signal(hash);
    }
}

/// Returns the text that names a nonce in a notification.
fn name(nonce: Nonce) -> String {
    format!("{:032x}", nonce.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(20)
    }

    #[test]
    fn a_notification_before_the_wait_ends_it() {
        let notices = Notices::default();
        let observer = notices.observe("one".to_owned());
        let other = notices.observe("two".to_owned());
        notices.signal("one");
        assert!(observer.wait(soon()));
        assert!(!other.wait(soon()));
        let ear = Ear::new(7);
        notices.hear(ear);
        notices.deafen(ear);
        assert!(other.wait(soon()));
    }

    #[test]
    fn a_place_is_notified_by_its_nonce_since_its_last_request() {
        let notices = Notices::default();
        let (one, two) = (Nonce::new(1), Nonce::new(2));
        assert_eq!(notices.expect(one), None);
        assert!(!notices.wait(one, soon()), "it has no place");
        let ear = Ear::new(7);
        notices.hear(ear);
        assert_eq!(
            (notices.expect(one), notices.expect(two)),
            (Some(ear), Some(ear))
        );
        let is_called = |nonce| {
            let start = Instant::now();
            assert!(notices.wait(nonce, start + Duration::from_secs(1)));
            start.elapsed() < Duration::from_millis(500)
        };
        notices.call(&name(one));
        assert!(is_called(one));
        assert!(!is_called(two));
        // The next request makes it old.
        notices.expect(one);
        assert!(!is_called(one));
        notices.deafen(ear);
        assert!(!notices.wait(two, soon()), "its ear has ended");
    }

    #[test]
    fn places_that_no_thread_uses_are_removed() {
        let notices = Notices::default();
        notices.hear(Ear::new(7));
        for number in 0..MANY_PLACES as u128 {
            notices.expect(Nonce::new(number));
        }
        let old = Instant::now()
            .checked_sub(ABANDONED)
            .expect("the clock is not new");
        for place in notices.places.lock().waiters.values_mut() {
            place.used = old;
        }
        notices.expect(Nonce::new(1 << 100));
        assert_eq!(notices.places.lock().waiters.len(), 1);
    }
}
