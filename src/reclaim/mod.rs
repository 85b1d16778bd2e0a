//! When memory that others may still read is freed: a thin layer over crossbeam-epoch.
//!
//! A thread that follows a pointer out of a shared word holds a [`Pin`] from before it loads the
//! word until after its last access. Whoever unlinks an object gives it to [`Pin::retire`], once;
//! it is freed when every pin that could have seen it is gone.
//!
//! What is retired runs no user code when it is freed. A pin is never held while a thread spins,
//! parks or runs user code, so garbage waits for running threads only.

mod pin;

pub(crate) use pin::{Domain, Pin};
