//! A pin, and where retired objects wait.
//!
//! Three domains share these names. A real build has one collector of its own. Under loom a model
//! chooses between a bin that frees at the end of an execution (exhaustive models of our own
//! algorithm) and a collector of its own (models of reclamation). Under shuttle all tasks share one
//! OS thread, so each pin registers with the table's own collector.
#![allow(unsafe_code)]

#[cfg(not(any(latchwork_loom, latchwork_shuttle)))]
mod imp {
    use std::sync::LazyLock;

    use crossbeam_epoch::{Collector, LocalHandle};

    /// A collector of our own, and not the one that all users of crossbeam-epoch share. A pin runs
    /// deferred functions, which in the shared collector may be any code. Our garbage would also
    /// wait for the pins of all other users.
    static COLLECTOR: LazyLock<Collector> = LazyLock::new(Collector::new);

    thread_local! {
        static HANDLE: LocalHandle = COLLECTOR.register();
    }

    #[derive(Debug, Default)]
    pub(crate) struct Domain(());

    pub(crate) struct Pin(crossbeam_epoch::Guard);

    impl Domain {
        #[inline]
        pub(crate) fn pin(&self) -> Pin {
            // A thread that is being torn down may have lost its handle: it gets another.
            let pinned = HANDLE.try_with(LocalHandle::pin);
            Pin(pinned.unwrap_or_else(|_| COLLECTOR.register().pin()))
        }
    }

    impl Pin {
        /// Frees `object` once no pin can have seen it.
        ///
        /// # Safety
        /// `object` is from `Box::into_raw`, is unlinked, and is retired only this once.
        pub(crate) unsafe fn retire<T: Send + 'static>(&self, object: *mut T) {
            let shared = crossbeam_epoch::Shared::from(object.cast_const());
            // SAFETY: unlinked and owned by the caller's contract, so that only threads pinned now
            // can still reach it.
            unsafe { self.0.defer_destroy(shared) }
        }

        /// Lets other threads free this thread's garbage.
        pub(crate) fn flush(&self) {
            self.0.flush();
        }
    }
}

#[cfg(latchwork_shuttle)]
mod imp {
    #[derive(Debug, Default)]
    pub(crate) struct Domain(crossbeam_epoch::Collector);

    pub(crate) struct Pin(crossbeam_epoch::Guard);

    impl Domain {
        pub(crate) fn pin(&self) -> Pin {
            Pin(self.0.register().pin())
        }
    }

    impl Pin {
        /// # Safety
        /// As in a real build.
        pub(crate) unsafe fn retire<T: Send + 'static>(&self, object: *mut T) {
            let shared = crossbeam_epoch::Shared::from(object.cast_const());
            // SAFETY: the caller's contract.
            unsafe { self.0.defer_destroy(shared) }
        }

        pub(crate) fn flush(&self) {
            self.0.flush();
        }
    }
}

#[cfg(latchwork_loom)]
mod imp {
    use std::cell::RefCell;
    use std::sync::{Arc, Mutex};

    type Garbage = Vec<Box<dyn FnOnce() + Send>>;

    #[derive(Clone, Default)]
    pub(crate) enum Domain {
        #[default]
        Bin,
        Epoch(crossbeam_epoch::Collector),
    }

    pub(crate) enum Pin {
        Bin(Arc<Mutex<Garbage>>),
        Epoch(crossbeam_epoch::Guard),
    }

    loom::lazy_static! {
        static ref BIN: Bin = Bin::default();
    }

    #[derive(Default)]
    struct Bin(Arc<Mutex<Garbage>>);

    impl Drop for Bin {
        fn drop(&mut self) {
            let garbage = std::mem::take(&mut *self.0.lock().unwrap());
            garbage.into_iter().for_each(|free| free());
        }
    }

    loom::thread_local! {
        static HANDLE: RefCell<Option<crossbeam_epoch::LocalHandle>> = RefCell::new(None);
    }

    impl Domain {
        pub(crate) fn epoch() -> Self {
            Domain::Epoch(crossbeam_epoch::Collector::new())
        }

        pub(crate) fn pin(&self) -> Pin {
            match self {
                Domain::Epoch(collector) => Pin::Epoch(HANDLE.with(|handle| {
                    let mut handle = handle.borrow_mut();
                    handle.get_or_insert_with(|| collector.register()).pin()
                })),
                _ => Pin::Bin(BIN.0.clone()),
            }
        }
    }

    impl Pin {
        /// # Safety
        /// As in a real build.
        pub(crate) unsafe fn retire<T: Send + 'static>(&self, object: *mut T) {
            match self {
                Pin::Bin(bin) => {
                    let address = object.expose_provenance();
                    bin.lock().unwrap().push(Box::new(move || {
                        let object = std::ptr::with_exposed_provenance_mut::<T>(address);
                        // SAFETY: the caller's contract, and the model is over.
                        drop(unsafe { Box::from_raw(object) });
                    }));
                }
                Pin::Epoch(guard) => {
                    let shared = crossbeam_epoch::Shared::from(object.cast_const());
                    // SAFETY: the caller's contract.
                    unsafe { guard.defer_destroy(shared) }
                }
            }
        }

        /// Seals this thread's garbage, so that it can be freed inside the model.
        pub(crate) fn flush(&self) {
            if let Pin::Epoch(guard) = self {
                guard.flush();
            }
        }
    }
}

pub(crate) use imp::{Domain, Pin};
