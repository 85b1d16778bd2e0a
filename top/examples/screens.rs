//! Writes the screens of the guide, `src/docs/screens/*.svg`, from the reports in `top/screens`.
//!
//! ```text
//! cargo run -p latchwork-top --example screens            writes them
//! cargo run -p latchwork-top --example screens -- --check fails if one of them would change
//! ```

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use latchwork_top::screens::{SCREENS, rendered};

fn main() -> ExitCode {
    let check = std::env::args().any(|argument| argument == "--check");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../src/docs/screens");
    let mut stale = false;
    for screen in &SCREENS {
        let path = folder.join(screen.file);
        let svg = rendered(screen);
        if check {
            let same = fs::read_to_string(&path).is_ok_and(|text| text == svg);
            if !same {
                eprintln!("{} is not what the program draws", path.display());
            }
            stale |= !same;
        } else if let Err(error) = fs::create_dir_all(&folder).and_then(|()| fs::write(&path, svg))
        {
            eprintln!("{}: {error}", path.display());
            stale = true;
        }
    }
    if stale {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
