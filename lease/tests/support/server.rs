//! A PostgreSQL server of the tests, in a temporary folder and on a free port.
#![allow(dead_code, unreachable_pub)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak, mpsc};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use crate::support::Folder;
use crate::support::installed::postgres_programs;

/// A server that ends with this value, and if the process ends in any other way.
#[derive(Debug)]
pub struct Server {
    programs: PathBuf,
    folder: Folder,
    port: u16,
    settings: Vec<String>,
    process: Option<Child>,
}

/// Returns a server that tests share while one of them runs.
///
/// Returns `None`, and prints SKIPPED, if PostgreSQL is not installed and not required.
pub fn shared() -> Option<Arc<Server>> {
    static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
    let mut shared = SHARED
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(server) = shared.upgrade() {
        return Some(server);
    }
    let server = Arc::new(Server::start(&[])?);
    *shared = Arc::downgrade(&server);
    Some(server)
}

/// Returns the folder with the programs of the server.
fn programs() -> Option<PathBuf> {
    let found = postgres_programs();
    if found.is_none() {
        assert_not_required("postgres");
        eprintln!("SKIPPED: PostgreSQL is not installed in /usr/lib/postgresql");
    }
    found
}

/// Panics if the variable `ENGINES_REQUIRED` names a program that is not installed.
pub fn assert_not_required(program: &str) {
    let required = env::var("ENGINES_REQUIRED").unwrap_or_default();
    let is_required = required.split(',').any(|name| name == program);
    assert!(
        !is_required,
        "ENGINES_REQUIRED names {program}, which is not installed"
    );
}

fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    status.lines().any(|line| line.starts_with("Uid:\t0\t"))
}

/// Makes a command that runs as a user that the server accepts, and ends with this process.
pub fn command(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    if is_root() {
        command.args([
            "--reuid",
            "postgres",
            "--regid",
            "postgres",
            "--init-groups",
        ]);
    }
    command.args(["--pdeathsig", "QUIT"]).arg(program);
    command.stdin(Stdio::null()).current_dir("/");
    command
}

/// Makes an empty folder in which the server may write.
fn folder_of_the_server() -> Folder {
    let folder = Folder::new();
    if is_root() {
        let owner = Command::new("chown")
            .arg("postgres")
            .arg(folder.path())
            .status();
        assert!(owner.unwrap().success());
    }
    folder
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

impl Server {
    pub fn start(settings: &[&str]) -> Option<Server> {
        let programs = programs()?;
        let mut server = Server {
            programs,
            folder: folder_of_the_server(),
            port: free_port(),
            settings: settings
                .iter()
                .map(|setting| (*setting).to_owned())
                .collect(),
            process: None,
        };
        let made = command(&server.programs.join("initdb"))
            .arg("-D")
            .arg(server.data())
            .args([
                "-A",
                "trust",
                "-U",
                "postgres",
                "--no-sync",
                "-E",
                "UTF8",
                "--locale=C",
            ])
            .stdout(Stdio::null())
            .status();
        assert!(made.unwrap().success());
        server.resume();
        Some(server)
    }

    /// Starts a server that copies this one, and then follows it asynchronously.
    pub fn standby(&self) -> Server {
        let mut standby = Server {
            programs: self.programs.clone(),
            folder: folder_of_the_server(),
            port: free_port(),
            settings: self.settings.clone(),
            process: None,
        };
        let copied = command(&self.programs.join("pg_basebackup"))
            .args(["-h", "127.0.0.1", "-U", "postgres", "-R", "--no-sync"])
            .args(["--checkpoint=fast", "-p", &self.port.to_string(), "-D"])
            .arg(standby.data())
            .status();
        assert!(copied.unwrap().success());
        standby.resume();
        standby
    }

    pub fn data(&self) -> PathBuf {
        self.folder.file("data")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts the server's process, and waits until it answers.
    pub fn resume(&mut self) {
        let mut command = command(&self.programs.join("postgres"));
        command.arg("-D").arg(self.data());
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.file("log"));
        command.stdout(Stdio::null()).stderr(log.unwrap());
        let mut settings = self.settings.clone();
        settings.push("listen_addresses=127.0.0.1".to_owned());
        settings.push(format!("port={}", self.port));
        settings.push(format!(
            "unix_socket_directories={}",
            self.folder.path().display()
        ));
        for setting in settings {
            command.arg("-c").arg(setting);
        }
        // The signal is sent when the thread that made the process ends: one that never does.
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            sender.send(command.spawn().unwrap()).unwrap();
            loop {
                thread::park();
            }
        });
        self.process = Some(receiver.recv().unwrap());
        let start = Instant::now();
        while !self
            .try_psql("postgres", "SELECT 1")
            .is_ok_and(|text| text == "1")
        {
            let log = || fs::read_to_string(self.folder.file("log")).unwrap_or_default();
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "no server: {}",
                log()
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Restarts the server with TLS.
    pub fn certificate(&mut self, certificate: &Path, key: &Path) {
        self.end("INT");
        for (from, to) in [(certificate, "server.crt"), (key, "server.key")] {
            let to = self.data().join(to);
            fs::copy(from, &to).unwrap();
            fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).unwrap();
            if is_root() {
                let owner = Command::new("chown").arg("postgres").arg(&to).status();
                assert!(owner.unwrap().success());
            }
        }
        self.settings = vec!["ssl=on".to_owned()];
        self.resume();
    }

    /// Sends a signal to the server's main process.
    pub fn signal(&self, signal: &str) {
        let id = self.process.as_ref().unwrap().id();
        kill(signal, &[id]);
    }

    /// Ends the server, as a crash or in order, and waits until it has ended.
    pub fn end(&mut self, signal: &str) {
        self.signal(signal);
        self.process.take().unwrap().wait().unwrap();
    }

    /// Sends a signal to all processes of the server: all stop, or all go on.
    pub fn signal_all(&self, signal: &str) {
        let main = self.process.as_ref().unwrap().id();
        kill(signal, &[main]);
        kill(signal, &children(main));
    }

    pub fn try_psql(&self, database: &str, statements: &str) -> Result<String, String> {
        let output = Command::new(self.programs.join("psql"))
            .args([
                "-h",
                "127.0.0.1",
                "-U",
                "postgres",
                "-X",
                "-At",
                "-v",
                "ON_ERROR_STOP=1",
            ])
            .args([
                "-p",
                &self.port.to_string(),
                "-d",
                database,
                "-c",
                statements,
            ])
            .env("PGCONNECT_TIMEOUT", "5")
            .output()
            .unwrap();
        match output.status.success() {
            true => Ok(String::from_utf8(output.stdout).unwrap().trim().to_owned()),
            false => Err(String::from_utf8(output.stderr).unwrap()),
        }
    }

    pub fn psql(&self, database: &str, statements: &str) -> String {
        self.try_psql(database, statements)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// Creates an empty database, and returns its name.
    pub fn database(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("CREATE DATABASE {name}"));
        name
    }

    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let mut all = children(process.id());
            all.push(process.id());
            kill("CONT", &all);
            kill("QUIT", &[process.id()]);
            let _ = process.wait();
        }
    }
}

pub fn kill(signal: &str, processes: &[u32]) {
    if !processes.is_empty() {
        // A process that has ended meanwhile is no failure.
        let _ = Command::new("kill")
            .arg(format!("-{signal}"))
            .args(processes.iter().map(u32::to_string))
            .stderr(Stdio::null())
            .status();
    }
}

pub fn children(parent: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
    text.unwrap_or_default()
        .split_whitespace()
        .map(|id| id.parse().unwrap())
        .collect()
}

/// Serves connections as an old server does: it answers the first statement with one row.
pub fn old(version: i32) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            thread::spawn(move || greet(stream, version));
        }
    });
    port
}

fn greet(mut stream: TcpStream, version: i32) {
    let mut number = [0; 4];
    let mut read = |stream: &mut TcpStream, is_typed: bool| {
        let mut kind = [0];
        if is_typed {
            stream.read_exact(&mut kind).unwrap();
        }
        stream.read_exact(&mut number).unwrap();
        let mut rest = vec![0; i32::from_be_bytes(number) as usize - 4];
        stream.read_exact(&mut rest).unwrap();
        kind[0]
    };
    let message = |kind: u8, body: &[u8]| {
        let mut bytes = vec![kind];
        bytes.extend((body.len() as i32 + 4).to_be_bytes());
        bytes.extend(body);
        bytes
    };
    let ready = message(b'Z', b"I");
    read(&mut stream, false);
    stream.write_all(&message(b'R', &[0; 4])).unwrap();
    stream.write_all(&ready).unwrap();
    while read(&mut stream, true) != b'S' {}

    let mut columns = 7_i16.to_be_bytes().to_vec();
    let mut row = columns.clone();
    let values: [(&str, i32, Option<&[u8]>); 7] = [
        ("version", 23, Some(&version.to_be_bytes())),
        ("encoding", 25, Some(b"UTF8")),
        ("clock", 20, Some(&[0; 8])),
        ("is_standby", 16, Some(&[0])),
        ("direct", 25, None),
        ("has_schema", 16, Some(&[0])),
        ("has_table", 16, Some(&[0])),
    ];
    for (name, kind, value) in values {
        columns.extend(name.as_bytes());
        // No table, the type, its length and modifier, and the binary format.
        columns.extend([0; 7]);
        columns.extend(kind.to_be_bytes());
        columns.extend([0xff; 6]);
        columns.extend([0, 1]);
        row.extend(value.map_or(-1, |value| value.len() as i32).to_be_bytes());
        row.extend(value.unwrap_or_default());
    }
    let answer = [
        message(b'1', b""),
        message(b'2', b""),
        message(b'T', &columns),
        message(b'D', &row),
        message(b'C', b"SELECT 1\0"),
        ready,
    ];
    stream.write_all(&answer.concat()).unwrap();
    // Until the client leaves.
    let _ = stream.read(&mut [0; 16]);
}
