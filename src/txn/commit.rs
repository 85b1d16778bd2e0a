//! How an attempt ends: it commits whole, or leaves every cell as it was.
#![allow(unsafe_code)]

use core::mem::ManuallyDrop;
use core::ptr::NonNull;

use super::attempt::Attempt;
use super::error::Abort;
use super::ladder::Loss;
use super::log::{Entry, Log};
use crate::cell::waiters::Woken;
use crate::cell::{Current, Head, Header, Owned, Owner, Status, When, clock};
use crate::reclaim::{Kind, Local};
use crate::sync::tuning::MAX_PUSHES;
use crate::sync::{planted, store_load_fence};

/// What is left to do once the attempt is unpinned.
#[derive(Default)]
pub(super) struct Aftermath {
    /// Those who have waited for what was committed. Out of their queues already: once the attempt is unpinned, a cell
    /// inside a value may be gone, and another lie there [X8].
    pub(super) woken: Woken,
    /// Values that were not written, to be dropped.
    pub(super) unused: Vec<(NonNull<Header>, &'static Kind)>,
}

impl<'t> Attempt<'t> {
    /// Commits what the closure has read and written.
    #[inline]
    pub(super) fn commit(&mut self) -> Result<(), Abort> {
        self.check_running()?;
        // What was read was so at one moment already [X4].
        if self.log.undo.is_empty() {
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
        self.forget_replaced(self.log.order.len());
        Ok(())
    }

    /// Commits a transaction of one cell: a conditional write.
    #[inline]
    fn commit_one(&mut self) -> Result<(), Abort> {
        let (is_waited, base) = self.put(0, When::UNSET)?;
        let entry = &mut self.log.entries[0];
        let node = entry.write.take().expect("it is written");
        // SAFETY: published by this thread, under the pin [R1].
        let header = unsafe { node.as_ref() };
        header.stamp_published();
        // SAFETY: superseded by this compare-and-swap and no other [C2].
        unsafe { self.local.retire(&self.pin, base.cast(), entry.kind) };
        if is_waited {
            let address = entry.address();
            let woken = &mut self.log.aftermath.woken;
            woken.take_out(address, header.version());
        }
        self.forget_replaced(1);
        Ok(())
    }

    /// Puts every write into its cell, in one order for all transactions.
    fn put_all(&mut self) -> Result<(), Abort> {
        let owner = self.owner_or_new();
        let when = When::owner(core::ptr::from_ref(owner).expose_provenance());
        let Log { entries, order, .. } = &mut **self.log;
        order.clear();
        order.extend((0..entries.len() as u32).filter(|i| entries[*i as usize].write.is_some()));
        let address = |i: &u32| entries[*i as usize].address();
        match &mut order[..] {
            [] | [_] => {}
            [a, b] => {
                if address(a) > address(b) {
                    core::mem::swap(a, b);
                }
            }
            more => more.sort_unstable_by_key(address),
        }
        for k in 0..self.log.order.len() {
            let i = self.log.order[k] as usize;
            let (_, base) = self.put(i, when)?;
            let entry = &mut self.log.entries[i];
            let node = entry.write.take().expect("it is written");
            entry.put = Some((node, base));
        }
        Ok(())
    }

    /// Puts a write into its cell, on the node that was read. Returns whether somebody waits for the cell, and
    /// that node.
    #[inline]
    fn put(&mut self, i: usize, when: When) -> Result<(bool, NonNull<Header>), Abort> {
        let head = self.head(i);
        let entry = &self.log.entries[i];
        let (kind, seen, claim) = (entry.kind, entry.seen, entry.put);
        let mut node = entry.write.expect("it is written");
        loop {
            let word = head.load();
            let base = match claim {
                Some((claim, base)) if word.node() == claim => base,
                // Somebody has aborted this attempt, and has written.
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
            // SAFETY: not published yet, so that its header is ours; the closure that has seen its value is over.
            unsafe { node.as_mut() }.place(when, self.node(base));
            let put = if when == When::UNSET {
                head.replace(word, node)
            } else {
                head.replace_marked(word, node)
            };
            if put.is_ok() {
                if word.node() != base {
                    // SAFETY: the claim, or what an aborted transaction has left: unlinked by this
                    // compare-and-swap and no other [X7].
                    unsafe { self.local.retire(&self.pin, word.node().cast(), kind) };
                }
                return Ok((word.is_waited(), base));
            }
        }
    }

    /// Waits for who owns a cell, or aborts it [X6].
    #[cold]
    pub(super) fn give_way(&mut self, other: &Owner, head: &Head) -> Result<(), Abort> {
        let (own, thread) = (self.owner(), self.local.thread());
        match self.ladder.meet(other, own, thread) {
            Ok(()) => Ok(()),
            Err(()) => Err(self.lose(Loss::Overtaken, Some(head))),
        }
    }

    /// Commits or fails, by one compare-and-swap. Returns the stamp.
    fn decide(&mut self) -> Result<u64, Abort> {
        let owner = self.owner_or_new();
        let exposed = self.log.entries.iter().any(Entry::is_exposed);
        let mut pushes = 0;
        loop {
            let status = owner.status();
            match status {
                Status::Aborted => return Err(self.lose(Loss::Overtaken, None)),
                Status::Committed(stamp) => return Ok(stamp),
                Status::Undecided(_) | Status::Prepared(_) => {}
            }
            // Whoever takes a snapshot from now on finds what was put [X5].
            store_load_fence();
            let stamp = clock::now();
            let committed = Status::Committed(stamp);
            if !exposed {
                if owner.change(status, committed).is_ok() {
                    return Ok(stamp);
                }
                continue;
            }
            let prepared = Status::Prepared(stamp);
            if owner.change(status, prepared).is_err() {
                continue;
            }
            // Of two that each write what the other has read, at least one sees it [X3].
            store_load_fence();
            self.validate()?;
            if owner.change(prepared, committed).is_ok() {
                return Ok(stamp);
            }
            // Readers and snapshots can do this for ever, but not to one that owns all that it has read [X6].
            pushes += 1;
            if pushes > MAX_PUSHES {
                return Err(self.lose(Loss::Overtaken, None));
            }
        }
    }

    /// Looks whether every cell that was only read still has what was read, and is nobody else's.
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

    /// Says in every cell what the commit has decided, and gives up what it has replaced.
    fn clean_up(&mut self, stamp: u64) {
        // Whoever waits from now on finds the commit; who waits already is found [C5].
        store_load_fence();
        for i in 0..self.log.entries.len() {
            let Some((node, base)) = self.log.entries[i].put.take() else {
                continue;
            };
            // SAFETY: put by this thread, under the pin [R1].
            let header = unsafe { node.as_ref() };
            if header.when().is_claim() {
                self.restore(i, node, base);
                continue;
            }
            header.set_when(When::stamp(stamp));
            let (head, kind) = (self.head(i), self.log.entries[i].kind);
            if head.load().is_waited() {
                let woken = &mut self.log.aftermath.woken;
                woken.take_out(head.address(), header.version());
            }
            // SAFETY: superseded by the commit, which is this thread's; the node on it is stamped, so that nobody who
            // pins from now on comes here [X7].
            unsafe { self.local.retire(&self.pin, base.cast(), kind) };
        }
        self.retire_owner();
    }

    /// Leaves every cell as it was.
    pub(super) fn roll_back(&mut self) {
        if let Some(owner) = self.owner() {
            owner.kill();
        }
        self.undo_to(0);
        for i in 0..self.log.entries.len() {
            if let Some((node, base)) = self.log.entries[i].put.take() {
                self.restore(i, node, base);
            }
        }
        self.retire_owner();
    }

    /// Forgets, after a commit of so many writes, what they have replaced inside the attempt.
    #[inline]
    fn forget_replaced(&mut self, writes: usize) {
        if self.log.undo.len() == writes {
            self.log.undo.clear();
        } else {
            self.undo_to(0);
        }
    }

    /// Forgets the writes that were made after the log of writes was this long.
    pub(super) fn undo_to(&mut self, len: usize) {
        while self.log.undo.len() > len {
            let (i, before) = self.log.undo.pop().expect("it is longer");
            let entry = &mut self.log.entries[i as usize];
            let kind = entry.kind;
            let unused = core::mem::replace(&mut entry.write, before);
            let unused = unused.map(|node| (node, kind));
            self.log.aftermath.unused.extend(unused);
        }
    }

    /// Puts back what the attempt's own node was put upon, unless somebody has replaced it, who then
    /// retires it.
    fn restore(&self, i: usize, node: NonNull<Header>, base: NonNull<Header>) {
        let (head, kind) = (self.head(i), self.log.entries[i].kind);
        loop {
            let word = head.load();
            if word.node() != node {
                return;
            }
            if head.replace_marked(word, base).is_ok() {
                // SAFETY: unlinked by this compare-and-swap and no other [X7].
                unsafe { self.local.retire(&self.pin, node.cast(), kind) };
                return;
            }
        }
    }

    fn retire_owner(&mut self) {
        if self.owner.take().is_some() {
            // Every node of its own has been unlinked or stamped [X1].
            self.log.end_owner(self.local, &self.pin);
        }
    }
}

impl Drop for Attempt<'_> {
    /// Ends it: also where the closure has panicked.
    #[inline]
    fn drop(&mut self) {
        if self.owner.is_some() || !self.log.undo.is_empty() {
            self.roll_back();
        }
        // SAFETY: it is not used again.
        let pin = unsafe { ManuallyDrop::take(&mut self.pin) };
        // SAFETY: as above.
        let mut log = unsafe { ManuallyDrop::take(&mut self.log) };
        drop(pin);
        if !log.aftermath.is_empty() {
            core::mem::take(&mut log.aftermath).settle(self.local);
        }
        log.put_away();
    }
}

impl Aftermath {
    #[inline]
    fn is_empty(&self) -> bool {
        self.unused.is_empty() && self.woken.is_empty()
    }

    /// Runs user code: wakers and destructors, all of them, also if one panics.
    #[cold]
    pub(super) fn settle(self, local: &Local) {
        let Aftermath { mut woken, unused } = self;
        let mut unused = Unused { unused, local };
        // If one of either panics, the rest follows as the panic passes.
        woken.run();
        unused.release();
    }
}

/// Values to be dropped, each once, also if a destructor panics.
struct Unused<'a> {
    unused: Vec<(NonNull<Header>, &'static Kind)>,
    local: &'a Local,
}

impl Unused<'_> {
    fn release(&mut self) {
        while let Some((node, kind)) = self.unused.pop() {
            // SAFETY: never published, so that its one share is ours.
            unsafe { self.local.release_now(node.cast(), kind) };
        }
    }
}

impl Drop for Unused<'_> {
    fn drop(&mut self) {
        self.release();
    }
}
