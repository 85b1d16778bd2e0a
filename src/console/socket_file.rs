//! The file of a Unix socket: only the user may connect, an abandoned file is replaced, and the
//! file of another server is not.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _,
};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::sync::Counter;

/// How often an abandoned file is replaced. It fails only if other processes make files there.
const TRIES: usize = 3;

/// The file of a listening socket. The drop removes it, in the process that has made it.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    process: u32,
    /// The device and the number of the file.
    identity: (u64, u64),
}

/// Makes a socket that only the user may connect to, and listens.
pub(super) fn bind(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    // A file with a longer path could be made, and no client could connect to it.
    SocketAddr::from_pathname(path)?;
    // A socket is made with the permissions of the umask, which the whole process shares. So it is
    // made in a folder that only the user may enter, and linked after its permissions are set.
    let folder = PrivateFolder::beside(path)?;
    let made = folder.0.join("s");
    let listener = UnixListener::bind(&made)?;
    fs::set_permissions(&made, fs::Permissions::from_mode(0o600))?;
    let identity = identity(&made)?;
    for _ in 0..TRIES {
        // A link fails if there is a file, where a rename would replace it.
        match fs::hard_link(&made, path) {
            Ok(()) => {
                let file = SocketFile {
                    path: path.to_owned(),
                    process: std::process::id(),
                    identity,
                };
                return Ok((listener, file));
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => remove_abandoned(path)?,
            Err(error) => return Err(error),
        }
    }
    Err(ErrorKind::AddrInUse.into())
}

/// Removes the socket of a process that has ended. Fails if the file is another one, or if a
/// process listens.
fn remove_abandoned(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        let text = format!("{} exists and is not a socket", path.display());
        return Err(io::Error::new(ErrorKind::AlreadyExists, text));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => match fs::remove_file(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed,
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(_) => {
            let text = format!("another process listens on {}", path.display());
            Err(io::Error::new(ErrorKind::AddrInUse, text))
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

impl SocketFile {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A child of a fork has a copy, and the file belongs to the parent. Another file may have
        // the name by now.
        let made_here = self.process == std::process::id();
        if made_here && identity(&self.path).is_ok_and(|found| found == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A folder that only the user may enter. It is removed with its contents when it is dropped.
struct PrivateFolder(PathBuf);

impl PrivateFolder {
    /// Makes a folder beside `path`, so that a link from the one to the other is possible.
    fn beside(path: &Path) -> io::Result<Self> {
        static NUMBERS: Counter = Counter::new();
        let beside = path.parent().unwrap_or(Path::new(""));
        loop {
            let name = format!(".{:x}.{:x}", std::process::id(), NUMBERS.next());
            let folder = beside.join(name);
            match fs::DirBuilder::new().mode(0o700).create(&folder) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                made => return made.map(|()| PrivateFolder(folder)),
            }
        }
    }
}

impl Drop for PrivateFolder {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.0.join("s"));
        let _ = fs::remove_dir(&self.0);
    }
}
