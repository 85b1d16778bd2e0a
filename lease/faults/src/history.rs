//! The history of a round, and what the rules require of it.
//!
//! The rules I1 to I4 are decided by the history alone. It contains the acquisitions that workers
//! report, and the writes in the order in which the resource decided them. The checks use no token
//! to order two acquisitions: they use the times of the requests.

use std::collections::BTreeMap;

use crate::clock::{MILLISECOND, Nanos};

/// How a lease ended without a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loss {
    /// The end of the lease by the clock of its process.
    pub(crate) deadline: Nanos,
    /// When the holder was notified.
    pub(crate) notified: Nanos,
    /// Whether the lease ended by the clock, and not by a report of the engine.
    pub(crate) has_expired: bool,
}

/// One acquisition that was granted.
#[derive(Clone, Debug)]
pub(crate) struct Acquisition {
    /// The number of the process, which no other process of the campaign has.
    pub(crate) process: u32,
    pub(crate) name: String,
    pub(crate) token: u64,
    pub(crate) nonce: u128,
    /// When the request that was granted was sent.
    pub(crate) asked: Nanos,
    /// When the caller had the lease.
    pub(crate) granted: Nanos,
    /// The last time at which `is_held` was true. The lease was held from `granted` until then.
    pub(crate) held: Nanos,
    pub(crate) loss: Option<Loss>,
}

/// A decision of the resource.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Write {
    /// The index of the acquisition.
    pub(crate) by: usize,
    pub(crate) is_accepted: bool,
}

/// A time for which a process was stopped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stop {
    pub(crate) process: u32,
    pub(crate) from: Nanos,
    pub(crate) until: Nanos,
}

/// What happened since the last round.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) acquisitions: Vec<Acquisition>,
    /// In the order of the decisions of the resource.
    pub(crate) writes: Vec<Write>,
    pub(crate) stops: Vec<Stop>,
    /// How often `is_held` was true after the end of a lease.
    pub(crate) held_past_end: u64,
}

/// What earlier rounds at the same servers established.
#[derive(Clone, Debug, Default)]
pub(crate) struct Past {
    /// The greatest token of each name.
    tokens: BTreeMap<String, u64>,
    /// The nonce that the resource accepted under each token of each name.
    numbers: BTreeMap<(String, u64), u128>,
}

impl Past {
    /// Returns the greatest token of a name.
    pub(crate) fn greatest(&self, name: &str) -> u64 {
        self.tokens.get(name).copied().unwrap_or(0)
    }

    /// Records that later tokens of a name must exceed this one.
    pub(crate) fn raise(&mut self, name: &str, token: u64) {
        let greatest = self.tokens.entry(name.to_owned()).or_default();
        *greatest = token.max(*greatest);
    }

    /// Forgets the greatest token of a name, after data was lost and the counter was raised.
    pub(crate) fn reset(&mut self, name: &str, token: u64) {
        self.tokens.insert(name.to_owned(), token);
    }
}

/// The findings of a history, as numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Verdict {
    pub(crate) acquisitions: u64,
    pub(crate) writes: u64,
    /// Writes that the resource accepted after one of a later holder (I1).
    pub(crate) stale: u64,
    /// Writes that the resource refused.
    pub(crate) refused: u64,
    /// Tokens that are not greater than one that was granted before the request (I2).
    pub(crate) regressions: u64,
    /// Tokens that two nonces received (I2).
    pub(crate) repeated: u64,
    /// Tokens under which the resource accepted two nonces.
    pub(crate) shared: u64,
    /// Pairs of holders in one process at one time (I3).
    pub(crate) overlaps_inside: u64,
    /// Pairs of holders in two processes at one time, by the clock of each.
    pub(crate) overlaps: u64,
    /// How often `is_held` was true after the end of a lease (I4).
    pub(crate) held_past_end: u64,
    /// Leases that were lost.
    pub(crate) losses: u64,
    /// The longest time from the end of a lease until its holder was notified, in ns (I4).
    pub(crate) longest_notice: u64,
}

impl Verdict {
    pub(crate) fn add(&mut self, other: &Verdict) {
        self.acquisitions += other.acquisitions;
        self.writes += other.writes;
        self.stale += other.stale;
        self.refused += other.refused;
        self.regressions += other.regressions;
        self.repeated += other.repeated;
        self.shared += other.shared;
        self.overlaps_inside += other.overlaps_inside;
        self.overlaps += other.overlaps;
        self.held_past_end += other.held_past_end;
        self.losses += other.losses;
        self.longest_notice = self.longest_notice.max(other.longest_notice);
    }
}

impl History {
    /// Checks the history, and adds it to the past.
    pub(crate) fn judge(&self, past: &mut Past) -> Verdict {
        let mut verdict = Verdict {
            acquisitions: self.acquisitions.len() as u64,
            writes: self.writes.len() as u64,
            held_past_end: self.held_past_end,
            ..Verdict::default()
        };
        self.judge_writes(past, &mut verdict);
        let mut names: BTreeMap<&str, Vec<&Acquisition>> = BTreeMap::new();
        for acquisition in &self.acquisitions {
            names
                .entry(&acquisition.name)
                .or_default()
                .push(acquisition);
        }
        for (name, acquisitions) in names {
            judge_tokens(&acquisitions, past.greatest(name), &mut verdict);
            judge_holders(acquisitions, past, &mut verdict);
        }
        self.judge_losses(&mut verdict);
        verdict
    }

    /// I1: no write is accepted after that of an acquisition that was requested later.
    fn judge_writes(&self, past: &mut Past, verdict: &mut Verdict) {
        let mut latest: BTreeMap<&str, Nanos> = BTreeMap::new();
        for write in &self.writes {
            let by = &self.acquisitions[write.by];
            if !write.is_accepted {
                verdict.refused += 1;
                continue;
            }
            let latest = latest.entry(&by.name).or_default();
            verdict.stale += u64::from(by.granted < *latest);
            *latest = by.asked.max(*latest);
            let number = (by.name.clone(), by.token);
            let nonce = *past.numbers.entry(number).or_insert(by.nonce);
            verdict.shared += u64::from(nonce != by.nonce);
        }
    }

    /// I4: the holder is notified when its lease ends. A process that is stopped cannot be.
    fn judge_losses(&self, verdict: &mut Verdict) {
        for acquisition in &self.acquisitions {
            let Some(loss) = acquisition.loss else {
                continue;
            };
            verdict.losses += 1;
            let mut due = loss.deadline;
            for stop in &self.stops {
                let is_inside = stop.from <= due && due < stop.until;
                if stop.process == acquisition.process && is_inside {
                    due = stop.until;
                }
            }
            if loss.has_expired {
                let late = loss.notified.saturating_sub(due);
                verdict.longest_notice = verdict.longest_notice.max(late);
            }
        }
    }
}

/// I2: a token exceeds those of all acquisitions that were granted before its request was sent.
fn judge_tokens(acquisitions: &[&Acquisition], before: u64, verdict: &mut Verdict) {
    let mut by_grant = acquisitions.to_vec();
    by_grant.sort_by_key(|acquisition| acquisition.granted);
    let mut by_request = acquisitions.to_vec();
    by_request.sort_by_key(|acquisition| acquisition.asked);
    let (mut granted, mut greatest) = (by_grant.into_iter().peekable(), before);
    for acquisition in by_request {
        while let Some(earlier) = granted.next_if(|other| other.granted < acquisition.asked) {
            greatest = greatest.max(earlier.token);
        }
        verdict.regressions += u64::from(acquisition.token <= greatest);
    }
}

/// I3, and the exclusion of holders in several processes.
fn judge_holders(mut acquisitions: Vec<&Acquisition>, past: &mut Past, verdict: &mut Verdict) {
    let mut nonces: BTreeMap<u64, u128> = BTreeMap::new();
    acquisitions.sort_by_key(|acquisition| acquisition.granted);
    for (at, acquisition) in acquisitions.iter().enumerate() {
        let nonce = *nonces.entry(acquisition.token).or_insert(acquisition.nonce);
        verdict.repeated += u64::from(nonce != acquisition.nonce);
        // Intervals are short in comparison with a round, so few of them are compared.
        for later in &acquisitions[at + 1..] {
            if later.granted >= acquisition.held {
                break;
            }
            if later.process == acquisition.process {
                verdict.overlaps_inside += 1;
            } else {
                verdict.overlaps += 1;
            }
        }
    }
    for acquisition in acquisitions {
        past.raise(&acquisition.name, acquisition.token);
    }
}

/// The time by which `is_held` may be observed late, because two clocks are read one after another.
pub(crate) const CLOCKS_DIFFER: Nanos = 2 * MILLISECOND;

#[cfg(test)]
mod tests {
    use super::*;

    /// An acquisition by process `process`, from `granted` until `held`.
    fn acquisition(process: u32, token: u64, granted: Nanos, held: Nanos) -> Acquisition {
        Acquisition {
            process,
            name: "a".to_owned(),
            token,
            nonce: u128::from(granted),
            asked: granted - 5,
            granted,
            held,
            loss: None,
        }
    }

    fn write(by: usize) -> Write {
        Write {
            by,
            is_accepted: true,
        }
    }

    fn judge(history: &History) -> Verdict {
        history.judge(&mut Past::default())
    }

    /// Three holders one after another, each of which writes twice.
    fn sound() -> History {
        History {
            acquisitions: vec![
                acquisition(1, 5, 100, 200),
                acquisition(2, 6, 300, 400),
                acquisition(1, 9, 500, 600),
            ],
            writes: [0, 0, 1, 1, 2, 2].map(write).to_vec(),
            ..History::default()
        }
    }

    #[test]
    fn a_sound_history_has_no_findings() {
        let expected = Verdict {
            acquisitions: 3,
            writes: 6,
            ..Verdict::default()
        };
        assert_eq!(judge(&sound()), expected);
    }

    #[test]
    fn a_late_write_that_is_accepted_is_stale() {
        let mut history = sound();
        history.writes.push(write(0));
        assert_eq!(judge(&history).stale, 1);
        // A resource that refuses it is right.
        history.writes.last_mut().unwrap().is_accepted = false;
        let verdict = judge(&history);
        assert_eq!((verdict.stale, verdict.refused), (0, 1));
    }

    #[test]
    fn writes_of_holders_without_an_order_are_not_stale() {
        let mut history = sound();
        // The second request was sent before the first one was answered.
        history.acquisitions[1].asked = 90;
        history.acquisitions.truncate(2);
        history.writes = [0, 1, 0].map(write).to_vec();
        assert_eq!(judge(&history).stale, 0);
    }

    #[test]
    fn a_token_that_is_not_greater_is_a_regression() {
        let mut history = sound();
        history.acquisitions[2].token = 6;
        let verdict = judge(&history);
        assert_eq!((verdict.regressions, verdict.repeated), (1, 1));
        history.acquisitions[2].token = 1;
        assert_eq!(judge(&history).regressions, 1);
        // Two requests in flight at once have no order.
        history.acquisitions[2].asked = 250;
        history.acquisitions[1].asked = 250;
        history.acquisitions[0].token = 1;
        history.acquisitions[2].token = 2;
        assert_eq!(judge(&history).regressions, 0);
    }

    #[test]
    fn tokens_of_earlier_rounds_count() {
        let mut past = Past::default();
        sound().judge(&mut past);
        assert_eq!(past.greatest("a"), 9);
        let mut next = sound();
        next.acquisitions.truncate(1);
        next.writes.clear();
        assert_eq!(next.judge(&mut past).regressions, 1);
        next.acquisitions[0].token = 10;
        assert_eq!(next.judge(&mut past).regressions, 0);
        past.raise("a", 50);
        next.acquisitions[0].token = 50;
        assert_eq!(next.judge(&mut past).regressions, 1);
    }

    #[test]
    fn two_nonces_under_one_number_are_detected() {
        let mut past = Past::default();
        sound().judge(&mut past);
        let mut next = sound();
        next.acquisitions[0].nonce = 77;
        assert_eq!(next.judge(&mut past).shared, 2);
    }

    #[test]
    fn holders_at_one_time_are_counted_by_process() {
        let mut history = sound();
        history.acquisitions[0].held = 301;
        let verdict = judge(&history);
        assert_eq!((verdict.overlaps, verdict.overlaps_inside), (1, 0));
        history.acquisitions[0].held = 501;
        let verdict = judge(&history);
        assert_eq!((verdict.overlaps, verdict.overlaps_inside), (1, 1));
        // Another name is another lock.
        history.acquisitions[0].name = "b".to_owned();
        let verdict = judge(&history);
        assert_eq!((verdict.overlaps, verdict.overlaps_inside), (0, 0));
    }

    #[test]
    fn a_late_notice_counts_unless_its_process_was_stopped() {
        let mut history = sound();
        history.acquisitions[1].loss = Some(Loss {
            deadline: 400,
            notified: 1000,
            has_expired: true,
        });
        let verdict = judge(&history);
        assert_eq!((verdict.losses, verdict.longest_notice), (1, 600));
        let stop = |process| Stop {
            process,
            from: 350,
            until: 900,
        };
        history.stops = vec![stop(1)];
        assert_eq!(judge(&history).longest_notice, 600);
        history.stops.push(stop(2));
        assert_eq!(judge(&history).longest_notice, 100);
    }
}
