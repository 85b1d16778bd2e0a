//! Memory for nodes: each thread keeps what it has freed, by size, and uses it again.
//!
//! What a cell replaces comes back to the thread that replaced it [R4], so that a writer in its stride
//! touches neither the allocator nor another thread's memory. What threads have kept when they end is for others.
#![allow(unsafe_code)]

use core::alloc::Layout;
use core::cell::Cell;
use core::ptr::NonNull;
use std::alloc::{alloc, dealloc, handle_alloc_error};

use parking_lot::Mutex;

use super::blocks;
use crate::sync::tuning;

/// Sizes are rounded up to multiples of this, which is also the greatest alignment that is kept.
const GRAIN: usize = 16;

/// Nodes up to `GRAIN * CLASSES` bytes are kept; greater ones come from the allocator and go back.
const CLASSES: usize = 16;

/// The least class: what fits a slot of a block.
const SLOT_CLASS: usize = blocks::SLOT / GRAIN - 1;

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

impl Class {
    const fn new() -> Self {
        Class {
            first: Cell::new(None),
            len: Cell::new(0),
        }
    }

    #[inline]
    fn pop(&self) -> Option<NonNull<u8>> {
        let first = self.first.get()?;
        // SAFETY: what is in the list was written by `push` and is nobody else's.
        self.first.set(unsafe { first.as_ref() }.next);
        self.len.set(self.len.get() - 1);
        Some(first.cast())
    }

    /// # Safety
    /// `memory` is the caller's, and as long and as aligned as a grain.
    #[inline]
    unsafe fn push(&self, memory: NonNull<u8>) {
        let free = memory.cast::<Free>();
        let next = self.first.get();
        // SAFETY: the caller's contract.
        unsafe { free.write(Free { next }) };
        self.first.set(Some(free));
        self.len.set(self.len.get() + 1);
    }
}

/// The free nodes of one thread, by size.
#[derive(Default)]
pub(super) struct Nodes([Class; CLASSES]);

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

const fn bytes_of(class: usize) -> usize {
    (class + 1) * GRAIN
}

/// Whether the nodes of a class come in blocks.
const fn is_in_blocks(class: usize) -> bool {
    class == SLOT_CLASS && tuning::NODES_IN_BLOCKS
}

fn layout_of(class: usize) -> Layout {
    Layout::from_size_align(bytes_of(class), GRAIN).expect("a class is small")
}

pub(super) fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: the size is not zero: a byte at least, by `layout`.
    NonNull::new(unsafe { alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}

/// Gives memory back to the allocator.
///
/// # Safety
/// As for [`Nodes::put`].
#[cold]
pub(super) unsafe fn give_back(memory: NonNull<u8>, layout: Layout) {
    match class(layout) {
        // SAFETY: `take` had it of a block; the rest is the caller's contract.
        Some(class) if is_in_blocks(class) => unsafe {
            blocks::give_back(memory);
        },
        class => {
            let layout = class.map_or(layout, layout_of);
            // SAFETY: `take` allocated it with the layout of its class, or its own if it has none.
            unsafe { dealloc(memory.as_ptr(), layout) }
        }
    }
}

/// The slots that threads had when they ended, as many as one thread keeps: a thread that writes once and ends would leave a
/// block to a single node.
static LEFT: Mutex<Class> = Mutex::new(Class::new());

// SAFETY: what is in a list is nobody else's, whoever has the list.
unsafe impl Send for Class {}

impl Nodes {
    /// Memory for `layout`, as the allocator would give.
    #[inline]
    pub(super) fn take(&self, layout: Layout) -> NonNull<u8> {
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
        let left = LEFT.lock();
        list.first.swap(&left.first);
        list.len.swap(&left.len);
        drop(left);
        if let Some(first) = list.pop() {
            return first;
        }
        let mut slots = blocks::take();
        let first = slots.next().expect("a block has slots");
        // The lowest on top.
        for slot in slots.rev() {
            // SAFETY: a new slot, of this class.
            unsafe { list.push(slot) };
        }
        first
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
        // SAFETY: ours by the caller's contract; a class has at least one grain.
        unsafe { self.0[class].push(memory) };
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for (class, list) in self.0.iter().enumerate() {
            if is_in_blocks(class) {
                let left = LEFT.lock();
                while left.len.get() < KEPT_BYTES / bytes_of(class) {
                    let Some(free) = list.pop() else { break };
                    // SAFETY: of this list, and so of its class.
                    unsafe { left.push(free) };
                }
            }
            while let Some(free) = list.pop() {
                // SAFETY: what is in the list is nobody else's.
                unsafe { give_back(free, layout_of(class)) };
            }
        }
    }
}
