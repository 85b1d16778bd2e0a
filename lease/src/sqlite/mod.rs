//! The engine `sqlite:FILE`: one file for any number of processes of one machine.
//!
//! A lease is a row of one table. SQLite's lock for writers orders all grants, so no queue is kept
//! and a waiter polls the file. The clock is the time since boot, which no change of the date
//! affects. Each row names the boot in which it was written; a row of an earlier boot has expired,
//! because no holder survives a reboot, but its counter goes on.
//!
//! `PROTOCOL.md` in this folder has the rules.
//!
//! # Limits
//! A disk that hangs blocks a call beyond its deadline, because a write in progress cannot be
//! interrupted. Users of several accounts cannot share a file.

mod connection;
mod file;
mod register;
mod system;
mod table;

use std::fmt;
use std::mem;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use latchwork::table::FencingToken;
use parking_lot::{Mutex, MutexGuard};
use rusqlite::Connection;

use crate::engine::{
    Attempt, AttemptAll, Engine, EngineError, HolderInfo, Key, Nonce, Released, Renewal, Renewed,
    Request,
};
use crate::guarantees::{Exclusive, Guarantees, TokenOrder};

use connection::{Limit, describe};
use file::{DatabasePath, Identities};
use register::{Registration, Turn};
use table::{Clock, Grant, Table};

/// The time within which a file is opened, although other processes open or write it.
const OPEN_LIMIT: Duration = Duration::from_secs(10);

/// The time between two searches of a waiter in the file. A hand-over takes half of it on average.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The guarantees of this engine.
pub(crate) const GUARANTEES: Guarantees = Guarantees {
    tolerates: "processes that end or stop; power loss; changes of the date; not the loss of the \
                disk",
    ..Guarantees::new(Exclusive::UnlessPaused, TokenOrder::UnlessDataIsLost)
};

/// An engine that keeps leases in a SQLite database.
///
/// All processes of one machine and one user that open the same file exclude each other. The file
/// and its companions `-wal` and `-shm` are created for their owner only. Each grant is on disk
/// before it is returned, so that tokens survive a loss of power.
///
/// Leases end with a reboot; tokens continue. A change of the date has no effect.
///
/// # Forks
/// The child of a fork cannot use the engine of its parent: each call returns an error. It cannot
/// open an engine either, if its parent had one open, because SQLite's locks are inherited in a
/// state that is wrong. A child that executes another program is not affected.
pub struct SqliteEngine {
    file: DatabasePath,
    identities: Identities,
    clock: Clock,
    process: u32,
    turn: Arc<Turn>,
    /// Empty only while the engine is dropped.
    open: Option<Open>,
}

/// The connections, which are closed with the engine in this order.
struct Open {
    writer: Mutex<Connection>,
    reader: Mutex<Reader>,
    _registration: Registration,
}

/// A connection that only reads, with the commits that it saw of other connections.
struct Reader {
    connection: Connection,
    /// SQLite's number of the file's content, as this connection sees it.
    data_version: i64,
    /// The number of changes that this connection saw.
    changes: u64,
    polled: Instant,
}

impl SqliteEngine {
    /// Opens the database in the file `path`, and creates it if it is missing.
    ///
    /// # Errors
    /// Returns an error if the file
    /// - is a symbolic link, has a second hard link, or belongs to another user,
    /// - can be written by other users,
    /// - is on a network file system, or cannot be written,
    /// - is no database of leases, or has the layout of another release.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, EngineError> {
        let limit = Limit::until(Instant::now() + OPEN_LIMIT);
        let mut register = register::lock(OPEN_LIMIT)?;
        let file = DatabasePath::prepare(path.as_ref())?;

        let open = || -> Result<_, connection::Failure> {
            let writer = connection::open(file.path())?;
            table::prepare(&writer)?;
            let reader = connection::open(file.path())?;
            let data_version = table::data_version(&reader)?;
            Ok((writer, reader, data_version))
        };
        let (writer, connection, data_version) =
            open().map_err(|failure| failure.not_done(file.path()))?;
        let identities = file.identities()?;
        let registration = register.add();
        let turn = register.turn(identities.database());
        drop(limit);

        let reader = Reader {
            connection,
            data_version,
            changes: 0,
            polled: Instant::now(),
        };
        Ok(SqliteEngine {
            clock: Clock::new().map_err(|error| {
                EngineError::misconfigured(format!(
                    "the identifier of the boot is missing: {error}"
                ))
            })?,
            identities,
            process: std::process::id(),
            turn,
            open: Some(Open {
                writer: Mutex::new(writer),
                reader: Mutex::new(reader),
                _registration: registration,
            }),
            file,
        })
    }

    /// Opens the database that a URL of the form `sqlite:FILE` names.
    ///
    /// `FILE` is a path, absolute or relative to the working directory, without escapes.
    /// `sqlite://FILE` is the same.
    ///
    /// # Errors
    /// Returns an error if the URL has another form, and the errors of [`open`](Self::open).
    pub fn from_url(url: &str) -> Result<Self, EngineError> {
        let Some(path) = url.strip_prefix("sqlite:") else {
            return Err(EngineError::misconfigured(
                "a URL of this engine begins with sqlite:",
            ));
        };
        // Another program's URL may have a password there, which no error may contain.
        let authority = path
            .strip_prefix("//")
            .and_then(|rest| rest.split('/').next());
        if authority.is_some_and(|authority| authority.contains('@')) {
            return Err(EngineError::misconfigured(
                "a URL of sqlite: names a file, and has no user and no host",
            ));
        }
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() || path == ":memory:" {
            return Err(EngineError::misconfigured(
                "sqlite: names no file; leases of one process have the URL memory:",
            ));
        }
        if path.contains('?') {
            return Err(EngineError::misconfigured(
                "a URL of sqlite: has no parameters",
            ));
        }
        Self::open(path)
    }

    /// Returns an error in a child of the process that opened this engine [Q5].
    fn check_process(&self) -> Result<(), EngineError> {
        if std::process::id() == self.process {
            return Ok(());
        }
        Err(EngineError::misconfigured(format!(
            "{}: the engine was opened before a fork and works only in the parent",
            self.file.path().display()
        )))
    }

    /// Checks that the files may be accessed.
    fn begin(&self, deadline: Instant) -> Result<Limit, EngineError> {
        self.check_process()?;
        // The files are gone for good: a later attempt finds other leases or none [Q4].
        self.identities
            .check()
            .map_err(EngineError::misconfigured)?;
        if Instant::now() >= deadline {
            return Err(self.too_late());
        }
        Ok(Limit::until(deadline))
    }

    fn too_late(&self) -> EngineError {
        EngineError::not_done(format!(
            "{}: the time limit passed before the transaction",
            self.file.path().display()
        ))
    }

    fn open_connections(&self) -> &Open {
        self.open.as_ref().expect("the engine is not being dropped")
    }

    fn reader(&self, deadline: Instant) -> Result<MutexGuard<'_, Reader>, EngineError> {
        self.open_connections()
            .reader
            .try_lock_until(deadline)
            .ok_or_else(|| self.too_late())
    }

    /// Runs `body` on one consistent state of the table, without the lock for writers.
    fn read<T>(
        &self,
        deadline: Instant,
        body: impl FnOnce(&Table<'_>) -> Result<T, connection::Failure>,
    ) -> Result<T, EngineError> {
        let _limit = self.begin(deadline)?;
        let reader = self.reader(deadline)?;
        let table = Table::new(&reader.connection, &self.clock);
        table
            .check_layout()
            .and_then(|()| body(&table))
            .map_err(|failure| failure.not_done(self.file.path()))
    }

    /// Runs `body` in a transaction with the lock for writers, and commits it.
    fn write<T>(
        &self,
        deadline: Instant,
        body: impl FnOnce(&Table<'_>) -> Result<T, connection::Failure>,
    ) -> Result<T, EngineError> {
        let _limit = self.begin(deadline)?;
        // Before the locks of SQLite, which have no queue [Q6].
        let _turn = self
            .turn
            .try_lock_until(deadline)
            .ok_or_else(|| self.too_late())?;
        let connection = self
            .open_connections()
            .writer
            .try_lock_until(deadline)
            .ok_or_else(|| self.too_late())?;
        connection::begin(&connection).map_err(|failure| failure.not_done(self.file.path()))?;

        // The clock is read by the body, that is, with the lock for writers [Q1].
        let table = Table::new(&connection, &self.clock);
        let result = table.check_layout().and_then(|()| body(&table));
        let value = match result {
            Ok(value) => value,
            Err(failure) => {
                connection::roll_back(&connection);
                return Err(failure.not_done(self.file.path()));
            }
        };
        if Instant::now() >= deadline {
            connection::roll_back(&connection);
            return Err(self.too_late());
        }

        // From here on an error leaves the outcome open [Q3].
        if let Err(error) = connection::commit(&connection) {
            connection::roll_back(&connection);
            let text = describe(self.file.path(), &error);
            return Err(if connection::leaves_nothing(&error) {
                EngineError::not_done(text)
            } else {
                EngineError::unknown(text)
            });
        }
        // A file that was deleted meanwhile holds a grant that no other process sees [Q4].
        self.identities.check().map_err(|error| EngineError {
            is_temporary: false,
            ..EngineError::unknown(error)
        })?;
        Ok(value)
    }

    /// Returns the number of changes that other connections have committed, as polled lately.
    ///
    /// The cost is independent of the number of waiters: one of them polls for all.
    fn changes(&self, deadline: Instant) -> Result<u64, EngineError> {
        let _limit = self.begin(deadline)?;
        let mut reader = self.reader(deadline)?;
        if reader.polled.elapsed() >= POLL_INTERVAL / 2 {
            let version = table::data_version(&reader.connection)
                .map_err(|failure| failure.not_done(self.file.path()))?;
            if version != reader.data_version {
                reader.data_version = version;
                reader.changes += 1;
            }
            reader.polled = Instant::now();
        }
        Ok(reader.changes)
    }
}

impl Drop for SqliteEngine {
    fn drop(&mut self) {
        if std::process::id() != self.process {
            // Closing would remove locks and files that the parent uses [Q5].
            mem::forget(self.open.take());
        }
    }
}

impl fmt::Debug for SqliteEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteEngine")
            .field("file", &self.file.path())
            .finish_non_exhaustive()
    }
}

impl Engine for SqliteEngine {
    fn guarantees(&self) -> Guarantees {
        GUARANTEES
    }

    fn try_acquire(
        &self,
        request: &Request<'_>,
        deadline: Instant,
    ) -> Result<Attempt, EngineError> {
        // A key that is held needs no write.
        let busy = self.read(deadline, |table| table.busy(request.key, request.nonce))?;
        if let Some(free_in) = busy {
            return Ok(Attempt::Busy {
                free_in: Some(free_in),
            });
        }
        self.write(deadline, |table| table.acquire(request))
            .map(|grant| match grant {
                Grant::Granted(token) => Attempt::Granted(token),
                Grant::Busy(free_in) => Attempt::Busy {
                    free_in: Some(free_in),
                },
            })
    }

    fn try_acquire_all(
        &self,
        requests: &[Request<'_>],
        deadline: Instant,
    ) -> Option<Result<AttemptAll, EngineError>> {
        Some(self.write(deadline, |table| table.acquire_all(requests)))
    }

    fn renew_many(
        &self,
        renewals: &[Renewal<'_>],
        deadline: Instant,
    ) -> Result<Vec<Renewed>, EngineError> {
        if renewals.is_empty() {
            return Ok(Vec::new());
        }
        self.write(deadline, |table| table.renew_all(renewals))
    }

    fn release(
        &self,
        key: Key<'_>,
        nonce: Nonce,
        deadline: Instant,
    ) -> Result<Released, EngineError> {
        self.write(deadline, |table| table.release(key, nonce))
    }

    fn release_many(
        &self,
        releases: &[(Key<'_>, Nonce)],
        deadline: Instant,
    ) -> Option<Result<Vec<Released>, EngineError>> {
        if releases.is_empty() {
            return Some(Ok(Vec::new()));
        }
        Some(self.write(deadline, |table| {
            let release = |&(key, nonce): &(Key<'_>, Nonce)| table.release(key, nonce);
            releases.iter().map(release).collect()
        }))
    }

    fn holder(&self, key: Key<'_>, deadline: Instant) -> Result<Option<HolderInfo>, EngineError> {
        self.read(deadline, |table| table.holder(key))
    }

    fn list(
        &self,
        namespace: &str,
        prefix: &str,
        deadline: Instant,
    ) -> Result<Vec<(String, HolderInfo)>, EngineError> {
        self.read(deadline, |table| table.list(namespace, prefix))
    }

    fn break_lease(
        &self,
        key: Key<'_>,
        token: FencingToken,
        deadline: Instant,
    ) -> Result<bool, EngineError> {
        self.write(deadline, |table| table.break_lease(key, token))
    }

    fn raise_floor(
        &self,
        key: Key<'_>,
        token: FencingToken,
        deadline: Instant,
    ) -> Result<(), EngineError> {
        self.write(deadline, |table| table.raise_floor(key, token))
    }

    fn wait_hint(&self, key: Key<'_>, nonce: Nonce, deadline: Instant) -> Result<(), EngineError> {
        let mut seen = None;
        loop {
            let now = Instant::now();
            if now >= deadline {
                return Ok(());
            }
            // A read has a limit of its own: a wait that ends in a moment must not fail.
            let limit = deadline.max(now + Duration::from_secs(1));
            // The number of changes is read before the row. So a release after the row was read
            // changes the number, and the row is read again.
            let changes = self.changes(limit)?;
            if seen != Some(changes) {
                seen = Some(changes);
                if self.read(limit, |table| table.busy(key, nonce))?.is_none() {
                    return Ok(());
                }
            }
            thread::sleep(POLL_INTERVAL.min(deadline.saturating_duration_since(Instant::now())));
        }
    }
}
