//! A folder and an environment of its own for each test, and helpers for processes.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A limit far above the duration of each step.
pub(crate) const LONG: Duration = Duration::from_secs(15);

/// A folder that is removed at the end.
pub(crate) struct Sandbox {
    folder: PathBuf,
}

impl Sandbox {
    /// Makes the sandbox of the test with this name.
    pub(crate) fn new(test: &str) -> Sandbox {
        let name = format!("lease-cli-{test}-{}", std::process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Sandbox { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.path("leases.db")
    }

    /// `lease` with these arguments, over the database of the sandbox.
    pub(crate) fn lease<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lease"));
        command
            .args(args)
            .env("LEASE_URL", format!("sqlite:{}", self.database().display()))
            .env("HOME", &self.folder)
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_STATE_HOME")
            .current_dir(&self.folder)
            .stdin(Stdio::null());
        command
    }

    /// `lease run` of a shell script, with `options` before it, started in the background.
    pub(crate) fn start(&self, options: &str, script: &str) -> Running {
        let args = options.split_whitespace();
        let args = ["run", "job"].into_iter().chain(args);
        let mut command = self.lease(args.chain(["--", "sh", "-c", script]));
        Running::new(command.stdout(Stdio::piped()).stderr(Stdio::piped()))
    }

    /// Runs `lease` to its end.
    pub(crate) fn output<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Output {
        self.lease(args).output().unwrap()
    }

    /// Whether the lease `job` is held.
    pub(crate) fn is_held(&self) -> bool {
        let output = self.output(["status", "job", "--json"]);
        assert!(output.status.success(), "{output:?}");
        text(&output.stdout).contains("\"held\":true")
    }

    /// The token of the lease `job`.
    pub(crate) fn token(&self) -> String {
        let output = self.output(["status", "job", "--json"]);
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        status["token"].to_string()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A process that is killed at the end of the test, if it has not ended.
pub(crate) struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Running {
    pub(crate) fn new(command: &mut Command) -> Running {
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Running { child, lines }
    }

    /// The next line of the output.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The next line of the output: the number of a process.
    pub(crate) fn pid_line(&mut self) -> Pid {
        let line = self.line();
        let number = line
            .parse()
            .unwrap_or_else(|_| panic!("{line:?}: {}", self.errors()));
        Pid::from_raw(number).unwrap()
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The process that holds the lease.
    pub(crate) fn guard(&self) -> Pid {
        let pid = self.pid();
        let children = format!("/proc/{pid}/task/{pid}/children");
        let children = fs::read_to_string(children).unwrap();
        let first = children.split_whitespace().next().unwrap();
        Pid::from_raw(first.parse().unwrap()).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for the end.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < LONG, "the process does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for the end, which must have this exit code. Returns the rest of the output.
    pub(crate) fn end_with(&mut self, code: i32) -> String {
        let status = self.end();
        let errors = self.errors();
        assert_eq!(status.code(), Some(code), "{status:?} {errors}");
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).unwrap();
        rest
    }

    /// The text of the error output. Call it after the end.
    pub(crate) fn errors(&mut self) -> String {
        let mut errors = String::new();
        let _ = self.child.kill();
        if let Some(stderr) = &mut self.child.stderr {
            stderr.read_to_string(&mut errors).unwrap();
        }
        errors
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Whether a process exists and has not ended.
pub(crate) fn lives(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().unwrap_or_default().trim_start();
    !state.is_empty() && !state.starts_with(['Z', 'X'])
}

/// Waits until the condition holds.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LONG, "{what}: not within {LONG:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) fn sleep(milliseconds: u64) {
    thread::sleep(Duration::from_millis(milliseconds));
}
