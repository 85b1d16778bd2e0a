//! A connection to the server that was checked, and the session that a thread drives.
//!
//! A [`Session`] has a runtime of its own, which the thread of a call enters for the time of the
//! call [PG12]. Between two calls no thread reads from the connection, so a session that was idle
//! is checked before it is used.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout_at;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{CancelToken, Client, Config, Connection, Error, Row, Socket, Statement};

use crate::engine::EngineError;

use super::error;
use super::layout::{
    CREATE_FUNCTIONS, CREATE_SCHEMA, CREATE_TABLES, FROM_LAYOUT_1, LAYOUT, LOCK_CREATION, one_line,
};
use super::settings::Settings;
use super::statements::{INSPECT, LEAST_VERSION, READ_LAYOUT};
use super::tls::Tls;

/// The settings of a session of this engine. A pooler refuses or ignores them.
///
/// The limits end a statement whose caller has left. No statement of the engine runs for long. One
/// that waits for a row occupies a connection, so it fails soon [PG8]. A plan outlives the size of
/// the table that it was made for, so it must use the key's index.
const SESSION: &str = "-c latchwork.direct=on -c statement_timeout=30s -c lock_timeout=500ms \
     -c default_transaction_isolation=read\\ committed -c default_transaction_read_only=off \
     -c enable_seqscan=off";

/// A session that was used within this time is used again without a check. It was not measured.
const FRESH: Duration = Duration::from_millis(100);

/// The server that an engine uses.
pub(super) struct Server {
    pub(super) settings: Settings,
    pub(super) tls: Tls,
    /// Its description for people.
    pub(super) name: String,
    /// Whether a pooler may pass each statement to another session.
    is_pooled: AtomicBool,
}

/// The connection of a client.
pub(super) type Link = Connection<Socket, <Tls as MakeTlsConnect<Socket>>::Stream>;

/// A connection that was checked, and that no thread drives yet.
pub(super) struct Wire {
    pub(super) client: Client,
    pub(super) link: Link,
    clock: ServerClock,
    is_pooled: bool,
}

/// The time of the server, in microseconds since 1970, at a time of this process.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerClock {
    pub(super) micros: i64,
    pub(super) at: Instant,
}

impl ServerClock {
    /// Returns the server's time at an instant that is not earlier.
    pub(super) fn at(self, instant: Instant) -> i64 {
        let elapsed = instant.saturating_duration_since(self.at);
        self.micros
            .saturating_add(i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX))
    }
}

/// The end of a connection while a future waited for an answer.
#[derive(Debug)]
pub(super) struct Ended(pub(super) Option<Error>);

/// Polls a future together with the connection that carries its request and its answer.
pub(super) async fn drive<T>(link: &mut Link, future: impl Future<Output = T>) -> Result<T, Ended> {
    let mut future = pin!(future);
    poll_fn(|context| {
        // First the future, so that its request is sent below.
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Ok(output));
        }
        let end = loop {
            match link.poll_message(context) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(error))) => break Some(Ended(Some(error))),
                Poll::Ready(None) => break Some(Ended(None)),
                Poll::Pending => break None,
            }
        };
        // An answer that arrived before the end counts.
        match (future.as_mut().poll(context), end) {
            (Poll::Ready(output), _) => Poll::Ready(Ok(output)),
            (Poll::Pending, Some(end)) => Poll::Ready(Err(end)),
            (Poll::Pending, None) => Poll::Pending,
        }
    })
    .await
}

impl Server {
    pub(super) fn new(settings: Settings) -> Result<Self, EngineError> {
        Ok(Server {
            tls: Tls::new(&settings)?,
            name: settings.server(),
            settings,
            is_pooled: AtomicBool::new(false),
        })
    }

    /// Whether the last connection was made to a pooler.
    pub(super) fn is_pooled(&self) -> bool {
        // Relaxed: the value publishes no other memory.
        self.is_pooled.load(Ordering::Relaxed)
    }

    fn failed(&self, failed: &Error) -> EngineError {
        error::of_connection(&self.name, failed)
    }

    fn ended(&self, ended: &Ended) -> EngineError {
        match &ended.0 {
            Some(failed) => self.failed(failed),
            None => EngineError::not_done(format!("{}: the connection ended", self.name)),
        }
    }

    /// Makes a connection and checks the server, until the deadline.
    pub(super) async fn connect(&self, deadline: Instant) -> Result<Wire, EngineError> {
        match timeout_at(deadline.into(), self.connect_without_limit()).await {
            Ok(result) => result,
            Err(_) => Err(EngineError::not_done(format!(
                "{}: no connection within the time limit",
                self.name
            ))),
        }
    }

    async fn connect_without_limit(&self) -> Result<Wire, EngineError> {
        let config = &self.settings.config;
        let mut direct = config.clone();
        direct.options(format!("{SESSION} {}", self.settings.options));
        let open = async |config: &Config| config.connect(self.tls.clone()).await;
        let opened = match open(&direct).await {
            // A pooler does not pass settings of a session.
            Err(failed) if error::is_pooler(&failed) => open(config).await,
            other => other,
        };
        let (client, mut link) = opened.map_err(|failed| self.failed(&failed))?;
        let inspected = drive(&mut link, self.inspect(&client)).await;
        let (clock, is_pooled) = inspected.map_err(|ended| self.ended(&ended))??;
        // Relaxed: the value publishes no other memory.
        self.is_pooled.store(is_pooled, Ordering::Relaxed);
        Ok(Wire {
            client,
            link,
            clock,
            is_pooled,
        })
    }

    /// Checks that the server can keep leases, and creates the layout if it is missing.
    async fn inspect(&self, client: &Client) -> Result<(ServerClock, bool), EngineError> {
        let failed = |failed: Error| self.failed(&failed);
        let refused = |reason: String| {
            Err(EngineError::misconfigured(format!(
                "{}: {reason}",
                self.name
            )))
        };
        let rows = client.query_typed(INSPECT, &[]).await.map_err(failed)?;
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
                self.name
            )));
        }
        let clock = ServerClock {
            micros: row.get("clock"),
            at: Instant::now(),
        };
        let is_pooled = row.get::<_, Option<String>>("direct").is_none();
        if !row.get::<_, bool>("has_table") {
            self.create(client, row.get("has_schema")).await?;
        }
        let rows = client.query_typed(READ_LAYOUT, &[]).await.map_err(failed)?;
        let layout: Option<i32> = rows.first().map(|row| row.get(0));
        if layout != Some(LAYOUT) {
            let advice = match layout {
                Some(1) => format!(
                    "; once no process of an earlier release uses it, its owner runs: {} {}",
                    one_line(FROM_LAYOUT_1),
                    one_line(CREATE_FUNCTIONS)
                ),
                _ => String::new(),
            };
            let layout = layout.map_or("no".to_owned(), |layout| layout.to_string());
            let release = env!("CARGO_PKG_VERSION");
            return refused(format!(
                "the table has layout {layout} and this release, {release}, reads layout \
                 {LAYOUT}{advice}"
            ));
        }
        Ok((clock, is_pooled))
    }

    async fn create(&self, client: &Client, has_schema: bool) -> Result<(), EngineError> {
        let schema = if has_schema {
            "SELECT 1"
        } else {
            CREATE_SCHEMA
        };
        // One message with several statements is one transaction.
        let statements = format!("{LOCK_CREATION}; {schema}; {CREATE_TABLES} {CREATE_FUNCTIONS}");
        let Err(failed) = client.batch_execute(&statements).await else {
            return Ok(());
        };
        if failed.code() != Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
            return Err(self.failed(&failed));
        }
        let schema = if has_schema {
            String::new()
        } else {
            format!("{CREATE_SCHEMA}; ")
        };
        Err(EngineError::misconfigured(format!(
            "{}: the table latchwork.lease is missing and the role may not create it; an owner of \
             the database runs: {schema}{} {}; {}",
            self.name,
            one_line(CREATE_TABLES),
            one_line(CREATE_FUNCTIONS),
            error::GRANTS
        )))
    }
}

/// A connection that the thread of a call drives.
pub(super) struct Session {
    /// Empty only while the session is dropped.
    runtime: Option<Runtime>,
    client: Client,
    link: Link,
    is_pooled: bool,
    pub(super) clock: ServerClock,
    /// The statements that the session has parsed. None after a pooler has lost one.
    statements: Option<HashMap<&'static str, Statement>>,
    used: Instant,
}

/// Why a statement has no result.
#[derive(Debug)]
pub(super) enum Failed {
    /// The client or the server reported it.
    Reported(Error),
    /// The connection ended.
    Ended(Option<Error>),
    /// No answer arrived within the time limit.
    TimedOut,
}

impl Session {
    pub(super) fn connect(server: &Server, deadline: Instant) -> Result<Self, EngineError> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(EngineError::not_done)?;
        let connected = runtime.block_on(server.connect(deadline));
        let wire = match connected {
            Ok(wire) => wire,
            Err(error) => {
                // A name that is being resolved must not delay the caller.
                runtime.shutdown_background();
                return Err(error);
            }
        };
        Ok(Session {
            runtime: Some(runtime),
            client: wire.client,
            link: wire.link,
            is_pooled: wire.is_pooled,
            clock: wire.clock,
            statements: Some(HashMap::new()),
            used: Instant::now(),
        })
    }

    /// Whether the connection is open, as far as this process has been notified.
    pub(super) fn is_open(&mut self) -> bool {
        if self.client.is_closed() {
            return false;
        }
        if self.used.elapsed() < FRESH {
            return true;
        }
        let runtime = self.runtime.as_ref().expect("the session is not dropped");
        let link = &mut self.link;
        runtime.block_on(async move {
            // The runtime reads the events of the socket before the future continues.
            tokio::task::yield_now().await;
            poll_fn(|context| {
                loop {
                    match link.poll_message(context) {
                        Poll::Ready(Some(Ok(_))) => {}
                        Poll::Ready(_) => return Poll::Ready(false),
                        Poll::Pending => return Poll::Ready(true),
                    }
                }
            })
            .await
        })
    }

    /// Returns the means to cancel the statement that runs.
    pub(super) fn cancel_token(&self) -> CancelToken {
        self.client.cancel_token()
    }

    /// Runs a statement, which commits by itself. After [`Failed::Ended`] and
    /// [`Failed::TimedOut`], the session must be dropped.
    pub(super) fn query(
        &mut self,
        statement: &'static str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
        deadline: Instant,
    ) -> Result<Vec<Row>, Failed> {
        let runtime = self.runtime.as_ref().expect("the session is not dropped");
        let request = request(
            &self.client,
            &mut self.statements,
            self.is_pooled,
            statement,
            parameters,
        );
        let link = &mut self.link;
        // The limit is made inside the runtime, which has its clock.
        let answer =
            runtime.block_on(async { timeout_at(deadline.into(), drive(link, request)).await });
        self.used = Instant::now();
        match answer {
            Ok(Ok(Ok(rows))) => Ok(rows),
            Ok(Ok(Err(failed))) => Err(Failed::Reported(failed)),
            Ok(Err(Ended(error))) => Err(Failed::Ended(error)),
            Err(_) => Err(Failed::TimedOut),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A plain drop waits, which panics inside another runtime.
            runtime.shutdown_background();
        }
    }
}

/// Runs a statement. A session of its own parses each statement once.
async fn request(
    client: &Client,
    statements: &mut Option<HashMap<&'static str, Statement>>,
    is_pooled: bool,
    statement: &'static str,
    parameters: &[(&(dyn ToSql + Sync), Type)],
) -> Result<Vec<Row>, Error> {
    let Some(parsed) = statements.as_mut().filter(|_| !is_pooled) else {
        return client.query_typed(statement, parameters).await;
    };
    let result = query_parsed(client, parsed, statement, parameters).await;
    let code = result.as_ref().err().and_then(Error::code);
    let names = [
        SqlState::INVALID_SQL_STATEMENT_NAME,
        SqlState::DUPLICATE_PSTATEMENT,
    ];
    if code.is_some_and(|code| names.contains(code)) {
        // A pooler that was not detected passed the request to another session.
        *statements = None;
    }
    result
}

async fn query_parsed(
    client: &Client,
    statements: &mut HashMap<&'static str, Statement>,
    statement: &'static str,
    parameters: &[(&(dyn ToSql + Sync), Type)],
) -> Result<Vec<Row>, Error> {
    if !statements.contains_key(statement) {
        let types: Vec<Type> = parameters.iter().map(|(_, kind)| kind.clone()).collect();
        let parsed = client.prepare_typed(statement, &types).await?;
        statements.insert(statement, parsed);
    }
    let values: Vec<&(dyn ToSql + Sync)> = parameters.iter().map(|(value, _)| *value).collect();
    client.query(&statements[statement], &values).await
}
