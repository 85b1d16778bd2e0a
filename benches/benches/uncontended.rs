//! One thread locks and unlocks keys that no other thread holds: the table, its floor, and other
//! crates.

mod alone;
mod settings;

use criterion::Criterion;
use latchwork::{LockTable, RandomState};
use latchwork_bench::peers::{
    Dash, Exclusive, KeyLock, Keyed, Lockmap, OneMutex, OneStdMutex, PaddedMutexes, PaddedRwLocks,
    PaddedStdMutexes, PaddedStdRwLocks, Pool, Scc, Shared, TryPool,
};
use latchwork_bench::workload::{KEYS, distinct_keys, each_key, text_keys};

/// Locks one of `keys` after the other.
fn over<K: Copy>(locks: impl KeyLock<K>, keys: &[K]) -> impl Fn(u64) {
    move |times| each_key(&locks, keys, times)
}

fn numbers(criterion: &mut Criterion, name: &str, keys: &[u64]) {
    let table = LockTable::<u64>::new;
    let hasher = RandomState::default;
    let mutexes = PaddedMutexes::<KEYS>::new(hasher());
    let std_mutexes = PaddedStdMutexes::<KEYS>::new(hasher());
    let rwlocks = PaddedRwLocks::<KEYS>::new(hasher());
    let std_rwlocks = PaddedStdRwLocks::<KEYS>::new(hasher());
    alone::ask(
        criterion,
        name,
        &[
            ("exclusive", &over(Exclusive(table()), keys)),
            ("shared", &over(Shared(table()), keys)),
            ("padded mutexes", &over(mutexes, keys)),
            ("padded std mutexes", &over(std_mutexes, keys)),
            ("padded rwlocks, read", &over(rwlocks, keys)),
            ("padded std rwlocks, read", &over(std_rwlocks, keys)),
            ("one mutex", &over(OneMutex::default(), keys)),
            ("one std mutex", &over(OneStdMutex::default(), keys)),
            ("lockmap", &over(Lockmap::new(), keys)),
            ("keyed-lock", &over(Keyed::new(), keys)),
            ("lockable", &over(Pool::new(), keys)),
            ("lockable, try_lock", &over(TryPool::new(), keys)),
            ("dashmap", &over(Dash::new(), keys)),
            ("scc", &over(Scc::new(), keys)),
        ],
    );
}

fn text(criterion: &mut Criterion) {
    let keys = text_keys();
    let mutexes = PaddedMutexes::<KEYS>::new(RandomState::default());
    alone::ask(
        criterion,
        "uncontended: &str, 4096 keys",
        &[
            ("exclusive", &over(Exclusive(LockTable::<str>::new()), keys)),
            ("padded mutexes", &over(mutexes, keys)),
            ("lockmap", &over(Lockmap::new(), keys)),
            ("keyed-lock", &over(Keyed::new(), keys)),
            ("lockable", &over(Pool::new(), keys)),
        ],
    );
}

fn main() {
    let mut criterion = settings::criterion();
    let one = [distinct_keys(1, 1)[0]; 64];
    numbers(&mut criterion, "uncontended: u64, one key", &one);
    let many = distinct_keys(KEYS, 2);
    numbers(&mut criterion, "uncontended: u64, 4096 keys", &many);
    text(&mut criterion);
    criterion.final_summary();
}
