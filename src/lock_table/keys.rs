//! Distinct keys in one order, without an allocation for up to eight.

use crate::word::Mode;

/// The number of keys that a set holds without an allocation.
const INLINE_KEYS: usize = 8;

pub(super) type Key = (u64, Mode);

/// Distinct keys in ascending order of identity: up to eight in place, more in a vector.
///
/// A key that is removed from the vector leaves its place vacant. Once more than half of the places
/// are vacant, they are compacted. So n removals move at most 2 n keys, and each costs the search
/// for its key.
pub(super) struct Keys {
    ids: [u64; INLINE_KEYS],
    modes: [Mode; INLINE_KEYS],
    /// The number of keys.
    len: usize,
    /// All keys, if there were more than eight and one is left; otherwise empty. A vacant place has
    /// no mode.
    many: Vec<(u64, Option<Mode>)>,
}

/// Sorts two keys without a branch.
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

    /// Collects `keys` into an empty `self`, sorts them, and keeps the stronger mode of equal ones.
    ///
    /// It is filled in place, in its caller: a move of data that was written word by word stalls
    /// (benchmark `lock_all`).
    ///
    /// Hashes are in no order, so a sort that branches on them mispredicts every other time. This
    /// sort exchanges keys by conditional moves. The first three keys, which are mostly all, stay
    /// in registers.
    #[inline(always)]
    pub(super) fn fill(&mut self, keys: impl Iterator<Item = Key>) {
        let mut keys = keys;
        let Some(mut a) = keys.next() else {
            return;
        };
        let Some(mut b) = keys.next() else {
            (self.ids[0], self.modes[0]) = a;
            self.len = 1;
            return;
        };
        exchange(&mut a, &mut b);
        let mut repeats = a.0 == b.0;
        let mut len = 2;
        if let Some(mut c) = keys.next() {
            exchange(&mut b, &mut c);
            exchange(&mut a, &mut b);
            repeats = a.0 == b.0 || b.0 == c.0;
            (self.ids[2], self.modes[2]) = c;
            len = 3;
        }
        (self.ids[0], self.modes[0]) = a;
        (self.ids[1], self.modes[1]) = b;
        while let Some(mut key) = keys.next() {
            if len == INLINE_KEYS {
                return self.fill_slow(key, keys);
            }
            for i in 0..len {
                let mut other = (self.ids[i], self.modes[i]);
                exchange(&mut other, &mut key);
                repeats |= other.0 == key.0;
                (self.ids[i], self.modes[i]) = other;
            }
            (self.ids[len], self.modes[len]) = key;
            len += 1;
        }
        self.len = len;
        if repeats {
            self.drop_repeats();
        }
    }

    #[cold]
    fn drop_repeats(&mut self) {
        let len = core::mem::take(&mut self.len);
        for i in 0..len {
            self.insert((self.ids[i], self.modes[i]));
        }
    }

    /// Collects more than eight keys, which may repeat: those at all places of `self`, which do not
    /// count yet, `key` and `rest`.
    #[cold]
    fn fill_slow(&mut self, key: Key, rest: impl Iterator<Item = Key>) {
        let mut few = Keys {
            len: INLINE_KEYS,
            many: Vec::new(),
            ..*self
        };
        few.drop_repeats();
        let mut rest = core::iter::once(key).chain(rest);
        while let Some(key) = rest.next() {
            if !few.insert(key) {
                let mut many: Vec<Key> = few.iter().collect();
                many.push(key);
                many.extend(rest);
                many.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
                many.dedup_by_key(|key| key.0);
                self.len = many.len();
                // In place: both have the same size.
                self.many = many
                    .into_iter()
                    .map(|(id, mode)| (id, Some(mode)))
                    .collect();
                return;
            }
        }
        *self = few;
    }

    /// Inserts a key in order among distinct ones; returns `false` if there are eight others.
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
        self.len
    }

    /// Returns the keys at the first `n` places if all keys are in place, and `None` if they are in
    /// the vector.
    #[inline(always)]
    pub(super) fn few(&self, n: usize) -> Option<impl DoubleEndedIterator<Item = Key>> {
        let (ids, modes) = (self.ids.get(..n)?, self.modes.get(..n)?);
        self.many
            .is_empty()
            .then(|| ids.iter().copied().zip(modes.iter().copied()))
    }

    /// Returns the number of places, including the vacant ones.
    #[inline]
    pub(super) fn places(&self) -> usize {
        if self.many.is_empty() {
            self.len
        } else {
            self.many.len()
        }
    }

    /// Returns the key at a place, or `None` if the place is vacant.
    #[inline]
    pub(super) fn at(&self, place: usize) -> Option<Key> {
        if self.many.is_empty() {
            Some((self.ids[place], self.modes[place]))
        } else {
            let (id, mode) = self.many[place];
            mode.map(|mode| (id, mode))
        }
    }

    /// Returns key number `i` of a set from which no key was removed.
    ///
    /// # Panics
    /// Panics if its place is vacant.
    #[inline]
    pub(super) fn get(&self, i: usize) -> Key {
        self.at(i).expect("no key was removed")
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Key> {
        (0..self.places()).filter_map(|place| self.at(place))
    }

    /// Removes the key `id` if it is present.
    pub(super) fn remove(&mut self, id: u64) -> Option<Mode> {
        let place = self.find(id)?;
        let (_, mode) = self.at(place)?;
        if self.many.is_empty() {
            self.ids.copy_within(place + 1..self.len, place);
            self.modes.copy_within(place + 1..self.len, place);
            self.len -= 1;
        } else {
            self.many[place].1 = None;
            self.len -= 1;
            if self.len < self.many.len() / 2 || self.len == 0 {
                self.many.retain(|(_, mode)| mode.is_some());
            }
        }
        Some(mode)
    }

    /// Returns the mode of the key `id` if it is present.
    pub(super) fn mode(&self, id: u64) -> Option<Mode> {
        Some(self.at(self.find(id)?)?.1)
    }

    /// Returns the place of the key `id`, which is vacant if the key was just removed.
    fn find(&self, id: u64) -> Option<usize> {
        // A linear search is faster for a few keys, a binary search for many.
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

    /// Every list of up to five of three keys in either mode, and some longer ones, which use the
    /// vector.
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

    /// It was quadratic: each removal moved all keys behind it.
    #[test]
    fn keys_that_are_removed_one_by_one_move_no_more_than_twice_each() {
        const KEYS: u64 = 100_000;
        let orders: [fn(u64) -> u64; 3] = [
            |i| i,
            |i| KEYS - 1 - i,
            // The factor is odd, so each key occurs once.
            |i| i * 77_777 % KEYS,
        ];
        for order in orders {
            let mut keys = Keys::new();
            keys.fill((0..KEYS).map(|id| (id, Mode::Exclusive)));
            let mut moved = 0;
            for i in 0..KEYS {
                let before = keys.places();
                assert_eq!(keys.remove(order(i)), Some(Mode::Exclusive));
                assert_eq!(keys.len() as u64, KEYS - 1 - i);
                if keys.places() != before {
                    moved += before;
                }
            }
            assert!(moved <= 4 * KEYS as usize, "{moved} moves");
            assert_eq!((keys.places(), keys.iter().count()), (0, 0));
        }
    }

    #[test]
    fn what_is_left_of_many_keys_is_in_order_after_each_removal() {
        let mut seed = 1_u64;
        for n in 9..40 {
            let list: Vec<Key> = (0..n).map(|id| (id, Mode::Shared)).collect();
            let (mut keys, mut left) = (filled(&list), list.clone());
            while !left.is_empty() {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005) | 1;
                let (id, _) = left.remove((seed >> 33) as usize % left.len());
                assert_eq!(keys.remove(id), Some(Mode::Shared));
                assert_eq!((keys.remove(id), keys.mode(id)), (None, None));
                assert_eq!(keys.iter().collect::<Vec<_>>(), left);
                let places: Vec<_> = (0..keys.places()).filter_map(|i| keys.at(i)).collect();
                assert_eq!(places, left);
                assert!(left.iter().all(|key| keys.mode(key.0).is_some()));
            }
        }
    }
}
