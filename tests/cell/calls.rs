//! What a cell does, call by call: values, versions, conflicts, snapshots, waiting.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::tasks::{Bell, poll_with};
use crate::common::watchdog;
use latchwork::{
    RetryPolicy, Transaction, VersionedCell,
    cell::{Conflict, UpdateError, Version},
};

fn version(n: u64) -> Version {
    Version::new(n)
}

#[test]
fn each_write_counts_once() {
    let mut cell = VersionedCell::new(0);
    assert_eq!(cell.version(), Version::FIRST);
    assert_eq!(cell.set(1), version(1));
    assert_eq!(*cell.swap(2), 1);
    assert_eq!(cell.compare_and_set(version(2), 3), Ok(version(3)));
    assert_eq!(cell.update(|n| n + 1), version(4));
    *cell.get_mut().expect("nobody shares it") += 1;
    let add = |n: &i32| Ok::<_, ()>(n + 1);
    assert_eq!(
        cell.try_update(&RetryPolicy::attempts(1), add),
        Ok(version(6))
    );
    assert_eq!((cell.get(), cell.version()), (6, version(6)));
    assert_eq!(cell.into_inner().expect("nobody shares it"), 6);
}

#[test]
fn what_was_read_stays() {
    let cell = VersionedCell::new(String::new());
    cell.set("a".to_owned());
    let snapshot = cell.read();
    let pin = latchwork::pin();
    let borrowed = cell.read_in(&pin);
    let owned = cell.read_owned();
    let from_snapshot = snapshot.to_owned();
    for n in 0..1000 {
        cell.set(n.to_string());
        latchwork::flush();
    }
    assert_eq!(
        (&**snapshot, &**borrowed, &**owned, &**from_snapshot),
        ("a", "a", "a", "a")
    );
    for seen in [snapshot.version(), borrowed.version(), owned.version()] {
        assert_eq!(seen, version(1));
    }
    assert_eq!(
        (cell.get().as_str(), cell.version()),
        ("999", version(1001))
    );
}

/// A version from the future, of another cell, or of a cell that was replaced is a conflict, and
/// the value comes back.
#[test]
fn a_wrong_version_is_a_conflict_that_loses_nothing() {
    let cell = VersionedCell::new("a".to_owned());
    let other = VersionedCell::with_version(String::new(), version(7));
    for expected in [version(1), other.version(), version(u64::MAX)] {
        let Conflict {
            expected: said,
            current,
            value,
        } = cell.compare_and_set(expected, "b".to_owned()).unwrap_err();
        assert_eq!((said, current, &*value), (expected, Version::FIRST, "b"));
    }
    assert_eq!((&*cell.get(), cell.version()), ("a", Version::FIRST));
}

#[test]
fn a_version_beyond_reach_is_refused() {
    let cell = VersionedCell::with_version(0, Version::MAX_INITIAL);
    assert_eq!(cell.set(1), version(Version::MAX_INITIAL.get() + 1));
    let refused = catch_unwind(|| VersionedCell::with_version(0, version(1 << 63))).unwrap_err();
    assert_eq!(
        refused.downcast_ref::<String>().unwrap(),
        "version 9223372036854775808 is greater than `Version::MAX_INITIAL`, 9223372036854775807; \
         pass a smaller version"
    );
}

#[test]
fn versions_are_written_and_read() {
    for n in [0, 1, u64::MAX] {
        assert_eq!(version(n).to_string().parse(), Ok(version(n)));
        assert_eq!(u64::from(version(n)), n);
    }
    for wrong in [
        "",
        "+1",
        "-1",
        " 1",
        "1 ",
        "0x1",
        "1.0",
        "one",
        "18446744073709551616",
    ] {
        let error = wrong.parse::<Version>().unwrap_err().to_string();
        let is_known = ["invalid version: ", "version out of range: "]
            .iter()
            .any(|start| error.starts_with(start));
        assert!(is_known, "{wrong:?}: {error}");
    }
    // Too long, and no number at all.
    let error = "99999999999999999999999_".parse::<Version>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "invalid version: it must consist of decimal digits only"
    );
    assert!(version(2) < version(10));
}

#[test]
fn an_update_that_is_aborted_or_lost_writes_nothing() {
    let cell = VersionedCell::new(0);
    let aborted = cell.try_update(&RetryPolicy::forever(), |_| Err("no"));
    assert_eq!(aborted, Err(UpdateError::Aborted("no")));

    // Each attempt loses to a write that the closure itself makes.
    let lose = |policy: &RetryPolicy| {
        let mut calls = 0;
        let lost = cell.try_update(policy, |n| {
            calls += 1;
            cell.set(*n);
            Ok::<_, ()>(-1)
        });
        (lost, calls)
    };
    assert_eq!(
        lose(&RetryPolicy::attempts(3)),
        (Err(UpdateError::Contended), 3)
    );
    // A deadline that is past already: one attempt.
    let past = RetryPolicy::deadline(Instant::now() - Duration::from_secs(1));
    assert_eq!(lose(&past), (Err(UpdateError::TimedOut), 1));
    let soon = RetryPolicy::timeout(Duration::from_millis(2));
    assert_eq!(lose(&soon).0, Err(UpdateError::TimedOut));
    let never = RetryPolicy::timeout(Duration::MAX).or_attempts(2);
    assert_eq!(lose(&never), (Err(UpdateError::Contended), 2));
    assert_eq!(cell.get(), 0);
    // And one that is past does not keep the first attempt from succeeding.
    assert!(cell.try_update(&past, |n| Ok::<_, ()>(n + 1)).is_ok());
}

/// Somebody begins to wait between an attempt's read and its write, which changes the word: nobody
/// has written, so the only attempt is not lost.
#[test]
fn a_waiter_takes_no_attempt_from_an_update() {
    let cell = VersionedCell::new(0);
    let mut calls = 0;
    let updated = cell.try_update(&RetryPolicy::attempts(1), |n| {
        calls += 1;
        let unchanged = cell.wait_changed_for(cell.version(), Duration::ZERO);
        assert_eq!(unchanged, None);
        Ok::<_, ()>(n + 1)
    });
    assert_eq!((updated, calls), (Ok(version(1)), 1));
}

#[test]
fn a_policy_without_an_attempt_is_refused() {
    let refused = catch_unwind(|| RetryPolicy::attempts(0)).unwrap_err();
    assert_eq!(
        refused.downcast_ref::<String>().unwrap(),
        "an update needs at least one attempt; pass 1 or more to `RetryPolicy`"
    );
}

#[test]
fn a_closure_that_panics_leaves_the_cell_as_it_was() {
    let cell = VersionedCell::new(1);
    let panics = catch_unwind(AssertUnwindSafe(|| {
        cell.update(|_| std::panic::resume_unwind(Box::new("no")))
    }));
    assert!(panics.is_err());
    assert_eq!((cell.get(), cell.version()), (1, Version::FIRST));
    assert_eq!(cell.update(|n| n + 1), version(1));
}

/// The closure reads, waits for and writes other cells, and reads its own.
#[test]
fn a_closure_may_use_cells() {
    let (a, b) = (VersionedCell::new(1), VersionedCell::new(10));
    a.update(|n| {
        b.update(|m| m + n + *a.read());
        b.wait_changed(Version::FIRST);
        n + 1
    });
    assert_eq!((a.get(), b.get()), (2, 12));
}

#[test]
fn a_shared_value_is_not_moved_and_not_changed_in_place() {
    let mut cell = VersionedCell::new("a".to_owned());
    let owned = cell.read_owned();
    assert!(cell.get_mut().is_none());
    let back = cell.into_inner().unwrap_err();
    assert_eq!((&**back, &**owned), ("a", "a"));
    drop(owned);
    assert_eq!(back.into_value().unwrap(), "a");
}

#[test]
fn everything_says_what_it_is() {
    let cell = VersionedCell::new(5);
    let pin = latchwork::pin();
    let text = |value: &dyn Debug| format!("{value:?}");
    assert_eq!(text(&cell), "VersionedCell { version: 0, value: 5 }");
    assert_eq!(text(&cell.read()), "Versioned { version: 0, value: 5 }");
    assert_eq!(
        text(&cell.read_in(&pin)),
        "VersionedRef { version: 0, value: 5 }"
    );
    assert_eq!(
        text(&cell.read_owned()),
        "OwnedVersioned { version: 0, value: 5 }"
    );
    assert_eq!(text(&pin), "ReadPin { .. }");
    let waiting = cell.changed(Version::FIRST);
    assert_eq!(
        text(&waiting),
        "ChangedFuture { seen: Version(0), is_waiting: false, .. }"
    );
}

#[test]
fn a_waiter_sees_the_write_that_it_waits_for() {
    let _dog = watchdog("a_waiter_sees_the_write_that_it_waits_for");
    let cell = VersionedCell::new(0);
    thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| {
                let mut seen = Version::FIRST;
                while seen < version(2000) {
                    let next = cell.wait_changed(seen);
                    assert!(next > seen);
                    seen = next;
                }
            });
        }
        for n in 1..=2000 {
            cell.set(n);
            if n % 16 == 0 {
                thread::yield_now();
            }
        }
    });
}

#[test]
fn waiting_for_another_version_than_the_current_one_does_not_wait() {
    let cell = VersionedCell::with_version(0, version(5));
    for other in [Version::FIRST, version(4), version(6), version(u64::MAX)] {
        assert_eq!(cell.wait_changed(other), version(5));
        assert_eq!(
            cell.wait_changed_for(other, Duration::ZERO),
            Some(version(5))
        );
        assert_eq!(pollster::block_on(cell.changed(other)), version(5));
    }
    assert_eq!(cell.wait_changed_for(version(5), Duration::ZERO), None);
    assert_eq!(
        cell.wait_changed_for(version(5), Duration::from_millis(3)),
        None
    );
}

/// Its waker is dropped, and not kept until the next write.
#[test]
fn who_gives_up_leaves_nothing() {
    let cell = VersionedCell::new(0);
    let (bell, waker) = Bell::new();
    let held = || Arc::strong_count(&bell);
    let alone = held();
    let mut changed = cell.changed(cell.version());
    assert!(poll_with(&mut changed, &waker).is_pending());
    assert!(held() > alone);
    drop(changed);
    assert_eq!(held(), alone);
    let mut retries = Box::pin(Transaction::builder().run_async(|tx| {
        tx.read(&cell)?;
        tx.retry::<()>()
    }));
    assert!(poll_with(&mut retries, &waker).is_pending());
    assert!(held() > alone);
    drop(retries);
    assert_eq!(held(), alone);
    cell.set(1);
    assert_eq!(bell.rings(), 0);
}

#[test]
fn tasks_wait_on_any_runtime() {
    let _dog = watchdog("tasks_wait_on_any_runtime");
    let cell = Arc::new(VersionedCell::new(0));
    let follow = |cell: Arc<VersionedCell<u64>>| async move {
        let mut seen = Version::FIRST;
        while seen < version(300) {
            seen = cell.changed(seen).await;
        }
        seen
    };
    let done = AtomicBool::new(false);
    thread::scope(|s| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .build()
            .unwrap();
        let on_tokio = runtime.spawn(follow(cell.clone()));
        let on_smol = s.spawn(|| smol::block_on(follow(cell.clone())));
        s.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                cell.update(|n| n + 1);
                thread::yield_now();
            }
        });
        assert!(runtime.block_on(on_tokio).unwrap() >= version(300));
        assert!(on_smol.join().unwrap() >= version(300));
        done.store(true, Ordering::Relaxed);
    });
}
