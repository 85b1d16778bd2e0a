//! The totals in etcd.
//!
//! A shard has a key for the fence, whose value is the token and the nonce, a key for the number of
//! flights that are done, and a key for each batch. A batch is one transaction that compares the
//! value of the fence with that of its holder.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use latchwork::table::Fence;
use serde_json::{Value, json};
use ureq::Agent;

use super::{Ledger, Write, put};
use crate::shards::Totals;

pub(super) struct EtcdLedger {
    agent: Agent,
    endpoints: Vec<String>,
}

/// The prefix of all keys of a run.
fn prefix(run: &str) -> String {
    format!("flights/{run}/")
}

/// The key of a part of a shard, with digits that order shards as numbers.
fn key(run: &str, part: &str, shard: u32) -> String {
    format!("{}{part}/{shard:06}", prefix(run))
}

/// The fence as a value: its order as a text is that of the token.
fn value(fence: Fence) -> String {
    format!("{:020} {:032x}", fence.token.get(), fence.nonce)
}

fn encode(text: &str) -> String {
    STANDARD.encode(text)
}

fn read_text(base64: &Value) -> Result<String, String> {
    let bytes = STANDARD.decode(base64.as_str().unwrap_or_default());
    let bytes = bytes.map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|error| error.to_string())
}

fn request_put(key: &str, value: &str) -> Value {
    json!({ "request_put": { "key": encode(key), "value": encode(value) } })
}

fn request_get(key: &str) -> Value {
    json!({ "request_range": { "key": encode(key) } })
}

/// The value of the key that an operation has read.
fn read(answer: &Value, at: usize) -> Result<String, String> {
    read_text(&answer["responses"][at]["response_range"]["kvs"][0]["value"])
}

impl EtcdLedger {
    pub(super) fn connect(url: &str) -> Result<Self, String> {
        let place = url.strip_prefix("etcd://").unwrap_or_default();
        let place = place.split('?').next().unwrap_or_default();
        if url.contains('@') || url.contains("cert=") || url.contains("tls=on") {
            return Err("the totals in etcd support neither users nor TLS".to_owned());
        }
        let endpoints = place.trim_end_matches('/').split(',');
        let config = Agent::config_builder().proxy(None).build();
        Ok(EtcdLedger {
            agent: Agent::new_with_config(config),
            endpoints: endpoints.map(str::to_owned).collect(),
        })
    }

    /// Sends a request to the first member that accepts a connection.
    fn post(&self, path: &str, body: &Value) -> Result<Value, String> {
        let mut failed = String::new();
        for endpoint in &self.endpoints {
            let url = format!("http://{endpoint}/v3/kv/{path}");
            let mut answer = match self.agent.post(&url).send(&body.to_string()) {
                Ok(answer) => answer,
                // A request that was sent must not be repeated: its batch would count twice.
                Err(ureq::Error::Io(error))
                    if error.kind() == std::io::ErrorKind::ConnectionRefused =>
                {
                    failed = format!("{endpoint}: {error}");
                    continue;
                }
                Err(error) => return Err(format!("{endpoint}: {error}")),
            };
            let text = answer.body_mut().with_config().limit(1 << 30);
            let text = text.read_to_string().map_err(|error| error.to_string())?;
            return serde_json::from_str(&text).map_err(|error| error.to_string());
        }
        Err(failed)
    }

    /// All values under a prefix, in the order of their keys.
    fn values(&self, prefix: &str) -> Result<Vec<String>, String> {
        let mut end = prefix.to_owned();
        end.pop();
        // The character after the slash.
        end.push('0');
        let (mut start, mut values) = (STANDARD.encode(prefix), Vec::new());
        loop {
            let range = json!({ "key": start, "range_end": encode(&end), "limit": "100" });
            let answer = self.post("range", &range)?;
            let entries = answer["kvs"].as_array().cloned().unwrap_or_default();
            for entry in &entries {
                values.push(read_text(&entry["value"])?);
            }
            let Some(last) = entries.last().filter(|_| answer["more"] == true) else {
                return Ok(values);
            };
            start = encode(&(read_text(&last["key"])? + "\0"));
        }
    }
}

impl Ledger for EtcdLedger {
    fn create(&mut self, run: &str, shards: u32) -> Result<(), String> {
        for shard in 0..shards {
            let puts = [
                request_put(&key(run, "fence", shard), ""),
                request_put(&key(run, "done", shard), "0"),
            ];
            self.post("txn", &json!({ "success": puts }))?;
        }
        Ok(())
    }

    fn begin(&mut self, run: &str, shard: u32, fence: Option<Fence>) -> Result<Write<u64>, String> {
        let (fence_key, done_key) = (key(run, "fence", shard), key(run, "done", shard));
        let number = |text: String| text.parse().map_err(|_| format!("'{text}' is no number"));
        let Some(fence) = fence.map(value) else {
            let answer = self.post("txn", &json!({ "success": [request_get(&done_key)] }))?;
            return read(&answer, 0).and_then(number).map(Write::Accepted);
        };
        // The guard: the fence changes only for a later holder, or for the same one. Both tokens
        // cannot be equal with another nonce, so the order of the texts is that of the fences.
        let compare = |result: &str| {
            json!({
                "key": encode(&fence_key), "target": "VALUE", "result": result,
                "value": encode(&fence),
            })
        };
        let own = [request_put(&fence_key, &fence), request_get(&done_key)];
        for result in ["LESS", "EQUAL"] {
            let body = json!({ "compare": [compare(result)], "success": own });
            let answer = self.post("txn", &body)?;
            if answer["succeeded"] == true {
                return read(&answer, 1).and_then(number).map(Write::Accepted);
            }
        }
        Ok(Write::Refused)
    }

    fn add(
        &mut self,
        run: &str,
        shard: u32,
        fence: Option<Fence>,
        done: u64,
        batch: &Totals,
    ) -> Result<Write<()>, String> {
        let totals: Vec<_> = batch
            .0
            .iter()
            .map(|(subject, total)| (subject.to_number(), total.flights, total.miles))
            .collect();
        // Each write has a key of its own, so that one that is repeated counts twice.
        let batch_key = format!("{}/{:032x}", key(run, "batch", shard), fastrand::u128(..));
        let writes = [
            request_put(&batch_key, &json!(totals).to_string()),
            request_put(&key(run, "done", shard), &done.to_string()),
        ];
        let compare: Vec<Value> = fence
            .iter()
            .map(|fence| {
                json!({
                    "key": encode(&key(run, "fence", shard)), "target": "VALUE",
                    "value": encode(&value(*fence)),
                })
            })
            .collect();
        let answer = self.post("txn", &json!({ "compare": compare, "success": writes }))?;
        Ok(match answer["succeeded"] == true {
            true => Write::Accepted(()),
            false => Write::Refused,
        })
    }

    fn progress(&mut self, run: &str) -> Result<Vec<u64>, String> {
        let values = self.values(&format!("{}done/", prefix(run)))?;
        let numbers = values.iter().map(|text| text.parse::<u64>());
        numbers
            .collect::<Result<_, _>>()
            .map_err(|error| error.to_string())
    }

    fn totals(&mut self, run: &str) -> Result<Totals, String> {
        let mut sums = std::collections::BTreeMap::<i64, (i64, i64)>::new();
        for batch in self.values(&format!("{}batch/", prefix(run)))? {
            let batch: Vec<(i64, i64, i64)> =
                serde_json::from_str(&batch).map_err(|error| error.to_string())?;
            for (subject, flights, miles) in batch {
                let sum = sums.entry(subject).or_default();
                *sum = (sum.0 + flights, sum.1 + miles);
            }
        }
        let mut totals = Totals::default();
        for (subject, (flights, miles)) in sums {
            put(&mut totals, subject, flights, miles)?;
        }
        Ok(totals)
    }

    fn drop_run(&mut self, run: &str) -> Result<(), String> {
        let start = prefix(run);
        let end = format!("{}0", start.trim_end_matches('/'));
        let range = json!({ "key": encode(&start), "range_end": encode(&end) });
        self.post("deleterange", &range).map(drop)
    }
}
