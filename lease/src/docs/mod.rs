//! The manual of the command, and the fences of resources. It contains no code to call.
//!
//! | chapter | contents |
//! |---|---|
//! | [`command`] | the command `lease`: its actions, options, environment and exit codes |
//! | [`fences`] | how SQL, Redis, files and object stores refuse a late writer |

pub mod fences;

#[doc = include_str!("command.md")]
pub mod command {}
