//! What user code an attempt runs when it is over: wakers, and destructors of what was not written.

use super::few::Unused;
use crate::park::WakeList;
use crate::reclaim::Local;

/// The work that remains once the attempt is unpinned.
#[derive(Default)]
pub(super) struct Aftermath {
    /// The waiters for the cells that the attempt has written. They are out of their queues
    /// already: once the attempt is unpinned, a cell inside a value may be freed, and another may
    /// have its address [X8].
    pub(super) woken: WakeList,
    /// Values that were not written, to be dropped.
    pub(super) unused: Vec<Unused>,
}

impl Aftermath {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.unused.is_empty() && self.woken.is_empty()
    }

    /// Runs all wakers and destructors, which are user code, including when one panics.
    #[cold]
    pub(super) fn settle(self, local: &Local) {
        let Aftermath { mut woken, unused } = self;
        let mut unused = AllUnused { unused, local };
        // If one of either panics, the rest follows as the panic passes.
        woken.run();
        unused.release();
    }
}

/// Drops values, each once, including when a destructor panics.
struct AllUnused<'a> {
    unused: Vec<Unused>,
    local: &'a Local,
}

impl AllUnused<'_> {
    fn release(&mut self) {
        while let Some(unused) = self.unused.pop() {
            unused.release(self.local);
        }
    }
}

impl Drop for AllUnused<'_> {
    fn drop(&mut self) {
        self.release();
    }
}
