//! Memory for small nodes, by the block: each node has a cache line for itself.
//!
//! A thread that needs slots acquires all free slots of one block, if necessary of a new one. It
//! returns surplus slots, and returns all of them when it ends. A block whose slots are all free
//! returns to the allocator [R7].
//!
//! An allocator may place objects of 40 bytes anywhere. In one run each object spans two cache
//! lines; in the next none does. A reader of another core's write then waits for two lines or for
//! one.
#![allow(unsafe_code)]

use core::alloc::Layout;
use core::cell::Cell;
use core::ptr::{NonNull, with_exposed_provenance_mut};
use std::alloc::dealloc;

use parking_lot::Mutex;

use super::free_list::FreeList;
use super::node_pool::allocate;

/// Bytes of a slot: a cache line.
pub(super) const SLOT: usize = 64;

/// A block begins at a multiple of this, so the address of a slot determines the address of its
/// block.
const STRIDE: usize = 4096;

/// An allocator that keeps a few words beside each object can place two blocks side by side.
const LAYOUT: Layout = match Layout::from_size_align(STRIDE - SLOT, STRIDE) {
    Ok(layout) => layout,
    Err(_) => panic!("a block is a page"),
};

/// How many slots a block has, behind its head.
const SLOTS: usize = LAYOUT.size() / SLOT - 1;

/// The header of a block. Used under the mutex.
struct Head {
    /// The slots that no thread has.
    free: FreeList,
    links: Links,
}

/// The neighbours in the list of the blocks that have free slots.
#[derive(Default)]
struct Links {
    next: Cell<Option<NonNull<Head>>>,
    prev: Cell<Option<NonNull<Head>>>,
}

const _: () = assert!(size_of::<Head>() <= SLOT);

/// The blocks that have free slots.
pub(super) struct Slab(Mutex<List>);

/// The first of them.
struct List(Option<NonNull<Head>>);

// SAFETY: the owner of the list owns the heads and the free slots that can be reached through it.
unsafe impl Send for List {}

impl Slab {
    pub(super) const fn new() -> Self {
        Slab(Mutex::new(List(None)))
    }

    /// Slots that are the caller's, at least one.
    pub(super) fn take(&self) -> FreeList {
        let found = self.0.lock().take_free();
        found.unwrap_or_else(new_block)
    }

    /// Returns `n` of these slots to their blocks, or as many as there are.
    ///
    /// # Safety
    /// The slots are from [`take`](Self::take) of these blocks.
    pub(super) unsafe fn give_back(&self, slots: &FreeList, n: usize) {
        let mut whole = None;
        let mut list = self.0.lock();
        for slot in (0..n).map_while(|_| slots.pop()) {
            let block = block_of(slot);
            // SAFETY: alive, since one of its slots was not free; used under the mutex.
            let head = unsafe { block.as_ref() };
            if head.free.len() == 0 {
                list.link(block);
            }
            // SAFETY: the caller's contract.
            unsafe { head.free.push(slot) };
            if head.free.len() == SLOTS {
                list.unlink(&head.links);
                head.links.next.set(whole.replace(block));
            }
        }
        drop(list);
        while let Some(block) = whole {
            // SAFETY: out of the list, and no thread has a slot of it: ours.
            whole = unsafe { block.as_ref() }.links.next.get();
            // SAFETY: as above; allocated by `new_block` with this layout.
            unsafe { dealloc(block.as_ptr().cast(), LAYOUT) };
        }
    }
}

impl List {
    fn take_free(&mut self) -> Option<FreeList> {
        // SAFETY: a block in the list is alive; used under the mutex.
        let head = unsafe { self.0?.as_ref() };
        self.unlink(&head.links);
        Some(head.free.take())
    }

    /// Inserts a block at the beginning.
    fn link(&mut self, block: NonNull<Head>) {
        let next = self.0.replace(block);
        // SAFETY: the caller's, under the mutex.
        let links = unsafe { &block.as_ref().links };
        links.prev.set(None);
        links.next.set(next);
        if let Some(next) = next {
            // SAFETY: a block in the list is alive.
            unsafe { next.as_ref() }.links.prev.set(Some(block));
        }
    }

    /// Removes a block.
    fn unlink(&mut self, links: &Links) {
        let (next, prev) = (links.next.get(), links.prev.get());
        match prev {
            // SAFETY: a block in the list is alive.
            Some(prev) => unsafe { prev.as_ref() }.links.next.set(next),
            None => self.0 = next,
        }
        if let Some(next) = next {
            // SAFETY: as above.
            unsafe { next.as_ref() }.links.prev.set(prev);
        }
    }
}

/// The slots of a new block.
fn new_block() -> FreeList {
    let block = allocate(LAYOUT);
    block.as_ptr().expose_provenance();
    let head = Head {
        free: FreeList::default(),
        links: Links::default(),
    };
    // SAFETY: fresh memory, longer and more aligned than a head.
    unsafe { block.cast().write(head) };
    let slots = FreeList::default();
    // The lowest on top.
    for i in (1..=SLOTS).rev() {
        // SAFETY: inside the block.
        let slot = unsafe { block.add(i * SLOT) };
        // SAFETY: a new slot.
        unsafe { slots.push(slot) };
    }
    slots
}

fn block_of(slot: NonNull<u8>) -> NonNull<Head> {
    let block = with_exposed_provenance_mut(slot.addr().get() & !(STRIDE - 1));
    NonNull::new(block).expect("a block is not at null")
}

#[cfg(all(test, not(any(latchwork_loom, latchwork_shuttle))))]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Returns all slots in `taken` but one of each block. The result is the blocks, and the kept
    /// slots.
    fn give_back_but_one(blocks: &Slab, taken: Vec<FreeList>) -> Vec<NonNull<u8>> {
        let mut kept = Vec::new();
        for slots in taken {
            kept.extend(slots.pop());
            // SAFETY: acquired from these blocks.
            unsafe { blocks.give_back(&slots, usize::MAX) };
        }
        kept
    }

    fn pages(slots: &[NonNull<u8>]) -> BTreeSet<usize> {
        slots
            .iter()
            .map(|slot| slot.addr().get() / STRIDE)
            .collect()
    }

    #[test]
    fn slots_are_lines_of_their_own() {
        let blocks = Slab::new();
        let slots = blocks.take();
        let mut lines = BTreeSet::new();
        assert_eq!(slots.len(), SLOTS);
        let all = FreeList::default();
        while let Some(slot) = slots.pop() {
            assert_eq!(slot.addr().get() % SLOT, 0);
            assert!(lines.insert(slot.addr()));
            // SAFETY: a slot of one's own. Whatever lies beside it stays as it is.
            unsafe { slot.write_bytes(0xa5, SLOT) };
            // SAFETY: as above.
            unsafe { all.push(slot) };
        }
        // SAFETY: acquired from these blocks.
        unsafe { blocks.give_back(&all, usize::MAX) };
        assert!(blocks.0.lock().0.is_none(), "the block is not freed");
    }

    #[test]
    fn what_is_free_beside_what_stays_is_used_again() {
        const MANY: usize = 20;
        let blocks = Slab::new();
        let kept = give_back_but_one(&blocks, (0..MANY).map(|_| blocks.take()).collect());
        let first = pages(&kept);
        assert_eq!(first.len(), MANY);
        // Each has a block to itself, whose other slots come first now, and no others.
        let again = give_back_but_one(&blocks, (0..MANY).map(|_| blocks.take()).collect());
        assert_eq!(pages(&again), first);
        // Each block is freed with the last of its slots, in any order.
        let rest = FreeList::default();
        for slot in kept.into_iter().chain(again) {
            assert!(blocks.0.lock().0.is_some());
            // SAFETY: a slot of one's own.
            unsafe { rest.push(slot) };
            // SAFETY: acquired from these blocks.
            unsafe { blocks.give_back(&rest, 1) };
        }
        assert!(blocks.0.lock().0.is_none(), "a block is not freed");
    }
}
