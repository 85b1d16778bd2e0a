//! One thread locks three keys together: the table, its floor, and a crate that locks sets of keys.

mod alone;
mod settings;

use latchwork::{LockTable, RandomState};
use latchwork_bench::peers::{Exclusive, HoldThree, Lockmap, PaddedMutexes, TryAll, TryThree};
use latchwork_bench::workload::{KEYS, distinct_triples, each_triple};

fn main() {
    let mut criterion = settings::criterion();
    let triples = &distinct_triples(KEYS, 3);
    let mutexes = || PaddedMutexes::<KEYS>::new(RandomState::default());
    alone::ask(
        &mut criterion,
        "three of 4096 keys",
        &[
            ("lock_all", &of(Exclusive(LockTable::new()), triples)),
            ("try_lock_all", &of(TryAll(LockTable::new()), triples)),
            ("padded mutexes, sorted", &of(mutexes(), triples)),
            (
                "padded mutexes, sorted, tried",
                &of(TryThree(mutexes()), triples),
            ),
            ("lockmap, batch_lock", &of(Lockmap::new(), triples)),
        ],
    );
    criterion.final_summary();
}

fn of<L: HoldThree>(locks: L, triples: &[[u64; 3]]) -> impl Fn(u64) {
    move |times| each_triple(&locks, triples, times)
}
