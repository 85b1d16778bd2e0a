//! The server of a console over a fork: the parent continues to serve, whatever the child does with
//! its copy.
//!
//! One test, because no other thread may be inside a call of the crate at the fork.
#![cfg(all(feature = "console", target_os = "linux", target_env = "gnu"))]
#![allow(
    unsafe_code,
    reason = "fork, waitpid and _exit are calls of the system"
)]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use latchwork::console::Console;

fn serves(path: &Path) -> bool {
    let Ok(mut stream) = UnixStream::connect(path) else {
        return false;
    };
    let mut answer = String::new();
    stream.write_all(b"GET /json HTTP/1.1\r\n\r\n").is_ok()
        && stream.read_to_string(&mut answer).is_ok()
        && answer.starts_with("HTTP/1.1 200")
}

#[test]
fn the_parent_serves_after_a_child_has_dropped_its_copy() {
    let folder = std::env::temp_dir().join(format!("latchwork-fork-{}", std::process::id()));
    std::fs::create_dir(&folder).expect("a new folder");
    let [path, other] = ["parent", "child"].map(|name| folder.join(name));
    let server = Console::new().serve_unix(&path).expect("a new file");
    assert!(serves(&path));

    // SAFETY: the child uses what works after a fork with glibc, and ends by `_exit`.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "{}", std::io::Error::last_os_error());
    if child == 0 {
        // SAFETY: it sets a timer of this process, which ends a child that hangs.
        unsafe { libc::alarm(20) };
        let in_child = || {
            drop(server);
            assert!(path.exists(), "the file is the parent's");
            let own = Console::new().serve_unix(&other).expect("a new file");
            assert!(serves(&other));
            drop(own);
            assert!(!other.exists());
        };
        let failed = catch_unwind(AssertUnwindSafe(in_child)).is_err();
        // SAFETY: it ends the process without running destructors.
        unsafe { libc::_exit(i32::from(failed)) }
    }
    let mut status = -1;
    // SAFETY: the child is this process's, and the status is written to a local variable.
    let ended = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!((ended, status), (child, 0));

    assert!(serves(&path));
    drop(server);
    assert!(!path.exists());
    std::fs::remove_dir(&folder).expect("it is empty");
}
