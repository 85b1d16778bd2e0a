//! Another process whose threads are held and stepped one by one: the uses of `ptrace`, and nothing
//! more.
#![allow(unsafe_code)]

use std::arch::asm;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::ptr::null_mut;

use libc::{pid_t, user_regs_struct};

/// The report of a program at a breakpoint, in a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Marker {
    /// A thread has set itself up. Its operations begin.
    Ready = 0x1A_7C_01,
    /// An operation is over.
    Operation = 0x1A_7C_02,
}

impl Marker {
    /// Reports it. Ends the process if no tracer is attached.
    #[inline(always)]
    pub(crate) fn say(self) {
        // SAFETY: a breakpoint, which changes nothing; the tracer continues after it.
        unsafe { asm!("int3", in("rdi") self as u64, options(nostack, preserves_flags)) };
    }

    pub(crate) fn said(registers: &user_regs_struct) -> Option<Self> {
        let all = [Self::Ready, Self::Operation];
        all.into_iter()
            .find(|marker| *marker as u64 == registers.rdi)
    }
}

/// A process that ends with the value.
#[derive(Debug)]
pub(crate) struct Tracee {
    child: Child,
    memory: File,
    threads: Vec<Thread>,
}

/// A thread of a [`Tracee`]; stopped, unless a comment states that it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Thread(pid_t);

/// Keeps this process and its children on one processor: they run in turn, and to wake another
/// processor for each step would take longer than the step.
pub(crate) fn stay_on_one_processor() -> Result<(), String> {
    // SAFETY: passes no memory.
    let here = unsafe { libc::sched_getcpu() };
    // SAFETY: the structure is plain bits.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: writes to `set`, and fails the check below where there is no such processor.
    unsafe { libc::CPU_SET(here.max(0) as usize, &mut set) };
    // SAFETY: reads `set`, of the size given.
    if unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) } == -1 {
        return Err(failed("the processor to run on"));
    }
    Ok(())
}

/// Reads the system's clock that never runs backward, in nanoseconds.
pub(crate) fn nanos() -> u64 {
    // SAFETY: the structure is plain numbers.
    let mut time: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: writes to `time` only, and fails for no clock of this kind.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Reads the time-stamp counter.
pub(crate) fn ticks() -> u64 {
    // SAFETY: every processor of this architecture has the counter.
    unsafe { std::arch::x86_64::_rdtsc() }
}

fn be_traced() -> io::Result<()> {
    // SAFETY: passes no memory.
    let refused = unsafe { libc::personality(libc::ADDR_NO_RANDOMIZE as _) } == -1;
    // SAFETY: as above.
    if refused || unsafe { libc::ptrace(libc::PTRACE_TRACEME) } == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn failed(what: &str) -> String {
    format!("{what}: {}", io::Error::last_os_error())
}

impl Tracee {
    /// Starts `command`, at addresses that are the same each time, and stops it before its first
    /// instruction.
    pub(crate) fn start(mut command: Command) -> Result<Self, String> {
        // SAFETY: between fork and exec there are only two calls of the system, which allocate
        // nothing.
        unsafe { command.pre_exec(be_traced) };
        let child = command
            .spawn()
            .map_err(|error| format!("cannot be traced: {error}"))?;
        let main = Thread(child.id() as pid_t);
        let mut memory = File::options();
        let memory = memory
            .read(true)
            .write(true)
            .open(format!("/proc/{}/mem", child.id()));
        let memory = memory.map_err(|error| format!("its memory: {error}"))?;
        let tracee = Self {
            child,
            memory,
            threads: Vec::new(),
        };
        main.wait()?;
        let options = libc::PTRACE_O_TRACECLONE | libc::PTRACE_O_EXITKILL;
        main.request(libc::PTRACE_SETOPTIONS, options as usize)?;
        tracee.hide_vdso(main.registers()?.rsp)?;
        Ok(tracee)
    }

    /// Hides the functions that the system maps into the program, before the program has found
    /// them. It then reads the clock by a call of the system, which the tracer can answer.
    ///
    /// `stack` is the first stack pointer. The number of arguments is there, then the arguments,
    /// the environment and a list of pairs, each part up to a zero.
    fn hide_vdso(&self, stack: u64) -> Result<(), String> {
        let mut at = stack;
        let mut next = || {
            at += 8;
            self.long(at - 8)
        };
        next()?;
        for _ in ["arguments", "environment"] {
            while next()? != 0 {}
        }
        loop {
            let (key, _) = (next()?, next()?);
            if key == libc::AT_SYSINFO_EHDR {
                // The pair is ignored from now on.
                return self.write(at - 16, &libc::AT_IGNORE.to_le_bytes());
            }
            if key == libc::AT_NULL {
                return Ok(());
            }
        }
    }

    /// Runs the first thread until it has begun `count` others, and returns those, each held before
    /// its first instruction. The first thread continues, and is no longer traced.
    pub(crate) fn threads(&mut self, count: usize) -> Result<Vec<Thread>, String> {
        let main = Thread(self.child.id() as pid_t);
        main.request(libc::PTRACE_CONT, 0)?;
        while self.threads.len() < count {
            let status = main.wait()?;
            if status >> 8 == libc::SIGTRAP | (libc::PTRACE_EVENT_CLONE << 8) {
                let thread = Thread(main.message()? as pid_t);
                self.threads.push(thread);
                thread.wait()?;
                main.request(libc::PTRACE_CONT, 0)?;
            } else {
                main.request(libc::PTRACE_CONT, signal_of(status) as usize)?;
            }
        }
        Ok(self.threads.clone())
    }

    /// The system's report on the places of its code and data.
    pub(crate) fn maps(&self) -> Result<String, String> {
        std::fs::read_to_string(format!("/proc/{}/maps", self.child.id()))
            .map_err(|error| format!("its mappings: {error}"))
    }

    /// Reads code: up to the longest instruction.
    pub(crate) fn code(&self, address: u64) -> Result<[u8; 16], String> {
        let mut code = [0; 16];
        // A read may be short at the end of a mapping; it has one instruction at least.
        let read = self.memory.read_at(&mut code, address);
        read.map(|_| code)
            .map_err(|error| format!("code at {address:#x}: {error}"))
    }

    fn long(&self, address: u64) -> Result<u64, String> {
        let mut long = [0; 8];
        let read = self.memory.read_exact_at(&mut long, address);
        read.map(|()| u64::from_le_bytes(long))
            .map_err(|error| format!("memory at {address:#x}: {error}"))
    }

    /// Writes to its memory.
    pub(crate) fn write(&self, address: u64, bytes: &[u8]) -> Result<(), String> {
        let written = self.memory.write_all_at(bytes, address);
        written.map_err(|error| format!("memory at {address:#x}: {error}"))
    }

    /// Reads the word at which a thread requests to sleep.
    pub(crate) fn word(&self, address: u64) -> Result<u32, String> {
        let mut word = [0; 4];
        let read = self.memory.read_exact_at(&mut word, address);
        read.map(|()| u32::from_le_bytes(word))
            .map_err(|error| format!("memory at {address:#x}: {error}"))
    }
}

impl Drop for Tracee {
    fn drop(&mut self) {
        // All of it fails only where something has ended by itself.
        let _ = self.child.kill();
        // The first thread does not end before the others have been seen to end.
        while let Some(thread) = self.threads.pop() {
            while thread.wait().is_ok() {}
        }
        let _ = self.child.wait();
    }
}

/// The signal that a thread was stopped by, to be delivered; none of those that tracing itself
/// sends.
fn signal_of(status: i32) -> i32 {
    match libc::WSTOPSIG(status) {
        libc::SIGTRAP | libc::SIGSTOP => 0,
        signal => signal,
    }
}

impl Thread {
    /// Lets it run, beside the others, to its next breakpoint.
    pub(crate) fn run(self) -> Result<(), String> {
        self.request(libc::PTRACE_CONT, 0)
    }

    /// Waits until it has reached its breakpoint.
    pub(crate) fn reach_marker(self) -> Result<(), String> {
        loop {
            let status = self.wait()?;
            if libc::WSTOPSIG(status) == libc::SIGTRAP && status >> 16 == 0 {
                return Ok(());
            }
            self.request(libc::PTRACE_CONT, signal_of(status) as usize)?;
        }
    }

    /// Runs one instruction.
    pub(crate) fn step(self) -> Result<(), String> {
        loop {
            self.request(libc::PTRACE_SINGLESTEP, 0)?;
            match libc::WSTOPSIG(self.wait()?) {
                libc::SIGTRAP => return Ok(()),
                // Another process stops or continues this one: it has not moved, and is stopped
                // anyway.
                libc::SIGSTOP | libc::SIGCONT => {}
                signal => return Err(format!("stopped by signal {signal}")),
            }
        }
    }

    pub(crate) fn registers(self) -> Result<user_regs_struct, String> {
        // SAFETY: the structure is plain numbers.
        let mut registers: user_regs_struct = unsafe { std::mem::zeroed() };
        // SAFETY: the thread is stopped, and the call writes to `registers` only.
        let read = unsafe {
            libc::ptrace(
                libc::PTRACE_GETREGS,
                self.0,
                null_mut::<u8>(),
                &raw mut registers,
            )
        };
        if read == -1 {
            return Err(failed("registers"));
        }
        Ok(registers)
    }

    pub(crate) fn set_registers(self, registers: &user_regs_struct) -> Result<(), String> {
        // SAFETY: the thread is stopped, and `registers` is only read.
        let written = unsafe {
            libc::ptrace(
                libc::PTRACE_SETREGS,
                self.0,
                null_mut::<u8>(),
                &raw const *registers,
            )
        };
        if written == -1 {
            return Err(failed("registers"));
        }
        Ok(())
    }

    /// The message of an event.
    fn message(self) -> Result<u64, String> {
        let mut message = 0_u64;
        // SAFETY: the thread is stopped, and the call writes to `message` only.
        let read = unsafe {
            libc::ptrace(
                libc::PTRACE_GETEVENTMSG,
                self.0,
                null_mut::<u8>(),
                &raw mut message,
            )
        };
        if read == -1 {
            return Err(failed("an event"));
        }
        Ok(message)
    }

    fn request(self, request: libc::c_uint, data: usize) -> Result<(), String> {
        // SAFETY: the thread is stopped, and these requests pass a number and no memory.
        let done = unsafe { libc::ptrace(request, self.0, null_mut::<u8>(), data) };
        if done == -1 {
            return Err(failed("ptrace"));
        }
        Ok(())
    }

    /// Waits until it has stopped.
    fn wait(self) -> Result<i32, String> {
        let mut status = 0;
        // SAFETY: the call writes to `status` only.
        while unsafe { libc::waitpid(self.0, &raw mut status, libc::__WALL) } != self.0 {
            if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                return Err(failed("waitpid"));
            }
        }
        if libc::WIFSTOPPED(status) {
            Ok(status)
        } else {
            Err(format!("ended with status {status:#x}"))
        }
    }
}
