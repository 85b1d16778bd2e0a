//! The requirements on a server that stores leases, and the meaning of its errors.

use std::io::{self, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redis::{Connection, ErrorKind, Parser, RedisError, RedisResult, ServerErrorKind, Value};

use super::node::{ANSWER_LIMIT, Node, Refusal, introduction};
use super::scripts::{self, Script};
use super::settings::Address;
use super::wire;

/// The oldest release of Redis and Valkey with all commands of the scripts.
const LEAST_VERSION: u32 = 7;

/// A connection to a server that may store leases.
pub(super) struct Made {
    pub(super) line: Line,
    /// The identity of the server.
    pub(super) server: String,
}

/// A connection that blocks.
pub(super) enum Line {
    Plain(TcpStream, Parser),
    Tls(Box<Connection>),
}

impl Line {
    pub(super) fn send(&mut self, bytes: &[u8]) -> RedisResult<()> {
        match self {
            Line::Plain(stream, _) => Ok(stream.write_all(bytes)?),
            Line::Tls(connection) => connection.send_packed_command(bytes),
        }
    }

    pub(super) fn receive(&mut self) -> RedisResult<Value> {
        match self {
            Line::Plain(stream, parser) => parser.parse_value(stream),
            Line::Tls(connection) => connection.recv_response(),
        }
    }

    /// Limits the time of each later call.
    fn limit(&self, limit: Duration) -> RedisResult<()> {
        match self {
            Line::Plain(stream, _) => {
                stream.set_read_timeout(Some(limit))?;
                Ok(stream.set_write_timeout(Some(limit))?)
            }
            Line::Tls(connection) => {
                connection.set_read_timeout(Some(limit))?;
                connection.set_write_timeout(Some(limit))
            }
        }
    }
}

/// Makes a connection without TLS, before anything is sent.
fn dial(host: &str, port: u16, deadline: Instant) -> io::Result<TcpStream> {
    let mut last = None;
    for address in (host, port).to_socket_addrs()? {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(&address, left) {
            Ok(stream) => {
                Address::configure(&stream)?;
                return Ok(stream);
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::TimedOut.into()))
}

/// The commands that a connection without TLS begins with, and their number.
fn login(address: &Address) -> (Vec<u8>, usize) {
    let settings = address.client.get_connection_info().redis_settings();
    let (mut bytes, mut commands) = (Vec::new(), 0);
    let mut add = |command: &redis::Cmd| {
        command.write_packed_command(&mut bytes);
        commands += 1;
    };
    if let Some(password) = settings.password() {
        let mut command = redis::cmd("AUTH");
        if let Some(user) = settings.username() {
            command.arg(user);
        }
        add(command.arg(password));
    }
    if settings.db() != 0 {
        add(redis::cmd("SELECT").arg(settings.db()));
    }
    (bytes, commands)
}

/// Connects to a node, loads the scripts, and refuses a server that cannot store leases [QU9].
pub(super) fn connect(address: &Address, limit: Duration) -> Result<Made, Refusal> {
    let deadline = Instant::now() + limit;
    let refused = |error: &RedisError| refusal(error);
    let (mut line, (mut bytes, logins)) = match address.without_tls() {
        Some((host, port)) if wire::IS_AVAILABLE => {
            let stream = dial(host, port, deadline).map_err(|error| refused(&error.into()))?;
            (Line::Plain(stream, Parser::new()), login(address))
        }
        _ => {
            let connection = address.client.get_connection_with_timeout(limit);
            let connection = connection.map_err(|error| refused(&error))?;
            (Line::Tls(Box::new(connection)), (Vec::new(), 0))
        }
    };
    bytes.extend(introduction());
    let left = deadline
        .saturating_duration_since(Instant::now())
        .max(Duration::from_millis(1));
    line.limit(left)
        .and_then(|()| line.send(&bytes))
        .map_err(|error| refused(&error))?;
    let mut replies = Vec::new();
    for number in 0..=logins + scripts::ALL.len() {
        match line.receive().map_err(|error| refused(&error))? {
            Value::ServerError(error) => {
                let details = error.details().unwrap_or_default();
                let mut refusal = server_refusal(error.code(), details);
                // A user, password or database that the server refuses.
                refusal.is_permanent |= number < logins;
                return Err(refusal);
            }
            reply => replies.push(reply),
        }
    }
    let mut replies = replies.into_iter().skip(logins);
    let info = replies.next().as_ref().and_then(text).unwrap_or_default();
    let server = check(&info).map_err(permanent)?;
    for (script, digest) in scripts::ALL.into_iter().zip(replies) {
        if text(&digest).as_deref() != Some(self::digest(script)) {
            return Err(permanent(
                "it computes another digest of a script".to_owned(),
            ));
        }
    }
    line.limit(ANSWER_LIMIT).map_err(|error| refused(&error))?;
    Ok(Made { line, server })
}

/// Returns the digests of the scripts.
pub(super) fn digest(script: Script) -> &'static str {
    static DIGESTS: LazyLock<Vec<String>> = LazyLock::new(|| {
        let digest = |script: Script| redis::Script::new(script.text()).get_hash().to_owned();
        scripts::ALL.into_iter().map(digest).collect()
    });
    &DIGESTS[script as usize]
}

/// Records the identity of a server, and refuses one that another node has.
pub(super) fn register(
    node: &Node,
    servers: &Mutex<Vec<Option<String>>>,
    server: String,
) -> Result<(), Refusal> {
    let mut servers = servers.lock();
    let same = |other: &Option<String>| other.as_ref() == Some(&server);
    if let Some(other) = servers.iter().position(same) {
        if other != node.at {
            let reason = format!(
                "it is the same server as node {} of the sorted list",
                other + 1
            );
            return Err(permanent(reason));
        }
    }
    servers[node.at] = Some(server);
    Ok(())
}

/// Returns the identity of a server that may store leases.
fn check(info: &str) -> Result<String, String> {
    let field = |name: &str| {
        let value = |line: &str| Some(line.strip_prefix(name)?.strip_prefix(':')?.to_owned());
        info.lines().map(str::trim).find_map(value)
    };
    let version = field("redis_version").ok_or("INFO reports no version")?;
    let major = version.split('.').next().and_then(|text| text.parse().ok());
    if major.is_none_or(|major: u32| major < LEAST_VERSION) {
        return Err(format!("release {version} is older than {LEAST_VERSION}"));
    }
    if field("cluster_enabled").as_deref() == Some("1") {
        return Err("it is part of a Redis Cluster; leases need independent nodes".to_owned());
    }
    if field("redis_mode").as_deref() == Some("sentinel") {
        return Err("it is a sentinel and stores no data".to_owned());
    }
    if field("role").as_deref() != Some("master") {
        return Err("it is a replica; leases need independent nodes".to_owned());
    }
    match field("maxmemory_policy").as_deref() {
        Some("noeviction") => {}
        policy => {
            let policy = policy.unwrap_or("unknown");
            return Err(format!(
                "maxmemory-policy {policy} may drop locks; noeviction is needed"
            ));
        }
    }
    field("run_id").ok_or_else(|| "INFO reports no run_id".to_owned())
}

fn permanent(reason: String) -> Refusal {
    Refusal {
        reason: reason.into(),
        is_permanent: true,
    }
}

/// Returns the text of a reply.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        Value::VerbatimString { text, .. } => Some(text.clone()),
        Value::Okay => Some("OK".to_owned()),
        _ => None,
    }
}

/// Describes an error of the connection. The client's errors contain no password.
pub(super) fn refusal(error: &RedisError) -> Refusal {
    if let Some(code) = error.code() {
        return server_refusal(code, error.detail().unwrap_or_default());
    }
    let text = error.to_string().replace('\n', " ");
    let is_permanent = match error.kind() {
        ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig => true,
        ErrorKind::Server(ServerErrorKind::NoPerm) => true,
        _ => text.contains("certificate"),
    };
    let reason: Arc<str> = match error.is_timeout() {
        true => "it did not answer in time".into(),
        false => text.into(),
    };
    Refusal {
        reason,
        is_permanent,
    }
}

/// Describes an error that a server reported.
pub(super) fn server_refusal(code: &str, details: &str) -> Refusal {
    let permanent = ["NOAUTH", "WRONGPASS", "NOPERM", "WRONGTYPE"];
    // A script reports a command that its user may not run without a code of its own.
    let is_privilege = code == "NOPERM"
        || details.contains("can't run this command")
        || details.starts_with("ACL failure");
    let advice = match is_privilege {
        true => {
            "; the user needs: ~latchwork:* &latchwork:* +@connection +info +script|load +evalsha \
             +get +set +del +incr +pexpire +pttl +time +publish +subscribe +ping +scan"
        }
        false => "",
    };
    let details = details.replace('\n', " ");
    Refusal {
        reason: format!("{code} {details}{advice}").into(),
        is_permanent: is_privilege || permanent.contains(&code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n\
        run_id:abc\r\nmaxmemory_policy:noeviction\r\nrole:master\r\ncluster_enabled:0\r\n";

    #[test]
    fn servers_that_cannot_store_leases_are_refused() {
        assert_eq!(check(GOOD), Ok("abc".to_owned()));
        let refused = |from: &str, to: &str, reason: &str| {
            let text = check(&GOOD.replace(from, to)).unwrap_err();
            assert!(text.contains(reason), "{text}");
        };
        refused("7.0.15", "6.2.1", "older than 7");
        refused("role:master", "role:slave", "replica");
        refused("cluster_enabled:0", "cluster_enabled:1", "Redis Cluster");
        refused("mode:standalone", "mode:sentinel", "sentinel");
        refused(
            "policy:noeviction",
            "policy:volatile-lru",
            "volatile-lru may drop",
        );
        refused("run_id:abc", "", "run_id");
        refused("redis_version:7.0.15", "", "version");
    }
}
