//! The servers of an engine: a central server, a consensus group, or one node of a quorum.
//!
//! All are one type. A central server and a node of a quorum are groups with one member.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use crate::links::{Cuts, Region, Time, one_way};

/// A name, by its number.
pub(crate) type Name = u32;

/// An acquisition: the client, and its number among those of the client.
pub(crate) type Nonce = u64;

/// A request to a server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Request {
    /// Acquire the name.
    Ask,
    /// Raise the counter to the token, if the lock is still that of this value.
    Raise { value: u64, token: u64 },
    /// Extend the lock, or acquire it again if the engine does so.
    Renew { token: u64 },
    /// Release the name.
    Release,
}

/// The answer of a server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// The ask is granted with this value of the counter.
    Granted(u64),
    /// Another nonce holds the name, or precedes in its queue, until then.
    Busy(Option<Time>),
    /// A raise, a renewal or a release had its effect.
    Done,
    /// It had no effect.
    Refused,
}

/// Hashes small numbers. The order of a map does not depend on the process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 ^= self.0 >> 29;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

type Map<V> = HashMap<Name, V, BuildHasherDefault<NumberHasher>>;

#[derive(Clone, Copy, Debug)]
struct Lock {
    nonce: Nonce,
    value: u64,
    expires: Time,
}

#[derive(Clone, Copy, Debug)]
struct Waiter {
    nonce: Nonce,
    /// An entry of a queue that is not refreshed ends.
    until: Time,
}

/// A machine of a group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    /// The region of the machine.
    pub(crate) region: Region,
    /// Whether the machine runs.
    pub(crate) is_up: bool,
}

/// The facts of an engine's servers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conduct {
    /// The time for which a request occupies the server.
    pub(crate) service: Time,
    /// The time until an effect is durable on one machine.
    pub(crate) sync: Time,
    /// Whether waiters are granted in the order of their asks.
    pub(crate) is_fair: bool,
    /// Whether a renewal acquires a free lock again.
    pub(crate) reacquires: bool,
}

/// A server, or a group of servers with one leader.
#[derive(Debug)]
pub(crate) struct Server {
    conduct: Conduct,
    members: Vec<Member>,
    leader: usize,
    /// The group answers from then on. `Time::MAX` if it has no majority.
    available_at: Time,
    /// Requests of an earlier epoch have no effect.
    pub(crate) epoch: u32,
    busy_until: Time,
    counter: u64,
    locks: Map<Lock>,
    waiters: Map<VecDeque<Waiter>>,
}

impl Server {
    /// Makes a group whose members are in these regions.
    pub(crate) fn new(conduct: Conduct, regions: impl IntoIterator<Item = Region>) -> Self {
        let member = |region| Member {
            region,
            is_up: true,
        };
        Server {
            conduct,
            members: regions.into_iter().map(member).collect(),
            leader: 0,
            available_at: 0,
            epoch: 0,
            busy_until: 0,
            counter: 0,
            locks: Map::default(),
            waiters: Map::default(),
        }
    }

    /// The number of its machines.
    pub(crate) fn members(&self) -> usize {
        self.members.len()
    }

    /// The region that receives requests.
    pub(crate) fn region(&self) -> Region {
        self.members[self.leader].region
    }

    /// Whether a request that arrives now is served.
    pub(crate) fn is_available(&self, now: Time) -> bool {
        now >= self.available_at
    }

    /// The time until which the requests that it has received occupy it.
    pub(crate) fn busy_until(&self) -> Time {
        self.busy_until
    }

    /// Returns when a request that arrives now is served. It occupies the server until then.
    pub(crate) fn enqueue(&mut self, now: Time) -> Time {
        self.busy_until = self.busy_until.max(now) + self.conduct.service;
        self.busy_until
    }

    fn reaches(&self, from: usize, to: usize, cuts: &Cuts) -> bool {
        let (from, to) = (self.members[from], self.members[to]);
        from.is_up && to.is_up && cuts.connect(from.region, to.region)
    }

    fn majority(&self) -> usize {
        self.members.len() / 2 + 1
    }

    fn leads(&self, member: usize, cuts: &Cuts) -> bool {
        let reached = (0..self.members.len()).filter(|to| self.reaches(member, *to, cuts));
        reached.count() >= self.majority()
    }

    /// The time from the service of a write until a majority has it.
    pub(crate) fn commit_time(&self, cuts: &Cuts) -> Time {
        let reached = (0..self.members.len()).filter(|to| self.reaches(self.leader, *to, cuts));
        let mut times: Vec<Time> = reached
            .map(|to| match to == self.leader {
                true => 0,
                false => 2 * one_way(self.region(), self.members[to].region),
            })
            .collect();
        times.sort_unstable();
        let last = times.get(self.majority() - 1);
        self.conduct.sync + last.copied().unwrap_or(0)
    }

    /// The messages between members for one write.
    pub(crate) fn internal_messages(&self) -> u64 {
        let up = self.members.iter().filter(|member| member.is_up).count();
        2 * (up.max(1) - 1) as u64
    }

    /// A machine stops or starts.
    pub(crate) fn set_up(&mut self, member: usize, is_up: bool) {
        self.members[member].is_up = is_up;
    }

    /// Elects a leader if the present one has no majority. An election lasts for `election`.
    pub(crate) fn elect(&mut self, now: Time, cuts: &Cuts, election: Time) {
        if self.leads(self.leader, cuts) {
            if self.available_at == Time::MAX {
                self.available_at = now + election;
            }
            return;
        }
        self.epoch += 1;
        self.busy_until = now;
        match (0..self.members.len()).find(|member| self.leads(*member, cuts)) {
            Some(leader) => {
                self.leader = leader;
                self.available_at = now + election;
            }
            None => self.available_at = Time::MAX,
        }
    }

    fn live(&self, name: Name, now: Time) -> Option<Lock> {
        self.locks
            .get(&name)
            .copied()
            .filter(|lock| now < lock.expires)
    }

    /// Serves a request. Appends the nonces of the waiters that are notified.
    pub(crate) fn serve(
        &mut self,
        now: Time,
        name: Name,
        nonce: Nonce,
        ttl: Time,
        request: Request,
        notify: &mut Vec<Nonce>,
    ) -> Answer {
        let live = self.live(name, now);
        let mine = live.filter(|lock| lock.nonce == nonce);
        match request {
            Request::Ask => {
                if let Some(lock) = mine {
                    self.lock(name, nonce, lock.value, now + ttl);
                    return Answer::Granted(lock.value);
                }
                if live.is_some() || self.is_preceded(name, nonce, now) {
                    self.wait(name, nonce, now + ttl);
                    return Answer::Busy(live.map(|lock| lock.expires - now));
                }
                self.leave_queue(name, nonce);
                self.counter += 1;
                self.lock(name, nonce, self.counter, now + ttl);
                Answer::Granted(self.counter)
            }
            Request::Raise { value, token } => match mine {
                Some(lock) if lock.value == value => {
                    self.counter = self.counter.max(token);
                    Answer::Done
                }
                _ => Answer::Refused,
            },
            Request::Renew { token } => match (mine, live) {
                (Some(lock), _) => {
                    self.lock(name, nonce, lock.value, now + ttl);
                    Answer::Done
                }
                (None, None) if self.conduct.reacquires => {
                    self.counter = self.counter.max(token);
                    // No raise concerns this lock.
                    self.lock(name, nonce, 0, now + ttl);
                    Answer::Done
                }
                _ => Answer::Refused,
            },
            Request::Release => {
                self.leave_queue(name, nonce);
                if mine.is_none() {
                    return Answer::Refused;
                }
                self.locks.remove(&name);
                self.notify(name, now, notify);
                Answer::Done
            }
        }
    }

    fn lock(&mut self, name: Name, nonce: Nonce, value: u64, expires: Time) {
        let lock = Lock {
            nonce,
            value,
            expires,
        };
        self.locks.insert(name, lock);
    }

    /// Whether another waiter is before this one.
    fn is_preceded(&mut self, name: Name, nonce: Nonce, now: Time) -> bool {
        if !self.conduct.is_fair {
            return false;
        }
        let Some(queue) = self.waiters.get_mut(&name) else {
            return false;
        };
        while queue.front().is_some_and(|waiter| waiter.until <= now) {
            queue.pop_front();
        }
        queue.front().is_some_and(|waiter| waiter.nonce != nonce)
    }

    fn wait(&mut self, name: Name, nonce: Nonce, until: Time) {
        let queue = self.waiters.entry(name).or_default();
        match queue.iter_mut().find(|waiter| waiter.nonce == nonce) {
            Some(waiter) => waiter.until = until,
            None => queue.push_back(Waiter { nonce, until }),
        }
    }

    fn leave_queue(&mut self, name: Name, nonce: Nonce) {
        if let Some(queue) = self.waiters.get_mut(&name) {
            queue.retain(|waiter| waiter.nonce != nonce);
            if queue.is_empty() {
                self.waiters.remove(&name);
            }
        }
    }

    fn notify(&mut self, name: Name, now: Time, notify: &mut Vec<Nonce>) {
        if self.conduct.is_fair {
            self.is_preceded(name, Nonce::MAX, now);
            let queue = self.waiters.get(&name);
            notify.extend(queue.and_then(VecDeque::front).map(|waiter| waiter.nonce));
        } else if let Some(queue) = self.waiters.remove(&name) {
            notify.extend(queue.iter().map(|waiter| waiter.nonce));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::links::SECOND;

    const CONDUCT: Conduct = Conduct {
        service: 1000,
        sync: 0,
        is_fair: true,
        reacquires: false,
    };

    fn ask(server: &mut Server, now: Time, nonce: Nonce) -> bool {
        let mut notify = Vec::new();
        let answer = server.serve(now, 7, nonce, SECOND, Request::Ask, &mut notify);
        matches!(answer, Answer::Granted(_))
    }

    #[test]
    fn a_fair_server_grants_in_the_order_of_the_asks() {
        let mut server = Server::new(CONDUCT, [0]);
        assert!(ask(&mut server, 0, 1));
        assert!(!ask(&mut server, 1, 2) && !ask(&mut server, 2, 3));
        let mut notify = Vec::new();
        server.serve(3, 7, 1, SECOND, Request::Release, &mut notify);
        assert_eq!(notify, [2]);
        assert!(!ask(&mut server, 4, 3) && ask(&mut server, 5, 2));
        // The lease of the second expires, and its place in the queue has been left.
        assert!(ask(&mut server, 6 + SECOND, 3));
    }

    #[test]
    fn a_group_without_a_majority_is_not_available() {
        let mut server = Server::new(CONDUCT, [0, 1, 2]);
        let mut cuts = Cuts::default();
        server.set_up(0, false);
        server.elect(10, &cuts, 100);
        assert!(!server.is_available(50) && server.is_available(110));
        assert_eq!(server.region(), 1);
        cuts.add(1, 2);
        server.elect(200, &cuts, 100);
        assert!(!server.is_available(Time::MAX - 1));
        server.set_up(0, true);
        server.elect(300, &cuts, 100);
        assert!(!server.is_available(300) && server.is_available(400));
    }
}
