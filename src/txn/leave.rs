//! The end of an attempt: either every cell keeps its value, or all writes are committed.

use core::mem::ManuallyDrop;

use super::access::end_owner;
use super::attempt::Attempt;
use super::log::Log;
use crate::park::Event;

impl Attempt<'_> {
    /// Leaves every cell as it was.
    pub(super) fn roll_back(&mut self) {
        if let Some(owner) = self.owner() {
            owner.kill();
        }
        if !self.log.lent.is_empty() {
            self.return_lent();
        }
        self.undo_to(0);
        let Log {
            entries, aftermath, ..
        } = &mut *self.log;
        for entry in entries {
            aftermath.unused.extend(entry.unwrite(None));
            entry.restore(self.local, self.pin);
        }
        self.log.writes = 0;
        self.log.changes_maps = false;
        self.retire_owner();
    }

    /// Forgets, after the commit, what writes have replaced inside the attempt.
    #[inline]
    pub(super) fn forget_replaced(&mut self) {
        self.log.writes = 0;
        if !self.log.undo.is_empty() {
            self.forget_replaced_slow();
        }
    }

    #[cold]
    fn forget_replaced_slow(&mut self) {
        let Log {
            entries,
            undo,
            aftermath,
            ..
        } = &mut *self.log;
        let unused = undo
            .drain(..)
            .filter_map(|(i, replaced)| replaced.map(|draft| entries[i as usize].unused(draft)));
        aftermath.unused.extend(unused);
    }

    /// Undoes the writes that were noted after the log of writes was this long.
    #[cold]
    pub(super) fn undo_to(&mut self, len: usize) {
        while self.log.undo.len() > len {
            let (i, before) = self.log.undo.pop().expect("it is longer");
            let is_first = before.is_none();
            let unused = self.log.entries[i as usize].unwrite(before);
            if is_first && unused.is_some() {
                self.log.writes -= 1;
            }
            self.log.aftermath.unused.extend(unused);
        }
    }

    /// Notes from now on what is written: how much has been before.
    pub(super) fn begin_alternative(&mut self) -> usize {
        self.log.alternatives += 1;
        self.log.undo.len()
    }

    /// Ends the alternative. `Some(n)`: undoes its writes, which follow the first `n` entries.
    pub(super) fn end_alternative(&mut self, undo: Option<usize>) {
        self.log.alternatives -= 1;
        if let Some(before) = undo {
            self.undo_to(before);
        }
    }

    pub(super) fn retire_owner(&mut self) {
        if let Some(owner) = self.owner.take() {
            if self.ladder.rank.is_ranked() {
                // The attempt is decided: a thread that begins to wait from now on detects that
                // [X10].
                let woken = &mut self.log.aftermath.woken;
                woken.grant_all(Event::Decision(owner.as_ptr().addr().get()));
            }
            end_owner(&self.log.entries, self.local, self.pin, owner);
        }
    }

    /// Ends one that has committed.
    #[inline(always)]
    pub(super) fn conclude(self) {
        debug_assert!(self.owner.is_none() && self.log.writes == 0);
        if self.log.changes_maps {
            return self.conclude_entries();
        }
        ManuallyDrop::new(self).leave();
    }

    /// By value, so that an attempt without entries of maps stays in registers.
    #[cold]
    #[inline(never)]
    fn conclude_entries(self) {
        self.note_commits();
        self.log.changes_maps = false;
        ManuallyDrop::new(self).leave();
    }

    /// The thread acts with its own rank again.
    #[inline(always)]
    fn leave(&self) {
        if self.ladder.rank.is_ranked() {
            self.log.outer.restore();
        }
    }
}

impl Drop for Attempt<'_> {
    /// Ends the attempt, including after a panic of the closure.
    fn drop(&mut self) {
        if self.owner.is_some() || self.log.writes > 0 {
            self.roll_back();
        }
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use crate::sync::tuning::OWN_BEATEN_AFTER;
    use crate::{Transaction, VersionedCell, reclaim, txn::TxAbort};

    fn is_claimed(cell: &VersionedCell<u32>) -> bool {
        reclaim::with(|local| {
            let pin = local.pin();
            let (_, node) = cell.head().load_in(&pin);
            node.header().when().is_claim()
        })
    }

    /// A thread that arrives later would follow a claim to an owner that is freed [X1].
    #[test]
    fn no_claim_outlives_its_attempt() {
        for commits in [true, false] {
            let (beaten, written) = (VersionedCell::new(1), VersionedCell::new(2));
            let mut losses = 0;
            let result = Transaction::builder().try_run(|tx| {
                let n = *tx.read(&beaten)?;
                if losses < OWN_BEATEN_AFTER {
                    losses += 1;
                    // As another transaction would.
                    crate::atomically(|tx| tx.set(&beaten, n));
                }
                // An attempt that is lost is over here.
                tx.read(&written)?;
                assert!(is_claimed(&beaten));
                tx.set(&written, n)?;
                if commits {
                    Ok(())
                } else {
                    Err(TxAbort::Transaction(()))
                }
            });
            assert_eq!(result.is_ok(), commits);
            assert!(!is_claimed(&beaten) && !is_claimed(&written));
            let both = (beaten.get(), written.get());
            assert_eq!(both, if commits { (1, 1) } else { (1, 2) });
        }
    }
}
