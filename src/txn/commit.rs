//! How an attempt commits: whole, or not at all.

use super::access::{Access, Put};
use super::attempt::Attempt;
use super::error::Abort;
use super::few::{self, Failed};
use super::ladder::Loss;
use super::log::Log;
use crate::mvcc::{Current, NodeRef, Owned, Owner, Status, When, clock, waiters};
use crate::sync::store_load_fence;
use crate::sync::tuning::max_pushes;

impl<'t> Attempt<'t> {
    /// Commits the writes of the closure, if its reads are still current.
    #[inline(always)]
    pub(super) fn commit(&mut self) -> Result<(), Abort> {
        self.check_running()?;
        // All reads were current at one instant already [X4].
        if self.log.writes == 0 {
            if self.owner.is_some() {
                self.roll_back();
            }
            return Ok(());
        }
        if self.log.entries.len() == 1 && self.owner.is_none() {
            return self.commit_one();
        }
        self.commit_all()
    }

    #[inline(never)]
    fn commit_all(&mut self) -> Result<(), Abort> {
        if !self.ladder.rank.is_ranked() && self.commit_two() {
            return Ok(());
        }
        let owner = self.owner_or_new();
        self.put_all(owner)?;
        let stamp = self.decide(owner)?;
        self.clean_up(stamp);
        self.forget_replaced();
        Ok(())
    }

    /// Commits a transaction that has read two cells, and writes both. `false`: the attempt is
    /// another one, or has not committed yet.
    #[inline(always)]
    fn commit_two(&mut self) -> bool {
        let [a, b] = &self.log.entries[..] else {
            return false;
        };
        match Access::commit_two([a, b], self.local, self.pin) {
            None => false,
            Some(Ok(is_waited)) => {
                if is_waited {
                    self.wake_two();
                }
                self.forget_replaced();
                true
            }
            Some(Err(failed)) => {
                self.note_two(failed);
                false
            }
        }
    }

    /// Removes the waiters of two cells from their queues, after the commit [X8].
    #[cold]
    #[inline(never)]
    fn wake_two(&mut self) {
        let Log {
            entries, aftermath, ..
        } = &mut *self.log;
        for entry in entries {
            let version = entry.written().expect("it was installed").version();
            waiters::take_out(&mut aftermath.woken, entry.address(), version);
        }
    }

    /// Records the owner and the nodes that it has installed: the attempt continues with them.
    #[cold]
    #[inline(never)]
    fn note_two(&mut self, failed: Failed) {
        self.owner = Some(failed.own);
        let [a, b] = &mut self.log.entries[..] else {
            unreachable!("it has two entries");
        };
        let order = few::order(&[a.head(), b.head()]).expect("each cell has one entry");
        for i in order.into_iter().take(failed.installed) {
            self.log.entries[i].note_installed();
        }
    }

    /// Commits a transaction of one cell: a conditional write.
    #[inline(always)]
    fn commit_one(&mut self) -> Result<(), Abort> {
        let put = self.put(0, When::UNSET)?;
        let header = put.node.header();
        header.stamp_published();
        let entry = &self.log.entries[0];
        entry.retire_base(self.local, self.pin, &put);
        if put.is_waited {
            let address = entry.address();
            let woken = &mut self.log.aftermath.woken;
            waiters::take_out(woken, address, header.version());
        }
        self.forget_replaced();
        Ok(())
    }

    /// Installs every write in its cell that is not there yet, in one order for all transactions.
    fn put_all(&mut self, owner: &Owner) -> Result<(), Abort> {
        let when = When::owner(core::ptr::from_ref(owner).expose_provenance());
        let Log { entries, order, .. } = &mut *self.log;
        order.clear();
        order.extend((0..entries.len() as u32).filter(|i| entries[*i as usize].is_written()));
        order.sort_unstable_by_key(|i| entries[*i as usize].address());
        for k in 0..self.log.order.len() {
            let i = self.log.order[k] as usize;
            let put = self.put(i, when)?;
            self.log.entries[i].note(put);
        }
        Ok(())
    }

    /// Installs the write of an entry over the node that was read, if the cell was read.
    #[inline(always)]
    fn put(&mut self, i: usize, when: When) -> Result<Put<'t>, Abort> {
        match self.log.entries[i].install(when) {
            Some(put) => Ok(put),
            None => self.put_slow(i, when),
        }
    }

    #[cold]
    #[inline(never)]
    fn put_slow(&mut self, i: usize, when: When) -> Result<Put<'t>, Abort> {
        let entry = &self.log.entries[i];
        let (head, seen) = (entry.head(), entry.seen);
        let (claim, upon) = (entry.put(), entry.put_upon());
        loop {
            let (word, node) = head.load_in(self.pin);
            if word.is_locked() {
                self.wait_for_lock(head)?;
                continue;
            }
            let base = match claim {
                Some(claim) if node == claim => upon.expect("a claim has a previous node"),
                // Another thread has aborted this attempt, and has written.
                Some(_) => return Err(self.lose(Loss::Overtaken, Some(head))),
                None => match node.current() {
                    Current::Settled(node) => node,
                    Current::Owned(Owned { owner: other, .. }) => {
                        self.give_way(other, head)?;
                        continue;
                    }
                },
            };
            if seen.is_some_and(|seen| seen != base) {
                return Err(self.lose(Loss::Write, Some(head)));
            }
            let (entry, over) = (&self.log.entries[i], (word, base));
            if let Some(put) = entry.install_over(self.local, self.pin, when, over) {
                return Ok(put);
            }
        }
    }

    /// Commits or fails, by one compare-and-swap. Returns the stamp.
    #[inline]
    fn decide(&mut self, owner: &Owner) -> Result<u64, Abort> {
        let Log {
            entries, writes, ..
        } = &*self.log;
        // With a write for each cell, no read needs validation: the attempt owns what it has read.
        if *writes < entries.len() && entries.iter().any(Access::is_exposed) {
            return self.decide_exposed(owner);
        }
        match owner.commit() {
            Some(stamp) => Ok(stamp),
            None => Err(self.lose(Loss::Overtaken, None)),
        }
    }

    /// As `decide`, of an attempt that relies on cells that it does not own.
    #[inline(never)]
    fn decide_exposed(&mut self, owner: &Owner) -> Result<u64, Abort> {
        for _ in 0..=max_pushes() {
            let status = owner.status();
            if status == Status::Aborted {
                break;
            }
            // A thread that begins a snapshot from now on finds the installed nodes [X5].
            store_load_fence();
            let stamp = clock::commit_timestamp();
            let prepared = Status::Prepared(stamp);
            if owner.change(status, prepared).is_err() {
                continue;
            }
            // Of two transactions that each write a read of the other, at least one detects it
            // [X3].
            store_load_fence();
            self.validate()?;
            if owner.change(prepared, Status::Committed(stamp)).is_ok() {
                return Ok(stamp);
            }
        }
        // The next attempt has an age, and then owns all cells that it reads.
        Err(self.lose(Loss::Overtaken, None))
    }

    /// Checks whether every cell that was only read is unchanged, and is not owned by another
    /// transaction.
    fn validate(&mut self) -> Result<(), Abort> {
        for i in 0..self.log.entries.len() {
            let entry = &self.log.entries[i];
            if !entry.is_exposed() {
                continue;
            }
            let (head, seen) = (entry.head(), self.seen(i));
            loop {
                match self.current(head) {
                    Current::Settled(node) if node == seen => break,
                    Current::Owned(owned) if owned.base == seen => {
                        self.give_way(owned.owner, head)?
                    }
                    _ => return Err(self.lose(Loss::Read, Some(head))),
                }
            }
        }
        Ok(())
    }

    /// Stamps the node in every cell, and retires the replaced nodes.
    fn clean_up(&mut self, stamp: u64) {
        // A thread that begins to wait from now on finds the commit; an earlier waiter is found
        // [C5].
        store_load_fence();
        if self.ladder.rank.is_ranked() {
            self.remove_claims();
        }
        let Log {
            entries, aftermath, ..
        } = &mut *self.log;
        Access::stamp_all(entries, self.local, self.pin, stamp, |entry, node| {
            if entry.head().load().is_waited() {
                let woken = &mut aftermath.woken;
                waiters::take_out(woken, entry.address(), node.version());
            }
        });
        self.retire_owner();
    }

    /// Removes the claims that have no value in the end.
    #[cold]
    fn remove_claims(&mut self) {
        for entry in &mut self.log.entries {
            let is_claim = |put: NodeRef<'_>| put.header().when().is_claim();
            if entry.put().is_some_and(is_claim) {
                entry.restore(self.local, self.pin);
            }
        }
    }
}
