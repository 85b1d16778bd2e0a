//! All threads want one key: who has it next, after what wait, and how evenly?

mod scenario;
mod settings;

fn main() {
    scenario::ask(&["hand-off"]);
}
