//! Memory for small nodes, by the block: each node has a cache line for itself. Free memory is in
//! lists that lie in the free pieces themselves.
//!
//! A thread that needs slots acquires all free slots of one block, if necessary of a new one. It
//! returns surplus slots, and returns all of them when it ends. Blocks are allocated by the group.
//! A group whose slots are all free returns to the allocator [R7].
//!
//! The free slots of a block are bits of its head. So a slot that returns is not accessed, and the
//! slots of a block leave in the order of their addresses, however they have returned. A list
//! through the slots had the order in which they were freed, which is that of the keys of a map and
//! not that of the memory. Each use of the list then waited for a miss of the cache.
//!
//! An allocator may place objects of 40 bytes anywhere. In one run each object spans two cache
//! lines; in the next none does. A reader of another core's write then waits for two lines or for
//! one.
#![allow(unsafe_code)]

use core::alloc::Layout;
use core::cell::Cell;
use core::ptr::{NonNull, with_exposed_provenance_mut};
use std::alloc::{alloc, dealloc, handle_alloc_error};

use parking_lot::Mutex;

/// The layout of a free piece.
struct Free {
    next: Option<NonNull<Free>>,
}

/// A list of free pieces of one size, which it owns.
#[derive(Default)]
pub(super) struct FreeList {
    first: Cell<Option<NonNull<Free>>>,
    len: Cell<usize>,
}

impl FreeList {
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len.get()
    }

    #[inline]
    pub(super) fn pop(&self) -> Option<NonNull<u8>> {
        let first = self.first.get()?;
        // SAFETY: a piece in the list was written by `push`, and the list owns it.
        self.first.set(unsafe { first.as_ref() }.next);
        self.len.set(self.len.get() - 1);
        Some(first.cast())
    }

    /// # Safety
    /// `memory` is the caller's, and as long and as aligned as two words.
    #[inline]
    pub(super) unsafe fn push(&self, memory: NonNull<u8>) {
        let free = memory.cast::<Free>();
        let next = self.first.get();
        // SAFETY: the caller's contract.
        unsafe { free.write(Free { next }) };
        self.first.set(Some(free));
        self.len.set(self.len.get() + 1);
    }

    /// Adds some pieces, at most `most`, and returns how many there were.
    ///
    /// # Safety
    /// As for [`push`](Self::push). The iterator uses neither the list nor a piece that it has
    /// returned.
    #[inline(always)]
    pub(super) unsafe fn push_all(
        &self,
        most: usize,
        memory: &mut impl Iterator<Item = NonNull<u8>>,
    ) -> usize {
        let (mut first, mut pushed) = (self.first.get(), 0);
        while pushed < most {
            let Some(memory) = memory.next() else { break };
            let free = memory.cast::<Free>();
            // SAFETY: the caller's contract.
            unsafe { free.write(Free { next: first }) };
            first = Some(free);
            pushed += 1;
        }
        self.first.set(first);
        self.len.set(self.len.get() + pushed);
        pushed
    }

    /// Replaces this list, which is empty, by another.
    pub(super) fn refill(&self, other: Self) {
        debug_assert_eq!(self.len(), 0);
        self.first.set(other.first.get());
        self.len.set(other.len.get());
    }
}

/// Returns memory of a layout, which has a size.
pub(super) fn allocate(layout: Layout) -> NonNull<u8> {
    assert!(layout.size() > 0, "an object has a byte at least");
    // SAFETY: the size is not zero.
    NonNull::new(unsafe { alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}

/// Bytes of a slot: a cache line.
pub(super) const SLOT: usize = 64;

/// A block begins at a multiple of this, so the address of a slot determines the address of its
/// block.
const STRIDE: usize = 4096;

/// The blocks that are allocated together. To place one aligned page, glibc needs two free pages in
/// a row: 8,000 blocks that were allocated one by one occupied up to 16,000 pages.
const GROUP: usize = 16;

/// An allocator that keeps a few words beside each object can place two groups side by side.
const LAYOUT: Layout = match Layout::from_size_align(GROUP * STRIDE - SLOT, STRIDE) {
    Ok(layout) => layout,
    Err(_) => panic!("a group is a number of pages"),
};

/// How many slots a block has, behind its head. The last block of a group is shorter by one.
const SLOTS: usize = STRIDE / SLOT - 2;

/// All slots of a block. Bit `n` is the slot at the `n`th line: the head is at line 0.
const ALL: u64 = ((1 << SLOTS) - 1) << 1;
const _: () = assert!(SLOTS < 63, "a word has a bit for each line");

/// The header of a block. Used under the mutex.
struct Head {
    /// The slots that no thread has: some of [`ALL`].
    free: Cell<u64>,
    links: Links,
    /// The first block of its group.
    group: NonNull<Head>,
    /// In the first block of a group: the blocks that have been used, which are the first ones.
    begun: Cell<usize>,
    /// In the first block of a group: the blocks of which a thread has a slot.
    used: Cell<usize>,
}

/// The neighbours in the list of the blocks that have free slots, or of those that have no others.
#[derive(Default)]
struct Links {
    next: Cell<Option<NonNull<Head>>>,
    prev: Cell<Option<NonNull<Head>>>,
}

const _: () = assert!(size_of::<Head>() <= SLOT);

/// The blocks that have free slots.
pub(super) struct Slab(Mutex<List>);

struct List {
    /// The first block of which some slots are free, but not all.
    some: Option<NonNull<Head>>,
    /// The first block of which all slots are free. Its group has others.
    all: Option<NonNull<Head>>,
    /// A group with blocks that were never used.
    fresh: Option<NonNull<Head>>,
}

// SAFETY: the owner of the list owns the heads and the free slots that can be reached through it.
unsafe impl Send for List {}

impl Slab {
    pub(super) const fn new() -> Self {
        Slab(Mutex::new(List {
            some: None,
            all: None,
            fresh: None,
        }))
    }

    /// Slots that are the caller's, at least one.
    pub(super) fn take(&self) -> FreeList {
        let taken = self.0.lock().take_free();
        match taken {
            // Without the mutex: it writes each slot.
            Taken::Slots(block, free) => list(block, free),
            // Without the mutex, since the first access to a page lasts long.
            Taken::Fresh(group, n) => begin_block(group, n),
        }
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
            let (before, bit) = (head.free.get(), bit_of(slot));
            debug_assert!(before & bit == 0, "a slot returns twice");
            if before == 0 {
                link(&mut list.some, block);
            }
            head.free.set(before | bit);
            if before | bit == ALL {
                unlink(&mut list.some, &head.links);
                if let Some(group) = list.leave(block) {
                    // SAFETY: no block of the group is in a list, and no thread has a slot of it.
                    unsafe { group.as_ref() }
                        .links
                        .next
                        .set(whole.replace(group));
                }
            }
        }
        drop(list);
        while let Some(group) = whole {
            // SAFETY: as above: ours.
            whole = unsafe { group.as_ref() }.links.next.get();
            // SAFETY: as above; allocated by `new_group` with this layout.
            unsafe { dealloc(group.as_ptr().cast(), LAYOUT) };
        }
    }
}

enum Taken {
    /// These slots of a block are the caller's.
    Slots(NonNull<Head>, u64),
    /// The caller begins the block with this number of a group. Until then no list has it, and its
    /// group stays, since it counts as used.
    Fresh(NonNull<Head>, usize),
}

impl List {
    fn take_free(&mut self) -> Taken {
        if let Some(block) = self.some {
            // SAFETY: a block in a list is alive; used under the mutex.
            let head = unsafe { block.as_ref() };
            unlink(&mut self.some, &head.links);
            return Taken::Slots(block, head.free.take());
        }
        if let Some(block) = self.all {
            // SAFETY: as above.
            let head = unsafe { block.as_ref() };
            unlink(&mut self.all, &head.links);
            // SAFETY: the group of a block that is alive.
            let used = unsafe { &head.group.as_ref().used };
            used.set(used.get() + 1);
            return Taken::Slots(block, head.free.take());
        }
        let group = *self.fresh.get_or_insert_with(new_group);
        // SAFETY: one of its blocks was never used, so it has not returned to the allocator.
        let first = unsafe { group.as_ref() };
        let n = first.begun.get();
        first.begun.set(n + 1);
        first.used.set(first.used.get() + 1);
        if n + 1 == GROUP {
            self.fresh = None;
        }
        Taken::Fresh(group, n)
    }

    /// Keeps a block of which no thread has a slot any more. If that holds for its whole group,
    /// removes the group, and returns it.
    fn leave(&mut self, block: NonNull<Head>) -> Option<NonNull<Head>> {
        link(&mut self.all, block);
        // SAFETY: a block in a list is alive; used under the mutex.
        let group = unsafe { block.as_ref() }.group;
        // SAFETY: the group of a block that is alive.
        let first = unsafe { group.as_ref() };
        first.used.set(first.used.get() - 1);
        if first.used.get() > 0 {
            return None;
        }
        for n in 0..first.begun.get() {
            // SAFETY: so many blocks were begun, and each is in this list.
            unlink(&mut self.all, unsafe { &nth(group, n).as_ref().links });
        }
        self.fresh.take_if(|fresh| *fresh == group);
        Some(group)
    }
}

/// Inserts a block at the beginning of a list.
fn link(list: &mut Option<NonNull<Head>>, block: NonNull<Head>) {
    let next = list.replace(block);
    // SAFETY: the caller's, under the mutex.
    let links = unsafe { &block.as_ref().links };
    links.prev.set(None);
    links.next.set(next);
    if let Some(next) = next {
        // SAFETY: a block in the list is alive.
        unsafe { next.as_ref() }.links.prev.set(Some(block));
    }
}

/// Removes a block from its list.
fn unlink(list: &mut Option<NonNull<Head>>, links: &Links) {
    let (next, prev) = (links.next.get(), links.prev.get());
    match prev {
        // SAFETY: a block in the list is alive.
        Some(prev) => unsafe { prev.as_ref() }.links.next.set(next),
        None => *list = next,
    }
    if let Some(next) = next {
        // SAFETY: as above.
        unsafe { next.as_ref() }.links.prev.set(prev);
    }
}

/// A group of which no block was used.
fn new_group() -> NonNull<Head> {
    let memory = allocate(LAYOUT);
    memory.as_ptr().expose_provenance();
    let group = memory.cast();
    write_head(group, group);
    group
}

fn write_head(block: NonNull<Head>, group: NonNull<Head>) {
    let head = Head {
        free: Cell::new(0),
        links: Links::default(),
        group,
        begun: Cell::new(0),
        used: Cell::new(0),
    };
    // SAFETY: fresh memory, longer and more aligned than a head.
    unsafe { block.write(head) };
}

/// Block number `n` of a group.
fn nth(group: NonNull<Head>, n: usize) -> NonNull<Head> {
    debug_assert!(n < GROUP, "a group has {GROUP} blocks");
    // SAFETY: inside the group.
    unsafe { group.byte_add(n * STRIDE) }
}

/// The slots of block number `n`, which was never used.
fn begin_block(group: NonNull<Head>, n: usize) -> FreeList {
    let block = nth(group, n);
    if n > 0 {
        write_head(block, group);
    }
    list(block, ALL)
}

/// A list of these slots of a block, which are the caller's. The lowest is on top.
fn list(block: NonNull<Head>, free: u64) -> FreeList {
    let slots = FreeList::default();
    let mut rest = free;
    while rest != 0 {
        let line = rest.ilog2();
        rest ^= 1 << line;
        // SAFETY: inside the block.
        let slot = unsafe { block.cast::<u8>().add(line as usize * SLOT) };
        // SAFETY: the caller's, and a cache line long.
        unsafe { slots.push(slot) };
    }
    slots
}

/// The bit of a slot in the head of its block.
fn bit_of(slot: NonNull<u8>) -> u64 {
    1 << (slot.addr().get() % STRIDE / SLOT)
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

    fn groups(slots: &[NonNull<u8>]) -> BTreeSet<usize> {
        let group = |slot: &NonNull<u8>| {
            // SAFETY: a block is alive while a thread has one of its slots.
            unsafe { block_of(*slot).as_ref() }.group.addr().get()
        };
        slots.iter().map(group).collect()
    }

    /// Whether all memory has returned to the allocator.
    fn is_empty(blocks: &Slab) -> bool {
        let list = blocks.0.lock();
        list.some.is_none() && list.all.is_none() && list.fresh.is_none()
    }

    /// Blocks were allocated one by one, and glibc left a page between two of them. A page that
    /// returned was used again only together with its neighbour.
    #[test]
    fn a_block_that_is_free_is_used_before_new_memory() {
        let blocks = Slab::new();
        let taken: Vec<_> = (0..2 * GROUP).map(|_| blocks.take()).collect();
        let one_of = |slots: &FreeList| {
            let slot = slots.pop().expect("a block has slots");
            // SAFETY: it was in this list.
            unsafe { slots.push(slot) };
            slot
        };
        let all: Vec<_> = taken.iter().map(one_of).collect();
        assert_eq!((pages(&all).len(), groups(&all).len()), (2 * GROUP, 2));
        // Every second block is free as a whole, and is the next to be used.
        let (free, used): (Vec<_>, Vec<_>) =
            taken.into_iter().enumerate().partition(|(n, _)| n % 2 == 0);
        for (_, slots) in free {
            // SAFETY: acquired from these blocks.
            unsafe { blocks.give_back(&slots, usize::MAX) };
        }
        let again: Vec<_> = (0..GROUP).map(|_| blocks.take()).collect();
        let both = again.iter().chain(used.iter().map(|(_, slots)| slots));
        let both: Vec<_> = both.map(one_of).collect();
        assert_eq!(pages(&both), pages(&all));
        // One more needs a third group, which returns alone.
        let more = blocks.take();
        let third = [one_of(&more)];
        assert!(groups(&third).is_disjoint(&groups(&all)));
        for slots in [more].into_iter().chain(again) {
            // SAFETY: acquired from these blocks.
            unsafe { blocks.give_back(&slots, usize::MAX) };
        }
        assert!(
            blocks.0.lock().fresh.is_none(),
            "the third group is not freed"
        );
        for (_, slots) in used {
            // SAFETY: acquired from these blocks.
            unsafe { blocks.give_back(&slots, usize::MAX) };
        }
        assert!(is_empty(&blocks), "a group is not freed");
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
        assert!(is_empty(&blocks), "the group is not freed");
    }

    /// The slots returned in an order that was not that of their addresses, and left in the same
    /// order.
    #[test]
    fn slots_leave_a_block_in_the_order_of_their_addresses() {
        let blocks = Slab::new();
        let taken = blocks.take();
        let mut slots: Vec<_> = core::iter::from_fn(|| taken.pop()).collect();
        assert!(slots.is_sorted());
        let kept = slots.swap_remove(SLOTS / 2);
        let rest = FreeList::default();
        // 7 and the number of the slots have no common factor.
        for n in 0..slots.len() {
            // SAFETY: a slot of one's own.
            unsafe { rest.push(slots[n * 7 % slots.len()]) };
        }
        // SAFETY: acquired from these blocks.
        unsafe { blocks.give_back(&rest, usize::MAX) };
        let taken = blocks.take();
        let again: Vec<_> = core::iter::from_fn(|| taken.pop()).collect();
        slots.sort_unstable();
        assert_eq!(again, slots);
        for slot in again.into_iter().chain([kept]) {
            // SAFETY: a slot of one's own.
            unsafe { rest.push(slot) };
        }
        // SAFETY: acquired from these blocks.
        unsafe { blocks.give_back(&rest, usize::MAX) };
        assert!(is_empty(&blocks), "the group is not freed");
    }

    #[test]
    fn what_is_free_beside_what_stays_is_used_again() {
        const MANY: usize = 20;
        let blocks = Slab::new();
        let kept = give_back_but_one(&blocks, (0..MANY).map(|_| blocks.take()).collect());
        let first = pages(&kept);
        assert_eq!(first.len(), MANY);
        assert_eq!(groups(&kept).len(), MANY.div_ceil(GROUP));
        // Each has a block to itself, whose other slots come first now, and no others.
        let again = give_back_but_one(&blocks, (0..MANY).map(|_| blocks.take()).collect());
        assert_eq!(pages(&again), first);
        // Each group is freed with the last of its slots, in any order.
        let rest = FreeList::default();
        for slot in kept.into_iter().chain(again) {
            assert!(!is_empty(&blocks));
            // SAFETY: a slot of one's own.
            unsafe { rest.push(slot) };
            // SAFETY: acquired from these blocks.
            unsafe { blocks.give_back(&rest, 1) };
        }
        assert!(is_empty(&blocks), "a group is not freed");
    }
}
