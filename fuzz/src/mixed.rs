//! Guards, sets and sessions of one table at once, as tasks that one thread polls by hand.
//!
//! A task is polled only when its waker was called. After each order no two tasks hold what
//! excludes the other, and a task that waits has a reason to wait: another task, which does not
//! wait, holds a key. A wake-up that is lost and a deadlock that is not detected both end in tasks
//! that wait while none can run.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use latchwork::session::{LockError, Policy};
use latchwork::table::{ExclusiveGuard, SharedGuard};
use latchwork::{Fairness, LockTable, Mode, Session};

type Table = LockTable<u64>;

const KEYS: u64 = 6;
const SESSIONS: usize = 3;
const SETS: usize = 2;
const GUARDS: usize = 2;
const TASKS: usize = SESSIONS + SETS + GUARDS;
/// Most orders of one input.
const MOST_ORDERS: usize = 200;

/// How often the orders of some inputs led to which outcome.
#[derive(Clone, Copy, Debug, Default)]
pub struct MixedTally {
    /// Orders that ended with a lock or a set of locks.
    pub granted: u64,
    /// Orders that waited.
    pub waited: u64,
    /// Sessions that were the victims of deadlocks, or that died.
    pub victims: u64,
    /// Tasks that ended while they waited, and futures that were dropped while they waited.
    pub cancelled: u64,
    /// Waits of sets that ended with the set.
    pub sets: u64,
}

impl MixedTally {
    /// Adds those of another input.
    pub fn add(&mut self, other: Self) {
        self.granted += other.granted;
        self.waited += other.waited;
        self.victims += other.victims;
        self.cancelled += other.cancelled;
        self.sets += other.sets;
    }

    /// The rarest outcome.
    pub fn least(&self) -> u64 {
        let all = [self.granted, self.waited, self.victims, self.cancelled];
        all.into_iter().fold(self.sets, u64::min)
    }
}

/// What a task must do next.
#[derive(Clone, Copy, Debug)]
enum Order {
    Lock(u64, Mode),
    /// Locks, but drops the future as soon as it waits.
    Glance(u64, Mode),
    Try(u64, Mode),
    /// The keys of the first mask, exclusive where the second mask has them also.
    Set(u8, u8),
    GlanceSet(u8, u8),
    TrySet(u8, u8),
    Unlock(u64),
    UnlockFair(u64),
    Downgrade(u64),
    Upgrade(u64),
    Release,
    Savepoint,
    Rollback,
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    Granted,
    Done,
    Refused,
    Cancelled,
    Victim,
}

/// What a task and the world say to each other.
#[derive(Default)]
struct Desk {
    order: Option<Order>,
    end: Option<End>,
    held: BTreeMap<u64, Mode>,
}

type Shared = Rc<RefCell<Desk>>;

/// The tasks that were woken.
type Woken = Arc<Mutex<Vec<usize>>>;

struct Bell(usize, Woken);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.1.lock().expect("no panic").push(self.0);
    }
}

struct Task<'t> {
    desk: Shared,
    future: Pin<Box<dyn Future<Output = ()> + 't>>,
    waits: bool,
    waits_for_set: bool,
}

/// The next order for the task of this desk.
async fn next(desk: &Shared) -> Order {
    poll_fn(|_| match desk.borrow_mut().order.take() {
        Some(order) => Poll::Ready(order),
        None => Poll::Pending,
    })
    .await
}

/// Polls once, and drops the future if it is not ready.
async fn once<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    let polled = poll_fn(|cx| Poll::Ready(Pin::new(&mut future).poll(cx))).await;
    match polled {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

fn end(desk: &Shared, end: End, mode: impl Fn(&u64) -> Option<Mode>) {
    let mut desk = desk.borrow_mut();
    desk.held = (0..KEYS)
        .filter_map(|key| mode(&key).map(|m| (key, m)))
        .collect();
    desk.end = Some(end);
}

async fn session(table: &Table, desk: Shared, policy: Policy) {
    let mut session: Session<'_, u64> = table.session().policy(policy).detect_after(Duration::ZERO);
    let mut savepoints = Vec::new();
    loop {
        let result = match next(&desk).await {
            Order::Lock(key, Mode::Exclusive) => Some(session.lock_async(&key).await),
            Order::Lock(key, Mode::Shared) => Some(session.lock_shared_async(&key).await),
            Order::Glance(key, Mode::Exclusive) => once(session.lock_async(&key)).await,
            Order::Glance(key, Mode::Shared) => once(session.lock_shared_async(&key)).await,
            Order::Savepoint => {
                savepoints.push(session.savepoint());
                end(&desk, End::Done, |key| session.mode(key));
                continue;
            }
            Order::Rollback => {
                if let Some(last) = savepoints.pop() {
                    session.rollback_to(last).expect("it is the last");
                    session.release_savepoint(last).expect("it is the last");
                }
                end(&desk, End::Done, |key| session.mode(key));
                continue;
            }
            Order::Unlock(key) => {
                session.unlock(&key);
                end(&desk, End::Done, |key| session.mode(key));
                continue;
            }
            _ => {
                session.release_all();
                savepoints.clear();
                end(&desk, End::Done, |key| session.mode(key));
                continue;
            }
        };
        let ended = match result {
            Some(Ok(())) => End::Granted,
            None => End::Cancelled,
            Some(Err(LockError::WouldBlock)) => End::Refused,
            Some(Err(LockError::Deadlock(_) | LockError::Died)) => End::Victim,
            Some(Err(error)) => panic!("{error}"),
        };
        end(&desk, ended, |key| session.mode(key));
    }
}

fn of_masks(keys: u8, exclusive: u8) -> Vec<(u64, Mode)> {
    let mode = |key: u64| match exclusive >> key & 1 {
        1 => Mode::Exclusive,
        _ => Mode::Shared,
    };
    let keys = (0..KEYS).filter(|key| keys >> key & 1 == 1);
    keys.map(|key| (key, mode(key))).collect()
}

async fn set(table: &Table, desk: Shared) {
    let mut held = None;
    loop {
        let order = next(&desk).await;
        let (keys, exclusive) = match order {
            Order::Set(keys, exclusive)
            | Order::GlanceSet(keys, exclusive)
            | Order::TrySet(keys, exclusive) => (keys, exclusive),
            Order::Unlock(key) => {
                if let Some(set) = &mut held {
                    latchwork::table::LockSet::unlock(set, &key);
                }
                end(&desk, End::Done, |key| held.as_ref()?.mode(key));
                continue;
            }
            _ => {
                held = None;
                end(&desk, End::Done, |_| None);
                continue;
            }
        };
        // A set that is held while its owner waits for another is a deadlock that detection
        // cannot see.
        drop(held.take());
        desk.borrow_mut().held.clear();
        let keys = of_masks(keys, exclusive);
        let keys = keys.iter().map(|(key, mode)| (key, *mode));
        let missed = match order {
            Order::Set(..) => {
                held = Some(table.lock_all_async(keys).await);
                End::Granted
            }
            Order::GlanceSet(..) => {
                held = once(table.lock_all_async(keys)).await;
                End::Cancelled
            }
            _ => {
                held = table.try_lock_all(keys);
                End::Refused
            }
        };
        let ended = if held.is_some() { End::Granted } else { missed };
        end(&desk, ended, |key| held.as_ref()?.mode(key));
    }
}

enum Guard<'t> {
    Exclusive(ExclusiveGuard<'t>),
    Shared(SharedGuard<'t>),
}

async fn guards(table: &Table, desk: Shared) {
    let mut held: BTreeMap<u64, Guard<'_>> = BTreeMap::new();
    loop {
        let order = next(&desk).await;
        let mut ended = End::Done;
        match order {
            // A guard that is held while its owner waits is a deadlock that detection cannot see.
            Order::Lock(key, mode) => {
                held.clear();
                desk.borrow_mut().held.clear();
                let guard = match mode {
                    Mode::Exclusive => Guard::Exclusive(table.lock_async(&key).await),
                    Mode::Shared => Guard::Shared(table.lock_shared_async(&key).await),
                };
                held.insert(key, guard);
                ended = End::Granted;
            }
            Order::Glance(key, mode) if !held.contains_key(&key) => {
                let guard = match mode {
                    Mode::Exclusive => once(table.lock_async(&key)).await.map(Guard::Exclusive),
                    Mode::Shared => once(table.lock_shared_async(&key)).await.map(Guard::Shared),
                };
                ended = match guard {
                    Some(guard) => {
                        held.insert(key, guard);
                        End::Granted
                    }
                    None => End::Cancelled,
                };
            }
            Order::Try(key, mode) if !held.contains_key(&key) => {
                let guard = match mode {
                    Mode::Exclusive => table.try_lock(&key).map(Guard::Exclusive),
                    Mode::Shared => table.try_lock_shared(&key).map(Guard::Shared),
                };
                ended = match guard {
                    Some(guard) => {
                        held.insert(key, guard);
                        End::Granted
                    }
                    None => End::Refused,
                };
            }
            Order::Unlock(key) => drop(held.remove(&key)),
            Order::UnlockFair(key) => match held.remove(&key) {
                Some(Guard::Exclusive(guard)) => ExclusiveGuard::unlock_fair(guard),
                Some(Guard::Shared(guard)) => SharedGuard::unlock_fair(guard),
                None => {}
            },
            Order::Downgrade(key) => {
                if let Some(guard) = held.remove(&key) {
                    let guard = match guard {
                        Guard::Exclusive(guard) => guard.downgrade(),
                        Guard::Shared(guard) => guard,
                    };
                    held.insert(key, Guard::Shared(guard));
                }
            }
            Order::Upgrade(key) => {
                if let Some(guard) = held.remove(&key) {
                    let guard = match guard {
                        Guard::Shared(guard) => match guard.try_upgrade() {
                            Ok(guard) => Guard::Exclusive(guard),
                            Err(guard) => Guard::Shared(guard),
                        },
                        guard => guard,
                    };
                    held.insert(key, guard);
                }
            }
            Order::Release => held.clear(),
            _ => {}
        }
        end(&desk, ended, |key| {
            held.get(key).map(|guard| match guard {
                Guard::Exclusive(_) => Mode::Exclusive,
                Guard::Shared(_) => Mode::Shared,
            })
        });
    }
}

struct World<'t> {
    table: &'t Table,
    policy: Policy,
    tasks: Vec<Task<'t>>,
    woken: Woken,
    tally: MixedTally,
}

/// Runs the orders that `data` stands for: two bytes each, for whom and what.
pub(crate) fn run(data: &[u8]) -> MixedTally {
    let head = data.first().copied().unwrap_or(0);
    let fairness = [Fairness::Eventual, Fairness::Fifo][usize::from(head & 1)];
    let policy = match head >> 1 & 7 {
        0 | 1 => Policy::WaitDie,
        2 => Policy::NoWait,
        _ => Policy::Detect,
    };
    let table = Table::builder()
        .fairness(fairness)
        .expected_locks(1)
        .build();
    let fresh = table.stats().index_bytes;
    let mut world = World {
        table: &table,
        policy,
        tasks: Vec::new(),
        woken: Woken::default(),
        tally: MixedTally::default(),
    };
    for who in 0..TASKS {
        let task = world.task(who);
        world.tasks.push(task);
        world.poll(who);
    }
    let orders = data.get(1..).unwrap_or_default().chunks_exact(3);
    for bytes in orders.take(MOST_ORDERS) {
        let who = usize::from(bytes[0] & 15) % TASKS;
        world.step(who, bytes[0] >> 4, [bytes[1], bytes[2]]);
    }
    world.release();
    let tally = world.tally;
    drop(world);
    let stats = table.stats();
    let left = (table.locked_count(), stats.monitors, stats.index_bytes);
    assert_eq!(left, (0, 0, fresh), "something is left in the table");
    tally
}

impl<'t> World<'t> {
    fn task(&self, who: usize) -> Task<'t> {
        let (table, desk) = (self.table, Shared::default());
        // One session of another policy than the others.
        let policy = match who {
            0 => Policy::Detect,
            _ => self.policy,
        };
        let future: Pin<Box<dyn Future<Output = ()> + 't>> = if who < SESSIONS {
            Box::pin(session(table, desk.clone(), policy))
        } else if who < SESSIONS + SETS {
            Box::pin(set(table, desk.clone()))
        } else {
            Box::pin(guards(table, desk.clone()))
        };
        Task {
            desk,
            future,
            waits: false,
            waits_for_set: false,
        }
    }

    fn order(who: usize, what: u8, [first, second]: [u8; 2]) -> Order {
        let key = u64::from(first & 15) % KEYS;
        let mode = [Mode::Exclusive, Mode::Shared][usize::from(first >> 7)];
        if (SESSIONS..SESSIONS + SETS).contains(&who) {
            return match what {
                0..=8 => Order::Set(first, second),
                9 | 10 => Order::GlanceSet(first, second),
                11 | 12 => Order::TrySet(first, second),
                13 => Order::Unlock(key),
                _ => Order::Release,
            };
        }
        match what {
            0..=6 => Order::Lock(key, mode),
            7 => Order::Glance(key, mode),
            8 => Order::Try(key, mode),
            9 => Order::Unlock(key),
            10 => Order::UnlockFair(key),
            11 => Order::Downgrade(key),
            12 => Order::Upgrade(key),
            13 => Order::Savepoint,
            14 => Order::Rollback,
            _ => Order::Release,
        }
    }

    fn step(&mut self, who: usize, what: u8, with: [u8; 2]) {
        if self.tasks[who].waits {
            // A task that waits can do nothing but end.
            if what == 15 {
                self.tally.cancelled += 1;
                let fresh = self.task(who);
                drop(std::mem::replace(&mut self.tasks[who], fresh));
                self.poll(who);
                self.settle();
            }
            return;
        }
        self.give(who, Self::order(who, what, with));
    }

    fn give(&mut self, who: usize, order: Order) {
        let task = &mut self.tasks[who];
        task.desk.borrow_mut().order = Some(order);
        task.waits = true;
        self.poll(who);
        if self.tasks[who].waits {
            self.tally.waited += 1;
            self.tasks[who].waits_for_set = matches!(order, Order::Set(..));
        }
        self.settle();
    }

    fn poll(&mut self, who: usize) {
        let waker = Waker::from(Arc::new(Bell(who, self.woken.clone())));
        let task = &mut self.tasks[who];
        let waited = task.waits_for_set;
        let polled = task.future.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending(), "a task ends");
        let Some(end) = task.desk.borrow_mut().end.take() else {
            return;
        };
        task.waits = false;
        task.waits_for_set = false;
        let tally = &mut self.tally;
        tally.granted += u64::from(end == End::Granted);
        tally.victims += u64::from(end == End::Victim);
        tally.cancelled += u64::from(end == End::Cancelled);
        tally.sets += u64::from(waited && end == End::Granted);
    }

    /// Polls the tasks that were woken until none is, and checks what is held.
    fn settle(&mut self) {
        for _ in 0..100_000 {
            let woken = std::mem::take(&mut *self.woken.lock().expect("no panic"));
            if woken.is_empty() {
                self.check();
                return;
            }
            woken.into_iter().for_each(|who| self.poll(who));
        }
        panic!("tasks wake each other without end");
    }

    fn check(&self) {
        for key in 0..KEYS {
            let modes = self.tasks.iter().filter_map(|task| {
                let desk = task.desk.borrow();
                desk.held.get(&key).copied()
            });
            let modes: Vec<Mode> = modes.collect();
            let writers = modes.iter().filter(|mode| **mode == Mode::Exclusive);
            assert!(writers.count() == 0 || modes.len() == 1, "{key}: {modes:?}");
        }
        let runs = |task: &Task<'_>| !task.waits && !task.desk.borrow().held.is_empty();
        let waits = self.tasks.iter().filter(|task| task.waits).count();
        assert!(
            waits == 0 || self.tasks.iter().any(runs),
            "{waits} tasks wait, and none that runs holds a key"
        );
    }

    /// Every task that does not wait releases what it holds, until none waits.
    fn release(&mut self) {
        for _ in 0..2 * TASKS {
            for who in 0..TASKS {
                if !self.tasks[who].waits {
                    self.give(who, Order::Release);
                }
            }
        }
        let waits = self.tasks.iter().filter(|task| task.waits).count();
        assert_eq!(waits, 0, "tasks wait for keys that no task holds");
    }
}
