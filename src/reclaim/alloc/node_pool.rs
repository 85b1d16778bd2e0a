//! Memory for nodes: each thread keeps the nodes that it has freed, by size, and reuses them.
//!
//! A replaced node returns to the thread that replaced it [R4]. So a busy writer touches neither
//! the allocator nor another thread's memory.
#![allow(unsafe_code)]

use core::alloc::Layout;
use core::ptr::NonNull;
use std::alloc::{alloc, dealloc, handle_alloc_error};

use super::free_list::FreeList;
use super::slab::{self, Slab};
use crate::sync::tuning;

/// Sizes are rounded up to multiples of this, which is also the greatest alignment that is kept.
const GRAIN: usize = 16;

/// NodePool up to `GRAIN * CLASSES` bytes are kept; the allocator serves larger ones directly.
const CLASSES: usize = 16;

/// The least class: what fits a slot of a block.
const SLOT_CLASS: usize = slab::SLOT / GRAIN - 1;
const _: () = assert!(bytes_of(SLOT_CLASS) == slab::SLOT, "its nodes fill a slot");

/// Bytes that a thread keeps of one class. Not found by measurement.
const KEPT_BYTES: usize = 64 << 10;

/// What no thread keeps of the least class.
static SLAB: Slab = Slab::new();

/// The free nodes of one thread, by size.
#[derive(Default)]
pub(in crate::reclaim) struct NodePool([FreeList; CLASSES]);

/// The class of `layout`, unless it is one that is not kept.
#[inline]
const fn class(layout: Layout) -> Option<usize> {
    let class = match layout.size().div_ceil(GRAIN) {
        // A slot of a block for each of them.
        0..=SLOT_CLASS => SLOT_CLASS,
        grains => grains - 1,
    };
    if class < CLASSES && layout.align() <= GRAIN {
        Some(class)
    } else {
        None
    }
}

/// The layout of an object's memory, which has an address of its own although the object may have
/// no size.
pub(in crate::reclaim) const fn layout<N>() -> Layout {
    let layout = Layout::new::<N>();
    if layout.size() > 0 {
        return layout;
    }
    match Layout::from_size_align(1, layout.align()) {
        Ok(byte) => byte,
        Err(_) => panic!("the alignment of a type is one of a layout"),
    }
}

/// A layout, and the properties of it that [`NodePool::put`] needs.
#[derive(Clone, Copy, Debug)]
pub(in crate::reclaim) struct Shape {
    pub(in crate::reclaim) layout: Layout,
    class: Option<usize>,
    /// How many a thread keeps.
    kept: usize,
}

impl Shape {
    pub(in crate::reclaim) const fn of<N>() -> Self {
        Self::of_layout(layout::<N>())
    }

    /// That of an object whose size is not zero.
    pub(in crate::reclaim) const fn of_layout(layout: Layout) -> Self {
        let class = class(layout);
        let kept = match class {
            Some(class) => KEPT_BYTES / bytes_of(class),
            None => 0,
        };
        Shape {
            layout,
            class,
            kept,
        }
    }
}

/// Where memory goes that is freed: to the pool of a thread, or to the allocator if no thread is
/// left.
#[derive(Clone, Copy)]
pub(crate) struct Pool<'a> {
    nodes: Option<&'a NodePool>,
    /// Whether the thread is pinned for as long as it has this value.
    is_pinned: bool,
}

impl<'a> Pool<'a> {
    pub(in crate::reclaim) const OF_ALLOCATOR: Self = Pool {
        nodes: None,
        is_pinned: false,
    };

    pub(in crate::reclaim) fn of(nodes: &'a NodePool) -> Self {
        Pool {
            nodes: Some(nodes),
            is_pinned: false,
        }
    }

    /// That of a thread that is pinned.
    pub(in crate::reclaim) fn of_pinned(nodes: &'a NodePool) -> Self {
        Pool {
            is_pinned: true,
            ..Self::of(nodes)
        }
    }

    /// Whether the thread is pinned. If not, it may be.
    #[inline]
    pub(crate) fn is_pinned(&self) -> bool {
        self.is_pinned
    }

    /// Frees the memory of an object.
    ///
    /// # Safety
    /// As for [`NodePool::put`].
    #[inline]
    pub(crate) unsafe fn free<N>(&self, object: NonNull<N>) {
        // SAFETY: the caller's contract.
        unsafe { self.put(object.cast(), &const { Shape::of::<N>() }) };
    }

    /// The same, of an object of this layout.
    ///
    /// # Safety
    /// As for [`NodePool::put`].
    pub(crate) unsafe fn free_as(&self, object: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's contract.
        unsafe { self.put(object, &Shape::of_layout(layout)) };
    }

    #[inline]
    unsafe fn put(&self, memory: NonNull<u8>, shape: &Shape) {
        match self.nodes {
            // SAFETY: the caller's contract.
            Some(nodes) => unsafe { nodes.put(memory, shape) },
            // SAFETY: as above.
            None => unsafe { return_to_allocator(memory, shape.layout) },
        }
    }
}

const fn bytes_of(class: usize) -> usize {
    (class + 1) * GRAIN
}

/// Returns whether blocks provide the nodes of a class.
const fn is_in_blocks(class: usize) -> bool {
    class == SLOT_CLASS && tuning::NODES_IN_BLOCKS
}

fn layout_of(class: usize) -> Layout {
    Layout::from_size_align(bytes_of(class), GRAIN).expect("a class is small")
}

pub(in crate::reclaim) fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: the size is not zero: a byte at least, by `layout`.
    NonNull::new(unsafe { alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}

/// Gives memory back to the allocator.
///
/// # Safety
/// As for [`NodePool::put`].
#[cold]
pub(in crate::reclaim) unsafe fn return_to_allocator(memory: NonNull<u8>, layout: Layout) {
    let layout = class(layout).map_or(layout, layout_of);
    // SAFETY: `take` allocated it with the layout of its class, or its own if it has none.
    unsafe { dealloc(memory.as_ptr(), layout) }
}

impl NodePool {
    /// Memory for `layout`, as the allocator would give.
    #[inline]
    pub(in crate::reclaim) fn take(&self, layout: Layout) -> NonNull<u8> {
        let Some(class) = class(layout) else {
            return allocate(layout);
        };
        match self.0[class].pop() {
            Some(first) => first,
            None => self.take_anew(class),
        }
    }

    #[cold]
    #[inline(never)]
    fn take_anew(&self, class: usize) -> NonNull<u8> {
        if !is_in_blocks(class) {
            return allocate(layout_of(class));
        }
        let list = &self.0[class];
        list.refill(SLAB.take());
        list.pop().expect("a block has slots")
    }

    /// Keeps memory, or returns it to the allocator.
    ///
    /// # Safety
    /// `memory` is from [`take`](Self::take) with the same layout, on any thread, and no thread
    /// uses it any more.
    #[inline]
    pub(in crate::reclaim) unsafe fn put(&self, memory: NonNull<u8>, shape: &Shape) {
        let has_room = |class: &usize| self.0[*class].len() < shape.kept || self.make_room(*class);
        let kept = shape.class.filter(has_room);
        let Some(class) = kept else {
            // SAFETY: the caller's contract.
            return unsafe { return_to_allocator(memory, shape.layout) };
        };
        // SAFETY: ours by the caller's contract; a class has at least one grain.
        unsafe { self.0[class].push(memory) };
    }

    /// Keeps some memory, or returns it to the allocator, as [`put`](Self::put) does.
    ///
    /// # Safety
    /// The contract of `put`, for each piece. The iterator does not use the pool.
    #[inline(always)]
    pub(in crate::reclaim) unsafe fn put_all(
        &self,
        mut memory: impl Iterator<Item = NonNull<u8>>,
        shape: &Shape,
    ) {
        loop {
            if let Some(class) = shape.class {
                let list = &self.0[class];
                let room = shape.kept.saturating_sub(list.len());
                // SAFETY: ours by the caller's contract; a class has at least one grain.
                let pushed = unsafe { list.push_all(room, &mut memory) };
                if pushed < room {
                    return;
                }
            }
            // There is no room: this piece makes some, or does not stay.
            let Some(memory) = memory.next() else { return };
            // SAFETY: the caller's contract.
            unsafe { self.put(memory, shape) };
        }
    }

    /// Gives slots back, many at once. `false`: none of these are.
    #[cold]
    #[inline(never)]
    fn make_room(&self, class: usize) -> bool {
        if is_in_blocks(class) {
            // SAFETY: each piece in the list of this class is from there.
            unsafe { SLAB.give_back(&self.0[class], KEPT_BYTES / bytes_of(class) / 2) };
        }
        is_in_blocks(class)
    }
}

impl Drop for NodePool {
    fn drop(&mut self) {
        for (class, list) in self.0.iter().enumerate() {
            if is_in_blocks(class) {
                // SAFETY: as above.
                unsafe { SLAB.give_back(list, list.len()) };
            }
            while let Some(free) = list.pop() {
                // SAFETY: the list owns each piece in it.
                unsafe { return_to_allocator(free, layout_of(class)) };
            }
        }
    }
}
