//! Writes the results as JSON: a file that is there only if it is complete.

use std::ffi::OsString;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf, is_separator};

use crate::report::Report;

/// A place for the results that can be written.
#[derive(Debug)]
pub(crate) struct JsonFile {
    path: PathBuf,
}

impl JsonFile {
    /// Checks whether the file can be written, without changing an existing file: creates a
    /// temporary file beside it, as a successful run will do, and removes it.
    pub(crate) fn prepare(path: &Path) -> Result<Self, String> {
        // Through a symlink, so that the file it points to is replaced and not the link.
        let file = Self {
            path: path.canonicalize().unwrap_or_else(|_| path.to_owned()),
        };
        let found = fs::metadata(&file.path).ok();
        let wrong = match found {
            _ if path.to_string_lossy().ends_with(is_separator) => Some("it names a directory"),
            _ if path.file_name().is_none() => Some("it names no file"),
            Some(it) if !it.is_file() => Some("it is not a regular file"),
            Some(it) if it.permissions().readonly() => Some("it is read-only"),
            _ => None,
        };
        if let Some(wrong) = wrong {
            return Err(file.error(&wrong));
        }
        let temporary = file.temporary();
        let tried = File::create_new(&temporary).and_then(|_| fs::remove_file(&temporary));
        tried.map_err(|e| file.error(&e))?;
        Ok(file)
    }

    /// Whether that place is the existing file `other`.
    pub(crate) fn is(&self, other: &Path) -> bool {
        other.canonicalize().is_ok_and(|other| other == self.path)
    }

    pub(crate) fn write(&self, report: &Report) -> Result<(), String> {
        let temporary = self.temporary();
        let written = self.write_then_rename(&temporary, report);
        if written.is_err() {
            // An incomplete file is of no use; if its removal also fails, the first error is the
            // better report.
            let _ = fs::remove_file(&temporary);
        }
        written.map_err(|e| self.error(&e))
    }

    fn write_then_rename(&self, temporary: &Path, report: &Report) -> io::Result<()> {
        let mut out = BufWriter::new(File::create_new(temporary)?);
        serde_json::to_writer_pretty(&mut out, report)?;
        writeln!(out)?;
        out.into_inner()?.sync_all()?;
        fs::rename(temporary, &self.path)
    }

    /// In the same directory, because a rename is atomic only within a file system.
    fn temporary(&self) -> PathBuf {
        let mut name = OsString::from(".");
        name.push(self.path.file_name().unwrap_or_default());
        name.push(format!(".{}.tmp", std::process::id()));
        self.path.with_file_name(name)
    }

    fn error(&self, what: &dyn Display) -> String {
        format!("{}: cannot write the results: {what}", self.path.display())
    }
}
