//! The read and write sets of one piece of work, and how contenders with locks access them.

use smallvec::SmallVec;

use crate::skew::places;
use crate::workload::Rng;

/// Some accounts to read and some to change, in no order. No account is named twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// The accounts that are only read.
    pub reads: Vec<usize>,
    /// The accounts that are read and then written.
    pub writes: Vec<usize>,
}

impl Step {
    /// Reads these.
    #[must_use]
    pub fn reading(reads: impl Into<Vec<usize>>) -> Self {
        let (reads, writes) = (reads.into(), Vec::new());
        Self { reads, writes }
    }

    /// Writes these.
    #[must_use]
    pub fn writing(writes: impl Into<Vec<usize>>) -> Self {
        let (reads, writes) = (Vec::new(), writes.into());
        Self { reads, writes }
    }
}

/// How many accounts a loop of steps names before it starts again.
const NAMED: usize = 1 << 14;

/// Steps that each name `each` different accounts, drawn with the skew `theta`, a part of `written`
/// to be changed.
///
/// # Panics
/// If `accounts` is not a power of two, or is less than `each`.
#[must_use]
pub fn random_steps(
    accounts: usize,
    each: usize,
    written: f64,
    theta: f64,
    seed: u64,
) -> Vec<Step> {
    assert!(each <= accounts, "no account is named twice");
    let mut drawn = places(accounts, theta, seed);
    let mut coin = Rng::new(seed);
    let mut step = || {
        let mut named = Vec::with_capacity(each);
        let mut step = Step::default();
        while named.len() < each {
            let at = drawn.next().expect("places do not end");
            if named.contains(&at) {
                continue;
            }
            named.push(at);
            if coin.chance(written) {
                step.writes.push(at);
            } else {
                step.reads.push(at);
            }
        }
        step
    };
    (0..NAMED / each).map(|_| step()).collect()
}

/// Writes of two neighbours, which every other thread names the other way round.
#[must_use]
pub fn opposite_pairs(pairs: usize, thread: usize) -> Vec<Step> {
    let mut rng = Rng::new(thread as u64);
    let mut step = || {
        let first = 2 * (rng.next() % pairs as u64) as usize;
        let mut pair = [first, first + 1];
        pair.rotate_left(thread % 2);
        Step::writing(pair)
    };
    (0..NAMED / 2).map(|_| step()).collect()
}

/// As many as most steps have: more of them are on the heap.
pub(super) type Few<T> = SmallVec<[T; 16]>;

/// What `read` finds in each account to be written, unless it fails.
pub(super) fn gather<E>(
    step: &Step,
    mut read: impl FnMut(usize) -> Result<i64, E>,
) -> Result<Few<i64>, E> {
    step.writes.iter().map(|&at| read(at)).collect()
}

/// The purpose for which an account is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Access {
    Read,
    Write,
}

/// The accounts of `step` from the lowest, each with its access and its place among those of that
/// access.
pub(super) fn sorted(step: &Step) -> Few<(usize, Access, usize)> {
    let all = |of: &[usize], access| {
        let places = of.iter().enumerate();
        places
            .map(|(place, &at)| (at, access, place))
            .collect::<Few<_>>()
    };
    let mut order = all(&step.reads, Access::Read);
    order.extend(all(&step.writes, Access::Write));
    order.sort_unstable();
    order
}

/// Locks from the lowest account; the guards are those of what is read, and of what is written in
/// the order of `step`.
pub(super) fn in_order<G>(
    step: &Step,
    mut lock: impl FnMut(usize, Access) -> G,
) -> (Few<G>, Few<G>) {
    let mut reads = Few::new();
    let mut writes: Few<_> = step.writes.iter().map(|_| None).collect();
    for (at, access, place) in sorted(step) {
        let guard = lock(at, access);
        match access {
            Access::Read => reads.push(guard),
            Access::Write => writes[place] = Some(guard),
        }
    }
    let writes = writes.into_iter().flatten();
    (reads, writes.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_are_taken_from_the_lowest_and_handed_back_as_asked_for() {
        let step = Step {
            reads: vec![5, 2],
            writes: vec![9, 1, 4],
        };
        let mut taken = Vec::new();
        let (mut reads, writes) = in_order(&step, |at, access| {
            taken.push((at, access));
            at
        });
        reads.sort_unstable();
        let access = |(at, _)| match at {
            2 | 5 => (at, Access::Read),
            _ => (at, Access::Write),
        };
        let expected = [1, 2, 4, 5, 9].map(|at| access((at, ())));
        assert_eq!(taken, expected);
        assert_eq!((&reads[..], &writes[..]), (&[2, 5][..], &step.writes[..]));
    }

    #[test]
    fn steps_name_no_account_twice_and_write_their_part() {
        let steps = random_steps(64, 16, 0.25, 0.99, 3);
        let mut written = 0;
        for step in &steps {
            let mut named = [&step.reads[..], &step.writes[..]].concat();
            named.sort_unstable();
            named.dedup();
            assert_eq!(named.len(), 16);
            written += step.writes.len();
        }
        let part = written as f64 / (16 * steps.len()) as f64;
        assert!((0.2..0.3).contains(&part), "{part}");
    }

    #[test]
    fn every_other_thread_goes_the_other_way() {
        assert!(
            opposite_pairs(4, 0)
                .iter()
                .all(|step| step.writes[0] % 2 == 0)
        );
        assert!(
            opposite_pairs(4, 1)
                .iter()
                .all(|step| step.writes[0] % 2 == 1)
        );
    }
}
