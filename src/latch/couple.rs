//! Traversal from latch to latch: the next latch is acquired before the current one is released.

use core::fmt;

use super::{ExclusiveGuard, LatchVersion, Obsolete, OptimisticLatch, Restart, SharedGuard};
use crate::park::Spin;
use crate::sync::tuning::OPTIMISTIC_ATTEMPTS;

/// How a traversal protects the node that it is at.
///
/// # Examples
/// ```
/// use latchwork::latch::{Coupled, Coupling, OptimisticLatch};
/// let latch = OptimisticLatch::new(7);
/// let traversal = Coupled::begin(&latch, Coupling::Shared).unwrap();
/// assert_eq!(traversal.coupling(), Coupling::Shared);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coupling {
    /// By the version of its latch: no lock is held, and each step validates the version.
    Optimistic,
    /// By a shared lock.
    Shared,
    /// By an exclusive lock.
    Exclusive,
}

/// A position in a structure whose nodes have latches, for hand-over-hand traversal by locks or by
/// versions.
///
/// [`step`](Self::step) acquires the latch of the next node before it releases the current one. So
/// no thread overtakes another in the same direction, and no thread behind it can change the node
/// of the traversal. With [`Coupling::Optimistic`] a step acquires no lock: it reads the version of
/// the next latch and then validates the version of the current one.
///
/// # Blocking
/// [`begin`](Self::begin), [`step`](Self::step) and [`ahead`](Self::ahead) block the thread as
/// [`OptimisticLatch`] does. There is no async form.
///
/// # Deadlocks
/// Traversals cannot deadlock if all have one direction (down a tree, along a list) and each starts
/// without a latch.
///
/// # Examples
/// A list of fixed nodes; the nodes of `examples/sorted_list.rs` can be inserted and removed.
/// ```
/// use latchwork::latch::{Coupled, Coupling, OptimisticLatch};
///
/// struct Node { number: u32, next: Option<Box<OptimisticLatch<Node>>> }
/// let node = |number, next| Some(Box::new(OptimisticLatch::new(Node { number, next })));
/// let list = node(1, node(2, node(3, None))).unwrap();
///
/// for coupling in [Coupling::Optimistic, Coupling::Shared, Coupling::Exclusive] {
///     let mut place = Coupled::begin(&list, coupling)?;
///     let mut sum = 0;
///     loop {
///         sum += place.read(|node| node.number)?;
///         if !place.step(|node| node.next.as_deref())? {
///             break;
///         }
///     }
///     assert_eq!(sum, 6);
/// }
/// # Ok::<(), latchwork::latch::Restart>(())
/// ```
#[must_use = "a traversal does nothing unless it is stepped"]
pub struct Coupled<'l, T: ?Sized>(Hold<'l, T>);

enum Hold<'l, T: ?Sized> {
    Version(&'l OptimisticLatch<T>, LatchVersion),
    Shared(SharedGuard<'l, T>),
    Exclusive(ExclusiveGuard<'l, T>),
}

impl<'l, T: ?Sized> Coupled<'l, T> {
    /// Begins a traversal at a latch.
    ///
    /// # Blocking
    /// Blocks the thread as [`OptimisticLatch::version`], [`shared`](OptimisticLatch::shared) or
    /// [`exclusive`](OptimisticLatch::exclusive) does, according to the coupling.
    ///
    /// # Errors
    /// Returns [`Obsolete`] if the latch is obsolete.
    #[inline]
    pub fn begin(latch: &'l OptimisticLatch<T>, coupling: Coupling) -> Result<Self, Obsolete> {
        Ok(Coupled(match coupling {
            Coupling::Optimistic => Hold::Version(latch, latch.version()?),
            Coupling::Shared => Hold::Shared(latch.shared()?),
            Coupling::Exclusive => Hold::Exclusive(latch.exclusive()?),
        }))
    }

    /// Returns the latch at the position.
    #[inline]
    pub fn latch(&self) -> &'l OptimisticLatch<T> {
        match &self.0 {
            Hold::Version(latch, _) => latch,
            Hold::Shared(guard) => SharedGuard::latch(guard),
            Hold::Exclusive(guard) => ExclusiveGuard::latch(guard),
        }
    }

    /// Returns how the traversal protects its node.
    #[inline]
    pub fn coupling(&self) -> Coupling {
        match &self.0 {
            Hold::Version(..) => Coupling::Optimistic,
            Hold::Shared(_) => Coupling::Shared,
            Hold::Exclusive(_) => Coupling::Exclusive,
        }
    }

    /// Validates that the reads at this position are consistent. This always succeeds if the latch
    /// is held.
    ///
    /// # Errors
    /// Returns [`Restart`] if another thread has written the value since the traversal arrived, or
    /// the latch is obsolete.
    ///
    /// # Examples
    /// ```
    /// use latchwork::latch::{Coupled, Coupling, OptimisticLatch, Restart};
    /// let latch = OptimisticLatch::new(7);
    /// let traversal = Coupled::begin(&latch, Coupling::Optimistic).unwrap();
    /// assert_eq!(traversal.validate(), Ok(()));
    /// drop(latch.exclusive().unwrap());
    /// assert_eq!(traversal.validate(), Err(Restart::Changed));
    /// ```
    #[inline]
    pub fn validate(&self) -> Result<(), Restart> {
        match &self.0 {
            Hold::Version(latch, version) => latch.raw.validate(version.0),
            Hold::Shared(_) | Hold::Exclusive(_) => Ok(()),
        }
    }

    /// Reads the value at the position, and validates that the read is consistent.
    ///
    /// The closure is called once. It may see a value that another thread has written in part, and
    /// must tolerate that.
    ///
    /// # Errors
    /// Returns [`Restart`] if the validation fails. The result of the closure is dropped then.
    ///
    /// # Panics
    /// Panics if the closure panics.
    #[inline]
    pub fn read<R>(&self, f: impl FnOnce(&'l T) -> R) -> Result<R, Restart> {
        let result = f(self.latch().peek());
        self.validate()?;
        Ok(result)
    }

    /// Moves to the latch that `next` returns for the value at the position. It acquires that latch
    /// in the same way, and then releases the current one.
    ///
    /// Returns `false` if `next` returns `None`; the traversal does not move then.
    ///
    /// # Blocking
    /// Blocks the thread as [`begin`](Self::begin) does.
    ///
    /// # Errors
    /// Returns [`Restart`] if the validation fails or the next latch is obsolete. The traversal
    /// does not move, and must be restarted.
    ///
    /// # Panics
    /// Panics if `next` panics.
    #[inline]
    pub fn step(
        &mut self,
        next: impl FnOnce(&'l T) -> Option<&'l OptimisticLatch<T>>,
    ) -> Result<bool, Restart> {
        if let Hold::Version(latch, version) = &mut self.0 {
            // As `ahead`, with no lock to release: this is the cost of each level of a tree.
            let there = version_of(next(latch.peek()));
            latch.raw.validate(version.0)?;
            let Some(there) = there? else {
                return Ok(false);
            };
            (*latch, *version) = there;
            return Ok(true);
        }
        self.step_latched(next)
    }

    #[inline]
    fn step_latched(
        &mut self,
        next: impl FnOnce(&'l T) -> Option<&'l OptimisticLatch<T>>,
    ) -> Result<bool, Restart> {
        match self.ahead(next)? {
            Some(there) => {
                *self = there;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// Returns the traversal that is one step ahead, and keeps this one. An operation needs both to
    /// change two nodes, such as a child and its link in the parent.
    ///
    /// # Blocking
    /// Blocks the thread as [`begin`](Self::begin) does.
    ///
    /// # Errors
    /// Returns the same errors as [`step`](Self::step).
    ///
    /// # Panics
    /// Panics if `next` panics.
    ///
    /// # Examples
    /// ```
    /// use latchwork::latch::{Coupled, Coupling, OptimisticLatch};
    ///
    /// struct Node { child: Option<Box<OptimisticLatch<Node>>> }
    /// let child = Box::new(OptimisticLatch::new(Node { child: None }));
    /// let parent = OptimisticLatch::new(Node { child: Some(child) });
    /// let at_parent = Coupled::begin(&parent, Coupling::Optimistic)?;
    /// let at_child = at_parent.ahead(|node| node.child.as_deref())?.expect("there is a child");
    /// // Acquires both latches:
    /// let (parent, child) = (at_parent.into_exclusive()?, at_child.into_exclusive()?);
    /// assert!(parent.child.is_some() && child.child.is_none());
    /// # Ok::<(), latchwork::latch::Restart>(())
    /// ```
    #[inline]
    pub fn ahead(
        &self,
        next: impl FnOnce(&'l T) -> Option<&'l OptimisticLatch<T>>,
    ) -> Result<Option<Self>, Restart> {
        let there = match next(self.latch().peek()) {
            Some(latch) => match Self::begin(latch, self.coupling()) {
                Ok(there) => Some(there),
                // The link may have been read in a value during a write.
                Err(obsolete) => return Err(self.validate().err().unwrap_or(obsolete.into())),
            },
            None => None,
        };
        // After the next version was read: until then the node was linked there [O7].
        self.validate()?;
        Ok(there)
    }

    /// Ends the traversal and returns an exclusive guard of its latch, if the reads at the position
    /// are still valid.
    ///
    /// # Blocking
    /// Never blocks.
    ///
    /// # Errors
    /// Returns [`Restart`] if the validation fails, or another thread holds the latch. Always
    /// returns it for [`Coupling::Shared`]: two readers that both waited to upgrade would wait for
    /// each other.
    ///
    /// # Examples
    /// ```
    /// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    /// use latchwork::latch::{Coupled, Coupling, OptimisticLatch};
    /// let latch = OptimisticLatch::new(AtomicU64::new(1));
    /// let traversal = Coupled::begin(&latch, Coupling::Optimistic)?;
    /// let seen = traversal.read(|n| n.load(Relaxed))?;
    /// traversal.into_exclusive()?.store(seen + 1, Relaxed); // the read is still valid
    /// # Ok::<(), latchwork::latch::Restart>(())
    /// ```
    #[inline]
    pub fn into_exclusive(self) -> Result<ExclusiveGuard<'l, T>, Restart> {
        match self.0 {
            Hold::Version(latch, version) => latch.upgrade(version),
            Hold::Shared(_) => Err(Restart::Changed),
            Hold::Exclusive(guard) => Ok(guard),
        }
    }
}

/// The latch, if there is one, and its version.
#[inline(always)]
fn version_of<T: ?Sized>(
    latch: Option<&OptimisticLatch<T>>,
) -> Result<Option<(&OptimisticLatch<T>, LatchVersion)>, Obsolete> {
    match latch {
        Some(latch) => Ok(Some((latch, latch.version()?))),
        None => Ok(None),
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Coupled<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coupled")
            .field("coupling", &self.coupling())
            .field("latch", &self.latch())
            .finish()
    }
}

/// Runs a traversal until it succeeds: a bounded number of times optimistically, and then with the
/// latches of `fallback`. So a stream of writers cannot starve it.
///
/// Use [`Coupling::Shared`] for reads and [`Coupling::Exclusive`] for writes. Each call of the
/// closure starts at the root, in the coupling that is passed, and returns [`Restart`] by `?`. With
/// latches, the only remaining reason to restart is an obsolete latch, whose node another thread
/// has just removed.
///
/// # Blocking
/// Blocks the thread as the latches that the closure acquires. There is no async form. A closure
/// that returns [`Restart`] indefinitely is called indefinitely; an obsolete latch at the root has
/// that effect.
///
/// # Panics
/// Panics if the closure panics.
///
/// # Examples
/// ```
/// use latchwork::latch::{Coupled, Coupling, OptimisticLatch, traverse};
/// let latch = OptimisticLatch::new(7);
/// let seen = traverse(Coupling::Shared, |coupling| Coupled::begin(&latch, coupling)?.read(|n| *n));
/// assert_eq!(seen, 7);
/// ```
#[inline]
pub fn traverse<R>(fallback: Coupling, mut f: impl FnMut(Coupling) -> Result<R, Restart>) -> R {
    match f(Coupling::Optimistic) {
        Ok(result) => result,
        Err(_) => traverse_slow(fallback, f),
    }
}

#[cold]
fn traverse_slow<R>(fallback: Coupling, mut f: impl FnMut(Coupling) -> Result<R, Restart>) -> R {
    let mut spin = Spin::new();
    for _ in 1..OPTIMISTIC_ATTEMPTS {
        spin.spin();
        if let Ok(result) = f(Coupling::Optimistic) {
            return result;
        }
    }
    loop {
        if let Ok(result) = f(fallback) {
            return result;
        }
        // The closure has failed under latches: another thread removes nodes faster than this one
        // acquires them.
        crate::sync::yield_now();
    }
}
