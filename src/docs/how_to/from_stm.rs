//! Moving from the crate `stm`.
//!
//! Both crates have transactions with `retry` and alternatives. The differences are in the types of
//! the values, in the lifetimes, and in the cost.
//!
//! The blocks of old code use `stm` 0.4 and are shown for comparison only; the tests of this crate
//! run the new code.
//!
//! # A transfer that waits for funds
//! Before:
//!
//! ```rust,ignore
//! use stm::{TVar, atomically, guard};
//!
//! let (from, to) = (TVar::new(100), TVar::new(0));
//! atomically(|trans| {
//!     let balance = from.read(trans)?;
//!     guard(balance >= 30)?;
//!     from.write(trans, balance - 30)?;
//!     to.modify(trans, |balance| balance + 30)
//! });
//! assert_eq!(to.read_atomic(), 30);
//! ```
//!
//! After:
//!
//! ```
//! use latchwork::{VersionedCell, atomically};
//!
//! let (from, to) = (VersionedCell::new(100), VersionedCell::new(0));
//! atomically(|tx| {
//!     let balance = *tx.read(&from)?; // a reference: nothing is cloned
//!     tx.require(balance >= 30)?; // sleeps until `from` changes
//!     tx.set(&from, balance - 30)?;
//!     tx.update(&to, |balance| balance + 30)
//! });
//! assert_eq!(to.get(), 30);
//! ```
//!
//! # Alternatives
//! Before:
//!
//! ```rust,ignore
//! let job = atomically(|trans| {
//!     trans.or(|trans| urgent.take(trans), |trans| normal.take(trans))
//! });
//! ```
//!
//! After:
//!
//! ```
//! use latchwork::{Abort, Tx, VersionedCell, atomically};
//!
//! type Slot = VersionedCell<Option<&'static str>>;
//!
//! fn take<'t>(tx: &mut Tx<'t, '_>, slot: &'t Slot) -> Result<&'static str, Abort> {
//!     match *tx.read(slot)? {
//!         Some(job) => tx.set(slot, None).map(|()| job),
//!         None => tx.retry(),
//!     }
//! }
//!
//! let (urgent, normal) = (Slot::new(None), Slot::new(Some("clean up")));
//! let job = atomically(|tx| tx.or_else(|tx| take(tx, &urgent), |tx| take(tx, &normal)));
//! assert_eq!((job, normal.get()), ("clean up", None));
//! ```
//!
//! # Shared ownership
//! A `TVar` is a shared pointer: a clone is the same variable. A cell is a plain value, so shared
//! ownership needs an `Arc`. This is also the way to build linked data structures. A reference that
//! `tx.read` returns is valid for the whole attempt, so the transaction can follow it:
//!
//! ```
//! use std::sync::Arc;
//! use latchwork::{VersionedCell, atomically};
//!
//! struct Node { value: i32, next: Option<Arc<VersionedCell<Node>>> }
//!
//! let last = Arc::new(VersionedCell::new(Node { value: 2, next: None }));
//! let first = VersionedCell::new(Node { value: 1, next: Some(last) });
//! let sum = atomically(|tx| {
//!     let mut node = tx.read(&first)?;
//!     let mut sum = node.value;
//!     while let Some(next) = &node.next {
//!         node = tx.read(next)?;
//!         sum += node.value;
//!     }
//!     Ok(sum)
//! });
//! assert_eq!(sum, 3);
//! ```
//!
//! # What maps to what
//! | `stm` | here |
//! |---|---|
//! | `TVar::new(value)`, `T: Clone` | [`VersionedCell::new(value)`](crate::VersionedCell::new) |
//! | `tvar.clone()` | `Arc<VersionedCell<T>>` |
//! | `tvar.read(trans)?`: a clone | [`tx.read(&cell)?`](crate::Tx::read): a reference |
//! | `tvar.write(trans, value)?` | [`tx.set(&cell, value)?`](crate::Tx::set) |
//! | `tvar.modify(trans, f)?` | [`tx.update(&cell, f)?`](crate::Tx::update) |
//! | `tvar.replace(trans, value)?` | [`tx.swap(&cell, value)?`](crate::Tx::swap) |
//! | `tvar.read_atomic()` | [`cell.get()`](crate::VersionedCell::get), or `cell.read()` |
//! | `retry()?` | [`return tx.retry()`](crate::Tx::retry) |
//! | `guard(condition)?` | [`tx.require(condition)?`](crate::Tx::require) |
//! | `trans.or(f, g)` | [`tx.or_else(f, g)`](crate::Tx::or_else) |
//! | `atomically(f)` | [`atomically(f)`](crate::atomically) |
//! | `Transaction::with_control` | [`Transaction::builder()`](crate::Transaction::builder) |
//!
//! # New features
//! - [`tx.abort(error)`](crate::Tx::abort) ends the transaction with an error of your own.
//! - [`snapshot`](crate::snapshot()) reads many cells at one instant, without a transaction.
//! - [`Transaction`](crate::Transaction) has a timeout, a limit of attempts, statistics by label,
//!   and [`run_async`](crate::Transaction::run_async).
//! - Cells work without a transaction: conditional writes, and waiting for a change.
//! - Escalation: a transaction that aborts repeatedly commits after a bounded number of aborts.
//!   `stm` documents that starvation is possible.
//! - A transfer takes <!--figure: transfer vs stm-->0.18<!--/--> of the time of `stm`, and reading
//!   two cells takes <!--figure: two cells read vs stm-->0.09<!--/--> of it.
//!
//! # What does not exist here
//! - Cells that are created inside the closure and used in the same transaction. The compiler
//!   rejects them, because they would be dropped before the commit. Create them outside, or inside
//!   the value of another cell.
//! - Nested transactions. `stm` rejects a nested `atomically` at run time. Here, a nested call is
//!   an independent transaction that commits even if the outer one aborts. Pass `tx` to the inner
//!   function in both cases.
//! - Values that are not `Send + Sync + 'static`.
