//! Garbage always comes back: of idle threads, of threads that have ended, of chains, and of values
//! that own much memory. The number of live values is counted, never timed.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::watchdog;
use crate::turn;
use latchwork::latch::{Link, Unlinked};
use latchwork::{VersionedCell, atomically};

/// Counts the live values of a test.
#[derive(Clone, Default)]
struct Live(Arc<()>);

impl Live {
    fn value(&self) -> Self {
        self.clone()
    }

    fn count(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
}

fn on_a_small_stack(f: impl FnOnce() + Send + 'static) {
    let small = thread::Builder::new().stack_size(256 << 10);
    small.spawn(f).unwrap().join().unwrap();
}

struct Letter {
    next: VersionedCell<Option<Arc<Letter>>>,
    _live: Live,
}

/// Passes `n` letters through a queue that never has more than one, and calls `at` before each.
fn pass_letters(live: &Live, n: usize, mut at: impl FnMut(usize)) {
    let new = || {
        Arc::new(Letter {
            next: VersionedCell::new(None),
            _live: live.value(),
        })
    };
    let mut tail = new();
    let head = VersionedCell::new(tail.clone());
    for i in 0..n {
        at(i);
        let letter = new();
        tail.next.set(Some(letter.clone()));
        tail = letter;
        let first = head.get();
        head.set(first.next.get().expect("a letter follows"));
    }
}

/// The oldest retired letter owns all later ones once a pin has held them back.
#[test]
fn a_queue_of_cells_does_not_overflow_the_stack() {
    turn();
    let _dog = watchdog("a_queue_of_cells_does_not_overflow_the_stack");
    let live = Live::default();
    let barriers = Arc::new((Barrier::new(2), Barrier::new(2)));
    let reader = thread::spawn({
        let barriers = barriers.clone();
        move || {
            let pin = latchwork::pin();
            barriers.0.wait();
            barriers.1.wait();
            drop(pin);
        }
    });
    on_a_small_stack({
        let live = live.clone();
        move || {
            barriers.0.wait();
            pass_letters(&live, 60_000, |n| {
                if n == 20_000 {
                    barriers.1.wait();
                }
            });
        }
    });
    reader.join().unwrap();
    latchwork::flush();
    assert_eq!(live.count(), 0, "{:?}", latchwork::stats());
}

#[test]
fn two_queues_of_cells_leave_little() {
    turn();
    let _dog = watchdog("two_queues_of_cells_leave_little");
    let live = Live::default();
    let threads = [(); 2].map(|()| {
        let live = live.clone();
        thread::Builder::new()
            .stack_size(256 << 10)
            .spawn(move || pass_letters(&live, 200_000, |_| ()))
            .unwrap()
    });
    for thread in threads {
        thread.join().unwrap();
    }
    latchwork::flush();
    assert_eq!(live.count(), 0);
}

#[allow(dead_code, reason = "dropped, and never read")]
struct Chain(VersionedCell<Option<Box<Chain>>>, Live);

fn chain(live: &Live, n: usize) -> Chain {
    let end = Chain(VersionedCell::new(None), live.value());
    (1..n).fold(end, |chain, _| {
        Chain(VersionedCell::new(Some(Box::new(chain))), live.value())
    })
}

/// Dropped by the owner, by a write, and by a transaction that does not write its draft.
#[test]
fn a_chain_of_cells_needs_the_stack_of_one() {
    turn();
    let _dog = watchdog("a_chain_of_cells_needs_the_stack_of_one");
    const LONG: usize = 100_000;
    // The closure has one more.
    let live = Live::default();
    on_a_small_stack({
        let live = live.clone();
        move || {
            drop(chain(&live, LONG));
            assert_eq!(live.count(), 1, "a drop ends with the last");
            let cell = VersionedCell::new(Some(chain(&live, LONG)));
            cell.set(None);
            latchwork::flush();
            assert_eq!(live.count(), 1);
            let mut draft = Some(chain(&live, LONG));
            let outcome = latchwork::Transaction::builder().try_run(|tx| {
                tx.set(&cell, draft.take())?;
                tx.abort::<(), _>("not written")
            });
            assert!(outcome.is_err());
            assert_eq!(live.count(), 1);
            let owned = VersionedCell::new(chain(&live, LONG)).read_owned();
            drop(owned);
            assert_eq!(live.count(), 1);
        }
    });
}

/// Links are retired by the destructor of the node before, one after the other.
#[test]
fn one_flush_drops_a_chain_of_links() {
    #[allow(dead_code, reason = "dropped, and never read")]
    struct Node(Link<Node>, Live);

    turn();
    let _dog = watchdog("one_flush_drops_a_chain_of_links");
    let live = Live::default();
    let mut list: Link<Node> = Link::empty();
    for _ in 0..1_000 {
        list = Link::new(Unlinked::new(Node(list, live.value())));
    }
    drop(list);
    latchwork::flush();
    assert_eq!((live.count(), latchwork::stats().garbage), (0, 0));
}

/// The value in the middle of a chain panics. The cells behind it are dropped later.
#[test]
fn the_rest_of_a_chain_survives_a_panic() {
    #[allow(dead_code, reason = "dropped, and never read")]
    struct Panics(VersionedCell<Option<Box<Panics>>>, bool, Live);
    impl Drop for Panics {
        fn drop(&mut self) {
            if self.1 && !thread::panicking() {
                resume_unwind(Box::new("a destructor that panics"));
            }
        }
    }

    turn();
    let _dog = watchdog("the_rest_of_a_chain_survives_a_panic");
    let live = Live::default();
    let end = Panics(VersionedCell::new(None), false, live.value());
    let chain = (0..100).fold(end, |chain, n| {
        Panics(
            VersionedCell::new(Some(Box::new(chain))),
            n % 10 == 5,
            live.value(),
        )
    });
    let cell = VersionedCell::new(chain);
    let mut panics = 0;
    if catch_unwind(AssertUnwindSafe(|| drop(cell))).is_err() {
        panics += 1;
    }
    // A flush of a thread that is often interrupted leaves some.
    while live.count() > 0 {
        panics += usize::from(catch_unwind(latchwork::flush).is_err());
    }
    assert!((1..=10).contains(&panics), "{panics}");
}

/// Runs `f`, and keeps its thread alive until the result is dropped.
fn on_an_idle_thread(f: impl FnOnce() + Send + 'static) -> impl Drop {
    struct Idle(Option<mpsc::Sender<()>>, Option<thread::JoinHandle<()>>);
    impl Drop for Idle {
        fn drop(&mut self) {
            drop(self.0.take());
            self.1.take().map(thread::JoinHandle::join);
        }
    }
    let (done, is_done) = mpsc::channel();
    let (end, ends) = mpsc::channel::<()>();
    let thread = thread::spawn(move || {
        f();
        done.send(()).unwrap();
        let _ = ends.recv();
    });
    is_done.recv().unwrap();
    Idle(Some(end), Some(thread))
}

#[test]
fn a_flush_reaches_the_garbage_of_an_idle_thread() {
    turn();
    let _dog = watchdog("a_flush_reaches_the_garbage_of_an_idle_thread");
    let live = Live::default();
    let cell = Arc::new(VersionedCell::new(live.value()));
    for n in [1, 100, 1_000] {
        let (writes, value) = (cell.clone(), live.clone());
        let _idle = on_an_idle_thread(move || {
            for _ in 0..n {
                writes.set(value.value());
            }
        });
        latchwork::flush();
        assert_eq!((live.count(), latchwork::stats().garbage), (1, 0), "{n}");
    }
}

/// The values of an idle thread are dropped while others write, without a flush.
#[test]
fn a_writer_reaches_the_garbage_of_an_idle_thread() {
    turn();
    let _dog = watchdog("a_writer_reaches_the_garbage_of_an_idle_thread");
    latchwork::flush();
    let live = Live::default();
    let cell = Arc::new(VersionedCell::new(live.value()));
    let (writes, value) = (cell.clone(), live.clone());
    let _idle = on_an_idle_thread(move || {
        for _ in 0..20 {
            writes.set(value.value());
        }
    });
    let other = VersionedCell::new(0);
    let start = Instant::now();
    while live.count() > 1 {
        other.update(|n| n + 1);
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{}",
            live.count()
        );
    }
}

/// Each of many threads replaces one value and ends.
#[test]
fn threads_that_end_leave_little() {
    turn();
    let _dog = watchdog("threads_that_end_leave_little");
    let live = Live::default();
    let cell = VersionedCell::new(live.value());
    let mut most = 0;
    for _ in 0..2_000 {
        thread::scope(|s| {
            s.spawn(|| cell.set(live.value())).join().unwrap();
        });
        most = most.max(live.count());
    }
    assert!(most < 100, "{most}");
}

/// The crate does not know what the values own. Those of a thread that writes slowly come back soon
/// nevertheless.
#[test]
fn few_large_values_wait() {
    turn();
    let _dog = watchdog("few_large_values_wait");
    let live = Live::default();
    let _idle: Vec<_> = (0..8)
        .map(|_| on_an_idle_thread(|| drop(latchwork::pin())))
        .collect();
    let new = || (live.value(), vec![1_u8; 1 << 20]);
    let cell = VersionedCell::new(new());
    let mut most = 0;
    for _ in 0..300 {
        cell.set(new());
        most = most.max(live.count());
    }
    assert!(most <= 16, "{most}");
}

/// A destructor does what users' destructors do. None of it runs inside another destructor.
#[test]
fn destructors_write_flush_and_start_threads() {
    static NESTING: AtomicUsize = AtomicUsize::new(0);
    struct Busy(Arc<VersionedCell<u64>>, #[allow(dead_code)] Live);
    impl Drop for Busy {
        fn drop(&mut self) {
            assert_eq!(NESTING.fetch_add(1, Relaxed), 0, "destructors nest");
            let n = self.0.update(|n| n + 1);
            latchwork::flush();
            atomically(|tx| tx.update(&self.0, |n| n + 1));
            if n.get() % 64 == 0 {
                let cell = self.0.clone();
                thread::spawn(move || cell.update(|n| n + 1))
                    .join()
                    .unwrap();
            }
            NESTING.fetch_sub(1, Relaxed);
        }
    }

    turn();
    let _dog = watchdog("destructors_write_flush_and_start_threads");
    let (live, count) = (Live::default(), Arc::new(VersionedCell::new(0)));
    let cell = VersionedCell::new(Busy(count.clone(), live.value()));
    for _ in 0..2_000 {
        cell.set(Busy(count.clone(), live.value()));
    }
    drop(cell);
    latchwork::flush();
    assert_eq!(live.count(), 0);
    assert!(count.get() >= 4_000);
}

/// The counts include what lies in slots of threads that do nothing.
#[test]
fn stats_count_the_garbage_of_all_threads() {
    turn();
    let _dog = watchdog("stats_count_the_garbage_of_all_threads");
    latchwork::flush();
    let pin = latchwork::pin();
    let idle: Vec<_> = (1..=4)
        .map(|n| {
            on_an_idle_thread(move || {
                let cell = VersionedCell::new(0);
                for n in 0..n * 100 {
                    cell.set(n);
                }
            })
        })
        .collect();
    assert_eq!(latchwork::stats().garbage, 1_000);
    assert!(latchwork::stats().oldest_pin.is_some());
    drop(pin);
    let stats = latchwork::stats();
    assert_eq!((stats.garbage, stats.oldest_pin), (1_000, None));
    drop(idle);
    assert_eq!(latchwork::stats().garbage, 1_000);
    latchwork::flush();
    assert_eq!(latchwork::stats().garbage, 0);
}
