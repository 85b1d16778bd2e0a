//! Requests to the members of a cluster, over the HTTP gateway of each.
//!
//! Each request has a deadline. It is sent to the member that answered last. A member that answers
//! late or not at all is *set aside*: other members are asked first, until a probe of the keeper
//! thread was answered. A request is made at most once at each member.
//!
//! If all members are set aside, the cluster is overloaded or absent. Requests then wait for a
//! [`Turn`], so that repetitions of requests do not keep the cluster overloaded [EC13].

use std::io::{BufRead, BufReader, Read};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Body, Timeout, http};

use crate::clock::Timestamp;
use crate::engine::{EngineError, Outcome};

use super::resolver::Addresses;
use super::settings::Settings;

/// The time limit of a probe.
const PROBE_LIMIT: Duration = Duration::from_millis(500);

/// The time from a failure until a member is probed, and between two probes.
const PROBE_AFTER: Duration = Duration::from_millis(500);

/// The least time that a member has for its answer while others can be asked.
const LEAST_LIMIT: Duration = Duration::from_millis(50);

/// The greatest time that a member has for its answer while others can be asked.
const GREATEST_LIMIT: Duration = Duration::from_secs(1);

/// How often a thread that waits for its turn checks whether a member answers again.
const CHECK_AGAIN: Duration = Duration::from_millis(50);

/// The longest answer that is read, in bytes.
const LONGEST_ANSWER: u64 = 64 << 20;

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// No member answered, or the member had no quorum.
    Unavailable,
    /// The engine lease does not exist.
    LeaseNotFound,
    /// The revision was compacted.
    Compacted,
    /// The token of the user is not valid any more.
    TokenInvalid,
    /// The server refuses the request now.
    Refused,
    /// The server refuses such requests.
    Misconfigured,
}

/// A request that failed.
#[derive(Clone, Debug)]
pub(super) struct Failed {
    pub(super) outcome: Outcome,
    pub(super) cause: Cause,
    pub(super) text: String,
}

impl From<Failed> for EngineError {
    fn from(failed: Failed) -> Self {
        EngineError {
            outcome: failed.outcome,
            is_temporary: failed.cause != Cause::Misconfigured,
            source: failed.text.into(),
        }
    }
}

impl Failed {
    pub(super) fn not_done(text: String) -> Self {
        Failed {
            outcome: Outcome::NotDone,
            cause: Cause::Unavailable,
            text,
        }
    }
}

/// One member of the cluster.
#[derive(Debug)]
struct Member {
    address: String,
    /// The time of the next probe in nanoseconds, or zero if the member is not set aside.
    probe_at: AtomicU64,
}

/// The members of a cluster.
pub(super) struct Client {
    agent: Agent,
    scheme: &'static str,
    cluster: String,
    members: Vec<Member>,
    /// The index of the member that answered last.
    current: AtomicUsize,
    user: Option<(String, String)>,
    token: Mutex<Option<String>>,
    /// The identity of the cluster, of the first answer.
    identity: OnceLock<String>,
    /// Whether a thread has the turn.
    has_turn: Mutex<bool>,
    turn_ended: Condvar,
}

/// The right to send requests while all members are set aside. It ends with the value.
#[must_use]
pub(super) struct Turn<'a>(Option<&'a Client>);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(client) = self.0 {
            *client.lock_turn() = false;
            client.turn_ended.notify_all();
        }
    }
}

/// The identity of a member, and the size of its cluster.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) member: String,
    pub(super) members: usize,
    /// Whether only a leader ends leases.
    pub(super) revokes_as_leader_only: bool,
}

/// Returns the three numbers of a release. Zero stands for what is no number.
fn release_numbers(release: &str) -> [u32; 3] {
    let mut numbers = release.split('.').map(|part| part.parse().unwrap_or(0));
    [(); 3].map(|()| numbers.next().unwrap_or(0))
}

/// Whether only a leader ends leases in this release.
///
/// In earlier ones, a leader that was paused and deposed ends all leases when it continues,
/// because they have expired by its clock (etcd-io/etcd#15247).
fn revokes_as_leader_only(release: [u32; 3]) -> bool {
    match release {
        [3, 4, patch] => patch >= 31,
        [3, 5, patch] => patch >= 13,
        later => later >= [3, 6, 0],
    }
}

impl Client {
    pub(super) fn new(settings: &Settings) -> Result<Self, EngineError> {
        let config = Agent::config_builder()
            .tls_config(settings.tls()?)
            // A proxy of the environment is for other hosts than those of the cluster.
            .proxy(None)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_idle_connections(256)
            .max_idle_connections_per_host(64)
            .timeout_global(Some(Duration::from_secs(2)))
            .build();
        let member = |address: &String| Member {
            address: address.clone(),
            probe_at: AtomicU64::new(0),
        };
        Ok(Client {
            agent: Agent::with_parts(config, DefaultConnector::new(), Addresses::default()),
            scheme: if settings.has_tls { "https" } else { "http" },
            cluster: settings.cluster(),
            members: settings.endpoints.iter().map(member).collect(),
            current: AtomicUsize::new(0),
            user: settings.user.clone(),
            token: Mutex::new(None),
            identity: OnceLock::new(),
            has_turn: Mutex::new(false),
            turn_ended: Condvar::new(),
        })
    }

    fn lock_turn(&self) -> std::sync::MutexGuard<'_, bool> {
        self.has_turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a member answers, or until this thread may send requests although none does
    /// [EC13].
    ///
    /// An error states that nothing was sent. Renewals need no turn, because their leases end.
    pub(super) fn turn(&self, deadline: Instant) -> Result<Turn<'_>, Failed> {
        let mut has_turn = self.lock_turn();
        loop {
            // Relaxed: hints, which order nothing.
            let is_aside = |member: &Member| member.probe_at.load(Ordering::Relaxed) != 0;
            if !self.members.iter().all(is_aside) {
                return Ok(Turn(None));
            }
            if !*has_turn {
                *has_turn = true;
                return Ok(Turn(Some(self)));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let text = format!("{}: no member answers in time", self.cluster);
                return Err(Failed::not_done(text));
            }
            let waited = self
                .turn_ended
                .wait_timeout(has_turn, left.min(CHECK_AGAIN));
            has_turn = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub(super) fn cluster(&self) -> &str {
        &self.cluster
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|member| member.address.as_str())
    }

    /// Sends a request to the members, one after another, until one answers.
    pub(super) fn call(
        &self,
        path: &str,
        body: &Value,
        deadline: Instant,
    ) -> Result<Value, Failed> {
        self.call_counted(path, body, deadline).0
    }

    /// As [`call`](Self::call), and returns whether an attempt before the answer is unknown.
    pub(super) fn call_counted(
        &self,
        path: &str,
        body: &Value,
        deadline: Instant,
    ) -> (Result<Value, Failed>, bool) {
        let body = body.to_string();
        let mut was_unknown = false;
        let mut last = None;
        let order = self.order();
        for (place, &at) in order.iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            // Half of the time, so that a member that hangs leaves time for another one.
            let limit = match place + 1 < order.len() {
                true => (left / 2).clamp(LEAST_LIMIT, GREATEST_LIMIT).min(left),
                false => left,
            };
            match self.send_authenticated(at, path, &body, limit) {
                Ok(answer) => {
                    // Relaxed: a hint, which orders nothing.
                    self.current.store(at, Ordering::Relaxed);
                    return (Ok(answer), was_unknown);
                }
                Err(failed) => {
                    was_unknown |= failed.outcome == Outcome::Unknown;
                    let is_final = failed.cause != Cause::Unavailable;
                    last = Some(failed);
                    if is_final {
                        break;
                    }
                }
            }
        }
        let mut failed = last.unwrap_or_else(|| {
            Failed::not_done(format!("{}: the time limit has passed", self.cluster))
        });
        if was_unknown {
            failed.outcome = Outcome::Unknown;
        }
        (Err(failed), was_unknown)
    }

    /// The members in the order in which they are asked.
    fn order(&self) -> Vec<usize> {
        // Relaxed: hints, which order nothing.
        let current = self.current.load(Ordering::Relaxed);
        let count = self.members.len();
        let mut order: Vec<usize> = (0..count).map(|at| (current + at) % count).collect();
        order.sort_by_key(|&at| self.members[at].probe_at.load(Ordering::Relaxed) != 0);
        order
    }

    /// Sends a request to one member, and renews the token of the user if it is not valid.
    fn send_authenticated(
        &self,
        at: usize,
        path: &str,
        body: &str,
        limit: Duration,
    ) -> Result<Value, Failed> {
        let start = Instant::now();
        let token = self.token(at, None, limit)?;
        let left = limit.saturating_sub(start.elapsed());
        match self.send(at, path, body, token.as_deref(), left) {
            Err(failed) if failed.cause == Cause::TokenInvalid && token.is_some() => {
                let left = limit.saturating_sub(start.elapsed());
                let token = self.token(at, token, left)?;
                let left = limit.saturating_sub(start.elapsed());
                self.send(at, path, body, token.as_deref(), left)
            }
            result => result,
        }
    }

    /// Returns the token of the user, and requests another one if it is `invalid`.
    fn token(
        &self,
        at: usize,
        invalid: Option<String>,
        limit: Duration,
    ) -> Result<Option<String>, Failed> {
        let Some((name, password)) = &self.user else {
            return Ok(None);
        };
        let current = self.lock_token().clone();
        if current.is_some() && current != invalid {
            return Ok(current);
        }
        let body = json!({ "name": name, "password": password }).to_string();
        let answer = self.send(at, "/v3/auth/authenticate", &body, None, limit);
        let answer = answer.map_err(|mut failed| {
            // The request itself was not sent.
            failed.outcome = Outcome::NotDone;
            failed
        })?;
        let token = answer["token"].as_str().map(str::to_owned);
        self.lock_token().clone_from(&token);
        Ok(token)
    }

    fn lock_token(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request to one member.
    fn send(
        &self,
        at: usize,
        path: &str,
        body: &str,
        token: Option<&str>,
        limit: Duration,
    ) -> Result<Value, Failed> {
        let member = &self.members[at];
        let result = self.exchange(member, path, body, token, limit);
        match &result {
            // Relaxed: a hint, which orders nothing.
            Err(failed) if failed.cause == Cause::Unavailable => {
                let probe_at = Timestamp::now().plus(PROBE_AFTER).as_nanos();
                member.probe_at.store(probe_at, Ordering::Relaxed);
            }
            // Relaxed: a hint, which orders nothing.
            _ => member.probe_at.store(0, Ordering::Relaxed),
        }
        result
    }

    fn exchange(
        &self,
        member: &Member,
        path: &str,
        body: &str,
        token: Option<&str>,
        limit: Duration,
    ) -> Result<Value, Failed> {
        let mut response = self.post(member, path, body, token, limit)?;
        let status = response.status();
        let reader = response.body_mut().with_config().limit(LONGEST_ANSWER);
        let bytes = reader
            .read_to_vec()
            .map_err(|error| failure(member, &error))?;
        let answer: Option<Value> = serde_json::from_slice(&bytes).ok();
        let Some(mut answer) = answer.filter(Value::is_object) else {
            return Err(foreign(member, status));
        };
        if !status.is_success() || answer.get("error").is_some() {
            return Err(refusal(member, status, &answer));
        }
        // A stream of one message.
        if answer.get("result").is_some() {
            answer = answer["result"].take();
        }
        self.check_identity(member, &answer)?;
        Ok(answer)
    }

    fn post(
        &self,
        member: &Member,
        path: &str,
        body: &str,
        token: Option<&str>,
        limit: Duration,
    ) -> Result<http::Response<Body>, Failed> {
        let url = format!("{}://{}{path}", self.scheme, member.address);
        let mut request = self
            .agent
            .post(&url)
            .header("Content-Type", "application/json")
            .config()
            .timeout_global(Some(limit.max(Duration::from_millis(1))))
            .build();
        if let Some(token) = token {
            request = request.header("Authorization", token);
        }
        request.send(body).map_err(|error| failure(member, &error))
    }

    /// Checks that the member is one of the cluster.
    fn check_identity(&self, member: &Member, answer: &Value) -> Result<(), Failed> {
        let Some(identity) = answer["header"]["cluster_id"].as_str() else {
            // The answer to an authentication has a header without one in some releases.
            return Ok(());
        };
        let expected = self.identity.get_or_init(|| identity.to_owned());
        if expected != identity {
            return Err(misconfigured(format!(
                "etcd {}: it belongs to another cluster than {}",
                member.address, self.members[0].address
            )));
        }
        Ok(())
    }

    /// Connects to one member, and returns its identity.
    pub(super) fn identify(&self, at: usize, deadline: Instant) -> Result<Identity, Failed> {
        let member = &self.members[at];
        let url = format!("{}://{}/version", self.scheme, member.address);
        // The first request of the agent, without limits of its own, keeps the settings of TLS.
        let result = self.agent.get(&url).call();
        let mut response = result.map_err(|error| {
            let mut failed = failure(member, &error);
            if self.scheme == "http" && failed.text.contains("disconnected") {
                failed.text.push_str("; does it use TLS?");
            }
            failed
        })?;
        let status = response.status();
        let text = response.body_mut().read_to_string().unwrap_or_default();
        let version: Value = serde_json::from_str(&text).unwrap_or_default();
        let Some(release) = version["etcdserver"].as_str() else {
            return Err(foreign(member, status));
        };
        let numbers = release_numbers(release);
        if numbers < [3, 4, 0] {
            return Err(misconfigured(format!(
                "etcd {}: the release {release} is older than 3.4",
                member.address
            )));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let answer = self.send_authenticated(at, "/v3/cluster/member/list", "{}", left)?;
        let members = answer["members"].as_array().map_or(0, Vec::len);
        Ok(Identity {
            member: answer["header"]["member_id"].to_string(),
            members,
            revokes_as_leader_only: revokes_as_leader_only(numbers),
        })
    }

    /// Probes the members that are set aside. Returns whether some remain.
    pub(super) fn probe(&self, path: &str, body: &Value) -> bool {
        let body = body.to_string();
        let mut remain = false;
        for (at, member) in self.members.iter().enumerate() {
            // Relaxed: a hint, which orders nothing.
            let probe_at = member.probe_at.load(Ordering::Relaxed);
            if probe_at == 0 {
                continue;
            }
            if Timestamp::now() >= Timestamp::from_nanos(probe_at) {
                // An answer to the probe ends the exclusion.
                let _ = self.send_authenticated(at, path, &body, PROBE_LIMIT);
            }
            // Relaxed: a hint, which orders nothing.
            remain |= member.probe_at.load(Ordering::Relaxed) != 0;
        }
        remain
    }

    /// Opens a stream of messages at a member that answers.
    pub(super) fn stream(&self, body: &Value, deadline: Instant) -> Result<Stream, Failed> {
        let body = body.to_string();
        let mut last = None;
        for at in self.order() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let token = self.token(at, None, left)?;
            let left = deadline.saturating_duration_since(Instant::now());
            let member = &self.members[at];
            match self.post(member, "/v3/watch", &body, token.as_deref(), left) {
                Ok(response) => {
                    let reader = response.into_body().into_reader();
                    return Ok(Stream {
                        reader: BufReader::new(Box::new(reader)),
                    });
                }
                Err(failed) => last = Some(failed),
            }
        }
        Err(last.unwrap_or_else(|| Failed::not_done("the time limit has passed".to_owned())))
    }
}

/// Messages of a watch. The connection closes with the value.
pub(super) struct Stream {
    reader: BufReader<Box<dyn Read + Send>>,
}

impl Stream {
    /// Returns the next message, or `None` after the deadline or if the stream ended.
    pub(super) fn next(&mut self) -> Option<Value> {
        let mut line = Vec::new();
        match self.reader.read_until(b'\n', &mut line) {
            Ok(1..) => serde_json::from_slice(&line).ok(),
            _ => None,
        }
    }
}

fn misconfigured(text: String) -> Failed {
    Failed {
        outcome: Outcome::NotDone,
        cause: Cause::Misconfigured,
        text,
    }
}

/// The error of an answer that etcd would not give.
fn foreign(member: &Member, status: http::StatusCode) -> Failed {
    let address = &member.address;
    // A proxy in front of etcd reports its absence in text, and so does TLS.
    let (outcome, cause) = match status.is_server_error() {
        true => (Outcome::Unknown, Cause::Unavailable),
        false => (Outcome::NotDone, Cause::Misconfigured),
    };
    Failed {
        outcome,
        cause,
        text: format!("etcd {address}: the answer (status {status}) is not that of etcd"),
    }
}

/// Describes an error of the client. None of them contains a body or a header.
fn failure(member: &Member, error: &ureq::Error) -> Failed {
    use std::io::ErrorKind;
    let mut outcome = Outcome::Unknown;
    let mut cause = Cause::Unavailable;
    match error {
        // Nothing was sent yet.
        ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect)
        | ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed => outcome = Outcome::NotDone,
        ureq::Error::Io(error) if error.kind() == ErrorKind::ConnectionRefused => {
            outcome = Outcome::NotDone;
        }
        ureq::Error::Rustls(_) | ureq::Error::Tls(_) | ureq::Error::Pem(_) => {
            outcome = Outcome::NotDone;
            cause = Cause::Misconfigured;
        }
        ureq::Error::Io(error) if is_tls(error) => {
            outcome = Outcome::NotDone;
            cause = Cause::Misconfigured;
        }
        _ => {}
    }
    let text = match error {
        ureq::Error::Timeout(_) => "no answer in time".to_owned(),
        error => error.to_string().replace('\n', " "),
    };
    Failed {
        outcome,
        cause,
        text: format!("etcd {}: {text}", member.address),
    }
}

/// Returns true for an error of TLS, which the client reports as one of the connection.
fn is_tls(error: &std::io::Error) -> bool {
    let inner = error.get_ref();
    inner.is_some_and(|inner| inner.downcast_ref::<rustls::Error>().is_some())
}

/// Describes a request that the server refused.
fn refusal(member: &Member, status: http::StatusCode, answer: &Value) -> Failed {
    let error = match &answer["error"] {
        // A stream reports an error inside an object.
        Value::Object(_) => &answer["error"],
        _ => answer,
    };
    let message = error["message"]
        .as_str()
        .or(answer["error"].as_str())
        .unwrap_or_default();
    let code = error["code"].as_i64().or(error["grpc_code"].as_i64());
    let has = |text: &str| message.contains(text);
    let (outcome, cause) = if has("requested lease not found") {
        (Outcome::NotDone, Cause::LeaseNotFound)
    } else if has("compacted") {
        (Outcome::NotDone, Cause::Compacted)
    } else if has("invalid auth token") || has("auth store is old") {
        (Outcome::NotDone, Cause::TokenInvalid)
    } else {
        match code {
            // Unavailable, deadline exceeded, aborted, unknown: the proposal may be committed.
            Some(14 | 4 | 10 | 2 | 1 | 13) | None => (Outcome::Unknown, Cause::Unavailable),
            // Exhausted, failed precondition: refused now.
            Some(8) => (Outcome::NotDone, Cause::Refused),
            _ => (Outcome::NotDone, Cause::Misconfigured),
        }
    };
    let message = match message {
        "" => format!("status {status}"),
        message => message.replace('\n', " "),
    };
    Failed {
        outcome,
        cause,
        text: format!("etcd {}: {message}", member.address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_whose_old_leaders_end_leases_are_known() {
        let is_sound = |release| revokes_as_leader_only(release_numbers(release));
        for release in ["3.4.23", "3.4.30", "3.5.12", "3.5.13-rc.0", "3.5", "3"] {
            assert!(!is_sound(release), "{release}");
        }
        for release in ["3.4.31", "3.5.13", "3.5.30", "3.6.0", "3.10.1", "4.0.0"] {
            assert!(is_sound(release), "{release}");
        }
        assert!(release_numbers("3.3.25") < [3, 4, 0]);
    }
}
