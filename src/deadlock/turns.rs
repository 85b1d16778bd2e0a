//! The order in which sessions retry that were the victims of deadlocks.
//!
//! A victim that releases everything and locks the same keys again soon closes the next cycle, with
//! the other victims more often than not. So the victims of a table retry one at a time, in the
//! order in which they arrive. The session whose turn it is ends its turn when it releases
//! everything, and notifies the next one.
//!
//! A session that waits for a key in its turn passes the turn on to a victim that is alone in the
//! queue. Otherwise that victim would be idle for as long as the holder of the key runs, and the
//! holder may never have lost. One turn at a time is passed on, so at most two victims retry. In a
//! crowd of victims no turn is passed on, because there they lose to each other.
//!
//! *Progress*: a session that waits for its turn holds no key, so no session waits for it. When its
//! wait ends at the latest is computed as it begins, from the number of sessions ahead: a turn
//! counts [`LONGEST`], because its session may do something else entirely, or may be forgotten. So
//! the wait depends on no other thread, and a notification that is lost costs time and no more.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::sync::Unparker;

/// How long a turn lasts at most while other sessions wait for theirs: as long as a wait lasts
/// before a session searches. Not found by measurement.
const LONGEST: Duration = Duration::from_millis(1);

/// How long a session waits at most for the turns of others behind the current one. 4 ms were too
/// few for 64 threads on two cores (0.14 times the sessions, `Eventual`); 16 ms cost nothing that
/// was seen.
const LONGEST_WAIT: Duration = Duration::from_millis(15);

/// Whose turn it is, and which sessions wait for theirs: by id, with the way to notify each.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    current: Option<Current>,
    /// A turn that was passed on while it lasted.
    passed: Option<Current>,
    queue: VecDeque<(u64, Unparker)>,
}

#[derive(Debug)]
struct Current {
    id: u64,
    /// When the turn has lasted for [`LONGEST`].
    end: Instant,
    /// Whether the next session that arrives begins its turn at once.
    is_open: bool,
}

impl Turns {
    /// Begins a turn of session `id`, or queues the session. Returns when its turn begins at the
    /// latest.
    #[must_use]
    pub(crate) fn enter(&mut self, id: u64, notify: Unparker, now: Instant) -> Option<Instant> {
        let free = match &self.current {
            Some(current) if current.is_open => {
                self.passed = self.current.take();
                self.begin(id, now);
                return None;
            }
            Some(current) if now < current.end || !self.queue.is_empty() => current.end.max(now),
            _ => {
                self.begin(id, now);
                return None;
            }
        };
        let ahead = u32::try_from(self.queue.len()).unwrap_or(u32::MAX);
        self.queue.push_back((id, notify));
        let wait = LONGEST.saturating_mul(ahead).min(LONGEST_WAIT);
        // Past the range of the clock: at once.
        Some(free.checked_add(wait).unwrap_or(now))
    }

    /// Whether the session waits for its turn. If not, its turn has begun.
    #[must_use]
    pub(crate) fn is_queued(&self, id: u64) -> bool {
        self.queue.iter().any(|queued| queued.0 == id)
    }

    /// Removes a session from the queue that waits no longer, without a turn.
    pub(crate) fn cancel(&mut self, id: u64) {
        self.queue.retain(|queued| queued.0 != id);
    }

    /// Begins the turn of a session that has waited for long enough, whichever turn still lasts.
    pub(crate) fn overtake(&mut self, id: u64, now: Instant) {
        self.cancel(id);
        self.begin(id, now);
    }

    /// Passes the turn of session `id` on, which waits for a key, unless several sessions wait for
    /// their turns, or another turn was passed on and still lasts. Returns how to notify the next
    /// session, whose turn has begun, if there is one. Otherwise the turn passes to the next
    /// session that arrives.
    #[must_use]
    pub(crate) fn pass(&mut self, id: u64, now: Instant) -> Option<Unparker> {
        let current = self.current.as_mut().filter(|current| current.id == id)?;
        let lasts = |passed: &Current| now < passed.end;
        if self.queue.len() > 1 || self.passed.as_ref().is_some_and(lasts) {
            return None;
        }
        let Some((id, notify)) = self.queue.pop_front() else {
            current.is_open = true;
            return None;
        };
        self.passed = self.current.take();
        self.begin(id, now);
        Some(notify)
    }

    /// Ends the turn of session `id`, if it still lasts, and begins the next. Returns how to notify
    /// the session of that.
    #[must_use]
    pub(crate) fn end(&mut self, id: u64, now: Instant) -> Option<Unparker> {
        self.passed.take_if(|passed| passed.id == id);
        if self.current.as_ref().is_none_or(|current| current.id != id) {
            return None;
        }
        self.current = None;
        let (id, notify) = self.queue.pop_front()?;
        self.begin(id, now);
        Some(notify)
    }

    fn begin(&mut self, id: u64, now: Instant) {
        // Past the range of the clock: the turn is over at once.
        let end = now.checked_add(LONGEST).unwrap_or(now);
        self.current = Some(Current {
            id,
            end,
            is_open: false,
        });
    }
}

#[cfg(all(test, not(any(latchwork_loom, latchwork_shuttle))))]
mod tests {
    use super::*;
    use crate::sync::{Parker, now};

    fn enter(turns: &mut Turns, id: u64, now: Instant) -> Option<Instant> {
        turns.enter(id, Parker::new().1, now)
    }

    #[test]
    fn turns_begin_in_the_order_of_arrival() {
        let (mut turns, now) = (Turns::default(), now());
        assert_eq!(enter(&mut turns, 7, now), None);
        assert_eq!(enter(&mut turns, 3, now), Some(now + LONGEST));
        assert_eq!(enter(&mut turns, 5, now), Some(now + 2 * LONGEST));
        // Only the session whose turn it is can end it.
        assert!(turns.end(3, now).is_none() && turns.is_queued(3));
        assert!(turns.end(7, now).is_some());
        assert!(!turns.is_queued(3) && turns.is_queued(5));
        assert!(turns.end(3, now).is_some() && !turns.is_queued(5));
        assert!(turns.end(5, now).is_none());
        assert_eq!(enter(&mut turns, 7, now), None);
    }

    /// A session whose turn began and expired before it noticed was neither queued nor current, and
    /// waited for a turn indefinitely, without a pause.
    #[test]
    fn a_turn_that_expires_unnoticed_leaves_no_session_behind() {
        let (mut turns, now) = (Turns::default(), now());
        for id in 1..=3 {
            let _ = enter(&mut turns, id, now);
        }
        // The turn of 2 begins, and 3 has waited for long enough before 2 has noticed.
        assert!(turns.end(1, now).is_some());
        turns.overtake(3, now + 2 * LONGEST);
        assert!((1..=3).all(|id| !turns.is_queued(id)));
        // A session whose turn has expired ends no other.
        assert!(turns.end(2, now).is_none());
        let later = now + 2 * LONGEST;
        assert_eq!(enter(&mut turns, 4, later), Some(later + LONGEST));
    }

    /// A turn that has expired delays no session that arrives later, and none waits longer than the
    /// bound.
    #[test]
    fn the_wait_for_a_turn_is_bounded() {
        let (mut turns, now) = (Turns::default(), now());
        assert_eq!(enter(&mut turns, 1, now), None);
        assert_eq!(enter(&mut turns, 2, now + LONGEST), None);
        let mut last = None;
        for id in 3..1_000 {
            last = enter(&mut turns, id, now + LONGEST);
        }
        assert_eq!(last, Some(now + 2 * LONGEST + LONGEST_WAIT));
    }

    /// A session waited for a key in its turn, and held up the next victim for as long as the turn
    /// lasted.
    #[test]
    fn a_turn_passes_on_while_its_session_waits_for_a_key() {
        // The next victim is there, or arrives later.
        for is_there in [true, false] {
            let (mut turns, now) = (Turns::default(), now());
            assert_eq!(enter(&mut turns, 1, now), None);
            if is_there {
                assert_eq!(enter(&mut turns, 2, now), Some(now + LONGEST));
            }
            assert!(turns.pass(2, now).is_none(), "it is not its turn");
            assert_eq!(turns.pass(1, now).is_some(), is_there);
            if !is_there {
                assert_eq!(enter(&mut turns, 2, now), None);
            }
            assert!(!turns.is_queued(2));
            // The turn of 2 ends as any other.
            assert_eq!(enter(&mut turns, 3, now), Some(now + LONGEST));
            assert!(turns.end(2, now).is_some() && !turns.is_queued(3));
        }
    }

    /// If each turn could be passed on, all victims would retry at once.
    #[test]
    fn at_most_two_victims_retry_in_the_time_of_a_turn() {
        let (mut turns, now) = (Turns::default(), now());
        for id in 1..=2 {
            let _ = enter(&mut turns, id, now);
        }
        assert!(turns.pass(1, now).is_some(), "2 begins");
        let _ = enter(&mut turns, 3, now);
        // The turn of 1 is over only when it ends, or has lasted for its time.
        assert!(turns.pass(1, now).is_none() && turns.pass(2, now).is_none());
        assert!(turns.is_queued(3));
        assert!(turns.end(1, now).is_none());
        assert!(turns.pass(2, now).is_some(), "3 begins");
        let _ = enter(&mut turns, 4, now);
        assert!(turns.pass(3, now).is_none() && turns.is_queued(4));
        assert!(turns.pass(3, now + LONGEST).is_some() && !turns.is_queued(4));
    }

    /// In a crowd victims lose to each other, and so they retry one at a time.
    #[test]
    fn no_turn_is_passed_on_in_a_crowd_of_victims() {
        let (mut turns, now) = (Turns::default(), now());
        for id in 1..=3 {
            let _ = enter(&mut turns, id, now);
        }
        assert!(turns.pass(1, now).is_none());
        assert!(turns.is_queued(2) && turns.is_queued(3));
        turns.cancel(3);
        assert!(turns.pass(1, now).is_some() && !turns.is_queued(2));
    }

    #[test]
    fn a_session_that_gives_up_has_no_turn() {
        let (mut turns, now) = (Turns::default(), now());
        for id in 1..=3 {
            let _ = enter(&mut turns, id, now);
        }
        turns.cancel(2);
        assert!(turns.end(1, now).is_some());
        assert!(!turns.is_queued(3));
    }
}
