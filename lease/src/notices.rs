//! Notifications of released keys, and the threads that wait for them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use crate::engine::Key;

/// The waiters of one engine, by the hash of their key.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    slots: Mutex<HashMap<String, Arc<Slot>>>,
}

/// What threads wait for.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    /// The number of notifications so far.
    count: Mutex<u64>,
    changed: Condvar,
}

/// A thread that waits for a notification that arrives after this value was made.
#[derive(Debug)]
pub(crate) struct Waiter<'a> {
    notices: &'a Notices,
    hash: String,
    slot: Arc<Slot>,
    seen: u64,
}

impl Notices {
    pub(crate) fn register(&self, hash: String) -> Waiter<'_> {
        let slot = Arc::clone(self.slots.lock().entry(hash.clone()).or_default());
        let seen = slot.count();
        Waiter {
            notices: self,
            hash,
            slot,
            seen,
        }
    }

    /// Wakes the waiters of one hash.
    pub(crate) fn signal(&self, hash: &str) {
        if let Some(slot) = self.slots.lock().get(hash) {
            slot.signal();
        }
    }

    /// Wakes all waiters: notifications may have been lost.
    pub(crate) fn signal_all(&self) {
        self.slots.lock().values().for_each(|slot| slot.signal());
    }
}

impl Slot {
    /// Returns the number of notifications so far.
    pub(crate) fn count(&self) -> u64 {
        *self.count.lock()
    }

    /// Wakes all threads that wait.
    pub(crate) fn signal(&self) {
        *self.count.lock() += 1;
        self.changed.notify_all();
    }

    /// Blocks until there are more notifications than `seen`, or until the deadline.
    pub(crate) fn wait(&self, seen: u64, deadline: Instant) -> bool {
        let mut count = self.count.lock();
        while *count == seen {
            if self.changed.wait_until(&mut count, deadline).timed_out() {
                return *count != seen;
            }
        }
        true
    }
}

impl Waiter<'_> {
    /// Blocks until a notification or the deadline, and returns whether one arrived.
    pub(crate) fn wait(&self, deadline: Instant) -> bool {
        self.slot.wait(self.seen, deadline)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut slots = self.notices.slots.lock();
        if let Entry::Occupied(entry) = slots.entry(std::mem::take(&mut self.hash)) {
            // The map and this waiter have the last two references.
            if Arc::strong_count(entry.get()) <= 2 {
                entry.remove();
            }
        }
    }
}

/// Returns a hash of the key that is the same in all processes and releases: FNV-1a, 64 bits.
///
/// Two keys with one hash wake each other's waiters, without further effect.
pub(crate) fn hash(key: Key<'_>) -> String {
    let bytes = key.namespace.bytes().chain([0]).chain(key.name.bytes());
    format!("{:016x}", fnv(bytes))
}

/// FNV-1a, 64 bits: the same in all processes and releases.
pub(crate) fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

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
        let waiter = notices.register("one".to_owned());
        let other = notices.register("two".to_owned());
        notices.signal("one");
        let soon = || Instant::now() + Duration::from_millis(20);
        assert!(waiter.wait(soon()));
        assert!(!other.wait(soon()));
        notices.signal_all();
        assert!(other.wait(soon()));
        drop((waiter, other));
        assert!(notices.slots.lock().is_empty());
    }
}
