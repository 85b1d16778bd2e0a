//! A cell that is freed with its object, so that loom can detect a use after the free.
//!
//! loom cannot observe a freed object. A canary is a cell that is read wherever its object is used,
//! and written when the object is freed. A use that is not ordered before the free is then a race,
//! which loom reports. In a real build a canary is empty.
#![cfg_attr(latchwork_loom, allow(unsafe_code))]

#[cfg(latchwork_loom)]
#[derive(Debug)]
pub(crate) struct Canary(loom::cell::UnsafeCell<bool>);

#[cfg(not(latchwork_loom))]
#[derive(Debug)]
pub(crate) struct Canary(());

#[cfg(latchwork_loom)]
impl Canary {
    pub(crate) fn new() -> Self {
        Canary(loom::cell::UnsafeCell::new(true))
    }

    /// Marks a use of the object.
    pub(crate) fn check(&self) {
        // SAFETY: loom reports a concurrent write; there is no other.
        self.0
            .with(|alive| assert!(unsafe { *alive }, "used after it was freed"));
    }
}

#[cfg(latchwork_loom)]
impl Drop for Canary {
    fn drop(&mut self) {
        // SAFETY: loom reports a concurrent read; the owner is dropping it.
        self.0.with_mut(|alive| unsafe { *alive = false });
    }
}

#[cfg(not(latchwork_loom))]
impl Canary {
    pub(crate) const fn new() -> Self {
        Canary(())
    }

    #[inline(always)]
    pub(crate) fn check(&self) {}
}
