//! What a lock table does, by the book: holders and a queue for each hash, and nothing else.
//!
//! One thread leaves no choice: who is granted, who is woken, and who is told of it follow from the
//! calls.

use std::collections::{BTreeMap, VecDeque};

use latchwork::{Fairness, Mode};

/// Releases that may pass over the head of a queue before one hands it the key.
const MAX_BYPASSES: u32 = 64;

/// A future, for ever.
pub(super) type Id = usize;
/// A waker, for ever.
pub(super) type Bell = usize;

#[derive(Debug, Default)]
pub(super) struct Lock {
    exclusive: bool,
    pub(super) readers: u64,
    queue: VecDeque<(Id, Mode)>,
    /// The head was told that the key is free, and has not looked.
    woken: bool,
    bypasses: u32,
}

impl Lock {
    pub(super) fn mode(&self) -> Option<Mode> {
        match (self.exclusive, self.readers) {
            (true, _) => Some(Mode::Exclusive),
            (false, 0) => None,
            _ => Some(Mode::Shared),
        }
    }

    pub(super) fn holders(&self) -> u64 {
        u64::from(self.exclusive) + self.readers
    }

    pub(super) fn waiters(&self) -> impl Iterator<Item = Mode> {
        self.queue.iter().map(|waiter| waiter.1)
    }

    fn fits(&self, mode: Mode) -> bool {
        !self.exclusive && (mode == Mode::Shared || self.readers == 0)
    }

    /// Whether somebody who is not in the queue gets the key: a reader stands back for a queued
    /// writer.
    pub(super) fn admits(&self, mode: Mode) -> bool {
        self.fits(mode)
            && (mode == Mode::Exclusive || self.waiters().all(|mode| mode == Mode::Shared))
    }

    fn hold(&mut self, mode: Mode) {
        match mode {
            Mode::Exclusive => self.exclusive = true,
            Mode::Shared => self.readers += 1,
        }
    }

    /// Takes those out of the queue that may hold the key together: a writer, or the readers before
    /// the first.
    fn admit_run(&mut self) -> Vec<Id> {
        let mut run = Vec::new();
        while let Some(&(id, mode)) = self.queue.front() {
            if !run.is_empty() && (mode == Mode::Exclusive || self.exclusive) {
                break;
            }
            self.queue.pop_front();
            self.hold(mode);
            run.push(id);
        }
        (self.woken, self.bypasses) = (false, 0);
        run
    }

    fn forget_if_nobody_waits(&mut self) {
        if self.queue.is_empty() {
            (self.woken, self.bypasses) = (false, 0);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Before its first poll, or between two keys.
    Idle,
    Queued,
    Granted,
}

#[derive(Debug)]
struct Task {
    /// By hash, ascending, each once.
    keys: Vec<(u64, Mode)>,
    locked: usize,
    stage: Stage,
    /// What is to ring when something happens; one use takes it out.
    bell: Option<Bell>,
}

/// All locks and all futures of a table.
#[derive(Debug)]
pub(super) struct Model {
    fairness: Fairness,
    pub(super) locks: BTreeMap<u64, Lock>,
    tasks: BTreeMap<Id, Task>,
    /// How often each waker should have been used.
    pub(super) rings: Vec<u64>,
    /// Keys that were handed to somebody who waited.
    pub(super) granted: u64,
    /// Futures that were dropped when they held something or waited.
    pub(super) cancelled: u64,
}

impl Model {
    pub(super) fn new(fairness: Fairness) -> Self {
        Model {
            fairness,
            locks: BTreeMap::new(),
            tasks: BTreeMap::new(),
            rings: Vec::new(),
            granted: 0,
            cancelled: 0,
        }
    }

    fn lock(&mut self, hash: u64) -> &mut Lock {
        self.locks.entry(hash).or_default()
    }

    /// Takes a key if it is to be had.
    pub(super) fn enter(&mut self, hash: u64, mode: Mode) -> bool {
        let lock = self.lock(hash);
        let admits = lock.admits(mode);
        if admits {
            lock.hold(mode);
        }
        admits
    }

    /// Takes all of them, or gives back what it took before the first that is not to be had.
    pub(super) fn enter_all(&mut self, keys: &[(u64, Mode)]) -> bool {
        for (taken, &(hash, mode)) in keys.iter().enumerate() {
            if !self.enter(hash, mode) {
                for &(hash, mode) in &keys[..taken] {
                    self.release(hash, mode, false);
                }
                return false;
            }
        }
        true
    }

    fn ring(&mut self, id: Id) {
        let task = self.tasks.get_mut(&id).expect("it waits");
        if let Some(bell) = task.bell.take() {
            self.rings[bell] += 1;
        }
    }

    /// Those in `run` hold the key now, and all but `me` are told so.
    fn grant(&mut self, run: Vec<Id>, me: Option<Id>) {
        for id in run {
            self.granted += 1;
            self.tasks.get_mut(&id).expect("it waits").stage = Stage::Granted;
            if Some(id) != me {
                self.ring(id);
            }
        }
    }

    fn wake_head(&mut self, hash: u64) {
        let lock = self.lock(hash);
        lock.woken = true;
        let head = lock.queue[0].0;
        self.ring(head);
    }

    /// Gives one hold back; `fair`: to the head of the queue whatever the policy says.
    pub(super) fn release(&mut self, hash: u64, mode: Mode, fair: bool) {
        let fifo = fair || self.fairness == Fairness::Fifo;
        let lock = self.lock(hash);
        match mode {
            Mode::Exclusive => lock.exclusive = false,
            Mode::Shared => lock.readers -= 1,
        }
        if lock.holders() > 0 || lock.queue.is_empty() {
            return;
        }
        if fifo || lock.bypasses == MAX_BYPASSES {
            let run = lock.admit_run();
            self.grant(run, None);
        } else {
            lock.bypasses += 1;
            if !lock.woken {
                self.wake_head(hash);
            }
        }
    }

    /// The exclusive holder reads from now on, and with it the readers at the head.
    pub(super) fn downgrade(&mut self, hash: u64) {
        let lock = self.lock(hash);
        (lock.exclusive, lock.readers) = (false, 1);
        if lock.waiters().next() == Some(Mode::Shared) {
            let run = lock.admit_run();
            self.grant(run, None);
        }
    }

    pub(super) fn upgrade(&mut self, hash: u64) -> bool {
        let lock = self.lock(hash);
        let alone = lock.readers == 1;
        if alone {
            (lock.exclusive, lock.readers) = (true, 0);
        }
        alone
    }

    pub(super) fn is_waited_for(&mut self, hash: u64) -> bool {
        !self.lock(hash).queue.is_empty()
    }

    pub(super) fn start(&mut self, id: Id, keys: Vec<(u64, Mode)>) {
        let task = Task {
            keys,
            locked: 0,
            stage: Stage::Idle,
            bell: None,
        };
        self.tasks.insert(id, task);
    }

    /// Whether the future is ready now; with it, what it holds. `bell` is what the poll brings.
    pub(super) fn poll(&mut self, id: Id, bell: Bell) -> Option<Vec<(u64, Mode)>> {
        loop {
            let task = self.tasks.get_mut(&id).expect("not ready yet");
            let Some(&(hash, mode)) = task.keys.get(task.locked) else {
                return self.tasks.remove(&id).map(|task| task.keys);
            };
            let stage = task.stage;
            let holds = match stage {
                Stage::Granted => true,
                Stage::Idle => self.enter(hash, mode),
                Stage::Queued => self.look(id, hash, mode),
            };
            let task = self.tasks.get_mut(&id).expect("not ready yet");
            if holds {
                task.locked += 1;
                task.stage = Stage::Idle;
                continue;
            }
            task.stage = Stage::Queued;
            task.bell = Some(bell);
            if stage == Stage::Idle {
                self.lock(hash).queue.push_back((id, mode));
            }
            return None;
        }
    }

    /// Whether a queued task acquires the key: the head, if it was woken and the key fits; any
    /// other, out of turn, where a newcomer could or where the key is free.
    fn look(&mut self, id: Id, hash: u64, mode: Mode) -> bool {
        if self.lock(hash).queue[0].0 != id {
            return self.fairness == Fairness::Eventual && self.overtake(id, hash, mode);
        }
        let lock = self.lock(hash);
        if !lock.woken {
            return false;
        }
        if !lock.fits(mode) {
            lock.woken = false;
            return false;
        }
        let run = lock.admit_run();
        self.grant(run, Some(id));
        true
    }

    fn overtake(&mut self, id: Id, hash: u64, mode: Mode) -> bool {
        let lock = self.lock(hash);
        let may = lock.admits(mode) || lock.holders() == 0;
        if may {
            lock.queue.retain(|waiter| waiter.0 != id);
            lock.hold(mode);
            self.granted += 1;
        }
        may
    }

    /// The future is dropped.
    pub(super) fn cancel(&mut self, id: Id) {
        let task = &self.tasks[&id];
        let (stage, locked, keys) = (task.stage, task.locked, task.keys.clone());
        self.cancelled += u64::from(stage != Stage::Idle || locked > 0);
        match stage {
            Stage::Idle => {}
            Stage::Granted => self.release(keys[locked].0, keys[locked].1, false),
            Stage::Queued => self.leave_queue(id, keys[locked].0),
        }
        for &(hash, mode) in &keys[..locked] {
            self.release(hash, mode, false);
        }
        self.tasks.remove(&id);
    }

    fn leave_queue(&mut self, id: Id, hash: u64) {
        let lock = self.lock(hash);
        let at = lock.queue.iter().position(|waiter| waiter.0 == id);
        let was_head = at == Some(0);
        lock.queue.remove(at.expect("it is queued"));
        lock.forget_if_nobody_waits();
        let Some(&(_, head)) = lock.queue.front() else {
            return;
        };
        if !was_head {
            return;
        }
        // The new head gets what the old one was owed.
        if head == Mode::Shared && lock.fits(Mode::Shared) {
            let run = lock.admit_run();
            self.grant(run, None);
        } else if lock.holders() > 0 {
            lock.woken = false;
        } else {
            self.wake_head(hash);
        }
    }
}
