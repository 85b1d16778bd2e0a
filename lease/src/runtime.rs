//! The threads behind a [`Leases`](crate::Leases): one that keeps time, and a pool for requests.
//!
//! The *timer thread* makes no request. It delivers ticks to the state machines of leases, so that
//! a loss is notified at the end of the lease, whatever the engine does. Requests run in the
//! *pool*, whose threads start on demand and end when they are idle. Each class of jobs has a
//! limit of its own: requests that hang occupy the threads of their class, and no others [LE7].
//!
//! Locks are acquired in this order: the state of a lease, then the timers, then the pool.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use latchwork::LockTable;

use crate::acquisition::{Event, Failure, Terms};
use crate::clock::{self, Timestamp};
use crate::engine::{Engine, EngineError, Key, Outcome, Renewal};
use crate::guarantees::Guarantees;
use crate::plant::planted;
use crate::shared::{Renew, Shared};

/// How much earlier than necessary a lease is renewed together with others.
const BATCH_AHEAD: Duration = Duration::from_millis(250);

/// The same for an engine that renews any number of leases in one request.
const BATCH_AHEAD_TOGETHER: Duration = Duration::from_millis(2500);

/// The greatest number of leases in one request, unless the engine renews any number of them.
pub(crate) const BATCH: usize = 1000;

/// The longest sleep of the timer thread while leases exist: a bound on how late a loss is notified
/// after the machine was suspended, because the sleep does not count that time.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// The time after which an idle thread of the pool ends.
const IDLE: Duration = Duration::from_secs(5);

/// A kind of jobs with its own limit of threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Renewals.
    Renew,
    /// Releases in the background.
    Cleanup,
    /// Requests of asynchronous calls.
    Ask,
    /// Callbacks of users.
    Call,
}

/// The limits of the classes, in their order.
const LIMITS: [usize; 4] = [4, 4, 16, 8];

/// The number of jobs of [`Class::Ask`] that may block in a wait for a free key. The others poll.
const WAITS: usize = 8;

pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// The options of a [`Leases`](crate::Leases).
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) namespace: String,
    pub(crate) owner: String,
    pub(crate) request_timeout: Duration,
    pub(crate) drift: f64,
    pub(crate) renew_at: f64,
}

impl Config {
    /// The conditions of an acquisition under these options.
    pub(crate) fn terms(
        &self,
        ttl: Duration,
        once: bool,
        guarantees: &Guarantees,
        until: Option<Timestamp>,
    ) -> Terms {
        // Two milliseconds, because clocks are read in steps.
        let drift = ttl.mul_f64(self.drift) + Duration::from_millis(2);
        let ahead = if guarantees.renews_together { 5 } else { 20 };
        Terms {
            ttl,
            drift: drift + guarantees.ends_early,
            renew_after: ttl.mul_f64(self.renew_at),
            renew_ahead: ttl / ahead,
            request_timeout: self.request_timeout,
            once,
            queues: guarantees.fair,
            give_up_at: until,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            namespace: "default".to_owned(),
            owner: format!("{}:{}", clock::host_name(), std::process::id()),
            request_timeout: Duration::from_secs(2),
            drift: 0.01,
            renew_at: 1.0 / 3.0,
        }
    }
}

/// The state that handles and threads share.
pub(crate) struct Core {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) config: Config,
    /// Whether the engine renews any number of leases in one request.
    renews_together: bool,
    /// In-process queue: at most one thread holds or requests a name [LE8].
    pub(crate) table: Arc<LockTable<str>>,
    pid: u32,
    timers: Mutex<Timers>,
    timers_changed: Condvar,
    pool: Mutex<Pool>,
    pool_changed: Condvar,
}

/// The time of a timer, and a number that makes it unique.
pub(crate) type TimerKey = (Timestamp, u64);

#[derive(Default)]
struct Timers {
    queue: BTreeMap<TimerKey, Entry>,
    numbers: u64,
    is_running: bool,
    /// The end of the sleep of the timer thread, or `None` if it sleeps until it is notified. A
    /// timer that is later needs no notification.
    sleeps_until: Option<Timestamp>,
    /// No handle exists.
    is_orphaned: bool,
    /// Acquisitions that are not over, including those of callers' threads.
    live: BTreeMap<u64, Arc<Shared>>,
    is_shut_down: bool,
}

enum Entry {
    /// Deliver a tick to this lease.
    Tick(Arc<Shared>),
    /// Run it on the timer thread; it must not block.
    Call(Job),
}

#[derive(Default)]
struct Pool {
    queues: [VecDeque<Job>; 4],
    running: [usize; 4],
    threads: usize,
    idle: usize,
    waits: usize,
    is_stopped: bool,
}

impl Pool {
    /// Removes a job whose class has a free thread.
    fn next(&mut self) -> Option<(usize, Job)> {
        (0..LIMITS.len()).find_map(|class| {
            if self.running[class] == LIMITS[class] {
                return None;
            }
            self.queues[class].pop_front().map(|job| (class, job))
        })
    }

    /// Whether a new thread would find a job.
    fn needs_thread(&self) -> bool {
        let ready = |class: usize| {
            self.queues[class]
                .len()
                .min(LIMITS[class] - self.running[class])
        };
        (0..LIMITS.len()).map(ready).sum::<usize>() > self.idle
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No user code runs under these mutexes, so a poisoned state is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Core {
    pub(crate) fn new(engine: Arc<dyn Engine>, config: Config) -> Arc<Self> {
        let table = LockTable::builder()
            .fairness(latchwork::Fairness::Fifo)
            .expected_locks(256)
            .build();
        Arc::new(Core {
            renews_together: engine.guarantees().renews_together,
            engine,
            config,
            table: Arc::new(table),
            pid: std::process::id(),
            timers: Mutex::default(),
            timers_changed: Condvar::new(),
            pool: Mutex::default(),
            pool_changed: Condvar::new(),
        })
    }

    /// Whether this process is a child of the one that made the leases [LE10].
    pub(crate) fn is_foreign(&self) -> bool {
        self.pid != std::process::id()
    }

    pub(crate) fn key<'a>(&'a self, name: &'a str) -> Key<'a> {
        Key {
            namespace: &self.config.namespace,
            name,
        }
    }

    pub(crate) fn terms(&self, ttl: Duration, once: bool, until: Option<Timestamp>) -> Terms {
        let guarantees = self.engine.guarantees();
        self.config.terms(ttl, once, &guarantees, until)
    }

    /// Calls the engine; a panic of the engine is an error with an unknown outcome.
    pub(crate) fn request<T>(
        &self,
        call: impl FnOnce(&dyn Engine) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        caught(|| call(&*self.engine))
            .unwrap_or_else(|| Err(EngineError::unknown("the engine panicked")))
    }

    // The registry of acquisitions

    /// Registers an acquisition, and starts the timer thread.
    pub(crate) fn register(self: &Arc<Self>, shared: &Arc<Shared>) -> Result<(), EngineError> {
        let mut timers = lock(&self.timers);
        if timers.is_shut_down {
            return Err(EngineError::misconfigured("the leases are shut down"));
        }
        self.start(&mut timers)?;
        timers.live.insert(shared.id(), shared.clone());
        Ok(())
    }

    /// Removes an acquisition that is over, and its tick.
    pub(crate) fn unregister(&self, shared: &Shared, tick: Option<TimerKey>) {
        let mut timers = lock(&self.timers);
        let live = timers.live.remove(&shared.id());
        let entry = tick.and_then(|key| timers.queue.remove(&key));
        // `drain` waits for it, and a timer thread that can end.
        let is_awaited = timers.is_shut_down || timers.is_orphaned;
        drop(timers);
        drop((live, entry));
        if is_awaited {
            self.timers_changed.notify_all();
        }
    }

    fn start(self: &Arc<Self>, timers: &mut Timers) -> Result<(), EngineError> {
        if !timers.is_running {
            let core = self.clone();
            let thread = thread::Builder::new().name("lease timer".to_owned());
            thread
                .spawn(move || core.run_timers())
                .map_err(EngineError::not_done)?;
            timers.is_running = true;
        }
        Ok(())
    }

    /// Refuses new acquisitions, and returns those that are not over.
    pub(crate) fn close(&self) -> Vec<Arc<Shared>> {
        let mut timers = lock(&self.timers);
        timers.is_shut_down = true;
        timers.live.values().cloned().collect()
    }

    /// Waits until no acquisition is left, and returns how many are left at `until`.
    pub(crate) fn drain(&self, until: Timestamp) -> usize {
        let mut timers = lock(&self.timers);
        loop {
            let left = until.since(Timestamp::now());
            if timers.live.is_empty() || left.is_zero() {
                return timers.live.len();
            }
            let waited = self
                .timers_changed
                .wait_timeout(timers, left.min(LONGEST_SLEEP));
            timers = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The last handle is dropped. The threads end when no acquisition is left.
    pub(crate) fn orphan(&self) {
        let mut timers = lock(&self.timers);
        timers.is_orphaned = true;
        drop(timers);
        self.timers_changed.notify_all();
    }

    // Timers

    /// Schedules a tick in place of an earlier one. The caller has locked the state of the lease.
    pub(crate) fn schedule(
        &self,
        at: Timestamp,
        shared: Arc<Shared>,
        instead_of: Option<TimerKey>,
    ) -> TimerKey {
        self.insert(at, Entry::Tick(shared), instead_of)
    }

    /// Runs `job` on the timer thread at `at`. It must not block.
    pub(crate) fn call_at(
        self: &Arc<Self>,
        at: Timestamp,
        job: Job,
    ) -> Result<TimerKey, EngineError> {
        self.start(&mut lock(&self.timers))?;
        Ok(self.insert(at, Entry::Call(job), None))
    }

    /// Removes a timer. It has no effect if the timer has fired.
    pub(crate) fn cancel(&self, key: TimerKey) {
        let mut timers = lock(&self.timers);
        let entry = timers.queue.remove(&key);
        let is_last = timers.queue.is_empty();
        drop(timers);
        drop(entry);
        if is_last {
            // The timer thread may have waited for this timer only.
            self.timers_changed.notify_all();
        }
    }

    /// Returns the number of timers.
    #[cfg(test)]
    pub(crate) fn timers(&self) -> usize {
        lock(&self.timers).queue.len()
    }

    fn insert(&self, at: Timestamp, entry: Entry, instead_of: Option<TimerKey>) -> TimerKey {
        let mut timers = lock(&self.timers);
        let replaced = instead_of.and_then(|key| timers.queue.remove(&key));
        timers.numbers += 1;
        let key = (at, timers.numbers);
        let is_earlier = timers.sleeps_until.is_none_or(|end| at < end);
        timers.queue.insert(key, entry);
        drop(timers);
        drop(replaced);
        if is_earlier {
            self.timers_changed.notify_all();
        }
        key
    }

    fn run_timers(self: Arc<Self>) {
        let mut timers = lock(&self.timers);
        loop {
            let now = Timestamp::now();
            let next = timers.queue.first_key_value().map(|((at, _), _)| *at);
            match next {
                Some(at) if at <= now => {
                    drop(timers);
                    self.fire(now);
                    timers = lock(&self.timers);
                    continue;
                }
                None if timers.is_orphaned && timers.live.is_empty() => break,
                _ => {}
            }
            let sleep = next.map_or(Duration::MAX, |at| at.since(now));
            // A pool without threads is one whose threads could not be started.
            let sleep = sleep.min(LONGEST_SLEEP);
            let is_idle = next.is_none() && timers.live.is_empty();
            timers.sleeps_until = (!is_idle).then(|| now.plus(sleep));
            timers = if is_idle {
                let waited = self.timers_changed.wait(timers);
                waited.unwrap_or_else(PoisonError::into_inner)
            } else {
                let waited = self.timers_changed.wait_timeout(timers, sleep);
                waited.unwrap_or_else(PoisonError::into_inner).0
            };
            // Awake, it reads the queue again before it sleeps.
            timers.sleeps_until = Some(Timestamp::default());
            drop(timers);
            self.start_threads();
            timers = lock(&self.timers);
        }
        timers.is_running = false;
        drop(timers);
        lock(&self.pool).is_stopped = true;
        self.pool_changed.notify_all();
    }

    /// Removes the entries until `until`, in the order of their times.
    fn due(&self, until: Timestamp) -> Vec<(TimerKey, Entry)> {
        let mut timers = lock(&self.timers);
        let later = timers.queue.split_off(&(until, u64::MAX));
        let due = std::mem::replace(&mut timers.queue, later);
        due.into_iter().collect()
    }

    fn fire(self: &Arc<Self>, now: Timestamp) {
        let mut renewals = Vec::new();
        for (key, entry) in self.due(now) {
            match entry {
                Entry::Tick(shared) => shared.tick(key, Duration::ZERO, &mut renewals),
                Entry::Call(job) => call_user(job),
            }
        }
        let (ahead, most) = match self.renews_together {
            // One request for all, whatever happened to the last one.
            true => (BATCH_AHEAD_TOGETHER, usize::MAX),
            false => (BATCH_AHEAD, BATCH),
        };
        if !renewals.is_empty() {
            // Renewals that are necessary soon join the request.
            for (key, entry) in self.due(now.plus(ahead)) {
                match entry {
                    Entry::Tick(shared) => shared.tick(key, ahead, &mut renewals),
                    Entry::Call(_) => drop(self.insert(key.0, entry, None)),
                }
            }
        }
        // Those that were not answered are repeated in smaller requests, so that one of them that
        // hangs expires few others [LE7].
        renewals.sort_by_key(|renew| renew.unanswered);
        while let Some(first) = renewals.first() {
            let unanswered = first.unanswered;
            let size = match planted("batches are not split") {
                true => most,
                false => (most >> (4 * unanswered.min(4))).max(1),
            };
            let alike = renewals.iter().take(size);
            let size = alike
                .take_while(|renew| renew.unanswered == unanswered)
                .count();
            let rest = renewals.split_off(size);
            let (core, batch) = (self.clone(), std::mem::replace(&mut renewals, rest));
            self.submit(Class::Renew, Box::new(move || core.renew(&batch)));
        }
    }

    fn renew(&self, batch: &[Renew]) {
        let deadline = batch.iter().map(|renew| renew.deadline).min();
        let deadline = deadline.unwrap_or_default().to_instant();
        let renewals: Vec<Renewal<'_>> = batch
            .iter()
            .map(|renew| renew.shared.renewal_of(renew.token))
            .collect();
        let answers = self.request(|engine| engine.renew_many(&renewals, deadline));
        let unknown = Failure {
            outcome: Outcome::Unknown,
            is_temporary: true,
        };
        for (at, renew) in batch.iter().enumerate() {
            let answer = match &answers {
                Ok(answers) => answers.get(at).copied().ok_or(unknown),
                Err(_) => Err(unknown),
            };
            renew.shared.feed(Event::Renewed(renew.request, answer));
        }
    }

    // The pool

    /// Runs a job on a thread of the pool.
    pub(crate) fn submit(self: &Arc<Self>, class: Class, job: Job) {
        let mut pool = lock(&self.pool);
        pool.queues[class as usize].push_back(job);
        drop(pool);
        self.pool_changed.notify_one();
        self.start_threads();
    }

    /// Starts threads for jobs that no idle thread will run.
    fn start_threads(self: &Arc<Self>) {
        let has_timer = lock(&self.timers).is_running;
        let mut pool = lock(&self.pool);
        while pool.needs_thread() {
            let core = self.clone();
            let thread = thread::Builder::new().name("lease request".to_owned());
            if thread.spawn(move || core.run_jobs()).is_err() {
                // The timer thread tries again, or a thread of the pool runs the jobs later. Where
                // there is neither, a call would wait indefinitely, so its future ends.
                let mut abandoned = VecDeque::new();
                if !has_timer && pool.threads == 0 {
                    abandoned = std::mem::take(&mut pool.queues[Class::Ask as usize]);
                }
                drop(pool);
                // The jobs own wakers, which are user code.
                call_user(|| drop(abandoned));
                return;
            }
            pool.threads += 1;
            pool.idle += 1;
        }
    }

    fn run_jobs(self: Arc<Self>) {
        let mut pool = lock(&self.pool);
        loop {
            if let Some((class, job)) = pool.next() {
                pool.idle -= 1;
                pool.running[class] += 1;
                drop(pool);
                call_user(job);
                pool = lock(&self.pool);
                pool.running[class] -= 1;
                pool.idle += 1;
                continue;
            }
            if pool.is_stopped {
                break;
            }
            let (again, waited) = self
                .pool_changed
                .wait_timeout(pool, IDLE)
                .unwrap_or_else(PoisonError::into_inner);
            pool = again;
            if waited.timed_out() && pool.queues.iter().all(VecDeque::is_empty) {
                break;
            }
        }
        pool.threads -= 1;
        pool.idle -= 1;
    }

    /// Reserves a thread of the pool for a wait. The caller must end it.
    pub(crate) fn begin_wait(&self) -> bool {
        let mut pool = lock(&self.pool);
        let may_wait = pool.waits < WAITS;
        pool.waits += usize::from(may_wait);
        may_wait
    }

    pub(crate) fn end_wait(&self) {
        lock(&self.pool).waits -= 1;
    }
}

/// Runs code that may panic: a callback, a waker, or a request.
pub(crate) fn call_user(job: impl FnOnce()) {
    // A panic of one user's code must not end the thread that serves all leases. The hook of the
    // process has reported it.
    let _ = caught(job);
}

/// Calls `call`. Returns `None` if it panics.
fn caught<T>(call: impl FnOnce() -> T) -> Option<T> {
    let payload = match catch_unwind(AssertUnwindSafe(call)) {
        Ok(value) => return Some(value),
        Err(payload) => payload,
    };
    // The drop of a payload is user code, and may panic with another payload, which is leaked.
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
    None
}
