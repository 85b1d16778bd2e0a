//! Transactions over keys and a cell, with other calls in the middle of them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use latchwork::cell::Version;
use latchwork::txn::TxAbort;
use latchwork::{Transaction, Tx, TxError, outside_of_closures};

use super::value::Map;
use super::{Op, Ops, Planned, Seen, World, key_of};

/// Attempts that others may disturb. After one more, the transaction owns what it has lost.
const DISTURBED: u32 = 2;

/// What an attempt has seen, and what it writes.
struct Attempt {
    /// The number of states when it began.
    begun: usize,
    seen: BTreeMap<u64, Option<Seen>>,
    seen_cell: Option<u64>,
    /// The number of the value, or `None` for a removal.
    writes: BTreeMap<u64, Option<u64>>,
    cell: Option<u64>,
    /// Versions that keys are promised to have.
    promised: BTreeMap<u64, Version>,
}

type Stepped = Result<(), TxAbort<()>>;

impl Attempt {
    fn new(begun: usize) -> Self {
        Attempt {
            begun,
            seen: BTreeMap::new(),
            seen_cell: None,
            writes: BTreeMap::new(),
            cell: None,
            promised: BTreeMap::new(),
        }
    }

    /// It has seen a key, or the cell. There must be a state since it began that has this and all
    /// else that it has seen.
    fn observe(
        &mut self,
        world: &World<'_>,
        key: Option<u64>,
        fits: impl Fn(&super::State) -> bool,
    ) {
        let is_same = |state: &super::State| {
            let mut seen = self.seen.iter();
            seen.all(|(key, seen)| state.keys.get(key).copied() == *seen)
                && self.seen_cell.is_none_or(|cell| cell == state.cell)
        };
        let states = world.states[self.begun - 1..].iter().rev();
        let mut right = states.filter(|state| fits(state) && is_same(state));
        let right = right.next().expect("a state that never was");
        match key {
            Some(key) => drop(self.seen.insert(key, right.keys.get(&key).copied())),
            None => self.seen_cell = Some(right.cell),
        }
    }

    fn saw(&mut self, world: &World<'_>, key: u64, number: Option<u64>) {
        match self.writes.get(&key) {
            Some(own) => assert_eq!(number, *own, "its own write"),
            None => self.observe(world, Some(key), |state| {
                state.keys.get(&key).map(|(number, _)| *number) == number
            }),
        }
    }
}

impl<'m> World<'m> {
    pub(super) fn transaction(&mut self, kind: u8, with: u8, ops: &mut Ops<'_>, depth: usize) {
        let steps = Self::later(with, ops);
        let inner = Self::later(with / 12, ops);
        let disturbed = match kind >> 6 {
            0 => 0,
            n => DISTURBED.min(n.into()),
        };
        // The end: a commit, mostly.
        let end = with % 8;
        let mut transaction = Transaction::builder();
        let limit = if kind % 64 == 57 {
            Some(1 + u32::from(with % 3))
        } else {
            None
        };
        if let Some(limit) = limit {
            transaction = transaction.max_attempts(limit);
        }
        let attempt = RefCell::new(Attempt::new(self.states.len()));
        let mut attempts = 0;
        let mut disturbances = 0;
        let result = catch_unwind(AssertUnwindSafe(|| {
            transaction.try_run(|tx| {
                attempts += 1;
                let mut attempt = attempt.borrow_mut();
                *attempt = Attempt::new(self.states.len());
                let (first, second) = steps.split_at(steps.len() / 2);
                self.some_tx_steps(tx, &mut attempt, first)?;
                if attempts <= disturbed && !inner.is_empty() {
                    disturbances += 1;
                    // As another thread would.
                    outside_of_closures(|| {
                        let transacts = core::mem::replace(&mut self.transacts, true);
                        let mut inner = inner.iter();
                        while let Some(&op) = inner.next() {
                            self.step(op, &mut inner, depth.max(super::MOST_NESTED - 2) + 1);
                        }
                        self.transacts = transacts;
                    });
                }
                self.some_tx_steps(tx, &mut attempt, second)?;
                match end {
                    6 => tx.abort(()),
                    7 => resume_unwind(Box::new(Planned)),
                    _ => Ok(()),
                }
            })
        }));
        let attempt = attempt.into_inner();
        self.tally.lost += u64::from(attempts - 1);
        assert!(attempts <= disturbances + 1, "lost to no other call");
        match result {
            Ok(Ok(())) => self.committed(attempt),
            Ok(Err(TxError::Aborted(()))) => assert_eq!(end, 6),
            Ok(Err(TxError::Contended {
                attempts: counted, ..
            })) => {
                assert_eq!((Some(counted), attempts), (limit, counted));
                assert!(disturbances > 0);
            }
            Ok(Err(other)) => panic!("{other:?}"),
            Err(payload) if payload.is::<Planned>() => self.tally.panics += 1,
            Err(payload) => resume_unwind(payload),
        }
    }

    fn some_tx_steps<'t>(
        &mut self,
        tx: &mut Tx<'t, 'm>,
        attempt: &mut Attempt,
        steps: &[Op],
    ) -> Stepped {
        steps
            .iter()
            .try_for_each(|step| self.tx_step(tx, attempt, *step))
    }

    fn tx_step<'t>(
        &mut self,
        tx: &mut Tx<'t, 'm>,
        attempt: &mut Attempt,
        [kind, with]: Op,
    ) -> Stepped {
        let map: &'m Map = self.map;
        let key = key_of(with);
        let name = self.key(key);
        let number = |value: Option<&super::Value>| value.map(|value| value.number);
        match kind % 16 {
            0..=3 => {
                let got = number(tx.get(map, &name)?);
                attempt.saw(self, key, got);
            }
            4..=7 if !self.is_locked(key) => {
                let value = self.value(kind);
                let made = value.number;
                let before = number(tx.insert(map, name, value)?);
                attempt.saw(self, key, before);
                attempt.writes.insert(key, Some(made));
            }
            8 | 9 if !self.is_locked(key) => {
                let before = number(tx.remove(map, &name)?);
                attempt.saw(self, key, before);
                if before.is_some() {
                    attempt.writes.insert(key, None);
                }
            }
            10 | 11 => self.tx_version(tx, attempt, key)?,
            12 => {
                let expected = match kind >> 6 {
                    0 => None,
                    1 => Some(Version::new(1)),
                    _ => self.version(key),
                };
                let is = tx.check_entry(map, &name, expected)?;
                if !attempt.writes.contains_key(&key) {
                    // Shows what was found.
                    self.tx_version(tx, attempt, key)?;
                    let seen = attempt.seen[&key].map(|(_, version)| version);
                    assert_eq!(is, seen == expected, "whether key {key} has a version");
                }
            }
            13 => {
                let number = *tx.read(self.cell)?;
                match attempt.cell {
                    Some(own) => assert_eq!(number, own),
                    None => attempt.observe(self, None, |state| state.cell == number),
                }
            }
            14 => {
                self.number += 1;
                tx.set(self.cell, self.number)?;
                attempt.cell = Some(self.number);
            }
            15 if !self.is_locked(key) => {
                // The writes of the first closure are undone, and not what it has read.
                let writes = attempt.writes.clone();
                let (value, name) = (self.value(kind), &name);
                let mut value = Some(value);
                let both = RefCell::new((self, &mut *attempt));
                tx.or_else(
                    |tx| {
                        let (world, attempt) = &mut *both.borrow_mut();
                        let value = value.take().expect("it runs once");
                        let before = number(tx.insert(map, name.clone(), value)?);
                        attempt.saw(world, key, before);
                        tx.retry()
                    },
                    |tx| {
                        let (world, attempt) = &mut *both.borrow_mut();
                        attempt.writes = writes.clone();
                        let got = number(tx.get(map, name)?);
                        attempt.saw(world, key, got);
                        Ok(())
                    },
                )?;
            }
            _ => {}
        }
        Ok(())
    }

    fn tx_version<'t>(&mut self, tx: &mut Tx<'t, 'm>, attempt: &mut Attempt, key: u64) -> Stepped {
        let map: &'m Map = self.map;
        let version = tx.entry_version(map, &self.key(key))?;
        match attempt.writes.get(&key) {
            Some(own) => {
                assert_eq!(version.is_some(), own.is_some());
                match version {
                    Some(version) => drop(attempt.promised.insert(key, version)),
                    None => drop(attempt.promised.remove(&key)),
                }
            }
            None => attempt.observe(self, Some(key), |state| {
                state.keys.get(&key).map(|(_, version)| *version) == version
            }),
        }
        Ok(())
    }

    /// An attempt has committed: on the last state, or on any since it began if it wrote nothing.
    fn committed(&mut self, attempt: Attempt) {
        if attempt.writes.is_empty() && attempt.cell.is_none() {
            return;
        }
        let mut state = self.now().clone();
        for (key, seen) in &attempt.seen {
            assert_eq!(
                state.keys.get(key),
                seen.as_ref(),
                "committed on a state that has passed"
            );
        }
        assert!(attempt.seen_cell.is_none_or(|cell| cell == state.cell));
        for (key, number) in attempt.writes {
            match number {
                Some(number) => {
                    let version = self.map.version(&self.key(key)).expect("it was inserted");
                    if let Some(promised) = attempt.promised.get(&key) {
                        assert_eq!(version, *promised);
                    }
                    self.note(&mut state, key, number, version);
                }
                // A removal of what the attempt itself has inserted writes nothing, or a vacant
                // node more.
                None if state.keys.contains_key(&key) => self.note_removal(&mut state, key),
                None => self.vacant_writes += 1,
            }
        }
        state.cell = attempt.cell.unwrap_or(state.cell);
        self.states.push(state);
        self.tally.committed += 1;
    }
}
