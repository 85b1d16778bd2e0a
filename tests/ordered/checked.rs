//! Locks that learn their order. Each test has locks of its own; what is learned is one graph for
//! the program.
#![cfg(any(debug_assertions, feature = "order-checks"))]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use latchwork::ordered::checked::{IS_ON, Mutex, RwLock};

const _: () = assert!(IS_ON);

/// What `f` says when it panics.
fn panic_of(f: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(f)).expect_err("it breaks the order");
    *panic.downcast::<String>().expect("a message")
}

/// The line of a call of this macro, as messages name it.
macro_rules! here {
    () => {
        concat!("tests/ordered/checked.rs:", line!(), ":")
    };
}

#[rustfmt::skip] // What is named and its name are on one line.
#[test]
fn two_locks_the_other_way_round_name_both_places() {
    let (a, made_a) = (Mutex::new(1), here!());
    let (b, made_b) = (RwLock::new(2), here!());
    let (first_a, held_a) = (a.lock(), here!());
    let (then_b, taken_b) = (b.read(), here!());
    drop((first_a, then_b));
    let (guard, held_b) = (b.write(), here!());
    let mut taken_a = "";
    let said = panic_of(|| {
        taken_a = here!(); drop(a.lock());
    });
    for place in [made_a, made_b, held_a, taken_b, held_b, taken_a] {
        assert!(said.contains(place), "{place} is not in:\n{said}");
    }
    // It was not taken, and nothing was learned.
    drop(guard);
    assert_eq!(*a.lock() + *b.read(), 3);
}

#[test]
fn a_ring_of_many_is_found_across_threads() {
    let locks: Vec<_> = (0..8).map(Mutex::new).collect();
    for n in 0..7 {
        thread::scope(|s| {
            s.spawn(|| {
                let _first = locks[n].lock();
                let _second = locks[n + 1].lock();
            });
        });
    }
    let _last = locks[7].lock();
    let said = panic_of(|| drop(locks[0].lock()));
    assert_eq!(
        said.matches("acquires the lock created at").count(),
        8,
        "{said}"
    );
}

#[test]
fn a_thread_that_takes_what_it_holds_is_told() {
    let mutex = Mutex::new(1);
    let guard = mutex.lock();
    let said = panic_of(|| drop(mutex.lock()));
    assert!(
        said.contains("a thread acquires a lock that it already holds"),
        "{said}"
    );
    drop(guard);
    let lock = RwLock::new(1);
    let guard = lock.read();
    for f in [&|| drop(lock.read()), &|| drop(lock.write())] as [&dyn Fn(); 2] {
        assert!(panic_of(f).contains("that it already holds"));
    }
    drop(guard);
    drop(lock.write());
}

#[test]
fn a_try_waits_for_nobody_and_what_is_taken_under_it_counts() {
    let (a, b) = (Mutex::new(1), Mutex::new(2));
    {
        let _a = a.lock();
        drop(b.lock());
    }
    let held = b.lock();
    assert!(
        a.try_lock().is_some(),
        "the other way round, without waiting"
    );
    assert!(b.try_lock().is_none());
    drop(held);
    let (c, d) = (Mutex::new(1), Mutex::new(2));
    {
        let _c = c.try_lock().expect("free");
        drop(d.lock());
    }
    let _d = d.lock();
    assert!(panic_of(|| drop(c.lock())).contains("lock order violation"));
}

#[test]
fn guards_are_given_back_in_any_order() {
    let (a, b, c) = (Mutex::new(1), Mutex::new(2), Mutex::new(3));
    let one = a.lock();
    let two = b.lock();
    drop(one);
    let three = c.lock(); // b, c; and not a
    drop(two);
    drop(three);
    {
        let _c = c.lock();
        assert!(panic_of(|| drop(b.lock())).contains("lock order violation"));
    }
    drop(b);
    let _c = c.lock();
    drop(a.lock());
}

#[test]
fn a_lock_that_is_dropped_is_forgotten() {
    let a = Mutex::new(1);
    for _ in 0..100 {
        // In the same place in memory, most likely, each time the other way round.
        let b = Mutex::new(2);
        {
            let _a = a.lock();
            drop(b.lock());
        }
        drop(b);
        let b = Mutex::new(2);
        let _b = b.lock();
        drop(a.lock());
    }
}

#[test]
fn a_forgotten_guard_of_a_lock_that_is_dropped_is_forgotten_too() {
    let a = Mutex::new(1);
    let gone = Mutex::new(2);
    std::mem::forget(gone.lock());
    drop(a.lock());
    drop(gone);
    let b = Mutex::new(3);
    let _a = a.lock();
    drop(b.lock());
}

#[test]
fn a_panic_forgets_what_it_unlocks_and_is_not_followed_by_another() {
    struct LocksWhenDropped<'a>(&'a Mutex<i32>);
    impl Drop for LocksWhenDropped<'_> {
        fn drop(&mut self) {
            // In the wrong order, while the thread panics already.
            if let Some(mut guard) = self.0.try_lock() {
                *guard += 1;
            }
            *self.0.lock() += 1;
        }
    }
    let (a, b) = (Mutex::new(0), Mutex::new(0));
    {
        let _a = a.lock();
        drop(b.lock());
    }
    let said = panic_of(|| {
        let _b = b.lock();
        let _late = LocksWhenDropped(&a);
        drop(a.lock());
    });
    assert!(said.contains("lock order violation"), "{said}");
    assert_eq!((*a.lock(), *b.lock()), (2, 0));
}

#[test]
fn opposite_orders_of_free_threads_are_found_before_they_deadlock() {
    for _ in 0..50 {
        let (a, b) = (Mutex::new(0), Mutex::new(0));
        let found: usize = thread::scope(|s| {
            let one = s.spawn(|| {
                let _a = a.lock();
                drop(b.lock());
            });
            let other = s.spawn(|| {
                let _b = b.lock();
                drop(a.lock());
            });
            [one, other]
                .into_iter()
                .filter_map(|t| t.join().err())
                .count()
        });
        assert_eq!(found, 1, "exactly one of them is second");
    }
}
