//! The state of a cell, read through the node in its head. The node is of a write, or of a
//! transaction that may be undecided. A [`Moment`] reads the state at an earlier time.
#![allow(unsafe_code)]

use super::clock;
use super::head::Head;
use super::node::NodeRef;
use super::owner::{Owner, Status};
use super::stamp::When;
use crate::reclaim::{self, CellPin};

/// The state of a cell, read through the node in its head.
#[derive(Clone, Copy)]
pub(crate) enum Current<'p> {
    /// The node has the value.
    Settled(NodeRef<'p>),
    /// The node is that of a transaction that is undecided.
    Owned(Owned<'p>),
}

/// A node of a transaction that is undecided.
#[derive(Clone, Copy)]
pub(crate) struct Owned<'p> {
    node: NodeRef<'p>,
    /// The node that has the value until the owner commits.
    pub(crate) base: NodeRef<'p>,
    pub(crate) owner: &'p Owner,
}

impl<'p> Current<'p> {
    /// Returns the node that has the value now, for a caller that will act upon it. A transaction
    /// that is about to replace the node validates its reads again before it commits [X3].
    #[inline(always)]
    pub(crate) fn settle(self) -> NodeRef<'p> {
        match self {
            Current::Settled(node) => node,
            Current::Owned(owned) => owned.settle(),
        }
    }
}

impl<'p> Owned<'p> {
    /// As [`Current::settle`].
    #[cold]
    #[inline(never)]
    pub(crate) fn settle(self) -> NodeRef<'p> {
        if self.owner.doubt().is_decided() {
            return self.node.settle();
        }
        self.base
    }
}

impl<'p> NodeRef<'p> {
    /// The node that has the value now, if this is the one in the head. See [`Current::settle`].
    #[inline(always)]
    pub(crate) fn settle(self) -> NodeRef<'p> {
        if self.stamp().is_some() {
            return self;
        }
        self.settle_slow()
    }

    #[cold]
    #[inline(never)]
    fn settle_slow(self) -> NodeRef<'p> {
        self.current_slow().settle()
    }

    /// Returns the state of the cell, if this is the node in its head: the value that readers may
    /// see, on one side of each snapshot [C4].
    #[inline(always)]
    pub(crate) fn current(self) -> Current<'p> {
        if self.stamp().is_some() {
            return Current::Settled(self);
        }
        self.current_slow()
    }

    #[cold]
    #[inline(never)]
    fn current_slow(self) -> Current<'p> {
        let header = self.header();
        let when = header.when();
        let Some(address) = when.as_owner() else {
            if when == When::UNSET {
                header.stamp_found();
            }
            return Current::Settled(self);
        };
        // SAFETY: an owner is retired after every node of its own has been unlinked or stamped
        // [X1]. So a thread that was pinned before it found the node finds the owner alive.
        let owner = unsafe { &*core::ptr::with_exposed_provenance::<Owner>(address) };
        // The earlier reads of the caller happen before the load of the head, and so before the
        // load of the status. An owner that is found undecided will not miss them [X3].
        match owner.status() {
            Status::Committed(stamp) if !when.is_claim() => {
                header.set_stamp(when, stamp);
                Current::Settled(self)
            }
            Status::Committed(_) | Status::Aborted => Current::Settled(self.under()),
            Status::Undecided(_) | Status::Closing(_) | Status::Prepared(_) => {
                Current::Owned(Owned {
                    node: self,
                    base: self.under(),
                    owner,
                })
            }
        }
    }

    /// Returns the node over which a claim is installed. `None` if this is no claim.
    #[cold]
    pub(crate) fn claimed_upon(self) -> Option<NodeRef<'p>> {
        self.header().when().is_claim().then(|| self.under())
    }

    /// Returns the node over which an owned one is installed.
    fn under(self) -> NodeRef<'p> {
        let prev = self.header().prev();
        // SAFETY: it is retired only once the owned node is committed, or is itself replaced: after
        // any pin under which the owned node was found in the head [X1].
        unsafe { NodeRef::new(prev.expect("an owned node has a previous one")) }
    }
}

/// A timestamp, and a pin from before it, which keeps the value that each cell had then.
pub(crate) struct Moment {
    stamp: u64,
    pin: CellPin,
}

impl Moment {
    /// Pins, and reads the clock.
    #[inline]
    pub(crate) fn now() -> Self {
        // Pinned before the clock is read: a node that is replaced after the timestamp is retired
        // after the pin [X5].
        let pin = reclaim::with(reclaim::Local::pin);
        Moment {
            stamp: clock::read_timestamp(),
            pin,
        }
    }

    pub(crate) fn pin(&self) -> &CellPin {
        &self.pin
    }

    /// Returns the node of a cell that had the value at this time. A cell that was created later
    /// has its first value.
    #[inline]
    pub(crate) fn node_of(&self, head: &Head) -> NodeRef<'_> {
        let node = head.load_in(&self.pin).1;
        match node.stamp() {
            Some(stamp) if stamp <= self.stamp => node,
            _ => self.older(head),
        }
    }

    /// Returns the newest node of an entry of a map with a stamp no later than this time. `None`:
    /// the key was absent before the first node [V7].
    #[inline]
    pub(crate) fn entry_at(&self, head: &Head) -> Option<NodeRef<'_>> {
        let mut node = head.load_in(&self.pin).1;
        if node.stamp().is_none() {
            node = self.newest(head);
        }
        while self.precedes(node) {
            node = self.prev(node)?;
        }
        Some(node)
    }

    /// Returns the newest node with a stamp no later than this time, or the first node.
    #[cold]
    #[inline(never)]
    fn older(&self, head: &Head) -> NodeRef<'_> {
        let mut node = self.newest(head);
        while self.precedes(node) {
            match self.prev(node) {
                Some(prev) => node = prev,
                None => break,
            }
        }
        node
    }

    /// Returns the current node, or its predecessor if a transaction owns it that commits after
    /// this time.
    fn newest(&self, head: &Head) -> NodeRef<'_> {
        match head.load_in(&self.pin).1.current() {
            Current::Settled(node) => node,
            // A later node of the head was installed after the timestamp: one load is enough.
            Current::Owned(owned) if owned.owner.postpone(self.stamp).is_decided() => {
                owned.settle()
            }
            Current::Owned(owned) => owned.base,
        }
    }

    /// Whether a node that was current was installed after this time.
    #[inline(always)]
    fn precedes(&self, node: NodeRef<'_>) -> bool {
        let stamp = node.stamp();
        self.stamp < stamp.expect("a node that was current is stamped")
    }

    /// Returns the node that `node` has replaced, if `node` was installed after this time.
    #[inline(always)]
    fn prev<'p>(&'p self, node: NodeRef<'p>) -> Option<NodeRef<'p>> {
        debug_assert!(self.precedes(node));
        // SAFETY: the node is retired after its successor was stamped, and so after the timestamp
        // and the pin [X5].
        node.header()
            .prev()
            .map(|prev| unsafe { NodeRef::new(prev) })
    }
}

#[cfg(test)]
mod tests {
    use core::ptr::NonNull;

    use super::*;
    use crate::VersionedCell;
    use crate::cell::{Header, Node, Rank};

    fn node<T>(node: &mut Node<T>) -> NodeRef<'_> {
        // SAFETY: borrowed for as long.
        unsafe { NodeRef::new(NonNull::from(node).cast()) }
    }

    /// A node of an owner with this status, and whether the cell has it. If not, the cell has the
    /// previous version.
    #[test]
    fn what_an_owner_has_put_is_what_its_status_says() {
        for (status, is_claim, is_there) in [
            (None, false, None),
            (None, true, None),
            (Some(Status::Aborted), false, Some(false)),
            (Some(Status::Aborted), true, Some(false)),
            (Some(Status::Committed(5)), false, Some(true)),
            // It has no value.
            (Some(Status::Committed(5)), true, Some(false)),
        ] {
            let cell = VersionedCell::new(7_u64);
            let _pin = crate::pin();
            // SAFETY: in the cell, which outlives it.
            let base = unsafe { NodeRef::new(cell.head().load().node()) };
            let owner = Owner::new(Rank::NONE, 0);
            let address = core::ptr::from_ref(&owner).expose_provenance();
            let claim = reclaim::with(|local| Node::<u64>::claim(local, base, &owner));
            let mut write = Node::draft(8_u64);
            // SAFETY: a node begins with its header, and no other thread has this one.
            let header = unsafe { NonNull::from(&mut write).cast::<Header>().as_mut() };
            header.place(When::owner(address), base);
            let own = match is_claim {
                // SAFETY: alive until it is released below.
                true => unsafe { NodeRef::new(claim.cast()) },
                false => node(&mut write),
            };
            if let Some(status) = status {
                assert_eq!(owner.change(owner.status(), status), Ok(()));
            }
            let current = own.current();
            match (current, is_there) {
                (Current::Settled(node), Some(true)) => {
                    assert!(node == own && own.stamp() == Some(5));
                }
                (Current::Settled(node), Some(false)) => {
                    assert!(node == base && own.stamp().is_none());
                }
                (Current::Owned(owned), None) => {
                    assert!(owned.base == base && owned.settle() == base);
                    assert!(core::ptr::eq(owned.owner, &owner));
                }
                _ => panic!("{status:?} {is_claim}"),
            }
            // SAFETY: never published, so that its one share is this test's.
            reclaim::with(|local| unsafe {
                local.release_now(reclaim::Share::new(claim.cast(), Node::<u64>::KIND));
            });
        }
    }
}
