//! The graph: the keys that its owners hold and wait for, by owner and by key.

use core::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::cycle::Cycle;
use super::held::HeldKeys;
use super::numbers::{Numbers, shrink};
use super::owner::{Held, Owner};
use super::scratch::Scratch;
use crate::word::Mode;

/// The key that an owner waits for, and `P`, its place in the queue.
#[derive(Debug)]
pub(crate) struct Want<P> {
    pub(crate) held: Held,
    /// Whether it already holds the key shared, and keeps it.
    pub(crate) upgrade: bool,
    pub(crate) place: P,
}

#[derive(Debug)]
pub(super) struct Party<P> {
    pub(super) owner: Owner,
    pub(super) held: HeldKeys,
    /// Its index in `unlisted`, if its keys are not listed by key.
    unlisted: Option<usize>,
    pub(super) want: Option<Want<P>>,
    killed: Option<Arc<Cycle>>,
}

/// The id of an owner in a set of a key. Tests count its comparisons: they are the cost of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member(pub(super) u64);

impl Ord for Member {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        #[cfg(test)]
        super::tests::COMPARISONS.with(|count| count.set(count.get() + 1));
        self.0.cmp(&other.0)
    }
}

impl PartialOrd for Member {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The owners at one key. Both sets are ordered, so that an owner joins and leaves a crowd of *n*
/// in log *n* steps. The oldest holder of a mode is found in as many.
#[derive(Debug, Default)]
pub(super) struct Key {
    pub(super) holders: BTreeSet<(Mode, Member)>,
    pub(super) waiters: BTreeSet<Member>,
    /// The waiter that upgrades the key. The monitor admits one [M12].
    upgrader: Option<u64>,
}

/// Owners, the keys that they hold and the one key that each may wait for.
#[derive(Debug)]
pub(crate) struct Graph<P> {
    pub(super) parties: Numbers<Party<P>>,
    /// The keys, with all their waiters, and with their holders except the unlisted ones.
    pub(super) keys: Numbers<Key>,
    /// The owners that may be missing among the holders of keys. To list an owner costs a step a
    /// key, and few searches need it.
    unlisted: Vec<u64>,
    pub(super) scratch: Scratch,
}

impl<P> Default for Graph<P> {
    fn default() -> Self {
        Graph {
            parties: Numbers::default(),
            keys: Numbers::default(),
            unlisted: Vec::new(),
            scratch: Scratch::default(),
        }
    }
}

impl<P> Graph<P> {
    /// Enters `owner` with the keys that it holds. If it is already entered, updates its name and
    /// priority, and keeps its keys. Takes a few steps, however many keys there are.
    pub(crate) fn enter(&mut self, owner: &Owner, held: Vec<Held>) {
        if let Some(party) = self.parties.get_mut(&owner.id) {
            party.owner = owner.clone();
            return;
        }
        let party = Party {
            owner: owner.clone(),
            unlisted: Some(self.unlisted.len()),
            held: HeldKeys::new(held),
            want: None,
            killed: None,
        };
        self.unlisted.push(owner.id);
        self.parties.insert(owner.id, party);
    }

    /// The number of owners that are entered.
    pub(crate) fn len(&self) -> usize {
        self.parties.len()
    }

    /// Removes an owner that waits for nothing. Returns the keys that it held, which the caller can
    /// drop without the mutex.
    pub(crate) fn exit(&mut self, id: u64) -> Vec<Held> {
        let Some(party) = self.parties.remove(&id) else {
            return Vec::new();
        };
        debug_assert!(party.want.is_none(), "it still waits");
        shrink(&mut self.parties);
        if let Some(place) = party.unlisted {
            self.unlisted.swap_remove(place);
            if let Some(moved) = self.unlisted.get(place) {
                let moved = self.parties.get_mut(moved).expect("it is known");
                moved.unlisted = Some(place);
            }
        } else {
            for held in party.held.iter() {
                self.unlist(held.hash, |key| {
                    key.holders.remove(&(held.mode, Member(id)))
                });
            }
        }
        party.held.into_list()
    }

    /// Lists all unlisted owners, with the keys that they hold.
    pub(super) fn list(&mut self) {
        for id in self.unlisted.drain(..) {
            let party = self.parties.get_mut(&id).expect("it is known");
            party.unlisted = None;
            for held in party.held.iter() {
                let key = self.keys.entry(held.hash).or_default();
                key.holders.insert((held.mode, Member(id)));
            }
        }
    }

    /// Whether another owner waits for a key that `id` holds: if not, no cycle includes `id`.
    /// `holds` returns whether `id` holds a key. It is called for each owner, unless `id` has fewer
    /// keys than there are owners.
    pub(crate) fn is_waited_for(&self, id: u64, holds: impl Fn(u64) -> bool) -> bool {
        let Some(party) = self.parties.get(&id) else {
            return false;
        };
        if party.held.len() < self.parties.len() {
            let held = party.held.iter();
            let mut keys = held.filter_map(|held| self.keys.get(&held.hash));
            return keys.any(|key| key.waiters.iter().any(|waiter| waiter.0 != id));
        }
        let others = self.parties.iter().filter(|other| *other.0 != id);
        let mut wants = others.filter_map(|(_, other)| other.want.as_ref());
        wants.any(|want| holds(want.held.hash))
    }

    /// Records that a known owner holds, or will request, one more key.
    pub(crate) fn hold(&mut self, id: u64, held: Held) {
        let party = self.parties.get_mut(&id).expect("it is known");
        party.held.push(held);
        if party.unlisted.is_none() {
            let key = self.keys.entry(held.hash).or_default();
            key.holders.insert((held.mode, Member(id)));
        }
    }

    /// Records that a known owner holds a key in another mode.
    pub(crate) fn change(&mut self, id: u64, held: Held) {
        self.release(id, held.hash);
        self.hold(id, held);
    }

    /// Records that a known owner no longer holds a key.
    pub(crate) fn release(&mut self, id: u64, hash: u64) {
        let Some(party) = self.parties.get_mut(&id) else {
            return;
        };
        let released = party.held.remove(hash);
        let is_listed = party.unlisted.is_none();
        if let Some(held) = released.filter(|_| is_listed) {
            self.unlist(hash, |key| key.holders.remove(&(held.mode, Member(id))));
        }
    }

    /// Records that a known owner waits from now on.
    pub(crate) fn wait(&mut self, id: u64, want: Want<P>) {
        let party = self.parties.get_mut(&id).expect("it is known");
        debug_assert!(party.want.is_none() && party.killed.is_none(), "it waits");
        let key = self.keys.entry(want.held.hash).or_default();
        key.waiters.insert(Member(id));
        if want.upgrade {
            key.upgrader = Some(id);
        }
        party.want = Some(want);
    }

    /// Records that an owner no longer waits. Returns the cycle of which it was the victim, if its
    /// wait was ended for that.
    pub(crate) fn end_wait(&mut self, id: u64) -> Option<Arc<Cycle>> {
        self.arrive(id);
        self.parties.get_mut(&id)?.killed.take()
    }

    /// Ends the wait of an owner for a cycle, which `end_wait` will return.
    pub(crate) fn kill(&mut self, id: u64, cycle: Arc<Cycle>) {
        self.arrive(id);
        let party = self.parties.get_mut(&id).expect("it is known");
        party.killed = Some(cycle);
    }

    /// Ends the wait of an owner, whether its thread has observed that or not.
    pub(crate) fn arrive(&mut self, id: u64) {
        let want = self.parties.get_mut(&id).and_then(|p| p.want.take());
        if let Some(want) = want {
            self.unlist(want.held.hash, |key| {
                if key.upgrader == Some(id) {
                    key.upgrader = None;
                }
                key.waiters.remove(&Member(id))
            });
        }
    }

    /// The key that an owner waits for.
    pub(crate) fn want(&self, id: u64) -> Option<&Want<P>> {
        self.parties.get(&id)?.want.as_ref()
    }

    /// Whether an owner older than `id` holds `hash` in a mode that conflicts with `mode`.
    pub(crate) fn older_holds(&mut self, id: u64, hash: u64, mode: Mode) -> bool {
        self.list();
        let Some(key) = self.keys.get(&hash) else {
            return false;
        };
        // In one mode, the oldest is the first.
        let older = |held| {
            let from = (held, Member(0));
            key.holders.range(from..(held, Member(id))).next().is_some()
        };
        let conflicts = |held: &Mode| !held.admits(mode);
        let mut held = [Mode::Shared, Mode::Exclusive].into_iter();
        held.any(|held| conflicts(&held) && older(held))
    }

    /// The owner that upgrades `hash`, with the shared lock that it holds and the exclusive one
    /// that it requests.
    pub(crate) fn upgrader(&self, hash: u64) -> Option<(&Owner, Held, Held)> {
        let party = &self.parties[&self.keys.get(&hash)?.upgrader?];
        let want = party.want.as_ref()?;
        let held = party.held.get(hash)?;
        let mode = Mode::Shared;
        Some((&party.owner, Held { mode, ..*held }, want.held))
    }

    /// Calls `f` with each known owner and each key that it holds, or will request under `WaitDie`.
    pub(crate) fn for_each_hold(&self, mut f: impl FnMut(&Owner, u64)) {
        for party in self.parties.values() {
            for held in party.held.iter() {
                f(&party.owner, held.hash);
            }
        }
    }

    /// Whether it contains no owner and no key.
    #[cfg(any(test, latchwork_loom, latchwork_shuttle))]
    pub(crate) fn is_empty(&self) -> bool {
        self.parties.is_empty() && self.keys.is_empty() && self.unlisted.is_empty()
    }

    /// The number of unlisted owners.
    #[cfg(test)]
    pub(super) fn unlisted(&self) -> usize {
        self.unlisted.len()
    }

    /// Removes an entry from the lists of a key, and the key if they are empty then.
    fn unlist(&mut self, hash: u64, f: impl FnOnce(&mut Key) -> bool) {
        let key = self.keys.get_mut(&hash).expect("it is listed");
        let found = f(key);
        debug_assert!(found, "it is listed");
        if key.holders.is_empty() && key.waiters.is_empty() {
            self.keys.remove(&hash);
            shrink(&mut self.keys);
        }
    }
}
