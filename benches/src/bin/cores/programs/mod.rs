//! The programs on virtual cores: each structure and its baselines, by question.

mod cells;
mod control;
mod keys;
mod transactions;

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use crate::tracee::Marker;

/// One operation, to be run again and again by one core.
pub(crate) type Work = Box<dyn FnMut()>;

/// Makes the work of each core, on what all of them share.
pub(crate) type Share = Box<dyn Fn(u64) -> Work + Send + Sync>;

/// A structure under a workload.
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) share: fn() -> Share,
}

/// Programs that do the same thing.
pub(crate) struct Question {
    pub(crate) title: &'static str,
    /// The work of each core, and how to report it.
    pub(crate) text: &'static str,
    pub(crate) programs: &'static [Program],
}

/// All of them, in the order of the report. The control is the first.
pub(crate) const ALL: &[&Question] = &[
    &control::CONTROL,
    &keys::OWN,
    &keys::RANDOM,
    &keys::ONE,
    &keys::ONE_SHARED,
    &cells::READS,
    &cells::OWN_READS,
    &cells::OWN,
    &cells::ONE,
    &transactions::OWN_PAIR,
    &transactions::TRANSFERS,
    &transactions::SNAPSHOTS,
    &transactions::OWN_SNAPSHOTS,
];

/// Operations of each core before it is traced, so that the one-time set-up of a thread is complete
/// and its memory has the size that it keeps. The size depends on the number of threads, so all
/// cores set up at once, and let each other run after each [`SLICE`].
const SET_UP: u64 = 20_000;
const SLICE: u64 = 1_024;

/// The first operations, during which a reader has a pin. On real cores garbage waits for readers
/// now and then, and a thread keeps the memory from then on. The time that is traced is too short
/// for that.
const HELD_BACK: u64 = 1_000;

/// Up to so many more, each core a few more than the previous one. A structure does some work, such
/// as freeing memory, once in a hundred operations. So some cores do it in the short time that is
/// counted, and not all of them or none.
const PHASES: u64 = 256;

/// Keeps the state that all cores share until the process ends.
fn shared<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

/// Runs a program as the tracer expects it. Does not return.
pub(crate) fn run(program: &Program, cores: u64) -> ! {
    let share: &'static Share = shared((program.share)());
    let ready: &'static Barrier = shared(Barrier::new(cores as usize + 1));
    let reader = latchwork::pin();
    // Locked while the threads begin: each of them queues at a mutex of the kind that structures
    // use, which makes its part of the set-up of that mutex.
    let begin: &'static Mutex<()> = shared(Mutex::new(()));
    let begins = begin.lock();
    let threads: Vec<_> = (0..cores)
        .map(|core| {
            thread::spawn(move || {
                let mut work = share(core);
                let phase = PHASES * core / cores;
                drop(begin.lock());
                (0..HELD_BACK).for_each(|_| work());
                // The reader ends its pin between the two.
                ready.wait();
                ready.wait();
                for n in 0..SET_UP {
                    work();
                    if n % SLICE == 0 {
                        thread::yield_now();
                    }
                }
                // No core stops while another one sets up.
                ready.wait();
                (0..phase).for_each(|_| work());
                Marker::Ready.say();
                loop {
                    work();
                    Marker::Operation.say();
                }
            })
        })
        .collect();
    // Most of them queue by then.
    thread::sleep(Duration::from_millis(100));
    drop(begins);
    ready.wait();
    drop(reader);
    ready.wait();
    ready.wait();
    for thread in threads {
        let _ = thread.join();
    }
    unreachable!("the work never ends");
}
