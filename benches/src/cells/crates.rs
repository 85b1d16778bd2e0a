//! Other crates' values, and locks around one.

use std::sync::{Arc, PoisonError};

use arc_swap::{ArcSwap, Cache};
use crossbeam_utils::atomic::AtomicCell;

use super::{Read, Update, Value, Write};

impl<T: Value> Read<T> for &ArcSwap<T> {
    #[inline]
    fn read(&mut self) -> T {
        **self.load()
    }
}

impl<T: Value> Write<T> for ArcSwap<T> {
    #[inline]
    fn write(&self, value: T) {
        self.store(Arc::new(value));
    }
}

impl<T: Value> Update for ArcSwap<T> {
    #[inline]
    fn update(&self) {
        self.rcu(|value| value.next());
    }
}

/// Reads through an `Arc` of its own: `ArcSwap::load_full`.
#[derive(Debug)]
pub struct LoadFull<'c, T: Value>(pub &'c ArcSwap<T>);

impl<T: Value> Read<T> for LoadFull<'_, T> {
    #[inline]
    fn read(&mut self) -> T {
        *self.0.load_full()
    }
}

/// Reads through an `Arc` that is kept until the value is another: `arc_swap::Cache`.
#[derive(Debug)]
pub struct Cached<'c, T: Value>(Cache<&'c ArcSwap<T>, Arc<T>>);

impl<'c, T: Value> Cached<'c, T> {
    /// Keeps the value for as many reads as follow.
    #[must_use]
    pub fn of(cell: &'c ArcSwap<T>) -> Self {
        Self(Cache::new(cell))
    }
}

impl<T: Value> Read<T> for Cached<'_, T> {
    #[inline]
    fn read(&mut self) -> T {
        **self.0.load()
    }
}

impl<T: Value> Read<T> for &std::sync::RwLock<T> {
    #[inline]
    fn read(&mut self) -> T {
        *std::sync::RwLock::read(self).unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Value> Update for std::sync::RwLock<T> {
    #[inline]
    fn update(&self) {
        let mut value = self.write().unwrap_or_else(PoisonError::into_inner);
        *value = value.next();
    }
}

impl<T: Value> Read<T> for &parking_lot::RwLock<T> {
    #[inline]
    fn read(&mut self) -> T {
        *parking_lot::RwLock::read(self)
    }
}

impl<T: Value> Update for parking_lot::RwLock<T> {
    #[inline]
    fn update(&self) {
        let mut value = self.write();
        *value = value.next();
    }
}

impl<T: Value> Read<T> for &AtomicCell<T> {
    #[inline]
    fn read(&mut self) -> T {
        self.load()
    }
}

impl<T: Value> Write<T> for AtomicCell<T> {
    #[inline]
    fn write(&self, value: T) {
        self.store(value);
    }
}

impl<T: Value> Update for AtomicCell<T> {
    #[inline]
    fn update(&self) {
        // `fetch_update` fails only if the closure does.
        let _ = self.fetch_update(|value| Some(value.next()));
    }
}
