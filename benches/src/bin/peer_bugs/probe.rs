//! Running a probe so that a hang of it is a finding.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// The limit of a probe. The longest one needs about a third of it.
const PATIENCE: Duration = Duration::from_secs(15);

/// The observation of a probe.
#[derive(Clone, Debug)]
pub(crate) enum Seen {
    /// The bug, and its symptom.
    Bug(String),
    /// No bug, and the actions that were tried.
    Nothing(String),
    /// The probe did not return.
    Hang,
    /// The probe panicked.
    Panic,
}

impl Seen {
    /// A bug if `bad` is not zero: `bad` things of `all`.
    pub(crate) fn count(bad: u64, all: u64, things: &str) -> Self {
        let text = format!("{bad} of {all} {things}");
        if bad == 0 {
            Self::Nothing(text)
        } else {
            Self::Bug(text)
        }
    }

    pub(crate) fn is_clean(&self) -> bool {
        matches!(self, Self::Nothing(_))
    }
}

/// Runs `probe` on a thread of its own, which is left behind if it hangs.
pub(crate) fn run(probe: impl FnOnce() -> Seen + Send + 'static) -> Seen {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        // No thread receives the result after the limit.
        let _ = tell.send(probe());
    });
    match told.recv_timeout(PATIENCE) {
        Ok(seen) => seen,
        Err(RecvTimeoutError::Timeout) => Seen::Hang,
        Err(RecvTimeoutError::Disconnected) => Seen::Panic,
    }
}
