//! Rules of `PROTOCOL.md` that concern the drivers, each with an engine that observes them.

use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::task::{Context, Waker};
use std::thread;
use std::time::{Duration, Instant};

use latchwork::table::FencingToken;
use latchwork_lease::engine::{
    Attempt, Engine, EngineError, HolderInfo, Key, Nonce, Released, Renewal, Renewed, Request,
};
use latchwork_lease::guarantees::Guarantees;
use latchwork_lease::memory::MemoryEngine;
use latchwork_lease::{AcquireOptions, LeaseFuture, Leases, LossReason, Release};

const SHORT: Duration = Duration::from_millis(400);
const LONG: Duration = Duration::from_secs(60);

/// Observes the requests to an engine in memory.
#[derive(Default)]
struct Observer {
    engine: MemoryEngine,
    asks: AtomicUsize,
    asking: AtomicUsize,
    most_asking: AtomicUsize,
    nonces: Mutex<Vec<Nonce>>,
    renewals: AtomicUsize,
    /// The first renewals that hang until `go_on`, whatever their deadline.
    hang: AtomicUsize,
    go_on: AtomicBool,
    /// Whether several leases are released in one request.
    releases_together: AtomicBool,
    /// Such requests, of which the first has no answer.
    releases_of_many: AtomicUsize,
    releases: AtomicUsize,
    /// Whether releases hang until `go_on`.
    hang_releases: AtomicBool,
    /// Renewals of this name hang until their deadline, and all others with them.
    hang_name: Mutex<Option<&'static str>>,
    /// Whether waits for a key return at once.
    hints_at_once: AtomicBool,
    hints: AtomicUsize,
}

#[derive(Clone, Default)]
struct Observed(Arc<Observer>);

impl Engine for Observed {
    fn guarantees(&self) -> Guarantees {
        self.0.engine.guarantees()
    }

    fn try_acquire(
        &self,
        request: &Request<'_>,
        deadline: Instant,
    ) -> Result<Attempt, EngineError> {
        let observer = &self.0;
        observer.asks.fetch_add(1, Ordering::SeqCst);
        let asking = observer.asking.fetch_add(1, Ordering::SeqCst) + 1;
        observer.most_asking.fetch_max(asking, Ordering::SeqCst);
        observer.nonces.lock().unwrap().push(request.nonce);
        thread::sleep(Duration::from_millis(2));
        let answer = observer.engine.try_acquire(request, deadline);
        observer.asking.fetch_sub(1, Ordering::SeqCst);
        answer
    }

    fn renew_many(
        &self,
        renewals: &[Renewal<'_>],
        deadline: Instant,
    ) -> Result<Vec<Renewed>, EngineError> {
        let observer = &self.0;
        if observer.renewals.fetch_add(1, Ordering::SeqCst) < observer.hang.load(Ordering::SeqCst) {
            while !observer.go_on.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(5));
            }
            return Err(EngineError::unknown("no answer"));
        }
        let hangs = *observer.hang_name.lock().unwrap();
        if renewals
            .iter()
            .any(|renewal| hangs == Some(renewal.key.name))
        {
            thread::sleep(deadline.saturating_duration_since(Instant::now()));
            return Err(EngineError::unknown("no answer"));
        }
        observer.engine.renew_many(renewals, deadline)
    }

    fn release(
        &self,
        key: Key<'_>,
        nonce: Nonce,
        deadline: Instant,
    ) -> Result<Released, EngineError> {
        let observer = &self.0;
        observer.releases.fetch_add(1, Ordering::SeqCst);
        while observer.hang_releases.load(Ordering::SeqCst)
            && !observer.go_on.load(Ordering::SeqCst)
        {
            thread::sleep(Duration::from_millis(5));
        }
        observer.engine.release(key, nonce, deadline)
    }

    fn release_many(
        &self,
        releases: &[(Key<'_>, Nonce)],
        deadline: Instant,
    ) -> Option<Result<Vec<Released>, EngineError>> {
        let observer = &self.0;
        if !observer.releases_together.load(Ordering::SeqCst) {
            return None;
        }
        if !releases.is_empty() && observer.releases_of_many.fetch_add(1, Ordering::SeqCst) == 0 {
            return Some(Err(EngineError::unknown("no answer")));
        }
        let release =
            |(key, nonce): &(Key<'_>, Nonce)| observer.engine.release(*key, *nonce, deadline);
        Some(releases.iter().map(release).collect())
    }

    fn holder(&self, key: Key<'_>, deadline: Instant) -> Result<Option<HolderInfo>, EngineError> {
        self.0.engine.holder(key, deadline)
    }

    fn list(
        &self,
        namespace: &str,
        prefix: &str,
        deadline: Instant,
    ) -> Result<Vec<(String, HolderInfo)>, EngineError> {
        self.0.engine.list(namespace, prefix, deadline)
    }

    fn break_lease(
        &self,
        key: Key<'_>,
        token: FencingToken,
        deadline: Instant,
    ) -> Result<bool, EngineError> {
        self.0.engine.break_lease(key, token, deadline)
    }

    fn raise_floor(
        &self,
        key: Key<'_>,
        token: FencingToken,
        deadline: Instant,
    ) -> Result<(), EngineError> {
        self.0.engine.raise_floor(key, token, deadline)
    }

    fn wait_hint(&self, key: Key<'_>, nonce: Nonce, deadline: Instant) -> Result<(), EngineError> {
        self.0.hints.fetch_add(1, Ordering::SeqCst);
        if self.0.hints_at_once.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.0.engine.wait_hint(key, nonce, deadline)
    }
}

#[test]
fn one_thread_of_a_process_requests_a_name_at_a_time() {
    let engine = Observed::default();
    let leases = Leases::new(engine.clone());
    let start = Barrier::new(8);
    thread::scope(|s| {
        for number in 0..8 {
            let (leases, start) = (leases.clone(), &start);
            s.spawn(move || {
                start.wait();
                let lease = match number % 2 {
                    0 => leases.acquire("a", LONG).unwrap(),
                    _ => pollster::block_on(leases.acquire_async("a", LONG)).unwrap(),
                };
                thread::sleep(Duration::from_millis(5));
                assert_eq!(lease.release().unwrap(), Release::Done);
            });
        }
    });
    // No request was refused, because none was made while another thread had the name.
    assert_eq!(engine.0.asks.load(Ordering::SeqCst), 8);
    assert_eq!(engine.0.most_asking.load(Ordering::SeqCst), 1);
    let nonces = engine.0.nonces.lock().unwrap();
    assert_eq!(nonces.iter().collect::<HashSet<_>>().len(), 8, "{nonces:?}");
}

#[test]
fn requests_for_other_names_do_not_wait() {
    let engine = Observed::default();
    let leases = Leases::new(engine);
    let held = leases.acquire("a", LONG).unwrap();
    drop(leases.acquire("b", LONG).unwrap());
    assert!(held.is_held());
}

#[test]
fn a_renewal_that_hangs_expires_no_lease() {
    // Beyond its deadline, and twice.
    let engine = Observed::default();
    engine.0.hang.store(2, Ordering::SeqCst);
    let leases = Leases::builder()
        .request_timeout(Duration::from_millis(60))
        .build(engine.clone())
        .unwrap();
    let set = leases
        .acquire_all(["a", "b", "c"], Duration::from_secs(1))
        .unwrap();
    thread::sleep(Duration::from_secs(3));
    assert!(set.is_held());
    assert!(engine.0.renewals.load(Ordering::SeqCst) > 4);
    engine.0.go_on.store(true, Ordering::SeqCst);
    assert_eq!(set.release().unwrap(), Release::Done);
}

#[test]
fn a_lease_for_which_the_engine_hangs_expires_few_others() {
    let engine = Observed::default();
    *engine.0.hang_name.lock().unwrap() = Some("lease/7");
    let leases = Leases::new(engine.clone());
    let names = (0..200).map(|number| format!("lease/{number}"));
    // Acquired at nearly the same time, so one request renews all.
    let set = leases.acquire_all(names, Duration::from_secs(4)).unwrap();
    thread::sleep(Duration::from_millis(4500));
    let lost: Vec<&str> = set
        .iter()
        .filter(|lease| !lease.is_held())
        .map(|lease| lease.name())
        .collect();
    assert!(lost.contains(&"lease/7"), "{lost:?}");
    assert!(lost.len() <= 4, "{lost:?}");
}

#[test]
fn releases_that_fail_together_are_repeated_one_by_one() {
    let engine = Observed::default();
    engine.0.releases_together.store(true, Ordering::SeqCst);
    let leases = Leases::new(engine.clone());
    let names = ["a", "b", "c", "d", "e"];
    let set = leases.acquire_all(names, LONG).unwrap();
    assert!(set.release().is_err());
    let start = Instant::now();
    while names
        .iter()
        .any(|name| leases.holder(name).unwrap().is_some())
    {
        assert!(start.elapsed() < LONG / 4, "a release was not repeated");
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(engine.0.releases_of_many.load(Ordering::SeqCst), 1);
    assert!(engine.0.releases.load(Ordering::SeqCst) >= names.len());
    // The next set needs one request.
    let released = engine.0.releases.load(Ordering::SeqCst);
    let set = leases.acquire_all(names, LONG).unwrap();
    assert_eq!(set.release().unwrap(), Release::Done);
    assert_eq!(engine.0.releases_of_many.load(Ordering::SeqCst), 2);
    assert_eq!(engine.0.releases.load(Ordering::SeqCst), released);
}

#[test]
fn a_loss_is_notified_while_all_renewals_hang() {
    let engine = Observed::default();
    engine.0.hang.store(usize::MAX, Ordering::SeqCst);
    let leases = Leases::new(engine.clone());
    let lease = leases.acquire("a", SHORT).unwrap();
    let (start, lost) = (Instant::now(), lease.lost());
    assert_eq!(pollster::block_on(lost), LossReason::Expired);
    assert!(
        start.elapsed() < SHORT + Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
    assert!(!lease.is_held());
    engine.0.go_on.store(true, Ordering::SeqCst);
}

#[test]
fn renewals_share_requests() {
    let engine = Observed::default();
    let leases = Leases::new(engine.clone());
    let ttl = Duration::from_secs(2);
    let held: Vec<_> = (0..50)
        .map(|number| leases.acquire(&format!("a{number}"), ttl).unwrap())
        .collect();
    thread::sleep(ttl);
    assert!(held.iter().all(|lease| lease.is_held()));
    // Each lease was renewed twice or three times.
    let requests = engine.0.renewals.load(Ordering::SeqCst);
    assert!((2..50).contains(&requests), "{requests} requests");
}

#[test]
fn more_tasks_than_threads_wait_for_names() {
    let engine = Observed::default();
    let (leases, other) = (Leases::new(engine.clone()), Leases::new(engine));
    let names: Vec<String> = (0..40).map(|number| format!("a{number}")).collect();
    let held: Vec<_> = names
        .iter()
        .map(|name| other.acquire(name, LONG).unwrap())
        .collect();
    thread::scope(|s| {
        let waiters: Vec<_> = names
            .iter()
            .map(|name| s.spawn(|| pollster::block_on(leases.acquire_async(name, LONG)).unwrap()))
            .collect();
        thread::sleep(Duration::from_millis(100));
        // A name that is free is granted though all the others wait.
        drop(pollster::block_on(leases.acquire_async("free", LONG)).unwrap());
        drop(held);
        for waiter in waiters {
            assert!(waiter.join().unwrap().is_held());
        }
    });
}

#[test]
fn handles_and_futures_are_send_and_static() {
    fn check<T: Send + 'static>() {}
    fn check_sync<T: Send + Sync + Clone + 'static>() {}
    check_sync::<Leases>();
    check_sync::<AcquireOptions>();
    check::<latchwork_lease::Lease>();
    check::<latchwork_lease::LeaseLost>();
    check::<latchwork_lease::LeaseSet>();
    check::<latchwork_lease::Leadership>();
    check::<latchwork_lease::Watch>();
    check::<LeaseFuture<latchwork_lease::Lease>>();
}

#[test]
fn a_callback_that_panics_affects_no_lease() {
    let leases = Leases::new(MemoryEngine::new());
    let (one, two) = (
        leases.acquire("a", SHORT).unwrap(),
        leases.acquire("b", SHORT).unwrap(),
    );
    one.on_lost(|reason| std::panic::panic_any(reason));
    drop(one);
    thread::sleep(SHORT * 2);
    assert!(two.is_held());
    drop(leases.acquire("a", LONG).unwrap());
}

#[test]
fn a_caller_does_not_overtake_the_queue_of_its_process() {
    let leases = Leases::new(MemoryEngine::new());
    let lease = leases.acquire("a", LONG).unwrap();
    let mut context = Context::from_waker(Waker::noop());
    let mut queue: Vec<_> = (0..3).map(|_| leases.acquire_async("a", LONG)).collect();
    for future in &mut queue {
        assert!(Pin::new(future).poll(&mut context).is_pending());
    }
    assert_eq!(lease.release().unwrap(), Release::Done);
    let mut last = 0;
    for future in queue {
        // The name belongs to the head of the queue, which was not polled yet.
        assert!(leases.try_acquire("a", LONG).unwrap().is_none());
        let lease = pollster::block_on(future).unwrap();
        assert!(lease.token().get() > last);
        last = lease.token().get();
        assert_eq!(lease.release().unwrap(), Release::Done);
    }
    assert!(leases.try_acquire("a", LONG).unwrap().is_some());
}

#[test]
fn a_lost_lease_leaves_the_queue_while_its_release_hangs() {
    let engine = Observed::default();
    engine.0.hang_releases.store(true, Ordering::SeqCst);
    let leases = Leases::new(engine.clone());
    // The loss is reported after two seconds, and the lease is over eight seconds later.
    let lease = leases.acquire("a", Duration::from_secs(6)).unwrap();
    assert!(leases.break_lease("a", lease.token()).unwrap());
    assert_eq!(lease.wait_lost_for(LONG), Some(LossReason::TakenAway));
    let mut options = AcquireOptions::new(LONG);
    options.give_up_after = Some(Duration::from_secs(5));
    let next = leases.acquire_with("a", &options).unwrap();
    engine.0.go_on.store(true, Ordering::SeqCst);
    assert_eq!(next.release().unwrap(), Release::Done);
}

#[test]
fn a_waiting_thread_is_notified_of_a_loss() {
    let mut waited = Duration::ZERO;
    for _ in 0..10 {
        let leases = Leases::new(MemoryEngine::new());
        let lease = Arc::new(leases.acquire("a", LONG).unwrap());
        let waiting = lease.clone();
        let waiter = thread::spawn(move || waiting.wait_lost_for(LONG));
        thread::sleep(Duration::from_millis(20));
        let start = Instant::now();
        leases.shutdown(LONG).unwrap();
        assert_eq!(waiter.join().unwrap(), Some(LossReason::Shutdown));
        waited += start.elapsed();
    }
    // A thread that is not notified checks once a second.
    assert!(waited < Duration::from_secs(5), "{waited:?}");
}

#[test]
fn spurious_hints_keep_no_thread_busy() {
    let engine = Observed::default();
    engine.0.hints_at_once.store(true, Ordering::SeqCst);
    let holder = Leases::new(engine.0.engine.clone());
    let held = holder.acquire("a", LONG).unwrap();
    let leases = Leases::new(engine.clone());
    let mut options = AcquireOptions::new(LONG);
    options.give_up_after = Some(Duration::from_secs(1));
    // About 220 are expected. Without a pause there are hundreds of thousands.
    let hints = |what: &str| {
        let hints = engine.0.hints.swap(0, Ordering::SeqCst);
        assert!(hints < 4_000, "{hints} hints in a second of {what}");
    };
    assert!(leases.acquire_with("a", &options).is_err());
    hints("a thread");
    let asynchronous = leases.acquire_with_async("a", &options);
    assert!(pollster::block_on(asynchronous).is_err());
    hints("a task");
    let mut watch = leases.watch("a").unwrap();
    assert!(watch.next().unwrap().is_some());
    thread::scope(|s| {
        s.spawn(|| {
            thread::sleep(Duration::from_secs(1));
            drop(held);
        });
        assert!(watch.next().unwrap().is_none());
    });
    hints("a watch");
}

/// Panics when it is dropped, unless its thread panics.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(thread::panicking(), "the payload of a panic panics");
    }
}

struct BombOfWaker;

impl std::task::Wake for BombOfWaker {
    fn wake(self: Arc<Self>) {
        std::panic::panic_any(Bomb);
    }
}

#[test]
fn a_panic_whose_payload_panics_ends_no_thread() {
    let leases = Leases::connect("memory:").unwrap();
    // More callbacks than threads run them.
    for number in 0..20 {
        let lease = leases.acquire(&format!("a{number}"), LONG).unwrap();
        lease.on_lost(|_| std::panic::panic_any(Bomb));
        drop(lease);
    }
    let called = Arc::new(AtomicBool::new(false));
    let lease = leases.acquire("b", LONG).unwrap();
    let flag = called.clone();
    lease.on_lost(move |_| flag.store(true, Ordering::SeqCst));
    drop(lease);
    let start = Instant::now();
    while !called.load(Ordering::SeqCst) {
        assert!(start.elapsed() < LONG / 6, "the callback is not called");
        thread::sleep(Duration::from_millis(10));
    }
    // The timer thread wakes those that wait for a time limit.
    let held = leases.acquire("c", LONG).unwrap();
    let renewed = leases.acquire("d", SHORT).unwrap();
    let mut options = AcquireOptions::new(LONG);
    options.give_up_after = Some(SHORT / 4);
    let mut waiting = Box::pin(leases.acquire_with_async("c", &options));
    let waker = Waker::from(Arc::new(BombOfWaker));
    let mut context = Context::from_waker(&waker);
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    assert_eq!(renewed.wait_lost_for(SHORT * 3), None);
    drop((waiting, held));
}
