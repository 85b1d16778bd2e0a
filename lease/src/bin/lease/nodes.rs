//! `lease nodes`: the list of nodes of a quorum engine.

use std::io::{self, Write as _};
use std::time::Duration;

use latchwork_lease::quorum::{LeasesHeld, change_nodes};

use crate::exit::{self, Failure};
use crate::view::printed;

/// Replaces the list of nodes, and prints one line.
pub(crate) fn change(old: &str, new: &str, wait: Duration) -> Result<u8, Failure> {
    match change_nodes(old, new, wait) {
        Ok(()) => printed(writeln!(io::stdout(), "the new list of nodes is valid")),
        Err(error) => {
            let code = match error.source.downcast_ref::<LeasesHeld>() {
                Some(_) => exit::BUSY,
                None if error.is_temporary => exit::UNREACHABLE,
                None => exit::FAILED,
            };
            Err(Failure::new(code, error))
        }
    }
}
