//! From shared to exclusive while others share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::probe::Seen;

const UPGRADES: u64 = 500;

/// Lets three threads `read` until `upgrade` was called so many times.
fn among_readers(read: impl Fn() + Sync, upgrade: impl Fn()) -> Seen {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    read();
                }
            });
        }
        (0..UPGRADES).for_each(|_| upgrade());
        stop.store(true, Ordering::Relaxed);
    });
    Seen::Nothing(format!("{UPGRADES} upgrades came to an end"))
}

pub(crate) mod parking_lot {
    use std::sync::Barrier;
    use std::thread;

    use parking_lot::{RwLock, RwLockUpgradableReadGuard};

    use crate::probe::Seen;

    pub(crate) fn among_readers() -> Seen {
        let lock = RwLock::new(());
        super::among_readers(
            || {
                let _guard = lock.read();
                thread::yield_now();
            },
            || drop(RwLockUpgradableReadGuard::upgrade(lock.upgradable_read())),
        )
    }

    pub(crate) fn beside_a_reader() -> Seen {
        let lock = RwLock::new(());
        let shared = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                let _first = lock.read();
                shared.wait();
                // A reader that is refused has seen the upgrade wait.
                while lock.try_read().is_some() {
                    thread::yield_now();
                }
                let _second = lock.read();
            });
            shared.wait();
            drop(RwLockUpgradableReadGuard::upgrade(lock.upgradable_read()));
        });
        Seen::Nothing("the second read was let in".to_owned())
    }

    pub(crate) fn two() -> Seen {
        let lock = RwLock::new(());
        let one = lock.upgradable_read();
        if lock.try_upgradable_read().is_some() {
            return Seen::Bug("both may upgrade".to_owned());
        }
        drop(RwLockUpgradableReadGuard::upgrade(one));
        Seen::Nothing("only one at a time may read in order to upgrade".to_owned())
    }
}

pub(crate) mod latchwork {
    use std::thread;

    use latchwork::LockTable;

    use crate::probe::Seen;

    pub(crate) fn among_readers() -> Seen {
        let table = LockTable::<u64>::new();
        super::among_readers(
            || {
                let _guard = table.lock_shared(&1);
                thread::yield_now();
            },
            // A thread that is refused releases its shared lock and waits as a writer.
            || match table.lock_shared(&1).try_upgrade() {
                Ok(guard) => drop(guard),
                Err(shared) => {
                    drop(shared);
                    drop(table.lock(&1));
                }
            },
        )
    }

    pub(crate) fn beside_a_reader() -> Seen {
        let table = LockTable::<u64>::new();
        let _first = table.lock_shared(&1);
        let upgrade = table.lock_shared(&1).try_upgrade();
        let refused = upgrade.is_err();
        // Kept, granted or not.
        let _second = (upgrade, table.lock_shared(&1));
        if refused {
            Seen::Nothing("the upgrade was refused and the second read let in".to_owned())
        } else {
            Seen::Bug("upgraded beside a reader".to_owned())
        }
    }

    pub(crate) fn two() -> Seen {
        let table = LockTable::<u64>::new();
        let (one, two) = (table.lock_shared(&1), table.lock_shared(&1));
        match (one.try_upgrade(), two.try_upgrade()) {
            (Err(one), Err(two)) => {
                drop(one);
                match two.try_upgrade() {
                    Ok(_) => Seen::Nothing("refused until the other has left".to_owned()),
                    Err(_) => Seen::Bug("refused to the only holder".to_owned()),
                }
            }
            _ => Seen::Bug("upgraded beside a reader".to_owned()),
        }
    }
}
