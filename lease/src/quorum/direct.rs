//! Exchanges of one caller with several nodes, without their threads.

use std::sync::Arc;
use std::time::Instant;

use super::answers::Answers;
use super::node::{Answer, Borrowed, Job, Node, Packed};
use super::wire::{self, Wire};

/// The connections that a caller has borrowed.
///
/// The caller sends one request to each node, and reads the answers in [`turn`](Self::turn). A
/// connection without missing answers is returned at once, so that other threads can use it.
pub(super) struct Direct<'a> {
    borrowed: Vec<(&'a Node, Wire)>,
}

impl<'a> Direct<'a> {
    /// Sends a request to the nodes at some places of a set, and borrows their connections for the
    /// answers. Nodes that are set aside fail it at once.
    ///
    /// Returns `None`, without an effect, if another thread uses one of the connections.
    pub(super) fn send(
        nodes: &'a [Arc<Node>],
        set: &[usize],
        places: &[usize],
        request: &Arc<Packed>,
        deadline: Instant,
        answers: &Arc<Answers>,
    ) -> Option<Self> {
        let mut direct = Direct {
            borrowed: Vec::with_capacity(places.len()),
        };
        let mut found = Vec::with_capacity(places.len());
        let mut refused = Vec::new();
        for &place in places {
            let node = &*nodes[set[place]];
            match node.borrow() {
                Borrowed::Wire(wire) => {
                    direct.borrowed.push((node, wire));
                    found.push(place);
                }
                Borrowed::Refused(refusal) => refused.push((node, place, refusal)),
                // The connections are returned.
                Borrowed::Busy => return None,
            }
        }
        let job = |place| Job::new(Arc::clone(request), deadline, Arc::clone(answers), place);
        for (node, place, refusal) in refused {
            node.note(&job(place), true);
            answers.deliver(place, Answer::NotDone(refusal));
        }
        let mut has_failed = false;
        let lent = std::mem::take(&mut direct.borrowed);
        for ((node, mut wire), place) in lent.into_iter().zip(found) {
            let job = job(place);
            node.note(&job, false);
            match wire.send(job) {
                Ok(()) => direct.borrowed.push((node, wire)),
                Err(_) => {
                    node.resend(wire);
                    has_failed = true;
                }
            }
        }
        if has_failed {
            direct.leave_to_threads();
        }
        Some(direct)
    }

    /// Returns whether answers are missing that no other thread reads.
    pub(super) fn is_pending(&self) -> bool {
        !self.borrowed.is_empty()
    }

    /// Waits until an answer arrives, or until `limit`, and delivers the answers.
    pub(super) fn turn(&mut self, limit: Instant) {
        let limits = self.borrowed.iter().filter_map(|(_, wire)| wire.limit());
        let limit = limits.fold(limit, Instant::min);
        let ready = wire::wait(self.borrowed.iter().map(|(_, wire)| wire), limit);
        let mut has_failed = false;
        let lent = std::mem::take(&mut self.borrowed);
        for ((node, mut wire), is_ready) in lent.into_iter().zip(ready) {
            if is_ready {
                let advanced = wire.advance(|job, replies| node.answer(&job, replies));
                if advanced.is_err() {
                    node.resend(wire);
                    has_failed = true;
                    continue;
                }
            }
            if wire.is_idle() {
                node.give_back(wire, false);
            } else if wire.limit().is_some_and(|limit| limit <= Instant::now()) {
                node.hang(wire);
            } else {
                self.borrowed.push((node, wire));
            }
        }
        if has_failed {
            self.leave_to_threads();
        }
    }

    /// Lets the threads of the nodes read the missing answers, because one of them connects again.
    /// The caller then waits for the threads only.
    fn leave_to_threads(&mut self) {
        for (node, wire) in self.borrowed.drain(..) {
            node.give_back(wire, true);
        }
    }
}

impl Drop for Direct<'_> {
    fn drop(&mut self) {
        for (node, wire) in self.borrowed.drain(..) {
            node.give_back(wire, false);
        }
    }
}
