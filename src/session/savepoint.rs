//! Savepoints: points of a session to which it can roll back.

use core::fmt;
use std::error::Error;

use super::{Session, SessionId};
use crate::word::Mode;

/// A point of a session to which it can roll back. [`Session::savepoint`] returns it.
///
/// # Examples
/// ```
/// let table: latchwork::LockTable<str> = latchwork::LockTable::new();
/// let mut session = table.session();
/// session.lock("order").unwrap();
/// let before = session.savepoint();
/// session.lock("item 1").unwrap();
/// session.rollback_to(before).unwrap();
/// assert_eq!(table.locked_count(), 1);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Savepoint {
    session: SessionId,
    /// The number of the table: sessions of another table may have the same numbers.
    table: u64,
    moment: u64,
}

/// Why a [`Savepoint`] is not valid in a session. The session is unchanged.
///
/// # Examples
/// ```
/// let table: latchwork::LockTable<str> = latchwork::LockTable::new();
/// let (mut one, mut two) = (table.session(), table.session());
/// let savepoint = one.savepoint();
/// assert!(two.rollback_to(savepoint).is_err());
/// one.release_all();
/// assert!(one.rollback_to(savepoint).is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SavepointError {
    /// The savepoint belongs to another session. Use it with the session that returned it.
    OfAnotherSession,
    /// The savepoint was released, or the session has rolled back to an earlier one, or has
    /// released all keys. Make a new one.
    Released,
}

impl fmt::Display for SavepointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SavepointError::OfAnotherSession => {
                "the savepoint belongs to another session: use it with the session that returned it"
            }
            SavepointError::Released => {
                "the savepoint was released, by itself or with an earlier one: make a new savepoint"
            }
        })
    }
}

impl Error for SavepointError {}

impl<K: ?Sized, S> Session<'_, K, S> {
    /// Returns a savepoint of the present state, for [`rollback_to`](Self::rollback_to). Savepoints
    /// nest.
    ///
    /// # Panics
    /// Panics if a waker panics that a forgotten future of this session has left.
    ///
    /// # Examples
    /// ```
    /// let table: latchwork::LockTable<str> = latchwork::LockTable::new();
    /// let mut session = table.session();
    /// let outer = session.savepoint();
    /// session.lock("a").unwrap();
    /// let inner = session.savepoint();
    /// session.lock("b").unwrap();
    /// session.rollback_to(inner).unwrap();
    /// assert_eq!(session.len(), 1);
    /// session.rollback_to(outer).unwrap();
    /// assert!(session.is_empty());
    /// ```
    pub fn savepoint(&mut self) -> Savepoint {
        self.settle();
        let moment = self.tick();
        self.savepoints.push(moment);
        Savepoint {
            session: self.id(),
            table: self.table.detector.table(),
            moment,
        }
    }

    /// Releases the keys that were locked since `savepoint`, and downgrades the keys that were
    /// upgraded since.
    ///
    /// Savepoints made since are released; `savepoint` itself remains valid. A key that was
    /// unlocked since is not locked again.
    ///
    /// # Blocking
    /// Never blocks.
    ///
    /// # Errors
    /// Returns a [`SavepointError`] if the savepoint belongs to another session, including one of
    /// another table, or was released. The session is unchanged then.
    ///
    /// # Panics
    /// Panics if a waker that receives a key panics. The session keeps the keys that were not yet
    /// released.
    ///
    /// # Examples
    /// ```
    /// use latchwork::{LockTable, Mode};
    /// let table: LockTable<str> = LockTable::new();
    /// let mut session = table.session();
    /// session.lock_shared("a").unwrap();
    /// let before = session.savepoint();
    /// session.lock("a").unwrap(); // upgrades
    /// session.lock("b").unwrap();
    /// session.rollback_to(before).unwrap();
    /// assert_eq!(session.mode("a"), Some(Mode::Shared));
    /// assert_eq!(session.mode("b"), None);
    /// ```
    pub fn rollback_to(&mut self, savepoint: Savepoint) -> Result<(), SavepointError> {
        let depth = self.depth(savepoint)?;
        self.settle();
        self.savepoints.truncate(depth + 1);
        let later = |moment: u64| moment > savepoint.moment;
        let all = self.held.iter();
        let undo: Vec<_> = all
            .filter(|hold| later(hold.taken) || hold.upgraded.is_some_and(later))
            .map(|hold| (hold.hash, later(hold.taken)))
            .collect();
        for (hash, taken) in undo {
            if taken {
                self.unlock_hash(hash);
            } else {
                self.downgrade_hash(hash);
            }
        }
        Ok(())
    }

    /// Releases `savepoint` and those made since, and keeps all keys.
    ///
    /// # Errors
    /// Returns the same errors as [`rollback_to`](Self::rollback_to).
    ///
    /// # Examples
    /// ```
    /// let table: latchwork::LockTable<str> = latchwork::LockTable::new();
    /// let mut session = table.session();
    /// let savepoint = session.savepoint();
    /// session.lock("a").unwrap();
    /// session.release_savepoint(savepoint).unwrap();
    /// assert_eq!(session.len(), 1);
    /// assert!(session.rollback_to(savepoint).is_err());
    /// ```
    pub fn release_savepoint(&mut self, savepoint: Savepoint) -> Result<(), SavepointError> {
        let depth = self.depth(savepoint)?;
        self.savepoints.truncate(depth);
        Ok(())
    }

    fn depth(&self, savepoint: Savepoint) -> Result<usize, SavepointError> {
        if savepoint.session != self.id() || savepoint.table != self.table.detector.table() {
            return Err(SavepointError::OfAnotherSession);
        }
        self.savepoints
            .binary_search(&savepoint.moment)
            .map_err(|_| SavepointError::Released)
    }

    /// Downgrades a key that was upgraded.
    fn downgrade_hash(&mut self, hash: u64) {
        let hold = self.held.get_mut(hash).expect("the key was just listed");
        hold.mode = Mode::Shared;
        hold.upgraded = None;
        let held = hold.held();
        // The record first, then the act, so that a waker that panics finds the key recorded as
        // shared.
        self.announce_change(held);
        self.table.raw().downgrade(hash);
    }
}
