//! Cases that use leases over the engine.

use core::future::Future;
use core::pin::Pin;
use core::task::Context;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant};

use super::faults::{Fault, Faulty};
use super::{Checked, Problem, Suite, ensure, nonce, text};
use crate::engine::{Attempt, Outcome};
use crate::wait::block_on_until;
use crate::{AcquireError, AcquireOptions, Leases, LossReason, Release};

/// Of leases that are released, and would outlive the case otherwise.
const LONG: Duration = Duration::from_secs(60);

type Run = fn(&Suite<'_>) -> Checked;

pub(super) const CASES: &[(&str, Run)] = &[
    ("a lease is renewed in the background", renewed),
    ("a broken lease is lost", broken),
    (
        "a lease is lost in time while the engine hangs",
        lost_in_time,
    ),
    ("a lease survives a short outage", short_outage),
    ("a release that fails is repeated", release_repeated),
    ("lost answers leave nothing", lost_answers),
    ("an acquisition that times out leaves nothing", timed_out),
    ("a dropped future leaves nothing", cancelled),
    ("an abandoned lease expires", abandoned),
    ("time limits of callers", time_limits),
    ("nothing is sent for refused arguments", refused),
    ("sets in opposite orders", opposite_orders),
    ("a hundred tasks on one name", hundred_tasks),
    ("one leader at a time", elections),
    ("a shutdown releases", shutdown),
];

fn block_on<F: Future>(future: F) -> F::Output {
    block_on_until(future, None).expect("there is no time limit")
}

fn faulty(suite: &Suite<'_>) -> Result<(std::sync::Arc<Faulty>, Leases), String> {
    let engine = Faulty::new(suite.engine());
    // After a fault, a server of a machine with other work must answer within this time.
    let builder = Leases::builder()
        .namespace(&suite.namespace)
        .request_timeout(Duration::from_secs(1).max(suite.ttl / 4));
    let leases = builder
        .build_shared(engine.clone())
        .map_err(|error| error.to_string())?;
    Ok((engine, leases))
}

/// Checks that other processes can acquire the name before `limit` has passed.
fn free_within(suite: &Suite<'_>, name: &str, limit: Duration) -> Checked {
    let (engine, start) = (suite.engine(), Instant::now());
    let nonce = nonce();
    while let Attempt::Busy { .. } = suite.ask(&*engine, name, nonce, LONG)? {
        ensure!(
            !suite.has_passed(start, limit),
            "{name:?} is not free after {limit:?}"
        );
        thread::sleep(Duration::from_millis(10));
    }
    let released = engine.release(suite.key(name), nonce, suite.deadline());
    text(released).map(drop)
}

fn renewed(suite: &Suite<'_>) -> Checked {
    let (one, two) = (suite.leases()?, suite.leases()?);
    let (start, ttl) = (Instant::now(), suite.ttl);
    let lease = text(one.acquire("a", ttl))?;
    // A lease is renewed after a third of its length.
    let lost = |how: &str| {
        let reason = format!("the lease was lost after {:?}: {how}", start.elapsed());
        suite.judge(start, ttl * 2 / 3, reason)
    };
    while start.elapsed() < ttl * 3 {
        if !lease.is_held() {
            return Err(lost("it is not held"));
        }
        let other = text(two.try_acquire("a", LONG))?;
        if other.is_some() {
            // A lease that has ended at the engine must not be held here.
            ensure!(!lease.is_held(), "two leases on one name");
            return Err(lost("it was acquired"));
        }
        thread::sleep(ttl / 10);
    }
    let token = lease.token();
    if text(lease.release())? != Release::Done {
        return Err(lost("it was not held until its release"));
    }
    let next = text(two.try_acquire("a", suite.ttl))?.ok_or("the name is not free")?;
    ensure!(
        next.token() > token,
        "token {} follows token {token}",
        next.token()
    );
    Ok(())
}

fn broken(suite: &Suite<'_>) -> Checked {
    let (one, two) = (suite.leases()?, suite.leases()?);
    let lease = text(one.acquire("a", suite.ttl))?;
    let lost = lease.lost();
    ensure!(
        text(two.break_lease("a", lease.token()))?,
        "the lease is not broken"
    );
    let reason = lease
        .wait_lost_for(suite.patience)
        .ok_or("the loss is not reported")?;
    // A renewal that was in flight may delay the report until the end of the lease.
    ensure!(
        matches!(reason, LossReason::TakenAway | LossReason::Expired),
        "the lease was lost because {reason}"
    );
    ensure!(!lease.is_held(), "a lost lease is held");
    ensure!(block_on(lost) == reason, "two reasons of one loss");
    let next = text(two.acquire("a", LONG))?;
    ensure!(
        text(lease.release())? == Release::WasLost,
        "a broken lease is released"
    );
    let holder = text(suite.engine().holder(suite.key("a"), suite.deadline()))?;
    ensure!(
        holder.map(|holder| holder.token) == Some(next.token()),
        "the release of a lost lease hit the next one"
    );
    Ok(())
}

fn lost_in_time(suite: &Suite<'_>) -> Checked {
    for fault in [Fault::Hung, Fault::Down] {
        let ((engine, leases), start) = (faulty(suite)?, Instant::now());
        let lease = text(leases.acquire("a", suite.ttl))?;
        engine.set(fault);
        let reason = lease.wait_lost_for(suite.patience);
        let late = Instant::now().saturating_duration_since(lease.deadline());
        ensure!(
            reason == Some(LossReason::Expired),
            "{fault:?}: the loss is {reason:?}"
        );
        ensure!(
            late < Duration::from_millis(50) + suite.delay(start),
            "{fault:?}: notified {late:?} too late"
        );
        ensure!(!lease.is_held(), "{fault:?}: a lost lease is held");
        // Another process has it after the lease.
        free_within(suite, "a", suite.ttl * 2 + Duration::from_secs(1))?;
        engine.set(Fault::None);
        free_within(suite, "a", suite.patience)?;
        drop(lease);
        drop(text(leases.acquire("a", suite.ttl))?);
    }
    Ok(())
}

fn short_outage(suite: &Suite<'_>) -> Checked {
    let ttl = suite.ttl * 2;
    for fault in [Fault::Down, Fault::AnswerLost] {
        let ((engine, leases), start) = (faulty(suite)?, Instant::now());
        let lease = text(leases.acquire("a", ttl))?;
        // From before the first renewal until after it.
        thread::sleep(ttl / 6);
        engine.set(fault);
        thread::sleep(ttl / 3);
        engine.set(Fault::None);
        // A renewal that failed is repeated after a twentieth.
        let slack = (ttl * 9 / 10).saturating_sub(start.elapsed());
        let lost = lease.wait_lost_for(ttl + ttl / 4);
        if lost.is_some() {
            let reason = format!("{fault:?}: the lease was lost: {lost:?}");
            return Err(suite.judge(start, slack, reason));
        }
        if text(lease.release())? != Release::Done {
            let reason = format!("{fault:?}: it was not held");
            return Err(suite.judge(start, slack, reason));
        }
    }
    Ok(())
}

fn release_repeated(suite: &Suite<'_>) -> Checked {
    for fault in [Fault::Down, Fault::Hung] {
        let (engine, leases) = faulty(suite)?;
        let lease = text(leases.acquire("a", LONG))?;
        engine.set(fault);
        ensure!(
            lease.release().is_err(),
            "{fault:?}: a release is confirmed"
        );
        drop(
            text(leases.holder("a"))
                .err()
                .ok_or("the fault has no effect")?,
        );
        engine.set(Fault::None);
        // Far less than the length of the lease.
        free_within(suite, "a", suite.patience)?;
        let next = text(leases.acquire("a", LONG))?;
        ensure!(
            text(next.release())? == Release::Done,
            "{fault:?}: the next lease was lost"
        );
        let shutdown = leases.shutdown(suite.patience);
        ensure!(shutdown.is_ok(), "{fault:?}: the release is not confirmed");
    }
    Ok(())
}

fn lost_answers(suite: &Suite<'_>) -> Checked {
    let (engine, leases) = faulty(suite)?;
    engine.set(Fault::HalfLost);
    for round in 0..5 {
        // Each second answer is lost, so a request is repeated with its nonce.
        let lease = text(leases.acquire("a", LONG))?;
        let holder = text(suite.engine().holder(suite.key("a"), suite.deadline()))?;
        let token = holder.map(|holder| holder.token);
        ensure!(
            token == Some(lease.token()),
            "round {round}: the holder has {token:?}"
        );
        drop(lease);
    }
    engine.set(Fault::AnswerLost);
    // Another name, because the last release of "a" may still be in the background.
    let error = match leases.try_acquire("b", LONG) {
        Err(error) => error,
        Ok(answer) => return Err(format!("an answer was received: {answer:?}").into()),
    };
    let is_unknown = matches!(
        error,
        AcquireError::Unavailable {
            outcome: Outcome::Unknown,
            ..
        }
    );
    ensure!(is_unknown, "an answer was lost, and the error is {error:?}");
    engine.set(Fault::None);
    free_within(suite, "a", suite.patience)?;
    free_within(suite, "b", suite.patience)
}

fn timed_out(suite: &Suite<'_>) -> Checked {
    for fault in [Fault::Hung, Fault::AnswerLost] {
        let (engine, leases) = faulty(suite)?;
        engine.set(fault);
        let mut options = AcquireOptions::new(suite.ttl);
        options.give_up_after = Some(suite.ttl / 2);
        let start = Instant::now();
        let result = leases.acquire_with("a", &options);
        ensure!(result.is_err(), "{fault:?}: a lease is granted");
        suite.in_time(start, suite.patience, "an acquisition with a time limit")?;
        engine.set(Fault::None);
        free_within(suite, "a", suite.patience)?;
        drop(text(leases.acquire("a", LONG))?);
        free_within(suite, "a", suite.patience)?;
    }
    Ok(())
}

fn poll_times<F: Future>(mut future: Pin<&mut F>, times: u32) {
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..times {
        if future.as_mut().poll(&mut context).is_ready() {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn cancelled(suite: &Suite<'_>) -> Checked {
    let (leases, other) = (suite.leases()?, suite.leases()?);
    for polls in 0..4 {
        let mut one = Box::pin(leases.acquire_async("a", LONG));
        poll_times(one.as_mut(), polls);
        drop(one);
        free_within(suite, "a", suite.patience)?;
        let mut all = Box::pin(leases.acquire_all_async(["a", "b"], LONG));
        poll_times(all.as_mut(), polls);
        drop(all);
        free_within(suite, "a", suite.patience)?;
        free_within(suite, "b", suite.patience)?;
    }
    // While another process has the name, and while another thread of this one has it.
    for holder in [&other, &leases] {
        let held = text(holder.acquire("a", LONG))?;
        let mut one = Box::pin(leases.acquire_async("a", LONG));
        poll_times(one.as_mut(), 3);
        let mut all = Box::pin(leases.acquire_all_async(["a", "b"], LONG));
        poll_times(all.as_mut(), 3);
        drop((one, all));
        ensure!(held.is_held(), "a cancelled acquisition ended a lease");
        ensure!(
            text(held.release())? == Release::Done,
            "a cancelled acquisition hit a lease"
        );
        free_within(suite, "a", suite.patience)?;
        drop(text(leases.acquire("a", LONG))?);
        free_within(suite, "a", suite.patience)?;
    }
    Ok(())
}

fn abandoned(suite: &Suite<'_>) -> Checked {
    let (engine, leases) = faulty(suite)?;
    let lease = text(leases.acquire("a", suite.ttl))?;
    // The process dies: it makes no further request.
    engine.set(Fault::Down);
    let start = Instant::now();
    // Long, because a machine with other work may renew a short one too late.
    let next = text(suite.leases()?.acquire("a", LONG))?;
    suite.in_time(start, suite.ttl + suite.hand_over, "the end of the lease")?;
    ensure!(!lease.is_held(), "two holders");
    ensure!(
        next.token() > lease.token(),
        "the token of the next holder is not greater"
    );
    engine.set(Fault::None);
    drop(lease);
    thread::sleep(suite.ttl);
    let holder = text(suite.engine().holder(suite.key("a"), suite.deadline()))?;
    ensure!(
        holder.map(|holder| holder.token) == Some(next.token()),
        "the return of a dead holder ended the next lease"
    );
    Ok(())
}

fn time_limits(suite: &Suite<'_>) -> Checked {
    let (one, two) = (suite.leases()?, suite.leases()?);
    let mut options = AcquireOptions::new(LONG);
    options.give_up_after = Some(Duration::MAX);
    let lease = text(one.acquire_with("a", &options))?;
    for limit in [
        Duration::ZERO,
        Duration::from_nanos(1),
        Duration::from_millis(100),
    ] {
        options.give_up_after = Some(limit);
        for leases in [&one, &two] {
            let start = Instant::now();
            let results = [
                leases.acquire_with("a", &options),
                block_on(leases.acquire_with_async("a", &options)),
            ];
            for result in results {
                match result {
                    Err(AcquireError::GaveUp) => {}
                    Err(error @ AcquireError::Unavailable { .. }) => {
                        return Err(Problem::Temporary(error.to_string()));
                    }
                    other => return Err(format!("a limit of {limit:?}: {other:?}").into()),
                }
            }
            ensure!(
                start.elapsed() >= limit * 2,
                "returned after {:?}",
                start.elapsed()
            );
            suite.in_time(start, suite.patience, "two acquisitions with a time limit")?;
        }
    }
    options.give_up_after = Some(Duration::ZERO);
    drop(text(two.acquire_with("b", &options))?);
    ensure!(lease.is_held(), "an attempt ended the lease");
    Ok(())
}

fn refused(suite: &Suite<'_>) -> Checked {
    let (engine, leases) = faulty(suite)?;
    let before = engine.calls();
    let long = "x".repeat(513);
    for name in ["", "a\0", "a\nb", "\u{202E}a", "a\u{2066}", "\u{7F}", &long] {
        let results = [
            leases.acquire(name, suite.ttl).map(drop),
            leases.try_acquire(name, suite.ttl).map(drop),
            block_on(leases.acquire_async(name, suite.ttl)).map(drop),
            leases.acquire_all(["fine", name], suite.ttl).map(drop),
        ];
        for result in results {
            let is_refused = matches!(result, Err(AcquireError::InvalidName(_)));
            ensure!(is_refused, "{name:?} is not refused: {result:?}");
        }
        ensure!(leases.holder(name).is_err(), "{name:?} has a holder");
        ensure!(leases.watch(name).is_err(), "{name:?} can be watched");
    }
    let least = leases
        .guarantees()
        .least_lease
        .max(Duration::from_millis(100));
    let refused = [
        Duration::ZERO,
        least - Duration::from_nanos(1),
        Duration::MAX,
    ];
    for ttl in refused {
        let result = leases.acquire("a", ttl);
        let is_refused = matches!(result, Err(AcquireError::InvalidTtl(_)));
        ensure!(is_refused, "{ttl:?} is not refused: {result:?}");
    }
    ensure!(
        engine.calls() == before,
        "{} requests were made",
        engine.calls() - before
    );
    // An answer can arrive later than the least lease, so only a refusal is wrong.
    let result = leases.acquire("a", least);
    let is_refused = matches!(result, Err(AcquireError::InvalidTtl(_)));
    ensure!(!is_refused, "{least:?} is refused");
    drop(text(leases.acquire("b", Duration::from_secs(24 * 3600)))?);
    text(leases.shutdown(suite.patience))
}

fn opposite_orders(suite: &Suite<'_>) -> Checked {
    let all = [suite.leases()?, suite.leases()?];
    let holders = AtomicUsize::new(0);
    thread::scope(|s| {
        let threads: Vec<_> = [["a", "b"], ["b", "a"], ["a", "b"], ["b", "a"]]
            .into_iter()
            .enumerate()
            .map(|(at, names)| {
                let (leases, holders) = (&all[at % 2], &holders);
                s.spawn(move || -> Checked {
                    for _ in 0..5 {
                        let set = text(leases.acquire_all(names, LONG))?;
                        let others = holders.fetch_add(1, Ordering::SeqCst);
                        let is_held = set.is_held();
                        holders.fetch_sub(1, Ordering::SeqCst);
                        let released = text(set.release())?;
                        ensure!(others == 0, "{others} other holders of a set");
                        ensure!(is_held && released == Release::Done, "a set was lost");
                    }
                    Ok(())
                })
            })
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().expect("no panic"))
    })?;
    let set = text(all[0].try_acquire_all(["b", "c"], LONG))?.ok_or("the names are free")?;
    let other = text(all[1].try_acquire_all(["a", "b", "d"], LONG))?;
    ensure!(other.is_none(), "two sets with one name");
    for name in ["a", "d"] {
        free_within(suite, name, suite.patience)?;
    }
    ensure!(set.is_held(), "an attempt ended a set");
    drop(set);
    free_within(suite, "b", suite.patience)?;
    free_within(suite, "c", suite.patience)
}

fn hundred_tasks(suite: &Suite<'_>) -> Checked {
    let all = [suite.leases()?, suite.leases()?];
    let (holders, last) = (AtomicUsize::new(0), AtomicU64::new(0));
    thread::scope(|s| {
        let tasks: Vec<_> = (0..100)
            .map(|task| {
                let (leases, holders, last) = (&all[task % 2], &holders, &last);
                let task = async move || -> Checked {
                    let lease = text(leases.acquire_async("a", LONG).await)?;
                    let others = holders.fetch_add(1, Ordering::SeqCst);
                    let before = last.swap(lease.token().get(), Ordering::SeqCst);
                    holders.fetch_sub(1, Ordering::SeqCst);
                    ensure!(others == 0, "{others} other holders");
                    ensure!(
                        before < lease.token().get(),
                        "a token follows token {before}"
                    );
                    let released = text(lease.release())?;
                    ensure!(released == Release::Done, "a lease was lost");
                    Ok(())
                };
                s.spawn(move || block_on(task()))
            })
            .collect();
        tasks
            .into_iter()
            .try_for_each(|task| task.join().expect("no panic"))
    })
}

fn elections(suite: &Suite<'_>) -> Checked {
    let mut watch = text(suite.leases()?.watch("leader"))?;
    ensure!(
        text(watch.next())?.is_none(),
        "a leader before the election"
    );
    let leaders = AtomicUsize::new(0);
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(suite.leases()?);
    }
    thread::scope(|s| {
        let threads: Vec<_> = nodes
            .iter()
            .map(|node| {
                let leaders = &leaders;
                s.spawn(move || -> Checked {
                    let leadership = text(node.campaign("leader", LONG))?;
                    let others = leaders.fetch_add(1, Ordering::SeqCst);
                    thread::sleep(Duration::from_millis(100));
                    leaders.fetch_sub(1, Ordering::SeqCst);
                    ensure!(others == 0, "{others} other leaders");
                    let resigned = text(leadership.resign())?;
                    ensure!(resigned == Release::Done, "the leadership was lost");
                    Ok(())
                })
            })
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().expect("no panic"))
    })?;
    let leadership = text(nodes[0].campaign("leader", LONG))?;
    // Leaders between two calls may be missed; the last one is seen.
    loop {
        let holder = text(watch.next())?;
        if holder.is_some_and(|holder| holder.token == leadership.token()) {
            break;
        }
    }
    drop(leadership);
    ensure!(
        text(watch.next())?.is_none(),
        "a leader after the resignation"
    );
    Ok(())
}

fn shutdown(suite: &Suite<'_>) -> Checked {
    let leases = suite.leases()?;
    let (a, b) = (
        text(leases.acquire("a", LONG))?,
        text(leases.acquire("b", LONG))?,
    );
    drop(b);
    text(leases.shutdown(suite.patience))?;
    ensure!(!a.is_held(), "a lease is held after the shutdown");
    let reason = a.wait_lost_for(Duration::ZERO);
    ensure!(
        reason == Some(LossReason::Shutdown),
        "the lease was lost: {reason:?}"
    );
    let engine = suite.engine();
    for name in ["a", "b"] {
        let holder = text(engine.holder(suite.key(name), suite.deadline()))?;
        ensure!(holder.is_none(), "{name:?} is held after the shutdown");
    }
    ensure!(
        leases.acquire("a", LONG).is_err(),
        "a lease is granted after the shutdown"
    );
    Ok(())
}
