//! A cell written by hand on crossbeam-epoch: a box for each value, with a version beside it.
#![allow(unsafe_code)]

use std::fmt;
use std::sync::atomic::Ordering;

use crossbeam_epoch::{Atomic, Guard, Owned, Shared};
use crossbeam_utils::Backoff;

use super::{Conditional, Read, Update, Value, Write};

struct Node<T> {
    version: u64,
    value: T,
}

/// A value behind an epoch-protected pointer.
pub struct ByHand<T: Value>(Atomic<Node<T>>);

impl<T: Value> ByHand<T> {
    /// Makes one with this value.
    #[must_use]
    pub fn new(value: T) -> Self {
        Self(Atomic::new(Node { version: 0, value }))
    }

    #[inline]
    fn load<'g>(&self, pin: &'g Guard) -> (Shared<'g, Node<T>>, &'g Node<T>) {
        let seen = self.0.load(Ordering::Acquire, pin);
        // SAFETY: never null; loaded under the pin, and a replaced node is destroyed only after its
        // pins have ended.
        (seen, unsafe { seen.deref() })
    }

    /// Returns whether `node` was installed in place of `seen`.
    #[inline]
    fn replace(&self, seen: Shared<'_, Node<T>>, node: Node<T>, pin: &Guard) -> bool {
        // AcqRel: publishes the node. Acquire on failure: as in `load`.
        let (published, read) = (Ordering::AcqRel, Ordering::Acquire);
        let replaced = self
            .0
            .compare_exchange(seen, Owned::new(node), published, read, pin);
        if replaced.is_ok() {
            // SAFETY: unlinked by this compare-and-swap and no other, so that it is destroyed once.
            unsafe { pin.defer_destroy(seen) };
        }
        replaced.is_ok()
    }

    /// Replaces the value by what `f` makes of it.
    #[inline]
    fn update_with(&self, f: impl Fn(T) -> T) {
        let backoff = Backoff::new();
        loop {
            let pin = crossbeam_epoch::pin();
            let (seen, current) = self.load(&pin);
            let (version, value) = (current.version + 1, f(current.value));
            if self.replace(seen, Node { version, value }, &pin) {
                return;
            }
            drop(pin);
            backoff.snooze();
        }
    }
}

impl<T: Value> Drop for ByHand<T> {
    fn drop(&mut self) {
        // SAFETY: borrowed exclusively, so that no other thread can reach the last node.
        drop(unsafe { std::mem::take(&mut self.0).into_owned() });
    }
}

impl<T: Value> fmt::Debug for ByHand<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByHand").finish_non_exhaustive()
    }
}

impl<T: Value> Read<T> for &ByHand<T> {
    #[inline]
    fn read(&mut self) -> T {
        self.load(&crossbeam_epoch::pin()).1.value
    }
}

impl<T: Value> Write<T> for ByHand<T> {
    #[inline]
    fn write(&self, value: T) {
        self.update_with(|_| value);
    }
}

impl<T: Value> Update for ByHand<T> {
    #[inline]
    fn update(&self) {
        self.update_with(T::next);
    }
}

impl<T: Value> Conditional<T> for ByHand<T> {
    type Version = u64;

    fn version(&self) -> u64 {
        self.load(&crossbeam_epoch::pin()).1.version
    }

    #[inline]
    fn compare_and_set(&self, expected: u64, value: T) -> Option<u64> {
        let pin = crossbeam_epoch::pin();
        let (seen, current) = self.load(&pin);
        let version = expected + 1;
        let written =
            current.version == expected && self.replace(seen, Node { version, value }, &pin);
        written.then_some(version)
    }
}
