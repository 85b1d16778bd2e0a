//! `latchtop` in a terminal: keys, sizes, and processes that end or do not answer.
//!
//! The command `script` gives this program a terminal, in which it runs the program again.
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use latchwork::console::{Console, Server};

/// How long a screen may need on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Enter and leave the screen of its own that a program has.
const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";

#[test]
#[ignore = "the other tests run it in a terminal"]
fn the_program() {
    let arguments = std::env::var("LATCHTOP").expect("the other tests set it");
    let arguments = arguments.split_whitespace().map(Into::into);
    let ended = latchwork_top::program::main(["latchtop".into()].into_iter().chain(arguments));
    // Not a failed test: the exit status is that of the program.
    std::process::exit(i32::from(ended != ExitCode::SUCCESS));
}

/// The program in a terminal.
struct Terminal {
    script: Child,
    keys: Option<ChildStdin>,
    /// All that it has written.
    written: Arc<Mutex<String>>,
    /// The name of its terminal is in this file.
    name: PathBuf,
}

impl Terminal {
    fn new(test: &str, size: (u16, u16), arguments: &str) -> Self {
        let this = std::env::current_exe().expect("a path");
        let name = folder().join(format!("{test}.tty"));
        let (columns, rows) = size;
        let command = format!(
            "tty >'{}'; stty cols {columns} rows {rows}; \
             exec '{}' --exact the_program --ignored --nocapture --quiet",
            name.display(),
            this.display(),
        );
        let mut script = Command::new("script")
            .args(["--quiet", "--flush", "--return", "--command", &command])
            .arg("/dev/null")
            .env("LATCHTOP", arguments)
            .env("TERM", "xterm")
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the command script of util-linux");
        let written: Arc<Mutex<String>> = Arc::default();
        let mut output = script.stdout.take().expect("a pipe");
        let sink = written.clone();
        thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(n @ 1..) = output.read(&mut part) {
                let part = String::from_utf8_lossy(&part[..n]);
                sink.lock().expect("no panic").push_str(&part);
            }
        });
        Terminal {
            keys: script.stdin.take(),
            script,
            written,
            name,
        }
    }

    /// Presses keys.
    fn press(&mut self, keys: &str) {
        let input = self.keys.as_mut().expect("a pipe");
        input.write_all(keys.as_bytes()).expect("it runs");
        input.flush().expect("it runs");
    }

    fn text(&self) -> String {
        self.written.lock().expect("no panic").clone()
    }

    /// Waits until the screen has `text`, and does not have `gone`.
    fn wait_for(&self, text: &str, gone: &str) {
        let until = Instant::now() + PATIENCE;
        loop {
            let screen = screen(&self.text());
            if screen.contains(text) && (gone.is_empty() || !screen.contains(gone)) {
                return;
            }
            assert!(
                Instant::now() < until,
                "no {text:?}, or {gone:?}:\n{screen}"
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn resize(&self, columns: u16, rows: u16) {
        let tty = fs::read_to_string(&self.name).expect("its shell has written it");
        let stty = Command::new("stty")
            .args(["-F", tty.trim(), "cols", &columns.to_string()])
            .args(["rows", &rows.to_string()])
            .status();
        assert!(stty.expect("the command stty").success());
    }

    /// Waits until the program ends, and returns its status and all that it has written.
    fn end(mut self) -> (i32, String) {
        let until = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.script.try_wait().expect("a child") {
                break status;
            }
            assert!(Instant::now() < until, "it runs on: {:?}", self.text());
            thread::sleep(Duration::from_millis(5));
        };
        thread::sleep(Duration::from_millis(50));
        (status.code().expect("no signal"), self.text())
    }
}

/// What a terminal shows that has received `written`.
fn screen(written: &str) -> String {
    let mut cells = BTreeMap::new();
    let (mut row, mut column) = (1, 1);
    let mut rest = written.chars();
    while let Some(character) = rest.next() {
        if character != '\x1b' {
            cells.insert((row, column), character);
            column += 1;
            continue;
        }
        assert_eq!(rest.next(), Some('['), "another sequence: {written:?}");
        let mut numbers = String::new();
        // A sequence may be received in part.
        let kind = rest.find(|of| {
            let is_end = of.is_alphabetic();
            numbers.extend((!is_end).then_some(*of));
            is_end
        });
        let mut numbers = numbers.split(';').map(|n| n.parse().unwrap_or(1));
        match kind {
            Some('H') => {
                row = numbers.next().unwrap_or(1);
                column = numbers.next().unwrap_or(1);
            }
            Some('J') => cells.clear(),
            _ => {}
        }
    }
    let mut lines: BTreeMap<usize, String> = BTreeMap::new();
    for ((row, column), character) in cells {
        let line = lines.entry(row).or_default();
        let blanks = (column - 1usize).saturating_sub(line.chars().count());
        line.extend(core::iter::repeat_n(' ', blanks));
        line.push(character);
    }
    lines.into_values().map(|line| line + "\n").collect()
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.script.kill();
        let _ = self.script.wait();
        let _ = fs::remove_file(&self.name);
    }
}

fn folder() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("latchtop-terminal-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a new folder");
    folder
}

fn serve(path: &Path) -> Server {
    let table: Arc<latchwork::LockTable<u64>> = Arc::default();
    let console = Console::new().table("t", table);
    console.serve_unix(path).expect("no other process listens")
}

#[test]
fn keys_select_panels_and_q_restores_the_terminal() {
    let [keys, busiest] = ["Which keys have waiters", "Which keys were waited"];
    let [deadlocks, transactions] = ["the newest first", "How transactions end"];
    let mut terminal = Terminal::new("keys", (100, 30), "--every 50");
    terminal.wait_for(keys, "");
    terminal.press("5");
    terminal.wait_for(transactions, keys);
    // Right: from the last panel to all. Left, left: to the deadlocks.
    terminal.press("\x1b[C");
    terminal.wait_for(keys, "");
    terminal.press("\x1b[D\x1b[D");
    terminal.wait_for(deadlocks, keys);
    terminal.press("2");
    terminal.wait_for(busiest, deadlocks);
    // A key of the map of its own load.
    terminal.wait_for("stock: ", "");
    // The list has two keys soon.
    let until = Instant::now() + PATIENCE;
    while !screen(&terminal.text()).contains("(2 of ") {
        terminal.press("\x1b[A\x1b[B");
        thread::sleep(Duration::from_millis(50));
        assert!(Instant::now() < until, "no second line");
    }
    terminal.press("\x1b[H");
    terminal.wait_for(busiest, "(2 of ");
    terminal.press("p");
    terminal.wait_for("PAUSED", "");
    terminal.press("q");
    let (status, text) = terminal.end();
    assert_eq!(status, 0, "{text:?}");
    assert_eq!(text.matches(ENTER).count(), 1);
    assert_eq!(text.matches(LEAVE).count(), 1);
    assert!(text.rfind(LEAVE) > text.rfind("PAUSED"), "{text:?}");
}

#[test]
fn control_c_ends_it() {
    let mut terminal = Terminal::new("control", (80, 24), "--every 50");
    terminal.wait_for("q quit", "");
    terminal.press("\x03");
    let (status, text) = terminal.end();
    assert_eq!((status, text.matches(LEAVE).count()), (0, 1), "{text:?}");
}

#[test]
fn it_is_drawn_again_in_each_size() {
    let mut terminal = Terminal::new("sizes", (5, 2), "--every 50");
    terminal.wait_for("lat", "");
    let transactions = "How transactions end";
    for (columns, rows, found, gone) in [
        (120, 40, transactions, ""),
        (1, 1, "", transactions),
        (30, 8, "q quit", transactions),
        (200, 60, transactions, ""),
        // A key that arrives together with a new size may be read late, so this one is awaited too.
        (79, 20, "q quit", transactions),
    ] {
        terminal.resize(columns, rows);
        terminal.wait_for(found, gone);
    }
    terminal.press("q");
    let (status, text) = terminal.end();
    assert_eq!(status, 0, "{text:?}");
}

#[test]
fn without_a_process_it_ends_with_an_error_and_draws_nothing() {
    let path = folder().join("nothing.sock");
    let arguments = format!("--connect {}", path.display());
    let (status, text) = Terminal::new("nothing", (80, 24), &arguments).end();
    assert_eq!(status, 1);
    assert!(text.contains("latchtop: ") && text.contains("nothing.sock"));
    assert!(!text.contains(ENTER), "{text:?}");
}

#[test]
fn the_last_report_of_a_dead_process_stays_until_another_one_serves() {
    let path = folder().join("dead.sock");
    let server = serve(&path);
    let arguments = format!("--every 50 --connect {}", path.display());
    let mut terminal = Terminal::new("dead", (120, 20), &arguments);
    terminal.wait_for("tables: 1", "NO REPORT");
    drop(server);
    terminal.wait_for("NO REPORT", "");
    terminal.press("3");
    terminal.wait_for("Which sessions wait", "Which keys have");
    let server = serve(&path);
    terminal.wait_for("tables: 1", "NO REPORT");
    terminal.press("q");
    let (status, text) = terminal.end();
    assert_eq!(status, 0, "{text:?}");
    drop(server);
}

/// Accepts a connection and never answers.
fn silent(listener: &UnixListener) -> UnixStream {
    let (mut stream, _) = listener.accept().expect("a connection");
    assert!(stream.read(&mut [0; 512]).expect("a request") > 0);
    stream.set_nonblocking(true).expect("a socket");
    stream
}

#[test]
fn keys_work_while_a_process_does_not_answer() {
    let path = folder().join("silent.sock");
    let server = serve(&path);
    let arguments = format!("--every 50 --connect {}", path.display());
    let mut terminal = Terminal::new("silent", (100, 20), &arguments);
    let titles = ["Which sessions wait", "Which keys have waiters"];
    terminal.wait_for(titles[1], "");
    drop(server);
    let listener = UnixListener::bind(&path).expect("the server has removed its socket");
    // The connection is closed when latchtop gives up. One try suffices, but on a busy machine.
    let was_drawn_meanwhile = (0..10).any(|n| {
        let mut stream = silent(&listener);
        let [shown, gone] = [titles[n % 2], titles[(n + 1) % 2]];
        terminal.press(["3", "1"][n % 2]);
        terminal.wait_for(shown, gone);
        stream.read(&mut [0]).is_err()
    });
    assert!(was_drawn_meanwhile, "it waited for the process first");
    terminal.press("q");
    let (status, text) = terminal.end();
    assert_eq!(status, 0, "{text:?}");
}
