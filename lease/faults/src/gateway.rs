//! Requests to the HTTP gateway of a member of etcd.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use ureq::Agent;

/// Returns a client whose requests last at most for `limit`.
pub(crate) fn agent(limit: Duration) -> Agent {
    Agent::config_builder()
        .proxy(None)
        .timeout_global(Some(limit))
        .build()
        .new_agent()
}

/// Sends a request to a member at `address`, which is a host and a port.
pub(crate) fn post(
    agent: &Agent,
    address: &str,
    path: &str,
    body: &Value,
) -> Result<Value, String> {
    let answer = agent
        .post(&format!("http://{address}{path}"))
        .send(&body.to_string());
    let mut answer = answer.map_err(|error| error.to_string())?;
    let text = answer.body_mut().read_to_string();
    let text = text.map_err(|error| error.to_string())?;
    serde_json::from_str(&text).map_err(|error| error.to_string())
}

pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

/// The gateway writes numbers of 64 bits as texts.
pub(crate) fn number(value: &Value) -> i64 {
    let text = value.as_str().and_then(|text| text.parse().ok());
    text.or_else(|| value.as_i64()).unwrap_or(0)
}

/// The keys with a prefix, in the order of their create revisions, as the gateway encodes them.
pub(crate) fn queue(agent: &Agent, address: &str, prefix: &[u8]) -> Result<Vec<String>, String> {
    let mut end = prefix.to_vec();
    *end.last_mut().expect("a prefix") += 1;
    let body = serde_json::json!({
        "key": encode(prefix), "range_end": encode(end), "keys_only": true,
        "sort_target": "CREATE", "sort_order": "ASCEND",
    });
    let answer = post(agent, address, "/v3/kv/range", &body)?;
    let keys = answer["kvs"].as_array().cloned().unwrap_or_default();
    let key = |entry: &Value| entry["key"].as_str().unwrap_or_default().to_owned();
    Ok(keys.iter().map(key).collect())
}
