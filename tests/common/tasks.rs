//! Tasks without a runtime: futures polled by hand, with wakers that count or misbehave.
#![allow(
    unsafe_code,
    reason = "only a hand-made waker runs code when it is cloned or dropped"
)]

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Wake, Waker};

use latchwork::{Fairness, LockTable, Mode};

use super::hashers::Place;

/// Both policies, for tests that must hold under either.
pub const POLICIES: [Fairness; 2] = [Fairness::Eventual, Fairness::Fifo];

/// A table that tasks may own, with exact keys.
pub type Table = LockTable<u64, Place>;

/// Makes a table and says how many bytes its index has before any use.
pub fn shared_table(fairness: Fairness) -> (Arc<Table>, usize) {
    let table = LockTable::<u64>::builder()
        .hasher(Place::Identity)
        .expected_locks(1)
        .fairness(fairness)
        .build();
    let fresh = table.stats().index_bytes;
    (Arc::new(table), fresh)
}

/// What is held until it is dropped: a guard or a set.
pub trait Held: Send {}
impl<T: Send> Held for T {}

/// A future of a guard or a set, of whatever type.
pub type Locking<'t> = Pin<Box<dyn Future<Output = Box<dyn Held + 't>> + Send + 't>>;

/// A way to lock a key as a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    pub mode: Mode,
    /// By `lock_all_async`, with the key alone.
    pub all: bool,
    pub owned: bool,
}

/// All ways.
pub const FORMS: [Form; 8] = {
    let mut forms = [Form {
        mode: Mode::Exclusive,
        all: false,
        owned: false,
    }; 8];
    let mut i = 0;
    while i < 8 {
        if i & 1 != 0 {
            forms[i].mode = Mode::Shared;
        }
        forms[i].all = i & 2 != 0;
        forms[i].owned = i & 4 != 0;
        i += 1;
    }
    forms
};

impl Form {
    /// Starts to lock `key`. The key is hashed here, and the future made is the library's own
    /// inside a box.
    pub fn lock<'t>(self, table: &'t Arc<Table>, key: u64) -> Locking<'t> {
        fn boxed<'t, F>(future: F) -> Locking<'t>
        where
            F: Future<Output: Held + 't> + Send + 't,
        {
            Box::pin(async move { Box::new(future.await) as Box<dyn Held + 't> })
        }
        let keys = [(&key, self.mode)];
        match (self.all, self.owned, self.mode) {
            (false, false, Mode::Exclusive) => boxed(table.lock_async(&key)),
            (false, false, Mode::Shared) => boxed(table.lock_shared_async(&key)),
            (false, true, Mode::Exclusive) => boxed(table.lock_async_owned(&key)),
            (false, true, Mode::Shared) => boxed(table.lock_shared_async_owned(&key)),
            (true, false, _) => boxed(table.lock_all_async(keys)),
            (true, true, _) => boxed(table.lock_all_async_owned(keys)),
        }
    }
}

/// Counts how often it is rung, and panics then if it is to.
#[derive(Debug, Default)]
pub struct Bell {
    rings: AtomicU64,
    breaks: bool,
}

impl Bell {
    /// A bell, and a waker that rings it.
    pub fn new() -> (Arc<Bell>, Waker) {
        Self::made(false)
    }

    /// One that panics when it is rung.
    pub fn that_breaks() -> (Arc<Bell>, Waker) {
        Self::made(true)
    }

    fn made(breaks: bool) -> (Arc<Bell>, Waker) {
        let bell = Arc::new(Bell {
            breaks,
            ..Bell::default()
        });
        (bell.clone(), Waker::from(bell))
    }

    pub fn rings(&self) -> u64 {
        self.rings.load(Ordering::SeqCst)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rings.fetch_add(1, Ordering::SeqCst);
        if self.breaks {
            std::panic::resume_unwind(Box::new("the bell broke"));
        }
    }
}

/// Polls once, with `waker`.
pub fn poll_with<F: Future + Unpin + ?Sized>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

/// Polls once, with a waker that does nothing.
pub fn poll<F: Future + Unpin + ?Sized>(future: &mut F) -> Poll<F::Output> {
    poll_with(future, Waker::noop())
}

/// What `future` gives, which must be there now.
#[track_caller]
pub fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}

/// Asserts that `table` is as it was, and that its key 1 can be had by whoever wants it.
#[track_caller]
pub fn assert_usable(table: &Table, fresh: usize) {
    assert_eq!(table.stats().waiting, 0);
    super::assert_as_new(table, fresh);
    assert!(table.try_lock(&1).is_some(), "the key is lost");
}

/// A future of key 1 that is queued, and the bell that is to call it.
pub fn queued(table: &Arc<Table>, mode: Mode) -> (Locking<'_>, Arc<Bell>) {
    let (bell, waker) = Bell::new();
    let form = Form {
        mode,
        all: false,
        owned: false,
    };
    let mut future = form.lock(table, 1);
    assert!(poll_with(&mut future, &waker).is_pending());
    (future, bell)
}

/// Gives way once.
pub async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Panics without the message that the hook would print.
pub fn quiet_panic() {
    resume_unwind(Box::new("a waker that panics"));
}

/// Whether `f` panics.
pub fn panics(f: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(f)).is_err()
}

/// What a panic in `f` says.
pub fn panic_message<R>(f: impl FnOnce() -> R) -> String {
    let Err(payload) = catch_unwind(AssertUnwindSafe(f)) else {
        panic!("it did not panic");
    };
    match payload.downcast::<String>() {
        Ok(message) => *message,
        Err(payload) => (*payload.downcast::<&str>().expect("a message")).to_owned(),
    }
}

type Hook = Mutex<Option<Box<dyn FnOnce() + Send>>>;

/// What a waker does besides: each hook runs once, the next time that the waker or a clone of it is
/// cloned, woken or dropped.
#[derive(Default)]
pub struct Hooks {
    clone: Hook,
    wake: Hook,
    drop: Hook,
    wakes: AtomicU64,
}

fn run(hook: &Hook) {
    let armed = hook.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(f) = armed {
        f();
    }
}

fn arm(hook: &Hook, f: impl FnOnce() + Send + 'static) {
    *hook.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(f));
}

impl Hooks {
    /// Hooks that do nothing yet, and a waker that runs them.
    pub fn new() -> (Arc<Hooks>, Waker) {
        let hooks = Arc::<Hooks>::default();
        let raw = RawWaker::new(Arc::into_raw(hooks.clone()).cast(), &HOOKED);
        // SAFETY: `HOOKED` counts the references of the `Arc` that it is given, and hooks may be
        // used on any thread.
        (hooks, unsafe { Waker::from_raw(raw) })
    }

    pub fn on_clone(&self, f: impl FnOnce() + Send + 'static) {
        arm(&self.clone, f);
    }

    pub fn on_wake(&self, f: impl FnOnce() + Send + 'static) {
        arm(&self.wake, f);
    }

    pub fn on_drop(&self, f: impl FnOnce() + Send + 'static) {
        arm(&self.drop, f);
    }

    pub fn wakes(&self) -> u64 {
        self.wakes.load(Ordering::SeqCst)
    }

    fn woken(&self) {
        self.wakes.fetch_add(1, Ordering::SeqCst);
        run(&self.wake);
    }
}

const HOOKED: RawWakerVTable = RawWakerVTable::new(
    |data| {
        // SAFETY: the waker that is cloned owns a reference, made by `Arc::into_raw`.
        let hooks = unsafe { &*data.cast::<Hooks>() };
        run(&hooks.clone);
        // SAFETY: as above; the count goes up for the clone.
        unsafe { Arc::increment_strong_count(data.cast::<Hooks>()) };
        RawWaker::new(data, &HOOKED)
    },
    |data| {
        // SAFETY: the waker that is used up gives its reference away.
        let hooks = unsafe { Arc::from_raw(data.cast::<Hooks>()) };
        hooks.woken();
    },
    |data| {
        // SAFETY: the waker owns a reference meanwhile.
        let hooks = unsafe { &*data.cast::<Hooks>() };
        hooks.woken();
    },
    |data| {
        // SAFETY: the waker that goes gives its reference away.
        let hooks = unsafe { Arc::from_raw(data.cast::<Hooks>()) };
        run(&hooks.drop);
    },
);

/// A waker that panics at one of its uses: the n-th time that it or a clone of it is cloned, woken
/// or dropped. It never panics in a thread that panics already, which would end the process.
#[derive(Debug)]
pub struct Fuse {
    left: AtomicU64,
    blown: AtomicU64,
}

impl Fuse {
    /// A fuse that blows at use number `n`, counted from 1, and a waker that burns it.
    pub fn at(n: u64) -> (Arc<Fuse>, Waker) {
        let fuse = Arc::new(Fuse {
            left: AtomicU64::new(n),
            blown: AtomicU64::new(0),
        });
        let raw = RawWaker::new(Arc::into_raw(fuse.clone()).cast(), &FUSED);
        // SAFETY: `FUSED` counts the references of the `Arc` that it is given, and a fuse may be
        // used on any thread.
        (fuse, unsafe { Waker::from_raw(raw) })
    }

    /// Whether the use has come at which it blows.
    pub fn is_blown(&self) -> bool {
        self.blown.load(Ordering::SeqCst) != 0
    }

    fn burn(&self) {
        let left = self.left.load(Ordering::SeqCst);
        if left == 0 {
            return;
        }
        if left == 1 && std::thread::panicking() {
            return;
        }
        self.left.store(left - 1, Ordering::SeqCst);
        if left == 1 {
            self.blown.store(1, Ordering::SeqCst);
            quiet_panic();
        }
    }
}

const FUSED: RawWakerVTable = RawWakerVTable::new(
    |data| {
        // SAFETY: the waker that is cloned owns a reference, made by `Arc::into_raw`.
        let fuse = unsafe { &*data.cast::<Fuse>() };
        fuse.burn();
        // SAFETY: as above; the count goes up for the clone.
        unsafe { Arc::increment_strong_count(data.cast::<Fuse>()) };
        RawWaker::new(data, &FUSED)
    },
    |data| {
        // SAFETY: the waker that is used up gives its reference away.
        let fuse = unsafe { Arc::from_raw(data.cast::<Fuse>()) };
        fuse.burn();
    },
    |data| {
        // SAFETY: the waker owns a reference meanwhile.
        let fuse = unsafe { &*data.cast::<Fuse>() };
        fuse.burn();
    },
    |data| {
        // SAFETY: the waker that is dropped gives its reference away.
        let fuse = unsafe { Arc::from_raw(data.cast::<Fuse>()) };
        fuse.burn();
    },
);
