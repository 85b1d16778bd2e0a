//! Many schedules of one test, each from a number: the number of one that fails is all that it
//! takes to run it again.
//!
//! `LATCHWORK_SCHEDULES` says how many instead of what the test asks for, `LATCHWORK_SEED` with
//! which number to begin; `ci/schedules.sh` sets them.

use std::collections::HashMap;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use shuttle::scheduler::{Schedule, Scheduler, Task, TaskId};
use shuttle::{Config, FailurePersistence, Runner};

use super::Rng;

/// Runs `test` under as many schedules, and returns how many there were. `test` has the number of
/// each.
///
/// # Panics
/// If it does, having said how to run that schedule again.
pub fn explore(name: &str, count: u64, test: impl Fn(u64) + Send + Sync + 'static) -> u64 {
    let count = super::setting("LATCHWORK_SCHEDULES", count);
    let first = super::first_seed();
    run(name, first, count, test);
    println!("{name}: {count} schedules from {first} on");
    count
}

/// What the schedule of one number was, as another number.
pub fn trace(name: &str, seed: u64, test: impl Fn(u64) + Send + Sync + 'static) -> u64 {
    run(name, seed, 1, test)
}

fn run(name: &str, first: u64, count: u64, test: impl Fn(u64) + Send + Sync + 'static) -> u64 {
    let now = Arc::new(Now::default());
    let chooser = Chooser::new(first, count, now.clone());
    let mut config = Config::new();
    config.failure_persistence = FailurePersistence::None;
    let runner = Runner::new(chooser, config);
    let seed = now.clone();
    let done = catch_unwind(AssertUnwindSafe(|| {
        runner.run(move || test(seed.seed.load(Relaxed)))
    }));
    match done {
        Ok(ran) => assert_eq!(ran as u64, count, "{name}: cut short"),
        Err(cause) => {
            let seed = now.seed.load(Relaxed);
            // Past the harness, which keeps what a test prints to itself until the end.
            let _ = writeln!(
                std::io::stderr(),
                "{name}: schedule {seed} fails; ci/schedules.sh --replay {name} {seed} runs it again"
            );
            resume_unwind(cause);
        }
    }
    now.trace.load(Relaxed)
}

/// What is run at the moment. std's atomics, not shuttle's: they add no scheduling points.
#[derive(Default)]
struct Now {
    seed: AtomicU64,
    trace: AtomicU64,
}

/// How a schedule is made. Each finds other bugs.
enum Way {
    /// Any task that can go on, at each step.
    Uniform,
    /// The same task as before, but for one step in so many.
    Sticky(u64),
    /// The task of the highest rank, ranks being drawn; at a few steps the running one comes last
    /// (Burckhardt et al., "A randomized scheduler with probabilistic guarantees of finding bugs",
    /// ASPLOS 2010).
    Ranks {
        ranks: HashMap<usize, u64>,
        changes: Vec<u64>,
        /// Below all ranks so far.
        last: u64,
    },
}

/// Draws everything from the number of the schedule, and nothing from those before it.
struct Chooser {
    next: u64,
    left: u64,
    rng: Rng,
    way: Way,
    steps: u64,
    now: Arc<Now>,
}

/// Half of all numbers: ranks that are drawn are above it, those of tasks that have come last
/// below.
const MIDDLE: u64 = u64::MAX / 2;

impl Chooser {
    fn new(first: u64, count: u64, now: Arc<Now>) -> Self {
        Chooser {
            next: first,
            left: count,
            rng: Rng::new(first),
            way: Way::Uniform,
            steps: 0,
            now,
        }
    }

    fn draw_way(&mut self) {
        let rng = &mut self.rng;
        self.way = match rng.below(4) {
            0 => Way::Uniform,
            1 => Way::Sticky(2 << rng.below(5)),
            _ => {
                // How long it will be is not known, and must not be learnt from others.
                let length = 16 << rng.below(7);
                let changes = (0..1 + rng.below(4)).map(|_| 1 + rng.below(length));
                Way::Ranks {
                    changes: changes.collect(),
                    ranks: HashMap::new(),
                    last: MIDDLE,
                }
            }
        };
    }

    fn choose(&mut self, runnable: &[usize], current: Option<usize>, is_yielding: bool) -> usize {
        let rng = &mut self.rng;
        let any = runnable[rng.below(runnable.len() as u64) as usize];
        match &mut self.way {
            Way::Uniform => any,
            Way::Sticky(often) => match current {
                Some(task) if runnable.contains(&task) && !is_yielding && !rng.one_in(*often) => {
                    task
                }
                _ => any,
            },
            Way::Ranks {
                ranks,
                changes,
                last,
            } => {
                for &task in runnable {
                    let drawn = MIDDLE + rng.draw() / 2;
                    ranks.entry(task).or_insert(drawn);
                }
                if let Some(task) = current {
                    if is_yielding || changes.contains(&self.steps) {
                        *last -= 1;
                        ranks.insert(task, *last);
                    }
                }
                let best = runnable.iter().max_by_key(|task| ranks[task]);
                *best.expect("somebody can go on")
            }
        }
    }
}

impl Scheduler for Chooser {
    fn new_execution(&mut self) -> Option<Schedule> {
        self.left = self.left.checked_sub(1)?;
        let seed = self.next;
        self.next += 1;
        self.now.seed.store(seed, Relaxed);
        self.now.trace.store(0, Relaxed);
        self.rng = Rng::new(seed.wrapping_mul(0xD134_2543_DE82_EF95));
        self.steps = 0;
        self.draw_way();
        Some(Schedule::new(seed))
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        is_yielding: bool,
    ) -> Option<TaskId> {
        let runnable: Vec<usize> = runnable.iter().map(|task| task.id().into()).collect();
        self.steps += 1;
        let task = self.choose(&runnable, current.map(usize::from), is_yielding);
        let trace = self.now.trace.load(Relaxed);
        let step = (runnable.len() as u64) << 32 | task as u64;
        self.now.trace.store(Rng::new(trace ^ step).draw(), Relaxed);
        Some(task.into())
    }

    fn next_u64(&mut self) -> u64 {
        self.rng.draw()
    }
}
