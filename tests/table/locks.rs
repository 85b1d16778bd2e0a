//! What each call of a [`LockTable`] does, one test a sentence of its contract.

use std::borrow::Borrow;
use std::hash::BuildHasher;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::hashers::Place;
use crate::common::{assert_as_new, table, until_waits, watchdog};
use latchwork::{
    Fairness, LockTable, Mode, RandomState,
    table::{ExclusiveGuard, SharedGuard},
};

/// Long enough never to pass while a test runs.
const LONG: Duration = Duration::from_secs(3600);
/// Short enough to pass at once; nothing depends on how long it takes.
const SHORT: Duration = Duration::from_micros(50);

#[test]
fn an_exclusive_lock_excludes_both_modes() {
    let table: LockTable<u64> = LockTable::new();
    let guard = table.lock(&1);
    assert!(table.try_lock(&1).is_none());
    assert!(table.try_lock_shared(&1).is_none());
    assert!(table.try_lock_for(&1, SHORT).is_none());
    assert!(table.try_lock_shared_for(&1, SHORT).is_none());
    assert!(table.try_lock_until(&1, Instant::now() + SHORT).is_none());
    assert!(
        table
            .try_lock_shared_until(&1, Instant::now() + SHORT)
            .is_none()
    );
    drop(guard);
    assert!(table.try_lock(&1).is_some());
}

#[test]
fn a_shared_lock_admits_shared_locks_and_excludes_exclusive_ones() {
    let table: LockTable<u64> = LockTable::new();
    let guards = [
        table.lock_shared(&1),
        table.lock_shared(&1),
        table.try_lock_shared(&1).expect("shared with shared"),
        table
            .try_lock_shared_for(&1, Duration::ZERO)
            .expect("shared with shared"),
        table
            .try_lock_shared_for(&1, LONG)
            .expect("shared with shared"),
        table
            .try_lock_shared_until(&1, Instant::now())
            .expect("shared with shared"),
    ];
    for guard in guards {
        assert!(table.try_lock(&1).is_none());
        assert!(table.try_lock_for(&1, SHORT).is_none());
        drop(guard);
    }
    assert!(table.try_lock(&1).is_some(), "the last shared lock is gone");
}

#[test]
fn other_keys_are_free_while_one_is_held() {
    // The same slot of the root, neighbours in a child, and the root's next slot.
    let (table, fresh) = table(Place::Identity);
    let guard = table.lock(&5);
    for key in [
        5 + (1 << 12),
        5 + (2 << 12),
        5 + (1 << 16),
        5 + (1 << 63),
        6,
        4,
    ] {
        assert!(table.try_lock(&key).is_some(), "{key:#x}");
        assert!(table.try_lock_shared(&key).is_some(), "{key:#x}");
        drop(table.lock(&key));
        assert!(table.try_lock(&5).is_none(), "{key:#x} let go of 5");
    }
    drop(guard);
    assert_as_new(&table, fresh);
}

#[test]
fn timed_forms_take_a_free_key_whatever_the_time() {
    let table: LockTable<u64> = LockTable::new();
    let past = Instant::now();
    assert!(table.try_lock_for(&1, Duration::ZERO).is_some());
    assert!(table.try_lock_for(&1, LONG).is_some());
    assert!(table.try_lock_shared_for(&1, Duration::ZERO).is_some());
    assert!(table.try_lock_shared_for(&1, LONG).is_some());
    assert!(table.try_lock_until(&1, past).is_some());
    assert!(table.try_lock_shared_until(&1, past).is_some());
    assert_eq!(table.stats().waits, 0, "nobody had to wait");
}

#[test]
fn a_timed_lock_waits_for_the_holder() {
    let _dog = watchdog("a_timed_lock_waits_for_the_holder");
    let (table, fresh) = table(Place::Identity);
    type Wait = fn(&LockTable<u64, Place>);
    let waits: [Wait; 6] = [
        |table| drop(table.lock(&1)),
        |table| drop(table.lock_shared(&1)),
        |table| assert!(table.try_lock_for(&1, LONG).is_some()),
        |table| assert!(table.try_lock_shared_for(&1, LONG).is_some()),
        |table| assert!(table.try_lock_until(&1, Instant::now() + LONG).is_some()),
        |table| {
            assert!(
                table
                    .try_lock_shared_until(&1, Instant::now() + LONG)
                    .is_some()
            )
        },
    ];
    for (seen, wait) in (1..).zip(waits) {
        let guard = table.lock(&1);
        thread::scope(|scope| {
            scope.spawn(|| wait(&table));
            until_waits(&table, seen);
            drop(guard);
        });
        assert_as_new(&table, fresh);
    }
}

#[test]
fn a_try_shared_fails_behind_a_queued_writer_and_only_so_long() {
    let _dog = watchdog("a_try_shared_fails_behind_a_queued_writer_and_only_so_long");
    for fairness in [Fairness::Eventual, Fairness::Fifo] {
        let table = LockTable::<u64>::builder().fairness(fairness).build();
        let reader = table.lock_shared(&1);
        thread::scope(|scope| {
            let writer = scope.spawn(|| drop(table.lock(&1)));
            until_waits(&table, 1);
            // Readers get no further in, however often they come, until the writer has been.
            for _ in 0..1_000 {
                assert!(
                    table.try_lock_shared(&1).is_none(),
                    "a reader passed a queued writer"
                );
            }
            assert!(table.try_lock_shared_for(&1, SHORT).is_none());
            assert!(table.try_lock(&1).is_none(), "a shared lock is held");
            assert!(
                table.try_lock_shared(&2).is_some(),
                "nobody waits for the other key"
            );
            assert_eq!(table.mode(&1), Some(Mode::Shared));
            drop(reader);
            writer.join().expect("the writer gets its turn");
        });
        assert!(table.try_lock_shared(&1).is_some());
    }
}

#[test]
fn a_writer_that_gave_up_no_longer_holds_readers_back() {
    let (table, fresh) = table(Place::Identity);
    let reader = table.lock_shared(&1);
    for _ in 0..100 {
        assert!(table.try_lock_for(&1, SHORT).is_none());
        assert!(
            table.try_lock_shared(&1).is_some(),
            "the writer left its place in the queue behind"
        );
    }
    drop(reader);
    assert_as_new(&table, fresh);
}

#[test]
fn a_writer_that_gives_up_lets_the_reader_behind_it_pass() {
    let _dog = watchdog("a_writer_that_gives_up_lets_the_reader_behind_it_pass");
    let (table, fresh) = table(Place::Identity);
    let reader = table.lock_shared(&1);
    thread::scope(|scope| {
        // The reader queues behind the writer or finds it gone: it must get in either way, although
        // nobody ever unlocks.
        scope.spawn(|| assert!(table.try_lock_for(&1, Duration::from_millis(20)).is_none()));
        until_waits(&table, 1);
        drop(scope.spawn(|| drop(table.lock_shared(&1))).join());
        assert_eq!(table.mode(&1), Some(Mode::Shared));
    });
    drop(reader);
    assert_as_new(&table, fresh);
}

#[test]
fn mode_and_held_say_what_is_held() {
    let (table, _) = table(Place::Identity);
    assert_eq!((table.mode(&1), table.locked_count()), (None, 0));
    let first = table.lock_shared(&1);
    let second = table.lock_shared(&1);
    assert_eq!(
        (table.mode(&1), table.locked_count()),
        (Some(Mode::Shared), 1),
        "keys count, not guards"
    );
    let other = table.lock(&(1 + (1 << 12)));
    assert_eq!(table.mode(&(1 + (1 << 12))), Some(Mode::Exclusive));
    assert_eq!(
        table.mode(&(1 + (2 << 12))),
        None,
        "the same slot is not the same key"
    );
    assert_eq!(
        (table.mode(&1), table.locked_count()),
        (Some(Mode::Shared), 2)
    );
    drop(first);
    assert_eq!(
        (table.mode(&1), table.locked_count()),
        (Some(Mode::Shared), 2)
    );
    drop(second);
    assert_eq!((table.mode(&1), table.locked_count()), (None, 1));
    drop(other);
    assert_eq!(table.locked_count(), 0);
    assert!(Mode::Shared < Mode::Exclusive);
}

#[test]
fn a_key_is_its_hash() {
    let table: LockTable<str> = LockTable::new();
    let id = table.key_id("user:42");
    assert_eq!(id, table.key_id(&String::from("user:42")[..]));
    assert_ne!(id, table.key_id("user:43"));
    assert_eq!(table.lock("user:42").key_id(), id);
    assert_eq!(table.lock_shared("user:42").key_id(), id);

    // The hash as the hasher gives it: with an identity hasher, integers are exact.
    let state = RandomState::default();
    let expected = state.hash_one("user:42");
    let table: LockTable<str, _> = LockTable::with_hasher(state);
    assert_eq!(table.key_id("user:42").get(), expected);
    let table: LockTable<u64, _> = LockTable::with_hasher(Place::Identity);
    for key in [0, 1, 4096, u64::MAX] {
        assert_eq!(table.key_id(&key).get(), key);
    }
}

#[test]
fn keys_are_found_by_what_they_borrow_as() {
    let table: LockTable<String> = LockTable::new();
    let guard = table.lock("key");
    assert!(table.try_lock(&String::from("key")).is_none());
    assert_eq!(table.mode("key"), Some(Mode::Exclusive));
    drop(guard);

    #[derive(Hash)]
    struct Account(u64);
    impl Borrow<u64> for Account {
        fn borrow(&self) -> &u64 {
            &self.0
        }
    }
    let table: LockTable<Account, _> = LockTable::with_hasher(Place::Identity);
    let _guard = table.lock(&Account(7));
    assert!(table.try_lock(&7_u64).is_none());
}

#[test]
fn every_constructor_makes_a_table_that_locks() {
    fn locks<S: BuildHasher>(table: LockTable<u64, S>) {
        let guard = table.lock(&1);
        assert!(table.try_lock(&1).is_none());
        drop(guard);
        assert!(table.try_lock(&1).is_some());
    }
    locks(LockTable::new());
    locks(LockTable::<u64>::default());
    locks(LockTable::<u64, std::hash::RandomState>::default());
    locks(LockTable::<u64, RandomState>::with_hasher(
        RandomState::default(),
    ));
    locks(LockTable::<u64>::builder().build());
    locks(LockTable::<u64>::builder().hasher(Place::Identity).build());
    for concurrency in [0, 1, 2, 1_000, 100_000] {
        locks(
            LockTable::<u64>::builder()
                .expected_locks(concurrency)
                .build(),
        );
    }
    for fairness in [Fairness::Eventual, Fairness::Fifo, Fairness::default()] {
        locks(LockTable::<u64>::builder().fairness(fairness).build());
    }
    assert_eq!(Fairness::default(), Fairness::Eventual);
}

#[test]
fn concurrency_is_a_hint_and_no_limit() {
    let table = LockTable::<u64>::builder().expected_locks(1).build();
    let fresh = table.stats().index_bytes;
    let guards: Vec<_> = (0..20_000).map(|key| table.lock(&key)).collect();
    assert_eq!(table.locked_count(), 20_000);
    assert!((0..20_000).all(|key| table.try_lock_shared(&key).is_none()));
    drop(guards);
    assert_as_new(&table, fresh);

    let large = LockTable::<u64>::builder()
        .expected_locks(1_000_000)
        .build();
    assert!(large.stats().index_bytes > fresh, "room was asked for");
}

#[test]
fn stats_count_waits_and_inflations() {
    let _dog = watchdog("stats_count_waits_and_inflations");
    let (table, fresh) = table(Place::Identity);
    for key in 0..100 {
        drop(table.lock(&key));
        drop(table.lock_shared(&key));
        assert!(table.try_lock(&key).is_some());
    }
    let stats = table.stats();
    assert_eq!(
        (stats.waits, stats.inflations, stats.monitors),
        (0, 0, 0),
        "nobody was in the way"
    );

    let guard = table.lock(&1);
    thread::scope(|scope| {
        scope.spawn(|| drop(table.lock(&1)));
        until_waits(&table, 1);
        let stats = table.stats();
        assert!(stats.inflations >= 1);
        assert_eq!(stats.monitors, 1);
        let monitor = stats.index_bytes - fresh;
        assert!((1..=256).contains(&monitor), "{monitor} bytes");
        drop(guard);
    });
    assert_eq!(table.stats().waits, 1);
    assert_as_new(&table, fresh);
}

#[test]
fn everything_prints() {
    let table: LockTable<str> = LockTable::new();
    let exclusive = table.lock("a");
    let shared = table.lock_shared("b");
    let set = table.lock_all([("c", Mode::Exclusive)]);
    let builder = LockTable::<str>::builder();
    let texts = [
        (format!("{table:?}"), "LockTable"),
        (format!("{builder:?}"), "LockTableBuilder"),
        (format!("{exclusive:?}"), "ExclusiveGuard"),
        (format!("{shared:?}"), "SharedGuard"),
        (format!("{set:?}"), "{KeyId("),
        (format!("{:?}", table.stats()), "TableStats"),
        (format!("{:?}", table.key_id("a")), "KeyId"),
        (
            format!("{:?} {:?}", Mode::Shared, Fairness::Fifo),
            "Shared Fifo",
        ),
    ];
    for (text, start) in texts {
        assert!(
            text.starts_with(start),
            "{text} does not start with {start}"
        );
    }
}

/// What stands in logs: an identity has sixteen hexadecimal digits, a token is its number.
#[test]
fn identities_and_tokens_are_written_as_numbers() {
    let table: LockTable<u64, Place> = LockTable::with_hasher(Place::Identity);
    let id = table.key_id(&0xBEEF);
    assert_eq!(id.to_string(), "000000000000beef");
    assert_eq!(format!("{id:?}"), "KeyId(000000000000beef)");
    assert_eq!(table.stats().token_bytes, 0, "none was taken yet");
    let first = table.lock(&u64::MAX).token();
    let bytes = table.stats().token_bytes;
    assert!(first.get() >= 1 && bytes >= size_of::<u64>());
    // Whatever key they are of, tokens take no more.
    for bit in 0..64 {
        assert!(table.lock(&(1 << bit)).token().get() >= 1);
    }
    assert_eq!(table.stats().token_bytes, bytes);
    let tokens = [(); 3].map(|()| table.lock(&1).token());
    for pair in tokens.windows(2) {
        assert!(1 <= pair[0].get() && pair[0].get() < pair[1].get());
        assert_eq!(pair[0].to_string(), pair[0].get().to_string());
    }
}

#[test]
fn guards_are_small() {
    assert!(size_of::<ExclusiveGuard<'_>>() <= 32);
    assert!(size_of::<SharedGuard<'_>>() <= 32);
    assert_eq!(
        size_of::<Option<SharedGuard<'_>>>(),
        size_of::<SharedGuard<'_>>()
    );
}

#[test]
fn a_guard_may_be_dropped_by_another_thread() {
    let _dog = watchdog("a_guard_may_be_dropped_by_another_thread");
    let (table, fresh) = table(Place::Above(12));
    let exclusive = table.lock(&1);
    let shared = table.lock_shared(&2);
    let set = table.lock_all([(&3, Mode::Shared), (&4, Mode::Exclusive)]);
    thread::scope(|scope| {
        scope.spawn(|| drop((exclusive, shared, set)));
        drop(table.lock_all([1, 2, 3, 4].iter().map(|key| (key, Mode::Exclusive))));
    });
    assert_as_new(&table, fresh);
}
