//! The keys that a session holds: a list, with an index once it is long.

use crate::deadlock::{At, Held, Numbers};
use crate::sync::tuning::LINEAR_HOLDS;
use crate::word::Mode;

/// The remaining action for a key that a session requests.
pub(super) enum Need {
    Nothing,
    Lock,
    /// The session holds the key shared.
    Upgrade,
}

/// A key that a session holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hold {
    pub(super) hash: u64,
    pub(super) mode: Mode,
    /// The clock value of the session at which it was acquired.
    pub(super) taken: u64,
    /// The clock value at which it was upgraded, if it was shared before.
    pub(super) upgraded: Option<u64>,
    pub(super) at: At,
}

impl Hold {
    pub(super) fn held(&self) -> Held {
        Held {
            hash: self.hash,
            mode: self.mode,
            at: self.at,
        }
    }
}

/// Each key once, in no order.
#[derive(Debug, Default)]
pub(super) struct Holds {
    all: Vec<Hold>,
    /// The position of each key in `all`; empty as long as a linear search is faster.
    places: Numbers<usize>,
}

impl Holds {
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Hold> {
        self.all.iter()
    }

    #[inline(always)]
    fn find(&self, hash: u64) -> Option<usize> {
        if self.places.is_empty() {
            self.all.iter().position(|hold| hold.hash == hash)
        } else {
            self.places.get(&hash).copied()
        }
    }

    #[inline(always)]
    pub(super) fn get(&self, hash: u64) -> Option<&Hold> {
        self.find(hash).map(|i| &self.all[i])
    }

    #[inline]
    pub(super) fn get_mut(&mut self, hash: u64) -> Option<&mut Hold> {
        self.find(hash).map(|i| &mut self.all[i])
    }

    /// Adds a key that is not there.
    #[inline(always)]
    pub(super) fn push(&mut self, hold: Hold) {
        let i = self.all.len();
        self.all.push(hold);
        if !self.places.is_empty() {
            self.places.insert(hold.hash, i);
        } else if i >= LINEAR_HOLDS {
            self.index();
        }
    }

    #[cold]
    fn index(&mut self) {
        let all = self.all.iter().enumerate();
        self.places.extend(all.map(|(i, hold)| (hold.hash, i)));
    }

    /// Removes a key, and returns its mode and the clock value at which it was acquired.
    #[inline(always)]
    pub(super) fn remove(&mut self, hash: u64) -> Option<(Mode, u64)> {
        let i = self.find(hash)?;
        let removed = (self.all[i].mode, self.all[i].taken);
        // The last entry is not copied. A copy would read recent stores in parts of another size,
        // which costs as much as the lock itself (report, `sessions`).
        if i + 1 == self.all.len() {
            self.all.truncate(i);
        } else {
            self.all.swap_remove(i);
        }
        if !self.places.is_empty() {
            self.places.remove(&hash);
            if let Some(moved) = self.all.get(i) {
                self.places.insert(moved.hash, i);
            }
        }
        Some(removed)
    }

    /// Removes any one key.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<(u64, Mode, u64)> {
        let last = self.all.last()?;
        let (hash, mode, taken) = (last.hash, last.mode, last.taken);
        self.all.truncate(self.all.len() - 1);
        if !self.places.is_empty() {
            self.places.remove(&hash);
        }
        Some((hash, mode, taken))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(hash: u64) -> Hold {
        Hold {
            hash,
            mode: Mode::Shared,
            taken: hash,
            upgraded: None,
            at: At::here(),
        }
    }

    /// A short list has no index; a long one is never searched linearly, however long it is.
    #[test]
    fn an_index_comes_with_length() {
        let mut holds = Holds::default();
        for hash in 0..LINEAR_HOLDS as u64 {
            holds.push(hold(hash));
            assert!(holds.places.is_empty());
        }
        for hash in LINEAR_HOLDS as u64..1_000 {
            holds.push(hold(hash));
            assert_eq!(holds.places.len(), holds.len());
        }
    }

    /// Adds and removes keys across the border between list and index, in both directions.
    #[test]
    fn list_and_index_agree() {
        let mut holds = Holds::default();
        for round in 0..3 {
            for hash in 0..3 * LINEAR_HOLDS as u64 {
                assert!(holds.get(hash).is_none(), "round {round}");
                holds.push(hold(hash));
            }
            for hash in (0..3 * LINEAR_HOLDS as u64).step_by(2) {
                assert_eq!(holds.remove(hash), Some((Mode::Shared, hash)));
                assert!(holds.remove(hash).is_none());
            }
            let odd = (0..3 * LINEAR_HOLDS as u64).filter(|h| h % 2 == 1);
            assert!(
                odd.clone()
                    .all(|h| holds.get(h).is_some_and(|of| of.taken == h))
            );
            assert_eq!(holds.len(), odd.count());
            while let Some((hash, ..)) = holds.pop() {
                assert!(holds.get(hash).is_none());
            }
        }
    }
}
