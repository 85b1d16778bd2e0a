//! Waits for a change of a key, present or absent [V10].

use core::fmt;
use core::future::Future;
use core::hash::{BuildHasher, Hash};
use core::marker::PhantomData;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::borrow::Borrow;
use std::time::{Duration, Instant};

use super::VersionedMap;
use super::index::Search;
use crate::cell::Version;
use crate::cell::wait::{Place, enlist};
use crate::park::Notify;
use crate::reclaim::{self, inside};
use crate::sync::{Parker, now};

impl<K, V, S> VersionedMap<K, V, S>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: BuildHasher,
{
    /// Waits until the version of a key differs from `seen`, and returns the new version. `None` is
    /// the version of an absent key.
    ///
    /// Returns at once if the version differs already. Several writes may cause one wake-up: a key
    /// that is absent, inserted, and removed again may still be absent when the thread checks. A
    /// writer pays for waiters only while there are some. A waiter for an absent key makes an entry
    /// without a value, which is freed once no thread waits.
    ///
    /// # Blocking
    /// Blocks the thread until another thread writes the key. On a current-thread runtime it can
    /// hang indefinitely; use [`changed`](Self::changed) in tasks. Drop the pins of this thread
    /// first, as before [`VersionedCell::wait_changed`](crate::VersionedCell::wait_changed).
    ///
    /// # Panics
    /// Panics if the hasher, `Eq` or `to_owned` panics. Panics where
    /// [`VersionedCell::wait_changed`](crate::VersionedCell::wait_changed) does.
    ///
    /// # Examples
    /// ```
    /// let map = latchwork::VersionedMap::new();
    /// std::thread::scope(|s| {
    ///     s.spawn(|| drop(map.insert("ready".to_owned(), ())));
    ///     assert!(map.wait_changed("ready", None).is_some());
    /// });
    /// ```
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn wait_changed<Q>(&self, key: &Q, seen: Option<Version>) -> Option<Version>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        self.wait_until(key, seen, None)
            .unwrap_or_else(|| unreachable!("there is no deadline"))
    }

    /// Waits as [`wait_changed`](Self::wait_changed) does, and returns `None` if the timeout
    /// expires first.
    ///
    /// A timeout that overflows [`Instant`] waits indefinitely.
    ///
    /// # Blocking
    /// Blocks the thread until another thread writes the key, or for the timeout.
    ///
    /// # Panics
    /// Panics as [`wait_changed`](Self::wait_changed) does.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// let map = latchwork::VersionedMap::<String, u32>::new();
    /// assert_eq!(map.wait_changed_for("ready", None, Duration::from_millis(1)), None);
    /// ```
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn wait_changed_for<Q>(
        &self,
        key: &Q,
        seen: Option<Version>,
        timeout: Duration,
    ) -> Option<Option<Version>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        self.wait_until(key, seen, now().checked_add(timeout))
    }

    #[cfg_attr(debug_assertions, track_caller)]
    fn wait_until<Q>(
        &self,
        key: &Q,
        seen: Option<Version>,
        deadline: Option<Instant>,
    ) -> Option<Option<Version>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let (parker, unparker) = Parker::new();
        loop {
            let notify = || Notify::Thread(unparker.clone());
            let place = match self.enlist(key, seen, notify) {
                Ok(place) => place,
                Err(version) => return Some(version),
            };
            inside::check_unpinned(None, deadline);
            let in_time = parker.park_by(deadline);
            drop(place);
            let version = self.version(key);
            if version != seen {
                return Some(version);
            }
            if !in_time {
                return None;
            }
        }
    }

    /// Returns a future that waits until the version of a key differs from `seen`, and returns the
    /// new version. See [`wait_changed`](Self::wait_changed).
    ///
    /// The future is ready at once, without a yield to the executor, if the version differs
    /// already. It keeps no pin.
    ///
    /// # Panics
    /// The future panics where [`wait_changed`](Self::wait_changed) does.
    ///
    /// # Cancel safety
    /// Cancel safe: a future that is dropped leaves no waiter behind. A later call with the same
    /// `seen` misses no write, except for an insert that was undone by a removal.
    ///
    /// # Examples
    /// ```
    /// # pollster::block_on(async {
    /// let map = latchwork::VersionedMap::new();
    /// let (version, _) = map.insert("a".to_owned(), 1);
    /// map.remove("a");
    /// assert_eq!(map.changed("a", Some(version)).await, None);
    /// # })
    /// ```
    pub fn changed<Q>(&self, key: &Q, seen: Option<Version>) -> MapChangedFuture<'_, K, V, Q, S>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        MapChangedFuture {
            map: self,
            key: key.to_owned(),
            seen,
            place: None,
            borrowed: PhantomData,
        }
    }

    /// Adds a waiter to the queue of the entry of a key. `Err`: the key has this other version.
    #[cfg_attr(debug_assertions, track_caller)]
    fn enlist<Q>(
        &self,
        key: &Q,
        seen: Option<Version>,
        mut notify: impl FnMut() -> Notify,
    ) -> Result<Place, Option<Version>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let hash = self.hash(key);
        reclaim::with(|local| {
            loop {
                let pin = local.pin();
                let entry = match self.index.search(hash, key, &pin) {
                    Search::Found(entry, _) => entry,
                    Search::Absent(_) if seen.is_some() => return Err(None),
                    Search::Absent(_) => {
                        self.own_entry_or_vacant(local, &pin, hash, key.to_owned())
                    }
                };
                entry.cell.check_direct();
                let node = entry.node(entry.cell.head().load(), &pin).settle();
                if node.header().is_dead() {
                    continue;
                }
                let current = (!node.header().is_vacant()).then(|| node.version());
                if current != seen {
                    return Err(current);
                }
                // The pin keeps the entry until the waiter is in the queue, and the queue does from
                // then on [V10].
                if let Ok(place) = enlist(entry.cell.head(), node.version(), notify()) {
                    return Ok(place);
                }
            }
        })
    }
}

/// Waits until the version of a key changes. Created by [`VersionedMap::changed`].
///
/// # Examples
/// See [`VersionedMap::changed`].
#[must_use = "futures do nothing unless polled"]
pub struct MapChangedFuture<'m, K, V, Q, S>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
    Q: ?Sized,
{
    map: &'m VersionedMap<K, V, S>,
    key: K,
    seen: Option<Version>,
    place: Option<Place>,
    /// The key is hashed and compared as this type.
    borrowed: PhantomData<fn(&Q)>,
}

// The key is never pinned.
impl<K, V, Q, S> Unpin for MapChangedFuture<'_, K, V, Q, S>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
    Q: ?Sized,
{
}

impl<K, V, Q, S> Future for MapChangedFuture<'_, K, V, Q, S>
where
    K: Eq + Hash + Send + Sync + Borrow<Q> + 'static,
    V: Send + Sync + 'static,
    Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    S: BuildHasher,
{
    type Output = Option<Version>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Version>> {
        let this = self.get_mut();
        let key = this.key.borrow();
        let notify = || Notify::Task(context.waker().clone());
        // An absent key may have been inserted and removed, which has used the notification.
        if this.map.version(key) == this.seen
            && this
                .place
                .as_ref()
                .is_some_and(|place| place.renew(notify()))
        {
            return Poll::Pending;
        }
        this.place = None;
        match this.map.enlist(key, this.seen, notify) {
            Ok(place) => {
                this.place = Some(place);
                Poll::Pending
            }
            Err(version) => Poll::Ready(version),
        }
    }
}

impl<K, V, Q, S> fmt::Debug for MapChangedFuture<'_, K, V, Q, S>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
    Q: ?Sized,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapChangedFuture")
            .field("seen", &self.seen)
            .field("is_waiting", &self.place.is_some())
            .finish_non_exhaustive()
    }
}
