//! The order in which the victims of deadlocks retry.
//!
//! A victim that releases everything and locks the same keys again soon closes the next cycle, in
//! most cases with the other victims. So the victims of a table retry one at a time, in order of
//! arrival. A session ends its turn when it releases everything. A turn that lasts for [`LONGEST`]
//! passes to the next session, because its session may do something else entirely, or may be
//! forgotten.
//!
//! *Progress*: a session that waits for its turn holds no key, so no session waits for it. It waits
//! at most [`LONGEST`] for each session that is ahead of it in the queue, and a session behind it
//! never overtakes it. A lost notification costs as much, and no more.

use std::collections::VecDeque;
use std::time::Duration;

use crate::sync::Unparker;

/// The longest duration of a turn while other sessions wait for theirs: as long as a wait before a
/// session searches. It was not chosen by measurement.
pub(crate) const LONGEST: Duration = Duration::from_millis(1);

/// The session whose turn it is, and the sessions that wait for theirs, with the way to notify
/// each.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    current: Option<u64>,
    /// The number of turns that have begun.
    begun: u64,
    queue: VecDeque<(u64, Unparker)>,
}

/// The result for a session that asks whose turn it is.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Own,
    /// The turn of another session, and the number of that turn.
    Other(u64),
}

impl Turns {
    /// Begins a turn of session `id`, or queues the session.
    pub(crate) fn enter(&mut self, id: u64, notify: Unparker) -> Turn {
        self.queue.push_back((id, notify));
        if self.current.is_none() {
            // The queue was empty, so the session itself is next and needs no notification.
            drop(self.begin_next());
        }
        self.of(id)
    }

    /// Returns whose turn it is. A session that is no longer queued has had its turn, which may
    /// have expired before the session checked: it no longer waits.
    pub(crate) fn of(&self, id: u64) -> Turn {
        if self.queue.iter().all(|queued| queued.0 != id) {
            Turn::Own
        } else {
            Turn::Other(self.begun)
        }
    }

    /// Ends the turn with the number `begun`, if it still lasts. Returns the notification of the
    /// next session.
    #[must_use]
    pub(crate) fn expire(&mut self, begun: u64) -> Option<Unparker> {
        if self.begun == begun {
            self.begin_next()
        } else {
            None
        }
    }

    /// Removes a session from the queue that no longer waits.
    pub(crate) fn cancel(&mut self, id: u64) {
        self.queue.retain(|queued| queued.0 != id);
    }

    /// Ends the turn of session `id`, if it still lasts. Returns the notification of the next
    /// session.
    #[must_use]
    pub(crate) fn end(&mut self, id: u64) -> Option<Unparker> {
        if self.current == Some(id) {
            self.begin_next()
        } else {
            None
        }
    }

    fn begin_next(&mut self) -> Option<Unparker> {
        self.current = None;
        let (id, notify) = self.queue.pop_front()?;
        self.current = Some(id);
        self.begun += 1;
        Some(notify)
    }
}

#[cfg(all(test, not(any(latchwork_loom, latchwork_shuttle))))]
mod tests {
    use super::*;
    use crate::sync::Parker;

    fn enter(turns: &mut Turns, id: u64) -> Turn {
        turns.enter(id, Parker::new().1)
    }

    #[test]
    fn turns_begin_in_the_order_of_arrival() {
        let mut turns = Turns::default();
        assert_eq!(enter(&mut turns, 7), Turn::Own);
        assert_eq!(enter(&mut turns, 3), Turn::Other(1));
        assert_eq!(enter(&mut turns, 5), Turn::Other(1));
        // Only the session whose turn it is can end it.
        assert!(turns.end(3).is_none() && turns.of(7) == Turn::Own);
        assert!(turns.end(7).is_some());
        assert_eq!((turns.of(3), turns.of(5)), (Turn::Own, Turn::Other(2)));
        assert!(turns.end(3).is_some() && turns.of(5) == Turn::Own);
        assert!(turns.end(5).is_none());
        assert_eq!(enter(&mut turns, 7), Turn::Own);
    }

    /// Of all sessions that see one turn expire, the first passes it on, to the longest-waiting
    /// session.
    #[test]
    fn a_turn_that_expires_passes_to_the_first_in_the_queue() {
        let mut turns = Turns::default();
        for id in 1..=3 {
            let _ = enter(&mut turns, id);
        }
        assert!(turns.expire(1).is_some());
        assert!(turns.expire(1).is_none());
        // The first has had its turn, even if it did not detect that: it would wait for one
        // indefinitely.
        assert_eq!((turns.of(1), turns.of(2)), (Turn::Own, Turn::Own));
        assert_eq!(turns.of(3), Turn::Other(2));
        // A session whose turn has expired ends no other.
        assert!(turns.end(1).is_none() && turns.of(2) == Turn::Own);
    }

    #[test]
    fn a_session_that_gives_up_has_no_turn() {
        let mut turns = Turns::default();
        for id in 1..=3 {
            let _ = enter(&mut turns, id);
        }
        turns.cancel(2);
        assert!(turns.end(1).is_some());
        assert_eq!(turns.of(3), Turn::Own);
    }
}
