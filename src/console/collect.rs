//! One report, as plain data in the form of its JSON. The chapter of the guide describes the
//! fields.

use core::ops::Deref;
use core::time::Duration;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde::Serialize;

use crate::deadlock::{OwnerKind, discard};
use crate::lock_table::{KeyId, LockInfo, Names, OwnerInfo, Survey, WaiterInfo};
use crate::map::MapStats;
use crate::session::{DeadlockKey, DeadlockParty, DeadlockReport};
use crate::txn::{AbortReasons, LabelStats};
use crate::word::Mode;
use crate::{LockTable, VersionedMap};

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

/// A lock table, or the locks of the keys of a map.
#[derive(Debug, Default, Serialize)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) map: Option<Map>,
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

/// The size of a map.
#[derive(Debug, Serialize)]
pub(super) struct Map {
    pub(super) len: usize,
    pub(super) entries: usize,
    pub(super) removed: usize,
    pub(super) capacity: usize,
    pub(super) index_bytes: usize,
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

/// A table or a map of any keys.
pub(super) trait Source: Send + Sync {
    /// Returns `None` if no key was locked yet.
    fn survey(&self, names: Names) -> Option<Survey>;
    fn deadlocks(&self) -> Vec<DeadlockReport>;

    /// Returns a label of a key that the survey and the deadlocks do not have.
    fn label(&self, _: KeyId) -> Option<String> {
        None
    }

    fn map(&self) -> Option<MapStats> {
        None
    }
}

/// A reference to a table.
pub(super) struct OfTable<T>(pub(super) T);

impl<T, K, S> Source for OfTable<T>
where
    T: Deref<Target = LockTable<K, S>> + Send + Sync,
    K: ?Sized,
{
    fn survey(&self, names: Names) -> Option<Survey> {
        Some(self.0.survey(KEYS, names))
    }

    fn deadlocks(&self) -> Vec<DeadlockReport> {
        self.0.deadlocks()
    }
}

/// A reference to a map, and the function that makes the labels of its keys.
pub(super) struct OfMap<M, F>(pub(super) M, pub(super) F);

impl<M, F, K, V, S> Source for OfMap<M, F>
where
    M: Deref<Target = VersionedMap<K, V, S>> + Send + Sync,
    F: Fn(&K) -> Option<String> + Send + Sync,
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    fn survey(&self, names: Names) -> Option<Survey> {
        Some(self.0.entry_locks()?.survey(KEYS, names))
    }

    fn deadlocks(&self) -> Vec<DeadlockReport> {
        let locks = self.0.entry_locks();
        locks.map_or_else(Vec::new, LockTable::deadlocks)
    }

    fn label(&self, id: KeyId) -> Option<String> {
        let label = catch_unwind(AssertUnwindSafe(|| self.0.with_locked_key(id, &self.1)));
        label.map_err(discard).ok()??
    }

    fn map(&self) -> Option<MapStats> {
        Some(self.0.stats())
    }
}

/// The labels of one source, as far as they are shown.
#[derive(Clone, Copy)]
struct Labels<'s> {
    source: &'s dyn Source,
    names: Names,
}

impl Labels<'_> {
    /// Returns the label that was found, or that of the source.
    fn of(self, id: KeyId, found: Option<&str>) -> Option<String> {
        match self.names {
            Names::Shown => found.map_or_else(|| self.source.label(id), |l| Some(l.to_owned())),
            Names::Hidden => None,
        }
    }
}

impl Report {
    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).expect("the fields are numbers, texts and lists")
    }
}

fn table(name: &str, source: &dyn Source, names: Names) -> Table {
    let table = Table {
        name: name.to_owned(),
        map: source.map().map(map),
        ..Table::default()
    };
    let Some(survey) = source.survey(names) else {
        return table;
    };
    let Survey {
        stats,
        held,
        contended,
        keys,
        busiest,
    } = survey;
    let labels = Labels { source, names };
    let busiest = busiest.into_iter().map(|(busy, label)| Busiest {
        id: format!("{:016x}", busy.hash),
        label: labels.of(KeyId(busy.hash), label.as_deref()),
        waits: busy.waits,
        inherited_waits: busy.inherited,
        waited_ns: busy.waited,
        releases: busy.releases,
        held_ns: busy.held,
        longest_hold_ns: busy.longest_hold,
    });
    let deadlocks = source.deadlocks();
    Table {
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
            .map(|(lock, held)| key(&lock, held, labels))
            .collect(),
        busiest: busiest.collect(),
        recent_deadlocks: deadlocks.iter().map(|of| deadlock(of, labels)).collect(),
        ..table
    }
}

fn map(of: MapStats) -> Map {
    Map {
        len: of.len,
        entries: of.entries,
        removed: of.removed,
        capacity: of.capacity,
        index_bytes: of.index_bytes,
    }
}

fn key(lock: &LockInfo, held: u64, labels: Labels<'_>) -> Key {
    let owners = lock.known_holders.iter();
    Key {
        id: lock.key_id.to_string(),
        label: labels.of(lock.key_id, lock.label.as_deref()),
        mode: lock.mode.map(mode),
        holders: lock.holders,
        known_holders: owners.map(|of| owner(of, labels.names)).collect(),
        held_ns: if lock.mode.is_some() { held } else { 0 },
        waiting: lock.waiters.len(),
        waiters: lock
            .waiters
            .iter()
            .take(WAITERS)
            .map(|of| waiter(of, labels.names))
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

fn deadlock(report: &DeadlockReport, labels: Labels<'_>) -> Deadlock {
    let held = |key: &DeadlockKey| Held {
        id: key.key_id.to_string(),
        label: labels.of(key.key_id, key.label.as_deref()),
        mode: mode(key.mode),
        place: key.place.map(ToString::to_string),
    };
    let party = |of: &DeadlockParty| Party {
        owner: Owner {
            kind: kind(of.kind),
            id: of.session.get(),
            name: shown(of.name.as_deref(), labels.names),
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
