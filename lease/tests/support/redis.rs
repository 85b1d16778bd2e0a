//! Redis nodes of the tests, in temporary folders and on free ports.
#![allow(dead_code, unreachable_pub)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use crate::support::Folder;

/// The program of a node, which `REDIS_SERVER` replaces, for example by that of Valkey.
fn program() -> String {
    env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned())
}

/// Returns whether nodes can be started. Prints SKIPPED unless they are required.
fn is_installed() -> bool {
    let version = Command::new(program())
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    if version.is_ok_and(|status| status.success()) {
        return true;
    }
    let required = env::var("ENGINES_REQUIRED").unwrap_or_default();
    assert!(
        !required.split(',').any(|name| name == "redis"),
        "ENGINES_REQUIRED names redis, which is not installed"
    );
    eprintln!("SKIPPED: redis-server is not installed");
    false
}

/// A node that ends with this value, and if the process ends in any other way.
#[derive(Debug)]
pub struct Redis {
    folder: Folder,
    pub port: u16,
    settings: Vec<String>,
    process: Option<Child>,
}

impl Redis {
    /// Starts a node with settings `--NAME VALUE`.
    pub fn start(settings: &[&str]) -> Option<Redis> {
        if !is_installed() {
            return None;
        }
        // Another process may bind a free port before the node does.
        let mut node = (0..5).find_map(|_| {
            let mut node = Redis {
                folder: Folder::new(),
                port: free_port(),
                settings: settings.iter().map(|&text| text.to_owned()).collect(),
                process: None,
            };
            node.try_resume().then_some(node)
        });
        assert!(node.is_some(), "no node could be started");
        node.take()
    }

    /// Starts nodes that write all data before they answer, and never wait for the disk: only a
    /// crash of the machine loses data.
    pub fn several(count: usize) -> Option<Vec<Redis>> {
        (0..count).map(|_| Redis::start(&[])).collect()
    }

    /// Starts the process of a node, and waits until it answers.
    pub fn resume(&mut self) {
        assert!(self.try_resume(), "no node: {}", self.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.file("log")).unwrap_or_default()
    }

    fn try_resume(&mut self) -> bool {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program());
        command.args(["--port", &self.port.to_string()]);
        command.args(["--bind", "127.0.0.1", "--save", ""]);
        command.args(["--appendonly", "yes", "--appendfsync", "no"]);
        command.arg("--dir").arg(self.folder.path());
        command.args(&self.settings);
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.file("log"));
        command.stdin(Stdio::null()).stdout(log.unwrap());
        command.stderr(Stdio::null());
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
        while start.elapsed() < Duration::from_secs(20) {
            let process = self.process.as_mut().unwrap();
            if process.try_wait().unwrap().is_some() {
                return false;
            }
            let is_ready = |text: String| !text.is_empty() && !text.contains("LOADING");
            if self.try_command(&["PING"]).is_some_and(is_ready) {
                return true;
            }
            thread::sleep(Duration::from_millis(10));
        }
        false
    }

    pub fn id(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    pub fn signal(&self, signal: &str) {
        kill(signal, self.id());
    }

    /// Ends the node as a crash, and waits until it has ended.
    pub fn end(&mut self) {
        self.signal("KILL");
        self.process.take().unwrap().wait().unwrap();
    }

    /// Replaces the settings with which the node starts again.
    pub fn command_line(&mut self, settings: &[&str]) {
        self.settings = settings.iter().map(|&text| text.to_owned()).collect();
    }

    /// Deletes the data of a node that has ended.
    pub fn lose_data(&self) {
        assert!(self.process.is_none());
        fs::remove_dir_all(self.folder.file("appendonlydir")).unwrap();
    }

    /// Sends one command without arguments of several words, and returns the reply as it is sent.
    pub fn command(&self, words: &[&str]) -> String {
        self.try_command(words).expect("the node answers")
    }

    fn try_command(&self, words: &[&str]) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let mut text = format!("*{}\r\n", words.len());
        for word in words {
            text.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        text.push_str("*1\r\n$4\r\nQUIT\r\n");
        stream.write_all(text.as_bytes()).ok()?;
        let mut reply = String::new();
        let _ = stream.read_to_string(&mut reply);
        Some(reply.strip_suffix("+OK\r\n").unwrap_or(&reply).to_owned())
    }

    /// Returns the URL of the node alone, without the scheme of the engine.
    pub fn node(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Returns the URL of the engine for nodes.
pub fn url<'a>(nodes: impl IntoIterator<Item = &'a Redis>) -> String {
    let nodes: Vec<String> = nodes.into_iter().map(Redis::node).collect();
    format!("quorum:{}", nodes.join(","))
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

pub fn kill(signal: &str, process: u32) {
    let status = Command::new("kill")
        .arg(format!("-{signal}"))
        .arg(process.to_string())
        .stderr(Stdio::null())
        .status();
    assert!(status.unwrap().success());
}
