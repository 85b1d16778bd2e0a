//! Ordered locks, whose order the compiler or a debug build checks.

mod checked;
mod levels;
