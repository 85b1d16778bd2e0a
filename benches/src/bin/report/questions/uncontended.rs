//! What does an uncontended lock by key cost beside a bare mutex?

use std::hash::Hash;

use latchwork::{LockTable, RandomState};
use latchwork_bench::peers::{Exclusive, KeyLock, PaddedMutexes, PaddedRwLocks, Shared};
use latchwork_bench::ratio::{Comparison, Contender, Plan, compare, timed};
use latchwork_bench::workload::{KEYS, distinct_keys, each_key, text_keys};

use super::Question;
use crate::row::Row;

pub(super) const QUESTION: Question = Question {
    name: "uncontended",
    title: "An uncontended lock and unlock",
    prose: "One thread, and no other lock is held. The baseline is an array of 4,096 `parking_lot` mutexes, each on a \
            cache line of its own, indexed by the same low bits of the same hash: the least cost of a lock by key, \
            and not exact, because two keys of one index share a mutex. Over 4,096 keys the padding of the array (512 \
            KiB against the 32 KiB of the table's root) causes cache misses that the table does not have. With one \
            key repeated it has no such effect.",
    measure,
};

fn measure(plan: Plan) -> Vec<Row> {
    let one = [distinct_keys(1, 1)[0]; 64];
    let many = distinct_keys(KEYS, 2);
    let one_text = [text_keys()[0]; 64];
    let mut rows = Vec::new();
    for (name, keys) in [("u64, one key", &one[..]), ("u64, 4,096 keys", &many[..])] {
        let exclusive = |hasher| Exclusive(LockTable::<u64>::with_hasher(hasher));
        let shared = |hasher| Shared(LockTable::<u64>::with_hasher(hasher));
        rows.extend(row_pair(plan, name, keys, exclusive, shared));
    }
    for (name, keys) in [
        ("&str, one key", &one_text[..]),
        ("&str, 4,096 keys", text_keys()),
    ] {
        let exclusive = |hasher| Exclusive(LockTable::<str>::with_hasher(hasher));
        let shared = |hasher| Shared(LockTable::<str>::with_hasher(hasher));
        rows.extend(row_pair(plan, name, keys, exclusive, shared));
    }
    rows
}

/// Exclusive and shared against a mutex, and shared against a reader-writer lock for information.
fn row_pair<K, E, S>(
    plan: Plan,
    name: &str,
    keys: &[K],
    exclusive: impl Fn(RandomState) -> E,
    shared: impl Fn(RandomState) -> S,
) -> [Row; 3]
where
    K: Copy + Hash,
    E: KeyLock<K>,
    S: KeyLock<K>,
{
    let mutexes = PaddedMutexes::<KEYS>::new;
    let against_mutex = against(plan, keys, exclusive, mutexes);
    let shared_against_mutex = against(plan, keys, &shared, mutexes);
    let shared_against_rwlock = against(plan, keys, &shared, PaddedRwLocks::<KEYS>::new);
    [
        Row::time(
            &format!("exclusive, {name}"),
            "padded `Mutex`",
            &against_mutex,
        )
        .at_most(1.05),
        Row::time(
            &format!("shared, {name}"),
            "padded `Mutex`",
            &shared_against_mutex,
        )
        .at_most(1.05),
        Row::time(
            &format!("shared, {name}"),
            "padded `RwLock`, read",
            &shared_against_rwlock,
        ),
    ]
}

/// Compares two ways to lock `keys` in order, both built with one hasher.
fn against<K: Copy, A: KeyLock<K>, B: KeyLock<K>>(
    plan: Plan,
    keys: &[K],
    subject: impl Fn(RandomState) -> A,
    baseline: impl Fn(RandomState) -> B,
) -> Comparison {
    compare(plan, || {
        let hasher = RandomState::default();
        let (subject, baseline) = (subject(hasher.clone()), baseline(hasher));
        (over(plan, keys, subject), over(plan, keys, baseline))
    })
}

/// A contender that locks `keys` in order.
pub(super) fn over<'a, K: Copy, L: KeyLock<K> + 'a>(
    plan: Plan,
    keys: &'a [K],
    locks: L,
) -> Contender<'a> {
    timed(plan.span, move |times| each_key(&locks, keys, times))
}
