//! Values that are replaced as a whole.

use std::hint::black_box;
use std::sync::Arc;

use arc_swap::ArcSwap;
use crossbeam_utils::CachePadded;
use crossbeam_utils::atomic::AtomicCell;
use latchwork::VersionedCell;
use latchwork_bench::cells::{ByHand, Cached, Pinned, Read, Update};
use latchwork_bench::subjects::{epoch_pin_times, pin_times, seize_enter_times};
use seize::Collector;

use super::{Program, Question, Share, shared};

pub(crate) static READS: Question = Question {
    title: "Cells: all cores read one",
    text: "Each core reads one value that no core writes. A reader that writes a shared line \
           pays for it with each core that is added. A pin of `VersionedCell` writes a line of \
           its own thread and no other. One pin of crossbeam-epoch in 128 visits those of all \
           threads.",
    programs: &[
        Program {
            name: "`VersionedCell::read`",
            share: || reads(VersionedCell::new(7_u64), |cell| cell),
        },
        Program {
            name: "`VersionedCell::read_in`",
            share: || reads(VersionedCell::new(7_u64), Pinned::of),
        },
        Program {
            name: "`VersionedCell::read_owned`",
            share: || reads(VersionedCell::new(7_u64), latchwork_bench::cells::Shared),
        },
        Program {
            name: "`ArcSwap::load`",
            share: || reads(ArcSwap::new(Arc::new(7_u64)), |cell| cell),
        },
        Program {
            name: "`arc_swap::Cache`",
            share: || reads(ArcSwap::new(Arc::new(7_u64)), Cached::of),
        },
        Program {
            name: "epoch and `Box` by hand",
            share: || reads(ByHand::new(7_u64), |cell| cell),
        },
        Program {
            name: "`AtomicCell<u64>`",
            share: || reads(AtomicCell::new(7_u64), |cell| cell),
        },
        Program {
            name: "`parking_lot::RwLock`",
            share: || reads(parking_lot::RwLock::new(7_u64), |cell| cell),
        },
        Program {
            name: "`std::sync::RwLock`",
            share: || reads(std::sync::RwLock::new(7_u64), |cell| cell),
        },
    ],
};

pub(crate) static OWN_READS: Question = Question {
    title: "Cells: each core reads its own",
    text: "Each core reads a value of its own, on a line of its own. The pins alone are below the reads.",
    programs: &[
        Program {
            name: "`VersionedCell::read`",
            share: || own_reads(|| VersionedCell::new(7_u64), |cell| cell),
        },
        Program {
            name: "`ArcSwap::load`",
            share: || own_reads(|| ArcSwap::new(Arc::new(7_u64)), |cell| cell),
        },
        Program {
            name: "epoch and `Box` by hand",
            share: || own_reads(|| ByHand::new(7_u64), |cell| cell),
        },
        Program {
            name: "`pin`",
            share: || Box::new(|_| Box::new(|| pin_times(1))),
        },
        Program {
            name: "`crossbeam_epoch::pin`",
            share: || Box::new(|_| Box::new(|| epoch_pin_times(1))),
        },
        Program {
            name: "seize, `Collector::enter`",
            share: || {
                let collector = shared(Collector::new());
                Box::new(move |_| Box::new(move || seize_enter_times(collector, 1)))
            },
        },
    ],
};

pub(crate) static OWN: Question = Question {
    title: "Cells: each core updates its own",
    text: "Each core adds one to a cell of its own, on a line of its own. The lines that move \
           are those of reclamation.",
    programs: &[
        Program {
            name: "`VersionedCell::update`",
            share: || own(|| VersionedCell::new(0_u64)),
        },
        Program {
            name: "`ArcSwap::rcu`",
            share: || own(|| ArcSwap::new(Arc::new(0_u64))),
        },
        Program {
            name: "epoch and `Box` by hand",
            share: || own(|| ByHand::new(0_u64)),
        },
        Program {
            name: "`AtomicCell<u64>`",
            share: || own(|| AtomicCell::new(0_u64)),
        },
        Program {
            name: "`parking_lot::RwLock`",
            share: || own(|| parking_lot::RwLock::new(0_u64)),
        },
        Program {
            name: "`std::sync::RwLock`",
            share: || own(|| std::sync::RwLock::new(0_u64)),
        },
    ],
};

pub(crate) static ONE: Question = Question {
    title: "Cells: all cores update one",
    text: "Each core adds one to the same cell. The value must move with each core that changes \
           it, and a lost race moves it without an effect.",
    programs: &[
        Program {
            name: "`VersionedCell::update`",
            share: || one(VersionedCell::new(0_u64)),
        },
        Program {
            name: "`ArcSwap::rcu`",
            share: || one(ArcSwap::new(Arc::new(0_u64))),
        },
        Program {
            name: "epoch and `Box` by hand",
            share: || one(ByHand::new(0_u64)),
        },
        Program {
            name: "`AtomicCell<u64>`",
            share: || one(AtomicCell::new(0_u64)),
        },
        Program {
            name: "`parking_lot::RwLock`",
            share: || one(parking_lot::RwLock::new(0_u64)),
        },
        Program {
            name: "`std::sync::RwLock`",
            share: || one(std::sync::RwLock::new(0_u64)),
        },
    ],
};

fn reads<C, R>(cell: C, reader: fn(&'static C) -> R) -> Share
where
    C: Send + Sync + 'static,
    R: Read<u64> + 'static,
{
    let cell = shared(CachePadded::new(cell));
    Box::new(move |_| {
        let mut reader = reader(cell);
        Box::new(move || {
            black_box(reader.read());
        })
    })
}

fn own_reads<C, R>(new: fn() -> C, reader: fn(&'static C) -> R) -> Share
where
    C: Send + Sync + 'static,
    R: Read<u64> + 'static,
{
    let cells: Vec<_> = (0..64).map(|_| CachePadded::new(new())).collect();
    let cells = shared(cells);
    Box::new(move |core| {
        let mut reader = reader(&cells[core as usize]);
        Box::new(move || {
            black_box(reader.read());
        })
    })
}

fn own<C: Update + Send + 'static>(new: fn() -> C) -> Share {
    let cells: Vec<_> = (0..64).map(|_| CachePadded::new(new())).collect();
    let cells = shared(cells);
    Box::new(move |core| {
        let cell = &cells[core as usize];
        Box::new(move || cell.update())
    })
}

fn one<C: Update + Send + 'static>(cell: C) -> Share {
    let cell = shared(CachePadded::new(cell));
    Box::new(move |_| Box::new(move || cell.update()))
}
