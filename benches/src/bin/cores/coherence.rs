//! The table of cache lines: which cores have each line, and what an access costs each core.
//!
//! MESI with caches that never run full. A line is in no cache, in those of readers, or in that of
//! one core that may write it. A core that needs a missing line waits until the line arrives. Until
//! then the cores that have the line still use it, and others that request it queue. Time is in
//! cycles, and only decides which core runs next.

use std::collections::HashMap;

/// The most virtual cores: the bits of a word.
pub(crate) const MOST_CORES: usize = 64;

/// log2 of the bytes of a line.
const LINE_BITS: u32 = 6;

/// What things cost, in cycles. Round numbers of the right size: about 60 ns for a line that
/// another core has written and 15 ns for one that the shared cache has, at 3 GHz.
pub(crate) mod cost {
    /// Any instruction whose lines are in the core's cache.
    pub(crate) const INSTRUCTION: u64 = 1;
    /// More for an atomic read-modify-write, and for a fence.
    pub(crate) const ATOMIC: u64 = 18;
    /// More for a pause in a spin loop.
    pub(crate) const PAUSE: u64 = 40;
    /// The rate of the clocks.
    pub(crate) const CYCLES_PER_MICROSECOND: u64 = 3_000;
    /// More to read the time-stamp counter, or the system's clock.
    pub(crate) const TIME: u64 = 20;
    /// A line that another core may write.
    pub(crate) const TRANSFER: u64 = 180;
    /// A line that no core has changed.
    pub(crate) const SHARED_CACHE: u64 = 45;
    /// Any call of the system.
    pub(crate) const SYSTEM: u64 = 600;
    /// The time to fall asleep, and from being woken to running.
    pub(crate) const WAKE: u64 = 6000;
}

/// The kind of an access to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Access {
    Read,
    /// Also a read-modify-write, and one that turns out to write nothing.
    Write,
}

/// Some bytes of memory and the kind of the access to them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Touch {
    pub(crate) address: u64,
    pub(crate) bytes: u64,
    pub(crate) access: Access,
}

impl Touch {
    /// The lines that it lies on.
    pub(crate) fn lines(self) -> impl Iterator<Item = u64> {
        let last = self.address.wrapping_add(self.bytes.saturating_sub(1));
        (self.address >> LINE_BITS)..=(last >> LINE_BITS)
    }

    /// Which bytes of `line` it touches: a bit for each.
    pub(crate) fn bytes_of(self, line: u64) -> u64 {
        let first = line << LINE_BITS;
        let touched = self.address..self.address + self.bytes;
        let bytes = (0..1 << LINE_BITS).filter(|byte| touched.contains(&(first + byte)));
        bytes.fold(0, |bits, byte| bits | 1 << byte)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Line {
    /// The core that may write it.
    owner: Option<u8>,
    /// The cores that have it: a bit for each.
    holders: u64,
    /// The cores that ever had it.
    touched: u64,
    /// Whether a core has written it.
    written: bool,
    /// When the last transfer that was booked is over.
    free_at: u64,
    /// Operations that wrote it.
    writing_operations: u64,
}

/// The counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// Reads of a line that the core did not have, and another had.
    pub(crate) read_misses: u64,
    /// Writes to a line that the core did not own, and another had.
    pub(crate) ownership_requests: u64,
}

/// All lines, by address.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    lines: HashMap<u64, Line>,
    pub(crate) traffic: Traffic,
}

impl Lines {
    /// Books what `core` needs for an access to `line` at the time `now`, and returns when it has
    /// it: at once, or it is a miss. Nothing has moved yet: [`Lines::take`] does that.
    pub(crate) fn book(&mut self, core: u8, line: u64, access: Access, now: u64) -> u64 {
        let line = self.lines.entry(line).or_default();
        let bit = 1 << core;
        let has_it = match access {
            Access::Read => line.holders & bit != 0,
            Access::Write => line.owner == Some(core),
        };
        // The first of all comes from memory: no program does that again and again.
        let nobody_else = line.holders & !bit == 0;
        // It would be in the cache from before the table begins, because no core has removed it
        // since.
        let had_it_before = access == Access::Read && !line.written && line.touched & bit == 0;
        if has_it || nobody_else || had_it_before {
            return now;
        }
        match access {
            Access::Read => self.traffic.read_misses += 1,
            Access::Write => self.traffic.ownership_requests += 1,
        }
        if access == Access::Read && line.owner.is_none() {
            return now + cost::SHARED_CACHE;
        }
        let begin = now.max(line.free_at);
        line.free_at = begin + cost::TRANSFER;
        line.free_at
    }

    /// Gives `line` to `core`.
    pub(crate) fn take(&mut self, core: u8, line: u64, access: Access) {
        let line = self.lines.entry(line).or_default();
        let bit = 1 << core;
        line.touched |= bit;
        match access {
            Access::Read => {
                if line.owner != Some(core) {
                    line.owner = None;
                }
                line.holders |= bit;
            }
            Access::Write => {
                line.owner = Some(core);
                line.holders = bit;
                line.written = true;
            }
        }
    }

    /// One operation wrote `line`, however often.
    pub(crate) fn written_by_operation(&mut self, line: u64) {
        self.lines.entry(line).or_default().writing_operations += 1;
    }

    /// Forgets the operations so far.
    pub(crate) fn forget_operations(&mut self) {
        for line in self.lines.values_mut() {
            line.writing_operations = 0;
        }
    }

    /// How many pairs there are of an operation and a line that it wrote, of lines that several
    /// cores touched.
    pub(crate) fn shared_lines_written(&self) -> u64 {
        let shared = self.lines.values().filter(|l| l.touched.count_ones() > 1);
        shared.map(|line| line.writing_operations).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::Access::{Read, Write};
    use super::*;

    fn access(lines: &mut Lines, core: u8, access: Access, now: u64) -> u64 {
        let ready = lines.book(core, 7, access, now);
        lines.take(core, 7, access);
        ready
    }

    #[test]
    fn a_line_of_ones_own_costs_nothing() {
        let mut lines = Lines::default();
        for now in 0..5 {
            assert_eq!(access(&mut lines, 3, Write, now), now);
            assert_eq!(access(&mut lines, 3, Read, now), now);
        }
        assert_eq!(lines.traffic, Traffic::default());
    }

    #[test]
    fn what_nobody_writes_was_there_before() {
        let mut lines = Lines::default();
        for core in 0..4 {
            assert_eq!(access(&mut lines, core, Read, 10), 10);
        }
        assert_eq!(lines.traffic, Traffic::default());
        access(&mut lines, 0, Write, 20);
        assert!(access(&mut lines, 4, Read, 900) > 900);
    }

    #[test]
    fn readers_do_not_disturb_each_other() {
        let mut lines = Lines::default();
        access(&mut lines, 0, Write, 0);
        access(&mut lines, 2, Read, 0);
        lines.traffic = Traffic::default();
        assert_eq!(access(&mut lines, 1, Read, 10), 10 + cost::SHARED_CACHE);
        assert_eq!(access(&mut lines, 0, Read, 20), 20);
        assert_eq!(access(&mut lines, 1, Read, 20), 20);
        let one = Traffic {
            read_misses: 1,
            ownership_requests: 0,
        };
        assert_eq!(lines.traffic, one);
    }

    #[test]
    fn whoever_writes_takes_it_from_all_and_has_to_wait() {
        let mut lines = Lines::default();
        for core in 0..4 {
            access(&mut lines, core, Read, 0);
        }
        lines.traffic = Traffic::default();
        assert_eq!(access(&mut lines, 0, Write, 0), cost::TRANSFER);
        assert_eq!(access(&mut lines, 1, Read, 0), 2 * cost::TRANSFER);
        assert_eq!(access(&mut lines, 0, Write, 500), 500 + cost::TRANSFER);
        assert_eq!(access(&mut lines, 0, Write, 900), 900);
        let counted = Traffic {
            read_misses: 1,
            ownership_requests: 2,
        };
        assert_eq!(lines.traffic, counted);
    }

    #[test]
    fn a_line_is_shared_when_two_have_touched_it() {
        let mut lines = Lines::default();
        access(&mut lines, 0, Write, 0);
        lines.written_by_operation(7);
        assert_eq!(lines.shared_lines_written(), 0);
        access(&mut lines, 1, Read, 0);
        assert_eq!(lines.shared_lines_written(), 1);
    }

    #[test]
    fn a_touch_may_lie_on_two_lines() {
        let touch = |address, bytes| Touch {
            address,
            bytes,
            access: Read,
        };
        assert_eq!(touch(64, 8).lines().collect::<Vec<_>>(), [1]);
        assert_eq!(touch(124, 8).lines().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(touch(64, 0).lines().collect::<Vec<_>>(), [1]);
        assert_eq!(touch(124, 8).bytes_of(1), 0xF << 60);
        assert_eq!(touch(124, 8).bytes_of(2), 0xF);
    }
}
