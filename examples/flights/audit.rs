//! An auditor that sums the totals while they change: departures must equal arrivals.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use serde::Serialize;

use crate::totals::Sums;

/// The pause between two audits, so that the steps make progress.
const PAUSE: Duration = Duration::from_micros(100);

/// The audits of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Audits {
    pub(crate) made: u64,
    /// The inconsistent ones: departures did not equal arrivals.
    pub(crate) disagreed: u64,
}

impl Audits {
    fn count(&mut self, sums: Sums) {
        self.made += 1;
        self.disagreed += u64::from(!sums.agree());
    }
}

impl std::iter::Sum for Audits {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |a, b| Self {
            made: a.made + b.made,
            disagreed: a.disagreed + b.disagreed,
        })
    }
}

/// Runs `work` on this thread while another audits, at least once.
pub(crate) fn beside<R>(audit: impl Fn() -> Sums + Sync, work: impl FnOnce() -> R) -> (R, Audits) {
    let (begun, done) = (Barrier::new(2), AtomicBool::new(false));
    thread::scope(|scope| {
        let auditor = scope.spawn(|| {
            let mut audits = Audits::default();
            begun.wait();
            loop {
                audits.count(audit());
                if done.load(Relaxed) {
                    return audits;
                }
                thread::sleep(PAUSE);
            }
        });
        begun.wait();
        // Stops the auditor even if the work panics: otherwise the scope would never end.
        let stop = Stop(&done);
        let result = work();
        drop(stop);
        (result, auditor.join().expect("an audit does not panic"))
    })
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}
