//! Searches the protocol of the engine `quorum:`. The properties hold, and mutants are detected.
//!
//! `model.rs` describes the protocol, its faults and its properties; `change.rs` describes the
//! change of the list of nodes and the raise of a floor. With one kind of fault, all
//! states of three nodes and two clients are searched; with all kinds together, in optimised tests.
//! For two acquisitions of each client, and for five nodes and three clients, the search ends at a
//! number of states, which is greater in optimised tests.
//! `cargo test --release -p latchwork-lease --test quorum_model -- --nocapture` prints the numbers.

mod change;
mod model;
mod search;

use change::{Change, Event, Flaw};
use model::{DISTINCT, EXCLUSIVE, FENCE, Faults, Model, Mutant, ORDER, Step};
use search::{Found, System, search};

const NO_FAULT: Faults = Faults {
    renewals: false,
    crashes: false,
    lost_answers: false,
    repeats: false,
    two_configurations: false,
    losses: 0,
};

/// Equal counters, and the counters after one node has served other names.
const EQUAL: [u8; 3] = [0, 0, 0];
const ONE_AHEAD: [u8; 3] = [3, 0, 0];
const ALL_DIFFER: [u8; 3] = [0, 1, 2];

/// The states of a search that is not exhaustive.
const BOUND: usize = if cfg!(debug_assertions) {
    100_000
} else {
    1_000_000
};

fn three(counters: [u8; 3], faults: Faults) -> Model<3, 2> {
    Model {
        counters,
        faults,
        attempts: 1,
        mutant: None,
        checks_order: faults.losses == 0,
    }
}

/// Lists of three nodes, of which the first is only in one, and the last only in the other.
fn four(faults: Faults) -> Model<4, 2> {
    Model {
        counters: [0; 4],
        faults: Faults {
            two_configurations: true,
            ..faults
        },
        attempts: 2,
        mutant: None,
        checks_order: true,
    }
}

fn five(faults: Faults) -> Model<5, 3> {
    Model {
        counters: [0, 0, 1, 2, 3],
        faults,
        attempts: 1,
        mutant: None,
        checks_order: faults.losses == 0,
    }
}

/// Searches, and checks that each of the steps was made.
#[track_caller]
fn run<const N: usize, const C: usize>(
    title: &str,
    model: &Model<N, C>,
    limit: usize,
    steps: &[Step],
) -> Found<Step> {
    let found = search(model, limit);
    let extent = match found.is_exhaustive {
        true => "all",
        false => "the nearest",
    };
    println!("{title}: {extent} {} states", found.states);
    for step in steps {
        let is_made = found.kinds & 1 << step.kind() != 0;
        assert!(is_made, "{title}: no step is like {step:?}");
    }
    found
}

/// Searches all states, and checks their number.
#[track_caller]
fn holds<const N: usize, const C: usize>(
    title: &str,
    model: &Model<N, C>,
    states: usize,
    steps: &[Step],
) {
    let found = run(title, model, usize::MAX, steps);
    assert_eq!(found.violation.map(|(property, _)| property), None);
    assert!(found.is_exhaustive);
    assert_eq!(found.states, states, "{title}: the number of states");
}

/// Searches the states within the bound.
#[track_caller]
fn holds_within<const N: usize, const C: usize>(
    title: &str,
    model: &Model<N, C>,
    bound: usize,
    steps: &[Step],
) {
    let found = run(title, model, bound, steps);
    assert!(found.violation.is_none(), "{:#?}", found.violation);
    assert!(found.states >= bound, "{title}: {} states", found.states);
}

/// Searches until the mutant violates one of the properties.
#[track_caller]
fn is_detected<const N: usize, const C: usize>(
    title: &str,
    model: &Model<N, C>,
    properties: &[&str],
) {
    let found = run(title, model, 2_000_000, &[]);
    let (property, steps) = found
        .violation
        .expect("the search detects no violation of a property");
    println!("{title}: {property}, after {} steps", steps.len());
    assert!(properties.contains(&property), "{property}: {steps:#?}");
}

const GRANT: Step = Step::Grant { client: 0 };
const EXPIRE: Step = Step::Expire { node: 0 };
const RAISE: Step = Step::Raise { client: 0, node: 0 };
const LATE_ASK: Step = Step::LateAsk { client: 0, node: 0 };
const LATE_RAISE: Step = Step::LateRaise { client: 0, node: 0 };
const RENEW: Step = Step::Renew { client: 0, node: 0 };
const LATE_RENEW: Step = Step::LateRenew { client: 0, node: 0 };
const ANSWER_LOST: Step = Step::AnswerLost { client: 0, node: 0 };
const REQUEST_LOST: Step = Step::RequestLost { client: 0, node: 0 };
const REPEAT: Step = Step::Repeat { client: 0 };
const LOSE_DATA: Step = Step::LoseData { node: 0 };
const WRITE: Step = Step::Write { client: 0 };

// Three nodes and two clients, exhaustive

#[test]
fn tokens_are_ordered_if_any_node_expires_any_holder() {
    let steps = [GRANT, EXPIRE, RAISE, LATE_ASK, LATE_RAISE];
    for (counters, states) in [(EQUAL, 6_505), (ONE_AHEAD, 23_846), (ALL_DIFFER, 36_829)] {
        holds("expiry", &three(counters, NO_FAULT), states, &steps);
    }
}

#[test]
fn tokens_are_ordered_if_holders_renew() {
    let faults = Faults {
        renewals: true,
        ..NO_FAULT
    };
    for (counters, states) in [(EQUAL, 26_608), (ONE_AHEAD, 74_365)] {
        let steps = [GRANT, RENEW, LATE_RENEW];
        holds("renewals", &three(counters, faults), states, &steps);
    }
}

#[test]
fn tokens_are_ordered_if_clients_and_nodes_crash() {
    let faults = Faults {
        crashes: true,
        ..NO_FAULT
    };
    for (counters, states) in [(EQUAL, 13_102), (ONE_AHEAD, 47_315)] {
        let steps = [GRANT, REQUEST_LOST, LATE_ASK, LATE_RAISE];
        holds("crashes", &three(counters, faults), states, &steps);
    }
}

#[test]
fn tokens_are_ordered_if_answers_are_lost() {
    let faults = Faults {
        lost_answers: true,
        ..NO_FAULT
    };
    for (counters, states) in [(EQUAL, 23_832), (ONE_AHEAD, 86_672)] {
        let steps = [GRANT, ANSWER_LOST, LATE_ASK, LATE_RAISE];
        holds("lost answers", &three(counters, faults), states, &steps);
    }
}

#[test]
fn tokens_are_ordered_if_a_client_repeats_its_requests() {
    let faults = Faults {
        repeats: true,
        ..NO_FAULT
    };
    let steps = [GRANT, REPEAT, LATE_ASK, LATE_RAISE];
    holds("repeats", &three(EQUAL, faults), 704_138, &steps);
}

#[test]
fn clients_with_different_lists_are_kept_apart() {
    let configure = Step::Configure { client: 0, node: 0 };
    holds("lists", &four(NO_FAULT), 16_615, &[GRANT, configure]);
}

#[test]
fn a_fence_accepts_no_two_acquisitions_under_one_number_after_lost_data() {
    let faults = Faults {
        losses: 1,
        ..NO_FAULT
    };
    for (counters, states) in [(EQUAL, 38_693), (ONE_AHEAD, 158_141)] {
        let steps = [GRANT, LOSE_DATA, WRITE];
        holds("lost data", &three(counters, faults), states, &steps);
    }
}

// Bounded

#[test]
fn tokens_are_ordered_under_all_faults_together() {
    let faults = Faults {
        renewals: true,
        crashes: true,
        lost_answers: true,
        repeats: true,
        ..NO_FAULT
    };
    let steps = [GRANT, RAISE, REQUEST_LOST, ANSWER_LOST, REPEAT];
    let both = Model {
        attempts: 2,
        ..three(EQUAL, faults)
    };
    if cfg!(debug_assertions) {
        holds_within("all faults", &three(EQUAL, faults), 2 * BOUND, &steps);
    } else {
        holds("all faults", &three(EQUAL, faults), 3_506_290, &steps);
    }
    holds_within("all faults, twice", &both, BOUND, &steps);
    let found = run("lists, all faults", &four(faults), BOUND, &[GRANT]);
    assert!(found.violation.is_none(), "{:#?}", found.violation);
}

#[test]
fn tokens_of_five_nodes_and_three_clients_are_ordered() {
    let all = Faults {
        renewals: true,
        crashes: true,
        lost_answers: true,
        repeats: true,
        ..NO_FAULT
    };
    let steps = [EXPIRE, RAISE, LATE_ASK];
    holds_within("five and three", &five(NO_FAULT), 2 * BOUND, &steps);
    holds_within("five and three, all faults", &five(all), BOUND, &[EXPIRE]);
}

// Mutants

#[test]
fn an_unconditional_write_back_is_detected() {
    for counters in [EQUAL, ONE_AHEAD, ALL_DIFFER] {
        let mutant = Some(Mutant::UnconditionalWriteBack);
        let model = three(counters, NO_FAULT);
        let model = Model { mutant, ..model };
        is_detected("unconditional write-back", &model, &[DISTINCT, ORDER]);
    }
}

#[test]
fn a_write_back_that_compares_the_nonce_only_is_detected() {
    let faults = Faults {
        repeats: true,
        ..NO_FAULT
    };
    let model = Model {
        mutant: Some(Mutant::RaiseComparesNonceOnly),
        ..three(EQUAL, faults)
    };
    is_detected("nonce only", &model, &[DISTINCT, ORDER]);
}

#[test]
fn a_missing_write_back_is_detected() {
    for counters in [EQUAL, ONE_AHEAD, ALL_DIFFER] {
        let mutant = Some(Mutant::NoWriteBack);
        let model = three(counters, NO_FAULT);
        let model = Model { mutant, ..model };
        is_detected("no write-back", &model, &[DISTINCT, ORDER]);
    }
}

#[test]
fn a_majority_of_half_is_detected() {
    for counters in [EQUAL, ONE_AHEAD, ALL_DIFFER] {
        let mutant = Some(Mutant::HalfIsMajority);
        let model = three(counters, NO_FAULT);
        let model = Model { mutant, ..model };
        let properties = [DISTINCT, ORDER, EXCLUSIVE];
        is_detected("majority of n/2", &model, &properties);
    }
}

#[test]
fn a_renewal_by_upsert_is_detected() {
    let faults = Faults {
        renewals: true,
        ..NO_FAULT
    };
    for counters in [EQUAL, ONE_AHEAD, ALL_DIFFER] {
        let model = Model {
            mutant: Some(Mutant::RenewalByUpsert),
            ..three(counters, faults)
        };
        is_detected("renewal by upsert", &model, &[EXCLUSIVE]);
    }
}

#[test]
fn a_missing_configuration_is_detected() {
    let model = Model {
        mutant: Some(Mutant::NoConfiguration),
        ..four(NO_FAULT)
    };
    is_detected("no configuration", &model, &[DISTINCT, ORDER, EXCLUSIVE]);
}

#[test]
fn a_configuration_that_only_a_majority_stored_is_detected() {
    let model = Model {
        mutant: Some(Mutant::ConfigurationOfMajority),
        ..four(NO_FAULT)
    };
    let properties = [DISTINCT, ORDER, EXCLUSIVE];
    is_detected("configuration of a majority", &model, &properties);
}

// The control of the property that replaces the order after lost data

#[test]
fn a_fence_that_compares_the_token_only_is_detected() {
    let faults = Faults {
        losses: 1,
        ..NO_FAULT
    };
    let model = Model {
        mutant: Some(Mutant::FenceWithoutNonce),
        ..three(EQUAL, faults)
    };
    is_detected("a fence without the nonce", &model, &[FENCE]);
}

#[test]
fn lost_data_breaks_the_order_of_tokens() {
    let faults = Faults {
        losses: 1,
        ..NO_FAULT
    };
    for counters in [EQUAL, ONE_AHEAD, ALL_DIFFER] {
        let model = Model {
            checks_order: true,
            ..three(counters, faults)
        };
        is_detected("lost data", &model, &[DISTINCT, ORDER]);
    }
}

// The change of the list of nodes, and the floor

const OTHER_STEPS: [change::Step; 9] = [
    change::Step::Close { node: 0 },
    change::Step::FindFree { node: 0 },
    change::Step::Reopen { node: 0 },
    change::Step::Claim { node: 0 },
    change::Step::Read { node: 0 },
    change::Step::Copy { node: 0 },
    change::Step::Open { node: 0 },
    change::Step::LateAsk {
        acquisition: 0,
        node: 0,
    },
    change::Step::Grant { acquisition: 0 },
];

/// Searches the states of a change within the bound.
#[track_caller]
fn change_holds(title: &str, system: &Change, limit: usize, steps: &[change::Step]) {
    let found = search(system, limit);
    let extent = match found.is_exhaustive {
        true => "all",
        false => "the nearest",
    };
    println!("{title}: {extent} {} states", found.states);
    assert!(found.violation.is_none(), "{:#?}", found.violation);
    for step in steps {
        let is_made = found.kinds & 1 << Change::kind(*step) != 0;
        assert!(is_made, "{title}: no step is like {step:?}");
    }
}

/// Searches until the flaw violates one of the properties.
#[track_caller]
fn flaw_is_detected(event: Event, flaw: Flaw, properties: &[&str]) {
    for counters in [EQUAL, ONE_AHEAD] {
        let system = Change {
            event,
            counters,
            flaw: Some(flaw),
        };
        let found = search(&system, 3_000_000);
        if let Some((property, steps)) = found.violation {
            println!("{flaw:?}: {property}, after {} steps", steps.len());
            assert!(properties.contains(&property), "{property}: {steps:#?}");
            return;
        }
    }
    panic!("the search does not detect {flaw:?}");
}

#[test]
fn a_change_of_the_list_keeps_leases_apart_and_tokens_ordered() {
    for (title, counters) in [("change", EQUAL), ("change, one ahead", ONE_AHEAD)] {
        let system = Change {
            event: Event::Change,
            counters,
            flaw: None,
        };
        change_holds(title, &system, BOUND, &OTHER_STEPS);
    }
}

#[test]
fn a_raised_floor_precedes_all_later_tokens() {
    for (title, counters) in [("floor", EQUAL), ("floor, one ahead", ONE_AHEAD)] {
        let system = Change {
            event: Event::Floor,
            counters,
            flaw: None,
        };
        let floor = change::Step::Floor { node: 0 };
        change_holds(title, &system, BOUND, &[floor, OTHER_STEPS[8]]);
    }
}

#[test]
fn flaws_of_a_change_are_detected() {
    let all = [DISTINCT, ORDER, EXCLUSIVE];
    for flaw in [
        Flaw::NoClosing,
        Flaw::ClosingOfOne,
        Flaw::NoWait,
        Flaw::WaitForOne,
        Flaw::WaitForOthers,
        Flaw::NoCopy,
        Flaw::CopyOfOne,
        Flaw::CopyToOne,
        Flaw::OpenedEarly,
    ] {
        flaw_is_detected(Event::Change, flaw, &all);
    }
}

#[test]
fn a_floor_of_a_minority_is_detected() {
    flaw_is_detected(Event::Floor, Flaw::FloorOfOne, &[ORDER, DISTINCT]);
}
