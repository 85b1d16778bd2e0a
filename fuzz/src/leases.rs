//! The state machine of an acquisition, in a world where requests are lost, delayed and answered
//! twice, processes stop, and an administrator breaks leases.
//!
//! Each byte is one decision. The world without decisions is quick and faultless, so that a short
//! input is a short history.

use std::collections::BTreeMap;
use std::time::Duration;

use latchwork_lease::engine::{Attempt, Outcome, Released, Renewed};
use latchwork_lease::sim::{FencingToken, Id, Input, Machine, Output};

/// The length of each lease.
const TTL: Duration = Duration::from_secs(1);
/// The machines that request the one key at a time.
const CALLERS: usize = 3;
/// The time after which no caller begins anything new.
const END: Duration = Duration::from_secs(30);
/// More events than this are no history, but a machine that never rests.
const MOST_EVENTS: usize = 50_000;

/// How often the decisions of some inputs led to which outcome.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeaseTally {
    /// Leases that a caller received.
    pub granted: u64,
    /// Leases that ended before their callers released them.
    pub lost: u64,
    /// Acquisitions that ended without a lease.
    pub ended: u64,
    /// Requests that arrived at no engine, and answers that arrived at no caller.
    pub dropped: u64,
    /// Renewals that the engine accepted.
    pub renewed: u64,
}

impl LeaseTally {
    /// Adds those of another input.
    pub fn add(&mut self, other: Self) {
        self.granted += other.granted;
        self.lost += other.lost;
        self.ended += other.ended;
        self.dropped += other.dropped;
        self.renewed += other.renewed;
    }

    /// The rarest outcome.
    pub fn least(&self) -> u64 {
        let all = [self.granted, self.lost, self.ended, self.dropped];
        all.into_iter().fold(self.renewed, u64::min)
    }
}

/// The number of an acquisition, which its requests carry.
type Nonce = u64;

#[derive(Clone, Copy, Debug)]
enum Request {
    Ask(Id),
    Renew(Id, FencingToken),
    Release(Id),
}

#[derive(Clone, Copy, Debug)]
enum Event {
    /// A request arrives at the engine.
    Arrival(Nonce, Request),
    /// An answer arrives at the machine.
    Answer(Nonce, Input),
    /// A caller decides what to do.
    Act(usize),
    /// An administrator ends the lease.
    Break,
}

/// The lease at the engine.
struct Lease {
    nonce: Nonce,
    token: FencingToken,
    expires: Duration,
}

struct Acquisition {
    nonce: Nonce,
    machine: Machine,
    token: Option<FencingToken>,
    /// The machine reported the end of the lease, or that there is none.
    closed: bool,
    over: bool,
    /// An administrator has ended the lease.
    broken: bool,
    /// The process runs again at this time.
    stopped_until: Duration,
}

impl Acquisition {
    fn is_held(&self, now: Duration) -> bool {
        self.token.is_some() && !self.closed && now < self.machine.valid_until()
    }
}

struct World<'d> {
    bytes: &'d [u8],
    now: Duration,
    /// Live acquisitions first, one for each caller; the others clean up.
    all: Vec<Acquisition>,
    lease: Option<Lease>,
    tokens: u64,
    nonces: Nonce,
    events: BTreeMap<(Duration, u64), Event>,
    numbers: u64,
    queues: bool,
    tally: LeaseTally,
}

/// Runs the history that `data` stands for.
pub(crate) fn run(data: &[u8]) -> LeaseTally {
    let mut world = World {
        bytes: data,
        now: Duration::from_secs(1),
        all: Vec::new(),
        lease: None,
        tokens: 0,
        nonces: 0,
        events: BTreeMap::new(),
        numbers: 0,
        queues: false,
        tally: LeaseTally::default(),
    };
    world.queues = world.one_in(2);
    for caller in 0..CALLERS {
        let fresh = world.acquisition();
        world.all.push(fresh);
        world.at(world.now, Event::Act(caller));
    }
    world.run();
    world.tally
}

impl World<'_> {
    /// The next decision: less than `n`, and 0 when there are no more bytes.
    fn below(&mut self, n: u64) -> u64 {
        let Some((byte, rest)) = self.bytes.split_first() else {
            return 0;
        };
        self.bytes = rest;
        u64::from(*byte) * n / 256
    }

    /// Whether the exception happens. It does not when there are no more bytes.
    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == n - 1
    }

    fn millis(&mut self, n: u64) -> Duration {
        Duration::from_millis(self.below(n))
    }

    fn acquisition(&mut self) -> Acquisition {
        self.nonces += 1;
        Acquisition {
            nonce: self.nonces,
            machine: Machine::new(TTL, self.queues),
            token: None,
            closed: false,
            over: false,
            broken: false,
            stopped_until: Duration::ZERO,
        }
    }

    fn at(&mut self, when: Duration, event: Event) {
        self.numbers += 1;
        self.events.insert((when, self.numbers), event);
    }

    fn find(&mut self, nonce: Nonce) -> Option<&mut Acquisition> {
        self.all.iter_mut().find(|one| one.nonce == nonce)
    }

    fn run(&mut self) {
        for _ in 0..MOST_EVENTS {
            let event = self.events.first_key_value().map(|((when, _), _)| *when);
            let live = self.all.iter().filter(|one| !one.over);
            let tick = live
                .map(|one| (one.machine.wake_at().max(one.stopped_until), one.nonce))
                .filter(|(when, _)| *when < Duration::from_secs(1 << 30))
                .min();
            match (event, tick) {
                (None, None) => {
                    assert!(self.all.iter().all(|one| one.over), "a machine never ends");
                    return;
                }
                (Some(when), tick) if tick.is_none_or(|(other, _)| when <= other) => {
                    self.now = self.now.max(when);
                    let (_, event) = self.events.pop_first().expect("it is the first");
                    self.deliver(event);
                }
                (_, Some((when, nonce))) => {
                    self.now = self.now.max(when);
                    self.feed(nonce, Input::Tick);
                }
                (_, None) => unreachable!("an event is next"),
            }
            self.check();
        }
        panic!("the machines do not come to rest");
    }

    fn deliver(&mut self, event: Event) {
        match event {
            Event::Arrival(nonce, request) => self.serve(nonce, request),
            Event::Answer(nonce, input) => {
                let until = self.find(nonce).map(|one| one.stopped_until);
                match until.filter(|until| *until > self.now) {
                    Some(until) => self.at(until, event),
                    None => self.feed(nonce, input),
                }
            }
            Event::Act(caller) => self.act(caller),
            Event::Break => {
                let lease = self.lease.take();
                if let Some(one) = lease.and_then(|lease| self.find(lease.nonce)) {
                    one.broken = true;
                }
            }
        }
    }

    fn act(&mut self, caller: usize) {
        let is_last = self.now >= END || self.bytes.is_empty();
        let one = &self.all[caller];
        let (nonce, until) = (one.nonce, one.stopped_until);
        if until > self.now {
            self.at(until, Event::Act(caller));
            return;
        }
        if is_last {
            self.feed(nonce, Input::Abandon);
            if !self.all[caller].closed {
                self.at(self.now + TTL, Event::Act(caller));
            }
            return;
        }
        let pause = self.millis(1500);
        self.at(self.now + pause, Event::Act(caller));
        if self.all[caller].closed {
            // A new acquisition beside the remains of the last one.
            let fresh = self.acquisition();
            let nonce = fresh.nonce;
            let old = std::mem::replace(&mut self.all[caller], fresh);
            self.all.push(old);
            self.feed(nonce, Input::Tick);
            return;
        }
        match self.below(6) {
            0 | 1 => self.feed(nonce, Input::Hint),
            2 => self.feed(nonce, Input::Abandon),
            3 => {
                let pause = self.millis(3000);
                self.all[caller].stopped_until = self.now + pause;
            }
            4 => self.at(self.now, Event::Break),
            _ => {}
        }
    }

    /// Delivers an input to the machine of `nonce`, and checks and performs its duties.
    fn feed(&mut self, nonce: Nonce, input: Input) {
        let now = self.now;
        let Some(one) = self.find(nonce) else { return };
        let mut duties = Vec::new();
        one.machine.on(now, input, &mut duties);
        let mut tally = LeaseTally::default();
        for duty in &duties {
            assert!(!one.over, "a duty after the end: {duty:?}");
            match *duty {
                Output::Granted(token) => {
                    assert!(one.token.is_none() && !one.closed, "granted twice");
                    one.token = Some(token);
                    tally.granted += 1;
                }
                Output::Ended => {
                    assert!(one.token.is_none() && !one.closed, "ended while held");
                    one.closed = true;
                    tally.ended += 1;
                }
                Output::Lost(_) => {
                    assert!(one.token.is_some() && !one.closed, "lost twice");
                    one.closed = true;
                    tally.lost += u64::from(!matches!(input, Input::Abandon));
                }
                Output::Ask(..) => {
                    assert!(one.token.is_none() && !one.closed, "asked without need");
                }
                Output::Renew(_, _, token) => {
                    assert!(one.token == Some(token) && !one.closed, "renewed no lease");
                }
                Output::Release(..) => assert!(one.closed, "released while needed"),
                Output::Over => one.over = true,
                Output::Confirmed => {}
            }
        }
        let reported = one.token.is_none() || one.closed || one.is_held(now);
        assert!(reported, "the lease has ended, and its caller was not told");
        let wakes = one.machine.wake_at() <= one.machine.valid_until();
        assert!(
            !one.is_held(now) || wakes,
            "no tick at the end of the lease"
        );
        self.tally.add(tally);
        for duty in duties {
            match duty {
                Output::Ask(id, deadline) => self.post(nonce, Request::Ask(id), deadline),
                Output::Renew(id, deadline, token) => {
                    self.post(nonce, Request::Renew(id, token), deadline);
                }
                Output::Release(id, deadline) => self.post(nonce, Request::Release(id), deadline),
                Output::Over => self.check_over(nonce),
                _ => {}
            }
        }
    }

    /// Sends a request to the engine. It has its effect by its deadline, or never.
    fn post(&mut self, nonce: Nonce, request: Request, deadline: Duration) {
        let limit = deadline - self.now;
        if self.one_in(2) {
            // A driver that waits until the deadline reports that it knows no outcome.
            let input = match request {
                Request::Ask(id) => Input::Asked(id, Err(Outcome::Unknown)),
                Request::Renew(id, _) => Input::Renewed(id, Err(Outcome::Unknown)),
                Request::Release(id) => Input::Released(id, Err(Outcome::Unknown)),
            };
            self.at(deadline, Event::Answer(nonce, input));
        }
        if self.one_in(8) {
            self.tally.dropped += 1;
            return;
        }
        let longest = if self.one_in(4) { 1000 } else { 4 };
        let delay = self.millis(longest).min(limit);
        self.at(self.now + delay, Event::Arrival(nonce, request));
    }

    /// The engine. Its clock is faster than that of the callers by half a percent.
    fn serve(&mut self, nonce: Nonce, request: Request) {
        let now = self.now;
        self.lease.take_if(|lease| now >= lease.expires);
        let expires = now + TTL.mul_f64(0.995);
        let own = self.lease.as_mut().filter(|lease| lease.nonce == nonce);
        let input = match (request, own) {
            (Request::Ask(id), Some(lease)) => {
                lease.expires = expires;
                Input::Asked(id, Ok(Attempt::Granted(lease.token)))
            }
            (Request::Ask(id), None) => {
                let answer = match &self.lease {
                    Some(lease) => Attempt::Busy {
                        free_in: Some(lease.expires - now),
                    },
                    None => {
                        self.tokens += 1;
                        let token = FencingToken::new(self.tokens);
                        self.lease = Some(Lease {
                            nonce,
                            token,
                            expires,
                        });
                        Attempt::Granted(token)
                    }
                };
                Input::Asked(id, Ok(answer))
            }
            (Request::Renew(id, token), Some(lease)) if lease.token == token => {
                lease.expires = expires;
                self.tally.renewed += 1;
                Input::Renewed(id, Ok(Renewed::Held))
            }
            (Request::Renew(id, _), _) => Input::Renewed(id, Ok(Renewed::Lost)),
            (Request::Release(id), Some(_)) => {
                self.lease = None;
                Input::Released(id, Ok(Released::Done))
            }
            (Request::Release(id), None) => Input::Released(id, Ok(Released::WasLost)),
        };
        // The answer may be lost, late, or delivered twice.
        for _ in 0..=u64::from(self.one_in(8)) {
            if self.one_in(8) {
                self.tally.dropped += 1;
                continue;
            }
            let longest = if self.one_in(4) { 3000 } else { 4 };
            let delay = self.millis(longest);
            self.at(now + delay, Event::Answer(nonce, input));
        }
    }

    /// A machine that is over has left nothing at the engine, and no request that is still granted.
    fn check_over(&self, nonce: Nonce) {
        let lease = self.lease.as_ref().filter(|lease| self.now < lease.expires);
        let left = lease.is_some_and(|lease| lease.nonce == nonce);
        assert!(!left, "over while the engine has the lease");
        let asks =
            |event: &Event| matches!(event, Event::Arrival(n, Request::Ask(_)) if *n == nonce);
        assert!(
            !self.events.values().any(asks),
            "over while a request can be granted"
        );
    }

    /// Each caller that has a lease is the holder at the engine.
    fn check(&self) {
        let lease = self.lease.as_ref().filter(|lease| self.now < lease.expires);
        for one in &self.all {
            if one.is_held(self.now) && !one.broken {
                let held = lease.map(|lease| (lease.nonce, Some(lease.token)));
                assert_eq!(
                    held,
                    Some((one.nonce, one.token)),
                    "two holders at one time"
                );
            }
        }
    }
}
