//! The YCSB's core workloads A, B and C: records by key, some of them preferred, read or updated
//! one at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Axis, Contender, Load, Scenario, Setting, mixed, until};
use crate::records::{
    ByTable, Cells, Dash, Lockmap, OneMutex, OneRwLock, Records, RwLocks, Scc, StdMutexes,
    StdRwLocks, Stm, Transactions,
};
use crate::skew::places;
use crate::workload::distinct_keys;

/// How many records there are.
const RECORDS: usize = 1 << 14;

/// YCSB's own constant.
const SKEW: f64 = 0.99;

fn mix<R: Records + Send + Sync + 'static>(updates: f64) -> impl Fn(Setting) -> Load + 'static {
    move |setting| {
        let keys = distinct_keys(RECORDS, setting.seed);
        let records = Arc::new(R::of(&keys));
        let updated = Arc::new(AtomicU64::new(0));
        let (found, counted) = (records.clone(), updated.clone());
        let plans = setting.each(|seed| {
            let drawn = places(RECORDS, SKEW, seed).map(|at| keys[at]);
            drawn.zip(mixed(updates, seed)).collect::<Vec<_>>()
        });
        Load::new(
            move |index, stop, times| {
                let mut own = 0;
                let done = until(&plans[index], stop, times, |&(key, updates)| {
                    if updates {
                        records.bump(key);
                        own += 1;
                    } else {
                        std::hint::black_box(records.read(key));
                    }
                });
                updated.fetch_add(own, Ordering::Relaxed);
                done
            },
            move |_| {
                let sum: u64 = keys.iter().map(|&key| found.read(key)).sum();
                assert_eq!(sum, counted.load(Ordering::Relaxed), "an update is lost");
            },
        )
    }
}

fn contenders(updates: f64) -> Vec<Contender> {
    let fixed = "weaker: no versions, no snapshots; readers wait for a writer";
    let keys = "stronger: keys come and go; weaker: locks a part of its map, with other keys in it";
    let global = "weaker: keys exclude each other";
    let starves =
        "weaker: no versions, no snapshots, and no bound on how often a transaction loses";
    vec![
        Contender::ours("VersionedCell", mix::<Cells>(updates)),
        Contender::ours("transactions", mix::<Transactions>(updates)),
        Contender::ours("LockTable", mix::<ByTable>(updates)),
        Contender::peer("stm-core", starves, mix::<Stm>(updates)),
        Contender::peer("parking_lot RwLock, each", fixed, mix::<RwLocks>(updates)),
        Contender::peer("std RwLock, each", fixed, mix::<StdRwLocks>(updates)),
        Contender::peer("std Mutex, each", fixed, mix::<StdMutexes>(updates)),
        Contender::peer("parking_lot RwLock, one", global, mix::<OneRwLock>(updates)),
        Contender::peer("parking_lot Mutex, one", global, mix::<OneMutex>(updates)),
        Contender::peer("dashmap", keys, mix::<Dash>(updates)),
        Contender::peer("scc", keys, mix::<Scc>(updates)),
        Contender::peer(
            "lockmap",
            "stronger: keys come and go",
            mix::<Lockmap>(updates),
        ),
    ]
}

pub(super) fn all() -> Vec<Scenario> {
    let workload = |name, title, prose, updates| Scenario {
        name,
        set: "records",
        title,
        prose,
        axis: Axis::Threads,
        every: 16,
        contenders: contenders(updates),
        pessimist: None,
    };
    vec![
        workload(
            "ycsb-a",
            "Which map suits records, if half of the operations update? (YCSB A)",
            "16,384 records of one number each, chosen with θ = 0.99; one operation reads or adds one to one record. Cells \
             and locks lie in a map that never changes; the other maps are made for keys that come and go, which is not \
             asked of them here.",
            0.5,
        ),
        workload(
            "ycsb-b",
            "Which map suits records, if one operation in twenty updates? (YCSB B)",
            "As A, with 5% of updates.",
            0.05,
        ),
        workload(
            "ycsb-c",
            "Which map suits records that are only read? (YCSB C)",
            "As A, without updates.",
            0.0,
        ),
    ]
}
