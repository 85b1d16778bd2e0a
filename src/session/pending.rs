//! The one wait of a session.

use crate::deadlock::Held;
use crate::lock_table::{KeyWait, RawTable};

/// A wait of a session, and its purpose.
pub(super) struct Pending<'t> {
    pub(super) wait: KeyWait<&'t RawTable>,
    pub(super) want: Held,
    /// Whether the table records the wait.
    pub(super) published: bool,
}
