//! The file of a database: who may own it, where it may be, and whether it is still the same.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::engine::EngineError;

use super::system;

/// The path of a database whose folder is resolved and whose file, if it exists, may be used.
#[derive(Debug)]
pub(super) struct DatabasePath(PathBuf);

/// The checks of a companion that other processes delete and create meanwhile.
const COMPANION_CHECKS: u32 = 16;

impl DatabasePath {
    /// Checks the path and creates the file if it is missing, for its owner only.
    ///
    /// The caller holds the lock of the register of open files. While a file is created, no
    /// connection of this process may open it: to close any descriptor of a file removes all
    /// POSIX locks that this process has on it.
    pub(super) fn prepare(path: &Path) -> Result<Self, EngineError> {
        let name = path.file_name().ok_or_else(|| {
            EngineError::misconfigured(format!("{}: the path names no file", path.display()))
        })?;
        // A link in the folder's path is the user's affair; a link as the file is refused below.
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let folder = fs::canonicalize(folder)
            .map_err(|error| refused(folder, &format!("the folder cannot be opened: {error}")))?;
        let path = folder.join(name);
        refuse_file_system(&folder, &path)?;

        // SQLite gives -wal and -shm the permissions of the database.
        match fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
        {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                if fs::symlink_metadata(&path).is_err() {
                    return Err(refused(
                        &path,
                        &format!("the file cannot be created: {error}"),
                    ));
                }
            }
        }
        check_file(&path)?;
        for companion in ["-wal", "-shm"] {
            let companion = with_suffix(&path, companion);
            // The last connection of another process may delete it at any time, and the next one
            // creates it again: a file that was absent may be present a moment later.
            for tries in (0..COMPANION_CHECKS).rev() {
                match check_file(&companion) {
                    Err(error) if tries == 0 && fs::symlink_metadata(&companion).is_ok() => {
                        return Err(error);
                    }
                    Err(_) if fs::symlink_metadata(&companion).is_ok() => {}
                    _ => break,
                }
            }
        }
        Ok(DatabasePath(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the identities of the database and its companions, which exist while it is open.
    pub(super) fn identities(&self) -> Result<Identities, EngineError> {
        let identity = |suffix| {
            let path = with_suffix(&self.0, suffix);
            match Identity::of(&path) {
                Ok(identity) => Ok((path, identity)),
                Err(error) => Err(refused(&path, &error.to_string())),
            }
        };
        Ok(Identities([
            identity("")?,
            identity("-wal")?,
            identity("-shm")?,
        ]))
    }
}

/// The files that a connection has opened, by path.
#[derive(Debug)]
pub(super) struct Identities([(PathBuf, Identity); 3]);

impl Identities {
    /// Returns the identity of the database.
    pub(super) fn database(&self) -> Identity {
        self.0[0].1
    }

    /// Returns an error if a path no longer leads to the file that was opened.
    ///
    /// Processes that open the path now would not see the leases of this connection.
    pub(super) fn check(&self) -> Result<(), Replaced> {
        for (path, opened) in &self.0 {
            match Identity::of(path) {
                Ok(found) if found == *opened => {}
                Ok(_) => return Err(Replaced(path.clone(), "was replaced")),
                Err(_) => return Err(Replaced(path.clone(), "was deleted or moved")),
            }
        }
        Ok(())
    }
}

/// The error of a file that is no longer the one that was opened.
#[derive(Debug)]
pub(super) struct Replaced(PathBuf, &'static str);

impl std::fmt::Display for Replaced {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Replaced(path, how) = self;
        write!(f, "{}: the file {how} while it was open", path.display())
    }
}

impl std::error::Error for Replaced {}

/// A file, independent of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(Identity {
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

fn refused(path: &Path, reason: &str) -> EngineError {
    EngineError::misconfigured(format!("{}: {reason}", path.display()))
}

fn check_file(path: &Path) -> Result<(), EngineError> {
    let metadata = fs::symlink_metadata(path).map_err(|error| refused(path, &error.to_string()))?;
    if metadata.file_type().is_symlink() {
        return Err(refused(
            path,
            "the file is a symbolic link; name the file itself",
        ));
    }
    if !metadata.is_file() {
        return Err(refused(path, "this is not a regular file"));
    }
    let user = system::effective_user();
    if metadata.uid() != user {
        let owner = metadata.uid();
        return Err(refused(
            path,
            &format!("user {owner} owns the file, not user {user}"),
        ));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(refused(
            path,
            "other users may write the file; run chmod 600",
        ));
    }
    // A second name would have a -wal of its own, and the database would be damaged.
    if metadata.nlink() > 1 {
        return Err(refused(path, "the file has a second hard link"));
    }
    Ok(())
}

fn refuse_file_system(folder: &Path, path: &Path) -> Result<(), EngineError> {
    let unknown =
        |error: io::Error| refused(folder, &format!("the file system is unknown: {error}"));
    let kind = system::file_system_type(folder).map_err(unknown)?;
    if let Some(name) = network_file_system(kind) {
        return Err(refused(
            folder,
            &format!("the file system is {name}; SQLite needs a disk of this machine"),
        ));
    }
    // SQLite would report a file that it cannot open, which names no reason.
    if system::is_read_only(folder).map_err(unknown)? {
        return Err(refused(path, "the file system is read-only"));
    }
    Ok(())
}

/// Returns the name of a file system whose locks or shared memory may not reach all processes.
fn network_file_system(kind: u32) -> Option<&'static str> {
    Some(match kind {
        0x6969 => "NFS",
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => "SMB",
        0x5346_414f | 0x6b41_4653 => "AFS",
        0x7375_7245 => "Coda",
        0x564c => "NCP",
        0x0102_1997 => "9P",
        0x00c3_6400 => "Ceph",
        0x0bd0_0bd0 => "Lustre",
        0x4750_4653 => "GPFS",
        0x7461_636f => "OCFS2",
        0x0116_1970 => "GFS2",
        0x786f_4256 => "a shared folder of VirtualBox",
        0xaad7_aaea => "PanFS",
        0x2003_0528 => "OrangeFS",
        0x1983_0326 => "BeeGFS",
        // A FUSE file system does not report whether it is remote.
        0x6573_5546 => "FUSE",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_of_a_network_are_named() {
        for (kind, name) in [(0x6969, "NFS"), (0xff53_4d42, "SMB"), (0x6573_5546, "FUSE")] {
            assert_eq!(network_file_system(kind), Some(name));
        }
        // ext4, tmpfs, xfs, btrfs, overlayfs.
        for kind in [0xef53, 0x0102_1994, 0x5846_5342, 0x9123_683e, 0x794c_7630] {
            assert_eq!(network_file_system(kind), None);
        }
    }

    #[test]
    fn the_type_of_a_file_system_is_read() {
        // PROC_SUPER_MAGIC.
        assert_eq!(
            system::file_system_type(Path::new("/proc")).unwrap(),
            0x9fa0
        );
    }
}
