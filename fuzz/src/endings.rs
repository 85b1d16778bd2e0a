//! Cells and transactions of threads that end or idle, with values whose destructors use cells and
//! with destructors of thread-locals that do so.
//!
//! Two cells always have the sum zero. When the threads have ended or idle, one `flush` leaves one
//! value for each cell; when the cells are gone also, it leaves none.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak, mpsc};
use std::thread;

use latchwork::cell::OwnedVersioned;
use latchwork::txn::TxError;
use latchwork::{Transaction, VersionedCell, atomically, snapshot, update_all};

const CELLS: usize = 3;
const THREADS: usize = 3;
/// Most calls of one thread.
const MOST_CALLS: usize = 60;
/// Most owned snapshots of one thread at a time.
const MOST_KEPT: usize = 8;

/// How often the calls of some inputs led to which outcome.
#[derive(Clone, Copy, Debug, Default)]
pub struct EndingTally {
    /// Values that were written.
    pub written: u64,
    /// Transactions that moved an amount between the two cells.
    pub transfers: u64,
    /// Destructors of values that used cells.
    pub effects: u64,
    /// Destructors of thread-locals that used cells.
    pub last_words: u64,
    /// Threads that idled while another thread released their values.
    pub idle: u64,
}

impl EndingTally {
    /// Adds those of another input.
    pub fn add(&mut self, other: Self) {
        self.written += other.written;
        self.transfers += other.transfers;
        self.effects += other.effects;
        self.last_words += other.last_words;
        self.idle += other.idle;
    }

    /// The rarest outcome.
    pub fn least(&self) -> u64 {
        let all = [self.written, self.transfers, self.effects, self.last_words];
        all.into_iter().fold(self.idle, u64::min)
    }
}

/// What a destructor does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Nothing,
    Write(usize),
    Transfer,
    Read,
    Flush,
    Pin,
    Spawn,
}

impl Effect {
    fn of(byte: u8) -> Self {
        match byte % 10 {
            0 => Effect::Write(0),
            1 => Effect::Write(1),
            2 => Effect::Write(2),
            3 => Effect::Transfer,
            4 => Effect::Read,
            5 => Effect::Flush,
            6 => Effect::Pin,
            // Threads are slow.
            7 if byte > 200 => Effect::Spawn,
            _ => Effect::Nothing,
        }
    }
}

/// A value that counts those of its world, and uses the world as it is dropped.
struct Value {
    effect: Effect,
    world: Weak<World>,
    live: Arc<AtomicUsize>,
}

impl Value {
    fn new(effect: Effect, world: &Arc<World>) -> Self {
        world.live.fetch_add(1, Relaxed);
        world.written.fetch_add(1, Relaxed);
        Value {
            effect,
            world: Arc::downgrade(world),
            live: world.live.clone(),
        }
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        let before = self.live.fetch_sub(1, Relaxed);
        assert!(before > 0, "dropped more often than made");
        if self.effect == Effect::Nothing {
            return;
        }
        if let Some(world) = self.world.upgrade() {
            world.effects.fetch_add(1, Relaxed);
            world.perform(self.effect);
        }
    }
}

/// Uses the cells as its thread ends.
struct LastWords(Effect, Weak<World>);

impl Drop for LastWords {
    fn drop(&mut self) {
        if let Some(world) = self.1.upgrade() {
            world.last_words.fetch_add(1, Relaxed);
            world.perform(self.0);
        }
    }
}

thread_local! {
    static LAST_WORDS: RefCell<Vec<LastWords>> = const { RefCell::new(Vec::new()) };
}

struct World {
    cells: [VersionedCell<Option<Value>>; CELLS],
    /// Their sum is zero.
    accounts: [VersionedCell<i64>; 2],
    live: Arc<AtomicUsize>,
    written: AtomicU64,
    transfers: AtomicU64,
    effects: AtomicU64,
    last_words: AtomicU64,
}

impl World {
    fn transfer(&self, amount: i64) {
        let [from, to] = &self.accounts;
        atomically(|tx| {
            let (a, b) = (*tx.read(from)?, *tx.read(to)?);
            tx.set(from, a - amount)?;
            tx.set(to, b + amount)
        });
        self.transfers.fetch_add(1, Relaxed);
    }

    fn check(&self) {
        let sum = snapshot(|view| {
            let [from, to] = &self.accounts;
            *view.read(from) + *view.read(to)
        });
        assert_eq!(sum, 0, "a transfer was seen by half");
    }

    fn perform(self: &Arc<Self>, effect: Effect) {
        match effect {
            Effect::Nothing => {}
            Effect::Write(at) => {
                let value = Value::new(Effect::Nothing, self);
                self.cells[at].set(Some(value));
            }
            Effect::Transfer => self.transfer(1),
            Effect::Read => self.check(),
            Effect::Flush => latchwork::flush(),
            Effect::Pin => {
                let pin = latchwork::pin();
                let seen: Vec<_> = self.cells.iter().map(|cell| cell.read_in(&pin)).collect();
                assert_eq!(seen.len(), CELLS);
            }
            Effect::Spawn => {
                let world = self.clone();
                let reader = thread::spawn(move || world.check());
                reader.join().expect("it only reads");
            }
        }
    }
}

/// The calls of one thread.
struct Program<'w> {
    world: &'w Arc<World>,
    kept: Vec<OwnedVersioned<Option<Value>>>,
}

impl Program<'_> {
    fn value(&self, with: u8) -> Option<Value> {
        Some(Value::new(Effect::of(with), self.world))
    }

    fn run(&mut self, calls: &[[u8; 2]]) {
        let mut calls = calls.iter();
        while let Some(&[kind, with]) = calls.next() {
            if kind & 31 == 31 {
                return;
            }
            if kind & 31 == 30 {
                // The next calls happen under a pin.
                let pin = latchwork::pin();
                let held = self.world.cells[0].read_in(&pin);
                for &[kind, with] in calls.by_ref().take(usize::from(with % 8)) {
                    self.call(kind, with);
                }
                assert!(
                    held.get()
                        .as_ref()
                        .is_none_or(|value| value.live.load(Relaxed) > 0)
                );
                continue;
            }
            self.call(kind, with);
        }
    }

    fn call(&mut self, kind: u8, with: u8) {
        let world = self.world;
        let cell = &world.cells[usize::from(kind >> 5) % CELLS];
        match kind & 31 {
            0..=4 => {
                cell.set(self.value(with));
            }
            5 | 6 => {
                cell.update(|_| self.value(with));
            }
            7 => drop(cell.swap(self.value(with))),
            8 | 9 => {
                let seen = cell.read().version();
                // Another thread may have written since.
                let _refused = cell.compare_and_set(seen, self.value(with));
            }
            10..=13 => world.transfer(i64::from(with)),
            14 => {
                let [from, to] = &world.accounts;
                let amount = i64::from(with);
                update_all((from, to), |(a, b)| (a - amount, b + amount));
                world.transfers.fetch_add(1, Relaxed);
            }
            15 | 16 => self.two_values(with, false),
            17 => self.two_values(with, true),
            18 | 19 => world.check(),
            20 | 21 => {
                if self.kept.len() < MOST_KEPT {
                    self.kept.push(cell.read_owned());
                }
            }
            22 => {
                if !self.kept.is_empty() {
                    drop(self.kept.swap_remove(usize::from(with) % self.kept.len()));
                }
            }
            23 => latchwork::flush(),
            24..=26 => {
                let words = LastWords(Effect::of(with), Arc::downgrade(world));
                LAST_WORDS.with_borrow_mut(|all| all.push(words));
            }
            27 => {
                let (sender, receiver) = mpsc::channel::<()>();
                let other = world.clone();
                let child = thread::spawn(move || {
                    other.perform(Effect::of(with));
                    drop(sender);
                });
                receiver.recv().expect_err("nothing is sent");
                child.join().expect("the oracle failed");
            }
            _ => drop(cell.read()),
        }
    }

    /// Writes two cells together, or aborts after both writes.
    fn two_values(&self, with: u8, abort: bool) {
        let [first, second, _] = &self.world.cells;
        let result = Transaction::builder().try_run(|tx| {
            tx.set(first, self.value(with))?;
            tx.set(second, self.value(with.rotate_left(4)))?;
            if abort {
                return tx.abort(());
            }
            Ok(())
        });
        match result {
            Ok(()) => assert!(!abort),
            Err(TxError::Aborted(())) => assert!(abort),
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// Runs the calls that `data` stands for: a byte that chooses the threads that idle, and two bytes
/// for each call.
pub(crate) fn run(data: &[u8]) -> EndingTally {
    let head = data.first().copied().unwrap_or(0);
    let calls: Vec<[u8; 2]> = data
        .get(1..)
        .unwrap_or_default()
        .chunks_exact(2)
        .map(|call| [call[0], call[1]])
        .collect();
    let world = Arc::new(World {
        cells: core::array::from_fn(|_| VersionedCell::new(None)),
        accounts: [0, 0].map(VersionedCell::new),
        live: Arc::default(),
        written: AtomicU64::new(0),
        transfers: AtomicU64::new(0),
        effects: AtomicU64::new(0),
        last_words: AtomicU64::new(0),
    });
    let live = world.live.clone();
    let part = calls.len().div_ceil(THREADS).clamp(1, MOST_CALLS);
    let mut idle = Vec::new();
    let mut ending = Vec::new();
    for (number, calls) in calls.chunks(part).take(THREADS).enumerate() {
        let idles = head >> number & 1 == 1;
        let (done, finished) = mpsc::channel::<()>();
        let (go, wait) = mpsc::channel::<()>();
        let (world, calls) = (world.clone(), calls.to_vec());
        let thread = thread::spawn(move || {
            let mut program = Program {
                world: &world,
                kept: Vec::new(),
            };
            program.run(&calls);
            drop(program);
            drop(done);
            if idles {
                wait.recv().expect_err("nothing is sent");
            }
        });
        match idles {
            true => idle.push((thread, finished, go)),
            false => ending.push(thread),
        }
    }
    for (_, finished, _) in &idle {
        finished.recv().expect_err("nothing is sent");
    }
    for thread in ending {
        thread.join().expect("the oracle failed");
    }
    world.check();
    latchwork::flush();
    let present = world.cells.iter().filter(|cell| cell.read().is_some());
    let present = present.count();
    assert_eq!(
        live.load(Relaxed),
        present,
        "not every replaced value was dropped"
    );
    let idled = idle.len() as u64;
    for (thread, _, go) in idle {
        drop(go);
        thread.join().expect("the oracle failed");
    }
    world.check();
    let tally = EndingTally {
        written: world.written.load(Relaxed),
        transfers: world.transfers.load(Relaxed),
        effects: world.effects.load(Relaxed),
        last_words: world.last_words.load(Relaxed),
        idle: idled,
    };
    drop(world);
    latchwork::flush();
    assert_eq!(live.load(Relaxed), 0, "not every value was dropped");
    tally
}
