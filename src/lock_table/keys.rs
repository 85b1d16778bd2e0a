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

/// Puts two keys in order, without a branch.
#[inline(always)]
fn exchange(low: &mut Key, high: &mut Key) {
    let ((a, a_mode), (b, b_mode)) = (*low, *high);
    let exchange = a > b;
    *low = if exchange { (b, b_mode) } else { (a, a_mode) };
    *high = if exchange { (a, a_mode) } else { (b, b_mode) };
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

    /// Collects `keys` into an empty `self`, sorts them, and keeps of equal ones the stronger mode.
    /// It is filled in place, and in its caller: to move what was written word by word stalls
    /// (benchmark `lock_all`).
    ///
    /// Hashes come in no order, so a sort that branches on them mispredicts every other time. This
    /// one exchanges by conditional moves; the first three keys, mostly all, in registers.
    #[inline(always)]
    pub(super) fn fill(&mut self, keys: impl Iterator<Item = Key>) {
        let mut keys = keys;
        let Some(mut a) = keys.next() else {
            return;
        };
        let Some(mut b) = keys.next() else {
            return self.append(a);
        };
        exchange(&mut a, &mut b);
        let mut repeats = a.0 == b.0;
        if let Some(mut c) = keys.next() {
            exchange(&mut b, &mut c);
            exchange(&mut a, &mut b);
            repeats = a.0 == b.0 || b.0 == c.0;
            (self.ids[2], self.modes[2]) = c;
            self.len = 1;
        }
        (self.ids[0], self.modes[0]) = a;
        (self.ids[1], self.modes[1]) = b;
        self.len += 2;
        while let Some(mut key) = keys.next() {
            if self.len == INLINE_KEYS {
                return self.fill_slow(key, keys);
            }
            for i in 0..self.len {
                let mut other = (self.ids[i], self.modes[i]);
                exchange(&mut other, &mut key);
                repeats |= other.0 == key.0;
                (self.ids[i], self.modes[i]) = other;
            }
            self.append(key);
        }
        if repeats {
            self.drop_repeats();
        }
    }

    #[inline]
    fn append(&mut self, key: Key) {
        (self.ids[self.len], self.modes[self.len]) = key;
        self.len += 1;
    }

    #[cold]
    fn drop_repeats(&mut self) {
        let len = core::mem::take(&mut self.len);
        for i in 0..len {
            self.insert((self.ids[i], self.modes[i]));
        }
    }

    /// More than eight are given, which may repeat: those in `self`, `key` and `rest`.
    #[cold]
    fn fill_slow(&mut self, key: Key, rest: impl Iterator<Item = Key>) {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const IDS: [u64; 3] = [1, 5, u64::MAX];

    /// Every list of up to five of three keys in either mode; some longer ones, where keys move to a vector.
    fn lists() -> impl Iterator<Item = Vec<Key>> {
        let one = IDS.map(|id| [(id, Mode::Shared), (id, Mode::Exclusive)]);
        let one = one.into_iter().flatten();
        let mut all = vec![Vec::new()];
        let mut last = all.clone();
        for _ in 0..5 {
            last = last
                .iter()
                .flat_map(|list| one.clone().map(|key| [&list[..], &[key]].concat()))
                .collect();
            all.extend(last.iter().cloned());
        }
        let long = (6..20).map(|n| (0..n).map(|i| (i * 7 % n % 17, Mode::Shared)).collect());
        all.into_iter().chain(long)
    }

    fn filled(list: &[Key]) -> Keys {
        let mut keys = Keys::new();
        keys.fill(list.iter().copied());
        keys
    }

    #[test]
    fn each_key_is_there_once_in_order_and_in_the_stronger_mode() {
        for list in lists() {
            let mut expected = BTreeMap::new();
            for (id, mode) in &list {
                let strongest = expected.entry(*id).or_insert(*mode);
                *strongest = (*strongest).max(*mode);
            }
            let all: Vec<_> = expected.clone().into_iter().collect();
            assert_eq!(filled(&list).iter().collect::<Vec<_>>(), all, "{list:?}");
            for id in expected.keys() {
                let mut keys = filled(&list);
                assert_eq!(keys.remove(*id), Some(expected[id]));
                assert_eq!(keys.remove(*id), None);
                let left = all.iter().copied().filter(|key| key.0 != *id);
                assert!(keys.iter().eq(left), "{list:?} without {id}");
            }
        }
    }
}
