//! YCSB A, B and C: records by key, some of them preferred.

mod scenario;
mod settings;

fn main() {
    scenario::ask(&["ycsb-a", "ycsb-b", "ycsb-c"]);
}
