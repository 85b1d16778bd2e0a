//! Proof that a key is held.

use core::fmt;

use super::KeyId;
use super::index::RawTable;
use crate::word::Mode;

/// An exclusive hold of one key, given back when dropped.
///
/// Returned by [`LockTable::lock`](super::LockTable::lock) and its try and timed forms. It may be
/// sent to and dropped on another thread.
///
/// If it is forgotten ([`core::mem::forget`]), the key stays held for as long as the table lives, and
/// nothing else happens. If a panic unwinds through its holder, the key is given back; there is
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
/// assert_eq!(table.held(), 0);
/// ```
#[must_use = "the key is given back at once if the guard is not used"]
pub struct ExclusiveGuard<'t>(Hold<'t>);

/// A shared hold of one key, given back when dropped.
///
/// Returned by [`LockTable::lock_shared`](super::LockTable::lock_shared) and its try and timed
/// forms. All that is said of [`ExclusiveGuard`] holds for it.
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
pub struct SharedGuard<'t>(Hold<'t>);

struct Hold<'t> {
    table: &'t RawTable,
    hash: u64,
}

macro_rules! guard {
    ($name:ident, $mode:expr) => {
        impl<'t> $name<'t> {
            /// The caller has locked `hash` in this mode and gives that hold away.
            #[inline]
            pub(super) fn new(table: &'t RawTable, hash: u64) -> Self {
                $name(Hold { table, hash })
            }

            /// Returns the identity of the key.
            pub fn key_id(&self) -> KeyId {
                KeyId(self.0.hash)
            }
        }

        impl Drop for $name<'_> {
            #[inline]
            fn drop(&mut self) {
                self.0.table.unlock(self.0.hash, $mode);
            }
        }

        impl fmt::Debug for $name<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name))
                    .field("key_id", &self.key_id())
                    .finish_non_exhaustive()
            }
        }
    };
}
guard!(ExclusiveGuard, Mode::Exclusive);
guard!(SharedGuard, Mode::Shared);
