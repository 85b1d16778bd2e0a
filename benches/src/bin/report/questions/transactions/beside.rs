//! What do transactions and snapshots achieve beside others that use the same cells?

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;
use hdrhistogram::Histogram;
use latchwork::{Transaction, TxError, VersionedCell, atomically, snapshot};
use latchwork_bench::ratio::{Comparison, Plan, Quartiles, in_turn};
use latchwork_bench::throughput;
use latchwork_bench::transactions::{ACCOUNTS, Bank, Cells, FUNDS, pairs, transfers_until};

use super::super::{Question, scaling};
use crate::row::Row;

pub(in super::super) const QUESTION: Question = Question {
    name: "transactions-beside",
    title: "Transactions and snapshots: beside others",
    prose: "*Opposite orders*: two threads add one to both cells of one of 20 pairs without a pause, one thread to \
            the first cell first, the other to the second first, against one of them alone (the control is that of \
            *Two threads, different keys*). The times are those of each transaction from its call to its return, with \
            a reading of the clock; the system may have suspended the thread meanwhile. *Large*: one thread makes \
            five transactions over 10,000 cells, and the time is that of all five. Of the three writers beside it, \
            two update the 5,000th cell in transactions, one by itself. The auditor makes snapshots of the first and \
            the last cell, and then one of the cells is only read. A transaction is aborted after half a minute. \
            *1,024 accounts*: three threads transfer, and one sums all accounts in snapshots, for 3 seconds; each sum \
            is checked. *Beside one auditor*: one thread transfers while another sums the 1,024 accounts in snapshots \
            without a pause, against the same thread alone. An auditor that reads them under a pin causes the same \
            traffic of cache lines without one instant; atomic words show the cost of that traffic by itself. A \
            transfer installs a node in two cells that the auditor has read since: it must wait for those lines at \
            least once. *A word handed over* is the number of transfers alone in the time in which one line moves \
            between cores. There are two cores: of three threads that transfer, an auditor uses a quarter of the time \
            in any case, so that with three the baseline has a thread that only counts in its place.",
    measure,
};

type Pair = [VersionedCell<u64>; 2];

const PAIRS: usize = 20;

/// How many cells a large transaction has.
const LARGE: usize = 10_000;

/// The time after which a large transaction is abandoned.
const PATIENCE: Duration = Duration::from_secs(30);

fn quartiles(values: impl IntoIterator<Item = f64>) -> Quartiles {
    Quartiles::of(values).expect("there is a run")
}

fn measure(plan: Plan) -> Vec<Row> {
    let full = plan.rounds == Plan::FULL.rounds;
    let runs = if full { 3 } else { 1 };
    let mut rows = vec![
        opposite_orders(plan),
        opposite_times(plan, runs),
        large_beside_hammers(runs),
        large_beside_an_auditor(runs),
    ];
    rows.extend(accounts(runs));
    rows.extend(beside_an_auditor(plan));
    rows.push(words_beside_a_reader(plan));
    rows.push(word_handed_over(plan));
    rows
}

fn new_pairs() -> Vec<CachePadded<Pair>> {
    let pair = |_| CachePadded::new([0, 0].map(VersionedCell::new));
    (0..PAIRS).map(pair).collect()
}

/// Adds one to both, in the order of thread `index`.
fn both(pair: &Pair, index: usize) {
    let (first, second) = (&pair[index], &pair[1 - index]);
    atomically(|tx| {
        tx.update(first, |n| n + 1)?;
        tx.update(second, |n| n + 1)
    });
}

/// Pairs in no order, another for each thread.
fn order(index: usize) -> impl Iterator<Item = usize> {
    let order = pairs(PAIRS, index as u64);
    let len = order.len();
    (0..).map(move |n| order[n % len].0)
}

fn opposite_orders(plan: Plan) -> Row {
    let pairs = new_pairs();
    scaling::believed(
        plan,
        "20 pairs, two threads in opposite orders",
        |_, threads| {
            let work = |index: usize, stop: &AtomicBool| {
                let mut done = 0;
                for pair in order(index) {
                    if stop.load(Relaxed) {
                        break;
                    }
                    both(&pairs[pair], index);
                    done += 1;
                }
                done
            };
            throughput::run(threads, plan.crowd_span, work).rate()
        },
    )
    .at_least(1.0)
}

fn opposite_times(plan: Plan, runs: usize) -> Row {
    let pairs = new_pairs();
    let run = |_| {
        let times = [(); 2].map(|()| parking_lot::Mutex::new(histogram()));
        throughput::run(2, 10 * plan.crowd_span, |index, stop| {
            let mut times = times[index].lock();
            for pair in order(index) {
                if stop.load(Relaxed) {
                    break;
                }
                let start = Instant::now();
                both(&pairs[pair], index);
                let nanos = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
                times.record(nanos).expect("it resizes");
            }
            times.len()
        });
        let [mut all, other] = times.map(parking_lot::Mutex::into_inner);
        all.add(other).expect("it resizes");
        [0.5, 0.999, 1.0].map(|part| all.value_at_quantile(part) as f64)
    };
    let found: Vec<_> = (0..3 * runs).map(run).collect();
    let median = |which: usize| quartiles(found.iter().map(|times| times[which])).median;
    let context = format!(
        "{:.0} / {:.0} ns, the longest {:.0} ns",
        median(1),
        median(0),
        median(2)
    );
    let ratios = quartiles(found.iter().map(|times| times[1] / times[0]));
    let what = "20 pairs, two threads in opposite orders, the 99.9th percentile of the time";
    Row::times(what, "the median", ratios, context).at_most(100.0)
}

fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are within the limits of a histogram")
}

/// The time of five large transactions; one of the cells is only read if it is `read`.
fn five_large(cells: &[VersionedCell<u64>], read: Option<usize>) -> f64 {
    let transaction = Transaction::builder();
    let start = Instant::now();
    for _ in 0..5 {
        let result = transaction.timeout(PATIENCE).run(|tx| {
            for (i, cell) in cells.iter().enumerate() {
                if Some(i) == read {
                    tx.read(cell)?;
                } else {
                    tx.update(cell, |n| n + 1)?;
                }
            }
            Ok(())
        });
        if result == Err(TxError::TimedOut) {
            break;
        }
        result.expect("it is tried until the time has passed");
    }
    start.elapsed().as_secs_f64()
}

/// Runs `large` beside others, which begin first. Returns its time, and how many operations the
/// others completed in it.
fn beside(others: &[&(dyn Fn() + Sync)], large: impl Fn() -> f64) -> (f64, f64) {
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for other in others {
            let (stop, done) = (&stop, &done);
            scope.spawn(move || {
                while !stop.load(Relaxed) {
                    other();
                    done.fetch_add(1, Relaxed);
                }
            });
        }
        while done.load(Relaxed) < 1_000 {
            thread::yield_now();
        }
        let before = done.load(Relaxed);
        let took = large();
        let meanwhile = done.load(Relaxed) - before;
        stop.store(true, Relaxed);
        (took, meanwhile as f64)
    })
}

fn large_row(what: &str, others: &str, runs: Vec<(f64, f64)>) -> Row {
    let meanwhile = quartiles(runs.iter().map(|run| run.1)).median;
    let seconds = quartiles(runs.iter().map(|run| run.0));
    let context = format!("{others} meanwhile: {meanwhile:.0}");
    Row::seconds(what, seconds, context).at_most(10.0)
}

fn new_large() -> Vec<VersionedCell<u64>> {
    (0..LARGE).map(|_| VersionedCell::new(0)).collect()
}

fn large_beside_hammers(runs: usize) -> Row {
    let run = |_| {
        let cells = new_large();
        let hit = &cells[LARGE / 2];
        let transaction = || atomically(|tx| tx.update(hit, |n| n + 1));
        let single = || {
            hit.update(|n| n + 1);
        };
        beside(&[&transaction, &transaction, &single], || {
            five_large(&cells, None)
        })
    };
    let what = "5 transactions over 10,000 cells beside 3 hammers";
    large_row(what, "blows", (0..runs).map(run).collect())
}

fn large_beside_an_auditor(runs: usize) -> Row {
    let run = |_| {
        let cells = new_large();
        let ends = [&cells[0], &cells[LARGE - 1]];
        let audit = || {
            let [first, last] = snapshot(|s| ends.map(|cell| *s.read(cell)));
            assert_eq!(first, last, "half a transaction");
        };
        beside(&[&audit], || five_large(&cells, Some(LARGE / 2)))
    };
    let what = "5 transactions over 10,000 cells beside an auditor of 2 of them";
    large_row(what, "snapshots", (0..runs).map(run).collect())
}

/// Sums all accounts, and checks the sum.
fn audit(bank: &Cells) {
    assert_eq!(bank.total(), ACCOUNTS as i64 * FUNDS, "a sum of no moment");
}

fn accounts(runs: usize) -> [Row; 2] {
    let run = |_| {
        let (bank, audits) = (Cells::new(ACCOUNTS), AtomicU64::new(0));
        let run = throughput::run(4, Duration::from_secs(3), |index, stop| {
            if index < 3 {
                return transfers_until(&bank, &pairs(ACCOUNTS, index as u64), stop);
            }
            while !stop.load(Relaxed) {
                audit(&bank);
                audits.fetch_add(1, Relaxed);
            }
            0
        });
        [audits.into_inner() as f64, run.done as f64]
    };
    let found: Vec<_> = (0..runs).map(run).collect();
    let row = |what: &str, which: usize| {
        let values = quartiles(found.iter().map(|counts| counts[which]));
        Row::times(what, "", values, String::new())
    };
    [
        row(
            "1,024 accounts for 3 s, snapshots beside 3 threads that transfer",
            0,
        )
        .at_least(1e3),
        row("1,024 accounts for 3 s, transfers of those meanwhile", 1).at_least(1e5),
    ]
}

/// The same two writes in plain words: the cost of the traffic of cache lines for any contender.
fn words_beside_a_reader(plan: Plan) -> Row {
    let words: Vec<AtomicU64> = (0..ACCOUNTS).map(|_| AtomicU64::new(0)).collect();
    let pairs = pairs(ACCOUNTS, 0);
    let rate = |threads| {
        let work = |index: usize, stop: &AtomicBool| {
            let mut done = 0;
            for &(from, to) in pairs.iter().cycle() {
                if stop.load(Relaxed) {
                    break;
                }
                if index == 0 {
                    words[from].fetch_sub(1, Relaxed);
                    words[to].fetch_add(1, Relaxed);
                    done += 1;
                } else {
                    let total = words.iter().map(|word| word.load(Relaxed));
                    std::hint::black_box(total.fold(0, u64::wrapping_add));
                }
            }
            done
        };
        throughput::run(threads, 2 * plan.crowd_span, work).rate()
    };
    let rounds = (0..plan.rounds).map(|round| in_turn(round, || rate(2), || rate(1)));
    let what =
        "one thread that writes two of 1,024 atomic words, beside one that reads all, to compare";
    throughput_row(what, "alone", rounds.collect())
}

/// The least cost of a write to a word that another core has read.
fn word_handed_over(plan: Plan) -> Row {
    let bank = Cells::new(ACCOUNTS);
    let word = CachePadded::new(AtomicU64::new(0));
    let hand_over = || {
        let work = |index: usize, stop: &AtomicBool| {
            let mut done = 0;
            while !stop.load(Relaxed) {
                let now = word.load(Relaxed);
                if now % 2 == index as u64 {
                    word.store(now + 1, Relaxed);
                    done += 1;
                }
            }
            done
        };
        1e9 / throughput::run(2, 2 * plan.crowd_span, work).rate()
    };
    let transfer = || 1e9 / transfers_beside(plan, &bank, 1, None);
    let rounds = (0..plan.rounds).map(|round| in_turn(round, hand_over, transfer));
    let result = compared(&rounds.collect::<Vec<_>>());
    Row::time(
        "a word handed over from thread to thread",
        "a transfer alone",
        &result,
    )
    .against_itself()
}

fn compared(rounds: &[(f64, f64)]) -> Comparison {
    Comparison {
        ratio: quartiles(rounds.iter().map(|(subject, baseline)| subject / baseline)),
        subject: quartiles(rounds.iter().map(|round| round.0)).median,
        baseline: quartiles(rounds.iter().map(|round| round.1)).median,
    }
}

fn throughput_row(what: &str, against: &str, rounds: Vec<(f64, f64)>) -> Row {
    Row::throughput(what, against, &compared(&rounds)).against_itself()
}

/// Transfers a second of so many threads beside one that does `other` again and again, if at all.
fn transfers_beside(
    plan: Plan,
    bank: &Cells,
    writers: usize,
    other: Option<&(dyn Fn() + Sync)>,
) -> f64 {
    let pairs: Vec<_> = (0..writers as u64).map(|n| pairs(ACCOUNTS, n)).collect();
    let work = |index: usize, stop: &AtomicBool| match (pairs.get(index), other) {
        (Some(pairs), _) => transfers_until(bank, pairs, stop),
        (None, other) => {
            while let (false, Some(other)) = (stop.load(Relaxed), other) {
                other();
            }
            0
        }
    };
    let threads = writers + usize::from(other.is_some());
    throughput::run(threads, 2 * plan.crowd_span, work).rate()
}

fn beside_an_auditor(plan: Plan) -> [Row; 3] {
    let bank = Cells::new(ACCOUNTS);
    let audits = || audit(&bank);
    let reads = || {
        let pin = latchwork::pin();
        let total: i64 = bank.0.iter().map(|cell| *cell.read_in(&pin)).sum();
        std::hint::black_box(total);
    };
    let row =
        |what: &str, against: &str, writers, other: &(dyn Fn() + Sync), instead: Option<&_>| {
            let subject = || transfers_beside(plan, &bank, writers, Some(other));
            let baseline = || transfers_beside(plan, &bank, writers, instead);
            let rounds = (0..plan.rounds).map(|round| in_turn(round, subject, baseline));
            throughput_row(what, against, rounds.collect())
        };
    let what = "one thread that transfers, beside one auditor";
    let reader = "one thread that transfers, beside one that reads all under a `ReadPin`";
    let crowd = "3 threads that transfer, beside one auditor";
    let counts = "beside a thread that only counts";
    let count: &(dyn Fn() + Sync) = &|| std::hint::spin_loop();
    [
        row(what, "alone", 1, &audits, None).at_least(0.8),
        row(reader, "alone", 1, &reads, None),
        row(crowd, counts, 3, &audits, Some(count)),
    ]
}
