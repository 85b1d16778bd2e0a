//! The search against one that is too slow to be wrong, and what owners do meanwhile.

mod cost;

use core::cell::Cell;

use super::*;
use crate::word::Mode;

std::thread_local! {
    /// How often an owner was compared with another in the set of a key.
    pub(super) static COMPARISONS: Cell<u64> = const { Cell::new(0) };
}

/// xorshift64 (Marsaglia, 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    fn shuffled(&mut self, n: u64) -> Vec<u64> {
        let mut all: Vec<u64> = (0..n).collect();
        for i in (1..all.len()).rev() {
            all.swap(i, self.below(i as u64 + 1) as usize);
        }
        all
    }
}

fn held(hash: u64, mode: Mode) -> Held {
    Held {
        hash,
        mode,
        at: At::here(),
    }
}

fn owner(id: u64) -> Owner {
    Owner {
        id,
        kind: OwnerKind::Session,
        name: None,
        priority: 0,
    }
}

fn wait(graph: &mut Graph<()>, id: u64, hash: u64) {
    let want = Want {
        held: held(hash, Mode::Exclusive),
        upgrade: false,
        place: (),
    };
    graph.wait(id, want);
}

/// Whether a key leads back to itself, by looking at everything.
fn in_circle(holds: &[Vec<u64>], wants: &[Option<u64>], start: u64) -> bool {
    let after = |key: u64| {
        let holders = (0..holds.len()).filter(move |id| holds[*id].contains(&key));
        holders
            .filter_map(|id| wants[id])
            .filter(move |to| *to != key)
    };
    let mut seen = vec![];
    let mut open: Vec<u64> = after(start).collect();
    while let Some(key) = open.pop() {
        if key == start {
            return true;
        }
        if !seen.contains(&key) {
            seen.push(key);
            open.extend(after(key));
        }
    }
    false
}

#[test]
fn the_search_finds_a_cycle_where_there_is_one() {
    const OWNERS: usize = 7;
    const KEYS: u64 = 6;
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let (mut found, mut none) = (0, 0);
    for _ in 0..5_000 {
        let mut graph = Graph::default();
        let mut holds = vec![Vec::new(); OWNERS];
        let mut wants = vec![None; OWNERS];
        for (id, holds) in holds.iter_mut().enumerate() {
            holds.extend((0..KEYS).filter(|_| random.below(5) == 0));
            let all = holds.iter().map(|key| held(*key, Mode::Shared));
            graph.enter(&owner(id as u64), all.collect());
        }
        for (id, want) in wants.iter_mut().enumerate() {
            if random.below(4) != 0 {
                let key = random.below(KEYS);
                *want = Some(key);
                wait(&mut graph, id as u64, key);
            }
        }
        for key in 0..KEYS {
            let waited_for = wants.contains(&Some(key));
            let cycle = graph.cycle(key);
            assert_eq!(
                cycle.is_some(),
                waited_for && in_circle(&holds, &wants, key)
            );
            let Some(cycle) = cycle else {
                none += 1;
                continue;
            };
            found += 1;
            assert!(cycle.links.len() > 1);
            let next = cycle.links.iter().cycle().skip(1);
            for (link, next) in cycle.links.iter().zip(next) {
                let id = link.owner.id as usize;
                assert_eq!(wants[id], Some(link.wants.hash));
                assert!(holds[id].contains(&link.holds.hash));
                assert_eq!(link.wants.hash, next.holds.hash);
            }
            assert!(cycle.links.iter().any(|link| link.wants.hash == key));
        }
        for id in 0..OWNERS as u64 {
            graph.end_wait(id);
            graph.exit(id);
        }
        assert!(graph.is_empty());
    }
    assert!(found > 1_000 && none > 1_000, "{found} found, {none} not");
}

/// Whoever begins to wait and is in no one's way closes no cycle. They come and go, so that of
/// those who are there some are listed and some not.
#[test]
fn who_is_not_waited_for_closes_no_cycle() {
    const OWNERS: usize = 8;
    const KEYS: u64 = 12;
    let mut random = Random(0x5EED);
    let mut graph = Graph::default();
    let mut holds = vec![vec![]; OWNERS];
    let mut wants = vec![None; OWNERS];
    let (mut closed, mut in_the_way, mut not) = (0, 0, 0);
    for _ in 0..100_000 {
        let who = random.below(OWNERS as u64) as usize;
        let id = who as u64;
        if wants[who].take().is_some() {
            graph.end_wait(id);
            let held = graph.exit(id);
            assert!(
                held.iter()
                    .map(|held| held.hash)
                    .eq(holds[who].iter().copied())
            );
            continue;
        }
        let want = random.below(KEYS);
        let many = if random.below(4) == 0 { KEYS } else { 2 };
        holds[who] = (0..KEYS)
            .filter(|key| *key != want && random.below(KEYS) < many)
            .collect();
        let all = holds[who].iter().map(|key| held(*key, Mode::Shared));
        graph.enter(&owner(id), all.collect());
        wait(&mut graph, id, want);
        wants[who] = Some(want);
        let known: Vec<_> = (0..OWNERS)
            .map(|id| wants[id].map_or(vec![], |_| holds[id].clone()))
            .collect();
        let closes = in_circle(&known, &wants, want);
        if !graph.is_waited_for(id, |key| holds[who].contains(&key)) {
            assert!(!closes, "{holds:?} {wants:?}");
            not += 1;
            continue;
        }
        in_the_way += 1;
        assert_eq!(graph.cycle(want).is_some(), closes);
        if closes {
            closed += 1;
            graph.end_wait(id);
            graph.exit(id);
            wants[who] = None;
        }
    }
    assert!(
        closed > 1_000 && in_the_way - closed > 1_000 && not > 1_000,
        "{closed} {in_the_way} {not}"
    );
    (0..OWNERS as u64).for_each(|id| {
        graph.end_wait(id);
        graph.exit(id);
    });
    assert!(graph.is_empty());
}

/// An owner that stays known may take, change and give back keys, listed or not; it never stands in
/// its own way.
#[test]
fn an_owner_changes_what_it_holds() {
    for listed in [false, true] {
        let mut graph = Graph::<()>::default();
        graph.enter(&owner(1), vec![held(10, Mode::Shared)]);
        if listed {
            graph.list();
        }
        graph.hold(1, held(20, Mode::Exclusive));
        graph.release(1, 20);
        graph.release(1, 20);
        graph.change(1, held(10, Mode::Exclusive));
        let mut in_the_way = |id, hash| graph.older_holds(id, hash, Mode::Shared);
        assert!(in_the_way(2, 10) && !in_the_way(2, 20) && !in_the_way(1, 10));
        graph.change(1, held(10, Mode::Shared));
        assert!(!graph.older_holds(2, 10, Mode::Shared));
        graph.release(1, 10);
        assert!(!graph.is_empty(), "it is known, and holds nothing");
        assert!(graph.exit(1).is_empty() && graph.is_empty());
    }
}

#[test]
fn the_victim_is_the_youngest_of_the_lowest_priority() {
    let link = |id, priority| Link {
        owner: Owner {
            priority,
            ..owner(id)
        },
        holds: held(0, Mode::Exclusive),
        wants: held(1, Mode::Exclusive),
    };
    let choose = |links: Vec<Link>| Cycle { links, victim: 0 }.choose();
    assert_eq!(choose(vec![link(1, 0), link(9, 0), link(5, 0)]), Some(1));
    assert_eq!(choose(vec![link(1, -1), link(9, 0), link(5, -1)]), Some(2));
}
