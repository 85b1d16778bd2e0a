//! Each promise of the crate, and what checks it.
//!
//! # How do I know that it is right
//! Every promise below is backed by rules. A rule is one sentence about the protocol of a module,
//! such as "at most one thread holds a slot exclusively". The rules are in the chapters of
//! [`internals`](super::internals), and each rule names the model or test that checks it. A script
//! fails if a rule names none. The instruments are:
//!
//! | instrument | method |
//! |---|---|
//! | models | loom executes every interleaving of a small program, within a bound on preemptions |
//! | weakened models | each ordering is weakened in turn, and a model must fail |
//! | mutants | single steps and operators are broken in turn, and a test must fail |
//! | histories | threads record calls, and a checker searches for a sequential order |
//! | schedules | shuttle executes random schedules, with the same checker |
//! | fuzzing | random calls are compared with a sequential reference |
//! | sanitizers | stress tests run under the address, leak and thread sanitizers |
//! | soak | hours of churn, cancellation and panics; growth of memory is a failure |
//! | counts | instructions, atomic operations and allocations must not increase |
//!
//! The file `docs/verification/VERIFICATION.md` of the repository states for each promise how far
//! each instrument reached, and which cases were *not* checked. `MUTANTS.md` in the same folder
//! argues each change of the code that no test detects. To repeat it all, run `ci/test.sh`.
//!
//! The tests ran on x86-64 with two cores. Loom covers the memory model of C++20 for small
//! programs, but no test ran on ARM or POWER. Miri was not used.
//!
//! # Locks by key
//! 1. **Mutual exclusion.** A key has one exclusive holder or any number of shared holders,
//!    including keys whose hashes collide. An unlock of a key happens before the next lock of it.
//!    *Checked by* rules S1 to S4, F1, F2, M1, M3 and M6: models, histories, schedules, fuzzing.
//! 2. **No lost waiter.** A waiter is woken or granted the key; a wake-up is never lost.
//!    *Checked by* rules M4, M5, M9 and W1 to W4: models, schedules.
//! 3. **No starvation.** At most 64 acquisitions bypass the longest-waiting waiter, or none under
//!    [`Fairness::Fifo`](crate::Fairness::Fifo). Readers do not starve writers, and writers do not
//!    starve readers. *Checked by* rules M7 and M8: models, and the tests `fairness`.
//! 4. **Independence.** An operation on one key never waits for a thread that is stalled in an
//!    operation on another key. *Argued in* the section *Progress* of its protocol; *checked by* a
//!    stress test and schedules.
//! 5. **Bounded memory.** Memory is bounded by the keys that are held or waited for at one time,
//!    including after timeouts, cancelled futures and panics. *Checked by* rules S5, F3 and M2:
//!    models, property tests, soak, and benchmarks of memory.
//! 6. **Exact tries.** A `try_lock` fails only if a conflicting lock is held or is being handed
//!    over; a shared one also fails if an exclusive waiter has queued. *Checked by* rule M8:
//!    models, a stress test, schedules.
//! 7. **Sets.** [`lock_all`](crate::LockTable::lock_all) locks all keys or none. Callers that hold
//!    nothing else of the table never deadlock. *Checked by* rules L1 and L2: models, schedules.
//! 8. **Upgrade and downgrade.** A downgrade has no free period. Of two upgrades, at most one
//!    succeeds. *Checked by* rules M10, M11 and M12: models.
//! 9. **Fencing tokens** of a key grow for as long as the table lives. *Checked by* rule T1: a
//!    model.
//! 10. **Cancel safety.** A future that is dropped leaves the queue, and passes on a key that it
//!     was granted. *Checked by* rule M9: models, schedules, fuzzing.
//!
//! # Sessions
//! 11. **Detection.** Each deadlock among the sessions and the waiting sets of a table is detected
//!     by a session or a set that waits, unless a session of it has disabled detection. *Checked
//!     by* rules D1 to D3, D6, D9 and D13: models, histories, a reference implementation.
//! 12. **No false report.** A report names a cycle that would have lasted. A cycle that only the
//!     order of a queue causes is resolved by reordering; every other cycle has one victim.
//!     *Checked by* rules D4, D5 and D7: models, schedules.
//! 13. **No cost before a wait.** A session reads no clock before it waits, and publishes nothing
//!     except under [`Policy::WaitDie`](crate::session::Policy::WaitDie). *Argued in* the protocol
//!     of sessions; a test counts the readings of the clock.
//!
//! # Cells
//! 14. **Whole values.** A read returns the value of one write, with its version, and never retries
//!     or waits, after the first use of a cell by its thread. *Checked by* rule C1: models,
//!     histories, sanitizers.
//! 15. **No lost write.** Each committed write adds one to the version. A conditional write
//!     succeeds only against the version that it names. *Checked by* rules C2 and C3: models,
//!     histories, fuzzing.
//! 16. **Wake-up.** A thread or task that waits for a change is woken by the first write after its
//!     check. Writers pay nothing while none waits. *Checked by* rule C5: models, and counts.
//! 17. **Reclamation.** A replaced value is dropped once, and not while a reader can see it.
//!     Garbage does not depend on the thread that left it, and a chain of cells needs the stack of
//!     one destructor. *Checked by* rules R1 to R6 and R10: models, fuzzing, the address sanitizer,
//!     soak.
//!
//! # Transactions and snapshots
//! 18. **Strict serialisability.** One order of all transactions, snapshots and single calls
//!     explains their results, and agrees with real time. *Checked by* rules X2, X3 and C4: models,
//!     histories, schedules.
//! 19. **Opacity.** No attempt sees a state that never existed, including attempts that abort.
//!     *Checked by* rule X4: models, histories.
//! 20. **Atomicity.** All writes of a transaction become visible together. A panic in the closure
//!     leaves every cell unchanged. The same holds for [`update_all`](crate::update_all()).
//!     *Checked by* rules X2, X7 and X11: models, tests of panics.
//! 21. **Progress.** A transaction that repeatedly aborts escalates, acquires ownership of its
//!     cells in order of age (wound-wait), and commits after a bounded number of aborts. A stalled
//!     thread delays no reader. *Checked by* rule X6: models, and tests that stop a thread.
//! 22. **Retry.** A transaction that waits is woken by the first commit or write that changes its
//!     read set. *Checked by* rule X8: models, schedules.
//! 23. **Snapshots.** A snapshot sees each transaction whole or not at all. It never retries, and
//!     delays a commit by at most 16 validations. *Checked by* rules X5 and X9: models, histories.
//!
//! # Maps
//! 24. **Reads.** A `get` of a map waits for no writer, lock or removal, and not while the map
//!     grows. A key has at most one live entry. *Checked by* rules V1 to V4 and V8: models,
//!     fuzzing.
//! 25. **Versions.** Versions of a key never repeat, including over removal and insertion.
//!     *Checked by* rule V6: models, property tests, fuzzing.
//! 26. **Whole maps.** A snapshot returns all keys as of one instant, including while the map
//!     grows. It delays writers as that of cells does. *Checked by* rules V5, V7 and V9: models,
//!     histories.
//! 27. **Removal.** A removed entry is freed once, and not while a reader can see it. A waiter for
//!     a key misses no change. *Checked by* rules V3, V10, V11 and V16: models, fuzzing, the
//!     address sanitizer.
//! 28. **Locks of keys.** A lock of a key excludes writers and transactions of the key, and no
//!     reader. *Checked by* rules V12, V13 and V15: models, fuzzing.
//! 29. **Batches.** The conditions of a batch are of one instant, and it writes all keys or none.
//!     *Checked by* rule V14: models, stress tests.
//!
//! # Order and latches
//! 30. **Levels.** A program that locks a lower level while it holds a higher one does not compile.
//!     *Checked by* examples that must not compile.
//! 31. **Latches.** A latch has one exclusive holder or any number of shared ones. A read that
//!     validates saw no partial write. A node that is removed is dropped once, after its last
//!     reader. *Checked by* rules O1 to O10: models, histories, structures against `BTreeMap`.
//!
//! # All of them
//! 32. **Soundness.** No safe program can cause undefined behaviour with this crate: with
//!     `mem::forget`, with panics in closures, destructors, hashers and wakers, and with futures
//!     that are dropped at any point. *Checked by* fuzzing, sanitizers and tests of each case.
//!     Unsafe code is confined to the modules that `CONTRIBUTING.md` lists, and each block states
//!     its argument.
//! 33. **Costs.** The uncontended paths have a fixed number of instructions and atomic operations.
//!     *Checked by* `ci/gates`, in every run.
//!
//! # Not promised
//! - That two keys never share a hash: see
//!   [Keys are hashes](super::limitations#keys-are-hashes).
//! - The duration of a call. Progress is bounded in steps, and not in time.
//! - The order in which the operating system runs threads that were woken.
//! - Deadlock freedom of threads that hold other locks: see
//!   [the limits of detection](super::limitations#plain-guards-are-invisible-to-detection).
