//! Calls of the engine: a request to all servers of a name, and the decision about their answers.

use std::time::Duration;

use latchwork_lease::engine::{Attempt, Released, Renewed};
use latchwork_lease::sim::{FencingToken, Id, Input};

use super::{BACK_OFF, ClientId, Message, NODES_OF_A_NAME, What, World, global, nonce_of};
use crate::links::{Region, Time, one_way, seconds};
use crate::server::{Answer, Nonce, Request};
use crate::setup::Engine;

/// A call of the engine: requests to the servers of a name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operation {
    pub(super) number: u32,
    pub(super) kind: Kind,
    pub(super) deadline: Time,
    pub(super) answers: [State; NODES_OF_A_NAME],
    /// The token, once a majority has granted.
    pub(super) token: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Ask(Id),
    Renew(Id),
    Release(Id),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Sent,
    Granted(u64),
    Busy(Option<Time>),
    Done,
    Refused,
}

impl World {
    /// Sends a request to all servers of the name.
    pub(super) fn call(
        &mut self,
        client: ClientId,
        kind: Kind,
        deadline: Duration,
        request: Request,
    ) {
        let now = self.now;
        let state = self.client(client);
        let deadline = global(deadline, state.clock_rate);
        state.next_operation += 1;
        let number = state.next_operation;
        // The engine's call has ended at its deadline.
        state.operations.retain(|other| other.deadline > now);
        state.operations.push(Operation {
            number,
            kind,
            deadline,
            answers: [State::Sent; NODES_OF_A_NAME],
            token: 0,
        });
        let name = state.name;
        for place in 0..self.places[name as usize].len() {
            self.send(client, number, place, request);
        }
    }

    fn send(&mut self, client: ClientId, operation: u32, place: usize, request: Request) {
        let state = &self.clients[client as usize];
        let server = self.places[state.name as usize][place];
        let message = Message {
            server,
            place: place as u8,
            client,
            operation,
            nonce: nonce_of(client, state.acquisition),
            name: state.name,
            request,
        };
        self.count_message(request);
        let region = self.servers[usize::from(server)].region();
        if let Some(delay) = self.delay(client, region) {
            self.after(delay, What::Arrive(message));
        }
    }

    fn count_message(&mut self, request: Request) {
        if self.measures() {
            self.outcome.messages += 1;
            self.outcome.renewals += u64::from(matches!(request, Request::Renew { .. }));
        }
    }

    /// The time of a message between a client and a region, or `None` if they are cut.
    fn delay(&self, client: ClientId, region: Region) -> Option<Time> {
        let state = &self.clients[client as usize];
        let connected = !state.is_cut && self.cuts.connect(state.region, region);
        connected.then(|| one_way(state.region, region) + state.distance)
    }

    pub(super) fn serve(&mut self, message: Message, epoch: u32) {
        let (now, ttl) = (self.now, seconds(self.setup.ttl));
        let server = &mut self.servers[usize::from(message.server)];
        if server.epoch != epoch || !server.is_available(now) {
            return;
        }
        let mut notified = std::mem::take(&mut self.notified);
        let Message {
            name,
            nonce,
            request,
            client,
            ..
        } = message;
        let answer = server.serve(now, name, nonce, ttl, request, &mut notified);
        let (region, committed) = (server.region(), server.commit_time(&self.cuts));
        let internal = server.internal_messages();
        if self.measures() {
            self.outcome.messages += internal;
        }
        self.count_message(request);
        if let Some(delay) = self.delay(client, region) {
            let reply = What::Reply(client, message.operation, message.place, answer);
            self.after(committed + delay, reply);
        }
        for nonce in notified.drain(..) {
            self.notify(nonce, region, committed);
        }
        self.notified = notified;
    }

    /// Notifies a waiter that the name may be free.
    fn notify(&mut self, nonce: Nonce, region: Region, committed: Time) {
        let client = (nonce >> 32) as ClientId;
        self.outcome.messages += u64::from(self.measures());
        if let Some(delay) = self.delay(client, region) {
            let back_off = match self.setup.engine {
                Engine::Quorum => seconds(self.rng.f64() * BACK_OFF),
                _ => 0,
            };
            self.after(committed + delay + back_off, What::Hint(client, nonce));
        }
    }

    pub(super) fn reply(&mut self, client: ClientId, operation: u32, place: u8, answer: Answer) {
        let now = self.now;
        let state = &mut self.clients[client as usize];
        let servers = self.places[state.name as usize].len();
        let Some(at) = state
            .operations
            .iter()
            .position(|other| other.number == operation && other.deadline > now)
        else {
            return;
        };
        let operation = &mut state.operations[at];
        let place = usize::from(place);
        operation.answers[place] = match answer {
            Answer::Granted(value) => State::Granted(value),
            Answer::Busy(free_in) => State::Busy(free_in),
            Answer::Done => State::Done,
            Answer::Refused => State::Refused,
        };
        let operation = *operation;
        let majority = servers / 2 + 1;
        let answers = &operation.answers[..servers];
        let count = |is: &dyn Fn(&State) -> bool| answers.iter().filter(|state| is(state)).count();
        let done = count(&|state| *state == State::Done);
        let refused = count(&|state| *state == State::Refused);
        let input = match operation.kind {
            Kind::Ask(id) => {
                let result = self.decide(client, &operation, at, majority);
                result.map(|attempt| Input::Asked(id, Ok(attempt)))
            }
            Kind::Renew(id) if done >= majority => Some(Input::Renewed(id, Ok(Renewed::Held))),
            Kind::Renew(id) if refused > servers - majority => {
                Some(Input::Renewed(id, Ok(Renewed::Lost)))
            }
            Kind::Release(id) if done + refused >= majority => {
                let released = match done {
                    0 => Released::WasLost,
                    _ => Released::Done,
                };
                Some(Input::Released(id, Ok(released)))
            }
            _ => None,
        };
        if let Some(input) = input {
            let state = self.client(client);
            state
                .operations
                .retain(|other| other.number != operation.number);
            self.deliver(client, input);
        }
    }

    /// Decides about an ask: T is the greatest value that a majority granted, and a majority must
    /// have it.
    fn decide(
        &mut self,
        client: ClientId,
        operation: &Operation,
        at: usize,
        majority: usize,
    ) -> Option<Attempt> {
        let name = self.client(client).name;
        let servers = self.places[name as usize].len();
        let answers = &operation.answers[..servers];
        let granted = |state: &&State| matches!(state, State::Granted(_) | State::Done);
        let (mut busy, mut unknown) = (Vec::new(), 0);
        for state in answers {
            match state {
                State::Busy(free_in) => busy.push(*free_in),
                State::Refused => busy.push(None),
                State::Sent => unknown += 1,
                State::Granted(_) | State::Done => {}
            }
        }
        let got = answers.iter().filter(granted).count();
        if got + unknown < majority {
            // The nodes that granted release the name.
            if got > 0 {
                for place in 0..servers {
                    self.send(client, 0, place, Request::Release);
                }
            }
            // Of the nodes that are busy, so many must become free.
            busy.sort_unstable_by_key(|free_in| free_in.unwrap_or(Time::MAX));
            let free_in = busy.get(majority - got - 1).copied().flatten();
            let free_in = free_in.map(Duration::from_nanos);
            return Some(Attempt::Busy { free_in });
        }
        if got < majority {
            return None;
        }
        let token = match operation.token {
            0 => {
                let values = answers.iter().filter_map(|state| match state {
                    State::Granted(value) => Some(*value),
                    _ => None,
                });
                values.max().unwrap_or(0)
            }
            token => token,
        };
        let have = |state: &&State| **state == State::Done || **state == State::Granted(token);
        if answers.iter().filter(have).count() >= majority {
            return Some(Attempt::Granted(FencingToken::new(token)));
        }
        if operation.token == 0 {
            self.client(client).operations[at].token = token;
            for (place, state) in operation.answers[..servers].iter().enumerate() {
                match *state {
                    State::Granted(value) if value < token => {
                        let raise = Request::Raise { value, token };
                        self.send(client, operation.number, place, raise);
                    }
                    _ => {}
                }
            }
        }
        None
    }
}
