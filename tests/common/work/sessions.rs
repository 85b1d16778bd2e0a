//! Calls of sessions, recorded for each key as those of single locks are. What a session holds
//! already it does not record.

use std::time::Duration;

use latchwork::{
    LockTable, Mode, Session,
    session::{LockError, Policy},
};

use crate::common::hashers::Place;
use crate::common::history::objects::LockOp;
use crate::common::history::{Log, stamp};
use crate::common::work::keys::twice;
use crate::common::{Rng, pause};

/// More calls of keys than a step makes.
const STEP: usize = 24;

type Table = LockTable<u64, Place>;

/// One thread's or task's part.
pub struct Owner<'t> {
    table: &'t Table,
    keys: &'t [u64],
    rng: Rng,
    patience: Duration,
    log: Log<LockOp>,
    /// How often it was told of a deadlock.
    deadlocks: usize,
}

/// Which of the keys a session has, and how.
type Held = Vec<(usize, Mode)>;

impl<'t> Owner<'t> {
    pub fn new(
        table: &'t Table,
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
            deadlocks: 0,
        }
    }

    pub fn into_log(self) -> (Log<LockOp>, usize) {
        (self.log, self.deadlocks)
    }

    /// One session, from its begin to its end.
    pub fn step(&mut self) {
        let policy = match self.rng.below(8) {
            0 => Policy::NoWait,
            1 => Policy::Timeout(self.patience),
            2 => Policy::WaitDie,
            _ => Policy::Detect,
        };
        let session = self.table.session().policy(policy);
        let mut session = session.detect_after(Duration::from_micros(self.rng.below(200)));
        let mut held = Held::new();
        let mut savepoint = None;
        for _ in 0..1 + self.rng.below(4) {
            if self.rng.one_in(6) {
                savepoint = Some((session.savepoint(), held.clone()));
            }
            if !self.lock(&mut session, &mut held) {
                break;
            }
            if self.rng.one_in(2) {
                pause();
            }
        }
        if let Some((savepoint, before)) = savepoint.filter(|_| self.rng.one_in(2)) {
            let back = || session.rollback_to(savepoint).expect("it lives");
            self.all(back, changes(&held, &before));
            held = before;
        }
        if self.rng.one_in(2) {
            if let Some((at, mode)) = held.pop() {
                let (log, key) = (&mut self.log, &self.keys[at]);
                assert!(log.call(at, || session.unlock(key), |_| LockOp::Unlock(mode)));
            }
        }
        self.all(|| drop(session), changes(&held, &[]));
    }

    /// Locks some key in some way. Whether the session has it as it wanted.
    fn lock(&mut self, session: &mut Session<'_, u64, Place>, held: &mut Held) -> bool {
        let at = self.rng.below(self.keys.len() as u64) as usize;
        let mode = [Mode::Exclusive, Mode::Shared][self.rng.below(2) as usize];
        let key = &self.keys[at];
        let is_dropped = self.rng.one_in(5);
        let began = stamp();
        let done = match (is_dropped, mode) {
            (true, Mode::Exclusive) => twice(session.lock_async(key)),
            (true, Mode::Shared) => twice(session.lock_shared_async(key)),
            (false, Mode::Exclusive) => Some(session.lock(key)),
            (false, Mode::Shared) => Some(session.lock_shared(key)),
        };
        let ended = stamp();
        let before = held.iter_mut().find(|(of, _)| *of == at);
        let op = match (&done, &before) {
            (Some(Ok(())), Some((_, before))) if *before >= mode => return true,
            (Some(Ok(())), None) => LockOp::Lock(mode),
            (Some(Ok(())), Some(_)) => LockOp::Upgrade(true),
            (Some(Err(LockError::WouldBlock)), None) => LockOp::Refused(mode),
            (Some(Err(LockError::WouldBlock)), Some(_)) => LockOp::Upgrade(false),
            (Some(Err(LockError::TimedOut)), None) => LockOp::TimedOut(mode),
            _ => LockOp::Passing(mode),
        };
        self.log.add(at, began, ended, op);
        match (&done, before) {
            (Some(Ok(())), Some((_, before))) => *before = mode,
            (Some(Ok(())), None) => held.push((at, mode)),
            _ => {}
        }
        self.deadlocks += usize::from(matches!(done, Some(Err(LockError::Deadlock(_)))));
        matches!(done, Some(Ok(())))
    }

    /// A call that does something to many keys.
    fn all(&mut self, call: impl FnOnce(), ops: Vec<(usize, LockOp)>) {
        let began = stamp();
        call();
        let ended = stamp();
        for (at, op) in ops {
            self.log.add(at, began, ended, op);
        }
    }
}

/// What becomes of keys that were held as `now` says, and then as `then` does.
fn changes(now: &[(usize, Mode)], then: &[(usize, Mode)]) -> Vec<(usize, LockOp)> {
    let changes = now.iter().filter_map(|(at, mode)| {
        let kept = then.iter().find(|(of, _)| of == at);
        match kept {
            None => Some((*at, LockOp::Unlock(*mode))),
            Some((_, kept)) => (kept != mode).then_some((*at, LockOp::Downgrade)),
        }
    });
    changes.collect()
}
