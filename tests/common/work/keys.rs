//! Calls of a lock table, recorded for each key.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use latchwork::{
    LockTable, Mode,
    table::{ExclusiveGuard, LockSet, SharedGuard},
};

use crate::common::hashers::Place;
use crate::common::history::linear::linearise;
use crate::common::history::objects::{Lock, LockOp, excuse};
use crate::common::history::record::by_object;
use crate::common::history::{Log, stamp};
use crate::common::{Rng, pause};

/// More calls of one key than a step makes.
const STEP: usize = 12;

/// One thread's or task's part.
pub struct Locker<'t> {
    table: &'t LockTable<u64, Place>,
    keys: &'t [u64],
    rng: Rng,
    /// How long a timed lock waits, at most.
    patience: Duration,
    log: Log<LockOp>,
}

impl<'t> Locker<'t> {
    pub fn new(
        table: &'t LockTable<u64, Place>,
        keys: &'t [u64],
        (thread, seed, steps): (usize, u64, usize),
        patience: Duration,
    ) -> Self {
        Self {
            table,
            keys,
            rng: Rng::new(seed << 8 | thread as u64),
            patience,
            log: Log::new(thread, STEP * steps),
        }
    }

    pub fn into_log(self) -> Log<LockOp> {
        self.log
    }

    fn mode(&mut self) -> Mode {
        [Mode::Exclusive, Mode::Shared][self.rng.below(2) as usize]
    }

    /// One call, and what may be done with what it grants.
    pub fn step(&mut self) {
        let at = self.rng.below(self.keys.len() as u64) as usize;
        let (table, key) = (self.table, &self.keys[at]);
        let wait = Duration::from_nanos(self.rng.below(1 + self.patience.as_nanos() as u64));
        match (self.rng.below(12), self.mode()) {
            (0..=3, Mode::Exclusive) => {
                let guard =
                    self.log
                        .call(at, || table.lock(key), |_| LockOp::Lock(Mode::Exclusive));
                self.write(at, guard);
            }
            (0..=3, Mode::Shared) => {
                let guard = self.log.call(
                    at,
                    || table.lock_shared(key),
                    |_| LockOp::Lock(Mode::Shared),
                );
                self.read(at, guard);
            }
            (4..=5, mode @ Mode::Exclusive) => {
                let refused = LockOp::Refused(mode);
                if let Some(guard) = self.ask(at, mode, refused, || table.try_lock(key)) {
                    self.write(at, guard);
                }
            }
            (4..=5, mode @ Mode::Shared) => {
                let refused = LockOp::Refused(mode);
                if let Some(guard) = self.ask(at, mode, refused, || table.try_lock_shared(key)) {
                    self.read(at, guard);
                }
            }
            (6..=7, mode @ Mode::Exclusive) => {
                let refused = LockOp::TimedOut(mode);
                let guard = self.ask(at, mode, refused, || table.try_lock_for(key, wait));
                if let Some(guard) = guard {
                    self.write(at, guard);
                }
            }
            (6..=7, mode @ Mode::Shared) => {
                let refused = LockOp::TimedOut(mode);
                let guard = self.ask(at, mode, refused, || table.try_lock_shared_for(key, wait));
                if let Some(guard) = guard {
                    self.read(at, guard);
                }
            }
            (8, mode @ Mode::Exclusive) => {
                let refused = LockOp::Passing(mode);
                let guard = self.ask(at, mode, refused, || twice(table.lock_async(key)));
                if let Some(guard) = guard {
                    self.write(at, guard);
                }
            }
            (8, mode @ Mode::Shared) => {
                let refused = LockOp::Passing(mode);
                let guard = self.ask(at, mode, refused, || twice(table.lock_shared_async(key)));
                if let Some(guard) = guard {
                    self.read(at, guard);
                }
            }
            (call, mode) => self.set(call, at, mode, wait),
        }
    }

    /// A call that may be refused.
    fn ask<G>(
        &mut self,
        at: usize,
        mode: Mode,
        refused: LockOp,
        call: impl FnOnce() -> Option<G>,
    ) -> Option<G> {
        self.log.call(at, call, |guard| match guard {
            Some(_) => LockOp::Lock(mode),
            None => refused,
        })
    }

    fn write(&mut self, at: usize, guard: ExclusiveGuard<'t>) {
        if self.rng.one_in(2) {
            pause();
        }
        if self.rng.one_in(4) {
            self.log
                .call(at, || guard.token(), |token| LockOp::Token(token.get()));
        }
        match self.rng.below(6) {
            0 => {
                let guard = self
                    .log
                    .call(at, || guard.downgrade(), |_| LockOp::Downgrade);
                self.read(at, guard);
            }
            1 => {
                // Whoever panics with a lock in hand lets go of it.
                let panics = || {
                    let _guard = guard;
                    resume_unwind(Box::new(()))
                };
                let caught: Result<(), _> = self.log.call(
                    at,
                    || catch_unwind(AssertUnwindSafe(panics)),
                    |_| LockOp::Unlock(Mode::Exclusive),
                );
                assert!(caught.is_err_and(|cause| cause.is::<()>()), "another panic");
            }
            2 => self.log.call(
                at,
                || ExclusiveGuard::unlock_fair(guard),
                |()| LockOp::Unlock(Mode::Exclusive),
            ),
            _ => self
                .log
                .call(at, || drop(guard), |()| LockOp::Unlock(Mode::Exclusive)),
        }
    }

    fn read(&mut self, at: usize, guard: SharedGuard<'t>) {
        if self.rng.one_in(2) {
            pause();
        }
        let guard = if self.rng.one_in(3) {
            let up = || guard.try_upgrade();
            match self.log.call(at, up, |up| LockOp::Upgrade(up.is_ok())) {
                Ok(guard) => {
                    self.log
                        .call(at, || drop(guard), |()| LockOp::Unlock(Mode::Exclusive));
                    return;
                }
                Err(guard) => guard,
            }
        } else {
            guard
        };
        self.log
            .call(at, || drop(guard), |()| LockOp::Unlock(Mode::Shared));
    }

    /// Two keys at once, or one twice.
    fn set(&mut self, call: u64, at: usize, mode: Mode, wait: Duration) {
        let (table, keys) = (self.table, self.keys);
        let other = self.rng.below(keys.len() as u64) as usize;
        let wanted = [(&keys[at], mode), (&keys[other], self.mode())];
        let began = stamp();
        let set = match call {
            9 => Some(table.lock_all(wanted)),
            10 => table.try_lock_all(wanted),
            _ => table.try_lock_all_for(wanted, wait),
        };
        let ended = stamp();
        let both = if at == other {
            vec![at]
        } else {
            vec![at, other]
        };
        let Some(set) = set else {
            for at in both {
                let modes = wanted.iter().filter(|(key, _)| **key == keys[at]);
                let mode = modes
                    .map(|(_, mode)| *mode)
                    .min_by_key(|mode| *mode == Mode::Shared);
                let op = LockOp::Passing(mode.expect("it was wanted"));
                self.log.add(at, began, ended, op);
            }
            return;
        };
        for at in &both {
            let mode = set.mode(&keys[*at]).expect("it was wanted");
            self.log.add(*at, began, ended, LockOp::Lock(mode));
        }
        self.keep(set, &both);
    }

    fn keep(&mut self, mut set: LockSet<'t, u64, Place>, both: &[usize]) {
        if self.rng.one_in(2) {
            pause();
        }
        let keys = self.keys;
        let mut modes = both.iter().map(|at| (*at, set.mode(&keys[*at])));
        let (last, last_mode) = modes.next().expect("one at the least");
        for (at, mode) in modes.collect::<Vec<_>>() {
            let op = LockOp::Unlock(mode.expect("it is held"));
            let gave = self.log.call(at, || set.unlock(&keys[at]), |_| op);
            assert!(gave, "it was held");
        }
        let op = LockOp::Unlock(last_mode.expect("it is held"));
        self.log.call(last, || drop(set), |()| op);
    }
}

/// Polls it twice, and drops it if it waits still.
pub(super) fn twice<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..2 {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        pause();
    }
    None
}

/// How many calls of how many keys the logs have, and how many of the calls were refused.
///
/// # Panics
/// If the calls of a key have no order.
pub fn judge(logs: Vec<Log<LockOp>>, keys: usize) -> (usize, usize) {
    let (mut total, mut refused) = (0, 0);
    for (key, mut calls) in by_object(logs, keys).into_iter().enumerate() {
        let is_refusal = |op| matches!(op, LockOp::Refused(_) | LockOp::TimedOut(_));
        refused += calls.iter().filter(|call| is_refusal(call.op)).count();
        total += calls.len();
        excuse(&mut calls);
        if let Err(wrong) = linearise(Lock::default(), &calls) {
            panic!("key {key}: {wrong}");
        }
    }
    (total, refused)
}
