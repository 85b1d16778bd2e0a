//! What bytes mean to [`tasks`](super).

use arbitrary::{Arbitrary, Result, Unstructured};
use latchwork::{Fairness, Mode};

use crate::common::hashers::Place;
use crate::input::{key, place};

/// Most calls of one input.
const MOST_OPS: usize = 250;
/// Keys of one set: past the eight that a set keeps inline.
const MOST_KEYS: usize = 10;

/// Keys, each with its mode; only the first `len` count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Several {
    keys: [(u8, Mode); MOST_KEYS],
    len: usize,
}

impl Several {
    pub(super) fn iter(&self) -> impl Iterator<Item = (u8, Mode)> {
        self.keys[..self.len].iter().copied()
    }
}

/// One call. Guards and futures are taken modulo what there is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    /// Makes a future of one key, and polls it unless it is to be `lazy`.
    Start {
        key: (u8, Mode),
        owned: bool,
        lazy: bool,
    },
    StartAll {
        keys: Several,
        owned: bool,
    },
    Poll {
        future: u8,
    },
    Cancel {
        future: u8,
    },
    Try {
        key: (u8, Mode),
        owned: bool,
    },
    /// Waits a little, in vain if the key is not to be had.
    Timed {
        key: (u8, Mode),
    },
    /// Blocks, where the model says that it does not.
    Block {
        key: (u8, Mode),
        owned: bool,
    },
    TryAll {
        keys: Several,
        how: HowAll,
    },
    /// So many shared holds at once: past what a slot counts by itself.
    Crowd {
        key: u8,
        count: u8,
    },
    Unlock {
        guard: u8,
        how: HowUnlock,
    },
    /// Gives one key of a set back.
    UnlockOne {
        guard: u8,
        key: u8,
    },
    Downgrade {
        guard: u8,
    },
    Upgrade {
        guard: u8,
    },
    Token {
        guard: u8,
    },
}

#[derive(Clone, Copy, Debug)]
pub(super) enum HowAll {
    Try,
    Timed,
    Block,
    BlockOwned,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum HowUnlock {
    Plain,
    Fair,
    /// To whoever waits, and back; does nothing while nobody does.
    Bump,
    /// Never.
    Forget,
}

pub(super) struct Input {
    pub(super) place: Place,
    pub(super) fairness: Fairness,
    pub(super) ops: Vec<Op>,
}

impl Input {
    pub(super) fn decode(data: &[u8]) -> Self {
        let mut bytes = Unstructured::new(data);
        let place = place(&mut bytes).unwrap_or(Place::Identity);
        let fairness = match bool::arbitrary(&mut bytes) {
            Ok(true) => Fairness::Fifo,
            _ => Fairness::Eventual,
        };
        let mut ops = Vec::new();
        while !bytes.is_empty() && ops.len() < MOST_OPS {
            let Ok(op) = op(&mut bytes) else { break };
            ops.push(op);
        }
        Self {
            place,
            fairness,
            ops,
        }
    }
}

fn op(bytes: &mut Unstructured<'_>) -> Result<Op> {
    let kind = u8::arbitrary(bytes)?;
    let (kind, flag, other) = (kind & 31, kind & 32 != 0, kind & 64 != 0);
    let mut number = || u8::arbitrary(bytes);
    Ok(match kind {
        0..=6 => Op::Start {
            key: key(bytes)?,
            owned: flag,
            lazy: other,
        },
        7 | 8 => Op::StartAll {
            keys: several(bytes)?,
            owned: flag,
        },
        9..=13 => Op::Poll { future: number()? },
        14 | 15 => Op::Cancel { future: number()? },
        16 | 17 => Op::Try {
            key: key(bytes)?,
            owned: flag,
        },
        18 => Op::Timed { key: key(bytes)? },
        19 => Op::Block {
            key: key(bytes)?,
            owned: flag,
        },
        20 | 21 => Op::TryAll {
            keys: several(bytes)?,
            how: match (flag, other) {
                (false, false) => HowAll::Try,
                (false, true) => HowAll::Timed,
                (true, false) => HowAll::Block,
                (true, true) => HowAll::BlockOwned,
            },
        },
        22 => Op::Crowd {
            key: number()?,
            count: number()?,
        },
        23..=26 => Op::Unlock {
            guard: number()?,
            how: match (flag, other, kind) {
                (false, ..) => HowUnlock::Plain,
                (true, false, _) => HowUnlock::Fair,
                (true, true, 23) => HowUnlock::Forget,
                (true, true, _) => HowUnlock::Bump,
            },
        },
        27 => Op::UnlockOne {
            guard: number()?,
            key: number()?,
        },
        28 => Op::Downgrade { guard: number()? },
        29 | 30 => Op::Upgrade { guard: number()? },
        _ => Op::Token { guard: number()? },
    })
}

fn several(bytes: &mut Unstructured<'_>) -> Result<Several> {
    let len = usize::from(u8::arbitrary(bytes)?) % (MOST_KEYS + 1);
    let mut keys = [(0, Mode::Shared); MOST_KEYS];
    for each in &mut keys[..len] {
        *each = key(bytes)?;
    }
    Ok(Several { keys, len })
}
