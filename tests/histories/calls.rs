//! Real threads on a few keys, cells and latches, each call between two stamps: for each key, cell
//! and latch there must be an order in which its calls can have taken effect.
//!
//! Threads of two cores seldom meet where it matters: `RUSTFLAGS="--cfg latchwork_noise"` yields
//! before one atomic access in eight. `ci/histories.sh TIMES` does that as often as wanted.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use crate::common::hashers::Place;
use crate::common::watchdog;
use crate::common::work::cells::{Cell, Value, Writer};
use crate::common::work::keys::Locker;
use crate::common::work::latches::{Latch, Visitor};
use crate::common::work::maps::{Caller, Map, Pick};
use crate::common::work::sessions::Owner;
use crate::common::work::{cells, keys, latches, maps};
use crate::common::{Rng, history};
use latchwork::{Fairness, LockTable, VersionedMap};

const THREADS: usize = 4;
/// Calls of one thread in one history.
const STEPS: usize = 60;
/// The longest wait of a timed call. Some end before they would be granted, and some after.
const PATIENCE: Duration = Duration::from_micros(60);

/// Runs `each` in as many threads, which begin together.
fn together<R: Send>(each: impl Fn(usize) -> R + Sync) -> Vec<R> {
    let ready = Barrier::new(THREADS);
    thread::scope(|s| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (ready, each) = (&ready, &each);
                s.spawn(move || {
                    ready.wait();
                    each(thread)
                })
            })
            .collect();
        let threads = threads.into_iter();
        threads
            .map(|t| t.join().expect("no thread panics"))
            .collect()
    })
}

/// Two keys in one slot, two far from it.
const KEYS: [u64; 4] = [0, 1 << 10, 1 << 40, 5];

fn locks(name: &'static str, fairness: Fairness) {
    let (mut total, mut refused) = (0, 0);
    for seed in crate::common::histories() {
        // For each round: where others want the machine too, a yield takes milliseconds.
        let _dog = watchdog(name);
        let table = LockTable::builder()
            .hasher(Place::Identity)
            .fairness(fairness)
            .build();
        let logs = together(|thread| {
            let mut locker = Locker::new(&table, &KEYS, (thread, seed, STEPS), PATIENCE);
            (0..STEPS).for_each(|_| locker.step());
            locker.into_log()
        });
        let (calls, no) = keys::judge(logs, KEYS.len());
        total += calls;
        refused += no;
        assert_eq!(table.locked_count(), 0, "seed {seed}");
    }
    println!("{fairness:?}: {total} operations, {refused} refused");
    assert!(refused > 0, "nobody was ever in the way");
}

#[test]
fn locks_by_key() {
    locks("locks_by_key", Fairness::Eventual);
}

#[test]
fn locks_by_key_in_order() {
    locks("locks_by_key_in_order", Fairness::Fifo);
}

#[test]
fn calls_of_cells() {
    let (mut total, mut late) = (0, 0);
    for seed in crate::common::histories() {
        let _dog = watchdog("calls_of_cells");
        let cells: Vec<_> = (0..2).map(|_| Cell::new(Value::new(0))).collect();
        let logs = together(|thread| {
            let mut writer = Writer::new(&cells, (thread, seed, STEPS), PATIENCE);
            (0..STEPS).for_each(|_| writer.step());
            writer.into_log()
        });
        let (calls, no) = cells::judge(logs, cells.len());
        total += calls;
        late += no;
    }
    println!("cells: {total} operations, {late} too late");
    assert!(late > 0, "nobody was ever in the way");
}

/// Sessions of one step each, and among them the locks of who has none.
#[test]
fn sessions_by_key() {
    const STEPS: usize = 12;
    let (mut total, mut refused, mut deadlocks) = (0, 0, 0);
    for seed in crate::common::histories() {
        let _dog = watchdog("sessions_by_key");
        let fairness = [Fairness::Eventual, Fairness::Fifo][seed as usize % 2];
        let table = LockTable::builder()
            .hasher(Place::Identity)
            .fairness(fairness)
            .build();
        let logs = together(|thread| {
            let mut owner = Owner::new(&table, &KEYS, (thread, seed, STEPS), PATIENCE);
            (0..STEPS).for_each(|_| owner.step());
            owner.into_log()
        });
        let (logs, told): (Vec<_>, Vec<_>) = logs.into_iter().unzip();
        let (calls, no) = keys::judge(logs, KEYS.len());
        total += calls;
        refused += no;
        deadlocks += told.into_iter().sum::<usize>();
        let stats = table.stats();
        assert_eq!(
            (table.locked_count(), stats.monitors),
            (0, 0),
            "seed {seed}"
        );
    }
    println!("sessions: {total} operations, {refused} refused, {deadlocks} deadlocks");
    assert!(refused > 0 && deadlocks > 0, "nobody was ever in the way");
}

#[test]
fn calls_of_latches() {
    let (mut total, mut late) = (0, 0);
    for seed in crate::common::histories() {
        let _dog = watchdog("calls_of_latches");
        let latches: Vec<_> = (0..2).map(|_| Latch::default()).collect();
        let logs = together(|thread| {
            let mut visitor = Visitor::new(&latches, (thread, seed, STEPS));
            (0..STEPS).for_each(|_| visitor.step());
            visitor.into_log()
        });
        let (logs, too_late): (Vec<_>, Vec<_>) = logs.into_iter().unzip();
        total += latches::judge(logs, latches.len());
        late += too_late.into_iter().sum::<usize>();
    }
    println!("latches: {total} operations, {late} too late");
    assert!(late > 0, "nobody was ever in the way");
}

/// Scans, batches and transactions are calls of several keys. Keys of one hash, of one line, and
/// far apart.
#[test]
fn calls_of_maps() {
    const STEPS: usize = 40;
    let places = [
        Place::Identity,
        Place::Constant(7),
        Place::Spread { shift: 0, step: 20 },
    ];
    let (mut total, mut refused) = (0, 0);
    for seed in crate::common::histories() {
        let _dog = watchdog("calls_of_maps");
        let map: Map = VersionedMap::with_hasher(places[seed as usize % 3]);
        let keys = 1 + seed as usize / 3 % history::keys::KEYS;
        let logs = together(|thread| {
            let mut caller = Caller::new(&map, thread, STEPS, PATIENCE);
            let mut rng = Rng::new(seed << 8 | thread as u64);
            (0..STEPS).for_each(|_| caller.call(Pick::draw(&mut rng, keys)));
            caller.into_log()
        });
        let (calls, no) = maps::judge(logs);
        total += calls;
        refused += no;
    }
    println!("maps: {total} operations, {refused} refused");
    assert!(refused > 0, "no thread was ever in the way");
}
