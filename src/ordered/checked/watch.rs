//! What a lock adds to `parking_lot`'s: in checked builds an identity, in others nothing.

#[cfg(any(debug_assertions, feature = "order-checks"))]
mod imp {
    use core::cell::RefCell;
    use core::panic::Location;
    use core::sync::atomic::{AtomicU64, Ordering};

    use super::super::graph::{Graph, Held, Id, Place};

    /// Held briefly, and by nobody who takes another lock or runs code of users.
    static GRAPH: parking_lot::Mutex<Graph> = parking_lot::Mutex::new(Graph::new());

    thread_local! {
        /// What this thread holds, the oldest first.
        static HELD: RefCell<Vec<Held>> = const { RefCell::new(Vec::new()) };
    }

    /// Who a lock is.
    #[derive(Debug)]
    pub(in super::super) struct Watch {
        /// 0 until it is taken for the first time.
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
            // Relaxed: the number is all there is to it; the mutex of the graph orders the rest.
            match self.id.load(Ordering::Relaxed) {
                0 => self.enter(),
                id => id,
            }
        }

        #[cold]
        fn enter(&self) -> Id {
            let mut graph = GRAPH.lock();
            // Relaxed: under the mutex; two threads may come here with one lock.
            match self.id.load(Ordering::Relaxed) {
                0 => {
                    let id = graph.enter(self.made_at);
                    self.id.store(id, Ordering::Relaxed);
                    id
                }
                id => id,
            }
        }

        /// The caller is about to wait for the lock.
        ///
        /// # Panics
        /// If it holds what is learned to come after it, or the lock itself.
        #[track_caller]
        pub(in super::super) fn before(&self) {
            if std::thread::panicking() {
                return;
            }
            let wanted = Held {
                lock: self.id(),
                at: Location::caller(),
            };
            // A thread that is being torn down is not checked.
            let broken = HELD.try_with(|held| {
                let mut held = held.borrow_mut();
                if held.is_empty() {
                    return None;
                }
                let mut graph = GRAPH.lock();
                // Locks whose guards were forgotten, and that were dropped.
                held.retain(|held| graph.knows(held.lock));
                held.iter().find_map(|held| {
                    if held.lock == wanted.lock {
                        return Some(format!(
                            "a thread takes a lock that it holds, and would wait for itself for ever:\n  {} \
                             takes the lock made at {}, holding it since {}",
                            wanted.at, self.made_at, held.at
                        ));
                    }
                    graph.learn(*held, wanted).err().map(|ring| ring.to_string())
                })
            });
            // The graph is unlocked, and nothing is borrowed.
            if let Ok(Some(broken)) = broken {
                panic!("{broken}");
            }
        }

        /// The caller has the lock.
        #[track_caller]
        pub(in super::super) fn taken(&self) -> Hold {
            let lock = self.id();
            let at = Location::caller();
            let _ = HELD.try_with(|held| held.borrow_mut().push(Held { lock, at }));
            Hold(lock)
        }
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
            let _ = HELD.try_with(|held| {
                let mut held = held.borrow_mut();
                // Mostly the last.
                if let Some(place) = held.iter().rposition(|held| held.lock == self.0) {
                    held.remove(place);
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

    impl Watch {
        #[inline(always)]
        pub(in super::super) const fn new() -> Self {
            Watch(())
        }

        #[inline(always)]
        pub(in super::super) fn before(&self) {}

        #[inline(always)]
        pub(in super::super) fn taken(&self) -> Hold {
            Hold(())
        }
    }
}

pub(super) use imp::{Hold, Watch};
