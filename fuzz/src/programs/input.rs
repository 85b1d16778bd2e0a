//! What bytes mean to [`programs`](super).

use arbitrary::{Arbitrary, Result, Unstructured};

use super::world::CELLS;

/// Most steps of one input, those inside others included.
const MOST_STEPS: usize = 200;
/// How deep programs lie within each other.
const MOST_NESTED: usize = 6;

/// What there is more of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bias {
    Transactions,
    Snapshots,
}

/// A call of its own.
#[derive(Debug)]
pub(super) enum Op {
    Set(usize),
    Swap(usize),
    /// A conditional write that expects the version which lies so far behind the current one.
    Compare(usize, u64),
    Update(usize),
    /// Runs the others while a view is open.
    Versioned(Vec<Op>),
    Transaction(Program),
    /// Makes a future of a transaction and polls it. Only outside everything else, as the next two.
    Start(Program),
    Poll(u8),
    Drop(u8),
    Flush,
}

#[derive(Debug)]
pub(super) struct Program {
    pub(super) steps: Vec<Step>,
    /// No limit if it is 0.
    pub(super) most_attempts: u32,
}

/// What a closure does with its transaction.
#[derive(Debug)]
pub(super) enum Step {
    Read(usize),
    ReadAll,
    Set(usize),
    Update(usize),
    Version(usize),
    /// Whether the cell has the version which lies so far behind the current one.
    Check(usize, u64),
    OrElse(Vec<Step>, Vec<Step>),
    Retry,
    /// Goes on as if the `Abort` were nothing.
    RetryIgnored,
    /// A `Retry` unless the cell has been written since the program began.
    Wait(usize),
    Abort,
    Panic,
    /// Something else in the first so many attempts, as another thread might do it meanwhile.
    Outside(u32, Vec<Op>),
}

pub(super) fn decode(data: &[u8], bias: Bias) -> Vec<Op> {
    let mut decoder = Decoder {
        bytes: Unstructured::new(data),
        left: MOST_STEPS,
        bias,
    };
    let mut ops = Vec::new();
    while let Ok(op) = decoder.op(0) {
        ops.push(op);
    }
    ops
}

struct Decoder<'b> {
    bytes: Unstructured<'b>,
    left: usize,
    bias: Bias,
}

impl Decoder<'_> {
    fn number(&mut self) -> Result<u8> {
        if self.bytes.is_empty() {
            return Err(arbitrary::Error::NotEnoughData);
        }
        u8::arbitrary(&mut self.bytes)
    }

    /// One step less is left.
    fn kind(&mut self) -> Result<u8> {
        self.left = self
            .left
            .checked_sub(1)
            .ok_or(arbitrary::Error::NotEnoughData)?;
        self.number()
    }

    /// A cell, one of the first few more often than another, and what is left of the number.
    fn cell(&mut self) -> Result<(usize, u8)> {
        let number = self.number()?;
        let cell = usize::from(number % 60);
        let cell = if cell < CELLS { cell } else { cell % 3 };
        Ok((cell, number / 60))
    }

    /// As many as a number says and there are bytes for.
    fn several<T>(
        &mut self,
        most: u8,
        mut one: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        let len = self.number()? % (most + 1);
        Ok((0..len).map_while(|_| one(self).ok()).collect())
    }

    fn op(&mut self, depth: usize) -> Result<Op> {
        let kind = self.kind()? % 16;
        let nests = depth < MOST_NESTED;
        Ok(match (kind, self.bias) {
            (0, _) => Op::Swap(self.cell()?.0),
            (1, _) => {
                let (cell, behind) = self.cell()?;
                Op::Compare(cell, u64::from(behind % 3))
            }
            (2, _) => Op::Update(self.cell()?.0),
            (3, _) | (4..=7, Bias::Snapshots) if nests => {
                Op::Versioned(self.several(8, |d| d.op(depth + 1))?)
            }
            (4..=8, _) if nests => Op::Transaction(self.program(depth + 1)?),
            (9 | 10, _) if depth == 0 => Op::Start(self.program(1)?),
            (11 | 12, _) if depth == 0 => Op::Poll(self.number()?),
            (13, _) if depth == 0 => Op::Drop(self.number()?),
            (14, _) => Op::Flush,
            _ => Op::Set(self.cell()?.0),
        })
    }

    fn program(&mut self, depth: usize) -> Result<Program> {
        let most_attempts = match self.number()? % 16 {
            limit @ 1..=6 => u32::from(limit),
            _ => 0,
        };
        Ok(Program {
            most_attempts,
            steps: self.several(12, |d| d.step(depth))?,
        })
    }

    fn step(&mut self, depth: usize) -> Result<Step> {
        let kind = self.kind()? % 32;
        let nests = depth < MOST_NESTED;
        Ok(match kind {
            0..=5 => Step::Read(self.cell()?.0),
            6 => Step::ReadAll,
            7..=11 => Step::Set(self.cell()?.0),
            12..=15 => Step::Update(self.cell()?.0),
            16 | 17 => Step::Version(self.cell()?.0),
            18 | 19 => {
                let (cell, behind) = self.cell()?;
                Step::Check(cell, u64::from(behind % 3))
            }
            20 | 21 if nests => {
                let first = self.several(6, |d| d.step(depth + 1))?;
                Step::OrElse(first, self.several(6, |d| d.step(depth + 1))?)
            }
            22 => Step::Retry,
            23 => Step::RetryIgnored,
            24 | 25 => Step::Wait(self.cell()?.0),
            26 => Step::Abort,
            27 => Step::Panic,
            _ if nests => {
                let attempts = u32::from(self.number()? % 11);
                Step::Outside(attempts, self.several(5, |d| d.op(depth + 1))?)
            }
            _ => Step::ReadAll,
        })
    }
}
