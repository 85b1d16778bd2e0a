//! What reading and writing a cell costs.

use std::hint::black_box;

use super::heap::allocations;
use super::{count, done};
use latchwork::VersionedCell;

/// Asserts the cost of one call of `f`. Read-modify-writes: `pins` for the pin, and `rmws` more.
fn costs(what: &str, pins: u64, rmws: u64, instructions: u64, f: impl Fn()) {
    let steps = (0..8)
        .map(|i| {
            // The memory that it will use again. A thread that seldom writes collects at each
            // write, and under the counter it would, so it writes many times in between; not
            // always as many, since each 64th collects.
            (0..600 + 7 * i).for_each(|_| f());
            count(what, &f)
        })
        .min_by_key(|steps| steps.instructions)
        .expect("eight of them");
    assert_eq!(steps.rmws, pins + rmws, "{what}: atomic read-modify-writes");
    assert_eq!(steps.fences, 0, "{what}: fences");
    if !cfg!(debug_assertions) {
        assert!(steps.instructions <= instructions, "{what}: {steps}");
    }
}

#[test]
fn reads_of_a_cell() {
    let _alone = super::alone();
    let cell = VersionedCell::new(7_u64);
    let cell = || black_box(&cell);
    // The pin of crossbeam-epoch is one compare-and-swap, on a line of this thread's own.
    costs("read", 1, 0, 120, || done(*cell().read()));
    costs("version", 1, 0, 120, || done(cell().version()));
    let pin = latchwork::pin();
    costs("read_in", 0, 0, 40, || done(*cell().read_in(&pin)));
    drop(pin);
    costs("read_owned", 1, 2, 250, || done(*cell().read_owned()));
    assert_eq!(
        allocations(|| (0..1000).for_each(|_| done(*cell().read()))),
        0
    );
    assert_eq!(
        allocations(|| (0..1000).for_each(|_| done(*cell().read_owned()))),
        0
    );
}

#[test]
fn writes_of_a_cell() {
    let _alone = super::alone();
    let cell = VersionedCell::new(7_u64);
    let cell = || black_box(&cell);
    // One puts the node in, one stamps it.
    costs("set", 1, 2, 400, || done(cell().set(1)));
    costs("update", 1, 2, 400, || done(cell().update(|n| n + 1)));
    costs("version and compare_and_set", 2, 2, 500, || {
        done(cell().compare_and_set(cell().version(), 1))
    });
    // One ticket for each 64 writes or more, and the bag that carries it.
    let allocated = allocations(|| (0..6400).for_each(|_| done(cell().set(1))));
    assert!(allocated <= 300, "{allocated} allocations in 6,400 writes");
}
