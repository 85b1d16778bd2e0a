//! The resource that leases protect, and the place where the history is recorded.
//!
//! Each thread of a worker has a connection to the hub through a socket of the file system, which
//! is out of reach of the faults. One mutex orders the decisions of the resource.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use latchwork::table::{Fence, FencedCell, FencingToken};

use crate::clock::{Nanos, now};
use crate::history::{Acquisition, History, Loss, Stop, Write};
use crate::message::{Failure, Message, PROBE};

/// What a thread of a worker does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    Idle,
    Between,
    Asking(String),
    Holding(String),
}

/// A thread of a worker: the numbers of its process and of itself.
pub(crate) type Thread = (u32, u32);

#[derive(Default)]
pub(crate) struct State {
    pub(crate) history: History,
    pub(crate) threads: BTreeMap<Thread, Doing>,
    /// When leases of each name were granted, by which process and under which nonce.
    pub(crate) grants: Vec<(String, Nanos, u32)>,
    pub(crate) gave_up: u64,
    pub(crate) unavailable: u64,
    /// When a request for [`PROBE`] could not reach the engine, and why.
    pub(crate) unreached: Vec<(Nanos, String)>,
    /// Releases that were not confirmed.
    pub(crate) unconfirmed: u64,
    /// Errors that no fault may cause.
    pub(crate) errors: Vec<String>,
    /// Whether the resource ignores fences, as a control.
    pub(crate) is_unfenced: bool,
    registers: HashMap<String, FencedCell<u64>>,
    /// The index of the present acquisition of each thread.
    present: HashMap<Thread, usize>,
    /// The number of writes, which is the value of each of them.
    written: u64,
}

impl State {
    fn record(&mut self, thread: Thread, message: Message) -> Option<bool> {
        match message {
            Message::Hello { .. } => {}
            Message::Idle => self.set(thread, Doing::Idle),
            Message::Asking { name } => self.set(thread, Doing::Asking(name)),
            Message::Granted {
                token,
                nonce,
                asked,
                granted,
            } => self.grant(thread, token, &nonce, asked, granted),
            Message::Write { held } => return Some(self.write(thread, held)),
            Message::HeldPastEnd => self.history.held_past_end += 1,
            Message::Ended {
                held,
                loss,
                is_confirmed,
            } => {
                self.unconfirmed += u64::from(!is_confirmed);
                self.set(thread, Doing::Between);
                if let Some(present) = self.present.remove(&thread) {
                    let present = &mut self.history.acquisitions[present];
                    present.held = held.max(present.held);
                    present.loss = loss.map(|loss| Loss {
                        deadline: loss.deadline,
                        notified: loss.notified,
                        has_expired: loss.has_expired,
                    });
                }
            }
            Message::Failed(failure) => {
                let probes = self.threads.get(&thread) == Some(&Doing::Asking(PROBE.to_owned()));
                self.set(thread, Doing::Between);
                match failure {
                    Failure::GaveUp => self.gave_up += 1,
                    Failure::Unavailable(text) => {
                        self.unavailable += 1;
                        if probes {
                            self.unreached.push((now(), text));
                        }
                    }
                    Failure::Other(text) => self.errors.push(text),
                }
            }
        }
        None
    }

    fn set(&mut self, thread: Thread, doing: Doing) {
        self.threads.insert(thread, doing);
    }

    fn grant(&mut self, thread: Thread, token: u64, nonce: &str, asked: Nanos, granted: Nanos) {
        let Some(Doing::Asking(name)) = self.threads.get(&thread) else {
            self.errors.push("a grant without a request".to_owned());
            return;
        };
        let (name, process) = (name.clone(), thread.0);
        self.present.insert(thread, self.history.acquisitions.len());
        self.history.acquisitions.push(Acquisition {
            process,
            name: name.clone(),
            token,
            nonce: u128::from_str_radix(nonce, 16).unwrap_or_default(),
            asked,
            granted,
            held: granted,
            loss: None,
        });
        self.grants.push((name.clone(), granted, process));
        self.set(thread, Doing::Holding(name));
    }

    /// Decides a write, by the fence alone.
    fn write(&mut self, thread: Thread, held: Nanos) -> bool {
        let Some(&by) = self.present.get(&thread) else {
            self.errors.push("a write without a lease".to_owned());
            return false;
        };
        let present = &mut self.history.acquisitions[by];
        present.held = held.max(present.held);
        let fence = Fence::new(FencingToken::new(present.token), present.nonce);
        self.written += 1;
        let register = self
            .registers
            .entry(present.name.clone())
            .or_insert_with(|| FencedCell::new(0));
        let is_accepted = self.is_unfenced || register.write(fence, self.written).is_ok();
        self.history.writes.push(Write { by, is_accepted });
        is_accepted
    }

    /// Returns the greatest token that the resource has accepted for a name.
    pub(crate) fn seen(&self, name: &str) -> u64 {
        let seen = self.registers.get(name).and_then(FencedCell::seen);
        seen.map_or(0, |fence| fence.token.get())
    }

    /// Returns the threads that hold a name, or that wait for it.
    pub(crate) fn threads_that(&self, doing: &Doing) -> Vec<Thread> {
        let threads = self.threads.iter().filter(|(_, other)| *other == doing);
        threads.map(|(&thread, _)| thread).collect()
    }

    /// Returns the history since the last call. No thread may have a lease.
    pub(crate) fn take_history(&mut self) -> History {
        self.present.clear();
        self.grants.clear();
        self.unreached.clear();
        std::mem::take(&mut self.history)
    }

    /// Empties the registers, for servers that are new.
    pub(crate) fn forget_registers(&mut self) {
        self.registers.clear();
    }

    pub(crate) fn record_stop(&mut self, process: u32, from: Nanos) {
        let until = now();
        self.history.stops.push(Stop {
            process,
            from,
            until,
        });
    }
}

/// The resource, and the listener for its workers.
#[derive(Clone)]
pub(crate) struct Hub(Arc<Mutex<State>>);

impl Hub {
    pub(crate) fn listen(socket: &Path) -> Result<Hub, String> {
        let listener = UnixListener::bind(socket).map_err(|error| error.to_string())?;
        let hub = Hub(Arc::default());
        let state = hub.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let hub = state.clone();
                thread::spawn(move || hub.serve(stream));
            }
        });
        Ok(hub)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, stream: UnixStream) {
        let Ok(reader) = stream.try_clone() else {
            return;
        };
        let (mut stream, mut thread) = (stream, None);
        for line in BufReader::new(reader).lines().map_while(Result::ok) {
            // A worker that was killed leaves a part of a line.
            let Ok(message) = serde_json::from_str(&line) else {
                break;
            };
            if let Message::Hello {
                process,
                thread: number,
            } = message
            {
                thread = Some((process, number));
                self.state().set((process, number), Doing::Between);
                continue;
            }
            let Some(thread) = thread else { break };
            let answer = self.state().record(thread, message);
            let answer = answer.map(|is_accepted| if is_accepted { "1\n" } else { "0\n" });
            if answer.is_some_and(|answer| stream.write_all(answer.as_bytes()).is_err()) {
                break;
            }
        }
        if let Some(thread) = thread {
            self.state().threads.remove(&thread);
        }
    }
}
