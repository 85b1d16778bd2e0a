//! Real threads on a few cells: values are whole, versions only grow, no write is lost, no waiter
//! hangs, and each value is dropped once.
//!
//! Run it with `RUSTFLAGS="--cfg latchwork_noise"` too, which yields before one atomic access in
//! eight.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use crate::common::{Rng, watchdog};
use latchwork::{
    RetryPolicy, VersionedCell,
    cell::{OwnedVersioned, Version},
};

const WRITERS: u64 = 4;
const READERS: u64 = 3;
/// Writes of one thread in one test: a second or two in a debug build on two cores.
const WRITES: u64 = if cfg!(latchwork_noise) { 2_000 } else { 8_000 };

#[derive(Default)]
struct Count {
    made: AtomicU64,
    dropped: AtomicU64,
}

/// One number in many words, so that a torn or freed value shows.
struct Value {
    words: [u64; 12],
    count: Arc<Count>,
}

const MIX: u64 = 0x9E37_79B9_7F4A_7C15;

impl Value {
    fn new(number: u64, count: &Arc<Count>) -> Self {
        count.made.fetch_add(1, Relaxed);
        let words = std::array::from_fn(|n| number.wrapping_mul(MIX).rotate_left(n as u32));
        let count = count.clone();
        Value { words, count }
    }

    fn next(&self) -> Self {
        Value::new(self.number() + 1, &self.count)
    }

    fn number(&self) -> u64 {
        for (n, word) in self.words.iter().enumerate() {
            assert_eq!(
                word.rotate_right(n as u32),
                self.words[0],
                "torn, or dropped"
            );
        }
        // The inverse of `MIX` modulo 2^64, by Newton's steps.
        let inverse = (0..6).fold(MIX, |x, _| {
            x.wrapping_mul(2_u64.wrapping_sub(MIX.wrapping_mul(x)))
        });
        self.words[0].wrapping_mul(inverse)
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.number();
        self.words[0] = !self.words[1].rotate_right(1);
        self.count.dropped.fetch_add(1, Relaxed);
    }
}

/// Flushes until only `left` values live. The watchdog is there for when they do not go.
fn drops_all_but(count: &Count, left: u64) {
    loop {
        latchwork::flush();
        let (made, dropped) = (count.made.load(Relaxed), count.dropped.load(Relaxed));
        assert!(dropped + left <= made, "{made} made, {dropped} dropped");
        if dropped + left == made {
            return;
        }
        thread::yield_now();
    }
}

/// Writes one more in some way, and says whether it was in time.
fn write(cell: &VersionedCell<Value>, rng: &mut Rng) -> bool {
    match rng.below(4) {
        0 => {
            cell.update(Value::next);
            true
        }
        1 => {
            let policy = RetryPolicy::attempts(2);
            cell.try_update(&policy, |value| Ok::<_, ()>(value.next()))
                .is_ok()
        }
        2 => {
            let seen = cell.read();
            cell.compare_and_set(seen.version(), seen.next()).is_ok()
        }
        _ => {
            let seen = cell.read_owned();
            thread::yield_now();
            match cell.compare_and_set(seen.version(), seen.next()) {
                Ok(_) => true,
                Err(conflict) => {
                    assert!(conflict.current > seen.version());
                    assert_eq!(conflict.value.number(), seen.number() + 1);
                    false
                }
            }
        }
    }
}

/// Reads in some way. The value is the version, and neither goes back.
fn read(
    cell: &VersionedCell<Value>,
    last: &mut Version,
    owned: &mut Vec<OwnedVersioned<Value>>,
    rng: &mut Rng,
) {
    let (number, version) = match rng.below(4) {
        0 => {
            let seen = cell.read();
            thread::yield_now();
            (seen.number(), seen.version())
        }
        1 => {
            let pin = latchwork::pin();
            let seen = cell.read_in(&pin);
            thread::yield_now();
            (seen.number(), seen.version())
        }
        2 => {
            let seen = cell.read_owned();
            let found = (seen.number(), seen.version());
            owned.push(seen);
            if owned.len() > 20 {
                owned.swap_remove(rng.below(20) as usize);
                assert!(owned.iter().all(|o| o.number() == o.version().get()));
            }
            found
        }
        _ => {
            let version = cell.version();
            (version.get(), version)
        }
    };
    assert_eq!(number, version.get(), "another version's value");
    assert!(version >= *last, "back in time");
    *last = version;
}

#[test]
fn writers_and_readers() {
    let _dog = watchdog("writers_and_readers");
    let count = Arc::<Count>::default();
    let cells: Vec<_> = (0..2)
        .map(|_| VersionedCell::new(Value::new(0, &count)))
        .collect();
    let (done, written) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|s| {
        for seed in 0..READERS {
            let (cells, done) = (&cells, &done);
            s.spawn(move || {
                let (mut rng, mut owned) = (Rng::new(seed), Vec::new());
                let mut last = [Version::FIRST; 2];
                while !done.load(Relaxed) {
                    let at = rng.below(2) as usize;
                    read(&cells[at], &mut last[at], &mut owned, &mut rng);
                }
            });
        }
        let writers: Vec<_> = (0..WRITERS)
            .map(|seed| {
                let (cells, written) = (&cells, &written);
                s.spawn(move || {
                    let mut rng = Rng::new(100 + seed);
                    for _ in 0..WRITES {
                        let cell = &cells[rng.below(2) as usize];
                        written.fetch_add(u64::from(write(cell, &mut rng)), Relaxed);
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.join().expect("the oracle failed");
        }
        done.store(true, Relaxed);
    });
    let found: u64 = cells.iter().map(|cell| cell.read().number()).sum();
    assert_eq!(found, written.load(Relaxed), "a write was lost");
    drops_all_but(&count, 2);
    drop(cells);
    drops_all_but(&count, 0);
}

/// Threads and tasks follow a cell to its last version; others come, wait a little and give up.
/// Nobody hangs, though each write may find those who wait for it in the midst of leaving.
#[test]
fn waiters_come_and_go() {
    let _dog = watchdog("waiters_come_and_go");
    let count = Arc::<Count>::default();
    let cell = VersionedCell::new(Value::new(0, &count));
    let last = Version::new(WRITES);
    thread::scope(|s| {
        for by_task in [false, true, false, true] {
            let cell = &cell;
            s.spawn(move || {
                let mut seen = Version::FIRST;
                while seen < last {
                    let next = if by_task {
                        pollster::block_on(cell.changed(seen))
                    } else {
                        cell.wait_changed(seen)
                    };
                    assert!(next > seen);
                    seen = next;
                }
            });
        }
        s.spawn(|| {
            let mut rng = Rng::new(7);
            while cell.version() < last {
                // Also of versions that are only to come.
                let seen = Version::new(cell.version().get() + rng.below(2));
                let timeout = Duration::from_nanos(rng.below(50_000));
                let changed = cell.wait_changed_for(seen, timeout);
                assert!(changed.is_none_or(|version| version != seen));
            }
        });
        for seed in 0..2 {
            let cell = &cell;
            s.spawn(move || {
                let mut rng = Rng::new(seed);
                loop {
                    let seen = cell.version();
                    if seen >= last {
                        break;
                    }
                    let next = Value::new(seen.get() + 1, &cell.read().count);
                    let _ = cell.compare_and_set(seen, next);
                    if rng.below(8) == 0 {
                        thread::yield_now();
                    }
                }
            });
        }
    });
    assert_eq!((cell.version(), cell.read().number()), (last, WRITES));
    drops_all_but(&count, 1);
}
