//! The questions that the report answers, one file each.

mod ageing;
mod asynchronous;
pub(crate) mod cells;
mod contended;
mod crates;
mod crowded;
mod many_keys;
pub(crate) mod map;
mod one_key;
mod readers;
mod scaling;
mod sessions;
mod transactions;
mod trees;
pub(crate) mod two_threads;
mod uncontended;

use latchwork_bench::ratio::Plan;

use crate::row::Row;

/// A section of the report.
pub(crate) struct Question {
    /// What `--only` calls it.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// The measured quantity, and how to read it.
    pub(crate) prose: &'static str,
    pub(crate) measure: fn(Plan) -> Vec<Row>,
}

/// Every question, in the order of the report.
pub(crate) const ALL: &[Question] = &[
    uncontended::QUESTION,
    crates::QUESTION,
    many_keys::QUESTION,
    crowded::QUESTION,
    ageing::QUESTION,
    contended::QUESTION,
    scaling::QUESTION,
    readers::QUESTION,
    asynchronous::QUESTION,
    sessions::QUESTION,
    cells::alone::QUESTION,
    two_threads::QUESTION,
    two_threads::READ_QUESTION,
    cells::crowd::QUESTION,
    cells::memory::QUESTION,
    cells::plain::QUESTION,
    transactions::alone::QUESTION,
    transactions::beside::QUESTION,
    two_threads::AUDITED_QUESTION,
    trees::QUESTION,
    map::QUESTION,
];
