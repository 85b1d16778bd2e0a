//! The totals in a SQLite file.

use std::time::Duration;

use latchwork::table::Fence;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::{Ledger, Write, put};
use crate::shards::Totals;

pub(super) struct SqliteLedger {
    connection: Connection,
}

const TABLES: &str = "
    create table if not exists flights_shard (
        run text not null, shard integer not null, done integer not null,
        token integer not null, nonce blob not null,
        primary key (run, shard)) without rowid;
    create table if not exists flights_total (
        run text not null, subject integer not null, flights integer not null,
        miles integer not null,
        primary key (run, subject)) without rowid;";

/// The guard: the row changes only for a later holder, or for the same one.
const BEGIN: &str = "
    update flights_shard set token = ?3, nonce = ?4
     where run = ?1 and shard = ?2 and (token < ?3 or (token = ?3 and nonce = ?4))
    returning done";
const ADVANCE: &str = "
    update flights_shard set token = ?3, nonce = ?4, done = ?5
     where run = ?1 and shard = ?2 and (token < ?3 or (token = ?3 and nonce = ?4))";
/// The same without a guard, for `--no-fence`.
const UNGUARDED: &str = "update flights_shard set done = ?3 where run = ?1 and shard = ?2";
const ADD: &str = "
    insert into flights_total values (?1, ?2, ?3, ?4)
    on conflict (run, subject) do update
    set flights = flights + excluded.flights, miles = miles + excluded.miles";

fn text(error: rusqlite::Error) -> String {
    error.to_string()
}

impl SqliteLedger {
    pub(super) fn open(path: &str) -> Result<Self, String> {
        let connection = Connection::open(path).map_err(text)?;
        connection
            .busy_timeout(Duration::from_secs(30))
            .map_err(text)?;
        connection
            .pragma_update(None, "journal_mode", "wal")
            .map_err(text)?;
        connection
            .pragma_update(None, "synchronous", "full")
            .map_err(text)?;
        Ok(SqliteLedger { connection })
    }
}

/// The fence as columns: SQLite has signed numbers of 64 bits, and a nonce has 128.
fn columns(fence: Fence) -> (i64, [u8; 16]) {
    let token = i64::try_from(fence.token.get()).unwrap_or(i64::MAX);
    (token, fence.nonce.to_be_bytes())
}

impl Ledger for SqliteLedger {
    fn create(&mut self, run: &str, shards: u32) -> Result<(), String> {
        let tx = self.connection.transaction().map_err(text)?;
        tx.execute_batch(TABLES).map_err(text)?;
        for shard in 0..shards {
            let nothing: &[u8] = &[];
            tx.execute(
                "insert into flights_shard values (?1, ?2, 0, 0, ?3)",
                params![run, shard, nothing],
            )
            .map_err(text)?;
        }
        tx.commit().map_err(text)
    }

    fn begin(&mut self, run: &str, shard: u32, fence: Option<Fence>) -> Result<Write<u64>, String> {
        let done = match fence {
            Some(fence) => {
                let (token, nonce) = columns(fence);
                self.connection
                    .query_row(BEGIN, params![run, shard, token, nonce], |row| row.get(0))
                    .optional()
            }
            None => self
                .connection
                .query_row(
                    "select done from flights_shard where run = ?1 and shard = ?2",
                    params![run, shard],
                    |row| row.get(0),
                )
                .optional(),
        };
        Ok(match done.map_err(text)? {
            Some(done) => Write::Accepted(done),
            None => Write::Refused,
        })
    }

    fn add(
        &mut self,
        run: &str,
        shard: u32,
        fence: Option<Fence>,
        done: u64,
        batch: &Totals,
    ) -> Result<Write<()>, String> {
        let tx = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(text)?;
        let changed = match fence {
            Some(fence) => {
                let (token, nonce) = columns(fence);
                tx.execute(ADVANCE, params![run, shard, token, nonce, done])
            }
            None => tx.execute(UNGUARDED, params![run, shard, done]),
        };
        if changed.map_err(text)? == 0 {
            return Ok(Write::Refused);
        }
        {
            let mut add = tx.prepare_cached(ADD).map_err(text)?;
            for (subject, total) in &batch.0 {
                add.execute(params![
                    run,
                    subject.to_number(),
                    total.flights,
                    total.miles
                ])
                .map_err(text)?;
            }
        }
        tx.commit().map_err(text)?;
        Ok(Write::Accepted(()))
    }

    fn progress(&mut self, run: &str) -> Result<Vec<u64>, String> {
        let mut query = self
            .connection
            .prepare_cached("select done from flights_shard where run = ?1 order by shard")
            .map_err(text)?;
        let rows = query.query_map([run], |row| row.get(0)).map_err(text)?;
        rows.collect::<Result<_, _>>().map_err(text)
    }

    fn totals(&mut self, run: &str) -> Result<Totals, String> {
        let mut query = self
            .connection
            .prepare("select subject, flights, miles from flights_total where run = ?1")
            .map_err(text)?;
        let mut rows = query.query([run]).map_err(text)?;
        let mut totals = Totals::default();
        while let Some(row) = rows.next().map_err(text)? {
            let field = |n| row.get::<_, i64>(n).map_err(text);
            put(&mut totals, field(0)?, field(1)?, field(2)?)?;
        }
        Ok(totals)
    }

    fn drop_run(&mut self, run: &str) -> Result<(), String> {
        for table in ["flights_shard", "flights_total"] {
            self.connection
                .execute(&format!("delete from {table} where run = ?1"), [run])
                .map_err(text)?;
        }
        Ok(())
    }
}
