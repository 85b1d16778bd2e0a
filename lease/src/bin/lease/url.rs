//! Where the URL of the engine comes from, and how a password in an argument is hidden.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::exit::Failure;

/// The variable that holds a URL. The command that `lease run` starts does not receive it.
pub(crate) const VARIABLE: &str = "LEASE_URL";

/// The variable that holds the new URL of `lease nodes change`. It is removed in the same way.
pub(crate) const NEW_VARIABLE: &str = "LEASE_NEW_URL";

/// Returns the new URL: of `--to`, else of its variable.
pub(crate) fn find_new(to: Option<&str>) -> Result<String, Failure> {
    if let Some(url) = to {
        return Ok(url.to_owned());
    }
    std::env::var(NEW_VARIABLE)
        .ok()
        .filter(|url| !url.is_empty())
        .ok_or_else(|| Failure::own(format!("--to and the variable {NEW_VARIABLE} are absent")))
}

/// Returns the URL: of `--on`, else of the variable, else of the file, else the user's own SQLite.
pub(crate) fn find(on: Option<&str>) -> Result<String, Failure> {
    if let Some(url) = on {
        return Ok(url.to_owned());
    }
    if let Some(url) = env::var_os(VARIABLE).filter(|url| !url.is_empty()) {
        return url
            .into_string()
            .map_err(|_| Failure::own(format!("the variable {VARIABLE} is not UTF-8")));
    }
    if let Some(url) = from_file()? {
        return Ok(url);
    }
    own_database()
}

/// Returns the first line of the user's file that is neither empty nor a comment.
fn from_file() -> Result<Option<String>, Failure> {
    let Some(folder) = folder("XDG_CONFIG_HOME", ".config") else {
        return Ok(None);
    };
    let file = folder.join("lease/url");
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(None);
        }
        Err(error) => {
            return Err(Failure::own(format!(
                "cannot read {}: {error}",
                file.display()
            )));
        }
    };
    let url = text
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with('#'))
        .ok_or_else(|| Failure::own(format!("{} contains no URL", file.display())))?;
    let others_read = fs::metadata(&file).is_ok_and(|file| file.permissions().mode() & 0o077 != 0);
    if others_read && has_password(url) {
        eprintln!(
            "lease: warning: {} contains a password, and other users may read it",
            file.display()
        );
    }
    Ok(Some(url.to_owned()))
}

/// Returns the URL of the database in the user's state folder, which it creates.
fn own_database() -> Result<String, Failure> {
    let folder = folder("XDG_STATE_HOME", ".local/state").ok_or_else(|| {
        // An empty variable counts as absent.
        let is_relative = env::var_os("HOME").is_some_and(|home| !home.is_empty());
        let home = match is_relative {
            true => "HOME is a relative path",
            false => "HOME is absent",
        };
        Failure::own(format!(
            "no URL: --on, {VARIABLE} and an absolute XDG_STATE_HOME are absent, and {home}"
        ))
    })?;
    let folder = folder.join("lease");
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .map_err(|error| Failure::own(format!("cannot create {}: {error}", folder.display())))?;
    let file = folder.join("leases.db");
    let file = file
        .to_str()
        .ok_or_else(|| Failure::own(format!("the path {} is not UTF-8", file.display())))?;
    Ok(format!("sqlite:{file}"))
}

/// Returns a base folder of the user. As the specification demands, a relative path is ignored.
fn folder(variable: &str, in_home: &str) -> Option<PathBuf> {
    let absolute = |variable| {
        env::var_os(variable)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute(variable).or_else(|| absolute("HOME").map(|home| home.join(in_home)))
}

/// Returns whether a URL may contain a password. It errs on the side of yes.
pub(crate) fn has_password(url: &str) -> bool {
    let Some((_, rest)) = url.split_once("://") else {
        return false;
    };
    let in_authority = rest
        .rsplit_once('@')
        .is_some_and(|(before, _)| before.contains(':'));
    let lower = rest.to_ascii_lowercase();
    in_authority || lower.contains("password=") || lower.contains("passwd=")
}

/// Removes URLs with a password from the list of processes: executes this program again, with the
/// URLs in its environment, which other users cannot read.
///
/// Returns where there is no password, or where the program cannot be executed again.
pub(crate) fn hide_passwords(on: Option<&str>, to: Option<&str>) {
    let on = on.filter(|url| has_password(url));
    let to = to.filter(|url| has_password(url));
    if on.is_some() {
        eprintln!(
            "lease: warning: other users may have seen the password in --on; \
             set {VARIABLE} or write the URL to ~/.config/lease/url instead"
        );
    }
    if to.is_some() {
        eprintln!(
            "lease: warning: other users may have seen the password in --to; \
             set {NEW_VARIABLE} instead"
        );
    }
    let hidden = [("--on", VARIABLE, on), ("--to", NEW_VARIABLE, to)];
    let hidden = hidden.into_iter().filter_map(|(option, variable, url)| {
        let url = url?;
        Some((option, variable, url))
    });
    let hidden: Vec<_> = hidden.collect();
    if hidden.is_empty() {
        return;
    }
    let mut args = env::args_os();
    let name = args.next().unwrap_or_else(|| "lease".into());
    let Ok(program) = env::current_exe() else {
        return;
    };
    let options: Vec<&str> = hidden.iter().map(|(option, ..)| *option).collect();
    let variables = hidden.iter().map(|(_, variable, url)| (variable, url));
    // Returns only if it fails. The arguments then stay as they are.
    let _ = Command::new(program)
        .arg0(name)
        .args(without(&options, args))
        .envs(variables)
        .exec();
}

/// Returns the arguments without `--OPTION URL` and `--OPTION=URL` before `--`.
fn without(options: &[&str], args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut args = args;
    while let Some(arg) = args.next() {
        if arg == OsStr::new("--") {
            kept.push(arg);
            kept.extend(args);
            break;
        } else if options.iter().any(|option| arg == OsStr::new(option)) {
            args.next();
        } else if !options.iter().any(|option| has_value(&arg, option)) {
            kept.push(arg);
        }
    }
    kept
}

/// Returns whether an argument is `OPTION=VALUE`.
fn has_value(arg: &OsStr, option: &str) -> bool {
    let rest = arg.as_encoded_bytes().strip_prefix(option.as_bytes());
    rest.is_some_and(|rest| rest.starts_with(b"="))
}

/// Returns the failure of `env` for a command that certainly cannot be executed.
///
/// It saves the wait for a lease. Other commands may still fail to execute.
pub(crate) fn find_command(command: &OsStr) -> Result<(), Failure> {
    let missing = |path: &Path| matches!(fs::metadata(path), Err(error) if is_missing(&error));
    let found = if command.is_empty() {
        false
    } else if command.as_encoded_bytes().contains(&b'/') {
        !missing(Path::new(command))
    } else if let Some(path) = env::var_os("PATH") {
        env::split_paths(&path).any(|folder| !missing(&folder.join(command)))
    } else {
        true
    };
    if found {
        Ok(())
    } else {
        Err(not_found(command))
    }
}

/// Returns whether a path does not exist.
fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// The failure of a command that does not exist.
pub(crate) fn not_found(command: &OsStr) -> Failure {
    Failure::new(
        crate::exit::NOT_FOUND,
        format!(
            "no command {}: it does not exist",
            Path::new(command).display()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_detected() {
        for url in [
            "postgres://me:secret@host/db",
            "redis://:secret@host",
            "quorum:redis://a,redis://:secret@b",
            "postgres://host/db?password=secret",
            "postgres://me:se@cret@host/db",
            "postgres://me:se/cret@host/db",
        ] {
            assert!(has_password(url), "{url}");
        }
        for url in [
            "postgres://me@host:5432/db",
            "postgres://host:5432/db",
            "sqlite:/tmp/a:b@c",
            "memory:",
            "quorum:redis://a:1,redis://b:2",
        ] {
            assert!(!has_password(url), "{url}");
        }
    }

    #[test]
    fn on_is_removed_only_before_the_command() {
        let args = [
            "run", "--on", "a", "--on=b", "n", "--", "x", "--on", "c", "--on=d",
        ];
        let kept = without(&["--on"], args.iter().map(OsString::from));
        assert_eq!(kept, ["run", "n", "--", "x", "--on", "c", "--on=d"]);
        let args = ["nodes", "change", "--on", "a", "--to=b", "--wait=1s"];
        let kept = without(&["--on", "--to"], args.iter().map(OsString::from));
        assert_eq!(kept, ["nodes", "change", "--wait=1s"]);
    }
}
