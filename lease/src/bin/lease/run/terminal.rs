//! The foreground of the controlling terminal, which the command receives until it ends.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::FileType;
use rustix::process::Pid;
use rustix::termios::{self, OptionalActions, Termios};

/// The controlling terminal of this process.
pub(super) struct Terminal {
    tty: File,
    /// The process group of the job that the shell started.
    job: Pid,
    /// The modes at the start, which a killed command leaves changed.
    modes: Option<Termios>,
}

impl Terminal {
    /// Opens the controlling terminal. `None`: this process has none.
    pub(super) fn open() -> Option<Terminal> {
        let tty = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOCTTY)
            .open("/dev/tty")
            .ok()?;
        Some(Terminal {
            modes: termios::tcgetattr(&tty).ok(),
            job: rustix::process::getpgrp(),
            tty,
        })
    }

    /// Returns whether the command should begin in the foreground.
    ///
    /// Not where the job is in the background. Not in a pipeline either: its other processes, for
    /// example a pager, belong to the group that would lose the foreground. There, the command
    /// receives it when the command asks for input.
    pub(super) fn suits_command(&self) -> bool {
        let is_pipe = |fd: BorrowedFd<'_>| {
            rustix::fs::fstat(fd).is_ok_and(|file| {
                let kind = FileType::from_raw_mode(file.st_mode);
                matches!(kind, FileType::Fifo | FileType::Socket)
            })
        };
        let (stdin, stdout) = (rustix::stdio::stdin(), rustix::stdio::stdout());
        self.job_has_foreground() && !is_pipe(stdin) && !is_pipe(stdout)
    }

    /// Returns whether the job that the shell started has the foreground.
    pub(super) fn job_has_foreground(&self) -> bool {
        self.foreground() == Some(self.job)
    }

    fn foreground(&self) -> Option<Pid> {
        termios::tcgetpgrp(&self.tty).ok()
    }

    /// Gives the foreground to a process group. The caller has blocked SIGTTOU.
    pub(super) fn give_to(&self, group: Pid) {
        // A terminal that was hung up has no foreground.
        let _ = termios::tcsetpgrp(&self.tty, group);
    }

    /// Returns the foreground to the job. The caller has blocked SIGTTOU.
    pub(super) fn take_back(&self) {
        self.give_to(self.job);
    }

    /// Restores the modes from before the command.
    pub(super) fn restore_modes(&self) {
        if let Some(modes) = &self.modes {
            let _ = termios::tcsetattr(&self.tty, OptionalActions::Drain, modes);
        }
    }

    pub(super) fn descriptor(&self) -> RawFd {
        self.tty.as_raw_fd()
    }
}
