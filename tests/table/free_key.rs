//! A waiter is not refused a free key: neither a task that is polled nor a thread whose deadline
//! passes, also behind a waiter that was woken and never checks.

use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::tasks::{
    FORMS, Form, POLICIES, Table, assert_usable, now, poll, queued, shared_table,
};
use crate::common::watchdog;
use latchwork::{
    Fairness, Mode,
    session::{LockError, Policy},
};

#[test]
fn a_task_that_is_polled_is_not_refused_a_free_key() {
    for head in [Mode::Exclusive, Mode::Shared] {
        for form in FORMS {
            let (table, fresh) = shared_table(Fairness::Eventual);
            let guard = table.lock(&1);
            let (first, bell) = queued(&table, head);
            let mut second = form.lock(&table, 1);
            assert!(poll(&mut second).is_pending());
            assert!(poll(&mut second).is_pending(), "the key is held");
            drop(guard);
            assert_eq!((bell.rings(), table.mode(&1)), (1, None));
            let Poll::Ready(held) = poll(&mut second) else {
                panic!("{form:?} was refused a free key");
            };
            assert_eq!(table.mode(&1), Some(form.mode));
            drop(held);
            // The head lost nothing.
            drop(now(first));
            assert_usable(&table, fresh);
        }
    }
}

#[test]
fn a_session_that_is_polled_is_not_refused_a_free_key() {
    for mode in [Mode::Exclusive, Mode::Shared] {
        let (table, fresh) = shared_table(Fairness::Eventual);
        let guard = table.lock(&1);
        let (first, _) = queued(&table, Mode::Exclusive);
        let mut session = table.session();
        let mut second = Box::pin(match mode {
            Mode::Exclusive => session.lock_async(&1),
            Mode::Shared => session.lock_shared_async(&1),
        });
        assert!(poll(&mut second).is_pending());
        drop(guard);
        assert!(matches!(poll(&mut second), Poll::Ready(Ok(()))));
        drop(second);
        assert_eq!(table.mode(&1), Some(mode));
        drop(session);
        drop(now(first));
        assert_usable(&table, fresh);
    }
}

#[test]
fn the_second_key_of_a_set_is_not_refused_while_it_is_free() {
    let (table, fresh) = shared_table(Fairness::Eventual);
    let keys = [0, 1].map(|key| (key, Mode::Exclusive));
    let guard = table.lock(&1);
    let (first, _) = queued(&table, Mode::Exclusive);
    let mut set = table.lock_all_async(keys.iter().map(|(key, mode)| (key, *mode)));
    assert!(poll(&mut set).is_pending());
    drop(guard);
    let Poll::Ready(set) = poll(&mut set) else {
        panic!("it was refused a free key");
    };
    drop(set);
    drop(now(first));
    assert_usable(&table, fresh);
}

/// Asks for key 1 until `deadline`; whether it was locked.
type Asks = fn(&Table, Instant) -> bool;

fn asks_in_a_session(table: &Table, deadline: Instant, mode: Mode) -> bool {
    let left = deadline.saturating_duration_since(Instant::now());
    let mut session = table.session().policy(Policy::Timeout(left));
    let locked = match mode {
        Mode::Exclusive => session.lock(&1),
        Mode::Shared => session.lock_shared(&1),
    };
    assert!(matches!(locked, Ok(()) | Err(LockError::TimedOut)));
    locked.is_ok()
}

#[test]
fn a_thread_is_not_refused_a_free_key_at_its_deadline() {
    let _dog = watchdog("a_thread_is_not_refused_a_free_key_at_its_deadline");
    let forms: [Asks; 6] = [
        |table, deadline| table.try_lock_until(&1, deadline).is_some(),
        |table, deadline| table.try_lock_shared_until(&1, deadline).is_some(),
        |table, deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            table
                .try_lock_all_for([(&0, Mode::Shared), (&1, Mode::Exclusive)], left)
                .is_some()
        },
        |table, deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            table.try_lock_all_for([(&1, Mode::Shared)], left).is_some()
        },
        |table, deadline| asks_in_a_session(table, deadline, Mode::Exclusive),
        |table, deadline| asks_in_a_session(table, deadline, Mode::Shared),
    ];
    for (i, asks) in forms.into_iter().enumerate() {
        let (table, fresh) = shared_table(Fairness::Eventual);
        // A machine that is busy may let the deadline pass before the key is free: then the round
        // shows nothing.
        while !is_locked_at_the_deadline(&table, asks, i) {}
        assert_usable(&table, fresh);
    }
}

fn is_locked_at_the_deadline(table: &std::sync::Arc<Table>, asks: Asks, i: usize) -> bool {
    let guard = table.lock(&1);
    let (first, _) = queued(table, Mode::Exclusive);
    thread::scope(|scope| {
        let deadline = Instant::now() + Duration::from_millis(100);
        let second = scope.spawn(move || asks(table, deadline));
        while table.stats().waiting < 2 && !second.is_finished() {
            thread::yield_now();
        }
        drop(guard);
        let in_time = Instant::now() < deadline;
        let locked = second.join().unwrap();
        assert!(locked || !in_time, "form {i} was refused a free key");
        drop(now(first));
        locked
    })
}

/// The releases of those that acquire the key out of turn count, so that the head is handed the key
/// in the end.
#[test]
fn a_head_that_never_checks_is_overtaken_a_bounded_number_of_times() {
    for head in [Mode::Exclusive, Mode::Shared] {
        for form in FORMS {
            let (table, fresh) = shared_table(Fairness::Eventual);
            let guard = table.lock(&1);
            let (first, _) = queued(&table, head);
            drop(guard);
            let mut overtakes = 0;
            loop {
                let guard = table.try_lock(&1).expect("the key is free");
                let mut next = form.lock(&table, 1);
                assert!(poll(&mut next).is_pending());
                drop(guard);
                let Poll::Ready(held) = poll(&mut next) else {
                    drop(next);
                    break;
                };
                drop(held);
                overtakes += 1;
                assert!(overtakes <= 64, "{form:?} before {head:?}");
                if table.mode(&1).is_some() {
                    break;
                }
            }
            assert!(overtakes > 0);
            assert_eq!(table.mode(&1), Some(head), "it was handed the key");
            drop(now(first));
            assert_usable(&table, fresh);
        }
    }
}

/// Readers do not extend a shared hold past a writer that waits: each enters only a free key.
#[test]
fn a_reader_behind_a_writer_is_refused_a_key_that_is_shared() {
    let (table, fresh) = shared_table(Fairness::Eventual);
    let shared = table.lock_shared(&1);
    let (writer, _) = queued(&table, Mode::Exclusive);
    let (mut reader, _) = queued(&table, Mode::Shared);
    for _ in 0..10 {
        assert!(poll(&mut reader).is_pending());
    }
    drop(shared);
    assert!(poll(&mut reader).map(drop).is_ready());
    assert!(table.mode(&1).is_none());
    drop(now(writer));
    drop(reader);
    assert_usable(&table, fresh);
}

/// Readers that wait among readers share the key with one that came later.
#[test]
fn a_reader_joins_those_that_share_the_key_where_no_writer_waits() {
    let (table, fresh) = shared_table(Fairness::Eventual);
    let guard = table.lock(&1);
    let (first, _) = queued(&table, Mode::Shared);
    let (second, _) = queued(&table, Mode::Shared);
    drop(guard);
    let shared = table.try_lock_shared(&1).expect("it is free");
    let second = now(second);
    let first = now(first);
    assert_eq!(table.inspect()[0].holders, 3);
    drop((shared, first, second));
    assert_usable(&table, fresh);
}

#[test]
fn fifo_grants_nothing_out_of_turn() {
    for form in FORMS {
        let (table, fresh) = shared_table(Fairness::Fifo);
        let guard = table.lock(&1);
        let (first, _) = queued(&table, Mode::Exclusive);
        let mut second = form.lock(&table, 1);
        assert!(poll(&mut second).is_pending());
        drop(guard);
        for _ in 0..10 {
            assert!(poll(&mut second).is_pending(), "{form:?}");
        }
        drop(now(first));
        drop(now(second));
        assert_usable(&table, fresh);
    }
}

/// A future that got the key out of turn, or gave its place up, leaves the queue whole.
#[test]
fn the_queue_is_whole_after_each_order_of_polls_and_drops() {
    for fairness in POLICIES {
        for order in 0..27_usize {
            let (table, fresh) = shared_table(fairness);
            let guard = table.lock(&1);
            let form = |i: usize| FORMS[(order + i) % FORMS.len()];
            let lock = |form: Form| {
                let mut future = form.lock(&table, 1);
                assert!(poll(&mut future).is_pending());
                future
            };
            let mut waiting: Vec<_> = (0..3).map(|i| Some(lock(form(i)))).collect();
            drop(guard);
            let mut turn = order;
            for _ in 0..3 {
                let future = &mut waiting[turn % 3];
                turn /= 3;
                if let Some(mut taken) = future.take()
                    && poll(&mut taken).map(drop).is_pending()
                {
                    *future = Some(taken);
                }
            }
            // Whoever is left gets the key in the end, polled in turn.
            for _ in 0..3 {
                for future in &mut waiting {
                    if let Some(mut taken) = future.take()
                        && poll(&mut taken).map(drop).is_pending()
                    {
                        *future = Some(taken);
                    }
                }
            }
            assert!(waiting.iter().all(Option::is_none), "order {order}");
            assert_usable(&table, fresh);
        }
    }
}
