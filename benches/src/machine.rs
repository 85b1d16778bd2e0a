//! The description of the machine, the compiler and the crates in a report; never the machine's
//! name.

use std::fs;
use std::hash::{DefaultHasher, Hasher as _};
use std::process::Command;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

/// The workspace's lock file, as this crate was built.
const LOCK_FILE: &str = include_str!("../../Cargo.lock");

/// The crates that something is compared with, or stands on.
const PEERS: [&str; 17] = [
    "arc-swap",
    "crossbeam-epoch",
    "crossbeam-skiplist",
    "crossbeam-utils",
    "dashmap",
    "happylock",
    "keyed-lock",
    "left-right",
    "lockable",
    "lockmap",
    "papaya",
    "parking_lot",
    "scc",
    "seize",
    "stm",
    "stm-core",
    "tokio",
];

/// The machine that a report was measured on.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The processor's model, as it calls itself.
    pub cpu: String,
    /// How many threads run at once.
    pub cores: usize,
    /// The operating system and its kernel.
    pub system: String,
    /// The compiler that built the report.
    pub rustc: &'static str,
}

impl Machine {
    /// Describes the machine that this runs on.
    #[must_use]
    pub fn here() -> Self {
        let cpu = field("/proc/cpuinfo", "model name", ':');
        let distribution = field("/etc/os-release", "PRETTY_NAME", '=');
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        // What follows the first dash names a build, not a version.
        let kernel = kernel.trim().split('-').next().unwrap_or_default();
        let os = distribution.unwrap_or_else(|| std::env::consts::OS.to_owned());
        Self {
            cpu: format!(
                "{} ({})",
                cpu.as_deref().unwrap_or("unknown"),
                std::env::consts::ARCH
            ),
            cores: thread::available_parallelism().map_or(1, usize::from),
            system: if kernel.is_empty() {
                os
            } else {
                format!("{os}, kernel {kernel}")
            },
            rustc: env!("BENCH_RUSTC"),
        }
    }
}

/// Returns the commit of the sources that this was built from, with a mark if they were changed
/// since; `None` if they are not under git.
#[must_use]
pub fn commit() -> Option<String> {
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.args(["-C", env!("CARGO_MANIFEST_DIR")]).args(arguments);
        said(&mut git)
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Some(if changed.is_empty() {
        commit
    } else {
        format!("{commit}, changed")
    })
}

/// Returns a number that another build of the program that is running would hardly have; `None` if
/// its file cannot be read.
#[must_use]
pub fn build() -> Option<String> {
    let mut hasher = DefaultHasher::new();
    let file = std::env::current_exe().ok()?;
    hasher.write(&fs::read(file).ok()?);
    Some(format!("{:016x}", hasher.finish()))
}

/// Returns the allocator of programs that do not choose one: the C library, with its version if it
/// reports one.
#[must_use]
pub fn allocator() -> String {
    let version = said(Command::new("getconf").arg("GNU_LIBC_VERSION"));
    version.map_or_else(
        || "the system's".to_owned(),
        |version| format!("the system's, {version}"),
    )
}

/// The output of a command, if it succeeded.
fn said(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// Returns the most memory that this process ever had, in KiB.
///
/// # Panics
/// Panics if the system does not report it where Linux does.
#[must_use]
pub fn most_memory_kib() -> u64 {
    let most = field("/proc/self/status", "VmHWM", ':');
    let kib = most.as_deref().and_then(|most| most.strip_suffix(" kB"));
    let kib = kib.and_then(|kib| kib.parse().ok());
    kib.expect("the system counts memory as Linux does")
}

/// Reads the first line of `file` that starts with `name`, and returns what follows the separator.
fn field(file: &str, name: &str, separator: char) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    let (_, value) = line.split_once(separator)?;
    Some(value.trim().trim_matches('"').to_owned())
}

/// Returns the version of `package` that this was built with: of several, the one that this crate
/// names.
#[must_use]
pub fn version_of(package: &str) -> Option<&'static str> {
    let ours = concat!("name = \"", env!("CARGO_PKG_NAME"), "\"");
    let named = format!(" \"{package} ");
    // A dependency of which there are several versions is listed with its own.
    let mut dependencies = LOCK_FILE
        .lines()
        .skip_while(|line| *line != ours)
        .take_while(|line| !line.is_empty());
    if let Some(version) = dependencies.find_map(|line| line.strip_prefix(&named)) {
        return version.strip_suffix("\",");
    }
    let name = format!("name = \"{package}\"");
    let mut lines = LOCK_FILE.lines().skip_while(|line| *line != name);
    lines
        .nth(1)?
        .strip_prefix("version = \"")?
        .strip_suffix('"')
}

/// Returns the crates that something is compared with, with their versions.
pub fn peers() -> impl Iterator<Item = (&'static str, &'static str)> {
    PEERS
        .into_iter()
        .filter_map(|peer| Some((peer, version_of(peer)?)))
}

/// Returns the same in one line.
#[must_use]
pub fn peers_in_words() -> String {
    let peers = peers().map(|(name, version)| format!("{name} {version}"));
    let peers = peers.collect::<Vec<_>>().join(", ");
    match crate::heap::ALLOCATOR {
        "system" => peers,
        other => format!("{peers}; allocator: {other}"),
    }
}

/// Returns today's date in UTC, year first.
#[must_use]
pub fn today() -> String {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let (year, month, day) = civil(since.as_secs() / 86_400);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Turns days since 1970-01-01 into year, month and day of the Gregorian calendar.
fn civil(days: u64) -> (u64, u64, u64) {
    let leap = |year: u64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let (mut year, mut left) = (1970, days);
    while left >= 365 + u64::from(leap(year)) {
        left -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    (year, month, left + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(20_453), (2025, 12, 31));
    }

    #[test]
    fn versions_come_from_the_lock_file() {
        assert!(version_of("lockmap").is_some_and(|version| version.starts_with("0.2.")));
        // Another dependency brings an older one.
        assert!(version_of("dashmap").is_some_and(|version| version.starts_with("6.")));
        assert_eq!(version_of("no such crate"), None);
        assert_eq!(peers().count(), PEERS.len());
    }
}
