//! What decides about one acquisition: a state machine without I/O and without a clock.
//!
//! A driver delivers each [`Event`] together with the present time, and performs the [`Action`]s in
//! their order. States, timing and rules are in `PROTOCOL.md`; the code cites them as [LE1].
//!
//! The machine never assumes that a request had no effect because no answer arrived. It counts the
//! requests whose outcome is unknown, and releases until none of them can matter.

use core::fmt;
use std::time::Duration;

use latchwork::table::FencingToken;

use crate::clock::Timestamp;
use crate::engine::{Attempt, Outcome, Released, Renewed};
use crate::lease::LossReason;

/// The time between two releases of which the first was not confirmed.
const RELEASE_AGAIN: Duration = Duration::from_millis(100);

/// The greatest time between two releases.
const RELEASE_AGAIN_AT_MOST: Duration = Duration::from_secs(1);

/// The time before an engine that failed is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// The time before a busy engine is asked again if the end of the lease is not known.
const POLL: Duration = Duration::from_secs(1);

/// The least time between two requests for a busy key, if nothing hints that it is free.
const LEAST_POLL: Duration = Duration::from_millis(5);

/// The renewals whose answers are still accepted.
const RENEWALS_IN_FLIGHT: usize = 4;

/// The conditions of one acquisition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// The length of the lease.
    pub(crate) ttl: Duration,
    /// The part of the lease at its end that is not used.
    pub(crate) drift: Duration,
    /// The time from a request that extended the lease until the next renewal.
    pub(crate) renew_after: Duration,
    /// How much earlier the renewal may be made together with others.
    pub(crate) renew_ahead: Duration,
    /// The time limit of one request.
    pub(crate) request_timeout: Duration,
    /// Whether a busy key or a failed request ends the acquisition.
    pub(crate) once: bool,
    /// Whether the engine may keep a refused request in a queue.
    pub(crate) queues: bool,
    /// The time limit of the caller.
    pub(crate) give_up_at: Option<Timestamp>,
}

/// The number of a request of one acquisition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestId(u32);

/// What happened.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// Time passed. Renewals within the next `ahead` are made now, so that one request can
    /// renew many leases.
    Tick { ahead: Duration },
    /// The engine answered [`Action::Ask`].
    Asked(RequestId, Result<Attempt, Failure>),
    /// The engine answered [`Action::Renew`].
    Renewed(RequestId, Result<Renewed, Failure>),
    /// The engine answered [`Action::Release`].
    Released(RequestId, Result<Released, Failure>),
    /// The key may be free.
    Hint,
    /// The caller does not need the lease any more: it released it, or dropped its future.
    Abandon(LossReason),
}

/// A request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) outcome: Outcome,
    pub(crate) is_temporary: bool,
}

/// A duty of the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Ask for the lease.
    Ask(RequestId, Timestamp),
    /// Renew the lease under this token.
    Renew(RequestId, Timestamp, FencingToken),
    /// Release by nonce.
    Release(RequestId, Timestamp),
    /// The caller has the lease.
    Granted(FencingToken),
    /// The caller receives no lease.
    Ended(End),
    /// The caller had the lease, and has it no more.
    Lost(LossReason),
    /// The engine confirmed a release for the first time.
    Confirmed(Released),
    /// A release failed, and will be repeated.
    Unconfirmed,
    /// Nothing remains at the engine, and no further event matters.
    Over,
}

/// Why the caller receives no lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The key is busy, and the caller does not wait.
    Refused,
    /// The caller's time limit has passed.
    GaveUp,
    /// The engine cannot be reached. The last failure is the cause.
    Unavailable(Outcome),
    /// The last failure is permanent.
    Misconfigured,
    /// The caller abandoned the acquisition.
    Abandoned,
}

/// A request whose effect is not known.
#[derive(Clone, Copy, Debug)]
struct Flight {
    request: RequestId,
    sent: Timestamp,
    deadline: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// A request is in flight.
    Asked,
    /// The key was busy, or the engine failed.
    Waiting { until: Timestamp, failed: bool },
    /// The caller has the lease.
    Held {
        token: FencingToken,
        renew_at: Timestamp,
    },
    /// The caller has no lease, and the engine may have one.
    Cleanup {
        release_at: Timestamp,
        pause: Duration,
    },
    /// Nothing remains.
    Over,
}

/// The state of one acquisition.
pub(crate) struct Acquisition {
    terms: Terms,
    phase: Phase,
    /// The lease is valid until then, by this process's clock. Zero if it was never granted.
    valid_until: Timestamp,
    requests: u32,
    /// Asks of which no answer states the effect.
    asks: Vec<Flight>,
    /// The ask that the driver performs now.
    asking: Option<RequestId>,
    renewals: Vec<Flight>,
    /// The renewal that must be answered before another one is made.
    renewing: Option<(RequestId, Timestamp)>,
    releasing: Option<(RequestId, Timestamp)>,
    /// By then the engine has no lease of this acquisition, unless it received another request.
    over_at: Timestamp,
    /// Whether the engine has, apart from `asks`, a lease or a place in its queue to release.
    dirty: bool,
    /// Whether the driver was notified of a confirmed release.
    confirmed: bool,
    failing_since: Option<Timestamp>,
    failures: u32,
}

impl Acquisition {
    pub(crate) fn new(terms: Terms) -> Self {
        Acquisition {
            terms,
            phase: Phase::Waiting {
                until: Timestamp::default(),
                failed: false,
            },
            valid_until: Timestamp::default(),
            requests: 0,
            asks: Vec::new(),
            asking: None,
            renewals: Vec::new(),
            renewing: None,
            releasing: None,
            over_at: Timestamp::default(),
            dirty: false,
            confirmed: false,
            failing_since: None,
            failures: 0,
        }
    }

    /// The end of the lease for the caller, minus drift. It does not decrease while held.
    pub(crate) fn valid_until(&self) -> Timestamp {
        self.valid_until
    }

    /// Whether the caller has the lease at this time.
    #[cfg(test)]
    pub(crate) fn is_held(&self, now: Timestamp) -> bool {
        matches!(self.phase, Phase::Held { .. }) && now < self.valid_until
    }

    /// The number of renewals in sequence that were not answered, or in flight.
    pub(crate) fn unanswered(&self) -> usize {
        let is_newer = |flight: &&Flight| flight.sent.plus(self.usable()) > self.valid_until;
        self.renewals.iter().filter(is_newer).count()
    }

    /// Whether an ask may still have an effect.
    pub(crate) fn has_unknown_ask(&self) -> bool {
        !self.asks.is_empty()
    }

    /// Whether the caller has received the lease.
    pub(crate) fn was_granted(&self) -> bool {
        self.valid_until > Timestamp::default()
    }

    /// Whether ticks must be delivered even if no driver performs asks.
    pub(crate) fn needs_ticks(&self) -> bool {
        matches!(self.phase, Phase::Held { .. } | Phase::Cleanup { .. })
    }

    pub(crate) fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// If the machine waits for a free key: until when.
    pub(crate) fn waits_until(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Waiting { until, .. } => {
                Some(until.min(self.terms.give_up_at.unwrap_or(Timestamp::MAX)))
            }
            _ => None,
        }
    }

    /// Whether the machine waits because the engine failed, so that a hint cannot help.
    pub(crate) fn waits_after_failure(&self) -> bool {
        matches!(self.phase, Phase::Waiting { failed: true, .. })
    }

    /// The time of the next tick.
    pub(crate) fn wake_at(&self) -> Timestamp {
        match self.phase {
            Phase::Asked => self.asks.last().map_or(Timestamp::MAX, |ask| ask.deadline),
            Phase::Waiting { .. } => self.waits_until().unwrap_or(Timestamp::MAX),
            Phase::Held { renew_at, .. } => {
                let renewal = self.renewing.map_or(renew_at, |(_, deadline)| deadline);
                renewal.min(self.valid_until)
            }
            Phase::Cleanup { release_at, .. } => {
                let release = self.releasing.map_or(release_at, |(_, deadline)| deadline);
                release.min(self.over_at)
            }
            Phase::Over => Timestamp::MAX,
        }
    }

    /// Handles an event, and appends the duties of the driver.
    pub(crate) fn on(&mut self, now: Timestamp, event: Event, out: &mut Vec<Action>) {
        // A lease that has ended is lost, whatever else happened since [LE4].
        self.expire(now, out);
        match event {
            Event::Tick { ahead } => self.tick(now, ahead, out),
            Event::Asked(request, answer) => self.asked(now, request, answer, out),
            Event::Renewed(request, answer) => self.renewed(now, request, answer, out),
            Event::Released(request, answer) => self.released(now, request, answer, out),
            Event::Hint => {
                if let Phase::Waiting { failed: false, .. } = self.phase {
                    self.ask_or_give_up(now, out);
                }
            }
            Event::Abandon(reason) => match self.phase {
                Phase::Held { .. } => self.lose(now, reason, out),
                Phase::Asked | Phase::Waiting { .. } => self.end(now, End::Abandoned, out),
                Phase::Cleanup { .. } | Phase::Over => {}
            },
        }
    }

    fn expire(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        if matches!(self.phase, Phase::Held { .. }) && now >= self.valid_until {
            if planted(Plant::AnswerIsAwaited) && !self.renewals.is_empty() {
                return;
            }
            self.lose(now, LossReason::Expired, out);
        }
    }

    fn tick(&mut self, now: Timestamp, ahead: Duration, out: &mut Vec<Action>) {
        match self.phase {
            Phase::Asked => {
                // No answer arrived in time, so the outcome is unknown [LE3].
                if let (Some(request), true) = (self.asking, now >= self.wake_at()) {
                    let failure = Failure {
                        outcome: Outcome::Unknown,
                        is_temporary: true,
                    };
                    self.asked(now, request, Err(failure), out);
                }
            }
            Phase::Waiting { until, .. } => {
                if now >= until || self.has_to_give_up(now) {
                    self.ask_or_give_up(now, out);
                }
            }
            Phase::Held { token, renew_at } => {
                if self.renewing.is_some_and(|(_, deadline)| now >= deadline) {
                    // The answer is overdue; another request is made beside it.
                    self.renewing = None;
                }
                if self.renewing.is_none()
                    && now.plus(ahead.min(self.terms.renew_ahead)) >= renew_at
                {
                    self.renew(now, token, out);
                }
            }
            Phase::Cleanup { release_at, .. } => {
                if now >= self.over_at {
                    self.over(out);
                    return;
                }
                if self.releasing.is_some_and(|(_, deadline)| now >= deadline) {
                    self.releasing = None;
                }
                if self.releasing.is_none() && now >= release_at {
                    self.release(now, out);
                }
            }
            Phase::Over => {}
        }
    }

    // Asking

    fn has_to_give_up(&self, now: Timestamp) -> bool {
        self.requests > 0 && self.terms.give_up_at.is_some_and(|at| now >= at)
    }

    fn ask_or_give_up(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        if self.has_to_give_up(now) {
            let end = match self.phase {
                Phase::Waiting { failed: true, .. } => End::Unavailable(self.outcome()),
                _ => End::GaveUp,
            };
            self.end(now, end, out);
            return;
        }
        // An answer that takes longer than the lease is of no use.
        let limit = self.terms.request_timeout.min(self.usable());
        let flight = self.next_flight(now, limit);
        self.asks.push(flight);
        self.asking = Some(flight.request);
        self.phase = Phase::Asked;
        self.dirty |= self.terms.queues;
        out.push(Action::Ask(flight.request, flight.deadline));
    }

    /// The part of the lease that is used.
    fn usable(&self) -> Duration {
        if planted(Plant::NoDrift) {
            return self.terms.ttl;
        }
        self.terms.ttl.saturating_sub(self.terms.drift)
    }

    fn next_flight(&mut self, now: Timestamp, limit: Duration) -> Flight {
        self.requests += 1;
        let deadline = now.plus(limit);
        // The request has its effect by its deadline, if ever, and the effect lasts `ttl` [LE5].
        let mut over_at = deadline.plus(self.terms.ttl).plus(self.terms.drift);
        if planted(Plant::OverTooEarly) {
            over_at = deadline;
        }
        self.over_at = self.over_at.max(over_at);
        Flight {
            request: RequestId(self.requests),
            sent: now,
            deadline,
        }
    }

    fn asked(
        &mut self,
        now: Timestamp,
        request: RequestId,
        answer: Result<Attempt, Failure>,
        out: &mut Vec<Action>,
    ) {
        // A second answer to one request states nothing new [LE2].
        let Some(at) = self.asks.iter().position(|ask| ask.request == request) else {
            return;
        };
        let flight = self.asks[at];
        let is_last = self.asking == Some(request);
        if is_last {
            self.asking = None;
        }
        let has_effect_unknown = matches!(
            answer,
            Err(Failure {
                outcome: Outcome::Unknown,
                ..
            })
        );
        if !has_effect_unknown || planted(Plant::UnknownIsNotDone) {
            self.asks.remove(at);
        }
        match (self.phase, answer) {
            (Phase::Asked | Phase::Waiting { .. }, Ok(Attempt::Granted(token))) => {
                self.granted(now, flight, token, out);
            }
            (Phase::Held { token, .. }, Ok(Attempt::Granted(again))) if token == again => {
                self.extend(now, flight);
            }
            (Phase::Cleanup { pause, .. }, Ok(Attempt::Granted(_))) => {
                // The lease arrived after its caller had left. A release that was sent before may
                // have preceded it.
                self.dirty = true;
                self.phase = Phase::Cleanup {
                    release_at: now,
                    pause,
                };
                self.release(now, out);
            }
            (Phase::Asked, Ok(Attempt::Busy { free_in })) if is_last => {
                self.failing_since = None;
                self.failures = 0;
                if self.terms.once {
                    self.end(now, End::Refused, out);
                } else if self.has_to_give_up(now) {
                    self.end(now, End::GaveUp, out);
                } else {
                    let pause = free_in.unwrap_or(POLL).clamp(LEAST_POLL, POLL);
                    self.phase = Phase::Waiting {
                        until: now.plus(pause),
                        failed: false,
                    };
                }
            }
            (Phase::Asked, Err(failure)) if is_last => self.failed(now, flight, failure, out),
            (Phase::Cleanup { .. }, _) if self.is_clean() => self.over(out),
            _ => {}
        }
    }

    fn granted(
        &mut self,
        now: Timestamp,
        flight: Flight,
        token: FencingToken,
        out: &mut Vec<Action>,
    ) {
        // The lease starts before the request is sent [LE1].
        let start = if planted(Plant::StartsAtAnswer) {
            now
        } else {
            flight.sent
        };
        let until = start.plus(self.usable());
        if now >= until {
            // The answer is older than the lease. The same nonce can be asked for again.
            self.dirty = true;
            let failure = Failure {
                outcome: Outcome::NotDone,
                is_temporary: true,
            };
            self.failed(now, flight, failure, out);
            return;
        }
        self.asking = None;
        self.valid_until = until;
        self.phase = Phase::Held {
            token,
            renew_at: start.plus(self.terms.renew_after),
        };
        out.push(Action::Granted(token));
    }

    fn failed(&mut self, now: Timestamp, flight: Flight, failure: Failure, out: &mut Vec<Action>) {
        let since = *self.failing_since.get_or_insert(flight.sent);
        self.failures += 1;
        if !failure.is_temporary {
            self.end(now, End::Misconfigured, out);
        } else if self.terms.once
            || now.since(since) >= self.terms.request_timeout
            || self.has_to_give_up(now)
        {
            self.end(now, End::Unavailable(self.outcome()), out);
        } else {
            let pause = ASK_AGAIN * self.failures.min(10);
            self.phase = Phase::Waiting {
                until: now.plus(pause),
                failed: true,
            };
        }
    }

    /// The outcome of all asks together.
    fn outcome(&self) -> Outcome {
        if self.asks.is_empty() {
            Outcome::NotDone
        } else {
            Outcome::Unknown
        }
    }

    /// Whether the engine has nothing of this acquisition, and will have nothing.
    fn is_clean(&self) -> bool {
        !self.dirty && (self.asks.is_empty() || planted(Plant::OneReleaseIsEnough))
    }

    fn end(&mut self, now: Timestamp, end: End, out: &mut Vec<Action>) {
        out.push(Action::Ended(end));
        self.clean_up(now, out);
    }

    // Holding

    fn extend(&mut self, now: Timestamp, flight: Flight) {
        // The lease starts before the request is sent [LE1].
        let start = if planted(Plant::ExtendsFromAnswer) {
            now
        } else {
            flight.sent
        };
        let until = start.plus(self.usable());
        if until > self.valid_until {
            self.valid_until = until;
            if let Phase::Held { renew_at, .. } = &mut self.phase {
                *renew_at = flight.sent.plus(self.terms.renew_after);
            }
        }
    }

    fn renew(&mut self, now: Timestamp, token: FencingToken, out: &mut Vec<Action>) {
        // Half of the remaining time, so that a request that hangs leaves time for another [LE7].
        let left = self.valid_until.since(now);
        let limit = (left / 2).min(self.terms.request_timeout);
        let flight = self.next_flight(now, limit);
        if self.renewals.len() == RENEWALS_IN_FLIGHT {
            self.renewals.remove(0);
        }
        self.renewals.push(flight);
        self.renewing = Some((flight.request, flight.deadline));
        out.push(Action::Renew(flight.request, flight.deadline, token));
    }

    fn renewed(
        &mut self,
        now: Timestamp,
        request: RequestId,
        answer: Result<Renewed, Failure>,
        out: &mut Vec<Action>,
    ) {
        let is_last = self.renewing.is_some_and(|(last, _)| last == request);
        if is_last {
            self.renewing = None;
        }
        let answer = match answer {
            Ok(Renewed::Unknown) => Err(Failure {
                outcome: Outcome::Unknown,
                is_temporary: true,
            }),
            answer => answer,
        };
        if answer == Ok(Renewed::Lost) {
            // The loss is final, so it counts even if the request has timed out [LE4].
            if matches!(self.phase, Phase::Held { .. }) && !planted(Plant::LossIsIgnored) {
                self.lose(now, LossReason::TakenAway, out);
            }
            return;
        }
        let Some(at) = self.renewals.iter().position(|r| r.request == request) else {
            return;
        };
        let flight = self.renewals[at];
        if answer.is_ok() {
            self.renewals.remove(at);
        }
        let Phase::Held { token, renew_at } = self.phase else {
            if planted(Plant::RenewalResurrects) && answer == Ok(Renewed::Held) {
                self.valid_until = flight.sent.plus(self.usable());
                self.phase = Phase::Held {
                    token: FencingToken::new(0),
                    renew_at: self.valid_until,
                };
            }
            return;
        };
        match answer {
            Ok(Renewed::Held) => self.extend(now, flight),
            Ok(Renewed::Lost | Renewed::Unknown) => unreachable!("handled above"),
            Err(_) if is_last => {
                let pause = (self.terms.ttl / 20).clamp(LEAST_POLL, ASK_AGAIN * 10);
                let renew_at = renew_at.max(now.plus(pause));
                self.phase = Phase::Held { token, renew_at };
            }
            Err(_) => {}
        }
    }

    fn lose(&mut self, now: Timestamp, reason: LossReason, out: &mut Vec<Action>) {
        self.renewing = None;
        self.dirty = true;
        out.push(Action::Lost(reason));
        self.clean_up(now, out);
    }

    // Releasing

    fn clean_up(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        self.asking = None;
        if self.is_clean() {
            self.over(out);
            return;
        }
        self.phase = Phase::Cleanup {
            release_at: now,
            pause: RELEASE_AGAIN,
        };
        self.release(now, out);
    }

    fn release(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        // A release has no effect that lasts, so `over_at` stays.
        self.requests += 1;
        let request = RequestId(self.requests);
        let deadline = now.plus(self.terms.request_timeout);
        self.releasing = Some((request, deadline));
        out.push(Action::Release(request, deadline));
    }

    fn released(
        &mut self,
        now: Timestamp,
        request: RequestId,
        answer: Result<Released, Failure>,
        out: &mut Vec<Action>,
    ) {
        let (Phase::Cleanup { pause, .. }, Some((last, _))) = (self.phase, self.releasing) else {
            return;
        };
        // An answer to an earlier release precedes a grant that arrived since.
        if last != request {
            return;
        }
        self.releasing = None;
        match answer {
            Ok(released) => {
                self.dirty = false;
                if !self.confirmed {
                    self.confirmed = true;
                    out.push(Action::Confirmed(released));
                }
                // An ask without an answer may still be granted, so a release does not end it
                // [LE5].
                if self.is_clean() {
                    self.over(out);
                    return;
                }
            }
            Err(_) => out.push(Action::Unconfirmed),
        }
        self.phase = Phase::Cleanup {
            release_at: now.plus(pause),
            pause: (pause * 2).min(RELEASE_AGAIN_AT_MOST),
        };
        if now >= self.over_at {
            self.over(out);
        }
    }

    fn over(&mut self, out: &mut Vec<Action>) {
        self.phase = Phase::Over;
        self.releasing = None;
        out.push(Action::Over);
    }
}

impl fmt::Debug for Acquisition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquisition")
            .field("phase", &self.phase)
            .field("valid_until", &self.valid_until)
            .field("unknown", &self.asks.len())
            .finish_non_exhaustive()
    }
}

/// A fault that tests plant into the machine, to prove that they would detect it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plant {
    StartsAtAnswer,
    UnknownIsNotDone,
    OneReleaseIsEnough,
    RenewalResurrects,
    LossIsIgnored,
    ExtendsFromAnswer,
    NoDrift,
    OverTooEarly,
    AnswerIsAwaited,
}

#[cfg(not(test))]
const fn planted(_: Plant) -> bool {
    false
}

#[cfg(test)]
fn planted(plant: Plant) -> bool {
    tests::PLANT.get() == Some(plant)
}

#[cfg(test)]
mod tests;
