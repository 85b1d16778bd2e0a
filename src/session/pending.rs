//! The one wait of a session.

use crate::lock_table::Claim;
use crate::waits_for::Held;

/// A claim of a session, and its purpose.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) claim: Claim,
    pub(super) want: Held,
    pub(super) upgrade: bool,
    /// Whether the table records the wait.
    pub(super) published: bool,
}
