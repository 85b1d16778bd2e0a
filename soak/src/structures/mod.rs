//! What is put under load, each with totals that must come out right.

mod cells;
mod latches;
mod locks;
mod maps;
mod ordered;
mod queue;
mod sessions;
mod tasks;
mod transfers;

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use latchwork::latch::OptimisticLatch;
use latchwork::{LockTable, Transaction, VersionedCell, atomically, snapshot};

use crate::Plant;
use crate::crew::Worker;

/// A number that threads add to.
#[derive(Debug, Default)]
pub(crate) struct Total(AtomicU64);

impl Total {
    pub(crate) fn add(&self) {
        self.add_all(1);
    }

    pub(crate) fn add_all(&self, n: u64) {
        // Relaxed: it is read when the threads are gone.
        self.0.fetch_add(n, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Something of the crate's, and what threads do with it.
pub(crate) trait Structure: Send + Sync {
    fn name(&self) -> &'static str;

    /// How often anybody has done anything.
    fn operations(&self) -> &Total;

    /// Does one thing, whichever. May panic by [`Worker::panic`].
    fn act(&self, worker: &mut Worker);

    /// A round begins.
    fn open(&self) {}

    /// A round ends: workers have been told to stop, and whoever waits for others is to be sent
    /// home.
    fn close(&self) {}

    /// All threads are gone. Says what is not as it should be.
    fn check(&self) -> Result<(), String>;
}

/// All structures, for as long as the process lives: threads that are stuck may outlive everything
/// else. Only those that are named, if any is.
pub(crate) fn all(plant: Option<Plant>, only: &[String]) -> &'static [Box<dyn Structure>] {
    static ALL: OnceLock<Vec<Box<dyn Structure>>> = OnceLock::new();
    ALL.get_or_init(|| {
        let all: [Box<dyn Structure>; 9] = [
            Box::new(locks::Locks::new(plant)),
            Box::new(tasks::Tasks::new()),
            Box::new(cells::Cells::new(plant)),
            Box::new(transfers::Transfers::new(plant)),
            Box::new(maps::Maps::new()),
            Box::new(queue::Queue::new()),
            Box::new(sessions::Sessions::new()),
            Box::new(latches::Latches::new()),
            Box::new(ordered::Ordered::new()),
        ];
        let is_wanted = |name: &str| only.is_empty() || only.iter().any(|wanted| wanted == name);
        all.into_iter().filter(|s| is_wanted(s.name())).collect()
    })
}

/// Does one thing of each kind, so that every static of the crate is there before any thread is:
/// ThreadSanitizer does not see how the standard library makes one when several threads want it
/// first.
pub(crate) fn prepare() {
    let cell = VersionedCell::new(0);
    let mut changed = cell.changed(cell.version());
    let waits = Pin::new(&mut changed).poll(&mut Context::from_waker(Waker::noop()));
    assert!(waits.is_pending());
    atomically(|tx| tx.update(&cell, |n| n + 1));
    Transaction::builder()
        .label("limited")
        .run(|tx| tx.read(&cell).copied())
        .expect("nobody interferes");
    snapshot(|view| assert_eq!(*view.read(&cell), 1));
    let table: LockTable<u64> = LockTable::new();
    let held = table.lock(&1);
    assert!(table.try_lock_for(&1, Duration::from_nanos(1)).is_none());
    drop((held, latchwork::pin()));
    let mut session = table.session();
    session.lock(&1).expect("it is free");
    let latch = OptimisticLatch::new(());
    let held = latch.shared().expect("it is new");
    assert!(latch.try_exclusive().is_none());
    drop((session, held));
    latchwork::flush();
    assert_eq!(latchwork::stats().garbage, 0);
}

/// An error unless both are equal.
fn equal<T: PartialEq + std::fmt::Debug>(what: &str, is: T, should: T) -> Result<(), String> {
    if is == should {
        return Ok(());
    }
    Err(format!("{what}: {is:?}, and should be {should:?}"))
}

/// Wakes a thread.
struct Bell {
    rung: AtomicBool,
    thread: Thread,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.store(true, SeqCst);
        self.thread.unpark();
    }
}

/// Waits for a future. Other crates' take a mutex of the standard library's, which ThreadSanitizer
/// cannot see through.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let bell = Arc::new(Bell {
        rung: AtomicBool::new(false),
        thread: thread::current(),
    });
    let waker = Waker::from(bell.clone());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        while !bell.rung.swap(false, SeqCst) {
            thread::park();
        }
    }
}
