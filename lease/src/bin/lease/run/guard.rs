//! The guard: the process that holds the lease, starts the command and ends it in time.

use std::future::Future;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::pin::pin;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use latchwork_lease::{AcquireError, AcquireOptions, Lease, Leases, LossReason, Release};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, WaitOptions, kill_process,
    kill_process_group, wait, waitid, waitpid,
};

use super::terminal::Terminal;
use super::{Job, adopt_orphans, handle_signals, processes};
use crate::clock;
use crate::exit::{self, Failure};
use crate::sys::{self, Mask, Setup, Shared, Signals};
use crate::url;

/// The interval of the checks whether processes that were signalled have ended.
const ENDING_TICK: Duration = Duration::from_millis(10);

/// The time within which a cancelled acquisition releases a lease that it was granted.
const CANCEL: Duration = Duration::from_secs(3);

/// How long the guard tries to kill processes that it may not kill, or that the system is slow to
/// end.
const STUBBORN: Duration = Duration::from_secs(5);

/// Performs the job in the child of a fork, and returns the exit code.
pub(super) fn main(
    job: Job,
    mask: Mask,
    shared: &'static Shared,
    socket: UnixStream,
    terminal: Option<Terminal>,
) -> u8 {
    // The job of the shell may be stopped. The guard is not part of it.
    let _ = rustix::process::setpgid(None, None);
    adopt_orphans();
    #[cfg(target_os = "linux")]
    {
        // `killall lease` ends the front only, and the guard then ends the command.
        let _ = rustix::thread::set_name(c"lease-guard");
        // The front ends a guard that is stopped. If the front itself is killed, the guard must
        // continue, in order to end the command.
        let _ = rustix::process::set_parent_process_death_signal(Some(Signal::CONT));
    }
    let failed = |error| Failure::own(format!("cannot prepare the command: {error}"));
    let prepared = Guard::new(job, mask, shared, socket, terminal);
    let prepared = prepared.map_err(|error| Ended::Failure(failed(error)));
    let result = prepared.and_then(|mut guard| guard.perform());
    match result {
        Ok(code) => code,
        Err(Ended::Signal(signal)) => 128 + signal.as_raw() as u8,
        Err(Ended::Failure(failure)) => {
            eprintln!("lease: {failure}");
            failure.code
        }
    }
}

/// The end of a job that is not the end of its command.
enum Ended {
    /// A signal arrived before the command was started.
    Signal(Signal),
    Failure(Failure),
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Ended {
        Ended::Failure(failure)
    }
}

struct Guard {
    job: Job,
    mask: Mask,
    shared: &'static Shared,
    socket: UnixStream,
    terminal: Option<Terminal>,
    front: Option<Pid>,
    signals: Signals,
    /// Readable after a thread called [`Alarm::ring`].
    alarm: OwnedFd,
    alarm_to: Alarm,
    front_is_gone: bool,
    /// Whether the front was asked to stop and has not been continued since.
    front_is_stopped: bool,
}

/// Wakes the guard's main thread.
#[derive(Clone)]
struct Alarm(Arc<OwnedFd>);

impl Alarm {
    fn ring(&self) {
        // A full pipe is readable already.
        let _ = rustix::io::write(&*self.0, &[1]);
    }
}

/// Why the processes of the command are being ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// The lease is lost, or cannot be expected to be renewed.
    Lost,
    FrontIsGone,
    /// The command has ended and has left processes behind.
    Remains,
}

struct Ending {
    reason: Reason,
    kill_at: Instant,
}

impl Guard {
    fn new(
        job: Job,
        mask: Mask,
        shared: &'static Shared,
        socket: UnixStream,
        terminal: Option<Terminal>,
    ) -> std::io::Result<Guard> {
        let signals = handle_signals(mask)?;
        let (alarm, alarm_to) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        socket.set_nonblocking(true)?;
        Ok(Guard {
            job,
            mask,
            shared,
            socket,
            terminal,
            front: rustix::process::getppid(),
            signals,
            alarm,
            alarm_to: Alarm(Arc::new(alarm_to)),
            front_is_gone: false,
            front_is_stopped: false,
        })
    }

    fn perform(&mut self) -> Result<u8, Ended> {
        let (leases, lease) = self.acquire()?;
        let alarm = self.alarm_to.clone();
        lease.on_lost(move |_| alarm.ring());
        let result = match self.start(&lease) {
            Ok(command) => self.supervise(&lease, command),
            Err(failure) => Err(failure),
        };
        self.shared.set_deadline(0);
        let was_held = lease.is_held();
        let released = lease.release();
        let code = result?;
        match released {
            Ok(Release::Done) => {}
            Ok(_) => {
                if was_held || code != exit::LOST {
                    return Err(self.lost("it was broken or expired").into());
                }
            }
            Err(error) => eprintln!("lease: warning: {}", exit::one_line(&error.to_string())),
        }
        drop(leases);
        Ok(code)
    }

    fn lost(&self, how: &str) -> Failure {
        let name = &self.job.name;
        Failure::new(exit::LOST, format!("the lease {name:?} was lost: {how}"))
    }

    /// Waits for the lease. A signal ends the wait and leaves nothing behind.
    fn acquire(&mut self) -> Result<(Leases, Lease), Ended> {
        let request = Request {
            url: self.job.url.clone(),
            name: self.job.name.clone(),
            ttl: self.job.ttl,
            grace: self.job.grace,
            wait: self.job.wait,
        };
        let (sender, receiver) = mpsc::channel();
        let cancelled = Arc::new(AtomicBool::new(false));
        let (alarm, flag) = (self.alarm_to.clone(), cancelled.clone());
        let worker = thread::spawn(move || {
            let result = acquire(&request, &flag);
            // If the receiver was dropped, the lease is dropped here, which releases it.
            let _ = sender.send(result);
            alarm.ring();
        });
        let mut is_stopped = false;
        let mut acquired = None;
        loop {
            let arrived = self.wait(None);
            let mut interrupted = None;
            for signal in arrived {
                match signal {
                    Signal::TSTP => {
                        is_stopped = true;
                        self.stop_front(signal);
                    }
                    Signal::CONT => {
                        is_stopped = false;
                        self.front_is_stopped = false;
                    }
                    Signal::CHILD | Signal::WINCH => {}
                    other => interrupted = interrupted.or(Some(other)),
                }
            }
            if self.front_is_gone {
                interrupted = Some(Signal::HUP);
            }
            if let Some(signal) = interrupted {
                // Release: pairs with the Acquire of `block_on`; the worker is woken after it.
                cancelled.store(true, Ordering::Release);
                worker.thread().unpark();
                // The worker withdraws its request, unless the lease was granted before. An engine
                // that hangs delays the end no longer than this: without a renewal the lease ends.
                let granted = acquired.or_else(|| receiver.recv_timeout(CANCEL).ok()?.ok());
                if let Some((leases, lease)) = granted {
                    drop::<Lease>(lease);
                    // Waits for the release. One that fails leaves a lease that ends soon.
                    let _ = Leases::shutdown(&leases, CANCEL);
                }
                return Err(Ended::Signal(signal));
            }
            if let Ok(result) = receiver.try_recv() {
                acquired = Some(result?);
            }
            // A job that the user has stopped does not start a command.
            if !is_stopped {
                if let Some(acquired) = acquired {
                    return Ok(acquired);
                }
            }
        }
    }

    /// Starts the command and returns its process.
    fn start(&mut self, lease: &Lease) -> Result<Pid, Ended> {
        // The front enforces the end of the lease from before the command begins. It waits without
        // a time limit until then, and the byte, which is no signal, wakes it.
        self.shared.set_deadline(clock::at(lease.deadline()));
        let _ = self.socket.write(&[0]);
        let job = &self.job;
        let mut command = Command::new(&job.command);
        command
            .args(&job.args)
            .env("LEASE_NAME", &job.name)
            .env("LEASE_TOKEN", lease.token().get().to_string())
            .env("LEASE_NONCE", format!("{:032x}", lease.fence().nonce))
            .env_remove(url::VARIABLE)
            .env_remove(url::NEW_VARIABLE);
        // The terminal may have changed hands during the wait for the lease.
        let terminal = self.terminal.as_ref().filter(|tty| tty.suits_command());
        if terminal.is_some() {
            self.shared.set_terminal_wanted();
            self.shared.set_terminal_given(true);
        }
        Setup {
            terminal: terminal.map(Terminal::descriptor),
            mask: self.mask,
        }
        .apply(&mut command);
        if !lease.is_held() {
            return Err(self.lost("before the command started").into());
        }
        let child = command.spawn().map_err(|error| {
            if error.kind() == std::io::ErrorKind::NotFound {
                url::not_found(&job.command)
            } else {
                let name = Path::new(&job.command).display();
                let text = format!("cannot execute {name}: {error}");
                Failure::new(exit::NOT_EXECUTABLE, text)
            }
        })?;
        let command = Pid::from_child(&child);
        self.shared.set_group(Some(command));
        Ok(command)
    }

    /// Returns the exit code after the command and all that it started have ended.
    ///
    /// The process of the command is not waited for before: as long as it exists, even ended, its
    /// number cannot become that of another group.
    fn supervise(&mut self, lease: &Lease, command: Pid) -> Result<u8, Ended> {
        let grace = self.job.grace;
        let mut deadline = lease.deadline();
        let mut ending: Option<Ending> = None;
        let mut has_ended = false;
        let mut loss = None;
        loop {
            // Phase 1: the state of the lease and of the command.
            let is_held = lease.is_held();
            if is_held {
                deadline = lease.deadline();
            }
            self.shared.set_deadline(clock::at(deadline));
            let now = Instant::now();
            has_ended |= self.reap(command);

            // Phase 2: whether the processes must end, and by when.
            if has_ended && ending.is_none() && self.remaining(command).is_empty() {
                break;
            }
            let lost = !is_held || now + grace >= deadline;
            let reason = match (&ending, lost, self.front_is_gone) {
                (Some(Ending { reason, .. }), true, _) if *reason != Reason::Lost => {
                    Some(Reason::Lost)
                }
                (Some(_), ..) => None,
                (None, true, _) => Some(Reason::Lost),
                (None, _, true) => Some(Reason::FrontIsGone),
                (None, ..) => has_ended.then_some(Reason::Remains),
            };
            if let Some(reason) = reason {
                if reason == Reason::Lost && loss.is_none() {
                    loss = lease.wait_lost_for(Duration::ZERO);
                }
                let sooner = ending.as_ref().map(|ending| ending.kill_at);
                let kill_at = deadline.min(now + grace);
                ending = Some(Ending {
                    reason,
                    kill_at: sooner.map_or(kill_at, |sooner| sooner.min(kill_at)),
                });
                self.terminate(command);
            }

            // Phase 3: what did not end in time is killed.
            if let Some(ending) = &ending {
                if has_ended && self.remaining(command).is_empty() {
                    break;
                }
                if now >= ending.kill_at {
                    self.kill(command);
                    if now > ending.kill_at + STUBBORN {
                        eprintln!("lease: warning: some processes of the command cannot be killed");
                        break;
                    }
                }
            }

            // Phase 4: wait for the next event, and pass signals on.
            let next = match &ending {
                Some(ending) if now < ending.kill_at => {
                    ENDING_TICK.min(ending.kill_at.saturating_duration_since(now))
                }
                Some(_) => Duration::from_millis(2),
                // A third of the margin, so that the front sees each renewal in time.
                None => deadline
                    .checked_sub(grace)
                    .map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
                    .min(self.job.ttl / 10),
            };
            for signal in self.wait(Some(next)) {
                self.deliver(command, signal);
            }
        }

        if processes::all().is_none() {
            // The rest of the group is unknown, so the guard does not wait for it.
            let _ = kill_process_group(command, Signal::TERM);
        }
        let status = waitid(
            WaitId::Pid(command),
            WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
        );
        self.shared.set_group(None);
        // Orphans that have ended. The first process of a container may not remove them.
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        let was_lost = ending.is_some_and(|ending| ending.reason == Reason::Lost);
        if was_lost || !lease.is_held() {
            let reason = loss.or_else(|| lease.wait_lost_for(Duration::ZERO));
            let how = match reason {
                Some(LossReason::Expired) | None => "it was not renewed in time",
                Some(LossReason::TakenAway) => "it was broken, or expired at the engine",
                Some(_) => "it was released",
            };
            eprintln!("lease: {}; the command was ended", self.lost(how));
            return Ok(exit::LOST);
        }
        Ok(code_of(status.ok().flatten()))
    }

    /// Waits for an event, and returns the signals that have arrived or were passed on.
    fn wait(&mut self, timeout: Option<Duration>) -> Vec<Signal> {
        let timeout = timeout.and_then(|timeout| timeout.try_into().ok());
        let mut fds = vec![
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::new(&self.alarm, PollFlags::IN),
        ];
        if !self.front_is_gone {
            fds.push(PollFd::new(&self.socket, PollFlags::IN));
        }
        // An interrupted call is followed by the signal that interrupted it.
        let _ = poll(&mut fds, timeout.as_ref());
        let mut bytes = [0; 64];
        while let Ok(1..) = rustix::io::read(&self.alarm, &mut bytes) {}
        let mut arrived = self.signals.arrived();
        loop {
            match self.socket.read(&mut bytes) {
                Ok(0) => {
                    self.front_is_gone = true;
                    break;
                }
                Ok(count) => {
                    arrived.extend(bytes[..count].iter().filter_map(|&b| sys::signal_of(b)));
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.front_is_gone = true;
                    break;
                }
            }
        }
        arrived
    }

    /// Passes a signal on to the command.
    fn deliver(&mut self, command: Pid, signal: Signal) {
        // Each call fails only if there is nothing left to receive the signal.
        match signal {
            Signal::CHILD => {}
            // These have a meaning for a program, and would end those that give them none.
            Signal::USR1 | Signal::USR2 | Signal::WINCH => {
                let _ = kill_process(command, signal);
            }
            _ => {
                if signal == Signal::CONT {
                    self.front_is_stopped = false;
                }
                let _ = kill_process_group(command, signal);
            }
        }
    }

    /// Asks the front to stop, so that the shell sees its job stop.
    fn stop_front(&mut self, signal: Signal) {
        self.front_is_stopped = true;
        let _ = self.socket.write(&[signal.as_raw() as u8]);
    }

    /// Removes orphans that have ended, reports stops to the front, and returns whether the command
    /// has ended.
    fn reap(&mut self, command: Pid) -> bool {
        let changes = WaitIdOptions::STOPPED | WaitIdOptions::CONTINUED | WaitIdOptions::NOHANG;
        while let Ok(Some(status)) = waitid(WaitId::Pid(command), changes) {
            match status.stopping_signal().and_then(Signal::from_named_raw) {
                // Only a terminal's stop is one of the job.
                Some(signal @ (Signal::TSTP | Signal::TTIN | Signal::TTOU)) => {
                    self.stop_front(signal);
                }
                Some(_) => {}
                None if status.continued() && self.front_is_stopped => {
                    self.front_is_stopped = false;
                    // The front is the parent, so the number is still its own.
                    if self.front == rustix::process::getppid() {
                        if let Some(front) = self.front {
                            let _ = kill_process(front, Signal::CONT);
                        }
                    }
                }
                None => {}
            }
        }
        while let Some(ended) = sys::peek_ended_child() {
            if ended == command {
                return true;
            }
            let _ = waitpid(Some(ended), WaitOptions::NOHANG);
        }
        false
    }

    /// Returns the processes that the lease covers and that have not ended, without the command's
    /// own process once that has ended.
    fn remaining(&self, command: Pid) -> Vec<Pid> {
        let own = Some(rustix::process::getpid());
        let Some(processes) = processes::all() else {
            return Vec::new();
        };
        let covered = processes.into_iter().filter(|process| {
            process.group == Some(command) || (process.parent == own && !self.job.keep_daemons)
        });
        covered.map(|process| process.id).collect()
    }

    /// Asks all processes to end.
    fn terminate(&self, command: Pid) {
        self.signal_all(command, Signal::TERM);
        // A stopped process ends only after it is continued.
        self.signal_all(command, Signal::CONT);
    }

    fn kill(&mut self, command: Pid) {
        self.signal_all(command, Signal::KILL);
        // The orphans of those that were killed are children of the guard, and are found again.
        self.reap(command);
    }

    /// Sends a signal to the group of the command, and to those of its daemons that are children of
    /// the guard. The number of a child cannot be another process's before the guard reaps it.
    fn signal_all(&self, command: Pid, signal: Signal) {
        let _ = kill_process_group(command, signal);
        if !self.job.keep_daemons {
            for child in processes::children().unwrap_or_default() {
                if child != command {
                    let _ = kill_process(child, signal);
                }
            }
        }
    }
}

fn code_of(status: Option<WaitIdStatus>) -> u8 {
    let Some(status) = status else {
        return exit::FAILED;
    };
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code as u8,
        (None, Some(signal)) => 128 + signal as u8,
        (None, None) => exit::FAILED,
    }
}

/// Wakes a thread that polls a future.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Completes a future on this thread, or drops it once it is cancelled and the thread unparked.
fn block_on<T>(future: impl Future<Output = T>, cancelled: &AtomicBool) -> Option<T> {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        // Acquire: pairs with the Release of the thread that cancels.
        if cancelled.load(Ordering::Acquire) {
            return None;
        }
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(result) => return Some(result),
            Poll::Pending => thread::park(),
        }
    }
}

/// The arguments of the thread that waits for the lease.
struct Request {
    url: String,
    name: String,
    ttl: Duration,
    grace: Duration,
    wait: Option<Duration>,
}

/// Acquires the lease, or withdraws the request once it is cancelled.
fn acquire(job: &Request, cancelled: &AtomicBool) -> Result<(Leases, Lease), Failure> {
    // The command is ended a grace before the end of the lease. So the lease is renewed after a
    // third of the time until then, which leaves two thirds for an outage.
    let renew_at = job.ttl.saturating_sub(job.grace).as_secs_f64() / job.ttl.as_secs_f64() / 3.0;
    let start = Instant::now();
    let leases = Leases::builder()
        .renew_at(renew_at)
        .connect(&job.url)
        .map_err(|error| crate::connect_failure(&error))?;
    let mut options = AcquireOptions::new(job.ttl);
    // The time of the connection counts. At least one request follows.
    options.give_up_after = job.wait.map(|wait| wait.saturating_sub(start.elapsed()));
    let result = block_on(leases.acquire_with_async(&job.name, &options), cancelled);
    if !matches!(result, Some(Ok(_))) {
        // A request that was withdrawn must leave the queue of the engine before this process ends.
        let _ = leases.shutdown(CANCEL);
    }
    match result {
        Some(Ok(lease)) => Ok((leases, lease)),
        Some(Err(AcquireError::GaveUp)) => {
            let name = &job.name;
            Err(Failure::new(
                exit::BUSY,
                format!("the lease {name:?} is held by another"),
            ))
        }
        Some(Err(error)) => Err(crate::acquire_failure(&error)),
        None => Err(Failure::own("cancelled")),
    }
}
