//! Memory for nodes: each thread keeps what it has freed, by size, and uses it again.
//!
//! What a cell replaces comes back to the thread that replaced it [R4], so that a writer in its stride
//! touches neither the allocator nor another thread's memory.
#![allow(unsafe_code)]

use core::alloc::Layout;
use core::cell::Cell;
use core::ptr::NonNull;
use std::alloc::{alloc, dealloc, handle_alloc_error};

/// Sizes are rounded up to multiples of this, which is also the greatest alignment that is kept.
const GRAIN: usize = 16;

/// Nodes up to `GRAIN * CLASSES` bytes are kept; greater ones come from the allocator and go back.
const CLASSES: usize = 16;

/// Bytes that a thread keeps of one class. Not found by measurement.
const KEPT_BYTES: usize = 64 << 10;

/// What is kept looks like this.
struct Free {
    next: Option<NonNull<Free>>,
}

#[derive(Default)]
struct Class {
    first: Cell<Option<NonNull<Free>>>,
    len: Cell<usize>,
}

/// The free nodes of one thread, by size.
#[derive(Default)]
pub(super) struct Nodes([Class; CLASSES]);

/// The class of `layout`, unless it is one that is not kept.
#[inline]
const fn class(layout: Layout) -> Option<usize> {
    let grains = layout.size().div_ceil(GRAIN);
    let class = grains.saturating_sub(1);
    if class < CLASSES && layout.align() <= GRAIN {
        Some(class)
    } else {
        None
    }
}

/// The layout of an object's memory, which has an address of its own although the object may have no size.
pub(super) const fn layout<N>() -> Layout {
    let layout = Layout::new::<N>();
    if layout.size() > 0 {
        return layout;
    }
    match Layout::from_size_align(1, layout.align()) {
        Ok(byte) => byte,
        Err(_) => panic!("the alignment of a type is one of a layout"),
    }
}

/// A layout, and what is to be known of it for [`Nodes::put`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) layout: Layout,
    class: Option<usize>,
    /// How many a thread keeps.
    kept: usize,
}

impl Shape {
    pub(super) const fn of<N>() -> Self {
        let layout = layout::<N>();
        let class = class(layout);
        let kept = match class {
            Some(class) => KEPT_BYTES / ((class + 1) * GRAIN),
            None => 0,
        };
        Shape {
            layout,
            class,
            kept,
        }
    }
}

fn layout_of(class: usize) -> Layout {
    Layout::from_size_align((class + 1) * GRAIN, GRAIN).expect("a class is small")
}

fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: the size is not zero: a byte at least, by `layout`.
    NonNull::new(unsafe { alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}

/// Gives memory back to the allocator.
///
/// # Safety
/// As for [`Nodes::put`].
#[cold]
pub(super) unsafe fn give_back(memory: NonNull<u8>, layout: Layout) {
    let layout = class(layout).map_or(layout, layout_of);
    // SAFETY: `take` allocated it with the layout of its class, or its own if it has none.
    unsafe { dealloc(memory.as_ptr(), layout) }
}

impl Nodes {
    /// Memory for `layout`, as the allocator would give.
    #[inline]
    pub(super) fn take(&self, layout: Layout) -> NonNull<u8> {
        let Some(class) = class(layout) else {
            return allocate(layout);
        };
        let list = &self.0[class];
        let Some(first) = list.first.get() else {
            return allocate(layout_of(class));
        };
        // SAFETY: what is in the list was written by `put` and is nobody else's.
        list.first.set(unsafe { first.as_ref() }.next);
        list.len.set(list.len.get() - 1);
        first.cast()
    }

    /// Keeps memory, or gives it back to the allocator.
    ///
    /// # Safety
    /// `memory` came from [`take`](Self::take) with the same layout, on any thread, and nobody
    /// uses it any more.
    #[inline]
    pub(super) unsafe fn put(&self, memory: NonNull<u8>, shape: &Shape) {
        let kept = shape
            .class
            .filter(|class| self.0[*class].len.get() < shape.kept);
        let Some(class) = kept else {
            // SAFETY: the caller's contract.
            return unsafe { give_back(memory, shape.layout) };
        };
        let list = &self.0[class];
        let free = memory.cast::<Free>();
        let next = list.first.get();
        // SAFETY: ours by the caller's contract, and large and aligned enough: a class has at least one
        // grain.
        unsafe { free.write(Free { next }) };
        list.first.set(Some(free));
        list.len.set(list.len.get() + 1);
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for (class, list) in self.0.iter().enumerate() {
            let mut next = list.first.take();
            while let Some(free) = next {
                // SAFETY: as in `take`.
                next = unsafe { free.as_ref() }.next;
                // SAFETY: what is in the list is nobody else's.
                unsafe { give_back(free.cast(), layout_of(class)) };
            }
        }
    }
}
