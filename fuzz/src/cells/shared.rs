//! Calls that others may make at the same time.

use std::cell::Cell;
use std::slice::Iter;
use std::time::Duration;

use latchwork::{
    RetryPolicy, VersionedCell,
    cell::{Conflict, UpdateError, Version},
};

use crate::value::Value;

use super::{CELLS, Expected, Kept, MOST_KEPT, MOST_NESTED, World, after, check};

impl World {
    /// Calls that others may make at the same time. Some keep what they have read while the next
    /// ones run.
    pub(super) fn shared(
        &mut self,
        cells: &[VersionedCell<Value>; CELLS],
        at: usize,
        [kind, with]: [u8; 2],
        ops: &mut Iter<'_, [u8; 2]>,
        depth: usize,
    ) {
        let cell = &cells[at];
        let Expected {
            version, number, ..
        } = self.expected[at];
        match kind % 21 {
            4 | 5 => {
                let written = cell.set(self.value(with.into()));
                self.wrote(at, written, with.into());
            }
            6 => {
                let old = cell.swap(self.value(with.into()));
                assert_eq!((old.version(), old.number), (version, number));
                drop(old);
                self.wrote(at, cell.version(), with.into());
            }
            7 => {
                let written = cell.compare_and_set(version, self.value(with.into()));
                let written = written.expect("it is the current version");
                self.wrote(at, written, with.into());
            }
            8 => {
                // Of the past, of the future, of another cell.
                let wrong = match with % 4 {
                    0 => after(version, 1 + u64::from(with)),
                    1 => after(version, u64::MAX - u64::from(with)),
                    2 => Version::new(u64::MAX),
                    _ => self.expected[(at + 1) % CELLS].version,
                };
                if wrong == version {
                    return;
                }
                let value = self.value(with.into());
                let Err(Conflict {
                    expected,
                    current,
                    value,
                }) = cell.compare_and_set(wrong, value)
                else {
                    panic!("{wrong} is not the current version, {version}")
                };
                assert_eq!((expected, current), (wrong, version));
                assert_eq!(value.number, u64::from(with));
                self.tally.refused += 1;
            }
            9 => {
                let written =
                    cell.update(|old| Value::new(old.number ^ u64::from(with), &self.live));
                self.wrote(at, written, number ^ u64::from(with));
            }
            10 => {
                let aborted = cell.try_update(&RetryPolicy::forever(), |old| Err(old.number));
                assert_eq!(aborted, Err(UpdateError::Aborted(number)));
                self.tally.refused += 1;
            }
            11 => {
                // The closure writes the cell itself so often: with one attempt more it succeeds.
                let (losses, attempts) = (u32::from(with % 4), u32::from(with / 4 % 4) + 1);
                let calls = Cell::new(0);
                let updated = cell.try_update(&RetryPolicy::attempts(attempts), |old| {
                    if calls.replace(calls.get() + 1) < losses {
                        cell.set(self.value(old.number + 1));
                    } else {
                        // Somebody waits: no attempt is lost to that.
                        let unchanged = cell.wait_changed_for(cell.version(), Duration::ZERO);
                        assert_eq!(unchanged, None);
                    }
                    Ok::<_, ()>(self.value(old.number))
                });
                let lost = losses.min(attempts);
                for n in 1..=u64::from(lost) {
                    self.wrote(at, after(version, n), number + n);
                }
                if losses < attempts {
                    let written = updated.expect("nobody wrote in between");
                    self.wrote(at, written, number + u64::from(losses));
                } else {
                    assert_eq!(updated, Err(UpdateError::Contended));
                    self.tally.refused += 1;
                }
            }
            12 => {
                check(cell, self.expected[at]);
                assert_eq!(cell.version(), version);
            }
            13 | 14 => {
                if self.kept.len() < MOST_KEPT {
                    let snapshot = match with % 3 {
                        0 => cell.read_owned(),
                        1 => cell.read().to_owned(),
                        _ => cell.read_in(&latchwork::pin()).to_owned(),
                    };
                    assert_eq!((snapshot.version(), snapshot.number), (version, number));
                    let name = self.expected[at].name();
                    self.kept.push(Kept {
                        name,
                        number,
                        snapshot,
                    });
                }
            }
            15 => self.give_up(with),
            16 => {
                let snapshot = cell.read();
                self.some_more(cells, with, ops, depth);
                assert_eq!((snapshot.version(), snapshot.number), (version, number));
            }
            17 => {
                let pin = latchwork::pin();
                let snapshot = cell.read_in(&pin);
                self.some_more(cells, with, ops, depth);
                assert_eq!((snapshot.version(), snapshot.number), (version, number));
            }
            18 | 19 => self.wait(cells, at, with, ops, depth),
            _ => {
                let other = after(version, 1 + u64::from(with));
                assert_eq!(cell.wait_changed(other), version);
                assert_eq!(cell.wait_changed_for(version, Duration::ZERO), None);
            }
        }
    }

    /// A few of the next calls, those among them that can be made while something is borrowed.
    pub(super) fn some_more(
        &mut self,
        cells: &[VersionedCell<Value>; CELLS],
        with: u8,
        ops: &mut Iter<'_, [u8; 2]>,
        depth: usize,
    ) {
        if depth == MOST_NESTED {
            return;
        }
        for _ in 0..with % 32 {
            let Some(&[kind, with]) = ops.next() else {
                return;
            };
            let at = usize::from(kind >> 6) % CELLS;
            self.shared(cells, at, [kind & 63, with], ops, depth + 1);
        }
    }
}
