//! A table: an array of slots, and the table after it.
#![allow(unsafe_code)]

use core::ptr::{NonNull, null_mut};
use std::collections::TryReserveError;

use super::slot::{Content, Word};
use crate::reclaim::{Destructor, Kind};
use crate::sync::tuning::{MAP_GROUP as GROUP, MAP_LINE as LINE, MAP_WINDOW as WINDOW};
use crate::sync::{AtomicPtr, AtomicU64, Ordering};

/// The slots of one cache line. The atomics of a checker are larger, and have no padding between
/// lines either.
#[cfg_attr(not(any(latchwork_loom, latchwork_shuttle)), repr(C, align(64)))]
#[cfg_attr(any(latchwork_loom, latchwork_shuttle), repr(C))]
struct Line([Slot; LINE]);

/// One slot.
pub(super) struct Slot(AtomicU64);

/// The tables of a map are a chain.
pub(super) struct Table {
    lines: Box<[Line]>,
    /// The number of groups less one: the bits of a hash that select a group.
    mask: usize,
    /// The number of lines that a search visits, and of those that differ.
    window: usize,
    reach: usize,
    next: AtomicPtr<Table>,
}

/// The groups of a line. The low bits of a hash select one, and those above them a line.
const GROUPS: usize = LINE / GROUP;
const _: () = assert!(GROUPS.is_power_of_two() && GROUPS * GROUP == LINE);
// The groups of an array of lines are an array.
const _: () = assert!(size_of::<Line>() == GROUPS * size_of::<Group>());

/// The first slots of a search.
pub(super) type Group = [Slot; GROUP];

// The numbers of slots and of entries that a table is made for.
const SLOTS_PER_ENTRY: usize = 2;

/// The sizes of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// A power of two.
    lines: usize,
    window: usize,
}

impl Shape {
    /// A table for so many entries.
    pub(super) fn for_entries(entries: usize) -> Self {
        let slots = entries.saturating_mul(SLOTS_PER_ENTRY);
        let lines = slots.div_ceil(LINE).max(1);
        let lines = lines.checked_next_power_of_two();
        // Too many for any memory: the allocation fails.
        let lines = lines.unwrap_or(1 << (usize::BITS - 1));
        // A longer window where there are more lines, some of which are crowded by their
        // entries.
        let window = WINDOW + lines.ilog2() as usize / 3;
        Shape { lines, window }
    }

    /// The table that follows one with a full window, in which `crowd` slots have entries.
    pub(super) fn after(self, entries: usize, crowd: usize) -> Self {
        let fresh = Self::for_entries(entries);
        let is_crowded = crowd > self.window * LINE / 2;
        if fresh.lines > self.lines || !is_crowded {
            return fresh;
        }
        // There is room elsewhere: many keys have almost one hash. A larger table would not
        // separate them.
        let lines = fresh.lines.max(self.lines);
        let window = fresh.window.max(2 * self.window);
        Shape { lines, window }
    }

    pub(super) fn bytes(self) -> usize {
        self.lines * size_of::<Line>() + size_of::<Table>()
    }

    /// The number of entries that the table has room for.
    pub(super) fn entries(self) -> usize {
        self.lines * LINE / SLOTS_PER_ENTRY
    }
}

impl Table {
    pub(super) const KIND: &'static Kind = {
        // The slots must be freed, which is not the work of a plain object.
        // SAFETY: a table has no shares, and its end is that of its fields.
        &unsafe { Kind::of::<Self>(Self::drop_share, Self::destroy, Destructor::OfUser) }
    };

    /// # Errors
    /// Returns an error if the allocator has no memory.
    pub(super) fn new(shape: Shape) -> Result<Self, TryReserveError> {
        Ok(Table {
            lines: new_lines(shape.lines)?,
            mask: shape.lines * GROUPS - 1,
            window: shape.window,
            reach: shape.window.min(shape.lines),
            next: AtomicPtr::new(null_mut()),
        })
    }

    pub(super) fn shape(&self) -> Shape {
        Shape {
            lines: self.lines.len(),
            window: self.window,
        }
    }

    /// The first slots of the window of a hash, in which most searches end.
    #[inline(always)]
    pub(super) fn home(&self, hash: u64) -> &Group {
        self.group(hash as usize & self.mask)
    }

    /// A group with a number, of which no bit is above those of the mask.
    #[inline(always)]
    fn group(&self, number: usize) -> &Group {
        debug_assert!(number <= self.mask);
        let groups = self.lines.as_ptr().cast::<Group>();
        // SAFETY: less than the number of groups, which is a power of two. The lines are an array
        // of groups, by the assertion above.
        let group = unsafe { groups.add(number) };
        // SAFETY: as above.
        unsafe { &*group }
    }

    /// The number of groups of a window.
    #[inline]
    pub(super) fn window_groups(&self) -> usize {
        self.reach * GROUPS
    }

    /// The group of a window with a number, in the order of the search. Each line begins with the
    /// group at the place that the hash selects.
    #[inline]
    pub(super) fn group_in_window(&self, hash: u64, n: usize) -> &Group {
        let home = hash as usize & self.mask;
        let line = (home / GROUPS).wrapping_add(n / GROUPS) * GROUPS;
        self.group((line + home.wrapping_add(n) % GROUPS) & self.mask)
    }

    /// The slots of the window of a hash, in the order of the search.
    pub(super) fn window(&self, hash: u64) -> impl Iterator<Item = &Slot> {
        (0..self.window_groups()).flat_map(move |n| self.group_in_window(hash, n))
    }

    /// All slots, from number `from` on.
    pub(super) fn slots_from(&self, from: usize) -> impl Iterator<Item = &Slot> {
        let lines = self.lines.get(from / LINE..).unwrap_or_default();
        lines.iter().flat_map(|line| &line.0).skip(from % LINE)
    }

    /// The slots of a line.
    #[inline(always)]
    pub(super) fn line(&self, i: usize) -> Option<&[Slot]> {
        self.lines.get(i).map(|line| &line.0[..])
    }

    pub(super) fn slot(&self, i: usize) -> Option<&Slot> {
        self.lines.get(i / LINE)?.0.get(i % LINE)
    }

    /// The next table, which exists for as long as the caller is pinned, or the map is borrowed
    /// exclusively.
    #[inline]
    pub(super) fn next(&self) -> *mut Table {
        // Acquire: the table is whole. Pairs with the Release in `set_next` [V1].
        self.next.load(Ordering::Acquire)
    }

    /// Installs the next table. `Err`: there is one.
    pub(super) fn set_next(&self, next: NonNull<Table>) -> Result<(), NonNull<Table>> {
        // Release: publishes the table [V1]. Relaxed on failure: a caller that goes to the other
        // table loads its address again.
        let set = self.next.compare_exchange(
            null_mut(),
            next.as_ptr(),
            Ordering::Release,
            Ordering::Relaxed,
        );
        set.map(drop)
            .map_err(|other| NonNull::new(other).expect("it is not null"))
    }

    /// The slot that has the entry of this hash at this address.
    pub(super) fn slot_of(&self, hash: u64, address: usize) -> Option<&Slot> {
        let wanted = Word::entry(address, hash);
        let is_wanted = |slot: &&Slot| slot.load() == wanted;
        let found = self.home(hash).iter().find(is_wanted);
        found.or_else(|| self.slot_of_slow(hash, wanted))
    }

    #[inline(never)]
    fn slot_of_slow(&self, hash: u64, wanted: Word) -> Option<&Slot> {
        for slot in self.window(hash) {
            match slot.load() {
                Word::EMPTY | Word::FROZEN => return None,
                word if word == wanted => return Some(slot),
                _ => {}
            }
        }
        None
    }

    /// The number of slots of a window that have entries.
    pub(super) fn crowd(&self, hash: u64) -> usize {
        let is_entry = |slot: &&Slot| matches!(slot.load().content(), Content::Entry(_));
        self.window(hash).filter(is_entry).count()
    }

    /// # Safety
    /// None: a table has no shares.
    unsafe fn drop_share(_: NonNull<u8>) -> bool {
        true
    }

    /// # Safety
    /// `object` is a table that no thread can reach.
    unsafe fn destroy(object: NonNull<u8>) {
        // SAFETY: the caller's contract.
        unsafe { object.cast::<Self>().drop_in_place() };
    }
}

impl Slot {
    #[inline(always)]
    pub(super) fn load(&self) -> Word {
        // Acquire: the entry is whole; a thread that finds FROZEN finds the next table; and one
        // that finds UNLINKED, the floor. Pairs with the Releases below [V1] [V2] [V6].
        Word::from_bits(self.0.load(Ordering::Acquire))
    }

    /// Installs a word where there is none. `false`: there is one.
    #[inline]
    pub(super) fn fill(&self, word: Word) -> bool {
        // Release: publishes the entry [V2], or, with FROZEN, the next table [V1]. Relaxed on
        // failure: the caller loads the slot again.
        let filled = self.0.compare_exchange(
            Word::EMPTY.bits(),
            word.bits(),
            Ordering::Release,
            Ordering::Relaxed,
        );
        filled.is_ok()
    }

    /// Ends a slot whose entry is buried. The caller has locked the mutex of the map [V8].
    pub(super) fn end(&self) {
        // Release: a thread that passes the slot finds the floor [V6]. A store, since no other
        // thread changes the word of an entry.
        self.0.store(Word::UNLINKED.bits(), Ordering::Release);
    }
}

#[cfg(not(any(latchwork_loom, latchwork_shuttle)))]
fn new_lines(n: usize) -> Result<Box<[Line]>, TryReserveError> {
    use core::alloc::Layout;

    // Reports the error that the allocation below cannot make.
    let mut probe = Vec::<Line>::new();
    let Ok(layout) = Layout::array::<Line>(n) else {
        return Err(probe.try_reserve_exact(n).expect_err("it is too large"));
    };
    // SAFETY: the size is not zero: there is a line at least.
    let lines = unsafe { std::alloc::alloc_zeroed(layout) };
    let Some(lines) = NonNull::new(lines.cast::<Line>()) else {
        probe.try_reserve_exact(n)?;
        std::alloc::handle_alloc_error(layout);
    };
    let lines = NonNull::slice_from_raw_parts(lines, n);
    // SAFETY: so many lines with this layout, and zero is EMPTY.
    Ok(unsafe { Box::from_raw(lines.as_ptr()) })
}

/// The atomics of a checker are not plain words.
#[cfg(any(latchwork_loom, latchwork_shuttle))]
fn new_lines(n: usize) -> Result<Box<[Line]>, TryReserveError> {
    let mut lines = Vec::new();
    lines.try_reserve_exact(n)?;
    let slot = |_| Slot(AtomicU64::new(Word::EMPTY.bits()));
    lines.extend((0..n).map(|_| Line(core::array::from_fn(slot))));
    Ok(lines.into_boxed_slice())
}

#[cfg(all(test, not(any(latchwork_loom, latchwork_shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_for_its_entries() {
        for entries in [0, 1, 4, 5, 1000, 1 << 20] {
            let shape = Shape::for_entries(entries);
            assert!(shape.entries() >= entries && shape.entries() <= 2 * entries.max(LINE));
        }
        assert!(Table::new(Shape::for_entries(usize::MAX)).is_err());
    }

    #[test]
    fn a_crowd_widens_the_window_and_not_the_table() {
        let shape = Shape::for_entries(64);
        let slots = shape.window * LINE;
        assert!(shape.after(1000, slots).lines > shape.lines);
        let after = shape.after(20, slots);
        assert_eq!((after.lines, after.window), (shape.lines, 2 * shape.window));
        // The window is full of unlinked slots.
        assert_eq!(shape.after(20, 3), Shape::for_entries(20));
    }

    #[test]
    fn a_window_has_its_slots_once() {
        let table = Table::new(Shape::for_entries(100)).expect("small");
        for hash in [0, 7, u64::MAX] {
            let slots: std::collections::BTreeSet<_> =
                table.window(hash).map(core::ptr::from_ref).collect();
            assert_eq!(slots.len(), table.window.min(table.lines.len()) * LINE);
            let home = table.home(hash).iter().map(core::ptr::from_ref);
            let first = table.window(hash).map(core::ptr::from_ref);
            assert!(home.eq(first.take(GROUP)));
        }
        assert_eq!(table.slots_from(3).count() + 3, table.lines.len() * LINE);
        assert!(table.slot(table.lines.len() * LINE).is_none());
    }
}
