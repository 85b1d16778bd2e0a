//! The time limit of a call: a point in time, or a duration from the start of the call.

use std::time::{Duration, Instant};

use crate::sync::now;

/// The time limits of a policy, which is kept and used again: the clock starts with each call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TimeLimit {
    pub(crate) deadline: Option<Instant>,
    pub(crate) timeout: Option<Duration>,
}

impl TimeLimit {
    pub(crate) const NONE: TimeLimit = TimeLimit {
        deadline: None,
        timeout: None,
    };

    /// The deadline of a call that starts now: the earlier one, if there are two. Reads the clock
    /// only for a timeout. A timeout that overflows `Instant` sets none.
    pub(crate) fn start(self) -> Option<Instant> {
        let Some(timeout) = self.timeout else {
            return self.deadline;
        };
        earlier(self.deadline, now().checked_add(timeout))
    }
}

/// The earlier of two deadlines. No deadline is later than any.
pub(crate) fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Whether the deadline has passed. Does not read the clock if there is none.
pub(crate) fn has_passed(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| now() >= deadline)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earlier_deadline_counts_and_the_clock_starts_with_the_call() {
        let (past, now) = (Instant::now(), Instant::now());
        let limit = |deadline, timeout| TimeLimit { deadline, timeout };
        assert_eq!(TimeLimit::NONE.start(), None);
        assert_eq!(limit(Some(past), None).start(), Some(past));
        assert_eq!(limit(None, Some(Duration::MAX)).start(), None);
        assert_eq!(limit(Some(past), Some(Duration::MAX)).start(), Some(past));
        let hour = Duration::from_secs(3600);
        assert_eq!(limit(Some(past), Some(hour)).start(), Some(past));
        let later = limit(Some(past + 3 * hour), Some(hour)).start();
        assert!(later.is_some_and(|at| at >= now + hour && at < past + 3 * hour));
        assert!(has_passed(Some(past)) && !has_passed(later) && !has_passed(None));
    }
}
