//! Kills and stops workers at random.

use std::time::{Duration, Instant};

/// When to torment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) every: Duration,
    pub(crate) ttl: Duration,
    pub(crate) seed: u64,
}

/// What happens to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Torment {
    /// It is killed, and a new worker takes its place.
    Kill,
    /// It is stopped for so long that its lease ends, and then continues.
    StopFor(Duration),
}

/// Chooses victims and torments from a seed.
#[derive(Debug)]
pub(crate) struct Tormentor {
    plan: Plan,
    random: fastrand::Rng,
    next: Instant,
}

impl Tormentor {
    pub(crate) fn new(plan: Plan) -> Self {
        Tormentor {
            plan,
            random: fastrand::Rng::with_seed(plan.seed),
            next: Instant::now() + plan.every,
        }
    }

    /// Returns a victim, as an index below `workers`, and its torment, if it is time for one.
    pub(crate) fn choose(&mut self, now: Instant, workers: usize) -> Option<(usize, Torment)> {
        if now < self.next || workers == 0 {
            return None;
        }
        self.next = now + self.plan.every.mul_f64(0.5 + self.random.f64());
        let torment = if self.random.bool() {
            Torment::Kill
        } else {
            Torment::StopFor(self.plan.ttl.mul_f64(1.2 + self.random.f64()))
        };
        Some((self.random.usize(..workers), torment))
    }
}
