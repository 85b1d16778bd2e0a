//! Small simulations, their controls, and the properties that hold in all of them.

use latchwork_lease_sim::{Engine, Failures, Outcome, Setup, simulate};

/// Clients that are paused for longer than their leases, crash and are cut off.
fn stormy(engine: Engine, has_fence: bool, seed: u64) -> Outcome {
    let setup = Setup {
        engine,
        has_fence,
        seed,
        nodes: 5,
        regions: 3,
        clients: 120,
        names: Some(24),
        ttl: 2.0,
        think: 5.0,
        hold: 2.0,
        failures: Failures {
            client_crashes: 20.0,
            restart: 5.0,
            pauses: 60.0,
            pause: 3.0,
            client_cuts: 20.0,
            server_crashes: 20.0,
            repair: 10.0,
            region_cuts: 30.0,
            cut: 5.0,
        },
        length: 60.0,
        ..Setup::default()
    };
    simulate(setup).expect("the setup is valid")
}

#[test]
fn no_stale_write_passes_the_fence_and_the_control_accepts_some() {
    for engine in Engine::ALL {
        let fenced = stormy(engine, true, 1);
        assert!(fenced.granted > 250, "{engine:?}: {}", fenced.granted);
        assert_eq!(fenced.stale, 0, "{engine:?}");
        assert_eq!(fenced.regressions, 0, "{engine:?}");
        assert!(fenced.refused > 0, "{engine:?}: the fence refused nothing");
        assert!(fenced.overlaps_paused > 0 && fenced.lost > 0, "{engine:?}");
        assert!(!fenced.takeover.is_empty(), "{engine:?}");
        let control = stormy(engine, false, 1);
        assert!(control.stale > 0, "{engine:?}: the control shows nothing");
        assert_eq!(control.refused, 0, "{engine:?}");
        // The fence changes which writes are accepted, and nothing else.
        assert_eq!(control.granted, fenced.granted, "{engine:?}");
    }
}

#[test]
fn holders_that_are_not_paused_do_not_overlap() {
    for engine in Engine::ALL {
        for seed in 1..3 {
            assert_eq!(stormy(engine, true, seed).overlaps, 0, "{engine:?} {seed}");
        }
    }
}

#[test]
fn the_seed_determines_the_figures() {
    let figures = |seed| {
        let outcome = stormy(Engine::Quorum, true, seed);
        let p99 = outcome.acquire.value_at_quantile(0.99);
        (outcome.events, outcome.granted, outcome.messages, p99)
    };
    assert_eq!(figures(7), figures(7));
    assert_ne!(figures(7), figures(8));
}

#[test]
fn an_acquisition_without_failures_costs_the_messages_of_the_protocol() {
    // An ask, its answer, a release and its answer, for each server of the name.
    for (engine, nodes, least) in [
        (Engine::Central, 1, 4.0),
        (Engine::Consensus, 3, 12.0),
        (Engine::Quorum, 5, 20.0),
    ] {
        let setup = Setup {
            engine,
            nodes,
            ttl: 1000.0,
            length: 100.0,
            ..Setup::default()
        };
        let outcome = simulate(setup).expect("the setup is valid");
        let each = outcome.messages_each();
        // Raises, and acquisitions at both ends of the measured part, add some.
        assert!(
            each > least * 0.95 && each < least * 1.15,
            "{engine:?}: {each}"
        );
        assert_eq!((outcome.failed, outcome.lost), (0, 0), "{engine:?}");
        assert_eq!(outcome.renewals, 0, "{engine:?}");
    }
}

#[test]
fn a_takeover_takes_about_the_length_of_the_lease() {
    for engine in Engine::ALL {
        let setup = Setup {
            engine,
            clients: 60,
            names: Some(6),
            ttl: 4.0,
            think: 1.0,
            hold: 4.0,
            failures: Failures {
                client_crashes: 60.0,
                restart: 5.0,
                ..Failures::default()
            },
            length: 400.0,
            ..Setup::default()
        };
        let outcome = simulate(setup).expect("the setup is valid");
        assert!(outcome.takeover.len() > 20, "{engine:?}");
        let median = outcome.takeover_s(0.5);
        // A lease was renewed at most a third of its length ago.
        assert!((2.6..5.0).contains(&median), "{engine:?}: {median}");
        assert_eq!(outcome.overlaps + outcome.overlaps_paused, 0, "{engine:?}");
    }
}

#[test]
fn setups_outside_of_the_ranges_are_refused() {
    let refused = |setup| simulate(setup).map(|outcome| outcome.granted).unwrap_err();
    let setup = Setup {
        regions: 6,
        ..Setup::default()
    };
    assert_eq!(
        refused(setup),
        "the number of regions must be 1 to 5, not 6"
    );
    let setup = Setup {
        engine: Engine::Quorum,
        groups: 2,
        ..Setup::default()
    };
    assert!(refused(setup).contains("the number of groups of a quorum"));
    let setup = Setup {
        ttl: 0.01,
        ..Setup::default()
    };
    assert!(refused(setup).contains("the length of a lease"));
}
