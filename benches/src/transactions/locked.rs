//! Accounts behind locks: one for all of them, one for each, and one for each that is asked for by
//! key.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicI64, Ordering};

use happylock::{LockCollection, ThreadKey};
use latchwork::{LockTable, Mode};
use lockmap::{Entry, LockMap};
use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::step::{Access, Few, gather, in_order};
use super::{Bank, FUNDS, Step};
use crate::peers::STRIPES;

/// Sums the accounts that are read and changes those that are written, all of them locked.
pub(super) fn work<G: Deref<Target = i64>, W: Deref<Target = i64> + DerefMut>(
    reads: &[G],
    writes: &mut [W],
    change: impl Fn(&mut [i64]),
) -> i64 {
    let mut funds: Few<i64> = writes.iter().map(|funds| **funds).collect();
    change(&mut funds);
    for (place, funds) in writes.iter_mut().zip(funds) {
        **place = funds;
    }
    reads.iter().map(|funds| **funds).sum()
}

/// One mutex for all accounts.
#[derive(Debug)]
pub struct Global(Mutex<Box<[i64]>>);

impl Bank for Global {
    fn new(accounts: usize) -> Self {
        Self(Mutex::new(vec![FUNDS; accounts].into()))
    }

    fn step(&self, step: &Step, change: impl Fn(&mut [i64])) -> i64 {
        let mut all = self.0.lock();
        let Ok(mut funds) = gather(step, |at| Ok::<_, Infallible>(all[at]));
        change(&mut funds);
        for (&at, funds) in step.writes.iter().zip(funds) {
            all[at] = funds;
        }
        step.reads.iter().map(|&at| all[at]).sum()
    }

    fn total(&self) -> i64 {
        self.0.lock().iter().sum()
    }
}

/// Accounts that nothing protects but locks which lie elsewhere.
#[derive(Debug)]
// Atomic so that no `unsafe` is needed; each is read and written in two steps.
struct Beside(Box<[AtomicI64]>);

impl Beside {
    fn new(accounts: usize) -> Self {
        Self((0..accounts).map(|_| AtomicI64::new(FUNDS)).collect())
    }

    fn get(&self, at: usize) -> i64 {
        // Relaxed: the locks order it.
        self.0[at].load(Ordering::Relaxed)
    }

    /// A step, all of whose accounts the caller has locked.
    fn step(&self, step: &Step, change: impl Fn(&mut [i64])) -> i64 {
        let Ok(mut funds) = gather(step, |at| Ok::<_, Infallible>(self.get(at)));
        change(&mut funds);
        for (&at, funds) in step.writes.iter().zip(funds) {
            // Relaxed: as in `get`.
            self.0[at].store(funds, Ordering::Relaxed);
        }
        step.reads.iter().map(|&at| self.get(at)).sum()
    }

    /// The sum of all, which the caller has locked.
    fn total(&self) -> i64 {
        (0..self.0.len()).map(|at| self.get(at)).sum()
    }
}

/// A mutex for each [`STRIPES`]th of the accounts, locked in order.
#[derive(Debug)]
pub struct Striped {
    stripes: Box<[Mutex<()>]>,
    funds: Beside,
}

impl Bank for Striped {
    fn new(accounts: usize) -> Self {
        Self {
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            funds: Beside::new(accounts),
        }
    }

    fn step(&self, step: &Step, change: impl Fn(&mut [i64])) -> i64 {
        let named = step.reads.iter().chain(&step.writes);
        let mut stripes: Few<usize> = named.map(|at| at % STRIPES).collect();
        stripes.sort_unstable();
        stripes.dedup();
        let _locked: Few<_> = stripes.iter().map(|&at| self.stripes[at].lock()).collect();
        self.funds.step(step, change)
    }

    fn total(&self) -> i64 {
        let _locked: Vec<_> = self.stripes.iter().map(|stripe| stripe.lock()).collect();
        self.funds.total()
    }
}

/// A reader-writer lock for each account. A thread that needs several locks them in the order of
/// the accounts.
#[derive(Debug)]
pub struct OrderedRw(Box<[RwLock<i64>]>);

/// One of the accounts locked.
enum Locked<'a> {
    Read(RwLockReadGuard<'a, i64>),
    Write(RwLockWriteGuard<'a, i64>),
}

impl Deref for Locked<'_> {
    type Target = i64;

    fn deref(&self) -> &i64 {
        match self {
            Self::Read(guard) => guard,
            Self::Write(guard) => guard,
        }
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut i64 {
        match self {
            Self::Read(_) => unreachable!("only what is locked for it is written"),
            Self::Write(guard) => guard,
        }
    }
}

impl Bank for OrderedRw {
    fn new(accounts: usize) -> Self {
        Self((0..accounts).map(|_| RwLock::new(FUNDS)).collect())
    }

    fn step(&self, step: &Step, change: impl Fn(&mut [i64])) -> i64 {
        let (reads, mut writes) = in_order(step, |at, access| match access {
            Access::Read => Locked::Read(self.0[at].read()),
            Access::Write => Locked::Write(self.0[at].write()),
        });
        work(&reads, &mut writes, change)
    }

    fn total(&self) -> i64 {
        let locked: Vec<_> = self.0.iter().map(|account| account.read()).collect();
        locked.iter().map(|funds| **funds).sum()
    }
}

/// A [`LockTable`] beside the accounts, by `lock_all`.
#[derive(Debug)]
pub struct ByTable {
    locks: LockTable<usize>,
    funds: Beside,
}

impl Bank for ByTable {
    fn new(accounts: usize) -> Self {
        Self {
            locks: LockTable::new(),
            funds: Beside::new(accounts),
        }
    }

    fn step(&self, step: &Step, change: impl Fn(&mut [i64])) -> i64 {
        let reads = step.reads.iter().map(|at| (at, Mode::Shared));
        let writes = step.writes.iter().map(|at| (at, Mode::Exclusive));
        let _set = self.locks.lock_all(reads.chain(writes));
        self.funds.step(step, change)
    }

    fn total(&self) -> i64 {
        let all: Vec<usize> = (0..self.funds.0.len()).collect();
        let _set = self.locks.lock_all(all.iter().map(|at| (at, Mode::Shared)));
        self.funds.total()
    }
}

/// `lockmap` with the accounts in it, by `batch_lock`. It has no shared mode.
#[derive(Debug)]
pub struct ByLockmap(LockMap<usize, i64>, usize);

type Entries<'a> = Vec<(usize, Entry<'a, usize, i64>)>;

impl ByLockmap {
    fn lock(&self, accounts: impl Iterator<Item = usize>) -> Entries<'_> {
        self.0.batch_lock(accounts.collect::<BTreeSet<_>>())
    }

    fn of<'a, 'm>(entries: &'a mut Entries<'m>, at: usize) -> &'a mut i64 {
        let place = entries.binary_search_by_key(&at, |entry| entry.0);
        let place = place.expect("all of the step are locked, the lowest first");
        entries[place].1.or_insert(FUNDS)
    }
}

impl Bank for ByLockmap {
    fn new(accounts: usize) -> Self {
        let map = LockMap::with_capacity(accounts);
        for at in 0..accounts {
            map.insert(at, FUNDS);
        }
        Self(map, accounts)
    }

    fn step(&self, step: &Step, change: impl Fn(&mut [i64])) -> i64 {
        let mut entries = self.lock(step.reads.iter().chain(&step.writes).copied());
        entries.sort_unstable_by_key(|entry| entry.0);
        let Ok(mut funds) = gather(step, |at| Ok::<_, Infallible>(*Self::of(&mut entries, at)));
        change(&mut funds);
        for (&at, funds) in step.writes.iter().zip(funds) {
            *Self::of(&mut entries, at) = funds;
        }
        let reads = step.reads.iter();
        reads.map(|&at| *Self::of(&mut entries, at)).sum()
    }

    fn total(&self) -> i64 {
        let mut entries = self.lock(0..self.1);
        entries
            .iter_mut()
            .map(|(_, entry)| *entry.or_insert(FUNDS))
            .sum()
    }
}

/// `happylock`: a mutex for each account, and a collection for those of one step, which sorts them
/// by address.
#[derive(Debug)]
pub struct Happy(LockCollection<Box<[happylock::Mutex<i64>]>>);

/// The key that shows that this thread has no lock.
fn key() -> ThreadKey {
    ThreadKey::get().expect("this thread has no lock")
}

impl Bank for Happy {
    fn new(accounts: usize) -> Self {
        let accounts = (0..accounts).map(|_| happylock::Mutex::new(FUNDS));
        Self(LockCollection::new(accounts.collect()))
    }

    fn step(&self, step: &Step, change: impl Fn(&mut [i64])) -> i64 {
        let accounts = step.writes.iter().chain(&step.reads);
        let accounts: Vec<_> = accounts.map(|&at| &self.0.child()[at]).collect();
        let accounts = LockCollection::try_new(accounts).expect("no account is named twice");
        let mut locked = accounts.lock(key());
        let (writes, reads) = locked.split_at_mut(step.writes.len());
        work(reads, writes, change)
    }

    fn total(&self) -> i64 {
        self.0.lock(key()).iter().map(|funds| **funds).sum()
    }
}
