//! The sections of the report.

mod alone;
mod crates;
mod ends;
#[cfg(feature = "postgres")]
mod hand_over;
mod inside;
mod many;
mod next;

use crate::row::Row;

/// A section.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) title: &'static str,
    /// How it is measured.
    pub(crate) method: &'static str,
    /// Measures it. Without rows, an engine was missing.
    pub(crate) ask: fn() -> Vec<Row>,
}

pub(crate) fn all() -> Vec<Question> {
    vec![
        inside::QUESTION,
        alone::QUESTION,
        #[cfg(feature = "postgres")]
        hand_over::QUESTION,
        next::QUESTION,
        ends::QUESTION,
        many::QUESTION,
        crates::QUESTION,
    ]
}

/// Returns a server, unless PostgreSQL is not installed.
#[cfg(feature = "postgres")]
pub(crate) fn server() -> Option<std::sync::Arc<crate::server::Server>> {
    use std::sync::{Arc, OnceLock};
    // All sections use one server, with the durability of its defaults. It ends with the process.
    static SERVER: OnceLock<Option<Arc<crate::server::Server>>> = OnceLock::new();
    SERVER.get_or_init(crate::server::shared).clone()
}
