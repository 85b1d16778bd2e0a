//! Calls of a map of a few keys, recorded for the map as a whole: scans and batches are calls of
//! several keys.

use std::time::Duration;

use latchwork::cell::Version;
use latchwork::map::Reason;
use latchwork::{VersionedMap, atomically, snapshot};

use super::cells::Value;
use crate::common::hashers::Place;
use crate::common::history::keys::{Found, Item, KEYS, Keys, MapOp, Write};
use crate::common::history::linear::linearise;
use crate::common::history::record::by_object;
use crate::common::history::{Log, stamp};
use crate::common::{Rng, pause};

pub type Map = VersionedMap<u64, Value, Place>;

/// One call: what to do, with which keys, and whether to let others run in the middle of it.
#[derive(Clone, Copy, Debug)]
pub struct Pick {
    pub kind: u8,
    pub keys: [usize; 2],
    pub lingers: bool,
}

/// The kinds of calls.
pub const KINDS: u8 = 21;

impl Pick {
    pub fn draw(rng: &mut Rng, keys: usize) -> Self {
        let key = |rng: &mut Rng| rng.below(keys as u64) as usize;
        Pick {
            kind: rng.below(KINDS.into()) as u8,
            keys: [key(rng), key(rng)],
            lingers: rng.one_in(2),
        }
    }
}

/// One thread's or task's part.
pub struct Caller<'m> {
    map: &'m Map,
    /// The number to write next.
    next: u64,
    patience: Duration,
    log: Log<MapOp>,
}

impl<'m> Caller<'m> {
    pub fn new(map: &'m Map, thread: usize, steps: usize, patience: Duration) -> Self {
        Self {
            map,
            next: (thread as u64) << 32,
            patience,
            log: Log::new(thread, steps),
        }
    }

    pub fn into_log(self) -> Log<MapOp> {
        self.log
    }

    /// One call, or none that says anything.
    pub fn call(
        &mut self,
        Pick {
            kind,
            keys,
            lingers,
        }: Pick,
    ) {
        self.next += 1;
        let (map, number, log) = (self.map, self.next, &mut self.log);
        let [at, other] = keys;
        let key = at as u64;
        let value = || Value::new(number);
        let linger = || {
            if lingers {
                pause();
            }
        };
        match kind % KINDS {
            0 | 1 => {
                let get = || {
                    let seen = map.get(&key);
                    linger();
                    seen.map(|seen| (seen.version().get(), seen.number()))
                };
                log.call(0, get, |seen| MapOp::Get(at, *seen));
            }
            2 | 3 => {
                let insert = || {
                    let (version, old) = map.insert(key, value());
                    (version.get(), old.map(|old| old.number()))
                };
                log.call(0, insert, |(made, old)| {
                    MapOp::Insert(at, (*made, number), *old)
                });
            }
            4 => {
                let insert = || map.insert_if_absent(key, value());
                let _ = log.call(0, insert, |made| match made {
                    Ok(made) => MapOp::Insert(at, (made.get(), number), None),
                    Err(occupied) => {
                        assert_eq!(occupied.value.number(), number, "another's value back");
                        MapOp::Occupied(at, occupied.current.get())
                    }
                });
            }
            5 => {
                let expected = map.version(&key).unwrap_or(Version::FIRST);
                linger();
                let write = || map.compare_and_set(&key, expected, value());
                let _ = log.call(0, write, |made| {
                    let made = made.as_ref().map(|made| made.get());
                    let made = made.map_err(|conflict| conflict.current.map(Version::get));
                    MapOp::CompareAndSet(at, expected.get(), number, made)
                });
            }
            6 | 7 => {
                let remove = || map.remove(&key).map(|old| old.number());
                log.call(0, remove, |old| MapOp::Remove(at, *old));
            }
            8 => {
                let expected = map.version(&key).unwrap_or(Version::FIRST);
                linger();
                let remove = || {
                    let removed = map.remove_if_version(&key, expected);
                    removed
                        .map(|old| old.number())
                        .map_err(|conflict| conflict.current)
                };
                let _ = log.call(0, remove, |removed| match removed {
                    Ok(old) => MapOp::Remove(at, Some(*old)),
                    Err(found) => MapOp::Kept(at, expected.get(), found.map(Version::get)),
                });
            }
            9 | 10 => {
                let mut saw = 0;
                let update = || {
                    let made = map.update(&key, |old| {
                        saw = old.number();
                        linger();
                        value()
                    });
                    made.map(|made| (saw, (made.get(), number)))
                };
                log.call(0, update, |update| MapOp::Update(at, *update));
            }
            11..=13 => {
                let scan = || {
                    snapshot(|view| {
                        let mut seen = [None; KEYS];
                        for (key, value) in view.iter(map) {
                            let before = seen[*key as usize].replace(value.number());
                            assert_eq!(before, None, "a key was visited twice");
                            linger();
                        }
                        seen
                    })
                };
                log.call(0, scan, |seen| MapOp::Scan(*seen));
            }
            14 | 15 => self.batch(keys, lingers, kind),
            16 => {
                if at == other {
                    return;
                }
                let move_value = || {
                    atomically(|tx| {
                        let Some(value) = tx.remove(map, &key)?.map(Value::number) else {
                            return Ok(None);
                        };
                        linger();
                        let to = other as u64;
                        let old = tx.insert(map, to, Value::new(value))?.map(Value::number);
                        let made = tx.entry_version(map, &to)?;
                        Ok(Some((value, made.expect("it is inserted").get(), old)))
                    })
                };
                log.call(0, move_value, |moved| MapOp::Move(keys, *moved));
            }
            17 | 18 => self.lock(at, lingers, other),
            // What a map does for all its threads.
            19 => match other {
                0 => map.reserve(16),
                1 => map.shrink_to_fit(),
                _ => map.flush(),
            },
            _ => {
                let since = map.version(&key);
                let began = stamp();
                let now = map.wait_changed_for(&key, since, self.patience);
                let ended = stamp();
                if let Some(now) = now {
                    let versions = [since, now].map(|version| version.map(Version::get));
                    log.add(
                        0,
                        began,
                        ended,
                        MapOp::Changed(at, versions[0], versions[1]),
                    );
                }
            }
        }
    }

    fn batch(&mut self, keys: [usize; 2], lingers: bool, kind: u8) {
        let map = self.map;
        let version = |key: usize| map.version(&(key as u64));
        let mut items: Vec<Item> = Vec::new();
        let mut batch = map.transact();
        for (n, at) in keys.into_iter().enumerate() {
            if n == 1 && keys[0] == at {
                break;
            }
            let (key, found) = (at as u64, version(at));
            let expected = found.map(Version::get);
            let number = self.next + n as u64;
            let write;
            (batch, write) = match (found, kind % 2 == 0) {
                (None, _) => {
                    let batch = batch.insert_if_absent(key, Value::new(number));
                    (batch, Write::Value(number))
                }
                (Some(found), true) => {
                    let batch = batch.put_if(key, found, Value::new(number));
                    (batch, Write::Value(number))
                }
                (Some(found), false) if n == 0 => (batch.remove_if(key, found), Write::Removal),
                (Some(found), false) => (batch.check(key, found), Write::Nothing),
            };
            items.push((at, expected, write));
        }
        self.next += 1;
        if lingers {
            pause();
        }
        let _ = self.log.call(
            0,
            || batch.commit(),
            |result| {
                let result = match result {
                    Ok(versions) => Ok(versions.iter().map(|v| v.map(Version::get)).collect()),
                    Err(cancelled) => {
                        let reasons = cancelled.reasons.iter().zip(&items);
                        let found = |(reason, item): (&Reason<Value>, &Item)| match reason {
                            Reason::Met => Found::Version(item.1),
                            Reason::Exists => Found::Present,
                            Reason::Absent => Found::Version(None),
                            Reason::VersionIs { current, value, .. } => {
                                value.number();
                                Found::Version(Some(current.get()))
                            }
                            other => panic!("{other:?}"),
                        };
                        Err(reasons.map(found).collect())
                    }
                };
                MapOp::Batch(items.clone(), result)
            },
        );
    }

    /// A lock that is granted and whose draft is committed, or discarded.
    fn lock(&mut self, at: usize, lingers: bool, how: usize) {
        let (map, number, key) = (self.map, self.next, at as u64);
        let began = stamp();
        let mut guard = map.lock(&key);
        let seen = |guard: &latchwork::map::EntryGuard<'_, u64, Value, Place>| {
            let value = guard.get().map(Value::number);
            guard.version().map(Version::get).zip(value)
        };
        let found = seen(&guard);
        if lingers {
            pause();
        }
        assert_eq!(seen(&guard), found, "written under a lock");
        let write = match how % 4 {
            0 => Write::Removal,
            1 => Write::Nothing,
            _ => Write::Value(number),
        };
        match write {
            Write::Value(number) => guard.set(Value::new(number)),
            Write::Removal => drop(guard.remove()),
            Write::Nothing => {}
        }
        let made = guard.commit();
        let op = MapOp::Locked(at, found, write, made.map(Version::get));
        self.log.add(0, began, stamp(), op);
    }
}

/// How many calls the logs have, and how many of them were conditional writes that were refused.
///
/// # Panics
/// If the calls have no order.
pub fn judge(logs: Vec<Log<MapOp>>) -> (usize, usize) {
    let calls = by_object(logs, 1).pop().expect("there is one map");
    let is_refused = |op: &MapOp| {
        matches!(
            op,
            MapOp::CompareAndSet(.., Err(_)) | MapOp::Kept(..) | MapOp::Batch(_, Err(_))
        )
    };
    let refused = calls.iter().filter(|call| is_refused(&call.op)).count();
    if let Err(wrong) = linearise(Keys::default(), &calls) {
        panic!("{wrong}");
    }
    (calls.len(), refused)
}
