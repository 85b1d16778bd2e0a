//! How a command ends, and what ends with it.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use rustix::process::{Signal, kill_process};

use crate::sandbox::{Running, Sandbox, lives, sleep, text, wait_until};

/// A script that prints the numbers of itself, of a child, and of a daemon: a grandchild that has
/// left the session. All of them live for a minute.
const FAMILY: &str = "echo $$; sleep 60 & echo $!; setsid sleep 60 & echo $!; wait";

/// Starts the family.
fn family(sandbox: &Sandbox, options: &str) -> (Running, [rustix::process::Pid; 3]) {
    let mut running = sandbox.start(options, FAMILY);
    let pids = [running.pid_line(), running.pid_line(), running.pid_line()];
    assert!(pids.iter().all(|&pid| lives(pid)));
    (running, pids)
}

#[test]
fn the_exit_code_is_that_of_the_command() {
    let sandbox = Sandbox::new("exit-code");
    for code in [0, 1, 3, 75, 255] {
        let output = sandbox.output(["run", "job", "--", "sh", "-c", &format!("exit {code}")]);
        assert_eq!(output.status.code(), Some(code));
        assert_eq!(text(&output.stderr), "");
    }
    let output = sandbox.output(["run", "job", "--", "sh", "-c", "kill -9 $$"]);
    assert_eq!(output.status.code(), Some(128 + 9));
    assert!(!sandbox.is_held());
}

#[test]
fn a_command_that_cannot_be_executed_releases_the_lease() {
    let sandbox = Sandbox::new("not-executable");
    std::fs::write(sandbox.path("file"), "").unwrap();
    std::fs::write(sandbox.path("script"), "#!/no/such/interpreter\n").unwrap();
    let mut chmod = std::process::Command::new("chmod");
    assert!(
        chmod
            .arg("+x")
            .arg(sandbox.path("script"))
            .status()
            .unwrap()
            .success()
    );
    let cases = [
        ("no-such-command", 127),
        ("./no-such-command", 127),
        ("./file/below", 127),
        ("", 127),
        ("./script", 127),
        ("./file", 126),
        ("/", 126),
    ];
    for (command, code) in cases {
        let output = sandbox.output(["run", "job", "--", command]);
        assert_eq!(output.status.code(), Some(code), "{command:?} {output:?}");
        assert_eq!(text(&output.stderr).lines().count(), 1, "{output:?}");
        assert!(!sandbox.is_held());
    }
}

#[test]
fn the_command_receives_name_token_and_nonce_but_no_url() {
    let sandbox = Sandbox::new("environment");
    let mut tokens = Vec::new();
    for _ in 0..2 {
        let output = sandbox
            .lease(["run", "a b", "--", "env"])
            .env("PGPASSWORD", "kept")
            .env("LEASE_NEW_URL", "quorum:redis://:sEcret@host")
            .output()
            .unwrap();
        let variables = text(&output.stdout);
        let value = |name: &str| {
            let prefix = format!("{name}=");
            variables
                .lines()
                .find_map(|line| line.strip_prefix(&prefix))
        };
        assert_eq!(value("LEASE_NAME"), Some("a b"));
        assert_eq!(value("LEASE_URL"), None);
        assert_eq!(value("LEASE_NEW_URL"), None);
        assert_eq!(value("PGPASSWORD"), Some("kept"));
        let nonce = value("LEASE_NONCE").unwrap();
        assert!(nonce.len() == 32 && u128::from_str_radix(nonce, 16).unwrap() != 0);
        tokens.push(value("LEASE_TOKEN").unwrap().parse::<u64>().unwrap());
    }
    assert!(tokens[0] < tokens[1], "{tokens:?}");
}

#[test]
fn input_is_passed_on() {
    let sandbox = Sandbox::new("input");
    let mut child = sandbox
        .lease(["run", "job", "--", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"through\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(text(&output.stdout), "through\n");
}

#[test]
fn a_held_lease_is_busy() {
    let sandbox = Sandbox::new("busy");
    let mut holder = sandbox.start("", "echo up; sleep 60");
    assert_eq!(holder.line(), "up");
    for limit in [&["--no-wait"][..], &["--wait", "300ms"]] {
        let start = Instant::now();
        let args = ["run", "job"].iter().chain(limit).copied();
        let output = sandbox.output(args.chain(["--", "touch", "ran"]));
        assert_eq!(output.status.code(), Some(75), "{output:?}");
        assert_eq!(text(&output.stderr).lines().count(), 1);
        assert!(start.elapsed().as_secs() < 5);
    }
    assert!(!sandbox.path("ran").exists());
    holder.signal(Signal::TERM);
    holder.end_with(128 + 15);
    let output = sandbox.output(["run", "job", "--no-wait", "--", "true"]);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_waiter_runs_after_the_holder() {
    let sandbox = Sandbox::new("waiter");
    let mut holder = sandbox.start("", "echo up; sleep 0.5; echo first >> order");
    assert_eq!(holder.line(), "up");
    let mut waiter = sandbox.start("--wait 1m", "echo second >> order");
    holder.end_with(0);
    waiter.end_with(0);
    let order = std::fs::read_to_string(sandbox.path("order")).unwrap();
    assert_eq!(order, "first\nsecond\n");
}

#[test]
fn a_signal_ends_the_wait_of_a_stopped_guard() {
    let sandbox = Sandbox::new("stopped-wait");
    let (mut holder, _) = family(&sandbox, "");
    let mut waiter = sandbox.start("", "echo ran");
    sleep(300);
    kill_process(waiter.guard(), Signal::STOP).unwrap();
    waiter.signal(Signal::TERM);
    assert_eq!(waiter.end_with(128 + 15), "");
    holder.signal(Signal::TERM);
    holder.end();
}

#[test]
fn a_signal_ends_the_wait_and_leaves_nothing() {
    let sandbox = Sandbox::new("interrupted-wait");
    let mut holder = sandbox.start("", "echo up; sleep 60");
    assert_eq!(holder.line(), "up");
    for (signal, number) in [(Signal::INT, 2), (Signal::TERM, 15), (Signal::HUP, 1)] {
        let mut waiter = sandbox.start("", "echo ran");
        sleep(300);
        waiter.signal(signal);
        assert_eq!(waiter.end_with(128 + number), "");
    }
    holder.signal(Signal::TERM);
    holder.end_with(128 + 15);
    assert!(!sandbox.is_held());
}

#[test]
fn a_signal_at_any_moment_leaves_nothing() {
    let sandbox = Sandbox::new("any-moment");
    for milliseconds in 0..25 {
        let mut running = sandbox.start("--ttl 1m", "exec sleep 60");
        sleep(milliseconds);
        running.signal(Signal::TERM);
        // Before `lease` handles signals, the system ends it.
        let status = running.end();
        assert!(matches!(status.code(), None | Some(143)), "{status:?}");
        assert!(!sandbox.is_held(), "after {milliseconds} ms");
    }
}

#[test]
fn signals_are_passed_on() {
    let sandbox = Sandbox::new("signals");
    for (signal, name) in [
        (Signal::INT, "INT"),
        (Signal::TERM, "TERM"),
        (Signal::HUP, "HUP"),
        (Signal::QUIT, "QUIT"),
        (Signal::USR1, "USR1"),
        (Signal::USR2, "USR2"),
        (Signal::WINCH, "WINCH"),
    ] {
        let script =
            format!("trap 'echo {name}; exit 7' {name}; echo up; while :; do sleep 0.02; done");
        let mut running = sandbox.start("", &script);
        assert_eq!(running.line(), "up");
        running.signal(signal);
        assert_eq!(running.end_with(7), format!("{name}\n"));
    }
}

#[test]
fn a_signal_that_is_ignored_stays_ignored() {
    let sandbox = Sandbox::new("nohup");
    let lease = env!("CARGO_BIN_EXE_lease");
    let script = format!("trap '' HUP; exec {lease} run job -- sh -c 'echo $$; sleep 60'");
    let mut command = sandbox.lease([]);
    let url = format!("sqlite:{}", sandbox.database().display());
    command = {
        let mut shell = std::process::Command::new("sh");
        shell
            .args(["-c", &script])
            .env("LEASE_URL", url)
            .current_dir(command.get_current_dir().unwrap());
        shell
    };
    let mut running = Running::new(command.stdout(Stdio::piped()));
    let pid = running.pid_line();
    running.signal(Signal::HUP);
    kill_process(pid, Signal::HUP).unwrap();
    sleep(300);
    assert!(lives(pid));
    running.signal(Signal::TERM);
    running.end_with(128 + 15);
}

#[test]
fn the_lease_is_renewed() {
    let sandbox = Sandbox::new("renewed");
    let mut running = sandbox.start("--ttl 2s", "echo up; sleep 4; echo done");
    assert_eq!(running.line(), "up");
    let token = sandbox.token();
    sleep(3000);
    assert_eq!(sandbox.token(), token);
    assert_eq!(running.end_with(0), "done\n");
}

#[test]
fn everything_ends_if_the_front_is_killed() {
    let sandbox = Sandbox::new("front-killed");
    let (mut running, pids) = family(&sandbox, "");
    running.signal(Signal::KILL);
    running.end();
    for pid in pids {
        wait_until("the end of the family", || !lives(pid));
    }
    // The lease is released, not left to expire.
    wait_until("the release", || !sandbox.is_held());
}

#[test]
fn everything_ends_if_the_front_of_a_stopped_guard_is_killed() {
    let sandbox = Sandbox::new("front-of-stopped-guard");
    let (running, pids) = family(&sandbox, "--ttl 2s --grace 200ms");
    let guard = running.guard();
    kill_process(guard, Signal::STOP).unwrap();
    running.signal(Signal::KILL);
    wait_until("the end of all", || !pids.iter().any(|&pid| lives(pid)));
    wait_until("the end of the guard", || !lives(guard));
}

#[test]
fn everything_ends_if_the_guard_is_killed() {
    let sandbox = Sandbox::new("guard-killed");
    let (mut running, pids) = family(&sandbox, "");
    kill_process(running.guard(), Signal::KILL).unwrap();
    running.end_with(125);
    assert!(!pids.iter().any(|&pid| lives(pid)));
}

#[test]
fn a_stopped_guard_does_not_outlive_the_lease() {
    let sandbox = Sandbox::new("guard-stopped");
    let (mut running, pids) = family(&sandbox, "--ttl 1s");
    kill_process(running.guard(), Signal::STOP).unwrap();
    running.end_with(76);
    assert!(!pids.iter().any(|&pid| lives(pid)));
}

/// The front must have the end of the lease before the command begins.
#[test]
fn a_guard_that_stops_as_the_command_begins_does_not_outlive_the_lease() {
    let sandbox = Sandbox::new("guard-stopped-first");
    for _ in 0..3 {
        let mut running = sandbox.start("--ttl 500ms", "kill -STOP $PPID; echo $$; sleep 60");
        let pid = running.pid_line();
        running.end_with(76);
        assert!(!lives(pid));
    }
}

#[test]
fn a_stopped_front_does_not_end_the_lease() {
    let sandbox = Sandbox::new("front-stopped");
    let mut running = sandbox.start("--ttl 2s", "echo up; sleep 4; echo done");
    assert_eq!(running.line(), "up");
    let token = sandbox.token();
    running.signal(Signal::STOP);
    sleep(3000);
    assert_eq!(sandbox.token(), token);
    running.signal(Signal::CONT);
    assert_eq!(running.end_with(0), "done\n");
}

#[test]
fn the_command_is_killed_once_all_continue_after_the_end_of_the_lease() {
    let sandbox = Sandbox::new("all-stopped");
    let (mut running, pids) = family(&sandbox, "--ttl 600ms");
    let guard = running.guard();
    running.signal(Signal::STOP);
    kill_process(guard, Signal::STOP).unwrap();
    sleep(900);
    assert!(lives(pids[0]));
    kill_process(guard, Signal::CONT).unwrap();
    running.signal(Signal::CONT);
    running.end_with(76);
    assert!(!pids.iter().any(|&pid| lives(pid)));
}

#[test]
fn a_broken_lease_ends_the_command() {
    let sandbox = Sandbox::new("broken");
    let script = "trap 'echo ended; exit 0' TERM; echo up; while :; do sleep 0.02; done";
    let mut running = sandbox.start("--ttl 1s", script);
    assert_eq!(running.line(), "up");
    let broken = sandbox.output(["break", "job", "--token", &sandbox.token()]);
    assert!(broken.status.success(), "{broken:?}");
    assert_eq!(running.end_with(76), "ended\n");
}

#[test]
fn a_command_that_ignores_sigterm_is_killed() {
    let sandbox = Sandbox::new("ignores-term");
    let script = "trap '' TERM; echo $$; sleep 60 & echo $!; wait; sleep 60";
    let mut running = sandbox.start("--ttl 2s --grace 300ms", script);
    let pids = [running.pid_line(), running.pid_line()];
    let broken = sandbox.output(["break", "job", "--token", &sandbox.token()]);
    assert!(broken.status.success(), "{broken:?}");
    running.end_with(76);
    assert!(!pids.iter().any(|&pid| lives(pid)));
}

#[test]
fn an_engine_that_hangs_ends_the_command_with_the_lease() {
    let sandbox = Sandbox::new("engine-hangs");
    let script = "trap 'sleep 0.4; echo ended; exit 0' TERM; echo up; while :; do sleep 0.02; done";
    let mut running = sandbox.start("--ttl 2s --grace 1s", script);
    assert_eq!(running.line(), "up");
    let database = rusqlite::Connection::open(sandbox.database()).unwrap();
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    let start = Instant::now();
    // SIGTERM left time for an ordinary end.
    assert_eq!(running.end_with(76), "ended\n");
    assert!(start.elapsed().as_secs_f64() < 4.0);

    let unreachable = sandbox.output(["run", "job", "--no-wait", "--", "true"]);
    assert_eq!(unreachable.status.code(), Some(69), "{unreachable:?}");
    assert_eq!(
        text(&unreachable.stderr).lines().count(),
        1,
        "{unreachable:?}"
    );
}

#[test]
fn processes_left_behind_end_before_the_release() {
    let sandbox = Sandbox::new("left-behind");
    let script = "sleep 60 & echo $!; setsid sleep 60 & echo $!; \
                  (trap '' TERM; echo ready; exec sleep 60) & read x; exit 4";
    let mut running = sandbox.start("--grace 200ms", &script.replace("read x", "sleep 0.3"));
    let pids = [running.pid_line(), running.pid_line()];
    assert_eq!(running.line(), "ready");
    running.end_with(4);
    assert!(!pids.iter().any(|&pid| lives(pid)));
    assert!(!sandbox.is_held());
}

#[test]
fn a_daemon_that_ignores_sigterm_ends_before_the_release() {
    let sandbox = Sandbox::new("stubborn-daemon");
    let daemon = "trap \"\" TERM; echo $$; exec sleep 60";
    let script = format!("setsid sh -c '{daemon}' & sleep 0.3; exit 4");
    let mut running = sandbox.start("--grace 200ms", &script);
    let daemon = running.pid_line();
    running.end_with(4);
    assert!(!lives(daemon));
    // Not even as a process that has ended, which the first process of a container may leave.
    assert!(!Path::new(&format!("/proc/{daemon}")).exists());
}

#[test]
fn a_stopped_command_handles_sigterm() {
    let sandbox = Sandbox::new("stopped-command");
    let script = "trap 'echo ended; exit 0' TERM; echo $$; while :; do sleep 0.02; done";
    let mut running = sandbox.start("--ttl 4s", script);
    let pid = running.pid_line();
    kill_process(pid, Signal::STOP).unwrap();
    let broken = sandbox.output(["break", "job", "--token", &sandbox.token()]);
    assert!(broken.status.success(), "{broken:?}");
    assert_eq!(running.end_with(76), "ended\n");
}

#[test]
fn daemons_may_be_kept() {
    let sandbox = Sandbox::new("daemons");
    // The daemon does not keep the pipe of the test open.
    let script = "sleep 60 >&- 2>&- & echo $!; setsid sleep 60 >&- 2>&- & echo $!; sleep 0.3";
    let mut running = sandbox.start("--keep-daemons", script);
    let (child, daemon) = (running.pid_line(), running.pid_line());
    running.end_with(0);
    assert!(!lives(child));
    assert!(lives(daemon));
    kill_process(daemon, Signal::KILL).unwrap();
}

#[test]
fn a_lease_within_a_lease() {
    let sandbox = Sandbox::new("nested");
    let lease = env!("CARGO_BIN_EXE_lease");
    let url = format!("sqlite:{}", sandbox.database().display());
    let script =
        format!("{lease} run inner --on {url} -- sh -c 'echo $$; sleep 60 & echo $!; wait'");
    let mut running = sandbox.start("", &script);
    let pids = [running.pid_line(), running.pid_line()];
    running.signal(Signal::KILL);
    running.end();
    for pid in pids {
        wait_until("the end of the inner command", || !lives(pid));
    }
    wait_until("the release of the outer lease", || !sandbox.is_held());
    let inner = sandbox.output(["run", "inner", "--wait", "15s", "--", "true"]);
    assert!(inner.status.success(), "{inner:?}");
}

#[test]
fn a_short_outage_before_a_renewal_ends_no_command() {
    let sandbox = Sandbox::new("short-outage");
    let mut running = sandbox.start("--ttl 4s", "echo begun; sleep 4; exit 3");
    assert_eq!(running.line(), "begun");
    // By default, SIGTERM follows when half of the lease is left. The outage begins before a third
    // is over, and lasts for less than a third.
    sleep(1200);
    let database = rusqlite::Connection::open(sandbox.database()).unwrap();
    database.execute_batch("BEGIN EXCLUSIVE").unwrap();
    sleep(1100);
    database.execute_batch("ROLLBACK").unwrap();
    running.end_with(3);
}
