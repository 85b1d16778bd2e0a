//! A head whose nodes all have values of one type, and what keeps such a value.
//!
//! | type | keeps the value by |
//! |---|---|
//! | [`ValueRef`] | a pin or a share that lives longer |
//! | [`Pinned`] | a pin of its own |
//! | [`Shared`] | a share of its own |
//!
//! That a node has a value, and of which type, is checked nowhere at run time. It is an invariant
//! of these types, so that cells need no `unsafe`.
#![allow(unsafe_code)]

use core::marker::PhantomData;
use core::ptr::NonNull;

use super::contention::{Lost, Patience};
use super::head::{Head, Word};
use super::node::{Header, Node, NodeRef};
use super::resolve::{Current, Moment, Owned};
use super::{Version, dropped};
use crate::reclaim::{self, CellPin, Local, Retired, Share};

/// A node with a value of `T`.
pub(crate) struct ValueRef<'p, T>(NodeRef<'p>, PhantomData<&'p T>);

// SAFETY: other threads may only read the value. A pin or a share that outlives `'p` keeps it, and
// stays where it is.
unsafe impl<T: Send + Sync> Send for ValueRef<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for ValueRef<'_, T> {}

impl<T> Clone for ValueRef<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for ValueRef<'_, T> {}

impl<'p, T: Send + Sync + 'static> ValueRef<'p, T> {
    /// # Safety
    /// `node` is a `Node<T>`, and has a value.
    #[inline(always)]
    pub(crate) unsafe fn new(node: NodeRef<'p>) -> Self {
        ValueRef(node, PhantomData)
    }

    /// # Safety
    /// As [`NodeRef::new`] and [`new`](Self::new).
    #[inline(always)]
    unsafe fn at_address(node: NonNull<Header>) -> Self {
        // SAFETY: the caller's contract.
        let node = unsafe { NodeRef::new(node) };
        // SAFETY: as above.
        unsafe { Self::new(node) }
    }

    #[inline(always)]
    pub(crate) fn get(self) -> &'p T {
        // SAFETY: by the contract of `new`.
        unsafe { self.0.value() }
    }

    #[inline(always)]
    pub(crate) fn version(self) -> Version {
        self.0.version()
    }

    pub(crate) fn share(self) -> Shared<T> {
        self.0.header().share();
        Shared(self.0.as_ptr(), PhantomData)
    }

    /// Returns the value of the cell at a timestamp, for a model that reclaims nothing.
    #[cfg(latchwork_loom)]
    pub(crate) fn at(self, moment: u64) -> Self {
        let stamp = self.0.stamp().expect("a current node is stamped");
        match self.0.header().prev() {
            Some(prev) if stamp > moment => {
                // SAFETY: nothing is reclaimed. A current node replaces one with a value.
                unsafe { Self::at_address(prev) }.at(moment)
            }
            _ => self,
        }
    }
}

/// A value of a cell that lives at least for `'c`, with a pin that is as old as the read.
pub(crate) struct Pinned<'c, T> {
    node: NonNull<Header>,
    // The node is alive as long as this is [R1].
    pin: CellPin,
    /// It lends a value and never replaces it, so it is covariant, which the cell is not.
    _value: PhantomData<&'c T>,
}

// SAFETY: other threads may only read the value; the pin stays on its thread.
unsafe impl<T: Send + Sync> Sync for Pinned<'_, T> {}

impl<T: Send + Sync + 'static> Pinned<'_, T> {
    /// # Safety
    /// `node` is a `Node<T>` with a value, and was current under `pin`. The cell outlives the
    /// result.
    #[inline(always)]
    pub(crate) unsafe fn new(node: NonNull<Header>, pin: CellPin) -> Self {
        Pinned {
            node,
            pin,
            _value: PhantomData,
        }
    }

    #[inline(always)]
    pub(crate) fn value(&self) -> ValueRef<'_, T> {
        // SAFETY: it was loaded under the pin, which is as old as `self` [R1]; the rest is the
        // contract of `new`.
        unsafe { ValueRef::at_address(self.node) }
    }
}

/// A share in a value, which keeps it without a pin.
pub(crate) struct Shared<T: Send + Sync + 'static>(NonNull<Header>, PhantomData<T>);

// SAFETY: it shares a `T` between threads, and the last owner drops it: as `Arc`.
unsafe impl<T: Send + Sync + 'static> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync + 'static> Sync for Shared<T> {}

impl<T: Send + Sync + 'static> Shared<T> {
    #[inline(always)]
    fn node(&self) -> NodeRef<'_> {
        // SAFETY: alive, by the share [R3].
        unsafe { NodeRef::new(self.0) }
    }

    #[inline(always)]
    pub(crate) fn value(&self) -> ValueRef<'_, T> {
        // SAFETY: a share was made of a node with a value.
        unsafe { ValueRef::new(self.node()) }
    }

    /// Returns the value, or `Err` if there is another share.
    pub(crate) fn into_value(self) -> Result<T, Self> {
        if !self.node().header().is_unshared() {
            return Err(self);
        }
        let node = self.0.cast::<Node<T>>();
        core::mem::forget(self);
        // SAFETY: the caller has the only share, so no other thread can reach the node [R3]. It has
        // a value.
        Ok(reclaim::with(|local| unsafe {
            Node::into_value(node, local)
        }))
    }

    /// Releases the share in a node in the room of an entry of a map.
    #[cold]
    fn release_in_room(&self) {
        // SAFETY: called once, when this value is dropped; as there.
        let share = unsafe { Share::new(self.0.cast(), Node::<T>::OF_ENTRY) };
        reclaim::with(|local| local.release_now(share));
    }
}

impl<T: Send + Sync + 'static> Drop for Shared<T> {
    fn drop(&mut self) {
        if self.node().header().is_in_room() {
            return self.release_in_room();
        }
        // SAFETY: this value owns one share of the node, and releases it here [R3].
        let share = unsafe { Share::new(self.0.cast(), Node::<T>::KIND) };
        reclaim::with(|local| local.release_now(share));
    }
}

/// The head of a cell of `T`.
///
/// It owns a `T`, which decides what may cross threads; and it is invariant in it, since a write
/// replaces the value through a shared reference. A covariant cell would accept a value under one
/// type and return it under another.
pub(crate) struct ValueHead<T: Send + Sync + 'static>(Head, PhantomData<(T, Invariant<T>)>);

/// Neither covariant nor contravariant in `T`.
type Invariant<T> = fn(T) -> T;

/// The value that a write depends on, with the word of the head.
pub(crate) struct Basis<'c, T> {
    seen: Word,
    pub(crate) value: Pinned<'c, T>,
}

/// A completed write, whose pin keeps the value before it and the new one.
#[must_use]
pub(crate) struct Published<'c, T> {
    written: Written,
    pin: CellPin,
    _value: PhantomData<&'c T>,
}

struct Written {
    version: Version,
    is_waited: bool,
    old: NonNull<Header>,
    new: NonNull<Header>,
}

impl<'c, T: Send + Sync + 'static> Published<'c, T> {
    #[inline(always)]
    fn new(written: Written, pin: CellPin) -> Self {
        Published {
            written,
            pin,
            _value: PhantomData,
        }
    }

    /// Returns the version of the new value.
    #[inline(always)]
    pub(crate) fn version(&self) -> Version {
        self.written.version
    }

    /// Whether threads wait for a version before this one.
    #[inline(always)]
    pub(crate) fn is_waited(&self) -> bool {
        self.written.is_waited
    }

    #[inline]
    pub(crate) fn old(&self) -> ValueRef<'_, T> {
        // SAFETY: it was in the cell under the pin, which is still alive [R1], and had a value.
        unsafe { ValueRef::at_address(self.written.old) }
    }

    #[inline(always)]
    pub(crate) fn into_old(self) -> Pinned<'c, T> {
        // SAFETY: as above.
        unsafe { Pinned::new(self.written.old, self.pin) }
    }

    #[inline(always)]
    pub(crate) fn into_new(self) -> Pinned<'c, T> {
        // SAFETY: as above; made with a value.
        unsafe { Pinned::new(self.written.new, self.pin) }
    }
}

impl<T: Send + Sync + 'static> ValueHead<T> {
    pub(crate) fn new(version: Version, value: T) -> Self {
        let node = reclaim::with(|local| local.allocate(Node::first(version, value)));
        ValueHead(Head::new(node.cast()), PhantomData)
    }

    /// Makes the head of an entry of a map, which may be without a value.
    ///
    /// # Safety
    /// `node` is from `allocate` or in the room of the entry, and no other thread can reach it. No
    /// other method of this type but `untyped` is called while there is no value.
    pub(crate) unsafe fn of_node(node: NonNull<Node<T>>) -> Self {
        ValueHead(Head::new(node.cast()), PhantomData)
    }

    /// The same head, for a transaction, whose log has cells of all types.
    #[inline(always)]
    pub(crate) fn untyped(&self) -> &Head {
        &self.0
    }

    /// Returns the current value.
    #[inline(always)]
    pub(crate) fn current<'p>(&'p self, pin: &'p CellPin) -> ValueRef<'p, T> {
        // SAFETY: a settled node of this head, which has a value.
        unsafe { ValueRef::new(self.0.load_in(pin).1.settle()) }
    }

    /// Returns the value that the cell had at a timestamp.
    #[inline]
    pub(crate) fn as_of<'p>(&self, moment: &'p Moment) -> ValueRef<'p, T> {
        // SAFETY: a node of this head that was current, and so has a value.
        unsafe { ValueRef::new(moment.node_of(&self.0)) }
    }

    /// Returns the current value with the pin.
    #[inline(always)]
    pub(crate) fn read(&self, pin: CellPin) -> Pinned<'_, T> {
        self.basis(pin).value
    }

    /// Reads the current value for a write that depends on it.
    #[inline(always)]
    pub(crate) fn basis(&self, pin: CellPin) -> Basis<'_, T> {
        let (seen, node) = self.0.load_in(&pin);
        let node = node.settle().as_ptr();
        // SAFETY: a settled node of this head, found under the pin. It has a value.
        let value = unsafe { Pinned::new(node, pin) };
        Basis { seen, value }
    }

    /// Makes one attempt to replace the value that the caller has read, or returns the new value.
    #[inline(always)]
    pub(crate) fn replace_basis(
        &self,
        local: &Local,
        patience: &Patience,
        basis: Basis<'_, T>,
        value: T,
    ) -> Result<Published<'_, T>, (T, Lost)> {
        let Basis {
            seen,
            value: Pinned { node, pin, .. },
        } = basis;
        let written = self.publish(local, patience, &pin, seen, |base| base == node, value)?;
        Ok(Published::new(written, pin))
    }

    /// Makes one attempt to replace the value, whatever it is, or returns the new value.
    #[inline(always)]
    pub(crate) fn replace(
        &self,
        local: &Local,
        patience: &Patience,
        pin: CellPin,
        value: T,
    ) -> Result<Published<'_, T>, (T, Lost)> {
        let written = self.publish(local, patience, &pin, self.0.load(), |_| true, value)?;
        Ok(Published::new(written, pin))
    }

    /// Installs a node with `value` in place of `seen`, or returns the value. `seen` was loaded
    /// under `pin`. If the value was computed from the current one, the node of the cell must be
    /// the one that the caller has read: a transaction that owned the cell may have committed
    /// since [C2]. By a function, so that a write of any value compares nothing.
    #[inline]
    fn publish(
        &self,
        local: &Local,
        patience: &Patience,
        pin: &CellPin,
        seen: Word,
        is_read: impl Fn(NonNull<Header>) -> bool,
        value: T,
    ) -> Result<Written, (T, Lost)> {
        let (mut seen, mut value) = (seen, value);
        let (seen, base, node) = loop {
            // The previous node gets its stamp first: it could not be determined afterwards [C4].
            let base = match self.0.node_in(pin, seen).current() {
                Current::Settled(node) => node,
                Current::Owned(Owned { owner, .. }) => match patience.meet(owner, local) {
                    Ok(()) => continue,
                    Err(lost) => return Err((value, lost)),
                },
            };
            if !is_read(base.as_ptr()) {
                return Err((value, Lost::Moved));
            }
            let node = local.allocate(Node::after(base, value));
            let Err(newer) = self.0.replace(seen, node.cast()) else {
                break (seen, base.as_ptr(), node);
            };
            // SAFETY: it was not published, so that it is ours; it was made with a value.
            value = unsafe { Node::into_value(node, local) };
            // A waiter may have arrived without a write in between [C3].
            if newer.node() != seen.node() {
                return Err((value, Lost::Moved));
            }
            seen = newer;
        };
        // SAFETY: published by this thread, under the pin [R1].
        let header = unsafe { node.cast::<Header>().as_ref() };
        header.stamp_published();
        let version = header.version();
        // SAFETY: superseded by this compare-and-swap and no other [C2], under this thread's pin;
        // every node of this cell is of this kind.
        local.retire(pin, unsafe { Retired::new(base.cast(), Node::<T>::KIND) });
        if seen.node() != base {
            // The node of a transaction that was aborted, or the claim of one that has ended.
            // SAFETY: unlinked by this compare-and-swap and no other; as above.
            local.retire(pin, unsafe {
                Retired::new(seen.node().cast(), Node::<T>::KIND)
            });
        }
        Ok(Written {
            version,
            is_waited: seen.is_waited(),
            old: base,
            new: node.cast(),
        })
    }

    /// Returns the value for a write in place, if there is no [`Shared`] of it.
    pub(crate) fn value_mut(&mut self) -> Option<&mut T> {
        let node = self.0.load().node();
        // Checked through a shared reference: other threads may be using the node and its count.
        // SAFETY: the current node belongs to the cell, and is alive.
        if !unsafe { node.as_ref() }.is_unshared() {
            return None;
        }
        // SAFETY: there is no other reference, and no other thread reads the cell while it is
        // borrowed exclusively [R3].
        let node = unsafe { node.cast::<Node<T>>().as_mut() };
        // SAFETY: no transaction touches the cell now, so that its node has a value.
        Some(unsafe { node.write_in_place() })
    }

    /// Returns the share of the cell.
    pub(crate) fn into_shared(self) -> Shared<T> {
        let node = self.0.load().node();
        core::mem::forget(self);
        Shared(node, PhantomData)
    }
}

impl<T: Send + Sync + 'static> Drop for ValueHead<T> {
    fn drop(&mut self) {
        let word = self.0.load();
        if word.is_waited() {
            dropped::note(word.node());
        }
        // Releases the share of the cell in its node: no thread can read it through the cell any
        // more.
        drop(Shared::<T>(word.node(), PhantomData));
    }
}
