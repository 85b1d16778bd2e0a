//! Sessions that lock what they meet, in no order: whoever is told to give way does, and all go on.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};
use std::thread::yield_now;
use std::time::Duration;

use latchwork::{
    Fairness, Mode, Session,
    session::{LockError, Policy},
};

use super::locks::{Above, Fresh, KEYS, Pair, pick};
use super::{Structure, Total, equal};
use crate::crew::Worker;

pub(super) struct Sessions {
    tables: [Fresh; 2],
    /// For each table, by key.
    pairs: [Vec<Pair>; 2],
    writes: Total,
    operations: Total,
}

impl Sessions {
    pub(super) fn new() -> Self {
        let pairs = || (0..KEYS).map(|_| Pair::default()).collect();
        Sessions {
            tables: [
                Fresh::new(Fairness::Eventual, Above(20)),
                Fresh::new(Fairness::Fifo, Above(0)),
            ],
            pairs: [pairs(), pairs()],
            writes: Total::default(),
            operations: Total::default(),
        }
    }

    /// Locks some key in some way, and does what that allows.
    fn lock(
        &self,
        worker: &mut Worker,
        session: &mut Session<'_, u64, Above>,
        pairs: &[Pair],
    ) -> Result<(), LockError> {
        let key = pick(worker);
        match (worker.rng.below(8), worker.rng.one_in(2)) {
            (0, _) => {
                // A future that is dropped while it waits, or a moment after.
                let mut waits = pin!(session.lock_async(&key));
                let mut cx = Context::from_waker(Waker::noop());
                let is_ready = waits.as_mut().poll(&mut cx).is_ready();
                if !is_ready {
                    yield_now();
                }
            }
            (_, true) => session.lock(&key)?,
            (_, false) => session.lock_shared(&key)?,
        }
        match session.mode(&key) {
            Some(Mode::Exclusive) => {
                pairs[key as usize].write(worker);
                self.writes.add();
            }
            Some(Mode::Shared) => pairs[key as usize].read(worker),
            None => {}
        }
        Ok(())
    }
}

impl Structure for Sessions {
    fn name(&self) -> &'static str {
        "sessions"
    }

    fn operations(&self) -> &Total {
        &self.operations
    }

    fn act(&self, worker: &mut Worker) {
        let which = worker.rng.below(2) as usize;
        let policy = match worker.rng.below(8) {
            0 => Policy::NoWait,
            1 => Policy::Timeout(Duration::from_micros(worker.rng.below(200))),
            2 => Policy::WaitDie,
            _ => Policy::Detect,
        };
        let session = self.tables[which].table.session().policy(policy);
        let mut session = session.detect_after(Duration::from_micros(worker.rng.below(300)));
        // Once more, as old as before, so that it wins some day; but not for ever, since some do
        // not wait.
        for _ in 0..4 {
            let mut savepoint = None;
            let many = 1 + worker.rng.below(6);
            let done = (0..many).try_for_each(|_| {
                if worker.rng.one_in(8) {
                    savepoint = Some(session.savepoint());
                }
                self.lock(worker, &mut session, &self.pairs[which])
            });
            if worker.rng.one_in(64) {
                worker.panic();
            }
            if let Some(savepoint) = savepoint {
                session.rollback_to(savepoint).expect("it lives");
            }
            session.release_all();
            if done.is_ok() {
                return;
            }
        }
    }

    fn check(&self) -> Result<(), String> {
        self.tables.iter().try_for_each(Fresh::check)?;
        let written: u64 = self.pairs.iter().flatten().map(Pair::get).sum();
        equal("writes in sessions", written, self.writes.get())
    }
}
