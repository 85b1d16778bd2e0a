//! Going back to an earlier moment of a session.

use core::fmt;
use std::error::Error;

use super::{Session, SessionId};
use crate::word::Mode;

/// A moment in a session to go back to. Returned by [`Session::savepoint`].
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
    /// Which table it is: another has other sessions of the same numbers.
    table: u64,
    moment: u64,
}

/// The error of a [`Savepoint`] that is not the session's, or not any more. The session is as it was.
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
    /// It was made in another session.
    OfAnotherSession,
    /// It was released, or the session has gone back to an earlier one, or has released everything.
    Released,
}

impl fmt::Display for SavepointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SavepointError::OfAnotherSession => "the savepoint is of another session",
            SavepointError::Released => "the savepoint was released",
        })
    }
}

impl Error for SavepointError {}

impl<K: ?Sized, S> Session<'_, K, S> {
    /// Returns the present moment, to go back to. Savepoints nest.
    pub fn savepoint(&mut self) -> Savepoint {
        self.settle();
        let moment = self.tick();
        self.savepoints.push(moment);
        Savepoint {
            session: self.id(),
            table: self.table.sessions.table(),
            moment,
        }
    }

    /// Gives back the keys that were locked since `savepoint`, and makes those shared that were made exclusive
    /// since. Savepoints made since are released; `savepoint` itself stays.
    ///
    /// A key that was unlocked since is not locked again.
    ///
    /// # Errors
    /// If the savepoint is of another session, of another table's too, or was released; then nothing has happened.
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

    /// Forgets `savepoint` and those made since, and keeps all keys.
    ///
    /// # Errors
    /// As [`rollback_to`](Self::rollback_to).
    pub fn release_savepoint(&mut self, savepoint: Savepoint) -> Result<(), SavepointError> {
        let depth = self.depth(savepoint)?;
        self.savepoints.truncate(depth);
        Ok(())
    }

    fn depth(&self, savepoint: Savepoint) -> Result<usize, SavepointError> {
        if savepoint.session != self.id() || savepoint.table != self.table.sessions.table() {
            return Err(SavepointError::OfAnotherSession);
        }
        self.savepoints
            .binary_search(&savepoint.moment)
            .map_err(|_| SavepointError::Released)
    }

    /// Makes an exclusive hold the shared one that it was.
    fn downgrade_hash(&mut self, hash: u64) {
        let hold = self.held.get_mut(hash).expect("listed a moment ago");
        hold.mode = Mode::Shared;
        hold.upgraded = None;
        let held = hold.held();
        // First told, then done, so that a waker that panics finds it written down.
        self.announce_change(held);
        self.table.raw().downgrade(hash);
    }
}
