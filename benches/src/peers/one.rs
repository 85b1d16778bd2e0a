//! One lock for all keys: the baseline for a key that every thread locks.

use crossbeam_utils::CachePadded;

use super::KeyLock;

/// One `parking_lot::Mutex`.
#[derive(Debug, Default)]
pub struct OneMutex(pub CachePadded<parking_lot::Mutex<()>>);

/// One `tokio::sync::Mutex`, for threads by `blocking_lock`. It is first come, first served.
#[derive(Debug, Default)]
pub struct OneTokioMutex(pub CachePadded<tokio::sync::Mutex<()>>);

/// One `parking_lot::FairMutex`, which passes to the next waiter whenever a thread waits.
#[derive(Debug, Default)]
pub struct OneFairMutex(pub CachePadded<parking_lot::FairMutex<()>>);

/// One `std::sync::Mutex`.
#[derive(Debug, Default)]
pub struct OneStdMutex(pub CachePadded<std::sync::Mutex<()>>);

impl<K: Copy> KeyLock<K> for OneFairMutex {
    #[inline]
    fn hold<R>(&self, _: K, body: impl FnOnce() -> R) -> R {
        let _guard = self.0.lock();
        body()
    }
}

impl<K: Copy> KeyLock<K> for OneStdMutex {
    #[inline]
    fn hold<R>(&self, _: K, body: impl FnOnce() -> R) -> R {
        let _guard = self.0.lock().expect("nobody panics");
        body()
    }
}

impl<K: Copy> KeyLock<K> for OneMutex {
    #[inline]
    fn hold<R>(&self, _: K, body: impl FnOnce() -> R) -> R {
        let _guard = self.0.lock();
        body()
    }
}

impl<K: Copy> KeyLock<K> for OneTokioMutex {
    #[inline]
    fn hold<R>(&self, _: K, body: impl FnOnce() -> R) -> R {
        let _guard = self.0.blocking_lock();
        body()
    }
}
