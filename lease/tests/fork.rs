//! The child of a fork has no leases.
//!
//! One test, because no thread but those that it starts may be inside a call of the crate at a
//! fork.

#![cfg(unix)]
#![allow(unsafe_code)]

use std::future::Future;
use std::time::Duration;

use latchwork_lease::memory::MemoryEngine;
use latchwork_lease::{AcquireError, LeaseLost, Leases, LossReason, Release};

const LONG: Duration = Duration::from_secs(60);

/// Runs `child` in a child of this process, and returns whether it returned true.
fn in_child(child: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child calls only `child`, whose allocations the system's allocator supports after
    // a fork, and `_exit`.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        // A child that hangs is ended by a signal.
        // SAFETY: it sets a timer of this process.
        unsafe { libc::alarm(20) };
        let passed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
        // SAFETY: it ends the process, and has no other precondition.
        unsafe { libc::_exit(i32::from(!matches!(passed, Ok(true)))) };
    }
    let mut status = 0;
    // SAFETY: the pointer is valid for a write during the call.
    let waited = unsafe { libc::waitpid(pid, &mut status, 0) };
    waited == pid && libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
}

fn poll(lost: &mut LeaseLost) -> bool {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    std::future::Future::poll(std::pin::Pin::new(lost), &mut context).is_ready()
}

#[test]
fn the_child_of_a_fork_has_no_leases() {
    let engine = MemoryEngine::new();
    let leases = Leases::new(engine.clone());
    let mut lease = Some(leases.acquire("a", LONG).unwrap());
    let mut set = Some(leases.acquire_all(["b", "c"], LONG).unwrap());
    let mut handle = Some(leases.clone());
    let mut waiting = Some(Box::pin(leases.acquire_async("e", LONG)));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let _ = waiting
        .as_mut()
        .map(|future| future.as_mut().poll(&mut context));
    let passed = in_child(|| {
        let lease = lease.take().unwrap();
        let (set, leases) = (set.take().unwrap(), handle.take().unwrap());
        let mut lost = lease.lost();
        let is_lost = !lease.is_held() && !set.is_held() && poll(&mut lost);
        let is_told = lease.wait_lost_for(LONG).is_some();
        lease.on_lost(|_| {});
        let refused = matches!(
            leases.acquire("d", LONG),
            Err(AcquireError::Misconfigured(_))
        );
        let refused = refused && leases.holder("a").is_err() && leases.shutdown(LONG).is_ok();
        let released = lease
            .release()
            .is_ok_and(|release| release == Release::WasLost);
        drop((lost, set, leases, waiting.take()));
        is_lost && is_told && refused && released
    });
    assert!(passed);
    // The child had no effect here.
    let lease = lease.unwrap();
    assert!(lease.is_held() && set.as_ref().unwrap().is_held());
    assert_eq!(lease.wait_lost_for(Duration::ZERO), None::<LossReason>);
    let other = Leases::new(engine);
    assert!(other.try_acquire("a", LONG).unwrap().is_none());
    assert!(other.try_acquire("b", LONG).unwrap().is_none());
    assert_eq!(lease.release().unwrap(), Release::Done);
    // The child can connect again.
    let passed = in_child(|| {
        let leases = Leases::connect("memory:").unwrap();
        let lease = leases.acquire("a", LONG).unwrap();
        lease.is_held() && lease.release().is_ok()
    });
    assert!(passed);
    drop((set, handle, waiting));
}
