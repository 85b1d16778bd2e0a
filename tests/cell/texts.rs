//! The whole text of each error and panic of cells and transactions that a user can see.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use latchwork::cell::{ParseVersionError, UpdateError, Version};
use latchwork::txn::AbortReasons;
use latchwork::{RetryPolicy, Transaction, TxError, VersionedCell, atomically};

const OWNED: &str = "cell is owned by a running transaction of this thread; access it through `Tx`";
const RETRY_WITHOUT_READS: &str =
    "`retry` would block indefinitely: the closure has read no cell that another thread can write";
/// Returns the text of the panic of a future that is polled too often.
fn polled(future: &str) -> String {
    format!(
        "{future} polled after it was ready, or after a poll that panicked; create a new future"
    )
}

/// Returns the message of the panic of `f`.
fn message(f: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(f)).expect_err("it panics");
    match panic.downcast::<String>() {
        Ok(message) => *message,
        Err(panic) => (*panic.downcast::<&str>().expect("a message")).to_owned(),
    }
}

fn poll_twice(future: impl Future) {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    assert!(future.as_mut().poll(&mut context).is_ready());
    let _ = future.poll(&mut context);
}

#[test]
fn errors_of_versions() {
    let text = |text: &str| {
        let error: ParseVersionError = text.parse::<Version>().unwrap_err();
        error.to_string()
    };
    assert_eq!(
        text("v7"),
        "invalid version: it must consist of decimal digits only"
    );
    assert_eq!(
        text("18446744073709551616"),
        "version out of range: the greatest one is 18446744073709551615"
    );
}

#[test]
fn errors_of_writes() {
    let cell = VersionedCell::new(0);
    cell.set(1);
    let conflict = cell.compare_and_set(Version::FIRST, 2).unwrap_err();
    assert_eq!(
        conflict.to_string(),
        "expected version 0, but the current version is 1; read the cell again"
    );
    let texts = [
        UpdateError::Contended,
        UpdateError::TimedOut,
        UpdateError::Aborted("no funds"),
    ]
    .map(|error| error.to_string());
    assert_eq!(
        texts,
        [
            "every allowed attempt of the update conflicted with another write; \
             retry, or allow more attempts",
            "the update timed out before an attempt succeeded; retry, or allow more time",
            "the update was aborted: no funds",
        ]
    );
}

#[test]
fn panics_of_builders() {
    assert_eq!(
        message(|| drop(VersionedCell::with_version(0, Version::new(1 << 63)))),
        "version 9223372036854775808 is greater than `Version::MAX_INITIAL`, 9223372036854775807; \
         pass a smaller version"
    );
    assert_eq!(
        message(|| _ = RetryPolicy::attempts(0)),
        "an update needs at least one attempt; pass 1 or more to `RetryPolicy`"
    );
    assert_eq!(
        message(|| _ = Transaction::builder().max_attempts(0)),
        "a transaction needs at least one attempt; pass 1 or more to `max_attempts`"
    );
}

#[test]
fn panics_of_futures() {
    let cell = VersionedCell::new(0);
    let written = polled("future of a write");
    assert_eq!(message(|| poll_twice(cell.set_async(1))), written);
    assert_eq!(message(|| poll_twice(cell.swap_async(1))), written);
    let version = cell.version();
    assert_eq!(
        message(|| poll_twice(cell.compare_and_set_async(version, 2))),
        written
    );
    assert_eq!(
        message(|| poll_twice(cell.update_async(|n| n + 1))),
        written
    );
    let read = Transaction::builder().run_async(|tx| Ok(*tx.read(&cell)?));
    assert_eq!(
        message(|| poll_twice(read)),
        polled("future of a transaction")
    );
}

#[test]
fn errors_of_transactions() {
    let mut text = String::new();
    let ended = Transaction::builder().run(|tx| {
        text = tx.retry::<()>().unwrap_err().to_string();
        Ok(())
    });
    assert_eq!(ended, Err(TxError::RetryWithoutReads));
    assert_eq!(
        text,
        "the attempt of the transaction has ended; return this error from the closure"
    );
    let reasons = AbortReasons::default();
    assert_eq!(
        reasons.to_string(),
        "0 read conflicts, 0 write conflicts, overtaken 0 times"
    );
    let contended = TxError::<&str>::Contended {
        attempts: 3,
        reasons,
    };
    assert_eq!(
        contended.to_string(),
        "all 3 attempts of the transaction aborted: \
         0 read conflicts, 0 write conflicts, overtaken 0 times; allow more attempts"
    );
    let texts = [
        TxError::TimedOut,
        TxError::Aborted("no funds"),
        TxError::RetryWithoutReads,
    ]
    .map(|error| error.to_string());
    assert_eq!(
        texts,
        [
            "the transaction timed out before it committed; retry, or allow more time",
            "the transaction was aborted: no funds",
            RETRY_WITHOUT_READS,
        ]
    );
}

#[test]
fn panics_of_transactions() {
    assert_eq!(message(|| atomically(|tx| tx.retry())), RETRY_WITHOUT_READS);
}

/// After eight aborts a transaction owns each cell that it reads.
fn inside_an_escalated_transaction(f: impl Fn(&VersionedCell<u32>)) -> String {
    let cell = VersionedCell::new(0);
    let conflicts: Vec<_> = (0..8).map(VersionedCell::new).collect();
    let mut attempts = 0;
    message(|| {
        atomically(|tx| {
            attempts += 1;
            tx.read(&cell)?;
            if let Some(conflict) = conflicts.get(attempts - 1) {
                tx.read(conflict)?;
                latchwork::outside_of_closures(|| conflict.set(0));
                tx.set(conflict, 1)
            } else {
                latchwork::outside_of_closures(|| f(&cell));
                Ok(())
            }
        });
    })
}

#[test]
fn panics_of_accesses_to_an_owned_cell() {
    assert_eq!(
        inside_an_escalated_transaction(|cell| _ = cell.set(7)),
        OWNED
    );
    assert_eq!(
        inside_an_escalated_transaction(|cell| {
            _ = cell.wait_changed_for(cell.version(), Duration::from_secs(60));
        }),
        OWNED
    );
    assert_eq!(
        inside_an_escalated_transaction(|cell| atomically(|tx| tx.set(cell, 7))),
        "cell is owned by an outer transaction of this thread; \
         pass the outer `Tx` instead of nesting"
    );
}

#[cfg(debug_assertions)]
#[test]
fn panics_of_debug_builds() {
    let cell = VersionedCell::new(0_u8);
    let mut line = 0;
    let text = message(|| {
        let transfer = Transaction::builder().label("transfer");
        let _ = transfer.run(|tx| {
            tx.read(&cell)?;
            line = line!() + 1;
            cell.set(1);
            Ok(())
        });
    });
    assert_eq!(
        text,
        format!(
            "direct access to a `VersionedCell<u8>` at tests/cell/texts.rs:{line}:18, inside the \
             closure of the transaction \"transfer\" that has read or written it; access it \
             through `Tx`"
        )
    );
    let text = message(|| {
        let pin = latchwork::pin();
        line = line!() + 1;
        cell.wait_changed(cell.version());
        drop(pin);
    });
    assert_eq!(text, pinned_wait(&format!("{line}:14")));
}

#[cfg(debug_assertions)]
fn pinned_wait(place: &str) -> String {
    format!(
        "wait for a change at tests/cell/texts.rs:{place}, while this thread keeps a `Versioned` or \
         a `ReadPin`, or is inside the closure of a snapshot, an update or another transaction; \
         this holds back the replaced values of all cells: drop it first, or use `read_owned`"
    )
}

/// The text names the line of the caller, not one of this crate, and the label.
#[cfg(debug_assertions)]
#[test]
fn panics_of_a_retry_while_the_thread_is_pinned() {
    let cell = VersionedCell::new(0_u8);
    let mut line = 0;
    let text = message(|| {
        let _value = cell.read();
        let take = Transaction::builder().label("take");
        line = line!() + 1;
        let _ = take.run(|tx| {
            tx.read(&cell)?;
            tx.retry::<()>()
        });
    });
    assert_eq!(
        text,
        pinned_wait(&format!("{line}:22 in the transaction \"take\""))
    );
    let text = message(|| {
        let _value = cell.read();
        line = line!() + 1;
        let _ = Transaction::builder().try_run(|tx| {
            tx.read(&cell)?;
            Ok::<(), latchwork::txn::TxAbort<()>>(tx.retry()?)
        });
    });
    assert_eq!(text, pinned_wait(&format!("{line}:40")));
    let text = message(|| {
        let _value = cell.read();
        line = line!() + 1;
        atomically(|tx| {
            tx.read(&cell)?;
            tx.retry()
        })
    });
    assert_eq!(text, pinned_wait(&format!("{line}:9")));
}

/// The location that the panic itself reports is the caller's too.
#[cfg(debug_assertions)]
#[test]
fn the_location_of_a_panic_is_a_line_of_the_caller() {
    let cell = VersionedCell::new(0_u8);
    for wait in [
        &(|| _ = cell.wait_changed(cell.version())) as &dyn Fn(),
        &|| {
            atomically(|tx| {
                tx.read(&cell)?;
                tx.retry()
            })
        },
    ] {
        let place = std::sync::Arc::new(std::sync::Mutex::new(None));
        let seen = place.clone();
        let this = std::thread::current().id();
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if std::thread::current().id() == this {
                *seen.lock().unwrap() = info.location().map(|at| at.file().to_owned());
            }
        }));
        let pin = latchwork::pin();
        message(wait);
        drop(pin);
        std::panic::set_hook(before);
        assert_eq!(place.lock().unwrap().as_deref(), Some(file!()));
    }
}
