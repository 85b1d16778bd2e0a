//! Acquisition and release.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use latchwork::table::FencingToken;
use redis::Value;

use crate::engine::{Attempt, EngineError, Key, Nonce, Outcome, Released, Request};
use crate::notices;
use crate::plant::planted;

use super::answers::{Answers, Wait};
use super::node::{Answer, Job, Packed};
use super::scripts::{self, Script};
use super::{Quorum, check_deadline, inspect, jitter, milliseconds};

/// The attempts of one call after split votes. Each has a longer pause before it.
const ATTEMPTS: u32 = 5;

/// The time for which one node is awaited that is asked before the others.
const GATE_LIMIT: Duration = Duration::from_millis(20);

/// The answer of a node to a request for a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Vote {
    /// The lock was granted now.
    Granted(u64),
    /// The nonce has held the lock since an earlier request.
    Held(u64),
    /// Another nonce holds the lock, for at most this time.
    Busy(Option<Duration>, Vec<u8>),
    /// The node has another configuration.
    Foreign(String),
    Failed,
    Pending,
}

impl Vote {
    fn of(answer: &Option<Answer>) -> Self {
        let replies = match answer {
            Some(Answer::Replies(replies)) => replies,
            Some(_) => return Vote::Failed,
            None => return Vote::Pending,
        };
        let Some(Value::Array(fields)) = replies.first() else {
            return Vote::Failed;
        };
        let field = |at: usize| fields.get(at).and_then(inspect::text).unwrap_or_default();
        let token = || field(1).parse().unwrap_or(u64::MAX);
        match field(0).as_str() {
            "G" => Vote::Granted(token()),
            "H" => Vote::Held(token()),
            "B" => {
                let left = match fields.get(1) {
                    Some(Value::Int(left)) => u64::try_from(*left).ok(),
                    _ => None,
                };
                Vote::Busy(left.map(Duration::from_millis), field(2).into_bytes())
            }
            "C" => Vote::Foreign(field(1)),
            _ => Vote::Failed,
        }
    }

    /// Returns the token that the node stores for this nonce.
    fn token(&self) -> Option<u64> {
        match self {
            Vote::Granted(token) | Vote::Held(token) => Some(*token),
            _ => None,
        }
    }
}

/// The votes of the nodes of one key.
#[derive(Debug)]
struct Tally {
    votes: Vec<Vote>,
    majority: usize,
}

impl Tally {
    fn new(answers: &[Option<Answer>], majority: usize) -> Self {
        Tally {
            votes: answers.iter().map(Vote::of).collect(),
            majority,
        }
    }

    fn count(&self, is_counted: impl Fn(&Vote) -> bool) -> usize {
        self.votes.iter().filter(|vote| is_counted(vote)).count()
    }

    fn granted(&self) -> usize {
        self.count(|vote| vote.token().is_some())
    }

    fn busy(&self) -> usize {
        self.count(|vote| matches!(vote, Vote::Busy(..)))
    }

    /// Returns the greatest number of nodes on which one other nonce holds the lock.
    fn greatest_other(&self) -> usize {
        let holders = self.votes.iter().filter_map(|vote| match vote {
            Vote::Busy(_, nonce) => Some(nonce),
            _ => None,
        });
        let of = |nonce| self.count(|vote| matches!(vote, Vote::Busy(_, other) if other == nonce));
        holders.map(of).max().unwrap_or(0)
    }

    /// Returns a token that a majority has stored for this nonce since an earlier request.
    fn held_by_majority(&self) -> Option<u64> {
        let of = |token| self.count(|vote| *vote == Vote::Held(token));
        self.votes
            .iter()
            .filter_map(Vote::token)
            .find(|token| of(*token) >= self.majority)
    }

    fn decide(&self) -> Wait {
        let pending = self.count(|vote| *vote == Vote::Pending);
        let granted = self.granted();
        if self.count(|vote| matches!(vote, Vote::Foreign(hash) if !is_passing(hash))) > 0 {
            return Wait::Over;
        }
        if granted >= self.majority {
            // A repeated request must return the token of the first one.
            let repeats = self.count(|vote| matches!(vote, Vote::Held(_))) > 0;
            let is_known = !repeats || self.held_by_majority().is_some() || pending == 0;
            return if is_known {
                Wait::Over
            } else {
                Wait::Stragglers
            };
        }
        let is_answered = granted + self.busy() >= self.majority;
        match granted + pending < self.majority {
            true if is_answered => Wait::Over,
            // The nodes that are missing decide whether the call had an effect.
            true => Wait::Stragglers,
            false if is_answered => Wait::Stragglers,
            false => Wait::Needed,
        }
    }

    /// Returns the time after which a majority can be granted, if the present holders end.
    fn free_in(&self) -> Option<Duration> {
        let mut left: Vec<Duration> = self
            .votes
            .iter()
            .filter_map(|vote| match vote {
                Vote::Busy(left, _) => *left,
                _ => None,
            })
            .collect();
        left.sort_unstable();
        let needed = self.majority.checked_sub(self.granted() + 1)?;
        left.get(needed).copied()
    }
}

/// Whether a configuration is absent or being changed, so that other nodes may suffice.
fn is_passing(hash: &str) -> bool {
    hash.is_empty() || hash.ends_with(scripts::CLOSING)
}

/// The result of one attempt.
enum Voted {
    Granted(u64),
    Busy(Option<Duration>),
    /// No nonce has a majority.
    Split,
}

impl Quorum {
    pub(super) fn acquire(
        &self,
        request: &Request<'_>,
        deadline: Instant,
    ) -> Result<Attempt, EngineError> {
        check_deadline(deadline)?;
        let mut asks_one_first = self.woken.lock().remove(request.nonce);
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                // The clients whose votes were split must not ask again at the same time.
                thread::sleep(jitter(Duration::from_millis(1 << attempt)));
                if Instant::now() >= deadline {
                    break;
                }
            }
            match self.attempt(request, asks_one_first, deadline)? {
                Voted::Granted(token) => return Ok(Attempt::Granted(FencingToken::new(token))),
                Voted::Busy(free_in) => return Ok(Attempt::Busy { free_in }),
                Voted::Split => asks_one_first = true,
            }
        }
        let free_in = Some(Duration::from_millis(5) + jitter(Duration::from_millis(20)));
        Ok(Attempt::Busy { free_in })
    }

    /// Asks the nodes of a key once. Nothing remains unless the lock is granted.
    fn attempt(
        &self,
        request: &Request<'_>,
        asks_one_first: bool,
        deadline: Instant,
    ) -> Result<Voted, EngineError> {
        let start = Instant::now();
        let set = self.members.of(request.key);
        let majority = self.members.majority();
        let packed = self.acquire_request(request);
        let decide = |answers: &[Option<Answer>]| Tally::new(answers, majority).decide();
        let (asked, mut answers) = if asks_one_first && set.len() > 1 {
            // Of many waiters, one reaches the others of the nodes, and is not disturbed there.
            let answers = Arc::new(Answers::new(set.len(), 1));
            let mut asked = vec![false; set.len()];
            for gate in (0..set.len()).filter(|place| !self.nodes[set[*place]].is_slow()) {
                asked[gate] = true;
                let limit = deadline.min(Instant::now() + GATE_LIMIT);
                let is_known = |answers: &[Option<Answer>]| match answers[gate] {
                    Some(_) => Wait::Over,
                    None => Wait::Needed,
                };
                let direct = self.begin(&set, &[gate], &packed, deadline, &answers);
                let first = self.gather_from(direct, &set, &answers, limit, is_known);
                match Vote::of(&first[gate]) {
                    Vote::Busy(..) => {
                        self.refused.lock().insert(request.nonce);
                        return Ok(Voted::Busy(None));
                    }
                    // All waiters then ask the next node first.
                    Vote::Failed => {}
                    _ => break,
                }
            }
            let others: Vec<usize> = (0..set.len()).filter(|place| !asked[*place]).collect();
            let direct = self.begin(&set, &others, &packed, deadline, &answers);
            let all = self.gather_from(direct, &set, &answers, deadline, decide);
            (answers, all)
        } else {
            self.call(&set, &packed, deadline, majority, decide)
        };
        let tally = Tally::new(&answers, majority);
        if let Err(error) = self.fail_foreign(&set, &mut answers) {
            self.undo(request, &set, &tally);
            return Err(error);
        }
        if tally.granted() < majority {
            let is_answered = tally.granted() + tally.busy() >= majority;
            if !is_answered {
                return Err(self.undo_and_report(request, &set, &tally, &answers, deadline));
            }
            self.undo(request, &set, &tally);
            let missing = set.len() - tally.granted() - tally.busy();
            return Ok(match tally.greatest_other() + missing >= majority {
                true => Voted::Busy(tally.free_in()),
                false => Voted::Split,
            });
        }
        let Some(token) = self.settle(request, &set, &tally, deadline) else {
            self.undo(request, &set, &tally);
            return Ok(Voted::Split);
        };
        self.raise_late(request, &set, &asked, &answers, token);
        // The locks of the first nodes may have expired before the last one was granted [QU4].
        let drift = request.ttl / 100 + Duration::from_millis(2);
        if start.elapsed() + drift >= request.ttl {
            self.undo(request, &set, &tally);
            return Err(EngineError::unknown(
                "the nodes answered later than the lease would have ended",
            ));
        }
        Ok(Voted::Granted(token))
    }

    fn acquire_request(&self, request: &Request<'_>) -> Arc<Packed> {
        let keys = [
            scripts::CONFIG.to_owned(),
            scripts::lock(request.key),
            scripts::fence(request.key.namespace),
        ];
        let arguments = [
            self.hash.clone(),
            scripts::nonce(request.nonce),
            milliseconds(request.ttl),
            request.owner.to_owned(),
        ];
        let packed = Packed::default().call(
            Script::Grant,
            keys.iter().map(String::as_bytes),
            arguments.iter().map(String::as_bytes),
        );
        Arc::new(packed.acquires(request.nonce))
    }

    /// Chooses the token of a lock that a majority has granted, and writes it to the nodes that
    /// returned another one. Returns `None` unless a majority then has it [QU3].
    fn settle(
        &self,
        request: &Request<'_>,
        set: &[usize],
        tally: &Tally,
        deadline: Instant,
    ) -> Option<u64> {
        let held = tally.held_by_majority();
        let token = held.or_else(|| tally.votes.iter().filter_map(Vote::token).max())?;
        if planted("no write-back") {
            return Some(token);
        }
        let having = tally.count(|vote| vote.token() == Some(token));
        let is_enough = having >= tally.majority;
        // Pending nodes run the write after the request for the lock, so they may count.
        let others: Vec<usize> = (0..set.len())
            .filter(|place| match &tally.votes[*place] {
                Vote::Pending => !is_enough,
                vote => vote.token().is_some_and(|own| own != token),
            })
            .map(|place| set[place])
            .collect();
        let packed = Self::raise_request(request, token);
        let needed = tally.majority.saturating_sub(having);
        // Further nodes receive it, so that a renewal finds the token on all of them.
        if is_enough {
            self.ask(&others, packed, deadline, needed);
            return Some(token);
        }
        let raised = |answers: &[Option<Answer>]| count_of(answers, 1);
        let decide = |answers: &[Option<Answer>]| {
            let pending = answers.iter().filter(|answer| answer.is_none()).count();
            let raised = raised(answers);
            match raised >= needed || raised + pending < needed {
                true => Wait::Over,
                false => Wait::Needed,
            }
        };
        let (_, answers) = self.call(&others, &packed, deadline, needed, decide);
        (raised(&answers) >= needed).then_some(token)
    }

    fn raise_request(request: &Request<'_>, token: u64) -> Arc<Packed> {
        let keys = [
            scripts::lock(request.key),
            scripts::fence(request.key.namespace),
        ];
        let arguments = [
            scripts::nonce(request.nonce),
            scripts::token(token),
            token.to_string(),
        ];
        Arc::new(Packed::default().call(
            Script::Raise,
            keys.iter().map(String::as_bytes),
            arguments.iter().map(String::as_bytes),
        ))
    }

    /// Writes the token to nodes that grant the lock after it was chosen, as soon as they answer.
    ///
    /// So a renewal finds the token on all nodes, and not only on those that answered first.
    fn raise_late(
        &self,
        request: &Request<'_>,
        set: &[usize],
        asked: &Answers,
        seen: &[Option<Answer>],
        token: u64,
    ) {
        if seen.iter().all(Option::is_some) || planted("no write-back") {
            return;
        }
        let nodes: Vec<_> = set.iter().map(|at| Arc::clone(&self.nodes[*at])).collect();
        let packed = Self::raise_request(request, token);
        asked.on_late(seen, move |place, answer| {
            let own = Vote::of(&Some(answer.clone())).token();
            if own.is_some_and(|own| own != token) {
                let deadline = Instant::now() + Duration::from_secs(2);
                let answers = Arc::new(Answers::new(1, 1));
                nodes[place].submit(Job::new(Arc::clone(&packed), deadline, answers, 0));
            }
        });
    }

    fn release_request(key: Key<'_>, nonce: Nonce, channel: &str) -> Arc<Packed> {
        let (lock, hash) = (scripts::lock(key), notices::hash(key));
        let holder = scripts::nonce(nonce);
        let arguments = [holder.as_bytes(), channel.as_bytes(), hash.as_bytes()];
        let keys = [lock.as_bytes()];
        let packed = Packed::default().call(Script::Free, keys.into_iter(), arguments.into_iter());
        Arc::new(packed.releases(nonce))
    }

    /// Removes the locks of an attempt that was not granted, without waiting.
    ///
    /// Each node runs it after the request for the lock, because both use one connection.
    fn undo(&self, request: &Request<'_>, set: &[usize], tally: &Tally) -> Arc<Answers> {
        let packed = Self::release_request(request.key, request.nonce, "");
        let deadline = Instant::now() + Duration::from_secs(2);
        let is_granted = |place: &usize| {
            let vote = &tally.votes[*place];
            vote.token().is_some() || matches!(vote, Vote::Pending | Vote::Failed)
        };
        let places: Vec<usize> = (0..set.len())
            .filter(is_granted)
            .map(|at| set[at])
            .collect();
        self.ask(&places, packed, deadline, 1)
    }

    /// Removes the locks of an attempt that too few nodes answered, and returns its error.
    fn undo_and_report(
        &self,
        request: &Request<'_>,
        set: &[usize],
        tally: &Tally,
        answers: &[Option<Answer>],
        deadline: Instant,
    ) -> EngineError {
        let granted = tally.granted();
        let undone = self.undo(request, set, tally);
        let mut error = self.unavailable(set, answers);
        // The call had no effect if each lock that was granted is confirmed to be removed.
        if granted > 0 && error.outcome == Outcome::NotDone {
            let limit = deadline.min(Instant::now() + Duration::from_millis(200));
            let decide = |answers: &[Option<Answer>]| match count_of(answers, 1) >= granted {
                true => Wait::Over,
                false => Wait::Needed,
            };
            let removed = undone.wait(None, limit, decide, |_| false, |_| {});
            if count_of(&removed, 1) < granted {
                error.outcome = Outcome::Unknown;
            }
        }
        error
    }

    pub(super) fn release(
        &self,
        key: Key<'_>,
        nonce: Nonce,
        deadline: Instant,
    ) -> Result<Released, EngineError> {
        check_deadline(deadline)?;
        self.woken.lock().remove(nonce);
        self.refused.lock().remove(nonce);
        self.released.lock().insert(nonce);
        self.remove(key, nonce, deadline)
    }

    /// Removes the lock of a nonce from all nodes of its key, and notifies waiters.
    pub(super) fn remove(
        &self,
        key: Key<'_>,
        nonce: Nonce,
        deadline: Instant,
    ) -> Result<Released, EngineError> {
        let set = self.members.of(key);
        let majority = self.members.majority();
        let packed = Self::release_request(key, nonce, scripts::CHANNEL);
        let decide = |answers: &[Option<Answer>]| {
            let (removed, absent) = (count_of(answers, 1), count_of(answers, 0));
            let pending = answers.iter().filter(|answer| answer.is_none()).count();
            if removed >= majority || removed + absent + pending < majority {
                return Wait::Over;
            }
            match removed + absent >= majority {
                true if removed + pending < majority => Wait::Over,
                true => Wait::Awaited,
                false => Wait::Needed,
            }
        };
        let (_, answers) = self.call(&set, &packed, deadline, majority, decide);
        let (removed, absent) = (count_of(&answers, 1), count_of(&answers, 0));
        if removed >= majority {
            return Ok(Released::Done);
        }
        // On a majority the nonce holds nothing, so it does not hold the key.
        if removed + absent >= majority {
            return Ok(Released::WasLost);
        }
        let mut error = self.unavailable(&set, &answers);
        error.outcome = Outcome::Unknown;
        Err(error)
    }
}

/// Returns the number of nodes that replied with a number.
pub(super) fn count_of(answers: &[Option<Answer>], number: i64) -> usize {
    let is_number = |answer: &&Option<Answer>| match answer {
        Some(Answer::Replies(replies)) => replies.first() == Some(&Value::Int(number)),
        _ => false,
    };
    answers.iter().filter(is_number).count()
}
