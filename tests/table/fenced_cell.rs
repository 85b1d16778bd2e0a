//! A cell that refuses the writes of earlier holders.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::common::tasks::panics;
use latchwork::{
    LockTable,
    table::{Fence, FencedCell, FencingToken, StaleFence},
};
use proptest::collection::vec;
use proptest::prelude::*;

fn fence(token: u64, nonce: u128) -> Fence {
    Fence::new(FencingToken::new(token), nonce)
}

proptest! {
    /// The model is the rule of the documentation, on two plain variables.
    #[test]
    fn every_sequence_of_writes_does_what_the_model_says(
        calls in vec((0..5_u64, 0..3_u128, any::<u32>(), any::<bool>()), 0..40)
    ) {
        let cell = FencedCell::new(0);
        let (mut seen, mut value, mut version) = (None::<Fence>, 0, 0);
        for (token, nonce, next, by_update) in calls {
            let offered = fence(token, nonce);
            let accepted = seen.is_none_or(|seen| {
                offered.token > seen.token
                    || offered.token == seen.token && offered.nonce == seen.nonce
            });
            let mut calls = 0;
            let result = if by_update {
                let written = cell.update(offered, |old| {
                    calls += 1;
                    old ^ next
                });
                written.map_err(|StaleFence { offered, seen, value: () }| (offered, seen))
            } else {
                let written = cell.write(offered, next);
                if let Err(stale) = &written {
                    prop_assert_eq!(stale.value, next);
                }
                written.map_err(|stale| (stale.offered, stale.seen))
            };
            prop_assert_eq!(calls, usize::from(by_update && accepted));
            if accepted {
                value = if by_update { value ^ next } else { next };
                seen = Some(offered);
                version += 1;
                prop_assert_eq!(result.map(|version| version.get()), Ok(version));
            } else {
                prop_assert_eq!(result, Err((offered, seen.expect("it refuses"))));
            }
            prop_assert_eq!(cell.seen(), seen);
            let read = cell.read();
            prop_assert_eq!((*read, read.fence(), read.version().get()), (value, seen, version));
        }
    }
}

#[test]
fn a_holder_that_was_cut_off_cannot_write_late() {
    let (table, cell) = (LockTable::<str>::new(), FencedCell::new("nothing"));
    let cut_off = table.lock("report").fence();
    let guard = table.lock("report");
    let fence = guard.fence();
    assert_eq!((fence.nonce, fence.token > cut_off.token), (0, true));
    cell.write(fence, "new").expect("it is newer");
    assert_eq!(cell.write(cut_off, "late").unwrap_err().value, "late");
    assert_eq!(*cell.read(), "new");
    drop(guard);
    let owned = std::sync::Arc::new(table).lock_owned("report");
    cell.write(owned.fence(), "newest")
        .expect("it is newer still");
}

#[test]
fn of_two_holders_of_one_token_only_one_ever_writes() {
    let cell = FencedCell::new(0);
    let start = Barrier::new(4);
    let accepted: Vec<u128> = thread::scope(|s| {
        let writers: Vec<_> = (1..=4_u128)
            .map(|nonce| {
                let (cell, start) = (&cell, &start);
                s.spawn(move || {
                    start.wait();
                    let accepted = (0..100).filter(|_| cell.write(fence(1, nonce), nonce).is_ok());
                    match accepted.count() {
                        0 => None,
                        100 => Some(nonce),
                        n => panic!("{n} of 100 writes of one holder were accepted"),
                    }
                })
            })
            .collect();
        writers
            .into_iter()
            .filter_map(|w| w.join().unwrap())
            .collect()
    });
    assert_eq!(accepted, [*cell.read()]);
}

#[test]
fn tokens_never_fall_and_no_accepted_update_is_lost() {
    let cell = FencedCell::new((0_u64, 0_u64));
    let (tokens, accepted) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| {
                for _ in 0..500 {
                    let token = tokens.fetch_add(1, Ordering::Relaxed) + 1;
                    let written = cell.update(fence(token, 0), |(count, _)| (count + 1, token));
                    accepted.fetch_add(u64::from(written.is_ok()), Ordering::Relaxed);
                }
            });
        }
        s.spawn(|| {
            let mut last = None;
            for _ in 0..2000 {
                let read = cell.read();
                let seen = read.fence().map(|fence| fence.token);
                assert!(seen >= last, "{seen:?} after {last:?}");
                assert_eq!(seen.map_or(0, FencingToken::get), read.1);
                last = seen;
            }
        });
    });
    assert_eq!(cell.read().0, accepted.into_inner());
    assert_eq!(cell.read().1, 2000, "the greatest token is never refused");
}

#[test]
fn a_closure_that_panics_writes_nothing_and_shows_no_fence() {
    let cell = FencedCell::new(1);
    assert!(panics(|| {
        let _ = cell.update(fence(9, 0), |_| std::panic::resume_unwind(Box::new("no")));
    }));
    assert_eq!((*cell.read(), cell.seen()), (1, None));
    cell.write(fence(1, 0), 2).expect("no fence was seen");
}

#[test]
fn a_token_is_read_back_from_its_text_and_from_nothing_else() {
    for n in [0, 1, u64::MAX] {
        let token = FencingToken::new(n);
        assert_eq!((token.get(), u64::from(token)), (n, n));
        assert_eq!(token.to_string().parse(), Ok(token));
    }
    for wrong in [
        "",
        "+1",
        "-1",
        " 1",
        "1 ",
        "0x1",
        "1.0",
        "18446744073709551616",
        "١",
    ] {
        assert!(wrong.parse::<FencingToken>().is_err(), "{wrong:?}");
    }
}
