//! Walking a directory with many threads, one of them at a file, and none of them stuck at one.
//!
//! What it teaches: `try_lock_for(path, PATIENCE)`. Every walker has work to do at every file, and
//! no two may be at the same file at once. A walker that does not get a file's lock in time puts
//! the file on its list and walks on; what is on the list is done at the end, not lost.
//!
//! To have something to wait for, the first file is kept locked during the walk.
//!
//! Run it with `cargo run --release --example walk`, or with `-- DIRECTORY`.

use std::borrow::Cow;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use std::{fs, io};

use latchwork::LockTable;

const WALKERS: usize = 4;

/// How long a walker waits for one file.
const PATIENCE: Duration = Duration::from_millis(20);

struct File {
    path: PathBuf,
    /// Its lines, counted once by each walker. Only who holds the file's lock writes here.
    lines: AtomicU64,
}

impl File {
    /// Two paths that read alike share a lock, which costs time and does no harm.
    fn key(&self) -> Cow<'_, str> {
        self.path.to_string_lossy()
    }

    /// The caller holds the lock of this file. Returns the lines counted.
    fn work(&self) -> io::Result<u64> {
        // A load here and a store below, not one `fetch_add`: two walkers at once would lose lines.
        let before = self.lines.load(Ordering::Relaxed);
        let text = fs::read(&self.path)?;
        let lines = text.iter().filter(|&&byte| byte == b'\n').count() as u64;
        self.lines.store(before + lines, Ordering::Relaxed);
        Ok(lines)
    }
}

/// What one walker has to report.
#[derive(Default)]
struct Report<'f> {
    done: usize,
    lines: u64,
    late: Vec<&'f File>,
    unreadable: Vec<(&'f File, io::Error)>,
}

impl<'f> Report<'f> {
    fn work(&mut self, file: &'f File) {
        match file.work() {
            Ok(lines) => {
                self.done += 1;
                self.lines += lines;
            }
            Err(error) => self.unreadable.push((file, error)),
        }
    }
}

fn walk<'f>(files: &'f [File], locks: &LockTable<str>) -> Report<'f> {
    let mut report = Report::default();
    for file in files {
        match locks.try_lock_for(&*file.key(), PATIENCE) {
            Some(_lock) => report.work(file),
            None => report.late.push(file),
        }
    }
    report
}

/// Adds the files under `directory`, without following symbolic links.
fn list(directory: &Path, files: &mut Vec<File>) -> Result<(), String> {
    let failed = |error: io::Error| format!("{}: {error}", directory.display());
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (path, lines) = (entry.path(), AtomicU64::new(0));
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_dir() {
            list(&path, files)?;
        } else if kind.is_file() {
            files.push(File { path, lines });
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let directory = match arguments.as_slice() {
        [] => Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        [directory] => PathBuf::from(directory),
        _ => return refuse("give one directory, or none"),
    };
    let mut files = Vec::new();
    if let Err(message) = list(&directory, &mut files) {
        return refuse(&message);
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let name = |file: &File| {
        let path = file.path.strip_prefix(&directory);
        path.unwrap_or(&file.path).display().to_string()
    };

    let locks: LockTable<str> = LockTable::new();
    let busy = files.first().map(|file| locks.lock(&*file.key()));
    let mut reports = thread::scope(|s| {
        let walkers = [(); WALKERS].map(|()| s.spawn(|| walk(&files, &locks)));
        walkers.map(|walker| walker.join().expect("no walker panics"))
    });
    drop(busy);

    for (walker, report) in (1..).zip(&mut reports) {
        println!("walker {walker}: {} files done in time", report.done);
        for file in std::mem::take(&mut report.late) {
            println!("walker {walker}: {} was busy, done now", name(file));
            let _lock = locks.lock(&*file.key());
            report.work(file);
        }
        for (file, error) in &report.unreadable {
            eprintln!("walk: walker {walker}: {}: {error}", name(file));
        }
    }

    let done: usize = reports.iter().map(|r| r.done).sum();
    let unreadable: usize = reports.iter().map(|r| r.unreadable.len()).sum();
    let lines: u64 = reports.iter().map(|r| r.lines).sum();
    println!("{} files, {WALKERS} walkers, {done} visits", files.len());
    println!("{lines} lines counted, {unreadable} visits failed");

    let kept = files.iter().map(|file| file.lines.load(Ordering::Relaxed));
    assert_eq!(kept.sum::<u64>(), lines, "no two were at a file at once");
    assert_eq!(done + unreadable, files.len() * WALKERS, "no file is lost");
    assert_eq!(locks.locked_count(), 0, "nothing is left in the table");
    ExitCode::from(u8::from(unreadable > 0))
}

fn refuse(message: &str) -> ExitCode {
    eprintln!("walk: {message}");
    ExitCode::from(2)
}
