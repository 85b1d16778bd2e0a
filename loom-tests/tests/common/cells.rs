//! Three cells that transactions and snapshots work on, and what was seen.

use std::fmt::Display;
use std::sync::Arc;

use latchwork::{VersionedCell, atomically, snapshot};
use latchwork_loom_tests::Notes;
use loom::thread::JoinHandle;

/// One execution of a model.
pub struct World {
    pub x: VersionedCell<u32>,
    pub y: VersionedCell<u32>,
    pub z: VersionedCell<u32>,
    notes: Notes,
}

impl World {
    pub fn new() -> Arc<Self> {
        Arc::new(World {
            x: VersionedCell::new(0),
            y: VersionedCell::new(0),
            z: VersionedCell::new(0),
            notes: Notes::default(),
        })
    }

    pub fn note(&self, note: impl Display) {
        self.notes.note(note);
    }

    pub fn outcome(&self, threads: impl IntoIterator<Item = JoinHandle<()>>) -> String {
        let mut notes = self.notes.after(threads);
        notes.push(format!("{}{}{}", self.x.get(), self.y.get(), self.z.get()));
        notes.join(" ")
    }

    /// Sets two cells at once.
    pub fn set_both(&self, value: u32) {
        atomically(|tx| {
            tx.set(&self.x, value)?;
            tx.set(&self.y, value)
        });
    }

    /// Sets `y` and `z` to what it has read in `x`, and ten.
    pub fn copy(&self) -> u32 {
        atomically(|tx| {
            let seen = *tx.read(&self.x)?;
            tx.set(&self.y, 10 + seen)?;
            tx.set(&self.z, 10 + seen)?;
            Ok(seen)
        })
    }

    pub fn snapshot(&self) -> String {
        let (x, y, z) = snapshot(|s| (*s.read(&self.x), *s.read(&self.y), *s.read(&self.z)));
        format!("s{x},{y},{z}")
    }

    pub fn snapshot_of_two(&self, backwards: bool) -> String {
        let (x, y) = snapshot(|s| {
            if backwards {
                let y = *s.read(&self.y);
                (*s.read(&self.x), y)
            } else {
                (*s.read(&self.x), *s.read(&self.y))
            }
        });
        format!("s{x},{y}")
    }
}
