//! One report, as plain data in the form of its JSON. The chapter of the guide describes the
//! fields.

use core::ops::Deref;
use core::time::Duration;
use std::sync::Arc;

use serde::Serialize;

use crate::LockTable;
use crate::lock_table::{LockInfo, Names, OwnerInfo, Survey, WaiterInfo};
use crate::session::{DeadlockKey, DeadlockParty, DeadlockReport};
use crate::txn::{AbortReasons, LabelStats};
use crate::waits_for::OwnerKind;
use crate::word::Mode;

/// The version of the format. It grows if a field is removed or changes its meaning.
pub(super) const FORMAT: u32 = 1;
/// The number of keys that a report names in each of its lists of keys.
pub(super) const KEYS: usize = 64;
/// The number of waiters that a report describes for each key.
const WAITERS: usize = 64;

#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) format: u32,
    pub(super) process: u32,
    /// Whether labels of keys and names of sessions are included.
    pub(super) names: bool,
    pub(super) tables: Vec<Table>,
    pub(super) transactions: Transactions,
    pub(super) memory: Memory,
}

#[derive(Debug, Serialize)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) locked: usize,
    pub(super) contended: usize,
    pub(super) waits: u64,
    pub(super) inflations: u64,
    pub(super) longest_wait_ns: u64,
    pub(super) waiting: usize,
    pub(super) waiting_sessions: usize,
    pub(super) waiting_sets: usize,
    pub(super) oldest_waiter_ns: u64,
    pub(super) index_bytes: usize,
    pub(super) token_bytes: usize,
    pub(super) monitors: usize,
    pub(super) deadlocks: u64,
    pub(super) keys: Vec<Key>,
    pub(super) busiest: Vec<Busiest>,
    pub(super) recent_deadlocks: Vec<Deadlock>,
}

/// A key with waiters.
#[derive(Debug, Serialize)]
pub(super) struct Key {
    pub(super) id: String,
    pub(super) label: Option<String>,
    pub(super) mode: Option<&'static str>,
    pub(super) holders: u64,
    pub(super) known_holders: Vec<Owner>,
    pub(super) held_ns: u64,
    pub(super) waiting: usize,
    pub(super) waiters: Vec<Waiter>,
}

#[derive(Debug, Serialize)]
pub(super) struct Owner {
    kind: &'static str,
    id: u64,
    name: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Waiter {
    mode: &'static str,
    waited_ns: u64,
    owner: Option<Owner>,
    upgrades: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct Busiest {
    id: String,
    label: Option<String>,
    waits: u64,
    inherited_waits: u64,
    waited_ns: u64,
    releases: u64,
    held_ns: u64,
    longest_hold_ns: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Deadlock {
    victim: usize,
    parties: Vec<Party>,
}

#[derive(Debug, Serialize)]
struct Party {
    owner: Owner,
    holds: Held,
    wants: Held,
}

#[derive(Debug, Serialize)]
struct Held {
    id: String,
    label: Option<String>,
    mode: &'static str,
    place: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Transactions {
    pub(super) aborts: Aborts,
    pub(super) labels: Vec<Label>,
}

#[derive(Debug, Serialize)]
pub(super) struct Aborts {
    pub(super) read_conflicts: u64,
    pub(super) write_conflicts: u64,
    pub(super) overtaken: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Label {
    pub(super) label: &'static str,
    pub(super) commits: u64,
    pub(super) contended: u64,
    pub(super) timed_out: u64,
    pub(super) aborted: u64,
    pub(super) retries_without_reads: u64,
    pub(super) panicked: u64,
    pub(super) cancelled: u64,
    pub(super) aborts: Aborts,
}

#[derive(Debug, Serialize)]
pub(super) struct Memory {
    pub(super) garbage: usize,
    pub(super) garbage_bytes: usize,
    pub(super) oldest_pin_ns: Option<u64>,
}

/// Reads the state of the tables, and of the transactions and values of the process.
pub(super) fn collect(tables: &Tables, names: Names) -> Report {
    let stats = crate::stats();
    let tables = tables.iter();
    Report {
        format: FORMAT,
        process: std::process::id(),
        names: names == Names::Shown,
        tables: tables.map(|(name, of)| table(name, &**of, names)).collect(),
        transactions: Transactions {
            aborts: aborts(stats.aborts),
            labels: stats.labels.iter().map(label).collect(),
        },
        memory: Memory {
            garbage: stats.garbage,
            garbage_bytes: stats.garbage_bytes,
            oldest_pin_ns: stats.oldest_pin.map(nanos),
        },
    }
}

/// Tables with their names.
pub(super) type Tables = Vec<(String, Arc<dyn Source>)>;

/// A table of any keys.
pub(super) trait Source: Send + Sync {
    fn survey(&self, names: Names) -> Survey;
    fn deadlocks(&self) -> Vec<DeadlockReport>;
}

pub(super) struct Of<T>(pub(super) T);

impl<T, K, S> Source for Of<T>
where
    T: Deref<Target = LockTable<K, S>> + Send + Sync,
    K: ?Sized,
{
    fn survey(&self, names: Names) -> Survey {
        self.0.survey(KEYS, names)
    }

    fn deadlocks(&self) -> Vec<DeadlockReport> {
        self.0.deadlocks()
    }
}

impl Report {
    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).expect("the fields are numbers, texts and lists")
    }
}

fn table(name: &str, source: &dyn Source, names: Names) -> Table {
    let Survey {
        stats,
        held,
        contended,
        keys,
        busiest,
    } = source.survey(names);
    let busiest = busiest.into_iter().map(|(busy, label)| Busiest {
        id: format!("{:016x}", busy.hash),
        label,
        waits: busy.waits,
        inherited_waits: busy.inherited,
        waited_ns: busy.waited,
        releases: busy.releases,
        held_ns: busy.held,
        longest_hold_ns: busy.longest_hold,
    });
    let deadlocks = source.deadlocks();
    Table {
        name: name.to_owned(),
        locked: held,
        contended,
        waits: stats.waits,
        inflations: stats.inflations,
        longest_wait_ns: nanos(stats.longest_wait),
        waiting: stats.waiting,
        waiting_sessions: stats.waiting_sessions,
        waiting_sets: stats.waiting_sets,
        oldest_waiter_ns: nanos(stats.oldest_waiter),
        index_bytes: stats.index_bytes,
        token_bytes: stats.token_bytes,
        monitors: stats.monitors,
        deadlocks: stats.deadlocks,
        keys: keys
            .into_iter()
            .map(|(lock, held)| key(lock, held, names))
            .collect(),
        busiest: busiest.collect(),
        recent_deadlocks: deadlocks.iter().map(|of| deadlock(of, names)).collect(),
    }
}

fn key(lock: LockInfo, held: u64, names: Names) -> Key {
    let owners = lock.known_holders.iter();
    Key {
        id: lock.key_id.to_string(),
        label: lock.label,
        mode: lock.mode.map(mode),
        holders: lock.holders,
        known_holders: owners.map(|of| owner(of, names)).collect(),
        held_ns: if lock.mode.is_some() { held } else { 0 },
        waiting: lock.waiters.len(),
        waiters: lock
            .waiters
            .iter()
            .take(WAITERS)
            .map(|of| waiter(of, names))
            .collect(),
    }
}

fn waiter(of: &WaiterInfo, names: Names) -> Waiter {
    Waiter {
        mode: mode(of.mode),
        waited_ns: nanos(of.waited),
        owner: of.owner.as_ref().map(|of| owner(of, names)),
        upgrades: of.upgrades,
    }
}

fn owner(of: &OwnerInfo, names: Names) -> Owner {
    Owner {
        kind: kind(of.kind),
        id: of.id.get(),
        name: shown(of.name.as_deref(), names),
    }
}

fn deadlock(report: &DeadlockReport, names: Names) -> Deadlock {
    let held = |key: &DeadlockKey| Held {
        id: key.key_id.to_string(),
        label: shown(key.label.as_deref(), names),
        mode: mode(key.mode),
        place: key.place.map(ToString::to_string),
    };
    let party = |of: &DeadlockParty| Party {
        owner: Owner {
            kind: kind(of.kind),
            id: of.session.get(),
            name: shown(of.name.as_deref(), names),
        },
        holds: held(&of.holds),
        wants: held(&of.wants),
    };
    let victim = report.victim().session;
    let is_victim = |party: &DeadlockParty| party.session == victim;
    Deadlock {
        victim: report.parties().iter().position(is_victim).unwrap_or(0),
        parties: report.parties().iter().map(party).collect(),
    }
}

fn label(of: &LabelStats) -> Label {
    Label {
        label: of.label,
        commits: of.commits,
        contended: of.contended,
        timed_out: of.timed_out,
        aborted: of.aborted,
        retries_without_reads: of.retries_without_reads,
        panicked: of.panicked,
        cancelled: of.cancelled,
        aborts: aborts(of.aborts),
    }
}

fn aborts(of: AbortReasons) -> Aborts {
    Aborts {
        read_conflicts: of.read_conflicts,
        write_conflicts: of.write_conflicts,
        overtaken: of.overtaken,
    }
}

fn shown(name: Option<&str>, names: Names) -> Option<String> {
    match names {
        Names::Shown => name.map(str::to_owned),
        Names::Hidden => None,
    }
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Exclusive => "exclusive",
        Mode::Shared => "shared",
    }
}

fn kind(kind: OwnerKind) -> &'static str {
    match kind {
        OwnerKind::Session => "session",
        OwnerKind::Set { .. } => "set",
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
