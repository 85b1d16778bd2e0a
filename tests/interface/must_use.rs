//! Results that are of no use if they are dropped at once: the compiler warns of each. An
//! expectation that is not fulfilled does not compile.
#![deny(unfulfilled_lint_expectations)]

use std::sync::Arc;

use latchwork::cell::pin;
use latchwork::table::FencedCell;
use latchwork::{LockTable, Mode, Transaction, VersionedCell, VersionedMap};

macro_rules! warns {
    ($($call:expr;)*) => {
        $(
            #[expect(unused_must_use, reason = "the warning is what is tested")]
            {
                $call;
            }
        )*
    };
}

#[test]
fn what_is_dropped_at_once_is_warned_of() {
    let (cell, fenced) = (VersionedCell::new(1), FencedCell::new(1));
    let (table, map) = (Arc::new(LockTable::<i32>::new()), VersionedMap::new());
    map.insert(1, 1);
    warns! {
        pin();
        cell.read();
        cell.read_in(&pin());
        cell.read_owned();
        fenced.read();
        cell.changed(cell.version());
        cell.set_async(2);
        table.session();
        table.lock(&1);
        table.lock_shared(&1);
        table.lock_all([(&1, Mode::Exclusive), (&2, Mode::Shared)]);
        table.lock_async(&1);
        table.lock_owned(&1);
        map.lock(&1);
        map.session();
        map.lock_async(&1);
        map.transact();
        Transaction::builder();
    }
    assert_eq!(cell.get(), 1, "a future that is not polled writes nothing");
    assert!(
        table.try_lock(&1).is_some(),
        "a guard that is dropped unlocks"
    );
}
