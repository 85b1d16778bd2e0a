//! What bounds reclamation: how many destructors one write runs, which values other threads reach
//! beside a slow destructor, and how much a destructor that writes leaves behind. Destructors and
//! values are counted, never timed.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::watchdog;
use crate::turn;
use latchwork::VersionedCell;
use latchwork::latch::{Link, Unlinked};

/// Longer than a write spends on destructors.
const SLOW: Duration = Duration::from_millis(1);

/// The most slow destructors that one write runs: two for the value that it retires, one that
/// begins before the time is over, and one that the clock misses.
const FEW: usize = 4;

/// A value whose destructor is slow.
struct Slow(Arc<AtomicUsize>);

impl Drop for Slow {
    fn drop(&mut self) {
        thread::sleep(SLOW);
        self.0.fetch_add(1, Relaxed);
    }
}

#[allow(dead_code, reason = "dropped, and never read")]
struct Chain(VersionedCell<Option<Box<Chain>>>, Slow);

fn chain(drops: &Arc<AtomicUsize>, n: usize) -> Chain {
    (0..n).fold(
        Chain(VersionedCell::new(None), Slow(drops.clone())),
        |chain, _| {
            Chain(
                VersionedCell::new(Some(Box::new(chain))),
                Slow(drops.clone()),
            )
        },
    )
}

/// Writes until `n` values were dropped, and returns the most that one write has dropped.
fn most_in_one_write(drops: &AtomicUsize, n: usize) -> usize {
    let cell = VersionedCell::new(0);
    let mut most = 0;
    while drops.load(Relaxed) < n {
        let before = drops.load(Relaxed);
        cell.update(|n| n + 1);
        most = most.max(drops.load(Relaxed) - before);
    }
    most
}

/// An ended thread leaves a long chain.
#[test]
fn a_write_destroys_a_short_part_of_a_slow_chain() {
    turn();
    let _dog = watchdog("a_write_destroys_a_short_part_of_a_slow_chain");
    let drops = Arc::new(AtomicUsize::new(0));
    let left = chain(&drops, 1_200);
    thread::spawn(move || {
        let cell = VersionedCell::new(Some(left));
        cell.set(None);
    })
    .join()
    .unwrap();
    let most = most_in_one_write(&drops, 1_200);
    assert!(most <= FEW, "one write dropped {most} values");
}

/// An ended thread leaves many values with slow destructors.
#[test]
fn a_write_drops_few_slow_values_of_another_thread() {
    turn();
    let _dog = watchdog("a_write_drops_few_slow_values_of_another_thread");
    let drops = Arc::new(AtomicUsize::new(0));
    let left = drops.clone();
    thread::spawn(move || {
        let pin = latchwork::pin();
        let cell = VersionedCell::new(None);
        for _ in 0..400 {
            cell.set(Some(Slow(left.clone())));
        }
        cell.set(None);
        drop(pin);
    })
    .join()
    .unwrap();
    let most = most_in_one_write(&drops, 400);
    assert!(most <= FEW, "one write dropped {most} values");
}

/// The values of the writer itself are slow to drop. They do not accumulate either.
#[test]
fn a_write_drops_few_slow_values_of_its_own() {
    turn();
    let _dog = watchdog("a_write_drops_few_slow_values_of_its_own");
    let drops = Arc::new(AtomicUsize::new(0));
    let new = || Slow(drops.clone());
    let cell = VersionedCell::new(new());
    let (mut most, mut waiting) = (0, 0);
    for n in 1..=1_000 {
        let before = drops.load(Relaxed);
        cell.set(new());
        most = most.max(drops.load(Relaxed) - before);
        waiting = waiting.max(n - drops.load(Relaxed));
    }
    assert!(most <= FEW, "one write dropped {most} values");
    assert!(waiting <= 100, "{waiting} values waited");
}

/// A destructor of a value that waits until the test ends it.
struct Blocks(Mutex<(mpsc::Sender<()>, mpsc::Receiver<()>)>);

impl Drop for Blocks {
    fn drop(&mut self) {
        let (begins, ends) = self.0.get_mut().unwrap();
        begins.send(()).unwrap();
        let _ = ends.recv();
    }
}

/// Runs `f` on the thread that runs the destructor of `Blocks`, and `beside` while it does.
fn beside_a_slow_destructor(f: impl FnOnce(Blocks) + Send + 'static, beside: impl FnOnce()) {
    let (begins, begun) = mpsc::channel();
    let (end, ends) = mpsc::channel();
    let thread = thread::spawn(move || f(Blocks(Mutex::new((begins, ends)))));
    begun.recv().unwrap();
    beside();
    drop(end);
    thread.join().unwrap();
}

/// The oldest value is slow, and the thread that drops it has popped others with it.
#[test]
fn a_flush_reaches_the_values_behind_a_slow_destructor() {
    turn();
    let _dog = watchdog("a_flush_reaches_the_values_behind_a_slow_destructor");
    for n in [1, 20, 200] {
        let value = Arc::new(());
        let kept = value.clone();
        let retires = move |blocks| {
            let cell = VersionedCell::new((Some(blocks), None));
            let pin = latchwork::pin();
            for _ in 0..n {
                cell.set((None, Some(kept.clone())));
            }
            cell.set((None, None));
            drop(pin);
            drop(kept);
            latchwork::flush();
        };
        beside_a_slow_destructor(retires, || {
            assert_eq!(latchwork::stats().garbage, n, "none is missed");
            latchwork::flush();
            assert_eq!(Arc::strong_count(&value), 1, "none is left");
            assert_eq!(latchwork::stats().garbage, 0);
        });
        latchwork::flush();
    }
}

/// The most values that a thread removes at once, after fast destructors.
const BATCH: usize = 32;

/// A thread whose destructors were fast has removed others with the slow one. They are counted, and
/// a flush of another thread leaves no more of them than one batch.
#[test]
fn values_removed_beside_a_slow_destructor_are_counted() {
    turn();
    let _dog = watchdog("values_removed_beside_a_slow_destructor_are_counted");
    // A disturbed thread removes one value at a time.
    let has_batch = (0..20).any(|_| removed_beside_a_slow_destructor() > 0);
    assert!(has_batch, "this test is about one");
}

/// Returns the number of values that a flush did not reach.
fn removed_beside_a_slow_destructor() -> usize {
    const N: usize = 200;
    let value = Arc::new(());
    let kept = value.clone();
    let retires = move |blocks| {
        let cell = VersionedCell::new((None, None));
        let number = VersionedCell::new(0);
        for _ in 0..100_000 {
            cell.set((None, Some(Arc::new(()))));
        }
        let pin = latchwork::pin();
        // The values before the slow one become the last fast batch.
        let mut blocks = Some(blocks);
        for n in 0..2 * BATCH + 1 {
            cell.set((blocks.take_if(|_| n == 2 * BATCH), None));
        }
        for _ in 0..N {
            cell.set((None, Some(kept.clone())));
        }
        cell.set((None, None));
        drop((pin, kept));
        (0..10_000).for_each(|n| {
            number.set(n);
        });
    };
    let mut left = 0;
    beside_a_slow_destructor(retires, || {
        let live = || Arc::strong_count(&value) - 1;
        let counted = latchwork::stats().garbage;
        assert!(
            live() == N && counted >= N,
            "{counted} of {} counted",
            live()
        );
        latchwork::flush();
        let counted = latchwork::stats().garbage;
        assert!(live() < BATCH, "{} are left", live());
        assert_eq!(counted, live());
        assert_eq!(latchwork::stats().garbage_bytes > 0, live() > 0);
        left = live();
    });
    latchwork::flush();
    assert_eq!(Arc::strong_count(&value), 1);
    assert_eq!(latchwork::stats().garbage, 0);
    left
}

/// A destructor panics: the values that its thread has removed with it are not lost.
#[test]
fn values_removed_beside_a_panic_return() {
    struct Panics(Arc<()>);
    impl Drop for Panics {
        fn drop(&mut self) {
            assert!(Arc::strong_count(&self.0) % 50 != 0, "a panic of this test");
        }
    }
    turn();
    let _dog = watchdog("values_removed_beside_a_panic_return");
    let value = Arc::new(());
    let cell = VersionedCell::new(None);
    let pin = latchwork::pin();
    for _ in 0..400 {
        cell.set(Some(Panics(value.clone())));
    }
    drop((pin, cell));
    let mut panics = 0;
    while catch_unwind(latchwork::flush).is_err() {
        panics += 1;
        assert_eq!(latchwork::stats().garbage, Arc::strong_count(&value) - 1);
    }
    assert!((4..=8).contains(&panics), "{panics}");
    assert_eq!(Arc::strong_count(&value), 1);
    assert_eq!(latchwork::stats().garbage, 0);
}

/// Destructors were fast, and become slow: a write runs no more of these than one batch.
#[test]
fn a_write_drops_one_batch_of_values_that_become_slow() {
    turn();
    let _dog = watchdog("a_write_drops_one_batch_of_values_that_become_slow");
    let drops = Arc::new(AtomicUsize::new(0));
    let cell = VersionedCell::new(None);
    // These have the same type as the slow ones: their destructors do nothing.
    for _ in 0..100_000 {
        cell.set(None);
    }
    let pin = latchwork::pin();
    for _ in 0..400 {
        cell.set(Some(Slow(drops.clone())));
    }
    cell.set(None);
    drop(pin);
    let mut writes = Vec::new();
    while drops.load(Relaxed) < 400 {
        let before = drops.load(Relaxed);
        cell.set(None);
        writes.push(drops.load(Relaxed) - before);
    }
    writes.retain(|&n| n > FEW);
    assert!(
        writes.len() <= 1 && writes.iter().all(|&n| n <= BATCH + FEW),
        "{writes:?}"
    );
}

/// The slow destructor has dropped cells first: their values are destroyed after it.
#[test]
fn a_flush_reaches_the_queue_of_a_slow_destructor() {
    #[allow(dead_code, reason = "dropped, and never read")]
    struct Owner(Vec<VersionedCell<Arc<()>>>, Blocks);

    turn();
    let _dog = watchdog("a_flush_reaches_the_queue_of_a_slow_destructor");
    for drops_the_cell in [false, true] {
        let value = Arc::new(());
        let cells = (0..50).map(|_| VersionedCell::new(value.clone())).collect();
        let retires = move |blocks| {
            let cell = VersionedCell::new(Some(Owner(cells, blocks)));
            if drops_the_cell {
                drop(cell);
            } else {
                cell.set(None);
                latchwork::flush();
            }
        };
        beside_a_slow_destructor(retires, || {
            assert_eq!(latchwork::stats().garbage, 50, "none is missed");
            latchwork::flush();
            assert_eq!(Arc::strong_count(&value), 1, "none is left");
        });
    }
}

/// A destructor that writes for as long as a thread lives.
struct Writes<F: FnMut(usize)>(usize, F);

impl<F: FnMut(usize)> Drop for Writes<F> {
    fn drop(&mut self) {
        (0..self.0).for_each(&mut self.1);
    }
}

/// Plain values are released by the writes of the destructor itself.
#[test]
fn a_destructor_that_writes_leaves_few_plain_values() {
    turn();
    let _dog = watchdog("a_destructor_that_writes_leaves_few_plain_values");
    let most = Arc::new(AtomicUsize::new(0));
    let seen = most.clone();
    let other = VersionedCell::new(0);
    let writes = move |n: usize| {
        other.set(n);
        if n % 1_000 == 0 {
            seen.fetch_max(latchwork::stats().garbage, Relaxed);
        }
    };
    let cell = VersionedCell::new(Some(Writes(300_000, writes)));
    cell.set(None);
    latchwork::flush();
    let most = most.load(Relaxed);
    assert!((1..=20_000).contains(&most), "{most} values waited");
}

/// Values with destructors are dropped by other threads that write.
#[test]
fn other_writers_drop_the_values_of_a_destructor_that_writes() {
    turn();
    let _dog = watchdog("other_writers_drop_the_values_of_a_destructor_that_writes");
    static ENDS: AtomicBool = AtomicBool::new(false);
    let (value, start) = (Arc::new(()), Instant::now());
    let (written, other) = (Arc::new(AtomicUsize::new(0)), VersionedCell::new(None));
    let (kept, count) = (value.clone(), written.clone());
    let writes = move |_| {
        while !ENDS.load(Relaxed) {
            other.set(Some(kept.clone()));
            // Slow enough for the other thread to follow.
            if count.fetch_add(1, Relaxed) % 8 == 0 {
                thread::yield_now();
            }
        }
    };
    let thread = thread::spawn(move || {
        let cell = VersionedCell::new(Some(Writes(1, writes)));
        cell.set(None);
        latchwork::flush();
    });
    // As many as have been dropped.
    let dropped = || written.load(Relaxed) as isize - Arc::strong_count(&value) as isize;
    // Otherwise this thread might run the destructor, for garbage of an idle thread.
    while written.load(Relaxed) == 0 {
        thread::yield_now();
    }
    let cell = VersionedCell::new(0);
    while dropped() < 1_000 && start.elapsed() < Duration::from_secs(10) {
        cell.update(|n| n + 1);
    }
    let seen = dropped();
    ENDS.store(true, Relaxed);
    thread.join().unwrap();
    assert!(seen >= 1_000, "{seen}");
}

/// A destructor that runs in a panic may panic, which would abort the process.
#[test]
fn a_write_in_a_panic_runs_no_destructor_of_other_values() {
    struct Foreign(Arc<AtomicUsize>);
    impl Drop for Foreign {
        fn drop(&mut self) {
            self.0.fetch_add(usize::from(thread::panicking()), Relaxed);
        }
    }
    struct Cleanup<'a>(
        &'a VersionedCell<usize>,
        &'a VersionedCell<Foreign>,
        &'a Cell<usize>,
    );
    impl Drop for Cleanup<'_> {
        fn drop(&mut self) {
            let in_panic = self.1.read().0.clone();
            for _ in 0..2_000 {
                self.1.set(Foreign(in_panic.clone()));
            }
            // These are retired behind the others, and do not wait for them.
            for n in 0..300_000 {
                self.0.set(n);
            }
            self.2.set(latchwork::stats().garbage);
        }
    }

    turn();
    let _dog = watchdog("a_write_in_a_panic_runs_no_destructor_of_other_values");
    let in_panic = Arc::new(AtomicUsize::new(0));
    let (numbers, foreign) = (
        VersionedCell::new(0),
        VersionedCell::new(Foreign(in_panic.clone())),
    );
    let waiting = Cell::new(0);
    let panics = catch_unwind(AssertUnwindSafe(|| {
        let _cleanup = Cleanup(&numbers, &foreign, &waiting);
        resume_unwind(Box::new("a panic"));
    }));
    assert!(panics.is_err());
    assert_eq!(in_panic.load(Relaxed), 0, "destructors in a panic");
    assert!((2_000..20_000).contains(&waiting.get()), "{waiting:?}");
    // The next writes drop the values.
    for n in 0..50_000 {
        numbers.set(n);
    }
    let left = Arc::strong_count(&in_panic);
    assert!(left < 100, "{left}");
}

/// A thread that writes one value at a time finds the garbage of an idle thread within few writes.
#[test]
fn a_slow_writer_drops_the_values_of_an_idle_thread() {
    turn();
    let _dog = watchdog("a_slow_writer_drops_the_values_of_an_idle_thread");
    let value = Arc::new(());
    let (end, ends) = mpsc::channel::<()>();
    let (is_idle, idle) = mpsc::channel();
    let kept = value.clone();
    let thread = thread::spawn(move || {
        let cell = VersionedCell::new(None);
        for _ in 0..20 {
            cell.set(Some(kept.clone()));
        }
        cell.set(None);
        drop(kept);
        is_idle.send(()).unwrap();
        let _ = ends.recv();
    });
    idle.recv().unwrap();
    // On a thread that has not written before.
    let writes = thread::scope(|s| {
        let writer = s.spawn(|| {
            let cell = VersionedCell::new(0);
            let mut writes = 0;
            while Arc::strong_count(&value) > 1 && writes < 20 {
                thread::sleep(Duration::from_millis(25));
                cell.update(|n| n + 1);
                writes += 1;
            }
            writes
        });
        writer.join().unwrap()
    });
    // What a write drops is also bounded by time, most of which noise spends in yields.
    let most = if cfg!(latchwork_noise) { 15 } else { 5 };
    assert!(writes <= most, "{writes} writes");
    drop(end);
    thread.join().unwrap();
}

/// Each dropped list is reclaimed one node at a time, beside others.
#[test]
fn chains_of_links_beside_their_writer_do_not_accumulate() {
    #[allow(dead_code, reason = "dropped, and never read")]
    struct Node(Link<Node>, Arc<()>);

    const LONG: usize = 50;
    turn();
    let _dog = watchdog("chains_of_links_beside_their_writer_do_not_accumulate");
    let live = Arc::new(());
    let mut most = 0;
    for _ in 0..10_000 {
        let mut list: Link<Node> = Link::empty();
        for _ in 0..LONG {
            list = Link::new(Unlinked::new(Node(list, live.clone())));
        }
        drop(list);
        most = most.max(Arc::strong_count(&live));
    }
    // Each list needs two epochs a node, and an epoch ends after some 128 retired nodes.
    assert!(most < 60_000, "{most} of {} nodes", 10_000 * LONG);
    latchwork::flush();
    assert_eq!(Arc::strong_count(&live), 1);
}
