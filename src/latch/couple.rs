//! From latch to latch: the next one is taken before the last is given up.

use core::fmt;

use super::{ExclusiveGuard, LatchVersion, Obsolete, OptimisticLatch, Restart, SharedGuard};
use crate::sync::tuning::OPTIMISTIC_ATTEMPTS;
use crate::wait::Spin;

/// How a traversal has the latch that it is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coupling {
    /// By its version: nothing is held, and each step finds out whether it holds.
    Optimistic,
    /// Shared.
    Shared,
    /// Exclusively.
    Exclusive,
}

/// A place in a structure whose nodes have latches: hand-over-hand, by locks or by versions.
///
/// [`step`](Self::step) goes to the next node and has its latch before it gives up this one's, so that nobody gets past who goes the same way:
/// what is behind cannot change what the traversal stands on. In [`Coupling::Optimistic`] nothing is taken: the step
/// reads the next latch's version and then checks that this one's is still what it was.
///
/// # Deadlocks
/// None among traversals that all go one way (down a tree, along a list), each from its own start.
///
/// # Examples
/// A list of fixed nodes; `examples/sorted_list.rs` has one whose nodes come and go.
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
#[must_use = "a traversal that is dropped has not been anywhere"]
pub struct Coupled<'l, T: ?Sized>(Hold<'l, T>);

enum Hold<'l, T: ?Sized> {
    Version(&'l OptimisticLatch<T>, LatchVersion),
    Shared(SharedGuard<'l, T>),
    Exclusive(ExclusiveGuard<'l, T>),
}

impl<'l, T: ?Sized> Coupled<'l, T> {
    /// Begins at a latch.
    ///
    /// # Blocking
    /// As [`OptimisticLatch::version`], [`shared`](OptimisticLatch::shared) and [`exclusive`](OptimisticLatch::exclusive).
    ///
    /// # Errors
    /// [`Obsolete`].
    #[inline]
    pub fn begin(latch: &'l OptimisticLatch<T>, coupling: Coupling) -> Result<Self, Obsolete> {
        Ok(Coupled(match coupling {
            Coupling::Optimistic => Hold::Version(latch, latch.version()?),
            Coupling::Shared => Hold::Shared(latch.shared()?),
            Coupling::Exclusive => Hold::Exclusive(latch.exclusive()?),
        }))
    }

    /// The latch that it is at.
    #[inline]
    pub fn latch(&self) -> &'l OptimisticLatch<T> {
        match &self.0 {
            Hold::Version(latch, _) => latch,
            Hold::Shared(guard) => SharedGuard::latch(guard),
            Hold::Exclusive(guard) => ExclusiveGuard::latch(guard),
        }
    }

    /// How it has that latch.
    #[inline]
    pub fn coupling(&self) -> Coupling {
        match &self.0 {
            Hold::Version(..) => Coupling::Optimistic,
            Hold::Shared(_) => Coupling::Shared,
            Hold::Exclusive(_) => Coupling::Exclusive,
        }
    }

    /// Checks that what was read here belongs together. Always so where the latch is held.
    ///
    /// # Errors
    /// [`Restart`].
    #[inline]
    pub fn validate(&self) -> Result<(), Restart> {
        match &self.0 {
            Hold::Version(latch, version) => latch.raw.validate(version.0),
            Hold::Shared(_) | Hold::Exclusive(_) => Ok(()),
        }
    }

    /// Reads the value here, and checks that what was read belongs together. The closure is called once; it may see
    /// a value of which a part is written already, and must bear that.
    ///
    /// # Errors
    /// [`Restart`], and then what the closure returned is dropped.
    #[inline]
    pub fn read<R>(&self, f: impl FnOnce(&'l T) -> R) -> Result<R, Restart> {
        let result = f(self.latch().peek());
        self.validate()?;
        Ok(result)
    }

    /// Goes to the latch that `next` finds in the value here: takes it in the same way, and then gives up this one.
    /// `false`: there is none, and the traversal stays.
    ///
    /// # Errors
    /// [`Restart`]. The traversal stays where it was, and is good for nothing but a new beginning.
    #[inline]
    pub fn step(
        &mut self,
        next: impl FnOnce(&'l T) -> Option<&'l OptimisticLatch<T>>,
    ) -> Result<bool, Restart> {
        if let Hold::Version(latch, version) = &mut self.0 {
            // As `ahead`, with nothing to be given up: this is what each level of a tree costs.
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

    /// As [`step`](Self::step), but stays, and returns the traversal that is one step ahead: for who changes two nodes, say a child and
    /// its place in the parent.
    ///
    /// # Errors
    /// [`Restart`].
    #[inline]
    pub fn ahead(
        &self,
        next: impl FnOnce(&'l T) -> Option<&'l OptimisticLatch<T>>,
    ) -> Result<Option<Self>, Restart> {
        let there = match next(self.latch().peek()) {
            Some(latch) => match Self::begin(latch, self.coupling()) {
                Ok(there) => Some(there),
                // It may have been found in a value that was being written.
                Err(obsolete) => return Err(self.validate().err().unwrap_or(obsolete.into())),
            },
            None => None,
        };
        // After the next version was read: until then the next was where it was found [O7].
        self.validate()?;
        Ok(there)
    }

    /// Ends the traversal with its latch held exclusively, if what was read here still holds. Never waits.
    ///
    /// # Errors
    /// [`Restart`]. Always for [`Coupling::Shared`]: two who share and both wait to be alone would wait for each other.
    #[inline]
    pub fn into_exclusive(self) -> Result<ExclusiveGuard<'l, T>, Restart> {
        match self.0 {
            Hold::Version(latch, version) => latch.upgrade(version),
            Hold::Shared(_) => Err(Restart::Changed),
            Hold::Exclusive(guard) => Ok(guard),
        }
    }
}

/// A latch, if there is one, and its version.
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

/// Runs a traversal until it succeeds: a bounded number of times optimistically, and then with latches, as `fallback` says, so that a stream
/// of writers does not keep it from its end.
///
/// Use [`Coupling::Shared`] for who reads and [`Coupling::Exclusive`] for who writes. The closure begins at the
/// beginning each time, in the coupling that it is given, and returns [`Restart`] by `?`. Under latches the one reason left is an obsolete
/// one, which somebody has just taken out of the structure.
///
/// # Examples
/// ```
/// use latchwork::latch::{Coupled, Coupling, OptimisticLatch, traverse};
/// let latch = OptimisticLatch::new(7);
/// let seen = traverse(Coupling::Shared, |coupling| Coupled::begin(&latch, coupling)?.read(|n| *n));
/// assert_eq!(seen, 7);
/// ```
///
/// # Blocking
/// As the latches that it takes. A closure that returns [`Restart`] for ever is run for ever; a structure whose first latch is
/// obsolete makes it so.
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
        // Not for the first time by a latch: by who takes nodes out faster than this thread gets to them.
        crate::sync::yield_now();
    }
}
