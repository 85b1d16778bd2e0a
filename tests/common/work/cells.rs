//! Calls of single cells, recorded for each.

use std::time::Duration;

use latchwork::{
    RetryPolicy, VersionedCell,
    cell::{UpdateError, Version},
};

use crate::common::history::linear::linearise;
use crate::common::history::objects::{CellOp, Register};
use crate::common::history::record::by_object;
use crate::common::history::{Log, stamp};
use crate::common::{Rng, pause};

/// A number, and once more, so that one that is torn or gone shows. Each write has another one; the
/// first is 0.
#[derive(Clone, Debug)]
pub struct Value(u64, u64);

pub type Cell = VersionedCell<Value>;

impl Value {
    pub fn new(number: u64) -> Self {
        Self(number, !number)
    }

    pub(super) fn number(&self) -> u64 {
        assert_eq!(self.0, !self.1, "torn, or dropped");
        self.0
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.1 = self.0;
    }
}

/// One thread's or task's part.
pub struct Writer<'c> {
    cells: &'c [Cell],
    rng: Rng,
    /// The next number to write.
    next: u64,
    patience: Duration,
    log: Log<CellOp>,
}

impl<'c> Writer<'c> {
    pub fn new(
        cells: &'c [Cell],
        (thread, seed, steps): (usize, u64, usize),
        patience: Duration,
    ) -> Self {
        Self {
            cells,
            rng: Rng::new(seed << 8 | thread as u64),
            next: (thread as u64) << 32,
            patience,
            log: Log::new(thread, steps),
        }
    }

    pub fn into_log(self) -> Log<CellOp> {
        self.log
    }

    /// One call, or none that says anything.
    pub fn step(&mut self) {
        let at = self.rng.below(self.cells.len() as u64) as usize;
        self.next += 1;
        let (cell, number, log) = (&self.cells[at], self.next, &mut self.log);
        let register = |version: Version, value| Register {
            version: version.get(),
            value,
        };
        match self.rng.below(12) {
            0..=1 => {
                let linger = self.rng.one_in(2);
                let read = || {
                    let seen = cell.read();
                    if linger {
                        pause();
                    }
                    register(seen.version(), seen.number())
                };
                log.call(at, read, |seen| CellOp::Read(*seen));
            }
            2 => {
                let read = || {
                    let pin = latchwork::pin();
                    let seen = cell.read_in(&pin);
                    register(seen.version(), seen.number())
                };
                log.call(at, read, |seen| CellOp::Read(*seen));
            }
            3 => {
                let seen = log.call(
                    at,
                    || cell.read_owned(),
                    |seen| CellOp::Read(register(seen.version(), seen.number())),
                );
                pause();
                seen.number();
            }
            4 => {
                log.call(at, || cell.version(), |v| CellOp::Version(v.get()));
            }
            5 => {
                log.call(
                    at,
                    || cell.set(Value::new(number)),
                    |made| CellOp::Set(register(*made, number)),
                );
            }
            6 => {
                let swap = || {
                    let old = cell.swap(Value::new(number));
                    register(old.version(), old.number())
                };
                log.call(at, swap, |old| CellOp::Swap(*old, number));
            }
            7..=8 => {
                let linger = self.rng.one_in(2);
                let mut saw = 0;
                let update = || {
                    let made = cell.update(|old| {
                        saw = old.number();
                        if linger {
                            pause();
                        }
                        Value::new(number)
                    });
                    (saw, register(made, number))
                };
                log.call(at, update, |(saw, made)| CellOp::Update(*saw, *made));
            }
            9 => {
                let mut saw = 0;
                let began = stamp();
                let made = cell.try_update(&RetryPolicy::attempts(1), |old| {
                    saw = old.number();
                    pause();
                    Ok::<_, ()>(Value::new(number))
                });
                let ended = stamp();
                match made {
                    Ok(made) => {
                        let op = CellOp::Update(saw, register(made, number));
                        log.add(at, began, ended, op);
                    }
                    // It says that somebody else has written; who, it does not.
                    Err(error) => assert_eq!(error, UpdateError::Contended),
                }
            }
            10 => {
                let expected = cell.version();
                if self.rng.one_in(2) {
                    pause();
                }
                let write = || cell.compare_and_set(expected, Value::new(number));
                let _ = log.call(at, write, |written| {
                    let outcome = written.as_ref().map(|made| made.get());
                    let outcome = outcome.map_err(|conflict| {
                        assert_eq!(conflict.value.number(), number, "another's value back");
                        conflict.current.get()
                    });
                    CellOp::CompareAndSet(expected.get(), number, outcome)
                });
            }
            _ => {
                let since = cell.version();
                let began = stamp();
                let now = cell.wait_changed_for(since, self.patience);
                let ended = stamp();
                if let Some(now) = now {
                    let op = CellOp::Changed(since.get(), now.get());
                    log.add(at, began, ended, op);
                }
            }
        }
    }
}

/// How many calls the logs have, and how many of them were conditional writes that came too late.
///
/// # Panics
/// If the calls of a cell have no order.
pub fn judge(logs: Vec<Log<CellOp>>, cells: usize) -> (usize, usize) {
    let (mut total, mut late) = (0, 0);
    for (cell, calls) in by_object(logs, cells).into_iter().enumerate() {
        let is_late = |op| matches!(op, CellOp::CompareAndSet(_, _, Err(_)));
        late += calls.iter().filter(|call| is_late(call.op)).count();
        total += calls.len();
        if let Err(wrong) = linearise(Register::default(), &calls) {
            panic!("cell {cell}: {wrong}");
        }
    }
    (total, late)
}
