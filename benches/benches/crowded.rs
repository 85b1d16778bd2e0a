//! One thread locks and unlocks one more key beside many that are held.

mod alone;
mod settings;

use latchwork::LockTable;
use latchwork_bench::peers::{Exclusive, KeyLock, Keyed, Lockmap, Pool};
use latchwork_bench::workload::{distinct_keys, each_key};

fn main() {
    let mut criterion = settings::criterion();
    let keys = distinct_keys(1_000_000, 21);
    let others = distinct_keys(64, 22);
    fn over(locks: &impl KeyLock<u64>, keys: &[u64]) -> impl Fn(u64) {
        move |times| each_key(locks, keys, times)
    }
    for held in [0, 1_000, 1_000_000] {
        let keys = &keys[..held];
        let plain = &LockTable::<u64>::new();
        let told = &LockTable::builder().expected_locks(held).build();
        let (lockmap, keyed, pool) = (&Lockmap::new(), &Keyed::new(), &Pool::new());
        let ours = [plain, told].map(|table| keys.iter().map(|key| table.lock(key)).collect());
        let ours: [Vec<_>; 2] = ours;
        let entries: Vec<_> = keys.iter().map(|&key| lockmap.0.entry(key)).collect();
        let locked: Vec<_> = keys.iter().map(|&key| keyed.0.lock(key)).collect();
        let pooled: Vec<_> = keys.iter().map(|&key| pool.0.try_lock(key)).collect();
        alone::ask(
            &mut criterion,
            &format!("another key beside {held} held ones"),
            &[
                ("LockTable", &over(&Exclusive(plain), &others)),
                (
                    "LockTable, concurrency told",
                    &over(&Exclusive(told), &others),
                ),
                ("lockmap", &over(lockmap, &others)),
                ("keyed-lock", &over(keyed, &others)),
                ("lockable", &over(pool, &others)),
            ],
        );
        drop((ours, entries, locked, pooled));
    }
    criterion.final_summary();
}
