//! Debug builds: the closures of transactions that a thread is inside of, and the cells in their
//! logs.
//!
//! A direct access to such a cell bypasses the transaction: a read returns the value of another
//! instant, and a write aborts the attempt. In debug builds it panics at once. In release builds
//! this file has no effect.

#[cfg(all(debug_assertions, not(any(latchwork_loom, latchwork_shuttle))))]
mod imp {
    use core::cell::{Cell, RefCell};
    use core::panic::Location;
    use std::collections::HashSet;
    use std::rc::Rc;
    use std::time::Instant;

    /// One closure that is running.
    struct Closure {
        label: Option<&'static str>,
        /// Addresses of the cells in the log.
        cells: RefCell<HashSet<usize>>,
        outer: Option<Rc<Closure>>,
    }

    std::thread_local! {
        /// The innermost closure. It has no destructor: a thread that enters a closure leaves it.
        static INNERMOST: Cell<core::mem::ManuallyDrop<Option<Rc<Closure>>>> =
            const { Cell::new(core::mem::ManuallyDrop::new(None)) };
    }

    fn replace(innermost: Option<Rc<Closure>>) -> Option<Rc<Closure>> {
        let before = INNERMOST.with(|place| place.replace(core::mem::ManuallyDrop::new(innermost)));
        core::mem::ManuallyDrop::into_inner(before)
    }

    fn innermost() -> Option<Rc<Closure>> {
        let innermost = replace(None);
        replace(innermost.clone());
        innermost
    }

    /// While it lives, its thread is inside one closure more, or inside none.
    #[must_use]
    pub(crate) struct Inside(Option<Rc<Closure>>);

    impl Inside {
        /// Enters the closure of a transaction.
        pub(crate) fn closure(label: Option<&'static str>) -> Self {
            let outer = innermost();
            let closure = Closure {
                label,
                cells: RefCell::default(),
                outer: outer.clone(),
            };
            replace(Some(Rc::new(closure)));
            Inside(outer)
        }

        /// Runs code that is not the closure's: destructors of other values, and wakers.
        pub(crate) fn no_closure() -> Self {
            Inside(replace(None))
        }
    }

    impl Drop for Inside {
        fn drop(&mut self) {
            replace(self.0.take());
        }
    }

    /// The transaction of the innermost closure has a cell in its log.
    pub(crate) fn note(cell: usize) {
        if let Some(closure) = innermost() {
            closure.cells.borrow_mut().insert(cell);
        }
    }

    /// # Panics
    /// Panics if the cell is in the log of a transaction whose closure makes this access.
    #[track_caller]
    pub(crate) fn check_direct<T>(cell: usize) {
        let mut next = innermost();
        while let Some(closure) = next {
            // A destructor that runs in a panic must not panic.
            if closure.cells.borrow().contains(&cell) && !std::thread::panicking() {
                let label = closure
                    .label
                    .map_or_else(String::new, |label| format!(" {label:?}"));
                panic!(
                    "direct access to a `VersionedCell<{}>` at {}, inside the closure of the \
                     transaction{label} that has read or written it; access it through `Tx`",
                    core::any::type_name::<T>(),
                    Location::caller(),
                );
            }
            next = closure.outer.clone();
        }
    }

    /// # Panics
    /// Panics if the thread is pinned and would sleep until a deadline that has not passed: it
    /// would hold back all garbage. `label` is that of the transaction that waits, if one does.
    #[track_caller]
    pub(crate) fn check_unpinned(label: Option<&str>, deadline: Option<Instant>) {
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return;
        }
        let is_pinned = super::super::with(super::super::Local::is_pinned);
        if is_pinned && !std::thread::panicking() {
            let transaction = label.map_or_else(String::new, |label| {
                format!(" in the transaction {label:?}")
            });
            panic!(
                "wait for a change at {}{transaction}, while this thread keeps a `Versioned` or a \
                 `ReadPin`, or is inside the closure of a snapshot, an update or another \
                 transaction; this holds back the replaced values of all cells: drop it first, or \
                 use `read_owned`",
                Location::caller(),
            );
        }
    }
}

#[cfg(not(all(debug_assertions, not(any(latchwork_loom, latchwork_shuttle)))))]
mod imp {
    use std::time::Instant;

    #[must_use]
    pub(crate) struct Inside(());

    impl Inside {
        #[inline(always)]
        pub(crate) fn closure(_: Option<&'static str>) -> Self {
            Inside(())
        }

        #[inline(always)]
        pub(crate) fn no_closure() -> Self {
            Inside(())
        }
    }

    #[inline(always)]
    pub(crate) fn note(_: usize) {}

    #[inline(always)]
    pub(crate) fn check_direct<T>(_: usize) {}

    #[inline(always)]
    pub(crate) fn check_unpinned(_: Option<&str>, _: Option<Instant>) {}
}

pub(crate) use imp::{Inside, check_direct, check_unpinned, note};
