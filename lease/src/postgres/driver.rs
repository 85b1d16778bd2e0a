//! The connections of an engine: sessions for requests, and an ear for notifications.
//!
//! The thread of a call drives a session itself [PG12]. The ear belongs to a thread in the
//! background, which starts with the first wait, because a notification may arrive at any time.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{CancelToken, Row};

use crate::engine::EngineError;

use super::ear;
use super::error;
use super::notices::Notices;
use super::session::{Failed, Server, ServerClock, Session};
use super::settings::Settings;

/// A value of a statement, with its type.
pub(super) type Parameter = (Box<dyn ToSql + Sync + Send>, Type);

/// The time after its deadline until which a request may be executed. It covers the delay between
/// the server's reading of its clock and the arrival of the answer that reported it.
const LATE_MARGIN: Duration = Duration::from_millis(100);

/// The greatest number of sessions. One more is for renewals, so that requests which wait for a row
/// delay no renewal.
const SESSIONS: usize = 4;

/// The time after which a session that others make superfluous is closed.
const IDLE: Duration = Duration::from_secs(10);

/// The sessions, the ear, and the thread in the background.
pub(super) struct Driver {
    server: Arc<Server>,
    notices: Arc<Notices>,
    pool: Mutex<Pool>,
    returned: Condvar,
    background: Mutex<Option<Background>>,
    /// Held while the ear is made.
    listening: Mutex<()>,
}

#[derive(Default)]
struct Pool {
    /// The session that was used last is at the end.
    idle: Vec<(Session, Instant)>,
    /// The number of sessions, including those in use.
    open: usize,
}

/// A thread with a runtime.
struct Background {
    runtime: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Whether a statement must have no effect after its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Late {
    /// The statement has its effect whenever it is executed.
    Executed,
    /// The statement has the end of its time as its last parameter [PG7]. A row that begins with a
    /// null reports that it was late.
    Refused,
    /// As `Refused`, for renewals, which have a session in reserve.
    RefusedRenewal,
}

/// How an observer hears of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hearing {
    Notified,
    Polls,
}

/// A session that a call uses. It returns to the pool unless it failed.
struct Lent<'a> {
    driver: &'a Driver,
    session: Option<Session>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut pool = self.driver.pool.lock();
        let mut superfluous = None;
        match self.session.take() {
            Some(session) => {
                let now = Instant::now();
                pool.idle.push((session, now));
                if pool.idle.len() > 1 && now - pool.idle[0].1 > IDLE {
                    superfluous = Some(pool.idle.remove(0));
                    pool.open -= 1;
                }
            }
            None => pool.open -= 1,
        }
        drop(pool);
        drop(superfluous);
        self.driver.returned.notify_one();
    }
}

impl Driver {
    /// Makes no connection.
    pub(super) fn new(settings: Settings) -> Result<Self, EngineError> {
        Ok(Driver {
            server: Arc::new(Server::new(settings)?),
            notices: Arc::new(Notices::default()),
            pool: Mutex::default(),
            returned: Condvar::new(),
            background: Mutex::new(None),
            listening: Mutex::new(()),
        })
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.server.settings
    }

    pub(super) fn server(&self) -> &str {
        &self.server.name
    }

    pub(super) fn notices(&self) -> &Notices {
        &self.notices
    }

    /// Whether a pooler may pass each statement to another session.
    pub(super) fn is_pooled(&self) -> bool {
        self.server.is_pooled()
    }

    /// Makes a connection if there is none.
    pub(super) fn connect(&self, deadline: Instant) -> Result<(), EngineError> {
        outside_a_runtime(|| self.session(SESSIONS, deadline).map(drop))
    }

    /// Runs one statement, which commits by itself.
    pub(super) fn query(
        &self,
        statement: &'static str,
        late: Late,
        parameters: Vec<Parameter>,
        deadline: Instant,
    ) -> Result<Vec<Row>, EngineError> {
        outside_a_runtime(|| self.query_here(statement, late, parameters, deadline))
    }

    fn query_here(
        &self,
        statement: &'static str,
        late: Late,
        mut parameters: Vec<Parameter>,
        deadline: Instant,
    ) -> Result<Vec<Row>, EngineError> {
        if Instant::now() >= deadline {
            return Err(EngineError::not_done(format!(
                "{}: the time limit passed before the request was sent",
                self.server()
            )));
        }
        let limit = SESSIONS + usize::from(late == Late::RefusedRenewal);
        let mut lent = self.session(limit, deadline)?;
        let session = lent.session.as_mut().expect("it was lent just now");
        if late != Late::Executed {
            let end = session.clock.at(deadline + LATE_MARGIN);
            parameters.push((Box::new(end), Type::INT8));
        }
        let parameters: Vec<(&(dyn ToSql + Sync), Type)> = parameters
            .iter()
            .map(|(value, kind)| (&**value as &(dyn ToSql + Sync), kind.clone()))
            .collect();
        // From here on the request may be executed, whatever happens to the connection [PG3].
        match session.query(statement, &parameters, deadline) {
            Ok(rows) => {
                if late != Late::Executed && !read_clock(session, &rows) {
                    // The answer is in time by the clock of this process, or it would be ignored.
                    // So the server's clock jumped. The next session reads it again.
                    self.end(lent);
                    return Err(EngineError::not_done(format!(
                        "{}: the clock of the server jumped",
                        self.server()
                    )));
                }
                Ok(rows)
            }
            Err(Failed::Reported(failed)) => {
                if failed.as_db_error().is_none_or(error::ends_connection) {
                    self.end(lent);
                }
                Err(error::of_request(self.server(), &failed))
            }
            Err(Failed::Ended(failed)) => {
                self.end(lent);
                Err(match failed {
                    Some(failed) => error::of_request(self.server(), &failed),
                    None => EngineError::unknown(format!(
                        "{}: the connection ended before the answer",
                        self.server()
                    )),
                })
            }
            Err(Failed::TimedOut) => {
                let token = session.cancel_token();
                self.end(lent);
                self.cancel(token);
                Err(EngineError::unknown(format!(
                    "{}: the server did not answer within the time limit",
                    self.server()
                )))
            }
        }
    }

    /// Closes a session that failed, and those that are idle, because they have one server.
    fn end(&self, mut lent: Lent<'_>) {
        let mut pool = self.pool.lock();
        let idle = std::mem::take(&mut pool.idle);
        pool.open -= idle.len();
        drop(pool);
        drop((lent.session.take(), idle));
        drop(lent);
        self.returned.notify_all();
    }

    /// Returns a session that is idle, or makes one if there are fewer than `limit`.
    fn session(&self, limit: usize, deadline: Instant) -> Result<Lent<'_>, EngineError> {
        let mut failed: Option<EngineError> = None;
        let mut pool = self.pool.lock();
        loop {
            if let Some((session, _)) = pool.idle.pop() {
                drop(pool);
                let mut lent = Lent {
                    driver: self,
                    session: Some(session),
                };
                if lent.session.as_mut().is_some_and(Session::is_open) {
                    return Ok(lent);
                }
                drop(lent.session.take());
                drop(lent);
                pool = self.pool.lock();
                continue;
            }
            // If the server refuses a further connection, a session in use is awaited.
            if pool.open < limit && failed.is_none() {
                pool.open += 1;
                drop(pool);
                let mut lent = Lent {
                    driver: self,
                    session: None,
                };
                match Session::connect(&self.server, deadline) {
                    Ok(session) => {
                        lent.session = Some(session);
                        return Ok(lent);
                    }
                    Err(error) if !error.is_temporary => return Err(error),
                    Err(error) => failed = Some(error),
                }
                drop(lent);
                pool = self.pool.lock();
                continue;
            }
            let is_over = pool.open == 0 || self.wait(&mut pool, deadline);
            if is_over && pool.idle.is_empty() {
                return Err(failed.unwrap_or_else(|| {
                    EngineError::not_done(format!(
                        "{}: no connection within the time limit",
                        self.server()
                    ))
                }));
            }
        }
    }

    /// Waits until a session is returned. Returns true if the deadline has passed.
    fn wait(&self, pool: &mut MutexGuard<'_, Pool>, deadline: Instant) -> bool {
        self.returned.wait_until(pool, deadline).timed_out()
    }

    /// Makes the server notify this process of releases, if no pooler prevents it.
    pub(super) fn listen(&self, deadline: Instant) -> Result<Hearing, EngineError> {
        if self.is_pooled() {
            return Ok(Hearing::Polls);
        }
        if self.notices.ear().is_some() {
            return Ok(Hearing::Notified);
        }
        let no_connection = || {
            EngineError::not_done(format!(
                "{}: no connection within the time limit",
                self.server()
            ))
        };
        let _listening = self
            .listening
            .try_lock_until(deadline)
            .ok_or_else(no_connection)?;
        if self.notices.ear().is_some() {
            return Ok(Hearing::Notified);
        }
        let runtime = self.background()?;
        let (sender, receiver) = mpsc::sync_channel(1);
        let (server, notices) = (Arc::clone(&self.server), Arc::clone(&self.notices));
        runtime.spawn(async move {
            ear::listen(&server, &notices, deadline, sender).await;
        });
        // The task ends at the deadline. The rest bounds a wait for a thread that is starved.
        let limit = deadline.saturating_duration_since(Instant::now()) + Duration::from_secs(5);
        let listens = receiver
            .recv_timeout(limit)
            .unwrap_or_else(|_| Err(no_connection()));
        listens.map(|()| match self.is_pooled() {
            true => Hearing::Polls,
            false => Hearing::Notified,
        })
    }

    /// Asks the server to end a statement whose caller leaves.
    fn cancel(&self, token: CancelToken) {
        // Without the thread the statement ends by its own limit.
        let Ok(runtime) = self.background() else {
            return;
        };
        let tls = self.server.tls.clone();
        runtime.spawn(async move {
            let _ = timeout(Duration::from_secs(2), token.cancel_query(tls)).await;
        });
    }

    /// Returns the runtime in the background, and starts it if it does not run.
    fn background(&self) -> Result<Handle, EngineError> {
        let mut background = self.background.lock();
        if let Some(background) = &*background {
            return Ok(background.runtime.clone());
        }
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(EngineError::not_done)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::Builder::new()
            .name("lease-postgres".to_owned())
            .spawn(move || {
                // Ends with a message or with the drop of the sender.
                let _ = runtime.block_on(stopped);
                // A name that is being resolved must not delay the end.
                runtime.shutdown_background();
            })
            .map_err(EngineError::not_done)?;
        *background = Some(Background {
            runtime: handle.clone(),
            stop: Some(stop),
            thread: Some(thread),
        });
        Ok(handle)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Runs a call on this thread, or on one of its own if this one is inside a runtime.
///
/// A thread that drives a runtime cannot enter another one [PG12].
fn outside_a_runtime<T: Send>(
    call: impl FnOnce() -> Result<T, EngineError> + Send,
) -> Result<T, EngineError> {
    if Handle::try_current().is_err() {
        return call();
    }
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("lease-postgres".to_owned());
        match thread.spawn_scoped(scope, call) {
            Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            Err(error) => Err(EngineError::not_done(error)),
        }
    })
}

/// A value of any type, for a check whether it is null.
struct Present;

impl FromSql<'_> for Present {
    fn from_sql(_: &Type, _: &[u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Present)
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// Keeps the time of the server, and returns false if the statement was late [PG7].
fn read_clock(session: &mut Session, rows: &[Row]) -> bool {
    let Some(row) = rows.first() else {
        return true;
    };
    if let Ok(None) = row.try_get::<_, Option<Present>>(0) {
        return false;
    }
    // The function of an acquisition returns the clock as its third number.
    if let Ok(Some(numbers)) = row.try_get::<_, Option<Vec<Option<i64>>>>(0) {
        if let Some(micros) = numbers.get(2).copied().flatten() {
            session.clock = ServerClock {
                micros,
                at: Instant::now(),
            };
        }
    }
    true
}
