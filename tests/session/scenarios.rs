//! Who waits behind whom, step by step.
//!
//! The scenarios of PostgreSQL's isolation tests `deadlock-simple`, `-hard`, `-soft` and `-soft-2`,
//! and of RocksDB's tests of its point lock manager, written anew from what they are about, in the
//! two modes that there are here.

use std::time::Duration;

use latchwork::{
    Mode,
    session::{LockError, Policy},
};

use crate::actors::{Do, Seen, Stage, Table};

const A: u64 = 1;
const B: u64 = 2;

fn nothing_is_left(table: &Table) {
    let stats = table.stats();
    assert_eq!(
        (table.locked_count(), stats.monitors, stats.waiting),
        (0, 0, 0)
    );
}

/// PostgreSQL, `deadlock-simple`: two share a key and both want it exclusively. What the first is
/// known to want, it does not hold.
#[test]
fn two_upgraders_of_one_key() {
    for first in [Policy::Detect, Policy::WaitDie] {
        let table = Table::new();
        let mut stage = Stage::new([table.session().policy(first), table.session()]);
        stage.done(0, Do::Shared(A));
        stage.done(1, Do::Shared(A));
        stage.wait(0, Do::Lock(A));
        let report = stage.deadlock(1, Do::Lock(A));
        let parties = report.parties();
        assert_eq!(parties.len(), 2);
        assert!(parties.iter().all(|p| p.holds.mode == Mode::Shared));
        assert!(parties.iter().all(|p| p.wants.mode == Mode::Exclusive));
        assert!(parties.iter().all(|p| p.wants.key_id == table.key_id(&A)));
        assert_eq!(report.victim().session, parties[0].session);
        stage.go_on(&[]);
        stage.done(1, Do::ReleaseAll);
        stage.go_on(&[0]);
        drop(stage);
        nothing_is_left(&table);
    }
}

/// The second of two upgraders is the older one: the first one's wait ends, and the second takes
/// its place in the queue, ahead of a writer.
#[test]
fn an_upgrade_of_the_older_ends_that_of_the_younger() {
    for first in [Policy::Detect, Policy::WaitDie] {
        let table = Table::new();
        let (old, young) = (table.session(), table.session().policy(first));
        let mut stage = Stage::new([old, young, table.session()]);
        stage.done(0, Do::Shared(A));
        stage.done(1, Do::Shared(A));
        stage.wait(1, Do::Lock(A));
        stage.wait(2, Do::Lock(A));
        stage.wait(0, Do::Lock(A));
        let ended = std::mem::take(&mut stage.ended);
        let [(1, Err(LockError::Deadlock(report)))] = &ended[..] else {
            panic!("{ended:?}");
        };
        assert_eq!(report.parties().len(), 2);
        assert_eq!(report.victim().session, report.parties()[1].session);
        assert_eq!(table.deadlocks().len(), 1);
        // The victim still holds the key shared, and loses again if it insists.
        let again = stage.order(1, Do::Lock(A));
        let is_right = match first {
            Policy::WaitDie => matches!(again, Seen::Failed(LockError::Died)),
            _ => matches!(again, Seen::Failed(LockError::Deadlock(_))),
        };
        assert!(is_right, "{again:?}");
        stage.go_on(&[]);
        stage.done(1, Do::ReleaseAll);
        stage.go_on(&[0]);
        stage.done(0, Do::ReleaseAll);
        stage.go_on(&[2]);
        drop(stage);
        nothing_is_left(&table);
    }
}

/// Of two upgraders, the one of the lower priority is the victim, whichever is older and whichever
/// is first.
#[test]
fn an_upgrade_of_higher_priority_ends_the_other() {
    for (first, second) in [(0, 1), (1, 0)] {
        let table = Table::new();
        let mut stage = Stage::new([table.session(), table.session().priority(1)]);
        stage.done(0, Do::Shared(A));
        stage.done(1, Do::Shared(A));
        stage.wait(first, Do::Lock(A));
        if second == 0 {
            stage.deadlock(0, Do::Lock(A));
        } else {
            stage.wait(1, Do::Lock(A));
            let ended = std::mem::take(&mut stage.ended);
            let is_right = matches!(ended[..], [(0, Err(LockError::Deadlock(_)))]);
            assert!(is_right, "{ended:?}");
        }
        stage.done(0, Do::ReleaseAll);
        stage.go_on(&[1]);
        drop(stage);
        nothing_is_left(&table);
    }
}

/// Who never looks does when it upgrades: the second of two is told, and a circle through an
/// upgrade is found. Its other waits nobody sees.
#[test]
fn upgrades_are_looked_at_also_by_who_never_looks() {
    let table = Table::new();
    let never = |_| table.session().detect_after(Duration::MAX);
    let mut stage = Stage::new((0..3).map(never));
    for who in 0..2 {
        stage.done(who, Do::Shared(A));
    }
    stage.wait(0, Do::Lock(A));
    stage.deadlock(1, Do::Lock(A));
    stage.done(1, Do::ReleaseAll);
    stage.go_on(&[0]);
    stage.done(0, Do::ReleaseAll);
    // A circle of two upgrades of different keys: the one that closes it finds it, and the youngest
    // gives way.
    for (who, other) in [(0, 1), (1, 0)] {
        stage.done(who, Do::Shared([A, B][who]));
        stage.done(who, Do::Shared([A, B][other]));
    }
    stage.wait(0, Do::Lock(A));
    stage.deadlock(1, Do::Lock(B));
    stage.done(1, Do::ReleaseAll);
    stage.go_on(&[0]);
    stage.done(0, Do::ReleaseAll);
    assert_eq!(table.deadlocks().len(), 2);
    // One upgrades, and the other's wait is of the other kind: not seen, so not found.
    stage.done(0, Do::Shared(A));
    stage.done(1, Do::Shared(A));
    stage.done(0, Do::Lock(B));
    stage.wait(1, Do::Lock(B));
    stage.wait(0, Do::Lock(A));
    assert_eq!(table.deadlocks().len(), 2);
    drop(stage);
    nothing_is_left(&table);
}

/// PostgreSQL, `deadlock-hard`: eight hold a key each and want the next one's; the last closes the
/// circle.
#[test]
fn a_hard_ring_of_eight_has_one_victim() {
    let table = Table::new();
    let mut stage = Stage::of(&table, 8);
    for who in 0..8 {
        stage.done(who, Do::Lock(who as u64));
    }
    for who in 0..7 {
        stage.wait(who, Do::Lock(who as u64 + 1));
    }
    let report = stage.deadlock(7, Do::Lock(0));
    assert_eq!(report.parties().len(), 8);
    stage.go_on(&[]);
    for who in (0..8).rev() {
        stage.done(who, Do::ReleaseAll);
        stage.go_on(&who.checked_sub(1).map_or(vec![], |next| vec![next]));
    }
    assert_eq!(table.deadlocks().len(), 1);
    drop(stage);
    nothing_is_left(&table);
}

/// The youngest gives way, wherever it is in the circle and whoever finds it.
#[test]
fn the_youngest_of_a_ring_gives_way_also_if_another_finds_it() {
    let table = Table::new();
    let mut stage = Stage::of(&table, 3);
    for who in 0..3 {
        stage.done(who, Do::Lock(who as u64));
    }
    stage.wait(1, Do::Lock(2));
    stage.wait(2, Do::Lock(0));
    stage.wait(0, Do::Lock(1));
    let ended = std::mem::take(&mut stage.ended);
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0].0, 2, "the youngest");
    assert!(matches!(ended[0].1, Err(LockError::Deadlock(_))));
    stage.done(2, Do::ReleaseAll);
    stage.go_on(&[1]);
}

/// One of the lowest priority gives way before a younger one.
#[test]
fn priority_goes_before_age() {
    let table = Table::new();
    let mut stage = Stage::new([
        table.session().priority(-1),
        table.session(),
        table.session().priority(7),
    ]);
    for who in 0..3 {
        stage.done(who, Do::Lock(who as u64));
    }
    stage.wait(0, Do::Lock(1));
    stage.wait(1, Do::Lock(2));
    stage.wait(2, Do::Lock(0));
    let ended = std::mem::take(&mut stage.ended);
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0].0, 0);
}

/// PostgreSQL, `deadlock-soft`: two read a key each, two want to write one each, and then each
/// reader wants to read the other's key and comes to wait behind the writer. Letting one past its
/// writer ends it, without a victim.
#[test]
fn a_soft_circle_is_reordered() {
    let table = Table::new();
    let mut stage = Stage::of(&table, 4);
    stage.done(0, Do::Shared(A));
    stage.done(1, Do::Shared(B));
    stage.wait(2, Do::Lock(A));
    stage.wait(3, Do::Lock(B));
    stage.wait(0, Do::Shared(B));
    // One of the two is let past.
    let seen = stage.order(1, Do::Shared(A));
    match seen {
        Seen::Done => {
            stage.done(1, Do::ReleaseAll);
            stage.go_on(&[3]);
            stage.done(3, Do::ReleaseAll);
            stage.go_on(&[0]);
            stage.done(0, Do::ReleaseAll);
        }
        Seen::Waits => {
            stage.go_on(&[0]);
            stage.done(0, Do::ReleaseAll);
            stage.go_on(&[2]);
            stage.done(2, Do::ReleaseAll);
            stage.go_on(&[1]);
            stage.done(1, Do::ReleaseAll);
        }
        Seen::Failed(error) => panic!("{error}"),
    }
    assert!(table.deadlocks().is_empty());
    drop(stage);
    nothing_is_left(&table);
}

/// PostgreSQL, `deadlock-soft-2`: a circle through two queues, in one of which an upgrade went
/// ahead of a reader.
#[test]
fn a_reader_behind_an_upgrade_is_let_past() {
    let table = Table::new();
    let mut stage = Stage::of(&table, 4);
    // 0 and 1 read A; 2 holds B; 0 wants A for itself, 2 wants to read A behind it.
    stage.done(0, Do::Shared(A));
    stage.done(1, Do::Shared(A));
    stage.done(2, Do::Lock(B));
    stage.wait(0, Do::Lock(A));
    stage.wait(3, Do::Shared(A));
    stage.wait(2, Do::Shared(A));
    // 1 closes the circle: 1 waits for 2, which waits behind 0, which waits for 1.
    stage.wait(1, Do::Lock(B));
    stage.go_on(&[2]);
    assert!(stage.waits(0) && stage.waits(3));
    assert!(table.deadlocks().is_empty());
    stage.done(2, Do::ReleaseAll);
    stage.go_on(&[1]);
    stage.done(1, Do::ReleaseAll);
    stage.go_on(&[0]);
    stage.done(0, Do::ReleaseAll);
    stage.go_on(&[3]);
}

/// A writer that nobody knows of (a plain lock) may be passed too.
#[test]
fn a_plain_writer_in_the_queue_is_passed() {
    let table = Table::new();
    let mut stage = Stage::of(&table, 2);
    stage.done(0, Do::Shared(A));
    stage.done(1, Do::Lock(B));
    let mut plain = Box::pin(table.lock_async(&A));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(std::future::Future::poll(plain.as_mut(), &mut cx).is_pending());
    stage.wait(1, Do::Shared(A));
    stage.wait(0, Do::Lock(B));
    stage.go_on(&[1]);
    assert!(table.deadlocks().is_empty());
}

/// A circle that is hard on one side and soft on the other needs no victim.
#[test]
fn one_soft_wait_is_enough() {
    let table = Table::new();
    let mut stage = Stage::of(&table, 3);
    stage.done(0, Do::Shared(A));
    stage.done(1, Do::Lock(B));
    stage.wait(0, Do::Lock(B));
    stage.wait(2, Do::Lock(A));
    // Waits behind 2, and so for 0, which waits for 1.
    stage.done(1, Do::Shared(A));
    assert!(stage.waits(0) && stage.waits(2));
}

/// Two circles through one key: each is ended.
#[test]
fn a_writer_that_waits_for_two_readers_ends_two_circles() {
    let table = Table::new();
    let mut stage = Stage::of(&table, 3);
    stage.done(0, Do::Lock(B));
    stage.done(1, Do::Shared(A));
    stage.done(2, Do::Shared(A));
    stage.wait(1, Do::Lock(B));
    stage.wait(2, Do::Lock(B));
    // 0 is the eldest: both readers have to give way.
    stage.wait(0, Do::Lock(A));
    let mut victims: Vec<usize> = stage.ended.drain(..).map(|ended| ended.0).collect();
    victims.sort();
    assert_eq!(victims, [1, 2]);
    stage.done(1, Do::ReleaseAll);
    stage.done(2, Do::ReleaseAll);
    stage.go_on(&[0]);
}

/// An upgrade goes ahead of a writer that has waited longer.
#[test]
fn an_upgrade_goes_ahead_of_queued_writers() {
    let table = Table::new();
    let mut stage = Stage::of(&table, 3);
    stage.done(0, Do::Shared(A));
    stage.done(1, Do::Shared(A));
    stage.wait(2, Do::Lock(A));
    stage.wait(0, Do::Lock(A));
    stage.done(1, Do::Unlock(A));
    stage.go_on(&[0]);
    stage.done(0, Do::ReleaseAll);
    stage.go_on(&[2]);
}

/// RocksDB, shared locks: any number share a key; a writer waits for all, and none of them may then
/// write.
#[test]
fn shared_locks_exclude_a_writer() {
    let table = Table::new();
    let mut stage = Stage::of(&table, 4);
    stage.done(0, Do::Shared(A));
    stage.done(1, Do::Shared(A));
    stage.wait(2, Do::Lock(A));
    // Behind the writer: no stream of readers starves it.
    stage.wait(3, Do::Shared(A));
    stage.done(0, Do::Unlock(A));
    stage.go_on(&[]);
    stage.done(1, Do::Unlock(A));
    stage.go_on(&[2]);
    stage.done(2, Do::Unlock(A));
    stage.go_on(&[3]);
}

/// RocksDB, re-entrant locks and upgrades: locking again is nothing, and one reader upgrades
/// without a wait.
#[test]
fn a_session_locks_again_and_upgrades() {
    let table = Table::new();
    let mut session = table.session();
    for _ in 0..3 {
        session.lock_shared(&A).unwrap();
    }
    assert_eq!(session.mode(&A), Some(Mode::Shared));
    session.lock(&A).unwrap();
    session.lock_shared(&A).unwrap();
    assert_eq!(
        (session.mode(&A), session.len()),
        (Some(Mode::Exclusive), 1)
    );
    assert!(table.try_lock_shared(&A).is_none());
    assert!(session.unlock(&A), "however often it was locked");
    assert!(table.try_lock(&A).is_some());
}

/// RocksDB, deadlock by upgrade against a second key.
#[test]
fn an_upgrade_closes_a_circle_over_two_keys() {
    let table = Table::new();
    let mut stage = Stage::of(&table, 2);
    stage.done(0, Do::Shared(A));
    stage.done(1, Do::Shared(A));
    stage.done(1, Do::Lock(B));
    stage.wait(0, Do::Lock(B));
    let report = stage.deadlock(1, Do::Lock(A));
    assert_eq!(report.parties().len(), 2);
    stage.done(1, Do::ReleaseAll);
    stage.go_on(&[0]);
}

/// RocksDB, several waiters in a chain that is no circle: nobody is told, and all go on in turn.
#[test]
fn a_chain_is_no_circle() {
    let table = Table::new();
    let mut stage = Stage::of(&table, 100);
    for who in 0..100 {
        stage.done(who, Do::Lock(who as u64));
    }
    for who in 0..99 {
        stage.wait(who, Do::Lock(who as u64 + 1));
    }
    for who in (0..100).rev() {
        stage.done(who, Do::ReleaseAll);
        stage.go_on(&who.checked_sub(1).map_or(vec![], |next| vec![next]));
    }
    assert!(table.deadlocks().is_empty());
}

/// A victim that goes on without releasing anything is told each time.
#[test]
fn a_victim_that_locks_on_is_told_again() {
    let table = Table::new();
    let mut stage = Stage::of(&table, 2);
    stage.done(0, Do::Lock(A));
    stage.done(1, Do::Lock(B));
    stage.wait(0, Do::Lock(B));
    for _ in 0..3 {
        stage.deadlock(1, Do::Lock(A));
    }
    stage.go_on(&[]);
    stage.done(1, Do::ReleaseAll);
    stage.go_on(&[0]);
    assert_eq!(table.deadlocks().len(), 3);
}

/// `WaitDie`: an older one waits for a younger one, and not the other way round.
#[test]
fn the_younger_dies_and_the_older_waits() {
    let table = Table::new();
    let mut stage = Stage::new((0..3).map(|_| table.session().policy(Policy::WaitDie)));
    stage.done(1, Do::Lock(A));
    stage.done(0, Do::Lock(B));
    let seen = stage.order(1, Do::Lock(B));
    assert!(matches!(seen, Seen::Failed(LockError::Died)), "{seen:?}");
    stage.wait(0, Do::Lock(A));
    // Older than the holder, younger than the one that waits.
    let seen = stage.order(2, Do::Lock(A));
    assert!(matches!(seen, Seen::Failed(LockError::Died)), "{seen:?}");
    stage.done(2, Do::Shared(7));
    stage.done(1, Do::Shared(7));
    stage.done(1, Do::ReleaseAll);
    stage.go_on(&[0]);
    stage.done(0, Do::ReleaseAll);
    stage.done(2, Do::Lock(A));
    drop(stage);
    nothing_is_left(&table);
}

/// `WaitDie` sees sessions of its policy only; the rest is found.
#[test]
fn a_mixed_circle_is_found() {
    let table = Table::new();
    let mut stage = Stage::new([table.session(), table.session().policy(Policy::WaitDie)]);
    stage.done(0, Do::Lock(A));
    stage.done(1, Do::Lock(B));
    stage.wait(1, Do::Lock(A));
    stage.wait(0, Do::Lock(B));
    let ended = std::mem::take(&mut stage.ended);
    assert!(
        matches!(ended[..], [(1, Err(LockError::Deadlock(_)))]),
        "{ended:?}"
    );
    stage.done(1, Do::ReleaseAll);
    stage.go_on(&[0]);
}

/// Savepoints give back what came after them, and undo upgrades.
#[test]
fn rollback_undoes_locks_and_upgrades() {
    let table = Table::new();
    let mut stage = Stage::of(&table, 2);
    stage.done(0, Do::Shared(A));
    stage.done(0, Do::Savepoint);
    stage.done(0, Do::Lock(A));
    stage.done(0, Do::Savepoint);
    stage.done(0, Do::Lock(B));
    stage.wait(1, Do::Lock(B));
    stage.done(0, Do::Rollback(0));
    stage.go_on(&[1]);
    stage.wait(1, Do::Shared(A));
    stage.done(0, Do::Rollback(1));
    stage.go_on(&[1]);
    assert_eq!(table.mode(&A), Some(Mode::Shared));
}
