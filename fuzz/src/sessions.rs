//! Sessions that lock, upgrade, go back, give up and go, against the reference lock manager of the
//! property tests.

use arbitrary::{Arbitrary, Result, Unstructured};
use latchwork::{Fairness, Mode};

use crate::actors::Do;
use crate::reference::{ACTORS, play};

/// Most orders of one input.
const MOST_ORDERS: usize = 150;
/// Few enough for circles.
const KEYS: u64 = 6;

/// How often the orders of some inputs came to what.
#[derive(Clone, Copy, Debug, Default)]
pub struct SessionTally {
    /// Who was told of a deadlock.
    pub victims: u64,
    /// Orders to somebody who waited.
    pub waits: u64,
}

impl SessionTally {
    /// Adds those of another input.
    pub fn add(&mut self, other: Self) {
        self.victims += other.victims;
        self.waits += other.waits;
    }
}

pub(crate) fn run(data: &[u8]) -> SessionTally {
    let mut bytes = Unstructured::new(data);
    let head = u8::arbitrary(&mut bytes).unwrap_or(0);
    let fairness = [Fairness::Eventual, Fairness::Fifo][usize::from(head & 1)];
    let mut orders = Vec::new();
    while !bytes.is_empty() && orders.len() < MOST_ORDERS {
        let Ok(next) = order(&mut bytes) else { break };
        orders.push(next);
    }
    let (victims, waits) = play(fairness, &orders, usize::from(head >> 1) % 8);
    SessionTally {
        victims: victims as u64,
        waits: waits as u64,
    }
}

/// Who, and what: two bytes.
fn order(bytes: &mut Unstructured<'_>) -> Result<(usize, Do)> {
    let (what, key) = (u8::arbitrary(bytes)?, u8::arbitrary(bytes)?);
    let who = usize::from(key >> 3) % ACTORS;
    let key = u64::from(key & 7) % KEYS;
    let order = match what % 16 {
        0..=4 => Do::Lock(key),
        5..=9 => Do::Shared(key),
        10 => Do::Glance(key, Mode::Exclusive),
        11 => Do::Glance(key, Mode::Shared),
        12 => Do::Unlock(key),
        13 => Do::Savepoint,
        14 => Do::Rollback(key as usize % 3),
        _ => Do::ReleaseAll,
    };
    Ok((who, order))
}
