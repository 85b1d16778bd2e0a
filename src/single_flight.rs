//! One computation for all concurrent callers of one key: [`SingleFlight`].
//!
//! A *flight* is one computation with its participants. A shard maps the hash of a key and the
//! number of a flight to the flight. Keys are compared outside of the shard's mutex, because a
//! comparison is user code.
//!
//! The participants elect a leader by a lock of a [`LockTable`], whose key is the number of the
//! flight. The leader holds the key exclusively while it computes. The others wait for it shared,
//! so that all of them are granted at once.
//!
//! *Ending.* A leader that has computed a value first clones it for its followers. Then the leader
//! removes the flight from its shard, and publishes the value. So a caller that arrives after any
//! participant has returned starts a new flight. A clone that panics leaves the flight in its
//! shard: new callers join it, and no second computation of the key begins beside a follower's.
//!
//! *Unwinding.* A leader that panics, or whose future is dropped, releases the lock without a
//! value. Each of the others then locks the flight exclusively, in the order of the queue, and the
//! first one leads. A participant leaves the flight when its [`Seat`] is dropped, and the last one
//! to leave removes the flight.

use core::convert::Infallible;
use core::fmt;
use core::hash::{BuildHasher, Hash};
use core::panic::{RefUnwindSafe, UnwindSafe};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use crossbeam_utils::CachePadded;

use crate::lock_table::{ExclusiveGuard, LockTable};
use crate::sync::{Counter, Mutex};
use crate::{RandomState, table::IntegerHasher};

/// Runs one computation for all concurrent callers of one key.
///
/// The first caller of a key leads: it computes the value. Callers that arrive before the
/// computation ends follow: they wait, and receive a clone. Callers of other keys do not wait. Keys
/// are compared with [`Eq`], not only by hash.
///
/// Nothing is stored once a value is delivered, so this is no cache: a caller that arrives after
/// the end of the computation starts a new one.
///
/// # Cancellation and panics
/// If the closure of a leader panics, or its future is dropped, one of its followers leads: it runs
/// its own closure. Followers never receive an error or a panic of another caller.
///
/// If the future of a leader is forgotten ([`core::mem::forget`]), its followers wait for as long
/// as the `SingleFlight` lives.
///
/// # Errors
/// An error is not shared. [`try_run`](Self::try_run) returns the error to the leader alone, and
/// the next follower runs its own closure. So followers of a computation that fails repeatedly try
/// one after another. To share an error, make it part of the value: use [`run`](Self::run) of a
/// `SingleFlight<K, Result<T, Arc<E>>>`.
///
/// # Deadlocks
/// A closure that requests the key that it computes waits for itself. Closures that request each
/// other's keys must agree on an order, as with locks.
///
/// # Memory ordering
/// The computation of a value synchronises with the return of each caller that receives it.
///
/// # When something else is better
/// To keep values, use a cache that coalesces its loads, such as `moka` with `get_with`. Or call
/// `run` on a cache miss, and check the cache once more inside the closure.
///
/// # Examples
/// ```
/// use latchwork::table::SingleFlight;
/// use std::sync::Barrier;
/// use std::sync::atomic::{AtomicUsize, Ordering};
///
/// let (flights, runs) = (SingleFlight::new(), AtomicUsize::new(0));
/// let load = |name: &str| {
///     runs.fetch_add(1, Ordering::Relaxed);
///     name.len()
/// };
/// std::thread::scope(|s| {
///     for _ in 0..8 {
///         s.spawn(|| assert_eq!(flights.run("a.txt", || load("a.txt")), 5));
///     }
/// });
/// assert!((1..=8).contains(&runs.into_inner())); // one for each group of callers that overlap
/// assert_eq!(flights.in_flight(), 0);
/// ```
#[doc(alias = "coalesce")]
#[doc(alias = "deduplicate")]
pub struct SingleFlight<K, V, S = RandomState> {
    hasher: S,
    shards: Box<[Shard<K, V>]>,
    numbers: Counter,
    /// The leader of a flight holds its number exclusively.
    leads: LockTable<u64, IntegerHasher>,
}

/// Flights, by the hash of the key and the number of the flight.
type Shard<K, V> = CachePadded<Mutex<BTreeMap<(u64, u64), Entry<K, V>>>>;

/// A power of two, which was not chosen by measurement.
const SHARDS: usize = 16;

struct Flight<K, V> {
    number: u64,
    key: K,
    value: OnceLock<V>,
}

struct Entry<K, V> {
    flight: Arc<Flight<K, V>>,
    participants: usize,
}

/// A participant of a flight.
struct Seat<'s, K, V> {
    shard: &'s Shard<K, V>,
    hash: u64,
    flight: Arc<Flight<K, V>>,
}

impl<K, V> Seat<'_, K, V> {
    fn place(&self) -> (u64, u64) {
        (self.hash, self.flight.number)
    }

    fn value(&self) -> Option<&V> {
        self.flight.value.get()
    }

    /// Ends the flight with the leader's value, and returns it.
    fn land(&self, value: V) -> V
    where
        V: Clone,
    {
        let mut flights = self.shard.lock();
        let entry = flights.get(&self.place());
        if entry.is_some_and(|entry| entry.participants == 1) {
            // No other caller can join now. `self` keeps the key alive.
            flights.remove(&self.place());
            drop(flights);
            return value;
        }
        drop(flights);
        // A clone that panics must leave the flight in its shard: its followers compute next.
        let copy = value.clone();
        self.shard.lock().remove(&self.place());
        // Set once: the caller holds the flight exclusively, and has found no value.
        let _ = self.flight.value.set(value);
        copy
    }
}

impl<K, V> Drop for Seat<'_, K, V> {
    fn drop(&mut self) {
        let mut flights = self.shard.lock();
        let Some(entry) = flights.get_mut(&self.place()) else {
            return;
        };
        entry.participants -= 1;
        if entry.participants == 0 {
            // `self` keeps the flight alive, so that no key is dropped under the mutex.
            flights.remove(&self.place());
        }
    }
}

// No user code runs under the mutex of a shard, so a panic leaves every shard consistent. Keys and
// values are only shared.
impl<K: RefUnwindSafe, V: RefUnwindSafe, S: UnwindSafe> UnwindSafe for SingleFlight<K, V, S> {}
impl<K: RefUnwindSafe, V: RefUnwindSafe, S: RefUnwindSafe> RefUnwindSafe for SingleFlight<K, V, S> {}

impl<K, V> SingleFlight<K, V> {
    /// Makes a `SingleFlight` with the default hasher.
    pub fn new() -> Self {
        Self::with_hasher(RandomState::new())
    }
}

impl<K, V, S> SingleFlight<K, V, S> {
    /// Makes a `SingleFlight` that hashes keys with `hasher`.
    pub fn with_hasher(hasher: S) -> Self {
        SingleFlight {
            hasher,
            shards: (0..SHARDS)
                .map(|_| CachePadded::new(Mutex::new(BTreeMap::new())))
                .collect(),
            numbers: Counter::new(),
            leads: LockTable::builder()
                .hasher(IntegerHasher::new())
                .expected_locks(1)
                .build(),
        }
    }

    /// Returns the number of computations that run or have waiting callers now.
    ///
    /// The number may be out of date when the method returns.
    ///
    /// # Blocking
    /// Blocks only briefly, while another caller joins or leaves a computation.
    pub fn in_flight(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }
}

impl<K: Eq + Hash, V, S: BuildHasher> SingleFlight<K, V, S> {
    /// Joins the flight of `key`, or starts one. No user code runs under the mutex of a shard.
    fn join(&self, key: K) -> Seat<'_, K, V> {
        let hash = self.hasher.hash_one(&key);
        // The high bits choose the shard: hashers for hash maps make the low bits good, and in
        // `IntegerHasher` both are equally good.
        let shard = &self.shards[(hash >> 32) as usize % SHARDS];
        // Flights of one hash that were compared before have lower numbers.
        let mut number = 0;
        loop {
            let mut flights = shard.lock();
            let Some((_, entry)) = flights.range_mut((hash, number)..=(hash, u64::MAX)).next()
            else {
                // Numbered under the mutex, so that later flights of this shard have greater
                // numbers.
                number = self.numbers.next();
                let flight = Arc::new(Flight {
                    number,
                    key,
                    value: OnceLock::new(),
                });
                let entry = Entry {
                    flight: Arc::clone(&flight),
                    participants: 1,
                };
                flights.insert((hash, number), entry);
                drop(flights);
                return Seat {
                    shard,
                    hash,
                    flight,
                };
            };
            entry.participants += 1;
            let seat = Seat {
                shard,
                hash,
                flight: Arc::clone(&entry.flight),
            };
            drop(flights);
            if seat.flight.key == key {
                return seat;
            }
            number = seat.flight.number + 1;
        }
    }
}

impl<K: Eq + Hash, V: Clone, S: BuildHasher> SingleFlight<K, V, S> {
    /// Returns the value of `f`, or a clone of the value that another caller computes for an equal
    /// key.
    ///
    /// # Blocking
    /// Blocks the thread until the value is available: the leader runs `f`, and a follower waits
    /// for its leader. A waiting thread spins briefly, and then parks. Threads and tasks may
    /// request one key together.
    ///
    /// On a current-thread runtime the call can block indefinitely, because the task that leads
    /// never runs: use [`run_async`](Self::run_async) there.
    ///
    /// # Panics
    /// Panics if `f` panics; then a follower leads. Panics for this caller alone if a comparison, a
    /// hash or a clone panics.
    ///
    /// # Deadlocks
    /// Deadlocks if `f` requests the same key.
    ///
    /// # Examples
    /// ```
    /// let flights = latchwork::table::SingleFlight::new();
    /// assert_eq!(flights.run("a", || 1), 1);
    /// assert_eq!(flights.run("a", || 2), 2); // nothing was kept
    /// ```
    pub fn run(&self, key: K, f: impl FnOnce() -> V) -> V {
        match self.try_run(key, || Ok::<V, Infallible>(f())) {
            Ok(value) => value,
            Err(never) => match never {},
        }
    }

    /// Returns the value of `f`, or a clone of the value of another caller, where `f` may fail.
    ///
    /// # Blocking
    /// Blocks the thread as [`run`](Self::run) does. On a current-thread runtime the call can block
    /// indefinitely: use [`try_run_async`](Self::try_run_async) there.
    ///
    /// # Errors
    /// Returns the error of `f` if this caller led. The next follower then runs its own closure.
    ///
    /// # Panics
    /// Panics where [`run`](Self::run) does.
    ///
    /// # Deadlocks
    /// Deadlocks if `f` requests the same key.
    ///
    /// # Examples
    /// ```
    /// let flights = latchwork::table::SingleFlight::new();
    /// assert_eq!(flights.try_run("a", || "x".parse::<u8>().map_err(drop)), Err(()));
    /// assert_eq!(flights.try_run("a", || "7".parse::<u8>().map_err(drop)), Ok(7));
    /// ```
    pub fn try_run<E>(&self, key: K, f: impl FnOnce() -> Result<V, E>) -> Result<V, E> {
        let seat = self.join(key);
        let number = seat.flight.number;
        let lead = match self.leads.try_lock(&number) {
            Some(lead) => lead,
            None => {
                drop(self.leads.lock_shared(&number));
                if let Some(value) = seat.value() {
                    return Ok(value.clone());
                }
                // The leader has ended without a value.
                self.leads.lock(&number)
            }
        };
        match Self::still_to_compute(&seat, lead) {
            // Held until the value is published or the closure unwinds.
            Ok(_lead) => Ok(seat.land(f()?)),
            Err(value) => Ok(value),
        }
    }

    /// Returns the value of the future that `f` makes, or a clone of the value of another caller.
    ///
    /// The caller that leads polls the future that `f` makes. Nothing happens until the returned
    /// future is polled. A future that was polled once and is not polled again delays the other
    /// callers of its key: poll it, or drop it. Any executor can run it.
    ///
    /// # Blocking
    /// Never blocks the thread. A future that is ready at once does not yield to the executor
    /// ([`docs::tasks`](crate::docs::tasks)).
    ///
    /// # Panics
    /// Panics if the future that `f` makes panics; then a follower leads. The returned future
    /// panics if it is polled after it has returned the value.
    ///
    /// # Deadlocks
    /// The future never completes if the future that `f` makes requests the same key.
    ///
    /// # Cancel safety
    /// The future may be dropped at any point. If it leads, the computation is dropped with it, and
    /// one of its followers runs its own closure. To complete a computation even if its caller is
    /// dropped, spawn the computation as a task and await the task in the closure.
    ///
    /// # Examples
    /// ```
    /// # pollster::block_on(async {
    /// let flights = latchwork::table::SingleFlight::new();
    /// let value = flights.run_async("a", || async { 7 }).await;
    /// assert_eq!(value, 7);
    /// # });
    /// ```
    pub async fn run_async<F>(&self, key: K, f: impl FnOnce() -> F) -> V
    where
        F: Future<Output = V>,
    {
        let infallible = || async { Ok::<V, Infallible>(f().await) };
        match self.try_run_async(key, infallible).await {
            Ok(value) => value,
            Err(never) => match never {},
        }
    }

    /// Returns the value of the future that `f` makes, where the future may fail.
    ///
    /// It behaves as [`run_async`](Self::run_async) otherwise.
    ///
    /// # Blocking
    /// Never blocks the thread. A future that is ready at once does not yield to the executor
    /// ([`docs::tasks`](crate::docs::tasks)).
    ///
    /// # Errors
    /// Returns the error of the future if this caller led. The next follower then runs its own
    /// closure.
    ///
    /// # Panics
    /// Panics where [`run_async`](Self::run_async) does.
    ///
    /// # Deadlocks
    /// The future never completes if the future that `f` makes requests the same key.
    ///
    /// # Cancel safety
    /// The future may be dropped at any point, with the same effect as that of
    /// [`run_async`](Self::run_async).
    ///
    /// # Examples
    /// ```
    /// # pollster::block_on(async {
    /// let flights = latchwork::table::SingleFlight::new();
    /// let value = flights.try_run_async("a", || async { "7".parse::<u8>() }).await;
    /// assert_eq!(value, Ok(7));
    /// # });
    /// ```
    pub async fn try_run_async<E, F>(&self, key: K, f: impl FnOnce() -> F) -> Result<V, E>
    where
        F: Future<Output = Result<V, E>>,
    {
        let seat = self.join(key);
        let number = seat.flight.number;
        let lead = match self.leads.try_lock(&number) {
            Some(lead) => lead,
            None => {
                drop(self.leads.lock_shared_async(&number).await);
                if let Some(value) = seat.value() {
                    return Ok(value.clone());
                }
                self.leads.lock_async(&number).await
            }
        };
        match Self::still_to_compute(&seat, lead) {
            Ok(_lead) => Ok(seat.land(f().await?)),
            Err(value) => Ok(value),
        }
    }

    /// Returns the lead if the flight has no value yet, and a clone of the value otherwise.
    fn still_to_compute<'l>(
        seat: &Seat<'_, K, V>,
        lead: ExclusiveGuard<'l>,
    ) -> Result<ExclusiveGuard<'l>, V> {
        let Some(value) = seat.value() else {
            return Ok(lead);
        };
        // Released before user code runs.
        drop(lead);
        Err(value.clone())
    }
}

impl<K, V, S: Default> Default for SingleFlight<K, V, S> {
    fn default() -> Self {
        Self::with_hasher(S::default())
    }
}

impl<K, V, S> fmt::Debug for SingleFlight<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SingleFlight")
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}
