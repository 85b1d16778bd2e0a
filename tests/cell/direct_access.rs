//! A direct access to a cell inside the closure of a transaction that has it in its log: debug
//! builds panic at once.
#![cfg(all(debug_assertions, not(any(latchwork_loom, latchwork_shuttle))))]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::common::watchdog;
use latchwork::{RetryPolicy, Transaction, VersionedCell, atomically, cell::Version, snapshot};

type Access = fn(&VersionedCell<u16>);

/// Each access to a cell that is not by a transaction or a snapshot.
const ACCESSES: &[(&str, Access)] = &[
    ("get", |cell| _ = cell.get()),
    ("read", |cell| drop(cell.read())),
    ("read_in", |cell| {
        _ = cell.read_in(&latchwork::pin()).version()
    }),
    ("read_owned", |cell| drop(cell.read_owned())),
    ("version", |cell| _ = cell.version()),
    ("set", |cell| _ = cell.set(1)),
    ("swap", |cell| drop(cell.swap(1))),
    ("compare_and_set", |cell| {
        _ = cell.compare_and_set(Version::FIRST, 1)
    }),
    ("update", |cell| _ = cell.update(|n| n + 1)),
    ("try_update", |cell| {
        _ = cell.try_update(&RetryPolicy::attempts(1), |n| Ok::<_, ()>(n + 1))
    }),
    ("update_and_get", |cell| {
        drop(cell.update_and_get(|n| n + 1))
    }),
    ("fetch_update", |cell| {
        drop(cell.fetch_update(|n| Some(n + 1)))
    }),
    ("wait_changed_value", |cell| {
        drop(cell.wait_changed_value(Version::new(9)))
    }),
    ("wait_changed_value_for", |cell| {
        drop(cell.wait_changed_value_for(Version::FIRST, Duration::ZERO))
    }),
    ("wait_changed", |cell| {
        _ = cell.wait_changed(Version::new(9))
    }),
    ("wait_changed_for", |cell| {
        _ = cell.wait_changed_for(Version::FIRST, Duration::ZERO)
    }),
];

fn message(f: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(f)).expect_err("it panics");
    *panic.downcast::<String>().expect("a formatted message")
}

#[test]
fn a_direct_access_to_a_cell_in_the_log_panics() {
    for &(name, access) in ACCESSES {
        for writes in [false, true] {
            let (cell, mut attempts) = (VersionedCell::new(0_u16), 0);
            let text = message(|| {
                let transfer = Transaction::builder().label("transfer");
                let _ = transfer.run(|tx| {
                    attempts += 1;
                    match writes {
                        true => tx.set(&cell, 7)?,
                        false => drop(tx.read(&cell)?),
                    }
                    access(&cell);
                    Ok(())
                });
            });
            for part in ["u16", "\"transfer\"", "tests/cell/direct_access.rs:"] {
                assert!(text.contains(part), "{name}: {text}");
            }
            assert_eq!(
                (attempts, cell.get(), cell.version()),
                (1, 0, Version::FIRST),
                "{name}"
            );
        }
    }
}

/// An inner closure is inside the outer one.
#[test]
fn a_nested_closure_does_not_access_a_cell_of_the_outer_log() {
    let (outer, inner) = (VersionedCell::new(0), VersionedCell::new(0));
    let text = message(|| {
        atomically(|tx| {
            tx.read(&outer)?;
            atomically(|tx| {
                tx.read(&inner)?;
                outer.set(1);
                Ok(())
            });
            Ok(())
        });
    });
    assert!(
        text.contains("direct access to a `VersionedCell<"),
        "{text}"
    );
}

#[test]
fn an_access_that_bypasses_no_transaction_is_allowed() {
    let _dog = watchdog("an_access_that_bypasses_no_transaction_is_allowed");
    let (logged, other) = (VersionedCell::new(0), VersionedCell::new(0));
    atomically(|tx| {
        let n = *tx.read(&logged)?;
        for (_, access) in ACCESSES {
            let free = VersionedCell::new(0_u16);
            access(&free);
        }
        other.update(|m| m + 1);
        // Another thread, a snapshot, a nested transaction, and debug output.
        thread::scope(|s| drop(s.spawn(|| logged.get()).join()));
        assert_eq!(snapshot(|s| *s.read(&logged)), 0);
        assert_eq!(atomically(|tx| Ok(*tx.read(&logged)?)), 0);
        assert!(format!("{logged:?}").contains("value: 0"));
        tx.set(&logged, n + 1)
    });
    // The closure is over, whether it has committed or not.
    assert_eq!(logged.get(), 1);
    let panics = catch_unwind(AssertUnwindSafe(|| {
        atomically(|tx| {
            tx.read(&logged)?;
            std::panic::resume_unwind(Box::new(()));
            #[allow(unreachable_code)]
            Ok(())
        });
    }));
    assert!(panics.is_err());
    assert_eq!(logged.get(), 1);
}

/// Destructors of values run between the lines of a closure, and after it. They are none of its
/// code.
#[test]
fn a_destructor_accesses_a_cell_in_the_log() {
    let _dog = watchdog("a_destructor_accesses_a_cell_in_the_log");
    struct Counts(Arc<VersionedCell<u32>>);
    impl Drop for Counts {
        fn drop(&mut self) {
            self.0.update(|n| n + 1);
        }
    }
    let dropped = Arc::new(VersionedCell::new(0));
    let cell = VersionedCell::new(Counts(dropped.clone()));
    for _ in 0..1_000 {
        cell.set(Counts(dropped.clone()));
    }
    // It may be lost to the destructors. It does not panic.
    let _ = Transaction::builder().max_attempts(1).run(|tx| {
        tx.read(&dropped)?;
        // Replaced before it is written: dropped after the attempt.
        tx.set(&cell, Counts(dropped.clone()))?;
        tx.set(&cell, Counts(dropped.clone()))?;
        // Runs destructors of earlier values.
        latchwork::flush();
        Ok(())
    });
    assert!(dropped.get() > 0);
}

#[test]
fn a_thread_does_not_sleep_while_it_is_pinned() {
    let _dog = watchdog("a_thread_does_not_sleep_while_it_is_pinned");
    let cell = VersionedCell::new(0);
    let long = Duration::from_secs(3600);
    let seen = cell.read();
    let waits: [&dyn Fn(); 4] = [
        &|| _ = cell.wait_changed(seen.version()),
        &|| _ = cell.wait_changed_for(seen.version(), long),
        &|| {
            atomically(|tx| {
                tx.read(&cell)?;
                tx.retry()
            })
        },
        &|| {
            _ = Transaction::builder().timeout(long).run(|tx| {
                tx.read(&cell)?;
                tx.retry::<()>()
            })
        },
    ];
    for wait in waits {
        let text = message(wait);
        assert!(
            text.contains("while this thread keeps a `Versioned`"),
            "{text}"
        );
    }
    // None of these sleeps.
    assert_eq!(cell.wait_changed_for(seen.version(), Duration::ZERO), None);
    assert_eq!(cell.wait_changed(Version::new(5)), Version::FIRST);
}
