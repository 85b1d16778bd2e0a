//! One thread reads and replaces a value that no other thread uses: the cell, and its alternatives.

mod alone;
mod settings;

use arc_swap::ArcSwap;
use criterion::Criterion;
use crossbeam_utils::atomic::AtomicCell;
use latchwork::VersionedCell;
use latchwork_bench::cells::{
    ByHand, Cached, LeftRight, LoadFull, Pair, Pinned, Seqlock, Shared, Value, conditional_writes,
    reads, updates, writes,
};
use latchwork_bench::subjects::{epoch_pin_times, pin_times, seize_enter_times};

fn word(criterion: &mut Criterion) {
    let cell = &VersionedCell::new(u64::FIRST);
    let swap = &ArcSwap::from_pointee(u64::FIRST);
    let by_hand = &ByHand::new(u64::FIRST);
    let lock = &std::sync::RwLock::new(u64::FIRST);
    let other_lock = &parking_lot::RwLock::new(u64::FIRST);
    let left_right = &LeftRight::new(u64::FIRST);
    let atomic = &AtomicCell::new(u64::FIRST);
    let read: &[(&str, &dyn Fn(u64))] = &[
        ("read", &|times| reads(cell, times)),
        ("read_in", &|times| reads(Pinned::of(cell), times)),
        ("read_owned", &|times| reads(Shared(cell), times)),
        ("arc_swap, load", &|times| reads(swap, times)),
        ("arc_swap, load_full", &|times| reads(LoadFull(swap), times)),
        ("arc_swap, Cache", &|times| reads(Cached::of(swap), times)),
        ("epoch by hand", &|times| reads(by_hand, times)),
        ("std RwLock", &|times| reads(lock, times)),
        ("parking_lot RwLock", &|times| reads(other_lock, times)),
        ("left-right", &|times| reads(left_right.reader(), times)),
        ("AtomicCell", &|times| reads(atomic, times)),
    ];
    alone::ask(criterion, "cells: read a u64", read);
    let update: &[(&str, &dyn Fn(u64))] = &[
        ("update", &|times| updates(cell, times)),
        ("arc_swap, rcu", &|times| updates(swap, times)),
        ("epoch by hand", &|times| updates(by_hand, times)),
        ("std RwLock", &|times| updates(lock, times)),
        ("parking_lot RwLock", &|times| updates(other_lock, times)),
        ("left-right", &|times| updates(left_right, times)),
        ("AtomicCell", &|times| updates(atomic, times)),
    ];
    alone::ask(criterion, "cells: update a u64", update);
    let conditional: &[(&str, &dyn Fn(u64))] = &[
        ("compare_and_set", &|times| conditional_writes(cell, times)),
        ("epoch by hand", &|times| conditional_writes(by_hand, times)),
    ];
    alone::ask(criterion, "cells: write a u64 if unchanged", conditional);
}

fn pair(criterion: &mut Criterion) {
    let cell = &VersionedCell::new(Pair::FIRST);
    let seqlock = &Seqlock::new(Pair::FIRST);
    let atomic = &AtomicCell::new(Pair::FIRST);
    let read: &[(&str, &dyn Fn(u64))] = &[
        ("read_in", &|times| reads(Pinned::of(cell), times)),
        ("words under a version", &|times| reads(seqlock, times)),
        ("AtomicCell", &|times| reads(atomic, times)),
    ];
    alone::ask(criterion, "cells: read two words", read);
    let write: &[(&str, &dyn Fn(u64))] = &[
        ("set", &|times| writes(cell, times)),
        ("words under a version", &|times| writes(seqlock, times)),
        ("AtomicCell", &|times| writes(atomic, times)),
    ];
    alone::ask(criterion, "cells: write two words", write);
}

fn pins(criterion: &mut Criterion) {
    let collector = &seize::Collector::new();
    let pin: &[(&str, &dyn Fn(u64))] = &[
        ("pin", &pin_times),
        ("crossbeam-epoch, pin", &epoch_pin_times),
        ("seize, enter", &|times| seize_enter_times(collector, times)),
    ];
    alone::ask(criterion, "cells: pin", pin);
}

fn main() {
    let mut criterion = settings::criterion();
    word(&mut criterion);
    pair(&mut criterion);
    pins(&mut criterion);
    criterion.final_summary();
}
