//! The slots that a scan visits before the epoch advances [R13].
//!
//! A slot whose owner has not pinned itself for long is dormant, and leaves. The owner joins again
//! when it finds its state dormant. Both change the word of the group of the slot. A summary word
//! has the groups with members: a group joins with each of its slots, and leaves when it is empty.
//! So a scan of 256 dormant slots loads one word.
//!
//! # Word
//! | bits | meaning |
//! |---|---|
//! | 0 to 15 | the slot, or the group, of this number is a member |
//! | 16 to 63 | how often a slot, or a group, has joined |
//!
//! The number of joins makes each word different from all earlier ones that a thread may still
//! hold: 2^48 joins last longer than any thread is preempted.

use crate::sync::tuning::SLOTS_AT_MOST;
use crate::sync::{AtomicU64, Ordering};

/// The number of slots, or of groups, that have a word in common.
const GROUP: usize = 16;

/// One join.
const JOIN: u64 = 1 << GROUP;

const GROUPS: usize = SLOTS_AT_MOST.div_ceil(GROUP);
const SUMMARIES: usize = GROUPS.div_ceil(GROUP);

/// The members among the slots of a segment.
#[derive(Debug)]
pub(super) struct Members {
    summaries: [Word; SUMMARIES],
    groups: [Word; GROUPS],
}

/// The verdict of a scan on a slot that it has visited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It continues.
    Stay,
    /// It continues, and the thread of the slot is not pinned.
    Idle,
    /// It removes the dormant slot, and continues.
    Leave,
    /// It ends.
    Stop,
}

/// The members of one group, or the groups of one summary.
#[derive(Debug)]
struct Word(AtomicU64);

/// The former contents of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen(u64);

impl Seen {
    fn is_empty(self) -> bool {
        self.0 & (JOIN - 1) == 0
    }

    /// The numbers of the members.
    #[inline]
    fn each(self) -> impl Iterator<Item = usize> {
        let mut members = self.0 & (JOIN - 1);
        core::iter::from_fn(move || {
            if members == 0 {
                return None;
            }
            let first = members.trailing_zeros() as usize;
            members &= members - 1;
            Some(first)
        })
    }

    fn with(self, number: usize) -> Self {
        Seen(self.0.wrapping_add(JOIN) | 1 << number)
    }

    fn without(self, number: usize) -> Self {
        Seen(self.0 & !(1 << number))
    }
}

impl Members {
    pub(super) fn new() -> Self {
        Members {
            summaries: core::array::from_fn(|_| Word::new()),
            groups: core::array::from_fn(|_| Word::new()),
        }
    }

    /// The owner of the slot has published its state, and a full fence follows.
    #[cold]
    pub(super) fn join(&self, slot: usize) {
        let group = slot / GROUP;
        self.groups[group].join(slot % GROUP);
        // Afterwards: a scan that removes the group has found it empty, or fails [R13].
        self.summaries[group / GROUP].join(group % GROUP);
    }

    /// Visits each member, and removes those that leave. `false`: `look` has ended the scan.
    #[inline]
    pub(super) fn scan(&self, mut look: impl FnMut(usize) -> Verdict) -> bool {
        for (i, summary) in self.summaries.iter().enumerate() {
            let mut groups = summary.load();
            for number in groups.each() {
                let group = i * GROUP + number;
                let word = &self.groups[group];
                let mut members = word.load();
                for slot in members.each() {
                    match look(group * GROUP + slot) {
                        Verdict::Stay | Verdict::Idle => (),
                        Verdict::Leave => members = word.leave(members, slot),
                        Verdict::Stop => return false,
                    }
                }
                if members.is_empty() {
                    groups = summary.leave(groups, number);
                }
            }
        }
        true
    }
}

impl Word {
    fn new() -> Self {
        Word(AtomicU64::new(0))
    }

    #[inline]
    fn load(&self) -> Seen {
        // Acquire: the state with which a slot joined is found, or a later one. Pairs with the
        // Release in `join`. The accesses of a slot that has left happened before. Pairs with the
        // Release in `leave` [R13].
        Seen(self.0.load(Ordering::Acquire))
    }

    /// The state of the slot, or the word of the group, was changed before.
    fn join(&self, number: usize) {
        // Relaxed: only the value matters, and the compare-and-swap checks it.
        let mut seen = self.0.load(Ordering::Relaxed);
        // Release: the state happens before. Pairs with the Acquire in `load` [R13]. Relaxed on
        // failure: as above.
        while let Err(now) = self.0.compare_exchange(
            seen,
            Seen(seen).with(number).0,
            Ordering::Release,
            Ordering::Relaxed,
        ) {
            seen = now;
        }
    }

    /// Removes a slot that was found dormant after `seen` was loaded, or a group that was found
    /// empty, unless one has joined or left since. Returns what the word is, as far as the caller
    /// knows.
    fn leave(&self, seen: Seen, number: usize) -> Seen {
        let without = seen.without(number);
        // Release: the accesses under the pins of its owner happen before. Pairs with the Acquire
        // in `load` [R13]. Relaxed on failure: it stays a member until the next time.
        let left = self
            .0
            .compare_exchange(seen.0, without.0, Ordering::Release, Ordering::Relaxed);
        if left.is_ok() { without } else { seen }
    }
}

#[cfg(all(test, not(any(latchwork_loom, latchwork_shuttle))))]
mod tests {
    use super::*;

    fn members(word: &Word) -> Vec<usize> {
        word.load().each().collect()
    }

    /// The slots that a scan visits. Those of `leaving` leave.
    fn visited(members: &Members, leaving: &[usize]) -> Vec<usize> {
        let mut visited = Vec::new();
        assert!(members.scan(|slot| {
            visited.push(slot);
            match leaving.contains(&slot) {
                true => Verdict::Leave,
                false => Verdict::Stay,
            }
        }));
        visited
    }

    #[test]
    fn slots_join_and_leave() {
        let word = Word::new();
        assert_eq!(members(&word), [0; 0]);
        (0..GROUP).rev().for_each(|slot| word.join(slot));
        assert_eq!(members(&word), (0..GROUP).collect::<Vec<_>>());
        let mut seen = word.load();
        (1..GROUP).for_each(|slot| seen = word.leave(seen, slot));
        assert_eq!(members(&word), [0]);
        word.join(5);
        assert_eq!(members(&word), [0, 5]);
    }

    /// A slot joins again after it was found dormant: it stays.
    #[test]
    fn a_slot_that_has_joined_since_does_not_leave() {
        let word = Word::new();
        word.join(3);
        let seen = word.load();
        word.join(3);
        assert_eq!(word.leave(seen, 3), seen);
        assert_eq!(members(&word), [3]);
        // Nor because of another slot of the group: the word has changed.
        let seen = word.load();
        word.join(4);
        word.leave(seen, 3);
        assert_eq!(members(&word), [3, 4]);
    }

    #[test]
    fn a_group_leaves_with_its_last_slot() {
        let all = Members::new();
        let summaries = || all.summaries.each_ref().map(|word| members(word).len());
        let slots = [0, 5, 15, 16, 255, 256, 700, SLOTS_AT_MOST - 1];
        slots.iter().rev().for_each(|slot| all.join(*slot));
        assert_eq!(summaries(), [3, 1, 1, 1]);
        assert_eq!(visited(&all, &[0, 15, 255]), slots);
        assert_eq!(summaries(), [2, 1, 1, 1]);
        assert_eq!(visited(&all, &[16, 256]), [5, 16, 256, 700, 1_023]);
        assert_eq!(summaries(), [1, 0, 1, 1]);
        all.join(17);
        assert_eq!(visited(&all, &[5, 17, 700, 1_023]), [5, 17, 700, 1_023]);
        assert_eq!(summaries(), [0; SUMMARIES]);
        assert_eq!(visited(&all, &[]), [0; 0]);
        all.join(0);
        assert!(!all.scan(|_| Verdict::Stop));
    }

    /// A slot joins while a scan finds another group empty: the summary has changed, and the empty
    /// group leaves in the next scan.
    #[test]
    fn a_group_stays_in_a_summary_that_has_changed() {
        let all = Members::new();
        let groups = || members(&all.summaries[0]);
        all.join(3);
        assert!(all.scan(|_| {
            all.join(GROUP);
            Verdict::Leave
        }));
        assert_eq!((groups(), members(&all.groups[0])), (vec![0, 1], vec![]));
        assert_eq!(visited(&all, &[]), [GROUP]);
        assert_eq!(groups(), [1]);
    }
}
