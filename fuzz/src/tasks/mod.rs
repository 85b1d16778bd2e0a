//! A lock table that tasks and one thread use, against a model that knows who is granted, who is
//! woken, and which waker is used, call by call; futures are dropped at any stage, and keys
//! collide.

mod guards;
mod input;
mod model;
mod world;

use input::Input;
use world::World;

/// How often the calls of some inputs came to what.
#[derive(Clone, Copy, Debug, Default)]
pub struct TaskTally {
    /// Keys handed to somebody who waited.
    pub granted: u64,
    /// Polls that found the key taken.
    pub pending: u64,
    /// Futures that were dropped with something in hand or in a queue.
    pub cancelled: u64,
    /// Calls that found the key taken and do not wait.
    pub refused: u64,
    /// Shared holds that became exclusive, and exclusive ones that became shared.
    pub changed: u64,
}

impl TaskTally {
    /// Adds those of another input.
    pub fn add(&mut self, other: Self) {
        self.granted += other.granted;
        self.pending += other.pending;
        self.cancelled += other.cancelled;
        self.refused += other.refused;
        self.changed += other.changed;
    }
}

/// Runs the calls that `data` stands for.
pub(crate) fn run(data: &[u8]) -> TaskTally {
    let input = Input::decode(data);
    let table = World::table(&input);
    let mut world = World::new(&input, &table);
    for op in &input.ops {
        world.step(*op);
        world.check();
    }
    world.end()
}
