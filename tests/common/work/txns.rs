//! Transactions, snapshots and single calls of cells, recorded with the versions that they have
//! read and written.

use std::collections::HashMap;

use latchwork::{VersionedCell, atomically, cell::Version, snapshot, update_all};

use crate::common::history::{Txn, check, stamp};
use crate::common::{Rng, pause};

/// Says who wrote it: each writes another number, so that a value tells its version. The first ones
/// are 0.
pub type Cell = VersionedCell<u64>;

/// Of eight steps, how many are what.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    pub snapshots: u64,
    pub singles: u64,
}

/// One thread's or task's part.
pub struct Recorder<'c> {
    cells: &'c [Cell],
    rng: Rng,
    /// The most cells of a transaction, and what else is done.
    most: u64,
    mix: Mix,
    /// The next number to write.
    next: u64,
    record: Record,
}

/// What it has recorded.
#[derive(Debug, Default)]
pub struct Record {
    txns: Vec<Txn>,
    /// What each number became.
    versions: HashMap<(usize, u64), u64>,
    /// Reads of numbers alone, by transaction.
    unversioned: Vec<(usize, usize, u64)>,
    done: Done,
}

/// What was done in all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    pub commits: usize,
    pub lost: usize,
    pub snapshots: usize,
    /// Pairs with an order.
    pub pairs: usize,
}

impl std::ops::AddAssign for Done {
    fn add_assign(&mut self, other: Self) {
        self.commits += other.commits;
        self.lost += other.lost;
        self.snapshots += other.snapshots;
        self.pairs += other.pairs;
    }
}

impl<'c> Recorder<'c> {
    pub fn new(cells: &'c [Cell], thread: u64, seed: u64, most: u64, mix: Mix) -> Self {
        Self {
            cells,
            rng: Rng::new(seed << 8 | thread),
            most,
            mix,
            next: thread << 32,
            record: Record::default(),
        }
    }

    pub fn into_record(self) -> Record {
        self.record
    }

    pub fn step(&mut self) {
        let (Mix { snapshots, singles }, pick) = (self.mix, self.rng.below(8));
        if pick < snapshots {
            self.snapshot();
        } else if pick < snapshots + singles {
            self.single();
        } else {
            self.transaction();
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn cell(&mut self) -> usize {
        self.rng.below(self.cells.len() as u64) as usize
    }

    fn finish(&mut self, mut txn: Txn) {
        txn.ended = stamp();
        self.record.txns.push(txn);
    }

    /// Reads and writes a few cells. What lost attempts have read is kept too: also that must have
    /// been so at one moment.
    fn transaction(&mut self) {
        let picks: Vec<(usize, u64)> = (0..1 + self.rng.below(self.most))
            .map(|_| (self.cell(), self.rng.below(6)))
            .collect();
        let (cells, mut attempts) = (self.cells, Vec::<Txn>::new());
        let written = atomically(|tx| {
            if let Some(lost) = attempts.last_mut() {
                lost.ended = stamp();
            }
            let mut written = Vec::<(usize, u64, u64)>::new();
            attempts.push(Txn {
                began: stamp(),
                ..Txn::default()
            });
            for &(i, what) in &picks {
                let own = written.iter().rev().find(|(cell, ..)| *cell == i);
                let own: Option<u64> = own.map(|&(_, number, _)| number);
                let value = *tx.read(&cells[i])?;
                assert_eq!(own.unwrap_or(value), value, "its own write");
                let version = tx.version(&cells[i])?;
                let txn = attempts.last_mut().expect("pushed above");
                if own.is_none() {
                    self.record.versions.insert((i, value), version.get());
                    txn.reads.push((i, version.get()));
                }
                if what < 3 {
                    let number = self.number();
                    match what {
                        0 => tx.set(&cells[i], number)?,
                        _ => tx.update(&cells[i], |old| {
                            assert_eq!(*old, value, "the same as before");
                            number
                        })?,
                    }
                    let made = tx.version(&cells[i])?;
                    written.push((i, number, made.get()));
                }
                if what == 5 {
                    // The others, in the middle of it.
                    pause();
                }
            }
            Ok(written)
        });
        let mut last = attempts.pop().expect("one attempt at the least");
        for (i, number, version) in written {
            // Written twice, the last counts, and the version is one.
            last.writes.retain(|write| *write != (i, version));
            last.writes.push((i, version));
            self.record.versions.insert((i, number), version);
        }
        self.record.done.lost += attempts.len();
        self.record.done.commits += 1;
        self.record.txns.append(&mut attempts);
        self.finish(last);
    }

    fn snapshot(&mut self) {
        let (cells, began) = (self.cells, stamp());
        let linger = self.rng.one_in(4);
        let seen: Vec<u64> = snapshot(|s| {
            let values = cells.iter().enumerate().map(|(i, cell)| {
                if linger && i % 2 == 1 {
                    pause();
                }
                *s.read(cell)
            });
            values.collect()
        });
        let txn = self.record.txns.len();
        let seen = seen.into_iter().enumerate();
        self.record
            .unversioned
            .extend(seen.map(|(i, value)| (txn, i, value)));
        self.record.done.snapshots += 1;
        self.finish(Txn {
            began,
            ..Txn::default()
        });
    }

    /// Two cells at once, without a log unless another thread is in the way. The values that lost
    /// attempts have read are recorded too.
    fn update(&mut self) {
        let (i, mut j) = (self.cell(), self.cell());
        if i == j {
            j = (j + 1) % self.cells.len();
        }
        let numbers = [self.number(), self.number()];
        let linger = self.rng.one_in(4);
        let (mut began, mut attempts) = (stamp(), Vec::new());
        let made = update_all([&self.cells[i], &self.cells[j]], |seen| {
            if linger {
                pause();
            }
            attempts.push((began, stamp(), seen.map(|number| *number)));
            // The next attempt, if there is one, reads before its closure runs.
            began = stamp();
            numbers
        });
        let (began, ..) = attempts.pop().expect("one attempt at the least");
        self.record.done.lost += attempts.len();
        self.record.done.commits += 1;
        for (began, ended, seen) in attempts {
            let txn = self.record.txns.len();
            let seen = [(txn, i, seen[0]), (txn, j, seen[1])];
            self.record.unversioned.extend(seen);
            self.record.txns.push(Txn {
                began,
                ended,
                ..Txn::default()
            });
        }
        let made = [(i, made[0].get()), (j, made[1].get())];
        for ((cell, version), number) in made.into_iter().zip(numbers) {
            self.record.versions.insert((cell, number), version);
        }
        self.finish(Txn {
            began,
            ended: 0,
            reads: made.map(|(cell, version)| (cell, version - 1)).into(),
            writes: made.into(),
        });
    }

    /// One cell, outside of any transaction, or two.
    fn single(&mut self) {
        if self.cells.len() > 1 && self.rng.one_in(2) {
            return self.update();
        }
        let (i, number, began) = (self.cell(), self.number(), stamp());
        let (mut reads, mut writes) = (Vec::new(), Vec::new());
        let cell = &self.cells[i];
        let made = match self.rng.below(3) {
            0 => {
                let seen = cell.read();
                self.record
                    .versions
                    .insert((i, *seen), seen.version().get());
                reads.push((i, seen.version().get()));
                None
            }
            1 => Some(cell.set(number)),
            _ => {
                let made = cell.update(|_| number);
                reads.push((i, made.get() - 1));
                Some(made)
            }
        };
        if let Some(made) = made.map(Version::get) {
            self.record.versions.insert((i, number), made);
            writes.push((i, made));
        }
        self.finish(Txn {
            began,
            ended: 0,
            reads,
            writes,
        });
    }
}

/// What was done.
///
/// # Panics
/// If there is no order of it.
pub fn judge(records: Vec<Record>) -> Done {
    let mut versions = HashMap::new();
    for (number, version) in records.iter().flat_map(|r| &r.versions) {
        let before = versions.insert(*number, *version);
        assert_eq!(
            before.unwrap_or(*version),
            *version,
            "two versions of one value"
        );
    }
    let (mut history, mut done) = (Vec::new(), Done::default());
    for mut record in records {
        for (txn, cell, value) in record.unversioned {
            let version = if value == 0 {
                0
            } else {
                versions[&(cell, value)]
            };
            record.txns[txn].reads.push((cell, version));
        }
        history.append(&mut record.txns);
        done += record.done;
    }
    match check(&history) {
        Ok(pairs) => done.pairs = pairs,
        Err(wrong) => panic!("{wrong}"),
    }
    done
}
