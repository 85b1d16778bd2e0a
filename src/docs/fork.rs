//! What works in the child of a process that had several threads when it forked.
//!
//! After `fork` the child has one thread, the copy of the one that forked, and a copy of all memory. Locks that another thread
//! held stay held in the child, because no thread is left to release them. POSIX permits only async-signal-safe functions in
//! such a child until it calls `exec`, and no call of this crate is one: calls allocate memory and lock mutexes. So the rule is
//! to fork before the first thread is started, or to call `exec` at once, as [`std::process::Command`] does. A child that calls
//! `exec` or `_exit` needs nothing from this crate.
//!
//! This chapter states what works beyond that rule. It requires two things:
//! - The allocator and the mutexes of the system work in the child. Those of glibc on Linux do, and the test `fork` runs there.
//! - No other thread is inside a call of this crate at the fork, except to wait. A thread that is between two calls may hold
//!   guards, sessions, snapshots and pins. If another thread *is* inside a call, it may hold a mutex of the crate, and any call in
//!   the child may wait indefinitely.
//!
//! | module | works in the child | does not work |
//! |---|---|---|
//! | [`LockTable`](crate::LockTable) | Keys that were free at the fork. The guards of the thread that forked: the child and the parent each release their own copy. | A key that another thread held stays held: `try_lock` returns `None`, timed calls end at their deadline, and `lock` waits indefinitely. A key that another thread waited for may be granted to that thread, which the child does not have. |
//! | [`Session`](crate::Session) | The sessions of the thread that forked, and new ones, with all policies. | The keys of other sessions stay held. A cycle through a session of another thread is not resolved. |
//! | [`SingleFlight`](crate::table::SingleFlight) | Keys that no caller asked for at the fork. | A computation that another thread led never ends. |
//! | [`VersionedCell`](crate::VersionedCell), [`FencedCell`](crate::table::FencedCell) | Reads, writes and waits, also on cells that other threads had read, or waited for. | No replaced value is dropped if another thread was pinned at the fork, by a [`ReadPin`](crate::cell::ReadPin), a [`Versioned`](crate::cell::Versioned) or a closure: memory grows with each write. |
//! | [`atomically`](crate::atomically()), [`snapshot`](crate::snapshot()) | Both, on cells that no transaction of another thread had written at the fork. | A cell that a transaction of another thread owned stays owned: its writers wait indefinitely, and [`try_update`](crate::VersionedCell::try_update) ends at its limit. |
//! | [`ordered`](crate::ordered), [`latch`](crate::latch) | Locks and latches that were free at the fork. | Those that another thread held stay held. Optimistic reads of a latch that another thread held exclusively fail. |
//! | [`stats`](crate::stats()) | Both processes count on by themselves. | The counts of the child include those of the parent up to the fork. |
//!
//! Tokens and versions of the two processes grow apart after the fork, from one number: a [`FencingToken`](crate::table::FencingToken)
//! of the child and one of the parent may be equal. A resource that both write needs a lock that both share, such as a file lock
//! or a lease.
//!
//! Threads that the child starts use the crate as any others do, where the system lets such a child start threads.
