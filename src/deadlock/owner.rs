//! The owners of locks, and the keys that they hold or request.

use core::panic::Location;
use std::sync::Arc;

use crate::word::Mode;

/// A place in the caller's program; empty without the feature `lock-places`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    #[cfg(feature = "lock-places")]
    place: &'static Location<'static>,
}

impl At {
    #[cfg_attr(feature = "lock-places", track_caller)]
    #[inline(always)]
    pub(crate) fn here() -> Self {
        At {
            #[cfg(feature = "lock-places")]
            place: Location::caller(),
        }
    }

    pub(crate) fn place(self) -> Option<&'static Location<'static>> {
        #[cfg(feature = "lock-places")]
        return Some(self.place);
        #[cfg(not(feature = "lock-places"))]
        None
    }
}

/// A key that an owner holds or requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) hash: u64,
    pub(crate) mode: Mode,
    pub(crate) at: At,
}

/// The kind of an owner of locks, as in a [`DeadlockParty`](crate::session::DeadlockParty).
///
/// # Examples
/// ```
/// use latchwork::{LockTable, table::OwnerKind};
/// let table: LockTable<str> = LockTable::new();
/// for report in table.deadlocks() {
///     // The victim of a deadlock is always a session.
///     assert_eq!(report.victim().kind, OwnerKind::Session);
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OwnerKind {
    /// A [`Session`](crate::Session).
    Session,
    /// A call of [`LockTable::lock_all`](crate::LockTable::lock_all), or of one of its timed and
    /// async forms.
    Set {
        /// The number of distinct keys that it locks.
        keys: usize,
    },
}

/// Identifies an owner. The greater the number, the newer the owner.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    pub(crate) id: u64,
    pub(crate) kind: OwnerKind,
    pub(crate) name: Option<Arc<str>>,
    pub(crate) priority: i32,
}

impl Owner {
    /// Set in the ids of sets, so that no session counts one as older than itself.
    pub(crate) const SET: u64 = 1 << 63;

    /// The number of the session or the set, unique in its table.
    pub(crate) fn number(&self) -> u64 {
        self.id & !Self::SET
    }
}
