//! Memory of a cell that is used again for another cell, in a process that has little of it.

mod common;

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use common::tasks::Bell;
use latchwork::{VersionedCell, atomically, cell::Version};

/// A value whose destructor does something.
struct Act(Box<dyn Fn() + Send + Sync>);

impl Drop for Act {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// A cell inside a value goes with the value, and another may come to lie where it was, before the
/// transaction that has written it is quite over. Who waits for the new one is not woken in the old
/// one's name, and forgotten.
#[test]
fn a_commit_wakes_nobody_who_waits_for_a_later_cell_at_the_same_address() {
    struct Outer(VersionedCell<Option<Act>>);
    static OUTER: std::sync::LazyLock<VersionedCell<Outer>> =
        std::sync::LazyLock::new(|| VersionedCell::new(Outer(VersionedCell::new(None))));
    static LATER: OnceLock<VersionedCell<Outer>> = OnceLock::new();
    static BELL: std::sync::LazyLock<Arc<Bell>> = std::sync::LazyLock::new(Arc::default);

    fn poll(outer: &Outer, waker: &Waker) -> Poll<Version> {
        let changed = outer.0.changed(Version::FIRST);
        let mut changed = std::mem::ManuallyDrop::new(changed);
        // It stays in the queue.
        std::pin::Pin::new(&mut *changed).poll(&mut Context::from_waker(waker))
    }

    let address = OUTER.read_in(&latchwork::pin()).0.address_of();
    // Leaves the mark.
    let _ = poll(&OUTER.read_in(&latchwork::pin()), Waker::noop());
    let replaced = Act(Box::new(move || {
        // The old cell is dropped, and its memory is used again. On another thread, because a
        // destructor releases nothing.
        OUTER.set(Outer(VersionedCell::new(None)));
        let reuse = move || {
            let later = (0..64).find_map(|_| {
                latchwork::flush();
                // All the free memory, since what was freed last is used first.
                let mut cells = [(); 64]
                    .map(|()| VersionedCell::new(Outer(VersionedCell::new(None))))
                    .into_iter();
                cells.find(|cell| cell.read_in(&latchwork::pin()).0.address_of() == address)
            });
            let later = LATER.get_or_init(|| later.expect("the address is used again"));
            let pin = latchwork::pin();
            let outer = later.read_in(&pin);
            assert!(poll(&outer, &Waker::from(BELL.clone())).is_pending());
        };
        std::thread::spawn(reuse)
            .join()
            .expect("it finds the address");
    }));
    let mut replaced = Some(replaced);
    atomically(|tx| {
        let inner = &tx.read(&OUTER)?.0;
        tx.set(inner, replaced.take())?;
        tx.set(inner, None)?;
        // Two cells, so that an owner commits.
        tx.version(&OUTER).map(drop)
    });
    let before = BELL.rings();
    let later = LATER.get().expect("the write was dropped");
    later.read_in(&latchwork::pin()).0.set(None);
    assert_eq!((before, BELL.rings()), (0, 1));
}

trait Address {
    fn address_of(&self) -> usize;
}

impl<T> Address for T {
    fn address_of(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}
