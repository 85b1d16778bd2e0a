//! Which types may cross threads: where they soundly can, and not otherwise.

use std::cell::Cell;
use std::error::Error;
use std::hash::Hash;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;

use latchwork::latch::{self, Coupled, OptimisticLatch};
use latchwork::ordered::{self, OrderedMutex, OrderedRwLock};
use latchwork::{
    Fairness, LockTable, Mode, RandomState, RetryPolicy, Session, Stats, VersionedCell,
    VersionedMap,
    cell::{
        ChangedFuture, ChangedValueFuture, Conflict, OwnedVersioned, ParseVersionError, ReadPin,
        UpdateError, Version, Versioned, VersionedRef,
    },
    map::{IntoIter, Iter, MapChangedFuture, MapConflict, MapStats, Occupied},
    session::{
        DeadlockKey, DeadlockParty, DeadlockReport, LockError, Policy, Savepoint, SavepointError,
        SessionId, SessionLockFuture,
    },
    table::{
        ExclusiveGuard, Fence, FencedCell, FencedRef, FencingToken, IntegerHasher, KeyId, LockSet,
        LockTableBuilder, ParseFencingTokenError, SharedGuard, SingleFlight, StaleFence,
        TableStats,
    },
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

// A session asks the hasher too. Its futures may move between the threads of an executor, and need
// not be pinned.
assert_impl_all!(Session<'static, Rc<u8>>: Send, Sync);
assert_not_impl_any!(Session<'static, u64, SendOnly>: Send, Sync);
assert_not_impl_any!(Session<'static, u64, Neither>: Send, Sync);
assert_impl_all!(SessionLockFuture<'static, 'static, Rc<u8>>: Send, Sync, Unpin, Future<Output = Result<(), LockError>>);
assert_not_impl_any!(SessionLockFuture<'static, 'static, u64, SendOnly>: Send, Sync);
assert_not_impl_any!(Session<'static, u64>: Clone);
assert_impl_all!(LockTable<u64>: UnwindSafe, RefUnwindSafe);
assert_impl_all!(LockError: Send, Sync, Clone, Error);
assert_impl_all!(DeadlockReport: Send, Sync, Clone);
assert_impl_all!(DeadlockParty: Send, Sync, Clone);
assert_impl_all!(DeadlockKey: Send, Sync, Clone, Eq);
assert_impl_all!(Policy: Send, Sync, Copy, Eq, Default);
assert_impl_all!(SessionId: Send, Sync, Copy, Ord, Hash);
assert_impl_all!(Savepoint: Send, Sync, Copy, Eq);
assert_impl_all!(SavepointError: Send, Sync, Copy, Eq, Error);

// Values.
assert_impl_all!(KeyId: Send, Sync, Copy, Eq, Hash);
assert_impl_all!(Mode: Send, Sync, Copy, Ord);
assert_impl_all!(Fairness: Send, Sync, Copy, Eq, Default);
assert_impl_all!(TableStats: Send, Sync, Clone);
assert_impl_all!(RandomState: Send, Sync, Clone, Default);

assert_impl_all!(IntegerHasher: Send, Sync, Copy, Default);
assert_impl_all!(FencingToken: Send, Sync, Copy, Ord, Hash);
assert_impl_all!(Fence: Send, Sync, Copy, Eq, Hash);
assert_not_impl_any!(Fence: PartialOrd); // one token and two nonces have no order
assert_impl_all!(ParseFencingTokenError: Send, Sync, Clone, Eq, Error);

// Callers on several threads share a key, to compare it, and a value, to clone it.
assert_impl_all!(SingleFlight<String, String>: Send, Sync, UnwindSafe, RefUnwindSafe, Default);
assert_not_impl_any!(SingleFlight<Rc<u8>, String>: Send, Sync);
assert_not_impl_any!(SingleFlight<String, Rc<u8>>: Send, Sync);
assert_not_impl_any!(SingleFlight<String, Cell<u8>>: Send, Sync);
assert_impl_all!(SingleFlight<String, String, SendOnly>: Send);
assert_not_impl_any!(SingleFlight<String, String, SendOnly>: Sync);
assert_not_impl_any!(SingleFlight<String, String, Neither>: Send, Sync);

// A guard is the proof of a lock: a copy would unlock twice.
assert_not_impl_any!(ExclusiveGuard<'static>: Clone, Copy);
assert_not_impl_any!(SharedGuard<'static>: Clone, Copy);
assert_not_impl_any!(LockSet<'static, u64, RandomState>: Clone, Copy);
assert_not_impl_any!(LockTable<u64>: Clone);

// A cell takes only values that may be shared and sent, so the cell may be both.
assert_impl_all!(VersionedCell<String>: Send, Sync, Unpin, UnwindSafe, RefUnwindSafe, Default, From<String>);
assert_not_impl_any!(VersionedCell<String>: Clone);
assert_impl_all!(VersionedMap<String, String>: Send, Sync, Unpin, UnwindSafe, RefUnwindSafe, Default);
assert_not_impl_any!(VersionedMap<String, String>: Clone);
assert_impl_all!(VersionedMap<u8, u8, SendOnly>: Send);
assert_not_impl_any!(VersionedMap<u8, u8, SendOnly>: Sync);
assert_impl_all!(IntoIter<String, String>: Send, Sync);
// An iterator uses the pin of its thread.
assert_not_impl_any!(Iter<'static, String, String>: Send, Sync);
assert_impl_all!(MapChangedFuture<'static, String, String, str, RandomState>: Send, Sync, Unpin);
assert_impl_all!(MapConflict<String>: Send, Sync, Error);
assert_impl_all!(Occupied<String, String>: Send, Sync, Error);
assert_impl_all!(MapStats: Send, Sync, Copy);

// A pin belongs to its thread: one that were dropped on another would unpin that.
assert_not_impl_any!(ReadPin: Send, Sync, Clone);
// So a snapshot stays too, but others may look at it.
assert_impl_all!(Versioned<'static, String>: Sync);
assert_not_impl_any!(Versioned<'static, String>: Send, Clone);
// This one only borrows the pin, which its thread keeps meanwhile.
assert_impl_all!(VersionedRef<'static, String>: Send, Sync, Copy);

// As the cell and the snapshot that they are made of.
assert_impl_all!(FencedCell<String>: Send, Sync, Unpin, UnwindSafe, RefUnwindSafe, Default, From<String>);
assert_impl_all!(FencedRef<'static, String>: Sync);
assert_not_impl_any!(FencedRef<'static, String>: Send, Clone);
assert_impl_all!(StaleFence<String>: Send, Sync, Clone, Eq, Error);

// As `Arc`.
assert_impl_all!(OwnedVersioned<String>: Send, Sync, Clone, Unpin, UnwindSafe, RefUnwindSafe);
assert_not_impl_any!(OwnedVersioned<String>: Copy);

// An executor may move it between its threads, and need not pin it.
assert_impl_all!(ChangedFuture<'static, String>: Send, Sync, Unpin, Future<Output = Version>);
assert_not_impl_any!(ChangedFuture<'static, String>: Clone);
assert_impl_all!(ChangedValueFuture<'static, String>: Send, Sync, Unpin, Future<Output = OwnedVersioned<String>>);
assert_not_impl_any!(ChangedValueFuture<'static, String>: Clone);

// What is returned is as good as what is in it.
assert_impl_all!(Version: Send, Sync, Copy, Ord, Hash, Default);
assert_impl_all!(Stats: Send, Sync, Clone, Eq, Default);
assert_impl_all!(RetryPolicy: Send, Sync, Copy, Eq, Default);
assert_impl_all!(ParseVersionError: Send, Sync, Clone, Eq, Error);
assert_impl_all!(Conflict<String>: Send, Sync, Clone, Eq, Error);
assert_impl_all!(Conflict<Rc<u8>>: Clone, Error);
assert_not_impl_any!(Conflict<Rc<u8>>: Send, Sync);
assert_not_impl_any!(Conflict<SendOnly>: Sync);
assert_impl_all!(UpdateError<std::fmt::Error>: Send, Sync, Copy, Eq, Error);
assert_not_impl_any!(UpdateError<Rc<u8>>: Send, Sync, Error);

/// Whoever has the pin reads, and lends what it has read to another thread.
#[test]
fn what_a_pin_keeps_is_lent_to_another_thread() {
    let cell = VersionedCell::new("a".to_owned());
    let pin = latchwork::pin();
    let (lent, snapshot) = (cell.read_in(&pin), cell.read());
    cell.set("b".to_owned());
    std::thread::scope(|scope| {
        let owned = scope.spawn(|| (lent.get().as_str(), snapshot.to_owned(), lent.to_owned()));
        let (text, first, second) = owned.join().expect("it may be looked at there");
        assert_eq!((text, first.as_str(), second.as_str()), ("a", "a", "a"));
    });
}

// Transactions: what says how is a value; an attempt and a view keep a pin, and stay.
assert_impl_all!(latchwork::Transaction: Send, Sync, Copy, Default);
assert_impl_all!(latchwork::Abort: Send, Sync, std::error::Error);
assert_impl_all!(latchwork::TxError<std::io::Error>: Send, Sync, std::error::Error);
assert_impl_all!(latchwork::txn::TxAbort<u8>: Send, Sync);
assert_impl_all!(latchwork::txn::AbortReasons: Send, Sync, Copy, Eq);
assert_impl_all!(latchwork::txn::LabelStats: Send, Sync, Copy, Eq);
assert_not_impl_any!(latchwork::Tx<'static, 'static>: Send, Sync, Clone);
assert_not_impl_any!(latchwork::txn::View<'static, 'static>: Send, Clone);
assert_impl_all!(latchwork::txn::TransactionFuture<'static, Rc<u8>, fn()>: Send, Unpin);
assert_not_impl_any!(latchwork::txn::TransactionFuture<'static, u8, Rc<u8>>: Send);
assert_impl_all!(latchwork::txn::TryTransactionFuture<'static, Rc<u8>, Rc<u8>, fn()>: Send, Unpin);
assert_not_impl_any!(latchwork::txn::TryTransactionFuture<'static, u8, u8, Rc<u8>>: Send);
assert_impl_all!(latchwork::cell::SetFuture<'static, String>: Send, Sync, Unpin, Future<Output = Version>);
assert_impl_all!(latchwork::cell::SwapFuture<'static, String>: Send, Sync, Unpin, Future<Output = OwnedVersioned<String>>);
assert_impl_all!(latchwork::cell::CompareAndSetFuture<'static, String>: Send, Sync, Unpin);
assert_impl_all!(latchwork::cell::UpdateFuture<'static, String, fn(&String) -> String>: Send, Sync, Unpin);
assert_not_impl_any!(latchwork::cell::UpdateFuture<'static, String, Rc<u8>>: Send);

// A latch gives `&T` to whoever reads or holds it, and its guards give no more: they go where that
// may go.
assert_impl_all!(OptimisticLatch<String>: Send, Sync, Unpin, Default, From<String>);
assert_impl_all!(OptimisticLatch<SendOnly>: Send);
assert_not_impl_any!(OptimisticLatch<SendOnly>: Sync);
assert_not_impl_any!(OptimisticLatch<Neither>: Send, Sync);
assert_impl_all!(latch::SharedGuard<'static, String>: Send, Sync);
assert_impl_all!(latch::ExclusiveGuard<'static, String>: Send, Sync);
assert_not_impl_any!(latch::SharedGuard<'static, SendOnly>: Send, Sync);
assert_not_impl_any!(latch::ExclusiveGuard<'static, SendOnly>: Send, Sync);
assert_not_impl_any!(latch::ExclusiveGuard<'static, u8>: Clone);
assert_impl_all!(Coupled<'static, String>: Send, Sync);
assert_not_impl_any!(Coupled<'static, SendOnly>: Send, Sync);
assert_impl_all!(latch::LatchVersion: Send, Sync, Copy, Eq);
assert_impl_all!(latch::Obsolete: Send, Sync, Copy, Error);
assert_impl_all!(latch::Restart: Send, Sync, Copy, Error, From<latch::Obsolete>);

// A node is dropped on any thread, and read on any.
assert_impl_all!(latch::Link<String>: Send, Sync, Default);
assert_impl_all!(latch::Unlinked<String>: Send, Sync);
assert_not_impl_any!(latch::Unlinked<String>: Clone, std::ops::DerefMut);

// A level says nothing of where a lock may go; keys and guards are part of their thread's order.
enum Level {}
assert_impl_all!(OrderedMutex<Level, SendOnly>: Send, Sync);
assert_not_impl_any!(OrderedMutex<Level, Neither>: Send, Sync);
assert_not_impl_any!(OrderedRwLock<Level, SendOnly>: Sync);
assert_impl_all!(OrderedRwLock<Level, String>: Send, Sync);
assert_not_impl_any!(ordered::OrderedMutexGuard<'static, u8>: Send);
assert_not_impl_any!(ordered::OrderedReadGuard<'static, u8>: Send);
assert_not_impl_any!(ordered::OrderedWriteGuard<'static, u8>: Send);
assert_not_impl_any!(ordered::RootToken: Send, Sync, Clone, Default);
assert_not_impl_any!(ordered::LevelToken<'static, ordered::Bottom>: Send, Sync, Clone, Default);
assert_impl_all!(ordered::checked::Mutex<SendOnly>: Send, Sync);
assert_impl_all!(ordered::checked::RwLock<String>: Send, Sync);
assert_not_impl_any!(ordered::checked::RwLock<SendOnly>: Sync);
assert_not_impl_any!(ordered::checked::MutexGuard<'static, u8>: Send);
assert_not_impl_any!(ordered::checked::RwLockReadGuard<'static, u8>: Send);
assert_not_impl_any!(ordered::checked::RwLockWriteGuard<'static, u8>: Send);

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
