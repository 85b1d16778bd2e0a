//! A program to watch: transfers between few accounts, which wait, deadlock and conflict.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use latchwork::console::Console;
use latchwork::session::LockError;
use latchwork::table::IntegerHasher;
use latchwork::{LockTable, Mode, Transaction, VersionedCell, VersionedMap, snapshot};

type Accounts = LockTable<u64, IntegerHasher>;
type Stock = VersionedMap<&'static str, u64>;

/// The number of accounts: few, so that transfers meet.
const ACCOUNTS: u64 = 24;

/// Starts the threads of the load, which run until the process ends, and returns its console.
#[must_use]
pub fn start() -> Console {
    let accounts: Arc<Accounts> = Arc::new(
        LockTable::builder()
            .hasher(IntegerHasher::new())
            .key_labels(|id| format!("account {}", IntegerHasher::key_of(id)))
            .build(),
    );
    let balances: Arc<Vec<VersionedCell<i64>>> =
        Arc::new((0..ACCOUNTS).map(|_| VersionedCell::new(100)).collect());
    for number in 0..6 {
        let accounts = Arc::clone(&accounts);
        thread::spawn(move || transfers(&accounts, number));
    }
    for number in 0..2 {
        let accounts = Arc::clone(&accounts);
        thread::spawn(move || statements(&accounts, number));
    }
    for number in 0..3 {
        let balances = Arc::clone(&balances);
        thread::spawn(move || bookings(&balances, number));
    }
    let audited = Arc::clone(&balances);
    thread::spawn(move || audits(&audited));
    let stock: Arc<Stock> = Arc::default();
    for number in 0..2 {
        let stock = Arc::clone(&stock);
        thread::spawn(move || orders(&stock, number));
    }
    Console::new()
        .table("accounts", accounts)
        .map_with_labels("stock", stock, ToString::to_string)
        .show_names()
}

/// Locks of the keys of a map, and direct writes that wait for them.
fn orders(stock: &Stock, number: u64) {
    let mut dice = Dice::new(300 + number);
    loop {
        let article = ["apples", "pears", "plums"][(dice.next() % 3) as usize];
        let mut entry = stock.lock(&article);
        work(8_000);
        entry.set(entry.get().map_or(1, |left| left + 1));
        entry.commit();
        stock.update(article, |left| left + 1);
        work(4_000);
    }
}

/// Sessions that lock two accounts in no agreed order.
fn transfers(accounts: &Accounts, number: u64) {
    let mut dice = Dice::new(number);
    loop {
        let mut session = accounts.session().named(format!("transfer-{number}"));
        let [from, to] = [dice.account(), dice.account()];
        loop {
            let locked = session.lock(&from).and_then(|()| {
                work(4_000);
                session.lock(&to)
            });
            match locked {
                Ok(()) => break,
                Err(LockError::Deadlock(_)) => session.release_all(),
                Err(other) => unreachable!("the policy detects: {other}"),
            }
        }
        work(9_000);
        drop(session);
        work(2_000);
    }
}

/// Locks several accounts shared, all at once.
fn statements(accounts: &Accounts, number: u64) {
    let mut dice = Dice::new(100 + number);
    loop {
        let first = dice.account();
        let keys: Vec<u64> = (first..first + 4).map(|key| key % ACCOUNTS).collect();
        let set = accounts.lock_all(keys.iter().map(|key| (key, Mode::Shared)));
        work(15_000);
        drop(set);
        work(10_000);
    }
}

/// Transactions over two balances.
fn bookings(balances: &[VersionedCell<i64>], number: u64) {
    let transfer = Transaction::builder().label("transfer");
    let withdraw = Transaction::builder().label("withdraw");
    let mut dice = Dice::new(200 + number);
    loop {
        let [from, to] = [dice.account(), dice.account()].map(|key| &balances[key as usize]);
        if number == 2 {
            let _ = withdraw.try_run(|tx| {
                let left = *tx.read(from)?;
                if left < 20 {
                    return tx.abort("overdraft");
                }
                tx.update(from, |balance| balance - 20)?;
                tx.update(to, |balance| balance + 20)?;
                Ok(())
            });
        } else {
            let _ = transfer.run(|tx| {
                tx.update(from, |balance| balance - 1)?;
                work(50);
                tx.update(to, |balance| balance + 1)
            });
        }
        work(100);
    }
}

/// Snapshots that last, so that replaced values wait for them.
fn audits(balances: &[VersionedCell<i64>]) {
    loop {
        let total: i64 = snapshot(|s| {
            let first: i64 = balances.iter().map(|balance| *s.read(balance)).sum();
            work(60_000);
            first
        });
        assert_eq!(
            total,
            100 * ACCOUNTS as i64,
            "a transfer is in part visible"
        );
        work(40_000);
    }
}

fn work(micros: u64) {
    thread::sleep(Duration::from_micros(micros));
}

/// A generator of numbers, with low accounts more often.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Dice(0x9e37_79b9_7f4a_7c15 ^ seed.wrapping_mul(0x2545_f491_4f6c_dd1d))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn account(&mut self) -> u64 {
        (self.next() % ACCOUNTS).min(self.next() % ACCOUNTS)
    }
}
