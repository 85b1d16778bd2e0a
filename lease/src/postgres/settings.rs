//! The URL of a server, the password and the mode of TLS.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use crate::engine::EngineError;
use crate::percent::decode;

/// The mode of TLS, as in libpq.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TlsMode {
    Disable,
    Prefer,
    /// Encrypted, without a check of the server's identity.
    Require,
    /// The certificate is signed by an authority that is trusted.
    VerifyCa,
    /// As `VerifyCa`, and the certificate names the host.
    VerifyFull,
}

/// The settings that a URL and the environment contain.
pub(super) struct Settings {
    pub(super) config: Config,
    pub(super) tls: TlsMode,
    pub(super) root_certificates: Option<PathBuf>,
    /// The options of the URL for the server, without those of this engine.
    pub(super) options: String,
}

const FORM: &str = "the URL has the form postgres://USER@HOST:PORT/DATABASE?OPTION=VALUE";

impl Settings {
    /// Reads the URL, and the variables `PGPASSWORD` and `PGPASSFILE`.
    ///
    /// No error contains a part of the URL, because each part may contain a password.
    pub(super) fn read(url: &str, environment: &Environment) -> Result<Self, EngineError> {
        let malformed = || EngineError::misconfigured(format!("{FORM}; this one is malformed"));
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(malformed());
        }
        let (url, own) = split_own_options(url).ok_or_else(malformed)?;
        let mut config: Config = url.parse().map_err(|_| malformed())?;
        let mut tls = TlsMode::Prefer;
        let mut root_certificates = None;
        let mut has_mode = false;
        for (name, value) in own {
            if name == "sslrootcert" {
                root_certificates = Some(PathBuf::from(value));
                continue;
            }
            has_mode = true;
            tls = match value.as_str() {
                "disable" => TlsMode::Disable,
                "prefer" | "allow" => TlsMode::Prefer,
                "require" => TlsMode::Require,
                "verify-ca" => TlsMode::VerifyCa,
                "verify-full" => TlsMode::VerifyFull,
                _ => {
                    return Err(EngineError::misconfigured(
                        "sslmode is disable, prefer, require, verify-ca or verify-full",
                    ));
                }
            };
        }
        // As in libpq: a root certificate is there to be checked.
        if root_certificates.is_some() && tls == TlsMode::Require {
            tls = TlsMode::VerifyCa;
        }
        if root_certificates.is_some() && !has_mode {
            tls = TlsMode::VerifyFull;
        }
        config.ssl_mode(match tls {
            TlsMode::Disable => SslMode::Disable,
            TlsMode::Prefer => SslMode::Prefer,
            _ => SslMode::Require,
        });

        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(EngineError::misconfigured(format!(
                "{FORM}; this one has no host"
            )));
        }
        if config.get_password().is_none() {
            if let Some(password) = environment.password(&config)? {
                config.password(password);
            }
        }
        if config.get_application_name().is_none() {
            config.application_name("latchwork-lease");
        }
        // A peer that vanished is detected by the kernel, unless the URL has other limits.
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(Duration::from_secs(5));
        }
        if config.get_keepalives_interval().is_none() {
            config.keepalives_idle(Duration::from_secs(5));
            config.keepalives_interval(Duration::from_secs(1));
            config.keepalives_retries(5);
        }
        let options = config.get_options().unwrap_or_default().to_owned();
        Ok(Settings {
            config,
            tls,
            root_certificates,
            options,
        })
    }

    /// Describes the server for people, without the password.
    pub(super) fn server(&self) -> String {
        let host = match self.config.get_hosts().first() {
            Some(Host::Tcp(host)) => host.clone(),
            Some(Host::Unix(path)) => path.display().to_string(),
            None => self
                .config
                .get_hostaddrs()
                .first()
                .map_or_else(String::new, |a| a.to_string()),
        };
        let port = self.config.get_ports().first().copied().unwrap_or(5432);
        let database = self
            .config
            .get_dbname()
            .or(self.config.get_user())
            .unwrap_or_default();
        format!("{host}:{port}/{database}")
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("server", &self.server())
            .field("user", &self.config.get_user())
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

/// Removes the options `sslmode` and `sslrootcert`, which the client does not know in full.
fn split_own_options(url: &str) -> Option<(String, Vec<(String, String)>)> {
    // The password precedes the first @.
    let authority = url.find("://")? + 3;
    let behind_password = url[authority..]
        .find('@')
        .map_or(authority, |at| authority + at);
    let Some(mark) = url[behind_password..]
        .find('?')
        .map(|mark| behind_password + mark)
    else {
        return Some((url.to_owned(), Vec::new()));
    };
    let mut own = Vec::new();
    let mut rest = Vec::new();
    for option in url[mark + 1..].split('&') {
        match option.split_once('=') {
            Some((name @ ("sslmode" | "sslrootcert"), value)) => {
                own.push((name.to_owned(), decode(value)?));
            }
            _ => rest.push(option),
        }
    }
    let mut url = url[..mark].to_owned();
    if !rest.is_empty() {
        url.push('?');
        url.push_str(&rest.join("&"));
    }
    Some((url, own))
}

/// Where a password can be, beside the URL.
#[derive(Default)]
pub(super) struct Environment {
    pub(super) password: Option<String>,
    pub(super) password_file: Option<PathBuf>,
    /// Whether a missing password file is an error.
    pub(super) is_file_named: bool,
}

impl Environment {
    pub(super) fn of_process() -> Self {
        let named = std::env::var_os("PGPASSFILE").map(PathBuf::from);
        let is_file_named = named.is_some();
        let usual = || std::env::home_dir().map(|home| home.join(".pgpass"));
        Environment {
            password: std::env::var("PGPASSWORD").ok(),
            password_file: named.or_else(usual),
            is_file_named,
        }
    }

    fn password(&self, config: &Config) -> Result<Option<String>, EngineError> {
        if self.password.is_some() {
            return Ok(self.password.clone());
        }
        let Some(path) = &self.password_file else {
            return Ok(None);
        };
        let refused = |reason: &str| {
            EngineError::misconfigured(format!("password file {}: {reason}", path.display()))
        };
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if self.is_file_named => return Err(refused(&error.to_string())),
            Err(_) => return Ok(None),
        };
        if metadata.mode() & 0o077 != 0 {
            return Err(refused("other users may access the file; run chmod 600"));
        }
        let text = fs::read_to_string(path).map_err(|error| refused(&error.to_string()))?;
        Ok(find_password(&text, config))
    }
}

/// Returns the password of the first line `host:port:database:user:password` that matches.
fn find_password(text: &str, config: &Config) -> Option<String> {
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(host)) => host.clone(),
        // As in libpq: a socket of this machine is localhost.
        Some(Host::Unix(_)) => "localhost".to_owned(),
        None => config.get_hostaddrs().first()?.to_string(),
    };
    let port = config
        .get_ports()
        .first()
        .copied()
        .unwrap_or(5432)
        .to_string();
    let user = config.get_user().unwrap_or_default().to_owned();
    let database = config.get_dbname().unwrap_or(&user).to_owned();
    let wanted = [host, port, database, user];
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .find_map(|line| {
            let fields = split_fields(line);
            let (password, pattern) = fields.split_last()?;
            let matches = pattern.len() == wanted.len()
                && pattern.iter().zip(&wanted).all(|(p, w)| p == "*" || p == w);
            matches.then(|| password.clone())
        })
}

/// Splits a line into at most five fields; `\:` is a colon and `\\` a backslash.
fn split_fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        let last = fields.len() - 1;
        match character {
            ':' if fields.len() < 5 => fields.push(String::new()),
            '\\' => fields[last].extend(characters.next()),
            other => fields[last].push(other),
        }
    }
    fields
}

/// Returns the path of the certificates to trust.
pub(super) fn root_certificates(named: Option<&Path>) -> Option<PathBuf> {
    match named {
        Some(path) if path == Path::new("system") => [
            "/etc/ssl/certs/ca-certificates.crt",
            "/etc/pki/tls/certs/ca-bundle.crt",
            "/etc/ssl/ca-bundle.pem",
            "/etc/ssl/cert.pem",
        ]
        .iter()
        .map(PathBuf::from)
        .find(|path| path.exists()),
        Some(path) => Some(path.to_owned()),
        None => std::env::home_dir()
            .map(|home| home.join(".postgresql/root.crt"))
            .filter(|path| path.exists()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Settings {
        Settings::read(url, &Environment::default()).unwrap()
    }

    #[test]
    fn modes_of_tls_are_those_of_libpq() {
        let mode = |options: &str| read(&format!("postgres://a@b/c?{options}")).tls;
        assert_eq!(read("postgres://a@b/c").tls, TlsMode::Prefer);
        assert_eq!(mode("sslmode=disable"), TlsMode::Disable);
        assert_eq!(
            mode("application_name=x&sslmode=verify-full"),
            TlsMode::VerifyFull
        );
        assert_eq!(mode("sslmode=require"), TlsMode::Require);
        assert_eq!(
            mode("sslmode=require&sslrootcert=%2fca.pem"),
            TlsMode::VerifyCa
        );
        assert_eq!(mode("sslrootcert=/ca.pem"), TlsMode::VerifyFull);
        let settings = read("postgres://a@b/c?sslmode=verify-ca&sslrootcert=%2Fca.pem&options=-c");
        assert_eq!(
            settings.root_certificates.as_deref(),
            Some(Path::new("/ca.pem"))
        );
        assert_eq!(settings.options, "-c");
        assert_eq!(settings.config.get_ssl_mode(), SslMode::Require);
    }

    #[test]
    fn no_error_and_no_debug_output_has_the_password() {
        let environment = Environment::default();
        for url in [
            "postgres://user:sEcret@host:port/db",
            "postgres://user:sEcret@host/db?sEcret=1",
            "postgres://user:sEcret@/db?sslmode=sEcret",
            "mysql://user:sEcret@host/db",
            "postgres://user:sEcret@host/db?sslmode=%sEcret",
            "postgres://user@host:sEcret",
        ] {
            let error = Settings::read(url, &environment).unwrap_err();
            assert!(!error.is_temporary);
            let text = format!("{error} {error:?}");
            assert!(!text.contains("sEcret"), "{text}");
        }
        let settings = read("postgres://user:sEcret@host:5/db");
        assert_eq!(settings.config.get_password(), Some(b"sEcret".as_slice()));
        let text = format!("{settings:?}");
        assert!(
            !text.contains("sEcret") && text.contains("host:5/db"),
            "{text}"
        );
    }

    #[test]
    fn a_password_file_is_searched_as_by_libpq() {
        let config: Config = "postgres://me@server:6000/data".parse().unwrap();
        let file = "# a comment\nother:*:*:*:no\n*:6001:*:*:no\nserver:6000:data:me:a\\:b\\\\c:d\n";
        assert_eq!(find_password(file, &config).as_deref(), Some("a:b\\c:d"));
        assert_eq!(
            find_password("*:*:*:*:any", &config).as_deref(),
            Some("any")
        );
        assert_eq!(find_password("*:*:*:any", &config), None);
        let config: Config = "postgres://me@server".parse().unwrap();
        assert_eq!(
            find_password("server:5432:me:me:x", &config).as_deref(),
            Some("x")
        );
    }

    #[test]
    fn the_url_precedes_the_environment() {
        let environment = Environment {
            password: Some("variable".to_owned()),
            ..Environment::default()
        };
        let password = |url| {
            let settings = Settings::read(url, &environment).unwrap();
            settings.config.get_password().map(<[u8]>::to_vec)
        };
        assert_eq!(
            password("postgres://a:url@b/c").as_deref(),
            Some(b"url".as_slice())
        );
        assert_eq!(
            password("postgres://a@b/c").as_deref(),
            Some(b"variable".as_slice())
        );
    }
}
