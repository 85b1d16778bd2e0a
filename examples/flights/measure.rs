//! Runs a strategy over all flights on all threads and times it.

use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use parking_lot::Mutex;
use rayon::prelude::*;

use crate::audit::{self, Audits};
use crate::data::{Dataset, Flight};
use crate::strategy::{Aborts, Strategy};
use crate::totals::Tally;
use crate::work::Work;

/// One step in so many is timed. Two readings of the clock can cost as much as an uncontended
/// step, so timing each of them would measure the clock.
pub(crate) const SAMPLE_EVERY: usize = 16;

/// Flights in a chunk, which one thread replays: a multiple of [`SAMPLE_EVERY`], long enough that
/// the bookkeeping around a chunk does not count, short enough that all threads stay busy.
const CHUNK: usize = 64 * SAMPLE_EVERY;

/// The least duration of a round. The shipped flights last a few milliseconds if a step does
/// nothing, and on a machine with other work a thread can need longer than that to get a core.
const ROUND: Duration = Duration::from_millis(100);

/// Whether an auditor sums the totals during a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    Unaudited,
    Audited,
}

/// The input of a round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Replay<'a> {
    pub(crate) dataset: &'a Dataset,
    pub(crate) pool: &'a rayon::ThreadPool,
    pub(crate) work: Work,
    /// How often all flights are replayed in one round.
    pub(crate) passes: usize,
    pub(crate) watch: Watch,
    pub(crate) progress: &'a ProgressBar,
}

/// The results of a round.
#[derive(Debug)]
pub(crate) struct Round {
    pub(crate) elapsed: Duration,
    pub(crate) waits: u64,
    /// `None` if steps do not abort.
    pub(crate) aborts: Option<Aborts>,
    /// `None` if the strategy detects no deadlocks.
    pub(crate) deadlocks: Option<u64>,
    /// `None` if it was not audited.
    pub(crate) audits: Option<Audits>,
    /// Nanoseconds of the steps that were timed.
    pub(crate) steps: Histogram<u64>,
    pub(crate) tally: Tally,
}

#[derive(Debug)]
struct Recorder {
    steps: Histogram<u64>,
    waits: u64,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            steps: histogram(),
            waits: 0,
        }
    }
}

/// The number of passes with which a round of the baseline lasts about [`ROUND`], `most` at most.
///
/// It runs such a round once to find out, which also wakes the threads and warms the caches for the
/// rounds that count.
pub(crate) fn passes_for(
    baseline: fn(&Replay<'_>) -> Round,
    once: &Replay<'_>,
    most: usize,
) -> usize {
    let elapsed = baseline(once).elapsed.as_secs_f64();
    let passes = (ROUND.as_secs_f64() / elapsed).ceil() as usize;
    passes.clamp(1, most)
}

/// An empty histogram of nanoseconds, exact to three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are within the limits of a histogram")
}

/// Replays all flights with a new `S`.
pub(crate) fn replay<S: Strategy>(run: &Replay<'_>) -> Round {
    let strategy = S::new(run.dataset);
    // One recorder for each thread, locked by its thread alone and once a chunk.
    let recorders: Vec<CachePadded<Mutex<Recorder>>> = (0..run.pool.current_num_threads())
        .map(|_| CachePadded::default())
        .collect();

    let chunks: Vec<&[Flight]> = run.dataset.flights.chunks(CHUNK).collect();
    let all = (0..run.passes * chunks.len()).into_par_iter();
    let all_flights = || {
        let start = Instant::now();
        run.pool.install(|| {
            all.for_each(|i| {
                let chunk = chunks[i % chunks.len()];
                let thread = rayon::current_thread_index().expect("the pool runs the chunks");
                let recorder = &mut *recorders[thread].lock();
                for group in chunk.chunks(SAMPLE_EVERY) {
                    // A group is never empty, so it has a first step, and that one is timed.
                    let (timed, rest) =
                        group.split_first().expect("chunks() yields no empty slice");
                    let began = Instant::now();
                    recorder.waits += strategy.step(timed, run.work);
                    let nanos = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
                    recorder
                        .steps
                        .record(nanos)
                        .expect("a histogram that resizes takes any value");
                    for flight in rest {
                        recorder.waits += strategy.step(flight, run.work);
                    }
                }
                run.progress.inc(chunk.len() as u64);
            });
        });
        start.elapsed()
    };
    let (elapsed, audits) = match run.watch {
        Watch::Unaudited => (all_flights(), None),
        Watch::Audited => {
            let (elapsed, audits) = audit::beside(|| strategy.audit(), all_flights);
            (elapsed, Some(audits))
        }
    };

    let mut waits = strategy.other_waits();
    let mut steps = histogram();
    for recorder in recorders {
        let recorder = recorder.into_inner().into_inner();
        waits += recorder.waits;
        steps
            .add(recorder.steps)
            .expect("a histogram that resizes takes any value");
    }
    Round {
        elapsed,
        waits,
        aborts: strategy.aborts(),
        deadlocks: strategy.deadlocks(),
        audits,
        steps,
        tally: strategy.tally(),
    }
}

/// Nanoseconds that reading the clock adds to a step that is timed, at the least.
pub(crate) fn clock_cost_ns() -> u64 {
    let costs = (0..1_000).map(|_| Instant::now().elapsed().as_nanos() as u64);
    costs.min().unwrap_or_default()
}
