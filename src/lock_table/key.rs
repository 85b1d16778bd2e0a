//! The identity of a key.

use core::fmt;

use crate::hash::IntegerHasher;

/// The identity of a key: its 64-bit hash.
///
/// It is displayed as sixteen hexadecimal digits.
///
/// # Examples
/// ```
/// let table: latchwork::LockTable<str> = latchwork::LockTable::new();
/// assert_eq!(table.key_id("a"), table.lock("a").key_id());
/// println!("{}", table.key_id("a")); // sixteen hexadecimal digits
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub(crate) u64);

impl KeyId {
    /// Returns the hash as a number.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl IntegerHasher {
    /// Returns the integer key that has this identity, in a table that hashes with
    /// [`IntegerHasher`].
    ///
    /// A negative key is returned as its two's complement: cast the result to the signed type.
    ///
    /// # Examples
    /// ```
    /// use latchwork::{LockTable, table::IntegerHasher};
    /// let table = LockTable::<i32, _>::with_hasher(IntegerHasher::new());
    /// assert_eq!(IntegerHasher::key_of(table.key_id(&-7)) as i32, -7);
    /// ```
    pub const fn key_of(id: KeyId) -> u64 {
        Self::unmix(id.0)
    }
}
