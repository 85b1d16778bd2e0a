//! The front: the process that the shell started. It passes signals on, controls the terminal, and
//! kills a guard that does not react at the end of the lease.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, waitpid};

use super::processes;
use super::terminal::Terminal;
use crate::clock;
use crate::exit::{self, Failure};
use crate::sys::{self, Shared, Signals};

/// The time after the end of the lease within which a guard must have killed the command.
const REACTION: Duration = Duration::from_millis(50);

/// How long the front tries to end processes that it may not kill, or that the system is slow to
/// end.
const STUBBORN: Duration = Duration::from_secs(5);

pub(super) struct Front {
    pub(super) guard: Pid,
    pub(super) signals: Signals,
    pub(super) socket: UnixStream,
    pub(super) shared: &'static Shared,
    pub(super) terminal: Option<Terminal>,
    /// Children that this process had before, which are not the command's.
    pub(super) inherited: Vec<Pid>,
}

/// Returns the exit code once the guard has ended.
pub(super) fn main(mut front: Front) -> Result<u8, Failure> {
    let result = front.follow();
    if let Some(terminal) = &front.terminal {
        if front.shared.terminal_is_given() {
            terminal.take_back();
        }
        // A command that was killed had no chance to restore them.
        if !matches!(result, Ok(0)) && terminal.job_has_foreground() {
            terminal.restore_modes();
        }
    }
    result
}

impl Front {
    fn follow(&mut self) -> Result<u8, Failure> {
        self.socket
            .set_nonblocking(true)
            .map_err(|error| Failure::own(format!("cannot watch the command: {error}")))?;
        loop {
            self.wait();
            for signal in self.signals.arrived() {
                match signal {
                    Signal::CHILD => {}
                    Signal::CONT => self.continue_command(),
                    other => self.pass_on(other),
                }
            }
            let mut bytes = [0; 16];
            if let Ok(count) = self.socket.read(&mut bytes) {
                for signal in bytes[..count]
                    .iter()
                    .filter_map(|&byte| sys::signal_of(byte))
                {
                    self.command_stopped(signal);
                }
            }
            if let Ok(Some((_, status))) = waitpid(Some(self.guard), WaitOptions::NOHANG) {
                return self.guard_ended(status);
            }
            if self.is_overdue() {
                return Err(self.end_guard());
            }
        }
    }

    /// Blocks until a signal or a message arrives, or the lease has ended.
    fn wait(&self) {
        let left = self
            .shared
            .deadline()
            .map(|deadline| (clock::until(deadline) + REACTION).max(Duration::from_millis(1)));
        let timeout = left.and_then(|left| left.try_into().ok());
        let mut fds = [
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::new(&self.socket, PollFlags::IN),
        ];
        // The guard has ended: only the signal of its end is of interest. It is polled for where
        // the signal was delivered before.
        let _ = poll(&mut fds, timeout.as_ref());
        if fds[1].revents().contains(PollFlags::HUP) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn pass_on(&mut self, signal: Signal) {
        // A full socket means that the guard is stopped and has enough to do.
        let _ = self.socket.write(&[signal.as_raw() as u8]);
        // A guard that waits for the lease has no deadline at which this process would end it.
        let ends = [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT].contains(&signal);
        if ends && self.shared.group().is_none() {
            let _ = kill_process(self.guard, Signal::CONT);
        }
    }

    /// The command was stopped by `signal`: by the terminal, or because it used the terminal from
    /// the background.
    fn command_stopped(&mut self, signal: Signal) {
        let asks_for_terminal = matches!(signal, Signal::TTIN | Signal::TTOU);
        if let Some(terminal) = &self.terminal {
            if asks_for_terminal && terminal.job_has_foreground() {
                self.shared.set_terminal_wanted();
                self.continue_command();
                return;
            }
            // The shell sees the job stop, as it would see the command itself stop.
            if self.shared.terminal_is_given() {
                terminal.take_back();
                self.shared.set_terminal_given(false);
            }
        }
        if asks_for_terminal {
            self.shared.set_terminal_wanted();
        }
        let _ = sys::suspend_group(signal);
        // The shell has continued the job, or there is none that could.
        self.continue_command();
    }

    /// Continues the command: in the foreground if the job has it and the command uses it.
    fn continue_command(&mut self) {
        if let (Some(terminal), Some(group)) = (&self.terminal, self.shared.group()) {
            if self.shared.terminal_is_wanted() && terminal.job_has_foreground() {
                terminal.give_to(group);
                self.shared.set_terminal_given(true);
            }
        }
        self.pass_on(Signal::CONT);
    }

    fn is_overdue(&self) -> bool {
        let reaction = REACTION.as_nanos() as u64;
        self.shared
            .deadline()
            .is_some_and(|deadline| clock::now() > deadline.saturating_add(reaction))
    }

    /// Kills a guard that is stopped or stuck at the end of the lease, and all that it guarded.
    fn end_guard(&mut self) -> Failure {
        let _ = kill_process(self.guard, Signal::KILL);
        let _ = waitpid(Some(self.guard), WaitOptions::empty());
        self.end_orphans();
        Failure::new(
            exit::LOST,
            "the lease has ended, and the process that renewed it did not react; \
             the command was killed",
        )
    }

    fn guard_ended(&mut self, status: WaitStatus) -> Result<u8, Failure> {
        if let (true, Some(code)) = (self.shared.is_done(), status.exit_status()) {
            return Ok(code as u8);
        }
        self.end_orphans();
        Err(Failure::own(
            "the process that renewed the lease was killed; the command was killed",
        ))
    }

    /// Kills all descendants of a guard that has ended: they are children of this process now, or
    /// become so when their parents end.
    fn end_orphans(&mut self) {
        let started = Instant::now();
        loop {
            let children = match processes::children() {
                Some(children) => children,
                None => {
                    // The system has no list, and adopts no orphans: only the group is known.
                    if let Some(group) = self.shared.group() {
                        let _ = rustix::process::kill_process_group(group, Signal::KILL);
                    }
                    return;
                }
            };
            let mut left = false;
            for child in children {
                if !self.inherited.contains(&child) {
                    left = true;
                    let _ = kill_process(child, Signal::KILL);
                    let _ = waitpid(Some(child), WaitOptions::NOHANG);
                }
            }
            if !left || started.elapsed() > STUBBORN {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
