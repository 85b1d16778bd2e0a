//! Calls while the system starts no thread.
//!
//! One test, because it limits the memory of the process.
#![cfg(target_os = "linux")]

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use std::{fs, thread};

use latchwork_lease::Leases;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Returns the size of the address space of this process.
fn size() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmSize:"));
    let kib: u64 = line
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    kib * 1024
}

fn poll_for<F: Future>(future: F, limit: Duration) -> Option<F::Output> {
    let mut future = pin!(future);
    let (start, mut context) = (Instant::now(), Context::from_waker(Waker::noop()));
    while start.elapsed() < limit {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        thread::sleep(Duration::from_millis(10));
    }
    None
}

#[test]
fn a_call_without_a_thread_fails_and_does_not_hang() {
    let leases = Leases::connect("memory:").unwrap();
    let before = getrlimit(Resource::As);
    // A thread needs more for its stack.
    let limit = Rlimit {
        current: Some(size() + 1024 * 1024),
        maximum: before.maximum,
    };
    setrlimit(Resource::As, limit).unwrap();
    let thread = thread::Builder::new().spawn(|| {});
    let long = Duration::from_secs(5);
    let holder = poll_for(leases.holder_async("a"), long);
    let lease = poll_for(leases.acquire_async("a", long), long);
    let set = poll_for(leases.acquire_all_async(["a"], long), long);
    setrlimit(Resource::As, before).unwrap();
    assert!(thread.is_err(), "the limit has no effect");
    for text in [
        holder.expect("holder_async hangs").unwrap_err().to_string(),
        lease.expect("acquire_async hangs").unwrap_err().to_string(),
        set.expect("acquire_all_async hangs")
            .unwrap_err()
            .to_string(),
    ] {
        assert!(text.contains("unavailable"), "{text}");
    }
    // The calls that failed have left nothing.
    let lease = poll_for(leases.acquire_async("a", long), long);
    assert!(lease.expect("acquire_async hangs").is_ok());
}
