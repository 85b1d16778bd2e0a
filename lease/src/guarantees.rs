//! What an engine guarantees, as data: [`Guarantees`].

use std::time::Duration;

/// What an engine guarantees, printed in the documentation and checked by the conformance suite.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Guarantees {
    /// When two holders of one name are excluded.
    pub exclusive: Exclusive,
    /// When the tokens of a name grow in the order of the holders in real time.
    pub token_order: TokenOrder,
    /// Whether waiters of different processes are served in the order of their requests.
    pub fair: bool,
    /// The failures that the engine survives, for people.
    pub tolerates: &'static str,
    /// The least length of a lease.
    pub least_lease: Duration,
    /// The time after which a waiter in another process usually sees a release.
    pub hand_over: Duration,
    /// The time by which a lease may end before its length. Its holder does not use this time.
    pub ends_early: Duration,
    /// Whether one request renews any number of leases of one length.
    ///
    /// Leases are then renewed up to a fifth of their length earlier, in few requests.
    pub renews_together: bool,
}

/// When two holders of one name are excluded.
///
/// No engine excludes a holder that is paused beyond its lease: only a fence does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exclusive {
    /// Always: leases do not expire while their process lives.
    Always,
    /// Unless a holder is paused for longer than its lease between a check and its effect.
    UnlessPaused,
    /// Unless a holder is paused, or the clock of a node jumps.
    UnlessPausedOrClocksJump,
}

/// When the tokens of a name grow in the order of the holders in real time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenOrder {
    /// Always.
    Always,
    /// Unless the engine loses committed data. `Leases::raise_floor` repairs the order.
    UnlessDataIsLost,
}

impl Guarantees {
    /// Makes the guarantees of an engine; engines outside this crate need it.
    pub const fn new(exclusive: Exclusive, token_order: TokenOrder) -> Self {
        Guarantees {
            exclusive,
            token_order,
            fair: false,
            tolerates: "",
            least_lease: Duration::from_millis(100),
            hand_over: Duration::from_millis(50),
            ends_early: Duration::ZERO,
            renews_together: false,
        }
    }
}
