//! A queue of bounded length in one cell, whose ends wait for each other by `retry`.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use latchwork::{Abort, Transaction, Tx, VersionedCell, atomically};

use super::{Structure, Total, block_on, equal};
use crate::crew::Worker;

const LENGTH: usize = 4;

pub(super) struct Queue {
    items: VersionedCell<Vec<u64>>,
    /// Nobody waits any more.
    closed: VersionedCell<bool>,
    put: Total,
    taken: Total,
    operations: Total,
}

impl Queue {
    pub(super) fn new() -> Self {
        Queue {
            items: VersionedCell::new(Vec::new()),
            closed: VersionedCell::new(false),
            put: Total::default(),
            taken: Total::default(),
            operations: Total::default(),
        }
    }

    fn step<'q>(&'q self, tx: &mut Tx<'_, 'q>, put: Option<u64>) -> Result<Option<u64>, Abort> {
        match put {
            Some(item) => self.put(tx, item),
            None => self.take(tx),
        }
    }

    /// `None` if the queue is closed.
    fn put<'q>(&'q self, tx: &mut Tx<'_, 'q>, item: u64) -> Result<Option<u64>, Abort> {
        let items = tx.read(&self.items)?;
        if items.len() == LENGTH {
            return if *tx.read(&self.closed)? {
                Ok(None)
            } else {
                tx.retry()
            };
        }
        let mut longer = items.clone();
        longer.push(item);
        tx.set(&self.items, longer)?;
        Ok(Some(item))
    }

    /// `None` if the queue is closed.
    fn take<'q>(&'q self, tx: &mut Tx<'_, 'q>) -> Result<Option<u64>, Abort> {
        let items = tx.read(&self.items)?;
        let Some((first, rest)) = items.split_first() else {
            return if *tx.read(&self.closed)? {
                Ok(None)
            } else {
                tx.retry()
            };
        };
        tx.set(&self.items, rest.to_vec())?;
        Ok(Some(*first))
    }
}

impl Structure for Queue {
    fn name(&self) -> &'static str {
        "queue"
    }

    fn operations(&self) -> &Total {
        &self.operations
    }

    fn act(&self, worker: &mut Worker) {
        // Whoever follows at this place does the same, so that neither end is ever without
        // somebody.
        let puts = worker.nth % 2 == 0;
        let item = puts.then(|| worker.rng.below(1_000));
        let moved = match worker.rng.below(4) {
            0 => {
                // A future that is polled once, and dropped if that was not enough.
                let mut future = Transaction::builder().run_async(|tx| self.step(tx, item));
                let mut cx = Context::from_waker(Waker::noop());
                match Pin::new(&mut future).poll(&mut cx) {
                    Poll::Ready(moved) => moved.expect("it has no limit"),
                    Poll::Pending => None,
                }
            }
            1 => block_on(Transaction::builder().run_async(|tx| self.step(tx, item)))
                .expect("no limit"),
            _ => atomically(|tx| self.step(tx, item)),
        };
        let total = if puts { &self.put } else { &self.taken };
        total.add_all(moved.unwrap_or(0));
    }

    fn open(&self) {
        self.closed.set(false);
    }

    fn close(&self) {
        self.closed.set(true);
    }

    fn check(&self) -> Result<(), String> {
        let left: u64 = self.items.read().iter().sum();
        equal("items", self.taken.get() + left, self.put.get())
    }
}
