//! Requests to the engine while threads of one process wait for each other.

use std::thread;
use std::time::Duration;

use latchwork_lease::Leases;
use latchwork_lease::memory::MemoryEngine;

use super::Question;
use crate::counting::Counting;
use crate::row::{Row, Target};

pub(crate) const QUESTION: Question = Question {
    title: "Waiting inside the process",
    method: "Eight threads of one process acquire one name. An engine that counts its requests \
             wraps the one in memory. The first row counts those of 100 ms in which one thread \
             holds the lease and seven wait.",
    syncs: false,
    ask,
};

const TTL: Duration = Duration::from_secs(10);
const WAITERS: u64 = 7;

fn ask() -> Vec<Row> {
    let (engine, calls) = Counting::new(MemoryEngine::new());
    let leases = Leases::new(engine);
    let lease = leases.acquire("one", TTL).unwrap();
    let (while_held, in_all) = thread::scope(|scope| {
        let before = calls.all();
        for _ in 0..WAITERS {
            scope.spawn(|| leases.acquire("one", TTL).unwrap().release().unwrap());
        }
        thread::sleep(Duration::from_millis(100));
        let while_held = calls.all() - before;
        lease.release().unwrap();
        (while_held, before)
    });
    // The first request of the holder is not one of a waiter; its release is.
    let in_all = (calls.all() - in_all - 1) as f64 / WAITERS as f64;
    vec![
        Row::alone("requests while another thread holds", while_held as f64, "")
            .target(Target::AtMost(0.0)),
        Row::alone("requests an acquisition and release", in_all, "").target(Target::AtMost(2.0)),
    ]
}
