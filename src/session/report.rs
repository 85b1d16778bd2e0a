//! What a session is told when it does not get a key.

use core::fmt;
use core::panic::Location;
use core::time::Duration;
use std::error::Error;
use std::sync::Arc;

use crate::lock_table::{KeyId, OwnerInfo, SessionId, Sessions};
use crate::waits_for::{Cycle, Held, Link, OwnerKind};
use crate::word::Mode;

/// What a session does about a key that is taken. Set by [`Session::policy`](super::Session::policy).
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
    /// Waits, and looks for a deadlock once it has waited for a while.
    #[default]
    Detect,
    /// Waits for younger sessions only: where an older one of this policy wants or holds the key, it gets
    /// [`LockError::Died`] at once; so it does where an older session of any policy holds the key and waits for another one
    /// so long that the table knows of it. So such sessions hardly ever meet in a deadlock; what is left
    /// (an older one that gets the key past a younger one that waits, and sessions of other policies) is found as under
    /// `Detect`.
    ///
    /// Each lock and unlock of such a session takes a mutex of the table, held or not.
    WaitDie,
    /// Never waits.
    NoWait,
    /// Waits for at most this long, and looks for a deadlock meanwhile as under `Detect`.
    ///
    /// The futures of a session have no clock: they give up when they are polled after that time. Have a timer of
    /// your runtime poll them, or drop them.
    Timeout(Duration),
}

/// Why a session did not get a key. It holds what it held before.
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
///     Err(other) => println!("{other}"), // "not to be had in time"
///     Ok(()) => unreachable!(),
/// }
/// # drop(guard);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LockError {
    /// It waited in a circle with other sessions, and was the one to give way. To let them go on, release
    /// what it holds.
    Deadlock(DeadlockReport),
    /// The time of [`Policy::Timeout`] was over.
    TimedOut,
    /// The key is taken, and the session does not wait ([`Policy::NoWait`]).
    WouldBlock,
    /// An older session wants or holds the key ([`Policy::WaitDie`]).
    Died,
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::Deadlock(report) => fmt::Display::fmt(report, f),
            LockError::TimedOut => f.write_str("the key was not to be had in time"),
            LockError::WouldBlock => f.write_str("the key is taken"),
            LockError::Died => f.write_str("an older session wants or holds the key"),
        }
    }
}

impl Error for LockError {}

/// Sessions, and sets of [`lock_all`](crate::LockTable::lock_all), that waited for each other in a cycle. Part of [`LockError::Deadlock`], and returned by
/// [`LockTable::deadlocks`](crate::LockTable::deadlocks).
///
/// It prints as one line for each session. Cheap to clone.
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
///     // Both want to be alone with the key that both read: the second is told at once, and gives up what it holds.
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

/// A session or a set of [`lock_all`](crate::LockTable::lock_all) in a [`DeadlockReport`]: it waits for what the next one
/// holds, and the last for what the first holds.
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
    /// Whether it is a session or a set. The victim is always a session.
    pub kind: OwnerKind,
    /// The number of the session, or of the set: no session of the table has the same one. A set has a number for each of its
    /// waits.
    pub session: SessionId,
    /// What it is [named](super::Session::named).
    pub name: Option<Arc<str>>,
    /// What it holds that the session before it waits for.
    pub holds: DeadlockKey,
    /// What it waits for.
    pub wants: DeadlockKey,
}

/// A key in a [`DeadlockReport`], with the mode in which a session holds or wants it.
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
    /// What [`key_labels`](crate::table::LockTableBuilder::key_labels) calls it.
    pub label: Option<String>,
    /// How it is held or wanted.
    pub mode: Mode,
    /// Where in the program it was locked, or is waited for; with the feature `lock-places` only.
    pub place: Option<&'static Location<'static>>,
}

impl DeadlockReport {
    /// With labels, which user code gives: not while a mutex is held.
    pub(super) fn new(cycle: &Cycle, sessions: &Sessions) -> Self {
        let key = |held: &Held| DeadlockKey {
            key_id: KeyId(held.hash),
            label: sessions.label(KeyId(held.hash)),
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

    /// Returns the sessions and sets, each of which waited for the next, and the last for the first.
    pub fn parties(&self) -> &[DeadlockParty] {
        &self.0.parties
    }

    /// Returns the session that got the error.
    pub fn victim(&self) -> &DeadlockParty {
        &self.0.parties[self.0.victim]
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
struct Named<'a>(&'a DeadlockParty);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let party = self.0;
        OwnerInfo::write(f, party.kind, party.session, party.name.as_deref())
    }
}

/// Where something is done, if that is known.
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
        write!(f, "\n  {} had to give way", Named(self.victim()))
    }
}
