//! The answers of several nodes to one request, and the caller that waits for them.

use std::fmt;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::direct::Direct;
use super::node::Answer;

/// The least time for which a caller waits for the last nodes.
const LEAST_STRAGGLING: Duration = Duration::from_millis(50);

/// The time for which a caller waits for answers that distinguish two results.
const MOST_STRAGGLING: Duration = Duration::from_millis(500);

/// The answers to one request, in the order of the nodes that were asked.
pub(super) struct Answers {
    all: Mutex<All>,
    changed: Condvar,
    /// The number of answers that can decide something.
    wanted: usize,
}

struct All {
    answers: Vec<Option<Answer>>,
    arrived: usize,
    /// Receives the answers that arrive after the caller has its result.
    on_late: Option<OnLate>,
}

/// A call with the place and the answer of a node.
type OnLate = Box<dyn FnMut(usize, &Answer) + Send>;

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answers").finish_non_exhaustive()
    }
}

/// Whether a caller has to wait for further nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// The answers suffice.
    Over,
    /// Further answers may change the result, but not whether there is one.
    Stragglers,
    /// Further answers decide between two results, of which one is worse for the caller.
    Awaited,
    /// There is no result without further answers.
    Needed,
}

impl Answers {
    pub(super) fn new(nodes: usize, wanted: usize) -> Self {
        Answers {
            all: Mutex::new(All {
                answers: vec![None; nodes],
                arrived: 0,
                on_late: None,
            }),
            changed: Condvar::new(),
            wanted,
        }
    }

    /// Stores the answer of one node.
    pub(super) fn deliver(&self, place: usize, answer: Answer) {
        let mut all = self.all.lock();
        if let Some(on_late) = &mut all.on_late {
            on_late(place, &answer);
        }
        all.answers[place] = Some(answer);
        all.arrived += 1;
        let is_wanted = all.arrived >= self.wanted;
        drop(all);
        if is_wanted {
            self.changed.notify_all();
        }
    }

    /// Calls `on_late` with each answer that is not in `seen`, now or when it arrives.
    pub(super) fn on_late(
        &self,
        seen: &[Option<Answer>],
        mut on_late: impl FnMut(usize, &Answer) + Send + 'static,
    ) {
        let mut all = self.all.lock();
        for (place, answer) in all.answers.iter().enumerate() {
            if let (Some(answer), None) = (answer, &seen[place]) {
                on_late(place, answer);
            }
        }
        if all.arrived < all.answers.len() {
            all.on_late = Some(Box::new(on_late));
        }
    }

    /// Waits until `decide` needs no further answer, and returns those that arrived.
    ///
    /// Stragglers are awaited for as long again as the others needed, and for a little more, unless
    /// `is_slow` returns true for all of them. `on_slow` receives the places of those that did not
    /// answer by then. The caller reads the answers of `direct` by itself.
    pub(super) fn wait(
        &self,
        mut direct: Option<Direct<'_>>,
        deadline: Instant,
        decide: impl Fn(&[Option<Answer>]) -> Wait,
        is_slow: impl Fn(usize) -> bool,
        mut on_slow: impl FnMut(usize),
    ) -> Vec<Option<Answer>> {
        let start = Instant::now();
        let mut until = None;
        let mut all = self.all.lock();
        loop {
            let is_missing = |place: &usize| all.answers[*place].is_none();
            let places = 0..all.answers.len();
            let limit = match decide(&all.answers) {
                Wait::Over => break,
                Wait::Needed => deadline,
                waited @ (Wait::Stragglers | Wait::Awaited) => {
                    if places.clone().filter(is_missing).all(&is_slow) {
                        break;
                    }
                    let elapsed = start.elapsed();
                    let least = match waited {
                        Wait::Awaited => MOST_STRAGGLING,
                        _ => LEAST_STRAGGLING,
                    };
                    let straggling = || start + elapsed + least.max(elapsed * 3);
                    deadline.min(*until.get_or_insert_with(straggling))
                }
            };
            if all.arrived == all.answers.len() {
                break;
            }
            if Instant::now() >= limit {
                places.filter(is_missing).for_each(&mut on_slow);
                break;
            }
            match &mut direct {
                Some(direct) if direct.is_pending() => {
                    MutexGuard::unlocked(&mut all, || direct.turn(limit));
                }
                _ => drop(self.changed.wait_until(&mut all, limit)),
            }
        }
        all.answers.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    fn reply() -> Answer {
        Answer::Replies(Vec::new())
    }

    fn count(answers: &[Option<Answer>]) -> usize {
        answers.iter().flatten().count()
    }

    #[test]
    fn a_node_that_hangs_delays_a_caller_once_and_not_for_its_deadline() {
        let decide = |answers: &[Option<Answer>]| match count(answers) {
            0..=1 => Wait::Needed,
            _ => Wait::Stragglers,
        };
        let far = Instant::now() + Duration::from_secs(60);
        let answers = Arc::new(Answers::new(3, 2));
        let other = Arc::clone(&answers);
        let thread = thread::spawn(move || {
            other.deliver(0, reply());
            other.deliver(2, reply());
        });
        let mut slow = Vec::new();
        let all = answers.wait(None, far, decide, |_| false, |place| slow.push(place));
        thread.join().unwrap();
        assert_eq!((count(&all), slow), (2, vec![1]));
        // Once it is set aside, the caller does not wait for it at all.
        let all = answers.wait(None, far, decide, |place| place == 1, |_| panic!("no wait"));
        assert_eq!(count(&all), 2);
        // A result that needs it waits until the deadline.
        let soon = Instant::now() + Duration::from_millis(30);
        answers.wait(None, soon, |_| Wait::Needed, |_| true, |_| {});
        assert!(Instant::now() >= soon);
        answers.deliver(1, reply());
        assert_eq!(
            count(&answers.wait(None, far, |_| Wait::Needed, |_| false, |_| {})),
            3
        );
    }
}
