//! Draws which waiter waits for which holder, over its own load or over the socket of another process.
//!
//! ```text
//! cargo run --release -p latchwork-top --example latchtop
//! cargo run --release -p latchwork-top --example latchtop -- --connect /run/user/1000/bank.sock
//! ```

use std::process::ExitCode;

fn main() -> ExitCode {
    latchwork_top::program::main(std::env::args_os())
}
