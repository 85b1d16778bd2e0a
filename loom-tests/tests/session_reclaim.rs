//! Sessions on real crossbeam-epoch: a wait that somebody else ends keeps its monitor no more, and
//! its session may not know.

mod common;

use common::task::{alarm, poll};
use common::{A, B, World, finish, spawn};
use latchwork_loom_tests::Model;
use std::sync::Arc;
use std::task::Poll;

/// The task waits for what the other session holds. That one looks for a circle, ends this wait,
/// and leaves, with the last hold of the key.
#[test]
fn the_monitor_dies_under_one_that_was_told() {
    Model::new("a task looks at its wait as that is ended and the monitor dies")
        .rules("[M1] [M13]")
        .preemptions(Some(1))
        .outcomes(&["told w2", "waits w1", "waits w2"])
        .check(|| {
            let world = World::reclaiming();
            // SAFETY: this session is dropped before the world is, and the other by a thread that
            // is joined before.
            let table = &unsafe { &*Arc::as_ptr(&world) }.table;
            let (mut own, mut other) = (table.session(), table.session().priority(1));
            own.lock(&A).unwrap();
            other.lock(&B).unwrap();
            let mut task = own.lock_async(&B);
            assert!(poll(&mut task, &alarm().1).is_pending());
            let other = spawn(&world, move |_| {
                let mut task = other.lock_async(&A);
                let _ = poll(&mut task, &alarm().1);
                drop(task);
                drop(other);
            });
            let told = matches!(poll(&mut task, &alarm().1), Poll::Ready(Err(_)));
            world.note(if told { "told" } else { "waits" });
            drop(task);
            drop(own);
            finish(world, [other])
        });
}
