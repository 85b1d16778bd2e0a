//! The search for a cycle through one key.
//!
//! A key leads to the keys that its holders wait for. A waiter of a key waits for all its holders.
//! It waits directly for those whose mode conflicts with its own. It waits for the others behind a
//! waiter in the queue, with whose mode both conflict. So a cycle of owners is a cycle of keys, and
//! the search reads no queue.
//!
//! The search proceeds forwards from the key, to the keys that its holders wait for, and backwards,
//! to the keys that its waiters hold. Each iteration performs the cheaper step of the two. If
//! either side is exhausted, there is no cycle. A chain that grows at one end costs one step each
//! time. A chain that is joined from pieces costs its shorter piece. So *n* owners in chains cost
//! *n* log *n* steps in all, in any order of arrival (the argument is that of union by size). The
//! backward side only decides whether there is a cycle; the forward side finds the cycle.

use super::cycle::{Cycle, Link};
use super::graph::{Graph, Key, Member};
use super::numbers::Numbers;
use super::scratch::Scratch;

impl<P> Graph<P> {
    /// Returns a cycle in which an owner waits for the key `start`.
    pub(crate) fn cycle(&mut self, start: u64) -> Option<Cycle> {
        self.list();
        let mut scratch = core::mem::take(&mut self.scratch);
        let found = self.search(start, &mut scratch);
        scratch.clear();
        self.scratch = scratch;
        found
    }

    /// The number of steps of the search for a cycle.
    #[cfg(test)]
    pub(super) fn steps(&mut self, start: u64) -> usize {
        let Scratch {
            forward, backward, ..
        } = self.searched(start);
        forward.steps + backward.steps
    }

    /// The number of keys that the search for a cycle reaches, forwards and backwards, each with
    /// its start.
    #[cfg(test)]
    pub(super) fn reached(&mut self, start: u64) -> (usize, usize) {
        let Scratch { ahead, behind, .. } = self.searched(start);
        (ahead.len(), behind.len())
    }

    #[cfg(test)]
    fn searched(&mut self, start: u64) -> Scratch {
        self.list();
        let mut scratch = Scratch::default();
        self.search(start, &mut scratch);
        scratch
    }

    /// The number of keys for which memory is kept between searches.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        let Scratch { ahead, behind, .. } = &self.scratch;
        ahead.capacity().max(behind.capacity())
    }

    fn search(&self, start: u64, scratch: &mut Scratch) -> Option<Cycle> {
        let Scratch {
            ahead,
            behind,
            forward,
            backward,
        } = scratch;
        // The common case: the holder of the key runs, or is not in the graph.
        if self.keys.get(&start)?.holders.is_empty() {
            return None;
        }
        ahead.insert(start, None);
        behind.insert(start, ());
        forward.open.push_back(start);
        backward.open.push_back(start);
        // Whether the backward side has reached the start: then a cycle exists, and the forward
        // side will find it.
        let mut certain = false;
        loop {
            let next = self.keys.get(forward.open.front()?)?;
            let cost = forward.steps + next.holders.len();
            let back = backward.open.front().and_then(|key| self.keys.get(key));
            let back = match (certain, back) {
                (true, _) => None,
                (false, None) => return None,
                (false, Some(key)) => (backward.steps + key.waiters.len() < cost).then_some(key),
            };
            if let Some(previous) = back {
                let to = backward.open.pop_front()?;
                backward.steps += previous.waiters.len();
                for from in self.before(to, previous) {
                    backward.steps += 1;
                    certain |= from == start;
                    behind
                        .entry(from)
                        .or_insert_with(|| backward.open.push_back(from));
                }
            } else {
                let from = forward.open.pop_front()?;
                forward.steps += next.holders.len();
                for (to, holder) in self.after(from, next) {
                    if to == start {
                        return Some(self.trace(ahead, (from, holder)));
                    }
                    ahead.entry(to).or_insert_with(|| {
                        forward.open.push_back(to);
                        Some((from, holder))
                    });
                }
            }
        }
    }

    /// The keys that the holders of `from` wait for, with the holder. An upgrader of a key waits
    /// for the other holders, not for itself.
    fn after(&self, from: u64, key: &Key) -> impl Iterator<Item = (u64, u64)> {
        key.holders.iter().filter_map(move |&(_, Member(holder))| {
            let to = self.parties[&holder].want.as_ref()?.held.hash;
            (to != from).then_some((to, holder))
        })
    }

    /// The keys that the waiters of `to` hold.
    fn before(&self, to: u64, key: &Key) -> impl Iterator<Item = u64> {
        let waiters = key.waiters.iter().map(|waiter| &self.parties[&waiter.0]);
        let held = waiters.flat_map(|party| party.held.iter().map(|held| held.hash));
        held.filter(move |from| *from != to)
    }

    /// The owners on the path from the start to the last one.
    fn trace(&self, ahead: &Numbers<Option<(u64, u64)>>, last: (u64, u64)) -> Cycle {
        let mut links = Vec::new();
        let mut step = Some(last);
        while let Some((key, holder)) = step {
            let party = &self.parties[&holder];
            links.push(Link {
                owner: party.owner.clone(),
                holds: *party.held.get(key).expect("it holds the key"),
                wants: party.want.as_ref().expect("it waits").held,
            });
            step = ahead[&key];
        }
        links.reverse();
        Cycle { links, victim: 0 }
    }
}
