//! Random programs of transactions, run by one thread, against a model that knows the only right
//! answer.

use std::cell::RefCell;

use crate::common::{watchdog, write_elsewhere};
use latchwork::{
    Abort, Transaction, Tx, TxError, VersionedCell, atomically, cell::Version, snapshot,
    txn::TxAbort,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// More than a transaction looks through at each read.
const CELLS: usize = 20;

/// What a transaction does; what it sees goes into a trace.
#[derive(Clone, Debug)]
enum Op {
    Read(usize),
    ReadAll,
    Set(usize, u64),
    /// Adds to what is there.
    Update(usize, u64),
    Version(usize),
    /// Whether the cell has the version that lies so far behind the current one.
    Check(usize, u64),
    OrElse(Vec<Op>, Vec<Op>),
    /// Ends the branch of an `OrElse`.
    Retry,
    /// Ends the transaction.
    Abort,
    /// A write by somebody else, at the first attempt only.
    Elsewhere(usize, u64),
}

type Cells = [VersionedCell<u64>];

/// Each cell: its value, its version.
type State = Vec<(u64, u64)>;

/// What a transaction is about to write, by cell.
type Writes = Vec<Option<u64>>;

struct Run<'a> {
    trace: &'a RefCell<Vec<u64>>,
    /// What others have written meanwhile; `None` once that is over.
    elsewhere: &'a RefCell<Option<Vec<(usize, u64)>>>,
    /// The versions at the beginning.
    versions: &'a [u64],
}

fn run<'t>(
    tx: &mut Tx<'t, '_>,
    cells: &'t Cells,
    ops: &[Op],
    at: &Run<'_>,
) -> Result<(), TxAbort<()>> {
    let see = |value| at.trace.borrow_mut().push(value);
    for op in ops {
        match op {
            Op::Read(i) => see(*tx.read(&cells[*i])?),
            Op::ReadAll => {
                for cell in cells {
                    see(*tx.read(cell)?);
                }
            }
            Op::Set(i, value) => tx.set(&cells[*i], *value)?,
            Op::Update(i, by) => tx.update(&cells[*i], |old| {
                see(*old);
                old.wrapping_add(*by)
            })?,
            Op::Version(i) => see(tx.version(&cells[*i])?.get()),
            Op::Check(i, behind) => {
                let version = Version::new(at.versions[*i].saturating_sub(*behind));
                see(u64::from(tx.check(&cells[*i], version)?));
            }
            Op::OrElse(f, g) => {
                tx.or_else(|tx| run(tx, cells, f, at), |tx| run(tx, cells, g, at))?
            }
            Op::Retry => tx.retry()?,
            Op::Abort => return tx.abort(()),
            Op::Elsewhere(i, value) => {
                if let Some(elsewhere) = at.elsewhere.borrow_mut().as_mut() {
                    write_elsewhere(&cells[*i], *value);
                    elsewhere.push((*i, *value));
                }
            }
        }
    }
    Ok(())
}

enum End {
    Retry,
    Abort,
}

/// The same by the book: what is written is kept apart, and a branch that retries forgets its own.
fn model(
    state: &State,
    writes: &mut Writes,
    ops: &[Op],
    versions: &[u64],
    trace: &mut Vec<u64>,
) -> Result<(), End> {
    for op in ops {
        let sees = |writes: &Writes, i: usize| writes[i].unwrap_or(state[i].0);
        match op {
            Op::Read(i) => trace.push(sees(writes, *i)),
            Op::ReadAll => trace.extend((0..CELLS).map(|i| sees(writes, i))),
            Op::Set(i, value) => writes[*i] = Some(*value),
            Op::Update(i, by) => {
                let old = sees(writes, *i);
                trace.push(old);
                writes[*i] = Some(old.wrapping_add(*by));
            }
            Op::Version(i) => trace.push(state[*i].1 + u64::from(writes[*i].is_some())),
            Op::Check(i, behind) => {
                let version = versions[*i].saturating_sub(*behind);
                trace.push(u64::from(state[*i].1 == version));
            }
            Op::OrElse(f, g) => {
                let before = writes.clone();
                match model(state, writes, f, versions, trace) {
                    Err(End::Retry) => {
                        *writes = before;
                        model(state, writes, g, versions, trace)?;
                    }
                    result => result?,
                }
            }
            Op::Retry => return Err(End::Retry),
            Op::Abort => return Err(End::Abort),
            Op::Elsewhere(..) => {}
        }
    }
    Ok(())
}

fn write(state: &mut State, i: usize, value: u64) {
    state[i] = (value, state[i].1 + 1);
}

/// What a transaction does to the state, what it sees, and whether it commits.
fn by_the_book(state: &mut State, ops: &[Op], versions: &[u64]) -> (Vec<u64>, bool) {
    let (mut writes, mut trace) = (vec![None; CELLS], Vec::new());
    let end = model(state, &mut writes, ops, versions, &mut trace);
    for (i, value) in writes.into_iter().enumerate() {
        // A retry that is not answered is answered by doing nothing.
        if let (Some(value), Ok(())) = (value, &end) {
            write(state, i, value);
        }
    }
    (trace, !matches!(end, Err(End::Abort)))
}

/// What the programs came to, to know that they are worth something.
#[derive(Debug, Default)]
struct Tally {
    commits: usize,
    aborts: usize,
    lost: usize,
    overtaken_reads: usize,
}

/// Runs a transaction and compares. The others may have written before it took effect or after: it
/// is right if there is a moment between two of their writes at which it would have seen and done
/// the same.
fn step(cells: &Cells, state: &mut State, ops: &[Op], tally: &mut Tally) {
    let versions: Vec<u64> = state.iter().map(|cell| cell.1).collect();
    let (trace, elsewhere) = (RefCell::default(), RefCell::new(Some(Vec::new())));
    let at = Run {
        trace: &trace,
        elsewhere: &elsewhere,
        versions: &versions,
    };
    let (mut attempts, mut others) = (0, Vec::new());
    let result = Transaction::builder().try_run(|tx| {
        if attempts == 1 {
            others = elsewhere.take().expect("there was one attempt");
        }
        attempts += 1;
        trace.borrow_mut().clear();
        let nothing = |_: &mut Tx<'_, '_>| Ok::<(), TxAbort<()>>(());
        tx.or_else(|tx| run(tx, cells, ops, &at), nothing)
    });
    let commits = match result {
        Ok(()) => true,
        Err(TxError::Aborted(())) => false,
        Err(other) => panic!("{other:?}"),
    };
    if attempts == 1 {
        others = elsewhere.take().expect("there was one attempt");
    }
    let found: State = cells
        .iter()
        .map(|cell| (cell.get(), cell.version().get()))
        .collect();
    let right = (0..=others.len()).rev().find_map(|before| {
        let mut state = state.clone();
        let (before, after) = others.split_at(before);
        before.iter().for_each(|&(i, v)| write(&mut state, i, v));
        let expected = by_the_book(&mut state, ops, &versions);
        after.iter().for_each(|&(i, v)| write(&mut state, i, v));
        let same = expected == (trace.borrow().clone(), commits) && state == found;
        same.then_some((state, after.len()))
    });
    let Some((new, after)) = right else {
        panic!(
            "{ops:?} from {state:?}: saw {trace:?}, commits: {commits}, others: {others:?}, left {found:?}"
        );
    };
    *state = new;
    tally.commits += usize::from(commits);
    tally.aborts += usize::from(!commits);
    tally.lost += attempts - 1;
    tally.overtaken_reads += usize::from(after > 0);
}

fn op() -> impl Strategy<Value = Op> {
    // Numbers, and not a choice of strategies: unoptimised, that would take most of the time.
    let leaf = (0..27_u8, 0..3 * CELLS, 0..1_000_u64).prop_map(|(what, cell, value)| {
        // The first cells more often, so that programs come back to them.
        let cell = if cell < CELLS { cell } else { cell % 3 };
        match what {
            0..6 => Op::Read(cell),
            6 => Op::ReadAll,
            7..12 => Op::Set(cell, value),
            12..17 => Op::Update(cell, value),
            17..20 => Op::Version(cell),
            20..23 => Op::Check(cell, value % 3),
            23 => Op::Retry,
            24 => Op::Abort,
            _ => Op::Elsewhere(cell, value),
        }
    });
    leaf.prop_recursive(3, 24, 6, |inner| {
        (vec(inner.clone(), 0..6), vec(inner, 0..6)).prop_map(|(f, g)| Op::OrElse(f, g))
    })
}

#[test]
fn every_program_does_what_the_model_says() {
    let _dog = watchdog("every_program_does_what_the_model_says");
    let total = RefCell::new(Tally::default());
    // Seeds are not kept in files: a program that fails is printed small enough to become a test.
    let config = Config {
        cases: 512,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&vec(vec(op(), 0..12), 1..10), |program| {
            let cells: Vec<_> = (0..CELLS as u64).map(VersionedCell::new).collect();
            let mut state: State = (0..CELLS as u64).map(|i| (i, 0)).collect();
            for ops in &program {
                step(&cells, &mut state, ops, &mut total.borrow_mut());
                let seen: Vec<u64> = snapshot(|s| cells.iter().map(|c| *s.read(c)).collect());
                let expected: Vec<u64> = state.iter().map(|cell| cell.0).collect();
                assert_eq!(seen, expected);
            }
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
    let total = total.into_inner();
    println!("{total:?}");
    // Of use only if they end in each of these ways.
    assert!(total.commits > 500 && total.aborts > 100, "{total:?}");
    assert!(total.lost > 100 && total.overtaken_reads > 0, "{total:?}");
}

/// What is read of a write that is forgotten, and of one that is replaced, lives to the end of the
/// attempt.
#[test]
fn what_an_attempt_has_seen_stays_as_it_was() {
    let cell = VersionedCell::new("first".to_owned());
    let result = atomically(|tx| {
        let first = tx.read(&cell)?;
        tx.set(&cell, "second".to_owned())?;
        let second = tx.read(&cell)?;
        let mut third = None;
        tx.or_else(
            |tx| {
                tx.set(&cell, "third".to_owned())?;
                third = Some(tx.read(&cell)?);
                tx.retry::<()>()
            },
            |tx| tx.set(&cell, "fourth".to_owned()),
        )?;
        let all = [first, second, third.expect("it ran"), tx.read(&cell)?];
        Ok::<_, Abort>(all.map(String::clone))
    });
    assert_eq!(result, ["first", "second", "third", "fourth"]);
    assert_eq!((cell.get(), cell.version().get()), ("fourth".to_owned(), 1));
}
