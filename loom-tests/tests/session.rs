//! Sessions: publish against detect, kill against everything else, upgrades that wait.

mod common;

use common::task::{alarm, block_on, poll};
use common::{A, B, C, Itself, World, finish, spawn};
use latchwork::Mode::{Exclusive, Shared};
use latchwork::{
    Mode, Session,
    session::{LockError, Policy, SessionLockFuture},
};
use latchwork_loom_tests::Model;
use loom::thread::JoinHandle;
use std::sync::Arc;

type Hasher = std::hash::BuildHasherDefault<Itself>;
type Locking<'s, 't> = SessionLockFuture<'s, 't, u64, Hasher>;

/// What became of an order to lock.
fn word(done: &Result<(), LockError>) -> &'static str {
    match done {
        Ok(()) => "ok",
        Err(LockError::Deadlock(_)) => "deadlock",
        Err(LockError::TimedOut) => "late",
        Err(_) => "other",
    }
}

type Sessions = Session<'static, u64, Hasher>;

/// A session of the world that may go to another thread. It must be gone before the world is.
fn session(world: &Arc<World>) -> Sessions {
    // SAFETY: each model drops its sessions, or has threads do so that it joins, before its last
    // share of the world.
    let world: &'static World = unsafe { &*Arc::as_ptr(world) };
    world.table.session()
}

/// Waits for all; the table has forgotten all sessions too.
fn done(world: Arc<World>, threads: impl IntoIterator<Item = JoinHandle<()>>) -> String {
    let table = world.clone();
    let outcome = finish(world, threads);
    assert!(table.table.knows_no_session(), "a session is left [D2]");
    outcome
}

/// A session that holds `own` and wants `other`, on a thread; it notes how that went, and ends.
fn want(world: &Arc<World>, mut session: Sessions, own: u64, other: u64) -> JoinHandle<()> {
    session.lock(&own).unwrap();
    spawn(world, move |w| wants(w, session, own, other))
}

fn wants(world: &World, mut session: Sessions, own: u64, other: u64) {
    world.write(own);
    let done = session.lock(&other);
    if done.is_ok() {
        world.write(other);
    }
    world.note(format!("{own:x}:{}", word(&done)));
}

/// The last to publish sees the other: one of them gives way, the younger.
#[test]
fn two_in_opposite_orders() {
    Model::new("two sessions hold a key each and want the other's")
        .rules("[D1] [D3] [D4] [M13]")
        .preemptions(Some(3))
        .outcomes(&["400:ok 800:deadlock w2"])
        .check(|| {
            let world = World::new();
            let mut first = session(&world);
            first.lock(&A).unwrap();
            let other = want(&world, session(&world), B, A);
            wants(&world, first, A, B);
            done(world, [other])
        });
}

#[test]
fn three_in_a_ring() {
    Model::new("three sessions, each of which wants what the next holds")
        .rules("[D1] [D3] [D4]")
        .preemptions(Some(2))
        .outcomes(&["400:deadlock 800:ok c00:ok w3"])
        .check(|| {
            let world = World::new();
            let mut all = [(); 3].map(|()| session(&world));
            for (session, key) in all.iter_mut().zip([A, B, C]) {
                session.lock(&key).unwrap();
            }
            let wants = |w: &World, mut session: Sessions, key| {
                w.note(format!("{key:x}:{}", word(&session.lock(&key))));
            };
            let [first, second, third] = all;
            let others = [
                spawn(&world, move |w| wants(w, second, C)),
                spawn(&world, move |w| wants(w, third, A)),
            ];
            wants(&world, first, B);
            done(world, others)
        });
}

/// One gives up by itself while the other finds the circle and may end its wait.
#[test]
fn one_is_late_as_the_other_detects() {
    Model::new("a session gives up while another finds it in a circle")
        .rules("[D2] [M13]")
        .preemptions(Some(3))
        .outcomes(&[
            "400:ok 800:deadlock w2",
            "400:ok 800:late w1",
            "400:ok 800:late w2",
        ])
        .check(|| {
            let world = World::new();
            let mut first = session(&world);
            first.lock(&A).unwrap();
            let late = session(&world).policy(Policy::Timeout(TIME));
            let other = want(&world, late, B, A);
            wants(&world, first, A, B);
            done(world, [other])
        });
}

/// Not over before the session waits; in a model the first park ends it.
const TIME: std::time::Duration = std::time::Duration::from_secs(1 << 20);

/// The last other reader that leaves gives the key to who waits to be alone with it.
#[test]
fn an_upgrade_waits_for_the_other_reader() {
    Model::new("a reader leaves as another waits to be alone")
        .rules("[M12]")
        .preemptions(Some(4))
        .outcomes(&["w0", "w1"])
        .check(|| {
            let world = World::new();
            world.hold_shared(A, 2);
            let other = spawn(&world, |w| {
                w.read(A);
                w.give_back(A, 1);
                w.read(A);
                w.give_back(A, 1);
            });
            {
                let mut session = world.table.session();
                session.lock_shared(&A).unwrap();
                session.lock(&A).unwrap();
                world.write(A);
            }
            done(world, [other])
        });
}

/// Nobody comes between the reader and its upgrade, and whoever waited before gets the key after.
#[test]
fn an_upgrade_goes_ahead_of_a_writer() {
    Model::new("a reader upgrades past a writer, as the other reader leaves")
        .rules("[M12] [M5]")
        .preemptions(Some(4))
        .outcomes(&["w1", "w2"])
        .check(|| {
            let world = World::new();
            world.hold_shared(A, 1);
            let mut session = world.table.session();
            session.lock_shared(&A).unwrap();
            let mut writer = world.table.lock_async(&A);
            assert!(poll(&mut writer, &alarm().1).is_pending());
            let other = spawn(&world, |w| {
                w.read(A);
                w.give_back(A, 1);
            });
            session.lock(&A).unwrap();
            world.write(A);
            drop(session);
            let guard = block_on(writer);
            world.write(A);
            drop(guard);
            done(world, [other])
        });
}

/// A head that was told to look is the head no more, when a reader that came past it upgrades: it
/// waits on.
#[test]
fn an_upgrade_goes_ahead_of_a_woken_reader() {
    Model::new("a reader was woken, others pass it, and one of them upgrades")
        .rules("[M12] [M5]")
        .preemptions(Some(3))
        .outcomes(&["w1", "w2"])
        .check(|| {
            let world = World::new();
            let guard = world.lock(A);
            let other = spawn(&world, |w| {
                w.shared(A);
            });
            drop(guard);
            world.hold_shared(A, 1);
            let mut session = session(&world);
            session.lock_shared(&A).unwrap();
            {
                let mut upgrade = session.lock_async(&A);
                let first = poll(&mut upgrade, &alarm().1);
                world.give_back(A, 1);
                if first.is_pending() {
                    block_on(upgrade).unwrap();
                }
            }
            world.write(A);
            drop(session);
            done(world, [other])
        });
}

/// An upgrade that gives up leaves a reader, and passes on what it owes.
#[test]
fn an_upgrade_gives_up_before_a_reader() {
    Model::new("an upgrade gives up as the other reader leaves, and one more waits")
        .rules("[M12] [M9]")
        .preemptions(Some(3))
        .outcomes(&["w2"])
        .check(|| {
            let world = World::new();
            world.hold_shared(A, 1);
            let mut session = world.table.session();
            session.lock_shared(&A).unwrap();
            let mut upgrade = session.lock_async(&A);
            assert!(poll(&mut upgrade, &alarm().1).is_pending());
            let mut reader = world.table.lock_shared_async(&A);
            assert!(poll(&mut reader, &alarm().1).is_pending());
            let other = spawn(&world, |w| {
                w.read(A);
                w.give_back(A, 1);
            });
            drop(upgrade);
            let guard = block_on(reader);
            world.read(A);
            drop(guard);
            assert_eq!(session.mode(&A), Some(Mode::Shared));
            drop(session);
            done(world, [other])
        });
}

/// An upgrade that gives up leaves no mark: the release that leaves its reader alone lets nobody
/// in.
#[test]
fn an_upgrade_gives_up_before_a_writer() {
    Model::new("an upgrade gives up as the other reader leaves, and a writer waits")
        .rules("[M12] [M5]")
        .preemptions(Some(3))
        .outcomes(&["w2"])
        .check(|| {
            let world = World::new();
            world.hold_shared(A, 1);
            let mut session = world.table.session();
            session.lock_shared(&A).unwrap();
            let mut upgrade = session.lock_async(&A);
            assert!(poll(&mut upgrade, &alarm().1).is_pending());
            let mut writer = world.table.lock_async(&A);
            assert!(poll(&mut writer, &alarm().1).is_pending());
            let other = spawn(&world, |w| {
                w.read(A);
                w.give_back(A, 1);
            });
            drop(upgrade);
            world.read(A);
            // It reads still, or got the key in time and reads again: the writer waits.
            assert!(poll(&mut writer, &alarm().1).is_pending());
            drop(session);
            let guard = block_on(writer);
            world.write(A);
            drop(guard);
            done(world, [other])
        });
}

/// A task in a circle, which another session finds and ends at the cost of this one's wait.
fn victim(
    name: &str,
    outcomes: &[&str],
    end: impl Fn(&World, Locking<'_, '_>) + Send + Sync + 'static,
) {
    Model::new(name)
        .rules("[D2] [D4] [M13]")
        .preemptions(Some(3))
        .outcomes(outcomes)
        .check(move || {
            let world = World::new();
            let mut own = session(&world);
            let mut other = session(&world).priority(1);
            own.lock(&A).unwrap();
            other.lock(&B).unwrap();
            let mut task = own.lock_async(&B);
            assert!(poll(&mut task, &alarm().1).is_pending());
            world.write(A);
            let other = spawn(&world, move |w| {
                other.lock(&A).unwrap();
                w.write(A);
                w.write(B);
            });
            end(&world, task);
            drop(own);
            done(world, [other])
        });
}

#[test]
fn a_task_is_told() {
    victim(
        "a task waits for a key and is told to give way",
        &["deadlock w2"],
        |world, mut task| {
            world.note(word(&block_on(&mut task)));
        },
    );
}

#[test]
fn a_wait_is_dropped_as_it_is_killed() {
    victim(
        "a future is dropped as its wait is ended",
        &["dropped w1", "dropped w2"],
        |world, task| {
            drop(task);
            world.note("dropped");
        },
    );
}

/// Of two sessions that upgrade the key that both read, the younger one is the victim: it never
/// queues, or its wait is ended.
#[test]
fn two_upgrades_of_one_key() {
    Model::new("two sessions share a key and want to be alone with it")
        .rules("[D5] [M12]")
        .preemptions(Some(4))
        .outcomes(&["deadlock ok w1", "deadlock ok w2", "ok ok w0", "ok ok w1"])
        .check(|| {
            let world = World::new();
            let upgrade = |w: &World| {
                let mut session = w.table.session();
                session.lock_shared(&A).unwrap();
                let done = session.lock(&A);
                if done.is_ok() {
                    w.write(A);
                }
                w.note(word(&done));
            };
            let other = spawn(&world, upgrade);
            upgrade(&world);
            done(world, [other])
        });
}

/// An upgrade is given up as another one of the same key ends it.
#[test]
fn an_upgrade_is_dropped_as_an_older_one_ends_it() {
    Model::new("an upgrade is dropped as an older one ends it")
        .rules("[D2] [D5] [M13]")
        .preemptions(Some(3))
        .outcomes(&["dropped ok w1", "dropped ok w2"])
        .check(|| {
            let world = World::new();
            let (mut older, mut younger) = (session(&world), session(&world));
            older.lock_shared(&A).unwrap();
            younger.lock_shared(&A).unwrap();
            let mut task = younger.lock_async(&A);
            assert!(poll(&mut task, &alarm().1).is_pending());
            let other = spawn(&world, move |w| {
                let done = older.lock(&A);
                if done.is_ok() {
                    w.write(A);
                }
                w.note(word(&done));
            });
            drop(task);
            world.read(A);
            world.note("dropped");
            drop(younger);
            done(world, [other])
        });
}

/// A set and a session in opposite orders: the last of the two to publish finds the cycle, and the
/// session is the victim.
#[test]
fn a_set_and_a_session_in_opposite_orders() {
    Model::new("a set and a session lock two keys in opposite orders")
        .rules("[D3] [D4] [D13] [L1]")
        .preemptions(Some(2))
        // "ok set w2": the session has both keys; the set waits for the one, and then for the other
        // as they are released.
        .outcomes(&["deadlock set w2", "ok set w0", "ok set w1", "ok set w2"])
        .check(|| {
            let world = World::new();
            let mut session = session(&world).priority(1);
            session.lock(&B).unwrap();
            let set = spawn(&world, |w| {
                let set = w.table.lock_all([(&A, Exclusive), (&B, Exclusive)]);
                w.write(A);
                w.write(B);
                drop(set);
                w.note("set");
            });
            world.note(word(&session.lock(&A)));
            drop(session);
            done(world, [set])
        });
}

/// A set that waits for a session, which then wants what the set holds.
#[test]
fn a_task_with_a_set_and_a_session_in_opposite_orders() {
    Model::new("a task waits with a set, and a session finds the cycle")
        .rules("[D3] [D4] [D13] [L1]")
        .preemptions(Some(3))
        .outcomes(&["deadlock set w2"])
        .check(|| {
            let world = World::new();
            let mut session = session(&world).priority(1);
            session.lock(&B).unwrap();
            let mut set = world
                .table
                .lock_all_async([(&A, Exclusive), (&B, Exclusive)]);
            assert!(poll(&mut set, &alarm().1).is_pending());
            let other = spawn(&world, move |w| {
                w.write(B);
                w.note(word(&session.lock(&A)));
            });
            let set = block_on(set);
            world.write(A);
            world.write(B);
            drop(set);
            world.note("set");
            done(world, [other])
        });
}

/// A set publishes last and ends the wait of a session, which gives up meanwhile.
#[test]
fn a_session_gives_up_as_a_set_ends_its_wait() {
    Model::new("a session gives up as a set finds it in a cycle")
        .rules("[D2] [D13] [M13]")
        .preemptions(Some(3))
        .outcomes(&["gone w2", "gone w3"])
        .check(|| {
            let world = World::new();
            let mut session = session(&world);
            session.lock(&C).unwrap();
            let between = world.lock(B);
            let keys = [(&A, Exclusive), (&B, Exclusive), (&C, Exclusive)];
            // SAFETY: the thread that has the set is joined before the last share of the world is
            // dropped.
            let table = unsafe { &*core::ptr::from_ref(&world.table) };
            let mut set = table.lock_all_async(keys);
            assert!(poll(&mut set, &alarm().1).is_pending());
            let mut waits = session.lock_async(&A);
            assert!(poll(&mut waits, &alarm().1).is_pending());
            drop(between);
            let other = spawn(&world, move |w| {
                let set = block_on(set);
                w.write(A);
                w.write(B);
                drop(set);
            });
            drop(waits);
            world.note("gone");
            drop(session);
            done(world, [other])
        });
}

/// A set is dropped as a session finds the cycle and lets it past, or ends its own wait.
#[test]
fn a_set_is_dropped_as_it_is_let_past() {
    Model::new("a set is dropped as it is let past a writer")
        .rules("[D2] [D7] [D13] [M14]")
        .preemptions(Some(3))
        .outcomes(&["gone w2", "gone w3"])
        .check(|| {
            let world = World::new();
            let mut holder = session(&world);
            holder.lock_shared(&B).unwrap();
            let mut writer = world.table.lock_async(&B);
            assert!(poll(&mut writer, &alarm().1).is_pending());
            let mut set = world.table.lock_all_async([(&A, Exclusive), (&B, Shared)]);
            assert!(poll(&mut set, &alarm().1).is_pending());
            let other = spawn(&world, move |w| {
                holder.lock(&A).unwrap();
                w.write(A);
            });
            drop(set);
            world.note("gone");
            let guard = block_on(writer);
            world.write(B);
            drop(guard);
            done(world, [other])
        });
}

/// A reader behind a writer is let past by the holder, which waits for it.
fn let_past(
    name: &str,
    outcomes: &[&str],
    end: impl Fn(&World, Locking<'_, '_>) + Send + Sync + 'static,
) {
    Model::new(name)
        .rules("[D7] [M14]")
        .preemptions(Some(4))
        .outcomes(outcomes)
        .check(move || {
            let world = World::new();
            let (mut reader, mut holder) = (session(&world), session(&world));
            reader.lock(&B).unwrap();
            holder.lock_shared(&A).unwrap();
            let mut writer = world.table.lock_async(&A);
            assert!(poll(&mut writer, &alarm().1).is_pending());
            let mut task = reader.lock_shared_async(&A);
            assert!(poll(&mut task, &alarm().1).is_pending());
            let other = spawn(&world, move |w| {
                w.read(A);
                holder.lock(&B).unwrap();
                w.write(B);
            });
            end(&world, task);
            drop(reader);
            let guard = block_on(writer);
            world.write(A);
            drop(guard);
            done(world, [other])
        });
}

#[test]
fn a_reader_is_let_past_a_writer() {
    let_past("a circle through a queue", &["past w3"], |world, task| {
        block_on(task).unwrap();
        world.read(A);
        world.note("past");
    });
}

#[test]
fn a_reader_goes_as_it_is_let_past() {
    let_past(
        "a circle through a queue, which ends by itself",
        &["gone w2", "gone w3"],
        |world, task| {
            drop(task);
            world.note("gone");
        },
    );
}
