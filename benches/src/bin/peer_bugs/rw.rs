//! Reader-writer locks, by the operations of the probes.

use std::future::Future;
use std::thread;
use std::time::Duration;

use latchwork::LockTable;

use crate::probe::Seen;

/// A reader-writer lock whose waiters are futures.
pub(crate) trait Tasks: Default + Send + 'static {
    fn read(&self) -> impl Future<Output = impl Sized>;
    fn write(&self) -> impl Future<Output = impl Sized>;
}

/// A reader-writer lock that can be tried.
pub(crate) trait TryRead: Default + Send + 'static {
    /// Another reader, which never leaves, if it was admitted.
    fn admit(&self) -> bool;
}

#[derive(Default)]
pub(crate) struct Saa(saa::Lock);
#[derive(Default)]
pub(crate) struct Tokio(tokio::sync::RwLock<()>);
#[derive(Default)]
pub(crate) struct ParkingLot(parking_lot::RwLock<()>);
#[derive(Default)]
pub(crate) struct Std(std::sync::RwLock<()>);
#[derive(Default)]
pub(crate) struct Latchwork(LockTable<u64>);

/// `saa` has no guards; these release the lock.
struct SaaShared<'a>(&'a saa::Lock);
struct SaaExclusive<'a>(&'a saa::Lock);

impl Drop for SaaShared<'_> {
    fn drop(&mut self) {
        self.0.release_share();
    }
}

impl Drop for SaaExclusive<'_> {
    fn drop(&mut self) {
        self.0.release_lock();
    }
}

impl Tasks for Saa {
    async fn read(&self) -> impl Sized {
        self.0.share_async().await;
        SaaShared(&self.0)
    }

    async fn write(&self) -> impl Sized {
        self.0.lock_async().await;
        SaaExclusive(&self.0)
    }
}

impl Tasks for Tokio {
    fn read(&self) -> impl Future<Output = impl Sized> {
        self.0.read()
    }

    fn write(&self) -> impl Future<Output = impl Sized> {
        self.0.write()
    }
}

impl Tasks for Latchwork {
    fn read(&self) -> impl Future<Output = impl Sized> {
        self.0.lock_shared_async(&1)
    }

    fn write(&self) -> impl Future<Output = impl Sized> {
        self.0.lock_async(&1)
    }
}

impl TryRead for Saa {
    fn admit(&self) -> bool {
        self.0.try_share().is_ok()
    }
}

impl TryRead for Tokio {
    fn admit(&self) -> bool {
        self.0.try_read().map(std::mem::forget).is_ok()
    }
}

impl TryRead for ParkingLot {
    fn admit(&self) -> bool {
        self.0.try_read().map(std::mem::forget).is_some()
    }
}

impl TryRead for Std {
    fn admit(&self) -> bool {
        self.0.try_read().map(std::mem::forget).is_ok()
    }
}

impl TryRead for Latchwork {
    fn admit(&self) -> bool {
        self.0.try_lock_shared(&1).map(std::mem::forget).is_some()
    }
}

/// The timeout of a writer that must time out.
const BRIEFLY: Duration = Duration::from_millis(50);

/// One reader holds, a writer queues and times out, a second reader has arrived in between.
///
/// `try_write` waits for as long as its argument states and returns whether it acquired the lock.
/// `is_queued` returns whether a writer waits.
fn behind_a_timeout(
    try_write: impl FnOnce(Duration) -> bool + Send,
    is_queued: impl Fn() -> bool,
    read: impl FnOnce() + Send,
) -> Seen {
    thread::scope(|scope| {
        let writer = scope.spawn(|| try_write(BRIEFLY));
        while !is_queued() && !writer.is_finished() {
            thread::yield_now();
        }
        // Returns only if it is admitted beside the first reader, which stays.
        scope.spawn(read);
    });
    Seen::Nothing("a reader that came after the writer was let in".to_owned())
}

pub(crate) fn parking_lot_timeout() -> Seen {
    let lock = parking_lot::RwLock::new(());
    let _held = lock.read();
    behind_a_timeout(
        |patience| lock.try_write_for(patience).is_some(),
        || lock.try_read().is_none(),
        || drop(lock.read()),
    )
}

pub(crate) fn latchwork_timeout() -> Seen {
    let table = LockTable::<u64>::new();
    let _held = table.lock_shared(&1);
    behind_a_timeout(
        |patience| table.try_lock_for(&1, patience).is_some(),
        || table.stats().waiting > 0,
        || drop(table.lock_shared(&1)),
    )
}
