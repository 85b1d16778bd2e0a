//! Locks by key, awaited, and given up halfway.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::thread::yield_now;

use latchwork::{Fairness, Mode};

use super::locks::{Above, Fresh, KEYS, Pair, pick};
use super::{Structure, Total, block_on, equal};
use crate::crew::Worker;

pub(super) struct Tasks {
    tables: [Fresh; 2],
    pairs: [Vec<Pair>; 2],
    writes: Total,
    operations: Total,
}

impl Tasks {
    pub(super) fn new() -> Self {
        let pairs = || (0..KEYS).map(|_| Pair::default()).collect();
        Tasks {
            tables: [
                Fresh::new(Fairness::Eventual, Above(30)),
                Fresh::new(Fairness::Fifo, Above(0)),
            ],
            pairs: [pairs(), pairs()],
            writes: Total::default(),
            operations: Total::default(),
        }
    }
}

/// Polls a few times and then awaits, or gives up: `None`.
fn perhaps<F: Future + Unpin>(mut future: F, worker: &mut Worker) -> Option<F::Output> {
    for _ in 0..worker.rng.below(4) {
        let mut cx = Context::from_waker(Waker::noop());
        if let Poll::Ready(output) = Pin::new(&mut future).poll(&mut cx) {
            return Some(output);
        }
        yield_now();
    }
    if worker.rng.one_in(3) {
        return None;
    }
    Some(block_on(future))
}

impl Structure for Tasks {
    fn name(&self) -> &'static str {
        "tasks"
    }

    fn operations(&self) -> &Total {
        &self.operations
    }

    fn act(&self, worker: &mut Worker) {
        let which = worker.rng.below(2) as usize;
        let (table, pairs) = (&self.tables[which].table, &self.pairs[which]);
        let key = pick(worker);
        let pair = &pairs[key as usize];
        let write = |worker: &mut Worker| {
            pair.write(worker);
            self.writes.add();
        };
        match worker.rng.below(8) {
            0 | 1 => {
                if let Some(_guard) = perhaps(table.lock_async(&key), worker) {
                    write(worker);
                }
            }
            2 => {
                if let Some(_guard) = perhaps(table.lock_async_owned(&key), worker) {
                    write(worker);
                    if worker.rng.one_in(32) {
                        worker.panic();
                    }
                }
            }
            3 => {
                if let Some(_guard) = perhaps(table.lock_shared_async(&key), worker) {
                    pair.read(worker);
                }
            }
            4 => {
                // Threads wait in the same queues.
                let _guard = table.lock(&key);
                write(worker);
            }
            5 | 6 => {
                let keys = [
                    (&key, Mode::Exclusive),
                    (&pick(worker), Mode::Shared),
                    (&(KEYS + worker.rng.below(1 << 40)), Mode::Exclusive),
                ];
                let set = if worker.rng.one_in(2) {
                    perhaps(table.lock_all_async(keys), worker).is_some_and(|_set| {
                        write(worker);
                        true
                    })
                } else {
                    perhaps(table.lock_all_async_owned(keys), worker).is_some_and(|_set| {
                        write(worker);
                        true
                    })
                };
                if set && worker.rng.one_in(64) {
                    worker.panic();
                }
            }
            _ => {
                // Several at once, some of them granted while others wait, and all given up.
                let mut futures: Vec<_> = (0..1 + worker.rng.below(6))
                    .map(|_| table.lock_async(&pick(worker)))
                    .collect();
                let mut held = Vec::new();
                let mut cx = Context::from_waker(Waker::noop());
                futures.retain_mut(|future| match Pin::new(future).poll(&mut cx) {
                    Poll::Ready(guard) => {
                        held.push(guard);
                        false
                    }
                    Poll::Pending => true,
                });
                if worker.rng.one_in(2) {
                    yield_now();
                }
                if worker.rng.one_in(128) {
                    worker.panic();
                }
            }
        }
    }

    fn check(&self) -> Result<(), String> {
        self.tables.iter().try_for_each(Fresh::check)?;
        let written: u64 = self.pairs.iter().flatten().map(Pair::get).sum();
        equal("writes of tasks", written, self.writes.get())
    }
}
