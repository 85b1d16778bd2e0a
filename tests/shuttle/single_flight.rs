//! Single flights under schedules that shuttle chooses: leaders that fail, panic or are dropped,
//! and keys of one hash.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use crate::common::hashers::Place;
use crate::common::schedules;
use crate::common::tasks::poll;
use latchwork::table::SingleFlight;
use shuttle::rand::{Rng, thread_rng};
use shuttle::{future, thread};

/// Schedules of a test, unless a campaign wants more.
const SCHEDULES: u64 = 6_000;

/// std's atomics, not shuttle's: the oracle adds no scheduling points but the one where a leader
/// lingers.
#[derive(Default)]
struct World {
    flights: SingleFlight<u64, u64, Collide>,
    clock: AtomicU64,
    is_led: [AtomicBool; 2],
    /// Of each answer: the value, when it was asked for, and when it was there.
    answers: Mutex<Vec<(u64, u64, u64)>>,
}

/// Two keys of one hash.
struct Collide(Place);

impl Default for Collide {
    fn default() -> Self {
        Collide(Place::Constant(7))
    }
}

impl std::hash::BuildHasher for Collide {
    type Hasher = <Place as std::hash::BuildHasher>::Hasher;

    fn build_hasher(&self) -> Self::Hasher {
        self.0.build_hasher()
    }
}

impl World {
    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Relaxed)
    }

    /// Computes the time at which it ends, with the key in the lowest bit.
    fn compute(&self, key: u64, ending: u32) -> Result<u64, ()> {
        let is_led = &self.is_led[key as usize];
        assert!(!is_led.swap(true, Relaxed), "two leaders");
        thread::yield_now();
        is_led.store(false, Relaxed);
        match ending {
            0 => resume_unwind(Box::new("a leader that panics")),
            1 => Err(()),
            _ => Ok(2 * self.tick() + key),
        }
    }

    fn call(&self) {
        let mut random = thread_rng();
        let (key, ending) = (random.gen_range(0..2), random.gen_range(0..4));
        let called = self.tick();
        let result = match random.gen_range(0..3) {
            0 => catch_unwind(AssertUnwindSafe(|| {
                self.flights.try_run(key, || self.compute(key, ending))
            })),
            1 => catch_unwind(AssertUnwindSafe(|| {
                let computed = || async { self.compute(key, ending) };
                future::block_on(self.flights.try_run_async(key, computed))
            })),
            _ => {
                // Dropped wherever it waits.
                let mut asking = Box::pin(self.flights.run_async(key, || async {
                    future::yield_now().await;
                    2 * self.tick() + key
                }));
                let _ = poll(&mut asking);
                thread::yield_now();
                return;
            }
        };
        if let Ok(Ok(value)) = result {
            assert_eq!(value % 2, key, "a value of the other key");
            let answer = (value, called, self.tick());
            self.answers.lock().unwrap().push(answer);
        }
    }
}

#[test]
fn flights_of_two_keys_of_one_hash() {
    schedules::explore("flights_of_two_keys_of_one_hash", SCHEDULES, |_| {
        let world = Arc::new(World::default());
        let callers: Vec<_> = (0..4)
            .map(|_| {
                let world = Arc::clone(&world);
                thread::spawn(move || {
                    world.call();
                    world.call();
                })
            })
            .collect();
        for caller in callers {
            caller.join().expect("a caller panics only in its closure");
        }
        // Who asks after a value was returned to any caller does not receive it.
        let answers = world.answers.lock().unwrap();
        for (value, called, _) in answers.iter() {
            let others = answers.iter().filter(|(other, ..)| other == value);
            for (.., returned) in others {
                assert!(called < returned, "a value from before the call");
            }
        }
        assert_eq!(world.flights.in_flight(), 0);
        assert_eq!(world.flights.run(0, || 9), 9);
    });
}
