//! How an attempt commits: whole, or not at all.
#![allow(unsafe_code)]

use core::ptr::NonNull;

use super::attempt::Attempt;
use super::error::Abort;
use super::few::{self, Failed, Few};
use super::ladder::Loss;
use super::leave::restore;
use super::log::{Entry, Log};
use crate::mvcc::{
    Current, Head, Header, NodeRef, Owned, Owner, OwnerSlot, Rank, Status, When, Word, clock,
    waiters,
};
use crate::sync::store_load_fence;
use crate::sync::tuning::max_pushes;

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
        let (Some(seen_a), Some(seen_b)) = (a.seen, b.seen) else {
            return false;
        };
        let (Some(node_a), Some(node_b)) = (a.write, b.write) else {
            return false;
        };
        // SAFETY: their cells are borrowed for as long as the attempt lives.
        let heads = [a, b].map(|entry| unsafe { entry.head.as_ref() });
        let (words, bases) = (heads.map(Head::load), [seen_a, seen_b]);
        // A lock of a key in a map keeps all writes away [V12].
        let is_current = words.map(Word::node) == bases && !words.iter().any(|w| w.is_locked());
        let Some(order) = few::order(&heads).filter(|_| is_current) else {
            return false;
        };
        let own = OwnerSlot::new(self.local, Rank::NONE);
        let when = When::owner(own.as_ptr().as_ptr().expose_provenance());
        let few = Few {
            heads,
            kinds: [a.kind, b.kind],
            words,
            nodes: [node_a, node_b],
            order,
        };
        for (node, base) in [(node_a, seen_a), (node_b, seen_b)] {
            // SAFETY: not published yet, and the closure that has seen its value is over; the
            // attempt has found the base, and is pinned since before.
            unsafe { few::place(node, when, base) };
        }
        // SAFETY: the nodes are the attempt's, and placed above; the pin is older than the words.
        match unsafe { few.commit(self.local, &self.pin, own) } {
            Ok(is_waited) => {
                if is_waited {
                    self.wake_two(few.nodes);
                }
                self.forget_replaced();
                true
            }
            Err(failed) => {
                self.note_two(few.order, failed);
                false
            }
        }
    }

    /// Removes the waiters of two cells from their queues, after the commit [X8].
    #[cold]
    #[inline(never)]
    fn wake_two(&mut self, nodes: [NonNull<Header>; 2]) {
        let Log {
            entries, aftermath, ..
        } = &mut **self.log;
        for (entry, node) in entries.iter().zip(nodes) {
            // SAFETY: installed by this thread, under the pin [R1].
            let version = unsafe { node.as_ref() }.version();
            waiters::take_out(&mut aftermath.woken, entry.address(), version);
        }
    }

    /// Records the owner and the nodes that it has installed: the attempt continues with them.
    #[cold]
    #[inline(never)]
    fn note_two(&mut self, order: [usize; 2], failed: Failed) {
        self.owner = Some(failed.own);
        for i in order.into_iter().take(failed.installed) {
            let entry = &mut self.log.entries[i];
            entry.put = entry.write.take();
        }
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
            waiters::take_out(woken, address, header.version());
        }
        self.forget_replaced();
        Ok(())
    }

    /// Installs every write in its cell that is not there yet, in one order for all transactions.
    fn put_all(&mut self, owner: &Owner) -> Result<(), Abort> {
        let when = When::owner(core::ptr::from_ref(owner).expose_provenance());
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

    /// Commits or fails, by one compare-and-swap. Returns the stamp.
    #[inline]
    fn decide(&mut self, owner: &Owner) -> Result<u64, Abort> {
        let Log {
            entries, writes, ..
        } = &**self.log;
        // With a write for each cell, no read needs validation: the attempt owns what it has read.
        if *writes < entries.len() && entries.iter().any(Entry::is_exposed) {
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
        if self.ladder.rank.is_ranked() {
            self.remove_claims();
        }
        let Log {
            entries, aftermath, ..
        } = &mut **self.log;
        let replaced = entries.iter().filter_map(|entry| {
            let node = entry.put?;
            // SAFETY: installed by this thread, under the pin [R1].
            let header = unsafe { node.as_ref() };
            // SAFETY: its cell is borrowed for as long as the attempt lives.
            let head = unsafe { entry.head.as_ref() };
            header.set_when(When::stamp(stamp));
            if head.load().is_waited() {
                let woken = &mut aftermath.woken;
                waiters::take_out(woken, head.address(), header.version());
            }
            let base = entry
                .seen
                .expect("an own node with a value is upon another one");
            Some((base.cast(), entry.kind))
        });
        // SAFETY: superseded by the commit, which belongs to this thread. The nodes on them are
        // stamped, so no thread that pins from now on reaches these [X7].
        unsafe { self.local.retire_all(&self.pin, replaced) };
        self.retire_owner();
    }

    /// Removes the claims that have no value in the end.
    #[cold]
    fn remove_claims(&mut self) {
        for entry in &mut self.log.entries {
            // SAFETY: the attempt's own node, which it has installed under its pin [R1].
            let is_claim = |put: &NonNull<Header>| unsafe { put.as_ref() }.when().is_claim();
            if entry.put.as_ref().is_some_and(is_claim) {
                if let Some(put) = entry.take_put() {
                    // SAFETY: its cell is borrowed for as long as the attempt lives.
                    let head = unsafe { entry.head.as_ref() };
                    restore(self.local, &self.pin, head, entry.kind, put);
                }
            }
        }
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
