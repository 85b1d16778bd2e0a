//! What is done with guards and sets.

use latchwork::{
    Mode,
    table::{ExclusiveGuard, OwnedExclusiveGuard, OwnedSharedGuard, SharedGuard},
};

use super::input::HowUnlock;
use super::world::{Held, World, slot};
use crate::common::reference::KEYS;

impl World<'_> {
    pub(super) fn unlock(&mut self, at: usize, how: HowUnlock) {
        if matches!(how, HowUnlock::Bump) {
            let (locks, held) = &mut self.held[at];
            // With somebody in the queue it would wait for this very thread.
            if locks.iter().any(|lock| self.model.is_waited_for(lock.0)) {
                return;
            }
            match held {
                Held::Exclusive(guard) => ExclusiveGuard::bump(guard),
                Held::Shared(guard) => SharedGuard::bump(guard),
                Held::OwnedExclusive(guard) => OwnedExclusiveGuard::bump(guard),
                Held::OwnedShared(guard) => OwnedSharedGuard::bump(guard),
                Held::Set(_) | Held::OwnedSet(_) => {}
            }
            return;
        }
        let (locks, held) = self.held.swap_remove(at);
        let mut fair = matches!(how, HowUnlock::Fair);
        match held {
            // What is owned would keep the table for ever.
            Held::Exclusive(_) | Held::Shared(_) if matches!(how, HowUnlock::Forget) => {
                core::mem::forget(held);
                self.forgotten = true;
                return;
            }
            Held::Exclusive(guard) if fair => ExclusiveGuard::unlock_fair(guard),
            Held::Shared(guard) if fair => SharedGuard::unlock_fair(guard),
            Held::OwnedExclusive(guard) if fair => OwnedExclusiveGuard::unlock_fair(guard),
            Held::OwnedShared(guard) if fair => OwnedSharedGuard::unlock_fair(guard),
            held => {
                fair = false;
                drop(held);
            }
        }
        for (hash, mode) in locks {
            self.model.release(hash, mode, fair);
        }
    }

    pub(super) fn unlock_one(&mut self, at: usize, key: u64) {
        let hash = self.place.hash(key);
        let (locks, held) = &mut self.held[at];
        let released = match held {
            Held::Set(set) => set.unlock(&key),
            Held::OwnedSet(set) => set.unlock(&key),
            _ => return,
        };
        let at = locks.iter().position(|lock| lock.0 == hash);
        assert_eq!(released, at.is_some());
        if let Some(at) = at {
            let (hash, mode) = locks.remove(at);
            self.model.release(hash, mode, false);
        }
    }

    /// An exclusive guard becomes a shared one, a shared one exclusive if nobody shares the key.
    pub(super) fn change_mode(&mut self, at: usize) {
        let (mut locks, held) = self.held.swap_remove(at);
        let hash = locks.first().map_or(0, |lock| lock.0);
        let (held, mode) = match held {
            Held::Exclusive(guard) => (Held::Shared(guard.downgrade()), Mode::Shared),
            Held::OwnedExclusive(guard) => (Held::OwnedShared(guard.downgrade()), Mode::Shared),
            Held::Shared(guard) => match guard.try_upgrade() {
                Ok(guard) => (Held::Exclusive(guard), Mode::Exclusive),
                Err(guard) => (Held::Shared(guard), Mode::Shared),
            },
            Held::OwnedShared(guard) => match guard.try_upgrade() {
                Ok(guard) => (Held::OwnedExclusive(guard), Mode::Exclusive),
                Err(guard) => (Held::OwnedShared(guard), Mode::Shared),
            },
            set => return self.held.push((locks, set)),
        };
        if locks[0].1 == Mode::Exclusive {
            self.model.downgrade(hash);
        } else {
            let upgrades = self.model.upgrade(hash);
            assert_eq!(mode == Mode::Exclusive, upgrades, "an upgrade");
        }
        self.tally.changed += u64::from(locks[0].1 != mode);
        locks[0].1 = mode;
        self.held.push((locks, held));
    }

    pub(super) fn token(&mut self, at: usize) {
        let (locks, held) = &self.held[at];
        let Some(&(hash, mode)) = locks.first() else {
            return;
        };
        let key = (0..KEYS)
            .map(slot)
            .find(|key| self.place.hash(*key) == hash)
            .expect("it was asked for");
        let token = match held {
            Held::Exclusive(guard) => Some(guard.token()),
            Held::OwnedExclusive(guard) => Some(guard.token()),
            Held::Set(set) => set.token(&key),
            Held::OwnedSet(set) => set.token(&key),
            Held::Shared(_) | Held::OwnedShared(_) => return,
        };
        assert_eq!(token.is_some(), mode == Mode::Exclusive);
        if let Some(token) = token {
            let before = self.tokens.insert(hash, token);
            assert!(before.is_none_or(|before| before < token), "tokens grow");
        }
    }
}
