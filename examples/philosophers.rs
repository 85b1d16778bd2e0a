//! Dining philosophers, without an order of the forks, a waiter, or a deadlock.
//!
//! What it teaches: both forks are taken in one transaction, or neither is. Nobody holds one fork
//! while waiting for the other, which is all that a deadlock needs, and so there is no order to
//! agree on. `retry` sleeps until one of the two forks changes.
//!
//! Run it with `cargo run --release --example philosophers`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use latchwork::{VersionedCell, atomically};

const NAMES: [&str; 5] = ["Arendt", "Bacon", "Camus", "Diotima", "Epictetus"];
const MEALS: usize = 1_000;

/// A fork knows who has it.
type Fork = VersionedCell<Option<&'static str>>;

fn take(name: &'static str, left: &Fork, right: &Fork) {
    atomically(|tx| {
        if tx.read(left)?.is_some() || tx.read(right)?.is_some() {
            return tx.retry();
        }
        tx.set(left, Some(name))?;
        tx.set(right, Some(name))
    });
}

fn put_back(name: &'static str, left: &Fork, right: &Fork) {
    for fork in [left, right] {
        assert_eq!(
            *fork.read(),
            Some(name),
            "nobody takes a fork from somebody"
        );
    }
    atomically(|tx| {
        tx.set(left, None)?;
        tx.set(right, None)
    });
}

fn main() {
    let forks = NAMES.map(|_| Fork::new(None));
    let (at_table, most_at_table) = (AtomicUsize::new(0), AtomicUsize::new(0));

    thread::scope(|s| {
        for (seat, name) in NAMES.into_iter().enumerate() {
            let (left, right) = (&forks[seat], &forks[(seat + 1) % forks.len()]);
            let (at_table, most_at_table) = (&at_table, &most_at_table);
            s.spawn(move || {
                for _ in 0..MEALS {
                    take(name, left, right);
                    let eating = at_table.fetch_add(1, Ordering::Relaxed) + 1;
                    most_at_table.fetch_max(eating, Ordering::Relaxed);
                    // The others come and find the forks gone.
                    thread::yield_now();
                    at_table.fetch_sub(1, Ordering::Relaxed);
                    put_back(name, left, right);
                }
                println!("{name} has eaten {MEALS} times");
            });
        }
    });

    let most = most_at_table.into_inner();
    println!(
        "at most {most} ate at once, of {} with as many forks",
        NAMES.len()
    );
    assert!(most <= NAMES.len() / 2, "each has two forks");
    assert!(
        forks.iter().all(|fork| fork.read().is_none()),
        "all forks are back"
    );
}
