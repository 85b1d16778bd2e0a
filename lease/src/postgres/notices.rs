//! Notifications of the server, and the threads that wait for them.
//!
//! A waiter with a place in the queue of a key is notified by its nonce, on the channel of the ear
//! that its place names [PG10]. An observer without a place is notified by a hash of the key.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::engine::{Key, Nonce};

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
    /// The observers, by the hash of their key.
    observed: Mutex<HashMap<String, Arc<Slot>>>,
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

/// What threads wait for.
#[derive(Debug, Default)]
struct Slot {
    /// The number of notifications so far.
    count: Mutex<u64>,
    changed: Condvar,
}

/// An observer that waits for a notification that arrives after this value was made.
#[derive(Debug)]
pub(super) struct Observer<'a> {
    notices: &'a Notices,
    hash: String,
    slot: Arc<Slot>,
    seen: u64,
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
        let observed = self.observed.lock();
        observed.values().for_each(|slot| slot.signal());
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
        place.seen = *place.slot.count.lock();
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

    pub(super) fn observe(&self, hash: String) -> Observer<'_> {
        let slot = Arc::clone(self.observed.lock().entry(hash.clone()).or_default());
        let seen = *slot.count.lock();
        Observer {
            notices: self,
            hash,
            slot,
            seen,
        }
    }

    /// Wakes the observers of one hash.
    pub(super) fn signal(&self, hash: &str) {
        if let Some(slot) = self.observed.lock().get(hash) {
            slot.signal();
        }
    }
}

/// Returns the text that names a nonce in a notification.
fn name(nonce: Nonce) -> String {
    format!("{:032x}", nonce.get())
}

impl Slot {
    fn signal(&self) {
        *self.count.lock() += 1;
        self.changed.notify_all();
    }

    /// Blocks until there are more notifications than `seen`, or until the deadline.
    fn wait(&self, seen: u64, deadline: Instant) -> bool {
        let mut count = self.count.lock();
        while *count == seen {
            if self.changed.wait_until(&mut count, deadline).timed_out() {
                return *count != seen;
            }
        }
        true
    }
}

impl Observer<'_> {
    /// Blocks until a notification or the deadline, and returns whether one arrived.
    pub(super) fn wait(&self, deadline: Instant) -> bool {
        self.slot.wait(self.seen, deadline)
    }
}

impl Drop for Observer<'_> {
    fn drop(&mut self) {
        let mut slots = self.notices.observed.lock();
        if let Entry::Occupied(entry) = slots.entry(std::mem::take(&mut self.hash)) {
            // The map and this observer have the last two references.
            if Arc::strong_count(entry.get()) <= 2 {
                entry.remove();
            }
        }
    }
}

/// Returns a hash of the key that is the same in all processes and releases: FNV-1a, 64 bits.
///
/// Two keys with one hash wake each other's observers, without further effect.
pub(super) fn hash(key: Key<'_>) -> String {
    let bytes = key.namespace.bytes().chain([0]).chain(key.name.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(20)
    }

    #[test]
    fn the_hash_of_a_key_never_changes() {
        // Processes of several releases notify each other.
        assert_eq!(
            hash(Key {
                namespace: "",
                name: ""
            }),
            "af63bd4c8601b7df"
        );
        let (one, two) = (
            Key {
                namespace: "a",
                name: "bc",
            },
            Key {
                namespace: "ab",
                name: "c",
            },
        );
        assert_ne!(hash(one), hash(two));
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
        drop((observer, other));
        assert!(notices.observed.lock().is_empty());
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
