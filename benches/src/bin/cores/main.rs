//! Counts the costs of each operation on up to 64 cores, on a machine that has two.
//!
//! ```text
//! cargo run --release -p latchwork-bench --bin cores -- [--times N] [--cores N,N] [--only TEXT [--of TEXT] [--where N] [--add FILE]] [--write FILE]
//! ```
//!
//! The compiled programs run on virtual cores: `machine` steps their threads one instruction at a
//! time and asks `coherence` what each access would cost. Nothing is measured in time; the
//! published figures are counts.
#![cfg_attr(
    not(all(target_os = "linux", target_arch = "x86_64")),
    allow(dead_code, unused_imports)
)]

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod blame;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod coherence;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod decode;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod machine;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod places;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod programs;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod render;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod session;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod tracee;

use std::process::ExitCode;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn main() -> ExitCode {
    match session::run(std::env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cores: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn main() -> ExitCode {
    eprintln!(
        "cores: steps through x86-64 code by ptrace, and so runs on Linux on that architecture only"
    );
    ExitCode::FAILURE
}
