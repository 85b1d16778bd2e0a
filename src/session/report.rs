//! The errors and reports that a session returns when it does not get a key.

use core::fmt;
use core::panic::Location;
use core::time::Duration;
use std::error::Error;
use std::sync::Arc;

use crate::deadlock::{Cycle, Detector, Held, Link, OwnerKind};
use crate::lock_table::{KeyId, OwnerInfo, Seat, SessionId};
use crate::word::Mode;

/// How a session reacts to a key that another owner holds.
/// [`Session::policy`](super::Session::policy) sets it.
///
/// # Examples
/// ```
/// use latchwork::{LockTable, session::{LockError, Policy}};
/// let table: LockTable<str> = LockTable::new();
/// let guard = table.lock("a");
/// let mut session = table.session().policy(Policy::NoWait);
/// assert!(matches!(session.lock("a"), Err(LockError::WouldBlock)));
/// # drop(guard);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Policy {
    /// Waits, and searches for a deadlock once it has waited for a while.
    #[default]
    Detect,
    /// Waits for newer sessions only. If an older session of this policy holds or requests the key,
    /// the session gets [`LockError::Died`] at once. The same applies if an older session of any
    /// policy holds the key and has published a wait for another key.
    ///
    /// So such sessions rarely deadlock. Detection finds the remaining deadlocks as under `Detect`.
    /// They arise if an older session gets the key ahead of a newer one that waits, or with
    /// sessions of other policies.
    ///
    /// Each lock and unlock of such a session locks a mutex of the table, whether the key is free
    /// or not.
    WaitDie,
    /// Never waits: a key that is not free is an error.
    NoWait,
    /// Waits for at most this long, and searches for deadlocks as under `Detect`. A timeout that
    /// overflows [`Instant`](std::time::Instant) waits indefinitely.
    ///
    /// The futures of a session have no clock. A future times out at its first poll after that
    /// time. Have a timer of the runtime poll it, or drop it.
    Timeout(Duration),
}

/// Why a session did not acquire a key. The session holds the same keys as before.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use latchwork::{LockTable, session::{LockError, Policy}};
/// let table: LockTable<str> = LockTable::new();
/// let guard = table.lock("a");
/// let mut session = table.session().policy(Policy::Timeout(Duration::from_millis(2)));
/// match session.lock("a") {
///     Err(LockError::Deadlock(report)) => println!("{report}"),
///     Err(other) => println!("{other}"), // "timed out while waiting for the key: …"
///     Ok(()) => unreachable!(),
/// }
/// # drop(guard);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LockError {
    /// The session waited in a cycle with other sessions and was chosen as the victim. Release its
    /// keys, so that the others can continue, and retry.
    Deadlock(DeadlockReport),
    /// The timeout of [`Policy::Timeout`] expired. Release the keys and retry, or set a longer
    /// timeout.
    TimedOut,
    /// Another owner holds the key, and the session does not wait ([`Policy::NoWait`]).
    WouldBlock,
    /// An older session holds or requests the key ([`Policy::WaitDie`]). Release all keys and retry
    /// with the same session.
    Died,
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::Deadlock(report) => fmt::Display::fmt(report, f),
            LockError::TimedOut => f.write_str(
                "timed out while waiting for the key: release the session's keys and retry, or raise the timeout",
            ),
            LockError::WouldBlock => f.write_str(
                "the key is not free, and `Policy::NoWait` does not wait: retry later",
            ),
            LockError::Died => f.write_str(
                "an older session holds or requests the key (`Policy::WaitDie`): \
                 release all keys and retry with the same session",
            ),
        }
    }
}

impl Error for LockError {}

/// Describes a deadlock: sessions, and sets of [`lock_all`](crate::LockTable::lock_all), that
/// waited for each other in a cycle.
///
/// [`LockError::Deadlock`] contains it, and [`LockTable::deadlocks`](crate::LockTable::deadlocks)
/// returns it. It prints one line for each session or set, and one for the victim.
/// [`to_mermaid`](Self::to_mermaid) and [`to_dot`](Self::to_dot) draw the cycle. A clone copies one
/// reference.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use latchwork::LockTable;
///
/// let table: LockTable<str> = LockTable::new();
/// let mut one = table.session().named("one");
/// let mut two = table.session().named("two");
/// one.lock_shared("a").unwrap();
/// two.lock_shared("a").unwrap();
/// std::thread::scope(|s| {
///     // Both readers upgrade the key: one of them gets the error at once and releases its key.
///     let first = s.spawn(|| {
///         let alone = one.lock("a").is_ok();
///         one.release_all();
///         alone
///     });
///     let second = two.lock("a").is_ok();
///     two.release_all();
///     assert!(first.join().unwrap() || second);
/// });
/// for report in table.deadlocks() {
///     println!("{report}");
/// }
/// ```
#[derive(Clone)]
pub struct DeadlockReport(Arc<Inner>);

struct Inner {
    parties: Vec<DeadlockParty>,
    victim: usize,
}

/// Describes a session or a set of [`lock_all`](crate::LockTable::lock_all) in a
/// [`DeadlockReport`].
///
/// It waits for the key that the next party holds, and the last party waits for the key that the
/// first one holds.
///
/// # Examples
/// ```
/// let table: latchwork::LockTable<str> = latchwork::LockTable::new();
/// for report in table.deadlocks() {
///     for party in report.parties() {
///         println!("{}: holds {}, wants {}", party.session, party.holds, party.wants);
///     }
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeadlockParty {
    /// Whether the party is a session or a set. The victim is always a session.
    pub kind: OwnerKind,
    /// The number of the session or of the set, unique among the sessions of the table. A set has a
    /// new number for each of its waits.
    pub session: SessionId,
    /// The [name](super::Session::named) of the session, if it has one.
    pub name: Option<Arc<str>>,
    /// The key that this party holds and the previous party waits for.
    pub holds: DeadlockKey,
    /// The key that this party waits for.
    pub wants: DeadlockKey,
}

/// Describes a key in a [`DeadlockReport`], with the mode in which a session holds or requests it.
///
/// # Examples
/// ```
/// fn where_to_look(key: &latchwork::session::DeadlockKey) -> String {
///     match key.place {
///         Some(place) => format!("{key} at {place}"), // with the feature `lock-places`
///         None => key.to_string(),
///     }
/// }
/// # let _ = where_to_look;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadlockKey {
    /// The identity of the key.
    pub key_id: KeyId,
    /// The label that [`key_labels`](crate::table::LockTableBuilder::key_labels) returns for the
    /// key.
    pub label: Option<String>,
    /// The mode in which the key is held or requested.
    pub mode: Mode,
    /// The call that locked the key, or that waits for it, if the feature `lock-places` is enabled.
    pub place: Option<&'static Location<'static>>,
}

impl DeadlockReport {
    /// Calls user code for the labels, so that no mutex may be held.
    pub(super) fn new(cycle: &Cycle, detector: &Detector<Seat>) -> Self {
        let key = |held: &Held| DeadlockKey {
            key_id: KeyId(held.hash),
            label: detector.label(held.hash),
            mode: held.mode,
            place: held.at.place(),
        };
        let party = |link: &Link| DeadlockParty {
            kind: link.owner.kind,
            session: SessionId(link.owner.number()),
            name: link.owner.name.clone(),
            holds: key(&link.holds),
            wants: key(&link.wants),
        };
        DeadlockReport(Arc::new(Inner {
            parties: cycle.links.iter().map(party).collect(),
            victim: cycle.victim,
        }))
    }

    /// Returns the sessions and sets of the cycle. Each waits for the next one, and the last for
    /// the first.
    pub fn parties(&self) -> &[DeadlockParty] {
        &self.0.parties
    }

    /// Returns the session that was chosen as the victim and got the error.
    pub fn victim(&self) -> &DeadlockParty {
        &self.0.parties[self.0.victim]
    }

    pub(super) fn victim_index(&self) -> usize {
        self.0.victim
    }
}

impl fmt::Debug for DeadlockReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadlockReport")
            .field("parties", &self.0.parties)
            .field("victim", &self.0.victim)
            .finish()
    }
}

impl fmt::Display for DeadlockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.label {
            Some(label) => f.write_str(label),
            None => write!(f, "key {}", self.key_id),
        }
    }
}

/// A session or a set, by its name if it has one.
pub(super) struct Named<'a>(pub(super) &'a DeadlockParty);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let party = self.0;
        OwnerInfo::write(f, party.kind, party.session, party.name.as_deref())
    }
}

/// The place of an operation, if it is known.
struct Place<'a>(&'a DeadlockKey);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.place {
            Some(place) => write!(f, " [{place}]"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for DeadlockReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let adverb = |mode| match mode {
            Mode::Exclusive => "exclusively",
            Mode::Shared => "shared",
        };
        let parties = self.parties();
        let is_set = |party: &&DeadlockParty| party.kind != OwnerKind::Session;
        let sets = parties.iter().filter(is_set).count();
        match (parties.len() - sets, sets) {
            (sessions, 0) => write!(f, "deadlock of {sessions} sessions:")?,
            (sessions, sets) => write!(
                f,
                "deadlock of {sessions} session{} and {sets} set{}:",
                if sessions == 1 { "" } else { "s" },
                if sets == 1 { "" } else { "s" },
            )?,
        }
        let next = parties.iter().cycle().skip(1);
        for (party, next) in parties.iter().zip(next) {
            write!(
                f,
                "\n  {} waits for {} {}{}, which {} holds {}{}",
                Named(party),
                party.wants,
                adverb(party.wants.mode),
                Place(&party.wants),
                Named(next),
                adverb(next.holds.mode),
                Place(&next.holds),
            )?;
        }
        write!(
            f,
            "\n  {} was chosen as the victim: release its keys and retry",
            Named(self.victim())
        )
    }
}
