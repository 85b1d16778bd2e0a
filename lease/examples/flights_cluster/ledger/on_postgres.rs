//! The totals in a PostgreSQL database.

use latchwork::table::Fence;
use postgres::{Client, NoTls};

use super::{Ledger, Write, put};
use crate::shards::Totals;

pub(super) struct PostgresLedger {
    client: Client,
}

const TABLES: &str = "
    create table if not exists flights_shard (
        run text not null, shard bigint not null, done bigint not null,
        token bigint not null, nonce bytea not null,
        primary key (run, shard));
    create table if not exists flights_total (
        run text not null, subject bigint not null, flights bigint not null,
        miles bigint not null,
        primary key (run, subject));";

/// The guard: the row changes only for a later holder, or for the same one.
const BEGIN: &str = "
    update flights_shard set token = $3, nonce = $4
     where run = $1 and shard = $2 and (token < $3 or (token = $3 and nonce = $4))
    returning done";
const ADVANCE: &str = "
    update flights_shard set token = $3, nonce = $4, done = $5
     where run = $1 and shard = $2 and (token < $3 or (token = $3 and nonce = $4))";
/// The same without a guard, for `--no-fence`.
const UNGUARDED: &str = "update flights_shard set done = $3 where run = $1 and shard = $2";
/// Adds all subjects of a batch in one order, so that two batches cannot deadlock.
const ADD: &str = "
    insert into flights_total as old
    select $1, * from unnest($2::bigint[], $3::bigint[], $4::bigint[]) as t(subject, f, m)
     order by subject
    on conflict (run, subject) do update
    set flights = old.flights + excluded.flights, miles = old.miles + excluded.miles";

fn text(error: postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => error.message().to_owned(),
        None => error.to_string(),
    }
}

impl PostgresLedger {
    pub(super) fn connect(url: &str) -> Result<Self, String> {
        let client = Client::connect(url, NoTls).map_err(text)?;
        Ok(PostgresLedger { client })
    }
}

/// The fence as columns: PostgreSQL has signed numbers of 64 bits, and a nonce has 128.
fn columns(fence: Fence) -> (i64, Vec<u8>) {
    let token = i64::try_from(fence.token.get()).unwrap_or(i64::MAX);
    (token, fence.nonce.to_be_bytes().to_vec())
}

impl Ledger for PostgresLedger {
    fn create(&mut self, run: &str, shards: u32) -> Result<(), String> {
        self.client.batch_execute(TABLES).map_err(text)?;
        self.client
            .execute(
                "insert into flights_shard
                 select $1, shard, 0, 0, '' from generate_series(0, $2::bigint - 1) as shard",
                &[&run, &i64::from(shards)],
            )
            .map_err(text)?;
        Ok(())
    }

    fn begin(&mut self, run: &str, shard: u32, fence: Option<Fence>) -> Result<Write<u64>, String> {
        let shard = i64::from(shard);
        let row = match fence {
            Some(fence) => {
                let (token, nonce) = columns(fence);
                self.client
                    .query_opt(BEGIN, &[&run, &shard, &token, &nonce])
            }
            None => self.client.query_opt(
                "select done from flights_shard where run = $1 and shard = $2",
                &[&run, &shard],
            ),
        };
        Ok(match row.map_err(text)? {
            Some(row) => Write::Accepted(row.get::<_, i64>(0).unsigned_abs()),
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
        let (shard, done) = (
            i64::from(shard),
            i64::try_from(done).map_err(|e| e.to_string())?,
        );
        let mut tx = self.client.transaction().map_err(text)?;
        let changed = match fence {
            Some(fence) => {
                let (token, nonce) = columns(fence);
                tx.execute(ADVANCE, &[&run, &shard, &token, &nonce, &done])
            }
            None => tx.execute(UNGUARDED, &[&run, &shard, &done]),
        };
        if changed.map_err(text)? == 0 {
            return Ok(Write::Refused);
        }
        let subjects: Vec<_> = batch.0.keys().map(|subject| subject.to_number()).collect();
        let flights: Vec<_> = batch.0.values().map(|total| total.flights).collect();
        let miles: Vec<_> = batch.0.values().map(|total| total.miles).collect();
        tx.execute(ADD, &[&run, &subjects, &flights, &miles])
            .map_err(text)?;
        tx.commit().map_err(text)?;
        Ok(Write::Accepted(()))
    }

    fn progress(&mut self, run: &str) -> Result<Vec<u64>, String> {
        let query = "select done from flights_shard where run = $1 order by shard";
        let rows = self.client.query(query, &[&run]).map_err(text)?;
        Ok(rows
            .iter()
            .map(|row| row.get::<_, i64>(0).unsigned_abs())
            .collect())
    }

    fn totals(&mut self, run: &str) -> Result<Totals, String> {
        let query = "select subject, flights, miles from flights_total where run = $1";
        let rows = self.client.query(query, &[&run]).map_err(text)?;
        let mut totals = Totals::default();
        for row in rows {
            put(&mut totals, row.get(0), row.get(1), row.get(2))?;
        }
        Ok(totals)
    }

    fn drop_run(&mut self, run: &str) -> Result<(), String> {
        for table in ["flights_shard", "flights_total"] {
            self.client
                .execute(&format!("delete from {table} where run = $1"), &[&run])
                .map_err(text)?;
        }
        Ok(())
    }
}
