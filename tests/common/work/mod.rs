//! What threads and tasks do while they are recorded: any call, any number of them at once. Every
//! choice comes from one generator of numbers for each of them.

pub mod cells;
pub mod keys;
pub mod latches;
pub mod maps;
pub mod sessions;
pub mod txns;
