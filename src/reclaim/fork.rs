//! The child of a process whose other threads had slots: it reclaims the objects that
//! it retires.
//!
//! The child has one thread. The pins of the other threads protect nothing that the child may use,
//! and no thread is left to end them, so they are ended here. The garbage of those threads stays
//! where it is: each of its destructors belongs to the parent. The garbage of threads that had
//! ended, and of the thread that forked, is released by both.
#![allow(unsafe_code)]

use std::sync::Once;

use super::domain::domain;
use super::local::thread;

/// Arranges for [`forget_other_threads`] to run in each child.
pub(super) fn watch() {
    static WATCH: Once = Once::new();
    WATCH.call_once(|| {
        // SAFETY: the handler stores into atomics only. If the system has no room for it, children
        // reclaim nothing, which is what they did without it.
        unsafe { libc::pthread_atfork(None, None, Some(forget_other_threads)) };
    });
}

extern "C" fn forget_other_threads() {
    let own = thread();
    let others = domain().registry.slots();
    others.for_each(|slot| slot.lose_unless_owned_by(own));
}
