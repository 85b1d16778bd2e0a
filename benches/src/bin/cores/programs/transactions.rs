//! Several cells at one moment.

use std::hint::black_box;

use crossbeam_utils::CachePadded;
use latchwork::{VersionedCell, atomically, snapshot};
use latchwork_bench::transactions::{ACCOUNTS, Bank, Cells, Ordered, Stm, pairs};

use super::{Program, Question, Share, shared};

/// Accounts that one sum is over.
const SUMMED: usize = 32;

pub(crate) static OWN_PAIR: Question = Question {
    title: "Transactions: each core transfers between two cells of its own",
    text: "Each core moves one unit between two accounts that no other core accesses, on lines \
           that no other core accesses as far as the structure allows it. The other lines that \
           move are those that all transactions share.",
    programs: &[
        Program {
            name: "`atomically`",
            share: || own_pair(Cells::new(ACCOUNTS)),
        },
        Program {
            name: "`stm`",
            share: || own_pair(Stm::new(ACCOUNTS)),
        },
        Program {
            name: "ordered `parking_lot::Mutex`es",
            share: || own_pair(Ordered::new(ACCOUNTS)),
        },
    ],
};

pub(crate) static TRANSFERS: Question = Question {
    title: "Transactions: transfers between two of 1,024 accounts",
    text: "Each core moves one unit between two random accounts of 1,024. Accounts of different transfers may share a line in all three.",
    programs: &[
        Program {
            name: "`atomically`",
            share: || transfers(Cells::new(ACCOUNTS)),
        },
        Program {
            name: "`stm`",
            share: || transfers(Stm::new(ACCOUNTS)),
        },
        Program {
            name: "ordered `parking_lot::Mutex`es",
            share: || transfers(Ordered::new(ACCOUNTS)),
        },
    ],
};

pub(crate) static SNAPSHOTS: Question = Question {
    title: "Snapshots: all cores add up 32 accounts",
    text: "Each core sums the same 32 accounts as of one instant, and no core writes. A snapshot of ours reads a clock that all of them share, and advances it only after a write.",
    programs: &[
        Program {
            name: "`snapshot`",
            share: || totals(Cells::new(SUMMED)),
        },
        Program {
            name: "`stm`",
            share: || totals(Stm::new(SUMMED)),
        },
        Program {
            name: "ordered `parking_lot::Mutex`es",
            share: || totals(Ordered::new(SUMMED)),
        },
    ],
};

pub(crate) static OWN_SNAPSHOTS: Question = Question {
    title: "Snapshots: each core adds up two cells of its own",
    text: "Each core sums two cells that no other core touches, and no core writes: in a snapshot, and in a transaction.",
    programs: &[
        Program {
            name: "`snapshot`",
            share: || {
                own_sum(|[one, other]| snapshot(|s| s.read(one).wrapping_add(*s.read(other))))
            },
        },
        Program {
            name: "`atomically`",
            share: || {
                own_sum(|[one, other]| {
                    atomically(|tx| Ok(tx.read(one)?.wrapping_add(*tx.read(other)?)))
                })
            },
        },
    ],
};

fn own_sum(sum: fn(&[VersionedCell<i64>; 2]) -> i64) -> Share {
    let pairs = (0..64).map(|_| CachePadded::new([1, 2].map(VersionedCell::new)));
    let pairs: &Vec<_> = shared(pairs.collect());
    Box::new(move |core| {
        let pair: &CachePadded<_> = &pairs[core as usize];
        Box::new(move || {
            black_box(sum(pair));
        })
    })
}

fn own_pair<B: Bank + Send + 'static>(bank: B) -> Share {
    let bank = shared(bank);
    Box::new(move |core| {
        let first = core as usize * (ACCOUNTS / 64);
        Box::new(move || bank.transfer(black_box(first), first + 1))
    })
}

fn transfers<B: Bank + Send + 'static>(bank: B) -> Share {
    let bank = shared(bank);
    Box::new(move |core| {
        let pairs = pairs(ACCOUNTS, core + 1);
        let mut next = pairs.into_iter().cycle();
        Box::new(move || {
            let (from, to) = next.next().expect("it goes round");
            bank.transfer(from, to);
        })
    })
}

fn totals<B: Bank + Send + 'static>(bank: B) -> Share {
    let bank = shared(bank);
    Box::new(move |_| {
        Box::new(move || {
            black_box(bank.total());
        })
    })
}
