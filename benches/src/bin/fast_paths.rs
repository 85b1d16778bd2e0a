//! Prints what the fast paths cost, as a user would measure it, beside what the report says.
//!
//! ```text
//! cargo run --release -p latchwork-bench --bin fast_paths [ROUNDS]
//! ```
//!
//! It uses the public interface of `latchwork` and its baselines, and shares no code with the report.
//! Each round times both sides one after the other, the first one first in every second round. The
//! median of the ratios of a whole run counts, not the fastest part of it.

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use comfy_table::{Table, presets};
use crossbeam_utils::CachePadded;
use latchwork::{LockTable, Mode, RandomState, VersionedCell, atomically, snapshot, update_all};
use lockmap::LockMap;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use stm::TVar;

/// How long one side of a round runs on one thread.
const SPAN: Duration = Duration::from_millis(2);
const ACCOUNTS: usize = 1024;
const HELD: usize = 1_000_000;
const IN_TURN: usize = 4096;
const CROWD: usize = 8;
/// Locks of each thread of a crowd in one run.
const LOCKS: usize = 200_000;

/// A row of the table.
struct Row {
    what: &'static str,
    against: &'static str,
    /// Ours divided by theirs.
    ratio: f64,
    nanos: [f64; 2],
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

/// Times `ours` and `theirs` in alternation. Each is called with the number of operations.
fn compare(
    rounds: usize,
    what: &'static str,
    against: &'static str,
    mut ours: impl FnMut(usize),
    mut theirs: impl FnMut(usize),
) -> Row {
    let time = |side: &mut dyn FnMut(usize), operations: usize| {
        let start = Instant::now();
        side(operations);
        start.elapsed().as_secs_f64() * 1e9 / operations as f64
    };
    let mut operations = 64;
    while time(&mut ours, operations) * (operations as f64) < SPAN.as_nanos() as f64 {
        operations *= 2;
    }
    time(&mut theirs, operations);
    let pairs: Vec<[f64; 2]> = (0..rounds)
        .map(|round| {
            if round % 2 == 0 {
                let ours = time(&mut ours, operations);
                [ours, time(&mut theirs, operations)]
            } else {
                let theirs = time(&mut theirs, operations);
                [time(&mut ours, operations), theirs]
            }
        })
        .collect();
    Row {
        what,
        against,
        ratio: median(pairs.iter().map(|[ours, theirs]| ours / theirs).collect()),
        nanos: [0, 1].map(|side| median(pairs.iter().map(|pair| pair[side]).collect())),
    }
}

/// Two different accounts for each of some steps.
fn steps() -> Vec<[usize; 2]> {
    let mut random = SmallRng::seed_from_u64(7);
    let mut two = || {
        let from = random.random_range(0..ACCOUNTS);
        let to = (from + random.random_range(1..ACCOUNTS)) % ACCOUNTS;
        [from, to]
    };
    (0..4096).map(|_| two()).collect()
}

/// Calls `step` with one pair of accounts after another.
fn each(steps: &[[usize; 2]], mut step: impl FnMut(usize, usize)) -> impl FnMut(usize) {
    let mut at = 0;
    move |operations| {
        for _ in 0..operations {
            let [from, to] = steps[at % steps.len()];
            step(from, to);
            at += 1;
        }
    }
}

fn transactions(rounds: usize) -> Vec<Row> {
    let steps = &steps();
    let cells: Vec<VersionedCell<i64>> = (0..ACCOUNTS).map(|_| VersionedCell::new(1_000)).collect();
    let mutexes: Vec<Mutex<i64>> = (0..ACCOUNTS).map(|_| Mutex::new(1_000)).collect();
    let variables: Vec<TVar<i64>> = (0..ACCOUNTS).map(|_| TVar::new(1_000)).collect();
    let (cells, mutexes) = (&cells[..], &mutexes[..]);
    let transfer = || {
        each(steps, |from, to| {
            atomically(|tx| {
                let (a, b) = (*tx.read(&cells[from])?, *tx.read(&cells[to])?);
                tx.set(&cells[from], a - 1)?;
                tx.set(&cells[to], b + 1)
            });
        })
    };
    let both = |from: usize, to: usize| {
        let low = mutexes[from.min(to)].lock();
        let high = mutexes[from.max(to)].lock();
        if from < to { (low, high) } else { (high, low) }
    };
    let ordered = || {
        each(steps, |from, to| {
            let (mut a, mut b) = both(from, to);
            *a -= 1;
            *b += 1;
        })
    };
    let by_stm = each(steps, |from, to| {
        stm::atomically(|tx| {
            let (a, b) = (variables[from].read(tx)?, variables[to].read(tx)?);
            variables[from].write(tx, a - 1)?;
            variables[to].write(tx, b + 1)
        });
    });
    let at_once = each(steps, |from, to| {
        update_all((&cells[from], &cells[to]), |(a, b)| (a - 1, b + 1));
    });
    let read = each(steps, |from, to| {
        black_box(atomically(|tx| {
            Ok(*tx.read(&cells[from])? + *tx.read(&cells[to])?)
        }));
    });
    let read_ordered = || {
        each(steps, |from, to| {
            let (a, b) = both(from, to);
            black_box(*a + *b);
        })
    };
    let seen = each(steps, |from, to| {
        black_box(snapshot(|s| *s.read(&cells[from]) + *s.read(&cells[to])));
    });
    let seen_32 = each(steps, |from, _| {
        let some = &cells[from.min(ACCOUNTS - 32)..][..32];
        black_box(snapshot(|s| {
            some.iter().map(|cell| *s.read(cell)).sum::<i64>()
        }));
    });
    let summed_32 = each(steps, |from, _| {
        let some = &mutexes[from.min(ACCOUNTS - 32)..][..32];
        let guards: [_; 32] = std::array::from_fn(|i| some[i].lock());
        black_box(guards.iter().map(|guard| **guard).sum::<i64>());
    });
    let two = "two ordered mutexes";
    vec![
        compare(rounds, "transfer", two, transfer(), ordered()),
        compare(rounds, "transfer", "stm", transfer(), by_stm),
        compare(rounds, "`update_all` of two", two, at_once, ordered()),
        compare(rounds, "two cells read", two, read, read_ordered()),
        compare(rounds, "snapshot of two", two, seen, read_ordered()),
        compare(rounds, "snapshot of 32", "32 mutexes", seen_32, summed_32),
    ]
}

/// Locks and unlocks one key after another.
fn locks(table: &LockTable<u64>, keys: &[u64]) -> impl FnMut(usize) {
    let mut at = 0;
    move |operations| {
        for _ in 0..operations {
            drop(table.lock(&keys[at % keys.len()]));
            at += 1;
        }
    }
}

fn a_million_held(rounds: usize) -> Vec<Row> {
    let mut random = SmallRng::seed_from_u64(11);
    let mut keys = |n: usize| -> Vec<u64> { (0..n).map(|_| random.random()).collect() };
    let (held, others) = (keys(HELD), keys(HELD));
    let hasher = RandomState::default();
    let table = LockTable::with_hasher(hasher.clone());
    let empty = LockTable::with_hasher(hasher);
    // Random keys of 64 bits: no two are equal.
    let _guards: Vec<_> = held.iter().map(|key| table.lock(key)).collect();
    let peer = LockMap::<u64, ()>::new();
    let _entries: Vec<_> = held.iter().map(|&key| peer.entry(key)).collect();
    let by_peer = {
        let mut at = 0;
        let (peer, others) = (&peer, &others);
        move |operations: usize| {
            for _ in 0..operations {
                drop(peer.entry(others[at % others.len()]));
                at += 1;
            }
        }
    };
    // A key whose slot a held one has costs more: the median of some keys is what most cost.
    let mut repeated: Vec<Row> = (others[..9].iter())
        .map(|key| {
            let key = std::slice::from_ref(key);
            let what = "another key beside 10^6 held, repeated";
            compare(
                rounds,
                what,
                "an empty table",
                locks(&table, key),
                locks(&empty, key),
            )
        })
        .collect();
    repeated.sort_by(|a, b| a.ratio.total_cmp(&b.ratio));
    let turn = &others[..IN_TURN];
    let empty_turn = locks(&empty, turn);
    vec![
        repeated.swap_remove(4),
        compare(
            rounds,
            "4,096 other keys, in turn",
            "an empty table",
            locks(&table, turn),
            empty_turn,
        ),
        compare(
            rounds,
            "other keys, random",
            "lockmap",
            locks(&table, &others),
            by_peer,
        ),
    ]
}

/// The time of a crowd that locks random ones of so many keys. `lock` is called with the key.
fn crowd(keys: usize, lock: impl Fn(usize) + Sync) -> Duration {
    let (begin, end) = (Barrier::new(CROWD + 1), Barrier::new(CROWD + 1));
    std::thread::scope(|scope| {
        for seed in 0..CROWD {
            let (lock, begin, end) = (&lock, &begin, &end);
            scope.spawn(move || {
                let mut random = SmallRng::seed_from_u64(seed as u64);
                begin.wait();
                for _ in 0..LOCKS {
                    lock(random.random_range(0..keys));
                }
                end.wait();
            });
        }
        begin.wait();
        let start = Instant::now();
        end.wait();
        start.elapsed()
    })
}

fn crowds(rounds: usize) -> Vec<Row> {
    let names = [
        (16, "8 threads, 16 keys: throughput"),
        (1, "8 threads, one key: throughput"),
    ];
    names
        .map(|(keys, what)| {
            let table = LockTable::<u64>::new();
            let mutexes: Vec<CachePadded<Mutex<()>>> =
                (0..keys).map(|_| CachePadded::default()).collect();
            let pairs: Vec<[f64; 2]> = (0..rounds.min(9))
                .map(|_| {
                    [
                        crowd(keys, |key| drop(table.lock(&(key as u64)))),
                        crowd(keys, |key| drop(mutexes[key].lock())),
                    ]
                    .map(|time| time.as_secs_f64() * 1e9 / (CROWD * LOCKS) as f64)
                })
                .collect();
            Row {
                what,
                against: "padded mutexes",
                // Of the throughput, so theirs divided by ours.
                ratio: median(pairs.iter().map(|[ours, theirs]| theirs / ours).collect()),
                nanos: [0, 1].map(|side| median(pairs.iter().map(|pair| pair[side]).collect())),
            }
        })
        .into()
}

fn few_keys(rounds: usize) -> Vec<Row> {
    let table = LockTable::<u64>::new();
    let mutexes: Vec<CachePadded<Mutex<()>>> = (0..3).map(|_| CachePadded::default()).collect();
    let three = black_box([5_u64, 6, 7]);
    let set = |operations: usize| {
        for _ in 0..operations {
            let keys = three.iter().map(|key| (key, Mode::Exclusive));
            drop(table.try_lock_all(keys).expect("they are free"));
        }
    };
    let by_mutexes = |operations: usize| {
        for _ in 0..operations {
            let guards: [_; 3] = std::array::from_fn(|i| mutexes[i].try_lock());
            assert!(guards.iter().all(Option::is_some), "they are free");
        }
    };
    let key = black_box(9_u64);
    let mut session = table.session();
    let in_session = |operations: usize| {
        for _ in 0..operations {
            session.lock(black_box(&key)).expect("it is free");
            session.unlock(black_box(&key));
        }
    };
    let new_session = |operations: usize| {
        for _ in 0..operations {
            let mut session = table.session();
            session.lock(black_box(&key)).expect("it is free");
        }
    };
    let alone = |operations: usize| {
        for _ in 0..operations {
            drop(table.lock(black_box(&key)));
        }
    };
    vec![
        compare(
            rounds,
            "`try_lock_all` of three",
            "three `try_lock`s",
            set,
            by_mutexes,
        ),
        compare(
            rounds,
            "lock and unlock in a session",
            "a lock",
            in_session,
            alone,
        ),
        compare(
            rounds,
            "a new session, one lock",
            "a lock",
            new_session,
            alone,
        ),
    ]
}

fn number(argument: Option<String>) -> Option<usize> {
    argument.map_or(Some(101), |text| {
        text.parse().ok().filter(|&rounds| rounds > 0)
    })
}

fn main() -> ExitCode {
    let Some(rounds) = number(std::env::args().nth(1)) else {
        eprintln!("usage: fast_paths [ROUNDS], at least 1");
        return ExitCode::FAILURE;
    };
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header(["operation", "against", "ratio", "ns, ours and theirs"]);
    let all: [fn(usize) -> Vec<Row>; 4] = [transactions, a_million_held, few_keys, crowds];
    for row in all.into_iter().flat_map(|rows| rows(rounds)) {
        let [ours, theirs] = row.nanos;
        table.add_row([
            row.what.to_owned(),
            row.against.to_owned(),
            format!("{:.2}", row.ratio),
            format!("{ours:.1} / {theirs:.1}"),
        ]);
    }
    println!("{table}");
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::{number, steps};

    #[test]
    fn no_round_gives_no_result() {
        assert_eq!(number(None), Some(101));
        assert_eq!(number(Some("5".to_owned())), Some(5));
        assert_eq!(number(Some("0".to_owned())), None);
        assert_eq!(number(Some("x".to_owned())), None);
    }

    #[test]
    fn a_step_has_two_accounts() {
        assert!(steps().iter().all(|[from, to]| from != to));
    }
}
