//! Steps over several records: the contenders are ways of concurrency control.

use std::sync::Arc;

use super::{Axis, Contender, Load, Scenario, Setting, busy, until};
use crate::times::Times;
use crate::transactions::{
    ACCOUNTS, Bank, ByLockmap, ByTable, Cells, FUNDS, Global, Happy, Ordered, OrderedRw, Step, Stm,
    Striped, opposite_pairs, random_steps,
};
use crate::workload::Rng;

const SET: &str = "transactions";
const TRANSACTIONS: &str = "transactions";
const TABLE: &str = "LockTable, lock_all";

/// How many records the transactional YCSB has.
const RECORDS: usize = 1 << 14;

/// The operations of every bank.
#[derive(Clone, Copy)]
struct Plan {
    accounts: usize,
    /// The steps of one thread.
    steps: fn(Setting, usize) -> Vec<Step>,
    /// How much each step has to compute between its reads and its writes.
    work: u32,
    auditor: Auditor,
}

/// The work of the first of several threads.
#[derive(Clone, Copy, PartialEq)]
enum Auditor {
    /// The same as the others.
    No,
    /// It adds up all accounts, and the steps of the others are what counts.
    Beside,
    /// It adds up all accounts, and that is what counts.
    Counted,
}

fn controlled<B: Bank + Send + 'static>(plan: Plan) -> impl Fn(Setting) -> Load + 'static {
    move |setting| {
        let bank = Arc::new(B::new(plan.accounts));
        let left = bank.clone();
        let total = plan.accounts as i64 * FUNDS;
        let steps: Vec<_> = (0..setting.threads)
            .map(|index| (plan.steps)(setting, index))
            .collect();
        Load::new(
            move |index, stop, times| {
                let audits = || assert_eq!(bank.total(), total, "a sum of no moment");
                let alone = setting.threads == 1;
                match plan.auditor {
                    Auditor::Beside if index == 0 && !alone => {
                        let mut unseen = Times::new(u32::MAX);
                        until(&[()], stop, &mut unseen, |()| audits());
                        return None;
                    }
                    Auditor::Counted if index == 0 => {
                        return Some(until(&[()], stop, times, |()| audits()));
                    }
                    _ => (),
                }
                let done = until(&steps[index], stop, times, |step| {
                    std::hint::black_box(bank.step(step, |funds| {
                        busy(plan.work);
                        if let [first, .., last] = funds {
                            // A step that is lost or done by halves shows in the sum: accounts
                            // differ soon.
                            *first -= 1;
                            *last += 1;
                            funds.rotate_right(1);
                        }
                    }));
                });
                if plan.auditor == Auditor::Counted {
                    *times = Times::new(u32::MAX);
                    return None;
                }
                Some(done)
            },
            move |_| assert_eq!(left.total(), total, "something is lost"),
        )
    }
}

fn contenders(plan: Plan) -> Vec<Contender> {
    let known = "weaker: who forgets the order deadlocks; no auditor but under all locks";
    let starves = "weaker: no snapshots, and no bound on how often a transaction loses";
    let global = "weaker: everybody excludes everybody";
    vec![
        Contender::ours(TRANSACTIONS, controlled::<Cells>(plan)),
        Contender::ours(TABLE, controlled::<ByTable>(plan)),
        Contender::peer("stm-core", starves, controlled::<Stm>(plan)),
        Contender::peer("ordered Mutex", known, controlled::<Ordered>(plan)),
        Contender::peer("ordered RwLock", known, controlled::<OrderedRw>(plan)),
        Contender::peer(
            "64 Mutexes, ordered",
            "weaker: who forgets the order deadlocks, and numbers of one mutex exclude each other",
            controlled::<Striped>(plan),
        ),
        Contender::peer(
            "happylock",
            "stronger: a deadlock does not compile; weaker: a thread that holds one lock can take no other",
            controlled::<Happy>(plan),
        ),
        Contender::peer(
            "lockmap, batch_lock",
            "stronger: compares keys and not their hashes, and keeps values; weaker: no shared mode",
            controlled::<ByLockmap>(plan),
        ),
        Contender::peer("one Mutex", global, controlled::<Global>(plan)),
    ]
}

fn swaps<const CELLS: usize>(setting: Setting, index: usize) -> Vec<Step> {
    random_steps(ACCOUNTS, CELLS, 1.0, 0.0, setting.seed_of(index))
}

/// Sixteen operations with a skew of so many hundredths, half of them updates.
fn sixteen<const SKEW: u32>(setting: Setting, index: usize) -> Vec<Step> {
    let theta = f64::from(SKEW) / 100.0;
    random_steps(RECORDS, 16, 0.5, theta, setting.seed_of(index))
}

/// Two updates. The first is of one account that all threads use, with the probability of the
/// setting.
fn hot(setting: Setting, index: usize) -> Vec<Step> {
    let mut coin = Rng::new(setting.seed_of(index));
    let mut steps = swaps::<2>(setting, index);
    for step in &mut steps {
        step.writes.iter_mut().for_each(|at| *at = (*at).max(1));
        if coin.chance(setting.value) {
            step.writes[0] = 0;
        }
        if step.writes[0] == step.writes[1] {
            step.writes[1] += 1;
        }
    }
    steps
}

const PLAN: Plan = Plan {
    accounts: ACCOUNTS,
    steps: swaps::<2>,
    work: 0,
    auditor: Auditor::No,
};

/// A question with the threads as what varies.
fn by_threads(
    name: &'static str,
    title: &'static str,
    prose: &'static str,
    plan: Plan,
) -> Scenario {
    Scenario {
        name,
        set: SET,
        title,
        prose,
        axis: Axis::Threads,
        every: 16,
        contenders: contenders(plan),
        pessimist: None,
    }
}

fn literature() -> Vec<Scenario> {
    let swap =
        "Each step reads so many of 1,024 numbers and writes each into the place of the next.";
    let ycsb = "Each step has 16 operations on different ones of 16,384 records, half of them reads and half updates, \
                chosen with the skew θ. Whoever locks is told all 16 beforehand.";
    let sixteen_of = |name, title, steps| {
        let plan = Plan {
            accounts: RECORDS,
            steps,
            ..PLAN
        };
        Scenario {
            pessimist: Some(TABLE),
            ..by_threads(name, title, ycsb, plan)
        }
    };
    vec![
        by_threads(
            "pairs",
            "What does it cost to change two values that others name in the other order?",
            "Each thread swaps the two numbers of one of 64 pairs; every other thread names them the other way round, \
             which would deadlock who locks as named.",
            Plan {
                accounts: 128,
                steps: |_, index| opposite_pairs(64, index),
                ..PLAN
            },
        ),
        by_threads(
            "swap-2",
            "Which way to change 2 values together is the fastest?",
            swap,
            PLAN,
        ),
        by_threads(
            "swap-32",
            "Which way to change 32 values together is the fastest?",
            swap,
            Plan {
                steps: swaps::<32>,
                ..PLAN
            },
        ),
        by_threads(
            "swap-128",
            "Which way to change 128 values together is the fastest?",
            swap,
            Plan {
                steps: swaps::<128>,
                ..PLAN
            },
        ),
        sixteen_of(
            "ycsb-t-60",
            "Lock or be optimistic, for 16 records with little skew? (YCSB, θ = 0.6)",
            sixteen::<60>,
        ),
        sixteen_of(
            "ycsb-t-80",
            "Lock or be optimistic, for 16 records with skew? (YCSB, θ = 0.8)",
            sixteen::<80>,
        ),
        sixteen_of(
            "ycsb-t-90",
            "Lock or be optimistic, for 16 records with much skew? (YCSB, θ = 0.9)",
            sixteen::<90>,
        ),
        by_threads(
            "bank",
            "How fast are transfers while an auditor adds up all accounts?",
            "One thread adds up 1,024 accounts, as of one moment, without a pause; all others transfer between two, and \
             theirs is what is counted. With one thread there is no auditor. Cells are added up in snapshots.",
            Plan {
                auditor: Auditor::Beside,
                ..PLAN
            },
        ),
        by_threads(
            "audits",
            "How often can an auditor add up all accounts while others transfer?",
            "The same, and the sums are what is counted. With one thread there is only the auditor.",
            Plan {
                auditor: Auditor::Counted,
                ..PLAN
            },
        ),
    ]
}

pub(super) fn all() -> Vec<Scenario> {
    let mut all = literature();
    let mut by_value = |name, title, prose, plan, axis, pessimist| {
        let contenders = contenders(plan);
        all.push(Scenario {
            axis,
            contenders,
            pessimist,
            ..by_threads(name, title, prose, plan)
        });
    };
    by_value(
        "multi-key",
        "What does a step cost that needs more and more keys?",
        "Each step writes so many of 1,024 numbers, named in no order; two threads for each core.",
        Plan {
            steps: |setting, index| {
                random_steps(
                    ACCOUNTS,
                    setting.value as usize,
                    1.0,
                    0.0,
                    setting.seed_of(index),
                )
            },
            ..PLAN
        },
        Axis::Value {
            label: "keys in one step",
            values: &[2.0, 4.0, 8.0, 16.0],
            per_core: 2,
        },
        None,
    );
    by_value(
        "skew",
        "What if most steps need the same few keys?",
        "Each step writes four of 1,024 numbers, chosen with a growing skew; two threads for each core.",
        Plan {
            steps: |setting, index| {
                random_steps(ACCOUNTS, 4, 1.0, setting.value, setting.seed_of(index))
            },
            ..PLAN
        },
        Axis::Value {
            label: "skew θ",
            values: &[0.0, 0.5, 0.8, 0.9, 0.99],
            per_core: 2,
        },
        Some(TABLE),
    );
    by_value(
        "conflicts",
        "From which part of conflicts on is it better to lock than to be optimistic?",
        "Each step reads two of 1,024 numbers, computes (1,500 passes of an empty loop: about half a microsecond) and writes them. Between no step and \
         every step has the one hot number among them, on one thread for each core: who is optimistic computes again what \
         another has overtaken, and who locks waits.",
        Plan {
            steps: hot,
            work: 1_500,
            ..PLAN
        },
        Axis::Value {
            label: "part of steps that want the hot number",
            values: &[0.0, 0.1, 0.25, 0.5, 0.75, 1.0],
            per_core: 1,
        },
        Some(TABLE),
    );
    by_value(
        "updates",
        "Up to which part of updates do optimistic reads pay?",
        "Each step names eight of 64 numbers, and more and more of those it also writes, on two threads for each core. Who \
         locks writes a word for each number that it reads; who is optimistic writes only what it changes.",
        Plan {
            accounts: 64,
            steps: |setting, index| random_steps(64, 8, setting.value, 0.0, setting.seed_of(index)),
            ..PLAN
        },
        Axis::Value {
            label: "part of the numbers that are written",
            values: &[0.0, 0.05, 0.1, 0.25, 0.5, 1.0],
            per_core: 2,
        },
        Some(TABLE),
    );
    all
}
