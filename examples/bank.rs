//! A bank whose tellers wait for funds and whose auditor waits for nobody.
//!
//! What it teaches: `atomically` moves money as one step. A payment that is not covered ends in
//! `retry`, which sleeps until the account that it has read changes, and looks again. Meanwhile the
//! auditor adds up all accounts in a `snapshot`, which shows them at one moment: no payment is ever
//! half in it, and none is held up by it.
//!
//! Run it with `cargo run --release --example bank`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use latchwork::{VersionedCell, atomically, snapshot};

const PAYMENTS: u64 = 2_000;

/// All the money is in one account at first. The tellers of the others have to wait for it.
const FUNDS: [u64; 4] = [400, 0, 0, 0];
const TOTAL: u64 = 400;

/// Moves the amount once it is there. Returns how often it was not.
fn pay(from: &VersionedCell<u64>, to: &VersionedCell<u64>, amount: u64) -> u64 {
    let mut overdrafts = 0;
    atomically(|tx| {
        let Some(left) = tx.read(from)?.checked_sub(amount) else {
            overdrafts += 1;
            return tx.retry();
        };
        tx.set(from, left)?;
        tx.update(to, |funds| funds + amount)
    });
    overdrafts
}

fn main() {
    let accounts = FUNDS.map(VersionedCell::new);
    let total = || snapshot(|s| accounts.iter().map(|account| *s.read(account)).sum::<u64>());
    let open = AtomicBool::new(true);

    let (overdrafts, audits) = thread::scope(|s| {
        let auditor = s.spawn(|| {
            let mut audits = 0;
            loop {
                assert_eq!(total(), TOTAL, "no payment is half done");
                audits += 1;
                if !open.load(Ordering::Relaxed) {
                    return audits;
                }
            }
        });
        // In a circle, so that every account is paid from and into. The same amounts everywhere,
        // and none as large as a fair share: somebody can always pay.
        let tellers: [_; FUNDS.len()] = std::array::from_fn(|teller| {
            let (from, to) = (&accounts[teller], &accounts[(teller + 1) % accounts.len()]);
            s.spawn(move || {
                (0..PAYMENTS)
                    .map(|n| pay(from, to, 1 + n % 40))
                    .sum::<u64>()
            })
        });
        let overdrafts = tellers.map(|teller| teller.join().expect("no teller panics"));
        open.store(false, Ordering::Relaxed);
        let audits = auditor.join().expect("every audit was right");
        (overdrafts.iter().sum::<u64>(), audits)
    });

    println!("{:>7} payments", FUNDS.len() as u64 * PAYMENTS);
    println!("{overdrafts:>7} times the funds were waited for");
    println!("{audits:>7} audits found {TOTAL} in all");
    for (number, (account, before)) in accounts.iter().zip(FUNDS).enumerate() {
        println!("account {number} has {:>3} again", account.get());
        assert_eq!(account.get(), before, "as much was paid in as out");
    }
}
