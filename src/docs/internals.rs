//! How it works, and why it is correct: the protocols.
//!
//! Each folder of the source that owns shared state has a file `PROTOCOL.md`. The chapters of this
//! module are these files. They address maintainers and reviewers. To use the crate, you need none
//! of them.
//!
//! # Contents of a protocol
//! | section | contents |
//! |---|---|
//! | *Words* | the states of each shared word, as tables of bits |
//! | *Steps* | the numbered steps of each operation: each atomic access, with its ordering |
//! | *Rules* | the invariants: a tag such as `S1`, one statement, and the tests that check it |
//! | *Progress* | why each loop ends, and which thread may be delayed |
//! | *Unwinding and forgetting* | the state after a panic, or after `mem::forget` |
//!
//! The source cites the rules. A comment such as `SAFETY: the node is pinned [R1]` relies on the
//! rule with this tag. A script, `ci/rule_tags`, fails if a comment cites a rule that does not
//! exist, or if a rule names no test. [`guarantees`](super::guarantees) maps the promises to rules.
//!
//! # Chapters
//! | chapter | folder | tags |
//! |---|---|---|
//! | [`lock_table`] | `src/lock_table` | S, F, M, L, T |
//! | [`waiting`] | `src/park` | W |
//! | [`sessions`] | `src/session` | D |
//! | [`cells`] | `src/cell`, on `src/mvcc` | C |
//! | [`reclamation`] | `src/reclaim` | R |
//! | [`transactions`] | `src/txn` | X |
//! | [`maps`] | `src/map` | V |
//! | [`latches`] | `src/latch` | O |
//!
//! Start with [`cells`], which is the shortest one, and continue with [`transactions`].
//!
//! # Layers
//! A module imports only from the modules above it in this list:
//!
//! ```text
//! sync            atomics and threads: those of std, or those of a model checker
//! word            packed words as plain values, without atomics
//! reclaim, park   memory of replaced values; parked threads and tasks
//! deadlock        the graph of waits, the search for a cycle, the order of retries
//! lock_table, session
//! mvcc            versions of a value: nodes, heads, timestamps, owners
//! cell, latch
//! txn
//! map
//! ordered
//! ```
//!
//! # Ideas
//! - *A lock is a word in a hash trie.* A table holds only what is locked, so it is almost empty.
//!   The word of a slot is the lock, until a thread must wait. Then the word points to a monitor
//!   with a queue. The entry is removed with its last holder or waiter.
//! - *A cell is a pointer to an immutable node* with a version and a timestamp. Readers pin and
//!   load. Writers replace the pointer by a compare-and-swap.
//! - *A transaction is a descriptor with a status.* It installs nodes that refer to the descriptor,
//!   validates its reads, and changes the status once. This change commits all nodes.
//! - *Only snapshots advance the clock,* and only if a write may have happened since the last
//!   advance. Writers read the clock, and mark a timestamp at most once. So programs without
//!   snapshots have no contention on a clock, and neither have snapshots without writes.
//! - *Deadlock detection starts when a wait lasts.* A session that has waited for the threshold
//!   publishes its wait, and searches the graph for a cycle.
//!
//! # A contended lock, file by file
//! A thread calls [`try_lock_for`](crate::LockTable::try_lock_for) for a key that another thread
//! holds, and gets a guard before its deadline. These functions run, in this order. Each is called
//! in the file of the third column. `ci/walks` compares the table with the source.
//!
//! | file | function | called in | effect |
//! |---|---|---|---|
//! | `lock_table/lock.rs` | `try_lock_for` | | hashes the key, and computes the deadline |
//! | `lock_table/raw/acquire.rs` | `lock_until` | `lock_table/lock.rs` | chooses the path |
//! | `lock_table/raw/trie.rs` | `claim_root` | `lock_table/raw/acquire.rs` | finds the root slot |
//! | `lock_table/raw/slot.rs` | `claim` | `lock_table/raw/trie.rs` | fails: the slot is not empty |
//! | `lock_table/raw/trie.rs` | `leaf` | `lock_table/raw/acquire.rs` | finds the monitor |
//! | `lock_table/raw/monitor.rs` | `enter` | `lock_table/raw/acquire.rs` | locks the queue |
//! | `park/reuse.rs` | `take_for` | `lock_table/raw/acquire.rs` | makes the waiter |
//! | `park/queue.rs` | `push` | `lock_table/raw/monitor.rs` | adds the waiter to the queue |
//! | `lock_table/raw/place.rs` | `wait` | `lock_table/raw/acquire.rs` | makes the wait |
//! | `lock_table/raw/place.rs` | `observe` | `lock_table/raw/acquire.rs` | begins its span |
//! | `lock_table/raw/place.rs` | `block_on_by` | `lock_table/raw/acquire.rs` | loops |
//! | `park/wait.rs` | `spin_or_park` | `lock_table/raw/place.rs` | spins, and parks |
//! | `lock_table/raw/place.rs` | `recheck` | `lock_table/raw/place.rs` | runs if it was woken |
//! | `lock_table/raw/monitor.rs` | `look` | `lock_table/raw/place.rs` | acquires the free key |
//! | `lock_table/raw/place.rs` | `hold` | `lock_table/raw/acquire.rs` | ends the wait |
//! | `lock_table/guard.rs` | `new` | `lock_table/lock.rs` | makes the guard |
//!
//! The walk passes 10 files. No call leads from a lower folder to a higher one.
//!
//! # The types of a wait
//! A type counts if one of its values belongs to one wait, and has the waiter, the wait, or the
//! place in the queue as a field. Lists of waiters, and futures of the public interface, do not
//! count. `ci/walks` finds these types by their fields. `park`, `lock_table` and `session` have 8.
//!
//! | folder | types |
//! |---|---|
//! | `park` | `Wait` |
//! | `lock_table` | `Acquiring` `AwaitedKey` `Patience` `Place` `QueuedAs` `Seat` |
//! | `session` | `Pending` |
//! | `cell` | `State` |
//! | `txn` | `Enlisted` `Setback` `State` |

/// The protocol of the lock table: slots, the trie, monitors.
#[allow(
    rustdoc::broken_intra_doc_links,
    rustdoc::invalid_rust_codeblocks,
    reason = "a rule such as [S1] is no link, and a table of bits is no code"
)]
#[cfg_attr(not(doctest), doc = "\n", doc = include_str!("../lock_table/PROTOCOL.md"))]
pub mod lock_table {}

/// The protocol of waiting: queues of threads and tasks.
#[allow(
    rustdoc::broken_intra_doc_links,
    rustdoc::invalid_rust_codeblocks,
    reason = "a rule such as [S1] is no link, and a table of bits is no code"
)]
#[cfg_attr(not(doctest), doc = "\n", doc = include_str!("../park/PROTOCOL.md"))]
pub mod waiting {}

/// The protocol of sessions: deadlock detection.
#[allow(
    rustdoc::broken_intra_doc_links,
    rustdoc::invalid_rust_codeblocks,
    reason = "a rule such as [S1] is no link, and a table of bits is no code"
)]
#[cfg_attr(not(doctest), doc = "\n", doc = include_str!("../session/PROTOCOL.md"))]
pub mod sessions {}

/// The protocol of cells: heads, nodes and timestamps.
#[allow(
    rustdoc::broken_intra_doc_links,
    rustdoc::invalid_rust_codeblocks,
    reason = "a rule such as [S1] is no link, and a table of bits is no code"
)]
#[cfg_attr(not(doctest), doc = "\n", doc = include_str!("../cell/PROTOCOL.md"))]
pub mod cells {}

/// The protocol of reclamation: replaced values and their memory.
#[allow(
    rustdoc::broken_intra_doc_links,
    rustdoc::invalid_rust_codeblocks,
    reason = "a rule such as [S1] is no link, and a table of bits is no code"
)]
#[cfg_attr(not(doctest), doc = "\n", doc = include_str!("../reclaim/PROTOCOL.md"))]
pub mod reclamation {}

/// The protocol of transactions and snapshots: descriptors and escalation.
#[allow(
    rustdoc::broken_intra_doc_links,
    rustdoc::invalid_rust_codeblocks,
    reason = "a rule such as [S1] is no link, and a table of bits is no code"
)]
#[cfg_attr(not(doctest), doc = "\n", doc = include_str!("../txn/PROTOCOL.md"))]
pub mod transactions {}

/// The protocol of latches: optimistic reads and coupling.
#[allow(
    rustdoc::broken_intra_doc_links,
    rustdoc::invalid_rust_codeblocks,
    reason = "a rule such as [S1] is no link, and a table of bits is no code"
)]
#[cfg_attr(not(doctest), doc = "\n", doc = include_str!("../latch/PROTOCOL.md"))]
pub mod latches {}

/// The protocol of maps: the index, growth and burial.
#[allow(
    rustdoc::broken_intra_doc_links,
    rustdoc::invalid_rust_codeblocks,
    reason = "a rule such as [S1] is no link, and a table of bits is no code"
)]
#[cfg_attr(not(doctest), doc = "\n", doc = include_str!("../map/PROTOCOL.md"))]
pub mod maps {}
