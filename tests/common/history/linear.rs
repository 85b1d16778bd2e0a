//! Whether the calls of one object can have taken effect one after the other, each while it ran.
//!
//! The search of Wing and Gong ("Testing and verifying concurrent objects", 1993): take any call
//! that no other had ended before, if the object can do it, and go on with the rest; where nothing
//! can be taken, take another one before. Lowe ("Testing for linearizability", 2017) remembers
//! where it has been. The calls of one thread do not overlap, so that a place is how many calls of
//! each thread were taken, and the object's state.

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;

/// What an object may do: its state, and what becomes of it.
pub trait Object: Clone + Debug + Eq + Hash {
    type Op: Clone + Debug;

    /// The state after the call, if it may return in this one what it has returned.
    fn step(&self, op: &Self::Op) -> Option<Self>;
}

/// A call that has returned.
#[derive(Clone, Debug)]
pub struct Call<Op> {
    pub thread: usize,
    pub began: u64,
    pub ended: u64,
    pub op: Op,
}

/// How many places the search has been to.
///
/// # Errors
/// If there is no order: how far the search has come, and what could not be next.
pub fn linearise<S: Object>(start: S, calls: &[Call<S::Op>]) -> Result<usize, String> {
    let threads = by_thread(calls)?;
    let mut been = HashSet::new();
    let mut next = vec![(vec![0_usize; threads.len()], start)];
    // How many calls were taken on the way that came furthest, and where it ended.
    let mut furthest: Option<(usize, Vec<usize>, S)> = None;
    while let Some((taken, state)) = next.pop() {
        if !been.insert((taken.clone(), state.clone())) {
            continue;
        }
        let total = taken.iter().sum();
        if total == calls.len() {
            return Ok(been.len());
        }
        if furthest.as_ref().is_none_or(|(most, ..)| *most < total) {
            furthest = Some((total, taken.clone(), state.clone()));
        }
        for (thread, call) in candidates(&threads, &taken) {
            if let Some(state) = state.step(&call.op) {
                let mut taken = taken.clone();
                taken[thread] += 1;
                next.push((taken, state));
            }
        }
    }
    let (most, taken, state) = furthest.expect("it has been to the beginning");
    let mut text = format!(
        "no order: {most} of {} calls lead to {state:?}",
        calls.len()
    );
    for (_, call) in candidates(&threads, &taken) {
        text += &format!("\n  not next: {call:?}");
    }
    Err(text)
}

/// The calls of each thread, in order.
fn by_thread<Op: Debug>(calls: &[Call<Op>]) -> Result<Vec<Vec<&Call<Op>>>, String> {
    let threads = calls.iter().map(|call| call.thread + 1).max().unwrap_or(0);
    let mut own = vec![Vec::new(); threads];
    for call in calls {
        own[call.thread].push(call);
    }
    for own in &mut own {
        own.sort_by_key(|call| (call.began, call.ended));
        for pair in own.windows(2) {
            if pair[0].ended > pair[1].began {
                return Err(format!("no history: one thread, {pair:?}"));
            }
        }
    }
    own.retain(|own| !own.is_empty());
    Ok(own)
}

/// Of each thread its next call, unless another one that was not taken had ended when it began.
fn candidates<'c, Op>(
    threads: &[Vec<&'c Call<Op>>],
    taken: &[usize],
) -> impl Iterator<Item = (usize, &'c Call<Op>)> {
    let heads = threads.iter().zip(taken).enumerate();
    let heads = heads.filter_map(|(thread, (own, &taken))| Some((thread, *own.get(taken)?)));
    let first = heads.clone().map(|(_, call)| call.ended).min();
    let heads: Vec<_> = heads
        .filter(|(_, call)| Some(call.began) <= first)
        .collect();
    heads.into_iter()
}
