//! Conditional batches.

use latchwork::cell::Version;
use latchwork::map::Reason;

use super::value::Map;
use super::{Ops, Seen, World, key_of};

/// One item: its key, the version that it expects, and what it writes: the number of a value, a
/// removal, or nothing.
struct Item {
    key: u64,
    expected: Option<Version>,
    write: Option<Option<u64>>,
}

impl<'m> World<'m> {
    pub(super) fn batch(&mut self, kind: u8, with: u8, ops: &mut Ops<'_>) {
        let map: &'m Map = self.map;
        let mut batch = map.transact();
        let mut items: Vec<Item> = Vec::new();
        for [what, with] in Self::later(with ^ kind, ops) {
            let key = key_of(with);
            let name = self.key(key);
            let current = self.version(key);
            let version = match what >> 5 {
                0 => self.wrong_version(key, what),
                _ => current.unwrap_or(Version::new(3)),
            };
            // Few keys twice.
            if what >> 5 != 1 && items.iter().any(|item| item.key == key) {
                continue;
            }
            let is_locked = self.is_locked(key);
            let (expected, write);
            (batch, expected, write) = match what % 8 {
                0..=2 if !is_locked => {
                    let value = self.value(what);
                    let number = value.number;
                    match current {
                        Some(_) if what >> 5 != 2 => (
                            batch.put_if(name, version, value),
                            Some(version),
                            Some(Some(number)),
                        ),
                        _ => (
                            batch.insert_if_absent(name, value),
                            None,
                            Some(Some(number)),
                        ),
                    }
                }
                3 | 4 if !is_locked => (batch.remove_if(name, version), Some(version), Some(None)),
                5 => (batch.check(name, None), None, None),
                _ => match current {
                    Some(_) => (batch.check(name, version), Some(version), None),
                    None => (batch.check(name, None), None, None),
                },
            };
            items.push(Item {
                key,
                expected,
                write,
            });
        }
        let result = batch.commit();
        let twice = |item: &Item| items.iter().filter(|other| other.key == item.key).count() > 1;
        let any_twice = items.iter().any(twice);
        let seen: Vec<Option<Seen>> = items.iter().map(|item| self.seen(item.key)).collect();
        let is_met = |(item, seen): (&Item, &Option<Seen>)| item.expected == seen.map(|(_, v)| v);
        let is_right = !any_twice && items.iter().zip(&seen).all(is_met);
        match result {
            Ok(versions) => {
                assert!(is_right, "a condition does not hold");
                let mut state = self.now().clone();
                let mut writes = 0;
                for ((item, seen), version) in items.iter().zip(&seen).zip(versions) {
                    match item.write {
                        Some(Some(number)) => {
                            let version = version.expect("it was written");
                            self.note(&mut state, item.key, number, version);
                        }
                        Some(None) => {
                            assert_eq!(version, None);
                            self.note_removal(&mut state, item.key);
                        }
                        None => assert_eq!(version, seen.map(|(_, version)| version)),
                    }
                    writes += u64::from(item.write.is_some());
                }
                self.states.push(state);
                self.tally.committed += u64::from(writes > 1);
            }
            Err(cancelled) => {
                assert!(!is_right, "all conditions hold: {cancelled}");
                self.tally.refused += 1;
                let values = cancelled.values.iter().zip(&items);
                for (value, item) in values {
                    assert_eq!(value.as_ref().map(|v| v.number), item.write.flatten());
                }
                for ((reason, item), seen) in cancelled.reasons.iter().zip(&items).zip(&seen) {
                    let is_expected = match reason {
                        Reason::Duplicate => twice(item),
                        Reason::Met if any_twice => !twice(item),
                        Reason::Met => is_met((item, seen)),
                        Reason::Exists => item.expected.is_none() && seen.is_some(),
                        Reason::Absent => item.expected.is_some() && seen.is_none(),
                        Reason::VersionIs {
                            expected,
                            current,
                            value,
                        } => {
                            (Some(*expected), Some((value.number, *current)))
                                == (item.expected, *seen)
                                && expected != current
                                && value.version() == *current
                        }
                        _ => false,
                    };
                    assert!(is_expected, "{reason:?} of {seen:?}");
                    assert!(any_twice || !matches!(reason, Reason::Duplicate));
                }
            }
        }
    }
}
