//! Tests with faults that are planted into the engine.

use std::cell::Cell;

use super::Plant;

thread_local! {
    pub(super) static PLANT: Cell<Option<Plant>> = const { Cell::new(None) };
}
