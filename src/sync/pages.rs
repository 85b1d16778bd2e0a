//! Memory whose pages return to the system while its addresses remain reserved.
//!
//! A page that [`Pages::clear`] has released is cleared when a thread uses it again. If it was
//! cleared before, a thread that uses it concurrently observes no difference. A checker and other
//! systems allocate instead, and release no page before the end.
#![allow(unsafe_code)]

use core::ptr::NonNull;

/// A range of pages, and the memory for a header before it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pages {
    start: NonNull<u8>,
    bytes: usize,
    /// The allocation or mapping that contains the range.
    whole: (NonNull<u8>, usize),
}

impl Pages {
    /// The most bytes of a header.
    pub(crate) const HEADER: usize = 128;

    /// Returns the first byte of the range. The bytes of a header precede it.
    pub(crate) fn start(self) -> NonNull<u8> {
        self.start
    }
}

#[cfg(all(
    target_os = "linux",
    target_pointer_width = "64",
    not(any(latchwork_loom, latchwork_shuttle))
))]
mod imp {
    use core::ffi::c_int;
    use core::ptr::{NonNull, null_mut};

    use super::Pages;

    /// A huge page of most processors. A larger range begins at a multiple of it.
    const HUGE: usize = 2 << 20;

    fn page() -> usize {
        // SAFETY: it reads a constant of the system.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        usize::try_from(page).unwrap_or(1 << 16)
    }

    impl Pages {
        /// Whether pages that are released leave the process.
        pub(crate) const RETURN: bool = true;

        /// Maps cleared pages of so many bytes. Returns `None` without memory.
        pub(crate) fn new(bytes: usize) -> Option<Self> {
            let align = if bytes < HUGE { page() } else { HUGE };
            let len = bytes.checked_add(align)?;
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
            // SAFETY: a new mapping, which is nothing else's memory.
            let base = unsafe { libc::mmap(null_mut(), len, access, kind, -1, 0) };
            if base == libc::MAP_FAILED {
                return None;
            }
            let base = NonNull::new(base.cast::<u8>())?;
            // At least a page beyond the base, and at most `align` bytes.
            let address = (base.addr().get() + page()).next_multiple_of(align);
            let skip = address - base.addr().get();
            // SAFETY: `skip` is at most `align`, so the range ends within the mapping.
            let start = unsafe { base.add(skip) };
            let pages = Pages {
                start,
                bytes,
                whole: (base, len),
            };
            pages.prepare();
            Some(pages)
        }

        fn advise(self, advice: c_int) {
            // SAFETY: the range is mapped, and no advice of this file changes what it contains: for
            // `clear` that is its contract. An error leaves the pages as they were.
            unsafe { libc::madvise(self.start.as_ptr().cast(), self.bytes, advice) };
        }

        /// Lets the system use huge pages: all of the range is about to be used.
        pub(crate) fn prepare(self) {
            if self.bytes >= HUGE {
                self.advise(libc::MADV_HUGEPAGE);
            }
        }

        /// Releases the pages to the system.
        ///
        /// # Safety
        /// The pages are cleared, and every other thread that uses them until this returns leaves
        /// them so.
        pub(crate) unsafe fn clear(self) {
            if self.bytes >= HUGE {
                // A thread that uses them concurrently gets a small page.
                self.advise(libc::MADV_NOHUGEPAGE);
            }
            self.advise(libc::MADV_DONTNEED);
        }

        /// Frees the memory.
        ///
        /// # Safety
        /// It is not used again.
        pub(crate) unsafe fn free(self) {
            let (base, len) = self.whole;
            // SAFETY: mapped by `new`, and not used again.
            unsafe { libc::munmap(base.as_ptr().cast(), len) };
        }
    }
}

#[cfg(not(all(
    target_os = "linux",
    target_pointer_width = "64",
    not(any(latchwork_loom, latchwork_shuttle))
)))]
mod imp {
    use core::alloc::Layout;
    use core::ptr::NonNull;
    use std::alloc::{alloc_zeroed, dealloc};

    use super::Pages;

    fn layout(len: usize) -> Option<Layout> {
        Layout::from_size_align(len, Pages::HEADER).ok()
    }

    impl Pages {
        pub(crate) const RETURN: bool = false;

        pub(crate) fn new(bytes: usize) -> Option<Self> {
            let len = bytes.checked_add(Pages::HEADER)?;
            // SAFETY: the size is not zero.
            let base = NonNull::new(unsafe { alloc_zeroed(layout(len)?) })?;
            // SAFETY: within the allocation.
            let start = unsafe { base.add(Pages::HEADER) };
            Some(Pages {
                start,
                bytes,
                whole: (base, len),
            })
        }

        pub(crate) fn prepare(self) {
            debug_assert!(self.bytes > 0, "a root has slots");
        }

        /// # Safety
        /// As in a real build.
        pub(crate) unsafe fn clear(self) {}

        /// # Safety
        /// It is not used again.
        pub(crate) unsafe fn free(self) {
            let (base, len) = self.whole;
            let layout = layout(len).expect("allocated with this layout");
            // SAFETY: allocated with this layout by `new`, and not used again.
            unsafe { dealloc(base.as_ptr(), layout) };
        }
    }
}

#[cfg(all(test, target_os = "linux", target_pointer_width = "64"))]
mod tests {
    use super::Pages;

    /// Returns the number of pages of the range that are in memory.
    fn resident(pages: Pages) -> usize {
        let mut in_memory = vec![0_u8; pages.bytes / 4096];
        let start = pages.start.as_ptr().cast();
        // SAFETY: the range is mapped, and a page has at least 4,096 bytes.
        let done = unsafe { libc::mincore(start, pages.bytes, in_memory.as_mut_ptr()) };
        assert_eq!(done, 0);
        in_memory.iter().filter(|page| **page & 1 == 1).count()
    }

    #[test]
    fn pages_that_are_cleared_leave_the_process() {
        for bytes in [1 << 17, 4 << 20] {
            let pages = Pages::new(bytes).expect("memory");
            for _ in 0..2 {
                pages.prepare();
                assert_eq!(resident(pages), 0);
                let words = pages.start.cast::<u64>().as_ptr();
                // SAFETY: all of the range, which this thread alone uses until it is cleared.
                let words = unsafe { core::slice::from_raw_parts_mut(words, bytes / 8) };
                assert!(words.iter().all(|word| *word == 0));
                words.fill(7);
                assert!(resident(pages) >= bytes / (1 << 16));
                words.fill(0);
                // SAFETY: the words were cleared above, and no other thread has the range.
                unsafe { pages.clear() };
            }
            // SAFETY: not used again.
            unsafe { pages.free() };
        }
    }
}
