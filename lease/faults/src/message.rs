//! What workers report to the program of the campaign, one line of JSON for each message.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::clock::Nanos;

/// The namespace of all leases of a campaign.
pub(crate) const NAMESPACE: &str = "faults";

/// A name that two threads of each worker hold for a short time.
pub(crate) const SHORT: &str = "short";
/// A name that one thread of each worker holds for longer than a lease, so that it is renewed.
pub(crate) const LONG: &str = "long";
/// A name of one worker that is never disturbed. The times between its leases are the outages.
pub(crate) const PROBE: &str = "probe";

/// How a worker acquires leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Client {
    /// By this project.
    Leases,
    /// By the `Lock` call of etcd, as a control.
    LockCall,
}

/// The first line of the standard input of a worker.
///
/// The lines after it are `pause` and `resume`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) process: u32,
    pub(crate) url: String,
    pub(crate) client: Client,
    pub(crate) socket: PathBuf,
    pub(crate) milliseconds: u64,
    /// Whether the worker only holds [`PROBE`].
    pub(crate) probes: bool,
}

/// A message of one thread of a worker. Its first one is `Hello`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    Hello {
        process: u32,
        thread: u32,
    },
    /// The thread has no lease and requests none, because the worker is paused.
    Idle,
    Asking {
        name: String,
    },
    Granted {
        token: u64,
        nonce: String,
        asked: Nanos,
        granted: Nanos,
    },
    /// A write through the fence of the present lease, which was last held at `held`. The answer is
    /// a line: `1` if it was accepted, and `0` if not.
    Write {
        held: Nanos,
    },
    /// `is_held` was true after the end of the lease.
    HeldPastEnd,
    Ended {
        held: Nanos,
        loss: Option<Lost>,
        /// Whether the release was confirmed.
        is_confirmed: bool,
    },
    /// An acquisition without a lease.
    Failed(Failure),
}

/// A lease that ended before its release.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Lost {
    pub(crate) deadline: Nanos,
    pub(crate) notified: Nanos,
    pub(crate) has_expired: bool,
}

/// Why an acquisition has no lease.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Failure {
    GaveUp,
    /// The engine could not be reached. The text is the cause.
    Unavailable(String),
    /// An error that no fault of a campaign may cause.
    Other(String),
}
