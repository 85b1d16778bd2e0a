//! A job queue that never runs two jobs of one customer at once, and that survives a worker which
//! was taken for dead and was not.
//!
//! What it teaches: the lock keeps workers apart for as long as they agree on who holds it. A
//! worker that was cut off, and had its customer taken away, still believes that it holds the lock,
//! and may write late. `guard.token()` grows with each holder of a customer; a store that refuses a
//! token lower than one it has seen refuses that write.
//!
//! Run it with `cargo run --release --example job_queue`.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Barrier, Mutex, PoisonError};
use std::thread;

use latchwork::{LockTable, table::FencingToken};

const CUSTOMERS: [&str; 3] = ["anvil", "bobbin", "cobalt"];
const JOBS_EACH: u64 = 250;
const WORKERS: usize = 4;

/// Adds `seq` to what the customer owes. Jobs of one customer run one at a time, in any order.
#[derive(Clone, Copy)]
struct Job {
    customer: &'static str,
    seq: u64,
}

#[derive(Clone, Copy, Default)]
struct Account {
    owed: u64,
    writes: u64,
    greatest: Option<FencingToken>,
}

/// Stands for a database: its reads and writes are safe, and it knows nothing of the locks.
#[derive(Default)]
struct Store(Mutex<BTreeMap<&'static str, Account>>);

#[derive(Debug)]
struct Refused {
    token: FencingToken,
    greatest: FencingToken,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { token, greatest } = self;
        write!(f, "token {token} is older than {greatest}, already seen")
    }
}

impl Store {
    fn read(&self, customer: &str) -> Account {
        self.accounts().get(customer).copied().unwrap_or_default()
    }

    fn write(&self, customer: &'static str, token: FencingToken, owed: u64) -> Result<(), Refused> {
        let mut accounts = self.accounts();
        let account = accounts.entry(customer).or_default();
        if let Some(greatest) = account.greatest.filter(|&greatest| token < greatest) {
            return Err(Refused { token, greatest });
        }
        account.owed = owed;
        account.writes += 1;
        account.greatest = Some(token);
        Ok(())
    }

    fn accounts(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, Account>> {
        // Accounts are whole between two calls, whatever became of a thread that held the mutex.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Queue(Mutex<VecDeque<Job>>);

impl Queue {
    fn take(&self) -> Option<Job> {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.pop_front()
    }

    fn give_back(&self, job: Job) {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.push_front(job);
    }
}

fn main() {
    let jobs = (1..=JOBS_EACH).flat_map(|seq| CUSTOMERS.map(|customer| Job { customer, seq }));
    let queue = Queue(Mutex::new(jobs.collect()));
    let store = Store::default();
    let customers: LockTable<str> = LockTable::new();

    // A worker takes a job, reads what it needs, and is cut off before it writes.
    let job = queue.take().expect("the queue is full");
    let guard = customers.lock(job.customer);
    let (token, owed) = (guard.token(), store.read(job.customer).owed);
    println!("worker 0 is cut off in job {} of {}", job.seq, job.customer);
    // Whoever watches over the workers takes it for dead: its customer is given to others, and its
    // job is done again.
    drop(guard);
    queue.give_back(job);

    let start = Barrier::new(WORKERS);
    thread::scope(|s| {
        for worker in 1..=WORKERS {
            let (queue, store, customers, start) = (&queue, &store, &customers, &start);
            s.spawn(move || {
                start.wait();
                let mut done = 0;
                while let Some(job) = queue.take() {
                    let guard = customers.lock(job.customer);
                    // Taken before the work, so that it says how old the work is.
                    let token = guard.token();
                    let owed = store.read(job.customer).owed;
                    // Invites the others in between the read and the write: only the lock keeps
                    // them out.
                    thread::yield_now();
                    let written = store.write(job.customer, token, owed + job.seq);
                    written.expect("nobody is ahead of who holds the lock");
                    done += 1;
                }
                println!("worker {worker} did {done} jobs");
            });
        }
    });

    // Worker 0 wakes up, knows nothing of all this, and writes what it had worked out.
    let late = store.write(job.customer, token, owed + job.seq);
    let refused = late.expect_err("it would undo every job done since");
    println!("worker 0 is refused: {refused}");

    println!();
    for (customer, account) in store.accounts().iter() {
        let Account { owed, writes, .. } = account;
        println!("{customer:<8} {writes:>4} jobs {owed:>8} owed");
        assert_eq!(*writes, JOBS_EACH, "each job is done once");
        assert_eq!(*owed, JOBS_EACH * (JOBS_EACH + 1) / 2, "and none undone");
    }
    assert_eq!(store.accounts().len(), CUSTOMERS.len());
    assert_eq!(customers.locked_count(), 0, "nothing is left in the table");
}
