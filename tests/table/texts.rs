//! The texts of the errors and panics of `latchwork::table`.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use latchwork::table::{
    Fence, FencedCell, FencingToken, IntegerHasher, LockInfo, OwnerInfo, SingleFlight, StaleFence,
};
use latchwork::{LockTable, Mode, Stats};

/// Returns the message of the panic of `f`.
fn panic_text(f: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(f)).expect_err("it panics");
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => (*panic.downcast::<&str>().expect("a text")).to_owned(),
    }
}

/// Polls `future` until it is ready, and then once more.
fn poll_again<F: Future>(future: F) {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    assert!(matches!(future.as_mut().poll(&mut context), Poll::Ready(_)));
    let _ = future.as_mut().poll(&mut context);
}

#[test]
fn a_text_that_is_no_fencing_token() {
    let text = |text: &str| text.parse::<FencingToken>().unwrap_err().to_string();
    let not_a_number = "invalid fencing token: expected decimal digits without a sign";
    for bad in ["", "+7", "-7", "7x", " 7"] {
        assert_eq!(text(bad), not_a_number, "{bad:?}");
    }
    let too_great = "invalid fencing token: the number exceeds 64 bits";
    assert_eq!(text("18446744073709551616"), too_great);
}

#[test]
fn a_write_with_a_stale_fence() {
    let fence = |token, nonce| Fence::new(FencingToken::new(token), nonce);
    let cell = FencedCell::new(0);
    cell.write(fence(5, 1), 1)
        .expect("the cell has seen no fence");
    let stale: StaleFence<i32> = cell.write(fence(4, 1), 2).unwrap_err();
    assert_eq!(
        stale.to_string(),
        "write refused: fencing token 4 is stale, because the cell has seen token 5; \
         acquire the lock again to get a newer token"
    );
    let other = cell.update(fence(5, 2), |n| n + 1).unwrap_err();
    assert_eq!(
        other.to_string(),
        "write refused: fencing token 5 is stale, because the cell has seen token 5 from another \
         holder; acquire the lock again to get a newer token"
    );
}

#[test]
fn a_key_that_is_no_integer() {
    let text = |found: &str| {
        format!(
            "`IntegerHasher` requires a key that writes one integer of at most 64 bits, but the \
             key wrote {found}; use `RandomState` for such keys"
        )
    };
    let names = LockTable::<str, IntegerHasher>::default();
    assert_eq!(panic_text(|| drop(names.lock("a"))), text("bytes"));
    let pairs = LockTable::<(u8, u8), IntegerHasher>::default();
    assert_eq!(
        panic_text(|| drop(pairs.lock(&(1, 2)))),
        text("two integers")
    );
    let wide = LockTable::<u128, IntegerHasher>::default();
    assert_eq!(
        panic_text(|| drop(wide.lock(&1))),
        text("an integer of 128 bits")
    );
    let units = LockTable::<(), IntegerHasher>::default();
    assert_eq!(panic_text(|| drop(units.lock(&()))), text("nothing"));
}

#[test]
fn a_lock_future_that_is_polled_after_it_was_ready() {
    let text = "future of a lock polled after it was ready, or after a poll that panicked; \
                create a new future";
    let table: Arc<LockTable<u64>> = Arc::default();
    assert_eq!(panic_text(|| poll_again(table.lock_async(&1))), text);
    assert_eq!(panic_text(|| poll_again(table.lock_shared_async(&1))), text);
    assert_eq!(panic_text(|| poll_again(table.lock_async_owned(&1))), text);
    assert_eq!(
        panic_text(|| poll_again(table.lock_shared_async_owned(&1))),
        text
    );
    assert_eq!(table.locked_count(), 0);
}

#[test]
fn a_future_of_lock_all_that_is_polled_after_it_was_ready() {
    let text = "future of `lock_all` polled after it was ready, or after a poll that panicked; \
                create a new future";
    let table: Arc<LockTable<u64>> = Arc::default();
    let keys = || [(&1, Mode::Exclusive), (&2, Mode::Shared)];
    assert_eq!(
        panic_text(|| poll_again(table.lock_all_async(keys()))),
        text
    );
    assert_eq!(
        panic_text(|| poll_again(table.lock_all_async_owned(keys()))),
        text
    );
    assert_eq!(table.locked_count(), 0);
}

#[test]
fn a_future_of_a_single_flight_that_is_polled_after_it_was_ready() {
    let flights = SingleFlight::new();
    let text = panic_text(|| poll_again(flights.run_async("a", || async { 7 })));
    // The text is that of the standard library.
    assert_eq!(text, "`async fn` resumed after completion");
}

#[test]
fn a_key_with_a_waiter_as_text() {
    let table = LockTable::<u64>::builder()
        .hasher(IntegerHasher::new())
        .key_labels(|id| format!("account {}", IntegerHasher::key_of(id)))
        .build();
    let guard = table.lock_shared(&7);
    let mut future = pin!(table.lock_async(&7));
    let mut context = Context::from_waker(Waker::noop());
    assert!(future.as_mut().poll(&mut context).is_pending());
    let locks: Vec<LockInfo> = table.inspect();
    let waited = locks[0].waiters[0].waited;
    assert_eq!(
        locks[0].to_string(),
        format!(
            "account 7: held shared by 1 holder (unknown)\n  \
             a lock of one key waits to hold it exclusively, for {waited:?}"
        )
    );
    drop(guard);
}

#[test]
fn an_owner_as_text() {
    let table: LockTable<u64> = LockTable::new();
    let guard = table.lock(&1);
    let mut named = table.session().named("checkout-17");
    let mut unnamed = table.session();
    let mut context = Context::from_waker(Waker::noop());
    let mut futures = (
        pin!(named.lock_async(&1)),
        pin!(unnamed.lock_async(&1)),
        pin!(table.lock_all_async([(&1, Mode::Shared)])),
        pin!(table.lock_all_async([
            (&1, Mode::Shared),
            (&1, Mode::Exclusive),
            (&2, Mode::Shared)
        ])),
    );
    assert!(futures.0.as_mut().poll(&mut context).is_pending());
    assert!(futures.1.as_mut().poll(&mut context).is_pending());
    assert!(futures.2.as_mut().poll(&mut context).is_pending());
    assert!(futures.3.as_mut().poll(&mut context).is_pending());
    // Key 2 may be locked and have no waiter.
    let locks = table.inspect();
    let waiters = locks.iter().find(|lock| !lock.waiters.is_empty());
    let owners: Vec<OwnerInfo> = waiters
        .expect("four wait")
        .waiters
        .iter()
        .map(|waiter| waiter.owner.clone().expect("no plain lock waits"))
        .collect();
    let texts: Vec<String> = owners.iter().map(OwnerInfo::to_string).collect();
    let id = |n: usize| owners[n].id;
    let expected = [
        format!("checkout-17 ({})", id(0)),
        format!("session {}", id(1)),
        format!("set of 1 key ({})", id(2)),
        format!("set of 2 keys ({})", id(3)),
    ];
    assert_eq!(texts, expected);
    drop(guard);
}

#[test]
fn the_statistics_as_text() {
    let mut stats = Stats::default();
    let aborts = stats.aborts;
    assert_eq!(
        stats.to_string(),
        format!("0 retired values wait for reclamation (0 bytes)\naborted attempts: {aborts}")
    );
    stats.garbage = 3;
    stats.garbage_bytes = 96;
    stats.oldest_pin = Some(Duration::from_millis(5));
    assert_eq!(
        stats.to_string(),
        format!(
            "3 retired values wait for reclamation (96 bytes), the oldest for 5ms\n\
             aborted attempts: {aborts}"
        )
    );
}

/// The sources of the crate.
fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the sources are there") {
        let path = entry.expect("the folder is readable").path();
        match path.is_dir() {
            true => sources(&path, files),
            false => files.push(path),
        }
    }
}

/// The names of the public functions whose section *Blocking* begins with one of `starts`.
fn that_block(source: &str, starts: &[&str]) -> Vec<String> {
    let (mut docs, mut found) = (Vec::new(), Vec::new());
    for line in source.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            docs.push(text.trim().to_owned());
            continue;
        }
        if line.starts_with("#[") {
            continue;
        }
        let signature = line
            .strip_prefix("pub fn ")
            .or_else(|| line.strip_prefix("pub async fn "));
        let section = docs.iter().position(|text| text == "# Blocking");
        if let (Some(signature), Some(section)) = (signature, section) {
            let blocks = starts
                .iter()
                .any(|start| docs[section + 1].starts_with(start));
            let end = signature.find(|c: char| !c.is_alphanumeric() && c != '_');
            let name = &signature[..end.expect("it has parameters")];
            found.extend(blocks.then(|| name.to_owned()));
        }
        docs.clear();
    }
    found
}

/// The table of the calls that block a thread omitted single flights, timed forms and others.
#[test]
fn each_call_that_blocks_is_in_the_table_of_blocking_calls() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let chapter = std::fs::read_to_string(root.join("docs/limitations.rs")).expect("it is there");
    let (_, table) = chapter.split_once("# What blocks").expect("the section");
    let (table, _) = table
        .split_once("*See below*")
        .expect("the end of the table");
    let is_listed = |name: &str| {
        // An owned form blocks as the form that it is named after.
        let name = name.strip_suffix("_owned").unwrap_or(name);
        let mut words = table.split(|c: char| !c.is_alphanumeric() && c != '_');
        words.any(|word| word == name)
    };
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut count = 0;
    for file in files {
        let source = std::fs::read_to_string(&file).expect("a source is a text");
        let starts = ["Blocks the thread", "Blocks as", "Blocks for"];
        for name in that_block(&source, &starts) {
            count += 1;
            // A `Tx` is used within a closure, whose transaction is listed.
            let is_of_tx = name.starts_with("retry");
            assert!(is_of_tx || is_listed(&name), "{name} in {}", file.display());
        }
    }
    assert!(count > 40, "{count}");
}
