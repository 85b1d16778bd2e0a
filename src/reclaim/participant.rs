//! A thread's membership in the domain of cells: pins, and what runs once a grace period is over.
//!
//! A grace period is over when every pin that existed at its start has ended. Under loom a model
//! chooses between crossbeam-epoch (models of reclamation) and a period that ends with the
//! execution (exhaustive models of the layers above).

#[cfg(not(latchwork_loom))]
mod imp {
    use crossbeam_epoch::{Collector, Guard, LocalHandle};

    /// The collector of cells. The lock table has another one: a deferred function of cells waits
    /// for pins that users hold as long as they need.
    #[derive(Debug, Default)]
    pub(crate) struct Epochs(Collector);

    pub(crate) struct Participant(LocalHandle);

    /// While it lives, nothing that its thread can reach is used again.
    pub(crate) struct Pin(Guard);

    impl Epochs {
        pub(crate) fn register(&self) -> Participant {
            Participant(self.0.register())
        }
    }

    impl Participant {
        #[inline]
        pub(crate) fn pin(&self) -> Pin {
            Pin(self.0.pin())
        }

        pub(crate) fn is_pinned(&self) -> bool {
            self.0.is_pinned()
        }
    }

    impl Pin {
        /// Runs `f` on some thread, once every present pin has ended.
        ///
        /// # Safety
        /// `f` may run on any thread.
        #[allow(unsafe_code)]
        pub(crate) unsafe fn after_grace<F: FnOnce()>(&self, f: F) {
            // SAFETY: the caller's contract.
            unsafe { self.0.defer_unchecked(f) }
        }

        /// Hands over the deferred functions of this thread, advances the epoch if no pin prevents
        /// it, and runs the functions whose period is over.
        pub(crate) fn advance(&self) {
            self.0.flush();
        }
    }
}

#[cfg(latchwork_loom)]
mod imp {
    use crossbeam_epoch::{Collector, Guard, LocalHandle};
    use std::sync::OnceLock;

    /// Empty: grace ends with the execution.
    #[derive(Default)]
    pub(crate) struct Epochs(OnceLock<Collector>);

    pub(crate) enum Participant {
        Endless,
        Epoch(LocalHandle),
    }

    pub(crate) enum Pin {
        Endless,
        Epoch(Guard),
    }

    impl Epochs {
        /// Reclaims inside the execution. Before any thread registers.
        pub(crate) fn reclaim(&self) {
            self.0.get_or_init(Collector::new);
        }

        pub(crate) fn register(&self) -> Participant {
            match self.0.get() {
                None => Participant::Endless,
                Some(collector) => Participant::Epoch(collector.register()),
            }
        }
    }

    impl Participant {
        pub(crate) fn pin(&self) -> Pin {
            match self {
                Participant::Endless => Pin::Endless,
                Participant::Epoch(handle) => Pin::Epoch(handle.pin()),
            }
        }

        pub(crate) fn is_pinned(&self) -> bool {
            match self {
                Participant::Endless => false,
                Participant::Epoch(handle) => handle.is_pinned(),
            }
        }
    }

    impl Pin {
        /// # Safety
        /// As in a real build.
        #[allow(unsafe_code)]
        pub(crate) unsafe fn after_grace<F: FnOnce()>(&self, f: F) {
            match self {
                // Its contents leak: a few bytes per execution.
                Pin::Endless => core::mem::forget(f),
                // SAFETY: the caller's contract.
                Pin::Epoch(guard) => unsafe { guard.defer_unchecked(f) },
            }
        }

        pub(crate) fn advance(&self) {
            if let Pin::Epoch(guard) = self {
                guard.flush();
            }
        }
    }
}

pub(crate) use imp::{Epochs, Participant, Pin as CellPin};
