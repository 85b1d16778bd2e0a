//! What bytes mean. Every input means something, and a byte more or less does not change what
//! stands before it, so that a fuzzer's small steps are small here too.

use arbitrary::{Arbitrary, Result, Unstructured};
use latchwork::{Fairness, Mode};

use crate::common::hashers::Place;
use crate::common::reference::{How, Op};

/// Most calls of one input. More find nothing that these do not, and cost time.
const MOST_OPS: usize = 200;
/// Most crowds of one input: each is slow, and two show what ten do.
const MOST_CROWDS: usize = 2;
/// Most keys of one set: past the eight that a set keeps inline.
const MOST_KEYS: u8 = 12;

pub(crate) struct Input {
    pub(crate) place: Place,
    pub(crate) fairness: Fairness,
    pub(crate) ops: Vec<Op>,
}

impl Input {
    pub(crate) fn decode(data: &[u8]) -> Self {
        let mut bytes = Unstructured::new(data);
        let place = place(&mut bytes).unwrap_or(Place::Identity);
        let fairness = match bool::arbitrary(&mut bytes) {
            Ok(true) => Fairness::Fifo,
            _ => Fairness::Eventual,
        };
        let (mut ops, mut crowds) = (Vec::new(), 0);
        while !bytes.is_empty() && ops.len() < MOST_OPS {
            let Ok(op) = op(&mut bytes) else { break };
            if matches!(op, Op::Crowd { .. }) {
                if crowds == MOST_CROWDS {
                    continue;
                }
                crowds += 1;
            }
            ops.push(op);
        }
        Self {
            place,
            fairness,
            ops,
        }
    }
}

pub(crate) fn place(bytes: &mut Unstructured<'_>) -> Result<Place> {
    let (kind, number) = (u8::arbitrary(bytes)?, u8::arbitrary(bytes)?);
    Ok(match kind % 4 {
        0 => Place::Above(10 + u32::from(number % 50)),
        1 => Place::Spread {
            shift: u32::from(number % 20),
            step: 3 + u32::from(number / 20 % 6),
        },
        2 => Place::Constant(u64::from(number).wrapping_mul(0x0101_0101_0101_0101)),
        _ => Place::Identity,
    })
}

fn op(bytes: &mut Unstructured<'_>) -> Result<Op> {
    let kind = u8::arbitrary(bytes)?;
    Ok(match kind % 16 {
        0..=3 => {
            let (key, mode) = key(bytes)?;
            Op::Try { key, mode }
        }
        4..=5 => {
            let (key, mode) = key(bytes)?;
            Op::Timed {
                key,
                mode,
                nanos: kind,
            }
        }
        6..=7 => {
            let (key, mode) = key(bytes)?;
            Op::Block { key, mode }
        }
        8 => Op::Crowd {
            key: key(bytes)?.0,
            count: u8::arbitrary(bytes)? % 140,
        },
        9 => many(How::Block, bytes)?,
        10 => many(How::Try, bytes)?,
        11 => many(How::Timed { nanos: kind }, bytes)?,
        12..=14 => Op::Unlock {
            guard: u8::arbitrary(bytes)?,
        },
        _ => Op::UnlockAll {
            newest_first: kind & 16 != 0,
        },
    })
}

fn many(how: How, bytes: &mut Unstructured<'_>) -> Result<Op> {
    let n = u8::arbitrary(bytes)? % (MOST_KEYS + 1);
    let keys = (0..n).map(|_| key(bytes)).collect::<Result<_>>()?;
    Ok(Op::Many { how, keys })
}

pub(crate) fn key(bytes: &mut Unstructured<'_>) -> Result<(u8, Mode)> {
    let byte = u8::arbitrary(bytes)?;
    let mode = if byte & 0x80 == 0 {
        Mode::Exclusive
    } else {
        Mode::Shared
    };
    Ok((byte & 0x7F, mode))
}
