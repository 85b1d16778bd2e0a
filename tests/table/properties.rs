//! Random sequences of calls by one thread, against a model that knows the only right answer.

use crate::common::hashers::Place;
use crate::common::reference::{How, KEYS, Op, Tally, run};
use latchwork::{Fairness, Mode};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![Just(Mode::Shared), Just(Mode::Exclusive)]
}

/// Keys from the low end more often, so that sequences meet again at the same key.
fn key() -> impl Strategy<Value = u8> {
    prop_oneof![3 => 0..4_u8, 1 => 0..KEYS]
}

fn op() -> impl Strategy<Value = Op> {
    let how = prop_oneof![
        Just(How::Block),
        Just(How::Try),
        (0..200_u8).prop_map(|nanos| How::Timed { nanos }),
    ];
    prop_oneof![
        6 => (key(), mode()).prop_map(|(key, mode)| Op::Try { key, mode }),
        3 => (key(), mode(), 0..200_u8)
            .prop_map(|(key, mode, nanos)| Op::Timed { key, mode, nanos }),
        3 => (key(), mode()).prop_map(|(key, mode)| Op::Block { key, mode }),
        1 => (key(), 120..140_u8).prop_map(|(key, count)| Op::Crowd { key, count }),
        4 => (how, vec((key(), mode()), 0..12)).prop_map(|(how, keys)| Op::Many { how, keys }),
        8 => any::<u8>().prop_map(|guard| Op::Unlock { guard }),
        1 => any::<bool>().prop_map(|newest_first| Op::UnlockAll { newest_first }),
    ]
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        Just(Place::Identity),
        // The keys meet in one root slot, and part in its child, in a child of that, and so on down
        // to the last: 60 leaves the top four bits only, so that keys 16 apart are one lock.
        prop_oneof![Just(12), Just(14), Just(16), Just(32), Just(59), Just(60)]
            .prop_map(Place::Above),
        // Pairs of keys part at different depths.
        (0..20_u32, 3..9_u32).prop_map(|(shift, step)| Place::Spread { shift, step }),
        // All keys are one lock; zero and all ones are where a packed word is easily wrong.
        prop_oneof![Just(0), Just(u64::MAX), any::<u64>()].prop_map(Place::Constant),
    ]
}

fn fairness() -> impl Strategy<Value = Fairness> {
    prop_oneof![Just(Fairness::Eventual), Just(Fairness::Fifo)]
}

#[test]
fn every_sequence_of_calls_does_what_the_model_says() {
    let _dog = crate::common::watchdog("every_sequence_of_calls_does_what_the_model_says");
    let mut total = Tally::default();
    // Seeds are not kept in files: a sequence that fails is printed small enough to become a test.
    let config = Config {
        cases: 512,
        failure_persistence: None,
        ..Config::default()
    };
    let strategy = (place(), fairness(), vec(op(), 0..60));
    let sum = std::cell::RefCell::new(&mut total);
    TestRunner::new(config)
        .run(&strategy, |(place, fairness, ops)| {
            let tally = run(place, fairness, &ops);
            let mut sum = sum.borrow_mut();
            sum.granted += tally.granted;
            sum.refused += tally.refused;
            sum.most_children_bytes = sum.most_children_bytes.max(tally.most_children_bytes);
            sum.most_monitors = sum.most_monitors.max(tally.most_monitors);
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
    println!("{total:?}");
    // The sequences are of use only if they conflict, go below the root, and inflate.
    assert!(total.granted > 1_000 && total.refused > 1_000, "{total:?}");
    assert!(
        total.most_children_bytes > 0,
        "no sequence grew the index: {total:?}"
    );
    assert!(
        total.most_monitors > 0,
        "no sequence inflated a lock: {total:?}"
    );
}
