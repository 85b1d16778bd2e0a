//! How many operations several threads do together.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use crossbeam_utils::Backoff;

/// The work of the threads of one run.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Operations, all threads together.
    pub done: u64,
    /// From the start of all threads to the order to stop.
    pub took: Duration,
}

impl Run {
    /// Operations a second, all threads together.
    #[must_use]
    pub fn rate(self) -> f64 {
        self.done as f64 / self.took.as_secs_f64()
    }
}

/// Runs `work` on `threads` threads for about `span`.
///
/// `work` receives the number of its thread, works until its flag is set, and returns the number of
/// its operations. The threads begin together, each on a core of its own if there are as many. The
/// calling thread sleeps until they have ended.
pub fn run(threads: usize, span: Duration, work: impl Fn(usize, &AtomicBool) -> u64 + Sync) -> Run {
    let (done, took) = run_each(threads, span, work);
    let done = done.into_iter().sum();
    Run { done, took }
}

/// As [`run`], with the result of each thread, and the time that they all had.
///
/// # Panics
/// Panics if a thread panics.
pub fn run_each<T: Send>(
    threads: usize,
    span: Duration,
    work: impl Fn(usize, &AtomicBool) -> T + Sync,
) -> (Vec<T>, Duration) {
    let (stop, arrived) = (AtomicBool::new(false), AtomicUsize::new(0));
    // The first thread that begins reads the clock: this thread sleeps, and wakes late if the
    // others have all cores.
    let start = OnceLock::new();
    let (caller, places) = (thread::current(), places(threads));
    thread::scope(|scope| {
        let (work, stop, arrived) = (&work, &stop, &arrived);
        let (start, caller, places) = (&start, &caller, &places);
        let crowd: Vec<_> = (0..threads)
            .map(|index| {
                scope.spawn(move || {
                    if let Some(core) = places.get(index) {
                        core_affinity::set_for_current(*core);
                    }
                    arrived.fetch_add(1, Ordering::Relaxed);
                    let backoff = Backoff::new();
                    while arrived.load(Ordering::Relaxed) < threads {
                        backoff.snooze();
                    }
                    if start.set(Instant::now()).is_ok() {
                        caller.unpark();
                    }
                    work(index, stop)
                })
            })
            .collect();
        let start = loop {
            match start.get() {
                Some(start) => break start,
                None => thread::park(),
            }
        };
        thread::sleep(span);
        stop.store(true, Ordering::Relaxed);
        let took = start.elapsed();
        let each = crowd
            .into_iter()
            .map(|thread| thread.join().expect("a worker does not panic"));
        (each.collect(), took)
    })
}

/// A core for each thread, or none for any if there are fewer cores than threads or the system does
/// not report them.
fn places(threads: usize) -> Vec<CoreId> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    if threads <= cores.len() {
        cores
    } else {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_adds_up_its_threads() {
        let run = run(3, Duration::from_millis(1), |index, stop| {
            while !stop.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            1 << index
        });
        assert_eq!(run.done, 0b111);
    }
}
