//! The child of a process that had several threads when it forked.
//!
//! After `fork`, the child has one thread, which is a copy of the thread that forked, and a copy of
//! all memory. A lock that another thread held stays held in the child, because no thread is left
//! to release it. POSIX permits only async-signal-safe functions in such a child until it calls
//! `exec`. No call of this crate is async-signal-safe: calls allocate memory and lock mutexes.
//!
//! So a program must fork before it starts its first thread, or call `exec` at once, as
//! [`std::process::Command`] does. A child that calls `exec` or `_exit` needs nothing from this
//! crate.
//!
//! # Beyond the rule
//! This chapter states which calls work beyond that rule, under two conditions:
//!
//! - The allocator and the mutexes of the system must work in the child. Those of glibc on Linux
//!   do, and the test `fork` runs there.
//! - No other thread may be inside a call of this crate at the fork, except to wait. A thread
//!   between two calls may hold guards, sessions, snapshots and pins. A thread inside a call may
//!   hold a mutex of the crate; then any call in the child may wait indefinitely.
//!
//! | module | works in the child |
//! |---|---|
//! | [`LockTable`] | keys that were free at the fork, and the guards of the thread that forked |
//! | [`Session`] | sessions of the thread that forked, and new ones, with all policies |
//! | [`SingleFlight`] | keys that no caller requested at the fork |
//! | [`VersionedCell`], [`FencedCell`] | reads, writes and waits on all cells |
//! | [`VersionedMap`] | reads, scans, growth; writes and locks of keys that were free |
//! | [`atomically`], [`snapshot`] | both, on cells that no other thread's transaction had written |
//! | [`ordered`], [`latch`] | locks and latches that were free at the fork |
//! | [`stats`] | both processes continue to count separately |
//!
//! # Limits in the child
//! - *Keys.* The child and the parent each release their own copy of a guard. A key that another
//!   thread held stays held: `try_lock` returns `None`, timed calls end at their deadline, and
//!   `lock` waits indefinitely. A release may grant a key to a waiter that the child does not have.
//! - *Sessions.* The keys of other sessions stay held. A cycle through a session of another thread
//!   is not resolved.
//! - *Single flights.* A computation of another thread never ends.
//! - *Cells.* The child drops the values that it replaces. It does not drop those that another
//!   running thread had replaced. Both processes drop the values that the thread that forked had
//!   replaced, and those of threads that had ended. The pins of other threads end. In the child,
//!   the thread that forked must not use a reference that rests on a [`ReadPin`] or a [`Versioned`]
//!   of another thread. On systems other than Unix, such a pin prevents all reclamation.
//! - *Maps.* A key that another thread had locked stays locked. A write of it waits indefinitely;
//!   [`try_update`](crate::VersionedMap::try_update) and `try_lock_for` end at their limits. A
//!   thread that copies entries or frees them holds a mutex of the map, but only inside a call. The
//!   child frees the entries of removed keys, including those that other threads had removed.
//! - *Transactions.* A cell that a transaction of another thread owned stays owned. Its writers
//!   wait indefinitely, and [`try_update`] ends at its limit.
//! - *Latches and ordered locks.* A lock that another thread held stays held. Optimistic reads of a
//!   latch fail if another thread held it exclusively.
//! - *Consoles.* The server of a console runs in the parent only. The child may drop its copy, and
//!   may start a server of its own.
//! - *Statistics.* The counts of the child include those of the parent up to the fork.
//!
//! Tokens and versions of the two processes grow independently from one number. So a
//! [`FencingToken`] of the child and one of the parent may be equal. A resource that both processes
//! write needs a lock that both share, such as a file lock or a lease.
//!
//! Threads that the child starts use the crate as all threads do, where the system allows such a
//! child to start threads.
//!
//! [`FencedCell`]: crate::table::FencedCell
//! [`FencingToken`]: crate::table::FencingToken
//! [`LockTable`]: crate::LockTable
//! [`ReadPin`]: crate::cell::ReadPin
//! [`Session`]: crate::Session
//! [`SingleFlight`]: crate::table::SingleFlight
//! [`VersionedCell`]: crate::VersionedCell
//! [`VersionedMap`]: crate::VersionedMap
//! [`Versioned`]: crate::cell::Versioned
//! [`atomically`]: crate::atomically()
//! [`latch`]: crate::latch
//! [`ordered`]: crate::ordered
//! [`snapshot`]: crate::snapshot()
//! [`stats`]: crate::stats()
//! [`try_update`]: crate::VersionedCell::try_update
