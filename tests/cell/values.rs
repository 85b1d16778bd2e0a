//! Accesses to a cell that return a value together with its version, and versions as entity tags.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use crate::common::tasks::{Bell, poll_with};
use crate::common::watchdog;
use latchwork::{
    VersionedCell,
    cell::{OwnedVersioned, Version},
};

fn version(n: u64) -> Version {
    Version::new(n)
}

#[test]
fn a_fetch_update_returns_the_previous_or_the_current_value() {
    let cell = VersionedCell::new(2_u32);
    let take = |n: &u32| n.checked_sub(1);
    for (previous, at) in [(2, 0), (1, 1)] {
        let seen = cell.fetch_update(take).expect("the value is not zero");
        assert_eq!((*seen, seen.version()), (previous, version(at)));
        assert_eq!(
            (cell.get(), cell.version()),
            (previous - 1, version(at + 1))
        );
    }
    let current = cell.fetch_update(take).unwrap_err();
    assert_eq!((*current, current.version()), (0, version(2)));
    assert_eq!(cell.version(), version(2), "nothing is written");
}

/// The first attempt loses to a write that the closure makes.
#[test]
fn a_lost_attempt_runs_the_closure_again_with_the_current_value() {
    let cell = VersionedCell::new(0);
    let seen_by = Cell::new(Vec::new());
    let spoil_once = |n: &u32| {
        let mut seen = seen_by.take();
        seen.push(*n);
        if seen.len() == 1 {
            cell.set(10);
        }
        seen_by.set(seen);
        *n + 1
    };
    let new = cell.update_and_get(spoil_once);
    assert_eq!((*new, new.version()), (11, version(2)));
    assert_eq!(seen_by.take(), [0, 10]);

    let old = cell.fetch_update(|n| Some(spoil_once(n))).unwrap();
    assert_eq!((*old, old.version()), (10, version(3)));
    assert_eq!(seen_by.take(), [11, 10]);
    assert_eq!((cell.get(), cell.version()), (11, version(4)));

    // The second call returns `None`.
    let current = cell.fetch_update(|n| {
        (*n == 11).then(|| {
            cell.set(20);
            0
        })
    });
    let current = current.unwrap_err();
    assert_eq!((*current, current.version()), (20, version(5)));
}

#[test]
fn a_panic_in_the_closure_writes_nothing() {
    let cell = VersionedCell::new("kept".to_owned());
    let panics = [
        catch_unwind(AssertUnwindSafe(|| {
            _ = cell.fetch_update(|_| panic!("here")).is_ok();
        })),
        catch_unwind(AssertUnwindSafe(|| {
            drop(cell.update_and_get(|_| panic!("here")));
        })),
    ];
    assert!(panics.iter().all(Result::is_err));
    assert_eq!(
        (cell.get().as_str(), cell.version()),
        ("kept", Version::FIRST)
    );
}

/// What a call returns is what this call has replaced and written, so no number is returned twice.
#[test]
fn each_of_many_threads_gets_the_values_of_its_own_write() {
    const WRITES: u64 = if cfg!(miri) { 20 } else { 500 };
    let cell = VersionedCell::new(0_u64);
    let mut written: Vec<u64> = thread::scope(|s| {
        let threads = [0, 1, 2, 3].map(|i| {
            let cell = &cell;
            s.spawn(move || {
                let write = |_| {
                    if i % 2 == 0 {
                        let new = cell.update_and_get(|n| n + 1);
                        assert_eq!(version(*new), new.version());
                        *new
                    } else {
                        let old = cell.fetch_update(|n| Some(n + 1)).unwrap();
                        assert_eq!(version(*old), old.version());
                        *old + 1
                    }
                };
                (0..WRITES).map(write).collect::<Vec<_>>()
            })
        });
        threads
            .into_iter()
            .flat_map(|t| t.join().unwrap())
            .collect()
    });
    written.sort_unstable();
    assert!(written.into_iter().eq(1..=4 * WRITES));
}

#[test]
fn a_write_that_returns_a_value_wakes_those_who_wait() {
    let cell = VersionedCell::new(0);
    for n in 1..=2 {
        let (bell, waker) = Bell::new();
        let mut changed = cell.changed(cell.version());
        assert!(poll_with(&mut changed, &waker).is_pending());
        match n {
            1 => drop(cell.update_and_get(|n| n + 1)),
            _ => drop(cell.fetch_update(|n| Some(n + 1))),
        }
        assert_eq!(bell.rings(), 1);
        assert_eq!(poll_with(&mut changed, &waker), Poll::Ready(version(n)));
    }
}

#[test]
fn another_value_than_the_seen_one_is_returned_at_once() {
    let cell = VersionedCell::with_version("five", version(5));
    let is_five = |value: OwnedVersioned<&str>| {
        assert_eq!((*value, value.version()), ("five", version(5)));
    };
    for other in [Version::FIRST, version(4), version(6), version(u64::MAX)] {
        is_five(cell.wait_changed_value(other));
        is_five(cell.wait_changed_value_for(other, Duration::ZERO).unwrap());
        is_five(pollster::block_on(cell.changed_value(other)));
    }
    for timeout in [Duration::ZERO, Duration::from_millis(3)] {
        assert!(cell.wait_changed_value_for(version(5), timeout).is_none());
    }
}

/// A watcher keeps the last value while it waits for the next one, which a pin would not permit.
#[test]
fn a_watcher_sees_values_that_belong_to_their_versions() {
    let _dog = watchdog("a_watcher_sees_values_that_belong_to_their_versions");
    const LAST: u64 = if cfg!(miri) { 50 } else { 2000 };
    let cell = VersionedCell::new(0_u64);
    thread::scope(|s| {
        for is_task in [false, true] {
            let cell = &cell;
            s.spawn(move || {
                let mut last = cell.read_owned();
                while *last < LAST {
                    let next = if is_task {
                        pollster::block_on(cell.changed_value(last.version()))
                    } else {
                        cell.wait_changed_value(last.version())
                    };
                    assert!(*next > *last);
                    assert_eq!(next.version(), version(*next));
                    last = next;
                }
            });
        }
        for n in 1..=LAST {
            cell.set(n);
        }
    });
}

/// A version may be named before it is written. The value with this version does not end the wait.
#[test]
fn a_wait_for_a_version_that_is_written_later_goes_on() {
    let cell = VersionedCell::new(0);
    let (bell, waker) = Bell::new();
    let mut changed = cell.changed_value(Version::FIRST);
    assert!(poll_with(&mut changed, &waker).is_pending());
    let text = format!("{changed:?}");
    assert_eq!(
        text,
        "ChangedValueFuture { seen: Version(0), is_waiting: true, .. }"
    );
    cell.set(1);
    assert_eq!(bell.rings(), 1);
    let Poll::Ready(value) = poll_with(&mut changed, &waker) else {
        panic!("the version is another one")
    };
    assert_eq!((*value, value.version()), (1, version(1)));
    let held = Arc::strong_count(&bell);
    drop(changed);
    assert_eq!(Arc::strong_count(&bell), held, "it keeps no waker");
}

#[test]
fn a_swap_of_a_task_returns_the_previous_value() {
    let cell = VersionedCell::new("a".to_owned());
    let (bell, waker) = Bell::new();
    let mut waits = cell.changed(Version::FIRST);
    assert!(poll_with(&mut waits, &waker).is_pending());
    let previous = pollster::block_on(cell.swap_async("b".to_owned()));
    assert_eq!(bell.rings(), 1);
    // It is kept without a pin, and may move to another thread.
    cell.set("c".to_owned());
    latchwork::flush();
    let previous = thread::spawn(move || (previous.version(), previous.clone()));
    let (at, value) = previous.join().unwrap();
    assert_eq!((at, value.as_str()), (Version::FIRST, "a"));

    drop(cell.swap_async("never".to_owned()));
    assert_eq!((cell.get().as_str(), cell.version()), ("c", version(2)));
    let mut ready = pin!(cell.swap_async("d".to_owned()));
    assert!(poll_with(&mut ready, &waker).is_ready());
    let again = catch_unwind(AssertUnwindSafe(|| {
        poll_with(&mut ready, &waker).is_ready()
    }));
    assert!(again.is_err(), "it does not write again");
    assert_eq!(cell.version(), version(3));
}

#[test]
fn an_entity_tag_names_one_version_and_a_version_one_tag() {
    for n in [0, 1, 10, u64::MAX] {
        let tag = version(n).to_etag();
        assert_eq!(tag, format!("\"{n}\""));
        assert_eq!(Version::from_etag(&tag), Ok(version(n)));
    }
    let number = "invalid version: it must consist of decimal digits only";
    let quoted = "invalid entity tag: it must be a version in double quotes";
    let wrong = [
        ("", quoted),
        ("17", quoted),
        ("\"", quoted),
        ("\"17", quoted),
        (" \"17\"", quoted),
        ("*", quoted),
        ("\"\"", number),
        ("\"+17\"", number),
        ("\"1\", \"2\"", number),
        ("\"-1\"", number),
        ("\"seventeen\"", number),
        (
            "\"018\"",
            "invalid entity tag: a version has no leading zeros",
        ),
        (
            "\"18446744073709551616\"",
            "version out of range: the greatest one is 18446744073709551615",
        ),
        (
            "W/\"17\"",
            "a weak entity tag does not identify a version: use a strong one",
        ),
    ];
    for (tag, text) in wrong {
        let error = Version::from_etag(tag).expect_err(tag);
        assert_eq!(error.to_string(), text, "{tag}");
    }
}

#[test]
fn conditional_fields_are_compared_as_http_requires() {
    let current = version(17);
    let (strong, weak) = (Version::is_in_if_match, Version::is_in_if_none_match);
    let fields = [
        // Field, If-Match, If-None-Match.
        ("\"17\"", true, true),
        ("W/\"17\"", false, true),
        ("\"16\"", false, false),
        ("*", true, true),
        (" * ", true, true),
        ("\"1\",\"17\"", true, true),
        ("\"1\" ,\t\"17\" , ", true, true),
        (",, \"17\"", true, true),
        ("W/\"17\", \"17\"", true, true),
        ("W/\"17\", \"18\"", false, true),
        // Tags of other servers are valid, including commas and characters that are not ASCII.
        ("\"a,b\", \"17\"", true, true),
        ("\"a, \u{e9}\"", false, false),
        ("\"\u{e9}\", \"17\"", true, true),
        ("\"\", \"17\"", true, true),
        ("\"+17\", \"017\", \"17 \"", false, false),
        // Malformed fields match nothing.
        ("", false, false),
        (",", false, false),
        ("17", false, false),
        ("w/\"17\"", false, false),
        ("W/ \"17\"", false, false),
        ("\"17", false, false),
        ("\"17\" \"18\"", false, false),
        ("\"17\"x", false, false),
        ("\"17\", *", false, false),
        ("\"17\", \"a b\"", false, false),
        ("\"17\", 18", false, false),
    ];
    for (field, if_match, if_none_match) in fields {
        assert_eq!(strong(current, field), if_match, "If-Match: {field}");
        assert_eq!(
            weak(current, field),
            if_none_match,
            "If-None-Match: {field}"
        );
    }
}
