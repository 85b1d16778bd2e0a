//! Chapters, and nothing to call.
//!
//! - [`optimistic`]: when to lock and when to be optimistic.
//! - [`locks`]: four ways to hold several locks without deadlock, and which to take.
//! - [`fork`]: what works in the child of a process with threads.
//! - [`tasks`]: locks in tasks, which yield only when they wait.
//! - [`glossary`]: what the words mean here.
//! - [`variance`]: which types may stand for each other.

pub mod fork;

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
/// Ratios of time or throughput from `benches/REPORT.md`, which names the machine and has the quartiles; each point ends with the question that
/// measures it, as in `cargo run --release -p latchwork-bench --bin report -- --only transactions`.
///
/// - *Uncontended, a few words, always written.* Moving an amount between two of 1,024 cells takes
///   <!--figure: transfer vs as many ordered parking_lot mutexes-->6.0<!--/--> times as long as with two ordered `parking_lot` mutexes, and
///   reading two of them <!--figure: two cells read vs as many ordered parking_lot mutexes-->1.7<!--/--> times as long. What costs are the atomic
///   operations (the pin, one for each cell, one for the status) and two nodes of memory. (`transactions`)
/// - *Hot cells.* In the main job three origins are in most flights, and transactions reach a twelfth of what one global mutex does, and cells that
///   are updated alone a sixth. 3 in 100 attempts are made again because something they had read was written, and as many because
///   something they were to write was. When every attempt conflicts, each thread does its work twice or more, where a lock would have had
///   it wait. (`cargo run --release --example flights`)
/// - *An auditor in a loop.* Whoever reads all of 1,024 cells again and again takes their cache lines from the writer, who keeps
///   <!--figure: one thread that transfers, beside one auditor vs alone-->0.3<!--/--> of his throughput. Beside one who only reads them under a pin he keeps
///   <!--figure: one thread that transfers, beside one that reads all under a ReadPin vs alone-->0.3<!--/-->, and with plain atomic words
///   <!--figure: one thread that writes two of 1,024 atomic words, beside one that reads all, to compare vs alone-->0.1<!--/-->: it is the price of reading
///   what is written, not of the snapshot. (`transactions-beside`)
///
/// # Where it wins
/// - Reads: a cell takes <!--figure: read vs parking_lot::RwLock-->0.65<!--/--> of the time of a `parking_lot::RwLock` that nobody else holds. It
///   writes nothing that other readers write; every 128th looks at the pins of all threads, which comes to a third of a cache miss a read with
///   64 readers, and to none under a [`pin`](crate::pin()) that is held. A snapshot of 32 cells takes
///   <!--figure: a snapshot of 32 cells vs as many ordered parking_lot mutexes-->0.20<!--/--> of the time of 32 mutexes. (`cells`, `transactions`; with up to 64
///   readers counted in `benches/CORES.md`)
/// - Two threads in opposite orders, with no order to keep: <!--figure: 20 pairs, two threads in opposite orders vs one thread-->1.0<!--/--> times what one of
///   them does alone, and the 99.9th percentile of the time is
///   <!--figure: 20 pairs, two threads in opposite orders, the 99.9th percentile of the time vs the median-->15<!--/--> times the median.
///   (`transactions-beside`)
/// - Five transactions over 10,000 cells beside three threads that write one of them without a pause take
///   <!--figure: 5 transactions over 10,000 cells beside 3 hammers-->0.02<!--/--> seconds together, because each comes to own what it loses at.
///   (`transactions-beside`)
/// - A thread that is stopped in the middle holds up no reader, and no writer of other cells; if it has not had to climb its ladder, no writer
///   at all.
///
/// # What a closure must not do
/// Write or wait for a cell directly when transactions of *other* threads want it: two transactions that own a cell each, and whose closures write
/// the other's directly, wait for each other. The crate finds this for the cells of the same thread's transaction, and panics; it does
/// not find it across threads. Use the transaction for every cell that another transaction writes.
pub mod optimistic {}

/// Four ways to hold several locks without deadlock, and which to take.
///
/// A deadlock is a ring: each holds what the next one waits for. Three of the cures make rings impossible, each by an order; the fourth lets them
/// come about and undoes them.
///
/// | | the order is | known | costs | in the way |
/// |---|---|---|---|---|
/// | [`OrderedMutex`](crate::ordered::OrderedMutex), [`OrderedRwLock`](crate::ordered::OrderedRwLock) | of kinds of locks, checked by the compiler | before the program runs | nothing | a key is passed to whoever locks |
/// | [`ordered::checked`](crate::ordered::checked) | of single locks, learned | when two are taken the other way round for the first time | in debug builds a look at a graph, else nothing | nothing; it finds what the tests go through |
/// | [`Coupled`](crate::latch::Coupled) over [`OptimisticLatch`](crate::latch::OptimisticLatch) | of the structure: down the tree, along the list | from the way the structure is built | for readers two loads a node | values are atomics and links |
/// | [`Session`](crate::Session) over a [`LockTable`](crate::LockTable) | none | when somebody has waited for a while | re-entrance is looked up; detection only once somebody waits | a lock may fail, and the work is done again |
///
/// # Which to take
/// - *All keys are known at the beginning.* None of the four: [`LockTable::lock_all`](crate::LockTable::lock_all) takes them in one order of its own.
/// - *Few locks, each of a kind that can be named, and a program that you can change*: levels. A wrong order is an error
///   of the compiler and not of a night in production. Several locks of one kind are taken by one call.
/// - *Locks in a program that exists*, or an order that depends on data: `ordered::checked` in place of `parking_lot`. Run the tests; it
///   names both places of a contradiction. What no test goes through, it does not see; levels see it.
/// - *Nodes of a structure* that threads walk through in one direction: latches. Readers take none; writers hold one or two at a time, for as long as
///   a node takes to change. Not for locks that outlive the step, and not for waits in between.
/// - *Keys that are found out on the way*, rows of a table say, held until the end: a session (strict two-phase locking). It locks in any
///   order, again and again, for reading and then for writing. Sessions that wait for each other in a ring are found after they have waited for about a
///   millisecond, where nobody has to fail the queue is reordered, and otherwise one session, the youngest, is told
///   `Deadlock` with a report of who waits for whom; it gives back what it holds and begins again. It sees sessions only: a guard of the
///   same table, or a mutex, in the ring is not seen.
/// - *Values that can be replaced as a whole*: no locks at all, but [transactions](crate::atomically). See [`optimistic`].
///
/// # Two cures in one program
/// A ring may lead through locks of two kinds. Take those of one cure while none of the other are held, or always in the one order: levels, then
/// sessions, then latches, say. A lock of a level may be taken for a short while under a session if no session waits
/// for a key while it holds a level.
///
/// # What none of them sees
/// Channels, joins, condition variables, other processes: to wait for them while holding a lock is to be in whatever ring they close.
pub mod locks {}

#[doc = include_str!("tasks.md")]
pub mod tasks {}

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
/// | owner | a session, or a set of `lock_all` that waits, as the detection of deadlocks knows it |
/// | upgrade | to hold a key exclusively that one holds shared, without giving it up in between |
/// | deadlock | sessions of which each waits for the next, and the last for the first |
/// | hard, soft wait | for a holder whose mode excludes one's own; for somebody ahead in the queue |
/// | victim | the session of a deadlock whose wait is ended |
/// | savepoint | a moment in a session to go back to |
/// | fencing token | a number that grows with each exclusive hold that asks for one |
/// | cell | a [`VersionedCell`](crate::VersionedCell) |
/// | version | how often a cell has been written |
/// | stamp | between which two snapshots a value was written |
/// | latch | a lock of one node of a structure, held for a step: an [`OptimisticLatch`](crate::latch::OptimisticLatch) |
/// | level | where a lock stands in an order that the compiler checks: an [`OrderedMutex`](crate::ordered::OrderedMutex) |
/// | level key | what says which levels a thread may lock: a [`Key`](crate::ordered::LevelToken) |
/// | couple | to take the next latch before the last is given up |
/// | link | a place for a node that may be taken out under readers: a [`Link`](crate::latch::Link) |
/// | obsolete | of a latch: what it belongs to is no longer in its structure |
/// | pin | what keeps replaced values from being dropped, on one thread |
/// | snapshot | a value, or any number of them, as they were at one instant |
/// | transaction | a closure whose reads are of one instant and whose writes are of one |
/// | attempt | one run of that closure |
/// | abort | the end of an attempt without a commit |
/// | retry | to end an attempt until something that it has read changes |
/// | own | to keep others from writing a cell until an attempt is over |
/// | age | what decides who goes first of two transactions that have kept losing |
pub mod glossary {}

pub mod variance;
