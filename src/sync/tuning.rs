//! Every constant that shrinks under a checker, so that small models reach every branch.

const CHECKED: bool = cfg!(any(latchwork_loom, latchwork_shuttle));

/// log2 of the slots of a child array. Sixteen slots of 8 bytes cost about 46 bytes a held lock
/// when a table is crowded; 64 would cost about 123.
pub(crate) const FAN_BITS: u32 = if CHECKED { 1 } else { 4 };

/// log2 of the fewest root slots. With as many index bits as a slot word has state bits, the index
/// and the word together are the whole hash. A checked table has one slot, so that all keys meet.
pub(crate) const MIN_ROOT_BITS: u32 = if CHECKED { 0 } else { crate::word::STATE_BITS };

/// log2 of the most root slots (512 MiB): a hint beyond it is a hint too far.
pub(crate) const MAX_ROOT_BITS: u32 = if CHECKED { 0 } else { 26 };

/// Locks that a table expects to be held at once when nobody says.
pub(crate) const DEFAULT_EXPECTED_LOCKS: usize = 2048;

/// Shared holders that a slot word counts by itself.
pub(crate) const MAX_INLINE_READERS: u64 = if CHECKED { 3 } else { 127 };

/// Releases that may pass over the oldest waiter before one hands it the lock.
/// Not found by measurement.
pub(crate) const MAX_BYPASSES: u64 = if CHECKED { 2 } else { 64 };

/// Rounds of [`crate::wait::Spin`] before a waiter queues or sleeps. A model that spins proves nothing more
/// than one that does not, and takes for ever.
pub(crate) const SPIN_ROUNDS: u32 = if CHECKED { 0 } else { 16 };

/// Objects that a thread retires before it looks whether older ones may be used again.
pub(crate) const GARBAGE_BATCH: usize = if CHECKED { 1 } else { 256 };

/// Bytes after which it looks too, however few the objects are.
pub(crate) const GARBAGE_BATCH_BYTES: usize = 1 << 20;

/// Whether small nodes come in blocks. A model of what is done with nodes is not one of their memory.
pub(crate) const NODES_IN_BLOCKS: bool = !CHECKED;

/// Objects that wait for pins before their thread lets others run (they may have the pins). Eight
/// threads on two cores then leave megabytes where they left hundreds.
pub(crate) const GARBAGE_LIMIT: usize = if CHECKED { 64 } else { 8192 };

/// Objects that a write releases before it begins, of those that may be, for each that was retired since the last
/// time: more than one, so that nothing piles up, and few enough not to be felt.
pub(crate) const RELEASES_PER_RETIRE: usize = 2;

/// Objects that a thread retires before it releases some of those that are due: a few at a time cost less than
/// each by itself.
pub(crate) const RELEASE_AFTER: usize = if CHECKED { 0 } else { 8 };

/// Queues that those who wait for cells are spread over.
pub(crate) const WAITER_SHARDS: usize = if CHECKED { 1 } else { 64 };

/// Times that a writer steps back for a transaction that owns the cell, before it aborts it. A commit that
/// runs is over long before; one whose thread does not run may take a time slice.
/// Not found by measurement.
pub(crate) const PATIENCE: u32 = if CHECKED { 0 } else { 8 };

/// Times that it yields for one that it may not abort, before it sleeps instead.
/// Not found by measurement.
pub(crate) const NAP_AFTER: u32 = 64;

/// Times that a transaction whose attempts are limited yields for an owner that it may not abort, before the attempt counts
/// as lost. More than [`PATIENCE`]: an owner without an age is aborted first. Not found by measurement.
pub(crate) const LOSE_AFTER: u32 = if CHECKED { 0 } else { 64 };

/// Times that a task yields for an owner that it may not abort, before it returns to its executor.
/// Not found by measurement.
pub(crate) const NOTIFY_AFTER: u32 = if CHECKED { 0 } else { 8 };

/// Losses after which a transaction has an age and owns the cells that it lost at. CCSTM has 3 and 30.
pub(crate) const OWN_BEATEN_AFTER: u32 = if CHECKED { 1 } else { 3 };

/// Losses after which it owns each cell as it meets it.
pub(crate) const OWN_ALL_AFTER: u32 = if CHECKED { 2 } else { 8 };

/// Times that readers and snapshots may have a commit begin again before the attempt counts as lost; or, if it owns all
/// that it has read, before they commit it themselves.
#[cfg(not(latchwork_loom))]
pub(crate) fn max_pushes() -> u32 {
    if CHECKED { 1 } else { 16 }
}

#[cfg(latchwork_loom)]
pub(crate) fn max_pushes() -> u32 {
    MAX_PUSHES.get()
}

#[cfg(latchwork_loom)]
std::thread_local! {
    /// A model may have commits close at once. All threads of a model are one to the system.
    pub(crate) static MAX_PUSHES: core::cell::Cell<u32> = const { core::cell::Cell::new(1) };
}

/// Attempts of a thread whose owners are allocated and retired together.
pub(crate) const OWNERS: usize = if CHECKED { 1 } else { 8 };

/// Cells up to which a transaction looks through all that it has read, at each read.
pub(crate) const LINEAR_CELLS: usize = if CHECKED { 2 } else { 16 };

/// Times that a read of a latch, or a traversal, fails before it latches. A write is over long before; whoever fails as
/// often meets a stream of them. Not found by measurement.
pub(crate) const OPTIMISTIC_ATTEMPTS: u32 = if CHECKED { 1 } else { 8 };

/// Times that a woken waiter finds a latch taken before the next release hands it over. Each is a wake-up in vain; handing over
/// costs a context switch. Not found by measurement.
pub(crate) const LOOKS_IN_VAIN: u32 = if CHECKED { 0 } else { 4 };

/// Waits that search for a cycle at once after a deadlock was found. So many searches take about a quarter of a
/// millisecond, and the default threshold that they may save is one.
pub(crate) const EARLY_SEARCHES: u64 = if CHECKED { 1 } else { 256 };

/// Keys up to which a session looks through all that it holds, at each lock.
/// Not found by measurement.
pub(crate) const LINEAR_HOLDS: usize = if CHECKED { 2 } else { 16 };

/// Whether an unlock that leaves one word in a child array folds it into its parent now.
/// Always would allocate and free on each collision of two keys; never would let a long-held key
/// sink deeper with every key that it ever met. Under a checker the key decides, so that
/// each model has the one or the other and replays the same.
#[cfg(any(latchwork_loom, latchwork_shuttle))]
pub(crate) fn fold_now(hash: u64) -> bool {
    hash >> 63 != 0
}

#[cfg(not(any(latchwork_loom, latchwork_shuttle)))]
pub(crate) fn fold_now(hash: u64) -> bool {
    use core::cell::Cell;
    thread_local! {
        static UNLOCKS: Cell<u32> = const { Cell::new(0) };
    }
    // A thread that is being torn down folds: it will have no later turn.
    UNLOCKS
        .try_with(|unlocks| {
            // Threads begin at different turns, so that short-lived ones fold too.
            let turn = match unlocks.get() {
                0 => (hash >> 32) as u32 | 1,
                turn => turn.wrapping_add(1),
            };
            unlocks.set(turn);
            turn % 256 == 0
        })
        .unwrap_or(true)
}
