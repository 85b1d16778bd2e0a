//! Clients, files and bad input.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use latchwork::LockTable;
use latchwork::console::Console;
use latchwork::table::IntegerHasher;

use crate::common::watchdog;
use crate::parsed;

/// A folder for one test, which is removed with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBERS: AtomicU32 = AtomicU32::new(0);
        let number = NUMBERS.fetch_add(1, Relaxed);
        let name = format!("latchwork-console-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).expect("a new folder");
        Folder(folder)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("s")
    }

    /// Returns the names in it.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("it is there");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        names
            .map(|name| name.to_string_lossy().into_owned())
            .collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("it is there");
    }
}

/// Reads the answer, including when the connection is reset behind it.
fn answer(mut stream: impl Read) -> String {
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    while let Ok(n @ 1..) = stream.read(&mut part) {
        bytes.extend_from_slice(&part[..n]);
    }
    String::from_utf8(bytes).expect("answers are text")
}

fn ask(path: &Path, request: &[u8]) -> String {
    let mut stream = UnixStream::connect(path).expect("the server listens");
    // A server that refuses does not wait for the request.
    let _ = stream.write_all(request);
    answer(stream)
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

const JSON: &[u8] = b"GET /json HTTP/1.1\r\n\r\n";

fn serves(path: &Path) -> bool {
    status(&ask(path, JSON)) == "200"
}

#[test]
fn a_server_answers_in_both_formats() {
    let folder = Folder::new();
    let path = folder.socket();
    let server = Console::new().serve_unix(&path).expect("a new file");
    let json = ask(&path, JSON);
    let (head, body) = json.split_once("\r\n\r\n").expect("a head and a body");
    assert_eq!(parsed(body)["format"], 1);
    assert!(head.contains("\r\nContent-Type: application/json\r\n"));
    assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())));
    let text = ask(&path, b"GET /metrics HTTP/1.1\r\n\r\n");
    assert!(text.contains("\nlatchwork_garbage_values "));
    assert_eq!(server.port(), None);
}

#[test]
fn only_the_user_may_connect() {
    let folder = Folder::new();
    let path = folder.socket();
    let _server = Console::new().serve_unix(&path).expect("a new file");
    let mode = fs::metadata(&path)
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(folder.names(), ["s"], "the private folder is removed");
}

#[test]
fn the_drop_ends_the_thread_and_removes_the_file() {
    let folder = Folder::new();
    let path = folder.socket();
    let table: Arc<LockTable<u64>> = Arc::default();
    let console = Console::new().table("t", table.clone());
    let server = console.serve_unix(&path).expect("a new file");
    drop(console);
    assert!(serves(&path));
    drop(server);
    assert_eq!(folder.names(), [""; 0]);
    // A client that was just served may have its thread for a moment.
    let until = Instant::now() + Duration::from_secs(10);
    while Arc::strong_count(&table) > 1 {
        assert!(Instant::now() < until, "a thread keeps the table");
        thread::yield_now();
    }
}

#[test]
fn the_socket_of_a_process_that_has_ended_is_replaced() {
    let folder = Folder::new();
    let path = folder.socket();
    drop(UnixListener::bind(&path).expect("a new file"));
    assert!(path.exists(), "std leaves the file");
    let _server = Console::new()
        .serve_unix(&path)
        .expect("no process listens");
    assert!(serves(&path));
    assert_eq!(folder.names(), ["s"]);
}

#[test]
fn the_socket_of_a_running_server_is_not_replaced() {
    let folder = Folder::new();
    let path = folder.socket();
    let _server = Console::new().serve_unix(&path).expect("a new file");
    let second = Console::new().serve_unix(&path).expect_err("in use");
    assert_eq!(second.kind(), ErrorKind::AddrInUse);
    assert!(serves(&path));
    assert_eq!(folder.names(), ["s"]);
}

#[test]
fn a_file_that_is_no_socket_is_not_replaced() {
    let folder = Folder::new();
    let path = folder.socket();
    fs::write(&path, "mine").expect("a new file");
    let error = Console::new().serve_unix(&path).expect_err("not a socket");
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(fs::read_to_string(&path).expect("it is there"), "mine");
    // A link is not followed.
    let link = folder.0.join("link");
    std::os::unix::fs::symlink(folder.0.join("nowhere"), &link).expect("a new link");
    let error = Console::new().serve_unix(&link).expect_err("not a socket");
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    let long = folder.0.join("x".repeat(200));
    Console::new()
        .serve_unix(long)
        .expect_err("too long for an address");
    assert_eq!(folder.names().len(), 2);
}

#[test]
fn a_file_that_another_process_has_put_there_is_not_removed() {
    let folder = Folder::new();
    let path = folder.socket();
    let server = Console::new().serve_unix(&path).expect("a new file");
    let first = fs::metadata(&path).expect("it is there").ino();
    // Kept, so that the new file has another number.
    fs::rename(&path, folder.0.join("old")).expect("it is there");
    let _other = UnixListener::bind(&path).expect("a new file");
    assert_ne!(fs::metadata(&path).expect("it is there").ino(), first);
    drop(server);
    assert!(path.exists());
}

#[test]
fn bad_input_gets_a_status_and_the_server_continues() {
    let folder = Folder::new();
    let path = folder.socket();
    let _server = Console::new().serve_unix(&path).expect("a new file");
    for (request, expected) in [
        (&b"\r\n\r\n"[..], "400"),
        (b"\x00\xff\xfe\r\n\r\n", "400"),
        (b"GET /json\r\n\r\n", "400"),
        (b"DELETE /json HTTP/1.1\r\n\r\n", "405"),
        (b"GET /passwd HTTP/1.1\r\n\r\n", "404"),
        (b"GET /../json HTTP/1.1\r\n\r\n", "404"),
    ] {
        assert_eq!(status(&ask(&path, request)), expected, "{request:?}");
    }
    let long = [b"GET /json HTTP/1.1\r\nX: ", &[b'a'; 5_000][..]].concat();
    assert_eq!(status(&ask(&path, &long)), "431");
    // A client that closes in the middle of its request.
    drop(UnixStream::connect(&path).expect("the server listens"));
    let mut torn = UnixStream::connect(&path).expect("the server listens");
    torn.write_all(b"GET /js").expect("there is room");
    drop(torn);
    assert!(serves(&path));
}

#[test]
fn a_client_that_sends_slowly_is_cut_off_and_delays_no_other() {
    let _watchdog = watchdog("a_client_that_sends_slowly_is_cut_off_and_delays_no_other");
    let folder = Folder::new();
    let path = folder.socket();
    let _server = Console::new().serve_unix(&path).expect("a new file");
    let mut slow = UnixStream::connect(&path).expect("the server listens");
    let mut sent = 0;
    // One byte at a time: each is in time, and all of them together are not.
    for byte in JSON.iter().cycle() {
        if slow.write_all(&[*byte | 1]).is_err() {
            break;
        }
        sent += 1;
        assert!(serves(&path), "another client is served at the same time");
        assert!(sent < 4_000, "it is never cut off");
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(status(&answer(slow)), "408");
}

/// A label that is longer than the buffer of a socket.
#[test]
fn a_client_that_does_not_read_is_cut_off() {
    let _watchdog = watchdog("a_client_that_does_not_read_is_cut_off");
    let folder = Folder::new();
    let path = folder.socket();
    let table: Arc<LockTable<u64, _>> = Arc::new(
        LockTable::builder()
            .hasher(IntegerHasher::new())
            .key_labels(|_| "x".repeat(4 << 20))
            .build(),
    );
    let guard = table.lock(&1);
    assert!(table.try_lock_for(&1, Duration::from_millis(1)).is_none());
    let console = Console::new().table("t", table.clone()).show_names();
    let _server = console.serve_unix(&path).expect("a new file");
    let whole = ask(&path, JSON);
    assert!(whole.len() > 4 << 20);
    let mut stream = UnixStream::connect(&path).expect("the server listens");
    stream.write_all(JSON).expect("there is room");
    thread::sleep(Duration::from_millis(2_500));
    let part = answer(stream);
    assert!(part.starts_with("HTTP/1.1 200") && part.len() < 4 << 20);
    assert!(serves(&path));
    drop(guard);
}

#[test]
fn the_ninth_client_is_refused_at_once() {
    let _watchdog = watchdog("the_ninth_client_is_refused_at_once");
    let folder = Folder::new();
    let path = folder.socket();
    let _server = Console::new().serve_unix(&path).expect("a new file");
    let mut idle = Vec::new();
    let mut refused = 0;
    // A client that is cut off makes room, so four requests follow.
    for _ in 0..9 {
        idle.push(UnixStream::connect(&path).expect("the server listens"));
    }
    for _ in 0..4 {
        refused += usize::from(status(&ask(&path, JSON)) == "503");
    }
    assert!(refused > 0, "more than eight are served at once");
    drop(idle);
    let until = Instant::now() + Duration::from_secs(20);
    while !serves(&path) {
        assert!(Instant::now() < until, "the places are not free again");
    }
}

#[test]
fn a_loopback_port_answers_requests_for_itself_only() {
    let _watchdog = watchdog("a_loopback_port_answers_requests_for_itself_only");
    let server = Console::new().serve_loopback(0).expect("a free port");
    let port = server.port().expect("a port");
    let ask = |host: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
        let request = format!("GET /json HTTP/1.1\r\nHost: {host}\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("there is room");
        answer(stream)
    };
    assert_eq!(status(&ask(&format!("127.0.0.1:{port}"))), "200");
    assert_eq!(status(&ask("rebound.example")), "403");
    let second = Console::new().serve_loopback(port).expect_err("in use");
    assert_eq!(second.kind(), ErrorKind::AddrInUse);
    drop(server);
    assert!(
        TcpStream::connect(("127.0.0.1", port)).is_err(),
        "it listens no more"
    );
}
