//! Why a conditional write of a map was refused.

use core::error::Error;
use core::fmt;

use crate::cell::Version;

/// Reports that a conditional write of a map found another version than it expected, or no value.
/// It contains the value that was not written.
///
/// # Examples
/// ```
/// use latchwork::{VersionedMap, cell::Version};
/// let map = VersionedMap::new();
/// map.insert("a", 1);
/// let conflict = map.compare_and_set("a", Version::new(7), 2).unwrap_err();
/// let text = conflict.to_string();
/// assert_eq!(text, "expected version 7, but the current version is 1; read the key again");
/// assert_eq!(conflict.value, 2);
/// let conflict = map.compare_and_set("b", Version::new(7), 2).unwrap_err();
/// assert_eq!(conflict.to_string(), "expected version 7, but the key is absent");
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MapConflict<V = ()> {
    /// The version that the caller expected.
    pub expected: Version,
    /// The version of the key when the write failed. `None`: the key was absent.
    pub current: Option<Version>,
    /// The value that was not written.
    pub value: V,
}

impl<V> fmt::Debug for MapConflict<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapConflict")
            .field("expected", &self.expected)
            .field("current", &self.current)
            .finish_non_exhaustive()
    }
}

impl<V> fmt::Display for MapConflict<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let expected = self.expected;
        match self.current {
            Some(current) => write!(
                f,
                "expected version {expected}, but the current version is {current}; \
                 read the key again"
            ),
            None => write!(f, "expected version {expected}, but the key is absent"),
        }
    }
}

impl<V> Error for MapConflict<V> {}

/// Reports that a key has a value already. It contains the key and the value that were not
/// inserted.
///
/// # Examples
/// ```
/// let map = latchwork::VersionedMap::new();
/// map.insert("a", 1);
/// let occupied = map.insert_if_absent("a", 2).unwrap_err();
/// assert_eq!((occupied.key, occupied.value, occupied.current.get()), ("a", 2, 1));
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Occupied<K, V> {
    /// The key of the caller. The map keeps the key that was inserted first.
    pub key: K,
    /// The value that was not inserted.
    pub value: V,
    /// The version of the value that the key has.
    pub current: Version,
}

impl<K, V> fmt::Debug for Occupied<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Occupied")
            .field("current", &self.current)
            .finish_non_exhaustive()
    }
}

impl<K, V> fmt::Display for Occupied<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the key has a value of version {}", self.current)
    }
}

impl<K, V> Error for Occupied<K, V> {}
