//! Renewal of many leases in one round trip.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::Value;

use crate::engine::{EngineError, Renewal, Renewed};

use super::answers::{Answers, Wait};
use super::node::{Answer, Packed};
use super::read::{read_request, seen};
use super::scripts::{self, Script};
use super::{Quorum, check_deadline, inspect, milliseconds, replied};

/// The number of leases that one script renews, so that a node serves others between two scripts.
const CHUNK: usize = 128;

/// The greatest number of leases whose locks one call acquires again.
const REPAIRS: usize = 1000;

/// The time for which a call waits for the locks of other nodes before it acquires them again.
const REPAIR_LIMIT: Duration = Duration::from_millis(100);

/// The state of one lease on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Held,
    /// The node has no lock, or one of this nonce with another token.
    Lost,
    /// Another nonce holds the lock.
    Other,
    Unknown,
}

/// The leases that one node stores, by their places in the call.
struct Share {
    node: usize,
    places: Vec<usize>,
}

impl Quorum {
    pub(super) fn renew(
        &self,
        renewals: &[Renewal<'_>],
        deadline: Instant,
    ) -> Result<Vec<Renewed>, EngineError> {
        if renewals.is_empty() {
            return Ok(Vec::new());
        }
        check_deadline(deadline)?;
        let shares = self.shares(renewals);
        let majority = self.members.majority();
        let answers = Arc::new(Answers::new(shares.len(), majority));
        let set: Vec<usize> = shares.iter().map(|share| share.node).collect();
        // Where each node stores all leases, all nodes receive one request.
        let is_all = |share: &Share| share.places.len() == renewals.len();
        let direct = if shares.iter().all(is_all) {
            let packed = Arc::new(self.renew_request(renewals, &shares[0].places));
            let places: Vec<usize> = (0..set.len()).collect();
            self.begin(&set, &places, &packed, deadline, &answers)
        } else {
            for (at, share) in shares.iter().enumerate() {
                let packed = Arc::new(self.renew_request(renewals, &share.places));
                self.send(&set, at, &packed, deadline, &answers);
            }
            None
        };
        let renewed = |of: &Vec<(usize, Standing)>| {
            let count = |wanted| of.iter().filter(|(_, one)| *one == wanted).count();
            let (held, unknown) = (count(Standing::Held), count(Standing::Unknown));
            match held >= majority {
                true => Renewed::Held,
                false if held + unknown < majority => Renewed::Lost,
                false => Renewed::Unknown,
            }
        };
        let decide = |answers: &[Option<Answer>]| {
            let standings = standings(renewals.len(), &shares, answers);
            match standings.iter().any(|of| renewed(of) == Renewed::Unknown) {
                false => Wait::Stragglers,
                true if replied(answers) >= majority => Wait::Awaited,
                true => Wait::Needed,
            }
        };
        let mut answers = self.gather_from(direct, &set, &answers, deadline, decide);
        let standings = standings(renewals.len(), &shares, &answers);
        self.fail_foreign(&set, &mut answers)?;
        let results: Vec<Renewed> = standings.iter().map(renewed).collect();
        if results.iter().all(|one| *one == Renewed::Unknown) {
            return Err(self.unavailable(&set, &answers));
        }
        self.repair(renewals, &standings, &results);
        Ok(results)
    }

    /// Returns the nodes that store leases of a call.
    fn shares(&self, renewals: &[Renewal<'_>]) -> Vec<Share> {
        let mut places: Vec<Vec<usize>> = vec![Vec::new(); self.nodes.len()];
        for (place, renewal) in renewals.iter().enumerate() {
            let set = self.members.of(renewal.key);
            set.into_iter().for_each(|node| places[node].push(place));
        }
        let share = |(node, places)| Share { node, places };
        let shares = places.into_iter().enumerate().map(share);
        shares.filter(|share| !share.places.is_empty()).collect()
    }

    fn renew_request(&self, renewals: &[Renewal<'_>], places: &[usize]) -> Packed {
        let mut packed = Packed::default();
        for chunk in places.chunks(CHUNK) {
            let mut keys = vec![scripts::CONFIG.to_owned()];
            let mut arguments = vec![self.hash.clone()];
            for renewal in chunk.iter().map(|place| &renewals[*place]) {
                keys.push(scripts::lock(renewal.key));
                let nonce = scripts::nonce(renewal.nonce);
                arguments.push(format!("{nonce} {}", scripts::token(renewal.token.get())));
                arguments.push(milliseconds(renewal.ttl));
            }
            packed = packed.call(
                Script::Renew,
                keys.iter().map(String::as_bytes),
                arguments.iter().map(String::as_bytes),
            );
        }
        packed
    }

    /// Acquires the locks of renewed leases again on nodes that lost them [QU6].
    ///
    /// A node runs it before a later release, because both use one connection.
    fn repair(
        &self,
        renewals: &[Renewal<'_>],
        standings: &[Vec<(usize, Standing)>],
        results: &[Renewed],
    ) {
        let is_lost = |(_, one): &&(usize, Standing)| *one == Standing::Lost;
        let broken: Vec<usize> = (0..renewals.len())
            .filter(|place| results[*place] == Renewed::Held)
            .filter(|place| standings[*place].iter().any(|one| is_lost(&one)))
            .take(REPAIRS)
            .collect();
        if broken.is_empty() {
            return;
        }
        // The owner and the time of the grant are read from a node that has the lock.
        let deadline = Instant::now() + REPAIR_LIMIT;
        let mut of_node: Vec<Vec<usize>> = vec![Vec::new(); self.nodes.len()];
        for place in &broken {
            let held = standings[*place]
                .iter()
                .find(|(_, one)| *one == Standing::Held);
            if let Some((node, _)) = held {
                of_node[*node].push(*place);
            }
        }
        let set: Vec<usize> = (0..self.nodes.len())
            .filter(|node| !of_node[*node].is_empty())
            .collect();
        let answers = Arc::new(Answers::new(set.len(), set.len()));
        for (at, node) in set.iter().enumerate() {
            let keys: Vec<String> = of_node[*node]
                .iter()
                .map(|place| scripts::lock(renewals[*place].key))
                .collect();
            self.send(&set, at, &Arc::new(read_request(&keys)), deadline, &answers);
        }
        let answers = self.gather(&set, &answers, deadline, |_| Wait::Needed);
        let later = Instant::now() + Duration::from_secs(2);
        for (node, answer) in set.iter().zip(&answers) {
            let Some(Answer::Replies(replies)) = answer else {
                continue;
            };
            let locks = replies.iter().flat_map(seen);
            for (place, lock) in of_node[*node].iter().zip(locks) {
                let renewal = &renewals[*place];
                let lock = lock.filter(|seen| {
                    seen.lock.nonce == renewal.nonce && seen.lock.token == renewal.token.get()
                });
                let Some(seen) = lock else { continue };
                let packed = Arc::new(self.repair_request(renewal, &seen.value));
                let lost = standings[*place].iter().filter(is_lost);
                // Locked until the requests are queued: a release is then queued behind them.
                let released = self.released.lock();
                if released.contains(renewal.nonce) {
                    continue;
                }
                for (node, _) in lost {
                    self.send(&[*node], 0, &packed, later, &Arc::new(Answers::new(1, 1)));
                }
                drop(released);
            }
        }
    }

    fn repair_request(&self, renewal: &Renewal<'_>, value: &[u8]) -> Packed {
        let token = renewal.token.get();
        let keys = [
            scripts::CONFIG.to_owned(),
            scripts::lock(renewal.key),
            scripts::fence(renewal.key.namespace),
        ];
        let arguments = [
            self.hash.clone(),
            scripts::nonce(renewal.nonce),
            scripts::token(token),
            token.to_string(),
            milliseconds(renewal.ttl),
        ];
        let packed = Packed::default().call(
            Script::Repair,
            keys.iter().map(String::as_bytes),
            arguments.iter().map(String::as_bytes).chain([value]),
        );
        packed.acquires(renewal.nonce)
    }
}

/// Returns, for each lease, its nodes and its standing there.
fn standings(
    leases: usize,
    shares: &[Share],
    answers: &[Option<Answer>],
) -> Vec<Vec<(usize, Standing)>> {
    let mut standings = vec![Vec::new(); leases];
    for (share, answer) in shares.iter().zip(answers) {
        let replies = match answer {
            Some(Answer::Replies(replies)) => replies.as_slice(),
            _ => &[],
        };
        for (at, chunk) in share.places.chunks(CHUNK).enumerate() {
            let letters = match replies.get(at) {
                Some(Value::BulkString(letters)) => letters.as_slice(),
                _ => &[],
            };
            // A node without a configuration has lost its data, and with it all locks.
            let is_empty = match replies.get(at) {
                Some(Value::Array(fields)) => fields
                    .get(1)
                    .and_then(inspect::text)
                    .is_some_and(|hash| hash.is_empty()),
                _ => false,
            };
            for (number, place) in chunk.iter().enumerate() {
                let standing = match letters.get(number) {
                    Some(b'H') => Standing::Held,
                    Some(b'A' | b'T') => Standing::Lost,
                    Some(b'O') => Standing::Other,
                    _ if is_empty => Standing::Lost,
                    _ => Standing::Unknown,
                };
                standings[*place].push((share.node, standing));
            }
        }
    }
    standings
}
