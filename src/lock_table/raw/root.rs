//! The memory of a root: an array of slots behind a header of one cache line.
//!
//! A root keeps its address, and so the type of its slots, until the table is dropped. A thread may
//! therefore change a slot of a root that is not in use any more, without a pin [G1]. The pages of
//! such a root return to the system [G6].
#![allow(unsafe_code)]

use core::alloc::Layout;
use core::marker::PhantomData;
use core::ptr::NonNull;
use std::alloc::{alloc, dealloc};

use super::slot::Slot;
use crate::sync::tuning::{FAN_BITS, MAX_GROWN_BITS, MAX_ROOT_BITS, MIN_ROOT_BITS};
use crate::sync::{Canary, Pages};
use crate::word::{STATE_BITS, SlotWord};

// The index and the word of a slot are the whole hash [S4].
const _: () = assert!(MIN_ROOT_BITS >= STATE_BITS || MAX_ROOT_BITS == 0);

/// The first hash bit of the index of a root. The keys of a checked table, which has fewer root
/// slots than a word has state bits, differ above those.
const ROOT_SHIFT: u32 = STATE_BITS - MIN_ROOT_BITS;

/// The most roots of a table.
pub(super) const LEVELS: usize = 1 + ((MAX_GROWN_BITS - MIN_ROOT_BITS) / FAN_BITS) as usize;

/// The number of hash bits that index a child of a root with so many index bits. The next larger
/// root has as many index bits more, so the index bits of each deeper child begin at the same bits
/// of the hash in all roots of a table [G3]. The small roots grow to one of 2^14 slots first, from
/// which a million locks reach 2^22 slots.
const fn fan_bits(bits: u32) -> u32 {
    if bits < MIN_ROOT_BITS + FAN_BITS {
        MIN_ROOT_BITS + FAN_BITS - bits
    } else {
        FAN_BITS
    }
}

/// What is known of a root. The slots follow.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Header {
    /// The number of slots, which is a power of two, minus one.
    mask: usize,
    /// The first hash bit that indexes a child of the root.
    child_shift: u32,
    /// The number of hash bits that index a child of the root.
    child_bits: u32,
    /// The empty word, for an unlock. If it were a constant, the compiler would keep that of the
    /// lock before it for the unlock, in a register that it saves and restores (`ci/gates`).
    empty: SlotWord,
    /// The memory of a root to which a table grows. The first root is on the heap.
    pages: Option<Pages>,
    canary: Canary,
}

const _: () = assert!(size_of::<Header>() <= Pages::HEADER);

/// A root of a table that exists for `'t`.
#[derive(Clone, Copy)]
pub(super) struct Root<'t> {
    header: NonNull<Header>,
    table: PhantomData<&'t Slot>,
}

fn layout(len: usize) -> Layout {
    let size = size_of::<Header>() + len * size_of::<Slot>();
    Layout::from_size_align(size, align_of::<Header>()).expect("a root has at most 512 MiB")
}

/// Returns the number of index bits of the root one level above one with so many, if there is one.
pub(super) fn bits_above(bits: u32) -> Option<u32> {
    let above = bits + fan_bits(bits);
    (above <= MAX_GROWN_BITS).then_some(above)
}

impl<'t> Root<'t> {
    /// Allocates the first root of a table, whose slots are empty.
    pub(super) fn first(bits: u32) -> Option<Self> {
        // SAFETY: the size is not zero.
        let memory = unsafe { alloc(layout(1 << bits)) };
        let header = NonNull::new(memory.cast::<Header>())?;
        // SAFETY: allocated above for a header and the slots.
        Some(unsafe { Root::write(header, bits, None, SlotWord::EMPTY) })
    }

    /// Allocates a root whose slots are void.
    pub(super) fn void(bits: u32) -> Option<Self> {
        let pages = Pages::new(size_of::<Slot>() << bits)?;
        // SAFETY: the bytes of a header precede the range.
        let header = unsafe { pages.start().cast::<Header>().sub(1) };
        // SAFETY: allocated above for a header and the slots.
        Some(unsafe { Root::write(header, bits, Some(pages), SlotWord::VOID) })
    }

    /// Makes a root whose slots contain `word`.
    ///
    /// # Safety
    /// `header` is valid for the header and the slots of the root, which `pages` has cleared, and
    /// belongs to the caller.
    unsafe fn write(
        header: NonNull<Header>,
        bits: u32,
        pages: Option<Pages>,
        word: SlotWord,
    ) -> Self {
        let len = 1_usize << bits;
        let content = Header {
            mask: len - 1,
            child_shift: ROOT_SHIFT + bits,
            child_bits: fan_bits(bits),
            empty: SlotWord::EMPTY,
            pages,
            canary: Canary::new(),
        };
        // SAFETY: the caller's contract.
        unsafe { header.write(content) };
        let root = Root {
            header,
            table: PhantomData,
        };
        // Cleared memory is void already, and the system clears a page where it is first used.
        if word != SlotWord::VOID || cfg!(any(latchwork_loom, latchwork_shuttle)) {
            for index in 0..len {
                let slot = root.slots().wrapping_add(index);
                // SAFETY: the caller's contract.
                unsafe { slot.write(Slot::new(word)) };
            }
        }
        root
    }

    /// Returns the root behind a pointer to its header.
    ///
    /// # Safety
    /// `header` is from [`as_ptr`](Self::as_ptr), and the root is not freed before `'t` ends.
    #[inline(always)]
    pub(super) unsafe fn from_ptr(header: *mut Header) -> Self {
        Root {
            // SAFETY: the caller's contract.
            header: unsafe { NonNull::new_unchecked(header) },
            table: PhantomData,
        }
    }

    pub(super) fn as_ptr(self) -> *mut Header {
        self.header.as_ptr()
    }

    /// Frees the root, which is not used again.
    ///
    /// # Safety
    /// No other copy of this root is used from now on.
    pub(super) unsafe fn free(self) {
        let len = self.len();
        let pages = self.header().pages;
        if core::mem::needs_drop::<Slot>() {
            for index in 0..len {
                let slot = self.slots().wrapping_add(index);
                // SAFETY: each slot exists, and is dropped once.
                unsafe { slot.drop_in_place() };
            }
        }
        // SAFETY: the header exists, and is dropped once.
        unsafe { self.header.as_ptr().drop_in_place() };
        match pages {
            // SAFETY: made with this root, and not used again.
            Some(pages) => unsafe { pages.free() },
            // SAFETY: allocated with this layout, and not used again.
            None => unsafe { dealloc(self.header.as_ptr().cast(), layout(len)) },
        }
    }

    /// Prepares a root, to which keys are about to move.
    pub(super) fn prepare(self) {
        if let Some(pages) = self.header().pages {
            pages.prepare();
        }
    }

    /// Releases the memory of the slots to the system, unless this is the first root [G6].
    ///
    /// # Safety
    /// All slots are void, and remain so until this returns.
    pub(super) unsafe fn clear(self) {
        #[cfg(latchwork_loom)]
        (0..self.len()).for_each(|index| self.at(index).clear());
        let Some(pages) = self.header().pages else {
            return;
        };
        // SAFETY: the caller's contract: a void slot is cleared memory, and a compare-and-swap that
        // fails leaves it so.
        unsafe { pages.clear() };
    }

    #[inline(always)]
    fn header(self) -> &'t Header {
        // SAFETY: written when the root was made, and not changed; the root exists for `'t`.
        let header = unsafe { self.header.as_ref() };
        header.canary.check();
        header
    }

    #[inline(always)]
    fn slots(self) -> *mut Slot {
        // SAFETY: the slots follow the header in one allocation.
        unsafe { self.header.as_ptr().add(1).cast() }
    }

    /// Returns the number of slots.
    #[inline(always)]
    pub(super) fn len(self) -> usize {
        self.header().mask + 1
    }

    /// Returns the size in bytes.
    pub(super) fn bytes(self) -> usize {
        self.len() * size_of::<Slot>()
    }

    /// Returns the place of the slot of `hash`.
    #[inline(always)]
    pub(super) fn index(self, hash: u64) -> usize {
        (hash >> ROOT_SHIFT) as usize & self.header().mask
    }

    /// Returns the slot at a place, which is taken modulo the number of slots.
    #[inline(always)]
    pub(super) fn at(self, index: usize) -> &'t Slot {
        let place = index & self.header().mask;
        // SAFETY: the mask is the number of slots minus one, so the place is below that number.
        let slot = unsafe { self.slots().add(place) };
        // SAFETY: written when the root was made; the root exists for `'t`.
        unsafe { &*slot }
    }

    /// Returns the slot of `hash`.
    #[inline(always)]
    pub(super) fn slot(self, hash: u64) -> &'t Slot {
        self.at((hash >> ROOT_SHIFT) as usize)
    }

    /// Returns the word of an empty slot.
    #[inline(always)]
    pub(super) fn empty(self) -> SlotWord {
        self.header().empty
    }

    /// Returns the hash bits of the keys of the slot at `index`, as far as the place is known.
    pub(super) fn hash_of(self, index: usize) -> u64 {
        (index as u64) << ROOT_SHIFT
    }

    /// Returns the number of slots of a child of the root.
    pub(super) fn fan(self) -> usize {
        1 << self.header().child_bits
    }

    /// Returns the place of `hash` in a child at a depth, where a child of the root has depth 0.
    #[inline]
    pub(super) fn child_index(self, hash: u64, depth: u32) -> usize {
        // Two keys that share a slot differ in a bit above those used so far, so the walk of a key
        // ends before the bits do [S4].
        let header = self.header();
        let (shift, bits) = if depth == 0 {
            (header.child_shift, header.child_bits)
        } else {
            let below = header.child_shift + header.child_bits;
            (below + FAN_BITS * (depth - 1), FAN_BITS)
        };
        (hash >> shift) as usize & ((1 << bits) - 1)
    }
}
