//! The part that a checked lock adds to that of `parking_lot`: an identity in checked builds, and
//! nothing in others.

#[cfg(any(debug_assertions, feature = "order-checks"))]
mod imp {
    use core::cell::RefCell;
    use core::mem::ManuallyDrop;
    use core::panic::Location;
    use core::sync::atomic::{AtomicU64, Ordering};
    use std::sync::Arc;

    use super::super::graph::{Graph, Id, OutOfOrder, Place};
    use super::super::held::{Held, HeldLocks, Stack};

    /// Held briefly. A thread that holds it acquires no other lock and runs no user code.
    static GRAPH: parking_lot::Mutex<Graph> = parking_lot::Mutex::new(Graph::new());

    thread_local! {
        /// The locks that this thread holds. The list has no destructor, so that the destructors of
        /// other thread-locals are checked also.
        static HELD: RefCell<ManuallyDrop<HeldLocks>> = const { RefCell::new(ManuallyDrop::new(HeldLocks::new())) };
        /// Frees the memory of the list.
        static END: End = const { End };
    }

    const _: () = assert!(!core::mem::needs_drop::<RefCell<ManuallyDrop<HeldLocks>>>());

    /// Frees the list when the thread ends.
    struct End;

    impl Drop for End {
        fn drop(&mut self) {
            HELD.with(|held| free_if_empty(&mut held.borrow_mut()));
        }
    }

    fn free_if_empty(held: &mut HeldLocks) {
        if held.is_empty() {
            *held = HeldLocks::new();
        }
    }

    /// The identity of a lock.
    #[derive(Debug)]
    pub(in super::super) struct Watch {
        /// 0 until the lock is acquired for the first time.
        id: AtomicU64,
        made_at: Place,
    }

    impl Watch {
        #[track_caller]
        pub(in super::super) const fn new() -> Self {
            Watch {
                id: AtomicU64::new(0),
                made_at: Location::caller(),
            }
        }

        fn id(&self) -> Id {
            // Relaxed: it publishes only the number; the mutex of the graph orders the rest.
            match self.id.load(Ordering::Relaxed) {
                0 => self.enter(),
                id => id,
            }
        }

        #[cold]
        fn enter(&self) -> Id {
            let mut graph = GRAPH.lock();
            // Relaxed: under the mutex; two threads may enter one lock at the same time.
            match self.id.load(Ordering::Relaxed) {
                0 => {
                    let id = graph.enter(self.made_at);
                    self.id.store(id, Ordering::Relaxed);
                    id
                }
                id => id,
            }
        }

        /// Checks and records the acquisition for which the caller is about to wait.
        ///
        /// # Panics
        /// Panics if the thread holds a lock that is recorded to follow this one, or this lock
        /// itself.
        #[track_caller]
        pub(in super::super) fn before(&self) -> Learned {
            if std::thread::panicking() {
                return Learned::NOTHING;
            }
            let wanted = Held {
                lock: self.id(),
                at: Location::caller(),
            };
            let learned = HELD.with(|held| self.learn(&mut held.borrow_mut(), wanted));
            // The graph is unlocked, and nothing is borrowed.
            match learned {
                Ok(learned) => learned,
                Err(broken) => panic!("{broken}"),
            }
        }

        fn learn(&self, held: &mut HeldLocks, wanted: Held) -> Result<Learned, String> {
            if held.is_empty() {
                return Ok(Learned::NOTHING);
            }
            if let Some(held) = held.find(wanted.lock) {
                return Err(format!(
                    "deadlock: a thread acquires a lock that it already holds, and must release it first:\n  {} \
                     acquires the lock created at {}, held since {}",
                    wanted.at, self.made_at, held.at
                ));
            }
            let mut graph = GRAPH.lock();
            let Some(stack) = held.stack(&mut graph) else {
                return Ok(Learned::NOTHING);
            };
            match graph.learn(&stack, wanted) {
                Ok(stack) => Ok(Learned(Some(stack))),
                Err(OutOfOrder) => Err(graph.ring(held.iter(), wanted).to_string()),
            }
        }

        /// Adds the lock, which the caller has acquired, with the result of
        /// [`before`](Self::before).
        #[track_caller]
        pub(in super::super) fn taken(&self, learned: Learned) -> Hold {
            let lock = self.id();
            let at = Location::caller();
            // After the end of the list's owner, the last guard frees its memory.
            let _ = END.try_with(|_| ());
            HELD.with(|held| held.borrow_mut().push(Held { lock, at }, learned.0));
            Hold(lock)
        }
    }

    /// The lock over the locks that were held when it was acquired, if the order was checked.
    #[derive(Debug)]
    pub(in super::super) struct Learned(Option<Arc<Stack>>);

    impl Learned {
        /// A lock that is acquired without a wait, or while no other is held.
        pub(in super::super) const NOTHING: Self = Learned(None);
    }

    impl Drop for Watch {
        fn drop(&mut self) {
            match *self.id.get_mut() {
                0 => {}
                id => GRAPH.lock().forget(id),
            }
        }
    }

    /// A lock that its thread holds.
    #[derive(Debug)]
    pub(in super::super) struct Hold(Id);

    impl Drop for Hold {
        fn drop(&mut self) {
            HELD.with(|held| {
                let mut held = held.borrow_mut();
                held.remove(self.0);
                if END.try_with(|_| ()).is_err() {
                    free_if_empty(&mut held);
                }
            });
        }
    }
}

#[cfg(not(any(debug_assertions, feature = "order-checks")))]
mod imp {
    #[derive(Debug)]
    pub(in super::super) struct Watch(());

    #[derive(Debug)]
    pub(in super::super) struct Hold(());

    #[derive(Debug)]
    pub(in super::super) struct Learned(());

    impl Learned {
        pub(in super::super) const NOTHING: Self = Learned(());
    }

    impl Watch {
        #[inline(always)]
        pub(in super::super) const fn new() -> Self {
            Watch(())
        }

        #[inline(always)]
        pub(in super::super) fn before(&self) -> Learned {
            Learned(())
        }

        #[inline(always)]
        pub(in super::super) fn taken(&self, _: Learned) -> Hold {
            Hold(())
        }
    }
}

pub(super) use imp::{Hold, Learned, Watch};
