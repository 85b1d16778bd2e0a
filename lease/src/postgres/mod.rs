//! The engine `postgres://…`: a table of a PostgreSQL server.
//!
//! A lease is a row of the table `latchwork.lease`. The server's clock decides when it ends, and
//! the lock of the row orders all requests. A release notifies all engines on one channel, so that
//! waiters do not poll.
//!
//! `PROTOCOL.md` in this folder has the rules.

mod driver;
mod error;
mod settings;
mod statements;
mod tls;

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use latchwork::table::FencingToken;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::engine::{
    Attempt, AttemptAll, Engine, EngineError, HolderInfo, Key, Nonce, Released, Renewal, Renewed,
    Request,
};
use crate::guarantees::{Exclusive, Guarantees, TokenOrder};
use crate::notices;

use driver::{Driver, Hearing, Late, Parameter};
use settings::{Environment, Settings};

/// The time within which the first connection is made.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// The time between two reads of a waiter behind a pooler, which passes no notifications.
const POLL_INTERVAL: Duration = Duration::from_millis(25);

/// The time between two reads of a waiter that is notified, in case its connection is dead.
const RECHECK_INTERVAL: Duration = Duration::from_secs(2);

/// An engine that keeps leases in a PostgreSQL database, release 12 or later.
///
/// # URL
/// `postgres://USER:PASSWORD@HOST:PORT/DATABASE?OPTION=VALUE`, also with several hosts. `sslmode`
/// is `disable`, `prefer` (the default), `require`, `verify-ca` or `verify-full`; `sslrootcert` is
/// a file of certificates or `system`. A password that is not in the URL is read from the variable
/// `PGPASSWORD`, or from the file that `PGPASSFILE` names, or from `~/.pgpass`. Errors and `Debug`
/// never contain it.
///
/// # Privileges
/// The engine creates the schema `latchwork` with its tables if the role has `CREATE` on the
/// database. Otherwise the error names the statements. A role that only uses leases needs
///
/// ```sql
/// GRANT USAGE ON SCHEMA latchwork TO the_role;
/// GRANT SELECT, INSERT, UPDATE ON latchwork.lease TO the_role;
/// GRANT SELECT ON latchwork.layout TO the_role;
/// ```
///
/// # Poolers
/// Requests work through PgBouncer in each of its modes, because a request is one statement and
/// nothing depends on a session. Notifications do not reach a client of a pooler: the engine
/// detects one by a setting that it does not pass, and its waiters then poll every 25 ms.
///
/// # Failover
/// An asynchronous standby that is promoted may have lost the last tokens; use synchronous
/// replication, or raise the floor of each name to the token that its resource has seen.
///
/// # Forks
/// Each call returns an error in a child of a fork. The child can connect an engine of its own.
pub struct PostgresEngine {
    process: u32,
    /// Empty only while the engine is dropped.
    driver: Option<Driver>,
}

impl PostgresEngine {
    /// Connects to the server that a URL names.
    ///
    /// # Blocking
    /// Blocks for at most 10 seconds.
    ///
    /// # Errors
    /// Returns an error if the URL is malformed, or if the server
    /// - cannot be reached, refuses the user or has no such database,
    /// - is older than release 12, is a standby, or does not use UTF-8,
    /// - has no table of leases and the role may not create it,
    /// - has a table with the layout of another release.
    pub fn connect(url: &str) -> Result<Self, EngineError> {
        let settings = Settings::read(url, &Environment::of_process())?;
        let driver = Driver::new(settings)?;
        driver.connect(Instant::now() + CONNECT_LIMIT)?;
        Ok(PostgresEngine {
            process: std::process::id(),
            driver: Some(driver),
        })
    }

    /// Returns the driver, or an error in a child of the process that connected [PG6].
    fn driver(&self) -> Result<&Driver, EngineError> {
        let driver = self
            .driver
            .as_ref()
            .expect("the engine is not being dropped");
        if std::process::id() != self.process {
            return Err(EngineError::misconfigured(format!(
                "{}: the engine was connected before a fork and works only in the parent",
                driver.server()
            )));
        }
        Ok(driver)
    }

    fn query(
        &self,
        statement: &'static str,
        parameters: Vec<Parameter>,
        deadline: Instant,
    ) -> Result<Vec<Row>, EngineError> {
        self.driver()?
            .query(statement, Late::Executed, parameters, deadline)
    }

    /// Runs a statement that has no effect after its deadline [PG7].
    fn query_in_time(
        &self,
        statement: &'static str,
        parameters: Vec<Parameter>,
        deadline: Instant,
    ) -> Result<Vec<Row>, EngineError> {
        self.driver()?
            .query(statement, Late::Refused, parameters, deadline)
    }

    /// Returns the first request whose key another nonce holds.
    fn first_busy(
        &self,
        requests: &[Request<'_>],
        deadline: Instant,
    ) -> Result<Option<AttemptAll>, EngineError> {
        let mut parameters = key_lists(requests.iter().map(|request| request.key));
        parameters.push(nonces(requests.iter().map(|request| request.nonce)));
        let rows = self.query(statements::FIRST_BUSY, parameters, deadline)?;
        Ok(rows.first().map(|row| AttemptAll::Busy {
            index: row.get::<_, i64>("place") as usize - 1,
            free_in: Some(microseconds(row.get("micros"))),
        }))
    }

    fn acquire_all(
        &self,
        requests: &[Request<'_>],
        deadline: Instant,
    ) -> Result<AttemptAll, EngineError> {
        if requests.is_empty() {
            return Ok(AttemptAll::Granted(Vec::new()));
        }
        if let Some(busy) = self.first_busy(requests, deadline)? {
            return Ok(busy);
        }
        let mut parameters = key_lists(requests.iter().map(|request| request.key));
        parameters.push(nonces(requests.iter().map(|request| request.nonce)));
        let owners: Vec<String> = requests
            .iter()
            .map(|request| request.owner.to_owned())
            .collect();
        parameters.push((Box::new(owners), Type::TEXT_ARRAY));
        let micros: Vec<i64> = requests.iter().map(|request| length(request.ttl)).collect();
        parameters.push((Box::new(micros), Type::INT8_ARRAY));
        let is_partial = |error: &EngineError| error.to_string().contains("(22012)");
        match self.query_in_time(statements::ACQUIRE_ALL, parameters, deadline) {
            Ok(rows) if rows.len() == requests.len() => Ok(AttemptAll::Granted(
                rows.iter().map(|row| token(row.get("token"))).collect(),
            )),
            // A key became busy after it was read, and nothing was granted.
            Ok(_) => self.first_busy(requests, deadline).map(busy_or_first),
            Err(error) if is_partial(&error) => {
                self.first_busy(requests, deadline).map(busy_or_first)
            }
            Err(error) => Err(error),
        }
    }
}

/// Reports the first request as busy if the key that was busy has become free since.
fn busy_or_first(busy: Option<AttemptAll>) -> AttemptAll {
    busy.unwrap_or(AttemptAll::Busy {
        index: 0,
        free_in: None,
    })
}

impl Drop for PostgresEngine {
    fn drop(&mut self) {
        if let Some(driver) = self.driver.take() {
            if std::process::id() != self.process {
                // The thread is not in this process, and the connection is the parent's [PG6].
                driver.forget();
            }
        }
    }
}

impl fmt::Debug for PostgresEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = self.driver.as_ref().map(Driver::settings);
        f.debug_tuple("PostgresEngine").field(&settings).finish()
    }
}

impl Engine for PostgresEngine {
    fn guarantees(&self) -> Guarantees {
        Guarantees {
            tolerates: "clients that end or stop; restarts of the server; failover to a \
                        synchronous standby",
            ..Guarantees::new(
                Exclusive::UnlessPausedOrClocksJump,
                TokenOrder::UnlessDataIsLost,
            )
        }
    }

    fn try_acquire(
        &self,
        request: &Request<'_>,
        deadline: Instant,
    ) -> Result<Attempt, EngineError> {
        let mut parameters = key_values(request.key);
        parameters.push(nonce(request.nonce));
        parameters.push(text(request.owner));
        parameters.push((Box::new(length(request.ttl)), Type::INT8));
        let rows = self.query_in_time(statements::ACQUIRE, parameters, deadline)?;
        // Without a row, another request was granted while this one waited for the row.
        let Some(row) = rows.first() else {
            return Ok(Attempt::Busy { free_in: None });
        };
        Ok(match row.get::<_, Option<i64>>("token") {
            Some(number) => Attempt::Granted(token(number)),
            None => Attempt::Busy {
                free_in: Some(microseconds(row.get("micros"))),
            },
        })
    }

    fn try_acquire_all(
        &self,
        requests: &[Request<'_>],
        deadline: Instant,
    ) -> Option<Result<AttemptAll, EngineError>> {
        Some(self.acquire_all(requests, deadline))
    }

    fn renew_many(
        &self,
        renewals: &[Renewal<'_>],
        deadline: Instant,
    ) -> Result<Vec<Renewed>, EngineError> {
        if renewals.is_empty() {
            return Ok(Vec::new());
        }
        let mut parameters = key_lists(renewals.iter().map(|renewal| renewal.key));
        parameters.push(nonces(renewals.iter().map(|renewal| renewal.nonce)));
        // No lease has the token -1.
        let tokens: Vec<i64> = renewals
            .iter()
            .map(|r| i64::try_from(r.token.get()).unwrap_or(-1))
            .collect();
        parameters.push((Box::new(tokens), Type::INT8_ARRAY));
        let micros: Vec<i64> = renewals.iter().map(|renewal| length(renewal.ttl)).collect();
        parameters.push((Box::new(micros), Type::INT8_ARRAY));
        let rows = self.query_in_time(statements::RENEW, parameters, deadline)?;
        let mut renewed = vec![Renewed::Lost; renewals.len()];
        for row in rows {
            let place = row.get::<_, i64>("place") as usize;
            renewed[place - 1] = match row.get("renewed") {
                true => Renewed::Held,
                false => Renewed::Unknown,
            };
        }
        Ok(renewed)
    }

    fn release(
        &self,
        key: Key<'_>,
        holder: Nonce,
        deadline: Instant,
    ) -> Result<Released, EngineError> {
        let mut parameters = key_values(key);
        parameters.push(nonce(holder));
        parameters.push(text(&notices::hash(key)));
        let rows = self.query(statements::RELEASE, parameters, deadline)?;
        Ok(match rows.first() {
            Some(row) if row.get("was_held") => Released::Done,
            _ => Released::WasLost,
        })
    }

    fn holder(&self, key: Key<'_>, deadline: Instant) -> Result<Option<HolderInfo>, EngineError> {
        let rows = self.query(statements::HOLDER, key_values(key), deadline)?;
        Ok(rows.first().map(info))
    }

    fn list(
        &self,
        namespace: &str,
        prefix: &str,
        deadline: Instant,
    ) -> Result<Vec<(String, HolderInfo)>, EngineError> {
        let rows = self.query(
            statements::LIST,
            vec![text(namespace), text(prefix)],
            deadline,
        )?;
        Ok(rows
            .iter()
            .map(|row| (row.get("name"), info(row)))
            .collect())
    }

    fn break_lease(
        &self,
        key: Key<'_>,
        token: FencingToken,
        deadline: Instant,
    ) -> Result<bool, EngineError> {
        let Ok(token) = i64::try_from(token.get()) else {
            return Ok(false);
        };
        let mut parameters = key_values(key);
        parameters.push((Box::new(token), Type::INT8));
        parameters.push(text(&notices::hash(key)));
        Ok(!self
            .query(statements::BREAK, parameters, deadline)?
            .is_empty())
    }

    fn raise_floor(
        &self,
        key: Key<'_>,
        token: FencingToken,
        deadline: Instant,
    ) -> Result<(), EngineError> {
        let floor = crate::engine::floor(token).map_err(EngineError::misconfigured)?;
        let mut parameters = key_values(key);
        parameters.push((Box::new(floor), Type::INT8));
        self.query(statements::RAISE, parameters, deadline)
            .map(drop)
    }

    fn wait_hint(
        &self,
        key: Key<'_>,
        waiting: Nonce,
        deadline: Instant,
    ) -> Result<(), EngineError> {
        let driver = self.driver()?;
        // Registered and listening before the row is read [PG4].
        let waiter = driver.notices().register(notices::hash(key));
        loop {
            let now = Instant::now();
            if now >= deadline {
                return Ok(());
            }
            // A read has a limit of its own: a wait that ends in a moment must not fail.
            let limit = deadline
                .max(now + Duration::from_secs(1))
                .min(now + RECHECK_INTERVAL);
            let hearing = driver.listen(limit)?;
            let mut parameters = key_values(key);
            parameters.push(nonce(waiting));
            if self
                .query(statements::IS_BUSY, parameters, limit)?
                .is_empty()
            {
                return Ok(());
            }
            match hearing {
                Hearing::Notified => {
                    if waiter.wait(deadline.min(Instant::now() + RECHECK_INTERVAL)) {
                        return Ok(());
                    }
                }
                Hearing::Polls => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    thread::sleep(POLL_INTERVAL.min(left));
                }
            }
        }
    }
}

fn info(row: &Row) -> HolderInfo {
    HolderInfo {
        owner: row.get("owner"),
        token: token(row.get("token")),
        held_for: microseconds(row.get("held")),
        expires_in: microseconds(row.get("remaining")),
    }
}

fn text(value: &str) -> Parameter {
    (Box::new(value.to_owned()), Type::TEXT)
}

fn nonce(nonce: Nonce) -> Parameter {
    (Box::new(nonce.get().to_be_bytes().to_vec()), Type::BYTEA)
}

fn nonces(list: impl Iterator<Item = Nonce>) -> Parameter {
    let list: Vec<Vec<u8>> = list
        .map(|nonce| nonce.get().to_be_bytes().to_vec())
        .collect();
    (Box::new(list), Type::BYTEA_ARRAY)
}

fn key_values(key: Key<'_>) -> Vec<Parameter> {
    vec![text(key.namespace), text(key.name)]
}

fn key_lists<'a>(keys: impl Iterator<Item = Key<'a>>) -> Vec<Parameter> {
    let (namespaces, names): (Vec<String>, Vec<String>) = keys
        .map(|key| (key.namespace.to_owned(), key.name.to_owned()))
        .unzip();
    vec![
        (Box::new(namespaces), Type::TEXT_ARRAY),
        (Box::new(names), Type::TEXT_ARRAY),
    ]
}

fn token(number: i64) -> FencingToken {
    FencingToken::new(u64::try_from(number).unwrap_or(0))
}

/// Returns the microseconds of a lease.
fn length(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX)
}

fn microseconds(number: i64) -> Duration {
    Duration::from_micros(u64::try_from(number).unwrap_or(0))
}
