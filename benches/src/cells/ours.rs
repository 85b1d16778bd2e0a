//! The cell, and its other ways to read.

use latchwork::{
    VersionedCell,
    cell::{ReadPin, Version},
};

use super::{Conditional, Read, Update, Value, Write};

impl<T: Value> Read<T> for &VersionedCell<T> {
    #[inline]
    fn read(&mut self) -> T {
        *VersionedCell::read(self)
    }
}

impl<T: Value> Write<T> for VersionedCell<T> {
    #[inline]
    fn write(&self, value: T) {
        self.set(value);
    }
}

impl<T: Value> Update for VersionedCell<T> {
    #[inline]
    fn update(&self) {
        VersionedCell::update(self, |value| value.next());
    }
}

impl<T: Value> Conditional<T> for VersionedCell<T> {
    type Version = Version;

    fn version(&self) -> Version {
        self.version()
    }

    #[inline]
    fn compare_and_set(&self, seen: Version, value: T) -> Option<Version> {
        VersionedCell::compare_and_set(self, seen, value).ok()
    }
}

/// Reads under one pin: `read_in`.
#[derive(Debug)]
pub struct Pinned<'c, T: Value> {
    cell: &'c VersionedCell<T>,
    pin: ReadPin,
}

impl<'c, T: Value> Pinned<'c, T> {
    /// Pins for as many reads as follow.
    #[must_use]
    pub fn of(cell: &'c VersionedCell<T>) -> Self {
        Self {
            cell,
            pin: latchwork::pin(),
        }
    }
}

impl<T: Value> Read<T> for Pinned<'_, T> {
    #[inline]
    fn read(&mut self) -> T {
        *self.cell.read_in(&self.pin)
    }
}

/// Reads through a snapshot that could be sent away: `read_owned`.
#[derive(Debug)]
pub struct Shared<'c, T: Value>(pub &'c VersionedCell<T>);

impl<T: Value> Read<T> for Shared<'_, T> {
    #[inline]
    fn read(&mut self) -> T {
        *self.0.read_owned()
    }
}
