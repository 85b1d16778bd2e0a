//! Updates of a few cells at once, without a log: a multi-word compare-and-swap.
//!
//! The set of cells is fixed, so everything that a transaction records in its log lies on the
//! stack. One attempt is made like this. An attempt that encounters another writer continues as a
//! transaction, which has the guarantees of progress [X11].

use core::convert::Infallible;

use super::aftermath::Aftermath;
use super::error::{TxAbort, TxError};
use super::few::{self, Replacement, Seen, Unused};
use super::run::Transaction;
use super::stats;
use crate::cell::VersionedCell;
use crate::mvcc::{Head, OwnerSlot, Rank, Version, waiters};
use crate::reclaim::inside::{self, Inside};
use crate::reclaim::{self, CellPin, Local};

/// Replaces the values of a few cells together, by the result of a closure.
///
/// The closure gets the current values, and returns the new ones. All of them become visible at one
/// instant, at which the cells still had the values that the closure got. The result has the
/// versions of the new values, in the order of the cells.
///
/// The effect is that of [`atomically`](crate::atomically()) with a read and a write of each cell.
/// An update costs less, because its cells are known before it begins: see
/// [`docs::performance`](crate::docs::performance). Use a transaction if the closure determines the
/// cells, or only reads some of them.
///
/// The cells are a tuple of two to eight references to cells, whose values may have different
/// types. An array of references to at most eight cells of one type also works.
///
/// The closure runs again each time that another thread has written one of the cells, so its side
/// effects may happen several times. It runs pinned.
///
/// # Blocking
/// Blocks the thread as a transaction does: while a transaction that has escalated owns one of the
/// cells. An update that repeatedly aborts escalates itself, and eventually commits. On a
/// current-thread runtime the wait can hang indefinitely: use
/// [`Transaction::run_async`](crate::Transaction::run_async) in tasks.
///
/// # Panics
/// - Panics if the closure panics. Every cell then keeps its value.
/// - Panics if one cell is given twice.
/// - Panics inside the closure of a transaction that owns one of the cells: write through the
///   [`Tx`](crate::Tx) instead. In debug builds, panics inside the closure of a transaction that
///   has read or written one of them; see [`atomically`](crate::atomically()#direct-access).
/// - In debug builds, a direct access to one of the cells inside the closure panics.
///
/// # Memory ordering
/// Synchronises as a transaction does.
///
/// # Source
/// A multi-word compare-and-swap after Harris, Fraser and Pratt (2002) and Guerraoui et al. (2020),
/// whose descriptors only their owners install.
///
/// # Examples
/// ```
/// use latchwork::{VersionedCell, update_all};
///
/// let (from, to) = (VersionedCell::new(10), VersionedCell::new(0));
/// update_all((&from, &to), |(from, to)| (from - 4, to + 4));
/// assert_eq!((from.get(), to.get()), (6, 4));
///
/// // Values of different types.
/// let log = VersionedCell::new(vec![]);
/// let versions = update_all((&from, &log), |(from, log)| {
///     (from - 1, [&log[..], &["fee"]].concat())
/// });
/// assert_eq!(versions.map(|v| v.get()), [2, 1]);
///
/// // An array of cells of one type.
/// let cells = [1, 2, 3].map(VersionedCell::new);
/// update_all(cells.each_ref(), |[a, b, c]| [*b, *c, *a]);
/// assert_eq!(cells.map(|cell| cell.get()), [2, 3, 1]);
/// ```
///
/// A reference to a value cannot leave the closure:
/// ```compile_fail
/// use latchwork::{VersionedCell, update_all};
/// let (a, b) = (VersionedCell::new(1), VersionedCell::new(2));
/// let mut leaked = None;
/// update_all((&a, &b), |(a, b)| {
///     leaked = Some(a);
///     (*a, *b)
/// });
/// ```
/// ```
/// use latchwork::{VersionedCell, update_all};
/// let (a, b) = (VersionedCell::new(1), VersionedCell::new(2));
/// let mut seen = None;
/// update_all((&a, &b), |(a, b)| {
///     seen = Some(*a);
///     (*a, *b)
/// });
/// assert_eq!(seen, Some(1));
/// ```
#[doc(alias = "MCAS")]
#[doc(alias = "KCAS")]
#[cfg_attr(debug_assertions, track_caller)]
pub fn update_all<C: CellSet>(
    cells: C,
    mut f: impl for<'v> FnMut(C::Values<'v>) -> C::NewValues,
) -> C::Versions {
    match try_update_all(cells, |values| Ok::<_, Infallible>(f(values))) {
        Ok(versions) => versions,
        Err(never) => match never {},
    }
}

/// Replaces the values of a few cells together, unless the closure returns an error.
///
/// This is [`update_all`] for closures that may refuse the change. After an error, every cell keeps
/// its value, and the values that the closure got were those of one instant.
///
/// # Blocking
/// Blocks the thread as [`update_all`] does.
///
/// # Errors
/// Returns the error of the closure.
///
/// # Panics
/// Panics as [`update_all`] does.
///
/// # Examples
/// ```
/// use latchwork::{VersionedCell, txn::try_update_all};
///
/// let (from, to) = (VersionedCell::new(10_u32), VersionedCell::new(0));
/// let transfer = |amount: u32| {
///     try_update_all((&from, &to), |(from, to)| {
///         let left = from.checked_sub(amount).ok_or("no funds")?;
///         Ok((left, to + amount))
///     })
/// };
/// assert!(transfer(4).is_ok());
/// assert_eq!(transfer(7), Err("no funds"));
/// assert_eq!((from.get(), to.get()), (6, 4));
/// ```
#[cfg_attr(debug_assertions, track_caller)]
pub fn try_update_all<C: CellSet, E>(
    cells: C,
    mut f: impl for<'v> FnMut(C::Values<'v>) -> Result<C::NewValues, E>,
) -> Result<C::Versions, E> {
    match cells.attempt(&mut f, sealed::Token) {
        Some(result) => result,
        None => cells.transaction(&mut f, sealed::Token),
    }
}

/// Cells that [`update_all`] changes together: a tuple of two to eight references to cells, or an
/// array of one to eight.
///
/// # Examples
/// A function for any set of cells:
/// ```
/// use latchwork::{VersionedCell, txn::CellSet, update_all};
///
/// fn count_and_update<C: CellSet>(
///     cells: C,
///     runs: &mut u32,
///     f: impl for<'v> Fn(C::Values<'v>) -> C::NewValues,
/// ) -> C::Versions {
///     update_all(cells, |values| {
///         *runs += 1;
///         f(values)
///     })
/// }
///
/// let (a, b) = (VersionedCell::new(1), VersionedCell::new("one"));
/// let mut runs = 0;
/// count_and_update((&a, &b), &mut runs, |(a, _)| (a + 1, "two"));
/// assert_eq!((a.get(), b.get(), runs), (2, "two", 1));
/// ```
pub trait CellSet: Sized {
    /// References to the values of the cells, as the set has its cells: a tuple or an array.
    type Values<'v>;
    /// New values for the cells.
    type NewValues;
    /// An array of the versions of the new values.
    type Versions;

    /// Makes one attempt without a log. `None`: it has encountered another writer, and has changed
    /// nothing.
    #[doc(hidden)]
    fn attempt<E>(
        &self,
        f: &mut impl for<'v> FnMut(Self::Values<'v>) -> Result<Self::NewValues, E>,
        _: sealed::Token,
    ) -> Option<Result<Self::Versions, E>>;

    /// The same as a transaction.
    #[doc(hidden)]
    fn transaction<E>(
        &self,
        f: &mut impl for<'v> FnMut(Self::Values<'v>) -> Result<Self::NewValues, E>,
        _: sealed::Token,
    ) -> Result<Self::Versions, E>;
}

mod sealed {
    /// Only this crate can name it, so only this crate implements or calls what requires it.
    #[derive(Debug)]
    pub struct Token;
}

/// The most cells of a set.
const MOST: usize = 8;

/// The cells of one attempt.
struct Attempt<'c, const N: usize> {
    heads: [&'c Head; N],
    order: [usize; N],
}

impl<'c, const N: usize> Attempt<'c, N> {
    /// # Panics
    /// Panics if one cell is given twice.
    #[inline(always)]
    #[cfg_attr(debug_assertions, track_caller)]
    fn new(heads: [&'c Head; N]) -> Self {
        const { assert!(0 < N && N <= MOST, "a set has one to eight cells") };
        let Some(order) = few::order(&heads) else {
            given_twice();
        };
        Attempt { heads, order }
    }

    /// Makes the attempt: calls `f` with what it has read, and `replace` with its result.
    #[inline(always)]
    fn run<T, E>(
        &self,
        f: impl FnOnce([Seen<'_>; N]) -> Result<T, E>,
        replace: impl for<'p> FnOnce(&Local, &OwnerSlot, [Seen<'p>; N], T) -> [Replacement<'p>; N],
    ) -> Option<Result<[Version; N], E>> {
        reclaim::with(|local| {
            local.collect_some();
            let pin = local.pin();
            let seen = few::read(&self.heads, &pin)?;
            let new = {
                let _inside = Inside::closure(None);
                for head in self.heads {
                    inside::note(head.address());
                }
                match f(seen) {
                    Ok(new) => new,
                    Err(error) => return Some(Err(error)),
                }
            };
            let own = OwnerSlot::new(local, Rank::NONE);
            let replacements = replace(local, &own, seen, new);
            let versions = seen.map(Seen::next_version);
            match few::commit(local, &pin, own, replacements, self.order) {
                Ok(is_waited) => {
                    if is_waited {
                        wake(local, pin, &self.heads, &versions);
                    }
                    Some(Ok(versions))
                }
                Err(unused) => {
                    discard(local, pin, unused);
                    None
                }
            }
        })
    }
}

/// Drops the values that were not written, once the thread is unpinned.
#[cold]
#[inline(never)]
fn discard(local: &Local, pin: CellPin, unused: Vec<Unused>) {
    drop(pin);
    let aftermath = Aftermath {
        unused,
        ..Aftermath::default()
    };
    aftermath.settle(local);
}

/// Wakes the waiters of all cells, once the thread is unpinned. They leave their queues before:
/// later, another cell may have the address [X8].
#[cold]
#[inline(never)]
fn wake(local: &Local, pin: CellPin, heads: &[&Head], versions: &[Version]) {
    let mut aftermath = Aftermath::default();
    for (head, version) in heads.iter().zip(versions) {
        if head.load().is_waited() {
            waiters::take_out(&mut aftermath.woken, head.address(), *version);
        }
    }
    drop(pin);
    aftermath.settle(local);
}

#[cold]
#[inline(never)]
#[cfg_attr(debug_assertions, track_caller)]
fn given_twice() -> ! {
    panic!("duplicate cell in `update_all`; pass each cell once");
}

/// Runs an update as a transaction, after an attempt without a log.
#[cold]
fn run_as_transaction<'env, R, E>(
    mut f: impl for<'t> FnMut(&mut super::Tx<'t, 'env>) -> Result<R, TxAbort<E>>,
) -> Result<R, E> {
    stats::count_conflict();
    match Transaction::builder().try_run(&mut f) {
        Ok(result) => Ok(result),
        Err(TxError::Aborted(error)) => Err(error),
        Err(_) => unreachable!("the transaction has no limits, and does not retry"),
    }
}

macro_rules! count {
    () => { 0 };
    ($first:ident $($rest:ident)*) => { 1 + count!($($rest)*) };
}

macro_rules! tuples {
    ($($cell:ident: $T:ident, $new:ident;)+) => {
        impl<$($T: Send + Sync + 'static),+> CellSet for ($(&VersionedCell<$T>,)+) {
            type Values<'v> = ($(&'v $T,)+);
            type NewValues = ($($T,)+);
            type Versions = [Version; count!($($T)+)];

            #[inline]
            #[cfg_attr(debug_assertions, track_caller)]
            fn attempt<Error>(
                &self,
                f: &mut impl for<'v> FnMut(Self::Values<'v>) -> Result<Self::NewValues, Error>,
                _: sealed::Token,
            ) -> Option<Result<Self::Versions, Error>> {
                let ($($cell,)+) = self;
                $($cell.check_direct();)+
                let attempt = Attempt::new([$($cell.head()),+]);
                attempt.run(
                    |[$($new),+]| f(($($new.value($cell),)+)),
                    |local, own, seen, ($($new,)+)| {
                        $(let $new = ($cell, $new);)+
                        let [$($cell),+] = seen;
                        [$($cell.replace($new.0, local, own, $new.1)),+]
                    },
                )
            }

            #[cold]
            #[inline(never)]
            fn transaction<Error>(
                &self,
                f: &mut impl for<'v> FnMut(Self::Values<'v>) -> Result<Self::NewValues, Error>,
                _: sealed::Token,
            ) -> Result<Self::Versions, Error> {
                let ($($cell,)+) = *self;
                run_as_transaction(|tx| {
                    let values = ($(tx.read($cell)?,)+);
                    let ($($new,)+) = f(values).map_err(TxAbort::Transaction)?;
                    $(tx.set($cell, $new)?;)+
                    Ok([$(tx.version($cell)?),+])
                })
            }
        }
    };
}

tuples! { a: A, new_a; b: B, new_b; }
tuples! { a: A, new_a; b: B, new_b; c: C, new_c; }
tuples! { a: A, new_a; b: B, new_b; c: C, new_c; d: D, new_d; }
tuples! { a: A, new_a; b: B, new_b; c: C, new_c; d: D, new_d; e: E, new_e; }
tuples! { a: A, new_a; b: B, new_b; c: C, new_c; d: D, new_d; e: E, new_e; g: G, new_g; }
tuples! {
    a: A, new_a; b: B, new_b; c: C, new_c; d: D, new_d; e: E, new_e; g: G, new_g; h: H, new_h;
}
tuples! {
    a: A, new_a; b: B, new_b; c: C, new_c; d: D, new_d; e: E, new_e; g: G, new_g; h: H, new_h;
    i: I, new_i;
}

impl<T: Send + Sync + 'static, const N: usize> CellSet for [&VersionedCell<T>; N] {
    type Values<'v> = [&'v T; N];
    type NewValues = [T; N];
    type Versions = [Version; N];

    #[inline]
    #[cfg_attr(debug_assertions, track_caller)]
    fn attempt<E>(
        &self,
        f: &mut impl for<'v> FnMut(Self::Values<'v>) -> Result<Self::NewValues, E>,
        _: sealed::Token,
    ) -> Option<Result<Self::Versions, E>> {
        for cell in self {
            cell.check_direct();
        }
        let attempt = Attempt::new(self.map(VersionedCell::head));
        attempt.run(
            |seen| f(core::array::from_fn(|i| seen[i].value(self[i]))),
            |local, own, seen, new| {
                let mut cells = seen.into_iter().zip(self);
                new.map(|value| {
                    let (seen, cell) = cells.next().expect("there is a cell for each value");
                    seen.replace(cell, local, own, value)
                })
            },
        )
    }

    #[cold]
    #[inline(never)]
    fn transaction<E>(
        &self,
        f: &mut impl for<'v> FnMut(Self::Values<'v>) -> Result<Self::NewValues, E>,
        _: sealed::Token,
    ) -> Result<Self::Versions, E> {
        let cells = *self;
        run_as_transaction(|tx| {
            let mut values = [const { None }; N];
            for (value, cell) in values.iter_mut().zip(cells) {
                *value = Some(tx.read(cell)?);
            }
            let values = values.map(|value| value.expect("each cell was read"));
            let new = f(values).map_err(TxAbort::Transaction)?;
            for (cell, value) in cells.into_iter().zip(new) {
                tx.set(cell, value)?;
            }
            let mut versions = [Version::FIRST; N];
            for (version, cell) in versions.iter_mut().zip(cells) {
                *version = tx.version(cell)?;
            }
            Ok(versions)
        })
    }
}
