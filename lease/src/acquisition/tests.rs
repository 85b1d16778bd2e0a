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
