//! Locks of levels, and locks whose order is learned: some stay and some come and go. That the
//! order is checked at all takes a build with debug assertions, as the sanitizers have.

use std::thread::yield_now;

use latchwork::ordered::checked;
use latchwork::ordered::{OrderedMutex, OrderedRwLock, RootToken};

use super::{Structure, Total, equal};
use crate::crew::Worker;

latchwork::levels! {
    /// Taken first, several at once.
    Shelves;
    /// Taken last.
    Ledger;
}

const SHELVES: u64 = 6;

pub(super) struct Ordered {
    shelves: Vec<OrderedMutex<Shelves, u64>>,
    /// How much is on all shelves: two halves that are written one after the other.
    ledger: OrderedRwLock<Ledger, [u64; 2]>,
    /// Taken in the order in which they stand.
    rows: Vec<checked::Mutex<u64>>,
    /// Taken after any of them.
    longest: checked::RwLock<u64>,
    stored: Total,
    planted: Total,
    operations: Total,
}

impl Ordered {
    pub(super) fn new() -> Self {
        Ordered {
            shelves: (0..SHELVES).map(|_| OrderedMutex::new(0)).collect(),
            ledger: OrderedRwLock::new([0; 2]),
            rows: (0..SHELVES).map(|_| checked::Mutex::new(0)).collect(),
            longest: checked::RwLock::new(0),
            stored: Total::default(),
            planted: Total::default(),
            operations: Total::default(),
        }
    }

    /// Two that differ.
    fn two(worker: &mut Worker) -> [usize; 2] {
        let first = worker.rng.below(SHELVES);
        let second = (first + 1 + worker.rng.below(SHELVES - 1)) % SHELVES;
        [first as usize, second as usize]
    }

    fn act_by_level(&self, worker: &mut Worker, root: &mut RootToken) {
        let [from, to] = Self::two(worker);
        match worker.rng.below(8) {
            0 | 1 => {
                // From one shelf to another, which somebody else may ask for in the other order.
                let both = [&self.shelves[from], &self.shelves[to]];
                let (mut both, _) = OrderedMutex::lock_all(both, root);
                if worker.rng.one_in(64) {
                    worker.panic();
                }
                let moved = (*both[0]).min(worker.rng.below(3));
                *both[0] -= moved;
                if worker.rng.one_in(16) {
                    yield_now();
                }
                *both[1] += moved;
            }
            2 | 3 => {
                let (mut shelf, mut key) = self.shelves[to].lock(root);
                let (mut ledger, _) = self.ledger.write(&mut key);
                *shelf += 1;
                ledger[0] += 1;
                if worker.rng.one_in(16) {
                    yield_now();
                }
                ledger[1] += 1;
                self.stored.add();
            }
            4 => {
                let Some((mut shelf, mut key)) = self.shelves[to].try_lock(root) else {
                    return;
                };
                if let Some((mut ledger, _)) = self.ledger.try_write(&mut key) {
                    *shelf += 1;
                    *ledger = ledger.map(|half| half + 1);
                    self.stored.add();
                }
            }
            5 => {
                let (shelves, mut key) = OrderedMutex::lock_all(&self.shelves, root);
                let (ledger, _) = self.ledger.read(&mut key);
                let sum = shelves.iter().map(|shelf| **shelf).sum::<u64>();
                assert_eq!(*ledger, [sum; 2], "what the ledger says of the shelves");
            }
            _ => {
                let (ledger, _) = self.ledger.read(root);
                assert_eq!(ledger[0], ledger[1], "beside a writer");
            }
        }
    }

    fn act_as_learned(&self, worker: &mut Worker) {
        let mut two = Self::two(worker);
        two.sort_unstable();
        match worker.rng.below(4) {
            0 => {
                let mut first = self.rows[two[0]].lock();
                if worker.rng.one_in(64) {
                    worker.panic();
                }
                let mut second = self.rows[two[1]].lock();
                // From the first to the second, and given back in any order.
                let moved = (*first).min(1);
                *first -= moved;
                *second += moved;
                let mut longest = self.longest.write();
                *longest = (*second).max(*longest);
                if worker.rng.one_in(2) {
                    drop(first);
                    drop(longest);
                }
            }
            1 => {
                // One that nobody else has seen, after one that all know; what was learned of it
                // goes with it.
                let row = self.rows[two[0]].lock();
                let short = checked::Mutex::new(*row);
                assert_eq!(*short.lock(), *row);
            }
            2 => {
                if let Some(mut row) = self.rows[two[1]].try_lock() {
                    *row += 1;
                    self.planted.add();
                    let mut longest = self.longest.write();
                    *longest = (*row).max(*longest);
                }
            }
            _ => {
                // Whoever lengthens a row holds it until it is known to be the longest.
                let row = self.rows[two[0]].lock();
                assert!(*row <= *self.longest.read(), "a row beyond the longest");
            }
        }
    }
}

impl Structure for Ordered {
    fn name(&self) -> &'static str {
        "ordered"
    }

    fn operations(&self) -> &Total {
        &self.operations
    }

    fn act(&self, worker: &mut Worker) {
        let mut root = RootToken::take().expect("who had it before has given it back");
        if worker.rng.one_in(2) {
            self.act_by_level(worker, &mut root);
        } else {
            self.act_as_learned(worker);
        }
    }

    fn check(&self) -> Result<(), String> {
        let mut root = RootToken::take().ok_or("a key is gone")?;
        let (shelves, mut key) = OrderedMutex::lock_all(&self.shelves, &mut root);
        let on_shelves: u64 = shelves.iter().map(|shelf| **shelf).sum();
        equal("things on shelves", on_shelves, self.stored.get())?;
        let (ledger, _) = self.ledger.read(&mut key);
        equal("things in the ledger", *ledger, [self.stored.get(); 2])?;
        let planted: u64 = self.rows.iter().map(|row| *row.lock()).sum();
        equal("what was planted", planted, self.planted.get())
    }
}
