//! The figures of a simulation.

use hdrhistogram::Histogram;

use crate::links::Time;

/// The figures of one simulation. Counts concern the measured part.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seconds that were measured.
    pub length: f64,
    /// Times from the call until the grant, in microseconds.
    pub acquire: Histogram<u64>,
    /// Times from the crash of a holder until the next grant of its name, in milliseconds.
    pub takeover: Histogram<u64>,
    /// Acquisitions that were granted.
    pub granted: u64,
    /// Acquisitions that failed because the engine did not answer.
    pub failed: u64,
    /// Leases that ended while the holder needed them.
    pub lost: u64,
    /// Messages between clients and servers, and between the members of groups.
    pub messages: u64,
    /// Messages that renew leases and answer it.
    pub renewals: u64,
    /// The seconds for which leases were held, of all clients together.
    pub held: f64,
    /// Grants while another client believed to hold the name and was paused.
    pub overlaps_paused: u64,
    /// Grants while another client believed to hold the name and was not paused.
    pub overlaps: u64,
    /// Grants whose token was not greater than one that was granted before the call.
    pub regressions: u64,
    /// Writes that the resource accepted.
    pub writes: u64,
    /// Writes that the fence refused.
    pub refused: u64,
    /// Writes that were accepted after a write of a later holder.
    pub stale: u64,
    /// The longest time in which no lease was granted, in seconds.
    pub gap: f64,
    /// The longest wait that had not ended at the end, in seconds.
    pub waiting: f64,
    /// Events of the whole simulation.
    pub events: u64,
}

impl Outcome {
    pub(crate) fn new(length: f64) -> Self {
        let histogram = || Histogram::new(3).expect("three digits are supported");
        Outcome {
            length,
            acquire: histogram(),
            takeover: histogram(),
            granted: 0,
            failed: 0,
            lost: 0,
            messages: 0,
            renewals: 0,
            held: 0.0,
            overlaps_paused: 0,
            overlaps: 0,
            regressions: 0,
            writes: 0,
            refused: 0,
            stale: 0,
            gap: 0.0,
            waiting: 0.0,
            events: 0,
        }
    }

    /// Grants in a second.
    pub fn rate(&self) -> f64 {
        self.granted as f64 / self.length
    }

    /// A quantile of the time to acquire, in milliseconds.
    pub fn acquire_ms(&self, quantile: f64) -> f64 {
        self.acquire.value_at_quantile(quantile) as f64 / 1000.0
    }

    /// A quantile of the takeover time, in seconds.
    pub fn takeover_s(&self, quantile: f64) -> f64 {
        self.takeover.value_at_quantile(quantile) as f64 / 1000.0
    }

    /// Messages an acquisition.
    pub fn messages_each(&self) -> f64 {
        self.messages as f64 / self.granted.max(1) as f64
    }

    /// Renewal messages for each second of one lease.
    pub fn renewals_each(&self) -> f64 {
        self.renewals as f64 / self.held.max(1e-9)
    }
}

/// Records a value, beyond the present range of the histogram.
pub(crate) fn record(histogram: &mut Histogram<u64>, value: u64) {
    histogram
        .record(value)
        .expect("the histogram resizes itself");
}

/// Converts to microseconds.
pub(crate) fn micros(time: Time) -> u64 {
    time / 1000
}
