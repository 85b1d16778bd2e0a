//! Locks by key: several threads add to counters that nothing else protects.

use std::sync::Arc;

use latchwork::{Fairness, LockTable, RandomState};

use super::{Axis, Contender, Load, Scenario, Setting, busy};
use crate::peers::{
    Dash, Exclusive, KeyLock, Keyed, Lockmap, OneFairMutex, OneMutex, OneStdMutex, OneTokioMutex,
    PaddedMutexes, PaddedStdMutexes, Pool, STRIPES, Scc,
};
use crate::workload::{Counters, Rng, increment, spread_keys};

const SET: &str = "locks";
const OURS: &str = "LockTable";
const FIFO: &str = "LockTable, Fifo";
const PADDED: &str = "parking_lot, each key";
const STD: &str = "std, each key";
const ONE: &str = "parking_lot, one for all";
const ONE_STD: &str = "std, one for all";
const STRIPED: &str = "parking_lot, 64 for all";

const ARRAY: &str =
    "weaker: an array made for these keys, and each key has a mutex of its own by luck of its hash";
const SHARDS: &str = "weaker: locks a part of its map, with other keys in it";
const KEYS: &str = "stronger: compares keys and not their hashes; weaker: no shared mode";
const GLOBAL: &str = "weaker: keys exclude each other";
const STRIPE: &str = "weaker: keys of one stripe exclude each other";

/// How long each key is held, in addition to the time of one addition.
type Hold = fn(Setting) -> u32;

fn at_once(_: Setting) -> u32 {
    0
}

/// A load that locks a random one of `N` keys, which differ in the low bits of their hashes.
fn locked<const N: usize, L: KeyLock<u64> + Send + 'static>(
    hold: Hold,
    make: impl Fn(&RandomState) -> L + 'static,
) -> impl Fn(Setting) -> Load + 'static {
    move |setting| {
        let hasher = RandomState::default();
        let (locks, keys) = (make(&hasher), spread_keys(N, &hasher));
        let counters = Arc::new(Counters::new(N));
        let counted = counters.clone();
        Load::new(
            move |index, stop, times| {
                let mut rng = Rng::new(setting.seed_of(index));
                super::until(&[()], stop, times, |()| {
                    increment(&locks, &keys, &counters, &mut rng, || busy(hold(setting)));
                })
            },
            move |done| assert_eq!(counted.sum(), done, "two threads were inside at once"),
        )
    }
}

fn table(fairness: Fairness) -> impl Fn(&RandomState) -> Exclusive<LockTable<u64>> {
    move |hasher| {
        let builder = LockTable::builder().hasher(hasher.clone());
        Exclusive(builder.fairness(fairness).build())
    }
}

/// All that lock by key, or nearly.
fn by_key<const N: usize>(hold: Hold) -> Vec<Contender> {
    let padded = |hasher: &RandomState| PaddedMutexes::<N>::new(hasher.clone());
    let std = |hasher: &RandomState| PaddedStdMutexes::<N>::new(hasher.clone());
    let striped = |hasher: &RandomState| PaddedMutexes::<STRIPES>::new(hasher.clone());
    let mut all = vec![
        Contender::ours(OURS, locked::<N, _>(hold, table(Fairness::Eventual))),
        Contender::ours(FIFO, locked::<N, _>(hold, table(Fairness::Fifo))),
        Contender::peer(PADDED, ARRAY, locked::<N, _>(hold, padded)),
        Contender::peer(STD, ARRAY, locked::<N, _>(hold, std)),
        Contender::peer(ONE, GLOBAL, locked::<N, _>(hold, |_| OneMutex::default())),
        Contender::peer(
            ONE_STD,
            GLOBAL,
            locked::<N, _>(hold, |_| OneStdMutex::default()),
        ),
        Contender::peer("lockmap", KEYS, locked::<N, _>(hold, |_| Lockmap::new())),
        Contender::peer("keyed-lock", KEYS, locked::<N, _>(hold, |_| Keyed::new())),
        Contender::peer("lockable", KEYS, locked::<N, _>(hold, |_| Pool::new())),
        Contender::peer("dashmap", SHARDS, locked::<N, _>(hold, |_| Dash::new())),
        Contender::peer("scc", SHARDS, locked::<N, _>(hold, |_| Scc::new())),
    ];
    // Fewer keys than stripes have one each.
    if N > STRIPES {
        let striped = locked::<N, _>(hold, striped);
        all.push(Contender::peer(STRIPED, STRIPE, striped));
    }
    all
}

/// A question about `N` keys, each held for longer and longer.
fn held<const N: usize>(name: &'static str, title: &'static str, prose: &'static str) -> Scenario {
    Scenario {
        name,
        set: SET,
        title,
        prose,
        axis: Axis::Value {
            label: "passes of an empty loop under the lock",
            values: &[0.0, 100.0, 1_000.0, 10_000.0],
            per_core: 2,
        },
        every: 16,
        contenders: by_key::<N>(|setting| setting.value as u32),
        pessimist: None,
    }
}

fn one_key() -> Vec<Contender> {
    let barging =
        "weaker: hands itself over now and then, with no bound on how often a waiter is overtaken";
    let fair = "first come, first served, as Fifo is";
    let unfair = "weaker: a waiter may be overtaken without bound";
    vec![
        Contender::ours(OURS, locked::<1, _>(at_once, table(Fairness::Eventual))),
        Contender::ours(FIFO, locked::<1, _>(at_once, table(Fairness::Fifo))),
        Contender::peer(
            "parking_lot Mutex",
            barging,
            locked::<1, _>(at_once, |_| OneMutex::default()),
        ),
        Contender::peer(
            "parking_lot FairMutex",
            fair,
            locked::<1, _>(at_once, |_| OneFairMutex::default()),
        ),
        Contender::peer(
            "std Mutex",
            unfair,
            locked::<1, _>(at_once, |_| OneStdMutex::default()),
        ),
        Contender::peer(
            "tokio Mutex",
            fair,
            locked::<1, _>(at_once, |_| OneTokioMutex::default()),
        ),
    ]
}

pub(super) fn all() -> Vec<Scenario> {
    let question = |name, title, prose, axis, every, contenders| Scenario {
        name,
        set: SET,
        title,
        prose,
        axis,
        every,
        contenders,
        pessimist: None,
    };
    vec![
        question(
            "spread",
            "How fast are locks by key if threads seldom request the same key?",
            "Each thread locks a random one of 4,096 keys and adds one to its counter.",
            Axis::Threads,
            16,
            by_key::<4096>(at_once),
        ),
        question(
            "contended",
            "How fast are locks by key if all threads request the same 16 keys?",
            "Each thread locks a random one of 16 keys and adds one to its counter.",
            Axis::Threads,
            16,
            by_key::<16>(at_once),
        ),
        held::<1>(
            "hold-1",
            "What does one hot key cost, the longer it is held?",
            "Two threads for each core lock the same key, add one to its counter, and have more and more to do before they \
             unlock it: a thousand passes take about a third of a microsecond. No lock by key can do better here than one \
             lock.",
        ),
        held::<16>(
            "hold-16",
            "What do 16 hot keys cost, the longer they are held?",
            "Two threads for each core lock a random one of 16 keys, add one to its counter, and have more and more to do before \
             they unlock it: a thousand passes take about a third of a microsecond.",
        ),
        held::<4096>(
            "hold-4096",
            "When is one lock for all keys no longer enough?",
            "Two threads for each core lock a random one of 4,096 keys, add one to its counter, and have more and more to do \
             before they unlock it: a thousand passes take about a third of a microsecond. The longer it is held, the more one \
             lock for all keys costs.",
        ),
        question(
            "hand-off",
            "Fair or fast: which thread gets a hot key next?",
            "All threads want one key, add one to its counter and come back at once. Every wait is timed, which is part \
             of the price of each operation here. Who hands the lock over to whoever waited longest pays a context \
             switch for it; who lets threads barge in has the throughput and the long waits.",
            Axis::Threads,
            1,
            one_key(),
        ),
    ]
}
