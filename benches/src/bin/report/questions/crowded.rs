//! What do a million held locks cost, in bytes and for a thread that locks one more?

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use latchwork::{LockTable, RandomState, table::ExclusiveGuard};
use latchwork_bench::heap::growth;
use latchwork_bench::held::{self, hold_all};
use latchwork_bench::peers::{Exclusive, KeyLock, Lockmap};
use latchwork_bench::ratio::{Comparison, Contender, Plan, compare, timed};
use latchwork_bench::workload::{KEYS, distinct_keys, each_key};

use super::Question;
use crate::row::Row;

pub(super) const QUESTION: Question = Question {
    name: "crowded",
    title: "A million locks held",
    prose: "One thread holds 1,000,000 random keys, and locks and unlocks another one. *Repeated* is one key again \
            and again in each run, and a new key for each run: its path through the index is in the cache. *In turn* \
            visits 4,096 other keys, each of which is on a page of its own. *Random* visits a million other keys, and \
            most of the time is cache misses. The baseline of both is an empty table of default size under the same \
            keys. `expected_locks(1_000_000)` sizes the root for these keys, and allocates its memory in advance. \
            Heap bytes are those that were requested from the allocator and not freed. They include garbage that \
            awaits reclamation, and exclude the guards, the overhead of the allocator, and roots to which the table has \
            grown, which the system maps. The index bytes include them.",
    measure,
};

const HELD: usize = 1_000_000;

fn measure(plan: Plan) -> Vec<Row> {
    let held = distinct_keys(HELD, 21);
    let others = distinct_keys(HELD, 22);
    let mut rows = Vec::new();
    for (name, concurrency) in [
        ("default", None),
        ("`expected_locks(1_000_000)`", Some(HELD)),
    ] {
        let hasher = RandomState::default();
        let builder = LockTable::<u64>::builder().hasher(hasher.clone());
        let ((table, root), root_heap) = growth(|| {
            let table = match concurrency {
                Some(expected) => builder.expected_locks(expected).build(),
                None => builder.build(),
            };
            let root = table.stats().index_bytes;
            (table, root)
        });
        let start = Instant::now();
        let (guards, heap) = hold_all(&held, |key| table.lock(key));
        let each = start.elapsed().as_secs_f64() * 1e9 / HELD as f64;
        let index = table.stats().index_bytes;
        // The root counts where it was made for the occasion.
        let (root, root_heap) = if concurrency.is_some() {
            (0, root_heap)
        } else {
            (root, 0)
        };
        rows.push(
            Row::exact_bytes(
                &format!("{name}: index bytes for each lock"),
                per_lock(index - root),
            )
            .at_most(64.0)
            .with_context(format!("first lock of each: {each:.0} ns")),
        );
        let heap = (heap + root_heap).max(0) as usize;
        rows.push(Row::exact_bytes(
            &format!("{name}: heap bytes for each lock"),
            per_lock(heap),
        ));
        let empty = LockTable::with_hasher(hasher);
        let repeated = another(plan, &others, &Exclusive(&table), &Exclusive(&empty));
        let what = format!("{name}: another key, repeated");
        rows.push(
            Row::time(&what, "an empty table", &repeated)
                .at_most(1.3)
                .against_itself(),
        );
        let turn = compare(plan, || {
            (
                in_turn(plan, &others[..KEYS], Exclusive(&table)),
                in_turn(plan, &others[..KEYS], Exclusive(&empty)),
            )
        });
        let what = format!("{name}: 4,096 other keys, in turn");
        rows.push(
            Row::time(&what, "an empty table", &turn)
                .at_most(2.0)
                .against_itself(),
        );
        let random = compare(plan, || {
            (
                onward(plan, &others, Exclusive(&table)),
                onward(plan, &others, Exclusive(&empty)),
            )
        });
        let what = format!("{name}: other keys, random");
        rows.push(Row::time(&what, "an empty table", &random).against_itself());
        if concurrency.is_none() {
            rows.extend(beside_lockmap(plan, &held, &others, &table));
        }
        drop(guards);
        let left = table
            .stats()
            .index_bytes
            .saturating_sub(empty.stats().index_bytes);
        if concurrency.is_none() {
            let what = format!("{name}: index bytes left after all were unlocked, together");
            rows.push(Row::exact_bytes(&what, left as f64));
        }
    }
    rows.push(Row::exact_bytes("a guard", size_of::<ExclusiveGuard<'_>>() as f64).at_most(32.0));
    rows.extend(peers_heap(&held));
    rows
}

fn per_lock(bytes: usize) -> f64 {
    bytes as f64 / HELD as f64
}

/// Compares locking one more key: a new one for each run, the same one for both.
fn another<A: KeyLock<u64>, B: KeyLock<u64>>(
    plan: Plan,
    keys: &[u64],
    subject: &A,
    baseline: &B,
) -> Comparison {
    fn one_at_a_time<'a, L: KeyLock<u64>>(
        plan: Plan,
        keys: &'a [u64],
        locks: &'a L,
    ) -> Contender<'a> {
        let key = Rc::new(Cell::new(keys[0]));
        let own = key.clone();
        let mut run = timed(plan.span, move |times| {
            each_key(locks, &[own.get(); 64], times);
        });
        let mut keys = keys.iter().cycle();
        Box::new(move || {
            key.set(*keys.next().expect("a cycle does not end"));
            run()
        })
    }
    let mut keys = keys.chunks(plan.rounds + 1);
    compare(plan, || {
        let keys = keys.next().expect("a million keys are enough");
        (
            one_at_a_time(plan, keys, subject),
            one_at_a_time(plan, keys, baseline),
        )
    })
}

/// A contender that locks `keys` in order, over and over.
fn in_turn<'a, L: KeyLock<u64> + 'a>(plan: Plan, keys: &'a [u64], locks: L) -> Contender<'a> {
    timed(plan.span, move |times| each_key(&locks, keys, times))
}

/// A contender that locks `keys` in order and continues where it stopped, so that it finds none in
/// the cache.
fn onward<'a, L: KeyLock<u64> + 'a>(plan: Plan, keys: &'a [u64], locks: L) -> Contender<'a> {
    let mut at = 0;
    timed(plan.span, move |times| {
        let end = at + times as usize;
        let (from, to) = if end <= keys.len() {
            (at, end)
        } else {
            (0, keys.len().min(times as usize))
        };
        each_key(&locks, &keys[from..to], times);
        at = to;
    })
}

/// The same with as many entries of a `lockmap` held.
fn beside_lockmap(plan: Plan, held: &[u64], others: &[u64], table: &LockTable<u64>) -> [Row; 2] {
    let against = "lockmap with a million entries held";
    let peer = Lockmap::new();
    let _entries: Vec<_> = held.iter().map(|&key| peer.0.entry(key)).collect();
    let repeated = another(plan, others, &Exclusive(table), &peer);
    let random = compare(plan, || {
        (
            onward(plan, others, Exclusive(table)),
            onward(plan, others, &peer),
        )
    });
    [
        Row::time("default: another key, repeated", against, &repeated),
        Row::time("default: other keys, random", against, &random).at_most(1.2),
    ]
}

/// Heap bytes for each held key of the crates that keep an entry for each.
fn peers_heap(keys: &[u64]) -> [Row; 3] {
    held::of_peers(keys).map(|held| {
        Row::exact_bytes(
            &format!("{}: heap bytes for each lock", held.name),
            held.heap,
        )
        .with_context(format!("guard {} B", held.guard))
    })
}
