//! Which types may cross threads: where they soundly can, and not otherwise.

use std::cell::Cell;
use std::rc::Rc;

use latchwork::{
    ExclusiveGuard, Fairness, KeyId, LockSet, LockTable, LockTableBuilder, Mode, RandomState,
    SharedGuard, TableStats,
};
use static_assertions::{assert_impl_all, assert_not_impl_any};

/// A hasher that may move to another thread, but not be used from two.
type SendOnly = Cell<u64>;
/// A hasher that must stay on its thread.
type Neither = Rc<u64>;

// No key is stored, so a key that must stay on its thread does not keep the table there.
assert_impl_all!(LockTable<u64>: Send, Sync);
assert_impl_all!(LockTable<str>: Send, Sync);
assert_impl_all!(LockTable<*const u8>: Send, Sync);
assert_impl_all!(LockTable<Rc<u8>>: Send, Sync);
assert_impl_all!(LockTableBuilder<Rc<u8>>: Send, Sync);

// The hasher is stored, and every call uses it.
assert_impl_all!(LockTable<u64, SendOnly>: Send);
assert_not_impl_any!(LockTable<u64, SendOnly>: Sync);
assert_not_impl_any!(LockTable<u64, Neither>: Send, Sync);
assert_impl_all!(LockTableBuilder<u64, SendOnly>: Send);
assert_not_impl_any!(LockTableBuilder<u64, SendOnly>: Sync);
assert_not_impl_any!(LockTableBuilder<u64, Neither>: Send, Sync);

// Guards know the hash and need no hasher.
assert_impl_all!(ExclusiveGuard<'static>: Send, Sync);
assert_impl_all!(SharedGuard<'static>: Send, Sync);

// A set hashes the keys that it is asked about: a reference to the table, in effect.
assert_impl_all!(LockSet<'static, Rc<u8>, RandomState>: Send, Sync);
assert_not_impl_any!(LockSet<'static, u64, SendOnly>: Send, Sync);
assert_not_impl_any!(LockSet<'static, u64, Neither>: Send, Sync);

// Values.
assert_impl_all!(KeyId: Send, Sync, Copy, Eq, std::hash::Hash);
assert_impl_all!(Mode: Send, Sync, Copy, Ord);
assert_impl_all!(Fairness: Send, Sync, Copy, Eq, Default);
assert_impl_all!(TableStats: Send, Sync, Clone);
assert_impl_all!(RandomState: Send, Sync, Clone, Default);

// A guard is the proof of a lock: a copy would unlock twice.
assert_not_impl_any!(ExclusiveGuard<'static>: Clone, Copy);
assert_not_impl_any!(SharedGuard<'static>: Clone, Copy);
assert_not_impl_any!(LockSet<'static, u64, RandomState>: Clone, Copy);
assert_not_impl_any!(LockTable<u64>: Clone);

#[test]
fn the_table_of_keys_that_cannot_be_sent_is_used_from_two_threads() {
    let table: LockTable<Rc<u8>> = LockTable::new();
    std::thread::scope(|scope| {
        let guard = table.lock(&Rc::new(1));
        scope
            .spawn(|| {
                assert!(table.try_lock(&Rc::new(1)).is_none());
                assert!(table.try_lock(&Rc::new(2)).is_some());
            })
            .join()
            .expect("the table may be used there");
        scope
            .spawn(move || drop(guard))
            .join()
            .expect("the guard may be dropped there");
    });
}
