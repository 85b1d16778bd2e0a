//! The engine `postgres://…` through the contract of an engine, without faults.
#![cfg(feature = "postgres")]

#[path = "support/contract.rs"]
mod contract;
#[path = "support/server.rs"]
mod server;
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use latchwork::table::FencingToken;
use latchwork_lease::engine::{AttemptAll, Engine, Nonce, Outcome, Released, Renewal, Renewed};
use latchwork_lease::postgres::PostgresEngine;
use server::Server;
use support::{Folder, KEY, attempt, key, ms, request, soon};

const LONG: Duration = Duration::from_secs(60);

/// A database of a server.
struct Database {
    server: Arc<Server>,
    name: String,
}

impl Database {
    fn new() -> Option<Self> {
        let server = server::shared()?;
        let name = server.database();
        Some(Database { server, name })
    }

    fn url(&self) -> String {
        self.server.url(&self.name)
    }
}

impl contract::Place for Database {
    fn open(&self) -> Box<dyn Engine> {
        Box::new(PostgresEngine::connect(&self.url()).unwrap())
    }
}

contract::contract_tests!(Database::new());

fn refusal(url: &str) -> String {
    support::refusal(PostgresEngine::connect(url))
}

#[test]
fn a_database_that_is_missing_is_refused() {
    let Some(database) = Database::new() else {
        return;
    };
    assert!(refusal(&database.server.url("nothing")).contains("\"nothing\" does not exist"));
}

#[cfg(feature = "conformance")]
#[test]
fn the_engine_conforms() {
    let Some(database) = Database::new() else {
        return;
    };
    let open =
        || -> Arc<dyn Engine> { Arc::new(PostgresEngine::connect(&database.url()).unwrap()) };
    contract::assert_conforms(&open);
}

#[cfg(feature = "conformance")]
#[test]
fn the_engine_conforms_across_processes() {
    let Some(database) = Database::new() else {
        return;
    };
    contract::assert_conforms_across_processes(&database.url());
}

/// The body of the processes of the suite. Alone it does nothing.
#[cfg(feature = "conformance")]
#[test]
fn act() {
    contract::act();
}

/// A role of a server and how it logs in.
fn with_user(url: &str, user: &str) -> String {
    url.replace("postgres://postgres@", &format!("postgres://{user}@"))
}

#[test]
fn a_role_needs_only_the_privileges_that_are_documented() {
    let Some(database) = Database::new() else {
        return;
    };
    let sql = |statements: &str| database.server.psql(&database.name, statements);
    let role = format!("user_of_{}", database.name);
    sql(&format!(
        "CREATE ROLE {role} LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC"
    ));
    let url = with_user(&database.url(), &role);

    // Without a table the error names the statements, and the statements work.
    let text = refusal(&url);
    let (_, statements) = text.split_once("runs: ").expect(&text);
    assert!(statements.starts_with("CREATE SCHEMA IF NOT EXISTS latchwork; CREATE TABLE"));
    sql("CREATE SCHEMA latchwork");
    let text = refusal(&url);
    let (_, without_schema) = text.split_once("runs: ").expect(&text);
    assert!(without_schema.starts_with("CREATE TABLE"), "{text}");
    sql(&statements.replace("the_role", &role));
    sql(&format!("REVOKE USAGE ON SCHEMA latchwork FROM {role}"));
    let text = refusal(&url);
    assert!(
        text.contains("permission denied for schema latchwork"),
        "{text}"
    );
    assert!(
        text.contains("GRANT USAGE ON SCHEMA latchwork TO the_role"),
        "{text}"
    );
    sql(&format!("GRANT USAGE ON SCHEMA latchwork TO {role}"));

    let engine = PostgresEngine::connect(&url).unwrap();
    let nonce = Nonce::new(1);
    let token = attempt(&engine, KEY, 1, LONG).unwrap();
    let token = FencingToken::new(token);
    let renewal = Renewal {
        key: KEY,
        nonce,
        token,
        ttl: LONG,
    };
    assert_eq!(
        engine.renew_many(&[renewal], soon()).unwrap(),
        [Renewed::Held]
    );
    assert_eq!(engine.list("tests", "", soon()).unwrap().len(), 1);
    engine
        .raise_floor(KEY, FencingToken::new(9), soon())
        .unwrap();
    assert!(engine.break_lease(KEY, token, soon()).unwrap());
    engine.wait_hint(KEY, Nonce::new(2), soon()).unwrap();
    assert_eq!(
        engine.release(KEY, nonce, soon()).unwrap(),
        Released::WasLost
    );
    let all = engine
        .try_acquire_all(&[request(KEY, 2, LONG)], soon())
        .unwrap()
        .unwrap();
    assert_eq!(all, AttemptAll::Granted(vec![FencingToken::new(10)]));

    // Each privilege is needed.
    for statement in [
        "REVOKE UPDATE ON latchwork.lease FROM",
        "REVOKE INSERT ON latchwork.lease FROM",
        "REVOKE SELECT ON latchwork.lease FROM",
    ] {
        sql(&format!("{statement} {role}"));
        let error = engine
            .try_acquire(&request(KEY, 3, LONG), soon())
            .unwrap_err();
        assert!(error.to_string().contains("permission denied"), "{error}");
        assert_eq!(
            (error.outcome, error.is_temporary),
            (Outcome::NotDone, false)
        );
    }
}

#[test]
fn databases_that_cannot_keep_leases_are_refused() {
    let Some(database) = Database::new() else {
        return;
    };
    let server = &database.server;
    drop(PostgresEngine::connect(&database.url()).unwrap());
    server.psql(&database.name, "UPDATE latchwork.layout SET version = 3");
    let text = refusal(&database.url());
    assert!(
        text.contains("layout 3") && text.contains("reads layout 2"),
        "{text}"
    );

    let latin = format!("{}_latin", database.name);
    server.psql(
        "postgres",
        &format!("CREATE DATABASE {latin} ENCODING LATIN1 TEMPLATE template0"),
    );
    assert!(refusal(&server.url(&latin)).contains("LATIN1; UTF8 is needed"));
    // A server that cannot be reached may come back.
    let error = PostgresEngine::connect("postgres://a:sEcret@127.0.0.1:1/b").unwrap_err();
    assert_eq!(
        (error.outcome, error.is_temporary),
        (Outcome::NotDone, true),
        "{error}"
    );
    assert!(!format!("{error} {error:?}").contains("sEcret"));
}

#[test]
fn a_server_that_is_too_old_is_refused() {
    for (version, name) in [(110_022, "11"), (90_603, "9")] {
        let port = server::old(version);
        let url = format!("postgres://a:sEcret@127.0.0.1:{port}/b?sslmode=disable");
        let text = refusal(&url);
        let expected = format!("the server is PostgreSQL {name}; 12 or later is needed");
        assert!(text.contains(&expected), "{text}");
        assert!(!text.contains("sEcret"), "{text}");
    }
}

/// The table of layout 1, with one lease.
const LAYOUT_1: &str = "CREATE SCHEMA latchwork; CREATE TABLE latchwork.lease (
        namespace text COLLATE \"C\" NOT NULL, name text COLLATE \"C\" NOT NULL,
        counter bigint NOT NULL, token bigint NOT NULL, nonce bytea, owner text NOT NULL,
        granted timestamptz NOT NULL, expires timestamptz NOT NULL,
        PRIMARY KEY (namespace, name)) WITH (fillfactor = 50);
    CREATE TABLE latchwork.layout (version int PRIMARY KEY);
    INSERT INTO latchwork.layout VALUES (1);
    INSERT INTO latchwork.lease VALUES ('tests', 'reports/nightly', 41, 41, NULL, 'an owner',
        clock_timestamp(), clock_timestamp() + interval '1 h');";

#[test]
fn an_earlier_layout_is_refused_with_the_statements_that_change_it() {
    let Some(database) = Database::new() else {
        return;
    };
    let sql = |statements: &str| database.server.psql(&database.name, statements);
    sql(LAYOUT_1);
    let text = refusal(&database.url());
    assert!(text.contains("layout 1"), "{text}");
    let (_, statements) = text.split_once("its owner runs: ").expect(&text);
    sql(statements);
    let engine = PostgresEngine::connect(&database.url()).unwrap();
    assert_eq!(attempt(&engine, KEY, 1, LONG), Some(42));
    assert_eq!(attempt(&engine, KEY, 2, LONG), None);
    engine.release(KEY, Nonce::new(1), soon()).unwrap();
    assert_eq!(attempt(&engine, KEY, 2, LONG), Some(43));
}

#[test]
fn a_layout_that_another_release_renames_while_it_is_in_use_is_reported() {
    let Some(database) = Database::new() else {
        return;
    };
    let engine = PostgresEngine::connect(&database.url()).unwrap();
    database.server.psql(
        &database.name,
        "ALTER TABLE latchwork.lease RENAME TO lease_2",
    );
    let error = engine
        .try_acquire(&request(KEY, 1, LONG), soon())
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("layout is that of another release"),
        "{error}"
    );
    assert_eq!(
        (error.outcome, error.is_temporary),
        (Outcome::NotDone, false)
    );
}

#[test]
fn names_are_values_and_never_text_of_a_statement() {
    let Some(database) = Database::new() else {
        return;
    };
    let engine = PostgresEngine::connect(&database.url()).unwrap();
    let names = [
        "'; DROP TABLE latchwork.lease; --",
        "\"a\"",
        "$1",
        "a\\b",
        "%",
        "{a,b}",
        "ä\u{1f512}",
    ];
    for (nonce, name) in (1..).zip(names) {
        assert_eq!(attempt(&engine, key(name), nonce, LONG), Some(1), "{name}");
        let renewal = Renewal {
            key: key(name),
            nonce: Nonce::new(nonce),
            token: FencingToken::new(1),
            ttl: LONG,
        };
        assert_eq!(
            engine.renew_many(&[renewal], soon()).unwrap(),
            [Renewed::Held],
            "{name}"
        );
        let found = engine.list("tests", name, soon()).unwrap();
        assert_eq!(found.len(), 1, "{name}");
        assert_eq!(found[0].0, name);
    }
}

#[test]
fn the_statement_of_the_readme_refuses_late_writes() {
    let Some(database) = Database::new() else {
        return;
    };
    database.server.psql(
        &database.name,
        "CREATE TABLE report (name text PRIMARY KEY, body text, token bigint, nonce text)",
    );
    let mut client = postgres::Client::connect(&database.url(), postgres::NoTls).unwrap();
    let statement = support::code_of_the_readme("sql");
    support::assert_refuses_late_writes(|body, token, nonce| {
        let changed = client.execute(statement, &[&"nightly", &body, &token, &nonce]);
        changed.unwrap() == 1
    });
    let body = database
        .server
        .psql(&database.name, "SELECT body FROM report");
    assert_eq!(body, "far later");
}

#[test]
fn a_wrong_password_is_refused_and_never_shown() {
    let Some(server) = Server::start(&["password_encryption=scram-sha-256"]) else {
        return;
    };
    server.psql(
        "postgres",
        "CREATE ROLE secured LOGIN PASSWORD 'the sEcret'",
    );
    server.psql("postgres", "GRANT CREATE ON DATABASE postgres TO secured");
    let rules = "host all secured 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n";
    fs::write(server.data().join("pg_hba.conf"), rules).unwrap();
    server.psql("postgres", "SELECT pg_reload_conf()");
    std::thread::sleep(ms(200));

    let url = server.url("postgres");
    let engine = PostgresEngine::connect(&with_user(&url, "secured:the%20sEcret")).unwrap();
    assert!(!format!("{engine:?}").contains("sEcret"), "{engine:?}");
    let text = refusal(&with_user(&url, "secured:wrong-sEcret"));
    assert!(text.contains("password authentication failed"), "{text}");
    assert!(!text.contains("sEcret"), "{text}");
    let text = refusal(&with_user(&url, "secured"));
    assert!(text.contains("password"), "{text}");
    let text = refusal(&with_user(&url, "missing_role"));
    assert!(text.contains("does not exist"), "{text}");
}

/// Makes a certificate that signs itself, for a name; returns the certificate and the key.
fn certificate(folder: &Path, name: &str, subject: &str) -> Option<(PathBuf, PathBuf)> {
    let (file, key) = (
        folder.join(format!("{name}.crt")),
        folder.join(format!("{name}.key")),
    );
    let made = Command::new("openssl")
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test",
        ])
        .args(["-addext", &format!("subjectAltName={subject}"), "-addext"])
        .args(["basicConstraints=critical,CA:FALSE", "-out"])
        .arg(&file)
        .arg("-keyout")
        .arg(&key)
        .stderr(Stdio::null())
        .status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: openssl cannot make a certificate");
        return None;
    }
    Some((file, key))
}

#[test]
fn tls_encrypts_and_verifies_as_the_mode_demands() {
    let Some(mut server) = Server::start(&[]) else {
        return;
    };
    let folder = Folder::new();
    let Some((right, private)) = certificate(folder.path(), "right", "IP:127.0.0.1") else {
        return;
    };
    let (wrong, _) = certificate(folder.path(), "wrong", "IP:127.0.0.1").unwrap();
    let connect = |url: &str| {
        PostgresEngine::connect(url).map(drop).map_err(|error| {
            assert!(!error.is_temporary, "{error}");
            error.to_string()
        })
    };
    let url = server.url("postgres");
    let with = |mode: &str, root: Option<&Path>| {
        let root = root.map_or(String::new(), |path| {
            format!("&sslrootcert={}", path.display())
        });
        format!("{url}?sslmode={mode}{root}")
    };
    // Without TLS at the server.
    connect(&with("prefer", None)).unwrap();
    assert!(connect(&with("require", None)).unwrap_err().contains("TLS"));

    server.certificate(&right, &private);
    let database_with_tls = "SELECT count(*) FROM pg_stat_ssl WHERE ssl AND pid IN
        (SELECT pid FROM pg_stat_activity WHERE application_name = 'latchwork-lease')";
    let engine = PostgresEngine::connect(&with("require", None)).unwrap();
    assert_eq!(server.psql("postgres", database_with_tls), "1");
    assert!(attempt(&engine, KEY, 1, LONG).is_some());
    connect(&with("verify-ca", Some(&right))).unwrap();
    connect(&with("verify-full", Some(&right))).unwrap();
    for mode in ["require", "verify-ca", "verify-full"] {
        let text = connect(&with(mode, Some(&wrong))).unwrap_err();
        assert!(text.contains("certificate"), "{text}");
    }
    let text = connect(&with("verify-full", Some(&folder.file("none")))).unwrap_err();
    assert!(text.contains("sslrootcert"), "{text}");

    // A certificate for another host is valid for its authority only.
    let (other, private) = certificate(folder.path(), "other", "DNS:other.example").unwrap();
    server.certificate(&other, &private);
    connect(&with("verify-ca", Some(&other))).unwrap();
    let text = connect(&with("verify-full", Some(&other))).unwrap_err();
    assert!(text.contains("not valid for name"), "{text}");
}

#[test]
fn a_direct_connection_parses_each_statement_once() {
    let Some(server) = Server::start(&["log_min_duration_statement=0"]) else {
        return;
    };
    let engine = PostgresEngine::connect(&server.url(&server.database())).unwrap();
    for nonce in 1..=40 {
        assert!(attempt(&engine, KEY, nonce, ms(10_000)).is_some());
        engine.release(KEY, Nonce::new(nonce), soon()).unwrap();
    }
    let log = fs::read_to_string(server.folder().join("log")).unwrap();
    let count = |phase: &str| {
        let phase = format!(" ms  {phase} ");
        log.lines().filter(|line| line.contains(&phase)).count()
    };
    assert!(count("execute") >= 80, "{log}");
    // Those of the inspection, and a plain statement and a function of each request.
    assert!(count("parse") <= 6, "{} are parsed", count("parse"));
}
