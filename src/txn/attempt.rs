//! One attempt: what it reads, and that it never sees a state that never was.
#![allow(unsafe_code)]

use core::mem::ManuallyDrop;
use core::ptr::NonNull;

use super::error::Abort;
use super::ladder::{Ladder, Loss};
use super::log::Log;
use crate::cell::{
    Current, Head, Header, Node, NodeRef, Owned, Owner, Status, Version, VersionedCell, clock,
};
use crate::reclaim::{CellPin, Local};
use crate::sync::load_load_fence;
use crate::sync::tuning::LINEAR_CELLS;

/// How an attempt stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outlook {
    Running,
    /// It was lost, at the cell of this address if at one.
    Lost(Loss, Option<usize>),
    /// The closure wants to wait for a change.
    Retry,
}

pub(super) struct Attempt<'t> {
    pub(super) local: &'t Local,
    pub(super) ladder: &'t mut Ladder,
    pub(super) log: ManuallyDrop<Box<Log>>,
    pub(super) owner: Option<NonNull<Owner>>,
    pub(super) outlook: Outlook,
    /// What was read was so at this moment of the clock. `None` while all of it is looked through at each read.
    moment: Option<u64>,
    /// Keeps all that the attempt has seen [R1].
    pub(super) pin: ManuallyDrop<CellPin>,
}

impl<'t> Attempt<'t> {
    #[inline(always)]
    pub(super) fn new(local: &'t Local, ladder: &'t mut Ladder) -> Self {
        Attempt {
            local,
            ladder,
            log: ManuallyDrop::new(Log::take()),
            owner: None,
            outlook: Outlook::Running,
            moment: None,
            pin: ManuallyDrop::new(local.pin()),
        }
    }

    #[cold]
    pub(super) fn lose(&mut self, loss: Loss, at: Option<&Head>) -> Abort {
        if self.outlook == Outlook::Running {
            self.outlook = Outlook::Lost(loss, at.map(Head::address));
        }
        Abort(())
    }

    #[inline]
    pub(super) fn check_running(&self) -> Result<(), Abort> {
        match self.outlook {
            Outlook::Running => Ok(()),
            _ => Err(Abort(())),
        }
    }

    #[inline]
    pub(super) fn owner(&self) -> Option<&'t Owner> {
        // SAFETY: this attempt's own, and retired when it is over.
        self.owner.map(|owner| unsafe { &*owner.as_ptr() })
    }

    #[inline]
    pub(super) fn owner_or_new(&mut self) -> &'t Owner {
        let owner = match self.owner {
            Some(owner) => owner,
            None => {
                let owner = Owner::new(self.ladder.rank, self.local.thread());
                *self.owner.insert(self.log.make_owner(self.local, owner))
            }
        };
        // SAFETY: as in `owner`.
        unsafe { &*owner.as_ptr() }
    }

    /// The cell of an entry.
    #[inline(always)]
    pub(super) fn head(&self, i: usize) -> &'t Head {
        // SAFETY: this attempt has put it there, from a cell that is borrowed for `'t`.
        unsafe { self.log.entries[i].head.as_ref() }
    }

    /// A node of an entry, or one that was just loaded from a head.
    #[inline(always)]
    pub(super) fn node(&self, node: NonNull<Header>) -> NodeRef<'t> {
        // SAFETY: this attempt has found or made it, and is pinned since before [R1] [X1].
        unsafe { NodeRef::new(node) }
    }

    /// What a cell has.
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
            found => self.observe_first(cell, found),
        }
    }

    /// As `observe`, of a cell that has not been read before.
    #[inline]
    fn observe_first<T: Send + Sync + 'static>(
        &mut self,
        cell: &'t VersionedCell<T>,
        found: Option<usize>,
    ) -> Result<usize, Abort> {
        let head = cell.head();
        if self.ladder.owns(head) {
            return self.claim(cell, found);
        }
        // What was read before comes before this: a transaction that has not put its node here yet will not overlook
        // it [X3].
        load_load_fence();
        let node = self.current_at_moment(head);
        let seen = Some(node.as_ptr());
        let i = match found {
            Some(i) => {
                self.log.entries[i].seen = seen;
                i
            }
            None => self.log.push(head, Node::<T>::KIND, seen),
        };
        self.stay_consistent(i)?;
        Ok(i)
    }

    /// The node of a cell that has been read.
    #[inline(always)]
    pub(super) fn seen(&self, i: usize) -> NodeRef<'t> {
        self.node(self.log.entries[i].seen.expect("it was observed"))
    }

    /// The entry of a cell, and the value that the closure is to see: what it has written itself, or what the cell has.
    #[inline]
    pub(super) fn value<T: Send + Sync + 'static>(
        &mut self,
        cell: &'t VersionedCell<T>,
    ) -> Result<(usize, &'t T), Abort> {
        self.check_running()?;
        let found = self.log.find(cell.head());
        let entry = found.map(|i| (i, &self.log.entries[i]));
        // What it has written is kept until the attempt is over, also if it is replaced or forgotten.
        let known = entry.and_then(|(i, entry)| Some((i, entry.write.or(entry.seen)?)));
        let (i, node) = match known {
            Some((i, node)) => (i, self.node(node)),
            None => {
                let i = self.observe_first(cell, found)?;
                (i, self.seen(i))
            }
        };
        // SAFETY: the entry is that of this cell, whose nodes have a `T`; neither is a claim.
        Ok((i, unsafe { node.value() }))
    }

    /// What a cell has, and had at the moment at which the attempt reads: who owns it now will commit later.
    #[inline(always)]
    fn current_at_moment(&self, head: &Head) -> NodeRef<'t> {
        let node = self.node(head.load().node());
        if node.header().when().as_stamp().is_some() {
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

    /// Makes sure that all that was read was so at one moment, once entry `i` was [X4].
    #[inline]
    fn stay_consistent(&mut self, i: usize) -> Result<(), Abort> {
        let len = self.log.entries.len();
        if len > 1 {
            match self.moment {
                None if len <= LINEAR_CELLS => self.look_through(i)?,
                Some(moment) if self.stamp(i) <= moment => {}
                _ => self.advance()?,
            }
        }
        self.check_alive()
    }

    fn stamp(&self, i: usize) -> u64 {
        let stamp = self.seen(i).header().when().as_stamp();
        stamp.expect("a node with the current value is stamped")
    }

    /// Whether nobody has aborted the attempt, and may have taken a cell that it owned.
    #[inline]
    fn check_alive(&mut self) -> Result<(), Abort> {
        match self.owner() {
            Some(owner) if owner.status() == Status::Aborted => {
                Err(self.lose(Loss::Overtaken, None))
            }
            _ => Ok(()),
        }
    }

    /// Looks whether every other cell still has what was read: then all of it was so when the newest was read.
    #[inline]
    fn look_through(&mut self, newest: usize) -> Result<(), Abort> {
        for i in 0..self.log.entries.len() {
            if i == newest || !self.log.entries[i].is_exposed() || self.still_has(i) {
                continue;
            }
            return Err(self.lose(Loss::Read, Some(self.head(i))));
        }
        Ok(())
    }

    /// Whether a cell still has what was read, whoever owns it.
    #[inline]
    fn still_has(&self, i: usize) -> bool {
        let (head, seen) = (self.head(i), self.seen(i));
        head.load().node() == seen.as_ptr() || self.current_at_moment(head) == seen
    }

    /// Reads at a new moment from now on, if what was read before is still so [X4].
    #[cold]
    fn advance(&mut self) -> Result<(), Abort> {
        self.moment = Some(clock::advance());
        self.look_through(usize::MAX)
    }

    /// Owns a cell that the closure has just come to, so that nobody else changes it before the commit [X6].
    #[cold]
    fn claim<T: Send + Sync + 'static>(
        &mut self,
        cell: &'t VersionedCell<T>,
        found: Option<usize>,
    ) -> Result<usize, Abort> {
        let head = cell.head();
        let owner = self.owner_or_new();
        let put = loop {
            let word = head.load();
            let base = match self.node(word.node()).current() {
                Current::Settled(node) => node,
                Current::Owned(Owned { owner: other, .. }) => {
                    self.give_way(other, head)?;
                    continue;
                }
            };
            let node = self.local.allocate(Node::<T>::claim(base, owner));
            if head.replace_marked(word, node.cast()).is_ok() {
                if word.node() != base.as_ptr() {
                    // SAFETY: unlinked by this compare-and-swap and no other [X7].
                    unsafe {
                        self.local
                            .retire(&self.pin, word.node().cast(), Node::<T>::KIND)
                    };
                }
                break (node.cast::<Header>(), base.as_ptr());
            }
            // SAFETY: it was not published, so that it is ours.
            let _unused = unsafe { self.local.take_back(node) };
        };
        let i = found.unwrap_or_else(|| self.log.push(head, Node::<T>::KIND, None));
        let entry = &mut self.log.entries[i];
        entry.seen = Some(put.1);
        entry.put = Some(put);
        self.stay_consistent(i)?;
        Ok(i)
    }

    /// Has the attempt write `value`, in place of what it was to write before.
    #[inline]
    pub(super) fn write<T: Send + Sync + 'static>(
        &mut self,
        cell: &'t VersionedCell<T>,
        value: T,
    ) -> Result<(), Abort> {
        self.check_running()?;
        let head = cell.head();
        let found = match self.log.find(head) {
            None if self.ladder.owns(head) => Some(self.claim(cell, None)?),
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
        let replaced = self.log.entries[i].write.replace(node);
        self.log.undo.push((i as u32, replaced));
    }

    /// The version of what the closure is to see.
    pub(super) fn version(&self, i: usize) -> Version {
        let version = self.seen(i).version();
        match self.log.entries[i].write {
            Some(_) => version.next(),
            None => version,
        }
    }
}
