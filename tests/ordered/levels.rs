//! Locks of levels. That a wrong order does not compile is in the documentation's examples.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use latchwork::ordered::{
    Above, Bottom, Level, LevelToken, OrderedMutex, OrderedRwLock, RootToken,
};

latchwork::levels! {
    /// First.
    pub Low;
    /// Second.
    pub Middle;
    /// Last.
    pub High;
}

mod later {
    latchwork::levels! {
        after super::High;
        /// Behind all of them.
        pub(crate) Later;
    }
}

fn root() -> RootToken {
    RootToken::take().expect("this test has a thread of its own")
}

#[test]
fn locks_are_taken_level_by_level() {
    let low = OrderedMutex::<Low, _>::new(1);
    let middle = OrderedRwLock::<Middle, _>::new(2);
    let high = OrderedMutex::<High, _>::new(3);
    let later = OrderedRwLock::<later::Later, _>::new(4);
    let mut root = root();
    for _ in 0..2 {
        let (mut a, mut key) = low.lock(&mut root);
        let (b, mut key) = middle.read(&mut key);
        let (c, mut key) = high.try_lock(&mut key).expect("free");
        let (mut d, _) = later.write(&mut key);
        *a += 1;
        *d += *b + *c;
    }
    // Levels may be left out, and locks given back in any order.
    let (a, mut key) = low.lock(&mut root);
    let (c, _) = high.lock(&mut key);
    drop(a);
    assert_eq!(*c, 3);
    drop(c);
    let (d, _) = later
        .try_read(&mut root.skip_to::<High>())
        .map(|(d, _)| (*d, ()))
        .expect("free");
    assert_eq!((d, low.into_inner()), (14, 3));
    assert!(
        middle.try_write(&mut root).is_some()
            && later.try_write(&mut root.skip_to::<High>()).is_some()
    );
}

#[test]
fn ranks_rise_with_the_levels() {
    let ranks = [
        Bottom::RANK,
        Low::RANK,
        Middle::RANK,
        High::RANK,
        later::Later::RANK,
    ];
    assert_eq!(ranks, [0, 1, 2, 3, 4]);
}

#[test]
fn a_function_takes_any_key_that_is_low_enough() {
    fn bump<K: Level>(high: &OrderedMutex<High, u32>, key: &mut LevelToken<'_, K>) -> u32
    where
        High: Above<K>,
    {
        let (mut high, _) = high.lock(key);
        *high += 1;
        *high
    }
    let (low, high) = (OrderedMutex::<Low, _>::new(()), OrderedMutex::new(0));
    let mut root = root();
    assert_eq!(bump(&high, &mut root), 1);
    let (_guard, mut key) = low.lock(&mut root);
    assert_eq!(bump(&high, &mut key), 2);
}

#[test]
fn several_of_one_level_are_locked_at_once() {
    let locks = [1, 2, 3].map(OrderedMutex::<Low, i32>::new);
    let rw = [1, 2].map(OrderedRwLock::<Middle, i32>::new);
    let mut root = root();
    let (guards, mut key) = OrderedMutex::lock_all(locks.iter().rev(), &mut root);
    let values: Vec<i32> = guards.iter().map(|guard| **guard).collect();
    assert_eq!(values, [3, 2, 1], "in the order of the iterator");
    let (read, _) = OrderedRwLock::read_all(&rw, &mut key);
    assert_eq!(read.len(), 2);
    drop(read);
    let (mut written, _) = OrderedRwLock::write_all([&rw[1]], &mut key);
    *written[0] = 7;
    drop((written, guards));
    let twice = || {
        OrderedMutex::lock_all([&locks[0], &locks[1], &locks[0]], &mut root)
            .0
            .len()
    };
    assert!(catch_unwind(AssertUnwindSafe(twice)).is_err());
    let (none, _) = OrderedMutex::<Low, i32>::lock_all([], &mut root);
    assert!(none.is_empty());
    drop(none);
    let mut free = locks.iter().map(|lock| lock.try_lock(&mut root).is_some());
    assert!(free.all(|is_free| is_free), "nothing is left locked");
}

#[test]
fn opposite_requests_of_several_do_not_deadlock() {
    let locks: Vec<_> = (0..16).map(|_| OrderedMutex::<Low, u64>::new(0)).collect();
    thread::scope(|s| {
        for n in 0..4_usize {
            let locks = &locks;
            s.spawn(move || {
                let mut root = root();
                for turn in 0..2_000 {
                    let wanted = [n + turn, n * turn + 5, turn * 7 + 1].map(|i| i % 16);
                    let mut wanted: Vec<_> = wanted.to_vec();
                    if n % 2 == 0 {
                        wanted.reverse();
                    }
                    let mut seen = [false; 16];
                    wanted.retain(|i| !std::mem::replace(&mut seen[*i], true));
                    let (guards, _) =
                        OrderedMutex::lock_all(wanted.iter().map(|i| &locks[*i]), &mut root);
                    for mut guard in guards {
                        *guard += 1;
                    }
                }
            });
        }
    });
    assert!(locks.into_iter().map(OrderedMutex::into_inner).sum::<u64>() > 8_000);
}

#[test]
fn a_thread_has_one_root_key_at_a_time() {
    let first = RootToken::take();
    assert!(first.is_some() && RootToken::take().is_none());
    thread::spawn(|| assert!(RootToken::take().is_some()))
        .join()
        .unwrap();
    drop(first);
    // A panic gives it back.
    assert!(
        catch_unwind(|| {
            let _root = root();
            panic!()
        })
        .is_err()
    );
    let mut again = root();
    let lock = OrderedMutex::<Low, _>::new(1);
    // A forgotten guard keeps its lock, as anywhere; the order is not lost over it.
    std::mem::forget(lock.lock(&mut again).0);
    assert!(lock.is_locked());
    assert!(lock.try_lock(&mut again).is_none());
    std::mem::forget(again);
    assert!(
        RootToken::take().is_none(),
        "beside guards that may be alive"
    );
}

/// A key that is kept by a thread-local is given back while the thread ends, when other destructors
/// may want it.
#[test]
fn a_root_key_outlives_the_destructors_of_its_thread() {
    use std::cell::RefCell;
    struct Late(std::sync::mpsc::Sender<bool>);
    impl Drop for Late {
        fn drop(&mut self) {
            let root = RootToken::take();
            let second = RootToken::take().is_some();
            self.0.send(root.is_some() && !second).unwrap();
        }
    }
    thread_local! {
        static LATE: RefCell<Option<Late>> = const { RefCell::new(None) };
        static KEPT: RefCell<Option<RootToken>> = const { RefCell::new(None) };
    }
    let (said, heard) = std::sync::mpsc::channel();
    thread::spawn(move || {
        // Destructors run in the order of first use here, and may in any: a key is there in at most
        // one place.
        KEPT.with(|kept| *kept.borrow_mut() = Some(root()));
        KEPT.with(|kept| *kept.borrow_mut() = None);
        LATE.with(|late| *late.borrow_mut() = Some(Late(said)));
    })
    .join()
    .unwrap();
    assert!(heard.recv().unwrap());
}

#[test]
fn values_are_reached_without_a_key_by_who_owns_them() {
    let mut mutex = OrderedMutex::<Low, _>::from(1);
    *mutex.get_mut() += 1;
    let mut lock = OrderedRwLock::<Low, u8>::default();
    *lock.get_mut() += 1;
    for text in [format!("{mutex:?}"), format!("{lock:?}")] {
        assert!(text.contains("Low"), "{text}");
    }
    assert_eq!(mutex.into_inner() + i32::from(lock.into_inner()), 3);
    assert!(format!("{:?}", root()).contains("RootToken"));
}

#[test]
fn a_lock_says_whether_it_is_held() {
    let mutex = OrderedMutex::<Low, _>::new(1);
    let lock = OrderedRwLock::<Middle, _>::new(2);
    assert!(!mutex.is_locked() && !lock.is_locked());
    let mut root = root();
    let (held, mut key) = mutex.lock(&mut root);
    assert!(format!("{key:?}").contains("Low"));
    let (read, _) = lock.read(&mut key);
    assert!(mutex.is_locked() && lock.is_locked());
    assert_eq!(format!("{held:?} {read:?}"), "1 2");
    drop(read);
    let (written, _) = lock.write(&mut key);
    assert_eq!(format!("{written:?}"), "2");
}
