//! All threads lock one key: which thread gets it next, after which wait, and how evenly?

mod scenario;
mod settings;

fn main() {
    scenario::ask(&["hand-off"]);
}
