//! How an attempt commits: whole, or not at all.
#![allow(unsafe_code)]

use core::ptr::NonNull;

use super::attempt::{Attempt, Outlook};
use super::error::Abort;
use super::ladder::{Loss, Met};
use super::leave::restore;
use super::log::{Entry, Log};
use crate::cell::{Current, Head, Header, NodeRef, Owned, Owner, Status, When, Word, clock};
use crate::sync::tuning::max_pushes;
use crate::sync::{planted, store_load_fence};

/// A node that was installed in a cell.
struct Put {
    node: NonNull<Header>,
    /// The previous node of the cell.
    base: NonNull<Header>,
    /// Whether the cell has waiters.
    is_waited: bool,
}

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
        self.put_all()?;
        let stamp = self.decide()?;
        self.clean_up(stamp);
        self.forget_replaced();
        Ok(())
    }

    /// Commits a transaction of one cell: a conditional write.
    #[inline(always)]
    fn commit_one(&mut self) -> Result<(), Abort> {
        let put = self.put(0, When::UNSET)?;
        // SAFETY: published by this thread, under the pin [R1].
        let header = unsafe { put.node.as_ref() };
        header.stamp_published();
        let entry = &self.log.entries[0];
        // SAFETY: superseded by this compare-and-swap and no other [C2].
        unsafe { self.local.retire(&self.pin, put.base.cast(), entry.kind) };
        if put.is_waited {
            let address = entry.address();
            let woken = &mut self.log.aftermath.woken;
            woken.take_out(address, header.version());
        }
        self.forget_replaced();
        Ok(())
    }

    /// Installs every write in its cell, in one order for all transactions.
    #[inline]
    fn put_all(&mut self) -> Result<(), Abort> {
        let owner = self.owner_or_new();
        let when = When::owner(core::ptr::from_ref(owner).expose_provenance());
        // The most frequent case: two cells whose reads are current.
        let is_done = match &mut self.log.entries[..] {
            [a, b] if a.address() < b.address() => a.put_upon_seen(when) && b.put_upon_seen(when),
            [a, b] => b.put_upon_seen(when) && a.put_upon_seen(when),
            _ => false,
        };
        match is_done {
            true => Ok(()),
            false => self.put_many(when),
        }
    }

    /// Installs the rest of the writes.
    #[inline(never)]
    fn put_many(&mut self, when: When) -> Result<(), Abort> {
        let Log { entries, order, .. } = &mut **self.log;
        order.clear();
        order.extend((0..entries.len() as u32).filter(|i| entries[*i as usize].write.is_some()));
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
    fn put(&mut self, i: usize, when: When) -> Result<Put, Abort> {
        match self.log.entries[i].put(when) {
            Some(put) => Ok(put),
            None => self.put_slow(i, when),
        }
    }

    #[cold]
    #[inline(never)]
    fn put_slow(&mut self, i: usize, when: When) -> Result<Put, Abort> {
        let head = self.head(i);
        let entry = &self.log.entries[i];
        let (kind, seen, claim, upon) = (entry.kind, entry.seen, entry.put, entry.put_upon());
        let mut node = entry.write.expect("it is written");
        loop {
            let word = head.load();
            if word.is_locked() {
                self.wait_for_lock(head)?;
                continue;
            }
            let base = match claim {
                Some(claim) if word.node() == claim => upon.expect("a claim has a previous node"),
                // Another thread has aborted this attempt, and has written.
                Some(_) => return Err(self.lose(Loss::Overtaken, Some(head))),
                None => match self.node(word.node()).current() {
                    Current::Settled(node) => node.as_ptr(),
                    Current::Owned(Owned { owner: other, .. }) => {
                        self.give_way(other, head)?;
                        continue;
                    }
                },
            };
            if seen.is_some_and(|seen| seen != base) {
                return Err(self.lose(Loss::Write, Some(head)));
            }
            // SAFETY: not published yet, so that its header is ours; the closure that has seen its
            // value is over.
            unsafe { node.as_mut() }.place(when, self.node(base));
            if exchange(head, word, node, when) {
                if word.node() != base {
                    // SAFETY: the claim, or the node of an aborted transaction: unlinked by this
                    // compare-and-swap and no other [X7].
                    unsafe { self.local.retire(&self.pin, word.node().cast(), kind) };
                }
                let is_waited = word.is_waited();
                return Ok(Put {
                    node,
                    base,
                    is_waited,
                });
            }
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
                    woken.take_out_of_owner(other.address());
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

    /// Commits or fails, by one compare-and-swap. Returns the stamp.
    fn decide(&mut self) -> Result<u64, Abort> {
        let owner = self.owner_or_new();
        let Log {
            entries, writes, ..
        } = &**self.log;
        let exposed = *writes < entries.len() && entries.iter().any(Entry::is_exposed);
        let mut pushes = 0;
        loop {
            let status = if !exposed && pushes >= max_pushes() {
                // From now on a snapshot that finds the transaction decides instead [X9].
                owner.close()
            } else {
                owner.status()
            };
            match status {
                Status::Aborted => return Err(self.lose(Loss::Overtaken, None)),
                Status::Committed(stamp) => return Ok(stamp),
                Status::Undecided(_) | Status::Closing(_) | Status::Prepared(_) => {}
            }
            // A thread that begins a snapshot from now on finds the installed nodes [X5].
            store_load_fence();
            let stamp = clock::commit_timestamp();
            let committed = Status::Committed(stamp);
            let decided = if exposed {
                let prepared = Status::Prepared(stamp);
                owner.change(status, prepared).is_ok() && {
                    // Of two transactions that each write a read of the other, at least one detects
                    // it [X3].
                    store_load_fence();
                    self.validate()?;
                    owner.change(prepared, committed).is_ok()
                }
            } else {
                owner.change(status, committed).is_ok()
            };
            if decided {
                return Ok(stamp);
            }
            pushes += 1;
            // The next attempt has an age, and then owns all cells that it reads.
            if exposed && pushes > max_pushes() {
                return Err(self.lose(Loss::Overtaken, None));
            }
        }
    }

    /// Checks whether every cell that was only read is unchanged, and is not owned by another
    /// transaction.
    fn validate(&mut self) -> Result<(), Abort> {
        if planted("commit without validation") {
            return Ok(());
        }
        for i in 0..self.log.entries.len() {
            if !self.log.entries[i].is_exposed() {
                continue;
            }
            let (head, seen) = (self.head(i), self.seen(i));
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
        let Log {
            entries, aftermath, ..
        } = &mut **self.log;
        for entry in &*entries {
            let Some(node) = entry.put else { continue };
            // A claim of a cell that the closure has neither read nor, in the end, written has its
            // base in the node.
            let base = entry.seen.or_else(|| entry.claimed_upon());
            let base = base.expect("an own node has a previous one");
            // SAFETY: installed by this thread, under the pin [R1].
            let header = unsafe { node.as_ref() };
            // SAFETY: its cell is borrowed for as long as the attempt lives.
            let head = unsafe { entry.head.as_ref() };
            if header.when().is_claim() {
                restore(self.local, &self.pin, head, entry.kind, (node, base));
                continue;
            }
            header.set_when(When::stamp(stamp));
            if head.load().is_waited() {
                let woken = &mut aftermath.woken;
                woken.take_out(head.address(), header.version());
            }
            // SAFETY: superseded by the commit, which belongs to this thread. The node on it is
            // stamped, so no thread that pins from now on reaches this one [X7].
            unsafe { self.local.retire(&self.pin, base.cast(), entry.kind) };
        }
        self.retire_owner();
    }
}

impl Entry {
    /// Installs the write over the node that was read. `None`: the cell was not read, or has
    /// another node.
    #[inline(always)]
    fn put(&self, when: When) -> Option<Put> {
        let (Some(base), Some(mut node), None) = (self.seen, self.write, self.put) else {
            return None;
        };
        // SAFETY: its cell is borrowed for as long as the attempt lives.
        let head = unsafe { self.head.as_ref() };
        let word = head.load();
        // Nor if the entry is locked [V12].
        if !word.is_free(base) {
            return None;
        }
        // SAFETY: the attempt has found it, and is pinned since before [R1].
        let upon = unsafe { NodeRef::new(base) };
        // SAFETY: not published yet, so that its header is ours; the closure that has seen its
        // value is over.
        unsafe { node.as_mut() }.place(when, upon);
        let is_waited = word.is_waited();
        exchange(head, word, node, when).then_some(Put {
            node,
            base,
            is_waited,
        })
    }

    /// As `put`, by an owner. `false`: not done.
    #[inline(always)]
    fn put_upon_seen(&mut self, when: When) -> bool {
        let put = self.put(when);
        put.map(|put| self.note(put)).is_some()
    }

    /// Records an installed node, which is removed if the attempt aborts.
    #[inline(always)]
    fn note(&mut self, put: Put) {
        self.write = None;
        self.seen = Some(put.base);
        self.put = Some(put.node);
    }
}

/// Installs a node in a cell. A node of an owner keeps the mark of the waiters until the owner has
/// committed.
#[inline(always)]
fn exchange(head: &Head, seen: Word, node: NonNull<Header>, when: When) -> bool {
    if when == When::UNSET {
        head.replace(seen, node).is_ok()
    } else {
        head.replace_marked(seen, node)
    }
}
