//! The nodes that a URL names.

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, TcpStream};
use std::time::Duration;

use redis::io::tcp::TcpSettings;
use redis::{Client, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, TlsCertificates};

use crate::engine::EngineError;
use crate::percent::decode;

/// The variable with the password of nodes whose URL has none, as of `redis-cli`.
const PASSWORD: &str = "REDISCLI_AUTH";

/// The greatest number of nodes.
const MOST_NODES: usize = 64;

/// The time after which unacknowledged data ends a connection.
#[cfg(any(target_os = "android", target_os = "linux"))]
const UNACKNOWLEDGED_LIMIT: Duration = Duration::from_secs(5);

const FORM: &str = "the URL has the form quorum:redis://USER:PASSWORD@HOST:PORT/DB,redis://…";

/// One node of the list.
pub(super) struct Address {
    /// `HOST:PORT/DB`, normalised. It identifies the node in the configuration.
    pub(super) label: String,
    pub(super) client: Client,
    host: String,
    port: u16,
    is_encrypted: bool,
}

impl Address {
    /// Returns the host and the port of a node without TLS.
    pub(super) fn without_tls(&self) -> Option<(&str, u16)> {
        (!self.is_encrypted).then_some((&self.host, self.port))
    }

    /// Sets the options of a connection to the node.
    pub(super) fn configure(stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        #[cfg(any(target_os = "android", target_os = "linux"))]
        redis::io::tcp::socket2::SockRef::from(stream)
            .set_tcp_user_timeout(Some(UNACKNOWLEDGED_LIMIT))?;
        Ok(())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_encrypted { "rediss" } else { "redis" };
        write!(f, "{scheme}://{}", self.label)
    }
}

/// Reads the URL. The nodes are sorted, so their order in the URL has no meaning.
///
/// No error contains a part of the URL, because each part may contain a password.
pub(super) fn read(url: &str) -> Result<Vec<Address>, EngineError> {
    read_with(url, std::env::var(PASSWORD).ok())
}

fn read_with(url: &str, password: Option<String>) -> Result<Vec<Address>, EngineError> {
    let list = url.strip_prefix("quorum:").ok_or_else(|| refuse(FORM))?;
    let nodes: Vec<&str> = list.split(',').collect();
    if nodes.len() > MOST_NODES {
        return Err(refuse(format!("more than {MOST_NODES} nodes are named")));
    }
    let mut addresses = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        let address = address(node, password.as_deref())
            .map_err(|reason| refuse(format!("node {} of the URL: {reason}", at + 1)))?;
        addresses.push(address);
    }
    addresses.sort_by(|a, b| a.label.cmp(&b.label));
    if let Some(pair) = addresses
        .windows(2)
        .find(|two| two[0].label == two[1].label)
    {
        return Err(refuse(format!("the node {} is named twice", pair[0].label)));
    }
    Ok(addresses)
}

fn refuse(reason: impl Into<String>) -> EngineError {
    EngineError::misconfigured(reason.into())
}

/// Reads `redis://USER:PASSWORD@HOST:PORT/DB` or `rediss://…?ca=FILE`.
fn address(text: &str, password: Option<&str>) -> Result<Address, String> {
    let malformed = || format!("it is malformed; {FORM}");
    let (scheme, rest) = text.split_once("://").ok_or_else(malformed)?;
    let is_encrypted = match scheme {
        "redis" | "valkey" => false,
        "rediss" | "valkeys" => true,
        _ => return Err("its scheme is neither redis nor rediss".to_owned()),
    };
    // A password may contain a question mark, but not an @ that is not encoded.
    let (login, rest) = match rest.rsplit_once('@') {
        Some((login, rest)) => (Some(login), rest),
        None => (None, rest),
    };
    let (rest, options) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = host_and_port(authority).ok_or_else(malformed)?;
    let database: u32 = match database {
        "" => 0,
        number => number
            .parse()
            .map_err(|_| "its database is not a number".to_owned())?,
    };
    let mut certificates = None;
    for option in options.split('&').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("ca", file)) if is_encrypted => {
                let file = decode(file).ok_or_else(malformed)?;
                let text = fs::read(&file).map_err(|error| format!("ca: {file}: {error}"))?;
                certificates = Some(text);
            }
            _ => return Err("it has an unknown option; ca=FILE of rediss is known".to_owned()),
        }
    }

    let mut settings = RedisConnectionInfo::default()
        .set_db(i64::from(database))
        .set_skip_set_lib_name();
    let (user, own_password) = match login {
        Some(login) => {
            let (user, password) = login.split_once(':').unwrap_or((login, ""));
            (
                decode(user).ok_or_else(malformed)?,
                decode(password).ok_or_else(malformed)?,
            )
        }
        None => (String::new(), String::new()),
    };
    if !user.is_empty() {
        settings = settings.set_username(&user);
    }
    match (own_password.is_empty(), password) {
        (false, _) => settings = settings.set_password(&own_password),
        (true, Some(password)) => settings = settings.set_password(password),
        (true, None) if !user.is_empty() => {
            return Err(format!(
                "it has a user and no password; {PASSWORD} may hold it"
            ));
        }
        (true, None) => {}
    }

    let host_for_label = match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        _ => host.clone(),
    };
    let label = format!("{host_for_label}:{port}/{database}");
    let client = client(host.clone(), port, is_encrypted, certificates, settings)
        .map_err(|error| format!("{label}: {error}"))?;
    Ok(Address {
        label,
        client,
        host,
        port,
        is_encrypted,
    })
}

fn client(
    host: String,
    port: u16,
    is_encrypted: bool,
    certificates: Option<Vec<u8>>,
    settings: RedisConnectionInfo,
) -> redis::RedisResult<Client> {
    let address = match is_encrypted {
        false => ConnectionAddr::Tcp(host, port),
        true => ConnectionAddr::TcpTls {
            host,
            port,
            insecure: false,
            tls_params: None,
        },
    };
    let tcp = TcpSettings::default().set_nodelay(true);
    #[cfg(any(target_os = "android", target_os = "linux"))]
    let tcp = tcp.set_user_timeout(UNACKNOWLEDGED_LIMIT);
    let info = address
        .into_connection_info()?
        .set_tcp_settings(tcp)
        .set_redis_settings(settings);
    if !is_encrypted {
        return Client::open(info);
    }
    // The client needs a provider for the process. One that the program installed is used.
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // An error means that another thread has installed one since.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    Client::build_with_tls(
        info,
        TlsCertificates {
            client_tls: None,
            root_cert: certificates,
        },
    )
}

/// Splits `HOST:PORT` or `[IPV6]:PORT`; the port is optional.
fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (
                host,
                port.strip_prefix(':').or(port.is_empty().then_some("")),
            )
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, Some("")),
        },
    };
    let port = match port? {
        "" => 6379,
        port => port.parse().ok().filter(|port| *port > 0)?,
    };
    // Two spellings of one address are one node.
    let host = match host.parse::<IpAddr>() {
        Ok(address) => address.to_string(),
        Err(_) => host.trim_end_matches('.').to_ascii_lowercase(),
    };
    let is_valid = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    (!host.is_empty() && host.chars().all(is_valid)).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(url: &str) -> Vec<String> {
        let nodes = read_with(url, None).unwrap_or_else(|error| panic!("{url}: {error}"));
        nodes.into_iter().map(|node| node.label).collect()
    }

    #[test]
    fn nodes_are_normalised_and_sorted() {
        assert_eq!(
            labels("quorum:redis://B.example.,redis://a:7000/3,redis://[::1]:1"),
            ["[::1]:1/0", "a:7000/3", "b.example:6379/0"]
        );
        assert_eq!(
            labels("quorum:redis://me:a%40b@h,rediss://g"),
            ["g:6379/0", "h:6379/0"]
        );
        for twice in [
            "quorum:redis://a,redis://b,redis://A:6379/0",
            "quorum:redis://[::1],redis://[0:0:0:0:0:0:0:1]",
            "quorum:redis://u:1@a,redis://v:2@a",
        ] {
            let error = read_with(twice, None).unwrap_err();
            assert!(error.to_string().contains("is named twice"), "{error}");
        }
    }

    #[test]
    fn passwords_are_read_and_never_shown() {
        let nodes = read_with("quorum:redis://me:the%20sEcret@host:5", None).unwrap();
        let settings = nodes[0].client.get_connection_info().redis_settings();
        assert_eq!(settings.username(), Some("me"));
        assert_eq!(settings.password(), Some("the sEcret"));
        assert_eq!(format!("{nodes:?}"), "[redis://host:5/0]");
        let nodes = read_with("quorum:redis://me@a", Some("of the variable".to_owned())).unwrap();
        let settings = nodes[0].client.get_connection_info().redis_settings();
        assert_eq!(settings.password(), Some("of the variable"));
        for url in [
            "quorum:",
            "quorum:sEcret",
            "quorum:redis://",
            "quorum:redis://u:sEcret@a,",
            "quorum:redis://u:sEcret@a:b",
            "quorum:redis://u:sEcret@a/b",
            "quorum:redis://u:sEcret@a?x=sEcret",
            "quorum:redis://u:sEcret@a?ca=sEcret",
            "quorum:http://u:sEcret@a",
            "quorum:redis://u:%sEcret@a",
            "quorum:redis://u:a,sEcret@a",
            "quorum:redis://sEcret@a",
        ] {
            let error = read_with(url, None).unwrap_err();
            assert!(!error.is_temporary);
            let text = format!("{error} {error:?}");
            assert!(!text.contains("sEcret") && !text.contains('\n'), "{text}");
        }
    }
}
