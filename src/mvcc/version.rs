//! The version of a cell's value.

use core::fmt;
use core::num::IntErrorKind;
use core::str::FromStr;

/// Counts the committed writes of one [`VersionedCell`](crate::VersionedCell).
///
/// Each write adds one, and no number is used twice. As text it is a decimal number, which
/// [`FromStr`] parses; [`to_etag`](Self::to_etag) returns the entity tag of HTTP. With the feature
/// `serde` it is serialised as the number.
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
/// Versions of two cells compare equal by chance:
/// ```
/// use latchwork::VersionedCell;
///
/// let (price, stock) = (VersionedCell::new(100), VersionedCell::new(3));
/// let seen = price.set(120);
/// assert_eq!(seen, stock.set(2)); // each was written once
/// assert!(stock.compare_and_set(seen, 9).is_ok()); // `seen` is a version of the other cell
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

    /// Returns the version as a strong entity tag of HTTP (RFC 9110, section 8.8.3): the number in
    /// double quotes.
    ///
    /// This is the text of an `ETag` field. The tag identifies one value of one cell, so it belongs
    /// to one URL. Versions start again with a new cell; continue with
    /// [`with_version`](crate::VersionedCell::with_version) after a restart.
    ///
    /// # Examples
    /// ```
    /// use latchwork::cell::Version;
    /// assert_eq!(Version::new(17).to_etag(), "\"17\"");
    /// assert_eq!(Version::from_etag("\"17\""), Ok(Version::new(17)));
    /// ```
    #[must_use]
    pub fn to_etag(self) -> String {
        format!("\"{self}\"")
    }

    /// Parses one strong entity tag, exactly as [`to_etag`](Self::to_etag) writes it.
    ///
    /// A client sends the tag of the value that it has read, as `If-Match`, and the server passes
    /// the version to [`compare_and_set`](crate::VersionedCell::compare_and_set). A field that
    /// holds a list or `*` is not one tag: [`is_in_if_match`](Self::is_in_if_match) and
    /// [`is_in_if_none_match`](Self::is_in_if_none_match) evaluate it.
    ///
    /// # Errors
    /// Returns a [`ParseVersionError`] for a weak tag (`W/"17"`), which cannot identify a value
    /// exactly; for a text without double quotes around it; and for a number with a sign, a space,
    /// leading zeros or more than 64 bits. No two texts name one version.
    ///
    /// # Examples
    /// ```
    /// use latchwork::cell::Version;
    /// assert!(Version::from_etag("W/\"17\"").is_err());
    /// assert!(Version::from_etag("17").is_err());
    /// assert!(Version::from_etag("\"017\"").is_err());
    /// ```
    pub fn from_etag(text: &str) -> Result<Self, ParseVersionError> {
        if text.starts_with("W/") {
            return Err(ParseVersionError(Problem::Weak));
        }
        let opaque = text
            .strip_prefix('"')
            .and_then(|text| text.strip_suffix('"'));
        Self::from_opaque(opaque.ok_or(ParseVersionError(Problem::NotQuoted))?)
    }

    /// Returns whether an `If-Match` field permits a request for the value with this version.
    ///
    /// The field is a list of tags, or `*`. A list permits the versions that it contains, and `*`
    /// permits each version. The comparison is the *strong* one (RFC 9110, section 13.1.1): a weak
    /// tag never matches. Tags of other servers are valid and match no version. A malformed field
    /// does not match, so the server responds 412 (Precondition Failed). Join several fields of one
    /// request by commas.
    ///
    /// A version exists even if the resource does not, such as `None` in a cell of an [`Option`].
    /// RFC 9110 requires that `*` fails then. Check that the resource exists, and respond 412 if it
    /// does not: see [A resource that may be
    /// absent](crate::docs::how_to::entity_tag#a-resource-that-may-be-absent).
    ///
    /// The version must be the one that the write expects: pass it to
    /// [`compare_and_set`](crate::VersionedCell::compare_and_set), and evaluate the field again
    /// after a conflict.
    ///
    /// # Examples
    /// ```
    /// use latchwork::cell::Version;
    /// let current = Version::new(17);
    /// assert!(current.is_in_if_match("\"16\", \"17\""));
    /// assert!(current.is_in_if_match("*"));
    /// assert!(!current.is_in_if_match("W/\"17\""));
    /// assert!(!current.is_in_if_match("\"16\", \"v17, final\""));
    /// ```
    #[must_use]
    pub fn is_in_if_match(self, field: &str) -> bool {
        self.is_in(field, Comparison::Strong)
    }

    /// Returns whether an `If-None-Match` field lists this version, so that a GET responds 304 (Not
    /// Modified).
    ///
    /// The field is `*`, which lists any version, or a list of tags. The comparison is the *weak*
    /// one (RFC 9110, section 13.1.2): `W/"17"` lists version 17, because caches and proxies that
    /// compress a response weaken its tag. A malformed field lists nothing, so a GET responds with
    /// the whole value. A write with `If-None-Match: *` must fail where a cell exists. Join several
    /// fields of one request by commas.
    ///
    /// # Examples
    /// ```
    /// use latchwork::cell::Version;
    /// let current = Version::new(17);
    /// assert!(current.is_in_if_none_match("\"16\", W/\"17\""));
    /// assert!(current.is_in_if_none_match("*"));
    /// assert!(!current.is_in_if_none_match("\"18\""));
    /// ```
    #[must_use]
    pub fn is_in_if_none_match(self, field: &str) -> bool {
        self.is_in(field, Comparison::Weak)
    }

    /// Whether a list of entity tags contains this version. A list that is malformed anywhere
    /// contains nothing.
    fn is_in(self, field: &str, comparison: Comparison) -> bool {
        const SPACES: [char; 2] = [' ', '\t'];
        if field.trim_matches(SPACES) == "*" {
            return true;
        }
        let mut is_found = false;
        let mut rest = field;
        loop {
            // A recipient must accept empty elements (section 5.6.1.2).
            rest = rest.trim_start_matches([' ', '\t', ',']);
            if rest.is_empty() {
                return is_found;
            }
            let (quoted, is_weak) = match rest.strip_prefix("W/") {
                Some(quoted) => (quoted, true),
                None => (rest, false),
            };
            // A comma inside the quotes belongs to the tag.
            let tag = quoted.strip_prefix('"').and_then(|tag| tag.split_once('"'));
            let Some((opaque, after)) = tag else {
                return false;
            };
            rest = after.trim_start_matches(SPACES);
            let is_separated = rest.is_empty() || rest.starts_with(',');
            if !is_separated || !opaque.chars().all(is_etag_char) {
                return false;
            }
            let is_comparable = !is_weak || comparison == Comparison::Weak;
            is_found |= is_comparable && Self::from_opaque(opaque) == Ok(self);
        }
    }

    /// Parses the text between the quotes of an entity tag. Two tags are compared character by
    /// character, so each version has one text.
    fn from_opaque(text: &str) -> Result<Self, ParseVersionError> {
        if text.len() > 1 && text.starts_with('0') {
            return Err(ParseVersionError(Problem::LeadingZeros));
        }
        text.parse()
    }

    pub(crate) fn next(self) -> Self {
        Version(self.0.wrapping_add(1))
    }
}

/// How RFC 9110, section 8.8.3.2, compares two entity tags.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

/// `etagc` of RFC 9110: visible characters but the double quote, and all that are not ASCII.
fn is_etag_char(c: char) -> bool {
    c.is_ascii_graphic() && c != '"' || !c.is_ascii()
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
    NotQuoted,
    Weak,
    LeadingZeros,
}

impl fmt::Display for ParseVersionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Problem::NotANumber => "invalid version: it must consist of decimal digits only",
            Problem::TooGreat => "version out of range: the greatest one is 18446744073709551615",
            Problem::NotQuoted => "invalid entity tag: it must be a version in double quotes",
            Problem::Weak => "a weak entity tag does not identify a version: use a strong one",
            Problem::LeadingZeros => "invalid entity tag: a version has no leading zeros",
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
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
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
