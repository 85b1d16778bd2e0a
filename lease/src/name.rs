//! The rules of names and of lengths of leases.

use core::fmt;
use std::error::Error;
use std::time::Duration;

/// The greatest length of a name in bytes.
const LONGEST_NAME: usize = 512;

/// The least length of a lease, unless that of the engine is greater.
pub(crate) const SHORTEST_LEASE: Duration = Duration::from_millis(100);

/// The greatest length of a lease.
pub(crate) const LONGEST_LEASE: Duration = Duration::from_secs(24 * 3600);

/// The reason why a text is no name.
///
/// # Examples
/// ```
/// use latchwork_lease::{AcquireError, InvalidName, Leases};
/// use std::time::Duration;
/// let leases = Leases::connect("memory:")?;
/// let error = leases.acquire("", Duration::from_secs(10)).unwrap_err();
/// assert!(matches!(error, AcquireError::InvalidName(InvalidName::Empty)));
/// assert_eq!(error.to_string(), "invalid name: it is empty");
/// # Ok::<(), latchwork_lease::ConnectError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidName {
    /// The text is empty.
    Empty,
    /// The text has more than 512 bytes.
    TooLong {
        /// The number of its bytes.
        bytes: usize,
    },
    /// The text contains a control character or a character that changes the direction of text.
    Character {
        /// The first such character.
        character: char,
        /// Its first byte.
        at: usize,
    },
    /// The name occurs twice among the names of one set.
    Duplicate,
}

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InvalidName::Empty => f.write_str("it is empty"),
            InvalidName::TooLong { bytes } => {
                write!(f, "it has {bytes} bytes, and {LONGEST_NAME} are allowed")
            }
            InvalidName::Character { character, at } => {
                let number = u32::from(*character);
                write!(
                    f,
                    "the character U+{number:04X} at byte {at} is not allowed"
                )
            }
            InvalidName::Duplicate => f.write_str("it occurs twice in one set"),
        }
    }
}

impl Error for InvalidName {}

/// Checks a name, a namespace or a label.
pub(crate) fn check(text: &str) -> Result<(), InvalidName> {
    if text.is_empty() {
        return Err(InvalidName::Empty);
    }
    check_prefix(text)
}

/// Checks the beginning of a name, which may be empty.
pub(crate) fn check_prefix(text: &str) -> Result<(), InvalidName> {
    if text.len() > LONGEST_NAME {
        return Err(InvalidName::TooLong { bytes: text.len() });
    }
    let mut characters = text.char_indices();
    match characters.find(|(_, character)| character.is_control() || changes_direction(*character))
    {
        Some((at, character)) => Err(InvalidName::Character { character, at }),
        None => Ok(()),
    }
}

/// Whether a character is invisible and changes the order in which others are displayed.
fn changes_direction(character: char) -> bool {
    matches!(
        character,
        '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}'
    )
}

/// The reason why a duration is no length of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidTtl {
    /// The refused length.
    pub ttl: Duration,
    /// The least length: 100 ms, or that of the engine.
    pub least: Duration,
    /// The greatest length: 24 hours.
    pub greatest: Duration,
}

impl fmt::Display for InvalidTtl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let InvalidTtl {
            ttl,
            least,
            greatest,
        } = self;
        write!(f, "{ttl:?} is not between {least:?} and {greatest:?}")
    }
}

impl Error for InvalidTtl {}

/// Checks the length of a lease against the least length of the engine.
pub(crate) fn check_ttl(ttl: Duration, least: Duration) -> Result<(), InvalidTtl> {
    let least = least.max(SHORTEST_LEASE);
    if ttl < least || ttl > LONGEST_LEASE {
        return Err(InvalidTtl {
            ttl,
            least,
            greatest: LONGEST_LEASE,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_refused_by_length_and_character() {
        for good in [
            "a",
            "A/b %_*?'\"\\",
            "Größe",
            "名前",
            "e\u{301}",
            &"x".repeat(512),
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        assert_eq!(check(""), Err(InvalidName::Empty));
        let long = "ä".repeat(257);
        assert_eq!(check(&long), Err(InvalidName::TooLong { bytes: 514 }));
        for character in [
            '\0', '\n', '\u{7F}', '\u{85}', '\u{202E}', '\u{2066}', '\u{200F}',
        ] {
            let error = InvalidName::Character { character, at: 1 };
            assert_eq!(check(&format!("a{character}b")), Err(error));
        }
    }

    #[test]
    fn lengths_of_leases_are_bounded() {
        let (ms, hours) = (Duration::from_millis, |n: u64| {
            Duration::from_secs(n * 3600)
        });
        assert!(check_ttl(ms(99), ms(1)).is_err());
        assert!(check_ttl(ms(100), ms(1)).is_ok());
        assert!(check_ttl(ms(999), ms(1000)).is_err());
        assert!(check_ttl(hours(24), ms(1)).is_ok());
        assert!(check_ttl(hours(24) + ms(1), ms(1)).is_err());
    }
}
