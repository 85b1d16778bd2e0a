//! The two modes in which a key can be held.

/// The mode in which a key is held: by one holder, or by many at once.
///
/// `Exclusive` is the stronger mode, and the greater one.
///
/// # Examples
/// ```
/// use latchwork::Mode;
/// assert!(Mode::Shared < Mode::Exclusive);
/// assert!(Mode::Shared.admits(Mode::Shared));
/// assert!(!Mode::Shared.admits(Mode::Exclusive));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// The key may have any number of holders, none of them exclusive.
    Shared,
    /// The key has one holder and no other.
    Exclusive,
}

impl Mode {
    /// Returns whether a key that is held in mode `self` may also be held in mode `other`.
    pub fn admits(self, other: Mode) -> bool {
        self == Mode::Shared && other == Mode::Shared
    }
}
