//! Which types of the crate can stand for each other.
//!
//! A function that accepts any string is a subtype of a function that accepts only `'static`
//! strings. A type is *covariant* in a parameter if it follows the subtypes of this parameter. It
//! is *contravariant* if it reverses them, and *invariant* if it does neither. `'static` bounds do
//! not remove subtypes: functions and trait objects with higher-ranked lifetimes also have
//! subtypes.
//!
//! A type must be invariant in a value that can be replaced through a shared reference. Otherwise
//! a caller could store a value under one type and read it under another. A type may be covariant
//! if it only lends or returns the value with which it was created.
//!
//! | type | in | variance | reason |
//! |---|---|---|---|
//! | [`VersionedCell<T>`], its futures | `T` | invariant | `set` needs only `&self` |
//! | [`FencedCell<T>`] | `T` | invariant | `write` needs only `&self` |
//! | [`VersionedMap<K, V, S>`] | `K`, `V` | invariant | `insert` needs only `&self` |
//! | | `S` | covariant | the hasher is owned and never replaced |
//! | guards, sets, sessions, batches, futures of a map | `'m`, `S` | covariant | they borrow it |
//! | | `K`, `V` | invariant | they write the map |
//! | [`MapChangedFuture<'m, K, V, Q, S>`] | `Q` | contravariant | only its hash is used |
//! | [`EntryRef<'g, K, V>`] | `'g` | covariant | it borrows the guard |
//! | | `K`, `V` | invariant | it borrows the guard mutably |
//! | [`Iter<'p, K, V>`] | `'p` | covariant | it borrows the map and the pin |
//! | [`Iter<'p, K, V>`], [`IntoIter<K, V>`] | `K`, `V` | invariant | they refer to the map |
//! | [`Reason<V>`], [`Cancelled<V>`] | `V` | covariant | they own values |
//! | [`SingleFlight<K, V, S>`] | `K`, `V` | invariant | `run` needs only `&self` |
//! | | `S` | covariant | the hasher is owned and never replaced |
//! | [`Versioned<'c, T>`], [`VersionedRef<'p, T>`] | all | covariant | they lend a `&'c T` |
//! | [`FencedRef<'c, T>`] | all | covariant | it lends a `&'c T` |
//! | [`OwnedVersioned<T>`] | `T` | covariant | it shares a value, as `Arc<T>` |
//! | [`Conflict<T>`], [`UpdateError<E>`] | `T`, `E` | covariant | they own a value |
//! | [`StaleFence<T>`] | `T` | covariant | it owns a value |
//! | [`TxError<E>`], [`TxAbort<E>`] | `E` | covariant | they own a value |
//! | [`Tx<'t, 'env>`], [`View<'t, 'env>`] | both | invariant | a cell must live for the attempt |
//! | [`TransactionFuture<'env, R, F>`] | `'env` | invariant | as `Tx` |
//! | | `R`, `F` | covariant | it owns the closure and returns the result |
//! | [`TryTransactionFuture<'env, R, E, F>`] | `'env` | invariant | as `Tx` |
//! | | `R`, `E`, `F` | covariant | it owns the closure and returns the result |
//! | [`LockTable<K, S>`], builder, sets, owned forms | `K` | contravariant | keys are not stored |
//! | | `S` | covariant | the hasher is owned and never replaced |
//! | guards, sets and futures of a [`LockTable`] | `'t` | covariant | they borrow the table |
//! | [`Session<'t, K, S>`] | all | as `&'t LockTable<K, S>` | it borrows the table |
//! | [`SessionLockFuture<'s, 't, K, S>`] | `'s` | covariant | it borrows the session |
//! | | `'t`, `K`, `S` | invariant | it borrows the session mutably |
//! | [`OptimisticLatch<T>`], guards, [`Coupled<'l, T>`] | all | covariant | they lend only `&T` |
//! | [`Link<T>`] | `T` | invariant | `swap` replaces the node through `&self` |
//! | [`Unlinked<T>`] | `T` | covariant | it owns a node and lends `&T`, as `Box<T>` |
//! | [`OrderedMutex<L, T>`], [`OrderedRwLock<L, T>`] | `L` | invariant | a level must not change |
//! | | `T` | invariant | a guard lends `&mut T` |
//! | guards of ordered locks | `T` | invariant | a mutable guard lends `&mut T` |
//! | [`checked`] locks and their guards | `T` | invariant | a mutable guard lends `&mut T` |
//! | guards of both | the lifetime | covariant | they borrow the lock |
//! | [`LevelToken<'k, L>`] | `'k` | covariant | it borrows the previous token |
//! | | `L` | invariant | a level must not change |
//!
//! The compiler checks each line in the tests of this file: a coercion that must compile has a
//! twin that must not.
//!
//! [`Cancelled<V>`]: crate::map::Cancelled
//! [`Conflict<T>`]: crate::cell::Conflict
//! [`Coupled<'l, T>`]: crate::latch::Coupled
//! [`EntryRef<'g, K, V>`]: crate::map::EntryRef
//! [`FencedCell<T>`]: crate::table::FencedCell
//! [`FencedRef<'c, T>`]: crate::table::FencedRef
//! [`IntoIter<K, V>`]: crate::map::IntoIter
//! [`Iter<'p, K, V>`]: crate::map::Iter
//! [`LevelToken<'k, L>`]: crate::ordered::LevelToken
//! [`Link<T>`]: crate::latch::Link
//! [`LockTable<K, S>`]: crate::LockTable
//! [`LockTable`]: crate::LockTable
//! [`MapChangedFuture<'m, K, V, Q, S>`]: crate::map::MapChangedFuture
//! [`OptimisticLatch<T>`]: crate::latch::OptimisticLatch
//! [`OrderedMutex<L, T>`]: crate::ordered::OrderedMutex
//! [`OrderedRwLock<L, T>`]: crate::ordered::OrderedRwLock
//! [`OwnedVersioned<T>`]: crate::cell::OwnedVersioned
//! [`Reason<V>`]: crate::map::Reason
//! [`Session<'t, K, S>`]: crate::Session
//! [`SessionLockFuture<'s, 't, K, S>`]: crate::session::SessionLockFuture
//! [`SingleFlight<K, V, S>`]: crate::table::SingleFlight
//! [`StaleFence<T>`]: crate::table::StaleFence
//! [`TransactionFuture<'env, R, F>`]: crate::txn::TransactionFuture
//! [`TryTransactionFuture<'env, R, E, F>`]: crate::txn::TryTransactionFuture
//! [`TxAbort<E>`]: crate::txn::TxAbort
//! [`TxError<E>`]: crate::TxError
//! [`Tx<'t, 'env>`]: crate::Tx
//! [`Unlinked<T>`]: crate::latch::Unlinked
//! [`UpdateError<E>`]: crate::cell::UpdateError
//! [`VersionedCell<T>`]: crate::VersionedCell
//! [`VersionedMap<K, V, S>`]: crate::VersionedMap
//! [`VersionedRef<'p, T>`]: crate::cell::VersionedRef
//! [`Versioned<'c, T>`]: crate::cell::Versioned
//! [`View<'t, 'env>`]: crate::txn::View
//! [`checked`]: crate::ordered::checked

/// Makes one test for each direction in which `$ty` must coerce or must not. A third test without a
/// coercion must compile, which detects a mistake in the test itself.
#[cfg(doctest)]
macro_rules! row {
    (invariant $name:ident: $ty:literal) => {
        row!($name, "compile_fail", "compile_fail", $ty);
    };
    (covariant $name:ident: $ty:literal) => {
        row!($name, "", "compile_fail", $ty);
    };
    (contravariant $name:ident: $ty:literal) => {
        row!($name, "compile_fail", "", $ty);
    };
    ($name:ident, $follows:literal, $reverses:literal, $ty:literal) => {
        mod $name {
            #[doc = row!(text "", $ty, "Sub", "Sub")]
            struct Stays;
            #[doc = row!(text $follows, $ty, "Sub", "Super")]
            struct Follows;
            #[doc = row!(text $reverses, $ty, "Super", "Sub")]
            struct Reverses;
        }
    };
    (text $outcome:literal, $ty:literal, $from:literal, $to:literal) => {
        concat!(
            "```",
            $outcome,
            "\n",
            "use latchwork::{cell::*, latch, map::*, ordered, session::*, table::*, txn::*, *};\n",
            "struct OfLevel<X: 'static>(X);\n",
            "impl<X: 'static> ordered::Level for OfLevel<X> { const RANK: u32 = 1; }\n",
            "type Sub = for<'x> fn(&'x u8);\n",
            "type Super = fn(&'static u8);\n",
            "type Of<X> = ",
            $ty,
            ";\n",
            "fn coerce(from: Of<",
            $from,
            ">) -> Of<",
            $to,
            "> { from }\n",
            "```"
        )
    };
}

/// Makes the same tests for a lifetime: `'long` and `'short` replace the two types.
#[cfg(doctest)]
macro_rules! lifetime {
    (invariant $name:ident: $ty:literal) => {
        lifetime!($name, "compile_fail", "compile_fail", $ty);
    };
    (covariant $name:ident: $ty:literal) => {
        lifetime!($name, "", "compile_fail", $ty);
    };
    ($name:ident, $shortens:literal, $lengthens:literal, $ty:literal) => {
        mod $name {
            #[doc = lifetime!(text "", $ty, "long", "long")]
            struct Stays;
            #[doc = lifetime!(text $shortens, $ty, "long", "short")]
            struct Shortens;
            #[doc = lifetime!(text $lengthens, $ty, "short", "long")]
            struct Lengthens;
        }
    };
    (text $outcome:literal, $ty:literal, $from:literal, $to:literal) => {
        concat!(
            "```",
            $outcome,
            "\n",
            "use latchwork::{cell::*, latch, map::*, ordered, session::*, table::*, txn::*, *};\n",
            "type Of<'x> = ",
            $ty,
            ";\n",
            "fn coerce<'long: 'short, 'short>(from: Of<'",
            $from,
            ">) -> Of<'",
            $to,
            "> { from }\n",
            "```"
        )
    };
}

#[cfg(doctest)]
#[rustfmt::skip]
mod tests {
    row!(invariant cell: "VersionedCell<X>");
    row!(invariant changed: "ChangedFuture<'static, X>");
    row!(invariant changed_value: "ChangedValueFuture<'static, X>");
    row!(invariant swap_future: "SwapFuture<'static, X>");
    row!(invariant set_future: "SetFuture<'static, X>");
    row!(invariant compare_and_set_future: "CompareAndSetFuture<'static, X>");
    row!(invariant update_future: "UpdateFuture<'static, X, ()>");
    row!(covariant update_future_closure: "UpdateFuture<'static, u8, X>");
    row!(invariant fenced_cell: "FencedCell<X>");
    row!(covariant fenced_ref: "FencedRef<'static, X>");
    row!(covariant stale_fence: "StaleFence<X>");
    row!(invariant flight_key: "SingleFlight<X, u8>");
    row!(invariant flight_value: "SingleFlight<u8, X>");
    row!(covariant flight_hasher: "SingleFlight<u8, u8, X>");
    row!(invariant map_key: "VersionedMap<X, u8>");
    row!(invariant map_value: "VersionedMap<u8, X>");
    row!(covariant map_hasher: "VersionedMap<u8, u8, X>");
    row!(covariant map_conflict: "MapConflict<X>");
    row!(covariant map_occupied: "Occupied<X, X>");
    row!(covariant map_reason: "Reason<X>");
    row!(covariant map_cancelled: "Cancelled<X>");
    row!(invariant map_iter_key: "map::Iter<'static, X, u8>");
    row!(invariant map_iter_value: "map::Iter<'static, u8, X>");
    row!(invariant map_into_iter_key: "map::IntoIter<X, u8>");
    row!(invariant map_into_iter_value: "map::IntoIter<u8, X>");
    row!(invariant batch_key: "Batch<'static, X, u8>");
    row!(invariant batch_value: "Batch<'static, u8, X>");
    row!(covariant batch_hasher: "Batch<'static, u8, u8, X>");
    row!(invariant entry_key: "EntryGuard<'static, X, u8>");
    row!(invariant entry_value: "EntryGuard<'static, u8, X>");
    row!(covariant entry_hasher: "EntryGuard<'static, u8, u8, X>");
    row!(invariant entry_ref_key: "EntryRef<'static, X, u8>");
    row!(invariant entry_ref_value: "EntryRef<'static, u8, X>");
    row!(invariant entry_set_key: "EntrySet<'static, X, u8>");
    row!(invariant entry_set_value: "EntrySet<'static, u8, X>");
    row!(covariant entry_set_hasher: "EntrySet<'static, u8, u8, X>");
    row!(invariant entry_session_key: "EntrySession<'static, X, u8>");
    row!(invariant entry_session_value: "EntrySession<'static, u8, X>");
    row!(covariant entry_session_hasher: "EntrySession<'static, u8, u8, X>");
    row!(invariant entry_future_key: "EntryLockFuture<'static, X, u8>");
    row!(invariant entry_future_value: "EntryLockFuture<'static, u8, X>");
    row!(covariant entry_future_hasher: "EntryLockFuture<'static, u8, u8, X>");
    row!(invariant map_changed_key: "MapChangedFuture<'static, X, u8, u8, u8>");
    row!(invariant map_changed_value: "MapChangedFuture<'static, u8, X, u8, u8>");
    row!(contravariant map_changed_borrowed: "MapChangedFuture<'static, u8, u8, X, u8>");
    row!(covariant map_changed_hasher: "MapChangedFuture<'static, u8, u8, u8, X>");
    row!(covariant snapshot: "Versioned<'static, X>");
    row!(covariant snapshot_ref: "VersionedRef<'static, X>");
    row!(covariant owned_snapshot: "OwnedVersioned<X>");
    row!(covariant conflict: "Conflict<X>");
    row!(covariant update_error: "UpdateError<X>");
    row!(covariant tx_error: "TxError<X>");
    row!(covariant tx_abort: "TxAbort<X>");
    row!(covariant run_async_result: "TransactionFuture<'static, X, ()>");
    row!(covariant run_async_closure: "TransactionFuture<'static, (), X>");
    row!(covariant try_run_async_result: "TryTransactionFuture<'static, X, (), ()>");
    row!(covariant try_run_async_error: "TryTransactionFuture<'static, (), X, ()>");
    row!(covariant try_run_async_closure: "TryTransactionFuture<'static, (), (), X>");
    row!(contravariant table_key: "LockTable<X>");
    row!(covariant table_hasher: "LockTable<u8, X>");
    row!(contravariant builder_key: "LockTableBuilder<X>");
    row!(covariant builder_hasher: "LockTableBuilder<u8, X>");
    row!(contravariant set_key: "LockSet<'static, X>");
    row!(covariant set_hasher: "LockSet<'static, u8, X>");
    row!(contravariant owned_set_key: "OwnedLockSet<X>");
    row!(covariant owned_set_hasher: "OwnedLockSet<u8, X>");
    row!(contravariant owned_exclusive_key: "OwnedExclusiveGuard<X>");
    row!(covariant owned_exclusive_hasher: "OwnedExclusiveGuard<u8, X>");
    row!(contravariant owned_shared_key: "OwnedSharedGuard<X>");
    row!(covariant owned_shared_hasher: "OwnedSharedGuard<u8, X>");
    row!(contravariant owned_future_key: "OwnedLockFuture<X>");
    row!(contravariant owned_shared_future_key: "OwnedSharedLockFuture<X>");
    row!(contravariant all_future_key: "LockAllFuture<'static, X>");
    row!(contravariant owned_all_future_key: "OwnedLockAllFuture<X>");
    row!(contravariant session_key: "Session<'static, X>");
    row!(covariant session_hasher: "Session<'static, u8, X>");
    row!(invariant session_future_key: "SessionLockFuture<'static, 'static, X>");
    row!(invariant session_future_hasher: "SessionLockFuture<'static, 'static, u8, X>");
    row!(covariant latch: "latch::OptimisticLatch<X>");
    row!(covariant latch_shared: "latch::SharedGuard<'static, X>");
    row!(covariant latch_exclusive: "latch::ExclusiveGuard<'static, X>");
    row!(covariant coupled: "latch::Coupled<'static, X>");
    row!(invariant link: "latch::Link<X>");
    row!(covariant unlinked: "latch::Unlinked<X>");
    row!(invariant mutex: "ordered::OrderedMutex<(), X>");
    row!(invariant mutex_level: "ordered::OrderedMutex<X, ()>");
    row!(invariant mutex_guard: "ordered::OrderedMutexGuard<'static, X>");
    row!(invariant rwlock: "ordered::OrderedRwLock<(), X>");
    row!(invariant rwlock_level: "ordered::OrderedRwLock<X, ()>");
    row!(invariant read_guard: "ordered::OrderedReadGuard<'static, X>");
    row!(invariant write_guard: "ordered::OrderedWriteGuard<'static, X>");
    row!(invariant key_level: "ordered::LevelToken<'static, OfLevel<X>>");
    row!(invariant checked_mutex: "ordered::checked::Mutex<X>");
    row!(invariant checked_mutex_guard: "ordered::checked::MutexGuard<'static, X>");
    row!(invariant checked_rwlock: "ordered::checked::RwLock<X>");
    row!(invariant checked_read_guard: "ordered::checked::RwLockReadGuard<'static, X>");
    row!(invariant checked_write_guard: "ordered::checked::RwLockWriteGuard<'static, X>");

    lifetime!(covariant of_snapshot: "Versioned<'x, u8>");
    lifetime!(covariant of_snapshot_ref: "VersionedRef<'x, u8>");
    lifetime!(covariant of_changed: "ChangedFuture<'x, u8>");
    lifetime!(covariant of_changed_value: "ChangedValueFuture<'x, u8>");
    lifetime!(covariant of_set_future: "SetFuture<'x, u8>");
    lifetime!(covariant of_swap_future: "SwapFuture<'x, u8>");
    lifetime!(covariant of_compare_and_set_future: "CompareAndSetFuture<'x, u8>");
    lifetime!(covariant of_update_future: "UpdateFuture<'x, u8, ()>");
    lifetime!(covariant of_fenced_ref: "FencedRef<'x, u8>");
    lifetime!(covariant of_map_iter: "map::Iter<'x, u8, u8>");
    lifetime!(covariant of_batch: "Batch<'x, u8, u8>");
    lifetime!(covariant of_entry: "EntryGuard<'x, u8, u8>");
    lifetime!(covariant of_entry_ref: "EntryRef<'x, u8, u8>");
    lifetime!(covariant of_entry_set: "EntrySet<'x, u8, u8>");
    lifetime!(covariant of_entry_session: "EntrySession<'x, u8, u8>");
    lifetime!(covariant of_entry_future: "EntryLockFuture<'x, u8, u8>");
    lifetime!(covariant of_map_changed: "MapChangedFuture<'x, u8, u8, u8, u8>");
    lifetime!(invariant of_tx: "Tx<'x, 'static>");
    lifetime!(invariant of_view: "View<'x, 'static>");
    lifetime!(invariant of_run_async: "TransactionFuture<'x, (), ()>");
    lifetime!(invariant of_try_run_async: "TryTransactionFuture<'x, (), (), ()>");
    lifetime!(covariant of_exclusive: "ExclusiveGuard<'x>");
    lifetime!(covariant of_shared: "SharedGuard<'x>");
    lifetime!(covariant of_future: "LockFuture<'x>");
    lifetime!(covariant of_shared_future: "SharedLockFuture<'x>");
    lifetime!(covariant of_set: "LockSet<'x, u8>");
    lifetime!(covariant of_all_future: "LockAllFuture<'x, u8>");
    lifetime!(covariant of_session: "Session<'x, u8>");
    lifetime!(covariant of_session_future: "SessionLockFuture<'x, 'static, u8>");
    lifetime!(covariant of_latch_shared: "latch::SharedGuard<'x, u8>");
    lifetime!(covariant of_latch_exclusive: "latch::ExclusiveGuard<'x, u8>");
    lifetime!(covariant of_coupled: "latch::Coupled<'x, u8>");
    lifetime!(covariant of_mutex_guard: "ordered::OrderedMutexGuard<'x, u8>");
    lifetime!(covariant of_read_guard: "ordered::OrderedReadGuard<'x, u8>");
    lifetime!(covariant of_write_guard: "ordered::OrderedWriteGuard<'x, u8>");
    lifetime!(covariant of_key: "ordered::LevelToken<'x, ordered::Bottom>");
    lifetime!(covariant of_checked_mutex_guard: "ordered::checked::MutexGuard<'x, u8>");
    lifetime!(covariant of_checked_read_guard: "ordered::checked::RwLockReadGuard<'x, u8>");
    lifetime!(covariant of_checked_write_guard: "ordered::checked::RwLockWriteGuard<'x, u8>");
}
