//! The totals in the engine's own database, guarded by fences.
//!
//! The database keeps a row for each shard: the fence that it has seen, and the number of flights
//! that are in the totals. A worker presents its fence before it reads that number, and again with
//! each batch. Both statements change the row only if the token is greater than the seen one, or if
//! both token and nonce are equal. The row and the totals change in one transaction, so each flight
//! is added exactly once.

use latchwork::table::Fence;

use crate::shards::{Subject, Total, Totals};

#[cfg(feature = "etcd")]
mod on_etcd;
#[cfg(feature = "postgres")]
mod on_postgres;
#[cfg(feature = "redis")]
mod on_redis;
mod on_sqlite;

/// The result of a guarded write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Write<T> {
    Accepted(T),
    /// The database has seen the fence of a later holder.
    Refused,
}

/// A connection to the totals.
pub(crate) trait Ledger {
    /// Creates the tables that are missing, and a row for each shard of the run.
    fn create(&mut self, run: &str, shards: u32) -> Result<(), String>;

    /// Presents the fence of a new holder, and returns the number of flights that are done.
    ///
    /// Without a fence, every holder is accepted.
    fn begin(&mut self, run: &str, shard: u32, fence: Option<Fence>) -> Result<Write<u64>, String>;

    /// Adds a batch to the totals, after which `done` flights of the shard are done.
    fn add(
        &mut self,
        run: &str,
        shard: u32,
        fence: Option<Fence>,
        done: u64,
        batch: &Totals,
    ) -> Result<Write<()>, String>;

    /// Returns the number of flights that are done, shard by shard.
    fn progress(&mut self, run: &str) -> Result<Vec<u64>, String>;

    /// Returns all totals of the run.
    fn totals(&mut self, run: &str) -> Result<Totals, String>;

    /// Deletes all rows of the run.
    fn drop_run(&mut self, run: &str) -> Result<(), String>;
}

/// Connects to the database of the engine at `url`.
pub(crate) fn open(url: &str) -> Result<Box<dyn Ledger>, String> {
    if let Some(path) = url.strip_prefix("sqlite:") {
        return on_sqlite::SqliteLedger::open(path).map(|ledger| Box::new(ledger) as _);
    }
    #[cfg(feature = "postgres")]
    if url.starts_with("postgres:") || url.starts_with("postgresql:") {
        return on_postgres::PostgresLedger::connect(url).map(|ledger| Box::new(ledger) as _);
    }
    #[cfg(feature = "etcd")]
    if url.starts_with("etcd:") {
        return on_etcd::EtcdLedger::connect(url).map(|ledger| Box::new(ledger) as _);
    }
    #[cfg(feature = "redis")]
    if url.starts_with("quorum:") {
        return on_redis::RedisLedger::connect(url).map(|ledger| Box::new(ledger) as _);
    }
    let scheme = url.split(':').next().unwrap_or_default();
    Err(format!(
        "no totals on '{scheme}': expected sqlite:FILE, postgres://…, etcd://… or quorum:…"
    ))
}

/// Adds a row of the database to the totals.
fn put(totals: &mut Totals, subject: i64, flights: i64, miles: i64) -> Result<(), String> {
    let subject = Subject::from_number(subject).ok_or("a total of an unknown subject")?;
    totals.0.insert(subject, Total { flights, miles });
    Ok(())
}
