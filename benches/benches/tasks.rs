//! Tasks lock keys by awaiting them.

mod scenario;
mod settings;

fn main() {
    scenario::ask(&["async"]);
}
