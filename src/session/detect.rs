//! The record of a session in its table, and its use by the session: the two halves of detection.
use std::sync::Arc;

use super::pending::Pending;
use super::{DeadlockReport, LockError, Policy, Session};
use crate::deadlock::{Cycle, Found, Held, Link, Search, Waits, Want};
use crate::lock_table::{Notices, Seat};

impl<K: ?Sized, S> Session<'_, K, S> {
    /// Under `WaitDie`, announces that the session is about to request a key, unless an older
    /// session has [D6].
    pub(super) fn announce(&mut self, want: Held, upgrade: bool) -> Result<(), LockError> {
        if self.policy != Policy::WaitDie && !self.announced {
            return Ok(());
        }
        let id = self.owner.id;
        // Without the mutex, which others wait for.
        let held = self.list();
        self.table.detector.with(|waits| {
            let graph = &mut waits.graph;
            if self.policy == Policy::WaitDie && graph.older_holds(id, want.hash, want.mode) {
                return Err(LockError::Died);
            }
            graph.enter(&self.owner, held);
            self.announced = true;
            if upgrade {
                graph.change(id, want);
            } else {
                graph.hold(id, want);
            }
            Ok(())
        })
    }

    /// Retracts an announcement.
    pub(super) fn retract(&mut self, hash: u64) {
        if self.announced {
            let id = self.owner.id;
            let held = self.held.get(hash).map(|hold| hold.held());
            self.table.detector.with(|waits| match held {
                Some(held) => waits.graph.change(id, held),
                None => waits.graph.release(id, hash),
            });
        }
    }

    /// Makes known that a key is held in another mode, if it is known.
    pub(super) fn announce_change(&mut self, held: Held) {
        if self.announced {
            let id = self.owner.id;
            self.table
                .detector
                .with(|waits| waits.graph.change(id, held));
        }
    }

    /// Returns the holds that must be published: none, if the table records them already.
    pub(super) fn list(&self) -> Vec<Held> {
        if self.announced {
            return Vec::new();
        }
        self.held.iter().map(|hold| hold.held()).collect()
    }

    /// Publishes that the session holds `held`, its [`list`](Self::list), and waits for the key of
    /// `pending` [D1].
    pub(super) fn publish(&self, waits: &mut Waits<Seat>, held: Vec<Held>, pending: &Pending<'_>) {
        let want = Want {
            held: pending.want,
            upgrade: pending.wait.awaited().upgrades(),
            place: pending.wait.seat(),
        };
        waits.publish(&self.owner, held, want);
    }

    /// Retracts the published wait, before the wait ends [D2]. Returns the cycle that the session
    /// was the victim of, if it was.
    pub(super) fn unpublish(&self) -> Option<Arc<Cycle>> {
        let id = self.owner.id;
        let (killed, _held) = self.table.detector.with(|waits| {
            let killed = waits.graph.end_wait(id);
            (killed, (!self.announced).then(|| waits.graph.exit(id)))
        });
        killed
    }

    /// Publishes, if that is still to do, and ends all cycles through the key that the session
    /// waits for [D3]. Returns the number of owners in the graph.
    pub(super) fn detect(&mut self, search: Search) -> usize {
        let mut notices = Notices::default();
        let mut pending = self.pending.take().expect("it waits");
        let is_published = core::mem::replace(&mut pending.published, true);
        // Without the mutex, which others wait for.
        let held = (!is_published).then(|| self.list());
        let owners = self.table.detector.with(|waits| {
            if let Some(held) = held {
                self.publish(waits, held, &pending);
            }
            let (id, hash) = (self.owner.id, pending.want.hash);
            let holds = |key| self.held.get(key).is_some();
            // If not, its wait closes no cycle [D9].
            let found = if waits.graph.is_waited_for(id, holds) {
                waits.resolve(&mut self.table.raw().ends(&mut notices), id, hash)
            } else {
                Found::Nothing
            };
            self.table.detector.searched(search, found);
            waits.graph.len()
        });
        self.pending = Some(pending);
        // User code: with no mutex held.
        notices.run();
        owners
    }

    /// Returns the cycle of this session and of the one that waits to upgrade the same key, with
    /// its victim; `None` if that one is just leaving the queue.
    pub(super) fn rivalry(&self, waits: &Waits<Seat>, want: Held) -> Option<Cycle> {
        let (rival, holds, wants) = waits.graph.upgrader(want.hash)?;
        let rival = Link {
            owner: rival.clone(),
            holds,
            wants,
        };
        let hold = self.held.get(want.hash).expect("it is held shared");
        let own = Link {
            owner: self.owner.clone(),
            holds: hold.held(),
            wants: want,
        };
        let mut cycle = Cycle {
            links: vec![own, rival],
            victim: 0,
        };
        cycle.victim = cycle.choose().expect("both are sessions");
        Some(cycle)
    }

    /// Ends a [`rivalry`](Self::rivalry). Returns the cycle if this session is its victim.
    pub(super) fn end_rivalry(
        &self,
        waits: &mut Waits<Seat>,
        cycle: Cycle,
        notices: &mut Notices,
    ) -> Option<Arc<Cycle>> {
        if cycle.links[cycle.victim].owner.id == self.owner.id {
            let cycle = Arc::new(cycle);
            waits.remember(cycle.clone());
            return Some(cycle);
        }
        waits.end_wait(&mut self.table.raw().ends(notices), cycle);
        None
    }

    /// Records that the session is the victim of a cycle, whether it returns the error or its
    /// future is dropped. From now on its holds are handed over as they are released [D11], and its
    /// next lock waits for its turn [D12]. Called before user code runs [M16].
    pub(super) fn lose(&mut self) {
        self.lost = true;
        self.lost_at = self.clock;
    }

    /// Returns the error of the victim of `cycle`, which has recorded that it [lost](Self::lose).
    pub(super) fn deadlock(&self, cycle: &Cycle) -> LockError {
        LockError::Deadlock(DeadlockReport::new(cycle, &self.table.detector))
    }
}
