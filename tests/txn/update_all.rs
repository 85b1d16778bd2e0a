//! Updates of a few cells without a log, call by call and beside everything else that writes cells.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{Rng, watchdog, write_elsewhere};
use latchwork::{
    Transaction, TxError, VersionedCell, atomically,
    cell::Version,
    snapshot,
    txn::{TxAbort, try_update_all},
    update_all,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

fn state<T: Clone + Send + Sync>(cells: &[VersionedCell<T>]) -> Vec<(T, u64)> {
    cells.iter().map(|c| (c.get(), c.version().get())).collect()
}

/// Each number of cells, of one type and of several.
#[test]
fn sets_of_every_size_are_written_at_once() {
    let cells: [_; 8] = std::array::from_fn(VersionedCell::new);
    let [a, b, c, d, e, f, g, h] = &cells;
    let mut writes = [0; 8];
    let mut check = |n: usize, versions: &[Version]| {
        for (i, writes) in writes.iter_mut().take(n).enumerate() {
            *writes += 1;
            assert_eq!(versions[i].get(), *writes);
        }
        let expected: Vec<_> = (0..8)
            .map(|i| (i + 10 * writes[i] as usize, writes[i]))
            .collect();
        assert_eq!((versions.len(), state(&cells)), (n, expected));
    };
    let made = update_all((a, b), |(a, b)| (a + 10, b + 10));
    check(2, &made);
    let made = update_all((a, b, c), |(a, b, c)| (a + 10, b + 10, c + 10));
    check(3, &made);
    let made = update_all((a, b, c, d), |(a, b, c, d)| {
        (a + 10, b + 10, c + 10, d + 10)
    });
    check(4, &made);
    let made = update_all((a, b, c, d, e), |(a, b, c, d, e)| {
        (a + 10, b + 10, c + 10, d + 10, e + 10)
    });
    check(5, &made);
    let made = update_all((a, b, c, d, e, f), |(a, b, c, d, e, f)| {
        (a + 10, b + 10, c + 10, d + 10, e + 10, f + 10)
    });
    check(6, &made);
    let made = update_all((a, b, c, d, e, f, g), |(a, b, c, d, e, f, g)| {
        (a + 10, b + 10, c + 10, d + 10, e + 10, f + 10, g + 10)
    });
    check(7, &made);
    let made = update_all((a, b, c, d, e, f, g, h), |(a, b, c, d, e, f, g, h)| {
        (
            a + 10,
            b + 10,
            c + 10,
            d + 10,
            e + 10,
            f + 10,
            g + 10,
            h + 10,
        )
    });
    check(8, &made);
    // Each of them lost no attempt.
    let add = |n: &usize| n + 10;
    check(8, &update_all(cells.each_ref(), |all| all.map(add)));
    check(1, &update_all([a], |all| all.map(add)));
    check(3, &update_all([a, b, c], |all| all.map(add)));

    let (number, text) = (VersionedCell::new(1), VersionedCell::new("one".to_owned()));
    update_all((&text, &number), |(text, number)| {
        (format!("{text}, two"), number + text.len())
    });
    assert_eq!((number.get(), text.get().as_str()), (4, "one, two"));
}

/// The order of the addresses is not that of the arguments.
#[test]
fn arguments_in_every_order_keep_their_places() {
    let cells = [0, 1, 2, 3].map(VersionedCell::new);
    let mut orders = Vec::new();
    for n in 0..256 {
        let order = [n % 4, n / 4 % 4, n / 16 % 4, n / 64];
        let mut sorted = order;
        sorted.sort_unstable();
        let set = order.map(|i| &cells[i]);
        if sorted == [0, 1, 2, 3] {
            orders.push(order);
            update_all(set, |values| {
                assert_eq!(values.map(|v| v % 4), order);
                values.map(|v| v + 4)
            });
        } else {
            let panic = catch_unwind(AssertUnwindSafe(|| {
                update_all(set, |_| -> [usize; 4] {
                    unreachable!("one cell is given twice")
                })
            }));
            let text = *panic.unwrap_err().downcast::<&str>().expect("a message");
            assert_eq!(text, "duplicate cell in `update_all`; pass each cell once");
        }
    }
    assert_eq!(orders.len(), 24);
    let expected: Vec<_> = (0..4).map(|i| (i + 4 * 24, 24)).collect();
    assert_eq!(state(&cells), expected);
}

/// Flushes until a condition holds, or fails.
fn until(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(30), "in vain");
        latchwork::flush();
        thread::yield_now();
    }
}

/// Counts the values made and those dropped.
#[derive(Clone, Debug, Default)]
struct Count(Arc<[AtomicUsize; 2]>);

#[derive(Debug)]
struct Counted(Count, u64);

impl Count {
    fn value(&self, n: u64) -> Counted {
        self.0[0].fetch_add(1, Relaxed);
        Counted(self.clone(), n)
    }

    /// Flushes until only `left` values live. Other tests of this process may be pinned.
    fn drops_all_but(&self, left: usize) {
        let living = || self.0[0].load(Relaxed) - self.0[1].load(Relaxed);
        until(|| living() == left);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let dropped = self.0.0[1].fetch_add(1, Relaxed) + 1;
        assert!(dropped <= self.0.0[0].load(Relaxed), "dropped twice");
    }
}

#[test]
fn an_error_or_a_panic_leaves_every_cell_as_it_was() {
    let count = Count::default();
    let cells = [1, 2].map(|n| VersionedCell::new(count.value(n)));
    let [a, b] = &cells;
    let refused = try_update_all((a, b), |(a, b)| {
        let made = (count.value(a.1 + 1), count.value(b.1 + 1));
        Err::<(Counted, Counted), _>(made.0.1 + made.1.1)
    });
    assert_eq!(refused.unwrap_err(), 5);
    let panics = catch_unwind(AssertUnwindSafe(|| {
        update_all((a, b), |(a, _)| -> (Counted, Counted) {
            let _made = count.value(a.1);
            resume_unwind(Box::new("no"))
        })
    }));
    assert!(panics.is_err());
    // The thread is not pinned by either: all garbage of these values is gone.
    count.drops_all_but(2);
    let versions = try_update_all((a, b), |(a, b)| {
        Ok::<_, ()>((count.value(b.1), count.value(a.1)))
    });
    assert_eq!(versions.unwrap(), [Version::new(1), Version::new(1)]);
    assert_eq!((a.read().1, b.read().1), (2, 1));
}

/// The closure runs again after a write in between, in the log and without one, and sees both cells
/// as of one instant each time. No value is lost or dropped twice.
#[test]
fn a_closure_runs_again_after_a_write_in_between() {
    let count = Count::default();
    let cells = [10, 20].map(|n| VersionedCell::new(count.value(n)));
    let [a, b] = &cells;
    for written in [a, b] {
        let before = [a.read().1, b.read().1];
        let mut runs = 0;
        let versions = update_all((a, b), |(x, y)| {
            runs += 1;
            if runs < 4 {
                // As another thread would.
                thread::scope(|s| {
                    let write = || written.update(|n| count.value(n.1 + 100));
                    s.spawn(write);
                });
            }
            (count.value(x.1 + 1), count.value(y.1 + 1))
        });
        assert_eq!(runs, 4, "each write costs one run");
        let after = [a.read().1, b.read().1];
        let by_others =
            |cell: &VersionedCell<Counted>| 300 * u64::from(std::ptr::eq(cell, written));
        assert_eq!(
            after,
            [before[0] + 1 + by_others(a), before[1] + 1 + by_others(b)]
        );
        assert_eq!(versions, [a.version(), b.version()]);
    }
    count.drops_all_but(2);
}

/// Two threads at a time, on overlapping sets in every order, beside transactions and single
/// writes: no write is lost, and no snapshot sees a part of one.
#[test]
fn no_update_is_lost_or_seen_in_part() {
    const EACH: u64 = if cfg!(latchwork_noise) { 200 } else { 4_000 };
    let _dog = watchdog("no_update_is_lost_or_seen_in_part");
    let cells: Vec<_> = (0..4).map(|_| VersionedCell::new(0_i64)).collect();
    let (writes, torn) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|s| {
        for thread in 0..4 {
            let (cells, writes, torn) = (&cells, &writes, &torn);
            s.spawn(move || {
                let mut rng = Rng::new(thread);
                for _ in 0..EACH {
                    let i = rng.below(4) as usize;
                    let j = (i + 1 + rng.below(3) as usize) % 4;
                    match rng.below(4) {
                        0 => atomically(|tx| {
                            tx.update(&cells[i], |n| n - 1)?;
                            tx.update(&cells[j], |n| n + 1)
                        }),
                        1 => {
                            let sum = snapshot(|s| cells.iter().map(|c| *s.read(c)).sum::<i64>());
                            torn.fetch_add(usize::from(sum != 0), Relaxed);
                            continue;
                        }
                        _ => {
                            update_all((&cells[i], &cells[j]), |(x, y)| (x - 1, y + 1));
                        }
                    }
                    writes.fetch_add(2, Relaxed);
                }
            });
        }
    });
    assert_eq!(torn.load(Relaxed), 0);
    assert_eq!(cells.iter().map(VersionedCell::get).sum::<i64>(), 0);
    let versions: u64 = cells.iter().map(|cell| cell.version().get()).sum();
    assert_eq!(versions as usize, writes.load(Relaxed));
}

/// Waiters for one cell, a transaction that retries, and a task.
#[test]
fn an_update_wakes_those_who_wait_for_any_of_its_cells() {
    let _dog = watchdog("an_update_wakes_those_who_wait_for_any_of_its_cells");
    let cells = [0, 0].map(VersionedCell::new);
    let woken = AtomicUsize::new(0);
    thread::scope(|s| {
        for cell in &cells {
            s.spawn(|| {
                cell.wait_changed(Version::FIRST);
                woken.fetch_add(1, Relaxed);
            });
            s.spawn(|| {
                atomically(|tx| match *tx.read(cell)? {
                    0 => tx.retry(),
                    _ => Ok(()),
                });
                woken.fetch_add(1, Relaxed);
            });
        }
        // They have begun to wait, or will find the write.
        thread::sleep(Duration::from_millis(20));
        update_all(cells.each_ref(), |[a, b]| [a + 1, b + 1]);
    });
    assert_eq!(woken.load(Relaxed), 4);
}

#[test]
fn a_destructor_may_update_the_same_cells() {
    struct Updates(Option<Arc<[VersionedCell<u64>; 2]>>);
    impl Drop for Updates {
        fn drop(&mut self) {
            if let Some(cells) = self.0.take() {
                update_all(cells.each_ref(), |[a, b]| [a + 1, b + 1]);
            }
        }
    }
    let counts = Arc::new([0, 0].map(VersionedCell::new));
    let cells = [(), ()].map(|()| VersionedCell::new(Updates(Some(counts.clone()))));
    let mut runs = 0;
    update_all(cells.each_ref(), |_| {
        runs += 1;
        if runs == 1 {
            // The attempt is lost, and drops what it has made.
            thread::scope(|s| {
                s.spawn(|| cells[1].set(Updates(Some(counts.clone()))));
            });
        }
        [(), ()].map(|()| Updates(Some(counts.clone())))
    });
    drop(cells);
    // Two at first, one by the thread, and two for each run.
    until(|| counts[0].get() == 7);
    assert_eq!(counts.each_ref().map(VersionedCell::get), [7, 7]);
}

/// A thread-local whose destructor runs after those of the crate, or before.
#[test]
fn an_update_works_while_a_thread_ends() {
    struct AtExit(RefCell<Option<Arc<[VersionedCell<u64>; 2]>>>);
    impl Drop for AtExit {
        fn drop(&mut self) {
            if let Some(cells) = self.0.take() {
                for _ in 0..20 {
                    update_all(cells.each_ref(), |[a, b]| [a + 1, b + 1]);
                }
            }
        }
    }
    thread_local! {
        static FIRST: AtExit = const { AtExit(RefCell::new(None)) };
        static LAST: AtExit = const { AtExit(RefCell::new(None)) };
    }
    let cells = Arc::new([0, 0].map(VersionedCell::new));
    let own = cells.clone();
    thread::spawn(move || {
        FIRST.with(|place| place.0.replace(Some(own.clone())));
        update_all(own.each_ref(), |[a, b]| [a + 1, b + 1]);
        LAST.with(|place| place.0.replace(Some(own.clone())));
    })
    .join()
    .unwrap();
    assert_eq!(state(&cells[..]), [(41, 41), (41, 41)]);
}

/// Inside the closure of a transaction that owns one of the cells, an update would wait for itself.
#[test]
fn an_update_inside_a_closure_that_owns_the_cell_panics() {
    let cells = [0, 0].map(VersionedCell::new);
    let mut losses = 0;
    let panics = catch_unwind(AssertUnwindSafe(|| {
        atomically(|tx| {
            let n = *tx.read(&cells[0])?;
            if losses < 3 {
                losses += 1;
                write_elsewhere(&cells[0], n);
            }
            tx.read(&cells[1])?;
            latchwork::cell::outside_of_closures(|| {
                update_all(cells.each_ref(), |[a, b]| [a + 1, b + 1])
            });
            Ok(())
        })
    }));
    assert!(panics.is_err());
    update_all(cells.each_ref(), |[a, b]| [a + 1, b + 1]);
    assert_eq!(cells[1].get(), 1);
}

/// Updates of other cells inside each other's closures, and inside those of transactions.
#[test]
fn updates_nest() {
    let cells: [_; 6] = std::array::from_fn(|_| VersionedCell::new(0));
    let [a, b, c, d, e, f] = &cells;
    update_all((a, b), |(a, b)| {
        update_all((c, d), |(c, d)| {
            atomically(|tx| {
                tx.update(e, |n| n + 1)?;
                tx.update(f, |n| n + 1)
            });
            (c + 1, d + 1)
        });
        (a + 1, b + 1)
    });
    assert_eq!(state(&cells), [(1, 1); 6]);
    let result = Transaction::builder().try_run(|tx| {
        tx.update(a, |n| n + 1)?;
        update_all((c, d), |(c, d)| (c + 1, d + 1));
        Err::<(), _>(TxAbort::Transaction(()))
    });
    assert_eq!(result, Err(TxError::Aborted(())));
    // The update is not part of the transaction.
    assert_eq!((a.get(), c.get(), d.get()), (1, 2, 2));
}

#[derive(Clone, Debug)]
enum Op {
    Two([usize; 2], u64),
    Three([usize; 3], u64),
    /// The closure refuses.
    Refused([usize; 2]),
    Transaction(Vec<(usize, u64)>),
    Set(usize, u64),
    /// A write by another thread inside the closure, at its first run.
    Beside([usize; 2], usize, u64),
}

fn op() -> impl Strategy<Value = Op> {
    const CELLS: usize = 4;
    let other = |i: usize, by: usize| (i + 1 + by % (CELLS - 1)) % CELLS;
    (0..6_u8, 0..CELLS, 0..CELLS - 1, 0..CELLS, 0..1_000_u64).prop_map(
        move |(what, i, by, k, n)| {
            let j = other(i, by);
            match what {
                0 => Op::Two([i, j], n),
                1 => Op::Three(
                    [
                        i,
                        j,
                        (0..CELLS).find(|k| *k != i && *k != j).expect("four cells"),
                    ],
                    n,
                ),
                2 => Op::Refused([i, j]),
                3 => Op::Transaction(vec![(i, n), (j, n + 1), (k, n + 2)]),
                4 => Op::Set(i, n),
                _ => Op::Beside([i, j], k, n),
            }
        },
    )
}

/// Random programs of updates, transactions and writes do what a plain array does.
#[test]
fn every_program_of_updates_does_what_an_array_does() {
    let config = Config {
        cases: 256,
        failure_persistence: None,
        ..Config::default()
    };
    let beside = Cell::new(0);
    let program = |program: Vec<Op>| {
        let cells: Vec<_> = (0..4).map(VersionedCell::new).collect();
        let mut model: Vec<(u64, u64)> = (0..4).map(|n| (n, 0)).collect();
        let write = |model: &mut Vec<(u64, u64)>, i: usize, n| model[i] = (n, model[i].1 + 1);
        for op in program {
            match op {
                Op::Two([i, j], n) => {
                    let seen = (model[i].0, model[j].0);
                    let made = update_all((&cells[i], &cells[j]), |(x, y)| {
                        assert_eq!((*x, *y), seen);
                        (y + n, x + n)
                    });
                    write(&mut model, i, seen.1 + n);
                    write(&mut model, j, seen.0 + n);
                    assert_eq!(made.map(Version::get), [model[i].1, model[j].1]);
                }
                Op::Three(set, n) => {
                    let seen = set.map(|i| model[i].0);
                    let made = update_all(set.map(|i| &cells[i]), |values| {
                        assert_eq!(values.map(|v| *v), seen);
                        values.map(|v| v + n)
                    });
                    set.into_iter()
                        .zip(seen)
                        .for_each(|(i, v)| write(&mut model, i, v + n));
                    assert_eq!(made.map(Version::get), set.map(|i| model[i].1));
                }
                Op::Refused([i, j]) => {
                    let refused = try_update_all((&cells[i], &cells[j]), |(x, y)| Err(x + y));
                    assert_eq!(refused, Err(model[i].0 + model[j].0));
                }
                Op::Transaction(writes) => {
                    atomically(|tx| writes.iter().try_for_each(|&(i, n)| tx.set(&cells[i], n)));
                    let mut written = Vec::new();
                    for &(i, n) in writes.iter().rev() {
                        if !written.contains(&i) {
                            written.push(i);
                            write(&mut model, i, n);
                        }
                    }
                }
                Op::Set(i, n) => {
                    cells[i].set(n);
                    write(&mut model, i, n);
                }
                Op::Beside([i, j], k, n) => {
                    let mut runs = 0;
                    let made = update_all((&cells[i], &cells[j]), |(x, y)| {
                        runs += 1;
                        if runs == 1 {
                            thread::scope(|s| {
                                s.spawn(|| cells[k].set(n));
                            });
                            write(&mut model, k, n);
                        }
                        (x + 1, y + 1)
                    });
                    // A write of another cell costs no run.
                    let is_lost = k == i || k == j;
                    assert_eq!(runs, 1 + usize::from(is_lost));
                    beside.set(beside.get() + usize::from(is_lost));
                    for i in [i, j] {
                        let value = model[i].0 + 1;
                        write(&mut model, i, value);
                    }
                    assert_eq!(made.map(Version::get), [model[i].1, model[j].1]);
                }
            }
            assert_eq!(state(&cells), model);
        }
        Ok(())
    };
    TestRunner::new(config)
        .run(&vec(op(), 0..24), program)
        .unwrap_or_else(|failure| panic!("{failure}"));
    assert!(beside.get() > 50, "{} updates were lost", beside.get());
}
