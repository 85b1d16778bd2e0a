//! Several threads add to counters under the locks of one key, of 16 and of 4,096, each held for
//! longer and longer.

mod scenario;
mod settings;

fn main() {
    scenario::cross(&["hold-1", "hold-16", "hold-4096"]);
}
