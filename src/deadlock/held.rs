//! The keys of one owner: a list, with an index once it is long and a key of it is released.

use super::numbers::Numbers;
use super::owner::Held;
use crate::sync::tuning::LINEAR_HOLDS;

/// Each key once, in no order. To make it from a list costs nothing: most waiting owners are
/// removed as a whole, and never release one key of many.
#[derive(Debug)]
pub(super) struct HeldKeys {
    all: Vec<Held>,
    /// The position of each key in `all`; empty until a key of a long list is released.
    places: Numbers<usize>,
}

impl HeldKeys {
    pub(super) fn new(all: Vec<Held>) -> Self {
        let places = Numbers::default();
        HeldKeys { all, places }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Held> {
        self.all.iter()
    }

    pub(super) fn into_list(self) -> Vec<Held> {
        self.all
    }

    pub(super) fn get(&self, hash: u64) -> Option<&Held> {
        self.find(hash).map(|place| &self.all[place])
    }

    /// Adds a key that is not there.
    pub(super) fn push(&mut self, held: Held) {
        if !self.places.is_empty() {
            self.places.insert(held.hash, self.all.len());
        }
        self.all.push(held);
    }

    /// Removes a key, and returns how it was held.
    pub(super) fn remove(&mut self, hash: u64) -> Option<Held> {
        if self.places.is_empty() && self.all.len() > LINEAR_HOLDS {
            let all = self.all.iter().enumerate();
            self.places = all.map(|(place, held)| (held.hash, place)).collect();
        }
        let place = self.find(hash)?;
        let held = self.all.swap_remove(place);
        if !self.places.is_empty() {
            self.places.remove(&hash);
            if let Some(moved) = self.all.get(place) {
                self.places.insert(moved.hash, place);
            }
        }
        Some(held)
    }

    fn find(&self, hash: u64) -> Option<usize> {
        if self.places.is_empty() {
            self.all.iter().position(|held| held.hash == hash)
        } else {
            self.places.get(&hash).copied()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deadlock::At;
    use crate::word::Mode;

    fn held(hash: u64) -> Held {
        Held {
            hash,
            mode: Mode::Shared,
            at: At::here(),
        }
    }

    /// A long list has an index from its first removal on, so that to remove all of *n* keys costs
    /// *n* steps. A short list never has one.
    #[test]
    fn a_long_list_has_an_index_once_a_key_is_removed() {
        for (keys, indexed) in [(LINEAR_HOLDS, 0), (LINEAR_HOLDS + 1, LINEAR_HOLDS)] {
            let mut keys = HeldKeys::new((0..keys as u64).map(held).collect());
            assert_eq!(keys.places.len(), 0);
            assert!(keys.remove(0).is_some());
            assert_eq!(keys.places.len(), indexed);
        }
    }

    /// Keys are added and removed across the border between list and index, both ways.
    #[test]
    fn list_and_index_agree() {
        let n = 3 * LINEAR_HOLDS as u64;
        let mut keys = HeldKeys::new((0..n).map(held).collect());
        for round in 1..4 {
            assert!(keys.remove(n).is_none(), "round {round}");
            for hash in (0..n).step_by(2) {
                assert!(keys.remove(hash).is_some_and(|held| held.hash == hash));
                assert!(keys.get(hash).is_none() && keys.remove(hash).is_none());
            }
            for hash in 0..n {
                let found = keys.get(hash).map(|held| held.hash);
                assert_eq!(found, (hash % 2 == 1).then_some(hash));
            }
            assert!((1..n).step_by(2).all(|hash| keys.remove(hash).is_some()));
            assert_eq!((keys.len(), keys.places.len()), (0, 0));
            (0..n).for_each(|hash| keys.push(held(hash)));
            assert_eq!(keys.len(), n as usize);
        }
    }
}
