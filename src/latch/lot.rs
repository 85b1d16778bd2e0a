//! The queues of latches, by address.
//!
//! A latch is one word and has no room for a queue. It needs none while no thread waits: the queue
//! exists here, by the address of the latch, for as long as it contains a waiter. Each waiter
//! borrows the latch, so no other latch has this address [O5].

use crossbeam_utils::CachePadded;

use crate::sync::tuning::WAITER_SHARDS;
use crate::sync::{Mutex, global};
use crate::wait::Queue;
use crate::word::Queued;

/// The queues of the latches that share a mutex: few at a time, and mostly none.
struct Shard(Vec<(usize, Queue)>);

global! {
    const SHARDS: [CachePadded<Mutex<Shard>>; WAITER_SHARDS] =
        CachePadded::new(Mutex::new(Shard(Vec::new())));
}

/// Calls `f` with the queue of the latch at `latch`, under its mutex. Latches of one shard share
/// the mutex also. No thread keeps it while it waits or runs user code.
pub(super) fn with_queue<R>(latch: usize, f: impl FnOnce(&mut Queue) -> R) -> R {
    // Latches lie 8 bytes apart or more; Fibonacci hashing spreads them.
    let spread = (latch as u64 >> 3).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut shard = SHARDS[(spread >> 32) as usize % WAITER_SHARDS].lock();
    let queues = &mut shard.0;
    let found = queues.iter().position(|(address, _)| *address == latch);
    let place = found.unwrap_or_else(|| {
        queues.push((latch, Queue::new()));
        queues.len() - 1
    });
    let result = f(&mut queues[place].1);
    if queues[place].1.queued() == Queued::Nobody {
        queues.swap_remove(place);
    }
    result
}
