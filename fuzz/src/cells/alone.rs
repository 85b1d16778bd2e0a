//! Calls that take a cell for themselves, and the end of what was taken out of one.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Relaxed;

use latchwork::{VersionedCell, cell::Version};

use crate::value::Value;

use super::{CELLS, Expected, Kept, Name, World};

impl World {
    /// Calls that take the cell for themselves. `false`: it is another call.
    pub(super) fn alone(
        &mut self,
        cells: &mut [VersionedCell<Value>; CELLS],
        at: usize,
        kind: u8,
        with: u8,
    ) -> bool {
        let expected = self.expected[at];
        let is_kept = self.is_kept(expected.name());
        match kind % 21 {
            0 => {
                let Some(value) = cells[at].get_mut() else {
                    assert!(is_kept, "nobody shares it");
                    self.tally.shared += 1;
                    return true;
                };
                assert!(!is_kept, "a snapshot would see the change");
                assert_eq!(value.number, expected.number);
                value.number = with.into();
                let version = cells[at].version();
                self.wrote(at, version, with.into());
            }
            1 => {
                // Another cell that goes on at some version; the old one's value comes out.
                let version = match with % 3 {
                    0 => expected.version,
                    1 => Version::MAX_INITIAL,
                    _ => Version::new(with.into()),
                };
                let version = version.min(Version::MAX_INITIAL);
                let new = VersionedCell::with_version(self.value(with.into()), version);
                let old = core::mem::replace(&mut cells[at], new);
                self.expected[at] = Expected {
                    cell: self.made,
                    version,
                    number: with.into(),
                };
                self.made += 1;
                match old.into_inner() {
                    Ok(value) => {
                        assert!(!is_kept, "a snapshot shares it");
                        assert_eq!(value.number, expected.number);
                        self.tally.moved += 1;
                    }
                    Err(snapshot) => {
                        assert!(is_kept, "nobody shares it");
                        assert_eq!(snapshot.number, expected.number);
                        self.tally.shared += 1;
                    }
                }
            }
            2 => {
                latchwork::flush();
                // What lives is in a cell, or somebody keeps it.
                let mut names: BTreeSet<Name> = self.expected.iter().map(|e| e.name()).collect();
                names.extend(self.kept.iter().map(|kept| kept.name));
                assert_eq!(self.live.load(Relaxed), names.len());
            }
            3 => {
                let other = usize::from(with) % CELLS;
                cells.swap(at, other);
                self.expected.swap(at, other);
            }
            _ => return false,
        }
        true
    }

    /// Ends an owned snapshot in some way.
    pub(super) fn give_up(&mut self, with: u8) {
        if self.kept.is_empty() {
            return;
        }
        let at = usize::from(with >> 1) % self.kept.len();
        let Kept {
            name,
            number,
            snapshot,
        } = self.kept.swap_remove(at);
        assert_eq!((snapshot.version(), snapshot.number), (name.1, number));
        if with & 1 == 0 {
            return;
        }
        let is_shared = self.is_kept(name) || self.expected.iter().any(|e| e.name() == name);
        match snapshot.into_value() {
            Ok(value) => {
                assert!(!is_shared, "moved away from those who share it");
                assert_eq!(value.number, number);
                self.tally.moved += 1;
            }
            Err(snapshot) => {
                assert_eq!((snapshot.version(), snapshot.number), (name.1, number));
                self.tally.shared += 1;
            }
        }
    }
}
