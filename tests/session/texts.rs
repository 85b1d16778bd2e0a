//! The whole text of each error and panic of sessions, latches and ordered locks.

use std::any::Any;
use std::future::Future;
#[cfg(not(feature = "lock-places"))]
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use latchwork::latch::{ExclusiveGuard, Obsolete, OptimisticLatch, Restart};
use latchwork::ordered::{OrderedMutex, OrderedRwLock, RootToken};
use latchwork::session::{LockError, Policy, SavepointError};
use latchwork::{LockTable, Mode};

const POLLED: &str = "`SessionLockFuture` polled after it was ready, or after a poll that panicked; \
                      create a new future";

fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// The message of the panic of `f`.
fn panic_of<R>(f: impl FnOnce() -> R) -> String {
    let panic: Box<dyn Any + Send> = match catch_unwind(AssertUnwindSafe(f)) {
        Ok(_) => panic!("it returns"),
        Err(panic) => panic,
    };
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast_ref::<&str>().expect("a message").to_string(),
    }
}

/// The reports of deadlocks contain places with the feature `lock-places`: their tests need it off.
///
/// All tables hash alike, so that a set has one order in all of them.
#[cfg(not(feature = "lock-places"))]
fn labelled() -> LockTable<u64, BuildHasherDefault<DefaultHasher>> {
    LockTable::builder()
        .hasher(BuildHasherDefault::default())
        .key_labels(|_| String::from("account 7"))
        .build()
}

#[test]
fn a_lock_that_times_out() {
    let table: LockTable<u64> = LockTable::new();
    let _guard = table.lock(&1);
    let mut session = table.session().policy(Policy::Timeout(Duration::ZERO));
    let error = session.lock(&1).unwrap_err();
    assert!(matches!(error, LockError::TimedOut));
    assert_eq!(
        error.to_string(),
        "timed out while waiting for the key: release the session's keys and retry, or raise the timeout"
    );
}

#[test]
fn a_lock_that_does_not_wait() {
    let table: LockTable<u64> = LockTable::new();
    let _guard = table.lock(&1);
    let mut session = table.session().policy(Policy::NoWait);
    assert_eq!(
        session.lock(&1).unwrap_err().to_string(),
        "the key is not free, and `Policy::NoWait` does not wait: retry later"
    );
}

#[test]
fn a_lock_that_dies() {
    let table: LockTable<u64> = LockTable::new();
    let mut older = table.session().policy(Policy::WaitDie);
    let mut newer = table.session().policy(Policy::WaitDie);
    older.lock(&1).unwrap();
    assert_eq!(
        newer.lock(&1).unwrap_err().to_string(),
        "an older session holds or requests the key (`Policy::WaitDie`): release all keys and retry with the same session"
    );
}

#[cfg(not(feature = "lock-places"))]
#[test]
fn a_deadlock_of_sessions() {
    let table = labelled();
    let (mut one, mut two) = (table.session().named("one"), table.session());
    one.lock_shared(&1).unwrap();
    two.lock_shared(&1).unwrap();
    let mut first = one.lock_async(&1);
    assert!(poll(&mut first).is_pending());
    let Poll::Ready(Err(error)) = poll(&mut two.lock_async(&1)) else {
        panic!("the second upgrade closes the cycle");
    };
    assert_eq!(
        error.to_string(),
        "deadlock of 2 sessions:\n  \
         session #2 waits for account 7 exclusively, which one (#1) holds shared\n  \
         one (#1) waits for account 7 exclusively, which session #2 holds shared\n  \
         session #2 was chosen as the victim: release its keys and retry"
    );
}

/// The set acquires its keys in one order, which depends on the hasher: one of both choices
/// deadlocks.
#[cfg(not(feature = "lock-places"))]
#[test]
fn a_deadlock_of_a_session_and_a_set() {
    let texts = [(1, 2), (2, 1)].map(|(held, wanted)| {
        let table = labelled();
        let mut session = table.session().named("checkout");
        session.lock(&held).unwrap();
        let keys = [(&held, Mode::Exclusive), (&wanted, Mode::Exclusive)];
        let mut set = table.lock_all_async(keys);
        assert!(poll(&mut set).is_pending());
        match poll(&mut session.lock_async(&wanted)) {
            Poll::Ready(done) => done.err().map(|error| error.to_string()),
            Poll::Pending => panic!("it waits"),
        }
    });
    let texts: Vec<String> = texts.into_iter().flatten().collect();
    assert_eq!(
        texts,
        ["deadlock of 1 session and 1 set:\n  \
          set of 2 keys (#2) waits for account 7 exclusively, which checkout (#1) holds exclusively\n  \
          checkout (#1) waits for account 7 exclusively, which set of 2 keys (#2) holds exclusively\n  \
          checkout (#1) was chosen as the victim: release its keys and retry"]
    );
}

#[test]
fn a_savepoint_that_is_not_valid() {
    let table: LockTable<u64> = LockTable::new();
    let (mut one, mut two) = (table.session(), table.session());
    let savepoint = one.savepoint();
    let error = two.rollback_to(savepoint).unwrap_err();
    assert_eq!(error, SavepointError::OfAnotherSession);
    assert_eq!(
        error.to_string(),
        "the savepoint belongs to another session: use it with the session that returned it"
    );
    one.release_savepoint(savepoint).unwrap();
    let error = one.release_savepoint(savepoint).unwrap_err();
    assert_eq!(error, SavepointError::Released);
    assert_eq!(
        error.to_string(),
        "the savepoint was released, by itself or with an earlier one: make a new savepoint"
    );
}

#[test]
fn a_future_that_is_polled_after_it_was_ready() {
    let table: LockTable<u64> = LockTable::new();
    let mut session = table.session();
    let mut future = session.lock_async(&1);
    assert!(poll(&mut future).is_ready());
    assert_eq!(panic_of(|| poll(&mut future)), POLLED);
}

/// A waker that panics.
struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("a waker");
    }
}

/// The session is woken, and its poll grants the key to the reader behind it, whose waker panics.
#[test]
fn a_future_that_is_polled_after_a_panic() {
    let table: LockTable<u64> = LockTable::new();
    let guard = table.lock(&1);
    let mut session = table.session();
    let mut future = session.lock_shared_async(&1);
    assert!(poll(&mut future).is_pending());
    let mut reader = table.lock_shared_async(&1);
    let waker = Waker::from(Arc::new(Panics));
    let polled = Pin::new(&mut reader).poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    drop(guard);
    assert_eq!(panic_of(|| poll(&mut future)), "a waker");
    assert_eq!(panic_of(|| poll(&mut future)), POLLED);
    drop(future);
    assert_eq!(session.mode(&1), Some(Mode::Shared));
}

#[test]
fn an_obsolete_latch() {
    let latch = OptimisticLatch::new(());
    let version = latch.version().unwrap();
    ExclusiveGuard::mark_obsolete(latch.exclusive().unwrap());
    let text = "the latch is obsolete because its node was removed: restart at the root";
    assert_eq!(latch.shared().unwrap_err().to_string(), text);
    let error = latch.upgrade(version).unwrap_err();
    assert_eq!(error, Restart::from(Obsolete));
    assert_eq!(error.to_string(), text);
}

#[test]
fn a_latch_that_was_written() {
    let latch = OptimisticLatch::new(());
    let version = latch.version().unwrap();
    drop(latch.exclusive().unwrap());
    assert_eq!(
        latch.upgrade(version).unwrap_err().to_string(),
        "the latch was written since its version was read, or is held by another thread: restart"
    );
}

#[test]
fn a_lock_that_is_passed_twice() {
    latchwork::levels! {
        Account;
    }
    let text = "a call that locks several locks got one lock twice, and would deadlock with itself: \
                pass each lock once";
    let mutex: OrderedMutex<Account, ()> = OrderedMutex::new(());
    let lock: OrderedRwLock<Account, ()> = OrderedRwLock::new(());
    let mut root = RootToken::take().unwrap();
    let all = panic_of(|| drop(OrderedMutex::lock_all([&mutex, &mutex], &mut root)));
    assert_eq!(all, text);
    let all = panic_of(|| drop(OrderedRwLock::read_all([&lock, &lock], &mut root)));
    assert_eq!(all, text);
    let all = panic_of(|| drop(OrderedRwLock::write_all([&lock, &lock], &mut root)));
    assert_eq!(all, text);
    assert!(!mutex.is_locked() && !lock.is_locked());
}

#[cfg(any(debug_assertions, feature = "order-checks"))]
mod checked {
    use latchwork::ordered::checked::Mutex;

    use super::panic_of;

    /// The text with `PLACE` for each place of this file.
    fn without_places(text: &str) -> String {
        let mut parts = text.split(file!());
        let mut result = parts.next().expect("a text").to_owned();
        for part in parts {
            result += "PLACE";
            result += part.trim_start_matches(|c: char| c == ':' || c.is_ascii_digit());
        }
        result
    }

    #[test]
    fn an_order_that_is_violated() {
        let (a, b) = (Mutex::new(()), Mutex::new(()));
        {
            let _a = a.lock();
            let _b = b.lock();
        }
        let _b = b.lock();
        let step = "PLACE acquires the lock created at PLACE while it holds, since PLACE, the one created at PLACE";
        assert_eq!(
            without_places(&panic_of(|| drop(a.lock()))),
            format!(
                "lock order violation: threads that acquire these locks in a cycle can deadlock, \
                 so all must use one order:\n  now     {step}\n  before  {step}"
            )
        );
    }

    #[test]
    fn a_lock_that_the_thread_holds() {
        let mutex = Mutex::new(());
        let _guard = mutex.lock();
        assert_eq!(
            without_places(&panic_of(|| drop(mutex.lock()))),
            "deadlock: a thread acquires a lock that it already holds, and must release it first:\n  \
             PLACE acquires the lock created at PLACE, held since PLACE"
        );
    }
}
