//! The table of leases: its layout and its statements.

use std::io;
use std::time::Duration;

use latchwork::table::FencingToken;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, named_params, params};

use crate::engine::{AttemptAll, HolderInfo, Key, Nonce, Released, Renewal, Renewed, Request};

use super::connection::{self, Failure};
use super::system;

/// The mark of a database of leases: "LwLs".
const APPLICATION: i64 = 0x4c77_4c73;

/// The number of the layout below. A release with another layout must change the number before it
/// changes a table.
const LAYOUT: i64 = 1;

/// The tables of layout 1.
///
/// `counter` is the greatest token that a grant or a floor has used; `token` is that of the present
/// holder. Times are nanoseconds since the boot `boot`. Without a holder, `nonce` is null.
const SCHEMA: &str = "
    CREATE TABLE lease (
        namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        counter INTEGER NOT NULL,
        token INTEGER NOT NULL,
        nonce BLOB,
        owner TEXT NOT NULL,
        boot TEXT NOT NULL,
        granted INTEGER NOT NULL,
        expires INTEGER NOT NULL,
        PRIMARY KEY (namespace, name)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE lease_layout (version INTEGER NOT NULL, release TEXT NOT NULL) STRICT;
";

/// The time since boot, and the identifier of the boot.
#[derive(Debug)]
pub(super) struct Clock {
    boot: String,
    offset: i64,
}

impl Clock {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Clock {
            boot: system::boot_id()?,
            offset: system::boot_clock_offset(),
        })
    }

    /// Returns the nanoseconds since boot, the same in all time namespaces.
    fn now(&self) -> i64 {
        system::boot_clock() - self.offset
    }
}

/// Checks the layout of a database, or creates it in an empty one, and selects the write-ahead log.
pub(super) fn prepare(connection: &Connection) -> Result<(), Failure> {
    // A database of another program must not be changed, not even its journal.
    let is_new = is_new(connection)?;
    if !is_new {
        check_layout(connection)?;
    }
    select_log(connection)?;
    if is_new {
        connection::begin(connection)?;
        let result = create(connection);
        match result {
            Ok(()) => connection::commit(connection)?,
            Err(failure) => {
                connection::roll_back(connection);
                return Err(failure);
            }
        }
    }
    check_layout(connection)
}

/// Creates the tables, unless another process has created them first.
fn create(connection: &Connection) -> Result<(), Failure> {
    if !is_new(connection)? {
        return Ok(());
    }
    connection.execute_batch(SCHEMA)?;
    connection.execute(
        "INSERT INTO lease_layout (version, release) VALUES (?1, ?2)",
        params![LAYOUT, env!("CARGO_PKG_VERSION")],
    )?;
    connection.pragma_update(None, "application_id", APPLICATION)?;
    connection.pragma_update(None, "user_version", LAYOUT)?;
    Ok(())
}

fn is_new(connection: &Connection) -> rusqlite::Result<bool> {
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(tables == 0 && number(connection, "PRAGMA application_id")? == 0)
}

/// Selects the write-ahead log. SQLite does not wait for locks here by itself.
fn select_log(connection: &Connection) -> Result<(), Failure> {
    for attempt in 0.. {
        let mode = connection.query_row("PRAGMA journal_mode = WAL", [], |row| {
            row.get::<_, String>(0)
        });
        match mode {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(mode) => {
                return Err(Failure::Refused(format!(
                    "the file system permits only the journal mode {mode}, not a write-ahead log"
                )));
            }
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && connection::wait_for_lock(attempt) => {}
            Err(error) => return Err(error.into()),
        }
    }
    unreachable!("the loop has no end")
}

fn check_layout(connection: &Connection) -> Result<(), Failure> {
    let version = number(connection, "PRAGMA user_version")?;
    if version == LAYOUT && number(connection, "PRAGMA application_id")? == APPLICATION {
        return Ok(());
    }
    if number(connection, "PRAGMA application_id")? != APPLICATION {
        return Err(Failure::Refused(
            "this is a database of another program".to_owned(),
        ));
    }
    Err(Failure::Refused(format!(
        "the file has layout {version} and this release, {}, reads layout {LAYOUT}",
        env!("CARGO_PKG_VERSION")
    )))
}

/// Returns a number that changes when another connection commits.
pub(super) fn data_version(connection: &Connection) -> Result<i64, Failure> {
    Ok(number(connection, "PRAGMA data_version")?)
}

fn number(connection: &Connection, pragma: &str) -> rusqlite::Result<i64> {
    connection
        .prepare_cached(pragma)?
        .query_row([], |row| row.get(0))
}

/// The answer to one request.
#[derive(Debug)]
pub(super) enum Grant {
    Granted(FencingToken),
    Busy(Duration),
}

/// The table, through one connection.
#[derive(Debug)]
pub(super) struct Table<'a> {
    connection: &'a Connection,
    clock: &'a Clock,
}

/// One row.
#[derive(Debug)]
struct Stored {
    counter: i64,
    token: i64,
    nonce: Option<[u8; 16]>,
    boot: String,
    granted: i64,
    expires: i64,
}

impl Stored {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Stored {
            counter: row.get("counter")?,
            token: row.get("token")?,
            nonce: row.get("nonce")?,
            boot: row.get("boot")?,
            granted: row.get("granted")?,
            expires: row.get("expires")?,
        })
    }

    /// Returns the nonce of the holder and the time that is left, unless the lease has ended.
    fn holder(&self, clock: &Clock, now: i64) -> Option<([u8; 16], Duration)> {
        let nonce = self.nonce?;
        (self.boot == clock.boot && self.expires > now)
            .then(|| (nonce, nanoseconds(self.expires - now)))
    }
}

impl<'a> Table<'a> {
    pub(super) fn new(connection: &'a Connection, clock: &'a Clock) -> Self {
        Table { connection, clock }
    }

    pub(super) fn check_layout(&self) -> Result<(), Failure> {
        check_layout(self.connection)
    }

    fn stored(&self, key: Key<'_>) -> Result<Option<Stored>, Failure> {
        let stored = self
            .connection
            .prepare_cached(
                "SELECT counter, token, nonce, boot, granted, expires FROM lease
                 WHERE namespace = ?1 AND name = ?2",
            )?
            .query_row([key.namespace, key.name], Stored::from_row)
            .optional()?;
        Ok(stored)
    }

    /// Returns the time until the lease of another nonce ends, if one holds the key.
    pub(super) fn busy(&self, key: Key<'_>, nonce: Nonce) -> Result<Option<Duration>, Failure> {
        let Some(stored) = self.stored(key)? else {
            return Ok(None);
        };
        Ok(stored
            .holder(self.clock, self.clock.now())
            .filter(|(holder, _)| *holder != bytes(nonce))
            .map(|(_, left)| left))
    }

    pub(super) fn acquire(&self, request: &Request<'_>) -> Result<Grant, Failure> {
        let now = self.clock.now();
        let nonce = bytes(request.nonce);
        let stored = self.stored(request.key)?;
        let counter = stored.as_ref().map_or(0, |stored| stored.counter);
        let (token, granted) = match stored {
            None => (counter.checked_add(1), now),
            Some(stored) => match stored.holder(self.clock, now) {
                // A request that is repeated: the same token, a new end.
                Some((holder, _)) if holder == nonce => (Some(stored.token), stored.granted),
                Some((_, left)) => return Ok(Grant::Busy(left)),
                None => (counter.checked_add(1), now),
            },
        };
        let token = token.ok_or_else(|| Failure::Refused(EXHAUSTED.to_owned()))?;
        self.connection
            .prepare_cached(
                "INSERT INTO lease
                 (namespace, name, counter, token, nonce, owner, boot, granted, expires)
                 VALUES (:namespace, :name, :counter, :token, :nonce, :owner, :boot, :granted,
                         :expires)
                 ON CONFLICT (namespace, name) DO UPDATE SET
                     counter = excluded.counter, token = excluded.token, nonce = excluded.nonce,
                     owner = excluded.owner, boot = excluded.boot, granted = excluded.granted,
                     expires = excluded.expires",
            )?
            .execute(named_params! {
                ":namespace": request.key.namespace,
                ":name": request.key.name,
                ":counter": counter.max(token),
                ":token": token,
                ":nonce": nonce,
                ":owner": request.owner,
                ":boot": self.clock.boot,
                ":granted": granted,
                ":expires": end(now, request.ttl),
            })?;
        Ok(Grant::Granted(FencingToken::new(token as u64)))
    }

    /// Acquires all keys. If one is busy, the transaction changes nothing.
    pub(super) fn acquire_all(&self, requests: &[Request<'_>]) -> Result<AttemptAll, Failure> {
        for (index, request) in requests.iter().enumerate() {
            if let Some(free_in) = self.busy(request.key, request.nonce)? {
                return Ok(AttemptAll::Busy {
                    index,
                    free_in: Some(free_in),
                });
            }
        }
        let mut tokens = Vec::with_capacity(requests.len());
        for request in requests {
            match self.acquire(request)? {
                Grant::Granted(token) => tokens.push(token),
                // No other transaction writes meanwhile, and time only frees a key.
                Grant::Busy(_) => unreachable!("a key became busy in a transaction"),
            }
        }
        Ok(AttemptAll::Granted(tokens))
    }

    /// Renews leases by one statement, to which the values that rarely differ are bound once.
    ///
    /// All of them are renewed from one reading of the clock, which precedes each change. No other
    /// transaction can acquire a lease that ends meanwhile.
    pub(super) fn renew_all(&self, renewals: &[Renewal<'_>]) -> Result<Vec<Renewed>, Failure> {
        let now = self.clock.now();
        let mut statement = self.connection.prepare_cached(
            "UPDATE lease SET expires = ?1
             WHERE namespace = ?2 AND name = ?3 AND nonce = ?4 AND token = ?5 AND boot = ?6
                 AND expires > ?7",
        )?;
        statement.raw_bind_parameter(6, &self.clock.boot)?;
        statement.raw_bind_parameter(7, now)?;
        let (mut namespace, mut ttl) = (None, None);
        let mut renewed = Vec::with_capacity(renewals.len());
        for renewal in renewals {
            let Ok(token) = i64::try_from(renewal.token.get()) else {
                renewed.push(Renewed::Lost);
                continue;
            };
            if ttl.replace(renewal.ttl) != Some(renewal.ttl) {
                statement.raw_bind_parameter(1, end(now, renewal.ttl))?;
            }
            if namespace.replace(renewal.key.namespace) != Some(renewal.key.namespace) {
                statement.raw_bind_parameter(2, renewal.key.namespace)?;
            }
            statement.raw_bind_parameter(3, renewal.key.name)?;
            statement.raw_bind_parameter(4, bytes(renewal.nonce))?;
            statement.raw_bind_parameter(5, token)?;
            renewed.push(match statement.raw_execute()? {
                1 => Renewed::Held,
                _ => Renewed::Lost,
            });
        }
        Ok(renewed)
    }

    pub(super) fn release(&self, key: Key<'_>, nonce: Nonce) -> Result<Released, Failure> {
        let held = match self
            .stored(key)?
            .and_then(|row| row.holder(self.clock, self.clock.now()))
        {
            Some((holder, _)) => holder == bytes(nonce),
            None => false,
        };
        if !held {
            return Ok(Released::WasLost);
        }
        self.clear(key)?;
        Ok(Released::Done)
    }

    pub(super) fn break_lease(&self, key: Key<'_>, token: FencingToken) -> Result<bool, Failure> {
        let Some(stored) = self.stored(key)? else {
            return Ok(false);
        };
        let is_held = stored.holder(self.clock, self.clock.now()).is_some();
        if !is_held || u64::try_from(stored.token) != Ok(token.get()) {
            return Ok(false);
        }
        self.clear(key)?;
        Ok(true)
    }

    fn clear(&self, key: Key<'_>) -> Result<(), Failure> {
        self.connection
            .prepare_cached("UPDATE lease SET nonce = NULL WHERE namespace = ?1 AND name = ?2")?
            .execute([key.namespace, key.name])?;
        Ok(())
    }

    pub(super) fn raise_floor(&self, key: Key<'_>, token: FencingToken) -> Result<(), Failure> {
        let floor = crate::engine::floor(token).map_err(Failure::Refused)?;
        self.connection
            .prepare_cached(
                "INSERT INTO lease
                 (namespace, name, counter, token, nonce, owner, boot, granted, expires)
                 VALUES (?1, ?2, ?3, 0, NULL, '', '', 0, 0)
                 ON CONFLICT (namespace, name) DO UPDATE SET
                     counter = max(counter, excluded.counter)",
            )?
            .execute(params![key.namespace, key.name, floor])?;
        Ok(())
    }

    pub(super) fn holder(&self, key: Key<'_>) -> Result<Option<HolderInfo>, Failure> {
        let now = self.clock.now();
        let found = self
            .connection
            .prepare_cached(
                "SELECT counter, token, nonce, boot, granted, expires, owner FROM lease
                 WHERE namespace = ?1 AND name = ?2",
            )?
            .query_row([key.namespace, key.name], |row| self.info(row, now))
            .optional()?;
        Ok(found.flatten())
    }

    pub(super) fn list(
        &self,
        namespace: &str,
        prefix: &str,
    ) -> Result<Vec<(String, HolderInfo)>, Failure> {
        let now = self.clock.now();
        let mut statement = self.connection.prepare_cached(
            "SELECT counter, token, nonce, boot, granted, expires, owner, name FROM lease
             WHERE namespace = ?1 AND name >= ?2 ORDER BY name",
        )?;
        let mut rows = statement.query([namespace, prefix])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let name: String = row.get("name")?;
            // Names are in the order of their bytes: those with the prefix stand together.
            if !name.starts_with(prefix) {
                break;
            }
            if let Some(info) = self.info(row, now)? {
                found.push((name, info));
            }
        }
        Ok(found)
    }

    fn info(&self, row: &Row<'_>, now: i64) -> rusqlite::Result<Option<HolderInfo>> {
        let stored = Stored::from_row(row)?;
        let Some((_, expires_in)) = stored.holder(self.clock, now) else {
            return Ok(None);
        };
        Ok(Some(HolderInfo {
            owner: row.get("owner")?,
            token: FencingToken::new(stored.token as u64),
            held_for: nanoseconds(now - stored.granted),
            expires_in,
        }))
    }
}

const EXHAUSTED: &str = "a token of this engine has at most 63 bits";

fn bytes(nonce: Nonce) -> [u8; 16] {
    nonce.get().to_be_bytes()
}

fn end(now: i64, ttl: Duration) -> i64 {
    now.saturating_add(i64::try_from(ttl.as_nanos()).unwrap_or(i64::MAX))
}

fn nanoseconds(number: i64) -> Duration {
    Duration::from_nanos(u64::try_from(number).unwrap_or(0))
}
