//! One value, read beside few writers and beside more and more of them; and keys that are shared
//! beside some that are not.

mod scenario;
mod settings;

fn main() {
    scenario::ask(&["readers", "writers", "modes"]);
}
