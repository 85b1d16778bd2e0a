//! When a session that waits looks for a deadlock, and when it gives up.
//!
//! No test measures a time: what is due in an hour does not come, and a test that needs it hangs.

use std::task::Poll;
use std::time::Duration;

use latchwork::{
    Mode,
    session::{LockError, Policy},
};

use crate::actors::Table;
use crate::common::tasks::poll;
use crate::common::{until_waits, watchdog};

const HOUR: Duration = Duration::from_secs(3600);

/// An upgrade that is late leaves the session a reader.
#[test]
fn a_session_that_waits_for_so_long() {
    let _watchdog = watchdog("a_session_that_waits_for_so_long");
    for (time, detect_after) in [
        (Duration::ZERO, Duration::ZERO),
        (Duration::from_millis(2), Duration::from_millis(1)),
        (Duration::from_millis(1), HOUR),
        (Duration::from_millis(1), Duration::MAX),
    ] {
        let table = Table::new();
        let guard = table.lock_shared(&1);
        let session = table.session().policy(Policy::Timeout(time));
        let mut session = session.detect_after(detect_after);
        assert!(matches!(session.lock(&1), Err(LockError::TimedOut)));
        session.lock_shared(&1).unwrap();
        assert!(matches!(session.lock(&1), Err(LockError::TimedOut)));
        assert_eq!(session.mode(&1), Some(Mode::Shared));
        drop(guard);
        session.lock(&1).unwrap();
    }
}

/// A task gives up when it is polled after its time.
#[test]
fn a_task_that_waits_for_so_long() {
    let table = Table::new();
    let guard = table.lock(&1);
    let mut session = table.session().policy(Policy::Timeout(Duration::ZERO));
    let mut future = session.lock_async(&1);
    let done = loop {
        if let Poll::Ready(done) = poll(&mut future) {
            break done;
        }
    };
    assert!(matches!(done, Err(LockError::TimedOut)));
    drop(future);
    assert_eq!(table.stats().waiting, 0);
    drop(guard);
}

/// Nobody gives up before his time, be it that he has looked for a deadlock or not.
#[test]
fn a_key_that_comes_in_time_is_got() {
    for detect_after in [Duration::ZERO, 2 * HOUR] {
        let table = Table::new();
        let guard = table.lock(&1);
        let session = table.session().policy(Policy::Timeout(HOUR));
        let mut session = session.detect_after(detect_after);
        std::thread::scope(|s| {
            let waits = s.spawn(|| session.lock(&1));
            until_waits(&table, 1);
            // For who would give up now.
            std::thread::sleep(Duration::from_millis(5));
            drop(guard);
            let got = waits.join().unwrap();
            assert!(got.is_ok(), "{got:?}");
        });
    }
}

/// Who looks at once learns of a deadlock before his time is over, also if it is over at once.
#[test]
fn a_deadlock_is_told_before_the_time_is_over() {
    let _watchdog = watchdog("a_deadlock_is_told_before_the_time_is_over");
    for time in [Duration::ZERO, HOUR] {
        let table = Table::new();
        let (mut one, two) = (table.session(), table.session());
        let two = two.policy(Policy::Timeout(time));
        let mut two = two.detect_after(Duration::ZERO);
        one.lock(&1).unwrap();
        two.lock(&2).unwrap();
        let mut waits = one.lock_async(&2);
        assert!(poll(&mut waits).is_pending());
        let told = two.lock(&1);
        assert!(matches!(told, Err(LockError::Deadlock(_))), "{told:?}");
    }
}

/// Who has not looked yet, or never does, is not seen, and others wait for it as for a plain guard.
#[test]
fn sessions_that_do_not_look_wait() {
    let _watchdog = watchdog("sessions_that_do_not_look_wait");
    for detect_after in [HOUR, Duration::MAX] {
        let table = Table::new();
        std::thread::scope(|s| {
            let mut one = table.session().detect_after(detect_after);
            one.lock(&1).unwrap();
            let other = s.spawn(|| {
                let policy = Policy::Timeout(Duration::from_millis(20));
                let mut two = table.session().policy(policy);
                two.lock(&2).unwrap();
                until_waits(&table, 1);
                let told = two.lock(&1);
                assert!(matches!(told, Err(LockError::TimedOut)), "{told:?}");
            });
            while table.mode(&2).is_none() {
                std::thread::yield_now();
            }
            one.lock(&2).unwrap();
            other.join().unwrap();
        });
        assert!(table.deadlocks().is_empty());
    }
}
