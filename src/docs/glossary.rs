//! The terms of this crate: one word, one meaning.
//!
//! The terms are those of the literature on locks, databases and transactional memory. The second
//! column is exact; documentation and error messages use each word in this sense only.
//!
//! # Locks by key
//! | term | meaning |
//! |---|---|
//! | lock | to become a holder of a key; the right of a holder |
//! | key | an identity that can be locked in a [`LockTable`](crate::LockTable): its 64-bit hash |
//! | mode | [`Exclusive` or `Shared`](crate::Mode): the way in which a key is held |
//! | holder | a thread, task or session that has acquired a key, by a guard |
//! | guard | the value that proves that a key is held, and releases the key when it is dropped |
//! | waiter | a thread or task in the queue of a key or a cell |
//! | contended | of a key: another thread holds it or waits for it |
//! | barging | the acquisition of a free key ahead of its waiters |
//! | bypass | one barging acquisition, counted against the longest-waiting waiter |
//! | hand-off | the transfer of a key to the longest-waiting waiter, without a free period |
//! | starvation | a waiter waits indefinitely while others acquire the key again and again |
//! | upgrade | to hold a key exclusively that was held shared, without a release in between |
//! | downgrade | the reverse: from exclusive to shared, without a release in between |
//! | inflation | the move of a lock from its slot to a monitor, when a thread must wait |
//! | monitor | the lock state and the queue of a key that is waited for |
//! | fencing token | a number that grows with each exclusive guard that requests one |
//!
//! # Sessions and deadlocks
//! | term | meaning |
//! |---|---|
//! | session | one owner of many keys of a table, which it acquires one by one: a [`Session`] |
//! | owner | a session, as a node of the graph of waits |
//! | re-entrant | of a session: it may lock a key that it holds |
//! | two-phase locking | a session acquires keys, and releases none before it has acquired all |
//! | deadlock | a cycle of sessions and waiting sets, each of which waits for the next one |
//! | hard wait | a wait for a holder whose mode conflicts |
//! | soft wait | a wait for a waiter that is ahead in the queue; reordering the queue ends it |
//! | victim | the session of a deadlock whose wait ends with an error |
//! | savepoint | a point of a session to which it can roll back |
//! | wait-die | the policy under which a session waits for newer sessions only |
//!
//! # Cells
//! | term | meaning |
//! |---|---|
//! | cell | a [`VersionedCell`](crate::VersionedCell) |
//! | version | the number of committed writes of one cell |
//! | entity tag | a version as text, for a conditional request |
//! | conditional write | a write that succeeds only if the cell still has the expected version |
//! | conflict | another thread wrote a cell between the read of an attempt and its write |
//! | pin | prevents the drop of values that are replaced on any thread, as long as it lives |
//! | garbage | replaced values that have not been dropped |
//! | reclamation | the drop of replaced values, and the reuse of their memory |
//! | stamp, commit timestamp | orders the write of a value among all snapshots |
//!
//! # Transactions and snapshots
//! | term | meaning |
//! |---|---|
//! | transaction | a closure whose reads are of one instant, and whose writes are of one |
//! | attempt | one run of that closure |
//! | read set | the cells that an attempt has read |
//! | write set | the cells that an attempt will write, with their new values |
//! | validation | the check at the commit that the read set has not changed |
//! | commit | the one step by which all writes of an attempt become visible |
//! | abort | the end of an attempt without a commit |
//! | retry | an abort that waits until a cell of the read set changes |
//! | escalation | the reaction to repeated aborts: spin, yield, own some cells, own all by age |
//! | own | to prevent other writes of a cell until an attempt has ended |
//! | age | the order in which escalated transactions began; the older one prevails |
//! | wound | to abort a newer transaction that owns a cell which an older one needs |
//! | update of a few cells | a transaction without a log: [`update_all`](crate::update_all()) |
//! | snapshot | a view of any number of cells as they were at one instant |
//! | opacity | no attempt, including one that aborts, sees a state that never existed |
//! | strict serialisability | all transactions have one order, and it agrees with real time |
//!
//! # Order and latches
//! | term | meaning |
//! |---|---|
//! | latch | the lock of one node, held for one step of a traversal: an [`OptimisticLatch`] |
//! | level | the position of an [`OrderedMutex`] in an order that the compiler checks |
//! | level token | the proof of the levels that a thread may lock: a [`LevelToken`] |
//! | coupling | to acquire the next latch before the release of the current one |
//! | link | a place for a node that can be removed while threads read it: a [`Link`] |
//! | obsolete | of a latch: its node has been removed from the data structure |
//!
//! [`LevelToken`]: crate::ordered::LevelToken
//! [`Link`]: crate::latch::Link
//! [`OptimisticLatch`]: crate::latch::OptimisticLatch
//! [`OrderedMutex`]: crate::ordered::OrderedMutex
//! [`Session`]: crate::Session
