//! The connection of an engine, and the thread that serves it.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{OnceCell, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{timeout, timeout_at};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, Config, Error, Row, Statement};

use crate::engine::EngineError;

use super::error;
use super::settings::Settings;
use super::statements::{
    CHANNEL, CREATE_SCHEMA, CREATE_TABLES, INSPECT, LAYOUT, LEAST_VERSION, LISTEN, LOCK_CREATION,
    READ_LAYOUT,
};
use super::tls::Tls;
use crate::notices::Notices;

/// A value of a statement, with its type.
pub(super) type Parameter = (Box<dyn ToSql + Sync + Send>, Type);

/// The settings of a session of this engine. A pooler refuses or ignores them.
///
/// The limits end a statement whose caller has left. No statement of the engine runs for long. One
/// that waits for a row delays the others of the connection, so it fails soon [PG8]. A plan
/// outlives the size of the table that it was made for, so it must use the key's index.
const SESSION: &str = "-c latchwork.direct=on -c statement_timeout=30s -c lock_timeout=500ms \
     -c default_transaction_isolation=read\\ committed -c default_transaction_read_only=off \
     -c enable_seqscan=off";

/// The time after its deadline until which a request may be executed. It covers the delay between
/// the server's reading of its clock and the arrival of the answer that reported it.
const LATE_MARGIN: Duration = Duration::from_millis(100);

/// The thread that serves a connection, and the connection.
pub(super) struct Driver {
    shared: Arc<Shared>,
    runtime: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    settings: Settings,
    tls: Tls,
    server: String,
    live: tokio::sync::Mutex<Option<Arc<Live>>>,
    notices: Arc<Notices>,
}

/// A connection that was checked.
struct Live {
    client: Client,
    /// Whether a pooler may pass each statement to another session.
    is_pooled: bool,
    listening: OnceCell<()>,
    clock: Mutex<ServerClock>,
    /// The statements that the session has parsed. None after a pooler has lost one.
    statements: Mutex<Option<HashMap<&'static str, Statement>>>,
    /// Receives the messages of the server.
    receiver: AbortHandle,
}

/// The time of the server, in microseconds since 1970, at a time of this process.
#[derive(Clone, Copy, Debug)]
struct ServerClock {
    micros: i64,
    at: Instant,
}

impl ServerClock {
    /// Returns the server's time at an instant that is not earlier.
    fn at(self, instant: Instant) -> i64 {
        let elapsed = instant.saturating_duration_since(self.at);
        self.micros
            .saturating_add(i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX))
    }
}

/// Whether a statement must have no effect after its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Late {
    /// The statement has its effect whenever it is executed.
    Executed,
    /// The statement has the end of its time as a further parameter [PG7]. A row with nothing but
    /// nulls reports that it was late.
    Refused,
}

impl Drop for Live {
    fn drop(&mut self) {
        // A server that does not answer must not keep the socket open.
        self.receiver.abort();
    }
}

impl Live {
    /// Runs a statement. A session of its own parses each statement once.
    async fn query(
        &self,
        statement: &'static str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, Error> {
        if self.is_pooled || self.statements.lock().is_none() {
            return self.client.query_typed(statement, parameters).await;
        }
        let result = self.query_parsed(statement, parameters).await;
        let code = result.as_ref().err().and_then(Error::code);
        let names = [
            SqlState::INVALID_SQL_STATEMENT_NAME,
            SqlState::DUPLICATE_PSTATEMENT,
        ];
        if code.is_some_and(|code| names.contains(code)) {
            // A pooler that was not detected passed the request to another session.
            *self.statements.lock() = None;
        }
        result
    }

    async fn query_parsed(
        &self,
        statement: &'static str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, Error> {
        let known = match &*self.statements.lock() {
            Some(statements) => statements.get(statement).cloned(),
            None => None,
        };
        let parsed = match known {
            Some(parsed) => parsed,
            None => {
                let types: Vec<Type> = parameters.iter().map(|(_, kind)| kind.clone()).collect();
                let parsed = self.client.prepare_typed(statement, &types).await?;
                if let Some(statements) = &mut *self.statements.lock() {
                    statements.insert(statement, parsed.clone());
                }
                parsed
            }
        };
        let values: Vec<&(dyn ToSql + Sync)> = parameters.iter().map(|(value, _)| *value).collect();
        self.client.query(&parsed, &values).await
    }
}

/// How a waiter hears of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hearing {
    Notified,
    Polls,
}

impl Driver {
    /// Starts the thread. It makes no connection.
    pub(super) fn new(settings: Settings) -> Result<Self, EngineError> {
        let tls = Tls::new(&settings)?;
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
        Ok(Driver {
            shared: Arc::new(Shared {
                server: settings.server(),
                settings,
                tls,
                live: tokio::sync::Mutex::new(None),
                notices: Arc::new(Notices::default()),
            }),
            runtime: handle,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    pub(super) fn server(&self) -> &str {
        &self.shared.server
    }

    pub(super) fn notices(&self) -> &Notices {
        &self.shared.notices
    }

    /// Runs one statement, which commits by itself.
    pub(super) fn query(
        &self,
        statement: &'static str,
        late: Late,
        parameters: Vec<Parameter>,
        deadline: Instant,
    ) -> Result<Vec<Row>, EngineError> {
        let shared = Arc::clone(&self.shared);
        self.block_on(deadline, async move {
            shared.query(statement, late, parameters, deadline).await
        })
    }

    /// Makes a connection if there is none.
    pub(super) fn connect(&self, deadline: Instant) -> Result<(), EngineError> {
        let shared = Arc::clone(&self.shared);
        self.block_on(
            deadline,
            async move { shared.live(deadline).await.map(drop) },
        )
    }

    /// Makes the server notify this engine of releases, if no pooler prevents it.
    pub(super) fn listen(&self, deadline: Instant) -> Result<Hearing, EngineError> {
        let shared = Arc::clone(&self.shared);
        self.block_on(deadline, async move { shared.listen(deadline).await })
    }

    /// Runs a future on the thread, and waits until it ends by its own limit.
    fn block_on<T: Send + 'static>(
        &self,
        deadline: Instant,
        future: impl Future<Output = Result<T, EngineError>> + Send + 'static,
    ) -> Result<T, EngineError> {
        if Instant::now() >= deadline {
            return Err(self.shared.too_late());
        }
        let (sender, receiver) = mpsc::sync_channel(1);
        self.runtime.spawn(async move {
            let _ = sender.send(future.await);
        });
        // The future ends at the deadline. The rest bounds a wait for a thread that is starved.
        let limit = deadline.saturating_duration_since(Instant::now()) + Duration::from_secs(5);
        receiver.recv_timeout(limit).unwrap_or_else(|_| {
            Err(EngineError::unknown(format!(
                "{}: the thread of the engine ended",
                self.server()
            )))
        })
    }

    /// Forgets the thread and the connection in a child of a fork.
    pub(super) fn forget(mut self) {
        std::mem::forget(self.stop.take());
        std::mem::forget(self.thread.take());
        std::mem::forget(Arc::clone(&self.shared));
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn too_late(&self) -> EngineError {
        EngineError::not_done(format!(
            "{}: the time limit passed before the request was sent",
            self.server
        ))
    }

    async fn query(
        &self,
        statement: &'static str,
        late: Late,
        mut parameters: Vec<Parameter>,
        deadline: Instant,
    ) -> Result<Vec<Row>, EngineError> {
        let live = self.live(deadline).await?;
        if late == Late::Refused {
            let end = live.clock.lock().at(deadline + LATE_MARGIN);
            parameters.push((Box::new(end), Type::INT8));
        }
        let parameters: Vec<(&(dyn ToSql + Sync), Type)> = parameters
            .iter()
            .map(|(value, kind)| (&**value as &(dyn ToSql + Sync), kind.clone()))
            .collect();
        // From here on the request may be executed, whatever happens to the connection.
        match timeout_at(deadline.into(), live.query(statement, &parameters)).await {
            Ok(Ok(rows)) => {
                if late == Late::Refused {
                    self.check_time(&live, &rows)?;
                }
                Ok(rows)
            }
            Ok(Err(failed)) => {
                if failed.as_db_error().is_none_or(error::ends_connection) {
                    self.set_aside(&live);
                }
                Err(error::of_request(&self.server, &failed))
            }
            Err(_) => {
                // Other requests of this connection may still be answered; new ones avoid it.
                self.set_aside(&live);
                let token = live.client.cancel_token();
                let tls = self.tls.clone();
                tokio::spawn(async move {
                    let _ = timeout(Duration::from_secs(2), token.cancel_query(tls)).await;
                });
                Err(EngineError::unknown(format!(
                    "{}: the server did not answer within the time limit",
                    self.server
                )))
            }
        }
    }

    /// Keeps the time of the server, and returns an error if the statement was late [PG7].
    fn check_time(&self, live: &Arc<Live>, rows: &[Row]) -> Result<(), EngineError> {
        let Some(row) = rows.first() else {
            return Ok(());
        };
        let null = |column| {
            row.try_get::<_, Option<i64>>(column)
                .ok()
                .flatten()
                .is_none()
        };
        if ["token", "micros", "place"].into_iter().all(null) {
            // The answer is in time by the clock of this process, or it would be ignored. So the
            // server's clock jumped. The next connection reads it again.
            self.set_aside(live);
            return Err(EngineError::not_done(format!(
                "{}: the clock of the server went ahead",
                self.server
            )));
        }
        if let Ok(Some(micros)) = row.try_get::<_, Option<i64>>("clock") {
            *live.clock.lock() = ServerClock {
                micros,
                at: Instant::now(),
            };
        }
        Ok(())
    }

    async fn listen(&self, deadline: Instant) -> Result<Hearing, EngineError> {
        let live = self.live(deadline).await?;
        if live.is_pooled {
            return Ok(Hearing::Polls);
        }
        let listen = live
            .listening
            .get_or_try_init(|| live.client.batch_execute(LISTEN));
        match timeout_at(deadline.into(), listen).await {
            Ok(Ok(())) => Ok(Hearing::Notified),
            Ok(Err(failed)) => {
                self.set_aside(&live);
                Err(error::of_connection(&self.server, &failed))
            }
            Err(_) => {
                self.set_aside(&live);
                Err(self.too_late())
            }
        }
    }

    /// Returns the connection, and makes one if there is none.
    async fn live(&self, deadline: Instant) -> Result<Arc<Live>, EngineError> {
        let connect = async {
            let mut slot = self.live.lock().await;
            if let Some(live) = slot.as_ref().filter(|live| !live.client.is_closed()) {
                return Ok(Arc::clone(live));
            }
            *slot = None;
            let live = Arc::new(self.connect().await?);
            *slot = Some(Arc::clone(&live));
            Ok(live)
        };
        match timeout_at(deadline.into(), connect).await {
            Ok(result) => result,
            Err(_) => Err(EngineError::not_done(format!(
                "{}: no connection within the time limit",
                self.server
            ))),
        }
    }

    /// Lets later requests make a connection of their own.
    fn set_aside(&self, live: &Arc<Live>) {
        // If the slot is locked, a new connection is being made, and this one has left the slot.
        let Ok(mut slot) = self.live.try_lock() else {
            return;
        };
        if slot
            .as_ref()
            .is_some_and(|present| Arc::ptr_eq(present, live))
        {
            *slot = None;
            drop(slot);
            // Its notifications are lost from now on.
            self.notices.signal_all();
        }
    }

    async fn connect(&self) -> Result<Live, EngineError> {
        let config = &self.settings.config;
        let mut direct = config.clone();
        direct.options(format!("{SESSION} {}", self.settings.options));
        let live = match self.open(&direct).await {
            // A pooler does not pass settings of a session.
            Err(failed) if error::is_pooler(&failed) => self.open(config).await,
            other => other,
        };
        let mut live = live.map_err(|failed| error::of_connection(&self.server, &failed))?;
        self.inspect(&mut live).await?;
        Ok(live)
    }

    async fn open(&self, config: &Config) -> Result<Live, tokio_postgres::Error> {
        let (client, mut connection) = config.connect(self.tls.clone()).await?;
        let notices = Arc::clone(&self.notices);
        let receiver = tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await
            {
                match message {
                    AsyncMessage::Notification(notice) if notice.channel() == CHANNEL => {
                        notices.signal(notice.payload());
                    }
                    _ => {}
                }
            }
            notices.signal_all();
        });
        Ok(Live {
            client,
            is_pooled: false,
            listening: OnceCell::new(),
            // Replaced by the inspection.
            clock: Mutex::new(ServerClock {
                micros: 0,
                at: Instant::now(),
            }),
            statements: Mutex::new(Some(HashMap::new())),
            receiver: receiver.abort_handle(),
        })
    }

    /// Checks that the server can keep leases, and creates the layout if it is missing.
    async fn inspect(&self, live: &mut Live) -> Result<(), EngineError> {
        let failed = |failed: tokio_postgres::Error| error::of_connection(&self.server, &failed);
        let refused = |reason: String| {
            Err(EngineError::misconfigured(format!(
                "{}: {reason}",
                self.server
            )))
        };
        let rows = live
            .client
            .query_typed(INSPECT, &[])
            .await
            .map_err(failed)?;
        let Some(row) = rows.first() else {
            return refused("an empty answer".to_owned());
        };

        let version: i32 = row.get("version");
        if version < LEAST_VERSION {
            let (has, needs) = (version / 10_000, LEAST_VERSION / 10_000);
            return refused(format!(
                "the server is PostgreSQL {has}; {needs} or later is needed"
            ));
        }
        let encoding: String = row.get("encoding");
        if encoding != "UTF8" {
            return refused(format!(
                "the database has the encoding {encoding}; UTF8 is needed"
            ));
        }
        if row.get("is_standby") {
            // It may be promoted.
            return Err(EngineError::not_done(format!(
                "{}: the server is a standby, which cannot grant leases",
                self.server
            )));
        }
        *live.clock.lock() = ServerClock {
            micros: row.get("clock"),
            at: Instant::now(),
        };
        live.is_pooled = row.get::<_, Option<String>>("direct").is_none();
        if !row.get::<_, bool>("has_table") {
            self.create(live, row.get("has_schema")).await?;
        }
        let rows = live
            .client
            .query_typed(READ_LAYOUT, &[])
            .await
            .map_err(failed)?;
        let layout: Option<i32> = rows.first().map(|row| row.get(0));
        if layout != Some(LAYOUT) {
            let layout = layout.map_or("no".to_owned(), |layout| layout.to_string());
            let release = env!("CARGO_PKG_VERSION");
            return refused(format!(
                "the table has layout {layout} and this release, {release}, reads layout {LAYOUT}"
            ));
        }
        Ok(())
    }

    async fn create(&self, live: &Live, has_schema: bool) -> Result<(), EngineError> {
        let schema = if has_schema {
            "SELECT 1"
        } else {
            CREATE_SCHEMA
        };
        // One message with several statements is one transaction.
        let statements = format!("{LOCK_CREATION}; {schema}; {CREATE_TABLES}");
        let Err(failed) = live.client.batch_execute(&statements).await else {
            return Ok(());
        };
        let mut described = error::of_connection(&self.server, &failed);
        let permission = tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE;
        if failed.code() == Some(&permission) {
            let schema = if has_schema {
                String::new()
            } else {
                format!("{CREATE_SCHEMA}; ")
            };
            let tables: Vec<&str> = CREATE_TABLES.split_whitespace().collect();
            described = EngineError::misconfigured(format!(
                "{}: the table latchwork.lease is missing and the role may not create it; an owner \
                 of the database runs: {schema}{}; {}",
                self.server,
                tables.join(" "),
                error::GRANTS
            ));
        }
        Err(described)
    }
}
