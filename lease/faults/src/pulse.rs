//! How late this machine wakes a thread: the measure of its other work during a round.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::clock::{Nanos, nanos, now};

/// The sleep of the thread between two observations.
const PAUSE: Duration = Duration::from_millis(5);

/// A delay that is not recorded.
const USUAL: Duration = Duration::from_millis(20);

/// A thread that sleeps and records when it was woken late.
pub(crate) struct Pulse(Arc<Mutex<Vec<(Nanos, Nanos)>>>);

impl Pulse {
    pub(crate) fn start() -> Pulse {
        let late: Arc<Mutex<Vec<(Nanos, Nanos)>>> = Arc::default();
        let record = Arc::clone(&late);
        thread::spawn(move || {
            loop {
                let before = now();
                thread::sleep(PAUSE);
                let delay = now().saturating_sub(before + nanos(PAUSE));
                if delay > nanos(USUAL) {
                    let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
                    record.push((before, delay));
                }
            }
        });
        Pulse(late)
    }

    /// Returns the longest delay since a time, and forgets what precedes it.
    pub(crate) fn longest_since(&self, since: Nanos) -> Nanos {
        let mut late = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        late.retain(|(before, delay)| before + delay >= since);
        late.iter().map(|(_, delay)| *delay).max().unwrap_or(0)
    }
}
