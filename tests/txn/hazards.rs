//! What goes wrong in other transactional memories, each with a floor on the work that must be done
//! meanwhile.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;

use crate::common::{Rng, watchdog, write_elsewhere};
use latchwork::{Transaction, VersionedCell, atomically, snapshot, stats};

/// Two that want the same two cells in opposite orders do not keep each other from committing.
#[test]
fn opposite_orders_make_progress() {
    const EACH: u64 = 5_000;
    let _dog = watchdog("opposite_orders_make_progress");
    let pairs: Vec<_> = (0..20).map(|_| [0, 0].map(VersionedCell::new)).collect();
    thread::scope(|s| {
        for (first, second) in [(0, 1), (1, 0)] {
            let pairs = &pairs;
            s.spawn(move || {
                for n in 0..EACH {
                    let pair = &pairs[n as usize % pairs.len()];
                    atomically(|tx| {
                        tx.update(&pair[first], |n| n + 1)?;
                        if n % 16 == 0 {
                            thread::yield_now();
                        }
                        tx.update(&pair[second], |n| n + 1)
                    });
                }
            });
        }
    });
    for [a, b] in &pairs {
        assert_eq!((a.get(), b.get()), (EACH / 10, EACH / 10));
        assert_eq!(
            (a.version().get(), b.version().get()),
            (EACH / 10, EACH / 10)
        );
    }
}

/// Who shares no cell with anybody loses to nobody.
#[test]
fn disjoint_transactions_are_never_lost() {
    const EACH: u64 = 3_000;
    const LABEL: &str = "disjoint";
    let _dog = watchdog("disjoint_transactions_are_never_lost");
    thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| {
                let cells: Vec<_> = (0..20).map(|_| VersionedCell::new(0_u64)).collect();
                let transaction = Transaction::builder().label(LABEL);
                for n in 0..EACH {
                    // Also more than are looked through at each read, and reads of what is not
                    // written.
                    let all = if n % 8 == 0 { 20 } else { 3 };
                    let committed = transaction.run(|tx| {
                        for (i, cell) in cells.iter().take(all).enumerate() {
                            match i % 3 {
                                0 => {
                                    tx.read(cell)?;
                                }
                                1 => tx.update(cell, |n| n + 1)?,
                                _ => tx.set(cell, n)?,
                            }
                        }
                        if n % 64 == 0 {
                            thread::yield_now();
                        }
                        Ok(())
                    });
                    assert_eq!(committed, Ok(()));
                }
                assert_eq!(cells[1].get(), EACH);
            });
        }
    });
    let labels = stats().labels;
    let label = labels.iter().find(|of| of.label == LABEL);
    let label = label.expect("they were counted");
    assert_eq!((label.commits, label.aborts.total()), (4 * EACH, 0));
}

/// Two doctors on call; either may leave while the other stays. Both look at both and write one.
#[test]
fn write_skew_is_never_seen() {
    const LEAVES: u64 = 1_000;
    let _dog = watchdog("write_skew_is_never_seen");
    let on_call = [true, true].map(VersionedCell::new);
    let left = [0, 0].map(AtomicU64::new);
    let nobody = || snapshot(|s| on_call.iter().all(|doctor| !s.read(doctor)));
    let stop = AtomicBool::new(false);
    thread::scope(|s| {
        for me in 0..2 {
            let (on_call, left, stop) = (&on_call, &left, &stop);
            s.spawn(move || {
                while !stop.load(Relaxed) {
                    let leaves = atomically(|tx| {
                        let other = *tx.read(&on_call[1 - me])?;
                        let this = *tx.read(&on_call[me])?;
                        assert!(this || other, "nobody is on call");
                        if other {
                            tx.set(&on_call[me], false)?;
                        }
                        Ok(other)
                    });
                    if leaves {
                        left[me].fetch_add(1, Relaxed);
                        if left[me].load(Relaxed) % 8 == 0 {
                            thread::yield_now();
                        }
                        atomically(|tx| tx.set(&on_call[me], true));
                    }
                }
            });
        }
        while left.iter().any(|left| left.load(Relaxed) < LEAVES) {
            if nobody() {
                stop.store(true, Relaxed);
                panic!("nobody is on call");
            }
        }
        stop.store(true, Relaxed);
    });
}

/// Not even in an attempt that will be lost.
#[test]
fn no_closure_sees_two_cells_differ_that_never_do() {
    const ENOUGH: u64 = 2_000;
    let _dog = watchdog("no_closure_sees_two_cells_differ_that_never_do");
    // The first and the last of many, so that a reader may meet them in any of the ways it reads.
    let cells: Vec<_> = (0..40).map(|_| VersionedCell::new(0_u64)).collect();
    let (stop, writes) = (AtomicBool::new(false), AtomicU64::new(0));
    let (closures, differed) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|s| {
        for seed in 1..=2 {
            let (cells, stop, writes) = (&cells, &stop, &writes);
            s.spawn(move || {
                let mut rng = Rng::new(seed);
                while !stop.load(Relaxed) {
                    let value = rng.draw();
                    atomically(|tx| {
                        tx.set(&cells[0], value)?;
                        tx.set(&cells[39], value)
                    });
                    writes.fetch_add(1, Relaxed);
                }
            });
        }
        let mut rng = Rng::new(0);
        while closures.load(Relaxed) < ENOUGH || writes.load(Relaxed) < ENOUGH {
            let (between, writing) = (rng.below(39) as usize, rng.one_in(2));
            atomically(|tx| {
                closures.fetch_add(1, Relaxed);
                let first = *tx.read(&cells[0])?;
                for cell in cells.iter().skip(1).take(between) {
                    tx.read(cell)?;
                }
                if writing {
                    tx.update(&cells[20], |n| n + 1)?;
                }
                thread::yield_now();
                if *tx.read(&cells[39])? != first {
                    differed.fetch_add(1, Relaxed);
                }
                Ok(())
            });
        }
        stop.store(true, Relaxed);
    });
    assert_eq!(differed.into_inner(), 0);
}

/// Who only reads commits beside those who write all the time, and sees one moment.
#[test]
fn transactions_that_only_read_commit_beside_writers() {
    const FUNDS: i64 = 100;
    let _dog = watchdog("transactions_that_only_read_commit_beside_writers");
    for (accounts, enough) in [(2, 2_000), (12, 1_000), (200, 100)] {
        let cells: Vec<_> = (0..accounts).map(|_| VersionedCell::new(FUNDS)).collect();
        let (stop, transfers) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|s| {
            for seed in 0..2 {
                let (cells, stop, transfers) = (&cells, &stop, &transfers);
                s.spawn(move || {
                    let mut rng = Rng::new(seed);
                    while !stop.load(Relaxed) {
                        let from = rng.below(accounts) as usize;
                        let to = rng.below(accounts) as usize;
                        atomically(|tx| {
                            tx.update(&cells[from], |n| n - 1)?;
                            tx.update(&cells[to], |n| n + 1)
                        });
                        transfers.fetch_add(1, Relaxed);
                    }
                });
            }
            let mut reads = 0;
            while reads < enough || transfers.load(Relaxed) < enough {
                let sum = atomically(|tx| {
                    let mut sum = 0;
                    for cell in &cells {
                        sum += tx.read(cell)?;
                    }
                    Ok(sum)
                });
                assert_eq!(sum, FUNDS * accounts as i64);
                reads += 1;
            }
            stop.store(true, Relaxed);
        });
    }
}

/// A producer and a consumer that share one cell, and sleep whenever it is not their turn. A
/// wake-up that is lost would leave both asleep.
#[test]
fn no_wake_up_of_a_retry_is_lost() {
    const LETTERS: u64 = 5_000;
    let _dog = watchdog("no_wake_up_of_a_retry_is_lost");
    let mailbox = VersionedCell::new(None);
    thread::scope(|s| {
        s.spawn(|| {
            for letter in 0..LETTERS {
                atomically(|tx| match tx.read(&mailbox)? {
                    Some(_) => tx.retry(),
                    None => tx.set(&mailbox, Some(letter)),
                });
            }
        });
        for expected in 0..LETTERS {
            let letter = atomically(|tx| match *tx.read(&mailbox)? {
                Some(letter) => tx.set(&mailbox, None).map(|()| letter),
                None => tx.retry(),
            });
            assert_eq!(letter, expected);
        }
    });
    assert_eq!(
        (mailbox.get(), mailbox.version().get()),
        (None, 2 * LETTERS)
    );
}

/// The same between a transaction of two cells and somebody who writes and waits for cells one at a
/// time.
#[test]
fn no_wake_up_between_transactions_and_single_writes_is_lost() {
    const ROUNDS: u64 = 3_000;
    let _dog = watchdog("no_wake_up_between_transactions_and_single_writes_is_lost");
    let (question, answer, log) = (
        VersionedCell::new(0),
        VersionedCell::new(0),
        VersionedCell::new(0),
    );
    thread::scope(|s| {
        s.spawn(|| {
            for round in 1..=ROUNDS {
                let seen = answer.version();
                question.set(round);
                answer.wait_changed(seen);
                assert_eq!(answer.get(), round);
            }
        });
        for round in 1..=ROUNDS {
            atomically(|tx| {
                if *tx.read(&question)? < round {
                    return tx.retry();
                }
                tx.set(&answer, round)?;
                tx.update(&log, |n| n + 1)
            });
        }
    });
    assert_eq!(log.get(), ROUNDS);
}

/// Many sleep at the same few cells, and each change is for one of them.
#[test]
fn a_crowd_that_waits_is_served() {
    const EACH: u64 = 400;
    let _dog = watchdog("a_crowd_that_waits_is_served");
    let (slots, taken) = ([None, None].map(VersionedCell::new), AtomicU64::new(0));
    thread::scope(|s| {
        for consumer in 0..4 {
            let (slots, taken) = (&slots, &taken);
            s.spawn(move || {
                let (one, other) = (&slots[consumer % 2], &slots[1 - consumer % 2]);
                for _ in 0..EACH {
                    let letter: u64 = atomically(|tx| {
                        for slot in [one, other] {
                            if let Some(letter) = *tx.read(slot)? {
                                tx.set(slot, None)?;
                                return Ok(letter);
                            }
                        }
                        tx.retry()
                    });
                    taken.fetch_add(letter, Relaxed);
                }
            });
        }
        for producer in 0..2 {
            let slots = &slots;
            s.spawn(move || {
                for letter in 1..=2 * EACH {
                    atomically(|tx| match tx.read(&slots[producer])? {
                        Some(_) => tx.retry(),
                        None => tx.set(&slots[producer], Some(letter)),
                    });
                }
            });
        }
    });
    assert_eq!(taken.into_inner(), 2 * EACH * (2 * EACH + 1));
    assert!(slots.iter().all(|slot| slot.get().is_none()));
}

/// Somebody who looks at two cells again and again does not keep a transaction of thousands from
/// committing.
#[test]
fn a_stream_of_snapshots_does_not_hold_up_a_large_transaction() {
    let _dog = watchdog("a_stream_of_snapshots_does_not_hold_up_a_large_transaction");
    let cells: Vec<_> = (0..5_000).map(|_| VersionedCell::new(0_u64)).collect();
    let (stop, looks) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|s| {
        s.spawn(|| {
            while !stop.load(Relaxed) {
                let [a, b] = snapshot(|s| [&cells[0], &cells[4_999]].map(|cell| *s.read(cell)));
                assert_eq!(a, b);
                looks.fetch_add(1, Relaxed);
            }
        });
        for n in 1..=5 {
            let before = looks.load(Relaxed);
            atomically(|tx| {
                for (i, cell) in cells.iter().enumerate() {
                    // What is only read keeps it from being decided at once.
                    if (n, i) == (2, 7) || (n, i) == (4, 7) {
                        tx.read(cell)?;
                    } else {
                        tx.set(cell, n)?;
                    }
                }
                Ok(())
            });
            while looks.load(Relaxed) < before + 100 {
                thread::yield_now();
            }
        }
        stop.store(true, Relaxed);
    });
    assert!(cells.iter().all(|cell| cell.get() == 5));
}

/// Two transactions with ages own a cell each, and want that of the other behind the transaction's
/// back.
#[test]
fn closures_that_write_cells_of_each_other_do_not_wait_for_ever() {
    let _dog = watchdog("closures_that_write_cells_of_each_other_do_not_wait_for_ever");
    fn set(cell: &VersionedCell<u32>) {
        cell.update(|n| n + 1);
    }
    fn run(cell: &VersionedCell<u32>) {
        atomically(|tx| tx.update(cell, |n| n + 1));
    }
    for want in [set, run] {
        let cells = [VersionedCell::new(0), VersionedCell::new(0)];
        let both_own = Barrier::new(2);
        let (cells, both_own) = (&cells, &both_own);
        thread::scope(|s| {
            for me in 0..2 {
                s.spawn(move || {
                    let lost_at: Vec<_> = (0..8).map(|_| VersionedCell::new(0)).collect();
                    let mut attempts = 0;
                    atomically(|tx| {
                        attempts += 1;
                        if let Some(lost_at) = lost_at.get(attempts - 1) {
                            tx.read(lost_at)?;
                            write_elsewhere(lost_at, 1);
                        }
                        // From the ninth on it owns what it meets.
                        tx.update(&cells[me], |n| n + 100)?;
                        if attempts == lost_at.len() + 1 {
                            both_own.wait();
                        }
                        if attempts > lost_at.len() {
                            want(&cells[1 - me]);
                        }
                        Ok(())
                    });
                });
            }
        });
        assert!(cells.iter().all(|cell| cell.get() >= 101));
    }
}
