//! Runs a model through every interleaving within a bound, and fails wherever loom alone would pass
//! in silence.
//!
//! loom explores; three things it leaves to its caller are settled here:
//!
//! - **Vacuous models.** A model returns what it observed, and the *set* of outcomes over all
//!   executions must be exactly the declared one. Where three outcomes are possible, a search that
//!   meets one of them shows nothing.
//! - **Truncated searches.** loom returns normally when its time is up; [`Model::check`] panics.
//! - **Negative twins.** A model proves something only if it fails once what it relies on is taken
//!   away. [`Model::must_fail`] passes when that failure is seen, and only for the reason named.
//!
//! # Environment
//!
//! | variable | effect |
//! |---|---|
//! | `LATCHWORK_MODEL_CAP_S` | seconds until a search counts as truncated (default 120) |
//! | `LATCHWORK_MODEL_BOUND` | raises the preemption bound of bounded models: a number, or `none` |
//! | `LOOM_LOCATION` | loom names the accesses that conflict; slow |
//!
//! A raised bound keeps the declared outcomes: one more than declared is a finding, not noise.

mod failure;
mod notes;
mod twin;

pub use notes::{Notes, spawn};

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// loom looks at its clock only at each checkpoint: 20,000 executions unless told otherwise, which
/// can be minutes.
const CHECKPOINT_INTERVAL: usize = 1_000;

/// Scheduling points of one execution. loom's 1,000 are too few for a table with real reclamation;
/// the limit has only to catch loops that make no progress.
const MAX_BRANCHES: usize = 50_000;

const DEFAULT_CAP: Duration = Duration::from_secs(120);

/// One model: its name, the rules it checks, how far to search and what may be observed.
///
/// # Examples
///
/// ```no_run
/// # use latchwork_loom_tests::Model;
/// use loom::sync::{Arc, atomic::{AtomicUsize, Ordering::Relaxed}};
///
/// Model::new("a store is seen or not").preemptions(Some(2)).outcomes(&["0", "1"]).check(|| {
///     let flag = Arc::new(AtomicUsize::new(0));
///     let raised = flag.clone();
///     let writer = loom::thread::spawn(move || raised.store(1, Relaxed));
///     let seen = flag.load(Relaxed);
///     writer.join().unwrap();
///     seen
/// });
/// ```
#[derive(Debug, Clone)]
#[must_use = "a model does nothing until `check` or `must_fail`"]
pub struct Model {
    name: String,
    rules: String,
    preemptions: Option<usize>,
    outcomes: BTreeSet<String>,
    cap: Duration,
    because: Option<String>,
}

/// What a completed search saw.
#[derive(Debug, Clone)]
pub struct Report {
    /// Interleavings that were run.
    pub executions: usize,
    /// Executions that ended in each outcome.
    pub outcomes: BTreeMap<String, usize>,
    /// Time of the whole search.
    pub time: Duration,
}

impl Model {
    /// Names a model. It is searched at preemption bound 2 unless
    /// [`preemptions`](Self::preemptions) says otherwise.
    pub fn new(name: impl Into<String>) -> Self {
        Model {
            name: name.into(),
            rules: String::new(),
            preemptions: Some(2),
            outcomes: BTreeSet::new(),
            cap: std::env::var("LATCHWORK_MODEL_CAP_S").map_or(DEFAULT_CAP, |seconds| {
                Duration::from_secs(
                    seconds
                        .parse()
                        .expect("LATCHWORK_MODEL_CAP_S is a number of seconds"),
                )
            }),
            because: None,
        }
    }

    /// Names the rules this model checks, as their tags: `"[S1] [M3]"`.
    pub fn rules(mut self, tags: &str) -> Self {
        self.rules = tags.to_owned();
        self
    }

    /// Bounds the forced switches between threads in one execution. `None` runs every interleaving.
    pub fn preemptions(mut self, bound: Option<usize>) -> Self {
        self.preemptions = bound;
        self
    }

    /// Declares everything that may be observed, and that all of it is.
    pub fn outcomes<O: AsRef<str>>(mut self, expected: &[O]) -> Self {
        self.outcomes = expected
            .iter()
            .map(|outcome| outcome.as_ref().to_owned())
            .collect();
        self
    }

    /// Sets how long the search may take, over `LATCHWORK_MODEL_CAP_S`.
    pub fn cap(mut self, cap: Duration) -> Self {
        self.cap = cap;
        self
    }

    /// For [`must_fail`](Self::must_fail): the failure must contain this text.
    pub fn because(mut self, text: &str) -> Self {
        self.because = Some(text.to_owned());
        self
    }

    /// Searches the model and compares what it observed with what was declared.
    ///
    /// # Panics
    ///
    /// Where an execution panics, deadlocks or races on a cell; where an outcome is missing or was
    /// not declared; where the search was cut off; and where no outcome was declared at all.
    pub fn check<T: ToString>(self, model: impl Fn() -> T + Send + Sync + 'static) -> Report {
        assert!(
            !self.outcomes.is_empty(),
            "model {:?} declares no outcome, so it could not be seen to be vacuous",
            self.name
        );
        let report = self.search(model);
        let bound = self
            .bound()
            .map_or("no bound".to_owned(), |n| format!("bound {n}"));
        // Written past the capture of the test harness, so that a passing run shows how much was
        // searched.
        let _ = writeln!(
            std::io::stderr(),
            "model {}: {} executions, {} outcomes, {bound}, {:.1} s",
            self.title(),
            report.executions,
            report.outcomes.len(),
            report.time.as_secs_f64(),
        );
        report
    }

    /// Searches a model that is broken on purpose, and passes only if the search notices.
    ///
    /// The search runs in a process of its own, because a deadlock found by loom aborts the
    /// process. A failure of the searching itself (cut off, too many branches, not deterministic)
    /// does not count. Outcomes may be declared: then one that was not declared, or is missing,
    /// counts as noticed.
    ///
    /// # Panics
    ///
    /// Where nothing was noticed, or something else than [`because`](Self::because) names.
    pub fn must_fail<T: ToString>(self, model: impl Fn() -> T + Send + Sync + 'static) {
        if twin::is_wanted_here(&self.name) {
            twin::announce(&self.name);
            self.search(model);
            twin::survive();
        }
        let noticed = twin::run(&self.name, &self.title());
        match noticed.and_then(|failure| failure.judge(self.because.as_deref())) {
            Ok(what) => {
                let _ = writeln!(
                    std::io::stderr(),
                    "twin {}: noticed in {what}",
                    self.title()
                );
            }
            Err(why) => panic!("twin {}: {why}", self.title()),
        }
    }

    fn title(&self) -> String {
        let gap = if self.rules.is_empty() { "" } else { " " };
        format!("{:?}{gap}{}", self.name, self.rules)
    }

    fn bound(&self) -> Option<usize> {
        let raised = std::env::var("LATCHWORK_MODEL_BOUND").ok();
        match (self.preemptions, raised.as_deref()) {
            (None, _) | (_, Some("none")) => None,
            (bound, None | Some("")) => bound,
            (Some(bound), Some(raised)) => Some(
                bound.max(
                    raised
                        .parse()
                        .expect("LATCHWORK_MODEL_BOUND is a number or `none`"),
                ),
            ),
        }
    }

    fn search<T: ToString>(&self, model: impl Fn() -> T + Send + Sync + 'static) -> Report {
        let executions = Arc::new(AtomicUsize::new(0));
        let seen: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();

        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = self.bound();
        builder.max_branches = MAX_BRANCHES;
        builder.max_permutations = None;
        builder.max_duration = Some(self.cap);
        builder.checkpoint_interval = CHECKPOINT_INTERVAL;

        let context = failure::Context::enter(self.title(), Arc::clone(&executions));
        let start = Instant::now();
        builder.check({
            let (executions, seen) = (Arc::clone(&executions), Arc::clone(&seen));
            move || {
                // Relaxed: one OS thread runs the whole search.
                executions.fetch_add(1, Ordering::Relaxed);
                let outcome = model().to_string();
                *seen.lock().unwrap().entry(outcome).or_default() += 1;
            }
        });

        let report = Report {
            executions: executions.load(Ordering::Relaxed),
            outcomes: std::mem::take(&mut seen.lock().unwrap()),
            time: start.elapsed(),
        };
        self.judge(&report);
        drop(context);
        report
    }

    fn judge(&self, report: &Report) {
        // loom gives up before the execution that would complete an interval, and at no other
        // place.
        let cut = report.time >= self.cap && (report.executions + 1) % CHECKPOINT_INTERVAL == 0;
        assert!(
            !cut,
            "was cut off after {} executions and {:.0} s; saw {:?}",
            report.executions,
            report.time.as_secs_f64(),
            report.outcomes
        );
        if self.outcomes.is_empty() {
            return;
        }
        let missing: Vec<_> = self
            .outcomes
            .iter()
            .filter(|o| !report.outcomes.contains_key(*o))
            .collect();
        let surplus: Vec<_> = report
            .outcomes
            .iter()
            .filter(|(o, _)| !self.outcomes.contains(*o))
            .collect();
        assert!(
            missing.is_empty() && surplus.is_empty(),
            "does not observe what it declares, in {} executions\nmissing: {missing:?}\n\
             surplus, with the number of executions: {surplus:?}",
            report.executions
        );
    }
}
