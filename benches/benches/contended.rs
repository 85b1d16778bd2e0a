//! Several threads add to counters under the locks of many keys, of few, and of few that are held for longer.

mod scenario;
mod settings;

fn main() {
    scenario::ask(&["spread", "contended", "hold-time"]);
}
