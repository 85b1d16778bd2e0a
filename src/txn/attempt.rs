//! One attempt: its reads, which never show an inconsistent state.

use std::time::{Duration, Instant};

use super::access::{Access, Draft};
use super::error::Abort;
use super::ladder::{Ladder, Loss, Met};
use super::log::Log;
use crate::cell::VersionedCell;
use crate::cell::limit::earlier;
use crate::mvcc::{Current, Head, Node, NodeRef, Owned, Owner, OwnerSlot, Status, Version, clock};
use crate::park::Event;
use crate::reclaim::{CellPin, Local};
use crate::sync::tuning::LINEAR_CELLS;
use crate::sync::{load_load_fence, now};

/// How an attempt stands.
#[derive(Clone, Copy)]
pub(super) enum Outlook<'t> {
    Running,
    /// The same, and an alternative has requested a wait no longer than this.
    RunningUntil(Timer),
    /// It was lost, at the cell of this address if at one.
    Lost(Loss, Option<usize>),
    /// A transaction owns the cell of this address, and notifies the task when it ends.
    Owned(&'t Owner, usize),
    /// The cell is that of an entry of a map, which is locked [V13].
    Locked(&'t Head),
    /// The deadline has passed while it waited for an owner.
    TimedOut,
    /// The closure requests a wait for a change, no longer than this.
    Retry(Option<Timer>),
}

impl Outlook<'_> {
    #[inline]
    pub(super) fn is_running(self) -> bool {
        matches!(self, Outlook::Running | Outlook::RunningUntil(_))
    }
}

/// The length of a wait for a change, as a closure requests it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timer {
    /// The time of the first such request of the transaction.
    pub(super) since: Instant,
    /// `None`: past the range of the clock.
    pub(super) until: Option<Instant>,
}

pub(super) struct Attempt<'t> {
    pub(super) local: &'t Local,
    pub(super) ladder: &'t Ladder,
    pub(super) log: &'t mut Log<'t>,
    pub(super) owner: Option<OwnerSlot>,
    pub(super) outlook: Outlook<'t>,
    /// The timestamp at which the reads were current. `None` while each read validates all earlier
    /// reads.
    moment: Option<u64>,
    /// Keeps all that the attempt has seen [R1].
    pub(super) pin: &'t CellPin,
}

impl<'t> Attempt<'t> {
    #[inline(always)]
    pub(super) fn new(
        local: &'t Local,
        ladder: &'t Ladder,
        log: &'t mut Log<'t>,
        pin: &'t CellPin,
    ) -> Self {
        if ladder.rank.is_ranked() {
            log.outer = ladder.rank.enter();
        }
        log.allow_fast_path(!ladder.rank.is_ranked());
        Attempt {
            local,
            ladder,
            log,
            owner: None,
            outlook: Outlook::Running,
            moment: None,
            pin,
        }
    }

    #[cold]
    pub(super) fn lose(&mut self, loss: Loss, at: Option<&Head>) -> Abort {
        self.end(Outlook::Lost(loss, at.map(Head::address)))
    }

    /// The attempt ends like this, unless it has ended already.
    #[cold]
    pub(super) fn end(&mut self, outlook: Outlook<'t>) -> Abort {
        if self.outlook.is_running() {
            self.outlook = outlook;
        }
        self.log.allow_fast_path(false);
        Abort(())
    }

    #[inline]
    pub(super) fn check_running(&self) -> Result<(), Abort> {
        match self.outlook.is_running() {
            true => Ok(()),
            false => Err(Abort(())),
        }
    }

    /// Records that the closure requests a wait for a change.
    #[cold]
    pub(super) fn retry(&mut self) -> Abort {
        let timer = match self.outlook {
            Outlook::RunningUntil(timer) => Some(timer),
            _ => None,
        };
        self.end(Outlook::Retry(timer))
    }

    /// Records the same with a time limit from the first such request. `Ok`: the time has expired.
    #[cold]
    pub(super) fn retry_for(&mut self, timeout: Duration) -> Result<(), Abort> {
        self.check_running()?;
        let now = now();
        let (since, before) = match self.outlook {
            Outlook::RunningUntil(timer) => (timer.since, timer.until),
            _ => (self.ladder.retries_since.unwrap_or(now), None),
        };
        let until = since.checked_add(timeout);
        if until.is_some_and(|until| now >= until) {
            return Ok(());
        }
        let until = earlier(before, until);
        Err(self.end(Outlook::Retry(Some(Timer { since, until }))))
    }

    /// Makes sure that all that was read is current now, and that the attempt was not aborted.
    pub(super) fn validate_now(&mut self) -> Result<(), Abort> {
        self.check_running()?;
        // As in `observe_first`.
        load_load_fence();
        self.look_through()?;
        self.check_alive()
    }

    #[inline]
    pub(super) fn owner(&self) -> Option<&'t Owner> {
        Some(self.owner.as_ref()?.owner(self.pin))
    }

    #[inline]
    pub(super) fn owner_or_new(&mut self) -> &'t Owner {
        let new = || OwnerSlot::new(self.local, self.ladder.rank);
        self.owner.get_or_insert_with(new).owner(self.pin)
    }

    /// Returns the state of a cell.
    #[inline(always)]
    pub(super) fn current(&self, head: &Head) -> Current<'t> {
        head.load_in(self.pin).1.current()
    }

    /// The entry of a cell, with the node that the attempt relies on.
    #[inline]
    pub(super) fn observe<T: Send + Sync + 'static>(
        &mut self,
        cell: &'t VersionedCell<T>,
    ) -> Result<usize, Abort> {
        self.check_running()?;
        match self.log.find(cell.head()) {
            Some(i) if self.log.entries[i].seen.is_some() => Ok(i),
            found => Ok(self.observe_first(cell, found)?.0),
        }
    }

    /// As `observe`, of a cell that has not been read before.
    #[inline(never)]
    fn observe_first<T: Send + Sync + 'static>(
        &mut self,
        cell: &'t VersionedCell<T>,
        found: Option<usize>,
    ) -> Result<(usize, NodeRef<'t>), Abort> {
        let head = cell.head();
        if self.ladder.owns(head) {
            let (i, base) = self.claim(cell, found)?;
            self.log.entries[i].seen = Some(base);
            return Ok((i, base));
        }
        // The earlier reads happen before this load. A transaction that has not installed its node
        // here yet will not miss them [X3].
        load_load_fence();
        let node = self.current_at_moment(head);
        let i = match found {
            Some(i) => {
                self.log.entries[i].seen = Some(node);
                i
            }
            None => self.log.push(head, Node::<T>::KIND, Some(node)),
        };
        if self.log.entries.len() > 1 || self.owner.is_some() {
            self.stay_consistent(node)?;
        }
        Ok((i, node))
    }

    /// The node of a cell that has been read.
    #[inline(always)]
    pub(super) fn seen(&self, i: usize) -> NodeRef<'t> {
        self.log.entries[i].seen.expect("it was observed")
    }

    /// Returns the entry of a cell, and the value for the closure: its own write, or else the
    /// committed value.
    #[inline(always)]
    pub(super) fn value<T: Send + Sync + 'static>(
        &mut self,
        cell: &'t VersionedCell<T>,
    ) -> Result<(usize, &'t T), Abort> {
        let value = match self.log.undisturbed(self.pin, cell) {
            Some(read) => read.push(),
            // Returns from here: a test of the result is not part of the fast path.
            None => self.value_disturbed(cell)?,
        };
        Ok(value)
    }

    #[inline(never)]
    fn value_disturbed<T: Send + Sync + 'static>(
        &mut self,
        cell: &'t VersionedCell<T>,
    ) -> Result<(usize, &'t T), Abort> {
        self.check_running()?;
        let found = self.log.find(cell.head());
        let i = match found {
            Some(i) if self.log.entries[i].visible().is_some() => i,
            found => self.observe_first(cell, found)?.0,
        };
        Ok((i, self.log.entries[i].value(cell)))
    }

    /// Returns the state of a cell at the read time of the attempt. A transaction that owns the
    /// cell now will commit later.
    #[inline(always)]
    fn current_at_moment(&self, head: &Head) -> NodeRef<'t> {
        let node = head.load_in(self.pin).1;
        if node.stamp().is_some() {
            return node;
        }
        self.current_at_moment_slow(head)
    }

    #[cold]
    #[inline(never)]
    fn current_at_moment_slow(&self, head: &Head) -> NodeRef<'t> {
        match (self.current(head), self.moment) {
            (Current::Settled(node), _) => node,
            (current @ Current::Owned(_), None) => current.settle(),
            (Current::Owned(owned), Some(moment)) => {
                if owned.owner.postpone(moment).is_decided() {
                    return self.current_at_moment(head);
                }
                owned.base
            }
        }
    }

    /// Ensures that all reads were current at one instant, at which `newest` was [X4].
    fn stay_consistent(&mut self, newest: NodeRef<'t>) -> Result<(), Abort> {
        match self.moment {
            None if self.log.entries.len() <= LINEAR_CELLS => self.look_through()?,
            Some(moment) if newest.stamp().is_some_and(|s| s <= moment) => {}
            _ => self.advance()?,
        }
        self.check_alive()
    }

    /// Fails if the attempt was aborted: another thread may then own a cell of it.
    #[inline]
    fn check_alive(&mut self) -> Result<(), Abort> {
        match self.owner() {
            Some(owner) if owner.status() == Status::Aborted => {
                Err(self.lose(Loss::Overtaken, None))
            }
            _ => Ok(()),
        }
    }

    /// Checks whether the read of each cell is still current.
    #[inline]
    fn look_through(&mut self) -> Result<(), Abort> {
        let changed = self.log.entries.iter().find(|entry| {
            let exposed = entry.seen.filter(|_| entry.is_exposed());
            exposed.is_some_and(|seen| !self.still_has(entry.head(), seen))
        });
        match changed.map(Access::head) {
            None => Ok(()),
            Some(head) => Err(self.lose(Loss::Read, Some(head))),
        }
    }

    /// Returns whether the read of a cell is still current, regardless of the owner of the cell.
    #[inline]
    fn still_has(&self, head: &Head, seen: NodeRef<'t>) -> bool {
        head.load().node() == seen.as_ptr() || self.current_at_moment(head) == seen
    }

    /// Reads at a new timestamp from now on, if the earlier reads are still current [X4].
    #[cold]
    fn advance(&mut self) -> Result<(), Abort> {
        self.log.allow_fast_path(false);
        self.moment = Some(clock::read_timestamp());
        self.look_through()
    }

    /// Owns a cell that the closure has just accessed, so that no other thread changes it before
    /// the commit [X6]. Returns the node that the claim was installed over. This is no read: a
    /// closure that only writes the cell relies on nothing in it.
    #[cold]
    fn claim<T: Send + Sync + 'static>(
        &mut self,
        cell: &'t VersionedCell<T>,
        found: Option<usize>,
    ) -> Result<(usize, NodeRef<'t>), Abort> {
        let head = cell.head();
        if let Some((i, base)) = found.and_then(|i| Some((i, self.log.entries[i].claimed_upon()?)))
        {
            // It was claimed to be written, and is read only now.
            self.stay_consistent(base)?;
            return Ok((i, base));
        }
        let owner = self.owner_or_new();
        let (put, base) = loop {
            let (word, node) = head.load_in(self.pin);
            if word.is_locked() {
                self.wait_for_lock(head)?;
                continue;
            }
            let base = match node.current() {
                Current::Settled(node) => node,
                Current::Owned(Owned { owner: other, .. }) => {
                    self.give_way(other, head)?;
                    continue;
                }
            };
            if base.header().is_dead() {
                // The entry of a map that was buried [V4].
                return Err(self.lose(Loss::Read, Some(head)));
            }
            let over = (word, base);
            if let Some(put) = Access::claim::<T>(self.local, self.pin, head, owner, over) {
                break (put, base);
            }
        };
        let i = found.unwrap_or_else(|| self.log.push(head, Node::<T>::KIND, None));
        self.log.entries[i].note_claim(put);
        self.stay_consistent(base)?;
        Ok((i, base))
    }

    /// Records `value` for the commit, in place of an earlier recorded value.
    #[inline]
    pub(super) fn write<T: Send + Sync + 'static>(
        &mut self,
        cell: &'t VersionedCell<T>,
        value: T,
    ) -> Result<(), Abort> {
        let log = &mut *self.log;
        if log.is_fast() && log.alternatives == 0 {
            // From the end: the last read is the likeliest.
            let mut entries = log.entries.iter_mut().rev();
            let entry = entries.find(|entry| entry.is_of(cell.head()));
            if let Some(entry) = entry.filter(|entry| !entry.is_written()) {
                let _none = entry.write(Draft::new(self.local, value));
                log.writes += 1;
                return Ok(());
            }
        }
        self.write_elsewhere(cell, value)
    }

    #[inline(never)]
    fn write_elsewhere<T: Send + Sync + 'static>(
        &mut self,
        cell: &'t VersionedCell<T>,
        value: T,
    ) -> Result<(), Abort> {
        self.check_running()?;
        let head = cell.head();
        let found = match self.log.find(head) {
            None if self.ladder.owns(head) => Some(self.claim(cell, None)?.0),
            found => found,
        };
        let i = found.unwrap_or_else(|| self.log.push(head, Node::<T>::KIND, None));
        self.write_at(i, value);
        Ok(())
    }

    /// As `write`, to a cell that has an entry.
    #[inline]
    pub(super) fn write_at<T: Send + Sync + 'static>(&mut self, i: usize, value: T) {
        self.write_draft_at(i, Draft::new(self.local, value));
    }

    /// As `write_at`, of a draft.
    #[inline]
    pub(super) fn write_draft_at(&mut self, i: usize, draft: Draft) {
        let replaced = self.log.entries[i].write(draft);
        if replaced.is_none() {
            self.log.writes += 1;
        }
        if replaced.is_some() || self.log.alternatives > 0 {
            self.log.undo.push((i as u32, replaced));
        }
    }

    /// Waits for the transaction that owns a cell, or aborts it [X6].
    #[cold]
    pub(super) fn give_way(&mut self, other: &'t Owner, head: &Head) -> Result<(), Abort> {
        match self.ladder.meet(other, self.owner(), self.local) {
            Ok(()) => {
                // Its closure may run for long: its waiters are notified now [X10].
                if other.rank().is_ranked() && other.status() == Status::Aborted {
                    let woken = &mut self.log.aftermath.woken;
                    woken.grant_all(Event::Decision(other.address()));
                }
                Ok(())
            }
            Err(Met::Overtaken) => Err(self.lose(Loss::Overtaken, Some(head))),
            Err(Met::TimedOut) => Err(self.end(Outlook::TimedOut)),
            Err(Met::Busy) => Err(self.end(Outlook::Owned(other, head.address()))),
        }
    }

    /// Ends the attempt because an entry is locked, unless the lock ends after a short spin. The
    /// attempt owns nothing while it waits [V13].
    #[cold]
    pub(super) fn wait_for_lock(&mut self, head: &'t Head) -> Result<(), Abort> {
        match self.ladder.meet_lock(|| head.load().is_locked()) {
            Ok(()) => Ok(()),
            Err(Met::Overtaken) => Err(self.lose(Loss::Write, Some(head))),
            Err(Met::TimedOut) => Err(self.end(Outlook::TimedOut)),
            Err(Met::Busy) => Err(self.end(Outlook::Locked(head))),
        }
    }

    /// Returns whether the closure has requested a wait. It continues, to try another alternative.
    pub(super) fn resume_after_retry(&mut self) -> bool {
        let Outlook::Retry(timer) = self.outlook else {
            return false;
        };
        self.outlook = timer.map_or(Outlook::Running, Outlook::RunningUntil);
        if !self.ladder.rank.is_ranked() && self.moment.is_none() {
            self.log.allow_fast_path(true);
        }
        true
    }

    /// Returns the version of the value that the closure sees.
    pub(super) fn version(&self, i: usize) -> Version {
        let version = self.seen(i).version();
        match self.log.entries[i].is_written() {
            true => version.next(),
            false => version,
        }
    }
}
