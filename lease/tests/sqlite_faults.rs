//! The engine `sqlite:FILE` under faults: processes that end or stop, disks, files and forks.
#![cfg(all(feature = "sqlite", target_os = "linux"))]
#![allow(unsafe_code)]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fs, process};

use latchwork::table::{Fence, FencedCell, FencingToken};
use latchwork_lease::Leases;
use latchwork_lease::engine::{Engine, Nonce, Outcome, Released, Renewal};
use latchwork_lease::sqlite::SqliteEngine;
use support::{Folder, KEY, attempt, key, ms, request, soon};

const LONG: Duration = Duration::from_secs(60);
const FILE: &str = "LEASE_TEST_FILE";
const ROLE: &str = "LEASE_TEST_ROLE";

/// A process that plays a role on a file. It is killed with this value.
struct Role {
    process: Child,
    lines: BufReader<ChildStdout>,
    /// The folder on which the role mounts its disk, removed after the role has ended.
    _folder: Option<Folder>,
}

impl Role {
    fn start(role: &str, file: &Path) -> Role {
        Self::start_by(&[], role, file)
    }

    /// Starts a process by a program that executes its arguments.
    fn start_by(program: &[&str], role: &str, file: &Path) -> Role {
        let this = env::current_exe().unwrap();
        let this = this.to_str().unwrap();
        let mut words = program.iter().copied().chain([this]);
        let mut process = Command::new(words.next().unwrap())
            .args(words)
            .args(["role", "--exact", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .env(FILE, file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap());
        Role {
            process,
            lines,
            _folder: None,
        }
    }

    /// Returns the next line of the role, without the words of the test framework.
    fn line(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            // The framework writes the name of the test before the first line.
            if let Some((_, said)) = line.split_once("said ") {
                return Some(said.trim().to_owned());
            }
        }
    }

    fn number(&mut self) -> u64 {
        self.line().expect("the role ended").parse().unwrap()
    }

    /// Lets a role go on that waits for a line.
    fn go_on(&mut self) {
        writeln!(self.process.stdin.as_mut().unwrap()).unwrap();
    }

    fn signal(&self, signal: &str) {
        let id = self.process.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", signal, &id])
                .status()
                .unwrap()
                .success()
        );
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn say(word: impl std::fmt::Display) {
    println!("said {word}");
    std::io::stdout().flush().unwrap();
}

fn wait_for_line() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
}

/// The body of the processes that the tests start. Alone it does nothing.
#[test]
fn role() {
    let Ok(role) = env::var(ROLE) else { return };
    let file = env::var_os(FILE).unwrap();
    let open = || SqliteEngine::open(&file).unwrap_or_else(|error| panic!("{error}"));
    let nonce = u128::from(process::id());
    match role.as_str() {
        "hold" => {
            let engine = open();
            say(attempt(&engine, KEY, nonce, ms(1000)).unwrap());
            // The holder does not check its clock before it writes.
            wait_for_line();
            say("written");
        }
        "open" => {
            wait_for_line();
            let engine = open();
            say(attempt(&engine, key(&nonce.to_string()), nonce, LONG).unwrap());
        }
        "grants" => {
            let engine = open();
            for number in 0.. {
                let nonce = nonce << 32 | number;
                if let Some(token) = attempt(&engine, KEY, nonce, ms(100)) {
                    say(token);
                    engine.release(KEY, Nonce::new(nonce), soon()).unwrap();
                }
            }
        }
        "transaction" => {
            let other = rusqlite::Connection::open(&file).unwrap();
            other
                .execute_batch("BEGIN IMMEDIATE; UPDATE lease SET counter = 1000")
                .unwrap();
            say("open");
            wait_for_line();
        }
        "one" => {
            let engine = open();
            say(attempt(&engine, KEY, nonce, LONG).unwrap());
        }
        "read-only" => {
            for name in ["leases.db", "new.db"] {
                let path = Path::new(&file).with_file_name(name);
                say(support::refusal(SqliteEngine::open(path)));
            }
        }
        "attempts" => {
            let engine = open();
            say("open");
            loop {
                wait_for_line();
                say(attempt(&engine, KEY, nonce, LONG).unwrap_or(0));
            }
        }
        "suspended" => {
            let url = format!("sqlite:{}", Path::new(&file).display());
            let leases = Leases::builder().namespace(KEY.namespace);
            let leases = leases.connect(&url).unwrap();
            let lease = leases.acquire(KEY.name, Duration::from_secs(10)).unwrap();
            let (sender, lost) = mpsc::channel();
            lease.on_lost(move |reason| sender.send(reason).unwrap());
            say(lease.token());
            for _ in 0..2 {
                wait_for_line();
                say(lease.is_held());
            }
            // No call of this thread is needed for it.
            say(format!("{:?}", lost.recv_timeout(ms(5000)).unwrap()));
            say(format!("{:?}", lease.release().unwrap()));
        }
        "exit" | "exit after a shutdown" => {
            let url = format!("sqlite:{}", Path::new(&file).display());
            let leases = Leases::builder().namespace(KEY.namespace);
            let leases = leases.connect(&url).unwrap();
            let lease = leases.acquire(KEY.name, ms(2000)).unwrap();
            say(lease.token());
            wait_for_line();
            if role == "exit after a shutdown" {
                leases.shutdown(ms(5000)).unwrap();
            }
            // As a value of a static, it is never dropped. The process ends when `main` returns.
            std::mem::forget((lease, leases));
        }
        "expiry" => {
            let info = open().holder(KEY, soon()).unwrap();
            say(info.map_or(0, |info| info.expires_in.as_secs()));
        }
        "fill" => {
            let engine = open();
            attempt(&engine, KEY, 1, LONG).unwrap();
            say("open");
            for number in 0..10_000 {
                let name = format!("{number:0500}");
                let result = engine.try_acquire(&request(key(&name), 9, LONG), soon());
                if let Err(error) = result {
                    say(format!(
                        "{:?} {} {error}",
                        error.outcome, error.is_temporary
                    ));
                    // What cannot be written can still be read, and nothing was done.
                    assert!(engine.holder(KEY, soon()).unwrap().is_some());
                    assert!(engine.holder(key(&name), soon()).unwrap().is_none());
                    return;
                }
            }
            say("no error");
        }
        other => panic!("no role {other}"),
    }
}

#[test]
fn fifty_processes_create_one_file_together() {
    let folder = Folder::new();
    let file = folder.file("leases.db");
    let mut roles: Vec<Role> = (0..50).map(|_| Role::start("open", &file)).collect();
    roles.iter_mut().for_each(Role::go_on);
    for role in &mut roles {
        assert_eq!(role.number(), 1);
        assert!(role.process.wait().unwrap().success());
    }
    let engine = SqliteEngine::open(&file).unwrap();
    assert_eq!(engine.list("tests", "", soon()).unwrap().len(), 50);
}

#[test]
fn a_process_that_is_killed_frees_its_lease_within_a_second_of_its_end() {
    let folder = Folder::new();
    let file = folder.file("leases.db");
    let mut role = Role::start("hold", &file);
    assert_eq!(role.number(), 1);
    let granted = Instant::now();
    role.process.kill().unwrap();
    let engine = SqliteEngine::open(&file).unwrap();
    assert_eq!(attempt(&engine, KEY, 1, LONG), None);
    loop {
        if let Some(token) = attempt(&engine, KEY, 1, LONG) {
            assert_eq!(token, 2);
            break;
        }
        thread::sleep(ms(5));
    }
    let after = granted.elapsed();
    assert!(after >= ms(900) && after < ms(2000), "{after:?}");
}

#[test]
fn a_lease_expires_after_the_exit_of_main_unless_it_was_released() {
    let folder = Folder::new();
    let file = folder.file("leases.db");
    let engine = SqliteEngine::open(&file).unwrap();
    let exit = |role| {
        let mut role = Role::start(role, &file);
        let token = role.number();
        // It is renewed for longer than its length before.
        thread::sleep(ms(2500));
        let holder = engine.holder(KEY, soon()).unwrap();
        assert_eq!(holder.expect("it is renewed").token.get(), token);
        let before = Instant::now();
        role.go_on();
        // No thread of the crate keeps the process.
        assert!(role.process.wait().unwrap().success());
        (token, before)
    };
    // A renewal that precedes the exit is at most a third of the length old.
    let (token, before) = exit("exit");
    let holder = engine.holder(KEY, soon()).unwrap();
    if before.elapsed() < ms(1000) {
        assert_eq!(holder.expect("it is not released").token.get(), token);
    }
    while engine.holder(KEY, soon()).unwrap().is_some() {
        thread::sleep(ms(10));
    }
    let end = Instant::now();
    assert!(end - before > ms(1000), "it ended with the process");
    assert!(before.elapsed() < ms(20_000));
    // A shutdown releases it before the process ends.
    exit("exit after a shutdown");
    assert!(engine.holder(KEY, soon()).unwrap().is_none());
}

#[test]
fn processes_that_are_killed_while_they_write_lose_no_token() {
    let folder = Folder::new();
    let file = folder.file("leases.db");
    let (mut greatest, mut grants) = (0, 0);
    for round in 0..12 {
        let mut roles = [Role::start("grants", &file), Role::start("grants", &file)];
        thread::sleep(ms(200 + 7 * round));
        roles
            .iter_mut()
            .for_each(|role| role.process.kill().unwrap());
        let before = greatest;
        for role in &mut roles {
            let mut last = before;
            while let Some(token) = role.line() {
                // The last line may be incomplete.
                let Ok(token) = token.parse::<u64>() else {
                    break;
                };
                assert!(token > last, "token {token} after {last}");
                last = token;
                grants += 1;
            }
            greatest = greatest.max(last);
        }
    }
    assert!(grants > 50, "{grants} grants");
    let engine = SqliteEngine::open(&file).unwrap();
    let token = loop {
        match attempt(&engine, KEY, 1, LONG) {
            Some(token) => break token,
            None => thread::sleep(ms(10)),
        }
    };
    assert!(token > greatest);
    let other = rusqlite::Connection::open(&file).unwrap();
    let check: String = other
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(check, "ok");
}

#[test]
fn a_process_that_stops_in_a_transaction_delays_others_until_their_deadline_only() {
    let folder = Folder::new();
    let file = folder.file("leases.db");
    let engine = SqliteEngine::open(&file).unwrap();
    assert_eq!(attempt(&engine, KEY, 1, LONG), Some(1));
    let mut role = Role::start("transaction", &file);
    assert_eq!(role.line().as_deref(), Some("open"));
    role.signal("STOP");
    let start = Instant::now();
    let error = engine
        .release(KEY, Nonce::new(1), start + ms(300))
        .unwrap_err();
    assert!(start.elapsed() < ms(500), "{:?}", start.elapsed());
    assert_eq!(
        (error.outcome, error.is_temporary),
        (Outcome::NotDone, true),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .contains("other processes wrote until the time limit"),
        "{error}"
    );
    role.process.kill().unwrap();
    role.process.wait().unwrap();
    assert_eq!(
        engine.release(KEY, Nonce::new(1), soon()).unwrap(),
        Released::Done
    );
    // The transaction of the process that ended was rolled back.
    assert_eq!(attempt(&engine, KEY, 2, LONG), Some(2));
}

#[test]
fn a_holder_that_stops_past_its_lease_is_refused_by_the_fence_and_only_by_it() {
    let folder = Folder::new();
    let file = folder.file("leases.db");
    let engine = SqliteEngine::open(&file).unwrap();
    let (fenced, plain) = (FencedCell::new("nothing"), Mutex::new("nothing"));
    let (mut with_fence, mut without_fence) = (0, 0);
    for nonce in 1..=2 {
        let mut role = Role::start("hold", &file);
        let stale = Fence::new(FencingToken::new(role.number()), 99);
        role.signal("STOP");
        let present = loop {
            match attempt(&engine, KEY, nonce, LONG) {
                Some(token) => break Fence::new(FencingToken::new(token), nonce),
                None => thread::sleep(ms(20)),
            }
        };
        fenced.write(present, "present").unwrap();
        *plain.lock().unwrap() = "present";

        // The stopped holder goes on, and writes without a look at its clock.
        role.signal("CONT");
        role.go_on();
        assert_eq!(role.line().as_deref(), Some("written"));
        let _ = fenced.write(stale, "stale");
        *plain.lock().unwrap() = "stale";
        with_fence += u32::from(*fenced.read() == "stale");
        without_fence += u32::from(*plain.lock().unwrap() == "stale");
        engine.release(KEY, Nonce::new(nonce), soon()).unwrap();
    }
    assert_eq!(with_fence, 0);
    // The control: without the fence the stale writes are accepted.
    assert_eq!(without_fence, 2);
}

#[test]
fn a_nonce_that_two_acquisitions_share_excludes_nothing() {
    // The control of the fresh nonce: a process's name in its place admits two holders.
    let folder = Folder::new();
    let open = || SqliteEngine::open(folder.file("leases.db")).unwrap();
    let (first, second) = (open(), open());
    let holders = |nonces: [u128; 2], name| {
        let one = attempt(&first, key(name), nonces[0], LONG);
        let two = attempt(&second, key(name), nonces[1], LONG);
        usize::from(one.is_some()) + usize::from(two.is_some())
    };
    assert_eq!(holders([7, 7], "shared nonce"), 2);
    assert_eq!(holders([7, 8], "fresh nonces"), 1);
}

#[test]
fn a_file_that_is_deleted_or_replaced_while_it_is_open_is_reported() {
    for (suffix, replace) in [("", false), ("", true), ("-wal", false), ("-shm", false)] {
        let folder = Folder::new();
        let file = folder.file("leases.db");
        let engine = SqliteEngine::open(&file).unwrap();
        assert_eq!(attempt(&engine, KEY, 1, LONG), Some(1));
        fs::remove_file(folder.file(&format!("leases.db{suffix}"))).unwrap();
        let other = replace.then(|| SqliteEngine::open(&file));
        let renewal = Renewal {
            key: KEY,
            nonce: Nonce::new(1),
            token: FencingToken::new(1),
            ttl: LONG,
        };
        for error in [
            engine
                .try_acquire(&request(KEY, 2, LONG), soon())
                .unwrap_err(),
            engine.renew_many(&[renewal], soon()).unwrap_err(),
            engine.holder(KEY, soon()).unwrap_err(),
            engine.wait_hint(KEY, Nonce::new(2), soon()).unwrap_err(),
        ] {
            assert_eq!(
                (error.outcome, error.is_temporary),
                (Outcome::NotDone, false)
            );
            let how = if replace {
                "was replaced"
            } else {
                "was deleted or moved"
            };
            assert!(error.to_string().contains(how), "{error}");
        }
        drop(other);
    }
}

#[test]
fn a_damaged_file_is_reported() {
    let folder = Folder::new();
    let file = folder.file("leases.db");
    drop(SqliteEngine::open(&file).unwrap());
    let mut bytes = fs::read(&file).unwrap();
    // The pages behind the first.
    bytes[4096..].fill(0x5a);
    fs::write(&file, &bytes).unwrap();
    let opened = SqliteEngine::open(&file);
    let error = match opened {
        Ok(engine) => engine
            .try_acquire(&request(KEY, 1, LONG), soon())
            .unwrap_err(),
        Err(error) => error,
    };
    assert!(error.to_string().contains("damaged"), "{error}");
    assert_eq!(
        (error.outcome, error.is_temporary),
        (Outcome::NotDone, false)
    );
}

/// Runs a role with a small disk, if this process may mount one.
fn on_a_disk(options: &str, then: &str, role: &str) -> Option<Role> {
    let folder = Folder::new();
    let mount = format!(
        "mount -t tmpfs -o {options} none {}",
        folder.path().display()
    );
    let script = format!("{mount} && {then}");
    let may_mount = Command::new("unshare")
        .args(["-m", "sh", "-c", &mount])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !may_mount {
        eprintln!("SKIPPED: this process may not mount a file system");
        return None;
    }
    let file = folder.file("leases.db");
    let script = format!("{script} && exec \"$@\"");
    let program = ["unshare", "-m", "sh", "-c", &script, "sh"];
    let mut role = Role::start_by(&program, role, &file);
    role._folder = Some(folder);
    Some(role)
}

#[test]
fn a_full_disk_is_reported_and_leaves_nothing() {
    let Some(mut role) = on_a_disk("size=300k", "true", "fill") else {
        return;
    };
    assert_eq!(role.line().as_deref(), Some("open"));
    let line = role.line().unwrap();
    assert!(line.starts_with("NotDone true"), "{line}");
    assert!(
        line.contains("disk is full") || line.contains("or is full"),
        "{line}"
    );
    assert!(role.process.wait().unwrap().success());
}

#[test]
fn a_read_only_file_system_is_reported() {
    // Another process makes a database before the file system becomes read-only.
    let then = "LEASE_TEST_ROLE=one \"$@\" >/dev/null && \
                mount -o remount,ro \"$(dirname \"$LEASE_TEST_FILE\")\"";
    let Some(mut role) = on_a_disk("size=4m", then, "read-only") else {
        return;
    };
    for name in ["leases.db", "new.db"] {
        let line = role.line().expect("the file system can be mounted again");
        assert!(line.contains(name), "{line}");
        assert!(line.to_lowercase().contains("read-only"), "{line}");
    }
    assert!(role.process.wait().unwrap().success());
}

/// A library that adds a second to the clock of the machine for each byte of a file. Only this
/// clock advances while a machine is suspended.
const SUSPENSION: &str = "
    #define _GNU_SOURCE
    #include <dlfcn.h>
    #include <stdlib.h>
    #include <sys/stat.h>
    #include <time.h>
    int clock_gettime(clockid_t clock, struct timespec *time) {
        int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, \"clock_gettime\");
        const char *path = getenv(\"LEASE_TEST_SUSPENDED\");
        struct stat file;
        int failed = real(clock, time);
        if (!failed && clock == CLOCK_BOOTTIME && path && stat(path, &file) == 0)
            time->tv_sec += file.st_size;
        return failed;
    }";

#[test]
fn a_lease_ends_while_the_machine_is_suspended() {
    let folder = Folder::new();
    let (source, library) = (folder.file("suspension.c"), folder.file("suspension.so"));
    fs::write(&source, SUSPENSION).unwrap();
    let compiler = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .status();
    if !compiler.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: there is no compiler for C");
        return;
    }
    let file = folder.file("leases.db");
    let clock = folder.file("clock");
    let program = [
        "env",
        &format!("LD_PRELOAD={}", library.display()),
        &format!("LEASE_TEST_SUSPENDED={}", clock.display()),
    ];
    let mut holder = Role::start_by(&program, "suspended", &file);
    assert_eq!(holder.number(), 1);
    let mut other = Role::start_by(&program, "attempts", &file);
    assert_eq!(other.line().as_deref(), Some("open"));

    // Two seconds of a lease of ten end nothing.
    let suspended = |seconds| fs::write(&clock, " ".repeat(seconds)).unwrap();
    suspended(2);
    holder.go_on();
    assert_eq!(holder.line().as_deref(), Some("true"));
    other.go_on();
    assert_eq!(other.number(), 0, "the lease still has its holder");
    // A minute ends it, for the holder and for others, at the first look.
    suspended(62);
    holder.go_on();
    assert_eq!(holder.line().as_deref(), Some("false"));
    assert_eq!(holder.line().as_deref(), Some("Expired"));
    assert_eq!(holder.line().as_deref(), Some("WasLost"));
    other.go_on();
    assert_eq!(other.number(), 2);
}

#[test]
fn a_clock_of_a_time_namespace_changes_no_lease() {
    let folder = Folder::new();
    let file = folder.file("leases.db");
    let engine = SqliteEngine::open(&file).unwrap();
    attempt(&engine, KEY, 1, LONG).unwrap();
    for offset in ["0", "100000", "3000"] {
        let program = ["unshare", "--time", "--fork", "--boottime", offset];
        let mut role = Role::start_by(&program, "expiry", &file);
        match role.line() {
            Some(seconds) => {
                let seconds: u64 = seconds.parse().unwrap();
                assert!(
                    (50..=60).contains(&seconds),
                    "{seconds} s with offset {offset}"
                );
            }
            None => eprintln!("SKIPPED: this process may not make a time namespace"),
        }
    }
}

#[test]
fn a_child_of_a_fork_uses_no_connection_of_its_parent() {
    let folder = Folder::new();
    let file = folder.file("leases.db");
    let engine = SqliteEngine::open(&file).unwrap();
    assert_eq!(attempt(&engine, KEY, 1, LONG), Some(1));
    // SAFETY: the child calls nothing that needs another thread, and ends by _exit.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        let misconfigured = |error: latchwork_lease::engine::EngineError| {
            !error.is_temporary && error.to_string().contains("before a fork")
        };
        let inherited = engine.try_acquire(&request(KEY, 2, LONG), soon());
        let inherited = inherited.is_err_and(misconfigured);
        let opened = SqliteEngine::open(&file);
        let opened = opened.is_err_and(|error| error.to_string().contains("before the fork"));
        drop(engine);
        let status = if inherited && opened { 0 } else { 1 };
        // SAFETY: ends the process without the handlers of the parent.
        unsafe { libc::_exit(status) }
    }
    let mut status = 0;
    // SAFETY: waits for the child that was made above, and writes its status.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0, "the child used or opened an engine");
    // The locks and files of the parent are as before.
    assert_eq!(
        engine.release(KEY, Nonce::new(1), soon()).unwrap(),
        Released::Done
    );
    let second = SqliteEngine::open(&file).unwrap();
    assert_eq!(attempt(&second, KEY, 3, LONG), Some(2));
    assert_eq!(attempt(&engine, KEY, 4, LONG), None);
}
