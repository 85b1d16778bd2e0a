//! Holders, breaking, floors and waits.

use std::time::{Duration, Instant};

use latchwork::table::FencingToken;
use serde_json::json;

use crate::engine::{Key, Nonce};

use super::client::Failed;
use super::driver::{ATTEMPTS, Driver, RANGE, token_of};
use super::groups::Lease;
use super::keys::{end_of, parse_nonce};
use super::message::{self, Entry, Header, entries, integer, transaction};

/// The number of keys in one page of a list.
const PAGE: i64 = 1000;

const TIME_TO_LIVE: &str = "/v3/lease/timetolive";

impl Driver {
    pub(super) fn first(&self, key: Key<'_>, deadline: Instant) -> Result<Option<Entry>, Failed> {
        let body = transaction(&[], &[message::first(&self.keys.queue(key))], &[]);
        Ok(self.transact(&body, deadline)?.range(0).pop())
    }

    /// Returns the time until an engine lease ends, or `None` if it does not exist.
    pub(super) fn time_to_live(
        &self,
        lease: Lease,
        deadline: Instant,
    ) -> Result<Option<Duration>, Failed> {
        let body = json!({ "ID": lease.to_string() });
        let answer = self.client.call(TIME_TO_LIVE, &body, deadline)?;
        let ttl = u64::try_from(integer(&answer["TTL"]));
        Ok(ttl.ok().map(Duration::from_secs))
    }

    /// Reads all entries with a prefix, at one revision.
    pub(super) fn pages(
        &self,
        prefix: &[u8],
        keys_only: bool,
        limit: i64,
        deadline: Instant,
        mut read: impl FnMut(Header, &[Entry]),
    ) -> Result<(), Failed> {
        let end = end_of(prefix);
        let (mut start, mut revision) = (prefix.to_vec(), 0);
        loop {
            let body = message::page(&start, &end, limit, keys_only, revision);
            let answer = self.client.call(RANGE, &body, deadline)?;
            let found = entries(&answer);
            let header = message::header(&answer);
            read(header, &found);
            let has_more = answer["more"].as_bool().unwrap_or_default();
            let Some(last) = found.last().filter(|_| has_more) else {
                return Ok(());
            };
            start.clone_from(&last.key);
            start.push(0);
            if revision == 0 {
                revision = header.revision;
            }
        }
    }

    /// Reads all requests of a namespace for names that begin with `prefix`.
    pub(super) fn list(
        &self,
        namespace: &str,
        prefix: &str,
        deadline: Instant,
    ) -> Result<Vec<Entry>, Failed> {
        let mut all = Vec::new();
        let prefix = self.keys.names(namespace, prefix);
        self.pages(&prefix, false, PAGE, deadline, |_, entries| {
            all.extend_from_slice(entries);
        })?;
        Ok(all)
    }

    pub(super) fn break_lease(
        &self,
        key: Key<'_>,
        token: FencingToken,
        deadline: Instant,
    ) -> Result<bool, Failed> {
        for _ in 0..ATTEMPTS {
            let Some(entry) = self.first(key, deadline)? else {
                return Ok(false);
            };
            let nonce = parse_nonce(&entry.key);
            let (Some(nonce), true) = (nonce, token_of(&entry) == token.get()) else {
                return Ok(false);
            };
            let body = transaction(
                &[message::was_modified_at(&entry.key, entry.modified)],
                &[
                    message::delete(&entry.key),
                    message::delete(&self.keys.attachment(entry.lease, nonce)),
                ],
                &[],
            );
            if self.transact(&body, deadline)?.succeeded {
                return Ok(true);
            }
        }
        Err(self.contended())
    }

    /// Raises the offset of a namespace, so that each later token is greater than `floor` [EC3].
    pub(super) fn raise_floor(
        &self,
        key: Key<'_>,
        floor: i64,
        deadline: Instant,
    ) -> Result<(), Failed> {
        let offset_key = self.keys.offset(key.namespace);
        for _ in 0..ATTEMPTS {
            let read = [
                message::get(&offset_key),
                message::first(&self.keys.queue(key)),
            ];
            let answer = self.transact(&transaction(&[], &read, &[]), deadline)?;
            let (offset, modified) = self.read_offset(key.namespace, &answer.range(0));
            // A request that waits has an older revision than those that follow.
            let first = answer.range(1).pop();
            let least = first.map_or(answer.header.revision, |first| first.created - 1);
            let needed = floor.saturating_sub(least).max(offset);
            if needed == offset {
                return Ok(());
            }
            let body = transaction(
                &[message::was_modified_at(&offset_key, modified)],
                &[message::put(&offset_key, needed.to_string().as_bytes(), 0)],
                &[],
            );
            if self.transact(&body, deadline)?.succeeded {
                return Ok(());
            }
        }
        Err(self.contended())
    }

    // Waiting

    /// Waits until the predecessor's key is deleted, or until the deadline [EC8].
    pub(super) fn wait_hint(
        &self,
        key: Key<'_>,
        nonce: Nonce,
        deadline: Instant,
    ) -> Result<(), Failed> {
        let known = self.state().requests.get(&nonce.get()).cloned();
        let predecessor = match known {
            Some(held) => held.predecessor,
            // A request that is in no queue waits for the holder.
            None => self.read_last(key, deadline)?,
        };
        let Some((predecessor, revision)) = predecessor else {
            return Ok(());
        };
        let body = message::watch(&predecessor, revision + 1);
        let mut stream = self.client.stream(&body, deadline)?;
        while let Some(message) = stream.next() {
            let result = &message["result"];
            let is_over = result["canceled"].as_bool().unwrap_or_default();
            let has_events = result["events"]
                .as_array()
                .is_some_and(|all| !all.is_empty());
            if is_over || has_events || message.get("error").is_some() {
                // The caller reads the queue again: the key was deleted, or the revision compacted.
                break;
            }
        }
        Ok(())
    }

    pub(super) fn read_last(
        &self,
        key: Key<'_>,
        deadline: Instant,
    ) -> Result<Option<(Vec<u8>, i64)>, Failed> {
        let read = message::last_keys(&self.keys.queue(key), None, 1);
        let answer = self.transact(&transaction(&[], &[read], &[]), deadline)?;
        let last = answer.range(0).pop();
        Ok(last.map(|last| (last.key, answer.header.revision)))
    }
}
