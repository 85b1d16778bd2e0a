//! The state machine of an acquisition, for a driver with a clock and a network of its own.
//!
//! It is no public interface: the simulation of this repository uses it, so that it simulates the
//! machine that programs run. All times are those of the driver's clock.

use core::fmt;
use std::time::Duration;

pub use latchwork::table::FencingToken;

use crate::acquisition::{Acquisition, Action, Event, Failure, RequestId};
use crate::clock::Timestamp;
use crate::engine::{Attempt, Outcome, Released, Renewed};
use crate::guarantees::{Exclusive, Guarantees, TokenOrder};
use crate::lease::LossReason;
use crate::runtime::Config;

/// The number of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id(RequestId);

/// What happened.
#[derive(Clone, Copy, Debug)]
pub enum Input {
    /// Time passed.
    Tick,
    /// The answer to an ask, or that it failed temporarily.
    Asked(Id, Result<Attempt, Outcome>),
    /// The answer to a renewal.
    Renewed(Id, Result<Renewed, Outcome>),
    /// The answer to a release.
    Released(Id, Result<Released, Outcome>),
    /// The key may be free.
    Hint,
    /// The caller releases the lease.
    Abandon,
}

/// A duty of the driver, with the deadline of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Ask for the lease.
    Ask(Id, Duration),
    /// Renew the lease.
    Renew(Id, Duration, FencingToken),
    /// Release by nonce.
    Release(Id, Duration),
    /// The caller has the lease.
    Granted(FencingToken),
    /// The caller receives no lease.
    Ended,
    /// The caller had the lease, and has it no more.
    Lost(LossReason),
    /// The engine confirmed a release.
    Confirmed,
    /// Nothing remains at the engine, and no further event matters.
    Over,
}

/// One acquisition with the default options.
pub struct Machine {
    acquisition: Acquisition,
    actions: Vec<Action>,
}

impl Machine {
    /// Makes an acquisition of a lease of this length.
    pub fn new(ttl: Duration, queues: bool) -> Self {
        let mut guarantees = Guarantees::new(Exclusive::UnlessPaused, TokenOrder::Always);
        guarantees.fair = queues;
        let terms = Config::default().terms(ttl, false, &guarantees, None);
        Machine {
            acquisition: Acquisition::new(terms),
            actions: Vec::new(),
        }
    }

    /// Handles an event at the time `now`, and appends the duties of the driver.
    pub fn on(&mut self, now: Duration, input: Input, out: &mut Vec<Output>) {
        let failure = |outcome| Failure {
            outcome,
            is_temporary: true,
        };
        let event = match input {
            Input::Tick => Event::Tick {
                ahead: Duration::ZERO,
            },
            Input::Asked(Id(id), answer) => Event::Asked(id, answer.map_err(failure)),
            Input::Renewed(Id(id), answer) => Event::Renewed(id, answer.map_err(failure)),
            Input::Released(Id(id), answer) => Event::Released(id, answer.map_err(failure)),
            Input::Hint => Event::Hint,
            Input::Abandon => Event::Abandon(LossReason::Released),
        };
        let now = Timestamp::default().plus(now);
        self.acquisition.on(now, event, &mut self.actions);
        out.extend(self.actions.drain(..).filter_map(|action| {
            Some(match action {
                Action::Ask(id, deadline) => Output::Ask(Id(id), elapsed(deadline)),
                Action::Renew(id, deadline, token) => {
                    Output::Renew(Id(id), elapsed(deadline), token)
                }
                Action::Release(id, deadline) => Output::Release(Id(id), elapsed(deadline)),
                Action::Granted(token) => Output::Granted(token),
                Action::Ended(_) => Output::Ended,
                Action::Lost(reason) => Output::Lost(reason),
                Action::Confirmed(_) => Output::Confirmed,
                Action::Over => Output::Over,
                Action::Unconfirmed => return None,
            })
        }));
    }

    /// The time of the next tick.
    pub fn wake_at(&self) -> Duration {
        elapsed(self.acquisition.wake_at())
    }

    /// Whether a hint that the key is free makes the machine ask.
    pub fn waits(&self) -> bool {
        self.acquisition.waits_until().is_some() && !self.acquisition.waits_after_failure()
    }

    /// The end of the lease for the caller.
    pub fn valid_until(&self) -> Duration {
        elapsed(self.acquisition.valid_until())
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.acquisition, f)
    }
}

fn elapsed(at: Timestamp) -> Duration {
    at.since(Timestamp::default())
}
