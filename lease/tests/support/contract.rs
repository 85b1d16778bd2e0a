//! The contract of an engine: what each engine is tested for.
#![allow(unreachable_pub)]

use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use latchwork::table::FencingToken;
use latchwork_lease::engine::{
    AttemptAll, Engine, Key, Nonce, Outcome, Released, Renewal, Renewed,
};

use super::support::{KEY, attempt, key, ms, request, soon};

const LONG: Duration = Duration::from_secs(60);

/// Where leases are kept: all engines that it opens exclude each other.
pub trait Place {
    fn open(&self) -> Box<dyn Engine>;
}

#[cfg(feature = "conformance")]
use latchwork_lease::conformance::{self, Failure, Held};

/// Returns the failure of a case. Prints how often it was repeated because this machine was late.
#[cfg(feature = "conformance")]
fn failure(name: &str, result: Result<Held, Failure>) -> Option<String> {
    match result {
        Ok(held) if held.repetitions > 0 => {
            println!("{name}: repeated {} times", held.repetitions);
            None
        }
        Ok(_) => None,
        Err(failure) => Some(failure.to_string()),
    }
}

/// Runs the conformance suite of the crate.
#[cfg(feature = "conformance")]
pub fn assert_conforms(open: &(dyn Fn() -> Arc<dyn Engine> + Sync)) {
    let cases: Vec<_> = conformance::cases().collect();
    assert!(cases.len() > 30);
    // A case has time limits, and each transaction waits for the disk. With all cases at once,
    // forty writers would share it, and one sync may take 4 ms.
    let mut failures = Vec::new();
    for several in cases.chunks(4) {
        thread::scope(|scope| {
            let runs: Vec<_> = several
                .iter()
                .map(|case| scope.spawn(move || failure(case.name(), case.run(open))))
                .collect();
            failures.extend(runs.into_iter().filter_map(|run| run.join().unwrap()));
        });
    }
    assert_eq!(failures, [""; 0]);
}

/// The role of a process that [`assert_conforms_across_processes`] starts, and its URL.
#[cfg(feature = "conformance")]
const ROLE: [&str; 2] = ["LEASE_TEST_ROLE", "LEASE_TEST_ROLE_URL"];

/// Plays the role of a process of the suite. Alone it does nothing.
#[cfg(feature = "conformance")]
pub fn act() {
    let [Ok(role), Ok(url)] = ROLE.map(std::env::var) else {
        return;
    };
    conformance::act(conformance::open(&url).unwrap(), &role);
}

/// Runs the cases of the suite that start processes: each calls the test `act` of this program.
#[cfg(feature = "conformance")]
pub fn assert_conforms_across_processes(url: &str) {
    let program = std::env::current_exe().unwrap();
    let start = |role: &str| {
        let mut command = std::process::Command::new(&program);
        command.args(["act", "--exact", "--nocapture"]);
        command.envs(ROLE.into_iter().zip([role, url]));
        command
    };
    let open = || conformance::open(url).unwrap();
    let mut failures = Vec::new();
    for case in conformance::process_cases() {
        failures.extend(failure(case.name(), case.run(&open, &start)));
    }
    assert_eq!(failures, [""; 0]);
}

/// Makes one test of each function, with a place that the expression makes, if it can.
macro_rules! contract_tests {
    ($place:expr) => {
        crate::contract::contract_tests! { $place;
            a_key_is_held_by_one_nonce_until_its_release
            a_repeated_request_has_the_same_token_and_a_new_end
            an_expired_lease_is_neither_renewed_nor_released
            several_keys_are_granted_together_or_not_at_all
            several_keys_are_released_in_one_request
            the_prefix_of_a_list_is_literal_and_its_order_is_that_of_bytes
            a_lease_is_broken_only_under_the_token_that_was_seen
            a_raised_floor_is_exceeded_by_each_later_token_and_keeps_the_holder
            a_floor_leaves_tokens_for_later_holders
            namespaces_and_names_are_not_concatenated
            many_threads_and_engines_get_distinct_growing_tokens
            a_release_ends_the_wait_of_another_engine
        }
    };
    ($place:expr; $($name:ident)*) => {
        $(#[test]
        fn $name() {
            if let Some(place) = $place {
                crate::contract::$name(&place);
            }
        })*
    };
}
pub(crate) use contract_tests;

pub fn a_key_is_held_by_one_nonce_until_its_release(place: &dyn Place) {
    let (first, second) = (place.open(), place.open());
    assert_eq!(attempt(&*first, KEY, 1, LONG), Some(1));
    assert_eq!(attempt(&*second, KEY, 2, LONG), None);
    assert_eq!(
        second.release(KEY, Nonce::new(2), soon()).unwrap(),
        Released::WasLost
    );
    assert_eq!(
        first.release(KEY, Nonce::new(1), soon()).unwrap(),
        Released::Done
    );
    assert_eq!(
        first.release(KEY, Nonce::new(1), soon()).unwrap(),
        Released::WasLost
    );
    assert_eq!(attempt(&*second, KEY, 2, LONG), Some(2));
}

pub fn a_repeated_request_has_the_same_token_and_a_new_end(place: &dyn Place) {
    let engine = place.open();
    assert_eq!(attempt(&*engine, KEY, 1, ms(300)), Some(1));
    assert_eq!(attempt(&*engine, KEY, 1, LONG), Some(1));
    thread::sleep(ms(350));
    assert_eq!(attempt(&*engine, KEY, 2, LONG), None);
}

pub fn an_expired_lease_is_neither_renewed_nor_released(place: &dyn Place) {
    let engine = place.open();
    assert_eq!(attempt(&*engine, KEY, 1, ms(100)), Some(1));
    let renewal = |token| Renewal {
        key: KEY,
        nonce: Nonce::new(1),
        token: FencingToken::new(token),
        ttl: ms(100),
    };
    let renewed = engine
        .renew_many(&[renewal(1), renewal(2)], soon())
        .unwrap();
    assert_eq!(renewed, [Renewed::Held, Renewed::Lost]);
    thread::sleep(ms(120));
    assert_eq!(
        engine.renew_many(&[renewal(1)], soon()).unwrap(),
        [Renewed::Lost]
    );
    assert_eq!(
        engine.release(KEY, Nonce::new(1), soon()).unwrap(),
        Released::WasLost
    );
    assert!(engine.holder(KEY, soon()).unwrap().is_none());
    assert_eq!(attempt(&*engine, KEY, 2, LONG), Some(2));
}

pub fn several_keys_are_granted_together_or_not_at_all(place: &dyn Place) {
    let engine = place.open();
    assert_eq!(attempt(&*engine, key("b"), 1, LONG), Some(1));
    let requests = |nonce| {
        [
            request(key("a"), nonce, LONG),
            request(key("b"), nonce, LONG),
        ]
    };
    match engine
        .try_acquire_all(&requests(2), soon())
        .unwrap()
        .unwrap()
    {
        AttemptAll::Busy {
            index: 1,
            free_in: Some(left),
        } => assert!(left > ms(50_000)),
        other => panic!("{other:?}"),
    }
    assert!(engine.holder(key("a"), soon()).unwrap().is_none());
    engine.release(key("b"), Nonce::new(1), soon()).unwrap();
    let all = engine
        .try_acquire_all(&requests(2), soon())
        .unwrap()
        .unwrap();
    assert_eq!(
        all,
        AttemptAll::Granted(vec![FencingToken::new(1), FencingToken::new(2)])
    );
}

pub fn several_keys_are_released_in_one_request(place: &dyn Place) {
    let engine = place.open();
    for name in ["a", "b", "c"] {
        attempt(&*engine, key(name), 1, LONG).unwrap();
    }
    let nonces = [1, 2, 1].map(Nonce::new);
    let pairs = [
        (key("c"), nonces[0]),
        (key("b"), nonces[1]),
        (key("a"), nonces[2]),
    ];
    let released = engine.release_many(&pairs, soon()).unwrap().unwrap();
    let expected = [Released::Done, Released::WasLost, Released::Done];
    assert_eq!(released, expected);
    assert_eq!(attempt(&*engine, key("a"), 3, LONG), Some(2));
    assert_eq!(attempt(&*engine, key("b"), 3, LONG), None);
}

pub fn the_prefix_of_a_list_is_literal_and_its_order_is_that_of_bytes(place: &dyn Place) {
    let engine = place.open();
    for name in ["a%c", "a_b", "abc", "aéc", "A%d", "b"] {
        attempt(&*engine, key(name), 1, LONG).unwrap();
    }
    let names = |prefix: &str| -> Vec<String> {
        let list = engine.list("tests", prefix, soon()).unwrap();
        list.into_iter().map(|(name, _)| name).collect()
    };
    assert_eq!(names(""), ["A%d", "a%c", "a_b", "abc", "aéc", "b"]);
    assert_eq!(names("a%"), ["a%c"]);
    assert_eq!(names("a_"), ["a_b"]);
    assert!(engine.list("test", "", soon()).unwrap().is_empty());
}

pub fn a_lease_is_broken_only_under_the_token_that_was_seen(place: &dyn Place) {
    let engine = place.open();
    attempt(&*engine, KEY, 1, LONG).unwrap();
    let info = engine.holder(KEY, soon()).unwrap().unwrap();
    assert_eq!((info.owner.as_str(), info.token.get()), ("a test", 1));
    assert!(info.expires_in <= LONG && info.expires_in > ms(50_000));
    assert!(info.held_for < ms(10_000));
    assert!(
        !engine
            .break_lease(KEY, FencingToken::new(2), soon())
            .unwrap()
    );
    assert!(
        engine
            .break_lease(KEY, FencingToken::new(1), soon())
            .unwrap()
    );
    assert!(
        !engine
            .break_lease(KEY, FencingToken::new(1), soon())
            .unwrap()
    );
    assert_eq!(attempt(&*engine, KEY, 2, LONG), Some(2));
}

pub fn a_raised_floor_is_exceeded_by_each_later_token_and_keeps_the_holder(place: &dyn Place) {
    let engine = place.open();
    attempt(&*engine, KEY, 1, LONG).unwrap();
    engine
        .raise_floor(KEY, FencingToken::new(40), soon())
        .unwrap();
    engine
        .raise_floor(KEY, FencingToken::new(7), soon())
        .unwrap();
    assert_eq!(engine.holder(KEY, soon()).unwrap().unwrap().token.get(), 1);
    assert_eq!(attempt(&*engine, KEY, 1, LONG), Some(1));
    engine.release(KEY, Nonce::new(1), soon()).unwrap();
    assert_eq!(attempt(&*engine, KEY, 2, LONG), Some(41));
    engine
        .raise_floor(key("new"), FencingToken::new(3), soon())
        .unwrap();
    assert_eq!(attempt(&*engine, key("new"), 2, LONG), Some(4));
    let greatest = FencingToken::new(u64::MAX);
    let error = engine.raise_floor(KEY, greatest, soon()).unwrap_err();
    assert!(
        !error.is_temporary && error.outcome == Outcome::NotDone,
        "{error}"
    );
}

pub fn namespaces_and_names_are_not_concatenated(place: &dyn Place) {
    let engine = place.open();
    let key = |namespace, name| Key { namespace, name };
    for (nonce, key) in [key("a", "bc"), key("ab", "c"), key("a", "BC")]
        .into_iter()
        .enumerate()
    {
        assert_eq!(attempt(&*engine, key, nonce as u128, LONG), Some(1));
    }
}

pub fn many_threads_and_engines_get_distinct_growing_tokens(place: &dyn Place) {
    let barrier = Arc::new(Barrier::new(4));
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let (engine, barrier) = (place.open(), Arc::clone(&barrier));
            thread::spawn(move || {
                barrier.wait();
                let mut tokens = Vec::new();
                while tokens.len() < 25 {
                    let nonce = u128::from(thread as u8) * 1000 + tokens.len() as u128;
                    match attempt(&*engine, KEY, nonce, LONG) {
                        Some(token) => {
                            tokens.push(token);
                            let released = engine.release(KEY, Nonce::new(nonce), soon());
                            assert_eq!(released.unwrap(), Released::Done);
                        }
                        None => engine.wait_hint(KEY, Nonce::new(nonce), soon()).unwrap(),
                    }
                }
                tokens
            })
        })
        .collect();
    let mut all = Vec::new();
    for thread in threads {
        let tokens = thread.join().unwrap();
        assert!(tokens.is_sorted());
        all.extend(tokens);
    }
    all.sort_unstable();
    assert_eq!(all, (1..=100).collect::<Vec<u64>>());
}

pub fn a_release_ends_the_wait_of_another_engine(place: &dyn Place) {
    let (holder, waiter) = (place.open(), place.open());
    attempt(&*holder, KEY, 1, LONG).unwrap();
    attempt(&*holder, key("other"), 1, LONG).unwrap();
    let start = Instant::now();
    waiter
        .wait_hint(KEY, Nonce::new(2), start + ms(100))
        .unwrap();
    assert!(
        start.elapsed() >= ms(100),
        "the wait ended while the key was held"
    );

    thread::scope(|scope| {
        let wait = scope.spawn(|| {
            let start = Instant::now();
            waiter.wait_hint(KEY, Nonce::new(2), start + LONG).unwrap();
            Instant::now()
        });
        thread::sleep(ms(100));
        // A release of another key does not end it.
        holder.release(key("other"), Nonce::new(1), soon()).unwrap();
        thread::sleep(ms(100));
        let released = Instant::now();
        holder.release(KEY, Nonce::new(1), soon()).unwrap();
        let woken = wait.join().unwrap();
        assert!(woken > released, "the wait ended before the release");
        assert!(woken - released < ms(1000));
    });
    // A key that is free at once, and a wait within one engine.
    waiter
        .wait_hint(KEY, Nonce::new(2), Instant::now() + LONG)
        .unwrap();
}

/// A floor that leaves no tokens would make the name useless after one lease.
pub fn a_floor_leaves_tokens_for_later_holders(place: &dyn Place) {
    let (engine, key) = (&*place.open(), key("floor"));
    for floor in [i64::MAX as u64 - 1, (1 << 62) + 1] {
        let refused = engine.raise_floor(key, FencingToken::new(floor), soon());
        assert!(!refused.unwrap_err().is_temporary);
    }
    engine
        .raise_floor(key, FencingToken::new(1 << 62), soon())
        .unwrap();
    for nonce in 1..3 {
        let token = attempt(engine, key, nonce, LONG).unwrap();
        assert_eq!(token, (1 << 62) + nonce as u64);
        let released = engine.release(key, Nonce::new(nonce), soon());
        assert_eq!(released.unwrap(), Released::Done);
    }
}
