//! Numbers that tell a later holder of a key from an earlier one: [`FencingToken`] and [`Fence`].

use core::fmt;
use core::num::IntErrorKind;
use core::str::FromStr;

/// A number that grows with each exclusive hold that requests one. Returned by
/// [`ExclusiveGuard::token`](super::ExclusiveGuard::token).
///
/// As text it is the decimal number, which [`FromStr`] reads back. With the feature `serde` it is serialised as the number.
/// Tokens of different keys, or of different tables, have no relation.
///
/// # Examples
/// ```
/// use latchwork::table::FencingToken;
/// let table: latchwork::LockTable<str> = latchwork::LockTable::new();
/// let first = table.lock("a").token();
/// let second = table.lock("a").token();
/// assert!(first < second);
/// assert_eq!(second.to_string().parse::<FencingToken>(), Ok(second));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct FencingToken(u64);

impl FencingToken {
    /// Returns the token with this number, for a token that was stored or that another lock service issued.
    pub const fn new(number: u64) -> Self {
        FencingToken(number)
    }

    /// Returns its number. Tokens of a [`LockTable`](crate::LockTable) are at least 1.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl From<FencingToken> for u64 {
    fn from(token: FencingToken) -> u64 {
        token.0
    }
}

/// Why a text is not a [`FencingToken`].
///
/// # Examples
/// ```
/// let error = "+7".parse::<latchwork::table::FencingToken>().unwrap_err();
/// assert_eq!(error.to_string(), "a fencing token is a decimal number, without a sign");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseFencingTokenError(Problem);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Problem {
    NotANumber,
    TooGreat,
}

impl fmt::Display for ParseFencingTokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Problem::NotANumber => "a fencing token is a decimal number, without a sign",
            Problem::TooGreat => "a fencing token has at most 64 bits",
        })
    }
}

impl core::error::Error for ParseFencingTokenError {}

impl FromStr for FencingToken {
    type Err = ParseFencingTokenError;

    /// Reads the text that [`Display`](fmt::Display) writes: decimal digits and nothing else.
    ///
    /// # Errors
    /// Returns an error if the text has another character or no digit, or if the number has more than 64 bits.
    fn from_str(text: &str) -> Result<Self, ParseFencingTokenError> {
        // The number is read only as far as it fits, so that the text is checked first.
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(ParseFencingTokenError(Problem::NotANumber));
        }
        text.parse().map(FencingToken).map_err(|error| {
            ParseFencingTokenError(match error.kind() {
                IntErrorKind::PosOverflow => Problem::TooGreat,
                _ => Problem::NotANumber,
            })
        })
    }
}

/// What a holder shows to a resource: its fencing token, and a nonce that no other holder has.
///
/// A resource accepts a fence if its token is greater than the one that the resource has seen, or equal with the same nonce. So
/// a holder may write again. A lock service that issues one token twice, after it lost data, never serves two holders, provided
/// that it draws the nonce at random for each acquisition. A [`LockTable`](crate::LockTable) issues no token twice, and its fences have nonce 0.
///
/// [`FencedCell`](crate::table::FencedCell) is such a resource within the process.
///
/// # Examples
/// ```
/// use latchwork::table::{Fence, FencingToken};
/// let fence = Fence::new(FencingToken::new(7), 0xC0FFEE);
/// assert_eq!((fence.token.get(), fence.nonce), (7, 0xC0FFEE));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fence {
    /// The number that grows with each holder.
    pub token: FencingToken,
    /// Distinguishes two holders that were issued one token.
    pub nonce: u128,
}

impl Fence {
    /// Makes a fence of its parts.
    pub const fn new(token: FencingToken, nonce: u128) -> Self {
        Fence { token, nonce }
    }

    /// Whether a resource that has seen `seen` accepts this fence.
    pub(crate) fn may_follow(self, seen: Fence) -> bool {
        self.token > seen.token || self == seen
    }
}
