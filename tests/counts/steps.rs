//! Runs a closure one instruction at a time and counts what it executes.
//!
//! The closure runs in a forked child, which this thread traces with ptrace, between two breakpoint
//! instructions: what is counted is what the processor ran, in libraries too.

use std::arch::asm;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::ptr::null_mut;

use crate::decode::{Class, classify};

/// More than any closure here runs: one that comes so far is stuck.
const MOST: u64 = 1_000_000;
/// The child's status if it may not be traced.
const REFUSED: i32 = 97;
const BREAKPOINT: u8 = 0xCC;

/// What one call executed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Steps {
    pub(crate) instructions: u64,
    /// Atomic read-modify-writes.
    pub(crate) rmws: u64,
    pub(crate) fences: u64,
}

impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            instructions,
            rmws,
            fences,
        } = self;
        write!(
            f,
            "{rmws:>3} RMWs {fences:>2} fences {instructions:>6} instructions"
        )
    }
}

/// Counts one call of `f`, after one that is not counted.
///
/// `f` must not allocate nor lock anything that another thread of this process may hold: in the
/// child there are no other threads to let go of it.
pub(crate) fn steps(f: impl Fn()) -> Steps {
    f();
    // SAFETY: the child runs `f`, which the caller promises needs no other thread, and ends.
    let child = unsafe { libc::fork() };
    match child {
        -1 => panic!("cannot count: fork: {}", io::Error::last_os_error()),
        0 => run_traced(f),
        _ => {
            let counted = follow(child);
            // SAFETY: no memory is passed; the child is ours and not yet waited for.
            unsafe { libc::kill(child, libc::SIGKILL) };
            let _ = wait(child);
            counted.unwrap_or_else(|cause| {
                panic!("cannot count instructions, so nothing is known about them: {cause}")
            })
        }
    }
}

/// The child.
fn run_traced(f: impl Fn()) -> ! {
    // SAFETY: no memory is passed.
    if unsafe { libc::ptrace(libc::PTRACE_TRACEME) } == -1 {
        // SAFETY: ends the process without running what belongs to the parent.
        unsafe { libc::_exit(REFUSED) };
    }
    // SAFETY: the tracer expects a breakpoint here, and changes nothing.
    unsafe { asm!("int3") };
    f();
    // SAFETY: the tracer expects a breakpoint here, and ends the process.
    unsafe { asm!("int3") };
    // SAFETY: as above; comes this far only if nobody traces.
    unsafe { libc::_exit(0) }
}

/// Follows the child from its first breakpoint to its second.
fn follow(child: libc::pid_t) -> Result<Steps, String> {
    match wait(child)? {
        Stop::Trap => {}
        Stop::Exit(REFUSED) => return Err("ptrace is not permitted here".into()),
        stop => {
            return Err(format!(
                "the child did not reach its first breakpoint: {stop:?}"
            ));
        }
    }
    let memory = File::open(format!("/proc/{child}/mem"))
        .map_err(|error| format!("the child's memory: {error}"))?;
    let mut steps = Steps::default();
    while steps.instructions < MOST {
        let mut code = [0; 16];
        // A read may be short at the end of a mapping; it has one instruction at least.
        memory
            .read_at(&mut code, instruction_pointer(child)?)
            .map_err(|error| format!("the child's code: {error}"))?;
        if code[0] == BREAKPOINT {
            return Ok(steps);
        }
        steps.instructions += 1;
        match classify(&code) {
            Class::Rmw => steps.rmws += 1,
            Class::Fence => steps.fences += 1,
            Class::Other => {}
        }
        // SAFETY: the child is stopped; no memory is passed.
        let stepped = unsafe {
            libc::ptrace(
                libc::PTRACE_SINGLESTEP,
                child,
                null_mut::<u8>(),
                null_mut::<u8>(),
            )
        };
        if stepped == -1 {
            return Err(format!("a single step: {}", io::Error::last_os_error()));
        }
        match wait(child)? {
            Stop::Trap => {}
            stop => return Err(format!("after {steps}: {stop:?}")),
        }
    }
    Err(format!("no end after {steps}"))
}

fn instruction_pointer(child: libc::pid_t) -> Result<u64, String> {
    // SAFETY: the structure is plain numbers.
    let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
    // SAFETY: the child is stopped, and `registers` is what the call writes to.
    let read = unsafe {
        libc::ptrace(
            libc::PTRACE_GETREGS,
            child,
            null_mut::<u8>(),
            &raw mut registers,
        )
    };
    if read == -1 {
        return Err(format!(
            "the child's registers: {}",
            io::Error::last_os_error()
        ));
    }
    Ok(registers.rip)
}

#[derive(Debug)]
enum Stop {
    /// At a breakpoint or after a step.
    Trap,
    Signal(#[expect(dead_code, reason = "printed")] i32),
    Exit(i32),
}

fn wait(child: libc::pid_t) -> Result<Stop, String> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is what the call writes to.
        if unsafe { libc::waitpid(child, &raw mut status, 0) } == child {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(format!("waitpid: {error}"));
        }
    }
    Ok(if libc::WIFSTOPPED(status) {
        match libc::WSTOPSIG(status) {
            libc::SIGTRAP => Stop::Trap,
            signal => Stop::Signal(signal),
        }
    } else if libc::WIFSIGNALED(status) {
        Stop::Signal(libc::WTERMSIG(status))
    } else {
        Stop::Exit(libc::WEXITSTATUS(status))
    })
}
