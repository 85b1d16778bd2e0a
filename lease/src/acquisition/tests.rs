//! The state machine in a simulated world: requests and answers are delayed, lost and duplicated,
//! processes stop and continue, and leases are broken.

use std::cell::Cell;
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

thread_local! {
    /// The fault that is planted on this thread.
    pub(super) static PLANT: Cell<Option<Plant>> = const { Cell::new(None) };
}

const TTL: Duration = Duration::from_millis(1000);
const TIMEOUT: Duration = Duration::from_millis(300);
const CLIENTS: usize = 3;

/// The time after which clients start nothing new.
const END: Timestamp = Timestamp::from_nanos(20_000_000_000);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn at(n: u64) -> Timestamp {
    Timestamp::default().plus(ms(n))
}

fn terms() -> Terms {
    Terms {
        ttl: TTL,
        drift: ms(12),
        renew_after: ms(333),
        renew_ahead: ms(50),
        request_timeout: TIMEOUT,
        once: false,
        queues: false,
        give_up_at: None,
    }
}

/// Random choices that depend on a seed alone.
struct Choices(u64);

impl Choices {
    fn below(&mut self, n: u64) -> u64 {
        // The generator xorshift64*.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

#[derive(Clone, Copy, Debug)]
enum Request {
    Ask(RequestId),
    Renew(RequestId, FencingToken),
    Release(RequestId),
}

#[derive(Clone, Copy, Debug)]
enum Message {
    /// A request arrives at the engine.
    Request(u64, Request),
    /// An event arrives at the client of the nonce.
    Answer(u64, Event),
    /// The client decides what to do next.
    Act(usize),
    /// An administrator ends the present lease.
    Break,
}

struct Lease {
    nonce: u64,
    token: FencingToken,
    expires: Timestamp,
}

struct Client {
    nonce: u64,
    machine: Acquisition,
    token: Option<FencingToken>,
    lost: bool,
    ended: bool,
    broken: bool,
    /// The process is stopped until then.
    stopped_until: Timestamp,
}

struct World {
    now: Timestamp,
    choices: Choices,
    clients: Vec<Client>,
    /// Machines that clean up, whose callers have left.
    leftovers: Vec<Client>,
    lease: Option<Lease>,
    counter: u64,
    nonces: u64,
    queue: BTreeMap<(Timestamp, u64), Message>,
    numbers: u64,
    faults: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut choices = Choices(seed | 1);
        let faults = [2, 4, 10, 1000][choices.below(4) as usize];
        let mut world = World {
            now: at(1000),
            choices,
            clients: Vec::new(),
            leftovers: Vec::new(),
            lease: None,
            counter: 0,
            nonces: 0,
            queue: BTreeMap::new(),
            numbers: 0,
            faults,
        };
        for client in 0..CLIENTS {
            let fresh = world.client();
            world.clients.push(fresh);
            world.send(world.now, Message::Act(client));
        }
        world.send(at(5000), Message::Break);
        world
    }

    fn client(&mut self) -> Client {
        self.nonces += 1;
        let mut terms = terms();
        terms.once = self.choices.one_in(3);
        if self.choices.one_in(2) {
            let limit = ms(self.choices.below(3000));
            terms.give_up_at = Some(self.now.plus(limit));
        }
        Client {
            nonce: self.nonces,
            machine: Acquisition::new(terms),
            token: None,
            lost: false,
            ended: false,
            broken: false,
            stopped_until: Timestamp::default(),
        }
    }

    fn send(&mut self, when: Timestamp, message: Message) {
        self.numbers += 1;
        self.queue.insert((when, self.numbers), message);
    }

    fn find(&mut self, nonce: u64) -> Option<&mut Client> {
        let mut all = self.clients.iter_mut().chain(&mut self.leftovers);
        all.find(|client| client.nonce == nonce)
    }

    /// Runs until nothing is left, and returns the rule that was violated.
    fn run(&mut self) -> Result<(), String> {
        for _ in 0..20_000 {
            let message = self.queue.first_key_value().map(|((when, _), _)| *when);
            let ticks = self.clients.iter().chain(&self.leftovers);
            let tick = ticks
                .map(|client| {
                    (
                        client.machine.wake_at().max(client.stopped_until),
                        client.nonce,
                    )
                })
                .filter(|(when, _)| *when < Timestamp::MAX)
                .min();
            match (message, tick) {
                (None, None) => return self.finish(),
                (Some(when), tick) if tick.is_none_or(|(other, _)| when <= other) => {
                    self.now = self.now.max(when);
                    let (_, message) = self.queue.pop_first().expect("it was seen");
                    self.deliver(message)?;
                }
                (_, Some((when, nonce))) => {
                    self.now = self.now.max(when);
                    self.feed(
                        nonce,
                        Event::Tick {
                            ahead: Duration::ZERO,
                        },
                    )?;
                }
                _ => unreachable!("one of them is next"),
            }
            self.check()?;
        }
        Err("the world does not come to rest".to_owned())
    }

    fn finish(&mut self) -> Result<(), String> {
        let all = self.clients.iter().chain(&self.leftovers);
        match all.into_iter().find(|client| !client.machine.is_over()) {
            Some(client) => Err(format!("not over at the end: {:?}", client.machine)),
            None => Ok(()),
        }
    }

    fn deliver(&mut self, message: Message) -> Result<(), String> {
        match message {
            Message::Request(nonce, request) => self.serve(nonce, request),
            Message::Answer(nonce, event) => {
                let until = self.find(nonce).map(|client| client.stopped_until);
                if let Some(until) = until.filter(|until| *until > self.now) {
                    self.send(until, message);
                    return Ok(());
                }
                self.feed(nonce, event)?;
            }
            Message::Act(client) => self.act(client)?,
            Message::Break => {
                if let Some(lease) = self.lease.take() {
                    if let Some(client) = self.find(lease.nonce) {
                        client.broken = true;
                    }
                }
            }
        }
        Ok(())
    }

    fn act(&mut self, at: usize) -> Result<(), String> {
        let is_last = self.now >= END;
        if !is_last {
            let pause = ms(self.choices.below(1500));
            self.send(self.now.plus(pause), Message::Act(at));
        }
        if self.clients[at].stopped_until > self.now {
            if is_last {
                let until = self.clients[at].stopped_until;
                self.send(until, Message::Act(at));
            }
            return Ok(());
        }
        let nonce = self.clients[at].nonce;
        let has_ended = self.clients[at].ended || self.clients[at].lost;
        if has_ended && !is_last {
            // A new acquisition, beside the remains of the last one.
            let fresh = self.client();
            let old = std::mem::replace(&mut self.clients[at], fresh);
            self.leftovers.push(old);
            let nonce = self.clients[at].nonce;
            return self.feed(nonce, Event::Hint);
        }
        if is_last || self.choices.one_in(3) {
            return self.feed(nonce, Event::Abandon(LossReason::Released));
        }
        if self.clients[at].machine.requests == 0 || self.choices.one_in(2) {
            return self.feed(nonce, Event::Hint);
        }
        if self.choices.one_in(self.faults) {
            let stop = ms(self.choices.below(3000));
            self.clients[at].stopped_until = self.now.plus(stop);
        }
        Ok(())
    }

    /// Delivers an event, and checks the actions.
    fn feed(&mut self, nonce: u64, event: Event) -> Result<(), String> {
        let now = self.now;
        let Some(client) = self.find(nonce) else {
            return Ok(());
        };
        let mut actions = Vec::new();
        client.machine.on(now, event, &mut actions);
        let is_loss = matches!(event, Event::Renewed(_, Ok(Renewed::Lost)));
        if is_loss && client.machine.is_held(now) {
            return Err("[LE4] held after the engine reported the loss".to_owned());
        }
        for action in &actions {
            match *action {
                Action::Granted(token) => {
                    if client.token.is_some() || client.ended {
                        return Err("[LE2] granted twice or after the end".to_owned());
                    }
                    client.token = Some(token);
                }
                Action::Ended(_) => {
                    if client.token.is_some() || client.ended {
                        return Err("[LE2] ended twice, or while held".to_owned());
                    }
                    client.ended = true;
                }
                Action::Lost(_) => {
                    if client.lost || client.token.is_none() {
                        return Err("[LE4] lost twice, or before it was granted".to_owned());
                    }
                    client.lost = true;
                }
                Action::Renew(..) if client.lost || client.token.is_none() => {
                    return Err("[LE4] renewed without a lease".to_owned());
                }
                Action::Ask(..) if client.ended || client.token.is_some() => {
                    return Err("[LE2] asked without a caller".to_owned());
                }
                _ => {}
            }
        }
        if client.machine.is_held(now) {
            let is_told = client.machine.wake_at() <= client.machine.valid_until();
            if client.lost || !is_told {
                return Err("[LE4] held after the loss, or no tick at the end".to_owned());
            }
        }
        if client.token.is_some() && !client.machine.is_held(now) && !client.lost {
            return Err("[LE4] not held, and not notified".to_owned());
        }
        for action in actions {
            match action {
                Action::Ask(id, deadline) => self.post(nonce, Request::Ask(id), deadline),
                Action::Renew(id, deadline, token) => {
                    self.post(nonce, Request::Renew(id, token), deadline);
                }
                Action::Release(id, deadline) => self.post(nonce, Request::Release(id), deadline),
                Action::Over => self.check_over(nonce)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Sends a request through the network, which may lose or delay it, and fails at its deadline.
    fn post(&mut self, nonce: u64, request: Request, deadline: Timestamp) {
        let limit = deadline.since(self.now).as_millis() as u64;
        if self.choices.one_in(2) {
            // A driver that waits no longer reports that the outcome is not known.
            let failure = Err(Failure {
                outcome: Outcome::Unknown,
                is_temporary: true,
            });
            let event = match request {
                Request::Ask(id) => Event::Asked(id, failure),
                Request::Renew(id, _) => {
                    Event::Renewed(id, failure.map(|_: Attempt| Renewed::Lost))
                }
                Request::Release(id) => {
                    Event::Released(id, failure.map(|_: Attempt| Released::Done))
                }
            };
            self.send(deadline, Message::Answer(nonce, event));
        }
        if self.choices.one_in(self.faults * 2) {
            return;
        }
        let longest = if self.choices.one_in(self.faults) {
            limit + 1
        } else {
            4
        };
        let delay = ms(self.choices.below(longest).min(limit));
        self.send(self.now.plus(delay), Message::Request(nonce, request));
    }

    /// The engine, whose clock is faster than that of the clients by half a percent.
    fn serve(&mut self, nonce: u64, request: Request) {
        let now = self.now;
        self.lease.take_if(|lease| now >= lease.expires);
        let expires = now.plus(TTL.mul_f64(0.995));
        let is_holder = self
            .lease
            .as_ref()
            .is_some_and(|lease| lease.nonce == nonce);
        let event = match request {
            Request::Ask(id) => {
                let answer = match &mut self.lease {
                    Some(lease) if lease.nonce != nonce => Attempt::Busy {
                        free_in: Some(lease.expires.since(now)),
                    },
                    Some(lease) => {
                        lease.expires = expires;
                        Attempt::Granted(lease.token)
                    }
                    None => {
                        self.counter += 1;
                        let token = FencingToken::new(self.counter);
                        self.lease = Some(Lease {
                            nonce,
                            token,
                            expires,
                        });
                        Attempt::Granted(token)
                    }
                };
                Event::Asked(id, Ok(answer))
            }
            Request::Renew(id, token) => {
                let answer = match &mut self.lease {
                    Some(lease) if is_holder && lease.token == token => {
                        lease.expires = expires;
                        Renewed::Held
                    }
                    _ => Renewed::Lost,
                };
                Event::Renewed(id, Ok(answer))
            }
            Request::Release(id) => {
                if is_holder {
                    self.lease = None;
                }
                let answer = if is_holder {
                    Released::Done
                } else {
                    Released::WasLost
                };
                Event::Released(id, Ok(answer))
            }
        };
        // The answer may be lost, late, or delivered twice.
        for _ in 0..1 + u32::from(self.choices.one_in(self.faults)) {
            if !self.choices.one_in(self.faults * 2) {
                let longest = if self.choices.one_in(self.faults) {
                    3000
                } else {
                    4
                };
                let delay = ms(self.choices.below(longest));
                self.send(now.plus(delay), Message::Answer(nonce, event));
            }
        }
    }

    fn check_over(&self, nonce: u64) -> Result<(), String> {
        let now = self.now;
        let lease = self.lease.as_ref().filter(|lease| now < lease.expires);
        if lease.is_some_and(|lease| lease.nonce == nonce) {
            return Err("[LE5] over while the engine has the lease".to_owned());
        }
        let pending = self
            .queue
            .values()
            .any(|message| matches!(message, Message::Request(n, Request::Ask(..)) if *n == nonce));
        match pending {
            true => Err("[LE5] over while a request can still be granted".to_owned()),
            false => Ok(()),
        }
    }

    /// Checks that each client that has a lease is the holder at the engine.
    fn check(&self) -> Result<(), String> {
        let now = self.now;
        let lease = self.lease.as_ref().filter(|lease| now < lease.expires);
        for client in self.clients.iter().chain(&self.leftovers) {
            if client.machine.is_held(now) && !client.broken {
                let held = lease.map(|lease| (lease.nonce, Some(lease.token)));
                if held != Some((client.nonce, client.token)) {
                    return Err("[LE1] held, and the engine has another holder".to_owned());
                }
            }
        }
        Ok(())
    }
}

fn simulate(seed: u64) -> Result<(), String> {
    World::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)).run()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_fault_of_the_network_or_the_process_breaks_a_rule(seed in any::<u64>()) {
        prop_assert_eq!(simulate(seed), Ok(()));
    }
}

#[test]
fn each_planted_fault_is_detected() {
    let plants = [
        Plant::StartsAtAnswer,
        Plant::ExtendsFromAnswer,
        Plant::UnknownIsNotDone,
        Plant::OneReleaseIsEnough,
        Plant::RenewalResurrects,
        Plant::LossIsIgnored,
        Plant::NoDrift,
        Plant::OverTooEarly,
        Plant::AnswerIsAwaited,
    ];
    for plant in plants {
        PLANT.set(Some(plant));
        let found = (0..5000).find_map(|seed| simulate(seed).err());
        PLANT.set(None);
        assert!(found.is_some(), "{plant:?} is not detected");
        println!("{plant:?}: {}", found.unwrap_or_default());
    }
}

/// Delivers an event, and returns the actions.
fn on(machine: &mut Acquisition, now: Timestamp, event: Event) -> Vec<Action> {
    let mut actions = Vec::new();
    machine.on(now, event, &mut actions);
    actions
}

fn granted(machine: &mut Acquisition, now: Timestamp) -> FencingToken {
    let actions = on(machine, now, Event::Hint);
    let [Action::Ask(id, _)] = actions[..] else {
        panic!("{actions:?}");
    };
    let token = FencingToken::new(7);
    let actions = on(machine, now, Event::Asked(id, Ok(Attempt::Granted(token))));
    assert_eq!(actions, [Action::Granted(token)]);
    token
}

#[test]
fn a_renewal_is_made_at_a_third_and_repeated_if_it_fails() {
    let mut machine = Acquisition::new(terms());
    let token = granted(&mut machine, at(0));
    assert_eq!(machine.wake_at(), at(333));
    let tick = Event::Tick {
        ahead: Duration::ZERO,
    };
    assert_eq!(on(&mut machine, at(332), tick), []);
    let actions = on(&mut machine, at(333), tick);
    let [Action::Renew(first, deadline, of)] = actions[..] else {
        panic!("{actions:?}");
    };
    // A request that hangs leaves time for another one.
    assert_eq!((deadline, of), (at(633), token));
    let actions = on(&mut machine, deadline, tick);
    let [Action::Renew(second, ..)] = actions[..] else {
        panic!("{actions:?}");
    };
    assert_eq!(
        on(
            &mut machine,
            at(700),
            Event::Renewed(second, Ok(Renewed::Held))
        ),
        []
    );
    assert_eq!(machine.valid_until(), at(633 + 988));
    // A late answer to the first request does not shorten the lease.
    assert_eq!(
        on(
            &mut machine,
            at(800),
            Event::Renewed(first, Ok(Renewed::Held))
        ),
        []
    );
    assert_eq!(machine.valid_until(), at(633 + 988));
}

#[test]
fn renewals_that_are_due_soon_join_a_batch() {
    let mut machine = Acquisition::new(terms());
    granted(&mut machine, at(0));
    let ahead = Event::Tick { ahead: ms(250) };
    assert_eq!(on(&mut machine, at(282), ahead), []);
    assert_eq!(on(&mut machine, at(283), ahead).len(), 1);
}

#[test]
fn an_engine_that_fails_is_asked_again_for_the_time_of_a_request() {
    let failure = Err(Failure {
        outcome: Outcome::NotDone,
        is_temporary: true,
    });
    let mut machine = Acquisition::new(terms());
    let mut actions = on(&mut machine, at(0), Event::Hint);
    let mut requests = 0;
    while let [Action::Ask(id, _)] = actions[..] {
        requests += 1;
        let now = machine.waits_until().unwrap_or(at(0));
        actions = on(
            &mut machine,
            now.max(at(requests)),
            Event::Asked(id, failure),
        );
        if actions.is_empty() {
            let until = machine.waits_until().expect("it waits");
            actions = on(
                &mut machine,
                until,
                Event::Tick {
                    ahead: Duration::ZERO,
                },
            );
            if until >= at(300) {
                let [Action::Ask(id, _)] = actions[..] else {
                    panic!("{actions:?}");
                };
                actions = on(&mut machine, until, Event::Asked(id, failure));
            }
        }
    }
    assert!(requests > 1);
    assert_eq!(
        actions,
        [
            Action::Ended(End::Unavailable(Outcome::NotDone)),
            Action::Over
        ]
    );
}

#[test]
fn one_request_is_made_although_the_time_limit_of_the_caller_has_passed() {
    let mut terms = terms();
    terms.give_up_at = Some(at(5));
    let mut machine = Acquisition::new(terms);
    let (ask, _) = request(&mut machine, at(10), Event::Hint);
    let busy = Ok(Attempt::Busy { free_in: None });
    let actions = on(&mut machine, at(20), Event::Asked(ask, busy));
    assert_eq!(actions, [Action::Ended(End::GaveUp), Action::Over]);
}

#[test]
fn an_answer_at_the_end_of_the_lease_is_too_late() {
    for (arrival, is_granted) in [(987, true), (988, false)] {
        let mut terms = terms();
        terms.request_timeout = TTL * 2;
        let mut machine = Acquisition::new(terms);
        let (ask, _) = request(&mut machine, at(0), Event::Hint);
        let answer = Event::Asked(ask, Ok(Attempt::Granted(FencingToken::new(7))));
        let actions = on(&mut machine, at(arrival), answer);
        let granted = actions.contains(&Action::Granted(FencingToken::new(7)));
        assert_eq!(granted, is_granted, "{arrival} ms");
    }
}

#[test]
fn a_late_answer_to_an_earlier_request_extends_a_lease_of_its_token_only() {
    let unknown = Failure {
        outcome: Outcome::Unknown,
        is_temporary: true,
    };
    for (token, until) in [(7, 1088), (8, 988)] {
        let mut machine = Acquisition::new(terms());
        // The second of two requests is unknown, and the first one is granted late.
        let (first, _) = request(&mut machine, at(0), Event::Hint);
        let failed = Event::Asked(first, Err(unknown));
        assert_eq!(on(&mut machine, at(10), failed), []);
        let (second, _) = request(&mut machine, at(100), TICK);
        let failed = Event::Asked(second, Err(unknown));
        assert_eq!(on(&mut machine, at(110), failed), []);
        let granted = |id, token| Event::Asked(id, Ok(Attempt::Granted(FencingToken::new(token))));
        assert_eq!(on(&mut machine, at(120), granted(first, 7)).len(), 1);
        assert_eq!(machine.valid_until(), at(988));
        assert_eq!(on(&mut machine, at(130), granted(second, token)), []);
        assert_eq!(machine.valid_until(), at(until));
    }
}

#[test]
fn the_pause_after_a_failure_grows() {
    let failure = Err(Failure {
        outcome: Outcome::NotDone,
        is_temporary: true,
    });
    let mut terms = terms();
    terms.request_timeout = ms(5000);
    let (mut machine, mut now) = (Acquisition::new(terms), 0);
    let mut event = Event::Hint;
    for pause in [50, 100, 150, 200, 250, 300, 350, 400, 450, 500, 500] {
        let (ask, _) = request(&mut machine, at(now), event);
        assert_eq!(on(&mut machine, at(now), Event::Asked(ask, failure)), []);
        assert_eq!(machine.waits_until(), Some(at(now + pause)));
        (now, event) = (now + pause, TICK);
    }
}

#[test]
fn the_outcome_is_unknown_as_long_as_one_request_is() {
    let failure = |outcome| Failure {
        outcome,
        is_temporary: true,
    };
    for (first, second, expected) in [
        (Outcome::NotDone, Outcome::NotDone, Outcome::NotDone),
        (Outcome::Unknown, Outcome::NotDone, Outcome::Unknown),
        (Outcome::NotDone, Outcome::Unknown, Outcome::Unknown),
    ] {
        let mut machine = Acquisition::new(terms());
        let (ask, _) = request(&mut machine, at(0), Event::Hint);
        let answer = Event::Asked(ask, Err(failure(first)));
        assert_eq!(on(&mut machine, at(10), answer), []);
        let (ask, _) = request(&mut machine, at(100), TICK);
        // The time of a request has passed since the first failure.
        let answer = Event::Asked(ask, Err(failure(second)));
        let actions = on(&mut machine, at(300), answer);
        assert_eq!(actions[0], Action::Ended(End::Unavailable(expected)));
        // A request that is unknown is released, and one that was not done needs no release.
        let is_over = actions[1] == Action::Over;
        assert_eq!(is_over, expected == Outcome::NotDone);
    }
}

#[test]
fn a_queue_of_the_engine_is_left() {
    for (queues, last) in [(false, 2), (true, 2)] {
        let mut terms = terms();
        (terms.queues, terms.once) = (queues, true);
        let mut machine = Acquisition::new(terms);
        let actions = on(&mut machine, at(0), Event::Hint);
        let [Action::Ask(id, _)] = actions[..] else {
            panic!("{actions:?}");
        };
        let busy = Ok(Attempt::Busy { free_in: None });
        let actions = on(&mut machine, at(1), Event::Asked(id, busy));
        assert_eq!(actions[0], Action::Ended(End::Refused));
        assert_eq!(actions.len(), last);
        assert_eq!(matches!(actions[1], Action::Release(..)), queues);
        assert_eq!(actions[1] == Action::Over, !queues);
    }
}

/// The properties that drivers read.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    unanswered: usize,
    has_unknown_ask: bool,
    was_granted: bool,
    needs_ticks: bool,
    is_over: bool,
    waits_until: Option<Timestamp>,
    waits_after_failure: bool,
    wake_at: Timestamp,
}

fn seen(machine: &Acquisition) -> Seen {
    Seen {
        unanswered: machine.unanswered(),
        has_unknown_ask: machine.has_unknown_ask(),
        was_granted: machine.was_granted(),
        needs_ticks: machine.needs_ticks(),
        is_over: machine.is_over(),
        waits_until: machine.waits_until(),
        waits_after_failure: machine.waits_after_failure(),
        wake_at: machine.wake_at(),
    }
}

const TICK: Event = Event::Tick {
    ahead: Duration::ZERO,
};

/// Delivers an event that causes one request, and returns the request and its deadline.
fn request(machine: &mut Acquisition, now: Timestamp, event: Event) -> (RequestId, Timestamp) {
    let actions = on(machine, now, event);
    match actions[..] {
        [Action::Ask(id, at) | Action::Release(id, at) | Action::Renew(id, at, _)]
        | [Action::Lost(_), Action::Release(id, at)] => (id, at),
        _ => panic!("{actions:?}"),
    }
}

#[test]
fn drivers_read_the_state_of_a_machine_through_its_whole_life() {
    let unknown = Failure {
        outcome: Outcome::Unknown,
        is_temporary: true,
    };
    let mut machine = Acquisition::new(terms());
    let waiting = |until, is_unknown, is_failed| Seen {
        unanswered: 0,
        has_unknown_ask: is_unknown,
        was_granted: false,
        needs_ticks: false,
        is_over: false,
        waits_until: Some(until),
        waits_after_failure: is_failed,
        wake_at: until,
    };
    assert_eq!(seen(&machine), waiting(at(0), false, false));
    let (first, deadline) = request(&mut machine, at(0), Event::Hint);
    let asked = Seen {
        waits_until: None,
        ..waiting(deadline, true, false)
    };
    assert_eq!((seen(&machine), deadline), (asked, at(300)));
    // A request without an answer may still have an effect, whatever later ones are answered.
    assert_eq!(
        on(&mut machine, at(100), Event::Asked(first, Err(unknown))),
        []
    );
    assert_eq!(seen(&machine), waiting(at(150), true, true));
    // A hint does not end the pause after a failure, and the time does.
    assert_eq!(on(&mut machine, at(120), Event::Hint), []);
    assert_eq!(on(&mut machine, at(149), TICK), []);
    let (second, _) = request(&mut machine, at(150), TICK);
    let busy = Ok(Attempt::Busy { free_in: None });
    assert_eq!(on(&mut machine, at(160), Event::Asked(second, busy)), []);
    assert_eq!(seen(&machine), waiting(at(1160), true, false));

    // Held: renewals are counted until an answer is newer.
    let (third, _) = request(&mut machine, at(200), Event::Hint);
    let token = FencingToken::new(7);
    let granted = Event::Asked(third, Ok(Attempt::Granted(token)));
    assert_eq!(on(&mut machine, at(210), granted), [Action::Granted(token)]);
    let held = |unanswered, wake_at| Seen {
        unanswered,
        has_unknown_ask: true,
        was_granted: true,
        needs_ticks: true,
        is_over: false,
        waits_until: None,
        waits_after_failure: false,
        wake_at,
    };
    assert_eq!(seen(&machine), held(0, at(533)));
    let (_, deadline) = request(&mut machine, at(533), TICK);
    assert_eq!((seen(&machine), deadline), (held(1, at(833)), at(833)));
    let (late, _) = request(&mut machine, at(833), TICK);
    assert_eq!(
        on(&mut machine, at(900), Event::Renewed(late, Err(unknown))),
        []
    );
    assert_eq!(seen(&machine), held(2, at(950)));
    let (last, deadline) = request(&mut machine, at(950), TICK);
    assert_eq!((seen(&machine), deadline), (held(3, at(1069)), at(1069)));
    let renewed = Event::Renewed(last, Ok(Renewed::Held));
    assert_eq!(on(&mut machine, at(960), renewed), []);
    assert_eq!(seen(&machine), held(0, at(1283)));

    // Cleanup: releases are repeated until nothing is unknown.
    let abandon = Event::Abandon(LossReason::Released);
    let (release, deadline) = request(&mut machine, at(1000), abandon);
    assert_eq!((seen(&machine), deadline), (held(0, at(1300)), at(1300)));
    // One release at a time, with a pause after each.
    assert_eq!(on(&mut machine, at(1050), TICK), []);
    let failed = Event::Released(release, Err(unknown));
    assert_eq!(on(&mut machine, at(1100), failed), [Action::Unconfirmed]);
    assert_eq!(seen(&machine), held(0, at(1200)));
    assert_eq!(on(&mut machine, at(1199), TICK), []);
    let (release, _) = request(&mut machine, at(1200), TICK);
    let released = Event::Released(release, Ok(Released::Done));
    let confirmed = [Action::Confirmed(Released::Done)];
    assert_eq!(on(&mut machine, at(1210), released), confirmed);
    assert_eq!(seen(&machine), held(0, at(1410)));
    assert_eq!(
        on(&mut machine, at(1300), Event::Asked(first, busy)),
        [Action::Over]
    );
    let over = Seen {
        has_unknown_ask: false,
        needs_ticks: false,
        is_over: true,
        ..held(0, Timestamp::MAX)
    };
    assert_eq!(seen(&machine), over);
}

#[test]
fn a_wait_ends_at_the_time_limit_of_the_caller() {
    let mut terms = terms();
    terms.give_up_at = Some(at(500));
    let mut machine = Acquisition::new(terms);
    let (ask, _) = request(&mut machine, at(100), Event::Hint);
    let busy = Ok(Attempt::Busy { free_in: None });
    assert_eq!(on(&mut machine, at(110), Event::Asked(ask, busy)), []);
    let limit = Some(at(500));
    assert_eq!((machine.waits_until(), machine.wake_at()), (limit, at(500)));
    assert!(!machine.has_unknown_ask() && !machine.needs_ticks());
    assert_eq!(on(&mut machine, at(499), TICK), []);
    let actions = on(&mut machine, at(500), TICK);
    assert_eq!(actions, [Action::Ended(End::GaveUp), Action::Over]);
    assert!(!machine.was_granted() && machine.is_over());
}

#[test]
fn the_last_renewals_are_accepted_and_the_earlier_ones_forgotten() {
    let mut machine = Acquisition::new(Terms {
        ttl: ms(10_000),
        ..terms()
    });
    granted(&mut machine, at(0));
    let mut renewals = Vec::new();
    let mut now = at(333);
    for _ in 0..RENEWALS_IN_FLIGHT + 1 {
        let (id, deadline) = request(&mut machine, now, TICK);
        renewals.push((id, now));
        now = deadline;
    }
    assert_eq!(machine.unanswered(), RENEWALS_IN_FLIGHT);
    let before = machine.valid_until();
    let answer = |id| Event::Renewed(id, Ok(Renewed::Held));
    assert_eq!(on(&mut machine, now, answer(renewals[0].0)), []);
    assert_eq!(machine.valid_until(), before, "it is forgotten");
    assert_eq!(on(&mut machine, now, answer(renewals[1].0)), []);
    assert_eq!(machine.valid_until(), renewals[1].1.plus(ms(10_000 - 12)));
    // Those that were sent later are still unanswered.
    assert_eq!(machine.unanswered(), RENEWALS_IN_FLIGHT - 1);
}
