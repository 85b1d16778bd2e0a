//! Direct calls of one key, and those of the whole map.

use std::cell::Cell;

use latchwork::RetryPolicy;
use latchwork::cell::{UpdateError, Version};

use super::value::Map;
use super::{KEYS, MOST_KEPT, Ops, World, after};

impl<'m> World<'m> {
    /// A version that a key does not have.
    pub(super) fn wrong_version(&self, key: u64, byte: u8) -> Version {
        let current = self.version(key).unwrap_or(Version::FIRST);
        let wrong = match byte % 4 {
            0 => after(current, 1 + u64::from(byte)),
            1 => after(current, u64::MAX),
            2 => Version::new(u64::MAX),
            // Of another key: a number like any other.
            _ => self.version((key + 1) % KEYS).unwrap_or(Version::FIRST),
        };
        match Some(wrong) == self.version(key) {
            true => after(wrong, 1),
            false => wrong,
        }
    }

    pub(super) fn call(&mut self, kind: u8, key: u64, ops: &mut Ops<'_>, depth: usize) {
        let map: &'m Map = self.map;
        let seen = self.seen(key);
        let number = seen.map(|(number, _)| number);
        let version = self.version(key);
        let is_locked = self.is_locked(key);
        let name = self.key(key);
        match kind % 64 {
            // Before the writes: what a locked key allows too.
            0 => {
                let got = map.get(&name).map(|value| (value.number, value.version()));
                assert_eq!((got, map.contains_key(&name)), (seen, seen.is_some()));
                let pin = latchwork::pin();
                let in_pin = map.get_key_value_in(&pin, &name);
                let in_pin = in_pin.map(|(key, value)| (key.number, value.number, value.version()));
                assert_eq!(in_pin, seen.map(|(number, version)| (key, number, version)));
            }
            1 | 2 => {
                if self.kept.len() < MOST_KEPT {
                    if let Some(owned) = map.get_owned(&name) {
                        let found = (owned.number, owned.version());
                        assert_eq!(Some(found), seen);
                        self.kept.push((found, owned));
                    }
                }
            }
            3 => {
                if !self.kept.is_empty() {
                    let at = key as usize % self.kept.len();
                    let (seen, owned) = self.kept.swap_remove(at);
                    assert_eq!((owned.number, owned.version()), seen);
                }
            }
            4 => {
                let got = map.get(&name);
                self.some_more(kind >> 3, ops, depth);
                let got = got.map(|value| (value.number, value.version()));
                assert_eq!(got, seen, "what was read stays");
            }
            5 => {
                let pin = latchwork::pin();
                let got = map.get_in(&pin, &name);
                self.some_more(kind >> 3, ops, depth);
                assert_eq!(got.map(|value| (value.number, value.version())), seen);
            }
            6 => {
                let value = self.value(kind);
                let wrong = self.wrong_version(key, kind);
                let conflict = map.compare_and_set(&name, wrong, value).unwrap_err();
                assert_eq!((conflict.expected, conflict.current), (wrong, version));
                assert_eq!(conflict.value.number, self.number);
                let conflict = map.remove_if_version(&name, wrong).err();
                assert_eq!(conflict.expect("another version").current, version);
                self.tally.refused += 2;
            }
            7 if seen.is_none() => {
                assert!(map.remove(&name).is_none());
                assert!(
                    map.update(&name, |_| unreachable!("it is absent"))
                        .is_none()
                );
                self.tally.refused += 2;
            }
            7 => {
                let value = self.value(kind);
                let occupied = map.insert_if_absent(name, value).unwrap_err();
                assert_eq!(
                    (occupied.key.number, Some(occupied.current)),
                    (key, version)
                );
                assert_eq!(occupied.value.number, self.number);
                self.tally.refused += 1;
            }
            8 => {
                let f = |old: &_| Err(super::value::Value::clone(old).number);
                let aborted = map.try_update(&RetryPolicy::forever(), &name, f);
                match number {
                    Some(number) => assert_eq!(aborted, Err(UpdateError::Aborted(number))),
                    None => assert_eq!(aborted, Ok(None)),
                }
            }
            10 => {
                let before = map.stats();
                assert!(map.try_reserve(usize::MAX >> (key % 8)).is_err());
                // Destructors of what was collected may insert keys, for which the map grows.
                let capacity = map.stats().capacity;
                let may_grow = self.tally.side > 0;
                assert!(may_grow || capacity == before.capacity);
                assert!(capacity < 1 << 16, "{capacity} of {before:?}");
                let additional = key as usize * 8;
                map.reserve(additional);
                assert!(map.stats().capacity >= before.len + additional);
            }
            11 => map.shrink_to_fit(),
            _ if is_locked => {}
            12..=16 => {
                let value = self.value(kind.wrapping_mul(37));
                let made = self.number;
                let (version, old) = map.insert(name, value);
                assert_eq!(old.map(|old| (old.number, old.version())), seen);
                self.wrote(key, made, version);
            }
            17 => {
                let value = self.value(kind.wrapping_mul(37));
                let made = self.number;
                if let Ok(version) = map.insert_if_absent(name, value) {
                    assert_eq!(seen, None);
                    self.wrote(key, made, version);
                }
            }
            18 => {
                let value = self.value(kind.wrapping_mul(37));
                let made = self.number;
                if let Some(version) = version {
                    let version = map.compare_and_set(&name, version, value);
                    self.wrote(key, made, version.expect("the current version"));
                }
            }
            19 => {
                let mut value = Some(self.value(kind.wrapping_mul(37)));
                let made = self.number;
                let version = map.update(&name, |old| {
                    assert_eq!(Some(old.number), number);
                    value.take().expect("no other thread interferes")
                });
                assert_eq!(version.is_some(), seen.is_some());
                if let Some(version) = version {
                    self.wrote(key, made, version);
                }
            }
            20 => {
                let (default, other) = (self.value(kind), self.value(kind));
                let made = match seen {
                    Some(_) => other.number,
                    None => default.number,
                };
                let mut other = Some(other);
                let version = map.upsert(name, default, |old| {
                    assert_eq!(Some(old.number), number);
                    other.take().expect("no other thread interferes")
                });
                self.wrote(key, made, version);
            }
            21 => self.contend(kind, key),
            22..=24 => {
                let old = map.remove(&name);
                assert_eq!(old.map(|old| (old.number, old.version())), seen);
                if seen.is_some() {
                    self.removed(key);
                }
            }
            25 => {
                if let Some(version) = version {
                    let old = map.remove_if_version(&name, version);
                    assert_eq!(Some(old.expect("its version").number), number);
                    self.removed(key);
                }
            }
            _ => {
                // Locked keys stay, so that no call waits.
                let locked: Vec<u64> = (0..KEYS).filter(|key| self.is_locked(*key)).collect();
                let all = kind % 64 == 26 && locked.is_empty();
                let modulus = if all { u64::MAX } else { 2 + key % 3 };
                let stays = |key: u64, number: u64| {
                    locked.contains(&key) || key >= KEYS || (!all && number % modulus == 0)
                };
                match all {
                    true => map.clear(),
                    false => map.retain(|key, value| stays(key.number, value.number)),
                }
                let left: Vec<_> = self.now().keys.iter().map(|(k, v)| (*k, v.0)).collect();
                for (key, number) in left {
                    if !stays(key, number) {
                        self.removed(key);
                    }
                }
            }
        }
    }

    /// A conditional update whose closure writes the key itself a few times: with one attempt more
    /// it succeeds.
    fn contend(&mut self, kind: u8, key: u64) {
        let map: &'m Map = self.map;
        if self.seen(key).is_none() {
            return;
        }
        let (losses, attempts) = (u32::from(kind >> 6), u32::from(kind >> 4 & 3) + 1);
        let calls = Cell::new(0);
        let name = self.key(key);
        let mut made = 0;
        let updated = map.try_update(&RetryPolicy::attempts(attempts), &name, |_| {
            if calls.replace(calls.get() + 1) < losses {
                let value = self.value(0);
                let number = self.number;
                let (version, _) = map.insert(self.key(key), value);
                self.wrote(key, number, version);
            }
            let value = self.value(0);
            made = value.number;
            Ok::<_, ()>(value)
        });
        if losses < attempts {
            let version = updated.expect("no interference").expect("it is present");
            self.wrote(key, made, version);
        } else {
            assert_eq!(updated, Err(UpdateError::Contended));
            self.tally.refused += 1;
        }
    }
}
