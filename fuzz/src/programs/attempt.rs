//! One attempt of a transaction, step by step beside what it must see.

use std::cell::{Cell, RefCell};
use std::panic::resume_unwind;

use latchwork::{Tx, cell::Version, txn::TxAbort};

use super::input::Step;
use super::world::{CELLS, Free, Seen, World};

/// Losses after which a transaction owns the cells that it lost at, and after which all that it
/// meets.
const OWNS_BEATEN: u32 = 3;
const OWNS_ALL: u32 = 8;

/// How a closure has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It has not: a call said that the attempt is over.
    Open,
    Returned,
    Retry,
    Abort,
    Panic,
}

/// Whether a closure may end the transaction. Also what it panics with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Panics {
    Allowed,
    Never,
}

/// What an attempt has seen and is to write.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    /// The state when it began.
    begun: usize,
    observed: [Option<Seen>; CELLS],
    writes: [Option<u64>; CELLS],
    pub(super) end: End,
}

impl Attempt {
    fn new(begun: usize) -> Self {
        Attempt {
            begun,
            observed: [None; CELLS],
            writes: [None; CELLS],
            end: End::Open,
        }
    }

    pub(super) fn written(&self) -> impl Iterator<Item = (usize, u64)> {
        let writes = self.writes.iter().enumerate();
        writes.filter_map(|(i, number)| Some((i, (*number)?)))
    }

    pub(super) fn has_seen(&self) -> bool {
        self.observed.iter().any(Option::is_some)
    }

    /// Whether something that it has seen has been written since.
    pub(super) fn is_stale(&self, world: &World<'_>) -> bool {
        let now = world.at(world.now());
        (0..CELLS).any(|i| self.observed[i].is_some_and(|seen| seen != now[i]))
    }

    /// What it was to write is forgotten, and it is done.
    pub(super) fn forget(&mut self) {
        self.writes = [None; CELLS];
        self.end = End::Returned;
    }

    /// It has seen a cell. There must be a state since it began that has this and all else that it
    /// has seen.
    fn observe(&mut self, world: &World<'_>, i: usize, fits: impl Fn(Seen) -> bool) {
        let right = (self.begun..=world.now()).rev().find(|moment| {
            let state = world.at(*moment);
            let same = |i: usize| self.observed[i].is_none_or(|seen| seen == state[i]);
            fits(state[i]) && (0..CELLS).all(same)
        });
        let right = right.unwrap_or_else(|| panic!("a state that never was: cell {i}, {self:?}"));
        self.observed[i] = Some(world.at(right)[i]);
    }
}

/// A transaction under way.
pub(super) struct Turn<'w, 'c> {
    pub(super) world: &'w World<'c>,
    panics: Panics,
    pub(super) attempts: Cell<u32>,
    pub(super) attempt: RefCell<Attempt>,
    /// The versions when it began.
    versions: [u64; CELLS],
    /// Cells that were written inside its closure: those that it may come to own first.
    written: Cell<u32>,
}

type Stepped = Result<(), TxAbort<()>>;

impl<'w, 'c> Turn<'w, 'c> {
    pub(super) fn new(world: &'w World<'c>, panics: Panics) -> Self {
        let now = world.now();
        Turn {
            world,
            panics,
            attempts: Cell::new(0),
            attempt: RefCell::new(Attempt::new(now)),
            versions: world.at(now).map(|seen| seen.1),
            written: Cell::new(0),
        }
    }

    /// Whether the attempt may own cells, which counts as having read them.
    pub(super) fn owns(&self) -> bool {
        self.attempts.get() > OWNS_BEATEN
    }

    /// The closure is called.
    pub(super) fn begin(&self) {
        // After a `Retry` it runs again because something has changed, or it was polled.
        if self.attempts.get() > 0 && self.attempt.borrow().end != End::Retry {
            self.lost();
        }
        self.attempts.set(self.attempts.get() + 1);
        self.world
            .count(|tally| tally.owning += u64::from(self.owns()));
        *self.attempt.borrow_mut() = Attempt::new(self.world.now());
    }

    /// The attempt was lost, which takes a reason.
    pub(super) fn lost(&self) {
        let attempt = self.attempt.borrow();
        assert!(matches!(attempt.end, End::Open | End::Returned));
        assert!(attempt.is_stale(self.world), "lost to nobody: {attempt:?}");
        self.world.count(|tally| tally.lost += 1);
    }

    /// Cells that the transaction does not own.
    fn free(&self) -> Free {
        match self.attempts.get() - 1 {
            ..OWNS_BEATEN => Free::ALL,
            OWNS_BEATEN..OWNS_ALL => Free(Free::ALL.0 & !self.written.get()),
            _ => Free(0),
        }
    }

    fn end(&self, end: End) {
        self.attempt.borrow_mut().end = end;
    }

    /// All steps of the closure.
    pub(super) fn steps<'t>(&self, tx: &mut Tx<'t, 'c>, steps: &[Step]) -> Stepped {
        self.some_steps(tx, steps)?;
        if self.attempt.borrow().end == End::Open {
            self.end(End::Returned);
        }
        Ok(())
    }

    fn some_steps<'t>(&self, tx: &mut Tx<'t, 'c>, steps: &[Step]) -> Stepped {
        for step in steps {
            if self.attempt.borrow().end != End::Open {
                // It has ignored a `Retry`.
                break;
            }
            self.step(tx, step)?;
        }
        Ok(())
    }

    fn step<'t>(&self, tx: &mut Tx<'t, 'c>, step: &Step) -> Stepped {
        let cells = self.world.cells;
        match *step {
            Step::Read(i) => self.read(tx, i)?,
            Step::ReadAll => {
                for i in 0..CELLS {
                    self.read(tx, i)?;
                }
            }
            Step::Set(i) => {
                let value = self.world.value();
                let number = value.number;
                tx.set(&cells[i], value)?;
                self.attempt.borrow_mut().writes[i] = Some(number);
            }
            Step::Update(i) => {
                let mut pair = (0, 0);
                tx.update(&cells[i], |old| {
                    let value = self.world.value();
                    pair = (old.number, value.number);
                    value
                })?;
                self.saw(i, pair.0);
                self.attempt.borrow_mut().writes[i] = Some(pair.1);
            }
            Step::Version(i) => self.version(tx, i)?,
            Step::Check(i, behind) => {
                let version = self.versions[i].saturating_sub(behind);
                let is = tx.check(&cells[i], Version::new(version))?;
                // It has joined what was read: this says what it has found.
                self.version(tx, i)?;
                let seen = self.attempt.borrow().observed[i].expect("just seen");
                assert_eq!(is, seen.1 == version, "whether cell {i} has a version");
            }
            Step::OrElse(ref first, ref second) => {
                let before = self.attempt.borrow().writes;
                tx.or_else(
                    |tx| self.some_steps(tx, first),
                    |tx| {
                        let mut attempt = self.attempt.borrow_mut();
                        assert_eq!(attempt.end, End::Retry);
                        (attempt.writes, attempt.end) = (before, End::Open);
                        drop(attempt);
                        self.some_steps(tx, second)
                    },
                )?;
            }
            Step::Retry => {
                self.end(End::Retry);
                tx.retry()?;
            }
            Step::RetryIgnored => {
                self.end(End::Retry);
                assert!(tx.retry::<()>().is_err());
                assert!(tx.read(&cells[0]).is_err(), "the attempt is over");
            }
            Step::Wait(i) => {
                self.version(tx, i)?;
                let seen = self.attempt.borrow().observed[i].expect("just seen");
                if seen.1 == self.versions[i] {
                    self.end(End::Retry);
                    tx.retry()?;
                }
            }
            Step::Abort if self.panics == Panics::Allowed => {
                self.end(End::Abort);
                return tx.abort(());
            }
            Step::Panic if self.panics == Panics::Allowed => {
                self.end(End::Panic);
                resume_unwind(Box::new(Panics::Allowed));
            }
            Step::Abort | Step::Panic => {}
            Step::Outside(attempts, ref ops) => {
                if self.attempts.get() <= attempts {
                    let (free, begun) = (self.free(), self.world.now());
                    latchwork::outside_of_closures(|| {
                        ops.iter().for_each(|op| self.world.run(op, free));
                    });
                    self.note_what_was_written(begun);
                }
            }
        }
        Ok(())
    }

    fn note_what_was_written(&self, begun: usize) {
        let (before, after) = (self.world.at(begun), self.world.at(self.world.now()));
        let written = (0..CELLS).filter(|i| before[*i] != after[*i]);
        let written = written.fold(self.written.get(), |written, i| written | 1 << i);
        self.written.set(written);
    }

    fn read<'t>(&self, tx: &mut Tx<'t, 'c>, i: usize) -> Stepped {
        let number = tx.read(&self.world.cells[i])?.number;
        self.saw(i, number);
        Ok(())
    }

    /// The value of a cell, or what the transaction is to write there.
    fn saw(&self, i: usize, number: u64) {
        let mut attempt = self.attempt.borrow_mut();
        match attempt.writes[i] {
            Some(own) => assert_eq!(number, own, "its own write to cell {i}"),
            None => attempt.observe(self.world, i, |seen| seen.0 == number),
        }
    }

    fn version<'t>(&self, tx: &mut Tx<'t, 'c>, i: usize) -> Stepped {
        let version = tx.version(&self.world.cells[i])?.get();
        let mut attempt = self.attempt.borrow_mut();
        let own = u64::from(attempt.writes[i].is_some());
        attempt.observe(self.world, i, |seen| seen.1 + own == version);
        Ok(())
    }
}
