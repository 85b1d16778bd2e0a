//! Optimistic against pessimistic, where conflicts, updates and favourites become more and more.

mod scenario;
mod settings;

fn main() {
    scenario::ask(&[
        "conflicts",
        "updates",
        "ycsb-t-60",
        "ycsb-t-80",
        "ycsb-t-90",
    ]);
}
