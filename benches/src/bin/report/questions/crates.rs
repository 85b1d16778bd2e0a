//! What does an uncontended lock by key cost beside other crates?

use std::fmt::Debug;
use std::hash::Hash;

use latchwork::LockTable;
use latchwork_bench::peers::{Dash, Exclusive, KeyLock, Keyed, Lockmap, Pool, TryPool};
use latchwork_bench::ratio::{Comparison, Plan, compare};
use latchwork_bench::workload::{KEYS, distinct_keys, text_keys};

use super::Question;
use super::uncontended::over;
use crate::row::Row;

pub(super) const QUESTION: Question = Question {
    name: "crates",
    title: "Other crates that lock by key",
    prose: "One thread locks and unlocks free keys exclusively, by the fastest call of each crate: `LockMap::entry` \
            of an absent key, `sync::KeyedLock::lock`, and both suitable calls of `lockable`'s `LockPool`. String \
            keys are `&'static str` in the maps of the peers, so that no peer copies a string, as it must for keys of \
            a shorter life. `dashmap` (an entry inserted, held, removed) locks a whole shard of its map and is no \
            lock by key.",
    measure,
};

fn measure(plan: Plan) -> Vec<Row> {
    let one = [distinct_keys(1, 1)[0]; 64];
    let many = distinct_keys(KEYS, 2);
    let numbers = || Exclusive(LockTable::<u64>::new());
    let text = || Exclusive(LockTable::<str>::new());
    let mut rows = Vec::new();
    rows.extend(beside_all(plan, "u64, one key", &one, numbers));
    rows.extend(beside_all(plan, "u64, 4,096 keys", &many, numbers));
    rows.extend(beside_all(plan, "&str, 4,096 keys", text_keys(), text));
    rows
}

fn beside_all<K, L>(plan: Plan, name: &str, keys: &[K], table: impl Fn() -> L) -> [Row; 5]
where
    K: Copy + Eq + Hash + Debug + Send + Sync,
    L: KeyLock<K>,
{
    let lockmap = against(plan, keys, &table, Lockmap::new);
    let keyed = against(plan, keys, &table, Keyed::new);
    let pool = against(plan, keys, &table, Pool::new);
    let tried = against(plan, keys, &table, TryPool::new);
    let dash = against(plan, keys, &table, Dash::new);
    [
        Row::time(name, "lockmap", &lockmap).at_most(0.30),
        Row::time(name, "keyed-lock", &keyed).at_most(0.15),
        Row::time(name, "lockable, `blocking_lock`", &pool).at_most(0.15),
        Row::time(name, "lockable, `try_lock`", &tried).at_most(0.15),
        Row::time(name, "dashmap", &dash),
    ]
}

fn against<K: Copy, A: KeyLock<K>, B: KeyLock<K>>(
    plan: Plan,
    keys: &[K],
    subject: impl Fn() -> A,
    baseline: impl Fn() -> B,
) -> Comparison {
    compare(plan, || {
        (over(plan, keys, subject()), over(plan, keys, baseline()))
    })
}
