//! Two threads against one, by threads that live as long as the measurement.
//!
//! A new thread begins without memory of its own, and pays for its first operations. The members of
//! a [`Crew`] start once, each on a core of its own, and do all runs. A run lasts from its first
//! operation to its last; no part of it is left out.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;

use crate::control::is_believed;
use crate::ratio::{Quartiles, in_turn};

/// The number of members.
pub const MEMBERS: usize = 2;

/// The number of checks for the other members of a run before a member yields between two of them.
const SPINS: u32 = 10_000;

/// The part of one member in a run.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// The number of the member.
    pub index: usize,
    /// The number of operations to do.
    pub times: u64,
    /// Whether this is the first member of the run.
    pub is_first: bool,
    /// Whether the first member of the run has done its part.
    pub first_is_done: &'a AtomicBool,
}

/// The operations of the members in a run.
pub type Job = Arc<dyn Fn(Part<'_>) + Send + Sync>;

/// The members that take part in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// One of them, another one from round to round.
    One,
    /// All of them.
    All,
}

struct Order {
    job: Job,
    times: u64,
    is_first: bool,
    shared: Arc<Meeting>,
}

/// The state that the members share in one run.
#[derive(Debug)]
struct Meeting {
    missing: AtomicUsize,
    first_is_done: AtomicBool,
}

#[derive(Debug)]
struct Member {
    /// `None` once the crew is dropped.
    orders: Option<Sender<Order>>,
    ended: Receiver<[Instant; 2]>,
    thread: Option<JoinHandle<()>>,
}

/// Threads that do runs together.
#[derive(Debug)]
pub struct Crew {
    members: Vec<Member>,
}

/// A job, with the number of operations of each member in a run.
#[derive(Clone)]
pub struct Paced {
    job: Job,
    times: u64,
    who: Who,
}

impl fmt::Debug for Paced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (times, who) = (self.times, self.who);
        f.debug_struct("Paced")
            .field("times", &times)
            .field("who", &who)
            .finish_non_exhaustive()
    }
}

impl Paced {
    /// Returns the same job for other members.
    #[must_use]
    pub fn by(&self, who: Who) -> Self {
        Self {
            who,
            ..self.clone()
        }
    }
}

impl Default for Crew {
    fn default() -> Self {
        Self::new()
    }
}

impl Crew {
    /// Starts the members, each on a core of its own if there are enough.
    #[must_use]
    pub fn new() -> Self {
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        let cores = (cores.len() >= MEMBERS).then_some(cores);
        let members = (0..MEMBERS).map(|index| {
            let (orders, taken) = channel::<Order>();
            let (done, ended) = channel();
            let core = cores.as_ref().map(|cores| cores[index]);
            let thread = thread::spawn(move || {
                if let Some(core) = core {
                    core_affinity::set_for_current(core);
                }
                for order in taken {
                    if done.send(order.run(index)).is_err() {
                        break;
                    }
                }
            });
            Member {
                orders: Some(orders),
                ended,
                thread: Some(thread),
            }
        });
        Self {
            members: members.collect(),
        }
    }

    /// Does one run and returns its duration: from the first start of a member to the last end.
    ///
    /// # Panics
    /// Panics if the job panics.
    pub fn run(&self, round: usize, paced: &Paced) -> Duration {
        let chosen = match paced.who {
            Who::One => &self.members[round % MEMBERS..][..1],
            Who::All => &self.members[..],
        };
        let shared = Arc::new(Meeting {
            missing: AtomicUsize::new(chosen.len()),
            first_is_done: AtomicBool::new(false),
        });
        for (at, member) in chosen.iter().enumerate() {
            let order = Order {
                job: Arc::clone(&paced.job),
                times: paced.times,
                is_first: at == 0,
                shared: Arc::clone(&shared),
            };
            let orders = member.orders.as_ref().expect("the crew is not dropped");
            orders.send(order).expect("no job panics");
        }
        let spans = chosen
            .iter()
            .map(|member| member.ended.recv().expect("no job panics"));
        let spans: Vec<_> = spans.collect();
        let start = spans.iter().map(|span| span[0]).min();
        let end = spans.iter().map(|span| span[1]).max();
        match (start, end) {
            (Some(start), Some(end)) => end - start,
            _ => unreachable!("a run has members"),
        }
    }

    /// Determines the number of operations with which a run of one member lasts about `span`.
    pub fn pace(&self, job: Job, span: Duration) -> Paced {
        let mut paced = Paced {
            job,
            times: 64,
            who: Who::One,
        };
        loop {
            let took = self.run(0, &paced);
            if took >= span / 4 {
                let scale = span.as_secs_f64() / took.as_secs_f64();
                paced.times = ((paced.times as f64 * scale) as u64).max(1);
                return paced;
            }
            paced.times *= 2;
        }
    }

    /// Does one round: both sides between two runs of the control. The order of the sides, and the
    /// member that runs alone, depend on `round`.
    pub fn round(&self, round: usize, sides: &[Paced; 2], control: &Paced) -> Round {
        let nanos =
            |side: &Paced| self.run(round / 2, side).as_secs_f64() * 1e9 / side.times as f64;
        let all = control.by(Who::All);
        let scaling = |round| {
            let (one, two) = in_turn(round, || nanos(control), || nanos(&all));
            MEMBERS as f64 * one / two
        };
        let before = scaling(round);
        let (first, second) = in_turn(round, || nanos(&sides[0]), || nanos(&sides[1]));
        let after = scaling(round + 1);
        Round {
            before,
            after,
            first,
            second,
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for member in &mut self.members {
            member.orders = None;
        }
        for member in &mut self.members {
            // A member that panicked has failed its run already.
            let _ = member.thread.take().map(JoinHandle::join);
        }
    }
}

impl Order {
    /// Does the part of a member, once all have arrived. Returns its start and its end.
    fn run(self, index: usize) -> [Instant; 2] {
        let Meeting {
            missing,
            first_is_done,
        } = &*self.shared;
        missing.fetch_sub(1, Ordering::Relaxed);
        let mut spins = 0_u32;
        while missing.load(Ordering::Relaxed) > 0 {
            spins = spins.saturating_add(1);
            if spins < SPINS {
                std::hint::spin_loop();
            } else {
                thread::yield_now();
            }
        }
        let start = Instant::now();
        (self.job)(Part {
            index,
            times: self.times,
            is_first: self.is_first,
            first_is_done,
        });
        let end = Instant::now();
        if self.is_first {
            first_is_done.store(true, Ordering::Relaxed);
        }
        [start, end]
    }
}

/// Returns the work of the control: each member adds to a counter on a cache line of its own.
#[must_use]
pub fn own_counters() -> Job {
    let counters = [(); MEMBERS].map(|()| CachePadded::new(AtomicU64::new(0)));
    Arc::new(move |part| {
        let counter = &counters[part.index];
        for _ in 0..part.times {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    })
}

/// The result of one round. Its text form is how a process reports it to another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Round {
    /// The control's scaling before the sides ran.
    pub before: f64,
    /// The control's scaling after that.
    pub after: f64,
    /// Nanoseconds for an operation of each member on the first side.
    pub first: f64,
    /// The same on the second side.
    pub second: f64,
}

impl Round {
    /// Whether to believe it.
    #[must_use]
    pub fn is_believed(&self) -> bool {
        is_believed(self.before, self.after)
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            before,
            after,
            first,
            second,
        } = self;
        write!(f, "{before} {after} {first} {second}")
    }
}

impl FromStr for Round {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split(' ').map(str::parse);
        let numbers: Result<Vec<f64>, _> = numbers.collect();
        match numbers.as_deref() {
            Ok(&[before, after, first, second]) => Ok(Self {
                before,
                after,
                first,
                second,
            }),
            _ => Err(format!("not a round: {text}")),
        }
    }
}

/// The figure that a round gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// How many times the work of one member all do. The sides are one member, and all.
    Scaling,
    /// By how many nanoseconds an operation of the second side is longer.
    Difference,
    /// How many times the throughput of the second side the first one has.
    Quotient,
}

impl Figure {
    /// Returns the figure of one round.
    #[must_use]
    pub fn of(self, round: &Round) -> f64 {
        match self {
            Self::Scaling => MEMBERS as f64 * round.first / round.second,
            Self::Difference => round.second - round.first,
            Self::Quotient => round.second / round.first,
        }
    }
}

/// The least number of believed rounds that give a result.
pub const ENOUGH: usize = 21;

/// The rounds of some processes, put together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pool {
    /// The figure over all believed rounds, or `None` if they are fewer than [`ENOUGH`].
    pub figure: Option<Quartiles>,
    /// The median nanoseconds of the first and of the second side.
    pub nanos: [f64; 2],
    /// The median scaling of the control.
    pub control: f64,
    /// The number of believed rounds.
    pub believed: usize,
    /// The number of all rounds.
    pub tried: usize,
}

impl Pool {
    /// Sums up rounds.
    #[must_use]
    pub fn of(figure: Figure, rounds: &[Round]) -> Self {
        let believed: Vec<_> = rounds.iter().filter(|round| round.is_believed()).collect();
        let median = |value: fn(&Round) -> f64| {
            Quartiles::of(believed.iter().map(|round| value(round))).map_or(0.0, |q| q.median)
        };
        let enough = believed.len() >= ENOUGH;
        let values = believed.iter().map(|round| figure.of(round));
        Self {
            figure: Quartiles::of(values).filter(|_| enough),
            nanos: [median(|round| round.first), median(|round| round.second)],
            control: median(|round| (round.before + round.after) / 2.0),
            believed: believed.len(),
            tried: rounds.len(),
        }
    }

    /// Returns the number of believed rounds in words.
    #[must_use]
    pub fn in_words(&self) -> String {
        format!(
            "control {:.2}, {} of {} rounds believed",
            self.control, self.believed, self.tried
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Mutex;

    use super::*;

    const QUIET: Round = Round {
        before: 2.0,
        after: 2.0,
        first: 10.0,
        second: 12.5,
    };

    #[test]
    fn all_runs_are_done_by_the_same_threads() {
        let crew = Crew::new();
        let seen = Arc::new(Mutex::new(HashSet::new()));
        let (shared, done) = (Arc::clone(&seen), Arc::new(AtomicU64::new(0)));
        let counter = Arc::clone(&done);
        let job: Job = Arc::new(move |part| {
            let id = thread::current().id();
            shared.lock().expect("no panic").insert((part.index, id));
            counter.fetch_add(part.times, Ordering::Relaxed);
        });
        let paced = Paced {
            job,
            times: 7,
            who: Who::One,
        };
        for round in 0..6 {
            crew.run(round, &paced);
            crew.run(round, &paced.by(Who::All));
        }
        assert_eq!(done.load(Ordering::Relaxed), 7 * 6 * (1 + MEMBERS as u64));
        assert_eq!(seen.lock().expect("no panic").len(), MEMBERS);
    }

    #[test]
    fn a_run_lasts_until_its_last_member_ends() {
        let crew = Crew::new();
        let job: Job = Arc::new(|part| thread::sleep(Duration::from_millis(5 * part.times)));
        let paced = crew.pace(job, Duration::from_millis(5));
        assert_eq!(paced.times, 1, "a trial of 64 is long enough");
        let took = crew.run(0, &paced.by(Who::All));
        assert!(took >= Duration::from_millis(5), "{took:?}");
    }

    #[test]
    fn the_other_member_sees_that_the_first_has_ended() {
        let crew = Crew::new();
        let job: Job = Arc::new(|part| {
            while !part.is_first && !part.first_is_done.load(Ordering::Relaxed) {
                thread::yield_now();
            }
        });
        let who = Who::All;
        crew.run(0, &Paced { job, times: 1, who });
    }

    #[test]
    fn figures_are_computed_from_both_sides() {
        assert_eq!(Figure::Scaling.of(&QUIET), 1.6);
        assert_eq!(Figure::Difference.of(&QUIET), 2.5);
        assert_eq!(Figure::Quotient.of(&QUIET), 1.25);
    }

    #[test]
    fn only_believed_rounds_count_and_few_give_no_result() {
        let disturbed = Round {
            before: 1.2,
            second: 1e9,
            ..QUIET
        };
        let mut rounds = vec![disturbed; 30];
        rounds.extend([QUIET; ENOUGH - 1]);
        let pool = Pool::of(Figure::Scaling, &rounds);
        assert_eq!((pool.figure, pool.believed), (None, ENOUGH - 1));
        rounds.push(QUIET);
        let pool = Pool::of(Figure::Scaling, &rounds);
        let all = Quartiles {
            lower: 1.6,
            median: 1.6,
            upper: 1.6,
        };
        assert_eq!(pool.figure, Some(all));
        assert_eq!((pool.nanos, pool.control), ([10.0, 12.5], 2.0));
        assert_eq!(pool.in_words(), "control 2.00, 21 of 51 rounds believed");
        assert_eq!(Pool::of(Figure::Scaling, &[]).figure, None);
    }

    #[test]
    fn a_round_survives_its_text_form() {
        let round = Round {
            before: 1.999_999_1,
            after: 2.1,
            first: 0.1,
            second: 1e-9,
        };
        assert_eq!(round.to_string().parse(), Ok(round));
        for wrong in ["", "1 2 3", "1 2 3 x", "1 2 3 4 5"] {
            assert!(wrong.parse::<Round>().is_err(), "{wrong}");
        }
    }
}
