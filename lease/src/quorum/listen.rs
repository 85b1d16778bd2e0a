//! The threads that listen for released keys.
//!
//! A release publishes the hash of its key on each node that stored the lock. One thread listens at
//! one node. If there are more nodes than copies of a lock, so many threads listen that each key
//! has a node with a listener. A thread whose node fails listens at another one. Notifications only
//! save time: waiters also read the nodes at intervals [QU10].

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::{Quorum, jitter, scripts};

/// The time after which a silent node is asked whether it lives.
const SILENCE: Duration = Duration::from_secs(1);

/// The time within which a connection is made.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// The state of all listeners.
#[derive(Clone, Debug, Default)]
pub(super) struct Listeners {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    is_started: AtomicBool,
    wanted: AtomicUsize,
    listening: AtomicUsize,
}

impl Listeners {
    /// Starts the threads with the first call.
    pub(super) fn start(&self, quorum: &Arc<Quorum>) {
        // Relaxed: one thread starts the listeners, and no other data depends on the flag.
        if self.shared.is_started.swap(true, Ordering::Relaxed) {
            return;
        }
        let nodes = quorum.nodes.len();
        let wanted = nodes - quorum.members.copies() + 1;
        // Relaxed: a hint for `are_listening`, as all accesses of both numbers.
        self.shared.wanted.store(wanted, Ordering::Relaxed);
        let random = crate::clock::random().unwrap_or(0) as usize % nodes;
        for number in 0..wanted {
            let (quorum, shared) = (Arc::downgrade(quorum), Arc::clone(&self.shared));
            let first = (random + number) % nodes;
            let thread = thread::Builder::new().name("lease listener".to_owned());
            // Without the thread, waiters poll.
            let _ = thread.spawn(move || listen_until_dropped(&quorum, &shared, first, wanted));
        }
    }

    /// Returns whether each released key is notified.
    pub(super) fn are_listening(&self) -> bool {
        // Relaxed: a hint that shortens a pause, and no data is published.
        let wanted = self.shared.wanted.load(Ordering::Relaxed);
        wanted > 0 && self.shared.listening.load(Ordering::Relaxed) >= wanted
    }
}

fn listen_until_dropped(quorum: &Weak<Quorum>, shared: &Shared, first: usize, step: usize) {
    let mut at = first;
    while let Some(strong) = quorum.upgrade() {
        let node = Arc::clone(&strong.nodes[at % strong.nodes.len()]);
        drop(strong);
        let client = node.address.client.clone();
        // Any error ends the connection, and another node is tried.
        let _ = listen(&client, quorum, shared);
        thread::sleep(Duration::from_millis(20) + jitter(Duration::from_millis(80)));
        at += step;
    }
}

/// Listens at one node until its connection fails or the engine is dropped.
fn listen(
    client: &redis::Client,
    quorum: &Weak<Quorum>,
    shared: &Shared,
) -> redis::RedisResult<()> {
    let mut connection = client.get_connection_with_timeout(CONNECT_LIMIT)?;
    connection.set_read_timeout(Some(SILENCE))?;
    connection.set_write_timeout(Some(SILENCE))?;
    let mut messages = connection.as_pubsub();
    messages.subscribe(scripts::CHANNEL)?;
    // Relaxed: a hint for `are_listening`. The same holds below.
    shared.listening.fetch_add(1, Ordering::Relaxed);
    let ended = receive(&mut messages, quorum);
    shared.listening.fetch_sub(1, Ordering::Relaxed);
    ended
}

fn receive(messages: &mut redis::PubSub<'_>, quorum: &Weak<Quorum>) -> redis::RedisResult<()> {
    // Releases before now were not received.
    if let Some(quorum) = quorum.upgrade() {
        // Relaxed: the lock of the waiters orders it before their wake-up.
        quorum.resets.fetch_add(1, Ordering::Relaxed);
        quorum.notices.signal_all();
    }
    let mut heard = Instant::now();
    loop {
        match messages.get_message() {
            Ok(message) => {
                heard = Instant::now();
                let Some(quorum) = quorum.upgrade() else {
                    return Ok(());
                };
                if let Ok(hash) = std::str::from_utf8(message.get_payload_bytes()) {
                    quorum.notices.signal(hash);
                }
            }
            Err(error) if error.is_timeout() => {
                if quorum.strong_count() == 0 {
                    return Ok(());
                }
                if heard.elapsed() >= SILENCE {
                    messages.ping::<()>()?;
                    heard = Instant::now();
                }
            }
            Err(error) => return Err(error),
        }
    }
}
