//! A map of a few keys, whose hashes are the keys themselves, and the notes of the threads.

use std::fmt::Display;
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use latchwork::{VersionedCell, VersionedMap};
use latchwork_loom_tests::Notes;
use loom::thread::JoinHandle;

use super::Itself;

pub type Map = VersionedMap<u64, u64, BuildHasherDefault<Itself>>;

/// One execution of a model. Under loom a map begins with one line of two slots, so all keys share
/// it.
pub struct World {
    pub map: Map,
    pub x: VersionedCell<u64>,
    notes: Notes,
}

pub const KEY: u64 = 5;
pub const OTHER: u64 = 6;

impl World {
    pub fn new() -> Arc<Self> {
        super::arena::reset();
        Arc::new(World {
            map: Map::default(),
            x: VersionedCell::new(0),
            notes: Notes::default(),
        })
    }

    /// A map whose key was inserted, with version 1, and removed, with version 2.
    pub fn with_a_removed_key() -> Arc<Self> {
        let world = Self::new();
        world.map.insert(KEY, 1);
        world.map.remove(&KEY);
        world
    }

    pub fn note(&self, note: impl Display) {
        self.notes.note(note);
    }

    /// The value of a key, or a dash.
    pub fn get(&self, key: u64) -> String {
        let value = self.map.get(&key).map(|value| value.to_string());
        value.unwrap_or("-".to_owned())
    }

    /// Notes the version of an insert, or a dash.
    pub fn insert_if_absent(&self, key: u64, value: u64) {
        let inserted = self.map.insert_if_absent(key, value);
        let note = inserted.map_or("-".to_owned(), |version| version.to_string());
        self.note(format!("i{note}"));
    }

    /// The address of the key in its entry. Models that reclaim nothing use none twice.
    pub fn entry(&self) -> Option<usize> {
        let pin = latchwork::pin();
        let found = self.map.get_key_value_in(&pin, &KEY);
        found.map(|(key, _)| std::ptr::from_ref(key).addr())
    }

    /// The address of the value of the key.
    pub fn value(&self) -> Option<usize> {
        let pin = latchwork::pin();
        let found = self.map.get_key_value_in(&pin, &KEY);
        found.map(|(_, value)| std::ptr::from_ref(&*value).addr())
    }

    /// Copies as many chunks as the first table has.
    pub fn copy(&self) {
        for _ in 0..2 {
            self.map.copy_in_model();
        }
    }

    /// Buries the entries that can be buried.
    pub fn bury(&self) {
        self.map.bury_in_model(2);
    }

    /// The notes, the value of the key, and the number of entries.
    pub fn outcome(&self, threads: impl IntoIterator<Item = JoinHandle<()>>) -> String {
        let mut notes = self.notes.after(threads);
        let stats = self.map.stats();
        let pin = latchwork::pin();
        assert_eq!(
            self.map.iter_in(&pin).count(),
            stats.len,
            "an entry is there twice"
        );
        notes.push(format!("{} e{}", self.get(KEY), stats.entries));
        notes.join(" ")
    }
}
