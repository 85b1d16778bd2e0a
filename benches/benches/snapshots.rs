//! One adds all accounts up beside others that transfer: what each side gets done.

mod scenario;
mod settings;

fn main() {
    scenario::ask(&["bank", "audits"]);
}
