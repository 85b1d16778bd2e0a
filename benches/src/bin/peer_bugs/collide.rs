//! Locking several keys of one hash together.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher};

use latchwork::{LockTable, Mode};
use lockmap::{Entry, LockMap};

use crate::probe::Seen;

const KEYS: u64 = 20;

/// Gives every key the same hash.
#[derive(Clone, Debug, Default)]
struct Same;

impl BuildHasher for Same {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        Self
    }
}

impl Hasher for Same {
    fn write(&mut self, _: &[u8]) {}

    fn finish(&self) -> u64 {
        7
    }
}

fn seen() -> Seen {
    Seen::Nothing(format!("{KEYS} keys of one hash were locked"))
}

pub(crate) fn lockmap() -> Seen {
    let map = LockMap::<u64, (), Same>::with_hasher(Same);
    let _entries: Vec<(u64, Entry<'_, u64, (), Same>)> =
        map.batch_lock(BTreeSet::from_iter(0..KEYS));
    seen()
}

pub(crate) fn latchwork() -> Seen {
    let table = LockTable::<u64, Same>::with_hasher(Same);
    let keys: Vec<_> = (0..KEYS).collect();
    let _set = table.lock_all(keys.iter().map(|key| (key, Mode::Exclusive)));
    seen()
}
