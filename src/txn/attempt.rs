//! One attempt: its reads, which never show an inconsistent state.
#![allow(unsafe_code)]

use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use std::time::{Duration, Instant};

use super::error::Abort;
use super::ladder::{Ladder, Loss, Met};
use super::log::{Entry, Log};
use crate::cell::VersionedCell;
use crate::cell::limit::earlier;
use crate::mvcc::{
    Current, Head, Header, Node, NodeRef, Owned, Owner, OwnerSlot, Status, Version, clock,
};
use crate::park::Event;
use crate::reclaim::{CellPin, Local};
use crate::sync::tuning::LINEAR_CELLS;
use crate::sync::{load_load_fence, now};

/// How an attempt stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outlook {
    Running,
    /// The same, and an alternative has requested a wait no longer than this.
    RunningUntil(Timer),
    /// It was lost, at the cell of this address if at one.
    Lost(Loss, Option<usize>),
    /// A transaction owns the cell of this address, and notifies the task when it ends.
    Owned(NonNull<Owner>, usize),
    /// The cell is that of an entry of a map, which is locked [V13].
    Locked(NonNull<Head>),
    /// The deadline has passed while it waited for an owner.
    TimedOut,
    /// The closure requests a wait for a change, no longer than this.
    Retry(Option<Timer>),
}

impl Outlook {
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
    pub(super) log: ManuallyDrop<Box<Log>>,
    pub(super) owner: Option<OwnerSlot>,
    pub(super) outlook: Outlook,
    /// An attempt with fewer entries reads by the fast path: it is running, has no age, and
    /// validates all reads at each read.
    fast_below: usize,
    /// The timestamp at which the reads were current. `None` while each read validates all earlier
    /// reads.
    moment: Option<u64>,
    /// Keeps all that the attempt has seen [R1].
    pub(super) pin: ManuallyDrop<CellPin>,
}

impl<'t> Attempt<'t> {
    #[inline(always)]
    pub(super) fn new(local: &'t Local, ladder: &'t Ladder) -> Self {
        let mut log = Log::take();
        if ladder.rank.is_ranked() {
            log.outer = ladder.rank.enter();
        }
        Attempt {
            local,
            ladder,
            log: ManuallyDrop::new(log),
            owner: None,
            outlook: Outlook::Running,
            fast_below: match ladder.rank.is_ranked() {
                false => LINEAR_CELLS,
                true => 0,
            },
            moment: None,
            pin: ManuallyDrop::new(local.pin()),
        }
    }

    #[cold]
    pub(super) fn lose(&mut self, loss: Loss, at: Option<&Head>) -> Abort {
        self.end(Outlook::Lost(loss, at.map(Head::address)))
    }

    /// The attempt ends like this, unless it has ended already.
    #[cold]
    pub(super) fn end(&mut self, outlook: Outlook) -> Abort {
        if self.outlook.is_running() {
            self.outlook = outlook;
        }
        self.fast_below = 0;
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
        let owner = self.owner.as_ref()?.as_ptr();
        // SAFETY: this attempt's own, and retired when it is over.
        Some(unsafe { &*owner.as_ptr() })
    }

    #[inline]
    pub(super) fn owner_or_new(&mut self) -> &'t Owner {
        let new = || OwnerSlot::new(self.local, self.ladder.rank);
        let owner = self.owner.get_or_insert_with(new).as_ptr();
        // SAFETY: as in `owner`.
        unsafe { &*owner.as_ptr() }
    }

    /// The cell of an entry.
    #[inline(always)]
    pub(super) fn head(&self, i: usize) -> &'t Head {
        self.head_of(&self.log.entries[i])
    }

    #[inline(always)]
    pub(super) fn head_of(&self, entry: &Entry) -> &'t Head {
        // SAFETY: this attempt has stored it, from a cell that is borrowed for `'t`.
        unsafe { entry.head.as_ref() }
    }

    /// A node of an entry, or one that was just loaded from a head.
    #[inline(always)]
    pub(super) fn node(&self, node: NonNull<Header>) -> NodeRef<'t> {
        // SAFETY: this attempt has found or made it, and is pinned since before [R1] [X1].
        unsafe { NodeRef::new(node) }
    }

    /// Returns the state of a cell.
    #[inline(always)]
    pub(super) fn current(&self, head: &Head) -> Current<'t> {
        self.node(head.load().node()).current()
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

    /// Returns the state of a cell that is not in the log, by the fast path. The words of the cells
    /// alone must show that all reads are still current [X4].
    #[inline(always)]
    pub(super) fn undisturbed(&self, head: &Head) -> Option<NodeRef<'t>> {
        let entries = &self.log.entries;
        if entries.len() >= self.fast_below {
            return None;
        }
        // As in `observe_first`.
        load_load_fence();
        let node = self.node(head.load().node());
        node.stamp()?;
        let is_still_so = |entry: &Entry| {
            let word = self.head_of(entry).load();
            entry.head != head.into() && entry.seen.is_none_or(|seen| word.node() == seen)
        };
        // From the end: a repeated read is most often the last one.
        entries.iter().rev().all(is_still_so).then_some(node)
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
            self.log.entries[i].seen = Some(base.as_ptr());
            return Ok((i, base));
        }
        // The earlier reads happen before this load. A transaction that has not installed its node
        // here yet will not miss them [X3].
        load_load_fence();
        let node = self.current_at_moment(head);
        let i = match found {
            Some(i) => {
                self.log.entries[i].seen = Some(node.as_ptr());
                i
            }
            None => self.log.push(head, Node::<T>::KIND, Some(node.as_ptr())),
        };
        if self.log.entries.len() > 1 || self.owner.is_some() {
            self.stay_consistent(node)?;
        }
        Ok((i, node))
    }

    /// The node of a cell that has been read.
    #[inline(always)]
    pub(super) fn seen(&self, i: usize) -> NodeRef<'t> {
        self.node(self.log.entries[i].seen.expect("it was observed"))
    }

    /// Returns the entry of a cell, and the value for the closure: its own write, or else the
    /// committed value.
    #[inline(always)]
    pub(super) fn value<T: Send + Sync + 'static>(
        &mut self,
        cell: &'t VersionedCell<T>,
    ) -> Result<(usize, &'t T), Abort> {
        let (i, node) = match self.undisturbed(cell.head()) {
            Some(node) => {
                let (head, seen) = (cell.head(), Some(node.as_ptr()));
                // SAFETY: it has fewer entries than need an index.
                (
                    unsafe { self.log.push_early(head, Node::<T>::KIND, seen) },
                    node,
                )
            }
            None => self.value_disturbed(cell)?,
        };
        // SAFETY: the entry is that of this cell, whose nodes have a `T`; neither is a claim.
        Ok((i, unsafe { node.value() }))
    }

    #[inline(never)]
    fn value_disturbed<T: Send + Sync + 'static>(
        &mut self,
        cell: &'t VersionedCell<T>,
    ) -> Result<(usize, NodeRef<'t>), Abort> {
        self.check_running()?;
        let Some(i) = self.log.find(cell.head()) else {
            return self.observe_first(cell, None);
        };
        let entry = &self.log.entries[i];
        // A written value is kept until the attempt has ended, including when it is replaced or
        // discarded.
        match entry.write.or(entry.seen) {
            Some(node) => Ok((i, self.node(node))),
            None => self.observe_first(cell, Some(i)),
        }
    }

    /// Returns the state of a cell at the read time of the attempt. A transaction that owns the
    /// cell now will commit later.
    #[inline(always)]
    fn current_at_moment(&self, head: &Head) -> NodeRef<'t> {
        let node = self.node(head.load().node());
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
            exposed.is_some_and(|seen| !self.still_has(self.head_of(entry), self.node(seen)))
        });
        match changed.map(|entry| self.head_of(entry)) {
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
        self.fast_below = 0;
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
            let base = self.node(base);
            self.stay_consistent(base)?;
            return Ok((i, base));
        }
        let owner = self.owner_or_new();
        let (put, base) = loop {
            let word = head.load();
            if word.is_locked() {
                self.wait_for_lock(head)?;
                continue;
            }
            let base = match self.node(word.node()).current() {
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
            let node = Node::<T>::claim(self.local, base, owner);
            if head.replace_marked(word, node.cast()) {
                if word.node() != base.as_ptr() {
                    // SAFETY: unlinked by this compare-and-swap and no other [X7].
                    unsafe {
                        self.local
                            .retire(&self.pin, word.node().cast(), Node::<T>::KIND)
                    };
                }
                break (node.cast::<Header>(), base);
            }
            // SAFETY: it was not published, so that its one share is ours. A claim has no value to
            // drop.
            unsafe { self.local.release_now(node.cast(), Node::<T>::KIND) };
        };
        let i = found.unwrap_or_else(|| self.log.push(head, Node::<T>::KIND, None));
        self.log.entries[i].put = Some(put);
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
        let log = &mut **self.log;
        if log.entries.len() <= self.fast_below && log.alternatives == 0 {
            // From the end: the last read is the likeliest.
            let mut entries = log.entries.iter_mut().rev();
            let entry = entries.find(|entry| entry.head == cell.head().into());
            if let Some(entry) = entry.filter(|entry| entry.write.is_none()) {
                entry.write = Some(self.local.allocate(Node::draft(value)).cast());
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
        let node = self.local.allocate(Node::draft(value)).cast();
        self.write_node_at(i, node);
    }

    /// As `write_at`, of a draft.
    #[inline]
    pub(super) fn write_node_at(&mut self, i: usize, node: NonNull<Header>) {
        let replaced = self.log.entries[i].write.replace(node);
        if replaced.is_none() {
            self.log.writes += 1;
        }
        if replaced.is_some() || self.log.alternatives > 0 {
            self.log.undo.push((i as u32, replaced));
        }
    }

    /// Waits for the transaction that owns a cell, or aborts it [X6].
    #[cold]
    pub(super) fn give_way(&mut self, other: &Owner, head: &Head) -> Result<(), Abort> {
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
            Err(Met::Busy) => Err(self.end(Outlook::Owned(other.into(), head.address()))),
        }
    }

    /// Ends the attempt because an entry is locked, unless the lock ends after a short spin. The
    /// attempt owns nothing while it waits [V13].
    #[cold]
    pub(super) fn wait_for_lock(&mut self, head: &Head) -> Result<(), Abort> {
        match self.ladder.meet_lock(|| head.load().is_locked()) {
            Ok(()) => Ok(()),
            Err(Met::Overtaken) => Err(self.lose(Loss::Write, Some(head))),
            Err(Met::TimedOut) => Err(self.end(Outlook::TimedOut)),
            Err(Met::Busy) => Err(self.end(Outlook::Locked(head.into()))),
        }
    }

    /// Returns whether the closure has requested a wait. It continues, to try another alternative.
    pub(super) fn resume_after_retry(&mut self) -> bool {
        let Outlook::Retry(timer) = self.outlook else {
            return false;
        };
        self.outlook = timer.map_or(Outlook::Running, Outlook::RunningUntil);
        if !self.ladder.rank.is_ranked() && self.moment.is_none() {
            self.fast_below = LINEAR_CELLS;
        }
        true
    }

    /// Returns the version of the value that the closure sees.
    pub(super) fn version(&self, i: usize) -> Version {
        let version = self.seen(i).version();
        match self.log.entries[i].write {
            Some(_) => version.next(),
            None => version,
        }
    }
}
