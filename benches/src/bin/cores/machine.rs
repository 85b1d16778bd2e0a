//! Virtual cores: the threads of a program, stepped one instruction at a time, the one with the
//! earliest clock first.
//!
//! The compiled program runs with all its libraries. Only calls that would make a thread sleep do
//! not reach the system, because the next thread to run would be unknown then: futexes are emulated
//! here. So are the time-stamp counter and the system's clock: both run by the clock of the core
//! that reads them. The tracer needs the time of thousands of instructions for one step, so a
//! program that does something once in some microseconds would do it all the time.

use std::collections::{HashMap, HashSet, VecDeque};
use std::process::Command;

use libc::user_regs_struct;

use crate::blame::Blame;
use crate::coherence::{Access, Lines, Traffic, cost};
use crate::decode::{Decoded, Kind};
use crate::tracee::{Marker, Thread, Tracee, nanos, ticks};

/// How much of a program is run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) cores: usize,
    /// Instructions, and waits for lines, of all cores together. The operations that end in the
    /// first third are not counted.
    pub(crate) steps: u64,
    /// Operations that must be counted: a run continues until then, but not for more than
    /// [`PATIENCE`] times the steps.
    pub(crate) operations: u64,
    /// Whether to report which code misses.
    pub(crate) blame: bool,
}

/// What happened while operations were counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) operations: u64,
    pub(crate) instructions: u64,
    pub(crate) rmws: u64,
    pub(crate) fences: u64,
    pub(crate) sleeps: u64,
    pub(crate) shared_lines_written: u64,
    pub(crate) traffic: Traffic,
}

/// The counts of a program.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) counts: Counts,
    pub(crate) blame: Option<Blame>,
    /// Where its code lies.
    pub(crate) maps: String,
}

const PATIENCE: u64 = 4;

/// The most steps of any run.
const MOST_STEPS: u64 = 1 << 25;

/// The cycles after a program first reads the system's clock in which nothing is counted. All cores
/// find then that much time has passed since their previous readings, and a structure that frees
/// memory once in 26 microseconds reaches the amount that it keeps.
const SETTLED: u64 = 3 * 26 * cost::CYCLES_PER_MICROSECOND;

/// The cycles that are counted of a program that reads the system's clock, at least: such a program
/// does something once in 20 microseconds, or in 26 on 64 cores.
const LASTING: u64 = 2 * 26 * cost::CYCLES_PER_MICROSECOND;

#[derive(Debug)]
struct Core {
    thread: Thread,
    clock: u64,
    registers: user_regs_struct,
    /// The lines of the next instruction are booked, and here at `clock`.
    booked: bool,
    /// In a queue of a futex.
    asleep: bool,
    /// The writes of the current operation.
    written: HashSet<u64>,
}

/// A waiter of a futex: whose it is, for which wake-ups, and whether it would wake by itself in
/// time.
#[derive(Clone, Copy, Debug)]
struct Sleeper {
    core: usize,
    bits: u32,
    timed: bool,
}

#[derive(Debug)]
struct Machine {
    tracee: Tracee,
    cores: Vec<Core>,
    code: HashMap<u64, Decoded>,
    lines: Lines,
    blame: Option<Blame>,
    futexes: HashMap<u64, VecDeque<Sleeper>>,
    /// The time-stamp counter when the clocks of all cores were 0.
    began: u64,
    /// The system's clock at that time, in nanoseconds.
    began_nanos: u64,
    /// The clock of the core whose turn was the last.
    now: u64,
    /// The clock of the core that read the system's clock first.
    first_read: Option<u64>,
    counting: bool,
    counts: Counts,
}

/// Runs a program that makes `plan.cores` threads. Each reports [`Marker::Ready`] once and
/// [`Marker::Operation`] after each operation, indefinitely.
pub(crate) fn run(program: Command, plan: Plan) -> Result<Run, String> {
    let mut tracee = Tracee::start(program)?;
    let threads = tracee.threads(plan.cores)?;
    let mut cores = Vec::new();
    // All at once: they set up what they share as threads that run beside each other do.
    for thread in &threads {
        thread.run()?;
    }
    for thread in threads {
        thread.reach_marker()?;
        let registers = thread.registers()?;
        if Marker::said(&registers) != Some(Marker::Ready) {
            return Err("a breakpoint that is none of ours".to_owned());
        }
        cores.push(Core {
            thread,
            clock: 0,
            registers,
            booked: false,
            asleep: false,
            written: HashSet::new(),
        });
    }
    let mut machine = Machine {
        tracee,
        cores,
        code: HashMap::new(),
        lines: Lines::default(),
        blame: plan.blame.then(Blame::default),
        futexes: HashMap::new(),
        began: ticks(),
        began_nanos: nanos(),
        now: 0,
        first_read: None,
        counting: false,
        counts: Counts::default(),
    };
    for step in 0..MOST_STEPS {
        let is_long = step >= plan.steps && machine.counts.operations >= plan.operations;
        let (begins, ends) = match machine.first_read {
            None => (
                step == plan.steps / 3,
                is_long || step >= PATIENCE * plan.steps,
            ),
            Some(first) => {
                let passed = machine.now.saturating_sub(first);
                let begins = !machine.counting && passed >= SETTLED;
                (begins, is_long && passed >= SETTLED + LASTING)
            }
        };
        if ends {
            break;
        }
        if begins {
            machine.count();
        }
        machine.turn()?;
    }
    let counts = Counts {
        shared_lines_written: machine.lines.shared_lines_written(),
        traffic: machine.lines.traffic,
        ..machine.counts
    };
    let maps = machine.tracee.maps()?;
    Ok(Run {
        counts,
        blame: machine.blame,
        maps,
    })
}

/// Whether a call of the system reads the clock that never runs backward.
fn reads_clock(registers: &user_regs_struct) -> bool {
    let clock = registers.rdi as libc::clockid_t;
    registers.rax as i64 == libc::SYS_clock_gettime && clock == libc::CLOCK_MONOTONIC
}

/// A time as the system writes it: seconds and nanoseconds.
fn timespec(nanos: u64) -> [u8; 16] {
    let [seconds, nanos] = [nanos / 1_000_000_000, nanos % 1_000_000_000];
    (u128::from(seconds) | u128::from(nanos) << 64).to_le_bytes()
}

/// The upper and the lower half of a reading of the time-stamp counter.
fn halves(ticks: u64) -> [u64; 2] {
    [ticks >> 32, ticks & u64::from(u32::MAX)]
}

impl Machine {
    /// Begins to count.
    fn count(&mut self) {
        self.counting = true;
        self.lines.traffic = Traffic::default();
    }

    /// Forgets all counts, until it begins to count anew.
    fn discard(&mut self) {
        self.counting = false;
        self.counts = Counts::default();
        self.lines.forget_operations();
        if let Some(blame) = &mut self.blame {
            *blame = Blame::default();
        }
    }

    /// Books or runs the next instruction of the core whose clock is behind.
    fn turn(&mut self) -> Result<(), String> {
        let awake = (0..self.cores.len()).filter(|core| !self.cores[*core].asleep);
        let Some(at) = awake.min_by_key(|core| self.cores[*core].clock) else {
            return self.time_out();
        };
        let address = self.cores[at].registers.rip;
        if !self.code.contains_key(&address) {
            let decoded = Decoded::at(address, &self.tracee.code(address)?)?;
            self.code.insert(address, decoded);
        }
        let core = &mut self.cores[at];
        self.now = core.clock;
        let decoded = &self.code[&address];
        let id = at as u8;
        if !core.booked {
            let now = core.clock;
            for touch in decoded.touches(&core.registers) {
                for line in touch.lines() {
                    let ready = self.lines.book(id, line, touch.access, now);
                    if ready > now && self.counting {
                        if let Some(blame) = &mut self.blame {
                            blame.missed(id, line, touch, address);
                        }
                    }
                    core.clock = core.clock.max(ready);
                }
            }
            core.booked = true;
            if core.clock > now {
                // The earlier core runs first, and may use the line before it leaves.
                return Ok(());
            }
        }
        core.booked = false;
        for touch in decoded.touches(&core.registers) {
            for line in touch.lines() {
                self.lines.take(id, line, touch.access);
                if let Some(blame) = &mut self.blame {
                    blame.took(id, line, touch, address);
                }
                if self.counting && touch.access == Access::Write {
                    core.written.insert(line);
                }
            }
        }
        let (kind, length) = (decoded.kind, decoded.length);
        core.clock += match kind {
            Kind::Plain | Kind::Marker => cost::INSTRUCTION,
            Kind::Time => cost::INSTRUCTION + cost::TIME,
            Kind::Rmw | Kind::Fence => cost::INSTRUCTION + cost::ATOMIC,
            Kind::Pause => cost::PAUSE,
            Kind::SystemCall if reads_clock(&core.registers) => cost::INSTRUCTION + cost::TIME,
            Kind::SystemCall => cost::SYSTEM,
        };
        if kind == Kind::Marker {
            core.registers.rip += length;
            core.thread.set_registers(&core.registers)?;
            return self.operation_is_over(at);
        }
        if self.counting {
            self.counts.instructions += 1;
            self.counts.rmws += u64::from(kind == Kind::Rmw);
            self.counts.fences += u64::from(kind == Kind::Fence);
        }
        if kind == Kind::SystemCall && self.system_call(at, length)? {
            return Ok(());
        }
        if kind == Kind::Time {
            return self.read_time(at);
        }
        let core = &mut self.cores[at];
        core.thread.step()?;
        core.registers = core.thread.registers()?;
        Ok(())
    }

    /// Runs an instruction that reads the time-stamp counter, and replaces the result.
    fn read_time(&mut self, at: usize) -> Result<(), String> {
        let core = &mut self.cores[at];
        core.thread.step()?;
        core.registers = core.thread.registers()?;
        [core.registers.rdx, core.registers.rax] = halves(self.began + core.clock);
        core.thread.set_registers(&core.registers)
    }

    fn operation_is_over(&mut self, at: usize) -> Result<(), String> {
        let core = &mut self.cores[at];
        if Marker::said(&core.registers) != Some(Marker::Operation) {
            return Err("a breakpoint that is none of ours".to_owned());
        }
        self.counts.operations += u64::from(self.counting);
        for line in core.written.drain() {
            self.lines.written_by_operation(line);
        }
        Ok(())
    }

    /// Emulates a call of the system that could block. Returns whether it was one of those.
    fn system_call(&mut self, at: usize, length: u64) -> Result<bool, String> {
        let registers = self.cores[at].registers;
        let (futex, operation) = (registers.rdi, registers.rsi as i32);
        let result = match registers.rax as i64 {
            libc::SYS_sched_yield => 0,
            _ if reads_clock(&registers) => self.system_clock(at)?,
            libc::SYS_nanosleep | libc::SYS_clock_nanosleep => {
                self.cores[at].clock += cost::WAKE;
                0
            }
            libc::SYS_futex => {
                let (bits, given) = match operation & libc::FUTEX_CMD_MASK {
                    libc::FUTEX_WAIT => (u32::MAX, true),
                    libc::FUTEX_WAIT_BITSET => (registers.r9 as u32, true),
                    libc::FUTEX_WAKE => (u32::MAX, false),
                    libc::FUTEX_WAKE_BITSET => (registers.r9 as u32, false),
                    other => return Err(format!("futex operation {other} is not known here")),
                };
                if given {
                    let timed = registers.r10 != 0;
                    if self.tracee.word(futex)? == registers.rdx as u32 {
                        self.sleep(at, futex, bits, timed);
                        0
                    } else {
                        -i64::from(libc::EAGAIN)
                    }
                } else {
                    self.wake(at, futex, bits, registers.rdx as i32)
                }
            }
            _ => return Ok(false),
        };
        self.skip(at, length, result)?;
        Ok(true)
    }

    /// Answers a reading of the system's clock. Returns the result of the call.
    fn system_clock(&mut self, at: usize) -> Result<i64, String> {
        let Core {
            clock, registers, ..
        } = self.cores[at];
        if self.first_read.is_none() {
            self.first_read = Some(clock);
            self.discard();
        }
        let nanos = self.began_nanos + clock * 1_000 / cost::CYCLES_PER_MICROSECOND;
        self.tracee.write(registers.rsi, &timespec(nanos))?;
        Ok(0)
    }

    fn sleep(&mut self, core: usize, futex: u64, bits: u32, timed: bool) {
        self.counts.sleeps += u64::from(self.counting);
        self.cores[core].asleep = true;
        let sleeper = Sleeper { core, bits, timed };
        self.futexes.entry(futex).or_default().push_back(sleeper);
    }

    fn wake(&mut self, by: usize, futex: u64, bits: u32, most: i32) -> i64 {
        let now = self.cores[by].clock;
        let mut woken = 0;
        if let Some(queue) = self.futexes.get_mut(&futex) {
            queue.retain(|sleeper| {
                let stays = woken == i64::from(most) || sleeper.bits & bits == 0;
                if !stays {
                    woken += 1;
                    let core = &mut self.cores[sleeper.core];
                    core.asleep = false;
                    core.clock = core.clock.max(now) + cost::WAKE;
                }
                stays
            });
        }
        woken
    }

    /// All threads sleep: wakes those whose timeout ends their sleep.
    fn time_out(&mut self) -> Result<(), String> {
        let mut woken = Vec::new();
        for queue in self.futexes.values_mut() {
            queue.retain(|sleeper| {
                if sleeper.timed {
                    woken.push(sleeper.core);
                }
                !sleeper.timed
            });
        }
        if woken.is_empty() {
            return Err("all cores sleep, and nobody will wake them".to_owned());
        }
        for at in woken {
            let core = &mut self.cores[at];
            core.asleep = false;
            core.clock += cost::WAKE;
            core.registers.rax = (-i64::from(libc::ETIMEDOUT)) as u64;
            core.thread.set_registers(&core.registers)?;
        }
        Ok(())
    }

    /// Continues after the call as if it had returned `result`.
    fn skip(&mut self, at: usize, length: u64, result: i64) -> Result<(), String> {
        let core = &mut self.cores[at];
        core.registers.rip += length;
        core.registers.rax = result as u64;
        core.thread.set_registers(&core.registers)
    }
}

#[cfg(test)]
mod tests {
    use super::{halves, timespec};

    #[test]
    fn a_time_has_seconds_and_nanoseconds() {
        let bytes = timespec(7_000_000_009);
        assert_eq!(bytes[..8], 7_u64.to_le_bytes());
        assert_eq!(bytes[8..], 9_u64.to_le_bytes());
    }

    #[test]
    fn a_reading_has_two_halves() {
        assert_eq!(halves(0x12_3456_789A), [0x12, 0x3456_789A]);
    }
}
