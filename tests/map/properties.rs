//! Random calls of a map on one thread, against a reference that keeps the states of all snapshots.

use std::collections::{BTreeMap, BTreeSet};

use crate::alone;
use crate::common::hashers::Place;
use crate::common::watchdog;
use latchwork::cell::Version;
use latchwork::{Transaction, VersionedMap, atomically, snapshot, txn::TxAbort};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

const KEYS: u64 = 12;

#[derive(Clone, Debug)]
enum Op {
    Get(u64),
    Insert(u64),
    InsertIfAbsent(u64),
    /// A conditional write with a version that lies so far behind the current one.
    CompareAndSet(u64, u64),
    Update(u64),
    Upsert(u64),
    Remove(u64),
    RemoveIf(u64, u64),
    Retain(u64),
    Clear,
    Flush,
    Reserve(usize),
    Shrink,
    /// Removes the first key and inserts its value at the second one; commits or not.
    Move(u64, u64, bool),
    /// Calls inside a snapshot.
    Snapshot(Vec<Op>),
    /// Calls while a pin is kept.
    Pinned(Vec<Op>),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let key = || 0..KEYS;
    let op = prop_oneof![
        3 => key().prop_map(Op::Get),
        6 => key().prop_map(Op::Insert),
        3 => key().prop_map(Op::InsertIfAbsent),
        3 => (key(), 0..2_u64).prop_map(|(key, behind)| Op::CompareAndSet(key, behind)),
        2 => key().prop_map(Op::Update),
        2 => key().prop_map(Op::Upsert),
        6 => key().prop_map(Op::Remove),
        2 => (key(), 0..2_u64).prop_map(|(key, behind)| Op::RemoveIf(key, behind)),
        1 => (2..5_u64).prop_map(Op::Retain),
        1 => Just(Op::Clear),
        4 => Just(Op::Flush),
        1 => (0..200_usize).prop_map(Op::Reserve),
        1 => Just(Op::Shrink),
        4 => (key(), key(), any::<bool>()).prop_map(|(from, to, commits)| Op::Move(from, to, commits)),
    ];
    vec(op, 0..30).prop_recursive(3, 60, 4, |inner| {
        let nested = prop_oneof![
            inner.clone().prop_map(Op::Snapshot),
            inner.clone().prop_map(Op::Pinned),
        ];
        (inner.clone(), nested, inner).prop_map(|(mut before, nested, after)| {
            before.push(nested);
            before.extend(after);
            before
        })
    })
}

type Map = VersionedMap<u64, u64, Place>;

/// The value and the version of each key that is present.
type State = BTreeMap<u64, (u64, Version)>;

#[derive(Default)]
struct Reference {
    state: State,
    /// Each key with each version that it ever had.
    used: BTreeSet<(u64, Version)>,
    next: u64,
}

impl Reference {
    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// A write has given this version: a greater one than any that the key ever had.
    fn write(&mut self, key: u64, value: u64, version: Version) {
        let of_key = (key, Version::FIRST)..=(key, Version::new(u64::MAX));
        let last = self
            .used
            .range(of_key)
            .next_back()
            .map(|(_, version)| *version);
        assert!(
            last.is_none_or(|last| version > last),
            "{version} of {key} after {last:?}"
        );
        if let Some((_, before)) = self.state.get(&key) {
            assert_eq!(
                version.get(),
                before.get() + 1,
                "versions of an entry are dense"
            );
        }
        self.used.insert((key, version));
        self.state.insert(key, (value, version));
    }

    fn version(&self, key: u64) -> Option<Version> {
        self.state.get(&key).map(|(_, version)| *version)
    }
}

fn run(map: &Map, reference: &mut Reference, ops: &[Op]) {
    for op in ops {
        step(map, reference, op);
        assert_eq!(map.len(), reference.state.len(), "after {op:?}");
    }
}

fn step(map: &Map, reference: &mut Reference, op: &Op) {
    let behind = |version: Option<Version>, n: u64| {
        version.map_or(Version::new(1), |v| Version::new(v.get().saturating_sub(n)))
    };
    match op {
        Op::Get(key) => {
            let got = map.get(key).map(|value| (*value, value.version()));
            assert_eq!(got, reference.state.get(key).copied());
            assert_eq!(map.version(key), reference.version(*key));
        }
        Op::Insert(key) => {
            let value = reference.fresh();
            let before = reference.state.get(key).map(|(value, _)| *value);
            let (version, old) = map.insert(*key, value);
            assert_eq!(old.map(|old| *old), before);
            reference.write(*key, value, version);
        }
        Op::InsertIfAbsent(key) => {
            let value = reference.fresh();
            match map.insert_if_absent(*key, value) {
                Ok(version) => {
                    assert_eq!(reference.version(*key), None);
                    reference.write(*key, value, version);
                }
                Err(occupied) => {
                    assert_eq!(reference.version(*key), Some(occupied.current));
                    assert_eq!((occupied.key, occupied.value), (*key, value));
                }
            }
        }
        Op::CompareAndSet(key, n) => {
            let value = reference.fresh();
            let current = reference.version(*key);
            let expected = behind(current, *n);
            match map.compare_and_set(key, expected, value) {
                Ok(version) => {
                    assert_eq!(current, Some(expected));
                    reference.write(*key, value, version);
                }
                Err(conflict) => {
                    assert_ne!(current, Some(expected));
                    assert_eq!((conflict.current, conflict.value), (current, value));
                }
            }
        }
        Op::Update(key) => {
            let value = reference.fresh();
            let before = reference.state.get(key).map(|(value, _)| *value);
            let version = map.update(key, |old| {
                assert_eq!(Some(*old), before);
                value
            });
            assert_eq!(version.is_some(), before.is_some());
            if let Some(version) = version {
                reference.write(*key, value, version);
            }
        }
        Op::Upsert(key) => {
            let value = reference.fresh();
            let version = map.upsert(*key, value, |_| value);
            reference.write(*key, value, version);
        }
        Op::Remove(key) => {
            let before = reference.state.remove(key).map(|(value, _)| value);
            assert_eq!(map.remove(key).map(|value| *value), before);
        }
        Op::RemoveIf(key, n) => {
            let current = reference.version(*key);
            let expected = behind(current, *n);
            match map.remove_if_version(key, expected) {
                Ok(_) => {
                    assert_eq!(current, Some(expected));
                    reference.state.remove(key);
                }
                Err(conflict) => {
                    assert_ne!(current, Some(expected));
                    assert_eq!(conflict.current, current);
                }
            }
        }
        Op::Retain(n) => {
            map.retain(|_, value| value % n == 0);
            reference.state.retain(|_, (value, _)| *value % n == 0);
        }
        Op::Clear => {
            map.clear();
            reference.state.clear();
        }
        Op::Flush => map.flush(),
        Op::Reserve(n) => map.reserve(*n),
        Op::Shrink => map.shrink_to_fit(),
        Op::Move(from, to, commits) => {
            let result = Transaction::builder().try_run(|tx| {
                let Some(value) = tx.remove(map, from)?.copied() else {
                    return Ok(None);
                };
                tx.insert(map, *to, value)?;
                let version = tx.entry_version(map, to)?;
                match commits {
                    true => Ok(Some((value, version.unwrap()))),
                    false => Err(TxAbort::Transaction(())),
                }
            });
            if let Ok(Some((value, version))) = result {
                if from != to {
                    reference.state.remove(from);
                }
                reference.write(*to, value, version);
            }
        }
        Op::Snapshot(inner) => {
            let before = reference.state.clone();
            snapshot(|view| {
                run(map, reference, inner);
                let all: BTreeMap<_, _> = view.iter(map).map(|(k, v)| (*k, *v)).collect();
                let expected: BTreeMap<_, _> = before.iter().map(|(k, (v, _))| (*k, *v)).collect();
                assert_eq!(all, expected);
                assert_eq!(view.len(map), expected.len());
                for key in 0..KEYS {
                    assert_eq!(view.get(map, &key), expected.get(&key));
                }
            });
        }
        Op::Pinned(inner) => {
            let pin = latchwork::pin();
            let seen: Vec<_> = map.iter_in(&pin).collect();
            let expected = reference.state.clone();
            run(map, reference, inner);
            let seen: State = seen
                .iter()
                .map(|(k, v)| (**k, (**v, v.version())))
                .collect();
            assert_eq!(seen, expected);
        }
    }
}

fn check(place: Place) {
    let config = Config {
        cases: 200,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    let result = runner.run(&ops(), |ops| {
        let map = VersionedMap::with_hasher(place);
        let mut reference = Reference::default();
        run(&map, &mut reference, &ops);
        let pin = latchwork::pin();
        let all: State = map
            .iter_in(&pin)
            .map(|(k, v)| (*k, (*v, v.version())))
            .collect();
        assert_eq!(all, reference.state);
        drop(pin);
        let all = atomically(|tx| {
            let mut all = BTreeMap::new();
            for key in 0..KEYS {
                if let Some(value) = tx.get(&map, &key)? {
                    all.insert(key, *value);
                }
            }
            Ok(all)
        });
        assert_eq!(all.len(), reference.state.len());
        let mut owned: Vec<_> = map.into_iter().map(|(k, v)| (k, v.unwrap())).collect();
        owned.sort_unstable();
        assert_eq!(owned, all.into_iter().collect::<Vec<_>>());
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn a_map_is_like_a_reference() {
    let _alone = alone();
    let _watchdog = watchdog("a_map_is_like_a_reference");
    check(Place::Identity);
}

#[test]
fn a_map_of_one_hash_is_like_a_reference() {
    let _alone = alone();
    let _watchdog = watchdog("a_map_of_one_hash_is_like_a_reference");
    check(Place::Constant(3));
}

/// Several keys of each hash, and hashes that agree in most bits.
#[test]
fn a_snapshot_beside_removals_matches_a_past_state() {
    let _alone = alone();
    let _watchdog = watchdog("a_snapshot_beside_removals_matches_a_past_state");
    check(Place::Spread { shift: 0, step: 20 });
}
