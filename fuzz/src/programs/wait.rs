//! Transactions as futures, polled, left alone while others write, and dropped.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use latchwork::{Transaction, TxError, txn::TxAbort};

use super::attempt::{Attempt, End, Panics, Turn};
use super::input::{Op, Program};
use super::world::{Free, World};
use crate::common::tasks::Bell;

/// Most of them at a time.
const MOST: usize = 8;

type Running<'w> = Pin<Box<dyn Future<Output = Result<(), TxError>> + 'w>>;

struct Task<'w, 'c> {
    future: Running<'w>,
    turn: Rc<Turn<'w, 'c>>,
    most_attempts: u32,
    bell: Arc<Bell>,
    /// What the attempt that waits has seen.
    waits: Option<Attempt>,
}

pub(super) struct Waiting<'w, 'c> {
    world: &'w World<'c>,
    futures: Vec<Task<'w, 'c>>,
    /// Wakers of those that are gone, and how often they had been used.
    gone: Vec<(Arc<Bell>, u64)>,
}

impl<'w, 'c> Waiting<'w, 'c> {
    pub(super) fn new(world: &'w World<'c>) -> Self {
        Waiting {
            world,
            futures: Vec::new(),
            gone: Vec::new(),
        }
    }

    pub(super) fn step(&mut self, op: &'w Op) {
        let of = |n: u8, len: usize| (len > 0).then(|| usize::from(n) % len);
        match *op {
            Op::Start(ref program) => self.start(program),
            Op::Poll(n) => {
                if let Some(at) = of(n, self.futures.len()) {
                    self.poll(at);
                }
            }
            Op::Drop(n) => {
                if let Some(at) = of(n, self.futures.len()) {
                    self.drop(at);
                }
            }
            Op::Flush => self.world.flush(),
            ref other => self.world.run(other, Free::ALL),
        }
        self.world.check();
        self.futures.iter().for_each(Task::check);
    }

    fn start(&mut self, program: &'w Program) {
        if self.futures.len() == MOST {
            return;
        }
        let mut transaction = Transaction::builder();
        if program.most_attempts > 0 {
            transaction = transaction.max_attempts(program.most_attempts);
        }
        let turn = Rc::new(Turn::new(self.world, Panics::Never));
        let ours = turn.clone();
        let future = transaction.run_async(move |tx| {
            ours.begin();
            ours.steps(tx, &program.steps).map_err(|end| match end {
                TxAbort::Attempt(abort) => abort,
                TxAbort::Transaction(()) => unreachable!("not in a future"),
            })
        });
        self.futures.push(Task {
            future: Box::pin(future),
            turn,
            most_attempts: program.most_attempts,
            bell: Bell::new().0,
            waits: None,
        });
        self.poll(self.futures.len() - 1);
    }

    fn poll(&mut self, at: usize) {
        let world = self.world;
        let future = &mut self.futures[at];
        let (bell, waker) = Bell::new();
        world.count(|tally| tally.woken += u64::from(future.bell.rings() > 0));
        let before = core::mem::replace(&mut future.bell, bell);
        self.gone.push((before.clone(), before.rings()));
        let polled = future
            .future
            .as_mut()
            .poll(&mut Context::from_waker(&waker));
        let attempt = future.turn.attempt.borrow().clone();
        match polled {
            Poll::Pending => {
                assert_eq!(attempt.end, End::Retry);
                assert!(!attempt.is_stale(world), "it waits for what has happened");
                future.waits = Some(attempt);
                world.count(|tally| tally.pending += 1);
                return;
            }
            Poll::Ready(Ok(())) => world.committed(&attempt),
            Poll::Ready(Err(TxError::RetryWithoutReads)) => {
                assert_eq!((attempt.end, attempt.has_seen()), (End::Retry, false));
            }
            Poll::Ready(Err(TxError::Contended { attempts, .. })) => {
                future.turn.lost();
                assert_eq!(attempts, future.most_attempts);
            }
            Poll::Ready(Err(other)) => panic!("{other:?}"),
        }
        self.drop(at);
    }

    fn drop(&mut self, at: usize) {
        let bell = self.futures.swap_remove(at).bell;
        let rings = bell.rings();
        self.gone.push((bell, rings));
    }

    /// Drops all of them.
    pub(super) fn end(mut self) {
        while !self.futures.is_empty() {
            self.drop(0);
        }
        for (bell, rings) in self.gone {
            assert_eq!(bell.rings(), rings, "woken after it was gone");
        }
    }
}

impl Task<'_, '_> {
    /// It was woken if something that it has seen has been written.
    fn check(&self) {
        let Some(attempt) = &self.waits else { return };
        let (woken, changed) = (self.bell.rings() > 0, attempt.is_stale(self.turn.world));
        assert!(
            woken == changed || woken && self.turn.owns(),
            "woken: {woken}, {attempt:?}"
        );
    }
}
