//! A shop whose clerks reserve pieces by version, and whose customers wait for deliveries.
//!
//! `put_if` writes a key only if it has the version that the clerk has read. `transact` writes the
//! stock and the order together, or returns the reason for each condition that does not hold. A
//! customer reads the stock in a transaction, and `retry` sleeps until a delivery has changed it.
//! The shopkeeper counts in a `snapshot`, which delays no other thread.
//!
//! Run it with `cargo run --release --example inventory`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use latchwork::map::Reason;
use latchwork::{VersionedMap, atomically, snapshot};

const GOODS: [&str; 3] = ["apples", "pears", "plums"];
const STOCK: u64 = 1_000;
const CLERKS: u64 = 4;
const ORDERS: u64 = 500;
const CUSTOMERS: u64 = 2;
const VISITS: u64 = 300;

/// The stock of each good, and the orders by number, in one map.
type Shop = VersionedMap<String, u64>;

/// Reserves one piece under the number of an order, by the version that was read before. Returns
/// how often another clerk was faster.
fn reserve(shop: &Shop, good: &str, order: &str) -> u64 {
    let mut conflicts = 0;
    loop {
        let (left, version) = {
            let stock = shop.get(good).expect("each good has a stock");
            (*stock, stock.version())
        };
        let batch = shop
            .transact()
            .put_if(good.to_owned(), version, left - 1)
            .insert_if_absent(order.to_owned(), 1);
        let Err(cancelled) = batch.commit() else {
            return conflicts;
        };
        match &cancelled.reasons[..] {
            [Reason::VersionIs { .. }, Reason::Met] => conflicts += 1,
            other => panic!("no other clerk has this order number: {other:?}"),
        }
    }
}

/// Buys one piece, and waits for a delivery if there is none.
fn buy(shop: &Shop, good: &str, waits: &AtomicU64) {
    atomically(|tx| {
        let left = tx.get(shop, good)?.copied().unwrap_or(0);
        if left == 0 {
            waits.fetch_add(1, Ordering::Relaxed);
            return tx.retry();
        }
        tx.insert(shop, good.to_owned(), left - 1).map(drop)
    });
}

fn main() {
    let shop = Shop::new();
    for good in GOODS {
        shop.insert(good.to_owned(), STOCK);
    }

    let conflicts: u64 = thread::scope(|s| {
        let clerks: Vec<_> = (0..CLERKS)
            .map(|clerk| {
                let shop = &shop;
                s.spawn(move || {
                    let orders = (0..ORDERS).map(|n| {
                        let order = format!("order {clerk}-{n}");
                        reserve(shop, GOODS[(n % 3) as usize], &order)
                    });
                    orders.sum::<u64>()
                })
            })
            .collect();
        let conflicts = clerks
            .into_iter()
            .map(|clerk| clerk.join().expect("no clerk panics"));
        conflicts.sum()
    });

    // An order number that was given is refused, and so is a version that was read before.
    let refused = shop
        .transact()
        .insert_if_absent("order 0-0".to_owned(), 1)
        .check("order 9-9".to_owned(), None)
        .commit()
        .expect_err("the number was given");
    assert!(matches!(refused.reasons[..], [Reason::Exists, Reason::Met]));

    let orders = snapshot(|s| {
        s.iter(&shop)
            .filter(|(key, _)| key.starts_with("order"))
            .count()
    });
    assert_eq!(orders as u64, CLERKS * ORDERS);
    let left = |good: &str| shop.get(good).as_deref().copied().unwrap_or(0);
    let stock: u64 = GOODS.iter().map(|good| left(good)).sum();
    assert_eq!(stock + CLERKS * ORDERS, 3 * STOCK);

    // The rest is thrown away: the customers must wait for the deliveries.
    shop.remove("plums");
    let waits = AtomicU64::new(0);
    thread::scope(|s| {
        for _ in 0..CUSTOMERS {
            s.spawn(|| (0..VISITS).for_each(|_| buy(&shop, "plums", &waits)));
        }
        for _ in 0..CUSTOMERS * VISITS / 10 {
            // The draft is visible once it is committed, and customers wait as long as it is
            // locked.
            let mut plums = shop.lock("plums");
            plums.set(plums.get().copied().unwrap_or(0) + 10);
            plums.commit();
        }
    });
    assert_eq!(left("plums"), 0);

    println!("{:>7} orders, each with one piece", CLERKS * ORDERS);
    println!("{conflicts:>7} times another clerk was faster");
    println!("{:>7} plums were delivered and bought", CUSTOMERS * VISITS);
    println!("{:>7} times a customer waited", waits.into_inner());
    println!("refused: {refused}");
}
