//! The subject: a `LockTable`, by the calls of it that are measured.

use latchwork::{LockTable, Mode};

use super::{HoldThree, KeyLock};

/// `lock`, and `lock_all` with every key exclusive.
#[derive(Debug)]
pub struct Exclusive<T>(pub T);

/// `lock_shared`.
#[derive(Debug)]
pub struct Shared<T>(pub T);

/// `try_lock_all` with every key exclusive.
#[derive(Debug)]
pub struct TryAll<T>(pub T);

/// Implements [`KeyLock`] for a wrapper around a table, or around a reference to one.
macro_rules! by_key {
    ($wrapper:ident<$table:ty>, |$locks:ident, $key:ident: $handed:ty| $take:expr) => {
        impl KeyLock<$handed> for $wrapper<$table> {
            #[inline]
            fn hold<R>(&self, $key: $handed, body: impl FnOnce() -> R) -> R {
                let $locks = &self.0;
                let _guard = $take;
                body()
            }
        }
    };
}

by_key!(Exclusive<LockTable<u64>>, |locks, key: u64| locks
    .lock(&key));
by_key!(Exclusive<&LockTable<u64>>, |locks, key: u64| locks
    .lock(&key));
by_key!(Exclusive<LockTable<str>>, |locks, key: &'static str| locks
    .lock(key));
by_key!(Shared<LockTable<u64>>, |locks, key: u64| locks
    .lock_shared(&key));
by_key!(Shared<LockTable<str>>, |locks, key: &'static str| locks
    .lock_shared(key));

impl HoldThree for Exclusive<LockTable<u64>> {
    #[inline]
    fn hold_three<R>(&self, keys: [u64; 3], body: impl FnOnce() -> R) -> R {
        let _set = self
            .0
            .lock_all(keys.each_ref().map(|key| (key, Mode::Exclusive)));
        body()
    }
}

impl HoldThree for TryAll<LockTable<u64>> {
    #[inline]
    fn hold_three<R>(&self, keys: [u64; 3], body: impl FnOnce() -> R) -> R {
        let set = self
            .0
            .try_lock_all(keys.each_ref().map(|key| (key, Mode::Exclusive)));
        let _set = set.expect("only one thread locks");
        body()
    }
}
