//! Counts what a path costs, and prints it for `ci/gates`. The crate has the modules `heap` and
//! `steps`.

use crate::{heap, steps};

/// Calls whose allocations are counted.
const CALLS: usize = 1000;

/// Prints what `f` costs. The format is that of `ci/gates`.
pub(crate) fn gate(path: &str, f: impl Fn()) {
    // The memory that it will use again.
    (0..2 * CALLS).for_each(|_| f());
    let counted = (0..8).map(|_| steps::steps(&f));
    let fewest = counted.min_by_key(|steps| steps.instructions);
    let fewest = fewest.expect("eight of them");
    // The least of three: memory that grows once to the size that it keeps is no cost of a call.
    let allocations = (0..3)
        .map(|_| heap::allocations(|| (0..CALLS).for_each(|_| f())))
        .min()
        .expect("three of them");
    println!(
        "\ngate: {path} | {} | {} | {} | {allocations}",
        fewest.instructions, fewest.rmws, fewest.fences
    );
}
