//! Leases over the engine `memory:`.

use std::thread;
use std::time::{Duration, Instant};

use latchwork_lease::memory::MemoryEngine;
use latchwork_lease::{Leases, LossReason, Release};

const SHORT: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_lease_is_renewed_until_it_is_released() {
    let engine = MemoryEngine::new();
    let (one, two) = (Leases::new(engine.clone()), Leases::new(engine));
    let lease = one.acquire("a", SHORT).unwrap();
    let start = Instant::now();
    while start.elapsed() < 4 * SHORT {
        assert!(lease.is_held());
        assert!(two.try_acquire("a", SHORT).unwrap().is_none());
        thread::sleep(SHORT / 8);
    }
    let token = lease.token();
    assert_eq!(lease.release().unwrap(), Release::Done);
    let next = two.acquire("a", LONG).unwrap();
    assert!(next.token() > token);
    assert_eq!(next.wait_lost_for(Duration::ZERO), None);
}

#[test]
fn a_dropped_lease_is_released_in_the_background() {
    let engine = MemoryEngine::new();
    let (one, two) = (Leases::new(engine.clone()), Leases::new(engine));
    let lease = one.acquire("a", LONG).unwrap();
    let lost = lease.lost();
    drop(one);
    drop(lease);
    assert_eq!(pollster::block_on(lost), LossReason::Released);
    // Far less than the length of the lease.
    let start = Instant::now();
    drop(two.acquire("a", LONG).unwrap());
    assert!(start.elapsed() < LONG / 2);
}
