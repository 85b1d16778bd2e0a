//! Views of one instant and walks without one, while the map changes.

use std::collections::BTreeMap;

use latchwork::{snapshot, txn::View};

use super::value::Map;
use super::{KEYS, Ops, State, World};

impl<'m> World<'m> {
    pub(super) fn scan(&mut self, kind: u8, with: u8, ops: &mut Ops<'_>, depth: usize) {
        let capacity = self.map.stats().capacity;
        match kind % 64 {
            28..=31 => self.view(kind, with, ops, depth),
            _ => self.walk(kind, with, ops, depth),
        }
        self.tally.grown += u64::from(self.map.stats().capacity > capacity);
    }

    fn view(&mut self, kind: u8, with: u8, ops: &mut Ops<'_>, depth: usize) {
        let map: &'m Map = self.map;
        snapshot(|view: &View<'_, 'm>| {
            // The instant is that of the first read.
            let begun = self.now().clone();
            let first = u64::from(with) % KEYS;
            let get = |world: &Self, key| view.get(map, &world.key(key)).map(|v| v.number);
            let expected = |key: u64| begun.keys.get(&key).map(|(number, _)| *number);
            assert_eq!(get(self, first), expected(first));
            let mut walk = view.iter(map);
            let mut all = BTreeMap::new();
            let add = |all: &mut BTreeMap<u64, u64>, (key, value): (&super::Key, &super::Value)| {
                if key.number < KEYS {
                    let before = all.insert(key.number, value.number);
                    assert_eq!(before, None, "key {} was visited twice", key.number);
                }
            };
            for item in walk.by_ref().take(usize::from(kind >> 6) * 4) {
                add(&mut all, item);
            }
            self.some_more(with / 8, ops, depth);
            walk.for_each(|item| add(&mut all, item));
            let shown: BTreeMap<_, _> = begun.keys.iter().map(|(k, v)| (*k, v.0)).collect();
            assert_eq!(all, shown, "the map at the instant of the view");
            for key in 0..KEYS {
                assert_eq!(get(self, key), expected(key));
            }
            assert!(view.len(map) >= shown.len());
            assert_eq!(*view.read(self.cell), begun.cell);
            self.tally.past += u64::from(*self.now() != begun);
        });
    }

    /// A walk over what is current: each key that did not change meanwhile, once.
    fn walk(&mut self, kind: u8, with: u8, ops: &mut Ops<'_>, depth: usize) {
        let map: &'m Map = self.map;
        let pin = latchwork::pin();
        let begun = self.states.len() - 1;
        let mut walk = map.iter_in(&pin);
        let mut seen: Vec<_> = walk.by_ref().take(usize::from(kind >> 6) * 4).collect();
        self.some_more(with / 8, ops, depth);
        seen.extend(walk);
        let states: &[State] = &self.states[begun..];
        let mut all = BTreeMap::new();
        for (key, value) in &seen {
            let found = (value.number, value.version());
            if key.number < KEYS {
                let before = all.insert(key.number, found);
                assert_eq!(before, None, "key {} was visited twice", key.number);
                let was = |state: &State| state.keys.get(&key.number) == Some(&found);
                assert!(
                    states.iter().any(was),
                    "key {}: never {found:?}",
                    key.number
                );
            }
        }
        let last = self.now();
        for (key, found) in &states[0].keys {
            if states
                .iter()
                .all(|state| state.keys.get(key) == Some(found))
            {
                assert_eq!(all.get(key), Some(found), "key {key} was missed");
            }
        }
        self.tally.past += u64::from(
            all.iter()
                .any(|(key, found)| last.keys.get(key) != Some(found)),
        );
    }
}
