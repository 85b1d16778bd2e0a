//! Chapters, and nothing to call.
//!
//! - [`optimistic`]: when to lock and when to be optimistic.
//! - [`glossary`]: what the words mean here.

/// When to lock and when to be optimistic.
///
/// | you have | use | because |
/// |---|---|---|
/// | a value that is read far more often than written | [`VersionedCell`](crate::VersionedCell) | a read writes nothing that others share, and waits for nobody |
/// | a value that is mostly written | a mutex | an update of a cell costs several times an uncontended mutex |
/// | writes that depend on what was read a while ago | [`compare_and_set`](crate::VersionedCell::compare_and_set) with the version | nobody is locked out while somebody thinks |
/// | several cells that change at one moment, each seldom wanted by two | [`atomically`](crate::atomically) | nothing is to be ordered, and readers never wait |
/// | the same, and you wait for what they say | [`Tx::retry`](crate::Tx::retry) | no condition variable to forget |
/// | one or two values that everybody changes | ordered mutexes, or [`LockTable::lock_all`](crate::LockTable::lock_all) | whoever loses does its work again |
/// | long work on what was read, and then a write | a lock | an attempt that loses late has done the work for nothing |
/// | side effects between read and write | a lock | a closure runs once for each attempt |
/// | a sum over many cells that change | [`snapshot`](crate::snapshot()) | it never starts again, and holds up no writer |
///
/// # Where optimistic loses
/// Ratios from `benches/REPORT.md`, which names the machine and has the quartiles.
///
/// - *Uncontended, a few words, always written.* Moving an amount between two of 1,024 cells takes about ten times as long as with two
///   ordered `parking_lot` mutexes, and reading two of them about three times as long. What costs are the atomic
///   operations (the pin, one for each cell, one for the status) and two nodes of memory.
/// - *Hot cells.* In the main job three origins are in most flights, and transactions reach a twelfth of what one global mutex does, and cells that
///   are updated alone a sixth. 3 in 100 attempts are made again because something they had read was written, and as many because
///   something they were to write was. When every attempt conflicts, each thread does its work twice or more, where a lock would have had
///   it wait.
/// - *An auditor in a loop.* Whoever reads all of 1,024 cells again and again takes their cache lines from the writer, who keeps about 0.4
///   of his throughput. So does whoever only reads them under a pin, and who reads plain atomic words takes more: it is the price of reading
///   what is written, not of the snapshot.
///
/// # Where it wins
/// - Reads: a cell costs about as much as a lock that nobody else holds, and stays at that with any number of readers; a snapshot of 32 cells
///   costs a sixth of taking 32 mutexes.
/// - Two threads in opposite orders, with no order to keep: faster than one of them alone, and the 99.9th percentile within 40 times the
///   median.
/// - A transaction over 10,000 cells beside three threads that write one of them without a pause commits within milliseconds, because it comes to own
///   what it loses at.
/// - A thread that is stopped in the middle holds up no reader, and no writer of other cells; if it has not had to climb its ladder, no writer
///   at all.
///
/// # What a closure must not do
/// Write or wait for a cell directly when transactions of *other* threads want it: two transactions that own a cell each, and whose closures write
/// the other's directly, wait for each other. The crate finds this for the cells of the same thread's transaction, and panics; it does
/// not find it across threads. Use the transaction for every cell that another transaction writes.
pub mod optimistic {}

/// What the words mean here: one word, one meaning.
///
/// | word | meaning |
/// |---|---|
/// | lock | to become a holder of a key; what a holder has |
/// | key | what is locked in a [`LockTable`](crate::LockTable): its 64-bit hash |
/// | mode | how a key is held: [`Exclusive` or `Shared`](crate::Mode) |
/// | holder | who has a key, by a guard |
/// | waiter | a thread or task in the queue of a key or a cell |
/// | barging | to get a key past those who wait for it |
/// | hand-off | to give a key to the oldest waiter |
/// | session | an owner of many keys of one table, which it takes as it goes: a [`Session`](crate::Session) |
/// | owner | a session, as the search for deadlocks knows it |
/// | upgrade | to hold a key exclusively that one holds shared, without giving it up in between |
/// | deadlock | sessions of which each waits for the next, and the last for the first |
/// | hard, soft wait | for a holder whose mode excludes one's own; for somebody ahead in the queue |
/// | victim | the session of a deadlock whose wait is ended |
/// | savepoint | a moment in a session to go back to |
/// | fencing token | a number that grows with each exclusive hold that asks for one |
/// | cell | a [`VersionedCell`](crate::VersionedCell) |
/// | version | how often a cell has been written |
/// | stamp | between which two snapshots a value was written |
/// | pin | what keeps replaced values from being dropped, on one thread |
/// | snapshot | a value, or any number of them, as they were at one instant |
/// | transaction | a closure whose reads are of one instant and whose writes are of one |
/// | attempt | one run of that closure |
/// | abort | the end of an attempt without a commit |
/// | retry | to end an attempt until something that it has read changes |
/// | own | to keep others from writing a cell until an attempt is over |
/// | age | what decides who goes first of two transactions that have kept losing |
pub mod glossary {}
