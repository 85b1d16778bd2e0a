//! Random programs of several sessions, against a lock manager that is too simple to be wrong.

use latchwork::{Fairness, Mode};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::actors::Do;
use crate::reference::{ACTORS, play};

fn order() -> impl Strategy<Value = Do> {
    let key = || prop_oneof![4 => 0..3_u64, 1 => 3..8_u64];
    let mode = prop_oneof![Just(Mode::Exclusive), Just(Mode::Shared)];
    prop_oneof![
        8 => key().prop_map(Do::Lock),
        10 => key().prop_map(Do::Shared),
        1 => (key(), mode).prop_map(|(key, mode)| Do::Glance(key, mode)),
        2 => key().prop_map(Do::Unlock),
        1 => Just(Do::Savepoint),
        1 => (0..2_usize).prop_map(Do::Rollback),
        2 => Just(Do::ReleaseAll),
    ]
}

#[test]
fn sessions_do_what_the_reference_allows() {
    use std::cell::Cell;
    let seen = Cell::new((0, 0));
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 2_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let fairness = prop_oneof![Just(Fairness::Eventual), Just(Fairness::Fifo)];
    let programs = (fairness, vec((0..ACTORS, order()), 1..80), 0..7_usize);
    let result = runner.run(&programs, |(fairness, orders, gone)| {
        let (victims, waits) = play(fairness, &orders, gone);
        seen.set((seen.get().0 + victims, seen.get().1 + waits));
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    let (victims, waits) = seen.get();
    assert!(
        victims > 500 && waits > 500,
        "too tame: {victims} victims, {waits} waits"
    );
}
