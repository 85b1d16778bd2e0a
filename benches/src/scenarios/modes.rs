//! Locks by key in two modes: some threads share a key, others have it for themselves.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;
use latchwork::{Fairness, LockTable, Mode, RandomState};

use super::{Axis, Contender, Load, Scenario, Setting, mixed, until};
use crate::peers::{ModeLock, PaddedRwLocks, PaddedStdRwLocks};
use crate::workload::{Rng, spread_keys};

const SOME: usize = 16;

/// Two counters that only a lock keeps equal.
#[derive(Debug, Default)]
struct Twins([AtomicU64; 2]);

impl Twins {
    /// Returns both values, which differ if a thread writes at the same time.
    fn look(&self) -> [u64; 2] {
        // Relaxed: the lock orders it.
        self.0.each_ref().map(|n| n.load(Ordering::Relaxed))
    }

    fn bump(&self) {
        let [one, other] = self.look();
        // Relaxed: as above.
        self.0[0].store(one + 1, Ordering::Relaxed);
        self.0[1].store(other + 1, Ordering::Relaxed);
    }
}

/// A load in which a part of all locks, as large as the setting's value, is exclusive.
fn mixed_modes<L: ModeLock + Send + 'static>(
    make: impl Fn(&RandomState) -> L + 'static,
) -> impl Fn(Setting) -> Load + 'static {
    move |setting| {
        let hasher = RandomState::default();
        let (locks, keys) = (make(&hasher), spread_keys(SOME, &hasher));
        let twins: Arc<[CachePadded<Twins>; SOME]> = Arc::default();
        let exclusive = Arc::new(AtomicU64::new(0));
        let (left, counted) = (twins.clone(), exclusive.clone());
        let plans = setting.each(|seed| mixed(setting.value, seed));
        Load::new(
            move |index, stop, times| {
                let (mut rng, mut own) = (Rng::new(setting.seed_of(index)), 0);
                let done = until(&plans[index], stop, times, |writes| {
                    let at = rng.next() as usize & (SOME - 1);
                    if *writes {
                        locks.hold_in(keys[at], Mode::Exclusive, || twins[at].bump());
                        own += 1;
                    } else {
                        let [one, other] =
                            locks.hold_in(keys[at], Mode::Shared, || black_box(twins[at].look()));
                        assert_eq!(one, other, "somebody wrote beside a reader");
                    }
                });
                exclusive.fetch_add(own, Ordering::Relaxed);
                done
            },
            move |_| {
                let sum: u64 = left.iter().map(|twins| twins.look()[0]).sum();
                let expected = counted.load(Ordering::Relaxed);
                assert_eq!(sum, expected, "two threads were inside at once");
            },
        )
    }
}

fn table(fairness: Fairness) -> impl Fn(&RandomState) -> LockTable<u64> {
    move |hasher| {
        let builder = LockTable::builder().hasher(hasher.clone());
        builder.fairness(fairness).build()
    }
}

fn array<const N: usize>(hasher: &RandomState) -> PaddedRwLocks<N> {
    PaddedRwLocks::new(hasher.clone())
}

fn std_array<const N: usize>(hasher: &RandomState) -> PaddedStdRwLocks<N> {
    PaddedStdRwLocks::new(hasher.clone())
}

pub(super) fn all() -> Vec<Scenario> {
    let fixed = "weaker: an array made for these keys, and each key has a lock of its own by luck of its hash";
    let global = "weaker: writers of different keys exclude each other, and readers of others";
    vec![Scenario {
        name: "modes",
        set: "locks",
        title: "Does a shared mode pay, and up to which part of writers?",
        prose: "Two threads for each core lock a random one of 16 keys: a part of them exclusively, to add one to two counters, \
                the others shared, to see that the two are equal.",
        axis: Axis::Value {
            label: "part of locks that are exclusive",
            values: &[0.0, 0.01, 0.1, 0.5, 1.0],
            per_core: 2,
        },
        every: 16,
        contenders: vec![
            Contender::ours("LockTable", mixed_modes(table(Fairness::Eventual))),
            Contender::ours("LockTable, Fifo", mixed_modes(table(Fairness::Fifo))),
            Contender::peer("parking_lot, each key", fixed, mixed_modes(array::<SOME>)),
            Contender::peer("std, each key", fixed, mixed_modes(std_array::<SOME>)),
            Contender::peer("parking_lot, one for all", global, mixed_modes(array::<1>)),
            Contender::peer("std, one for all", global, mixed_modes(std_array::<1>)),
        ],
        pessimist: None,
    }]
}
