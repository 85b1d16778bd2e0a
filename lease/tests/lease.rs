//! Leases over the engine `memory:`.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::task::{Context, Waker};
use std::thread;
use std::time::{Duration, Instant};

use latchwork::table::FencingToken;
use latchwork_lease::memory::{MemoryClock, MemoryEngine};
use latchwork_lease::{
    AcquireError, AcquireOptions, ConnectError, InvalidName, Leases, LeasesBuilder, LossReason,
    Release,
};

const SHORT: Duration = Duration::from_millis(500);
const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_lease_is_renewed_until_it_is_released() {
    let engine = MemoryEngine::new();
    let (one, two) = (Leases::new(engine.clone()), Leases::new(engine));
    let lease = one.acquire("a", SHORT).unwrap();
    let start = Instant::now();
    while start.elapsed() < 4 * SHORT {
        assert!(lease.is_held());
        assert!(two.try_acquire("a", SHORT).unwrap().is_none());
        thread::sleep(SHORT / 8);
    }
    let token = lease.token();
    assert_eq!(lease.release().unwrap(), Release::Done);
    let next = two.acquire("a", LONG).unwrap();
    assert!(next.token() > token);
    assert_eq!(next.wait_lost_for(Duration::ZERO), None);
}

#[test]
fn a_dropped_lease_is_released_in_the_background() {
    let engine = MemoryEngine::new();
    let (one, two) = (Leases::new(engine.clone()), Leases::new(engine));
    let lease = one.acquire("a", LONG).unwrap();
    let lost = lease.lost();
    drop(one);
    drop(lease);
    assert_eq!(pollster::block_on(lost), LossReason::Released);
    // Far less than the length of the lease.
    let start = Instant::now();
    drop(two.acquire("a", LONG).unwrap());
    assert!(start.elapsed() < LONG / 2);
}

#[test]
fn a_shutdown_ends_leases_and_acquisitions() {
    let engine = MemoryEngine::new();
    let (one, two) = (Leases::new(engine.clone()), Leases::new(engine));
    let (lease, waiting) = (one.acquire("a", LONG).unwrap(), one.clone());
    let other = two.acquire("b", LONG).unwrap();
    let waiter = thread::spawn(move || waiting.acquire("b", LONG).map(drop));
    thread::sleep(Duration::from_millis(50));
    one.shutdown(LONG).unwrap();
    assert_eq!(
        lease.wait_lost_for(Duration::ZERO),
        Some(LossReason::Shutdown)
    );
    assert!(!lease.is_held());
    assert!(two.try_acquire("a", LONG).unwrap().is_some());
    assert!(matches!(
        waiter.join().unwrap(),
        Err(AcquireError::Misconfigured(_))
    ));
    assert!(matches!(
        one.acquire("c", LONG),
        Err(AcquireError::Misconfigured(_))
    ));
    assert!(other.is_held());
}

#[test]
fn a_lease_that_is_broken_is_lost() {
    let leases = Leases::new(MemoryEngine::new());
    let lease = leases.acquire("a", SHORT).unwrap();
    let (sender, receiver) = mpsc::channel();
    lease.on_lost(move |reason| sender.send(reason).unwrap());
    let stale = FencingToken::new(lease.token().get() - 1);
    assert!(!leases.break_lease("a", stale).unwrap());
    assert!(leases.break_lease("a", lease.token()).unwrap());
    assert_eq!(lease.wait_lost_for(LONG), Some(LossReason::TakenAway));
    assert_eq!(receiver.recv_timeout(LONG), Ok(LossReason::TakenAway));
    assert_eq!(pollster::block_on(lease.lost()), LossReason::TakenAway);
    // A callback that is registered late is also called.
    let (sender, receiver) = mpsc::channel();
    lease.on_lost(move |reason| sender.send(reason).unwrap());
    assert_eq!(receiver.recv_timeout(LONG), Ok(LossReason::TakenAway));
    assert_eq!(lease.release().unwrap(), Release::WasLost);
    let next = leases.acquire("a", LONG).unwrap();
    assert_eq!(
        pollster::block_on(next.release_async()).unwrap(),
        Release::Done
    );
    let unpolled = leases.acquire("a", LONG).unwrap().release_async();
    drop(unpolled);
    drop(leases.acquire("a", LONG).unwrap());
}

#[test]
fn a_jump_of_the_servers_clock_is_a_loss() {
    let clock = MemoryClock::new();
    let leases = Leases::new(MemoryEngine::with_clock(clock.clone()));
    let lease = leases.acquire("a", SHORT).unwrap();
    clock.advance(LONG);
    let reason = lease.wait_lost_for(LONG).unwrap();
    assert_eq!(reason, LossReason::TakenAway);
    assert!(leases.acquire("a", SHORT).unwrap().token() > lease.token());
}

#[test]
fn a_dropped_future_leaves_nothing_that_is_renewed() {
    let engine = MemoryEngine::new();
    let (one, two) = (Leases::new(engine.clone()), Leases::new(engine));
    // Before, during and after the request; and while another lease has the name.
    for polls in 0..4 {
        let mut future = Box::pin(one.acquire_async("a", LONG));
        poll_times(future.as_mut(), polls);
        drop(future);
        let start = Instant::now();
        drop(two.acquire("a", LONG).unwrap());
        assert!(start.elapsed() < LONG / 2, "after {polls} polls");
    }
    let held = two.acquire("a", LONG).unwrap();
    let mut future = Box::pin(one.acquire_async("a", LONG));
    poll_times(future.as_mut(), 2);
    drop(future);
    // The in-process queue is free at once.
    let mut options = AcquireOptions::new(LONG);
    options.give_up_after = Some(Duration::from_millis(20));
    assert!(matches!(
        one.acquire_with("a", &options),
        Err(AcquireError::GaveUp)
    ));
    held.release().unwrap();
    drop(one.acquire("a", LONG).unwrap());
}

fn poll_times<F: Future>(mut future: Pin<&mut F>, times: usize) {
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..times {
        if future.as_mut().poll(&mut context).is_ready() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_hundred_tasks_hold_one_name_one_after_another() {
    let engine = MemoryEngine::new();
    let all = [Leases::new(engine.clone()), Leases::new(engine)];
    let (holders, tokens) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|s| {
        for task in 0..100 {
            let (leases, holders, tokens) = (&all[task % 2], &holders, &tokens);
            s.spawn(move || {
                pollster::block_on(async {
                    let lease = leases.acquire_async("a", LONG).await.unwrap();
                    assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                    tokens.lock().unwrap().push(lease.token());
                    assert_eq!(holders.fetch_sub(1, Ordering::SeqCst), 1);
                    lease.release().unwrap();
                })
            });
        }
    });
    let tokens = tokens.into_inner().unwrap();
    assert_eq!(tokens.len(), 100);
    assert!(tokens.is_sorted() && tokens.windows(2).all(|pair| pair[0] < pair[1]));
}

#[test]
fn sets_in_opposite_orders_do_not_deadlock() {
    let engine = MemoryEngine::new();
    let all = [Leases::new(engine.clone()), Leases::new(engine)];
    let holders = AtomicUsize::new(0);
    thread::scope(|s| {
        for (leases, names) in all.iter().zip([["a", "b"], ["b", "a"]]) {
            for _ in 0..2 {
                let holders = &holders;
                s.spawn(move || {
                    for _ in 0..20 {
                        let set = leases.acquire_all(names, LONG).unwrap();
                        assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                        assert!(set.is_held() && set.len() == 2);
                        assert_eq!(holders.fetch_sub(1, Ordering::SeqCst), 1);
                        set.release().unwrap();
                    }
                });
            }
        }
    });
    let set = all[0].try_acquire_all(["a", "c"], LONG).unwrap().unwrap();
    assert!(all[1].try_acquire_all(["c", "d"], LONG).unwrap().is_none());
    assert!(all[1].try_acquire("d", LONG).unwrap().is_some());
    drop(set);
    let empty: [&str; 0] = [];
    assert!(all[0].acquire_all(empty, LONG).unwrap().is_empty());
    let twice = all[0].acquire_all(["a", "a"], LONG);
    assert!(matches!(
        twice,
        Err(AcquireError::InvalidName(InvalidName::Duplicate))
    ));
}

#[test]
fn passwords_are_in_no_error() {
    for url in [
        "redis://user:hunter2@host",
        "hunter2",
        "x:hunter2",
        "sqlite:/no/hunter2/x",
    ] {
        let Err(error) = Leases::connect(url) else {
            continue;
        };
        for text in [error.to_string(), format!("{error:?}")] {
            assert!(
                !text.contains("hunter2") || url.starts_with("sqlite"),
                "{text}"
            );
        }
    }
}

#[test]
fn options_out_of_range_are_refused() {
    let refused = |builder: LeasesBuilder| match builder.connect("memory:") {
        Err(ConnectError::InvalidOption { option, .. }) => option,
        other => panic!("{other:?}"),
    };
    let builder = Leases::builder;
    assert_eq!(refused(builder().namespace("")), "namespace");
    assert_eq!(refused(builder().owner_label("a\nb")), "owner_label");
    assert_eq!(
        refused(builder().request_timeout(Duration::ZERO)),
        "request_timeout"
    );
    assert_eq!(refused(builder().drift(f64::NAN)), "drift");
    assert_eq!(refused(builder().renew_at(1.0)), "renew_at");
}

#[test]
fn huge_and_zero_timeouts_are_time_limits() {
    let engine = MemoryEngine::new();
    let (one, two) = (Leases::new(engine.clone()), Leases::new(engine));
    let mut options = AcquireOptions::new(LONG);
    options.give_up_after = Some(Duration::MAX);
    let lease = one.acquire_with("a", &options).unwrap();
    options.give_up_after = Some(Duration::ZERO);
    for leases in [&one, &two] {
        assert!(matches!(
            leases.acquire_with("a", &options),
            Err(AcquireError::GaveUp)
        ));
        let future = leases.acquire_with_async("a", &options);
        assert!(matches!(
            pollster::block_on(future),
            Err(AcquireError::GaveUp)
        ));
    }
    drop(one.acquire_with("b", &options).unwrap());
    assert_eq!(lease.wait_lost_for(Duration::ZERO), None);
}

/// Returns the crates that this one needs with some features, without itself.
fn dependencies(features: &str) -> usize {
    let arguments =
        "tree --frozen -p latchwork-lease -e normal --prefix none --no-default-features";
    let tree = std::process::Command::new(env!("CARGO"))
        .args(arguments.split(' '))
        .args(["--features", features])
        .output()
        .unwrap();
    assert!(tree.status.success(), "{tree:?}");
    let lines = String::from_utf8(tree.stdout).unwrap();
    // The name and the version of each line. A star marks a repetition.
    let crates = lines.lines().map(|line| {
        let mut words = line.split(' ');
        (words.next(), words.next())
    });
    let distinct: std::collections::BTreeSet<_> = crates.collect();
    distinct.len() - 1
}

#[test]
#[cfg(target_os = "linux")]
fn the_readme_counts_the_dependencies() {
    let readme = include_str!("../README.md");
    let (_, section) = readme.split_once("## Dependencies").unwrap();
    let mut rows = 0;
    for line in section
        .lines()
        .filter(|line| line.starts_with("| "))
        .skip(1)
    {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let features = cells[1].trim_matches('`').replace("none", "");
        let count: usize = cells[2].parse().unwrap();
        assert_eq!(dependencies(&features), count, "{line}");
        let limit = match &*features {
            "sqlite" => 40,
            "sqlite,postgres" => 100,
            _ => usize::MAX,
        };
        assert!(count <= limit, "{line}");
        rows += 1;
    }
    assert_eq!(rows, 6);
}

/// The first statement of the README on a table that begins without rows.
#[cfg(feature = "sqlite")]
#[test]
fn the_statement_of_the_readme_refuses_late_writes() {
    let readme = include_str!("../README.md");
    let statement = readme.split("```sql\n").nth(1).unwrap();
    let statement = statement.split("```").next().unwrap();
    let store = rusqlite::Connection::open_in_memory().unwrap();
    let table = "CREATE TABLE report (name TEXT PRIMARY KEY, body TEXT, token INTEGER, nonce TEXT)";
    store.execute_batch(table).unwrap();
    let write = |body: &str, token: i64, nonce: &str| {
        let values = rusqlite::params!["nightly", body, token, nonce];
        store.execute(statement, values).unwrap()
    };
    assert_eq!(write("first", 7, "a"), 1);
    assert_eq!(write("again", 7, "a"), 1);
    assert_eq!(write("another holder of the number", 7, "b"), 0);
    assert_eq!(write("second", 8, "c"), 1);
    assert_eq!(write("late", 7, "a"), 0);
    let body = store.query_row("SELECT body FROM report", [], |row| row.get::<_, String>(0));
    assert_eq!(body.unwrap(), "second");
}
