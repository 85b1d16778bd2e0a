//! The engine `quorum:redis://…,redis://…`: independent Redis or Valkey nodes without a leader.
//!
//! A lease is a lock on a majority of the nodes that its key selects. Each node has a counter for
//! each namespace. The token is the greatest counter of the nodes that granted the lock, written
//! back to a majority while the lock is held: a logical clock. With one node, it is the plain Redis
//! lock.
//!
//! `PROTOCOL.md` in this folder has the rules.

mod acquire;
mod answers;
mod change;
mod direct;
mod inspect;
mod listen;
mod members;
mod node;
#[cfg(latchwork_plant)]
mod plant;
mod read;
mod renew;
mod scripts;
mod settings;
mod wire;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use latchwork::table::FencingToken;
use parking_lot::Mutex;
use redis::Value;

use crate::clock;
use crate::engine::{
    Attempt, Engine, EngineError, HolderInfo, Key, Nonce, Outcome, Released, Renewal, Renewed,
    Request,
};
use crate::guarantees::{Exclusive, Guarantees, TokenOrder};
use crate::notices::Notices;

use answers::{Answers, Wait};
use direct::Direct;
use listen::Listeners;
use members::Members;
use node::{Answer, Contact, Job, Node, Packed, Refusal};
use scripts::Script;

/// The time within which a majority of the nodes must be connected.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// The time for which [`QuorumEngine::connect`] waits for the last nodes.
const CONNECT_STRAGGLING: Duration = Duration::from_millis(500);

/// The number of nonces that a list of recent ones has.
const RECENT: usize = 4096;

/// An engine that keeps leases on a majority of independent Redis nodes, release 7 or later, or
/// Valkey nodes.
///
/// # URL
/// `quorum:` and a list of nodes, separated by commas. A node is
/// `redis://USER:PASSWORD@HOST:PORT/DB`, or `rediss://…` with TLS; `?ca=FILE` names certificates of
/// authorities in place of the system's. User, password, port and database are optional. Reserved
/// characters are encoded as `%2C`. A password that is not in the URL is read from the variable
/// `REDISCLI_AUTH`. Errors and `Debug` never contain it.
///
/// Of five nodes, two may fail; use an odd number. Of more than five nodes, each name is stored on
/// five, so load spreads. One node is the plain Redis lock, and tolerates no failure.
///
/// # Nodes
/// All clients must name the same nodes in the same spelling; their order has no meaning. Each node
/// stores a hash of the list, and a client with another list is refused. [`change_nodes`] replaces
/// the list. The engine refuses a node that is named twice, a replica, a node of a cluster, and a
/// `maxmemory-policy` that may drop locks.
///
/// Nodes may have several releases of Redis and Valkey, from 7 on. A list with an older node is
/// refused.
///
/// # Durability
/// A node that restarts without its data can grant a lock that another client holds. If a majority
/// depends on such a node, two clients hold one name. Set `appendonly yes` and
/// `appendfsync always`, or keep a restarted node stopped for the longest lease. After data was
/// lost, [`raise_floor`](Engine::raise_floor) repairs the order of tokens.
///
/// # Privileges
/// A user needs the keys `~latchwork:*`, the channels `&latchwork:*` and the commands
/// `+@connection +info +script|load +evalsha +get +set +del +incr +pexpire +pttl +time +publish
/// +subscribe +scan`.
///
/// A node that deletes the user, or changes its password, ends its connections and counts as one
/// that failed. If a majority does so, calls return an error that is not temporary until the user
/// is restored. Change a password while both are valid (`ACL SETUSER … >NEW`), and restart clients.
///
/// # Threads
/// The engine has one thread for each node, which connects, and which sends requests if several
/// callers use the node at once, or over TLS. A caller that is alone sends to all nodes by itself.
/// The first wait for a busy name starts a further thread that listens for releases; with more than
/// five nodes there are several.
///
/// # Forks
/// Each call returns an error in a child of a fork. The child can connect an engine of its own.
pub struct QuorumEngine {
    process: u32,
    quorum: Arc<Quorum>,
    listeners: Listeners,
}

/// The nodes, and all calls to them.
struct Quorum {
    members: Members,
    hash: String,
    nodes: Vec<Arc<Node>>,
    notices: Notices,
    /// How often all waiters were woken, because notifications may have been lost.
    resets: AtomicU64,
    /// Waiters that a release woke: their next request asks one node first [QU11].
    woken: Mutex<Recent>,
    /// Waiters that the first node refused since: they read this node only.
    refused: Mutex<Recent>,
    /// Acquisitions that were released: no node acquires their locks again [QU6].
    released: Mutex<Recent>,
}

/// The last nonces of some kind, at least [`RECENT`].
#[derive(Default)]
struct Recent {
    new: HashSet<u128>,
    old: HashSet<u128>,
}

impl Recent {
    fn insert(&mut self, nonce: Nonce) {
        if self.new.len() >= RECENT {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.insert(nonce.get());
    }

    fn contains(&self, nonce: Nonce) -> bool {
        self.new.contains(&nonce.get()) || self.old.contains(&nonce.get())
    }

    fn remove(&mut self, nonce: Nonce) -> bool {
        self.new.remove(&nonce.get()) | self.old.remove(&nonce.get())
    }
}

impl QuorumEngine {
    /// Connects to the nodes that a URL names.
    ///
    /// # Blocking
    /// Blocks for at most 10 seconds.
    ///
    /// # Errors
    /// Returns an error if the URL is malformed, if a majority of the nodes cannot be reached, or
    /// if a node
    /// - refuses the user, or has a release older than 7,
    /// - is named twice, is a replica or part of a cluster,
    /// - may drop locks when its memory is full,
    /// - belongs to another list of nodes.
    pub fn connect(url: &str) -> Result<Self, EngineError> {
        let quorum = Arc::new(Quorum::start(url)?);
        quorum.contact()?;
        quorum.join()?;
        Ok(QuorumEngine {
            process: std::process::id(),
            listeners: Listeners::default(),
            quorum,
        })
    }

    /// Returns the nodes, or an error in a child of the process that connected [QU12].
    fn quorum(&self) -> Result<&Quorum, EngineError> {
        if std::process::id() != self.process {
            return Err(EngineError::misconfigured(
                "the engine was connected before a fork and works only in the parent",
            ));
        }
        Ok(&self.quorum)
    }
}

pub use change::{LeasesHeld, change_nodes};

impl Drop for Quorum {
    fn drop(&mut self) {
        self.nodes.iter().for_each(|node| node.close());
    }
}

impl fmt::Debug for QuorumEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes = self.quorum.nodes.iter().map(|node| &node.address);
        f.debug_list().entries(nodes).finish()
    }
}

impl Quorum {
    /// Starts the threads of all nodes, which connect.
    fn start(url: &str) -> Result<Self, EngineError> {
        let addresses = settings::read(url)?;
        let members = Members::new(&addresses);
        let servers = Arc::new(Mutex::new(vec![None; addresses.len()]));
        let mut quorum = Quorum {
            hash: members.hash(),
            members,
            nodes: Vec::new(),
            notices: Notices::default(),
            resets: AtomicU64::new(0),
            woken: Mutex::default(),
            refused: Mutex::default(),
            released: Mutex::default(),
        };
        for (at, address) in addresses.into_iter().enumerate() {
            let node = Node::start(at, address, Arc::clone(&servers))?;
            quorum.nodes.push(node);
        }
        Ok(quorum)
    }

    /// Waits until a majority of all nodes is connected, and refuses nodes that cannot be used.
    fn contact(&self) -> Result<(), EngineError> {
        let start = Instant::now();
        let mut failed = Vec::new();
        let mut made = 0;
        let mut missing: Vec<&Arc<Node>> = self.nodes.iter().collect();
        let needed = self.nodes.len() / 2 + 1;
        while !missing.is_empty() {
            let limit = match made >= needed {
                true => CONNECT_STRAGGLING,
                false => CONNECT_LIMIT,
            };
            let mut left = Vec::new();
            for node in missing {
                let soon = Instant::now() + Duration::from_millis(5);
                match node.first_contact(soon) {
                    Contact::Made => made += 1,
                    Contact::Pending => left.push(node),
                    Contact::Refused(refusal) if refusal.is_permanent => {
                        return Err(EngineError::misconfigured(format!(
                            "node {}: {}",
                            node.label(),
                            refusal.reason
                        )));
                    }
                    Contact::Refused(refusal) => {
                        failed.push(format!("{}: {}", node.label(), refusal.reason));
                    }
                }
            }
            missing = left;
            if start.elapsed() >= limit || failed.len() + needed > self.nodes.len() {
                break;
            }
        }
        if made >= needed {
            missing.iter().for_each(|node| node.mark_slow());
            return Ok(());
        }
        let hung = missing
            .iter()
            .map(|node| format!("{}: no answer", node.label()));
        failed.extend(hung);
        Err(EngineError::not_done(format!(
            "{made} of {} nodes can be reached, and {needed} are needed: {}",
            self.nodes.len(),
            failed.join("; ")
        )))
    }

    /// Refuses nodes of another configuration, and joins those that have none [QU7].
    fn join(&self) -> Result<(), EngineError> {
        let places: Vec<usize> = (0..self.nodes.len()).collect();
        let deadline = Instant::now() + CONNECT_LIMIT;
        if crate::plant::planted("no configuration hash") {
            return Ok(());
        }
        let (all, needed) = (self.nodes.len(), self.nodes.len() / 2 + 1);
        let is_complete = |answers: &[Option<Answer>]| {
            let complete = |answer: &Option<Answer>| match answer {
                Some(Answer::Replies(replies)) => configuration(replies)[2] == "1",
                _ => false,
            };
            answers.iter().any(complete)
        };
        let configured = |answers: &[Option<Answer>]| match replied(answers) {
            count if count >= needed && is_complete(answers) => Wait::Stragglers,
            count if count == all => Wait::Over,
            _ => Wait::Needed,
        };
        let mut joined = Vec::new();
        for request in [self.claim("", ""), self.claim("", &self.hash)] {
            let asked = self.ask(&places, request, deadline, 1);
            let answers = self.gather(&places, &asked, deadline, configured);
            if replied(&answers) < needed {
                return Err(self.unavailable(&places, &answers));
            }
            for (place, answer) in answers.iter().enumerate() {
                let Some(Answer::Replies(replies)) = answer else {
                    continue;
                };
                let [hash, words, _] = configuration(replies);
                if hash == format!("{}{}", self.hash, scripts::CLOSING) {
                    return Err(EngineError::not_done(
                        "the list of nodes is being changed; if no change is in progress, repeat \
                         the change that was interrupted",
                    ));
                }
                if !hash.is_empty() && hash != self.hash {
                    return Err(EngineError::misconfigured(format!(
                        "node {} belongs to other clients with {words}, and this client has {}; \
                         all clients must name the same nodes",
                        self.nodes[place].label(),
                        self.members.words()
                    )));
                }
            }
            joined = answers;
        }
        if is_complete(&joined) {
            return Ok(());
        }
        // Two lists share nodes, and each could have a majority of nodes without another list.
        if replied(&joined) < all {
            return Err(EngineError::not_done(format!(
                "{} of {all} nodes can be reached, and all must be when a list is used first",
                replied(&joined)
            )));
        }
        let request = claim("", "", "", &self.hash);
        let asked = self.ask(&places, request, deadline, 1);
        self.gather(&places, &asked, deadline, configured);
        Ok(())
    }

    /// Makes the request that replaces a configuration, or reads it if the new one is empty.
    fn claim(&self, old: &str, new: &str) -> Arc<Packed> {
        claim(old, new, &self.members.words(), "")
    }

    /// Sends one request to several nodes.
    fn ask(
        &self,
        set: &[usize],
        request: Arc<Packed>,
        deadline: Instant,
        wanted: usize,
    ) -> Arc<Answers> {
        let answers = Arc::new(Answers::new(set.len(), wanted));
        for place in 0..set.len() {
            self.send(set, place, &request, deadline, &answers);
        }
        answers
    }

    /// Sends one request to the nodes at some places of a set.
    ///
    /// The caller also reads the answers if no other thread uses one of the connections.
    fn begin(
        &self,
        set: &[usize],
        places: &[usize],
        request: &Arc<Packed>,
        deadline: Instant,
        answers: &Arc<Answers>,
    ) -> Option<Direct<'_>> {
        let direct = Direct::send(&self.nodes, set, places, request, deadline, answers);
        if direct.is_none() {
            for place in places {
                self.send(set, *place, request, deadline, answers);
            }
        }
        direct
    }

    /// Sends one request to a set of nodes, and waits for the answers.
    fn call(
        &self,
        set: &[usize],
        request: &Arc<Packed>,
        deadline: Instant,
        wanted: usize,
        decide: impl Fn(&[Option<Answer>]) -> Wait,
    ) -> (Arc<Answers>, Vec<Option<Answer>>) {
        let answers = Arc::new(Answers::new(set.len(), wanted));
        let places: Vec<usize> = (0..set.len()).collect();
        let direct = self.begin(set, &places, request, deadline, &answers);
        let all = self.gather_from(direct, set, &answers, deadline, decide);
        (answers, all)
    }

    /// Sends one request to the node at a place of a set.
    fn send(
        &self,
        set: &[usize],
        place: usize,
        request: &Arc<Packed>,
        deadline: Instant,
        answers: &Arc<Answers>,
    ) {
        let (request, answers) = (Arc::clone(request), Arc::clone(answers));
        self.nodes[set[place]].submit(Job::new(request, deadline, answers, place));
    }

    /// Waits for the answers of a set of nodes.
    fn gather(
        &self,
        set: &[usize],
        answers: &Answers,
        deadline: Instant,
        decide: impl Fn(&[Option<Answer>]) -> Wait,
    ) -> Vec<Option<Answer>> {
        self.gather_from(None, set, answers, deadline, decide)
    }

    fn gather_from(
        &self,
        direct: Option<Direct<'_>>,
        set: &[usize],
        answers: &Answers,
        deadline: Instant,
        decide: impl Fn(&[Option<Answer>]) -> Wait,
    ) -> Vec<Option<Answer>> {
        answers.wait(
            direct,
            deadline,
            decide,
            |place| self.nodes[set[place]].is_slow(),
            |place| self.nodes[set[place]].mark_slow(),
        )
    }

    /// Returns the error of a call that too few nodes answered.
    fn unavailable(&self, set: &[usize], answers: &[Option<Answer>]) -> EngineError {
        let mut reasons = Vec::new();
        let (mut permanent, mut outcome) = (0, Outcome::NotDone);
        for (node, answer) in set.iter().map(|at| &self.nodes[*at]).zip(answers) {
            let reason = match answer {
                Some(Answer::Replies(_)) => continue,
                Some(Answer::NotDone(refusal)) => {
                    permanent += usize::from(refusal.is_permanent);
                    &*refusal.reason
                }
                Some(Answer::Unknown(reason)) => {
                    outcome = Outcome::Unknown;
                    reason
                }
                None => {
                    outcome = Outcome::Unknown;
                    "it did not answer in time"
                }
            };
            reasons.push(format!("{}: {reason}", node.label()));
        }
        let answered = set.len() - reasons.len();
        EngineError {
            outcome,
            is_temporary: set.len() - permanent > set.len() / 2,
            source: format!(
                "{answered} of {} nodes answered: {}",
                set.len(),
                reasons.join("; ")
            )
            .into(),
        }
    }

    /// Replaces the answers of nodes that have another configuration by failures, or returns the
    /// error of the call.
    fn fail_foreign(
        &self,
        set: &[usize],
        answers: &mut [Option<Answer>],
    ) -> Result<(), EngineError> {
        for (node, answer) in set.iter().zip(answers) {
            if let Some(hash) = answer.as_ref().and_then(read::foreign_hash) {
                *answer = Some(Answer::NotDone(self.foreign(*node, &hash)?));
            }
        }
        Ok(())
    }

    /// Handles the answer of a node that has another configuration [QU7].
    ///
    /// Returns the error of the call, or the failure of the node if others may suffice.
    fn foreign(&self, node: usize, hash: &str) -> Result<Refusal, EngineError> {
        let refusal = |reason: &str| Refusal {
            reason: reason.into(),
            is_permanent: false,
        };
        if hash.is_empty() {
            // The node has lost its data, or is new. It joins with the next request.
            let deadline = Instant::now() + Duration::from_secs(2);
            self.ask(&[node], self.claim("", &self.hash), deadline, 1);
            return Ok(refusal("it has no configuration, and has lost its data"));
        }
        if hash.strip_suffix(scripts::CLOSING) == Some(&self.hash) {
            return Ok(refusal("the list of nodes is being changed"));
        }
        Err(EngineError::misconfigured(format!(
            "node {} belongs to another list of nodes than {}; all clients must name the same nodes",
            self.nodes[node].label(),
            self.members.words()
        )))
    }
}

/// Makes the request that replaces a configuration, or reads it if the new one is empty.
///
/// All nodes have the configuration `complete`, unless it is empty.
fn claim(old: &str, new: &str, words: &str, complete: &str) -> Arc<Packed> {
    let keys = [scripts::CONFIG, scripts::MEMBERS, scripts::COMPLETE].map(str::as_bytes);
    let arguments = [old, new, words, complete].map(str::as_bytes);
    Arc::new(Packed::default().call(Script::Claim, keys.into_iter(), arguments.into_iter()))
}

/// Returns the hash and the words of a configuration, and `1` if all nodes had it.
fn configuration(replies: &[Value]) -> [String; 3] {
    let fields = match replies.first() {
        Some(Value::Array(fields)) => fields.as_slice(),
        _ => &[],
    };
    [0, 1, 2].map(|at| fields.get(at).and_then(inspect::text).unwrap_or_default())
}

/// Returns the number of nodes that replied.
fn replied(answers: &[Option<Answer>]) -> usize {
    let is_reply = |answer: &&Option<Answer>| matches!(answer, Some(Answer::Replies(_)));
    answers.iter().filter(is_reply).count()
}

/// Returns a random duration of at most `most`.
fn jitter(most: Duration) -> Duration {
    let random = clock::random().unwrap_or(0) as u32;
    most.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// Returns an error if the deadline has passed, before anything is sent.
fn check_deadline(deadline: Instant) -> Result<(), EngineError> {
    match Instant::now() < deadline {
        true => Ok(()),
        false => Err(EngineError::not_done("the deadline has passed")),
    }
}

/// Returns the milliseconds of a lease, rounded up.
fn milliseconds(ttl: Duration) -> String {
    ttl.as_nanos().div_ceil(1_000_000).max(1).to_string()
}

/// Returns the guarantees of locks on so many nodes each.
pub(crate) fn guarantees(copies: usize) -> Guarantees {
    Guarantees {
        tolerates: match (copies - 1) / 2 {
            0 => "clients that end or stop; restarts of nodes with their data",
            1 => "clients that end or stop; the failure of one node of each name",
            _ => "clients that end or stop; the failure of two nodes of each name",
        },
        ..Guarantees::new(
            Exclusive::UnlessPausedOrClocksJump,
            TokenOrder::UnlessDataIsLost,
        )
    }
}

impl Engine for QuorumEngine {
    fn guarantees(&self) -> Guarantees {
        guarantees(self.quorum.members.copies())
    }

    fn try_acquire(
        &self,
        request: &Request<'_>,
        deadline: Instant,
    ) -> Result<Attempt, EngineError> {
        self.quorum()?.acquire(request, deadline)
    }

    fn renew_many(
        &self,
        renewals: &[Renewal<'_>],
        deadline: Instant,
    ) -> Result<Vec<Renewed>, EngineError> {
        self.quorum()?.renew(renewals, deadline)
    }

    fn release(
        &self,
        key: Key<'_>,
        nonce: Nonce,
        deadline: Instant,
    ) -> Result<Released, EngineError> {
        self.quorum()?.release(key, nonce, deadline)
    }

    fn holder(&self, key: Key<'_>, deadline: Instant) -> Result<Option<HolderInfo>, EngineError> {
        self.quorum()?.holder(key, deadline)
    }

    fn list(
        &self,
        namespace: &str,
        prefix: &str,
        deadline: Instant,
    ) -> Result<Vec<(String, HolderInfo)>, EngineError> {
        self.quorum()?.list(namespace, prefix, deadline)
    }

    fn break_lease(
        &self,
        key: Key<'_>,
        token: FencingToken,
        deadline: Instant,
    ) -> Result<bool, EngineError> {
        self.quorum()?.break_lease(key, token, deadline)
    }

    fn raise_floor(
        &self,
        key: Key<'_>,
        token: FencingToken,
        deadline: Instant,
    ) -> Result<(), EngineError> {
        self.quorum()?.raise_floor(key, token, deadline)
    }

    fn wait_hint(&self, key: Key<'_>, nonce: Nonce, deadline: Instant) -> Result<(), EngineError> {
        self.quorum()?;
        self.listeners.start(&self.quorum);
        self.quorum.wait_hint(key, nonce, deadline, &self.listeners)
    }
}
