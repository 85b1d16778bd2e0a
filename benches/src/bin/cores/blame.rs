//! Which code misses, and which code had removed the line from the core.

use std::collections::HashMap;

use crate::coherence::{Access, MOST_CORES, Touch};

/// A kind of miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Miss {
    /// The instruction that missed.
    pub(crate) at: u64,
    pub(crate) access: Access,
    /// The last instruction of another core that removed the line: by a write, or also by a read if
    /// the missing instruction writes.
    pub(crate) taken_by: Option<u64>,
    /// No other core has accessed the requested bytes: two unrelated objects share a line.
    pub(crate) other_bytes: bool,
}

/// The accesses of other cores to a line since a core had it.
#[derive(Clone, Copy, Debug, Default)]
struct Since {
    /// Bytes that were written: a bit for each.
    written: u64,
    /// Bytes that were read or written since the core might write it.
    touched: u64,
    writer: Option<u64>,
    toucher: Option<u64>,
}

/// All misses, by kind.
#[derive(Debug, Default)]
pub(crate) struct Blame {
    lines: HashMap<u64, Box<[Since; MOST_CORES]>>,
    pub(crate) misses: HashMap<Miss, u64>,
}

impl Blame {
    /// `core` did not have `line` when the instruction `at` accessed it.
    pub(crate) fn missed(&mut self, core: u8, line: u64, touch: Touch, at: u64) {
        let since = self.lines.get(&line).map(|line| line[usize::from(core)]);
        let since = since.unwrap_or_default();
        let (taken_by, bytes) = match touch.access {
            Access::Read => (since.writer, since.written),
            Access::Write => (since.toucher, since.touched),
        };
        let miss = Miss {
            at,
            access: touch.access,
            taken_by,
            other_bytes: bytes & touch.bytes_of(line) == 0,
        };
        *self.misses.entry(miss).or_default() += 1;
    }

    /// `core` has `line`, for the instruction `at`.
    pub(crate) fn took(&mut self, core: u8, line: u64, touch: Touch, at: u64) {
        let bytes = touch.bytes_of(line);
        let cores = self.lines.entry(line);
        let cores = cores.or_insert_with(|| Box::new([Since::default(); MOST_CORES]));
        for (other, since) in cores.iter_mut().enumerate() {
            if other == usize::from(core) {
                since.written = 0;
                if touch.access == Access::Write {
                    since.touched = 0;
                }
                continue;
            }
            since.touched |= bytes;
            since.toucher = Some(at);
            if touch.access == Access::Write {
                since.written |= bytes;
                since.writer = Some(at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(byte: u64, access: Access) -> Touch {
        Touch {
            address: 64 + byte,
            bytes: 8,
            access,
        }
    }

    #[test]
    fn who_took_a_line_is_told_and_for_which_bytes() {
        let mut blame = Blame::default();
        blame.took(0, 1, touch(0, Access::Read), 10);
        blame.took(1, 1, touch(0, Access::Write), 20);
        blame.missed(0, 1, touch(0, Access::Read), 11);
        blame.missed(0, 1, touch(8, Access::Read), 12);
        blame.took(0, 1, touch(8, Access::Read), 12);
        blame.missed(1, 1, touch(0, Access::Write), 21);
        let kind = |at, access, taken_by, other_bytes| Miss {
            at,
            access,
            taken_by: Some(taken_by),
            other_bytes,
        };
        let expected = [
            kind(11, Access::Read, 20, false),
            kind(12, Access::Read, 20, true),
            kind(21, Access::Write, 12, true),
        ];
        assert_eq!(blame.misses, expected.map(|miss| (miss, 1)).into());
    }
}
