//! Money that transactions move, some of which end otherwise.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Waker};
use std::thread::yield_now;

use latchwork::{Abort, Transaction, TxError, VersionedCell, atomically, snapshot};

use super::{Structure, Total, equal};
use crate::Plant;
use crate::crew::Worker;

/// More than a transaction looks through at each read.
const ACCOUNTS: u64 = 40;
const MONEY: i64 = 1_000 * ACCOUNTS as i64;

pub(super) struct Transfers {
    accounts: Vec<VersionedCell<i64>>,
    /// Two doctors, of whom one at least is on call: either may leave if the other stays, and comes
    /// back.
    on_call: [VersionedCell<bool>; 2],
    operations: Total,
    gift: AtomicBool,
}

impl Transfers {
    pub(super) fn new(plant: Option<Plant>) -> Self {
        Transfers {
            accounts: (0..ACCOUNTS).map(|_| VersionedCell::new(1_000)).collect(),
            on_call: [true, true].map(VersionedCell::new),
            operations: Total::default(),
            gift: AtomicBool::new(plant == Some(Plant::Total)),
        }
    }

    fn account(&self, worker: &mut Worker) -> &VersionedCell<i64> {
        let among = if worker.rng.one_in(2) { 3 } else { ACCOUNTS };
        &self.accounts[worker.rng.below(among) as usize]
    }

    /// Reads both and writes one: two who do so at once must not both leave.
    fn leave_or_come(&self, me: usize) {
        let anybody = atomically(|tx| {
            let other = *tx.read(&self.on_call[1 - me])?;
            let was = *tx.read(&self.on_call[me])?;
            yield_now();
            tx.set(&self.on_call[me], !was || !other)?;
            Ok(was || other)
        });
        assert!(anybody, "nobody is on call");
    }

    fn money(&self) -> i64 {
        snapshot(|view| {
            self.accounts
                .iter()
                .map(|account| *view.read(account))
                .sum()
        })
    }
}

impl Structure for Transfers {
    fn name(&self) -> &'static str {
        "transfers"
    }

    fn operations(&self) -> &Total {
        &self.operations
    }

    fn act(&self, worker: &mut Worker) {
        let (from, to) = (self.account(worker), self.account(worker));
        let amount = worker.rng.below(100) as i64;
        let slow = worker.rng.one_in(8);
        match worker.rng.below(16) {
            0..=5 => atomically(|tx| {
                tx.update(from, |n| n - amount)?;
                if slow {
                    yield_now();
                }
                tx.update(to, |n| n + amount)
            }),
            6 => {
                let limited = Transaction::builder().max_attempts(2).label("limited");
                let _ = limited.try_run(|tx| {
                    let left = *tx.read(from)? - amount;
                    if left < 0 {
                        return tx.abort(());
                    }
                    tx.set(from, left)?;
                    let there = *tx.read(to)?;
                    tx.set(to, there + amount)?;
                    Ok(())
                });
            }
            7 => {
                // All accounts are read, and two written.
                let all = atomically(|tx| {
                    let mut all = 0;
                    for account in &self.accounts {
                        all += *tx.read(account)?;
                    }
                    tx.update(from, |n| n - 1)?;
                    tx.update(to, |n| n + 1)?;
                    Ok(all)
                });
                assert_eq!(all, MONEY, "a transaction's sum");
            }
            8 if worker.rng.one_in(8) => {
                // Money out of nothing, but for the panic.
                atomically(|tx| -> Result<(), Abort> {
                    tx.update(from, |n| n - amount)?;
                    tx.update(to, |n| n + 2 * amount + 1)?;
                    worker.panic()
                });
            }
            9 => {
                // The first way is not taken, and what it wrote is forgotten.
                atomically(|tx| {
                    tx.or_else(
                        |tx| {
                            tx.update(from, |n| n + 5)?;
                            tx.retry()
                        },
                        |tx| {
                            tx.update(to, |n| n - amount)?;
                            tx.update(from, |n| n + amount)
                        },
                    )
                });
            }
            10 => {
                // A future that is dropped before it is ready.
                let mut waits = Transaction::builder().run_async(|tx| {
                    tx.update(from, |n| n - amount)?;
                    tx.retry::<()>()
                });
                let mut cx = Context::from_waker(Waker::noop());
                let _ = Pin::new(&mut waits).poll(&mut cx);
            }
            11 => {
                // A single write that changes nothing.
                from.update(|n| *n);
                if self.gift.swap(false, Relaxed) {
                    to.update(|n| n + 1);
                }
            }
            12 => {
                let result = Transaction::builder().run(|tx| tx.retry::<()>());
                assert_eq!(result, Err(TxError::RetryWithoutReads));
            }
            13 => self.leave_or_come(worker.nth % 2),
            _ => assert_eq!(self.money(), MONEY, "a snapshot's sum"),
        }
    }

    fn check(&self) -> Result<(), String> {
        equal("money", self.money(), MONEY)
    }
}
