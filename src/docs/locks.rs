//! Four ways to hold several locks without deadlock, and how to choose.
//!
//! A deadlock is a cycle: each thread holds a lock that the next one waits for. Three of the four
//! strategies make cycles impossible, each by an order. The fourth one permits cycles, detects
//! them, and resolves them.
//!
//! | strategy | the order | is checked | costs | note |
//! |---|---|---|---|---|
//! | [levels] | of kinds of locks | by the compiler | nothing | callers pass a token |
//! | [checked locks] | of single locks, learned | at the first violation | a graph | debug only |
//! | [coupling] | of the data structure | by its design | two loads a node | atomics and links |
//! | [sessions] | none | while sessions wait | a list of keys | a lock may fail |
//!
//! - *Levels* are the types of an [`OrderedMutex`] and an [`OrderedRwLock`]. The compiler rejects a
//!   program that locks a lower level while it holds a higher one.
//! - *Checked locks* record the order in which a program acquires them, in debug builds. They panic
//!   when two locks are acquired in opposite orders for the first time, even if no thread blocks.
//!   They find the orders that the tests execute. Release builds have no cost.
//! - *Coupling* follows the order of the data structure: down the tree, along the list. A reader
//!   performs two loads for each node.
//! - *Sessions* need no order. A session checks its own list for re-entrant locks, and detection
//!   runs only while a session waits. A lock may return an error; then the work is done again.
//!
//! [levels]: crate::ordered
//! [checked locks]: crate::ordered::checked
//! [coupling]: crate::latch::Coupled
//! [sessions]: crate::Session
//! [`OrderedMutex`]: crate::ordered::OrderedMutex
//! [`OrderedRwLock`]: crate::ordered::OrderedRwLock
//!
//! # Choosing a strategy
//! - *All keys are known at the beginning.* None of the four: use
//!   [`LockTable::lock_all`](crate::LockTable::lock_all), which acquires them in an order of its
//!   own.
//! - *Few locks, each of a kind that has a name, in a program that you can change.* Use levels. A
//!   wrong order is a compile error and not an incident in production. One call locks several locks
//!   of one level.
//! - *Locks in an existing program*, or an order that depends on data. Use `ordered::checked` in
//!   place of `parking_lot`, and run the tests. The panic names both places of a contradiction.
//!   Checked locks do not detect an order that no test executes; levels do.
//! - *Nodes of a data structure* that threads traverse in one direction. Use latches. Readers
//!   acquire none. Writers hold one or two at a time, for as long as the change of a node needs. Do
//!   not hold a latch after the step, and do not wait for anything else under it.
//! - *Keys that become known one by one*, such as rows of a table, held until the end. Use a
//!   session (strict two-phase locking). It locks in any order, repeatedly, shared and then
//!   exclusive. Sessions that wait for each other are detected after about a millisecond. If
//!   reordering a queue resolves the cycle, no session fails. Otherwise the newest session of the
//!   lowest priority gets `Deadlock` with a report of the cycle; it releases its keys and starts
//!   again. Detection covers sessions, and calls of `lock_all` that wait. It does not see a mutex
//!   or a plain guard of the same table.
//! - *Values that can be replaced as a whole.* Use no locks, but
//!   [transactions](crate::atomically). See [`optimistic`](super::optimistic).
//!
//! # Two strategies in one program
//! A cycle may lead through locks of two kinds. Either acquire the locks of one strategy only while
//! none of the other are held, or always in one order: for example levels, then sessions, then
//! latches. A thread may hold a level for a short time inside a session, if no session waits for a
//! key while it holds a level.
//!
//! # What none of them sees
//! Channels, joins, condition variables and other processes are invisible to all four. A thread
//! that waits for one of them while it holds a lock can be part of a cycle that no strategy
//! detects.
