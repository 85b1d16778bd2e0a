//! Futures of sessions that nobody polls, or no longer.

use std::task::Poll;

use latchwork::{Mode, session::LockError};

use crate::actors::Table;
use crate::common::assert_as_new;
use crate::common::tasks::{Hooks, poll, poll_with};

/// It holds a key and is about to wait, which nobody can know: whoever waits for it waits, and
/// nobody is told.
#[test]
fn a_future_that_was_never_polled_is_no_party() {
    let table = Table::new();
    let fresh = table.stats().index_bytes;
    let (mut one, mut two) = (table.session(), table.session());
    one.lock(&1).unwrap();
    two.lock(&2).unwrap();
    let mut never = two.lock_async(&1);
    let mut waits = one.lock_async(&2);
    assert!(poll(&mut waits).is_pending());
    assert_eq!((table.stats().waiting, table.deadlocks().len()), (1, 0));
    // Its first poll makes it a party, and the circle is found in this very poll.
    let told = poll(&mut never);
    assert!(matches!(told, Poll::Ready(Err(LockError::Deadlock(_)))));
    drop(never);
    drop(two);
    assert!(matches!(poll(&mut waits), Poll::Ready(Ok(()))));
    drop(waits);
    drop(one);
    assert_as_new(&table, fresh);
}

/// Two in a circle, of whom the younger was polled once and is the victim. Returns what it says
/// when it is polled, or `None` if it is dropped.
fn a_victim(is_polled: bool) -> Option<LockError> {
    let table = Table::new();
    let fresh = table.stats().index_bytes;
    let (mut one, mut two) = (table.session(), table.session().named("victim"));
    one.lock(&1).unwrap();
    two.lock(&2).unwrap();
    let (hooks, waker) = Hooks::new();
    let mut victim = two.lock_async(&1);
    assert!(poll_with(&mut victim, &waker).is_pending());
    let mut waits = one.lock_async(&2);
    assert!(poll(&mut waits).is_pending());
    assert_eq!((hooks.wakes(), table.stats().waiting), (1, 1));
    // As long as it is not polled nothing moves, and nobody else is told, also if one more comes to
    // wait.
    let mut three = table.session();
    three.lock(&3).unwrap();
    let mut late = three.lock_async(&1);
    assert!(poll(&mut late).is_pending());
    assert!(poll(&mut waits).is_pending());
    assert_eq!(table.deadlocks().len(), 1);
    let told = is_polled.then(|| match poll(&mut victim) {
        Poll::Ready(Err(error)) => error,
        other => panic!("{other:?}"),
    });
    drop(victim);
    // It has learned of it, and holds what it held before.
    assert_eq!((two.mode(&2), two.mode(&1)), (Some(Mode::Exclusive), None));
    assert!(poll(&mut waits).is_pending());
    two.release_all();
    assert!(matches!(poll(&mut waits), Poll::Ready(Ok(()))));
    drop(waits);
    drop(one);
    assert!(matches!(poll(&mut late), Poll::Ready(Ok(()))));
    drop(late);
    assert_eq!(table.deadlocks().len(), 1);
    assert_eq!(
        table.deadlocks()[0].victim().name.as_deref(),
        Some("victim")
    );
    drop((two, three));
    assert_as_new(&table, fresh);
    told
}

#[test]
fn a_victim_that_is_not_polled_keeps_what_it_holds() {
    assert!(matches!(a_victim(true), Some(LockError::Deadlock(_))));
    assert!(a_victim(false).is_none());
}

/// A soft circle: the reader holds the key from when it was let past, polled or not; dropped, it
/// passes it on.
#[test]
fn a_reader_that_is_let_past_and_not_polled_holds_the_key() {
    for is_polled in [true, false] {
        let table = Table::new();
        let fresh = table.stats().index_bytes;
        let (mut one, mut two) = (table.session(), table.session());
        one.lock_shared(&1).unwrap();
        two.lock(&2).unwrap();
        let mut writer = table.lock_async(&1);
        assert!(poll(&mut writer).is_pending());
        let (hooks, waker) = Hooks::new();
        let mut reader = two.lock_shared_async(&1);
        assert!(poll_with(&mut reader, &waker).is_pending());
        let mut waits = one.lock_async(&2);
        assert!(poll(&mut waits).is_pending());
        assert_eq!((hooks.wakes(), table.deadlocks().len()), (1, 0));
        if is_polled {
            assert!(matches!(poll(&mut reader), Poll::Ready(Ok(()))));
        }
        drop(reader);
        assert_eq!(two.mode(&1), is_polled.then_some(Mode::Shared));
        drop(two);
        assert!(matches!(poll(&mut waits), Poll::Ready(Ok(()))));
        drop(waits);
        assert!(poll(&mut writer).is_pending());
        drop(one);
        assert!(poll(&mut writer).is_ready());
        drop(writer);
        assert_as_new(&table, fresh);
    }
}
