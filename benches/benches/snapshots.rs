//! One thread sums all accounts while others transfer: the throughput of each side.

mod scenario;
mod settings;

fn main() {
    scenario::ask(&["bank", "audits"]);
}
