//! What the graph and the search cost: steps, and room.

use core::cell::Cell;
use core::hash::{BuildHasher, BuildHasherDefault};
use std::collections::HashSet;

use super::super::numbers::{KEPT, Spread};
use super::*;

/// The cost of `n` owners that block one after the other in one chain, in the order `of`.
fn chain(n: u64, of: impl IntoIterator<Item = u64>) -> usize {
    let mut graph = Graph::default();
    let mut steps = 0;
    for id in of {
        graph.enter(&owner(id), vec![held(id, Mode::Exclusive)]);
        wait(&mut graph, id, (id + 1) % (n + 1));
        steps += graph.steps((id + 1) % (n + 1));
    }
    steps
}

#[test]
fn a_chain_costs_n_log_n_steps_in_any_order() {
    const N: u64 = 10_000;
    let mut random = Random(7);
    // Two steps a key on the side that runs out, and no more on the other.
    let bound = |factor: u64| (factor * N) as usize;
    assert!(chain(N, 0..N) <= bound(8));
    assert!(chain(N, (0..N).rev()) <= bound(8));
    let evens_first = (0..N).step_by(2).chain((1..N).step_by(2));
    assert!(chain(N, evens_first) <= bound(4 * 14));
    for _ in 0..5 {
        assert!(chain(N, random.shuffled(N)) <= bound(4 * 14));
    }
}

/// The number of keys that a search visits, forwards and backwards, from a key in the middle of a
/// chain of owners. The first array has the number of keys before it, and of additional holders of
/// each, which wait for nothing. The second has the number of keys behind it, of additional waiters
/// of each, which hold nothing, and of additional keys of each owner in that part of the chain.
fn between([before, holders]: [u64; 2], [behind, waiters, holds]: [u64; 3]) -> (usize, usize) {
    let mut graph = Graph::default();
    let mut ids = 0..;
    let mut add = |keys: Vec<u64>, want: Option<u64>| {
        let id = ids.next().expect("numbers do not end");
        let keys = keys.iter().map(|key| held(*key, Mode::Shared));
        graph.enter(&owner(id), keys.collect());
        if let Some(want) = want {
            wait(&mut graph, id, want);
        }
    };
    let all = before + behind;
    for key in 0..all {
        let next = key + 1;
        let is_behind = key < behind;
        let beside = (0..if is_behind { holds } else { 0 }).map(|i| all + key * holds + i);
        // The last key is held by an owner that runs.
        let want = (next < all).then_some(next);
        add(std::iter::once(key).chain(beside).collect(), want);
        if is_behind {
            (0..waiters).for_each(|_| add(vec![], Some(next)));
        } else {
            (0..holders).for_each(|_| add(vec![key], None));
        }
    }
    graph.reached(behind)
}

/// The search ends when the shorter side ends, and visits no more of the other side than that
/// costs.
#[test]
fn the_cheaper_side_ends_the_search() {
    for waiters in 0..4 {
        let (ahead, behind) = between([1_000, 0], [1, waiters, 0]);
        assert!(ahead <= 10 && behind == 2, "{ahead} {behind}");
    }
    // One step would cost more than all of the other side.
    assert_eq!(between([2, 1_000], [1, 0, 0]), (1, 2));
    assert_eq!(between([2, 0], [2, 1_000, 0]), (2, 1));
    // A step on one side costs as much as a hundred on the other.
    let (ahead, behind) = between([300, 0], [1_000, 100, 0]);
    assert!(ahead == 300 && behind <= 30, "{ahead} {behind}");
    let (ahead, behind) = between([300, 0], [1_000, 0, 100]);
    assert!(ahead == 300 && behind <= 1_000, "{ahead} {behind}");
    let (ahead, behind) = between([1_000, 100], [300, 0, 0]);
    assert!(ahead <= 30 && behind == 301, "{ahead} {behind}");
}

/// The holds of an owner are listed by key once another owner waits for it, and before that no
/// owner pays for it.
#[test]
fn holds_that_nobody_waits_for_are_not_listed() {
    let mut graph = Graph::default();
    for id in 0..100 {
        let all = (0..1_000).map(|key| held(id * 1_000 + key, Mode::Exclusive));
        graph.enter(&owner(id), all.collect());
        wait(&mut graph, id, 1 << 20);
        assert!(!graph.is_waited_for(id, |key| key / 1_000 == id));
    }
    assert_eq!((graph.keys.len(), graph.unlisted()), (1, 100));
    graph.enter(&owner(100), vec![held(1 << 20, Mode::Exclusive)]);
    wait(&mut graph, 100, 7_007);
    assert!(graph.is_waited_for(100, |key| key == 1 << 20));
    assert!(graph.cycle(7_007).is_some());
    assert_eq!((graph.keys.len(), graph.unlisted()), (100_001, 0));
    for id in 0..=100 {
        graph.end_wait(id);
        assert_eq!(graph.exit(id).len(), if id < 100 { 1_000 } else { 1 });
    }
    assert!(graph.is_empty());
}

/// Whether another owner waits for an owner is looked up in its keys or in all waiters, whichever
/// are fewer.
#[test]
fn the_shorter_list_is_looked_through() {
    let mut graph = Graph::default();
    for id in 0..10 {
        let all = (0..if id == 0 { 1_000 } else { 1 }).map(|key| held(key * 10 + id, Mode::Shared));
        graph.enter(&owner(id), all.collect());
        wait(&mut graph, id, 1 << 20);
    }
    for (id, asks) in [(0, 9), (1, 0)] {
        let asked = Cell::new(0);
        let holds = |_| {
            asked.set(asked.get() + 1);
            false
        };
        assert!(!graph.is_waited_for(id, holds));
        assert_eq!(asked.get(), asks);
    }
}

/// The graph frees the memory of a crowd when the crowd ends, even if an owner stays. It keeps the
/// memory if a third of the crowd ends, because they may return; and it keeps a small amount
/// always.
#[test]
fn room_goes_with_the_crowd() {
    const N: u64 = 10_000;
    let mut graph = Graph::default();
    for id in 0..N {
        graph.enter(&owner(id), vec![held(id, Mode::Exclusive)]);
        wait(&mut graph, id, (id + 1) % N);
    }
    assert_eq!(graph.cycle(0).map(|cycle| cycle.links.len()), Some(10_000));
    let room = |graph: &Graph<()>| (graph.parties.capacity(), graph.keys.capacity());
    for id in 2..N {
        graph.end_wait(id);
        graph.exit(id);
        if id == N / 3 {
            let (parties, keys) = room(&graph);
            assert!(parties.min(keys) >= N as usize, "{parties} {keys}");
        }
    }
    let (parties, keys) = room(&graph);
    let most = parties.max(keys).max(graph.room());
    assert!(most <= 2 * KEPT, "{most}");
    assert!(graph.cycle(1).is_none());
    assert_ne!(graph.room(), 0);
}

/// A crowd that waits for one key whose holder runs costs nothing to speak of.
#[test]
fn a_crowd_at_one_key_costs_a_step_each() {
    let mut graph = Graph::default();
    for id in 0..10_000 {
        graph.enter(&owner(id), vec![held(id + 1, Mode::Exclusive)]);
        wait(&mut graph, id, 0);
        assert!(graph.steps(0) <= 2);
    }
}

/// How many comparisons `f` makes in the sets of keys.
fn comparisons(f: impl FnOnce()) -> u64 {
    let before = COMPARISONS.get();
    f();
    COMPARISONS.get() - before
}

/// Asserts that four times as many owners cost at most six times as much: *n* log *n*, where a step
/// that grows with the crowd would make it sixteen times.
fn is_nearly_linear(what: &str, cost: impl Fn(u64) -> u64) {
    let (few, many) = (cost(1 << 10), cost(1 << 12));
    println!("{what}: {few} and {many} comparisons");
    assert!(few >= 1 << 10, "{what}: nothing was counted: {few}");
    assert!(many <= 6 * few, "{what}: {few} and {many} comparisons");
}

/// Each owner of a crowd at one key leaves in log *n* steps, in any order. An earlier version
/// searched the whole list of the key for each.
#[test]
fn to_leave_a_crowd_costs_log_n() {
    for order in ["first", "last", "random"] {
        is_nearly_linear(order, |n| {
            let mut graph = Graph::default();
            for id in 0..n {
                graph.enter(&owner(id), vec![held(n, Mode::Shared)]);
                wait(&mut graph, id, n + 1);
            }
            // All of them are listed as holders of the other key.
            graph.list();
            let order = match order {
                "first" => (0..n).collect(),
                "last" => (0..n).rev().collect(),
                _ => Random(11).shuffled(n),
            };
            let cost = comparisons(|| {
                for id in order {
                    graph.end_wait(id);
                    graph.exit(id);
                }
            });
            assert!(graph.is_empty());
            cost
        });
    }
}

/// Under `WaitDie` a session asks at each lock whether an older one holds the key, which may be
/// shared by a crowd.
#[test]
fn to_ask_a_crowd_for_its_oldest_costs_log_n() {
    is_nearly_linear("older holders", |n| {
        let mut graph = Graph::<()>::default();
        let cost = comparisons(|| {
            for id in 0..n {
                assert!(!graph.older_holds(id, 7, Mode::Shared));
                assert_eq!(graph.older_holds(id, 7, Mode::Exclusive), id > 0);
                graph.enter(&owner(id), vec![]);
                graph.hold(id, held(7, Mode::Shared));
            }
            (0..n).for_each(|id| graph.release(id, 7));
        });
        (0..n).for_each(|id| drop(graph.exit(id)));
        assert!(graph.is_empty());
        cost
    });
}

/// The one that upgrades is found among a crowd that waits for the key, and forgotten as its wait
/// ends.
#[test]
fn an_upgrader_is_found_in_a_crowd() {
    const N: u64 = 1_000;
    let mut graph = Graph::default();
    for id in 0..N {
        graph.enter(&owner(id), vec![held(0, Mode::Shared)]);
        if id != N / 2 {
            wait(&mut graph, id, 0);
        }
    }
    assert!(graph.upgrader(0).is_none() && graph.upgrader(1).is_none());
    let want = Want {
        held: held(0, Mode::Exclusive),
        upgrade: true,
        place: (),
    };
    graph.wait(N / 2, want);
    let cost = comparisons(|| {
        let (upgrader, holds, wants) = graph.upgrader(0).expect("it waits");
        assert_eq!(upgrader.id, N / 2);
        assert_eq!((holds.mode, wants.mode), (Mode::Shared, Mode::Exclusive));
    });
    assert_eq!(cost, 0);
    graph.arrive(N / 2);
    assert!(graph.upgrader(0).is_none());
}

/// Keys that a hasher leaves unchanged and that differ in only some of their bits do not accumulate
/// in one place. Two parts of a hash are nearly as good as random: the bits that choose the place
/// of its entry (the lower), and those that distinguish the entries there (the upper seven).
#[test]
fn numbers_of_any_pattern_are_spread() {
    const N: u64 = 1024;
    let check = |pattern: &str, shift: u32, number: &dyn Fn(u64) -> u64| {
        let spread = BuildHasherDefault::<Spread>::default();
        let hashes: HashSet<u64> = (0..N).map(|i| spread.hash_one(number(i))).collect();
        let lower: HashSet<u64> = hashes.iter().map(|hash| hash % (2 * N)).collect();
        let upper: HashSet<u64> = hashes.iter().map(|hash| hash >> 57).collect();
        // Of random numbers: about 806, and 128.
        let said = (lower.len(), upper.len());
        assert!(
            lower.len() >= 400 && upper.len() >= 80,
            "{pattern} {shift}: {said:?}"
        );
    };
    for shift in 0..=54 {
        check("multiples", shift, &|i| i << shift);
        check("their negatives", shift, &|i| (i << shift).wrapping_neg());
    }
    for shift in 5..59 {
        check("pairs", shift, &|i| ((i / 32) << shift) | (i % 32));
    }
    check("floating-point numbers", 0, &|i| (i as f64).to_bits());
    check("numbers of the other byte order", 0, &u64::swap_bytes);
}
