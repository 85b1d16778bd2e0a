//! The URL of a cluster: endpoints, user, certificates and options.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

use crate::engine::EngineError;
use crate::percent::decode;

const FORM: &str = "the URL has the form etcd://USER:PASSWORD@HOST:PORT,HOST:PORT?OPTION=VALUE";

const OPTIONS: &str = "the options are tls, cacert, cert, key and prefix";

/// The port of etcd for clients.
const PORT: u16 = 2379;

/// The settings that a URL and the environment contain.
pub(super) struct Settings {
    /// Each as `host:port`, distinct.
    pub(super) endpoints: Vec<String>,
    /// A user and its password.
    pub(super) user: Option<(String, String)>,
    pub(super) has_tls: bool,
    authorities: Option<PathBuf>,
    certificate: Option<PathBuf>,
    private_key: Option<PathBuf>,
    /// All keys of the engine begin with this text.
    pub(super) prefix: String,
}

impl Settings {
    /// Reads the URL. `password` is used for a user without one.
    ///
    /// No error contains a part of the URL that may be a password.
    pub(super) fn read(url: &str, password: Option<String>) -> Result<Self, EngineError> {
        let malformed = |reason: &str| EngineError::misconfigured(format!("{FORM}; {reason}"));
        let rest = url
            .strip_prefix("etcd://")
            .ok_or_else(|| malformed("this one has another scheme"))?;
        // A password precedes the last @, and may contain a question mark.
        let behind_user = rest.rfind('@').map_or(0, |at| at + 1);
        let mark = rest[behind_user..].find('?').map(|at| behind_user + at);
        let (place, options) = match mark {
            Some(mark) => (&rest[..mark], Some(&rest[mark + 1..])),
            None => (rest, None),
        };
        let hosts = place[behind_user..].trim_end_matches('/');
        let user = match behind_user {
            0 => None,
            end => Some(read_user(&rest[..end - 1], password).map_err(|text| malformed(&text))?),
        };

        let mut settings = Settings {
            endpoints: Vec::new(),
            user,
            has_tls: false,
            authorities: None,
            certificate: None,
            private_key: None,
            prefix: "latchwork/".to_owned(),
        };
        for host in hosts.split(',') {
            let endpoint = endpoint(host).ok_or_else(|| malformed("an endpoint is malformed"))?;
            if settings.endpoints.contains(&endpoint) {
                let reason = format!("the endpoint {endpoint} occurs twice");
                return Err(EngineError::misconfigured(reason));
            }
            settings.endpoints.push(endpoint);
        }
        let mut tls = None;
        for option in options.into_iter().flat_map(|text| text.split('&')) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let value = decode(value).ok_or_else(|| malformed("an option is malformed"))?;
            let file = Some(PathBuf::from(&value));
            match name {
                "tls" if value == "on" => tls = Some(true),
                "tls" if value == "off" => tls = Some(false),
                "tls" => return Err(malformed("tls is on or off")),
                "cacert" => settings.authorities = file,
                "cert" => settings.certificate = file,
                "key" => settings.private_key = file,
                "prefix" if !value.is_empty() => settings.prefix = value,
                // Its text is in no error, because it may be a part of a password.
                _ => return Err(malformed(&format!("an option is unknown; {OPTIONS}"))),
            }
        }
        let has_files = settings.authorities.is_some() || settings.certificate.is_some();
        if tls == Some(false) && has_files {
            return Err(malformed("tls=off contradicts a certificate"));
        }
        if settings.certificate.is_some() != settings.private_key.is_some() {
            return Err(malformed("cert and key belong together"));
        }
        settings.has_tls = tls.unwrap_or(has_files);
        Ok(settings)
    }

    /// Describes the cluster for people, without the password.
    pub(super) fn cluster(&self) -> String {
        format!("etcd {}", self.endpoints.join(","))
    }

    /// Reads the certificates.
    pub(super) fn tls(&self) -> Result<TlsConfig, EngineError> {
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let builder = TlsConfig::builder().unversioned_rustls_crypto_provider(provider);
        if !self.has_tls {
            return Ok(builder.root_certs(RootCerts::new_with_certs(&[])).build());
        }
        let file = match self.authorities.as_deref() {
            Some(path) if path != Path::new("system") => path.to_owned(),
            _ => system_authorities().ok_or_else(|| {
                EngineError::misconfigured("no certificates are trusted; set cacert=FILE")
            })?,
        };
        let roots = certificates("cacert", &file)?;
        let mut builder = builder.root_certs(RootCerts::new_with_certs(&roots));
        if let (Some(certificate), Some(key)) = (&self.certificate, &self.private_key) {
            let chain = certificates("cert", certificate)?;
            let text = read_file("key", key)?;
            let key = PrivateKey::from_pem(&text).map_err(|_| {
                let path = key.display();
                EngineError::misconfigured(format!("key {path}: the file contains no private key"))
            })?;
            builder = builder.client_cert(Some(ClientCert::new_with_certs(&chain, key)));
        }
        Ok(builder.build())
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("cluster", &self.cluster())
            .field("user", &self.user.as_ref().map(|(user, _)| user))
            .field("has_tls", &self.has_tls)
            .finish_non_exhaustive()
    }
}

fn read_user(text: &str, password: Option<String>) -> Result<(String, String), String> {
    let (user, own) = match text.split_once(':') {
        Some((user, own)) => (user, Some(own)),
        None => (text, None),
    };
    let decoded = |text| decode(text).ok_or_else(|| "the user is malformed".to_owned());
    let user = decoded(user)?;
    let password = match own {
        Some(own) => Some(decoded(own)?),
        None => password,
    };
    match password {
        Some(password) if !user.is_empty() => Ok((user, password)),
        Some(_) => Err("the user has no name".to_owned()),
        None => Err("the user has no password, nor has ETCDCTL_PASSWORD".to_owned()),
    }
}

/// Returns `host:port` in lower case.
fn endpoint(text: &str) -> Option<String> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (text, PORT),
    };
    let is_address = host.starts_with('[') && host.ends_with(']') && host.len() > 2;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    let is_valid = match is_address {
        true => bare
            .chars()
            .all(|c| c.is_ascii_hexdigit() || ":.".contains(c)),
        false => bare.chars().all(is_allowed) && bare.len() == host.len(),
    };
    (is_valid && !bare.is_empty() && port != 0)
        .then(|| format!("{}:{port}", host.to_ascii_lowercase()))
}

fn read_file(option: &str, path: &Path) -> Result<Vec<u8>, EngineError> {
    fs::read(path).map_err(|error| {
        EngineError::misconfigured(format!("{option} {}: {error}", path.display()))
    })
}

fn certificates(option: &str, path: &Path) -> Result<Vec<Certificate<'static>>, EngineError> {
    let text = read_file(option, path)?;
    let mut found = Vec::new();
    for item in parse_pem(&text) {
        match item {
            Ok(PemItem::Certificate(certificate)) => found.push(certificate),
            Ok(_) => {}
            Err(error) => {
                let text = format!("{option} {}: {error}", path.display());
                return Err(EngineError::misconfigured(text));
            }
        }
    }
    if found.is_empty() {
        let text = format!(
            "{option} {}: the file contains no certificate",
            path.display()
        );
        return Err(EngineError::misconfigured(text));
    }
    Ok(found)
}

fn system_authorities() -> Option<PathBuf> {
    [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/ca-bundle.pem",
        "/etc/ssl/cert.pem",
    ]
    .iter()
    .map(PathBuf::from)
    .find(|path| path.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Settings {
        Settings::read(url, None).unwrap()
    }

    #[test]
    fn the_parts_of_a_url_are_read() {
        let settings = read("etcd://User:p%40s?s@A:1,b,[::1]:3/?prefix=x%2F&tls=off");
        assert_eq!(settings.endpoints, ["a:1", "b:2379", "[::1]:3"]);
        assert_eq!(settings.user, Some(("User".to_owned(), "p@s?s".to_owned())));
        assert_eq!((settings.prefix.as_str(), settings.has_tls), ("x/", false));
        assert!(read("etcd://a?cacert=/ca.pem").has_tls);
        assert!(read("etcd://a?tls=on").has_tls);
        let settings = Settings::read("etcd://me@a", Some("variable".to_owned())).unwrap();
        assert_eq!(
            settings.user,
            Some(("me".to_owned(), "variable".to_owned()))
        );
    }

    #[test]
    fn a_malformed_url_is_refused_in_one_line_without_its_password() {
        for (url, expected) in [
            ("etcd:/a", "another scheme"),
            ("etcd://u:sEcret@", "an endpoint is malformed"),
            ("etcd://u:sEcret@a:b", "an endpoint is malformed"),
            ("etcd://u:sEcret@a:0", "an endpoint is malformed"),
            ("etcd://u:sEcret@a,,b", "an endpoint is malformed"),
            ("etcd://u:sEcret@a b", "an endpoint is malformed"),
            ("etcd://u:sEcret@a:1,A:1", "a:1 occurs twice"),
            ("etcd://u:sEcret@a?sEcret=1", "an option is unknown"),
            ("etcd://u:sEcret@a?tls=sEcret", "tls is on or off"),
            ("etcd://u:sEcret@a?cert=x", "cert and key"),
            ("etcd://u:sEcret@a?tls=off&cacert=x", "contradicts"),
            ("etcd://:sEcret@a", "no name"),
            ("etcd://u:%sEcret@a", "the user is malformed"),
            ("etcd://u@a", "no password"),
        ] {
            let error = Settings::read(url, None).unwrap_err();
            assert!(!error.is_temporary);
            let text = format!("{error} {error:?}");
            assert!(text.contains(expected), "{url}: {text}");
            assert!(!text.contains("sEcret"), "{text}");
            assert!(!error.to_string().contains('\n'));
        }
        let text = format!("{:?}", read("etcd://user:sEcret@host:5"));
        assert!(
            !text.contains("sEcret") && text.contains("host:5"),
            "{text}"
        );
    }
}
