//! Whether a history of transactions is strictly serialisable: a search for a cycle in what must
//! have come before what.
//!
//! Versions of a cell are dense, so that a history tells the order in which its writes came, and
//! with it who must come before whom: the writer of a version before its readers and before the
//! writer of the next one, its readers before that one too, and what has ended before what begins
//! later. Without a cycle there is an order.

use std::collections::HashMap;
use std::fmt::Write as _;

/// One transaction, or anything else that takes effect at one moment.
#[derive(Clone, Debug, Default)]
pub struct Txn {
    /// By any clock that all threads agree on.
    pub began: u64,
    pub ended: u64,
    /// The cells that it has read, and which versions it has found. Not what it has written itself.
    pub reads: Vec<(usize, u64)>,
    /// The cells that it has written, and which versions it has made of them. 0 is there before
    /// all.
    pub writes: Vec<(usize, u64)>,
}

/// How many pairs of transactions have their order from a cell.
///
/// # Errors
/// If there is no order: a cycle, in words. If the history cannot be: a version that two have
/// written, or nobody.
pub fn check(history: &[Txn]) -> Result<usize, String> {
    let writers = writers(history)?;
    let mut graph = Graph::in_time(history);
    let mut pairs = 0;
    let mut order = |before: usize, after: usize| {
        if before != after {
            graph.edge(before, after);
            pairs += 1;
        }
    };
    for (i, txn) in history.iter().enumerate() {
        for &(cell, version) in &txn.writes {
            if version > 1 {
                let before = writers.get(&(cell, version - 1));
                order(
                    *before.ok_or(format!("{cell} skips a version: {txn:?}"))?,
                    i,
                );
            }
        }
        for &(cell, version) in &txn.reads {
            if version > 0 {
                let writer = writers.get(&(cell, version));
                order(
                    *writer.ok_or(format!("nobody wrote what {txn:?} read of {cell}"))?,
                    i,
                );
            }
            if let Some(&next) = writers.get(&(cell, version + 1)) {
                order(i, next);
            }
        }
    }
    match graph.cycle() {
        None => Ok(pairs),
        Some(cycle) => {
            let mut text = "a cycle:".to_owned();
            for i in cycle.into_iter().filter(|i| *i < history.len()) {
                // Writing to a string does not fail.
                let _ = write!(text, "\n  {:?}", history[i]);
            }
            Err(text)
        }
    }
}

fn writers(history: &[Txn]) -> Result<HashMap<(usize, u64), usize>, String> {
    let mut writers = HashMap::new();
    for (i, txn) in history.iter().enumerate() {
        for &write in &txn.writes {
            if let Some(other) = writers.insert(write, i) {
                return Err(format!(
                    "two wrote {write:?}: {:?}, {txn:?}",
                    history[other]
                ));
            }
        }
    }
    Ok(writers)
}

/// What comes before what: transactions, and after them moments.
struct Graph(Vec<Vec<usize>>);

impl Graph {
    fn edge(&mut self, before: usize, after: usize) {
        self.0[before].push(after);
    }

    /// A moment for each beginning and each end: a few edges say of all pairs which of the two had
    /// ended when the other began.
    fn in_time(history: &[Txn]) -> Self {
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        enum What {
            // First: what begins when another ends is not after it.
            Begins,
            Ends,
        }
        let both =
            |(i, txn): (usize, &Txn)| [(txn.began, What::Begins, i), (txn.ended, What::Ends, i)];
        let mut events: Vec<_> = history.iter().enumerate().flat_map(both).collect();
        events.sort_unstable();
        let mut graph = Self(vec![Vec::new(); history.len() + events.len()]);
        for (moment, (_, what, i)) in (history.len()..).zip(events) {
            match what {
                What::Begins => graph.edge(moment, i),
                What::Ends => graph.edge(i, moment),
            }
            if moment > history.len() {
                graph.edge(moment - 1, moment);
            }
        }
        graph
    }

    /// Takes away what nothing comes before, again and again. What is left is on cycles, or after
    /// one.
    fn cycle(&self) -> Option<Vec<usize>> {
        let mut before = vec![0; self.0.len()];
        for &after in self.0.iter().flatten() {
            before[after] += 1;
        }
        let mut free: Vec<_> = (0..self.0.len()).filter(|i| before[*i] == 0).collect();
        while let Some(i) = free.pop() {
            for &after in &self.0[i] {
                before[after] -= 1;
                if before[after] == 0 {
                    free.push(after);
                }
            }
        }
        let left = |i: &usize| before[*i] > 0;
        let mut at = (0..before.len()).find(left)?;
        // Backwards from one to one that is left and comes before it, until one comes up again.
        let mut path = Vec::new();
        while !path.contains(&at) {
            path.push(at);
            let mut others = (0..before.len()).filter(left);
            at = others.find(|i| self.0[*i].contains(&at))?;
        }
        path.drain(..path.iter().position(|i| *i == at)?);
        path.reverse();
        Some(path)
    }
}
