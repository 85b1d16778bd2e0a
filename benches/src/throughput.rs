//! How many operations several threads do together.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What the threads of one run did.
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

/// Lets `threads` threads do `work` for about `span`.
///
/// `work` is told which thread it is, works until its flag is set, and returns how many operations it did. The threads
/// exist before the clock starts, and the thread that calls sleeps meanwhile.
pub fn run(threads: usize, span: Duration, work: impl Fn(usize, &AtomicBool) -> u64 + Sync) -> Run {
    let (done, took) = run_each(threads, span, work);
    let done = done.into_iter().sum();
    Run { done, took }
}

/// As [`run`], with what each thread returns, and how long they all had.
///
/// # Panics
/// If a thread does.
pub fn run_each<T: Send>(
    threads: usize,
    span: Duration,
    work: impl Fn(usize, &AtomicBool) -> T + Sync,
) -> (Vec<T>, Duration) {
    let stop = AtomicBool::new(false);
    let ready = Barrier::new(threads + 1);
    thread::scope(|scope| {
        let crowd: Vec<_> = (0..threads)
            .map(|index| {
                let (work, stop, ready) = (&work, &stop, &ready);
                scope.spawn(move || {
                    ready.wait();
                    work(index, stop)
                })
            })
            .collect();
        ready.wait();
        let start = Instant::now();
        thread::sleep(span);
        stop.store(true, Ordering::Relaxed);
        let took = start.elapsed();
        let each = crowd
            .into_iter()
            .map(|thread| thread.join().expect("a worker does not panic"));
        (each.collect(), took)
    })
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
