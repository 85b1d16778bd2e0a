//! The entries of a map of all sizes and alignments. Each allocation is freed with the layout with
//! which it was made: the last tenant frees the memory, and may be a node, which does not have the
//! type of the key.
#![allow(unsafe_code, reason = "an allocator, which is unsafe by nature")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt::Debug;
use std::hash::Hash;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use common::watchdog;
use latchwork::VersionedMap;
use latchwork::cell::OwnedVersioned;

/// Stores the layout of each allocation before it.
struct Checked;

#[global_allocator]
static CHECKED: Checked = Checked;

static MISMATCHES: AtomicUsize = AtomicUsize::new(0);

/// The memory with a layout before it, and the offset behind the layout.
fn extended(layout: Layout) -> Option<(Layout, usize)> {
    Layout::new::<Layout>().extend(layout).ok()
}

// SAFETY: the memory behind the stored layout is that of the system, as long and as aligned.
unsafe impl GlobalAlloc for Checked {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some((whole, offset)) = extended(layout) else {
            return ptr::null_mut();
        };
        // SAFETY: the size is not zero.
        let begin = unsafe { System.alloc(whole) };
        if begin.is_null() {
            return begin;
        }
        // SAFETY: inside the memory.
        let memory = unsafe { begin.add(offset) };
        // SAFETY: the layout has so many bytes before the memory.
        let place = unsafe { memory.cast::<Layout>().sub(1) };
        // SAFETY: as above.
        unsafe { place.write_unaligned(layout) };
        memory
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the layout is stored before the memory.
        let place = unsafe { memory.cast::<Layout>().sub(1) };
        // SAFETY: stored by `alloc`.
        let stored = unsafe { place.read_unaligned() };
        if stored != layout {
            MISMATCHES.fetch_add(1, SeqCst);
        }
        let (whole, offset) = extended(stored).expect("it was allocated");
        // SAFETY: the allocation begins there.
        let begin = unsafe { memory.sub(offset) };
        // SAFETY: from `alloc`, with this layout.
        unsafe { System.dealloc(begin, whole) };
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(align(16))]
struct Aligned16(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(align(32))]
struct Aligned32(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(align(64))]
struct Aligned64(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(align(128))]
struct Aligned128(u64);

/// Replaces, removes and inserts all keys some times, and keeps each value by a reference.
fn check_layout<K, V>(key: impl Fn(u8) -> K, value: impl Fn(u8) -> V)
where
    K: Eq + Hash + Send + Sync + 'static,
    V: PartialEq + Debug + Send + Sync + 'static,
{
    let map = VersionedMap::new();
    let mut kept: Vec<(OwnedVersioned<V>, u8)> = Vec::new();
    for round in 0..4_u8 {
        for n in 0..12 {
            map.insert(key(n), value(n + round));
            // An update finds the room used, or free after the flush.
            for _ in 0..n % 4 {
                map.update(&key(n), |_| value(n + round));
                latchwork::flush();
            }
            let owned = map.get_owned(&key(n)).expect("it was inserted");
            assert_eq!(ptr::from_ref(&*owned).addr() % align_of::<V>(), 0);
            kept.push((owned, n + round));
            if n % 3 == 0 {
                map.remove(&key(n));
            }
        }
        map.flush();
        for (owned, n) in &kept {
            assert_eq!(**owned, value(*n));
        }
        // Half of the values leave in each round, so that entries and nodes leave in any order.
        let mut n = 0;
        kept.retain(|_| {
            n += 1;
            n % 2 == 0
        });
    }
    drop(map);
    latchwork::flush();
    for (owned, n) in kept {
        assert_eq!(owned.into_value().expect("it is the last"), value(n));
    }
}

#[test]
fn entries_of_any_layout_keep_their_values() {
    macro_rules! check_sizes {
        ($($size:literal)+) => {
            $(
                check_layout(|n| [n; $size], u64::from);
                check_layout(u64::from, |n| [n; $size]);
            )+
        };
    }
    let _watchdog = watchdog("entries_of_any_layout_keep_their_values");
    check_layout(|_| (), |_| ());
    check_layout(|_| (), |n| n);
    check_layout(|n| n, |_| ());
    check_layout(|n| n.to_string(), |n| n.to_string());
    check_layout(u64::from, |n| Aligned16(n.into()));
    check_layout(u64::from, |n| Aligned64(n.into()));
    check_layout(u64::from, |n| Aligned128(n.into()));
    check_layout(|n| Aligned16(n.into()), u64::from);
    check_layout(|n| Aligned64(n.into()), u64::from);
    check_layout(u64::from, |n| Aligned32(n.into()));
    check_layout(|n| Aligned32(n.into()), u64::from);
    check_layout(|n| [n; 3], |n| Aligned16(n.into()));
    check_layout(|n| Aligned16(n.into()), |n| Aligned16(n.into()));
    check_layout(|n| Aligned32(n.into()), |n| Aligned32(n.into()));
    check_layout(|n| [Aligned16(n.into()); 20], u64::from);
    check_layout(|n| Aligned64(n.into()), |n| Aligned64(n.into()));
    check_layout(|n| Aligned128(n.into()), |n| Aligned128(n.into()));
    // The rooms behind the largest keys begin at 2040 bytes.
    check_sizes!(1 3 4 8 12 20 24 32 40 64 100 2000 2008 2016 2024 2032 2040 4096);
    assert_eq!(
        MISMATCHES.load(SeqCst),
        0,
        "of the layouts of an allocation and its end"
    );
}
