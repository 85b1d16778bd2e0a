//! `lease run`: a command that runs while its lease is held.
//!
//! Two processes share the work. The *front* is the process that the shell started: it passes
//! signals on and controls the terminal. The *guard* is its child, in a process group of its own:
//! it holds the lease, renews it, and starts the command. Each survives what ends the other:
//!
//! | event | effect |
//! |---|---|
//! | the front is killed | the guard reads the end of its socket and ends the command |
//! | the front of a stopped guard is killed | on Linux, the system continues the guard |
//! | the guard is killed | the system kills the command, and the front its descendants |
//! | the front is stopped, as by Ctrl-Z | the guard continues to renew |
//! | the guard is stopped | the front kills it and the command at the end of the lease |
//! | both are stopped | both kill the command once they are continued |
//!
//! The front and the guard adopt orphans (a *subreaper* of Linux), so a descendant of the command
//! always has one of them among its ancestors, and only a parent can kill a process by its number
//! without a race.

mod front;
mod guard;
mod processes;
mod terminal;

use std::ffi::OsString;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::process::Signal;

use crate::exit::Failure;
use crate::sys::{self, Mask, Shared, Signals};

/// The arguments of `lease run`, checked.
pub(crate) struct Job {
    pub(crate) url: String,
    pub(crate) name: String,
    pub(crate) ttl: Duration,
    /// How long to wait for the lease; `None`: indefinitely.
    pub(crate) wait: Option<Duration>,
    /// The time between SIGTERM and SIGKILL.
    pub(crate) grace: Duration,
    pub(crate) keep_daemons: bool,
    pub(crate) command: OsString,
    pub(crate) args: Vec<OsString>,
}

/// The signals that are passed on to the command.
const PASSED_ON: [Signal; 9] = [
    Signal::INT,
    Signal::TERM,
    Signal::HUP,
    Signal::QUIT,
    Signal::USR1,
    Signal::USR2,
    Signal::TSTP,
    Signal::CONT,
    Signal::WINCH,
];

/// Runs the job and returns the exit code.
pub(crate) fn run(job: Job) -> Result<u8, Failure> {
    let failed = |error| Failure::own(format!("cannot prepare the command: {error}"));
    let terminal = terminal::Terminal::open();
    let shared = Shared::map().map_err(failed)?;
    let (to_guard, to_front) = UnixStream::pair().map_err(failed)?;
    // Children from before: of a shell that executed `lease` in its place.
    let inherited = processes::children().unwrap_or_default();
    adopt_orphans();
    // The two processes begin with blocked signals, so each handles those that it receives.
    let mask = Mask::block_all();
    match sys::fork().map_err(failed)? {
        None => {
            drop(to_guard);
            let code = guard::main(job, mask, shared, to_front, terminal);
            shared.set_done();
            std::process::exit(code.into())
        }
        Some(guard) => {
            drop(to_front);
            let signals = handle_signals(mask).map_err(failed)?;
            front::main(front::Front {
                guard,
                signals,
                socket: to_guard,
                shared,
                terminal,
                inherited,
            })
        }
    }
}

/// Handles all signals that matter and restores the mask of the start, except that a change of the
/// foreground from the background does not stop this process.
fn handle_signals(mask: Mask) -> std::io::Result<Signals> {
    let mut handled = PASSED_ON.to_vec();
    handled.push(Signal::CHILD);
    let signals = Signals::handle(&handled)?;
    mask.restore();
    sys::block(&[Signal::TTOU]);
    Ok(signals)
}

/// Makes this process the parent of its orphaned descendants, where the system can.
fn adopt_orphans() {
    #[cfg(target_os = "linux")]
    {
        let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    }
}
