//! Guards: proofs that a key is held.

use core::fmt;
use std::sync::Arc;

use super::fence::{Fence, FencingToken};
use super::handle::TakeOver;
use super::key::KeyId;
use super::raw::{RawTable, TableRef};
use super::table::LockTable;
use crate::RandomState;
use crate::word::Mode;

/// Holds one key exclusively, and releases it when dropped.
///
/// Returned by [`LockTable::lock`] and its try, timed and async forms. It may be sent to another
/// thread, dropped there, and kept across an `.await`.
///
/// If the guard is forgotten ([`core::mem::forget`]), the key stays locked for as long as the table
/// lives, and nothing else happens. If a panic unwinds through the holder, the key is released;
/// there is no poisoning.
///
/// # Memory ordering
/// The drop of the guard synchronises with the next lock of the key.
///
/// # Examples
/// ```
/// let table: latchwork::LockTable<u64> = latchwork::LockTable::new();
/// let guard = table.lock(&7);
/// std::thread::scope(|s| {
///     s.spawn(move || drop(guard));
/// });
/// assert_eq!(table.locked_count(), 0);
/// ```
#[must_use = "the key is released at once if the guard is not used"]
pub struct ExclusiveGuard<'t>(Hold<&'t RawTable>);

/// Holds one key shared, and releases it when dropped.
///
/// Returned by [`LockTable::lock_shared`] and its try, timed and async forms. It may be sent,
/// forgotten and dropped as an [`ExclusiveGuard`] may.
///
/// # Examples
/// ```
/// let table: latchwork::LockTable<u64> = latchwork::LockTable::new();
/// let one = table.lock_shared(&7);
/// let two = table.lock_shared(&7);
/// assert!(table.try_lock(&7).is_none());
/// drop((one, two));
/// assert!(table.try_lock(&7).is_some());
/// ```
#[must_use = "the key is released at once if the guard is not used"]
pub struct SharedGuard<'t>(Hold<&'t RawTable>);

/// An [`ExclusiveGuard`] that shares ownership of its table, and so borrows nothing.
///
/// Returned by [`LockTable::lock_owned`] and its try and async forms.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// let table: Arc<latchwork::LockTable<str>> = Arc::default();
/// let guard = table.lock_owned("a");
/// std::thread::spawn(move || drop(guard)).join().unwrap();
/// assert_eq!(table.locked_count(), 0);
/// ```
#[must_use = "the key is released at once if the guard is not used"]
pub struct OwnedExclusiveGuard<K: ?Sized, S = RandomState>(Hold<Option<Arc<LockTable<K, S>>>>);

/// A [`SharedGuard`] that shares ownership of its table, and so borrows nothing.
///
/// Returned by [`LockTable::lock_shared_owned`] and its try and async forms.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// let table: Arc<latchwork::LockTable<str>> = Arc::default();
/// let guard = table.lock_shared_owned("a");
/// std::thread::spawn(move || drop(guard)).join().unwrap();
/// assert_eq!(table.locked_count(), 0);
/// ```
#[must_use = "the key is released at once if the guard is not used"]
pub struct OwnedSharedGuard<K: ?Sized, S = RandomState>(Hold<Option<Arc<LockTable<K, S>>>>);

struct Hold<T> {
    table: T,
    hash: u64,
}

/// Locks the key again when it is dropped, including when a waker panics in between.
struct Relock<'a>(&'a RawTable, u64, Mode);

impl Drop for Relock<'_> {
    fn drop(&mut self) {
        // The guard relies on this lock: to continue without it would make two holders.
        let abort = AbortOnUnwind;
        self.0.lock(self.1, self.2);
        core::mem::forget(abort);
    }
}

struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        std::process::abort();
    }
}

macro_rules! guard {
    ($name:ident, [$($generics:tt)*], $type:ty, $handle:ty, $kept:ty, $mode:expr) => {
        impl<$($generics)*> $type {
            /// The caller has locked `hash` in this mode, and transfers this ownership to the
            /// guard.
            #[inline]
            pub(super) fn new(table: $handle, hash: u64) -> Self {
                $name(Hold { table: table.into(), hash })
            }

            /// Moves the lock out of the guard, which is not dropped.
            fn into_hold(mut self) -> Hold<$kept> {
                let table = self.0.table.take_over();
                let hold = Hold { table, hash: self.0.hash };
                core::mem::forget(self);
                hold
            }

            /// Returns the identity of the key.
            pub fn key_id(&self) -> KeyId {
                KeyId(self.0.hash)
            }

            /// Releases the key, and hands it to the longest-waiting waiter if there is one.
            ///
            /// It is an associated function, as in `parking_lot`. The next holder acquires the key
            /// only when it runs, which delays the others. This is worth its cost where one thread
            /// locks the same key repeatedly.
            ///
            /// # Panics
            /// Panics if the waker of the next holder panics; the key has been released then.
            pub fn unlock_fair(guard: Self) {
                let hold = guard.into_hold();
                hold.table.raw().unlock_fair(hold.hash, $mode);
            }

            /// Hands the key to the longest-waiting waiter and reacquires it. It does nothing if no
            /// waiter is queued.
            ///
            /// # Blocking
            /// Blocks the thread until the key is available again. On a current-thread runtime it
            /// can block indefinitely, because the task that was handed the key never runs. In a
            /// task, drop the guard and lock the key again with an async method.
            ///
            /// # Panics
            /// Panics if the waker of the next holder panics; the guard holds the key again then.
            /// Aborts the process if a waker panics during the reacquisition, because the
            /// guard would be without its lock.
            pub fn bump(guard: &mut Self) {
                let (table, hash) = (guard.0.table.raw(), guard.0.hash);
                if table.is_waited_for(hash) {
                    let _relock = Relock(table, hash, $mode);
                    table.unlock_fair(hash, $mode);
                }
            }
        }

        impl<$($generics)*> Drop for $type {
            #[inline]
            fn drop(&mut self) {
                self.0.table.raw().unlock(self.0.hash, $mode);
            }
        }

        impl<$($generics)*> fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name))
                    .field("key_id", &self.key_id())
                    .finish_non_exhaustive()
            }
        }
    };
}

macro_rules! exclusive {
    ($name:ident, $shared:ident, [$($generics:tt)*], $type:ty, $shared_type:ty, $handle:ty, $kept:ty) => {
        guard!($name, [$($generics)*], $type, $handle, $kept, Mode::Exclusive);
        guard!($shared, [$($generics)*], $shared_type, $handle, $kept, Mode::Shared);

        impl<$($generics)*> $type {
            /// Converts the guard to a shared one, without a release in between.
            ///
            /// Readers that are queued before any writer acquire the key at once.
            ///
            /// # Panics
            /// Panics if the waker of an admitted reader panics; the key is released then.
            ///
            /// # Memory ordering
            /// The critical section of the exclusive guard happens before those of the admitted
            /// readers.
            pub fn downgrade(self) -> $shared_type {
                // The guard is made first: it releases the key if a waker panics.
                let shared = $shared(self.into_hold());
                shared.0.table.raw().downgrade(shared.0.hash);
                shared
            }

            /// Returns a number that is greater than every earlier token of this key.
            ///
            /// The holder sends its token with each request to a resource. A resource that has seen
            /// a greater token refuses the request, so a holder that has lost its lock cannot write
            /// late.
            ///
            /// Tokens increase for as long as the table lives, including across times in which the
            /// key is free. They cost no memory until the first token is issued, and then 8 bytes
            /// for each root slot.
            pub fn token(&self) -> FencingToken {
                FencingToken::new(self.0.table.raw().token(self.0.hash))
            }

            /// Returns a [`Fence`] with a new [`token`](Self::token) and nonce 0.
            ///
            /// A table issues each token of a key once, so its fences need no nonce. Each call
            /// makes a greater fence: a holder that writes several times may use one fence for all
            /// of its writes.
            ///
            /// # Examples
            /// ```
            /// use latchwork::{LockTable, table::FencedCell};
            /// let (table, report): (LockTable<str>, _) = (LockTable::new(), FencedCell::new(0));
            /// // The first holder loses its lock before it writes.
            /// let late = table.lock("report").fence();
            /// let fence = table.lock("report").fence();
            /// report.write(fence, 1).expect("it is the newest holder");
            /// assert!(report.write(late, 2).is_err());
            /// ```
            pub fn fence(&self) -> Fence {
                Fence::new(self.token(), 0)
            }
        }

        impl<$($generics)*> $shared_type {
            /// Converts the guard to an exclusive one if no other holder shares the key.
            ///
            /// The upgrade bypasses queued waiters, because the caller already holds the key.
            ///
            /// # Blocking
            /// Never blocks. If two holders try to upgrade, neither succeeds until the other has
            /// released the key.
            ///
            /// # Errors
            /// Returns the guard itself, unchanged, if the key has other holders.
            pub fn try_upgrade(self) -> Result<$type, Self> {
                if self.0.table.raw().try_upgrade(self.0.hash) {
                    Ok($name(self.into_hold()))
                } else {
                    Err(self)
                }
            }
        }
    };
}

exclusive!(
    ExclusiveGuard, SharedGuard, ['t],
    ExclusiveGuard<'t>, SharedGuard<'t>, &'t RawTable, &'t RawTable
);
exclusive!(
    OwnedExclusiveGuard, OwnedSharedGuard, [K: ?Sized, S],
    OwnedExclusiveGuard<K, S>, OwnedSharedGuard<K, S>, Arc<LockTable<K, S>>,
    Option<Arc<LockTable<K, S>>>
);
