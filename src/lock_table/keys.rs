//! Distinct keys in one order, without an allocation for a few.

use crate::word::Mode;

/// Keys that a set holds without allocating.
const INLINE_KEYS: usize = 8;

pub(super) type Key = (u64, Mode);

/// Distinct keys in ascending order of identity: up to eight in place, more in a vector.
pub(super) struct Keys {
    ids: [u64; INLINE_KEYS],
    modes: [Mode; INLINE_KEYS],
    len: usize,
    /// All keys, if there are more than eight; otherwise empty.
    many: Vec<Key>,
}

impl Keys {
    #[inline]
    pub(super) const fn new() -> Self {
        Keys {
            ids: [0; INLINE_KEYS],
            modes: [Mode::Shared; INLINE_KEYS],
            len: 0,
            many: Vec::new(),
        }
    }

    /// Collects `keys` into an empty `self`, sorts them, and keeps of equal ones the stronger mode. It is
    /// filled in place: to move what was written word by word stalls (benchmark `lock_all`).
    #[inline]
    pub(super) fn fill(&mut self, keys: impl Iterator<Item = Key>) {
        let mut keys = keys;
        let mut repeats = false;
        while let Some(key) = keys.next() {
            if self.len == INLINE_KEYS {
                return self.fill_slow(key, keys);
            }
            // Hashes come in no order, so a sort that branches on them mispredicts every other time.
            // This one carries the greater key on by conditional moves, all the way up.
            let (mut id, mut mode) = key;
            for i in 0..self.len {
                let (other, other_mode) = (self.ids[i], self.modes[i]);
                let exchange = other > id;
                repeats |= other == id;
                self.ids[i] = if exchange { id } else { other };
                self.modes[i] = if exchange { mode } else { other_mode };
                id = if exchange { other } else { id };
                mode = if exchange { other_mode } else { mode };
            }
            (self.ids[self.len], self.modes[self.len]) = (id, mode);
            self.len += 1;
        }
        if repeats {
            self.drop_repeats();
        }
    }

    #[cold]
    pub(super) fn drop_repeats(&mut self) {
        let len = core::mem::take(&mut self.len);
        for i in 0..len {
            self.insert((self.ids[i], self.modes[i]));
        }
    }

    /// More than eight are given, which may repeat: those in `self`, `key` and `rest`.
    #[cold]
    pub(super) fn fill_slow(&mut self, key: Key, rest: impl Iterator<Item = Key>) {
        self.drop_repeats();
        let mut rest = core::iter::once(key).chain(rest);
        while let Some(key) = rest.next() {
            if !self.insert(key) {
                let mut many: Vec<Key> = self.iter().collect();
                many.push(key);
                many.extend(rest);
                many.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
                many.dedup_by_key(|key| key.0);
                self.many = many;
                return;
            }
        }
    }

    /// Inserts a key in its place among distinct ones; `false` if there are eight others.
    pub(super) fn insert(&mut self, (id, mode): Key) -> bool {
        let at = self.ids[..self.len].partition_point(|&other| other < id);
        if at < self.len && self.ids[at] == id {
            self.modes[at] = self.modes[at].max(mode);
            return true;
        }
        if self.len == INLINE_KEYS {
            return false;
        }
        self.ids.copy_within(at..self.len, at + 1);
        self.modes.copy_within(at..self.len, at + 1);
        (self.ids[at], self.modes[at]) = (id, mode);
        self.len += 1;
        true
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        if self.many.is_empty() {
            self.len
        } else {
            self.many.len()
        }
    }

    #[inline]
    pub(super) fn get(&self, i: usize) -> Key {
        if self.many.is_empty() {
            (self.ids[i], self.modes[i])
        } else {
            self.many[i]
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Key> {
        (0..self.len()).map(|i| self.get(i))
    }

    /// Takes out the key `id`, if it is there.
    pub(super) fn remove(&mut self, id: u64) -> Option<Mode> {
        let i = self.find(id)?;
        let (_, mode) = self.get(i);
        if self.many.is_empty() {
            self.ids.copy_within(i + 1..self.len, i);
            self.modes.copy_within(i + 1..self.len, i);
            self.len -= 1;
        } else {
            self.many.remove(i);
            if self.many.is_empty() {
                self.len = 0;
            }
        }
        Some(mode)
    }

    /// How the key `id` is to be held, if it is there.
    pub(super) fn mode(&self, id: u64) -> Option<Mode> {
        Some(self.get(self.find(id)?).1)
    }

    fn find(&self, id: u64) -> Option<usize> {
        // A few are found faster one by one, many by halves.
        if self.many.is_empty() {
            self.ids[..self.len].iter().position(|&other| other == id)
        } else {
            self.many.binary_search_by_key(&id, |key| key.0).ok()
        }
    }
}
