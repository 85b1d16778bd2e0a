//! The two ways to hold a key.

/// How a key is held: by one, or by many at once.
///
/// `Exclusive` is the stronger and the greater of the two.
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
    /// Any number of holders, none of them exclusive.
    Shared,
    /// One holder and no other.
    Exclusive,
}

impl Mode {
    /// Returns whether a key that is held in `self` may also be held in `other`.
    pub fn admits(self, other: Mode) -> bool {
        self == Mode::Shared && other == Mode::Shared
    }
}
