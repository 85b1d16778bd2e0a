//! One computation for all callers that ask for one key at once.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::future::{Ready, ready};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::task::Poll;
use std::thread;

use crate::common::hashers::Place;
use crate::common::tasks::{now, panics, poll, yield_once};
use latchwork::table::SingleFlight;

type Flights = SingleFlight<u64, u64>;
type Asking<'f, R> = Pin<Box<dyn Future<Output = R> + 'f>>;

/// Asks for `key` with a future that is pending once, and then computes `value`. The count is that
/// of the computations.
fn ask<'f>(flights: &'f Flights, key: u64, value: u64, runs: &'f Cell<u32>) -> Asking<'f, u64> {
    Box::pin(flights.run_async(key, move || async move {
        yield_once().await;
        runs.set(runs.get() + 1);
        value
    }))
}

#[test]
fn followers_receive_a_clone_of_one_computation() {
    let (flights, runs) = (Flights::new(), Cell::new(0));
    let mut asking: Vec<_> = (0..64).map(|n| ask(&flights, 1, n, &runs)).collect();
    assert!(asking.iter_mut().all(|future| poll(future).is_pending()));
    assert_eq!(flights.in_flight(), 1);
    for future in &mut asking {
        assert_eq!(poll(future), Poll::Ready(0));
    }
    assert_eq!((runs.get(), flights.in_flight()), (1, 0));
    assert_eq!(
        now(ask_now(&flights, 1, 7)),
        7,
        "a later caller starts anew"
    );
}

/// Polls all of them in turn until each is ready.
fn poll_all<F: Future + Unpin>(asking: &mut [F]) -> Vec<F::Output> {
    let mut results: Vec<_> = asking.iter().map(|_| None).collect();
    for _ in 0..2 * asking.len() + 2 {
        for (future, result) in asking.iter_mut().zip(&mut results) {
            if result.is_none() {
                *result = match poll(future) {
                    Poll::Ready(value) => Some(value),
                    Poll::Pending => None,
                };
            }
        }
    }
    let ready = results
        .into_iter()
        .map(|result| result.expect("a caller waits"));
    ready.collect()
}

fn ask_now(flights: &Flights, key: u64, value: u64) -> impl Future<Output = u64> {
    flights.run_async(key, move || ready(value))
}

#[test]
fn a_leader_that_is_dropped_passes_the_lead_on() {
    let (flights, runs) = (Flights::new(), Cell::new(0));
    let mut asking: Vec<_> = (0..4).map(|n| ask(&flights, 1, n, &runs)).collect();
    assert!(asking.iter_mut().all(|future| poll(future).is_pending()));
    drop(asking.remove(0));
    let values = poll_all(&mut asking);
    assert_eq!(runs.get(), 1);
    assert!(
        values.iter().all(|value| *value == values[0] && *value > 0),
        "{values:?}"
    );
    drop(asking);
    assert_eq!(flights.in_flight(), 0);
}

#[test]
fn futures_that_are_all_dropped_leave_nothing() {
    let (flights, runs) = (Flights::new(), Cell::new(0));
    for first in 0..3 {
        let mut asking: Vec<_> = (0..3).map(|n| ask(&flights, 1, n, &runs)).collect();
        assert!(asking.iter_mut().all(|future| poll(future).is_pending()));
        for n in 0..3 {
            drop(asking.remove((first + n) % asking.len()));
        }
        assert_eq!(flights.in_flight(), 0);
    }
    assert_eq!(runs.get(), 0);
    assert_eq!(flights.run(1, || 7), 7);
}

#[test]
fn an_error_is_the_leaders_alone() {
    let flights = SingleFlight::<u64, u64>::new();
    let runs = Cell::new(0);
    let failing = |n| {
        let runs = &runs;
        Box::pin(flights.try_run_async(1, move || async move {
            yield_once().await;
            runs.set(runs.get() + 1);
            if n < 2 { Err(n) } else { Ok(n) }
        }))
    };
    let mut asking: Vec<_> = (0..5_u64).map(failing).collect();
    assert!(asking.iter_mut().all(|future| poll(future).is_pending()));
    // Each error is its caller's own, and the first value is that of all who are left.
    let (mut errors, mut values) = (Vec::new(), Vec::new());
    for result in poll_all(&mut asking) {
        match result {
            Ok(value) => values.push(value),
            Err(error) => errors.push(error),
        }
    }
    assert!(errors.contains(&0) && errors.len() <= 2, "{errors:?}");
    assert!(values.iter().all(|value| *value == values[0]), "{values:?}");
    assert_eq!(runs.get(), errors.len() + 1);
    assert_eq!(flights.in_flight(), 0);
}

#[test]
fn keys_of_one_hash_do_not_wait_for_each_other() {
    let flights = SingleFlight::<u64, u64, Place>::with_hasher(Place::Constant(7));
    let mut asking: Vec<_> = [1, 2, 3, 2, 1]
        .into_iter()
        .map(|key| {
            Box::pin(flights.run_async(key, move || async move {
                yield_once().await;
                10 * key
            }))
        })
        .collect();
    assert!(asking.iter_mut().all(|future| poll(future).is_pending()));
    assert_eq!(flights.in_flight(), 3);
    // The key that was asked for last is done first.
    for (place, value) in [(2, 30), (1, 20), (3, 20), (0, 10), (4, 10)] {
        assert_eq!(poll(&mut asking[place]), Poll::Ready(value));
    }
    assert_eq!(flights.in_flight(), 0);
}

#[test]
fn a_thread_and_tasks_share_one_computation() {
    let flights = Flights::new();
    let (started, starts) = mpsc::channel();
    let (release, released) = mpsc::channel();
    thread::scope(|s| {
        let of_the_leader = &flights;
        let leader = s.spawn(move || {
            of_the_leader.run(1, || {
                started.send(()).unwrap();
                released.recv().unwrap();
                7
            })
        });
        starts.recv().unwrap();
        let mut asking: Vec<_> = (0..3).map(|n| Box::pin(ask_now(&flights, 1, n))).collect();
        assert!(asking.iter_mut().all(|future| poll(future).is_pending()));
        // Another key does not wait.
        assert_eq!(flights.run(2, || 8), 8);
        release.send(()).unwrap();
        assert_eq!(leader.join().unwrap(), 7);
        for future in &mut asking {
            assert_eq!(poll(future), Poll::Ready(7));
        }
    });
    assert_eq!(flights.in_flight(), 0);
}

#[test]
fn sixty_four_threads_never_receive_a_value_that_was_returned_before_their_call() {
    let _dog = crate::common::watchdog(
        "sixty_four_threads_never_receive_a_value_that_was_returned_before_their_call",
    );
    let flights = Flights::new();
    let (clock, is_running, runs) = (
        AtomicU64::new(0),
        AtomicBool::new(false),
        AtomicUsize::new(0),
    );
    let tick = || clock.fetch_add(1, Ordering::SeqCst);
    let (start, answers) = (Barrier::new(64), Mutex::new(Vec::new()));
    thread::scope(|s| {
        for _ in 0..64 {
            s.spawn(|| {
                start.wait();
                for _ in 0..30 {
                    let called = tick();
                    // The value is the number of the computation.
                    let value = flights.run(1, || {
                        assert!(!is_running.swap(true, Ordering::SeqCst), "two leaders");
                        thread::yield_now();
                        is_running.store(false, Ordering::SeqCst);
                        runs.fetch_add(1, Ordering::Relaxed) as u64
                    });
                    answers.lock().unwrap().push((value, called, tick()));
                }
            });
        }
    });
    // For each value: when it was first returned, and who asked last.
    let mut times = BTreeMap::new();
    for (value, called, returned) in answers.into_inner().unwrap() {
        let (last_called, first_returned) = times.entry(value).or_insert((called, returned));
        *last_called = called.max(*last_called);
        *first_returned = returned.min(*first_returned);
    }
    for (value, (last_called, first_returned)) in times {
        assert!(
            last_called < first_returned,
            "value {value} was returned before a call"
        );
    }
    let runs = runs.into_inner();
    assert!((1..=64 * 30).contains(&runs), "{runs} runs");
    assert_eq!(flights.in_flight(), 0);
}

#[test]
fn leaders_that_panic_among_threads_strand_no_follower() {
    let _dog = crate::common::watchdog("leaders_that_panic_among_threads_strand_no_follower");
    let flights = Flights::new();
    let (runs, panicked, answered) = (
        AtomicUsize::new(0),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    thread::scope(|s| {
        for _ in 0..16 {
            s.spawn(|| {
                for _ in 0..50 {
                    let result = catch_unwind(AssertUnwindSafe(|| {
                        flights.run(1, || {
                            let run = runs.fetch_add(1, Ordering::Relaxed);
                            thread::yield_now();
                            if run % 3 == 0 {
                                resume_unwind(Box::new("a leader that panics"));
                            }
                            7
                        })
                    }));
                    match result {
                        Ok(value) => assert_eq!(
                            (value, answered.fetch_add(1, Ordering::Relaxed) < 800),
                            (7, true)
                        ),
                        Err(_) => drop(panicked.fetch_add(1, Ordering::Relaxed)),
                    }
                }
            });
        }
    });
    let (runs, panicked) = (runs.into_inner(), panicked.into_inner());
    assert_eq!(panicked, runs.div_ceil(3), "each panic is its leader's own");
    assert_eq!(answered.into_inner() + panicked, 800);
    assert_eq!(flights.in_flight(), 0);
}

/// A value whose clones are counted, and panic if they are to.
#[derive(Debug)]
struct Counted<'c> {
    clones: &'c Cell<u32>,
    breaks: &'c Cell<bool>,
    alive: Arc<()>,
}

impl Clone for Counted<'_> {
    fn clone(&self) -> Self {
        self.clones.set(self.clones.get() + 1);
        if self.breaks.replace(false) {
            resume_unwind(Box::new("a clone that panics"));
        }
        Counted {
            alive: Arc::clone(&self.alive),
            ..*self
        }
    }
}

#[test]
fn a_value_without_followers_is_not_cloned_and_none_is_kept() {
    let (clones, breaks, alive) = (Cell::new(0), Cell::new(false), Arc::new(()));
    let value = || Counted {
        clones: &clones,
        breaks: &breaks,
        alive: Arc::clone(&alive),
    };
    let flights = SingleFlight::<String, Counted<'_>>::new();
    drop(flights.run("a".to_owned(), value));
    assert_eq!((clones.get(), Arc::strong_count(&alive)), (0, 1));

    let mut asking: Vec<_> = (0..3)
        .map(|_| {
            Box::pin(flights.run_async("a".to_owned(), || async {
                yield_once().await;
                value()
            }))
        })
        .collect();
    assert!(asking.iter_mut().all(|future| poll(future).is_pending()));
    for future in &mut asking {
        assert!(poll(future).is_ready());
    }
    // One for each of the two followers, and one that stays with the flight until the last of them
    // is gone.
    drop(asking);
    assert_eq!((clones.get(), Arc::strong_count(&alive)), (3, 1));
}

#[test]
fn a_clone_that_panics_passes_the_lead_on() {
    let (clones, breaks) = (Cell::new(0), Cell::new(true));
    let flights = SingleFlight::<u64, Counted<'_>>::new();
    let mut asking: Vec<_> = (0..3)
        .map(|_| {
            let (clones, breaks) = (&clones, &breaks);
            Box::pin(flights.run_async(1, move || async move {
                yield_once().await;
                Counted {
                    clones,
                    breaks,
                    alive: Arc::default(),
                }
            }))
        })
        .collect();
    assert!(asking.iter_mut().all(|future| poll(future).is_pending()));
    assert!(panics(|| drop(poll(&mut asking[0]))));
    drop(asking.remove(0));
    assert_eq!((poll_all(&mut asking).len(), flights.in_flight()), (2, 0));
}

/// A leader whose clone panicked had removed the flight. So a caller that arrived next began a
/// second computation beside that of a follower.
#[test]
fn a_clone_that_panics_permits_no_second_computation() {
    let (clones, breaks, runs) = (Cell::new(0), Cell::new(true), Cell::new(0));
    let flights = SingleFlight::<u64, Counted<'_>>::new();
    let ask = || {
        let (clones, breaks, runs) = (&clones, &breaks, &runs);
        let mut asking = Box::pin(flights.run_async(1, move || async move {
            runs.set(runs.get() + 1);
            yield_once().await;
            Counted {
                clones,
                breaks,
                alive: Arc::default(),
            }
        }));
        assert!(poll(&mut asking).is_pending());
        asking
    };
    let (mut leader, mut follower) = (ask(), ask());
    assert!(panics(|| drop(poll(&mut leader))));
    drop(leader);
    // The follower computes now, and the next caller waits for it.
    assert!(poll(&mut follower).is_pending());
    let next = ask();
    assert_eq!((runs.get(), flights.in_flight()), (2, 1));
    let mut asking = [follower, next];
    assert_eq!((poll_all(&mut asking).len(), runs.get()), (2, 2));
    assert_eq!(flights.in_flight(), 0);
}

#[test]
fn a_comparison_that_panics_leaves_its_flight_as_it_was() {
    #[derive(Clone)]
    struct Key<'k>(&'k Cell<bool>);
    impl PartialEq for Key<'_> {
        fn eq(&self, _: &Self) -> bool {
            if self.0.replace(false) {
                resume_unwind(Box::new("a comparison that panics"));
            }
            true
        }
    }
    impl Eq for Key<'_> {}
    impl std::hash::Hash for Key<'_> {
        fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
            state.write_u64(1);
        }
    }
    let breaks = Cell::new(false);
    let flights = SingleFlight::<Key<'_>, u64>::new();
    let mut leader = Box::pin(flights.run_async(Key(&breaks), || async {
        yield_once().await;
        7
    }));
    assert!(poll(&mut leader).is_pending());
    breaks.set(true);
    assert!(panics(|| {
        let _ = flights.run(Key(&breaks), || 8);
    }));
    assert_eq!(flights.in_flight(), 1);
    let mut follower = Box::pin(flights.run_async(Key(&breaks), || ready(9)));
    assert!(poll(&mut follower).is_pending());
    assert_eq!(poll(&mut leader), Poll::Ready(7));
    assert_eq!(poll(&mut follower), Poll::Ready(7));
    assert_eq!(flights.in_flight(), 0);
}

#[test]
fn a_key_may_ask_for_another_key_while_it_is_compared_or_dropped() {
    struct Key<'k>(u64, &'k SingleFlight<u64, u64>);
    impl PartialEq for Key<'_> {
        fn eq(&self, other: &Self) -> bool {
            self.1.run(self.0, || self.0) == other.0
        }
    }
    impl Eq for Key<'_> {}
    impl std::hash::Hash for Key<'_> {
        fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
            state.write_u64(1);
        }
    }
    impl Drop for Key<'_> {
        fn drop(&mut self) {
            assert_eq!(self.1.run(self.0, || 5), 5);
        }
    }
    let inner = SingleFlight::new();
    let outer = SingleFlight::<Key<'_>, u64>::new();
    let mut asking: Vec<_> = [1, 2, 1]
        .into_iter()
        .map(|n| {
            Box::pin(outer.run_async(Key(n, &inner), move || async move {
                yield_once().await;
                n
            }))
        })
        .collect();
    assert!(asking.iter_mut().all(|future| poll(future).is_pending()));
    for (future, n) in asking.iter_mut().zip([1, 2, 1]) {
        assert_eq!(poll(future), Poll::Ready(n));
    }
    drop(asking);
    assert_eq!((outer.in_flight(), inner.in_flight()), (0, 0));
}

#[test]
fn its_futures_may_move_between_threads() {
    fn assert_send<T: Send>(_: &T) {}
    let flights = SingleFlight::<String, Vec<u8>>::new();
    assert_send(&flights.run_async("a".to_owned(), || ready(Vec::new())));
    let failing: fn() -> Ready<Result<Vec<u8>, ()>> = || ready(Err(()));
    assert_send(&flights.try_run_async("a".to_owned(), failing));
}
