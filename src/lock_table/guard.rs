//! Proof that a key is held.
#![allow(unsafe_code)]

use core::fmt;
use core::mem::ManuallyDrop;
use std::sync::Arc;

use super::handle::Handle;
use super::index::RawTable;
use super::{Fence, FencingToken, KeyId, LockTable};
use crate::RandomState;
use crate::word::Mode;

/// An exclusive hold of one key, given back when dropped.
///
/// Returned by [`LockTable::lock`] and its try and timed forms. It may be sent to and dropped on
/// another thread, and kept across an `.await`.
///
/// If it is forgotten ([`core::mem::forget`]), the key stays held for as long as the table lives,
/// and nothing else happens. If a panic unwinds through its holder, the key is given back; there is
/// no poisoning.
///
/// # Memory ordering
/// Dropping it synchronises with the next lock of the key.
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
#[must_use = "the key is given back at once if the guard is not used"]
pub struct ExclusiveGuard<'t>(Hold<&'t RawTable>);

/// A shared hold of one key, given back when dropped.
///
/// Returned by [`LockTable::lock_shared`] and its try and timed forms. All that is said of
/// [`ExclusiveGuard`] holds for it.
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
#[must_use = "the key is given back at once if the guard is not used"]
pub struct SharedGuard<'t>(Hold<&'t RawTable>);

/// An [`ExclusiveGuard`] that owns a share of its table, and so borrows nothing.
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
#[must_use = "the key is given back at once if the guard is not used"]
pub struct OwnedExclusiveGuard<K: ?Sized, S = RandomState>(Hold<Arc<LockTable<K, S>>>);

/// A [`SharedGuard`] that owns a share of its table, and so borrows nothing.
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
#[must_use = "the key is given back at once if the guard is not used"]
pub struct OwnedSharedGuard<K: ?Sized, S = RandomState>(Hold<Arc<LockTable<K, S>>>);

struct Hold<T> {
    table: T,
    hash: u64,
}

/// Locks the key again when it goes, also if a waker panics in between.
struct Relock<'a>(&'a RawTable, u64, Mode);

impl Drop for Relock<'_> {
    fn drop(&mut self) {
        // A guard waits for this hold: to go on without it would be to have two.
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
    ($name:ident, [$($generics:tt)*], $type:ty, $handle:ty, $mode:expr) => {
        impl<$($generics)*> $type {
            /// The caller has locked `hash` in this mode and gives that hold away.
            #[inline]
            pub(super) fn new(table: $handle, hash: u64) -> Self {
                $name(Hold { table, hash })
            }

            fn into_hold(self) -> Hold<$handle> {
                let guard = ManuallyDrop::new(self);
                // SAFETY: the guard is not dropped, so the hold is moved out and not doubled.
                unsafe { core::ptr::read(&guard.0) }
            }

            /// Returns the identity of the key.
            pub fn key_id(&self) -> KeyId {
                KeyId(self.0.hash)
            }

            /// Gives the key back, to whoever has waited longest if somebody waits.
            ///
            /// An associated function, as in `parking_lot`. It costs the next holder the time to
            /// wake, which is worth it where one thread locks the same key again and again.
            pub fn unlock_fair(guard: Self) {
                let hold = guard.into_hold();
                hold.table.raw().unlock_fair(hold.hash, $mode);
            }

            /// Gives the key to whoever has waited longest and takes it again, if somebody waits;
            /// otherwise does nothing.
            ///
            /// # Blocking
            /// Until the key can be had again.
            ///
            /// # Panics
            /// If a waker does that is used to give the key away; the guard holds it again then. If
            /// one does that is used as the key is taken again, the process aborts, because the
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
    ($name:ident, $shared:ident, [$($generics:tt)*], $type:ty, $shared_type:ty, $handle:ty) => {
        guard!($name, [$($generics)*], $type, $handle, Mode::Exclusive);
        guard!($shared, [$($generics)*], $shared_type, $handle, Mode::Shared);

        impl<$($generics)*> $type {
            /// Makes the hold a shared one, without giving the key up in between.
            ///
            /// Readers that wait before any writer are let in at once.
            ///
            /// # Memory ordering
            /// What was done under the exclusive hold comes before what they do.
            pub fn downgrade(self) -> $shared_type {
                // The guard first: it gives the key back, should a waker panic.
                let shared = $shared(self.into_hold());
                shared.0.table.raw().downgrade(shared.0.hash);
                shared
            }

            /// Returns a number greater than every token taken before for this key.
            ///
            /// A token travels with what the holder sends to others; who has seen a greater one
            /// refuses it, and so a holder that was cut off cannot write late. Tokens grow for as
            /// long as the table lives, also after nobody has held the key for a while. They cost
            /// nothing until the first is taken, and then 8 bytes for each root slot.
            pub fn token(&self) -> FencingToken {
                FencingToken::new(self.0.table.raw().token(self.0.hash))
            }

            /// Returns a [`Fence`] with a new [`token`](Self::token) and nonce 0.
            ///
            /// A table issues no token twice for a key, so that its fences need no nonce. Each call makes a greater fence:
            /// a holder that writes several times may use one fence for all of its writes.
            ///
            /// # Examples
            /// ```
            /// use latchwork::{LockTable, table::FencedCell};
            /// let (table, report): (LockTable<str>, _) = (LockTable::new(), FencedCell::new(0));
            /// let late = table.lock("report").fence(); // this holder loses its lock before it writes
            /// let fence = table.lock("report").fence();
            /// report.write(fence, 1).expect("it is the newest holder");
            /// assert!(report.write(late, 2).is_err());
            /// ```
            pub fn fence(&self) -> Fence {
                Fence::new(self.token(), 0)
            }
        }

        impl<$($generics)*> $shared_type {
            /// Makes the hold an exclusive one, if nobody shares the key; otherwise gives the guard back.
            ///
            /// Who is queued is passed over: the caller holds the key already.
            ///
            /// # Blocking
            /// Never; of two holders that upgrade, none succeeds until the other has given up.
            ///
            /// # Errors
            /// The guard itself, as it was, if there are other holders.
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

exclusive!(ExclusiveGuard, SharedGuard, ['t], ExclusiveGuard<'t>, SharedGuard<'t>, &'t RawTable);
exclusive!(
    OwnedExclusiveGuard, OwnedSharedGuard, [K: ?Sized, S],
    OwnedExclusiveGuard<K, S>, OwnedSharedGuard<K, S>, Arc<LockTable<K, S>>
);
