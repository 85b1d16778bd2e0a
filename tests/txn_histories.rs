//! Many threads, few cells, and a record of who has read and written which version: transactions, snapshots,
//! single reads and writes, and attempts that were lost. There must be an order of all of them that explains it
//! and agrees with the clock.

mod common;

use std::collections::HashMap;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use common::history::{Txn, check};
use common::{Rng, watchdog};
use latchwork::{Version, VersionedCell, atomically, snapshot};

/// Says who wrote it: each writes another number, so that a value tells its version. The first ones are 0.
type Cell = VersionedCell<u64>;

/// What one thread has done.
struct Recorder<'c> {
    cells: &'c [Cell],
    start: Instant,
    rng: Rng,
    /// The next number to write.
    next: u64,
    txns: Vec<Txn>,
    /// What each number became.
    versions: HashMap<(usize, u64), u64>,
    /// Reads of numbers alone, by transaction.
    unversioned: Vec<(usize, usize, u64)>,
    lost: usize,
    commits: usize,
    snapshots: usize,
}

impl<'c> Recorder<'c> {
    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn cell(&mut self) -> usize {
        self.rng.below(self.cells.len() as u64) as usize
    }

    fn finish(&mut self, mut txn: Txn) {
        txn.ended = self.now();
        self.txns.push(txn);
    }

    /// Reads and writes up to `most` cells. What lost attempts have read is kept too: also that must have been
    /// so at one moment.
    fn transaction(&mut self, most: u64) {
        let picks: Vec<(usize, u64)> = (0..1 + self.rng.below(most))
            .map(|_| (self.cell(), self.rng.below(6)))
            .collect();
        let (cells, mut attempts) = (self.cells, Vec::<Txn>::new());
        let written = atomically(|tx| {
            if let Some(lost) = attempts.last_mut() {
                lost.ended = self.now();
            }
            let (began, mut written) = (self.now(), Vec::<(usize, u64, u64)>::new());
            attempts.push(Txn {
                began,
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
                    self.versions.insert((i, value), version.get());
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
                    thread::yield_now();
                }
            }
            Ok(written)
        });
        let mut last = attempts.pop().expect("one attempt at the least");
        for (i, number, version) in written {
            // Written twice, the last counts, and the version is one.
            last.writes.retain(|write| *write != (i, version));
            last.writes.push((i, version));
            self.versions.insert((i, number), version);
        }
        self.lost += attempts.len();
        self.commits += 1;
        self.txns.append(&mut attempts);
        self.finish(last);
    }

    fn snapshot(&mut self) {
        let (cells, began) = (self.cells, self.now());
        let pause = self.rng.one_in(4);
        let seen: Vec<u64> = snapshot(|s| {
            let values = cells.iter().enumerate().map(|(i, cell)| {
                if pause && i % 2 == 1 {
                    thread::yield_now();
                }
                *s.read(cell)
            });
            values.collect()
        });
        let txn = self.txns.len();
        let seen = seen.into_iter().enumerate();
        self.unversioned
            .extend(seen.map(|(i, value)| (txn, i, value)));
        self.snapshots += 1;
        self.finish(Txn {
            began,
            ..Txn::default()
        });
    }

    /// One cell, outside of any transaction.
    fn single(&mut self) {
        let (i, number, began) = (self.cell(), self.number(), self.now());
        let (mut reads, mut writes) = (Vec::new(), Vec::new());
        let cell = &self.cells[i];
        let made = match self.rng.below(3) {
            0 => {
                let seen = cell.read();
                self.versions.insert((i, *seen), seen.version().get());
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
            self.versions.insert((i, number), made);
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

/// What all rounds have done.
#[derive(Debug, Default)]
struct Done {
    commits: usize,
    lost: usize,
    snapshots: usize,
    /// Pairs with an order.
    pairs: usize,
}

/// One history: `threads` do `each` things on `cells` cells.
fn round(seed: u64, threads: u64, cells: usize, each: usize, done: &mut Done) {
    let cells: Vec<Cell> = (0..cells).map(|_| Cell::new(0)).collect();
    let (ready, start) = (Barrier::new(threads as usize), Instant::now());
    let most = cells.len() as u64 + cells.len() as u64 / 4;
    let recorders: Vec<_> = thread::scope(|s| {
        let threads: Vec<_> = (0..threads)
            .map(|thread| {
                let mut recorder = Recorder {
                    cells: &cells,
                    start,
                    rng: Rng::new(seed << 8 | thread),
                    next: thread << 32,
                    txns: Vec::new(),
                    versions: HashMap::new(),
                    unversioned: Vec::new(),
                    lost: 0,
                    commits: 0,
                    snapshots: 0,
                };
                let ready = &ready;
                s.spawn(move || {
                    ready.wait();
                    for _ in 0..each {
                        match recorder.rng.below(8) {
                            0 => recorder.snapshot(),
                            1 => recorder.single(),
                            _ => recorder.transaction(most),
                        }
                    }
                    recorder
                })
            })
            .collect();
        let threads = threads.into_iter();
        threads
            .map(|t| t.join().expect("no thread panics"))
            .collect()
    });

    let mut versions = HashMap::new();
    for (number, version) in recorders.iter().flat_map(|r| &r.versions) {
        let before = versions.insert(*number, *version);
        assert_eq!(
            before.unwrap_or(*version),
            *version,
            "two versions of one value"
        );
    }
    let mut history = Vec::new();
    for mut recorder in recorders {
        for (txn, cell, value) in recorder.unversioned {
            let version = if value == 0 {
                0
            } else {
                versions[&(cell, value)]
            };
            recorder.txns[txn].reads.push((cell, version));
        }
        history.append(&mut recorder.txns);
        done.commits += recorder.commits;
        done.lost += recorder.lost;
        done.snapshots += recorder.snapshots;
    }
    match check(&history) {
        Ok(pairs) => done.pairs += pairs,
        Err(wrong) => panic!("seed {seed}, {} cells: {wrong}", cells.len()),
    }
}

/// Rounds until enough was lost to others that the order is worth something; the watchdog ends it otherwise.
fn rounds(cells: usize, each: usize, enough: usize) {
    let mut done = Done::default();
    for seed in 0.. {
        round(seed, 3, cells, each, &mut done);
        if seed >= 40 && done.lost >= enough {
            break;
        }
    }
    println!("{cells} cells: {done:?}");
    assert!(done.snapshots > 100 && done.pairs > 10 * enough, "{done:?}");
}

#[test]
fn few_cells() {
    let _dog = watchdog("few_cells");
    rounds(3, 60, 200);
}

/// More than are looked through at each read.
#[test]
fn cells_beyond_those_that_are_looked_through() {
    let _dog = watchdog("cells_beyond_those_that_are_looked_through");
    rounds(24, 25, 200);
}

/// Cells, each with a version.
type Versions<'a> = &'a [(usize, u64)];

fn txn(began: u64, ended: u64, reads: Versions<'_>, writes: Versions<'_>) -> Txn {
    Txn {
        began,
        ended,
        reads: reads.to_vec(),
        writes: writes.to_vec(),
    }
}

#[test]
fn the_checker_accepts_what_has_an_order() {
    let history = [
        txn(0, 9, &[(0, 0)], &[(1, 1)]),
        // Overlaps with all, and comes last of them although it ended first.
        txn(1, 3, &[(0, 2), (1, 1)], &[]),
        txn(0, 9, &[(0, 0)], &[(0, 1)]),
        txn(0, 9, &[(0, 1)], &[(0, 2)]),
        // Begins when another ends: that is not after it.
        txn(3, 10, &[(0, 0), (1, 0)], &[]),
    ];
    // 4 before 0 and 2, 0 before 1 and 2, 2 before 3 (twice), 3 before 1.
    assert_eq!(check(&history), Ok(7));
    assert_eq!(check(&[]), Ok(0));
}

#[test]
fn the_checker_rejects_what_has_none() {
    let overlapping = |txns: &[(Versions<'_>, Versions<'_>)]| -> Vec<Txn> {
        let txns = txns.iter();
        txns.map(|(reads, writes)| txn(0, 9, reads, writes))
            .collect()
    };
    let wrong = [
        (
            "write skew",
            overlapping(&[
                (&[(0, 0), (1, 0)], &[(0, 1)]),
                (&[(0, 0), (1, 0)], &[(1, 1)]),
            ]),
        ),
        (
            "lost update",
            overlapping(&[(&[(0, 0)], &[(0, 1)]), (&[(0, 0)], &[(0, 2)])]),
        ),
        (
            "long fork",
            overlapping(&[
                (&[], &[(0, 1)]),
                (&[], &[(1, 1)]),
                (&[(0, 1), (1, 0)], &[]),
                (&[(0, 0), (1, 1)], &[]),
            ]),
        ),
        (
            "torn read",
            overlapping(&[(&[], &[(0, 1), (1, 1)]), (&[(0, 1), (1, 0)], &[])]),
        ),
        (
            "read-only anomaly",
            overlapping(&[
                (&[(0, 0)], &[(1, 1)]),
                (&[], &[(0, 1)]),
                (&[(0, 1), (1, 0)], &[]),
            ]),
        ),
        (
            "real-time inversion",
            vec![txn(0, 1, &[], &[(0, 1)]), txn(2, 3, &[(0, 0)], &[])],
        ),
        (
            "read from the future",
            vec![txn(0, 1, &[(0, 1)], &[]), txn(2, 3, &[], &[(0, 1)])],
        ),
        ("skipped", overlapping(&[(&[], &[(0, 2)])])),
        ("out of nowhere", overlapping(&[(&[(0, 7)], &[])])),
        (
            "written twice",
            overlapping(&[(&[], &[(0, 1)]), (&[], &[(0, 1)])]),
        ),
    ];
    for (what, history) in wrong {
        let found = check(&history);
        assert!(found.is_err(), "{what} was accepted: {found:?}");
    }
}
