//! Requests and answers of etcd's gateway: JSON, with keys and values in Base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::keys::end_of;

fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

fn decode(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap_or_default();
    STANDARD.decode(text).unwrap_or_default()
}

/// Returns an integer, which the gateway writes as a text, and omits if it is zero.
pub(super) fn integer(value: &Value) -> i64 {
    match value {
        Value::String(text) => text.parse().unwrap_or_default(),
        Value::Number(number) => number.as_i64().unwrap_or_default(),
        _ => 0,
    }
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
    pub(super) created: i64,
    pub(super) modified: i64,
    pub(super) lease: i64,
}

/// Reads the entries of an answer to a range.
pub(super) fn entries(range: &Value) -> Vec<Entry> {
    let read = |entry: &Value| Entry {
        key: decode(&entry["key"]),
        value: decode(&entry["value"]),
        created: integer(&entry["create_revision"]),
        modified: integer(&entry["mod_revision"]),
        lease: integer(&entry["lease"]),
    };
    let entries = range["kvs"].as_array();
    entries.into_iter().flatten().map(read).collect()
}

/// The header of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) revision: i64,
    pub(super) term: i64,
}

pub(super) fn header(answer: &Value) -> Header {
    Header {
        revision: integer(&answer["header"]["revision"]),
        term: integer(&answer["header"]["raft_term"]),
    }
}

/// The answer to a transaction.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) header: Header,
    pub(super) succeeded: bool,
    parts: Vec<Value>,
}

impl Answer {
    pub(super) fn read(mut answer: Value) -> Self {
        let parts = match answer["responses"].take() {
            Value::Array(parts) => parts,
            _ => Vec::new(),
        };
        Answer {
            header: header(&answer),
            succeeded: answer["succeeded"].as_bool().unwrap_or_default(),
            parts,
        }
    }

    /// The entries of the operation at this place.
    pub(super) fn range(&self, at: usize) -> Vec<Entry> {
        self.parts
            .get(at)
            .map_or_else(Vec::new, |part| entries(&part["response_range"]))
    }

    /// The number of keys in the range at this place.
    pub(super) fn count(&self, at: usize) -> i64 {
        self.parts
            .get(at)
            .map_or(0, |part| integer(&part["response_range"]["count"]))
    }
}

/// A transaction: if all comparisons hold, the first operations are done, else the second ones.
pub(super) fn transaction(compare: &[Value], success: &[Value], failure: &[Value]) -> Value {
    json!({ "compare": compare, "success": success, "failure": failure })
}

pub(super) fn is_absent(key: &[u8]) -> Value {
    json!({ "key": encode(key), "target": "VERSION", "version": "0" })
}

/// No key has this prefix: a comparison of a range holds for each of its keys.
pub(super) fn is_empty(prefix: &[u8]) -> Value {
    json!({
        "key": encode(prefix), "range_end": encode(&end_of(prefix)),
        "target": "VERSION", "version": "0",
    })
}

pub(super) fn was_created_at(key: &[u8], revision: i64) -> Value {
    json!({ "key": encode(key), "target": "CREATE", "create_revision": revision.to_string() })
}

pub(super) fn was_modified_at(key: &[u8], revision: i64) -> Value {
    json!({ "key": encode(key), "target": "MOD", "mod_revision": revision.to_string() })
}

pub(super) fn has_lease(key: &[u8], lease: i64) -> Value {
    json!({ "key": encode(key), "target": "LEASE", "lease": lease.to_string() })
}

pub(super) fn put(key: &[u8], value: &[u8], lease: i64) -> Value {
    json!({ "request_put": {
        "key": encode(key), "value": encode(value), "lease": lease.to_string(),
    }})
}

pub(super) fn delete(key: &[u8]) -> Value {
    json!({ "request_delete_range": { "key": encode(key) } })
}

/// A read of one key.
pub(super) fn get(key: &[u8]) -> Value {
    json!({ "request_range": { "key": encode(key) } })
}

/// A read of one key without its value.
pub(super) fn get_key(key: &[u8]) -> Value {
    json!({ "request_range": { "key": encode(key), "keys_only": true } })
}

/// A read of the entry with the least create revision.
pub(super) fn first(prefix: &[u8]) -> Value {
    json!({ "request_range": {
        "key": encode(prefix), "range_end": encode(&end_of(prefix)),
        "sort_target": "CREATE", "sort_order": "ASCEND", "limit": "1",
    }})
}

/// A read of the keys with the greatest create revisions, below `below`.
pub(super) fn last_keys(prefix: &[u8], below: Option<i64>, limit: i64) -> Value {
    let mut range = json!({
        "key": encode(prefix), "range_end": encode(&end_of(prefix)),
        "sort_target": "CREATE", "sort_order": "DESCEND", "limit": limit.to_string(),
        "keys_only": true,
    });
    if let Some(below) = below {
        range["max_create_revision"] = (below - 1).to_string().into();
    }
    json!({ "request_range": range })
}

/// A count of the keys with a prefix.
pub(super) fn count(prefix: &[u8]) -> Value {
    json!({ "request_range": {
        "key": encode(prefix), "range_end": encode(&end_of(prefix)), "count_only": true,
    }})
}

/// A read of a page of the entries from `start`, in the order of their keys.
pub(super) fn page(start: &[u8], end: &[u8], limit: i64, keys_only: bool, revision: i64) -> Value {
    json!({
        "key": encode(start), "range_end": encode(end), "limit": limit.to_string(),
        "keys_only": keys_only, "revision": revision.to_string(),
    })
}

/// A watch of the deletion of a key, from a revision.
pub(super) fn watch(key: &[u8], revision: i64) -> Value {
    json!({ "create_request": {
        "key": encode(key), "start_revision": revision.to_string(), "filters": ["NOPUT"],
    }})
}

/// The value of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Details {
    pub(super) owner: String,
    /// Part of the token.
    pub(super) offset: i64,
    /// When it was made by the clock of its client, in milliseconds since 1970.
    pub(super) since: i64,
    /// The length of its lease in milliseconds.
    pub(super) ttl: i64,
}

impl Details {
    pub(super) fn write(&self) -> Vec<u8> {
        json!({
            "owner": self.owner, "offset": self.offset, "since": self.since, "ttl": self.ttl,
        })
        .to_string()
        .into_bytes()
    }

    pub(super) fn read(value: &[u8]) -> Self {
        let value: Value = serde_json::from_slice(value).unwrap_or_default();
        Details {
            owner: value["owner"].as_str().unwrap_or_default().to_owned(),
            offset: integer(&value["offset"]),
            since: integer(&value["since"]),
            ttl: integer(&value["ttl"]),
        }
    }
}
