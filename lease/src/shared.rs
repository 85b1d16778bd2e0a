//! The state of one acquisition that its caller, the timer thread and requests share.

use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use latchwork::table::{FencingToken, OwnedExclusiveGuard};

use crate::acquisition::{Acquisition, Action, End, Event, Failure, RequestId, Terms};
use crate::clock::{self, Timestamp};
use crate::engine::{EngineError, Key, Nonce, Outcome, Released, Renewal, Request};
use crate::error::AcquireError;
use crate::lease::LossReason;
use crate::plant::planted;
use crate::runtime::{BATCH, Class, Core, TimerKey, call_user};

/// The key of the in-process queue, held by an acquisition.
pub(crate) type Guard = OwnedExclusiveGuard<str>;

pub(crate) type Callback = Box<dyn FnOnce(LossReason) + Send>;

/// One acquisition.
pub(crate) struct Shared {
    core: Arc<Core>,
    name: Arc<str>,
    nonce: Nonce,
    ttl: Duration,
    /// The state machine's value, for `is_held` without the mutex.
    valid_until: AtomicU64,
    /// The number of the [`LossReason`] plus one, or zero.
    lost: AtomicU8,
    state: Mutex<State>,
    /// The lease was lost.
    changed: Condvar,
}

struct State {
    machine: Acquisition,
    guard: Option<Guard>,
    tick: Option<TimerKey>,
    wakers: Vec<(u64, Waker)>,
    callbacks: Vec<Callback>,
    waiters: u64,
}

/// A renewal to be sent.
pub(crate) struct Renew {
    pub(crate) shared: Arc<Shared>,
    pub(crate) request: RequestId,
    pub(crate) token: FencingToken,
    pub(crate) deadline: Timestamp,
    /// The number of renewals before it that were not answered.
    pub(crate) unanswered: usize,
}

/// What remains to be done once the state is unlocked.
#[derive(Default)]
struct Aftermath {
    guard: Option<Guard>,
    wakers: Vec<(u64, Waker)>,
    callbacks: Vec<Callback>,
    lost: Option<LossReason>,
}

/// How an attempt of the driver ended.
#[derive(Debug)]
pub(crate) enum Step {
    Granted(FencingToken),
    Ended(End),
    /// Wait for a hint, unless the engine failed.
    Wait {
        until: Timestamp,
        failed: bool,
    },
}

impl Shared {
    /// Registers a new acquisition, with a fresh nonce [LE9].
    pub(crate) fn new(
        core: &Arc<Core>,
        name: Arc<str>,
        terms: Terms,
        guard: Option<Guard>,
    ) -> Result<Arc<Self>, AcquireError> {
        let number = clock::random().map_err(EngineError::not_done)?;
        let shared = Arc::new(Shared {
            core: core.clone(),
            name,
            nonce: Nonce::new(number),
            ttl: terms.ttl,
            valid_until: AtomicU64::new(0),
            lost: AtomicU8::new(0),
            state: Mutex::new(State {
                machine: Acquisition::new(terms),
                guard,
                tick: None,
                wakers: Vec::new(),
                callbacks: Vec::new(),
                waiters: 0,
            }),
            changed: Condvar::new(),
        });
        core.register(&shared)?;
        Ok(shared)
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn nonce(&self) -> Nonce {
        self.nonce
    }

    pub(crate) fn ttl(&self) -> Duration {
        self.ttl
    }

    /// A number that is unique in the process, because the nonce is random.
    pub(crate) fn id(&self) -> u64 {
        // An address is unique among the acquisitions that are registered, which are alive.
        std::ptr::from_ref(self).addr() as u64
    }

    pub(crate) fn key(&self) -> Key<'_> {
        self.core.key(&self.name)
    }

    pub(crate) fn request_of(&self) -> Request<'_> {
        Request {
            key: self.key(),
            nonce: self.nonce,
            owner: &self.core.config.owner,
            ttl: self.ttl,
        }
    }

    pub(crate) fn renewal_of(&self, token: FencingToken) -> Renewal<'_> {
        Renewal {
            key: self.key(),
            nonce: self.nonce,
            token,
            ttl: self.ttl,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No user code runs under the mutex, so a poisoned state is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // Reads of the holder

    pub(crate) fn valid_until(&self) -> Timestamp {
        // Relaxed: the value is a time, and publishes no other memory.
        Timestamp::from_nanos(self.valid_until.load(Ordering::Relaxed))
    }

    /// Returns why the lease was lost, if it was. In the child of a fork it always is [LE10].
    pub(crate) fn lost(&self) -> Option<LossReason> {
        if self.core.is_foreign() {
            return Some(LossReason::Expired);
        }
        // Acquire: pairs with the Release in `feed`, so that the thread that reads a loss also
        // reads what preceded it.
        match self.lost.load(Ordering::Acquire) {
            0 if Timestamp::now() >= self.valid_until() => Some(LossReason::Expired),
            number => LossReason::from_number(number),
        }
    }

    /// Waits until the lease is lost, or until `until`.
    pub(crate) fn wait_lost(&self, until: Timestamp) -> Option<LossReason> {
        if let Some(reason) = self.lost() {
            return Some(reason);
        }
        let mut state = self.lock();
        loop {
            if let Some(reason) = self.lost() {
                return Some(reason);
            }
            let now = Timestamp::now();
            if now >= until {
                return None;
            }
            // The end of the lease needs no notification: this thread reads the clock itself.
            let left = until.min(self.valid_until()).since(now);
            let waited = self
                .changed
                .wait_timeout(state, left.min(Duration::from_secs(1)));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Registers a waker under a number, which is drawn for the first poll.
    pub(crate) fn poll_lost(&self, number: &mut Option<u64>, waker: &Waker) -> Option<LossReason> {
        if let Some(reason) = self.lost() {
            return Some(reason);
        }
        // Cloned before the state is locked, because a waker is user code.
        let waker = waker.clone();
        let mut state = self.lock();
        if let Some(reason) = self.lost() {
            return Some(reason);
        }
        let number = *number.get_or_insert_with(|| {
            state.waiters += 1;
            state.waiters
        });
        let old = match state.wakers.iter_mut().find(|(other, _)| *other == number) {
            Some((_, old)) => Some(std::mem::replace(old, waker)),
            None => {
                state.wakers.push((number, waker));
                None
            }
        };
        drop(state);
        drop(old);
        None
    }

    pub(crate) fn forget_waker(&self, number: u64) {
        if self.core.is_foreign() {
            return;
        }
        let mut state = self.lock();
        let at = state.wakers.iter().position(|(other, _)| *other == number);
        let waker = at.map(|at| state.wakers.swap_remove(at));
        drop(state);
        drop(waker);
    }

    /// Runs `callback` when the lease is lost, or soon if it was.
    pub(crate) fn on_lost(&self, callback: Callback) {
        let mut state = self.lock();
        // The reason is stored under the mutex, so the callback is either kept or sees it.
        // Relaxed: the mutex orders the accesses.
        match LossReason::from_number(self.lost.load(Ordering::Relaxed)) {
            None => state.callbacks.push(callback),
            Some(reason) => {
                drop(state);
                self.core
                    .submit(Class::Call, Box::new(move || callback(reason)));
            }
        }
    }

    // Events

    /// Delivers an event, and performs what follows from it, except asks and renewals.
    ///
    /// Releases are performed by the pool. Returns the actions.
    pub(crate) fn feed(self: &Arc<Self>, event: Event) -> Vec<Action> {
        let actions = self.deliver(event);
        for action in &actions {
            if let Action::Release(request, deadline) = *action {
                let shared = self.clone();
                let job = move || {
                    let _ = shared.release(request, deadline);
                };
                self.core.submit(Class::Cleanup, Box::new(job));
            }
        }
        actions
    }

    /// As [`feed`](Self::feed), but the caller performs the releases.
    fn deliver(self: &Arc<Self>, event: Event) -> Vec<Action> {
        let (mut actions, mut after) = (Vec::new(), Aftermath::default());
        if self.core.is_foreign() {
            // Another thread of the parent may hold the mutex [LE10].
            return actions;
        }
        let mut state = self.lock();
        state.machine.on(Timestamp::now(), event, &mut actions);
        // Relaxed: the value is a time, and publishes no other memory.
        self.valid_until
            .store(state.machine.valid_until().as_nanos(), Ordering::Relaxed);
        for action in &actions {
            self.apply(&mut state, *action, &mut after);
        }
        self.reschedule(&mut state);
        drop(state);
        self.conclude(after);
        actions
    }

    fn apply(&self, state: &mut State, action: Action, after: &mut Aftermath) {
        match action {
            Action::Lost(reason) => {
                // Release: pairs with the Acquire in `lost`.
                self.lost.store(reason.number(), Ordering::Release);
                after.lost = Some(reason);
                after.wakers.append(&mut state.wakers);
                after.callbacks.append(&mut state.callbacks);
                if matches!(reason, LossReason::Expired | LossReason::TakenAway) {
                    after.guard = state.guard.take();
                }
            }
            // The key passes to another thread of the process once no request is in flight [LE8].
            Action::Ended(_) if state.machine.has_unknown_ask() => {}
            Action::Ended(_) | Action::Confirmed(_) | Action::Unconfirmed | Action::Over => {
                if let Some(guard) = state.guard.take() {
                    after.guard = Some(guard);
                }
            }
            _ => {}
        }
    }

    /// Holds the key of the in-process queue until the lease ends, or drops it if it has ended.
    pub(crate) fn keep(&self, guard: Guard) {
        let mut state = self.lock();
        if self.lost().is_none() {
            state.guard = Some(guard);
        } else {
            drop(state);
            drop(guard);
        }
    }

    /// Ends an acquisition that has not become a lease.
    pub(crate) fn abandon_unless_granted(self: &Arc<Self>) {
        let is_granted = self.lock().machine.was_granted();
        if !is_granted {
            self.feed(Event::Abandon(LossReason::Released));
        }
    }

    fn reschedule(self: &Arc<Self>, state: &mut State) {
        if state.machine.is_over() {
            self.core.unregister(self, state.tick.take());
            return;
        }
        // The driver of an ask needs no ticks: its calls return.
        if !state.machine.needs_ticks() {
            return;
        }
        // A tick that would come earlier than it is needed is moved too, because it costs more than
        // the move: after each renewal, the tick at the deadline of its request.
        let at = state.machine.wake_at();
        if state.tick.is_none_or(|(tick, _)| at != tick) {
            state.tick = Some(self.core.schedule(at, self.clone(), state.tick));
        }
    }

    fn conclude(&self, after: Aftermath) {
        // The loss is notified before another thread can acquire the key.
        let Some(reason) = after.lost else {
            // The guard may wake tasks, whose wakers are user code.
            call_user(|| drop(after.guard));
            return;
        };
        self.changed.notify_all();
        for (_, waker) in after.wakers {
            call_user(|| waker.wake());
        }
        for callback in after.callbacks {
            self.core
                .submit(Class::Call, Box::new(move || callback(reason)));
        }
        call_user(|| drop(after.guard));
    }

    /// Handles a tick of the timer thread, and adds the renewal if one is necessary.
    pub(crate) fn tick(self: &Arc<Self>, key: TimerKey, ahead: Duration, due: &mut Vec<Renew>) {
        let mut state = self.lock();
        if state.tick != Some(key) {
            return;
        }
        state.tick = None;
        drop(state);
        for action in self.feed(Event::Tick { ahead }) {
            if let Action::Renew(request, deadline, token) = action {
                let unanswered = self.lock().machine.unanswered().saturating_sub(1);
                due.push(Renew {
                    unanswered,
                    shared: self.clone(),
                    request,
                    token,
                    deadline,
                });
            }
        }
    }

    fn release(
        self: &Arc<Self>,
        request: RequestId,
        deadline: Timestamp,
    ) -> Result<Released, EngineError> {
        let deadline = deadline.to_instant();
        let answer = self
            .core
            .request(|engine| engine.release(self.key(), self.nonce, deadline));
        let event = answer.as_ref().copied().map_err(failure);
        self.feed(Event::Released(request, event));
        answer
    }

    /// Ends the lease, and releases on this thread. Returns `None` if the lease was lost before.
    pub(crate) fn release_now(
        self: &Arc<Self>,
        reason: LossReason,
    ) -> Option<Result<Released, EngineError>> {
        let actions = self.deliver(Event::Abandon(reason));
        let was_held = actions.contains(&Action::Lost(reason));
        let mut answer = None;
        for action in actions {
            if let Action::Release(request, deadline) = action {
                answer = Some(self.release(request, deadline));
            }
        }
        answer.filter(|_| was_held)
    }

    /// Ends several leases, and releases them on this thread, if possible many in one request.
    ///
    /// Returns whether all of them were held until then.
    pub(crate) fn release_many(
        core: &Core,
        leases: &[Arc<Self>],
        reason: LossReason,
    ) -> Result<bool, EngineError> {
        let (mut were_held, mut failed) = (true, None);
        let mut add = |released| match released {
            Ok(all) => were_held &= all,
            Err(error) => failed = failed.take().or(Some(error)),
        };
        if releases_many(core) {
            let size = match planted("releases share no request") {
                true => 1,
                false => BATCH,
            };
            for several in leases.chunks(size) {
                let endings: Vec<Ending> = several.iter().map(|lease| lease.end(reason)).collect();
                add(release_ended(core, &endings));
            }
        } else {
            for lease in leases {
                let released = lease.release_now(reason).unwrap_or(Ok(Released::WasLost));
                add(released.map(|released| released == Released::Done));
            }
        }
        failed.map_or(Ok(were_held), Err)
    }

    /// Ends several leases at once, and releases them in the pool, if possible many in one request.
    pub(crate) fn release_many_in_background(
        core: &Arc<Core>,
        leases: &[Arc<Self>],
        reason: LossReason,
    ) {
        if !releases_many(core) {
            for lease in leases {
                lease.feed(Event::Abandon(reason));
            }
            return;
        }
        let endings: Vec<Ending> = leases.iter().map(|lease| lease.end(reason)).collect();
        let mut endings = endings.into_iter().peekable();
        while endings.peek().is_some() {
            let several: Vec<Ending> = endings.by_ref().take(BATCH).collect();
            let shared = core.clone();
            let job = move || drop(release_ended(&shared, &several));
            core.submit(Class::Cleanup, Box::new(job));
        }
    }

    /// Ends a lease whose release the caller makes.
    fn end(self: &Arc<Self>, reason: LossReason) -> Ending {
        let actions = self.deliver(Event::Abandon(reason));
        let release = actions.iter().find_map(|action| match action {
            Action::Release(request, deadline) => Some((*request, *deadline)),
            _ => None,
        });
        Ending {
            shared: self.clone(),
            was_held: actions.contains(&Action::Lost(reason)),
            release,
        }
    }

    /// Makes requests until the acquisition ends or has to wait.
    pub(crate) fn advance(self: &Arc<Self>, event: Event, cause: &mut Option<EngineError>) -> Step {
        let mut event = event;
        loop {
            let mut ask = None;
            for action in self.feed(event) {
                match action {
                    Action::Ask(request, deadline) => ask = Some((request, deadline)),
                    Action::Granted(token) => return Step::Granted(token),
                    Action::Ended(end) => return Step::Ended(end),
                    _ => {}
                }
            }
            let Some((request, deadline)) = ask else {
                let state = self.lock();
                return match state.machine.waits_until() {
                    Some(until) => Step::Wait {
                        until,
                        failed: state.machine.waits_after_failure(),
                    },
                    // Another thread has ended the acquisition.
                    None => Step::Ended(End::Abandoned),
                };
            };
            let deadline = deadline.to_instant();
            let answer = self
                .core
                .request(|engine| engine.try_acquire(&self.request_of(), deadline));
            let answer = answer.map_err(|error| {
                let failure = failure(&error);
                *cause = Some(error);
                failure
            });
            event = Event::Asked(request, answer);
        }
    }
}

/// A lease that was ended, and its release, unless that was made before.
struct Ending {
    shared: Arc<Shared>,
    was_held: bool,
    release: Option<(RequestId, Timestamp)>,
}

/// Whether the engine can release several leases in one request.
fn releases_many(core: &Core) -> bool {
    let answer = core.request(|engine| {
        let released = engine.release_many(&[], Timestamp::now().to_instant());
        Ok(released.is_some())
    });
    answer.unwrap_or(false)
}

/// Releases leases that were ended, in one request. Returns whether all were held until then.
fn release_ended(core: &Core, endings: &[Ending]) -> Result<bool, EngineError> {
    let mut were_held = endings.iter().all(|ending| ending.was_held);
    let releases: Vec<(&Ending, RequestId, Timestamp)> = endings
        .iter()
        .filter_map(|ending| ending.release.map(|(id, deadline)| (ending, id, deadline)))
        .collect();
    let Some(deadline) = releases.iter().map(|(_, _, deadline)| *deadline).min() else {
        return Ok(were_held);
    };
    let pairs: Vec<(Key<'_>, Nonce)> = releases
        .iter()
        .map(|(ending, _, _)| (ending.shared.key(), ending.shared.nonce))
        .collect();
    let answers = core.request(|engine| {
        let answers = engine.release_many(&pairs, deadline.to_instant());
        answers.unwrap_or_else(|| Err(EngineError::not_done("unsupported")))
    });
    for (at, (ending, request, _)) in releases.iter().enumerate() {
        let answer = match &answers {
            Ok(answers) => answers.get(at).copied().ok_or(Failure {
                outcome: Outcome::Unknown,
                is_temporary: true,
            }),
            Err(_) if planted("releases that fail are forgotten") => Ok(Released::WasLost),
            Err(error) => Err(failure(error)),
        };
        were_held &= !ending.was_held || answer == Ok(Released::Done);
        // A release that failed is repeated by itself, in the background.
        ending.shared.feed(Event::Released(*request, answer));
    }
    answers.map(|_| were_held)
}

/// Returns the facts of an error for the state machine.
pub(crate) fn failure(error: &EngineError) -> Failure {
    Failure {
        // A permanent error that states an unknown outcome is believed.
        outcome: error.outcome,
        is_temporary: error.is_temporary,
    }
}

/// Returns the error of an acquisition that ended.
pub(crate) fn error_of(end: End, cause: Option<EngineError>) -> AcquireError {
    let source = || match cause {
        Some(error) => error.source,
        None => "the engine answered after the lease was over".into(),
    };
    match end {
        End::Refused | End::GaveUp => AcquireError::GaveUp,
        End::Unavailable(outcome) => AcquireError::Unavailable {
            outcome,
            source: source(),
        },
        End::Misconfigured => AcquireError::Misconfigured(source()),
        End::Abandoned => AcquireError::Misconfigured("the leases are shut down".into()),
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
