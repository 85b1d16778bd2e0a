//! The engine `postgres://…`: a table of a PostgreSQL server.
//!
//! A lease is a row of the table `latchwork.lease`. The server's clock decides when it ends, and
//! the lock of the row orders all requests. Waiters have places in a queue, which is in the row. A
//! release notifies the first of them.
//!
//! `PROTOCOL.md` in this folder has the rules.

mod driver;
mod ear;
mod error;
mod layout;
mod notices;
mod session;
mod settings;
mod statements;
mod tls;

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
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

use driver::{Driver, Hearing, Late, Parameter};
use notices::Ear;
use settings::{Environment, Settings};

/// The time within which the first connection is made.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// The time between two reads of a waiter behind a pooler, which passes no notifications.
const POLL_INTERVAL: Duration = Duration::from_millis(25);

/// The time between two reads of a waiter that is notified, in case its connection is dead.
const RECHECK_INTERVAL: Duration = Duration::from_secs(2);

/// The number of requests, at first and after a waiter was found, that expect waiters. Each of them
/// that finds none costs a function call, and each that finds one unexpectedly costs a request.
const EXPECTED: u32 = 32;

/// The guarantees of this engine.
pub(crate) const GUARANTEES: Guarantees = Guarantees {
    fair: true,
    tolerates: "clients that end or stop; restarts of the server; failover to a synchronous standby",
    ..Guarantees::new(
        Exclusive::UnlessPausedOrClocksJump,
        TokenOrder::UnlessDataIsLost,
    )
};

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
/// and `EXECUTE` on the functions of the schema, which each role has by default.
///
/// # Waiters
/// Waiters of all processes are served in the order of their requests. A waiter that does not ask
/// for the key within 300 ms after it became free loses its place. A request for several names has
/// no place: it is granted if all names are free, and waiters may overtake it.
///
/// # Connections
/// The thread of a call makes the request itself. An engine has one connection, up to five if
/// several threads make requests at one time, and one more once a thread has waited.
///
/// # Layout
/// This release reads layout 2. The error for a table with layout 1 names the statements that
/// change it. Tokens remain ordered.
///
/// # Poolers
/// Requests work through PgBouncer in each of its modes, because a request is one statement and
/// nothing depends on a session. Notifications do not reach a client of a pooler: the engine
/// detects one by a setting that it does not pass, and its waiters then poll every 25 ms.
///
/// # Durability
/// A grant is on the disk before it is returned, also where `synchronous_commit` is `off`. The
/// release of a key does not wait for the disk, because it changes no token. If the server crashes
/// within a second of a release, the lease may exist again until its end.
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
    /// The number of requests for which waiters are still expected [PG13].
    expected: AtomicU32,
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
            // A process with few requests parses the functions only.
            expected: AtomicU32::new(EXPECTED),
        })
    }

    /// Whether the next request may be for a key with waiters, so that a function must decide.
    fn expects_waiters(&self, driver: &Driver) -> bool {
        // A pooler parses each statement anew, which is cheaper for the call of a function.
        if driver.is_pooled() {
            return true;
        }
        // Relaxed: the number publishes no other memory, and a lost update costs a request.
        let left = self.expected.load(Ordering::Relaxed);
        self.expected
            .store(left.saturating_sub(1), Ordering::Relaxed);
        left > 0
    }

    /// Records that a key was busy, or had waiters.
    fn expect_waiters(&self) {
        // Relaxed: as above.
        self.expected.store(EXPECTED, Ordering::Relaxed);
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

    fn release_all(
        &self,
        releases: &[(Key<'_>, Nonce)],
        deadline: Instant,
    ) -> Result<Vec<Released>, EngineError> {
        let driver = self.driver()?;
        for (_, holder) in releases {
            driver.notices().forget(*holder);
        }
        let keys = || releases.iter().map(|(key, _)| *key);
        let mut parameters = key_lists(keys());
        parameters.push(nonces(releases.iter().map(|(_, nonce)| *nonce)));
        let hashes: Vec<String> = keys().map(crate::notices::hash).collect();
        parameters.push((Box::new(hashes), Type::TEXT_ARRAY));
        let rows = self.query(statements::RELEASE_MANY, parameters, deadline)?;
        let released = |row: &Row| match row.get::<_, Option<bool>>(0) {
            Some(true) => Released::Done,
            _ => Released::WasLost,
        };
        Ok(rows.iter().map(released).collect())
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
                // The thread is not in this process, and the connections are the parent's [PG6].
                std::mem::forget(driver);
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
        GUARANTEES
    }

    fn try_acquire(
        &self,
        request: &Request<'_>,
        deadline: Instant,
    ) -> Result<Attempt, EngineError> {
        let driver = self.driver()?;
        let parameters = || {
            let mut parameters = key_values(request.key);
            parameters.push(nonce(request.nonce));
            parameters.push(text(request.owner));
            parameters.push((Box::new(length(request.ttl)), Type::INT8));
            parameters
        };
        // Phase 1: one statement grants a key without waiters [PG13].
        if !self.expects_waiters(driver) {
            let rows = self.query_in_time(statements::ACQUIRE_FREE, parameters(), deadline)?;
            let numbers = rows.first().map(numbers).unwrap_or_default();
            if let Some(number) = numbers.first().copied().flatten() {
                driver.notices().forget(request.nonce);
                return Ok(Attempt::Granted(token(number)));
            }
            self.expect_waiters();
        }
        // Phase 2: a function decides, and keeps a place in the queue.
        let ear = driver.notices().expect(request.nonce);
        let mut parameters = parameters();
        let bytes = ear.map_or([0; 8], Ear::bytes).to_vec();
        parameters.push((Box::new(bytes), Type::BYTEA));
        let rows = self.query_in_time(statements::ACQUIRE, parameters, deadline)?;
        let numbers = rows.first().map(numbers).unwrap_or_default();
        Ok(match numbers[..] {
            [Some(number), ..] => {
                driver.notices().forget(request.nonce);
                Attempt::Granted(token(number))
            }
            [None, micros, ..] => {
                self.expect_waiters();
                Attempt::Busy {
                    free_in: micros.map(microseconds),
                }
            }
            _ => Attempt::Busy { free_in: None },
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
        let rows = self.driver()?.query(
            statements::RENEW,
            Late::RefusedRenewal,
            parameters,
            deadline,
        )?;
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
        let driver = self.driver()?;
        driver.notices().forget(holder);
        let mut parameters = key_values(key);
        parameters.push(nonce(holder));
        // Phase 1: one statement releases a key without waiters [PG13].
        if !self.expects_waiters(driver) {
            let rows = self.query(statements::RELEASE_FREE, parameters, deadline)?;
            if !rows.is_empty() {
                return Ok(released(&rows));
            }
            self.expect_waiters();
            parameters = key_values(key);
            parameters.push(nonce(holder));
        }
        // Phase 2: a function notifies the waiters.
        parameters.push(text(&crate::notices::hash(key)));
        let rows = self.query(statements::RELEASE, parameters, deadline)?;
        Ok(released(&rows))
    }

    fn release_many(
        &self,
        releases: &[(Key<'_>, Nonce)],
        deadline: Instant,
    ) -> Option<Result<Vec<Released>, EngineError>> {
        if releases.is_empty() {
            return Some(Ok(Vec::new()));
        }
        Some(self.release_all(releases, deadline))
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
        parameters.push(text(&crate::notices::hash(key)));
        let rows = self.query(statements::BREAK, parameters, deadline)?;
        Ok(is_true(&rows))
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
        let notices = driver.notices();
        // A waiter with a place needs no request: a release after its registration notifies it
        // [PG9].
        if notices.wait(waiting, deadline.min(Instant::now() + RECHECK_INTERVAL)) {
            return Ok(());
        }
        // Registered and listening before the row is read [PG4].
        let observer = notices.observe(crate::notices::hash(key));
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
            if hearing == Hearing::Polls {
                thread::sleep(POLL_INTERVAL.min(deadline.saturating_duration_since(now)));
            }
            let mut parameters = key_values(key);
            parameters.push(nonce(waiting));
            let rows = match hearing {
                Hearing::Notified => {
                    parameters.push((Box::new(length(2 * RECHECK_INTERVAL)), Type::INT8));
                    self.query(statements::WATCH, parameters, limit)?
                }
                Hearing::Polls => self.query(statements::IS_BUSY, parameters, limit)?,
            };
            if !is_true(&rows) {
                return Ok(());
            }
            if hearing == Hearing::Notified
                && observer.wait(deadline.min(Instant::now() + RECHECK_INTERVAL))
            {
                return Ok(());
            }
        }
    }
}

/// Returns the token, the microseconds until the next attempt can succeed, and the clock.
fn numbers(row: &Row) -> Vec<Option<i64>> {
    row.get(0)
}

/// Returns the answer of a statement that releases one key.
fn released(rows: &[Row]) -> Released {
    match is_true(rows) {
        true => Released::Done,
        false => Released::WasLost,
    }
}

/// Returns the answer of a statement with one condition.
fn is_true(rows: &[Row]) -> bool {
    rows.first()
        .is_some_and(|row| row.get::<_, Option<bool>>(0) == Some(true))
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
