//! The engine `quorum:redis://…` through the contract of an engine, without faults.
#![cfg(feature = "redis")]

#[allow(dead_code, unused_macros, unused_imports)]
#[path = "support/contract.rs"]
mod contract;
#[path = "support/redis.rs"]
mod redis;
mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use latchwork::table::FencingToken;
use latchwork_lease::engine::{Attempt, Engine, Nonce, Outcome, Released, Renewal, Renewed};
use latchwork_lease::quorum::{QuorumEngine, change_nodes};
use redis::{Redis, url};
use support::{Folder, KEY, attempt, key, ms, refusal, request, soon};

const LONG: Duration = Duration::from_secs(60);
const LOCK: &str = "latchwork:1:lock:5:tests:reports/nightly";
const FENCE: &str = "latchwork:1:fence:tests";
const CONFIG: &str = "latchwork:1:config";

fn connect(url: &str) -> QuorumEngine {
    QuorumEngine::connect(url).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(url: &str) -> String {
    refusal(QuorumEngine::connect(url))
}

fn renewal(nonce: u128, token: u64) -> Renewal<'static> {
    Renewal {
        key: KEY,
        nonce: Nonce::new(nonce),
        token: FencingToken::new(token),
        ttl: LONG,
    }
}

/// Stores a lock of another nonce on a node, as another client would.
fn occupy(node: &Redis, nonce: u128) {
    let value = format!("{nonce:032x} {:020} 1700000000000 other", 77);
    assert_eq!(
        node.command(&["SET", LOCK, &value, "PX", "60000"]),
        "+OK\r\n"
    );
}

/// Returns the value of a key as text, which is empty if the key is absent.
fn get(node: &Redis, key: &str) -> String {
    let reply = node.command(&["GET", key]);
    reply.lines().nth(1).unwrap_or_default().to_owned()
}

/// Returns the nonce and the token of the lock on a node.
fn lock(node: &Redis) -> Option<(u128, u64)> {
    let value = get(node, LOCK);
    let mut fields = value.split([' ', '+']);
    let nonce = u128::from_str_radix(fields.next()?, 16).ok()?;
    Some((nonce, fields.next()?.parse().ok()?))
}

fn fence(node: &Redis) -> u64 {
    get(node, FENCE).parse().unwrap_or(0)
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        thread::sleep(ms(10));
    }
    panic!("not within ten seconds: {what}");
}

#[cfg(feature = "conformance")]
fn assert_conforms(count: usize) {
    let Some(nodes) = Redis::several(count) else {
        return;
    };
    let url = url(&nodes);
    let open = || -> Arc<dyn Engine> { Arc::new(connect(&url)) };
    contract::assert_conforms(&open);
}

#[cfg(feature = "conformance")]
#[test]
fn the_engine_on_five_nodes_conforms() {
    assert_conforms(5);
}

#[cfg(feature = "conformance")]
#[test]
fn the_engine_on_one_node_conforms() {
    assert_conforms(1);
}

/// Of seven nodes, each name has five, so the sets of two names differ.
#[cfg(feature = "conformance")]
#[test]
fn the_engine_on_seven_nodes_conforms() {
    assert_conforms(7);
}

#[cfg(feature = "conformance")]
#[test]
fn the_engine_conforms_across_processes() {
    let Some(nodes) = Redis::several(5) else {
        return;
    };
    contract::assert_conforms_across_processes(&url(&nodes));
}

/// The body of the processes of the suite. Alone it does nothing.
#[cfg(feature = "conformance")]
#[test]
fn act() {
    contract::act();
}

/// Nodes of a test.
struct Nodes(Vec<Redis>);

impl contract::Place for Nodes {
    fn open(&self) -> Box<dyn Engine> {
        Box::new(connect(&url(&self.0)))
    }
}

mod on_one_node {
    use super::{Nodes, Redis};

    crate::contract::contract_tests! { Redis::several(1).map(Nodes);
        a_key_is_held_by_one_nonce_until_its_release
        a_repeated_request_has_the_same_token_and_a_new_end
        an_expired_lease_is_neither_renewed_nor_released
        a_lease_is_broken_only_under_the_token_that_was_seen
        a_floor_leaves_tokens_for_later_holders
        many_threads_and_engines_get_distinct_growing_tokens
        a_release_ends_the_wait_of_another_engine
    }
}

mod on_five_nodes {
    use super::{Nodes, Redis};

    crate::contract::contract_tests! { Redis::several(5).map(Nodes);
        a_repeated_request_has_the_same_token_and_a_new_end
        the_prefix_of_a_list_is_literal_and_its_order_is_that_of_bytes
        a_release_ends_the_wait_of_another_engine
    }
}

#[test]
fn a_minority_of_the_nodes_grants_nothing() {
    let Some(nodes) = Redis::several(5) else {
        return;
    };
    let engine = connect(&url(&nodes));
    nodes[..3].iter().for_each(|node| occupy(node, 77));
    assert_eq!(attempt(&engine, KEY, 1, LONG), None);
    assert_eq!(engine.holder(KEY, soon()).unwrap().unwrap().token.get(), 77);
    // Nothing of the attempt remains.
    until("the locks are released", || {
        nodes[3..].iter().all(|node| lock(node).is_none())
    });
    // Two nodes are no holder, and do not prevent one.
    nodes[2].command(&["DEL", LOCK]);
    assert!(engine.holder(KEY, soon()).unwrap().is_none());
    assert!(attempt(&engine, KEY, 1, LONG).is_some());
    assert_eq!(lock(&nodes[0]), Some((77, 77)));
    let renewed = engine.renew_many(&[renewal(77, 77)], soon()).unwrap();
    assert_eq!(renewed, [Renewed::Lost]);
}

#[test]
fn a_token_exceeds_those_of_all_majorities_before() {
    let Some(mut nodes) = Redis::several(3) else {
        return;
    };
    // Other names of the namespace have used the first node more often.
    nodes[0].command(&["SET", FENCE, "40"]);
    let engine = connect(&url(&nodes));
    // The other two nodes alone would grant a smaller token: all three must answer.
    let mut last = 0;
    for nonce in 1..=20 {
        last = attempt(&engine, KEY, nonce, LONG).unwrap();
        if last > 40 {
            break;
        }
        engine.release(KEY, Nonce::new(nonce), soon()).unwrap();
    }
    assert!(last > 40, "the first node never answered in time");
    let having = nodes.iter().filter(|node| fence(node) >= last).count();
    assert!(having >= 2, "{having} nodes have the token");
    let nonce = lock(&nodes[0]).unwrap().0;
    engine.release(KEY, Nonce::new(nonce), soon()).unwrap();
    nodes[0].end();
    let next = attempt(&engine, KEY, 99, LONG).unwrap();
    assert!(next > last, "token {next} follows token {last}");
}

/// A relay to a node that can hold back requests.
struct Relay {
    port: u16,
    holds: Arc<AtomicBool>,
    held: Arc<AtomicBool>,
}

impl Relay {
    /// Passes requests, except that one with `held_text` waits while `holds` is set.
    fn new(server: u16, held_text: &'static str) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = Relay {
            port: listener.local_addr().unwrap().port(),
            holds: Arc::new(AtomicBool::new(true)),
            held: Arc::default(),
        };
        let (holds, held) = (Arc::clone(&relay.holds), Arc::clone(&relay.held));
        thread::spawn(move || {
            for client in listener.incoming() {
                let mut client = client.unwrap();
                let mut server = TcpStream::connect(("127.0.0.1", server)).unwrap();
                let (mut to_client, mut from_server) =
                    (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || std::io::copy(&mut from_server, &mut to_client));
                let (holds, held) = (Arc::clone(&holds), Arc::clone(&held));
                thread::spawn(move || {
                    let mut bytes = [0; 65536];
                    while let Ok(read @ 1..) = client.read(&mut bytes) {
                        if String::from_utf8_lossy(&bytes[..read]).contains(held_text) {
                            // SeqCst: flags between the threads of a test.
                            held.store(true, Ordering::SeqCst);
                            while holds.load(Ordering::SeqCst) {
                                thread::sleep(ms(1));
                            }
                        }
                        if server.write_all(&bytes[..read]).is_err() {
                            break;
                        }
                    }
                });
            }
        });
        relay
    }
}

/// Beside tokens of a fixed width, no request of the test has so many zeros.
const TOKEN: &str = "000000000000000000";

#[test]
fn a_token_is_written_back_only_while_the_lock_is_held() {
    let Some(nodes) = Redis::several(3) else {
        return;
    };
    nodes[0].command(&["SET", FENCE, "40"]);
    // No majority is without the first node, however late its answer comes.
    occupy(&nodes[2], 77);
    // The write to the other two nodes is held back.
    let relays: Vec<Relay> = nodes
        .iter()
        .map(|node| Relay::new(node.port, TOKEN))
        .collect();
    relays[0].holds.store(false, Ordering::SeqCst);
    let list: Vec<String> = relays
        .iter()
        .map(|relay| format!("redis://127.0.0.1:{}", relay.port))
        .collect();
    let engine = connect(&format!("quorum:{}", list.join(",")));
    thread::scope(|scope| {
        let first = scope.spawn(|| {
            // Without the answer of the first node there is nothing to write back.
            for nonce in (1..=20).map(|number| u128::MAX - number) {
                let granted = attempt(&engine, KEY, nonce, LONG);
                if relays[1..]
                    .iter()
                    .any(|relay| relay.held.load(Ordering::SeqCst))
                {
                    return granted;
                }
                assert!(granted.is_some_and(|token| token < 40));
                engine.release(KEY, Nonce::new(nonce), soon()).unwrap();
            }
            panic!("no token was written back");
        });
        until("a write is held back", || {
            relays[1..]
                .iter()
                .any(|relay| relay.held.load(Ordering::SeqCst))
        });
        thread::sleep(ms(50));
        // The locks expire, and another client acquires them.
        let mut before = Vec::new();
        for node in &nodes[1..] {
            node.command(&["DEL", LOCK]);
            occupy(node, 77);
            before.push(fence(node));
        }
        relays
            .iter()
            .for_each(|relay| relay.holds.store(false, Ordering::SeqCst));
        assert_eq!(first.join().unwrap(), None, "two nonces have the lock");
        for (node, before) in nodes[1..].iter().zip(before) {
            assert_eq!(fence(node), before, "the counter was raised");
            assert_eq!(lock(node), Some((77, 77)));
        }
    });
}

#[test]
fn a_node_that_granted_a_greater_value_does_not_count() {
    let Some(nodes) = Redis::several(3) else {
        return;
    };
    let engine = connect(&url(&nodes));
    assert_eq!(attempt(&engine, KEY, 1, LONG), Some(1));
    until("all nodes have granted the lock", || {
        nodes.iter().all(|node| lock(node) == Some((1, 1)))
    });
    // The lock of the first node expires, and other clients have it up to token 40.
    nodes[0].command(&["DEL", LOCK]);
    nodes[0].command(&["SET", FENCE, "40"]);
    assert_eq!(attempt(&engine, KEY, 1, LONG), Some(1), "two nodes hold it");
    until("the first node stores the token", || {
        lock(&nodes[0]) == Some((1, 1))
    });
    // Another client has the second node, so the first one would complete a majority.
    nodes[1].command(&["DEL", LOCK]);
    occupy(&nodes[1], 77);
    let again = attempt(&engine, KEY, 1, LONG);
    assert!(
        again.is_none_or(|token| token > 40),
        "token {again:?} follows token 40 of the first node"
    );
}

#[test]
fn locks_that_are_granted_too_late_are_released() {
    let Some(nodes) = Redis::several(3) else {
        return;
    };
    let engine = connect(&url(&nodes));
    nodes[1..].iter().for_each(|node| node.signal("STOP"));
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(ms(400));
            nodes[1..].iter().for_each(|node| node.signal("CONT"));
        });
        let error = engine
            .try_acquire(&request(KEY, 1, ms(200)), soon())
            .unwrap_err();
        assert_eq!(
            (error.outcome, error.is_temporary),
            (Outcome::Unknown, true)
        );
        assert!(
            error.to_string().contains("later than the lease"),
            "{error}"
        );
    });
    until("all nodes released the lock", || {
        nodes.iter().all(|node| lock(node).is_none())
    });
}

#[test]
fn a_renewal_grants_no_lock() {
    let Some(nodes) = Redis::several(5) else {
        return;
    };
    let engine = connect(&url(&nodes));
    let token = attempt(&engine, KEY, 1, LONG).unwrap();
    until("all nodes have the lock", || {
        nodes.iter().all(|node| lock(node).is_some())
    });
    let renew = || engine.renew_many(&[renewal(1, token)], soon()).unwrap()[0];
    // The lock has ended on a majority, so another nonce may have held it.
    for node in &nodes[..3] {
        node.command(&["DEL", LOCK]);
    }
    assert_eq!(renew(), Renewed::Lost);
    thread::sleep(ms(100));
    assert!(nodes[..3].iter().all(|node| lock(node).is_none()));
    // Another nonce holds it on one node: that lock is not replaced.
    occupy(&nodes[0], 77);
    assert_eq!(renew(), Renewed::Lost);
    assert_eq!(lock(&nodes[0]), Some((77, 77)));
}

#[test]
fn a_renewal_restores_the_lock_on_nodes_that_lost_it() {
    let Some(nodes) = Redis::several(5) else {
        return;
    };
    let engine = connect(&url(&nodes));
    nodes.iter().for_each(|node| {
        node.command(&["SET", FENCE, "40"]);
    });
    let token = attempt(&engine, KEY, 1, LONG).unwrap();
    until("all nodes have the lock", || {
        nodes.iter().all(|node| lock(node).is_some())
    });
    let renew = || engine.renew_many(&[renewal(1, token)], soon()).unwrap()[0];
    // One node loses all its data, one stores another token, and one has another holder.
    nodes[0].command(&["FLUSHALL"]);
    let other = get(&nodes[1], LOCK).replace(&format!("{token:020}"), &format!("{:020}", 90));
    nodes[1].command(&["SET", LOCK, &other, "PX", "60000"]);
    let mut renewals = 0;
    until("the lock is restored", || {
        renewals += 1;
        assert_eq!(renew(), Renewed::Held);
        nodes[..2].iter().all(|node| lock(node) == Some((1, token)))
    });
    assert!(renewals < 10, "{renewals} renewals");
    assert!(
        fence(&nodes[0]) >= token,
        "a node without its counter votes"
    );
    assert!(get(&nodes[0], LOCK).ends_with(" a test"));
    occupy(&nodes[2], 77);
    assert_eq!(renew(), Renewed::Held);
    thread::sleep(ms(100));
    assert_eq!(lock(&nodes[2]), Some((77, 77)));
    // The token never changes, and the release leaves nothing.
    assert_eq!(
        engine.holder(KEY, soon()).unwrap().unwrap().token.get(),
        token
    );
    assert_eq!(
        engine.release(KEY, Nonce::new(1), soon()).unwrap(),
        Released::Done
    );
    until("the locks are released", || {
        nodes.iter().filter(|node| lock(node).is_some()).count() == 1
    });
}

#[test]
fn clients_with_another_list_of_nodes_are_refused() {
    let Some(nodes) = Redis::several(5) else {
        return;
    };
    let first = connect(&url(&nodes[..3]));
    assert!(attempt(&first, KEY, 1, LONG).is_some());
    // The two lists share one node.
    let text = refused(&url(&nodes[2..]));
    assert!(
        text.contains("belongs to other clients with layout 1, 3 of"),
        "{text}"
    );
    assert!(
        text.contains("all clients must name the same nodes"),
        "{text}"
    );
    // Nodes without a configuration were not claimed by the client that was refused.
    assert_eq!(get(&nodes[4], CONFIG), "");
    // The order has no meaning.
    let reversed = connect(&url(nodes[..3].iter().rev()));
    assert_eq!(attempt(&reversed, KEY, 2, LONG), None);
    // A client that is connected detects the change of a node.
    nodes[0].command(&["SET", CONFIG, "0123456789abcdef"]);
    let mut refused = 0;
    for nonce in 10..30 {
        match first.try_acquire(&request(key("other"), nonce, LONG), soon()) {
            // A majority without that node may suffice.
            Ok(_) => drop(first.release(key("other"), Nonce::new(nonce), soon())),
            Err(error) => {
                assert!(!error.is_temporary && error.to_string().contains("another list"));
                refused += 1;
            }
        }
    }
    assert!(refused > 0, "the other configuration is not detected");
    for node in &nodes[..2] {
        node.command(&["SET", CONFIG, "0123456789abcdef"]);
    }
    let error = first.try_acquire(&request(key("last"), 9, LONG), soon());
    assert!(!error.unwrap_err().is_temporary);
    assert!(first.renew_many(&[renewal(1, 1)], soon()).is_err());
}

#[test]
fn a_list_is_first_used_when_all_of_its_nodes_can_be_reached() {
    let Some(mut nodes) = Redis::several(5) else {
        return;
    };
    // Each of two lists has a majority of nodes beside the one that they share.
    nodes[2].end();
    let (one, two) = (url(&nodes[..3]), url(&nodes[2..]));
    let first_use = |url: &str| {
        let error = QuorumEngine::connect(url).and_then(|engine| {
            let request = request(KEY, 1, LONG);
            engine.try_acquire(&request, soon()).map(drop)
        });
        error.unwrap_err()
    };
    let error = first_use(&one);
    assert_eq!(error.outcome, Outcome::NotDone);
    assert!(error.to_string().contains("2 of 3 nodes"), "{error}");
    nodes[2].resume();
    assert!(attempt(&connect(&one), KEY, 1, LONG).is_some());
    // Now one of its nodes suffices to know the list, and the other list stays refused.
    nodes[2].end();
    assert!(attempt(&connect(&one), key("b"), 2, LONG).is_some());
    first_use(&two);
}

#[test]
fn the_list_of_nodes_changes_after_all_leases_have_ended() {
    let Some(mut nodes) = Redis::several(4) else {
        return;
    };
    let (old, new) = (url(&nodes[..3]), url(&nodes[1..]));
    let engine = connect(&old);
    for nonce in 1..=7 {
        attempt(&engine, KEY, nonce, LONG).unwrap();
        engine.release(KEY, Nonce::new(nonce), soon()).unwrap();
    }
    let token = attempt(&engine, KEY, 8, LONG).unwrap();
    let error = change_nodes(&old, &new, ms(100)).unwrap_err();
    assert_eq!(
        (error.outcome, error.is_temporary),
        (Outcome::NotDone, true)
    );
    assert!(error.to_string().contains("1 leases are held"), "{error}");
    // The old list is valid, and the lease was kept.
    assert_eq!(
        engine.renew_many(&[renewal(8, token)], soon()).unwrap(),
        [Renewed::Held]
    );
    attempt(&engine, key("other"), 1, LONG).unwrap();
    engine.release(key("other"), Nonce::new(1), soon()).unwrap();

    // While a change waits, leases are renewed and released, and none is granted.
    thread::scope(|scope| {
        let change = scope.spawn(|| change_nodes(&old, &new, LONG));
        until("the list is closed", || {
            get(&nodes[1], CONFIG).ends_with(" closing")
        });
        until("the list is closed", || {
            get(&nodes[2], CONFIG).ends_with(" closing")
        });
        assert_eq!(
            engine.renew_many(&[renewal(8, token)], soon()).unwrap(),
            [Renewed::Held]
        );
        let error = engine
            .try_acquire(&request(key("other"), 2, LONG), soon())
            .unwrap_err();
        assert!(
            error.is_temporary && error.to_string().contains("being changed"),
            "{error}"
        );
        let error = QuorumEngine::connect(&old).unwrap_err();
        assert!(
            error.is_temporary && error.to_string().contains("being changed"),
            "{error}"
        );
        engine.release(KEY, Nonce::new(8), soon()).unwrap();
        change.join().unwrap().unwrap();
    });
    let error = engine
        .try_acquire(&request(KEY, 9, LONG), soon())
        .unwrap_err();
    assert!(!error.is_temporary, "{error}");
    assert!(refused(&old).contains("belongs to other clients"));
    // Even the node that is new continues the tokens.
    let engine = connect(&new);
    nodes[1].end();
    let next = attempt(&engine, KEY, 9, LONG).unwrap();
    assert!(next > token, "token {next} follows token {token}");
}

#[test]
fn a_change_that_was_interrupted_while_it_opened_the_new_list_is_completed() {
    let Some(nodes) = Redis::several(4) else {
        return;
    };
    let (old, new) = (url(&nodes[..3]), url(&nodes[1..]));
    let before = connect(&old);
    let token = attempt(&before, KEY, 1, LONG).unwrap();
    before.release(KEY, Nonce::new(1), soon()).unwrap();
    change_nodes(&old, &new, LONG).unwrap();
    // As if the change had ended before it opened the last node. A majority is open, so a client
    // of the new list holds a lease.
    let after = connect(&new);
    let opened = get(&nodes[1], CONFIG);
    nodes[3].command(&["SET", CONFIG, &format!("{opened} closing")]);
    let next = attempt(&after, KEY, 2, LONG).unwrap();
    assert!(next > token);
    change_nodes(&old, &new, ms(200)).unwrap();
    for node in &nodes {
        assert_eq!(get(node, CONFIG), opened);
    }
    let renewed = after.renew_many(&[renewal(2, next)], soon());
    assert_eq!(renewed.unwrap(), [Renewed::Held]);
    // A repetition after its end has no effect.
    change_nodes(&old, &new, ms(200)).unwrap();
}

#[test]
fn a_change_reads_the_nodes_that_it_closed_and_no_others() {
    let Some(mut nodes) = Redis::several(5) else {
        return;
    };
    let (old, new) = (url(&nodes[..3]), url([&nodes[1], &nodes[3], &nodes[4]]));
    drop(connect(&old));
    // The first node cannot be reached when the list is closed, and a lease is on the third.
    nodes[0].end();
    occupy(&nodes[2], 77);
    thread::scope(|scope| {
        let change = scope.spawn(|| change_nodes(&old, &new, LONG));
        for node in &nodes[1..3] {
            until("the list is closed", || {
                get(node, CONFIG).ends_with(" closing")
            });
        }
        // The first node is not closed, so its clients and the third node are a majority.
        nodes[2].signal("STOP");
        let (first, _) = nodes.split_first_mut().unwrap();
        first.resume();
        let error = change.join().unwrap().unwrap_err();
        assert!(error.to_string().contains("nodes answered"), "{error}");
    });
    // The nodes that can be reached are open again. The change is repeated, and completed after
    // the lease has ended.
    assert!(!get(&nodes[1], CONFIG).ends_with(" closing"));
    nodes[2].signal("CONT");
    nodes[2].command(&["DEL", LOCK]);
    change_nodes(&old, &new, LONG).unwrap();
    assert!(attempt(&connect(&new), KEY, 1, LONG).is_some());
}

#[test]
fn the_script_of_the_readme_refuses_late_writes() {
    let Some(node) = Redis::start(&[]) else {
        return;
    };
    let script = support::code_of_the_readme("lua");
    support::assert_refuses_late_writes(|body, token, nonce| {
        let token = format!("{token:020}");
        let reply = node.command(&["EVAL", script, "1", "report", &token, nonce, body]);
        assert!([":0\r\n", ":1\r\n"].contains(&reply.as_str()), "{reply}");
        reply == ":1\r\n"
    });
    let body = node.command(&["HGET", "report", "body"]);
    assert_eq!(body.lines().nth(1), Some("far later"));
}

#[test]
fn an_answer_that_no_caller_awaits_is_read() {
    let Some(nodes) = Redis::several(3) else {
        return;
    };
    let engine = connect(&url(&nodes));
    nodes[2].command(&["SET", FENCE, "40"]);
    nodes[2].signal("STOP");
    // A majority suffices, and the third answer arrives after the call.
    assert_eq!(attempt(&engine, KEY, 1, LONG), Some(1));
    nodes[2].signal("CONT");
    until("the third node has the token", || {
        lock(&nodes[2]) == Some((1, 1))
    });
}

#[test]
fn credentials_that_are_changed_are_reported_and_recover() {
    let Some(nodes) = Redis::several(3) else {
        return;
    };
    let allow = |node: &Redis, password: &str| {
        let words = ["ACL", "SETUSER", "worker", "on", "resetpass", password];
        let rights = ["~latchwork:*", "&latchwork:*", "+@all"];
        assert_eq!(node.command(&[&words[..], &rights].concat()), "+OK\r\n");
    };
    nodes.iter().for_each(|node| allow(node, ">the-sEcret"));
    let list: Vec<String> = nodes
        .iter()
        .map(|node| format!("redis://worker:the-sEcret@127.0.0.1:{}", node.port))
        .collect();
    let engine = connect(&format!("quorum:{}", list.join(",")));
    let token = attempt(&engine, KEY, 1, LONG).unwrap();
    let renew = || engine.renew_many(&[renewal(1, token)], soon());
    // One node removes the user, which ends its connections: the others suffice.
    nodes[0].command(&["ACL", "DELUSER", "worker"]);
    assert_eq!(renew().unwrap(), [Renewed::Held]);
    // A majority refuses the user: one line without the password, which no repetition repairs.
    nodes[1].command(&["ACL", "DELUSER", "worker"]);
    let refused = |error: latchwork_lease::engine::EngineError| {
        let text = format!("{error} {error:?}");
        assert!(!text.contains("sEcret") && !error.to_string().contains('\n'));
        !error.is_temporary && text.contains("WRONGPASS")
    };
    until("the refusal is reported", || refused(renew().unwrap_err()));
    until("acquisitions are refused", || {
        let asked = engine.try_acquire(&request(key("b"), 2, LONG), soon());
        refused(asked.unwrap_err())
    });
    // With another password, the user is refused still, and with the earlier one it is accepted.
    allow(&nodes[1], ">another-sEcret");
    assert!(renew().is_err());
    allow(&nodes[1], ">the-sEcret");
    until("the lease is renewed", || {
        renew().is_ok_and(|answers| answers == [Renewed::Held])
    });
}

#[test]
fn a_node_of_another_kind_or_release_is_refused_beside_others() {
    let Some(nodes) = Redis::several(2) else {
        return;
    };
    // A server of release 6 beside two of release 7 or later.
    let info = "redis_version:6.2.14\r\nredis_mode:standalone\r\nrun_id:old\r\n\
                maxmemory_policy:noeviction\r\nrole:master\r\ncluster_enabled:0\r\n";
    let others = "+OK\r\n".repeat(8);
    let old = pretend(format!("${}\r\n{info}\r\n{others}", info.len()));
    let list = format!("{},redis://127.0.0.1:{old}", url(&nodes));
    let text = refused(&list);
    assert!(text.contains(&format!("127.0.0.1:{old}")), "{text}");
    assert!(text.contains("release 6.2.14 is older than 7"), "{text}");
    assert_eq!(get(&nodes[0], CONFIG), "", "the list was used");
    // Another server answers in another protocol.
    let other = pretend("HTTP/1.1 400 Bad Request\r\n\r\n".to_owned());
    let error = QuorumEngine::connect(&format!("quorum:redis://127.0.0.1:{other}")).unwrap_err();
    assert!(!error.to_string().contains('\n'), "{error}");
}

/// Starts a server that answers everything with one text, and returns its port.
fn pretend(answer: String) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, answer) = (client.unwrap(), answer.clone());
            thread::spawn(move || {
                let mut bytes = [0; 65536];
                while let Ok(1..) = client.read(&mut bytes) {
                    if client.write_all(answer.as_bytes()).is_err() {
                        break;
                    }
                }
            });
        }
    });
    port
}

#[test]
fn nodes_that_are_not_independent_are_refused() {
    let Some(node) = Redis::start(&[]) else {
        return;
    };
    // One server under two names, and in two databases.
    let port = node.port;
    let text = refused(&format!(
        "quorum:redis://127.0.0.1:{port},redis://localhost:{port}"
    ));
    assert!(text.contains("same server"), "{text}");
    let text = refused(&format!(
        "quorum:redis://127.0.0.1:{port}/1,redis://127.0.0.1:{port}/2"
    ));
    assert!(text.contains("same server"), "{text}");
    let replica = Redis::start(&["--replicaof", "127.0.0.1", &port.to_string()]).unwrap();
    let text = refused(&url([&node, &replica]));
    assert!(text.contains("it is a replica"), "{text}");
    let cluster = Redis::start(&["--cluster-enabled", "yes"]).unwrap();
    let text = refused(&url([&cluster]));
    assert!(text.contains("Redis Cluster"), "{text}");
    let evicting = Redis::start(&["--maxmemory-policy", "volatile-ttl"]).unwrap();
    let text = refused(&url([&node, &evicting]));
    assert!(
        text.contains("maxmemory-policy volatile-ttl may drop locks"),
        "{text}"
    );
    // A node that is refused keeps no configuration.
    assert_eq!(get(&node, CONFIG), "");
}

#[test]
fn a_node_that_becomes_unsuitable_is_set_aside() {
    let Some(mut nodes) = Redis::several(3) else {
        return;
    };
    let engine = connect(&url(&nodes));
    let token = attempt(&engine, KEY, 1, LONG).unwrap();
    nodes[0].end();
    nodes[0].command_line(&["--maxmemory-policy", "allkeys-lru"]);
    nodes[0].resume();
    assert_eq!(
        engine.renew_many(&[renewal(1, token)], soon()).unwrap(),
        [Renewed::Held]
    );
    nodes[1].end();
    let error = engine.try_acquire(&request(key("b"), 1, LONG), soon());
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("allkeys-lru may drop locks")
    );
}

#[test]
fn a_user_needs_only_the_privileges_that_are_documented() {
    let Some(node) = Redis::start(&[]) else {
        return;
    };
    let documented = include_str!("../src/quorum/mod.rs");
    let start = documented.find("`+@connection").unwrap() + 1;
    let end = start + documented[start..].find('`').unwrap();
    let commands = documented[start..end].replace("///", "");
    let mut words = vec![
        "ACL",
        "SETUSER",
        "worker",
        "on",
        ">the sEcret",
        "~latchwork:*",
    ];
    words.push("&latchwork:*");
    words.extend(commands.split_whitespace());
    assert_eq!(node.command(&words), "+OK\r\n");
    let user = |login: &str| format!("quorum:redis://{login}@127.0.0.1:{}", node.port);
    let place = user("worker:the%20sEcret");
    let engine = connect(&place);
    assert!(!format!("{engine:?}").contains("sEcret"), "{engine:?}");
    let token = attempt(&engine, KEY, 1, LONG).unwrap();
    assert_eq!(
        engine.renew_many(&[renewal(1, token)], soon()).unwrap(),
        [Renewed::Held]
    );
    assert_eq!(engine.list("tests", "", soon()).unwrap().len(), 1);
    engine
        .raise_floor(KEY, FencingToken::new(9), soon())
        .unwrap();
    let other = connect(&place);
    thread::scope(|scope| {
        let wait = scope.spawn(|| other.wait_hint(KEY, Nonce::new(2), soon()));
        thread::sleep(ms(100));
        assert_eq!(
            engine.release(KEY, Nonce::new(1), soon()).unwrap(),
            Released::Done
        );
        wait.join().unwrap().unwrap();
    });
    let text = refused(&user("worker:wrong-sEcret"));
    assert!(
        text.contains("uthentication") || text.contains("WRONGPASS"),
        "{text}"
    );
    assert!(!text.contains("sEcret"), "{text}");
    // A privilege that is missing is named.
    assert_eq!(
        node.command(&["ACL", "SETUSER", "worker", "-incr"]),
        "+OK\r\n"
    );
    let error = engine
        .try_acquire(&request(key("b"), 1, LONG), soon())
        .unwrap_err();
    assert!(!format!("{error} {error:?}").contains("sEcret"));
    assert_eq!(
        (error.outcome, error.is_temporary),
        (Outcome::NotDone, false),
        "{error}"
    );
}

#[test]
fn tls_verifies_the_certificate() {
    let folder = Folder::new();
    let (certificate, private) = (folder.file("node.crt"), folder.file("node.key"));
    let made = Command::new("openssl")
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        ])
        .args([
            "-subj",
            "/CN=test",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
        ])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-out"])
        .arg(&certificate)
        .arg("-keyout")
        .arg(&private)
        .stderr(Stdio::null())
        .status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: openssl cannot make a certificate");
        return;
    }
    let port = redis::free_port().to_string();
    let settings = [
        ["--tls-port", &port],
        ["--tls-cert-file", certificate.to_str().unwrap()],
        ["--tls-key-file", private.to_str().unwrap()],
        ["--tls-auth-clients", "no"],
    ];
    let Some(_node) = Redis::start(settings.as_flattened()) else {
        return;
    };
    let place = |options: &str| format!("quorum:rediss://127.0.0.1:{port}{options}");
    let engine = connect(&place(&format!("?ca={}", certificate.display())));
    assert!(attempt(&engine, KEY, 1, LONG).is_some());
    let text = refused(&place(""));
    assert!(text.contains("certificate"), "{text}");
    let missing = folder.file("missing");
    let text = refused(&place(&format!("?ca={}", missing.display())));
    assert!(text.contains("missing"), "{text}");
    fs::write(&missing, "no certificate").unwrap();
}

#[test]
fn many_clients_of_a_free_name_are_not_split_indefinitely() {
    let Some(nodes) = Redis::several(5) else {
        return;
    };
    let (clients, rounds) = (8, 10);
    let url = url(&nodes);
    let barrier = Barrier::new(clients);
    let all: Vec<Vec<u64>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..clients)
            .map(|client| {
                let (engine, barrier) = (connect(&url), &barrier);
                scope.spawn(move || {
                    let mut tokens = Vec::new();
                    for round in 0..rounds {
                        barrier.wait();
                        let nonce = (client * 1000 + round) as u128;
                        loop {
                            match engine
                                .try_acquire(&request(KEY, nonce, LONG), soon())
                                .unwrap()
                            {
                                Attempt::Granted(token) => {
                                    tokens.push(token.get());
                                    let released = engine.release(KEY, Nonce::new(nonce), soon());
                                    assert_eq!(released.unwrap(), Released::Done);
                                    break;
                                }
                                Attempt::Busy { free_in } => {
                                    let end = soon()
                                        .min(std::time::Instant::now() + free_in.unwrap_or(LONG));
                                    engine.wait_hint(KEY, Nonce::new(nonce), end).unwrap();
                                }
                            }
                        }
                    }
                    tokens
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(all.iter().all(|tokens| tokens.is_sorted()), "{all:?}");
    let mut tokens: Vec<u64> = all.into_iter().flatten().collect();
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), clients * rounds, "a token was granted twice");
    until("nothing remains", || {
        nodes.iter().all(|node| lock(node).is_none())
    });
}
