//! The operations that two threads do beside each other, for a [`Crew`](crate::crew::Crew).
//!
//! They use the public interface of each crate only. A member that has cells of its own has them on
//! cache lines of their own.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use arc_swap::ArcSwap;
use crossbeam_utils::CachePadded;
use crossbeam_utils::atomic::AtomicCell;
use latchwork::{VersionedCell, atomically, snapshot};
use seize::Collector;

use crate::cells::{ByHand, Read, Update, Value, reads, updates};
use crate::crew::{Figure, Job, MEMBERS, Paced, Part, Who};
use crate::maps::{Ours, Papaya, exchange, own_batches, read_heavy, updates_beside};
use crate::transactions::{ACCOUNTS, Bank, Cells, FUNDS, Ordered, pairs, transfers};

/// Two sides of a comparison.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// The operation.
    pub name: &'static str,
    /// The other side; empty where that is one thread.
    pub against: &'static str,
    /// The figure that the rounds give.
    pub figure: Figure,
    /// The least figure that is good enough, set before any measurement.
    pub at_least: Option<f64>,
    /// Makes the work of both sides anew.
    pub sides: Sides,
}

/// The work of the two sides.
#[derive(Clone, Copy, Debug)]
pub enum Sides {
    /// One job: by one member, and by all.
    Threads(fn() -> Job),
    /// Two jobs, by these members.
    Jobs([fn() -> Job; 2], Who),
}

impl Subject {
    const fn scaling(name: &'static str, make: fn() -> Job) -> Self {
        Self {
            name,
            against: "",
            figure: Figure::Scaling,
            at_least: None,
            sides: Sides::Threads(make),
        }
    }

    /// The throughput of two jobs by all members, the first divided by the second.
    const fn quotient(name: &'static str, against: &'static str, makes: [fn() -> Job; 2]) -> Self {
        Self {
            name,
            against,
            figure: Figure::Quotient,
            at_least: None,
            sides: Sides::Jobs(makes, Who::All),
        }
    }

    const fn at_least(mut self, bound: f64) -> Self {
        self.at_least = Some(bound);
        self
    }

    /// Makes both sides; `pace` determines how long a job runs.
    pub fn sides(&self, pace: impl Fn(Job) -> Paced) -> [Paced; 2] {
        match self.sides {
            Sides::Threads(make) => {
                let one = pace(make());
                let all = one.by(Who::All);
                [one, all]
            }
            Sides::Jobs(makes, who) => makes.map(|make| pace(make()).by(who)),
        }
    }
}

/// Two threads against one.
pub const SCALING: &[Subject] = &[
    Subject::scaling("`pin`", pins).at_least(1.9),
    Subject::scaling("`read`, a cell for each", || own(cell, |c| c)).at_least(1.9),
    Subject::scaling("`read`, one cell", || one(cell, |c| c)).at_least(1.9),
    Subject::scaling("`update`, a cell for each", || own_updates(cell)).at_least(1.7),
    Subject::scaling("transfer between two cells, a pair for each", own_transfers).at_least(1.7),
    Subject::scaling(
        "two cells read in a transaction, a pair for each",
        reads_of_two,
    )
    .at_least(1.9),
    Subject::scaling("a snapshot of 2 cells, a pair for each", snapshots).at_least(1.5),
    Subject::scaling("`ArcSwap::load`, a value for each", || own(swap, |s| s)),
    Subject::scaling("`ArcSwap::load`, one value", || one(swap, |s| s)),
    Subject::scaling("`crossbeam_epoch::pin`", epoch_pins),
    Subject::scaling("seize, `Collector::enter`", seize_enters),
    Subject::scaling("`ArcSwap::rcu`, a value for each", || own_updates(swap)),
    Subject::scaling("epoch and `Box` by hand, update, a value for each", || {
        own_updates(by_hand)
    }),
];

/// The price of one read.
pub const READ: &[Subject] = &[
    Subject {
        name: "`read`",
        against: "a plain load",
        figure: Figure::Difference,
        at_least: None,
        sides: Sides::Jobs([|| own(word, |w| w), || own(cell, |c| c)], Who::One),
    },
    Subject {
        name: "`ArcSwap::load`",
        against: "a plain load",
        figure: Figure::Difference,
        at_least: None,
        sides: Sides::Jobs([|| own(word, |w| w), || own(swap, |s| s)], Who::One),
    },
    Subject {
        name: "`fence(SeqCst)` and a load",
        against: "a plain load",
        figure: Figure::Difference,
        at_least: None,
        sides: Sides::Jobs([|| own(word, |w| w), || own(word, Fenced)], Who::One),
    },
    Subject {
        name: "an exchange of an own word, a load, and a store to the word",
        against: "a plain load",
        figure: Figure::Difference,
        at_least: None,
        sides: Sides::Jobs([|| own(word, |w| w), || own(marked, Marked)], Who::One),
    },
];

/// Transfers beside an auditor.
pub const AUDITED: &[Subject] = &[
    Subject {
        name: "one thread that transfers, beside one auditor",
        against: "as many ordered `parking_lot` mutexes, beside one auditor",
        figure: Figure::Quotient,
        at_least: None,
        sides: Sides::Jobs([audited::<Cells>, audited::<Ordered>], Who::All),
    },
    Subject {
        name: "one thread that transfers, alone",
        against: "as many ordered `parking_lot` mutexes, alone",
        figure: Figure::Quotient,
        at_least: None,
        sides: Sides::Jobs([audited::<Cells>, audited::<Ordered>], Who::One),
    },
];

/// Maps.
pub const MAPS: &[Subject] = &[
    Subject::scaling("map, 98 % reads", read_heavy::<Ours>),
    Subject::scaling("papaya, 98 % reads", read_heavy::<Papaya>),
    Subject::scaling("map, 10 % reads", exchange::<Ours>),
    Subject::scaling("papaya, 10 % reads", exchange::<Papaya>),
    Subject::quotient(
        "map, 98 % reads, two threads",
        "papaya, two threads",
        [read_heavy::<Ours>, read_heavy::<Papaya>],
    ),
    Subject::quotient(
        "map, 10 % reads, two threads",
        "papaya, two threads",
        [exchange::<Ours>, exchange::<Papaya>],
    ),
    Subject::scaling("batches of four puts, other keys for each", own_batches).at_least(1.5),
    Subject::quotient(
        "one thread that updates a map of 2^14 keys, beside one that scans it",
        "beside an idle one",
        [updates_beside::<true>, updates_beside::<false>],
    )
    .at_least(0.7),
];

fn cell() -> VersionedCell<u64> {
    VersionedCell::new(u64::FIRST)
}

fn swap() -> ArcSwap<u64> {
    ArcSwap::from_pointee(u64::FIRST)
}

fn by_hand() -> ByHand<u64> {
    ByHand::new(u64::FIRST)
}

fn word() -> AtomicCell<u64> {
    AtomicCell::new(u64::FIRST)
}

/// Reads behind a full fence, as each scheme does whose readers publish what they read.
struct Fenced(&'static AtomicCell<u64>);

impl Read<u64> for Fenced {
    #[inline]
    fn read(&mut self) -> u64 {
        fence(Ordering::SeqCst);
        self.0.load()
    }
}

/// Reads between a mark and its end, with the least that orders them: on x86 an exchange is a full
/// fence, and cheaper than an `mfence`. A pin does this, and no pin with a fence does less.
struct Marked(&'static (CachePadded<AtomicU64>, AtomicCell<u64>));

impl Read<u64> for Marked {
    #[inline]
    fn read(&mut self) -> u64 {
        let (mark, word) = self.0;
        mark.swap(1, Ordering::SeqCst);
        let value = word.load();
        mark.store(0, Ordering::Release);
        value
    }
}

fn marked() -> (CachePadded<AtomicU64>, AtomicCell<u64>) {
    (CachePadded::new(AtomicU64::new(0)), word())
}

/// One value for each member.
fn for_each<C>(new: impl Fn() -> C) -> [CachePadded<C>; MEMBERS] {
    [(); MEMBERS].map(|()| CachePadded::new(new()))
}

/// Keeps a value until the program ends, for readers that borrow it.
fn placed<C>(value: C) -> &'static C {
    Box::leak(Box::new(value))
}

fn own<C, R>(new: fn() -> C, reader: fn(&'static C) -> R) -> Job
where
    C: Send + Sync + 'static,
    R: Read<u64> + 'static,
{
    let cells = placed(for_each(new));
    Arc::new(move |part| reads(reader(&cells[part.index]), part.times))
}

fn one<C, R>(new: fn() -> C, reader: fn(&'static C) -> R) -> Job
where
    C: Send + Sync + 'static,
    R: Read<u64> + 'static,
{
    let cell = placed(CachePadded::new(new()));
    Arc::new(move |part| reads(reader(cell), part.times))
}

/// Makes updates of a cell of each member.
pub fn own_updates<C: Update + Send + 'static>(new: fn() -> C) -> Job {
    let cells = for_each(new);
    Arc::new(move |part| updates(&*cells[part.index], part.times))
}

/// Does an operation on the pair of the member, over and over.
fn own_pairs(operation: fn(&[VersionedCell<u64>; 2])) -> Job {
    let pairs = for_each(|| [(); 2].map(|()| VersionedCell::new(u64::MAX / 2)));
    Arc::new(move |part| {
        let pair = &*pairs[part.index];
        for _ in 0..part.times {
            operation(black_box(pair));
        }
    })
}

fn own_transfers() -> Job {
    own_pairs(|[from, to]| {
        atomically(|tx| {
            tx.update(from, |funds| funds - 1)?;
            tx.update(to, |funds| funds + 1)
        });
    })
}

fn reads_of_two() -> Job {
    own_pairs(|[one, other]| {
        let sum = atomically(|tx| Ok(tx.read(one)?.wrapping_add(*tx.read(other)?)));
        black_box(sum);
    })
}

fn snapshots() -> Job {
    own_pairs(|[one, other]| {
        black_box(snapshot(|s| s.read(one).wrapping_add(*s.read(other))));
    })
}

/// Pins once so many times.
#[inline(never)]
pub fn pin_times(times: u64) {
    for _ in 0..times {
        drop(black_box(latchwork::pin()));
    }
}

/// Pins crossbeam-epoch once so many times.
#[inline(never)]
pub fn epoch_pin_times(times: u64) {
    for _ in 0..times {
        drop(black_box(crossbeam_epoch::pin()));
    }
}

/// Enters a collector of seize once so many times.
#[inline(never)]
pub fn seize_enter_times(collector: &Collector, times: u64) {
    for _ in 0..times {
        drop(black_box(collector.enter()));
    }
}

fn pins() -> Job {
    Arc::new(|part| pin_times(part.times))
}

fn epoch_pins() -> Job {
    Arc::new(|part| epoch_pin_times(part.times))
}

fn seize_enters() -> Job {
    let collector = Collector::new();
    Arc::new(move |part| seize_enter_times(&collector, part.times))
}

/// The first member of a run transfers between 1,024 accounts. Another one sums all of them at the
/// same time.
fn audited<B: Bank + Send + 'static>() -> Job {
    let (bank, pairs) = (B::new(ACCOUNTS), pairs(ACCOUNTS, 1));
    Arc::new(move |part: Part<'_>| {
        if part.is_first {
            return transfers(&bank, &pairs, part.times);
        }
        // Relaxed: it carries no data.
        while !part.first_is_done.load(Ordering::Relaxed) {
            assert_eq!(bank.total(), ACCOUNTS as i64 * FUNDS, "a sum of no moment");
        }
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::crew::{Crew, own_counters};

    #[test]
    fn every_subject_runs_and_gives_a_figure() {
        let (crew, span) = (Crew::new(), Duration::from_micros(100));
        let control = crew.pace(own_counters(), span);
        for subject in [SCALING, READ, AUDITED, MAPS].concat() {
            let sides = subject.sides(|job| crew.pace(job, span));
            for number in 0..4 {
                let round = crew.round(number, &sides, &control);
                let figure = subject.figure.of(&round);
                assert!(figure.is_finite(), "{}: {round}", subject.name);
                assert!(round.first > 0.0 && round.second > 0.0, "{}", subject.name);
            }
        }
    }

    #[test]
    fn no_two_subjects_have_one_name() {
        let mut names: Vec<_> = [SCALING, READ, AUDITED, MAPS]
            .concat()
            .iter()
            .map(|subject| subject.name)
            .collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
