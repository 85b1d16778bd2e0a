//! Locks of keys.

use core::hash::{BuildHasher, Hash};
use core::ops::Deref;
use std::borrow::Borrow;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::VersionedMap;
use super::guard::{EntryGuard, EntrySession, EntrySet};
use super::lock_future::EntryLockFuture;
use super::locked::{Held, collect, find};
use crate::cell::limit::has_passed;
use crate::cell::patience::{Lost, Patience};
use crate::cell::read::pin_cells;
use crate::hash::IntegerHasher;
#[cfg(feature = "console")]
use crate::lock_table::KeyId;
use crate::lock_table::{ExclusiveGuard, LockTable};
use crate::mvcc::enlist::enlist_with_lock;
use crate::park::{Notify, Spin, Wait};
use crate::reclaim::{self, CellPin, Local};
use crate::session::{LockError, Policy};
use crate::sync::now;
use crate::word::Mode;

/// Whether locks may be thin. A console finds locks in the lock table only.
const HAS_THIN: bool = !cfg!(feature = "console");

/// The lock table of a map: its keys are the hashes.
pub(crate) type Table = LockTable<u64, IntegerHasher>;

/// Made by the first lock.
#[derive(Default)]
pub(super) struct Locks(OnceLock<Box<Table>>);

impl Locks {
    pub(super) const fn new() -> Self {
        Locks(OnceLock::new())
    }

    pub(super) fn table(&self) -> &Table {
        self.0.get_or_init(Box::default)
    }

    /// Returns whether no thread seemed to use the lock of a hash.
    #[inline]
    pub(super) fn seem_unused(&self, hash: u64) -> bool {
        HAS_THIN && self.0.get().is_none_or(|table| table.seems_unused(&hash))
    }

    /// The table, if a key was locked before.
    #[cfg(feature = "console")]
    fn made(&self) -> Option<&Table> {
        self.0.get().map(|table| &**table)
    }
}

/// Makes one attempt to lock an entry whose hash the caller has locked.
type Attempt<'a, K, V> = &'a mut dyn FnMut(&Local, &CellPin) -> Result<Held<K, V>, Lost>;

/// How long a caller waits for a lock.
#[derive(Clone, Copy)]
enum Limit {
    None,
    Until(Instant),
    /// It does not wait.
    Try,
}

impl Limit {
    fn after(timeout: Duration) -> Self {
        // A timeout that overflows the clock waits indefinitely.
        now().checked_add(timeout).map_or(Limit::None, Limit::Until)
    }

    fn is_over(self) -> bool {
        match self {
            Limit::None => false,
            Limit::Until(instant) => has_passed(Some(instant)),
            Limit::Try => true,
        }
    }

    fn deadline(self) -> Option<Instant> {
        match self {
            Limit::Until(instant) => Some(instant),
            Limit::None | Limit::Try => None,
        }
    }
}

/// The patience of a writer, which may have waited in the queue of a lock [V13].
pub(super) struct Persistence<'m, K, V, S>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    patience: Patience,
    map: &'m VersionedMap<K, V, S>,
    hash: u64,
    deadline: Option<Instant>,
    /// Keeps other locks away until the write has ended.
    lock: Option<ExclusiveGuard<'m>>,
}

impl<K: Send + Sync + 'static, V: Send + Sync + 'static, S> Persistence<'_, K, V, S> {
    pub(super) fn until(mut self, deadline: Option<Instant>) -> Self {
        self.deadline = deadline;
        self
    }

    /// Waits before the next attempt. Not while pinned.
    #[cold]
    pub(super) fn step_back(&mut self, lost: Lost) {
        if lost == Lost::Locked {
            if self.lock.is_none() {
                let table = self.map.locks.table();
                self.lock = match self.deadline {
                    None => Some(table.lock(&self.hash)),
                    Some(instant) => table.try_lock_until(&self.hash, instant),
                };
            }
            if self.lock.is_some() {
                self.map.wait_for_thin(self.hash, self.deadline);
            }
        }
        self.patience.step_back(lost);
    }
}

impl<K, V, S> Deref for Persistence<'_, K, V, S>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    type Target = Patience;

    fn deref(&self) -> &Patience {
        &self.patience
    }
}

impl<K: Send + Sync + 'static, V: Send + Sync + 'static, S> VersionedMap<K, V, S> {
    /// The patience of a write of a key with this hash.
    pub(super) fn patience(&self, hash: u64) -> Persistence<'_, K, V, S> {
        Persistence {
            patience: Patience::new(),
            map: self,
            hash,
            deadline: None,
            lock: None,
        }
    }

    /// Waits for the end of the thin lock of an entry with this hash, which the caller has locked:
    /// step 14. Not while pinned.
    #[cold]
    fn wait_for_thin(&self, hash: u64, deadline: Option<Instant>) {
        let mut spin = Spin::new();
        loop {
            if self.index.locked_of(hash, &pin_cells()).is_none() {
                return;
            }
            if !spin.may_spin() {
                break;
            }
            spin.spin();
        }
        let (parker, notify) = Notify::this_thread();
        if let Some(wait) = self.enlist_with_thin(hash, notify) {
            wait.block_on(&parker, deadline);
        }
    }

    /// Has the end of such a lock notify; `None` if it has ended already.
    pub(super) fn enlist_with_thin(&self, hash: u64, notify: Notify) -> Option<Wait> {
        let pin = pin_cells();
        let entry = self.index.locked_of(hash, &pin)?;
        // Pinned until the waiter is in the queue: no other entry has the address yet [V13].
        enlist_with_lock(entry.cell.head(), notify)
    }

    /// The table of the locks of keys, if a key was locked before, for a console.
    #[cfg(feature = "console")]
    pub(crate) fn entry_locks(&self) -> Option<&Table> {
        self.locks.made()
    }

    /// Calls `f` with a key that the lock `id` of the map locks, if the map has an entry of it.
    #[cfg(feature = "console")]
    pub(crate) fn with_locked_key<R>(&self, id: KeyId, f: impl FnOnce(&K) -> R) -> Option<R> {
        let pin = pin_cells();
        self.index.key_of(IntegerHasher::key_of(id), &pin).map(f)
    }

    /// Begins a session: one owner of many locked keys of this map, which it locks one by one.
    ///
    /// Deadlocks among the sessions of a map are detected and reported to one of them, as among the
    /// [sessions](crate::Session) of a lock table. A transaction, a writer or an [`EntryGuard`]
    /// that waits is not part of the search.
    ///
    /// # Examples
    /// ```
    /// let map: latchwork::VersionedMap<String, u32> = Default::default();
    /// map.insert("a".into(), 1);
    /// let mut session = map.session();
    /// let n = *session.lock("a")?.get().expect("it has a value");
    /// session.lock("b")?.set(n + 1);
    /// session.commit();
    /// assert_eq!(map.get("b").as_deref(), Some(&2));
    /// # Ok::<_, latchwork::session::LockError>(())
    /// ```
    #[must_use = "a session that is dropped at once locks no key"]
    pub fn session(&self) -> EntrySession<'_, K, V, S> {
        EntrySession::new(self, self.locks.table().session())
    }
}

impl<K, V, S> VersionedMap<K, V, S>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: BuildHasher,
{
    /// Locks a key, whether it is present or absent, and returns a guard with a draft of its value.
    ///
    /// Writers, transactions that write the key, and other locks of it wait until the guard is
    /// dropped. Readers, snapshots and transactions that only read the key do not: they see the
    /// previous value until the guard [commits](EntryGuard::commit).
    ///
    /// A lock of an absent key makes an entry with a clone of the key. Use
    /// [`lock_key`](Self::lock_key) for a key that has no clone.
    ///
    /// # Blocking
    /// Blocks the thread until no other thread has locked the key. The queue is that of a
    /// [`LockTable`], with its [fairness](crate::Fairness). A direct write of a locked key
    /// waits in the same queue. Also waits while a transaction that has escalated owns the key, and
    /// aborts one that has not.
    ///
    /// # Panics
    /// Panics as [`insert`](Self::insert) does, or if the clone of the key panics.
    ///
    /// # Deadlocks
    /// A thread deadlocks with itself if it locks a key that it has locked, or writes it directly
    /// or in a transaction past the guard. Two keys with the same 64-bit hash may have one lock.
    /// Threads that lock one key while they hold another must agree on an order, or use
    /// [`lock_all`](Self::lock_all) or a [`session`](Self::session).
    ///
    /// # Memory ordering
    /// Locking a key synchronises with the previous unlock of that key.
    ///
    /// # Examples
    /// ```
    /// let stock: latchwork::VersionedMap<String, u32> = Default::default();
    /// stock.insert("apples".into(), 7);
    /// let mut apples = stock.lock("apples");
    /// apples.set(apples.get().map_or(0, |n| n - 1));
    /// assert_eq!(stock.get("apples").as_deref(), Some(&7)); // a draft is not visible
    /// apples.commit();
    /// assert_eq!(stock.get("apples").as_deref(), Some(&6));
    /// ```
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn lock<Q>(&self, key: &Q) -> EntryGuard<'_, K, V, S>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        self.lock_within(key, Limit::None).expect("it has no limit")
    }

    /// Locks a key as [`lock`](Self::lock) does, if that is possible at once.
    ///
    /// # Blocking
    /// Never blocks. Returns `None` if another thread has locked the key, writes it after a wait
    /// for a lock, or owns it in a transaction that has escalated.
    ///
    /// # Panics
    /// Panics as [`lock`](Self::lock) does.
    ///
    /// # Examples
    /// ```
    /// let map: latchwork::VersionedMap<u32, u32> = Default::default();
    /// let guard = map.lock(&1);
    /// assert!(map.try_lock(&1).is_none());
    /// drop(guard);
    /// assert!(map.try_lock(&1).is_some());
    /// ```
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn try_lock<Q>(&self, key: &Q) -> Option<EntryGuard<'_, K, V, S>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        self.lock_within(key, Limit::Try)
    }

    /// Locks a key as [`lock`](Self::lock) does, unless the time expires first. A timeout that
    /// overflows [`Instant`] waits indefinitely.
    ///
    /// # Blocking
    /// Blocks the thread for at most `timeout`.
    ///
    /// # Panics
    /// Panics as [`lock`](Self::lock) does.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// let map: latchwork::VersionedMap<u32, u32> = Default::default();
    /// let guard = map.lock(&1);
    /// assert!(map.try_lock_for(&1, Duration::from_millis(1)).is_none());
    /// # drop(guard);
    /// ```
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn try_lock_for<Q>(&self, key: &Q, timeout: Duration) -> Option<EntryGuard<'_, K, V, S>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        self.lock_within(key, Limit::after(timeout))
    }

    /// Locks a key as [`lock`](Self::lock) does. If the key is absent, the entry has `key` itself;
    /// otherwise `key` is dropped.
    ///
    /// # Blocking
    /// Blocks the thread as [`lock`](Self::lock) does.
    ///
    /// # Panics
    /// Panics as [`insert`](Self::insert) does.
    ///
    /// # Examples
    /// ```
    /// #[derive(PartialEq, Eq, Hash)]
    /// struct Id(u32); // not `Clone`
    /// let map = latchwork::VersionedMap::new();
    /// let mut guard = map.lock_key(Id(1));
    /// guard.set("one");
    /// guard.commit();
    /// assert_eq!(map.get(&Id(1)).as_deref(), Some(&"one"));
    /// ```
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn lock_key(&self, key: K) -> EntryGuard<'_, K, V, S> {
        let hash = self.hash(&key);
        if let Some(held) = self.collect_and_hold_thin(hash, &key) {
            return EntryGuard::new(self, held, None);
        }
        let lock = self.locks.table().lock(&hash);
        let mut key = Some(key);
        let mut attempt =
            |local: &Local, pin: &CellPin| self.hold_owned(local, pin, hash, &mut key);
        let held = self.hold(hash, Limit::None, || Limit::None, &mut attempt);
        EntryGuard::new(self, held.expect("it has no limit"), Some(lock))
    }

    /// Locks a key as [`lock`](Self::lock) does, without blocking the thread.
    ///
    /// The future hashes and clones the key at the call, and borrows only the map. It works on any
    /// executor.
    ///
    /// # Panics
    /// The call panics if the hasher or the clone of the key panics. The future panics where
    /// [`lock`](Self::lock) does, and if it is polled after it was ready, or after a poll that
    /// panicked.
    ///
    /// # Cancel safety
    /// Cancel safe: a future that is dropped leaves the queue, and passes on a lock that it was
    /// granted.
    ///
    /// # Examples
    /// ```
    /// # pollster::block_on(async {
    /// let pages: latchwork::VersionedMap<String, String> = Default::default();
    /// let mut page = pages.lock_async("index").await;
    /// if page.get().is_none() {
    ///     page.set("…".repeat(3)); // after an `.await` of the fetch
    /// }
    /// page.commit();
    /// assert_eq!(pages.get("index").as_deref().map(String::as_str), Some("………"));
    /// # })
    /// ```
    pub fn lock_async<Q>(&self, key: &Q) -> EntryLockFuture<'_, K, V, S>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let hash = self.hash(key);
        // Not in a poll: the future may have been granted the lock before.
        collect();
        EntryLockFuture::new(self, hash, key.to_owned())
    }

    /// Locks several keys. A key that is given twice is locked once.
    ///
    /// All calls lock in one order, so callers that hold no other lock of this map never deadlock
    /// with each other.
    ///
    /// # Blocking
    /// Blocks the thread until all keys are locked, as [`lock`](Self::lock) does for each.
    ///
    /// # Panics
    /// Panics as [`lock`](Self::lock) does. No key is locked then.
    ///
    /// # Deadlocks
    /// As for [`lock`](Self::lock), if the thread holds another lock of the map.
    ///
    /// # Examples
    /// ```
    /// let map: latchwork::VersionedMap<_, _> = [("a", 1), ("b", 2)].into_iter().collect();
    /// let mut both = map.lock_all([&"a", &"b"]);
    /// let n = *both.entry(&"a").unwrap().get().unwrap();
    /// both.entry(&"b").unwrap().set(n + 10);
    /// both.commit();
    /// assert_eq!(map.get("b").as_deref(), Some(&11));
    /// ```
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn lock_all<'q, Q>(&self, keys: impl IntoIterator<Item = &'q Q>) -> EntrySet<'_, K, V, S>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized + 'q,
    {
        let keys = keys.into_iter().map(|key| (self.hash(key), key));
        let keys: Vec<(u64, &Q)> = keys.collect();
        let hashes = keys.iter().map(|(hash, _)| (hash, Mode::Exclusive));
        collect();
        let locks = self.locks.table().lock_all(hashes);
        let mut set = EntrySet::new(self, locks);
        for (hash, key) in keys {
            if find(&mut set.entries, hash, key).is_none() {
                set.add(self.hold_key(hash, key));
            }
        }
        set
    }

    /// Locks the entry of a key whose hash the caller has locked.
    #[cfg_attr(debug_assertions, track_caller)]
    pub(super) fn hold_key<Q>(&self, hash: u64, key: &Q) -> Held<K, V>
    where
        K: Borrow<Q>,
        Q: Eq + ToOwned<Owned = K> + ?Sized,
    {
        let mut attempt = |local: &Local, pin: &CellPin| self.hold_borrowed(local, pin, hash, key);
        let held = self.hold(hash, Limit::None, || Limit::None, &mut attempt);
        held.expect("it has no limit")
    }

    /// The same for a session, whose policy limits the wait for a thin lock.
    #[cfg_attr(debug_assertions, track_caller)]
    pub(super) fn hold_key_of_session<Q>(
        &self,
        hash: u64,
        key: &Q,
        policy: Policy,
    ) -> Result<Held<K, V>, LockError>
    where
        K: Borrow<Q>,
        Q: Eq + ToOwned<Owned = K> + ?Sized,
    {
        let mut limit = None;
        let mut limit = || match policy {
            Policy::NoWait => Limit::Try,
            // The clock is read by a session that waits.
            Policy::Timeout(time) => *limit.get_or_insert_with(|| Limit::after(time)),
            Policy::Detect | Policy::WaitDie => Limit::None,
        };
        let mut attempt = |local: &Local, pin: &CellPin| self.hold_borrowed(local, pin, hash, key);
        let held = self.hold(hash, Limit::None, &mut limit, &mut attempt);
        held.ok_or(match policy {
            Policy::NoWait => LockError::WouldBlock,
            _ => LockError::TimedOut,
        })
    }

    #[cfg_attr(debug_assertions, track_caller)]
    fn lock_within<Q>(&self, key: &Q, limit: Limit) -> Option<EntryGuard<'_, K, V, S>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let hash = self.hash(key);
        if let Some(held) = self.collect_and_hold_thin(hash, key) {
            return Some(EntryGuard::new(self, held, None));
        }
        self.lock_within_slow(hash, key, limit)
    }

    /// Locks an entry without its hash, if that is possible at once.
    #[inline]
    #[cfg_attr(debug_assertions, track_caller)]
    fn collect_and_hold_thin<Q>(&self, hash: u64, key: &Q) -> Option<Held<K, V>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        reclaim::with(|local| {
            // Not later: the key is not locked yet [V15].
            local.collect_some();
            let pin = local.pin();
            self.hold_thin(&pin, hash, key)
        })
    }

    #[inline(never)]
    #[cfg_attr(debug_assertions, track_caller)]
    fn lock_within_slow<Q>(
        &self,
        hash: u64,
        key: &Q,
        limit: Limit,
    ) -> Option<EntryGuard<'_, K, V, S>>
    where
        K: Borrow<Q>,
        Q: Eq + ToOwned<Owned = K> + ?Sized,
    {
        let table = self.locks.table();
        let lock = match limit {
            Limit::None => table.lock(&hash),
            Limit::Until(instant) => table.try_lock_until(&hash, instant)?,
            Limit::Try => table.try_lock(&hash)?,
        };
        let mut attempt = |local: &Local, pin: &CellPin| self.hold_borrowed(local, pin, hash, key);
        let held = self.hold(hash, limit, || limit, &mut attempt)?;
        Some(EntryGuard::new(self, held, Some(lock)))
    }

    /// Makes attempts to lock an entry whose hash the caller has locked, until `owned` ends the
    /// wait for a transaction that owns it, or `thin` ends the wait for a thin lock.
    #[cfg_attr(debug_assertions, track_caller)]
    fn hold(
        &self,
        hash: u64,
        owned: Limit,
        mut thin: impl FnMut() -> Limit,
        attempt: Attempt<'_, K, V>,
    ) -> Option<Held<K, V>> {
        let mut patience = Patience::new();
        reclaim::with(|local| {
            loop {
                let pin = local.pin();
                let held = attempt(local, &pin);
                drop(pin);
                match held {
                    Ok(held) => return Some(held),
                    Err(Lost::Owned) if owned.is_over() => return None,
                    Err(Lost::Locked) => match thin() {
                        limit if limit.is_over() => return None,
                        limit => self.wait_for_thin(hash, limit.deadline()),
                    },
                    Err(lost) => patience.step_back(lost),
                }
            }
        })
    }
}

#[cfg(all(test, not(any(latchwork_loom, latchwork_shuttle))))]
mod tests {
    use super::*;

    /// Waits until some thread has locked a hash.
    #[cfg(not(feature = "console"))]
    fn wait_for_a_hash(map: &VersionedMap<u32, u32>) {
        while map.locks.table().locked_count() == 0 {
            std::thread::yield_now();
        }
    }

    /// A writer has locked the hash, and waits for the end of a thin lock. The next lock of the
    /// thread that has ended it queues behind the writer [V13].
    #[test]
    #[cfg(not(feature = "console"))]
    fn a_thin_lock_does_not_bypass_the_holder_of_the_hash() {
        let map: VersionedMap<u32, u32> = [(1, 10)].into_iter().collect();
        for n in 10..60 {
            let guard = map.lock(&1);
            assert_eq!(map.locks.table().locked_count(), 0, "it is thin");
            std::thread::scope(|s| {
                s.spawn(|| map.update(&1, |n| n + 1));
                wait_for_a_hash(&map);
                drop(guard);
                assert_eq!(map.lock(&1).get(), Some(&(n + 1)));
            });
        }
    }

    /// The policy of a session also applies to a key with a thin lock.
    #[test]
    fn a_session_does_not_wait_for_a_thin_lock_against_its_policy() {
        let map: VersionedMap<u32, u32> = [(1, 10), (2, 20)].into_iter().collect();
        let guard = map.lock(&1);
        let mut session = map.session().policy(Policy::NoWait);
        session.lock(&2).expect("it is free");
        let refused = session.lock(&1).map(drop);
        assert!(matches!(refused, Err(LockError::WouldBlock)), "{refused:?}");
        assert_eq!(session.len(), 1);
        drop(session);
        let timeout = Policy::Timeout(Duration::from_millis(2));
        let mut session = map.session().policy(timeout);
        let refused = session.lock(&1).map(drop);
        assert!(matches!(refused, Err(LockError::TimedOut)), "{refused:?}");
        assert_eq!(map.locks.table().locked_count(), 0);
        drop(guard);
        session.lock(&1).expect("it is free");
    }

    /// All keys have one hash.
    #[cfg(not(feature = "console"))]
    #[derive(Default)]
    struct Same;

    #[cfg(not(feature = "console"))]
    impl core::hash::Hasher for Same {
        fn write(&mut self, _: &[u8]) {}

        fn finish(&self) -> u64 {
            7
        }
    }

    /// A session that is refused a key keeps the hash of another one.
    #[test]
    #[cfg(not(feature = "console"))]
    fn a_session_that_is_refused_a_key_keeps_its_other_keys() {
        type Map = VersionedMap<u32, u32, core::hash::BuildHasherDefault<Same>>;
        let map: Map = [(1, 10), (2, 20)].into_iter().collect();
        let guard = map.lock(&1);
        let mut session = map.session().policy(Policy::NoWait);
        session.lock(&2).expect("it is free");
        assert!(session.lock(&1).is_err());
        assert_eq!(map.locks.table().locked_count(), 1);
        drop(guard);
        session.lock(&1).expect("it is free");
        drop(session);
        assert_eq!(map.locks.table().locked_count(), 0);
    }
}
