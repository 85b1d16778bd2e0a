//! A thread that is stopped in the middle of a commit holds up nobody: readers of its cells, and
//! writers of others, go on as long as it stands, and a writer of its cells takes them away from
//! it.
#![cfg(all(target_os = "linux", not(any(latchwork_loom, latchwork_shuttle))))]
#![allow(unsafe_code, reason = "a signal stops a thread wherever it is")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst, compiler_fence};
use std::thread;

use common::watchdog;
use latchwork::{VersionedCell, atomically, cell::Version, snapshot};

static STOPPED: AtomicBool = AtomicBool::new(false);
static MISSED: AtomicBool = AtomicBool::new(false);
static GO_ON: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// Constant and without a destructor, so that a signal handler can look at it.
    static ALLOCATES: Cell<bool> = const { Cell::new(false) };
}

/// Nobody is stopped in there: it may hold a lock that others need to free what they have.
struct Undisturbed;

#[global_allocator]
static UNDISTURBED: Undisturbed = Undisturbed;

fn undisturbed<R>(f: impl FnOnce() -> R) -> R {
    ALLOCATES.set(true);
    compiler_fence(SeqCst);
    let result = f();
    compiler_fence(SeqCst);
    ALLOCATES.set(false);
    result
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Undisturbed {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: by the caller's contract.
        undisturbed(|| unsafe { System.alloc(layout) })
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: by the caller's contract; all memory comes from the system's allocator.
        undisturbed(|| unsafe { System.dealloc(ptr, layout) });
    }
}

/// Stands until it is told to go on. Touches nothing but atomics.
extern "C" fn stand(_: libc::c_int) {
    if ALLOCATES.get() {
        MISSED.store(true, SeqCst);
        return;
    }
    STOPPED.store(true, SeqCst);
    while !GO_ON.load(SeqCst) {
        // SAFETY: it may be called in a signal handler.
        unsafe { libc::usleep(100) };
    }
    STOPPED.store(false, SeqCst);
}

/// Stops a thread of this process that runs until it is told that all is over.
fn stop(thread: u32) {
    GO_ON.store(false, SeqCst);
    while !STOPPED.load(SeqCst) {
        MISSED.store(false, SeqCst);
        // SAFETY: the handler may run anywhere.
        let sent = unsafe {
            libc::syscall(
                libc::SYS_tgkill,
                std::process::id() as libc::pid_t,
                thread as libc::pid_t,
                libc::SIGUSR1,
            )
        };
        assert_eq!(sent, 0);
        while !STOPPED.load(SeqCst) && !MISSED.load(SeqCst) {
            thread::yield_now();
        }
    }
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
            stop(thread.load(SeqCst));
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
