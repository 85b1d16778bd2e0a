//! A thread that is stopped in the middle of a commit holds up nobody: readers of its cells, and writers of others, go on as long as it
//! stands, and a writer of its cells takes them away from it.
#![cfg(all(target_os = "linux", not(any(latchwork_loom, latchwork_shuttle))))]
#![allow(unsafe_code, reason = "a signal stops a thread wherever it is")]

mod common;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::thread;

use common::watchdog;
use latchwork::{Version, VersionedCell, atomically, snapshot};

static STOPPED: AtomicBool = AtomicBool::new(false);
static GO_ON: AtomicBool = AtomicBool::new(false);

/// Stands until it is told to go on. Touches nothing but two atomics.
extern "C" fn stand(_: libc::c_int) {
    STOPPED.store(true, SeqCst);
    while !GO_ON.load(SeqCst) {
        // SAFETY: it may be called in a signal handler.
        unsafe { libc::usleep(100) };
    }
    STOPPED.store(false, SeqCst);
}

/// Times that the thread is stopped; it is in a commit, or next to one, each time.
const STOPS: u32 = 400;

#[test]
fn a_committer_that_is_stopped_holds_up_nobody() {
    let _dog = watchdog("a_committer_that_is_stopped_holds_up_nobody");
    let handler = stand as extern "C" fn(libc::c_int) as libc::sighandler_t;
    // SAFETY: the handler may run anywhere.
    unsafe { libc::signal(libc::SIGUSR1, handler) };

    let (x, y, apart) = (
        VersionedCell::new(0_i64),
        VersionedCell::new(0_i64),
        VersionedCell::new(0),
    );
    let over = AtomicBool::new(false);
    let (thread, commits) = (AtomicU32::new(0), AtomicU32::new(0));
    // How often somebody else has changed the cells while it stood.
    let mut taken = 0;
    thread::scope(|s| {
        s.spawn(|| {
            // SAFETY: the calling thread's own.
            let id = unsafe { libc::syscall(libc::SYS_gettid) };
            thread.store(
                u32::try_from(id).expect("a thread's number is small"),
                SeqCst,
            );
            while !over.load(SeqCst) {
                atomically(|tx| {
                    tx.update(&x, |n| n - 1)?;
                    tx.update(&y, |n| n + 1)
                });
                commits.fetch_add(1, SeqCst);
            }
        });
        while thread.load(SeqCst) == 0 {
            thread::yield_now();
        }
        for round in 0..STOPS {
            // One that had lost often would have an age, and hold up who wants its cells.
            let before = commits.load(SeqCst);
            while commits.load(SeqCst) < before + 2 {
                thread::yield_now();
            }
            GO_ON.store(false, SeqCst);
            // SAFETY: a thread of this process that runs until it is told that all is over.
            let sent = unsafe {
                libc::syscall(
                    libc::SYS_tgkill,
                    std::process::id() as libc::pid_t,
                    thread.load(SeqCst) as libc::pid_t,
                    libc::SIGUSR1,
                )
            };
            assert_eq!(sent, 0);
            while !STOPPED.load(SeqCst) {
                thread::yield_now();
            }
            // Whatever it was doing, all of this is done before it goes on.
            for _ in 0..50 {
                x.get();
                assert_eq!(snapshot(|s| *s.read(&x) + *s.read(&y)), 0);
                assert_eq!(atomically(|tx| Ok(*tx.read(&x)? + *tx.read(&y)?)), 0);
                apart.update(|n| n + 1);
            }
            if round % 2 == 0 {
                let version = x.version();
                atomically(|tx| {
                    tx.update(&x, |n| n + 1)?;
                    tx.update(&y, |n| n - 1)
                });
                assert_eq!(x.version(), Version::new(version.get() + 1));
                taken += 1;
            }
            GO_ON.store(true, SeqCst);
            while STOPPED.load(SeqCst) {
                thread::yield_now();
            }
        }
        over.store(true, SeqCst);
    });
    assert_eq!(
        (x.get() + y.get(), apart.get(), taken),
        (0, 50 * STOPS, STOPS / 2)
    );
}
