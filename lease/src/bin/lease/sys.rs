//! Calls of the system that have no safe wrapper: fork, signal handlers, a page that two processes
//! share, and the state of a process between fork and exec.
//!
//! This is the only module of the command that contains `unsafe`.
#![allow(unsafe_code, reason = "calls of the system without a safe wrapper")]

use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal};

/// The write end of the pipe that the signal handler writes to, or -1.
static PIPE: AtomicI32 = AtomicI32::new(-1);

/// The set of blocked signals of a thread.
#[derive(Clone, Copy)]
pub(crate) struct Mask(libc::sigset_t);

impl Mask {
    fn of(signals: &[Signal]) -> Mask {
        let mut set = MaybeUninit::uninit();
        // SAFETY: the pointer is valid for a write.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        // SAFETY: sigemptyset has initialised the set.
        let mut set: libc::sigset_t = unsafe { set.assume_init() };
        for signal in signals {
            // SAFETY: the set is initialised, and the signal is a valid number.
            unsafe { libc::sigaddset(&raw mut set, signal.as_raw()) };
        }
        Mask(set)
    }

    /// Blocks all signals of this thread, and returns the mask from before.
    pub(crate) fn block_all() -> Mask {
        let mut all = MaybeUninit::uninit();
        // SAFETY: the pointer is valid for a write.
        unsafe { libc::sigfillset(all.as_mut_ptr()) };
        // SAFETY: sigfillset has initialised the set.
        let all = unsafe { all.assume_init() };
        change_mask(libc::SIG_BLOCK, &Mask(all))
    }

    /// Makes this the mask of the thread.
    pub(crate) fn restore(self) {
        change_mask(libc::SIG_SETMASK, &self);
    }
}

/// Blocks these signals for this thread, so that they have no effect on it.
pub(crate) fn block(signals: &[Signal]) {
    change_mask(libc::SIG_BLOCK, &Mask::of(signals));
}

/// Changes the mask of this thread and returns the previous one. Async-signal-safe.
fn change_mask(how: libc::c_int, mask: &Mask) -> Mask {
    let mut old = MaybeUninit::uninit();
    // SAFETY: both pointers are valid for the call.
    unsafe { libc::pthread_sigmask(how, &raw const mask.0, old.as_mut_ptr()) };
    // SAFETY: the call has initialised `old`, because its arguments are valid.
    Mask(unsafe { old.assume_init() })
}

/// Signals that arrive at this process, as bytes in a pipe.
pub(crate) struct Signals {
    pipe: File,
    // Keeps the descriptor open that the handler writes to.
    _write_end: OwnedFd,
}

impl Signals {
    /// Handles `signals` from now on, except those that this process was started to ignore.
    ///
    /// A second call, as in the child of a fork, directs the signals to the new pipe. Handlers, in
    /// contrast to ignored signals, are not inherited by a program that is executed.
    pub(crate) fn handle(signals: &[Signal]) -> io::Result<Signals> {
        let (read_end, write_end) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Relaxed: the handler runs in this process and uses nothing but the number.
        PIPE.store(write_end.as_raw_fd(), Ordering::Relaxed);
        for &signal in signals {
            if action_of(signal)? != libc::SIG_IGN || signal == Signal::CHILD {
                set_action(signal, on_signal as *const () as libc::sighandler_t)?;
            }
        }
        Ok(Signals {
            pipe: File::from(read_end),
            _write_end: write_end,
        })
    }

    /// Returns the signals that have arrived since the last call, without blocking.
    pub(crate) fn arrived(&mut self) -> Vec<Signal> {
        let mut bytes = [0; 64];
        let mut arrived = Vec::new();
        while let Ok(count @ 1..) = self.pipe.read(&mut bytes) {
            arrived.extend(bytes[..count].iter().filter_map(|&byte| signal_of(byte)));
        }
        arrived
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// Returns the signal with this number.
pub(crate) fn signal_of(byte: u8) -> Option<Signal> {
    Signal::from_named_raw(i32::from(byte))
}

extern "C" fn on_signal(signal: libc::c_int) {
    let byte = signal as u8;
    // Relaxed: see `Signals::handle`.
    let pipe = PIPE.load(Ordering::Relaxed);
    // SAFETY: `errno` returns a valid pointer to this thread's error number.
    let saved = unsafe { *errno() };
    // SAFETY: write(2) is async-signal-safe, and the buffer is one valid byte. The descriptor is a
    // pipe of this process; a closed or a full one makes the call fail, which loses a wake-up only
    // where 64 KiB of them wait.
    unsafe { libc::write(pipe, (&raw const byte).cast(), 1) };
    // SAFETY: as above. The interrupted code sees the error number of its own calls.
    unsafe { *errno() = saved };
}

/// Returns the address of this thread's error number.
fn errno() -> *mut libc::c_int {
    #[cfg(any(target_os = "linux", target_os = "dragonfly"))]
    // SAFETY: the function has no precondition.
    unsafe {
        libc::__errno_location()
    }
    #[cfg(any(target_os = "macos", target_os = "ios", target_os = "freebsd"))]
    // SAFETY: the function has no precondition.
    unsafe {
        libc::__error()
    }
    #[cfg(any(target_os = "openbsd", target_os = "netbsd", target_os = "android"))]
    // SAFETY: the function has no precondition.
    unsafe {
        libc::__errno()
    }
}

fn action_of(signal: Signal) -> io::Result<libc::sighandler_t> {
    let mut old = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: no new action is given, and `old` is valid for a write.
    let result = unsafe { libc::sigaction(signal.as_raw(), ptr::null(), old.as_mut_ptr()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, and all zeros are valid, had it written nothing.
    Ok(unsafe { old.assume_init() }.sa_sigaction)
}

fn set_action(signal: Signal, action: libc::sighandler_t) -> io::Result<()> {
    // SAFETY: all zeros are a valid action: the default one, with an empty mask.
    let mut new: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    new.sa_sigaction = action;
    new.sa_flags = libc::SA_RESTART;
    // SAFETY: the action is initialised. It is the default one or `on_signal`, which only calls
    // functions that are async-signal-safe.
    let result = unsafe { libc::sigaction(signal.as_raw(), &raw const new, ptr::null_mut()) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Stops the process group of the caller with `signal`, and returns once the caller is continued.
///
/// Returns at once where the system ignores the signal, because no shell could continue the group.
/// The caller has one thread and handles `signal`.
pub(crate) fn suspend_group(signal: Signal) -> io::Result<()> {
    let handler = action_of(signal)?;
    set_action(signal, libc::SIG_DFL)?;
    let mask = change_mask(libc::SIG_UNBLOCK, &Mask::of(&[signal]));
    // The signal is delivered to this thread before the call returns, because it is not blocked.
    let sent = rustix::process::kill_current_process_group(signal);
    mask.restore();
    set_action(signal, handler)?;
    Ok(sent?)
}

/// Forks. Returns the child's id in the parent, and `None` in the child.
///
/// The process must have one thread: the child then may do all that its parent may.
pub(crate) fn fork() -> io::Result<Option<Pid>> {
    #[cfg(target_os = "linux")]
    debug_assert!(
        std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1)
            || !std::path::Path::new("/proc/self/task").exists(),
        "a fork needs a process with one thread"
    );
    // SAFETY: the process has one thread, so no lock is held by a thread that the child lacks.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        child => Ok(Pid::from_raw(child)),
    }
}

/// The memory that the two processes of `lease run` share. All zeros are its initial state.
#[repr(C)]
pub(crate) struct Shared {
    /// The end of the lease in nanoseconds of [`clock::now`](crate::clock::now); 0: none is held.
    deadline: AtomicU64,
    /// The process group of the command; 0 before it has started.
    group: AtomicI32,
    /// 1 once the guard ends with an exit code of its own.
    done: AtomicU32,
    /// 1 if the command uses the foreground of the terminal.
    terminal_wanted: AtomicU32,
    /// 1 while the command has the foreground of the terminal.
    terminal_given: AtomicU32,
}

impl Shared {
    /// Maps a page that this process and its later children share until they end.
    pub(crate) fn map() -> io::Result<&'static Shared> {
        // SAFETY: a new mapping at an address that the system chooses affects no other memory.
        let page = unsafe {
            rustix::mm::mmap_anonymous(
                ptr::null_mut(),
                size_of::<Shared>(),
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
            )
        }?;
        // SAFETY: the mapping is aligned to a page, at least as large as the type, filled with
        // zeros, which are valid for its fields, and never unmapped. Both processes access it
        // through atomics only.
        Ok(unsafe { &*page.cast::<Shared>() })
    }

    pub(crate) fn set_deadline(&self, nanoseconds: u64) {
        // Relaxed: the number stands for itself.
        self.deadline.store(nanoseconds, Ordering::Relaxed);
    }

    pub(crate) fn deadline(&self) -> Option<u64> {
        // Relaxed: the number stands for itself.
        Some(self.deadline.load(Ordering::Relaxed)).filter(|&deadline| deadline != 0)
    }

    pub(crate) fn set_group(&self, group: Option<Pid>) {
        // Relaxed: the number stands for itself.
        self.group.store(
            group.map_or(0, |pid| pid.as_raw_nonzero().get()),
            Ordering::Relaxed,
        );
    }

    pub(crate) fn group(&self) -> Option<Pid> {
        // Relaxed: the number stands for itself.
        Pid::from_raw(self.group.load(Ordering::Relaxed))
    }

    pub(crate) fn set_done(&self) {
        // Relaxed: the parent reads it after the child has ended, which orders the two.
        self.done.store(1, Ordering::Relaxed);
    }

    pub(crate) fn set_terminal_wanted(&self) {
        // Relaxed: the flag stands for itself.
        self.terminal_wanted.store(1, Ordering::Relaxed);
    }

    pub(crate) fn terminal_is_wanted(&self) -> bool {
        // Relaxed: the flag stands for itself.
        self.terminal_wanted.load(Ordering::Relaxed) == 1
    }

    pub(crate) fn set_terminal_given(&self, given: bool) {
        // Relaxed: the flag stands for itself.
        self.terminal_given.store(given.into(), Ordering::Relaxed);
    }

    pub(crate) fn terminal_is_given(&self) -> bool {
        // Relaxed: the flag stands for itself.
        self.terminal_given.load(Ordering::Relaxed) == 1
    }

    pub(crate) fn is_done(&self) -> bool {
        // Relaxed: see `set_done`.
        self.done.load(Ordering::Relaxed) == 1
    }
}

/// What happens to the process of the command before it executes the command.
pub(crate) struct Setup {
    /// The terminal whose foreground the command receives.
    pub(crate) terminal: Option<RawFd>,
    /// The mask with which `lease` was started.
    pub(crate) mask: Mask,
}

impl Setup {
    /// Applies the setup, and a process group of its own, to `command`.
    ///
    /// On Linux the command is killed if the calling thread ends before it.
    pub(crate) fn apply(self, command: &mut Command) {
        let parent = rustix::process::getpid();
        command.process_group(0);
        // SAFETY: the closure runs between fork and exec, so it may only call functions that are
        // async-signal-safe. Those of rustix are plain calls of the system, `pthread_sigmask` is on
        // the list, and none of them allocates.
        unsafe { command.pre_exec(move || self.before_exec(parent)) };
    }

    /// Runs in the process of the command.
    fn before_exec(&self, parent: Pid) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            // The parent may have ended before that call.
            if rustix::process::getppid() != Some(parent) {
                return Err(Errno::SRCH.into());
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (parent, Errno::SRCH);
        if let Some(terminal) = self.terminal {
            // A background process may change the foreground only with SIGTTOU blocked.
            block(&[Signal::TTOU]);
            // SAFETY: the descriptor is open, because the caller of `apply` keeps it until the
            // command has been spawned.
            let terminal = unsafe { BorrowedFd::borrow_raw(terminal) };
            // The terminal may have been hung up. The command then receives the error.
            let _ = rustix::termios::tcsetpgrp(terminal, rustix::process::getpid());
        }
        self.mask.restore();
        Ok(())
    }
}

/// Returns the id of a child that has ended, without removing it from the list of children.
pub(crate) fn peek_ended_child() -> Option<Pid> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: the pointer is valid for a write.
    let result = unsafe { libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), options) };
    if result != 0 {
        return None;
    }
    // SAFETY: all zeros are a valid value, which the call may have replaced.
    let info = unsafe { info.assume_init() };
    // SAFETY: after a success the field is the id of a child, or zero where none has ended.
    Pid::from_raw(unsafe { info.si_pid() })
}
