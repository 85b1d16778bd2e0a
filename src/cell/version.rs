//! The version of a cell's value.

use core::fmt;
use core::num::IntErrorKind;
use core::str::FromStr;

use crate::sync::planted;

/// Counts the committed writes of one [`VersionedCell`](crate::VersionedCell).
///
/// Each write adds one, and no number is used twice, so a version can serve as an entity tag. As
/// text it is a decimal number, which [`FromStr`] parses. With the feature `serde` it is serialised
/// as the number.
///
/// Versions of different cells are unrelated. Two cells that were written equally often have equal
/// versions, whatever their values. Store the identity of the cell beside its version where they
/// could be confused.
///
/// # Examples
/// ```
/// use latchwork::{VersionedCell, cell::Version};
///
/// let cell = VersionedCell::new("a");
/// let before = cell.version();
/// let after = cell.set("b");
/// assert!(after > before);
/// assert_eq!(after.to_string().parse::<Version>(), Ok(after));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct Version(u64);

impl Version {
    /// The version of a new cell that has not been written.
    pub const FIRST: Version = Version(0);

    /// The greatest version that
    /// [`VersionedCell::with_version`](crate::VersionedCell::with_version) accepts. It leaves 2⁶³
    /// writes, which is 292 years with one write in each nanosecond.
    pub const MAX_INITIAL: Version = Version(u64::MAX >> 1);

    /// Returns the version with this number.
    pub const fn new(number: u64) -> Self {
        Version(number)
    }

    /// Returns the number of this version.
    pub const fn get(self) -> u64 {
        self.0
    }

    pub(crate) fn next(self) -> Self {
        Version(self.0.wrapping_add(1))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Version> for u64 {
    fn from(version: Version) -> u64 {
        version.0
    }
}

/// Describes why a text is not a [`Version`].
///
/// # Examples
/// ```
/// let error = "v7".parse::<latchwork::cell::Version>().unwrap_err();
/// assert_eq!(error.to_string(), "invalid version: it must consist of decimal digits only");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseVersionError(Problem);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Problem {
    NotANumber,
    TooGreat,
}

impl fmt::Display for ParseVersionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Problem::NotANumber => "invalid version: it must consist of decimal digits only",
            Problem::TooGreat => "version out of range: the greatest one is 18446744073709551615",
        })
    }
}

impl core::error::Error for ParseVersionError {}

impl FromStr for Version {
    type Err = ParseVersionError;

    /// Parses the output of [`Display`](fmt::Display): decimal digits and nothing else.
    ///
    /// # Errors
    /// Returns a [`ParseVersionError`] if the text has any other character, is empty, or has a
    /// number of more than 64 bits.
    fn from_str(text: &str) -> Result<Self, ParseVersionError> {
        // The whole text is checked: `parse` reads a number only as far as it fits.
        if !text.bytes().all(|byte| byte.is_ascii_digit()) && !planted("version with a sign") {
            return Err(ParseVersionError(Problem::NotANumber));
        }
        text.parse().map(Version).map_err(|error| {
            ParseVersionError(match error.kind() {
                IntErrorKind::PosOverflow => Problem::TooGreat,
                _ => Problem::NotANumber,
            })
        })
    }
}
