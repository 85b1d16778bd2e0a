//! Exit codes, and the error that ends the command.

use std::fmt;

/// The lease is held by another process.
pub(crate) const BUSY: u8 = 75;
/// The engine cannot be reached.
pub(crate) const UNREACHABLE: u8 = 69;
/// The lease was lost while the command ran.
pub(crate) const LOST: u8 = 76;
/// `lease` failed before the command started, or was called with bad arguments.
pub(crate) const FAILED: u8 = 125;
/// The command cannot be executed.
pub(crate) const NOT_EXECUTABLE: u8 = 126;
/// The command does not exist.
pub(crate) const NOT_FOUND: u8 = 127;
/// The answer of a query is no: nothing was broken, or not all cases held.
pub(crate) const NO: u8 = 1;

/// The end of the command: an exit code and one line for people.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    message: String,
}

impl Failure {
    pub(crate) fn new(code: u8, message: impl fmt::Display) -> Failure {
        Failure {
            code,
            message: one_line(&message.to_string()),
        }
    }

    /// A failure of `lease` itself.
    pub(crate) fn own(message: impl fmt::Display) -> Failure {
        Failure::new(FAILED, message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Replaces line breaks and other control characters, so that a message is one line.
pub(crate) fn one_line(text: &str) -> String {
    text.trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
