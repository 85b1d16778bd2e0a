//! What the integration tests share: a watchdog, hashers and wakers that misbehave, a generator of
//! numbers.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each test binary uses its own part, and fuzz/ exports the same files"
)]

pub mod hashers;
pub mod history;
pub mod reference;
#[cfg(latchwork_shuttle)]
pub mod schedules;
pub mod tasks;
pub mod work;

use std::hash::BuildHasher;
use std::io::Write as _;
use std::sync::mpsc;
use std::time::Duration;

use latchwork::{LockTable, VersionedCell, atomically};

/// How many seconds a test may take before it counts as hung, unless `LATCHWORK_PATIENCE` says
/// otherwise. Far more than any of them needs on a machine that has time for it.
const PATIENCE: u64 = 60;

/// Aborts the process if it lives longer than [`PATIENCE`]: a hang is a failure with a name.
pub struct Watchdog {
    /// Dropping it wakes the watcher, which tells that from a timeout.
    _alive: mpsc::Sender<()>,
}

/// Starts a watchdog for the test `name`; it stops when the value is dropped.
#[must_use]
pub fn watchdog(name: &'static str) -> Watchdog {
    let (alive, gone) = mpsc::channel();
    let patience = Duration::from_secs(setting("LATCHWORK_PATIENCE", PATIENCE));
    std::thread::spawn(move || {
        if gone.recv_timeout(patience) == Err(mpsc::RecvTimeoutError::Timeout) {
            // Written past the harness: it captures what `eprintln!` prints, and an abort loses
            // that.
            let _ = writeln!(
                std::io::stderr(),
                "{name}: still running after {patience:?}"
            );
            std::process::abort();
        }
    });
    Watchdog { _alive: alive }
}

/// Writes a cell as another transaction would, inside the closure of one that has read it: the
/// attempt is lost. A direct write there panics in debug builds.
pub fn write_elsewhere<T: Clone + Send + Sync + 'static>(cell: &VersionedCell<T>, value: T) {
    atomically(|tx| tx.set(cell, value.clone()));
}

/// As [`std::mem::forget`], but a sanitizer sees that somebody knows of it: what else leaks shows.
pub fn forget_in_sight<T>(value: T) {
    static FORGOTTEN: std::sync::Mutex<Vec<usize>> = std::sync::Mutex::new(Vec::new());
    let there = Box::into_raw(Box::new(value)).expose_provenance();
    FORGOTTEN.lock().unwrap().push(there);
}

/// Lets others run, whoever schedules them.
pub fn pause() {
    #[cfg(latchwork_shuttle)]
    shuttle::thread::yield_now();
    #[cfg(not(latchwork_shuttle))]
    std::thread::yield_now();
}

/// Waits until `table` has seen `waits` lock calls queue up since it was made.
pub fn until_waits<K: ?Sized, S>(table: &LockTable<K, S>, waits: u64) {
    while table.stats().waits < waits {
        std::thread::yield_now();
    }
}

/// Asserts that nothing of what `table` has been through is left: no lock, no monitor, no child.
pub fn assert_as_new<K: ?Sized, S>(table: &LockTable<K, S>, fresh_bytes: usize) {
    let stats = table.stats();
    assert_eq!(table.locked_count(), 0, "locks are left: {stats:?}");
    assert_eq!(stats.monitors, 0, "monitors are left: {stats:?}");
    assert_eq!(
        stats.index_bytes, fresh_bytes,
        "children are left: {stats:?}"
    );
}

/// Makes a table with `hasher` and says how many bytes its index has before any use.
pub fn table<S: BuildHasher>(hasher: S) -> (LockTable<u64, S>, usize) {
    let table = LockTable::with_hasher(hasher);
    let fresh_bytes = table.stats().index_bytes;
    (table, fresh_bytes)
}

/// The number to begin with: 0, or what `LATCHWORK_SEED` says.
pub fn first_seed() -> u64 {
    setting("LATCHWORK_SEED", 0)
}

/// What a variable of the environment says, which is a number, or else `usual`.
pub fn setting(name: &str, usual: u64) -> u64 {
    let wanted = std::env::var(name);
    wanted.map_or(usual, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number, and not {text:?}"))
    })
}

/// The numbers of the histories of one test: 40 of them, or as many as `LATCHWORK_HISTORIES` says.
pub fn histories() -> std::ops::Range<u64> {
    let first = first_seed();
    first..first + setting("LATCHWORK_HISTORIES", 40)
}

/// SplitMix64: a few lines that give the same numbers on every machine.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `n`, which is small: the bias does not matter here.
    pub fn below(&mut self, n: u64) -> u64 {
        self.draw() % n
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}
