//! Threads that are stopped anywhere. Beside a stopped committer, readers of its cells and writers
//! of other cells continue, and a writer of its cells aborts it. Beside a stopped reader, writers
//! continue, and reclaim all but the values that its pin protects.
#![cfg(all(target_os = "linux", not(any(latchwork_loom, latchwork_shuttle))))]
#![allow(unsafe_code, reason = "a signal stops a thread wherever it is")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::SeqCst, compiler_fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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

/// The number of the calling thread.
fn own_number() -> u32 {
    // SAFETY: the calling thread's own.
    let id = unsafe { libc::syscall(libc::SYS_gettid) };
    u32::try_from(id).expect("a thread's number is small")
}

/// Lets the stopped thread continue.
fn go_on() {
    GO_ON.store(true, SeqCst);
    while STOPPED.load(SeqCst) {
        thread::yield_now();
    }
}

/// The tests have one signal and one set of flags, which the caller has until it drops this.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let handler = stand as extern "C" fn(libc::c_int) as libc::sighandler_t;
    // SAFETY: the handler may run anywhere.
    unsafe { libc::signal(libc::SIGUSR1, handler) };
    turn
}

/// Times that the thread is stopped; it is in a commit, or next to one, each time.
const STOPS: u32 = 400;

#[test]
fn a_committer_that_is_stopped_holds_up_nobody() {
    let _dog = watchdog("a_committer_that_is_stopped_holds_up_nobody");
    let _turn = turn();
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
            thread.store(own_number(), SeqCst);
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
            go_on();
        }
        over.store(true, SeqCst);
    });
    assert_eq!(
        (x.get() + y.get(), apart.get(), taken),
        (0, 50 * STOPS, STOPS / 2)
    );
}

/// A value that knows how many of its kind live, and whether it does.
struct Canary(Arc<AtomicUsize>, u64);

const ALIVE: u64 = 0x616c_6976_6521;

impl Canary {
    fn new(live: &Arc<AtomicUsize>) -> Self {
        live.fetch_add(1, SeqCst);
        Canary(live.clone(), ALIVE)
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        assert_eq!(self.1, ALIVE, "dropped twice");
        self.1 = 0;
        self.0.fetch_sub(1, SeqCst);
    }
}

/// The reader is stopped while it is pinned, while it is not, and between the two.
#[test]
fn a_reader_that_is_stopped_costs_only_what_its_pin_protects() {
    const WRITES: usize = 500;
    let _dog = watchdog("a_reader_that_is_stopped_costs_only_what_its_pin_protects");
    let _turn = turn();
    let live = Arc::new(AtomicUsize::new(0));
    let cell = VersionedCell::new(Canary::new(&live));
    let (over, thread) = (AtomicBool::new(false), AtomicU32::new(0));
    let (mut pinned, mut unpinned) = (0, 0);
    thread::scope(|s| {
        s.spawn(|| {
            thread.store(own_number(), SeqCst);
            while !over.load(SeqCst) {
                let value = cell.read();
                (0..64).for_each(|_| std::hint::spin_loop());
                assert_eq!(value.1, ALIVE, "dropped under a reader");
                drop(value);
                (0..64).for_each(|_| std::hint::spin_loop());
            }
        });
        while thread.load(SeqCst) == 0 {
            thread::yield_now();
        }
        for _ in 0..STOPS {
            stop(thread.load(SeqCst));
            for _ in 0..WRITES {
                cell.set(Canary::new(&live));
            }
            latchwork::flush();
            match live.load(SeqCst) {
                1 => unpinned += 1,
                // The pin is as old as the values.
                n if n <= WRITES + 1 => pinned += 1,
                n => panic!("{n} values of {WRITES} writes"),
            }
            go_on();
            // The pin ends.
            while live.load(SeqCst) > 1 {
                latchwork::flush();
                thread::yield_now();
            }
        }
        over.store(true, SeqCst);
    });
    println!("stopped {pinned} times pinned, {unpinned} times not");
    assert!(pinned > 0 && unpinned > 0, "{pinned} and {unpinned}");
}
