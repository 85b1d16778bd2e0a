//! A lock manager that is too simple to be wrong, beside sessions that do the same. The property
//! tests use it, and fuzzing.
//!
//! After each order: nobody holds what excludes another hold; nobody waits who need not (no lost
//! grant); nobody waits in a circle, counting those ahead in the queue (no undetected deadlock);
//! and who was told to give way was in a circle of holders and waiters that no reordering ends (no
//! false victim).

use std::collections::{BTreeMap, BTreeSet};

use latchwork::{Fairness, LockTable, Mode, session::LockError};

use crate::actors::{Do, Seen, Stage, Table};

pub(crate) const ACTORS: usize = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hold {
    mode: Mode,
    /// Tells a hold from a later one of the same key.
    incarnation: usize,
}

type Holds = BTreeMap<u64, Hold>;

#[derive(Clone, Default)]
struct Reference {
    held: Vec<Holds>,
    /// Who waits for what, and whether it holds the key shared meanwhile.
    wants: Vec<Option<(u64, Mode)>>,
    queues: BTreeMap<u64, Vec<usize>>,
    savepoints: Vec<Vec<Holds>>,
    incarnations: usize,
    /// When each began: the greater the number, the younger.
    births: Vec<usize>,
}

impl Reference {
    fn new() -> Self {
        Reference {
            held: vec![Holds::new(); ACTORS],
            wants: vec![None; ACTORS],
            savepoints: vec![Vec::new(); ACTORS],
            births: (0..ACTORS).collect(),
            ..Self::default()
        }
    }

    /// Those other than `who` that hold `key` so that it cannot have it in `mode`.
    fn in_the_way(&self, who: usize, key: u64, mode: Mode) -> Vec<usize> {
        let conflicts = |of: &usize| {
            let hold = self.held[*of].get(&key);
            *of != who && hold.is_some_and(|hold| !hold.mode.admits(mode))
        };
        (0..ACTORS).filter(conflicts).collect()
    }

    /// Whether an order to lock has to wait.
    fn must_wait(&self, who: usize, key: u64, mode: Mode) -> bool {
        let writer_queued = self
            .queue(key)
            .iter()
            .any(|of| self.mode(*of) == Mode::Exclusive);
        let upgrade = self.held[who].contains_key(&key);
        !self.in_the_way(who, key, mode).is_empty()
            || mode == Mode::Shared && writer_queued && !upgrade
    }

    fn queue(&self, key: u64) -> &[usize] {
        self.queues.get(&key).map_or(&[], |queue| queue)
    }

    fn mode(&self, who: usize) -> Mode {
        self.wants[who].expect("it waits").1
    }

    fn is_upgrade(&self, who: usize, key: u64) -> bool {
        self.held[who].contains_key(&key)
    }

    /// The actor that waits to upgrade what `who` wants to upgrade.
    fn rival(&self, who: usize, key: u64) -> Option<usize> {
        let mut queue = self.queue(key).iter().copied();
        let rival = queue.find(|of| self.is_upgrade(*of, key));
        rival.filter(|_| self.is_upgrade(who, key))
    }

    /// Whether `who` wants to upgrade what an older actor waits to upgrade, and so is the victim of
    /// the two.
    fn loses_to_a_rival(&self, who: usize, key: u64) -> bool {
        let rival = self.rival(who, key);
        rival.is_some_and(|rival| self.births[rival] < self.births[who])
    }

    fn wait(&mut self, who: usize, key: u64, mode: Mode) {
        let upgrade = self.is_upgrade(who, key);
        let queue = self.queues.entry(key).or_default();
        queue.insert(if upgrade { 0 } else { queue.len() }, who);
        self.wants[who] = Some((key, mode));
    }

    fn leave(&mut self, who: usize) -> (u64, Mode) {
        let (key, mode) = self.wants[who].take().expect("it waits");
        self.queues.get_mut(&key).unwrap().retain(|of| *of != who);
        (key, mode)
    }

    fn grant(&mut self, who: usize, key: u64, mode: Mode) {
        assert_eq!(
            self.in_the_way(who, key, mode),
            [0; 0],
            "{who} may not have {key}"
        );
        self.incarnations += 1;
        let fresh = Hold {
            mode,
            incarnation: self.incarnations,
        };
        self.held[who].entry(key).or_insert(fresh).mode = mode;
    }

    /// Whom `who` waits for: directly, or in the queue.
    fn waits_for(&self, who: usize, soft: bool) -> Vec<usize> {
        let Some((key, mode)) = self.wants[who] else {
            return Vec::new();
        };
        let mut all = self.in_the_way(who, key, mode);
        if soft {
            let ahead = self.queue(key).iter().take_while(|of| **of != who);
            all.extend(ahead.filter(|of| !self.mode(**of).admits(mode)));
        }
        all
    }

    /// Whether `who` can be reached from itself.
    fn in_circle(&self, who: usize, soft: bool) -> bool {
        let mut seen = BTreeSet::new();
        let mut open = self.waits_for(who, soft);
        while let Some(next) = open.pop() {
            if next == who {
                return true;
            }
            if seen.insert(next) {
                open.extend(self.waits_for(next, soft));
            }
        }
        false
    }

    /// Whether in some order each of `victims` was in a hard circle when it was told.
    fn had_to(&self, victims: &[usize]) -> bool {
        victims.is_empty()
            || victims.iter().enumerate().any(|(i, victim)| {
                let mut rest = victims.to_vec();
                rest.remove(i);
                let mut without = self.clone();
                without.leave(*victim);
                self.in_circle(*victim, false) && without.had_to(&rest)
            })
    }

    fn rest(&self, order: &Do) {
        for who in 0..ACTORS {
            assert!(
                !self.in_circle(who, true),
                "{order:?}: {who} waits in a circle"
            );
        }
        for (key, queue) in &self.queues {
            if let Some(head) = queue.first() {
                let way = self.in_the_way(*head, *key, self.mode(*head));
                assert_ne!(way, [0; 0], "{order:?}: {head} waits for {key} in vain");
            }
        }
    }
}

/// Does one thing on the stage and in the reference. Returns how many victims there were.
fn act(stage: &mut Stage<'_>, reference: &mut Reference, who: usize, order: Do) -> usize {
    let request = match order {
        Do::Lock(key) => Some((key, Mode::Exclusive)),
        Do::Shared(key) => Some((key, Mode::Shared)),
        _ => None,
    };
    let has = |reference: &Reference, key: u64, mode| {
        let hold = reference.held[who].get(&key);
        hold.is_some_and(|hold| hold.mode >= mode)
    };
    let seen = stage.order(who, order);
    let mut failed = Vec::new();
    // Another upgrader of the same key: it is the victim of the two.
    let mut younger_rival = None;
    match request {
        Some((key, mode)) if has(reference, key, mode) => assert!(matches!(seen, Seen::Done)),
        Some((key, mode)) if !reference.must_wait(who, key, mode) => {
            assert!(matches!(seen, Seen::Done), "{who} {order:?}: {seen:?}");
            reference.grant(who, key, mode);
        }
        Some((key, mode)) => {
            if reference.loses_to_a_rival(who, key) {
                let told = matches!(seen, Seen::Failed(LockError::Deadlock(_)));
                assert!(told, "{who} {order:?}: {seen:?}");
                assert!(stage.ended.is_empty());
                return 1;
            }
            younger_rival = reference.rival(who, key);
            reference.wait(who, key, mode);
            match seen {
                Seen::Waits => {}
                Seen::Done => stage.ended.push((who, Ok(()))),
                Seen::Failed(LockError::Deadlock(_)) => failed.push(who),
                Seen::Failed(error) => panic!("{who} {order:?}: {error}"),
            }
        }
        None => match order {
            Do::Glance(key, mode) => {
                let granted = matches!(seen, Seen::Done);
                if granted && !has(reference, key, mode) {
                    if reference.must_wait(who, key, mode) {
                        // Let past.
                        reference.wait(who, key, mode);
                        assert!(reference.in_circle(who, true) && !reference.in_circle(who, false));
                        reference.leave(who);
                    }
                    reference.grant(who, key, mode);
                }
                if !granted {
                    assert!(reference.must_wait(who, key, mode));
                    let told = matches!(seen, Seen::Failed(LockError::Deadlock(_)));
                    if reference.loses_to_a_rival(who, key) {
                        assert!(told && stage.ended.is_empty());
                        return 1;
                    }
                    // While it looked, its wait may have ended a circle at somebody's cost, or let
                    // somebody pass.
                    younger_rival = reference.rival(who, key);
                    reference.wait(who, key, mode);
                    let mut victims = take_failed(stage);
                    victims.extend(told.then_some(who));
                    assert!(reference.had_to(&victims), "{who} {order:?}: {victims:?}");
                    assert!(younger_rival.is_none_or(|rival| victims.contains(&rival)));
                    for victim in &victims {
                        reference.leave(*victim);
                    }
                    if !told {
                        reference.leave(who);
                    }
                    settle(stage, reference);
                    reference.rest(&order);
                    return victims.len();
                }
            }
            Do::Unlock(key) => {
                reference.held[who].remove(&key);
            }
            Do::Savepoint => {
                let now = reference.held[who].clone();
                reference.savepoints[who].push(now);
            }
            Do::Rollback(back) => {
                let savepoints = &mut reference.savepoints[who];
                if let Some(i) = savepoints.len().checked_sub(back + 1) {
                    savepoints.truncate(i + 1);
                    let then = savepoints[i].clone();
                    reference.held[who].retain(|key, hold| {
                        let old = then.get(key);
                        let old = old.filter(|old| old.incarnation == hold.incarnation);
                        hold.mode = old.map_or(hold.mode, |old| old.mode);
                        old.is_some()
                    });
                }
            }
            Do::ReleaseAll => {
                reference.held[who].clear();
                reference.savepoints[who].clear();
            }
            Do::Lock(_) | Do::Shared(_) => unreachable!("a request"),
        },
    }
    failed.extend(take_failed(stage));
    assert!(younger_rival.is_none_or(|rival| failed.contains(&rival)));
    assert!(reference.had_to(&failed), "{who} {order:?}: {failed:?}");
    for victim in &failed {
        reference.leave(*victim);
    }
    settle(stage, reference);
    reference.rest(&order);
    failed.len()
}

/// Those whose wait ended in a deadlock.
fn take_failed(stage: &mut Stage<'_>) -> Vec<usize> {
    let ended = std::mem::take(&mut stage.ended);
    let (good, bad): (Vec<_>, Vec<_>) = ended.into_iter().partition(|(_, done)| done.is_ok());
    stage.ended = good;
    let deadlocks = bad
        .iter()
        .all(|(_, done)| matches!(done, Err(LockError::Deadlock(_))));
    assert!(deadlocks, "{bad:?}");
    bad.into_iter().map(|(who, _)| who).collect()
}

/// Writes down what was granted.
fn settle(stage: &mut Stage<'_>, reference: &mut Reference) {
    let granted = std::mem::take(&mut stage.ended);
    let left: Vec<_> = granted
        .iter()
        .map(|(who, _)| (*who, reference.leave(*who)))
        .collect();
    for (who, (key, mode)) in left {
        reference.grant(who, key, mode);
    }
}

/// Has actors do one thing each, in this order; one that waits can do nothing but go, which it does
/// if it comes up at one place in seven, `gone`. Returns how many victims there were, and how often
/// somebody waited.
pub(crate) fn play(fairness: Fairness, orders: &[(usize, Do)], gone: usize) -> (usize, usize) {
    let table: Table = LockTable::builder().fairness(fairness).build();
    let fresh = table.stats().index_bytes;
    let mut stage = Stage::of(&table, ACTORS);
    let mut reference = Reference::new();
    let (mut victims, mut waits) = (0, 0);
    for (i, (who, order)) in orders.iter().enumerate() {
        // One that waits can do nothing but go.
        if stage.waits(*who) {
            waits += 1;
            if i % 7 == gone {
                stage.kill(*who, table.session());
                reference.births[*who] = ACTORS + i;
                reference.leave(*who);
                reference.held[*who].clear();
                reference.savepoints[*who].clear();
                settle(&mut stage, &mut reference);
                reference.rest(order);
            }
            continue;
        }
        victims += act(&mut stage, &mut reference, *who, *order);
        for who in 0..ACTORS {
            assert_eq!(stage.waits(who), reference.wants[who].is_some(), "{who}");
        }
    }
    assert_eq!(table.deadlocks().len(), victims.min(16));
    drop(stage);
    let stats = table.stats();
    let left = (table.locked_count(), stats.monitors, stats.index_bytes);
    assert_eq!(left, (0, 0, fresh));
    (victims, waits)
}
