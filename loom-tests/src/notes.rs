//! What the threads of one execution have seen.

use std::fmt::Display;
use std::sync::{Arc, Mutex};

use loom::thread::JoinHandle;

/// Notes of many threads. Plain: to write one down is no event of the model.
#[derive(Debug, Default)]
pub struct Notes(Mutex<Vec<String>>);

impl Notes {
    /// Writes one down.
    pub fn note(&self, note: impl Display) {
        self.0.lock().unwrap().push(note.to_string());
    }

    /// Waits for threads, and returns what was noted, in no order.
    pub fn after(&self, threads: impl IntoIterator<Item = JoinHandle<()>>) -> Vec<String> {
        for thread in threads {
            thread.join().unwrap();
        }
        let mut notes = self.0.lock().unwrap().clone();
        notes.sort();
        notes
    }
}

/// Runs `f` with a share of the world on a thread of the model.
pub fn spawn<W: 'static, R: 'static>(
    world: &Arc<W>,
    f: impl FnOnce(&W) -> R + 'static,
) -> JoinHandle<R> {
    let world = world.clone();
    loom::thread::spawn(move || f(&world))
}
