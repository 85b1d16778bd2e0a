//! Several keys in one step: pairs in opposite orders, more and more keys, more and more of the
//! same ones, rotations.

mod scenario;
mod settings;

fn main() {
    scenario::ask(&[
        "pairs",
        "multi-key",
        "skew",
        "swap-2",
        "swap-32",
        "swap-128",
    ]);
}
