//! `left-right`: two copies of a value, of which readers have one while the writer changes the
//! other.

use left_right::{Absorb, ReadHandle, ReadHandleFactory, WriteHandle};
use parking_lot::Mutex;

use super::{Read, Update, Value};

/// One of the copies.
#[derive(Clone, Debug)]
struct Copied<T>(T);

impl<T: Value> Absorb<T> for Copied<T> {
    fn absorb_first(&mut self, value: &mut T, _: &Self) {
        self.0 = *value;
    }

    fn sync_with(&mut self, first: &Self) {
        self.clone_from(first);
    }
}

/// A value with two copies. One thread may write at a time: writers acquire the lock in turn.
#[expect(
    missing_debug_implementations,
    reason = "the crate's own type has none"
)]
pub struct LeftRight<T: Value> {
    writer: Mutex<WriteHandle<Copied<T>, T>>,
    readers: ReadHandleFactory<Copied<T>>,
}

impl<T: Value> LeftRight<T> {
    /// Makes one with this value.
    #[must_use]
    pub fn new(value: T) -> Self {
        let (writer, reader) = left_right::new_from_empty(Copied(value));
        Self {
            writer: Mutex::new(writer),
            readers: reader.factory(),
        }
    }

    /// The reading side of one thread.
    #[must_use]
    pub fn reader(&self) -> LeftRightReader<T> {
        LeftRightReader(self.readers.handle())
    }
}

/// The reading side of one thread.
#[expect(
    missing_debug_implementations,
    reason = "the crate's own type has none"
)]
pub struct LeftRightReader<T>(ReadHandle<Copied<T>>);

impl<T: Value> Read<T> for LeftRightReader<T> {
    #[inline]
    fn read(&mut self) -> T {
        self.0.enter().expect("the writer is still there").0
    }
}

impl<T: Value> Update for LeftRight<T> {
    #[inline]
    fn update(&self) {
        let mut writer = self.writer.lock();
        let next = writer.enter().expect("the writer is still there").0.next();
        writer.append(next).publish();
    }
}
