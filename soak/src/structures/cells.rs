//! Cells that are written in every way there is, read, kept, waited for, and thrown away.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Waker};
use std::thread::yield_now;
use std::time::Duration;

use latchwork::{RetryPolicy, VersionedCell, cell::OwnedVersioned};

use super::{Structure, Total, block_on, equal};
use crate::Plant;
use crate::crew::Worker;

const CELLS: usize = 12;
/// Snapshots that a thread keeps.
const KEPT: usize = 8;

/// Values that live, of all cells of this file.
static LIVE: AtomicU64 = AtomicU64::new(0);

/// One number in many words, so that a torn or freed value shows.
struct Value([u64; 8]);

impl Value {
    fn new(number: u64) -> Self {
        LIVE.fetch_add(1, Relaxed);
        Value(std::array::from_fn(|n| number.rotate_left(n as u32)))
    }

    fn number(&self) -> u64 {
        let number = self.0[0];
        for (n, word) in self.0.iter().enumerate() {
            assert_eq!(*word, number.rotate_left(n as u32), "a torn value");
        }
        number
    }

    fn next(&self) -> Self {
        Value::new(self.number() + 1)
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.number();
        self.0 = std::array::from_fn(|n| n as u64);
        LIVE.fetch_sub(1, Relaxed);
    }
}

pub(super) struct Cells {
    cells: Vec<VersionedCell<Value>>,
    /// Somebody writes it now and then, and at the end of a round.
    clock: VersionedCell<()>,
    writes: Total,
    operations: Total,
    leaks: bool,
}

thread_local! {
    static SNAPSHOTS: RefCell<VecDeque<OwnedVersioned<Value>>> = const { RefCell::new(VecDeque::new()) };
}

impl Cells {
    pub(super) fn new(plant: Option<Plant>) -> Self {
        Cells {
            cells: (0..CELLS)
                .map(|_| VersionedCell::new(Value::new(0)))
                .collect(),
            clock: VersionedCell::new(()),
            writes: Total::default(),
            operations: Total::default(),
            leaks: plant == Some(Plant::Leak),
        }
    }

    /// Waits for the clock, which somebody will write: another worker, or whoever ends the round.
    fn wait(&self, worker: &mut Worker) {
        let seen = self.clock.version();
        if worker.is_to_stop() {
            return;
        }
        // Not all at once.
        let may_block = !worker.is_first();
        match worker.rng.below(8) {
            0 if may_block => {
                self.clock.wait_changed(seen);
            }
            1 if may_block => {
                block_on(self.clock.changed(seen));
            }
            2 => {
                let patience = Duration::from_micros(worker.rng.below(300));
                let _ = self.clock.wait_changed_for(seen, patience);
            }
            _ => {
                let mut future = self.clock.changed(seen);
                let _ = Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop()));
            }
        }
    }
}

impl Structure for Cells {
    fn name(&self) -> &'static str {
        "cells"
    }

    fn operations(&self) -> &Total {
        &self.operations
    }

    fn act(&self, worker: &mut Worker) {
        let among = if worker.rng.one_in(2) { 2 } else { CELLS };
        let cell = &self.cells[worker.rng.below(among as u64) as usize];
        match worker.rng.below(16) {
            0..=2 => {
                cell.update(Value::next);
                self.writes.add();
            }
            3 | 4 => {
                let seen = cell.read();
                let next = seen.next();
                if worker.rng.one_in(4) {
                    yield_now();
                }
                if cell.compare_and_set(seen.version(), next).is_ok() {
                    self.writes.add();
                }
            }
            5 => {
                let policy = RetryPolicy::attempts(1 + worker.rng.below(3) as u32);
                let updated = cell.try_update(&policy, |old| match worker.rng.below(64) {
                    0 => worker.panic(),
                    1 => Err(()),
                    _ => Ok(old.next()),
                });
                if updated.is_ok() {
                    self.writes.add();
                }
            }
            6 | 7 => {
                cell.read().number();
            }
            8 => {
                // One pin for many reads, long enough for others to write meanwhile.
                let pin = latchwork::pin();
                for cell in &self.cells {
                    let seen = cell.read_in(&pin);
                    if worker.rng.one_in(32) {
                        yield_now();
                    }
                    seen.number();
                }
            }
            9 | 10 => SNAPSHOTS.with_borrow_mut(|kept| {
                kept.push_back(cell.read_owned());
                if self.leaks && worker.rng.one_in(2) {
                    std::mem::forget(cell.read_owned());
                }
                if kept.len() > KEPT {
                    kept.pop_front().expect("it has some").number();
                }
            }),
            11 => {
                // A cell that comes and goes.
                let mut short = VersionedCell::new(Value::new(1));
                short.set(Value::new(2));
                let old = short.swap(Value::new(3)).to_owned();
                assert_eq!(old.number(), 2);
                if let Some(value) = short.get_mut() {
                    *value = Value::new(4);
                }
                if worker.rng.one_in(2) {
                    assert_eq!(short.into_inner().map_or(0, |value| value.number()), 4);
                }
            }
            12 | 13 => {
                self.clock.set(());
            }
            _ => self.wait(worker),
        }
    }

    fn close(&self) {
        self.clock.set(());
    }

    fn check(&self) -> Result<(), String> {
        let written = self.cells.iter().map(|cell| cell.read().number()).sum();
        equal("updates of cells", written, self.writes.get())?;
        let versions = self.cells.iter().map(|cell| cell.version().get()).sum();
        equal("versions of cells", versions, self.writes.get())?;
        if self.leaks {
            // What it forgets is for the heap to show.
            return Ok(());
        }
        equal("values that live", LIVE.load(Relaxed), CELLS as u64)
    }
}
