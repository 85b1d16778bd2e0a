//! Sessions as tasks that do one thing at a time and are polled by hand, so that who waits behind
//! whom is up to the test and not to the scheduler.
//!
//! A task is polled only when it was woken: a wake-up that is lost leaves it waiting, and the test
//! sees that.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use latchwork::{
    LockTable, Mode, Session,
    session::{LockError, Savepoint},
};

pub(crate) type Table = LockTable<u64>;

/// What an actor is to do next.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Do {
    Lock(u64),
    Shared(u64),
    /// Locks, but drops the future as soon as it waits.
    Glance(u64, Mode),
    Unlock(u64),
    Savepoint,
    /// To the last but so many.
    Rollback(usize),
    ReleaseAll,
}

#[derive(Default)]
struct Desk {
    orders: VecDeque<Do>,
    /// How the last order ended; `None` while it is under way.
    done: Option<Result<(), LockError>>,
}

/// Who was woken, over all the stage.
type Rung = Arc<Mutex<Vec<usize>>>;

struct Bell(usize, Rung);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.1.lock().unwrap().push(self.0);
    }
}

pub(crate) struct Actor<'t> {
    desk: Rc<RefCell<Desk>>,
    task: Pin<Box<dyn Future<Output = ()> + 't>>,
    bell: Arc<Bell>,
    waits: bool,
}

impl<'t> Actor<'t> {
    fn new(session: Session<'t, u64>, who: usize, rung: &Rung) -> Self {
        let desk = Rc::<RefCell<Desk>>::default();
        Actor {
            task: Box::pin(play(session, desk.clone())),
            desk,
            bell: Arc::new(Bell(who, rung.clone())),
            waits: false,
        }
    }

    fn poll(&mut self) {
        let waker = Waker::from(self.bell.clone());
        let polled = self.task.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending(), "an actor plays for ever");
    }
}

async fn play(mut session: Session<'_, u64>, desk: Rc<RefCell<Desk>>) {
    let mut savepoints: Vec<Savepoint> = Vec::new();
    loop {
        let next = desk.borrow_mut().orders.pop_front();
        let Some(next) = next else {
            // The stage polls it when there is something to do.
            let mut asked = false;
            poll_fn(|_| match std::mem::replace(&mut asked, true) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            })
            .await;
            continue;
        };
        let done = match next {
            Do::Lock(key) => session.lock_async(&key).await,
            Do::Shared(key) => session.lock_shared_async(&key).await,
            Do::Glance(key, mode) => {
                let mut future = match mode {
                    Mode::Exclusive => session.lock_async(&key),
                    Mode::Shared => session.lock_shared_async(&key),
                };
                let first = poll_fn(|cx| Poll::Ready(Pin::new(&mut future).poll(cx))).await;
                match first {
                    Poll::Ready(done) => done,
                    Poll::Pending => Err(LockError::WouldBlock),
                }
            }
            Do::Unlock(key) => {
                session.unlock(&key);
                Ok(())
            }
            Do::Savepoint => {
                savepoints.push(session.savepoint());
                Ok(())
            }
            Do::Rollback(back) => {
                if let Some(i) = savepoints.len().checked_sub(back + 1) {
                    savepoints.truncate(i + 1);
                    session.rollback_to(savepoints[i]).unwrap();
                }
                Ok(())
            }
            Do::ReleaseAll => {
                session.release_all();
                savepoints.clear();
                Ok(())
            }
        };
        desk.borrow_mut().done = Some(done);
    }
}

/// How an order stands.
#[derive(Debug)]
pub(crate) enum Seen {
    Done,
    Waits,
    Failed(LockError),
}

/// Some actors over one table.
pub(crate) struct Stage<'t> {
    pub(crate) actors: Vec<Actor<'t>>,
    /// What ended since the test looked last, beside the order it gave.
    pub(crate) ended: Vec<(usize, Result<(), LockError>)>,
    rung: Rung,
}

impl<'t> Stage<'t> {
    pub(crate) fn new(sessions: impl IntoIterator<Item = Session<'t, u64>>) -> Self {
        let rung = Rung::default();
        let actors = sessions.into_iter().enumerate();
        let actors = actors.map(|(who, session)| Actor::new(session, who, &rung));
        let mut stage = Stage {
            actors: actors.collect(),
            ended: Vec::new(),
            rung,
        };
        stage.actors.iter_mut().for_each(Actor::poll);
        stage
    }

    pub(crate) fn of(table: &'t Table, n: usize) -> Self {
        Self::new((0..n).map(|_| table.session()))
    }

    /// Has an actor that does not wait do something, and all others what follows from it.
    pub(crate) fn order(&mut self, who: usize, what: Do) -> Seen {
        assert!(!self.actors[who].waits, "it waits: {what:?}");
        let actor = &mut self.actors[who];
        actor.desk.borrow_mut().orders.push_back(what);
        actor.waits = true;
        actor.poll();
        self.note(who);
        self.settle();
        match self.ended.iter().position(|(of, _)| *of == who) {
            None => Seen::Waits,
            Some(i) => match self.ended.remove(i).1 {
                Ok(()) => Seen::Done,
                Err(error) => Seen::Failed(error),
            },
        }
    }

    /// Polls who was woken until nobody is.
    pub(crate) fn settle(&mut self) {
        loop {
            let rung = std::mem::take(&mut *self.rung.lock().unwrap());
            if rung.is_empty() {
                return;
            }
            for who in rung {
                self.actors[who].poll();
                self.note(who);
            }
        }
    }

    fn note(&mut self, who: usize) {
        let actor = &mut self.actors[who];
        if let Some(done) = actor.desk.borrow_mut().done.take() {
            actor.waits = false;
            self.ended.push((who, done));
        }
    }

    pub(crate) fn waits(&self, who: usize) -> bool {
        self.actors[who].waits
    }

    /// An actor goes, whatever it is at.
    pub(crate) fn kill(&mut self, who: usize, replacement: Session<'t, u64>) {
        let mut actor = Actor::new(replacement, who, &self.rung);
        actor.poll();
        drop(std::mem::replace(&mut self.actors[who], actor));
        self.settle();
    }

    #[track_caller]
    pub(crate) fn done(&mut self, who: usize, what: Do) {
        let seen = self.order(who, what);
        assert!(matches!(seen, Seen::Done), "{who} {what:?}: {seen:?}");
    }

    #[track_caller]
    pub(crate) fn wait(&mut self, who: usize, what: Do) {
        let seen = self.order(who, what);
        assert!(matches!(seen, Seen::Waits), "{who} {what:?}: {seen:?}");
    }

    /// The order ends in a deadlock, for this actor.
    #[track_caller]
    pub(crate) fn deadlock(&mut self, who: usize, what: Do) -> latchwork::session::DeadlockReport {
        match self.order(who, what) {
            Seen::Failed(LockError::Deadlock(report)) => report,
            seen => panic!("{who} {what:?}: {seen:?}"),
        }
    }

    /// The waits of just these actors have ended well.
    #[track_caller]
    pub(crate) fn go_on(&mut self, who: &[usize]) {
        let mut ended: Vec<usize> = Vec::new();
        for (who, done) in self.ended.drain(..) {
            assert!(done.is_ok(), "{who}: {done:?}");
            ended.push(who);
        }
        ended.sort();
        assert_eq!(ended, who);
    }
}
