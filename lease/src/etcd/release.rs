//! Releases by nonce, and the removal of requests that have ended.

use std::time::{Duration, Instant};

use crate::clock::Timestamp;
use crate::engine::{Key, Nonce, Outcome, Released};

use super::client::{Cause, Failed};
use super::driver::{ATTEMPTS, Driver};
use super::groups::{Held, Lease};
use super::message::{self, transaction};
use super::{Plant, planted};

/// The time limit for the removal of a request that has ended.
pub(super) const REMOVAL_LIMIT: Duration = Duration::from_secs(1);

impl Driver {
    pub(super) fn release(
        &self,
        key: Key<'_>,
        nonce: Nonce,
        deadline: Instant,
    ) -> Result<Released, Failed> {
        let _turn = self.client.turn(deadline)?;
        let held = self.state().requests.get(&nonce.get()).cloned();
        if let Some(held) = held.filter(|held| held.key.borrow() == key) {
            if let Some(released) = self.withdraw(nonce, &held, deadline)? {
                return Ok(released);
            }
        }
        self.withdraw_foreign(key, nonce, deadline)
    }

    /// Removes the key of a request, and forbids its delayed requests [EC6].
    ///
    /// Returns `None` if no key is attached to the engine lease.
    pub(super) fn withdraw(
        &self,
        nonce: Nonce,
        held: &Held,
        deadline: Instant,
    ) -> Result<Option<Released>, Failed> {
        let key = held.key.borrow();
        let own = self.keys.request(key, nonce);
        let attachment = self.keys.attachment(held.group, nonce);
        let mut success = vec![message::delete(&own), message::delete(&attachment)];
        // A certain request whose key is absent is rare, and is read apart.
        let mut failure = Vec::new();
        if (held.is_unsure || held.asks > 0) && !planted(Plant::DelayedExecuted) {
            // It exists as long as the engine lease, without which a request has no effect.
            let tombstone = message::put(&self.keys.tombstone(nonce), b"", held.group);
            success.push(tombstone.clone());
            failure = vec![message::delete(&attachment), tombstone];
        }
        let compare = [message::has_lease(&own, held.group)];
        let body = transaction(&compare, &success, &failure);
        let (answer, _) = self.change(held.group, &body, deadline);
        let answer = match answer {
            Err(failed) if failed.cause == Cause::LeaseNotFound => {
                // Its keys ended with it.
                self.lose_group(held.group);
                self.state().remove_from(nonce, held.group);
                return Ok(None);
            }
            answer => answer?,
        };
        self.state().remove_from(nonce, held.group);
        Ok(answer.succeeded.then_some(match held.token {
            Some(_) => Released::Done,
            None => Released::WasLost,
        }))
    }

    /// Removes the key of a request that this engine did not make.
    pub(super) fn withdraw_foreign(
        &self,
        key: Key<'_>,
        nonce: Nonce,
        deadline: Instant,
    ) -> Result<Released, Failed> {
        let own = self.keys.request(key, nonce);
        for _ in 0..ATTEMPTS {
            let read = transaction(&[], &[message::get(&own)], &[]);
            let Some(entry) = self.transact(&read, deadline)?.range(0).pop() else {
                return Ok(Released::WasLost);
            };
            let body = transaction(
                &[message::was_modified_at(&own, entry.modified)],
                &[
                    message::first(&self.keys.queue(key)),
                    message::delete(&own),
                    message::delete(&self.keys.attachment(entry.lease, nonce)),
                ],
                &[],
            );
            let answer = self.transact(&body, deadline)?;
            if answer.succeeded {
                let first = answer.range(0).pop();
                let was_held = first.is_some_and(|first| first.key == own);
                return Ok(match was_held {
                    true => Released::Done,
                    false => Released::WasLost,
                });
            }
        }
        Err(self.contended())
    }

    pub(super) fn contended(&self) -> Failed {
        let text = format!("{}: the key changes too often", self.client.cluster());
        Failed {
            outcome: Outcome::Unknown,
            ..Failed::not_done(text)
        }
    }

    /// Removes a request whose end has passed [EC5].
    ///
    /// It may be repeated with its nonce. Then it joins another group, because a removal that is
    /// delayed has an effect on this one only.
    pub(super) fn withdraw_ended(
        &self,
        nonce: Nonce,
        held: &Held,
        deadline: Instant,
    ) -> Result<(), Failed> {
        if !planted(Plant::RemovalForgotten) {
            self.state().close(held.group);
        }
        self.withdraw(nonce, held, deadline).map(|_| ())
    }

    /// Removes the requests whose end has passed [EC5].
    pub(super) fn remove_ended(&self) {
        if planted(Plant::EndIgnored) {
            return;
        }
        let now = Timestamp::now();
        let ended: Vec<_> = {
            let mut state = self.state();
            let groups: Vec<Lease> = state.groups.keys().copied().collect();
            groups
                .into_iter()
                .flat_map(|lease| state.ended(lease, now))
                .collect()
        };
        let deadline = Instant::now() + REMOVAL_LIMIT;
        for (nonce, held) in ended {
            // Without an answer, the group is not extended, and the next turn tries again.
            let _ = self.withdraw_ended(nonce, &held, deadline);
        }
    }
}
