//! What a map of a few keys may do, as the contract says it.

use super::linear::Object;

/// The keys of a history are 0, 1 and so on.
pub const KEYS: usize = 4;

/// The version and the value of a key.
pub type Entry = (u64, u64);

/// A map whose values are numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Keys {
    entries: [Option<Entry>; KEYS],
    /// No version of a key is less, if it was there before.
    last: [Option<u64>; KEYS],
}

/// What a batch writes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Write {
    Value(u64),
    Removal,
    Nothing,
}

/// An item of a batch: a key, the version expected, and what is written.
pub type Item = (usize, Option<u64>, Write);

/// What a batch has found where a condition did not hold, or held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Found {
    Version(Option<u64>),
    /// A value, whose version was not returned.
    Present,
}

/// A call of a map, with what it has returned.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MapOp {
    Get(usize, Option<Entry>),
    /// The entry that it has made, and the value before.
    Insert(usize, Entry, Option<u64>),
    /// Refused with this version.
    Occupied(usize, u64),
    /// The version expected, the value, and the version made, or found.
    CompareAndSet(usize, u64, u64, Result<u64, Option<u64>>),
    /// The value that was removed, if there was one.
    Remove(usize, Option<u64>),
    /// A removal that found another version than the one expected.
    Kept(usize, u64, Option<u64>),
    /// What the closure saw, and what came of it. `None`: the key was absent.
    Update(usize, Option<(u64, Entry)>),
    /// All values at one instant.
    Scan([Option<u64>; KEYS]),
    /// A batch with the versions of its keys after the commit, or what it has found.
    Batch(Vec<Item>, Result<Vec<Option<u64>>, Vec<Found>>),
    /// A transaction that has moved a value from one key to another, with the version made there
    /// and the value before. `None`: the first key was absent.
    Move([usize; 2], Option<(u64, u64, Option<u64>)>),
    /// A lock: what its holder has found, what it has written, and the version that it has made.
    Locked(usize, Option<Entry>, Write, Option<u64>),
    /// Another version than this one was awaited, and found.
    Changed(usize, Option<u64>, Option<u64>),
}

impl Keys {
    fn version(&self, key: usize) -> Option<u64> {
        self.entries[key].map(|(version, _)| version)
    }

    fn value(&self, key: usize) -> Option<u64> {
        self.entries[key].map(|(_, value)| value)
    }

    /// The state after a write, if it may make this version.
    fn with(mut self, key: usize, (version, value): Entry) -> Option<Self> {
        let may = match self.entries[key] {
            Some((before, _)) => version == before + 1,
            None => self.last[key].is_none_or(|last| version > last),
        };
        self.entries[key] = Some((version, value));
        self.last[key] = Some(version);
        may.then_some(self)
    }

    fn without(mut self, key: usize) -> Self {
        if let Some((version, _)) = self.entries[key].take() {
            self.last[key] = Some(version + 1);
        }
        self
    }

    fn batch(self, items: &[Item], after: &[Option<u64>]) -> Option<Self> {
        let mut then = self;
        for ((key, expected, write), after) in items.iter().zip(after) {
            if self.version(*key) != *expected {
                return None;
            }
            then = match write {
                Write::Value(value) => then.with(*key, ((*after)?, *value))?,
                Write::Removal => then.without(*key),
                Write::Nothing => then,
            };
            if then.version(*key) != *after {
                return None;
            }
        }
        Some(then)
    }
}

impl Object for Keys {
    type Op = MapOp;

    fn step(&self, op: &MapOp) -> Option<Self> {
        let same = |may: bool| may.then_some(*self);
        match *op {
            MapOp::Get(key, seen) => same(self.entries[key] == seen),
            MapOp::Insert(key, made, old) => {
                let then = self.with(key, made)?;
                (self.value(key) == old).then_some(then)
            }
            MapOp::Occupied(key, found) => same(self.version(key) == Some(found)),
            MapOp::CompareAndSet(key, expected, value, Ok(made)) => {
                let then = self.with(key, (made, value))?;
                (self.version(key) == Some(expected)).then_some(then)
            }
            MapOp::CompareAndSet(key, expected, _, Err(found))
            | MapOp::Kept(key, expected, found) => {
                same(self.version(key) == found && found != Some(expected))
            }
            MapOp::Remove(key, old) => (self.value(key) == old).then(|| self.without(key)),
            MapOp::Update(key, None) => same(self.entries[key].is_none()),
            MapOp::Update(key, Some((old, made))) => {
                let then = self.with(key, made)?;
                (self.value(key) == Some(old)).then_some(then)
            }
            MapOp::Scan(seen) => same((0..KEYS).all(|key| self.value(key) == seen[key])),
            MapOp::Batch(ref items, Ok(ref after)) => self.batch(items, after),
            MapOp::Batch(ref items, Err(ref found)) => {
                let is_found = |(item, found): (&Item, &Found)| match found {
                    Found::Version(version) => self.version(item.0) == *version,
                    Found::Present => self.entries[item.0].is_some(),
                };
                let is_met = |item: &Item| self.version(item.0) == item.1;
                let are_found = items.iter().zip(found).all(is_found);
                same(are_found && !items.iter().all(is_met))
            }
            MapOp::Move([from, _], None) => same(self.entries[from].is_none()),
            MapOp::Move([from, to], Some((value, made, old))) => {
                let then = self.without(from).with(to, (made, value))?;
                (self.value(from) == Some(value) && self.value(to) == old).then_some(then)
            }
            MapOp::Locked(key, seen, write, made) => {
                if self.entries[key] != seen {
                    return None;
                }
                match (write, made) {
                    (Write::Value(value), Some(made)) => self.with(key, (made, value)),
                    (Write::Removal, Some(_)) => seen.map(|_| self.without(key)),
                    (Write::Removal, None) => same(seen.is_none()),
                    (Write::Nothing, None) => Some(*self),
                    _ => None,
                }
            }
            MapOp::Changed(key, since, now) => same(self.version(key) == now && now != since),
        }
    }
}
