//! Keys and values that are counted, and that use the map when they are hashed, compared and
//! dropped.

use std::hash::{Hash, Hasher};
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use latchwork::{VersionedMap, atomically, outside_of_closures, snapshot};

use super::{Planned, SIDE_KEYS};
use crate::common::hashers::Place;

pub(super) type Map = VersionedMap<Key, Value, Place>;

/// The number of keys and values that exist.
pub(super) type Live = Arc<AtomicUsize>;

fn count(live: &Live) -> Live {
    live.fetch_add(1, Relaxed);
    live.clone()
}

fn discount(live: &Live) {
    let before = live.fetch_sub(1, Relaxed);
    assert!(before > 0, "dropped more often than made");
}

/// What a key does when the map hashes or compares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behavior {
    Usual,
    HashPanics,
    EqPanics,
}

#[derive(Debug)]
pub(super) struct Key {
    pub(super) number: u64,
    behavior: Behavior,
    live: Live,
}

impl Key {
    pub(super) fn new(number: u64, behavior: Behavior, live: &Live) -> Self {
        let live = count(live);
        Key {
            number,
            behavior,
            live,
        }
    }
}

impl Clone for Key {
    fn clone(&self) -> Self {
        Key::new(self.number, self.behavior, &self.live)
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        discount(&self.live);
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        if self.behavior == Behavior::HashPanics {
            resume_unwind(Box::new(Planned));
        }
        state.write_u64(self.number);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        if self.behavior == Behavior::EqPanics || other.behavior == Behavior::EqPanics {
            resume_unwind(Box::new(Planned));
        }
        self.number == other.number
    }
}

impl Eq for Key {}

/// What the destructor of a value does with the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Nothing,
    Get,
    Insert,
    Remove,
    TryLock,
    Transaction,
    Scan,
    Flush,
}

impl End {
    /// Most values do nothing.
    pub(super) fn of(byte: u8) -> Self {
        match byte {
            128..=143 => End::Get,
            144..=159 => End::Insert,
            160..=175 => End::Remove,
            176..=191 => End::TryLock,
            192..=207 => End::Transaction,
            208..=223 => End::Scan,
            224..=231 => End::Flush,
            _ => End::Nothing,
        }
    }
}

pub(super) struct Value {
    pub(super) number: u64,
    end: End,
    map: Weak<Map>,
    live: Live,
}

impl Value {
    pub(super) fn new(number: u64, end: End, map: &Arc<Map>, live: &Live) -> Self {
        Value {
            number,
            end,
            map: Arc::downgrade(map),
            live: count(live),
        }
    }
}

impl Clone for Value {
    fn clone(&self) -> Self {
        Value {
            number: self.number,
            end: self.end,
            map: self.map.clone(),
            live: count(&self.live),
        }
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        discount(&self.live);
        // None at the end of the map.
        let Some(map) = self.map.upgrade() else {
            return;
        };
        let side = SIDE_KEYS.start + self.number % (SIDE_KEYS.end - SIDE_KEYS.start);
        let key = |number| Key::new(number, Behavior::Usual, &self.live);
        let value = || Value {
            number: self.number,
            end: End::Nothing,
            map: self.map.clone(),
            live: count(&self.live),
        };
        // As another thread would: the destructor may run in a closure.
        outside_of_closures(|| match self.end {
            End::Nothing => {}
            End::Get => {
                drop(map.get(&key(self.number % SIDE_KEYS.start)));
                drop(map.get(&key(side)));
            }
            End::Insert => drop(map.insert(key(side), value())),
            End::Remove => drop(map.remove(&key(side))),
            End::TryLock => {
                if let Some(mut guard) = map.try_lock(&key(side)) {
                    guard.set(value());
                    guard.commit();
                }
            }
            End::Transaction => atomically(|tx| {
                if tx.remove(&*map, &key(side))?.is_none() {
                    tx.insert(&*map, key(side), value())?;
                }
                Ok(())
            }),
            End::Scan => {
                snapshot(|view| assert!(view.iter(&*map).count() >= view.iter(&*map).count()))
            }
            End::Flush => latchwork::flush(),
        });
    }
}
