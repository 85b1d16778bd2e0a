//! A map against a reference that keeps all states that the map ever had. One thread: each call has
//! one right outcome, or a few. Destructors use keys of their own, the *side* keys, at any time.

mod batches;
mod calls;
mod locks;
mod scans;
pub(crate) mod threads;
mod txns;
mod value;
mod waits;

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::slice::Iter;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use latchwork::cell::{OwnedVersioned, Version};
use latchwork::{VersionedCell, VersionedMap};

use crate::common::hashers::Place;
use crate::input;
use locks::{Holder, Waiting};
use value::{Behavior, End, Key, Live, Map, Value};

/// The keys of the calls.
const KEYS: u64 = 24;
/// The keys of destructors.
const SIDE_KEYS: std::ops::Range<u64> = 100..104;
/// Most calls of one input, those inside others and repeated ones included.
const MOST_CALLS: u32 = 400;
/// How deep calls lie within each other.
const MOST_NESTED: usize = 5;
/// Most owned values at a time.
const MOST_KEPT: usize = 20;

/// How often the calls of some inputs came to what.
#[derive(Clone, Copy, Debug, Default)]
pub struct MapTally {
    /// Writes of keys.
    pub written: u64,
    /// Conditional writes that were refused, and batches that were cancelled.
    pub refused: u64,
    /// Locks that were granted.
    pub locked: u64,
    /// Drafts that were committed.
    pub drafts: u64,
    /// Futures that were pending.
    pub pending: u64,
    /// Transactions and batches that wrote and committed.
    pub committed: u64,
    /// Attempts of transactions that were lost.
    pub lost: u64,
    /// Values that a view or a walk has shown after they had been replaced.
    pub past: u64,
    /// Panics of hashers, comparisons and closures.
    pub panics: u64,
    /// Calls of destructors that wrote side keys.
    pub side: u64,
    /// Walks beside which the map has grown.
    pub grown: u64,
}

impl MapTally {
    /// Adds those of another input.
    pub fn add(&mut self, other: Self) {
        self.written += other.written;
        self.refused += other.refused;
        self.locked += other.locked;
        self.drafts += other.drafts;
        self.pending += other.pending;
        self.committed += other.committed;
        self.lost += other.lost;
        self.past += other.past;
        self.panics += other.panics;
        self.side += other.side;
        self.grown += other.grown;
    }

    /// The smallest of all.
    pub fn least(&self) -> u64 {
        let all = [
            self.written,
            self.refused,
            self.locked,
            self.drafts,
            self.pending,
            self.committed,
            self.lost,
            self.past,
            self.panics,
            self.side,
            self.grown,
        ];
        all.into_iter().min().expect("there are some")
    }
}

/// What a key panics with, and a closure.
struct Planned;

/// The number and the version of a value.
type Seen = (u64, Version);

/// What was there at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    keys: BTreeMap<u64, Seen>,
    /// The cell beside the map.
    cell: u64,
}

/// Two bytes: what to do and with what.
type Op = [u8; 2];
type Ops<'o> = Iter<'o, Op>;

struct World<'m> {
    map: &'m Arc<Map>,
    cell: &'m VersionedCell<u64>,
    live: &'m Live,
    place: Place,
    /// All states, oldest first.
    states: Vec<State>,
    /// The greatest version that a key ever had, and how often it was written.
    versions: BTreeMap<u64, (Version, u64)>,
    /// The last number of a value. No two have the same.
    number: u64,
    kept: Vec<(Seen, OwnedVersioned<Value>)>,
    holders: Vec<Holder<'m>>,
    waiting: Vec<Waiting<'m>>,
    /// Keys whose guards were forgotten.
    forgotten: Vec<u64>,
    /// Commits that may have written that a key is absent which was absent before.
    vacant_writes: u64,
    /// A transaction runs, which would wait for each lock that outlives its closure.
    transacts: bool,
    calls: u32,
    tally: MapTally,
}

fn key_of(byte: u8) -> u64 {
    let key = u64::from(byte % 64);
    // The first few more often.
    if key < KEYS { key } else { key % 6 }
}

fn after(version: Version, n: u64) -> Version {
    Version::new(version.get().wrapping_add(n))
}

/// Runs the calls that `data` stands for.
pub(crate) fn run(data: &[u8]) -> MapTally {
    let mut bytes = arbitrary::Unstructured::new(data);
    let place = input::place(&mut bytes).unwrap_or(Place::Identity);
    let capacity = bytes.arbitrary::<u8>().unwrap_or(0);
    let ops: Vec<Op> = bytes
        .take_rest()
        .chunks_exact(2)
        .map(|op| [op[0], op[1]])
        .collect();
    let live = Live::default();
    let map: Arc<Map> = Arc::new(VersionedMap::with_capacity_and_hasher(
        usize::from(capacity % 128),
        place,
    ));
    let cell = VersionedCell::new(0);
    let (state, kept, tally) = {
        let mut world = World {
            map: &map,
            cell: &cell,
            live: &live,
            place,
            states: vec![State {
                keys: BTreeMap::new(),
                cell: 0,
            }],
            versions: BTreeMap::new(),
            number: 0,
            kept: Vec::new(),
            holders: Vec::new(),
            waiting: Vec::new(),
            forgotten: Vec::new(),
            vacant_writes: 0,
            transacts: false,
            calls: 0,
            tally: MapTally::default(),
        };
        let mut ops = ops.iter();
        while let Some(&op) = ops.next() {
            world.step(op, &mut ops, 0);
            world.check();
        }
        world.waiting.clear();
        world.holders.clear();
        world.check();
        (
            world.now().clone(),
            core::mem::take(&mut world.kept),
            world.tally,
        )
    };
    end(map, capacity, &state, &kept);
    drop(kept);
    latchwork::flush();
    assert_eq!(live.load(Relaxed), 0, "keys or values were not dropped");
    tally
}

/// The end of a map: it is dropped, or all its entries are moved out, or some.
fn end(map: Arc<Map>, how: u8, state: &State, kept: &[(Seen, OwnedVersioned<Value>)]) {
    let Ok(map) = Arc::try_unwrap(map) else {
        panic!("the destructor of a value has kept the map");
    };
    if how >= 192 {
        return drop(map);
    }
    let most = if how < 96 {
        usize::MAX
    } else {
        usize::from(how - 96)
    };
    let mut left = state.keys.clone();
    for (key, value) in map.into_iter().take(most) {
        if SIDE_KEYS.contains(&key.number) {
            continue;
        }
        let seen = left.remove(&key.number).expect("present, and visited once");
        let is_shared = kept.iter().any(|(other, _)| *other == seen);
        match value {
            Ok(value) => assert_eq!((value.number, is_shared), (seen.0, false)),
            Err(owned) => {
                assert_eq!(
                    (owned.number, owned.version(), is_shared),
                    (seen.0, seen.1, true)
                );
            }
        }
    }
    assert!(
        left.is_empty() || most < usize::MAX,
        "not visited: {left:?}"
    );
}

impl<'m> World<'m> {
    fn now(&self) -> &State {
        self.states.last().expect("there is a first one")
    }

    fn seen(&self, key: u64) -> Option<Seen> {
        self.now().keys.get(&key).copied()
    }

    fn version(&self, key: u64) -> Option<Version> {
        self.seen(key).map(|(_, version)| version)
    }

    fn key(&self, number: u64) -> Key {
        Key::new(number, Behavior::Usual, self.live)
    }

    /// A value with a number of its own. Some use the map when they are dropped.
    fn value(&mut self, byte: u8) -> Value {
        self.number += 1;
        let end = End::of(byte);
        if matches!(
            end,
            End::Insert | End::Remove | End::TryLock | End::Transaction
        ) {
            self.tally.side += 1;
        }
        Value::new(self.number, end, self.map, self.live)
    }

    /// The map has written a key, which has this version now.
    fn note(&mut self, state: &mut State, key: u64, number: u64, version: Version) {
        let (last, writes) = self.versions.entry(key).or_insert((Version::FIRST, 0));
        match state.keys.insert(key, (number, version)) {
            Some((_, before)) => assert_eq!(version, after(before, 1), "each write adds one"),
            None => assert!(
                version > *last || *writes == 0,
                "key {key}: {version} after {last}"
            ),
        }
        *last = version;
        *writes += 1;
        self.tally.written += 1;
    }

    /// The map has removed a key, which had a value.
    fn note_removal(&mut self, state: &mut State, key: u64) {
        let (_, version) = state.keys.remove(&key).expect("it had a value");
        let (last, writes) = self.versions.get_mut(&key).expect("it was written");
        // The removal has a version of its own.
        *last = after(version, 1);
        *writes += 1;
        self.tally.written += 1;
    }

    fn wrote(&mut self, key: u64, number: u64, version: Version) {
        let mut state = self.now().clone();
        self.note(&mut state, key, number, version);
        self.states.push(state);
    }

    fn removed(&mut self, key: u64) {
        let mut state = self.now().clone();
        self.note_removal(&mut state, key);
        self.states.push(state);
    }

    /// How often a key was written so far.
    fn writes(&self, key: u64) -> u64 {
        self.versions.get(&key).map_or(0, |(_, writes)| *writes)
    }

    /// The map has what the reference has.
    fn check(&mut self) {
        for key in 0..KEYS {
            let got = self.map.get(&self.key(key));
            let got = got.map(|value| (value.number, value.version()));
            assert_eq!(got, self.seen(key), "key {key}");
        }
        assert_eq!(*self.cell.read(), self.now().cell);
        let side = SIDE_KEYS.filter(|key| self.map.contains_key(&self.key(*key)));
        assert_eq!(self.map.len(), self.now().keys.len() + side.count());
    }

    /// Frees all that no thread can observe. Outside of other calls, no more is left than the map
    /// has, and what the caller keeps.
    fn flush(&mut self, depth: usize) {
        self.map.flush();
        if depth > 0 || !self.holders.is_empty() || !self.waiting.is_empty() {
            return;
        }
        // Destructors make garbage, but no value that they make does.
        for _ in 0..3 {
            self.map.flush();
        }
        let stats = self.map.stats();
        // A key whose guard was forgotten has an entry.
        let idle = self
            .forgotten
            .iter()
            .filter(|key| self.seen(**key).is_none());
        assert_eq!(
            (stats.entries, stats.len),
            (stats.len + idle.count(), self.map.len())
        );
        let kept = |seen: &Seen| self.now().keys.values().any(|other| other == seen);
        let mut only_kept: Vec<Seen> = self.kept.iter().map(|(seen, _)| *seen).collect();
        only_kept.retain(|seen| !kept(seen));
        only_kept.sort_unstable();
        only_kept.dedup();
        // Each entry has a key, and a value if it has one.
        let expected = stats.entries + stats.len + only_kept.len();
        assert_eq!(
            self.live.load(Relaxed),
            expected,
            "what nothing can observe is left"
        );
    }

    /// Runs a few of the next calls.
    fn some_more(&mut self, many: u8, ops: &mut Ops<'_>, depth: usize) {
        if depth == MOST_NESTED {
            return;
        }
        for _ in 0..many % 12 {
            let Some(&op) = ops.next() else { return };
            self.step(op, ops, depth + 1);
        }
    }

    /// So many of the next calls, which are not run yet.
    fn later(many: u8, ops: &mut Ops<'_>) -> Vec<Op> {
        ops.by_ref().take(usize::from(many % 12)).copied().collect()
    }

    fn step(&mut self, [kind, with]: Op, ops: &mut Ops<'_>, depth: usize) {
        self.calls += 1;
        if self.calls > MOST_CALLS {
            return;
        }
        let key = key_of(with);
        match kind % 64 {
            9 => self.flush(depth),
            0..=27 => self.call(kind, key, ops, depth),
            28..=33 => self.scan(kind, with, ops, depth),
            34..=36 => self.wait(kind, key, ops, depth),
            37..=45 if self.transacts => {}
            37..=45 => self.lock(kind, with),
            46..=49 => self.draft(kind, with),
            50..=52 => self.unlock(kind, with),
            53..=57 => self.transaction(kind, with, ops, depth),
            58..=61 => self.batch(kind, with, ops),
            _ => self.panic_in(kind >> 6, key),
        }
    }

    /// Runs a call that panics as planned.
    fn planned<R>(&mut self, f: impl FnOnce(&mut Self) -> R) {
        self.tally.panics += 1;
        let result = catch_unwind(AssertUnwindSafe(|| f(self)));
        let payload: Box<dyn Any + Send> = result.err().expect("it panics");
        if !payload.is::<Planned>() {
            resume_unwind(payload);
        }
    }

    /// Panics of the hasher, a comparison, and closures: they change nothing.
    fn panic_in(&mut self, how: u8, key: u64) {
        let map: &'m Map = self.map;
        let behavior = match how {
            0 => Behavior::HashPanics,
            // Nothing is compared with an absent key.
            1 if self.seen(key).is_some() => Behavior::EqPanics,
            2 if self.seen(key).is_some() && !self.is_locked(key) => {
                return self.planned(|world| {
                    let key = world.key(key);
                    map.update(&key, |_| resume_unwind(Box::new(Planned)))
                });
            }
            3 if self.holders.is_empty() && self.forgotten.is_empty() => {
                let mut visited = Vec::new();
                let value = self.seen(key);
                let removed = &mut visited;
                let mut retain = move || {
                    map.retain(|other, _| {
                        if other.number == key {
                            resume_unwind(Box::new(Planned));
                        }
                        removed.push(other.number);
                        other.number >= KEYS
                    });
                };
                match value {
                    Some(_) => self.planned(|_| retain()),
                    None => retain(),
                }
                for removed in visited.into_iter().filter(|key| *key < KEYS) {
                    self.removed(removed);
                }
                return;
            }
            _ => return,
        };
        let key = || Key::new(key, behavior, self.live);
        let (first, second) = (key(), key());
        let value = self.value(0);
        self.planned(|_| drop(map.insert(first, value)));
        self.planned(|_| drop(map.get(&second)));
    }
}
