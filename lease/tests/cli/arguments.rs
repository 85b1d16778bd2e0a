//! Arguments, and where the URL comes from.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use rustix::process::Signal;

use crate::sandbox::{Running, Sandbox, text};

#[test]
fn bad_input_is_one_line_and_leaves_nothing() {
    let sandbox = Sandbox::new("bad-input");
    let long = "n".repeat(513);
    let run = |name: &'static str, rest: &[&'static str]| {
        let mut args = vec!["run", name];
        args.extend(rest);
        args.extend(["--", "touch", "ran"]);
        args
    };
    let mut cases = vec![
        vec![],
        vec!["frobnicate"],
        vec!["run"],
        vec!["run", "job"],
        vec!["run", "job", "touch", "ran"],
        vec!["status"],
        vec!["status", ""],
        vec!["status", "a\u{1}b"],
        vec!["break", "job"],
        vec!["break", "job", "--token", "x"],
        vec!["break", "", "--token", "1"],
        vec!["list", "a\nb"],
        vec!["watch", "a\u{202e}b"],
        run("", &[]),
        run("a\u{7}b", &[]),
        run("job", &["--ttl", "99ms"]),
        run("job", &["--ttl", "25h"]),
        run("job", &["--ttl", "soon"]),
        run("job", &["--ttl", "1s", "--grace", "600ms"]),
        run("job", &["--wait", "1s", "--no-wait"]),
        run("job", &["--on", "nonsense"]),
        run("job", &["--on", "foo://bar"]),
        run("job", &["--on", "foo://user:secret@bar"]),
        run("job", &["--on", ""]),
        run("job", &["--on", "sqlite:"]),
        run("job", &["--on", "sqlite:/no/such/folder/db"]),
    ];
    cases.push(vec!["run", &long, "--", "touch", "ran"]);
    for args in cases {
        let output = sandbox.output(args.iter().copied());
        let errors: Vec<_> = text(&output.stderr)
            .lines()
            .filter(|line| !line.starts_with("lease: warning: "))
            .collect();
        assert_eq!(output.status.code(), Some(125), "{args:?} {errors:?}");
        assert!(
            errors.len() == 1 && errors[0].starts_with("lease: "),
            "{args:?} {errors:?}"
        );
        assert!(!text(&output.stderr).contains("secret"));
        assert_eq!(text(&output.stdout), "");
        assert!(!sandbox.path("ran").exists(), "{args:?}");
    }
}

#[test]
fn help_names_the_exit_codes() {
    let sandbox = Sandbox::new("help");
    for args in [
        &["--help"][..],
        &["run", "--help"],
        &["break", "--help"],
        &["--version"],
    ] {
        let output = sandbox.output(args.iter().copied());
        assert!(output.status.success());
        assert_eq!(text(&output.stderr), "");
    }
    let help = sandbox.output(["run", "--help"]);
    for code in ["69", "75", "76", "125", "126", "127"] {
        assert!(text(&help.stdout).contains(code));
    }
}

#[test]
fn without_a_url_the_leases_are_in_the_state_folder() {
    let sandbox = Sandbox::new("state-folder");
    let holder = |variable: &str, value: &str| {
        let mut command = sandbox.lease(["run", "job", "--", "true"]);
        command.env_remove("LEASE_URL").env(variable, value);
        command.output().unwrap()
    };
    let home = sandbox.path("home");
    assert!(holder("HOME", home.to_str().unwrap()).status.success());
    let folder = home.join(".local/state/lease");
    assert!(folder.join("leases.db").exists());
    assert_eq!(
        fs::metadata(&folder).unwrap().permissions().mode() & 0o777,
        0o700
    );

    let state = sandbox.path("state");
    assert!(
        holder("XDG_STATE_HOME", state.to_str().unwrap())
            .status
            .success()
    );
    assert!(state.join("lease/leases.db").exists());

    // A relative path is not valid, and no folder is created for it.
    let relative = holder("XDG_STATE_HOME", "relative");
    assert!(relative.status.success());
    assert!(!sandbox.path("relative").exists());
}

#[test]
fn without_a_home_there_is_one_clear_line() {
    let sandbox = Sandbox::new("no-home");
    for home in [None, Some(""), Some("relative")] {
        let mut command = sandbox.lease(["run", "job", "--", "true"]);
        command.env_remove("LEASE_URL").env_remove("HOME");
        if let Some(home) = home {
            command.env("HOME", home);
        }
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(125), "{output:?}");
        assert_eq!(text(&output.stderr).lines().count(), 1);
        assert!(text(&output.stderr).contains("HOME"), "{output:?}");
    }
}

#[test]
fn the_url_is_read_from_a_file() {
    let sandbox = Sandbox::new("url-file");
    let file = sandbox.path(".config/lease/url");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let database = sandbox.path("named.db");
    fs::write(&file, format!("# where\n\nsqlite:{}\n", database.display())).unwrap();
    let run = || {
        let mut command = sandbox.lease(["run", "job", "--", "true"]);
        command.env_remove("LEASE_URL").output().unwrap()
    };
    assert!(run().status.success());
    assert!(database.exists());

    fs::write(&file, "# nothing\n").unwrap();
    assert_eq!(run().status.code(), Some(125));
    fs::write(&file, "foo://user:secret@host\n").unwrap();
    let output = run();
    assert_eq!(output.status.code(), Some(125));
    assert!(
        text(&output.stderr).contains("other users may read it"),
        "{output:?}"
    );
    assert!(!text(&output.stderr).contains("secret"), "{output:?}");
}

#[test]
fn a_password_is_removed_from_the_list_of_processes() {
    let sandbox = Sandbox::new("password");
    let url = format!("sqlite://{}", sandbox.path("user:secret@db").display());
    for on in [vec!["--on", &url], vec![&format!("--on={url}")]] {
        let args = ["run", "job"].into_iter().chain(on);
        let mut command = sandbox.lease(args.chain(["--", "sh", "-c", "echo up; sleep 60"]));
        let mut running = Running::new(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
        let line = running.line();
        assert_eq!(line, "up", "{}", running.errors());
        for pid in [running.pid(), running.guard()] {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
            let line = String::from_utf8_lossy(&line);
            assert!(line.contains("job") && !line.contains("secret"), "{line:?}");
        }
        running.signal(Signal::TERM);
        running.end();
        let errors = running.errors();
        assert!(
            errors.contains("warning") && !errors.contains("secret"),
            "{errors}"
        );
    }
    assert!(sandbox.path("user:secret@db").exists());
}

/// The manual in the documentation names each action, option and exit code of the command.
#[test]
fn the_manual_names_each_option_and_exit_code() {
    let manual = include_str!("../../src/docs/command.md");
    let sandbox = Sandbox::new("manual");
    let help = |args: &[&str]| {
        let output = sandbox.output(args.iter().copied().chain(["--help"]));
        assert!(output.status.success());
        text(&output.stdout).to_owned()
    };
    let mut found = 0;
    for action in ["run", "status", "list", "watch", "break", "check", "bench"] {
        assert!(help(&[]).contains(&format!("  {action} ")), "{action}");
        assert!(manual.contains(&format!("| `lease {action}")), "{action}");
        for line in help(&[action]).lines() {
            let words = line.split([' ', ',']).map(str::trim);
            for option in words.filter(|word| word.starts_with("--")) {
                let name = option.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
                if !["--help", "--version"].contains(&name) && line.trim().starts_with("--") {
                    assert!(manual.contains(&format!("| `{name}")), "{action} {name}");
                    found += 1;
                }
            }
        }
    }
    assert!(found >= 18, "{found} options");
    let run = help(&["run"]);
    for code in ["69", "75", "76", "125", "126", "127"] {
        assert!(run.contains(&format!(" {code}  ")), "{code}");
        assert!(manual.contains(&format!("| {code} |")), "{code}");
    }
}
