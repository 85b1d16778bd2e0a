//! The cells, all states that they ever had, and the calls that are no part of a transaction.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use latchwork::{Transaction, TxError, VersionedCell, cell::Version, snapshot, txn::View};

use super::ProgramTally;
use super::attempt::{Attempt, End, Panics, Turn};
use super::input::{Op, Program};
use crate::value::Value;

/// More than a transaction looks through at each read.
pub(super) const CELLS: usize = 20;
/// Most calls that one input comes to. What lies inside closures runs once for each attempt.
const MOST_CALLS: u32 = 3_000;

pub(super) type Cells = [VersionedCell<Value>; CELLS];

/// What a cell holds, and its version.
pub(super) type Seen = (u64, u64);

/// Cells that may be written now: a transaction around the caller may own others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Free(pub(super) u32);

impl Free {
    pub(super) const ALL: Free = Free((1 << CELLS) - 1);

    pub(super) fn has(self, cell: usize) -> bool {
        self.0 & (1 << cell) != 0
    }
}

pub(super) struct World<'c> {
    pub(super) cells: &'c Cells,
    live: &'c Arc<AtomicUsize>,
    /// Oldest first; the last is what the cells hold.
    history: RefCell<Vec<[Seen; CELLS]>>,
    /// The last number that a value was given. No two have the same.
    last_number: Cell<u64>,
    calls: Cell<u32>,
    pub(super) tally: Cell<ProgramTally>,
}

impl<'c> World<'c> {
    pub(super) fn new(cells: &'c Cells, live: &'c Arc<AtomicUsize>) -> Self {
        let first = core::array::from_fn(|i| (i as u64, 0));
        World {
            cells,
            live,
            history: RefCell::new(vec![first]),
            last_number: Cell::new(CELLS as u64),
            calls: Cell::new(0),
            tally: Cell::default(),
        }
    }

    pub(super) fn count(&self, f: impl FnOnce(&mut ProgramTally)) {
        let mut tally = self.tally.get();
        f(&mut tally);
        self.tally.set(tally);
    }

    /// The last state's place in the history.
    pub(super) fn now(&self) -> usize {
        self.history.borrow().len() - 1
    }

    pub(super) fn at(&self, moment: usize) -> [Seen; CELLS] {
        self.history.borrow()[moment]
    }

    pub(super) fn value(&self) -> Value {
        self.last_number.set(self.last_number.get() + 1);
        Value::new(self.last_number.get(), self.live)
    }

    /// Some cells have been written at one moment.
    pub(super) fn wrote(&self, writes: impl IntoIterator<Item = (usize, u64)>) {
        let mut state = self.at(self.now());
        for (cell, number) in writes {
            state[cell] = (number, state[cell].1 + 1);
        }
        self.history.borrow_mut().push(state);
    }

    /// Drops what can be dropped. Outside everything else, all that is left is in a cell.
    pub(super) fn flush(&self) {
        latchwork::flush();
        assert_eq!(self.live.load(Relaxed), CELLS, "values that nobody can see");
    }

    pub(super) fn check(&self) {
        for (cell, (number, version)) in self.cells.iter().zip(self.at(self.now())) {
            let seen = cell.read();
            assert_eq!((seen.number, seen.version().get()), (number, version));
        }
    }

    pub(super) fn run(&self, op: &Op, free: Free) {
        self.calls.set(self.calls.get() + 1);
        if self.calls.get() > MOST_CALLS {
            return;
        }
        match *op {
            Op::Set(i) | Op::Swap(i) | Op::Compare(i, _) | Op::Update(i) if !free.has(i) => {}
            Op::Set(i) | Op::Swap(i) | Op::Compare(i, _) | Op::Update(i) => self.write(op, i),
            Op::Versioned(ref ops) => self.snapshot(ops, free),
            // It might come upon a cell that a transaction around it owns.
            Op::Transaction(_) if free != Free::ALL => {}
            Op::Transaction(ref program) => self.transaction(program),
            Op::Flush => latchwork::flush(),
            Op::Start(_) | Op::Poll(_) | Op::Drop(_) => unreachable!("they are outside"),
        }
        self.check();
    }

    fn write(&self, op: &Op, i: usize) {
        let (cell, (number, version)) = (&self.cells[i], self.at(self.now())[i]);
        let value = self.value();
        let new = value.number;
        let written = match *op {
            Op::Set(_) => cell.set(value),
            Op::Swap(_) => {
                let old = cell.swap(value);
                assert_eq!((old.number, old.version().get()), (number, version));
                cell.version()
            }
            Op::Compare(_, behind) => {
                let expected = version.saturating_sub(behind);
                let written = cell.compare_and_set(Version::new(expected), value);
                assert_eq!(written.is_ok(), expected == version);
                match written {
                    Ok(version) => version,
                    Err(conflict) => {
                        assert_eq!(
                            (conflict.current.get(), conflict.value.number),
                            (version, new)
                        );
                        return;
                    }
                }
            }
            _ => {
                let mut value = Some(value);
                cell.update(|old| {
                    assert_eq!(old.number, number);
                    value.take().expect("nobody interferes")
                })
            }
        };
        assert_eq!(written.get(), version + 1);
        self.wrote([(i, new)]);
    }

    fn snapshot(&self, ops: &[Op], free: Free) {
        let moment = self.at(self.now());
        let show = |view: &View<'_, 'c>, i: usize| {
            let (shown, is) = (view.read(&self.cells[i]).number, self.at(self.now())[i].0);
            assert_eq!(shown, moment[i].0, "cell {i} at the moment of the view");
            self.count(|tally| tally.past += u64::from(shown != is));
        };
        snapshot(|view| {
            for (n, op) in ops.iter().enumerate() {
                // One cell that it has met, perhaps, and others that it has not.
                show(view, n % CELLS);
                self.run(op, free);
            }
            (0..CELLS).for_each(|i| show(view, i));
        });
    }

    fn transaction(&self, program: &Program) {
        let mut transaction = Transaction::builder();
        if program.most_attempts > 0 {
            transaction = transaction.max_attempts(program.most_attempts);
        }
        let turn = Turn::new(self, Panics::Allowed);
        let result = catch_unwind(AssertUnwindSafe(|| {
            transaction.try_run(|tx| {
                turn.begin();
                tx.or_else(
                    |tx| turn.steps(tx, &program.steps),
                    |_| {
                        // Nobody else would ever change what it waits for.
                        turn.attempt.borrow_mut().forget();
                        Ok(())
                    },
                )
            })
        }));
        let attempt = turn.attempt.borrow();
        match result {
            Ok(Ok(())) => self.committed(&attempt),
            Ok(Err(TxError::Aborted(()))) => assert_eq!(attempt.end, End::Abort),
            Ok(Err(TxError::Contended { attempts, reasons })) => {
                turn.lost();
                assert_eq!(attempts, program.most_attempts);
                assert_eq!(
                    (attempts, reasons.total()),
                    (turn.attempts.get(), attempts.into())
                );
            }
            Ok(Err(other)) => panic!("{other:?}"),
            Err(payload) => {
                assert!(payload.is::<Panics>(), "not what the closure panicked with");
                assert_eq!(attempt.end, End::Panic);
            }
        }
        if attempt.end != End::Returned {
            self.count(|tally| tally.ended += 1);
        }
    }

    /// An attempt has committed: based on the last state, and if it wrote nothing, on any since it
    /// began.
    pub(super) fn committed(&self, attempt: &Attempt) {
        assert_eq!(attempt.end, End::Returned);
        let writes: Vec<_> = attempt.written().collect();
        if writes.is_empty() {
            return;
        }
        assert!(
            !attempt.is_stale(self),
            "committed on what was no longer so"
        );
        self.wrote(writes);
        self.count(|tally| tally.committed += 1);
    }
}
