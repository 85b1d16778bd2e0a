//! The checker of keys and cells itself: what is wrong it rejects, what is right it accepts, and a
//! search of somebody else's says the same. That of transactions is tested in `txn_histories.rs`.

use std::fmt::Debug;
use std::marker::PhantomData;

use crate::common::Rng;
use crate::common::history::linear::{Call, Object, linearise};
use crate::common::history::objects::{CellOp, Lock, LockOp, Register, excuse};
use crate::common::history::stamp::never_goes_back;
use latchwork::Mode::{Exclusive, Shared};
use todc_utils::linearizability::WGLChecker;
use todc_utils::linearizability::history::{Action, History};
use todc_utils::specifications::Specification;

#[test]
fn stamps_never_go_back_from_one_thread_to_another() {
    assert!(never_goes_back());
}

/// A call by its thread, when it began and ended, and what it was.
type Brief<Op> = (usize, u64, u64, Op);

fn calls<Op: Copy>(brief: &[Brief<Op>]) -> Vec<Call<Op>> {
    let brief = brief.iter();
    let call = |&(thread, began, ended, op)| Call {
        thread,
        began,
        ended,
        op,
    };
    brief.map(call).collect()
}

fn at(version: u64, value: u64) -> Register {
    Register { version, value }
}

#[test]
fn cells_that_did_what_cells_may() {
    let history = calls(&[
        // Three writes at once, whose order is that of their versions, and reads that agree with
        // it.
        (0, 0, 90, CellOp::Set(at(3, 30))),
        (1, 0, 90, CellOp::Update(10, at(2, 20))),
        (2, 0, 90, CellOp::CompareAndSet(0, 10, Ok(1))),
        (3, 10, 20, CellOp::Read(at(1, 10))),
        (3, 30, 40, CellOp::Read(at(3, 30))),
        (4, 10, 40, CellOp::CompareAndSet(1, 99, Err(2))),
        (5, 10, 95, CellOp::Changed(3, 4)),
        (6, 92, 95, CellOp::Swap(at(3, 30), 40)),
        // Begins when another ends: they overlap.
        (7, 90, 93, CellOp::Version(3)),
    ]);
    assert!(linearise(Register::default(), &history).is_ok());
    assert_eq!(linearise(Register::default(), &[]), Ok(1));
}

#[test]
fn cells_that_did_what_they_may_not() {
    let wrong: &[(&str, &[Brief<CellOp>])] = &[
        (
            "torn read: another version's value",
            &[
                (0, 0, 1, CellOp::Set(at(1, 10))),
                (1, 2, 3, CellOp::Read(at(1, 0))),
            ],
        ),
        (
            "lost update: two saw the same, and both wrote",
            &[
                (0, 0, 9, CellOp::Update(0, at(1, 10))),
                (1, 0, 9, CellOp::Update(0, at(2, 20))),
            ],
        ),
        (
            "a version twice",
            &[
                (0, 0, 9, CellOp::Set(at(1, 10))),
                (1, 0, 9, CellOp::Set(at(1, 20))),
            ],
        ),
        (
            "real-time inversion: a read after a write has returned, and misses it",
            &[
                (0, 0, 1, CellOp::Set(at(1, 10))),
                (1, 2, 3, CellOp::Read(at(0, 0))),
            ],
        ),
        (
            "real-time inversion: two reads",
            &[
                (0, 0, 9, CellOp::Set(at(1, 10))),
                (1, 1, 2, CellOp::Read(at(1, 10))),
                (2, 3, 4, CellOp::Read(at(0, 0))),
            ],
        ),
        (
            "read from the future",
            &[
                (0, 0, 1, CellOp::Read(at(1, 10))),
                (1, 2, 3, CellOp::Set(at(1, 10))),
            ],
        ),
        (
            "a conditional write that compared nothing",
            &[
                (0, 0, 1, CellOp::Set(at(1, 10))),
                (1, 2, 3, CellOp::CompareAndSet(0, 20, Ok(2))),
            ],
        ),
        (
            "a conditional write that failed, and nobody wrote",
            &[(0, 0, 1, CellOp::CompareAndSet(0, 20, Err(1)))],
        ),
        (
            "awake before it changed",
            &[
                (0, 0, 1, CellOp::Changed(0, 1)),
                (1, 2, 3, CellOp::Set(at(1, 10))),
            ],
        ),
    ];
    for (what, history) in wrong {
        let found = linearise(Register::default(), &calls(history));
        assert!(found.is_err(), "{what} was accepted: {found:?}");
        assert!(!by_another(Register::default(), &calls(history)), "{what}");
    }
}

#[test]
fn locks_that_did_what_locks_may() {
    let mut history = calls(&[
        (0, 0, 1, LockOp::Lock(Shared)),
        (1, 0, 1, LockOp::Lock(Shared)),
        (1, 2, 3, LockOp::Upgrade(false)),
        (2, 2, 9, LockOp::Lock(Exclusive)),
        // Stands back for the writer.
        (3, 3, 4, LockOp::TimedOut(Shared)),
        (1, 4, 5, LockOp::Unlock(Shared)),
        (0, 6, 9, LockOp::Unlock(Shared)),
        (2, 10, 11, LockOp::Token(5)),
        (3, 10, 11, LockOp::Refused(Exclusive)),
        (2, 12, 13, LockOp::Downgrade),
        (2, 14, 15, LockOp::Upgrade(true)),
        (2, 16, 17, LockOp::Token(6)),
        (2, 18, 19, LockOp::Unlock(Exclusive)),
        (3, 20, 21, LockOp::Passing(Exclusive)),
        (2, 20, 21, LockOp::Refused(Exclusive)),
    ]);
    assert!(linearise(Lock::default(), &history).is_err(), "unexcused");
    excuse(&mut history);
    assert!(linearise(Lock::default(), &history).is_ok());
}

#[test]
fn locks_that_did_what_they_may_not() {
    let wrong: &[(&str, &[Brief<LockOp>])] = &[
        (
            "double grant",
            &[
                (0, 0, 1, LockOp::Lock(Exclusive)),
                (1, 0, 5, LockOp::Lock(Exclusive)),
                (0, 6, 7, LockOp::Unlock(Exclusive)),
                (1, 6, 7, LockOp::Unlock(Exclusive)),
            ],
        ),
        (
            "a reader beside a writer",
            &[
                (0, 0, 1, LockOp::Lock(Exclusive)),
                (1, 2, 3, LockOp::Lock(Shared)),
                (0, 4, 5, LockOp::Unlock(Exclusive)),
            ],
        ),
        (
            "two upgrades",
            &[
                (0, 0, 1, LockOp::Lock(Shared)),
                (1, 0, 1, LockOp::Lock(Shared)),
                (0, 2, 5, LockOp::Upgrade(true)),
                (1, 2, 5, LockOp::Upgrade(true)),
            ],
        ),
        (
            "refused, and nobody was there",
            &[
                (0, 0, 1, LockOp::Lock(Shared)),
                (1, 2, 3, LockOp::Refused(Shared)),
            ],
        ),
        (
            "a token twice",
            &[
                (0, 0, 1, LockOp::Lock(Exclusive)),
                (0, 2, 3, LockOp::Token(5)),
                (0, 4, 5, LockOp::Token(5)),
            ],
        ),
        (
            "real-time inversion: granted before it was given back",
            &[
                (0, 0, 1, LockOp::Lock(Exclusive)),
                (1, 2, 3, LockOp::Lock(Exclusive)),
                (0, 4, 5, LockOp::Unlock(Exclusive)),
            ],
        ),
        (
            "given back by nobody who holds it",
            &[(0, 0, 1, LockOp::Unlock(Shared))],
        ),
    ];
    for (what, history) in wrong {
        let mut history = calls(history);
        excuse(&mut history);
        let found = linearise(Lock::default(), &history);
        assert!(found.is_err(), "{what} was accepted: {found:?}");
        assert!(!by_another(Lock::default(), &history), "{what}");
    }
}

#[test]
fn one_thread_does_one_thing_at_a_time() {
    let history = calls(&[(0, 0, 2, CellOp::Version(0)), (0, 1, 3, CellOp::Version(0))]);
    let wrong = linearise(Register::default(), &history).expect_err("they overlap");
    assert!(wrong.starts_with("no history"), "{wrong}");
}

/// An object as the other search knows it: it begins with its default state.
struct Spec<S>(PhantomData<S>);

impl<S: Object + Default> Specification for Spec<S> {
    type State = S;
    type Operation = S::Op;

    fn init() -> S {
        S::default()
    }

    fn apply(op: &S::Op, state: &S) -> (bool, S) {
        match state.step(op) {
            Some(then) => (true, then),
            None => (false, state.clone()),
        }
    }
}

/// What the search of `todc-utils` says.
fn by_another<S: Object + Default + PartialEq + Debug>(start: S, calls: &[Call<S::Op>]) -> bool {
    assert_eq!(start, S::default());
    // At one moment calls come before returns, so that they overlap.
    let mut events: Vec<(u64, bool, usize)> = (0..calls.len())
        .flat_map(|i| [(calls[i].began, false, i), (calls[i].ended, true, i)])
        .collect();
    events.sort_unstable();
    let actions = events.into_iter().map(|(_, has_ended, i)| {
        let op = calls[i].op.clone();
        // A thread whose next call begins as the last ends would have two at once: each call is a
        // process.
        let action = if has_ended {
            Action::Response(op)
        } else {
            Action::Call(op)
        };
        (i, action)
    });
    WGLChecker::<Spec<S>>::is_linearizable(History::from_actions(actions.collect()))
}

/// A history that came about in some order, with calls as long as chance will; then, half of the
/// time, one call is made another.
fn some_history<S: Object + Default>(
    rng: &mut Rng,
    mut op: impl FnMut(&mut Rng, usize, &S) -> S::Op,
    break_one: impl Fn(&mut Rng, &mut S::Op),
) -> Vec<Call<S::Op>> {
    const THREADS: usize = 3;
    let (mut state, mut calls) = (S::default(), Vec::new());
    let mut free = [0; THREADS];
    let mut now = 0_u64;
    while calls.len() < 14 {
        let thread = rng.below(THREADS as u64) as usize;
        let done = op(rng, thread, &state);
        let Some(then) = state.step(&done) else {
            continue;
        };
        state = then;
        now += 10;
        let began = free[thread].max(now.saturating_sub(rng.below(60)));
        let ended = now.max(began) + rng.below(40);
        free[thread] = ended + 1;
        now = now.max(began);
        calls.push(Call {
            thread,
            began,
            ended,
            op: done,
        });
    }
    if rng.one_in(2) {
        let at = rng.below(calls.len() as u64) as usize;
        break_one(rng, &mut calls[at].op);
    }
    calls
}

/// Asks both searches about many histories.
fn both_say<S: Object + Default>(
    mut op: impl FnMut(&mut Rng, usize, &S) -> S::Op,
    break_one: impl Fn(&mut Rng, &mut S::Op),
) {
    let (mut yes, mut no) = (0, 0);
    for seed in 0..2_000 {
        let mut rng = Rng::new(seed);
        let history = some_history::<S>(&mut rng, &mut op, &break_one);
        let (own, other) = (
            linearise(S::default(), &history),
            by_another(S::default(), &history),
        );
        assert_eq!(own.is_ok(), other, "seed {seed}: {own:?} of {history:#?}");
        if other { yes += 1 } else { no += 1 }
    }
    println!("{yes} have an order, {no} have none");
    assert!(yes > 400 && no > 400, "{yes} and {no}: one-sided");
}

#[test]
fn another_search_says_the_same_of_cells() {
    let op = |rng: &mut Rng, _, state: &Register| {
        let made = at(state.version + 1, rng.below(3));
        match rng.below(5) {
            0 => CellOp::Read(*state),
            1 => CellOp::Set(made),
            2 => CellOp::Update(state.value, made),
            3 => CellOp::CompareAndSet(state.version, made.value, Ok(made.version)),
            _ => CellOp::Version(state.version),
        }
    };
    both_say(op, |rng, op| {
        let now = 1 + rng.below(4);
        match op {
            CellOp::Read(seen) => seen.version = now,
            CellOp::Set(made) | CellOp::Update(_, made) => made.value += 1,
            CellOp::CompareAndSet(expected, ..) => *expected += 1,
            CellOp::Version(seen) => *seen = now,
            _ => unreachable!("not made above"),
        }
    });
}

#[test]
fn another_search_says_the_same_of_locks() {
    let op = |rng: &mut Rng, _, _: &Lock| {
        let mode = [Exclusive, Shared][rng.below(2) as usize];
        match rng.below(7) {
            0..=1 => LockOp::Lock(mode),
            2..=3 => LockOp::Unlock(mode),
            4 => LockOp::Refused(mode),
            5 => LockOp::Upgrade(rng.one_in(2)),
            _ => LockOp::Downgrade,
        }
    };
    both_say(op, |rng, op| {
        *op = match op {
            LockOp::Lock(_) => LockOp::Lock(Exclusive),
            LockOp::Unlock(_) => LockOp::Refused(Exclusive),
            LockOp::Upgrade(up) => LockOp::Upgrade(!*up),
            _ => [LockOp::Unlock(Exclusive), LockOp::Unlock(Shared)][rng.below(2) as usize],
        };
    });
}
