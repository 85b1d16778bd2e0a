//! Numbers that distinguish a later holder of a key from an earlier one: [`FencingToken`] and
//! [`Fence`].

use core::fmt;
use core::num::IntErrorKind;
use core::str::FromStr;

/// A number that increases with each exclusive holder that requests one.
///
/// Returned by [`ExclusiveGuard::token`](super::ExclusiveGuard::token).
///
/// Its text is the decimal number, which [`FromStr`] parses. With the feature `serde` it is
/// serialised as the number. Tokens of different keys, or of different tables, have no relation.
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
    /// Returns the token with this number.
    ///
    /// Use it for a token that was stored, or that another lock service issued.
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

/// The error of a text that is no [`FencingToken`].
///
/// # Examples
/// ```
/// let error = "+7".parse::<latchwork::table::FencingToken>().unwrap_err();
/// assert_eq!(error.to_string(), "invalid fencing token: expected decimal digits without a sign");
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
            Problem::NotANumber => "invalid fencing token: expected decimal digits without a sign",
            Problem::TooGreat => "invalid fencing token: the number exceeds 64 bits",
        })
    }
}

impl core::error::Error for ParseFencingTokenError {}

impl FromStr for FencingToken {
    type Err = ParseFencingTokenError;

    /// Parses the text that [`Display`](fmt::Display) writes: decimal digits and nothing else.
    ///
    /// # Errors
    /// Returns an error if the text has another character or no digit, or if the number exceeds 64
    /// bits.
    fn from_str(text: &str) -> Result<Self, ParseFencingTokenError> {
        // The standard parser stops where the number overflows, so the text is checked first.
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

/// The credentials of a holder for a resource: its fencing token, and a nonce of its own.
///
/// A resource accepts a fence if its token is greater than the seen token, or if both fences are
/// equal. So a holder may write again.
///
/// A lock service that has lost data may issue one token twice. It still never serves two holders,
/// provided that it draws a random nonce for each acquisition. A [`LockTable`](crate::LockTable)
/// issues no token of a key twice, and its fences have nonce 0.
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
    /// The number that increases with each holder.
    pub token: FencingToken,
    /// Distinguishes two holders that were issued the same token.
    pub nonce: u128,
}

impl Fence {
    /// Makes a fence from a token and a nonce.
    pub const fn new(token: FencingToken, nonce: u128) -> Self {
        Fence { token, nonce }
    }

    /// Returns whether a resource that has seen `seen` accepts this fence.
    pub(crate) fn may_follow(self, seen: Fence) -> bool {
        self.token > seen.token || self == seen
    }
}
