//! The costs, and how to measure them.
//!
//! Each number is the median of a ratio: the time of this crate divided by the time of the
//! baseline, in one process, in alternating runs. A ratio below 1 means that this crate is faster.
//! Ratios of throughput are marked; there, a ratio above 1 means that this crate is faster. The
//! numbers are those of `benches/REPORT.md`, which names the machine, the versions of the other
//! crates and the quartiles.
//!
//! # How fast against what I use
//! ## `parking_lot`
//! The baseline for locks is an array of padded mutexes that is indexed by the same hash: the lower
//! bound for a lock by key. Each row locks and unlocks. The baseline of shared locks and of cells
//! is an `RwLock`; that of `lock_all`, with three keys, is three mutexes in sorted order.
//!
//! | operation, one thread | ratio of time |
//! |---|---|
//! | `u64`, one key | <!--figure: exclusive, u64, one key vs padded Mutex-->1.00<!--/--> |
//! | `u64`, 4,096 keys | <!--figure: exclusive, u64, 4,096 keys vs padded Mutex-->0.99<!--/--> |
//! | `&str`, one key | <!--figure: exclusive, &str, one key vs padded Mutex-->1.00<!--/--> |
//! | shared, `u64` | <!--figure: shared, u64, one key vs padded RwLock, read-->0.82<!--/--> |
//! | `lock_all` | <!--figure: lock_all, three u64 keys vs three padded Mutexes-->1.21<!--/--> |
//! | read of a cell | <!--figure: read vs parking_lot::RwLock-->0.53<!--/--> |
//! | update of a cell | <!--figure: update vs parking_lot::RwLock-->2.3<!--/--> |
//!
//! - A transfer between two cells
//!   takes <!--figure: transfer vs as many ordered parking_lot mutexes-->2.3<!--/--> times the time
//!   of two ordered mutexes.
//! - A snapshot of 32 cells
//!   takes <!--figure: a snapshot of 32 cells vs as many ordered parking_lot mutexes-->0.08<!--/-->
//!   of the time of 32 mutexes.
//!
//! | operation, several threads | ratio of throughput |
//! |---|---|
//! | 8 threads, 16 keys | <!--figure: 8 threads, 16 keys vs padded Mutex-->1.13<!--/--> |
//! | 8 threads, 1 key | <!--figure: 8 threads, 1 key vs padded Mutex-->0.98<!--/--> |
//! | 2 threads, 1 key | <!--figure: 2 threads, 1 key vs padded Mutex-->0.88<!--/--> |
//! | shared | <!--figure: 2 threads, one key, shared vs padded RwLock, read-->0.84<!--/--> |
//!
//! ## `dashmap`, `lockmap`, `keyed-lock`, `lockable`
//! | lock and unlock of a free key, against | ratio of time |
//! |---|---|
//! | `dashmap`: insert and remove | <!--figure: u64, one key vs dashmap-->0.32<!--/--> |
//! | `lockmap` | <!--figure: u64, one key vs lockmap-->0.19<!--/--> |
//! | `keyed-lock` | <!--figure: u64, one key vs keyed-lock-->0.13<!--/--> |
//! | `lockable` | <!--figure: u64, one key vs lockable, try_lock-->0.10<!--/--> |
//!
//! ## `tokio::sync::Mutex`
//! - A task that hands a key to another task on the same thread
//!   needs <!--figure: two tasks hand one key over, Eventual vs tokio::sync::Mutex-->1.6<!--/-->
//!   times the time.
//! - A `lock_async` that is polled once
//!   takes <!--figure: lock_async polled once, one key vs lock-->1.5<!--/--> times the time of
//!   `lock`, and allocates nothing.
#![doc = "\
- 8 threads on one key under `Fifo`
  reach <!--figure: 8 threads on one key, Fifo vs tokio::sync::Mutex::blocking_lock-->7.2<!--/-->
  times the throughput of `blocking_lock`."]
//!
//! ## `arc-swap`
//! | here | there | ratio of time |
//! |---|---|---|
//! | `read` | `load` | <!--figure: read vs ArcSwap::load-->0.57<!--/--> |
//! | `read_in` | `load` | <!--figure: read_in vs ArcSwap::load-->0.02<!--/--> |
//! | `read_in` | `Cache::load` | <!--figure: read_in vs arc_swap::Cache-->0.88<!--/--> |
//! | `read_owned` | `load_full` | <!--figure: read_owned vs ArcSwap::load_full-->0.90<!--/--> |
//! | `update` | `rcu` | <!--figure: update vs ArcSwap::rcu-->0.21<!--/--> |
//!
//! ## `papaya`, `dashmap`, `scc`, `moka`
//! Maps of `u64` to `u64`. Reads are under one pin, which stands for a guard of `papaya`. *Growth*
//! inserts new keys into an empty map, and *insert* into a map that was made for them.
//!
//! | operation, one thread | against | ratio of time |
//! |---|---|---|
//! | read | `papaya` | <!--figure: get_in, held pin, 2^14 keys vs papaya-->0.97<!--/--> |
//! | read | `dashmap` | <!--figure: get_in, held pin, 2^14 keys vs dashmap-->0.45<!--/--> |
//! | read | `scc` | <!--figure: get_in, held pin, 2^14 keys vs scc-->0.30<!--/--> |
//! | insert | `papaya` | <!--figure: insert of new keys, presized vs papaya-->0.97<!--/--> |
//! | growth | `papaya` | <!--figure: insert of new keys, growing vs papaya-->0.66<!--/--> |
//! | growth | `dashmap` | <!--figure: insert of new keys, growing vs dashmap-->2.44<!--/--> |
//! | update | `papaya` | <!--figure: update, 2^14 keys vs papaya-->0.84<!--/--> |
//! | update | `dashmap` | <!--figure: update, 2^14 keys vs dashmap-->3.06<!--/--> |
//! | update | `scc` | <!--figure: update, 2^14 keys vs scc-->2.07<!--/--> |
//! | lock, set | `dashmap` | <!--figure: lock, set and commit vs dashmap, get_mut-->4.1<!--/--> |
//! | scan | `papaya` | <!--figure: scan of 1,000,000 keys vs papaya, values-->1.20<!--/--> |
//!
//! - After each key was updated once, a read
//!   takes <!--figure: get_in, held pin, 2^14 keys, updated once vs papaya-->1.91<!--/--> times the
//!   time of `papaya`.
#![doc = "\
- To remove a key and insert another one
  takes <!--figure: churn: remove and insert, 2^14 keys vs papaya-->1.71<!--/--> times the time of
  `papaya`, and <!--figure: churn: remove and insert, 2^14 keys vs dashmap-->4.49<!--/--> times that
  of `dashmap`."]
//! - A batch of four conditional puts
//!   takes <!--figure: batch of 4 conditional puts vs Mutex<HashMap>-->7.69<!--/--> times the time
//!   of one mutex around a `HashMap`.
//! - Two threads with 98 % reads
//!   reach <!--figure: map, 98 % reads, two threads vs papaya, two threads-->1.19<!--/--> of the
//!   throughput of `papaya`,
//!   and <!--figure: map, 10 % reads, two threads vs papaya, two threads-->2.56<!--/--> times with
//!   10 % reads.
//! - A key and its value
//!   need <!--figure: a key that was never updated-->82.1<!--/--> bytes, and those of
//!   `papaya` <!--figure: papaya: a key-->34.0<!--/-->.
//! - `moka` was not measured: each of its reads also records the use of the key.
//!
//! ## `stm`
//! | transaction | ratio of time |
//! |---|---|
//! | transfer between two cells | <!--figure: transfer vs stm-->0.18<!--/--> |
//! | read of two cells | <!--figure: two cells read vs stm-->0.09<!--/--> |
//!
//! ## `crossbeam-skiplist`
//! The B+tree of `examples/btree.rs`, on optimistic latches, with two threads and 95 % reads,
//! reaches <!--figure: 2 threads, 95 % reads vs crossbeam-skiplist-->3.6<!--/--> times its
//! throughput, and <!--figure: 2 threads, 95 % reads vs RwLock<BTreeMap>-->2.9<!--/--> times that
//! of an `RwLock<BTreeMap>`.
//!
//! # What each operation costs
//! | operation | shared memory that it writes |
//! |---|---|
//! | `lock` and drop, uncontended | two atomic read-modify-writes of one word; no fence |
//! | the same, if another held key has its slot | up to six, and at times a new array of slots |
//! | `lock`, contended | a queue under a mutex of this key, and a sleep |
//! | `read` | a word of its own thread |
//! | `read_in` | nothing |
//! | `read_owned` and drop | two additions to a count that all of its readers share |
//! | `set`, `update` | one compare-and-swap of the cell, and a new node with its timestamp |
//! | a transaction that only reads | as `read`, and one validation for each new cell |
//! | a transaction that writes *n* cells | *n* compare-and-swaps, *n* nodes, and its status |
//! | `update_all` of *n* cells | the same, without a log |
//! | `transact` of up to four writes of present keys | as `update_all` |
//! | a snapshot of *n* cells | *n* loads, and after a write a compare-and-swap of a global clock |
//! | the first lock in a session | as `lock`, and an entry in a list |
//! | an optimistic read of a latch | nothing |
//! | an ordered lock | as `parking_lot`: the levels are not in the machine code |
//!
//! No operation allocates on the uncontended path of a lock, an asynchronous lock, or a set of up
//! to eight keys, if each key has a slot of the index for itself. The tests count allocations,
//! atomic operations and instructions, and fail if one is added.
//!
//! # Memory
//! - A held key occupies about <!--figure: default: index bytes for each lock-->48<!--/--> bytes,
//!   and its guard <!--figure: a guard-->16<!--/--> bytes. A free key occupies none.
//! - A table reserves at least 8 KiB, and 16 to 32 bytes for each of
//!   [`expected_locks`](crate::table::LockTableBuilder::expected_locks).
//! - A cell is one word. Its value is stored beside 32 bytes, in a cache line of its own if it has
//!   at most 32 bytes.
//! - Replaced values stay in the megabytes while pins are short: 8 threads on 2 cores that update
//!   without a pause
//!   keep <!--figure: 8 threads, each its own cell, update: memory-->31<!--/--> MiB.
//!
//! # Where it is slower
//! - *Hot values.* On one or two values that all threads change, use a mutex. In the main job,
//!   transactions reach a twelfth of the throughput of one global mutex when a step does nothing
//!   else. With 1 µs of work in each step, `lock_all` exceeds the global mutex by two thirds.
//! - *Updates.* An update of a cell costs several uncontended mutexes; see above.
//! - *Maps.* Reads, updates in place, removals and walks of other maps are faster; see above.
//! - *`Fairness::Fifo`.* Under contention, each lock costs a context switch. 8 threads on 16 keys
//!   reach <!--figure: 8 threads, 16 keys, Fifo vs padded Mutex-->0.24<!--/--> of the throughput of
//!   the mutexes.
//! - *Sessions.* An uncontended lock in a session needs more time than a plain one:
//!   by <!--figure: lock and unlock in a session, one key vs LockTable::lock + drop-->1.2<!--/-->.
//! - *Many locks at once.* With a million held keys, 4,096 other keys in turn
//!   take <!--figure: default: 4,096 other keys, in turn vs an empty table-->2.3<!--/--> times the
//!   time: the slot of one key in five has a held key.
//! - *A writer beside an auditor* that reads all cells in a loop
//!   keeps <!--figure: one thread that transfers, beside one auditor vs alone-->0.3<!--/--> of its
//!   throughput; see [`optimistic`](super::optimistic#where-optimistic-loses).
//!
//! The report begins with fifteen tasks and the next best choice for each. Its section *Where it
//! falls short* lists every target that was missed.
//!
//! # Tuning
//! 1. Set [`expected_locks`](crate::table::LockTableBuilder::expected_locks) if thousands of keys
//!    are held at once. On 64-bit Linux a table grows by itself, but operations are slower while
//!    its keys move, and the operation that ends a move returns the memory of the other root to the
//!    system: a call of at most about a millisecond for 32 MiB, the root for a million keys.
//! 2. Keep [`Fairness::Eventual`](crate::Fairness::Eventual) unless strict order is required.
//! 3. Read many cells under one [`pin`](crate::pin()), with `read_in`.
//! 4. Keep transactions small, and read the contended cells last. If a transaction reads and writes
//!    two to eight known cells, use [`update_all`](crate::update_all()).
//! 5. Replace a counter that every transaction writes by several cells, and sum them in a
//!    [`snapshot`](crate::snapshot()).
//! 6. Label the transactions, and read [`stats`](crate::stats()): it counts aborts by reason.
//!
//! # Measure it yourself
//! A ratio of another machine is a hint. In the repository:
//!
//! | question | command |
//! |---|---|
//! | the report, on your machine | `cargo run --release -p latchwork-bench --bin report` |
//! | one section of it | the same, with `-- --only transactions` |
//! | one comparison, with percentiles | `cargo bench -p latchwork-bench --bench uncontended` |
//! | throughput over threads, with plots | `… --bin sweep -- --quick` |
//! | cache misses on up to 64 virtual cores | `… --bin cores` |
//! | instructions and atomics of each call | `ci/gates` |
//! | a real workload, each strategy | `cargo run --release --example flights` |
//!
//! In your own program, measure with your values, your threads and your contention. Compare with
//! the simplest solution, such as one mutex, in the same process. Alternate the runs, and compare
//! medians: the clock of a busy machine changes during a measurement.
//!
//! A table counts its own waits:
//!
//! ```
//! use latchwork::LockTable;
//!
//! let table: LockTable<u64> = LockTable::new();
//! drop(table.lock(&1));
//! let stats = table.stats();
//! assert_eq!((stats.waits, stats.waiting), (0, 0)); // no thread had to queue
//! println!("longest wait: {:?}, index: {} bytes", stats.longest_wait, stats.index_bytes);
//! ```
