//! Calls of latches, recorded for each: reads by versions and under the latch, writes, upgrades,
//! and the end of it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use latchwork::latch::{ExclusiveGuard, Obsolete, OptimisticLatch};

use crate::common::history::linear::linearise;
use crate::common::history::objects::{Page, PageOp};
use crate::common::history::record::by_object;
use crate::common::history::{Log, stamp};
use crate::common::{Rng, pause};

/// A number, and once more.
#[derive(Debug, Default)]
pub struct Halves([AtomicU64; 2]);

pub type Latch = OptimisticLatch<Halves>;

impl Halves {
    fn read(&self, linger: bool) -> [u64; 2] {
        let first = self.0[0].load(Relaxed);
        if linger {
            pause();
        }
        [first, self.0[1].load(Relaxed)]
    }

    fn write(&self, number: u64, linger: bool) {
        self.0[0].store(number, Relaxed);
        if linger {
            pause();
        }
        self.0[1].store(number, Relaxed);
    }
}

/// One thread's or task's part.
pub struct Visitor<'l> {
    latches: &'l [Latch],
    rng: Rng,
    /// The next number to write, which nobody else writes.
    next: u64,
    log: Log<PageOp>,
    /// Attempts and upgrades that came too late.
    late: usize,
}

impl<'l> Visitor<'l> {
    pub fn new(latches: &'l [Latch], (thread, seed, steps): (usize, u64, usize)) -> Self {
        Self {
            latches,
            rng: Rng::new(seed << 8 | thread as u64),
            next: (thread as u64 + 1) << 32,
            log: Log::new(thread, steps),
            late: 0,
        }
    }

    pub fn into_log(self) -> (Log<PageOp>, usize) {
        (self.log, self.late)
    }

    /// One call, or none that says anything.
    pub fn step(&mut self) {
        let at = self.rng.below(self.latches.len() as u64) as usize;
        let (latch, linger) = (&self.latches[at], self.rng.one_in(2));
        self.next += 1;
        let number = self.next;
        let began = stamp();
        let op = match self.rng.below(16) {
            0..=4 => {
                let mut attempts = 0;
                let seen = latch.optimistic_read(|halves| {
                    attempts += 1;
                    halves.read(linger)
                });
                self.late += usize::from(attempts > 1);
                seen.map(PageOp::from)
            }
            5..=6 => latch.shared().map(|halves| halves.read(linger).into()),
            7 => match latch.try_shared() {
                Some(halves) => Ok(halves.read(linger).into()),
                None => return,
            },
            8..=9 => latch
                .exclusive()
                .map(|halves| write(&halves, number, linger)),
            10 => match latch.try_exclusive() {
                Some(halves) => Ok(write(&halves, number, linger)),
                None => return,
            },
            11..=14 => match self.upgrade(latch, linger) {
                Some(op) => op,
                None => return,
            },
            _ if self.rng.one_in(8) => latch.exclusive().map(|halves| {
                let last = halves.read(linger);
                ExclusiveGuard::mark_obsolete(halves);
                PageOp::Retire(last)
            }),
            _ => return,
        };
        self.log.add(at, began, stamp(), op.unwrap_or(PageOp::Gone));
    }

    /// Reads by a version, and writes if that still holds; what was read belongs together then.
    fn upgrade(&mut self, latch: &Latch, linger: bool) -> Option<Result<PageOp, Obsolete>> {
        let version = match latch.version() {
            Ok(version) => version,
            Err(gone) => return Some(Err(gone)),
        };
        let seen = latch.peek().read(linger);
        let Ok(halves) = latch.upgrade(version) else {
            self.late += 1;
            return None;
        };
        halves.write(self.next, linger);
        Some(Ok(PageOp::Write(seen, self.next)))
    }
}

impl From<[u64; 2]> for PageOp {
    fn from([first, second]: [u64; 2]) -> Self {
        PageOp::Read(first, second)
    }
}

fn write(halves: &Halves, number: u64, linger: bool) -> PageOp {
    let old = halves.read(false);
    halves.write(number, linger);
    PageOp::Write(old, number)
}

/// How many calls the logs have.
///
/// # Panics
/// If the calls of a latch have no order.
pub fn judge(logs: Vec<Log<PageOp>>, latches: usize) -> usize {
    let mut total = 0;
    for (latch, calls) in by_object(logs, latches).into_iter().enumerate() {
        total += calls.len();
        if let Err(wrong) = linearise(Page::default(), &calls) {
            panic!("latch {latch}: {wrong}");
        }
    }
    total
}
