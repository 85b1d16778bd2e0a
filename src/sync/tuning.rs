//! Every constant that shrinks under a checker, so that small models reach every branch.

use core::time::Duration;

const CHECKED: bool = cfg!(any(latchwork_loom, latchwork_shuttle));

/// The binary logarithm of the slots of a child array. Sixteen slots of 8 bytes cost about 46 bytes
/// for each held lock when a table is crowded; 64 would cost about 123.
pub(crate) const FAN_BITS: u32 = if CHECKED { 1 } else { 4 };

/// The binary logarithm of the fewest root slots. With as many index bits as a slot word has state
/// bits, which the table asserts, the index and the word together are the whole hash. A checked
/// table has one slot, so all keys collide.
pub(crate) const MIN_ROOT_BITS: u32 = if CHECKED { 0 } else { 10 };

/// The binary logarithm of the most root slots (512 MiB), which limits the hint.
pub(crate) const MAX_ROOT_BITS: u32 = if CHECKED { 0 } else { 26 };

/// The binary logarithm of the most slots of a root that has grown (512 MiB).
pub(crate) const MAX_GROWN_BITS: u32 = if CHECKED { 1 } else { 26 };

/// Whether a root grows and shrinks by itself: where the memory of a larger root returns to the
/// system. In a loom model it moves where the model begins it.
pub(crate) const ROOTS_MOVE: bool = super::Pages::RETURN || cfg!(latchwork_shuttle);

/// A root is crowded where more than one of so many slots has a child. A root that is not has too
/// few words for a larger one.
pub(crate) const CROWDED_PER: usize = 8;

/// A crowded root grows where its slots have more than so many words for each [`GROW_PER`] slots,
/// each word for a slot of the larger root: that has at most 57 bytes for each of them. Random keys
/// have as many where 2.4 times as many are held as the root has slots. The words are counted in a
/// sample of the slots.
pub(crate) const GROW_WORDS: usize = if CHECKED { 2 } else { 9 };
pub(crate) const GROW_PER: usize = if CHECKED { 1 } else { 4 };
pub(crate) const GROW_SAMPLE: usize = if CHECKED { 1 } else { 512 };

/// Of the children that a crowded root gets, one in so many examines the sample, and in a large
/// root one child for so many slots. It costs microseconds there, most of them for cache misses.
pub(crate) const GROW_LOOKS: u64 = if CHECKED { 1 } else { 64 };
pub(crate) const GROW_LOOK_PER: usize = 1 << 8;

/// Where the memory of a larger root is refused, one new child in so many requests it again. It was
/// not chosen by measurement.
pub(crate) const GROW_AGAIN: u64 = 1024;

/// A root shrinks where few of its slots are in use: no more than so many of a sample. Random keys
/// use 14 % of the slots of a root that has just grown.
pub(crate) const SHRINK_SAMPLE: usize = if CHECKED { 2 } else { 1024 };
pub(crate) const SHRINK_IN_USE: usize = if CHECKED { 1 } else { 64 };

/// The number of slots of a sample by which those in use may exceed an eighth of those seen, before
/// the sample ends. It was not chosen by measurement.
pub(crate) const SHRINK_DRIFT: usize = if CHECKED { 1 } else { 8 };

/// Each child that is unlinked examines a root that has more than so many slots for each child:
/// with random keys, a tenth of its slots are in use then. Of other roots, one child in so many
/// does, and in a large root one child for so many slots: each slot of a sample is a cache miss
/// there.
pub(crate) const SHRINK_OVER: usize = 256;
pub(crate) const SHRINK_LOOKS: u64 = if CHECKED { 1 } else { 16 };
pub(crate) const SHRINK_LOOK_PER: usize = 1 << 14;

/// The number of slots of the larger root that an operation moves besides the group of its own key.
/// With so many, a table of random keys that is emptied key by key is as new after its last key.
/// With a quarter, its last move remains unfinished.
pub(crate) const SLOTS_MOVED: usize = if CHECKED { 2 } else { 512 };

/// The times as many slots that an operation moves at most, where few groups are left to move.
pub(crate) const SLOTS_MOVED_LATE: usize = if CHECKED { 1 } else { 8 };

/// The number of locks that a table expects to be held at once by default.
pub(crate) const DEFAULT_EXPECTED_LOCKS: usize = 2048;

/// The number of shared holders that a slot word counts by itself.
pub(crate) const MAX_INLINE_READERS: u64 = if CHECKED { 3 } else { 127 };

/// The number of releases that may bypass the oldest waiter before one hands it the lock. It was
/// not chosen by measurement.
pub(crate) const MAX_BYPASSES: u64 = if CHECKED { 2 } else { 64 };

/// The number of rounds of [`crate::park::Spin`] before a waiter queues or parks. A model that
/// spins proves nothing more than one that does not, and would not end.
pub(crate) const SPIN_ROUNDS: u32 = if CHECKED { 0 } else { 16 };

/// The number of objects that a thread retires before it advances the epoch.
pub(crate) const GARBAGE_BATCH: usize = if CHECKED { 1 } else { 128 };

/// The number of retired bytes after which it also does so, however few the objects are.
pub(crate) const GARBAGE_BATCH_BYTES: usize = 1 << 20;

/// Whether small nodes are allocated in blocks. A model of the use of nodes is not one of their
/// memory.
pub(crate) const NODES_IN_BLOCKS: bool = !CHECKED;

/// The number of objects that wait for pins before their thread yields, since other threads may
/// hold the pins. With it, eight threads on two cores leave megabytes instead of hundreds. More
/// threads share the number of eight: 64 keep 35 MiB instead of 110, and write 1.6 times as often.
pub(crate) const GARBAGE_LIMIT: usize = if CHECKED { 64 } else { 8192 };

/// The number of reclaimable objects that a write releases before it begins, for each object that
/// was retired since the last time. More than one, so that none accumulate; few enough for a short
/// delay.
pub(crate) const RELEASES_PER_RETIRE: usize = 2;

/// The number of objects that a thread retires before a write releases some reclaimable ones: a
/// few at a time cost less than each by itself.
pub(crate) const COLLECT_AFTER: u64 = if CHECKED { 1 } else { 32 };

/// The same, of a thread that retires so seldom that its values may own any amount of memory.
pub(crate) const COLLECT_AFTER_SLOW: u64 = if CHECKED { 1 } else { 8 };

/// The number of retired objects that a thread keeps before it locks the mutex of its slot.
pub(crate) const RETIRE_BUFFER: usize = if CHECKED { 2 } else { 128 };

/// The number of times that a flush tries again after it has reclaimed nothing. It was not chosen
/// by measurement.
pub(crate) const FLUSHES_IN_VAIN: usize = if CHECKED { 0 } else { 4 };

/// The number of threads whose slots are allocated together: the fewest and the most.
pub(crate) const SLOTS: usize = if CHECKED { 1 } else { 8 };
pub(crate) const SLOTS_AT_MOST: usize = if CHECKED { 1 } else { 1024 };

/// The number of slots and segments above which a scan costs so much that idle slots leave it. With
/// fewer, no thread has to join again. It was not chosen by measurement. A model decides by itself.
#[cfg(not(any(latchwork_loom, latchwork_shuttle)))]
pub(crate) const AGE_FROM: u64 = 16;

/// The most epochs between two scans in which idle slots age, and the number of times that a slot
/// ages before it is dormant.
pub(crate) const AGE_EVERY: u64 = if CHECKED { 1 } else { 16 };
pub(crate) const AGES: u64 = if CHECKED { 1 } else { 2 };

/// The number of slots and segments above which idle slots age sooner, in proportion: from 16 times
/// as many on at each epoch. It was not chosen by measurement.
pub(crate) const AGE_SOONER_FROM: u64 = 64;

/// The nanoseconds after which a thread with garbage tries to advance the epoch, however little it
/// has retired. It was not chosen by measurement. A model has no clock.
pub(crate) const ADVANCE_AFTER: u64 = if CHECKED { 0 } else { 20_000 };

/// The nanoseconds between two attempts for each slot and segment that an attempt visits: it takes
/// a few for each, and so about a hundredth of the time. It was not chosen by measurement.
pub(crate) const SCAN_OF_SLOT: u64 = if CHECKED { 0 } else { 400 };

/// The nanoseconds that a write releases more objects than were retired since the last time. It was
/// not chosen by measurement.
pub(crate) const COLLECT_FOR: u64 = if CHECKED { u64::MAX } else { 100_000 };

/// The most objects with destructors that a thread removes from a slot at once, so that it locks
/// the mutex of the slot once for all. One by one, a write of an `Arc` is a quarter slower.
pub(crate) const BATCH_IN_HAND: usize = if CHECKED { 2 } else { 32 };

/// The nanoseconds within which a batch of destructors is fast, so that the next one is larger. It
/// was not chosen by measurement. A model has no clock.
pub(crate) const FAST_BATCH: u64 = if CHECKED { u64::MAX } else { 20_000 };

/// The nanoseconds between two searches for garbage that its threads do not release. It was not
/// chosen by measurement.
pub(crate) const RESCUE_AFTER: u64 = 10_000_000;

/// Whether writes search for such garbage. In a model only a flush does.
pub(crate) const RESCUES: bool = !CHECKED;

/// The number of mutexes over which the queues of the parking lot are spread.
pub(crate) const WAITER_SHARDS: usize = if CHECKED { 1 } else { 64 };

/// The number of times that a writer yields to a transaction that owns the cell, before it aborts
/// the transaction. A commit that runs ends long before. One whose thread does not run may need a
/// time slice. It was not chosen by measurement.
pub(crate) const PATIENCE: u32 = if CHECKED { 0 } else { 8 };

/// The number of times that it yields to a transaction that it must not abort, before it sleeps
/// instead. It was not chosen by measurement.
pub(crate) const NAP_AFTER: u32 = 64;

/// The number of spins of an attempt that encounters a locked entry of a map. Most locks last
/// longer, and the attempt owns cells. It was not chosen by measurement.
pub(crate) const LOCK_SPINS: u32 = if CHECKED { 0 } else { 32 };

/// The number of times that a transaction with limited attempts yields to an owner that it must not
/// abort, before the attempt counts as lost. More than [`PATIENCE`]: an owner without an age is
/// aborted first. It was not chosen by measurement.
pub(crate) const LOSE_AFTER: u32 = if CHECKED { 0 } else { 64 };

/// The number of times that a task yields to an owner that it must not abort, before it returns to
/// its executor. It was not chosen by measurement.
pub(crate) const NOTIFY_AFTER: u32 = if CHECKED { 0 } else { 8 };

/// The number of lost attempts after which a transaction has an age, and owns the cells of its
/// conflicts. CCSTM has 3 and 30.
pub(crate) const OWN_BEATEN_AFTER: u32 = if CHECKED { 1 } else { 3 };

/// The number of lost attempts after which it owns each cell as it accesses the cell.
pub(crate) const OWN_ALL_AFTER: u32 = if CHECKED { 2 } else { 8 };

/// One timestamp of the clock of cells in so many begins unused. Measured against a clock without
/// the mark, two threads that each update and take a snapshot in turn: with 1, they need 1.02 to
/// 1.28 times as long; with 8, 0.89 to 1.03.
pub(crate) const UNUSED_EVERY: u64 = if CHECKED { 2 } else { 8 };

/// The number of times that readers and snapshots may restart a commit before the attempt counts as
/// lost. If the commit owns its whole read set, they then complete the commit themselves.
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
    /// A model may close commits at once. To the system, all threads of a model are one.
    pub(crate) static MAX_PUSHES: core::cell::Cell<u32> = const { core::cell::Cell::new(1) };
}

/// The number of attempts of a thread whose owners are allocated and retired together.
pub(crate) const OWNERS: usize = if CHECKED { 1 } else { 8 };

/// The number of cells up to which a transaction searches its whole read set at each read.
pub(crate) const LINEAR_CELLS: usize = if CHECKED { 2 } else { 16 };

/// The number of times that a read of a latch, or a traversal, fails before it latches. A write
/// ends long before: a thread that fails as often faces a stream of writes. It was not chosen by
/// measurement.
pub(crate) const OPTIMISTIC_ATTEMPTS: u32 = if CHECKED { 1 } else { 8 };

/// The number of times that a woken waiter finds a latch locked before the next release hands it
/// over. Each is a spurious wake-up, but a hand-over costs a context switch. It was not chosen by
/// measurement.
pub(crate) const LOOKS_IN_VAIN: u32 = if CHECKED { 0 } else { 4 };

/// How long a session waits by default, and a set always, before it searches for a deadlock. Not
/// found by measurement: PostgreSQL waits for a second, which is a thousand times too long for
/// locks in memory.
pub(crate) const DETECT_AFTER: Duration = Duration::from_millis(1);

/// The number of waits that search for a cycle at once after a deadlock was found. So many searches
/// consume about a quarter of a millisecond, and the default threshold that they may save is one.
pub(crate) const EARLY_SEARCHES: u64 = if CHECKED { 1 } else { 256 };

/// The number of times that a thread yields after such a search, before it parks. The wait lasts
/// for some microseconds then, and a thread that is woken needs tens of them. Not found by
/// measurement: the yields consume as much as two wake-ups if no other thread can run.
pub(crate) const EARLY_YIELDS: u32 = if CHECKED { 0 } else { 256 };

/// The number of owners in the graph up to which a thread yields then. In a crowd, a thread that
/// yields delays those that could run. Not found by measurement: a deadlock has two owners mostly,
/// and as many wait behind them.
pub(crate) const EARLY_YIELDERS: usize = 4;

/// The number of keys up to which a session searches all that it holds, at each lock. It was not
/// chosen by measurement.
pub(crate) const LINEAR_HOLDS: usize = if CHECKED { 2 } else { 16 };

/// Returns whether an unlock that leaves one word in a child array folds it into its parent now.
///
/// To fold always would allocate and free at each collision of two keys. To fold never would let a
/// long-held key sink deeper with every key that ever collided with it. Under a checker the key
/// decides, so that each model has the one or the other and replays the same.
#[cfg(any(latchwork_loom, latchwork_shuttle))]
pub(crate) fn fold_now(hash: u64) -> bool {
    hash >> 63 != 0
}

#[cfg(not(any(latchwork_loom, latchwork_shuttle)))]
mod folds {
    use core::cell::Cell;

    /// The most locks that a thread remembers. It was not chosen by measurement.
    const LOCKS: u32 = 64;

    std::thread_local! {
        static UNLOCKS: Cell<u32> = const { Cell::new(0) };
        /// The locks below the root for which this thread has left no child with one word since.
        static LOCKED: Cell<u32> = const { Cell::new(0) };
    }

    /// Records a lock in a child.
    #[inline(always)]
    pub(crate) fn locked_below() {
        let _ = LOCKED.try_with(|locked| locked.set((locked.get() + 1).min(LOCKS)));
    }

    pub(crate) fn fold_now(hash: u64) -> bool {
        // A thread that unlocks more than it locks empties the table: then a fold now replaces one
        // that is due soon, and no key is left alone in a child.
        let locked = LOCKED.try_with(|locked| locked.replace(locked.get().saturating_sub(1)));
        // A thread that is being torn down folds, since it will have no later turn.
        if locked.unwrap_or(0) == 0 {
            return true;
        }
        UNLOCKS
            .try_with(|unlocks| {
                // Threads begin at different turns, so that short-lived threads also fold.
                let turn = match unlocks.get() {
                    0 => (hash >> 32) as u32 | 1,
                    turn => turn.wrapping_add(1),
                };
                unlocks.set(turn);
                turn % 256 == 0
            })
            .unwrap_or(true)
    }
}

#[cfg(not(any(latchwork_loom, latchwork_shuttle)))]
pub(crate) use folds::{fold_now, locked_below};

#[cfg(any(latchwork_loom, latchwork_shuttle))]
pub(crate) fn locked_below() {}

/// The number of slots of a line of the index of a map. A cache line has eight.
pub(crate) const MAP_LINE: usize = if CHECKED { 2 } else { 8 };

/// The number of slots of a line that a search of a map loads at once. Without a branch for each
/// slot, a processor does not have to predict in which of them the entry is.
pub(crate) const MAP_GROUP: usize = if CHECKED { 2 } else { 4 };

/// The number of lines that a search of a small table of a map visits. It was not chosen by
/// measurement.
pub(crate) const MAP_WINDOW: usize = if CHECKED { 1 } else { 4 };

/// The number of slots that a write of an entry copies while a map grows.
pub(crate) const MAP_CHUNK: usize = if CHECKED { 1 } else { 64 };

/// The number of records of its stripe from which on a thread examines some: several at a time cost
/// less than each by itself.
pub(crate) const MAP_BURIES_FROM: u64 = if CHECKED { 1 } else { 16 };

/// The number of records that a write of an entry examines at most. More than the number from which
/// on it does so.
pub(crate) const MAP_BURIALS: usize = if CHECKED { 3 } else { 32 };

/// The number of lines ahead of a walk over a map whose entries it begins to load. Chosen by the
/// scan of a million keys of `report --only map`.
pub(crate) const MAP_AHEAD: usize = if CHECKED { usize::MAX >> 1 } else { 4 };

/// Whether writes of entries bury and copy. In a model only a call that asks for it does.
pub(crate) const MAP_MAINTAINS: bool = !cfg!(latchwork_loom);

/// The number of stripes of the counters of a map, and of its graveyard.
pub(crate) const MAP_STRIPES: usize = if CHECKED { 1 } else { 8 };

/// The number of floors of a map.
pub(crate) const MAP_FLOORS: usize = if CHECKED { 1 } else { 64 };

/// The most bytes of a node that lies in the room of an entry of a map. The room is empty while the
/// value lies elsewhere, after every other update. It was not chosen by measurement: a node with
/// memory of its own has as much at least.
pub(crate) const MAP_ROOM: usize = if CHECKED { usize::MAX } else { 64 };
