//! A lock of a key by a task.

use core::fmt;
use core::future::Future;
use core::hash::{BuildHasher, Hash};
use core::pin::Pin;
use core::task::{Context, Poll};

use super::VersionedMap;
use super::guard::EntryGuard;
use super::index::Search;
use crate::RandomState;
use crate::cell::patience::{Lost, Patience};
use crate::cell::read::pin_cells;
use crate::cell::wait::Place;
use crate::lock_table::{ExclusiveGuard, LockFuture};
use crate::mvcc::enlist::{WithoutAge, enlist_with_owner_of};
use crate::park::{Notify, polled_again};
use crate::reclaim;

/// Locks a key of a [`VersionedMap`]. Created by [`VersionedMap::lock_async`].
///
/// # Examples
/// See [`VersionedMap::lock_async`].
#[must_use = "futures do nothing unless polled"]
pub struct EntryLockFuture<'m, K, V, S = RandomState>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    map: &'m VersionedMap<K, V, S>,
    hash: u64,
    key: Option<K>,
    state: State<'m>,
}

enum State<'m> {
    /// Was not polled.
    Begins,
    /// Waits for the lock of the hash.
    Locks(LockFuture<'m>),
    /// Has locked the hash, and waits for the end of a transaction that owns the entry [X10], or of
    /// its thin lock [V13].
    Waits(ExclusiveGuard<'m>, Place),
    /// The future was ready, or a poll has panicked.
    Ended,
}

impl<'m, K: Send + Sync + 'static, V: Send + Sync + 'static, S> EntryLockFuture<'m, K, V, S> {
    pub(super) fn new(map: &'m VersionedMap<K, V, S>, hash: u64, key: K) -> Self {
        EntryLockFuture {
            map,
            hash,
            key: Some(key),
            state: State::Begins,
        }
    }
}

// Nothing in it is pinned.
impl<K: Send + Sync + 'static, V: Send + Sync + 'static, S> Unpin for EntryLockFuture<'_, K, V, S> {}

impl<'m, K, V, S> Future for EntryLockFuture<'m, K, V, S>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: BuildHasher,
{
    type Output = EntryGuard<'m, K, V, S>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let (map, hash) = (this.map, this.hash);
        // `Ended` remains if user code panics below.
        let mut state = core::mem::replace(&mut this.state, State::Ended);
        if let State::Begins = state {
            let key = this.key.as_ref().expect("it was not polled");
            let held = map.hold_thin(&pin_cells(), hash, key);
            if let Some(held) = held {
                return Poll::Ready(EntryGuard::new(map, held, None));
            }
            state = State::Locks(map.locks.table().lock_async(&hash));
        }
        let lock = match state {
            State::Locks(mut future) => match Pin::new(&mut future).poll(cx) {
                Poll::Ready(lock) => lock,
                Poll::Pending => {
                    this.state = State::Locks(future);
                    return Poll::Pending;
                }
            },
            State::Waits(lock, place) => {
                if place.renew(Notify::Task(cx.waker().clone())) {
                    this.state = State::Waits(lock, place);
                    return Poll::Pending;
                }
                lock
            }
            State::Begins | State::Ended => polled_again("future of a lock of a map"),
        };
        let mut patience = Patience::new();
        loop {
            let held = reclaim::with(|local| {
                let pin = local.pin();
                map.hold_owned(local, &pin, hash, &mut this.key)
            });
            let lost = match held {
                Ok(held) => return Poll::Ready(EntryGuard::new(map, held, Some(lock))),
                Err(lost) => lost,
            };
            if lost == Lost::Locked {
                match map.enlist_with_thin(hash, Notify::Task(cx.waker().clone())) {
                    Some(place) => {
                        this.state = State::Waits(lock, place);
                        return Poll::Pending;
                    }
                    None => continue,
                }
            }
            if lost == Lost::Owned {
                let key = this.key.as_ref().expect("a failed attempt returns the key");
                let notify = Notify::Task(cx.waker().clone());
                let owner = reclaim::with(|local| {
                    let pin = local.pin();
                    match map.index.search(hash, key, &pin) {
                        Search::Found(entry, _) => enlist_with_owner_of(entry.cell.head(), notify),
                        Search::Absent(_) => Ok(None),
                    }
                });
                match owner {
                    Ok(Some(place)) => {
                        this.state = State::Waits(lock, place);
                        return Poll::Pending;
                    }
                    Ok(None) | Err(WithoutAge) => continue,
                }
            }
            patience.step_back(lost);
        }
    }
}

impl<K: Send + Sync + 'static, V: Send + Sync + 'static, S> fmt::Debug
    for EntryLockFuture<'_, K, V, S>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EntryLockFuture").finish_non_exhaustive()
    }
}
