//! Cases that call the engine directly.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use latchwork::table::FencingToken;

use super::{Checked, LONG, Problem, Suite, ensure, nonce, text};
use crate::engine::{
    Attempt, AttemptAll, Engine, Nonce, Outcome, Released, Renewal, Renewed, Request,
};

type Run = fn(&Suite<'_>) -> Checked;

pub(super) const CASES: &[(&str, Run)] = &[
    ("one holder at a time", one_holder_at_a_time),
    ("tokens grow", tokens_grow),
    ("a repeated request is granted again", repeated_request),
    ("a lease expires, and not before its end", expiry),
    ("a renewal extends a lease", renewal_extends),
    ("a renewal grants nothing", renewal_grants_nothing),
    ("many renewals in one call", many_renewals),
    ("a release is by nonce, and has an effect once", release),
    ("names are compared by their bytes", names),
    ("a prefix is literal", prefixes),
    ("namespaces are independent", namespaces),
    ("the holder is described", holder),
    ("breaking names the token", breaking),
    ("a floor raises the counter", floor),
    ("all names or none", all_or_none),
    ("a hint ends the wait after a release", hint),
    ("deadlines in the past", past_deadlines),
    ("threads against an oracle", oracle),
];

/// Renews one lease.
fn renew(
    suite: &Suite<'_>,
    engine: &dyn Engine,
    name: &str,
    nonce: Nonce,
    token: u64,
    ttl: Duration,
) -> Result<Renewed, Problem> {
    let renewal = Renewal {
        key: suite.key(name),
        nonce,
        token: FencingToken::new(token),
        ttl,
    };
    let answers = text(engine.renew_many(&[renewal], suite.deadline()))?;
    ensure!(
        answers.len() == 1,
        "one renewal, and {} answers",
        answers.len()
    );
    Ok(answers[0])
}

fn one_holder_at_a_time(suite: &Suite<'_>) -> Checked {
    let (one, two) = (suite.engine(), suite.engine());
    let holder = nonce();
    suite.grant(&*one, "a", holder, LONG)?;
    for engine in [&one, &two] {
        let refused = nonce();
        match suite.ask(&**engine, "a", refused, LONG)? {
            Attempt::Busy { free_in } => {
                ensure!(
                    free_in.is_none_or(|free_in| free_in <= LONG),
                    "free in {free_in:?}"
                );
            }
            granted => return Err(format!("a second holder: {granted:?}").into()),
        }
        suite.leave(&**engine, "a", refused)?;
    }
    suite.grant(&*two, "b", nonce(), LONG)?;
    let released = text(two.release(suite.key("a"), holder, suite.deadline()))?;
    ensure!(
        released == Released::Done,
        "the holder's release is {released:?}"
    );
    suite.grant(&*one, "a", nonce(), LONG)?;
    Ok(())
}

fn tokens_grow(suite: &Suite<'_>) -> Checked {
    let (one, two) = (suite.engine(), suite.engine());
    let mut last = 0;
    for round in 0..8 {
        let engine = if round % 2 == 0 { &one } else { &two };
        let holder = nonce();
        let token = suite.grant(&**engine, "a", holder, LONG)?;
        ensure!(token > last, "token {token} follows token {last}");
        last = token;
        text(engine.release(suite.key("a"), holder, suite.deadline()))?;
    }
    // After an expiry, and after a break.
    let token = suite.grant(&*one, "a", nonce(), suite.ttl)?;
    let next = suite.wait(&*two, "a", nonce(), LONG)?;
    ensure!(
        token > last && next > token,
        "tokens {last}, {token}, {next}"
    );
    text(one.break_lease(suite.key("a"), FencingToken::new(next), suite.deadline()))?;
    let after = suite.grant(&*one, "a", nonce(), LONG)?;
    ensure!(
        after > next,
        "token {after} follows the broken token {next}"
    );
    Ok(())
}

fn repeated_request(suite: &Suite<'_>) -> Checked {
    let (one, two) = (suite.engine(), suite.engine());
    let (start, holder) = (Instant::now(), nonce());
    let token = suite.grant(&*one, "a", holder, suite.ttl)?;
    let again = suite.grant(&*two, "a", holder, LONG)?;
    suite.still_lasts(start, suite.ttl)?;
    ensure!(
        token == again,
        "the same nonce has the tokens {token} and {again}"
    );
    thread::sleep(suite.ttl + Duration::from_millis(100));
    let refused = nonce();
    let other = suite.ask(&*one, "a", refused, LONG)?;
    ensure!(
        matches!(other, Attempt::Busy { .. }),
        "the repeated request extended nothing"
    );
    suite.leave(&*one, "a", refused)?;
    // One release ends it, however often it was requested.
    text(one.release(suite.key("a"), holder, suite.deadline()))?;
    suite.grant(&*two, "a", nonce(), LONG)?;
    Ok(())
}

fn expiry(suite: &Suite<'_>) -> Checked {
    let (one, two) = (suite.engine(), suite.engine());
    let start = Instant::now();
    suite.grant(&*one, "a", nonce(), suite.ttl)?;
    suite.wait(&*two, "a", nonce(), LONG)?;
    let elapsed = start.elapsed();
    ensure!(
        elapsed >= suite.least(suite.ttl),
        "a lease of {:?} ended after {elapsed:?}",
        suite.ttl
    );
    Ok(())
}

fn renewal_extends(suite: &Suite<'_>) -> Checked {
    let (one, two) = (suite.engine(), suite.engine());
    let (start, holder) = (Instant::now(), nonce());
    let token = suite.grant(&*one, "a", holder, suite.ttl)?;
    let renewed = renew(suite, &*two, "a", holder, token, LONG)?;
    suite.still_lasts(start, suite.ttl)?;
    ensure!(
        renewed == Renewed::Held,
        "the holder's renewal is {renewed:?}"
    );
    thread::sleep(suite.ttl + Duration::from_millis(100));
    let other = suite.ask(&*two, "a", nonce(), LONG)?;
    ensure!(
        matches!(other, Attempt::Busy { .. }),
        "the renewal extended nothing: {other:?}"
    );
    Ok(())
}

fn renewal_grants_nothing(suite: &Suite<'_>) -> Checked {
    let (one, two) = (suite.engine(), suite.engine());
    let lost = |renewed: Renewed, what: &str| match renewed {
        Renewed::Lost => Ok(()),
        Renewed::Held => Err(format!("a renewal succeeds {what}")),
        Renewed::Unknown => Err(format!("a renewal has no result {what}")),
    };
    lost(
        renew(suite, &*one, "never", nonce(), 1, LONG)?,
        "for a key that was never held",
    )?;
    let holder = nonce();
    let token = suite.grant(&*one, "a", holder, LONG)?;
    lost(
        renew(suite, &*two, "a", nonce(), token, LONG)?,
        "for another nonce",
    )?;
    lost(
        renew(suite, &*two, "a", holder, token + 1, LONG)?,
        "for another token",
    )?;
    lost(
        renew(suite, &*two, "A", holder, token, LONG)?,
        "for another name",
    )?;
    text(one.release(suite.key("a"), holder, suite.deadline()))?;
    lost(
        renew(suite, &*one, "a", holder, token, LONG)?,
        "after a release",
    )?;
    let (first, second) = (nonce(), nonce());
    let token = suite.grant(&*one, "a", first, suite.ttl)?;
    suite.wait(&*two, "a", second, LONG)?;
    lost(
        renew(suite, &*one, "a", first, token, LONG)?,
        "while another nonce holds the key",
    )?;
    text(two.release(suite.key("a"), second, suite.deadline()))?;
    lost(
        renew(suite, &*one, "a", first, token, LONG)?,
        "after another nonce held the key",
    )?;
    suite.grant(&*two, "a", nonce(), LONG)?;
    Ok(())
}

fn many_renewals(suite: &Suite<'_>) -> Checked {
    let engine = suite.engine();
    let names: Vec<String> = (0..200).map(|number| format!("many/{number:03}")).collect();
    let mut leases = Vec::new();
    for name in &names {
        let nonce = nonce();
        leases.push((nonce, suite.grant(&*engine, name, nonce, LONG)?));
    }
    for at in (0..names.len()).step_by(3) {
        text(engine.release(suite.key(&names[at]), leases[at].0, suite.deadline()))?;
    }
    let renewals: Vec<Renewal<'_>> = names
        .iter()
        .zip(&leases)
        .map(|(name, &(nonce, token))| Renewal {
            key: suite.key(name),
            nonce,
            token: FencingToken::new(token),
            ttl: LONG,
        })
        .collect();
    let answers = text(engine.renew_many(&renewals, suite.deadline()))?;
    ensure!(answers.len() == names.len(), "{} answers", answers.len());
    for (at, answer) in answers.iter().enumerate() {
        let expected = if at % 3 == 0 {
            Renewed::Lost
        } else {
            Renewed::Held
        };
        ensure!(*answer == expected, "answer {at} is {answer:?}");
    }
    let none = text(engine.renew_many(&[], suite.deadline()))?;
    ensure!(none.is_empty(), "answers without renewals");
    Ok(())
}

fn release(suite: &Suite<'_>) -> Checked {
    let (one, two) = (suite.engine(), suite.engine());
    let release = |nonce: Nonce| text(two.release(suite.key("a"), nonce, suite.deadline()));
    let (holder, other) = (nonce(), nonce());
    ensure!(
        release(other)? == Released::WasLost,
        "a release of a key that was never held"
    );
    suite.grant(&*one, "a", holder, LONG)?;
    ensure!(
        release(other)? == Released::WasLost,
        "a release of another nonce succeeds"
    );
    let third = suite.ask(&*one, "a", other, LONG)?;
    ensure!(
        matches!(third, Attempt::Busy { .. }),
        "another nonce released the lease"
    );
    // It may be in a queue now.
    release(other)?;
    ensure!(
        release(holder)? == Released::Done,
        "the holder's release fails"
    );
    ensure!(
        release(holder)? == Released::WasLost,
        "a second release succeeds"
    );
    suite.grant(&*one, "a", other, LONG)?;
    ensure!(
        release(holder)? == Released::WasLost,
        "a late release hits the next holder"
    );
    let third = suite.ask(&*two, "a", nonce(), LONG)?;
    ensure!(
        matches!(third, Attempt::Busy { .. }),
        "a late release ended the next lease"
    );
    Ok(())
}

fn names(suite: &Suite<'_>) -> Checked {
    let engine = suite.engine();
    let long = |last: &str| "x".repeat(512 - last.len()) + last;
    let mut names: Vec<String> = [
        "a",
        "A",
        "a ",
        " a",
        "aa",
        "a/b",
        "a//b",
        "a/b/",
        "ä",
        "a\u{308}",
        "Ä",
        "ß",
        "ss",
        "ſ",
        "İ",
        "i",
        "I",
        "ı",
        "名前",
        "😀",
        "%",
        "_",
        "*",
        "?",
        "[a]",
        "'",
        "''",
        "\"",
        "\\",
        "a\\",
        "a%",
        "a_",
        "a*",
        "--",
        ";",
        "$1",
        ":a",
        "{}",
        "a\u{200d}b",
        "\u{FEFF}a",
        "0",
        "00",
        "1",
        "1.0",
        "null",
        "NULL",
        "\u{10FFFF}",
        "\u{FFFD}",
    ]
    .map(str::to_owned)
    .to_vec();
    names.extend([long("1"), long("2"), long("ä"), "x".repeat(511)]);
    let mut leases = Vec::new();
    for name in &names {
        let nonce = nonce();
        suite.grant(&*engine, name, nonce, LONG)?;
        leases.push(nonce);
    }
    names.sort();
    let listed = text(engine.list(&suite.namespace, "", suite.deadline()))?;
    let listed: Vec<String> = listed.into_iter().map(|(name, _)| name).collect();
    let mut pairs = listed.iter().zip(&names);
    let wrong = pairs.find(|(listed, name)| listed != name);
    ensure!(
        wrong.is_none(),
        "the list differs from the sorted names: {wrong:?}"
    );
    ensure!(
        listed.len() == names.len(),
        "{} of {} are listed",
        listed.len(),
        names.len()
    );
    for name in &names {
        let held = text(engine.holder(suite.key(name), suite.deadline()))?;
        ensure!(held.is_some(), "{name:?} has no holder");
    }
    Ok(())
}

fn prefixes(suite: &Suite<'_>) -> Checked {
    let engine = suite.engine();
    let names = [
        "a%b", "a%c", "a*b", "a[b", "a\\b", "a_b", "aXb", "A%b", "é", "e\u{301}",
    ];
    for name in names {
        suite.grant(&*engine, name, nonce(), LONG)?;
    }
    for prefix in [
        "", "a", "A", "a%", "a_", "a*", "a[", "a\\", "aX", "e", "é", "%", "_", "*", "b",
    ] {
        let listed = text(engine.list(&suite.namespace, prefix, suite.deadline()))?;
        let listed: Vec<&str> = listed.iter().map(|(name, _)| name.as_str()).collect();
        let mut expected: Vec<&str> = names.into_iter().collect();
        expected.retain(|name| name.starts_with(prefix));
        expected.sort_unstable();
        ensure!(
            listed == expected,
            "the prefix {prefix:?} lists {listed:?}, not {expected:?}"
        );
    }
    Ok(())
}

fn namespaces(suite: &Suite<'_>) -> Checked {
    let engine = suite.engine();
    let base = &suite.namespace;
    let spaces = [
        format!("{base}/a"),
        format!("{base}/a/b"),
        base.to_uppercase(),
        base.clone(),
    ];
    let pairs = [
        (&spaces[0], "b/c"),
        (&spaces[1], "c"),
        (&spaces[2], "a/b/c"),
        (&spaces[3], "a/b/c"),
    ];
    let request = |space, name, nonce| Request {
        key: crate::engine::Key {
            namespace: space,
            name,
        },
        nonce,
        owner: "conformance",
        ttl: LONG,
    };
    let mut nonces = Vec::new();
    for (space, name) in pairs {
        let nonce = nonce();
        let request = request(space, name, nonce);
        let answer = text(engine.try_acquire(&request, suite.deadline()))?;
        ensure!(
            matches!(answer, Attempt::Granted(_)),
            "{space:?} and {name:?}: {answer:?}"
        );
        nonces.push(nonce);
    }
    for (space, name) in pairs {
        let listed = text(engine.list(space, "", suite.deadline()))?;
        let listed: Vec<&str> = listed.iter().map(|(name, _)| name.as_str()).collect();
        ensure!(listed == [name], "the namespace {space:?} lists {listed:?}");
    }
    for ((space, name), nonce) in pairs.into_iter().zip(nonces) {
        let key = request(space, name, nonce).key;
        let released = text(engine.release(key, nonce, suite.deadline()))?;
        ensure!(
            released == Released::Done,
            "{space:?} and {name:?} were released before"
        );
    }
    Ok(())
}

fn holder(suite: &Suite<'_>) -> Checked {
    let (one, two) = (suite.engine(), suite.engine());
    let holder = |engine: &dyn Engine| text(engine.holder(suite.key("a"), suite.deadline()));
    ensure!(
        holder(&*one)?.is_none(),
        "a key that was never held has a holder"
    );
    let (start, nonce) = (Instant::now(), nonce());
    let token = suite.grant(&*one, "a", nonce, suite.ttl * 4)?;
    let info = holder(&*two)?;
    let listed = text(two.list(&suite.namespace, "a", suite.deadline()))?;
    suite.still_lasts(start, suite.ttl * 4)?;
    let info = info.ok_or("the key has no holder")?;
    ensure!(info.owner == "conformance", "the owner is {:?}", info.owner);
    ensure!(
        info.token.get() == token,
        "the token is {} and not {token}",
        info.token
    );
    ensure!(
        info.held_for <= start.elapsed() * 2 + suite.ttl,
        "held for {:?}",
        info.held_for
    );
    ensure!(
        info.expires_in <= suite.ttl * 4,
        "expires in {:?}",
        info.expires_in
    );
    ensure!(
        listed.len() == 1 && listed[0].1.token.get() == token,
        "the list is {listed:?}"
    );
    // An engine may see the end late, as it may see a release late.
    thread::sleep(suite.ttl * 4 + Duration::from_millis(100));
    let end = Instant::now();
    while holder(&*two)?.is_some() {
        suite.in_time(end, suite.hand_over, "the end of an expired lease")?;
        thread::sleep(Duration::from_millis(10));
    }
    let listed = text(two.list(&suite.namespace, "", suite.deadline()))?;
    ensure!(listed.is_empty(), "an expired lease is listed: {listed:?}");
    Ok(())
}

fn breaking(suite: &Suite<'_>) -> Checked {
    let (one, two) = (suite.engine(), suite.engine());
    let stop = |token: u64| {
        text(two.break_lease(suite.key("a"), FencingToken::new(token), suite.deadline()))
    };
    ensure!(!stop(1)?, "a key that was never held is broken");
    let (first, second) = (nonce(), nonce());
    let old = suite.grant(&*one, "a", first, LONG)?;
    text(one.release(suite.key("a"), first, suite.deadline()))?;
    ensure!(!stop(old)?, "a released lease is broken");
    let token = suite.grant(&*one, "a", second, LONG)?;
    ensure!(
        !stop(old)?,
        "the token of an earlier holder breaks a later lease"
    );
    let renewed = renew(suite, &*one, "a", second, token, LONG)?;
    ensure!(renewed == Renewed::Held, "a stale token ended the lease");
    ensure!(stop(token)?, "the lease is not broken");
    ensure!(!stop(token)?, "the lease is broken twice");
    let renewed = renew(suite, &*one, "a", second, token, LONG)?;
    ensure!(renewed == Renewed::Lost, "a broken lease is renewed");
    let released = text(one.release(suite.key("a"), second, suite.deadline()))?;
    ensure!(released == Released::WasLost, "a broken lease is released");
    suite.grant(&*two, "a", nonce(), LONG)?;
    Ok(())
}

fn floor(suite: &Suite<'_>) -> Checked {
    let engine = suite.engine();
    let raise = |token: u64| {
        text(engine.raise_floor(suite.key("a"), FencingToken::new(token), suite.deadline()))
    };
    raise(1000)?;
    let holder = nonce();
    let token = suite.grant(&*engine, "a", holder, LONG)?;
    ensure!(token > 1000, "token {token} follows the floor 1000");
    raise(token + 5000)?;
    let renewed = renew(suite, &*engine, "a", holder, token, LONG)?;
    ensure!(renewed == Renewed::Held, "a floor ended the present lease");
    let again = suite.grant(&*engine, "a", holder, LONG)?;
    ensure!(
        again == token,
        "a floor changed the token of the holder to {again}"
    );
    let info = text(engine.holder(suite.key("a"), suite.deadline()))?;
    let seen = info.map(|info| info.token.get());
    ensure!(
        seen == Some(token),
        "a floor changed the token of the holder to {seen:?}"
    );
    let released = text(engine.release(suite.key("a"), holder, suite.deadline()))?;
    ensure!(released == Released::Done, "a floor ended the lease");
    raise(1)?;
    let next = suite.grant(&*engine, "a", nonce(), LONG)?;
    ensure!(
        next > token + 5000,
        "token {next} follows the floor {}",
        token + 5000
    );
    Ok(())
}

fn all_or_none(suite: &Suite<'_>) -> Checked {
    let engine = suite.engine();
    let names = ["a", "b", "c"];
    let requests = |nonces: [Nonce; 3]| {
        let make = |(name, nonce)| Request {
            key: suite.key(name),
            nonce,
            owner: "conformance",
            ttl: LONG,
        };
        names.into_iter().zip(nonces).map(make).collect::<Vec<_>>()
    };
    let ask = |nonces| engine.try_acquire_all(&requests(nonces), suite.deadline());
    let holder = nonce();
    suite.grant(&*engine, "b", holder, LONG)?;
    let Some(answer) = ask([nonce(), nonce(), nonce()]) else {
        return Ok(());
    };
    let answer = text(answer)?;
    ensure!(
        matches!(answer, AttemptAll::Busy { index: 1, .. }),
        "b is busy: {answer:?}"
    );
    for name in ["a", "c"] {
        let held = text(engine.holder(suite.key(name), suite.deadline()))?;
        ensure!(held.is_none(), "{name} was acquired though b is busy");
    }
    text(engine.release(suite.key("b"), holder, suite.deadline()))?;
    let nonces = [nonce(), nonce(), nonce()];
    let repeated = [(); 2].map(|()| ask(nonces));
    let mut tokens = Vec::new();
    for answer in repeated.into_iter().flatten() {
        match text(answer)? {
            AttemptAll::Granted(granted) if granted.len() == 3 => tokens.push(granted),
            answer => return Err(format!("all names are free: {answer:?}").into()),
        }
    }
    ensure!(
        tokens.len() == 2 && tokens[0] == tokens[1],
        "a repeated request: {tokens:?}"
    );
    for (name, token) in names.into_iter().zip(&tokens[0]) {
        let held = text(engine.holder(suite.key(name), suite.deadline()))?;
        let seen = held.map(|held| held.token);
        ensure!(seen == Some(*token), "{name} has {seen:?} and not {token}");
    }
    Ok(())
}

fn hint(suite: &Suite<'_>) -> Checked {
    let (one, two) = (suite.engine(), suite.engine());
    let (holder, waiter) = (nonce(), nonce());
    suite.grant(&*one, "a", holder, LONG)?;
    suite.ask(&*two, "a", waiter, LONG)?;
    // A wait ends at its deadline.
    let start = Instant::now();
    text(two.wait_hint(suite.key("a"), waiter, start + Duration::from_millis(50)))?;
    suite.in_time(start, suite.patience, "a wait of 50 ms")?;
    let released = AtomicU64::new(0);
    let took = thread::scope(|s| -> Result<Duration, Problem> {
        s.spawn(|| {
            thread::sleep(Duration::from_millis(300));
            released.store(start.elapsed().as_nanos() as u64, Ordering::SeqCst);
            let _ = one.release(suite.key("a"), holder, suite.deadline());
        });
        let (begun, limit) = (Instant::now(), suite.hand_over + Duration::from_secs(1));
        while let Attempt::Busy { .. } = suite.ask(&*two, "a", waiter, LONG)? {
            ensure!(!suite.has_passed(begun, limit), "a release is not seen");
            let deadline = (begun + limit).max(Instant::now() + Duration::from_millis(20));
            text(two.wait_hint(suite.key("a"), waiter, deadline))?;
        }
        let released = Duration::from_nanos(released.load(Ordering::SeqCst));
        Ok(start.elapsed().saturating_sub(released))
    })?;
    ensure!(
        took < suite.hand_over + suite.delay(start),
        "a waiter sees the release after {took:?}"
    );
    Ok(())
}

fn past_deadlines(suite: &Suite<'_>) -> Checked {
    let engine = suite.engine();
    let now = Instant::now();
    let past = now.checked_sub(Duration::from_secs(1)).unwrap_or(now);
    let holder = nonce();
    let request = Request {
        key: suite.key("a"),
        nonce: holder,
        owner: "conformance",
        ttl: suite.ttl,
    };
    let answer = engine.try_acquire(&request, past);
    suite.in_time(now, suite.patience, "a request")?;
    match answer {
        Ok(answer) => ensure!(
            matches!(answer, Attempt::Granted(_)),
            "a is free: {answer:?}"
        ),
        Err(error) if error.outcome == Outcome::NotDone => {
            let held = text(engine.holder(suite.key("a"), suite.deadline()))?;
            ensure!(held.is_none(), "a request that was not done is granted");
        }
        Err(_) => {}
    }
    let start = Instant::now();
    let _ = engine.wait_hint(suite.key("a"), holder, past);
    let _ = engine.release(suite.key("a"), holder, past);
    let _ = engine.holder(suite.key("a"), past);
    let _ = engine.list(&suite.namespace, "", past);
    suite.in_time(start, suite.patience, "the calls")?;
    // Whatever happened, the key is free after the lease.
    suite.wait(&*engine, "a", nonce(), LONG)?;
    Ok(())
}

fn oracle(suite: &Suite<'_>) -> Checked {
    const ROUNDS: usize = 20;
    let (holders, last) = (AtomicUsize::new(0), AtomicU64::new(0));
    thread::scope(|s| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (holders, last, engine) = (&holders, &last, suite.engine());
                s.spawn(move || -> Checked {
                    for _ in 0..ROUNDS {
                        let nonce = nonce();
                        let token = suite.wait(&*engine, "a", nonce, LONG)?;
                        let others = holders.fetch_add(1, Ordering::SeqCst);
                        let before = last.swap(token, Ordering::SeqCst);
                        holders.fetch_sub(1, Ordering::SeqCst);
                        let key = suite.key("a");
                        let released =
                            suite.persist(|deadline| engine.release(key, nonce, deadline));
                        ensure!(others == 0, "{others} other holders");
                        ensure!(before < token, "token {token} follows token {before}");
                        ensure!(released? == Released::Done, "a lease was lost");
                    }
                    Ok(())
                })
            })
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().expect("no panic"))
    })
}
