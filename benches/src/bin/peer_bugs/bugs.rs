//! The bugs, and the locks in which they are searched.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use crate::by_key::{self, Keys, Tasks, Threads};
use crate::probe::{Seen, run};
use crate::{collide, rw, upgrade};

/// A bug to search for.
pub(crate) struct Bug {
    pub(crate) name: &'static str,
    /// The actions of the probe.
    pub(crate) probe: &'static str,
    pub(crate) look: fn() -> Found,
}

/// The observations of one bug.
pub(crate) struct Found {
    pub(crate) peers: Vec<(&'static str, Seen)>,
    pub(crate) latchwork: Seen,
}

pub(crate) const ALL: &[Bug] = &[
    Bug {
        name: "a cancelled waiter leaves its entry",
        probe: "1,000 keys, one after the other: a task holds the key, another waits for it, the first leaves, the \
                second is dropped. Counted is what the table still keeps when all is over.",
        look: || Found {
            peers: vec![
                ("lockable", run(cancelled::<by_key::Lockable>)),
                ("keyed-lock, async", run(cancelled::<by_key::KeyedTasks>)),
                ("key-mutex, tokio", run(cancelled::<by_key::KeyMutexTasks>)),
            ],
            latchwork: run(cancelled::<by_key::Latchwork>),
        },
    },
    Bug {
        name: "clean-up removes an entry that another has found",
        probe: "Four threads lock and unlock one key while a fifth calls the crate's clean-up, where it has one, for \
                two seconds. Counted are the times that a thread found another inside.",
        look: || Found {
            peers: vec![
                ("key-lock", run(two_holders::<by_key::KeyLock>)),
                ("key-mutex", run(two_holders::<by_key::KeyMutexThreads>)),
                ("keyed-lock, sync", run(two_holders::<by_key::KeyedThreads>)),
                ("lockable", run(two_holders::<by_key::Lockable>)),
                ("lockmap", run(two_holders::<by_key::Lockmap>)),
            ],
            latchwork: run(two_holders::<by_key::Latchwork>),
        },
    },
    Bug {
        name: "unlock before the reference count goes down",
        probe: "Four threads lock and unlock the same keys, each key eight times and then never again, for five \
                seconds or eight million locks. Counted are the keys that are still there at the end.",
        look: || Found {
            peers: vec![
                (
                    "keyed-lock, sync",
                    run(left_together::<by_key::KeyedThreads>),
                ),
                ("key-mutex", run(left_together::<by_key::KeyMutexThreads>)),
                ("lockable", run(left_together::<by_key::Lockable>)),
                ("lockmap", run(left_together::<by_key::Lockmap>)),
            ],
            latchwork: run(left_together::<by_key::Latchwork>),
        },
    },
    Bug {
        name: "readers behind a writer that gave up are not told",
        probe: "A reader holds the lock, a writer waits and gives up (a thread by a timeout, a task by being \
                dropped), and a reader that queued behind it must be let in beside the first.",
        look: || Found {
            peers: vec![
                ("parking_lot", run(rw::parking_lot_timeout)),
                ("tokio", run(behind_a_dropped_writer::<rw::Tokio>)),
                ("saa", run(behind_a_dropped_writer::<rw::Saa>)),
            ],
            latchwork: both(
                run(rw::latchwork_timeout),
                run(behind_a_dropped_writer::<rw::Latchwork>),
            ),
        },
    },
    Bug {
        name: "an upgrade waits while new readers keep coming",
        probe: "A thread upgrades 500 times while three others read without a pause.",
        look: || Found {
            peers: vec![("parking_lot", run(upgrade::parking_lot::among_readers))],
            latchwork: run(upgrade::latchwork::among_readers),
        },
    },
    Bug {
        name: "an upgrade and a reader that reads again wait for each other",
        probe: "A thread reads; another starts to upgrade; the first reads once more before it leaves. \
                (`parking_lot` warns of a second `read`; a plain writer that queues in between stops it in both \
                crates.)",
        look: || Found {
            peers: vec![("parking_lot", run(upgrade::parking_lot::beside_a_reader))],
            latchwork: run(upgrade::latchwork::beside_a_reader),
        },
    },
    Bug {
        name: "two upgraders wait for each other",
        probe: "Two that read both ask to upgrade: one of them must be refused.",
        look: || Found {
            peers: vec![("parking_lot", run(upgrade::parking_lot::two))],
            latchwork: run(upgrade::latchwork::two),
        },
    },
    Bug {
        name: "a grant to a cancelled waiter is lost",
        probe: "Two tasks wait; the holder leaves, and the first of them is dropped before it looks. The second must \
                get the lock. 1,000 times.",
        look: || Found {
            peers: vec![
                ("tokio", run(lost_grant::<rw::Tokio>)),
                ("saa", run(lost_grant::<rw::Saa>)),
                ("lockable", run(lost_grant_by_key::<by_key::Lockable>)),
                (
                    "keyed-lock, async",
                    run(lost_grant_by_key::<by_key::KeyedTasks>),
                ),
                (
                    "key-mutex, tokio",
                    run(lost_grant_by_key::<by_key::KeyMutexTasks>),
                ),
                ("key-lock", run(lost_grant_by_key::<by_key::KeyLock>)),
            ],
            latchwork: both(
                run(lost_grant::<rw::Latchwork>),
                run(lost_grant_by_key::<by_key::Latchwork>),
            ),
        },
    },
    Bug {
        name: "the count of readers overflows",
        probe: "100,000 readers of one lock, none of which leaves; no writer is about.",
        look: || Found {
            peers: vec![
                ("saa", run(refused_readers::<rw::Saa>)),
                ("parking_lot", run(refused_readers::<rw::ParkingLot>)),
                ("tokio", run(refused_readers::<rw::Tokio>)),
                ("std", run(refused_readers::<rw::Std>)),
            ],
            latchwork: run(refused_readers::<rw::Latchwork>),
        },
    },
    Bug {
        name: "keys of one hash lock themselves out",
        probe: "Twenty keys that a hasher gives one hash are locked together.",
        look: || Found {
            peers: vec![("lockmap", run(collide::lockmap))],
            latchwork: run(collide::latchwork),
        },
    },
];

/// Two probes of one subject.
fn both(one: Seen, other: Seen) -> Seen {
    match (one, other) {
        (Seen::Nothing(one), Seen::Nothing(other)) if one == other => Seen::Nothing(one),
        (Seen::Nothing(one), Seen::Nothing(other)) => Seen::Nothing(format!("{one}; {other}")),
        (Seen::Nothing(_), worse) | (worse, _) => worse,
    }
}

fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn ready<F: Future>(future: F) -> F::Output {
    match poll(pin!(future)) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("nobody is in the way"),
    }
}

const KEYS: u64 = 1_000;

fn cancelled<L: Tasks>() -> Seen {
    let (locks, keys) = (L::default(), Keys::default());
    for id in 0..KEYS {
        let holder = ready(locks.lock(keys.key(id)));
        let mut waiter = Box::pin(locks.lock(keys.key(id)));
        assert!(poll(waiter.as_mut()).is_pending(), "the key is held");
        drop(holder);
        drop(waiter);
    }
    Seen::count(locks.left(&keys), KEYS, "entries are left")
}

fn two_holders<L: Threads>() -> Seen {
    let (locks, keys) = (L::default(), Keys::default());
    let (inside, twice, locked) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    locks.hold(keys.key(1), || {
                        if inside.fetch_add(1, Ordering::SeqCst) != 0 {
                            twice.fetch_add(1, Ordering::Relaxed);
                        }
                        inside.fetch_sub(1, Ordering::SeqCst);
                    });
                    locked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(2) {
            locks.clean();
            thread::yield_now();
        }
        stop.store(true, Ordering::Relaxed);
    });
    Seen::count(
        twice.into_inner(),
        locked.into_inner(),
        "locks found another inside",
    )
}

fn left_together<L: Threads>() -> Seen {
    const EACH: u64 = 8;
    const LOCKS: u64 = 8_000_000;
    let (locks, keys) = (L::default(), Keys::default());
    let turn = AtomicU64::new(0);
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while start.elapsed() < Duration::from_secs(5) {
                    let turn = turn.fetch_add(1, Ordering::Relaxed);
                    if turn >= LOCKS {
                        return;
                    }
                    locks.hold(keys.key(turn / EACH), || ());
                }
            });
        }
    });
    let used = turn.into_inner().min(LOCKS).div_ceil(EACH);
    Seen::count(locks.left(&keys), used, "keys are still there")
}

fn behind_a_dropped_writer<L: rw::Tasks>() -> Seen {
    let lock = L::default();
    let _held = ready(lock.read());
    let mut writer = Box::pin(lock.write());
    assert!(poll(writer.as_mut()).is_pending(), "a reader is inside");
    let mut reader = Box::pin(lock.read());
    let queued = poll(reader.as_mut()).is_pending();
    drop(writer);
    if !queued {
        return Seen::Nothing("readers do not queue behind a writer".to_owned());
    }
    if poll(reader.as_mut()).is_ready() {
        Seen::Nothing("a reader that queued behind the writer was let in".to_owned())
    } else {
        Seen::Bug("a reader that queued behind the writer waits on".to_owned())
    }
}

fn lost_grant<L: rw::Tasks>() -> Seen {
    let lost = (0..KEYS).filter(|_| {
        let lock = L::default();
        let holder = ready(lock.write());
        is_lost(holder, [(); 2].map(|()| Box::pin(lock.write())))
    });
    Seen::count(lost.count() as u64, KEYS, "grants were lost")
}

fn lost_grant_by_key<L: Tasks>() -> Seen {
    let (locks, keys) = (L::default(), Keys::default());
    let lost = (0..KEYS).filter(|&id| {
        let holder = ready(locks.lock(keys.key(id)));
        is_lost(holder, [(); 2].map(|()| Box::pin(locks.lock(keys.key(id)))))
    });
    Seen::count(lost.count() as u64, KEYS, "grants were lost")
}

/// Whether the second of two waiters does not get a lock that was granted to the first, which does
/// not accept it.
fn is_lost<G, F: Future>(holder: G, mut waiters: [Pin<Box<F>>; 2]) -> bool {
    for waiter in &mut waiters {
        assert!(poll(waiter.as_mut()).is_pending(), "the lock is held");
    }
    let [first, mut second] = waiters;
    drop(holder);
    drop(first);
    poll(second.as_mut()).is_pending()
}

fn refused_readers<L: rw::TryRead>() -> Seen {
    const READERS: u64 = 100_000;
    let lock = L::default();
    let admitted = (0..READERS).take_while(|_| lock.admit()).count() as u64;
    if admitted == READERS {
        Seen::Nothing(format!("{READERS} readers were let in"))
    } else {
        Seen::Bug(format!("reader {} was refused", admitted + 1))
    }
}
