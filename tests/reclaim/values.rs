//! What becomes of replaced values: each is dropped once, and memory stays bounded.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{Rng, watchdog};
use crate::turn;
use latchwork::VersionedCell;

/// Counts the values made and those dropped.
#[derive(Clone, Default)]
struct Count(Arc<(AtomicUsize, AtomicUsize)>);

struct Counted {
    count: Count,
    dropped: bool,
}

impl Count {
    fn value(&self) -> Counted {
        self.0.0.fetch_add(1, Relaxed);
        Counted {
            count: self.clone(),
            dropped: false,
        }
    }

    /// Returns how many values live.
    fn live(&self) -> usize {
        self.0.0.load(Relaxed) - self.0.1.load(Relaxed)
    }

    /// Flushes until only `left` values live, or fails.
    fn drops_all_but(&self, left: usize) {
        let start = Instant::now();
        loop {
            latchwork::flush();
            let (made, dropped) = (self.0.0.load(Relaxed), self.0.1.load(Relaxed));
            assert!(dropped + left <= made, "{made} made, {dropped} dropped");
            if dropped + left == made {
                return;
            }
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "{made} made, {dropped} dropped, {left} in use; {:?}",
                latchwork::stats()
            );
            thread::yield_now();
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        assert!(!self.dropped, "dropped twice");
        self.dropped = true;
        self.count.0.1.fetch_add(1, Relaxed);
    }
}

#[test]
fn every_value_is_dropped_once() {
    turn();
    let _dog = watchdog("every_value_is_dropped_once");
    let count = Count::default();
    let cell = VersionedCell::new(count.value());
    thread::scope(|s| {
        for seed in 0..4 {
            let (cell, count) = (&cell, &count);
            s.spawn(move || {
                let mut rng = Rng::new(seed);
                let mut owned = Vec::new();
                for _ in 0..20_000 {
                    match rng.below(8) {
                        0 => drop(cell.swap(count.value())),
                        1 => drop(cell.compare_and_set(cell.version(), count.value())),
                        2 => owned.push(cell.read_owned()),
                        3 => owned.truncate(4),
                        4 => {
                            cell.update(|_| count.value());
                        }
                        5 => assert!(!cell.read().dropped),
                        _ => {
                            cell.set(count.value());
                        }
                    }
                }
            });
        }
    });
    count.drops_all_but(1);
    drop(cell);
    count.drops_all_but(0);
}

#[test]
fn values_of_threads_that_have_ended_are_dropped_once() {
    turn();
    let _dog = watchdog("values_of_threads_that_have_ended_are_dropped_once");
    let count = Count::default();
    let cell = Arc::new(VersionedCell::new(count.value()));
    // Keeps what they leave from being dropped while they end.
    let reader = cell.read();
    let threads: Vec<_> = (0..50)
        .map(|n| {
            let (cell, count) = (cell.clone(), count.clone());
            thread::spawn(move || {
                for _ in 0..n * 7 {
                    cell.set(count.value());
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert!(!reader.dropped);
    drop(reader);
    count.drops_all_but(1);
}

/// Far more threads end behind one pin than one step of reclamation takes up. Once the pin is gone,
/// one call drops what they left, as it says.
#[test]
fn one_flush_drops_what_many_threads_left() {
    turn();
    let _dog = watchdog("one_flush_drops_what_many_threads_left");
    let count = Count::default();
    let cell = Arc::new(VersionedCell::new(count.value()));
    let reader = cell.read();
    for _ in 0..400 {
        let (cell, count) = (cell.clone(), count.clone());
        thread::spawn(move || {
            for _ in 0..3 {
                cell.set(count.value());
            }
        })
        .join()
        .unwrap();
    }
    drop(reader);
    latchwork::flush();
    let (made, dropped) = (count.0.0.load(Relaxed), count.0.1.load(Relaxed));
    assert_eq!((made, dropped), (1201, 1200), "{:?}", latchwork::stats());
}

/// Values of any size and alignment lie where their type may, and come back whole.
#[test]
fn values_of_any_size_and_alignment() {
    #[repr(align(16))]
    struct Align16([u8; 16]);
    #[repr(align(32))]
    struct Align32([u8; 1]);
    #[repr(align(4096))]
    struct Align4096([u8; 1]);
    #[repr(align(32))]
    struct Empty32([u8; 0]);

    /// Writes values made of one byte, and looks at each way to read them.
    fn check<T: Send + Sync + 'static>(make: fn(u8) -> T, byte: fn(&T) -> Option<u8>) {
        let mut cell = VersionedCell::new(make(0));
        let mut owned = Vec::new();
        for n in 1..=255 {
            assert_eq!((&raw const *cell.read()).addr() % align_of::<T>(), 0);
            assert!([None, Some(n - 1)].contains(&byte(&cell.read())));
            owned.push((n - 1, cell.read_owned()));
            cell.set(make(n));
            if n % 32 == 0 {
                latchwork::flush();
                owned.drain(..16);
            }
        }
        for (n, snapshot) in owned {
            assert!([None, Some(n)].contains(&byte(&snapshot)));
        }
        *cell.get_mut().expect("nobody shares it") = make(7);
        let Ok(last) = cell.into_inner() else {
            unreachable!("nobody shares it")
        };
        assert!([None, Some(7)].contains(&byte(&last)));
    }

    turn();
    check(|_| (), |()| None);
    check(|_| Empty32([]), |e| e.0.first().copied());
    check(|n| n, |n| Some(*n));
    check(|n| Align16([n; 16]), |a| Some(a.0[15]));
    check(|n| Align32([n]), |a| Some(a.0[0]));
    check(|n| Align4096([n]), |a| Some(a.0[0]));
    check(|n| [n; 300], |a| a.last().copied());
    // A write moves its value a few times: unoptimised, twenty of these do not fit a usual stack.
    let large = || check(|n| [n; 100_000], |a| a.last().copied());
    let roomy = thread::Builder::new().stack_size(64 << 20);
    roomy.spawn(large).unwrap().join().unwrap();
}

/// Thread-local destructors that use cells, after the crate's own may have run.
#[test]
fn thread_local_destructors_use_cells() {
    struct AtExit(Arc<VersionedCell<Counted>>, Count);
    impl Drop for AtExit {
        fn drop(&mut self) {
            for _ in 0..10 {
                self.0.set(self.1.value());
                assert!(!self.0.read().dropped);
            }
            let own = VersionedCell::new(self.1.value());
            own.set(self.1.value());
            latchwork::flush();
        }
    }
    thread_local! {
        static BEFORE: RefCell<Option<AtExit>> = const { RefCell::new(None) };
        static AFTER: RefCell<Option<AtExit>> = const { RefCell::new(None) };
    }

    turn();
    let count = Count::default();
    let cell = Arc::new(VersionedCell::new(count.value()));
    for _ in 0..20 {
        let (cell, count) = (cell.clone(), count.clone());
        thread::spawn(move || {
            // One destructor is registered before the crate's, one after.
            BEFORE.set(Some(AtExit(cell.clone(), count.clone())));
            cell.set(count.value());
            AFTER.set(Some(AtExit(cell.clone(), count.clone())));
        })
        .join()
        .unwrap();
    }
    count.drops_all_but(1);
}

/// A chain of cells, each the value of another: its destructors write and drop cells. As deep as a
/// stack would not bear if each released the next.
#[test]
fn destructors_write_cells() {
    struct Writes(Arc<VersionedCell<Vec<Writes>>>, #[allow(dead_code)] Counted);
    impl Drop for Writes {
        fn drop(&mut self) {
            self.0.set(Vec::new());
        }
    }

    turn();
    let _dog = watchdog("destructors_write_cells");
    let count = Count::default();
    let cell = Arc::new(VersionedCell::new(Vec::new()));
    for _ in 0..100_000 {
        cell.set(vec![Writes(cell.clone(), count.value())]);
    }
    cell.set(Vec::new());
    count.drops_all_but(0);
}

#[test]
fn a_destructor_that_panics_loses_nobody_elses_value() {
    struct Panics(#[allow(dead_code)] Counted, bool);
    impl Drop for Panics {
        fn drop(&mut self) {
            if self.1 && !thread::panicking() {
                // Not `panic!`: the hook would print a trace for a panic the test wants.
                resume_unwind(Box::new("a destructor that panics"));
            }
        }
    }

    turn();
    let _dog = watchdog("a_destructor_that_panics_loses_nobody_elses_value");
    let count = Count::default();
    let cell = VersionedCell::new(Panics(count.value(), false));
    let (mut panics, mut written) = (0, 0);
    for n in 0..2000 {
        let value = Panics(count.value(), n % 10 == 0);
        match catch_unwind(AssertUnwindSafe(|| cell.set(value))) {
            Ok(version) => {
                written += 1;
                assert_eq!(version.get(), written, "a write that panicked has happened");
            }
            Err(_) => panics += 1,
        }
    }
    assert!(panics > 0, "no destructor ran");
    let swap = || drop(cell.swap(Panics(count.value(), false)));
    panics += usize::from(catch_unwind(AssertUnwindSafe(swap)).is_err());
    // A flush of a thread that is often interrupted leaves some.
    while count.live() > 1 {
        panics += usize::from(catch_unwind(latchwork::flush).is_err());
    }
    count.drops_all_but(1);
    // A value whose write was taken along by another's panic is dropped while that unwinds, and so
    // without its own.
    assert!(
        panics <= 200,
        "more panics than destructors that do: {panics}"
    );
}

#[test]
fn a_clone_that_panics_leaves_the_cell_as_it_was() {
    struct NoClone(u8);
    impl Clone for NoClone {
        fn clone(&self) -> Self {
            resume_unwind(Box::new("no clone"))
        }
    }
    // A pin of this thread would hold back the values of the other tests.
    turn();
    let cell = VersionedCell::new(NoClone(3));
    assert!(catch_unwind(AssertUnwindSafe(|| cell.get())).is_err());
    assert_eq!(cell.read().0, 3);
    assert_eq!(cell.set(NoClone(4)).get(), 1);
}

/// A reader that sleeps shows in the statistics, with what waits behind it, and holds up nobody.
#[test]
fn a_stalled_reader_shows() {
    turn();
    let _dog = watchdog("a_stalled_reader_shows");
    let cell = VersionedCell::new([0_u64; 4]);
    let (ready, wake) = (Barrier::new(2), Barrier::new(2));
    thread::scope(|s| {
        s.spawn(|| {
            let stalled = cell.read();
            ready.wait();
            wake.wait();
            assert_eq!(*stalled, [0; 4]);
        });
        ready.wait();
        for n in 0..20_000 {
            cell.set([n; 4]);
        }
        thread::sleep(Duration::from_millis(20));
        let stats = latchwork::stats();
        assert!(stats.garbage >= 18_000, "{stats:?}");
        assert!(stats.garbage_bytes >= 64 * 18_000, "{stats:?}");
        assert!(
            stats.oldest_pin > Some(Duration::from_millis(20)),
            "{stats:?}"
        );
        wake.wait();
    });
    while latchwork::stats().garbage > 0 {
        latchwork::flush();
        thread::yield_now();
    }
    assert_eq!(latchwork::stats().oldest_pin, None);
}

/// More writers than cores: those that do not run have pins, behind which the others' garbage
/// grows.
#[test]
fn garbage_stays_bounded_with_more_threads_than_cores() {
    turn();
    let _dog = watchdog("garbage_stays_bounded_with_more_threads_than_cores");
    let threads = 8 * thread::available_parallelism().map_or(2, usize::from);
    let stop = AtomicBool::new(false);
    let most = thread::scope(|s| {
        for _ in 0..threads {
            s.spawn(|| {
                let cell = VersionedCell::new(0_u64);
                while !stop.load(Relaxed) {
                    cell.update(|n| n + 1);
                }
            });
        }
        let start = Instant::now();
        let mut most = 0;
        while start.elapsed() < Duration::from_millis(500) {
            most = most.max(latchwork::stats().garbage);
            thread::sleep(Duration::from_millis(1));
        }
        stop.store(true, Relaxed);
        most
    });
    // A thread yields from 8,192 on; what it retires before it is heard is a small multiple.
    assert!(
        most < threads * 8 * 8192,
        "{most} values, {threads} threads"
    );
}
