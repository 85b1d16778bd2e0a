//! How late this machine wakes a thread: the measure by which the suite extends its time limits.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The wait between two observations.
const PAUSE: Duration = Duration::from_millis(5);

/// A delay that is not recorded.
const USUAL: Duration = Duration::from_millis(1);

/// A thread that waits again and again, and records how late it was woken. It ends with this value.
pub(super) struct Pulse {
    record: Arc<Mutex<Record>>,
    _end: Sender<()>,
}

struct Record {
    /// When the thread was woken late, and by how much.
    late: Vec<(Instant, Duration)>,
    /// When the present wait must end.
    due: Instant,
}

fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pulse {
    pub(super) fn start() -> std::io::Result<Self> {
        let record = Arc::new(Mutex::new(Record {
            late: Vec::new(),
            due: Instant::now() + PAUSE,
        }));
        let (end, is_over) = mpsc::channel();
        let shared = Arc::clone(&record);
        thread::Builder::new()
            .name("conformance pulse".to_owned())
            .spawn(move || observe(&shared, &is_over))?;
        Ok(Pulse { record, _end: end })
    }

    /// Returns the longest delay since a time, with that of a wait that has not ended yet.
    pub(super) fn longest_since(&self, since: Instant) -> Duration {
        let record = lock(&self.record);
        let late = record.late.iter().filter(|(woken, _)| *woken >= since);
        let late = late.map(|(_, delay)| *delay).max().unwrap_or_default();
        late.max(Instant::now().saturating_duration_since(record.due))
    }

    #[cfg(test)]
    pub(super) fn record_delay(&self, delay: Duration) {
        lock(&self.record).late.push((Instant::now(), delay));
    }
}

fn observe(record: &Mutex<Record>, is_over: &Receiver<()>) {
    loop {
        let due = Instant::now() + PAUSE;
        lock(record).due = due;
        if is_over.recv_timeout(PAUSE) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        let woken = Instant::now();
        let delay = woken.saturating_duration_since(due);
        if delay > USUAL {
            lock(record).late.push((woken, delay));
        }
    }
}
