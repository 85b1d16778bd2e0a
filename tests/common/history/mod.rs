//! Histories: what threads have done to shared objects and when, and whether the contract allows
//! it.
//!
//! | file | what |
//! |---|---|
//! | `stamp.rs` | timestamps of one clock for all threads, read without a shared write |
//! | `record.rs` | the calls of one thread, in a buffer of its own |
//! | `linear.rs` | whether the calls of one object can have taken effect one after the other |
//! | `objects.rs` | what a key, a cell and a latch may do |
//! | `keys.rs` | what a map may do |
//! | `serial.rs` | the same for transactions, snapshots and single calls: a search for a cycle |
//!
//! Real threads are recorded by `tests/histories/`, tasks under shuttle by
//! `tests/shuttle/histories.rs`; what they do is in `tests/common/work/`.

pub mod keys;
pub mod linear;
pub mod objects;
pub mod record;
pub mod serial;
pub mod stamp;

pub use linear::Call;
pub use record::Log;
pub use serial::{Txn, check};
pub use stamp::stamp;
