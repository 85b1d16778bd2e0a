//! The totals in the first Redis node of the list, which is the resource and not a lock.

use std::time::Duration;

use redis::{Commands, Connection, Script};

use latchwork::table::Fence;

use super::{Ledger, Write, put};
use crate::shards::Totals;

/// KEYS: shard. ARGV: token of a fixed width, nonce. Returns the flights that are done, or -1.
const BEGIN: &str = "
local last = redis.call('HMGET', KEYS[1], 'token', 'nonce')
if last[1] > ARGV[1] or (last[1] == ARGV[1] and last[2] ~= ARGV[2]) then return -1 end
redis.call('HSET', KEYS[1], 'token', ARGV[1], 'nonce', ARGV[2])
return tonumber(redis.call('HGET', KEYS[1], 'done'))
";

/// KEYS: shard, flights, miles. ARGV: token, nonce, done, then subject, flights and miles of each
/// total. Without a token, the write is not guarded. Returns 0 if the fence is refused.
const ADD: &str = "
if ARGV[1] ~= '' then
  local last = redis.call('HMGET', KEYS[1], 'token', 'nonce')
  if last[1] > ARGV[1] or (last[1] == ARGV[1] and last[2] ~= ARGV[2]) then return 0 end
  redis.call('HSET', KEYS[1], 'token', ARGV[1], 'nonce', ARGV[2])
end
redis.call('HSET', KEYS[1], 'done', ARGV[3])
for i = 4, #ARGV, 3 do
  redis.call('HINCRBY', KEYS[2], ARGV[i], ARGV[i + 1])
  redis.call('HINCRBY', KEYS[3], ARGV[i], ARGV[i + 2])
end
return 1
";

/// A connection to the node with the totals.
pub(super) struct RedisLedger {
    connection: Connection,
    begin: Script,
    add: Script,
}

impl RedisLedger {
    /// Connects to the first node of a URL `quorum:NODE,NODE,…`.
    pub(super) fn connect(url: &str) -> Result<Self, String> {
        let first = url.trim_start_matches("quorum:").split(',').next();
        let client = redis::Client::open(first.unwrap_or_default()).map_err(text)?;
        let connection = client
            .get_connection_with_timeout(Duration::from_secs(10))
            .map_err(text)?;
        Ok(RedisLedger {
            connection,
            begin: Script::new(BEGIN),
            add: Script::new(ADD),
        })
    }

    fn totals_of(&mut self, key: &str) -> Result<Vec<(i64, i64)>, String> {
        let all: Vec<(i64, i64)> = self.connection.hgetall(key).map_err(text)?;
        Ok(all)
    }
}

fn text(error: redis::RedisError) -> String {
    error.to_string()
}

fn shard_key(run: &str, shard: u32) -> String {
    format!("flights:{run}:shard:{shard}")
}

fn keys(run: &str) -> [String; 3] {
    ["shards", "flights", "miles"].map(|kind| format!("flights:{run}:{kind}"))
}

/// Returns a fence as the scripts compare it: Lua's numbers have only 53 bits.
fn columns(fence: Option<Fence>) -> (String, String) {
    match fence {
        Some(fence) => (
            format!("{:020}", fence.token.get()),
            format!("{:032x}", fence.nonce),
        ),
        None => (String::new(), String::new()),
    }
}

impl Ledger for RedisLedger {
    fn create(&mut self, run: &str, shards: u32) -> Result<(), String> {
        let _: () = self.connection.set(&keys(run)[0], shards).map_err(text)?;
        for shard in 0..shards {
            let first = [("token", format!("{:020}", 0)), ("nonce", String::new())];
            let first = first.into_iter().chain([("done", "0".to_owned())]);
            let first: Vec<_> = first.collect();
            let _: () = self
                .connection
                .hset_multiple(shard_key(run, shard), &first)
                .map_err(text)?;
        }
        Ok(())
    }

    fn begin(&mut self, run: &str, shard: u32, fence: Option<Fence>) -> Result<Write<u64>, String> {
        let key = shard_key(run, shard);
        let done: i64 = match fence {
            Some(_) => {
                let (token, nonce) = columns(fence);
                let mut call = self.begin.prepare_invoke();
                call.key(key).arg(token).arg(nonce);
                call.invoke(&mut self.connection).map_err(text)?
            }
            None => self.connection.hget(key, "done").map_err(text)?,
        };
        Ok(match u64::try_from(done) {
            Ok(done) => Write::Accepted(done),
            Err(_) => Write::Refused,
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
        let (token, nonce) = columns(fence);
        let [_, flights, miles] = keys(run);
        let mut call = self.add.prepare_invoke();
        call.key(shard_key(run, shard)).key(flights).key(miles);
        call.arg(token).arg(nonce).arg(done);
        for (subject, total) in &batch.0 {
            call.arg(subject.to_number());
            call.arg(total.flights).arg(total.miles);
        }
        let accepted: i64 = call.invoke(&mut self.connection).map_err(text)?;
        Ok(match accepted {
            1 => Write::Accepted(()),
            _ => Write::Refused,
        })
    }

    fn progress(&mut self, run: &str) -> Result<Vec<u64>, String> {
        let shards: u32 = self.connection.get(&keys(run)[0]).map_err(text)?;
        (0..shards)
            .map(|shard| {
                let key = shard_key(run, shard);
                self.connection.hget(key, "done").map_err(text)
            })
            .collect()
    }

    fn totals(&mut self, run: &str) -> Result<Totals, String> {
        let [_, flights, miles] = keys(run);
        let miles: std::collections::HashMap<i64, i64> =
            self.totals_of(&miles)?.into_iter().collect();
        let mut totals = Totals::default();
        for (subject, flights) in self.totals_of(&flights)? {
            let miles = miles.get(&subject).copied().unwrap_or(0);
            put(&mut totals, subject, flights, miles)?;
        }
        Ok(totals)
    }

    fn drop_run(&mut self, run: &str) -> Result<(), String> {
        let shards: u32 = self.connection.get(&keys(run)[0]).map_err(text)?;
        for shard in 0..shards {
            let _: () = self.connection.del(shard_key(run, shard)).map_err(text)?;
        }
        self.connection.del(&keys(run)).map_err(text)
    }
}
