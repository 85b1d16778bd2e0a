//! A report of `latchwork::console`, as its JSON describes it.

use std::time::Duration;

use serde::Deserialize;

/// The version of the format that this program reads.
pub const FORMAT: u32 = 1;

/// The state of a process.
#[derive(Clone, Debug, Deserialize)]
pub struct Report {
    /// The version of the format.
    pub format: u32,
    /// The number of the process.
    pub process: u32,
    /// Whether labels of keys and names of sessions are included.
    pub names: bool,
    /// The lock tables.
    pub tables: Vec<Table>,
    /// How transactions have ended.
    pub transactions: Transactions,
    /// The retired values.
    pub memory: Memory,
}

/// A lock table, or the locks of the keys of a map.
#[derive(Clone, Debug, Deserialize)]
pub struct Table {
    /// Its name in the console.
    pub name: String,
    /// The size of the map.
    pub map: Option<Map>,
    /// The number of held keys.
    pub locked: u64,
    /// The number of keys with waiters.
    pub contended: u64,
    /// The number of waiters that have queued.
    pub waits: u64,
    /// The longest wait that ended with the key.
    pub longest_wait_ns: u64,
    /// The number of queued waiters.
    pub waiting: u64,
    /// The number of deadlocks with a victim.
    pub deadlocks: u64,
    /// The size of the index.
    pub index_bytes: u64,
    /// The keys with waiters, those with the most waiters first.
    pub keys: Vec<Key>,
    /// The keys with the most waits since the table was made.
    pub busiest: Vec<Busiest>,
    /// The most recent deadlocks, the oldest first.
    pub recent_deadlocks: Vec<Deadlock>,
}

/// The size of a map.
#[derive(Clone, Debug, Deserialize)]
pub struct Map {
    /// The number of keys with a value.
    pub len: u64,
    /// The number of entries, with those of absent keys.
    pub entries: u64,
}

/// A key with waiters.
#[derive(Clone, Debug, Deserialize)]
pub struct Key {
    /// Its identity.
    pub id: String,
    /// Its label.
    pub label: Option<String>,
    /// The mode in which it is held.
    pub mode: Option<String>,
    /// The number of holders.
    pub holders: u64,
    /// The holders that are known.
    pub known_holders: Vec<Owner>,
    /// How long it has been held since its first waiter queued.
    pub held_ns: u64,
    /// The number of waiters.
    pub waiting: u64,
    /// The waiters, in the order of the queue.
    pub waiters: Vec<Waiter>,
}

/// A session or a set of keys.
#[derive(Clone, Debug, Deserialize)]
pub struct Owner {
    /// `session` or `set`.
    pub kind: String,
    /// Its number.
    pub id: u64,
    /// Its name.
    pub name: Option<String>,
}

/// A waiter.
#[derive(Clone, Debug, Deserialize)]
pub struct Waiter {
    /// The mode that it requests.
    pub mode: String,
    /// The time since it was queued.
    pub waited_ns: u64,
    /// The session or set that waits.
    pub owner: Option<Owner>,
    /// Whether it holds the key shared.
    pub upgrades: bool,
}

/// A key with many waits.
#[derive(Clone, Debug, Deserialize)]
pub struct Busiest {
    /// Its identity.
    pub id: String,
    /// Its label.
    pub label: Option<String>,
    /// The waits that have ended.
    pub waits: u64,
    /// The part of the waits that may belong to other keys.
    pub inherited_waits: u64,
    /// The time that its waiters have waited, all together.
    pub waited_ns: u64,
    /// The time for which it was held while a waiter was queued.
    pub held_ns: u64,
    /// The longest of these holds.
    pub longest_hold_ns: u64,
}

/// A deadlock.
#[derive(Clone, Debug, Deserialize)]
pub struct Deadlock {
    /// The place of the victim among the parties.
    pub victim: usize,
    /// The parties: each waits for the next one, and the last for the first.
    pub parties: Vec<Party>,
}

/// A party of a deadlock.
#[derive(Clone, Debug, Deserialize)]
pub struct Party {
    /// The session or set.
    pub owner: Owner,
    /// The key that it waits for.
    pub wants: Held,
}

/// A key of a deadlock.
#[derive(Clone, Debug, Deserialize)]
pub struct Held {
    /// Its identity.
    pub id: String,
    /// Its label.
    pub label: Option<String>,
}

/// The transactions of the process.
#[derive(Clone, Debug, Deserialize)]
pub struct Transactions {
    /// The aborted attempts of all transactions.
    pub aborts: Aborts,
    /// Those with a label.
    pub labels: Vec<Label>,
}

/// Aborted attempts.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Aborts {
    /// A cell that the attempt has read has changed.
    pub read_conflicts: u64,
    /// Another transaction owned a cell.
    pub write_conflicts: u64,
    /// An older transaction has overtaken the attempt.
    pub overtaken: u64,
}

/// The transactions of one label.
#[derive(Clone, Debug, Deserialize)]
pub struct Label {
    /// The label.
    pub label: String,
    /// Transactions that have committed.
    pub commits: u64,
    /// Transactions that used up their attempts.
    pub contended: u64,
    /// Transactions whose deadline has passed.
    pub timed_out: u64,
    /// Transactions that their closures have ended.
    pub aborted: u64,
    /// Transactions that a panic has ended.
    pub panicked: u64,
    /// Futures that were dropped.
    pub cancelled: u64,
    /// The aborted attempts.
    pub aborts: Aborts,
}

/// The retired values.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Memory {
    /// Their number.
    pub garbage: u64,
    /// Their size.
    pub garbage_bytes: u64,
    /// A lower bound on the age of the oldest pin.
    pub oldest_pin_ns: Option<u64>,
}

impl Report {
    /// Reads a report.
    ///
    /// # Errors
    /// Returns what is wrong with the text, or with its version.
    pub fn parse(json: &str) -> Result<Self, String> {
        let report: Self = serde_json::from_str(json).map_err(|error| error.to_string())?;
        if report.format == FORMAT {
            Ok(report)
        } else {
            Err(format!(
                "the report has format {}, and this program reads format {FORMAT}",
                report.format
            ))
        }
    }
}

impl Owner {
    /// Returns the name, or the kind and the number.
    #[must_use]
    pub fn title(&self) -> String {
        match &self.name {
            Some(name) => name.clone(),
            None => format!("{} #{}", self.kind, self.id),
        }
    }
}

impl Aborts {
    /// Returns their number.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.read_conflicts + self.write_conflicts + self.overtaken
    }
}

/// Returns the label of a key, or the first digits of its identity.
#[must_use]
pub fn key_title(label: Option<&str>, id: &str) -> String {
    match label {
        Some(label) => label.to_owned(),
        None => format!("key {}…", id.chars().take(8).collect::<String>()),
    }
}

/// Returns a time with a unit, in at most seven characters.
#[must_use]
pub fn time(nanos: u64) -> String {
    let time = Duration::from_nanos(nanos);
    match nanos {
        0 => "0".to_owned(),
        1..1_000 => format!("{nanos} ns"),
        1_000..1_000_000 => format!("{} µs", nanos / 1_000),
        1_000_000..10_000_000_000 => format!("{} ms", nanos / 1_000_000),
        10_000_000_000..600_000_000_000 => format!("{} s", time.as_secs()),
        600_000_000_000..36_000_000_000_000 => format!("{} min", time.as_secs() / 60),
        _ => format!("{} h", time.as_secs() / 3_600),
    }
}

/// Returns a number with a unit, in at most six characters.
#[must_use]
pub fn count(n: u64) -> String {
    match n {
        0..100_000 => n.to_string(),
        100_000..10_000_000 => format!("{} k", n / 1_000),
        10_000_000..10_000_000_000 => format!("{} M", n / 1_000_000),
        _ => format!("{} G", n / 1_000_000_000),
    }
}
