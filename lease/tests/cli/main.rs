//! The command `lease`, as real processes over the engine `sqlite:`.
#![cfg(target_os = "linux")]

mod arguments;
mod end;
mod sandbox;
mod terminal;
mod views;
