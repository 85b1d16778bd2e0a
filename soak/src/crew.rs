//! Threads that work, end, are replaced by others, and are watched.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::rng::Rng;
use crate::structures::Structure;

/// A thread ends after so many operations, on average.
const LIFE: u64 = 2_000;
/// How often the crew is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// What a thread panics with that is to.
struct Planned;

/// What is seen of a thread from outside.
#[derive(Default)]
struct Progress {
    operations: AtomicU64,
    stop: AtomicBool,
}

/// A thread at work.
pub(crate) struct Worker {
    pub(crate) rng: Rng,
    /// Which of those it is who work on the same structure. Others follow it at its place.
    pub(crate) nth: usize,
    progress: Arc<Progress>,
}

impl Worker {
    /// Whether the round is over. A worker that is about to wait asks after it has looked at what
    /// it will wait for.
    pub(crate) fn is_to_stop(&self) -> bool {
        self.progress.stop.load(SeqCst)
    }

    /// Whether it is the one that never waits for others without a limit.
    pub(crate) fn is_first(&self) -> bool {
        self.nth == 0
    }

    /// Ends the thread, with all that it holds.
    pub(crate) fn panic(&self) -> ! {
        // Not `panic!`: the hook would print a trace for each.
        resume_unwind(Box::new(Planned))
    }

    fn run(mut self, structure: &dyn Structure) {
        while !self.is_to_stop() && !self.rng.one_in(LIFE) {
            structure.act(&mut self);
            structure.operations().add();
            self.progress.operations.fetch_add(1, Relaxed);
        }
    }
}

struct Post {
    structure: &'static dyn Structure,
    thread: Option<JoinHandle<()>>,
    progress: Arc<Progress>,
    seen: u64,
    /// For how long nothing has been done.
    idle: Duration,
}

pub(crate) struct Crew {
    structures: &'static [Box<dyn Structure>],
    posts: Vec<Post>,
    seeds: Rng,
    threads: u64,
    patience: Duration,
}

impl Crew {
    pub(crate) fn new(
        structures: &'static [Box<dyn Structure>],
        threads: usize,
        seed: u64,
        patience: u64,
    ) -> Self {
        let post = |place: usize| Post {
            structure: &*structures[place % structures.len()],
            thread: None,
            progress: Arc::default(),
            seen: 0,
            idle: Duration::ZERO,
        };
        Crew {
            structures,
            posts: (0..threads).map(post).collect(),
            seeds: Rng::new(seed),
            threads: 0,
            patience: Duration::from_secs(patience),
        }
    }

    pub(crate) fn threads_so_far(&self) -> u64 {
        self.threads
    }

    /// Has all work for so long, and returns when all are gone.
    pub(crate) fn work(&mut self, length: Duration) -> Result<(), String> {
        let end = Instant::now() + length;
        self.structures.iter().for_each(|s| s.open());
        while Instant::now() < end {
            self.look(true)?;
        }
        for post in &self.posts {
            post.progress.stop.store(true, SeqCst);
        }
        self.structures.iter().for_each(|s| s.close());
        while self.posts.iter().any(|post| post.thread.is_some()) {
            self.look(false)?;
        }
        Ok(())
    }

    /// Looks at all of them, once in a while.
    fn look(&mut self, replace: bool) -> Result<(), String> {
        let before = Instant::now();
        thread::sleep(LOOK);
        // A process that was suspended has not stood still.
        let passed = before.elapsed().min(20 * LOOK);
        (0..self.posts.len()).try_for_each(|place| self.look_at(place, replace, passed))
    }

    /// Replaces a thread that has ended, and complains of one that gets nowhere.
    fn look_at(&mut self, place: usize, replace: bool, passed: Duration) -> Result<(), String> {
        let post = &mut self.posts[place];
        if post.thread.as_ref().is_none_or(JoinHandle::is_finished) {
            let ended = post.thread.take().map_or(Ok(()), JoinHandle::join);
            if ended.is_err_and(|payload| !payload.is::<Planned>()) {
                let name = post.structure.name();
                return Err(format!("a thread at work on {name} panicked"));
            }
            if replace {
                post.progress = Arc::default();
                (post.seen, post.idle) = (0, Duration::ZERO);
                let worker = Worker {
                    rng: Rng::new(self.seeds.draw()),
                    nth: place / self.structures.len(),
                    progress: post.progress.clone(),
                };
                let structure = post.structure;
                post.thread = Some(thread::spawn(move || worker.run(structure)));
                self.threads += 1;
            }
            return Ok(());
        }
        let seen = post.progress.operations.load(Relaxed);
        if seen != post.seen {
            (post.seen, post.idle) = (seen, Duration::ZERO);
            return Ok(());
        }
        post.idle += passed;
        if post.idle > self.patience {
            let (name, patience) = (post.structure.name(), self.patience);
            return Err(format!(
                "a thread at work on {name} stands still: nothing done in {patience:?}"
            ));
        }
        Ok(())
    }
}
