//! The phase of a table's root: the root in use, and the move between two roots.
//!
//! | bits | meaning |
//! |---|---|
//! | 0-1 | 0: one root is in use; 1: keys move to a larger root; 2: keys move to a smaller root |
//! | 2-5 | the level of the root in use, or of the root to which keys move |
//! | 6-33 | the number of groups that have moved |
//! | 34-63 | the number of moves that have begun |
//!
//! Level 0 is the root that the table was made with. The root of each level is larger than that of
//! the level below.

const MOVE_MASK: u64 = 0b11;
const LEVEL_SHIFT: u32 = 2;
const LEVEL_MASK: u64 = 0b1111;
const MOVED_SHIFT: u32 = 6;
const MOVED_MASK: u64 = (1 << 28) - 1;
const EVENT_SHIFT: u32 = 34;

/// The direction of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Move {
    /// To the root of the next higher level.
    Up,
    /// To the root of the next lower level.
    Down,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Phase(u64);

impl Phase {
    /// The phase of a new table.
    pub(crate) const NEW: Phase = Phase(0);
    /// One more group has moved.
    pub(crate) const ONE_GROUP: u64 = 1 << MOVED_SHIFT;

    pub(crate) const fn from_bits(bits: u64) -> Self {
        Phase(bits)
    }

    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    /// Returns the move that is in progress.
    pub(crate) const fn direction(self) -> Option<Move> {
        match self.0 & MOVE_MASK {
            0 => None,
            1 => Some(Move::Up),
            _ => Some(Move::Down),
        }
    }

    /// Returns the level of the root in use, or of the root to which keys move.
    pub(crate) const fn level(self) -> usize {
        ((self.0 >> LEVEL_SHIFT) & LEVEL_MASK) as usize
    }

    /// Returns the level of the root from which keys move.
    pub(crate) const fn source_level(self) -> Option<usize> {
        match self.direction() {
            None => None,
            Some(Move::Up) => Some(self.level() - 1),
            Some(Move::Down) => Some(self.level() + 1),
        }
    }

    /// Returns the number of groups that have moved.
    pub(crate) const fn moved(self) -> usize {
        ((self.0 >> MOVED_SHIFT) & MOVED_MASK) as usize
    }

    /// Returns the number of moves that have begun.
    pub(crate) const fn event(self) -> u64 {
        self.0 >> EVENT_SHIFT
    }

    /// Returns the phase in which a move begins, if the level to which it moves exists.
    pub(crate) const fn begun(self, direction: Move, levels: usize) -> Option<Self> {
        let level = self.level();
        let (kind, level) = match direction {
            Move::Up if level + 1 < levels => (1, level + 1),
            Move::Down if level > 0 => (2, level - 1),
            _ => return None,
        };
        let event = self.event().wrapping_add(1) << EVENT_SHIFT;
        Some(Phase(event | (level as u64) << LEVEL_SHIFT | kind))
    }

    /// Returns the phase after the move in progress.
    pub(crate) const fn ended(self) -> Self {
        Phase(self.0 & !(MOVED_MASK << MOVED_SHIFT | MOVE_MASK))
    }
}
