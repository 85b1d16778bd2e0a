//! Connections to SQLite: how one is opened, its transactions, time limits and errors.

use std::cell::Cell;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::engine::EngineError;

thread_local! {
    /// The time limit of the call that this thread makes.
    static LIMIT: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The time limit of all statements that this thread runs while the value exists.
#[derive(Debug)]
pub(super) struct Limit {
    previous: Option<Instant>,
}

impl Limit {
    pub(super) fn until(deadline: Instant) -> Self {
        Limit {
            previous: LIMIT.replace(Some(deadline)),
        }
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        LIMIT.set(self.previous);
    }
}

/// Returns the time that is left, or `None` if the limit has passed.
fn time_left() -> Option<Duration> {
    match LIMIT.get() {
        Some(limit) => limit
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero()),
        None => Some(Duration::MAX),
    }
}

/// The shortest time between two attempts to acquire the lock for writers.
const SHORTEST: Duration = Duration::from_micros(400);

/// Sleeps before the next attempt to acquire a lock of the file. Returns false after the limit.
pub(super) fn wait_for_lock(count: i32) -> bool {
    let Some(left) = time_left() else {
        return false;
    };
    // 2 ms at first, then less: the lock is free for moments only. A waiter that asks more often
    // is served before those that came later. An attempt costs some microseconds.
    let pause = Duration::from_micros(2000 / (1 + count.clamp(0, 100) as u64 / 10)).max(SHORTEST);
    thread::sleep(pause.min(left));
    true
}

/// Opens the file, which must exist.
pub(super) fn open(path: &Path) -> Result<Connection, Failure> {
    // SQLite's own lock on a connection is omitted: a mutex of the engine protects it.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_handler(Some(wait_for_lock))?;
    // Some thousand steps take less than a millisecond.
    connection.progress_handler(4000, Some(|| time_left().is_none()));
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}

/// Starts a transaction with the lock for writers.
pub(super) fn begin(connection: &Connection) -> Result<(), Failure> {
    if !connection.is_autocommit() {
        // A rollback failed earlier.
        run(connection, "ROLLBACK")?;
    }
    Ok(run(connection, "BEGIN IMMEDIATE")?)
}

pub(super) fn commit(connection: &Connection) -> rusqlite::Result<()> {
    run(connection, "COMMIT")
}

/// Ends a transaction without an effect. If that fails, the next [`begin`] repeats it.
pub(super) fn roll_back(connection: &Connection) {
    if !connection.is_autocommit() {
        let _ = run(connection, "ROLLBACK");
    }
}

fn run(connection: &Connection, statement: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(statement)?.execute([])?;
    Ok(())
}

/// An error before COMMIT.
#[derive(Debug)]
pub(super) enum Failure {
    Sqlite(rusqlite::Error),
    /// The file or the request cannot be served, whatever the number of attempts.
    Refused(String),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Failure::Sqlite(error)
    }
}

impl Failure {
    /// Describes the failure of a call that had no effect.
    pub(super) fn not_done(self, path: &Path) -> EngineError {
        match self {
            Failure::Sqlite(error) => {
                let text = describe(path, &error);
                match error.sqlite_error_code() {
                    Some(
                        ErrorCode::ReadOnly
                        | ErrorCode::DatabaseCorrupt
                        | ErrorCode::NotADatabase
                        | ErrorCode::CannotOpen
                        | ErrorCode::PermissionDenied,
                    ) => EngineError::misconfigured(text),
                    _ => EngineError::not_done(text),
                }
            }
            Failure::Refused(reason) => {
                EngineError::misconfigured(format!("{}: {reason}", path.display()))
            }
        }
    }
}

/// Returns true if a commit with this error has no effect, including after a crash.
pub(super) fn leaves_nothing(error: &rusqlite::Error) -> bool {
    // The record of a commit is written last. On a full disk it is incomplete, and recovery of the
    // -wal file ignores it.
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy)
    )
}

/// Describes an error in one line.
pub(super) fn describe(path: &Path, error: &rusqlite::Error) -> String {
    let path = path.display();
    let reason = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy) => "other processes wrote until the time limit",
        Some(ErrorCode::OperationInterrupted) => "the time limit passed",
        Some(ErrorCode::DiskFull) => "the disk is full",
        Some(ErrorCode::ReadOnly) => "the file or its file system is read-only",
        Some(ErrorCode::DatabaseCorrupt) => "the database is damaged",
        Some(ErrorCode::NotADatabase) => "the file is not a database",
        Some(ErrorCode::SystemIoFailure) => "the disk failed or is full",
        _ => "SQLite failed",
    };
    format!("{path}: {reason} ({error})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_nest() {
        assert_eq!(time_left(), Some(Duration::MAX));
        let outer = Limit::until(Instant::now() + Duration::from_secs(60));
        {
            let _inner = Limit::until(Instant::now());
            assert_eq!(time_left(), None);
            assert!(!wait_for_lock(0));
        }
        assert!(time_left().unwrap() > Duration::from_secs(50));
        drop(outer);
        assert_eq!(time_left(), Some(Duration::MAX));
    }
}
