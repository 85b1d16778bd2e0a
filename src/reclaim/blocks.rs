//! Memory for small nodes, by the block: each node has a cache line for itself.
//!
//! A thread that takes a block has all its slots. Whoever is done with a slot for good gives it back, on any thread, and
//! the last one frees the block [R7].
//!
//! An allocator lays objects of 40 bytes wherever it pleases: in one run each lies across two lines, in the next none
//! does, and whoever reads what another core has written waits for two lines or for one.
#![allow(unsafe_code)]

use core::alloc::Layout;
use core::ptr::{NonNull, with_exposed_provenance};
use std::alloc::dealloc;

use super::nodes::allocate;
use crate::sync::{AtomicU32, Canary, Ordering, tuning};

/// Bytes of a slot: a cache line.
pub(super) const SLOT: usize = 64;

/// A block begins at a multiple of this, so that the address of a slot says where its block is.
const STRIDE: usize = tuning::BLOCK_BYTES;

/// An allocator that keeps a few words beside each object can put one block right behind another.
const LAYOUT: Layout = match Layout::from_size_align(STRIDE - SLOT, STRIDE) {
    Ok(layout) => layout,
    Err(_) => panic!("a block is a few pages at most"),
};

/// What a block begins with.
struct Head {
    /// Slots that were not given back.
    left: AtomicU32,
    canary: Canary,
}

/// Where the slots begin.
const FIRST: usize = size_of::<Head>().next_multiple_of(SLOT);

/// The slots of a new block.
pub(crate) fn take() -> impl DoubleEndedIterator<Item = NonNull<u8>> {
    let block = allocate(LAYOUT);
    let slots = (LAYOUT.size() - FIRST) / SLOT;
    let head = Head {
        left: AtomicU32::new(slots as u32),
        canary: Canary::new(),
    };
    // SAFETY: fresh memory, longer and more aligned than a head.
    unsafe { block.cast().write(head) };
    block.as_ptr().expose_provenance();
    // SAFETY: inside the block.
    (0..slots).map(move |i| unsafe { block.add(FIRST + i * SLOT) })
}

/// Gives a slot back. `true`: it was the last, and the block is freed.
///
/// # Safety
/// `slot` came from [`take`], nobody uses it any more, and it is given back this once.
pub(crate) unsafe fn give_back(slot: NonNull<u8>) -> bool {
    let block = slot.addr().get() & !(STRIDE - 1);
    let head = with_exposed_provenance::<Head>(block);
    // SAFETY: there, until its last slot has been given back, which is this one or comes later [R7]. Only that is borrowed
    // which another may write: he may free the block while this one is still in `fetch_sub`.
    let left = unsafe { &(*head).left };
    // SAFETY: as above.
    unsafe { &(*head).canary }.check();
    // Release: what was done with the slot comes before the end of its block. Pairs with the Acquire below [R7].
    if left.fetch_sub(1, Ordering::Release) != 1 {
        return false;
    }
    // Acquire: as above. A load and not a fence, so that it can be weakened alone.
    left.load(Ordering::Acquire);
    // SAFETY: nobody has a slot of it, so that nobody comes here again.
    let _ended: Head = unsafe { head.read() };
    // SAFETY: allocated by `take` with this layout.
    unsafe { dealloc(head.cast_mut().cast(), LAYOUT) };
    true
}

#[cfg(all(test, not(any(latchwork_loom, latchwork_shuttle))))]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn slots_are_lines_and_the_last_one_frees_the_block() {
        let slots: Vec<_> = take().collect();
        let lines: HashSet<_> = slots.iter().map(|slot| slot.addr().get() / SLOT).collect();
        assert_eq!(lines.len(), slots.len());
        for slot in &slots {
            assert_eq!(slot.addr().get() % SLOT, 0);
            // SAFETY: a slot of one's own. Whatever lies beside it stays as it is.
            unsafe { slot.write_bytes(0xa5, SLOT) };
        }
        let (last, others) = slots.split_last().expect("a block has slots");
        for slot in others {
            // SAFETY: from `take`, each once.
            assert!(!unsafe { give_back(*slot) });
        }
        // SAFETY: as above.
        assert!(unsafe { give_back(*last) });
    }
}
