//! What a key, a cell and a latch may do, as the contract says it.

use latchwork::Mode;

use super::linear::{Call, Object};

/// A cell whose values are numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Register {
    pub version: u64,
    pub value: u64,
}

/// A call of a cell, with what it has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CellOp {
    Read(Register),
    Version(u64),
    /// The version that it has made of the value.
    Set(Register),
    /// What was there, and the value that came instead.
    Swap(Register, u64),
    /// The value that the closure saw, and what came of it.
    Update(u64, Register),
    /// The version expected, the value, and the version made or found.
    CompareAndSet(u64, u64, Result<u64, u64>),
    /// Another version than this one was waited for, and came.
    Changed(u64, u64),
}

impl Object for Register {
    type Op = CellOp;

    fn step(&self, op: &CellOp) -> Option<Self> {
        let next = |value| Register {
            version: self.version + 1,
            value,
        };
        let (may, then) = match *op {
            CellOp::Read(seen) => (seen == *self, *self),
            CellOp::Version(seen) => (seen == self.version, *self),
            CellOp::Set(made) => (made == next(made.value), made),
            CellOp::Swap(old, value) => (old == *self, next(value)),
            CellOp::Update(old, made) => (old == self.value && made == next(made.value), made),
            CellOp::CompareAndSet(expected, value, Ok(made)) => (
                expected == self.version && made == expected + 1,
                next(value),
            ),
            CellOp::CompareAndSet(expected, _, Err(found)) => {
                (found == self.version && found != expected, *self)
            }
            CellOp::Changed(since, now) => (now == self.version && now != since, *self),
        };
        may.then_some(then)
    }
}

/// One key of a lock table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Lock {
    pub writer: bool,
    pub readers: u32,
    /// The last token that was taken.
    pub token: u64,
}

/// A call for one key, with what it has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LockOp {
    Lock(Mode),
    Unlock(Mode),
    /// A try that was not granted.
    Refused(Mode),
    /// A timed lock that was not granted: it may have stood in the queue for a while.
    TimedOut(Mode),
    /// A set or a task that has given up: it may have held this key for a while.
    Passing(Mode),
    Downgrade,
    Upgrade(bool),
    Token(u64),
    /// What says nothing; see [`excuse`].
    Nothing,
}

impl Object for Lock {
    type Op = LockOp;

    fn step(&self, op: &LockOp) -> Option<Self> {
        use Mode::{Exclusive, Shared};
        let Lock {
            writer,
            readers,
            token,
        } = *self;
        let to = |writer, readers| Lock {
            writer,
            readers,
            token,
        };
        let free = !writer && readers == 0;
        match *op {
            LockOp::Lock(Exclusive) => free.then(|| to(true, 0)),
            LockOp::Lock(Shared) => (!writer).then(|| to(false, readers + 1)),
            LockOp::Unlock(Exclusive) => writer.then(|| to(false, readers)),
            LockOp::Unlock(Shared) => (readers > 0).then(|| to(writer, readers - 1)),
            LockOp::Refused(Exclusive) | LockOp::TimedOut(Exclusive) => (!free).then_some(*self),
            LockOp::Refused(Shared) | LockOp::TimedOut(Shared) => writer.then_some(*self),
            LockOp::Downgrade => (writer && readers == 0).then(|| to(false, 1)),
            LockOp::Upgrade(true) => (!writer && readers == 1).then(|| to(true, 0)),
            LockOp::Upgrade(false) => (readers > 1).then_some(*self),
            LockOp::Token(taken) => (writer && taken > token).then_some(Lock {
                token: taken,
                ..*self
            }),
            LockOp::Passing(_) | LockOp::Nothing => Some(*self),
        }
    }
}

/// Makes nothing of refusals that have a reason which the state of the key does not show: a reader
/// stands back for a writer that is queued, or a reader that is to be alone, and what passes by may
/// be in the way.
pub fn excuse(calls: &mut [Call<LockOp>]) {
    use LockOp::{Lock, Passing, Refused, TimedOut, Upgrade};
    use Mode::{Exclusive, Shared};
    let is_reason = |refused: LockOp, other: LockOp| {
        matches!(
            (refused, other),
            (
                Refused(Shared) | TimedOut(Shared),
                Lock(Exclusive) | TimedOut(Exclusive) | Passing(Exclusive) | Upgrade(true),
            ) | (Refused(Exclusive) | TimedOut(Exclusive), Passing(_))
                | (Upgrade(false), Passing(Shared))
        )
    };
    let is_excused = |call: &Call<LockOp>| {
        let mut others = calls.iter();
        others.any(|other| {
            let both = other.began <= call.ended && call.began <= other.ended;
            both && is_reason(call.op, other.op)
        })
    };
    let excused: Vec<bool> = calls.iter().map(is_excused).collect();
    for (call, _) in calls
        .iter_mut()
        .zip(excused)
        .filter(|(_, excused)| *excused)
    {
        call.op = LockOp::Nothing;
    }
}

/// A latch on a number, which has two halves so that one that is torn shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Page {
    pub number: u64,
    pub obsolete: bool,
}

/// A call of a latch, with what it has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PageOp {
    /// Both halves.
    Read(u64, u64),
    /// Both halves, and the number that was put there.
    Write([u64; 2], u64),
    /// Both halves, the last that were ever there.
    Retire([u64; 2]),
    /// It was told that the latch is obsolete.
    Gone,
}

impl Object for Page {
    type Op = PageOp;

    fn step(&self, op: &PageOp) -> Option<Self> {
        let is_all = |halves: [u64; 2]| !self.obsolete && halves == [self.number; 2];
        match *op {
            PageOp::Read(first, second) => is_all([first, second]).then_some(*self),
            PageOp::Write(old, number) => is_all(old).then_some(Page { number, ..*self }),
            PageOp::Retire(last) => is_all(last).then_some(Page {
                obsolete: true,
                ..*self
            }),
            PageOp::Gone => self.obsolete.then_some(*self),
        }
    }
}
