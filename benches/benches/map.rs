//! One thread reads and writes a map that no other thread uses: the versioned map, and others.

mod alone;
mod settings;

use std::cell::Cell;

use criterion::Criterion;
use latchwork_bench::maps::{
    Dash, Map, Ours, Papaya, Scc, Walk, churn, dash_sets, filled, gets, gets_held, locked_sets,
    misses, updates,
};

const KEYS: usize = 1 << 14;

/// Works on a map by a walk that continues from run to run.
fn walking<M: Map>(map: &M, work: fn(&M, &mut Walk, u64)) -> impl Fn(u64) + '_ {
    let walk = Cell::new(Walk::new(KEYS, 1));
    move |times| {
        let mut next = walk.get();
        work(map, &mut next, times);
        walk.set(next);
    }
}

fn churning<M: Map>(map: &M) -> impl Fn(u64) + '_ {
    let next = Cell::new(KEYS as u64);
    move |times| {
        let mut number = next.get();
        churn(map, KEYS as u64, &mut number, times);
        next.set(number);
    }
}

fn main() {
    let mut criterion = settings::criterion();
    let ours: &Ours = &filled(KEYS, 0);
    let papaya: &Papaya = &filled(KEYS, 0);
    let dash: &Dash = &filled(KEYS, 0);
    let scc: &Scc = &filled(KEYS, 0);
    one(
        &mut criterion,
        "map: get under a held pin",
        [
            &walking(ours, gets_held),
            &walking(papaya, gets_held),
            &walking(dash, gets_held),
            &walking(scc, gets_held),
        ],
    );
    one(
        &mut criterion,
        "map: get",
        [
            &walking(ours, gets),
            &walking(papaya, gets),
            &walking(dash, gets),
            &walking(scc, gets),
        ],
    );
    one(
        &mut criterion,
        "map: get of an absent key",
        [
            &walking(ours, misses),
            &walking(papaya, misses),
            &walking(dash, misses),
            &walking(scc, misses),
        ],
    );
    one(
        &mut criterion,
        "map: update",
        [
            &walking(ours, updates),
            &walking(papaya, updates),
            &walking(dash, updates),
            &walking(scc, updates),
        ],
    );
    let set: &[(&str, &dyn Fn(u64))] = &[
        ("latchwork, lock", &walking(ours, locked_sets)),
        ("dashmap, get_mut", &walking(dash, dash_sets)),
    ];
    alone::ask(&mut criterion, "map: replace a value under a lock", set);
    one(
        &mut criterion,
        "map: remove and insert",
        [
            &churning(ours),
            &churning(papaya),
            &churning(dash),
            &churning(scc),
        ],
    );
    criterion.final_summary();
}

/// Measures one operation of each map.
fn one(criterion: &mut Criterion, name: &str, runs: [&dyn Fn(u64); 4]) {
    let names = ["latchwork", "papaya", "dashmap", "scc"];
    let contenders: Vec<_> = names.into_iter().zip(runs).collect();
    alone::ask(criterion, name, &contenders);
}
