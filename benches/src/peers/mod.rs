//! The lock table and its peers, behind two traits, so that one loop measures all of them.

mod crates;
mod modes;
mod one;
mod striped;
mod table;
mod tasks;

pub use crates::{Dash, Keyed, Lockmap, Pool, Scc, TryPool};
pub use modes::ModeLock;
pub use one::{OneFairMutex, OneMutex, OneStdMutex, OneTokioMutex};
pub use striped::{
    PaddedMutexes, PaddedRwLocks, PaddedStdMutexes, PaddedStdRwLocks, STRIPES, Striped, TryThree,
};
pub use table::{Exclusive, Shared, TryAll};
pub use tasks::{AsyncKeyLock, AsyncKeyed, AsyncPool, AsyncTable, TokioMutexes};

/// A structure that can be locked by key.
///
/// Keys are passed by value, as most peers require them: a `u64` or a `&'static str`.
pub trait KeyLock<K: Copy>: Sync {
    /// Runs `body` while `key` is locked.
    fn hold<R>(&self, key: K, body: impl FnOnce() -> R) -> R;
}

impl<K: Copy, L: KeyLock<K>> KeyLock<K> for &L {
    #[inline]
    fn hold<R>(&self, key: K, body: impl FnOnce() -> R) -> R {
        L::hold(self, key, body)
    }
}

/// Something of which three keys can be locked together without a danger of deadlock.
pub trait HoldThree: Sync {
    /// Runs `body` while all of `keys` are locked. They may repeat.
    fn hold_three<R>(&self, keys: [u64; 3], body: impl FnOnce() -> R) -> R;
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use latchwork::{LockTable, RandomState};

    use super::*;
    use crate::workload::{Counters, distinct_keys, increments};

    /// Two threads bump unprotected counters under `peer`; a lost count is a broken peer or a
    /// broken wrapper.
    fn excludes<L: KeyLock<u64>>(peer: &L) {
        let keys = distinct_keys(2, 5);
        let counters = Counters::new(keys.len());
        let stop = AtomicBool::new(false);
        let done: u64 = thread::scope(|scope| {
            let work = |seed| increments(peer, &keys, &counters, seed, &stop);
            let crowd = [scope.spawn(move || work(1)), scope.spawn(move || work(2))];
            while counters.sum() < 10_000 {
                thread::yield_now();
            }
            stop.store(true, Ordering::Relaxed);
            crowd
                .into_iter()
                .map(|thread| thread.join().expect("no panic"))
                .sum()
        });
        assert_eq!(counters.sum(), done);
    }

    #[test]
    fn every_peer_excludes() {
        excludes(&Exclusive(LockTable::<u64>::new()));
        excludes(&PaddedMutexes::<64>::new(RandomState::default()));
        excludes(&Lockmap::new());
        excludes(&Keyed::new());
        excludes(&Pool::new());
        excludes(&Dash::new());
        excludes(&Scc::new());
        excludes(&PaddedStdMutexes::<64>::new(RandomState::default()));
        excludes(&OneMutex::default());
        excludes(&OneFairMutex::default());
        excludes(&OneStdMutex::default());
        excludes(&OneTokioMutex::default());
    }

    #[test]
    fn three_keys_may_repeat() {
        fn runs<L: HoldThree>(peer: &L) {
            for keys in [[1, 2, 3], [3, 3, 1], [1, 3, 3], [2, 2, 2]] {
                assert_eq!(peer.hold_three(keys, || 7), 7);
            }
        }
        // One lock for all keys: every index repeats.
        runs(&PaddedMutexes::<1>::new(RandomState::default()));
        runs(&TryThree(PaddedMutexes::<1>::new(RandomState::default())));
        runs(&PaddedMutexes::<64>::new(RandomState::default()));
        runs(&Exclusive(LockTable::<u64>::new()));
        runs(&TryAll(LockTable::<u64>::new()));
        runs(&Lockmap::new());
    }
}
