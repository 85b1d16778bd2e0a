//! Accounts that money is moved between: in cells, and in what else would do.

mod locked;
mod step;

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};

use latchwork::{VersionedCell, atomically, snapshot, update_all};
use parking_lot::Mutex;
use stm::TVar;

pub use self::locked::{ByLockmap, ByTable, Global, Happy, OrderedRw, Striped};
pub use self::step::{Step, opposite_pairs, random_steps};
use self::step::{gather, in_order};
use crate::workload::Rng;

/// The number of accounts, unless a benchmark states another.
pub const ACCOUNTS: usize = 1024;

/// The initial balance of each account.
pub const FUNDS: i64 = 1_000;

/// Accounts, each step on which is as if it were alone.
pub trait Bank: Sync {
    /// So many accounts, with [`FUNDS`] each.
    fn new(accounts: usize) -> Self;

    /// Sums the accounts that are read, applies `change` to those that are written, and returns the
    /// sum.
    fn step(&self, step: &Step, change: impl Fn(&mut [i64])) -> i64;

    /// Moves one unit. The accounts differ.
    fn transfer(&self, from: usize, to: usize) {
        self.step(&Step::writing([from, to]), |funds| {
            funds[0] -= 1;
            funds[1] += 1;
        });
    }

    /// What two accounts have together at one moment. They differ.
    fn both(&self, one: usize, other: usize) -> i64 {
        self.step(&Step::reading([one, other]), |_| ())
    }

    /// The sum of all accounts at one instant.
    fn total(&self) -> i64;
}

/// Cells: transactions, and snapshots of all.
#[derive(Debug)]
pub struct Cells(pub Box<[VersionedCell<i64>]>);

/// The `stm` crate: transactions for everything.
pub struct Stm(Box<[TVar<i64>]>);

/// A mutex for each account. A thread that needs several locks them in the order of the accounts.
#[derive(Debug)]
pub struct Ordered(Box<[Mutex<i64>]>);

impl std::fmt::Debug for Stm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stm").finish_non_exhaustive()
    }
}

impl Bank for Cells {
    fn new(accounts: usize) -> Self {
        Self((0..accounts).map(|_| VersionedCell::new(FUNDS)).collect())
    }

    fn step(&self, step: &Step, change: impl Fn(&mut [i64])) -> i64 {
        atomically(|tx| {
            let mut sum = 0;
            for &at in &step.reads {
                sum += tx.read(&self.0[at])?;
            }
            let mut funds = gather(step, |at| tx.read(&self.0[at]).copied())?;
            change(&mut funds);
            for (&at, funds) in step.writes.iter().zip(funds) {
                tx.set(&self.0[at], funds)?;
            }
            Ok(sum)
        })
    }

    fn transfer(&self, from: usize, to: usize) {
        let (from, to) = (&self.0[from], &self.0[to]);
        atomically(|tx| {
            tx.update(from, |funds| funds - 1)?;
            tx.update(to, |funds| funds + 1)
        });
    }

    fn both(&self, one: usize, other: usize) -> i64 {
        let (one, other) = (&self.0[one], &self.0[other]);
        atomically(|tx| Ok(tx.read(one)? + tx.read(other)?))
    }

    fn total(&self) -> i64 {
        snapshot(|s| self.0.iter().map(|account| *s.read(account)).sum())
    }
}

impl Bank for Stm {
    fn new(accounts: usize) -> Self {
        Self((0..accounts).map(|_| TVar::new(FUNDS)).collect())
    }

    fn step(&self, step: &Step, change: impl Fn(&mut [i64])) -> i64 {
        stm::atomically(|tx| {
            let mut sum = 0;
            for &at in &step.reads {
                sum += self.0[at].read(tx)?;
            }
            let mut funds = gather(step, |at| self.0[at].read(tx))?;
            change(&mut funds);
            for (&at, funds) in step.writes.iter().zip(funds) {
                self.0[at].write(tx, funds)?;
            }
            Ok(sum)
        })
    }

    fn transfer(&self, from: usize, to: usize) {
        let (from, to) = (&self.0[from], &self.0[to]);
        stm::atomically(|tx| {
            from.modify(tx, |funds| funds - 1)?;
            to.modify(tx, |funds| funds + 1)
        });
    }

    fn both(&self, one: usize, other: usize) -> i64 {
        let (one, other) = (&self.0[one], &self.0[other]);
        stm::atomically(|tx| Ok(one.read(tx)? + other.read(tx)?))
    }

    fn total(&self) -> i64 {
        stm::atomically(|tx| {
            let mut total = 0;
            for account in &self.0 {
                total += account.read(tx)?;
            }
            Ok(total)
        })
    }
}

impl Bank for Ordered {
    fn new(accounts: usize) -> Self {
        Self((0..accounts).map(|_| Mutex::new(FUNDS)).collect())
    }

    fn step(&self, step: &Step, change: impl Fn(&mut [i64])) -> i64 {
        let (reads, mut writes) = in_order(step, |at, _| self.0[at].lock());
        locked::work(&reads, &mut writes, change)
    }

    fn transfer(&self, from: usize, to: usize) {
        let (low, high) = (from.min(to), from.max(to));
        let (mut low_funds, mut high_funds) = (self.0[low].lock(), self.0[high].lock());
        let sign = if from == low { 1 } else { -1 };
        *low_funds -= sign;
        *high_funds += sign;
    }

    fn both(&self, one: usize, other: usize) -> i64 {
        let (low, high) = (one.min(other), one.max(other));
        let (low, high) = (self.0[low].lock(), self.0[high].lock());
        *low + *high
    }

    fn total(&self) -> i64 {
        let locked: Vec<_> = self.0.iter().map(|account| account.lock()).collect();
        locked.iter().map(|funds| **funds).sum()
    }
}

/// Pairs of different accounts, in no order. As many as a loop can run through without a second
/// thought.
#[must_use]
pub fn pairs(accounts: usize, seed: u64) -> Vec<(usize, usize)> {
    let mut rng = Rng::new(seed);
    let mut below = |n: usize| (rng.next() % n as u64) as usize;
    let pairs = (0..4096).map(|_| {
        let from = below(accounts);
        // Anything but `from`.
        (from, (from + 1 + below(accounts - 1)) % accounts)
    });
    pairs.collect()
}

/// Transfers so many times.
#[inline(never)]
pub fn transfers(bank: &impl Bank, pairs: &[(usize, usize)], times: u64) {
    for &(from, to) in pairs.iter().cycle().take(times as usize) {
        bank.transfer(from, to);
    }
}

/// Transfers so many times, by an update without a log.
#[inline(never)]
pub fn updates_of_two(cells: &Cells, pairs: &[(usize, usize)], times: u64) {
    for &(from, to) in pairs.iter().cycle().take(times as usize) {
        update_all((&cells.0[from], &cells.0[to]), |(a, b)| (a - 1, b + 1));
    }
}

/// Adds two accounts up so many times.
#[inline(never)]
pub fn sums_of_two(bank: &impl Bank, pairs: &[(usize, usize)], times: u64) {
    for &(one, other) in pairs.iter().cycle().take(times as usize) {
        black_box(bank.both(one, other));
    }
}

/// Transfers until `stop`; returns how often.
#[inline(never)]
pub fn transfers_until(bank: &impl Bank, pairs: &[(usize, usize)], stop: &AtomicBool) -> u64 {
    let mut done = 0;
    for &(from, to) in pairs.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        bank.transfer(from, to);
        done += 1;
    }
    done
}

/// What so many accounts have together, under all their locks at once: the array is on the stack,
/// so that the locks are all that it costs.
#[derive(Debug)]
pub struct Locks<const N: usize>([Mutex<i64>; N]);

impl<const N: usize> Default for Locks<N> {
    fn default() -> Self {
        Self([(); N].map(|()| Mutex::new(FUNDS)))
    }
}

impl<const N: usize> Locks<N> {
    /// Adds up so many times.
    #[inline(never)]
    pub fn totals(&self, times: u64) {
        for _ in 0..times {
            let locked = self.0.each_ref().map(Mutex::lock);
            black_box(locked.iter().map(|funds| **funds).sum::<i64>());
        }
    }
}

/// Adds up so many times in snapshots what so many cells have.
#[inline(never)]
pub fn totals<const N: usize>(cells: &[VersionedCell<i64>; N], times: u64) {
    for _ in 0..times {
        let total: i64 = snapshot(|s| cells.iter().map(|cell| *s.read(cell)).sum());
        black_box(total);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn holds<B: Bank>() {
        const ACCOUNTS: usize = 5;
        let bank = B::new(ACCOUNTS);
        thread::scope(|scope| {
            for seed in 0..2 {
                let bank = &bank;
                scope.spawn(move || transfers(bank, &pairs(ACCOUNTS, seed), 3_000));
            }
            for _ in 0..50 {
                assert_eq!(bank.total(), ACCOUNTS as i64 * FUNDS);
            }
        });
        assert_eq!(bank.total(), ACCOUNTS as i64 * FUNDS);
        let before = bank.both(0, 3);
        bank.transfer(0, 1);
        assert_eq!(bank.both(3, 0), before - 1);
        bank.transfer(4, 3);
        assert_eq!(bank.both(0, 3), before);
        // A rotation, in which a thread that reads 4 and writes the others out of order sees the
        // previous values.
        let before = [3, 1, 0].map(|at| bank.step(&Step::reading([at]), |_| ()));
        let fourth = bank.step(&Step::reading([4]), |_| ());
        let step = Step {
            reads: vec![4],
            writes: vec![3, 1, 0],
        };
        assert_eq!(bank.step(&step, |funds| funds.rotate_right(1)), fourth);
        let after = [1, 0, 3].map(|at| bank.step(&Step::reading([at]), |_| ()));
        assert_eq!(before, after);
    }

    /// Threads that rotate the same accounts in other orders: the set of balances does not change.
    fn rotates<B: Bank>() {
        const ACCOUNTS: usize = 8;
        let bank = &B::new(ACCOUNTS);
        thread::scope(|scope| {
            for seed in 0..2 {
                scope.spawn(move || {
                    for step in random_steps(ACCOUNTS, 4, 0.5, 0.0, seed) {
                        bank.step(&step, |funds| {
                            if let [first, .., last] = funds {
                                *first -= 3;
                                *last += 3;
                            }
                        });
                    }
                });
            }
        });
        assert_eq!(bank.total(), ACCOUNTS as i64 * FUNDS);
    }

    #[test]
    fn no_bank_loses_money_in_steps() {
        rotates::<Cells>();
        rotates::<Stm>();
        rotates::<Ordered>();
        rotates::<OrderedRw>();
        rotates::<Striped>();
        rotates::<Global>();
        rotates::<ByTable>();
        rotates::<ByLockmap>();
        rotates::<Happy>();
    }

    #[test]
    fn no_bank_loses_money() {
        holds::<Cells>();
        holds::<Stm>();
        holds::<Ordered>();
        holds::<OrderedRw>();
        holds::<Striped>();
        holds::<Global>();
        holds::<ByTable>();
        holds::<ByLockmap>();
        holds::<Happy>();
    }

    #[test]
    fn no_pair_is_of_one_account() {
        assert!(pairs(2, 1).iter().all(|(from, to)| from != to && *to < 2));
    }
}
