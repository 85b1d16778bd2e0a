//! A relay between clients and a server that loses or delays bytes.
#![allow(dead_code, unreachable_pub)]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// A relay to a server of this machine.
#[derive(Debug)]
pub struct Relay {
    pub port: u16,
    /// Answers are lost.
    pub swallows: Arc<AtomicBool>,
    /// Transactions that are read from now on wait until `lets_go`.
    pub holds: Arc<AtomicBool>,
    pub lets_go: Arc<AtomicBool>,
    /// The number of transactions that were held.
    pub held: Arc<AtomicUsize>,
}

impl Relay {
    pub fn new(server: u16) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = Relay {
            port: listener.local_addr().unwrap().port(),
            swallows: Arc::default(),
            holds: Arc::default(),
            lets_go: Arc::default(),
            held: Arc::default(),
        };
        let (swallows, holds, lets_go, held) = (
            Arc::clone(&relay.swallows),
            Arc::clone(&relay.holds),
            Arc::clone(&relay.lets_go),
            Arc::clone(&relay.held),
        );
        thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else {
                    continue;
                };
                let to_server = server.try_clone().unwrap();
                let to_client = client.try_clone().unwrap();
                let (holds, lets_go) = (Arc::clone(&holds), Arc::clone(&lets_go));
                let held = Arc::clone(&held);
                thread::spawn(move || {
                    let mut has_held = false;
                    // Relaxed: the test sets a flag before it makes the request.
                    copy(client, &to_server, |bytes| {
                        let is_transaction = bytes.windows(10).any(|text| text == b"/v3/kv/txn");
                        if is_transaction && holds.load(Ordering::Relaxed) {
                            has_held = true;
                            held.fetch_add(1, Ordering::Relaxed);
                            while !lets_go.load(Ordering::Relaxed) {
                                thread::sleep(Duration::from_millis(5));
                            }
                        }
                        true
                    });
                    if has_held {
                        // The server cancels a request whose client has left.
                        thread::sleep(Duration::from_secs(2));
                    }
                    let _ = to_server.shutdown(Shutdown::Both);
                });
                let swallows = Arc::clone(&swallows);
                thread::spawn(move || {
                    copy(server, &to_client, |_| !swallows.load(Ordering::Relaxed));
                    let _ = to_client.shutdown(Shutdown::Both);
                });
            }
        });
        relay
    }

    pub fn set(flag: &AtomicBool, value: bool) {
        flag.store(value, Ordering::Relaxed);
    }
}

fn copy(mut from: TcpStream, mut to: &TcpStream, mut passes: impl FnMut(&[u8]) -> bool) {
    let mut bytes = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        if passes(&bytes[..read]) && to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
}
