//! Turns findings into Markdown.

use std::fmt::Write as _;

use latchwork_bench::machine::{Machine, today, version_of};

use crate::bugs::{Bug, Found};
use crate::probe::Seen;

pub(crate) fn report(findings: &[(&Bug, Found)]) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut text, findings);
    text
}

fn write(text: &mut String, findings: &[(&Bug, Found)]) -> std::fmt::Result {
    let machine = Machine::here();
    writeln!(text, "# Bugs of other locks, looked for\n")?;
    writeln!(
        text,
        "Written by `cargo run --release -p latchwork-bench --bin peer_bugs -- --write benches/PEERS.md`; edit the \
         generator, not this file. Run on {} with {} cores ({}, {}).\n",
        today(),
        machine.cores,
        machine.system,
        machine.rustc,
    )?;
    writeln!(
        text,
        "Each line is what one run saw. \"No\" means that the probe did not show the bug, not that the crate cannot \
         have it: three of the probes are races.\n"
    )?;
    writeln!(text, "| bug | crate | shown | what was seen | latchwork |")?;
    writeln!(text, "|---|---|---|---|---|")?;
    for (bug, found) in findings {
        let ours = cell(&found.latchwork);
        for (name, seen) in &found.peers {
            // What follows a comma names a part of the crate.
            let package = name.split(',').next().unwrap_or(name);
            let version = version_of(package).map_or(String::new(), |v| format!(" {v}"));
            let rest = &name[package.len()..];
            writeln!(
                text,
                "| {} | {package}{version}{rest} | {} | {} | {ours} |",
                bug.name,
                shown(seen),
                what(seen),
            )?;
        }
    }
    writeln!(text, "\n## The probes\n")?;
    for (bug, _) in findings {
        writeln!(text, "- **{}.** {}", bug.name, bug.probe)?;
    }
    Ok(())
}

fn shown(seen: &Seen) -> &'static str {
    match seen {
        Seen::Bug(_) => "**yes**",
        Seen::Nothing(_) => "no",
        Seen::Hang => "**hangs**",
        Seen::Panic => "**panics**",
    }
}

fn what(seen: &Seen) -> &str {
    match seen {
        Seen::Bug(text) | Seen::Nothing(text) => text,
        Seen::Hang => "did not come back",
        Seen::Panic => "see the messages of the run",
    }
}

fn cell(seen: &Seen) -> String {
    format!("{}: {}", shown(seen), what(seen))
}
