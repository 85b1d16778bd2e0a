//! What does a B+tree on latches do beside locks around a `BTreeMap`, and beside a skip list?

use std::collections::BTreeMap;
use std::sync::{Mutex, RwLock};

use crossbeam_skiplist::SkipMap;
use latchwork_bench::control;
use latchwork_bench::ratio::{Comparison, Plan, Quartiles, in_turn};

use super::Question;
use crate::row::Row;

#[allow(dead_code, reason = "the example's own, of which a part is measured")]
#[path = "../../../../../examples/structures/btree.rs"]
mod btree;
#[allow(dead_code, reason = "as above")]
#[path = "../../../../../examples/structures/measure.rs"]
mod measure;

use btree::BTree;
use measure::{Load, Map};

pub(super) const QUESTION: Question = Question {
    name: "trees",
    title: "A B+tree on optimistic latches",
    prose: "The tree of `examples/btree.rs`, in safe code on the public API, beside `std`'s locks around a `BTreeMap` \
            and `crossbeam-skiplist`. Half of 200,000 keys are present. Two threads read, insert and remove random \
            keys; and one thread alone. With two threads each round also runs the control of *Two threads, different \
            keys*, by the same rule. One thread alone gains nothing from a concurrent tree.",
    measure,
};

/// Another map, by its name, and how to make one.
type Peer = (&'static str, fn() -> Box<dyn Map>);

impl Map for BTree {
    fn get(&self, key: u64) -> Option<u64> {
        BTree::get(self, key)
    }

    fn insert(&self, key: u64, value: u64) {
        BTree::insert(self, key, value);
    }

    fn remove(&self, key: u64) {
        BTree::remove(self, key);
    }
}

fn measure(plan: Plan) -> Vec<Row> {
    let peers: [Peer; 3] = [
        ("`RwLock<BTreeMap>`", || {
            Box::new(RwLock::new(BTreeMap::new()))
        }),
        ("`Mutex<BTreeMap>`", || {
            Box::new(Mutex::new(BTreeMap::new()))
        }),
        ("`crossbeam-skiplist`", || Box::new(SkipMap::new())),
    ];
    let mut rows = Vec::new();
    for (threads, percent_reads) in [(2, 95), (2, 50), (1, 95)] {
        for (against, peer) in peers {
            let load = Load {
                threads,
                keys: 200_000,
                percent_reads,
                span: plan.crowd_span,
            };
            let what = match threads {
                1 => format!("one thread, {percent_reads} % reads"),
                n => format!("{n} threads, {percent_reads} % reads"),
            };
            let row = beside(plan, &what, against, load, &*peer());
            let is_target = threads == 2 && percent_reads == 95 && !against.contains("Mutex");
            rows.push(if is_target { row.at_least(1.0) } else { row });
        }
    }
    rows
}

/// Runs rounds until there are enough to believe, or three times as many were tried.
fn beside(plan: Plan, what: &str, against: &str, load: Load, peer: &dyn Map) -> Row {
    let tree = BTree::default();
    measure::fill(&tree, load);
    measure::fill(peer, load);
    let scaling = |round| control::scaling(round, plan.crowd_span);
    let (mut believed, mut tried) = (Vec::new(), 0);
    while believed.len() < plan.rounds && tried < 3 * plan.rounds {
        let before = (load.threads > 1).then(|| scaling(tried));
        let round = in_turn(
            tried,
            || measure::throughput(&tree, load),
            || measure::throughput(peer, load),
        );
        if before.is_none_or(|before| control::is_believed(before, scaling(tried + 1))) {
            believed.push(round);
        }
        tried += 1;
    }
    let of = |values: &mut dyn Iterator<Item = f64>| Quartiles::of(values);
    let ratio = of(&mut believed.iter().map(|(ours, theirs)| ours / theirs));
    let ours = of(&mut believed.iter().map(|round| round.0));
    let theirs = of(&mut believed.iter().map(|round| round.1));
    let (Some(ratio), Some(ours), Some(theirs)) = (ratio, ours, theirs) else {
        // Without a value: a target is then not reached.
        return Row::scaling(what, None, format!("none of {tried} rounds believed"));
    };
    let result = Comparison {
        ratio,
        subject: ours.median,
        baseline: theirs.median,
    };
    let row = Row::throughput(what, against, &result);
    let context = format!(
        "{}, {} of {tried} rounds believed",
        row.context,
        believed.len()
    );
    row.with_context(context)
}
