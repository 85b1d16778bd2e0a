//! One value, read beside few writers and beside more and more of them.

mod scenario;
mod settings;

fn main() {
    scenario::ask(&["readers", "writers"]);
}
