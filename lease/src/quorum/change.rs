//! The change of the list of nodes: [`change_nodes`].

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::engine::EngineError;

use super::acquire::count_of;
use super::answers::Wait;
use super::node::{Answer, Packed};
use super::read::floor_request;
use super::{Quorum, claim, configuration, inspect, replied, scripts};

/// The time limit of each step.
const STEP_LIMIT: Duration = Duration::from_secs(10);

/// The time between two reads while leases exist.
const PAUSE: Duration = Duration::from_millis(50);

/// The list of nodes was not changed because leases are held: the source of an error.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeasesHeld {
    /// The number of leases.
    pub leases: usize,
}

impl fmt::Display for LeasesHeld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.leases;
        write!(
            f,
            "{held} leases are held; the list of nodes was not changed"
        )
    }
}

impl Error for LeasesHeld {}

/// Replaces the list of nodes `old` by `new`, both as URLs of the engine.
///
/// The command `lease nodes change` does the same.
///
/// From the first step on, no client of the old list acquires a lease; its leases can be renewed
/// and released. When all of them have ended, the counters of the old nodes are copied to the new
/// ones, and the new list becomes valid. Clients of the old list are refused from then on, and must
/// connect with the new one. A change that was interrupted can be repeated with the same lists.
///
/// A node of the old list may be out of reach if the others are a majority of the nodes of each
/// name. It must not be used again with its old data. All nodes of the new list must be reachable,
/// and the old nodes that were reached first must stay reachable.
///
/// # Blocking
/// Blocks until all leases have ended, at most for `patience` and the time of the steps.
///
/// # Errors
/// Returns an error, and the old list stays valid, if
/// - too few nodes can be reached,
/// - a node belongs to a third list,
/// - leases are held after `patience`: its source is [`LeasesHeld`].
///
/// If a node fails in the last steps, neither list is valid until the change is repeated.
///
/// # Examples
/// ```no_run
/// use latchwork_lease::quorum::change_nodes;
/// use std::time::Duration;
/// let old = "quorum:redis://a,redis://b,redis://c";
/// let new = "quorum:redis://a,redis://b,redis://d";
/// change_nodes(old, new, Duration::from_secs(60))?;
/// # Ok::<(), latchwork_lease::engine::EngineError>(())
/// ```
pub fn change_nodes(old: &str, new: &str, patience: Duration) -> Result<(), EngineError> {
    let (old, new) = (Quorum::start(old)?, Quorum::start(new)?);
    if old.hash == new.hash {
        return Err(EngineError::misconfigured("the two lists are equal"));
    }
    old.contact()?;
    new.contact()?;
    let change = Change {
        old_closing: format!("{}{}", old.hash, scripts::CLOSING),
        new_closing: format!("{}{}", new.hash, scripts::CLOSING),
        old,
        new,
    };
    change.run(patience)
}

struct Change {
    old: Quorum,
    new: Quorum,
    old_closing: String,
    new_closing: String,
}

impl Change {
    fn run(&self, patience: Duration) -> Result<(), EngineError> {
        // Nothing is changed if a node belongs to other clients.
        let all = self.new.nodes.len();
        let old = self.check(&self.old, self.least_old())?;
        let new = self.check(&self.new, all)?;
        // An interrupted change had copied all counters, if it had opened a node of the new list.
        // Clients may use that list since.
        let is_closed = |hash: &&String| !hash.is_empty() && **hash != self.old.hash;
        let was_closed = old.iter().filter(is_closed).count() >= self.least_old();
        if was_closed && new.contains(&self.new.hash) {
            return self.open();
        }
        // Step 1: no lease is granted under the old list any more.
        let closed = self.close()?;
        // Step 2: all leases end. Otherwise the old list becomes valid again.
        if let Err(error) = self.drain(&closed, patience) {
            self.replace(
                &self.old,
                &self.old_closing,
                &self.old.hash,
                self.least_old(),
            )?;
            return Err(error);
        }
        // Step 3: no node of the new list has a counter that is behind.
        self.replace(&self.new, &self.old_closing, &self.new_closing, all)?;
        let counters = self.counters(&closed)?;
        for (namespace, counter) in &counters {
            let request = floor_request(&self.new_closing, namespace, *counter);
            let answers = self.ask(&self.new, Arc::new(request), all)?;
            if count_of(&answers, 1) < all {
                return Err(EngineError::unknown(
                    "the counters were not copied to all nodes; repeat the change",
                ));
            }
        }
        self.open()
    }

    /// Step 4: the new list is valid, and clients of the old one are refused.
    fn open(&self) -> Result<(), EngineError> {
        let all = self.new.nodes.len();
        self.replace(&self.new, &self.new_closing, &self.new.hash, all)?;
        self.replace(&self.old, &self.old_closing, &self.new.hash, 0)
            .map(drop)
    }

    /// Closes the old list, and returns the nodes that are closed.
    ///
    /// The later steps read these nodes only. Another one may still grant locks, so a majority
    /// could hold a lease of which some nodes show nothing.
    fn close(&self) -> Result<Vec<usize>, EngineError> {
        let (from, to) = (&self.old.hash, &self.old_closing);
        let answers = self.replace(&self.old, from, to, self.least_old())?;
        let is_closed = |answer: &Option<Answer>| match answer {
            Some(Answer::Replies(replies)) => configuration(replies)[0] != self.old.hash,
            _ => false,
        };
        let places = 0..answers.len();
        Ok(places.filter(|at| is_closed(&answers[*at])).collect())
    }

    /// Returns the least number of old nodes that is a majority of the nodes of each name.
    fn least_old(&self) -> usize {
        let members = &self.old.members;
        self.old.nodes.len() - (members.copies() - members.majority())
    }

    fn ask(
        &self,
        quorum: &Quorum,
        request: Arc<Packed>,
        least: usize,
    ) -> Result<Vec<Option<Answer>>, EngineError> {
        let all: Vec<usize> = (0..quorum.nodes.len()).collect();
        self.ask_some(quorum, &all, request, least)
    }

    fn ask_some(
        &self,
        quorum: &Quorum,
        all: &[usize],
        request: Arc<Packed>,
        least: usize,
    ) -> Result<Vec<Option<Answer>>, EngineError> {
        let deadline = Instant::now() + STEP_LIMIT;
        let decide = |answers: &[Option<Answer>]| match replied(answers) >= least {
            true => Wait::Stragglers,
            false => Wait::Needed,
        };
        let answers = quorum.ask(all, request, deadline, 1);
        let answers = quorum.gather(all, &answers, deadline, decide);
        match replied(&answers) >= least {
            true => Ok(answers),
            false => Err(quorum.unavailable(all, &answers)),
        }
    }

    /// Refuses nodes that belong to a third list, and returns the hashes of the others.
    fn check(&self, quorum: &Quorum, least: usize) -> Result<Vec<String>, EngineError> {
        let mut hashes = Vec::new();
        let answers = self.ask(quorum, quorum.claim("", ""), least)?;
        for (node, answer) in quorum.nodes.iter().zip(&answers) {
            let Some(Answer::Replies(replies)) = answer else {
                continue;
            };
            let [present, words, _] = configuration(replies);
            let hash = present.strip_suffix(scripts::CLOSING).unwrap_or(&present);
            if !hash.is_empty() && hash != self.old.hash && hash != self.new.hash {
                return Err(EngineError::misconfigured(format!(
                    "node {} belongs to other clients with {words}",
                    node.label()
                )));
            }
            hashes.push(present);
        }
        Ok(hashes)
    }

    /// Replaces the configuration of nodes that have `from` or none. An interrupted change may have
    /// replaced it before.
    fn replace(
        &self,
        quorum: &Quorum,
        from: &str,
        to: &str,
        least: usize,
    ) -> Result<Vec<Option<Answer>>, EngineError> {
        let words = match to.starts_with(&self.new.hash) {
            true => self.new.members.words(),
            false => self.old.members.words(),
        };
        // All nodes of the new list were claimed before its hash replaces the passing one.
        let complete = if to == self.new.hash { to } else { "" };
        self.ask(quorum, claim(from, to, &words, complete), least)
    }

    /// Waits until no closed node has a lock.
    fn drain(&self, closed: &[usize], patience: Duration) -> Result<(), EngineError> {
        let start = Instant::now();
        let pattern = format!("{}*", scripts::escape(scripts::LOCKS));
        loop {
            let deadline = Instant::now() + STEP_LIMIT;
            let locks = self.old.scan(closed, &pattern, closed.len(), deadline)?;
            if locks.is_empty() {
                return Ok(());
            }
            if start.elapsed() >= patience {
                let leases = locks.len();
                return Err(EngineError::not_done(LeasesHeld { leases }));
            }
            thread::sleep(PAUSE);
        }
    }

    /// Returns the greatest counter of each namespace on the closed nodes.
    fn counters(&self, closed: &[usize]) -> Result<BTreeMap<String, u64>, EngineError> {
        let all = closed.len();
        let pattern = format!("{}*", scripts::escape(scripts::FENCES));
        let deadline = Instant::now() + STEP_LIMIT;
        let keys = self.old.scan(closed, &pattern, all, deadline)?;
        let mut counters = BTreeMap::new();
        for key in keys {
            let request = Packed::default().command(&[b"GET", key.as_bytes()]);
            let answers = self.ask_some(&self.old, closed, Arc::new(request), all)?;
            let greatest = answers.iter().flatten().filter_map(|answer| match answer {
                Answer::Replies(replies) => inspect::text(replies.first()?)?.parse().ok(),
                _ => None,
            });
            let namespace = key[scripts::FENCES.len()..].to_owned();
            counters.insert(namespace, greatest.max().unwrap_or(0));
        }
        Ok(counters)
    }
}
