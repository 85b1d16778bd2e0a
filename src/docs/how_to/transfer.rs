//! A transfer between accounts that must not overdraw.
//!
//! A transfer changes two values, or none. It must satisfy three requirements:
//!
//! 1. The balance covers the amount at the commit.
//! 2. No other thread sees money in transit.
//! 3. The caller receives the reason of a refusal.
//!
//! # Refuse an overdraft
//! [`Transaction::try_run`] ends with an error of the caller when the closure returns
//! [`tx.abort(error)`](crate::Tx::abort). Then nothing is written:
//!
//! ```
//! use latchwork::{Transaction, TxError, VersionedCell, snapshot};
//!
//! #[derive(Debug, PartialEq)]
//! struct Overdraft { missing: u64 }
//!
//! type Account = VersionedCell<u64>;
//!
//! fn transfer(from: &Account, to: &Account, amount: u64) -> Result<(), TxError<Overdraft>> {
//!     Transaction::builder().label("transfer").try_run(|tx| {
//!         let balance = *tx.read(from)?;
//!         let Some(left) = balance.checked_sub(amount) else {
//!             return tx.abort(Overdraft { missing: amount - balance });
//!         };
//!         tx.set(from, left)?;
//!         tx.update(to, |balance| balance + amount)?;
//!         Ok(())
//!     })
//! }
//!
//! let accounts = [100, 0, 0].map(Account::new);
//! let [a, b, c] = &accounts;
//! assert_eq!(transfer(a, b, 30), Ok(()));
//! assert_eq!(transfer(b, c, 31), Err(TxError::Aborted(Overdraft { missing: 1 })));
//! assert_eq!(transfer(a, a, 70), Ok(())); // a transfer to the same account changes nothing
//! assert_eq!(accounts.each_ref().map(Account::get), [70, 30, 0]);
//!
//! // An auditor sees no money in transit.
//! let total = || snapshot(|s| accounts.iter().map(|account| *s.read(account)).sum::<u64>());
//! std::thread::scope(|s| {
//!     for (from, to) in [(a, b), (b, c), (c, a)] {
//!         s.spawn(move || (0..500).filter(|n| transfer(from, to, n % 20).is_ok()).count());
//!     }
//!     (0..100).for_each(|_| assert_eq!(total(), 100));
//! });
//! assert_eq!(total(), 100);
//! ```
//!
//! The label counts commits and aborts of these transactions in
//! [`stats`](crate::stats()).
//!
//! # Wait for funds
//! [`Tx::retry`] in place of `abort` waits until an account changes that the closure has read.
//!
//! Use only `tx` inside the closure. Debug builds panic at a direct access to its cells, and at a
//! retry while the thread keeps a value of `read()` or a pin.
//!
//! A timeout bounds the wait:
//!
//! ```
//! use std::time::Duration;
//! use latchwork::{Transaction, TxError, VersionedCell};
//!
//! fn pay(from: &VersionedCell<u64>, amount: u64, patience: Duration) -> Result<u64, TxError> {
//!     Transaction::builder().timeout(patience).run(|tx| {
//!         let Some(left) = tx.read(from)?.checked_sub(amount) else {
//!             return tx.retry();
//!         };
//!         tx.set(from, left)?;
//!         Ok(left)
//!     })
//! }
//!
//! let account = VersionedCell::new(0);
//! assert_eq!(pay(&account, 5, Duration::from_millis(1)), Err(TxError::TimedOut));
//! std::thread::scope(|s| {
//!     let payment = s.spawn(|| pay(&account, 5, Duration::from_secs(60)));
//!     account.set(7); // wakes the payment
//!     assert_eq!(payment.join().unwrap(), Ok(2));
//! });
//! ```
//!
//! In a task, use [`Transaction::run_async`]: it waits without blocking the thread.
//!
//! # Refuse or wait
//! In a closure of [`Transaction::try_run`], [`tx.abort(error)`](crate::Tx::abort) ends the
//! transaction with an error, and [`tx.require(condition)?`](crate::Tx::require) waits for a
//! change. [`OrAbort`](crate::txn::OrAbort) is the form of `abort` for a `Result` and `?`. One
//! closure may do both. Here a closed account is an error, and missing funds are a reason to wait:
//!
//! ```
//! use std::time::Duration;
//! use latchwork::{Transaction, TxError, VersionedCell, txn::OrAbort};
//!
//! #[derive(Debug, PartialEq)]
//! struct Closed;
//!
//! /// `None` is a closed account.
//! type Account = VersionedCell<Option<u64>>;
//!
//! fn transfer(from: &Account, to: &Account, amount: u64) -> Result<(), TxError<Closed>> {
//!     Transaction::builder().timeout(Duration::from_secs(60)).try_run(|tx| {
//!         let balance = (*tx.read(from)?).ok_or(Closed).or_abort()?; // ends with an error
//!         tx.require(balance >= amount)?; // waits until an account of the read set changes
//!         tx.set(from, Some(balance - amount))?;
//!         let balance = (*tx.read(to)?).ok_or(Closed).or_abort()?;
//!         Ok(tx.set(to, Some(balance + amount))?) // `?` converts the error of the attempt
//!     })
//! }
//!
//! let [a, b, closed] = [Some(0), Some(0), None].map(Account::new);
//! std::thread::scope(|s| {
//!     let payment = s.spawn(|| transfer(&a, &b, 5));
//!     a.set(Some(7)); // wakes the payment
//!     assert_eq!(payment.join().unwrap(), Ok(()));
//! });
//! assert_eq!((a.get(), b.get()), (Some(2), Some(5)));
//! assert_eq!(transfer(&a, &closed, 1), Err(TxError::Aborted(Closed)));
//! assert_eq!(a.get(), Some(2)); // nothing is written
//! ```
//!
//! In `run` and `atomically` the error of the closure is `Abort`: write `return tx.retry();`. In
//! `try_run` it is `TxAbort`: write `tx.retry()?`, and end with `Ok(tx.set(..)?)`.
//!
//! # Try another account
//! [`Tx::or_else`] runs a second closure if the first one retries. The writes of the first one are
//! discarded. If both retry, the transaction waits for a change of any cell that either has read:
//!
//! ```
//! use latchwork::{Abort, Tx, VersionedCell, atomically};
//!
//! fn withdraw<'t>(
//!     tx: &mut Tx<'t, '_>,
//!     from: &'t VersionedCell<u64>,
//!     amount: u64,
//! ) -> Result<(), Abort> {
//!     match tx.read(from)?.checked_sub(amount) {
//!         Some(left) => tx.set(from, left),
//!         None => tx.retry(),
//!     }
//! }
//!
//! let (giro, savings) = (VersionedCell::new(10), VersionedCell::new(50));
//! atomically(|tx| tx.or_else(|tx| withdraw(tx, &giro, 20), |tx| withdraw(tx, &savings, 20)));
//! assert_eq!((giro.get(), savings.get()), (10, 30));
//! ```
//!
//! `withdraw` shows the signature of a helper function: the cell lives as long as the attempt
//! (`'t`), and the second lifetime of [`Tx`](crate::Tx) stays open.
//!
//! # With side effects
//! A closure runs once for each attempt, so it must not send money to another bank. Lock both
//! accounts for the whole transfer. [`LockTable::lock_all`] acquires them in one order for all
//! callers, so opposite transfers cannot deadlock:
//!
//! ```
//! use std::collections::HashMap;
//! use std::sync::Mutex;
//! use latchwork::{LockTable, Mode};
//!
//! struct Bank {
//!     locks: LockTable<u32>,
//!     balances: Mutex<HashMap<u32, u64>>,
//! }
//!
//! impl Bank {
//!     fn transfer(&self, from: u32, to: u32, amount: u64, send: impl FnOnce() -> bool) -> bool {
//!         let _both = self.locks.lock_all([(&from, Mode::Exclusive), (&to, Mode::Exclusive)]);
//!         let covered = self.balances.lock().unwrap()[&from] >= amount;
//!         // The bank's answer may take long. Only these two accounts are locked.
//!         if !covered || !send() {
//!             return false;
//!         }
//!         let mut balances = self.balances.lock().unwrap();
//!         *balances.get_mut(&from).unwrap() -= amount;
//!         *balances.get_mut(&to).unwrap() += amount;
//!         true
//!     }
//! }
//!
//! let bank = Bank {
//!     locks: LockTable::new(),
//!     balances: Mutex::new(HashMap::from([(1, 100), (2, 0)])),
//! };
//! assert!(bank.transfer(1, 2, 30, || true));
//! assert!(!bank.transfer(2, 1, 31, || unreachable!("not covered")));
//! assert!(!bank.transfer(2, 1, 30, || false));
//! assert_eq!(*bank.balances.lock().unwrap(), HashMap::from([(1, 70), (2, 30)]));
//! ```
//!
//! # Choosing between the two
//! Use transactions if the transfer only changes memory and accounts are rarely contended. Use
//! locks if it calls another system, or if all transfers use the same few accounts.
//!
//! [`LockTable::lock_all`]: crate::LockTable::lock_all
//! [`Transaction::run_async`]: crate::Transaction::run_async
//! [`Transaction::try_run`]: crate::Transaction::try_run
//! [`Tx::or_else`]: crate::Tx::or_else
//! [`Tx::retry`]: crate::Tx::retry
