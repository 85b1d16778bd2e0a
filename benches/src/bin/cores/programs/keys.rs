//! Locks by key.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;
use latchwork::{Fairness, LockTable, RandomState};
use latchwork_bench::peers::{
    Dash, Exclusive, KeyLock, Keyed, Lockmap, PaddedMutexes, PaddedRwLocks, Pool, Shared,
};
use latchwork_bench::workload::Rng;

use super::{Program, Question, Share, shared};

/// Keys that are locked at random.
const MANY: u64 = 1024;

pub(crate) static OWN: Question = Question {
    title: "Locks by key: a key of its own for each core",
    text: "Each core locks its own key and unlocks it. No key is requested by two cores: the \
           lines that move are those of the structure. The striped mutexes are an array of \
           4,096 `parking_lot` mutexes on lines of their own.",
    programs: &[
        Program {
            name: "`LockTable`",
            share: || own_key(table()),
        },
        Program {
            name: "striped `parking_lot::Mutex`",
            share: || own_key(mutexes()),
        },
        Program {
            name: "`lockmap`",
            share: || own_key(Lockmap::new()),
        },
        Program {
            name: "`keyed-lock`",
            share: || own_key(Keyed::new()),
        },
        Program {
            name: "`lockable`",
            share: || own_key(Pool::new()),
        },
        Program {
            name: "`dashmap`, insert and remove",
            share: || own_key(Dash::new()),
        },
        Program {
            name: "one `parking_lot::Mutex` for all",
            share: || own_key(OnLine(parking_lot::Mutex::new(()))),
        },
    ],
};

pub(crate) static RANDOM: Question = Question {
    title: "Locks by key: one of 1,024 at random",
    text: "Each core locks a random key of 1,024 and unlocks it. A padded array has a line for each key; a table of slots has \
           eight slots on a line.",
    programs: &[
        Program {
            name: "`LockTable`",
            share: || random_key(table()),
        },
        Program {
            name: "striped `parking_lot::Mutex`",
            share: || random_key(mutexes()),
        },
        Program {
            name: "`lockmap`",
            share: || random_key(Lockmap::new()),
        },
        Program {
            name: "`dashmap`, insert and remove",
            share: || random_key(Dash::new()),
        },
        Program {
            name: "one `parking_lot::Mutex` for all",
            share: || random_key(OnLine(parking_lot::Mutex::new(()))),
        },
    ],
};

pub(crate) static ONE: Question = Question {
    title: "Locks by key: all cores want one",
    text: "Each core locks the key, adds one to a counter on a line of its own by a load and a \
           store, and unlocks. A core that barges keeps the lines in its cache; a queue moves \
           them each time, and parks waiters.",
    programs: &[
        Program {
            name: "`LockTable`",
            share: || one_key(table()),
        },
        Program {
            name: "`LockTable`, `Fifo`",
            share: || {
                one_key(Exclusive(
                    LockTable::builder().fairness(Fairness::Fifo).build(),
                ))
            },
        },
        Program {
            name: "`parking_lot::Mutex`",
            share: || one_key(OnLine(parking_lot::Mutex::new(()))),
        },
        Program {
            name: "`std::sync::Mutex`",
            share: || one_key(OnLine(std::sync::Mutex::new(()))),
        },
        Program {
            name: "`lockmap`",
            share: || one_key(Lockmap::new()),
        },
        Program {
            name: "`keyed-lock`",
            share: || one_key(Keyed::new()),
        },
    ],
};

pub(crate) static ONE_SHARED: Question = Question {
    title: "Locks by key: all cores share one",
    text: "Each core locks the key shared and unlocks it. A lock that counts its readers in one \
           word moves that word to each reader: less than once for each reader if all its \
           accesses fit into the time that the line stays, and once more for each access after \
           the line has left.",
    programs: &[
        Program {
            name: "`LockTable`, shared",
            share: || at(Shared(LockTable::<u64>::new()), |_| || 7),
        },
        Program {
            name: "striped `parking_lot::RwLock`, read",
            share: || {
                let locks = PaddedRwLocks::<4096>::new(RandomState::default());
                at(locks, |_| || 7)
            },
        },
        Program {
            name: "`std::sync::RwLock`, read",
            share: || at(OnLine(std::sync::RwLock::new(())), |_| || 7),
        },
    ],
};

fn table() -> Exclusive<LockTable<u64>> {
    Exclusive(LockTable::new())
}

fn mutexes() -> PaddedMutexes<4096> {
    PaddedMutexes::new(RandomState::default())
}

fn own_key<L: KeyLock<u64> + Send + 'static>(lock: L) -> Share {
    at(lock, |core| move || core)
}

fn random_key<L: KeyLock<u64> + Send + 'static>(lock: L) -> Share {
    at(lock, |core| {
        let mut rng = Rng::new(core + 1);
        move || rng.next() % MANY
    })
}

/// Locks the keys that `keys` makes for each core.
fn at<L, F>(lock: L, keys: fn(u64) -> F) -> Share
where
    L: KeyLock<u64> + Send + 'static,
    F: FnMut() -> u64 + 'static,
{
    let lock = shared(lock);
    Box::new(move |core| {
        let mut key = keys(core);
        Box::new(move || lock.hold(black_box(key()), || ()))
    })
}

fn one_key<L: KeyLock<u64> + Send + 'static>(lock: L) -> Share {
    let lock = shared(lock);
    let counter: &CachePadded<AtomicU64> = shared(CachePadded::default());
    Box::new(move |_| {
        Box::new(move || {
            lock.hold(black_box(7), || {
                // Relaxed: under the lock.
                let seen = counter.load(Ordering::Relaxed);
                counter.store(seen + 1, Ordering::Relaxed);
            });
        })
    })
}

/// One lock whatever the key, on a line of its own.
#[repr(align(128))]
struct OnLine<L>(L);

impl KeyLock<u64> for OnLine<parking_lot::Mutex<()>> {
    fn hold<R>(&self, _: u64, body: impl FnOnce() -> R) -> R {
        let _guard = self.0.lock();
        body()
    }
}

impl KeyLock<u64> for OnLine<std::sync::Mutex<()>> {
    fn hold<R>(&self, _: u64, body: impl FnOnce() -> R) -> R {
        let _guard = self.0.lock().expect("nobody panics");
        body()
    }
}

impl KeyLock<u64> for OnLine<std::sync::RwLock<()>> {
    fn hold<R>(&self, _: u64, body: impl FnOnce() -> R) -> R {
        let _guard = self.0.read().expect("nobody panics");
        body()
    }
}
